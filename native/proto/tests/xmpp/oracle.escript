#!/usr/bin/env escript
%% Answers one line of terms for each line of terms: what fxml_stream and fxml make of the same bytes.
%%   {stream, MaxSize, [Chunk]} -> [Event]     (no cdata between stanzas; an error is the atom error, and last)
%%   {element, Bytes}           -> xmlel | error
%%   {chars, From, To}          -> [integer]   (of each character: 1 where it may begin a name, 2 where it may be in
%%                                              one, 4 where it may be text, added up)
%%   {encode, Xmlel}            -> Bytes
%%   {header, Xmlel}            -> Bytes

main([]) ->
    case application:ensure_all_started(fast_xml) of
        {ok, _} ->
            io:format("ready~n"),
            loop();
        {error, Reason} ->
            io:format("no fast_xml application (Debian: erlang-p1-xml): ~w~n", [Reason])
    end.

loop() ->
    case io:get_line("") of
        eof ->
            ok;
        Line ->
            {ok, Tokens, _} = erl_scan:string(Line),
            {ok, Request} = erl_parse:parse_term(Tokens),
            io:format("~w~n", [answer(Request)]),
            loop()
    end.

answer({stream, MaxSize, Chunks}) ->
    Stream = fxml_stream:new(self(), MaxSize),
    Answer = feed(Stream, Chunks),
    fxml_stream:close(Stream),
    Answer;
answer({element, Bytes}) ->
    case fxml_stream:parse_element(Bytes) of
        {error, _} -> error;
        El -> El
    end;
answer({chars, From, To}) ->
    [1 * is_element(<<"<", (utf8(Char))/binary, "/>">>) + 2 * is_element(<<"<a", (utf8(Char))/binary, "/>">>)
         + 4 * is_element(<<"<a>", (utf8(Char))/binary, "</a>">>)
     || Char <- lists:seq(From, To)];
answer({encode, El}) ->
    fxml:element_to_binary(El);
answer({header, El}) ->
    fxml:element_to_header(El).

is_element(Bytes) ->
    case fxml_stream:parse_element(Bytes) of
        {error, _} -> 0;
        _ -> 1
    end.

%% Erlang itself has no surrogates.
utf8(Char) when Char >= 16#D800, Char =< 16#DFFF ->
    <<2#1110:4, (Char bsr 12):4, 2#10:2, (Char bsr 6):6, 2#10:2, Char:6>>;
utf8(Char) -> <<Char/utf8>>.

%% Nothing counts after an error or the end of the stream.
feed(_, []) ->
    [];
feed(Stream, [Chunk | Chunks]) ->
    fxml_stream:parse(Stream, Chunk),
    case events() of
        {more, Events} -> Events ++ feed(Stream, Chunks);
        {last, Events} -> Events
    end.

events() ->
    receive
        {'$gen_all_state_event', {xmlstreamcdata, _}} ->
            events();
        {'$gen_event', {xmlstreamerror, _}} ->
            flush(),
            {last, [error]};
        {'$gen_event', {xmlstreamend, _} = End} ->
            flush(),
            {last, [End]};
        {'$gen_event', Event} ->
            {More, Events} = events(),
            {More, [Event | Events]}
    after 0 ->
        {more, []}
    end.

flush() ->
    receive
        _ -> flush()
    after 0 ->
        ok
    end.
