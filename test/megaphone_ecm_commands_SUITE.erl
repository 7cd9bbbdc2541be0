%% ejabberdctl's commands about external connection managers, on a real ejabberd. The managers are hidden nodes with a process
%% that answers as they do; the tests of native/ecm have the real one.
-module(megaphone_ecm_commands_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([without_managers_it_says_so/1, managers_are_listed_with_their_nodes/1, other_nodes_are_errors/1,
         commands_are_explained/1]).
%% Called in the managers' nodes.
-export([serve/1]).

-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() -> [without_managers_it_says_so, managers_are_listed_with_their_nodes, other_nodes_are_errors,
          commands_are_explained].

%% There is no epmd: all nodes listen on one port, each on an address of its own.
init_per_suite(Config) ->
    Port = integer_to_list(megaphone_ct_node:free_port()),
    Directory = filename:join(proplists:get_value(priv_dir, Config), "ejabberd"),
    Arguments = ["-name", "ejabberd@127.0.0.1" | distribution(Port, "1")],
    Ejabberd = megaphone_ct_node:start(megaphone_http, Directory, #{arguments => Arguments}),
    [{ejabberd, Ejabberd}, {dist_port, Port} | Config].

end_per_suite(Config) -> megaphone_ct_node:stop(ejabberd(Config)).

without_managers_it_says_so(Config) ->
    ?assertMatch("No external connection manager" ++ _, command(Config, megaphone_ecm_stats, [])).

managers_are_listed_with_their_nodes(Config) ->
    First = start_manager(Config, "2", stats(<<"first">>)),
    Second = start_manager(Config, "3", stats(<<"second">>)),
    Other = start_manager(Config, "4", none),

    One = command(Config, megaphone_ecm_stats_of, ["ecm@127.0.0.2"]),
    ?assertEqual(
        ["ecm@127.0.0.2 (first), up 1 d 01:00:05, draining",
         "  connections 7 of 100, accepted 12, refused 3, workers 2",
         "  received 4096 bytes, sent 8192 bytes",
         "  node                                     up     links suspended   streams   kept bytes   cuts  resumed   lost",
         "  ejabberd@a.example.org                   yes        2         0         7          512      1        1      0",
         "  ejabberd@b.example.org                   no         0         2         0            0      2        0      1"],
        [string:trim(Line, trailing) || Line <- string:split(One, "\n", all)]),

    [_ = call(Config, net_adm, ping, [Node]) || Node <- ['ecm@127.0.0.3', 'ecm@127.0.0.4']],
    All = command(Config, megaphone_ecm_stats, []),
    ?assertNotEqual(nomatch, string:find(All, "ecm@127.0.0.2 (first)")),
    ?assertNotEqual(nomatch, string:find(All, "ecm@127.0.0.3 (second)")),
    ?assertEqual(nomatch, string:find(All, "ecm@127.0.0.4")),
    lists:foreach(fun peer:stop/1, [First, Second, Other]).

other_nodes_are_errors(Config) ->
    None = start_manager(Config, "5", none),
    Junk = start_manager(Config, "6", #{nodes => junk}),
    Error = fun(Node) ->
        {error, Text} = command(Config, megaphone_ecm_stats_of, [Node]),
        lists:flatten(Text)
    end,
    ?assertEqual("ecm@127.0.0.5: it is no external connection manager", Error("ecm@127.0.0.5")),
    ?assertMatch("ecm@127.0.0.6: its answer is not understood" ++ _, Error("ecm@127.0.0.6")),
    ?assertMatch("ecm@127.0.0.7: it can't be reached" ++ _, Error("ecm@127.0.0.7")),
    ?assertMatch("ecm is no name of a node" ++ _, Error("ecm")),
    lists:foreach(fun peer:stop/1, [None, Junk]).

%% 0 is ejabberdctl's status.
commands_are_explained(Config) ->
    [?assertEqual(0, call(Config, ejabberd_ctl, process, [["help", Command]]))
     || Command <- ["megaphone_ecm_stats", "megaphone_ecm_stats_of"]].

command(Config, Name, Arguments) ->
    call(Config, ejabberd_commands, execute_command2, [Name, Arguments, #{caller_module => ejabberd_ctl}]).

call(Config, Module, Function, Arguments) -> megaphone_ct_node:call(ejabberd(Config), Module, Function, Arguments).

ejabberd(Config) -> proplists:get_value(ejabberd, Config).

distribution(Port, Host) ->
    ["-start_epmd", "false", "-erl_epmd_port", Port, "-setcookie", "monster",
     "-kernel", "inet_dist_use_interface", "{127,0,0," ++ Host ++ "}"].

start_manager(Config, Host, Stats) ->
    Arguments = ["-hidden", "-name", "ecm@127.0.0." ++ Host, "-pa", filename:dirname(code:which(?MODULE))
                 | distribution(proplists:get_value(dist_port, Config), Host)],
    {ok, Peer, _} = peer:start_link(#{connection => standard_io, args => Arguments}),
    ok = peer:call(Peer, ?MODULE, serve, [Stats]),
    Peer.

%% Returns when the process is there.
serve(none) ->
    ok;
serve(Stats) ->
    Pid = spawn(fun() -> answer(Stats) end),
    true = register(ecm, Pid),
    ok.

answer(Stats) ->
    receive
        {'$gen_call', From, stats} -> gen_server:reply(From, Stats)
    end,
    answer(Stats).

stats(Name) ->
    Node = #{name => <<"ejabberd@a.example.org">>, up => true, links_up => 2, links_suspended => 0, streams => 7,
             kept_bytes => 512, cuts => 1, resumed => 1, lost => 0},
    Down = Node#{name := <<"ejabberd@b.example.org">>, up := false, links_up := 0, links_suspended := 2, streams := 0,
                 kept_bytes := 0, cuts := 2, resumed := 0, lost := 1},
    #{name => Name, uptime => 86400 + 3605, draining => true, workers => 2, connections => 7, max_connections => 100,
      accepted => 12, refused => 3, received => 4096, sent => 8192, nodes => [Node, Down]}.
