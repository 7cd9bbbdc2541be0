%% What clients and proxies that are about send, and what public reports ask of a server: bytes that no client program
%% of the other suites would send. The same cases run against ejabberd's own listeners where those do the same, and against
%% Megaphone's through a connection manager.
-module(megaphone_clients_SUITE).

-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2, end_per_testcase/2]).
-export([lines_that_end_behind_auth/1, lines_in_single_bytes/1, carriage_return_arrives_as_a_reference/1]).
-export([stream_over_websocket/1, close_codes_are_echoed/1, declared_encodings_of_messages/1,
         upgrade_over_http_1_0/1, other_spellings_of_the_websocket_path/1]).
-export([pipelined_bosh_requests/1, other_spellings_of_the_bosh_path/1, half_closed_bosh_connection/1,
         half_closed_bosh_poll/1, bosh_over_http_1_0/1, declared_encodings_of_bodies/1,
         answers_of_bosh_are_no_pages/1]).
-export([last_line_of_forwarded_for/1, versions_and_white_space_are_taken/1, white_space_in_chunks_is_taken/1,
         white_space_in_a_length_is_taken/1, host_is_required/1, two_hosts_are_refused/1,
         own_answers_have_custom_headers/1]).
-export([short_of_1024_descriptors/1, short_of_256_descriptors/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sessions, [account/1, c2s_port/1, call/4, ejabberd/1, is_megaphone/1, native_transport/2]).
-import(megaphone_ct_xmpp, [await/2, bosh_at/2, bosh_exchange/4, bosh_http_response/1, bosh_login/2, bosh_login/3,
                            bosh_over/2, bosh_post/3, bosh_request/3, bosh_send/2, header/0, login/2, negotiate/3,
                            ping/2]).

-define(STREAM, "<stream:stream to='localhost' xmlns='jabber:client' "
                "xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>").

suite() -> [{timetrap, {minutes, 1}}].

all() -> [{group, stock}, {group, megaphone}, {group, ecm}, short_of_1024_descriptors, short_of_256_descriptors].

groups() ->
    [{stock, [], cases()},
     {megaphone, [], cases() ++ beyond_stock()},
     %% The one that is missing has listeners of its own.
     {ecm, [], (cases() ++ beyond_stock()) -- [own_answers_have_custom_headers]}].

cases() ->
    [lines_that_end_behind_auth, close_codes_are_echoed, declared_encodings_of_messages, upgrade_over_http_1_0,
     other_spellings_of_the_websocket_path, other_spellings_of_the_bosh_path, half_closed_bosh_connection,
     half_closed_bosh_poll, bosh_over_http_1_0, declared_encodings_of_bodies, last_line_of_forwarded_for,
     versions_and_white_space_are_taken, host_is_required].

%% What ejabberd's own listeners don't do.
beyond_stock() ->
    [lines_in_single_bytes, carriage_return_arrives_as_a_reference, stream_over_websocket, pipelined_bosh_requests,
     answers_of_bosh_are_no_pages, white_space_in_a_length_is_taken, white_space_in_chunks_is_taken,
     two_hosts_are_refused, own_answers_have_custom_headers].

init_per_group(Variant, Config) -> megaphone_ct_sessions:start(Variant, Config).

end_per_group(_Variant, Config) -> megaphone_ct_sessions:stop(Config).

%% Whatever a failed case did to the configuration, the next one finds the first one.
end_per_testcase(own_answers_have_custom_headers, Config) -> megaphone_ct_node:reload(ejabberd(Config), []);
end_per_testcase(_Case, _Config) -> ok.

%% --- XMPP over TCP

%% As some clients in Go write elements. On stock the end of the line has to come with the element.
lines_that_end_behind_auth(Config) -> log_in_by_lines(Config, fun gen_tcp:send/2).

lines_in_single_bytes(Config) -> log_in_by_lines(Config, fun send_single_bytes/2).

log_in_by_lines(Config, Send) ->
    Socket = megaphone_ct_http:connect(c2s_port(Config)),
    Exchange = fun(Bytes, Expression) -> ok = Send(Socket, [Bytes, "\n"]), await(Socket, Expression) end,
    Jid = negotiate(Exchange, header(), account(Config)),
    ?assertEqual(native(Config, tcp), native_transport(Config, Jid)),
    ok = gen_tcp:close(Socket).

send_single_bytes(Socket, Bytes) ->
    lists:foreach(fun(Byte) -> ok = gen_tcp:send(Socket, [Byte]) end, binary_to_list(iolist_to_binary(Bytes))).

%% As itself it would be read as a line feed (XML, 2.11).
carriage_return_arrives_as_a_reference(Config) ->
    {Sender, _} = login(c2s_port(Config), account(Config)),
    {Tcp, TcpJid} = login(c2s_port(Config), account(Config)),
    {WebSocket, WebSocketJid} = websocket_login(Config, megaphone_ct_http:websocket_request("/ws", [])),
    [ok = gen_tcp:send(Sender, ["<message to='", Jid, "'><body>1&#xD;2&#13;3\r4</body></message>"])
     || Jid <- [TcpJid, WebSocketJid]],
    [?assertMatch({match, _}, re:run(Message, "<body>1&#xD;2&#xD;3\n4</body>"), Message)
     || Message <- [await(Tcp, "</message>"), megaphone_ct_websocket:await(WebSocket, "</message>")]],
    [ok = gen_tcp:close(Socket) || Socket <- [Sender, Tcp, WebSocket]].

%% --- WebSocket

%% As it was before RFC 7395, and as tsung does it by default.
stream_over_websocket(Config) ->
    lists:foreach(
        fun(Header) ->
            Socket = megaphone_ct_websocket:connect(http_port(Config), megaphone_ct_http:websocket_request("/ws", [])),
            Jid = negotiate(megaphone_ct_websocket:exchange(Socket), Header, account(Config)),
            ?assertEqual(websocket, native_transport(Config, Jid)),
            ?assertMatch({"websocket", "127.0.0.1", _}, megaphone_ct_sessions:session_info(Config, Jid)),
            ok = megaphone_ct_websocket:text(Socket, message(Jid, "to myself")),
            _ = megaphone_ct_websocket:await(Socket, "<body>to myself</body>"),
            ok = megaphone_ct_websocket:text(Socket, "</stream:stream>"),
            _ = megaphone_ct_websocket:await(Socket, "</stream:stream>"),
            ok = gen_tcp:close(Socket)
        end,
        [?STREAM, header()]).

%% Those that the registry got after RFC 6455, too.
close_codes_are_echoed(Config) ->
    [begin
         {Socket, _} = websocket_login(Config, megaphone_ct_http:websocket_request("/ws", [])),
         ok = megaphone_ct_websocket:send(Socket, 8, <<Code:16>>),
         ?assertMatch({Code, <<Code:16, _/binary>>}, {Code, close_frame(Socket)}),
         ok = gen_tcp:close(Socket)
     end || Code <- [1000, 1012, 1013, 1014]].

%% The end of the stream may come before it.
close_frame(Socket) ->
    case megaphone_ct_websocket:frame(Socket) of
        {8, Payload} -> Payload;
        {1, _} -> close_frame(Socket)
    end.

%% A message is UTF-8, whatever it says.
declared_encodings_of_messages(Config) ->
    {Socket, _} = websocket_login(Config, megaphone_ct_http:websocket_request("/ws", [])),
    [begin
         Declaration = ["<?xml version='1.0' encoding='", Encoding, "'?>"],
         ok = megaphone_ct_websocket:text(Socket, [Declaration, client_ping(Encoding)]),
         _ = megaphone_ct_websocket:await(Socket, "id='" ++ Encoding ++ "'")
     end || Encoding <- ["UTF-8", "utf8", "utf-16"]],
    ok = gen_tcp:close(Socket).

%% What nginx passes on without proxy_http_version. Stock's code answers it.
upgrade_over_http_1_0(Config) ->
    {Socket, Jid} = websocket_login(Config, [
        "GET /ws HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: xmpp\r\n\r\n"]),
    ?assertEqual(none, native_transport(Config, Jid)),
    ?assertMatch({"websocket", "127.0.0.1", _}, megaphone_ct_sessions:session_info(Config, Jid)),
    ok = gen_tcp:close(Socket).

other_spellings_of_the_websocket_path(Config) ->
    [begin
         {Socket, Jid} = websocket_login(Config, megaphone_ct_http:websocket_request(Target, [])),
         ?assertEqual({Target, native(Config, websocket)}, {Target, native_transport(Config, Jid)}),
         ok = gen_tcp:close(Socket)
     end || Target <- ["/ws/", "//ws", "/%77s", "/ws?query", megaphone_ct_node:url(ejabberd(Config), "http", "/ws")]].

%% --- BOSH

%% As Pidgin 2 does it: all on one connection, a poll right behind each request. Nothing waits for the poll before it.
pipelined_bosh_requests(Config) ->
    New = megaphone_ct_xmpp:bosh_new(http_port(Config), []),
    {New1, Created} = bosh_exchange(New, megaphone_ct_xmpp:bosh_create(), "", "features>"),
    Open = {megaphone_ct_xmpp:bosh_created(New1, Created), 0},
    Poll = {"", ""},
    Bound = lists:foldl(
        fun({Request, Expression}, State) -> await_answer(Expression, pipeline([Request, Poll], State)) end, Open,
        [{{"", megaphone_ct_xmpp:auth(account(Config))}, "<success"},
         {{megaphone_ct_xmpp:bosh_restart(), ""}, "features>"},
         {{"", megaphone_ct_xmpp:bind()}, "<jid>"},
         {{"", ping("first", 0)}, "id='first'"}]),
    %% The poll that is held comes first.
    Held = await_answer("id='second'", pipeline([Poll, {"", client_ping("second")}], Bound)),
    {Session, 1} = await_answer("type='terminate'", pipeline([Poll, {"type='terminate'", ""}, Poll], Held)),
    %% The session has ended before the last.
    ?assertMatch({match, _}, re:run(map_get(body, bosh_http_response(Session)), "item-not-found")).

%% Requests in one segment.
pipeline(Requests, {Session, Open}) ->
    {Bytes, Next} = lists:mapfoldl(
        fun({Attributes, Payload}, Sofar) -> bosh_request(Sofar, Attributes, Payload) end, Session, Requests),
    ok = bosh_send(Session, Bytes),
    {Next, Open + length(Requests)}.

%% Takes the answers up to this one; so many are to come then.
await_answer(Expression, {Session, Open}) when Open > 0 ->
    #{status := 200, body := Body} = bosh_http_response(Session),
    case re:run(Body, Expression) of
        {match, _} -> {Session, Open - 1};
        nomatch ->
            ?assertEqual(nomatch, re:run(Body, "terminate"), Body),
            await_answer(Expression, {Session, Open - 1})
    end.

other_spellings_of_the_bosh_path(Config) ->
    {New, Jid} = bosh_login(http_port(Config), account(Config)),
    Targets = ["/bosh/", "//bosh", "/%62osh", "/bosh?query", megaphone_ct_node:url(ejabberd(Config), "http", "/bosh"),
               "http://localhost:" ++ integer_to_list(http_port(Config)) ++ "/bosh"],
    _ = lists:foldl(
        fun(Target, Session) ->
            {Next, _} = bosh_exchange(bosh_at(Session, Target), "", client_ping("there"), "id='there'"),
            Next
        end,
        New, Targets),
    ?assertEqual(native(Config, http_bind), native_transport(Config, Jid)).

%% As `nc -N' does it, each request on a connection of its own. The session is not theirs.
half_closed_bosh_connection(Config) ->
    Jid = log_in_by_connections(Config, fun send_and_half_close/2),
    ?assertEqual(native(Config, http_bind), native_transport(Config, Jid)).

%% What nginx passes on without proxy_http_version.
bosh_over_http_1_0(Config) ->
    Jid = log_in_by_connections(Config, fun(Socket, Request) ->
        Versioned = string:replace(iolist_to_binary(Request), " HTTP/1.1\r\n", " HTTP/1.0\r\nConnection: close\r\n"),
        megaphone_ct_http:send(Socket, Versioned)
    end),
    ?assertEqual(native(Config, http_bind), native_transport(Config, Jid)).

log_in_by_connections(Config, Send) ->
    New = megaphone_ct_xmpp:bosh_new(http_port(Config), []),
    {New1, Created} = exchange_on_connections(Config, Send, New, megaphone_ct_xmpp:bosh_create(), "", " sid="),
    {_, Bound} = lists:foldl(
        fun({Attributes, Payload, Expression}, {Session, _}) ->
            exchange_on_connections(Config, Send, Session, Attributes, Payload, Expression)
        end,
        {megaphone_ct_xmpp:bosh_created(New1, Created), Created},
        [{"", megaphone_ct_xmpp:auth(account(Config)), "<success"},
         {megaphone_ct_xmpp:bosh_restart(), "", "<bind"},
         {"", megaphone_ct_xmpp:bind(), "<jid>"}]),
    megaphone_ct_xmpp:jid(Bound).

exchange_on_connections(Config, Send, Session, Attributes, Payload, Expression) ->
    {Request, Next} = bosh_request(Session, Attributes, Payload),
    Socket = megaphone_ct_http:connect(http_port(Config)),
    ok = Send(Socket, Request),
    Body = last_answer(Socket),
    case re:run(Body, Expression) of
        {match, _} -> {Next, Body};
        nomatch -> exchange_on_connections(Config, Send, Next, "", "", Expression)
    end.

%% Megaphone answers it at once, for a client that has gone looks the same; on stock it waits. Nothing is lost.
half_closed_bosh_poll(Config) ->
    {Session, Jid} = bosh_login(http_port(Config), account(Config)),
    {Poll, Next} = bosh_request(Session, "", ""),
    Socket = megaphone_ct_http:connect(http_port(Config)),
    ok = send_and_half_close(Socket, Poll),
    {Sender, _} = login(c2s_port(Config), account(Config)),
    ok = gen_tcp:send(Sender, message(Jid, "to a poll")),
    {_, _} = case {is_megaphone(Config), re:run(last_answer(Socket), "<body>to a poll</body>")} of
        {false, {match, _}} -> bosh_exchange(Next, "", client_ping("after"), "id='after'");
        {true, nomatch} -> bosh_exchange(Next, "", "", "<body>to a poll</body>")
    end,
    ok = gen_tcp:close(Sender).

send_and_half_close(Socket, Request) ->
    ok = megaphone_ct_http:send(Socket, Request),
    gen_tcp:shutdown(Socket, write).

last_answer(Socket) ->
    #{status := 200, body := Body} = megaphone_ct_http:response(Socket),
    ok = megaphone_ct_http:await_closed(Socket),
    Body.

declared_encodings_of_bodies(Config) ->
    [begin
         Body = ["<?xml version='1.0' ", Declared, "?>", create_body()],
         #{status := 200, body := Created} = answer(http_port(Config), post("/bosh", Body)),
         ?assertMatch({match, _}, re:run(Created, " sid="), Created)
     end || Declared <- ["encoding='utf8'", "encoding='UTF-8' standalone='no'", "encoding='utf8' standalone='yes'"]].

%% No browser is to take what a client has sent for a page of this server.
answers_of_bosh_are_no_pages(Config) ->
    {Session, _} = bosh_login(http_port(Config), account(Config)),
    {Session1, #{status := 200, headers := First}} = bosh_answer(Session, client_ping("there")),
    {Session2, #{status := 400, headers := Second}} = bosh_answer(Session1, "<not-well-formed>"),
    {_, #{status := 403, headers := Third}} = bosh_answer(Session2, ping("large", 200_000)),
    {_, #{status := 200, headers := Last, body := Body}} =
        bosh_answer(bosh_over(Session2, megaphone_ct_http:connect(http_port(Config))), ""),
    ?assertMatch({match, _}, re:run(Body, "item-not-found"), Body),
    [?assertMatch({Number, #{<<"x-content-type-options">> := <<"nosniff">>,
                             <<"content-security-policy">> := <<"default-src 'none'; sandbox">>}}, {Number, Headers})
     || {Number, Headers} <- lists:zip(lists:seq(1, 4), [First, Second, Third, Last])].

bosh_answer(Session, Payload) ->
    Posted = bosh_post(Session, "", Payload),
    {Posted, bosh_http_response(Posted)}.

%% --- HTTP

%% A proxy that adds a line of its own to the one that a client has made up.
last_line_of_forwarded_for(Config) ->
    Lines = [{"X-Forwarded-For", "192.0.2.7"}, {"X-Forwarded-For", "192.0.2.8"}],
    {_, BoshJid} = bosh_login(http_port(Config), account(Config), Lines),
    {Socket, WebSocketJid} = websocket_login(Config, megaphone_ct_http:websocket_request("/ws", Lines)),
    ?assertMatch({"http_bind", "192.0.2.8", _}, megaphone_ct_sessions:session_info(Config, BoshJid)),
    ?assertMatch({"websocket", "192.0.2.8", _}, megaphone_ct_sessions:session_info(Config, WebSocketJid)),
    ok = gen_tcp:close(Socket).

versions_and_white_space_are_taken(Config) ->
    Requests = ["GET /bosh HTTP/1.2\r\nHost: localhost\r\n\r\n",
                "GET /nothing HTTP/1.2\r\nHost: localhost\r\n\r\n",
                "GET /bosh HTTP/1.1\r\nHost:localhost  \r\n\r\n"],
    ?assertEqual([200, 404, 200], [status(Config, Request) || Request <- Requests]).

%% Stock doesn't take it.
white_space_in_a_length_is_taken(Config) ->
    Head = " HTTP/1.1\r\nHost: localhost\r\nContent-Length: ",
    [?assertEqual({Length, 200}, {Length, status(Config, ["POST /api/status", Head, Length, "\r\n\r\n{ }"])})
     || Length <- ["3 ", "  3", "\t3 \t"]],
    #{status := 200, body := Created} = answer(http_port(Config), [
        "POST /bosh", Head, integer_to_list(iolist_size(create_body())), " \r\n\r\n", create_body()]),
    ?assertMatch({match, _}, re:run(Created, " sid="), Created).

%% Stock knows no chunks.
white_space_in_chunks_is_taken(Config) ->
    Head = "HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    Chunked = ["POST /api/status ", Head, "1 \r\n{\r\n2\t;x=y\r\n }\r\n0 \r\n\r\n"],
    ?assertEqual(200, status(Config, Chunked)),
    Size = integer_to_list(iolist_size(create_body()), 16),
    #{status := 200, body := Created} =
        answer(http_port(Config), ["POST /bosh ", Head, Size, "  \r\n", create_body(), "\r\n0 \r\n\r\n"]),
    ?assertMatch({match, _}, re:run(Created, " sid="), Created).

host_is_required(Config) ->
    Requests = [[Method, " ", Path, " ", Version, "\r\n\r\n"]
                || {Method, Version} <- [{"GET", "HTTP/1.1"}, {"GET", "HTTP/1.0"}, {"OPTIONS", "HTTP/1.0"}],
                   Path <- ["/bosh", "/admin/"]],
    [?assertEqual({Request, 400}, {Request, status(Config, Request)}) || Request <- Requests].

%% Stock takes the last.
two_hosts_are_refused(Config) ->
    Requests = [["GET ", Path, " HTTP/1.1\r\nHost: localhost\r\n", Between, "Host: ", Host, "\r\n\r\n"]
                || Path <- ["/bosh", "/admin/"], Between <- ["", "X: y\r\n"], Host <- ["localhost", "example.org"]],
    [?assertEqual({Request, 400}, {Request, status(Config, Request)}) || Request <- Requests].

%% What the library says itself has what the listener was told to send with all, and what lets a page of another origin
%% read it where there is BOSH.
own_answers_have_custom_headers(Config) ->
    [Bosh, Other] = [megaphone_ct_node:free_port() || _ <- [1, 2]],
    ok = megaphone_ct_node:reload(ejabberd(Config), [
        listener_with_headers(Bosh, "      /bosh: mod_bosh\n      /ws: ejabberd_http_ws\n"),
        listener_with_headers(Other, "      /ws: ejabberd_http_ws\n")]),
    [begin
         #{status := Answered, headers := Headers} = answer(Port, Request),
         ?assertEqual({Status, Request}, {Answered, Request}),
         ?assertMatch({Status, #{<<"x-own">> := <<"our own">>}}, {Status, Headers}),
         %% A browser asks no permission for a WebSocket.
         ?assert(Status =:= 426 orelse maps:get(<<"access-control-allow-origin">>, Headers, none) =:= Origins)
     end || {Port, Origins} <- [{Bosh, <<"*">>}, {Other, none}], {Status, Request} <- refused_requests()],
    #{status := 200, headers := Headers} = answer(Bosh, post("/bosh", create_body())),
    ?assertMatch(#{<<"x-own">> := <<"our own">>, <<"access-control-allow-origin">> := <<"*">>}, Headers).

listener_with_headers(Port, Handlers) ->
    ["  -\n    port: ", integer_to_list(Port), "\n    ip: \"127.0.0.1\"\n    module: megaphone_http\n"
     "    max_head: 4096\n    head_timeout: 1 second\n    custom_headers:\n      \"X-Own\": \"our own\"\n"
     "    request_handlers:\n", Handlers].

refused_requests() ->
    Head = " HTTP/1.1\r\nHost: localhost\r\n",
    [{400, "GET\r\n\r\n"},
     {400, ["GET /nothing", Head, "No field\r\n\r\n"]},
     {408, ["GET /nothing", Head]},
     {413, ["POST /nothing", Head, "Transfer-Encoding: chunked\r\n\r\n40000000\r\n"]},
     {431, ["GET /nothing", Head, "X-Long: ", lists:duplicate(4096, $x), "\r\n\r\n"]},
     {501, ["POST /nothing", Head, "Transfer-Encoding: gzip\r\n\r\n"]},
     {426, ["GET /ws", Head, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"]},
     {505, "GET /nothing HTTP/2.0\r\nHost: localhost\r\n\r\n"}].

%% --- descriptors

short_of_1024_descriptors(Config) -> short_of_descriptors(1024, Config).

short_of_256_descriptors(Config) -> short_of_descriptors(256, Config).

%% More connections than the node may have files, which say nothing: it keeps some for itself.
short_of_descriptors(Limit, Config) ->
    Directory = filename:join(proplists:get_value(priv_dir, Config), "short_" ++ integer_to_list(Limit)),
    Ejabberd = megaphone_ct_node:start(megaphone_http, Directory, #{descriptors => Limit}),
    [C2sPort, HttpPort] = [megaphone_ct_node:port(Ejabberd, Service) || Service <- [c2s, http]],
    {Client, _} = login(C2sPort, megaphone_ct_node:account(Ejabberd, "user")),
    Uploader = megaphone_ct_http:connect(HttpPort),
    {Staying, Leaving} = lists:split(Limit div 8, [connecting(HttpPort) || _ <- lists:seq(1, 1100)]),
    ok = await_logged(Ejabberd, "accepts no more connections"),
    ok = upload(Client, Uploader),
    ok = needs_files(Ejabberd),
    [ok = socket:close(Socket) || Socket <- Leaving],
    ok = await_logged(Ejabberd, "accepts connections again"),
    {_, _} = login(C2sPort, megaphone_ct_node:account(Ejabberd, "user")),
    ?assertMatch(#{status := 200}, answer(HttpPort, megaphone_ct_http:request("GET", "/bosh"))),
    [ok = socket:close(Socket) || Socket <- Staying],
    ok = megaphone_ct_node:stop(Ejabberd).

%% Connects as soon as the server accepts.
connecting(Port) ->
    {ok, Socket} = socket:open(inet, stream, tcp),
    case socket:connect(Socket, #{family => inet, addr => {127, 0, 0, 1}, port => Port}, nowait) of
        ok -> Socket;
        {select, _} -> Socket
    end.

await_logged(Ejabberd, Expression) ->
    megaphone_ct_sockets:await(fun() -> megaphone_ct_node:log(Ejabberd, Expression) =/= [] end).

upload(Client, Socket) ->
    Content = crypto:strong_rand_bytes(300_000),
    Size = integer_to_list(byte_size(Content)),
    ok = gen_tcp:send(Client, ["<iq type='get' to='upload.localhost' id='slot'>"
                               "<request xmlns='urn:xmpp:http:upload:0' filename='file' size='", Size, "'/></iq>"]),
    Slot = await(Client, "</iq>"),
    [Put, Get] = [begin
        {match, [Url]} = re:run(Slot, ["<", Name, "[^>]* url='([^']*)"], [{capture, all_but_first, list}]),
        map_get(path, uri_string:parse(Url))
    end || Name <- ["put", "get"]],
    ok = megaphone_ct_http:send(Socket, [megaphone_ct_http:request("PUT", Put, [{"Content-Length", Size}]), Content]),
    #{status := 201} = megaphone_ct_http:response(Socket),
    ok = megaphone_ct_http:send(Socket, megaphone_ct_http:request("GET", Get)),
    #{status := 200, body := Content} = megaphone_ct_http:response(Socket),
    ok.

%% Files, code, and a connection to another server.
needs_files(Ejabberd) ->
    ok = megaphone_ct_node:call(Ejabberd, megaphone_ct_node, open_files, [20]),
    false = megaphone_ct_node:call(Ejabberd, code, is_loaded, [mod_delegation]),
    {module, _} = megaphone_ct_node:call(Ejabberd, code, load_file, [mod_delegation]),
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    {ok, _} = megaphone_ct_node:call(Ejabberd, gen_tcp, connect, [{127, 0, 0, 1}, Port, []]),
    ok = gen_tcp:close(Listener).

%% --- helpers

http_port(Config) -> megaphone_ct_node:port(ejabberd(Config), http).

%% The transport that the library should carry.
native(Config, Transport) ->
    case is_megaphone(Config) of
        true -> Transport;
        false -> none
    end.

websocket_login(Config, Request) ->
    megaphone_ct_websocket:login(http_port(Config), Request, account(Config)).

message(Jid, Text) -> ["<message xmlns='jabber:client' to='", Jid, "'><body>", Text, "</body></message>"].

client_ping(Id) -> ["<iq xmlns='jabber:client' type='get' id='", Id, "'><ping xmlns='urn:xmpp:ping'/></iq>"].

create_body() ->
    ["<body xmlns='http://jabber.org/protocol/httpbind' rid='1' ", megaphone_ct_xmpp:bosh_create(), "/>"].

post(Target, Body) ->
    ["POST ", Target, " HTTP/1.1\r\nHost: localhost\r\n"
     "Content-Length: ", integer_to_list(iolist_size(Body)), "\r\n\r\n", Body].

status(Config, Request) ->
    #{status := Status} = answer(http_port(Config), Request),
    Status.

%% The answer to a request on a connection of its own.
answer(Port, Request) ->
    Socket = megaphone_ct_http:connect(Port),
    ok = megaphone_ct_http:send(Socket, Request),
    Response = megaphone_ct_http:response(Socket),
    ok = gen_tcp:close(Socket),
    Response.
