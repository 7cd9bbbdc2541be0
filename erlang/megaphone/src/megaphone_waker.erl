%% Sends what the library's threads have to tell processes. What a thread that is no scheduler sends costs the VM much
%% more than what a process sends, since the memory of such messages is freed by a thread of its own. So the
%% library's threads write a byte into a pipe, which is a port here, and this process has the messages sent.
%%
%% It runs at high priority and does nothing else: everybody's requests and stanzas wait for it.
-module(megaphone_waker).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include_lib("kernel/include/logger.hrl").

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec init([]) -> {ok, port()} | {stop, term()}.
init([]) ->
    _ = process_flag(priority, high),
    case megaphone_nif:waker() of
        {ok, Fd} ->
            Port = open_port({fd, Fd, Fd}, [in, binary, eof]),
            %% What has gathered since the last of its kind ended: its byte may have been read.
            ok = wake(),
            {ok, Port};
        {error, Reason} ->
            {stop, {pipe, Reason}}
    end.

-spec handle_call(term(), gen_server:from(), port()) -> {reply, {error, unknown_call}, port()}.
handle_call(Call, _From, Port) ->
    ?LOG_WARNING("megaphone_waker got an unexpected call: ~tp", [Call]),
    {reply, {error, unknown_call}, Port}.

-spec handle_cast(term(), port()) -> {noreply, port()}.
handle_cast(Message, Port) ->
    ?LOG_WARNING("megaphone_waker got an unexpected message: ~tp", [Message]),
    {noreply, Port}.

-spec handle_info(term(), port()) -> {noreply, port()}.
handle_info({Port, {data, _}}, Port) ->
    ok = wake(),
    {noreply, Port};
handle_info(Message, Port) ->
    ?LOG_WARNING("megaphone_waker got an unexpected message: ~tp", [Message]),
    {noreply, Port}.

wake() ->
    case megaphone_nif:wake() of
        more -> wake();
        ok -> ok
    end.
