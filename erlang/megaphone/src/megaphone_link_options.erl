%% Options of a listener for links to connection managers (docs/link.md), checked one by one, so that an error can say
%% which is wrong and what it may be.
-module(megaphone_link_options).

-export([hide_secret/1, for_library/1, bounds/0]).

-export_type([options/0, option_error/0]).

%% secret: what both ends know, at least 32 bytes from a cryptographic source; or the file that it is in, which is read
%% whenever the listener opens (megaphone_secret says what it checks).
%% node_name: what the node is called there, 1 to 128 bytes of UTF-8; default node(). Connection managers refuse another
%% name than the one that they are configured for.
%% The others: see docs/options.md. Times in milliseconds, sizes in bytes.
-type options() :: #{
    secret := binary() | {file, file:name_all()} | fun(() -> binary()),
    node_name => binary(),
    max_links => pos_integer(),
    max_streams => pos_integer(),
    resend_bytes => pos_integer(),
    resume_timeout => pos_integer(),
    handshake_timeout => pos_integer(),
    ping_interval => pos_integer(),
    silence_timeout => pos_integer(),
    atom() => term()
}.

-type option_error() :: {bad_option, Name :: atom(), WhatToDo :: string()}.

-define(LEAST_SECRET, 32).
-define(MOST_NAME, 128).

%% The library's defaults.
-define(PING_INTERVAL, 10_000).
-define(SILENCE_TIMEOUT, 30_000).
-define(RESEND_BYTES, 4194304).
-define(MAX_PAYLOAD, 16384).

%% Numbers, with what they may be.
-spec bounds() -> #{atom() => {Least :: pos_integer(), Most :: pos_integer()}}.
bounds() ->
    #{backlog => {1, 65535},
      max_handshakes => {1, 4096},
      max_links => {1, 4096},
      max_streams => {1, 16#1000000},
      resend_bytes => {4096, 16#40000000},
      unsent_bytes => {1024, 16#40000000},
      max_payload => {1024, 65535},
      initial_credit => {1, 16#7fffffff},
      resume_timeout => {1000, 3600_000},
      handshake_timeout => {1000, 60_000},
      ping_interval => {1000, 600_000},
      silence_timeout => {1000, 600_000},
      ack_delay => {1, 5000}}.

%% Options are arguments of supervisors' children, which reports show; they show no more of a fun than its name.
-spec hide_secret(#{atom() => term()}) -> #{atom() => term()}.
hide_secret(#{secret := Secret} = Options) when is_binary(Secret) -> Options#{secret := fun() -> Secret end};
hide_secret(Options) -> Options.

%% What megaphone_nif:listen/3 takes.
-spec for_library(#{atom() => term()}) -> {ok, megaphone_nif:listen_options()} | {error, option_error()}.
for_library(Options) ->
    Name = maps:get(node_name, Options, atom_to_binary(node())),
    case errors(Options#{node_name => Name}) of
        [] -> with_secret(Options#{node_name => Name});
        [{Option, Text} | _] -> bad_option(Option, Text)
    end.

bad_option(Option, Text) -> {error, {bad_option, Option, lists:flatten(io_lib:format("~ts", [Text]))}}.

with_secret(#{secret := {file, File}} = Options) ->
    case megaphone_secret:read(File) of
        {ok, Secret} -> {ok, Options#{secret := Secret}};
        {error, Text} -> bad_option(secret, Text)
    end;
with_secret(#{secret := Hidden} = Options) when is_function(Hidden, 0) -> with_secret(Options#{secret := Hidden()});
with_secret(#{secret := Secret} = Options) when is_binary(Secret), byte_size(Secret) >= ?LEAST_SECRET -> {ok, Options};
with_secret(#{secret := _}) ->
    bad_option(secret, io_lib:format("the secret has to be a binary of at least ~w bytes, such as "
                                     "crypto:strong_rand_bytes(32), or {file, Name}", [?LEAST_SECRET]));
with_secret(#{}) ->
    bad_option(secret, "the secret that connection managers have as well is missing: name its file by {file, Name}").

%% --- one by one

errors(Options) ->
    [{Option, Text} || {Option, Value} <- lists:sort(maps:to_list(Options)), {error, Text} <- [check(Option, Value)]]
        ++ silence(maps:merge(#{ping_interval => ?PING_INTERVAL, silence_timeout => ?SILENCE_TIMEOUT}, Options))
        ++ resend(maps:merge(#{resend_bytes => ?RESEND_BYTES, max_payload => ?MAX_PAYLOAD}, Options)).

check(mode, links) -> ok;
check(secret, _) -> ok;
check(shut_with_owner, Is) when is_boolean(Is) -> ok;
check(node_name, Name) when is_binary(Name), Name =/= <<>>, byte_size(Name) =< ?MOST_NAME -> check_text(Name);
check(node_name, _) -> {error, name_error()};
check(Option, Value) ->
    case bounds() of
        #{Option := {Least, Most}} when is_integer(Value), Value >= Least, Value =< Most -> ok;
        #{Option := {Least, Most}} ->
            {error, io_lib:format("~ts has to be an integer from ~w to ~w, and is ~tp", [Option, Least, Most, Value])};
        #{} ->
            {error, io_lib:format("a listener for links has no option ~tp: it can be secret, node_name~ts",
                                  [Option, [[", ", atom_to_list(Known)] || Known <- lists:sort(maps:keys(bounds()))]])}
    end.

check_text(Name) ->
    case unicode:characters_to_binary(Name) of
        Name -> ok;
        _ -> {error, name_error()}
    end.

name_error() -> io_lib:format("node_name has to be a binary of 1 to ~w bytes of UTF-8", [?MOST_NAME]).

%% An answer needs time.
silence(#{ping_interval := Ping, silence_timeout := Silence}) when Silence =< Ping ->
    [{silence_timeout, "silence_timeout has to be above ping_interval: three times it is usual"}];
silence(_Options) ->
    [].

resend(#{resend_bytes := Bytes, max_payload := Payload}) when Bytes < 4 * Payload ->
    [{resend_bytes, "resend_bytes has to be at least four times max_payload"}];
resend(_Options) ->
    [].
