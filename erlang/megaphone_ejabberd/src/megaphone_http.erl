%% A listener module of ejabberd: the same as ejabberd_http, but idle connections have no process, and XMPP over
%% WebSocket and BOSH none but the session's own.
%%
%% ejabberd opens the listening socket and calls tcp_init/2 in a process of the listener's own. That call keeps the
%% process for as long as the listener lives; Megaphone accepts on a copy of the descriptor. It answers for the paths of
%% ejabberd_http_ws and mod_bosh itself, and starts an ejabberd_http process whenever another complete request is there.
-module(megaphone_http).
-behaviour(ejabberd_listener).

-export([start/3, start_link/3, accept/1, tcp_init/2, listen_options/0, listen_opt_type/1]).
%% Called by starters.
-export([start_handler/2, start_session/3]).

%% ejabberd's.
-include("logger.hrl").

%% What a connection manager asks for, unless the listener says otherwise.
-define(ECM_NAME, <<"http">>).

%% --- for ejabberd's own accept loop, which runs where tcp_init/2 has left the socket to it

-spec start(gen_tcp, gen_tcp:socket(), [proplists:property()]) -> {ok, pid()}.
start(SockMod, Socket, Options) -> ejabberd_http:start(SockMod, Socket, Options).

-spec start_link(gen_tcp, gen_tcp:socket(), [proplists:property()]) -> {ok, pid()}.
start_link(SockMod, Socket, Options) -> ejabberd_http:start_link(SockMod, Socket, Options).

-spec accept(pid()) -> term().
accept(Pid) -> ejabberd_http:accept(Pid).

%% --- options

%% Those of ejabberd_http and our own, with defaults: see docs/options.md for what they mean and cost.
-spec listen_options() -> [{atom(), term()} | atom()].
listen_options() ->
    ejabberd_http:listen_options() ++ own_options().

own_options() ->
    library_options() ++ session_options() ++ megaphone_ejabberd_listener:proxy_options()
        ++ megaphone_ecm:name_options(?ECM_NAME).

%% The library's. Times in milliseconds, sizes in bytes.
library_options() ->
    [{max_head, 65536},
     {head_timeout, 30000},
     {idle_timeout, 300000},
     {handler_linger, 100},
     {recv_high_watermark, 65536}].

session_options() -> megaphone_c2s:idle_defaults().

-spec listen_opt_type(atom()) -> econf:validator().
listen_opt_type(max_head) -> econf:pos_int();
listen_opt_type(recv_high_watermark) -> econf:pos_int();
listen_opt_type(head_timeout) -> econf:timeout(second);
listen_opt_type(idle_timeout) -> econf:timeout(second);
listen_opt_type(handler_linger) -> econf:timeout(millisecond);
listen_opt_type(hibernate_after) -> megaphone_c2s:listen_opt_type(hibernate_after);
listen_opt_type(pack) -> megaphone_c2s:listen_opt_type(pack);
listen_opt_type(pack_after) -> megaphone_c2s:listen_opt_type(pack_after);
listen_opt_type(proxy_protocol_trusted = Name) -> megaphone_ejabberd_listener:proxy_opt_type(Name);
listen_opt_type(ecm_name) -> megaphone_ecm:name_opt_type();
listen_opt_type(Name) -> ejabberd_http:listen_opt_type(Name).

%% --- the listener

%% Doesn't return but for a listener with an option that only ejabberd's own accept loop knows; that one is served by
%% ejabberd_http, with all features and stock's memory.
-spec tcp_init(gen_tcp:socket(), [proplists:property()]) -> [proplists:property()].
tcp_init(ListenSocket, Options) ->
    case megaphone_ejabberd_listener:unknown_options(Options) of
        [] -> serve(ListenSocket, Options);
        Unknown ->
            ?WARNING_MSG("megaphone_http does not know ~p yet: the listener at ~ts is served by ejabberd_http",
                         [Unknown, megaphone_ejabberd_listener:address(ListenSocket)]),
            Options
    end.

serve(ListenSocket, Options) ->
    SendTimeout = megaphone_ejabberd_versions:send_timeout(ListenSocket, Options),
    Handlers = #{handler => {start, ?MODULE, start_handler, [http_options(Options)]},
                 xmpp_handler => {start, ?MODULE, start_session,
                                  [megaphone_c2s:idle_options(Options), session_options(SendTimeout, Options)]}},
    Common = maps:merge(common_options([{send_timeout, SendTimeout} | Options]), megaphone_ecm:name(?ECM_NAME, Options)),
    Mode = case raw_options(Options) of
        [] -> http_mode(Options);
        Raw -> warn(Raw, ListenSocket), #{mode => raw, local_awaits_input => true}
    end,
    megaphone_ejabberd_listener:serve(?MODULE, ListenSocket, Handlers, maps:merge(Common, Mode)).

%% The bytes of a TLS connection say nothing about requests before they are decrypted, which its process does. What an
%% unknown option does nobody can say.
raw_options(Options) ->
    [tls || proplists:get_bool(tls, Options)] ++ megaphone_ejabberd_versions:unknown_options(?MODULE, Options).

warn(Names, ListenSocket) ->
    ?WARNING_MSG("megaphone_http does not know ~p yet: connections at ~ts are served by ejabberd_http, with its processes and "
                 "memory, WebSocket and BOSH too; have a proxy do TLS and remove these options",
                 [Names, megaphone_ejabberd_listener:address(ListenSocket)]).

%% What ejabberd_http_ws passes on to a session.
session_options(SendTimeout, Options) ->
    Names = megaphone_ejabberd_versions:session_option_names(),
    [{send_timeout, SendTimeout} | [Option || {Name, _} = Option <- Options, lists:member(Name, Names)]].

http_options(Options) ->
    lists:foldl(fun({Name, _}, Rest) -> proplists:delete(Name, Rest) end, Options, own_options()).

common_options(Options) ->
    Own = [{Name, proplists:get_value(Name, Options, Default)} || {Name, Default} <- library_options()],
    (maps:from_list(Own))#{
        delivery => binary,
        send_timeout => proplists:get_value(send_timeout, Options),
        send_timeout_close => true,
        proxy_protocol => megaphone_ejabberd_listener:proxy_protocol(Options)
    }.

http_mode(Options) ->
    #{mode => http,
      zero_ends_request => true,
      routes => routes(proplists:get_value(request_handlers, Options, [])),
      response_headers => header_lines(proplists:get_value(custom_headers, Options, []))}.

header_lines(Headers) ->
    iolist_to_binary([[Name, ": ", Value, "\r\n"] || {Name, Value} <- Headers]).

%% --- routes

%% The paths that the library answers for: those of the two XMPP handlers, where ejabberd_http would give exactly that
%% path to them. Paths below these stay with ejabberd_http.
routes(RequestHandlers) -> routes(RequestHandlers, []).

routes([], _Before) ->
    [];
routes([Handler | Handlers], Before) ->
    Path = element(1, Handler),
    %% ejabberd_http takes the first handler whose path begins the request's.
    IsHidden = lists:any(fun(Earlier) -> lists:prefix(Earlier, Path) end, Before),
    [{path(Path), Kind} || Kind <- kind(Handler), not IsHidden] ++ routes(Handlers, [Path | Before]).

kind({_, ejabberd_http_ws}) -> [websocket];
kind({_, mod_bosh}) -> [bosh];
kind(_) -> [].

path([]) -> <<"/">>;
path(Segments) -> iolist_to_binary([[$/, Segment] || Segment <- Segments]).

%% --- processes

%% Starts the process for one request, and those that follow within handler_linger.
-spec start_handler(megaphone:socket(), [proplists:property()]) -> {ok, pid()}.
start_handler(Socket, Options) -> ejabberd_http:start(gen_tcp, Socket, Options).

%% Starts the c2s of a session over WebSocket or BOSH, with the options that ejabberd_http_ws and ejabberd_bosh give.
-spec start_session(megaphone_xmpp_socket:socket(), megaphone_c2s_loop:idle_options(), [proplists:property()]) ->
    {ok, pid()} | ignore.
start_session({Transport, _} = Socket, Idle, ListenerOptions) ->
    case megaphone_nif:xmpp_facts(Socket) of
        {ok, Facts} ->
            case {is_served(Transport), client_options(Facts)} of
                {true, {ok, Client}} ->
                    megaphone_c2s_loop:start(Socket, Client ++ transport_options(Transport, ListenerOptions), Idle);
                {true, {error, Why}} ->
                    refuse(Socket, Facts, Why);
                {false, _} ->
                    not_served(Socket)
            end;
        {error, _} ->
            ignore  % the client has left
    end.

%% What a BOSH client doesn't fetch ends with its session's inactivity. A session is not found by its connection there, so
%% the options of a listener are none of its own.
transport_options(http_bind, _ListenerOptions) -> [{xml_socket, true} | megaphone_ejabberd:c2s_limits()];
transport_options(websocket, ListenerOptions) -> megaphone_ejabberd:c2s_limits() ++ ListenerOptions.

%% gen_mod:stop_module/2 tells nobody that mod_bosh has gone from a host.
is_served(http_bind) -> megaphone_ejabberd:are_bosh_hosts_known();
is_served(websocket) -> true.

%% The next request is the library's or mod_bosh's, as it should be.
not_served(Socket) ->
    ok = megaphone_ejabberd:configure(),
    _ = megaphone_nif:xmpp_abort(Socket),
    ignore.

%% ejabberd_http drops such a request, too: the proxy is trusted, and doesn't say who the client is.
refuse(Socket, #{peer := Peer}, Why) ->
    ?INFO_MSG("Closing a connection from ~ts whose header X-Forwarded-For is no address: ~tp",
              [megaphone_ejabberd_listener:endpoint(Peer), ejabberd_config:may_hide_data(Why)]),
    _ = megaphone_nif:xmpp_abort(Socket),
    ignore.

%% Who the session's client is where that is not the connection's peer, by ejabberd_http's rules: the first address of
%% X-Forwarded-For, if all behind it and the peer are trusted_proxies.
client_options(#{forwarded_for := ForwardedFor, peer := {Ip, Port}, local := Local})
  when ForwardedFor =/= <<>>, is_tuple(Ip) ->
    %% By bytes: nobody has checked yet that they are text.
    [Client | Proxies] = binary:split(ForwardedFor, [<<",">>, <<" ">>], [global, trim_all]) ++ [misc:ip_to_list(Ip)],
    case Proxies =/= [] andalso lists:all(trust(ejabberd_option:trusted_proxies()), Proxies) of
        true ->
            case inet:parse_address(binary_to_list(Client)) of
                {ok, ClientIp} -> {ok, [{sock_peer_name, {Local, {ClientIp, Port}}}]};
                {error, einval} -> {error, Client}
            end;
        false ->
            {ok, []}
    end;
client_options(_Facts) ->
    {ok, []}.

trust(all) ->
    fun(_Address) -> true end;
trust(Masks) ->
    fun(Address) ->
        case inet:parse_address(binary_to_list(Address)) of
            {ok, Ip} -> lists:any(fun({Mask, Length}) -> misc:match_ip_mask(Ip, Mask, Length) end, Masks);
            {error, einval} -> false
        end
    end.
