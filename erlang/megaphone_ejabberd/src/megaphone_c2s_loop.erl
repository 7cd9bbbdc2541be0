%% The process of a native XMPP session: an unmodified ejabberd_c2s on xmpp_stream_in, under a loop that hibernates, with its
%% state packed (see megaphone_packing_server).
%%
%% Stock runs xmpp_stream_in under p1_server, whose messages are gen_server's: everything that talks to a c2s works here
%% too, and the state (sys:get_state/1) is the same map. What this loop adds is kept in the process dictionary.
%%
%% It does three things that p1_server or a transport process do on stock:
%% - it reads: the library says once that there is something, and this process takes it, a measure at a time, ready parsed;
%% - it has what was sent written, once for all that was in the mailbox;
%% - it ends a session whose mailbox is longer than max_fsm_queue.
-module(megaphone_c2s_loop).
-behaviour(gen_server).

-export([start/3]).
%% Starting point of the process.
-export([enter/3]).
%% A hook of ejabberd.
-export([session_removed/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, code_change/3]).

%% ejabberd's and its libraries'. Their xmpp.hrl wants a directory fast_xml, which Debian calls by another name.
-include("logger.hrl").
-include("ns.hrl").
-include("jid.hrl").
-include("xmpp_codec.hrl").

%% Keys of the process dictionary.
-define(FLUSH, '$megaphone_flush').      % also a message: true while it is in the mailbox
-define(UNDELIVERED, '$megaphone_undelivered').    % stanzas to be routed again when the session is removed
-define(NEW, '$megaphone_new').          % true until the session has been available and idle for the first time

%% The library's message: there is something to take.
-define(RECV, '$megaphone_recv').

%% How long it has to be idle for that, in milliseconds.
-define(SETTLE_TIME, 100).

-export_type([idle_options/0]).

-type state() :: xmpp_stream_in:state().
-type next_state() :: {noreply, state(), timeout() | hibernate} | {stop, term(), state()}.

%% How a session waits: hibernate_after, in milliseconds, is for how long it had no message; pack, in bytes, how large the
%% state of one that hibernates may be to be packed (0: none is); pack_after, in milliseconds, how long one that was woken
%% earlier than that has to sleep before it is.
-type idle_options() :: #{hibernate_after := timeout(), pack := non_neg_integer(), pack_after := non_neg_integer()}.

%% Starts the process of a session. Options are those of ejabberd_c2s:start/3. It is linked to nothing; it hibernates when
%% its client is logged in.
%%
%% It takes the session itself: whoever starts it may end at any time. One that comes second finds the session taken, or
%% over, and ends. Doesn't wait for the process to be set up: on a busy node every login would wait for its turn in the
%% run queue twice.
-spec start(megaphone_xmpp_socket:socket(), [proplists:property()], idle_options()) -> {ok, pid()}.
start(Socket, Options, Idle) ->
    {ok, proc_lib:spawn(?MODULE, enter, [Socket, Options, Idle])}.

-spec enter(megaphone_xmpp_socket:socket(), [proplists:property()], idle_options()) -> no_return().
enter({Transport, _} = Socket, Options, Idle) ->
    %% Before the first event, which it would take for an intruder.
    ok = ejabberd_c2s:accept(self()),
    case megaphone_nif:xmpp_started(Socket, self()) of
        ok ->
            {ok, State, Timeout} = init({Socket, Options}),
            megaphone_packing_server:enter_loop(?MODULE, Idle#{kind => kind(Transport)}, State, Timeout);
        {error, closed} ->
            exit(normal)
    end.

%% States of one transport are alike.
kind(tcp) -> 0;
kind(websocket) -> 1;
kind(http_bind) -> 2.

-spec init({megaphone_xmpp_socket:socket(), [proplists:property()]}) -> {ok, state(), timeout()}.
init({Socket, Options}) ->
    MaxQueue = proplists:get_value(max_queue, ejabberd_config:fsm_limit_opts(Options), infinity),
    SendTimeout = proplists:get_value(send_timeout, Options, infinity),
    ok = megaphone_xmpp_socket:open_session({Socket, MaxQueue, SendTimeout}),
    _ = put(?NEW, true),
    xmpp_stream_in:init([ejabberd_c2s, {megaphone_xmpp_socket, Socket}, Options]).

-spec handle_call(term(), {pid(), term()}, state()) -> next_state().
handle_call(Call, From, State) -> next(xmpp_stream_in:handle_call(Call, From, State)).

-spec handle_cast(term(), state()) -> next_state().
handle_cast(send_ws_ping, #{stream_header_sent := true, stream_state := StreamState} = State)
  when StreamState =/= disconnected ->
    {Socket, _, _} = megaphone_xmpp_socket:session(),
    ok = megaphone_xmpp_socket:send_ping(Socket),
    next(continue(State));
handle_cast(Cast, State) -> next(xmpp_stream_in:handle_cast(Cast, State)).

-spec handle_info(term(), state()) -> next_state().
handle_info(?FLUSH, State) ->
    _ = erase(?FLUSH),
    ok = flush(),
    after_login(continue(State));
%% The time-out is after_login/1's: xmpp_stream_in has none.
handle_info(timeout, #{stream_timeout := infinity} = State) ->
    _ = erase(?NEW),
    {noreply, State, hibernate};
handle_info(?RECV, State) ->
    recv(State);
handle_info(Info, State) ->
    next(xmpp_stream_in:handle_info(Info, State)).

-spec terminate(term(), state()) -> term().
terminate(Reason, State) ->
    %% ejabberd waits a while for late messages before it closes. What the client is to read comes before that.
    ok = flush(),
    xmpp_stream_in:terminate(Reason, State).

-spec code_change(term(), state(), term()) -> {ok, state()} | {error, term()}.
code_change(OldVsn, State, Extra) -> xmpp_stream_in:code_change(OldVsn, State, Extra).

%% --- events of the stream

%% Takes what has come. To ask again is to say that all of it has been dealt with.
recv(State) ->
    {Socket, _, _} = megaphone_xmpp_socket:session(),
    case megaphone_nif:xmpp_recv(Socket) of
        large -> received(megaphone_nif:xmpp_recv_large(Socket), State);
        Result -> received(Result, State)
    end.

received({error, closed}, State) ->
    next(closed([], State));
received({Events, Next}, State) ->
    %% Behind what is in the mailbox already: others have their turn.
    _ = case Next of
        more -> self() ! ?RECV;
        wait -> ok
    end,
    next(handle_events(Events, continue(State))).

handle_events([], Next) -> Next;
handle_events([Event | Events], {noreply, State, _Timeout}) -> handle_events(Events, handle_event(Event, State));
handle_events(_Events, {stop, _Reason, _State} = Stop) -> Stop.

handle_event({'$megaphone_stream_error', Condition, Text}, State) ->
    continue(send_stream_error(State, Condition, Text));
handle_event({'$megaphone_undelivered', Elements}, State) ->
    closed(lists:flatmap(fun parse/1, Elements), State);
handle_event(closed, State) ->
    closed([], State);
handle_event(Event, State) ->
    xmpp_stream_in:handle_info({'$gen_event', Event}, State).

%% --- between two messages

%% What could not be sent means that there is no connection any more.
next({noreply, State, _Timeout} = Next) ->
    case megaphone_xmpp_socket:take_unsent() of
        [] -> look_at_mailbox(Next);
        Elements -> look_at_mailbox(closed(Elements, State))
    end;
next({stop, _Reason, _State} = Stop) ->
    Stop.

%% As p1_server does before each message.
look_at_mailbox({noreply, State, _Timeout} = Next) ->
    {message_queue_len, Length} = process_info(self(), message_queue_len),
    case megaphone_xmpp_socket:session() of
        {_, MaxQueue, _} when Length > MaxQueue ->  % no integer is greater than the atom infinity
            {stop, {process_limit, {max_queue, Length}}, State};
        _ ->
            ok = flush_after(Length),
            after_login(Next)
    end;
look_at_mailbox({stop, _Reason, _State} = Stop) ->
    Stop.

%% A login leaves more garbage than its session will ever keep. When many log in at once, it would lie there for
%% hibernate_after in all of them, and the VM's memory would stay as large as it was then. So a session is given less time
%% before it hibernates for the first time.
after_login({noreply, #{pres_last := _} = State, infinity} = Next) ->
    case get(?NEW) of
        true -> {noreply, State, ?SETTLE_TIME};
        undefined -> Next
    end;
after_login(Next) ->
    Next.

%% With messages in the mailbox, one more is put behind them: what they send shares a write.
flush_after(0) ->
    %% Some 300 bytes that a session would keep for its next random number. It is seeded again when it needs one.
    _ = erase(rand_seed),
    flush();
flush_after(_Length) ->
    case put(?FLUSH, true) of
        undefined -> self() ! ?FLUSH, ok;
        true -> ok
    end.

flush() ->
    {Socket, _, _} = megaphone_xmpp_socket:session(),
    megaphone_xmpp_socket:flush(Socket).

%% The time-out that runs goes on, as in xmpp_stream_in: the state has its length and its start.
continue(#{stream_timeout := infinity} = State) ->
    {noreply, State, infinity};
continue(#{stream_timeout := {Timeout, Start}} = State) ->
    {noreply, State, max(0, Timeout + Start - erlang:monotonic_time(millisecond))}.

%% --- errors that xmpp_stream_in doesn't know

%% Does for any condition what xmpp_stream_in does for those of {xmlstreamerror, _} (RFC 6120, 4.9.1.2: an error
%% before the header still needs a header).
send_stream_error(#{stream_state := disconnected} = State, _Condition, _Text) ->
    State;
send_stream_error(#{lang := Lang} = State, Condition, Text) ->
    Error = #stream_error{reason = Condition, text = xmpp:mk_text(Text, Lang)},
    xmpp_stream_in:send(send_header(State), Error).

send_header(#{stream_header_sent := false, socket := Socket, stream_id := Id, stream_version := Version,
              lang := Lang, xmlns := Namespace} = State) ->
    Header = #stream_start{id = Id, version = Version, lang = Lang, xmlns = Namespace, stream_xmlns = ?NS_STREAM},
    case xmpp_socket:send_header(Socket, xmpp:encode(Header)) of
        ok -> State#{stream_header_sent => true};
        {error, _} -> State  % sending the error will fail as well, and that ends the session
    end;
send_header(State) ->
    State.

%% --- the end of the connection

%% Elements is what the client never got. With stream management they are in its queue, and so will be what is in the
%% mailbox. Without, ejabberd_c2s tells itself to stop, behind what is in the mailbox: all of that would be sent to nobody,
%% and lost. So that message is taken first; then ejabberd_c2s routes again what it finds there, once the session is removed.
closed(_Elements, #{mgmt_state := active} = State) ->
    xmpp_stream_in:handle_info({'$gen_event', closed}, State);
closed(Elements, State) ->
    _ = put(?UNDELIVERED, undelivered() ++ [Stanza || Element <- Elements, Stanza <- stanza(Element)]),
    Next = xmpp_stream_in:handle_info({'$gen_event', closed}, State),
    receive {'$gen_cast', stop} -> {stop, normal, element(2, Next)}
    after 0 -> Next
    end.

undelivered() ->
    case get(?UNDELIVERED) of
        undefined -> [];
        Stanzas -> Stanzas
    end.

%% sm_remove_connection_hook, in the process of a session that is no more. What it could not deliver comes before what is in
%% its mailbox, to which others have been adding until now.
-spec session_removed(ejabberd_sm:sid(), jid:jid(), ejabberd_sm:info()) -> ok.
session_removed({_, Session}, _Jid, _Info) when Session =:= self() ->
    Stanzas = undelivered(),
    _ = erase(?UNDELIVERED),
    lists:foreach(fun ejabberd_router:route/1, Stanzas);
session_removed(_Sid, _Jid, _Info) ->
    ok.

%% The server's own elements make no document where they use a prefix of the stream's header. They are for this client
%% alone.
parse(Bytes) ->
    case fxml_stream:parse_element(Bytes) of
        {error, _} -> [];
        Element -> [Element]
    end.

%% Those that have a sender to be told, or a receiver who may come back.
stanza(Element) ->
    try xmpp:decode(Element, ?NS_CLIENT, ejabberd_config:codec_options()) of
        Packet ->
            case xmpp:is_stanza(Packet) andalso {xmpp:get_from(Packet), xmpp:get_to(Packet)} of
                {#jid{}, #jid{}} -> [Packet];
                _ -> []
            end
    catch
        _:{xmpp_codec, Why} ->
            ?DEBUG("An element that a client didn't get cannot be routed again: ~ts", [xmpp:format_error(Why)]),
            []
    end.
