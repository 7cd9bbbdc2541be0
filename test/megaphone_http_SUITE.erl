%% Listeners in request mode, with a handler of the test's own: no ejabberd. Connections have no process between their
%% requests, and what comes in is one request after the other or a refusal.
-module(megaphone_http_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([parked_connections_answer_again/1, request_is_complete_when_its_handler_starts/1,
         busy_connection_keeps_its_handler/1, pipelined_requests_come_one_by_one/1, large_body_is_read_with_back_pressure/1,
         chunked_body_comes_with_its_length/1, packets_of_a_request/1, upgraded_connection_is_raw/1]).
-export([malformed_requests_are_refused/1, late_requests_are_refused/1, idle_connections_are_closed/1,
         random_bytes_leave_the_listener_serving/1]).
%% Called in another node.
-export([open_connections/2, request_on_all/1]).

-include_lib("stdlib/include/assert.hrl").

-define(LOOPBACK, {127, 0, 0, 1}).
-define(TIMEOUT, 30000).
-define(PARKED, 10_000).

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    [parked_connections_answer_again, request_is_complete_when_its_handler_starts, busy_connection_keeps_its_handler,
     pipelined_requests_come_one_by_one, large_body_is_read_with_back_pressure, chunked_body_comes_with_its_length,
     packets_of_a_request, upgraded_connection_is_raw,
     malformed_requests_are_refused, late_requests_are_refused, idle_connections_are_closed,
     random_bytes_leave_the_listener_serving].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(megaphone),
    Config.

end_per_suite(_Config) -> application:stop(megaphone).

end_per_testcase(_Case, _Config) ->
    [megaphone:stop_listener(Id) || #{id := Id} <- megaphone:listeners()],
    [megaphone:close(Conn) || Conn <- megaphone:connections()],
    ok.

%% --- a server of the test's own

%% Answers each request with the process that answers, the path and the body. A recv gives a whole head. (A packet mode
%% would end request mode.)
serve(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Head} ->
            {ok, {http_request, _, {abs_path, Path}, _}, Fields} = erlang:decode_packet(http_bin, Head, []),
            ok = gen_tcp:send(Socket, response([pid_to_list(self()), " ", Path, " ", body(Socket, content_length(Fields))])),
            serve(Socket);
        {error, closed} ->
            ok
    end.

content_length(Fields) ->
    case erlang:decode_packet(httph_bin, Fields, []) of
        {ok, {http_header, _, 'Content-Length', _, Value}, _} -> binary_to_integer(Value);
        {ok, {http_header, _, _, _, _}, Rest} -> content_length(Rest);
        {ok, http_eoh, <<>>} -> 0
    end.

body(_Socket, 0) -> <<>>;
body(Socket, Length) ->
    {ok, Body} = gen_tcp:recv(Socket, Length),
    Body.

response(Body) ->
    ["HTTP/1.1 200 OK\r\nContent-Length: ", integer_to_list(iolist_size(Body)), "\r\n\r\n", Body].

start(Options) -> start(fun serve/1, Options).

start(Handler, Options) ->
    SocketOptions = [{ip, ?LOOPBACK}, {backlog, 4096}],
    {ok, Listener} = megaphone:start_listener(0, Handler, Options#{mode => http, socket => SocketOptions}),
    [{_, Port}] = [SockName || #{id := Id, sockname := SockName} <- megaphone:listeners(), Id =:= Listener],
    Port.

request(Path) -> ["GET ", Path, " HTTP/1.1\r\nHost: x\r\n\r\n"].

%% The process that answered, the path and the body.
answer(Socket) ->
    #{status := 200, body := Body} = megaphone_ct_http:response(Socket),
    [Pid, Path, Content] = binary:split(Body, [<<" ">>], [global]),
    {Pid, Path, Content}.

%% --- connections without processes

%% The clients are in another node: a process may have 20,000 descriptors here.
parked_connections_answer_again(_Config) ->
    Port = start(#{handler_linger => 0}),
    Clients = megaphone_ct_sockets:peer_node([]),
    ?PARKED = peer:call(Clients, ?MODULE, open_connections, [Port, ?PARKED], ?TIMEOUT * 2),
    megaphone_ct_sockets:await(fun() -> #{connections := N} = megaphone:stats(), N =:= ?PARKED end),
    ?assertEqual([], handlers()),
    Processes = erlang:system_info(process_count),
    [begin
         ?assertEqual(?PARKED, peer:call(Clients, ?MODULE, request_on_all, [Round], ?TIMEOUT * 2)),
         megaphone_ct_sockets:await(fun() -> handlers() =:= [] end),
         ?assertMatch(#{connections := ?PARKED}, megaphone:stats()),
         ?assert(erlang:system_info(process_count) =< Processes + 10)
     end || Round <- [<<"/1">>, <<"/2">>]],
    ok = megaphone_ct_sockets:stop_peer(Clients),
    megaphone_ct_sockets:await(fun() -> #{connections := N} = megaphone:stats(), N =:= 0 end).

handlers() -> [Pid || Pid <- processes(), {megaphone_starter, run, 2} <- [proc_lib:translate_initial_call(Pid)]].

%% From many addresses; one has 28,000 ports. The sockets belong to a process that stays.
open_connections(Port, Count) ->
    Parent = self(),
    spawn(fun() ->
        register(?MODULE, self()),
        Sockets = [begin
            {ok, Socket} = gen_tcp:connect(?LOOPBACK, Port, [binary, {active, false}, {ip, {127, 0, 1, 1 + N rem 20}}], ?TIMEOUT),
            Socket
        end || N <- lists:seq(1, Count)],
        Parent ! {opened, length(Sockets)},
        answer_requests(Sockets)
    end),
    receive {opened, Opened} -> Opened end.

answer_requests(Sockets) ->
    receive {request, Path, From} ->
        [ok = gen_tcp:send(Socket, request(Path)) || Socket <- Sockets],
        Answers = [Answer || Socket <- Sockets, {_, Answer, _} <- [answer(Socket)], Answer =:= Path],
        From ! {answered, length(Answers)}
    end,
    answer_requests(Sockets).

request_on_all(Path) ->
    ?MODULE ! {request, Path, self()},
    receive {answered, Answers} -> Answers end.

request_is_complete_when_its_handler_starts(_Config) ->
    Test = self(),
    Port = start(fun(Socket) -> Test ! {started, megaphone:info(element(3, Socket))}, serve(Socket) end, #{}),
    Socket = megaphone_ct_http:connect(Port),
    Request = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    {Most, Last} = lists:split(length(Request) - 1, Request),
    [ok = gen_tcp:send(Socket, [Byte]) || Byte <- Most],
    Arrived = length(Most),
    megaphone_ct_sockets:await(fun() -> [{ok, Info}] = [megaphone:info(Conn) || Conn <- accepted()], map_get(inbound, Info) =:= Arrived end),
    receive {started, TooEarly} -> error(TooEarly) after 0 -> ok end,
    ok = gen_tcp:send(Socket, Last),
    ?assertMatch({_, <<"/p">>, <<"hello">>}, answer(Socket)),
    receive {started, {ok, #{is_http := true}}} -> ok end.

accepted() ->
    megaphone_ct_sockets:await(fun() -> megaphone:connections() =/= [] end),
    megaphone:connections().

busy_connection_keeps_its_handler(_Config) ->
    Lingering = megaphone_ct_http:connect(start(#{handler_linger => 60_000})),
    ?assertEqual(1, length(lists:usort([handler_of_request(Lingering) || _ <- lists:seq(1, 10)]))),
    Parked = megaphone_ct_http:connect(start(#{handler_linger => 0})),
    ?assertEqual(10, length(lists:usort([
        begin Pid = handler_of_request(Parked), megaphone_ct_sockets:await(fun() -> not is_process_alive(Pid) end), Pid end
        || _ <- lists:seq(1, 10)]))).

handler_of_request(Socket) ->
    ok = gen_tcp:send(Socket, request("/")),
    {Pid, _, _} = answer(Socket),
    list_to_pid(binary_to_list(Pid)).

pipelined_requests_come_one_by_one(_Config) ->
    Socket = megaphone_ct_http:connect(start(#{})),
    Numbers = [integer_to_list(N) || N <- lists:seq(1, 200)],
    ok = gen_tcp:send(Socket, [["POST /", N, " HTTP/1.1\r\nHost: x\r\nContent-Length: ", integer_to_list(length(N)), "\r\n\r\n", N]
                               || N <- Numbers]),
    [?assertMatch({_, <<"/", N/binary>>, N}, answer(Socket)) || Number <- Numbers, N <- [list_to_binary(Number)]].

%% Its handler starts at the end of the head, and no more than the mark is taken in before it reads.
large_body_is_read_with_back_pressure(_Config) ->
    Size = 20_000_000,
    Content = binary:copy(<<"0123456789">>, Size div 10),
    Test = self(),
    Port = start(
        fun(Socket) ->
            Test ! {started, self(), element(3, Socket)},
            receive read -> serve(Socket) end
        end, #{recv_high_watermark => 65536}),
    Socket = megaphone_ct_http:connect(Port),
    Sender = spawn_link(fun() ->
        ok = gen_tcp:send(Socket, ["POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: ", integer_to_list(Size), "\r\n\r\n", Content]),
        Test ! {self(), sent}
    end),
    {Handler, Conn} = receive {started, Pid, C} -> {Pid, C} after ?TIMEOUT -> error(not_started) end,
    megaphone_ct_sockets:await(fun() -> {ok, #{inbound := N}} = megaphone:info(Conn), N >= 65536 end),
    {ok, #{inbound := Inbound}} = megaphone:info(Conn),
    ?assert(Inbound =< 4 * 65536, Inbound),
    Handler ! read,
    ?assertMatch({_, <<"/large">>, Content}, answer(Socket)),
    receive {Sender, sent} -> ok after ?TIMEOUT -> error(not_sent) end.

chunked_body_comes_with_its_length(_Config) ->
    Socket = megaphone_ct_http:connect(start(#{})),
    ok = gen_tcp:send(Socket, ["POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n,world\r\n0\r\n\r\n", request("/next")]),
    ?assertMatch({_, <<"/c">>, <<"hello,world">>}, answer(Socket)),
    ?assertMatch({_, <<"/next">>, <<>>}, answer(Socket)).

packets_of_a_request(_Config) ->
    Test = self(),
    Port = start(fun(Socket) ->
        ok = inet:setopts(Socket, [{packet, http}]),
        Test ! [element(2, gen_tcp:recv(Socket, 0)) || _ <- lists:seq(1, 3)]
    end, #{}),
    ok = gen_tcp:send(megaphone_ct_http:connect(Port), request("/x?y=z")),
    receive Packets ->
        ?assertEqual([{http_request, 'GET', {abs_path, "/x?y=z"}, {1, 1}}, {http_header, 14, 'Host', "Host", "x"}, http_eoh], Packets)
    after ?TIMEOUT -> error(nothing) end.

%% Bytes that follow the head of an Upgrade request are for its handler as they come, in active mode too.
upgraded_connection_is_raw(_Config) ->
    Port = start(fun(Socket) ->
        {ok, _Head} = gen_tcp:recv(Socket, 0),
        ok = gen_tcp:send(Socket, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n"),
        ok = inet:setopts(Socket, [{active, true}]),
        echo(Socket)
    end, #{handler_linger => 0}),
    Socket = megaphone_ct_http:connect(Port),
    ok = gen_tcp:send(Socket, megaphone_ct_http:request("GET", "/", [{"Connection", "Upgrade"}, {"Upgrade", "websocket"}])),
    ?assertMatch(#{status := 101}, megaphone_ct_http:response(Socket)),
    [begin
         ok = gen_tcp:send(Socket, Bytes),
         ?assertEqual({ok, Bytes}, gen_tcp:recv(Socket, byte_size(Bytes), ?TIMEOUT))
     end || Bytes <- [<<0, 1, 2>>, <<"GET / HTTP/1.1\r\n\r\n">>, crypto:strong_rand_bytes(100_000)]].

echo(Socket) ->
    receive
        {tcp, Socket, Data} -> ok = gen_tcp:send(Socket, Data), echo(Socket);
        {tcp_closed, Socket} -> ok
    end.

%% --- bad input

malformed_requests_are_refused(_Config) ->
    Test = self(),
    Port = start(fun(Socket) -> Test ! {passed_on, gen_tcp:recv(Socket, 0)} end, #{max_head => 1000, max_chunked_body => 1000}),
    Heads = [
        {400, "GET\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n"},
        {505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost : x\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\ry\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {413, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n"},
        {431, ["GET / HTTP/1.1\r\nHost: x\r\nX: ", lists:duplicate(1000, $x), "\r\n\r\n"]}
    ],
    [?assertEqual({Head, Status}, {Head, refusal(Port, Head)}) || {Status, Head} <- Heads],
    receive {passed_on, Passed} -> error(Passed) after 0 -> ok end.

%% A byte now and then doesn't help.
late_requests_are_refused(_Config) ->
    Port = start(#{head_timeout => 200, body_timeout => 200}),
    ?assertEqual(408, refusal(Port, "GET / HTTP/1.1\r\nHost:")),
    ?assertEqual(408, refusal(Port, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhell")),
    Socket = megaphone_ct_http:connect(Port),
    ok = gen_tcp:send(Socket, "GET /"),
    Dripping = spawn_link(fun() -> drip(Socket) end),
    ?assertMatch(#{status := 408}, megaphone_ct_http:response(Socket)),
    unlink(Dripping),
    exit(Dripping, kill).

drip(Socket) ->
    case gen_tcp:send(Socket, "x") of
        ok -> timer:sleep(20), drip(Socket);  % the client's pace: nothing is waited for
        {error, closed} -> ok
    end.

refusal(Port, Bytes) ->
    Socket = megaphone_ct_http:connect(Port),
    ok = gen_tcp:send(Socket, Bytes),
    #{status := Status} = megaphone_ct_http:response(Socket),
    ok = megaphone_ct_http:await_closed(Socket),
    Status.

idle_connections_are_closed(_Config) ->
    Port = start(#{idle_timeout => 200, handler_linger => 0}),
    Silent = megaphone_ct_http:connect(Port),
    Parked = megaphone_ct_http:connect(Port),
    ok = gen_tcp:send(Parked, request("/")),
    _ = answer(Parked),
    ok = megaphone_ct_http:await_closed(Silent),
    ok = megaphone_ct_http:await_closed(Parked),
    megaphone_ct_sockets:await(fun() -> megaphone:connections() =:= [] end).

random_bytes_leave_the_listener_serving(_Config) ->
    Port = start(#{}),
    Seed = rand:seed_s(exsss),
    ct:log("seed ~p", [rand:export_seed_s(Seed)]),
    Beginnings = ["", "GET /", "POST / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"],
    _ = lists:foldl(
        fun(N, Random) ->
            {Noise, Next} = rand:bytes_s(N, Random),
            Socket = megaphone_ct_http:connect(Port),
            %% The server may have closed the connection on the first bytes already.
            _ = gen_tcp:send(Socket, [lists:nth(1 + N rem 4, Beginnings), Noise]),
            ok = gen_tcp:close(Socket),
            Next
        end, Seed, lists:seq(1, 1000)),
    Socket = megaphone_ct_http:connect(Port),
    ok = gen_tcp:send(Socket, request("/still-there")),
    ?assertMatch({_, <<"/still-there">>, _}, answer(Socket)),
    ok = gen_tcp:close(Socket),
    megaphone_ct_sockets:await(fun() -> megaphone:connections() =:= [] end).
