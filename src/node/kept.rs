//! Keeps the state of realms in the projections, in batches that nobody waits for.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use super::state::{Entry, encode};
use crate::model::EventId;
use crate::router::state::{Piece, PieceKey};
use crate::store::Projections;

/// How many pieces may have changed before they are kept.
const MAX_CHANGED: usize = 10_000;
/// How many records a start may have to read again, about.
const MAX_RECORDS: u64 = 500_000;
/// How long changes may wait otherwise.
const INTERVAL_MS: u64 = 10_000;

/// What a realm wants to have kept.
pub struct Batch {
    realm: Arc<str>,
    as_of: EventId,
    pieces: Vec<(PieceKey, Option<Piece>)>,
    entries: Vec<Entry>,
    is_busy: Arc<AtomicBool>,
}

/// What of a realm is kept, and when more of it is to be.
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

    /// True if it is time; `changed` pieces are not as they were kept, and `as_of` is the last event.
    pub fn is_due(&self, changed: usize, as_of: Option<EventId>, now_ms: u64, is_last: bool) -> bool {
        let number = |id: Option<EventId>| id.map_or(0, EventId::value);
        let records = number(as_of).saturating_sub(number(self.as_of));
        if records == 0 || self.is_busy.load(Ordering::Relaxed) {
            return false;
        }
        is_last || changed >= MAX_CHANGED || records >= MAX_RECORDS || now_ms.saturating_sub(self.at_ms) >= INTERVAL_MS
    }

    /// Sends a batch on its way.
    pub fn send(&mut self, as_of: EventId, pieces: Vec<(PieceKey, Option<Piece>)>, entries: Vec<Entry>, now_ms: u64) {
        self.is_busy.store(true, Ordering::Relaxed);
        (self.as_of, self.at_ms) = (Some(as_of), now_ms);
        let batch = Batch { realm: self.realm.clone(), as_of, pieces, entries, is_busy: self.is_busy.clone() };
        self.batches.send(batch).ok();
    }

    /// True if nothing is on its way.
    pub fn is_idle(&self) -> bool {
        !self.is_busy.load(Ordering::Relaxed)
    }
}

/// Keeps what comes until nobody can send any more.
pub fn run(projections: &Projections, batches: &Receiver<Batch>) {
    for Batch { realm, as_of, pieces, entries, is_busy } in batches {
        let pieces = pieces.iter().map(|(key, piece)| (key.to_bytes(), piece.as_ref().map(encode)));
        let entries = entries.into_iter().map(|(key, value)| (key, (!value.is_empty()).then_some(value)));
        let changes: Vec<_> = pieces.chain(entries).collect();
        match projections.apply(&realm, as_of, &changes) {
            Ok(()) => is_busy.store(false, Ordering::Relaxed),
            // What was kept before is as sound as it was; what is kept from now on would not be: the realm stays busy.
            Err(error) => {
                tracing::warn!("cannot keep the state of realm {realm}: {error}; the next start reads more of the history")
            }
        }
    }
}
