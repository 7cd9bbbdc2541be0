%% What Megaphone offers to a program and to a shell: listeners whose connections cost no process while they are idle,
%% and a look at them.
%%
%% A connection is a small integer, never given out again; what it stands for is found in the native library. The
%% socket that gen_tcp, inet and file take is socket(Conn).
-module(megaphone).

-export([start_listener/2, start_listener/3, start_link/4, child_spec/4, listen/2]).
-export([stop_listener/1, stop_listener/2, listeners/0, listener/1, links/0]).
-export([start/1, start/2, get_data/1, get_data/2]).
-export([connections/0, info/1, stats/0, close/1, socket/1]).

-export_type([conn/0, listener/0, socket/0, listener_socket/0, place/0, handler/0, options/0]).

-type conn() :: non_neg_integer().
-type listener() :: integer().
-type socket() :: {'$inet', megaphone_socket, conn()}.
-type listener_socket() :: {'$inet', megaphone_socket, {listener, listener()}}.

%% A port (0: the system chooses), gen_tcp's listening socket, or the descriptor of one that another program has
%% opened. A socket and a descriptor stay the caller's; Megaphone uses a copy.
-type place() :: inet:port_number() | gen_tcp:socket() | {fd, non_neg_integer()}.

%% What a connection's process runs. The process is linked to nothing, owns the socket, and closes it by ending.
%% links: the connections are links from external connection managers (docs/ecm.md), which carry those of their clients.
%% Each client's is a connection of the listener that its manager asks for by name (option link_name), and like any other
%% there: its peername is the client's, its sockname the manager's.
-type handler() :: megaphone_starter:handler() | links.

%% mode: raw (the default) starts the handler as soon as a client has connected; http starts it when a complete
%% request is there, and parks the connection without a process between requests.
%% socket: options for gen_tcp:listen/2, when the place is a port.
%% proxy_protocol: true if each connection begins with a header of the PROXY protocol, version 1 or 2; one without is
%% closed. peername and sockname are the header's then. Networks, at most 256 as {Ip, Length}: the same, and who connects
%% from elsewhere is closed. Name them where clients can reach the port, for whoever is believed can be anybody.
%% link_name: the name, 1 to 128 bytes, by which connection managers ask for this listener. Of several, the last opened has it.
%% The others are those of megaphone_nif:listen_options(); of a listener for links those of megaphone_link_options:options(),
%% and socket.
-type options() :: #{mode => raw | http, socket => [gen_tcp:listen_option()], atom() => term()}.

%% --- listeners

-spec start_listener(place(), handler()) -> {ok, listener()} | {error, term()}.
start_listener(Place, Handler) -> start_listener(Place, Handler, #{}).

%% Starts to accept connections. The listener lives until stop_listener/1,2 or the end of the application, whatever its
%% processes suffer. What handles connections belongs to the caller's application: it has the caller's group leader. The
%% place's errors are gen_tcp:listen's; an option of links gives {bad_option, Name, WhatToDo}.
-spec start_listener(place(), handler(), options()) -> {ok, listener()} | {error, term()}.
start_listener(Place, Handler, Options) ->
    case megaphone_listener_sup:start((spec(make_ref(), Place, Handler, Options))#{owner => listeners_sup()}) of
        {ok, _Supervisor, Listener} -> {ok, Listener};
        {error, _} = Error -> Error
    end.

listeners_sup() ->
    case whereis(megaphone_listeners_sup) of
        undefined -> self();  % then it is not started at all
        Pid -> Pid
    end.

%% A listener in a supervision tree of one's own: the process is the supervisor of this listener alone, and stops
%% accepting when it ends. When it is started again under the same name, it opens its place again, and goes on to serve
%% the connections that there are. It ends with reason shutdown after stop_listener/1,2.
-spec start_link(Name :: term(), place(), handler(), options()) -> {ok, pid()} | {error, term()}.
start_link(Name, Place, Handler, Options) ->
    megaphone_listener_sup:start_link(spec(Name, Place, Handler, Options)).

%% The same for a supervisor's list. The application megaphone has to be started before.
-spec child_spec(Name :: term(), place(), handler(), options()) -> supervisor:child_spec().
child_spec(Name, Place, Handler, Options) ->
    #{id => {?MODULE, Name}, start => {?MODULE, start_link, [Name, Place, Handler, Options]}, restart => transient,
      type => supervisor, shutdown => infinity}.

spec(Name, Place, Handler, Options) when is_map(Options) ->
    true = Handler =:= links orelse megaphone_starter:is_handler(Handler) orelse error(badarg, [Place, Handler, Options]),
    {SocketOptions, ListenOptions} = case maps:take(socket, Options) of
        error -> {[], Options};
        Taken -> Taken
    end,
    (spec(Handler, ListenOptions))#{name => Name, place => Place, group_leader => group_leader(),
                                    socket_options => SocketOptions}.

spec(links, Options) -> #{handlers => #{}, options => megaphone_link_options:hide_secret(Options#{mode => links})};
spec(Handler, Options) -> #{handlers => #{handler => Handler}, options => maps:merge(#{mode => raw}, Options)}.

%% A listening socket for gen_tcp:accept/1,2, which gives the accepting process a Megaphone socket. It closes when the
%% calling process ends. SocketOptions are gen_tcp:listen/2's; what they do not say is as with [binary, {active, false}],
%% where OTP has list and {active, true}.
-spec listen(inet:port_number(), [gen_tcp:listen_option()]) -> {ok, listener_socket()} | {error, term()}.
listen(Port, SocketOptions) ->
    case megaphone_listener:open_for_accept(Port, SocketOptions) of
        {ok, Listener} -> {ok, {'$inet', megaphone_socket, {listener, Listener}}};
        {error, _} = Error -> Error
    end.

%% Frees the port. The listener's connections live on, as those of a closed gen_tcp listener do. Of a listener for links:
%% its managers are told to bring no more clients.
-spec stop_listener(listener()) -> ok | {error, closed}.
stop_listener(Listener) -> megaphone_listener:close(Listener).

%% Frees the port, waits until all connections have closed, and closes those that are left after drain milliseconds, and
%% the BOSH sessions that began on one.
-spec stop_listener(listener(), #{drain := timeout()}) -> ok | {error, closed}.
stop_listener(Listener, #{drain := Timeout}) -> megaphone_listener:drain(Listener, Timeout).

%% The listeners that accept, or still have connections.
-spec listeners() -> [#{id := listener(), connections := non_neg_integer(), _ => _}].
listeners() -> megaphone_listener:all().

%% The listener of this name that accepts. Its processes: supervisor:which_children/1 of the supervisor that
%% listeners/0 tells.
-spec listener(Name :: term()) -> {ok, listener()} | error.
listener(Name) ->
    case [Listener || #{id := Listener, name := Its, is_open := true} <- listeners(), Its =:= Name] of
        [Listener | _] -> {ok, Listener};
        [] -> error
    end.

%% The links from connection managers that there are, also those that wait for their connection to be made again.
-spec links() -> [megaphone_nif:link_info()].
links() -> megaphone_nif:links().

%% --- connections

%% Starts the handler for a connection that has a complete request (mode http) or has just been accepted (mode raw).
%% What a starter does on a start message.
-spec start(conn()) -> {ok, pid()} | ignore | {error, term()}.
start(Conn) ->
    case megaphone_nif:info(Conn) of
        {ok, #{listener := Listener}} -> start(Listener, Conn);
        {ok, _} -> {error, no_listener};
        {error, _} = Error -> Error
    end.

%% The same where the listener is known. An XMPP session gets its c2s. ignore: it is over already, or has been started.
-spec start(listener(), conn() | megaphone_nif:xmpp_socket()) -> {ok, pid()} | ignore | {error, term()}.
start(Listener, Socket) ->
    case megaphone_registry:lookup(Listener) of
        {ok, Facts} -> megaphone_starter:start(Socket, Facts);
        error -> {error, no_listener}
    end.

-spec get_data(conn()) -> {ok, term()} | {wait, reference(), timeout()} | {error, term()}.
get_data(Conn) -> get_data(Conn, 0).

%% Takes data that is there. When there is none, the caller is registered and gets one {'$megaphone', Reference} when
%% there is: see megaphone_socket:recv/3, which is the way to wait for it. Length as in gen_tcp:recv/2.
-spec get_data(conn(), Length :: non_neg_integer()) ->
    {ok, term()} | {wait, reference(), ParkAfter :: timeout()} | {error, term()}.
get_data(Conn, Length) ->
    case megaphone_nif:get_data(Conn, Length) of
        large -> megaphone_nif:get_large_data(Conn, Length);
        Result -> Result
    end.

%% All open connections, in no order. A million of them are a list of 16 MB.
-spec connections() -> [conn()].
connections() -> megaphone_nif:connections().

%% Of a connection, or of an XMPP session such as {tcp, Conn}.
-spec info(conn() | megaphone_nif:xmpp_socket()) -> {ok, #{atom() => term()}} | {error, closed}.
info({_, _} = Session) -> megaphone_nif:xmpp_info(Session);
info(Conn) -> megaphone_nif:info(Conn).

%% Counters of the whole library since its start.
-spec stats() -> #{atom() => term()}.
stats() -> megaphone_nif:stats().

%% Closes a connection or an XMPP session at once, whatever it is doing. Its process gets {error, closed}, a c2s its
%% closed event.
-spec close(conn() | megaphone_nif:xmpp_socket()) -> ok | {error, closed}.
close({_, _} = Session) -> megaphone_nif:xmpp_abort(Session);
close(Conn) -> megaphone_nif:abort(Conn).

%% The socket of a connection, for gen_tcp, inet and file:sendfile.
-spec socket(conn()) -> socket().
socket(Conn) -> {'$inet', megaphone_socket, Conn}.
