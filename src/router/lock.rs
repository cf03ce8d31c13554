//! Who holds a topic, from the grant to the end: release by token, time to live, the end of the session, the end of the process.
//!
//! A lock is the publication `when: null, watch: true, will: null, retain: true` on the topic of its name. What ends it is a
//! publication too: the holder's will, or no value.
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::Router;
use super::append::{Place, Published};
use super::condition::{Cell, Granted, Role};
use super::invocation::{Caller, Message};
use super::lifecycle::Due;
use super::lock_change::LockChange;
use super::own::Reply;
use super::session::SessionKey;
use super::state::PieceKey;
use crate::model::arguments::Arguments;
use crate::model::command::{Acknowledge, Outcome};
use crate::model::delivery::Taken;
use crate::model::publication::Properties;
use crate::model::record::{Flags, Kind};
use crate::model::{ConnectionId, Delivery, Encoding, EventId, Payload, Publication, Qos, Reason, Record, SessionId, Topic};

/// How long to wait before something that the disk refused is tried again.
const RETRY_MS: u64 = 1_000;

/// The user property that carries the token of a grant.
const TOKEN: &str = "corsac-token";

/// Whose end gives a topic another value.
#[derive(Debug)]
pub struct Holder {
    /// `None` for those of an earlier process.
    key: Option<SessionKey>,
    session: SessionId,
    /// The id of the grant.
    token: EventId,
    will: Value,
    /// When the grant ends by itself, in the time of records.
    deadline_ms: Option<u64>,
    leaving: Option<Leaving>,
}

/// A holder that is about to end.
#[derive(Debug)]
struct Leaving {
    /// What the topic gets.
    value: Value,
    /// Who asked for it.
    asker: Option<(Caller, SessionId)>,
    is_on_its_way: bool,
}

impl Holder {
    /// One of an earlier process.
    pub(super) fn earlier(session: SessionId, token: EventId, will: Value, deadline_ms: Option<u64>) -> Self {
        Holder { key: None, session, token, will, deadline_ms, leaving: None }
    }

    /// Whose session it is.
    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    /// The id of the grant.
    pub(super) fn token(&self) -> EventId {
        self.token
    }

    /// What the topic gets at its end.
    pub(super) fn will(&self) -> &Value {
        &self.will
    }

    /// When it ends by itself.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }

    /// It ends, with this value; only the first end counts.
    fn leave(&mut self, value: Value, asker: Option<(Caller, SessionId)>) {
        self.leaving.get_or_insert(Leaving { value, asker, is_on_its_way: false });
    }
}

impl Router {
    /// A publication has its place: it is a grant, the end of a holder, or a change that makes the holder's promise void. What is
    /// left of its acknowledgement.
    pub(super) fn note_placed(
        &mut self,
        place: Place,
        publication: &Publication,
        from: Option<(SessionKey, SessionId)>,
        role: Role,
        (acknowledge, has_receivers): (Acknowledge, bool),
    ) -> Acknowledge {
        let topic = &publication.topic;
        match role {
            Role::Plain => self.note_value(publication, from),
            Role::Release => {
                if let Some((caller, session)) = self.take_holder(topic).and_then(|holder| holder.leaving?.asker) {
                    self.reply_to(&caller, session, Reply::Now(Vec::new()));
                }
            }
            Role::Granted(granted) => {
                if self.conditions.recorded.remove(topic).is_some() {
                    self.changes.note(|| PieceKey::Grant(topic.clone()));
                }
                if self.conditions.unrecorded.remove(topic) {
                    // A restart would not know that it is held.
                    self.hold(place, topic, from, &granted);
                    self.part(topic);
                    return self.tell_refused(from, *granted, acknowledge, Reason::NoSpace);
                } else if publication.retain && !publication.payload.is_empty() && granted.will.is_some() {
                    self.hold(place, topic, from, &granted);
                } else if publication.retain {
                    self.note_value(publication, from);
                }
                return self.tell_granted(place, from, *granted, (acknowledge, has_receivers));
            }
        }
        acknowledge
    }

    /// What the holder changes itself keeps its promise; what anybody else changes makes it void.
    fn note_value(&mut self, publication: &Publication, from: Option<(SessionKey, SessionId)>) {
        let holder = self.conditions.cells.get(&publication.topic).and_then(|cell| cell.holder.as_ref());
        let is_own = holder.is_some_and(|holder| from.is_some_and(|(_, session)| session == holder.session));
        if !is_own || publication.payload.is_empty() {
            self.void_holder(&publication.topic);
        }
    }

    fn void_holder(&mut self, topic: &Topic) {
        if let Some((caller, session)) = self.take_holder(topic).and_then(|holder| holder.leaving?.asker) {
            self.reply_to(&caller, session, Reason::ConditionFailed.into());
        }
    }

    fn take_holder(&mut self, topic: &Topic) -> Option<Holder> {
        let holder = self.conditions.cells.get_mut(topic)?.holder.take()?;
        self.changes.note(|| PieceKey::Holder(topic.clone()));
        if let Some(key) = holder.key {
            if let Some(standing) = self.conditions.standings.get_mut(&key) {
                standing.held.remove(topic);
            }
            self.forget_standing(key);
        }
        Some(holder)
    }

    fn hold(&mut self, place: Place, topic: &Topic, from: Option<(SessionKey, SessionId)>, granted: &Granted) {
        self.void_holder(topic);
        let Some((key, session)) = from else { return };
        let is_there = self.is_connected_by((key, session), granted.connection);
        let will = granted.will.clone().unwrap_or_default();
        let deadline_ms = granted.ttl_ms.map(|ttl_ms| place.time_ms.saturating_add(ttl_ms));
        let key = is_there.then_some(key);
        let mut holder = Holder { key, session, token: place.id, will, deadline_ms, leaving: None };
        match key {
            Some(key) => drop(self.conditions.standings.entry(key).or_default().held.insert(topic.clone())),
            // It had ended before it was granted.
            None => holder.leave(holder.will.clone(), None),
        }
        self.changes.note(|| PieceKey::Holder(topic.clone()));
        self.conditions.cells.entry(topic.clone()).or_default().holder = Some(holder);
    }

    fn is_connected_by(&self, from: (SessionKey, SessionId), connection: ConnectionId) -> bool {
        let session = self.author(Some(from)).and_then(|key| self.sessions.at(key));
        session.is_some_and(|session| session.connection == Some(connection))
    }

    /// Tells the token: in the acknowledgement (MQTT 5), as the answer of the call, or on the response topic.
    fn tell_granted(
        &mut self,
        place: Place,
        from: Option<(SessionKey, SessionId)>,
        granted: Granted,
        (acknowledge, has_receivers): (Acknowledge, bool),
    ) -> Acknowledge {
        if !from.is_some_and(|from| self.is_connected_by(from, granted.connection)) {
            return acknowledge;
        }
        let token = place.id.value();
        match granted.asker {
            Some(asker) if granted.is_call => self.reply(&asker, Reply::Now(vec![json!({ "token": token })])),
            Some(asker) => {
                let user = vec![(TOKEN.into(), token.to_string().into())];
                let properties = Some(Box::new(Properties { user, ..Properties::default() }));
                let payload = json_args(&json!({ "token": token }));
                self.answer(&asker, Message { outcome: Outcome::Result, payload, properties });
            }
            None => {}
        }
        let taken = Ok(Taken { has_receivers, token: Some(place.id) });
        match acknowledge {
            Acknowledge::AtLeastOnce(id) => self.deliver(granted.connection, Delivery::Acknowledged(id, taken)),
            Acknowledge::ExactlyOnce(id) | Acknowledge::ExactlyOnceAgain(id) => {
                self.deliver(granted.connection, Delivery::Received(id, taken));
            }
            Acknowledge::None | Acknowledge::Request(_) => return acknowledge,
        }
        Acknowledge::None
    }

    /// Tells that a grant came to nothing.
    fn tell_refused(
        &mut self,
        from: Option<(SessionKey, SessionId)>,
        granted: Granted,
        acknowledge: Acknowledge,
        reason: Reason,
    ) -> Acknowledge {
        let Some(from) = from.filter(|from| self.is_connected_by(*from, granted.connection)) else { return acknowledge };
        if let Some(asker) = granted.asker {
            self.reply_to(&asker, from.1, reason.into());
        }
        self.acknowledge(from.0, granted.connection, acknowledge, Err(reason));
        Acknowledge::None
    }

    /// A publication could not be stored: a grant is refused, an end is tried again.
    pub(super) fn note_refused(&mut self, topic: &Topic, from: Option<(SessionKey, SessionId)>, role: Role, reason: Reason) {
        match role {
            Role::Plain => {}
            Role::Granted(granted) => {
                self.conditions.unrecorded.remove(topic);
                if self.conditions.recorded.remove(topic).is_some() {
                    self.changes.note(|| PieceKey::Grant(topic.clone()));
                }
                self.tell_refused(from, *granted, Acknowledge::None, reason);
            }
            Role::Release => {
                let retry_ms = self.now_ms.saturating_add(RETRY_MS);
                let Some(cell) = self.conditions.cells.get_mut(topic) else { return };
                cell.retry_ms = Some(retry_ms);
                if let Some(leaving) = cell.holder.as_mut().and_then(|holder| holder.leaving.as_mut()) {
                    leaving.is_on_its_way = false;
                }
            }
        }
    }

    /// A record about conditions could not be stored.
    pub(super) fn lock_change_refused(&mut self, body: &[u8]) {
        let change = LockChange::decode(body);
        let Some((change, topic)) = change.and_then(|change| change.topic().map(|topic| (change, topic))) else { return };
        match (change, self.conditions.cells.get_mut(&topic)) {
            (LockChange::Grant { .. }, _) => drop(self.conditions.unrecorded.insert(topic)),
            (LockChange::Due { .. }, Some(cell)) => {
                cell.is_due_asked = false;
                cell.retry_ms = Some(self.now_ms.saturating_add(RETRY_MS));
                self.arm(&topic);
            }
            _ => {}
        }
    }

    /// The session that holds a topic has ended.
    pub(super) fn part(&mut self, topic: &Topic) {
        if let Some(holder) = self.conditions.cells.get_mut(topic).and_then(|cell| cell.holder.as_mut()) {
            holder.leave(holder.will.clone(), None);
        }
    }

    /// Publishes what the end of a holder leaves behind, once nothing on its way could make that void.
    pub(super) fn leave(&mut self, topic: &Topic) {
        let Some(cell) = self.conditions.cells.get_mut(topic).filter(|cell| cell.retry_ms.is_none()) else { return };
        let Some(holder) = &mut cell.holder else { return };
        let session = holder.session;
        let keeps = |published: &Published| {
            published.from.is_some_and(|(_, from)| from == session) && !published.publication.payload.is_empty()
        };
        let Some(leaving) = &mut holder.leaving else { return };
        if leaving.is_on_its_way || !self.appends.changes_of(topic).all(|(_, published)| keeps(published)) {
            return;
        }
        leaving.is_on_its_way = true;
        let payload = if leaving.value.is_null() { Payload::empty() } else { json_args(&leaving.value) };
        let mut publication = Publication { retain: true, ..Publication::new(topic.clone(), payload, Qos::AtLeastOnce) };
        if self.make_room_for(&publication).is_err() {
            publication.payload = Payload::empty();
        }
        self.append_published(None, Published::own(Arc::new(publication), Role::Release));
    }

    /// Sets the timer of a topic to when it must be looked at again.
    pub(super) fn arm(&mut self, topic: &Topic) {
        let Some(cell) = self.conditions.cells.get(topic) else { return };
        let held = cell.holder.as_ref().filter(|holder| holder.leaving.is_none());
        let expiry_ms = match cell.line.is_empty() {
            true => None,
            false => self.retained.find(topic, self.conditions.time_ms).and_then(|value| value.expires_at_ms),
        };
        let due = [held.and_then(|holder| holder.deadline_ms), expiry_ms, cell.retry_ms];
        let due_ms = due.into_iter().flatten().min().filter(|_| !cell.is_due_asked);
        if cell.timer.map(|(at_ms, _)| at_ms) == due_ms {
            return;
        }
        if let Some((_, timer)) = cell.timer {
            self.timers.clear(timer);
        }
        let timer = due_ms.map(|at_ms| (at_ms, self.timers.set(at_ms, Due::Topic(topic.clone()))));
        if let Some(cell) = self.conditions.cells.get_mut(topic) {
            cell.timer = timer;
        }
    }

    /// The timer of a topic has fired: what follows from it is judged when that has its place in the order.
    pub(super) fn ask_due(&mut self, topic: &Topic) {
        let Some(cell) = self.conditions.cells.get_mut(topic) else { return };
        (cell.timer, cell.retry_ms, cell.is_due_asked) = (None, None, true);
        let change = LockChange::Due { topic: topic.as_mqtt().into() };
        self.append_change(None, Kind::LOCK, change.encode(), None);
    }

    /// A change that somebody, or a timer, has asked for has its place.
    pub(super) fn apply_lock(&mut self, place: Place, body: &[u8], from: Option<SessionKey>, caller: Option<Caller>) {
        let Some(change) = LockChange::decode(body) else { return };
        let Some(topic) = change.topic() else { return };
        let session = from.and_then(|key| self.sessions.at(key)).map(|session| session.id);
        let asker = caller.zip(session);
        match change {
            LockChange::Ask { .. } => return,
            // Told with the publication itself, which follows.
            LockChange::Grant { session, will, .. } => {
                self.changes.note(|| PieceKey::Grant(topic.clone()));
                self.conditions.recorded.insert(topic, (SessionId(session), will));
                return;
            }
            LockChange::Release { token, .. } => match (self.held_by(&topic, token), asker) {
                (Some(holder), asker) => holder.leave(Value::Null, asker),
                (None, Some((caller, session))) => self.reply_to(&caller, session, Reason::ConditionFailed.into()),
                (None, None) => {}
            },
            LockChange::Renew { token, ttl_ms, .. } => {
                self.changes.note(|| PieceKey::Holder(topic.clone()));
                let reply = match self.held_by(&topic, token) {
                    Some(holder) => {
                        holder.deadline_ms = Some(place.time_ms.saturating_add(ttl_ms));
                        Reply::Now(vec![json!({ "token": token, "ttl_ms": ttl_ms })])
                    }
                    None => Reason::ConditionFailed.into(),
                };
                if let Some((caller, session)) = asker {
                    self.reply_to(&caller, session, reply);
                }
            }
            LockChange::Due { .. } => {
                let Some(cell) = self.conditions.cells.get_mut(&topic) else { return };
                cell.is_due_asked = false;
                let over = cell.holder.as_mut().filter(|holder| holder.deadline_ms.is_some_and(|at_ms| at_ms <= place.time_ms));
                if let Some(holder) = over {
                    holder.leave(Value::Null, None);
                }
            }
        }
        self.advance(&topic);
    }

    /// Who holds `topic` by this token, unless it is ending.
    fn held_by(&mut self, topic: &Topic, token: u64) -> Option<&mut Holder> {
        let holder = self.conditions.cells.get_mut(topic)?.holder.as_mut()?;
        (holder.token.value() == token && holder.leaving.is_none()).then_some(holder)
    }

    /// Answers a caller whose session is still the one that asked.
    fn reply_to(&mut self, caller: &Caller, session: SessionId, reply: Reply) {
        if caller.session.and_then(|key| self.sessions.at(key)).is_some_and(|asked| asked.id == session) {
            self.reply(caller, reply);
        }
    }

    /// A record about conditions that was there before this process.
    pub(super) fn replay_lock(&mut self, record: &Record) {
        let Payload::Bytes(body) = &record.item.payload else { return };
        let change = LockChange::decode(body);
        let topic = change.as_ref().and_then(LockChange::topic);
        if let (Some(LockChange::Grant { session, will, .. }), Some(topic)) = (change, topic) {
            self.changes.note(|| PieceKey::Grant(topic.clone()));
            self.conditions.recorded.insert(topic, (SessionId(session), will));
        }
    }

    /// A change of a topic's value that was there before this process: whose end is to change it again.
    pub(super) fn replay_holder(&mut self, record: &Record) {
        let Some(topic) = &record.item.topic else { return };
        let by = record.item.origin.as_ref().map(|origin| origin.session);
        let is_empty = record.item.payload.is_empty();
        let holder = self.conditions.cells.get(topic).and_then(|cell| cell.holder.as_ref());
        if holder.is_some_and(|holder| by != Some(holder.session) || is_empty) {
            self.changes.note(|| PieceKey::Holder(topic.clone()));
            self.conditions.cells.remove(topic);
        }
        if self.conditions.recorded.contains_key(topic) {
            self.changes.note(|| PieceKey::Grant(topic.clone()));
            self.changes.note(|| PieceKey::Holder(topic.clone()));
        }
        let is_grant = record.item.flags.has(Flags::CONDITIONAL) && !is_empty;
        let recorded = self.conditions.recorded.remove(topic).filter(|(session, _)| is_grant && by == Some(*session));
        if let Some((session, will)) = recorded {
            let holder = Holder::earlier(session, record.id, will, None);
            self.conditions.cells.insert(topic.clone(), Cell { holder: Some(holder), ..Cell::default() });
        }
    }

    /// The process before this one has ended, with all of its connections: what they held gets its wills.
    pub(super) fn end_earlier_holders(&mut self, time_ms: u64) {
        self.conditions.time_ms = self.conditions.time_ms.max(time_ms);
        for (topic, _) in self.conditions.recorded.drain() {
            self.changes.note(|| PieceKey::Grant(topic));
        }
        let held = |(topic, cell): (&Topic, &Cell)| {
            let token = cell.holder.as_ref().filter(|holder| holder.key.is_none())?.token;
            Some((token, topic.clone()))
        };
        let mut held: Vec<_> = self.conditions.cells.iter().filter_map(held).collect();
        held.sort_unstable();
        for (_, topic) in held {
            self.part(&topic);
            self.advance(&topic);
        }
    }

    /// `corsac.lock.acquire(name, {wait_ms, ttl_ms})`: the token, when it is granted.
    pub(super) fn acquire_lock(&mut self, caller: &Caller, arguments: &Arguments) -> Result<Reply, Reason> {
        let topic = lock_topic(arguments)?;
        let (wait_ms, ttl_ms) = (arguments.number_option(1, "wait_ms")?, arguments.number_option(1, "ttl_ms")?);
        if ttl_ms == Some(0) {
            return Err(Reason::InvalidArgument);
        }
        let session = caller.session.and_then(|key| self.sessions.at(key)).ok_or(Reason::ConnectionLost)?;
        let payload = json_args(&json!({ "session": session.id.0 }));
        let publication = Publication { retain: true, ..Publication::new(topic, payload, Qos::AtLeastOnce) };
        let mut request = self.request_of_call(caller, publication)?;
        (request.when, request.will, request.watch) = (Some(Value::Null), Some(Value::Null), wait_ms != Some(0));
        (request.wait_ms, request.ttl_ms) = (wait_ms, ttl_ms);
        self.submit(request)?;
        Ok(Reply::Later)
    }

    /// `corsac.lock.release(name, token)` and `corsac.lock.renew(name, token, {ttl_ms})`.
    pub(super) fn change_lock(
        &mut self,
        key: SessionKey,
        caller: &Caller,
        arguments: &Arguments,
        is_renewal: bool,
    ) -> Result<Reply, Reason> {
        let topic = lock_topic(arguments)?;
        let token = EventId::new(arguments.number(1, "token")?).ok_or(Reason::InvalidArgument)?;
        let change = match is_renewal {
            false => LockChange::release(&topic, token),
            true => {
                let ttl_ms = arguments.number_option(2, "ttl_ms")?.filter(|ttl_ms| *ttl_ms > 0).ok_or(Reason::InvalidArgument)?;
                LockChange::Renew { topic: topic.as_mqtt().into(), token: token.value(), ttl_ms }
            }
        };
        self.append_change(Some(key), Kind::LOCK, change.encode(), Some(caller.clone()));
        Ok(Reply::Later)
    }

    /// `corsac.lock.inspect(name)`: who holds it, if anybody, and how many wait.
    pub(super) fn inspect_lock(&self, arguments: &Arguments) -> Result<Reply, Reason> {
        let topic = lock_topic(arguments)?;
        let cell = self.conditions.cells.get(&topic);
        let holder = cell.and_then(|cell| cell.holder.as_ref());
        Ok(Reply::Now(vec![json!({
            "held": self.retained.find(&topic, self.conditions.time_ms).is_some(),
            "token": holder.map(|holder| holder.token.value()),
            "session": holder.map(|holder| holder.session.0),
            "expires_at_ms": holder.and_then(|holder| holder.deadline_ms),
            "waiting": cell.map_or(0, |cell| cell.line.len()),
        })]))
    }
}

/// The topic that a lock's name is: in MQTT's spelling if it has a `/`, else in WAMP's.
fn lock_topic(arguments: &Arguments) -> Result<Topic, Reason> {
    let name = arguments.text(0, "name")?;
    let topic = if name.contains('/') { Topic::from_mqtt(name) } else { Topic::from_uri(name) }?;
    if topic.is_reserved() { Err(Reason::NotAuthorized) } else { Ok(topic) }
}

/// A value as the one argument of a publication.
fn json_args(value: &Value) -> Payload {
    let args = Value::Array(vec![value.clone()]).to_string().into();
    Payload::Args { encoding: Encoding::Json, args, kwargs: Bytes::new() }
}

#[cfg(test)]
pub(super) mod random;
#[cfg(test)]
mod tests;
