%% XMPP sessions as the server and the wire see them: processes, limits, addresses, and HTTP beside XMPP. The same cases
%% run against ejabberd's own listeners and against Megaphone's, and there through a connection manager too.
-module(megaphone_c2s_SUITE).

-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2]).
-export([processes_of_a_user_over_tcp/1, processes_of_a_user_over_websocket/1, processes_of_a_user_over_bosh/1]).
-export([client_closes_the_stream/1, server_closes_the_stream/1, stream_without_a_login_is_closed/1,
         whitespace_is_no_stanza/1, cut_connection_ends_the_session/1, shaped_reading/1, flooded_session_is_ended/1,
         resets_behind_a_header_are_no_errors/1, resets_behind_a_request_are_no_errors/1,
         suspended_session_holds_its_client_up/1, suspended_websocket_session_holds_its_client_up/1]).
-export([unacknowledged_bosh_messages_are_stored/1, undelivered_bosh_messages_are_stored/1]).
-export([large_bosh_request/1, foreign_bosh_session/1, forwarded_address/1]).
-export([websocket_handshakes/1, other_paths_answer/1, information_pages/1, options_for_other_origins/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sessions, [account/1, account/2, await_event/2, c2s_port/1, call/4, client/2, ejabberd/1]).
-import(megaphone_ct_xmpp, [login/2, await/2, trailing/1, ping/2, bosh_login/2, bosh_login/3, bosh_post/3,
                            bosh_exchange/4, bosh_http_response/1, bosh_hang_up/1]).

-define(USERS, 5).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, stock}, {group, megaphone}, {group, ecm}].

groups() ->
    [{stock, [], cases()},
     {megaphone, [], cases() ++ beyond_stock()},
     {ecm, [], cases() ++ beyond_stock()}].

cases() ->
    [processes_of_a_user_over_tcp, processes_of_a_user_over_websocket, processes_of_a_user_over_bosh,
     client_closes_the_stream, server_closes_the_stream, stream_without_a_login_is_closed, whitespace_is_no_stanza,
     cut_connection_ends_the_session, shaped_reading, flooded_session_is_ended,
     resets_behind_a_header_are_no_errors, suspended_session_holds_its_client_up,
     unacknowledged_bosh_messages_are_stored, large_bosh_request, foreign_bosh_session, forwarded_address,
     websocket_handshakes, other_paths_answer, information_pages, options_for_other_origins].

%% What ejabberd's own listeners don't do.
beyond_stock() ->
    [resets_behind_a_request_are_no_errors, suspended_websocket_session_holds_its_client_up,
     undelivered_bosh_messages_are_stored].

init_per_group(Variant, Config) ->
    Started = megaphone_ct_sessions:start(Variant, Config),
    [{admin, megaphone_ct_node:admin_account(ejabberd(Started))} | Started].

end_per_group(_Variant, Config) -> megaphone_ct_sessions:stop(Config).

%% --- processes

processes_of_a_user_over_tcp(Config) ->
    processes_of_a_user(Config, 1, fun() ->
        {Socket, Jid} = login(c2s_port(Config), account(Config)),
        ok = gen_tcp:send(Socket, "<presence/>"),
        _ = await(Socket, "<presence"),
        {fun() -> gen_tcp:close(Socket) end, Jid}
    end).

processes_of_a_user_over_websocket(Config) ->
    processes_of_a_user(Config, 3, fun() ->
        Client = client(Config, strophe_websocket),
        {fun() -> megaphone_ct_client:quit(Client) end, megaphone_ct_client:await_online(Client)}
    end).

processes_of_a_user_over_bosh(Config) ->
    processes_of_a_user(Config, 3, fun() ->
        {Session, Jid} = bosh_login(http_port(Config), account(Config)),
        {Session1, _} = bosh_exchange(Session, "", "<presence xmlns='jabber:client'/>", "<presence"),
        %% The poll that is held while nothing happens.
        Polling = bosh_post(Session1, "", ""),
        {fun() -> bosh_hang_up(Polling) end, Jid}
    end).

%% Of all processes that come with the users, those that stay are their c2s and, on stock ejabberd, their transports.
processes_of_a_user(Config, Stock, LogIn) ->
    Expected = case megaphone_ct_sessions:is_megaphone(Config) of
        true -> 1;
        false -> Stock
    end,
    Before = call(Config, erlang, processes, []),
    {Ends, Jids} = lists:unzip([LogIn() || _ <- lists:seq(1, ?USERS)]),
    Remaining = call(Config, megaphone_ct_events, remaining_processes, [Before, Expected * ?USERS]),
    ?assertEqual(Expected * ?USERS, length(Remaining), Remaining),
    Sessions = [megaphone_ct_sessions:session(Config, Jid) || Jid <- Jids],
    ?assertEqual([], Sessions -- [Pid || {Pid, _} <- Remaining]),
    lists:foreach(fun(End) -> ok = End() end, Ends).

%% --- streams

client_closes_the_stream(Config) ->
    {Socket, Jid} = login(c2s_port(Config), account(Config)),
    ok = gen_tcp:send(Socket, "</stream:stream>"),
    ?assertEqual(<<"</stream:stream>">>, trailing(Socket)),
    await_event(Config, {session_ended, list_to_binary(Jid)}).

server_closes_the_stream(Config) ->
    {Socket, Jid} = login(c2s_port(Config), account(Config)),
    ok = megaphone_ct_sessions:admin(Config, kick_session, [Jid, "out of here"]),
    Said = trailing(Socket),
    ?assertMatch({match, _}, re:run(Said, "^<stream:error><conflict.*out of here.*</stream:error></stream:stream>$")),
    await_event(Config, {session_ended, list_to_binary(Jid)}).

stream_without_a_login_is_closed(Config) ->
    Socket = megaphone_ct_http:connect(c2s_port(Config)),
    ok = gen_tcp:send(Socket, [megaphone_ct_xmpp:header(), "</stream:stream>"]),
    ?assertMatch({match, _}, re:run(trailing(Socket), "</stream:features></stream:stream>$")).

whitespace_is_no_stanza(Config) ->
    {Socket, Jid} = login(c2s_port(Config), account(Config)),
    [ok = gen_tcp:send(Socket, Space) || Space <- [" ", "\n", " \r\n\t ", lists:duplicate(10_000, $\s)]],
    ok = gen_tcp:send(Socket, ping("after", 0)),
    ?assertMatch({match, _}, re:run(await(Socket, "</iq>|/>"), "^<iq[^>]*id='after'")),
    ?assertMatch(#{stream_state := established}, megaphone_ct_sessions:state(Config, Jid)),
    ok = gen_tcp:close(Socket).

cut_connection_ends_the_session(Config) ->
    {Socket, Jid} = login(c2s_port(Config), account(Config)),
    ok = megaphone_ct_xmpp:reset(Socket),
    await_event(Config, {session_ended, list_to_binary(Jid)}).

%% More than all socket buffers hold, at a thousand bytes a second: the sender has to stop. Without a shaper the server
%% takes it all.
shaped_reading(Config) ->
    Space = lists:duplicate(64 * 1024, $\s),
    Fill = fun(Socket) ->
        ok = inet:setopts(Socket, [{send_timeout, 3000}]),
        lists:foldl(fun(_, ok) -> gen_tcp:send(Socket, [Space, ping("p", 0)]); (_, Error) -> Error end,
                    ok, lists:seq(1, 400))
    end,
    {Slow, SlowJid} = login(c2s_port(Config), account(Config, "slow")),
    ?assertEqual({error, timeout}, Fill(Slow)),
    ?assertMatch(#{shaper := c2s_shaper}, megaphone_ct_sessions:state(Config, SlowJid)),
    ok = gen_tcp:close(Slow),

    {Fast, _} = login(c2s_port(Config), admin(Config)),
    ?assertEqual(ok, Fill(Fast)),
    ok = gen_tcp:send(Fast, ping("last", 0)),
    _ = await(Fast, "id='last'"),
    ok = gen_tcp:close(Fast).

%% max_fsm_queue.
flooded_session_is_ended(Config) ->
    {Socket, Jid} = login(c2s_port(Config), account(Config)),
    {Other, _} = login(c2s_port(Config), account(Config)),
    Session = megaphone_ct_sessions:session(Config, Jid),
    ?assertMatch({process_limit, {max_queue, N}} when N > 1000,
                 call(Config, megaphone_ct_events, flood, [Session, 2000])),
    _ = trailing(Socket),
    ?assertEqual(none, megaphone_ct_sessions:session(Config, Jid)),
    ok = gen_tcp:send(Other, ping("other", 0)),
    _ = await(Other, "id='other'"),
    ok = gen_tcp:close(Other).

resets_behind_a_header_are_no_errors(Config) ->
    reset_often(Config, c2s_port(Config), 200, megaphone_ct_xmpp:header()).

resets_behind_a_request_are_no_errors(Config) ->
    {Bosh, _} = megaphone_ct_xmpp:bosh_request(
        megaphone_ct_xmpp:bosh_new(http_port(Config), []), megaphone_ct_xmpp:bosh_create(), ""),
    Upgrade = megaphone_ct_http:websocket_request("/ws", []),
    Open = megaphone_ct_websocket:message(megaphone_ct_websocket:open()),
    [reset_often(Config, http_port(Config), 50, Bytes)
     || Bytes <- [Bosh, Upgrade, [Upgrade, Open], megaphone_ct_http:request("GET", "/nothing")]].

%% Nothing of it is worth a word in the log, and nothing of it stays.
reset_often(Config, Port, Times, Bytes) ->
    Errors = megaphone_ct_node:log(ejabberd(Config), "\\[(error|critical)\\]"),
    Starters = starters(Config),
    Processes = call(Config, erlang, processes, []),
    lists:foreach(fun(_) -> ok = reset_behind(Port, Bytes) end, lists:seq(1, Times)),
    %% Behind them in the queue of the same starter.
    {Socket, _} = login(c2s_port(Config), account(Config)),
    ok = gen_tcp:close(Socket),
    ?assertEqual([], call(Config, megaphone_ct_events, remaining_processes, [Processes, 0])),
    ?assertEqual(Starters, starters(Config)),
    ?assertEqual([], megaphone_ct_node:log(ejabberd(Config), "\\[(error|critical)\\]") -- Errors).

reset_behind(Port, Bytes) ->
    Socket = megaphone_ct_http:connect(Port),
    ok = gen_tcp:send(Socket, Bytes),
    ok = inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket).

starters(Config) ->
    [lists:keyfind(starter, 1, call(Config, supervisor, which_children, [Supervisor]))
     || #{supervisor := Supervisor} <- call(Config, megaphone, listeners, [])].

%% What a session doesn't take waits with its client, and not in the node.
suspended_session_holds_its_client_up(Config) ->
    {Socket, Jid} = login(c2s_port(Config), admin(Config)),
    ok = flood_suspended(Config, Socket, Jid, fun(Stanza) -> Stanza end, fun megaphone_ct_xmpp:await/2).

%% On stock it waits in a process of the transport.
suspended_websocket_session_holds_its_client_up(Config) ->
    {Socket, Jid} = megaphone_ct_websocket:login(
        http_port(Config), megaphone_ct_http:websocket_request("/ws", []), admin(Config)),
    ok = flood_suspended(Config, Socket, Jid, fun(Stanza) -> megaphone_ct_websocket:message(Stanza) end,
                         fun megaphone_ct_websocket:await/2).

flood_suspended(Config, Socket, Jid, Frame, Await) ->
    Session = megaphone_ct_sessions:session(Config, Jid),
    ok = call(Config, sys, suspend, [Session]),
    ok = megaphone_ct_node:reset_peak_memory(ejabberd(Config)),
    Before = megaphone_ct_node:memory(ejabberd(Config)),
    ok = inet:setopts(Socket, [{send_timeout, 2000}]),
    Sent = ping_until_held_up(Socket, Frame, 1),
    Growth = megaphone_ct_node:peak_memory(ejabberd(Config)) - Before,
    ?assert(Growth < 16 * 1024 * 1024, Growth),
    ?assertMatch({message_queue_len, N} when N < 10, call(Config, erlang, process_info, [Session, message_queue_len])),
    ok = call(Config, sys, resume, [Session]),
    %% The last one is what the time-out of sending left in our socket's queue.
    Answers = Await(Socket, "id='" ++ integer_to_list(Sent) ++ "'"),
    {match, Ids} = re:run(Answers, "<iq[^>]* id='([0-9]+)'", [global, {capture, all_but_first, list}]),
    ?assertEqual(lists:seq(1, Sent), [list_to_integer(Id) || [Id] <- Ids]),
    gen_tcp:close(Socket).

%% 80 MB would be more than all buffers of sockets hold.
ping_until_held_up(Socket, Frame, Number) when Number =< 2000 ->
    case gen_tcp:send(Socket, Frame(large_ping(integer_to_list(Number)))) of
        ok -> ping_until_held_up(Socket, Frame, Number + 1);
        {error, timeout} -> Number
    end.

%% Large by its text. A tag as large comes in pieces, and stock's expat, where a Debian has put reparse deferral into it
%% (CVE-2023-52425) and fast_xml does not know of that, leaves the last one alone until more has come.
large_ping(Id) ->
    ["<iq xmlns='jabber:client' type='get' id='", Id, "'><ping xmlns='urn:xmpp:ping'>", lists:duplicate(40_000, $x),
     "</ping></iq>"].

%% --- BOSH

%% Stock ejabberd routes them to the c2s that is about to end, and loses them.
undelivered_bosh_messages_are_stored(Config) ->
    bosh_session_ends_with_a_message(Config, "").

%% With stream management it is the c2s that stores what has not been acknowledged.
unacknowledged_bosh_messages_are_stored(Config) ->
    bosh_session_ends_with_a_message(Config, "<enable xmlns='urn:xmpp:sm:3'/>").

bosh_session_ends_with_a_message(Config, Enable) ->
    Account = account(Config),
    {Session, Jid} = bosh_login(http_port(Config), Account),
    _ = bosh_exchange(Session, "", [Enable, "<presence xmlns='jabber:client'/>"], "<presence"),
    %% No request waits now, and none will come: the message is queued, and the session ends by inactivity.
    {Sender, SenderJid} = login(c2s_port(Config), account(Config)),
    Message = ["<message type='chat' to='", Jid, "'><body>undelivered</body></message>"],
    ok = gen_tcp:send(Sender, [Message, ping("sent", 0)]),
    _ = await(Sender, "id='sent'"),
    await_event(Config, {session_ended, list_to_binary(Jid)}),
    {Later, _} = login(c2s_port(Config), Account),
    ok = gen_tcp:send(Later, "<presence/>"),
    ?assertMatch({match, _}, re:run(await(Later, "</message>"), ["from='", SenderJid, "'.*<body>undelivered</body>"])),
    [ok = gen_tcp:close(Socket) || Socket <- [Sender, Later]].

large_bosh_request(Config) ->
    {Session, _} = bosh_login(http_port(Config), account(Config)),
    Posted = bosh_post(Session, "", ping("large", 200_000)),
    ?assertMatch(#{status := 403}, bosh_http_response(Posted)),
    ok = bosh_hang_up(Posted).

foreign_bosh_session(Config) ->
    Body = "<body xmlns='http://jabber.org/protocol/httpbind' rid='7' sid='f00d'/>",
    Socket = megaphone_ct_http:connect(http_port(Config)),
    ok = megaphone_ct_http:send(Socket, [
        megaphone_ct_http:request("POST", "/bosh", [{"Content-Length", integer_to_list(length(Body))}]), Body]),
    #{status := 200, body := Answer} = megaphone_ct_http:response(Socket),
    ?assertMatch({match, _}, re:run(Answer, "condition=['\"]item-not-found['\"]")),
    ?assertMatch({match, _}, re:run(Answer, "type=['\"]terminate['\"]")),
    ok = gen_tcp:close(Socket).

%% --- HTTP

%% The first of the addresses is taken where all proxies after it are trusted.
forwarded_address(Config) ->
    Addresses = [{"192.0.2.7, 127.0.0.9", "192.0.2.7"}, {"192.0.2.7, 203.0.113.1", "127.0.0.1"}],
    lists:foreach(
        fun({Header, Address}) ->
            {Session, Jid} = bosh_login(http_port(Config), account(Config), [{"X-Forwarded-For", Header}]),
            ?assertMatch({"http_bind", Address, _}, megaphone_ct_sessions:session_info(Config, Jid)),
            ok = bosh_hang_up(Session),
            Client = megaphone_ct_client:strophe(
                megaphone_ct_sessions:url(Config, websocket), account(Config), [{"FORWARDED_FOR", Header}]),
            ?assertMatch({"websocket", Address, _},
                         megaphone_ct_sessions:session_info(Config, megaphone_ct_client:await_online(Client))),
            ok = megaphone_ct_client:quit(Client)
        end,
        Addresses).

websocket_handshakes(Config) ->
    #{status := 101, headers := Headers} = request(Config, megaphone_ct_http:websocket_request("/ws", [])),
    ?assertMatch(#{<<"sec-websocket-protocol">> := <<"xmpp">>,
                   <<"sec-websocket-accept">> := <<"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=">>}, Headers),
    #{status := 101} = request(Config, megaphone_ct_http:websocket_request("/ws", [{"Origin", "http://example.org"}])),
    %% One protocol is chosen of those that are offered (RFC 6455, 4.2.2); stock ejabberd repeats the offer.
    #{status := 101, headers := Chosen} = request(Config, megaphone_ct_http:request("GET", "/ws", [
        {"Connection", "Upgrade"}, {"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"},
        {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}, {"Sec-WebSocket-Protocol", "chat, xmpp"}])),
    Expected = case megaphone_ct_sessions:is_megaphone(Config) of
        true -> <<"xmpp">>;
        false -> <<"chat, xmpp">>
    end,
    ?assertMatch(#{<<"sec-websocket-protocol">> := Expected}, Chosen),
    %% Not a handshake of version 13: an information page.
    #{status := Status} = request(Config, megaphone_ct_http:request("GET", "/ws", [
        {"Connection", "Upgrade"}, {"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "8"},
        {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}])),
    ?assert(lists:member(Status, [200, 426]), Status).

other_paths_answer(Config) ->
    Requests = [
        {"POST", "/api/status", [{"Content-Type", "application/json"}, {"Content-Length", "2"}], "{}"},
        {"GET", "/captcha/1/image", [], ""},
        {"GET", "/upload/nothing", [], ""},
        {"GET", "/admin/", [], ""},
        {"GET", "/nothing", [], ""},
        {"GET", "/bosh/below", [], ""},
        {"GET", "/bosh", [], ""}
    ],
    %% One connection for all: those that Megaphone answers itself and those that it passes on take turns.
    Socket = megaphone_ct_http:connect(http_port(Config)),
    Answers = [begin
        ok = megaphone_ct_http:send(Socket, [megaphone_ct_http:request(Method, Path, Headers), Body]),
        #{status := Status} = megaphone_ct_http:response(Socket),
        {Method, Path, Status}
    end || {Method, Path, Headers, Body} <- Requests],
    ?assertEqual([
        {"POST", "/api/status", 200}, {"GET", "/captcha/1/image", 404}, {"GET", "/upload/nothing", 404},
        {"GET", "/admin/", 401}, {"GET", "/nothing", 404},
        {"GET", "/bosh/below", 400}, {"GET", "/bosh", 200}
    ], Answers),
    ok = gen_tcp:close(Socket).

information_pages(Config) ->
    [begin
        #{status := 200, headers := Headers, body := Body} = request(Config, megaphone_ct_http:request("GET", Path)),
        ?assertMatch(#{<<"content-type">> := <<"text/", _/binary>>}, Headers),
        ?assertMatch({match, _}, re:run(Body, Name))
    end || {Path, Name} <- [{"/bosh", "BOSH"}, {"/ws", "[wW]eb[sS]ocket"}]].

options_for_other_origins(Config) ->
    [begin
        #{status := 200, headers := Headers} = request(Config, megaphone_ct_http:request("OPTIONS", Path)),
        ?assertMatch(#{<<"access-control-allow-origin">> := <<"*">>,
                       <<"access-control-allow-methods">> := _,
                       <<"access-control-allow-headers">> := <<"Content-Type">>}, Headers)
    end || Path <- ["/bosh", "/ws"]].

%% --- helpers

http_port(Config) -> megaphone_ct_node:port(ejabberd(Config), http).

%% A user without a shaper.
admin(Config) -> proplists:get_value(admin, Config).

%% The answer to a request on a connection of its own.
request(Config, Request) ->
    Socket = megaphone_ct_http:connect(http_port(Config)),
    ok = megaphone_ct_http:send(Socket, Request),
    Response = megaphone_ct_http:response(Socket),
    ok = gen_tcp:close(Socket),
    Response.
