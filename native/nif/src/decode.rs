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

/// `infinity` or milliseconds.
pub(crate) fn timeout(value: Term<'_>) -> NifResult<Option<Duration>> {
    if value.is_atom() && value.decode::<Atom>()? == atoms::infinity() {
        return Ok(None);
    }
    millis(value).map(Some)
}

/// `inet:ip_address()`. Through `u32`: rustler would cut a larger number down to the size of a part.
pub(crate) fn ip_address(value: Term<'_>) -> NifResult<IpAddr> {
    fn parts<T: TryFrom<u32>, const N: usize>(terms: Vec<Term<'_>>) -> NifResult<[T; N]> {
        let part = |term: Term<'_>| T::try_from(term.decode()?).map_err(|_| rustler::Error::BadArg);
        let parts = terms.into_iter().map(part).collect::<NifResult<Vec<T>>>()?;
        parts.try_into().map_err(|_| rustler::Error::BadArg)
    }
    let terms = get_tuple(value)?;
    if terms.len() == 4 {
        return Ok(IpAddr::from(parts::<u8, 4>(terms)?));
    }
    Ok(IpAddr::from(parts::<u16, 8>(terms)?))
}
