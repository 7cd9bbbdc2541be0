%% Keeps connections from taking the last processes that the node may have (+P of erl): at its limit the node can start
%% none, whatever for, and what ejabberd needs one for fails.
%%
%% A part of the limit is reserved. Where the node comes that near, no more connections are accepted, and clients wait in
%% the kernel's backlog. Starters go on into half of the reserve, for requests and sessions of those who are in already;
%% then these wait, too. The other half is the node's own.
-module(megaphone_processes).
-behaviour(gen_server).

-export([start_link/0, has_room/0, is_short/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include_lib("kernel/include/logger.hrl").

%% When the log was told that there is no room, and whether it has yet to be told that there is.
-type state() :: #{told_at := integer() | never, is_told := boolean()}.

%% How often processes are counted, in milliseconds: far from the limit, and near it.
-define(FAR_INTERVAL, 1000).
-define(NEAR_INTERVAL, 100).

%% How often the log is told, in milliseconds.
-define(LOG_INTERVAL, 60000).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Whether a starter may start another process. It costs less than a microsecond.
-spec has_room() -> boolean().
has_room() -> room(reserve() div 2) > 0.

%% Whether no connections are accepted.
-spec is_short() -> boolean().
is_short() -> room(reserve()) =:= 0.

room(Reserve) -> max(0, limit() - Reserve - erlang:system_info(process_count)).

limit() -> erlang:system_info(process_limit).

%% A hundredth, and what a small node needs for itself.
reserve() -> max(64, limit() div 100).

%% --- the process

-spec init([]) -> {ok, state()}.
init([]) -> {ok, count(#{told_at => never, is_told => false})}.

-spec handle_call(term(), gen_server:from(), state()) -> {reply, {error, unknown_call}, state()}.
handle_call(Call, _From, State) ->
    ?LOG_WARNING("megaphone_processes got an unexpected call: ~tp", [Call]),
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), state()) -> {noreply, state()}.
handle_cast(Message, State) ->
    ?LOG_WARNING("megaphone_processes got an unexpected message: ~tp", [Message]),
    {noreply, State}.

-spec handle_info(term(), state()) -> {noreply, state()}.
handle_info(count, State) ->
    {noreply, count(State)};
handle_info(Message, State) ->
    ?LOG_WARNING("megaphone_processes got an unexpected message: ~tp", [Message]),
    {noreply, State}.

%% The library counts down from here, so that not even the connections of one interval take the reserve.
count(State) ->
    Reserve = reserve(),
    Room = room(Reserve),
    ok = megaphone_nif:set_process_room(Room),
    Interval = if Room < 10 * Reserve -> ?NEAR_INTERVAL; true -> ?FAR_INTERVAL end,
    _ = erlang:send_after(Interval, self(), count),
    tell(Room, State, erlang:monotonic_time(millisecond)).

tell(0, #{told_at := ToldAt} = State, Now) when ToldAt =:= never; Now - ToldAt >= ?LOG_INTERVAL ->
    ?LOG_WARNING("Megaphone accepts no connections, and clients wait: the node has ~w of at most ~w processes. For more, "
                 "start it with a higher limit: erl's +P, which ejabberdctl takes from ERL_PROCESSES in ejabberdctl.cfg "
                 "(on Debian, /etc/default/ejabberd)", [erlang:system_info(process_count), limit()]),
    State#{told_at := Now, is_told := true};
tell(Room, #{is_told := true} = State, _Now) when Room > 0 ->
    ?LOG_NOTICE("Megaphone accepts connections again: the node has room for more processes"),
    State#{is_told := false};
tell(_Room, State, _Now) ->
    State.
