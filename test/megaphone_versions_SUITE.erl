%% What is said of versions of ejabberd that are not here.
-module(megaphone_versions_SUITE).

-export([all/0]).
-export([versions_of_distributions_are_read/1, socket_has_the_last_word_on_the_time_out/1,
         options_of_newer_versions_are_known/1, options_that_change_the_stream_are_not/1]).

-include_lib("stdlib/include/assert.hrl").

all() ->
    [versions_of_distributions_are_read, socket_has_the_last_word_on_the_time_out, options_of_newer_versions_are_known,
     options_that_change_the_stream_are_not].

versions_of_distributions_are_read(_) ->
    [?assertEqual(Expected, megaphone_ejabberd_versions:parse(Text))
     || {Text, Expected} <- [{"23.01-1", {ok, {23, 1}}}, {"24.12-3+deb13u2", {ok, {24, 12}}}, {"26.07", {ok, {26, 7}}},
                             {"26.07.3", {ok, {26, 7}}}, {"", error}, {"git", error}]].

%% From 25.10 on ejabberd sets it there.
socket_has_the_last_word_on_the_time_out(_) ->
    [begin
         {ok, Socket} = gen_tcp:listen(0, SocketOptions),
         ?assertEqual(Expected, megaphone_ejabberd_versions:send_timeout(Socket, Options)),
         ok = gen_tcp:close(Socket)
     end
     || {SocketOptions, Options, Expected} <-
            [{[], [], infinity}, {[], [{send_timeout, 5000}], 5000}, {[{send_timeout, 15000}], [], 15000},
             {[{inet_backend, socket}, {send_timeout, 15000}], [], 15000}]].

options_of_newer_versions_are_known(_) ->
    C2s = [{allow_unencrypted_sasl2, true}, {pre_auth_max_stanza_size, 8192}, {pre_auth_max_stanza_elements, 32},
           {unix_socket, #{}}, {access, all}, {max_fsm_queue, 10}, {hibernate_after, 1}],
    ?assertEqual([], megaphone_ejabberd_versions:unknown_options(megaphone_c2s, C2s)),
    Http = [{allow_unencrypted_sasl2, true}, {unix_socket, #{}}, {request_handlers, []}, {max_head, 100}],
    ?assertEqual([], megaphone_ejabberd_versions:unknown_options(megaphone_http, Http)).

options_that_change_the_stream_are_not(_) ->
    ?assertEqual([max_stanza_elements, of_the_future],
                 lists:sort(megaphone_ejabberd_versions:unknown_options(
                     megaphone_c2s, [{of_the_future, 1}, {max_stanza_elements, 10}, {access, all}]))),
    ?assertEqual([of_the_future],
                 megaphone_ejabberd_versions:unknown_options(megaphone_http, [{of_the_future, 1}, {tag, <<>>}])).
