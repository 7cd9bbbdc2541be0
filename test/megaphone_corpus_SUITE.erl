%% The same bytes to stock ejabberd's listeners and to Megaphone's, in one node: both have to answer the same, but for
%% what the corpora of test/corpus list with a reason. docs/differences.md is the reader's version of that list. In the
%% group ecm those to Megaphone's go through a connection manager.
-module(megaphone_corpus_SUITE).

-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2]).
-export([headers/1, streams/1, xml/1, unicode/1, namespaces/1, limits/1, negotiation/1, stanzas/1, bosh_requests/1]).

%% The limit of both c2s listeners; corpus/streams/limits.terms counts on it.
-define(MAX_STANZA, 131072).
%% Plays at a time: what keeps a small machine busy, where most of a BOSH session is waiting.
-define(STREAMS_AT_ONCE, 8).
-define(BOSH_AT_ONCE, 40).
%% A stream of more bytes is not sent in pieces.
-define(LONGEST_IN_PIECES, 2000).

suite() -> [{timetrap, {minutes, 4}}].

all() -> [{group, direct}, {group, ecm}].

groups() -> [{Group, [], cases()} || Group <- [direct, ecm]].

cases() -> [headers, streams, xml, unicode, namespaces, limits, negotiation, stanzas, bosh_requests].

init_per_group(Group, Config) ->
    Directory = filename:join(proplists:get_value(priv_dir, Config), ["corpus_", atom_to_list(Group)]),
    Ejabberd = megaphone_ct_node:start(megaphone_http, Directory, links(Group)),
    Ports = maps:from_list([{{Side, Service}, megaphone_ct_node:free_port()}
                            || Side <- [stock, megaphone], Service <- [c2s, http]]),
    ok = megaphone_ct_node:reload(Ejabberd, [
        c2s_listener(ejabberd_c2s, maps:get({stock, c2s}, Ports)),
        c2s_listener(megaphone_c2s, maps:get({megaphone, c2s}, Ports)),
        http_listener(ejabberd_http, maps:get({stock, http}, Ports)),
        http_listener(megaphone_http, maps:get({megaphone, http}, Ports))
    ]),
    ok = megaphone_ct_node:call(Ejabberd, megaphone_ct_corpus, watch, []),
    Started = [{ejabberd, Ejabberd}, {accounts, atomics:new(1, [])} | Config],
    case Group of
        direct -> [{ports, Ports} | Started];
        ecm -> through_ecm(Ports, Directory, Started)
    end.

links(direct) -> #{};
links(ecm) -> #{links => []}.

%% Listeners beside the node's own, by names of their own.
through_ecm(Ports, Directory, Config) ->
    [C2s, Http] = [megaphone_ct_node:free_port() || _ <- [1, 2]],
    Ecm = megaphone_ct_ecm:start(Directory, #{
        secret_file => megaphone_ct_node:secret_file(ejabberd(Config)), ports => [{"corpus-c2s", C2s}, {"corpus-http", Http}],
        nodes => [{megaphone_ct_node:name(ejabberd(Config)), megaphone_ct_node:link_port(ejabberd(Config))}]
    }),
    ok = megaphone_ct_ecm:await_link(ejabberd(Config)),
    [{ecm, Ecm}, {ports, Ports#{{megaphone, c2s} := C2s, {megaphone, http} := Http}} | Config].

end_per_group(_Group, Config) ->
    ok = megaphone_ct_node:stop(ejabberd(Config)),
    case proplists:get_value(ecm, Config) of
        undefined -> ok;
        Ecm -> megaphone_ct_ecm:kill(Ecm)
    end.

c2s_listener(Module, Port) ->
    ["  -\n    port: ", integer_to_list(Port), "\n    ip: \"127.0.0.1\"\n    module: ", atom_to_list(Module),
     "\n    max_stanza_size: ", integer_to_list(?MAX_STANZA), "\n",
     ["    ecm_name: corpus-c2s\n" || Module =:= megaphone_c2s]].

http_listener(Module, Port) ->
    Name = [{ecm_name, "corpus-http"} || Module =:= megaphone_http],
    megaphone_ct_node:http_listener(Module, [{port, Port}, {ip, "127.0.0.1"} | Name]).

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

%% Plays a family as it is, and on Megaphone in single bytes too: how bytes are split makes no difference to it.
family(Name, Config) ->
    Entries = megaphone_ct_corpus:consult(filename:join("streams", Name ++ ".terms")),
    compare(Entries, ?STREAMS_AT_ONCE, fun(Entry) ->
        Stock = play_stream(Entry, stock, infinity, Config),
        Megaphone = play_stream(Entry, megaphone, infinity, Config),
        case megaphone_ct_corpus:explain(Entry, #{stock => Stock, megaphone => Megaphone}) of
            ok -> explain_pieces(Entry, Stock, Config);
            Differs -> Differs
        end
    end).

explain_pieces(Entry, Stock, Config) ->
    case megaphone_ct_corpus:size(Entry) < ?LONGEST_IN_PIECES of
        true ->
            Pieces = play_stream(Entry, megaphone, 1, Config),
            megaphone_ct_corpus:explain(Entry, #{stock => Stock, megaphone => Pieces});
        false -> ok
    end.

play_stream(Entry, Side, Chunk, Config) ->
    Connection = (connection(Side, c2s, Config))#{chunk => Chunk},
    megaphone_ct_corpus:play(Entry, Connection, fetch(Config)).

%% --- BOSH

bosh_requests(Config) ->
    compare(megaphone_ct_corpus:consult("bosh.terms"), ?BOSH_AT_ONCE, fun(Entry) ->
        [Stock, Megaphone] = [megaphone_ct_corpus_bosh:play(Entry, connection(Side, http, Config), fetch(Config))
                              || Side <- [stock, megaphone]],
        megaphone_ct_corpus_bosh:explain(Entry, #{stock => Stock, megaphone => Megaphone})
    end).

%% --- playing

%% Explains every entry, and fails with all that differ.
compare(Entries, AtOnce, Explain) ->
    case [Difference || {differs, Difference} <- parallel(Explain, Entries, AtOnce)] of
        [] -> ct:log("~w entries", [length(Entries)]);
        Differences ->
            [ct:log("~ts:~n~tP", [Name, Details, 400]) || {Name, Details} <- Differences],
            Summaries = [{Name, summary(Details)} || {Name, Details} <- Differences],
            ct:fail("~w of ~w differ:~n~tp", [length(Differences), length(Entries), Summaries])
    end.

summary({kinds, Kinds}) -> Kinds;
summary(Details) ->
    [case Detail of {kind, Stock, Megaphone} -> {Stock, Megaphone}; {Key, _, _} -> Key end || Detail <- Details].

%% Every play has a user of its own: nobody finds what another has left. Its password is stored as it is, which spares
%% the thousands of rounds that a hash takes at each login.
connection(Side, Service, Config) ->
    Number = atomics:add_get(proplists:get_value(accounts, Config), 1, 1),
    {User, Password} = megaphone_ct_corpus:account(Side, Number),
    {_, {ok, Password}} = megaphone_ct_node:call(ejabberd(Config), ejabberd_auth_mnesia, try_register,
                                                 [User, <<"localhost">>, Password]),
    #{side => Side, user => User, port => maps:get({Side, Service}, proplists:get_value(ports, Config))}.

fetch(Config) ->
    fun(Client) -> megaphone_ct_node:call(ejabberd(Config), megaphone_ct_corpus, seen, [Client]) end.

%% The results of Fun for each item, in any order. What ends a worker ends the test.
parallel(Fun, Items, AtOnce) ->
    Workers = [spawn_monitor(fun() -> exit({results, [Fun(Item) || Item <- Share]}) end)
               || Share <- shares(Items, lists:duplicate(AtOnce, []))],
    lists:append([receive
                      {'DOWN', Monitor, process, Pid, {results, Results}} -> Results;
                      {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
                  end || {Pid, Monitor} <- Workers]).

shares([], Shares) -> Shares;
shares([Item | Items], [Share | Shares]) -> shares(Items, Shares ++ [[Item | Share]]).
