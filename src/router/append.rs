//! Publications on their way into the history: asked for in order, applied in order, each when it has its id.
//!
//! A session's commands keep their order around that wait. What is stored goes on at once, and is answered in its turn; an
//! unacknowledged publication follows the stored one before it; everything else waits until the session owes nothing.
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::Router;
use super::condition::{Request, Role};
use super::effect::{Draft, Effect};
use super::invocation::Caller;
use super::own::Reply;
use super::queue::is_put;
use super::retained::Author;
use super::session::{Session, SessionKey};
use super::subscribe::Probing;
use crate::model::command::{Acknowledge, PublishOptions};
use crate::model::record::{Flags, Kind, StoreRule, Stored, Ticket};
use crate::model::{
    Command, ConnectionId, Delivery, EventId, Item, Payload, Publication, PublicationId, Qos, Reason, Record, SessionId, Topic,
};

/// What a session has on its way into the history, and what waits behind it.
#[derive(Debug, Default)]
pub struct Owed {
    /// Tickets that have not come back.
    pub(super) tickets: usize,
    /// The last of them.
    last: Ticket,
    /// A SUBSCRIBE that waits for the history, and holds up everything behind it.
    pub(super) probing: Option<Box<Probing>>,
    /// Changes of state that it asked for and that have not come back. They hold up nothing but the reading of its socket.
    changes: usize,
    /// Those among them whose outcome decides where the next publication stands: conditions.
    pub(super) undecided: usize,
    /// Commands that wait for all of them, with the connection that sent them.
    deferred: VecDeque<(ConnectionId, Command)>,
    /// Tickets of deliveries that have not come back.
    said: usize,
    /// The last of them.
    last_said: Ticket,
}

impl Owed {
    /// True while the record of something is on its way that is to be said then.
    pub(super) fn is_saying(&self) -> bool {
        self.said > 0
    }

    /// True while nothing that the session sent is on its way.
    fn is_settled(&self) -> bool {
        self.tickets == 0 && self.changes == 0
    }
}

impl Session {
    /// What tells its connection that nothing it sent is on its way any more, if that is so.
    fn settled(&self) -> Option<Effect> {
        self.connection.filter(|_| self.owed.is_settled()).map(Effect::Settled)
    }
}

/// What has no id yet.
#[derive(Debug)]
enum Waiting {
    Publication(Published),
    Put(Put),
    Change(Asked),
    Condition(Box<Request>),
    Command(Held),
    Delivery(Said),
}

/// A step of a delivery that is on record before it is said.
#[derive(Debug)]
struct Said {
    to: (SessionKey, SessionId),
    connection: ConnectionId,
    /// What is said, and after it the events of the session that came behind it.
    deliveries: Vec<Delivery>,
}

/// A command that is on record before it is carried out.
#[derive(Debug)]
struct Held {
    from: (SessionKey, SessionId),
    connection: ConnectionId,
    command: Command,
    followers: Vec<Follower>,
}

/// A publication that has no id yet.
#[derive(Debug)]
pub(super) struct Published {
    pub from: Option<(SessionKey, SessionId)>,
    /// Who retains it, if it is retained.
    pub by: Option<Author>,
    pub connection: Option<ConnectionId>,
    pub publication: Arc<Publication>,
    pub acknowledge: Acknowledge,
    pub options: Option<Box<PublishOptions>>,
    /// Unacknowledged publications that its session published after it.
    pub(super) followers: Vec<Follower>,
    /// What it does to whoever holds or waits for its topic.
    pub role: Role,
}

impl Published {
    /// One of the router's own.
    pub fn own(publication: Arc<Publication>, role: Role) -> Self {
        let acknowledge = Acknowledge::None;
        Published { from: None, by: None, connection: None, publication, acknowledge, options: None, followers: Vec::new(), role }
    }

    fn is_change_of_value(&self) -> bool {
        self.publication.retain
    }
}

/// A change of state that somebody, or the router itself, has asked for.
#[derive(Debug)]
struct Asked {
    from: Option<(SessionKey, SessionId)>,
    kind: Kind,
    body: Bytes,
    caller: Option<Caller>,
}

/// An item of a queue, put by a call.
#[derive(Debug)]
struct Put {
    from: Option<(SessionKey, SessionId)>,
    publication: Arc<Publication>,
    caller: Caller,
}

/// Where a change of state stands in the history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// In the order.
    pub id: EventId,
    /// In milliseconds since the Unix epoch: what is due at which time is decided by this, not by the clock.
    pub time_ms: u64,
}

#[derive(Debug)]
pub(super) struct Follower {
    publication: Arc<Publication>,
    options: Option<Box<PublishOptions>>,
}

/// Everything that a realm has on its way into the history, in the order of tickets.
#[derive(Debug, Default)]
pub struct Appends {
    first: Ticket,
    waiting: VecDeque<Waiting>,
    /// Which of them will change the value of their topic.
    changes: HashMap<Topic, VecDeque<Ticket>, RandomState>,
}

impl Appends {
    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn push(&mut self, waiting: Waiting) -> Ticket {
        let ticket = Ticket(self.first.0 + self.waiting.len() as u64);
        if let Waiting::Publication(published) = &waiting
            && published.is_change_of_value()
        {
            self.changes.entry(published.publication.topic.clone()).or_default().push_back(ticket);
        }
        self.waiting.push_back(waiting);
        ticket
    }

    /// The changes of the value of `topic` that have no place yet, in their order.
    pub(super) fn changes_of(&self, topic: &Topic) -> impl Iterator<Item = (Ticket, &Published)> {
        let tickets = self.changes.get(topic).into_iter().flatten();
        tickets.filter_map(|ticket| match self.waiting.get(usize::try_from(ticket.0.checked_sub(self.first.0)?).ok()?) {
            Some(Waiting::Publication(published)) => Some((*ticket, published)),
            _ => None,
        })
    }

    /// True while this ticket has not come back.
    pub(super) fn has(&self, ticket: Ticket) -> bool {
        ticket >= self.first
    }

    fn at_mut(&mut self, ticket: Ticket) -> Option<&mut Waiting> {
        let index = ticket.0.checked_sub(self.first.0)?;
        self.waiting.get_mut(usize::try_from(index).ok()?)
    }

    /// What goes on as soon as this ticket has come back.
    fn followers_of(&mut self, ticket: Ticket) -> Option<&mut Vec<Follower>> {
        match self.at_mut(ticket)? {
            Waiting::Publication(Published { followers, .. }) | Waiting::Command(Held { followers, .. }) => Some(followers),
            _ => None,
        }
    }

    /// Tickets come back in their order.
    fn take(&mut self, ticket: Ticket) -> Option<Waiting> {
        if ticket != self.first {
            return None;
        }
        let waiting = self.waiting.pop_front()?;
        self.first.0 += 1;
        if let Waiting::Publication(published) = &waiting
            && published.is_change_of_value()
            && let Some(tickets) = self.changes.get_mut(&published.publication.topic)
        {
            tickets.pop_front();
            if tickets.is_empty() {
                self.changes.remove(&published.publication.topic);
            }
        }
        Some(waiting)
    }
}

impl Router {
    /// What was asked for under this ticket is in the history as `id`, at `time_ms` (milliseconds since the Unix epoch). A
    /// duplicate was there before, under this id: it is acknowledged and goes to nobody. Tickets come back in their order.
    pub fn handle_appended(&mut self, ticket: Ticket, id: EventId, time_ms: u64, is_duplicate: bool) {
        self.now_ms = self.now_ms.max(time_ms);
        let place = Place { id, time_ms };
        self.reads.note_last(id);
        self.conditions.time_ms = time_ms;
        match self.appends.take(ticket) {
            Some(Waiting::Publication(published)) => self.place_publication(place, published, is_duplicate),
            Some(Waiting::Put(put)) => self.place_put(place, &put),
            Some(Waiting::Change(asked)) => self.place_change(place, asked),
            Some(Waiting::Condition(request)) => {
                self.take_request(place, request);
                self.continue_shut_down();
            }
            Some(Waiting::Command(held)) => self.release_command(held, Ok(())),
            Some(Waiting::Delivery(said)) => self.say(said),
            None => {}
        }
    }

    /// A publication has its place: whoever is to have it gets it, then its publisher is answered.
    fn place_publication(&mut self, place: Place, mut waiting: Published, is_duplicate: bool) {
        let from = self.author(waiting.from);
        if let (Some(key), Acknowledge::ExactlyOnce(id) | Acknowledge::ExactlyOnceAgain(id)) = (from, waiting.acknowledge) {
            self.note_session_changed(key);
            if let Some(session) = self.sessions.at_mut(key) {
                session.note_placed(id);
            }
        }
        let mut publication = waiting.publication;
        // The record that was made of it is gone: nobody else holds it.
        if let Some(publication) = Arc::get_mut(&mut publication) {
            publication.id = place.id.into();
        }
        let receivers = match is_duplicate {
            true => Ok(1),
            false if is_put(&publication) => self.apply_put(place, &publication).map(|()| 1),
            false => Ok(self.publish_ordered(from, waiting.by, &publication, waiting.options.as_deref())),
        };
        let role = std::mem::take(&mut waiting.role);
        if !is_duplicate && (!matches!(role, Role::Plain) || publication.retain && self.conditions.has(&publication.topic)) {
            let acknowledge = (waiting.acknowledge, receivers.is_ok_and(|receivers| receivers > 0));
            waiting.acknowledge = self.note_placed(place, &publication, waiting.from, role, acknowledge);
        }
        let outcome = receivers.map(|receivers| (place.id.into(), receivers));
        self.settle(waiting.connection, from, waiting.acknowledge, outcome, waiting.followers);
        if publication.retain {
            self.advance(&publication.topic);
        }
    }

    /// An item that a call put has its place.
    fn place_put(&mut self, place: Place, put: &Put) {
        let outcome = self.apply_put(place, &put.publication);
        if self.author(put.from).is_some() {
            self.reply(&put.caller, outcome.map_or_else(Reply::from, |()| Reply::Now(vec![place.id.value().into()])));
        }
        self.settle_change(put.from);
    }

    fn place_change(&mut self, place: Place, Asked { from, kind, body, caller }: Asked) {
        let author = self.author(from);
        if let Some(key) = author {
            self.note_session_changed(key);
        }
        self.apply_change(place, kind, &body, author, caller);
        self.settle_change(from);
    }

    /// What was asked for under this ticket could not be stored: nobody gets it, and its publisher is told why.
    pub fn handle_append_refused(&mut self, ticket: Ticket, reason: Reason) {
        match self.appends.take(ticket) {
            Some(Waiting::Publication(published)) => self.refuse_publication(published, reason),
            Some(Waiting::Put(Put { from, caller, .. })) => self.refuse_asked(from, Some(caller), reason),
            Some(Waiting::Change(Asked { from, kind, body, caller })) => {
                self.change_refused(kind, &body, caller.is_some());
                self.refuse_asked(from, caller, reason);
            }
            Some(Waiting::Condition(request)) => {
                self.refuse_untaken(request, reason);
                self.continue_shut_down();
            }
            Some(Waiting::Command(held)) => self.release_command(held, Err(reason)),
            // A disk that takes nothing is no reason to withhold what others have published; a crash may repeat it.
            Some(Waiting::Delivery(said)) => self.say(said),
            None => {}
        }
    }

    fn refuse_publication(&mut self, waiting: Published, reason: Reason) {
        let from = self.author(waiting.from);
        let publication = waiting.publication;
        self.note_refused(&publication.topic, waiting.from, waiting.role, reason);
        self.settle(waiting.connection, from, waiting.acknowledge, Err(reason), waiting.followers);
        if publication.retain {
            self.advance(&publication.topic);
        }
    }

    /// Tells whoever asked for a change why there is none.
    fn refuse_asked(&mut self, from: Option<(SessionKey, SessionId)>, caller: Option<Caller>, reason: Reason) {
        if let Some(caller) = caller.filter(|_| self.author(from).is_some()) {
            self.reply(&caller, reason.into());
        }
        self.settle_change(from);
    }

    /// A record of the history that was there before this process: brings the realm's state to what it was behind it. Records
    /// come in the order of ids, all of them, before any command. Which client retained a message is not on record: No Local does
    /// not see it.
    pub fn handle_replayed(&mut self, record: &Record) {
        self.reads.note_last(record.id);
        self.replay_packet_id(record);
        self.conditions.time_ms = record.item.time_ms;
        let Item { kind, flags, time_ms, payload, .. } = &record.item;
        match (*kind, payload) {
            (Kind::LOCK, _) => return self.replay_lock(record),
            (Kind::WILL, _) => return self.replay_will(record),
            (Kind::QUEUE, _) => self.replay_queue_record(record),
            (Kind::GONE, _) => {
                self.replay_queue_record(record);
                self.replay_gone(Place { id: record.id, time_ms: *time_ms });
            }
            (Kind::PUBLICATION, _) => self.replay_publication(record),
            (kind, Payload::Bytes(body)) => self.replay_change(Place { id: record.id, time_ms: *time_ms }, kind, body),
            _ => {}
        }
        if flags.has(Flags::RETAIN)
            && let Some(publication) = record.to_publication()
        {
            self.replay_holder(record);
            self.retain(&Arc::new(publication), None);
        }
    }

    /// True while something that this connection sent waits for its place in the history.
    pub fn is_owed(&self, connection: ConnectionId) -> bool {
        let session = self.sessions.of_connection(connection).and_then(|key| self.sessions.at(key));
        session.is_some_and(|session| !session.owed.is_settled())
    }

    /// A session has asked for a change of state.
    fn note_change(&mut self, from: Option<(SessionKey, SessionId)>) {
        if let Some(session) = from.and_then(|(key, _)| self.sessions.at_mut(key)) {
            session.owed.changes += 1;
        }
    }

    /// It has its place, or could not be stored.
    fn settle_change(&mut self, from: Option<(SessionKey, SessionId)>) {
        if let Some(session) = self.author(from).and_then(|key| self.sessions.at_mut(key)) {
            session.owed.changes = session.owed.changes.saturating_sub(1);
            let settled = session.settled();
            self.effects.extend(settled);
        }
        self.continue_shut_down();
    }

    /// Its publisher, if its session has not ended meanwhile.
    pub(super) fn author(&self, from: Option<(SessionKey, SessionId)>) -> Option<SessionKey> {
        let (key, id) = from?;
        self.sessions.at(key).is_some_and(|session| session.id == id).then_some(key)
    }

    fn settle(
        &mut self,
        connection: Option<ConnectionId>,
        from: Option<SessionKey>,
        acknowledge: Acknowledge,
        outcome: Result<(PublicationId, usize), Reason>,
        followers: Vec<Follower>,
    ) {
        if let (Some(connection), Some(key)) = (connection, from) {
            self.acknowledge(key, connection, acknowledge, outcome);
        }
        self.follow(from, followers);
    }

    /// A command is on record, or cannot be.
    fn release_command(&mut self, held: Held, recorded: Result<(), Reason>) {
        let from = self.author(Some(held.from));
        // Whoever has taken the session over has put an end to it, but it is on record: it is carried out for nobody to hear.
        if let Some(key) = from {
            self.note_session_changed(key);
            match recorded {
                Ok(()) => self.carry_out(key, held.connection, held.command),
                Err(reason) => self.refuse_command(key, held.connection, held.command, reason),
            }
        }
        self.follow(from, held.followers);
    }

    fn refuse_command(&mut self, key: SessionKey, connection: ConnectionId, command: Command, reason: Reason) {
        match command {
            Command::Subscribe { request, entries } => {
                let results = entries.iter().map(|_| Err(reason)).collect();
                self.deliver(connection, Delivery::Subscribed(request, results));
            }
            Command::Unsubscribe { request, entries } => {
                let results = entries.iter().map(|_| Err(reason)).collect();
                self.deliver(connection, Delivery::Unsubscribed(request, results));
            }
            // PUBREL cannot be refused: the id is free in this life.
            command => self.carry_out(key, connection, command),
        }
    }

    /// What came behind a ticket goes on.
    fn follow(&mut self, from: Option<SessionKey>, followers: Vec<Follower>) {
        for follower in followers {
            self.publish(from, follower.publication, follower.options.as_deref());
        }
        if let Some(key) = from {
            self.owe_less(key);
        }
        self.continue_shut_down();
    }

    /// One of a session's tickets has come back.
    pub(super) fn owe_less(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.at_mut(key) {
            session.owed.tickets = session.owed.tickets.saturating_sub(1);
        }
        self.continue_deferred(key);
    }

    /// Commands that waited, as far as they need not wait again.
    pub(super) fn continue_deferred(&mut self, key: SessionKey) {
        while let Some(session) = self.sessions.at_mut(key) {
            if session.owed.tickets > 0 {
                return;
            }
            let Some((connection, command)) = session.owed.deferred.pop_front() else {
                let settled = session.settled();
                return self.effects.extend(settled);
            };
            // Whoever has taken the session over, or ended it, has put an end to these as well.
            if session.connection == Some(connection) {
                self.handle_command(key, connection, command);
            }
        }
    }

    /// Keeps the order of a session's commands around what it has on its way into the history: returns the command if it can be
    /// handled now.
    pub(super) fn put_behind(&mut self, key: SessionKey, connection: ConnectionId, command: Command) -> Option<Command> {
        let owed = self.sessions.at(key).map(|session| &session.owed).filter(|owed| owed.tickets > 0);
        let Some(owed) = owed else { return Some(command) };
        let is_probing = owed.probing.is_some();
        let can_go_on = owed.deferred.is_empty() && owed.undecided == 0;
        match command {
            // Progress of deliveries is nobody's business but the window's.
            Command::Acknowledge(_) => Some(command),
            command if is_probing => {
                self.defer(key, connection, command);
                None
            }
            Command::Publish { ref publication, acknowledge, ref options }
                if can_go_on && !is_conditional(options) && self.can_be_stored(key, publication, acknowledge) =>
            {
                Some(command)
            }
            Command::Publish { publication, acknowledge: Acknowledge::None, options }
                if can_go_on
                    && !is_conditional(&options)
                    && !self.is_stored(&publication, Acknowledge::None)
                    && !publication.topic.is_reserved() =>
            {
                let last = owed.last;
                match self.appends.followers_of(last) {
                    Some(followers) => followers.push(Follower { publication, options }),
                    // It follows nothing in particular: it waits for everything.
                    None => {
                        self.defer(key, connection, Command::Publish { publication, acknowledge: Acknowledge::None, options })
                    }
                }
                None
            }
            command => {
                self.defer(key, connection, command);
                None
            }
        }
    }

    fn defer(&mut self, key: SessionKey, connection: ConnectionId, command: Command) {
        if let Some(session) = self.sessions.at_mut(key) {
            session.owed.deferred.push_back((connection, command));
        }
    }

    /// Has everything that the session sends from now on wait for the history's answer to a SUBSCRIBE.
    pub(super) fn hold_up(&mut self, key: SessionKey, probing: Probing) {
        if let Some(session) = self.sessions.at_mut(key) {
            session.owed.tickets += 1;
            session.owed.probing = Some(Box::new(probing));
        }
    }

    /// Takes that SUBSCRIBE back out.
    pub(super) fn let_go_on(&mut self, key: SessionKey) -> Option<Probing> {
        let owed = &mut self.sessions.at_mut(key)?.owed;
        let probing = owed.probing.take()?;
        owed.tickets = owed.tickets.saturating_sub(1);
        Some(*probing)
    }

    /// True for a publication that will be stored, without anything to be said about it before.
    fn can_be_stored(&self, key: SessionKey, publication: &Publication, acknowledge: Acknowledge) -> bool {
        let is_repetition = match acknowledge {
            Acknowledge::ExactlyOnce(id) | Acknowledge::ExactlyOnceAgain(id) => {
                self.sessions.at(key).is_some_and(|session| session.unreleased.contains_key(&id))
            }
            _ => false,
        };
        let is_refused =
            if is_put(publication) { self.check_put(publication).is_err() } else { self.retained_is_full(publication) };
        self.is_stored(publication, acknowledge) && !is_repetition && !is_refused
    }

    /// Which publications get a place in the history, where that is not decided by whether they are acknowledged.
    pub fn store_by(&mut self, rules: Vec<StoreRule>) {
        self.store_rules = rules;
    }

    /// What is acknowledged is in the history before, unless a rule says otherwise; what is retained is there too, whatever its QoS
    /// (MAPPING.md). Names of the router's own are not, but for items of queues, which always are.
    pub(super) fn is_stored(&self, publication: &Publication, acknowledge: Acknowledge) -> bool {
        let covers = |rule: &&StoreRule| rule.filter.as_ref().is_none_or(|filter| filter.covers(&publication.topic));
        let rule = self.store_rules.iter().find(covers);
        let is_wanted = match rule.map_or(Stored::Acknowledged, |rule| rule.stored) {
            Stored::Acknowledged => acknowledge != Acknowledge::None || publication.qos > Qos::AtMostOnce || publication.retain,
            Stored::All => true,
            Stored::Retained => publication.retain,
        };
        (is_wanted && !publication.topic.is_reserved()) || is_put(publication)
    }

    /// Sends a publication on its way into the history.
    pub(super) fn append(
        &mut self,
        from: Option<SessionKey>,
        connection: Option<ConnectionId>,
        publication: Arc<Publication>,
        acknowledge: Acknowledge,
        options: Option<Box<PublishOptions>>,
    ) {
        let waiting = Published { connection, acknowledge, options, ..Published::own(publication, Role::Plain) };
        if let Some(session) = from.and_then(|key| self.sessions.at_mut(key)) {
            session.owed.tickets += 1;
        }
        self.append_published(from, waiting);
    }

    /// The same, counted as owed already.
    pub(super) fn append_published(&mut self, from: Option<SessionKey>, mut waiting: Published) {
        let is_disclosed = waiting.options.as_deref().is_some_and(|options| options.disclose_me);
        let author = from.and_then(|key| self.disclosed(key));
        // Nobody else holds it yet: the gate made it for this command.
        if let Some(publication) = Arc::get_mut(&mut waiting.publication) {
            publication.publisher = author.clone().filter(|_| is_disclosed);
        }
        waiting.from = from.zip(author.as_ref().map(|author| author.session));
        waiting.by = from.filter(|_| waiting.publication.retain).and_then(|key| self.author_of(key));
        let flags = self.flags_of(from, &waiting);
        let dedup = self.dedup_key(from, &waiting);
        let draft = Draft { flags, dedup, ..Draft::publication(waiting.publication.clone(), author) };
        let ticket = self.send(Waiting::Publication(waiting), draft);
        if let Some(session) = from.and_then(|key| self.sessions.at_mut(key)) {
            session.owed.last = ticket;
        }
    }

    /// Asks for the place of a record; `waiting` is what comes of it.
    fn send(&mut self, waiting: Waiting, draft: Draft) -> Ticket {
        let ticket = self.appends.push(waiting);
        self.effects.push_back(Effect::Append(ticket, draft));
        ticket
    }

    /// Has a command of a session recorded, and then carried out.
    pub(super) fn append_command(
        &mut self,
        key: SessionKey,
        connection: ConnectionId,
        command: Command,
        kind: Kind,
        body: Bytes,
    ) {
        let Some(author) = self.disclosed(key) else { return };
        let held = Held { from: (key, author.session), connection, command, followers: Vec::new() };
        let ticket = self.send(Waiting::Command(held), Draft::change(kind, body, Some(author)));
        if let Some(session) = self.sessions.at_mut(key) {
            session.owed.tickets += 1;
            session.owed.last = ticket;
        }
    }

    /// A step is on record. To a client that has gone it is not said: it is said again when it comes back.
    fn say(&mut self, said: Said) {
        if let Some(key) = self.author(Some(said.to)) {
            self.note_session_changed(key);
            let Some(session) = self.sessions.at_mut(key) else { return };
            session.owed.said = session.owed.said.saturating_sub(1);
            if session.connection == Some(said.connection) {
                for delivery in said.deliveries {
                    self.deliver(said.connection, delivery);
                }
            }
        }
        self.continue_shut_down();
    }

    /// Says something to a session behind what it is told next, if that is not on record yet: events keep their order
    /// [MQTT-4.6.0-6].
    pub(super) fn say_behind(&mut self, key: SessionKey, connection: ConnectionId, delivery: Delivery) {
        let owed = self.sessions.at(key).map(|session| &session.owed).filter(|owed| owed.said > 0);
        match owed.map(|owed| owed.last_said).and_then(|last| self.appends.at_mut(last)) {
            Some(Waiting::Delivery(said)) if said.connection == connection => said.deliveries.push(delivery),
            _ => self.deliver(connection, delivery),
        }
    }

    /// Has something recorded, and then said.
    pub(super) fn append_delivery(
        &mut self,
        key: SessionKey,
        connection: ConnectionId,
        delivery: Delivery,
        kind: Kind,
        body: Bytes,
    ) {
        let Some(id) = self.sessions.at(key).map(|session| session.id) else { return };
        let said = Said { to: (key, id), connection, deliveries: vec![delivery] };
        let ticket = self.send(Waiting::Delivery(said), Draft::change(kind, body, None));
        if let Some(session) = self.sessions.at_mut(key) {
            session.owed.said += 1;
            session.owed.last_said = ticket;
        }
    }

    fn flags_of(&self, from: Option<SessionKey>, waiting: &Published) -> Flags {
        let (publication, options) = (&waiting.publication, waiting.options.as_deref());
        Flags::of([
            (publication.retain, Flags::RETAIN),
            (matches!(waiting.role, Role::Granted(_)), Flags::CONDITIONAL),
            (publication.publisher.is_some(), Flags::DISCLOSED),
            (options.is_some_and(PublishOptions::is_restricted), Flags::RESTRICTED),
            (self.is_kept_from_publisher(from, options), Flags::NOT_TO_ITSELF),
        ])
    }

    /// Sends an item that a call puts into a queue on its way into the history. It holds up nothing else of the session.
    pub(super) fn append_put(&mut self, key: SessionKey, publication: Arc<Publication>, caller: Caller) {
        let author = self.disclosed(key);
        let from = author.as_ref().map(|author| (key, author.session));
        self.note_change(from);
        let draft = Draft::publication(publication.clone(), author);
        self.send(Waiting::Put(Put { from, publication, caller }), draft);
    }

    /// Sends a condition on its way into the history, as the record `body`: [`Router::take_request`] when it has its place.
    pub(super) fn append_request(&mut self, key: SessionKey, body: Bytes, request: Box<Request>) {
        let draft = Draft { flags: Flags::CONDITIONAL, ..Draft::change(Kind::LOCK, body, self.disclosed(key)) };
        self.send(Waiting::Condition(request), draft);
        if let Some(session) = self.sessions.at_mut(key) {
            session.owed.tickets += 1;
            session.owed.undecided += 1;
        }
    }

    /// Sends a record of the router's own on its way into the history, from which nothing follows in this process.
    pub(super) fn append_drafted(&mut self, kind: Kind, draft: Draft) {
        self.send(Waiting::Change(Asked { from: None, kind, body: Bytes::new(), caller: None }), draft);
    }

    /// Sends a change of state on its way into the history: [`Router::apply_change`] when it has its place. It does not hold up
    /// other commands of the session; changes keep their order among each other and with publications.
    pub(super) fn append_change(&mut self, from: Option<SessionKey>, kind: Kind, body: Bytes, caller: Option<Caller>) {
        let author = from.and_then(|key| self.disclosed(key));
        let from = from.zip(author.as_ref().map(|author| author.session));
        self.note_change(from);
        let draft = Draft::change(kind, body.clone(), author);
        self.send(Waiting::Change(Asked { from, kind, body, caller }), draft);
    }
}

/// True for what [`Router::ask`] takes.
pub(super) fn is_conditional(options: &Option<Box<PublishOptions>>) -> bool {
    options.as_ref().is_some_and(|options| options.condition.is_some())
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::model::command::{AcknowledgeStep, Acknowledgement, Condition, Past, Selection, SubscribeEntry, SubscribeOptions};
    use crate::model::delivery::Taken;
    use crate::model::{Delivery, Filter, PacketId, Payload, RequestId, Topic};
    use crate::router::matcher::tests::Chance;
    use crate::router::tests::Realm;

    fn slow() -> Realm {
        let mut realm = Realm::new();
        realm.is_disk_slow = true;
        realm
    }

    fn id(number: u16) -> PacketId {
        PacketId(number.try_into().unwrap())
    }

    fn publish(topic: &str, text: &'static str, acknowledge: Acknowledge, retain: bool) -> Command {
        let qos = match acknowledge {
            Acknowledge::None => Qos::AtMostOnce,
            Acknowledge::ExactlyOnce(_) => Qos::ExactlyOnce,
            _ => Qos::AtLeastOnce,
        };
        let mut publication = Publication::new(Topic::from_mqtt(topic).unwrap(), Payload::Bytes(text.into()), qos);
        publication.retain = retain;
        Command::Publish { publication: Arc::new(publication), acknowledge, options: None }
    }

    fn texts(realm: &mut Realm, connection: ConnectionId) -> Vec<String> {
        let text = |delivery: Delivery| match delivery {
            Delivery::Event(event) => match &event.publication.payload {
                Payload::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                other => panic!("{other:?}"),
            },
            Delivery::Acknowledged(id, Ok(_)) => format!("puback {}", id.0),
            Delivery::Acknowledged(id, Err(reason)) => format!("puback {} {reason}", id.0),
            Delivery::Received(id, Ok(Taken { .. })) => format!("pubrec {}", id.0),
            Delivery::Subscribed(..) => "suback".to_owned(),
            Delivery::Close(reason) => format!("close {reason}"),
            other => panic!("{other:?}"),
        };
        realm.inbox(connection).into_iter().map(text).collect()
    }

    fn subscribe(filter: &str) -> Command {
        let entry = SubscribeEntry::Topic {
            filter: Filter::from_mqtt(filter).unwrap(),
            share: None,
            options: SubscribeOptions::default(),
        };
        Command::Subscribe { request: RequestId(1), entries: vec![entry] }
    }

    #[test]
    fn nobody_hears_of_what_is_not_stored() {
        let mut realm = slow();
        let (publisher, subscriber) = (realm.mqtt("p"), realm.mqtt("s"));
        realm.subscribe(subscriber, "t", Qos::AtMostOnce).unwrap();
        realm.send(publisher, publish("t", "a", Acknowledge::AtLeastOnce(id(1)), false));
        realm.send(publisher, publish("t", "b", Acknowledge::ExactlyOnce(id(2)), false));
        assert!(texts(&mut realm, publisher).is_empty() && texts(&mut realm, subscriber).is_empty());
        assert!(realm.router.is_owed(publisher));
        realm.append();
        assert_eq!((texts(&mut realm, publisher), texts(&mut realm, subscriber)), (vec!["puback 1".into()], vec!["a".into()]));
        realm.refuse_append(Reason::ServerBusy);
        assert!(matches!(realm.next(publisher), Delivery::Received(_, Err(Reason::ServerBusy))));
        assert!(texts(&mut realm, subscriber).is_empty());
        assert!(!realm.router.is_owed(publisher) && realm.settled == [publisher]);
    }

    #[test]
    fn what_is_not_acknowledged_does_not_overtake_what_is() {
        let mut realm = slow();
        let (publisher, other, subscriber) = (realm.mqtt("p"), realm.mqtt("o"), realm.mqtt("s"));
        realm.subscribe(subscriber, "#", Qos::AtMostOnce).unwrap();
        realm.send(publisher, publish("t", "1", Acknowledge::AtLeastOnce(id(1)), false));
        realm.send(publisher, publish("u", "2", Acknowledge::None, false));
        realm.send(publisher, publish("t", "3", Acknowledge::AtLeastOnce(id(2)), false));
        realm.send(publisher, publish("u", "4", Acknowledge::None, false));
        realm.send(other, publish("u", "now", Acknowledge::None, false));
        assert_eq!(texts(&mut realm, subscriber), ["now"]);
        realm.append();
        assert_eq!(texts(&mut realm, subscriber), ["1", "2"]);
        realm.refuse_append(Reason::ServerBusy);
        assert_eq!(texts(&mut realm, subscriber), ["4"]);
    }

    /// A client that retains a value and subscribes next is told that value as a retained one [MQTT-3.3.1-8].
    #[test]
    fn other_commands_wait_for_what_was_published_before() {
        let mut realm = slow();
        let client = realm.mqtt("c");
        realm.send(client, publish("t", "kept", Acknowledge::AtLeastOnce(id(1)), true));
        realm.send(client, subscribe("t"));
        realm.send(client, publish("t", "live", Acknowledge::AtLeastOnce(id(2)), false));
        realm.send(client, publish("t", "fast", Acknowledge::None, false));
        assert!(texts(&mut realm, client).is_empty());
        realm.append();
        let deliveries = realm.inbox(client);
        assert!(
            matches!(&deliveries[..], [Delivery::Acknowledged(..), Delivery::Subscribed(..), Delivery::Event(kept)] if kept.retain)
        );
        realm.append();
        assert_eq!(texts(&mut realm, client), ["live", "puback 2", "fast"]);
        assert_eq!(realm.settled, [client]);
    }

    #[test]
    fn a_repetition_is_answered_after_the_original() {
        let mut realm = slow();
        let client = realm.mqtt("c");
        realm.send(client, publish("t", "a", Acknowledge::ExactlyOnce(id(1)), false));
        realm.send(client, publish("t", "a", Acknowledge::ExactlyOnce(id(1)), false));
        assert!(texts(&mut realm, client).is_empty());
        realm.append();
        assert_eq!(texts(&mut realm, client), ["pubrec 1", "pubrec 1"]);
    }

    #[test]
    fn a_will_follows_what_was_published_and_precedes_the_end() {
        let mut realm = slow();
        let (publisher, subscriber) = (realm.mqtt("p"), realm.mqtt("s"));
        realm.subscribe(subscriber, "#", Qos::AtMostOnce).unwrap();
        realm.send(publisher, publish("t", "a", Acknowledge::AtLeastOnce(id(1)), false));
        realm.router.shut_down(realm.now_ms);
        realm.advance(0);
        assert!(texts(&mut realm, subscriber).is_empty());
        realm.append();
        assert_eq!(texts(&mut realm, subscriber), ["a", "close server shutting down"]);
        assert_eq!(texts(&mut realm, publisher), ["puback 1", "close server shutting down"]);
    }

    /// Else another process would give the event another id, and the client would have it twice.
    #[test]
    fn a_client_that_comes_back_waits_for_the_records_of_qos_2_too() {
        let mut realm = slow();
        let (publisher, subscriber) = (realm.mqtt("p"), realm.persistent("s"));
        let options = SubscribeOptions { qos: Qos::ExactlyOnce, ..SubscribeOptions::default() };
        let entry = SubscribeEntry::Topic { filter: Filter::from_mqtt("t").unwrap(), share: None, options };
        realm.send(subscriber, Command::Subscribe { request: RequestId(1), entries: vec![entry] });
        realm.append_all();
        realm.send(publisher, publish("t", "a", Acknowledge::ExactlyOnce(id(1)), false));
        realm.append();
        let subscriber = realm.persistent("s");
        assert!(texts(&mut realm, subscriber).is_empty());
        realm.append_all();
        let told = realm.inbox(subscriber);
        assert!(matches!(&told[..], [Delivery::Event(event)] if event.duplicate), "{told:?}");

        let received = Acknowledgement { packet_id: id(1), step: AcknowledgeStep::Received };
        realm.send(subscriber, Command::Acknowledge(vec![received]));
        let subscriber = realm.persistent("s");
        assert!(texts(&mut realm, subscriber).is_empty());
        realm.append_all();
        let told = realm.inbox(subscriber);
        assert!(matches!(&told[..], [Delivery::Release(released, Ok(()))] if *released == id(1)), "{told:?}");
    }

    #[test]
    fn the_end_of_a_session_takes_what_it_waited_with() {
        let mut realm = slow();
        let (publisher, subscriber) = (realm.persistent("p"), realm.mqtt("s"));
        realm.subscribe(subscriber, "#", Qos::AtMostOnce).unwrap();
        realm.send(publisher, publish("t", "a", Acknowledge::AtLeastOnce(id(1)), false));
        realm.send(publisher, subscribe("t"));
        let again = realm.persistent("p");
        realm.append_all();
        assert_eq!(texts(&mut realm, subscriber), ["a"]);
        // Its subscription came from a connection that is gone.
        assert!(texts(&mut realm, again).is_empty());
        realm.send(again, publish("u", "b", Acknowledge::None, false));
        realm.append_all();
        assert_eq!(texts(&mut realm, subscriber), ["b"]);
    }

    /// Clients that publish, stored or not and under conditions, subscribe, leave and come back, on a disk that refuses at times.
    struct Clients {
        realm: Realm,
        chance: Chance,
        connections: [Option<ConnectionId>; 3],
        observer: ConnectionId,
        /// Unacknowledged publications by connection, numbered from 0.
        published: BTreeMap<ConnectionId, usize>,
        /// Publications that waited behind another one.
        followed: usize,
    }

    impl Clients {
        fn new(seed: u64) -> Self {
            let mut realm = Realm::new();
            let observer = realm.mqtt("observer");
            realm.subscribe(observer, "u", Qos::AtMostOnce).unwrap();
            (realm.is_disk_slow, realm.is_reader_slow) = (true, true);
            let (chance, connections, published) = (Chance(seed * 7_919 + 1), [None; 3], BTreeMap::new());
            Clients { realm, chance, connections, observer, published, followed: 0 }
        }

        fn step(&mut self) {
            let who = self.chance.below(3);
            let connection = match self.connections[who] {
                Some(connection) => connection,
                None if who == 0 => self.realm.wamp(),
                None => self.realm.persistent(["", "a", "b"][who]),
            };
            self.connections[who] = Some(connection);
            match self.chance.below(24) {
                0..=3 => self.publish(connection),
                4..=5 => self.realm.send(connection, publish("t", "x", Acknowledge::AtLeastOnce(id(1)), false)),
                6 => self.realm.send(connection, publish("t", "", Acknowledge::AtLeastOnce(id(1)), true)),
                7..=10 => self.publish_if(connection),
                11 => self.realm.send(connection, subscribe("other")),
                12 => self.subscribe_after(connection),
                13 if self.chance.below(4) == 0 => {
                    self.realm.lose(connection);
                    self.connections[who] = None;
                    self.published.remove(&connection);
                }
                14 if self.realm.on_their_way() > 0 => self.realm.refuse_append(Reason::NoSpace),
                15..=17 if !self.realm.reads.is_empty() => self.realm.page(),
                _ if self.realm.on_their_way() > 0 => self.realm.append(),
                _ => {}
            }
        }

        /// Not stored: it says who published it, and how many before it.
        fn publish(&mut self, connection: ConnectionId) {
            let count = self.published.entry(connection).or_default();
            let payload = Payload::Bytes(format!("{} {count}", connection.0).into());
            *count += 1;
            let publication = Arc::new(Publication::new(Topic::from_mqtt("u").unwrap(), payload, Qos::AtMostOnce));
            self.realm.send(connection, Command::Publish { publication, acknowledge: Acknowledge::None, options: None });
        }

        fn publish_if(&mut self, connection: ConnectionId) {
            let Command::Publish { publication, acknowledge, .. } = publish("t", "1", Acknowledge::AtLeastOnce(id(2)), true)
            else {
                return;
            };
            let watch = self.chance.below(2) == 0;
            let will = Some(Value::Null).filter(|_| self.chance.below(2) == 0);
            let condition = Condition { when: Some(Value::Null), watch, will, ..Condition::default() };
            let options = PublishOptions { condition: Some(Box::new(condition)), ..PublishOptions::default() };
            self.realm.send(connection, Command::Publish { publication, acknowledge, options: Some(Box::new(options)) });
        }

        fn subscribe_after(&mut self, connection: ConnectionId) {
            let selection = Box::new(Selection { past: Some(Past::Last(1)), ..Selection::default() });
            let (filter, options) = (Filter::from_mqtt("past").unwrap(), SubscribeOptions::default());
            let entry = SubscribeEntry::Selected { filter, options, selection };
            self.realm.send(connection, Command::Subscribe { request: RequestId(1), entries: vec![entry] });
        }

        /// Where nothing is undecided, the last that a session owes is a publication or a command: what is not stored follows it.
        fn check(&mut self) {
            let router = &mut self.realm.router;
            for (_, session) in router.sessions.iter().filter(|(_, session)| session.owed.tickets > 0) {
                if session.owed.undecided == 0 && session.owed.probing.is_none() {
                    let followers = router.appends.followers_of(session.owed.last);
                    assert!(followers.is_some(), "{:?}", session.owed);
                    self.followed += followers.map_or(0, |followers| followers.len());
                }
            }
        }

        fn finish(mut self) -> usize {
            while self.realm.on_their_way() > 0 || !self.realm.reads.is_empty() {
                match self.realm.on_their_way() {
                    0 => self.realm.page(),
                    _ => self.realm.append(),
                }
                self.check();
            }
            // A client without a lock in its line, or any other, owes nothing for good.
            assert!(self.connections.iter().flatten().all(|connection| !self.realm.router.is_owed(*connection)));
            let heard = texts(&mut self.realm, self.observer);
            for (connection, count) in &self.published {
                let theirs = heard.iter().filter_map(|text| text.strip_prefix(&format!("{} ", connection.0)));
                let expected: Vec<_> = (0..*count).map(|number| number.to_string()).collect();
                assert_eq!(theirs.collect::<Vec<_>>(), expected, "{connection}");
            }
            self.followed
        }
    }

    /// The world of one seed, for its trace.
    pub fn play(seed: u64, prepare: &dyn Fn(&mut Realm)) -> u32 {
        let mut clients = Clients::new(seed);
        prepare(&mut clients.realm);
        (0..120).for_each(|_| clients.step());
        while clients.realm.on_their_way() > 0 || !clients.realm.reads.is_empty() {
            match clients.realm.on_their_way() {
                0 => clients.realm.page(),
                _ => clients.realm.append(),
            }
        }
        clients.realm.trace.hash()
    }

    #[test]
    fn what_is_not_stored_waits_and_is_never_lost() {
        let mut followed = 0;
        for seed in 0..300 {
            let mut clients = Clients::new(seed);
            for _ in 0..120 {
                clients.step();
                clients.check();
            }
            followed += clients.finish();
        }
        assert!(followed > 1_000, "{followed} times was something seen waiting");
    }
}
