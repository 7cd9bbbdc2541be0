%% Where versions of ejabberd differ, from 23.01 to 26.07. Everything else in this application is the same for all of them.
%%
%% A difference is found by what is there, a function or an option, and not by a number, where that can be: distributions
%% carry changes back.
-module(megaphone_ejabberd_versions).

-export([warn_if_untested/0, parse/1]).
-export([send_timeout/2, limit_names/0, session_option_names/0, unknown_options/2]).

%% ejabberd's.
-include("logger.hrl").

-type version() :: {Year :: non_neg_integer(), Month :: non_neg_integer()}.

-define(OLDEST, {23, 1}).
-define(NEWEST, {26, 7}).

%% --- which one runs

%% Says once in the log of a node that nobody has tried this ejabberd.
-spec warn_if_untested() -> ok.
warn_if_untested() ->
    case persistent_term:get(?MODULE, undefined) of
        undefined ->
            ok = persistent_term:put(?MODULE, warned),
            warn(running());
        warned ->
            ok
    end.

warn({ok, Version, Text}) when Version < ?OLDEST; Version > ?NEWEST ->
    ?WARNING_MSG("Megaphone has been tested with ejabberd 23.01 to 26.07 and not with ~ts; should it misbehave, go back to "
                 "ejabberd_c2s and ejabberd_http by the module lines of your listeners, and report it", [Text]);
warn(_) ->
    ok.

%% As the application says: ejabberd's option `version' is what its owner wants others to see.
running() ->
    case application:get_key(ejabberd, vsn) of
        {ok, Text} ->
            case parse(Text) of
                {ok, Version} -> {ok, Version, Text};
                error -> error
            end;
        undefined ->
            error
    end.

%% "24.12-3+deb13u2" is {24, 12}.
-spec parse(string()) -> {ok, version()} | error.
parse(Text) ->
    case re:run(Text, "^(\\d+)\\.(\\d+)", [{capture, all_but_first, list}]) of
        {match, [Year, Month]} -> {ok, {list_to_integer(Year), list_to_integer(Month)}};
        nomatch -> error
    end.

%% --- how long a peer may take nothing

%% In milliseconds. From 25.10 on ejabberd sets it on the listening socket, 15 seconds by default, and removes it from the
%% module's options. Until then it does nothing with the option: without it there is no time-out, with it there is the one
%% that the administrator wants.
-spec send_timeout(gen_tcp:socket(), [proplists:property()]) -> timeout().
send_timeout(ListenSocket, Options) ->
    case proplists:get_value(send_timeout, Options) of
        undefined ->
            case inet:getopts(ListenSocket, [send_timeout]) of
                {ok, [{send_timeout, Timeout}]} -> Timeout;
                _ -> infinity
            end;
        Timeout ->
            Timeout
    end.

%% --- options of a session

%% What sessions over WebSocket and BOSH take from the first c2s listener, as in ejabberd_c2s_config; the last three are
%% there from 26.04 on.
-spec limit_names() -> [atom()].
limit_names() ->
    [access, shaper, max_stanza_size, max_stanza_elements, pre_auth_max_stanza_size, pre_auth_max_stanza_elements].

%% What ejabberd_http_ws passes on of its listener's options. allow_unencrypted_sasl2 is there from 24.12 on.
-spec session_option_names() -> [atom()].
session_option_names() ->
    [stream_management, max_ack_queue, ack_timeout, resume_timeout, allow_unencrypted_sasl2, max_resume_timeout,
     resend_on_timeout, access].

%% --- options of a listener

%% Those that the library can't do, or that nobody knew when this was written. Before the login it has bounds of its own,
%% whatever pre_auth_* say. max_stanza_elements, from 26.04 on, it can't do.
-spec unknown_options(megaphone_c2s | megaphone_http, [proplists:property()]) -> [atom()].
unknown_options(Module, Options) -> proplists:get_keys(Options) -- (common_options() ++ known_options(Module)).

%% The second line is of TLS, where tls and starttls decide.
common_options() ->
    [module, port, transport, ip, unix_socket, backlog, supervisor, send_timeout, use_proxy_protocol, accept_interval,
     tls, certfile, ciphers, dhfile, cafile, protocol_options, tls_compression,
     allow_unencrypted_sasl2, hibernate_after, pack, pack_after, proxy_protocol_trusted, ecm_name].

known_options(megaphone_c2s) ->
    [access, shaper, max_stanza_size, max_fsm_queue, starttls, starttls_required, tls_verify, zlib,
     pre_auth_max_stanza_size, pre_auth_max_stanza_elements];
known_options(megaphone_http) ->
    [request_handlers, tag, default_host, custom_headers,
     max_head, head_timeout, idle_timeout, handler_linger, recv_high_watermark].
