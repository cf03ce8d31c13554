//! Where each realm's order ends: the next id and the last time.
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::EventId;
use crate::store::input::{Input, put_bytes, put_varint};

/// The end of one realm's order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The number of the next id; one behind [`EventId::LAST`] once all are used.
    pub next: u64,
    /// The time of the last record, in milliseconds since the Unix epoch.
    pub last_time_ms: u64,
}

impl Head {
    /// Of a realm without a record.
    pub const START: Head = Head { next: EventId::FIRST.value(), last_time_ms: 0 };
}

/// The ends of all realms.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heads(BTreeMap<Arc<str>, Head>);

/// First byte of the frame that holds the heads at the start of a segment; records begin with their version.
pub const HEADS_TAG: u8 = 0xFF;

impl Heads {
    /// The end of `realm`.
    pub fn head(&self, realm: &str) -> Head {
        self.0.get(realm).copied().unwrap_or(Head::START)
    }

    /// The name of `realm`, shared, if it has a record.
    pub fn name(&self, realm: &str) -> Option<&Arc<str>> {
        self.0.get_key_value(realm).map(|(name, _)| name)
    }

    /// Moves the end of `realm`.
    pub fn set(&mut self, realm: &Arc<str>, head: Head) {
        match self.0.get_mut(realm) {
            Some(place) => *place = head,
            None => drop(self.0.insert(realm.clone(), head)),
        }
    }

    /// Every realm with a record.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Head)> {
        self.0.iter()
    }

    /// The body of the first frame of a segment.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![HEADS_TAG];
        put_varint(&mut out, self.0.len() as u64);
        for (realm, head) in &self.0 {
            put_bytes(&mut out, realm.as_bytes());
            put_varint(&mut out, head.next);
            put_varint(&mut out, head.last_time_ms);
        }
        out
    }

    /// The heads that `body` holds; `None` if it is something else.
    pub fn decode(body: &[u8]) -> Option<Heads> {
        let mut input = Input::new(body);
        if input.u8()? != HEADS_TAG {
            return None;
        }
        let mut heads = Heads::default();
        for _ in 0..input.varint()? {
            let realm = input.shared_text()?;
            heads.0.insert(realm, Head { next: input.varint()?, last_time_ms: input.varint()? });
        }
        input.is_empty().then_some(heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_were_written() {
        let mut heads = Heads::default();
        assert_eq!(Heads::decode(&heads.encode()), Some(heads.clone()));
        for (realm, next) in [("a", 1 << 52), ("b", 2)] {
            heads.set(&realm.into(), Head { next, last_time_ms: 7 });
        }
        let bytes = heads.encode();
        assert_eq!(Heads::decode(&bytes), Some(heads));
        assert!((0..bytes.len()).all(|end| Heads::decode(&bytes[..end]).is_none()));
    }
}
