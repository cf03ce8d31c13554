//! The differences between deliveries of one publication.
use smallvec::SmallVec;

use crate::model::command::{Protocol, SubscribeOptions};
use crate::model::{Filter, Qos, SubscriptionId};

/// The part of one delivery in which it differs from the next of the same publication.
#[derive(Clone, Debug)]
pub struct Passage {
    /// QoS granted.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
    /// Subscribed by pattern.
    pub by_pattern: bool,
    /// Ids to name.
    pub subscriptions: SmallVec<[u64; 2]>,
    /// Where it comes from.
    pub source: Source,
}

impl Passage {
    /// A delivery through one subscription.
    pub fn of(options: SubscribeOptions, filter: &Filter, protocol: Protocol, id: SubscriptionId) -> Self {
        let subscriptions = match (protocol, options.identifier) {
            (Protocol::Wamp, _) => SmallVec::from_slice(&[id.0]),
            (_, Some(identifier)) => SmallVec::from_slice(&[u64::from(identifier)]),
            (_, None) => SmallVec::new(),
        };
        let by_pattern = !matches!(filter, Filter::Exact(_));
        Passage { qos: options.qos, retain: false, by_pattern, subscriptions, source: Source::Other }
    }

    /// One delivery through several subscriptions: with the greatest QoS of them and all their ids [MQTT-3.3.4-2], [MQTT-3.3.4-4].
    pub fn merge(merged: &mut Option<Passage>, more: Passage) {
        let Some(passage) = merged else { return *merged = Some(more) };
        passage.qos = passage.qos.max(more.qos);
        passage.retain |= more.retain;
        passage.by_pattern |= more.by_pattern;
        passage.subscriptions.extend(more.subscriptions);
    }
}

/// Where a delivery comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// An event of the history as it happens: whoever is behind finds it there.
    Live,
    /// An event that was found in the history.
    Past,
    /// A retained value or past event that its session is owed until the replay is over.
    Replayed,
    /// A shared subscription: it goes to another member if this session ends.
    Shared(u32),
    /// Neither: it ends with the process.
    Other,
}

impl Source {
    /// True for what a session's cursor stands for.
    pub fn is_history(self) -> bool {
        matches!(self, Source::Live | Source::Past)
    }
}
