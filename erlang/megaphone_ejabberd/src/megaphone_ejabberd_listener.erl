%% What the listener modules megaphone_http, megaphone_c2s and megaphone_ecm have in common: they keep the process and the listening
%% socket that ejabberd gave them, and have Megaphone accept on a copy of the descriptor.
%%
%% That copy belongs to this process, too, and so lives through whatever befalls Megaphone's own processes. When they have
%% gone, with or without their application, they are started again and take it over: no port is closed, and clients that
%% came meanwhile are served.
-module(megaphone_ejabberd_listener).

-export([serve/4, release/1, unknown_options/1, address/1, endpoint/1]).
-export([proxy_options/0, proxy_opt_type/1, without_proxy_options/1, proxy_protocol/1]).

-export_type([proxy_option/0]).

%% ejabberd's.
-include("logger.hrl").

%% How long it takes until Megaphone is started again, in milliseconds: at first, and at most when it fails again.
-define(FIRST_DELAY, 100).
-define(LAST_DELAY, 5000).

%% How often a listener looks whether it has been closed, and then whether the application has been started anew, in
%% milliseconds.
-define(LOOK_INTERVAL, 1000).

%% How often the log is told of failures, in milliseconds.
-define(LOG_INTERVAL, 60000).

%% How long a release may take, in milliseconds.
-define(RELEASE_TIMEOUT, 5000).

-record(serving, {
    module :: module(),
    socket :: gen_tcp:socket(),
    spec :: megaphone_listener_sup:spec(),
    listener :: megaphone:listener() | undefined,
    %% The application as it was when the listener was started.
    application :: pid() | undefined,
    %% Of megaphone_ejabberd.
    monitor :: reference() | undefined,
    delay = ?FIRST_DELAY :: pos_integer(),
    logged_at :: integer() | undefined
}).

%% Those of the given options that only ejabberd's own accept loop knows. That one would believe any peer, so it is not used
%% where the proxies are named.
-spec unknown_options([proplists:property()]) -> [atom()].
unknown_options(Options) ->
    Unknown = [Option || Option <- [accept_interval], proplists:is_defined(Option, Options)],
    case is_list(proxy_protocol(Options)) of
        true when Unknown =/= [] ->
            ?WARNING_MSG("~p is ignored on a listener with proxy_protocol_trusted", [Unknown]),
            [];
        _ ->
            Unknown
    end.

%% --- the PROXY protocol

%% What belongs to ejabberd's own use_proxy_protocol.
-type proxy_option() :: proxy_protocol_trusted.

%% Those of listen_options/0, with defaults.
-spec proxy_options() -> [{proxy_option(), all}].
proxy_options() -> [{proxy_protocol_trusted, all}].

%% As ejabberd's trusted_proxies.
-spec proxy_opt_type(proxy_option()) -> econf:validator().
proxy_opt_type(proxy_protocol_trusted) -> econf:either(all, econf:list(econf:ip_mask())).

%% For ejabberd's own modules, which don't know them.
-spec without_proxy_options([proplists:property()]) -> [proplists:property()].
without_proxy_options(Options) -> proplists:delete(proxy_protocol_trusted, Options).

%% What the library is told.
-spec proxy_protocol([proplists:property()]) -> boolean() | [{inet:ip_address(), 0..128}].
proxy_protocol(Options) ->
    case {proplists:get_bool(use_proxy_protocol, Options), proplists:get_value(proxy_protocol_trusted, Options, all)} of
        {false, _} -> false;
        {true, all} -> true;
        {true, Networks} -> Networks
    end.

%% --- the process of a listener

%% Accepts on the listening socket for as long as the calling process lives.
-spec serve(module(), gen_tcp:socket(), megaphone_listener:handlers(), megaphone_nif:listen_options()) ->
    no_return().
serve(Module, ListenSocket, Handlers, Options) ->
    _ = put(?MODULE, Module),
    ok = ensure_megaphone(Module, ListenSocket),
    ok = megaphone_ejabberd:listener_started(),
    %% ejabberd's supervisor opens the port again as soon as it hears of this process's end, so often, while it is not free,
    %% that it gives up, and all of ejabberd with it. OTP closes its descriptor of the socket later.
    Spec = #{name => {Module, self()}, place => ListenSocket, owner => self(), handlers => Handlers,
             options => Options#{shut_with_owner => true}, group_leader => group_leader()},
    Serving = watch(#serving{module = Module, socket = ListenSocket, spec = Spec}),
    _ = erlang:send_after(?LOOK_INTERVAL, self(), look),
    case start(Serving) of
        {ok, Started} -> ok = warn_of_same_name(Spec), wait(Started);
        {error, Reason} -> wait(retry(Serving, "cannot be served: ~tp", [Reason]))
    end.

%% A listener that can't be served closes its port, where clients would otherwise connect and wait. It doesn't take
%% ejabberd's other listeners down by failing again and again.
ensure_megaphone(Module, ListenSocket) ->
    case start_applications() of
        ok ->
            ok;
        {error, {megaphone, {{cannot_load, File, Why, Fix}, _}}} ->
            Text = io_lib:format("cannot load ~ts (~ts): ~ts and restart ejabberd", [File, Why, Fix]),
            give_up(Module, ListenSocket, Text);
        {error, Reason} ->
            give_up(Module, ListenSocket, io_lib:format("cannot start Megaphone: ~tp", [Reason]))
    end.

%% Both by name: an application that runs does not look whether those that it needs still do.
start_applications() ->
    case application:ensure_all_started(megaphone) of
        {ok, _} ->
            case application:ensure_all_started(megaphone_ejabberd) of
                {ok, _} -> ok;
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

-spec give_up(module(), gen_tcp:socket(), iodata()) -> no_return().
give_up(Module, ListenSocket, Why) ->
    ?CRITICAL_MSG("The listener ~s at ~ts stops, it ~ts", [Module, address(ListenSocket), Why]),
    exit({shutdown, megaphone_not_available}).

%% Starts the listener's processes, or finds those that Megaphone has started again itself.
start(#serving{spec = Spec, listener = Former} = Serving) ->
    Application = whereis(megaphone_sup),
    case megaphone_listener_sup:start(Spec#{former => [Former || Former =/= undefined]}) of
        {ok, Supervisor, Listener} ->
            _ = monitor(process, Supervisor),
            {ok, Serving#serving{listener = Listener, application = Application, delay = ?FIRST_DELAY}};
        {error, {already_started, Supervisor}} ->
            _ = monitor(process, Supervisor),
            {ok, Serving#serving{listener = number(Serving), application = Application, delay = ?FIRST_DELAY}};
        {error, _} = Error ->
            Error
    end.

%% Only where connection managers may ask for it. The last is the one that they get.
warn_of_same_name(#{place := Socket, name := {Module, _} = Name, options := #{link_name := LinkName}}) ->
    Others = [Place || #{link_name := Its, name := Other, is_open := true, sockname := Place} <- megaphone_listener:all(),
                       Its =:= LinkName, Other =/= Name, Place =/= undefined],
    case {is_for_managers(), Others} of
        {true, [_ | _]} ->
            ?WARNING_MSG("Clients of connection managers that ask for ~ts come to the listener ~s at ~ts from now on, and "
                         "no longer to that at ~ts: give one of them another ecm_name",
                         [LinkName, Module, address(Socket), lists:join(", ", [endpoint(Other) || Other <- Others])]);
        _ -> ok
    end;
warn_of_same_name(_Spec) ->
    ok.

is_for_managers() -> lists:any(fun({_, Module, _}) -> Module =:= megaphone_ecm end, ejabberd_option:listen()).

number(#serving{spec = #{name := Name}, listener = Former}) ->
    case megaphone:listener(Name) of
        {ok, Listener} -> Listener;
        error -> Former
    end.

%% As long as this process lives, the listener accepts. ejabberd ends it on a reload or a stop.
-spec wait(#serving{}) -> no_return().
wait(#serving{module = Module} = Serving) ->
    receive
        {'DOWN', Monitor, process, _, Reason} when Monitor =:= Serving#serving.monitor ->
            wait(goodbye_lost(Reason, Serving));
        {'DOWN', _, process, _, Reason} ->
            wait(lost(Reason, Serving));
        restart ->
            wait(restart(Serving));
        recover ->
            wait(recover(Serving));
        look ->
            wait(look(Serving));
        {?MODULE, release, Ref, From} ->
            From ! {Ref, close(Serving)},
            wait(Serving);
        {rate_limit, Limit} ->
            %% ejabberd's other listener modules pause between two connections. That would only fill the backlog.
            ?WARNING_MSG("~s ignores the rate limit ~tp", [Module, Limit]),
            wait(Serving);
        Other ->
            ?WARNING_MSG("~s got an unexpected message: ~tp", [Module, Other]),
            wait(Serving)
    end.

%% The listener's processes have ended. They failed where the native listener is still open: that is closed only by those
%% who mean it, be it this listener or, with the application, all.
lost(Reason, Serving) ->
    case is_open(Serving) of
        true -> retry(Serving, "lost its processes: ~tp", [Reason]);
        false -> Serving
    end.

%% What says goodbye to the users when the node stops. Whoever stops it means it; what has failed is started again.
goodbye_lost(shutdown, Serving) -> Serving;
goodbye_lost(_Reason, Serving) -> _ = erlang:send_after(?FIRST_DELAY, self(), restart), Serving.

restart(Serving) ->
    case application:ensure_all_started(megaphone_ejabberd) of
        {ok, _} -> watch(Serving);  % where the former's end is not known yet, the monitor fires again
        {error, Reason} ->
            _ = erlang:send_after(?LAST_DELAY, self(), restart),
            log(Serving, "waits for megaphone_ejabberd: ~tp", [Reason])
    end.

watch(#serving{monitor = Former} = Serving) ->
    _ = Former =:= undefined orelse demonitor(Former, [flush]),
    Serving#serving{monitor = monitor(process, megaphone_ejabberd_sup)}.

is_open(#serving{listener = Listener}) -> megaphone_listener:is_open(Listener).

retry(#serving{delay = Delay} = Serving, Format, Arguments) ->
    _ = erlang:send_after(Delay, self(), recover),
    log(Serving#serving{delay = min(2 * Delay, ?LAST_DELAY)}, Format, Arguments).

log(#serving{module = Module, socket = Socket, logged_at = LoggedAt} = Serving, Format, Arguments) ->
    Now = erlang:monotonic_time(millisecond),
    case LoggedAt =:= undefined orelse Now - LoggedAt >= ?LOG_INTERVAL of
        true ->
            ?ERROR_MSG("The listener ~s at ~ts " ++ Format ++ "; it is being started again",
                       [Module, address(Socket) | Arguments]),
            Serving#serving{logged_at = Now};
        false ->
            Serving
    end.

%% Megaphone may have gone as a whole. Another listener may be starting it at the same time, which is as good.
recover(Serving) ->
    case start_all(Serving) of
        {ok, Started} -> Started;
        {error, closed} -> Serving;  % meanwhile, by somebody who means it
        {error, Reason} -> retry(Serving, "cannot be served: ~tp", [Reason])
    end.

start_all(Serving) ->
    case start_applications() of
        ok -> start(watch(Serving));
        {error, _} = Error -> Error
    end.

%% Somebody may have closed the listener: then its port has to be closed, too, where clients would wait for nothing. A
%% stopped application is another matter: clients wait for its next start.
look(#serving{listener = undefined} = Serving) ->
    look_again(Serving);  % it has yet to be started
look(Serving) ->
    case {is_open(Serving), is_another(whereis(megaphone_sup), Serving)} of
        {true, _} -> look_again(Serving);
        {false, true} -> look_again(reopen(Serving));
        {false, false} -> look_again(close_for_good(Serving, megaphone_app:is_stopped()))
    end.

look_again(Serving) ->
    _ = erlang:send_after(?LOOK_INTERVAL, self(), look),
    Serving.

is_another(Running, #serving{application = Application}) -> is_pid(Running) andalso Running =/= Application.

close_for_good(Serving, true) ->
    Serving;
close_for_good(#serving{module = Module, socket = Socket} = Serving, false) ->
    case inet:sockname(Socket) of
        {ok, Name} ->
            ?INFO_MSG("The listener ~s at ~ts has been closed; the next start of Megaphone opens it", [Module, endpoint(Name)]),
            ok = gen_tcp:close(Socket);
        {error, _} ->
            ok
    end,
    Serving.

%% The application has been stopped and started. ejabberd opens a port anew that was closed.
reopen(#serving{socket = Socket} = Serving) ->
    case inet:sockname(Socket) of
        {ok, _} -> recover(Serving#serving{listener = undefined});
        {error, _} -> exit({megaphone_listener, reopened})
    end.

%% --- the way out

%% Has the process of a listener close its port, which then is free when this returns. When ejabberd ends such a
%% process, its sockets close some time later, and whoever opens the port at once may find it in use.
-spec release(pid()) -> ok.
release(Pid) ->
    case is_serving(Pid) of
        true ->
            Ref = monitor(process, Pid),
            Pid ! {?MODULE, release, Ref, self()},
            receive
                {Ref, ok} -> ok;
                {'DOWN', Ref, process, Pid, _} -> ok
            after ?RELEASE_TIMEOUT -> ok
            end,
            _ = demonitor(Ref, [flush]),
            ok;
        false ->
            ok
    end.

%% It may run ejabberd's own accept loop, which takes no messages.
is_serving(Pid) ->
    case process_info(Pid, dictionary) of
        {dictionary, Dictionary} -> lists:keymember(?MODULE, 1, Dictionary);
        undefined -> false
    end.

close(#serving{socket = Socket, listener = Listener}) ->
    _ = Listener =:= undefined orelse megaphone_nif:close_listener(Listener),
    gen_tcp:close(Socket).

%% --- addresses

%% Where a listening socket listens, for the log.
-spec address(gen_tcp:socket()) -> iolist().
address(Socket) ->
    case inet:sockname(Socket) of
        {ok, Name} -> endpoint(Name);
        {error, Reason} -> atom_to_list(Reason)
    end.

%% An address as ejabberd_listener writes it.
-spec endpoint({inet:ip_address(), inet:port_number()} | inet:local_address()) -> iolist().
endpoint({local, Path}) -> ["unix:", Path];
endpoint({Ip, Port}) when tuple_size(Ip) =:= 8 -> [$[, inet:ntoa(Ip), "]:", integer_to_list(Port)];
endpoint({Ip, Port}) -> [inet:ntoa(Ip), $:, integer_to_list(Port)].
