%% XMPP sessions as clients see them: programs that nobody here wrote, on every transport. The same cases run against
%% ejabberd's own listeners, which shows that they ask for what ejabberd does, and against Megaphone's, directly and through
%% a connection manager.
-module(megaphone_xmpp_SUITE).

-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2]).
-export([logs_in_by_scram/1, chats/1, roster_is_kept_and_pushed/1, presence_goes_both_ways/1, talks_in_a_room/1,
         gets_carbons/1, inactive_client_gets_no_presence/1, large_stanza_is_refused/1, kicked_client_is_told/1,
         server_knows_the_session/1]).
-export([session_is_resumed_after_a_cut/1, starttls/1, reload_keeps_sessions/1, node_stop_is_announced/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_client, [await/2, await_online/1, await_message/2, await_closed/1, command/2, quit/1, hang_up/1]).
-import(megaphone_ct_sessions, [account/1, await_event/2, call/4, client/2, client/3, ejabberd/1]).

-define(BOSH, [strophe_bosh, stanza_bosh]).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, stock}, {group, megaphone}, {group, ecm}].

groups() ->
    Kinds = megaphone_ct_sessions:kinds(),
    All = [{group, Kind} || Kind <- Kinds] ++ [starttls, reload_keeps_sessions, node_stop_is_announced],
    [{stock, [], All}, {megaphone, [], All}, {ecm, [], All -- [starttls]} | [{Kind, [], cases(Kind)} || Kind <- Kinds]].

cases(Kind) ->
    [logs_in_by_scram, chats, roster_is_kept_and_pushed, presence_goes_both_ways, talks_in_a_room, gets_carbons,
     inactive_client_gets_no_presence, kicked_client_is_told, server_knows_the_session] ++
    %% stanza repeats a BOSH request that was refused, for minutes.
    [large_stanza_is_refused || Kind =/= stanza_bosh] ++
    [session_is_resumed_after_a_cut || lists:member(Kind, [slixmpp_tcp, stanza_websocket])].

init_per_group(Variant, Config) when Variant =:= stock; Variant =:= megaphone; Variant =:= ecm ->
    megaphone_ct_sessions:start(Variant, Config);
init_per_group(Kind, Config) ->
    [{kind, Kind} | Config].

end_per_group(Variant, Config) when Variant =:= stock; Variant =:= megaphone; Variant =:= ecm ->
    megaphone_ct_sessions:stop(Config);
end_per_group(_Kind, _Config) -> ok.

%% --- of every kind of client

logs_in_by_scram(Config) ->
    {Jid, _} = Account = account(Config),
    [User, _] = string:split(Jid, "@"),
    Client = client(Config, kind(Config), Account),
    Full = await_online(Client),
    ?assertMatch({Jid, _}, {hd(string:split(Full, "/")), Full}),
    ?assertMatch(<<"SCRAM-SHA-", _/binary>>, await_event(Config, {authenticated, list_to_binary(User)})),
    ok = leave(Config, Client).

chats(Config) ->
    {Client, Other} = {client(Config, kind(Config)), client(Config, strophe_websocket)},
    ok = megaphone_ct_client:talk(Client, Other),
    ok = quit(Other),
    ok = leave(Config, Client).

roster_is_kept_and_pushed(Config) ->
    Account = account(Config),
    {Client, Other} = {client(Config, kind(Config), Account), client(Config, strophe_websocket, Account)},
    [await_online(Each) || Each <- [Client, Other]],
    [command(Each, "roster") || Each <- [Client, Other]],
    ?assertEqual(["", ""], [await(Each, "roster") || Each <- [Client, Other]]),
    ok = command(Client, "roster-set friend@example.org"),
    [?assertEqual("friend@example.org none", await(Each, "push")) || Each <- [Client, Other]],
    ok = command(Client, "roster"),
    ?assertEqual("friend@example.org", await(Client, "roster")),
    ok = leave(Config, Client),
    ok = quit(Other).

presence_goes_both_ways(Config) ->
    {Client, Other} = {client(Config, kind(Config)), client(Config, strophe_websocket)},
    [Jid, OtherJid] = [await_online(Each) || Each <- [Client, Other]],
    ok = befriend({Client, Jid}, {Other, OtherJid}),
    %% Out of sight of the contact, and in sight again.
    ok = command(Client, ["presence unavailable ", bare(OtherJid)]),
    await_presence(Other, "unavailable " ++ Jid),
    ok = command(Client, "status here again"),
    await_presence(Other, "available " ++ Jid),
    ok = quit(Other),
    await_presence(Client, "unavailable " ++ OtherJid),
    ok = leave(Config, Client).

talks_in_a_room(Config) ->
    Room = "room" ++ integer_to_list(erlang:unique_integer([positive])) ++ "@conference.localhost",
    {Client, Other} = {client(Config, kind(Config)), client(Config, strophe_websocket)},
    [await_online(Each) || Each <- [Client, Other]],
    ok = command(Client, ["join ", Room, " first"]),
    ?assertEqual(Room, await(Client, "joined")),
    ok = command(Other, ["join ", Room, " second"]),
    ?assertEqual(Room, await(Other, "joined")),
    await_presence(Client, "available " ++ Room ++ "/second"),
    ok = command(Client, ["groupchat ", Room, " hello all"]),
    [?assertEqual(Room ++ "/first hello all", await(Each, "groupchat")) || Each <- [Client, Other]],
    ok = command(Other, ["groupchat ", Room, " hello one"]),
    [?assertEqual(Room ++ "/second hello one", await(Each, "groupchat")) || Each <- [Client, Other]],
    ok = command(Client, ["leave ", Room, " first"]),
    ?assertEqual(Room, await(Client, "left")),
    await_presence(Other, "unavailable " ++ Room ++ "/first"),
    ok = quit(Other),
    ok = leave(Config, Client).

gets_carbons(Config) ->
    Account = account(Config),
    Client = client(Config, kind(Config), Account),
    {Resource, Sender} = {client(Config, strophe_websocket, Account), client(Config, strophe_websocket)},
    [_, ResourceJid, SenderJid] = [await_online(Each) || Each <- [Client, Resource, Sender]],
    ok = command(Client, "carbons"),
    "" = await(Client, "carbons"),
    ok = megaphone_ct_client:send(Sender, ResourceJid, "for one resource"),
    ?assertEqual(SenderJid, await_message(Resource, "for one resource")),
    ?assertEqual(SenderJid ++ " for one resource", await(Client, "carbon")),
    [ok = quit(Each) || Each <- [Resource, Sender]],
    ok = leave(Config, Client).

inactive_client_gets_no_presence(Config) ->
    {Client, Other} = {client(Config, kind(Config)), client(Config, strophe_websocket)},
    [Jid, OtherJid] = [await_online(Each) || Each <- [Client, Other]],
    ok = befriend({Client, Jid}, {Other, OtherJid}),
    ok = command(Client, "inactive"),
    ok = echo(Client, Jid),
    ?assertMatch(#{csi_state := inactive, csi_queue := {0, _}}, megaphone_ct_sessions:state(Config, Jid)),
    ok = command(Other, "status busy now"),
    ok = echo(Other, OtherJid),
    ?assertMatch(#{csi_queue := {1, _}}, megaphone_ct_sessions:state(Config, Jid)),
    ok = command(Client, "active"),
    ?assertEqual("available " ++ OtherJid, await(Client, "presence")),
    ok = quit(Other),
    ok = leave(Config, Client).

large_stanza_is_refused(Config) ->
    Client = client(Config, kind(Config)),
    Jid = await_online(Client),
    ok = megaphone_ct_client:send(Client, Jid, lists:duplicate(200_000, $x)),
    case {kind(Config), megaphone_ct_sessions:is_megaphone(Config)} of
        {Kind, false} when Kind =:= strophe_websocket; Kind =:= stanza_websocket ->
            %% ejabberd's WebSocket knows no limit.
            _ = await(Client, "message"),
            ok = quit(Client);
        {strophe_bosh, _} ->
            %% Refused by the status of an HTTP response, which strophe.js keeps to itself.
            _ = await_closed(Client),
            ok;
        _ ->
            ?assertEqual("policy-violation", await_closed(Client)),
            await_event(Config, {session_ended, list_to_binary(Jid)})
    end.

kicked_client_is_told(Config) ->
    Client = client(Config, kind(Config)),
    Jid = await_online(Client),
    ok = megaphone_ct_sessions:admin(Config, kick_session, [Jid, "out"]),
    ok = is_told(Config, kind(Config), "conflict", await_closed(Client)),
    await_event(Config, {session_ended, list_to_binary(Jid)}).

server_knows_the_session(Config) ->
    {Bare, _} = Account = account(Config),
    Client = client(Config, kind(Config), Account),
    Jid = await_online(Client),
    ?assertMatch({_, "127.0.0.1", Port} when Port > 0, megaphone_ct_sessions:session_info(Config, Jid)),
    {Transport, _, _} = megaphone_ct_sessions:session_info(Config, Jid),
    ?assertEqual(transport(kind(Config)), Transport),
    [User, Server] = [list_to_binary(Part) || Part <- string:split(Bare, "@")],
    [Resource] = call(Config, ejabberd_sm, get_user_resources, [User, Server]),
    ?assertEqual(Jid, lists:flatten([Bare, "/", binary_to_list(Resource)])),
    ?assertMatch(#{user := User, server := Server, resource := Resource, stream_state := established},
                 megaphone_ct_sessions:state(Config, Jid)),
    ok = leave(Config, Client).

session_is_resumed_after_a_cut(Config) ->
    {Client, Other} = {client(Config, kind(Config)), client(Config, strophe_websocket)},
    [Jid, OtherJid] = [await_online(Each) || Each <- [Client, Other]],
    ok = command(Client, "cut"),
    "" = await(Client, "cut"),
    ok = await_event(Config, {session_pending, list_to_binary(Jid)}),
    Cut = megaphone_ct_sessions:session(Config, Jid),
    Texts = ["meanwhile " ++ integer_to_list(N) || N <- lists:seq(1, 10)],
    [ok = megaphone_ct_client:send(Other, Jid, Text) || Text <- Texts],
    ok = echo(Other, OtherJid),
    ok = command(Client, "reconnect"),
    "" = await(Client, "resumed"),
    [?assertEqual(OtherJid ++ " " ++ Text, await(Client, "message")) || Text <- Texts],
    ok = megaphone_ct_client:send(Client, OtherJid, "back again"),
    ?assertEqual(Jid, await_message(Other, "back again")),
    ?assertNotEqual(Cut, megaphone_ct_sessions:session(Config, Jid)),
    [ok = quit(Each) || Each <- [Client, Other]].

%% --- once a variant

%% TLS is not Megaphone's yet: such a listener is served by ejabberd's own c2s.
starttls(Config) ->
    Port = megaphone_ct_node:free_port(),
    Listener = megaphone_ct_sessions:listener(Config, Port, ["starttls: true"]),
    ok = megaphone_ct_node:reload(ejabberd(Config), [Listener]),
    Certificate = megaphone_ct_node:certificate(ejabberd(Config)),
    [Client, Other] = [megaphone_ct_client:slixmpp(Port, account(Config), [Certificate]) || _ <- [1, 2]],
    ok = megaphone_ct_client:talk(Client, Other),
    [ok = quit(Each) || Each <- [Client, Other]],
    Warnings = megaphone_ct_node:log(ejabberd(Config), "\\[warning\\].*starttls.*:" ++ integer_to_list(Port)),
    ?assertEqual(case megaphone_ct_sessions:is_megaphone(Config) of true -> 1; false -> 0 end,
                 length(Warnings), Warnings),
    ok = megaphone_ct_node:reload(ejabberd(Config), []).

reload_keeps_sessions(Config) ->
    Clients = [client(Config, Kind) || Kind <- [slixmpp_tcp, strophe_websocket, strophe_bosh]],
    Jids = [await_online(Client) || Client <- Clients],
    %% Both listeners come anew, the c2s one with another option.
    Port = megaphone_ct_node:free_port(),
    Limited = fun(Limit) -> [megaphone_ct_sessions:listener(Config, Port, ["max_stanza_size: " ++ Limit])] end,
    Origin = "websocket_origin:\n  - \"http://good.example\"\n",
    ok = megaphone_ct_node:reload(ejabberd(Config), Limited("1000"), Origin),
    [echo(Client, Jid) || {Client, Jid} <- lists:zip(Clients, Jids)],
    New = [client(Config, Kind) || Kind <- [slixmpp_tcp, strophe_websocket, strophe_bosh]],
    [echo(Client, await_online(Client)) || Client <- New],

    ?assertEqual(403, handshake_status(Config, "http://bad.example")),
    ?assertEqual(101, handshake_status(Config, "http://GOOD.example")),
    ok = refused_above(Port, account(Config), 1000),
    %% Not at once: ejabberd may open the port for a changed listener before it has closed the old one, and fail.
    ok = megaphone_ct_node:reload(ejabberd(Config), []),
    ok = megaphone_ct_node:reload(ejabberd(Config), Limited("3000")),
    ok = refused_above(Port, account(Config), 3000),
    ok = megaphone_ct_node:reload(ejabberd(Config), []),
    ?assertEqual(101, handshake_status(Config, "http://bad.example")),
    [ok = quit(Client) || Client <- Clients ++ New].

%% Stock ejabberd answers the polls that it holds, and is gone before a client that was between two polls sends the next.
%% Nothing there tells whether a client has its poll waiting.
node_stop_is_announced(Config) ->
    Kinds = case megaphone_ct_sessions:is_megaphone(Config) of
        true -> megaphone_ct_sessions:kinds();
        false -> megaphone_ct_sessions:kinds() -- ?BOSH
    end,
    Clients = [client(Config, Kind) || Kind <- Kinds],
    [await_online(Client) || Client <- Clients],
    %% Each BOSH client has its poll there, or it would come when nobody listens any more.
    ok = call(Config, megaphone_ct_events, await_held_polls, [length([Kind || Kind <- Kinds, is_bosh(Kind)])]),
    ok = megaphone_ct_sessions:stop(Config),
    [ok = is_told(Config, Kind, "system-shutdown", await_closed(Client))
     || {Kind, Client} <- lists:zip(Kinds, Clients)].

%% --- helpers

kind(Config) -> proplists:get_value(kind, Config).

is_bosh(Kind) -> lists:member(Kind, ?BOSH).

transport(slixmpp_tcp) -> "c2s";
transport(strophe_websocket) -> "websocket";
transport(stanza_websocket) -> "websocket";
transport(strophe_bosh) -> "http_bind";
transport(stanza_bosh) -> "http_bind".

bare(Jid) -> hd(string:split(Jid, "/")).

%% Whether a client has been told of a stream error. In BOSH it is inside a <body/> with a condition of its own
%% (XEP-0206, 6), and strophe.js looks further for one of them only. On stock ejabberd a client that is between two
%% polls finds no session any more.
is_told(Config, Kind, Condition, Told) ->
    Conditions = case {is_bosh(Kind), megaphone_ct_sessions:is_megaphone(Config)} of
        {false, _} -> [Condition];
        {true, true} -> [Condition, "remote-stream-error"];
        {true, false} -> [Condition, "remote-stream-error", "item-not-found"]
    end,
    ?assert(lists:member(Told, Conditions), {Kind, Told}),
    ok.

%% Ends a client of the kind under test. stanza sends the end of a BOSH session beside a poll that is under way: when it
%% overtakes the poll, ejabberd 23.01 does not look at it before that poll is answered, a minute later.
leave(Config, Client) ->
    case kind(Config) of
        stanza_bosh -> hang_up(Client);
        _ -> quit(Client)
    end.

%% Each gets the other's presence from now on.
befriend({First, FirstJid}, {Second, SecondJid}) ->
    lists:foreach(
        fun({Asks, AskerJid, Grants, GranterJid}) ->
            ok = command(Asks, ["presence subscribe ", bare(GranterJid)]),
            await_presence(Grants, "subscribe " ++ bare(AskerJid)),
            ok = command(Grants, ["presence subscribed ", bare(AskerJid)]),
            await_presence(Asks, "subscribed " ++ bare(GranterJid)),
            await_presence(Asks, "available " ++ GranterJid)
        end,
        [{First, FirstJid, Second, SecondJid}, {Second, SecondJid, First, FirstJid}]).

await_presence(Client, Expected) ->
    case await(Client, "presence") of
        Expected -> ok;
        _ -> await_presence(Client, Expected)
    end.

%% Returns when the server has handled all that the client sent before.
echo(Client, Jid) ->
    Text = "echo " ++ integer_to_list(erlang:unique_integer([positive])),
    ok = megaphone_ct_client:send(Client, Jid, Text),
    Jid = await_message(Client, Text),
    ok.

handshake_status(Config, Origin) ->
    Socket = megaphone_ct_http:connect(megaphone_ct_node:port(ejabberd(Config), http)),
    ok = megaphone_ct_http:send(Socket, megaphone_ct_http:websocket_request("/ws", [{"Origin", Origin}])),
    #{status := Status} = megaphone_ct_http:response(Socket),
    ok = gen_tcp:close(Socket),
    Status.

%% A listener takes a stanza of somewhat fewer bytes than its limit and refuses one of more.
refused_above(Port, Account, Limit) ->
    {Socket, _} = megaphone_ct_xmpp:login(Port, Account),
    ok = gen_tcp:send(Socket, megaphone_ct_xmpp:ping("small", Limit - 300)),
    _ = megaphone_ct_xmpp:await(Socket, "small"),
    ok = gen_tcp:send(Socket, megaphone_ct_xmpp:ping("large", Limit)),
    ?assertMatch({match, _}, re:run(megaphone_ct_xmpp:trailing(Socket), "<policy-violation")),
    ok.
