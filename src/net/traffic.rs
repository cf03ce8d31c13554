//! The traffic through the sockets of the process; connections add to it once a batch.
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::model::Topic;
use crate::model::limits::MAX_NAMED_TOPICS;
use crate::model::text::{shown, unfit_in};

/// Totals since start.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    messages_received: AtomicU64,
    messages_sent: AtomicU64,
    connects: AtomicU64,
    messages_withheld: AtomicU64,
    messages_too_large: AtomicU64,
    properties_left_out: AtomicU64,
    /// Topics that the log has named.
    named: Mutex<HashSet<Topic>>,
}

/// One reading of the totals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Bytes that sockets gave.
    pub bytes_received: u64,
    /// Bytes that sockets took.
    pub bytes_sent: u64,
    /// MQTT packets and WAMP messages that came.
    pub messages_received: u64,
    /// MQTT packets and WAMP messages that went.
    pub messages_sent: u64,
    /// Those among what came that ask for a session: CONNECT and HELLO.
    pub connects: u64,
    /// Messages of topics that no MQTT client can be sent.
    pub messages_withheld: u64,
    /// Events that were larger than their receiver takes.
    pub messages_too_large: u64,
    /// Properties that no MQTT client can be sent.
    pub properties_left_out: u64,
}

impl Traffic {
    /// Adds what one batch moved.
    pub fn add(&self, moved: Totals) {
        let add = |total: &AtomicU64, more: u64| {
            if more > 0 {
                total.fetch_add(more, Ordering::Relaxed);
            }
        };
        add(&self.bytes_received, moved.bytes_received);
        add(&self.bytes_sent, moved.bytes_sent);
        add(&self.messages_received, moved.messages_received);
        add(&self.messages_sent, moved.messages_sent);
        add(&self.connects, moved.connects);
        add(&self.messages_withheld, moved.messages_withheld);
        add(&self.messages_too_large, moved.messages_too_large);
        add(&self.properties_left_out, moved.properties_left_out);
    }

    /// Counts a message of this topic that is withheld from an MQTT client; the log names each topic once.
    pub fn withhold(&self, topic: &Topic) {
        self.messages_withheld.fetch_add(1, Ordering::Relaxed);
        let mut named = self.named.lock();
        if named.len() < MAX_NAMED_TOPICS && named.insert(topic.clone()) {
            let (name, character) = (shown(topic.as_mqtt()), unfit_in(topic.as_mqtt()).unwrap_or_default());
            tracing::warn!(
                "messages of the topic {name} are withheld from MQTT clients, which cannot be sent U+{:04X}: \
                 it is from before such names were refused; publish under another name, and remove the retained value, \
                 if there is one, by an empty retained PUBLISH over MQTT",
                u32::from(character)
            );
        }
    }

    /// The totals now.
    pub fn totals(&self) -> Totals {
        Totals {
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            messages_received: self.messages_received.load(Ordering::Relaxed),
            messages_sent: self.messages_sent.load(Ordering::Relaxed),
            connects: self.connects.load(Ordering::Relaxed),
            messages_withheld: self.messages_withheld.load(Ordering::Relaxed),
            messages_too_large: self.messages_too_large.load(Ordering::Relaxed),
            properties_left_out: self.properties_left_out.load(Ordering::Relaxed),
        }
    }
}
