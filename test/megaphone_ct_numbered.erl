%% Users of every transport who send each other numbered messages, each to the next one in a ring. What was sent and not
%% received, or received twice, is found by its number.
%%
%% A batch is sent when the test says so, and what has come waits in the kernel until the test collects it, for all at the
%% same time: a BOSH session ends when its client has no request at the server for long.
-module(megaphone_ct_numbered).

-export([users/4, jids/1, sockets/1, send/2, collect/1, leave/1]).

-export_type([users/0, socket/0]).

-type socket() ::
    {tcp, gen_tcp:socket()}
    | {websocket, gen_tcp:socket()}
    | {bosh, megaphone_ct_xmpp:bosh(), Unanswered :: non_neg_integer()}.

-opaque users() :: [#{
    jid := string(),
    socket := socket(),
    sent := non_neg_integer(),
    received := non_neg_integer()
}].

%% So long does the server hold a BOSH request, in seconds.
-define(BOSH_WAIT, "1").

%% So often is a message waited for, each time as long as the modules that receive it do.
-define(PATIENCE, 5).

%% So many users of each transport.
-spec users(pos_integer(), C2sPort :: inet:port_number(), HttpPort :: inet:port_number(),
            fun(() -> megaphone_ct_client:account())) -> users().
users(Count, C2sPort, HttpPort, Account) ->
    [user(Transport, C2sPort, HttpPort, Account()) || _ <- lists:seq(1, Count), Transport <- [tcp, websocket, bosh]].

user(tcp, Port, _, Account) ->
    {Socket, Jid} = megaphone_ct_xmpp:login(Port, Account),
    user(Jid, {tcp, Socket});
user(websocket, _, Port, Account) ->
    {Socket, Jid} = megaphone_ct_websocket:login(Port, megaphone_ct_http:websocket_request("/ws", []), Account),
    user(Jid, {websocket, Socket});
user(bosh, _, Port, Account) ->
    {Session, Jid} = megaphone_ct_xmpp:bosh_login(Port, Account, [], ?BOSH_WAIT),
    user(Jid, {bosh, Session, 0}).

user(Jid, Socket) -> #{jid => Jid, socket => Socket, sent => 0, received => 0}.

-spec jids(users()) -> [string()].
jids(Users) -> [Jid || #{jid := Jid} <- Users].

-spec sockets(users()) -> [socket()].
sockets(Users) -> [Socket || #{socket := Socket} <- Users].

%% Each sends so many messages to the next, and waits for nothing. A BOSH client may have two requests unanswered: between
%% two calls of collect/1 there are two of this at most.
-spec send(users(), pos_integer()) -> users().
send(Users, Count) ->
    Next = tl(Users) ++ [hd(Users)],
    [User#{socket := send_batch(Socket, [message(To, Number) || Number <- lists:seq(Sent + 1, Sent + Count)]),
           sent := Sent + Count}
     || {#{socket := Socket, sent := Sent} = User, #{jid := To}} <- lists:zip(Users, Next)].

message(To, Number) ->
    ["<message xmlns='jabber:client' to='", To, "'><body>", integer_to_list(Number), "</body></message>"].

send_batch({tcp, Socket}, Messages) ->
    ok = gen_tcp:send(Socket, Messages),
    {tcp, Socket};
send_batch({websocket, Socket}, Messages) ->
    ok = gen_tcp:send(Socket, [megaphone_ct_websocket:message(Message) || Message <- Messages]),
    {websocket, Socket};
send_batch({bosh, Session, Unanswered}, Messages) when Unanswered < 2 ->
    {bosh, megaphone_ct_xmpp:bosh_post(Session, "", Messages), Unanswered + 1}.

%% Returns when everybody has all that was sent to them, each message once and in order.
-spec collect(users()) -> users().
collect(Users) ->
    Before = [lists:last(Users) | lists:droplast(Users)],
    Collectors = [spawn_monitor(fun() -> exit({collected, collect(User, Sent)}) end)
                  || {User, #{sent := Sent}} <- lists:zip(Users, Before)],
    [receive
         {'DOWN', Monitor, process, Pid, {collected, User}} -> User;
         {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
     end || {Pid, Monitor} <- Collectors].

collect(#{socket := Socket, received := Received} = User, Sent) ->
    {Next, Numbers} = collect_up_to(Socket, Sent - Received, []),
    case lists:seq(Received + 1, Sent) of
        Numbers -> User#{socket := Next, received := Sent};
        Expected -> error({messages, User, {lost, Expected -- Numbers}, {repeated, Numbers -- Expected}, Numbers})
    end.

collect_up_to(Socket, Count, Numbers) when length(Numbers) >= Count -> {answered(Socket), Numbers};
collect_up_to(Socket, Count, Numbers) ->
    {Next, Bytes} = receive_some(Socket),
    collect_up_to(Next, Count, Numbers ++ numbers(Bytes)).

%% A request that is still held answers before the next round.
answered({bosh, Session, Unanswered}) when Unanswered > 0 ->
    {Next, Bytes} = receive_some({bosh, Session, Unanswered}),
    [] = numbers(Bytes),
    answered(Next);
answered(Socket) ->
    Socket.

numbers(Bytes) ->
    case re:run(Bytes, "<body>(\\d+)</body>", [global, {capture, all_but_first, list}]) of
        {match, Found} -> [list_to_integer(Number) || [Number] <- Found];
        nomatch -> []
    end.

%% Whole messages: a stanza may come in pieces.
receive_some({tcp, Socket}) ->
    {{tcp, Socket}, patiently(fun() -> megaphone_ct_xmpp:await(Socket, "</message>\\z") end, ?PATIENCE)};
receive_some({websocket, Socket}) ->
    {{websocket, Socket}, patiently(fun() -> megaphone_ct_websocket:await(Socket, "</message>") end, ?PATIENCE)};
receive_some({bosh, Session, 0}) ->
    receive_some({bosh, megaphone_ct_xmpp:bosh_post(Session, "", ""), 1});
receive_some({bosh, Session, Unanswered}) ->
    #{status := 200, body := Body} = patiently(fun() -> megaphone_ct_xmpp:bosh_http_response(Session) end, ?PATIENCE),
    re:run(Body, "type=.terminate") =:= nomatch orelse error({terminated, Body}),
    {{bosh, Session, Unanswered - 1}, Body}.

%% Thousands of users on a small machine may wait for each other.
patiently(Receive, 1) -> Receive();
patiently(Receive, Times) ->
    try Receive()
    catch
        error:{timeout, {'after', <<>>}} -> patiently(Receive, Times - 1);
        error:{badmatch, {error, timeout}} -> patiently(Receive, Times - 1)
    end.

-spec leave(users()) -> ok.
leave(Users) ->
    lists:foreach(
        fun(#{socket := {bosh, Session, _}}) -> megaphone_ct_xmpp:bosh_hang_up(Session);
           (#{socket := {_, Socket}}) -> gen_tcp:close(Socket)
        end, Users).
