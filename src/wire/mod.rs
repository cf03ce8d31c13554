//! Bytes to packets and back, without state: what each protocol looks like on the wire.
pub mod mqtt;
pub mod payload;
pub mod wamp;
