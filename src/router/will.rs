//! Wills on record: what the connection of each session leaves behind, and which of those of an earlier process are due.
use std::collections::BTreeMap;

use crate::model::{Item, SessionId};
use crate::router::base::key::SessionKey;

/// The wills of a realm.
#[derive(Debug, Default)]
pub struct Wills {
    items: BTreeMap<SessionId, Item>,
    /// Sessions of an earlier process whose wills are due.
    due: Vec<SessionKey>,
}

impl Wills {
    /// A session leaves this behind, in place of what it did before.
    pub fn set(&mut self, session: SessionId, item: Item) {
        self.items.insert(session, item);
    }

    /// It leaves nothing behind any more; what it did.
    pub fn void(&mut self, session: SessionId) -> Option<Item> {
        self.items.remove(&session)
    }

    /// What a session leaves behind.
    pub fn of(&self, session: SessionId) -> Option<&Item> {
        self.items.get(&session)
    }

    /// Every session that leaves something behind.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.items.keys().copied()
    }

    /// The will of a session of an earlier process is due as soon as the end of that process has its place.
    pub fn note_due(&mut self, session: SessionKey) {
        self.due.push(session);
    }

    /// The sessions whose wills are due; there are none then.
    pub fn take_due(&mut self) -> Vec<SessionKey> {
        std::mem::take(&mut self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Payload;
    use crate::model::record::Kind;

    #[test]
    fn a_will_is_there_until_it_is_void() {
        let mut wills = Wills::default();
        let item = |time_ms| Item::of_kind(Kind::WILL, "r".into(), time_ms, Payload::empty());
        wills.set(SessionId(1), item(1));
        wills.set(SessionId(1), item(2));
        assert_eq!((wills.of(SessionId(1)), wills.sessions().count()), (Some(&item(2)), 1));
        assert_eq!((wills.void(SessionId(1)), wills.void(SessionId(1))), (Some(item(2)), None));
        wills.note_due(SessionKey::new(3, 1));
        assert_eq!((wills.take_due(), wills.take_due()), (vec![SessionKey::new(3, 1)], Vec::new()));
    }
}
