%% Megaphone as the dependency of another project, test/library, and its own build where things are missing.
%%
%% The dependency is a commit of the checkout's files as they are now. What rebar3 starts runs as a user would run it,
%% but shares cargo's directory with the checkout, so that only Megaphone's own crates are built again.
-module(megaphone_library_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    a_project_with_a_git_dependency_serves/1,
    a_release_that_was_moved_serves/1,
    a_checkout_needs_no_rust_where_a_library_is_given/1,
    a_library_outside_priv_can_be_named/1,
    a_given_library_that_is_not_there_fails_the_build/1,
    without_an_ejabberd_only_megaphone_is_built/1,
    the_directory_of_an_ejabberd_can_be_named/1
]).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-define(COMMAND_TIMEOUT, 600000).
-define(START_TIMEOUT, 60000).

all() ->
    [
        a_project_with_a_git_dependency_serves,
        a_release_that_was_moved_serves,
        a_checkout_needs_no_rust_where_a_library_is_given,
        a_library_outside_priv_can_be_named,
        a_given_library_that_is_not_there_fails_the_build,
        without_an_ejabberd_only_megaphone_is_built,
        the_directory_of_an_ejabberd_can_be_named
    ].

suite() -> [{timetrap, {minutes, 15}}].

init_per_suite(Config) ->
    Root = megaphone_ct_node:root(),
    case os:find_executable("git") =/= false andalso filelib:is_file(filename:join(Root, ".git")) of
        true ->
            Repository = filename:join(?config(priv_dir, Config), "repository"),
            ok = commit(Root, Repository),
            [{root, Root}, {repository, Repository} | Config];
        false ->
            {skip, "only a git checkout can be a git dependency"}
    end.

end_per_suite(_Config) -> ok.

%% Each case has a project of its own.
init_per_testcase(Case, Config) ->
    Project = filename:join(?config(priv_dir, Config), atom_to_list(Case)),
    Template = filename:join([?config(root, Config), "test", "library"]),
    {0, _} = run("/", [], ["cp", "-r", Template, Project]),
    [{project, Project} | Config].

end_per_testcase(_Case, _Config) -> ok.

%% --- cases

a_project_with_a_git_dependency_serves(Config) ->
    Project = ?config(project, Config),
    ok = depend_on_git(Config),
    {0, _} = run(Project, with_cargo(Config), ["rebar3", "compile"]),
    Ebins = filelib:wildcard(filename:join(Project, "_build/default/lib/*/ebin")),
    ok = echoes(["erl", "-noinput", "-pa" | Ebins] ++ arguments(Config), Config).

a_release_that_was_moved_serves(Config) ->
    Project = ?config(project, Config),
    ok = depend_on_git(Config),
    {0, _} = run(Project, with_library(Config), ["rebar3", "release"]),
    Moved = filename:join(?config(priv_dir, Config), "moved"),
    {0, _} = run(Project, [], ["cp", "-r", "_build/default/rel/echo", Moved]),
    {0, _} = run("/", [], ["rm", "-r", Project]),
    Start = [filename:join([Moved, "bin", "echo"]), "foreground"],
    ok = echoes(Start ++ environment(Config), Config).

a_checkout_needs_no_rust_where_a_library_is_given(Config) ->
    Project = ?config(project, Config),
    Checkout = filename:join([Project, "_checkouts", "megaphone"]),
    ok = filelib:ensure_dir(Checkout),
    {0, _} = run(Project, [], ["git", "clone", "-q", ?config(repository, Config), Checkout]),
    ok = write_config(Project, megaphone),
    {0, _} = run(Project, with_library(Config), ["rebar3", "compile"]),
    Ebins = filelib:wildcard(filename:join(Project, "_build/default/{lib,checkouts}/*/ebin")),
    ok = echoes(["erl", "-noinput", "-pa" | Ebins] ++ arguments(Config), Config).

a_library_outside_priv_can_be_named(Config) ->
    Project = ?config(project, Config),
    ok = depend_on_git(Config),
    {0, _} = run(Project, with_library(Config), ["rebar3", "compile"]),
    Elsewhere = filename:join(Project, "elsewhere"),
    Priv = filename:join(Project, "_build/default/lib/megaphone/priv"),
    {0, _} = run(Project, [], ["mv", library(Priv), Elsewhere ++ ".so"]),
    {0, _} = run(Project, [], ["rm", "-r", Priv]),
    Ebins = filelib:wildcard(filename:join(Project, "_build/default/lib/*/ebin")),
    Named = ["-megaphone", "nif_library", io_lib:format("~p", [Elsewhere])],
    ok = echoes(["erl", "-noinput", "-pa" | Ebins] ++ Named ++ arguments(Config), Config).

a_given_library_that_is_not_there_fails_the_build(Config) ->
    Environment = [{"MEGAPHONE_NIF", "/nonexistent.so"}],
    {Status, Output} = run(?config(repository, Config), Environment, ["scripts/build-nif", "--into", "priv"]),
    ?assertNotEqual(0, Status),
    ?assertMatch({match, _}, re:run(Output, "no file /nonexistent.so")).

without_an_ejabberd_only_megaphone_is_built(Config) ->
    {Output, Built} = build_with("/nonexistent", Config),
    ?assertMatch({match, _}, re:run(Output, "No ejabberd found")),
    ?assertEqual(["megaphone"], Built).

%% Its own directory, and the one that it is in.
the_directory_of_an_ejabberd_can_be_named(Config) ->
    {0, Found} = run(?config(root, Config), [], ["scripts/lib/ejabberd-dir"]),
    Ejabberd = string:trim(binary_to_list(Found)),
    [?assertMatch({_, ["megaphone", "megaphone_ejabberd"]}, build_with(Directory, Config))
     || Directory <- [Ejabberd, filename:dirname(Ejabberd)]],
    ok.

%% Builds a new checkout, which is told where ejabberd is. Gives the applications that there are then.
build_with(EjabberdDirectory, Config) ->
    Checkout = filename:join(?config(project, Config), "checkout" ++ integer_to_list(erlang:unique_integer([positive]))),
    {0, _} = run("/", [], ["git", "clone", "-q", ?config(repository, Config), Checkout]),
    Environment = [{"EJABBERD_LIB_DIR", EjabberdDirectory} | with_library(Config)],
    {0, Output} = run(Checkout, Environment, ["rebar3", "compile"]),
    Built = filelib:wildcard("*/ebin/*.app", filename:join(Checkout, "_build/default/lib")),
    {Output, [filename:basename(App, ".app") || App <- Built]}.

%% --- the project

%% The checkout's files as they are, as the one commit of a new repository.
commit(Root, Repository) ->
    ok = filelib:ensure_dir(filename:join(Repository, "x")),
    {0, _} = run(Root, [], ["sh", "-c", "git ls-files -z --cached --others --exclude-standard "
                                        "| tar -c --ignore-failed-read --null -T - | tar -x -C \"$1\"", "sh", Repository]),
    {0, _} = run(Repository, [], ["git", "init", "-q", "-b", "main"]),
    {0, _} = run(Repository, [], ["git", "add", "--all"]),
    Author = ["-c", "user.name=test", "-c", "user.email=test@localhost"],
    {0, _} = run(Repository, [], ["git"] ++ Author ++ ["commit", "-q", "-m", "as it is"]),
    ok.

depend_on_git(Config) ->
    Url = "file://" ++ ?config(repository, Config),
    write_config(?config(project, Config), {megaphone, {git, Url, {branch, "main"}}}).

write_config(Project, Dependency) ->
    Release = [{release, {echo, "1"}, [echo_server]}, {dev_mode, false}, {include_erts, false}, {include_src, false}],
    Text = [io_lib:format("~p.~n", [Term]) || Term <- [{deps, [Dependency]}, {relx, Release}]],
    file:write_file(filename:join(Project, "rebar.config"), Text).

with_cargo(Config) -> [{"CARGO_TARGET_DIR", filename:join(?config(root, Config), "target")}].

%% A cargo that fails stands before any other.
with_library(Config) ->
    Directory = filename:join(?config(priv_dir, Config), "no-rust"),
    Cargo = filename:join(Directory, "cargo"),
    ok = filelib:ensure_dir(Cargo),
    ok = file:write_file(Cargo, "#!/bin/sh\necho cargo was called >&2\nexit 1\n"),
    ok = file:change_mode(Cargo, 8#755),
    Library = library(filename:join([?config(root, Config), "erlang", "megaphone", "priv"])),
    [{"PATH", Directory ++ ":" ++ os:getenv("PATH")}, {"MEGAPHONE_NIF", Library}].

%% The one that a priv directory says is current.
library(Priv) ->
    {ok, Name} = file:read_file(filename:join(Priv, "megaphone_nif.current")),
    filename:join(Priv, string:trim(binary_to_list(Name))).

%% --- the running server

arguments(Config) ->
    environment(Config) ++ ["-eval", "{ok, _} = application:ensure_all_started(echo_server)."].

environment(Config) -> ["-echo_server", "port_file", io_lib:format("~p", [port_file(Config)])].

port_file(Config) -> filename:join(?config(priv_dir, Config), filename:basename(?config(project, Config)) ++ ".port").

%% The server ends with its standard input.
echoes([Program | Arguments], Config) ->
    Words = [lists:flatten(Argument) || Argument <- Arguments],
    Server = open_port({spawn_executable, executable(Program, "/")},
                       [{args, Words}, exit_status, stderr_to_stdout, binary]),
    {os_pid, OsPid} = erlang:port_info(Server, os_pid),
    try
        Port = await_port(Server, port_file(Config), erlang:monotonic_time(millisecond) + ?START_TIMEOUT),
        {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]),
        ok = gen_tcp:send(Socket, <<"over there">>),
        {ok, <<"over there">>} = gen_tcp:recv(Socket, 10, ?START_TIMEOUT),
        gen_tcp:close(Socket)
    after
        os:cmd("kill -TERM " ++ integer_to_list(OsPid))
    end.

await_port(Server, File, Deadline) ->
    case file:read_file(File) of
        {ok, Number} ->
            binary_to_integer(Number);
        {error, enoent} ->
            receive
                {Server, {exit_status, Status}} -> error({server_ended, Status});
                {Server, {data, Text}} -> ct:log("~ts", [Text])
            after 50 -> ok
            end,
            erlang:monotonic_time(millisecond) < Deadline orelse error(server_did_not_start),
            await_port(Server, File, Deadline)
    end.

%% --- commands

run(Directory, Environment, [Program | Arguments]) ->
    Port = open_port({spawn_executable, executable(Program, Directory)},
                     [{args, Arguments}, {cd, Directory}, {env, Environment}, exit_status, stderr_to_stdout, binary]),
    {Status, Output} = collect(Port, []),
    Status =:= 0 orelse ct:log("~ts in ~ts: ~w~n~ts", [Program, Directory, Status, Output]),
    {Status, Output}.

%% A bare name is looked up in the PATH, as a shell does it.
executable(Program, Directory) ->
    case filename:dirname(Program) of
        "." -> os:find_executable(Program);
        _ -> filename:join(Directory, Program)
    end.

collect(Port, Output) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Output, Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Output)}
    after ?COMMAND_TIMEOUT -> error(command_timeout)
    end.
