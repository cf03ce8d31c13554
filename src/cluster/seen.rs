//! The keys that were ordered, and with which ids: bounded, and a function of the order alone.
use std::collections::{BTreeMap, VecDeque};

use super::segment::{DedupKey, Digest, EventId};

/// How many keys are remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeenLimits {
    /// Of one scope: the newest.
    pub keys_per_scope: usize,
    /// Scopes: those that had a new key last.
    pub scopes: usize,
}

impl Default for SeenLimits {
    fn default() -> Self {
        SeenLimits { keys_per_scope: 65_535, scopes: 100_000 }
    }
}

/// The keys of one scope.
#[derive(Clone, Debug, Default)]
struct Scope {
    ids: BTreeMap<u64, EventId>,
    oldest_first: VecDeque<u64>,
    newest: EventId,
}

/// The remembered keys.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    limits: SeenLimits,
    scopes: BTreeMap<u64, Scope>,
    /// The scopes by their newest id.
    by_newest: BTreeMap<EventId, u64>,
}

impl Seen {
    /// Nothing seen.
    pub fn new(limits: SeenLimits) -> Self {
        Seen { limits, ..Seen::default() }
    }

    /// The id that this key was given.
    pub fn find(&self, key: DedupKey) -> Option<EventId> {
        self.scopes.get(&key.scope)?.ids.get(&key.key).copied()
    }

    /// Remembers a key that was just given this id: the largest so far, and no other key's.
    pub fn remember(&mut self, key: DedupKey, id: EventId) {
        let scope = self.scopes.entry(key.scope).or_default();
        if scope.ids.insert(key.key, id).is_none() {
            scope.oldest_first.push_back(key.key);
        }
        self.by_newest.remove(&scope.newest);
        scope.newest = id;
        self.by_newest.insert(id, key.scope);
    }

    /// Forgets what is over the bounds: of each of these scopes the oldest keys, then the scopes without news for longest.
    /// Called at the end of a slot, so that all keys of one slot are judged by the same memory.
    pub fn forget_oldest(&mut self, touched: impl IntoIterator<Item = u64>) {
        for name in touched {
            let Some(scope) = self.scopes.get_mut(&name) else { continue };
            while scope.oldest_first.len() > self.limits.keys_per_scope {
                let Some(key) = scope.oldest_first.pop_front() else { break };
                scope.ids.remove(&key);
            }
        }
        while self.scopes.len() > self.limits.scopes {
            let Some((_, name)) = self.by_newest.pop_first() else { break };
            self.scopes.remove(&name);
        }
    }

    /// Every key with its id, by id.
    pub fn all(&self) -> Vec<(DedupKey, EventId)> {
        let of = |(scope, keys): (&u64, &Scope)| {
            let scope = *scope;
            keys.ids.iter().map(move |(key, id)| (DedupKey { scope, key: *key }, *id)).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.scopes.iter().flat_map(of).collect();
        all.sort_unstable_by_key(|(_, id)| *id);
        all
    }

    /// A digest of everything remembered.
    pub(crate) fn digest(&self, start: Digest) -> Digest {
        let add = |digest: Digest, (key, id): (DedupKey, EventId)| {
            digest.word(u128::from(key.scope) << 64 | u128::from(key.key)).word(u128::from(id.0))
        };
        self.all().into_iter().fold(start, add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scope: u64, key: u64) -> DedupKey {
        DedupKey { scope, key }
    }

    #[test]
    fn the_oldest_keys_and_scopes_go_first() {
        let mut seen = Seen::new(SeenLimits { keys_per_scope: 2, scopes: 2 });
        for n in 1..=3 {
            seen.remember(key(1, n), EventId(n));
        }
        seen.forget_oldest([1]);
        assert_eq!([1, 2, 3].map(|n| seen.find(key(1, n))), [None, Some(EventId(2)), Some(EventId(3))]);
        seen.remember(key(2, 1), EventId(4));
        seen.remember(key(1, 4), EventId(5));
        seen.remember(key(3, 1), EventId(6));
        seen.forget_oldest([1, 2, 3]);
        assert_eq!(seen.find(key(2, 1)), None, "scope 2 had no news for longest");
        assert_eq!(seen.all(), [(key(1, 3), EventId(3)), (key(1, 4), EventId(5)), (key(3, 1), EventId(6))]);
        assert_eq!(seen.by_newest.len(), 2);
    }
}
