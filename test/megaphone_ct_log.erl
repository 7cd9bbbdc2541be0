%% A logger handler that sends the test what is logged.
-module(megaphone_ct_log).

-export([start/0, stop/0, await/1, until/1, log/2]).

%% The caller gets all events of level notice and above from now on.
-spec start() -> ok.
start() -> logger:add_handler(?MODULE, ?MODULE, #{level => notice, config => self()}).

-spec stop() -> ok.
stop() -> logger:remove_handler(?MODULE).

%% Waits for the first text in which the regular expression is found, and returns it.
-spec await(string()) -> string().
await(Expression) -> lists:last(until(Expression)).

%% Waits for it, and returns it after all that came before.
-spec until(string()) -> [string()].
until(Expression) ->
    receive
        {?MODULE, Text} ->
            case re:run(Text, Expression) of
                nomatch -> [Text | until(Expression)];
                {match, _} -> [Text]
            end
    after 30000 -> error({not_logged, Expression})
    end.

%% Called by logger, in the process that logs.
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(Event, #{config := Test}) ->
    Test ! {?MODULE, lists:flatten(logger_formatter:format(Event, #{single_line => true}))},
    ok.
