//! The reference: the same history without a disk, and what a router without one uses.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::error::Error;
use super::query::{MAX_EXAMINED, Page, Query, RealmState, Retention, Tally};
use super::{Snapshot, Store, as_of, codec, is_later};
use crate::model::{EventId, Item, Record};

/// Bytes that every record takes besides its own.
const RECORD_OVERHEAD: usize = 128;

/// A history that ends with the process.
#[derive(Debug)]
pub struct Memory {
    segment_bytes: usize,
    segments: Vec<Segment>,
    written: Vec<Record>,
    /// By realm the next id's number and the last time of the written records; then those of the readable ones.
    heads: BTreeMap<Arc<str>, (u64, u64)>,
    readable: BTreeMap<Arc<str>, (u64, u64)>,
    snapshot: Option<Snapshot>,
}

/// Records that are trimmed together.
#[derive(Debug, Default)]
struct Segment {
    realms: BTreeMap<Arc<str>, Vec<Record>>,
    bytes: usize,
}

impl Memory {
    /// An empty history that is trimmed by `segment_bytes` at a time.
    pub fn new(segment_bytes: usize) -> Self {
        Memory {
            segment_bytes,
            segments: vec![Segment::default()],
            written: Vec::new(),
            heads: BTreeMap::new(),
            readable: BTreeMap::new(),
            snapshot: None,
        }
    }

    fn ends(&self, realm: &str) -> (u64, u64) {
        let next = self.readable.get(realm).map_or(1, |(next, _)| *next);
        let oldest = self.segments.iter().find_map(|segment| segment.realms.get(realm)?.first());
        (oldest.map_or(next, |record| record.id.value()), next)
    }

    fn records<'a>(&'a self, realm: &'a str) -> impl DoubleEndedIterator<Item = &'a Record> {
        self.segments.iter().filter_map(move |segment| segment.realms.get(realm)).flatten()
    }

    /// The readable records between the bounds of `query`, by number.
    fn bounds(&self, query: &Query) -> Result<(u64, u64), Error> {
        let (oldest, next) = self.ends(&query.realm);
        let (after, before) = (query.after.map(EventId::value), query.before.map(EventId::value));
        if after.is_some_and(|after| after + 1 < oldest) || before.is_some_and(|before| before < oldest) {
            return Err(Error::TooOld { oldest: EventId::new(oldest).unwrap_or(EventId::LAST) });
        }
        let first_at = |time_ms: u64| {
            self.records(&query.realm).find(|record| record.item.time_ms >= time_ms).map_or(next, |record| record.id.value())
        };
        let low = oldest.max(after.map_or(0, |after| after + 1)).max(query.from_ms.map_or(0, first_at));
        let high = next.min(before.unwrap_or(u64::MAX)).min(query.until_ms.map_or(u64::MAX, first_at));
        Ok((low, high))
    }
}

impl Segment {
    fn tallies(&self, rules: &[Retention]) -> (HashMap<(Arc<str>, usize), Tally>, bool) {
        let mut tallies: HashMap<_, Tally> = HashMap::new();
        let mut has_unruled = false;
        for record in self.realms.values().flatten() {
            let Some(topic) = record.item.indexed_topic() else { continue };
            match rules.iter().position(|rule| rule.covers(&record.item.realm, topic)) {
                Some(rule) => {
                    let tally = Tally { count: 1, bytes: weight(&record.item) as u64 };
                    tallies.entry((record.item.realm.clone(), rule)).or_default().add(tally);
                }
                None => has_unruled = true,
            }
        }
        (tallies, has_unruled)
    }

    fn last(&self, realm: &str) -> Option<&Record> {
        self.realms.get(realm)?.last()
    }
}

fn weight(item: &Item) -> usize {
    item.payload.len() + item.topic.as_ref().map_or(0, |topic| topic.as_mqtt().len()) + RECORD_OVERHEAD
}

impl Store for Memory {
    fn write(&mut self, items: &[Item]) -> Result<Vec<EventId>, Error> {
        let mut heads = self.heads.clone();
        let mut records = Vec::with_capacity(items.len());
        for item in items {
            codec::check(item)?;
            let (next, last_ms) = heads.get(&item.realm).copied().unwrap_or((1, 0));
            let id = EventId::new(next).ok_or(Error::Unstorable("no id is left in the realm"))?;
            if item.time_ms < last_ms {
                return Err(Error::TimeWentBack { last_ms });
            }
            heads.insert(item.realm.clone(), (next + 1, item.time_ms));
            records.push(Record { id, item: item.clone() });
        }
        self.heads = heads;
        let ids = records.iter().map(|record| record.id).collect();
        self.written.append(&mut records);
        Ok(ids)
    }

    fn sync(&mut self) -> Result<(), Error> {
        for record in self.written.drain(..) {
            if self.segments.last().is_none_or(|segment| segment.bytes >= self.segment_bytes) {
                self.segments.push(Segment::default());
            }
            if let Some(segment) = self.segments.last_mut() {
                segment.bytes += weight(&record.item);
                segment.realms.entry(record.item.realm.clone()).or_default().push(record);
            }
        }
        self.readable.clone_from(&self.heads);
        Ok(())
    }

    fn read(&self, query: &Query) -> Result<Page, Error> {
        let (low, high) = self.bounds(query)?;
        if low >= high {
            let cursor = if query.reverse { query.before } else { query.after };
            return Ok(Page { records: Vec::new(), cursor, is_end: true });
        }
        let mut within = self.segments.iter().filter_map(|segment| segment.realms.get(&query.realm)).flat_map(|records| {
            let from = records.partition_point(|record| record.id.value() < low);
            let to = records.partition_point(|record| record.id.value() < high).max(from);
            records.get(from..to).unwrap_or_default()
        });
        let mut page = Page::default();
        let mut bytes = 0;
        for _ in 0..MAX_EXAMINED {
            let next = if query.reverse { within.next_back() } else { within.next() };
            let Some(record) = next else { break };
            page.cursor = Some(record.id);
            if query.covers(&record.item) {
                bytes += weight(&record.item);
                page.records.push(record.clone());
            }
            if page.records.len() >= query.bounded_limit() || bytes >= query.bounded_bytes() {
                break;
            }
        }
        let cursor = page.cursor.map_or(0, EventId::value);
        page.is_end = if query.reverse { cursor <= low } else { cursor + 1 >= high };
        Ok(page)
    }

    fn realms(&self) -> Vec<Arc<str>> {
        self.readable.keys().cloned().collect()
    }

    fn realm_state(&self, realm: &str) -> RealmState {
        let (oldest, next) = self.ends(realm);
        let last_time_ms = self.readable.get(realm).map_or(0, |(_, last)| *last);
        RealmState { last: EventId::new(next - 1), oldest: EventId::new(oldest).filter(|_| oldest < next), last_time_ms }
    }

    fn retain(&mut self, rules: &[Retention], now_ms: u64) -> Result<usize, Error> {
        let ids = self.snapshot.as_ref().map(|snapshot| snapshot.as_of.clone()).unwrap_or_default();
        let mut newer: HashMap<(Arc<str>, usize), Tally> = HashMap::new();
        let mut doomed = vec![false; self.segments.len()];
        // The last one is still written.
        for (at, segment) in self.segments.iter().enumerate().rev() {
            let (tallies, has_unruled) = segment.tallies(rules);
            let is_carried =
                segment.realms.keys().all(|realm| segment.last(realm).is_none_or(|last| last.id.value() <= as_of(&ids, realm)));
            let is_released = tallies.keys().all(|key| {
                let last_ms = segment.last(&key.0).map_or(now_ms, |last| last.item.time_ms);
                let newer = newer.get(key).copied().unwrap_or_default();
                rules.get(key.1).is_some_and(|rule| rule.releases(now_ms.saturating_sub(last_ms), newer))
            });
            if let Some(doomed) = doomed.get_mut(at) {
                *doomed = is_carried && is_released && !has_unruled && at + 1 < self.segments.len();
            }
            for (key, tally) in tallies {
                newer.entry(key).or_default().add(tally);
            }
        }
        let count = doomed.iter().take_while(|doomed| **doomed).count();
        self.segments.drain(..count);
        Ok(count)
    }

    fn write_snapshot(&mut self, ids: &[(Arc<str>, EventId)], chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), Error> {
        let old = self.snapshot.as_ref().map(|snapshot| snapshot.as_of.as_slice()).unwrap_or_default();
        let is_readable = |(realm, id): &(Arc<str>, EventId)| self.ends(realm).1 > id.value();
        if ids.is_empty() || !ids.iter().all(is_readable) || !is_later(ids, old) {
            return Err(Error::SnapshotOutOfOrder);
        }
        self.snapshot = Some(Snapshot { as_of: ids.to_vec(), chunks: chunks.collect() });
        Ok(())
    }

    fn snapshot(&self) -> Result<Option<Snapshot>, Error> {
        Ok(self.snapshot.clone())
    }
}
