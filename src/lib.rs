//! Corsac routes messages between WAMP and MQTT clients on shared topics and procedures.
//!
//! The floors, from the ground: [`model`] (nouns), [`wire`] (bytes to packets), [`gate`] / [`router`] / [`store`] (one
//! connection's protocol machine; one realm; durability), [`net`] (sockets), [`node`] (composition). None imports upward;
//! `tests/tidy.rs` holds it.
//!
//! `store` stands by itself so far: nothing is written to disk yet.
pub mod gate;
pub mod model;
pub mod net;
pub mod node;
pub mod router;
pub mod store;
pub mod wire;
