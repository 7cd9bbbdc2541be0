%% The same bytes to stock ejabberd's listeners and to Megaphone's, in one node: both have to answer the same, but for
%% what the corpora of test/corpus list with a reason. docs/differences.md is the reader's version of that list.
-module(megaphone_corpus_SUITE).

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([headers/1, streams/1, xml/1, unicode/1, namespaces/1, limits/1, negotiation/1, stanzas/1,
         streams_in_pieces/1]).

%% The limit of both c2s listeners; corpus/streams/limits.terms counts on it.
-define(MAX_STANZA, 131072).
%% Plays at a time: what keeps a small machine busy.
-define(PARALLEL, 8).
-define(FAMILIES, [headers, streams, xml, unicode, namespaces, limits, negotiation, stanzas]).
%% A stream of more bytes is not sent in pieces.
-define(LONGEST_IN_PIECES, 2000).

suite() -> [{timetrap, {minutes, 4}}].

all() -> [{group, streams}].

groups() -> [{streams, [], ?FAMILIES ++ [streams_in_pieces]}].

init_per_suite(Config) ->
    Directory = filename:join(proplists:get_value(priv_dir, Config), "corpus"),
    Ejabberd = megaphone_ct_node:start(ejabberd_http, Directory),
    Ports = #{stock => megaphone_ct_node:free_port(), megaphone => megaphone_ct_node:free_port()},
    Listeners = [c2s_listener(Module, maps:get(Side, Ports))
                 || {Side, Module} <- [{stock, ejabberd_c2s}, {megaphone, megaphone_module(megaphone_c2s, ejabberd_c2s)}]],
    ok = megaphone_ct_node:reload(Ejabberd, Listeners),
    ok = megaphone_ct_node:call(Ejabberd, megaphone_ct_corpus, watch, []),
    [{ejabberd, Ejabberd}, {ports, Ports}, {accounts, atomics:new(1, [])} | Config].

end_per_suite(Config) -> megaphone_ct_node:stop(ejabberd(Config)).

c2s_listener(Module, Port) ->
    ["  -\n    port: ", integer_to_list(Port), "\n    ip: \"127.0.0.1\"\n    module: ", atom_to_list(Module),
     "\n    max_stanza_size: ", integer_to_list(?MAX_STANZA), "\n"].

megaphone_module(Module, Stock) ->
    case code:ensure_loaded(Module) of
        {module, Module} -> Module;
        {error, nofile} -> Stock
    end.

ejabberd(Config) -> proplists:get_value(ejabberd, Config).

%% --- XML streams

headers(Config) -> family("headers", Config).

streams(Config) -> family("streams", Config).

xml(Config) -> family("xml", Config).

unicode(Config) -> family("unicode", Config).

namespaces(Config) -> family("namespaces", Config).

limits(Config) -> family("limits", Config).

negotiation(Config) -> family("negotiation", Config).

stanzas(Config) -> family("stanzas", Config).

family(Name, Config) ->
    play_all(entries(Name), [{stock, infinity}, {megaphone, infinity}], Config).

%% How the bytes are split makes no difference to Megaphone: what it says to single bytes is what stock says to all of
%% them at once.
streams_in_pieces(Config) ->
    Entries = [Entry || Family <- ?FAMILIES, {_, Play, _} = Entry <- entries(atom_to_list(Family)),
                        is_small(Play)],
    play_all(Entries, [{stock, infinity}, {megaphone, 1}], Config).

is_small({_Start, Bytes}) -> is_small([Bytes]);
is_small(Steps) ->
    lists:all(fun(Step) when is_tuple(Step); is_atom(Step) -> true;
                 (Bytes) -> byte_size(megaphone_ct_corpus:bytes(Bytes, <<>>)) < ?LONGEST_IN_PIECES
              end, Steps).

entries(Family) -> megaphone_ct_corpus:consult(filename:join("streams", Family ++ ".terms")).

%% Plays every entry on each side, and fails with all that differ.
play_all(Entries, Sides, Config) ->
    Results = parallel(
        fun(Entry) ->
            Number = atomics:add_get(proplists:get_value(accounts, Config), 1, 1),
            Outcomes = maps:from_list([{Side, play(Entry, Number, Side, Chunk, Config)} || {Side, Chunk} <- Sides]),
            megaphone_ct_corpus:explain(Entry, Outcomes)
        end, Entries),
    case [Difference || {differs, Difference} <- Results] of
        [] -> ct:log("~w streams", [length(Entries)]);
        Differences -> ct:fail("~w of ~w differ:~n~tp", [length(Differences), length(Entries), Differences])
    end.

%% Every play has a user of its own: nobody finds what another has left.
play(Entry, Number, Side, Chunk, Config) ->
    Ejabberd = ejabberd(Config),
    {User, Password} = megaphone_ct_corpus:account(Side, Number),
    ok = megaphone_ct_node:call(Ejabberd, ejabberd_auth, try_register, [User, <<"localhost">>, Password]),
    Connection = #{side => Side, port => maps:get(Side, proplists:get_value(ports, Config)), user => User,
                   chunk => Chunk},
    megaphone_ct_corpus:play(Entry, Connection, fun(Client) ->
        megaphone_ct_node:call(Ejabberd, megaphone_ct_corpus, seen, [Client])
    end).

%% The results of Fun for each item, in any order. What ends a worker ends the test.
parallel(Fun, Items) ->
    Workers = [spawn_monitor(fun() -> exit({results, [Fun(Item) || Item <- Share]}) end)
               || Share <- shares(Items, lists:duplicate(?PARALLEL, []))],
    lists:append([receive
                      {'DOWN', Monitor, process, Pid, {results, Results}} -> Results;
                      {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
                  end || {Pid, Monitor} <- Workers]).

shares([], Shares) -> Shares;
shares([Item | Items], [Share | Shares]) -> shares(Items, Shares ++ [[Item | Share]]).
