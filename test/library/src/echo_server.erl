%% An application of another project that depends on Megaphone: it sends back what it receives.
-module(echo_server).
-behaviour(application).

-export([start/2, stop/1]).
%% The handler and the supervisor's start.
-export([serve/1, init/1]).

-behaviour(supervisor).

-spec start(application:start_type(), term()) -> supervisor:startlink_ret().
start(_Type, _Arguments) ->
    {ok, Place} = gen_tcp:listen(application:get_env(echo_server, port, 0), [binary, {ip, {127, 0, 0, 1}}]),
    {ok, _Listener} = megaphone:start_listener(Place, {?MODULE, serve, []}),
    ok = tell_port(Place, application:get_env(echo_server, port_file)),
    supervisor:start_link(?MODULE, []).

-spec stop(term()) -> ok.
stop(_State) -> ok.

-spec init([]) -> {ok, {supervisor:sup_flags(), []}}.
init([]) -> {ok, {#{}, []}}.

-spec serve(megaphone:socket()) -> ok.
serve(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Data} ->
            ok = gen_tcp:send(Socket, Data),
            serve(Socket);
        {error, closed} ->
            ok
    end.

%% Renamed into place, so that who waits for the file finds it complete.
tell_port(_Place, undefined) ->
    ok;
tell_port(Place, {ok, File}) ->
    {ok, Port} = inet:port(Place),
    ok = file:write_file(File ++ ".new", integer_to_list(Port)),
    file:rename(File ++ ".new", File).
