%% Starts the process that handles a connection: when a complete request is there (mode http), as soon as the client has
%% connected (mode raw), or when an XMPP stream begins.
%%
%% A starter is a process of its own, and not the listener's, because connections outlive their listener: the next
%% request on one of them still needs its handler.
-module(megaphone_starter).

-export([count/0, pid/1, start_link/1, is_handler/1, start_handler/2, start_xmpp_handler/2]).
%% Starting points of processes.
-export([init/2, run/2]).

-export_type([handler/0, xmpp_handler/0]).

-include_lib("kernel/include/logger.hrl").

%% The function or the MFA gets the socket as its (first) argument and is all that its process does. A function that
%% is tagged with start starts the process itself, as ejabberd's listener modules do; it runs in the starter and must
%% not wait for anything.
-type handler() ::
    fun((megaphone:socket()) -> term())
    | {module(), atom(), [term()]}
    | {start, module(), atom(), [term()]}.

%% Starts the process of an XMPP session, whose socket is the first argument, and names it to the library by
%% megaphone_nif:xmpp_started/2. ignore: the session is over already. It runs in the starter as well.
-type xmpp_handler() :: {start, module(), atom(), [term()]}.

-define(MAX_STARTERS, 8).

%% How many starters there are. A listener has one of them; more than one keep listeners out of each other's way.
-spec count() -> pos_integer().
count() -> min(?MAX_STARTERS, erlang:system_info(schedulers)).

%% The N-th starter. undefined while it is being restarted.
-spec pid(pos_integer()) -> pid() | undefined.
pid(N) -> whereis(name(N)).

-spec is_handler(term()) -> boolean().
is_handler(Handler) when is_function(Handler, 1) -> true;
is_handler({M, F, A}) -> is_atom(M) andalso is_atom(F) andalso is_list(A);
is_handler({start, M, F, A}) -> is_handler({M, F, A});
is_handler(_) -> false.

%% Starts the handler and makes it the owner. {error, closed}: the connection has ended meanwhile.
-spec start_handler(handler(), megaphone:conn()) -> {ok, pid()} | {error, term()}.
start_handler({start, M, F, A}, Conn) ->
    case apply(M, F, [megaphone:socket(Conn) | A]) of
        {ok, Pid} ->
            %% closed: the handler was quick, and has answered and closed already.
            _ = megaphone_nif:handler_started(Conn, Pid),
            {ok, Pid};
        NotStarted ->
            {error, {not_started, NotStarted}}
    end;
start_handler(Handler, Conn) ->
    {ok, proc_lib:spawn(?MODULE, run, [Handler, Conn])}.

-spec start_xmpp_handler(xmpp_handler(), megaphone_nif:xmpp_socket()) -> {ok, pid()} | ignore | {error, term()}.
start_xmpp_handler({start, M, F, A}, Socket) ->
    case apply(M, F, [Socket | A]) of
        {ok, Pid} -> {ok, Pid};
        ignore -> ignore;
        NotStarted -> {error, {not_started, NotStarted}}
    end.

%% The process of a handler that is a function or an MFA. It is the owner before the handler's first call.
-spec run(handler(), megaphone:conn()) -> term().
run(Handler, Conn) ->
    case megaphone_nif:handler_started(Conn, self()) of
        ok -> handle(Handler, megaphone:socket(Conn));
        {error, closed} -> closed
    end.

handle({M, F, A}, Socket) -> apply(M, F, [Socket | A]);
handle(Function, Socket) -> Function(Socket).

%% --- the process

-spec start_link(pos_integer()) -> {ok, pid()}.
start_link(N) -> proc_lib:start_link(?MODULE, init, [self(), N]).

-spec init(Parent :: pid(), pos_integer()) -> no_return().
init(Parent, N) ->
    true = register(name(N), self()),
    ok = megaphone_listener:starter_started(N, self()),
    proc_lib:init_ack(Parent, {ok, self()}),
    loop().

name(N) -> list_to_atom("megaphone_starter_" ++ integer_to_list(N)).

loop() ->
    receive
        {'$megaphone_start', Listener, Socket} -> start(Listener, Socket);
        Other -> ?LOG_WARNING("megaphone_starter got an unexpected message: ~tp", [Other])
    end,
    loop().

%% A failing handler costs its connection and nothing else.
start(Listener, Socket) ->
    try megaphone:start(Listener, Socket) of
        {ok, _} -> ok;
        ignore -> ok;
        {error, Reason} -> not_started(Listener, Socket, Reason)
    catch
        Class:Reason:Stack -> not_started(Listener, Socket, {Class, Reason, Stack})
    end.

not_started(Listener, Socket, Reason) ->
    ?LOG_ERROR("Megaphone could not start a handler for connection ~w of listener ~w and closes it: ~tp",
               [Socket, Listener, Reason]),
    _ = megaphone:close(Socket),
    ok.
