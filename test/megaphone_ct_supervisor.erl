%% A supervisor of the given children, for tests.
-module(megaphone_ct_supervisor).
-behaviour(supervisor).

-export([init/1]).

-spec init([supervisor:child_spec()]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Children) -> {ok, {#{strategy => one_for_one, intensity => 5, period => 10}, Children}}.
