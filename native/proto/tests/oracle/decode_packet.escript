%%! -noinput
%% Answers questions about what Erlang makes of bytes, one line of standard input each, with one line.
%% Bytes travel as hexadecimal digits with an x before them, so that no word is empty.
-mode(compile).

main([]) ->
    ok = io:setopts([binary, {encoding, latin1}]),
    loop().

loop() ->
    case io:get_line("") of
        eof ->
            ok;
        Line ->
            Words = binary:split(string:trim(Line), <<" ">>, [global]),
            io:put_chars([lists:join(" ", answer(Words)), "\n"]),
            loop()
    end.

%% One packet: `packet Mode PacketSize LineLength Bytes'.
answer([<<"packet">>, Mode, PacketSize, LineLength, Bytes]) ->
    Buffer = unhex(Bytes),
    Options = [{packet_size, binary_to_integer(PacketSize)}, {line_length, binary_to_integer(LineLength)}],
    case erlang:decode_packet(binary_to_existing_atom(Mode), Buffer, Options) of
        {more, undefined} ->
            ["more"];
        {error, invalid} ->
            ["invalid"];
        {ok, Packet, Rest} ->
            packet(Packet) ++ [integer_to_list(byte_size(Buffer) - byte_size(Rest))]
    end;
%% What a socket makes of pieces that come one after the other, until the peer closes:
%% `socket Mode PacketSize Buffer Piece...'.
answer([<<"socket">>, Mode, PacketSize, Size | Pieces]) ->
    Options = [{packet, binary_to_existing_atom(Mode)}, {packet_size, binary_to_integer(PacketSize)},
               {buffer, binary_to_integer(Size)}],
    {Client, Socket} = connect(Options),
    Sender = spawn_link(fun() -> receive go -> send(Client, Pieces) end end),
    ok = gen_tcp:controlling_process(Client, Sender),
    Sender ! go,
    Answer = packets(Socket),
    ok = gen_tcp:close(Socket),
    Answer;
%% The size of a socket's buffer after options were set: `buffer Option Value Option Value...'.
answer([<<"buffer">> | Settings]) ->
    {Client, Socket} = connect([]),
    ok = set(Socket, Settings),
    {ok, [{buffer, Size}]} = inet:getopts(Socket, [buffer]),
    ok = gen_tcp:close(Client),
    ok = gen_tcp:close(Socket),
    [integer_to_list(Size)];
%% A whole stream, read as a server does: `requests Bytes'. The answer is, for each request, its start line,
%% its fields and its body, and then how it ended: `end', `more' (an incomplete request) or an error.
answer([<<"requests">>, Bytes]) ->
    requests(unhex(Bytes)).

connect(Options) ->
    Loopback = {127, 0, 0, 1},
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {ip, Loopback}]),
    {ok, Port} = inet:port(Listener),
    {ok, Client} = gen_tcp:connect(Loopback, Port, [{active, false}, {nodelay, true}]),
    {ok, Socket} = gen_tcp:accept(Listener),
    ok = gen_tcp:close(Listener),
    ok = inet:setopts(Socket, Options),
    {Client, Socket}.

%% The pause lets each piece arrive by itself.
send(Client, [Piece | Pieces]) ->
    _ = gen_tcp:send(Client, unhex(Piece)),
    timer:sleep(2),
    send(Client, Pieces);
send(Client, []) ->
    gen_tcp:close(Client).

packets(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Packet} -> packet(Packet) ++ packets(Socket);
        {error, Reason} -> [atom_to_list(Reason)]
    end.

set(Socket, [Option, Value | Settings]) ->
    ok = inet:setopts(Socket, [{binary_to_existing_atom(Option), binary_to_integer(Value)}]),
    set(Socket, Settings);
set(_Socket, []) ->
    ok.

requests(<<>>) ->
    ["end"];
requests(Bytes) ->
    case erlang:decode_packet(http_bin, Bytes, []) of
        {ok, {http_request, _, _, _} = Request, Rest} ->
            packet(Request) ++ fields(Rest, 0);
        {ok, _, _} ->
            ["error"];
        {more, _} ->
            ["more"]
    end.

fields(Bytes, Length) ->
    case erlang:decode_packet(httph_bin, Bytes, []) of
        {ok, {http_header, _, 'Content-Length', _, Value} = Field, Rest} ->
            packet(Field) ++ fields(Rest, binary_to_integer(Value));
        {ok, {http_header, _, _, _, _} = Field, Rest} ->
            packet(Field) ++ fields(Rest, Length);
        {ok, http_eoh, Rest} when byte_size(Rest) >= Length ->
            <<Body:Length/binary, Next/binary>> = Rest,
            ["body", hex(Body) | requests(Next)];
        {ok, http_eoh, _} ->
            ["more"];
        {ok, _, _} ->
            ["error"];
        {more, _} ->
            ["more"]
    end.

packet({http_request, Method, Target, Version}) ->
    ["request", word(Method)] ++ target(Target) ++ [version(Version)];
packet({http_response, Version, Status, Phrase}) ->
    ["response", version(Version), integer_to_list(Status), hex(Phrase)];
packet({http_header, Bit, Name, RawName, Value}) ->
    ["header", integer_to_list(Bit), word(Name), hex(RawName), hex(Value)];
packet(http_eoh) ->
    ["eoh"];
packet({http_error, Line}) ->
    ["http_error", hex(Line)];
packet(Line) when is_binary(Line) ->
    ["line", hex(Line)].

target('*') -> ["star"];
target({absoluteURI, Scheme, Host, Port, Path}) ->
    ["absolute", atom_to_list(Scheme), hex(Host), io_lib:format("~w", [Port]), hex(Path)];
target({scheme, Scheme, Rest}) -> ["scheme", hex(Scheme), hex(Rest)];
target({abs_path, Path}) -> ["abs_path", hex(Path)];
target(Other) when is_binary(Other) -> ["other", hex(Other)].

version({Major, Minor}) ->
    io_lib:format("~w.~w", [Major, Minor]).

word(Atom) when is_atom(Atom) -> ["atom:", atom_to_list(Atom)];
word(Binary) -> hex(Binary).

hex(Bytes) ->
    [$x | binary:encode_hex(Bytes)].

unhex(<<"x", Digits/binary>>) ->
    binary:decode_hex(Digits).
