//! Publications under a condition: asked for in the order of ids, granted first come, first served, each grant its own publication.
//!
//! A condition has its place as a record of kind LOCK, and is judged there: against the topic's value, at that record's time. What
//! fits is then published, with an id of its own: the token. So that it still fits at that id, it is published only if every change
//! of the value that is on its way before it would let it fit too; else it stands in line until those have their places.
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::{FixedState, RandomState};
use serde_json::Value;

use super::Router;
use super::append::{Place, Published};
use super::invocation::{Caller, Message, kept_name, qos_of};
use super::lifecycle::Due;
use super::lock::Holder;
use super::lock_change::LockChange;
use super::session::SessionKey;
use super::timers::TimerKey;
use crate::model::command::{Acknowledge, Condition, Outcome, PublishOptions};
use crate::model::record::{Kind, Ticket};
use crate::model::{
    ConnectionId, ErrorUri, PacketId, Payload, Publication, PublicationId, Reason, RequestId, SessionId, Topic, pattern,
};

/// Reads what a publication says as JSON; `None` for what cannot be read so, or is too long to be compared.
pub type ReadValue = fn(&Publication) -> Option<Value>;

/// Longest pattern and will, in bytes of JSON; longer values of topics fit no pattern, but for being there.
pub const MAX_VALUE_BYTES: usize = 4 * 1024;

/// Reads JSON and nothing else.
fn read_json(publication: &Publication) -> Option<Value> {
    match &publication.payload {
        Payload::Bytes(bytes) if bytes.len() <= MAX_VALUE_BYTES => serde_json::from_slice(bytes).ok(),
        _ => None,
    }
}

/// All conditions and locks of a realm.
#[derive(Debug)]
pub struct Conditions {
    /// The time of the last record, by which everything here is judged, in milliseconds since the Unix epoch.
    pub(super) time_ms: u64,
    pub(super) cells: HashMap<Topic, Cell, RandomState>,
    pub(super) standings: HashMap<SessionKey, Standing, FixedState>,
    /// Grants on record whose publication has not come.
    pub(super) recorded: HashMap<Topic, (SessionId, Value), RandomState>,
    /// Grants on their way whose record the disk has refused.
    pub(super) unrecorded: BTreeSet<Topic>,
    requests: u64,
    read: ReadValue,
}

impl Default for Conditions {
    fn default() -> Self {
        let (cells, standings, recorded, unrecorded) = Default::default();
        Conditions { time_ms: 0, cells, standings, recorded, unrecorded, requests: 0, read: read_json }
    }
}

impl Conditions {
    /// True if somebody holds `topic` or waits for it.
    pub(super) fn has(&self, topic: &Topic) -> bool {
        self.cells.contains_key(topic)
    }
}

/// A topic that somebody holds or waits for.
#[derive(Debug, Default)]
pub struct Cell {
    /// Whose end gives it another value.
    pub(super) holder: Option<Holder>,
    /// Who waits, in the order of ids.
    pub(super) line: VecDeque<Box<Request>>,
    /// Nobody in the line can be judged before this has its place.
    pub(super) blocked_by: Option<Ticket>,
    /// When to look again, and what reminds of it.
    pub(super) timer: Option<(u64, TimerKey)>,
    /// To look again is on its way into the history.
    pub(super) is_due_asked: bool,
    /// When to try again what the disk refused.
    pub(super) retry_ms: Option<u64>,
}

/// One publication under a condition, until it is published or refused.
#[derive(Debug)]
pub struct Request {
    number: u64,
    from: (SessionKey, SessionId),
    connection: ConnectionId,
    publication: Arc<Publication>,
    options: Option<Box<PublishOptions>>,
    /// What the topic's value must fit; `None` = whatever it is.
    pub when: Option<Value>,
    /// It waits until it does.
    pub watch: bool,
    /// The value that the topic gets at the publisher's end.
    pub will: Option<Value>,
    /// How long the grant lasts.
    pub ttl_ms: Option<u64>,
    /// How long it waits.
    pub wait_ms: Option<u64>,
    acknowledge: Acknowledge,
    /// Who is told the token, besides the acknowledgement.
    asker: Option<Caller>,
    /// It is a call: the asker is told about a refusal too.
    is_call: bool,
    /// Its session waits with what follows until this is decided.
    is_owed: bool,
    timer: Option<TimerKey>,
    /// The PUBLISH that asked.
    packet: Option<PacketId>,
    weight: usize,
}

/// What a publication does to whoever holds or waits for its topic.
#[derive(Debug, Default)]
pub enum Role {
    /// Void, if it changes the value.
    #[default]
    Plain,
    /// It is the grant of a request.
    Granted(Box<Granted>),
    /// It is the value that the end of the holder gives.
    Release,
}

/// What remains to be said and done once a grant has its id.
#[derive(Debug)]
pub struct Granted {
    pub(super) connection: ConnectionId,
    pub(super) will: Option<Value>,
    pub(super) ttl_ms: Option<u64>,
    pub(super) asker: Option<Caller>,
    pub(super) is_call: bool,
}

/// What a session waits for and holds.
#[derive(Debug, Default)]
pub struct Standing {
    waiting: BTreeMap<Topic, usize>,
    requests: usize,
    bytes: usize,
    calls: HashMap<RequestId, Topic, FixedState>,
    packets: BTreeMap<PacketId, Topic>,
    pub(super) held: BTreeSet<Topic>,
}

/// How a request stands.
enum Verdict {
    Fits,
    Unfit,
    /// It depends on what has no place yet.
    Blocked(Ticket),
}

/// The value of a topic, read when it must be.
struct Reading {
    publication: Option<Arc<Publication>>,
    value: OnceCell<Option<Value>>,
    read: ReadValue,
}

impl Reading {
    fn of(publication: Option<Arc<Publication>>, read: ReadValue) -> Self {
        Reading { publication, value: OnceCell::new(), read }
    }

    fn fits(&self, when: &Value) -> bool {
        match &self.publication {
            None => pattern::fits_state(when, None),
            Some(_) if when.is_null() => false,
            Some(publication) => {
                let value = self.value.get_or_init(|| (self.read)(publication));
                value.as_ref().is_some_and(|value| pattern::fits_state(when, Some(value)))
            }
        }
    }
}

impl Router {
    /// Has the values of topics read in this way, which knows more than JSON.
    pub fn read_values_with(&mut self, read: ReadValue) {
        self.conditions.read = read;
    }

    /// Takes a publication under a condition: judged when it has its place, answered when that is decided.
    pub(super) fn ask(
        &mut self,
        key: SessionKey,
        connection: ConnectionId,
        publication: Arc<Publication>,
        acknowledge: Acknowledge,
        mut options: Box<PublishOptions>,
    ) -> Result<(), Reason> {
        let Condition { when, watch, will, is_resent, reply } = options.condition.take().map(|c| *c).unwrap_or_default();
        let is_too_long = |value: &Value| value.to_string().len() > MAX_VALUE_BYTES;
        if (watch && when.is_none()) || (will.is_some() && !publication.retain) || when.iter().chain(&will).any(is_too_long) {
            return Err(Reason::InvalidArgument);
        }
        // Whether a retry fits is judged anew: a condition makes it harmless by itself.
        if options.dedup.is_some() {
            return Err(Reason::InvalidArgument);
        }
        if !reply.as_ref().is_none_or(|reply| self.is_reply_allowed(reply)) {
            return Err(Reason::NotAuthorized);
        }
        if is_resent && self.is_waiting(key, acknowledge, &publication.topic) {
            self.acknowledge(key, connection, acknowledge, Ok((PublicationId(0), 1)));
            return Ok(());
        }
        let name = kept_name(&publication.topic);
        let asker = reply.filter(|_| watch).map(|reply| Caller { session: Some(key), reply, qos: qos_of(acknowledge), name });
        let (packet, request) = (packet_of(acknowledge), self.request(key, connection, publication));
        let request = Request { when, watch, will, acknowledge, asker, packet, options: Some(options), ..request };
        self.submit(request)
    }

    /// A request without anything asked for.
    fn request(&mut self, key: SessionKey, connection: ConnectionId, publication: Arc<Publication>) -> Request {
        self.conditions.requests += 1;
        let session = self.sessions.at(key).map_or(SessionId(0), |session| session.id);
        Request {
            number: self.conditions.requests,
            from: (key, session),
            connection,
            weight: publication.weight(),
            publication,
            options: None,
            when: None,
            watch: false,
            will: None,
            ttl_ms: None,
            wait_ms: None,
            acknowledge: Acknowledge::None,
            asker: None,
            is_call: false,
            is_owed: true,
            timer: None,
            packet: None,
        }
    }

    /// A call that publishes under a condition; `caller` is told the token.
    pub(super) fn request_of_call(&mut self, caller: &Caller, publication: Publication) -> Result<Request, Reason> {
        let key = caller.session.ok_or(Reason::ConnectionLost)?;
        let connection = self.sessions.at(key).and_then(|session| session.connection).ok_or(Reason::ConnectionLost)?;
        let request = self.request(key, connection, Arc::new(publication));
        Ok(Request { asker: Some(caller.clone()), is_call: true, ..request })
    }

    /// Sends a request on its way, within the bounds of its session.
    pub(super) fn submit(&mut self, request: Request) -> Result<(), Reason> {
        self.make_room_for(&request.publication)?;
        let topic = request.publication.topic.clone();
        let standing = self.conditions.standings.entry(request.from.0).or_default();
        if standing.requests >= self.limits.max_pending_calls_per_session
            || standing.bytes + request.weight > self.limits.max_session_queue_bytes
        {
            return Err(Reason::QuotaExceeded);
        }
        standing.enter(&request);
        let Request { when, watch, will, ttl_ms, .. } = &request;
        let (when, will) = (when.clone(), will.clone());
        let change = LockChange::Ask { topic: topic.as_mqtt().into(), when, watch: *watch, will, ttl_ms: *ttl_ms };
        self.append_request(request.from.0, change.encode(), Box::new(request));
        Ok(())
    }

    /// A resend of what waits joins it: MQTT's acknowledgement said no more than that it is in line.
    fn is_waiting(&self, key: SessionKey, acknowledge: Acknowledge, topic: &Topic) -> bool {
        let standing = self.conditions.standings.get(&key);
        packet_of(acknowledge).is_some_and(|id| standing.and_then(|standing| standing.packets.get(&id)) == Some(topic))
    }

    /// True while the connection that asked is there to be answered.
    fn is_there(&self, request: &Request) -> bool {
        let session = self.author(Some(request.from)).and_then(|key| self.sessions.at(key));
        session.is_some_and(|session| session.connection == Some(request.connection))
    }

    /// A request has its place: it stands in line from now on, unless it cannot be waited for.
    pub(super) fn take_request(&mut self, place: Place, mut request: Box<Request>) {
        if !self.is_there(&request) {
            return self.forget_owed(&request);
        }
        if let Some((session, id)) = self.sessions.at_mut(request.from.0).zip(request.packet) {
            session.note_placed(id);
        }
        let topic = request.publication.topic.clone();
        let cell = self.conditions.cells.entry(topic.clone()).or_default();
        if cell.line.len() >= self.limits.max_waiting {
            return self.refuse(*request, Reason::QuotaExceeded);
        }
        let wait_ms = request.wait_ms.filter(|_| request.watch);
        request.timer =
            wait_ms.map(|ms| self.timers.set(place.time_ms.saturating_add(ms), Due::Wait(topic.clone(), request.number)));
        let (key, connection) = (request.from.0, request.connection);
        let is_in_line = request.watch;
        // MQTT's acknowledgements keep their order [MQTT-4.6.0-2]: that of what waits says that it is in line.
        let acknowledge = match request.acknowledge {
            _ if !is_in_line => Acknowledge::None,
            Acknowledge::Request(_) => Acknowledge::None,
            _ => std::mem::replace(&mut request.acknowledge, Acknowledge::None),
        };
        request.is_owed = !is_in_line;
        cell.line.push_back(request);
        self.advance(&topic);
        self.acknowledge(key, connection, acknowledge, Ok((PublicationId(0), 1)));
        if is_in_line {
            self.decide(key);
        }
    }

    /// A request that could not be stored.
    pub(super) fn refuse_untaken(&mut self, request: Box<Request>, reason: Reason) {
        match self.is_there(&request) {
            true => self.refuse(*request, reason),
            false => self.forget_owed(&request),
        }
    }

    /// What a connection that is gone has asked for holds its session up no longer.
    fn forget_owed(&mut self, request: &Request) {
        if let Some(key) = self.author(Some(request.from)).filter(|_| request.is_owed) {
            self.decide(key);
        }
    }

    /// A session need not wait for a request any longer.
    fn decide(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.at_mut(key) {
            session.owed.undecided = session.owed.undecided.saturating_sub(1);
        }
        self.owe_less(key);
    }

    /// Publishes whatever fits now, in the order of the line, and refuses what does not and will not wait.
    pub(super) fn advance(&mut self, topic: &Topic) {
        if !self.conditions.has(topic) {
            return;
        }
        self.leave(topic);
        let refused = self.walk(topic);
        self.arm(topic);
        self.forget_if_idle(topic);
        for request in refused {
            self.refuse(request, Reason::ConditionFailed);
        }
    }

    /// Grants what it can; what is to be refused.
    fn walk(&mut self, topic: &Topic) -> Vec<Request> {
        let mut refused = Vec::new();
        let Some(cell) = self.conditions.cells.get_mut(topic) else { return refused };
        if cell.blocked_by.is_some_and(|ticket| self.appends.has(ticket)) {
            return refused;
        }
        let (mut line, mut blocked_by) = (std::mem::take(&mut cell.line), None);
        let current = self.retained.find(topic, self.conditions.time_ms).cloned();
        let current = Reading::of(current, self.conditions.read);
        let mut index = 0;
        while let Some(request) = line.get(index) {
            match self.judge(request, &current) {
                Verdict::Unfit if request.watch => index += 1,
                Verdict::Unfit => refused.extend(line.remove(index).map(|request| *request)),
                Verdict::Fits => {
                    if let Some(request) = line.remove(index) {
                        self.grant(*request);
                    }
                }
                // First come, first served: nobody behind it is before it.
                Verdict::Blocked(ticket) => {
                    blocked_by = Some(ticket);
                    break;
                }
            }
        }
        if let Some(cell) = self.conditions.cells.get_mut(topic) {
            (cell.line, cell.blocked_by) = (line, blocked_by);
        }
        refused
    }

    /// Against the value as it is, and as it may be by the time that the grant has its id.
    fn judge(&self, request: &Request, current: &Reading) -> Verdict {
        let Some(when) = &request.when else { return Verdict::Fits };
        if !current.fits(when) {
            return Verdict::Unfit;
        }
        for (ticket, change) in self.appends.changes_of(&request.publication.topic) {
            let next = &change.publication;
            let (read, is_kept) = (self.conditions.read, !next.payload.is_empty());
            let may_be_gone = !is_kept || next.expires_at_ms.is_some();
            if (is_kept && !Reading::of(Some(next.clone()), read).fits(when)) || (may_be_gone && !pattern::fits_state(when, None))
            {
                return Verdict::Blocked(ticket);
            }
        }
        Verdict::Fits
    }

    /// Publishes what fits. What its publisher promised for its end goes before it.
    fn grant(&mut self, mut request: Request) {
        self.leave_line(&mut request);
        let Request { from, connection, publication, options, will, ttl_ms, acknowledge, asker, is_call, is_owed, .. } = request;
        let key = from.0;
        if let Some(will) = &will {
            let change = LockChange::grant(&publication.topic, from.1, will.clone());
            self.append_change(Some(key), Kind::LOCK, change.encode(), None);
        }
        if let Some(session) = self.sessions.at_mut(key) {
            // What was owed for the request is owed for its publication.
            session.owed.tickets += usize::from(!is_owed);
            session.owed.undecided = session.owed.undecided.saturating_sub(usize::from(is_owed));
        }
        let granted = Box::new(Granted { connection, will, ttl_ms, asker, is_call });
        let connection = Some(connection);
        self.append_published(
            Some(key),
            Published { connection, acknowledge, options, ..Published::own(publication, Role::Granted(granted)) },
        );
    }

    /// Tells the publisher of a request, which is in no line any more, why it was not published.
    fn refuse(&mut self, mut request: Request, reason: Reason) {
        self.leave_line(&mut request);
        let (key, connection) = (request.from.0, request.connection);
        self.acknowledge(key, connection, request.acknowledge, Err(reason));
        if let Some(asker) = request.asker.filter(|_| request.is_call || request.acknowledge == Acknowledge::None) {
            let (outcome, payload) = (Outcome::Error(ErrorUri::Reason(reason)), Payload::empty());
            self.answer(&asker, Message { outcome, payload, properties: None });
        }
        if request.is_owed {
            self.decide(key);
        }
        self.forget_if_idle(&request.publication.topic);
    }

    fn leave_line(&mut self, request: &mut Request) {
        if let Some(timer) = request.timer.take() {
            self.timers.clear(timer);
        }
        if let Some(standing) = self.conditions.standings.get_mut(&request.from.0) {
            standing.leave(request);
        }
        self.forget_standing(request.from.0);
    }

    pub(super) fn forget_standing(&mut self, key: SessionKey) {
        let standing = self.conditions.standings.get(&key);
        if standing.is_some_and(|standing| standing.requests == 0 && standing.held.is_empty()) {
            self.conditions.standings.remove(&key);
        }
    }

    /// Drops what is known of a topic that nobody holds and nobody waits for.
    pub(super) fn forget_if_idle(&mut self, topic: &Topic) {
        let cell = self.conditions.cells.get(topic);
        if cell.is_some_and(|cell| cell.holder.is_none() && cell.line.is_empty() && !cell.is_due_asked)
            && let Some(cell) = self.conditions.cells.remove(topic)
            && let Some((_, timer)) = cell.timer
        {
            self.timers.clear(timer);
        }
    }

    /// Takes a request out of its line.
    fn take_out(&mut self, topic: &Topic, is_wanted: impl Fn(&Request) -> bool) -> Option<Box<Request>> {
        let cell = self.conditions.cells.get_mut(topic)?;
        let index = cell.line.iter().position(|request| is_wanted(request))?;
        cell.blocked_by = None;
        cell.line.remove(index)
    }

    /// A request has waited as long as it wanted to.
    pub(super) fn end_wait(&mut self, topic: &Topic, number: u64) {
        if let Some(request) = self.take_out(topic, |request| request.number == number) {
            self.refuse(*request, Reason::Timeout);
            self.advance(topic);
        }
    }

    /// CANCEL of a call that waits for a lock.
    pub(super) fn cancel_wait(&mut self, key: SessionKey, id: RequestId) {
        let topic = self.conditions.standings.get(&key).and_then(|standing| standing.calls.get(&id)).cloned();
        let Some(topic) = topic else { return };
        let request = self.take_out(&topic, |request| request.from.0 == key && request.call() == Some(id));
        if let Some(request) = request {
            self.refuse(*request, Reason::Canceled);
            self.advance(&topic);
        }
    }

    /// The connection of a session is gone: it waits for nothing any more, and what it holds gets its will.
    pub(super) fn leave_lines(&mut self, key: SessionKey) {
        let Some(standing) = self.conditions.standings.remove(&key) else { return };
        let Standing { waiting, held, .. } = standing;
        for topic in waiting.keys() {
            while let Some(mut request) = self.take_out(topic, |request| request.from.0 == key) {
                if let Some(timer) = request.timer.take() {
                    self.timers.clear(timer);
                }
                self.forget_owed(&request);
            }
        }
        for topic in &held {
            self.part(topic);
        }
        let topics: BTreeSet<_> = waiting.into_keys().chain(held).collect();
        for topic in topics {
            self.advance(&topic);
        }
    }
}

impl Request {
    fn call(&self) -> Option<RequestId> {
        match self.asker.as_ref().filter(|_| self.is_call)?.reply {
            crate::model::command::ReplyTo::Request(id) => Some(id),
            _ => None,
        }
    }
}

impl Standing {
    fn enter(&mut self, request: &Request) {
        let topic = &request.publication.topic;
        self.requests += 1;
        self.bytes += request.weight;
        *self.waiting.entry(topic.clone()).or_default() += 1;
        self.calls.extend(request.call().map(|id| (id, topic.clone())));
        self.packets.extend(request.packet.map(|id| (id, topic.clone())));
    }

    fn leave(&mut self, request: &Request) {
        let topic = &request.publication.topic;
        self.requests = self.requests.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(request.weight);
        if let Some(count) = self.waiting.get_mut(topic) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(topic);
            }
        }
        if let Some(id) = request.call() {
            self.calls.remove(&id);
        }
        if let Some(id) = request.packet {
            self.packets.remove(&id);
        }
    }
}

fn packet_of(acknowledge: Acknowledge) -> Option<PacketId> {
    match acknowledge {
        Acknowledge::AtLeastOnce(id) | Acknowledge::ExactlyOnce(id) | Acknowledge::ExactlyOnceAgain(id) => Some(id),
        Acknowledge::None | Acknowledge::Request(_) => None,
    }
}
