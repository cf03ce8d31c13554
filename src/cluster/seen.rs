//! The keys that were ordered, and with which ids: bounded, and a function of the order alone.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::segment::{DedupKey, Digest, EventId};

/// Bounds of the keys that are remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeenLimits {
    /// Of one owner of keys: the newest.
    pub keys_per_owner: usize,
    /// Owners of keys: those that had a new key last.
    pub owners: usize,
    /// Memory for all together, about: who takes most of it loses its oldest keys.
    pub bytes: usize,
}

impl Default for SeenLimits {
    fn default() -> Self {
        SeenLimits { keys_per_owner: 65_535, owners: 100_000, bytes: 64 << 20 }
    }
}

/// Memory of a key besides its bytes, and of an owner besides its name and keys; about.
const KEY_BYTES: usize = 128;
const OWNER_BYTES: usize = 256;

/// The keys of one owner.
#[derive(Clone, Debug)]
struct Scope {
    ids: BTreeMap<Bytes, EventId>,
    oldest_first: VecDeque<Bytes>,
    newest: EventId,
    bytes: usize,
}

impl Scope {
    fn remember(&mut self, key: &[u8], id: EventId) {
        // A copy: the key may be a slice of something large.
        let key = Bytes::copy_from_slice(key);
        if self.ids.insert(key.clone(), id).is_some() {
            self.oldest_first.retain(|known| *known != key);
        } else {
            self.bytes = self.bytes.saturating_add(KEY_BYTES + key.len());
        }
        self.oldest_first.push_back(key);
        self.newest = id;
    }

    fn forget_oldest(&mut self) {
        if let Some(key) = self.oldest_first.pop_front() {
            self.ids.remove(&key);
            self.bytes = self.bytes.saturating_sub(KEY_BYTES + key.len());
        }
    }
}

/// The remembered keys.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    limits: SeenLimits,
    scopes: BTreeMap<Arc<str>, Scope>,
    /// The owners by their newest id.
    by_newest: BTreeMap<EventId, Arc<str>>,
    /// The owners by what they take.
    by_bytes: BTreeSet<(usize, Arc<str>)>,
    bytes: usize,
}

impl Seen {
    /// Nothing seen.
    pub fn new(limits: SeenLimits) -> Self {
        Seen { limits, ..Seen::default() }
    }

    /// The id that this key was given.
    pub fn find(&self, key: &DedupKey) -> Option<EventId> {
        self.scopes.get(&key.owner)?.ids.get(&key.key).copied()
    }

    /// Remembers a key that was just given this id: the largest so far, and no other key's.
    pub fn remember(&mut self, key: &DedupKey, id: EventId) {
        let bytes = OWNER_BYTES + key.owner.len();
        let new = || Scope { ids: BTreeMap::new(), oldest_first: VecDeque::new(), newest: id, bytes };
        let mut scope = self.take(&key.owner).unwrap_or_else(new);
        scope.remember(&key.key, id);
        self.put(key.owner.clone(), scope);
    }

    /// Forgets the keys over the bounds; `touched` are the owners that had new keys since. A resolver calls this at the end of a
    /// slot, so that all keys of one slot are judged by the same memory.
    pub fn forget_oldest(&mut self, touched: impl IntoIterator<Item = Arc<str>>) {
        for owner in touched {
            while self.scopes.get(&owner).is_some_and(|scope| scope.ids.len() > self.limits.keys_per_owner) {
                self.forget_oldest_of(&owner);
            }
        }
        while self.scopes.len() > self.limits.owners {
            let Some(owner) = self.by_newest.first_key_value().map(|(_, owner)| owner.clone()) else { break };
            self.take(&owner);
        }
        while self.bytes > self.limits.bytes {
            let Some(owner) = self.by_bytes.last().map(|(_, owner)| owner.clone()) else { break };
            self.forget_oldest_of(&owner);
        }
    }

    /// Every key with its id, by id.
    pub fn all(&self) -> Vec<(DedupKey, EventId)> {
        let of = |(owner, scope): (&Arc<str>, &Scope)| {
            let owner = owner.clone();
            let key = |(key, id): (&Bytes, &EventId)| (DedupKey { owner: owner.clone(), key: key.clone() }, *id);
            scope.ids.iter().map(key).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.scopes.iter().flat_map(of).collect();
        all.sort_unstable_by_key(|(_, id)| *id);
        all
    }

    /// The keys of one owner with their ids, by id.
    pub fn of(&self, owner: &str) -> Vec<(Bytes, EventId)> {
        let scope = self.scopes.get(owner);
        let mut all: Vec<_> = scope.into_iter().flat_map(|scope| &scope.ids).map(|(key, id)| (key.clone(), *id)).collect();
        all.sort_unstable_by_key(|(_, id)| *id);
        all
    }

    /// A digest of everything remembered.
    pub(crate) fn digest(&self, start: Digest) -> Digest {
        self.all().iter().fold(start, |digest, (key, id)| digest.key(key).word(u128::from(id.value())))
    }

    fn forget_oldest_of(&mut self, owner: &Arc<str>) {
        if let Some(mut scope) = self.take(owner) {
            scope.forget_oldest();
            if !scope.ids.is_empty() {
                self.put(owner.clone(), scope);
            }
        }
    }

    fn take(&mut self, owner: &Arc<str>) -> Option<Scope> {
        let (owner, scope) = self.scopes.remove_entry(owner)?;
        self.by_newest.remove(&scope.newest);
        self.bytes = self.bytes.saturating_sub(scope.bytes);
        self.by_bytes.remove(&(scope.bytes, owner));
        Some(scope)
    }

    fn put(&mut self, owner: Arc<str>, scope: Scope) {
        self.by_newest.insert(scope.newest, owner.clone());
        self.bytes = self.bytes.saturating_add(scope.bytes);
        self.by_bytes.insert((scope.bytes, owner.clone()));
        self.scopes.insert(owner, scope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(owner: &str, key: &str) -> DedupKey {
        DedupKey { owner: owner.into(), key: Bytes::copy_from_slice(key.as_bytes()) }
    }

    fn id(number: u64) -> EventId {
        EventId::new(number).unwrap()
    }

    fn limits(keys_per_owner: usize, owners: usize) -> SeenLimits {
        SeenLimits { keys_per_owner, owners, ..SeenLimits::default() }
    }

    #[test]
    fn the_oldest_keys_and_owners_go_first() {
        let mut seen = Seen::new(limits(2, 2));
        for n in 1..=3 {
            seen.remember(&key("a", &n.to_string()), id(n));
        }
        seen.forget_oldest(["a".into()]);
        assert_eq!(["1", "2", "3"].map(|k| seen.find(&key("a", k))), [None, Some(id(2)), Some(id(3))]);
        seen.remember(&key("b", "1"), id(4));
        seen.remember(&key("a", "4"), id(5));
        seen.remember(&key("c", "1"), id(6));
        seen.forget_oldest(["a", "b", "c"].map(Arc::from));
        assert_eq!(seen.find(&key("b", "1")), None, "b had no news for longest");
        assert_eq!(seen.all(), [(key("a", "3"), id(3)), (key("a", "4"), id(5)), (key("c", "1"), id(6))]);
        assert_eq!((seen.by_newest.len(), seen.by_bytes.len()), (2, 2));
    }

    #[test]
    fn who_takes_most_memory_pays_for_it() {
        let mut seen = Seen::new(SeenLimits { bytes: 10_000, ..SeenLimits::default() });
        seen.remember(&key("quiet", "1"), id(1));
        for n in 2..1000 {
            seen.remember(&key("loud", &n.to_string()), id(n));
            seen.forget_oldest(["loud".into()]);
            assert!(seen.bytes <= 10_000);
        }
        assert_eq!(seen.find(&key("quiet", "1")), Some(id(1)));
        assert_eq!((seen.find(&key("loud", "2")), seen.find(&key("loud", "999"))), (None, Some(id(999))));
        assert_eq!(seen.bytes, seen.scopes.values().map(|scope| scope.bytes).sum::<usize>());
        seen.remember(&key("loud", &"x".repeat(20_000)), id(1000));
        seen.forget_oldest(["loud".into()]);
        assert_eq!(seen.all(), [(key("quiet", "1"), id(1))], "one that is over it alone is not remembered");
    }
}
