%% Nodes that come near their limit of processes: clients wait, and none is turned away.
-module(megaphone_processes_SUITE).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([connections_wait_for_processes/1, requests_wait_for_processes/1,
         starts_that_meet_the_limit_are_tried_again/1]).
%% Handlers and functions for the node.
-export([listen/2, start_log/0, logged/0, fill/1, empty/0, release/0, echo/1, hold/1, start_at_second_try/1]).

-include_lib("stdlib/include/assert.hrl").

-define(LOOPBACK, {127, 0, 0, 1}).
-define(TIMEOUT, 20000).

%% The least that erl takes. No connections are accepted from 960 processes on, nothing is started from 992 on.
-define(LIMIT, 1024).
-define(SHORT, 960).
-define(FULL, 992).

-define(REQUEST, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").
-define(ANSWER, <<"HTTP/1.1 204 No Content\r\n\r\n">>).

suite() -> [{timetrap, {minutes, 1}}].

all() -> [connections_wait_for_processes, requests_wait_for_processes, starts_that_meet_the_limit_are_tried_again].

init_per_testcase(_Case, Config) ->
    Node = megaphone_ct_sockets:peer_node(["+P", integer_to_list(?LIMIT)]),
    {ok, _} = peer:call(Node, application, ensure_all_started, [megaphone]),
    ok = peer:call(Node, ?MODULE, start_log, []),
    [{node, Node} | Config].

end_per_testcase(_Case, Config) -> megaphone_ct_sockets:stop_peer(proplists:get_value(node, Config)).

%% --- cases

%% Each is a process there for as long as it is open.
connections_wait_for_processes(Config) ->
    Port = listen(Config, {?MODULE, echo, []}, #{}),
    Clients = [connect(Port) || _ <- lists:seq(1, 1100)],
    [ok = gen_tcp:send(Client, "hello") || Client <- Clients],
    await_paused(Config),
    await_log(Config, ["accepts no connections"]),
    ?assert(processes(Config) < ?FULL),
    {Served, Waiting} = lists:partition(fun is_answered/1, Clients),
    ?assert(length(Served) > ?SHORT div 2),
    ?assert(length(Waiting) > 1100 - ?SHORT),
    %% Who waits has its turn when others go.
    [ok = gen_tcp:close(Client) || Client <- Served],
    [?assertEqual({ok, <<"hello">>}, gen_tcp:recv(Client, 5, ?TIMEOUT)) || Client <- Waiting],
    ?assertMatch([#{accepted := 1100}], call(Config, megaphone, listeners, [])),
    await_log(Config, ["accepts no connections", "accepts connections again"]).

%% Connections without a process are there already.
requests_wait_for_processes(Config) ->
    Port = listen(Config, {?MODULE, hold, []}, #{mode => http}),
    Clients = [connect(Port) || _ <- lists:seq(1, 1100)],
    megaphone_ct_sockets:await(fun() -> length(call(Config, megaphone, connections, [])) =:= 1100 end),
    [ok = gen_tcp:send(Client, ?REQUEST) || Client <- Clients],
    megaphone_ct_sockets:await(fun() -> processes(Config) >= ?FULL end),
    await_log(Config, ["accepts no connections"]),
    Late = connect(Port),
    ok = gen_tcp:send(Late, ?REQUEST),
    answer_all(Config, [Late | Clients]),
    await_log(Config, ["accepts no connections", "accepts connections again"]).

answer_all(_Config, []) ->
    ok;
answer_all(Config, Clients) ->
    ok = call(Config, ?MODULE, release, []),
    answer_all(Config, [Client || Client <- Clients, not is_answered(Client)]).

%% Somebody else takes the last processes between the look and the start.
starts_that_meet_the_limit_are_tried_again(Config) ->
    Port = listen(Config, {start, ?MODULE, start_at_second_try, []}, #{mode => http}),
    Client = connect(Port),
    megaphone_ct_sockets:await(fun() -> length(call(Config, megaphone, connections, [])) =:= 1 end),
    ok = call(Config, ?MODULE, fill, [?SHORT + 10]),
    await_log(Config, ["accepts no connections"]),
    ok = gen_tcp:send(Client, ?REQUEST),
    ?assertEqual({ok, ?ANSWER}, gen_tcp:recv(Client, byte_size(?ANSWER), ?TIMEOUT)),
    ok = call(Config, ?MODULE, empty, []),
    %% Where there is room, the limit is another one, and waiting would be in vain.
    Refused = connect(Port),
    ok = gen_tcp:send(Refused, ?REQUEST),
    ?assertEqual({error, closed}, gen_tcp:recv(Refused, 0, ?TIMEOUT)),
    await_log(Config, ["accepts no connections", "accepts connections again", "could not start a handler"]).

%% --- clients

listen(Config, Handler, Options) -> call(Config, ?MODULE, listen, [Handler, Options]).

connect(Port) ->
    {ok, Socket} = gen_tcp:connect(?LOOPBACK, Port, [binary, {active, false}], ?TIMEOUT),
    Socket.

%% false: it waits. A closed one is neither.
is_answered(Client) ->
    case gen_tcp:recv(Client, 0, 0) of
        {ok, _} -> true;
        {error, timeout} -> false
    end.

call(Config, Module, Function, Arguments) -> peer:call(proplists:get_value(node, Config), Module, Function, Arguments).

processes(Config) -> call(Config, erlang, system_info, [process_count]).

await_paused(Config) ->
    megaphone_ct_sockets:await(fun() ->
        [#{paused := IsPaused}] = call(Config, megaphone, listeners, []),
        IsPaused
    end).

%% All that has been logged, in order.
await_log(Config, Expected) ->
    megaphone_ct_sockets:await(fun() -> length(call(Config, ?MODULE, logged, [])) >= length(Expected) end),
    [?assertMatch({match, _}, re:run(Text, Expression))
     || {Text, Expression} <- lists:zip(call(Config, ?MODULE, logged, []), Expected)].

%% --- in the node

listen(Handler, Options) ->
    {ok, Listener} = megaphone:start_listener(0, Handler, Options#{socket => [{ip, ?LOOPBACK}]}),
    [#{id := Listener, sockname := {_, Port}}] = megaphone:listeners(),
    Port.

start_log() ->
    Log = spawn(fun() -> keep_log([]) end),
    true = register(?MODULE, Log),
    logger:add_handler(megaphone_ct_log, megaphone_ct_log, #{level => notice, config => Log}).

keep_log(Texts) ->
    receive
        {megaphone_ct_log, Text} -> keep_log([Text | Texts]);
        {logged, From, Ref} -> From ! {Ref, lists:reverse(Texts)}, keep_log(Texts)
    end.

logged() ->
    Ref = make_ref(),
    ?MODULE ! {logged, self(), Ref},
    receive {Ref, Texts} -> Texts end.

%% Starts processes until there are as many.
fill(Count) ->
    More = Count - erlang:system_info(process_count),
    true = ets:info(?MODULE, name) =:= undefined,
    Keeper = spawn(fun() ->
        _ = ets:new(?MODULE, [named_table, public]),
        receive stop -> ok end
    end),
    megaphone_ct_sockets:await(fun() -> ets:info(?MODULE, name) =:= ?MODULE end),
    true = ets:insert(?MODULE, {pids, [Keeper | [spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(2, More)]]}),
    ok.

empty() ->
    [{pids, Pids}] = ets:lookup(?MODULE, pids),
    [Pid ! stop || Pid <- Pids],
    megaphone_ct_sockets:await(fun() -> not lists:any(fun is_process_alive/1, Pids) end).

%% Ends what handlers there are.
release() ->
    [Owner ! go || Conn <- megaphone:connections(), {ok, Owner} <- [megaphone_nif:owner(Conn)], is_pid(Owner)],
    ok.

echo(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Data} -> ok = gen_tcp:send(Socket, Data), echo(Socket);
        {error, closed} -> ok
    end.

hold(Socket) ->
    {ok, _} = gen_tcp:recv(Socket, 0),
    receive go -> gen_tcp:send(Socket, ?ANSWER) end.

start_at_second_try(Socket) ->
    case get(?MODULE) of
        undefined ->
            _ = put(?MODULE, tried),
            error(system_limit);
        tried ->
            _ = erase(?MODULE),
            {ok, spawn(fun() -> self() ! go, hold(Socket) end)}
    end.
