%% Connected sockets for tests: a client of gen_tcp's own, and a server of either kind.
-module(megaphone_ct_sockets).

-export([await/1, pair/1, pair/2, by_streams/1, by_sockets/0, hand_over/1, conn/1, receive_all/1, await_function/2, messages/0, peer_node/1, stop_peer/1,
         certificate/1]).

-export_type([kind/0]).

%% inet: OTP's own. megaphone: one of its sockets, or streams after by_streams/1.
-type kind() :: inet | megaphone.

%% The process that brings together the two ends of pairs by streams.
-define(MATCHMAKER, megaphone_ct_sockets_matchmaker).

-define(LOOPBACK, {127, 0, 0, 1}).
-define(TIMEOUT, 10000).

-spec pair(kind()) -> {Client :: gen_tcp:socket(), Server :: gen_tcp:socket()}.
pair(Kind) -> pair(Kind, []).

%% Options are those of the server. The caller owns both sockets.
-spec pair(kind(), [gen_tcp:option()]) -> {Client :: gen_tcp:socket(), Server :: gen_tcp:socket()}.
pair(megaphone, Options) ->
    case persistent_term:get(?MODULE, sockets) of
        sockets -> pair_of_sockets(megaphone, Options);
        {streams, Port} -> pair_by_stream(Port, Options)
    end;
pair(inet, Options) ->
    pair_of_sockets(inet, Options).

pair_of_sockets(Kind, Options) ->
    {ok, Listener} = listen(Kind, [binary, {active, false}, {ip, ?LOOPBACK}]),
    {ok, Port} = inet:port(Listener),
    {ok, Client} = gen_tcp:connect(?LOOPBACK, Port, [binary, {active, false}], ?TIMEOUT),
    {ok, Server} = gen_tcp:accept(Listener, ?TIMEOUT),
    ok = gen_tcp:close(Listener),
    ok = inet:setopts(Server, Options),
    {Client, Server}.

listen(inet, Options) -> gen_tcp:listen(0, Options);
listen(megaphone, Options) -> megaphone:listen(0, Options).

%% From now on, pairs have a server at the end of a stream: Port is a connection manager's, which brings its clients to
%% a listener that has hand_over/1 as its handler.
-spec by_streams(inet:port_number()) -> ok.
by_streams(Port) ->
    true = register(?MATCHMAKER, spawn(fun() -> match(#{}, #{}) end)),
    persistent_term:put(?MODULE, {streams, Port}).

-spec by_sockets() -> ok.
by_sockets() ->
    _ = persistent_term:erase(?MODULE),
    true = exit(whereis(?MATCHMAKER), kill),
    ok.

pair_by_stream(Port, Options) ->
    {ok, Client} = gen_tcp:connect(?LOOPBACK, Port, [binary, {active, false}], ?TIMEOUT),
    {ok, Name} = inet:sockname(Client),
    Ref = make_ref(),
    ?MATCHMAKER ! {want, Name, {self(), Ref}},
    Server = receive {Ref, Socket} -> Socket after ?TIMEOUT -> error({no_stream, Name}) end,
    ok = inet:setopts(Server, Options),
    {Client, Server}.

%% A handler that gives its connection to who has made the other end of it.
-spec hand_over(megaphone:socket()) -> ok.
hand_over(Socket) ->
    {ok, Name} = inet:peername(Socket),
    ?MATCHMAKER ! {have, Name, self()},
    receive
        {to, {Pid, Ref}} ->
            ok = gen_tcp:controlling_process(Socket, Pid),
            Pid ! {Ref, Socket},
            ok
    after ?TIMEOUT -> error({nobody_wants, Name})
    end.

match(Wanted, Had) ->
    receive
        {want, Name, Who} when is_map_key(Name, Had) ->
            maps:get(Name, Had) ! {to, Who},
            match(Wanted, maps:remove(Name, Had));
        {want, Name, Who} ->
            match(Wanted#{Name => Who}, Had);
        {have, Name, Handler} when is_map_key(Name, Wanted) ->
            Handler ! {to, maps:get(Name, Wanted)},
            match(maps:remove(Name, Wanted), Had);
        {have, Name, Handler} ->
            match(Wanted, Had#{Name => Handler})
    end.

-spec conn(megaphone:socket()) -> megaphone:conn().
conn({'$inet', megaphone_socket, Conn}) -> Conn.

%% All bytes up to the end of the stream.
-spec receive_all(gen_tcp:socket()) -> binary().
receive_all(Socket) -> receive_all(Socket, []).

receive_all(Socket, Data) ->
    case gen_tcp:recv(Socket, 0, ?TIMEOUT) of
        {ok, More} -> receive_all(Socket, [Data, More]);
        {error, closed} -> iolist_to_binary(Data)
    end.

%% Returns when a process waits in this function (of any arity).
-spec await_function(pid(), {module(), atom()}) -> ok.
await_function(Pid, {M, F} = Function) ->
    case process_info(Pid, [status, current_function]) of
        [{status, waiting}, {current_function, {M, F, _}}] -> ok;
        [_, _] -> erlang:yield(), await_function(Pid, Function);
        undefined -> error({ended, Pid})
    end.

%% What is in the mailbox, in order, which is empty afterwards.
-spec messages() -> [term()].
messages() ->
    receive Message -> [Message | messages()]
    after 0 -> []
    end.

%% Another operating system process with this one's code path, controlled over its standard input and output.
-spec peer_node([string()]) -> pid().
peer_node(Arguments) ->
    Paths = [Path || Path <- code:get_path(), filename:pathtype(Path) =:= absolute],
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => Arguments ++ ["-pa" | Paths]}),
    Peer.

-spec stop_peer(pid()) -> ok.
stop_peer(Peer) -> peer:stop(Peer).

%% A certificate with its key, for localhost, that signs itself.
-spec certificate(file:filename()) -> file:filename().
certificate(Directory) ->
    [Key, Certificate, Both] = [filename:join(Directory, Name) || Name <- ["key.pem", "cert.pem", "both.pem"]],
    {0, _} = megaphone_ct_client:run("openssl", [
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-keyout", Key, "-out", Certificate
    ]),
    {ok, KeyPem} = file:read_file(Key),
    {ok, CertificatePem} = file:read_file(Certificate),
    ok = file:write_file(Both, [CertificatePem, KeyPem]),
    Both.

%% For what tells nobody when it happens. The time trap is the limit.
-spec await(fun(() -> boolean())) -> ok.
await(Condition) ->
    case Condition() of
        true -> ok;
        false -> erlang:yield(), await(Condition)
    end.
