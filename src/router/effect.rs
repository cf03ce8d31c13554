//! What a realm wants done outside of itself.
use crate::model::{ConnectionId, Delivery};

/// One effect, in order.
#[derive(Debug)]
pub enum Effect {
    /// Hand this to the gate of the connection.
    Deliver(ConnectionId, Delivery),
}
