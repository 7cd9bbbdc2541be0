%% Real ejabberd with the listener megaphone_ecm, and the program megaphone-ecm in front of it: users of all transports,
%% peers that are none, and links that break. megaphone_link_SUITE has links without ejabberd; other suites have a group
%% ecm, with the same cases through a connection manager.
-module(megaphone_ecm_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([users_of_every_transport_talk/1, kicked_user_is_told/1, session_is_resumed_after_a_cut/1, starttls_is_the_nodes/1]).
-export([peers_without_the_secret_are_refused/1, manager_with_another_secret_is_refused/1]).
-export([broken_link_loses_nothing/1, users_of_a_killed_manager_resume_on_another/1, stopping_node_says_so/1,
         http_clients_outlive_their_node/1]).
-export([configuration_says_what_is_wrong/1, listeners_of_one_name_are_told_of/1, link_survives_its_listener/1,
         restarted_megaphone_has_links_again/1, removed_listener_sends_managers_away/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sessions, [account/1, await_event/2, call/4, ejabberd/1, session_info/2, native_transport/2]).
-import(megaphone_ct_xmpp, [login/2, await/2, trailing/1]).
-import(megaphone_ct_sockets, [await/1]).

-define(LOOPBACK, {127, 0, 0, 1}).
-define(TIMEOUT, 30000).

%% Users of each transport, and messages of each in a batch.
-define(USERS, 8).
-define(BATCH, 20).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [users_of_every_transport_talk, kicked_user_is_told, session_is_resumed_after_a_cut, starttls_is_the_nodes,
     peers_without_the_secret_are_refused, manager_with_another_secret_is_refused,
     broken_link_loses_nothing, users_of_a_killed_manager_resume_on_another, stopping_node_says_so,
     http_clients_outlive_their_node,
     configuration_says_what_is_wrong, listeners_of_one_name_are_told_of, link_survives_its_listener,
     restarted_megaphone_has_links_again, removed_listener_sends_managers_away].

init_per_suite(Config) -> start("ecm", Config).

end_per_suite(Config) -> stop(Config).

%% A node, and a manager in front of it with a relay between the two.
start(Name, Config) ->
    Directory = filename:join(proplists:get_value(priv_dir, Config), Name),
    Ejabberd = megaphone_ct_node:start(megaphone_http, Directory, #{links => ["handshake_timeout: 2 seconds"]}),
    Relay = megaphone_ct_ecm:relay(megaphone_ct_node:link_port(Ejabberd)),
    Ports = [{c2s, megaphone_ct_node:free_port()}, {http, megaphone_ct_node:free_port()}],
    Ecm = start_ecm(Ejabberd, Directory, "ecm1", Ports, megaphone_ct_ecm:relay_port(Relay)),
    ok = megaphone_ct_ecm:await_link(Ejabberd),
    [{ejabberd, Ejabberd}, {variant, megaphone}, {directory, Directory}, {relay, Relay}, {ecm, Ecm}, {ports, Ports},
     {await, megaphone_ct_events:start(Ejabberd)} | Config].

start_ecm(Ejabberd, Directory, Name, Ports, LinkPort) ->
    megaphone_ct_ecm:start(Directory, #{
        name => Name, secret_file => megaphone_ct_node:secret_file(Ejabberd), ports => Ports,
        nodes => [{megaphone_ct_node:name(Ejabberd), LinkPort}]
    }).

stop(Config) ->
    ok = megaphone_ct_node:stop(ejabberd(Config)),
    ok = megaphone_ct_ecm:kill(proplists:get_value(ecm, Config)),
    megaphone_ct_ecm:stop_relay(proplists:get_value(relay, Config)).

port(Config, Service) -> proplists:get_value(Service, proplists:get_value(ports, Config)).

%% --- users

users_of_every_transport_talk(Config) ->
    Users = users(1, Config),
    Jids = megaphone_ct_numbered:jids(Users),
    ?assertEqual([tcp, websocket, http_bind], [native_transport(Config, Jid) || Jid <- Jids]),
    ?assertMatch([{"c2s", "127.0.0.1", _}, {"websocket", "127.0.0.1", _}, {"http_bind", "127.0.0.1", _}],
                 [session_info(Config, Jid) || Jid <- Jids]),
    _ = megaphone_ct_numbered:collect(megaphone_ct_numbered:send(Users, ?BATCH)),
    ok = megaphone_ct_numbered:leave(Users),
    {Socket, Jid} = login(port(Config, c2s), account(Config)),
    {ok, {_, Port}} = inet:sockname(Socket),
    ?assertEqual({"c2s", "127.0.0.1", Port}, session_info(Config, Jid)),
    #{socket := State} = megaphone_ct_sessions:state(Config, Jid),
    ?assertEqual({ok, {?LOOPBACK, port(Config, c2s)}}, call(Config, megaphone_nif, xmpp_sockname, [element(3, State)])),
    ok = gen_tcp:close(Socket),
    %% Plain HTTP, with processes of ejabberd_http.
    ?assertMatch(#{status := 401}, answer(Config, "/admin/")),
    ?assertMatch(#{status := 200}, answer(Config, "/bosh")).

answer(Config, Path) ->
    Socket = megaphone_ct_http:connect(port(Config, http)),
    ok = megaphone_ct_http:send(Socket, megaphone_ct_http:request("GET", Path)),
    Response = megaphone_ct_http:response(Socket),
    ok = gen_tcp:close(Socket),
    Response.

users(Count, Config) ->
    megaphone_ct_numbered:users(Count, port(Config, c2s), port(Config, http), fun() -> account(Config) end).

kicked_user_is_told(Config) ->
    {Socket, Jid} = login(port(Config, c2s), account(Config)),
    ?assertEqual(ok, megaphone_ct_sessions:admin(Config, kick_session, [Jid, "enough"])),
    Told = trailing(Socket),
    ?assertMatch({match, _}, re:run(Told, "enough.*</stream:stream>"), Told).

session_is_resumed_after_a_cut(Config) ->
    Account = account(Config),
    {Socket, Jid} = login(port(Config, c2s), Account),
    Id = megaphone_ct_xmpp:enable_resumption(Socket),
    ok = megaphone_ct_xmpp:reset(Socket),
    ok = await_event(Config, {session_pending, list_to_binary(Jid)}),
    {Other, _} = login(port(Config, c2s), account(Config)),
    ok = gen_tcp:send(Other, message(Jid, "meanwhile")),
    {Resumed, _} = megaphone_ct_xmpp:resume(port(Config, c2s), Account, Id, "<body>meanwhile</body>"),
    [ok = gen_tcp:close(Each) || Each <- [Other, Resumed]].

%% The manager doesn't look at what it carries, so TLS is between client and node.
starttls_is_the_nodes(Config) ->
    [Port, Own] = [megaphone_ct_node:free_port() || _ <- [1, 2]],
    ok = megaphone_ct_node:reload(ejabberd(Config), [
        ["  -\n    port: ", integer_to_list(Own), "\n    ip: \"127.0.0.1\"\n    module: megaphone_c2s\n    starttls_required: true\n"
         "    ecm_name: secure\n"]]),
    Ecm = start_ecm(ejabberd(Config), proplists:get_value(directory, Config), "secure", [{secure, Port}], link_port(Config)),
    Certificate = megaphone_ct_node:certificate(ejabberd(Config)),
    [Client, Other] = [megaphone_ct_client:slixmpp(Port, account(Config), [Certificate]) || _ <- [1, 2]],
    ok = megaphone_ct_client:talk(Client, Other),
    [ok = megaphone_ct_client:quit(Each) || Each <- [Client, Other]],
    ok = megaphone_ct_ecm:kill(Ecm),
    ok = megaphone_ct_node:reload(ejabberd(Config), []).

message(Jid, Text) -> ["<message to='", Jid, "'><body>", Text, "</body></message>"].

%% --- peers that are no managers of ours

peers_without_the_secret_are_refused(Config) ->
    Before = call(Config, megaphone, links, []),
    Random = fun crypto:strong_rand_bytes/1,
    Hello = fun(Version) ->
        handshake(16#81, <<Version:16, Version:16, (Random(32))/binary, (Random(16))/binary, 0:32, 0:64, 3, "ecm", 0>>)
    end,
    ?assertEqual(<<>>, said(Config, ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"])),
    ?assertEqual(<<>>, said(Config, ["MGPHLINK", Random(1000)])),
    ?assertMatch(<<16#85, _:16, 1, _/binary>>, said(Config, ["MGPHLINK", Hello(999)])),
    %% One that the node would talk to, if it knew the secret.
    {ok, Socket} = gen_tcp:connect(?LOOPBACK, link_port(Config), [binary, {active, false}]),
    ok = gen_tcp:send(Socket, ["MGPHLINK", Hello(1)]),
    {ok, <<16#82, 34:16, 1:16, _:32/binary>>} = gen_tcp:recv(Socket, 37, ?TIMEOUT),
    ok = gen_tcp:send(Socket, handshake(16#83, <<16384:16, 8192:32, 1000:32, 4194304:32, 30:16, (Random(32))/binary>>)),
    ?assertMatch(<<16#85, _:16, 2, _/binary>>, trailing(Socket)),
    %% One that says nothing has its 2 seconds.
    ?assertEqual(<<>>, said(Config, [])),
    await(fun() -> megaphone_ct_node:log(ejabberd(Config), "refused a connection to a listener for links") =/= [] end),
    [Logged] = megaphone_ct_node:log(ejabberd(Config), "refused a connection to a listener for links"),
    ?assertMatch({match, _}, re:run(Logged, "127,0,0,1")),
    ?assertEqual([Id || #{id := Id} <- Before], [Id || #{id := Id} <- call(Config, megaphone, links, [])]),
    users_of_every_transport_talk(Config).

handshake(Type, Body) -> <<Type, (byte_size(Body)):16, Body/binary>>.

%% All that the node says to these bytes before it closes the connection.
said(Config, Bytes) ->
    {ok, Socket} = gen_tcp:connect(?LOOPBACK, link_port(Config), [binary, {active, false}]),
    ok = gen_tcp:send(Socket, Bytes),
    Answer = trailing(Socket),
    ok = gen_tcp:close(Socket),
    Answer.

link_port(Config) -> megaphone_ct_node:link_port(ejabberd(Config)).

manager_with_another_secret_is_refused(Config) ->
    Directory = filename:join(proplists:get_value(directory, Config), "foreign"),
    Ecm = megaphone_ct_ecm:start(Directory, #{
        name => "foreign", secret_file => megaphone_ct_ecm:secret_file(Directory),
        ports => [{c2s, megaphone_ct_node:free_port()}],
        nodes => [{megaphone_ct_node:name(ejabberd(Config)), link_port(Config)}]
    }),
    await(fun() -> megaphone_ct_ecm:log(Ecm, "(?i)authenticat|secret") =/= [] end),
    ?assertEqual([], [Link || #{ecm := <<"foreign">>} = Link <- call(Config, megaphone, links, [])]),
    ok = megaphone_ct_ecm:kill(Ecm).

%% --- links that break

%% In the middle of what all send, and sent on while there is no link.
broken_link_loses_nothing(Config) ->
    Relay = proplists:get_value(relay, Config),
    Users = users(?USERS, Config),
    Sessions = [megaphone_ct_sessions:session(Config, Jid) || Jid <- megaphone_ct_numbered:jids(Users)],
    Resumed = resumed(Config),
    Last = lists:foldl(
        fun(_Round, Talking) ->
            Begun = megaphone_ct_numbered:send(Talking, ?BATCH),
            ok = megaphone_ct_ecm:cut(Relay),
            await(fun() -> is_connected(Config) =:= false end),
            Sent = megaphone_ct_numbered:send(Begun, ?BATCH),
            ok = megaphone_ct_ecm:mend(Relay),
            await(fun() -> is_connected(Config) end),
            megaphone_ct_numbered:collect(Sent)
        end,
        Users, lists:seq(1, 3)),
    ?assertEqual(Sessions, [megaphone_ct_sessions:session(Config, Jid) || Jid <- megaphone_ct_numbered:jids(Last)]),
    ?assertEqual(Resumed + 3, resumed(Config)),
    ok = megaphone_ct_numbered:leave(Last).

is_connected(Config) ->
    [#{connected := Is}] = links(Config, <<"ecm1">>),
    Is.

resumed(Config) ->
    [#{resumed := Resumed}] = links(Config, <<"ecm1">>),
    Resumed.

links(Config, Ecm) -> [Link || #{ecm := Its} = Link <- call(Config, megaphone, links, []), Its =:= Ecm].

users_of_a_killed_manager_resume_on_another(Config) ->
    [Port, Other] = [megaphone_ct_node:free_port() || _ <- [1, 2]],
    [First, Second] = [start_ecm(ejabberd(Config), proplists:get_value(directory, Config), Name, [{c2s, Its}], link_port(Config))
                       || {Name, Its} <- [{"first", Port}, {"second", Other}]],
    Accounts = [account(Config) || _ <- lists:seq(1, 5)],
    Logins = [login(Port, Account) || Account <- Accounts],
    Ids = [megaphone_ct_xmpp:enable_resumption(Socket) || {Socket, _} <- Logins],
    ok = megaphone_ct_ecm:kill(First),
    [?assertEqual(<<>>, trailing(Socket)) || {Socket, _} <- Logins],
    {Sender, _} = login(Other, account(Config)),
    [ok = gen_tcp:send(Sender, message(Jid, "for you")) || {_, Jid} <- Logins],
    [begin
         {Socket, _} = megaphone_ct_xmpp:resume(Other, Account, Id, "<body>for you</body>"),
         ok = gen_tcp:close(Socket)
     end || {Account, Id} <- lists:zip(Accounts, Ids)],
    ok = gen_tcp:close(Sender),
    ok = megaphone_ct_ecm:kill(Second).

%% Its users are told as without a manager, and the manager that it brings nobody.
stopping_node_says_so(Config) ->
    Own = start("stopping", Config),
    {Socket, _} = login(port(Own, c2s), account(Own)),
    {WebSocket, _} = megaphone_ct_websocket:login(port(Own, http), megaphone_ct_http:websocket_request("/ws", []), account(Own)),
    ok = megaphone_ct_node:stop(ejabberd(Own)),
    ?assertMatch({match, _}, re:run(trailing(Socket), "<system-shutdown.*</stream:stream>")),
    ?assertMatch({match, _}, re:run(trailing(WebSocket), "<system-shutdown.*<close")),
    await(fun() -> megaphone_ct_ecm:log(proplists:get_value(ecm, Own), "(?i)stopping|goaway|go away") =/= [] end),
    stop(Own).

%% On the connection that they have.
http_clients_outlive_their_node(Config) ->
    Own = start("restarted", Config),
    Sockets = [megaphone_ct_http:connect(port(Own, http)) || _ <- [1, 2]],
    Ask = fun(Socket) ->
        ok = megaphone_ct_http:send(Socket, megaphone_ct_http:request("GET", "/bosh")),
        ?assertMatch(#{status := 200}, megaphone_ct_http:response(Socket))
    end,
    lists:foreach(Ask, Sockets),
    ok = megaphone_ct_node:stop(ejabberd(Own)),
    %% One asks while there is no node.
    ok = megaphone_ct_http:send(hd(Sockets), megaphone_ct_http:request("GET", "/bosh")),
    Restarted = megaphone_ct_node:restart(ejabberd(Own)),
    ?assertMatch(#{status := 200}, megaphone_ct_http:response(hd(Sockets))),
    Ask(lists:last(Sockets)),
    stop([{ejabberd, Restarted} | Own]).

%% --- the listener

configuration_says_what_is_wrong(Config) ->
    Secret = megaphone_ct_node:secret_file(ejabberd(Config)),
    Open = Secret ++ ".open",
    {ok, _} = file:copy(Secret, Open),
    ok = file:change_mode(Open, 8#644),
    [?assertMatch({Text, {match, _}}, {Text, re:run(refused_reload(Config, Lines), Text)})
     || {Lines, Text} <- [{["secret_file: \"", Open, "\""], "mode 0644, so others than its owner can use it: chmod 600"},
                          {"max_links: 1", "secret_file"},
                          {["secret_file: \"", Secret, "\"\n    max_links: 0"], "max_links has to be from 1 to 4096, and is 0"},
                          {["secret_file: \"", Secret, "\"\n    tls: true"], "(?i)unknown option: tls"}]],
    ok = megaphone_ct_node:reload(ejabberd(Config), []).

refused_reload(Config, Lines) ->
    Listener = ["  -\n    port: 1\n    ip: \"127.0.0.1\"\n    module: megaphone_ecm\n    ", Lines, "\n"],
    megaphone_ct_node:reload_error(ejabberd(Config), [Listener]).

listeners_of_one_name_are_told_of(Config) ->
    ok = megaphone_ct_node:reload(ejabberd(Config), [
        ["  -\n    port: ", integer_to_list(megaphone_ct_node:free_port()), "\n    ip: \"127.0.0.1\"\n    module: megaphone_c2s\n"
         "    ecm_name: \"", Name, "\"\n"] || Name <- ["other", "c2s"]]),
    await(fun() -> megaphone_ct_node:log(ejabberd(Config), "that ask for c2s come to the listener megaphone_c2s") =/= [] end),
    ?assertEqual([], megaphone_ct_node:log(ejabberd(Config), "that ask for other come")),
    ok = megaphone_ct_node:reload(ejabberd(Config), []),
    %% The first has the name again.
    {Socket, _} = login(port(Config, c2s), account(Config)),
    ok = gen_tcp:close(Socket).

%% ejabberd's process of the listener ends, and another opens the port. The link goes on, and is resumed there.
link_survives_its_listener(Config) ->
    Relay = proplists:get_value(relay, Config),
    Users = users(1, Config),
    Resumed = resumed(Config),
    [{EndPoint, Pid}] = [{EndPoint, Pid} || {{Port, _, _} = EndPoint, Pid, _, _} <- listeners(Config), Port =:= link_port(Config)],
    true = call(Config, erlang, exit, [Pid, kill]),
    await(fun() ->
        case lists:keyfind(EndPoint, 1, listeners(Config)) of
            {_, Other, _, _} when is_pid(Other), Other =/= Pid -> is_listening(Config);
            _ -> false
        end
    end),
    Talked = megaphone_ct_numbered:collect(megaphone_ct_numbered:send(Users, ?BATCH)),
    ok = megaphone_ct_ecm:cut(Relay),
    Sent = megaphone_ct_numbered:send(Talked, ?BATCH),
    ok = megaphone_ct_ecm:mend(Relay),
    ok = megaphone_ct_numbered:leave(megaphone_ct_numbered:collect(Sent)),
    ?assertEqual(Resumed + 1, resumed(Config)).

listeners(Config) -> call(Config, supervisor, which_children, [ejabberd_listener]).

is_listening(Config) ->
    [] =/= [Id || #{id := Id, mode := links, is_open := true} <- call(Config, megaphone, listeners, [])].

%% Clients that there are stay: there is no other node for them.
removed_listener_sends_managers_away(Config) ->
    Users = users(1, Config),
    ok = megaphone_ct_node:reload_without_links(ejabberd(Config)),
    await(fun() -> megaphone_ct_ecm:log(proplists:get_value(ecm, Config), "takes no new clients") =/= [] end),
    {error, econnrefused} = gen_tcp:connect(?LOOPBACK, link_port(Config), []),
    ok = megaphone_ct_numbered:leave(megaphone_ct_numbered:collect(megaphone_ct_numbered:send(Users, ?BATCH))).

%% The port stays ejabberd's all the time. Links end with Megaphone, and managers make others.
restarted_megaphone_has_links_again(Config) ->
    Before = open_listeners(Config),
    [ok = call(Config, application, stop, [Application]) || Application <- [megaphone_ejabberd, megaphone]],
    {ok, _} = call(Config, application, ensure_all_started, [megaphone_ejabberd]),
    ok = megaphone_ct_ecm:await_link(ejabberd(Config)),
    %% Each of ejabberd's listeners finds out by itself, once a second, that Megaphone is back.
    await(fun() -> open_listeners(Config) =:= Before end),
    users_of_every_transport_talk(Config).

open_listeners(Config) -> length([Id || #{id := Id, is_open := true} <- call(Config, megaphone, listeners, [])]).
