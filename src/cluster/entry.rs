//! An entry: stamps what clients publish, sends it to a group, closes segments by load, and acknowledges what is ordered.
use std::collections::{BTreeMap, VecDeque};

use super::learner::Learner;
use super::message::{Effect, Message, Peer};
use super::quorum::Members;
use super::resolver::{Outcome, Resolver};
use super::rule::{Rule, Rules};
use super::segment::{
    EventId, GroupId, Incarnation, Item, LedgerEntry, LedgerId, NodeId, Pseq, SegRef, SegmentKey, SegmentNumber, Slot, StreamId,
    Ticket,
};

/// The meaning of an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The item has its id.
    Ordered,
    /// The item and all before it are on W disks; the id follows.
    Durable,
}

/// Bounds of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryLimits {
    /// Weight of the items that wait for their ids.
    pub window_bytes: u64,
    /// Weight of a segment.
    pub segment_bytes: u64,
    /// Items of a segment.
    pub segment_items: usize,
}

impl Default for EntryLimits {
    fn default() -> Self {
        EntryLimits { window_bytes: 64 << 20, segment_bytes: 1 << 20, segment_items: 4096 }
    }
}

/// Why an item was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// The entry has no life yet, or lost it.
    NotJoined,
    /// The window is full.
    WindowFull,
}

/// A segment that was begun and is not ordered.
#[derive(Clone, Debug)]
struct Sent {
    group: GroupId,
    from: Pseq,
    /// The last item in it.
    to: Pseq,
    /// The last item that was sent.
    sent_to: Pseq,
    bytes: u64,
    is_over: bool,
    durable: BTreeMap<NodeId, Pseq>,
}

/// One entry, for one ledger.
#[derive(Debug)]
pub struct Entry {
    node: NodeId,
    ledger: LedgerId,
    members: Members,
    mode: Mode,
    limits: EntryLimits,
    rules: Rules,
    nonce: u128,
    prev_nonce: Option<u128>,
    incarnation: Option<Incarnation>,
    learner: Learner,
    next: Pseq,
    window: BTreeMap<Pseq, (Ticket, Item)>,
    window_bytes: u64,
    segments: BTreeMap<SegmentNumber, Sent>,
    next_segment: SegmentNumber,
    next_group: usize,
    /// Everything up to here is acknowledged.
    acknowledged_to: Pseq,
    /// The next item to be ordered, as of the last tick.
    stuck_at: Pseq,
    /// For how many ticks it has been the next.
    stuck_ticks: u32,
    ticks: usize,
    effects: VecDeque<Effect>,
}

impl Entry {
    /// A process without memory, that asks for a life with this nonce, chosen at random (E0).
    pub fn start(node: NodeId, ledger: LedgerId, members: Members, mode: Mode, limits: EntryLimits, nonce: u128) -> Self {
        Self::start_with(node, ledger, members, mode, limits, nonce, Rules::default())
    }

    pub(crate) fn start_with(
        node: NodeId,
        ledger: LedgerId,
        members: Members,
        mode: Mode,
        limits: EntryLimits,
        nonce: u128,
        rules: Rules,
    ) -> Self {
        let mut entry = Entry {
            node,
            ledger,
            members,
            mode,
            limits,
            rules,
            nonce,
            prev_nonce: None,
            incarnation: None,
            learner: Learner::new(rules),
            next: Pseq(1),
            window: BTreeMap::new(),
            window_bytes: 0,
            segments: BTreeMap::new(),
            next_segment: SegmentNumber(1),
            next_group: 0,
            acknowledged_to: Pseq(0),
            stuck_at: Pseq(0),
            stuck_ticks: 0,
            ticks: 0,
            effects: VecDeque::new(),
        };
        entry.ask_for_life();
        entry
    }

    /// After [`Effect::Superseded`]: the same process asks for the next life, with a new nonce.
    pub fn rejoin(&mut self, nonce: u128) {
        self.prev_nonce = Some(self.nonce);
        self.nonce = nonce;
        self.ask_for_life();
    }

    /// The life that it has.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// The resolver of this node.
    pub fn resolver(&self) -> &Resolver {
        &self.learner.resolver
    }

    /// Whether nothing waits for an id.
    pub fn is_idle(&self) -> bool {
        self.window.is_empty()
    }

    /// Takes an item, behind all taken before (E2); the place that it has in the stream.
    pub fn submit(&mut self, ticket: Ticket, item: Item) -> Result<Pseq, NotTaken> {
        if self.incarnation.is_none() {
            return Err(NotTaken::NotJoined);
        }
        let bytes = u64::from(item.weight);
        if self.window_bytes.saturating_add(bytes) > self.limits.window_bytes {
            return Err(NotTaken::WindowFull);
        }
        let pseq = self.next;
        self.next = pseq.next();
        self.window_bytes = self.window_bytes.saturating_add(bytes);
        self.window.insert(pseq, (ticket, item));
        self.append(pseq, bytes);
        Ok(pseq)
    }

    /// The effect that is to be carried out next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.effects.is_empty() {
            // With nothing else in flight the end rides along (E3a).
            let is_quiet = self.segments.len() == 1;
            self.flush(is_quiet);
        }
        self.effects.pop_front()
    }

    /// A message arrived.
    pub fn handle_message(&mut self, message: Message) {
        match message {
            Message::TrimAdvanceSegment { key, ndb, durable_to, .. } => self.handle_trim(key, ndb, durable_to),
            Message::Refused { stream, fenced } => {
                let is_ours = stream.owner == self.node && self.incarnation.is_some_and(|life| life <= fenced);
                if is_ours {
                    self.lose_life();
                }
            }
            Message::AdvanceSegmentResolved { slot, entry } => self.handle_decided(slot, entry),
            _ => {}
        }
    }

    /// Called every so often: asks again for a life and for slots, and sends again what is stuck, by another group (E6).
    pub fn handle_tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        if self.incarnation.is_none() {
            self.ask_for_life();
        }
        let teacher = self.ticks.checked_rem(self.members.syncs.len()).and_then(|at| self.members.syncs.get(at));
        if let Some(teacher) = teacher {
            let message = Message::Learn { from: Peer::Entry(self.node), after: self.learner.resolver.applied() };
            self.effects.push_back(Effect::Send { to: Peer::Sync(*teacher), message });
        }
        let first = self.window.first_key_value().map(|(pseq, _)| *pseq).unwrap_or_default();
        self.stuck_ticks = if first > Pseq(0) && first == self.stuck_at { self.stuck_ticks.saturating_add(1) } else { 0 };
        if self.stuck_ticks.is_power_of_two() {
            self.send_again(); // Ever more rarely: a group that is away gets no flood.
        }
        self.stuck_at = first;
    }

    fn ask_for_life(&mut self) {
        for sync in &self.members.syncs {
            let message = Message::InitEntry { owner: self.node, nonce: self.nonce, prev_nonce: self.prev_nonce };
            self.effects.push_back(Effect::Send { to: Peer::Sync(*sync), message });
        }
    }

    /// Puts an item into the open segment, or into a new one of the next group.
    fn append(&mut self, pseq: Pseq, bytes: u64) {
        let limits = self.limits;
        if let Some(open) = self.segments.last_entry().map(|entry| entry.into_mut()).filter(|open| !open.is_over) {
            let count = usize::try_from(pseq.0.saturating_sub(open.from.0)).unwrap_or(usize::MAX);
            if open.bytes.saturating_add(bytes) <= limits.segment_bytes && count < limits.segment_items {
                open.to = pseq;
                open.bytes = open.bytes.saturating_add(bytes);
                return;
            }
        }
        self.flush(true);
        let group = self.next_group.checked_rem(self.members.groups.len()).and_then(|at| self.members.groups.get(at));
        self.next_group = self.next_group.wrapping_add(1);
        let Some(group) = group.map(|group| group.id) else { return };
        let sent_to = Pseq(pseq.0.saturating_sub(1));
        let durable = BTreeMap::new();
        self.segments.insert(self.next_segment, Sent { group, from: pseq, to: pseq, sent_to, bytes, is_over: false, durable });
        self.next_segment = self.next_segment.next();
    }

    fn key(&self, segment: SegmentNumber) -> Option<SegmentKey> {
        let stream = StreamId { owner: self.node, incarnation: self.incarnation?, ledger: self.ledger };
        Some(SegmentKey { stream, segment })
    }

    /// Sends what the open segment has got, and its end if it closes now.
    fn flush(&mut self, closes: bool) {
        let Some((&number, open)) = self.segments.last_key_value().filter(|(_, open)| !open.is_over) else { return };
        let Some(key) = self.key(number) else { return };
        let first = open.sent_to.next();
        let (group, from) = (open.group, open.from);
        if first > open.to && !closes {
            return;
        }
        let of = |from: Pseq| self.window.range(from..=open.to.max(from)).map(|(_, (_, item))| item);
        let items: Vec<Item> = if first > open.to { Vec::new() } else { of(first).cloned().collect() };
        let over = if closes { SegRef::of(key, group, from, of(from)).filter(|over| over.to == open.to) } else { None };
        let to = open.to;
        let message = match over.clone() {
            Some(over) if items.is_empty() => Message::AdvanceSegmentOver(over),
            over => Message::KeepAdvanceHistory { key, group, from, first, items, over },
        };
        for ndb in self.members.group(group).iter().flat_map(|group| &group.members) {
            self.effects.push_back(Effect::Send { to: Peer::Ndb(*ndb), message: message.clone() });
        }
        if let Some(open) = self.segments.get_mut(&number) {
            open.sent_to = to;
            open.is_over = closes;
        }
    }

    /// Everything that is not ordered, again, in new segments of other groups.
    fn send_again(&mut self) {
        self.flush(true);
        let all: Vec<(Pseq, u64)> = self.window.iter().map(|(pseq, (_, item))| (*pseq, u64::from(item.weight))).collect();
        for (pseq, bytes) in all {
            self.append(pseq, bytes);
        }
        self.flush(true);
    }

    fn handle_trim(&mut self, key: SegmentKey, ndb: NodeId, durable_to: Pseq) {
        if Some(key) != self.key(key.segment) {
            return;
        }
        let Some(segment) = self.segments.get_mut(&key.segment) else { return };
        let durable = segment.durable.entry(ndb).or_default();
        *durable = durable_to.max(*durable);
        let is_open = !segment.is_over;
        if is_open {
            self.flush(true); // One round trip makes a batch (E3b).
        }
        if self.mode == Mode::Durable {
            self.acknowledge_durable();
        }
    }

    /// Whether W members of one group have this item of one segment on disk.
    fn is_durable(&self, pseq: Pseq) -> bool {
        self.segments.values().filter(|segment| (segment.from..=segment.to).contains(&pseq)).any(|segment| {
            let Some(group) = self.members.group(segment.group) else { return false };
            let holds = segment.durable.iter().filter(|(ndb, durable)| group.has(**ndb) && **durable >= pseq);
            holds.count() >= group.write_quorum(self.rules)
        })
    }

    /// Never one before all that precede it (E4).
    fn acknowledge_durable(&mut self) {
        if !self.rules.keeps(Rule::CumulativeAck) {
            let durable: Vec<_> = self.window.iter().filter(|(pseq, _)| self.is_durable(**pseq)).map(|(_, (t, _))| *t).collect();
            self.effects.extend(durable.into_iter().map(|ticket| Effect::Acknowledge { ticket, id: None }));
            return;
        }
        while self.is_durable(self.acknowledged_to.next()) {
            self.acknowledged_to = self.acknowledged_to.next();
            if let Some((ticket, _)) = self.window.get(&self.acknowledged_to) {
                self.effects.push_back(Effect::Acknowledge { ticket: *ticket, id: None });
            }
        }
    }

    fn handle_decided(&mut self, slot: Slot, entry: LedgerEntry) {
        let all = match self.learner.handle_decided(slot, entry) {
            Ok(all) => all,
            Err(breach) => return self.effects.push_back(Effect::Fatal(breach)),
        };
        for applied in all {
            for outcome in &applied.outcomes {
                match outcome {
                    Outcome::Ordered { key, from, to, first_id, .. } if Some(*key) == self.key(key.segment) => {
                        for (n, pseq) in (from.0..=to.0).enumerate() {
                            self.acknowledge(Pseq(pseq), first_id.plus(n as u64));
                        }
                    }
                    Outcome::Duplicate { key, pseq, id } if Some(*key) == self.key(key.segment) => self.acknowledge(*pseq, *id),
                    Outcome::Joined { owner, incarnation, nonce } if *owner == self.node => {
                        self.handle_joined(*incarnation, *nonce)
                    }
                    _ => {}
                }
            }
            self.effects.push_back(Effect::Resolved { slot: applied.slot, outcomes: applied.outcomes });
        }
        let next = self.window.first_key_value().map_or(self.next, |(pseq, _)| *pseq);
        self.segments.retain(|_, segment| segment.to >= next);
    }

    /// An item has its id (E5).
    fn acknowledge(&mut self, pseq: Pseq, id: EventId) {
        let Some((ticket, item)) = self.window.remove(&pseq) else { return };
        self.window_bytes = self.window_bytes.saturating_sub(u64::from(item.weight));
        self.acknowledged_to = self.acknowledged_to.max(pseq);
        self.effects.push_back(Effect::Acknowledge { ticket, id: Some(id) });
    }

    fn handle_joined(&mut self, incarnation: Incarnation, nonce: u128) {
        if self.incarnation.is_some_and(|life| life < incarnation) {
            self.lose_life();
        }
        if nonce == self.nonce && self.incarnation.is_none() {
            self.incarnation = Some(incarnation);
            self.effects.push_back(Effect::Joined(incarnation));
        }
    }

    /// Another process, or a sync in its stead, ended this life: nothing of it is used again (R7).
    fn lose_life(&mut self) {
        let Some(life) = self.incarnation.take() else { return };
        self.next = Pseq(1);
        self.window.clear();
        self.window_bytes = 0;
        self.segments.clear();
        self.next_segment = SegmentNumber(1);
        self.acknowledged_to = Pseq(0);
        self.stuck_at = Pseq(0);
        self.effects.push_back(Effect::Superseded(life));
    }

    /// Breaks a rule on purpose: no process may use a life that it knows of from before its restart.
    #[cfg(test)]
    #[allow(dead_code)]
    pub(crate) fn reuse(&mut self, incarnation: Incarnation) {
        self.incarnation = Some(incarnation);
    }
}

#[cfg(test)]
mod tests;
