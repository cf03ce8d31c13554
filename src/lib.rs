//! Corsac routes messages between WAMP and MQTT clients on shared topics and procedures.
//!
//! The floors, from the ground: [`model`] (nouns), [`wire`] (bytes to packets), [`gate`] / [`router`] / [`cluster`] / [`store`]
//! (one connection's protocol machine; one realm; who decides order; durability), [`net`] (sockets), [`node`] (composition).
//! None imports upward; `tests/tidy.rs` holds it.
//!
//! `cluster` and `store` stand by themselves so far: no command reaches them yet, and nothing is written to disk.
pub mod cluster;
pub mod gate;
pub mod model;
pub mod net;
pub mod node;
pub mod router;
pub mod store;
pub mod wire;
