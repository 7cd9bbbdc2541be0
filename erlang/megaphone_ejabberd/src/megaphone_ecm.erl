%% A listener module of ejabberd: external connection managers (docs/ecm.md) connect to it, and bring the connections of
%% their clients over links. Each client's connection becomes one of the megaphone_c2s or megaphone_http listener whose
%% ecm_name its manager asks for.
-module(megaphone_ecm).
-behaviour(ejabberd_listener).

-export([start/3, start_link/3, accept/1, tcp_init/2, listen_options/0, listen_opt_type/1]).
%% For the other listeners: the name that managers ask for.
-export([name_options/1, name_opt_type/0, name/2]).

%% ejabberd's.
-include("logger.hrl").

%% The longest name of a listener, in bytes.
-define(MOST_NAME, 128).

%% --- for ejabberd's own accept loop, to which this module never leaves a socket

-spec start(gen_tcp, gen_tcp:socket(), [proplists:property()]) -> {error, not_supported}.
start(_SockMod, _Socket, _Options) -> {error, not_supported}.

-spec start_link(gen_tcp, gen_tcp:socket(), [proplists:property()]) -> {error, not_supported}.
start_link(_SockMod, _Socket, _Options) -> {error, not_supported}.

-spec accept(pid()) -> ok.
accept(_Pid) -> ok.

%% --- options

%% With defaults: see docs/options.md for what they mean and cost. Times in milliseconds, sizes in bytes.
-spec listen_options() -> [{atom(), term()} | atom()].
listen_options() -> [secret_file | link_options()].

link_options() ->
    [{max_links, 64},
     {max_handshakes, 64},
     {max_streams, 1048576},
     {resend_bytes, 4194304},
     {unsent_bytes, 262144},
     {max_payload, 16384},
     {initial_credit, 8192},
     {resume_timeout, 30000},
     {handshake_timeout, 5000},
     {ping_interval, 10000},
     {silence_timeout, 30000},
     {ack_delay, 200}].

-spec listen_opt_type(atom()) -> econf:validator().
listen_opt_type(secret_file) -> econf:and_then(econf:file(), fun check_secret/1);
listen_opt_type(ack_delay) -> econf:timeout(millisecond);
listen_opt_type(Name) when Name =:= resume_timeout; Name =:= handshake_timeout; Name =:= ping_interval;
                           Name =:= silence_timeout ->
    econf:and_then(econf:timeout(second), within(Name));
listen_opt_type(Name) when is_map_key(Name, #{max_links => [], max_handshakes => [], max_streams => [], resend_bytes => [], unsent_bytes => [],
                                              max_payload => [], initial_credit => []}) ->
    econf:and_then(econf:non_neg_int(), within(Name)).

%% A node whose configuration is wrong does not start, and one that runs keeps the former.
check_secret(File) ->
    case megaphone_secret:read(File) of
        {ok, _} -> File;
        {error, Text} -> fail(Text)
    end.

within(Name) ->
    {Least, Most} = maps:get(Name, megaphone_link_options:bounds()),
    fun(Value) when Value >= Least, Value =< Most -> Value;
       (Value) -> fail(io_lib:format("~ts has to be from ~w to ~w, and is ~w", [Name, Least, Most, Value]))
    end.

%% The reason that ejabberd writes as it is.
-spec fail(unicode:chardata()) -> no_return().
fail(Text) -> econf:fail({invalid_syntax, Text}).

%% --- the listener

%% Doesn't return.
-spec tcp_init(gen_tcp:socket(), [proplists:property()]) -> no_return().
tcp_init(ListenSocket, Options) ->
    ok = warn_ignored(ListenSocket, Options),
    Links = [{Name, proplists:get_value(Name, Options, Default)} || {Name, Default} <- link_options()],
    Secret = {file, proplists:get_value(secret_file, Options)},
    megaphone_ejabberd_listener:serve(?MODULE, ListenSocket, #{}, maps:from_list([{mode, links}, {secret, Secret} | Links])).

%% What ejabberd offers for every listener and links have no use for.
warn_ignored(ListenSocket, Options) ->
    Ignored = [Name || Name <- [use_proxy_protocol, accept_interval], proplists:is_defined(Name, Options)],
    _ = Ignored =:= [] orelse
        ?WARNING_MSG("megaphone_ecm at ~ts ignores ~p: connection managers connect directly; remove it",
                     [megaphone_ejabberd_listener:address(ListenSocket), Ignored]),
    ok.

%% --- names of listeners

%% The option of a listener that managers may ask for, with its default.
-spec name_options(binary()) -> [{ecm_name, binary()}].
name_options(Default) -> [{ecm_name, Default}].

-spec name_opt_type() -> econf:validator().
name_opt_type() -> econf:and_then(econf:non_empty(econf:binary()), fun check_name/1).

check_name(Name) when byte_size(Name) =< ?MOST_NAME -> Name;
check_name(_Name) -> fail(io_lib:format("ecm_name has to have at most ~w bytes", [?MOST_NAME])).

%% What the library is told.
-spec name(binary(), [proplists:property()]) -> #{link_name := binary()}.
name(Default, Options) -> #{link_name => proplists:get_value(ecm_name, Options, Default)}.
