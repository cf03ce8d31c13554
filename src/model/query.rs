//! The questions that can be asked of a history, and the content of one answer.
use std::sync::Arc;

use super::{EventId, Filter, Item, Record, Topic};

/// Which of the reads that somebody has asked for this is: an answer names the one it is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReadTicket(pub u64);

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
    /// With a filter: publications that one of these covers, too.
    pub also: Vec<Filter>,
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
    /// Bytes of the page, at most [`MAX_PAGE_BYTES`]; one record may go above it.
    pub max_bytes: usize,
    /// The latest first.
    pub reverse: bool,
}

impl Query {
    /// Everything in `realm`.
    pub fn new(realm: impl Into<Arc<str>>) -> Self {
        Query {
            realm: realm.into(),
            filter: None,
            also: Vec::new(),
            after: None,
            before: None,
            from_ms: None,
            until_ms: None,
            limit: 1_000,
            max_bytes: MAX_PAGE_BYTES,
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

    /// The filters, if only some publications are asked for.
    pub fn filters(&self) -> impl Iterator<Item = &Filter> {
        self.filter.iter().chain(&self.also)
    }

    /// True for what is asked for, wherever it stands.
    pub fn covers(&self, item: &Item) -> bool {
        let covers = |topic: &Topic| self.filters().any(|filter| filter.covers(topic));
        self.filter.is_none() || item.indexed_topic().is_some_and(covers)
    }

    /// Records in the page.
    pub fn bounded_limit(&self) -> usize {
        self.limit.clamp(1, MAX_PAGE_RECORDS)
    }

    /// Bytes behind which the page ends.
    pub fn bounded_bytes(&self) -> usize {
        self.max_bytes.clamp(1, MAX_PAGE_BYTES)
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
