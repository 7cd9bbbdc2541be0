%% What is known of listeners by their number: which handlers they have, and what a reader wants to know about them.
%%
%% The table is the application's top supervisor's, so that no process can take it along. Each listener enters itself
%% (megaphone_listener), and again when it finds itself missing. The process here only removes what nobody removes: of
%% listeners for gen_tcp:accept, and of those whose supervisor was killed.
-module(megaphone_registry).
-behaviour(gen_server).

-export([start_link/0, new/0, insert/2, delete/1, lookup/1, of_name/1, all/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([facts/0]).

-include_lib("kernel/include/logger.hrl").

%% mode, owner, sockname (undefined where only a descriptor was given), name, supervisor, and either handlers or, in
%% mode accept, the options for accepted connections.
-type facts() :: #{mode := raw | http | xmpp | accept | links, owner := pid(), atom() => term()}.

%% How often entries of listeners that are no more are looked for, in milliseconds.
-define(SWEEP_INTERVAL, 60000).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Makes the table. The caller keeps it.
-spec new() -> ok.
new() ->
    ?MODULE = ets:new(?MODULE, [named_table, public, {read_concurrency, true}]),
    ok.

%% False while the application is not running.
-spec insert(megaphone:listener(), facts()) -> boolean().
insert(Listener, Facts) -> with_table(fun() -> ets:insert(?MODULE, {Listener, Facts}) end, false).

-spec delete(megaphone:listener()) -> boolean().
delete(Listener) -> with_table(fun() -> ets:delete(?MODULE, Listener) end, false).

-spec lookup(megaphone:listener()) -> {ok, facts()} | error.
lookup(Listener) ->
    case with_table(fun() -> ets:lookup(?MODULE, Listener) end, []) of
        [{_, Facts}] -> {ok, Facts};
        [] -> error
    end.

%% The listeners that have had this name, and may be no more.
-spec of_name(term()) -> [megaphone:listener()].
of_name(Name) -> [Listener || {Listener, #{name := Its}} <- all(), Its =:= Name].

%% By number. None while the application is not running.
-spec all() -> [{megaphone:listener(), facts()}].
all() -> lists:sort(with_table(fun() -> ets:tab2list(?MODULE) end, [])).

with_table(Operation, Otherwise) ->
    try Operation()
    catch error:badarg -> Otherwise
    end.

%% --- the process

-spec init([]) -> {ok, no_state}.
init([]) ->
    self() ! sweep,
    {ok, no_state}.

-spec handle_call(term(), gen_server:from(), State) -> {reply, {error, unknown_call}, State}.
handle_call(Call, _From, State) ->
    ?LOG_WARNING("megaphone_registry got an unexpected call: ~tp", [Call]),
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), State) -> {noreply, State}.
handle_cast(Message, State) ->
    ?LOG_WARNING("megaphone_registry got an unexpected message: ~tp", [Message]),
    {noreply, State}.

-spec handle_info(term(), State) -> {noreply, State}.
handle_info(sweep, State) ->
    _ = [delete(Listener) || {Listener, Facts} <- all(), not is_kept(Listener, Facts)],
    _ = erlang:send_after(?SWEEP_INTERVAL, self(), sweep),
    {noreply, State};
handle_info(Message, State) ->
    ?LOG_WARNING("megaphone_registry got an unexpected message: ~tp", [Message]),
    {noreply, State}.

is_kept(_Listener, #{supervisor := Supervisor}) when node(Supervisor) =:= node() -> is_process_alive(Supervisor);
is_kept(Listener, _Facts) -> megaphone_nif:listener_info(Listener) =/= {error, closed}.
