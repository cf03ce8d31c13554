//! Wills: what the connection of each session leaves behind as it is on record, and which of those of an earlier process are due.
use std::collections::BTreeMap;

use crate::model::record::DedupKey;
use crate::model::{Record, SessionId};
use crate::router::base::key::SessionKey;

/// The owner of the keys of wills: no client's and no session's.
const WILLS: &str = "will";

/// The wills of a realm that are on record, and the changes that are on their way.
#[derive(Debug, Default)]
pub struct Wills {
    on_record: BTreeMap<SessionId, Record>,
    /// The number of changes of a session's will that have no place yet, and whether it has a will after the last.
    on_their_way: BTreeMap<SessionId, (usize, bool)>,
    /// Sessions of an earlier process whose wills are due.
    due: Vec<SessionKey>,
}

impl Wills {
    /// A change of a session's will is on record: the record of the will, or that there is none any more.
    pub fn set(&mut self, session: SessionId, record: Option<Record>) {
        match record {
            Some(record) => drop(self.on_record.insert(session, record)),
            None => drop(self.on_record.remove(&session)),
        }
    }

    /// The record of a session's will.
    pub fn of(&self, session: SessionId) -> Option<&Record> {
        self.on_record.get(&session)
    }

    /// Every session with a will on record.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.on_record.keys().copied()
    }

    /// The key of the publication of a session's will: the session and the place of the will. After a crash it may be asked for again.
    pub fn key_of(&self, session: SessionId) -> Option<Box<DedupKey>> {
        let id = self.on_record.get(&session)?.id;
        let key = [session.0.to_le_bytes(), id.value().to_le_bytes()].concat();
        Some(Box::new(DedupKey { owner: WILLS.into(), key: key.into() }))
    }

    /// True if a session will have one on record when everything has its place.
    pub fn is_expected(&self, session: SessionId) -> bool {
        let last = self.on_their_way.get(&session).map(|(_, has_will)| *has_will);
        last.unwrap_or_else(|| self.on_record.contains_key(&session))
    }

    /// A change of a session's will goes on its way; `has_will`: to another will.
    pub fn note_sent(&mut self, session: SessionId, has_will: bool) {
        let (count, last) = self.on_their_way.entry(session).or_default();
        (*count, *last) = (*count + 1, has_will);
    }

    /// The oldest has come back.
    pub fn note_back(&mut self, session: SessionId) {
        let Some((count, _)) = self.on_their_way.get_mut(&session) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.on_their_way.remove(&session);
        }
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
    use crate::model::record::Kind;
    use crate::model::{EventId, Item, Payload};

    fn record(id: u64) -> Record {
        let item = Item::of_kind(Kind::WILL, "r".into(), id, Payload::empty());
        Record { id: EventId::new(id).unwrap(), item }
    }

    #[test]
    fn a_will_is_on_record_until_its_end_is() {
        let (mut wills, session) = (Wills::default(), SessionId(1));
        wills.note_sent(session, true);
        assert!(wills.is_expected(session) && wills.of(session).is_none() && wills.key_of(session).is_none());
        wills.note_back(session);
        wills.set(session, Some(record(7)));
        let key = wills.key_of(session);
        wills.note_sent(session, false);
        assert!(!wills.is_expected(session) && wills.of(session) == Some(&record(7)) && key.is_some());
        wills.note_sent(session, true);
        wills.note_back(session);
        wills.set(session, None);
        assert!(wills.is_expected(session) && wills.sessions().count() == 0);
        wills.note_back(session);
        wills.set(session, Some(record(9)));
        assert!(wills.key_of(session) != key);
    }

    #[test]
    fn wills_are_due_once() {
        let mut wills = Wills::default();
        wills.note_due(SessionKey::new(3, 1));
        assert_eq!((wills.take_due(), wills.take_due()), (vec![SessionKey::new(3, 1)], Vec::new()));
    }
}
