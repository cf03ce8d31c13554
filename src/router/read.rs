//! Reads of the history on their way: who waits for which page, and what readers may see.
use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::Router;
use super::broker::SelectionKey;
use super::effect::{Effect, ReadForm};
use super::session::SessionKey;
use crate::model::query::{Page, Query, ReadTicket};
use crate::model::record::{Flags, Kind};
use crate::model::{EventId, Reason, Record, SessionId};

/// What a page is read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// The call at the head of the session's line.
    Call,
    /// A subscription, which gets past events.
    Past(SelectionKey),
    /// A session that is behind.
    Backlog,
    /// To see whether what a SUBSCRIBE asks for is kept.
    Probe,
}

/// Who waits for a page.
#[derive(Clone, Copy, Debug)]
struct Reader {
    session: SessionKey,
    id: SessionId,
    purpose: Purpose,
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

    /// Everything up to this event has its place, and its effect.
    pub fn note_last(&mut self, id: EventId) {
        self.last_id = self.last_id.max(Some(id));
    }
}

impl Router {
    /// The page that was asked for under this ticket, or why there is none. Pages come back in any order.
    pub fn handle_history(&mut self, ticket: ReadTicket, page: Result<Page, Reason>) {
        let Some(Reader { session: key, id, purpose }) = self.reads.waiting.remove(&ticket) else { return };
        // Whoever has the place of a session that has ended has not asked for this.
        if self.sessions.at(key).is_none_or(|session| session.id != id) {
            return;
        }
        match purpose {
            Purpose::Call => self.handle_call_page(key, ticket, page),
            Purpose::Past(selection) => self.handle_past_page(key, selection, ticket, page),
            Purpose::Backlog => self.handle_backlog_page(key, ticket, page),
            Purpose::Probe => self.handle_probe(key, page.map(|_| ())),
        }
    }

    /// Asks for a page on behalf of a session; nothing behind the last event of the realm will be on it.
    pub(super) fn read(&mut self, key: SessionKey, purpose: Purpose, mut query: Query, form: ReadForm) -> Option<ReadTicket> {
        let id = self.sessions.at(key)?.id;
        match self.reads.last_id {
            Some(last) => query.before = [query.before, last.next()].into_iter().flatten().min(),
            None => query.from_ms = Some(u64::MAX),
        }
        self.reads.last += 1;
        let ticket = ReadTicket(self.reads.last);
        self.reads.waiting.insert(ticket, Reader { session: key, id, purpose });
        self.effects.push_back(Effect::Read(ticket, Box::new(query), form));
        Some(ticket)
    }
}

/// True for a publication that every reader may see.
pub(super) fn is_visible(record: &Record) -> bool {
    record.item.kind == Kind::PUBLICATION && !record.item.flags.has(Flags::RESTRICTED)
}
