%% A listener module of ejabberd: the same as ejabberd_http, but idle connections have no process.
%%
%% ejabberd opens the listening socket and calls tcp_init/2 in a process of the listener's own. That call keeps the
%% process for as long as the listener lives; Megaphone accepts on a copy of the descriptor, and starts an
%% ejabberd_http process whenever a complete request is there.
-module(megaphone_http).
-behaviour(ejabberd_listener).

-export([start/3, start_link/3, accept/1, tcp_init/2, listen_options/0, listen_opt_type/1]).
%% Called by starters.
-export([start_handler/2]).

%% ejabberd's.
-include("logger.hrl").

%% ejabberd's default, which it doesn't pass on.
-define(SEND_TIMEOUT, 15000).

%% --- for ejabberd's own accept loop, which runs where tcp_init/2 has left the socket to it

-spec start(gen_tcp, gen_tcp:socket(), [proplists:property()]) -> {ok, pid()}.
start(SockMod, Socket, Options) -> ejabberd_http:start(SockMod, Socket, Options).

-spec start_link(gen_tcp, gen_tcp:socket(), [proplists:property()]) -> {ok, pid()}.
start_link(SockMod, Socket, Options) -> ejabberd_http:start_link(SockMod, Socket, Options).

-spec accept(pid()) -> term().
accept(Pid) -> ejabberd_http:accept(Pid).

%% --- options

%% Those of ejabberd_http and our own, with defaults: see the README for what they mean and cost.
-spec listen_options() -> [{atom(), term()} | atom()].
listen_options() ->
    %% The first that ejabberd asks of a listener module, while it reads its configuration. What starts before ejabberd
    %% is stopped after it: then ejabberd can still say goodbye to its users. An error is told by tcp_init/2.
    _ = application:ensure_all_started(megaphone),
    ejabberd_http:listen_options() ++ own_options().

%% Times in milliseconds, sizes in bytes.
own_options() ->
    [{max_head, 65536},
     {head_timeout, 30000},
     {idle_timeout, 300000},
     {handler_linger, 100},
     {recv_high_watermark, 65536}].

-spec listen_opt_type(atom()) -> econf:validator().
listen_opt_type(max_head) -> econf:pos_int();
listen_opt_type(recv_high_watermark) -> econf:pos_int();
listen_opt_type(head_timeout) -> econf:timeout(second);
listen_opt_type(idle_timeout) -> econf:timeout(second);
listen_opt_type(handler_linger) -> econf:timeout(millisecond);
listen_opt_type(Name) -> ejabberd_http:listen_opt_type(Name).

%% --- the listener

%% Doesn't return but for a listener with an option that only ejabberd's own accept loop knows; that one is served by
%% ejabberd_http, with all features and stock's memory.
-spec tcp_init(gen_tcp:socket(), [proplists:property()]) -> [proplists:property()].
tcp_init(ListenSocket, Options) ->
    case [Option || Option <- [use_proxy_protocol, accept_interval], proplists:is_defined(Option, Options)] of
        [] ->
            ok = ensure_megaphone(ListenSocket),
            serve(ListenSocket, Options);
        Unknown ->
            ?WARNING_MSG("megaphone_http does not know ~p yet: the listener at ~ts is served by ejabberd_http",
                         [Unknown, address(ListenSocket)]),
            Options
    end.

%% A listener that can't be served closes its port, where clients would otherwise connect and wait. It doesn't take
%% ejabberd's other listeners down by failing again and again.
ensure_megaphone(ListenSocket) ->
    case application:ensure_all_started(megaphone) of
        {ok, _} -> ok;
        {error, {megaphone, {{cannot_load, File, Why, Fix}, _}}} ->
            give_up(ListenSocket, io_lib:format("cannot load ~ts (~ts): ~ts and restart ejabberd", [File, Why, Fix]));
        {error, Reason} ->
            give_up(ListenSocket, io_lib:format("cannot start Megaphone: ~tp", [Reason]))
    end.

serve(ListenSocket, Options) ->
    Handler = {start, ?MODULE, start_handler, [http_options(Options)]},
    Registry = monitor(process, megaphone_listener),
    case megaphone_listener:take_over(ListenSocket, self(), Handler, megaphone_options(Options)) of
        {ok, _Listener} -> wait(Registry);
        {error, Reason} -> give_up(ListenSocket, io_lib:format("cannot accept connections: ~tp", [Reason]))
    end.

-spec give_up(gen_tcp:socket(), iodata()) -> no_return().
give_up(ListenSocket, Why) ->
    ?CRITICAL_MSG("The listener megaphone_http at ~ts stops, it ~ts", [address(ListenSocket), Why]),
    exit({shutdown, megaphone_not_available}).

%% As long as this process lives, the listener accepts. ejabberd ends it on a reload or a stop.
-spec wait(reference()) -> no_return().
wait(Registry) ->
    receive
        {rate_limit, Limit} ->
            %% ejabberd's other listener modules pause between two connections. That would only fill the backlog.
            ?WARNING_MSG("megaphone_http ignores the rate limit ~tp", [Limit]),
            wait(Registry);
        {'DOWN', Registry, process, _, shutdown} ->
            ?WARNING_MSG("The application megaphone has been stopped: its listeners are closed", []),
            exit({shutdown, megaphone_stopped});
        {'DOWN', Registry, process, _, Reason} ->
            %% ejabberd starts the listener again.
            exit({megaphone_listener, Reason});
        Other ->
            ?WARNING_MSG("megaphone_http got an unexpected message: ~tp", [Other]),
            wait(Registry)
    end.

%% Starts the process for one request, and those that follow within handler_linger.
-spec start_handler(megaphone:socket(), [proplists:property()]) -> {ok, pid()}.
start_handler(Socket, Options) -> ejabberd_http:start(gen_tcp, Socket, Options).

http_options(Options) ->
    lists:foldl(fun({Name, _}, Rest) -> proplists:delete(Name, Rest) end, Options, own_options()).

%% The bytes of a TLS connection say nothing about requests before they are decrypted, which its process does.
megaphone_options(Options) ->
    Mode = case proplists:get_bool(tls, Options) of
        true -> raw;
        false -> http
    end,
    Own = [{Name, proplists:get_value(Name, Options, Default)} || {Name, Default} <- own_options()],
    (maps:from_list(Own))#{
        mode => Mode,
        zero_ends_request => Mode =:= http,
        delivery => binary,
        send_timeout => proplists:get_value(send_timeout, Options, ?SEND_TIMEOUT),
        send_timeout_close => true
    }.

address(Socket) ->
    case inet:sockname(Socket) of
        {ok, {local, Path}} -> ["unix:", Path];
        {ok, {Ip, Port}} -> [inet:ntoa(Ip), $:, integer_to_list(Port)];
        {error, Reason} -> atom_to_list(Reason)
    end.
