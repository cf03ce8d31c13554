//! The way of one realm's records into the history: tickets of the router in, batches for the log out.
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::event_loop::EventLoop;
use super::history::{History, Written};
use crate::cluster::solo::{Refusal, Restored, Solo, SoloEffect, SoloLimits};
use crate::model::record::Ticket;
use crate::model::{EventId, Item, Reason};
use crate::router::effect::Draft;

/// What became of one ticket, or of the process before this one.
#[derive(Clone, Copy, Debug)]
pub enum Settled {
    /// It has its place.
    Appended {
        /// Which.
        ticket: Ticket,
        /// The place.
        id: EventId,
        /// The time of the place, in milliseconds since the Unix epoch.
        time_ms: u64,
        /// It was there before.
        is_duplicate: bool,
    },
    /// The process before this one ended here.
    Gone {
        /// The place of its end.
        id: EventId,
        /// The time of the place, in milliseconds since the Unix epoch.
        time_ms: u64,
    },
    /// It was not stored.
    Refused {
        /// Which.
        ticket: Ticket,
        /// Why.
        reason: Reason,
    },
}

/// One realm's pipeline.
pub struct Line {
    realm: Weak<EventLoop>,
    name: Arc<str>,
    history: Arc<History>,
    solo: Solo,
    /// Items that are not submitted yet, and the ticket of the first.
    gathered: Vec<Item>,
    first: Ticket,
    settled: VecDeque<Settled>,
}

impl Line {
    /// The line of the realm called `name`, behind what its history says.
    pub fn start(realm: Weak<EventLoop>, name: Arc<str>, history: Arc<History>, restored: Restored) -> Self {
        Line {
            solo: Solo::start(name.clone(), restored, SoloLimits::default()),
            realm,
            name,
            history,
            gathered: Vec::new(),
            first: Ticket(0),
            settled: VecDeque::new(),
        }
    }

    /// The next ticket's record. Tickets come by one from 0.
    pub fn put(&mut self, draft: Draft) {
        self.gathered.push(draft.into_item(self.name.clone()));
    }

    /// Submits what was put since the last time, as far as the window has room; the rest when it has.
    pub fn submit(&mut self, now_ms: u64) {
        let mut room_bytes = self.solo.room_bytes();
        let fits = |item: &Item| {
            let weight_bytes = item.weight_bytes();
            let fits = weight_bytes <= room_bytes;
            room_bytes = room_bytes.saturating_sub(weight_bytes);
            fits
        };
        let mut count = self.gathered.iter().map(fits).take_while(|fits| *fits).count();
        if count == 0 && self.solo.is_idle() {
            // Alone in the window, and still too large for it: the solo says so.
            count = self.gathered.len().min(1);
        }
        if count > 0 {
            let rest = self.gathered.split_off(count);
            let items = std::mem::replace(&mut self.gathered, rest);
            let ticket = self.first;
            self.first.0 += count as u64;
            if let Err(refusal) = self.solo.submit(ticket, items) {
                self.refuse(ticket, count as u64, refusal);
            }
        }
        self.move_on(now_ms);
    }

    /// The writer has news.
    pub fn handle_written(&mut self, written: Written, now_ms: u64) {
        match written {
            Written::Synced(token) => self.solo.handle_synced(token),
            Written::DiskFull => self.solo.handle_disk_full(),
            Written::Room => self.solo.handle_room(),
            Written::Failed => self.solo.handle_failed(),
        }
        self.submit(now_ms);
    }

    /// What became of the next ticket, in the order of tickets.
    pub fn poll_settled(&mut self) -> Option<Settled> {
        self.settled.pop_front()
    }

    /// True if nothing waits for its place.
    pub fn is_idle(&self) -> bool {
        self.gathered.is_empty() && self.solo.is_idle()
    }

    fn move_on(&mut self, now_ms: u64) {
        let mut write = None;
        while let Some(effect) = self.solo.poll_effect(now_ms) {
            match effect {
                SoloEffect::Write(next) => write = Some(next),
                SoloEffect::Sync { token } => {
                    if let Some(write) = write.take() {
                        self.history.write(self.realm.clone(), write, token);
                    }
                }
                SoloEffect::Ordered { ticket, offset, count, first_id, dt_ms, is_duplicate } => {
                    let tickets = (0..count as u64).map(|n| (Ticket(ticket.0 + offset as u64 + n), first_id.plus(n)));
                    self.settled.extend(tickets.map(|(ticket, id)| Settled::Appended {
                        ticket,
                        id,
                        time_ms: dt_ms,
                        is_duplicate,
                    }));
                }
                SoloEffect::Refused { ticket, offset, count, reason } => {
                    self.refuse(Ticket(ticket.0 + offset as u64), count as u64, reason);
                }
                SoloEffect::Gone { id, dt_ms, .. } => self.settled.push_back(Settled::Gone { id, time_ms: dt_ms }),
                SoloEffect::Joined(_) => {}
            }
        }
    }

    fn refuse(&mut self, first: Ticket, count: u64, refusal: Refusal) {
        let reason = match refusal {
            Refusal::DiskFull => Reason::NoSpace,
            Refusal::TooLarge => Reason::MessageTooLarge,
            Refusal::WindowFull => Reason::QuotaExceeded,
            Refusal::Unstorable | Refusal::Poisoned => Reason::StorageFailed,
        };
        self.settled.extend((0..count).map(|n| Settled::Refused { ticket: Ticket(first.0 + n), reason }));
    }
}
