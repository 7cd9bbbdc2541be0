%% One connection manager in front of an ejabberd cluster of two nodes: it spreads its clients, and those of a node that
%% stops or dies come back on the other.
-module(megaphone_ecm_cluster_SUITE).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([users_of_a_stopping_node_return_on_the_other/1, users_of_a_killed_node_return_on_the_other/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sockets, [await/1]).
-import(megaphone_ct_xmpp, [trailing/1]).

%% Users of each transport.
-define(USERS, 4).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [users_of_a_stopping_node_return_on_the_other, users_of_a_killed_node_return_on_the_other].

init_per_testcase(Case, Config) ->
    Directory = filename:join(proplists:get_value(priv_dir, Config), Case),
    [First, Second] = [start_node(Own) || Own <- with_one_secret([filename:join(Directory, Name) || Name <- ["first", "second"]])],
    ok = megaphone_ct_node:call(Second, ejabberd_cluster, join, [megaphone_ct_node:name(First)]),
    Nodes = lists:sort([megaphone_ct_node:name(Node) || Node <- [First, Second]]),
    Nodes = lists:sort(megaphone_ct_node:call(First, ejabberd_cluster, get_nodes, [])),
    Ports = [{c2s, megaphone_ct_node:free_port()}, {http, megaphone_ct_node:free_port()}],
    Ecm = megaphone_ct_ecm:start(Directory, #{
        secret_file => megaphone_ct_node:secret_file(First), ports => Ports,
        nodes => [{megaphone_ct_node:name(Node), megaphone_ct_node:link_port(Node)} || Node <- [First, Second]],
        lines => "max_connections = 2000\nbalance = \"least\"\n", tables => "[link]\nresume_timeout = \"1 s\"\n"
    }),
    [ok = megaphone_ct_ecm:await_link(Node) || Node <- [First, Second]],
    [{first, First}, {second, Second}, {ecm, Ecm}, {ports, Ports} | Config].

with_one_secret(Directories) ->
    [Secret, Other] = [megaphone_ct_ecm:secret_file(Directory) || Directory <- Directories],
    {ok, _} = file:copy(Secret, Other),
    Directories.

start_node(Directory) ->
    megaphone_ct_node:start(megaphone_http, Directory, #{links => [], arguments => megaphone_ct_epmd:arguments()}).

end_per_testcase(_Case, Config) ->
    [ok = megaphone_ct_node:stop(proplists:get_value(Node, Config)) || Node <- [second, first]],
    megaphone_ct_ecm:kill(proplists:get_value(ecm, Config)).

%% Across the nodes; the clients don't know which one they are on.
users(Config) ->
    Users = log_in([first, second], Config),
    ok = await(fun() -> lists:all(fun(Node) -> not lists:member(none, sessions(Node, Users, Config)) end, [first, second]) end),
    Talked = megaphone_ct_numbered:collect(megaphone_ct_numbered:send(Users, 10)),
    ?assertEqual(2, length(lists:usort(nodes_of(Talked, Config)))),
    Talked.

log_in(Nodes, Config) ->
    [C2s, Http] = [proplists:get_value(Service, proplists:get_value(ports, Config)) || Service <- [c2s, http]],
    megaphone_ct_numbered:users(?USERS, C2s, Http, fun() -> account([proplists:get_value(Node, Config) || Node <- Nodes]) end).

%% Mnesia tells the other node a moment later.
account([First | _] = Nodes) ->
    {Jid, _} = Account = megaphone_ct_node:account(First, "user"),
    [User, Server] = binary:split(list_to_binary(Jid), <<"@">>),
    IsKnown = fun(Node) -> megaphone_ct_node:call(Node, mnesia, dirty_read, [passwd, {User, Server}]) =/= [] end,
    ok = await(fun() -> lists:all(IsKnown, Nodes) end),
    Account.

nodes_of(Users, Config) ->
    [node(Pid) || Pid <- sessions(first, Users, Config)].

%% As this node knows them.
sessions(Node, Users, Config) ->
    [megaphone_ct_sessions:session([{ejabberd, proplists:get_value(Node, Config)}], Jid)
     || Jid <- megaphone_ct_numbered:jids(Users)].

users_of_a_stopping_node_return_on_the_other(Config) ->
    Users = users(Config),
    Second = proplists:get_value(second, Config),
    Leaving = on_node(megaphone_ct_node:name(Second), Users, Config),
    ok = megaphone_ct_node:stop(Second),
    %% There are others to come back to.
    [begin
         Said = trailing(Socket),
         ?assertMatch({_, {match, _}}, {Said, re:run(Said, "<reset .*</stream:stream>")})
     end || {tcp, Socket} <- Leaving],
    ok = megaphone_ct_numbered:leave(Users),
    return(Config).

users_of_a_killed_node_return_on_the_other(Config) ->
    Users = users(Config),
    Second = proplists:get_value(second, Config),
    Leaving = on_node(megaphone_ct_node:name(Second), Users, Config),
    _ = os:cmd("kill -KILL " ++ megaphone_ct_node:os_pid(Second)),
    [?assertEqual(<<>>, trailing(Socket)) || {tcp, Socket} <- Leaving],
    First = proplists:get_value(first, Config),
    await(fun() -> megaphone_ct_node:call(First, ejabberd_cluster, get_nodes, []) =:= [megaphone_ct_node:name(First)] end),
    ok = megaphone_ct_numbered:leave(Users),
    return(Config).

on_node(Node, Users, Config) ->
    Sockets = megaphone_ct_numbered:sockets(Users),
    OnNode = [Socket || {Its, Socket} <- lists:zip(nodes_of(Users, Config), Sockets), Its =:= Node],
    ?assertNotEqual([], [Socket || {tcp, Socket} <- OnNode]),
    OnNode.

return(Config) ->
    First = proplists:get_value(first, Config),
    Users = log_in([first], Config),
    ?assertEqual([megaphone_ct_node:name(First)], lists:usort(nodes_of(Users, Config))),
    ok = megaphone_ct_numbered:leave(megaphone_ct_numbered:collect(megaphone_ct_numbered:send(Users, 10))).
