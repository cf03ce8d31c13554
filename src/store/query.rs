//! The questions that can be asked of a history, its bounds, and its retention.
use std::sync::Arc;

pub use crate::model::query::{MAX_EXAMINED, MAX_PAGE_BYTES, MAX_PAGE_RECORDS, Page, Query};
use crate::model::{EventId, Filter, Topic};

/// The state of one realm's history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RealmState {
    /// The last id on disk; `None` before the first.
    pub last: Option<EventId>,
    /// The oldest id that is kept; `None` if nothing is.
    pub oldest: Option<EventId>,
    /// The time of the last record, in milliseconds since the Unix epoch: the least that the next may have.
    pub last_time_ms: u64,
}

/// The time for which publications are kept. Of several rules the first that covers a topic counts, and publications without a
/// rule are kept for ever. At least as much is kept as the rule says: only whole segments go, the oldest first, and only behind a
/// snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// The realm; `None` = each, counted by itself.
    pub realm: Option<Arc<str>>,
    /// Which topics; `None` = all, reserved ones too.
    pub filter: Option<Filter>,
    /// At most this old.
    pub max_age_ms: Option<u64>,
    /// At most this many bytes of the topics together.
    pub max_bytes: Option<u64>,
    /// At most this many publications of the topics together.
    pub max_count: Option<u64>,
}

impl Retention {
    /// Whether publications on `topic` of `realm` are under this rule.
    pub fn covers(&self, realm: &str, topic: &Topic) -> bool {
        self.realm.as_deref().is_none_or(|name| name == realm) && self.filter.as_ref().is_none_or(|filter| filter.covers(topic))
    }

    /// Whether what is `age_ms` old and has this much behind it need not be kept.
    pub(super) fn releases(&self, age_ms: u64, newer: Tally) -> bool {
        self.max_age_ms.is_some_and(|max| age_ms > max)
            || self.max_bytes.is_some_and(|max| newer.bytes >= max)
            || self.max_count.is_some_and(|max| newer.count >= max)
    }
}

/// Publications under one rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Their number.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Tally) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}
