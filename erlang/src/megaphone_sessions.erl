%% The process that stands for the transport of every native XMPP session. xmpp_socket wants a socket to have an owner:
%% its c2s monitors that process, and has lost its client when it ends. Here no process carries a session, so it is this
%% one, which ends with the application.
%%
%% A process of its own, and one that does nothing: whatever else went wrong in it would cost every session.
%%
%% Its pid is a persistent term and not only a name: a c2s that outlives the application for a moment can still log it,
%% and one that monitors it then is told at once.
-module(megaphone_sessions).
-behaviour(gen_server).

-export([start_link/0, pid/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include_lib("kernel/include/logger.hrl").

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% The process, or the last one while it is being restarted.
-spec pid() -> pid().
pid() -> persistent_term:get(?MODULE).

-spec init([]) -> {ok, no_state, hibernate}.
init([]) ->
    ok = persistent_term:put(?MODULE, self()),
    {ok, no_state, hibernate}.

-spec handle_call(term(), gen_server:from(), no_state) -> {reply, {error, unknown_call}, no_state}.
handle_call(Call, _From, State) ->
    ?LOG_WARNING("megaphone_sessions got an unexpected call: ~tp", [Call]),
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), no_state) -> {noreply, no_state}.
handle_cast(Message, State) ->
    ?LOG_WARNING("megaphone_sessions got an unexpected message: ~tp", [Message]),
    {noreply, State}.

-spec handle_info(term(), no_state) -> {noreply, no_state}.
handle_info(Message, State) ->
    ?LOG_WARNING("megaphone_sessions got an unexpected message: ~tp", [Message]),
    {noreply, State}.
