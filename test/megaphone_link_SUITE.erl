%% Clients' connections that come over a link from the program megaphone-ecm, for any Erlang program: the two sequences of
%% reading, the socket's operations, and the listener's options. megaphone_ecm_SUITE has ejabberd.
-module(megaphone_link_SUITE).

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         end_per_testcase/2]).
-export([data_that_is_there_is_given_at_once/1, data_that_is_not_there_wakes_who_waits/1,
         each_client_has_its_connection_id/1, clients_addresses_are_theirs/1, links_are_listed/1,
         http_handlers_start_with_a_request/1, file_arrives_identical/1, slow_reader_holds_up_its_client_alone/1]).
-export([stopped_listener_is_said_goodbye/1, application_ends_when_its_links_have/1, listener_in_a_tree_of_ones_own/1]).
-export([options_say_what_to_do/1, secret_files_are_checked/1, secrets_are_in_no_report/1]).
%% A handler.
-export([upload/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_sockets, [pair/1, pair/2, conn/1, await/1, await_function/2, messages/0]).

-define(LOOPBACK, {127, 0, 0, 1}).
-define(TIMEOUT, 10000).

suite() -> [{timetrap, {minutes, 1}}].

all() -> [{group, streams}, {group, listeners}].

groups() ->
    [{streams, [],
      [data_that_is_there_is_given_at_once, data_that_is_not_there_wakes_who_waits, each_client_has_its_connection_id,
       clients_addresses_are_theirs, links_are_listed, http_handlers_start_with_a_request, file_arrives_identical,
       slow_reader_holds_up_its_client_alone]},
     {listeners, [],
      [stopped_listener_is_said_goodbye, application_ends_when_its_links_have, listener_in_a_tree_of_ones_own, options_say_what_to_do,
       secret_files_are_checked, secrets_are_in_no_report]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(megaphone),
    Config.

end_per_suite(_Config) -> application:stop(megaphone).

init_per_group(streams, Config) -> megaphone_ct_streams:start(Config, [{"web", fun ?MODULE:upload/1, #{mode => http}}]);
init_per_group(listeners, Config) -> Config.

end_per_group(streams, Config) -> megaphone_ct_streams:stop(Config);
end_per_group(listeners, _Config) -> ok.

end_per_testcase(_Case, _Config) ->
    [megaphone:close(Conn) || Conn <- megaphone:connections()],
    ok.

%% --- reading

%% The reactor has read the link, parsed out the connection ID and kept the data by it, and get_data gives it at once: no
%% message, no wait.
data_that_is_there_is_given_at_once(_Config) ->
    {Client, Server} = pair(megaphone),
    ok = gen_tcp:send(Client, "hello, world"),
    %% When the first bytes of one small frame are there, the others are too.
    ?assertEqual({ok, <<"hello">>}, gen_tcp:recv(Server, 5, ?TIMEOUT)),
    _ = messages(),
    ?assertEqual({ok, <<", ">>}, megaphone:get_data(conn(Server), 2)),
    ?assertEqual({ok, <<"world">>}, megaphone:get_data(conn(Server))),
    ?assertEqual([], messages()).

%% get_data has registered the process, which waits until the message of the link's reactor wakes it.
data_that_is_not_there_wakes_who_waits(_Config) ->
    {Client, Server} = pair(megaphone),
    {wait, Reference, infinity} = megaphone:get_data(conn(Server)),
    ok = gen_tcp:send(Client, "first"),
    receive {'$megaphone', Reference} -> ok
    after ?TIMEOUT -> error(nobody_woke_us)
    end,
    ?assertEqual({ok, <<"first">>}, megaphone:get_data(conn(Server))),
    %% And so does recv.
    Reader = reader(Server),
    await_function(Reader, {megaphone_socket, await_data}),
    1 = erlang:trace(Reader, true, ['receive']),
    ok = gen_tcp:send(Client, "hello"),
    ?assertEqual({ok, <<"hello">>}, result(Reader)),
    ?assertMatch([{trace, Reader, 'receive', {'$megaphone', Ref}}] when is_reference(Ref), messages()).

reader(Socket) ->
    Parent = self(),
    spawn_link(fun() -> Parent ! {self(), gen_tcp:recv(Socket, 5, infinity)} end).

result(Pid) ->
    receive {Pid, Result} -> Result
    after ?TIMEOUT -> error({no_result, process_info(Pid)})
    end.

%% Of many on one TCP connection, all at once.
each_client_has_its_connection_id(Config) ->
    Pairs = [pair(megaphone) || _ <- lists:seq(1, 50)],
    Texts = [{Pair, iolist_to_binary(io_lib:format("I am ~p", [Client]))} || {Client, _} = Pair <- Pairs],
    [ok = gen_tcp:send(Client, Text) || {{Client, _}, Text} <- Texts],
    [?assertEqual({ok, Text}, gen_tcp:recv(Server, byte_size(Text), ?TIMEOUT)) || {{_, Server}, Text} <- lists:reverse(Texts)],
    ?assertEqual(50, length(lists:usort([conn(Server) || {_, Server} <- Pairs]))),
    ?assertEqual(1, megaphone_ct_ecm:connections(proplists:get_value(relay, Config))).

clients_addresses_are_theirs(Config) ->
    {Client, Server} = pair(megaphone),
    ?assertEqual(inet:sockname(Client), inet:peername(Server)),
    ?assertEqual({ok, {?LOOPBACK, megaphone_ct_streams:port(Config, "pairs")}}, inet:sockname(Server)).

links_are_listed(Config) ->
    Pairs = [pair(megaphone) || _ <- [1, 2, 3]],
    Listener = proplists:get_value(listener, Config),
    ?assertMatch([#{listener := Listener, ecm := <<"ecm1">>, peer := {?LOOPBACK, _}, connected := true, streams := 3}],
                 megaphone:links()),
    ?assertMatch([#{mode := links, connections := 1, is_open := true}],
                 [Info || #{id := Id} = Info <- megaphone:listeners(), Id =:= Listener]),
    [ok = gen_tcp:close(Socket) || {Client, Server} <- Pairs, Socket <- [Client, Server]],
    await(fun() -> [0] =:= [Streams || #{streams := Streams} <- megaphone:links()] end).

%% --- more

%% Gives a request's body back.
upload(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Head} ->
            {match, [Length]} = re:run(Head, "Content-Length: (\\d+)", [{capture, all_but_first, list}]),
            {ok, Body} = body(Socket, list_to_integer(Length)),
            ok = gen_tcp:send(Socket, ["HTTP/1.1 200 OK\r\nContent-Length: ", Length, "\r\n\r\n", Body]),
            upload(Socket);
        {error, closed} ->
            ok
    end.

body(_Socket, 0) -> {ok, <<>>};
body(Socket, Length) -> gen_tcp:recv(Socket, Length).

%% A connection between two requests has no process, also when it is a stream.
http_handlers_start_with_a_request(Config) ->
    Socket = megaphone_ct_http:connect(megaphone_ct_streams:port(Config, "web")),
    [begin
         Body = crypto:strong_rand_bytes(Bytes),
         Head = megaphone_ct_http:request("PUT", "/", [{"Content-Length", integer_to_list(Bytes)}]),
         ok = megaphone_ct_http:send(Socket, [Head, Body]),
         ?assertMatch(#{status := 200, body := Body}, megaphone_ct_http:response(Socket))
     end || Bytes <- [10, 300_000, 0]],
    ok = gen_tcp:close(Socket).

file_arrives_identical(Config) ->
    {Client, Server} = pair(megaphone),
    File = filename:join(proplists:get_value(priv_dir, Config), "file"),
    Content = crypto:strong_rand_bytes(5_000_017),
    ok = file:write_file(File, Content),
    Parent = self(),
    Sender = spawn_link(fun() ->
        receive go -> ok end,
        Parent ! {self(), file:sendfile(File, Server)},
        ok = gen_tcp:close(Server)
    end),
    ok = gen_tcp:controlling_process(Server, Sender),
    Sender ! go,
    ?assertEqual(Content, megaphone_ct_sockets:receive_all(Client)),
    ?assertEqual({ok, byte_size(Content)}, result(Sender)).

%% Others on the same link go on while one takes nothing; what it doesn't take is not in memory.
slow_reader_holds_up_its_client_alone(_Config) ->
    {Slow, SlowServer} = pair(megaphone, [{send_timeout, 100}]),
    ok = send_until_it_waits(SlowServer),
    {Client, Server} = pair(megaphone),
    Block = crypto:strong_rand_bytes(100_000),
    [begin
         ok = gen_tcp:send(Server, Block),
         ?assertEqual({ok, Block}, gen_tcp:recv(Client, byte_size(Block), ?TIMEOUT))
     end || _ <- lists:seq(1, 10)],
    [#{kept_bytes := Kept}] = megaphone:links(),
    ?assert(Kept < 4_500_000),
    ok = gen_tcp:close(Slow).

send_until_it_waits(Socket) ->
    case gen_tcp:send(Socket, binary:copy(<<"x">>, 10_000)) of
        ok -> send_until_it_waits(Socket);
        {error, timeout} -> ok
    end.

%% --- listeners

%% Its managers bring no more clients. Those that there are stay, until the drain is over.
stopped_listener_is_said_goodbye(Config) ->
    Started = megaphone_ct_streams:start(Config, []),
    {Client, Server} = pair(megaphone),
    Listener = proplists:get_value(listener, Started),
    ok = megaphone:stop_listener(Listener),
    ok = gen_tcp:send(Client, "still here"),
    ?assertEqual({ok, <<"still here">>}, gen_tcp:recv(Server, 0, ?TIMEOUT)),
    {error, econnrefused} = gen_tcp:connect(?LOOPBACK, proplists:get_value(link_port, Started), []),
    ok = gen_tcp:send(Server, "the last"),
    _ = megaphone:stop_listener(Listener, #{drain => 0}),
    ?assertEqual({ok, <<"the last">>}, gen_tcp:recv(Client, 0, ?TIMEOUT)),
    ?assertEqual({error, closed}, gen_tcp:recv(Client, 0, ?TIMEOUT)),
    await(fun() -> megaphone:links() =:= [] end),
    ok = megaphone_ct_streams:stop(Started).

%% Who stops the node halts it next.
application_ends_when_its_links_have(Config) ->
    Started = megaphone_ct_streams:start(Config, []),
    {Client, Server} = pair(megaphone),
    ok = gen_tcp:send(Server, "the last"),
    ok = application:stop(megaphone),
    ?assertEqual([], megaphone_nif:links()),
    ?assertEqual({ok, <<"the last">>}, gen_tcp:recv(Client, 0, ?TIMEOUT)),
    ?assertEqual({error, closed}, gen_tcp:recv(Client, 0, ?TIMEOUT)),
    {ok, _} = application:ensure_all_started(megaphone),
    ok = megaphone_ct_streams:stop(Started).

%% The listener's processes are those of any other, and its links outlive them.
listener_in_a_tree_of_ones_own(Config) ->
    Secret = crypto:strong_rand_bytes(32),
    Spec = megaphone:child_spec(links, 0, links, #{secret => Secret, socket => [{ip, ?LOOPBACK}]}),
    {ok, Supervisor} = supervisor:start_link(megaphone_ct_supervisor, [Spec]),
    {ok, Listener} = megaphone:listener(links),
    ?assertMatch([#{mode := links, is_open := true, connections := 0}],
                 [Info || #{id := Id} = Info <- megaphone:listeners(), Id =:= Listener]),
    unlink(Supervisor),
    Monitor = monitor(process, Supervisor),
    true = exit(Supervisor, shutdown),
    receive {'DOWN', Monitor, process, Supervisor, _} -> ok end,
    await(fun() -> megaphone:listener(links) =:= error end),
    Config.

%% --- options

options_say_what_to_do(_Config) ->
    Secret = crypto:strong_rand_bytes(32),
    Bad = [{#{}, secret, "missing"},
           {#{secret => <<"short">>}, secret, "at least 32 bytes"},
           {#{secret => "a list of characters, long enough for a secret"}, secret, "binary"},
           {#{secret => Secret, node_name => <<>>}, node_name, "1 to 128 bytes"},
           {#{secret => Secret, node_name => <<255>>}, node_name, "UTF-8"},
           {#{secret => Secret, node_name => node}, node_name, "binary"},
           {#{secret => Secret, max_links => 0}, max_links, "from 1 to 4096, and is 0"},
           {#{secret => Secret, resume_timeout => infinity}, resume_timeout, "and is infinity"},
           {#{secret => Secret, resend_bytes => 40000}, resend_bytes, "four times max_payload"},
           {#{secret => Secret, ping_interval => 40_000}, silence_timeout, "above ping_interval"},
           {#{secret => Secret, max_head => 1}, max_head, "no option max_head: it can be secret, node_name, ack_delay, "}],
    [?assertMatch({error, {bad_option, Name, _}}, found(Text, start(Options)))
     || {Options, Name, Text} <- Bad],
    {ok, Listener} = start(#{secret => Secret, node_name => unicode:characters_to_binary("nœud@host"), max_links => 1,
                             max_streams => 10, resend_bytes => 4096, max_payload => 1024, initial_credit => 1,
                             resume_timeout => 1000, handshake_timeout => 1000, ping_interval => 1000,
                             silence_timeout => 1001, ack_delay => 1, unsent_bytes => 1024, max_handshakes => 1}),
    ok = megaphone:stop_listener(Listener),
    ?assertEqual({error, badarg}, megaphone:start_listener(0, fun gen_tcp:close/1, #{link_name => <<>>})),
    ?assertEqual({error, badarg}, megaphone:start_listener(0, fun gen_tcp:close/1, #{link_name => binary:copy(<<"n">>, 129)})).

start(Options) -> megaphone:start_listener(0, links, Options#{socket => [{ip, ?LOOPBACK}]}).

%% The error, if it has this text.
found(Text, {error, {bad_option, _, Said}} = Error) ->
    case string:find(Said, Text) of
        nomatch -> {instead_of, Text, Error};
        _ -> Error
    end;
found(_Text, Other) ->
    Other.

secret_files_are_checked(Config) ->
    Directory = proplists:get_value(priv_dir, Config),
    Write = fun(Name, Content, Mode) ->
        File = filename:join(Directory, Name),
        ok = file:write_file(File, Content),
        ok = file:change_mode(File, Mode),
        File
    end,
    Secret = binary:copy(<<"s">>, 32),
    [?assertEqual({ok, Secret}, megaphone_secret:read(Write("good", [Secret, End], Mode)))
     || End <- ["", "\n", "\r\n"], Mode <- [8#600, 8#400]],
    Bad = [{Write("group", Secret, 8#640), "mode 0640, so others than its owner can use it: chmod 600 "},
           {Write("others", Secret, 8#604), "mode 0604"},
           {Write("short", ["only", 10], 8#600), "has 4 bytes, and a secret at least 32: openssl rand -hex 32 > "},
           {Write("empty", "", 8#600), "has 0 bytes"},
           {Write("long", binary:copy(<<"s">>, 4097), 8#600), "more than 4096 bytes"},
           {Directory, "not a regular file"},
           {filename:join(Directory, "missing"), "no such file"}],
    [?assertMatch({File, {_, _}}, {File, string:find(element(2, megaphone_secret:read(File)), Text) =/= nomatch andalso {File, Text}})
     || {File, Text} <- Bad],
    ?assertMatch({error, {bad_option, secret, _}}, start(#{secret => {file, element(1, hd(Bad))}})).

%% Neither a shell's look at the processes nor the report of one that fails says it.
secrets_are_in_no_report(_Config) ->
    Secret = crypto:strong_rand_bytes(32),
    {ok, Listener} = start(#{secret => Secret}),
    [Supervisor] = [Pid || #{id := Id, supervisor := Pid} <- megaphone:listeners(), Id =:= Listener],
    Shown = [sys:get_state(Supervisor), sys:get_status(Supervisor), supervisor:which_children(Supervisor),
             megaphone:listeners(), sys:get_status(megaphone_listeners_sup)],
    ?assertEqual(nomatch, binary:match(term_to_binary(io_lib:format("~w", [Shown])), list_to_binary(io_lib:format("~w", [Secret])))),
    ok = megaphone:stop_listener(Listener).
