%% Which of inet's options a Megaphone socket has, and what they are called in the library.
-module(megaphone_socket_options).

-export([settings/1, get/2]).

%% Checks a list of options as inet:setopts/2 takes it and gives back what the library has to be told.
-spec settings([term()]) -> {ok, [{atom(), term()}]} | error.
settings(Options) -> settings(Options, []).

settings([], Settings) ->
    {ok, lists:append(lists:reverse(Settings))};
settings([Option | Options], Settings) ->
    case setting(Option) of
        error -> error;
        Setting -> settings(Options, [Setting | Settings])
    end.

setting(binary) -> [{mode, binary}];
setting(list) -> [{mode, list}];
setting({packet, 0}) -> [{packet, raw}];
%% inet's user-level buffer bounds a line, and inet takes 0 for 1. There is no such buffer here.
setting({buffer, Size}) when is_integer(Size), Size >= 0 -> [{line_length, max(Size, 1)}];
%% The only thing that there is to deliver to, and no header but an empty one.
setting({deliver, term}) -> [];
setting({header, 0}) -> [];
%% Every send is written at once, as far as the kernel takes it.
setting({delay_send, Value}) when is_boolean(Value) -> [];
setting({Name, Value} = Setting) ->
    case is_valid(Name, Value) of
        true -> [Setting];
        false -> error
    end;
setting(_) -> error.

is_valid(active, Value) ->
    is_boolean(Value) orelse Value =:= once
        orelse (is_integer(Value) andalso Value >= -32768 andalso Value =< 32767);
is_valid(packet, Value) -> lists:member(Value, [raw, line, http, http_bin, httph, httph_bin]);
is_valid(mode, Value) -> Value =:= binary orelse Value =:= list;
is_valid(send_timeout, infinity) -> true;
is_valid(tos, Value) -> is_integer(Value) andalso Value >= 0 andalso Value =< 255;
is_valid(linger, {IsOn, Seconds}) -> is_boolean(IsOn) andalso is_integer(Seconds) andalso Seconds >= 0;
is_valid(Name, Value) ->
    case type(Name) of
        boolean -> is_boolean(Value);
        integer -> is_integer(Value) andalso Value >= 0;
        other -> false
    end.

type(Name) ->
    IsBoolean = lists:member(Name, [send_timeout_close, exit_on_close, show_econnreset, nodelay, keepalive, reuseaddr]),
    IsInteger = lists:member(Name, [packet_size, line_length, send_timeout, high_watermark, low_watermark,
                                    recv_high_watermark, recbuf, sndbuf]),
    if
        IsBoolean -> boolean;
        IsInteger -> integer;
        true -> other
    end.

%% The value of one option as inet:getopts/2 names it.
-spec get(megaphone:conn(), term()) -> {ok, term()} | {error, einval | closed}.
get(Conn, buffer) -> megaphone_nif:getopt(Conn, line_length);
get(Conn, deliver) -> constant(Conn, term);
get(Conn, header) -> constant(Conn, 0);
get(Conn, delay_send) -> constant(Conn, false);
get(Conn, Name) when is_atom(Name) -> megaphone_nif:getopt(Conn, Name);
get(_Conn, _Name) -> {error, einval}.

constant(Conn, Value) ->
    case megaphone_nif:owner(Conn) of
        {ok, _} -> {ok, Value};
        {error, _} = Error -> Error
    end.
