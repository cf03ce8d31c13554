//! The resolver turns decided slots into ids, one after the other, with the same result on every node that applied the same slots.
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::held::Held;
use super::rule::{Rule, Rules};
use super::seen::{Seen, SeenLimits};
use super::segment::{
    DedupKey, Digest, EventId, GroupId, Incarnation, Join, LedgerEntry, NodeId, Op, Pseq, SegRef, SegmentKey, Slot,
};

/// The grants of one owner that are remembered by their nonces, at most.
pub const MAX_JOINED: usize = 64;

/// One outcome of applying a slot; they come in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Items got ids: `from` gets `first_id`, and so on to `to`.
    Ordered {
        /// The segment they are in.
        key: SegmentKey,
        /// Where that is.
        group: GroupId,
        /// The first of them.
        from: Pseq,
        /// The last of them.
        to: Pseq,
        /// The id of the first.
        first_id: EventId,
    },
    /// An item has the key of an earlier one: it is answered with that one's id, and is not in history.
    Duplicate {
        /// The segment it is in.
        key: SegmentKey,
        /// The item.
        pseq: Pseq,
        /// The id of its first copy.
        id: EventId,
    },
    /// SESSION_GONE: another process took over, the connections of this life have ended.
    Gone {
        /// The entry.
        owner: NodeId,
        /// The life that ended.
        incarnation: Incarnation,
        /// The place of the end in the order.
        id: EventId,
    },
    /// A life was granted.
    Joined {
        /// To whom.
        owner: NodeId,
        /// Which.
        incarnation: Incarnation,
        /// The nonce by which the process knows its grant.
        nonce: u128,
    },
    /// A segment waits for those before it.
    Held(SegmentKey),
    /// A segment is void: of another life, or ordered already.
    Dropped(SegmentKey),
}

/// A slot that does not follow the one applied last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfOrder {
    /// The slot that must come next.
    pub expected: Slot,
}

/// The state of an entry that has, or had, a life.
#[derive(Clone, Debug)]
struct Owner {
    /// The present life.
    incarnation: Incarnation,
    /// Its first item that has no id: all before it have one.
    next: Pseq,
    /// Segments of this life that begin behind `next`.
    held: Held,
    /// The latest grants, oldest first.
    joined: VecDeque<(u128, Incarnation)>,
}

impl Owner {
    fn new(incarnation: Incarnation) -> Self {
        Owner { incarnation, next: Pseq(1), held: Held::default(), joined: VecDeque::new() }
    }

    /// The fate of a segment: exactly one of three, by where `next` is.
    fn judge(&self, x: &SegRef, rules: Rules) -> Verdict {
        let is_ordered = x.to < self.next && rules.keeps(Rule::DropOrdered);
        if x.key.stream.incarnation != self.incarnation || is_ordered {
            return Verdict::Drop;
        }
        if x.from > self.next && rules.keeps(Rule::HoldBack) {
            return Verdict::Hold;
        }
        let is_known = x.from < self.next && rules.keeps(Rule::DropOrdered);
        Verdict::Order(if is_known { self.next } else { x.from })
    }
}

/// The fate of a segment.
enum Verdict {
    /// The segment is void: of another life, or all of it has ids.
    Drop,
    /// Items before it are missing.
    Hold,
    /// Its items from here on get ids.
    Order(Pseq),
}

/// Gives ids: shared by what is decided and what is forecast.
struct Pen<'a> {
    seen: &'a Seen,
    /// Keys of the slot at hand.
    fresh: &'a mut BTreeMap<DedupKey, EventId>,
    next_id: &'a mut EventId,
    rules: Rules,
}

impl Pen<'_> {
    fn order(&mut self, x: &SegRef, from: Pseq, outcomes: &mut Vec<Outcome>) {
        let mut start = from;
        let mut last = Pseq(0);
        for (pseq, key) in &x.dedup {
            let pseq = *pseq;
            if pseq < from || pseq > x.to || pseq <= last {
                continue;
            }
            last = pseq;
            let known = self.fresh.get(key).copied().or_else(|| self.seen.find(key));
            if let Some(id) = known.filter(|_| self.rules.keeps(Rule::KeyedOnce)) {
                self.run(x, start, pseq, outcomes);
                outcomes.push(Outcome::Duplicate { key: x.key, pseq, id });
                start = pseq.next();
            } else {
                self.fresh.insert(key.clone(), self.next_id.plus(pseq.0.saturating_sub(start.0)));
            }
        }
        self.run(x, start, x.to.next(), outcomes);
    }

    /// Ids for `start..end`.
    fn run(&mut self, x: &SegRef, start: Pseq, end: Pseq, outcomes: &mut Vec<Outcome>) {
        let count = end.0.saturating_sub(start.0);
        if count > 0 {
            let (from, to) = (start, Pseq(end.0.saturating_sub(1)));
            outcomes.push(Outcome::Ordered { key: x.key, group: x.group, from, to, first_id: *self.next_id });
            *self.next_id = self.next_id.plus(count);
        }
    }
}

/// The state that all learners of a ledger share.
#[derive(Clone, Debug)]
pub struct Resolver {
    applied: Slot,
    next_id: EventId,
    dt_ms: u64,
    owners: BTreeMap<NodeId, Owner>,
    seen: Seen,
    fresh: BTreeMap<DedupKey, EventId>,
    rules: Rules,
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver::new(SeenLimits::default(), Rules::default())
    }
}

impl Resolver {
    /// Before the first slot.
    pub fn new(limits: SeenLimits, rules: Rules) -> Self {
        let seen = Seen::new(limits);
        let owners = BTreeMap::new();
        Resolver { applied: Slot(0), next_id: EventId::FIRST, dt_ms: 0, owners, seen, fresh: BTreeMap::new(), rules }
    }

    /// Goes on where a log ends, with one owner and its latest life there (0 = none). Slots count from 1 again.
    pub(crate) fn resume(&mut self, owner: NodeId, incarnation: Incarnation, next_id: EventId, dt_ms: u64, seen: Seen) {
        (self.next_id, self.dt_ms, self.seen) = (next_id, dt_ms, seen);
        if incarnation > Incarnation(0) {
            self.owners.insert(owner, Owner::new(incarnation));
        }
    }

    /// The slot applied last.
    pub fn applied(&self) -> Slot {
        self.applied
    }

    /// The id that the next item gets: all below are given, for good (I7).
    pub fn next_id(&self) -> EventId {
        self.next_id
    }

    /// The time of the slot applied last: it only grows.
    pub fn dt_ms(&self) -> u64 {
        self.dt_ms
    }

    /// The life of an entry, 0 before its first, and the next of its items to be ordered.
    pub fn owner(&self, owner: NodeId) -> (Incarnation, Pseq) {
        self.owners.get(&owner).map_or((Incarnation(0), Pseq(1)), |owner| (owner.incarnation, owner.next))
    }

    /// The life that was granted for this nonce, among the latest [`MAX_JOINED`] of the owner.
    pub fn granted(&self, owner: NodeId, nonce: u128) -> Option<Incarnation> {
        self.owners.get(&owner)?.joined.iter().find(|(known, _)| *known == nonce).map(|(_, incarnation)| *incarnation)
    }

    /// Whether electing this segment could still order something.
    pub fn is_open(&self, x: &SegRef) -> bool {
        let (incarnation, next) = self.owner(x.key.stream.owner);
        let stream = x.key.stream.incarnation;
        stream > incarnation || (stream == incarnation && x.to >= next)
    }

    /// The keys that are remembered, with their ids, by id.
    pub fn seen(&self) -> Vec<(DedupKey, EventId)> {
        self.seen.all()
    }

    /// The keys of one owner with their ids, by id.
    pub fn seen_of(&self, owner: &str) -> Vec<(bytes::Bytes, EventId)> {
        self.seen.of(owner)
    }

    /// Applies the value of a slot, which must follow the one before (R5).
    pub fn apply(&mut self, slot: Slot, entry: &LedgerEntry, outcomes: &mut Vec<Outcome>) -> Result<(), OutOfOrder> {
        let expected = self.applied.next();
        if slot != expected && self.rules.keeps(Rule::SlotOrder) {
            return Err(OutOfOrder { expected });
        }
        self.dt_ms = self.dt_ms.max(entry.dt_ms);
        for op in &entry.ops {
            match op {
                Op::Segment(x) => self.segment(x, outcomes),
                Op::Join(join) => self.join(join, outcomes),
            }
        }
        self.remember_fresh();
        self.applied = slot;
        Ok(())
    }

    /// The outcomes that electing this segment in the next slot would bring, if it follows its owner's last ordered item.
    #[allow(clippy::mutable_key_type)] // The bytes of a key never change.
    pub fn forecast(&self, x: &SegRef) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut next_id = self.next_id;
        let fresh = &mut BTreeMap::new();
        let mut pen = Pen { seen: &self.seen, fresh, next_id: &mut next_id, rules: self.rules };
        pen.order(x, x.from, &mut outcomes);
        outcomes
    }

    /// Judges a segment, and then what it releases, one after the other: what is held is never what could be ordered.
    fn segment(&mut self, x: &SegRef, outcomes: &mut Vec<Outcome>) {
        let Some(owner) = self.owners.get_mut(&x.key.stream.owner) else {
            return outcomes.push(Outcome::Dropped(x.key)); // Its entry never had a life.
        };
        let mut pen = Pen { seen: &self.seen, fresh: &mut self.fresh, next_id: &mut self.next_id, rules: self.rules };
        let mut at_hand = Some(Cow::Borrowed(x));
        while let Some(x) = at_hand {
            match owner.judge(&x, self.rules) {
                Verdict::Order(from) => {
                    pen.order(&x, from, outcomes);
                    owner.next = owner.next.max(x.to.next());
                }
                Verdict::Hold if owner.held.hold(&x) => outcomes.push(Outcome::Held(x.key)),
                Verdict::Hold | Verdict::Drop => outcomes.push(Outcome::Dropped(x.key)),
            }
            at_hand = owner.held.release(owner.next).map(Cow::Owned);
        }
    }

    /// Orders what is left of the life that ends, and grants the next, in one (R8). Only that life's segments are its tail: the
    /// ids are the same in whatever order the list has them.
    fn join(&mut self, join: &Join, outcomes: &mut Vec<Outcome>) {
        let (before, _) = self.owner(join.owner);
        if join.incarnation != before.next() {
            return; // Not the life that follows: another grant came first (R7).
        }
        let is_tail = |x: &SegRef| x.key.stream.owner == join.owner && x.key.stream.incarnation == before;
        let mut recovered: Vec<&SegRef> = join.recovered.iter().collect();
        recovered.sort_by_key(|x| (x.from, x.key.segment, x.to));
        for x in recovered {
            if is_tail(x) {
                self.segment(x, outcomes);
            } else {
                outcomes.push(Outcome::Dropped(x.key));
            }
        }
        let owner = self.owners.entry(join.owner).or_insert_with(|| Owner::new(before));
        let is_same_process = join.prev_nonce.is_some_and(|nonce| owner.joined.contains(&(nonce, before)));
        let mut joined = std::mem::take(&mut owner.joined);
        joined.push_back((join.nonce, join.incarnation));
        if joined.len() > MAX_JOINED {
            joined.pop_front();
        }
        // The segments held of the old life are behind a gap and were never acknowledged, so they go.
        *owner = Owner { joined, ..Owner::new(join.incarnation) };
        if before > Incarnation(0) && !is_same_process {
            outcomes.push(Outcome::Gone { owner: join.owner, incarnation: before, id: self.next_id });
            self.next_id = self.next_id.plus(1);
        }
        outcomes.push(Outcome::Joined { owner: join.owner, incarnation: join.incarnation, nonce: join.nonce });
    }

    fn remember_fresh(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let mut fresh: Vec<_> = std::mem::take(&mut self.fresh).into_iter().collect();
        fresh.sort_unstable_by_key(|(_, id)| *id);
        let owners: BTreeSet<Arc<str>> = fresh.iter().map(|(key, _)| key.owner.clone()).collect();
        for (key, id) in fresh {
            self.seen.remember(&key, id);
        }
        self.seen.forget_oldest(owners);
    }

    /// A digest of the whole state: learners that applied the same slots have the same (I2).
    pub fn digest(&self) -> Digest {
        let start = Digest::default()
            .word(u128::from(self.applied.0))
            .word(u128::from(self.next_id.value()))
            .word(u128::from(self.dt_ms));
        let mut digest = self.seen.digest(start);
        for (name, owner) in &self.owners {
            digest = digest.word(u128::from(name.0)).word(u128::from(owner.incarnation.0)).word(u128::from(owner.next.0));
            for x in owner.held.iter() {
                let place = digest.word(u128::from(x.from.0)).word(u128::from(x.to.0));
                digest = place.word(u128::from(x.key.segment.0)).word(x.digest.0);
            }
            for (nonce, incarnation) in &owner.joined {
                digest = digest.word(*nonce).word(u128::from(incarnation.0));
            }
        }
        digest
    }
}

#[cfg(test)]
mod tests;
