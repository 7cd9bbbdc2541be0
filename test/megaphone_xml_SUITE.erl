%% XML streams as terms: the same bytes to fxml_stream and to a listener in mode xmpp have to give the same messages,
%% and the same terms to fxml and to a session the same bytes.
-module(megaphone_xml_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([streams_give_the_events_of_fxml_stream/1, streams_byte_by_byte_give_the_same_events/1,
         broken_streams_give_an_error/1, broken_header_is_answered_by_the_library/1,
         stanzas_too_big_give_the_same_error/1, forbidden_xml_names_its_condition/1,
         random_elements_arrive_as_they_are/1, stream_restart_forgets_namespaces/1, what_came_before_the_owner_is_read/1,
         long_events_are_refused_on_a_normal_scheduler/1]).
-export([packets_sent_are_those_of_fxml/1, random_elements_are_sent_as_by_fxml/1, odd_terms_are_taken_as_by_fxml/1,
         terms_that_are_no_packets_are_badarg/1, long_work_is_refused_on_a_normal_scheduler/1,
         packets_wait_for_room_and_flush/1]).
-export([facts_and_names_of_a_session/1, websocket_session_is_one_of_its_own/1, sessions_that_are_gone_are_closed/1,
         settings_are_checked/1]).

-include_lib("stdlib/include/assert.hrl").

-import(megaphone_ct_xml, [stock_events/2, listen/1, open/1, close/1, event/0, events/2, own/1, log_in/1, send/2,
                           random_element/1]).

-define(TIMEOUT, 10000).
-define(HEADER, <<"<?xml version='1.0'?><stream:stream to='localhost' xmlns='jabber:client' "
                  "xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>">>).
-define(MAX_STANZA, 262144).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [streams_give_the_events_of_fxml_stream, streams_byte_by_byte_give_the_same_events, broken_streams_give_an_error,
     broken_header_is_answered_by_the_library,
     stanzas_too_big_give_the_same_error, forbidden_xml_names_its_condition, random_elements_arrive_as_they_are,
     stream_restart_forgets_namespaces, what_came_before_the_owner_is_read,
     long_events_are_refused_on_a_normal_scheduler,
     packets_sent_are_those_of_fxml, random_elements_are_sent_as_by_fxml, odd_terms_are_taken_as_by_fxml,
     terms_that_are_no_packets_are_badarg, long_work_is_refused_on_a_normal_scheduler,
     packets_wait_for_room_and_flush,
     facts_and_names_of_a_session, websocket_session_is_one_of_its_own, sessions_that_are_gone_are_closed,
     settings_are_checked].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(fast_xml),
    {ok, _} = application:ensure_all_started(megaphone),
    Config.

end_per_suite(_Config) -> application:stop(megaphone).

end_per_testcase(_Case, _Config) ->
    ok = megaphone_nif:xmpp_configure(#{}),
    [megaphone:close(Conn) || Conn <- megaphone:connections()],
    ok.

%% --- receiving

streams_give_the_events_of_fxml_stream(_Config) ->
    Listener = listen(#{max_stanza => ?MAX_STANZA}),
    [compare(Listener, [Stream]) || Stream <- streams()],
    ok.

streams_byte_by_byte_give_the_same_events(_Config) ->
    Listener = listen(#{max_stanza => ?MAX_STANZA}),
    [compare(Listener, [<<Byte>> || <<Byte>> <= Stream]) || Stream <- streams(), byte_size(Stream) < 1000],
    ok.

broken_streams_give_an_error(_Config) ->
    Listener = listen(#{max_stanza => ?MAX_STANZA}),
    [?assertEqual({Broken, error}, {Broken, lists:last(compare(Listener, [?HEADER, Broken]))}) || Broken <- broken()],
    ok.

%% Nobody is started for it, and the answer is a whole stream.
broken_header_is_answered_by_the_library(_Config) ->
    ok = megaphone_nif:xmpp_configure(#{from => <<"example.org">>, lang => <<"de">>}),
    Listener = listen(#{}),
    [begin
         ?assertEqual([not_well_formed], stock_events([Header], ?MAX_STANZA)),
         Answer = megaphone_ct_xml:refusal(Listener, Header),
         [{xmlstreamstart, Name, Attrs}, {xmlstreamelement, Error}, {xmlstreamend, Name}] =
             stock_events([Answer], ?MAX_STANZA),
         ?assertEqual(<<"stream:stream">>, Name),
         ?assertEqual({<<"from">>, <<"example.org">>}, lists:keyfind(<<"from">>, 1, Attrs)),
         ?assertEqual({<<"xml:lang">>, <<"de">>}, lists:keyfind(<<"xml:lang">>, 1, Attrs)),
         ?assertMatch({xmlel, <<"stream:error">>, [], [{xmlel, <<"not-well-formed">>, _, []} | _]}, Error)
     end || Header <- [<<"</s>">>, <<"text<s>">>, <<"<s a='1' a='1'>">>, <<"<p:s>">>, <<"<s ", 0, ">">>]],
    ?assertEqual([], megaphone_ct_sockets:messages()).

stanzas_too_big_give_the_same_error(_Config) ->
    Max = 1000,
    Listener = listen(#{max_stanza => Max}),
    Stanza = fun(Size) -> ["<a>", binary:copy(<<"x">>, Size - 7), "</a>"] end,
    Sizes = [998, 999, 1000, 1001, 5000],
    Events = [compare(Listener, [?HEADER, iolist_to_binary(Stanza(Size))], Max) || Size <- Sizes],
    ?assertMatch([[_, {xmlstreamelement, _}], [_, {xmlstreamelement, _}], [_, too_big], [_, too_big], [_, too_big]],
                 Events).

%% What fxml_stream lets through and RFC 6120 section 11 forbids.
forbidden_xml_names_its_condition(_Config) ->
    Listener = listen(#{}),
    Condition = fun(Bytes) ->
        [{xmlstreamstart, _, _}, Error] = events(Listener, [?HEADER, Bytes]),
        Error
    end,
    ?assertMatch({'restricted-xml', Text} when is_binary(Text), Condition(<<"<!-- c --><a/>">>)),
    ?assertMatch({'restricted-xml', _}, Condition(<<"<a><?pi data?></a>">>)),
    ?assertMatch({'restricted-xml', _}, Condition(<<"<a>&undefined;</a>">>)),
    ?assertMatch({'restricted-xml', _}, Condition(<<"<!DOCTYPE a>">>)),
    ?assertMatch({'policy-violation', _}, Condition(binary:copy(<<"<a>">>, 200))),
    Attributes = [[" a", integer_to_list(N), "='1'"] || N <- lists:seq(1, 100)],
    ?assertMatch({'policy-violation', _}, Condition(iolist_to_binary(["<a", Attributes, "/>"]))).

random_elements_arrive_as_they_are(_Config) ->
    Listener = listen(#{max_stanza => ?MAX_STANZA}),
    Elements = [random_element(named) || _ <- lists:seq(1, 500)],
    %% fxml_stream counts all bytes that it is given at once as one stanza's.
    Events = compare(Listener, [?HEADER | [fxml:element_to_binary(Element) || Element <- Elements]]),
    ?assertEqual(501, length(Events)).

stream_restart_forgets_namespaces(_Config) ->
    {Client, Session} = Stream = open(listen(#{})),
    Other = <<"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'><a/>">>,
    Auth = <<"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>">>,
    %% What follows an element of SASL in the same segment waits until it is known whether a new stream begins.
    ok = gen_tcp:send(Client, [Auth, Other]),
    ?assertMatch({xmlstreamelement, {xmlel, <<"auth">>, _, []}}, event()),
    ok = megaphone_nif:xmpp_reset(Session),
    ?assertMatch({xmlstreamstart, <<"stream:stream">>, [{<<"xmlns">>, <<"jabber:server">>} | _]}, event()),
    ?assertEqual({xmlstreamelement, {xmlel, <<"a">>, [], []}}, event()),
    ok = close(Stream).

%% A stanza that comes before its owner waits in the kernel, which tells of it only once.
what_came_before_the_owner_is_read(_Config) ->
    {Listener, Port} = listen(#{max_stanza => ?MAX_STANZA}),
    {ok, Client} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}], ?TIMEOUT),
    Text = binary:copy(<<"x">>, 200000),
    ok = gen_tcp:send(Client, [?HEADER, "<a>", Text, "</a>"]),
    Session = receive {'$megaphone_start', Listener, Started} -> Started
              after ?TIMEOUT -> error(timeout)
              end,
    ok = own(Session),
    ok = log_in(Session),
    ?assertMatch({xmlstreamstart, _, _}, event()),
    ?assertEqual({xmlstreamelement, {xmlel, <<"a">>, [], [{xmlcdata, Text}]}}, event()),
    ok = close({Client, Session}).

%% However much has come: a call on a normal scheduler takes a measure of it, and leaves what takes long to another.
long_events_are_refused_on_a_normal_scheduler(_Config) ->
    {Client, Session} = Stream = open(listen(#{max_stanza => ?MAX_STANZA})),
    ok = log_in(Session),
    Text = binary:copy(<<"x">>, 100000),
    ok = gen_tcp:send(Client, [binary:copy(<<"<b/>">>, 5000), "<a>", Text, "</a>"]),
    Calls = recv_until_large(Session, 0, 0),
    ?assert(Calls > 100),
    ?assertEqual({[{xmlstreamelement, {xmlel, <<"a">>, [], [{xmlcdata, Text}]}}], wait},
                 megaphone_nif:xmpp_recv_large(Session)),
    ok = close(Stream).

recv_until_large(Session, Calls, Seen) ->
    case megaphone_nif:xmpp_recv(Session) of
        large ->
            ?assertEqual(5000, Seen),
            Calls;
        {[_ | _] = Events, _} ->
            ?assert(length(Events) =< 32),
            recv_until_large(Session, Calls + 1, Seen + length(Events));
        {[], _} ->
            recv_until_large(Session, Calls + 1, Seen)
    end.

compare(Listener, Chunks) -> compare(Listener, Chunks, ?MAX_STANZA).

compare(Listener, Chunks, MaxStanza) ->
    Stock = [kind(Event) || Event <- stock_events(Chunks, MaxStanza)],
    Ours = [kind(Event) || Event <- events(Listener, Chunks)],
    ?assertEqual({Chunks, Stock}, {Chunks, Ours}),
    Ours.

%% Which error it is in detail is each parser's own matter.
kind(not_well_formed) -> error;
kind({'restricted-xml', Text}) when is_binary(Text) -> error;
kind(Event) -> Event.

%% Each header with all that may follow any.
streams() ->
    Stanzas = stanzas(),
    [iolist_to_binary([Header, Stanzas, End]) || {Header, End} <- headers()]
        ++ [iolist_to_binary([?HEADER, Stanza, "</stream:stream>"]) || Stanza <- Stanzas ++ large_stanzas()]
        ++ [<<"<s/>">>, <<"<s></s>junk">>, <<"<s><a/>">>, <<"<s><a>half">>, <<"<s:s xmlns:s='u'></s:s>">>,
            <<16#EF, 16#BB, 16#BF, "<s><a/></s>">>].

headers() ->
    [{?HEADER, "</stream:stream>"},
     {"<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' xml:lang='en' to='&amp;'>",
      "</stream:stream >"},
     {"<stream xmlns='http://etherx.jabber.org/streams' to=\"a b\"\n>", "</stream>"},
     {"<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns:q='urn:q' q:z='1' z='2'>", "</s:stream>"},
     {"<?xml version=\"1.0\" encoding='UTF-8'?>\n <e xmlns=''>", "</e>"}].

stanzas() ->
    [<<"<message to='a@b/c' type=\"chat\"><body>Hello</body></message>">>,
     <<"<message xmlns='jabber:client'><body>x</body></message>">>,
     <<"<message xmlns='jabber:server'><body xmlns='jabber:client'>x</body></message>">>,
     <<"<iq type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='a@b'/></query></iq>">>,
     <<"<iq><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>a</resource><x xmlns=''/></bind></iq>">>,
     <<"<presence/>">>, <<"<presence></presence>">>, <<"<presence ></presence\n>">>, <<" \t\r\n ">>,
     <<"<a b='1' xmlns='u' c='2' xmlns:p='v' p:d='3'/>">>,
     <<"<p:a xmlns:p='v'><p:b/><c/></p:a>">>,
     <<"<p:a xmlns:p='v' xmlns='u'><p:b/><c/><d xmlns='v'/></p:a>">>,
     <<"<stream:features xmlns:stream='http://etherx.jabber.org/streams'><a/></stream:features>">>,
     <<"<stream:features xmlns:stream='urn:q'><a/><stream:b/></stream:features>">>,
     <<"<a><stream:x xmlns:stream='urn:other'><stream:y/></stream:x><stream:z xmlns:stream='urn:other'/></a>">>,
     <<"<a xmlns:q='urn:q' q:b='1'><q:c xmlns:r='urn:r'><r:d/></q:c></a>">>,
     <<"<q:a xmlns:q='urn:q' q:b='1'><q:d xmlns='urn:q'><e/></q:d></q:a>">>,
     <<"<a xmlns=''><b xmlns='jabber:client'><c xmlns=''/></b></a>">>,
     <<"<a xmlns='&amp;u'/>">>, <<"<a xmlns='u' ><b xmlns='u' ><c xmlns='v' xmlns:d='w'/></b></a>">>,
     <<"<a>x&amp;y&lt;z&gt;&apos;&quot;</a>">>, <<"<a b='&amp;&lt;&gt;&apos;&quot;'/>">>,
     <<"<a b=\"it's\" c='say \"x\"' d='>'>></a>">>,
     <<"<a>&#65;&#x42;&#x1F600;&#10;&#13;</a>">>, <<"<a b='&#9;&#10;&#13;&#32;'/>">>,
     <<"<a>one\r\ntwo\rthree\nfour\r\r\n\n\r</a>">>, <<"<a b='one\r\ntwo\rthree\nfour\tfive  six'/>">>,
     <<"<a>x<![CDATA[<b>&amp;]]]]><![CDATA[>]]>y</a>">>, <<"<a><![CDATA[]]></a>">>,
     <<"<a> <b/> <c/>\n</a>">>, <<"<a>\t<b> x </b>y<c/>z</a>">>,
     <<"<a>é€😀</a>"/utf8>>, <<"<élève naïf='ü'/>"/utf8>>,
     <<"<a-b.c_d xml:lang='de' xml:space='preserve'/>">>,
     <<"<a b='1'><b c='2'><c d='3'><d e='4'><e f='5'/></d></c></b></a>">>,
     <<"text between<a/>stanzas &amp; <![CDATA[data]]><b/>">>].

%% Texts around the size from which a binary is not on a process's heap, and all dimensions at length.
large_stanzas() ->
    [iolist_to_binary(Stanza) || Stanza <-
        [["<a k='", binary:copy(<<"v">>, Size), "'>", binary:copy(<<"t">>, Size), "</a>"]
         || Size <- [63, 64, 65, 50000]]
        ++ [["<a>", binary:copy(<<"&lt;é"/utf8>>, 20000), "</a>"],
            ["<a>", [["<b n='", integer_to_list(N), "'/>"] || N <- lists:seq(1, 5000)], "</a>"],
            [binary:copy(<<"<a xmlns='u'>">>, 100), "x", binary:copy(<<"</a>">>, 100)],
            ["<a", [[" k", integer_to_list(N), "='", integer_to_list(N), "'"] || N <- lists:seq(1, 60)], "/>"],
            [["<a>", integer_to_list(N), "</a>"] || N <- lists:seq(1, 1000)]]].

broken() ->
    [<<"<a><b></a></b>">>, <<"<ok/><a></b>">>, <<"<a b='1' b='2'/>">>, <<"<a xmlns:p='u' xmlns:p='v'/>">>,
     <<"<nope:a/>">>, <<"<a nope:b='1'/>">>, <<"<a:b:c xmlns:a='u'/>">>, <<"<:a/>">>, <<"<a xmlns:p=''/>">>,
     <<"<a b=1/>">>, <<"<a b/>">>, <<"<a b='<'/>">>, <<"<a>&</a>">>, <<"<a>&#0;</a>">>, <<"<a>&#xD800;</a>">>,
     <<"<a>]]></a>">>, <<"< a/>">>, <<"<1a/>">>, <<"</>">>, <<"<a", 0, "/>">>, <<"<a>", 16#C3, 16#28, "</a>">>,
     <<"<a>", 16#ED, 16#A0, 16#80, "</a>">>, <<"<a>", 16#FF, "</a>">>, <<"<a>&undefined;</a>">>, <<"<!DOCTYPE a>">>,
     <<"<a>x</a></wrong>">>].

%% --- sending

packets_sent_are_those_of_fxml(_Config) ->
    {Client, Session} = Stream = open(listen(#{})),
    Attrs = [{<<"from">>, <<"a'b">>}, {<<"xmlns">>, <<"jabber:client">>}],
    sends(Client, Session, {xmlstreamstart, <<"stream:stream">>, Attrs},
          fxml:element_to_header({xmlel, <<"stream:stream">>, Attrs, []})),
    Message = {xmlel, <<"message">>, [{<<"to">>, <<"a@b\t">>}], [{xmlel, <<"body">>, [], [{xmlcdata, <<"<&>'\"">>}]}]},
    sends(Client, Session, {xmlstreamelement, Message}, fxml:element_to_binary(Message)),
    sends(Client, Session, {xmlstreamraw, <<"\r\n\r\n">>}, <<"\r\n\r\n">>),
    sends(Client, Session, {xmlstreamraw, ["\r\n", [<<" ">> | <<"\t">>]]}, <<"\r\n \t">>),
    sends(Client, Session, {xmlstreamend, <<"stream:stream">>}, <<"</stream:stream>">>),
    ok = close(Stream).

random_elements_are_sent_as_by_fxml(_Config) ->
    {Client, Session} = Stream = open(listen(#{})),
    [begin
         Element = random_element(any),
         sends(Client, Session, {xmlstreamelement, Element}, megaphone_ct_xml:written(Element))
     end || _ <- lists:seq(1, 2000)],
    ok = close(Stream).

odd_terms_are_taken_as_by_fxml(_Config) ->
    {Client, Session} = Stream = open(listen(#{})),
    Odd = [{xmlel, <<>>, [], []}, {xmlel, <<"a">>, [], [{xmlcdata, <<>>}]}, {xmlel, <<"a">>, [], [{xmlcdata, []}]},
           {xmlel, <<"a">>, [], [{xmlcdata, <<"x">>}, {xmlcdata, <<"y">>}]}, {xmlel, <<"a">>, [{[], []}], []},
           {xmlel, "a", [{"b", ["c", <<"d">>]}], [{xmlcdata, ["x", [<<"y">> | <<"z">>]]}]},
           {xmlel, <<"a">>, none, []}, {xmlel, <<"a">>, [{<<"b">>, <<"c">>} | none], [{xmlcdata, <<"x">>} | none]},
           {xmlel, <<"a">>, [], [{xmlel, <<"b">>, [], [{xmlcdata, binary:copy(<<"<">>, 300000)}]}]}],
    [sends(Client, Session, {xmlstreamelement, Element}, fxml:element_to_binary(Element)) || Element <- Odd],
    ok = close(Stream).

terms_that_are_no_packets_are_badarg(_Config) ->
    {_, Session} = Stream = open(listen(#{})),
    Elements = [{xmlel, a, [], []}, {xmlel, <<"a">>, [], none}, {xmlel, <<"a">>, [{<<"b">>}], []},
                {xmlel, <<"a">>, [b], []}, {xmlel, <<"a">>, [{<<"b">>, c}], []}, {xmlel, <<"a">>, [], [<<"x">>]},
                {xmlel, <<"a">>, [], [{xmlcdata, x}]}, {xmlel, <<"a">>, [], [{xmlcdata, <<1:3>>}]},
                {xmlel, <<"a">>, [], [{other, <<>>}]}, {xmlel, <<"a">>, []}, {other, <<"a">>, [], []},
                {xmlel, <<"a">>, [], [{xmlcdata, [300]}]}, none, [], {}],
    [begin
         ?assertError(badarg, fxml:element_to_binary(Element)),
         ?assertError(badarg, send(Session, {xmlstreamelement, Element}))
     end || Element <- Elements],
    [?assertError(badarg, megaphone_nif:xmpp_send_large(Session, Packet))
     || Packet <- [{xmlstreamend, name}, {xmlstreamraw, [300]}, {xmlstreamstart, <<"a">>, [b]}, {other, <<"a">>},
                   other]],
    ok = close(Stream).

%% However deep or wide: the bound is on the work, not on bytes alone.
long_work_is_refused_on_a_normal_scheduler(_Config) ->
    {Client, Session} = Stream = open(listen(#{})),
    Many = 20000,
    Empty = {xmlel, <<"a">>, [], []},
    Deep = lists:foldl(fun(_, Child) -> {xmlel, <<"a">>, [], [Child]} end, Empty, lists:seq(1, Many)),
    Wide = {xmlel, <<"a">>, [], lists:duplicate(Many, {xmlel, <<>>, [], []})},
    Texts = {xmlel, <<"a">>, [], lists:duplicate(Many, {xmlcdata, <<>>})},
    Long = {xmlel, <<"a">>, [], [{xmlcdata, binary:copy(<<"x">>, Many)}]},
    [?assertEqual(large, megaphone_nif:xmpp_send(Session, {xmlstreamelement, Element}))
     || Element <- [Deep, Wide, Texts, Long]],
    ?assertEqual(large, megaphone_nif:xmpp_send(Session, {xmlstreamraw, binary:copy(<<" ">>, Many)})),
    %% Not with fxml, which needs the thread's stack for each level.
    sends(Client, Session, {xmlstreamelement, Deep},
          iolist_to_binary([binary:copy(<<"<a>">>, Many), "<a/>", binary:copy(<<"</a>">>, Many)])),
    sends(Client, Session, {xmlstreamelement, Wide}, fxml:element_to_binary(Wide)),
    ok = close(Stream).

packets_wait_for_room_and_flush(_Config) ->
    {Client, Session} = Stream = open(listen(#{})),
    Packet = {xmlstreamelement, {xmlel, <<"a">>, [], [{xmlcdata, binary:copy(<<"x">>, 9993)}]}},
    {Taken, Ref} = send_until_full(Session, Packet, 0),
    {ok, _} = gen_tcp:recv(Client, Taken * 10000, ?TIMEOUT),
    receive {'$megaphone', Ref} -> ok
    after ?TIMEOUT -> error(timeout)
    end,
    %% What was refused was not taken: the next byte is the next packet's.
    sends(Client, Session, {xmlstreamraw, <<" ">>}, <<" ">>),
    {Again, _} = send_until_full(Session, Packet, 0),
    ok = megaphone_nif:xmpp_cancel_wait(Session),
    {ok, _} = gen_tcp:recv(Client, Again * 10000, ?TIMEOUT),
    ok = close(Stream).

send_until_full(Session, Packet, Taken) ->
    case megaphone_nif:xmpp_send(Session, Packet) of
        ok -> send_until_full(Session, Packet, Taken + 1);
        {wait, Ref} -> {Taken, Ref}
    end.

sends(Client, Session, Packet, Expected) ->
    ok = send(Session, Packet),
    ?assertEqual({ok, Expected}, gen_tcp:recv(Client, byte_size(Expected), ?TIMEOUT)).

%% --- sessions

facts_and_names_of_a_session(_Config) ->
    {Listener, Port} = listen(#{}),
    {Client, {tcp, Conn} = Session} = Stream = open({Listener, Port}),
    {ok, Name} = inet:sockname(Client),
    Local = {{127, 0, 0, 1}, Port},
    ?assertEqual({ok, #{listener => Listener, peer => Name, local => Local}}, megaphone_nif:xmpp_facts(Session)),
    ?assertEqual({ok, Name}, megaphone_nif:xmpp_peername(Session)),
    ?assertEqual({ok, Local}, megaphone_nif:xmpp_sockname(Session)),
    Self = self(),
    ?assertMatch({ok, #{transport := tcp, owner := Self}}, megaphone_nif:xmpp_info(Session)),
    ?assertEqual([Conn], megaphone:connections()),
    [?assertEqual(ok, megaphone_nif:xmpp_shaper(Session, Shaper)) || Shaper <- [{1000, 2000}, {1 bsl 40, 1}, none]],
    [?assertError(badarg, megaphone_nif:xmpp_shaper(Session, Shaper)) || Shaper <- [{0, 1}, {1, 0}, 5, other]],
    ok = close(Stream).

%% On a route of an HTTP listener. Its facts are those of the request, and only until there is an owner.
websocket_session_is_one_of_its_own(_Config) ->
    {Listener, Port} = listen(#{mode => http, routes => [{<<"/ws">>, websocket}]}),
    {ok, Client} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}], ?TIMEOUT),
    ok = gen_tcp:send(Client, [
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Protocol: xmpp\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
        message("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>")
    ]),
    Session = receive {'$megaphone_start', Listener, {websocket, _} = Started} -> Started
              after ?TIMEOUT -> error(timeout)
              end,
    ?assertMatch({ok, #{host := <<"localhost">>, path := <<"/ws">>, forwarded_for := <<"192.0.2.1">>}},
                 megaphone_nif:xmpp_facts(Session)),
    ok = own(Session),
    {ok, Facts} = megaphone_nif:xmpp_facts(Session),
    ?assertEqual([listener, local, peer], lists:sort(maps:keys(Facts))),
    ?assertMatch({ok, #{transport := websocket}}, megaphone_nif:xmpp_info(Session)),
    ?assertMatch({xmlstreamstart, <<"stream:stream">>, _}, event()),
    ok = gen_tcp:send(Client, message("<presence xmlns='jabber:client'/>")),
    ?assertEqual({xmlstreamelement, {xmlel, <<"presence">>, [{<<"xmlns">>, <<"jabber:client">>}], []}}, event()),
    ok = send(Session, {xmlstreamelement, {xmlel, <<"presence">>, [], []}}),
    ok = megaphone_nif:xmpp_close(Session),
    Sent = megaphone_ct_sockets:receive_all(Client),
    ?assertMatch({match, _}, re:run(Sent, "^HTTP/1.1 101 .*\r\n\r\n..<presence xmlns='jabber:client'/>", [dotall])).

%% A frame with a mask, which may be zero.
message(Text) -> [<<1:1, 0:3, 1:4, 1:1, (length(Text)):7, 0:32>>, Text].

sessions_that_are_gone_are_closed(_Config) ->
    Listener = listen(#{}),
    {Client, {tcp, Conn} = Session} = open(Listener),
    ok = gen_tcp:close(Client),
    ?assertEqual(closed, event()),
    %% Nobody else's either.
    {_, Other} = Stream = open(Listener),
    {Pid, Monitor} = spawn_monitor(fun() -> exit(megaphone_nif:xmpp_send(Other, {xmlstreamraw, <<" ">>})) end),
    receive {'DOWN', Monitor, process, Pid, Sent} -> ?assertEqual({error, closed}, Sent)
    after ?TIMEOUT -> error(timeout)
    end,
    ok = close(Stream),
    [begin
         [?assertEqual({Function, {error, closed}}, {Function, megaphone_nif:Function(Gone)})
          || Function <- [xmpp_facts, xmpp_recv, xmpp_recv_large, xmpp_reset, xmpp_close, xmpp_peername,
                          xmpp_sockname]],
         ?assertEqual({error, closed}, megaphone_nif:xmpp_started(Gone, self())),
         ?assertEqual({error, closed}, megaphone_nif:xmpp_send(Gone, {xmlstreamraw, <<" ">>})),
         ?assertEqual({error, closed}, megaphone_nif:xmpp_flush(Gone)),
         ?assertEqual({error, closed}, megaphone_nif:xmpp_shaper(Gone, none)),
         ?assertEqual(ok, megaphone_nif:xmpp_cancel_wait(Gone))
     end || Gone <- [Session, {websocket, Conn}, {http_bind, Conn}, {tcp, 1 bsl 63}]],
    [?assertError(badarg, megaphone_nif:xmpp_facts(NoSession))
     || NoSession <- [{other, Conn}, Conn, {tcp, -1}, {tcp, 1, 2}]].

settings_are_checked(_Config) ->
    ?assertEqual(ok, megaphone_nif:xmpp_configure(#{
        from => <<"localhost">>, lang => <<"en">>, header_timeout => 1000, stanza_timeout => 1000, max_stanza => 1000,
        ping_interval => 0, websocket_timeout => 1000, origins => [<<"https://example.org">>],
        bosh_hosts => #{<<"localhost">> => #{max_inactivity => 30000, max_pause => 120000, max_concat => unlimited},
                        <<"example.org">> => #{max_concat => 5}}
    })),
    [?assertError(badarg, megaphone_nif:xmpp_configure(Settings))
     || Settings <- [none, #{other => 1}, #{max_stanza => 0}, #{origins => [a]}, #{header_timeout => -1},
                     #{bosh_hosts => #{<<"a">> => #{max_concat => 0}}}, #{bosh_hosts => #{<<"a">> => #{other => 1}}}]],
    [?assertError(badarg, listen(Options))
     || Options <- [#{max_stanza => 0}, #{routes => [{<<"/">>, other}]}, #{routes => none}]].
