%% The functions of the native library. Terms in, terms out: what they do is told here, how is the library's matter.
%%
%% A wrong type of argument raises badarg. A connection that has ended, and a number that never was one, give
%% {error, closed}. No function blocks, but sendfile/4, which runs on a dirty scheduler.
-module(megaphone_nif).

-on_load(keep_library/0).

-include_lib("kernel/include/logger.hrl").

-export([load/0]).
-export([start/1, stop/0, set_process_room/1, stats/0, connections/0, waker/0, wake/0]).
-export([listen/3, close_listener/1, close_connections/1, listener_info/1, set_starter/2]).
-export([links/0, links_go_away/1, close_links/1]).
-export([accept/1, cancel_accept/2]).
-export([handler_started/2, get_data/2, get_large_data/2, poll_data/2, cancel_wait/2, park/1]).
-export([unrecv/2, unrecv_large/2]).
-export([send/2, send_large/2, send_timeout/1, sendfile/4, shutdown/2, close/1, abort/1]).
-export([controlling_process/3, owner/1, monitor/1, cancel_monitor/1]).
-export([setopt/3, getopt/2, peername/1, sockname/1, getstat/1, info/1]).
-export([xmpp_configure/1, xmpp_facts/1, xmpp_started/2, xmpp_recv/1, xmpp_recv_large/1,
         xmpp_send/2, xmpp_send_large/2, xmpp_flush/1,
         xmpp_cancel_wait/1, xmpp_reset/1, xmpp_shaper/2, xmpp_close/1, xmpp_abort/1]).
-export([xmpp_peername/1, xmpp_sockname/1, xmpp_info/1]).
-export([pack/2, unpack/1]).
-export([inject_panic/1]).

-export_type([start_options/0, listen_options/0, limits/0, link_info/0, load_error/0]).
-export_type([xmpp_socket/0, xmpp_settings/0, xmpp_facts/0, xmpp_packet/0, xmpp_event/0]).

-nifs([start/1, stop/0, set_process_room/1, stats/0, connections/0, waker/0, wake/0,
       listen/3, close_listener/1, close_connections/1, listener_info/1, set_starter/2,
       links/0, links_go_away/1, close_links/1,
       accept/1, cancel_accept/2,
       handler_started/2, get_data/2, get_large_data/2, poll_data/2, cancel_wait/2, park/1, unrecv/2, unrecv_large/2,
       send/2, send_large/2, send_timeout/1, sendfile/4, shutdown/2, close/1, abort/1,
       controlling_process/3, owner/1, monitor/1, cancel_monitor/1,
       setopt/3, getopt/2, peername/1, sockname/1, getstat/1, info/1,
       xmpp_configure/1, xmpp_facts/1, xmpp_started/2, xmpp_recv/1, xmpp_recv_large/1,
       xmpp_send/2, xmpp_send_large/2, xmpp_flush/1,
       xmpp_cancel_wait/1, xmpp_reset/1, xmpp_shaper/2, xmpp_close/1, xmpp_abort/1,
       xmpp_peername/1, xmpp_sockname/1, xmpp_info/1,
       pack/2, unpack/1,
       inject_panic/1]).

-define(NOT_LOADED, erlang:nif_error({nif_not_loaded, "the application megaphone has not been started"})).

-type conn() :: megaphone:conn().
-type listener() :: megaphone:listener().

-type start_options() :: #{
    reactors => pos_integer(),         % threads; default: one for four cores, 1 to 8
    max_connections => pos_integer(),  % default: the descriptor limit but for a reserve
    log => pid()                       % gets the notices
}.

-type limits() :: #{
    reactors := pos_integer(),
    max_connections := pos_integer(),
    descriptor_limit := pos_integer(),
    _ => _
}.

%% Times in milliseconds, sizes in bytes. What is absent has the library's default.
-type listen_options() :: #{
    mode := raw | http | xmpp | accept | links,  % links: it takes shut_with_owner and megaphone_link_options:options()
    starter => pid(),  % gets the start messages; without one, connections wait for set_starter/2
    max_head => pos_integer(),
    head_timeout => non_neg_integer(),
    body_timeout => non_neg_integer(),
    idle_timeout => non_neg_integer(),
    handler_linger => non_neg_integer(),
    start_timeout => non_neg_integer(),
    recv_high_watermark => pos_integer(),
    max_chunked_body => pos_integer(),
    backlog => pos_integer(),
    zero_ends_request => boolean(),
    delivery => binary | list,
    send_timeout => timeout(),
    send_timeout_close => boolean(),
    shut_with_owner => boolean(),  % no other descriptor of the socket listens when Owner has died
    max_stanza => pos_integer(),                        % mode xmpp
    proxy_protocol => boolean() | [{inet:ip_address(), 0..128}],  % see megaphone:options(); not in mode accept
    link_name => binary(),
    %% Mode raw behind a proxy: the handler of a connection of the proxy's own (LOCAL) starts with its first byte.
    local_awaits_input => boolean(),
    routes => [{Path :: binary(), websocket | bosh}],   % mode http: paths that need no handler, compared as ejabberd_http does
    response_headers => binary(),                       % mode http: lines with their ends, for answers from here
    atom() => term()
}.

%% A link from a connection manager.
-type link_info() :: #{
    listener := listener(),           % that its last connection came to
    id := binary(),
    ecm := Name :: binary(),
    peer := {inet:ip_address(), inet:port_number()} | undefined,  % undefined: a unix socket
    connected := boolean(),           % else it waits for a connection that resumes it
    resumed := non_neg_integer(),     % how often one has
    streams := non_neg_integer(),
    kept_bytes := non_neg_integer(),  % sent and not acknowledged
    recv_oct := non_neg_integer(),
    send_oct := non_neg_integer()
}.

%% The number of a tcp or websocket session is its connection's; that of an http_bind session is its own.
-type xmpp_socket() :: {tcp | websocket | http_bind, non_neg_integer()}.

%% Of XMPP sessions. Times in milliseconds, sizes in bytes. What is absent has the library's default.
-type xmpp_settings() :: #{
    from => binary(),                     % host that errors come from before the client has named one
    lang => binary(),                     % language of such errors
    header_timeout => non_neg_integer(),  % until the stream header is complete
    stanza_timeout => non_neg_integer(),  % from the first byte of a stanza to its last
    max_stanza => pos_integer(),          % WebSocket and BOSH; as many bytes are already too many
    ping_interval => non_neg_integer(),   % how long a WebSocket may be silent before it is pinged; 0: never
    websocket_timeout => non_neg_integer(),
    origins => [binary()],                % that WebSockets are accepted from, in lower case; none: all
    bosh_hosts => #{
        Host :: binary() => #{
            max_inactivity => non_neg_integer(),
            max_pause => non_neg_integer(),
            max_concat => pos_integer() | unlimited
        }
    }
}.

%% What a request said is known until the session has an owner, and never over tcp.
-type xmpp_facts() :: #{
    listener := listener(),
    peer := address(),
    local := address(),
    host => binary(),
    path => binary(),
    forwarded_for => binary()
}.

-type address() :: {inet:ip_address(), inet:port_number()} | inet:local_address().

%% Names and text may be iolists, which costs a switch to a dirty scheduler.
-type xmpp_packet() ::
    {xmlstreamstart, Name :: binary(), Attrs :: [{binary(), binary()}]}
    | {xmlstreamelement, fxml:xmlel()}
    | {xmlstreamend, Name :: binary()}
    | {xmlstreamraw, iodata()}.

%% What a stream's peer did. The first three and xmlstreamerror are those of fxml_stream; a text alone there means that a
%% stanza is too big. After an error nothing of the peer's is looked at, and the owner closes. closed is the last event.
-type xmpp_event() ::
    {xmlstreamstart, Name :: binary(), Attrs :: [{binary(), binary()}]}
    | {xmlstreamelement, fxml:xmlel()}
    | {xmlstreamend, Name :: binary()}
    | {xmlstreamerror, Text :: binary() | {0, Text :: binary()}}
    | {'$megaphone_stream_error', Condition :: atom(), Text :: binary()}  % others of RFC 6120, 4.9.3
    | {'$megaphone_undelivered', Elements :: [binary()]}                  % that a BOSH client never got; then closed
    | closed.

-type load_error() :: {cannot_load, File :: file:filename(), Why :: string(), Fix :: string()}.

%% The file that this VM has loaded, without the .so.
-define(LOADED, {?MODULE, library}).

%% Loads the library, once a VM: what the file is by now does not matter to a VM that has one.
%%
%% Not by -on_load: that would keep the reason to itself and leave callers with undef.
-spec load() -> ok | {error, load_error()}.
load() ->
    case persistent_term:get(?LOADED, undefined) of
        undefined -> load_first();
        _ -> ok
    end.

load_first() ->
    case megaphone_library:current() of
        {ok, Path} -> load_first(Path);
        {error, _} = Error -> Error
    end.

load_first(Path) ->
    case erlang:load_nif(Path, 0) of
        ok -> persistent_term:put(?LOADED, Path);
        {error, {_, Why}} -> {error, megaphone_library:load_error(Path ++ ".so", lists:flatten(Why))}
    end.

%% Runs when the module is loaded. Where another instance has the library the new one would be without: it is refused,
%% and the other stays. Where that instance has been deleted and purged, the new one gets the library that is still mapped.
keep_library() ->
    case persistent_term:get(?LOADED, undefined) of
        undefined -> ok;
        Path -> take_over(Path)
    end.

take_over(Path) ->
    case erlang:load_nif(Path, 0) of
        ok ->
            ok;
        {error, {upgrade, _}} ->
            ?LOG_ERROR("The module megaphone_nif was not loaded again: its native library runs, with threads and "
                       "connections, and stays with the code that it was loaded for, which goes on as before. "
                       "To run another version, restart the Erlang node; in a release upgrade, use restart_emulator."),
            library_in_use;
        {error, {_, Why}} ->
            ?LOG_ERROR("The module megaphone_nif was not loaded: it does not fit the native library ~ts.so that this "
                       "Erlang node runs (~ts). Restart the node.", [Path, Why]),
            library_does_not_fit
    end.

%% --- the library

%% Starts the threads, once a VM; later calls change max_connections and log.
-spec start(start_options()) -> {ok, limits()} | {error, term()}.
start(_Options) -> ?NOT_LOADED.

%% Closes all listeners and connections. The threads stay, for the next start/1.
-spec stop() -> ok.
stop() -> ?NOT_LOADED.

%% So many connections are accepted until the next call; before the first one there is no such bound.
-spec set_process_room(non_neg_integer()) -> ok.
set_process_room(_Room) -> ?NOT_LOADED.

-spec stats() -> #{atom() => term()}.
stats() -> ?NOT_LOADED.

-spec connections() -> [conn()].
connections() -> ?NOT_LOADED.

%% A descriptor from which a byte can be read when there are messages for wake/0 to send, and no other before all have been
%% sent. It stays the library's. The next call gives another one.
-spec waker() -> {ok, Fd :: non_neg_integer()} | {error, inet:posix()}.
waker() -> ?NOT_LOADED.

%% Sends messages to whoever waits, or starts handlers, for the library's threads. more: there are others.
-spec wake() -> ok | more.
wake() -> ?NOT_LOADED.

%% --- listeners

%% Accepts connections on a copy of the listening descriptor Fd, until Owner dies or close_listener/1 is called.
%% Connections outlive their listener.
-spec listen(Fd :: non_neg_integer(), Owner :: pid(), listen_options()) ->
    {ok, listener()} | {error, closed | inet:posix()}.
listen(_Fd, _Owner, _Options) -> ?NOT_LOADED.

-spec close_listener(listener()) -> ok | {error, closed}.
close_listener(_Listener) -> ?NOT_LOADED.

%% Closes all connections of a listener and the BOSH sessions that began there, at once.
-spec close_connections(listener()) -> ok.
close_connections(_Listener) -> ?NOT_LOADED.

%% Known for as long as it accepts or has connections.
-spec listener_info(listener()) ->
    #{connections := non_neg_integer(), accepted := non_neg_integer(), paused := boolean(),
                    is_open := boolean(), _ => _} | {error, closed}.
listener_info(_Listener) -> ?NOT_LOADED.

%% Names the process that gets the start messages from now on. It gets those that are unanswered, too: some may come
%% twice.
-spec set_starter(listener(), pid()) -> ok | {error, closed}.
set_starter(_Listener, _Starter) -> ?NOT_LOADED.

%% Of a listener in mode accept. The caller becomes the owner.
-spec accept(listener()) -> {ok, conn()} | {wait, reference()} | {error, atom()}.
accept(_Listener) -> ?NOT_LOADED.

%% As cancel_wait/2.
-spec cancel_accept(listener(), reference()) -> ok | sent.
cancel_accept(_Listener, _Wait) -> ?NOT_LOADED.

%% --- links to connection managers

%% Connected or not.
-spec links() -> [link_info()].
links() -> ?NOT_LOADED.

%% Tells the managers of a listener's links, and of those that come, to bring no more clients. Those that there are stay.
-spec links_go_away(listener()) -> ok | {error, closed}.
links_go_away(_Listener) -> ?NOT_LOADED.

%% Ends a listener's links, and with them what clients they have, when what these were sent is on its way, or after 2 seconds.
%% Returns before that.
-spec close_links(listener()) -> ok | {error, closed}.
close_links(_Listener) -> ?NOT_LOADED.

%% --- reading

%% Names the process that handles a connection after a start message; it becomes the owner, as it does by nothing else but
%% controlling_process/3. Closes the connection when that process has died. not_owner: another process has the connection.
-spec handler_started(conn(), pid()) -> ok | {error, closed | not_owner}.
handler_started(_Conn, _Handler) -> ?NOT_LOADED.

%% Takes what there is (Length 0: any bytes at all; packet modes: one packet), or registers the caller for a
%% {'$megaphone', Reference} when there is something. ParkAfter is how long the caller should wait at most before it
%% calls park/1: infinity but at the boundary of two requests. large: there is so much that it needs get_large_data/2, a
%% list of more than 4 KB or a binary of more than 128.
-spec get_data(conn(), Length :: non_neg_integer()) ->
    {ok, Data :: term()} | {wait, reference(), ParkAfter :: timeout()} | large | {error, term()}.
get_data(_Conn, _Length) -> ?NOT_LOADED.

%% The same on a dirty scheduler, for data that take their time to copy.
-spec get_large_data(conn(), Length :: non_neg_integer()) ->
    {ok, term()} | {wait, reference(), ParkAfter :: timeout()} | {error, term()}.
get_large_data(_Conn, _Length) -> ?NOT_LOADED.

%% As get_data/2, but doesn't begin to wait: none when nothing is there, soon when it is worth looking again, because the
%% peer was quick the last time; then this looks into the socket itself. large: it needs get_large_data/2.
-spec poll_data(conn(), Length :: non_neg_integer()) -> {ok, term()} | soon | none | large | {error, term()}.
poll_data(_Conn, _Length) -> ?NOT_LOADED.

%% Ends a registration to read or write. sent: it has ended by its message, which is in the mailbox or on its way there.
-spec cancel_wait(conn(), reference()) -> ok | sent.
cancel_wait(_Conn, _Wait) -> ?NOT_LOADED.

%% Takes an idle connection from its process. ready: there is something to read after all.
-spec park(conn()) -> ok | ready | {error, closed}.
park(_Conn) -> ?NOT_LOADED.

%% Puts bytes before all that is still to be read. large: nothing was done, these are so many that it needs unrecv_large/2.
-spec unrecv(conn(), iodata()) -> ok | large | {error, atom()}.
unrecv(_Conn, _Data) -> ?NOT_LOADED.

%% The same on a dirty scheduler.
-spec unrecv_large(conn(), iodata()) -> ok | {error, atom()}.
unrecv_large(_Conn, _Data) -> ?NOT_LOADED.

%% --- writing

%% wait: nothing of Data was taken, the queue is above its mark; call again after {'$megaphone', Reference}. large: nothing
%% was taken, it needs send_large/2, as more than 64 KB or 1,024 elements of lists do.
-spec send(conn(), iodata()) -> ok | {wait, reference()} | large | {error, atom()}.
send(_Conn, _Data) -> ?NOT_LOADED.

%% The same on a dirty scheduler, for data that take their time to copy.
-spec send_large(conn(), iodata()) -> ok | {wait, reference()} | {error, term()}.
send_large(_Conn, _Data) -> ?NOT_LOADED.

%% How long a send may wait, and whether the connection is to be closed then.
-spec send_timeout(conn()) -> {ok, {timeout(), Close :: boolean()}} | {error, closed}.
send_timeout(_Conn) -> ?NOT_LOADED.

%% Sends from a descriptor of the operating system, at most 1 MiB a call. Sent 0: the end of the file.
-spec sendfile(conn(), FileFd :: non_neg_integer(), Offset :: non_neg_integer(), Count :: non_neg_integer()) ->
    {ok, Sent :: non_neg_integer()} | {wait, reference()} | {error, atom()}.
sendfile(_Conn, _FileFd, _Offset, _Count) -> ?NOT_LOADED.

-spec shutdown(conn(), read | write | read_write) -> ok | {error, atom()}.
shutdown(_Conn, _How) -> ?NOT_LOADED.

%% What is queued is sent in the background.
-spec close(conn()) -> ok | {error, closed}.
close(_Conn) -> ?NOT_LOADED.

%% What is queued is lost.
-spec abort(conn()) -> ok | {error, closed}.
abort(_Conn) -> ?NOT_LOADED.

%% --- owner and monitors

%% From may be anybody while a connection that waits for its handler has no owner. badarg: To has died.
-spec controlling_process(conn(), From :: pid(), To :: pid()) -> ok | {error, not_owner | closed | badarg}.
controlling_process(_Conn, _From, _To) -> ?NOT_LOADED.

%% undefined: it is parked, or waits for its handler.
-spec owner(conn()) -> {ok, pid() | undefined} | {error, closed}.
owner(_Conn) -> ?NOT_LOADED.

%% {'DOWN', Reference, socket, {'$inet', megaphone_socket, Conn}, closed} comes when the connection closes.
-spec monitor(conn()) -> {ok, reference()} | {error, closed}.
monitor(_Conn) -> ?NOT_LOADED.

%% By the process that has made it.
-spec cancel_monitor(reference()) -> boolean().
cancel_monitor(_Monitor) -> ?NOT_LOADED.

%% --- options and facts

-spec setopt(conn(), atom(), term()) -> ok | {error, atom()}.
setopt(_Conn, _Name, _Value) -> ?NOT_LOADED.

-spec getopt(conn(), atom()) -> {ok, term()} | {error, atom()}.
getopt(_Conn, _Name) -> ?NOT_LOADED.

-spec peername(conn()) ->
    {ok, {inet:ip_address(), inet:port_number()} | inet:local_address()} | {error, atom()}.
peername(_Conn) -> ?NOT_LOADED.

-spec sockname(conn()) ->
    {ok, {inet:ip_address(), inet:port_number()} | inet:local_address()} | {error, atom()}.
sockname(_Conn) -> ?NOT_LOADED.

-spec getstat(conn()) -> {ok, #{atom() => non_neg_integer()}} | {error, closed}.
getstat(_Conn) -> ?NOT_LOADED.

-spec info(conn()) -> {ok, #{atom() => term()}} | {error, closed}.
info(_Conn) -> ?NOT_LOADED.

%% --- XMPP sessions

%% Replaces the settings, for sessions that begin from here on.
-spec xmpp_configure(xmpp_settings()) -> ok.
xmpp_configure(_Settings) -> ?NOT_LOADED.

-spec xmpp_facts(xmpp_socket()) -> {ok, xmpp_facts()} | {error, closed}.
xmpp_facts(_Socket) -> ?NOT_LOADED.

%% Makes a process the owner after a start message. It is sent '$megaphone_recv' for the stream header; once it has died,
%% what it has sent goes out and the session closes.
-spec xmpp_started(xmpp_socket(), pid()) -> ok | {error, closed}.
xmpp_started(_Socket, _Owner) -> ?NOT_LOADED.

%% What has come, for the owner: it is read, decoded and parsed in this call, a measure at a time. more: ask again when these
%% events have been dealt with, which asking says (after an element of SASL nothing else is given before). wait: the
%% owner is sent '$megaphone_recv' when there is something. large: nothing was taken, it needs xmpp_recv_large/1.
%% closed: the session is gone, and there is no more to take.
-spec xmpp_recv(xmpp_socket()) -> {[xmpp_event()], more | wait} | large | {error, closed}.
xmpp_recv(_Socket) -> ?NOT_LOADED.

%% The same on a dirty scheduler, for an event that takes its time.
-spec xmpp_recv_large(xmpp_socket()) -> {[xmpp_event()], more | wait} | {error, closed}.
xmpp_recv_large(_Socket) -> ?NOT_LOADED.

%% Only for the owner, and written by the next xmpp_flush/1 or when 64 KB are queued. wait: nothing was taken, the queue
%% is above its mark; call again after {'$megaphone', Reference}. large: nothing was taken, it needs xmpp_send_large/2.
%% badarg: not a packet.
-spec xmpp_send(xmpp_socket(), xmpp_packet()) -> ok | {wait, reference()} | large | {error, atom()}.
xmpp_send(_Socket, _Packet) -> ?NOT_LOADED.

%% The same on a dirty scheduler, for packets that take their time to read and encode.
-spec xmpp_send_large(xmpp_socket(), xmpp_packet()) -> ok | {wait, reference()} | {error, atom()}.
xmpp_send_large(_Socket, _Packet) -> ?NOT_LOADED.

%% The owner wants written what it has sent.
-spec xmpp_flush(xmpp_socket()) -> ok | {error, closed}.
xmpp_flush(_Socket) -> ?NOT_LOADED.

%% Ends a wait to send. Its message may be in the mailbox already.
-spec xmpp_cancel_wait(xmpp_socket()) -> ok.
xmpp_cancel_wait(_Socket) -> ?NOT_LOADED.

%% The owner expects a new stream header (RFC 6120 section 4.3.3).
-spec xmpp_reset(xmpp_socket()) -> ok | {error, closed}.
xmpp_reset(_Socket) -> ?NOT_LOADED.

%% Bounds how many bytes a second are taken from the peer, and how many at once.
-spec xmpp_shaper(xmpp_socket(), none | {Rate :: pos_integer(), Burst :: pos_integer()}) -> ok | {error, closed}.
xmpp_shaper(_Socket, _Shaper) -> ?NOT_LOADED.

%% Only for the owner. What is queued is sent in the background.
-spec xmpp_close(xmpp_socket()) -> ok | {error, closed}.
xmpp_close(_Socket) -> ?NOT_LOADED.

%% What is queued is lost.
-spec xmpp_abort(xmpp_socket()) -> ok | {error, closed}.
xmpp_abort(_Socket) -> ?NOT_LOADED.

-spec xmpp_peername(xmpp_socket()) -> {ok, address()} | {error, atom()}.
xmpp_peername(_Socket) -> ?NOT_LOADED.

-spec xmpp_sockname(xmpp_socket()) -> {ok, address()} | {error, atom()}.
xmpp_sockname(_Socket) -> ?NOT_LOADED.

-spec xmpp_info(xmpp_socket()) -> {ok, #{atom() => term()}} | {error, closed}.
xmpp_info(_Socket) -> ?NOT_LOADED.

%% --- states of hibernating processes

%% A state in external term format, as few bytes of which the first is not 0. none: it doesn't pay, or is larger than 16 KB.
%% Kind (0 to 3): states of one kind are alike, and are the dictionary for those that follow (at most 4 a kind, of 8 KB).
-spec pack(Kind :: 0..3, State :: binary()) -> Packed :: binary() | none.
pack(_Kind, _State) -> ?NOT_LOADED.

%% badarg: this has not been packed in this VM.
-spec unpack(Packed :: binary()) -> State :: binary().
unpack(_Packed) -> ?NOT_LOADED.

%% Makes the connection's reactor panic while it works on it. Only in the library for tests.
-spec inject_panic(conn()) -> ok | {error, closed}.
inject_panic(_Conn) -> ?NOT_LOADED.
