%% Listeners with handlers of one's own, and what happens to connections when a process, a thread or the application
%% ends.
-module(megaphone_api_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([handlers_are_funs_and_mfas/1, listener_on_a_descriptor/1, listener_on_a_socket/1, listeners_on_another_inet_backend/1, listeners_are_listed/1,
         bad_arguments_are_refused/1, stopped_listener_keeps_its_connections/1, closed_connection_is_gone/1,
         crashing_handler_is_logged_once/1, handler_that_does_not_start_costs_its_connection/1,
         handler_that_ignores_closes_quietly/1, starter_that_uses_a_socket_does_not_own_it/1,
         starter_hands_over_by_controlling_process/1, active_data_before_the_hand_over_are_the_owners/1]).
-export([drain_waits_for_connections/1, drain_closes_what_is_left/1, handlers_belong_to_the_caller/1,
         processes_are_otp_processes/1, listener_in_a_tree_of_ones_own/1]).
-export([killed_handler_closes_its_connection/1, killed_starter_loses_no_start/1, killed_starter_leaks_no_connection/1,
         killed_processes_cost_nothing/1,
         failed_application_leaves_connections_alone/1, stopped_application_closes_connections/1,
         accept_pauses_at_max_connections/1,
         notices_wait_for_the_log/1, missing_library_is_named/1, reactor_panic_costs_one_connection/1]).
%% Handlers and functions for other nodes.
-export([echo/1, greet/2, does_not_start/1, refuses/1, start_late/1, start_by/2, listen_for_echo/0, panic/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sockets, [receive_all/1]).

-define(LOOPBACK, {127, 0, 0, 1}).
-define(TIMEOUT, 10000).

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    [handlers_are_funs_and_mfas, listener_on_a_descriptor, listener_on_a_socket,
     listeners_on_another_inet_backend, listeners_are_listed,
     bad_arguments_are_refused, stopped_listener_keeps_its_connections, closed_connection_is_gone,
     crashing_handler_is_logged_once, handler_that_does_not_start_costs_its_connection,
     handler_that_ignores_closes_quietly, starter_that_uses_a_socket_does_not_own_it,
     starter_hands_over_by_controlling_process, active_data_before_the_hand_over_are_the_owners,
     drain_waits_for_connections, drain_closes_what_is_left, handlers_belong_to_the_caller,
     processes_are_otp_processes, listener_in_a_tree_of_ones_own,
     killed_handler_closes_its_connection, killed_starter_loses_no_start, killed_starter_leaks_no_connection,
     killed_processes_cost_nothing,
     failed_application_leaves_connections_alone, stopped_application_closes_connections,
     accept_pauses_at_max_connections, notices_wait_for_the_log, missing_library_is_named, reactor_panic_costs_one_connection].

init_per_suite(Config) -> Config.

end_per_suite(_Config) -> ok.

init_per_testcase(_Case, Config) ->
    {ok, _} = application:ensure_all_started(megaphone),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = application:stop(megaphone),
    application:unset_env(megaphone, max_connections).

%% --- handlers

echo(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Data} -> ok = gen_tcp:send(Socket, Data), echo(Socket);
        {error, closed} -> ok
    end.

greet(Socket, Name) -> gen_tcp:send(Socket, ["hello ", Name]).

does_not_start(_Socket) -> {error, busy}.

refuses(Socket) ->
    ok = gen_tcp:send(Socket, "full"),
    ignore.

%% Does in the starter whatever it is told.
start_by(Socket, Start) -> Start(Socket).

%% Waits in the starter until it is told to go on, which the test process does by name.
start_late(Socket) ->
    ?MODULE ! {starting, self()},
    receive go -> {ok, spawn(fun() -> echo(Socket) end)} end.

start(Handler) -> start(Handler, #{}).

start(Handler, Options) ->
    {ok, Listener} = megaphone:start_listener(0, Handler, Options#{socket => [{ip, ?LOOPBACK}]}),
    {Listener, port(Listener)}.

port(Listener) ->
    [{_, Port}] = [SockName || #{id := Id, sockname := SockName} <- megaphone:listeners(), Id =:= Listener],
    Port.

connect(Port) ->
    {ok, Socket} = gen_tcp:connect(?LOOPBACK, Port, [binary, {active, false}], ?TIMEOUT),
    Socket.

%% A connection whose handler is known to run.
connect_to_echo(Port) ->
    Socket = connect(Port),
    echoes(Socket),
    Socket.

echoes(Socket) ->
    ok = gen_tcp:send(Socket, "echo?"),
    ?assertEqual({ok, <<"echo?">>}, gen_tcp:recv(Socket, 5, ?TIMEOUT)).

await_closed(Socket) -> ?assertEqual({error, closed}, gen_tcp:recv(Socket, 0, ?TIMEOUT)).

is_refused(Port) -> {error, econnrefused} =:= gen_tcp:connect(?LOOPBACK, Port, [], ?TIMEOUT).

%% --- cases

handlers_are_funs_and_mfas(_Config) ->
    {_, FunPort} = start(fun(Socket) -> gen_tcp:send(Socket, "hello fun") end),
    {_, MfaPort} = start({?MODULE, greet, ["mfa"]}),
    {_, StartPort} = start({start, proc_lib, start_handler_that_is_none, []}),
    ?assertEqual([<<"hello fun">>, <<"hello mfa">>, <<>>],
                 [receive_all(connect(Port)) || Port <- [FunPort, MfaPort, StartPort]]).

%% OTP makes a socket of that kind blocking when it closes it, with all copies: a reactor would wait in accept for ever.
listeners_on_another_inet_backend(_Config) ->
    {ok, Socket} = gen_tcp:listen(0, [{inet_backend, socket}, {ip, ?LOOPBACK}]),
    {ok, _} = megaphone:start_listener(Socket, fun ?MODULE:echo/1),
    {ok, {_, Port}} = inet:sockname(Socket),
    First = connect_to_echo(Port),
    ok = gen_tcp:close(Socket),
    Second = connect_to_echo(Port),
    {ok, Listener} = megaphone:start_listener(
        0, fun ?MODULE:echo/1, #{socket => [{inet_backend, socket}, {ip, ?LOOPBACK}]}),
    Third = connect_to_echo(port(Listener)),
    lists:foreach(fun echoes/1, [First, Second, Third]).

listener_on_a_socket(_Config) ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, ?LOOPBACK}]),
    {ok, Listener} = megaphone:start_listener(Socket, fun ?MODULE:echo/1),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    _ = connect_to_echo(Port),
    ok = megaphone:stop_listener(Listener),
    ?assert(is_refused(Port)).

listener_on_a_descriptor(_Config) ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, ?LOOPBACK}]),
    {ok, Fd} = inet:getfd(Socket),
    {ok, _} = megaphone:start_listener({fd, Fd}, fun ?MODULE:echo/1),
    {ok, Port} = inet:port(Socket),
    _ = connect_to_echo(Port).

listeners_are_listed(_Config) ->
    {Raw, RawPort} = start(fun ?MODULE:echo/1),
    {Http, _} = start(fun ?MODULE:echo/1, #{mode => http}),
    {ok, {'$inet', megaphone_socket, {listener, Accept}}} = megaphone:listen(0, []),
    _ = connect_to_echo(RawPort),
    ?assertMatch([#{id := Raw, mode := raw, connections := 1, accepted := 1, is_open := true, paused := false},
                  #{id := Http, mode := http, connections := 0, accepted := 0},
                  #{id := Accept, mode := accept}],
                 megaphone:listeners()),
    ?assertMatch(#{connections := 1, listeners := 3}, megaphone:stats()),
    [Conn] = megaphone:connections(),
    {ok, #{listener := Raw, owner := Owner}} = megaphone:info(Conn),
    ?assert(is_process_alive(Owner)).

bad_arguments_are_refused(_Config) ->
    ?assertError(badarg, megaphone:start_listener(0, not_a_handler)),
    ?assertEqual({error, badarg}, megaphone:start_listener(0, fun ?MODULE:echo/1, #{mode => sideways})),
    ?assertEqual({error, badarg}, megaphone:start_listener(0, fun ?MODULE:echo/1, #{max_head => lots})),
    ?assertEqual({error, badarg}, megaphone:start_listener(0, fun ?MODULE:echo/1, #{no_such_option => 1})),
    ?assertMatch({error, _}, megaphone:start_listener({fd, 1_000_000}, fun ?MODULE:echo/1)),
    {_, Port} = start(fun ?MODULE:echo/1),
    ?assertEqual({error, eaddrinuse}, megaphone:start_listener(Port, fun ?MODULE:echo/1, #{socket => [{ip, ?LOOPBACK}]})),
    ?assertEqual({error, closed}, megaphone:stop_listener(4_000_000)).

stopped_listener_keeps_its_connections(_Config) ->
    Handler = fun answer_without_content/1,
    {Listener, Port} = start(Handler, #{mode => http, handler_linger => 0}),
    Idle = connect(Port),
    Request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    Answer = {ok, <<"HTTP/1.1 204 No Content\r\n\r\n">>},
    ok = gen_tcp:send(Idle, Request),
    ?assertEqual(Answer, gen_tcp:recv(Idle, 27, ?TIMEOUT)),
    ok = megaphone:stop_listener(Listener),
    ?assert(is_refused(Port)),
    ?assertMatch([#{id := Listener, is_open := false, connections := 1}], megaphone:listeners()),
    %% The next request still finds its handler.
    ok = gen_tcp:send(Idle, Request),
    ?assertMatch({ok, _}, gen_tcp:recv(Idle, 26, ?TIMEOUT)),
    ok = gen_tcp:close(Idle),
    {Again, Port} = {element(2, megaphone:start_listener(Port, Handler, #{socket => [{ip, ?LOOPBACK}]})), Port},
    ?assertEqual(Port, port(Again)).

closed_connection_is_gone(_Config) ->
    {_, Port} = start(fun ?MODULE:echo/1),
    Socket = connect_to_echo(Port),
    [Conn] = megaphone:connections(),
    ok = megaphone:close(Conn),
    ?assertMatch({error, _}, gen_tcp:recv(Socket, 0, ?TIMEOUT)),
    ?assertEqual([], megaphone:connections()),
    ?assertEqual({error, closed}, megaphone:info(Conn)).

crashing_handler_is_logged_once(_Config) ->
    {_, Port} = start(fun(Socket) -> {ok, Why} = gen_tcp:recv(Socket, 0), error({told_to_crash, Why}) end),
    ok = megaphone_ct_log:start(),
    [begin
         Socket = connect(Port),
         ok = gen_tcp:send(Socket, Why),
         await_closed(Socket)
     end || Why <- ["first", "second"]],
    ?assertMatch([_First, _Second], [Text || Text <- megaphone_ct_log:until("told_to_crash,<<\"second"),
                                             re:run(Text, "told_to_crash") =/= nomatch]),
    ok = megaphone_ct_log:stop().

handler_that_does_not_start_costs_its_connection(_Config) ->
    ok = megaphone_ct_log:start(),
    {_, Port} = start({start, ?MODULE, does_not_start, []}),
    {_, GoodPort} = start(fun ?MODULE:echo/1),
    Starters = starters(),
    ?assertMatch({error, _}, gen_tcp:recv(connect(Port), 0, ?TIMEOUT)),
    _ = megaphone_ct_log:await("could not start a handler.*busy"),
    ok = megaphone_ct_log:stop(),
    _ = connect_to_echo(GoodPort),
    ?assertEqual(Starters, starters()).

handler_that_ignores_closes_quietly(_Config) ->
    ok = megaphone_ct_log:start(),
    {_, Port} = start({start, ?MODULE, refuses, []}),
    {_, LoudPort} = start({start, ?MODULE, does_not_start, []}),
    ?assertEqual(<<"full">>, receive_all(connect(Port))),
    %% What is logged in between is logged by then.
    ?assertMatch({error, _}, gen_tcp:recv(connect(LoudPort), 0, ?TIMEOUT)),
    ?assertMatch([_NothingElse], megaphone_ct_log:until("could not start a handler.*busy")),
    ok = megaphone_ct_log:stop(),
    ?assertEqual([], megaphone:connections()).

starter_that_uses_a_socket_does_not_own_it(_Config) ->
    Test = self(),
    Start = fun(Socket) ->
        {'$inet', megaphone_socket, Conn} = Socket,
        ok = inet:setopts(Socket, [{nodelay, true}]),
        _ = inet:monitor(Socket),
        ok = gen_tcp:send(Socket, "welcome"),
        {error, timeout} = gen_tcp:recv(Socket, 0, 0),
        Test ! {owner, megaphone_nif:owner(Conn)},
        {ok, spawn(fun() -> echo(Socket), receive stop -> ok end end)}
    end,
    {Listener, Port} = start({start, ?MODULE, start_by, [Start]}),
    Socket = connect(Port),
    ?assertEqual({ok, <<"welcome">>}, gen_tcp:recv(Socket, 7, ?TIMEOUT)),
    receive {owner, Owner} -> ?assertEqual({ok, undefined}, Owner) end,
    echoes(Socket),
    [Conn] = megaphone:connections(),
    megaphone_ct_sockets:await(fun() -> {ok, undefined} =/= megaphone_nif:owner(Conn) end),
    {ok, #{owner := Handler}} = megaphone:info(Conn),
    ?assertNotEqual(child(starter, Listener), Handler),
    true = exit(Handler, kill),
    await_closed(Socket),
    ?assertEqual([], megaphone:connections()).

%% As an accept loop does for its sockets; the starter itself may be the owner as well, if that is what it asks for.
starter_hands_over_by_controlling_process(_Config) ->
    Test = self(),
    Start = fun(Socket) ->
        Pid = spawn(fun() -> receive go -> ok end, Test ! {given, gen_tcp:controlling_process(Socket, self())}, echo(Socket) end),
        Test ! {given, gen_tcp:controlling_process(Socket, Pid)},
        Test ! {given, gen_tcp:controlling_process(Socket, self())},
        Pid ! go,
        {ok, Pid}
    end,
    {_, Port} = start({start, ?MODULE, start_by, [Start]}),
    _ = connect_to_echo(Port),
    ?assertEqual([ok, {error, not_owner}, ok], [receive {given, Given} -> Given end || _ <- [1, 2, 3]]).

active_data_before_the_hand_over_are_the_owners(_Config) ->
    true = register(?MODULE, self()),
    Start = fun(Socket) ->
        ok = inet:setopts(Socket, [{active, true}]),
        {ok, Handler} = start_late(Socket),
        true = exit(Handler, kill),
        Test = whereis(?MODULE),
        {ok, spawn(fun() -> receive {tcp, Socket, Data} -> Test ! {data, Data} end, receive Closed -> Test ! Closed end end)}
    end,
    {_, Port} = start({start, ?MODULE, start_by, [Start]}),
    Socket = connect(Port),
    ok = gen_tcp:send(Socket, "early"),
    Starter = receive {starting, Pid} -> Pid end,
    [Conn] = megaphone:connections(),
    megaphone_ct_sockets:await(fun() -> {ok, #{inbound := Inbound}} = megaphone:info(Conn), Inbound =:= 5 end),
    ?assertEqual({message_queue_len, 0}, process_info(Starter, message_queue_len)),
    Starter ! go,
    receive {data, Data} -> ?assertEqual(<<"early">>, Data) end,
    ok = gen_tcp:close(Socket),
    receive Closed -> ?assertEqual({tcp_closed, megaphone:socket(Conn)}, Closed) end,
    true = unregister(?MODULE).

starters() -> [Pid || {_, Children} <- children(), {starter, Pid, _, _} <- Children].

%% Of each listener, in a supervisor's words.
children() -> [{Id, supervisor:which_children(Pid)} || #{id := Id, supervisor := Pid} <- megaphone:listeners()].

child(Name, Listener) ->
    {_, Pid, _, _} = lists:keyfind(Name, 1, proplists:get_value(Listener, children())),
    Pid.

drain_waits_for_connections(_Config) ->
    {Listener, Port} = start(fun ?MODULE:echo/1),
    Socket = connect_to_echo(Port),
    Test = self(),
    Drain = spawn_link(fun() -> Test ! {self(), megaphone:stop_listener(Listener, #{drain => infinity})} end),
    megaphone_ct_sockets:await(fun() -> [] =:= [Id || #{id := Id, is_open := true} <- megaphone:listeners()] end),
    ?assert(is_refused(Port)),
    echoes(Socket),
    ok = gen_tcp:close(Socket),
    receive {Drain, Result} -> ?assertEqual(ok, Result) end,
    ?assertEqual([], megaphone:listeners()),
    megaphone_ct_sockets:await(fun() -> supervisor:which_children(megaphone_listeners_sup) =:= [] end).

drain_closes_what_is_left(_Config) ->
    {Listener, Port} = start(fun ?MODULE:echo/1),
    {_, OtherPort} = start(fun ?MODULE:echo/1),
    [Socket, Other] = [connect_to_echo(Port), connect_to_echo(OtherPort)],
    ?assertEqual(ok, megaphone:stop_listener(Listener, #{drain => 100})),
    ?assertMatch({error, _}, gen_tcp:recv(Socket, 0, ?TIMEOUT)),
    echoes(Other),
    ?assertEqual({error, closed}, megaphone:stop_listener(Listener, #{drain => 100})).

%% Its group leader makes a process one of an application.
handlers_belong_to_the_caller(_Config) ->
    Test = self(),
    Tell = fun(_Socket) -> Test ! {handler, group_leader()} end,
    {_, Port} = start(Tell),
    _ = connect(Port),
    receive {handler, Leader} -> ?assertEqual(group_leader(), Leader) end,
    {ok, Supervisor} = start_linked(own, Tell),
    {_, OwnPort} = listener_of(own),
    _ = connect(OwnPort),
    receive {handler, OwnLeader} -> ?assertEqual(group_leader(), OwnLeader) end,
    end_linked(Supervisor).

processes_are_otp_processes(_Config) ->
    {Listener, Port} = start(fun ?MODULE:echo/1),
    Pids = [child(Name, Listener) || Name <- [listener, starter]]
        ++ [Pid || {_, Pid, worker, _} <- supervisor:which_children(megaphone_sup)],
    ?assertEqual(6, length(Pids)),
    lists:foreach(
        fun(Pid) ->
            ?assertMatch({status, Pid, _, _}, sys:get_status(Pid)),
            ?assertEqual({error, unknown_call}, gen_server:call(Pid, stray)),
            ok = gen_server:cast(Pid, stray),
            Pid ! stray,
            ?assertMatch({status, Pid, _, _}, sys:get_status(Pid))
        end,
        Pids),
    _ = connect_to_echo(Port).

listener_in_a_tree_of_ones_own(_Config) ->
    Handler = fun answer_without_content/1,
    {ok, Free} = gen_tcp:listen(0, [{ip, ?LOOPBACK}]),
    {ok, Port} = inet:port(Free),
    ok = gen_tcp:close(Free),
    Options = #{mode => http, handler_linger => 0, socket => [{ip, ?LOOPBACK}]},
    Spec = megaphone:child_spec(tree, Port, Handler, Options),
    {ok, Tree} = supervisor:start_link({local, ?MODULE}, megaphone_ct_supervisor, [Spec]),
    {Listener, Port} = listener_of(tree),
    ?assertMatch({error, {already_started, _}}, start_linked(tree, Handler)),
    Idle = connect(Port),
    no_content(Idle),
    [{_, Pid, supervisor, _}] = supervisor:which_children(Tree),
    kill(Pid),
    megaphone_ct_sockets:await(fun() -> is_accepting(tree, Listener) end),
    {Next, Port} = listener_of(tree),
    %% A new one, which serves the connections of the old one as well.
    no_content(Idle),
    Other = connect(Port),
    no_content(Other),
    ok = megaphone:stop_listener(Next),
    ?assert(is_refused(Port)),
    [ok = gen_tcp:close(Socket) || Socket <- [Idle, Other]],
    true = unlink(Tree),
    true = exit(Tree, shutdown),
    megaphone_ct_sockets:await(fun() -> megaphone:listeners() =:= [] end).

is_accepting(Name, Former) ->
    case megaphone:listener(Name) of
        {ok, Listener} -> Listener =/= Former;
        error -> false
    end.

%% The next request may be there before this process waits for it.
answer_without_content(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, _} ->
            ok = gen_tcp:send(Socket, "HTTP/1.1 204 No Content\r\n\r\n"),
            answer_without_content(Socket);
        {error, closed} ->
            ok
    end.

no_content(Socket) ->
    ok = gen_tcp:send(Socket, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ?assertMatch({ok, <<"HTTP/1.1 204", _/binary>>}, gen_tcp:recv(Socket, 27, ?TIMEOUT)).

start_linked(Name, Handler) -> megaphone:start_link(Name, 0, Handler, #{socket => [{ip, ?LOOPBACK}]}).

end_linked(Supervisor) ->
    true = unlink(Supervisor),
    Monitor = monitor(process, Supervisor),
    true = exit(Supervisor, shutdown),
    receive {'DOWN', Monitor, process, _, _} -> ok end.

listener_of(Name) ->
    {ok, Listener} = megaphone:listener(Name),
    {Listener, port(Listener)}.

%% --- ends

killed_handler_closes_its_connection(_Config) ->
    {_, Port} = start(fun ?MODULE:echo/1),
    Victim = connect_to_echo(Port),
    [Conn] = megaphone:connections(),
    Other = connect_to_echo(Port),
    {ok, #{owner := Handler}} = megaphone:info(Conn),
    true = exit(Handler, kill),
    await_closed(Victim),
    echoes(Other).

%% Neither the start that it is at nor those that it has yet to look at.
killed_starter_loses_no_start(_Config) ->
    true = register(?MODULE, self()),
    {Listener, Port} = start({start, ?MODULE, start_late, []}),
    Sockets = [connect(Port) || _ <- lists:seq(1, 5)],
    Starter = child(starter, Listener),
    receive {starting, Starter} -> ok end,
    megaphone_ct_sockets:await(fun() -> process_info(Starter, message_queue_len) =:= {message_queue_len, 4} end),
    kill(Starter),
    [receive {starting, Next} -> Next ! go end || _ <- Sockets],
    [echoes(Socket) || Socket <- Sockets],
    true = unregister(?MODULE).

%% One that was killed while it was at it: what it had begun to use closes, what it had not is the next one's.
killed_starter_leaks_no_connection(_Config) ->
    true = register(?MODULE, self()),
    Use = fun(Prepare) -> fun(Socket) -> ok = Prepare(Socket), start_late(Socket) end end,
    Prepared = [fun(Socket) -> inet:setopts(Socket, [{nodelay, true}, {active, false}]) end,
                fun(Socket) -> gen_tcp:send(Socket, "welcome") end],
    [{Set, SetPort}, {Sent, SentPort}] = [start({start, ?MODULE, start_by, [Use(Prepare)]}) || Prepare <- Prepared],
    SetSocket = connect(SetPort),
    SetStarter = receive {starting, Starting} -> Starting end,
    ?assertEqual(child(starter, Set), SetStarter),
    [SetConn] = megaphone:connections(),
    kill(SetStarter),
    receive {starting, Next} -> Next ! go end,
    ?assertEqual({error, closed}, megaphone:info(SetConn)),
    echoes(SetSocket),
    ok = gen_tcp:close(SetSocket),
    SentSocket = connect(SentPort),
    receive {starting, SentStarter} -> ?assertEqual(child(starter, Sent), SentStarter), kill(SentStarter) end,
    ?assertEqual(<<"welcome">>, receive_all(SentSocket)),
    megaphone_ct_sockets:await(fun() -> [] =:= megaphone:connections() end),
    true = unregister(?MODULE).

%% One after the other, and the supervisors: the port is the same, and so are the connections.
killed_processes_cost_nothing(_Config) ->
    {Listener, Port} = start(fun ?MODULE:echo/1),
    Socket = connect_to_echo(Port),
    lists:foreach(
        fun(Find) ->
            [begin
                 Pid = Find(),
                 kill(Pid),
                 megaphone_ct_sockets:await(fun() -> is_replaced(Pid, Find) end),
                 echoes(Socket),
                 _ = connect_to_echo(Port)
             end || _ <- [1, 2, 3]]
        end,
        [fun() -> child(listener, Listener) end, fun() -> child(starter, Listener) end,
         fun() -> supervisor(Listener) end,
         fun() -> whereis(megaphone_registry) end]),
    ?assertMatch([#{id := Listener, sockname := {_, Port}}], megaphone:listeners()).

supervisor(Listener) ->
    [Pid] = [Pid || #{id := Id, supervisor := Pid} <- megaphone:listeners(), Id =:= Listener],
    Pid.

is_replaced(Pid, Find) ->
    try Find() of
        Next -> is_pid(Next) andalso Next =/= Pid
    catch
        _:_ -> false  % its supervisor is being started again
    end.

failed_application_leaves_connections_alone(_Config) ->
    {_, Port} = start(fun ?MODULE:echo/1),
    Socket = connect_to_echo(Port),
    ok = megaphone_ct_log:start(),
    kill(whereis(megaphone_sup)),
    _ = megaphone_ct_log:await("Application.*megaphone|megaphone.*exited"),
    ok = megaphone_ct_log:stop(),
    megaphone_ct_sockets:await(fun() -> not lists:keymember(megaphone, 1, application:which_applications()) end),
    ok = application:start(megaphone),
    echoes(Socket),
    {_, NewPort} = start(fun ?MODULE:echo/1),
    _ = connect_to_echo(NewPort).

kill(Pid) ->
    Monitor = monitor(process, Pid),
    true = exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, killed} -> ok end.

stopped_application_closes_connections(_Config) ->
    {_, Port} = start(fun ?MODULE:echo/1),
    {_, HttpPort} = start(fun ?MODULE:echo/1, #{mode => http}),
    Sockets = [connect_to_echo(Port), connect_to_echo(Port), connect(HttpPort)],
    ok = application:stop(megaphone),
    [?assertMatch({error, _}, gen_tcp:recv(Socket, 0, ?TIMEOUT)) || Socket <- Sockets],
    ?assert(is_refused(Port)),
    ok = application:start(megaphone),
    ?assertEqual([], megaphone:listeners()),
    {_, NewPort} = start(fun ?MODULE:echo/1),
    _ = connect_to_echo(NewPort).

%% The fourth client waits in the kernel's queue and is served when another has gone. The notice comes once, whatever
%% the number of clients and of listeners that have to wait.
accept_pauses_at_max_connections(_Config) ->
    ok = application:stop(megaphone),
    ok = application:set_env(megaphone, max_connections, 3),
    ok = megaphone_ct_log:start(),
    ok = application:start(megaphone),
    {Listener, Port} = start(fun ?MODULE:echo/1),
    [First | _] = [connect_to_echo(Port) || _ <- [1, 2, 3]],
    Waiting = [connect(Port) || _ <- lists:seq(1, 20)],
    [ok = gen_tcp:send(Socket, "me too") || Socket <- Waiting],
    _ = megaphone_ct_log:await("accepts no more connections"),
    ?assertMatch([#{id := Listener, connections := 3, paused := true}], megaphone:listeners()),
    ok = gen_tcp:close(First),
    %% One after the other, in the order of their coming.
    [begin ?assertEqual({ok, <<"me too">>}, gen_tcp:recv(Socket, 6, ?TIMEOUT)), ok = gen_tcp:close(Socket) end || Socket <- Waiting],
    ?assertMatch([_Resumed], megaphone_ct_log:until("accepts connections again")),
    ok = megaphone_ct_log:stop().

notices_wait_for_the_log(_Config) ->
    true = register(?MODULE, self()),
    ok = megaphone_ct_log:start(),
    {_, Port} = start({start, ?MODULE, start_late, []}, #{start_timeout => 100}),
    ok = supervisor:terminate_child(megaphone_sup, megaphone_log),
    ?assertMatch({error, _}, gen_tcp:recv(connect(Port), 0, ?TIMEOUT)),
    {ok, _} = supervisor:restart_child(megaphone_sup, megaphone_log),
    _ = megaphone_ct_log:await("no process was started in time"),
    ok = megaphone_ct_log:stop(),
    receive {starting, Starter} -> Starter ! go end,
    true = unregister(?MODULE).

%% --- other nodes

missing_library_is_named(_Config) ->
    Peer = megaphone_ct_sockets:peer_node(["-megaphone", "nif_library", "\"no_such_library\""]),
    {error, {megaphone, {{cannot_load, File, _, Fix}, _}}} = peer:call(Peer, application, ensure_all_started, [megaphone]),
    ?assertEqual("no_such_library.so", filename:basename(File)),
    ?assertMatch("run scripts/build-nif" ++ _, Fix),
    ?assertMatch({'EXIT', {{nif_not_loaded, _}, _}}, peer:call(Peer, erlang, apply, [fun() -> catch megaphone:stats() end, []])),
    ok = megaphone_ct_sockets:stop_peer(Peer).

reactor_panic_costs_one_connection(_Config) ->
    Peer = megaphone_ct_sockets:peer_node(["-megaphone", "nif_library", "\"megaphone_nif_fault\""]),
    {ok, _} = peer:call(Peer, application, ensure_all_started, [megaphone]),
    Port = peer:call(Peer, ?MODULE, listen_for_echo, []),
    Victim = connect_to_echo(Port),
    [Conn] = peer:call(Peer, megaphone, connections, []),
    Others = [connect_to_echo(Port) || _ <- lists:seq(1, 20)],
    ?assertMatch("An error in Megaphone's native library" ++ _, peer:call(Peer, ?MODULE, panic, [Conn])),
    ?assertMatch({error, _}, gen_tcp:recv(Victim, 0, ?TIMEOUT)),
    [echoes(Socket) || Socket <- Others],
    _ = connect_to_echo(Port),
    ok = megaphone_ct_sockets:stop_peer(Peer).

listen_for_echo() ->
    {_, Port} = start(fun ?MODULE:echo/1),
    Port.

%% Returns what is logged about it.
panic(Conn) ->
    ok = megaphone_ct_log:start(),
    ok = megaphone_nif:inject_panic(Conn),
    Text = megaphone_ct_log:await("native library"),
    [_, Message] = string:split(Text, ": "),
    Message.
