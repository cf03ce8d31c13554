//! Sockets: listeners, connections and their outboxes, WebSocket. Knows gates; realms only as [`Realms`].
pub mod clock;
pub mod connection;
pub mod entrance;
pub mod frames;
pub mod host;
pub mod http;
pub mod journal;
pub mod listener;
pub mod origin;
pub mod outbox;
pub mod refused;
pub mod trace;
pub mod traffic;
pub mod transport;
pub mod websocket;

use std::sync::Arc;

use crate::model::{Command, ConnectionId, Reason};
use outbox::Outbox;

/// The realms of the floor above. (A trait because this floor may not see that one.)
pub trait Realms: Send + Sync + 'static {
    /// Joins a connection to the realm of this name.
    fn join(&self, realm: &str, connection: ConnectionId, outbox: Arc<Outbox>) -> Result<Arc<dyn Realm>, Reason>;
}

/// One realm, as a connection sees it.
pub trait Realm: Send + Sync {
    /// Takes an input of a connection; what it leads to arrives in outboxes.
    fn handle(&self, connection: ConnectionId, input: Input);
}

/// Something that a connection tells its realm.
#[derive(Debug)]
pub enum Input {
    /// Everything of one read, in order.
    Commands(Vec<Command>),
    /// `Delivery::Paused` has come out of the outbox.
    Drained,
    /// The connection takes nothing more.
    Left,
}
