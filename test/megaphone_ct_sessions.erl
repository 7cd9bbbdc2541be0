%% One ejabberd for a suite of XMPP sessions, with stock listeners or with Megaphone's, and clients of every kind.
-module(megaphone_ct_sessions).

-export([start/2, stop/1, ejabberd/1, is_megaphone/1, call/4, account/1, account/2, await_event/2]).
-export([kinds/0, client/2, client/3, url/2, listener/3, c2s_port/1]).
-export([session/2, session_info/2, native_transport/2, state/2, admin/3]).

-export_type([kind/0]).

%% A client program and its transport.
-type kind() :: slixmpp_tcp | strophe_websocket | strophe_bosh | stanza_websocket | stanza_bosh.

-type config() :: [{atom(), term()}].

%% Starts ejabberd and returns the configuration for the cases. ecm: with Megaphone's listeners, to which clients come
%% through a connection manager.
-spec start(stock | megaphone | ecm, config()) -> config().
start(Variant, Config) ->
    {Http, C2s} = case Variant of
        stock -> {ejabberd_http, ejabberd_c2s};
        _ -> {megaphone_http, megaphone_c2s}
    end,
    Directory = filename:join(proplists:get_value(priv_dir, Config), ["xmpp_", atom_to_list(Variant)]),
    Changes = maps:merge(changes(proplists:get_value(max_inactivity, Config, 3)), megaphone_ct_ecm:changes(Variant)),
    Ejabberd = megaphone_ct_node:start(Http, Directory, Changes),
    Await = megaphone_ct_events:start(Ejabberd),
    [{variant, Variant}, {ejabberd, Ejabberd}, {c2s_module, C2s}, {await, Await} | Config].

%% Times and sizes are small where a case reaches them.
changes(MaxInactivity) ->
    #{
        replace => [
            {"max_stanza_size: 262144", "max_stanza_size: 131072"},
            {"      /ws: ejabberd_http_ws\n",
             ["      /ws: ejabberd_http_ws\n",
              "      /api: mod_http_api\n",
              "      /captcha: ejabberd_captcha\n"]},
            {"    none: admin\n", "    none: admin\n    slow: slow\n"},
            {"\nshaper:\n", "\nshaper:\n  slow:\n    rate: 1000\n    burst_size: 1000\n"},
            {"\nacl:\n", "\nacl:\n  slow:\n    user_regexp: \"^slow\"\n"},
            {"  mod_bosh: {}\n", "  mod_bosh:\n    max_inactivity: " ++ integer_to_list(MaxInactivity) ++ "\n"},
            {"  mod_stream_mgmt: {}\n", "  mod_stream_mgmt:\n    resend_on_timeout: true\n"}
        ],
        options => ["trusted_proxies:\n  - 127.0.0.0/8\n", "max_fsm_queue: 1000\n",
                    "api_permissions:\n  anybody:\n    who: all\n    what: status\n"]
    }.

-spec stop(config()) -> ok.
stop(Config) -> megaphone_ct_node:stop(ejabberd(Config)).

-spec ejabberd(config()) -> megaphone_ct_node:ejabberd().
ejabberd(Config) -> proplists:get_value(ejabberd, Config).

-spec is_megaphone(config()) -> boolean().
is_megaphone(Config) -> proplists:get_value(variant, Config) =/= stock.

-spec call(config(), module(), atom(), [term()]) -> term().
call(Config, Module, Function, Arguments) ->
    megaphone_ct_node:call(ejabberd(Config), Module, Function, Arguments).

-spec account(config()) -> megaphone_ct_client:account().
account(Config) -> account(Config, "user").

-spec account(config(), string()) -> megaphone_ct_client:account().
account(Config, Name) -> megaphone_ct_node:account(ejabberd(Config), Name).

-spec await_event(config(), megaphone_ct_events:event()) -> term().
await_event(Config, Event) -> (proplists:get_value(await, Config))(Event).

%% --- clients

-spec kinds() -> [kind()].
kinds() -> [slixmpp_tcp, strophe_websocket, strophe_bosh, stanza_websocket, stanza_bosh].

-spec client(config(), kind()) -> megaphone_ct_client:client().
client(Config, Kind) -> client(Config, Kind, account(Config)).

-spec client(config(), kind(), megaphone_ct_client:account()) -> megaphone_ct_client:client().
client(Config, slixmpp_tcp, Account) -> megaphone_ct_client:slixmpp(c2s_port(Config), Account);
client(Config, strophe_websocket, Account) -> megaphone_ct_client:strophe(url(Config, websocket), Account);
client(Config, strophe_bosh, Account) -> megaphone_ct_client:strophe(url(Config, bosh), Account);
client(Config, stanza_websocket, Account) -> megaphone_ct_client:stanza(url(Config, websocket), Account);
client(Config, stanza_bosh, Account) -> megaphone_ct_client:stanza(url(Config, bosh), Account).

-spec url(config(), websocket | bosh) -> string().
url(Config, websocket) -> megaphone_ct_node:url(ejabberd(Config), "ws", "/ws");
url(Config, bosh) -> megaphone_ct_node:url(ejabberd(Config), "http", "/bosh").

-spec c2s_port(config()) -> inet:port_number().
c2s_port(Config) -> megaphone_ct_node:port(ejabberd(Config), c2s).

%% One more XMPP listener of the variant's, for megaphone_ct_node:reload/2.
-spec listener(config(), inet:port_number(), [iodata()]) -> iodata().
listener(Config, Port, Lines) ->
    ["  -\n    port: ", integer_to_list(Port), "\n    ip: \"127.0.0.1\"\n",
     "    module: ", atom_to_list(proplists:get_value(c2s_module, Config)), "\n",
     [["    ", Line, "\n"] || Line <- Lines]].

%% --- ejabberd's view of a session

%% Its c2s process.
-spec session(config(), FullJid :: string()) -> pid() | none.
session(Config, Jid) ->
    {User, Server, Resource} = split(Jid),
    call(Config, ejabberd_sm, get_session_pid, [User, Server, Resource]).

%% What ejabberdctl says about it: transport, address and port of the client.
-spec session_info(config(), FullJid :: string()) -> {Transport :: string(), Ip :: string(), inet:port_number()}.
session_info(Config, Jid) ->
    Infos = admin(Config, connected_users_info, []),
    Key = unicode:characters_to_binary(Jid),
    {Key, Transport, Ip, Port, _Priority, _Node, _Uptime, _Status, _Resource, _Text} = lists:keyfind(Key, 1, Infos),
    {Transport, Ip, Port}.

%% How the library carries it; none: it is on a socket of stock's.
-spec native_transport(config(), FullJid :: string()) -> tcp | websocket | http_bind | none.
native_transport(Config, Jid) ->
    #{socket := State} = state(Config, Jid),
    case {element(2, State), element(3, State)} of
        {megaphone_xmpp_socket, {Transport, _} = Socket} ->
            {ok, #{transport := _}} = call(Config, megaphone, info, [Socket]),
            Transport;
        {_Stock, _} -> none
    end.

%% The state of its c2s process.
-spec state(config(), FullJid :: string()) -> map().
state(Config, Jid) -> call(Config, sys, get_state, [session(Config, Jid)]).

%% A command of mod_admin_extra. A string argument that is a full JID becomes its three parts.
-spec admin(config(), atom(), [string()]) -> term().
admin(Config, Command, []) ->
    call(Config, mod_admin_extra, Command, []);
admin(Config, Command, [Jid | Arguments]) ->
    {User, Server, Resource} = split(Jid),
    call(Config, mod_admin_extra, Command, [User, Server, Resource | lists:map(fun list_to_binary/1, Arguments)]).

split(Jid) ->
    [Bare, Resource] = string:split(Jid, "/"),
    [User, Server] = string:split(Bare, "@"),
    {list_to_binary(User), list_to_binary(Server), list_to_binary(Resource)}.
