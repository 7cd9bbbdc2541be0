%% Many users of all transports who chat through a connection manager while its link is cut again and again. Every message
%% has a number: none is lost, none comes twice, and nobody is disconnected.
%%
%% By default so many and so short that it takes seconds. The whole, 2,000 users and cuts of 1, 10 and 25 seconds, so many
%% of each, takes some minutes for one of each:
%%
%%     MEGAPHONE_FAULTS=10 rebar3 ct --suite=test/megaphone_ecm_faults_SUITE
-module(megaphone_ecm_faults_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([cut_links_lose_nothing/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sessions, [call/4, ejabberd/1]).
-import(megaphone_ct_sockets, [await/1]).

suite() -> [{timetrap, {minutes, 30}}].

all() -> [cut_links_lose_nothing].

%% Users of each of the three transports, messages that each sends before a cut, and as many while there is no link, and the
%% lengths of cuts in milliseconds.
plan() ->
    case os:getenv("MEGAPHONE_FAULTS") of
        false -> {50, 10, [0, 500, 1000]};
        Times -> {667, 2, lists:append(lists:duplicate(list_to_integer(Times), [1000, 10_000, 25_000]))}
    end.

init_per_suite(Config) ->
    Directory = filename:join(proplists:get_value(priv_dir, Config), "faults"),
    Ejabberd = megaphone_ct_node:start(megaphone_http, Directory, #{links => []}),
    Relay = megaphone_ct_ecm:relay(megaphone_ct_node:link_port(Ejabberd)),
    Ports = [{c2s, megaphone_ct_node:free_port()}, {http, megaphone_ct_node:free_port()}],
    Ecm = megaphone_ct_ecm:start(Directory, #{
        secret_file => megaphone_ct_node:secret_file(Ejabberd), ports => Ports, lines => "max_connections = 4000\n",
        nodes => [{megaphone_ct_node:name(Ejabberd), megaphone_ct_ecm:relay_port(Relay)}]
    }),
    ok = megaphone_ct_ecm:await_link(Ejabberd),
    [{ejabberd, Ejabberd}, {relay, Relay}, {ecm, Ecm}, {ports, Ports} | Config].

end_per_suite(Config) ->
    ok = megaphone_ct_node:stop(ejabberd(Config)),
    ok = megaphone_ct_ecm:kill(proplists:get_value(ecm, Config)),
    megaphone_ct_ecm:stop_relay(proplists:get_value(relay, Config)).

cut_links_lose_nothing(Config) ->
    {Count, Batch, Cuts} = plan(),
    [C2s, Http] = [proplists:get_value(Service, proplists:get_value(ports, Config)) || Service <- [c2s, http]],
    Users = megaphone_ct_numbered:users(Count, C2s, Http, fun() -> account(Config) end),
    Jids = megaphone_ct_numbered:jids(Users),
    Sessions = [megaphone_ct_sessions:session(Config, Jid) || Jid <- Jids],
    Last = lists:foldl(fun(Length, Talking) -> chat_over_a_cut(Length, Batch, Talking, Config) end, Users, Cuts),
    ?assertEqual(Sessions, [megaphone_ct_sessions:session(Config, Jid) || Jid <- Jids]),
    ?assertMatch([#{resumed := Resumed}] when Resumed =:= length(Cuts), call(Config, megaphone, links, [])),
    ct:pal("~w users, ~w cuts, ~w messages: none lost, none repeated, nobody disconnected",
           [length(Jids), length(Cuts), 2 * Batch * length(Jids) * length(Cuts)]),
    ok = megaphone_ct_numbered:leave(Last).

%% It is as long as it is said to be, at least.
chat_over_a_cut(Length, Batch, Users, Config) ->
    Relay = proplists:get_value(relay, Config),
    Begun = megaphone_ct_numbered:send(Users, Batch),
    ok = megaphone_ct_ecm:cut(Relay),
    CutAt = erlang:monotonic_time(millisecond),
    Sent = megaphone_ct_numbered:send(Begun, Batch),
    receive after max(0, CutAt + Length - erlang:monotonic_time(millisecond)) -> ok end,
    await(fun() -> not is_connected(Config) end),
    ok = megaphone_ct_ecm:mend(Relay),
    await(fun() -> is_connected(Config) end),
    megaphone_ct_numbered:collect(Sent).

is_connected(Config) ->
    [#{connected := Is}] = call(Config, megaphone, links, []),
    Is.

%% Stored as it is, the password takes no thousands of rounds of a hash at the login.
account(Config) ->
    User = "user" ++ integer_to_list(erlang:unique_integer([positive])),
    {_, {ok, _}} = call(Config, ejabberd_auth_mnesia, try_register, [list_to_binary(User), <<"localhost">>, <<"secret">>]),
    {User ++ "@localhost", "secret"}.
