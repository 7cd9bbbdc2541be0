%% What native XMPP sessions take from ejabberd's configuration, and what they do when ejabberd reloads or stops.
-module(megaphone_ejabberd).

-export([listener_started/0, c2s_limits/0, max_stanza/1, are_bosh_hosts_known/0]).
%% Hooks of ejabberd.
-export([configure/0, configure/1, add_session_hook/1, release_changed_listeners/0, say_goodbye/0]).

%% ejabberd's.
-include("logger.hrl").

%% The library's bound for one stanza, in bytes; also what it takes where ejabberd's max_stanza_size is infinity.
-define(MAX_STANZA, 4194304).

%% A persistent term: the hosts that the library was told of.
-define(BOSH_HOSTS, {?MODULE, bosh_hosts}).

%% After gen_mod, which starts and stops modules on the same hooks.
-define(HOOK_PRIORITY, 90).

%% Before ejabberd_listener, at 50, opens the ports of the new configuration.
-define(RELEASE_PRIORITY, 40).

%% How long a stopping ejabberd waits for its users to be told, in milliseconds.
-define(GOODBYE_TIMEOUT, 30000).

%% To be called by a listener before it accepts.
-spec listener_started() -> ok.
listener_started() ->
    ok = megaphone_ejabberd_versions:warn_if_untested(),
    ok = megaphone_ecm_commands:register(),
    %% A hook that is there already is not added again.
    ok = ejabberd_hooks:add(config_reloaded, ?MODULE, configure, ?HOOK_PRIORITY),
    ok = ejabberd_hooks:add(config_reloaded, ?MODULE, release_changed_listeners, ?RELEASE_PRIORITY),
    ok = ejabberd_hooks:add(host_up, ?MODULE, configure, ?HOOK_PRIORITY),
    ok = ejabberd_hooks:add(host_up, ?MODULE, add_session_hook, ?HOOK_PRIORITY),
    lists:foreach(fun add_session_hook/1, ejabberd_option:hosts()),
    ok = ejabberd_hooks:add(host_down, ?MODULE, configure, ?HOOK_PRIORITY),
    ok = ejabberd_hooks:add(ejabberd_stopping, ?MODULE, say_goodbye, ?HOOK_PRIORITY),
    configure().

%% host_up and host_down.
-spec configure(Host :: binary()) -> ok.
configure(_Host) -> configure().

%% Tells the library what ejabberd is configured to.
-spec configure() -> ok.
configure() ->
    Hosts = bosh_hosts(),
    ok = persistent_term:put(?BOSH_HOSTS, Hosts),
    BoshHosts = [{Host, bosh_options(Host)} || Host <- Hosts],
    megaphone_nif:xmpp_configure(#{
        from => ejabberd_config:get_myname(),
        lang => ejabberd_option:language(),
        header_timeout => ejabberd_option:negotiation_timeout(),
        max_stanza => max_stanza(c2s_limits()),
        ping_interval => ejabberd_option:websocket_ping_interval(),
        websocket_timeout => ejabberd_option:websocket_timeout(),
        origins => [string:lowercase(Origin) || Origin <- ejabberd_option:websocket_origin()],
        bosh_hosts => maps:from_list(BoshHosts)
    }).

%% host_up.
-spec add_session_hook(Host :: binary()) -> ok.
add_session_hook(Host) ->
    ejabberd_hooks:add(sm_remove_connection_hook, Host, megaphone_c2s_loop, session_removed, ?HOOK_PRIORITY).

%% Whether the library was told of the hosts that have native BOSH now.
-spec are_bosh_hosts_known() -> boolean().
are_bosh_hosts_known() -> persistent_term:get(?BOSH_HOSTS, []) =:= bosh_hosts().

bosh_hosts() -> [Host || Host <- ejabberd_option:hosts(), is_native_bosh(Host)].

%% A session with prebind begins logged in, as somebody: stock mod_bosh makes those.
is_native_bosh(Host) ->
    gen_mod:is_loaded(Host, mod_bosh) andalso not mod_bosh_opt:prebind(Host).

%% What mod_bosh's other options mean to a native session: json has no effect on stock either, and a body that is JSON
%% goes to stock mod_bosh; queue_type file has no effect, what waits for a client is in memory, and bounded; ram_db_type
%% and the cache are for finding sessions of other nodes, and a session here is found by its own node's library alone.
bosh_options(Host) ->
    #{max_inactivity => mod_bosh_opt:max_inactivity(Host),
      max_pause => mod_bosh_opt:max_pause(Host),
      max_concat => mod_bosh_opt:max_concat(Host)}.

%% What sessions over WebSocket and BOSH share with those over TCP: the limits of the first c2s listener. ejabberd's own
%% function for it knows listeners by the module ejabberd_c2s alone.
-spec c2s_limits() -> [{atom(), term()}].
c2s_limits() ->
    case [Options || {_, Module, Options} <- ejabberd_option:listen(),
                     Module =:= ejabberd_c2s orelse Module =:= megaphone_c2s] of
        [Options | _] -> maps:to_list(maps:with(megaphone_ejabberd_versions:limit_names(), Options));
        [] -> []
    end.

%% The bound for one stanza that the options of a c2s ask for, in bytes.
-spec max_stanza([proplists:property()]) -> pos_integer().
max_stanza(Options) ->
    %% infinity is an atom, and so greater than any number.
    min(proplists:get_value(max_stanza_size, Options, infinity), ?MAX_STANZA).

%% config_reloaded. ejabberd_listener ends listeners that are configured no more, or otherwise, and starts the new ones at
%% once: their ports have to be free by then.
-spec release_changed_listeners() -> ok.
release_changed_listeners() ->
    New = ejabberd_option:listen(),
    Old = [EndPoint || {EndPoint, Module, _} = Listener <- ets:tab2list(ejabberd_listener),
                       lists:member(Module, [megaphone_http, megaphone_c2s, megaphone_ecm]), not lists:member(Listener, New)],
    Pids = [Pid || {EndPoint, Pid, _, _} <- supervisor:which_children(ejabberd_listener),
                   is_pid(Pid), lists:member(EndPoint, Old)],
    ok = leave_managers(New),
    lists:foreach(fun megaphone_ejabberd_listener:release/1, Pids).

%% A listener for links that changes goes on with them. Where there is none any more, managers take their clients elsewhere.
leave_managers(New) ->
    case lists:keymember(megaphone_ecm, 2, New) of
        true -> ok;
        false -> lists:foreach(fun megaphone_listener:close/1, link_listeners(megaphone_listener:all()))
    end.

link_listeners(All) -> [Listener || #{id := Listener, mode := links} <- All].

%% ejabberd_stopping, and the end of this application. ejabberd_sm will tell the sessions that the server stops, but
%% doesn't wait for them to tell their clients; on stock, those under ejabberd_c2s_sup that didn't get to it are killed.
%% Here everybody is told before anything is stopped. Who comes back meanwhile is not accepted; connection managers are
%% told first, so that they take their clients elsewhere.
-spec say_goodbye() -> ok.
say_goodbye() ->
    All = megaphone_listener:all(),
    Links = link_listeners(All),
    Listeners = [Listener || #{id := Listener, xmpp_handler := _} <- All],
    lists:foreach(fun megaphone_listener:close/1, Links ++ Listeners),
    %% A process of its own, which has no other messages to tell from those that it counts.
    {Pid, Monitor} = spawn_monitor(fun dismiss_sessions/0),
    receive
        {'DOWN', Monitor, process, Pid, normal} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> ?ERROR_MSG("Cannot tell users that the server stops: ~tp", [Reason])
    end,
    %% What users were told is on its way when these return.
    lists:foreach(fun(Listener) -> megaphone_listener:drain(Listener, 0) end, Links).

dismiss_sessions() ->
    Goodbye = case ejabberd_cluster:get_nodes() of
        [Node] when Node =:= node() -> xmpp:serr_system_shutdown();
        _ -> xmpp:serr_reset()  % there are other nodes to come back to
    end,
    Sessions = [Pid || Pid <- ejabberd_sm:get_all_pids(), node(Pid) =:= node()],
    lists:foreach(fun(Pid) -> dismiss(Pid, Goodbye) end, Sessions),
    await_down(length(Sessions), erlang:monotonic_time(millisecond) + ?GOODBYE_TIMEOUT).

dismiss(Pid, Goodbye) ->
    _ = monitor(process, Pid),
    ok = ejabberd_c2s:send(Pid, Goodbye),
    ok = ejabberd_c2s:stop_async(Pid).

await_down(0, _Deadline) ->
    ok;
await_down(Count, Deadline) ->
    receive
        {'DOWN', _, process, _, _} -> await_down(Count - 1, Deadline)
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        ?WARNING_MSG("~w sessions did not end in ~w seconds", [Count, ?GOODBYE_TIMEOUT div 1000])
    end.
