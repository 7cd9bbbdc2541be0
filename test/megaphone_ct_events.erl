%% What happens to sessions in ejabberd, told by its hooks, for tests that have to wait until it has happened.
%%
%% It runs in ejabberd's node. An event stays until it is asked for.
-module(megaphone_ct_events).

-export([start/1]).
%% Called in ejabberd's node.
-export([install/0, await/1, await_held_polls/1, remaining_processes/2, flood/2]).
%% Hooks.
-export([authenticated/3, session_pending/1, session_ended/2]).

-export_type([event/0]).

-type event() ::
    {authenticated, User :: binary()}       % answered with the SASL mechanism
    | {session_pending, Jid :: binary()}    % its connection is gone and it can be resumed (XEP-0198)
    | {session_ended, Jid :: binary()}.     % and what had come for it too late has gone elsewhere

-define(TIMEOUT, 25000).

%% Returns a function that waits for an event in this node.
-spec start(megaphone_ct_node:ejabberd()) -> fun((event()) -> term()).
start(Ejabberd) ->
    ok = megaphone_ct_node:call(Ejabberd, ?MODULE, install, []),
    fun(Event) -> megaphone_ct_node:call(Ejabberd, ?MODULE, await, [Event]) end.

-spec install() -> ok.
install() ->
    true = register(?MODULE, spawn(fun() -> collect(#{}, #{}) end)),
    Host = <<"localhost">>,
    ok = ejabberd_hooks:add(c2s_auth_result, Host, ?MODULE, authenticated, 1),
    ok = ejabberd_hooks:add(c2s_session_pending, Host, ?MODULE, session_pending, 1),
    %% After ejabberd_c2s, which removes the session and then routes what it finds in its mailbox.
    ok = ejabberd_hooks:add(c2s_terminated, Host, ?MODULE, session_ended, 101).

-spec await(event()) -> term().
await(Event) ->
    Reference = monitor(process, ?MODULE),
    ?MODULE ! {await, Event, {self(), Reference}},
    receive
        {Reference, Answer} ->
            true = demonitor(Reference, [flush]),
            Answer;
        {'DOWN', Reference, process, _, Reason} ->
            error(Reason)
    after ?TIMEOUT ->
        error({did_not_happen, Event})
    end.

%% Waits until Megaphone holds so many BOSH requests. Nothing in Erlang happens when one comes, so it has to look.
-spec await_held_polls(non_neg_integer()) -> ok.
await_held_polls(Count) -> await_held_polls(Count, erlang:monotonic_time(millisecond) + ?TIMEOUT).

await_held_polls(0, _Deadline) ->
    ok;
await_held_polls(Count, Deadline) ->
    Held = [Conn || Conn <- megaphone:connections(), {ok, #{phase := held}} <- [megaphone:info(Conn)]],
    case length(Held) of
        Enough when Enough >= Count ->
            ok;
        TooFew ->
            erlang:monotonic_time(millisecond) < Deadline orelse error({held_polls, TooFew}),
            receive after 10 -> await_held_polls(Count, Deadline) end
    end.

%% Of the processes that are not among those, waits until all but Count have ended, and says which remain and what they
%% are.
-spec remaining_processes(Others :: [pid()], Count :: non_neg_integer()) -> [{pid(), term()}].
remaining_processes(Others, Count) ->
    New = maps:from_list([{monitor(process, Pid), Pid} || Pid <- processes() -- [self() | Others]]),
    Remaining = await_ends(New, Count),
    [{Pid, proc_lib:translate_initial_call(Pid)} || Pid <- maps:values(Remaining)].

await_ends(Processes, Count) when map_size(Processes) =< Count ->
    _ = [demonitor(Monitor, [flush]) || Monitor <- maps:keys(Processes)],
    Processes;
await_ends(Processes, Count) ->
    receive
        {'DOWN', Monitor, process, _, _} -> await_ends(maps:remove(Monitor, Processes), Count)
    after ?TIMEOUT ->
        await_ends(Processes, map_size(Processes))
    end.

%% Has a process find this many messages in its queue, and returns the reason with which it exits.
-spec flood(pid(), pos_integer()) -> term().
flood(Pid, Messages) ->
    Monitor = monitor(process, Pid),
    true = erlang:suspend_process(Pid),
    _ = [Pid ! {?MODULE, noise} || _ <- lists:seq(1, Messages)],
    true = erlang:resume_process(Pid),
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> Reason
    after ?TIMEOUT ->
        error({survived, process_info(Pid, message_queue_len)})
    end.

%% --- hooks

-spec authenticated(map(), true | {false, binary()}, binary()) -> map().
authenticated(#{sasl_mech := Mechanism} = State, true, User) ->
    happened({authenticated, User}, Mechanism),
    State;
authenticated(State, _, _) ->
    State.

-spec session_pending(map()) -> map().
session_pending(#{jid := Jid} = State) ->
    happened({session_pending, jid:encode(Jid)}, ok),
    State.

-spec session_ended(map(), term()) -> map().
session_ended(#{jid := Jid} = State, _Reason) ->
    happened({session_ended, jid:encode(Jid)}, ok),
    State;
session_ended(State, _Reason) ->
    State.

happened(Event, Answer) ->
    ?MODULE ! {happened, Event, Answer},
    ok.

collect(Happened, Waiting) ->
    receive
        {happened, Event, Answer} ->
            case maps:take(Event, Waiting) of
                {Waiter, Others} -> answer(Waiter, Answer), collect(Happened, Others);
                error -> collect(Happened#{Event => Answer}, Waiting)
            end;
        {await, Event, Waiter} ->
            case maps:take(Event, Happened) of
                {Answer, Others} -> answer(Waiter, Answer), collect(Others, Waiting);
                error -> collect(Happened, Waiting#{Event => Waiter})
            end
    end.

answer({Pid, Reference}, Answer) -> Pid ! {Reference, Answer}.
