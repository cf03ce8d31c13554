//! The state of a realm in pieces: the content of a snapshot, and the start of a restart instead of the whole history.
//!
//! A piece is a key, a head of its own form and, where something was published, a record. The router knows which pieces have
//! changed since it was last asked, so that its keeper need not write them all. State of connections is in no piece but that of
//! the queues, whose records are judged by it.
use std::collections::HashSet;
use std::hash::Hash;

use bytes::Bytes;
use foldhash::fast::{FixedState, RandomState};

use crate::model::{Record, Topic};

/// Names a piece. In the order of their bytes pieces can be restored.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PieceKey {
    /// An event that members of share groups are owed.
    Event(u64),
    /// The retained message of a topic.
    Retained(Topic),
    /// The holder of a topic.
    Holder(Topic),
    /// A grant whose publication follows.
    Grant(Topic),
    /// A session that stays, by its client id.
    Session(Box<str>),
    /// Everything of queues but their items.
    Queues,
    /// An item of a queue.
    QueueItem(u64, u32),
    /// The message that the connection of a session leaves behind.
    Will(u64),
}

impl PieceKey {
    /// As bytes, each key its own.
    pub fn to_bytes(&self) -> Vec<u8> {
        let named = |tag: u8, name: &str| [&[tag], name.as_bytes()].concat();
        match self {
            PieceKey::Event(id) => [&b"a"[..], &id.to_be_bytes()].concat(),
            PieceKey::Retained(topic) => named(b'b', topic.as_mqtt()),
            PieceKey::Holder(topic) => named(b'c', topic.as_mqtt()),
            PieceKey::Grant(topic) => named(b'd', topic.as_mqtt()),
            PieceKey::Session(client) => named(b'e', client),
            PieceKey::Queues => vec![b'f'],
            PieceKey::QueueItem(id, index) => [&b"g"[..], &id.to_be_bytes(), &index.to_be_bytes()].concat(),
            PieceKey::Will(session) => [&b"h"[..], &session.to_be_bytes()].concat(),
        }
    }

    /// Back from bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let text = || std::str::from_utf8(rest).ok();
        let topic = || Topic::from_mqtt(text()?).ok();
        Some(match tag {
            b'a' => PieceKey::Event(u64::from_be_bytes(rest.try_into().ok()?)),
            b'b' => PieceKey::Retained(topic()?),
            b'c' => PieceKey::Holder(topic()?),
            b'd' => PieceKey::Grant(topic()?),
            b'e' => PieceKey::Session(text()?.into()),
            b'f' if rest.is_empty() => PieceKey::Queues,
            b'g' => {
                let (id, index) = rest.split_first_chunk::<8>()?;
                PieceKey::QueueItem(u64::from_be_bytes(*id), u32::from_be_bytes(index.try_into().ok()?))
            }
            b'h' => PieceKey::Will(u64::from_be_bytes(rest.try_into().ok()?)),
            _ => return None,
        })
    }
}

/// The realm that records of pieces name, because their keeper knows the real one.
pub const ITS_REALM: &str = "-";

/// The content of a piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The part that is not published: MsgPack of the kind of piece.
    pub head: Bytes,
    /// The part that is published.
    pub record: Option<Record>,
}

/// Which pieces have changed, but for sessions, which know it themselves, and queues.
#[derive(Debug, Default)]
pub struct Changes {
    is_tracked: bool,
    retained: HashSet<Topic, RandomState>,
    keys: HashSet<PieceKey, RandomState>,
    sessions: usize,
    /// The pieces of kind event that were said to be there.
    events: HashSet<u64, FixedState>,
}

impl Changes {
    /// From now on changes are noted.
    pub fn track(&mut self) {
        self.is_tracked = true;
    }

    /// The piece of one more session is not what it was.
    pub fn note_session(&mut self) {
        self.sessions += 1;
    }

    /// The number of retained messages that have changed.
    pub fn retained(&self) -> usize {
        self.retained.len()
    }

    /// The number of other pieces that have changed, about.
    pub fn others(&self) -> usize {
        self.keys.len() + self.sessions
    }

    /// So many of the retained messages that are not what they were.
    pub fn take_retained(&mut self, count: usize) -> Vec<Topic> {
        let topics: Vec<Topic> = self.retained.iter().take(count).cloned().collect();
        for topic in &topics {
            self.retained.remove(topic);
        }
        topics
    }

    /// Everything that is not what it was, but for sessions and queues; `events` are those that are there now.
    pub fn take_all(&mut self, events: HashSet<u64, FixedState>) -> Vec<PieceKey> {
        self.sessions = 0;
        let mut keys: Vec<PieceKey> = self.keys.drain().collect();
        keys.extend(self.retained.drain().map(PieceKey::Retained));
        keys.extend(events.symmetric_difference(&self.events).map(|id| PieceKey::Event(*id)));
        self.events = events;
        keys
    }

    /// The retained message of a topic is not what it was.
    pub fn note_retained(&mut self, topic: &Topic) {
        if self.is_tracked {
            self.retained.insert(topic.clone());
        }
    }

    /// A piece is not what it was.
    pub fn note(&mut self, key: impl FnOnce() -> PieceKey) {
        if self.is_tracked {
            self.keys.insert(key());
        }
    }
}
