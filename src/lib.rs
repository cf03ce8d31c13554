//! Corsac routes messages between WAMP and MQTT clients on shared topics and procedures.
//!
//! The floors, from the ground: [`model`] (nouns), `wire` (bytes to packets), `gate` / `router` (one connection's
//! protocol machine; one realm), `net` (sockets), `node` (composition). None imports upward; `tests/tidy.rs` holds it.
pub mod model;
pub mod router;
pub mod wire;
pub mod node;
pub mod wire;
