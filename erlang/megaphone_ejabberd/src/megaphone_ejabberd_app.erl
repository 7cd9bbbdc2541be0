%% The application of ejabberd's listeners and sessions. It has no processes: listeners are ejabberd's and Megaphone's,
%% sessions nobody's. It is there for its end.
-module(megaphone_ejabberd_app).
-behaviour(application).
-behaviour(supervisor).

-export([start/2, prep_stop/1, stop/1]).
-export([init/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Arguments) ->
    ok = megaphone_app:load_modules(megaphone_ejabberd),
    supervisor:start_link({local, megaphone_ejabberd_sup}, ?MODULE, []).

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) -> {ok, {#{}, []}}.

%% A node that stops ends applications in the reverse order of their starts: this one and megaphone before ejabberd, whose
%% users have to be told while they can be.
-spec prep_stop(State) -> State.
prep_stop(State) ->
    _ = is_node_stopping() andalso whereis(ejabberd_sup) =/= undefined andalso megaphone_ejabberd:say_goodbye(),
    State.

%% An operator who stops this application alone means no user.
is_node_stopping() -> element(1, init:get_status()) =:= stopping.

-spec stop(term()) -> ok.
stop(_State) -> ok.
