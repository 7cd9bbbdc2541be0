%% The module socket: the two sequences of reading, what happens at the ends of connections, and the same operations on
%% a socket of OTP's own and on one of Megaphone, which have to give the same. In the group streams Megaphone's is at the
%% end of a stream of a connection manager's link.
-module(megaphone_socket_SUITE).

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         end_per_testcase/2]).
-export([recv_returns_data_that_is_there/1, recv_waits_and_is_woken_when_data_arrives/1, recv_timeout_loses_nothing/1,
         second_reader_gets_ealready/1, close_wakes_a_reader/1]).
-export([killed_owner_leaves_queued_bytes/1, half_close_both_ways/1, send_timeout_may_close/1,
         active_once_flood_is_held_back/1]).
-export([operations_are_those_of_inet/1, packet_modes_are_those_of_inet/1, deliberate_differences_from_inet/1]).
-export([stale_connection_is_closed/1, monitor_tells_of_the_end/1, monitors_leave_nothing_behind/1, accept_waits_and_times_out/1,
         file_arrives_identical/1, tls_over_the_module_socket/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sockets, [pair/1, pair/2, conn/1, receive_all/1, await_function/2, messages/0]).

-define(TIMEOUT, 10000).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, sockets}, {group, streams}].

groups() -> [{sockets, [], cases()}, {streams, [], cases() -- [accept_waits_and_times_out]}].

cases() ->
    [recv_returns_data_that_is_there, recv_waits_and_is_woken_when_data_arrives, recv_timeout_loses_nothing,
     second_reader_gets_ealready, close_wakes_a_reader,
     killed_owner_leaves_queued_bytes, half_close_both_ways, send_timeout_may_close, active_once_flood_is_held_back,
     operations_are_those_of_inet, packet_modes_are_those_of_inet, deliberate_differences_from_inet,
     stale_connection_is_closed, monitor_tells_of_the_end, monitors_leave_nothing_behind, accept_waits_and_times_out,
     file_arrives_identical, tls_over_the_module_socket].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(megaphone),
    Config.

end_per_suite(_Config) -> application:stop(megaphone).

init_per_group(sockets, Config) -> Config;
init_per_group(streams, Config) -> megaphone_ct_streams:start(Config, []).

end_per_group(sockets, _Config) -> ok;
end_per_group(streams, Config) -> megaphone_ct_streams:stop(Config).

%% No connection outlives its case: their owner was the case's process or one that it has started.
end_per_testcase(_Case, _Config) ->
    [megaphone:close(Conn) || Conn <- megaphone:connections()],
    ok.

%% --- reading

%% The reactor has read, the store has kept, and get_data gives it at once: no message, no wait.
recv_returns_data_that_is_there(_Config) ->
    {Client, Server} = pair(megaphone),
    ok = gen_tcp:send(Client, "hello, world"),
    %% When the first bytes of one small segment are there, the others are too.
    ?assertEqual({ok, <<"hello">>}, gen_tcp:recv(Server, 5, ?TIMEOUT)),
    ?assertEqual({ok, <<", ">>}, megaphone:get_data(conn(Server), 2)),
    ?assertEqual({ok, <<"world">>}, megaphone:get_data(conn(Server))),
    ?assertEqual([], messages()).

%% get_data has registered the process, which waits until the message of the reactor wakes it.
recv_waits_and_is_woken_when_data_arrives(_Config) ->
    {Client, Server} = pair(megaphone),
    Reader = reader(Server, 5, infinity),
    await_function(Reader, {megaphone_socket, await_data}),
    1 = erlang:trace(Reader, true, ['receive']),
    ok = gen_tcp:send(Client, "hello"),
    ?assertEqual({ok, <<"hello">>}, result(Reader)),
    ?assertMatch([{trace, Reader, 'receive', {'$megaphone', Ref}}] when is_reference(Ref), messages()).

recv_timeout_loses_nothing(_Config) ->
    {Client, Server} = pair(megaphone),
    ok = gen_tcp:send(Client, "01234"),
    ?assertEqual({error, timeout}, gen_tcp:recv(Server, 10, 50)),
    ok = gen_tcp:send(Client, "56789"),
    ?assertEqual({ok, <<"0123456789">>}, gen_tcp:recv(Server, 10, ?TIMEOUT)),
    %% A thousand races between the time-out and the data.
    Sent = << <<N:32>> || N <- lists:seq(1, 1000)>>,
    Sender = spawn_link(fun() ->
        [(ok = gen_tcp:send(Client, <<N:32>>)) || N <- lists:seq(1, 1000)],
        ok = gen_tcp:shutdown(Client, write)
    end),
    ?assertEqual(Sent, iolist_to_binary(receive_impatiently(Server))),
    ?assertEqual([], messages()),
    unlink(Sender).

receive_impatiently(Socket) ->
    case gen_tcp:recv(Socket, 4, 0) of
        {ok, Data} -> [Data | receive_impatiently(Socket)];
        {error, timeout} -> receive_impatiently(Socket);
        {error, closed} -> []
    end.

second_reader_gets_ealready(_Config) ->
    {Client, Server} = pair(megaphone),
    Reader = reader(Server, 0, infinity),
    await_function(Reader, {megaphone_socket, await_data}),
    ?assertEqual({error, ealready}, gen_tcp:recv(Server, 0, ?TIMEOUT)),
    ok = gen_tcp:send(Client, "for the first"),
    ?assertEqual({ok, <<"for the first">>}, result(Reader)).

close_wakes_a_reader(_Config) ->
    {Client, Server} = pair(megaphone),
    Reader = reader(Server, 0, infinity),
    await_function(Reader, {megaphone_socket, await_data}),
    ok = gen_tcp:close(Server),
    ?assertEqual({error, closed}, result(Reader)),
    ?assertEqual({error, closed}, gen_tcp:recv(Client, 0, ?TIMEOUT)).

reader(Socket, Length, Timeout) ->
    Parent = self(),
    spawn_link(fun() -> Parent ! {self(), gen_tcp:recv(Socket, Length, Timeout)} end).

result(Pid) ->
    receive {Pid, Result} -> Result
    after ?TIMEOUT -> error({no_result, process_info(Pid)})
    end.

%% --- the ends of connections

%% The owner sends until it has to wait, which shows that bytes are queued, and is killed.
killed_owner_leaves_queued_bytes(_Config) ->
    {Client, Server} = pair(megaphone),
    Block = crypto:strong_rand_bytes(10_000),
    Parent = self(),
    Owner = spawn(fun() ->
        receive go -> ok end,
        send_forever(Server, Block, Parent)
    end),
    ok = gen_tcp:controlling_process(Server, Owner),
    Owner ! go,
    await_function(Owner, {megaphone_socket, await_room}),
    Monitor = monitor(process, Owner),
    true = exit(Owner, kill),
    receive {'DOWN', Monitor, process, Owner, killed} -> ok end,
    Sent = length([sent || sent <- messages()]),
    Received = receive_all(Client),
    ?assertEqual(Sent * byte_size(Block), byte_size(Received)),
    ?assertEqual(binary:copy(Block, Sent), Received).

send_forever(Socket, Block, Parent) ->
    ok = gen_tcp:send(Socket, Block),
    Parent ! sent,
    send_forever(Socket, Block, Parent).

half_close_both_ways(_Config) ->
    {Client, Server} = pair(megaphone, [{exit_on_close, false}]),
    ok = gen_tcp:send(Client, "request"),
    ok = gen_tcp:shutdown(Client, write),
    ?assertEqual({ok, <<"request">>}, gen_tcp:recv(Server, 0, ?TIMEOUT)),
    ?assertEqual({error, closed}, gen_tcp:recv(Server, 0, ?TIMEOUT)),
    ok = gen_tcp:send(Server, "response"),
    ok = gen_tcp:close(Server),
    ?assertEqual(<<"response">>, receive_all(Client)),

    {Client2, Server2} = pair(megaphone),
    ok = inet:setopts(Client2, [{exit_on_close, false}]),
    ok = gen_tcp:send(Server2, "greeting"),
    ok = gen_tcp:shutdown(Server2, write),
    ?assertEqual(<<"greeting">>, receive_all(Client2)),
    ok = gen_tcp:send(Client2, "answer"),
    ?assertEqual({ok, <<"answer">>}, gen_tcp:recv(Server2, 0, ?TIMEOUT)).

send_timeout_may_close(_Config) ->
    {_Client, Server} = pair(megaphone, [{send_timeout, 20}]),
    ?assertEqual({error, timeout}, send_until_error(Server)),
    ?assertMatch({ok, _}, inet:peername(Server)),
    ok = inet:setopts(Server, [{send_timeout_close, true}]),
    ?assertEqual({error, timeout}, send_until_error(Server)),
    ?assertEqual({error, closed}, inet:peername(Server)),
    ?assertEqual({error, closed}, gen_tcp:send(Server, "more")).

send_until_error(Socket) ->
    case gen_tcp:send(Socket, binary:copy(<<0>>, 100_000)) of
        ok -> send_until_error(Socket);
        {error, _} = Error -> Error
    end.

%% One message, and no other until it is asked for. The client can't get rid of its bytes, and the library holds few.
active_once_flood_is_held_back(_Config) ->
    {Client, Server} = pair(megaphone, [{active, once}, {recv_high_watermark, 65536}]),
    ok = inet:setopts(Client, [{send_timeout, 500}]),
    %% Of a length that no buffer has for a divisor: a byte lost or moved would be seen.
    Block = crypto:strong_rand_bytes(99_991),
    Blocks = flood(Client, Block, 1),
    {ok, #{inbound := Inbound}} = megaphone:info(conn(Server)),
    ?assert(Inbound =< 2 * 65536, Inbound),
    [{tcp, Server, First}] = messages(),
    ok = inet:setopts(Server, [{active, false}]),
    {ok, Rest} = gen_tcp:recv(Server, Blocks * byte_size(Block) - byte_size(First), ?TIMEOUT),
    ?assertEqual(binary:copy(Block, Blocks), <<First/binary, Rest/binary>>).

%% How many blocks the client has got rid of, though the last is in its own queue: send has timed out with it.
flood(Socket, Block, N) ->
    case gen_tcp:send(Socket, Block) of
        ok -> flood(Socket, Block, N + 1);
        {error, timeout} -> N
    end.

%% --- the same as inet

%% Each operation gets a client and a server and is made twice, with a server of either kind.
operations_are_those_of_inet(Config) ->
    Unequal = [{Name, Ours, Theirs} || {Name, Operation} <- operations(),
                                       Ours <- [outcome(megaphone, Operation)],
                                       Theirs <- [outcome(inet, Operation)],
                                       Ours =/= Theirs],
    ?assertEqual(unequal(proplists:is_defined(ecm, Config)), [Name || {Name, _, _} <- Unequal], Unequal).

%% A stream has no socket of its own: those options are the connection manager's matter.
unequal(false) -> [];
unequal(true) ->
    [{getopts, nodelay}, {set_and_get, {keepalive, true}}, {set_and_get, {linger, {true, 7}}}, setopts_is_all_or_nothing].

outcome(Kind, Operation) ->
    {Client, Server} = pair(Kind),
    Outcome = try Operation(Client, Server) catch Class:Reason -> {Class, Reason} end,
    _ = gen_tcp:close(Server),
    ok = gen_tcp:close(Client),
    _ = messages(),
    Outcome.

operations() -> receiving() ++ sending() ++ active() ++ options() ++ ownership() ++ ending() ++ files().

receiving() ->
    [{recv_length, fun(C, S) -> gen_tcp:send(C, "abcdef"), [gen_tcp:recv(S, 4, ?TIMEOUT), gen_tcp:recv(S, 2, ?TIMEOUT)] end},
     {recv_any, fun(C, S) -> gen_tcp:send(C, "abc"), gen_tcp:recv(S, 0, ?TIMEOUT) end},
     {recv_list, fun(C, S) -> inet:setopts(S, [list]), gen_tcp:send(C, "abc"), gen_tcp:recv(S, 0, ?TIMEOUT) end},
     {recv_nothing, fun(_, S) -> [gen_tcp:recv(S, 0, 0), gen_tcp:recv(S, 10, 5)] end},
     {recv_negative, fun(_, S) -> gen_tcp:recv(S, -1, 5) end},
     {recv_atom, fun(_, S) -> gen_tcp:recv(S, foo, 5) end},
     {recv_bad_timeout, fun(_, S) -> gen_tcp:recv(S, 0, foo) end},
     {recv_too_much, fun(_, S) -> gen_tcp:recv(S, 16#4000001, 5) end},
     {recv_length_of_line, fun(_, S) -> inet:setopts(S, [{packet, line}]), gen_tcp:recv(S, 5, 5) end},
     {recv_while_active, fun(_, S) -> inet:setopts(S, [{active, true}]), gen_tcp:recv(S, 0, 5) end},
     {recv_line, fun(C, S) ->
         inet:setopts(S, [{packet, line}]), gen_tcp:send(C, "one\r\ntwo\nrest"), gen_tcp:shutdown(C, write),
         [gen_tcp:recv(S, 0, ?TIMEOUT) || _ <- [1, 2]]
     end},
     {recv_after_end, fun(C, S) -> gen_tcp:send(C, "abc"), gen_tcp:close(C), [gen_tcp:recv(S, 3, ?TIMEOUT), gen_tcp:recv(S, 0, ?TIMEOUT)] end},
     {recv_more_than_there_is, fun(C, S) -> gen_tcp:send(C, "abc"), gen_tcp:close(C), gen_tcp:recv(S, 5, ?TIMEOUT) end},
     {unrecv, fun(C, S) ->
         gen_tcp:send(C, "cd"), {ok, <<"c">>} = gen_tcp:recv(S, 1, ?TIMEOUT),
         [gen_tcp:unrecv(S, ["ab", <<"c">>]), gen_tcp:recv(S, 4, ?TIMEOUT), gen_tcp:unrecv(S, foo)]
     end}].

sending() ->
    [{send_iodata, fun(C, S) -> [gen_tcp:send(S, ["a", <<"b">>, [$c | <<"d">>]]), gen_tcp:recv(C, 4, ?TIMEOUT)] end},
     {send_nothing, fun(_, S) -> [gen_tcp:send(S, []), gen_tcp:send(S, <<>>)] end},
     {send_no_iodata, fun(_, S) -> [gen_tcp:send(S, foo), gen_tcp:send(S, [300]), gen_tcp:send(S, [a])] end},
     {shutdown_bad, fun(_, S) -> gen_tcp:shutdown(S, foo) end},
     {shutdown_write, fun(C, S) -> [gen_tcp:shutdown(S, write), gen_tcp:recv(C, 0, ?TIMEOUT), gen_tcp:send(S, "x")] end},
     {counters, fun(C, S) ->
         gen_tcp:send(S, "abc"), gen_tcp:send(C, "12345"), {ok, _} = gen_tcp:recv(S, 5, ?TIMEOUT),
         [inet:getstat(S, [recv_oct, send_oct, send_cnt, send_avg, send_max, recv_max, send_pend]), inet:getstat(S, [foo]),
          element(1, inet:getstat(S))]
     end}].

active() ->
    Take = fun(S) -> receive M when element(2, M) =:= S -> setelement(2, M, socket) after ?TIMEOUT -> none end end,
    [{active_true, fun(C, S) ->
         inet:setopts(S, [{active, true}]), gen_tcp:send(C, "abc"), First = Take(S), gen_tcp:close(C), [First, Take(S)]
     end},
     {active_once, fun(C, S) ->
         inet:setopts(S, [{active, once}]), gen_tcp:send(C, "abc"), First = Take(S), gen_tcp:send(C, "def"),
         [First, inet:getopts(S, [active]), gen_tcp:recv(S, 3, ?TIMEOUT)]
     end},
     {active_before_packet, fun(C, S) ->
         gen_tcp:send(C, "xone\ntwo\n"), {ok, _} = gen_tcp:recv(S, 1, ?TIMEOUT),
         inet:setopts(S, [{active, once}, {packet, line}]), [Take(S), gen_tcp:recv(S, 0, ?TIMEOUT)]
     end},
     {active_n, fun(C, S) ->
         inet:setopts(S, [{active, 2}, {packet, line}]), gen_tcp:send(C, "1\n2\n3\n"),
         [Take(S), Take(S), Take(S), inet:getopts(S, [active]), gen_tcp:recv(S, 0, ?TIMEOUT)]
     end},
     {active_n_adds, fun(_, S) ->
         [inet:setopts(S, [{active, 5}]), inet:setopts(S, [{active, -3}]), inet:getopts(S, [active]),
          inet:setopts(S, [{active, -2}]), Take(S), inet:getopts(S, [active])]
     end},
     {active_0, fun(_, S) -> [inet:setopts(S, [{active, 0}]), Take(S)] end},
     {active_too_many, fun(_, S) -> [inet:setopts(S, [{active, 32767}]), inet:setopts(S, [{active, 1}]), inet:setopts(S, [{active, 40000}]), inet:getopts(S, [active])] end},
     {active_http, fun(C, S) ->
         inet:setopts(S, [{packet, http_bin}, {active, true}]), gen_tcp:send(C, "GET /x HTTP/1.1\r\nHost: y\r\n\r\n"),
         [Take(S), Take(S), Take(S)]
     end},
     {active_reset, fun(C, S) ->
         inet:setopts(S, [{show_econnreset, true}, {active, true}]), inet:setopts(C, [{linger, {true, 0}}]), gen_tcp:close(C),
         [Take(S), Take(S)]
     end},
     {active_after_end, fun(C, S) -> gen_tcp:send(C, "abc"), gen_tcp:close(C), inet:setopts(S, [{active, true}]), [Take(S), Take(S)] end}].

options() ->
    Settings = [foo, {foo, 1}, {active, foo}, {mode, foo}, {mode, list}, binary, {packet, 0}, {packet, raw}, {packet, http},
                {packet, 17}, {packet_size, -1}, {packet_size, 100}, {buffer, 4096}, {recbuf, foo}, {linger, foo},
                {linger, {true, 2}}, {send_timeout, foo}, {send_timeout, infinity}, {send_timeout, 100}, {fd, 1}, inet6,
                {nodelay, true}, {nodelay, 1}, {keepalive, true}, {exit_on_close, 'maybe'}, {deliver, term}, {deliver, foo},
                {delay_send, true}, {high_watermark, 100}, {tos, 16}],
    Names = [active, packet, packet_size, mode, send_timeout, send_timeout_close, exit_on_close, show_econnreset, nodelay,
             keepalive, linger, deliver, delay_send, header, reuseaddr, tos],
    [{{setopts, Setting}, fun(_, S) -> inet:setopts(S, [Setting]) end} || Setting <- Settings] ++
    [{{getopts, Name}, fun(_, S) -> inet:getopts(S, [Name]) end} || Name <- Names] ++
    [{{set_and_get, Setting}, fun(_, S) -> inet:setopts(S, [Setting]), inet:getopts(S, [element(1, Setting)]) end}
     || Setting <- [{nodelay, true}, {keepalive, true}, {packet, line}, {mode, list}, {send_timeout, 5}, {linger, {true, 7}},
                    {exit_on_close, false}, {packet_size, 77}, {high_watermark, 1000}, {low_watermark, 100}]] ++
    [{setopts_is_all_or_nothing, fun(_, S) -> [inet:setopts(S, [{nodelay, true}, {foo, 1}]), inet:getopts(S, [nodelay])] end},
     {getopts_unknown, fun(_, S) -> [inet:getopts(S, [foo]), inet:getopts(S, [active, foo]), inet:getopts(S, [binary])] end},
     {getopts_order, fun(_, S) -> [inet:getopts(S, [mode, active, mode]), inet:getopts(S, [])] end},
     {packet_size_bounds_lines, fun(C, S) ->
         inet:setopts(S, [{packet, line}, {packet_size, 4}]), gen_tcp:send(C, "123456789\n"), gen_tcp:recv(S, 0, ?TIMEOUT)
     end},
     {buffer_cuts_lines_that_packet_size_allows, fun(C, S) ->
         inet:setopts(S, [{packet, line}, {packet_size, 6}, {buffer, 4}]), gen_tcp:send(C, "123456789\n"),
         [gen_tcp:recv(S, 0, ?TIMEOUT) || _ <- [1, 2, 3]]
     end},
     {recbuf_raises_buffer, fun(C, S) ->
         inet:setopts(S, [{recbuf, 20000}, {packet, line}]), gen_tcp:send(C, [lists:duplicate(2999, $x), $\n]),
         [inet:getopts(S, [buffer]), gen_tcp:recv(S, 0, ?TIMEOUT), inet:setopts(S, [{recbuf, 3000}]), inet:getopts(S, [buffer])]
     end},
     {recbuf_leaves_a_buffer_that_was_set, fun(_, S) ->
         [inet:setopts(S, [{buffer, 100}, {recbuf, 20000}]), inet:getopts(S, [buffer])]
     end},
     {recbuf_below_buffer, fun(_, S) -> [inet:setopts(S, [{recbuf, 500}]), inet:getopts(S, [buffer])] end},
     {buffer_of_nothing, fun(_, S) -> [inet:setopts(S, [{buffer, 0}]), inet:getopts(S, [buffer])] end},
     {http_goes_on_after_an_error, fun(C, S) ->
         inet:setopts(S, [{packet, http_bin}]),
         gen_tcp:send(C, "GET / HTTP/1.1\r\nbad\r\nA: b\r\n\r\nbad\r\nGET /x HTTP/1.1\r\n\r\n"), gen_tcp:shutdown(C, write),
         [gen_tcp:recv(S, 0, ?TIMEOUT) || _ <- lists:seq(1, 8)]
     end},
     {http_mode_set_within_headers, fun(C, S) ->
         inet:setopts(S, [{packet, http_bin}]), gen_tcp:send(C, "GET / HTTP/1.1\r\nA: b\r\nC: d\r\n\r\n"),
         [begin inet:setopts(S, [{packet, Mode}]), gen_tcp:recv(S, 0, ?TIMEOUT) end || Mode <- [http_bin, http_bin, http, http_bin]]
     end}].

ownership() ->
    Other = fun(Do) -> Me = self(), P = spawn_link(fun() -> Me ! {self(), Do()} end), result(P) end,
    [{give_to_self, fun(_, S) -> gen_tcp:controlling_process(S, self()) end},
     {give_to_no_process, fun(_, S) -> gen_tcp:controlling_process(S, foo) end},
     {give_anothers, fun(_, S) -> Other(fun() -> gen_tcp:controlling_process(S, self()) end) end},
     {give_to_dead, fun(_, S) ->
         {Pid, Monitor} = spawn_monitor(fun() -> ok end), receive {'DOWN', Monitor, _, _, _} -> ok end,
         gen_tcp:controlling_process(S, Pid)
     end},
     {give_with_messages, fun(C, S) ->
         inet:setopts(S, [{active, true}, {packet, line}]), gen_tcp:send(C, "1\n2\n"),
         %% Both are in the mailbox when the second is.
         receive {tcp, S, <<"2\n">>} = Second -> self() ! Second after ?TIMEOUT -> error(late) end,
         Me = self(),
         P = spawn_link(fun() ->
             receive {tcp, S, A} -> receive {tcp, S, B} -> receive {tcp, S, D} -> Me ! {self(), [A, B, D]} end end end
         end),
         Given = gen_tcp:controlling_process(S, P), gen_tcp:send(C, "3\n"),
         [Given, result(P), [M || {tcp, _, _} = M <- messages()]]
     end},
     {another_sets_active, fun(C, S) ->
         Set = Other(fun() -> inet:setopts(S, [{active, once}]) end), gen_tcp:send(C, "x"),
         [Set, receive {tcp, S, Data} -> Data after ?TIMEOUT -> none end]
     end},
     {another_shuts_down, fun(C, S) -> [Other(fun() -> gen_tcp:shutdown(S, write) end), gen_tcp:recv(C, 0, ?TIMEOUT), gen_tcp:controlling_process(S, self())] end},
     {another_closes, fun(C, S) -> [Other(fun() -> gen_tcp:close(S) end), gen_tcp:recv(C, 0, ?TIMEOUT)] end},
     {another_monitors, fun(_, S) -> [Other(fun() -> inet:cancel_monitor(inet:monitor(S)) end), gen_tcp:controlling_process(S, self())] end},
     {another_may_send_and_receive, fun(C, S) ->
         gen_tcp:send(C, "x"), [Other(fun() -> gen_tcp:recv(S, 1, ?TIMEOUT) end), Other(fun() -> gen_tcp:send(S, "y") end)]
     end}].

ending() ->
    [{close_twice, fun(_, S) -> [gen_tcp:close(S), gen_tcp:close(S)] end},
     {close_takes_its_message, fun(C, S) ->
         inet:setopts(S, [{active, true}]), gen_tcp:close(C), receive {tcp_closed, S} = M -> self() ! M after ?TIMEOUT -> late end,
         [gen_tcp:close(S), messages()]
     end},
     {calls_after_close, fun(_, S) ->
         gen_tcp:close(S), [gen_tcp:recv(S, 0, 5), gen_tcp:send(S, "a"), gen_tcp:shutdown(S, write), gen_tcp:unrecv(S, <<>>),
                            gen_tcp:controlling_process(S, self())]
     end},
     {info_after_close, fun(_, S) -> gen_tcp:close(S), inet:info(S) end},
     {reset_is_closed, fun(C, S) -> inet:setopts(C, [{linger, {true, 0}}]), gen_tcp:close(C), gen_tcp:recv(S, 0, ?TIMEOUT) end},
     {reset_is_told, fun(C, S) ->
         inet:setopts(S, [{show_econnreset, true}]), inet:setopts(C, [{linger, {true, 0}}]), gen_tcp:close(C), gen_tcp:recv(S, 0, ?TIMEOUT)
     end},
     {half_closed_stays, fun(C, S) ->
         inet:setopts(S, [{exit_on_close, false}]), gen_tcp:send(C, "hi"), gen_tcp:shutdown(C, write),
         [gen_tcp:recv(S, 0, ?TIMEOUT), gen_tcp:recv(S, 0, ?TIMEOUT), gen_tcp:recv(S, 0, ?TIMEOUT), gen_tcp:send(S, "x"),
          gen_tcp:recv(C, 0, ?TIMEOUT)]
     end},
     {accept_on_connection, fun(_, S) -> gen_tcp:accept(S, 5) end}].

files() ->
    Passwd = fun(S, Options, Offset, Bytes) ->
        {ok, File} = file:open("/etc/passwd", [read | Options]), Sent = file:sendfile(File, S, Offset, Bytes, []), file:close(File), Sent
    end,
    [{{sendfile, Offset, Bytes}, fun(_, S) -> Passwd(S, [raw], Offset, Bytes) end}
     || {Offset, Bytes} <- [{0, 10}, {0, 0}, {5, 0}, {100_000_000, 5}, {-1, 1}, {0, -1}, {a, 1}]] ++
    [{sendfile_arrives, fun(C, S) -> Passwd(S, [raw, binary], 3, 20), gen_tcp:recv(C, 20, ?TIMEOUT) end},
     {sendfile_of_closed, fun(_, S) -> {ok, F} = file:open("/etc/passwd", [read, raw]), file:close(F), file:sendfile(F, S, 0, 1, []) end},
     {sendfile_not_raw, fun(_, S) -> Passwd(S, [], 0, 1) end},
     {sendfile_of_a_name, fun(C, S) -> {ok, Sent} = file:sendfile("/etc/passwd", S), {ok, Data} = gen_tcp:recv(C, Sent, ?TIMEOUT), Data end}].

%% What the recvs give that a stream of bytes, cut in two anywhere, is taken with.
packet_modes_are_those_of_inet(_Config) ->
    Request = "GET /path?x=1 HTTP/1.1\r\nHost: example.org\r\nX-Own:  v \r\nConnection: close\r\n\r\n",
    Streams = [{line, "a\nbb\r\n\nlast\n"}, {http, Request}, {http_bin, Request}, {httph, "Host: a\r\nX: b\r\n\r\n"},
               {httph_bin, "Host: a\r\n Folded: b\r\n\r\n"}, {http_bin, "OPTIONS * HTTP/1.0\r\n\r\n"},
               {http_bin, "CONNECT a:1 HTTP/1.1\r\n\r\n"}, {http, "get http://h:80/p HTTP/1.1\r\n\r\n"},
               {http_bin, "HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"}, {http_bin, "nonsense\r\n"}],
    [?assertEqual({Mode, Stream, Cut, packets(inet, Mode, Stream, Cut)}, {Mode, Stream, Cut, packets(megaphone, Mode, Stream, Cut)})
     || {Mode, Stream} <- Streams, Cut <- [0, 1, 5, length(Stream) - 1]].

packets(Kind, Mode, Stream, Cut) ->
    {Client, Server} = pair(Kind, [{packet, Mode}]),
    {Before, After} = lists:split(Cut, Stream),
    ok = gen_tcp:send(Client, Before),
    Sender = spawn_link(fun() -> ok = gen_tcp:send(Client, After), receive {stop, From} -> From ! {self(), stopped} end end),
    Packets = packets_until_end(Server),
    Sender ! {stop, self()},
    stopped = result(Sender),
    ok = gen_tcp:close(Client),
    ok = gen_tcp:close(Server),
    Packets.

%% The last packets are known by what they are: the client doesn't close, for inet would then drop what is left.
packets_until_end(Socket) ->
    case gen_tcp:recv(Socket, 0, ?TIMEOUT) of
        {ok, Last} when Last =:= http_eoh; Last =:= <<"last\n">>; element(1, Last) =:= http_error -> [Last];
        {ok, Packet} -> [Packet | packets_until_end(Socket)];
        {error, Reason} -> [Reason]
    end.

%% Where a Megaphone socket is not like inet's, on purpose.
deliberate_differences_from_inet(_Config) ->
    Differences = [
        %% A closed socket is closed, whatever it is asked: gen_tcp's newer backend says the same.
        {fun(_, S) -> gen_tcp:close(S), [inet:setopts(S, [{active, true}]), inet:getopts(S, [active]), inet:peername(S), inet:sockname(S), inet:port(S)] end,
         lists:duplicate(5, {error, closed}), lists:duplicate(5, {error, einval})},
        %% Any process may send a file, as any may send: a handler can start before the library knows its owner.
        {fun(_, S) ->
             Me = self(),
             result(spawn_link(fun() -> {ok, F} = file:open("/etc/passwd", [read, raw]), Me ! {self(), file:sendfile(F, S, 0, 1, [])} end))
         end, {ok, 1}, {error, not_owner}},
        %% Packets with a length before them are not framed here.
        {fun(_, S) -> inet:setopts(S, [{packet, 4}]) end, {error, einval}, ok},
        %% Messages to a port's owner in the old form.
        {fun(_, S) -> inet:setopts(S, [{deliver, port}]) end, {error, einval}, ok}
    ],
    [?assertEqual({Ours, Theirs}, {outcome(megaphone, Operation), outcome(inet, Operation)})
     || {Operation, Ours, Theirs} <- Differences].

%% --- the rest

stale_connection_is_closed(_Config) ->
    {_, Server} = pair(megaphone),
    Conn = conn(Server),
    ok = gen_tcp:close(Server),
    %% The slot is used again, by a connection of another number.
    {Client, Next} = pair(megaphone),
    ?assertNotEqual(Conn, conn(Next)),
    [?assertEqual({Foreign, [{error, closed}]}, {Foreign, lists:usort([
        gen_tcp:recv(S, 0, 5), gen_tcp:send(S, "x"), gen_tcp:shutdown(S, read), inet:peername(S), inet:sockname(S),
        inet:getopts(S, [active]), inet:setopts(S, [{active, true}]), inet:getstat(S), gen_tcp:unrecv(S, <<>>),
        gen_tcp:controlling_process(S, self()), megaphone:info(Foreign), megaphone:close(Foreign), megaphone:get_data(Foreign),
        megaphone:start(Foreign), file:sendfile("/etc/passwd", S)])})
     || Foreign <- [Conn, 0, 1, 16#0fffffffffffffff], S <- [megaphone:socket(Foreign)]],
    ok = gen_tcp:send(Next, "y"),
    ?assertEqual({ok, <<"y">>}, gen_tcp:recv(Client, 0, ?TIMEOUT)),
    [?assertError(badarg, megaphone:info(NoConn)) || NoConn <- [foo, -1, 1.0, <<>>]].

monitor_tells_of_the_end(_Config) ->
    {Client, Server} = pair(megaphone),
    Monitor = inet:monitor(Server),
    Cancelled = inet:monitor(Server),
    ?assert(inet:cancel_monitor(Cancelled)),
    ?assertNot(inet:cancel_monitor(Cancelled)),
    ok = gen_tcp:close(Client),
    ok = gen_tcp:close(Server),
    receive {'DOWN', Monitor, socket, Server, closed} -> ok
    after ?TIMEOUT -> error(no_message)
    end,
    Late = inet:monitor(Server),
    receive {'DOWN', Late, socket, Server, nosock} -> ok
    after ?TIMEOUT -> error(no_message)
    end,
    ?assertEqual([], messages()).

monitors_leave_nothing_behind(_Config) ->
    {_Client, Server} = pair(megaphone),
    Before = process_info(self(), dictionary),
    Monitors = [inet:monitor(Server) || _ <- lists:seq(1, 1000)],
    Live = inet:monitor(Server),
    Result = self(),
    _ = spawn_link(fun() -> Result ! {another, megaphone_socket:cancel_monitor(Live)} end),
    receive {another, Cancelled} -> ?assertNot(Cancelled) end,
    ?assertEqual([true, false], [inet:cancel_monitor(Live), megaphone_socket:cancel_monitor(Live)]),
    ok = gen_tcp:close(Server),
    [receive {'DOWN', Monitor, socket, Server, closed} -> ok end || Monitor <- Monitors],
    ?assertEqual([], messages()),
    ?assertNot(lists:any(fun inet:cancel_monitor/1, Monitors)),
    ?assertEqual(Before, process_info(self(), dictionary)).

accept_waits_and_times_out(_Config) ->
    {ok, Listener} = megaphone:listen(0, [list, {active, true}, {ip, {127, 0, 0, 1}}]),
    ?assertEqual({error, timeout}, gen_tcp:accept(Listener, 5)),
    {ok, Port} = inet:port(Listener),
    Parent = self(),
    Acceptor = spawn_link(fun() ->
        {ok, Socket} = gen_tcp:accept(Listener),
        Parent ! {self(), receive {tcp, Socket, Data} -> Data after ?TIMEOUT -> late end}
    end),
    await_function(Acceptor, {megaphone_socket, await_connection}),
    {ok, Client} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary]),
    ok = gen_tcp:send(Client, "options are inherited"),
    ?assertEqual("options are inherited", result(Acceptor)),
    ?assertEqual([{error, enotconn}, {error, enotconn}], [gen_tcp:recv(Listener, 0, 5), gen_tcp:send(Listener, "x")]),
    ok = gen_tcp:close(Listener),
    ?assertEqual({error, closed}, gen_tcp:accept(Listener, 5)),
    ?assertEqual({error, econnrefused}, gen_tcp:connect({127, 0, 0, 1}, Port, [], ?TIMEOUT)).

%% Many times what the kernel's buffers hold, and a client that doesn't read before all is under way.
file_arrives_identical(Config) ->
    {Client, Server} = pair(megaphone),
    Content = crypto:strong_rand_bytes(50 * 1024 * 1024 + 17),
    File = filename:join(proplists:get_value(priv_dir, Config), "file"),
    ok = file:write_file(File, Content),
    [?assertEqual({Modes, Content}, {Modes, sent_file(Client, Server, File, Modes)}) || Modes <- [[raw, binary], [raw]]],
    %% One that only Erlang can read.
    ok = file:write_file(File, zlib:gzip(Content)),
    ?assertEqual(Content, sent_file(Client, Server, File, [raw, binary, compressed])),
    ok = file:delete(File).

sent_file(Client, Server, File, Modes) ->
    Parent = self(),
    Sender = spawn_link(fun() ->
        {ok, Device} = file:open(File, [read | Modes]),
        Parent ! {self(), file:sendfile(Device, Server, 0, 0, [])}
    end),
    await_function(Sender, {megaphone_socket, await_room}),
    {ok, Content} = gen_tcp:recv(Client, 50 * 1024 * 1024 + 17, ?TIMEOUT),
    ?assertEqual({ok, byte_size(Content)}, result(Sender)),
    Content.

tls_over_the_module_socket(Config) ->
    {ok, _} = application:ensure_all_started(fast_tls),
    {ok, _} = application:ensure_all_started(ssl),
    Certificate = megaphone_ct_sockets:certificate(proplists:get_value(priv_dir, Config)),
    {Client, Server} = pair(megaphone),
    Data = crypto:strong_rand_bytes(300_000),
    Parent = self(),
    Secure = spawn_link(fun() ->
        {ok, Tls} = ssl:connect(Client, [{verify, verify_none}], ?TIMEOUT),
        ok = ssl:send(Tls, Data),
        {ok, Back} = ssl:recv(Tls, byte_size(Data), ?TIMEOUT),
        Parent ! {self(), Back}
    end),
    ok = gen_tcp:controlling_process(Client, Secure),
    {ok, Tls} = fast_tls:tcp_to_tls(Server, [{certfile, list_to_binary(Certificate)}, verify_none]),
    {ok, Data} = fast_tls:recv(Tls, byte_size(Data), ?TIMEOUT),
    ok = fast_tls:send(Tls, Data),
    ?assertEqual(Data, result(Secure)).
