//! The queues of a realm as their records say: who has which item, who waits, and what is due when.
//!
//! A record is evaluated against its own time and nothing else: first everything that was due by then, in the order of times, then
//! what the record asks for. So the same records lead to the same state, in a running process and after a restart.
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::change::Change;
use super::changed::{Changed, Rank};
use super::item::{Counts, DEFAULT_VISIBILITY_MS, ItemBody, QueueEvent, Refused, Settings, Stats};
use super::line::{Consumer, Line, Taker};
use super::past::Past;
use crate::model::Topic;
use crate::router::base::claim::Token;
use crate::router::base::place::Place;

/// Items that one call takes at the most.
pub const MAX_TAKE: u32 = 1_000;

/// Due tasks that one record settles at most; the next goes on.
pub const MAX_DUE: usize = 10_000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    pub queue: Topic,
    /// The id of the record that put it.
    pub id: u64,
    pub body: ItemBody,
    pub expires_at_ms: Option<u64>,
    pub deliveries: u32,
    pub standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Standing {
    Ready,
    Resting(u64),
    Claimed,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    pub item: Rank,
    /// When it is over; a connection's lasts as long as the connection.
    pub until_ms: Option<u64>,
    pub by: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Queue {
    pub settings: Settings,
    pub is_declared: bool,
    pub ready: BTreeSet<Rank>,
    pub items: u64,
    pub claimed: u64,
    pub bytes: usize,
    pub line: Line,
    pub counts: Counts,
}

impl Queue {
    /// Nothing tells it from a queue that nobody ever heard of.
    pub fn is_nothing(&self) -> bool {
        !self.is_declared && self.items == 0 && self.line.is_empty()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum QueueDue {
    Rest(Rank),
    Lease(Token),
    Expiry(Rank),
    Wait(u64),
}

/// One record at work.
pub struct Step {
    pub place: Place,
    pub claims: u32,
    pub moved: u32,
    /// QueueState in which something may be given out now.
    pub touched: BTreeSet<Topic>,
    pub told: Vec<QueueEvent>,
}

impl Step {
    pub fn new(place: Place) -> Self {
        Step { place, claims: 0, moved: 0, touched: BTreeSet::new(), told: Vec::new() }
    }

    pub fn token(&mut self) -> Token {
        self.claims += 1;
        Token(self.place.id.value(), self.claims - 1)
    }
}

/// All queues of a realm.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QueueState {
    pub queues: BTreeMap<Topic, Queue>,
    pub items: BTreeMap<Rank, Item>,
    pub claims: BTreeMap<Token, Claim>,
    pub holders: BTreeMap<u64, Consumer>,
    /// Calls that wait: of which queue, and their turn there.
    pub waits: BTreeMap<u64, (Topic, u64)>,
    pub due: BTreeSet<(u64, QueueDue)>,
    pub bytes: usize,
    pub(super) past: Past,
    /// The changes, for the keeper of the state.
    pub changed: Changed,
}

impl QueueState {
    /// Queues that are declared, hold something, or have somebody waiting.
    pub fn count(&self) -> usize {
        self.queues.len()
    }

    /// True for a queue that is one of those.
    pub fn has(&self, queue: &Topic) -> bool {
        self.queues.contains_key(queue)
    }

    /// Items of all queues.
    pub fn items(&self) -> usize {
        self.items.len()
    }

    /// Bytes of all items, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Calls that wait in line of a queue.
    pub fn waiting(&self, queue: &Topic) -> usize {
        self.queues.get(queue).map_or(0, |queue| queue.line.calls())
    }

    /// Queues that are there, or have been in the life of this process.
    pub fn names(&self) -> BTreeSet<&Topic> {
        self.queues.keys().chain(self.past.queues()).collect()
    }

    /// Sizes and counts of a queue.
    pub fn stats(&self, name: &Topic) -> Stats {
        let past = self.past.of(name);
        let counts = past.unwrap_or_default();
        let Some(queue) = self.queues.get(name) else { return Stats { is_known: past.is_some(), counts, ..Stats::default() } };
        let ready = queue.ready.len() as u64;
        Stats {
            is_known: true,
            is_declared: queue.is_declared,
            settings: queue.settings.clone(),
            ready,
            delayed: queue.items.saturating_sub(ready + queue.claimed),
            claimed: queue.claimed,
            bytes: queue.bytes,
            waiting: queue.line.calls(),
            subscribers: queue.line.subscribers(),
            counts: counts.plus(queue.counts),
        }
    }

    /// When something is due next, in milliseconds since the Unix epoch.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(at_ms, _)| *at_ms)
    }

    /// An item is put, to rest for `delay_ms` first; refused if the queue is full.
    pub fn put(
        &mut self,
        place: Place,
        queue: &Topic,
        body: ItemBody,
        delay_ms: u64,
        expires_at_ms: Option<u64>,
    ) -> (Result<(), Refused>, Vec<QueueEvent>) {
        let mut step = Step::new(place);
        self.changed.note_rest();
        self.settle_due(&mut step);
        let entry = self.queues.entry(queue.clone()).or_default();
        let max_len = entry.settings.max_len;
        let outcome = if max_len > 0 && entry.items >= max_len {
            Err(Refused::Full)
        } else {
            entry.counts.put += 1;
            let standing = if delay_ms > 0 { Standing::Resting(place.time_ms.saturating_add(delay_ms)) } else { Standing::Ready };
            let id = place.id.value();
            let item = Item { queue: queue.clone(), id, body, expires_at_ms, deliveries: 0, standing };
            self.insert(Rank(id, 0), item, &mut step);
            Ok(())
        };
        (outcome, self.finish(step))
    }

    /// A change has its place. The settings now in force follow from a declaration.
    pub fn apply(&mut self, place: Place, change: Change) -> (Result<Option<Settings>, Refused>, Vec<QueueEvent>) {
        let mut step = Step::new(place);
        self.changed.note_rest();
        self.settle_due(&mut step);
        let outcome = self.change(change, &mut step);
        (outcome, self.finish(step))
    }

    /// Every connection has ended: the process had.
    pub fn end_all(&mut self, place: Place) -> Vec<QueueEvent> {
        let mut step = Step::new(place);
        self.changed.note_rest();
        self.settle_due(&mut step);
        // First nobody waits: what returns goes to none of them.
        let connections: Vec<u64> = self.holders.keys().copied().collect();
        for by in &connections {
            self.leave(*by, &mut step);
        }
        for by in connections {
            self.give_back(by, &mut step);
        }
        let told = self.finish(step);
        self.past.clear();
        told
    }

    pub fn change(&mut self, change: Change, step: &mut Step) -> Result<Option<Settings>, Refused> {
        match change {
            Change::Declare { .. } => return Ok(self.declare(change)),
            Change::Take { queue, max, wait_ms, by } => self.take(&queue, max, wait_ms, by, step),
            Change::Cancel { take } => {
                if self.withdraw(take, step) {
                    step.told.push(QueueEvent::Canceled { take });
                }
            }
            Change::Ack { tokens } => {
                let known = tokens.iter().filter(|token| self.acknowledge(**token, step)).count();
                return if known == tokens.len() { Ok(None) } else { Err(Refused::NoSuchToken) };
            }
            Change::Nack { tokens, delay_ms } => {
                let known = tokens.iter().filter(|token| self.put_back(**token, delay_ms, true, step)).count();
                return if known == tokens.len() { Ok(None) } else { Err(Refused::NoSuchToken) };
            }
            Change::Return { tokens } => {
                for token in tokens {
                    self.put_back(token, Some(0), false, step);
                }
            }
            Change::Extend { token, visibility_ms } => return self.extend(token, visibility_ms, step).map(|()| None),
            Change::Attach { queue, by, window } => self.attach(&queue, by, window, step),
            Change::Detach { queue, by } => {
                if let Ok(queue) = Topic::from_mqtt(&queue) {
                    self.detach(&queue, by, step);
                }
            }
            Change::Gone { by } => {
                self.leave(by, step);
                self.give_back(by, step);
            }
            Change::Tick => {}
        }
        Ok(None)
    }

    /// Settles what is due by the time of the record, one after the other: whoever waits gets what there was at each time.
    pub fn settle_due(&mut self, step: &mut Step) {
        for _ in 0..MAX_DUE {
            let Some((_, due)) = self.due.first().copied().filter(|(at_ms, _)| *at_ms <= step.place.time_ms) else { return };
            self.due.pop_first();
            match due {
                QueueDue::Rest(rank) => self.make_ready(rank, step),
                QueueDue::Lease(token) => drop(self.put_back(token, Some(0), true, step)),
                QueueDue::Expiry(rank) => {
                    // One that is claimed may still be done with.
                    if self.items.get(&rank).is_some_and(|item| item.standing != Standing::Claimed) {
                        self.expire(rank, step);
                    }
                }
                QueueDue::Wait(take) => {
                    if self.withdraw(take, step) {
                        step.told.push(QueueEvent::Items { take, items: Vec::new() });
                    }
                }
            }
            self.serve_all(step);
        }
    }

    pub fn finish(&mut self, mut step: Step) -> Vec<QueueEvent> {
        self.serve_all(&mut step);
        step.told
    }

    pub fn declare(&mut self, change: Change) -> Option<Settings> {
        let Change::Declare { queue, visibility_ms, max_deliveries, dead_letter, max_len } = change else { return None };
        let queue = self.queues.entry(Topic::from_mqtt(&queue).ok()?).or_default();
        queue.is_declared = true;
        let settings = &mut queue.settings;
        settings.visibility_ms = visibility_ms.unwrap_or(settings.visibility_ms);
        settings.max_deliveries = max_deliveries.unwrap_or(settings.max_deliveries);
        settings.max_len = max_len.unwrap_or(settings.max_len);
        if let Some(name) = dead_letter {
            settings.dead_letter = Topic::from_mqtt(&name).ok();
        }
        Some(settings.clone())
    }

    pub fn acknowledge(&mut self, token: Token, step: &mut Step) -> bool {
        let Some(claim) = self.end_claim(token, step) else { return false };
        if let Some(item) = self.remove(claim.item, step)
            && let Some(queue) = self.queues.get_mut(&item.queue)
        {
            queue.counts.acknowledged += 1;
        }
        true
    }

    pub fn extend(&mut self, token: Token, visibility_ms: Option<u64>, step: &Step) -> Result<(), Refused> {
        let claim = self.claims.get_mut(&token).ok_or(Refused::NoSuchToken)?;
        let Some(before_ms) = claim.until_ms else { return Ok(()) };
        let queue = self.items.get(&claim.item).and_then(|item| self.queues.get(&item.queue));
        let visibility_ms = visibility_ms.or(queue.map(|queue| queue.settings.visibility_ms)).unwrap_or(DEFAULT_VISIBILITY_MS);
        let until_ms = step.place.time_ms.saturating_add(visibility_ms);
        claim.until_ms = Some(until_ms);
        self.due.remove(&(before_ms, QueueDue::Lease(token)));
        self.due.insert((until_ms, QueueDue::Lease(token)));
        Ok(())
    }

    /// Ends a claim and nothing else; whoever held it may have room again.
    pub fn end_claim(&mut self, token: Token, step: &mut Step) -> Option<Claim> {
        let claim = self.claims.remove(&token)?;
        if let Some(until_ms) = claim.until_ms {
            self.due.remove(&(until_ms, QueueDue::Lease(token)));
        }
        if let Some(queue) = self.items.get(&claim.item).and_then(|item| self.queues.get_mut(&item.queue)) {
            queue.claimed -= 1;
        }
        let Some(by) = claim.by else { return Some(claim) };
        if let Some(holder) = self.holders.get_mut(&by) {
            let was_full = !holder.has_room();
            holder.claims.remove(&token);
            if was_full && holder.has_room() {
                for (topic, turn) in holder.queues.iter_mut().filter(|(_, turn)| turn.is_none()) {
                    *turn = self.queues.get_mut(topic).map(|queue| queue.line.join(Taker::Connection(by)));
                    step.touched.insert(topic.clone());
                }
            }
        }
        self.forget_holder(by);
        Some(claim)
    }

    /// A claim ends and its item stays; `None` rests as long as a claim would last. A delivery that does not count (`is_counted`)
    /// is as if it had not been. False if there is no such claim.
    pub fn put_back(&mut self, token: Token, delay_ms: Option<u64>, is_counted: bool, step: &mut Step) -> bool {
        let Some(Claim { item: rank, .. }) = self.end_claim(token, step) else { return false };
        self.changed.note_item(rank);
        let Some(item) = self.items.get_mut(&rank) else { return true };
        let Some(queue) = self.queues.get_mut(&item.queue) else { return true };
        item.standing = Standing::Ready;
        if is_counted {
            queue.counts.returned += 1;
        } else {
            item.deliveries = item.deliveries.saturating_sub(1);
            queue.counts.taken = queue.counts.taken.saturating_sub(1);
        }
        let max_deliveries = queue.settings.max_deliveries;
        let delay_ms = delay_ms.unwrap_or(queue.settings.visibility_ms);
        if item.expires_at_ms.is_some_and(|at_ms| at_ms <= step.place.time_ms) {
            self.expire(rank, step);
        } else if is_counted && max_deliveries > 0 && item.deliveries >= max_deliveries {
            self.bury(rank, step);
        } else if delay_ms > 0 {
            let until_ms = step.place.time_ms.saturating_add(delay_ms);
            item.standing = Standing::Resting(until_ms);
            self.due.insert((until_ms, QueueDue::Rest(rank)));
        } else {
            self.make_ready(rank, step);
        }
        true
    }

    pub fn make_ready(&mut self, rank: Rank, step: &mut Step) {
        self.changed.note_item(rank);
        let Some(item) = self.items.get_mut(&rank) else { return };
        item.standing = Standing::Ready;
        if let Some(queue) = self.queues.get_mut(&item.queue) {
            queue.ready.insert(rank);
        }
        step.touched.insert(item.queue.clone());
    }

    pub fn expire(&mut self, rank: Rank, step: &mut Step) {
        if let Some(item) = self.remove(rank, step)
            && let Some(queue) = self.queues.get_mut(&item.queue)
        {
            queue.counts.expired += 1;
        }
    }

    /// An item was delivered often enough.
    pub fn bury(&mut self, rank: Rank, step: &mut Step) {
        let Some(mut item) = self.remove(rank, step) else { return };
        let Some(queue) = self.queues.get_mut(&item.queue) else { return };
        let Some(target) = queue.settings.dead_letter.clone() else {
            queue.counts.dropped += 1;
            return;
        };
        queue.counts.dead_lettered += 1;
        self.queues.entry(target.clone()).or_default();
        step.moved += 1;
        item.queue = target;
        item.deliveries = 0;
        item.standing = Standing::Ready;
        self.insert(Rank(step.place.id.value(), step.moved), item, step);
    }

    /// An item comes into its queue, which exists.
    pub fn insert(&mut self, rank: Rank, item: Item, step: &mut Step) {
        self.changed.note_item(rank);
        let Some(queue) = self.queues.get_mut(&item.queue) else { return };
        let weight = item.body.weight();
        queue.items += 1;
        queue.bytes += weight;
        self.bytes += weight;
        step.touched.insert(item.queue.clone());
        match item.standing {
            Standing::Resting(until_ms) => drop(self.due.insert((until_ms, QueueDue::Rest(rank)))),
            _ => drop(queue.ready.insert(rank)),
        }
        if let Some(at_ms) = item.expires_at_ms {
            self.due.insert((at_ms, QueueDue::Expiry(rank)));
        }
        self.items.insert(rank, item);
    }

    /// An item that nobody holds leaves its queue.
    pub fn remove(&mut self, rank: Rank, step: &mut Step) -> Option<Item> {
        self.changed.note_item(rank);
        let item = self.items.remove(&rank)?;
        let weight = item.body.weight();
        self.bytes -= weight;
        if let Some(queue) = self.queues.get_mut(&item.queue) {
            queue.items -= 1;
            queue.bytes -= weight;
            queue.ready.remove(&rank);
        }
        if let Standing::Resting(until_ms) = item.standing {
            self.due.remove(&(until_ms, QueueDue::Rest(rank)));
        }
        if let Some(at_ms) = item.expires_at_ms {
            self.due.remove(&(at_ms, QueueDue::Expiry(rank)));
        }
        step.touched.insert(item.queue.clone());
        Some(item)
    }
}
