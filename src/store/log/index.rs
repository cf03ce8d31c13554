//! Finds records in a segment by id and by topic; that of the segment being written is in memory.
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::model::filter::mqtt_prefix;
use crate::model::{Filter, Topic};
use crate::store::error::Error;

/// Topics of one segment that a look-up reads at most; with more, records are read instead.
pub const MAX_TOPICS: usize = 4_096;
/// Places of records that a look-up gathers at most.
pub const MAX_GATHERED: usize = 65_536;

/// The records of one realm in one segment: ids are dense, so first and count say all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first id's number.
    pub first: u64,
    /// The number of records, at least 1.
    pub count: u64,
    /// The time of the first.
    pub first_time_ms: u64,
    /// The time of the last.
    pub last_time_ms: u64,
}

impl Span {
    /// The last id's number.
    pub fn last(&self) -> u64 {
        self.first + self.count - 1
    }
}

/// Where the records are that a filter covers.
#[derive(PartialEq, Eq, Debug)]
pub enum Candidates {
    /// At these offsets, in the order asked for; fewer than the limit means all of them.
    Offsets(Vec<u32>),
    /// In so many places that reading the records themselves is less work.
    Scan,
}

/// A search in an index.
pub struct Wanted<'a> {
    /// The realm.
    pub realm: &'a str,
    /// Which topics.
    pub filter: &'a Filter,
    /// Between which offsets.
    pub within: Range<u32>,
    /// The most places to find.
    pub limit: usize,
    /// From the end.
    pub reverse: bool,
}

/// The index of a segment.
pub trait Index {
    /// The records of `realm`.
    fn span(&self, realm: &str) -> Option<Span>;
    /// The offsets of the records `range` of `realm`, counted from its first in the segment.
    fn offsets(&self, realm: &str, range: Range<u64>) -> Result<Vec<u32>, Error>;
    /// The publications wanted.
    fn candidates(&self, wanted: &Wanted<'_>) -> Result<Candidates, Error>;
}

/// The beginning (in MQTT spelling) of every topic that `filter` covers.
pub fn literal_prefix(filter: &Filter) -> String {
    match filter {
        Filter::Exact(topic) => topic.as_mqtt().to_owned(),
        Filter::Prefix(prefix) => mqtt_prefix(prefix).0,
        Filter::Levels(levels) => {
            let literal = levels.split(['+', '#']).next().unwrap_or_default();
            // `a/#` covers `a` too.
            let literal = if literal.len() < levels.len() { literal.trim_end_matches('/') } else { literal };
            literal.to_owned()
        }
    }
}

/// Keeps the first `limit` of `offsets` in the order asked for.
pub fn in_order(mut offsets: Vec<u32>, limit: usize, reverse: bool) -> Vec<u32> {
    offsets.sort_unstable();
    if reverse {
        offsets.reverse();
    }
    offsets.truncate(limit);
    offsets
}

/// Publications on one topic.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Posting {
    /// Where they are, ascending.
    pub offsets: Vec<u32>,
    /// The bytes they take together.
    pub bytes: u64,
}

/// The records of one realm.
#[derive(Debug)]
pub struct RealmIndex {
    /// Their ids and times; the count is that of `offsets`.
    first: u64,
    first_time_ms: u64,
    last_time_ms: u64,
    /// Where each is, by id.
    pub offsets: Vec<u32>,
    /// The publications by topic.
    pub topics: HashMap<Topic, Posting, foldhash::fast::RandomState>,
}

impl RealmIndex {
    /// Its ids and times.
    pub fn span(&self) -> Span {
        let count = self.offsets.len() as u64;
        Span { first: self.first, count, first_time_ms: self.first_time_ms, last_time_ms: self.last_time_ms }
    }
}

/// A record as the index sees it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its realm.
    pub realm: Arc<str>,
    /// Its id's number.
    pub id: u64,
    /// Its time.
    pub time_ms: u64,
    /// Where its frame begins.
    pub offset: u32,
    /// Bytes of its frame.
    pub bytes: u32,
    /// Its topic, if it is a publication.
    pub topic: Option<Topic>,
}

/// The index of the segment being written.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    /// By realm.
    pub realms: BTreeMap<Arc<str>, RealmIndex>,
}

impl MemoryIndex {
    /// Takes in the next record of its realm.
    pub fn push(&mut self, place: Place) {
        let realm = match self.realms.get_mut(&place.realm) {
            Some(realm) => realm,
            None => self.realms.entry(place.realm).or_insert_with(|| RealmIndex {
                first: place.id,
                first_time_ms: place.time_ms,
                last_time_ms: place.time_ms,
                offsets: Vec::new(),
                topics: HashMap::default(),
            }),
        };
        realm.last_time_ms = place.time_ms;
        realm.offsets.push(place.offset);
        if let Some(topic) = place.topic {
            let posting = realm.topics.entry(topic).or_default();
            posting.offsets.push(place.offset);
            posting.bytes += u64::from(place.bytes);
        }
    }
}

impl Index for MemoryIndex {
    fn span(&self, realm: &str) -> Option<Span> {
        self.realms.get(realm).map(RealmIndex::span)
    }

    fn offsets(&self, realm: &str, range: Range<u64>) -> Result<Vec<u32>, Error> {
        let offsets = self.realms.get(realm).and_then(|realm| realm.offsets.get(range.start as usize..range.end as usize));
        Ok(offsets.unwrap_or_default().to_vec())
    }

    fn candidates(&self, wanted: &Wanted<'_>) -> Result<Candidates, Error> {
        let Some(realm) = self.realms.get(wanted.realm) else { return Ok(Candidates::Offsets(Vec::new())) };
        let mut found = Vec::new();
        if let Filter::Exact(topic) = wanted.filter {
            if let Some(posting) = realm.topics.get(topic) {
                extend_within(&mut found, &posting.offsets, wanted);
            }
            return Ok(Candidates::Offsets(in_order(found, wanted.limit, wanted.reverse)));
        }
        if realm.topics.len() > MAX_TOPICS {
            return Ok(Candidates::Scan);
        }
        for (topic, posting) in &realm.topics {
            if wanted.filter.covers(topic) {
                extend_within(&mut found, &posting.offsets, wanted);
            }
            if found.len() > MAX_GATHERED {
                return Ok(Candidates::Scan);
            }
        }
        Ok(Candidates::Offsets(in_order(found, wanted.limit, wanted.reverse)))
    }
}

/// Adds those of `offsets`, which ascend, that could be among the first wanted.
fn extend_within(found: &mut Vec<u32>, offsets: &[u32], wanted: &Wanted<'_>) {
    let from = offsets.partition_point(|offset| *offset < wanted.within.start);
    let to = offsets.partition_point(|offset| *offset < wanted.within.end).max(from);
    let range = if wanted.reverse { from.max(to.saturating_sub(wanted.limit))..to } else { from..to.min(from + wanted.limit) };
    found.extend_from_slice(offsets.get(range).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_filter_covers_begins_with_its_literal_prefix() {
        let mqtt = |text| literal_prefix(&Filter::from_mqtt(text).unwrap());
        for (filter, prefix) in
            [("a/b", "a/b"), ("a/b/#", "a/b"), ("a/+/c", "a"), ("#", ""), ("+/a", ""), ("/+", ""), ("a//#", "a")]
        {
            assert_eq!(mqtt(filter), prefix, "{filter}");
        }
        assert_eq!(literal_prefix(&Filter::Levels("a/b/".into())), "a/b/");
        assert_eq!(literal_prefix(&Filter::Prefix("a.b".into())), "a/b");
    }
}
