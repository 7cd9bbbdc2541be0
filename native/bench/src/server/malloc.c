/* What native code in the node has from malloc. The VM's own allocators take their memory from mmap(2), but for
   what they begin with, so that growth here is that of native code, such as Megaphone's Rust. */
#include <erl_nif.h>
#include <malloc.h>

/* Bytes in use in all arenas, and in mappings of their own. */
static ERL_NIF_TERM malloc_bytes(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    struct mallinfo2 info = mallinfo2();
    (void)argc;
    (void)argv;
    return enif_make_uint64(env, info.uordblks + info.hblkhd);
}

static ErlNifFunc functions[] = {{"malloc_bytes", 0, malloc_bytes, 0}};

ERL_NIF_INIT(megaphone_bench_control, functions, NULL, NULL, NULL, NULL)
