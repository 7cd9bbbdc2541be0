%% What the load generator asks the node that it measures. One question a line on stdin, one answer of JSON
%% a line on stdout, marked so that it is told apart from what ejabberd prints. The end of stdin is the end
%% of the generator and so of the node.
-module(megaphone_bench_control).
-export([start/0, malloc_bytes/0]).
-nifs([malloc_bytes/0]).
-on_load(load/0).

load() ->
    erlang:load_nif(filename:join(filename:dirname(code:which(?MODULE)), "megaphone_bench_malloc"), 0).

%% Bytes that native code has from malloc; see malloc.c.
-spec malloc_bytes() -> non_neg_integer().
malloc_bytes() ->
    erlang:nif_error(not_loaded).

-spec start() -> no_return().
start() ->
    answer([{ready, is_pid(whereis(ejabberd_sup))}]),
    loop().

loop() ->
    case io:get_line("") of
        Line when is_list(Line) ->
            answer(ask(string:lexemes(Line, " \n"))),
            loop();
        _EndOrError ->
            erlang:halt(0)
    end.

ask(["figures"]) ->
    [{processes, erlang:system_info(process_count)},
     {ports, erlang:system_info(port_count)},
     {sessions, ets:info(session, size)},
     {malloc, malloc_bytes()},
     {memory, erlang:memory()}];
ask(["hibernating"]) ->
    %% The second is a gen_server's, from OTP 28 on.
    Waits = [{current_function, {erlang, hibernate, 3}}, {current_function, {gen_server, loop_hibernate, 4}}],
    Hibernates = fun(Pid) -> lists:member(process_info(Pid, current_function), Waits) end,
    [{hibernating, length(lists:filter(Hibernates, erlang:processes()))}];
ask(["collect_garbage"]) ->
    lists:foreach(fun erlang:garbage_collect/1, erlang:processes()),
    [{done, true}];
ask(["register", Host, Prefix, First, Last, Password]) ->
    register(list_to_binary(Host), Prefix, list_to_integer(First), list_to_integer(Last),
             list_to_binary(Password));
ask(["befriend", Host, Prefix, First, Last, Contacts]) ->
    befriend(list_to_binary(Host), Prefix, list_to_integer(First), list_to_integer(Last), list_to_integer(Contacts));
ask(["contacts_online", Host, Prefix, First, Last]) ->
    Known = [contacts_online(user(Prefix, N), list_to_binary(Host))
             || N <- lists:seq(list_to_integer(First), list_to_integer(Last))],
    [{contacts, lists:sum(Known)}];
ask(Other) ->
    [{unknown_question, length(Other)}].

register(Host, Prefix, First, Last, Password) ->
    Results = [ejabberd_auth:try_register(user(Prefix, N), Host, Password) || N <- lists:seq(First, Last)],
    [{registered, length([ok || ok <- Results])}].

%% Each user has the Contacts nearest to it in the ring of all of them, half on each side, and they have it. The items
%% go into Mnesia's tables on disc directly, many at a time: one by one they would take four times as long, and fill
%% Mnesia's log.
befriend(Host, Prefix, First, Last, Contacts) ->
    Fields = mnesia:table_info(roster, attributes),
    Count = Last - First + 1,
    Name = fun(Place) -> user(Prefix, First + (Place + Count) rem Count) end,
    Steps = [Step || Step <- lists:seq(-(Contacts div 2), Contacts div 2), Step =/= 0],
    Items = fun(Place) -> [item(Fields, Host, Name(Place), Name(Place + Step)) || Step <- Steps] end,
    insert_chunks(Items, 0, Count),
    [{items, mnesia:table_info(roster, size)}].

insert_chunks(_Items, Count, Count) ->
    ok;
insert_chunks(Items, Place, Count) ->
    End = min(Count, Place + 100),
    Chunk = lists:flatmap(Items, lists:seq(Place, End - 1)),
    [Index] = [Table || {roster, index, _} = Table <- dets:all()],
    ok = dets:insert(roster, Chunk),
    ok = dets:insert(Index, [{element(3, Item), element(2, Item)} || Item <- Chunk]),
    insert_chunks(Items, End, Count).

%% What mod_roster keeps of a contact that it would have after both had subscribed to each other.
item(Fields, Host, User, Contact) ->
    Jid = {Contact, Host, <<>>},
    Known = #{usj => {User, Host, Jid}, us => {User, Host}, jid => Jid, name => Contact, subscription => both,
              ask => none, groups => [], askmessage => <<>>, xs => []},
    list_to_tuple([roster | [maps:get(Field, Known) || Field <- Fields]]).

%% Contacts whose presence with capabilities the sessions of User know.
contacts_online(User, Host) ->
    Pids = [ejabberd_sm:get_session_pid(User, Host, R) || R <- ejabberd_sm:get_user_resources(User, Host)],
    Others = fun(Pid) -> [U || {{U, _, _}, _} <- mod_caps:list_features(sys:get_state(Pid)), U =/= User] end,
    lists:sum([length(Others(Pid)) || Pid <- Pids]).

user(Prefix, Number) ->
    list_to_binary(Prefix ++ integer_to_list(Number)).

answer(Pairs) ->
    io:put_chars(["@bench ", json(Pairs), $\n]).

%% Only what the answers above are made of: numbers, booleans and nested pairs.
json([{_, _} | _] = Pairs) ->
    [${, lists:join($,, [[$", atom_to_list(K), $", $:, json(V)] || {K, V} <- Pairs]), $}];
json(Boolean) when is_boolean(Boolean) ->
    atom_to_list(Boolean);
json(Integer) when is_integer(Integer) ->
    integer_to_list(Integer);
json(undefined) ->
    "0".
