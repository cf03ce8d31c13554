//! Reads of the history on their way: who waits for which page, and what readers may see.
use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::model::query::ReadTicket;
use crate::model::record::{Flags, Kind};
use crate::model::{EventId, Record};
use crate::router::base::key::{SelectionKey, SessionKey};

/// The purpose of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The call at the head of the session's line.
    Call,
    /// A subscription, which gets past events.
    Past(SelectionKey),
    /// A session that is behind.
    Backlog,
    /// To see whether what a SUBSCRIBE asks for is kept.
    Probe,
}

/// A session that waits for a page, and why.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Its session.
    pub session: SessionKey,
    /// Its purpose.
    pub purpose: Purpose,
}

/// Reads that have not been answered.
#[derive(Debug, Default)]
pub struct Reads {
    last: u64,
    waiting: HashMap<ReadTicket, Reader, FixedState>,
    /// The last event that the realm knows of: what the log has behind it is not anybody's yet.
    last_id: Option<EventId>,
}

impl Reads {
    /// The last event of the realm.
    pub fn last_id(&self) -> Option<EventId> {
        self.last_id
    }

    /// Somebody waits for one more page.
    pub fn push(&mut self, reader: Reader) -> ReadTicket {
        self.last += 1;
        self.waiting.insert(ReadTicket(self.last), reader);
        ReadTicket(self.last)
    }

    /// The reader that waits for this page, and waits no longer.
    pub fn take(&mut self, ticket: ReadTicket) -> Option<Reader> {
        self.waiting.remove(&ticket)
    }

    /// Everything up to this event has its place, and its effect.
    pub fn note_last(&mut self, id: EventId) {
        self.last_id = self.last_id.max(Some(id));
    }
}

/// True for a publication of which it is known who may receive it: one of an earlier version that was limited does not say to whom.
pub fn has_known_readers(record: &Record) -> bool {
    let item = &record.item;
    item.kind == Kind::PUBLICATION && (item.readers.is_some() || !item.flags.has(Flags::RESTRICTED))
}

/// True for a publication that can be read again: by everybody, or by those whom its readers' authids and authroles admit. One that
/// was limited by session ids is for nobody, nor is one of an earlier version, which did not record for whom it was.
pub fn is_readable(record: &Record) -> bool {
    let item = &record.item;
    let is_for_some = item.readers.as_ref().map_or(!item.flags.has(Flags::RESTRICTED), |readers| readers.is_lasting());
    item.kind == Kind::PUBLICATION && is_for_some
}
