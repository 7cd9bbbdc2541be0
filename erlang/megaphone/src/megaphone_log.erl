%% Starts the library's threads and writes its notices to the log. The library limits their rate: one a minute of
%% each kind.
-module(megaphone_log).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include_lib("kernel/include/logger.hrl").

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Threads that run already go on, and this process has their notices from here on.
-spec init([]) -> {ok, no_state} | {stop, term()}.
init([]) ->
    case megaphone_nif:start(start_options()) of
        {ok, Limits} ->
            log_limits(Limits),
            {ok, no_state};
        {error, Reason} ->
            {stop, {reactors, Reason}}
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

-spec handle_call(term(), gen_server:from(), State) -> {reply, {error, unknown_call}, State}.
handle_call(Call, _From, State) ->
    ?LOG_WARNING("megaphone_log got an unexpected call: ~tp", [Call]),
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), State) -> {noreply, State}.
handle_cast(Message, State) ->
    ?LOG_WARNING("megaphone_log got an unexpected message: ~tp", [Message]),
    {noreply, State}.

-spec handle_info(term(), State) -> {noreply, State}.
handle_info({'$megaphone_notice', Kind, Details}, State) ->
    notice(Kind, Details),
    {noreply, State};
handle_info(Message, State) ->
    ?LOG_WARNING("megaphone_log got an unexpected message: ~tp", [Message]),
    {noreply, State}.

notice(accept_paused, Details) ->
    ?LOG_WARNING("Megaphone accepts no more connections until others have closed; raise the limit of open files, or "
                 "max_connections where that is set: ~tp", [Details]);
notice(accept_resumed, Details) ->
    ?LOG_NOTICE("Megaphone accepts connections again: ~tp", [Details]);
notice(reactor_panic, Details) ->
    ?LOG_ERROR("An error in Megaphone's native library has cost one connection, please report it: ~tp", [Details]);
notice(accept_failed, Details) ->
    ?LOG_ERROR("Megaphone failed to accept a connection, and tries again; accept(2) explains the error: ~tp", [Details]);
notice(register_failed, Details) ->
    ?LOG_ERROR("Megaphone closed a connection that the kernel could not watch, and accepts none for a moment; see "
               "fs.epoll.max_user_watches and the memory limits: ~tp", [Details]);
notice(start_timeout, Details) ->
    ?LOG_ERROR("Megaphone has closed a connection for which no process was started in time: the node has more to do than "
               "it can, or the handler's start does not return: ~tp", [Details]);
notice(proxy_refused, #{reason := not_trusted} = Details) ->
    ?LOG_WARNING("Megaphone has closed a connection from an address that is none of the listener's trusted proxies: ~tp",
                 [Details]);
notice(proxy_refused, Details) ->
    ?LOG_WARNING("Megaphone has closed a connection that did not begin with a PROXY protocol header, as its listener wants "
                 "it: ~tp", [Details]);
notice(link_up, Details) ->
    ?LOG_NOTICE("A connection manager has a link to this node: ~0tp", [Details]);
notice(link_cut, Details) ->
    ?LOG_WARNING("A connection manager's link has lost its connection, and waits for another; its clients wait with it: ~0tp",
                 [Details]);
notice(link_resumed, Details) ->
    ?LOG_NOTICE("A connection manager's link goes on with another connection, nothing is lost: ~0tp", [Details]);
notice(link_lost, Details) ->
    ?LOG_WARNING("A connection manager's link is over, and the connections of the clients that it had: ~0tp", [Details]);
notice(link_refused, Details) ->
    ?LOG_WARNING("Megaphone has refused a connection to a listener for links of connection managers; one with another "
                 "secret, or none: ~0tp", [Details]);
notice(Kind, Details) ->
    ?LOG_NOTICE("Megaphone: ~tp ~tp", [Kind, Details]).
