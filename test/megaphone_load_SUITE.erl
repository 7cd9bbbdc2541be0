%% Which library a node loads, and what loading its module again and installing another library do to a node that runs.
%%
%% Each node is a peer. Where files are replaced it runs a copy of the application, made as docs/install.md says.
-module(megaphone_load_SUITE).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([loading_the_module_again_is_refused/1, release_upgrade_that_loads_the_module_is_refused/1,
         release_upgrade_may_restart_the_node/1,
         purged_module_gets_its_library_back/1, library_stays_mapped_without_its_module/1,
         build_installed_over_a_running_one_leaves_it_up/1, build_copied_over_a_running_one_leaves_it_up/1,
         installed_library_is_loaded_by_the_next_node/1,
         application_restarts_when_its_library_has_been_replaced/1, start_loads_all_modules/1]).
-export([library_without_a_hash_is_loaded/1, broken_link_of_priv_is_told/1, bad_pointer_is_told/1]).
%% Called in the peer.
-export([refused/3, mapped/0]).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-define(LOOPBACK, {127, 0, 0, 1}).
-define(TIMEOUT, 10000).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [loading_the_module_again_is_refused, release_upgrade_that_loads_the_module_is_refused,
     release_upgrade_may_restart_the_node,
     purged_module_gets_its_library_back, library_stays_mapped_without_its_module,
     build_installed_over_a_running_one_leaves_it_up, build_copied_over_a_running_one_leaves_it_up,
     installed_library_is_loaded_by_the_next_node,
     application_restarts_when_its_library_has_been_replaced, start_loads_all_modules,
     library_without_a_hash_is_loaded, broken_link_of_priv_is_told, bad_pointer_is_told].

init_per_testcase(Case, Config) ->
    Directory = filename:join(?config(priv_dir, Config), Case),
    ok = filelib:ensure_dir(filename:join(Directory, "x")),
    [{directory, Directory}, {peer, megaphone_ct_sockets:peer_node([])} | Config].

%% A node that has crashed has no peer any more.
end_per_testcase(_Case, Config) ->
    Peer = ?config(peer, Config),
    case is_process_alive(Peer) of
        true -> megaphone_ct_sockets:stop_peer(Peer);
        false -> ok
    end.

%% --- loading again

loading_the_module_again_is_refused(Config) ->
    Peer = ?config(peer, Config),
    Port = serve(Peer),
    Socket = connect_to_echo(Port),
    {_, Beam, File} = code:get_object_code(megaphone_nif),
    [begin
         {Result, Logged} = peer:call(Peer, ?MODULE, refused, [Module, Function, Arguments]),
         ?assertEqual({error, on_load_failure}, Result),
         ?assertMatch({match, _}, re:run(Logged, "restart the Erlang node")),
         [peer:call(Peer, code, Purge, [megaphone_nif]) || Purge <- [soft_purge, purge]],
         echoes(Socket),
         echoes(connect_to_echo(Port))
     end
     || {Module, Function, Arguments} <- [{c, l, [megaphone_nif]}, {code, load_file, [megaphone_nif]},
                                          {code, load_binary, [megaphone_nif, File, Beam]}]],
    ok.

%% Their files may be gone when they are first called, or of another version.
start_loads_all_modules(Config) ->
    Peer = ?config(peer, Config),
    _ = serve(Peer),
    {ok, Modules} = peer:call(Peer, application, get_key, [megaphone, modules]),
    ?assertEqual([], [Module || Module <- Modules, peer:call(Peer, code, is_loaded, [Module]) =:= false]).

%% The release handler does not survive it; the connections do.
release_upgrade_that_loads_the_module_is_refused(Config) ->
    {Peer, Socket} = serve_before_an_upgrade(Config),
    New = next_version(Config, [{load_module, megaphone_socket}, {load_module, megaphone_nif}]),
    ?assertMatch({{'EXIT', _}, _}, peer:call(Peer, ?MODULE, refused, [release_handler, upgrade_app, [megaphone, New]])),
    echoes(Socket).

%% As docs/install.md advises.
release_upgrade_may_restart_the_node(Config) ->
    {Peer, Socket} = serve_before_an_upgrade(Config),
    New = next_version(Config, [restart_emulator]),
    ?assertEqual(restart_emulator, peer:call(Peer, release_handler, upgrade_app, [megaphone, New])),
    echoes(Socket).

serve_before_an_upgrade(Config) ->
    Peer = ?config(peer, Config),
    run_copy(Peer, copy_application(Config)),
    {ok, _} = peer:call(Peer, application, ensure_all_started, [sasl]),
    {Peer, connect_to_echo(serve(Peer))}.

purged_module_gets_its_library_back(Config) ->
    Peer = ?config(peer, Config),
    Port = serve(Peer),
    true = peer:call(Peer, code, delete, [megaphone_nif]),
    false = peer:call(Peer, code, purge, [megaphone_nif]),
    echoes(connect_to_echo(Port)).

%% The file is gone and no thread runs that would keep the library mapped.
library_stays_mapped_without_its_module(Config) ->
    Peer = ?config(peer, Config),
    Copy = copy_application(Config),
    run_copy(Peer, Copy),
    ok = peer:call(Peer, megaphone_nif, load, []),
    [Library] = libraries(Copy),
    ok = file:delete(Library),
    true = peer:call(Peer, code, delete, [megaphone_nif]),
    false = peer:call(Peer, code, purge, [megaphone_nif]),
    ?assertError(not_started, peer:call(Peer, megaphone_nif, connections, [])).

%% --- replacing the library

build_installed_over_a_running_one_leaves_it_up(Config) ->
    Port = replaced_while_it_runs(Config, fun(Build, Running) ->
        {0, _} = megaphone_ct_client:run("env", ["MEGAPHONE_LIB=" ++ filename:dirname(Build), script("install"),
                                                 filename:dirname(Running)]),
        ?assertEqual([filename:basename(File) || File <- libraries(Build)],
                     [filename:basename(File) || File <- libraries(Running)])
    end),
    echoes(connect_to_echo(Port)).

%% As someone may do it by hand. It overwrites what has the same name.
build_copied_over_a_running_one_leaves_it_up(Config) ->
    Port = replaced_while_it_runs(Config, fun(Build, Running) ->
        {0, _} = megaphone_ct_client:run("cp", ["-rL", Build ++ "/.", Running])
    end),
    echoes(connect_to_echo(Port)).

%% The new build has another library. One that could not run shows whether any of it is.
replaced_while_it_runs(Config, Replace) ->
    Peer = ?config(peer, Config),
    Running = copy_application(Config),
    run_copy(Peer, Running),
    Port = serve(Peer),
    Socket = connect_to_echo(Port),
    Build = copy_application(Config, "build"),
    install(Build, file(Config, "other", <<"no library">>)),
    Replace(Build, Running),
    echoes(Socket),
    Port.

installed_library_is_loaded_by_the_next_node(Config) ->
    Peer = ?config(peer, Config),
    Copy = copy_application(Config),
    run_copy(Peer, Copy),
    Port = serve(Peer),
    [Old] = libraries(Copy),
    {ok, Content} = file:read_file(Old),
    %% ELF allows for more bytes at the end.
    install(Copy, file(Config, "other", [Content, "longer"])),
    [New] = libraries(Copy),
    ?assertNotEqual(Old, New),
    echoes(connect_to_echo(Port)),
    Next = megaphone_ct_sockets:peer_node([]),
    run_copy(Next, Copy),
    echoes(connect_to_echo(serve(Next))),
    ?assertEqual([filename:basename(Old)], peer:call(Peer, ?MODULE, mapped, [])),
    ?assertEqual([filename:basename(New)], peer:call(Next, ?MODULE, mapped, [])),
    ok = megaphone_ct_sockets:stop_peer(Next).

%% It goes on with the first one, whose threads run.
application_restarts_when_its_library_has_been_replaced(Config) ->
    Peer = ?config(peer, Config),
    Copy = copy_application(Config),
    run_copy(Peer, Copy),
    _ = serve(Peer),
    install(Copy, file(Config, "other", <<"no library">>)),
    ok = peer:call(Peer, application, stop, [megaphone]),
    echoes(connect_to_echo(serve(Peer))).

%% --- finding the library

library_without_a_hash_is_loaded(Config) ->
    Peer = ?config(peer, Config),
    Copy = copy_application(Config),
    [Library] = libraries(Copy),
    Plain = filename:join(?config(directory, Config), "plain"),
    ok = file:rename(Library, Plain ++ ".so"),
    run_copy(Peer, Copy),
    ok = peer:call(Peer, application, set_env, [megaphone, nif_library, Plain, [{persistent, true}]]),
    echoes(connect_to_echo(serve(Peer))).

broken_link_of_priv_is_told(Config) ->
    Peer = ?config(peer, Config),
    Copy = copy_application(Config),
    Priv = filename:join(Copy, "priv"),
    ok = file:del_dir_r(Priv),
    ok = file:make_symlink("../../nowhere/priv", Priv),
    run_copy(Peer, Copy),
    {cannot_load, _, _, Fix} = load_error(Peer),
    ?assertMatch("install it with scripts/install (" ++ _, Fix).

bad_pointer_is_told(Config) ->
    Peer = ?config(peer, Config),
    Copy = copy_application(Config),
    Pointer = filename:join([Copy, "priv", "megaphone_nif.current"]),
    run_copy(Peer, Copy),
    [begin
         ok = file:write_file(Pointer, Content),
         ?assertMatch({cannot_load, Pointer, "it does not name a library", "run scripts/build-nif" ++ _}, load_error(Peer))
     end
     || Content <- ["", "\n", "../megaphone_nif.so\n", "megaphone_nif\n", <<255, 0, 16#e4>>]],
    ok.

load_error(Peer) ->
    {error, {megaphone, {Error, _}}} = peer:call(Peer, application, ensure_all_started, [megaphone]),
    Error.

%% --- in the peer

%% The result of a call that loads code, and what was logged then.
refused(Module, Function, Arguments) ->
    ok = megaphone_ct_log:start(),
    Result = apply(Module, Function, Arguments),
    Logged = megaphone_ct_log:await("megaphone_nif was not loaded again"),
    ok = megaphone_ct_log:stop(),
    {Result, Logged}.

%% The libraries of ours that the node has mapped.
mapped() ->
    {ok, Maps} = file:read_file("/proc/self/maps"),
    {match, Names} = re:run(Maps, "megaphone_nif[^/ \n]*", [global, {capture, first, list}]),
    lists:usort(lists:append(Names)).

serve(Peer) ->
    {ok, _} = peer:call(Peer, application, ensure_all_started, [megaphone]),
    peer:call(Peer, megaphone_api_SUITE, listen_for_echo, []).

%% --- copies of the application

copy_application(Config) -> copy_application(Config, "running").

%% Its last name is that of the application, as Erlang wants it.
copy_application(Config, Name) ->
    Copy = filename:join([?config(directory, Config), Name, "megaphone"]),
    ok = filelib:ensure_dir(filename:join(Copy, "x")),
    Parts = [filename:join(code:lib_dir(megaphone), Part) || Part <- ["ebin", "priv"]],
    {0, _} = megaphone_ct_client:run("cp", ["-rL" | Parts] ++ [Copy]),
    Copy.

run_copy(Peer, Copy) -> true = peer:call(Peer, code, add_patha, [filename:join(Copy, "ebin")]).

%% Without the library for tests.
libraries(Copy) -> filelib:wildcard(filename:join([Copy, "priv", "megaphone_nif-*.so"])).

install(Copy, Library) ->
    Arguments = ["MEGAPHONE_NIF=" ++ Library, script("build-nif"), "--into", filename:join(Copy, "priv")],
    {0, _} = megaphone_ct_client:run("env", Arguments),
    ok.

script(Name) -> filename:join([megaphone_ct_node:root(), "scripts", Name]).

next_version(Config, Instructions) ->
    New = copy_application(Config, "next"),
    App = filename:join([New, "ebin", "megaphone.app"]),
    {ok, [{application, megaphone, Keys}]} = file:consult(App),
    {vsn, Vsn} = lists:keyfind(vsn, 1, Keys),
    write_term(App, {application, megaphone, lists:keyreplace(vsn, 1, Keys, {vsn, Vsn ++ ".1"})}),
    write_term(filename:rootname(App) ++ ".appup", {Vsn ++ ".1", [{Vsn, Instructions}], []}),
    New.

write_term(File, Term) -> ok = file:write_file(File, io_lib:format("~p.~n", [Term])).

file(Config, Name, Content) ->
    File = filename:join(?config(directory, Config), Name),
    ok = file:write_file(File, Content),
    File.

%% --- clients

connect_to_echo(Port) ->
    {ok, Socket} = gen_tcp:connect(?LOOPBACK, Port, [binary, {active, false}], ?TIMEOUT),
    echoes(Socket),
    Socket.

echoes(Socket) ->
    ok = gen_tcp:send(Socket, "echo?"),
    ?assertEqual({ok, <<"echo?">>}, gen_tcp:recv(Socket, 5, ?TIMEOUT)).
