//! The bytes of the router's own records and pieces of state: records as JSON, pieces as MsgPack.
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes that cannot be read: a later version wrote them, or they are damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable;

/// The body of a record.
pub fn encode_record(change: &impl Serialize) -> Bytes {
    // Numbers, texts and lists of them always have a form.
    serde_json::to_vec(change).map(Bytes::from).unwrap_or_default()
}

/// The content of a record's body; `None` where a later version wrote one that this version does not know.
pub fn decode_record<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// The head of a piece.
pub fn encode(state: &impl Serialize) -> Bytes {
    // Numbers, texts and lists of them always have a form.
    rmp_serde::to_vec_named(state).map(Bytes::from).unwrap_or_default()
}

/// The content of a piece's head; `None` where a later version wrote one that this version does not know.
pub fn decode<'a, T: Deserialize<'a>>(head: &'a [u8]) -> Option<T> {
    rmp_serde::from_slice(head).ok()
}
