//! Corsac routes messages between WAMP and MQTT clients on shared topics and procedures.
//!
//! The floors, from the ground: [`model`] (nouns), [`wire`] (bytes to packets), [`gate`] (one connection's protocol machine),
//! [`router`] (one realm), [`cluster`] (the order of records), [`store`] (durability), [`net`] (sockets), [`node`] (composition).
//! None imports upward; `tests/tidy.rs` holds it.
//!
//! One process uses `solo` alone of `cluster`. Entry, ndb and sync of several processes are tested in simulation and not wired.
pub mod cluster;
pub mod gate;
pub mod model;
pub mod net;
pub mod node;
pub mod router;
pub mod store;
pub mod wire;
