%% One listener: the supervisor of its megaphone_listener and its megaphone_starter.
%%
%% The native listener is not a child's. It is owned by this supervisor or by a process that lives longer, so that no
%% crash of a child closes the port; and by a longer-lived owner's a supervisor that starts again takes over the native
%% listener that is there, with its port, its connections and those that wait for their process.
%%
%% It ends by itself, with reason shutdown, once the listener is closed and has no connections left.
-module(megaphone_listener_sup).
-behaviour(supervisor).

-export([start/1, start_link/1, init/1]).

-export_type([spec/0]).

%% name: under which a listener is found again; no two that live have the same.
%% owner: the listener accepts for as long as this process lives. Default: the supervisor itself.
%% former: native listeners to go on with: one that accepts, or only to serve what connections they have.
%% group_leader: that of the processes that handle connections.
-type spec() :: #{
    name := term(),
    place := megaphone:place(),
    handlers := megaphone_listener:handlers(),
    options := megaphone_nif:listen_options(),
    socket_options => [gen_tcp:listen_option()],
    group_leader := pid(),
    owner => pid(),
    former => [megaphone:listener()]
}.

%% Starts it under the application's megaphone_listeners_sup. closed: it was to go on with a listener that is no more.
-spec start(spec()) -> {ok, pid(), megaphone:listener()} | {error, term()}.
start(Spec) ->
    try supervisor:start_child(megaphone_listeners_sup, [Spec]) of
        {ok, undefined} -> {error, closed};
        {ok, Pid} -> with_number(Pid, Spec);
        {error, Reason} -> {error, Reason}
    catch
        exit:{noproc, _} -> {error, {not_started, megaphone}};
        exit:{Reason, {gen_server, call, _}} -> {error, Reason}
    end.

with_number(Pid, #{name := Name}) ->
    case [Listener || {Listener, #{name := Its, supervisor := Of}} <- megaphone_registry:all(), Its =:= Name, Of =:= Pid] of
        [] -> {error, closed};  % it has ended already
        Listeners -> {ok, Pid, lists:last(Listeners)}
    end.

%% The place's errors are gen_tcp:listen's.
-spec start_link(spec()) -> {ok, pid()} | ignore | {error, term()}.
start_link(#{name := Name} = Spec) ->
    case [Pid || {_, #{name := Its, supervisor := Pid}} <- megaphone_registry:all(), Its =:= Name, is_process_alive(Pid)] of
        [Pid | _] -> {error, {already_started, Pid}};
        [] -> listen_error(supervisor:start_link(?MODULE, Spec))
    end.

listen_error({error, {shutdown, {listen, Reason}}}) -> {error, Reason};
listen_error(Result) -> Result.

-spec init(spec()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}} | ignore.
init(#{handlers := Handlers, group_leader := GroupLeader} = Spec) ->
    case native_listeners(Spec) of
        [] -> ignore;
        Listeners ->
            Flags = #{strategy => one_for_one, intensity => 10, period => 10, auto_shutdown => any_significant},
            {ok, {Flags, [
                #{id => listener, start => {megaphone_listener, start_link, [Listeners, facts(Spec)]},
                  restart => transient, significant => true}
            ] ++ starter(Listeners, Handlers, GroupLeader)}}
    end.

%% A link's connection starts nothing itself.
starter(_Listeners, Handlers, _GroupLeader) when Handlers =:= #{} ->
    [];
starter(Listeners, Handlers, GroupLeader) ->
    [#{id => starter, start => {megaphone_starter, start_link, [Listeners, Handlers, GroupLeader]}}].

facts(#{handlers := Handlers, name := Name, options := Options} = Spec) ->
    Shown = maps:merge(Handlers, maps:with([mode, link_name], Options)),
    Shown#{name => Name, owner => owner(Spec), supervisor => self(),
           sockname => megaphone_listener:place_name(maps:get(place, Spec))}.

owner(#{owner := Owner}) -> Owner;
owner(#{}) -> self().

%% The numbers of this listener and of former ones that still have connections; the last is the one that accepts.
native_listeners(#{name := Name} = Spec) ->
    Registered = megaphone_registry:of_name(Name),
    All = lists:usort(maps:get(former, Spec, []) ++ Registered),
    Known = [Listener || Listener <- All, megaphone_nif:listener_info(Listener) =/= {error, closed}],
    case Spec of
        #{owner := _} when All =/= [] ->
            %% Closed by its owner, or by whoever stopped it: what was opened once is not opened again.
            Known;
        #{} ->
            %% The former one's owner was the former supervisor. Its end may not have got there yet.
            _ = [megaphone_nif:close_listener(Listener) || Listener <- Known],
            Known ++ [listen(Spec)]
    end.

listen(#{place := Place, options := Options} = Spec) ->
    case megaphone_listener:listen(Place, maps:get(socket_options, Spec, []), owner(Spec), Options) of
        {ok, Listener, SockName} ->
            %% Where the place alone does not tell.
            true = megaphone_registry:insert(Listener, (facts(Spec))#{sockname => SockName}) orelse
                   exit({shutdown, {listen, {not_started, megaphone}}}),
            Listener;
        {error, Reason} ->
            exit({shutdown, {listen, Reason}})
    end.
