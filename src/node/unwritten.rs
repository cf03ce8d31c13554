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

impl Default for Unwritten {
    fn default() -> Self {
        Unwritten { next: EventId::FIRST, seen: Seen::new(SeenLimits::default()) }
    }
}

impl Unwritten {
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
        let mut realm = Unwritten::default();
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
}
