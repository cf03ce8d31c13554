//! Keeps the state of realms in the projections, in batches that nobody waits for.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use super::state::{Entry, encode};
use crate::model::EventId;
use crate::router::{Piece, PieceKey};
use crate::store::Projections;

/// Retained messages that are kept together, without waiting for anything else.
pub const PART: usize = 10_000;
/// Other pieces that may have changed before they are kept.
const MAX_CHANGED: usize = 10_000;
/// Records that a start may have to read again, about.
const MAX_RECORDS: u64 = 500_000;
/// The time that changes may wait otherwise.
const INTERVAL_MS: u64 = 10_000;

/// The part that is to be kept now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Some of the retained messages that have changed.
    Part,
    /// All that has changed: then everything is as of the last event.
    Whole,
}

/// Changes that a realm wants to have kept.
pub struct Batch {
    realm: Arc<str>,
    /// `None` for a part.
    as_of: Option<EventId>,
    pieces: Vec<(PieceKey, Option<Piece>)>,
    entries: Vec<Entry>,
    is_busy: Arc<AtomicBool>,
}

/// The kept state of a realm, and the time when more of it is due.
pub struct Kept {
    realm: Arc<str>,
    batches: Sender<Batch>,
    /// A batch is on its way, or the last one failed.
    is_busy: Arc<AtomicBool>,
    as_of: Option<EventId>,
    at_ms: u64,
}

impl Kept {
    /// Of the realm called `realm`, whose state up to `as_of` is kept.
    pub fn start(realm: Arc<str>, batches: Sender<Batch>, as_of: Option<EventId>, now_ms: u64) -> Self {
        Kept { realm, batches, is_busy: Arc::default(), as_of, at_ms: now_ms }
    }

    /// True if nothing of it is kept yet.
    pub fn is_new(&self) -> bool {
        self.as_of.is_none()
    }

    /// The part that is due now, where so many retained messages and other pieces have changed, and `as_of` is the last event.
    pub fn due(&self, changed: [usize; 2], as_of: Option<EventId>, now_ms: u64, is_last: bool) -> Option<Due> {
        let number = |id: Option<EventId>| id.map_or(0, EventId::value);
        let records = number(as_of).saturating_sub(number(self.as_of));
        let [retained, others] = changed;
        if self.is_busy.load(Ordering::Relaxed) {
            return None;
        }
        if retained >= PART {
            return Some(Due::Part);
        }
        let is_time = others >= MAX_CHANGED || records >= MAX_RECORDS || now_ms.saturating_sub(self.at_ms) >= INTERVAL_MS;
        (records > 0 && (is_last || is_time)).then_some(Due::Whole)
    }

    /// Sends a part on its way.
    pub fn send_part(&mut self, pieces: Vec<(PieceKey, Option<Piece>)>) {
        self.put(None, pieces, Vec::new());
    }

    /// Sends everything on its way.
    pub fn send(&mut self, as_of: EventId, pieces: Vec<(PieceKey, Option<Piece>)>, entries: Vec<Entry>, now_ms: u64) {
        (self.as_of, self.at_ms) = (Some(as_of), now_ms);
        self.put(Some(as_of), pieces, entries);
    }

    fn put(&mut self, as_of: Option<EventId>, pieces: Vec<(PieceKey, Option<Piece>)>, entries: Vec<Entry>) {
        self.is_busy.store(true, Ordering::Relaxed);
        let batch = Batch { realm: self.realm.clone(), as_of, pieces, entries, is_busy: self.is_busy.clone() };
        self.batches.send(batch).ok();
    }

    /// True if nothing is on its way, and everything up to `as_of` is kept.
    pub fn is_idle(&self, as_of: Option<EventId>) -> bool {
        !self.is_busy.load(Ordering::Relaxed) && self.as_of >= as_of
    }
}

/// Keeps what comes until nobody can send any more.
pub fn run(projections: &Projections, batches: &Receiver<Batch>) {
    for Batch { realm, as_of, pieces, entries, is_busy } in batches {
        let pieces = pieces.iter().map(|(key, piece)| (key.to_bytes(), piece.as_ref().map(encode)));
        let entries = entries.into_iter().map(|(key, value)| (key, (!value.is_empty()).then_some(value)));
        let changes: Vec<_> = pieces.chain(entries).collect();
        let began = Instant::now();
        match projections.apply(&realm, as_of, &changes) {
            Ok(()) => {
                if as_of.is_none() {
                    // Nobody waits for it: half of a processor is for others.
                    std::thread::sleep(began.elapsed());
                }
                is_busy.store(false, Ordering::Relaxed);
            }
            // The state kept before is as sound as it was, but any kept from now on would not be, so the realm stays busy.
            Err(error) => {
                tracing::warn!("cannot keep the state of realm {realm}: {error}; the next start reads more of the history")
            }
        }
    }
}
