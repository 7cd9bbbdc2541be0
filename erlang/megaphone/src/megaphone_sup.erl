%% The supervisor of all processes of the application.
%%
%% one_for_one: whoever starts again tells the library its new pid. With the registry its listeners end, and whoever
%% they were made for.
-module(megaphone_sup).
-behaviour(supervisor).

-export([start_link/0, init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Starters = [
        #{id => {megaphone_starter, N}, start => {megaphone_starter, start_link, [N]}}
        || N <- lists:seq(1, megaphone_starter:count())
    ],
    Log = #{id => megaphone_log, start => {megaphone_log, start_link, []}},
    Listener = #{id => megaphone_listener, start => {megaphone_listener, start_link, []}},
    Waker = #{id => megaphone_waker, start => {megaphone_waker, start_link, []}},
    {ok, {#{strategy => one_for_one, intensity => 5, period => 10}, [Log, Listener, Waker | Starters]}}.
