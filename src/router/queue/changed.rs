//! The items of queues by their ranks, and which of them have changed since they were kept.
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Where an item stands in its queue: the id of the record that brought it there, and which of those that came with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Rank(pub u64, pub u32);

/// Which pieces have changed. Two states of queues are equal whatever is in it.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    is_tracked: bool,
    items: BTreeSet<Rank>,
    rest: bool,
}

impl PartialEq for Changed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Changed {}

impl Changed {
    /// From now on changes are noted.
    pub fn track(&mut self) {
        self.is_tracked = true;
    }

    /// The number of pieces that have changed.
    pub fn count(&self) -> usize {
        self.items.len() + usize::from(self.rest)
    }

    /// The items that have changed since the last time, and whether anything else has.
    pub fn take(&mut self) -> (BTreeSet<Rank>, bool) {
        (std::mem::take(&mut self.items), std::mem::take(&mut self.rest))
    }

    pub fn note_item(&mut self, rank: Rank) {
        if self.is_tracked {
            self.items.insert(rank);
        }
    }

    pub fn note_rest(&mut self) {
        self.rest = self.is_tracked;
    }
}
