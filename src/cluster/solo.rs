//! The pipeline of one process and realm: entry, ndb and a ledger of one node, which gives ids after one sync a batch.
//!
//! KEEP, draft and elect of a batch are one [`Write`], which is nothing but its records; its sync is the certificate and the vote.
//! A batch closes by load: at once when no sync is in flight, else when that sync returns. Nothing is written while nothing is
//! submitted, but for the end of the life before at the start.
mod write;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::resolver::{Outcome, Resolver};
use super::rule::{Rule, Rules};
use super::seen::SeenLimits;
use super::segment::{
    Digest, EventId, GroupId, Incarnation, Join, LedgerEntry, LedgerId, NodeId, Op, Pseq, SegRef, SegmentKey, SegmentNumber,
    StreamId, SyncToken, Ticket,
};
use crate::model::Item;

pub use write::{Gap, Restored, SoloState, Write};

/// The one entry of a solo.
const OWNER: NodeId = NodeId(0);

/// Bounds of a solo; weights are [`Item::weight_bytes`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SoloLimits {
    /// Weight of one item.
    pub item_bytes: u64,
    /// Weight of the items that may wait for their ids.
    pub window_bytes: u64,
    /// Items that may wait for their ids.
    pub window_items: usize,
    /// Weight of a batch, unless its first item alone is heavier; both well below what the log takes at once.
    pub batch_bytes: u64,
    /// Items of a batch.
    pub batch_items: usize,
    /// Keys that are remembered.
    pub seen: SeenLimits,
}

impl Default for SoloLimits {
    fn default() -> Self {
        let seen = SeenLimits::default();
        SoloLimits {
            item_bytes: 20 << 20,
            window_bytes: 64 << 20,
            window_items: 1 << 18,
            batch_bytes: 8 << 20,
            batch_items: 1 << 16,
            seen,
        }
    }
}

impl SoloLimits {
    /// For a log that takes this many bytes from the disk at a time: an item or a batch is never more than it can hold.
    pub fn of_segment(segment_bytes: u64) -> Self {
        let default = SoloLimits::default();
        let (item_bytes, batch_bytes) = (segment_bytes / 8 * 5, segment_bytes / 8);
        SoloLimits {
            item_bytes: default.item_bytes.min(item_bytes),
            batch_bytes: default.batch_bytes.min(batch_bytes),
            ..default
        }
    }
}

/// The room that is left in the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Weight.
    pub bytes: u64,
    /// Items.
    pub items: usize,
}

/// Why submitted items were not ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The window is full: read no more from publishers until ids come back.
    WindowFull,
    /// The items weigh more than the whole window, or one of them more than an item may.
    TooLarge,
    /// The answer of a call, which is no history.
    Unstorable,
    /// The disk is full.
    DiskFull,
    /// A write or a sync failed: what became of the items is known after a restart only.
    Poisoned,
}

/// An effect that a solo asks for, or reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SoloEffect {
    /// Append this to the log: then see [`Write::has`], or say [`Solo::handle_disk_full`] or [`Solo::handle_failed`].
    Write(Write),
    /// Make everything written so far durable, then call [`Solo::handle_synced`].
    Sync {
        /// To be given back.
        token: SyncToken,
    },
    /// Items of a ticket are durable and have their ids: acknowledge and deliver them, in the order of these effects.
    Ordered {
        /// Which submission.
        ticket: Ticket,
        /// Which of its items, counting from 0, is the first of these.
        offset: usize,
        /// The number of these items.
        count: usize,
        /// The id of the first; the others follow it.
        first_id: EventId,
        /// The time of these items.
        dt_ms: u64,
        /// A copy of an earlier item: acknowledge it with that one's id, deliver nothing.
        is_duplicate: bool,
    },
    /// Items of a ticket were not ordered.
    Refused {
        /// Which submission.
        ticket: Ticket,
        /// Which of its items, counting from 0, is the first of these.
        offset: usize,
        /// The number of these items.
        count: usize,
        /// Why.
        reason: Refusal,
    },
    /// The process before this one has ended: fire the wills and release the locks of its connections.
    Gone {
        /// Its life.
        incarnation: Incarnation,
        /// The place of the end in the order.
        id: EventId,
        /// The time of the end.
        dt_ms: u64,
    },
    /// This process has its life: open the listeners.
    Joined(Incarnation),
}

/// Items of one submission that are still together.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    offset: usize,
    items: VecDeque<Item>,
}

/// Items of one submission in a batch, in their order.
#[derive(Clone, Copy, Debug)]
struct Part {
    ticket: Ticket,
    offset: usize,
    count: usize,
}

/// The write that is not yet durable.
#[derive(Debug)]
struct Flight {
    token: SyncToken,
    entry: LedgerEntry,
    forecast: Vec<Outcome>,
    parts: VecDeque<Part>,
    bytes: u64,
    count: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Health {
    Well,
    DiskFull,
    Poisoned,
}

/// The order of one realm in one process.
#[derive(Debug)]
pub struct Solo {
    realm: Arc<str>,
    limits: SoloLimits,
    rules: Rules,
    resolver: Resolver,
    is_joined: bool,
    next_token: SyncToken,
    waiting: VecDeque<Waiting>,
    window_bytes: u64,
    window_items: usize,
    flight: Option<Flight>,
    health: Health,
    effects: VecDeque<SoloEffect>,
}

impl Solo {
    /// Starts behind what the log says; if a process before this one wrote any of it, its first write is the end of that one.
    pub fn start(realm: Arc<str>, restored: Restored, limits: SoloLimits) -> Self {
        Self::start_with(realm, restored, limits, Rules::default())
    }

    pub(crate) fn start_with(realm: Arc<str>, restored: Restored, limits: SoloLimits, rules: Rules) -> Self {
        let mut resolver = Resolver::new(limits.seen, rules);
        let Restored { next_id, dt_ms, incarnation, seen } = restored;
        resolver.resume(OWNER, incarnation, next_id, dt_ms, seen);
        Solo {
            realm,
            limits,
            rules,
            resolver,
            is_joined: false,
            next_token: SyncToken(1),
            waiting: VecDeque::new(),
            window_bytes: 0,
            window_items: 0,
            flight: None,
            health: Health::Well,
            effects: VecDeque::new(),
        }
    }

    /// Takes items, to be ordered in this order behind all submitted before; answered by [`SoloEffect::Ordered`] or
    /// [`SoloEffect::Refused`] for each of them, unless they are refused here. Their realm and time are set here.
    pub fn submit(&mut self, ticket: Ticket, items: Vec<Item>) -> Result<(), Refusal> {
        match self.health {
            Health::Well => {}
            Health::DiskFull => return Err(Refusal::DiskFull),
            Health::Poisoned => return Err(Refusal::Poisoned),
        }
        let bytes = items.iter().try_fold(0u64, |sum, item| Ok(sum.saturating_add(self.weigh(item)?)))?;
        if bytes > self.limits.window_bytes || items.len() > self.limits.window_items {
            return Err(Refusal::TooLarge);
        }
        let room = self.room();
        if bytes > room.bytes || items.len() > room.items {
            return Err(Refusal::WindowFull);
        }
        if !items.is_empty() {
            self.window_bytes = self.window_bytes.saturating_add(bytes);
            self.window_items = self.window_items.saturating_add(items.len());
            self.waiting.push_back(Waiting { ticket, offset: 0, items: items.into() });
        }
        Ok(())
    }

    /// The weight of an item, unless it can never be ordered: what is not refused here fits an empty window.
    pub fn weigh(&self, item: &Item) -> Result<u64, Refusal> {
        let bytes = item.weight_bytes();
        if item.properties.as_ref().is_some_and(|properties| properties.outcome.is_some()) {
            return Err(Refusal::Unstorable);
        }
        if bytes > self.limits.item_bytes.min(self.limits.window_bytes) { Err(Refusal::TooLarge) } else { Ok(bytes) }
    }

    /// The room for items that are submitted now.
    pub fn room(&self) -> Room {
        let bytes = self.limits.window_bytes.saturating_sub(self.window_bytes);
        Room { bytes, items: self.limits.window_items.saturating_sub(self.window_items) }
    }

    /// Weight of what waits for its id.
    pub fn waiting_bytes(&self) -> u64 {
        self.window_bytes
    }

    /// The id that the next durable item gets: everything below is history.
    pub fn next_id(&self) -> EventId {
        self.resolver.next_id()
    }

    /// Whether nothing waits for an id and nothing is left to poll.
    pub fn is_idle(&self) -> bool {
        self.is_joined && self.flight.is_none() && self.waiting.is_empty() && self.effects.is_empty()
    }

    /// The state as of the last durable write, for a snapshot.
    pub fn state(&self) -> SoloState {
        let (incarnation, _) = self.resolver.owner(OWNER);
        SoloState { next_id: self.next_id(), dt_ms: self.resolver.dt_ms(), incarnation, seen: self.resolver.seen() }
    }

    /// The same without the keys: the next id, the time, the life.
    pub fn place(&self) -> (EventId, u64, Incarnation) {
        (self.next_id(), self.resolver.dt_ms(), self.resolver.owner(OWNER).0)
    }

    /// The keys of one owner, by ascending id.
    pub fn seen_of(&self, owner: &str) -> Vec<(bytes::Bytes, EventId)> {
        self.resolver.seen_of(owner)
    }

    /// The effect that is to be carried out next; `now_ms` is the time since 1970 that a batch closed now gets.
    pub fn poll_effect(&mut self, now_ms: u64) -> Option<SoloEffect> {
        while self.effects.is_empty() && self.flight.is_none() && self.health == Health::Well {
            if !self.is_joined {
                self.join(now_ms);
            } else if !self.waiting.is_empty() {
                self.close_batch(now_ms);
            } else {
                break;
            }
        }
        self.effects.pop_front()
    }

    /// The sync with this token is done: what was written before it is durable.
    pub fn handle_synced(&mut self, token: SyncToken) {
        let Some(flight) = self.flight.take_if(|flight| flight.token == token) else { return };
        let mut outcomes = Vec::new();
        let applied = self.resolver.apply(self.resolver.applied().next(), &flight.entry, &mut outcomes);
        if applied.is_err() || outcomes != flight.forecast {
            // The ids on disk are not those of the resolver (I5): stopping is better than forking history.
            self.flight = Some(flight);
            return self.handle_failed();
        }
        self.settle(flight, outcomes);
    }

    /// Space is short, but for the write in flight: what waits is refused, and all others until [`Solo::handle_room`].
    pub fn handle_low_space(&mut self) {
        if self.health == Health::Well {
            self.health = Health::DiskFull;
            self.refuse_waiting(Refusal::DiskFull);
        }
    }

    /// The write in flight was refused for want of space, and nothing of it is in the log. Its items and those that wait are
    /// refused, and all others until [`Solo::handle_room`].
    pub fn handle_disk_full(&mut self) {
        if self.health != Health::Poisoned {
            self.health = Health::DiskFull;
            self.refuse_flight(Refusal::DiskFull);
            self.refuse_waiting(Refusal::DiskFull);
        }
    }

    /// There is space again.
    pub fn handle_room(&mut self) {
        if self.health == Health::DiskFull {
            self.health = Health::Well;
        }
    }

    /// A write or a sync failed: what is on disk is unknown, so nothing is ordered any more, for good.
    pub fn handle_failed(&mut self) {
        self.health = Health::Poisoned;
        self.refuse_flight(Refusal::Poisoned);
        self.refuse_waiting(Refusal::Poisoned);
    }

    /// INIT_ENTRY and its election: one process asks itself.
    fn join(&mut self, now_ms: u64) {
        let (before, _) = self.resolver.owner(OWNER);
        let incarnation = before.next();
        let nonce = u128::from(incarnation.0); // Nobody else asks for a life in this ledger.
        let (dt_ms, first_id) = (self.resolver.dt_ms().max(now_ms), self.resolver.next_id());
        let mut items = Vec::new();
        let mut forecast = Vec::new();
        if before > Incarnation(0) {
            items.push(write::gone(self.realm.clone(), before, dt_ms));
            forecast.push(Outcome::Gone { owner: OWNER, incarnation: before, id: first_id });
        }
        forecast.push(Outcome::Joined { owner: OWNER, incarnation, nonce });
        // The records that a crash left in the log are part of its order already, so nothing is left to recover.
        let op = Op::Join(Join { owner: OWNER, incarnation, nonce, prev_nonce: None, recovered: Vec::new() });
        self.elect(Write { first_id, items }, LedgerEntry { dt_ms, ops: vec![op] }, forecast, VecDeque::new(), 0);
    }

    /// Stamps what waits, up to the bounds of a batch, and elects it.
    fn close_batch(&mut self, now_ms: u64) {
        let (items, parts) = self.take_batch();
        let (dt_ms, first_id) = (self.resolver.dt_ms().max(now_ms), self.resolver.next_id());
        let bytes = weight_of(&items);
        let Some(draft) = self.draft(&items, bytes) else { return };
        let forecast = self.resolver.forecast(&draft);
        let mut records = Vec::with_capacity(items.len());
        let mut items = items.into_iter();
        for outcome in &forecast {
            if let Outcome::Ordered { from, to, .. } = outcome {
                let taken = (from.0..=to.0).zip(items.by_ref());
                records.extend(taken.map(|(_, item)| Item { realm: self.realm.clone(), time_ms: dt_ms, ..item }));
            } else {
                items.next(); // A duplicate: its first copy is the record.
            }
        }
        let entry = LedgerEntry { dt_ms, ops: vec![Op::Segment(draft)] };
        self.elect(Write { first_id, items: records }, entry, forecast, parts, bytes);
    }

    /// The segment that these items are: what follows in the stream. There is one copy, which the log itself chains and checks, so
    /// it needs no digest.
    fn draft(&self, items: &[Item], bytes: u64) -> Option<SegRef> {
        let (incarnation, from) = self.resolver.owner(OWNER);
        let stream = StreamId { owner: OWNER, incarnation, ledger: LedgerId(0) };
        let key = SegmentKey { stream, segment: SegmentNumber(self.resolver.applied().next().0) };
        let to = Pseq(from.0.saturating_add(items.len().checked_sub(1)? as u64));
        let keyed = items.iter().zip(from.0..).filter_map(|(item, pseq)| Some((Pseq(pseq), item.dedup.clone()?)));
        let (dedup, inline, digest) = (keyed.collect(), Vec::new(), Digest::default());
        Some(SegRef { key, group: GroupId(0), group_epoch: 0, from, to, bytes, digest, dedup, inline })
    }

    fn take_batch(&mut self) -> (Vec<Item>, VecDeque<Part>) {
        let mut items = Vec::new();
        let mut parts: VecDeque<Part> = VecDeque::new();
        let mut bytes = 0u64;
        while let Some(first) = self.waiting.front_mut() {
            let Some(item) = first.items.front() else {
                self.waiting.pop_front();
                continue;
            };
            let weight = item.weight_bytes();
            let is_full = bytes.saturating_add(weight) > self.limits.batch_bytes || items.len() >= self.limits.batch_items;
            if is_full && !items.is_empty() {
                break;
            }
            bytes = bytes.saturating_add(weight);
            match parts.back_mut() {
                Some(part) if part.ticket == first.ticket && part.offset.saturating_add(part.count) == first.offset => {
                    part.count = part.count.saturating_add(1);
                }
                _ => parts.push_back(Part { ticket: first.ticket, offset: first.offset, count: 1 }),
            }
            first.offset = first.offset.saturating_add(1);
            items.extend(first.items.pop_front());
        }
        (items, parts)
    }

    /// One write with bodies, draft and vote, and one sync; without anything to write it is decided already.
    fn elect(&mut self, write: Write, entry: LedgerEntry, forecast: Vec<Outcome>, parts: VecDeque<Part>, bytes: u64) {
        let count = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.count));
        let token = self.next_token;
        self.next_token = token.next();
        self.flight = Some(Flight { token, entry, forecast, parts, bytes, count });
        if write.items.is_empty() {
            return self.handle_synced(token);
        }
        self.effects.push_back(SoloEffect::Write(write));
        self.effects.push_back(SoloEffect::Sync { token });
        if !self.rules.keeps(Rule::SyncFirst) {
            self.handle_synced(token);
        }
    }

    /// Says what became of a durable write.
    fn settle(&mut self, flight: Flight, outcomes: Vec<Outcome>) {
        self.leave_window(flight.bytes, flight.count);
        let (mut parts, dt_ms) = (flight.parts, self.resolver.dt_ms());
        for outcome in outcomes {
            match outcome {
                Outcome::Ordered { from, to, first_id, .. } => self.acknowledge(&mut parts, from..=to, first_id, dt_ms, false),
                Outcome::Duplicate { pseq, id, .. } => self.acknowledge(&mut parts, pseq..=pseq, id, dt_ms, true),
                Outcome::Gone { incarnation, id, .. } => self.effects.push_back(SoloEffect::Gone { incarnation, id, dt_ms }),
                Outcome::Joined { incarnation, .. } => {
                    self.is_joined = true;
                    self.effects.push_back(SoloEffect::Joined(incarnation));
                }
                Outcome::Held(_) | Outcome::Dropped(_) => {}
            }
        }
    }

    /// Spreads ids over the tickets whose items are next.
    fn acknowledge(
        &mut self,
        parts: &mut VecDeque<Part>,
        places: RangeInclusive<Pseq>,
        first_id: EventId,
        dt_ms: u64,
        is_duplicate: bool,
    ) {
        let mut left = usize::try_from(places.end().next().0.saturating_sub(places.start().0)).unwrap_or(usize::MAX);
        let mut first_id = first_id;
        while let Some(part) = parts.front_mut().filter(|_| left > 0) {
            let count = part.count.min(left);
            let (ticket, offset) = (part.ticket, part.offset);
            self.effects.push_back(SoloEffect::Ordered { ticket, offset, count, first_id, dt_ms, is_duplicate });
            first_id = first_id.plus(count as u64);
            left = left.saturating_sub(count);
            part.offset = part.offset.saturating_add(count);
            part.count = part.count.saturating_sub(count);
            if part.count == 0 {
                parts.pop_front();
            }
        }
    }

    /// Gives up the write in flight, also if it was not polled yet.
    fn refuse_flight(&mut self, reason: Refusal) {
        self.effects.retain(|effect| !matches!(effect, SoloEffect::Write(_) | SoloEffect::Sync { .. }));
        let Some(flight) = self.flight.take() else { return };
        self.leave_window(flight.bytes, flight.count);
        for Part { ticket, offset, count } in flight.parts {
            self.effects.push_back(SoloEffect::Refused { ticket, offset, count, reason });
        }
    }

    fn refuse_waiting(&mut self, reason: Refusal) {
        for Waiting { ticket, offset, items } in std::mem::take(&mut self.waiting) {
            let count = items.len();
            let bytes = weight_of(&items);
            self.leave_window(bytes, count);
            if count > 0 {
                self.effects.push_back(SoloEffect::Refused { ticket, offset, count, reason });
            }
        }
    }

    fn leave_window(&mut self, bytes: u64, count: usize) {
        self.window_bytes = self.window_bytes.saturating_sub(bytes);
        self.window_items = self.window_items.saturating_sub(count);
    }
}

fn weight_of<'a>(items: impl IntoIterator<Item = &'a Item>) -> u64 {
    items.into_iter().fold(0, |sum: u64, item| sum.saturating_add(item.weight_bytes()))
}

#[cfg(test)]
mod tests;
