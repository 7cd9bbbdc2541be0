%% Processes whose state is packed while they hibernate: to whoever talks to one, looks at it or ends it, it is the same
%% process. First a server of our own, then sessions of a real ejabberd.
-module(megaphone_pack_SUITE).
-behaviour(gen_server).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2]).
-export([state_comes_back_equal/1, idle_process_packs_and_a_message_unpacks/1, process_woken_soon_sleeps_unpacked/1,
         process_woken_soon_packs_when_it_has_slept/1, timer_of_a_process_that_is_awake_is_no_message/1,
         process_dictionary_comes_back/1, sys_sees_the_state/1, traced_process_stays_traced/1,
         code_change_gets_the_state/1, failed_code_change_is_told/1, report_shows_the_state/1,
         large_state_does_not_pack/1, switched_off_nothing_packs/1, throw_is_a_return_value/1,
         bytes_that_were_not_packed_are_refused/1]).
-export([sessions_of_all_transports_pack/1, message_reaches_a_packed_session/1, packed_session_answers_ejabberd/1,
         packed_session_is_kicked/1, packed_session_is_stopped/1, packed_session_is_routed_to/1, reload_keeps_packed_sessions/1,
         packed_session_is_resumed/1, session_with_contacts_packs/1, pack_is_an_option/1]).
%% The server's, and functions for ejabberd's node.
-export([enter/2, init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, code_change/3, log/2]).
-export([await_packed/1, heap/1, route/2]).

-import(megaphone_ct_sessions, [account/1, call/4, ejabberd/1, session/2]).
-import(megaphone_ct_xmpp, [await/2, trailing/1]).

-define(TIMEOUT, 30000).
%% A list of a hundred words takes 200 on the heap; packed, all that the process has takes less.
-define(PACKED_WORDS, 200).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, server}, {group, sessions}].

groups() ->
    [{server, [],
      [state_comes_back_equal, idle_process_packs_and_a_message_unpacks, process_woken_soon_sleeps_unpacked,
       process_woken_soon_packs_when_it_has_slept, timer_of_a_process_that_is_awake_is_no_message,
       process_dictionary_comes_back,
       sys_sees_the_state, traced_process_stays_traced, code_change_gets_the_state, failed_code_change_is_told,
       report_shows_the_state,
       large_state_does_not_pack, switched_off_nothing_packs, throw_is_a_return_value,
       bytes_that_were_not_packed_are_refused]},
     {sessions, [],
      [sessions_of_all_transports_pack, message_reaches_a_packed_session, packed_session_answers_ejabberd,
       packed_session_is_kicked, packed_session_is_stopped, packed_session_is_routed_to, packed_session_is_resumed,
       session_with_contacts_packs, pack_is_an_option, reload_keeps_packed_sessions]}].

init_per_group(server, Config) ->
    {ok, _} = application:ensure_all_started(megaphone),
    Config;
init_per_group(sessions, Config) ->
    Started = megaphone_ct_sessions:start(megaphone, Config),
    Port = megaphone_ct_node:free_port(),
    ok = megaphone_ct_node:reload(ejabberd(Started),
                                  [megaphone_ct_sessions:listener(Started, Port, ["hibernate_after: 1", "pack_after: 1"])]),
    [{port, Port} | Started].

end_per_group(server, _Config) -> application:stop(megaphone);
end_per_group(sessions, Config) -> megaphone_ct_sessions:stop(Config).

%% --- a server

state_comes_back_equal(_Config) ->
    Captured = make_ref(),
    State = #{pid => self(), ref => make_ref(), port => hd(erlang:ports()), 'fun' => fun() -> Captured end,
              exported => fun lists:map/2, float => 1.5, big => 1 bsl 200, text => binary:copy(<<"é"/utf8>>, 300),
              bits => <<5:3>>, tuple => {a, [b | c]}, nested => #{#{} => []}, long => lists:seq(1, 100)},
    Server = server(State, #{}),
    ok = await_packed(Server),
    Came = gen_server:call(Server, get),
    ?assertEqual(State, Came),
    ?assertEqual(Captured, (maps:get('fun', Came))()).

idle_process_packs_and_a_message_unpacks(_Config) ->
    Server = server(lists:seq(1, 100), #{}),
    ok = await_packed(Server),
    ?assert(heap(Server) < ?PACKED_WORDS),
    Server ! {add, 0},
    ?assertEqual([0 | lists:seq(1, 100)], gen_server:call(Server, get)),
    %% And again.
    ok = await_packed(Server),
    ok = gen_server:cast(Server, {add, -1}),
    ?assertEqual([-1, 0 | lists:seq(1, 100)], gen_server:call(Server, get)).

%% It would be packed and unpacked for each message.
process_woken_soon_sleeps_unpacked(_Config) ->
    Server = server(lists:seq(1, 100), #{pack_after => 3600000}),
    ok = await_packed(Server),
    [begin
         Server ! {add, N},
         ok = await_hibernation(Server),
         ?assertMatch({dictionary, [_ | _]}, process_info(Server, dictionary))
     end || N <- [0, -1]],
    ?assertEqual([-1, 0 | lists:seq(1, 100)], gen_server:call(Server, get)).

%% No message but the timer's wakes it: one that did would show that it had.
process_woken_soon_packs_when_it_has_slept(_Config) ->
    Server = server([], #{pack_after => 500}),
    ok = await_packed(Server),
    Server ! {add, 0},
    ok = await_hibernation(Server),
    ok = await_packed(Server),
    ?assertEqual([0], gen_server:call(Server, get)).

timer_of_a_process_that_is_awake_is_no_message(_Config) ->
    Server = server([], #{}),
    Server ! {timeout, make_ref(), '$megaphone_pack'},
    ?assertEqual([], gen_server:call(Server, get)).

process_dictionary_comes_back(_Config) ->
    Server = server([], #{}),
    ok = gen_server:call(Server, {put, key, self()}),
    ok = await_packed(Server),
    Dictionary = gen_server:call(Server, dictionary),
    ?assertEqual(self(), proplists:get_value(key, Dictionary)),
    ?assertEqual({?MODULE, enter, 2}, proplists:get_value('$initial_call', Dictionary)),
    ?assertEqual(self(), hd(proplists:get_value('$ancestors', Dictionary))).

sys_sees_the_state(_Config) ->
    Server = server(shown, #{}),
    ok = await_packed(Server),
    ?assertEqual(shown, sys:get_state(Server)),
    ok = await_packed(Server),
    {status, Server, {module, _}, [_, running, _, [], Shown]} = sys:get_status(Server),
    ?assert(lists:member({data, [{"State", shown}]}, Shown)),
    ok = await_packed(Server),
    ?assertEqual({shown, new}, sys:replace_state(Server, fun(State) -> {State, new} end)),
    ok = await_packed(Server),
    ?assertEqual({shown, new}, sys:get_state(Server)),
    ok = await_packed(Server),
    ok = sys:suspend(Server),
    Server ! {add, 1},
    ok = sys:resume(Server),
    ?assertEqual([1 | {shown, new}], gen_server:call(Server, get)).

%% It hibernates with its state as it is: who traces has a device open.
traced_process_stays_traced(_Config) ->
    Server = server([], #{}),
    ok = await_packed(Server),
    ok = sys:log(Server, true),
    ok = await_hibernation(Server),
    Server ! {add, 1},
    ?assertEqual([1], gen_server:call(Server, get)),
    ok = await_hibernation(Server),
    {ok, Logged} = sys:log(Server, get),
    ?assert(lists:member({in, {add, 1}}, Logged)),
    ?assert(lists:member({noreply, [1]}, Logged)),
    ok = sys:log(Server, false),
    ok = await_packed(Server).

code_change_gets_the_state(_Config) ->
    Server = server(old, #{}),
    ok = await_packed(Server),
    ok = sys:suspend(Server),
    ok = sys:change_code(Server, ?MODULE, vsn, extra),
    ok = sys:resume(Server),
    ?assertEqual({changed, vsn, old, extra}, gen_server:call(Server, get)).

%% As with gen_server: what is thrown counts as returned, and who asked for the change learns of anything else.
failed_code_change_is_told(_Config) ->
    Server = server(old, #{}),
    ok = await_packed(Server),
    ok = sys:suspend(Server),
    ?assertMatch({error, _}, sys:change_code(Server, ?MODULE, vsn, {raise, error})),
    ?assertMatch({error, _}, sys:change_code(Server, ?MODULE, vsn, {raise, exit})),
    ?assertEqual(ok, sys:change_code(Server, ?MODULE, vsn, {raise, throw})),
    ok = sys:resume(Server),
    ?assertEqual(thrown, gen_server:call(Server, get)).

%% As gen_server's, with the state and the message.
report_shows_the_state(_Config) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    Server = server({state, of_the_dead}, #{}),
    Monitor = monitor(process, Server),
    ok = await_packed(Server),
    ok = gen_server:cast(Server, crash),
    receive {'DOWN', Monitor, process, _, Reason} -> ?assertMatch({crashed, [_ | _]}, Reason) after ?TIMEOUT -> ct:fail(alive) end,
    receive {terminated, {crashed, [_ | _]}, {state, of_the_dead}} -> ok after ?TIMEOUT -> ct:fail(not_terminated) end,
    Report = receive {logged, #{label := {gen_server, terminate}} = R} -> R after ?TIMEOUT -> ct:fail(no_report) end,
    ok = logger:remove_handler(?MODULE),
    ?assertMatch(#{name := Server, state := {state, of_the_dead}, last_message := {'$gen_cast', crash},
                   reason := {crashed, [_ | _]}}, Report),
    {Format, Arguments} = gen_server:format_log(Report),
    ?assertMatch({match, _}, re:run(io_lib:format(Format, Arguments), "of_the_dead")).

large_state_does_not_pack(_Config) ->
    State = lists:seq(1, 20000),
    Server = server(State, #{}),
    ok = await_hibernation(Server),
    ?assert(heap(Server) > 40000),
    ?assertEqual(State, gen_server:call(Server, get)).

switched_off_nothing_packs(_Config) ->
    Server = server(lists:seq(1, 1000), #{pack => 0}),
    ok = await_hibernation(Server),
    ?assert(heap(Server) > 2000),
    ?assertEqual(lists:seq(1, 1000), sys:get_state(Server)).

throw_is_a_return_value(_Config) ->
    Server = server(before, #{}),
    ok = gen_server:cast(Server, {throw, {noreply, thrown}}),
    ?assertEqual(thrown, gen_server:call(Server, get)).

bytes_that_were_not_packed_are_refused(_Config) ->
    [?assertError(badarg, megaphone_nif:unpack(Bytes))
     || Bytes <- [<<>>, <<0>>, <<1, 255, 255>>, <<255, 1, 0, 0>>, binary:copy(<<1>>, 1000)]],
    ?assertError(badarg, megaphone_nif:pack(-1, <<"state">>)),
    ?assertEqual(none, megaphone_nif:pack(200, <<"state">>)).

server(State, Options) ->
    proc_lib:spawn(?MODULE, enter, [{State, self()}, maps:merge(#{hibernate_after => 1, pack => 16384, pack_after => 1, kind => 3}, Options)]).

enter({State, Test}, Options) ->
    put(test, Test),
    megaphone_packing_server:enter_loop(?MODULE, Options, State, infinity).

init(State) -> {ok, State}.
handle_call(get, _From, State) -> {reply, State, State};
handle_call(dictionary, _From, State) -> {reply, get(), State, infinity};
handle_call({put, Key, Value}, From, State) ->
    put(Key, Value),
    gen_server:reply(From, ok),
    {noreply, State}.
handle_cast({add, Head}, State) -> {noreply, [Head | State]};
handle_cast({throw, Result}, _State) -> throw(Result);
handle_cast(crash, _State) -> error(crashed).
handle_info({add, Head}, State) -> {noreply, [Head | State], hibernate}.
terminate(Reason, State) -> get(test) ! {terminated, Reason, State}.
code_change(_OldVsn, _State, {raise, Class}) -> erlang:raise(Class, {ok, thrown}, []);
code_change(OldVsn, State, Extra) -> {ok, {changed, OldVsn, State, Extra}}.

%% A handler of logger.
log(#{msg := {report, Report}}, #{config := Test}) -> Test ! {logged, Report};
log(_Event, _Config) -> ok.

%% --- sessions

sessions_of_all_transports_pack(Config) ->
    Clients = [megaphone_ct_sessions:client(Config, Kind) || Kind <- megaphone_ct_sessions:kinds()],
    Jids = [megaphone_ct_client:await_online(Client) || Client <- Clients],
    Sessions = [session(Config, Jid) || Jid <- Jids],
    [begin
         ok = in_node(Config, await_packed, [Session]),
         ?assert(in_node(Config, heap, [Session]) < ?PACKED_WORDS)
     end || Session <- Sessions],
    [?assertMatch(#{stream_state := established}, megaphone_ct_sessions:state(Config, Jid)) || Jid <- Jids],
    [ok = megaphone_ct_client:quit(Client) || Client <- Clients].

message_reaches_a_packed_session(Config) ->
    {Socket, Jid} = packed(Config),
    ok = in_node(Config, route, [list_to_binary(Jid), <<"are you there">>]),
    ?assertMatch({match, _}, re:run(await(Socket, "</message>"), "are you there")),
    %% And what its client sends.
    ok = in_node(Config, await_packed, [session(Config, Jid)]),
    ok = gen_tcp:send(Socket, megaphone_ct_xmpp:ping("awake", 0)),
    _ = await(Socket, "id='awake'"),
    ok = gen_tcp:close(Socket).

packed_session_answers_ejabberd(Config) ->
    {Socket, Jid} = packed(Config),
    Session = session(Config, Jid),
    ?assertEqual(presence, element(1, call(Config, ejabberd_c2s, get_presence, [Session]))),
    ok = in_node(Config, await_packed, [Session]),
    {User, Server, Resource} = parts(Jid),
    ?assertEqual([Resource], call(Config, ejabberd_sm, get_user_resources, [User, Server])),
    ?assertMatch([_ | _], call(Config, ejabberd_sm, get_user_info, [User, Server, Resource])),
    ok = in_node(Config, await_packed, [Session]),
    ?assertEqual({list_to_binary(Jid), <<>>, <<>>},
                 setelement(2, call(Config, mod_admin_extra, get_presence, [User, Server]), <<>>)),
    ?assertMatch(#{user := User, resource := Resource}, megaphone_ct_sessions:state(Config, Jid)),
    ok = gen_tcp:close(Socket).

packed_session_is_kicked(Config) ->
    {Socket, Jid} = packed(Config),
    ok = megaphone_ct_sessions:admin(Config, kick_session, [Jid, "enough"]),
    ?assertMatch({match, _}, re:run(trailing(Socket), "enough.*</stream:stream>$")),
    ok = ended(Config, Jid).

packed_session_is_stopped(Config) ->
    {Socket, Jid} = packed(Config),
    ok = call(Config, ejabberd_c2s, stop_async, [session(Config, Jid)]),
    ?assertMatch({match, _}, re:run(trailing(Socket), "</stream:stream>$")),
    ok = ended(Config, Jid).

%% What ejabberd itself sends to a c2s, such as host_down when a host is taken off.
packed_session_is_routed_to(Config) ->
    {Socket, Jid} = packed(Config),
    true = call(Config, ejabberd_c2s, route, [session(Config, Jid), {exit, <<"by route">>}]),
    ?assertMatch({match, _}, re:run(trailing(Socket), "by route.*</stream:stream>$")),
    ok = ended(Config, Jid).

reload_keeps_packed_sessions(Config) ->
    {Socket, Jid} = packed(Config),
    ok = megaphone_ct_node:reload(ejabberd(Config), []),
    ok = gen_tcp:send(Socket, megaphone_ct_xmpp:ping("reloaded", 0)),
    _ = await(Socket, "id='reloaded'"),
    ?assertMatch(#{stream_state := established}, megaphone_ct_sessions:state(Config, Jid)),
    ok = gen_tcp:close(Socket).

%% The process that waits for its client hands its state to the next one (XEP-0198, 5).
packed_session_is_resumed(Config) ->
    {Account, Socket, Jid} = online(Config),
    Id = megaphone_ct_xmpp:enable_resumption(Socket),
    Session = session(Config, Jid),
    ok = in_node(Config, await_packed, [Session]),
    ok = megaphone_ct_xmpp:reset(Socket),
    ok = megaphone_ct_sessions:await_event(Config, {session_pending, list_to_binary(Jid)}),
    ok = in_node(Config, route, [list_to_binary(Jid), <<"meanwhile">>]),
    ok = in_node(Config, await_packed, [Session]),
    {Again, Came} = megaphone_ct_xmpp:resume(proplists:get_value(port, Config), Account, Id, "meanwhile.*</message>"),
    ?assertMatch({match, _}, re:run(Came, "<resumed")),
    ?assertNotEqual(Session, session(Config, Jid)),
    ok = gen_tcp:close(Again).

%% Contacts' addresses are nothing that other sessions have.
session_with_contacts_packs(Config) ->
    {_Account, Socket, Jid} = online(Config),
    [ok = gen_tcp:send(Socket, ["<presence to='", contact(N), "'/>"]) || N <- lists:seq(1, 18)],
    ok = gen_tcp:send(Socket, megaphone_ct_xmpp:ping("sent", 0)),
    _ = await(Socket, "id='sent'"),
    Session = session(Config, Jid),
    #{pres_a := _} = Before = call(Config, sys, get_state, [Session]),
    ok = in_node(Config, await_packed, [Session]),
    ?assert(in_node(Config, heap, [Session]) * 10 < 6 * call(Config, erts_debug, flat_size, [Before])),
    After = call(Config, sys, get_state, [Session]),
    ?assertEqual(maps:get(pres_a, Before), maps:get(pres_a, After)),
    ok = gen_tcp:close(Socket).

contact(N) -> ["friend", integer_to_list(erlang:phash2({N, ?MODULE})), "@localhost"].

pack_is_an_option(Config) ->
    Values = [{"true", true}, {"false", false}, {"on", true}, {"off", false}, {"3000", true}, {"1000", false}],
    Listeners = [{megaphone_ct_node:free_port(), Value, Packs} || {Value, Packs} <- Values],
    ok = megaphone_ct_node:reload(ejabberd(Config), [
        megaphone_ct_sessions:listener(Config, proplists:get_value(port, Config), ["hibernate_after: 1", "pack_after: 1"]) |
        [megaphone_ct_sessions:listener(Config, Port, ["hibernate_after: 1", "pack_after: 1", "pack: " ++ Value])
         || {Port, Value, _} <- Listeners]]),
    [begin
         {_, Socket, Jid} = online(Config, Port),
         Session = session(Config, Jid),
         ok = call(Config, megaphone_c2s_loop_SUITE, await_hibernation, [Session]),
         ?assertEqual({Value, Packs}, {Value, in_node(Config, heap, [Session]) < ?PACKED_WORDS}),
         ok = gen_tcp:close(Socket)
     end || {Port, Value, Packs} <- Listeners],
    [?assertMatch({error, _, _}, call(Config, econf, validate, [call(Config, megaphone_c2s, listen_opt_type, [pack]), Bad]))
     || Bad <- [0, -1, <<"much">>]].

%% --- helpers for sessions

%% Logs a new user in, who is available, and waits until the session is packed.
packed(Config) ->
    {_Account, Socket, Jid} = online(Config),
    ok = in_node(Config, await_packed, [session(Config, Jid)]),
    {Socket, Jid}.

online(Config) -> online(Config, proplists:get_value(port, Config)).

online(Config, Port) ->
    Account = account(Config),
    {Socket, Jid} = megaphone_ct_xmpp:login(Port, Account),
    ok = gen_tcp:send(Socket, "<presence/>"),
    _ = await(Socket, "<presence"),
    {Account, Socket, Jid}.

ended(Config, Jid) -> megaphone_ct_sessions:await_event(Config, {session_ended, list_to_binary(Jid)}).

parts(Jid) -> list_to_tuple([list_to_binary(Part) || Part <- string:lexemes(Jid, "@/")]).

in_node(Config, Function, Arguments) -> call(Config, ?MODULE, Function, Arguments).

%% --- in the process's node

%% A packed process has no dictionary.
await_packed(Pid) -> await(Pid, [{dictionary, []}], deadline()).

await_hibernation(Pid) -> await(Pid, [], deadline()).

deadline() -> erlang:monotonic_time(millisecond) + ?TIMEOUT.

await(Pid, Others, Deadline) ->
    Wanted = [{current_function, {erlang, hibernate, 3}}, {message_queue_len, 0} | Others],
    case process_info(Pid, [Key || {Key, _} <- Wanted]) of
        Wanted -> ok;
        Other ->
            erlang:monotonic_time(millisecond) < Deadline orelse error({not_packed, Other}),
            receive after 5 -> await(Pid, Others, Deadline) end
    end.

%% Its size in words.
heap(Pid) ->
    {total_heap_size, Words} = process_info(Pid, total_heap_size),
    Words.

route(To, Text) ->
    Element = {xmlel, <<"message">>,
               [{<<"type">>, <<"chat">>}, {<<"from">>, <<"localhost">>}, {<<"to">>, To}],
               [{xmlel, <<"body">>, [], [{xmlcdata, Text}]}]},
    ejabberd_router:route(xmpp:decode(Element, <<"jabber:client">>, [])).
