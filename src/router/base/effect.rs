//! The effects that a realm wants outside of itself.
use std::sync::Arc;

use bytes::Bytes;

use crate::model::publication::Publisher;
use crate::model::query::{Query, ReadTicket};
use crate::model::record::{DedupKey, Flags, Kind, Origin, Ticket};
use crate::model::{ConnectionId, Delivery, Item, Payload, Publication};

/// One effect, in order; small, as every one is moved several times.
#[derive(Debug)]
pub enum Effect {
    /// Hand this to the gate of the connection.
    Deliver(ConnectionId, Delivery),
    /// Give this its place in the history, then call `Router::handle_appended` or `Router::handle_append_refused`: in the order of
    /// tickets, and after this effect has been dropped.
    Append(Ticket, Draft),
    /// Read this page of the realm's history (the query leaves the realm to whoever reads), then call `Router::handle_history`:
    /// without holding up anything else, in any order.
    Read(ReadTicket, Box<Query>, ReadForm),
    /// Nothing that this connection sent waits for its place in the history any more.
    Settled(ConnectionId),
}

/// In which form a page is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadForm {
    /// As it is stored.
    Stored,
    /// With every payload converted to arguments in JSON; what came from MQTT has properties then, if only empty ones.
    Json,
}

/// A record before it has its place.
#[derive(Debug)]
pub struct Draft {
    /// Its content.
    pub body: DraftBody,
    /// The session and identity that caused it.
    pub author: Option<Publisher>,
    /// Facts that readers and a restart have to know of it.
    pub flags: Flags,
    /// The key by which a repetition is recognized.
    pub dedup: Option<DedupKey>,
}

/// The content of a record.
#[derive(Debug)]
pub enum DraftBody {
    /// A publication, or an item of a queue.
    Publication(Kind, Arc<Publication>),
    /// A change of state, encoded by the part of the router that applies it.
    Change(Kind, Bytes),
    /// A record as it is, but for its realm and time.
    Item(Box<Item>),
}

impl Draft {
    /// A change of state, with no flags and nothing to recognize it by.
    pub fn change(kind: Kind, body: Bytes, author: Option<Publisher>) -> Self {
        Draft { body: DraftBody::Change(kind, body), author, flags: Flags::default(), dedup: None }
    }

    /// A publication, or an item of a queue (`kind`), with no flags and nothing to recognize it by.
    pub fn publication(kind: Kind, publication: Arc<Publication>, author: Option<Publisher>) -> Self {
        Draft { body: DraftBody::Publication(kind, publication), author, flags: Flags::default(), dedup: None }
    }

    /// As a record of the realm called `realm`; its time is set where it gets its place.
    pub fn into_item(self, realm: Arc<str>) -> Item {
        let item = match &self.body {
            DraftBody::Item(item) => return Item { realm, ..(**item).clone() },
            DraftBody::Change(kind, body) => Item::of_kind(*kind, realm, 0, Payload::Bytes(body.clone())),
            DraftBody::Publication(kind, publication) => {
                let Publication { topic, payload, qos, expires_at_ms, properties, readers, .. } = &**publication;
                let item = Item::publication(realm, 0, topic.clone(), payload.clone());
                let item = Item { kind: *kind, ..item };
                let (properties, readers) = (properties.clone(), readers.clone());
                Item { qos: *qos, expires_at_ms: *expires_at_ms, properties, readers, ..item }
            }
        };
        let origin = self.author.map(|Publisher { session, principal }| Origin::of(session, &principal));
        Item { origin, flags: self.flags, dedup: self.dedup, ..item }
    }
}
