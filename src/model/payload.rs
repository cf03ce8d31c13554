//! The payload of a message: the bytes that arrived and their encoding, converted only at the receiver's gate.
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::properties::Properties;

/// A payload, with the properties of the message that carried it, as arguments in an encoding (`wire::payload::to_args`): handed to
/// floors that may not know the way themselves.
pub type ToArgs = fn(&Payload, Option<&Properties>, Encoding) -> Payload;

/// A WAMP serialization.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Encoding {
    /// `wamp.2.json`
    Json,
    /// `wamp.2.msgpack`
    MsgPack,
    /// `wamp.2.cbor`
    Cbor,
}

/// The body of a publication, call, result or error, as it arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// An MQTT application message: any bytes.
    Bytes(Bytes),
    /// WAMP arguments, each still encoded: `args` one list, `kwargs` one dictionary. Empty bytes stand for an absent one.
    Args {
        /// The encoding of both parts.
        encoding: Encoding,
        /// One encoded list, or no bytes.
        args: Bytes,
        /// One encoded dictionary, or no bytes.
        kwargs: Bytes,
    },
    /// An answer of the router's own, which has no place in the history: one list of dictionaries, each with a payload as it
    /// arrived.
    List(Arc<[Part]>),
}

/// A payload with what the router says about it: as a dictionary, `head` and, in `args` and `kwargs`, the payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The entries that the router adds.
    pub head: Map<String, Value>,
    /// The payload.
    pub payload: Payload,
    /// The properties that it came with.
    pub properties: Option<Arc<Properties>>,
}

impl Payload {
    /// A payload without content.
    pub fn empty() -> Self {
        Payload::Bytes(Bytes::new())
    }

    /// One argument that is text.
    pub fn of_text(text: &str) -> Self {
        Payload::of_values(&[text.into()])
    }

    /// These arguments.
    pub fn of_values(values: &[Value]) -> Self {
        Payload::Args { encoding: Encoding::Json, args: Value::from(values).to_string().into(), kwargs: Bytes::new() }
    }

    /// Bytes held, for the accounting of queues.
    pub fn len(&self) -> usize {
        match self {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Args { args, kwargs, .. } => args.len() + kwargs.len(),
            Payload::List(parts) => parts.iter().map(|part| part.payload.len()).sum(),
        }
    }

    /// True for zero bytes, or neither args nor kwargs, which clears a retained message (MAPPING: an empty value). An encoded
    /// empty list is no argument too.
    pub fn is_empty(&self) -> bool {
        match self {
            Payload::Bytes(bytes) => bytes.is_empty(),
            Payload::Args { args, kwargs, .. } => is_empty_container(args) && is_empty_container(kwargs),
            Payload::List(_) => false,
        }
    }
}

/// `[]` / `{}` in JSON (without inner space), a zero-length fixarray / fixmap in MsgPack and CBOR, or nothing.
fn is_empty_container(encoded: &[u8]) -> bool {
    matches!(encoded, [] | b"[]" | b"{}" | [0x90] | [0x80] | [0xA0])
}

/// A payload as an MQTT application message, and what MQTT 5 receivers are told about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body {
    /// The message.
    pub bytes: Bytes,
    /// Content type, where the conversion decides it.
    pub content_type: Option<&'static str>,
    /// Payload format indicator 1: UTF-8 text.
    pub is_utf8: bool,
}
