//! The retained messages of a realm: one per topic, found by topic or page by page under a filter.
mod scan;

use crate::router::retained::scan::first_behind;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::num::NonZeroU64;
use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::model::{EventId, Filter, Publication, Topic};
use crate::router::base::catching::PAGE_BYTES;
use crate::router::retained::scan::{Scan, Verdict};

/// A topic's MQTT spelling with NUL, which no topic holds, for `/`. So byte order is the order by levels, and all that lies below
/// a topic follows it directly.
type LevelKey = SmallVec<[u8; 120]>;

/// Bytes that divide levels in a key.
const DIVIDER: u8 = 0;

/// Retained publications by topic. The caller decides who may retain how much; [`Retained::len`] and [`Retained::bytes`] tell.
#[derive(Debug, Default)]
pub struct Retained {
    by_levels: BTreeMap<Box<[u8]>, RetainedValue>,
    /// When each publication with a lifetime expires, in milliseconds since the Unix epoch.
    expiring: BTreeSet<(u64, Topic)>,
    bytes: usize,
    payload_bytes: usize,
    latest: u64,
}

/// A retained publication, when it was set, and by whom. Events are numbered by their ids, what is no event by counting on.
#[derive(Debug)]
struct RetainedValue {
    publication: Arc<Publication>,
    set_at: u64,
    by: Option<Author>,
}

/// The MQTT client that set a value, known again by its id whatever becomes of its session. Ids that share a hash would only hide
/// the values of one from No Local subscriptions of the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Author(NonZeroU64);

impl Author {
    /// The client with this id.
    pub fn of(client_id: &str) -> Self {
        Author(NonZeroU64::new(FixedState::default().hash_one(client_id)).unwrap_or(NonZeroU64::MIN))
    }
}

/// Which of the messages under a filter are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// They live at this time, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// They were set up to this (see [`Retained::latest`]).
    pub set_until: u64,
    /// They were not set by this client.
    pub not_by: Option<Author>,
}

impl Wanted {
    fn admits(&self, value: &RetainedValue) -> bool {
        let is_own = self.not_by.is_some() && value.by == self.not_by;
        value.set_at <= self.set_until && !is_own && !value.publication.is_expired(self.now_ms)
    }
}

/// Where a paged replay goes on: a place in the order of topics, valid however the set changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor(Vec<u8>);

impl Cursor {
    /// Behind this topic, in MQTT's spelling.
    pub fn behind(topic: &str) -> Self {
        let key: LevelKey = divided(topic).collect();
        Cursor(first_behind(&key))
    }
}

/// True if the first of these topics, in MQTT's spelling, comes before the other in pages.
pub fn is_before(topic: &str, other: &str) -> bool {
    divided(topic).lt(divided(other))
}

impl Retained {
    /// Nothing in it.
    #[cfg(test)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `publication`, which `by` has published, the retained message of its topic; the one that was.
    pub fn set(&mut self, publication: Arc<Publication>, by: Option<Author>) -> Option<Arc<Publication>> {
        self.bytes += publication.weight();
        self.payload_bytes += publication.payload.len();
        self.expiring.extend(publication.expires_at_ms.map(|at_ms| (at_ms, publication.topic.clone())));
        let key = key_of(&publication.topic).as_slice().into();
        let lifetime = publication.expires_at_ms;
        let set_at = publication.id.event().map_or(self.latest + 1, EventId::value);
        self.latest = self.latest.max(set_at);
        let earlier = self.by_levels.insert(key, RetainedValue { publication, set_at, by })?.publication;
        // An equal lifetime stands for the new one already.
        self.forget(&earlier, earlier.expires_at_ms != lifetime);
        Some(earlier)
    }

    /// Takes the retained message of `topic` out.
    pub fn clear(&mut self, topic: &Topic) -> Option<Arc<Publication>> {
        let earlier = self.by_levels.remove(key_of(topic).as_slice())?.publication;
        self.forget(&earlier, true);
        Some(earlier)
    }

    pub fn forget(&mut self, gone: &Publication, with_lifetime: bool) {
        self.bytes -= gone.weight();
        self.payload_bytes -= gone.payload.len();
        if let Some(at_ms) = gone.expires_at_ms.filter(|_| with_lifetime) {
            self.expiring.remove(&(at_ms, gone.topic.clone()));
        }
    }

    /// The retained message of `topic`, unless its lifetime is over at `now_ms` (milliseconds since the Unix epoch).
    pub fn find(&self, topic: &Topic, now_ms: u64) -> Option<&Arc<Publication>> {
        let value = self.by_levels.get(key_of(topic).as_slice())?;
        (!value.publication.is_expired(now_ms)).then_some(&value.publication)
    }

    /// Every topic that has one, expired or not, in no order that matters.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.by_levels.values().map(|value| &value.publication.topic)
    }

    /// The number of values; expired ones count until they are purged.
    pub fn len(&self) -> usize {
        self.by_levels.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.by_levels.is_empty()
    }

    /// Bytes of all payloads.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The weight of all together ([`Publication::weight`]).
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of the newest setting; 0 before the first.
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// When the next one expires, in milliseconds since the Unix epoch; in the past if there is something to purge.
    #[cfg(test)]
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.expiring.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes out up to `max_steps` messages whose lifetime is over at `now_ms`, the oldest first; how many those were.
    pub fn purge_expired(&mut self, now_ms: u64, max_steps: usize) -> usize {
        for purged in 0..max_steps {
            match self.expiring.first() {
                Some((at_ms, topic)) if *at_ms <= now_ms => {
                    let topic = topic.clone();
                    self.clear(&topic);
                }
                _ => return purged,
            }
        }
        max_steps
    }

    /// Adds the messages under `filter` that are wanted to `out`, in the order of topics by levels, looking at no more than
    /// `max_steps` topics (at least one), until they are [`PAGE_BYTES`] or more. `None` at the end, else where to go on with `after`.
    ///
    /// Every topic that has a message from the first page to the last comes exactly once, whatever is set and cleared in between.
    pub fn page(
        &self,
        filter: &Filter,
        after: Option<&Cursor>,
        max_steps: usize,
        wanted: Wanted,
        out: &mut Vec<Arc<Publication>>,
    ) -> Option<Cursor> {
        let scan = match filter {
            Filter::Exact(topic) => {
                let value = self.by_levels.get(key_of(topic).as_slice()).filter(|value| wanted.admits(value));
                out.extend(value.map(|value| value.publication.clone()));
                return None;
            }
            Filter::Levels(levels) => Scan::levels(levels),
            Filter::Prefix(prefix) => Scan::prefix(filter, prefix),
        };
        let mut from = after.map_or_else(|| scan.start(), |cursor| cursor.0.clone());
        let (mut steps, mut bytes) = (0, 0);
        loop {
            let rest = self.by_levels.range::<[u8], _>((Bound::Included(from.as_slice()), Bound::Unbounded));
            let mut is_at_end = true;
            for (key, value) in rest {
                let verdict = scan.judge(key, &value.publication.topic, &mut from);
                if verdict == Verdict::Covered && wanted.admits(value) {
                    bytes += value.publication.weight();
                    out.push(value.publication.clone());
                }
                steps += 1;
                let is_full = steps >= max_steps || bytes >= PAGE_BYTES;
                match verdict {
                    Verdict::End => return None,
                    Verdict::Seek if is_full => return Some(Cursor(from)),
                    Verdict::Covered | Verdict::Next if is_full => return Some(Cursor(first_behind(key))),
                    Verdict::Covered | Verdict::Next => {}
                    Verdict::Seek => {
                        is_at_end = false;
                        break;
                    }
                }
            }
            if is_at_end {
                return None;
            }
        }
    }
}

fn divided(mqtt: &str) -> impl Iterator<Item = u8> {
    mqtt.bytes().map(|byte| if byte == b'/' { DIVIDER } else { byte })
}

fn key_of(topic: &Topic) -> LevelKey {
    divided(topic.as_mqtt()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MatchPolicy, Payload, Qos};
    use crate::router::matcher::tests::Chance;

    /// Everything that lives at this time.
    fn at(now_ms: u64) -> Wanted {
        Wanted { now_ms, set_until: u64::MAX, not_by: None }
    }

    fn topic(mqtt: &str) -> Topic {
        Topic::from_mqtt(mqtt).unwrap()
    }

    fn publication(mqtt: &str, expires_at_ms: Option<u64>) -> Arc<Publication> {
        let mut publication = Publication::new(topic(mqtt), Payload::Bytes("x".into()), Qos::AtMostOnce);
        publication.expires_at_ms = expires_at_ms;
        Arc::new(publication)
    }

    fn retained(topics: &[&str]) -> Retained {
        let mut retained = Retained::new();
        topics.iter().for_each(|mqtt| assert!(retained.set(publication(mqtt, None), None).is_none()));
        retained
    }

    fn names(found: &[Arc<Publication>]) -> Vec<&str> {
        found.iter().map(|publication| publication.topic.as_mqtt()).collect()
    }

    /// Everything under `filter`, page by page, and how many pages of `max_steps` that took.
    fn all(retained: &Retained, filter: &Filter, max_steps: usize) -> (Vec<Arc<Publication>>, usize) {
        let (mut out, mut pages) = (Vec::new(), 1);
        let mut cursor = retained.page(filter, None, max_steps, at(0), &mut out);
        while let Some(place) = cursor {
            cursor = retained.page(filter, Some(&place), max_steps, at(0), &mut out);
            pages += 1;
        }
        (out, pages)
    }

    #[test]
    fn messages_are_set_found_replaced_and_cleared() {
        let mut retained = Retained::new();
        let (first, second) = (publication("a/b", None), publication("a/b", Some(50)));
        assert!(retained.set(first.clone(), None).is_none());
        assert_eq!((retained.len(), retained.bytes()), (1, first.weight()));
        assert!(Arc::ptr_eq(&retained.set(second.clone(), None).unwrap(), &first));
        assert_eq!((retained.len(), retained.bytes()), (1, second.weight()));
        assert!(Arc::ptr_eq(retained.find(&topic("a/b"), 0).unwrap(), &second));
        assert!(retained.find(&topic("a"), 0).is_none() && retained.clear(&topic("a/b/")).is_none());
        assert!(Arc::ptr_eq(&retained.clear(&topic("a/b")).unwrap(), &second));
        assert!(retained.clear(&topic("a/b")).is_none());
        assert_eq!((retained.is_empty(), retained.bytes(), retained.next_expiry_ms()), (true, 0, None));
    }

    #[test]
    fn expired_messages_are_hidden_at_once_and_purged_in_steps() {
        let mut retained = Retained::new();
        for (mqtt, at_ms) in [("a", Some(30)), ("b", Some(10)), ("c", None), ("d", Some(20)), ("e", Some(20))] {
            retained.set(publication(mqtt, at_ms), None);
        }
        // Set again: with the same lifetime, another, none.
        for (mqtt, at_ms) in [("d", Some(20)), ("a", Some(40)), ("e", None)] {
            assert!(retained.set(publication(mqtt, at_ms), None).is_some());
        }
        assert_eq!(retained.next_expiry_ms(), Some(10));
        assert!(retained.find(&topic("d"), 19).is_some() && retained.find(&topic("d"), 20).is_none());
        let mut out = Vec::new();
        let filter = Filter::from_mqtt("#").unwrap();
        assert_eq!(retained.page(&filter, None, 100, at(20), &mut out), None);
        assert_eq!(names(&out), ["a", "c", "e"]);
        assert_eq!(retained.page(&Filter::Exact(topic("d")), None, 100, at(20), &mut out), None);
        assert_eq!((out.len(), retained.len()), (3, 5));
        assert_eq!([retained.purge_expired(9, 9), retained.purge_expired(30, 1), retained.purge_expired(30, 9)], [0, 1, 1]);
        assert_eq!((retained.len(), retained.next_expiry_ms()), (3, Some(40)));
        assert_eq!((retained.purge_expired(40, 9), retained.next_expiry_ms()), (1, None));
        assert_eq!(retained.bytes(), 2 * publication("a", None).weight());
    }

    #[test]
    fn pages_come_in_the_order_of_levels() {
        let retained = retained(&["a/b/c", "a.b", "a", "a/b", "a-b", "$SYS/x", "wamp/x", "/a", "a/", "b", "wampa"]);
        let all = |text: &str| names(&all(&retained, &Filter::from_mqtt(text).unwrap(), 1).0).join(" ");
        assert_eq!(all("#"), "/a a a/ a/b a/b/c a-b a.b b wampa");
        assert_eq!(all("a/#"), "a a/ a/b a/b/c");
        assert_eq!(all("+/+"), "/a a/ a/b");
        assert_eq!(all("$SYS/#"), "$SYS/x");
        assert_eq!(all("wamp/+"), "wamp/x");
        assert_eq!(all("a/b"), "a/b");
        assert_eq!(all("b/c/#"), "");
    }

    #[test]
    fn a_prefix_is_looked_for_where_mqtt_spells_it() {
        let retained = retained(&["a/x", "a.1/x", "ab", "a/%2F", "*", "*b", "a/50%", "a/%2Bx", "a/*", "wamp/a", "$a"]);
        let all = |uri: &str| {
            let filter = Filter::from_uri(uri, MatchPolicy::Prefix).unwrap();
            names(&all(&retained, &filter, 1).0).join(" ")
        };
        let table = [
            ("a%2E", "a.1/x"),
            ("a%", "a.1/x"),
            ("a.", "a/%2Bx a/%2F a/* a/50% a/x"),
            ("a.+", "a/%2Bx"),
            ("a.+x", "a/%2Bx"),
            ("a./", "a/%2F"),
            ("a.%2", "a/*"),
            ("a.50%", "a/50%"),
            ("*", "*b"),
            ("wam", ""),
            ("wamp.", "wamp/a"),
            ("$", "$a"),
        ];
        for (uri, expected) in table {
            assert_eq!(all(uri), expected, "{uri}");
        }
    }

    #[test]
    fn paging_agrees_with_covers_while_the_set_changes() {
        let mut chance = Chance(362_436_069_362_436_069);
        let mut found = 0;
        for _ in 0..5_000 {
            let mut retained = Retained::new();
            for _ in 0..40 {
                retained.set(publication(chance.topic().as_mqtt(), None), None);
            }
            let Some(filter) = chance.filter() else { continue };
            let mut lasting: BTreeSet<String> =
                retained.by_levels.values().map(|kept| kept.publication.topic.as_mqtt().to_owned()).collect();
            let (mut out, mut cursor) = (Vec::new(), None);
            loop {
                cursor = retained.page(&filter, cursor.as_ref(), 1 + chance.below(4), at(0), &mut out);
                if cursor.is_none() {
                    break;
                }
                retained.set(publication(chance.topic().as_mqtt(), None), None);
                let leaving = chance.topic();
                retained.clear(&leaving);
                lasting.remove(leaving.as_mqtt());
            }
            let seen = names(&out);
            let once: BTreeSet<&str> = seen.iter().copied().collect();
            assert_eq!(once.len(), seen.len(), "{filter:?} {seen:?}");
            assert!(seen.iter().all(|name| filter.covers(&topic(name))), "{filter:?} {seen:?}");
            assert!(lasting.iter().all(|name| !filter.covers(&topic(name)) || once.contains(&**name)), "{filter:?} {seen:?}");
            found += seen.len();
        }
        assert!(found > 5_000, "{found}");
    }

    #[test]
    fn what_a_filter_cannot_cover_is_skipped() {
        let mut retained = Retained::new();
        for index in 0..10_000 {
            retained.set(publication(&format!("a/{}/{}", index / 100, index % 100), None), None);
            retained.set(publication(&format!("$SYS/{index}"), None), None);
            retained.set(publication(&format!("wamp/{index}"), None), None);
        }
        retained.set(publication("zz", None), None);
        // Filter, messages, the most topics that may be looked at.
        let table = [
            ("a/+/50", 100, 310),
            ("a/50/+", 100, 102),
            ("a/50/#", 100, 102),
            ("a/+", 0, 210),
            ("+", 1, 10),
            ("+/+/7", 100, 320),
            ("#", 10_001, 10_010),
            ("b/#", 0, 2),
        ];
        for (text, count, steps) in table {
            let (found, pages) = all(&retained, &Filter::from_mqtt(text).unwrap(), 1);
            assert_eq!(found.len(), count, "{text}");
            assert!(pages <= steps, "{text}: {pages}");
        }
        for (uri, count, steps) in [("", 10_001, 10_010), ("a.5", 1_100, 1_102), ("a.50.", 100, 102), ("wamp.99", 111, 113)] {
            let (found, pages) = all(&retained, &Filter::from_uri(uri, MatchPolicy::Prefix).unwrap(), 1);
            assert_eq!(found.len(), count, "{uri}");
            assert!(pages <= steps, "{uri}: {pages}");
        }
    }
}
