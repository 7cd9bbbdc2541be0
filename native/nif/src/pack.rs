//! States of hibernating processes, packed. Knows bytes only: the external term format is Erlang's to make and to read.

use crate::atoms;
use crate::terms::binary;
use megaphone_core::pack::Dictionaries;
use rustler::{Binary, Encoder, Env, NifResult, Term};

/// Those of the VM. A packed state is in the heap of some process, so they are never freed.
static DICTIONARIES: Dictionaries = Dictionaries::new();

/// The packed bytes, or `none`: it doesn't pay.
#[rustler::nif]
fn pack<'a>(env: Env<'a>, kind: u8, state: Binary<'a>) -> Term<'a> {
    match DICTIONARIES.pack(kind, &state) {
        Some(packed) => binary(env, &packed),
        None => atoms::none().encode(env),
    }
}

#[rustler::nif]
fn unpack<'a>(env: Env<'a>, packed: Binary<'a>) -> NifResult<Term<'a>> {
    let state = DICTIONARIES.unpack(&packed).map_err(|_| rustler::Error::BadArg)?;
    Ok(binary(env, &state))
}
