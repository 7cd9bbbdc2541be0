%% Starts the processes that handle the connections of one listener: when a complete request is there (mode http), as
%% soon as the client has connected (mode raw), or when an XMPP stream begins.
%%
%% It outlives the listening socket, because connections do: the next request on one of them still needs its handler.
%% What a starter was told and had not done when it died, the library tells the next one.
-module(megaphone_starter).
-behaviour(gen_server).

-export([start_link/3, is_handler/1, start/2]).
%% Starting point of a handler's process.
-export([run/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([handler/0, xmpp_handler/0]).

-include_lib("kernel/include/logger.hrl").

%% The function or the MFA gets the socket as its (first) argument and is all that its process does. A function that
%% is tagged with start starts the process itself, as ejabberd's listener modules do; it runs in the starter and must
%% not wait for anything. {ok, Pid}: that process is the owner from then on. Nobody becomes it by using the socket; one
%% that has to be it before the function returns is handed the connection by gen_tcp:controlling_process/2. ignore: there
%% is to be no process, and the connection closes; so it does after anything else, which is logged. It runs again for the
%% same connection, by another name, when the starter dies before there is an owner (docs/erlang-api.md).
-type handler() ::
    fun((megaphone:socket()) -> term())
    | {module(), atom(), [term()]}
    | {start, module(), atom(), [term()]}.

%% Starts the process of an XMPP session, whose socket is the first argument. That process, or this function, names it
%% to the library by megaphone_nif:xmpp_started/2. ignore: there is to be none, and the session ends unless it has one. It
%% runs in the starter as well.
-type xmpp_handler() :: {start, module(), atom(), [term()]}.

%% Starts that wait until the node may have more processes (megaphone_processes), the longest first. Each is a connection
%% or a session that waits in the library, and for no longer than start_timeout.
-type state() :: #{
    handlers := megaphone_listener:handlers(),
    waiting := queue:queue({megaphone:listener(), megaphone:conn() | megaphone_nif:xmpp_socket()})
}.

%% How often these are tried, in milliseconds.
-define(RETRY_INTERVAL, 100).

-spec is_handler(term()) -> boolean().
is_handler(Handler) when is_function(Handler, 1) -> true;
is_handler({M, F, A}) -> is_atom(M) andalso is_atom(F) andalso is_list(A);
is_handler({start, M, F, A}) -> is_handler({M, F, A});
is_handler(_) -> false.

%% Starts the process of a connection or session that waits for one. A connection's becomes its owner. ignore: it has a
%% process, is over, or gets none. no_listener: its listener has no handler for such.
-spec start(megaphone:conn() | megaphone_nif:xmpp_socket(), megaphone_listener:handlers() | megaphone_registry:facts()) ->
    {ok, pid()} | ignore | {error, term()}.
start({_, _} = Session, #{xmpp_handler := Handler}) -> start_xmpp_handler(Handler, Session);
start(Conn, #{handler := Handler}) when is_integer(Conn) -> start_handler(Handler, Conn);
start(_Socket, _Handlers) -> {error, no_listener}.

start_handler(Handler, Conn) ->
    %% A start may be told twice: before and after a starter was replaced.
    case megaphone_nif:owner(Conn) of
        {ok, undefined} -> start_first_handler(Handler, Conn);
        _ -> ignore
    end.

start_first_handler({start, M, F, A}, Conn) ->
    case apply(M, F, [megaphone:socket(Conn) | A]) of
        {ok, Pid} ->
            %% closed: the handler was quick, and has answered and closed already. not_owner: it was handed over before.
            _ = megaphone_nif:handler_started(Conn, Pid),
            {ok, Pid};
        ignore ->
            _ = megaphone_nif:owner(Conn) =:= {ok, undefined} andalso megaphone_nif:close(Conn),
            ignore;
        NotStarted ->
            {error, {not_started, NotStarted}}
    end;
start_first_handler(Handler, Conn) ->
    {ok, proc_lib:spawn(?MODULE, run, [Handler, Conn])}.

start_xmpp_handler({start, M, F, A}, Socket) ->
    case apply(M, F, [Socket | A]) of
        {ok, Pid} -> {ok, Pid};
        ignore -> _ = is_unowned(Socket) andalso megaphone_nif:xmpp_abort(Socket), ignore;
        NotStarted -> {error, {not_started, NotStarted}}
    end.

is_unowned(Session) ->
    case megaphone_nif:xmpp_info(Session) of
        {ok, #{owner := Owner}} -> Owner =:= undefined;
        {error, closed} -> false
    end.

%% The process of a handler that is a function or an MFA. It is the owner before the handler's first call; closed: the
%% client has left, not_owner: another has it.
-spec run(handler(), megaphone:conn()) -> term().
run(Handler, Conn) ->
    case megaphone_nif:handler_started(Conn, self()) of
        ok -> handle(Handler, megaphone:socket(Conn));
        {error, Reason} -> Reason
    end.

handle({M, F, A}, Socket) -> apply(M, F, [Socket | A]);
handle(Function, Socket) -> Function(Socket).

%% --- the process

%% Handlers inherit its group leader, and so belong to the application that it is of. One that has ended leaves them
%% to this application.
-spec start_link([megaphone:listener()], megaphone_listener:handlers(), GroupLeader :: pid()) ->
    {ok, pid()} | {error, term()}.
start_link(Listeners, Handlers, GroupLeader) ->
    gen_server:start_link(?MODULE, {Listeners, Handlers, GroupLeader}, []).

-spec init({[megaphone:listener()], megaphone_listener:handlers(), pid()}) -> {ok, state()}.
init({Listeners, Handlers, GroupLeader}) ->
    _ = is_alive(GroupLeader) andalso group_leader(GroupLeader, self()),
    %% closed: a former listener, whose last connection has gone.
    _ = [megaphone_nif:set_starter(Listener, self()) || Listener <- Listeners],
    {ok, #{handlers => Handlers, waiting => queue:new()}}.

is_alive(Pid) -> node(Pid) =/= node() orelse is_process_alive(Pid).

-spec handle_call(term(), gen_server:from(), state()) -> {reply, {error, unknown_call}, state()}.
handle_call(Call, _From, State) ->
    ?LOG_WARNING("megaphone_starter got an unexpected call: ~tp", [Call]),
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), state()) -> {noreply, state()}.
handle_cast(Message, State) ->
    ?LOG_WARNING("megaphone_starter got an unexpected message: ~tp", [Message]),
    {noreply, State}.

-spec handle_info(term(), state()) -> {noreply, state()}.
handle_info({'$megaphone_start', Listener, Socket}, State) ->
    {noreply, start_in_turn({Listener, Socket}, State)};
handle_info(start_waiting, State) ->
    {noreply, start_waiting(State)};
handle_info(Message, State) ->
    ?LOG_WARNING("megaphone_starter got an unexpected message: ~tp", [Message]),
    {noreply, State}.

%% Behind those that wait already.
start_in_turn(Start, #{handlers := Handlers, waiting := Waiting} = State) ->
    case queue:is_empty(Waiting) andalso start_one(Start, Handlers) of
        ok ->
            State;
        no_room ->
            _ = erlang:send_after(?RETRY_INTERVAL, self(), start_waiting),
            State#{waiting := queue:in(Start, Waiting)};
        false ->
            State#{waiting := queue:in(Start, Waiting)}
    end.

start_waiting(#{handlers := Handlers, waiting := Waiting} = State) ->
    case queue:out(Waiting) of
        {empty, _} ->
            State;
        {{value, Start}, Rest} ->
            case start_one(Start, Handlers) of
                ok ->
                    start_waiting(State#{waiting := Rest});
                no_room ->
                    _ = erlang:send_after(?RETRY_INTERVAL, self(), start_waiting),
                    State
            end
    end.

%% no_room: the node has too many processes. A failing handler costs its connection and nothing else.
start_one({Listener, Socket}, Handlers) ->
    try megaphone_processes:has_room() andalso start(Socket, Handlers) of
        {ok, _} -> ok;
        ignore -> ok;
        {error, Reason} -> not_started(Listener, Socket, Reason);
        false -> no_room
    catch
        Class:Reason:Stack -> failed_to_start(Listener, Socket, {Class, Reason, Stack})
    end.

%% Others may have taken the node's last processes meanwhile; there are other limits of the same name.
failed_to_start(Listener, Socket, {_, Reason, _} = Why) ->
    case Reason =:= system_limit andalso megaphone_processes:is_short() of
        true -> no_room;
        false -> not_started(Listener, Socket, Why)
    end.

not_started(Listener, Socket, Reason) ->
    ?LOG_ERROR("Megaphone could not start a handler for connection ~w of listener ~w and closes it: ~tp",
               [Socket, Listener, Reason]),
    _ = megaphone:close(Socket),
    ok.
