//! What can be asked of a history, and what one answer holds.
use std::sync::Arc;

use crate::model::{EventId, Filter, Record};

/// The most records in a page.
pub const MAX_PAGE_RECORDS: usize = 4_096;
/// Payload and all of a page in bytes; one record may go above it.
pub const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Records that one call looks at.
pub const MAX_EXAMINED: usize = 8_192;

/// A part of one realm's history, in the order of ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// The realm.
    pub realm: Arc<str>,
    /// Publications that it covers; `None` = every record of every kind.
    pub filter: Option<Filter>,
    /// Only behind this id. Refused as too old if something between it and the oldest kept record is missing; `None` = from the
    /// oldest kept.
    pub after: Option<EventId>,
    /// Only before this id.
    pub before: Option<EventId>,
    /// Only of this time or later, in milliseconds since the Unix epoch.
    pub from_ms: Option<u64>,
    /// Only of an earlier time.
    pub until_ms: Option<u64>,
    /// Records in the page, at most [`MAX_PAGE_RECORDS`]; 0 counts as 1.
    pub limit: usize,
    /// The latest first.
    pub reverse: bool,
}

impl Query {
    /// Everything in `realm`.
    pub fn new(realm: impl Into<Arc<str>>) -> Self {
        Query {
            realm: realm.into(),
            filter: None,
            after: None,
            before: None,
            from_ms: None,
            until_ms: None,
            limit: 1_000,
            reverse: false,
        }
    }

    /// The same, going on where `page` ended.
    pub fn behind(mut self, page: &Page) -> Self {
        match (self.reverse, page.cursor) {
            (_, None) => {}
            (true, cursor) => self.before = cursor,
            (false, cursor) => self.after = cursor,
        }
        self
    }

    pub(super) fn bounded_limit(&self) -> usize {
        self.limit.clamp(1, MAX_PAGE_RECORDS)
    }
}

/// An answer: whatever a bounded amount of work found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// The records, in the order asked for.
    pub records: Vec<Record>,
    /// Up to here everything was looked at: the `after` (in reverse the `before`) of the next page. `None` if there was nothing to
    /// look at.
    pub cursor: Option<EventId>,
    /// True if nothing was left. A page may be empty without being the end.
    pub is_end: bool,
}

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

/// How long publications are kept. Of several rules the first that covers a topic counts; what none covers is kept for ever.
/// What is kept is at least what the rule says: only whole segments go, the oldest first, and only behind a snapshot.
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
    pub(super) fn covers(&self, realm: &str, topic: &crate::model::Topic) -> bool {
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
    /// How many.
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
