//! The content of queues: items, settings, figures, and the grants to those who wait.
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::properties::Properties;
use crate::model::{Payload, Topic};
use crate::router::base::claim::Token;

/// The time that a claim lasts where nobody has said it. Part of the meaning of records: never changed.
pub const DEFAULT_VISIBILITY_MS: u64 = 30_000;

/// The body of an item, as it was put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ItemBody {
    /// As it arrived.
    pub payload: Payload,
    /// Properties that travel with it.
    pub properties: Option<Arc<Properties>>,
}

impl ItemBody {
    /// Bytes that it holds, with a share for its place in the tables.
    pub fn weight(&self) -> usize {
        weight_of(&self.payload, self.properties.as_deref())
    }
}

/// The weight of an item with this body.
pub fn weight_of(payload: &Payload, properties: Option<&Properties>) -> usize {
    256 + payload.len() + properties.map_or(0, Properties::text_bytes)
}

/// The settings of a queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The time that a claim lasts.
    pub visibility_ms: u64,
    /// Deliveries of an item before it is a dead letter; 0 = any number.
    pub max_deliveries: u32,
    /// Where dead letters go; without it they are dropped and counted.
    pub dead_letter: Option<Topic>,
    /// Items that may be put into it; 0 = any number. Dead letters are taken beyond it.
    pub max_len: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { visibility_ms: DEFAULT_VISIBILITY_MS, max_deliveries: 0, dead_letter: None, max_len: 0 }
    }
}

/// The counts of everything that has happened to the items of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Items put.
    pub put: u64,
    /// Claims.
    pub taken: u64,
    /// Items done with.
    pub acknowledged: u64,
    /// Claims that ended otherwise.
    pub returned: u64,
    /// Items that went to the queue for dead letters.
    pub dead_lettered: u64,
    /// Dead letters that had nowhere to go.
    pub dropped: u64,
    /// Items whose lifetime was over before they were done with.
    pub expired: u64,
}

impl Counts {
    /// Both together.
    pub fn plus(self, other: Counts) -> Counts {
        Counts {
            put: self.put + other.put,
            taken: self.taken + other.taken,
            acknowledged: self.acknowledged + other.acknowledged,
            returned: self.returned + other.returned,
            dead_lettered: self.dead_lettered + other.dead_lettered,
            dropped: self.dropped + other.dropped,
            expired: self.expired + other.expired,
        }
    }
}

/// An item for whoever claimed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The claim.
    pub token: Token,
    /// The id of the item.
    pub id: u64,
    /// Which delivery this is, counting from 1.
    pub delivery_count: u32,
    /// The body of the item.
    pub body: ItemBody,
}

/// An event that follows from a record for those who wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueueEvent {
    /// The call that asked by this record gets these; none if its wait is over.
    Items {
        /// The record.
        take: u64,
        /// The items that it gets.
        items: Vec<Grant>,
    },
    /// The call that asked by this record waits no longer, as it wished, or because its connection has ended.
    Canceled {
        /// The record.
        take: u64,
    },
    /// A connection gets an item.
    Delivery {
        /// Which.
        to: u64,
        /// Of this queue.
        queue: Topic,
        /// The item.
        grant: Grant,
    },
}

/// Why a change had no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No claim has that token any more.
    NoSuchToken,
    /// The queue holds as many items as its settings allow.
    Full,
}

/// Sizes and counts of one queue.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// The queue is there, or has been in the life of this process.
    pub is_known: bool,
    /// Somebody has declared it.
    pub is_declared: bool,
    /// Its settings.
    pub settings: Settings,
    /// Items that the next taker gets.
    pub ready: u64,
    /// Items that rest.
    pub delayed: u64,
    /// Items that are claimed.
    pub claimed: u64,
    /// Bytes of all of them, about.
    pub bytes: usize,
    /// Calls that wait.
    pub waiting: usize,
    /// Connections that take what comes.
    pub subscribers: usize,
    /// Its counts.
    pub counts: Counts,
}
