%% Plays XML streams of a corpus (test/corpus/streams) on a c2s listener and says what came of them, in a form in which
%% two listeners can be compared. Knows the node by what its caller hands over only.
%%
%% A corpus is a file of Erlang terms, {Name, Play} or {Name, Play, [Option]} each:
%%   Play   = [Step] | {raw | open | bound | echo, Bytes}
%%   raw    plays Bytes and the end tag; open has a stream header before them, bound a session;
%%          echo is a bound stream with Bytes in an IQ that the server sends back with its error
%%   Step   = Bytes (sent) | {await, String} | end_tag | half_close
%%          | open (a header, and the features awaited) | login (SASL PLAIN) | session (open, login, open, bind)
%%          | sync (a ping, its answer awaited)
%%   Bytes  = a string (sent as UTF-8), a binary, a list of those, {repeat, N, Bytes},
%%          {numbered, N, Before, After} (N times Before, its number, After)
%%          or {sized, N, Before, After}: Before and After with as many letters between as make N bytes
%%   Option = {expect, Stock :: Kind, Megaphone :: Kind, Reason :: string()}: the two differ, and why that is right
%% @USER@ in Bytes stands for the user's name, @PLAIN@ for what SASL PLAIN sends. Every wait for something ends when
%% the server closes the connection as well.
-module(megaphone_ct_corpus).

-export([consult/1, bytes/2, size/1, play/3, explain/2, account/2]).
-export([connect/2, send/2, receive_some/2, canonical/1, neutral/2, neutral_bytes/2]).
%% Called in ejabberd's node.
-export([watch/0, seen/1, record/3]).

-export_type([entry/0, outcome/0, side/0, client/0]).

-type entry() :: {Name :: string(), Play :: term(), Options :: [term()]}.
-type client() :: {inet:ip4_address(), inet:port_number()}.
-type side() :: stock | megaphone.

-type outcome() :: #{
    kind := string(),       % how the stream ended: an error's condition, or "end"
    received := [[term()]], % what the server sent, a list for each stream header
    seen := [term()],       % the elements that its c2s got, in order
    trailer := boolean()
}.

-include("fxml.hrl").

%% Generous, for a machine that is busy: a server that is silent for as long has failed the case.
-define(TIMEOUT, 20000).
-define(HOST, <<"localhost">>).
-define(HEADER, "<?xml version='1.0'?><stream:stream to='localhost' xmlns='jabber:client' "
                "xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>").

%% --- the corpus

%% The entries of a file of test/corpus.
-spec consult(file:filename()) -> [entry()].
consult(File) ->
    Path = filename:join([megaphone_ct_node:root(), "test", "corpus", File]),
    {ok, Terms} = file:consult(Path),
    [case Term of
         {Name, Play} -> {Name, Play, []};
         {Name, Play, Options} -> {Name, Play, Options}
     end || Term <- Terms].

%% The bytes that a term of the corpus stands for.
-spec bytes(term(), User :: binary()) -> binary().
bytes(Term, User) ->
    Plain = base64:encode(<<0, User/binary, 0, (password(User))/binary>>),
    substitute(encode(Term), [{<<"@USER@">>, User}, {<<"@PLAIN@">>, Plain}]).

%% How many bytes an entry sends beside those of its `session', `open' and `login'.
-spec size(entry()) -> non_neg_integer().
size({_Name, Play, _Options}) ->
    Bytes = [Step || Step <- steps(Play), not is_atom(Step), not is_tuple(Step) orelse element(1, Step) =/= await],
    byte_size(encode(Bytes)).

encode(Binary) when is_binary(Binary) -> Binary;
encode({repeat, Times, Term}) -> binary:copy(encode(Term), Times);
encode({numbered, Times, Before, After}) ->
    iolist_to_binary([[encode(Before), integer_to_binary(N), encode(After)] || N <- lists:seq(1, Times)]);
encode({sized, Size, Before, After}) ->
    {Head, Tail} = {encode(Before), encode(After)},
    iolist_to_binary([Head, binary:copy(<<"x">>, Size - byte_size(Head) - byte_size(Tail)), Tail]);
encode(List) ->
    case lists:all(fun is_integer/1, List) of
        true -> unicode:characters_to_binary(List);
        false -> iolist_to_binary([encode(Term) || Term <- List])
    end.

substitute(Bytes, Substitutions) ->
    lists:foldl(fun({From, To}, Acc) -> binary:replace(Acc, From, To, [global]) end, Bytes, Substitutions).

%% The user of a case on one side: names of the same length, so that sizes are the same on both.
-spec account(side(), pos_integer()) -> {User :: binary(), Password :: binary()}.
account(Side, Number) ->
    Letter = case Side of stock -> $s; megaphone -> $m end,
    User = iolist_to_binary(io_lib:format("corpus-~c~4..0w", [Letter, Number])),
    {User, password(User)}.

password(User) -> <<"secret-", User/binary>>.

%% --- playing

%% Plays an entry. Fetch asks for what the c2s of a client address saw. Chunk is the size of the pieces in which bytes
%% are sent.
-spec play(entry(), Connection, Fetch) -> outcome() when
    Connection :: #{side := side(), port := inet:port_number(), user := binary(), chunk := pos_integer() | infinity},
    Fetch :: fun((client()) -> [fxml:xmlel()]).
play({_Name, Play, _Options}, #{side := Side, port := Port} = Connection, Fetch) ->
    Socket = connect(Side, Port),
    {ok, #{addr := Address, port := LocalPort}} = socket:sockname(Socket),
    Client = {Address, LocalPort},
    Player = lists:foldl(fun step/2, Connection#{socket => Socket, received => <<>>, open => true},
                         lists:append([expand(Step) || Step <- steps(Play)])),
    #{received := Received, open := Open, user := User} = until_closed(Player),
    ok = socket:close(Socket),
    Outcome = outcome(Received, User),
    case Open of
        late -> Outcome#{kind => "late", seen => neutral(Fetch(Client), User)};
        _ -> Outcome#{seen => neutral(Fetch(Client), User)}
    end.

steps({raw, Bytes}) -> [Bytes, end_tag];
steps({open, Bytes}) -> [open, Bytes, end_tag];
steps({bound, Bytes}) -> [session, Bytes, sync, end_tag];
steps({echo, Bytes}) -> [session, ["<iq type='get' id='echo' to='localhost'>", Bytes, "</iq>"], sync, end_tag];
steps(Steps) -> Steps.

expand(open) -> [?HEADER, {await, "</stream:features>"}];
expand(login) ->
    ["<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>@PLAIN@</auth>", {await, "<success "}];
expand(session) ->
    expand(open) ++ expand(login) ++ expand(open) ++
        ["<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>",
         {await, "</iq>"}];
expand(sync) -> ["<iq type='get' id='sync'><ping xmlns='urn:xmpp:ping'/></iq>", {await, ["id='sync'", "id=\"sync\""]}];
expand(end_tag) -> ["</stream:stream>"];
expand(Step) -> [Step].

step(_Step, #{open := Open} = Player) when Open =/= true -> Player;
step(half_close, #{socket := Socket} = Player) ->
    _ = socket:shutdown(Socket, write),
    Player;
step({await, Patterns}, Player) ->
    await([unicode:characters_to_binary(Pattern) || Pattern <- patterns(Patterns)], Player);
step(Bytes, #{socket := Socket, chunk := Chunk, user := User, received := Received} = Player) ->
    _ = send_chunks(Socket, bytes(Bytes, User), Chunk),
    Player#{awaited_from => byte_size(Received)}.

patterns([First | _] = Patterns) when is_list(First) -> Patterns;
patterns(Pattern) -> [Pattern].

send_chunks(Socket, Bytes, Chunk) when byte_size(Bytes) =< Chunk -> send(Socket, Bytes);
send_chunks(Socket, Bytes, Chunk) ->
    <<First:Chunk/binary, Rest/binary>> = Bytes,
    case send(Socket, First) of
        ok -> send_chunks(Socket, Rest, Chunk);
        closed -> closed
    end.

await(Patterns, #{received := Received, awaited_from := From} = Player) ->
    case binary:match(Received, Patterns, [{scope, {From, byte_size(Received) - From}}]) of
        nomatch -> more(Player, fun(More) -> await(Patterns, More) end);
        _Found -> Player
    end.

until_closed(#{open := true} = Player) -> more(Player, fun until_closed/1);
until_closed(Player) -> Player.

more(#{socket := Socket, received := Received} = Player, Continue) ->
    case receive_some(Socket, ?TIMEOUT) of
        closed -> Player#{open => false};
        timeout -> Player#{open => late};
        Bytes -> Continue(Player#{received => <<Received/binary, Bytes/binary>>})
    end.

%% The address that clients of a side come from: the node tells the two sides' clients apart by it.
-spec source(side()) -> inet:ip4_address().
source(stock) -> {127, 0, 0, 1};
source(megaphone) -> {127, 0, 0, 2}.

%% Connects to a port of 127.0.0.1. A `socket' gives what the server has sent even after sending has failed, which
%% gen_tcp does not.
-spec connect(side(), inet:port_number()) -> socket:socket().
connect(Side, Port) ->
    {ok, Socket} = socket:open(inet, stream, tcp),
    ok = socket:setopt(Socket, {tcp, nodelay}, true),
    ok = socket:bind(Socket, #{family => inet, addr => source(Side), port => 0}),
    ok = socket:connect(Socket, #{family => inet, addr => {127, 0, 0, 1}, port => Port}),
    Socket.

%% The server may have closed the connection: what it said before is still to be read.
-spec send(socket:socket(), iodata()) -> ok | closed.
send(Socket, Bytes) ->
    case socket:send(Socket, Bytes, ?TIMEOUT) of
        ok -> ok;
        {error, Reason} when Reason =:= epipe; Reason =:= econnreset; Reason =:= closed -> closed
    end.

-spec receive_some(socket:socket(), timeout()) -> binary() | closed | timeout.
receive_some(Socket, Timeout) ->
    case socket:recv(Socket, 0, Timeout) of
        {ok, Bytes} -> Bytes;
        {error, {timeout, Bytes}} -> Bytes;
        {error, timeout} -> timeout;
        {error, Reason} when Reason =:= closed; Reason =:= econnreset -> closed
    end.

%% --- comparing

outcome(Received, User) ->
    Neutral = neutral_bytes(Received, User),
    Parts = binary:split(Neutral, <<"<?xml version='1.0'?>">>, [global]),
    Streams = [parse(Stream) || Stream <- Parts, Stream =/= <<>>],
    Last = case Streams of [] -> []; _ -> lists:last(Streams) end,
    #{kind => kind(Last),
      trailer => lists:member('end', Last),
      received => [in_comparable_order(Stream) || Stream <- Streams]}.

neutral_bytes(Bytes, User) ->
    Random = re:replace(Bytes, <<"[0-9]{10,}">>, <<"NUMBER">>, [global, {return, binary}]),
    binary:replace(Random, User, <<"USER">>, [global]).

%% The same in terms of any shape, and what SASL makes of the name.
neutral(Binary, User) when is_binary(Binary) ->
    Plain = base64:encode(<<0, User/binary, 0, (password(User))/binary>>),
    substitute(Binary, [{Plain, <<"PLAIN">>}, {User, <<"USER">>}]);
neutral(List, User) when is_list(List) -> [neutral(Term, User) || Term <- List];
neutral(Tuple, User) when is_tuple(Tuple) -> list_to_tuple(neutral(tuple_to_list(Tuple), User));
neutral(Term, _User) -> Term.

%% What a stream's bytes mean: {header, Attrs}, elements and 'end', attributes sorted.
parse(Bytes) ->
    Parser = fxml_stream:new(self(), infinity),
    Parser1 = fxml_stream:parse(Parser, Bytes),
    true = fxml_stream:close(Parser1),
    [event(Event) || Event <- events()].

events() ->
    receive
        {'$gen_event', Event} -> [Event | events()]
    after 0 -> []
    end.

event({xmlstreamstart, Name, Attrs}) ->
    {header, Name, lists:sort(lists:keyreplace(<<"id">>, 1, Attrs, {<<"id">>, <<"ID">>}))};
event({xmlstreamelement, Element}) -> canonical(Element);
event({xmlstreamend, _}) -> 'end';
event({xmlstreamerror, _} = Error) -> Error.

%% An element with sorted attributes, without what is random, and without the words of a stream error: its condition
%% is what a client can go by.
-spec canonical(fxml:xmlel()) -> fxml:xmlel().
canonical(#xmlel{name = <<"stream:error">>, children = Children} = Element) ->
    Element#xmlel{children = [canonical(Child) || #xmlel{name = Name} = Child <- Children, Name =/= <<"text">>]};
canonical(#xmlel{name = <<"challenge">>} = Element) -> Element#xmlel{children = []};
canonical(#xmlel{name = Name, attrs = Attrs, children = Children}) ->
    #xmlel{name = Name,
           attrs = lists:sort([{Key, attribute(Name, Key, Value)} || {Key, Value} <- Attrs]),
           children = [case Child of #xmlel{} -> canonical(Child); _ -> Child end || Child <- Children]}.

attribute(<<"enabled">>, <<"id">>, _Value) -> <<"ID">>;
attribute(_Name, _Key, Value) -> Value.

%% The answers to stanzas come from the router and others from the c2s itself: which of two is the first is a matter of
%% luck on either side. The order of stanzas is that of what the c2s saw.
in_comparable_order(Events) ->
    {Stanzas, Others} = lists:partition(fun is_stanza/1, Events),
    Others ++ lists:sort(Stanzas).

is_stanza(#xmlel{name = Name}) -> lists:member(Name, [<<"iq">>, <<"message">>, <<"presence">>]);
is_stanza(_) -> false.

kind(Events) ->
    case [Condition || #xmlel{name = <<"stream:error">>, children = [#xmlel{name = Condition} | _]} <- Events] of
        [Condition | _] -> binary_to_list(Condition);
        [] -> "end"
    end.

%% Nothing when the two outcomes are as the entry has it, else what is wrong.
-spec explain(entry(), #{side() := outcome()}) -> ok | {differs, term()}.
explain({Name, _Play, Options}, #{stock := Stock, megaphone := Megaphone}) ->
    Kinds = {maps:get(kind, Stock), maps:get(kind, Megaphone)},
    case lists:keyfind(expect, 1, Options) of
        {expect, StockKind, MegaphoneKind, _Reason} when Kinds =:= {StockKind, MegaphoneKind} ->
            %% Up to where one of them ends, the two saw the same.
            case are_prefixes(maps:get(seen, Stock), maps:get(seen, Megaphone)) of
                true -> ok;
                false -> {differs, {Name, [{kind, StockKind, MegaphoneKind}, {seen, Stock, Megaphone}]}}
            end;
        {expect, _, _, _} -> {differs, {Name, {kinds, Kinds}}};
        false ->
            Keys = [Key || Key <- [kind, trailer, received, seen], not is_same(Key, Stock, Megaphone)],
            case Keys of
                [] when element(1, Kinds) =/= "late" -> ok;
                _ -> {differs, {Name, [{Key, maps:get(Key, Stock), maps:get(Key, Megaphone)}
                                       || Key <- lists:usort([kind | Keys])]}}
            end
    end.

%% After an error of its own a c2s may still get what was under way to it, or not. The parser's errors come in order.
is_same(seen, #{kind := Kind, seen := Stock}, #{seen := Megaphone})
  when Kind =/= "end", Kind =/= "not-well-formed", Kind =/= "policy-violation" ->
    are_prefixes(Stock, Megaphone);
%% Stock does not say who it is when the client's header fails before it names a host (RFC 6120, 4.7.1, wants it).
is_same(received, #{received := Stock}, #{received := Megaphone}) ->
    length(Stock) =:= length(Megaphone) andalso
        lists:all(fun({[{header, Name, Attrs} | Rest], [{header, Name, MoreAttrs} | Rest]}) ->
                          MoreAttrs =:= Attrs orelse lists:keydelete(<<"from">>, 1, MoreAttrs) =:= Attrs;
                     ({Events, MoreEvents}) -> Events =:= MoreEvents
                  end, lists:zip(Stock, Megaphone));
is_same(Key, Stock, Megaphone) ->
    maps:get(Key, Stock) =:= maps:get(Key, Megaphone).

are_prefixes(One, Other) -> lists:prefix(One, Other) orelse lists:prefix(Other, One).

%% --- in ejabberd's node

%% Records from now on what the c2s processes get.
-spec watch() -> ok.
watch() ->
    Caller = self(),
    {Owner, Monitor} = spawn_monitor(
        fun() ->
            ?MODULE = ets:new(?MODULE, [named_table, public, ordered_set, {write_concurrency, true}]),
            ok = ejabberd_hooks:add(c2s_handle_recv, ?HOST, ?MODULE, record, 10),
            Caller ! {self(), ready},
            receive stop -> ok end
        end),
    receive
        {Owner, ready} -> demonitor(Monitor, [flush]), ok;
        {'DOWN', Monitor, process, Owner, Reason} -> error(Reason)
    end.

%% The hook c2s_handle_recv.
-spec record(State, fxml:xmlel(), term()) -> State when State :: map().
record(#{ip := Client} = State, Element, _Packet) ->
    true = ets:insert(?MODULE, {{client(Client), erlang:unique_integer([monotonic])}, Element, self()}),
    State.

client({{0, 0, 0, 0, 0, 16#ffff, High, Low}, Port}) ->
    <<A, B, C, D>> = <<High:16, Low:16>>,
    {{A, B, C, D}, Port};
client(Client) -> Client.

%% The elements that the c2s of this client got, in order. They are forgotten. ended: the client has been told that its session is
%% over, and the c2s may still be getting the last of them.
-spec seen(client() | {ended, client()}) -> [fxml:xmlel()].
seen({ended, Client}) ->
    [begin
         Monitor = monitor(process, Session),
         receive {'DOWN', Monitor, process, Session, _} -> ok after ?TIMEOUT -> error({session_lives, Client}) end
     end || Session <- lists:usort(ets:select(?MODULE, [{{{Client, '_'}, '_', '$1'}, [], ['$1']}]))],
    seen(Client);
seen(Client) ->
    Elements = ets:select(?MODULE, [{{{Client, '_'}, '$1', '_'}, [], ['$1']}]),
    _ = ets:select_delete(?MODULE, [{{{Client, '_'}, '_', '_'}, [], [true]}]),
    Elements.
