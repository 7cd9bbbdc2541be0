%% A WebSocket client (RFC 6455) of which a test sees and decides every frame.
-module(megaphone_ct_websocket).

-export([login/3, open/0, connect/2, exchange/1, await/2, text/2, message/1, send/3, frame/1]).

-define(TEXT, 1).
-define(TIMEOUT, 30000).

%% Logs in as RFC 7395 has it, without presence, by this request for an upgrade.
-spec login(inet:port_number(), iodata(), megaphone_ct_client:account()) -> {gen_tcp:socket(), FullJid :: string()}.
login(Port, Request, Account) ->
    Socket = connect(Port, Request),
    {Socket, megaphone_ct_xmpp:negotiate(exchange(Socket), open(), Account)}.

-spec open() -> iodata().
open() -> "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>".

%% Sends the request for an upgrade to a port of 127.0.0.1.
-spec connect(inet:port_number(), iodata()) -> gen_tcp:socket().
connect(Port, Request) ->
    Socket = megaphone_ct_http:connect(Port),
    ok = megaphone_ct_http:send(Socket, Request),
    #{status := 101} = megaphone_ct_http:response(Socket),
    Socket.

%% Sends a message of text.
-spec text(gen_tcp:socket(), iodata()) -> ok.
text(Socket, Text) -> send(Socket, ?TEXT, Text).

%% Sends a frame that is not fragmented.
-spec send(gen_tcp:socket(), Opcode :: 0..15, iodata()) -> ok.
send(Socket, Opcode, Payload) -> ok = gen_tcp:send(Socket, frame(Opcode, Payload)).

%% The bytes of a message of text.
-spec message(iodata()) -> iodata().
message(Text) -> frame(?TEXT, Text).

frame(Opcode, Payload) ->
    Bytes = iolist_to_binary(Payload),
    Key = crypto:strong_rand_bytes(4),
    [<<1:1, 0:3, Opcode:4, 1:1, (size_bits(byte_size(Bytes)))/bits>>, Key, mask(Bytes, Key)].

size_bits(Size) when Size < 126 -> <<Size:7>>;
size_bits(Size) when Size < 65536 -> <<126:7, Size:16>>;
size_bits(Size) -> <<127:7, Size:64>>.

mask(Bytes, Key) ->
    Mask = binary:copy(Key, byte_size(Bytes) div 4 + 1),
    crypto:exor(Bytes, binary:part(Mask, 0, byte_size(Bytes))).

%% Receives a frame that is not fragmented.
-spec frame(gen_tcp:socket()) -> {Opcode :: 0..15, binary()}.
frame(Socket) ->
    <<1:1, 0:3, Opcode:4, 0:1, Size:7>> = bytes(Socket, 2),
    {Opcode, bytes(Socket, size(Socket, Size))}.

size(Socket, 126) -> binary:decode_unsigned(bytes(Socket, 2));
size(Socket, 127) -> binary:decode_unsigned(bytes(Socket, 8));
size(_Socket, Size) -> Size.

%% gen_tcp's recv with a length of 0 would take what there is.
bytes(_Socket, 0) -> <<>>;
bytes(Socket, Size) ->
    {ok, Bytes} = gen_tcp:recv(Socket, Size, ?TIMEOUT),
    Bytes.

%% Receives text until the regular expression is found in what has come since the call, and returns that.
-spec await(gen_tcp:socket(), string()) -> binary().
await(Socket, Expression) -> await(Socket, Expression, <<>>).

await(Socket, Expression, Sofar) ->
    {?TEXT, Text} = frame(Socket),
    Received = <<Sofar/binary, Text/binary>>,
    case re:run(Received, Expression) of
        {match, _} -> Received;
        nomatch -> await(Socket, Expression, Received)
    end.

-spec exchange(gen_tcp:socket()) -> megaphone_ct_xmpp:exchange().
exchange(Socket) ->
    fun(Text, Expression) -> ok = text(Socket, Text), await(Socket, Expression) end.
