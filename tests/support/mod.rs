//! The parts that the tests of the real binary share: its process, its directory, MQTT packets as text, clients of both protocols.
#![allow(dead_code, reason = "each test uses its part")]
pub mod bytes;
pub mod data;
pub mod fields;
pub mod gate;
pub mod mqtt;
pub mod packet;
pub mod router;
pub mod wamp;
pub mod wire;
