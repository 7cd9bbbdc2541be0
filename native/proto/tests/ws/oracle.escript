#!/usr/bin/env escript
%% Answers one line of terms for each line of terms: what ejabberd_http_ws makes of a message or an event.
%%   {received, Message} -> [Event] | error      (what the c2s is given)
%%   {send, Event}       -> Message              (what the client is sent)

main([]) ->
    code:add_pathsa(filelib:wildcard("/usr/lib/*/ejabberd-*/ebin")),
    application:load(fast_xml),
    case code:ensure_loaded(ejabberd_http_ws) of
        {module, _} ->
            {ok, _} = application:ensure_all_started(fast_xml),
            io:format("ready~n"),
            loop();
        {error, Reason} ->
            io:format("no ejabberd_http_ws in /usr/lib/*/ejabberd-*/ebin (Debian: ejabberd): ~w~n", [Reason])
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

%% The record of ejabberd_http_ws 23.01, of a client that has sent <open/>, its c2s reading.
state(C2S, Connection) ->
    {state, socket, 0, make_ref(), false, 60000, make_ref(), [], true, C2S, {ws, Connection}, true}.

answer({received, Message}) ->
    ejabberd_http_ws:handle_info({received, Message}, loop, state(self(), self())),
    receive
        {tcp, socket, <<"parse error">>} -> error;
        {tcp, socket, Events} -> Events
    end;
answer({send, Event}) ->
    Self = self(),
    Connection = spawn_link(fun() -> connection(Self) end),
    {reply, ok, _, _} = ejabberd_http_ws:handle_sync_event({send_xml, Event}, from, loop, state(Self, Connection)),
    receive
        {sent, Data} -> Data
    end.

connection(Owner) ->
    receive
        {text_with_reply, Data, Sender} ->
            Sender ! {text_reply, self()},
            Owner ! {sent, Data}
    end.
