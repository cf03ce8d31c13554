//! The way of one realm's records into the history: tickets of the router in, batches for the log out.
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::history::History;
use super::post::{Post, Written};
use super::state::{Entry, owner_entry, pipeline_entry};
use crate::cluster::segment::SyncToken;
use crate::cluster::solo::{Refusal, Restored, Room, Solo, SoloEffect, SoloLimits, Write};
use crate::model::record::Ticket;
use crate::model::{EventId, Item, Reason};
use crate::router::Draft;

/// A line with less is short, by [`Item::weight_bytes`].
const SHORT_BYTES: u64 = 4 << 20;

/// The fate of one ticket, or of the process before this one.
#[derive(Clone, Copy, Debug)]
pub enum Settled {
    /// The record has its place.
    Appended {
        /// Which.
        ticket: Ticket,
        /// The place.
        id: EventId,
        /// The time of the place, in milliseconds since the Unix epoch.
        time_ms: u64,
        /// The record was there before.
        is_duplicate: bool,
    },
    /// The process before this one ended here.
    Gone {
        /// The place of its end.
        id: EventId,
        /// The time of the place, in milliseconds since the Unix epoch.
        time_ms: u64,
    },
    /// The record was not stored.
    Refused {
        /// Which.
        ticket: Ticket,
        /// Why.
        reason: Reason,
    },
}

/// One realm's pipeline.
pub struct Line {
    post: Arc<Post>,
    history: Arc<History>,
    turns: Turns,
}

impl Line {
    /// The line of the realm called `name`, behind what its history says. The keys of `owners` are not kept as they are.
    pub fn start(post: Arc<Post>, name: Arc<str>, history: Arc<History>, restored: Restored, owners: HashSet<Arc<str>>) -> Self {
        let turns = Turns { owners, ..Turns::start(name, restored, history.solo_limits()) };
        Line { post, history, turns }
    }

    /// The next ticket's record. Tickets come by one from 0.
    pub fn put(&mut self, draft: Draft) {
        self.turns.put(draft);
    }

    /// Submits what was put since the last time, as far as the window has room; the rest when it has.
    pub fn submit(&mut self, now_ms: u64) {
        self.turns.submit();
        while let Some((write, token)) = self.turns.poll_write(now_ms) {
            self.history.write(self.post.clone(), write, token);
        }
    }

    /// The writer has news.
    pub fn handle_written(&mut self, written: Written, now_ms: u64) {
        self.turns.handle_written(written);
        self.submit(now_ms);
    }

    /// The fate of the next ticket, in the order of tickets.
    pub fn poll_settled(&mut self) -> Option<Settled> {
        self.turns.settled.pop_front()
    }

    /// True if nothing waits for its place.
    pub fn is_idle(&self) -> bool {
        self.turns.is_idle()
    }

    /// True while less waits for its place than the disk takes at once: more is welcome, so that it has something to do next.
    pub fn is_short(&self) -> bool {
        self.turns.solo.waiting_bytes() < SHORT_BYTES
    }

    /// The entries that the pipeline goes on from behind `as_of`, as far as they have changed since the last time. `None` if that
    /// is not the last place that it gave.
    pub fn take_entries(&mut self, as_of: EventId) -> Option<Vec<Entry>> {
        let (next_id, dt_ms, incarnation) = self.turns.solo.place();
        if next_id != as_of.plus(1) {
            return None;
        }
        // Keys on their way are not among those that are known: their owners are asked for once more.
        let owners = match self.turns.is_idle() {
            true => std::mem::take(&mut self.turns.owners),
            false => self.turns.owners.clone(),
        };
        let mut entries = vec![pipeline_entry(next_id, dt_ms, incarnation)];
        for owner in owners {
            let keys = self.turns.solo.seen_of(&owner);
            entries.push(owner_entry(&owner, keys.iter().map(|(key, id)| (key, *id))));
        }
        Some(entries)
    }
}

/// Tickets and what became of them, each in its turn.
struct Turns {
    name: Arc<str>,
    solo: Solo,
    /// Items that are not submitted yet, and the ticket of the first.
    gathered: VecDeque<Item>,
    first: Ticket,
    /// Refused before their turn, in the order of tickets.
    early: VecDeque<(Ticket, Reason)>,
    /// The ticket whose turn it is.
    next: Ticket,
    settled: VecDeque<Settled>,
    /// Owners of keys that are not kept as they are.
    owners: HashSet<Arc<str>>,
}

impl Turns {
    fn start(name: Arc<str>, restored: Restored, limits: SoloLimits) -> Self {
        let solo = Solo::start(name.clone(), restored, limits);
        let (gathered, early, settled, owners) = Default::default();
        Turns { name, solo, gathered, first: Ticket(0), early, next: Ticket(0), settled, owners }
    }

    fn put(&mut self, draft: Draft) {
        if let Some(key) = &draft.dedup
            && !self.owners.contains(&key.owner)
        {
            self.owners.insert(key.owner.clone());
        }
        self.gathered.push_back(draft.into_item(self.name.clone()));
    }

    fn submit(&mut self) {
        let mut room = self.solo.room();
        let mut run = Vec::new();
        while let Some(item) = self.gathered.front() {
            match self.solo.weigh(item) {
                Ok(bytes) if bytes > room.bytes || room.items == 0 => break,
                Ok(bytes) => {
                    room = Room { bytes: room.bytes.saturating_sub(bytes), items: room.items.saturating_sub(1) };
                    run.extend(self.gathered.pop_front());
                }
                // Only this one is refused: those before it and behind it have their places without it.
                Err(refusal) => {
                    self.submit_run(std::mem::take(&mut run));
                    self.gathered.pop_front();
                    self.refuse_early(1, refusal);
                }
            }
        }
        self.submit_run(run);
    }

    fn submit_run(&mut self, run: Vec<Item>) {
        let count = run.len() as u64;
        match self.solo.submit(self.first, run) {
            Ok(()) => self.first.0 += count,
            Err(refusal) => self.refuse_early(count, refusal),
        }
    }

    /// The next tickets to be submitted are refused, while those before them may be on their way.
    fn refuse_early(&mut self, count: u64, refusal: Refusal) {
        let tickets = (0..count).map(|n| (Ticket(self.first.0 + n), reason_of(refusal)));
        self.early.extend(tickets);
        self.first.0 += count;
        self.settle_early();
    }

    fn settle_early(&mut self) {
        while let Some((ticket, reason)) = self.early.front().copied().filter(|(ticket, _)| *ticket == self.next) {
            self.early.pop_front();
            self.settled.push_back(Settled::Refused { ticket, reason });
            self.next.0 += 1;
        }
    }

    /// So many tickets have had their turn.
    fn settle(&mut self, count: usize, settled: impl Iterator<Item = Settled>) {
        self.settled.extend(settled);
        self.next.0 += count as u64;
        self.settle_early();
    }

    fn handle_written(&mut self, written: Written) {
        match written {
            Written::Synced(token) => self.solo.handle_synced(token),
            Written::DiskFull => self.solo.handle_disk_full(),
            Written::Room => self.solo.handle_room(),
            Written::Failed => self.solo.handle_failed(),
        }
    }

    fn is_idle(&self) -> bool {
        self.gathered.is_empty() && self.solo.is_idle()
    }

    /// The batch that is to be written and synced next. Until there is none, settles the tickets that can be.
    fn poll_write(&mut self, now_ms: u64) -> Option<(Write, SyncToken)> {
        let mut write = None;
        while let Some(effect) = self.solo.poll_effect(now_ms) {
            match effect {
                SoloEffect::Write(next) => write = Some(next),
                SoloEffect::Sync { token } => {
                    if let Some(write) = write.take() {
                        return Some((write, token));
                    }
                }
                SoloEffect::Ordered { ticket, offset, count, first_id, dt_ms: time_ms, is_duplicate } => {
                    let places = tickets(ticket, offset, count).zip((0..).map(|n| first_id.plus(n)));
                    let appended = places.map(|(ticket, id)| Settled::Appended { ticket, id, time_ms, is_duplicate });
                    self.settle(count, appended);
                }
                SoloEffect::Refused { ticket, offset, count, reason } => {
                    let reason = reason_of(reason);
                    self.settle(count, tickets(ticket, offset, count).map(|ticket| Settled::Refused { ticket, reason }));
                }
                SoloEffect::Gone { id, dt_ms, .. } => self.settled.push_back(Settled::Gone { id, time_ms: dt_ms }),
                SoloEffect::Joined(_) => {}
            }
        }
        None
    }
}

fn tickets(submission: Ticket, offset: usize, count: usize) -> impl Iterator<Item = Ticket> {
    (0..count as u64).map(move |n| Ticket(submission.0 + offset as u64 + n))
}

fn reason_of(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::DiskFull => Reason::NoSpace,
        Refusal::TooLarge => Reason::MessageTooLarge,
        Refusal::WindowFull => Reason::QuotaExceeded,
        Refusal::Unstorable | Refusal::Poisoned => Reason::StorageFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::Kind;
    use crate::model::{Payload, Publication, Qos, Topic};

    /// A line over a disk that does what it is told.
    struct Disk {
        turns: Turns,
        writes: VecDeque<SyncToken>,
    }

    fn draft(bytes: usize) -> Draft {
        let payload = Payload::Bytes(vec![b'x'; bytes].into());
        let publication = Publication::new(Topic::from_mqtt("t").unwrap(), payload, Qos::AtLeastOnce);
        Draft::publication(Kind::PUBLICATION, Arc::new(publication), None)
    }

    fn weight(bytes: usize) -> u64 {
        draft(bytes).into_item("realm1".into()).weight_bytes()
    }

    impl Disk {
        fn new(limits: SoloLimits) -> Self {
            let restored = Restored::new(limits.seen);
            let mut disk = Disk { turns: Turns::start("realm1".into(), restored, limits), writes: VecDeque::new() };
            disk.submit();
            disk
        }

        fn put(&mut self, sizes: &[usize]) {
            sizes.iter().for_each(|bytes| self.turns.put(draft(*bytes)));
        }

        fn submit(&mut self) {
            self.turns.submit();
            while let Some((_, token)) = self.turns.poll_write(1) {
                self.writes.push_back(token);
            }
        }

        fn tell(&mut self, written: Written) {
            self.turns.handle_written(written);
            self.submit();
        }

        /// The next write is durable.
        fn sync(&mut self) {
            let token = self.writes.pop_front().unwrap();
            self.tell(Written::Synced(token));
        }

        /// Ticket and id or reason of what was settled since the last time.
        fn settled(&mut self) -> Vec<(u64, Result<u64, Reason>)> {
            let outcome = |settled| match settled {
                Settled::Appended { ticket, id, .. } => (ticket.0, Ok(id.value())),
                Settled::Refused { ticket, reason } => (ticket.0, Err(reason)),
                Settled::Gone { .. } => panic!("nothing was there before"),
            };
            self.turns.settled.drain(..).map(outcome).collect()
        }
    }

    #[test]
    fn what_is_too_large_is_refused_alone_and_in_its_turn() {
        let mut disk = Disk::new(SoloLimits { item_bytes: weight(100), ..SoloLimits::default() });
        disk.put(&[1]);
        disk.submit();
        disk.put(&[2, 101, 100, 200, 201]);
        disk.submit();
        assert_eq!(disk.settled(), [], "the first is not written yet");
        disk.sync();
        assert_eq!(disk.settled(), [(0, Ok(1))]);
        disk.sync();
        let refused = Err(Reason::MessageTooLarge);
        assert_eq!(disk.settled(), [(1, Ok(2)), (2, refused), (3, Ok(3)), (4, refused), (5, refused)]);
        assert!(disk.turns.is_idle());
        disk.put(&[101]);
        disk.submit();
        assert_eq!(disk.settled(), [(6, refused)], "it waits for nothing");
    }

    #[test]
    fn what_a_full_disk_refuses_comes_back_in_its_turn() {
        let mut disk = Disk::new(SoloLimits { window_bytes: 2 * weight(1), ..SoloLimits::default() });
        disk.put(&[1, 1, 1]);
        disk.submit();
        assert_eq!(disk.turns.gathered.len(), 1, "the window is full");
        disk.writes.clear();
        disk.tell(Written::DiskFull);
        let refused = Err(Reason::NoSpace);
        assert_eq!(disk.settled(), [(0, refused), (1, refused), (2, refused)]);
        disk.tell(Written::Room);
        disk.put(&[1]);
        disk.submit();
        disk.sync();
        assert_eq!(disk.settled(), [(3, Ok(1))]);
    }

    #[test]
    fn a_window_that_is_full_of_items_makes_the_others_wait() {
        let mut disk = Disk::new(SoloLimits { window_items: 2, ..SoloLimits::default() });
        disk.put(&[1, 1, 1, 1, 1]);
        disk.submit();
        while !disk.writes.is_empty() {
            disk.sync();
        }
        assert_eq!(disk.settled(), [0, 1, 2, 3, 4].map(|ticket| (ticket, Ok(ticket + 1))));
    }

    proptest::proptest! {
        #[test]
        fn tickets_come_back_once_and_in_their_order(steps in proptest::collection::vec(0..100_usize, 1..200)) {
            let (item_bytes, window_bytes) = (weight(80), weight(60) + weight(70));
            let limits = SoloLimits { item_bytes, window_bytes, window_items: 3, batch_items: 2, ..SoloLimits::default() };
            let (mut disk, mut sizes, mut outcomes) = (Disk::new(limits), Vec::new(), Vec::new());
            for step in steps {
                match step {
                    0..=2 => { disk.writes.clear(); disk.tell(Written::DiskFull); }
                    3..=9 => disk.tell(Written::Room),
                    10..=39 if !disk.writes.is_empty() => disk.sync(),
                    40..=59 => disk.submit(),
                    size => { disk.put(&[size]); sizes.push(size); }
                }
                outcomes.extend(disk.settled());
            }
            disk.tell(Written::Room);
            while !disk.writes.is_empty() {
                disk.sync();
            }
            outcomes.extend(disk.settled());
            proptest::prop_assert!(disk.turns.is_idle() && disk.turns.early.is_empty());
            let (mut next_id, mut next) = (1, 0);
            for (ticket, outcome) in outcomes {
                proptest::prop_assert_eq!(ticket, next);
                proptest::prop_assert_eq!(outcome == Err(Reason::MessageTooLarge), sizes[next as usize] > 80);
                if let Ok(id) = outcome {
                    proptest::prop_assert_eq!(id, next_id);
                    next_id += 1;
                }
                next += 1;
            }
            proptest::prop_assert_eq!(next, sizes.len() as u64);
        }
    }
}
