//! Everybody who receives a topic, as it is remembered for the next publication.
use smallvec::SmallVec;

use crate::model::{Qos, Topic};
use crate::router::base::key::{SelectionKey, SessionKey};

/// One session that receives a topic, through one or more of its subscriptions.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// The session that receives.
    pub session: SessionKey,
    /// The highest QoS granted.
    pub qos: Qos,
    /// At least one of its subscriptions keeps the RETAIN flag.
    pub retain_as_published: bool,
    /// At least one of its subscriptions leaves out what the session published itself.
    pub no_local: bool,
    /// All its subscriptions want changes of retained state only.
    pub retained_only: bool,
    /// The one subscription through which it receives, if it selects its events.
    pub selection: Option<SelectionKey>,
    /// The session subscribed by pattern.
    pub by_pattern: bool,
    /// WAMP: the subscription. MQTT: the subscription identifiers.
    pub subscriptions: SmallVec<[u64; 2]>,
}

/// Everybody who receives a topic.
#[derive(Debug, Default)]
pub struct Plan {
    /// Single sessions.
    pub receivers: Vec<Receiver>,
    /// Share groups: one member each.
    pub groups: Vec<u32>,
}

impl Plan {
    /// Bytes that it holds in the cache, about: a topic counts in both spellings.
    pub fn weight(&self, topic: &Topic) -> usize {
        256 + 2 * topic.as_mqtt().len() + self.receivers.len() * size_of::<Receiver>() + self.groups.len() * size_of::<u32>()
    }
}
