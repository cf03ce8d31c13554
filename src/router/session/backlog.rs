//! The history that a session which stays is owed: its progress, and no copy of the events behind that.
//!
//! As long as its client keeps up, events go from the realm into its window. Events that do not fit into a short line, or come
//! while the client is away, are left where they are: the session is behind, and reads on in the history when it has room. A
//! cursor (everything up to it is over) and the few events that were over before older ones tell the progress. A restart needs no
//! more than that.
use crate::model::query::Page;
use crate::model::query::ReadTicket;
use crate::model::{EventId, Limits};
use crate::router::base::catching::{Catching, LiveTurn};
use crate::router::base::passage::Source;
use crate::router::session::Session;
use crate::router::session::ranges::Ranges;
use crate::router::session::resumable::{ReplayState, Resumables};
use crate::router::session::window::Offered;
use crate::router::session::window::{Inflight, Outgoing};
use std::collections::VecDeque;

/// Events that wait in memory for a client that is connected, and their bytes.
pub const LINE_EVENTS: usize = 4_096;

pub const LINE_BYTES: usize = 1024 * 1024;

/// The same for one that is away.
pub const AWAY_EVENTS: usize = 64;

pub const AWAY_BYTES: usize = 64 * 1024;

/// The progress of a session in the history.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Where it goes on reading, if it is behind.
    catching: Option<Catching<Outgoing>>,
    reading: Option<ReadTicket>,
    /// Events that were for it, ever, and those of them that are over.
    routed: u64,
    done: u64,
    /// Events that are over, though older ones are not.
    over: Ranges,
    /// Some of what it was to read is not kept any more.
    has_gap: bool,
    /// Up to here events may have been sent by an earlier process.
    sent_until: Option<EventId>,
    /// The replays of what there was before its subscriptions.
    replays: Resumables,
}

/// A page that has been passed on to a session.
#[derive(Debug)]
pub struct Passed {
    /// Up to where it has read.
    pub cursor: Option<EventId>,
    /// The session is behind no more.
    pub is_live: bool,
    /// Live events that came behind the page.
    pub held: VecDeque<Outgoing>,
}

/// The progress as a record says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// Up to here everything is over, by number.
    pub cursor: u64,
    /// Behind that, these are over: from and to, both included.
    pub over: Vec<(u64, u64)>,
    /// Events that were over, ever.
    pub done: u64,
}

impl Backlog {
    /// Of a session that an earlier process had: behind from this event on, until it is known better.
    pub fn restored(after: Option<EventId>) -> Self {
        Backlog { catching: Some(Catching::after(after)), ..Backlog::default() }
    }

    /// The replays of what there was before its subscriptions.
    pub fn replays(&mut self) -> &mut Resumables {
        &mut self.replays
    }

    /// The same, for the piece of its session.
    pub fn replay_states(&self) -> Vec<ReplayState> {
        self.replays.states()
    }

    /// True if there is something to be read for it, sooner or later.
    #[cfg(test)]
    pub fn is_behind(&self) -> bool {
        self.catching.is_some()
    }

    /// Begins to read a page that goes up to `last`, the last event of the realm, if it is behind and nothing is being read: behind
    /// which event.
    pub fn start_read(&mut self, last: Option<EventId>) -> Option<Option<EventId>> {
        let catching = self.catching.as_mut().filter(|_| self.reading.is_none())?;
        catching.start_read(last);
        Some(catching.cursor())
    }

    /// The page is on its way under this ticket.
    pub fn note_reading(&mut self, ticket: Option<ReadTicket>) {
        self.reading = ticket;
    }

    /// A page has come; false if it is not the one that is being read.
    pub fn take_read(&mut self, ticket: ReadTicket) -> bool {
        let is_it = self.reading == Some(ticket);
        self.reading = self.reading.filter(|_| !is_it);
        is_it
    }

    /// The page has been passed on, up to `cut_at` if not all of it. If that was all, up to `last`: the live events that were held.
    /// `None` if it is not behind.
    pub fn finish_read(&mut self, page: &Page, cut_at: Option<EventId>, last: Option<EventId>) -> Option<Passed> {
        let catching = self.catching.as_mut()?;
        let held = catching.finish_read(page, cut_at, last);
        let passed = Passed { cursor: catching.cursor(), is_live: held.is_some(), held: held.unwrap_or_default() };
        if passed.is_live {
            self.catching = None;
        }
        Some(passed)
    }

    /// The session is behind no more, with so many events that are not over. Gives the number that it has missed, if it is to be
    /// told of a gap.
    pub fn note_live(&mut self, unfinished: usize) -> Option<u64> {
        let missed = self.routed.saturating_sub(self.done).saturating_sub(unfinished as u64);
        self.done += missed;
        (std::mem::take(&mut self.has_gap) && missed > 0).then_some(missed)
    }

    /// The events that it was to read are not kept any more up to this one.
    pub fn skip_to(&mut self, resumed: Option<EventId>) {
        self.has_gap = true;
        self.catching = Some(Catching::after(resumed));
    }

    /// Up to where it has read, if it is behind.
    pub fn cursor(&self) -> Option<Option<EventId>> {
        self.catching.as_ref().map(Catching::cursor)
    }

    /// True for an event that was over before older ones.
    pub fn was_over(&self, id: EventId) -> bool {
        self.over.has(id.value())
    }

    /// The last event that an earlier process may have sent.
    pub fn sent_until(&self) -> Option<EventId> {
        self.sent_until
    }

    /// Decides on an event as it happens: gives it back if it goes into the line of the session.
    pub fn take(&mut self, owed: Outgoing, inflight: &Inflight, is_connected: bool, limits: &Limits) -> Option<Outgoing> {
        let Some(id) = owed.publication.id.event() else { return Some(owed) };
        self.routed += 1;
        if let Some(catching) = &mut self.catching {
            return match catching.turn_of(Some(id), owed.publication.weight(), || owed.clone()) {
                LiveTurn::Now => Some(owed),
                LiveTurn::Later => None,
            };
        }
        let (events, bytes) = if is_connected { (LINE_EVENTS, LINE_BYTES) } else { (AWAY_EVENTS, AWAY_BYTES) };
        let events = events.min(limits.max_session_queue);
        if (is_connected && inflight.is_next(limits)) || (inflight.waiting() < events && inflight.waiting_bytes() < bytes) {
            return Some(owed);
        }
        self.catching = Some(Catching::after(id.previous()));
        None
    }

    /// Events that are over since the last time, and what to say of it all.
    pub fn note(&mut self, finished: &[(u64, u64)], cursor: u64) -> Position {
        self.over.add(finished);
        self.over.forget_until(cursor);
        Position { cursor, over: self.over.clone().into_vec(), done: self.done }
    }

    /// Takes over the progress that an earlier process has recorded.
    pub fn restore(&mut self, standing: Position) {
        self.over = Ranges::of(standing.over);
        self.done = standing.done;
        let cursor = EventId::new(standing.cursor);
        self.catching = Some(Catching::after(cursor));
        self.over.forget_until(standing.cursor);
    }

    /// Takes in the position that a record tells of. The record may be older than the state: a piece knows of acknowledgements before
    /// their record has its place.
    pub fn restore_said(&mut self, said: Position) {
        let known = self.catching.as_ref().and_then(Catching::cursor).map_or(0, EventId::value);
        self.over.add(&said.over);
        let (over, done) = (std::mem::take(&mut self.over).into_vec(), said.done.max(self.done));
        self.restore(Position { cursor: said.cursor.max(known), over, done });
    }

    /// True if this event was over in an earlier process.
    pub fn is_over(&self, id: EventId) -> bool {
        self.catching.as_ref().is_some_and(|catching| Some(id) <= catching.cursor()) || self.over.has(id.value())
    }

    /// An event is over.
    pub fn note_done(&mut self, id: EventId) {
        self.done += 1;
        // An event that an earlier process sent may be over before it is read again.
        if self.catching.as_ref().is_some_and(|catching| Some(id) > catching.cursor()) {
            self.over.add(&[(id.value(), id.value())]);
        }
    }

    /// Events that were for it and are not over.
    pub fn unfinished(&self) -> u64 {
        self.routed.saturating_sub(self.done)
    }

    /// Events that were for it, ever.
    pub fn routed(&self) -> u64 {
        self.routed
    }

    /// Takes over the counts besides the progress.
    pub fn restore_routed(&mut self, routed: u64, sent_until: Option<EventId>) {
        self.routed = routed;
        self.sent_until = sent_until;
    }

    /// Events up to this one may have been sent to the client, which has not said that it has them.
    pub fn note_sent_until(&mut self, id: Option<EventId>) {
        self.sent_until = id;
    }
}

impl Session {
    /// The last event that its client may have been sent and has not acknowledged.
    pub fn sent_until(&self) -> Option<EventId> {
        // Of what an earlier process sent it is not known what it has been sent again.
        self.inflight.last_sent().max(self.backlog.as_ref().and_then(|backlog| backlog.sent_until()))
    }

    /// Puts a delivery in line, or leaves it to the history.
    pub fn put_in_line(&mut self, owed: Outgoing, limits: &Limits) -> Offered {
        let is_connected = self.connection.is_some();
        if self.is_replayed && owed.source != Source::Live {
            // An acknowledged event is taken out of the line later than it came in.
            self.inflight.wait(owed);
            return Offered::Waits;
        }
        if owed.source == Source::Replayed && !(is_connected && self.inflight.is_next(limits)) {
            // Replays come in pages, which the window paces.
            self.inflight.wait(owed);
            return Offered::Waits;
        }
        let owed = match self.backlog.as_deref_mut().filter(|_| owed.source == Source::Live) {
            Some(backlog) => backlog.take(owed, &self.inflight, is_connected, limits),
            None => Some(owed),
        };
        owed.map_or(Offered::InHistory, |owed| self.inflight.offer(owed, is_connected, limits))
    }
}

/// The events that were acknowledged to a session since its last checkpoint, as ranges of ids.
#[derive(Debug, Default)]
pub struct Finished {
    history: Vec<(u64, u64)>,
    shared: Vec<(u64, u64)>,
    replayed: Vec<(u64, u64)>,
}

impl Finished {
    /// All of it: of the history, of shared subscriptions, of replays. Nothing is left.
    pub fn take(&mut self) -> [Vec<(u64, u64)>; 3] {
        [&mut self.history, &mut self.shared, &mut self.replayed].map(std::mem::take)
    }

    /// One more; true if it is the first.
    pub fn note(&mut self, id: EventId, source: Source) -> bool {
        let (is_first, id) = (self.is_empty(), id.value());
        let ranges = match source {
            Source::Live | Source::Past => &mut self.history,
            Source::Replayed => &mut self.replayed,
            Source::Shared(_) | Source::Other => &mut self.shared,
        };
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => ranges.push((id, id)),
        }
        is_first
    }

    /// Of the events that are read again otherwise.
    pub fn history(&self) -> &[(u64, u64)] {
        &self.history
    }

    pub fn is_empty(&self) -> bool {
        self.history.is_empty() && self.shared.is_empty() && self.replayed.is_empty()
    }
}

impl Session {
    /// True if it stays after its connection, and so after the process.
    pub fn is_durable(&self) -> bool {
        self.protocol.is_mqtt() && self.expiry_s > 0 && self.client_id.is_some()
    }

    /// While records are read: its client has left, and events up to this one may have been sent to it.
    pub fn note_left(&mut self, left_ms: u64, sent: Option<EventId>) {
        self.left_ms = Some(left_ms);
        if let Some(backlog) = &mut self.backlog {
            backlog.note_sent_until(sent);
        }
    }
}
