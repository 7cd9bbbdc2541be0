%% Reads the file with the secret of links to connection managers. Only its owner may have any rights to it, and that is
%% who runs this node, or root: whoever else could read it could be any client.
-module(megaphone_secret).

-export([read/1]).

-include_lib("kernel/include/file.hrl").

%% Of the secret, which link proofs are made with, and of the file.
-define(LEAST_BYTES, 32).
-define(MOST_BYTES, 4096).

%% The secret, without the end of its line. The error says what to do.
-spec read(file:name_all()) -> {ok, binary()} | {error, unicode:chardata()}.
read(File) ->
    case open(File) of
        {ok, Device} ->
            try read_open(File, Device)
            after ok = file:close(Device)
            end;
        {error, _} = Error ->
            Error
    end.

%% A pipe would keep whoever opens it.
open(File) ->
    case file:read_file_info(File) of
        {ok, #file_info{type = regular}} -> opened(File, file:open(File, [read, raw, binary]));
        {ok, _} -> text("~ts is not a regular file: name one", [File]);
        {error, Reason} -> opened(File, {error, Reason})
    end.

opened(_File, {ok, Device}) -> {ok, Device};
opened(File, {error, Reason}) -> text("~ts can't be read: ~ts", [File, file:format_error(Reason)]).

%% Looks at what was opened, not at what has the name by then.
read_open(File, Device) ->
    {ok, #file_info{mode = Mode, uid = Uid}} = file:read_file_info(Device),
    case {Mode band 8#077, is_trusted(Uid)} of
        {0, true} ->
            content(File, file:read(Device, ?MOST_BYTES + 1));
        {0, false} ->
            text("~ts belongs to user ~w, who can read it: chown it to root or to the user of this node", [File, Uid]);
        {_, _} ->
            text("~ts has mode ~4.8.0b, so others than its owner can use it: chmod 600 ~ts, and replace what is in it if "
                 "somebody may have read it", [File, Mode band 8#777, File])
    end.

%% Without /proc nobody knows who we are.
is_trusted(0) -> true;
is_trusted(Uid) ->
    case file:read_file_info("/proc/self") of
        {ok, #file_info{uid = Ours}} -> Uid =:= Ours;
        {error, _} -> true
    end.

content(File, {ok, Bytes}) when byte_size(Bytes) > ?MOST_BYTES ->
    text("~ts has more than ~w bytes: is it the right file?", [File, ?MOST_BYTES]);
content(File, {ok, Bytes}) ->
    check_length(File, without_line_end(Bytes));
content(File, eof) ->
    check_length(File, <<>>);
content(File, {error, Reason}) ->
    opened(File, {error, Reason}).

without_line_end(Bytes) ->
    {match, [Secret]} = re:run(Bytes, "^(.*?)(?:\r?\n)?\\z", [dotall, {capture, [1], binary}]),
    Secret.

check_length(_File, Secret) when byte_size(Secret) >= ?LEAST_BYTES ->
    {ok, Secret};
check_length(File, Secret) ->
    text("~ts has ~w bytes, and a secret at least ~w: openssl rand -hex 32 > ~ts",
         [File, byte_size(Secret), ?LEAST_BYTES, File]).

text(Format, Arguments) -> {error, io_lib:format(Format, Arguments)}.
