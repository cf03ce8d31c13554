//! WAMP v2 on the wire: messages in JSON, MsgPack and CBOR, RawSocket frames, subprotocols and URIs of reasons.
//!
//! [`decode`] reads a message in one pass and leaves its payload as slices of the input; [`encode`] writes one. All three
//! encodings are read and written as one stream of tokens, so that a message is described once.
pub mod batch;
pub(super) mod cbor;
mod decode;
mod dict;
mod encode;
mod fault;
pub(super) mod json;
mod message;
pub(super) mod msgpack;
pub mod options;
mod publish_call;
pub mod rawsocket;
pub mod reason;
mod subprotocol;
pub(super) mod token;
pub mod value;

pub use decode::{decode, message_code};
pub use encode::{encode, encode_event, encode_invocation, encode_published, encode_result};
pub use fault::{DecodeError, ErrorKind};
pub use message::{Message, RequestKind, code};
pub use publish_call::{PublishCall, publish_call};
pub use subprotocol::Subprotocol;

#[cfg(test)]
mod tests;
