%% Real ejabberd with users on every transport, while whatever runs Megaphone is killed: no port is lost, no session ends,
%% and who comes meanwhile is served.
-module(megaphone_survival_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([killed_children_cost_nobody_anything/1, killed_listeners_of_ejabberd_come_back/1,
         failed_applications_cost_nobody_anything/1, logins_survive_their_starter/1,
         requests_survive_their_starter/1, closed_listener_refuses_clients/1,
         stopped_application_is_served_again/1, changed_listeners_keep_their_ports/1, processes_belong_to_ejabberd/1,
         validation_starts_nothing/1]).
%% Called in ejabberd's node.
-export([kill/1, kill_starters/2, stop_killing/1, find/1, supervised/0]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sessions, [account/1, c2s_port/1, call/4, ejabberd/1]).
-import(megaphone_ct_xmpp, [login/2, await/2, ping/2, bosh_login/2, bosh_exchange/4]).

%% Of each transport.
-define(USERS, 10).
-define(MANY_USERS, 667).
-define(KILLS, 10).
-define(RELOADS, 12).

suite() -> [{timetrap, {minutes, 5}}].

all() ->
    [validation_starts_nothing, processes_belong_to_ejabberd, killed_children_cost_nobody_anything,
     killed_listeners_of_ejabberd_come_back, failed_applications_cost_nobody_anything, logins_survive_their_starter,
     requests_survive_their_starter, changed_listeners_keep_their_ports, stopped_application_is_served_again,
     closed_listener_refuses_clients].

init_per_suite(Config) -> megaphone_ct_sessions:start(megaphone, [{max_inactivity, 60} | Config]).

end_per_suite(Config) -> megaphone_ct_sessions:stop(Config).

%% --- users

%% So many of each transport.
log_in(Config, Count) ->
    [LogIn(Config, account(Config))
     || LogIn <- [fun tcp_user/2, fun websocket_user/2, fun bosh_user/2], _ <- lists:seq(1, Count)].

%% {Jid, Session, Ping}: how the user asks the server for something, and is answered.
tcp_user(Config, Account) ->
    {Socket, Jid} = login(c2s_port(Config), Account),
    {Jid, Socket, fun(_, Id) -> ok = gen_tcp:send(Socket, ping(Id, 0)), _ = await(Socket, "id='" ++ Id), Socket end}.

websocket_user(Config, Account) ->
    {Socket, Jid} = megaphone_ct_websocket:login(http_port(Config), megaphone_ct_http:websocket_request("/ws", []), Account),
    Ping = fun(_, Id) ->
        Stanza = ["<iq xmlns='jabber:client' type='get' id='", Id, "'><ping xmlns='urn:xmpp:ping'/></iq>"],
        ok = gen_tcp:send(Socket, megaphone_ct_websocket:message(Stanza)),
        _ = megaphone_ct_websocket:await(Socket, "id='" ++ Id),
        Socket
    end,
    {Jid, Socket, Ping}.

bosh_user(Config, Account) ->
    {Session, Jid} = bosh_login(http_port(Config), Account),
    Stanza = fun(Id) -> ["<iq xmlns='jabber:client' type='get' id='", Id, "'><ping xmlns='urn:xmpp:ping'/></iq>"] end,
    {Jid, Session, fun(Its, Id) -> element(1, bosh_exchange(Its, "", Stanza(Id), "id='" ++ Id)) end}.

talk(Users) -> [{Jid, Ping(Session, unique()), Ping} || {Jid, Session, Ping} <- Users].

unique() -> "p" ++ integer_to_list(erlang:unique_integer([positive])).

%% A user whose connection breaks, and whose session waits for the next one (XEP-0198, 5).
away(Config, Account) ->
    {Socket, Jid} = login(c2s_port(Config), Account),
    Id = megaphone_ct_xmpp:enable_resumption(Socket),
    ok = megaphone_ct_xmpp:reset(Socket),
    ok = megaphone_ct_sessions:await_event(Config, {session_pending, list_to_binary(Jid)}),
    {Account, Id}.

resume(Config, {Account, Id}) ->
    {Socket, _} = megaphone_ct_xmpp:resume(c2s_port(Config), Account, Id, "<resumed"),
    ok = gen_tcp:send(Socket, "</stream:stream>"),
    _ = await(Socket, "</stream:stream>"),
    ok = gen_tcp:close(Socket).

%% The processes of their sessions.
sessions(Config, Users) -> [megaphone_ct_sessions:session(Config, Jid) || {Jid, _, _} <- Users].

http_port(Config) -> megaphone_ct_node:port(ejabberd(Config), http).

%% Both ports serve: a stream gets its features, and a request its answer, from a process of ejabberd's.
serves(Config) ->
    Stream = megaphone_ct_http:connect(c2s_port(Config)),
    ok = gen_tcp:send(Stream, megaphone_ct_xmpp:header()),
    _ = await(Stream, "</stream:features>"),
    ok = gen_tcp:close(Stream),
    Http = megaphone_ct_http:connect(http_port(Config)),
    ok = megaphone_ct_http:send(Http, megaphone_ct_http:request("GET", "/bosh")),
    ?assertMatch(#{status := 200}, megaphone_ct_http:response(Http)),
    ok = gen_tcp:close(Http).

%% --- kills

%% Each process of Megaphone's two applications, supervisors as well. Ten in a row are as many as a supervisor takes, or more:
%% then it ends, and the application with it.
killed_children_cost_nobody_anything(Config) ->
    Users = log_in(Config, ?MANY_USERS),
    Sessions = sessions(Config, Users),
    Away = [away(Config, account(Config)) || _ <- lists:seq(1, ?USERS)],
    Victims = [megaphone_log, megaphone_processes, megaphone_waker, megaphone_registry, megaphone_listeners_sup]
        ++ [{Kind, Module} || Kind <- [supervisor, listener, starter], Module <- [megaphone_c2s, megaphone_http]],
    ?assertEqual(lists:sort(call(Config, ?MODULE, supervised, [])),
                 lists:sort([call(Config, ?MODULE, find, [Victim]) || Victim <- Victims])),
    Last = lists:foldl(fun(Victim, Before) -> kill_often(Config, Victim), talk(Before) end, Users, Victims),
    ?assertEqual(Sessions, sessions(Config, Last)),
    [resume(Config, User) || User <- Away],
    ok = log_out(Config, Last).

kill_often(Config, Victim) ->
    [begin ok = call(Config, ?MODULE, kill, [Victim]), serves(Config) end || _ <- lists:seq(1, ?KILLS)].

%% Whoever has a port loses it with its process, on stock, too, and ejabberd opens it again, at the first try.
killed_listeners_of_ejabberd_come_back(Config) ->
    Users = log_in(Config, ?MANY_USERS),
    Sessions = sessions(Config, Users),
    Away = [away(Config, account(Config)) || _ <- lists:seq(1, ?USERS)],
    [begin ok = call(Config, ?MODULE, kill, [{ejabberd, Module}]), await_port(Config), serves(Config) end
     || Module <- [megaphone_c2s, megaphone_http], _ <- lists:seq(1, ?KILLS)],
    Last = talk(Users),
    ?assertEqual(Sessions, sessions(Config, Last)),
    [resume(Config, User) || User <- Away],
    ?assertEqual([], megaphone_ct_node:log(ejabberd(Config), "Failed to open socket")),
    ok = log_out(Config, Last).

await_port(Config) ->
    megaphone_ct_sockets:await(fun() ->
        lists:all(fun can_connect/1, [c2s_port(Config), http_port(Config)])
    end).

%% The supervisors on top: that of the sockets, and that of the listeners, which says goodbye when the node stops.
failed_applications_cost_nobody_anything(Config) ->
    Users = log_in(Config, ?MANY_USERS),
    Sessions = sessions(Config, Users),
    Away = [away(Config, account(Config)) || _ <- lists:seq(1, ?USERS)],
    Last = lists:foldl(fun(Victim, Before) -> kill_often(Config, Victim), talk(Before) end,
                       Users, [megaphone_sup, megaphone_ejabberd_sup]),
    ?assertEqual(Sessions, sessions(Config, Last)),
    [resume(Config, User) || User <- Away],
    ok = log_out(Config, Last).

logins_survive_their_starter(Config) ->
    Killer = call(Config, ?MODULE, kill_starters, [megaphone_c2s, 3]),
    Users = [tcp_user(Config, account(Config)) || _ <- lists:seq(1, 3 * ?USERS)],
    ?assert(call(Config, ?MODULE, stop_killing, [Killer]) > 0),
    ok = log_out(Config, talk(Users)).

requests_survive_their_starter(Config) ->
    Killer = call(Config, ?MODULE, kill_starters, [megaphone_http, 3]),
    lists:foreach(
        fun(_) ->
            Socket = megaphone_ct_http:connect(http_port(Config)),
            ok = megaphone_ct_http:send(Socket, megaphone_ct_http:request("GET", "/bosh")),
            ?assertMatch(#{status := 200}, megaphone_ct_http:response(Socket)),
            ok = gen_tcp:close(Socket)
        end,
        lists:seq(1, 200)),
    ?assert(call(Config, ?MODULE, stop_killing, [Killer]) > 0).

log_out(Config, Users) ->
    [ok = gen_tcp:close(Socket) || {_, Socket, _} <- Users, is_port(Socket)],
    [hang_up(Session) || {_, Session, _} <- Users, is_map(Session)],
    megaphone_ct_sockets:await(fun() -> call(Config, ejabberd_sm, get_all_pids, []) =:= [] end).

hang_up(Session) ->
    {Ended, _} = bosh_exchange(Session, "type='terminate'", "", "<body"),
    ok = megaphone_ct_xmpp:bosh_hang_up(Ended).

%% --- stops and reloads

%% Its listeners wait for it, and their ports with them.
stopped_application_is_served_again(Config) ->
    serves(Config),
    ok = call(Config, application, stop, [megaphone_ejabberd]),
    ok = call(Config, application, stop, [megaphone]),
    Waiting = megaphone_ct_http:connect(http_port(Config)),
    ok = megaphone_ct_http:send(Waiting, megaphone_ct_http:request("GET", "/bosh")),
    ok = call(Config, application, start, [megaphone]),
    ?assertMatch(#{status := 200}, megaphone_ct_http:response(Waiting)),
    ok = gen_tcp:close(Waiting),
    serves(Config).

%% What an operator closes stays closed until the application is started again, and others are not concerned.
closed_listener_refuses_clients(Config) ->
    Users = log_in(Config, ?USERS),
    [Listener] = [Id || #{id := Id, name := {megaphone_c2s, _}, is_open := true} <- call(Config, megaphone, listeners, [])],
    ok = call(Config, megaphone, stop_listener, [Listener]),
    megaphone_ct_sockets:await(fun() -> not can_connect(c2s_port(Config)) end),
    _ = talk(Users),
    ok = call(Config, application, stop, [megaphone]),
    ok = call(Config, application, start, [megaphone]),
    await_port(Config),
    serves(Config).

can_connect(Port) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, []) of
        {ok, Socket} -> ok =:= gen_tcp:close(Socket);
        {error, econnreset} -> true;  % caught up in the end of the port
        {error, econnrefused} -> false
    end.

%% ejabberd ends the process of a changed listener and opens the port at once. Every reload changes each of them.
changed_listeners_keep_their_ports(Config) ->
    Ports = [megaphone_ct_node:free_port() || _ <- lists:seq(1, 4)],
    %% Of the kills before.
    Failures = megaphone_ct_node:log(ejabberd(Config), "Failed to open socket"),
    lists:foreach(
        fun(N) ->
            ok = megaphone_ct_node:reload(ejabberd(Config), listeners(Config, Ports, N)),
            [?assertMatch({N, {ok, _}}, {N, gen_tcp:connect({127, 0, 0, 1}, Port, [])}) || Port <- Ports]
        end,
        lists:seq(1, ?RELOADS)),
    ?assertEqual([], megaphone_ct_node:log(ejabberd(Config), "Failed to open socket") -- Failures),
    ok = megaphone_ct_node:reload(ejabberd(Config), []),
    serves(Config).

listeners(Config, [C2s1, C2s2, Http1, Http2], N) ->
    Size = ["max_stanza_size: ", integer_to_list(100_000 + N)],
    [megaphone_ct_sessions:listener(Config, Port, [Size]) || Port <- [C2s1, C2s2]]
    ++ [megaphone_ct_node:http_listener(megaphone_http, [{port, Port}, {ip, "127.0.0.1"}, {max_head, 60_000 + N}])
        || Port <- [Http1, Http2]].

%% --- order

%% Whatever a session or a handler does, it does for ejabberd: it logs and ends with it, and not with Megaphone.
processes_belong_to_ejabberd(Config) ->
    [{Jid, Socket, _}] = [tcp_user(Config, account(Config))],
    Session = megaphone_ct_sessions:session(Config, Jid),
    ?assertEqual({ok, ejabberd}, call(Config, application, get_application, [Session])),
    ?assertEqual(call(Config, erlang, process_info, [call(Config, erlang, whereis, [ejabberd_sm]), group_leader]),
                 call(Config, erlang, process_info, [Session, group_leader])),
    ok = gen_tcp:close(Socket).

validation_starts_nothing(_Config) ->
    _ = application:stop(megaphone),
    _ = [Module:listen_options() || Module <- [megaphone_c2s, megaphone_http]],
    ?assertEqual(false, lists:keyfind(megaphone, 1, application:which_applications())).

%% --- in ejabberd's node

%% Kills a process and returns when there is another in its place.
kill(Victim) ->
    Pid = find(Victim),
    Monitor = monitor(process, Pid),
    true = exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, killed} -> ok end,
    megaphone_ct_sockets:await(fun() -> is_replaced(Victim, Pid) end).

is_replaced(Victim, Pid) ->
    try find(Victim) of
        Next -> is_pid(Next) andalso Next =/= Pid
    catch
        _:_ -> false  % the supervisor is being started again, too
    end.

%% All processes below the supervisor of the sockets; that of ejabberd's listeners has none.
supervised() -> below(megaphone_sup) ++ below(megaphone_ejabberd_sup).

below(Supervisor) -> lists:flatmap(fun child/1, supervisor:which_children(Supervisor)).

child({_, Pid, supervisor, _}) -> [Pid | below(Pid)];
child({_, Pid, worker, _}) -> [Pid].

find(Name) when is_atom(Name) -> whereis(Name);
find({ejabberd, Module}) ->
    hd([Pid || {EndPoint, Pid, _, _} <- supervisor:which_children(ejabberd_listener), is_pid(Pid),
               {Known, Its, _} <- ets:tab2list(ejabberd_listener), Known =:= EndPoint, Its =:= Module]);
find({supervisor, Module}) ->
    hd([Pid || #{supervisor := Pid, name := {Its, _}, is_open := true} <- megaphone:listeners(), Its =:= Module,
               is_process_alive(Pid)]);
find({Child, Module}) ->
    {_, Pid, _, _} = lists:keyfind(Child, 1, supervisor:which_children(find({supervisor, Module}))),
    Pid.

%% Kills the starter of a module's listener every so many milliseconds.
kill_starters(Module, Interval) ->
    spawn(fun() -> killing(Module, Interval, 0) end).

killing(Module, Interval, Count) ->
    receive {stop, From, Ref} -> From ! {Ref, Count}
    after Interval ->
        Killed = try exit(find({starter, Module}), kill) of true -> 1 catch _:_ -> 0 end,
        killing(Module, Interval, Count + Killed)
    end.

%% How often it did.
stop_killing(Killer) ->
    Ref = make_ref(),
    Killer ! {stop, self(), Ref},
    receive {Ref, Count} -> Count end.
