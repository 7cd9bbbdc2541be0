%% What xmpp_socket calls for a session whose stream is framed by the native library: a c2s on such a socket has no
%% parser and no transport process, it gets ready terms and sends terms.
%%
%% All functions but get_owner/1 are for the session's own process.
-module(megaphone_xmpp_socket).
-behaviour(xmpp_socket).

-export([flush/1]).
%% xmpp_socket's.
-export([send_xml/2, setopts/2, get_owner/1, get_transport/1, peername/1, sockname/1, close/1, reset_stream/1,
         change_shaper/2, controlling_process/2]).

-export_type([socket/0]).

%% The tag is the transport, as ejabberd calls it. The number is that of the connection, or for http_bind that of the
%% BOSH session, whose connections come and go.
-type socket() :: megaphone_nif:xmpp_socket().

%% Key of the process dictionary: true while something was sent and not flushed.
-define(UNFLUSHED, '$megaphone_unflushed').

%% ejabberd's own transports give up after as long.
-define(SEND_TIMEOUT, 15000).

%% A shaper is opaque, and has no function that tells its rate.
-dialyzer({no_opaque, rate/1}).

%% Queues a packet; megaphone_c2s_loop has what is queued written. Waits while the queue is above its mark; a peer that
%% takes nothing for as long as SEND_TIMEOUT (in milliseconds) loses its connection.
-spec send_xml(socket(), megaphone_nif:xmpp_packet()) -> ok | {error, atom()}.
send_xml(Socket, Packet) ->
    send_until(Socket, Packet, erlang:monotonic_time(millisecond) + ?SEND_TIMEOUT).

send_until(Socket, Packet, Deadline) ->
    case send(Socket, Packet) of
        ok ->
            _ = put(?UNFLUSHED, true),
            ok;
        {wait, Ref} -> await_room(Socket, Packet, Deadline, Ref);
        {error, _} = Error -> Error
    end.

send(Socket, Packet) ->
    case megaphone_nif:xmpp_send(Socket, Packet) of
        large -> megaphone_nif:xmpp_send_large(Socket, Packet);
        Result -> Result
    end.

await_room(Socket, Packet, Deadline, Ref) ->
    receive
        {'$megaphone', Ref} -> send_until(Socket, Packet, Deadline)
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        ok = megaphone_nif:xmpp_cancel_wait(Socket),
        receive {'$megaphone', Ref} -> ok
        after 0 -> ok
        end,
        _ = megaphone_nif:xmpp_abort(Socket),
        {error, timeout}
    end.

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

%% xmpp_socket wants an owner to monitor and to log: the process that carries the stream. Here no process carries it, and
%% the session is told of the end of its connection by an event. Its own process won't do, since xmpp_socket would make a
%% parser for it. So it is one that never ends.
-spec get_owner(socket()) -> pid().
get_owner(_Socket) -> whereis(init).

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
