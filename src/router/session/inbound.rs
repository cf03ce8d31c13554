//! What a session has on its way into the history, and what waits behind it.
use std::collections::VecDeque;

use crate::model::command::SubscribeEntry;
use crate::model::record::Ticket;
use crate::model::{Command, ConnectionId, RequestId};

/// What a session has on its way into the history, and what waits behind it.
#[derive(Debug, Default)]
pub struct Order {
    /// Tickets that have not come back.
    pub tickets: usize,
    /// The last of them.
    pub last: Ticket,
    /// A SUBSCRIBE that waits for the history, and holds up everything behind it.
    pub probing: Option<Box<Probing>>,
    /// Changes of state that it asked for and that have not come back. They hold up nothing but the reading of its socket.
    pub changes: usize,
    /// Those among them whose outcome decides where the next publication stands: conditions.
    pub undecided: usize,
    /// Commands that wait for all of them, with the connection that sent them.
    pub deferred: VecDeque<(ConnectionId, Command)>,
    /// Tickets of deliveries that have not come back.
    pub said: usize,
    /// The last of them.
    pub last_said: Ticket,
}

impl Order {
    /// True while the record of something is on its way that is to be said then.
    pub fn is_saying(&self) -> bool {
        self.said > 0
    }

    /// True while nothing that the session sent is on its way.
    pub fn is_settled(&self) -> bool {
        self.tickets == 0 && self.changes == 0
    }
}

/// A SUBSCRIBE that waits for the history.
#[derive(Debug)]
pub struct Probing {
    pub connection: ConnectionId,
    pub request: RequestId,
    pub entries: Vec<SubscribeEntry>,
}
