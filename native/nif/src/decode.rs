//! Values of options and settings, out of terms.

use crate::atoms;
use megaphone_core::{Conn, Error};
use rustler::types::atom::Atom;
use rustler::types::tuple::get_tuple;
use rustler::{Decoder, Encoder, NifResult, Term};
use std::net::IpAddr;
use std::time::Duration;

/// A number from outside may name nothing.
pub(crate) fn conn(id: u64) -> Result<Conn, Error> {
    Conn::from_u64(id).ok_or(Error::Closed)
}

/// An entry of a map of options. None when it isn't there.
pub(crate) fn entry<'a, T: Decoder<'a>>(map: Term<'a>, key: impl Encoder) -> NifResult<Option<T>> {
    map.map_get(key).ok().map(|value| value.decode()).transpose()
}

pub(crate) fn millis(value: Term<'_>) -> NifResult<Duration> {
    Ok(Duration::from_millis(value.decode()?))
}

/// At least 1.
pub(crate) fn positive(value: Term<'_>) -> NifResult<usize> {
    Some(value.decode()?).filter(|number| *number > 0).ok_or(rustler::Error::BadArg)
}

/// A number that the type holds. By itself rustler cuts a larger one down to the size of `u8`, `i16` and their like.
pub(crate) fn integer<T: TryFrom<i64>>(value: Term<'_>) -> NifResult<T> {
    T::try_from(value.decode()?).map_err(|_| rustler::Error::BadArg)
}

/// `infinity` or milliseconds.
pub(crate) fn timeout(value: Term<'_>) -> NifResult<Option<Duration>> {
    if value.is_atom() && value.decode::<Atom>()? == atoms::infinity() {
        return Ok(None);
    }
    millis(value).map(Some)
}

/// `inet:ip_address()`.
pub(crate) fn ip_address(value: Term<'_>) -> NifResult<IpAddr> {
    fn parts<T: TryFrom<i64>, const N: usize>(terms: Vec<Term<'_>>) -> NifResult<[T; N]> {
        let parts = terms.into_iter().map(integer).collect::<NifResult<Vec<T>>>()?;
        parts.try_into().map_err(|_| rustler::Error::BadArg)
    }
    let terms = get_tuple(value)?;
    if terms.len() == 4 {
        return Ok(IpAddr::from(parts::<u8, 4>(terms)?));
    }
    Ok(IpAddr::from(parts::<u16, 8>(terms)?))
}
