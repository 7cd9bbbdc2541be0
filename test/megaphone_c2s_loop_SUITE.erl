%% The process of a native XMPP session beside that of stock: real ejabberd, a real client over TCP.
-module(megaphone_c2s_loop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([state_is_that_of_a_stock_c2s/1, calls_are_answered/1, idle_session_hibernates/1,
         session_with_a_long_mailbox_ends/1, flush_leaves_a_running_timeout_alone/1]).
%% Called in ejabberd's node.
-export([await_hibernation/1, fill_mailbox/2, time_out_after_flush/2]).

-define(MAX_QUEUE, 20).
-define(TIMEOUT, 30000).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [state_is_that_of_a_stock_c2s, calls_are_answered, idle_session_hibernates, session_with_a_long_mailbox_ends,
     flush_leaves_a_running_timeout_alone].

init_per_suite(Config) ->
    Ejabberd = megaphone_ct_node:start(megaphone_http, filename:join(proplists:get_value(priv_dir, Config), "node")),
    Ports = #{megaphone_c2s => megaphone_ct_node:free_port(), ejabberd_c2s => megaphone_ct_node:free_port()},
    ok = megaphone_ct_node:reload(Ejabberd, [
        listener(megaphone_c2s, Ports, "    hibernate_after: 1\n"),
        listener(ejabberd_c2s, Ports, "")
    ]),
    [{ejabberd, Ejabberd}, {ports, Ports} | Config].

end_per_suite(Config) -> megaphone_ct_node:stop(ejabberd(Config)).

listener(Module, Ports, Options) ->
    io_lib:format("  -\n    port: ~w\n    ip: \"127.0.0.1\"\n    module: ~w\n    max_fsm_queue: ~w\n~s",
                  [maps:get(Module, Ports), Module, ?MAX_QUEUE, Options]).

%% --- cases

state_is_that_of_a_stock_c2s(Config) ->
    [Ours, Stock] = [sys_state(Config, session(Config, Module)) || Module <- [megaphone_c2s, ejabberd_c2s]],
    %% The timer is there while the client owes an acknowledgement (XEP-0198).
    Keys = fun(State) -> lists:sort(maps:keys(maps:remove(mgmt_ack_timer, State))) end,
    ?assertEqual(Keys(Stock), Keys(Ours)),
    Same = [mod, stream_state, stream_timeout, xmlns, conn, lserver, zlib, tls_enabled, stream_header_sent],
    ?assertEqual(maps:with(Same, Stock), maps:with(Same, Ours)).

calls_are_answered(Config) ->
    Pid = session(Config, megaphone_c2s),
    Presence = megaphone_ct_node:call(ejabberd(Config), ejabberd_c2s, get_presence, [Pid]),
    ?assertEqual(presence, element(1, Presence)).

idle_session_hibernates(Config) ->
    ok = megaphone_ct_node:call(ejabberd(Config), ?MODULE, await_hibernation, [session(Config, megaphone_c2s)]).

session_with_a_long_mailbox_ends(Config) ->
    [?assertMatch({process_limit, {max_queue, Length}} when Length > ?MAX_QUEUE,
                  megaphone_ct_node:call(ejabberd(Config), ?MODULE, fill_mailbox,
                                         [session(Config, Module), 3 * ?MAX_QUEUE]))
     || Module <- [megaphone_c2s, ejabberd_c2s]].

%% A c2s that has not logged in counts from its start, whatever messages it gets.
flush_leaves_a_running_timeout_alone(Config) ->
    Pid = session(Config, megaphone_c2s),
    ?assertEqual(ok, megaphone_ct_node:call(ejabberd(Config), ?MODULE, time_out_after_flush, [Pid, 200])).

%% --- in ejabberd's node

await_hibernation(Pid) -> await_hibernation(Pid, erlang:monotonic_time(millisecond) + ?TIMEOUT).

await_hibernation(Pid, Deadline) ->
    case {process_info(Pid, current_function), erlang:monotonic_time(millisecond) < Deadline} of
        {{current_function, {erlang, hibernate, 3}}, _} -> ok;
        %% Where gen_server calls hibernate/0, as in OTP 29: that returns, and is no function of its own.
        {{current_function, {gen_server, loop_hibernate, _}}, _} -> ok;
        {_, true} -> erlang:yield(), await_hibernation(Pid, Deadline);
        {Running, false} -> {error, Running}
    end.

%% The reason with which Pid ends when it finds Count messages.
fill_mailbox(Pid, Count) ->
    Monitor = monitor(process, Pid),
    ok = sys:suspend(Pid),
    lists:foreach(fun(N) -> Pid ! {unexpected, N} end, lists:seq(1, Count)),
    ok = sys:resume(Pid),
    await_down(Monitor).

%% With Timeout in its state, Pid ends by itself though it flushes all the time.
time_out_after_flush(Pid, Timeout) ->
    Monitor = monitor(process, Pid),
    Start = erlang:monotonic_time(millisecond),
    _ = sys:replace_state(Pid, fun(State) -> State#{stream_timeout => {Timeout, Start}} end),
    flush_until_down(Pid, Monitor, Start + ?TIMEOUT).

flush_until_down(Pid, Monitor, Deadline) ->
    Pid ! '$megaphone_flush',
    receive
        {'DOWN', Monitor, process, Pid, normal} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> {error, Reason}
    after 20 ->
        case erlang:monotonic_time(millisecond) < Deadline of
            true -> flush_until_down(Pid, Monitor, Deadline);
            false -> {error, still_running}
        end
    end.

await_down(Monitor) ->
    receive
        {'DOWN', Monitor, process, _, Reason} -> Reason
    after ?TIMEOUT -> still_running
    end.

%% --- helpers

ejabberd(Config) -> proplists:get_value(ejabberd, Config).

sys_state(Config, Pid) -> megaphone_ct_node:call(ejabberd(Config), sys, get_state, [Pid]).

%% Logs a new user in by a listener of this module, and returns the c2s.
session(Config, Module) ->
    Account = megaphone_ct_node:account(ejabberd(Config), "loop"),
    Client = megaphone_ct_client:slixmpp(maps:get(Module, proplists:get_value(ports, Config)), Account),
    [User, Server, Resource] = string:lexemes(megaphone_ct_client:await_online(Client), "@/"),
    {_, Pid} = megaphone_ct_node:call(ejabberd(Config), ejabberd_sm, get_session_sid,
                                      [list_to_binary(Part) || Part <- [User, Server, Resource]]),
    Pid.
