%% What the listener modules megaphone_http and megaphone_c2s have in common: they keep the process and the listening
%% socket that ejabberd gave them, and accept on a copy of the descriptor.
-module(megaphone_ejabberd_listener).

-export([start_megaphone/0, serve/4, unknown_options/1, address/1, endpoint/1]).
-export([proxy_options/0, proxy_opt_type/1, without_proxy_options/1, proxy_protocol/1]).

-export_type([proxy_option/0]).

%% ejabberd's.
-include("logger.hrl").

%% To be called from listen_options/0: the first that ejabberd asks of a listener module, while it reads its
%% configuration. What starts before ejabberd is stopped after it: then ejabberd can still say goodbye to its users. An
%% error is told by serve/4.
-spec start_megaphone() -> ok.
start_megaphone() ->
    _ = application:ensure_all_started(megaphone),
    ok.

%% Those of the given options that only ejabberd's own accept loop knows. That one would believe any peer, so it is not used
%% where the proxies are named.
-spec unknown_options([proplists:property()]) -> [atom()].
unknown_options(Options) ->
    Unknown = [Option || Option <- [accept_interval], proplists:is_defined(Option, Options)],
    case is_list(proxy_protocol(Options)) of
        true when Unknown =/= [] ->
            ?WARNING_MSG("~p is ignored on a listener with proxy_protocol_trusted", [Unknown]),
            [];
        _ ->
            Unknown
    end.

%% --- the PROXY protocol

%% What belongs to ejabberd's own use_proxy_protocol.
-type proxy_option() :: proxy_protocol_trusted.

%% Those of listen_options/0, with defaults.
-spec proxy_options() -> [{proxy_option(), all}].
proxy_options() -> [{proxy_protocol_trusted, all}].

%% As ejabberd's trusted_proxies.
-spec proxy_opt_type(proxy_option()) -> econf:validator().
proxy_opt_type(proxy_protocol_trusted) -> econf:either(all, econf:list(econf:ip_mask())).

%% For ejabberd's own modules, which don't know them.
-spec without_proxy_options([proplists:property()]) -> [proplists:property()].
without_proxy_options(Options) -> proplists:delete(proxy_protocol_trusted, Options).

%% What the library is told.
-spec proxy_protocol([proplists:property()]) -> boolean() | [{inet:ip_address(), 0..128}].
proxy_protocol(Options) ->
    case {proplists:get_bool(use_proxy_protocol, Options), proplists:get_value(proxy_protocol_trusted, Options, all)} of
        {false, _} -> false;
        {true, all} -> true;
        {true, Networks} -> Networks
    end.

%% --- the process of a listener

%% Accepts on the listening socket for as long as the calling process lives. Handlers and Options as for
%% megaphone_listener:take_over/4.
-spec serve(module(), gen_tcp:socket(), megaphone_listener:handlers(), megaphone_nif:listen_options()) ->
    no_return().
serve(Module, ListenSocket, Handlers, Options) ->
    ok = ensure_megaphone(Module, ListenSocket),
    ok = megaphone_ejabberd:listener_started(),
    Registry = monitor(process, megaphone_listener),
    case megaphone_listener:take_over(ListenSocket, self(), Handlers, Options) of
        {ok, _Listener} -> wait(Module, Registry);
        {error, Reason} -> give_up(Module, ListenSocket, io_lib:format("cannot accept connections: ~tp", [Reason]))
    end.

%% A listener that can't be served closes its port, where clients would otherwise connect and wait. It doesn't take
%% ejabberd's other listeners down by failing again and again.
ensure_megaphone(Module, ListenSocket) ->
    case application:ensure_all_started(megaphone) of
        {ok, _} ->
            ok;
        {error, {megaphone, {{cannot_load, File, Why, Fix}, _}}} ->
            Text = io_lib:format("cannot load ~ts (~ts): ~ts and restart ejabberd", [File, Why, Fix]),
            give_up(Module, ListenSocket, Text);
        {error, Reason} ->
            give_up(Module, ListenSocket, io_lib:format("cannot start Megaphone: ~tp", [Reason]))
    end.

-spec give_up(module(), gen_tcp:socket(), iodata()) -> no_return().
give_up(Module, ListenSocket, Why) ->
    ?CRITICAL_MSG("The listener ~s at ~ts stops, it ~ts", [Module, address(ListenSocket), Why]),
    exit({shutdown, megaphone_not_available}).

%% As long as this process lives, the listener accepts. ejabberd ends it on a reload or a stop.
-spec wait(module(), reference()) -> no_return().
wait(Module, Registry) ->
    receive
        {rate_limit, Limit} ->
            %% ejabberd's other listener modules pause between two connections. That would only fill the backlog.
            ?WARNING_MSG("~s ignores the rate limit ~tp", [Module, Limit]),
            wait(Module, Registry);
        {'DOWN', Registry, process, _, shutdown} ->
            ?WARNING_MSG("The application megaphone has been stopped: its listeners are closed", []),
            exit({shutdown, megaphone_stopped});
        {'DOWN', Registry, process, _, Reason} ->
            %% ejabberd starts the listener again.
            exit({megaphone_listener, Reason});
        Other ->
            ?WARNING_MSG("~s got an unexpected message: ~tp", [Module, Other]),
            wait(Module, Registry)
    end.

%% Where a listening socket listens, for the log.
-spec address(gen_tcp:socket()) -> iolist().
address(Socket) ->
    case inet:sockname(Socket) of
        {ok, Name} -> endpoint(Name);
        {error, Reason} -> atom_to_list(Reason)
    end.

%% An address as ejabberd_listener writes it.
-spec endpoint({inet:ip_address(), inet:port_number()} | inet:local_address()) -> iolist().
endpoint({local, Path}) -> ["unix:", Path];
endpoint({Ip, Port}) when tuple_size(Ip) =:= 8 -> [$[, inet:ntoa(Ip), "]:", integer_to_list(Port)];
endpoint({Ip, Port}) -> [inet:ntoa(Ip), $:, integer_to_list(Port)].
