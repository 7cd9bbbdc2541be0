%% Proxies in front of ejabberd: HAProxy and nginx with the configurations of docs/proxy.md, and ways to come by them.
-module(megaphone_ct_proxy).

-export([file/1, configuration/2, start/3, stop/1, await_port/1]).
-export([over_tls/2, with_header/2]).

-export_type([proxy/0]).

%% A program; it ends when its standard input does.
-opaque proxy() :: port().

-define(LOOPBACK, {127, 0, 0, 1}).
-define(TIMEOUT, 30000).

%% One of the files that the documentation shows.
-spec file(string()) -> binary().
file(Name) ->
    {ok, Text} = file:read_file(filename:join([megaphone_ct_node:root(), "test", "proxy", Name])),
    Text.

%% The same with other ports and paths. Each Text is there.
-spec configuration(string(), [{Text :: string(), By :: iodata()}]) -> iodata().
configuration(Name, Replace) ->
    lists:foldl(
        fun({Text, By}, Configuration) ->
            [_, _ | _] = Parts = string:split(Configuration, Text, all),
            iolist_to_binary(lists:join(By, Parts))
        end,
        file(Name), Replace).

%% Runs a proxy with a configuration until the calling process ends, or stop/1.
-spec start(haproxy | nginx, file:filename(), iodata()) -> proxy().
start(Program, File, Configuration) ->
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, Configuration),
    open_port({spawn_executable, "/bin/sh"}, [
        {args, ["-c", "\"$@\" & cat >/dev/null; kill $!; wait $!", "sh", executable(Program) | arguments(Program, File)]},
        exit_status, stderr_to_stdout, binary
    ]).

%% A proxy that is not installed is no reason to skip a test.
executable(Program) ->
    case os:find_executable(atom_to_list(Program), os:getenv("PATH") ++ ":/usr/sbin") of
        false -> error({not_installed, Program, "scripts/setup installs it"});
        Path -> Path
    end.

arguments(haproxy, File) -> ["-db", "-f", File];
arguments(nginx, File) -> ["-c", File, "-e", "stderr", "-g", "daemon off; pid " ++ File ++ ".pid;"].

%% Its output goes with it.
-spec stop(proxy()) -> ok.
stop(Proxy) ->
    true = port_close(Proxy),
    ok.

%% Until somebody listens there.
-spec await_port(inet:port_number()) -> ok.
await_port(Port) -> await_port(Port, erlang:monotonic_time(millisecond) + ?TIMEOUT).

await_port(Port, Deadline) ->
    case gen_tcp:connect(?LOOPBACK, Port, []) of
        {ok, Socket} ->
            gen_tcp:close(Socket);
        {error, econnrefused} ->
            true = erlang:monotonic_time(millisecond) < Deadline orelse error({nobody_listens, Port, output()}),
            receive after 20 -> await_port(Port, Deadline) end
    end.

output() ->
    receive {Port, Output} when is_port(Port) -> [Output | output()]
    after 0 -> []
    end.

%% --- other ways to a port, for clients that know none of this

%% A port whose connections come to Port by TLS and from this address, for as long as the calling process lives.
-spec over_tls(inet:port_number(), inet:ip_address()) -> inet:port_number().
over_tls(Port, Ip) ->
    relay(fun() ->
        {ok, Tls} = ssl:connect(?LOOPBACK, Port, [binary, {active, once}, {ip, Ip}, {verify, verify_none}], ?TIMEOUT),
        {ssl, Tls}
    end).

%% A port whose connections come to Port behind this PROXY header.
-spec with_header(inet:port_number(), iodata()) -> inet:port_number().
with_header(Port, Header) ->
    relay(fun() ->
        {ok, Socket} = gen_tcp:connect(?LOOPBACK, Port, [binary, {active, once}], ?TIMEOUT),
        ok = gen_tcp:send(Socket, Header),
        {gen_tcp, Socket}
    end).

relay(Connect) ->
    Caller = self(),
    Relay = spawn_link(fun() ->
        {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {ip, ?LOOPBACK}]),
        {ok, Port} = inet:port(Listen),
        Caller ! {self(), Port},
        accept(Listen, Connect)
    end),
    receive {Relay, Port} -> Port
    after ?TIMEOUT -> error(no_relay)
    end.

accept(Listen, Connect) ->
    {ok, Client} = gen_tcp:accept(Listen),
    Pid = spawn_link(fun() ->
        receive go -> ok end,
        Server = Connect(),
        ok = inet:setopts(Client, [{active, once}]),
        copy(Client, Server)
    end),
    ok = gen_tcp:controlling_process(Client, Pid),
    Pid ! go,
    accept(Listen, Connect).

copy(Client, {Module, Socket} = Server) ->
    receive
        {tcp, Client, Data} ->
            _ = Module:send(Socket, Data),
            _ = inet:setopts(Client, [{active, once}]),
            copy(Client, Server);
        {_, Socket, Data} ->
            _ = gen_tcp:send(Client, Data),
            _ = setopts(Server, [{active, once}]),
            copy(Client, Server);
        {Closed, _} when Closed =:= tcp_closed; Closed =:= ssl_closed ->
            _ = gen_tcp:close(Client),
            _ = Module:close(Socket)
    end.

setopts({ssl, Socket}, Options) -> ssl:setopts(Socket, Options);
setopts({gen_tcp, Socket}, Options) -> inet:setopts(Socket, Options).
