//! A request head as its fields, for those who answer a request themselves.

use std::mem::MaybeUninit;

/// More fields than this make a head one for the handler.
const MAX_FIELDS: usize = 64;

/// A whole request head.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    /// The method, as sent.
    pub method: &'a [u8],
    /// The request target, as sent.
    pub target: &'a [u8],
    /// HTTP/1.1 and not HTTP/1.0. What came as a higher minor version is 1.1 once
    /// [`Requests`](super::Requests) says that it is ready.
    pub is_http_1_1: bool,
    /// Names and values, in their order, without white space around them.
    pub fields: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> RequestHead<'a> {
    /// Reads a head that [`Requests`](super::Requests) has found to be whole and good. `None` for one with more than
    /// 64 fields.
    pub fn parse(head: &'a [u8]) -> Option<Self> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        request.parse_with_uninit_headers(head, &mut fields).ok()?;
        Some(Self {
            method: request.method?.as_bytes(),
            target: request.path?.as_bytes(),
            is_http_1_1: request.version == Some(1),
            fields: request.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect(),
        })
    }

    /// The values of the fields of that name, in any case.
    pub fn values(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let matching =
            self.fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
        matching.map(|(_, value)| value.trim_ascii())
    }

    /// The value of the last field of that name, in any case.
    ///
    /// For X-Forwarded-For this is what `ejabberd_http` 23.01 goes by: it puts each field that `decode_packet`
    /// finds in front of a list and looks for the first one of the name there. Earlier lines of that name count
    /// for nothing, which RFC 9110, 5.3, would join with commas.
    pub fn last(&self, name: &'static str) -> Option<&'a [u8]> {
        self.values(name).last()
    }

    /// Whether a field that holds a list, as Connection does, has this word, in any case.
    pub fn has_word(&self, name: &'static str, word: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    }
}
