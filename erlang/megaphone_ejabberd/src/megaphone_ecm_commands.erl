%% ejabberdctl's commands about external connection managers (ECMs), which are hidden Erlang nodes (docs/ecm.md).
-module(megaphone_ecm_commands).

-export([register/0]).
%% Commands of ejabberd.
-export([all_stats/0, stats/1]).

-export_type([answer/0]).

%% ejabberd's.
-include("ejabberd_commands.hrl").

%% The process of each ECM.
-define(PROCESS, ecm).

%% For all ECMs together, in milliseconds. Theirs is a second.
-define(TIMEOUT, 5000).

-define(NODE_FORMAT, "  ~-40ts ~-5ts ~6w ~9w ~9w ~12w ~6w ~8w ~6w~n").
-define(NODE_TITLES, "  ~-40ts ~-5ts ~6ts ~9ts ~9ts ~12ts ~6ts ~8ts ~6ts~n").

%% Figures as text, or why there are none.
-type answer() :: {ok, iodata()} | {error, term()}.

%% Registering them again changes nothing. Whoever defines a command has to have a behaviour: ejabberdctl's help crashes
%% otherwise.
-spec register() -> ok.
register() ->
    ejabberd_commands:register_commands(megaphone_ejabberd_app, commands()).

commands() ->
    [#ejabberd_commands{
        name = megaphone_ecm_stats,
        tags = [statistics],
        desc = "Figures of the external connection managers that are connected to this node as Erlang nodes",
        module = ?MODULE,
        function = all_stats,
        result = {stats, string},
        result_desc = "A table for each"},
     #ejabberd_commands{
        name = megaphone_ecm_stats_of,
        tags = [statistics],
        desc = "Figures of an external connection manager; connects to its Erlang node first where needed",
        module = ?MODULE,
        function = stats,
        args = [{node, string}],
        args_desc = ["The name of its Erlang node"],
        args_example = ["ecm1@edge.example.org"],
        result = {stats, string},
        result_desc = "A table"}].

%% Of the hidden nodes that are connected, those that have the process.
-spec all_stats() -> string().
all_stats() ->
    case [Answer || {_, Result} = Answer <- ask(nodes(hidden)), Result =/= {error, noproc}] of
        [] -> "No external connection manager is connected as an Erlang node. megaphone_ecm_stats_of connects to one.";
        Answers -> text(lists:join($\n, lists:map(fun table/1, Answers)))
    end.

%% Asks one, by its node's name.
-spec stats(Node :: string()) -> string() | {error, string()}.
stats(Name) ->
    case re:run(Name, "^[^@[:cntrl:]]{1,100}@[^@[:cntrl:]]{1,150}$", [unicode]) of
        {match, _} ->
            [{_, Result} = Answer] = ask([list_to_atom(Name)]),
            case Result of
                {ok, _} -> text(table(Answer));
                {error, Reason} -> {error, text([Name, ": ", explain(Reason)])}
            end;
        nomatch ->
            {error, Name ++ " is no name of a node, such as ecm1@edge.example.org"}
    end.

text(Characters) -> string:trim(unicode:characters_to_list(Characters), trailing).

%% All at once. They are asked even if they can't be reached, which takes as long as the node tries.
-spec ask([node()]) -> [{node(), answer()}].
ask(Nodes) ->
    Requests = [{Node, gen_server:send_request({?PROCESS, Node}, stats)} || Node <- Nodes],
    Deadline = erlang:monotonic_time(millisecond) + ?TIMEOUT,
    [{Node, await(Request, Deadline)} || {Node, Request} <- Requests].

await(Request, Deadline) ->
    case gen_server:receive_response(Request, max(0, Deadline - erlang:monotonic_time(millisecond))) of
        {reply, Stats} -> understood(Stats);
        {error, {Reason, _}} -> {error, Reason};
        timeout -> {error, timeout}
    end.

%% Whatever registers the name could answer.
understood(Stats) ->
    try {ok, figures(Stats)}
    catch error:_ -> {error, unknown_answer}
    end.

explain(noproc) -> "it is no external connection manager";
explain(noconnection) -> "it can't be reached: look whether it runs, has the same cookie, and is known to epmd there";
explain(timeout) -> "it does not answer";
explain(unknown_answer) -> "its answer is not understood: is it of another version?";
explain(Reason) -> io_lib:format("~0tp", [Reason]).

table({Node, {error, Reason}}) ->
    io_lib:format("~ts: ~ts~n", [Node, explain(Reason)]);
table({Node, {ok, Figures}}) ->
    [io_lib:format("~ts ", [Node]), Figures].

figures(#{name := Name, uptime := Uptime, draining := IsDraining, workers := Workers, connections := Connections,
          max_connections := Most, accepted := Accepted, refused := Refused, received := Received, sent := Sent,
          nodes := Nodes}) ->
    [io_lib:format("(~ts), up ~ts~ts~n", [Name, duration(Uptime), [", draining" || IsDraining]]),
     io_lib:format("  connections ~w of ~w, accepted ~w, refused ~w, workers ~w~n",
                   [Connections, Most, Accepted, Refused, Workers]),
     io_lib:format("  received ~w bytes, sent ~w bytes~n", [Received, Sent]),
     io_lib:format(?NODE_TITLES, titles())
     | lists:map(fun row/1, Nodes)].

titles() -> ["node", "up", "links", "suspended", "streams", "kept bytes", "cuts", "resumed", "lost"].

row(#{name := Name, up := IsUp, links_up := Links, links_suspended := Suspended, streams := Streams,
      kept_bytes := Kept, cuts := Cuts, resumed := Resumed, lost := Lost}) ->
    Up = case IsUp of true -> "yes"; false -> "no" end,
    io_lib:format(?NODE_FORMAT, [Name, Up, Links, Suspended, Streams, Kept, Cuts, Resumed, Lost]).

duration(Seconds) ->
    {Days, {Hours, Minutes, Rest}} = calendar:seconds_to_daystime(Seconds),
    [[io_lib:format("~w d ", [Days]) || Days > 0], io_lib:format("~2..0w:~2..0w:~2..0w", [Hours, Minutes, Rest])].
