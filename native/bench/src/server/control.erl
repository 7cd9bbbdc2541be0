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
    Hibernates = fun(Pid) -> process_info(Pid, current_function) =:= {current_function, {erlang, hibernate, 3}} end,
    [{hibernating, length(lists:filter(Hibernates, erlang:processes()))}];
ask(["collect_garbage"]) ->
    lists:foreach(fun erlang:garbage_collect/1, erlang:processes()),
    [{done, true}];
ask(["register", Host, Prefix, First, Last, Password]) ->
    register(list_to_binary(Host), Prefix, list_to_integer(First), list_to_integer(Last),
             list_to_binary(Password));
ask(Other) ->
    [{unknown_question, length(Other)}].

register(Host, Prefix, First, Last, Password) ->
    Results = [ejabberd_auth:try_register(list_to_binary(Prefix ++ integer_to_list(N)), Host, Password)
               || N <- lists:seq(First, Last)],
    [{registered, length([ok || ok <- Results])}].

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
