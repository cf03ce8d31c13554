//! What the tests of the real binary share: its process, and MQTT packets as text.
#![allow(dead_code, reason = "each test uses its part")]
pub mod bytes;
pub mod fields;
pub mod packet;
pub mod router;
pub mod wire;
