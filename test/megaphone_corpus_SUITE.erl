%% The same bytes to stock ejabberd's listeners and to Megaphone's, in one node: both have to answer the same, but for
%% what the corpora of test/corpus list with a reason. docs/differences.md is the reader's version of that list.
-module(megaphone_corpus_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([headers/1, streams/1, xml/1, unicode/1, namespaces/1, limits/1, negotiation/1, stanzas/1,
         streams_in_pieces/1, bosh_requests/1]).

%% The limit of both c2s listeners; corpus/streams/limits.terms counts on it.
-define(MAX_STANZA, 131072).
%% Plays at a time: what keeps a small machine busy.
-define(PARALLEL, 8).
-define(FAMILIES, [headers, streams, xml, unicode, namespaces, limits, negotiation, stanzas]).
%% A stream of more bytes is not sent in pieces.
-define(LONGEST_IN_PIECES, 2000).

suite() -> [{timetrap, {minutes, 4}}].

all() -> ?FAMILIES ++ [streams_in_pieces, bosh_requests].

init_per_suite(Config) ->
    Directory = filename:join(proplists:get_value(priv_dir, Config), "corpus"),
    Ejabberd = megaphone_ct_node:start(megaphone_http, Directory),
    Ports = maps:from_list([{{Side, Service}, megaphone_ct_node:free_port()}
                            || Side <- [stock, megaphone], Service <- [c2s, http]]),
    ok = megaphone_ct_node:reload(Ejabberd, [
        c2s_listener(ejabberd_c2s, maps:get({stock, c2s}, Ports)),
        c2s_listener(megaphone_c2s, maps:get({megaphone, c2s}, Ports)),
        http_listener(ejabberd_http, maps:get({stock, http}, Ports)),
        http_listener(megaphone_http, maps:get({megaphone, http}, Ports))
    ]),
    ok = megaphone_ct_node:call(Ejabberd, megaphone_ct_corpus, watch, []),
    [{ejabberd, Ejabberd}, {ports, Ports}, {accounts, atomics:new(1, [])} | Config].

end_per_suite(Config) -> megaphone_ct_node:stop(ejabberd(Config)).

c2s_listener(Module, Port) ->
    ["  -\n    port: ", integer_to_list(Port), "\n    ip: \"127.0.0.1\"\n    module: ", atom_to_list(Module),
     "\n    max_stanza_size: ", integer_to_list(?MAX_STANZA), "\n"].

http_listener(Module, Port) ->
    megaphone_ct_node:http_listener(Module, [{port, Port}, {ip, "127.0.0.1"}]).

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
    play_all(entries(Name), infinity, Config).

%% How the bytes are split makes no difference to Megaphone: what it says to single bytes is what stock says to all of
%% them at once.
streams_in_pieces(Config) ->
    Entries = [Entry || Family <- ?FAMILIES, {_, Play, _} = Entry <- entries(atom_to_list(Family)),
                        is_small(Play)],
    play_all(Entries, 1, Config).

is_small({_Start, Bytes}) -> is_small([Bytes]);
is_small(Steps) ->
    lists:all(fun(Step) when is_tuple(Step); is_atom(Step) -> true;
                 (Bytes) -> byte_size(megaphone_ct_corpus:bytes(Bytes, <<>>)) < ?LONGEST_IN_PIECES
              end, Steps).

entries(Family) -> megaphone_ct_corpus:consult(filename:join("streams", Family ++ ".terms")).

%% --- BOSH

bosh_requests(Config) ->
    Entries = megaphone_ct_corpus:consult("bosh.terms"),
    compare(Entries, fun(Entry, Number) ->
        megaphone_ct_corpus_bosh:explain(Entry, outcomes(fun(Side, Connection, Fetch) ->
            Port = port(Side, http, Config),
            megaphone_ct_corpus_bosh:play(Entry, Connection#{port => Port}, Fetch)
        end, Number, Config))
    end, Config).

%% --- playing

%% Plays every entry on each side, and fails with all that differ.
play_all(Entries, MegaphoneChunk, Config) ->
    compare(Entries, fun(Entry, Number) ->
        megaphone_ct_corpus:explain(Entry, outcomes(fun(Side, Connection, Fetch) ->
            Chunk = case Side of stock -> infinity; megaphone -> MegaphoneChunk end,
            megaphone_ct_corpus:play(Entry, Connection#{port => port(Side, c2s, Config), chunk => Chunk}, Fetch)
        end, Number, Config))
    end, Config).

compare(Entries, Explain, Config) ->
    Accounts = proplists:get_value(accounts, Config),
    Results = parallel(fun(Entry) -> Explain(Entry, atomics:add_get(Accounts, 1, 1)) end, Entries),
    case [Difference || {differs, Difference} <- Results] of
        [] -> ct:log("~w entries", [length(Entries)]);
        Differences ->
            [ct:log("~ts:~n~tP", [Name, Details, 400]) || {Name, Details} <- Differences],
            Summaries = [{Name, summary(Details)} || {Name, Details} <- Differences],
            ct:fail("~w of ~w differ:~n~tp", [length(Differences), length(Entries), Summaries])
    end.

summary({kinds, Kinds}) -> Kinds;
summary(Details) ->
    [case Detail of {kind, Stock, Megaphone} -> {Stock, Megaphone}; {Key, _, _} -> Key end || Detail <- Details].

%% What Play gives on each side. Every play has a user of its own: nobody finds what another has left.
outcomes(Play, Number, Config) ->
    Ejabberd = ejabberd(Config),
    maps:from_list([begin
        {User, Password} = megaphone_ct_corpus:account(Side, Number),
        ok = megaphone_ct_node:call(Ejabberd, ejabberd_auth, try_register, [User, <<"localhost">>, Password]),
        Fetch = fun(Client) -> megaphone_ct_node:call(Ejabberd, megaphone_ct_corpus, seen, [Client]) end,
        {Side, Play(Side, #{side => Side, user => User}, Fetch)}
    end || Side <- [stock, megaphone]]).

port(Side, Service, Config) -> maps:get({Side, Service}, proplists:get_value(ports, Config)).

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
