%% A connection manager in front of this VM: listeners here whose connections are streams of its link, and a relay between
%% the two. pair(megaphone) of megaphone_ct_sockets gives pairs by streams as long as it is there.
-module(megaphone_ct_streams).

-export([start/2, stop/1, port/2]).

-type config() :: [{atom(), term()}].

-define(LOOPBACK, {127, 0, 0, 1}).

%% With listeners of these names as well.
-spec start(config(), [{Name :: string(), megaphone_starter:handler(), megaphone:options()}]) -> config().
start(Config, Others) ->
    Directory = filename:join(proplists:get_value(priv_dir, Config), "streams" ++ integer_to_list(erlang:unique_integer([positive]))),
    SecretFile = megaphone_ct_ecm:secret_file(Directory),
    {ok, Listener} = megaphone:start_listener(0, links, #{secret => {file, SecretFile}, socket => [{ip, ?LOOPBACK}]}),
    LinkPort = own_port(Listener),
    Relay = megaphone_ct_ecm:relay(LinkPort),
    {Ports, Named} = lists:unzip([named(Each) || Each <- [{"pairs", fun megaphone_ct_sockets:hand_over/1, #{}} | Others]]),
    Ecm = megaphone_ct_ecm:start(Directory, #{
        secret_file => SecretFile, ports => Ports, nodes => [{node(), megaphone_ct_ecm:relay_port(Relay)}]
    }),
    ok = megaphone_ct_sockets:await(fun() -> [true] =:= [Is || #{connected := Is} <- megaphone:links()] end),
    ok = megaphone_ct_sockets:by_streams(proplists:get_value("pairs", Ports)),
    [{relay, Relay}, {ecm, Ecm}, {ports, Ports}, {named, Named}, {listener, Listener}, {link_port, LinkPort} | Config].

%% The port is the manager's; the listener here has one that nobody uses.
named({Name, Handler, Options}) ->
    {ok, Listener} = megaphone:start_listener(0, Handler, Options#{
        link_name => list_to_binary(Name), delivery => binary, socket => [{ip, ?LOOPBACK}]}),
    {{Name, megaphone_ct_node:free_port()}, Listener}.

own_port(Listener) ->
    [{_, Port}] = [SockName || #{id := Id, sockname := SockName} <- megaphone:listeners(), Id =:= Listener],
    Port.

%% The manager's port for a listener.
-spec port(config(), Name :: string()) -> inet:port_number().
port(Config, Name) -> proplists:get_value(Name, proplists:get_value(ports, Config)).

-spec stop(config()) -> ok.
stop(Config) ->
    ok = megaphone_ct_sockets:by_sockets(),
    ok = megaphone_ct_ecm:kill(proplists:get_value(ecm, Config)),
    ok = megaphone_ct_ecm:stop_relay(proplists:get_value(relay, Config)),
    [_ = megaphone:stop_listener(Listener) || Listener <- [proplists:get_value(listener, Config) | proplists:get_value(named, Config)]],
    ok.
