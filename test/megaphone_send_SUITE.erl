%% What becomes of what a client does not take, and what the log says about sessions: real ejabberd with its own listeners
%% and with Megaphone's.
-module(megaphone_send_SUITE).

-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2]).
-export([client_that_reads_late_gets_everything/1, whitespace_ping_over_tcp/1, log_names_the_process_of_a_tcp_session/1]).
-export([client_that_takes_nothing_is_cut/1, more_than_max_fsm_queue_is_stored/1, kick_ends_a_session_that_waits/1,
         closed_connection_ends_a_session_that_waits/1, messages_behind_a_closed_connection_are_stored/1,
         log_names_the_process_of_a_session_over_http/1, undelivered_features_are_no_error/1,
         stopped_mod_bosh_makes_no_sessions/1, listener_with_tls_is_told_of/1, sessions_on_another_inet_backend/1]).
%% Called in ejabberd's node.
-export([route/5]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sessions, [account/1, await_event/2, c2s_port/1, call/4, ejabberd/1]).
-import(megaphone_ct_xmpp, [login/2, await/2]).

-define(TIMEOUT, 25000).

%% Longer than ejabberd's time-out from 25.10 on, in milliseconds.
-define(LONG, 17000).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, stock}, {group, megaphone}].

groups() ->
    [{stock, [], cases()},
     {megaphone, [], cases() ++ beyond_stock()}].

cases() -> [client_that_reads_late_gets_everything, whitespace_ping_over_tcp, log_names_the_process_of_a_tcp_session].

beyond_stock() ->
    [client_that_takes_nothing_is_cut, more_than_max_fsm_queue_is_stored, kick_ends_a_session_that_waits,
     closed_connection_ends_a_session_that_waits, messages_behind_a_closed_connection_are_stored,
     log_names_the_process_of_a_session_over_http, undelivered_features_are_no_error,
     stopped_mod_bosh_makes_no_sessions, listener_with_tls_is_told_of, sessions_on_another_inet_backend].

init_per_group(Variant, Config) -> megaphone_ct_sessions:start(Variant, Config).

end_per_group(_Variant, Config) -> megaphone_ct_sessions:stop(Config).

%% --- a client that does not read

%% Where nothing bounds the time: by an option, and by default with ejabberd before 25.10. A later one cuts it.
client_that_reads_late_gets_everything(Config) ->
    Port = megaphone_ct_node:free_port(),
    Listener = megaphone_ct_sessions:listener(Config, Port, ["send_timeout: infinity"]),
    ok = megaphone_ct_node:reload(ejabberd(Config), [Listener]),
    {Patient, PatientJid} = online(Config, Port),
    {Default, DefaultJid} = online(Config, c2s_port(Config)),
    [ok = fill(Config, Jid, 1, 300, 40_000) || Jid <- [PatientJid, DefaultJid]],
    receive after ?LONG -> ok end,
    ?assertEqual(lists:seq(1, 300), read_ids(Patient, 300)),
    {ok, Text} = call(Config, application, get_key, [ejabberd, vsn]),
    case megaphone_ejabberd_versions:parse(Text) of
        {ok, Version} when Version < {25, 10} -> ?assertEqual(lists:seq(1, 300), read_ids(Default, 300));
        {ok, _} -> ?assertError({badmatch, {error, closed}}, read_ids(Default, 300))
    end,
    [ok = gen_tcp:close(Socket) || Socket <- [Patient, Default]],
    ok = megaphone_ct_node:reload(ejabberd(Config), []).

%% The option send_timeout. What the kernel took is lost, as with any TCP connection; the rest is there at the next login.
client_that_takes_nothing_is_cut(Config) ->
    Port = megaphone_ct_node:free_port(),
    ok = megaphone_ct_node:reload(ejabberd(Config), [megaphone_ct_sessions:listener(Config, Port, ["send_timeout: 1"])]),
    {_Socket, Jid} = online(Config, Port),
    ok = fill(Config, Jid, 1, 100, 100_000),
    ok = ended(Config, Jid),
    ok = assert_stored_up_to(Config, Jid, 100),
    ok = megaphone_ct_node:reload(ejabberd(Config), []).

%% Small ones behind the large ones that fill the connection: more than the node's max_fsm_queue, which is 1000.
%% Headlines, which nobody stores: a user's store has room for a hundred messages, and counts them for each that comes.
more_than_max_fsm_queue_is_stored(Config) ->
    {_Socket, Jid} = online(Config, c2s_port(Config)),
    ok = fill(Config, Jid, 1, 100, 100_000),
    ok = call(Config, ?MODULE, route, [list_to_binary(Jid), <<"headline">>, 101, 1200, 1]),
    ok = ended(Config, Jid),
    %% The user may have a hundred of them.
    ok = assert_stored_up_to(Config, Jid, 100).

kick_ends_a_session_that_waits(Config) ->
    {_Socket, Jid} = online(Config, c2s_port(Config)),
    ok = fill(Config, Jid, 1, 100, 100_000),
    ok = megaphone_ct_sessions:admin(Config, kick_session, [Jid, "out of here"]),
    ok = ended(Config, Jid),
    ok = assert_stored_up_to(Config, Jid, 100).

closed_connection_ends_a_session_that_waits(Config) ->
    {Socket, Jid} = online(Config, c2s_port(Config)),
    ok = fill(Config, Jid, 1, 100, 100_000),
    ok = megaphone_ct_xmpp:reset(Socket),
    ok = ended(Config, Jid),
    ok = assert_stored_up_to(Config, Jid, 100).

%% The session finds out when it sends, or when it reads: what is in its mailbox by then is not lost.
messages_behind_a_closed_connection_are_stored(Config) ->
    {Socket, Jid} = online(Config, c2s_port(Config)),
    Session = megaphone_ct_sessions:session(Config, Jid),
    ok = call(Config, sys, suspend, [Session]),
    ok = megaphone_ct_xmpp:reset(Socket),
    ok = call(Config, ?MODULE, route, [list_to_binary(Jid), <<"chat">>, 1, 50, 10]),
    ok = call(Config, sys, resume, [Session]),
    ok = ended(Config, Jid),
    ok = assert_stored_up_to(Config, Jid, 50).

online(Config, Port) ->
    {Socket, Jid} = login(Port, account(Config)),
    ok = gen_tcp:send(Socket, "<presence/>"),
    _ = await(Socket, "<presence"),
    _ = put({session, Jid}, megaphone_ct_sessions:session(Config, Jid)),
    {Socket, Jid}.

%% Its process has put into the store what was for it: it does so after others are told of the end.
ended(Config, Jid) ->
    await_event(Config, {session_ended, list_to_binary(Jid)}),
    Session = get({session, Jid}),
    megaphone_ct_sockets:await(fun() -> not call(Config, erlang, is_process_alive, [Session]) end).

%% Routes messages, of which not all can be sent: the session's process waits.
fill(Config, Jid, First, Last, Bytes) ->
    ok = call(Config, ?MODULE, route, [list_to_binary(Jid), <<"chat">>, First, Last, Bytes]).

%% Some were sent, all others are there, in their order, and there are some.
assert_stored_up_to(Config, Jid, Last) ->
    [First | _] = Ids = stored(Config, Jid, Last),
    ?assertEqual(lists:seq(First, lists:last(Ids)), Ids),
    ok.

%% What a client gets that logs in again.
stored(Config, Jid, Last) ->
    [Bare, _] = string:split(Jid, "/"),
    [User, _] = string:split(Bare, "@"),
    {Socket, _} = login(c2s_port(Config), {Bare, "secret-" ++ User}),
    ok = gen_tcp:send(Socket, "<presence/>"),
    Ids = read_ids(Socket, Last),
    ok = gen_tcp:close(Socket),
    Ids.

%% The numbers of the messages that come, up to this one. Not await/2, which looks through all that has come each time.
read_ids(Socket, Last) -> read_ids(Socket, Last, <<>>).

read_ids(Socket, Last, Sofar) ->
    {ok, Bytes} = gen_tcp:recv(Socket, 0, ?TIMEOUT),
    {Ids, Rest} = ids(<<Sofar/binary, Bytes/binary>>),
    case lists:member(Last, Ids) of
        true -> Ids;
        false -> Ids ++ read_ids(Socket, Last, Rest)
    end.

%% In whole start tags, and what may be the beginning of another.
ids(Bytes) ->
    case re:run(Bytes, "<message[^>]* id='([0-9]+)'[^>]*>", [{capture, all, index}]) of
        {match, [{At, Length}, {IdAt, IdLength}]} ->
            {Ids, Rest} = ids(binary:part(Bytes, At + Length, byte_size(Bytes) - At - Length)),
            {[binary_to_integer(binary:part(Bytes, IdAt, IdLength)) | Ids], Rest};
        nomatch ->
            Kept = min(byte_size(Bytes), 1000),
            {[], binary:part(Bytes, byte_size(Bytes) - Kept, Kept)}
    end.

%% Routes messages with these numbers to a full JID.
-spec route(binary(), Type :: binary(), pos_integer(), pos_integer(), pos_integer()) -> ok.
route(Jid, Type, First, Last, Bytes) ->
    Body = {xmlel, <<"body">>, [], [{xmlcdata, binary:copy(<<"x">>, Bytes)}]},
    lists:foreach(
        fun(Number) ->
            Attributes = [{<<"from">>, <<"sender@localhost/test">>}, {<<"to">>, Jid}, {<<"type">>, Type},
                          {<<"id">>, integer_to_binary(Number)}],
            ejabberd_router:route(xmpp:decode({xmlel, <<"message">>, Attributes, [Body]}, <<"jabber:client">>, []))
        end,
        lists:seq(First, Last)).

%% --- pings and names

whitespace_ping_over_tcp(Config) ->
    {Socket, Jid} = online(Config, c2s_port(Config)),
    ok = call(Config, ejabberd_c2s, send_ws_ping, [megaphone_ct_sessions:session(Config, Jid)]),
    ?assertEqual({ok, <<"\r\n\r\n">>}, gen_tcp:recv(Socket, 4, ?TIMEOUT)),
    ok = gen_tcp:close(Socket).

log_names_the_process_of_a_tcp_session(Config) ->
    {Socket, Jid} = online(Config, c2s_port(Config)),
    ok = assert_named(Config, "tcp", Jid),
    ok = gen_tcp:close(Socket).

log_names_the_process_of_a_session_over_http(Config) ->
    Port = megaphone_ct_node:port(ejabberd(Config), http),
    {Session, BoshJid} = megaphone_ct_xmpp:bosh_login(Port, account(Config)),
    ok = assert_named(Config, "http_bind", BoshJid),
    ok = megaphone_ct_xmpp:bosh_hang_up(Session),
    {Socket, Jid} = megaphone_ct_websocket:login(Port, megaphone_ct_http:websocket_request("/ws", []), account(Config)),
    ok = assert_named(Config, "websocket", Jid),
    ok = gen_tcp:close(Socket).

assert_named(Config, Transport, Jid) ->
    Pid = call(Config, erlang, pid_to_list, [megaphone_ct_sessions:session(Config, Jid)]),
    [_] = megaphone_ct_node:log(ejabberd(Config), ["\\(", Transport, "\\|", Pid, "\\) Opened c2s session for ", Jid]),
    ok.

%% --- BOSH

%% hold and wait of 0 have the first request answered before there are features, and there is no other.
undelivered_features_are_no_error(Config) ->
    Errors = megaphone_ct_node:log(ejabberd(Config), "\\[(warning|error|critical)\\]"),
    Processes = call(Config, erlang, processes, []),
    Create = re:replace(megaphone_ct_xmpp:bosh_create(), "wait='60' hold='1'", "wait='0' hold='0'", [{return, list}]),
    New = megaphone_ct_xmpp:bosh_new(megaphone_ct_node:port(ejabberd(Config), http), []),
    {Session, Answer} = megaphone_ct_xmpp:bosh_exchange(New, Create, "", "<body"),
    ?assertEqual(nomatch, re:run(Answer, "features")),
    ok = megaphone_ct_xmpp:bosh_hang_up(Session),
    ?assertEqual([], call(Config, megaphone_ct_events, remaining_processes, [Processes, 0])),
    ?assertEqual([], megaphone_ct_node:log(ejabberd(Config), "\\[(warning|error|critical)\\]") -- Errors).

%% The first request finds out, the next one is answered as stock does.
stopped_mod_bosh_makes_no_sessions(Config) ->
    Port = megaphone_ct_node:port(ejabberd(Config), http),
    _ = call(Config, gen_mod, stop_module, [<<"localhost">>, mod_bosh]),
    [?assertEqual(nomatch, re:run(create_answer(Port), " sid=")) || _ <- [1, 2]],
    {ok, _} = call(Config, gen_mod, start_module, [<<"localhost">>, mod_bosh]),
    ok = call(Config, megaphone_ejabberd, configure, []),
    ?assertMatch({match, _}, re:run(create_answer(Port), " sid=")).

create_answer(Port) ->
    New = megaphone_ct_xmpp:bosh_new(Port, []),
    {Request, _} = megaphone_ct_xmpp:bosh_request(New, megaphone_ct_xmpp:bosh_create(), ""),
    Socket = megaphone_ct_http:connect(Port),
    ok = gen_tcp:send(Socket, Request),
    #{body := Body} = megaphone_ct_http:response(Socket),
    ok = gen_tcp:close(Socket),
    Body.

%% --- listeners

listener_with_tls_is_told_of(Config) ->
    Listener = megaphone_ct_node:http_listener(
        megaphone_http, [{port, megaphone_ct_node:free_port()}, {ip, "127.0.0.1"}, {tls, true}]),
    ok = megaphone_ct_node:reload(ejabberd(Config), [Listener]),
    ok = megaphone_ct_node:reload(ejabberd(Config), []),
    ?assertMatch([_], megaphone_ct_node:log(ejabberd(Config), "megaphone_http does not know \\[tls\\] yet")).

%% The setting of a node, which makes its listening sockets others.
sessions_on_another_inet_backend(Config) ->
    Directory = filename:join(proplists:get_value(priv_dir, Config), "inet_backend"),
    Ejabberd = megaphone_ct_node:start(megaphone_http, Directory, #{arguments => ["-kernel", "inet_backend", "socket"]}),
    {Socket, _} = login(megaphone_ct_node:port(Ejabberd, c2s), megaphone_ct_node:account(Ejabberd, "user")),
    {Session, _} = megaphone_ct_xmpp:bosh_login(
        megaphone_ct_node:port(Ejabberd, http), megaphone_ct_node:account(Ejabberd, "user")),
    ?assertEqual([http_bind, tcp], lists:sort(transports(Ejabberd))),
    ok = megaphone_ct_xmpp:bosh_hang_up(Session),
    ok = gen_tcp:close(Socket),
    ok = megaphone_ct_node:stop(Ejabberd).

transports(Ejabberd) ->
    [begin
         #{socket := Socket} = megaphone_ct_node:call(Ejabberd, sys, get_state, [Pid]),
         {Transport, _} = element(3, Socket),
         Transport
     end || Pid <- megaphone_ct_node:call(Ejabberd, ejabberd_sm, get_all_pids, [])].
