%% XMPP of which a test sees and decides every byte: a stream over TCP (RFC 6120) and a BOSH session (XEP-0124). They
%% log in by PLAIN.
-module(megaphone_ct_xmpp).

-export([login/2, negotiate/3, enable_resumption/1, reset/1, resume/4]).
-export([header/0, auth/1, bind/0, jid/1, ping/2, await/2, trailing/1]).
-export([bosh_login/2, bosh_login/3, bosh_login/4, bosh_post/3, bosh_response/2, bosh_exchange/4, bosh_http_response/1,
         bosh_hang_up/1]).
-export([bosh_new/2, bosh_created/2, bosh_create/0, bosh_restart/0, bosh_request/3, bosh_send/2, bosh_at/2,
         bosh_over/2]).

-export_type([bosh/0, exchange/0]).

-opaque bosh() :: #{
    socket := gen_tcp:socket(),
    headers := [{string(), string()}],
    target := string(),
    rid := pos_integer(),
    sid := binary()
}.

%% Sends these bytes and returns what has come until the regular expression is found in it.
-type exchange() :: fun((iodata(), Expression :: string()) -> binary()).

-define(TIMEOUT, 30000).

%% Logs in at a port of 127.0.0.1, without presence.
-spec login(inet:port_number(), megaphone_ct_client:account()) -> {gen_tcp:socket(), FullJid :: string()}.
login(Port, Account) ->
    {Socket, Exchange} = connection(Port),
    {Socket, negotiate(Exchange, header(), Account)}.

connection(Port) ->
    Socket = megaphone_ct_http:connect(Port),
    {Socket, fun(Bytes, Expression) -> ok = gen_tcp:send(Socket, Bytes), await(Socket, Expression) end}.

%% Logs in and binds a resource with streams that have this header.
-spec negotiate(exchange(), iodata(), megaphone_ct_client:account()) -> FullJid :: string().
negotiate(Exchange, Header, Account) ->
    ok = authenticate(Exchange, Header, Account),
    jid(Exchange(bind(), "</iq>")).

authenticate(Exchange, Header, Account) ->
    _ = Exchange(Header, "</stream:features>"),
    _ = Exchange(auth(Account), "<success"),
    _ = Exchange(Header, "</stream:features>"),
    ok.

%% Has the session wait when its connection breaks (XEP-0198, 5). Its identifier.
-spec enable_resumption(gen_tcp:socket()) -> string().
enable_resumption(Socket) ->
    ok = gen_tcp:send(Socket, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"),
    {match, [Id]} = re:run(await(Socket, "<enabled[^>]*>"), " id='([^']+)'", [{capture, all_but_first, list}]),
    Id.

%% Breaks a connection.
-spec reset(gen_tcp:socket()) -> ok.
reset(Socket) ->
    ok = inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket).

%% Resumes that session on another connection, and returns what has come until the regular expression is found in it.
-spec resume(inet:port_number(), megaphone_ct_client:account(), Id :: string(), Expression :: string()) ->
    {gen_tcp:socket(), binary()}.
resume(Port, Account, Id, Expression) ->
    {Socket, Exchange} = connection(Port),
    ok = authenticate(Exchange, header(), Account),
    {Socket, Exchange(["<resume xmlns='urn:xmpp:sm:3' h='0' previd='", Id, "'/>"], Expression)}.

-spec header() -> iodata().
header() ->
    "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client'"
    " xmlns:stream='http://etherx.jabber.org/streams'>".

%% A ping (XEP-0199) that the server answers, padded to this number of bytes at least.
-spec ping(Id :: string(), non_neg_integer()) -> iodata().
ping(Id, Bytes) ->
    ["<iq type='get' id='", Id, "'><ping xmlns='urn:xmpp:ping' pad='", lists:duplicate(Bytes, $x), "'/></iq>"].

%% Reads until the regular expression is found in what has come since the call, and returns that.
-spec await(gen_tcp:socket(), string()) -> binary().
await(Socket, Expression) -> await(Socket, Expression, <<>>).

await(Socket, Expression, Sofar) ->
    case re:run(Sofar, Expression) of
        {match, _} -> Sofar;
        nomatch -> await(Socket, Expression, <<Sofar/binary, (receive_bytes(Socket, Sofar))/binary>>)
    end.

receive_bytes(Socket, Sofar) ->
    case gen_tcp:recv(Socket, 0, ?TIMEOUT) of
        {ok, Data} -> Data;
        {error, Reason} -> error({Reason, {'after', Sofar}})
    end.

%% All that comes until the server closes the connection.
-spec trailing(gen_tcp:socket()) -> binary().
trailing(Socket) ->
    case gen_tcp:recv(Socket, 0, ?TIMEOUT) of
        {ok, Data} -> <<Data/binary, (trailing(Socket))/binary>>;
        {error, closed} -> <<>>
    end.

%% --- BOSH

-spec bosh_login(inet:port_number(), megaphone_ct_client:account()) -> {bosh(), FullJid :: string()}.
bosh_login(Port, Account) -> bosh_login(Port, Account, []).

%% With headers that all requests get.
-spec bosh_login(inet:port_number(), megaphone_ct_client:account(), [{string(), string()}]) ->
    {bosh(), FullJid :: string()}.
bosh_login(Port, Account, Headers) -> bosh_login(Port, Account, Headers, "60").

%% And requests that the server may hold for so many seconds.
-spec bosh_login(inet:port_number(), megaphone_ct_client:account(), [{string(), string()}], Wait :: string()) ->
    {bosh(), FullJid :: string()}.
bosh_login(Port, Account, Headers, Wait) ->
    {New, Created} = bosh_exchange(bosh_new(Port, Headers), bosh_create(Wait), "", "<body"),
    Session = case re:run(Created, "features>") of
        {match, _} -> bosh_created(New, Created);
        nomatch -> element(1, bosh_exchange(bosh_created(New, Created), "", "", "features>"))
    end,
    {Session1, _} = bosh_exchange(Session, "", auth(Account), "<success"),
    {Session2, _} = bosh_exchange(Session1, bosh_restart(), "", "features>"),
    {Session3, Bound} = bosh_exchange(Session2, "", bind(), "</iq>"),
    {Session3, jid(Bound)}.

%% Connects, and has asked for nothing yet.
-spec bosh_new(inet:port_number(), [{string(), string()}]) -> bosh().
bosh_new(Port, Headers) ->
    #{socket => megaphone_ct_http:connect(Port), headers => Headers, target => "/bosh", rid => 1, sid => <<>>}.

%% Attributes of a request for a session, and of one for a new stream.
-spec bosh_create() -> string().
bosh_create() -> bosh_create("60").

bosh_create(Wait) ->
    "to='localhost' wait='" ++ Wait ++ "' hold='1' ver='1.6' xmpp:version='1.0' xmlns:xmpp='urn:xmpp:xbosh'".

-spec bosh_restart() -> string().
bosh_restart() -> "to='localhost' xmpp:restart='true' xmlns:xmpp='urn:xmpp:xbosh'".

%% The session that this answer has given.
-spec bosh_created(bosh(), binary()) -> bosh().
bosh_created(Session, Created) ->
    {match, [Sid]} = re:run(Created, "<body[^>]* sid=['\"]([^'\"]+)", [{capture, all_but_first, binary}]),
    Session#{sid := Sid}.

%% The same session, whose requests have this target from now on.
-spec bosh_at(bosh(), string()) -> bosh().
bosh_at(Session, Target) -> Session#{target := Target}.

%% The same session on another connection.
-spec bosh_over(bosh(), gen_tcp:socket()) -> bosh().
bosh_over(Session, Socket) -> Session#{socket := Socket}.

%% Sends a request with these attributes and this payload, and polls until the regular expression is found in a
%% response, which it returns.
-spec bosh_exchange(bosh(), string(), iodata(), string()) -> {bosh(), binary()}.
bosh_exchange(Session, Attributes, Payload, Expression) ->
    bosh_response(bosh_post(Session, Attributes, Payload), Expression).

%% Sends a request and leaves it to wait for its response.
-spec bosh_post(bosh(), string(), iodata()) -> bosh().
bosh_post(Session, Attributes, Payload) ->
    {Request, Next} = bosh_request(Session, Attributes, Payload),
    ok = bosh_send(Session, Request),
    Next.

%% The bytes of that request.
-spec bosh_request(bosh(), string(), iodata()) -> {iodata(), bosh()}.
bosh_request(#{headers := Headers, target := Target, rid := Rid, sid := Sid} = Session, Attributes, Payload) ->
    SidAttribute = [["sid='", Sid, "' "] || Sid =/= <<>>],
    Body = iolist_to_binary([
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='", integer_to_list(Rid), "' ", SidAttribute,
        Attributes, ">", Payload, "</body>"]),
    Length = {"Content-Length", integer_to_list(byte_size(Body))},
    Type = {"Content-Type", "text/xml; charset=utf-8"},
    Head = megaphone_ct_http:request("POST", Target, [Length, Type | Headers]),
    {[Head, Body], Session#{rid := Rid + 1}}.

-spec bosh_send(bosh(), iodata()) -> ok.
bosh_send(#{socket := Socket}, Bytes) -> megaphone_ct_http:send(Socket, Bytes).

%% Takes the response of the request that waits, and polls on where the regular expression is not found in it.
-spec bosh_response(bosh(), string()) -> {bosh(), binary()}.
bosh_response(Session, Expression) ->
    #{status := 200, body := Body} = bosh_http_response(Session),
    case re:run(Body, Expression) of
        {match, _} -> {Session, Body};
        nomatch -> bosh_exchange(Session, "", "", Expression)
    end.

%% The response of the request that waits, whatever it is.
-spec bosh_http_response(bosh()) -> megaphone_ct_http:response().
bosh_http_response(#{socket := Socket}) -> megaphone_ct_http:response(Socket).

%% Closes the connection; the session doesn't know.
-spec bosh_hang_up(bosh()) -> ok.
bosh_hang_up(#{socket := Socket}) -> gen_tcp:close(Socket).

%% --- stanzas

%% SASL PLAIN.
-spec auth(megaphone_ct_client:account()) -> iodata().
auth({Jid, Password}) ->
    [User, _] = string:split(Jid, "@"),
    Text = base64:encode(iolist_to_binary([0, User, 0, Password])),
    ["<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>", Text, "</auth>"].

-spec bind() -> iodata().
bind() ->
    "<iq xmlns='jabber:client' type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>".

%% The full JID that the server has bound.
-spec jid(Bound :: binary()) -> string().
jid(Bound) ->
    {match, [Jid]} = re:run(Bound, "<jid>([^<]+)</jid>", [{capture, all_but_first, list}]),
    Jid.
