//! The writes of a solo, and how the history of a realm is read back after a restart.
use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::seen::{Seen, SeenLimits};
use crate::cluster::segment::{DedupKey, EventId, Incarnation};
use crate::model::record::Kind;
use crate::model::{Item, Payload, Record};

/// A batch to be appended to the log as it is; any prefix of it that survives a power loss is sound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// The id that the log must give the first of them.
    pub first_id: EventId,
    /// Items of this realm, with their time; never none. Duplicates are left out.
    pub items: Vec<Item>,
}

impl Write {
    /// Whether these ids, which the log gave the items, are those that the solo counts on. If not, the log is not the one that was
    /// read at the start: [`super::Solo::handle_failed`].
    pub fn has(&self, ids: &[EventId]) -> bool {
        ids.len() == self.items.len() && (0..).zip(ids).all(|(n, id)| self.first_id.plus(n) == *id)
    }
}

/// SESSION_GONE: the process that had this life has ended, and its connections with it.
pub(super) fn gone(realm: Arc<str>, life: Incarnation, dt_ms: u64) -> Item {
    Item::of_kind(Kind::GONE, realm, dt_ms, Payload::Bytes(Bytes::copy_from_slice(&life.0.to_le_bytes())))
}

/// The life that a record says has ended.
fn ended(record: &Record) -> Option<Incarnation> {
    match &record.item.payload {
        Payload::Bytes(life) if record.item.kind == Kind::GONE => {
            life.as_ref().try_into().ok().map(u32::from_le_bytes).map(Incarnation)
        }
        _ => None,
    }
}

/// All that a solo needs to go on after a restart; with the ids, part of a snapshot of its realm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SoloState {
    /// The id that the next item gets.
    pub next_id: EventId,
    /// The time of the last item, in milliseconds since 1970.
    pub dt_ms: u64,
    /// The latest life that left anything in the log, 0 for none.
    pub incarnation: Incarnation,
    /// The keys that are remembered, by ascending id.
    pub seen: Vec<(DedupKey, EventId)>,
}

/// A record that does not follow the one before: the history that is read is not whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The id that must come next.
    pub expected: EventId,
}

/// The state that the log holds, folded record by record in the order of ids.
#[derive(Clone, Debug)]
pub struct Restored {
    pub(super) next_id: EventId,
    pub(super) dt_ms: u64,
    pub(super) incarnation: Incarnation,
    pub(super) seen: Seen,
}

impl Restored {
    /// An empty history.
    pub fn new(limits: SeenLimits) -> Self {
        Restored { next_id: EventId::FIRST, dt_ms: 0, incarnation: Incarnation(0), seen: Seen::new(limits) }
    }

    /// A history whose beginning a snapshot stands for.
    pub fn from_state(limits: SeenLimits, state: &SoloState) -> Self {
        let mut seen = Seen::new(limits);
        for (key, id) in &state.seen {
            seen.remember(key, *id);
            seen.forget_oldest([key.owner.clone()]);
        }
        Restored { next_id: state.next_id, dt_ms: state.dt_ms, incarnation: state.incarnation, seen }
    }

    /// The next record of the realm, of any kind.
    pub fn handle_record(&mut self, record: &Record) -> Result<(), Gap> {
        if record.id != self.next_id {
            return Err(Gap { expected: self.next_id });
        }
        self.next_id = record.id.plus(1);
        self.dt_ms = self.dt_ms.max(record.item.time_ms);
        if let Some(key) = &record.item.dedup {
            self.seen.remember(key, record.id);
            self.seen.forget_oldest([key.owner.clone()]);
        }
        // The first life begins with its first record, each other with the end of the one before.
        self.incarnation = ended(record).map_or(self.incarnation.max(Incarnation(1)), Incarnation::next);
        Ok(())
    }

    /// The same as a state to be kept.
    pub fn state(&self) -> SoloState {
        SoloState { next_id: self.next_id, dt_ms: self.dt_ms, incarnation: self.incarnation, seen: self.seen.all() }
    }
}
