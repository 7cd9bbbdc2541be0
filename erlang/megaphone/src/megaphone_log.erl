%% Starts the library's threads and writes its notices to the log. The library limits their rate: one a minute of
%% each kind.
-module(megaphone_log).

-export([start_link/0, init/1]).

-include_lib("kernel/include/logger.hrl").

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> proc_lib:start_link(?MODULE, init, [self()]).

-spec init(Parent :: pid()) -> no_return() | ok.
init(Parent) ->
    true = register(?MODULE, self()),
    case megaphone_nif:start(start_options()) of
        {ok, Limits} ->
            log_limits(Limits),
            proc_lib:init_ack(Parent, {ok, self()}),
            loop();
        {error, Reason} ->
            proc_lib:init_ack(Parent, {error, {reactors, Reason}})
    end.

start_options() ->
    Set = [{Name, Value} || Name <- [reactors, max_connections], {ok, Value} <- [application:get_env(megaphone, Name)]],
    (maps:from_list(Set))#{log => self()}.

log_limits(#{reactors := Reactors, max_connections := MaxConnections, descriptor_limit := DescriptorLimit}) ->
    Origin = case application:get_env(megaphone, max_connections) of
        {ok, _} -> "as configured";
        undefined -> "what the limit of open files leaves"
    end,
    ?LOG_INFO("Megaphone runs ~w reactors and takes at most ~w connections (~s; the limit of open files is ~w)",
              [Reactors, MaxConnections, Origin, DescriptorLimit]).

loop() ->
    receive
        {'$megaphone_notice', Kind, Details} -> notice(Kind, Details);
        Other -> ?LOG_WARNING("megaphone_log got an unexpected message: ~tp", [Other])
    end,
    loop().

notice(accept_paused, Details) ->
    ?LOG_WARNING("Megaphone accepts no more connections until others have closed: ~tp", [Details]);
notice(accept_resumed, Details) ->
    ?LOG_NOTICE("Megaphone accepts connections again: ~tp", [Details]);
notice(reactor_panic, Details) ->
    ?LOG_ERROR("An error in Megaphone's native library has cost one connection, please report it: ~tp", [Details]);
notice(accept_failed, Details) ->
    ?LOG_ERROR("Megaphone failed to accept a connection: ~tp", [Details]);
notice(register_failed, Details) ->
    ?LOG_ERROR("Megaphone closed a connection that the kernel could not watch, and accepts none for a moment; see "
               "fs.epoll.max_user_watches and the memory limits: ~tp", [Details]);
notice(start_timeout, Details) ->
    ?LOG_ERROR("Megaphone has closed a connection for which no process was started in time: ~tp", [Details]);
notice(proxy_refused, #{reason := not_trusted} = Details) ->
    ?LOG_WARNING("Megaphone has closed a connection from an address that is none of the listener's trusted proxies: ~tp",
                 [Details]);
notice(proxy_refused, Details) ->
    ?LOG_WARNING("Megaphone has closed a connection that did not begin with a PROXY protocol header, as its listener wants "
                 "it: ~tp", [Details]);
notice(Kind, Details) ->
    ?LOG_NOTICE("Megaphone: ~tp ~tp", [Kind, Details]).
