%% The program megaphone-ecm for Common Test, in front of nodes of megaphone_ct_node, and a relay that cuts the connections
%% between the two.
-module(megaphone_ct_ecm).

-export([secret_file/1, listener/2, listener/3]).
-export([start/2, stop/1, kill/1, os_pid/1, program/0, await_link/1]).
-export([relay/1, relay_port/1, cut/1, mend/1, connections/1]).

-export_type([ecm/0, options/0, relay/0]).

-opaque ecm() :: #{port := port(), os_pid := string()}.

%% ports: on which it listens, and for which of the nodes' listeners.
%% nodes: their names and the ports of their megaphone_ecm listeners.
%% lines: top-level lines, before any table. tables: whatever else.
-type options() :: #{
    secret_file := file:filename(),
    ports := [{Listener :: atom() | string(), inet:port_number()}],
    nodes := [{Name :: node(), inet:port_number()}],
    name => string(),
    lines => iodata(),
    tables => iodata()
}.

-opaque relay() :: {pid(), inet:port_number()}.

-define(LOOPBACK, {127, 0, 0, 1}).
-define(TIMEOUT, 30000).

%% --- the node's side

%% A file with a secret of its own, in this directory.
-spec secret_file(file:filename()) -> file:filename().
secret_file(Directory) ->
    File = filename:join(filename:absname(Directory), "ecm.secret"),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, [binary:encode_hex(crypto:strong_rand_bytes(32)), "\n"]),
    ok = file:change_mode(File, 8#600),
    File.

%% An ejabberd listener for megaphone_ct_node.
-spec listener(inet:port_number(), file:filename()) -> iodata().
listener(Port, SecretFile) -> listener(Port, SecretFile, []).

-spec listener(inet:port_number(), file:filename(), [iodata()]) -> iodata().
listener(Port, SecretFile, Lines) ->
    ["  -\n    port: ", integer_to_list(Port), "\n    ip: \"127.0.0.1\"\n    module: megaphone_ecm\n"
     "    secret_file: \"", SecretFile, "\"\n", [["    ", Line, "\n"] || Line <- Lines]].

%% Until a link is up.
-spec await_link(megaphone_ct_node:ejabberd()) -> ok.
await_link(Ejabberd) ->
    megaphone_ct_sockets:await(fun() ->
        lists:any(fun(#{connected := Is}) -> Is end, megaphone_ct_node:call(Ejabberd, megaphone, links, []))
    end).

%% --- the program

%% Runs it until the calling process ends, stop/1 or kill/1. It listens when this returns.
-spec start(file:filename(), options()) -> ecm().
start(Directory, Options) ->
    Name = maps:get(name, Options, "ecm1"),
    File = filename:join(filename:absname(Directory), Name ++ ".toml"),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, configuration(Name, Options)),
    Shell = "\"$@\" 2>>\"$0\".log & echo $!; cat >/dev/null; kill -KILL $! 2>/dev/null; wait $!",
    Port = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", Shell, File, program(), File]}, {line, 1000}, exit_status]),
    OsPid = receive {Port, {data, {eol, Line}}} -> Line after ?TIMEOUT -> error(megaphone_ecm_did_not_start) end,
    Ecm = #{port => Port, os_pid => OsPid},
    try lists:foreach(fun({_, Listen}) -> megaphone_ct_proxy:await_port(Listen) end, maps:get(ports, Options))
    catch _:Reason -> kill(Ecm), error({megaphone_ecm_did_not_start, Reason, file:read_file(File ++ ".log")})
    end,
    Ecm.

configuration(Name, #{secret_file := Secret, ports := Ports, nodes := Nodes} = Options) ->
    ["name = \"", Name, "\"\nsecret_file = \"", Secret, "\"\n", maps:get(lines, Options, "max_connections = 2000\n"),
     [["\n[[listeners]]\nlisten = \"127.0.0.1:", integer_to_list(Port), "\"\nfor = \"", text(For), "\"\n"]
      || {For, Port} <- Ports],
     [["\n[[nodes]]\nname = \"", atom_to_list(Node), "\"\naddress = \"127.0.0.1\"\nport = ", integer_to_list(Port), "\n"]
      || {Node, Port} <- Nodes],
     "\n", maps:get(tables, Options, "")].

text(Atom) when is_atom(Atom) -> atom_to_list(Atom);
text(String) -> String.

%% Where scripts/build-ecm puts it, or MEGAPHONE_ECM.
-spec program() -> file:filename().
program() ->
    Built = filename:join([os:getenv("CARGO_TARGET_DIR", filename:join(megaphone_ct_node:root(), "target")), "release",
                           "megaphone-ecm"]),
    Program = os:getenv("MEGAPHONE_ECM", Built),
    filelib:is_file(Program) orelse error({not_built, Program, "run scripts/build-ecm"}),
    Program.

-spec os_pid(ecm()) -> string().
os_pid(#{os_pid := OsPid}) -> OsPid.

%% Tells it to stop, and returns when it has; a moment is all that it has for its clients unless [drain] says otherwise.
-spec stop(ecm()) -> ok.
stop(Ecm) -> signal("TERM", Ecm).

-spec kill(ecm()) -> ok.
kill(Ecm) -> signal("KILL", Ecm).

%% The shell ends when the program has and its own input does: the program's end is seen in /proc.
signal(Signal, #{port := Port, os_pid := OsPid}) ->
    _ = os:cmd("kill -" ++ Signal ++ " " ++ OsPid),
    megaphone_ct_sockets:await(fun() -> not is_running(OsPid) end),
    catch port_close(Port),
    ok.

%% One that has ended is there until its parent has asked.
is_running(OsPid) ->
    case file:read_file("/proc/" ++ OsPid ++ "/stat") of
        {ok, Stat} -> re:run(Stat, "\\) [ZX] ") =:= nomatch;
        {error, _} -> false
    end.

%% --- a relay

%% A port that leads to Port, for as long as the calling process lives.
-spec relay(inet:port_number()) -> relay().
relay(Port) ->
    Caller = self(),
    Pid = spawn_link(fun() ->
        {ok, Listen} = listen(0),
        {ok, Own} = inet:port(Listen),
        Caller ! {self(), Own},
        relay(#{to => Port, own => Own, listen => Listen, acceptor => acceptor(Listen, Port), opened => 0})
    end),
    receive {Pid, Own} -> {Pid, Own}
    after ?TIMEOUT -> error(no_relay)
    end.

-spec relay_port(relay()) -> inet:port_number().
relay_port({_, Port}) -> Port.

%% Breaks the connections that there are, and refuses others.
-spec cut(relay()) -> ok.
cut(Relay) -> ask(Relay, cut).

%% Takes connections again.
-spec mend(relay()) -> ok.
mend(Relay) -> ask(Relay, mend).

%% How many it has had.
-spec connections(relay()) -> non_neg_integer().
connections(Relay) -> ask(Relay, connections).

ask({Pid, _}, Question) ->
    Ref = make_ref(),
    Pid ! {Question, self(), Ref},
    receive {Ref, Answer} -> Answer
    after ?TIMEOUT -> error({no_answer, Question})
    end.

listen(Port) -> gen_tcp:listen(Port, [binary, {active, false}, {ip, ?LOOPBACK}, {reuseaddr, true}, {nodelay, true}]).

relay(#{to := To, own := Own, opened := Opened} = State) ->
    receive
        {cut, From, Ref} ->
            #{listen := Listen, acceptor := Acceptor} = State,
            ok = gen_tcp:close(Listen),
            Monitor = monitor(process, Acceptor),
            true = unlink(Acceptor),
            true = exit(Acceptor, kill),
            receive {'DOWN', Monitor, process, Acceptor, _} -> ok end,
            From ! {Ref, ok},
            relay(State);
        {mend, From, Ref} ->
            {ok, Listen} = listen(Own),
            From ! {Ref, ok},
            relay(State#{listen := Listen, acceptor := acceptor(Listen, To)});
        {connections, From, Ref} ->
            From ! {Ref, Opened},
            relay(State);
        opened ->
            relay(State#{opened := Opened + 1})
    end.

%% Its end is that of its connections, whose sockets are their processes'.
acceptor(Listen, To) ->
    Relay = self(),
    spawn_link(fun() -> accept(Listen, To, Relay) end).

accept(Listen, To, Relay) ->
    case gen_tcp:accept(Listen) of
        {ok, Socket} ->
            Relay ! opened,
            Pid = spawn_link(fun() -> receive go -> connect(Socket, To) end end),
            ok = gen_tcp:controlling_process(Socket, Pid),
            Pid ! go,
            accept(Listen, To, Relay);
        {error, closed} ->
            receive after infinity -> ok end  % until it is killed
    end.

connect(Socket, To) ->
    case gen_tcp:connect(?LOOPBACK, To, [binary, {active, false}, {nodelay, true}], ?TIMEOUT) of
        {ok, Other} ->
            ok = inet:setopts(Socket, [{active, once}]),
            ok = inet:setopts(Other, [{active, once}]),
            copy(Socket, Other);
        {error, _} ->
            gen_tcp:close(Socket)
    end.

copy(One, Other) ->
    receive
        {tcp, From, Data} ->
            To = if From =:= One -> Other; true -> One end,
            _ = gen_tcp:send(To, Data),
            _ = inet:setopts(From, [{active, once}]),
            copy(One, Other);
        {tcp_closed, _} ->
            _ = gen_tcp:close(One),
            gen_tcp:close(Other)
    end.
