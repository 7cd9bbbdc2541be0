%% Listeners behind proxies that speak the PROXY protocol: who a client is, to ejabberd and to the library's own users.
-module(megaphone_proxy_SUITE).

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([wrong_passwords_lock_out_their_client_alone/1, sessions_have_their_clients_address/1,
         forwarded_for_is_a_trusted_clients/1, health_checks_leave_no_trace/1]).
-export([who_is_not_trusted_is_refused/1, what_has_no_header_is_refused/1, handlers_see_the_headers_address/1,
         stock_c2s_sees_the_headers_address/1, health_checks_of_stock_modules_leave_no_trace/1,
         stock_http_sees_the_headers_address/1, proxies_that_are_named_go_before_accept_interval/1]).
-export([documentation_shows_what_is_tested/1, library_takes_headers/1, library_refuses_bad_networks/1]).
%% A handler.
-export([tell_ends/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sessions, [account/1, call/4, ejabberd/1, session_info/2]).
-import(megaphone_ct_xmpp, [login/2, bosh_login/3, await/2, trailing/1]).

-define(LOOPBACK, {127, 0, 0, 1}).
-define(TIMEOUT, 30000).

%% What a proxy says of a client.
-define(HEADER, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n").

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, haproxy}, {group, nginx}, {group, bytes}, {group, library}].

groups() ->
    [{haproxy, [], proxied() ++ [health_checks_leave_no_trace]},
     {nginx, [], proxied()},
     {bytes, [],
      [who_is_not_trusted_is_refused, what_has_no_header_is_refused, handlers_see_the_headers_address,
       stock_c2s_sees_the_headers_address, health_checks_of_stock_modules_leave_no_trace,
       stock_http_sees_the_headers_address, proxies_that_are_named_go_before_accept_interval]},
     {library, [], [documentation_shows_what_is_tested, library_takes_headers, library_refuses_bad_networks]}].

proxied() ->
    [wrong_passwords_lock_out_their_client_alone, sessions_have_their_clients_address,
     forwarded_for_is_a_trusted_clients].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(ssl),
    Ports = #{"5322" => megaphone_ct_node:free_port(), "5380" => megaphone_ct_node:free_port()},
    Directory = filename:join(proplists:get_value(priv_dir, Config), "proxied"),
    [{ejabberd, megaphone_ct_node:start(megaphone_http, Directory, changes(Ports))}, {inner, Ports},
     {directory, Directory} | Config].

end_per_suite(Config) -> megaphone_ct_node:stop(ejabberd(Config)).

changes(Ports) ->
    <<"listen:\n", Listeners/binary>> = megaphone_ct_proxy:configuration("ejabberd.yml", numbers("port: ~s\n", Ports)),
    #{
        listeners => [Listeners],
        replace => [{"  mod_adhoc: {}\n", "  mod_adhoc: {}\n  mod_fail2ban:\n    c2s_max_auth_failures: 3\n"}],
        options => ["trusted_proxies:\n  - 127.0.0.1\n  - 127.0.0.3\n",
                    "api_permissions:\n  one:\n    who:\n      ip: 192.0.2.7/32\n    what: status\n"]
    }.

%% With what is around them, so that none is part of another.
numbers(Format, Ports) ->
    [{write(Format, Number), write(Format, integer_to_list(Port))} || {Number, Port} <- maps:to_list(Ports)].

write(Format, Number) -> lists:flatten(io_lib:format(Format, [Number])).

init_per_group(Proxy, Config) when Proxy =:= haproxy; Proxy =:= nginx ->
    Outer = #{"5223" => megaphone_ct_node:free_port(), "443" => megaphone_ct_node:free_port()},
    [{proxy, Proxy}, {outer, Outer} | Config];
init_per_group(_Group, Config) ->
    Config.

end_per_group(_Group, _Config) -> ok.

%% A port closes with the process that has opened it, so each case has a proxy of its own.
init_per_testcase(Case, Config) ->
    case proplists:get_value(proxy, Config) of
        undefined -> Config;
        Proxy -> [{program, start_proxy(Proxy, Case, Config)} | Config]
    end.

start_proxy(Proxy, Case, Config) ->
    #{"5223" := Xmpps, "443" := Https} = Outer = proplists:get_value(outer, Config),
    {Name, Connects, Everywhere, Loopback} = formats(Proxy),
    Replace = numbers(Connects, proplists:get_value(inner, Config))
        ++ [{write(Everywhere, Number), write(Loopback, integer_to_list(Port))}
            || {Number, Port} <- maps:to_list(Outer)]
        ++ [{"/etc/ssl/private/xmpp.pem", megaphone_ct_node:certificate(ejabberd(Config))}],
    File = filename:join([proplists:get_value(directory, Config), Proxy, Case]),
    Program = megaphone_ct_proxy:start(Proxy, File, megaphone_ct_proxy:configuration(Name, Replace)),
    lists:foreach(fun megaphone_ct_proxy:await_port/1, [Xmpps, Https]),
    Program.

%% Where it connects to, and where it listens: everywhere, and on loopback.
formats(haproxy) -> {"haproxy.cfg", "127.0.0.1:~s send", "bind *:~s ssl", "bind 127.0.0.1:~s ssl"};
formats(nginx) -> {"nginx.conf", "127.0.0.1:~s;", "listen ~s ssl", "listen 127.0.0.1:~s ssl"}.

end_per_testcase(_Case, Config) ->
    case proplists:get_value(program, Config) of
        undefined -> ok;
        Program -> megaphone_ct_proxy:stop(Program)
    end.

%% A port by which a client comes to one of the proxy's, from this address.
by_proxy(Config, Number, Ip) ->
    megaphone_ct_proxy:over_tls(maps:get(Number, proplists:get_value(outer, Config)), Ip).

%% A listener behind the proxy.
behind(Config, Number) -> maps:get(Number, proplists:get_value(inner, Config)).

%% --- behind HAProxy and nginx

wrong_passwords_lock_out_their_client_alone(Config) ->
    _ = call(Config, mod_fail2ban, unban, [<<"127.0.0.0/8">>]),
    {Jid, _} = Account = account(Config),
    [Attacker, Neighbour] = [by_proxy(Config, "5223", Ip) || Ip <- [{127, 0, 0, 2}, {127, 0, 0, 3}]],
    lists:foreach(
        fun(N) ->
            Wrong = {Jid, "wrong" ++ integer_to_list(N)},
            _ = try_login(Attacker, [megaphone_ct_xmpp:auth(Wrong)], "<failure|policy-violation")
        end,
        lists:seq(1, 3)),
    ?assertMatch({match, _}, re:run(try_login(Attacker, [], "features>|policy-violation"), "policy-violation")),
    {Socket, FullJid} = login(Neighbour, Account),
    ?assertMatch({"c2s", "127.0.0.3", _}, session_info(Config, FullJid)),
    ok = gen_tcp:close(Socket),
    ?assertEqual(1, call(Config, mod_fail2ban, unban, [<<"127.0.0.0/8">>])).

%% Opens a stream, sends this behind its features, and returns what comes until the expression is found.
try_login(Port, Bytes, Expression) ->
    Socket = megaphone_ct_http:connect(Port),
    ok = gen_tcp:send(Socket, megaphone_ct_xmpp:header()),
    _ = [await(Socket, "features>|policy-violation") || Bytes =/= []],
    ok = gen_tcp:send(Socket, Bytes),
    Answer = await(Socket, Expression),
    ok = gen_tcp:close(Socket),
    Answer.

sessions_have_their_clients_address(Config) ->
    [Xmpps, Https] = [by_proxy(Config, Number, {127, 0, 0, 2}) || Number <- ["5223", "443"]],
    {Tcp, TcpJid} = login(Xmpps, account(Config)),
    {_Bosh, BoshJid} = bosh_login(Https, account(Config), []),
    Upgrade = megaphone_ct_http:websocket_request("/ws", []),
    {_, WebSocketJid} = megaphone_ct_websocket:login(Https, Upgrade, account(Config)),
    ?assertMatch([{"c2s", "127.0.0.2", _}, {"http_bind", "127.0.0.2", _}, {"websocket", "127.0.0.2", _}],
                 [session_info(Config, Jid) || Jid <- [TcpJid, BoshJid, WebSocketJid]]),
    ?assertEqual([tcp, http_bind, websocket],
                 [megaphone_ct_sessions:native_transport(Config, Jid) || Jid <- [TcpJid, BoshJid, WebSocketJid]]),
    %% Stays so while it is idle and when it is used again.
    ok = gen_tcp:send(Tcp, megaphone_ct_xmpp:ping("p", 0)),
    _ = await(Tcp, "id='p'"),
    ?assertMatch({"c2s", "127.0.0.2", _}, session_info(Config, TcpJid)).

%% The proxy's own address is trusted, its clients' are not: but for that of one, which is a proxy itself.
forwarded_for_is_a_trusted_clients(Config) ->
    Line = {"X-Forwarded-For", "192.0.2.9"},
    lists:foreach(
        fun({Ip, Expected}) ->
            Https = by_proxy(Config, "443", Ip),
            {_, BoshJid} = bosh_login(Https, account(Config), [Line]),
            Upgrade = megaphone_ct_http:websocket_request("/ws", [Line]),
            {_, WebSocketJid} = megaphone_ct_websocket:login(Https, Upgrade, account(Config)),
            ?assertMatch([{"http_bind", Expected, _}, {"websocket", Expected, _}],
                         [session_info(Config, Jid) || Jid <- [BoshJid, WebSocketJid]])
        end,
        [{{127, 0, 0, 2}, "127.0.0.2"}, {{127, 0, 0, 3}, "192.0.2.9"}]).

%% HAProxy connects every two seconds to see whether there is a server, in version 2 (LOCAL) to one listener and in
%% version 1 (UNKNOWN) to the other.
health_checks_leave_no_trace(Config) ->
    Before = length(megaphone_ct_node:log(ejabberd(Config), ".")),
    Counts = accepted(Config),
    await_checks(Config, [Count + 2 || Count <- Counts]),
    ?assertEqual([], lists:nthtail(Before, megaphone_ct_node:log(ejabberd(Config), "."))),
    %% And it has found one.
    {Socket, _} = login(by_proxy(Config, "5223", {127, 0, 0, 2}), account(Config)),
    ok = gen_tcp:close(Socket).

await_checks(Config, Counts) ->
    case lists:all(fun({Count, Now}) -> Now >= Count end, lists:zip(Counts, accepted(Config))) of
        true -> ok;
        false -> receive after 100 -> await_checks(Config, Counts) end
    end.

%% Connections so far, of the two listeners behind the proxy.
accepted(Config) ->
    Listeners = call(Config, megaphone, listeners, []),
    [Count || Number <- ["5322", "5380"],
              #{sockname := {_, Port}, accepted := Count} <- Listeners, Port =:= behind(Config, Number)].

%% --- byte by byte

%% Whatever it says.
who_is_not_trusted_is_refused(Config) ->
    lists:foreach(
        fun(Number) ->
            {ok, Socket} = gen_tcp:connect(?LOOPBACK, behind(Config, Number),
                                           [binary, {active, false}, {ip, {127, 0, 0, 2}}], ?TIMEOUT),
            _ = gen_tcp:send(Socket, [?HEADER, megaphone_ct_xmpp:header()]),
            ?assertMatch({error, Reason} when Reason =:= closed; Reason =:= econnreset,
                         gen_tcp:recv(Socket, 0, ?TIMEOUT))
        end,
        ["5322", "5380"]),
    ?assertMatch([_], megaphone_ct_node:log(ejabberd(Config), "none of the listener's trusted proxies")).

what_has_no_header_is_refused(Config) ->
    Requests = [{"5322", megaphone_ct_xmpp:header()}, {"5380", megaphone_ct_http:request("GET", "/bosh")},
                {"5322", ["PROXY TCP4 1.2.3.4\r\n", megaphone_ct_xmpp:header()]}],
    [?assertEqual({Request, <<>>}, {Request, refused(behind(Config, Number), Request)}) || {Number, Request} <- Requests],
    ?assertMatch([_], megaphone_ct_node:log(ejabberd(Config), "did not begin with a PROXY protocol header")).

%% All that comes. It may end with a reset, since bytes were not read.
refused(Port, Bytes) ->
    Socket = megaphone_ct_http:connect(Port),
    _ = gen_tcp:send(Socket, Bytes),
    case gen_tcp:recv(Socket, 0, ?TIMEOUT) of
        {ok, Data} -> Data;
        {error, Reason} when Reason =:= closed; Reason =:= econnreset -> <<>>
    end.

%% ejabberd_http, which asks for the address with inet:peername.
handlers_see_the_headers_address(Config) ->
    Port = megaphone_ct_node:free_port(),
    ok = megaphone_ct_node:reload(ejabberd(Config), [api_listener(Port, "")]),
    ?assertEqual([200, 403], [api_status(megaphone_ct_proxy:with_header(Port, Header))
                              || Header <- [?HEADER, "PROXY UNKNOWN\r\n"]]).

%% The commands answer 192.0.2.7 alone.
api_listener(Port, Lines) ->
    ["  -\n    port: ", integer_to_list(Port), "\n    ip: \"127.0.0.1\"\n    module: megaphone_http\n",
     "    use_proxy_protocol: true\n", Lines, "    request_handlers:\n      /api: mod_http_api\n"].

api_status(Port) ->
    Socket = megaphone_ct_http:connect(Port),
    ok = megaphone_ct_http:send(Socket, [megaphone_ct_http:request("POST", "/api/status", [{"Content-Length", "2"}]), "{}"]),
    #{status := Status} = megaphone_ct_http:response(Socket),
    Status.

%% A c2s that does STARTTLS itself is stock's, on one of Megaphone's sockets.
stock_c2s_sees_the_headers_address(Config) ->
    Port = stock_c2s(Config),
    Certificate = megaphone_ct_node:certificate(ejabberd(Config)),
    Proxied = megaphone_ct_proxy:with_header(Port, ?HEADER),
    Client = megaphone_ct_client:slixmpp(Proxied, account(Config), [Certificate]),
    Jid = megaphone_ct_client:await_online(Client),
    ?assertEqual({"c2s_tls", "192.0.2.7", 56324}, session_info(Config, Jid)),
    ?assertMatch([_], megaphone_ct_node:log(ejabberd(Config), "Accepted connection 192.0.2.7:56324 -> 198.51.100.1:443")),
    ok = megaphone_ct_client:quit(Client).

%% Its port.
stock_c2s(Config) ->
    Port = megaphone_ct_node:free_port(),
    Lines = ["use_proxy_protocol: true", "starttls: true", "starttls_required: true"],
    Listener = ["  -\n    port: ", integer_to_list(Port), "\n    ip: \"127.0.0.1\"\n    module: megaphone_c2s\n",
                [["    ", Line, "\n"] || Line <- Lines]],
    ok = megaphone_ct_node:reload(ejabberd(Config), [Listener]),
    Port.

health_checks_of_stock_modules_leave_no_trace(Config) ->
    leaves_no_trace(Config, stock_c2s(Config)),
    Port = megaphone_ct_node:free_port(),
    ok = megaphone_ct_node:reload(ejabberd(Config), [api_listener(Port, "    tls: true\n")]),
    leaves_no_trace(Config, Port).

leaves_no_trace(Config, Port) ->
    Before = length(megaphone_ct_node:log(ejabberd(Config), ".")),
    {ok, Check} = gen_tcp:connect(?LOOPBACK, Port, [binary], ?TIMEOUT),
    ok = gen_tcp:send(Check, "PROXY UNKNOWN\r\n"),
    ok = gen_tcp:close(Check),
    await_closed(Config, Port),
    ?assertEqual([], lists:nthtail(Before, megaphone_ct_node:log(ejabberd(Config), "."))).

%% Until the one connection that it has accepted is closed.
await_closed(Config, Port) ->
    Listeners = call(Config, megaphone, listeners, []),
    case [Listener || #{sockname := {_, At}} = Listener <- Listeners, At =:= Port] of
        [#{accepted := 1, connections := 0}] -> ok;
        _ -> receive after 20 -> await_closed(Config, Port) end
    end.

%% So is an ejabberd_http that does TLS itself. The header is in the clear, before it.
stock_http_sees_the_headers_address(Config) ->
    Port = megaphone_ct_node:free_port(),
    ok = megaphone_ct_node:reload(ejabberd(Config), [api_listener(Port, "    tls: true\n")]),
    Socket = megaphone_ct_http:connect(Port),
    ok = gen_tcp:send(Socket, ?HEADER),
    {ok, Tls} = ssl:connect(Socket, [{verify, verify_none}], ?TIMEOUT),
    ok = ssl:send(Tls, [megaphone_ct_http:request("POST", "/api/status", [{"Content-Length", "2"}]), "{}"]),
    {ok, Answer} = ssl:recv(Tls, 0, ?TIMEOUT),
    ?assertMatch(<<"HTTP/1.1 200 ", _/binary>>, iolist_to_binary(Answer)).

%% ejabberd's own accept loop would believe anybody.
proxies_that_are_named_go_before_accept_interval(Config) ->
    Port = megaphone_ct_node:free_port(),
    Listener = ["  -\n    port: ", integer_to_list(Port), "\n    ip: \"127.0.0.1\"\n    module: megaphone_c2s\n",
                "    accept_interval: 1\n    use_proxy_protocol: true\n    proxy_protocol_trusted: [\"192.0.2.0/24\"]\n"],
    ok = megaphone_ct_node:reload(ejabberd(Config), [Listener]),
    ?assertEqual(<<>>, refused(Port, [?HEADER, megaphone_ct_xmpp:header()])),
    ?assertMatch([_], megaphone_ct_node:log(ejabberd(Config), "\\[accept_interval\\] is ignored")).

%% --- the library's own

%% The configurations of the page are files, which the cases above run.
documentation_shows_what_is_tested(_Config) ->
    {ok, Page} = file:read_file(filename:join([megaphone_ct_node:root(), "docs", "proxy.md"])),
    Shown = [Name || Name <- ["ejabberd.yml", "haproxy.cfg", "nginx.conf"],
                     string:find(Page, ["\n", megaphone_ct_proxy:file(Name), "```\n"]) =/= nomatch],
    ?assertEqual(["ejabberd.yml", "haproxy.cfg", "nginx.conf"], Shown).

tell_ends(Socket) ->
    {ok, Bytes} = gen_tcp:recv(Socket, 0),
    {{ok, Peer}, {ok, Local}} = {inet:peername(Socket), inet:sockname(Socket)},
    gen_tcp:send(Socket, io_lib:format("~p", [{Peer, Local, Bytes}])).

library_takes_headers(_Config) ->
    {ok, _} = application:ensure_all_started(megaphone),
    Expected = {{{192, 0, 2, 7}, 56324}, {{198, 51, 100, 1}, 443}},
    [begin
         Port = library_port(#{mode => Mode, proxy_protocol => Option}),
         ?assertEqual({Expected, <<"GET / HTTP/1.0\r\n\r\n">>}, told([?HEADER, "GET / HTTP/1.0\r\n\r\n"], Port))
     end || Mode <- [raw, http], Option <- [true, [{{10, 0, 0, 0}, 8}, {?LOOPBACK, 32}], [{{0, 0, 0, 0, 0, 0, 0, 0}, 0}]]],
    ?assertEqual(<<>>, refused(library_port(#{proxy_protocol => [{{10, 0, 0, 0}, 8}]}), ?HEADER)),
    ?assertEqual(<<>>, refused(library_port(#{proxy_protocol => []}), ?HEADER)),
    {{_, {?LOOPBACK, _}}, <<"PROXY">>} = told("PROXY", library_port(#{proxy_protocol => false})),
    ok = application:stop(megaphone).

library_port(Options) ->
    {ok, Listener} = megaphone:start_listener(0, fun ?MODULE:tell_ends/1, Options#{socket => [{ip, ?LOOPBACK}]}),
    [Port] = [Port || #{id := Id, sockname := {_, Port}} <- megaphone:listeners(), Id =:= Listener],
    Port.

%% What a handler has told of a connection that begins with these bytes.
told(Bytes, Port) ->
    Socket = megaphone_ct_http:connect(Port),
    ok = gen_tcp:send(Socket, Bytes),
    {ok, Tokens, _} = erl_scan:string(binary_to_list(trailing(Socket)) ++ "."),
    {ok, {Peer, Local, Received}} = erl_parse:parse_term(Tokens),
    {{Peer, Local}, Received}.

library_refuses_bad_networks(_Config) ->
    {ok, _} = application:ensure_all_started(megaphone),
    Bad = [unknown, [{{127, 0, 0, 1}, 33}], [{{127, 0, 0}, 8}], [{{256, 0, 0, 1}, 8}], [{{0, 0, 0, 0, 0, 0, 0, 1}, 129}],
           [{?LOOPBACK, -1}], [?LOOPBACK], lists:duplicate(257, {?LOOPBACK, 32})],
    [?assertEqual({Networks, {error, badarg}},
                  {Networks, megaphone:start_listener(0, fun ?MODULE:tell_ends/1, #{proxy_protocol => Networks})})
     || Networks <- Bad],
    ok = application:stop(megaphone).
