//! What a realm wants done outside of itself.
use std::sync::Arc;

use crate::model::publication::Publisher;
use crate::model::record::{Flags, Ticket};
use crate::model::{ConnectionId, Delivery, Publication};

/// One effect, in order.
#[derive(Debug)]
pub enum Effect {
    /// Hand this to the gate of the connection.
    Deliver(ConnectionId, Delivery),
    /// Give this its place in the history, then call `Router::handle_appended` or `Router::handle_append_refused`: in the order of
    /// tickets, and after this effect has been dropped.
    Append(Ticket, Draft),
    /// Nothing that this connection sent waits for its place in the history any more.
    Settled(ConnectionId),
}

/// A record before it has its place.
#[derive(Debug)]
pub struct Draft {
    /// What was published.
    pub publication: Arc<Publication>,
    /// Who published it.
    pub author: Option<Publisher>,
    /// What readers and a restart have to know of it.
    pub flags: Flags,
}
