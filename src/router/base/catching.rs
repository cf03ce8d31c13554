//! The progress of a reader in the history, and the step from past events to live ones: each once, none left out.
use std::collections::VecDeque;

use crate::model::query::Page;
use crate::model::{EventId, Record};

/// Events of a page, and as many live ones that are held behind it.
pub const PAGE_EVENTS: usize = 256;

/// Bytes of a page, and of live events that are held behind it.
pub const PAGE_BYTES: usize = 256 * 1024;

/// The progress of a subscription, or of a session, in the history; `E` is the form in which it holds a live event.
#[derive(Debug)]
pub struct Catching<E> {
    /// Up to here it has everything.
    cursor: Option<EventId>,
    /// So many events are still to be found, from the last one backwards, before it begins.
    to_find: Option<u64>,
    /// From here on backwards.
    find_before: Option<EventId>,
    /// A read that goes up to this number (0: there is no event) is on its way.
    until: Option<u64>,
    held: VecDeque<E>,
    held_bytes: usize,
    /// More came than is held.
    is_overrun: bool,
}

/// When a live event is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LiveTurn {
    /// At once.
    Now,
    /// The event has been held, or is found in the history.
    Later,
}

impl<E> Catching<E> {
    /// From behind this event on.
    pub fn after(after: Option<EventId>) -> Self {
        Catching {
            cursor: after,
            to_find: None,
            find_before: None,
            until: None,
            held: VecDeque::new(),
            held_bytes: 0,
            is_overrun: false,
        }
    }

    /// From the last `count` events on, counted from this one, which is the last now.
    pub fn last(count: u64, last: Option<EventId>) -> Self {
        if count == 0 {
            return Catching::after(last);
        }
        Catching { to_find: Some(count), find_before: last.and_then(EventId::next), ..Catching::after(None) }
    }

    /// The number of live events that are held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// True while the first of the last events is looked for.
    pub fn is_finding(&self) -> bool {
        self.to_find.is_some()
    }

    /// Before which event to look for it.
    pub fn find_before(&self) -> Option<EventId> {
        self.find_before
    }

    /// A page has been looked through, from its last record backwards: these of it are wanted.
    pub fn note_found(&mut self, wanted: &[EventId], page: &Page) {
        let left = self.to_find.unwrap_or(0);
        let first = usize::try_from(left).ok().and_then(|left| wanted.get(left.checked_sub(1)?));
        if first.is_some() || page.is_end {
            self.cursor = first.and_then(|first| first.previous());
            self.to_find = None;
        } else {
            self.find_before = page.cursor.or(self.find_before);
            self.to_find = Some(left - wanted.len() as u64);
        }
    }

    /// Up to here there is nothing left to find.
    pub fn cursor(&self) -> Option<EventId> {
        self.cursor
    }

    /// Decides on a live event, and holds it if need be.
    pub fn turn_of(&mut self, id: Option<EventId>, weight: usize, held: impl FnOnce() -> E) -> LiveTurn {
        // An event that is not stored has no event id.
        let Some(id) = id else { return LiveTurn::Now };
        if Some(id) <= self.cursor {
            // The event was there before, and only now is to be seen.
            return LiveTurn::Now;
        }
        if self.to_find.is_some() || self.until.is_none_or(|until| id.value() <= until) || self.is_overrun {
            return LiveTurn::Later;
        }
        self.held_bytes += weight;
        if self.held.len() >= PAGE_EVENTS || self.held_bytes > PAGE_BYTES {
            self.let_go();
            self.is_overrun = true;
        } else {
            self.held.push_back(held());
        }
        LiveTurn::Later
    }

    /// A page is asked for that goes up to `last`, the last event of the realm.
    pub fn start_read(&mut self, last: Option<EventId>) {
        self.let_go();
        self.until = Some(last.map_or(0, EventId::value));
    }

    /// The page has been passed on, up to `cut_at` if not all of it. `last` is the last event of the realm by now. If nothing is left
    /// to be found: the live events that were held meanwhile.
    pub fn finish_read(&mut self, page: &Page, cut_at: Option<EventId>, last: Option<EventId>) -> Option<VecDeque<E>> {
        let until = self.until.take().and_then(EventId::new);
        let reached = if page.is_end { until } else { page.cursor };
        self.cursor = self.cursor.max(cut_at.or(reached));
        let is_behind = cut_at.is_some() || !page.is_end || self.is_overrun;
        let held = std::mem::take(&mut self.held);
        self.let_go();
        (!is_behind || self.cursor >= last).then_some(held)
    }

    pub fn let_go(&mut self) {
        self.held = VecDeque::new();
        self.held_bytes = 0;
        self.is_overrun = false;
    }
}

/// As many of a page as go into an outbox together: one that is large by itself waits until that is empty.
pub fn together(records: &[Record]) -> &[Record] {
    let is_large = |record: &Record| record.item.weight_bytes() > PAGE_BYTES as u64;
    let end = records.iter().skip(1).position(is_large).map_or(records.len(), |at| at + 1);
    records.get(..end).unwrap_or(records)
}
