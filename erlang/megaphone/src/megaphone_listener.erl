%% A listener's process: it keeps the listener's entry in the table, and sees to its end. What is asked about listeners
%% and needs no process is here, too.
%%
%% A listener that no longer accepts lives on while it has connections: their next requests need its handler.
-module(megaphone_listener).
-behaviour(gen_server).

-export([start_link/2, open_for_accept/2, listen/4, place_name/1, close/1, drain/2]).
-export([accepted_options/1, sockname/1, is_open/1, all/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([handlers/0]).

-include_lib("kernel/include/logger.hrl").

%% Who handles connections that have a request or are raw, and who XMPP sessions.
-type handlers() :: #{handler => megaphone_starter:handler(), xmpp_handler => megaphone_starter:xmpp_handler()}.

-type state() :: #{
    listeners := [megaphone:listener()],
    facts := megaphone_registry:facts(),
    timer := reference(),
    drains := [{gen_server:from(), Deadline :: integer()}]  % who waits for the end, and when what is left is closed
}.

%% How often the process looks whether its listener is still open, and whether a closed one has connections left, in
%% milliseconds.
-define(OPEN_INTERVAL, 1000).
-define(CLOSED_INTERVAL, 100).

%% --- native listeners

%% Opens a port for megaphone_socket:accept/2. Its owner is the caller.
-spec open_for_accept(inet:port_number(), [gen_tcp:listen_option()]) ->
    {ok, megaphone:listener()} | {error, term()}.
open_for_accept(Port, SocketOptions) ->
    Accepted = [Option || Option <- SocketOptions, is_inherited(Option)],
    case megaphone_socket_options:settings(Accepted) of
        {ok, _} -> enter(listen_as_told(Port, SocketOptions, self(), #{mode => accept}), Accepted);
        error -> {error, einval}
    end.

enter({ok, Listener, SockName}, Accepted) ->
    Facts = #{mode => accept, owner => self(), accepted_options => Accepted, sockname => SockName},
    true = megaphone_registry:insert(Listener, Facts),
    {ok, Listener};
enter({error, _} = Error, _Accepted) ->
    Error.

%% Accepts at a port, or on a copy of a socket's descriptor, until Owner ends. A listener that is started again finds
%% connections of its predecessor: the address may be used all the same.
-spec listen(megaphone:place(), [gen_tcp:listen_option()], Owner :: pid(), megaphone_nif:listen_options()) ->
    {ok, megaphone:listener(), SockName :: term()} | {error, term()}.
listen(Place, SocketOptions, Owner, Options) ->
    listen_as_told(Place, [{reuseaddr, true} | lists:keydelete(inet_backend, 1, SocketOptions)], Owner, Options).

%% Always with OTP's older backend: the other makes a socket blocking when it closes it, here as soon as it has been copied,
%% and the copy with it.
listen_as_told(Port, SocketOptions, Owner, Options) when is_integer(Port) ->
    case gen_tcp:listen(Port, [{inet_backend, inet} | SocketOptions]) of
        {ok, Socket} ->
            try listen_as_told(Socket, [], Owner, Options)
            after ok = gen_tcp:close(Socket)
            end;
        {error, _} = Error ->
            Error
    end;
listen_as_told({fd, Fd}, _SocketOptions, Owner, Options) ->
    native(Fd, undefined, Owner, Options);
listen_as_told(Socket, _SocketOptions, Owner, Options) ->
    case {descriptor(Socket), inet:sockname(Socket)} of
        {{ok, Fd}, {ok, SockName}} -> native(Fd, SockName, Owner, Options);
        {{error, _} = Error, _} -> Error;
        {_, {error, _} = Error} -> Error
    end.

%% inet:getfd/1 knows nothing of the sockets of {inet_backend, socket}, an option and a setting of a node.
descriptor({'$inet', gen_tcp_socket, {_, Socket}}) -> socket:getopt(Socket, otp, fd);
descriptor(Socket) -> inet:getfd(Socket).

native(Fd, SockName, Owner, #{mode := links} = Options) ->
    case megaphone_link_options:for_library(Options) of
        {ok, Checked} -> native_checked(Fd, SockName, Owner, Checked);
        {error, _} = Error -> Error
    end;
native(Fd, SockName, Owner, Options) ->
    native_checked(Fd, SockName, Owner, Options).

native_checked(Fd, SockName, Owner, Options) ->
    try megaphone_nif:listen(Fd, Owner, Options) of
        {ok, Listener} -> {ok, Listener, SockName};
        {error, _} = Error -> Error
    catch
        error:badarg -> {error, badarg}
    end.

%% Where a place is, as far as it says so itself.
-spec place_name(megaphone:place()) ->
    {inet:ip_address(), inet:port_number()} | inet:local_address() | undefined.
place_name(Port) when is_integer(Port) -> undefined;
place_name({fd, _}) -> undefined;
place_name(Socket) ->
    case inet:sockname(Socket) of
        {ok, SockName} -> SockName;
        {error, _} -> undefined
    end.

%% Options of a listening socket that say something about its connections.
is_inherited({Name, _}) ->
    lists:member(Name, [mode, active, packet, packet_size, line_length, buffer, send_timeout, send_timeout_close,
                        high_watermark, low_watermark, exit_on_close, show_econnreset, nodelay, keepalive, recbuf,
                        sndbuf, linger, tos]);
is_inherited(Option) ->
    Option =:= binary orelse Option =:= list.

%% Frees the port, and tells connection managers, if it is for their links, to bring no more clients.
-spec close(megaphone:listener()) -> ok | {error, closed}.
close(Listener) ->
    Mode = fact(mode, Listener),
    Closed = megaphone_nif:close_listener(Listener),
    _ = Mode =:= {ok, links} andalso megaphone_nif:links_go_away(Listener),
    Closed.

%% And closes what connections there are after so many milliseconds. Returns when none is left.
-spec drain(megaphone:listener(), timeout()) -> ok | {error, closed}.
drain(Listener, Timeout) ->
    case {process(Listener), close(Listener)} of
        {error, Result} -> Result;
        {{ok, Pid}, _} ->
            try gen_server:call(Pid, {drain, Timeout}, infinity)
            catch exit:{Reason, _} when Reason =:= noproc; Reason =:= normal; Reason =:= shutdown -> ok  % none was left
            end
    end.

process(Listener) ->
    case megaphone_registry:lookup(Listener) of
        {ok, #{process := Pid}} -> {ok, Pid};
        _ -> error
    end.

%% --- facts

%% What gen_tcp:accept has to set on a connection of this listener.
-spec accepted_options(megaphone:listener()) -> [gen_tcp:option()].
accepted_options(Listener) ->
    case fact(accepted_options, Listener) of
        {ok, Options} -> Options;
        error -> []
    end.

-spec sockname(megaphone:listener()) ->
    {ok, {inet:ip_address(), inet:port_number()} | inet:local_address()} | {error, closed}.
sockname(Listener) ->
    case {is_open(Listener), fact(sockname, Listener)} of
        {true, {ok, SockName}} when SockName =/= undefined -> {ok, SockName};
        _ -> {error, closed}
    end.

-spec all() -> [#{id := megaphone:listener(), connections := non_neg_integer(), _ => _}].
all() ->
    [maps:merge(Facts#{id => Listener}, Info)
     || {Listener, Facts} <- megaphone_registry:all(),
        #{connections := Connections, is_open := IsOpen} = Info <- [megaphone_nif:listener_info(Listener)],
        IsOpen orelse Connections > 0].

fact(Name, Listener) ->
    case megaphone_registry:lookup(Listener) of
        {ok, #{Name := Fact}} -> {ok, Fact};
        _ -> error
    end.

%% Whether it accepts.
-spec is_open(megaphone:listener()) -> boolean().
is_open(Listener) ->
    case megaphone_nif:listener_info(Listener) of
        #{is_open := IsOpen} -> IsOpen;
        {error, closed} -> false
    end.

%% Whether it is open, or has connections that may yet need a handler.
is_needed(Listener) ->
    case megaphone_nif:listener_info(Listener) of
        #{is_open := IsOpen, connections := Connections} -> IsOpen orelse Connections > 0;
        {error, closed} -> false
    end.

%% --- the process

-spec start_link([megaphone:listener()], megaphone_registry:facts()) -> {ok, pid()} | {error, term()}.
start_link(Listeners, Facts) -> gen_server:start_link(?MODULE, {Listeners, Facts}, []).

-spec init({[megaphone:listener()], megaphone_registry:facts()}) -> {ok, state()}.
init({Listeners, Facts}) ->
    State = #{listeners => Listeners, facts => Facts#{process => self()}, drains => [],
              timer => erlang:send_after(?OPEN_INTERVAL, self(), look)},
    ok = enter_all(State),
    {ok, State}.

%% A sockname that is in the table already is that of the socket.
enter_all(#{listeners := Listeners, facts := #{sockname := Place} = Facts}) ->
    lists:foreach(
        fun(Listener) ->
            SockName = case fact(sockname, Listener) of
                {ok, Found} when Found =/= undefined -> Found;
                _ -> Place
            end,
            megaphone_registry:insert(Listener, Facts#{sockname => SockName})
        end,
        Listeners).

-spec handle_call(term(), gen_server:from(), state()) ->
    {noreply, state()} | {reply, {error, unknown_call}, state()} | {stop, normal, state()}.
handle_call({drain, Timeout}, From, #{drains := Drains} = State) ->
    look(State#{drains := [{From, deadline(Timeout)} | Drains]});
handle_call(Call, _From, State) ->
    ?LOG_WARNING("megaphone_listener got an unexpected call: ~tp", [Call]),
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), state()) -> {noreply, state()}.
handle_cast(Message, State) ->
    ?LOG_WARNING("megaphone_listener got an unexpected message: ~tp", [Message]),
    {noreply, State}.

-spec handle_info(term(), state()) -> {noreply, state()} | {stop, normal, state()}.
handle_info(look, State) ->
    look(State);
handle_info(Message, State) ->
    ?LOG_WARNING("megaphone_listener got an unexpected message: ~tp", [Message]),
    {noreply, State}.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

%% Ends when there is nothing left to do; the supervisor ends with it.
look(#{listeners := Listeners, drains := Drains, timer := Timer} = State) ->
    _ = erlang:cancel_timer(Timer),
    ok = close_overdue(Drains, State),
    {Needed, Gone} = lists:partition(fun is_needed/1, Listeners),
    _ = [megaphone_registry:delete(Listener) || Listener <- Gone],
    case Needed of
        [] ->
            _ = [gen_server:reply(From, ok) || {From, _} <- Drains],
            {stop, normal, State};
        _ ->
            %% The table may be another by now.
            ok = enter_all(State#{listeners := Needed}),
            {noreply, State#{listeners := Needed, timer := erlang:send_after(interval(Needed), self(), look)}}
    end.

interval(Listeners) ->
    case lists:any(fun is_open/1, Listeners) of
        true -> ?OPEN_INTERVAL;
        false -> ?CLOSED_INTERVAL
    end.

close_overdue([], _State) ->
    ok;
close_overdue(Drains, #{listeners := Listeners, facts := #{mode := Mode}}) ->
    Now = erlang:monotonic_time(millisecond),
    IsOverdue = lists:any(fun({_, Deadline}) -> Deadline =< Now end, Drains),  % no integer is greater than an atom
    case IsOverdue orelse Mode =:= links andalso are_links_idle(Listeners) of
        true -> lists:foreach(fun(Listener) -> close_connections(Mode, Listener) end, Listeners);
        false -> ok
    end.

close_connections(links, Listener) -> megaphone_nif:close_links(Listener);
close_connections(_Mode, Listener) -> megaphone_nif:close_connections(Listener).

%% A manager does not end a link that has no clients.
are_links_idle(Listeners) ->
    lists:all(fun(#{listener := Listener, streams := Streams}) -> Streams =:= 0 orelse not lists:member(Listener, Listeners) end,
              megaphone_nif:links()).
