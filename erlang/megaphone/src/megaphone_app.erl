%% Loads the native library before the first process that calls it, and closes all connections when it is stopped.
-module(megaphone_app).
-behaviour(application).

-export([start/2, prep_stop/1, stop/1, is_stopped/0, load_modules/1]).

-include_lib("kernel/include/logger.hrl").

%% Milliseconds that links may take to end; the library gives them 2,000.
-define(LINKS_END, 4000).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Arguments) ->
    case megaphone_nif:load() of
        ok ->
            ok = load_modules(megaphone),
            megaphone_sup:start_link();
        {error, {cannot_load, File, Why, Fix} = Reason} ->
            ?LOG_CRITICAL("Megaphone cannot load its native library ~ts: ~ts. To fix it, ~ts.", [File, Why, Fix]),
            {error, Reason}
    end.

%% An upgrade of the package removes the files of a node that runs, or changes them: what they hold is loaded before.
-spec load_modules(Application :: atom()) -> ok.
load_modules(Application) ->
    {ok, Modules} = application:get_key(Application, modules),
    _ = code:ensure_modules_loaded(Modules),  % one that cannot be loaded says so where it is called
    ok.

%% Before the processes end, so that none gets a start message that nobody will answer. Where they have ended by
%% themselves, what the library has is left alone, for whoever starts the application again.
-spec prep_stop(State) -> State.
prep_stop(State) ->
    _ = whereis(megaphone_sup) =:= undefined orelse close_all(),
    State.

%% The name goes with this process, which ends when the application has. No call to the application controller: on the
%% way to a halt it waits for this function.
close_all() ->
    true = register(megaphone_stopping, self()),
    ok = megaphone_nif:stop(),
    await_links(erlang:monotonic_time(millisecond) + ?LINKS_END).

%% What clients of connection managers were told is on its way until their links have ended. Who halts the node before that has
%% them told nothing.
await_links(Deadline) ->
    case megaphone_nif:links() =:= [] orelse erlang:monotonic_time(millisecond) > Deadline of
        true -> ok;
        false -> receive after 10 -> await_links(Deadline) end
    end.

%% Whether the application does not run, or is being stopped.
-spec is_stopped() -> boolean().
is_stopped() -> whereis(megaphone_stopping) =/= undefined orelse whereis(megaphone_sup) =:= undefined.

-spec stop(term()) -> ok.
stop(_State) -> ok.
