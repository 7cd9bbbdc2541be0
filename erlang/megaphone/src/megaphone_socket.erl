%% The module socket {'$inet', megaphone_socket, Conn}: what gen_tcp, inet and file call for a Megaphone connection.
%%
%% Return values and errors are those that OTP 25 gives for its own sockets; test/megaphone_socket_SUITE has both side
%% by side, and the list of differences. The one that callers may notice: a closed socket says {error, closed} to every
%% call, where inet says einval to some.
-module(megaphone_socket).

%% gen_tcp
-export([recv/2, recv/3, unrecv/2, send/2, shutdown/2, close/1, controlling_process/2, accept/1, accept/2]).
%% file
-export([sendfile/4]).
%% inet
-export([setopts/2, getopts/2, peername/1, sockname/1, socknames/1, port/1, getstat/2, info/1, monitor/1,
         cancel_monitor/1, socket_to_list/1, which_packet_type/1]).

-include_lib("kernel/include/file.hrl").

-define(SOCKET(Conn), {'$inet', ?MODULE, Conn}).
-define(LISTENER(Listener), {'$inet', ?MODULE, {listener, Listener}}).
-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0))).

%% inet's bound for one recv with a length.
-define(MAX_LENGTH, 16#4000000).

-type socket() :: megaphone:socket().
-type error() :: {error, closed | timeout | inet:posix()}.

%% When a call has to be over, in milliseconds of Erlang's monotonic time.
-type deadline() :: integer() | infinity.

%% How long recv looks for the data of a quick peer itself, in microseconds. To be woken by the reactor takes two thread
%% switches, which is half of what a request takes where one follows the other. A scheduler without work looks for more
%% work for longer than this before it sleeps; one with work looks but twice.
-define(LOOK, 50).

%% How long a wake-up that was sent may be on its way, in milliseconds.
-define(WAKE_TIMEOUT, 1000).

%% --- reading: the two sequences

-spec recv(socket(), non_neg_integer()) -> {ok, term()} | error().
recv(Socket, Length) -> recv(Socket, Length, infinity).

%% Data is there: the store has it, and get_data takes it.
%%
%% No data: get_data registers this process with the store, and the process waits for the message that the reactor
%% sends when it has stored some. Whatever comes after a time-out is for the next call; nothing is lost.
-spec recv(socket(), Length :: non_neg_integer(), timeout()) -> {ok, term()} | error().
recv(?LISTENER(_), _Length, _Timeout) ->
    {error, enotconn};
recv(?SOCKET(_), Length, _Timeout) when is_integer(Length), Length > ?MAX_LENGTH ->
    {error, enomem};
recv(?SOCKET(Conn), Length, Timeout) when is_integer(Length), Length >= 0, ?IS_TIMEOUT(Timeout) ->
    case megaphone_nif:poll_data(Conn, Length) of
        none -> receive_until(Conn, Length, deadline(Timeout));
        large -> receive_until(Conn, Length, deadline(Timeout));
        soon -> look(Conn, Length, deadline(Timeout), erlang:monotonic_time(microsecond) + ?LOOK);
        Found -> Found
    end.

look(Conn, Length, Deadline, Until) ->
    erlang:yield(),
    case megaphone_nif:poll_data(Conn, Length) of
        soon ->
            case erlang:monotonic_time(microsecond) < Until of
                true -> look(Conn, Length, Deadline, Until);
                false -> receive_until(Conn, Length, Deadline)
            end;
        Empty when Empty =:= none; Empty =:= large -> receive_until(Conn, Length, Deadline);
        Found -> Found
    end.

receive_until(Conn, Length, Deadline) ->
    case megaphone:get_data(Conn, Length) of
        {ok, Data} -> {ok, Data};
        {wait, Ref, ParkAfter} -> await_data(Conn, Length, Deadline, Ref, ParkAfter);
        {error, Reason} -> {error, Reason}
    end.

await_data(Conn, Length, Deadline, Ref, ParkAfter) ->
    Timeout = remaining(Deadline),
    receive
        {'$megaphone', Ref} -> receive_until(Conn, Length, Deadline)
    after min(Timeout, ParkAfter) ->
        ok = cancel_wait(Conn, Ref),
        case Timeout =< ParkAfter of
            true -> {error, timeout};
            false -> park(Conn, Length, Deadline)
        end
    end.

%% Between two requests the connection outlives its process: a handler that is told that the connection is closed
%% ends, and the next request starts another.
park(Conn, Length, Deadline) ->
    case megaphone_nif:park(Conn) of
        ok -> {error, closed};
        ready -> receive_until(Conn, Length, Deadline);
        {error, Reason} -> {error, Reason}
    end.

-spec unrecv(socket(), iodata()) -> ok | error().
unrecv(?SOCKET(Conn), Data) ->
    case megaphone_nif:unrecv(Conn, Data) of
        large -> megaphone_nif:unrecv_large(Conn, Data);
        Result -> Result
    end.

%% --- writing

%% Waits while the queue is above its mark, for send_timeout at most.
-spec send(socket(), iodata()) -> ok | error().
send(?LISTENER(_), _Data) ->
    {error, enotconn};
send(?SOCKET(Conn), Data) ->
    send_or_wait(Conn, fun() -> try_send(Conn, Data) end).

try_send(Conn, Data) ->
    case megaphone_nif:send(Conn, Data) of
        large -> megaphone_nif:send_large(Conn, Data);
        Result -> Result
    end.

%% Called by file:sendfile/2,5. Offset and Bytes as there: 0 bytes mean up to the end of the file. enotsup makes file
%% read and send by itself, for files that have no descriptor of their own.
-spec sendfile(socket(), file:fd(), Offset :: integer(), Bytes :: integer()) ->
    {ok, Sent :: non_neg_integer()} | error() | {error, badarg | enotsup}.
sendfile(?LISTENER(_), _File, _Offset, _Bytes) ->
    {error, enotconn};
sendfile(?SOCKET(_), _File, Offset, Bytes) when Offset < 0; Bytes < 0 ->
    {error, einval};
sendfile(?SOCKET(Conn), #file_descriptor{module = prim_file} = File, Offset, Bytes) ->
    case prim_file:get_handle(File) of
        <<Fd:32/native>> -> send_file(Conn, Fd, Offset, Bytes, 0);
        {error, _} -> {error, badarg}  % closed
    end;
%% A raw file that reads lists instead of binaries, which makes no difference here.
sendfile(?SOCKET(_) = Socket, #file_descriptor{module = raw_file_io_list, data = File}, Offset, Bytes) ->
    sendfile(Socket, File, Offset, Bytes);
sendfile(?SOCKET(_), #file_descriptor{}, _Offset, _Bytes) ->
    {error, enotsup}.

send_file(Conn, Fd, Offset, Bytes, Sent) ->
    Send = fun() -> megaphone_nif:sendfile(Conn, Fd, Offset + Sent, left(Bytes, Sent)) end,
    case send_or_wait(Conn, Send) of
        {ok, 0} -> {ok, Sent};
        {ok, More} when Sent + More =:= Bytes -> {ok, Bytes};
        {ok, More} -> send_file(Conn, Fd, Offset, Bytes, Sent + More);
        {error, _} = Error -> Error
    end.

%% The library takes less at a time than either.
left(0, _Sent) -> ?MAX_LENGTH;
left(Bytes, Sent) -> Bytes - Sent.

%% Calls Send, and again whenever there is room.
send_or_wait(Conn, Send) ->
    case Send() of
        {wait, Ref} -> await_room(Conn, Send, Ref);
        Result -> Result
    end.

await_room(Conn, Send, Ref) ->
    {Timeout, Close} = case megaphone_nif:send_timeout(Conn) of
        {ok, TimeoutAndClose} -> TimeoutAndClose;
        {error, closed} -> {infinity, false}  % the wake-up is on its way
    end,
    await_room(Conn, Send, Ref, deadline(Timeout), Close).

await_room(Conn, Send, Ref, Deadline, Close) ->
    receive
        {'$megaphone', Ref} ->
            case Send() of
                {wait, Next} -> await_room(Conn, Send, Next, Deadline, Close);
                Result -> Result
            end
    after remaining(Deadline) ->
        ok = cancel_wait(Conn, Ref),
        _ = Close andalso megaphone_nif:abort(Conn),
        {error, timeout}
    end.

-spec shutdown(socket(), read | write | read_write) -> ok | error().
shutdown(?LISTENER(_), _How) ->
    {error, enotconn};
shutdown(?SOCKET(Conn), How) when How =:= read; How =:= write; How =:= read_write ->
    megaphone_nif:shutdown(Conn, How).

%% What has been sent before goes out in the background.
-spec close(socket() | megaphone:listener_socket()) -> ok.
close(?LISTENER(Listener)) ->
    _ = megaphone_listener:close(Listener),
    ok;
close(?SOCKET(Conn) = Socket) ->
    _ = megaphone_nif:close(Conn),
    receive {tcp_closed, Socket} -> ok
    after 0 -> ok
    end.

%% --- owner

%% Messages that the old owner has not taken go to the new one before any that comes later. A connection whose handler
%% is just being started has no owner; whoever was told of it may hand it over.
-spec controlling_process(socket(), pid()) -> ok | {error, closed | not_owner | badarg | inet:posix()}.
controlling_process(?LISTENER(_), NewOwner) when is_pid(NewOwner) ->
    {error, einval};
controlling_process(?SOCKET(Conn) = Socket, NewOwner) when is_pid(NewOwner) ->
    case megaphone_nif:owner(Conn) of
        {ok, NewOwner} -> ok;
        {ok, Owner} when Owner =:= self() -> hand_over(Socket, NewOwner);
        {ok, undefined} -> megaphone_nif:controlling_process(Conn, self(), NewOwner);
        {ok, _} -> {error, not_owner};
        {error, _} = Error -> Error
    end.

hand_over(?SOCKET(Conn) = Socket, NewOwner) ->
    case megaphone_nif:getopt(Conn, active) of
        {ok, false} -> hand_over_passive(Socket, NewOwner);
        {ok, Active} ->
            %% Nothing may come between the messages that are moved and those that follow.
            case megaphone_nif:setopt(Conn, active, false) of
                ok -> hand_over_active(Socket, NewOwner, Active);
                {error, _} = Error -> Error
            end;
        {error, _} = Error -> Error
    end.

hand_over_active(?SOCKET(Conn) = Socket, NewOwner, Active) ->
    case hand_over_passive(Socket, NewOwner) of
        ok -> megaphone_nif:setopt(Conn, active, Active);
        {error, _} = Error -> Error
    end.

hand_over_passive(?SOCKET(Conn) = Socket, NewOwner) ->
    case move_messages(Socket, NewOwner, open) of
        closed -> ok;
        open -> megaphone_nif:controlling_process(Conn, self(), NewOwner)
    end.

move_messages(Socket, NewOwner, State) ->
    receive
        {Tag, Socket, _} = Message when Tag =:= tcp; Tag =:= http; Tag =:= tcp_error ->
            NewOwner ! Message,
            move_messages(Socket, NewOwner, State);
        {tcp_passive, Socket} = Message ->
            NewOwner ! Message,
            move_messages(Socket, NewOwner, State);
        {tcp_closed, Socket} = Message ->
            NewOwner ! Message,
            move_messages(Socket, NewOwner, closed)
    after 0 -> State
    end.

%% --- accepting

-spec accept(megaphone:listener_socket()) -> {ok, socket()} | error().
accept(Socket) -> accept(Socket, infinity).

%% The caller becomes the owner of the new socket, which has the options of the listening one.
-spec accept(megaphone:listener_socket(), timeout()) -> {ok, socket()} | error().
accept(?LISTENER(Listener), Timeout) when ?IS_TIMEOUT(Timeout) ->
    accept_until(Listener, deadline(Timeout));
accept(?SOCKET(Conn), Timeout) when ?IS_TIMEOUT(Timeout) ->
    case megaphone_nif:owner(Conn) of
        {ok, _} -> {error, einval};
        {error, _} = Error -> Error
    end.

accept_until(Listener, Deadline) ->
    case megaphone_nif:accept(Listener) of
        {ok, Conn} -> accepted(Listener, Conn, Deadline);
        {wait, Ref} -> await_connection(Listener, Ref, Deadline);
        {error, _} = Error -> Error
    end.

await_connection(Listener, Ref, Deadline) ->
    receive
        {'$megaphone', Ref} -> accept_until(Listener, Deadline)
    after remaining(Deadline) ->
        ok = cancelled(megaphone_nif:cancel_accept(Listener, Ref), Ref),
        {error, timeout}
    end.

%% A client that has left meanwhile is none.
accepted(Listener, Conn, Deadline) ->
    case setopts(?SOCKET(Conn), megaphone_listener:accepted_options(Listener)) of
        ok -> {ok, ?SOCKET(Conn)};
        {error, closed} -> accept_until(Listener, Deadline);
        {error, _} = Error -> _ = megaphone_nif:close(Conn), Error
    end.

%% --- options

%% All options are looked at before the first is set, as inet does.
-spec setopts(socket(), [inet:socket_setopt()]) -> ok | error().
setopts(?LISTENER(_), Options) when is_list(Options) ->
    {error, einval};
setopts(?SOCKET(Conn), Options) when is_list(Options) ->
    case megaphone_socket_options:settings(Options) of
        {ok, Settings} ->
            %% Active mode delivers at once, and by the other options.
            {Active, Others} = lists:partition(fun({Name, _}) -> Name =:= active end, Settings),
            set_all(Conn, Others ++ Active);
        error -> {error, einval}
    end.

set_all(_Conn, []) ->
    ok;
set_all(Conn, [{Name, Value} | Settings]) ->
    case megaphone_nif:setopt(Conn, Name, Value) of
        ok -> set_all(Conn, Settings);
        {error, _} = Error -> Error
    end.

-spec getopts(socket(), [inet:socket_getopt()]) -> {ok, [inet:socket_optval()]} | error().
getopts(?LISTENER(_), Names) when is_list(Names) ->
    {error, einval};
getopts(?SOCKET(Conn), Names) when is_list(Names) ->
    get_all(Conn, Names, []).

get_all(_Conn, [], Values) ->
    {ok, lists:reverse(Values)};
get_all(Conn, [Name | Names], Values) ->
    case megaphone_socket_options:get(Conn, Name) of
        {ok, Value} -> get_all(Conn, Names, [{Name, Value} | Values]);
        {error, _} = Error -> Error
    end.

%% --- facts

-spec peername(socket()) ->
    {ok, {inet:ip_address(), inet:port_number()} | inet:local_address()} | error().
peername(?LISTENER(_)) -> {error, enotconn};
peername(?SOCKET(Conn)) -> megaphone_nif:peername(Conn).

-spec sockname(socket() | megaphone:listener_socket()) ->
    {ok, {inet:ip_address(), inet:port_number()} | inet:local_address()} | error().
sockname(?LISTENER(Listener)) -> megaphone_listener:sockname(Listener);
sockname(?SOCKET(Conn)) -> megaphone_nif:sockname(Conn).

-spec socknames(socket() | megaphone:listener_socket()) ->
    {ok, [{inet:ip_address(), inet:port_number()} | inet:local_address()]} | error().
socknames(Socket) ->
    case sockname(Socket) of
        {ok, Name} -> {ok, [Name]};
        {error, _} = Error -> Error
    end.

-spec port(socket() | megaphone:listener_socket()) -> {ok, inet:port_number() | binary()} | error().
port(Socket) ->
    case sockname(Socket) of
        {ok, {_, Port}} -> {ok, Port};
        {error, _} = Error -> Error
    end.

%% The library doesn't keep the deviation (recv_dvi): it is 0.
-spec getstat(socket(), [inet:stat_option()]) -> {ok, [{inet:stat_option(), integer()}]} | error().
getstat(?LISTENER(_), _Names) ->
    {error, enotconn};
getstat(?SOCKET(Conn), Names) when is_list(Names) ->
    case megaphone_nif:getstat(Conn) of
        {ok, Counters} -> stat(Names, Counters, []);
        {error, _} = Error -> Error
    end.

stat([], _Counters, Values) ->
    {ok, lists:reverse(Values)};
stat([Name | Names], Counters, Values) ->
    case counter(Name, Counters) of
        error -> {error, einval};
        Value -> stat(Names, Counters, [{Name, Value} | Values])
    end.

counter(Name, Counters) when is_map_key(Name, Counters) -> map_get(Name, Counters);
counter(recv_dvi, _Counters) -> 0;
counter(_Name, _Counters) -> error.

-spec info(socket() | megaphone:listener_socket()) -> map().
info(?LISTENER(Listener)) ->
    case megaphone_nif:listener_info(Listener) of
        {error, closed} -> #{states => [closed]};
        Info -> Info#{states => [listen, open]}
    end;
info(?SOCKET(Conn)) ->
    case {megaphone_nif:info(Conn), megaphone_nif:getstat(Conn)} of
        {{ok, Info}, {ok, Counters}} -> Info#{states => [connected, open], counters => Counters};
        _ -> #{states => [closed]}
    end.

-spec socket_to_list(socket() | megaphone:listener_socket()) -> string().
socket_to_list(?LISTENER(Listener)) -> "#Megaphone<listener." ++ integer_to_list(Listener) ++ ">";
socket_to_list(?SOCKET(Conn)) -> "#Megaphone<" ++ integer_to_list(Conn) ++ ">".

-spec which_packet_type(socket()) -> {ok, atom() | 0} | error.
which_packet_type(?SOCKET(Conn)) ->
    case megaphone_nif:getopt(Conn, packet) of
        {ok, Type} -> {ok, Type};
        {error, _} -> error
    end.

%% --- monitors

%% A {'DOWN', Reference, socket, Socket, closed} comes when the socket closes, one with nosock now when it has closed.
-spec monitor(socket()) -> reference().
monitor(?SOCKET(Conn) = Socket) ->
    case megaphone_nif:monitor(Conn) of
        {ok, Monitor} ->
            Monitor;
        {error, closed} ->
            Monitor = make_ref(),
            self() ! {'DOWN', Monitor, socket, Socket, nosock},
            Monitor
    end.

%% By the process that has made the monitor. false: there is none any more, and its message may be in the mailbox.
-spec cancel_monitor(reference()) -> boolean().
cancel_monitor(Monitor) when is_reference(Monitor) ->
    megaphone_nif:cancel_monitor(Monitor).

%% --- time and messages

%% The wake-up may have been sent before; it is for nobody any more. What a thread of the library's has sent takes the way
%% over megaphone_waker.
cancel_wait(Conn, Ref) -> cancelled(megaphone_nif:cancel_wait(Conn, Ref), Ref).

cancelled(ok, _Ref) ->
    ok;
cancelled(sent, Ref) ->
    receive {'$megaphone', Ref} -> ok
    after ?WAKE_TIMEOUT -> ok
    end.

-spec deadline(timeout()) -> deadline().
deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

-spec remaining(deadline()) -> timeout().
remaining(infinity) -> infinity;
remaining(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).
