%% Programs of third parties as clients of the tests: XMPP clients that take commands and report events (test/clients),
%% and programs that are run to their end, such as curl. Every wait is bounded.
-module(megaphone_ct_client).

-export([strophe/2, strophe/3, stanza/2, slixmpp/2, slixmpp/3]).
-export([send/3, slot/3, await_online/1, await_message/2, await_closed/1, quit/1, hang_up/1, talk/2]).
-export([command/2, await/2]).
-export([run/2, curl/1]).

-export_type([client/0, account/0]).

-opaque client() :: #{port := port(), name := string()}.

-type account() :: {Jid :: string(), Password :: string()}.

-define(EVENT_TIMEOUT, 30000).
-define(RUN_TIMEOUT, 120000).

%% Starts strophe.js. Url is ws://, wss:// or http:// (BOSH).
-spec strophe(string(), account()) -> client().
strophe(Url, Account) -> strophe(Url, Account, []).

-spec strophe(string(), account(), Environment :: [{string(), string()}]) -> client().
strophe(Url, {Jid, Password}, Environment) ->
    node_client("strophe.js " ++ Jid, "strophe_client.js", [Url, Jid, Password], Environment).

%% Starts stanza. Url is ws:// or http:// (BOSH).
-spec stanza(string(), account()) -> client().
stanza(Url, {Jid, Password}) ->
    node_client("stanza " ++ Jid, "stanza_client.js", [Url, Jid, Password], []).

%% Starts slixmpp on a TCP port of 127.0.0.1.
-spec slixmpp(inet:port_number(), account()) -> client().
slixmpp(Port, Account) -> slixmpp(Port, Account, []).

%% With a certificate to trust, it uses STARTTLS and nothing else.
-spec slixmpp(inet:port_number(), account(), [Certificate :: file:filename()]) -> client().
slixmpp(Port, {Jid, Password}, Certificate) ->
    Arguments = [script("slixmpp_client.py"), "127.0.0.1", integer_to_list(Port), Jid, Password | Certificate],
    open("slixmpp " ++ Jid, installed(["venv", "bin", "python"]), Arguments, []).

-spec send(client(), To :: string(), Text :: string()) -> ok.
send(Client, To, Text) -> command(Client, ["send ", To, " ", Text]).

%% Waits until both are online and has them send each other messages.
-spec talk(client(), client()) -> ok.
talk(First, Second) ->
    FirstJid = await_online(First),
    SecondJid = await_online(Second),
    ok = send(First, SecondJid, "good evening"),
    FirstJid = await_message(Second, "good evening"),
    %% An answer of more than one TCP segment, with what XML has to escape and UTF-8 has to encode.
    Long = lists:append(lists:duplicate(2000, "<&\"'> ")) ++ "end",
    ok = send(Second, FirstJid, Long),
    SecondJid = await_message(First, Long),
    ok.

%% Asks for an upload slot (slixmpp only).
-spec slot(client(), Name :: string(), Bytes :: pos_integer()) -> {PutUrl :: string(), GetUrl :: string()}.
slot(Client, Name, Bytes) ->
    ok = command(Client, ["slot ", Name, " ", integer_to_list(Bytes)]),
    [PutUrl, GetUrl] = string:split(await(Client, "slot"), " "),
    {PutUrl, GetUrl}.

%% Returns the client's full JID.
-spec await_online(client()) -> string().
await_online(Client) -> await(Client, "online").

%% Waits for a message with this text, and returns its sender's full JID.
-spec await_message(client(), Text :: string()) -> string().
await_message(Client, Text) ->
    case string:split(await(Client, "message"), " ") of
        [From, Text] -> From;
        [_, _] -> await_message(Client, Text)
    end.

%% Returns the condition of the stream error with which the server ended the session, "" when there was none.
-spec await_closed(client()) -> string().
await_closed(Client) -> await(Client, "closed").

-spec quit(client()) -> ok.
quit(Client) ->
    ok = command(Client, "quit"),
    "" = await_closed(Client),
    ok.

%% Ends a client where it stands: it exits when its input ends.
-spec hang_up(client()) -> ok.
hang_up(#{port := Port}) ->
    true = port_close(Port),
    ok.

%% Runs a program to its end.
-spec run(file:filename(), [string()]) -> {Status :: byte(), Output :: binary()}.
run(Program, Arguments) ->
    Port = open_port({spawn_executable, executable(Program)},
                     [{args, Arguments}, binary, exit_status, stderr_to_stdout, hide]),
    collect(Port, [], erlang:monotonic_time(millisecond) + ?RUN_TIMEOUT).

%% Runs curl with these arguments and a time limit.
-spec curl([string()]) -> {Status :: byte(), Output :: binary()}.
curl(Arguments) ->
    run("curl", ["--silent", "--show-error", "--max-time", integer_to_list(?RUN_TIMEOUT div 1000 - 10) | Arguments]).

%% --- clients

node_client(Name, Script, Arguments, Environment) ->
    NodePath = {"NODE_PATH", installed(["node_modules"])},
    open(Name, executable("node"), [script(Script) | Arguments], [NodePath | Environment]).

script(Name) -> filename:join([megaphone_ct_node:root(), "test", "clients", Name]).

installed(Path) ->
    File = filename:join([megaphone_ct_node:root(), "var", "clients" | Path]),
    filelib:is_file(File) orelse error({not_installed, File, "run scripts/setup"}),
    File.

open(Name, Executable, Arguments, Environment) ->
    Port = open_port({spawn_executable, Executable},
                     [{args, Arguments}, {env, Environment}, {line, 65536}, eof, stderr_to_stdout, hide]),
    #{port => Port, name => Name}.

%% Gives the client a command; stdio.js lists them.
-spec command(client(), iodata()) -> ok.
command(#{port := Port}, Line) ->
    true = port_command(Port, [Line, "\n"]),
    ok.

%% Waits for an event and returns the words after its name. Events of other names wait until they are asked for, in
%% their order; what else the client says goes into the log.
-spec await(client(), Event :: string()) -> string().
await(#{port := Port} = Client, Event) ->
    Earlier = case get({?MODULE, Port}) of
        undefined -> [];
        Events -> Events
    end,
    case lists:keytake(Event, 1, Earlier) of
        {value, {Event, Words}, Others} ->
            put({?MODULE, Port}, Others),
            Words;
        false ->
            {Words, Others} = await(Client, Event, [], erlang:monotonic_time(millisecond) + ?EVENT_TIMEOUT),
            put({?MODULE, Port}, Earlier ++ lists:reverse(Others)),
            Words
    end.

await(#{port := Port, name := Name} = Client, Event, Others, Deadline) ->
    receive
        {Port, {data, {_, Line}}} ->
            case string:split(Line, " ") of
                [Event | Rest] -> {lists:append(Rest), Others};
                ["error" | Rest] -> error({client_error, Name, Rest});
                [Other | Rest] ->
                    ct:log("~ts: ~ts", [Name, Line]),
                    await(Client, Event, [{Other, lists:append(Rest)} | Others], Deadline)
            end;
        %% Unlike an exit status, this comes after all that the client has said.
        {Port, eof} ->
            error({client_ended, Name, {before, Event}, {instead, lists:reverse(Others)}})
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        error({client_is_late, Name, Event, {instead, lists:reverse(Others)}})
    end.

%% --- programs

executable(Program) ->
    case os:find_executable(Program) of
        false -> error({not_installed, Program, "run scripts/setup"});
        Path -> Path
    end.

collect(Port, Output, Deadline) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Output, Data], Deadline);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Output)}
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        true = port_close(Port),
        error({program_is_late, iolist_to_binary(Output)})
    end.
