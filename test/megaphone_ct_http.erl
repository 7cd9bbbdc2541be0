%% An HTTP/1 client that shows what is on the wire: requests are bytes of the test's choice, and responses are read one
%% by one, exactly to their end.
-module(megaphone_ct_http).

-export([connect/1, request/2, request/3, websocket_request/2, send/2, response/1, response/2, await_closed/1]).

-export_type([response/0]).

-type response() :: #{
    status := 100..599,
    version := {non_neg_integer(), non_neg_integer()},
    headers := #{binary() => binary()},  % names in lower case
    body := binary()
}.

-define(TIMEOUT, 30000).

%% Connects to a port of 127.0.0.1.
-spec connect(inet:port_number()) -> gen_tcp:socket().
connect(Port) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}, {nodelay, true}], ?TIMEOUT),
    Socket.

%% The bytes of an HTTP/1.1 request without a body. The host is the one in the addresses that ejabberd gives out;
%% mod_http_upload answers for no other.
-spec request(string(), string()) -> iodata().
request(Method, Path) -> request(Method, Path, []).

-spec request(string(), string(), [{string(), string()}]) -> iodata().
request(Method, Path, Headers) ->
    [Method, " ", Path, " HTTP/1.1\r\nHost: 127.0.0.1\r\n",
     [[Name, ": ", Value, "\r\n"] || {Name, Value} <- Headers], "\r\n"].

%% A handshake of RFC 6455 and RFC 7395.
-spec websocket_request(string(), [{string(), string()}]) -> iodata().
websocket_request(Path, Headers) ->
    request("GET", Path, [
        {"Connection", "Upgrade"}, {"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"},
        {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}, {"Sec-WebSocket-Protocol", "xmpp"} | Headers
    ]).

-spec send(gen_tcp:socket(), iodata()) -> ok.
send(Socket, Data) -> ok = gen_tcp:send(Socket, Data).

%% Reads one response with the length that it declares; nothing after it is consumed.
-spec response(gen_tcp:socket()) -> response().
response(Socket) -> response(Socket, 'GET').

%% A response to HEAD, and an interim one (1xx), has no body.
-spec response(gen_tcp:socket(), 'GET' | 'HEAD') -> response().
response(Socket, Method) ->
    ok = inet:setopts(Socket, [{packet, http_bin}]),
    {ok, {http_response, Version, Status, _}} = gen_tcp:recv(Socket, 0, ?TIMEOUT),
    Headers = headers(Socket, #{}),
    ok = inet:setopts(Socket, [{packet, raw}]),
    HasBody = Method =/= 'HEAD' andalso Status >= 200,
    Body = case Headers of
        #{<<"content-length">> := Length} when HasBody -> body(Socket, binary_to_integer(Length));
        _ -> <<>>
    end,
    #{status => Status, version => Version, headers => Headers, body => Body}.

%% Returns when the server has closed the connection; what it sent before is not expected.
-spec await_closed(gen_tcp:socket()) -> ok.
await_closed(Socket) ->
    {error, closed} = gen_tcp:recv(Socket, 0, ?TIMEOUT),
    ok.

headers(Socket, Headers) ->
    case gen_tcp:recv(Socket, 0, ?TIMEOUT) of
        {ok, {http_header, _, Name, _, Value}} -> headers(Socket, Headers#{lower(Name) => Value});
        {ok, http_eoh} -> Headers
    end.

lower(Name) when is_atom(Name) -> string:lowercase(atom_to_binary(Name));
lower(Name) -> string:lowercase(Name).

%% gen_tcp's recv with a length of 0 would take what there is.
body(_Socket, 0) -> <<>>;
body(Socket, Length) ->
    {ok, Body} = gen_tcp:recv(Socket, Length, ?TIMEOUT),
    Body.
