%% Plays sequences of BOSH requests of a corpus (test/corpus/bosh.terms) on an HTTP listener and says what was answered,
%% in a form in which two listeners can be compared.
%%
%% An entry is {Name, [Step]} or {Name, [Step], [Option]}:
%%   Step   = {create, Attrs} | {create, Attrs, Payload}      asks for a session on connection a, and awaits the answer
%%          | {session, Attrs}    the same, then logs in and binds a resource: the next request id is 5
%%          | {post, Attrs} | {post, Attrs, Payload}          a request on connection a, and its answer
%%          | {send, Connection, Attrs} | {send, Connection, Attrs, Payload} | {body, Connection, Bytes}
%%          | {http, Connection, Method, Headers, Bytes}      sent, the answer not awaited
%%          | {answer, Connection} | {answer, Connection, Milliseconds} (for one that stock never gives)
%%          | {close, Connection}
%%   Option = {expect, Stock :: [string()] | any, Megaphone :: [string()], Reason :: string()}: what is said in short of
%%            each answer, where the two differ; any where what stock says depends on which of its processes is first
%% Attrs are those of the body but its namespaces; @SID@ in them is the session. Bytes are as in megaphone_ct_corpus.
-module(megaphone_ct_corpus_bosh).

-export([play/3, explain/2]).

-include("fxml.hrl").

-type answer() :: {Status :: 100..599, Headers :: [{binary(), binary()}], Body :: term()} | closed | none.
-type outcome() :: #{short := [string()], answers := [answer()], seen := [fxml:xmlel()]}.

-define(TIMEOUT, 20000).

-spec play(megaphone_ct_corpus:entry(), Connection, Fetch) -> outcome() when
    Connection :: #{side := megaphone_ct_corpus:side(), port := inet:port_number(), user := binary()},
    Fetch :: fun((megaphone_ct_corpus:client() | {ended, megaphone_ct_corpus:client()}) -> [fxml:xmlel()]).
play({_Name, Steps, _Options}, #{user := User} = Connection, Fetch) ->
    Player = Connection#{sockets => #{}, buffers => #{}, answers => [], sid => <<"none">>, client => none},
    Played = lists:foldl(fun step/2, Player, lists:append([expand(Step) || Step <- Steps])),
    #{answers := Reversed, sockets := Sockets, client := Client} = Played,
    [ok = socket:close(Socket) || Socket <- maps:values(Sockets)],
    Answers = lists:reverse(Reversed),
    Short = [short(Answer) || Answer <- Answers],
    Whose = case lists:member("200 terminate", Short) of
        true -> {ended, Client};
        false -> Client
    end,
    #{short => Short,
      answers => [comparable(Answer, User) || Answer <- Answers],
      seen => megaphone_ct_corpus:neutral(Fetch(Whose), User)}.

expand({create, Attrs}) -> expand({create, Attrs, ""});
expand({create, Attrs, Payload}) -> [{send, a, Attrs, Payload}, {answer, a}, learn_sid];
expand({session, Attrs}) ->
    lists:append([expand(Step) || Step <- [
        {create, ["rid='1' to='localhost' ver='1.11' xmpp:version='1.0' ", Attrs]},
        {post, "rid='2' sid='@SID@'",
         "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>@PLAIN@</auth>"},
        {post, "rid='3' sid='@SID@' to='localhost' xmpp:version='1.0' xmpp:restart='true'"},
        {post, "rid='4' sid='@SID@'",
         "<iq xmlns='jabber:client' type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
         "<resource>r</resource></bind></iq>"}]]);
expand({post, Attrs}) -> expand({post, Attrs, ""});
expand({post, Attrs, Payload}) -> [{send, a, Attrs, Payload}, {answer, a}];
expand({send, Name, Attrs}) -> expand({send, Name, Attrs, ""});
expand(Step) -> [Step].

step({send, Name, Attrs, Payload}, Player) ->
    step({body, Name, ["<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh' ", Attrs, ">",
                       Payload, "</body>"]}, Player);
step({body, Name, Body}, Player) ->
    step({http, Name, "POST", "Content-Type: text/xml; charset=utf-8\r\n", Body}, Player);
step({http, Name, Method, Headers, Bytes}, #{user := User, sid := Sid} = Player) ->
    Body = binary:replace(megaphone_ct_corpus:bytes(Bytes, User), <<"@SID@">>, Sid, [global]),
    Length = case {Method, Body} of
        {"POST", _} -> ["Content-Length: ", integer_to_list(byte_size(Body)), "\r\n"];
        {_, <<>>} -> []
    end,
    Request = [Method, " /bosh HTTP/1.1\r\nHost: localhost\r\n", Headers, Length, "\r\n", Body],
    #{sockets := #{Name := Socket}} = Connected = connected(Name, Player),
    _ = megaphone_ct_corpus:send(Socket, Request),
    Connected;
step({answer, Name}, Player) -> step({answer, Name, ?TIMEOUT}, Player);
step({answer, Name, Timeout}, #{buffers := Buffers, answers := Answers} = Player) ->
    #{sockets := #{Name := Socket}} = Player,
    {Answer, Rest} = answer(Socket, maps:get(Name, Buffers), Timeout),
    Player#{buffers := Buffers#{Name := Rest}, answers := [Answer | Answers]};
step(learn_sid, #{answers := [{_, _, Body} | _]} = Player) ->
    case fxml_stream:parse_element(Body) of
        #xmlel{} = Element -> Player#{sid := fxml:get_tag_attr_s(<<"sid">>, Element)};
        {error, _} -> Player
    end;
step(learn_sid, Player) -> Player;
step({close, Name}, #{sockets := Sockets} = Player) ->
    {Socket, Others} = maps:take(Name, Sockets),
    ok = socket:close(Socket),
    Player#{sockets := Others}.

connected(Name, #{sockets := Sockets} = Player) when is_map_key(Name, Sockets) -> Player;
connected(Name, #{side := Side, port := Port, sockets := Sockets, buffers := Buffers, client := Client} = Player) ->
    Socket = megaphone_ct_corpus:connect(Side, Port),
    {ok, #{addr := Address, port := LocalPort}} = socket:sockname(Socket),
    Player#{sockets := Sockets#{Name => Socket}, buffers := Buffers#{Name => <<>>},
            client := case Client of none -> {Address, LocalPort}; _ -> Client end}.

%% Reads one response, with the length that it declares.
answer(Socket, Buffer, Timeout) ->
    case binary:split(Buffer, <<"\r\n\r\n">>) of
        [Head, Rest] ->
            {ok, {http_response, _, Status, _}, Lines} =
                erlang:decode_packet(http_bin, <<Head/binary, "\r\n\r\n">>, []),
            Headers = headers(Lines),
            Length = binary_to_integer(proplists:get_value(<<"content-length">>, Headers, <<"0">>)),
            body(Socket, Status, Headers, Length, Rest);
        [_] -> more(Socket, Buffer, Timeout, fun(More) -> answer(Socket, More, Timeout) end)
    end.

headers(Lines) ->
    case erlang:decode_packet(httph_bin, Lines, []) of
        {ok, {http_header, _, Name, _, Value}, Rest} -> [{lower(Name), Value} | headers(Rest)];
        {ok, http_eoh, _} -> []
    end.

lower(Name) when is_atom(Name) -> string:lowercase(atom_to_binary(Name));
lower(Name) -> string:lowercase(Name).

body(_Socket, Status, Headers, Length, Buffer) when byte_size(Buffer) >= Length ->
    <<Body:Length/binary, Rest/binary>> = Buffer,
    {{Status, Headers, Body}, Rest};
body(Socket, Status, Headers, Length, Buffer) ->
    more(Socket, Buffer, ?TIMEOUT, fun(More) -> body(Socket, Status, Headers, Length, More) end).

more(Socket, Buffer, Timeout, Continue) ->
    case megaphone_ct_corpus:receive_some(Socket, Timeout) of
        closed -> {closed, Buffer};
        timeout -> {none, Buffer};
        Bytes -> Continue(<<Buffer/binary, Bytes/binary>>)
    end.

%% --- comparing

%% A status, what ends the session, and the names of what the body holds.
short({Status, _Headers, Body}) ->
    Words = case fxml_stream:parse_element(Body) of
        #xmlel{name = <<"body">>, attrs = Attrs, children = Children} ->
            [Value || {Key, Value} <- lists:sort(Attrs), Key =:= <<"type">> orelse Key =:= <<"condition">>]
                ++ [<<"ack=", Value/binary>> || {<<"ack">>, Value} <- Attrs]
                ++ [Name || #xmlel{name = Name} <- Children];
        _ -> []
    end,
    lists:flatten(lists:join(" ", [integer_to_list(Status) | [binary_to_list(Word) || Word <- Words]]));
short(Other) -> atom_to_list(Other).

comparable({Status, Headers, Body}, User) ->
    {Status, [Header || {Name, _} = Header <- lists:sort(Headers), is_compared(Name)], parsed(Body, User)};
comparable(Other, _User) -> Other.

%% The last two are sent by one side only: docs/differences.md.
is_compared(Name) ->
    not lists:member(Name, [<<"content-length">>, <<"date">>, <<"server">>, <<"connection">>,
                            <<"x-content-type-options">>, <<"content-security-policy">>]).

parsed(Body, User) ->
    Neutral = megaphone_ct_corpus:neutral_bytes(Body, User),
    case fxml_stream:parse_element(Neutral) of
        #xmlel{attrs = Attrs} = Element ->
            WithoutIds = [{Key, attribute(Key, Value)} || {Key, Value} <- Attrs],
            megaphone_ct_corpus:canonical(Element#xmlel{attrs = WithoutIds});
        {error, _} -> Neutral
    end.

attribute(Key, _Value) when Key =:= <<"sid">>; Key =:= <<"authid">> -> <<"ID">>;
attribute(_Key, Value) -> Value.

%% Nothing when the two outcomes are as the entry has it, else what is wrong.
-spec explain(megaphone_ct_corpus:entry(), #{megaphone_ct_corpus:side() := outcome()}) -> ok | {differs, term()}.
explain({Name, _Steps, Options}, #{stock := Stock, megaphone := Megaphone}) ->
    Shorts = {maps:get(short, Stock), maps:get(short, Megaphone)},
    case lists:keyfind(expect, 1, Options) of
        {expect, StockShort, MegaphoneShort, _Reason} 
          when Shorts =:= {StockShort, MegaphoneShort};
               StockShort =:= any, element(2, Shorts) =:= MegaphoneShort -> ok;
        {expect, _, _, _} -> {differs, {Name, {kinds, Shorts}}};
        false when Stock =:= Megaphone -> ok;
        false ->
            {differs, {Name, [{kind, element(1, Shorts), element(2, Shorts)}
                              | [{Key, maps:get(Key, Stock), maps:get(Key, Megaphone)}
                                 || Key <- [answers, seen], maps:get(Key, Stock) =/= maps:get(Key, Megaphone)]]}}
    end.
