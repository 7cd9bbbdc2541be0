%% The registry of listeners: which handler belongs to which, and what a reader wants to know about them.
%%
%% An entry stays for as long as the listener has connections, though it may have stopped accepting: their next
%% requests need its handler. The process owns the listeners of megaphone:start_listener/3; others end with the process
%% that they were made for.
-module(megaphone_listener).
-behaviour(gen_server).

-export([start_link/0, open/3, open_for_accept/2, take_over/4, close/1]).
-export([handler/1, xmpp_handler/1, accepted_options/1, sockname/1, all/0]).
-export([starter_started/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([handlers/0]).

-include_lib("kernel/include/logger.hrl").

%% What the table has beside a listener's number: mode, owner, starter, sockname (undefined where only a descriptor was
%% given), and either handlers or, in mode accept, the options for accepted connections.

%% Who handles connections that have a request or are raw, and who XMPP sessions.
-type handlers() :: #{handler => megaphone_starter:handler(), xmpp_handler => megaphone_starter:xmpp_handler()}.

%% How many listeners have been given a starter.
-type state() :: non_neg_integer().

%% How often entries without connections are looked for.
-define(SWEEP_INTERVAL, 60000).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Opens a port, or copies a socket or a descriptor, for the registry's own keeping.
-spec open(megaphone:place(), megaphone_starter:handler(), megaphone:options()) ->
    {ok, megaphone:listener()} | {error, term()}.
open(Place, Handler, Options) ->
    {SocketOptions, ListenOptions} = case maps:take(socket, Options) of
        error -> {[], Options};
        Taken -> Taken
    end,
    %% A listener that is started again finds connections of its predecessor.
    with_socket(Place, [{reuseaddr, true} | SocketOptions], fun(Fd, SockName) ->
        call_listen(Fd, whereis(?MODULE), ListenOptions, #{handler => Handler, sockname => SockName})
    end).

%% Opens a port for megaphone_socket:accept/2. Its owner is the caller.
-spec open_for_accept(inet:port_number(), [gen_tcp:listen_option()]) ->
    {ok, megaphone:listener()} | {error, term()}.
open_for_accept(Port, SocketOptions) ->
    Accepted = [Option || Option <- SocketOptions, is_inherited(Option)],
    case megaphone_socket_options:settings(Accepted) of
        {ok, _} ->
            with_socket(Port, SocketOptions, fun(Fd, SockName) ->
                call_listen(Fd, self(), #{mode => accept}, #{accepted_options => Accepted, sockname => SockName})
            end);
        error ->
            {error, einval}
    end.

%% Accepts on a listening socket that Owner keeps open, until Owner ends.
-spec take_over(gen_tcp:socket(), Owner :: pid(), handlers(), megaphone_nif:listen_options()) ->
    {ok, megaphone:listener()} | {error, term()}.
take_over(Socket, Owner, Handlers, Options) ->
    with_socket(Socket, [], fun(Fd, SockName) -> call_listen(Fd, Owner, Options, Handlers#{sockname => SockName}) end).

-spec close(megaphone:listener()) -> ok | {error, closed}.
close(Listener) -> megaphone_nif:close_listener(Listener).

%% The handler of a listener that accepts or has connections.
-spec handler(megaphone:listener()) -> {ok, megaphone_starter:handler()} | error.
handler(Listener) -> find_handler(handler, Listener).

%% The same for XMPP sessions.
-spec xmpp_handler(megaphone:listener()) -> {ok, megaphone_starter:xmpp_handler()} | error.
xmpp_handler(Listener) -> find_handler(xmpp_handler, Listener).

find_handler(Kind, Listener) ->
    case ets:lookup(?MODULE, Listener) of
        [{_, #{Kind := Handler}}] -> {ok, Handler};
        [{_, #{}}] -> error;
        [] ->
            %% A connection can come before the call that makes its listener has returned to the registry, which
            %% answers this only after it.
            gen_server:call(?MODULE, {handler, Kind, Listener})
    end.

%% What gen_tcp:accept has to set on a connection of this listener.
-spec accepted_options(megaphone:listener()) -> [gen_tcp:option()].
accepted_options(Listener) -> fact(accepted_options, Listener, []).

-spec sockname(megaphone:listener()) ->
    {ok, {inet:ip_address(), inet:port_number()} | inet:local_address()} | {error, closed}.
sockname(Listener) ->
    case {is_open(Listener), fact(sockname, Listener, undefined)} of
        {true, SockName} when SockName =/= undefined -> {ok, SockName};
        _ -> {error, closed}
    end.

-spec all() -> [#{id := megaphone:listener(), connections := non_neg_integer(), _ => _}].
all() ->
    [maps:merge(Facts#{id => Listener}, Info)
     || {Listener, Facts} <- lists:sort(ets:tab2list(?MODULE)),
        #{connections := Connections, is_open := IsOpen} = Info <- [megaphone_nif:listener_info(Listener)],
        IsOpen orelse Connections > 0].

%% Tells the registry who starts the handlers of listeners that have the N-th starter.
-spec starter_started(pos_integer(), pid()) -> ok.
starter_started(N, Pid) -> gen_server:cast(?MODULE, {starter_started, N, Pid}).

fact(Name, Listener, Default) ->
    case ets:lookup(?MODULE, Listener) of
        [{_, Facts}] -> maps:get(Name, Facts, Default);
        [] -> Default
    end.

is_open(Listener) ->
    case megaphone_nif:listener_info(Listener) of
        #{is_open := IsOpen} -> IsOpen;
        {error, closed} -> false
    end.

%% --- sockets

%% Calls Use with a listening descriptor, which it copies, and the address.
with_socket(Port, SocketOptions, Use) when is_integer(Port) ->
    case gen_tcp:listen(Port, SocketOptions) of
        {ok, Socket} ->
            try with_socket(Socket, [], Use)
            after ok = gen_tcp:close(Socket)
            end;
        {error, _} = Error ->
            Error
    end;
with_socket({fd, Fd}, _SocketOptions, Use) ->
    Use(Fd, undefined);
with_socket(Socket, _SocketOptions, Use) ->
    case {inet:getfd(Socket), inet:sockname(Socket)} of
        {{ok, Fd}, {ok, SockName}} -> Use(Fd, SockName);
        {{error, _} = Error, _} -> Error;
        {_, {error, _} = Error} -> Error
    end.

call_listen(Fd, Owner, Options, Facts) ->
    gen_server:call(?MODULE, {listen, Fd, Owner, Options, Facts}, infinity).

%% Options of a listening socket that say something about its connections.
is_inherited({Name, _}) ->
    lists:member(Name, [mode, active, packet, packet_size, line_length, buffer, send_timeout, send_timeout_close,
                        high_watermark, low_watermark, exit_on_close, show_econnreset, nodelay, keepalive, recbuf,
                        sndbuf, linger, tos]);
is_inherited(Option) ->
    Option =:= binary orelse Option =:= list.

%% --- the process

-spec init([]) -> {ok, state()}.
init([]) ->
    %% Start messages of connections that a predecessor's listeners have accepted find no entry: they are closed.
    ?MODULE = ets:new(?MODULE, [named_table, protected, {read_concurrency, true}]),
    _ = erlang:send_after(?SWEEP_INTERVAL, self(), sweep),
    {ok, 0}.

-spec handle_call(term(), gen_server:from(), state()) -> {reply, term(), state()}.
handle_call({listen, Fd, Owner, Options, Facts}, _From, Turn) ->
    Starter = live_starter(Turn),
    Reply = listen(Fd, Owner, Options#{starter => megaphone_starter:pid(Starter)}, Facts#{starter => Starter}),
    {reply, Reply, Turn + 1};
handle_call({handler, Kind, Listener}, _From, Turn) ->
    Reply = case ets:lookup(?MODULE, Listener) of
        [{_, #{Kind := Handler}}] -> {ok, Handler};
        _ -> error
    end,
    {reply, Reply, Turn}.

%% The next one that is not just being restarted.
live_starter(Turn) ->
    Count = megaphone_starter:count(),
    Numbers = [1 + (Turn + N) rem Count || N <- lists:seq(0, Count - 1)],
    hd([N || N <- Numbers, megaphone_starter:pid(N) =/= undefined] ++ Numbers).

%% A listener that has closed meanwhile, and has no connections, needs no starter.
-spec handle_cast({starter_started, pos_integer(), pid()}, state()) -> {noreply, state()}.
handle_cast({starter_started, N, Pid}, Turn) ->
    Listeners = [Listener || {Listener, #{starter := Starter}} <- ets:tab2list(?MODULE), Starter =:= N],
    lists:foreach(fun(Listener) -> megaphone_nif:set_starter(Listener, Pid) end, Listeners),
    {noreply, Turn}.

-spec handle_info(term(), state()) -> {noreply, state()}.
handle_info(sweep, Turn) ->
    lists:foreach(fun sweep/1, ets:tab2list(?MODULE)),
    _ = erlang:send_after(?SWEEP_INTERVAL, self(), sweep),
    {noreply, Turn};
handle_info(Message, Turn) ->
    ?LOG_WARNING("megaphone_listener got an unexpected message: ~tp", [Message]),
    {noreply, Turn}.

listen(Fd, Owner, Options, Facts) ->
    try megaphone_nif:listen(Fd, Owner, Options) of
        {ok, Listener} ->
            true = ets:insert_new(?MODULE, {Listener, Facts#{owner => Owner, mode => maps:get(mode, Options)}}),
            {ok, Listener};
        {error, _} = Error ->
            Error
    catch
        error:badarg -> {error, badarg}
    end.

sweep({Listener, _}) ->
    case megaphone_nif:listener_info(Listener) of
        #{is_open := IsOpen, connections := Connections} when IsOpen; Connections > 0 -> ok;
        _ -> ets:delete(?MODULE, Listener)
    end.
