//! A learner of the ledger: decided slots in any order and any number of times, applied once and in slot order.
use std::collections::BTreeMap;

use super::message::Breach;
use super::resolver::{Outcome, Resolver};
use super::rule::{Rule, Rules};
use super::seen::SeenLimits;
use super::segment::{LedgerEntry, Slot};

/// Slots that are kept while one before them is missing; those farthest ahead are learned again later.
pub const MAX_AHEAD: usize = 1024;

/// A slot that was applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// Which.
    pub slot: Slot,
    /// Its value.
    pub entry: LedgerEntry,
    /// Its outcomes, in order.
    pub outcomes: Vec<Outcome>,
}

/// A resolver and the slots that it cannot apply yet.
#[derive(Clone, Debug)]
pub struct Learner {
    /// The state after the slots that were applied.
    pub resolver: Resolver,
    ahead: BTreeMap<Slot, LedgerEntry>,
    rules: Rules,
}

impl Learner {
    /// Before the first slot.
    pub fn new(rules: Rules) -> Self {
        Learner { resolver: Resolver::new(SeenLimits::default(), rules), ahead: BTreeMap::new(), rules }
    }

    /// Takes a decided slot; what could be applied with it, in order.
    pub fn handle_decided(&mut self, slot: Slot, entry: LedgerEntry) -> Result<Vec<Applied>, Breach> {
        if slot <= self.resolver.applied() {
            return Ok(Vec::new());
        }
        if *self.ahead.entry(slot).or_insert_with(|| entry.clone()) != entry {
            return Err(Breach::Agreement(slot));
        }
        let mut applied = Vec::new();
        while let Some((&slot, _)) = self.ahead.first_key_value() {
            if slot != self.resolver.applied().next() && self.rules.keeps(Rule::SlotOrder) {
                break;
            }
            let Some((slot, entry)) = self.ahead.pop_first() else { break };
            let mut outcomes = Vec::new();
            if self.resolver.apply(slot, &entry, &mut outcomes).is_ok() {
                applied.push(Applied { slot, entry, outcomes });
            }
        }
        if self.ahead.len() > MAX_AHEAD {
            self.ahead.pop_last();
        }
        Ok(applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_wait_for_those_before_them() {
        let mut learner = Learner::new(Rules::default());
        let entry = |dt_ms| LedgerEntry { dt_ms, ops: Vec::new() };
        let slots = |applied: Vec<Applied>| applied.into_iter().map(|applied| applied.slot.0).collect::<Vec<_>>();
        assert_eq!(slots(learner.handle_decided(Slot(3), entry(3)).unwrap()), [0; 0]);
        assert_eq!(learner.handle_decided(Slot(3), entry(9)), Err(Breach::Agreement(Slot(3))));
        assert_eq!(slots(learner.handle_decided(Slot(1), entry(1)).unwrap()), [1]);
        assert_eq!(slots(learner.handle_decided(Slot(2), entry(2)).unwrap()), [2, 3]);
        assert_eq!(slots(learner.handle_decided(Slot(2), entry(2)).unwrap()), [0; 0]);
        for slot in 5..2000 {
            learner.handle_decided(Slot(slot), entry(slot)).unwrap();
        }
        assert_eq!(learner.ahead.len(), MAX_AHEAD);
    }
}
