%% HTTP of real ejabberd, with curl and other clients; megaphone_xmpp_SUITE has their XMPP sessions. Every case of the
%% group `stock' runs against ejabberd_http first, which shows that the case itself is right, and then against
%% megaphone_http, which has to behave the same, and in the group `ecm' through a connection manager.
-module(megaphone_ejabberd_SUITE).

-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([large_upload_comes_back_identical/1, chunked_upload/1, upload_waits_for_100_continue/1,
         page_of_another_origin_may_upload/1, head_has_no_body/1, http_1_0_connection_is_closed/1, connection_close_is_honoured/1,
         connection_is_kept/1, pipelined_requests_are_answered_in_order/1, web_admin_asks_for_a_password/1]).
-export([malformed_heads_are_refused/1, limits_of_the_head_are_options/1, random_bytes_leave_the_node_up/1]).
-export([reload_frees_and_takes_the_port/1, listener_on_ipv6/1, listener_on_unix_socket/1,
         https_and_secure_websocket/1, listeners_survive_loading_the_library_module_again/1]).
-export([killed_handler_leaves_the_node_up/1, node_stops_with_clients_connected/1]).

-include_lib("stdlib/include/assert.hrl").

%% How much more memory a node may hold while it takes 100 MB and gives them back.
-define(MEMORY_ALLOWANCE, 60 * 1024 * 1024).

suite() -> [{timetrap, {minutes, 4}}].

all() -> [{group, stock}, {group, megaphone}, {group, ecm}].

groups() ->
    [{stock, [], cases()},
     {megaphone, [], cases() ++ beyond_stock()},
     {ecm, [], (cases() -- own_listeners()) ++ [pipelined_requests_are_answered_in_order, malformed_heads_are_refused]}].

cases() ->
    [large_upload_comes_back_identical, chunked_upload, upload_waits_for_100_continue,
     page_of_another_origin_may_upload, head_has_no_body, http_1_0_connection_is_closed, connection_close_is_honoured,
     connection_is_kept, web_admin_asks_for_a_password,
     reload_frees_and_takes_the_port, listener_on_ipv6, listener_on_unix_socket, https_and_secure_websocket,
     random_bytes_leave_the_node_up, killed_handler_leaves_the_node_up, node_stops_with_clients_connected].

%% What has to do with the listener alone, which a client of a connection manager does not come to.
own_listeners() ->
    [reload_frees_and_takes_the_port, listener_on_ipv6, listener_on_unix_socket, https_and_secure_websocket].

%% What ejabberd_http doesn't do.
beyond_stock() ->
    [pipelined_requests_are_answered_in_order, malformed_heads_are_refused, limits_of_the_head_are_options,
     listeners_survive_loading_the_library_module_again].

init_per_group(stock, Config) -> start_ejabberd(ejabberd_http, stock, Config);
init_per_group(Group, Config) -> start_ejabberd(megaphone_http, Group, Config).

end_per_group(_Group, Config) -> megaphone_ct_node:stop(ejabberd(Config)).

start_ejabberd(HttpModule, Group, Config) ->
    Grouped = [{http_module, HttpModule}, {group, Group} | Config],
    [{ejabberd, start_ejabberd("", Grouped)} | Grouped].

start_ejabberd(Suffix, Config) ->
    Group = proplists:get_value(group, Config),
    Directory = filename:join(proplists:get_value(priv_dir, Config), [atom_to_list(Group), Suffix]),
    megaphone_ct_node:start(http_module(Config), Directory, megaphone_ct_ecm:changes(Group)).

%% A case that ends its node has one of its own.
init_per_testcase(node_stops_with_clients_connected, Config) ->
    [{ejabberd, start_ejabberd("_stopped", Config)} | Config];
init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(node_stops_with_clients_connected, Config) ->
    megaphone_ct_node:stop(ejabberd(Config));
end_per_testcase(_Case, Config) ->
    %% Whatever a failed case did to the configuration, the next one finds the first one.
    case proplists:get_value(tc_status, Config) of
        ok -> ok;
        _ -> megaphone_ct_node:reload(ejabberd(Config), [])
    end.

%% --- HTTP

large_upload_comes_back_identical(Config) ->
    Megabytes = 100,
    Directory = proplists:get_value(priv_dir, Config),
    File = filename:join(Directory, "large"),
    Hash = write_random_file(File, Megabytes),
    {PutUrl, GetUrl} = slot(Config, Megabytes * 1024 * 1024),

    ok = megaphone_ct_node:reset_peak_memory(ejabberd(Config)),
    Before = megaphone_ct_node:memory(ejabberd(Config)),
    ?assertEqual(<<"201">>, curl_status(["--upload-file", File, PutUrl])),
    Back = File ++ ".back",
    ?assertEqual({0, <<>>}, megaphone_ct_client:curl(["--fail", "--output", Back, GetUrl])),
    Growth = megaphone_ct_node:peak_memory(ejabberd(Config)) - Before,
    ct:pal("~w MB there and back: ~w KB more resident memory at the peak", [Megabytes, Growth div 1024]),

    ?assertEqual(Hash, hash_of_file(Back)),
    ?assert(Growth < ?MEMORY_ALLOWANCE, Growth),
    ok = file:delete(File),
    ok = file:delete(Back).

%% Stock ejabberd takes a chunked body for none at all; Megaphone decodes it.
chunked_upload(Config) ->
    Body = crypto:strong_rand_bytes(300_000),
    File = temporary_file(Config, "chunked", Body),
    {PutUrl, GetUrl} = slot(Config, byte_size(Body)),
    {_, Status} = megaphone_ct_client:curl([
        "--output", "/dev/null", "--write-out", "%{http_code}",
        "--header", "Transfer-Encoding: chunked", "--upload-file", File, PutUrl
    ]),
    case http_module(Config) of
        ejabberd_http ->
            %% It may close the connection before curl has read the answer.
            ?assertNotEqual(<<"201">>, Status),
            ?assertEqual(<<"404">>, curl_status([GetUrl]));
        megaphone_http ->
            ?assertEqual(<<"201">>, Status),
            ?assertEqual({0, Body}, megaphone_ct_client:curl([GetUrl]))
    end.

upload_waits_for_100_continue(Config) ->
    Body = crypto:strong_rand_bytes(100_000),
    {PutUrl, GetUrl} = slot(Config, byte_size(Body)),
    Socket = connect(Config),
    ok = megaphone_ct_http:send(Socket, put_head(PutUrl, byte_size(Body), [{"Expect", "100-continue"}])),
    ?assertMatch(#{status := 100}, megaphone_ct_http:response(Socket)),
    ok = megaphone_ct_http:send(Socket, Body),
    ?assertMatch(#{status := 201}, megaphone_ct_http:response(Socket)),
    ?assertEqual({0, Body}, megaphone_ct_client:curl([GetUrl])),

    %% And with curl, which sends the body only after the interim response, or a second later.
    File = temporary_file(Config, "expect", Body),
    {PutUrl2, GetUrl2} = slot(Config, byte_size(Body)),
    Arguments = ["--verbose", "--header", "Expect: 100-continue", "--upload-file", File, PutUrl2],
    {0, Log} = megaphone_ct_client:curl(Arguments),
    ?assertMatch({match, _}, re:run(Log, "< HTTP/1.1 100 Continue")),
    ?assertMatch({match, _}, re:run(Log, "< HTTP/1.1 201 ")),
    ?assertEqual({0, Body}, megaphone_ct_client:curl([GetUrl2])).

%% What a browser asks before it uploads (a preflight), and what it looks for in the answer to the upload itself.
page_of_another_origin_may_upload(Config) ->
    Url = upload(Config, <<"before">>),
    Origin = {"Origin", "http://localhost:8080"},
    Socket = connect(Config),
    Asks = [Origin, {"Access-Control-Request-Method", "PUT"}, {"Access-Control-Request-Headers", "content-type"}],
    ok = megaphone_ct_http:send(Socket, megaphone_ct_http:request("OPTIONS", path(Url), Asks)),
    #{status := 200, headers := Headers} = megaphone_ct_http:response(Socket),
    ?assertMatch(#{<<"access-control-allow-origin">> := <<"*">>}, Headers),
    ?assertMatch({match, _}, re:run(maps:get(<<"access-control-allow-methods">>, Headers), "PUT")),
    ?assertMatch({match, _}, re:run(maps:get(<<"access-control-allow-headers">>, Headers), "Content-Type")),
    ok = megaphone_ct_http:send(Socket, megaphone_ct_http:request("GET", path(Url), [Origin])),
    ?assertMatch(#{status := 200, headers := #{<<"access-control-allow-origin">> := <<"*">>}},
                 megaphone_ct_http:response(Socket)).

head_has_no_body(Config) ->
    Body = crypto:strong_rand_bytes(1000),
    Url = upload(Config, Body),
    {0, Head} = megaphone_ct_client:curl(["--head", Url]),
    ?assertMatch({match, _}, re:run(Head, "^HTTP/1.1 200 ")),
    %% The next response begins right after the head of the first.
    Socket = connect(Config),
    ok = megaphone_ct_http:send(Socket, megaphone_ct_http:request("HEAD", path(Url))),
    ?assertMatch(#{status := 200, headers := #{<<"content-length">> := <<"1000">>}},
                 megaphone_ct_http:response(Socket, 'HEAD')),
    ok = megaphone_ct_http:send(Socket, megaphone_ct_http:request("GET", path(Url))),
    ?assertMatch(#{status := 200, body := Body}, megaphone_ct_http:response(Socket)).

http_1_0_connection_is_closed(Config) ->
    Body = crypto:strong_rand_bytes(1000),
    Url = upload(Config, Body),
    ?assertEqual({0, Body}, megaphone_ct_client:curl(["--http1.0", Url])),
    Socket = connect(Config),
    ok = megaphone_ct_http:send(Socket, ["GET ", path(Url), " HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"]),
    ?assertMatch(#{status := 200, body := Body}, megaphone_ct_http:response(Socket)),
    ok = megaphone_ct_http:await_closed(Socket).

connection_close_is_honoured(Config) ->
    Socket = connect(Config),
    ok = megaphone_ct_http:send(Socket, megaphone_ct_http:request("GET", "/bosh", [{"Connection", "close"}])),
    ?assertMatch(#{status := 200}, megaphone_ct_http:response(Socket)),
    ok = megaphone_ct_http:await_closed(Socket).

connection_is_kept(Config) ->
    Url = url(Config, "http", "/bosh"),
    Report = ["--output", "/dev/null", "--write-out", "%{http_code} %{num_connects}\n"],
    {0, Output} = megaphone_ct_client:curl(Report ++ [Url, "--next" | Report] ++ [Url]),
    ?assertEqual(<<"200 1\n200 0\n">>, Output),
    %% Errors don't end the connection either, and a request may come in pieces.
    Socket = connect(Config),
    lists:foreach(
        fun({Path, Status}) ->
            Request = iolist_to_binary(megaphone_ct_http:request("GET", Path)),
            {Start, Rest} = split_binary(Request, byte_size(Request) - 3),
            ok = megaphone_ct_http:send(Socket, Start),
            ok = megaphone_ct_http:send(Socket, Rest),
            ?assertMatch(#{status := Status}, megaphone_ct_http:response(Socket))
        end,
        [{"/bosh", 200}, {"/nothing-here", 404}, {"/admin/", 401}, {"/bosh", 200}]).

%% Not of stock ejabberd, which loses requests that come with a body before them.
pipelined_requests_are_answered_in_order(Config) ->
    Bodies = [crypto:strong_rand_bytes(Size) || Size <- [1, 70_000, 1000]],
    Urls = [upload(Config, Body) || Body <- Bodies],
    {PutUrl, GetUrl} = slot(Config, 5000),
    Put = crypto:strong_rand_bytes(5000),
    Socket = connect(Config),
    ok = megaphone_ct_http:send(Socket, [
        [megaphone_ct_http:request("GET", path(Url)) || Url <- Urls],
        put_head(PutUrl, byte_size(Put), []), Put,
        megaphone_ct_http:request("GET", path(GetUrl)),
        megaphone_ct_http:request("GET", "/nothing-here"),
        megaphone_ct_http:request("GET", "/bosh", [{"Connection", "close"}])
    ]),
    [?assertMatch(#{status := 200, body := Body}, megaphone_ct_http:response(Socket)) || Body <- Bodies],
    ?assertMatch(#{status := 201}, megaphone_ct_http:response(Socket)),
    ?assertMatch(#{status := 200, body := Put}, megaphone_ct_http:response(Socket)),
    ?assertMatch(#{status := 404}, megaphone_ct_http:response(Socket)),
    ?assertMatch(#{status := 200}, megaphone_ct_http:response(Socket)),
    ok = megaphone_ct_http:await_closed(Socket).

web_admin_asks_for_a_password(Config) ->
    {Jid, Password} = megaphone_ct_node:admin_account(ejabberd(Config)),
    Url = url(Config, "http", "/admin/"),
    ?assertEqual(<<"401">>, curl_status([Url])),
    ?assertEqual(<<"401">>, curl_status(["--user", Jid ++ ":wrong", Url])),
    ?assertEqual(<<"200">>, curl_status(["--user", Jid ++ ":" ++ Password, Url])).

%% Where two readers of a head could disagree about it (RFC 9112, 5 and 6.3), it is refused and not passed on.
malformed_heads_are_refused(Config) ->
    Heads = [
        "GET\r\n\r\n",
        "GET /bosh HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "GET /bosh HTTP/1.1\r\nHost: local\rhost\r\n\r\n",
        "GET /bosh HTTP/1.1\r\nHost: local\0host\r\n\r\n",
        "POST /bosh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST /bosh HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /bosh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    ],
    Port = megaphone_ct_node:port(ejabberd(Config), http),
    [?assertEqual({Head, 400}, {Head, refusal(Port, Head)}) || Head <- Heads].

limits_of_the_head_are_options(Config) ->
    Port = megaphone_ct_node:free_port(),
    Listener = megaphone_ct_node:http_listener(
        http_module(Config), [{port, Port}, {ip, "127.0.0.1"}, {max_head, 4096}, {head_timeout, "1 second"}]),
    ok = megaphone_ct_node:reload(ejabberd(Config), [Listener]),
    Head = iolist_to_binary(megaphone_ct_http:request("GET", "/bosh", [{"X-Long", lists:duplicate(4096, $a)}])),
    ?assertEqual(431, refusal(Port, Head)),
    ?assertEqual(408, refusal(Port, "GET /bosh HTTP/1.1\r\nHost: loc")),
    ?assertEqual(<<"200">>, curl_status([lists:flatten(io_lib:format("http://127.0.0.1:~w/bosh", [Port]))])),
    ok = megaphone_ct_node:reload(ejabberd(Config), []).

%% The status with which the server refuses these bytes and closes the connection.
refusal(Port, Bytes) ->
    Socket = megaphone_ct_http:connect(Port),
    ok = megaphone_ct_http:send(Socket, Bytes),
    #{status := Status} = megaphone_ct_http:response(Socket),
    ok = megaphone_ct_http:await_closed(Socket),
    Status.

%% Some look like the start of a request, the others are noise from their first byte.
random_bytes_leave_the_node_up(Config) ->
    Seed = rand:seed_s(exsss),
    ct:log("seed ~p", [rand:export_seed_s(Seed)]),
    lists:foldl(
        fun(N, Random) ->
            {Noise, Random1} = rand:bytes_s(N, Random),
            Socket = connect(Config),
            %% The server may have closed the connection on the first bytes already.
            _ = gen_tcp:send(Socket, [lists:nth(1 + N rem 3, ["", "GET /", "POST /bosh HTTP/1.1\r\n"]), Noise]),
            ok = gen_tcp:close(Socket),
            Random1
        end,
        Seed, lists:seq(1, 1000)),
    ?assertEqual(<<"200">>, curl_status([url(Config, "http", "/bosh")])).

%% --- listeners

reload_frees_and_takes_the_port(Config) ->
    Port = megaphone_ct_node:free_port(),
    listener_comes_and_goes(
        Config, [{port, Port}, {ip, "127.0.0.1"}],
        fun() -> curl_status([lists:flatten(io_lib:format("http://127.0.0.1:~w/bosh", [Port]))]) end,
        fun() -> can_listen(Port, {127, 0, 0, 1}) end).

listener_on_ipv6(Config) ->
    Loopback = {0, 0, 0, 0, 0, 0, 0, 1},
    Port = megaphone_ct_node:free_port(),
    case can_listen(Port, Loopback) of
        false ->
            {skip, "no IPv6 on this machine"};
        true ->
            listener_comes_and_goes(
                Config, [{port, Port}, {ip, "::1"}],
                fun() -> curl_status([lists:flatten(io_lib:format("http://[::1]:~w/bosh", [Port]))]) end,
                fun() -> can_listen(Port, Loopback) end)
    end.

listener_on_unix_socket(Config) ->
    %% Not in priv_dir: a socket's path has at most 107 bytes.
    Path = string:trim(os:cmd("mktemp --dry-run --tmpdir megaphone-XXXXXXXX.sock")),
    listener_comes_and_goes(
        Config, [{port, "unix:" ++ Path}],
        fun() -> curl_status(["--unix-socket", Path, "http://localhost/bosh"]) end,
        fun() -> {error, econnrefused} =:= gen_tcp:connect({local, Path}, 0, []) end),
    ok = file:delete(Path).

%% Adds a listener, removes it, and adds it again, each time by a reload of the configuration.
listener_comes_and_goes(Config, Options, RequestStatus, IsFree) ->
    Listener = megaphone_ct_node:http_listener(http_module(Config), Options),
    ok = megaphone_ct_node:reload(ejabberd(Config), [Listener]),
    ?assertEqual(<<"200">>, RequestStatus()),
    ?assertNot(IsFree()),
    ok = megaphone_ct_node:reload(ejabberd(Config), []),
    ?assert(IsFree()),
    ok = megaphone_ct_node:reload(ejabberd(Config), [Listener]),
    ?assertEqual(<<"200">>, RequestStatus()),
    ok = megaphone_ct_node:reload(ejabberd(Config), []).

https_and_secure_websocket(Config) ->
    Port = megaphone_ct_node:free_port(),
    Listener = megaphone_ct_node:http_listener(http_module(Config), [{port, Port}, {ip, "127.0.0.1"}, {tls, true}]),
    ok = megaphone_ct_node:reload(ejabberd(Config), [Listener]),
    Certificate = megaphone_ct_node:certificate(ejabberd(Config)),
    Address = lists:flatten(io_lib:format("127.0.0.1:~w", [Port])),
    ?assertEqual(<<"200">>, curl_status(["--cacert", Certificate, "https://" ++ Address ++ "/bosh"])),
    Secure = megaphone_ct_client:strophe("wss://" ++ Address ++ "/ws", account(Config),
                                         [{"NODE_EXTRA_CA_CERTS", Certificate}]),
    ok = megaphone_ct_client:talk(Secure, strophe(Config, "ws", "/ws")),
    ok = megaphone_ct_node:reload(ejabberd(Config), []).

%% Clients that are there stay, others may come, and the configuration can still be changed.
listeners_survive_loading_the_library_module_again(Config) ->
    Client = strophe(Config, "ws", "/ws"),
    Socket = connect(Config),
    ?assertEqual({error, on_load_failure}, megaphone_ct_node:call(ejabberd(Config), c, l, [megaphone_nif])),
    ?assertMatch([_], megaphone_ct_node:log(ejabberd(Config), "megaphone_nif was not loaded again.*restart the Erlang node")),
    ok = megaphone_ct_http:send(Socket, megaphone_ct_http:request("GET", "/bosh")),
    ?assertMatch(#{status := 200}, megaphone_ct_http:response(Socket)),
    ok = megaphone_ct_client:talk(Client, strophe(Config, "ws", "/ws")),
    reload_frees_and_takes_the_port(Config).

%% --- failures and stops

killed_handler_leaves_the_node_up(Config) ->
    %% The interim response shows that a handler is there; it waits for a body that does not come.
    {PutUrl, _} = slot(Config, 100_000),
    Others = handlers(Config),
    Socket = connect(Config),
    ok = megaphone_ct_http:send(Socket, put_head(PutUrl, 100_000, [{"Expect", "100-continue"}])),
    ?assertMatch(#{status := 100}, megaphone_ct_http:response(Socket)),
    [Handler] = handlers(Config) -- Others,
    true = megaphone_ct_node:call(ejabberd(Config), erlang, exit, [Handler, kill]),
    ok = megaphone_ct_http:await_closed(Socket),
    ?assertEqual(<<"200">>, curl_status([url(Config, "http", "/bosh")])),
    ok = megaphone_ct_client:talk(strophe(Config, "ws", "/ws"), strophe(Config, "http", "/bosh")).

node_stops_with_clients_connected(Config) ->
    Idle = connect(Config),
    ok = megaphone_ct_http:send(Idle, megaphone_ct_http:request("GET", "/bosh")),
    ?assertMatch(#{status := 200}, megaphone_ct_http:response(Idle)),
    Silent = connect(Config),
    ok = megaphone_ct_node:stop(ejabberd(Config)),
    ok = megaphone_ct_http:await_closed(Idle),
    ok = megaphone_ct_http:await_closed(Silent).

%% --- helpers

ejabberd(Config) -> proplists:get_value(ejabberd, Config).

http_module(Config) -> proplists:get_value(http_module, Config).

url(Config, Scheme, Path) -> megaphone_ct_node:url(ejabberd(Config), Scheme, Path).

account(Config) -> megaphone_ct_node:account(ejabberd(Config), "user").

strophe(Config, Scheme, Path) -> megaphone_ct_client:strophe(url(Config, Scheme, Path), account(Config)).

slixmpp(Config) -> megaphone_ct_client:slixmpp(megaphone_ct_node:port(ejabberd(Config), c2s), account(Config)).

connect(Config) -> megaphone_ct_http:connect(megaphone_ct_node:port(ejabberd(Config), http)).

handlers(Config) -> megaphone_ct_node:call(ejabberd(Config), megaphone_ct_node, http_handlers, []).

curl_status(Arguments) ->
    {0, Status} = megaphone_ct_client:curl(["--output", "/dev/null", "--write-out", "%{http_code}" | Arguments]),
    Status.

path(Url) ->
    #{path := Path} = uri_string:parse(Url),
    Path.

put_head(Url, Bytes, Headers) ->
    megaphone_ct_http:request("PUT", path(Url), [{"Content-Length", integer_to_list(Bytes)} | Headers]).

%% A place to upload a file of this size to (XEP-0363), as a client asks for it.
slot(Config, Bytes) ->
    Client = slixmpp(Config),
    _ = megaphone_ct_client:await_online(Client),
    Slot = megaphone_ct_client:slot(Client, "file", Bytes),
    ok = megaphone_ct_client:quit(Client),
    Slot.

%% Uploads a file and returns its address.
upload(Config, Body) ->
    {PutUrl, GetUrl} = slot(Config, byte_size(Body)),
    ?assertEqual(<<"201">>, curl_status(["--upload-file", temporary_file(Config, "upload", Body), PutUrl])),
    GetUrl.

temporary_file(Config, Name, Content) ->
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:write_file(File, Content),
    File.

write_random_file(File, Megabytes) ->
    {ok, Device} = file:open(File, [write, raw, binary]),
    Hash = lists:foldl(
        fun(_, Context) ->
            Block = crypto:strong_rand_bytes(1024 * 1024),
            ok = file:write(Device, Block),
            crypto:hash_update(Context, Block)
        end,
        crypto:hash_init(sha256), lists:seq(1, Megabytes)),
    ok = file:close(Device),
    crypto:hash_final(Hash).

hash_of_file(File) ->
    {ok, Device} = file:open(File, [read, raw, binary]),
    Hash = hash_of_device(Device, crypto:hash_init(sha256)),
    ok = file:close(Device),
    Hash.

hash_of_device(Device, Context) ->
    case file:read(Device, 1024 * 1024) of
        {ok, Block} -> hash_of_device(Device, crypto:hash_update(Context, Block));
        eof -> crypto:hash_final(Context)
    end.

can_listen(Port, Address) ->
    Family = case tuple_size(Address) of 4 -> inet; 8 -> inet6 end,
    case gen_tcp:listen(Port, [Family, {ip, Address}, {reuseaddr, true}]) of
        {ok, Socket} -> ok = gen_tcp:close(Socket), true;
        {error, _} -> false
    end.
