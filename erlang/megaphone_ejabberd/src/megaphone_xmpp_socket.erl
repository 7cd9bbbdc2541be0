%% What xmpp_socket calls for a session whose stream is framed by the native library: a c2s on such a socket has no
%% parser and no transport process, it gets ready terms and sends terms.
%%
%% All functions but get_owner/1 are for the session's own process.
-module(megaphone_xmpp_socket).
-behaviour(xmpp_socket).

-export([open_session/1, session/0, flush/1, send_ping/1, take_unsent/0]).
%% xmpp_socket's.
-export([send_xml/2, setopts/2, get_owner/1, get_transport/1, peername/1, sockname/1, close/1, reset_stream/1,
         change_shaper/2, controlling_process/2]).

-export_type([socket/0, session/0]).

%% The tag is the transport, as ejabberd calls it. The number is that of the connection, or for http_bind that of the
%% BOSH session, whose connections come and go.
-type socket() :: megaphone_nif:xmpp_socket().

%% What a session's process knows of its socket: max_fsm_queue, and how long a peer may take nothing while something waits
%% to be sent, in milliseconds.
-type session() :: {socket(), MaxQueue :: pos_integer() | infinity, SendTimeout :: timeout()}.

%% Keys of the process dictionary.
-define(SESSION, '$megaphone_session').
-define(NEW, '$megaphone_socket_is_new').      % until xmpp_socket has made its own of this socket
-define(UNFLUSHED, '$megaphone_unflushed').    % true while something was sent and not flushed
-define(UNSENT, '$megaphone_unsent').          % elements that could not be sent, the last one first

%% How often a process that waits looks at its mailbox, and how long it waits once it has been told to stop, in
%% milliseconds.
-define(LOOK_INTERVAL, 1000).
-define(STOP_TIMEOUT, 3000).

%% How many messages may wait where max_fsm_queue is not set. ejabberd's listeners have this default, but don't pass it on.
-define(MAX_WAITING, 10000).

%% Messages that end a session: of ejabberd_c2s:stop_async/1, of another session in its place, and of a kick.
-define(IS_STOP(Message), (Message =:= {'$gen_cast', stop} orelse Message =:= replaced orelse
                           (tuple_size(Message) =:= 2 andalso element(1, Message) =:= exit))).

%% A shaper is opaque, and has no function that tells its rate.
-dialyzer({no_opaque, rate/1}).

%% To be called first in a session's process.
-spec open_session(session()) -> ok.
open_session(Session) ->
    _ = put(?SESSION, Session),
    _ = put(?NEW, true),
    ok.

-spec session() -> session().
session() -> get(?SESSION).

%% --- sending

%% Queues a packet; megaphone_c2s_loop has what is queued written. Waits while the queue is above its mark, as gen_tcp:send
%% does. It gives up, and the connection with it, when the peer has taken nothing for the session's time-out, or when the
%% process has been told to stop or has more messages than it may have: nobody would look at those while it waits.
-spec send_xml(socket(), megaphone_nif:xmpp_packet()) -> ok | {error, atom()}.
send_xml(Socket, Packet) ->
    case send_now(Socket, Packet) of
        ok ->
            _ = put(?UNFLUSHED, true),
            ok;
        {wait, Ref} ->
            {_, _, Timeout} = session(),
            wait_and_send(Socket, Packet, Ref, deadline(Timeout));
        {error, _} = Error ->
            unsent(Packet, Error)
    end.

send_now(Socket, Packet) ->
    case megaphone_nif:xmpp_send(Socket, Packet) of
        large -> megaphone_nif:xmpp_send_large(Socket, Packet);
        Result -> Result
    end.

wait_and_send(Socket, Packet, Ref, Deadline) ->
    case await_room(Ref, Deadline) of
        ready -> send_xml(Socket, Packet);
        timeout ->
            ok = megaphone_nif:xmpp_cancel_wait(Socket),
            receive {'$megaphone', Ref} -> ok
            after 0 -> ok
            end,
            _ = megaphone_nif:xmpp_abort(Socket),
            unsent(Packet, {error, timeout})
    end.

await_room(Ref, Deadline) ->
    receive
        {'$megaphone', Ref} ->
            ready;
        Stop when ?IS_STOP(Stop) ->
            Result = await_last_room(Ref, min(Deadline, deadline(?STOP_TIMEOUT))),
            _ = self() ! Stop,
            Result
    after min(?LOOK_INTERVAL, time_left(Deadline)) ->
        case time_left(Deadline) =:= 0 orelse is_flooded() of
            true -> timeout;
            false -> await_room(Ref, Deadline)
        end
    end.

await_last_room(Ref, Deadline) ->
    receive {'$megaphone', Ref} -> ready
    after time_left(Deadline) -> timeout
    end.

is_flooded() ->
    {_, MaxQueue, _} = session(),
    {message_queue_len, Length} = process_info(self(), message_queue_len),
    Length > min(MaxQueue, ?MAX_WAITING).  % the atom infinity is greater than any integer

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

time_left(infinity) -> infinity;
time_left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

%% Keeps an element for megaphone_c2s_loop, which knows what becomes of it.
unsent({xmlstreamelement, Element}, Error) ->
    Earlier = case get(?UNSENT) of
        undefined -> [];
        Elements -> Elements
    end,
    _ = put(?UNSENT, [Element | Earlier]),
    Error;
unsent(_Packet, Error) ->
    Error.

%% What could not be sent since the last call, in its order. The connection has gone or is going.
-spec take_unsent() -> [fxml:xmlel()].
take_unsent() ->
    case erase(?UNSENT) of
        undefined -> [];
        Elements -> lists:reverse(Elements)
    end.

%% White space that keeps a connection open on its way through others' tables. xmpp_socket has none for a socket without a
%% parser: WebSocket has its own pings, and BOSH its polls.
-spec send_ping(socket()) -> ok.
send_ping({tcp, _} = Socket) ->
    _ = send_xml(Socket, {xmlstreamraw, <<"\r\n\r\n">>}),  % closed: the owner is told
    ok;
send_ping(_Socket) ->
    ok.

%% Has written what was sent, if anything was.
-spec flush(socket()) -> ok.
flush(Socket) ->
    case erase(?UNFLUSHED) of
        true ->
            %% closed: the owner is told, or a resumed session waits for its next connection.
            _ = megaphone_nif:xmpp_flush(Socket),
            ok;
        undefined ->
            ok
    end.

%% Nothing to activate: the session's process takes what comes when it is told that there is something.
-spec setopts(socket(), [{active, once}]) -> ok.
setopts(_Socket, _Options) -> ok.

%% xmpp_socket wants an owner to monitor and to name in the log: on stock the process that carries the stream. Here no
%% process carries it but the session's own, which a monitor on itself does no harm. But when xmpp_socket makes its own of
%% a socket and finds the caller to be the owner, it makes a parser as well, for a socket that gives it bytes. So the answer
%% to that first question is a process that is another, and never ends.
-spec get_owner(socket()) -> pid().
get_owner(_Socket) ->
    case erase(?NEW) of
        true -> whereis(init);
        undefined -> self()
    end.

-spec get_transport(socket()) -> tcp | websocket | http_bind.
get_transport({Transport, _}) -> Transport.

%% Of a BOSH session: the address that its first request came from.
-spec peername(socket()) -> {ok, {inet:ip_address(), inet:port_number()}} | {error, atom()}.
peername(Socket) -> megaphone_nif:xmpp_peername(Socket).

-spec sockname(socket()) -> {ok, {inet:ip_address(), inet:port_number()}} | {error, atom()}.
sockname(Socket) -> megaphone_nif:xmpp_sockname(Socket).

%% What has been sent goes out in the background.
-spec close(socket()) -> ok | {error, closed}.
close(Socket) -> megaphone_nif:xmpp_close(Socket).

%% A new stream begins on the connection, after SASL (RFC 6120, 4.3.3).
-spec reset_stream(socket()) -> socket().
reset_stream(Socket) ->
    %% closed: the session's process finds out when it takes what came.
    _ = megaphone_nif:xmpp_reset(Socket),
    Socket.

%% How fast the library reads what comes from the peer.
-spec change_shaper(socket(), none | p1_shaper:state()) -> ok.
change_shaper(Socket, Shaper) ->
    _ = megaphone_nif:xmpp_shaper(Socket, rate(Shaper)),  % closed: as above
    ok.

rate(none) -> none;
%% #state{maxrate, burst_size, _, _} of p1_shaper, both in bytes (a second).
rate(Shaper) -> {element(2, Shaper), element(3, Shaper)}.

-spec controlling_process(socket(), pid()) -> ok.
controlling_process(_Socket, _Pid) -> ok.
