%% What a call of the library takes: numbers that fit, and arguments of any size without a scheduler's suffering.
-module(megaphone_bounds_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([numbers_that_do_not_fit_are_refused/1, active_counts_are_those_of_inet/1,
         what_takes_long_is_left_to_a_dirty_scheduler/1, a_call_is_charged_for_what_it_does/1,
         dead_process_leaves_no_socket_open/1,
         port_is_free_when_its_owner_has_ended/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sockets, [pair/1, pair/2, conn/1]).

-define(TIMEOUT, 10000).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [numbers_that_do_not_fit_are_refused, active_counts_are_those_of_inet,
     what_takes_long_is_left_to_a_dirty_scheduler, a_call_is_charged_for_what_it_does,
     dead_process_leaves_no_socket_open, port_is_free_when_its_owner_has_ended].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(megaphone),
    Config.

end_per_suite(_Config) -> application:stop(megaphone).

end_per_testcase(_Case, _Config) ->
    [megaphone:close(Conn) || Conn <- megaphone:connections()],
    ok.

%% --- numbers

%% Each is 0 or another good value when it is cut down to 8, 16, 32 or 64 bits.
numbers_that_do_not_fit_are_refused(_Config) ->
    {_Client, Server} = pair(megaphone),
    Conn = conn(Server),
    TooLarge = [{Name, Value + (1 bsl Bits)}
                || {Name, Value, Sizes} <- [{packet, 0, [8, 16, 32, 64]}, {active, 5, [16, 32, 64]},
                                            {tos, 16, [8, 16, 32, 64]}, {packet_size, 9, [64]},
                                            {send_timeout, 9, [64]}, {recbuf, 4096, [32, 64]},
                                            {sndbuf, 4096, [32, 64]}, {high_watermark, 9, [64]}],
                   Bits <- Sizes],
    Wrong = TooLarge ++ [{packet, -256}, {active, -65536}, {tos, -1}, {packet_size, -1},
                         {linger, {true, 1 bsl 32}}, {linger, {true, 1 bsl 64}}],
    Names = lists:usort([Name || {Name, _} <- Wrong]),
    Before = [megaphone_nif:getopt(Conn, Name) || Name <- Names],
    [?assertEqual({Option, {error, einval}}, {Option, megaphone_nif:setopt(Conn, Name, Value)})
     || {Name, Value} = Option <- Wrong],
    ?assertEqual(Before, [megaphone_nif:getopt(Conn, Name) || Name <- Names]).

%% Any sequence of counts comes to the same, step by step.
active_counts_are_those_of_inet(_Config) ->
    [?assertEqual({Counts, active(inet, Counts)}, {Counts, active(megaphone, Counts)})
     || Counts <- [[32767], [32767, 1], [32766, 1, 1, -1], [1, -1], [5, -32768], [-32768], [-32769], [32768],
                   [0], [3, 0], [true, 3, once, 2], [10, false, 3], [65541], [-65531], [1 bsl 70]]].

active(Kind, Counts) ->
    {_Client, Server} = pair(Kind),
    [{inet:setopts(Server, [{active, Count}]), inet:getopts(Server, [active]), passive(Server)}
     || Count <- Counts].

passive(Socket) ->
    receive {tcp_passive, Socket} -> passive
    after 0 -> none
    end.

%% --- size

%% A call says so and does nothing; the socket's functions go on by the other one, and nobody sees a difference.
what_takes_long_is_left_to_a_dirty_scheduler(_Config) ->
    {Client, Server} = pair(megaphone),
    Conn = conn(Server),
    ok = inet:setopts(Server, [{recv_high_watermark, 1 bsl 20}]),
    Long = [binary:copy(<<"b">>, 65537), lists:duplicate(1025, $l), [[[lists:duplicate(2000, [])], $n] | <<"t">>],
            lists:duplicate(17, binary:copy(<<"c">>, 4096))],
    [?assertEqual({large, large}, {megaphone_nif:send(Conn, Data), megaphone_nif:unrecv(Conn, Data)}) || Data <- Long],
    [?assertEqual({error, einval}, megaphone_nif:F(Conn, Data))
     || F <- [send, unrecv, send_large, unrecv_large], Data <- [x, [x], [<<1:1>>]]],
    Sent = iolist_to_binary(Long),
    Sender = spawn_link(fun() -> [ok = gen_tcp:send(Server, Data) || Data <- Long], receive after infinity -> ok end end),
    ?assertEqual({ok, Sent}, gen_tcp:recv(Client, byte_size(Sent), ?TIMEOUT)),
    unlink(Sender),
    exit(Sender, kill),
    [ok = gen_tcp:unrecv(Server, Data) || Data <- lists:reverse(Long)],
    ok = inet:setopts(Server, [list]),
    ?assertEqual(large, megaphone_nif:get_data(Conn, 4097)),
    ?assertEqual(large, megaphone_nif:poll_data(Conn, 0)),
    ?assertEqual({ok, lists:duplicate(4096, $b)}, megaphone_nif:get_data(Conn, 4096)),
    ?assertEqual({ok, binary_to_list(Sent, 4097, byte_size(Sent))}, gen_tcp:recv(Server, 0, ?TIMEOUT)),
    ok = gen_tcp:unrecv(Server, Sent),
    ok = inet:setopts(Server, [binary]),
    ?assertEqual({ok, Sent}, gen_tcp:recv(Server, byte_size(Sent), ?TIMEOUT)),
    ?assertEqual(ok, gen_tcp:close(Server)),
    ?assertEqual({error, closed}, gen_tcp:recv(Client, 0, ?TIMEOUT)).

a_call_is_charged_for_what_it_does(_Config) ->
    {_Client, Server} = pair(megaphone, [{high_watermark, 1 bsl 30}, {recv_high_watermark, 1 bsl 30}]),
    Conn = conn(Server),
    Sends = [reductions(fun() -> ok = megaphone_nif:send(Conn, Data) end)
             || Data <- [<<"x">>, binary:copy(<<"x">>, 16384), binary:copy(<<"x">>, 65536)]],
    ?assert(rises(Sends, 400), Sends),
    Lists = [reductions(fun() -> ok = megaphone_nif:send(Conn, lists:duplicate(Length, $x)) end)
             || Length <- [1, 1000]],
    ?assert(rises(Lists, 400), Lists),
    ok = megaphone_nif:unrecv_large(Conn, binary:copy(<<"x">>, 1 bsl 20)),
    Reads = [reductions(fun() -> {ok, _} = megaphone_nif:get_data(Conn, Length) end) || Length <- [1, 16384, 65536]],
    ?assert(rises(Reads, 400), Reads).

rises([One], _By) when is_integer(One) -> true;
rises([One, Next | More], By) -> Next > One + By andalso rises([Next | More], By).

%% Of ten calls at the beginning of a turn, so that what they are charged is there.
reductions(Call) ->
    Test = self(),
    {Pid, Monitor} = spawn_opt(
        fun() ->
            erlang:yield(),
            Before = reductions_so_far(),
            _ = [Call() || _ <- lists:seq(1, 10)],
            Test ! {self(), reductions_so_far() - Before}
        end,
        [monitor, {min_heap_size, 1000000}]),
    receive {Pid, Reductions} -> erlang:demonitor(Monitor, [flush]), Reductions;
            {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    end.

reductions_so_far() ->
    {reductions, Reductions} = process_info(self(), reductions),
    Reductions.

%% --- the end of a process

%% What it had is closed by the library's threads, though their lists are long.
dead_process_leaves_no_socket_open(_Config) ->
    Count = 2000,
    {ok, Listener} = megaphone:listen(0, [{reuseaddr, true}, {backlog, 1024}]),
    {ok, Port} = inet:port(Listener),
    Test = self(),
    Owner = spawn(fun() -> accept(Count, Listener, Test) end),
    Clients = [connect(Port) || _ <- lists:seq(1, Count)],
    receive {accepted, Owner} -> ok end,
    Monitor = erlang:monitor(process, Owner),
    exit(Owner, kill),
    receive {'DOWN', Monitor, process, Owner, killed} -> ok end,
    [?assertEqual({error, closed}, gen_tcp:recv(Client, 0, ?TIMEOUT)) || Client <- Clients],
    ok = await_no_connections(listener_id(Listener)),
    ok = gen_tcp:close(Listener).

%% A client may see the end a moment before it is counted.
await_no_connections(Listener) ->
    case megaphone_nif:listener_info(Listener) of
        #{connections := 0} -> ok;
        #{connections := _} -> erlang:yield(), await_no_connections(Listener)
    end.

%% A supervisor opens it again as soon as it learns of the end.
port_is_free_when_its_owner_has_ended(_Config) ->
    {ok, Free} = gen_tcp:listen(0, []),
    {ok, Port} = inet:port(Free),
    ok = gen_tcp:close(Free),
    [begin
        {Owner, Monitor} = spawn_monitor(fun() -> {ok, _} = megaphone:listen(Port, [{reuseaddr, true}]) end),
        receive {'DOWN', Monitor, process, Owner, Reason} -> ?assertEqual(normal, Reason) end
     end || _ <- lists:seq(1, 200)].

accept(0, _Listener, Test) ->
    Test ! {accepted, self()},
    receive after infinity -> ok end;
accept(Count, Listener, Test) ->
    {ok, _} = gen_tcp:accept(Listener),
    accept(Count - 1, Listener, Test).

connect(Port) ->
    {ok, Client} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}], ?TIMEOUT),
    Client.

listener_id({'$inet', megaphone_socket, {listener, Listener}}) -> Listener.
