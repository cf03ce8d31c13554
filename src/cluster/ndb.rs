//! An ndb: keeps the bodies of segments, says what it holds durably, and stops taking from a life that is fenced.
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::learner::Learner;
use super::message::{Breach, Effect, Message, NdbWrite, Peer, Report};
use super::quorum::Members;
use super::rule::{Rule, Rules};
use super::segment::{GroupId, Incarnation, Item, LedgerEntry, NodeId, Op, Pseq, SegRef, SegmentKey, Slot, SyncToken};

/// Weight of the items that an ndb holds before they are ordered; what comes above it is not taken.
pub const MAX_UNRESOLVED_BYTES: u64 = 256 << 20;

/// A segment that is not ordered yet, as far as it is durable here.
#[derive(Clone, Debug)]
struct Stored {
    group: GroupId,
    from: Pseq,
    items: BTreeMap<Pseq, Item>,
    /// The first place that is missing.
    missing: Pseq,
    /// Where it was said to end.
    overs: BTreeSet<SegRef>,
    /// The ends that are complete here.
    drafted: BTreeSet<SegRef>,
}

impl Stored {
    fn new(group: GroupId, from: Pseq) -> Self {
        Stored { group, from, items: BTreeMap::new(), missing: from, overs: BTreeSet::new(), drafted: BTreeSet::new() }
    }

    /// The items from the first on, without gap.
    fn whole(&self) -> impl Iterator<Item = &Item> {
        self.items.range(self.from..self.missing.max(self.from)).map(|(_, item)| item)
    }

    /// The last of them; before `from` if there is none.
    fn durable_to(&self) -> Pseq {
        Pseq(self.missing.0.saturating_sub(1))
    }

    /// Finds the ends that are complete, with the digest that was announced (N2).
    fn draft(&mut self, key: SegmentKey) {
        while self.items.contains_key(&self.missing) {
            self.missing = self.missing.next();
        }
        let durable_to = self.durable_to();
        for over in &self.overs {
            if over.to > durable_to || self.drafted.contains(over) {
                continue;
            }
            let count = over.to.next().0.saturating_sub(self.from.0);
            let items = self.whole().take(usize::try_from(count).unwrap_or(usize::MAX));
            if SegRef::of(key, self.group, self.from, items).is_some_and(|whole| whole == *over) {
                self.drafted.insert(over.clone());
            }
        }
    }
}

/// A write that is not durable yet.
#[derive(Debug)]
struct Unsynced {
    write: NdbWrite,
    /// Whom to tell that a fence is durable.
    asked: Option<(NodeId, u128)>,
}

/// One node of a group, for one ledger.
#[derive(Debug)]
pub struct Ndb {
    node: NodeId,
    members: Members,
    rules: Rules,
    learner: Learner,
    stored: BTreeMap<SegmentKey, Stored>,
    fences: BTreeMap<NodeId, Incarnation>,
    /// The same, with those that are not durable yet.
    fences_soon: BTreeMap<NodeId, Incarnation>,
    unresolved_bytes: u64,
    unsynced_bytes: u64,
    unsynced: VecDeque<Unsynced>,
    /// The sync in flight, and how many writes it covers.
    syncing: Option<(SyncToken, usize)>,
    next_token: SyncToken,
    next_teacher: usize,
    effects: VecDeque<Effect>,
}

impl Ndb {
    /// Starts with what its log says, in the order of the log.
    pub fn start(node: NodeId, members: Members, log: impl IntoIterator<Item = NdbWrite>) -> Self {
        Self::start_with(node, members, log, Rules::default())
    }

    pub(crate) fn start_with(node: NodeId, members: Members, log: impl IntoIterator<Item = NdbWrite>, rules: Rules) -> Self {
        let mut ndb = Ndb {
            node,
            members,
            rules,
            learner: Learner::new(rules),
            stored: BTreeMap::new(),
            fences: BTreeMap::new(),
            fences_soon: BTreeMap::new(),
            unresolved_bytes: 0,
            unsynced_bytes: 0,
            unsynced: VecDeque::new(),
            syncing: None,
            next_token: SyncToken(1),
            next_teacher: 0,
            effects: VecDeque::new(),
        };
        for write in log {
            ndb.apply(write);
        }
        ndb
    }

    /// The effect that is to be carried out next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.effects.is_empty() && self.syncing.is_none() && !self.unsynced.is_empty() {
            let token = self.next_token;
            self.next_token = token.next();
            self.syncing = Some((token, self.unsynced.len()));
            self.effects.push_back(Effect::Sync { token });
        }
        self.effects.pop_front()
    }

    /// A message arrived.
    pub fn handle_message(&mut self, message: Message) {
        match message {
            Message::KeepAdvanceHistory { key, group, from, first, items, over } => {
                if !self.accepts(key) || !self.has_room(&items) {
                    return;
                }
                self.write(NdbWrite::Keep { key, group, from, first, items }, None);
                if let Some(over) = over {
                    self.write(NdbWrite::Over(over), None);
                }
            }
            Message::AdvanceSegmentOver(over) => {
                let accepts = self.accepts(over.key);
                if accepts {
                    self.write(NdbWrite::Over(over), None);
                }
            }
            Message::FenceEntry { owner, incarnation, sync, nonce } => {
                // Behind all that was taken, in the log too: its sync makes the tail durable with it (N3).
                self.write(NdbWrite::Fence { owner, incarnation }, Some((sync, nonce)));
            }
            Message::CopyAdvanceHistory { segment, items } => {
                // No fence is asked: the recovery that copies is what fenced (N4).
                let SegRef { key, group, from, .. } = segment;
                self.write(NdbWrite::Keep { key, group, from, first: from, items }, None);
                self.write(NdbWrite::Over(segment), None);
            }
            Message::AdvanceSegmentResolved { slot, entry } => self.handle_decided(slot, entry),
            _ => {}
        }
    }

    /// The sync with this token is done.
    pub fn handle_synced(&mut self, token: SyncToken) {
        let Some((_, count)) = self.syncing.take_if(|(syncing, _)| *syncing == token) else { return };
        let durable: Vec<Unsynced> = self.unsynced.drain(..count.min(self.unsynced.len())).collect();
        let mut touched = BTreeSet::new();
        let mut fenced = Vec::new();
        for Unsynced { write, asked } in durable {
            match &write {
                NdbWrite::Keep { key, items, .. } => {
                    self.unsynced_bytes = self.unsynced_bytes.saturating_sub(weight(items));
                    touched.insert(*key);
                }
                NdbWrite::Over(over) => drop(touched.insert(over.key)),
                NdbWrite::Fence { owner, incarnation } => fenced.extend(asked.map(|asked| (*owner, *incarnation, asked))),
            }
            self.apply(write);
        }
        for key in touched {
            self.announce(key);
        }
        for (owner, incarnation, (sync, nonce)) in fenced {
            let reports = self.reports(owner, incarnation);
            let message = Message::EntryFenced { owner, incarnation, nonce, ndb: self.node, reports };
            self.effects.push_back(Effect::Send { to: Peer::Sync(sync), message });
        }
    }

    /// Called every so often: announces again what is not ordered (N5), and asks for slots.
    pub fn handle_tick(&mut self) {
        let keys: Vec<SegmentKey> = self.stored.keys().copied().collect();
        for key in keys {
            self.announce(key);
        }
        self.next_teacher = self.next_teacher.wrapping_add(1);
        let teacher = self.next_teacher.checked_rem(self.members.syncs.len()).and_then(|at| self.members.syncs.get(at));
        if let Some(teacher) = teacher {
            let message = Message::Learn { from: Peer::Ndb(self.node), after: self.learner.resolver.applied() };
            self.effects.push_back(Effect::Send { to: Peer::Sync(*teacher), message });
        }
    }

    /// The resolver of this node.
    pub fn resolver(&self) -> &super::resolver::Resolver {
        &self.learner.resolver
    }

    fn handle_decided(&mut self, slot: Slot, entry: LedgerEntry) {
        match self.learner.handle_decided(slot, entry) {
            Ok(all) => {
                for applied in all {
                    self.check_digests(&applied.entry);
                    self.effects.push_back(Effect::Resolved { slot: applied.slot, outcomes: applied.outcomes });
                }
                self.drop_resolved();
            }
            Err(breach) => self.effects.push_back(Effect::Fatal(breach)),
        }
    }

    /// An elected segment that is held here must equal the one that is held (I4).
    fn check_digests(&mut self, entry: &LedgerEntry) {
        let segments = entry.ops.iter().flat_map(|op| match op {
            Op::Segment(x) => std::slice::from_ref(x),
            Op::Join(join) => &join.recovered,
        });
        for x in segments {
            let Some(stored) = self.stored.get(&x.key).filter(|stored| stored.group == x.group) else { continue };
            let count = usize::try_from(x.to.next().0.saturating_sub(x.from.0)).unwrap_or(usize::MAX);
            let here = SegRef::of(x.key, x.group, stored.from, stored.whole().take(count));
            if let Some(here) = here.filter(|here| here.to == x.to && here != x) {
                self.effects.push_back(Effect::Fatal(Breach::Certificate(x.key, here.digest)));
            }
        }
    }

    /// Drops the segments that are ordered, or of an older life: they are no longer temporary (N7).
    fn drop_resolved(&mut self) {
        let resolver = &self.learner.resolver;
        let unresolved_bytes = &mut self.unresolved_bytes;
        self.stored.retain(|key, stored| {
            let (incarnation, next) = resolver.owner(key.stream.owner);
            let last = stored.items.last_key_value().map_or(stored.from, |(last, _)| *last);
            let life = key.stream.incarnation;
            let is_open = life > incarnation || (life == incarnation && last >= next);
            if !is_open {
                *unresolved_bytes = unresolved_bytes.saturating_sub(weight(stored.items.values()));
            }
            is_open
        });
    }

    /// Whether the life may still write here; it is told if not (N1).
    fn accepts(&mut self, key: SegmentKey) -> bool {
        let fenced = self.fences_soon.get(&key.stream.owner).copied().unwrap_or_default();
        let accepts = key.stream.incarnation > fenced || !self.rules.keeps(Rule::Fence);
        if !accepts {
            let message = Message::Refused { stream: key.stream, fenced };
            self.effects.push_back(Effect::Send { to: Peer::Entry(key.stream.owner), message });
        }
        accepts
    }

    fn has_room(&self, items: &[Item]) -> bool {
        let bytes = weight(items);
        self.unresolved_bytes.saturating_add(self.unsynced_bytes).saturating_add(bytes) <= MAX_UNRESOLVED_BYTES
    }

    fn write(&mut self, write: NdbWrite, asked: Option<(NodeId, u128)>) {
        match &write {
            NdbWrite::Keep { items, .. } => self.unsynced_bytes = self.unsynced_bytes.saturating_add(weight(items)),
            NdbWrite::Fence { owner, incarnation } => raise(&mut self.fences_soon, *owner, *incarnation),
            NdbWrite::Over(_) => {}
        }
        self.effects.push_back(Effect::Write(write.clone()));
        self.unsynced.push_back(Unsynced { write, asked });
        if !self.rules.keeps(Rule::SyncFirst) {
            let token = self.next_token;
            self.syncing = Some((token, self.unsynced.len()));
            self.handle_synced(token);
        }
    }

    /// Applies a write that is durable, at run time and at the start alike.
    fn apply(&mut self, write: NdbWrite) {
        match write {
            NdbWrite::Keep { key, group, from, first, items } => {
                let stored = self.stored.entry(key).or_insert_with(|| Stored::new(group, from));
                let mut at = first;
                for item in items {
                    match stored.items.get(&at) {
                        None => {
                            self.unresolved_bytes = self.unresolved_bytes.saturating_add(u64::from(item.weight));
                            stored.items.insert(at, item);
                        }
                        Some(here) if *here != item => self.effects.push_back(Effect::Fatal(Breach::Content(key, at))),
                        Some(_) => {}
                    }
                    at = at.next();
                }
                stored.draft(key);
            }
            NdbWrite::Over(over) => {
                let key = over.key;
                let stored = self.stored.entry(key).or_insert_with(|| Stored::new(over.group, over.from));
                stored.overs.insert(over);
                stored.draft(key);
            }
            NdbWrite::Fence { owner, incarnation } => {
                raise(&mut self.fences, owner, incarnation);
                raise(&mut self.fences_soon, owner, incarnation);
            }
        }
    }

    /// TRIM to the entry, unless it is fenced (R9), and a draft of each complete end to every sync.
    fn announce(&mut self, key: SegmentKey) {
        let is_fenced = key.stream.incarnation <= self.fences.get(&key.stream.owner).copied().unwrap_or_default();
        let Some(stored) = self.stored.get(&key) else { return };
        let durable_to = stored.durable_to();
        let breaks_fence = !self.rules.keeps(Rule::NoTrimAfterFence) || !self.rules.keeps(Rule::Fence);
        if durable_to >= stored.from && (!is_fenced || breaks_fence) {
            let credit_bytes = MAX_UNRESOLVED_BYTES.saturating_sub(self.unresolved_bytes.saturating_add(self.unsynced_bytes));
            let message = Message::TrimAdvanceSegment { key, ndb: self.node, durable_to, credit_bytes };
            self.effects.push_back(Effect::Send { to: Peer::Entry(key.stream.owner), message });
        }
        for segment in stored.drafted.iter().filter(|segment| self.learner.resolver.is_open(segment)) {
            for sync in &self.members.syncs {
                let message = Message::GenerateDraft { segment: segment.clone(), ndb: self.node };
                self.effects.push_back(Effect::Send { to: Peer::Sync(*sync), message });
            }
        }
    }

    /// The items held of this life that are not ordered as far as is known here.
    fn reports(&self, owner: NodeId, incarnation: Incarnation) -> Vec<Report> {
        let of = self.stored.iter().filter(|(key, _)| key.stream.owner == owner && key.stream.incarnation == incarnation);
        let report = |(key, stored): (&SegmentKey, &Stored)| {
            let items: Vec<Item> = stored.whole().cloned().collect();
            Report { key: *key, group: stored.group, from: stored.from, items }
        };
        of.map(report).filter(|report| !report.items.is_empty()).collect()
    }
}

/// Weight of items.
fn weight<'a>(items: impl IntoIterator<Item = &'a Item>) -> u64 {
    items.into_iter().fold(0, |sum, item| sum.saturating_add(u64::from(item.weight)))
}

/// Fences only rise.
fn raise(fences: &mut BTreeMap<NodeId, Incarnation>, owner: NodeId, incarnation: Incarnation) {
    let fence = fences.entry(owner).or_default();
    *fence = incarnation.max(*fence);
}

#[cfg(test)]
mod tests;
