%% A gen_server whose state is packed while it hibernates: the loop, for callback modules of gen_server.
%%
%% gen_server keeps its state on the heap of a hibernating process, and shows it to sys as it is. This loop keeps
%% the state, its own data and the process dictionary as one integer (see hibernate/2), and any message restores them before
%% it is looked at. So callbacks, sys (get_state, replace_state, trace, code change) and reports see the real state only.
%% While the process hibernates packed, process_info(Pid, dictionary) is empty.
%%
%% To pack and unpack costs more than to hibernate. So a process that was woken within pack_after hibernates as it is the next
%% time, and packs when it has slept for pack_after. One that sleeps longer than that between any two messages is
%% packed all the time.
%%
%% Where this is not gen_server: the process has no parent, and there are no handle_continue and no {stop, _, Reply, _}.
-module(megaphone_packing_server).

-export([enter_loop/4]).
%% Called when a message wakes the process.
-export([wake/1]).
%% Called by sys.
-export([system_continue/3, system_terminate/4, system_code_change/4, system_get_state/1, system_replace_state/2,
         format_status/2]).

-export_type([options/0]).

%% hibernate_after: milliseconds without a message, as gen_server's. pack: states of at most so many bytes in external
%% term format are packed, 0: none. pack_after: milliseconds of sleep that are worth packing, 0: any. kind: states of one
%% kind are alike, 0 to 3.
-type options() :: #{hibernate_after := timeout(), pack := non_neg_integer(), pack_after := non_neg_integer(),
                     kind := 0..3}.

%% The message of a timer: the process has slept for pack_after.
-define(PACK, '$megaphone_pack').

-record(loop, {
    module :: module(),
    hibernate_after :: timeout(),
    pack :: non_neg_integer(),
    pack_after :: non_neg_integer(),
    kind :: 0..3,
    %% Whether it was woken within pack_after the last time.
    sleeps = long :: long | short,
    debug = [] :: [sys:dbg_opt()]
}).

-type time() :: timeout() | hibernate.
-type misc() :: {State :: term(), time(), #loop{}}.

%% Makes the calling process, one of proc_lib, a server.
-spec enter_loop(module(), options(), State :: term(), time()) -> no_return().
enter_loop(Module, #{hibernate_after := After, pack := Pack, pack_after := PackAfter, kind := Kind}, State, Time) ->
    loop(State, Time, #loop{module = Module, hibernate_after = After, pack = Pack, pack_after = PackAfter, kind = Kind}).

-spec loop(term(), time(), #loop{}) -> no_return().
loop(State, infinity, #loop{hibernate_after = After} = Loop) ->
    receive Message -> message(Message, State, infinity, Loop)
    after After -> hibernate(State, Loop)
    end;
loop(State, hibernate, Loop) ->
    hibernate(State, Loop);
loop(State, Time, Loop) ->
    receive Message -> message(Message, State, Time, Loop)
    after Time -> message(timeout, State, Time, Loop)
    end.

message({system, From, Request}, State, Time, #loop{debug = Debug} = Loop) ->
    sys:handle_system_msg(Request, From, self(), ?MODULE, Debug, {State, Time, Loop});
%% Its timer was too late to be cancelled: another message had come.
message({timeout, _Timer, ?PACK}, State, Time, Loop) ->
    loop(State, Time, Loop);
message(Message, State, _Time, Loop) ->
    Loop1 = debug({in, Message}, Loop),
    next(dispatch(Message, State, Loop1#loop.module), Message, State, Loop1).

%% As in gen_server, what a callback throws is what it returns.
dispatch(Message, State, Module) ->
    try callback(Message, State, Module)
    catch
        throw:Result -> Result;
        Class:Reason:Stack -> {'EXIT', Class, Reason, Stack}
    end.

callback({'$gen_call', From, Call}, State, Module) -> Module:handle_call(Call, From, State);
callback({'$gen_cast', Cast}, State, Module) -> Module:handle_cast(Cast, State);
callback(Info, State, Module) -> Module:handle_info(Info, State).

next({noreply, State}, Message, Old, Loop) ->
    next({noreply, State, infinity}, Message, Old, Loop);
next({noreply, State, Time}, _Message, _Old, Loop) ->
    loop(State, Time, debug({noreply, State}, Loop));
next({reply, Reply, State}, Message, Old, Loop) ->
    next({reply, Reply, State, infinity}, Message, Old, Loop);
next({reply, Reply, State, Time}, {'$gen_call', From, _}, _Old, Loop) ->
    gen_server:reply(From, Reply),
    loop(State, Time, debug({out, Reply, From, State}, Loop));
next({stop, Reason, State}, Message, _Old, Loop) ->
    stop(exit, Reason, [], Message, State, Loop);
next({'EXIT', Class, Reason, Stack}, Message, Old, Loop) ->
    stop(Class, Reason, Stack, Message, Old, Loop);
next(Other, Message, Old, Loop) ->
    stop(exit, {bad_return_value, Other}, [], Message, Old, Loop).

%% --- hibernating

%% A large integer lies on the heap as its bytes and a word. A binary of more than 64 bytes would be a block of its own, a
%% reference to it, and a header.
%%
%% Who watches the process (sys:trace/2 and the like) has functions and devices in its debug options: they stay as they are.
-spec hibernate(term(), #loop{}) -> no_return().
hibernate(State, #loop{debug = [], pack = Max, sleeps = short, pack_after = After} = Loop) when Max > 0 ->
    Timer = erlang:start_timer(After, self(), ?PACK),
    proc_lib:hibernate(?MODULE, wake, [{State, Loop, Timer}]);
hibernate(State, #loop{debug = []} = Loop) ->
    hibernate_packed(State, Loop, now_ms());
hibernate(State, Loop) ->
    proc_lib:hibernate(?MODULE, wake, [{State, Loop}]).

%% Since is when it fell asleep.
hibernate_packed(State, Loop, Since) ->
    case pack(State, Loop, Since) of
        none ->
            proc_lib:hibernate(?MODULE, wake, [{State, Loop}]);
        Packed ->
            _ = erase(),
            proc_lib:hibernate(?MODULE, wake, [binary:decode_unsigned(Packed)])
    end.

pack(_State, #loop{pack = 0}, _Since) ->
    none;
pack(State, #loop{pack = Max, kind = Kind} = Loop, Since) ->
    %% Erlang's newer versions shorten atoms in other ways; this is the format of all that read it here.
    case term_to_binary({State, Loop, Since, get()}, [{minor_version, 2}]) of
        External when byte_size(External) =< Max -> megaphone_nif:pack(Kind, External);
        _ -> none
    end.

%% The message that has woken the process is still in its mailbox.
-spec wake(Packed :: pos_integer() | {term(), #loop{}} | {term(), #loop{}, reference()}) -> no_return().
wake({State, Loop}) ->
    loop(State, infinity, Loop);
wake({State, #loop{pack_after = After} = Loop, Timer}) ->
    receive
        {timeout, Timer, ?PACK} -> hibernate_packed(State, Loop#loop{sleeps = long}, now_ms() - After)
    after 0 ->
        _ = erlang:cancel_timer(Timer, [{async, true}, {info, false}]),
        loop(State, infinity, Loop)
    end;
wake(Packed) ->
    {State, Loop, Since, Dictionary} = binary_to_term(megaphone_nif:unpack(binary:encode_unsigned(Packed))),
    lists:foreach(fun({Key, Value}) -> put(Key, Value) end, Dictionary),
    loop(State, infinity, Loop#loop{sleeps = sleeps(now_ms() - Since, Loop)}).

sleeps(Slept, #loop{pack_after = After}) when Slept < After -> short;
sleeps(_Slept, _Loop) -> long.

now_ms() -> erlang:monotonic_time(millisecond).

%% --- sys

-spec system_continue(pid(), [sys:dbg_opt()], misc()) -> no_return().
system_continue(_Parent, Debug, {State, Time, Loop}) -> loop(State, Time, Loop#loop{debug = Debug}).

-spec system_terminate(term(), pid(), [sys:dbg_opt()], misc()) -> no_return().
system_terminate(Reason, _Parent, Debug, {State, _Time, Loop}) ->
    stop(exit, Reason, [], [], State, Loop#loop{debug = Debug}).

-spec system_code_change(misc(), module(), term(), term()) -> {ok, misc()} | term().
system_code_change({State, Time, #loop{module = Module} = Loop}, _Module, OldVsn, Extra) ->
    case changed(Module, OldVsn, State, Extra) of
        {ok, NewState} -> {ok, {NewState, Time, Loop}};
        Other -> Other
    end.

%% What is thrown is returned, as in gen_server. sys answers its caller what was raised otherwise, and the process goes on.
changed(Module, OldVsn, State, Extra) ->
    try Module:code_change(OldVsn, State, Extra)
    catch throw:Returned -> Returned
    end.

-spec system_get_state(misc()) -> {ok, term()}.
system_get_state({State, _Time, _Loop}) -> {ok, State}.

-spec system_replace_state(fun((term()) -> term()), misc()) -> {ok, term(), misc()}.
system_replace_state(Replace, {State, Time, Loop}) ->
    NewState = Replace(State),
    {ok, NewState, {NewState, Time, Loop}}.

%% What gen_server shows.
-spec format_status(normal | terminate, [term()]) -> [term()].
format_status(_Why, [_Dictionary, SysState, Parent, Debug, {State, _Time, #loop{module = Module}}]) ->
    [{header, io_lib:format("Status for packing server ~tp of ~tp", [self(), Module])},
     {data, [{"Status", SysState}, {"Parent", Parent}, {"Logged events", sys:get_log(Debug)}]},
     {data, [{"State", State}]}].

debug(_Event, #loop{debug = []} = Loop) -> Loop;
debug(Event, #loop{debug = Debug} = Loop) ->
    Loop#loop{debug = sys:handle_debug(Debug, fun print_event/3, self(), Event)}.

print_event(Device, {in, Message}, Name) -> io:format(Device, "*DBG* ~tp got ~tp~n", [Name, Message]);
print_event(Device, {out, Reply, {To, _}, State}, Name) ->
    io:format(Device, "*DBG* ~tp sent ~tp to ~tp, new state ~tp~n", [Name, Reply, To, State]);
print_event(Device, {noreply, State}, Name) -> io:format(Device, "*DBG* ~tp new state ~tp~n", [Name, State]).

%% --- the end

%% As in gen_server: terminate/2, a report where it is no ordinary end, and the end.
-spec stop(exit | error | throw, term(), list(), term(), term(), #loop{}) -> no_return().
stop(Class, Reason, Stack, Message, State, #loop{module = Module} = Loop) ->
    try Module:terminate(full_reason(Class, Reason, Stack), State) of
        _ -> finish(Class, Reason, Stack, Message, State, Loop)
    catch
        throw:_ -> finish(Class, Reason, Stack, Message, State, Loop);
        NewClass:NewReason:NewStack -> finish(NewClass, NewReason, NewStack, Message, State, Loop)
    end.

full_reason(error, Reason, Stack) -> {Reason, Stack};
full_reason(_Class, Reason, _Stack) -> Reason.

-spec finish(exit | error | throw, term(), list(), term(), term(), #loop{}) -> no_return().
finish(Class, Reason, Stack, Message, State, Loop) ->
    case is_ordinary(Class, Reason) of
        true -> ok;
        false -> report(Reason, Stack, Message, State, Loop)
    end,
    erlang:raise(Class, Reason, Stack).

is_ordinary(exit, normal) -> true;
is_ordinary(exit, shutdown) -> true;
is_ordinary(exit, {shutdown, _}) -> true;
is_ordinary(_Class, _Reason) -> false.

%% gen_server's report, so that whatever formats that one formats this.
report(Reason, Stack, Message, State, #loop{debug = Debug}) ->
    logger:error(#{label => {gen_server, terminate},
                   name => self(),
                   last_message => Message,
                   state => State,
                   log => sys:get_log(Debug),
                   reason => with_stack(Reason, Stack),
                   client_info => client_info(Message),
                   %% Where proc_lib keeps it from OTP 27 on, whose gen_server formats no report without it.
                   process_label => get('$process_label')},
                 #{domain => [otp],
                   report_cb => fun gen_server:format_log/2,
                   error_logger => #{tag => error, report_cb => fun gen_server:format_log/1}}).

with_stack(Reason, []) -> Reason;
with_stack(Reason, Stack) -> {Reason, Stack}.

client_info({'$gen_call', {Pid, _Tag}, _}) -> {Pid, remote};
client_info(_Message) -> undefined.
