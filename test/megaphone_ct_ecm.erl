%% The program megaphone-ecm for Common Test, in front of nodes of megaphone_ct_node, and a relay that cuts the connections
%% between the two.
-module(megaphone_ct_ecm).

-export([secret_file/1, listener/3, changes/1]).
-export([start/2, stop/1, kill/1, os_pid/1, log/2, program/0, await_link/1]).
-export([relay/1, relay_port/1, cut/1, mend/1, connections/1, stop_relay/1]).

-export_type([ecm/0, options/0, relay/0]).

%% Its process has the program's standard input, and lives until the program is stopped: who starts it in an
%% init_per_group is no more when the cases run.
-opaque ecm() :: #{keeper := pid(), os_pid := string(), log := file:filename()}.

%% ports: on which it listens, and for which of the nodes' listeners. Clients of http are kept when their node goes.
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

%% The file with the secret of this directory, which is made.
-spec secret_file(file:filename()) -> file:filename().
secret_file(Directory) ->
    File = filename:join(filename:absname(Directory), "ecm.secret"),
    ok = filelib:ensure_dir(File),
    _ = filelib:is_file(File) orelse
        begin
            ok = file:write_file(File, [binary:encode_hex(crypto:strong_rand_bytes(32)), "\n"]),
            ok = file:change_mode(File, 8#600)
        end,
    File.

%% How a group of a suite differs in which clients come through a manager.
-spec changes(Group :: atom()) -> megaphone_ct_node:changes().
changes(ecm) -> #{ecm => ""};
changes(_Group) -> #{}.

%% An ejabberd listener for megaphone_ct_node.
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

%% Runs it until stop/1, kill/1, or the end of this node. It listens when this returns.
-spec start(file:filename(), options()) -> ecm().
start(Directory, Options) ->
    Name = maps:get(name, Options, "ecm1"),
    File = filename:join(filename:absname(Directory), Name ++ ".toml"),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, configuration(Name, Options)),
    {Keeper, OsPid} = keep(File),
    Ecm = #{keeper => Keeper, os_pid => OsPid, log => File ++ ".log"},
    ok = megaphone_ct_sockets:await(fun() ->
        lists:all(fun({_, Listen}) -> is_listening(Listen) end, maps:get(ports, Options)) orelse not is_running(OsPid)
    end),
    is_running(OsPid) orelse error({megaphone_ecm_did_not_start, log(Ecm, "")}),
    Ecm.

%% Without a connection, which would be a client's.
is_listening(Port) ->
    {ok, Sockets} = file:read_file("/proc/net/tcp"),
    re:run(Sockets, io_lib:format(":~4.16.0B 00000000:0000 0A ", [Port])) =/= nomatch.

%% The program ends when the shell's standard input does.
keep(File) ->
    Caller = self(),
    %% The shell itself says nothing of how the program has ended.
    Shell = "exec 3>>\"$0\".log 2>/dev/null; \"$@\" 2>&3 & echo $!; cat >/dev/null; kill -KILL $!; wait $!",
    Arguments = ["-c", Shell, File, program(), File],
    Keeper = spawn(fun() ->
        Port = open_port({spawn_executable, "/bin/sh"}, [{args, Arguments}, {line, 1000}]),
        receive {Port, {data, {eol, Line}}} -> Caller ! {self(), Line} end,
        receive stop -> ok end
    end),
    receive {Keeper, OsPid} -> {Keeper, OsPid}
    after ?TIMEOUT -> error(no_shell)
    end.

%% The lines that it has logged in which the regular expression is found.
-spec log(ecm(), string()) -> [binary()].
log(#{log := File}, Expression) ->
    {ok, Log} = file:read_file(File),
    [Line || Line <- binary:split(Log, <<"\n">>, [global]), re:run(Line, Expression) =/= nomatch].

configuration(Name, #{secret_file := Secret, ports := Ports, nodes := Nodes} = Options) ->
    ["name = \"", Name, "\"\nsecret_file = \"", Secret, "\"\n", maps:get(lines, Options, "max_connections = 2000\n"),
     [["\n[[listeners]]\nlisten = \"127.0.0.1:", integer_to_list(Port), "\"\nfor = \"", text(For), "\"\n",
       ["keep = true\n" || For =:= http]]
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
signal(Signal, #{keeper := Keeper, os_pid := OsPid}) ->
    _ = os:cmd("kill -" ++ Signal ++ " " ++ OsPid),
    ok = megaphone_ct_sockets:await(fun() -> not is_running(OsPid) end),
    Keeper ! stop,
    ok.

%% One that has ended is there until its parent has asked.
is_running(OsPid) ->
    case file:read_file("/proc/" ++ OsPid ++ "/stat") of
        {ok, Stat} -> re:run(Stat, "\\) [ZX] ") =:= nomatch;
        {error, _} -> false
    end.

%% --- a relay

%% A port that leads to Port, until stop_relay/1.
-spec relay(inet:port_number()) -> relay().
relay(Port) ->
    Caller = self(),
    Pid = spawn(fun() ->
        {ok, Listen} = listen(0),
        {ok, Own} = inet:port(Listen),
        Caller ! {self(), Own},
        Relay = self(),
        Acceptor = spawn_link(fun() -> accept(Listen, Port, Relay) end),
        run_relay(#{to => Port, listen => Listen, acceptor => Acceptor, opened => 0})
    end),
    receive {Pid, Own} -> {Pid, Own}
    after ?TIMEOUT -> error(no_relay)
    end.

-spec relay_port(relay()) -> inet:port_number().
relay_port({_, Port}) -> Port.

%% Breaks the connections that there are, and closes others at once: a port that nobody listens at may be another's soon.
-spec cut(relay()) -> ok.
cut(Relay) -> ask(Relay, cut).

%% Takes connections again.
-spec mend(relay()) -> ok.
mend(Relay) -> ask(Relay, mend).

%% How many it has had.
-spec connections(relay()) -> non_neg_integer().
connections(Relay) -> ask(Relay, connections).

-spec stop_relay(relay()) -> ok.
stop_relay({Pid, _} = Relay) ->
    Monitor = monitor(process, Pid),
    ok = ask(Relay, stop),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

ask({Pid, _}, Question) ->
    Ref = make_ref(),
    Pid ! {Question, self(), Ref},
    receive {Ref, Answer} -> Answer
    after ?TIMEOUT -> error({no_answer, Question})
    end.

listen(Port) -> gen_tcp:listen(Port, [binary, {active, false}, {ip, ?LOOPBACK}, {reuseaddr, true}, {nodelay, true}]).

run_relay(#{to := To, opened := Opened} = State) ->
    receive
        {cut, From, Ref} ->
            Cut = replace_acceptor(fun refuse/1, State),
            From ! {Ref, ok},
            run_relay(Cut);
        {mend, From, Ref} ->
            Relay = self(),
            Mended = replace_acceptor(fun(Listen) -> accept(Listen, To, Relay) end, State),
            From ! {Ref, ok},
            run_relay(Mended);
        {stop, From, Ref} ->
            From ! {Ref, ok},
            exit(shutdown);
        {connections, From, Ref} ->
            From ! {Ref, Opened},
            run_relay(State);
        opened ->
            run_relay(State#{opened := Opened + 1})
    end.

%% An acceptor's end is that of its connections, whose sockets are their processes'.
replace_acceptor(Accept, #{listen := Listen, acceptor := Former} = State) ->
    Monitor = monitor(process, Former),
    true = unlink(Former),
    true = exit(Former, kill),
    receive {'DOWN', Monitor, process, Former, _} -> ok end,
    State#{acceptor := spawn_link(fun() -> Accept(Listen) end)}.

refuse(Listen) ->
    {ok, Socket} = gen_tcp:accept(Listen),
    ok = gen_tcp:close(Socket),
    refuse(Listen).

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
