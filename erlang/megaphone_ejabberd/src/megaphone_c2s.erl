%% A listener module of ejabberd: the same as ejabberd_c2s, but the streams are framed by the native library, and an
%% idle session is one hibernating process.
%%
%% A c2s starts when a valid stream header is there. Connections with TLS or compression are served by ejabberd_c2s on
%% Megaphone's sockets.
-module(megaphone_c2s).
-behaviour(ejabberd_listener).

-export([start/3, start_link/3, accept/1, tcp_init/2, listen_options/0, listen_opt_type/1]).
%% Called by starters.
-export([start_session/2, start_stock/2]).
%% For the other transports.
-export([idle_defaults/0, idle_options/1]).

%% ejabberd's.
-include("logger.hrl").

%% How long a session is idle before it hibernates, in milliseconds.
-define(HIBERNATE_AFTER, 1000).

%% The largest state that packs, in bytes, unless the listener says otherwise; the library takes none that is larger.
-define(PACK, 16384).

%% How long a session that was woken earlier than that sleeps before it packs, in milliseconds: longer than a minute, so that a
%% message a minute costs no more than on stock.
-define(PACK_AFTER, 120000).

%% What a connection manager asks for, unless the listener says otherwise.
-define(ECM_NAME, <<"c2s">>).

%% --- for ejabberd's own accept loop, which runs where tcp_init/2 has left the socket to it

-spec start(gen_tcp, gen_tcp:socket(), [proplists:property()]) -> {ok, pid()} | {error, term()} | ignore.
start(SockMod, Socket, Options) -> ejabberd_c2s:start(SockMod, Socket, Options).

-spec start_link(gen_tcp, gen_tcp:socket(), [proplists:property()]) -> {ok, pid()} | {error, term()} | ignore.
start_link(SockMod, Socket, Options) -> ejabberd_c2s:start_link(SockMod, Socket, Options).

-spec accept(pid()) -> term().
accept(Pid) -> ejabberd_c2s:accept(Pid).

%% --- options

%% Those of ejabberd_c2s, proxy_protocol_trusted, hibernate_after, pack and pack_after: see docs/options.md for what they mean and
%% cost.
-spec listen_options() -> [{atom(), term()} | atom()].
listen_options() -> own_options() ++ ejabberd_c2s:listen_options().

own_options() ->
    idle_defaults() ++ megaphone_ejabberd_listener:proxy_options() ++ megaphone_ecm:name_options(?ECM_NAME).

-spec listen_opt_type(atom()) -> econf:validator().
listen_opt_type(hibernate_after) -> econf:timeout(millisecond, infinity);
listen_opt_type(pack) -> econf:either(econf:bool(), econf:pos_int());
listen_opt_type(pack_after) -> econf:timeout(millisecond);
listen_opt_type(proxy_protocol_trusted = Name) -> megaphone_ejabberd_listener:proxy_opt_type(Name);
listen_opt_type(ecm_name) -> megaphone_ecm:name_opt_type();
listen_opt_type(Name) -> ejabberd_c2s:listen_opt_type(Name).

-spec idle_defaults() -> [{atom(), term()}].
idle_defaults() -> [{hibernate_after, ?HIBERNATE_AFTER}, {pack, true}, {pack_after, ?PACK_AFTER}].

%% ejabberd doesn't pass defaults on.
-spec idle_options([proplists:property()]) -> megaphone_c2s_loop:idle_options().
idle_options(Options) ->
    #{hibernate_after => proplists:get_value(hibernate_after, Options, ?HIBERNATE_AFTER),
      pack => largest(proplists:get_value(pack, Options, true)),
      pack_after => proplists:get_value(pack_after, Options, ?PACK_AFTER)}.

largest(true) -> ?PACK;
largest(false) -> 0;
largest(Size) -> Size.

%% --- the listener

%% Doesn't return but for a listener with an option that only ejabberd's own accept loop knows; that one is served by
%% ejabberd_c2s on sockets of OTP's.
-spec tcp_init(gen_tcp:socket(), [proplists:property()]) -> [proplists:property()].
tcp_init(ListenSocket, Options) ->
    SendTimeout = {send_timeout, megaphone_ejabberd_versions:send_timeout(ListenSocket, Options)},
    case {megaphone_ejabberd_listener:unknown_options(Options), stream_options(Options)} of
        {[], []} ->
            Handlers = #{xmpp_handler => {start, ?MODULE, start_session, [[SendTimeout | Options]]}},
            NifOptions = #{mode => xmpp,
                           max_stanza => megaphone_ejabberd:max_stanza(Options),
                           proxy_protocol => megaphone_ejabberd_listener:proxy_protocol(Options)},
            serve(ListenSocket, Handlers, NifOptions, Options);
        {[], Stream} ->
            warn(Stream, ListenSocket),
            Handlers = #{handler => {start, ?MODULE, start_stock, [stock_options(Options)]}},
            serve(ListenSocket, Handlers, raw_options([SendTimeout | Options]), Options);
        {Unknown, _} ->
            warn(Unknown, ListenSocket),
            stock_options(Options)
    end.

serve(ListenSocket, Handlers, NifOptions, Options) ->
    Named = maps:merge(NifOptions, megaphone_ecm:name(?ECM_NAME, Options)),
    megaphone_ejabberd_listener:serve(?MODULE, ListenSocket, Handlers, Named).

%% Options that turn the stream into one that the library can't read, or that may do so.
stream_options(Options) ->
    [Name || Name <- [tls, starttls, starttls_required, tls_verify, zlib], proplists:get_bool(Name, Options)]
        ++ megaphone_ejabberd_versions:unknown_options(?MODULE, Options).

warn(Names, ListenSocket) ->
    ?WARNING_MSG("megaphone_c2s does not know ~p yet: connections at ~ts are served by ejabberd_c2s, with its memory; "
                 "where a proxy does TLS, remove these options",
                 [Names, megaphone_ejabberd_listener:address(ListenSocket)]).

%% For ejabberd_c2s, which doesn't know ours.
stock_options(Options) ->
    lists:foldl(fun({Name, _}, Rest) -> proplists:delete(Name, Rest) end, Options, own_options()).

raw_options(Options) ->
    #{mode => raw,
      delivery => binary,
      send_timeout => proplists:get_value(send_timeout, Options),
      send_timeout_close => true,
      proxy_protocol => megaphone_ejabberd_listener:proxy_protocol(Options),
      %% A proxy's health check is no connection for the log.
      local_awaits_input => true}.

%% --- sessions

%% Starts the c2s of a connection with a valid stream header.
-spec start_session(megaphone_xmpp_socket:socket(), [proplists:property()]) -> {ok, pid()} | ignore.
start_session(Socket, Options) ->
    case megaphone_nif:xmpp_facts(Socket) of
        {ok, #{peer := Peer, local := Local}} ->
            log_accepted(megaphone_c2s_loop:start(Socket, stock_options(Options), idle_options(Options)), Peer, Local);
        {error, _} ->
            ignore  % the client has left; one that has reset the connection has no address any more
    end.

%% Starts a stock c2s on a Megaphone socket.
-spec start_stock(megaphone:socket(), [proplists:property()]) -> {ok, pid()} | {error, term()} | ignore.
start_stock({'$inet', megaphone_socket, Conn} = Socket, Options) ->
    case ejabberd_c2s:start(gen_tcp, Socket, Options) of
        {ok, Pid} ->
            %% The owner before it is active. Closed: it finds out itself.
            _ = megaphone_nif:handler_started(Conn, Pid),
            ok = ejabberd_c2s:accept(Pid),
            case {inet:peername(Socket), inet:sockname(Socket)} of
                {{ok, Peer}, {ok, Local}} -> log_accepted({ok, Pid}, Peer, Local);
                _ -> {ok, Pid}
            end;
        NotStarted ->
            NotStarted
    end.

%% As ejabberd_listener does.
log_accepted({ok, Pid}, Peer, Local) ->
    ?INFO_MSG("(~p) Accepted connection ~ts -> ~ts",
              [Pid, ejabberd_config:may_hide_data(megaphone_ejabberd_listener:endpoint(Peer)),
               megaphone_ejabberd_listener:endpoint(Local)]),
    {ok, Pid}.
