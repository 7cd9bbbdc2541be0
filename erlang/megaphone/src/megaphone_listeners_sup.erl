%% The listeners of the application itself, and of ejabberd: a supervisor each, which starts again when it has failed.
-module(megaphone_listeners_sup).
-behaviour(supervisor).

-export([start_link/0, init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% A listener that fails again and again does so by itself: only many that do take the others along, and the way back
%% is to take over what they have left (megaphone_listener_sup).
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Child = #{
        id => listener,
        start => {megaphone_listener_sup, start_link, []},
        restart => transient,
        type => supervisor,
        shutdown => infinity
    },
    {ok, {#{strategy => simple_one_for_one, intensity => 100, period => 10}, [Child]}}.
