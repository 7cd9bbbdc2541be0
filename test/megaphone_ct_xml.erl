%% XML streams for tests: what stock's parser says of them, and what a session of a listener in mode xmpp says, with the
%% calling process in the parts of starter and owner.
-module(megaphone_ct_xml).

-export([stock_events/2, listen/1, events/2, refusal/2, open/1, own/1, log_in/1, close/1, event/0, send/2,
         written/1, random_element/1]).

-export_type([listener/0, stream/0, event/0]).

-type listener() :: {megaphone:listener(), inet:port_number()}.
-type stream() :: {Client :: gen_tcp:socket(), megaphone_nif:xmpp_socket()}.

%% An error is the last one. A condition comes from Megaphone only.
-type event() ::
    {xmlstreamstart, binary(), [{binary(), binary()}]}
    | {xmlstreamelement, tuple()}
    | {xmlstreamend, binary()}
    | too_big
    | not_well_formed
    | {Condition :: atom(), Text :: binary()}.

-define(LOOPBACK, {127, 0, 0, 1}).
-define(TIMEOUT, 10000).
%% Key of the process dictionary: {Session, Events that were taken and not given}.
-define(OWNED, megaphone_ct_owned).
-define(HEADER, <<"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>">>).

%% What a c2s would be told by fxml_stream, without text between stanzas, up to the first error or the end.
-spec stock_events([binary()], MaxStanza :: pos_integer()) -> [event()].
stock_events(Chunks, MaxStanza) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
        Parser = lists:foldl(fun(Chunk, Parser) -> fxml_stream:parse(Parser, Chunk) end,
                             fxml_stream:new(self(), MaxStanza), Chunks),
        fxml_stream:close(Parser),
        exit({events, stock_events()})
    end),
    receive {'DOWN', Monitor, process, Pid, {events, Events}} -> Events
    after ?TIMEOUT -> error(timeout)
    end.

stock_events() ->
    receive
        {'$gen_all_state_event', {xmlstreamcdata, _}} -> stock_events();
        {'$gen_event', Event} -> followed(Event, fun stock_events/0)
    after 0 -> []
    end.

%% In mode xmpp unless the options say otherwise, with the caller as starter, until it ends.
-spec listen(#{atom() => term()}) -> listener().
listen(Options) ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, ?LOOPBACK}, {backlog, 100}]),
    {ok, Fd} = inet:getfd(Socket),
    {ok, Port} = inet:port(Socket),
    {ok, Listener} = megaphone_nif:listen(Fd, self(), maps:merge(#{mode => xmpp, starter => self()}, Options)),
    {Listener, Port}.

%% What the owner of a session is told when a client sends the chunks, each with a write of its own, and closes. A
%% stream that nobody is started for has no events but, when it is answered with an error, not_well_formed.
-spec events(listener(), [binary()]) -> [event()].
events({Listener, Port}, Chunks) ->
    Client = connect(Port, [{active, true}, {nodelay, true}]),
    {Sender, Monitor} = spawn_monitor(fun() -> send_and_shut(Client, Chunks) end),
    Events =
        receive
            {'$megaphone_start', Listener, {tcp, _} = Session} ->
                ok = own(Session),
                ok = log_in(Session),
                Found = owner_events(),
                %% closed when the peer is gone, and there is nothing left to close.
                _ = megaphone_nif:xmpp_close(Session),
                _ = until_closed(Client, <<>>),
                Found;
            {tcp_closed, Client} -> [];
            {tcp, Client, Answer} ->
                {match, _} = re:run(until_closed(Client, Answer), "<stream:error>.*</stream:stream>$"),
                [not_well_formed]
        after ?TIMEOUT -> error({timeout, Chunks})
        end,
    receive {'DOWN', Monitor, process, Sender, normal} -> ok
    after ?TIMEOUT -> error({timeout, Chunks})
    end,
    Events.

%% What a client gets whose stream nobody is started for.
-spec refusal(listener(), binary()) -> binary().
refusal({_, Port}, Bytes) ->
    Client = connect(Port, [{active, false}]),
    ok = gen_tcp:send(Client, Bytes),
    megaphone_ct_sockets:receive_all(Client).

%% A stream of which the header was exchanged, with the caller as owner.
-spec open(listener()) -> stream().
open({Listener, Port}) ->
    Client = connect(Port, [{active, false}]),
    ok = gen_tcp:send(Client, ?HEADER),
    receive
        {'$megaphone_start', Listener, Session} ->
            ok = own(Session),
            {xmlstreamstart, <<"stream:stream">>, _} = event(),
            {Client, Session}
    after ?TIMEOUT -> error(timeout)
    end.

-spec close(stream()) -> ok.
close({Client, Session}) ->
    ok = megaphone_nif:xmpp_close(Session),
    ok = gen_tcp:close(Client).

%% Makes the caller the owner; event/0 gives the events of the session that it owns last.
-spec own(megaphone_nif:xmpp_socket()) -> ok | {error, closed}.
own(Session) ->
    _ = put(?OWNED, {Session, []}),
    megaphone_nif:xmpp_started(Session, self()).

%% Queues what says that the client is logged in: until then what it may send is little.
-spec log_in(megaphone_nif:xmpp_socket()) -> ok | {error, closed}.
log_in(Session) ->
    Success = {xmlel, <<"success">>, [{<<"xmlns">>, <<"urn:ietf:params:xml:ns:xmpp-sasl">>}], []},
    megaphone_nif:xmpp_send(Session, {xmlstreamelement, Success}).

%% The next event for the owner, who has dealt with those before. closed: the peer is gone.
-spec event() -> event() | closed.
event() ->
    case get(?OWNED) of
        {Session, [Event | Events]} ->
            _ = put(?OWNED, {Session, Events}),
            plain(Event);
        {Session, []} ->
            receive
                '$megaphone_recv' -> received(Session, recv(Session)), event()
            after ?TIMEOUT -> error(timeout)
            end
    end.

recv(Session) ->
    case megaphone_nif:xmpp_recv(Session) of
        large -> megaphone_nif:xmpp_recv_large(Session);
        Received -> Received
    end.

received(Session, {error, closed}) ->
    put(?OWNED, {Session, [closed]});
received(Session, {Events, Next}) ->
    _ = put(?OWNED, {Session, Events}),
    [self() ! '$megaphone_recv' || Next =:= more].

%% Sends, on whichever scheduler that takes, and has it written.
-spec send(megaphone_nif:xmpp_socket(), megaphone_nif:xmpp_packet()) -> ok.
send(Session, Packet) ->
    Sent = case megaphone_nif:xmpp_send(Session, Packet) of
        large -> megaphone_nif:xmpp_send_large(Session, Packet);
        Other -> Other
    end,
    case Sent of
        ok -> megaphone_nif:xmpp_flush(Session);
        {wait, Ref} ->
            receive {'$megaphone', Ref} -> send(Session, Packet)
            after ?TIMEOUT -> error(timeout)
            end
    end.

%% What Megaphone writes of an element: fxml's bytes, but for a carriage return in text, which goes as a reference.
-spec written(tuple()) -> binary().
written(Element) ->
    Mark = binary:encode_hex(rand:bytes(16)),
    binary:replace(fxml:element_to_binary(mark(Element, Mark)), Mark, <<"&#xD;">>, [global]).

mark({xmlcdata, Text}, Mark) -> {xmlcdata, binary:replace(Text, <<"\r">>, Mark, [global])};
mark({xmlel, Name, Attrs, Children}, Mark) -> {xmlel, Name, Attrs, [mark(Child, Mark) || Child <- Children]}.

%% named: as a parser takes it. any: names and text of any bytes.
-spec random_element(named | any) -> tuple().
random_element(Kind) -> random_element(Kind, 4).

random_element(Kind, Depth) ->
    {xmlel, name(Kind), attributes(Kind), [child(Kind, Depth) || Depth > 0, _ <- some(4)]}.

%% Character data never stand beside each other in what a parser gives, and are not empty.
child(named, Depth) -> random_element(named, Depth - 1);
child(any, Depth) ->
    case rand:uniform(2) of
        1 -> {xmlcdata, rand:bytes(rand:uniform(100) - 1)};
        2 -> random_element(any, Depth - 1)
    end.

attributes(any) -> [{name(any), rand:bytes(rand:uniform(30) - 1)} || _ <- some(4)];
attributes(named) -> [{<<(name(named))/binary, (integer_to_binary(N))/binary>>, text()} || N <- some(4)].

some(Most) -> lists:seq(1, rand:uniform(Most) - 1).

name(any) -> rand:bytes(rand:uniform(20) - 1);
name(named) -> << <<(lists:nth(rand:uniform(5), "abcde"))>> || _ <- lists:seq(1, rand:uniform(80))>>.

text() ->
    Characters = [$a, $b, $\s, $&, $<, $>, $', $", $\t, $\n, $\r, 16#E9, 16#20AC, 16#1F600],
    unicode:characters_to_binary([lists:nth(rand:uniform(14), Characters) || _ <- some(100)]).

connect(Port, Options) ->
    {ok, Client} = gen_tcp:connect(?LOOPBACK, Port, [binary | Options], ?TIMEOUT),
    Client.

%% The server may have closed before all is sent.
send_and_shut(Client, Chunks) ->
    _ = lists:all(fun(Chunk) -> gen_tcp:send(Client, Chunk) =:= ok end, Chunks),
    _ = gen_tcp:shutdown(Client, write),
    ok.

owner_events() ->
    case event() of
        closed -> [];
        Event -> followed(Event, fun owner_events/0)
    end.

%% Nothing counts after the end of a stream or an error.
followed(Event, Next) ->
    case plain(Event) of
        {xmlstreamstart, _, _} = Start -> [Start | Next()];
        {xmlstreamelement, _} = Element -> [Element | Next()];
        Last -> [Last]
    end.

plain({xmlstreamerror, <<"XML stanza is too big">>}) -> too_big;
plain({xmlstreamerror, {_, Text}}) when is_binary(Text) -> not_well_formed;
plain({'$megaphone_stream_error', Condition, Text}) -> {Condition, Text};
plain(Event) -> Event.

until_closed(Client, Data) ->
    receive
        {tcp, Client, More} -> until_closed(Client, <<Data/binary, More/binary>>);
        {tcp_closed, Client} -> Data
    after ?TIMEOUT -> error(timeout)
    end.
