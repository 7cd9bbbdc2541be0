%% Finds the file of the native library. It knows nothing of what the library does.
%%
%% A mapped file that is overwritten ends the VM. So what is loaded has the hash of its content in its name, NAME-HASH.so,
%% and a file NAME.current says which is the current one: who installs another writes another file (scripts/build-nif).
%% Without NAME.current, NAME.so is loaded, which must be replaced by renaming.
-module(megaphone_library).

-export([current/0, load_error/2]).

%% What to load, without the .so. Its name is the value of nif_library in the application's environment: a path, or a
%% name in priv.
-spec current() -> {ok, file:filename()} | {error, megaphone_nif:load_error()}.
current() ->
    Named = filename:join(priv_dir(), application:get_env(megaphone, nif_library, "megaphone_nif")),
    Pointer = Named ++ ".current",
    case file:read_file(Pointer) of
        {ok, Content} -> pointed_to(Pointer, string:trim(binary_to_list(Content)));
        {error, enoent} -> {ok, Named};
        {error, Reason} -> {error, load_error(Pointer, file:format_error(Reason))}
    end.

%% A name in the same directory.
pointed_to(Pointer, File) ->
    case filename:extension(File) =:= ".so" andalso filename:basename(File) =:= File of
        true -> {ok, filename:join(filename:dirname(Pointer), filename:rootname(File))};
        false -> {error, load_error(Pointer, "it does not name a library")}
    end.

-spec load_error(file:filename(), string()) -> megaphone_nif:load_error().
load_error(File, Why) -> {cannot_load, File, Why, fix(File)}.

%% rebar3 makes priv a link, relative to its own directory.
fix(File) ->
    Priv = filename:dirname(File),
    case {file:read_link(Priv), filelib:is_dir(Priv)} of
        {{ok, Target}, false} ->
            "install it with scripts/install (" ++ Priv ++ " is a link to " ++ Target ++ ", which is not there)";
        _ ->
            "run scripts/build-nif" ++ for_whom(filename:basename(File))
    end.

for_whom("megaphone_nif_fault" ++ _) -> " --fault-injection";
for_whom(_) -> ", for this machine and this version of Erlang".

%% code:priv_dir/1 knows the application by its directory's name, and a checkout may have another.
priv_dir() ->
    case code:priv_dir(megaphone) of
        {error, bad_name} -> filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv");
        Directory -> Directory
    end.
