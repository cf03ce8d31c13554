//! Places in the order of a realm that has no history: given at once, and known by nobody after the process.
use crate::cluster::seen::{Seen, SeenLimits};
use crate::model::EventId;
use crate::model::record::DedupKey;

/// The order of one realm, as far as anybody asks for it.
#[derive(Debug)]
pub struct Unwritten {
    next: EventId,
    seen: Seen,
}

impl Unwritten {
    /// A realm of a process that starts at `now_ms` (milliseconds since the Unix epoch). Its ids are above those of every process
    /// before, if these gave less than a million a second. So the tokens and ids that clients have from there name nothing here.
    pub fn start(now_ms: u64) -> Self {
        let next = EventId::new(now_ms.saturating_mul(1_024)).unwrap_or(EventId::FIRST);
        Unwritten { next, seen: Seen::new(SeenLimits::default()) }
    }

    /// The place of what comes next; with true that of its first copy, which came with the same key.
    pub fn place(&mut self, key: Option<&DedupKey>) -> (EventId, bool) {
        if let Some(first) = key.and_then(|key| self.seen.find(key)) {
            return (first, true);
        }
        let id = self.next;
        self.next = id.plus(1);
        if let Some(key) = key {
            self.seen.remember(key, id);
            self.seen.forget_oldest([key.owner.clone()]);
        }
        (id, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_place() {
        let key = |owner: &str, key: &'static str| DedupKey { owner: owner.into(), key: key.into() };
        let mut realm = Unwritten::start(0);
        let mut place = |key: Option<DedupKey>| {
            let (id, is_duplicate) = realm.place(key.as_ref());
            (id.value(), is_duplicate)
        };
        assert_eq!(place(None), (1, false));
        assert_eq!(place(Some(key("a", "1"))), (2, false));
        assert_eq!(place(Some(key("b", "1"))), (3, false));
        assert_eq!(place(Some(key("a", "1"))), (2, true));
        assert_eq!(place(None), (4, false));
    }

    #[test]
    fn a_process_gives_none_of_the_places_of_those_before() {
        let (mut first, mut second) = (Unwritten::start(1_800_000_000_000), Unwritten::start(1_800_000_000_001));
        for _ in 0..1_000 {
            first.place(None);
        }
        assert!(second.place(None).0 > first.place(None).0);
    }
}
