%% A real ejabberd for Common Test: an operating system process of its own, started by the same scripts as scripts/run,
%% with a database, logs and ports of its own.
%%
%% It is controlled over its standard input and output (see peer), so neither distribution nor epmd is in play, and it
%% ends when the test node does.
-module(megaphone_ct_node).

-export([start/2, start/3, restart/1, stop/1, call/4, os_pid/1, port/2, url/3, name/1, link_port/1, secret_file/1]).
-export([root/0, free_port/0, account/2, admin_account/1, reload/2, reload/3, reload_without_links/1, reload_error/2,
         http_listener/2, certificate/1, log/2]).
-export([reset_peak_memory/1, peak_memory/1, memory/1]).
%% Called in ejabberd's node.
-export([http_handlers/0, open_files/1]).

-export_type([ejabberd/0, changes/0]).

-opaque ejabberd() :: #{
    peer := pid(),
    os_pid := string(),
    state := file:filename(),
    http_module := module(),
    ports := #{c2s | http => inet:port_number()},  % that clients use
    changes := changes(),
    link_port => inet:port_number(),  % for connection managers
    ecm => megaphone_ct_ecm:ecm()
}.

%% How a node's configuration differs from that of scripts/lib/ejabberd.yml.in.
-type changes() :: #{
    listeners => [iodata()],
    replace => [{Line :: string(), By :: string()}],  % a Line is there exactly once
    options => iodata(),                              % top-level lines
    arguments => [string()],                          % of erl
    links => [iodata()],  % a megaphone_ecm listener, with these lines
    ecm => iodata(),      % and a connection manager that clients come through, with these tables in its configuration
    descriptors => pos_integer()                      % its limit of open files, else ours
}.

%% Generous, for a machine that is busy: a test that waits this long has failed.
-define(START_TIMEOUT, 60000).
-define(STOP_TIMEOUT, 60000).
-define(CALL_TIMEOUT, 30000).

%% Starts ejabberd with HttpModule (ejabberd_http or megaphone_http) as its HTTP listener and returns when it serves.
%% Directory is made; it keeps the logs of a node that has failed.
-spec start(module(), file:filename()) -> ejabberd().
start(HttpModule, Directory) -> start(HttpModule, Directory, #{}).

-spec start(module(), file:filename(), changes()) -> ejabberd().
start(HttpModule, Directory, Changes) ->
    State = filename:absname(Directory),
    ok = filelib:ensure_dir(filename:join(State, "x")),
    Ports = #{c2s => free_port(), http => free_port()},
    ok = make_certificate(State),
    ok = file:write_file(base_config(State), render_config(HttpModule, State, Ports)),
    start(HttpModule, State, Ports, with_links(State, with_ecm(Ports, Changes))).

start(HttpModule, State, Ports, Changes) ->
    ok = write_config(State, Changes),
    {ok, Peer, _} = peer:start(#{
        connection => standard_io,
        wait_boot => ?START_TIMEOUT,
        exec => executable(State, Changes),
        args => ["-ejabberd", "quiet", "true", "-pa", filename:dirname(code:which(?MODULE)) | maps:get(arguments, Changes, [])],
        env => [{"MEGAPHONE_LIB", filename:dirname(code:lib_dir(megaphone))}]
    }),
    Ejabberd = (maps:with([link_port], Changes))#{
        peer => Peer,
        os_pid => peer:call(Peer, os, getpid, []),
        state => State,
        http_module => HttpModule,
        ports => Ports,
        changes => Changes
    },
    %% ejabberd halts its node when it can't use its configuration: then the call exits.
    try
        {ok, _} = peer:call(Peer, application, ensure_all_started, [ejabberd], ?START_TIMEOUT),
        ok = await_listeners(maps:values(Ports)),
        ok = await_megaphone(HttpModule, Ejabberd),
        through_ecm(Ejabberd)
    catch
        _:Reason ->
            ok = stop(Ejabberd),
            error({ejabberd_did_not_start, Reason, log(State)})
    end.

%% Clients get other ports than the node's, and addresses with them.
with_ecm(#{http := Http}, #{ecm := _} = Changes) ->
    Outer = #{c2s => free_port(), http => free_port()},
    Url = fun(Port) -> "127.0.0.1:" ++ integer_to_list(Port) ++ "/upload" end,
    Replace = [{Url(Http), Url(maps:get(http, Outer))} | maps:get(replace, Changes, [])],
    maps:merge(#{links => []}, Changes#{replace => Replace, outer_ports => Outer});
with_ecm(_Ports, Changes) ->
    Changes.

with_links(State, #{links := Lines} = Changes) ->
    Port = free_port(),
    Listener = megaphone_ct_ecm:listener(Port, megaphone_ct_ecm:secret_file(State), Lines),
    Changes#{link_port => Port, listeners => [Listener | maps:get(listeners, Changes, [])]};
with_links(_State, Changes) ->
    Changes.

through_ecm(#{state := State, changes := #{ecm := Tables, outer_ports := Outer}} = Ejabberd) ->
    Ecm = megaphone_ct_ecm:start(State, #{
        secret_file => secret_file(Ejabberd),
        ports => maps:to_list(Outer),
        nodes => [{name(Ejabberd), link_port(Ejabberd)}],
        tables => Tables
    }),
    ok = megaphone_ct_ecm:await_link(Ejabberd),
    Ejabberd#{ports := Outer, ecm => Ecm};
through_ecm(Ejabberd) ->
    Ejabberd.

executable(State, #{descriptors := Limit}) ->
    Shell = "ulimit -n " ++ integer_to_list(Limit) ++ "; exec \"$@\"",
    {"/bin/sh", ["-c", Shell, "sh", virtual_machine(), State]};
executable(State, _Changes) ->
    {virtual_machine(), [State]}.

virtual_machine() -> filename:join([root(), "scripts", "lib", "ejabberd-vm"]).

%% Starts one that has been stopped, with its database and at its ports. Not with a connection manager of its own.
-spec restart(ejabberd()) -> ejabberd().
restart(#{http_module := HttpModule, state := State, ports := Ports, changes := Changes}) ->
    start(HttpModule, State, Ports, Changes).

%% Sends SIGTERM, as an init system does, on which Erlang stops its applications in order. Returns when the process is
%% gone; at once when it has been stopped before.
-spec stop(ejabberd()) -> ok.
stop(#{ecm := Ecm} = Ejabberd) ->
    ok = stop(maps:remove(ecm, Ejabberd)),
    megaphone_ct_ecm:kill(Ecm);
stop(#{peer := Peer, os_pid := OsPid, state := State}) ->
    Monitor = monitor(process, Peer),
    _ = is_process_alive(Peer) andalso os:cmd("kill -TERM " ++ OsPid),
    receive
        {'DOWN', Monitor, process, Peer, _} ->
            %% An application that has failed to end would hold up the node for its time-outs.
            [] = log_lines(State, "shutdown_error"),
            ok
    after ?STOP_TIMEOUT ->
        _ = os:cmd("kill -KILL " ++ OsPid),
        error({ejabberd_did_not_stop, log(State)})
    end.

-spec call(ejabberd(), module(), atom(), [term()]) -> term().
call(#{peer := Peer}, Module, Function, Arguments) ->
    peer:call(Peer, Module, Function, Arguments, ?CALL_TIMEOUT).

-spec os_pid(ejabberd()) -> string().
os_pid(#{os_pid := OsPid}) -> OsPid.

-spec port(ejabberd(), c2s | http) -> inet:port_number().
port(#{ports := Ports}, Service) -> maps:get(Service, Ports).

%% Its Erlang name.
-spec name(ejabberd()) -> node().
name(Ejabberd) -> call(Ejabberd, erlang, node, []).

%% Where connection managers connect to, and the file with their secret.
-spec link_port(ejabberd()) -> inet:port_number().
link_port(#{link_port := Port}) -> Port.

-spec secret_file(ejabberd()) -> file:filename().
secret_file(#{state := State}) -> megaphone_ct_ecm:secret_file(State).

%% The address of a path of the HTTP listener, e.g. url(Ejabberd, "ws", "/ws").
-spec url(ejabberd(), Scheme :: string(), Path :: string()) -> string().
url(Ejabberd, Scheme, Path) ->
    lists:flatten(io_lib:format("~s://127.0.0.1:~w~s", [Scheme, port(Ejabberd, http), Path])).

%% The root of the checkout: the directory above that has our scripts.
-spec root() -> file:filename().
root() -> root(filename:dirname(filename:absname(code:which(?MODULE)))).

root("/") -> error(checkout_not_found);
root(Directory) ->
    case filelib:is_file(filename:join([Directory, "scripts", "lib", "ejabberd-vm"])) of
        true -> Directory;
        false -> root(filename:dirname(Directory))
    end.

%% ejabberd can't be told to choose a port itself. Another process may take this one before ejabberd does; then
%% its start fails, with that reason.
-spec free_port() -> inet:port_number().
free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

%% Makes an account for a user of a new name that begins with Name.
-spec account(ejabberd(), string()) -> megaphone_ct_client:account().
account(Ejabberd, Name) ->
    register_account(Ejabberd, Name ++ integer_to_list(erlang:unique_integer([positive]))).

%% Makes the account of the server's administrator, for /admin. Once a node.
-spec admin_account(ejabberd()) -> megaphone_ct_client:account().
admin_account(Ejabberd) ->
    register_account(Ejabberd, "admin").

register_account(Ejabberd, User) ->
    Password = "secret-" ++ User,
    ok = call(Ejabberd, ejabberd_auth, try_register,
              [list_to_binary(User), <<"localhost">>, list_to_binary(Password)]),
    {User ++ "@localhost", Password}.

%% Gives the running node a configuration with these listeners in addition to its first ones.
-spec reload(ejabberd(), [iodata()]) -> ok.
reload(Ejabberd, Listeners) -> reload(Ejabberd, Listeners, []).

%% And with these top-level lines.
-spec reload(ejabberd(), [iodata()], iodata()) -> ok.
reload(#{state := State, changes := Changes} = Ejabberd, Listeners, Options) ->
    ok = write_config(State, Changes#{
        listeners => [maps:get(listeners, Changes, []) | Listeners],
        options => [maps:get(options, Changes, []) | Options]
    }),
    ok = call(Ejabberd, ejabberd_config, reload, []).

%% With its first listeners, but none for connection managers.
-spec reload_without_links(ejabberd()) -> ok.
reload_without_links(#{state := State, changes := Changes} = Ejabberd) ->
    ok = write_config(State, maps:remove(listeners, Changes)),
    ok = call(Ejabberd, ejabberd_config, reload, []).

%% What ejabberd says of a configuration with these listeners, which it does not take.
-spec reload_error(ejabberd(), [iodata()]) -> string().
reload_error(#{state := State, changes := Changes} = Ejabberd, Listeners) ->
    ok = write_config(State, Changes#{listeners => [maps:get(listeners, Changes, []) | Listeners]}),
    {error, _, _} = Error = call(Ejabberd, ejabberd_config, reload, []),
    lists:flatten(call(Ejabberd, ejabberd_config, format_error, [Error])).

%% One more HTTP listener for reload/2. A string among the options is quoted.
-spec http_listener(module(), [{Option :: atom(), integer() | string() | boolean()}]) -> iodata().
http_listener(Module, Options) ->
    ["  -\n", [["    ", atom_to_list(Key), ": ", yaml(Value), "\n"] || {Key, Value} <- Options],
     "    module: ", atom_to_list(Module), "\n",
     "    request_handlers:\n",
     "      /admin: ejabberd_web_admin\n",
     "      /bosh: mod_bosh\n",
     "      /ws: ejabberd_http_ws\n"].

yaml(String) when is_list(String) -> [$", String, $"];
yaml(Term) -> io_lib:format("~w", [Term]).

%% The node's certificate, for localhost and 127.0.0.1, which signs itself.
-spec certificate(ejabberd()) -> file:filename().
certificate(#{state := State}) -> certificate_file(State).

%% Resident memory in bytes: now, and the highest since reset_peak_memory/1.
-spec memory(ejabberd()) -> non_neg_integer().
memory(Ejabberd) -> status_field(Ejabberd, "VmRSS").

-spec peak_memory(ejabberd()) -> non_neg_integer().
peak_memory(Ejabberd) -> status_field(Ejabberd, "VmHWM").

-spec reset_peak_memory(ejabberd()) -> ok.
reset_peak_memory(#{os_pid := OsPid}) ->
    file:write_file("/proc/" ++ OsPid ++ "/clear_refs", "5").

status_field(#{os_pid := OsPid}, Field) ->
    {ok, Status} = file:read_file("/proc/" ++ OsPid ++ "/status"),
    {match, [KiloBytes]} = re:run(Status, Field ++ ":\\s+(\\d+) kB", [{capture, all_but_first, list}]),
    1024 * list_to_integer(KiloBytes).

%% The lines of ejabberd's log in which the regular expression is found.
-spec log(ejabberd(), string()) -> [binary()].
log(#{state := State} = Ejabberd, Expression) ->
    Handlers = call(Ejabberd, logger, get_handler_config, []),
    [ok = call(Ejabberd, logger_std_h, filesync, [Id]) || #{id := Id, module := logger_std_h} <- Handlers],
    log_lines(State, Expression).

%% The processes that run ejabberd_http, whoever started them.
-spec http_handlers() -> [pid()].
http_handlers() ->
    [Pid || Pid <- processes(), {ejabberd_http, init, _} <- [proc_lib:initial_call(Pid)]].

%% Opens so many files at a time, and closes them.
-spec open_files(pos_integer()) -> ok.
open_files(Count) ->
    Opened = [file:open("/dev/null", [read, raw]) || _ <- lists:seq(1, Count)],
    [ok = file:close(Device) || {ok, Device} <- Opened],
    [] = [Error || {error, _} = Error <- Opened],
    ok.

%% --- configuration

base_config(State) -> filename:join(State, "base.yml").

certificate_file(State) -> filename:join(State, "localhost.pem").

render_config(HttpModule, State, #{c2s := C2sPort, http := HttpPort}) ->
    Script = filename:join([root(), "scripts", "lib", "ejabberd-config"]),
    {0, Config} = megaphone_ct_client:run(Script, [
        "--state", State, "--http-module", atom_to_list(HttpModule),
        "--c2s-port", integer_to_list(C2sPort), "--http-port", integer_to_list(HttpPort)
    ]),
    [Config, "\ncertfiles:\n  - \"", certificate_file(State), "\"\n"].

write_config(State, Changes) ->
    {ok, Base} = file:read_file(base_config(State)),
    Listen = "\nlisten:\n",
    %% The listeners last: they may have lines that are to be replaced.
    Replace = maps:get(replace, Changes, []) ++ [{Listen, [Listen | maps:get(listeners, Changes, [])]}],
    Config = lists:foldl(fun replace_once/2, Base, Replace),
    file:write_file(filename:join(State, "ejabberd.yml"), [Config, "\n", maps:get(options, Changes, [])]).

replace_once({Text, By}, Config) ->
    [Before, After] = string:split(Config, Text, all),
    iolist_to_binary([Before, By, After]).

make_certificate(State) ->
    Key = filename:join(State, "key.pem"),
    Certificate = filename:join(State, "certificate.pem"),
    {0, _} = megaphone_ct_client:run("openssl", [
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-keyout", Key, "-out", Certificate
    ]),
    {ok, KeyPem} = file:read_file(Key),
    {ok, CertificatePem} = file:read_file(Certificate),
    file:write_file(certificate_file(State), [CertificatePem, KeyPem]).

%% The listening sockets are opened before ejabberd's start returns.
await_listeners(Ports) ->
    lists:foreach(
        fun(Port) ->
            {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [], ?CALL_TIMEOUT),
            ok = gen_tcp:close(Socket)
        end,
        Ports).

%% Its listeners start it once ejabberd has started.
await_megaphone(megaphone_http, #{changes := Changes} = Ejabberd) ->
    Count = case Changes of #{links := _} -> 3; #{} -> 2 end,
    megaphone_ct_sockets:await(fun() -> length(call(Ejabberd, megaphone, listeners, [])) >= Count end);
await_megaphone(_HttpModule, _Ejabberd) ->
    ok.

log_lines(State, Expression) ->
    {ok, Log} = file:read_file(filename:join([State, "log", "ejabberd.log"])),
    [Line || Line <- binary:split(Log, <<"\n">>, [global]), re:run(Line, Expression) =/= nomatch].

%% What ejabberd says in its log about warnings and worse.
log(State) ->
    try log_lines(State, "\\[(warning|error|critical)\\]") catch error:Reason -> {no_log, Reason} end.
