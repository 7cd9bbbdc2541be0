%% The supervisor of all processes of the application, and the keeper of its table.
%%
%% one_for_one: none of its children has anything that another one would lose with it.
-module(megaphone_sup).
-behaviour(supervisor).

-export([start_link/0, init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    ok = megaphone_registry:new(),
    Workers = [
        #{id => Module, start => {Module, start_link, []}}
        || Module <- [megaphone_log, megaphone_processes, megaphone_waker, megaphone_registry]
    ],
    Listeners = #{
        id => megaphone_listeners_sup,
        start => {megaphone_listeners_sup, start_link, []},
        type => supervisor,
        shutdown => infinity
    },
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10}, Workers ++ [Listeners]}}.
