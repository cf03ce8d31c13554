//! The knowledge of a simulated run: the records that must, and that may, be in a log that lost its power.
use std::collections::BTreeMap;

use super::*;

/// The realms of a run.
pub const REALMS: [&str; 2] = ["one", "two"];
/// More than a record takes besides its payload.
const OVERHEAD_BYTES: u64 = 160;

/// The knowledge of a run.
#[derive(Default)]
pub struct Model {
    /// Every item that was written, in the order of the log, oldest first; a trim removes none of them here.
    written: Vec<Item>,
    /// The batch whose write failed: all, some or none of it may have arrived.
    uncertain: Vec<Item>,
    time_ms: u64,
    number: u64,
    /// By realm: how many were acknowledged or seen by a reader.
    durable: BTreeMap<&'static str, u64>,
    /// By realm: the highest number that the oldest id may have.
    oldest_at_most: BTreeMap<&'static str, u64>,
    /// The snapshot that was adopted last.
    adopted: AsOf,
    /// One whose adoption failed in the middle.
    perhaps: Option<AsOf>,
}

/// By realm: the oldest id that some rules ask to keep.
pub type Kept = BTreeMap<&'static str, u64>;

impl Model {
    /// The next batch: no two items of a run are the same.
    pub fn batch(&mut self, chance: &mut Chance) -> Vec<Item> {
        let count = 1 + chance.below(6);
        let mut item = || {
            self.time_ms += chance.below(3);
            self.number += 1;
            let realm = REALMS[chance.one_in(4) as usize];
            let topic = ["a", "a/b", "c"][chance.below(3) as usize];
            let text = format!("{}{}", self.number, "x".repeat(chance.below(110) as usize));
            super::item(realm, self.time_ms, topic, &text)
        };
        (0..count).map(|_| item()).collect()
    }

    /// The time of the newest item.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// The number of items that were written.
    pub fn count(&self) -> usize {
        self.written.len()
    }

    fn of<'a>(&'a self, realm: &'a str) -> impl DoubleEndedIterator<Item = &'a Item> {
        self.written.iter().filter(move |item| &*item.realm == realm)
    }

    /// The log has given these ids: dense, per realm.
    pub fn note_written(&mut self, batch: Vec<Item>, ids: &[EventId]) {
        assert_eq!(batch.len(), ids.len());
        for (item, id) in batch.into_iter().zip(ids) {
            let realm = item.realm.clone();
            self.written.push(item);
            assert_eq!(id.value(), self.of(&realm).count() as u64, "{realm}: ids are dense");
        }
    }

    /// The write of this batch failed in the middle.
    pub fn note_uncertain(&mut self, batch: Vec<Item>) {
        self.uncertain = batch;
    }

    /// Everything written was acknowledged.
    pub fn note_synced(&mut self) {
        for realm in REALMS {
            self.durable.insert(realm, self.of(realm).count() as u64);
        }
    }

    /// Records that a reader has seen stay, whatever was acknowledged.
    pub fn note_seen(&mut self, log: &Log<SimulatedDisk>) {
        for realm in REALMS {
            let seen = log.realm_state(realm).last.map_or(0, EventId::value);
            let durable = self.durable.entry(realm).or_default();
            *durable = seen.max(*durable);
        }
    }

    /// A snapshot as of these ids is in place, or may be where `is_certain` does not hold.
    pub fn note_adopted(&mut self, ids: AsOf, is_certain: bool) {
        if is_certain {
            (self.adopted, self.perhaps) = (ids, None);
        } else {
            self.perhaps = Some(ids);
        }
    }

    /// By realm: the first id that these rules ask to keep of what the log still has.
    pub fn kept_by(&self, rules: &[Retention], now_ms: u64, log: &Log<SimulatedDisk>) -> Kept {
        let first_kept = |realm| {
            let oldest = log.realm_state(realm).oldest.map_or(u64::MAX, EventId::value);
            (realm, self.first_kept(realm, oldest, rules, now_ms))
        };
        REALMS.into_iter().map(first_kept).collect()
    }

    fn first_kept(&self, realm: &'static str, oldest: u64, rules: &[Retention], now_ms: u64) -> u64 {
        let readable = self.durable.get(realm).copied().unwrap_or(0);
        let mut behind = vec![(0, 0); rules.len()];
        let mut first = readable + 1;
        let kept = self.of(realm).take(readable as usize).zip(1..).filter(|(_, number)| *number >= oldest);
        for (item, number) in kept.collect::<Vec<_>>().into_iter().rev() {
            let Some(at) = rules.iter().position(|rule| rule.covers(realm, item.topic.as_ref().unwrap())) else {
                first = number;
                continue;
            };
            let (rule, (count, bytes)) = (&rules[at], &mut behind[at]);
            let is_released = rule.max_count.is_some_and(|max| *count >= max)
                || rule.max_bytes.is_some_and(|max| *bytes >= max)
                || rule.max_age_ms.is_some_and(|max| now_ms - item.time_ms > max);
            first = if is_released { first } else { number };
            *count += 1;
            *bytes += OVERHEAD_BYTES + item.payload.len() as u64;
        }
        first
    }

    /// A trim by rules that kept this is about to be tried: it goes no further, and not past the snapshot that is in place.
    pub fn note_trim(&mut self, kept: &Kept) {
        for (realm, kept) in kept {
            let allowed = (*kept).min(super::super::as_of(&self.adopted, realm) + 1);
            let oldest = self.oldest_at_most.entry(realm).or_insert(1);
            *oldest = allowed.max(*oldest);
        }
    }

    /// The state as of `ids`, as [`fold`] makes it.
    fn state(&self, ids: &[(Arc<str>, EventId)]) -> Vec<Vec<u8>> {
        let fold_realm = |(realm, id): &(Arc<str>, EventId)| {
            let sum = self.of(realm).take(id.value() as usize).fold(0, digest);
            chunk(realm, sum)
        };
        ids.iter().map(fold_realm).collect()
    }

    /// The fault in the log's content, if any; from then on its content is the knowledge.
    pub fn compare(&mut self, log: &Log<SimulatedDisk>) -> Result<(), String> {
        let mut possible = self.written.clone();
        possible.append(&mut self.uncertain.clone());
        let mut lasts = BTreeMap::new();
        for realm in REALMS {
            let last = log.realm_state(realm).last.map_or(0, EventId::value);
            let durable = self.durable.get(realm).copied().unwrap_or(0);
            if last < durable {
                return Err(format!("{realm}: {durable} were durable, {last} are there"));
            }
            lasts.insert(realm, last);
            let possible: Vec<_> = possible.iter().filter(|item| &*item.realm == realm).collect();
            self.compare_realm(log, realm, &possible)?;
        }
        // The records in the log are the beginning of one order, over all realms.
        possible.truncate(lasts.values().sum::<u64>() as usize);
        for (realm, last) in &lasts {
            let count = possible.iter().filter(|item| &*item.realm == *realm).count() as u64;
            assert_eq!(count, *last, "{realm}: what is there was not written first");
        }
        self.compare_snapshot(log)?;
        (self.written, self.durable) = (possible, lasts);
        self.uncertain.clear();
        Ok(())
    }

    fn compare_realm(&self, log: &Log<SimulatedDisk>, realm: &'static str, possible: &[&Item]) -> Result<(), String> {
        let unreadable = |error| format!("unreadable: {error}");
        let found = read_all(log, &Query::new(realm)).map_err(unreadable)?;
        let state = log.realm_state(realm);
        let last = state.last.map_or(0, EventId::value);
        let oldest = state.oldest.map_or(last + 1, EventId::value);
        let at_most = self.oldest_at_most.get(realm).copied().unwrap_or(1);
        assert!(oldest <= at_most, "{realm}: trimmed up to {oldest}, at most {at_most} was asked for");
        assert_eq!(ids(&found), (oldest..=last).collect::<Vec<_>>(), "{realm}: a gap");
        for record in &found {
            let expected = possible.get(record.id.value() as usize - 1);
            assert_eq!(Some(&&record.item), expected, "{realm} {}: not what was written", record.id);
        }
        let filter = Filter::from_mqtt("a/#").unwrap();
        let query = Query { filter: Some(filter.clone()), ..Query::new(realm) };
        let filtered = read_all(log, &query).map_err(unreadable)?;
        let covered: Vec<_> = found.into_iter().filter(|record| filter.covers(record.item.topic.as_ref().unwrap())).collect();
        assert_eq!(filtered, covered, "{realm}: the index");
        Ok(())
    }

    fn compare_snapshot(&mut self, log: &Log<SimulatedDisk>) -> Result<(), String> {
        let found = log.snapshot().map_err(|error| format!("unreadable: {error}"))?.unwrap_or_default();
        let is_known = found.as_of == self.adopted || self.perhaps.as_ref() == Some(&found.as_of);
        assert!(is_known, "{:?} is there, {:?} was adopted, perhaps {:?}", found.as_of, self.adopted, self.perhaps);
        assert_eq!(found.chunks, self.state(&found.as_of), "a snapshot of something else");
        (self.adopted, self.perhaps) = (found.as_of, None);
        Ok(())
    }
}

fn digest(sum: u32, item: &Item) -> u32 {
    let Payload::Bytes(text) = &item.payload else { panic!("{item:?}") };
    let sum = crc32c::crc32c_append(sum, item.topic.as_ref().unwrap().as_mqtt().as_bytes());
    crc32c::crc32c_append(sum, text)
}

fn chunk(realm: &str, sum: u32) -> Vec<u8> {
    format!("{realm} {sum}").into_bytes()
}

/// The state as of `ids`, folded as it is in earnest: from the snapshot before and what came since.
pub fn fold(job: &SnapshotJob<SimulatedDisk>, ids: &[(Arc<str>, EventId)]) -> Result<Vec<Vec<u8>>, Error> {
    let mut sums: BTreeMap<String, u32> = BTreeMap::new();
    let mut previous = job.previous()?;
    while let Some(bytes) = previous.as_mut().map_or(Ok(None), |previous| previous.next_chunk())? {
        let text = String::from_utf8(bytes).unwrap();
        let (realm, sum) = text.split_once(' ').unwrap();
        sums.insert(realm.to_owned(), sum.parse().unwrap());
    }
    let mut state = Vec::new();
    for (realm, last) in ids {
        let mut sum = sums.get(&**realm).copied().unwrap_or(0);
        // From the beginning where nothing was included before: what is trimmed may not have been.
        let after = job.previous_ids().iter().find(|(name, _)| name == realm).map(|(_, id)| *id);
        let mut query = Query { after, before: EventId::new(last.value() + 1), limit: 7, ..Query::new(realm.clone()) };
        loop {
            let page = job.reader().read(&query)?;
            sum = page.records.iter().map(|record| &record.item).fold(sum, digest);
            if page.is_end {
                break;
            }
            query = query.behind(&page);
        }
        state.push(chunk(realm, sum));
    }
    Ok(state)
}
