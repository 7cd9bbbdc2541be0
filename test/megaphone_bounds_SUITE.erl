%% What a call of the library takes: numbers that fit, and arguments of any size without a scheduler's suffering.
-module(megaphone_bounds_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([numbers_that_do_not_fit_are_refused/1, active_counts_are_those_of_inet/1,
         dead_process_leaves_no_socket_open/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sockets, [pair/1, conn/1]).

-define(TIMEOUT, 10000).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [numbers_that_do_not_fit_are_refused, active_counts_are_those_of_inet, dead_process_leaves_no_socket_open].

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
