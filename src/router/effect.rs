//! What a realm wants done outside of itself.
use std::sync::Arc;

use crate::model::publication::Publisher;
use crate::model::record::{Flags, Origin, Ticket};
use crate::model::{ConnectionId, Delivery, Item, Publication};

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

impl Draft {
    /// As a record of the realm called `realm`; its time is set where it gets its place.
    pub fn into_item(self, realm: Arc<str>) -> Item {
        let Draft { publication, author, flags } = self;
        let origin = author.map(|Publisher { session, principal }| Origin {
            session,
            authid: principal.authid.clone(),
            authrole: principal.authrole.clone(),
        });
        let Publication { topic, payload, qos, expires_at_ms, properties, .. } = &*publication;
        Item {
            origin,
            qos: *qos,
            flags,
            expires_at_ms: *expires_at_ms,
            properties: properties.clone(),
            ..Item::publication(realm, 0, topic.clone(), payload.clone())
        }
    }
}
