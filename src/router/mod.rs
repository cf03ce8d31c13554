//! One realm as a plain value, commands in and effects out, without socket, clock or protocol bytes.
//!
//! Inner floors, of which none knows one above it: `base` and `matcher` (nouns), the closed parts (`session`, `broker`, `dealer`,
//! `lock`, `queue`, `retained`), `waiting` and `realm` (all parts side by side), `flow` (verbs over several parts), `procedure`
//! (the router's own procedures), and this file. Here an input goes to one flow, and then the consequences that it left are
//! carried out.
mod base;
mod broker;
mod dealer;
mod flow;
mod lock;
pub mod matcher;
mod procedure;
mod queue;
mod realm;
mod retained;
mod session;
#[cfg(test)]
mod tests;
mod waiting;
mod waits;
mod will;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

pub use base::codec::Unreadable;
pub use base::context::Counters;
pub use base::effect::{Draft, DraftBody, Effect, ReadForm};
pub use base::piece::{Piece, PieceKey};
pub use lock::{MAX_VALUE_BYTES, ReadValue};
pub use realm::RealmSizes;
pub use session::Owed;

use crate::model::names;
use crate::model::payload::ToArgs;
use crate::model::query::{Page, ReadTicket};
use crate::model::record::{StoreRule, Ticket};
use crate::model::{
    Command, ConnectionId, Delivery, Encoding, EventId, Limits, Payload, Publication, Qos, Reason, Record, Topic,
};
use base::context::Consequence;
use base::key::SessionKey;
use base::reads::{Purpose, Reader};
use flow::{
    answer, append, due, locks, order, pieces, place, publish, replay, restart, route, session as sessions, subscribe, wills,
    window,
};
use procedure::history;
use realm::Realm;

/// One realm: its sessions, subscriptions, retained messages and registrations.
#[derive(Debug)]
pub struct Router {
    realm: Realm,
}

impl Router {
    /// An empty realm; `seed` is all the chance it will ever have.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Router { realm: realm::empty(limits, seed) }
    }

    /// Takes one command of a connection. `now_ms`: milliseconds since the Unix epoch, never running backwards.
    pub fn handle(&mut self, connection: ConnectionId, command: Command, now_ms: u64) {
        self.realm.cx.note_time(now_ms);
        if let Command::Open(open) = command {
            sessions::open(&mut self.realm, connection, *open);
            return self.finish();
        }
        // Commands behind a refused open, or behind the end, find no session: nobody waits for an answer.
        let Some(key) = self.realm.sessions.of_connection(connection) else { return };
        if matches!(command, Command::Ping) {
            // A ping waits for nothing, so that a slow disk is no dead router.
            self.realm.cx.tell(connection, Delivery::Pong);
            return self.finish();
        }
        order::hold_for_values(&mut self.realm, key, &command);
        if let Some(command) = order::admit(&mut self.realm, key, connection, command) {
            self.handle_command(key, connection, command);
        }
        self.finish();
    }

    fn handle_command(&mut self, key: SessionKey, connection: ConnectionId, command: Command) {
        match order::record_of(&self.realm, key, &command) {
            Some((kind, body)) => append::append_command(&mut self.realm, key, connection, command, kind, body),
            None => self.carry_out(key, connection, command),
        }
    }

    fn carry_out(&mut self, key: SessionKey, connection: ConnectionId, command: Command) {
        let realm = &mut self.realm;
        match command {
            Command::Open(_) | Command::Ping => {}
            Command::Publish { publication, acknowledge, options } => {
                publish::handle_publish(realm, key, connection, publication, acknowledge, options);
            }
            Command::Refuse { acknowledge, reason } => {
                if answer::accept(realm, key, connection, acknowledge, 0) {
                    answer::acknowledge(realm, key, connection, acknowledge, Err(reason));
                }
            }
            Command::Fail { kind, request, reason } => realm.cx.tell(connection, Delivery::Failed(kind, request, reason)),
            Command::Subscribe { request, entries } => subscribe::subscribe(realm, key, connection, request, entries),
            Command::Unsubscribe { request, entries } => subscribe::unsubscribe(realm, key, connection, request, &entries),
            Command::Acknowledge(steps) => window::handle_acknowledgements(realm, key, connection, &steps),
            Command::Release(packet_id) => answer::handle_release(realm, key, connection, packet_id),
            Command::Call(call) => procedure::handle_call(realm, key, connection, *call),
            Command::Cancel { request, mode } => flow::call::handle_cancel(realm, key, request, mode),
            Command::Yield(answer) => flow::call::handle_yield(realm, key, connection, *answer),
            Command::Close(close) => sessions::close(realm, key, close),
            Command::Lost(reason) => sessions::lose(realm, key, reason),
        }
    }

    /// Does what the input has left to be done, and looks whether the realm may stop.
    fn finish(&mut self) {
        if !self.realm.cx.is_done() {
            self.carry_on();
        }
        if self.realm.cx.is_stopping {
            sessions::continue_shut_down(&mut self.realm);
        }
    }

    /// Carries out the consequences; all that follows from one is done before the next.
    fn carry_on(&mut self) {
        let mut line = Vec::new();
        self.realm.cx.take_consequences(&mut line);
        while let Some(next) = line.pop() {
            match next {
                Consequence::End(key, reason) => sessions::end_connection(&mut self.realm, key, reason),
                Consequence::Carry(key, connection, command) => self.carry_out(key, connection, command),
                Consequence::Follow(from, followers) => place::follow(&mut self.realm, from, followers),
                Consequence::Continue(key) => {
                    if let Some((connection, command)) = order::next_deferred(&mut self.realm, key) {
                        self.handle_command(key, connection, command);
                        self.realm.cx.then(Consequence::Continue(key));
                    }
                }
                Consequence::Arrive(key, connection) => sessions::arrive_behind(&mut self.realm, key, connection),
                Consequence::Advance(topic) => locks::advance(&mut self.realm, &topic),
            }
            self.realm.cx.take_consequences(&mut line);
        }
    }

    /// Does all that is due at `now_ms`.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.realm.cx.note_time(now_ms);
        while let Some(due) = self.realm.cx.timers.pop_due(self.realm.cx.now_ms) {
            due::handle_due(&mut self.realm, due);
            self.finish();
        }
    }

    /// The record of this ticket is in the history as `id`, at `time_ms` (milliseconds since the Unix epoch). A duplicate was
    /// there before, under this id: it is acknowledged and goes to nobody. Tickets come back in their order.
    pub fn handle_appended(&mut self, ticket: Ticket, id: EventId, time_ms: u64, is_duplicate: bool) {
        place::handle_appended(&mut self.realm, ticket, id, time_ms, is_duplicate);
        self.finish();
    }

    /// The record of this ticket could not be stored: nobody gets it, and its publisher is told why.
    pub fn handle_append_refused(&mut self, ticket: Ticket, reason: Reason) {
        place::handle_append_refused(&mut self.realm, ticket, reason);
        self.finish();
    }

    /// The page that was asked for under this ticket, or why there is none. Pages come back in any order.
    pub fn handle_history(&mut self, ticket: ReadTicket, page: Result<Page, Reason>) {
        let realm = &mut self.realm;
        // Nobody waits for the page of a session that has ended.
        let reader = realm.reads.take(ticket).filter(|reader| realm.sessions.at(reader.session).is_some());
        let Some(Reader { session: key, purpose }) = reader else { return };
        match purpose {
            Purpose::Call => history::handle_call_page(realm, key, ticket, page),
            Purpose::Past(selection) => {
                replay::handle_past_page(realm, key, selection, ticket, page);
                window::go_on(realm, key);
            }
            Purpose::Backlog => window::handle_backlog_page(realm, key, ticket, page),
            Purpose::Probe => subscribe::handle_probe(realm, key, page.map(|_| ())),
        }
        self.finish();
    }

    /// The outbox has passed the `Delivery::Paused` of this connection: more of a long answer may follow.
    pub fn handle_outbox_drained(&mut self, connection: ConnectionId) {
        if let Some(key) = self.realm.sessions.of_connection(connection) {
            replay::continue_replay(&mut self.realm, key);
            window::go_on(&mut self.realm, key);
            self.finish();
        }
    }

    /// Events for this connection were lost at the bound of its outbox: subscribers of `corsac.session.on_slow` are told
    /// the session and how many, the figures count them.
    pub fn handle_outbox_overrun(&mut self, connection: ConnectionId, dropped: u64) {
        let realm = &mut self.realm;
        realm.cx.counters.dropped += dropped;
        let Some(session) = realm.sessions.of_connection(connection).and_then(|key| realm.sessions.at(key)) else { return };
        let args = format!("[{},{dropped}]", session.id).into();
        let payload = Payload::Args { encoding: Encoding::Json, args, kwargs: Bytes::new() };
        if let Ok(topic) = Topic::from_mqtt(names::ON_SLOW) {
            route::publish(realm, None, Arc::new(Publication::new(topic, payload, Qos::AtMostOnce)), None);
        }
    }

    /// The next effect, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.realm.cx.effects.pop_front()?;
        if let Effect::Deliver(_, Delivery::Event(event)) = &effect {
            self.realm.cx.counters.delivered += 1;
            self.realm.cx.counters.delivered_bytes += event.publication.payload.len() as u64;
        }
        Some(effect)
    }

    /// When `handle_timeout` is next needed.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.realm.cx.timers.next_ms()
    }

    /// Publishes in the router's own name (`$SYS`, meta events).
    pub fn publish_own(&mut self, publication: Publication, now_ms: u64) {
        self.realm.cx.note_time(now_ms);
        route::publish(&mut self.realm, None, Arc::new(publication), None);
    }

    /// The router stops: wills are published while there is somebody to read them, then every connection ends.
    pub fn shut_down(&mut self, now_ms: u64) {
        self.realm.cx.note_time(now_ms);
        sessions::shut_down(&mut self.realm);
        self.finish();
    }

    /// A record of the history that was there before this process: brings the realm's state to what it was behind it. Records
    /// come in the order of ids, all of them, before any command. Which client retained a message is not on record: No Local does
    /// not see it. A record that cannot be read changes nothing but the last id: its effect is missing from then on, which whoever
    /// reads the history has to say.
    pub fn handle_replayed(&mut self, record: &Record) -> Result<(), Unreadable> {
        restart::handle_replayed(&mut self.realm, record)
    }

    /// Everything is read: sessions wait for their clients, from when those left, or from now if the process ended first.
    pub fn finish_replay(&mut self, now_ms: u64) {
        self.realm.cx.note_time(now_ms);
        restart::finish_replay(&mut self.realm);
    }

    /// The process before this one ended at this place in the history, and all its connections with it. Before anything that this
    /// process asks for has its place.
    pub fn handle_gone(&mut self, id: EventId, time_ms: u64) {
        place::handle_gone(&mut self.realm, id, time_ms);
        wills::publish_earlier_wills(&mut self.realm);
        self.finish();
    }

    /// True while something that this connection sent waits for its place in the history.
    pub fn is_owed(&self, connection: ConnectionId) -> bool {
        let session = self.realm.sessions.of_connection(connection).and_then(|key| self.realm.sessions.at(key));
        session.is_some_and(|session| !session.inbound.is_settled())
    }

    /// True while so much that this connection sent waits behind something on its way into the history that it is not to be read. As it
    /// owes something then, [`Effect::Settled`] says when it may be.
    pub fn is_over_its_share(&self, connection: ConnectionId) -> bool {
        let session = self.realm.sessions.of_connection(connection).and_then(|key| self.realm.sessions.at(key));
        session.is_some_and(|session| session.inbound.is_over_its_share() && !session.inbound.is_settled())
    }

    /// Which publications get a place in the history, where that is not decided by whether they are acknowledged.
    pub fn store_by(&mut self, rules: Vec<StoreRule>) {
        self.realm.store_rules = rules;
    }

    /// From now on there is a history to read: sessions that stay need no copies of it.
    pub fn keep_history(&mut self) {
        self.realm.has_history = true;
    }

    /// Hands the conversion of payloads to the router, which looks into the bodies of events with it (MAPPING.md, `filter`). Without
    /// it what is not JSON arguments already fits no pattern.
    pub fn convert_with(&mut self, to_args: ToArgs) {
        self.realm.to_args = to_args;
    }

    /// Has the values of topics read in this way, which knows more than JSON.
    pub fn read_values_with(&mut self, read: ReadValue) {
        self.realm.locks.read = read;
    }

    /// From now on changes of pieces are noted, for [`Router::take_changes`].
    pub fn track_changes(&mut self) {
        pieces::track_changes(&mut self.realm);
    }

    /// No piece is kept yet.
    pub fn note_all_changed(&mut self) {
        pieces::note_all_changed(&mut self.realm);
    }

    /// The number of retained messages that have changed.
    pub fn changed_retained(&self) -> usize {
        pieces::changed_retained(&self.realm)
    }

    /// The number of other pieces that have changed, about.
    pub fn changed(&self) -> usize {
        pieces::changed(&self.realm)
    }

    /// So many of the retained messages that have changed. They may be kept before all other pieces: whatever a record before the
    /// last has retained gives way to what is read behind it.
    pub fn take_changed_retained(&mut self, count: usize) -> Vec<(PieceKey, Option<Piece>)> {
        pieces::take_changed_retained(&mut self.realm, count)
    }

    /// The pieces that have changed since the last time, as they are now; `None` is no more.
    pub fn take_changes(&mut self) -> Vec<(PieceKey, Option<Piece>)> {
        pieces::take_changes(&mut self.realm)
    }

    /// The last event whose effect is in the pieces.
    pub fn as_of(&self) -> Option<EventId> {
        self.realm.reads.last_id()
    }

    /// Every piece there is, by key.
    pub fn pieces(&self) -> Vec<PieceKey> {
        pieces::pieces(&self.realm)
    }

    /// The present content of a piece; `None` if there is none.
    pub fn piece(&mut self, key: &PieceKey) -> Option<Piece> {
        pieces::piece(&mut self.realm, key)
    }

    /// Puts a piece in its place, into a realm without connections, before any record is read. Pieces come in the order of their
    /// keys' bytes. `None` if it says nothing that is known here.
    pub fn restore(&mut self, key: &PieceKey, piece: &Piece) -> Option<()> {
        pieces::restore(&mut self.realm, key, piece)
    }

    /// All pieces are those of a realm whose last event was this, at that time (milliseconds since the Unix epoch).
    pub fn resume_behind(&mut self, last: EventId, time_ms: u64) {
        pieces::resume_behind(&mut self.realm, last, time_ms);
    }

    /// Counters since the realm exists.
    pub fn counters(&self) -> Counters {
        self.realm.cx.counters
    }

    /// Sizes of the realm now.
    pub fn sizes(&self) -> RealmSizes {
        RealmSizes {
            sessions: self.realm.sessions.len(),
            connected: self.realm.sessions.connected(),
            subscriptions: self.realm.broker.members(),
            shared_subscriptions: self.realm.broker.shared_members(),
            registrations: self.realm.dealer.len(),
            retained: self.realm.retained.len(),
            retained_bytes: self.realm.retained.payload_bytes(),
        }
    }

    /// The publications that the sessions at these places are owed; `None` behind the last place. Sessions are counted in slices, so
    /// that others are served in between.
    pub fn owed(&self, places: Range<usize>) -> Option<Owed> {
        self.realm.sessions.owed(places)
    }
}
