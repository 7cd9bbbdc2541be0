%% What Erlang nodes of a test ask instead of an epmd, which would be left behind: the port of a node is the number in its
%% name, n15000@127.0.0.1.
-module(megaphone_ct_epmd).

-export([arguments/0]).
%% Called by the distribution (erl_epmd).
-export([start_link/0, register_node/2, register_node/3, listen_port_please/2, address_please/3, port_please/2,
         port_please/3, names/1]).

%% Of erl, for a node of its own name that others here can connect to.
-spec arguments() -> [string()].
arguments() ->
    Name = "n" ++ integer_to_list(megaphone_ct_node:free_port()) ++ "@127.0.0.1",
    ["-name", Name, "-setcookie", "megaphone", "-start_epmd", "false", "-epmd_module", ?MODULE_STRING,
     "-kernel", "inet_dist_use_interface", "{127,0,0,1}"].

-spec start_link() -> ignore.
start_link() -> ignore.

-spec register_node(term(), inet:port_number()) -> {ok, 1..3}.
register_node(_Name, _Port) -> {ok, 1}.

-spec register_node(term(), inet:port_number(), atom()) -> {ok, 1..3}.
register_node(_Name, _Port, _Family) -> {ok, 1}.

-spec listen_port_please(atom() | string(), term()) -> {ok, inet:port_number()}.
listen_port_please(Name, _Host) -> {ok, number(Name)}.

-spec address_please(atom() | string(), term(), atom()) -> {ok, inet:ip_address(), inet:port_number(), 6}.
address_please(Name, _Host, _Family) -> {ok, {127, 0, 0, 1}, number(Name), 6}.

-spec port_please(atom() | string(), term()) -> {port, inet:port_number(), 6}.
port_please(Name, _Host) -> {port, number(Name), 6}.

-spec port_please(atom() | string(), term(), timeout()) -> {port, inet:port_number(), 6}.
port_please(Name, Host, _Timeout) -> port_please(Name, Host).

-spec names(term()) -> {error, address}.
names(_Host) -> {error, address}.

number(Name) when is_atom(Name) -> number(atom_to_list(Name));
number([$n | Number]) -> list_to_integer(Number).
