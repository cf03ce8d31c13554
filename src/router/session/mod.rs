//! A realm's record of its sessions; an MQTT session may outlive its connection.
pub mod backlog;
pub mod entry;
pub mod inbound;
mod ranges;
pub mod reading;
pub mod record;
pub mod replay;
pub mod resumable;
pub mod window;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::{FixedState, RandomState};
use slab::Slab;

use crate::model::command::{CalleeForm, Features, Open, Protocol, RegisterOptions, SubscribeOptions, Transport, Will};
use crate::model::query::ReadTicket;
use crate::model::record::Ticket;
use crate::model::{ConnectionId, Filter, Principal, Reason, SessionId, Topic};
use crate::router::base::key::{SelectionKey, SessionKey, SubscriptionName};
use crate::router::base::timers::TimerKey;
use crate::router::session::backlog::{Backlog, Finished};
use crate::router::session::inbound::Inbound;
use crate::router::session::reading::HistoryCall;
use crate::router::session::replay::Replay;
use crate::router::session::window::Inflight;

/// A subscription as its session asked for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribed {
    /// Its options.
    pub options: SubscribeOptions,
    /// The number of the last event before it.
    pub since: u64,
    /// The number of the last event that has come through it already, to whichever session it comes otherwise too.
    pub had: u64,
}

/// Steps of deliveries that are on their way into the history before they are said.
#[derive(Debug, Default)]
pub struct Saying {
    count: usize,
    last: Ticket,
}

impl Saying {
    /// The ticket behind which the next thing is said, if any is on its way.
    pub fn last(&self) -> Option<Ticket> {
        (self.count > 0).then_some(self.last)
    }

    /// One more is on its way.
    pub fn note_sent(&mut self, ticket: Ticket) {
        self.count += 1;
        self.last = ticket;
    }

    /// The oldest has come back.
    pub fn note_back(&mut self) {
        self.count = self.count.saturating_sub(1);
    }
}

/// A connection that is joined to its session when the record of the session has its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arriving {
    /// The connection.
    pub connection: ConnectionId,
    /// The session was there before.
    pub is_present: bool,
    /// Why it cannot begin.
    pub refused: Option<Reason>,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Its id, as others see it.
    pub id: SessionId,
    /// Its connection, while it has one.
    pub connection: Option<ConnectionId>,
    /// The one that it will have.
    pub arriving: Option<Arriving>,
    /// The next ticket by the time that its last connection ended.
    pub left_at: Option<Ticket>,
    /// The protocol of its client.
    pub protocol: Protocol,
    /// The transport by which its client is (or was last) connected.
    pub transport: Transport,
    /// The identity of its client.
    pub principal: Arc<Principal>,
    /// MQTT's client id, by which the session is found [MQTT-3.1.3-2].
    pub client_id: Option<Box<str>>,
    /// Seconds it outlives its connection.
    pub expiry_s: u32,
    /// The will that is published if it ends without goodbye [MQTT-3.1.2-7]; nothing if there is none, 3.1.1: [MQTT-3.1.2-12].
    pub will: Option<Will>,
    /// Seconds that its will waits for it to come back, also where that is not here but on record.
    pub will_delay_s: u32,
    /// The features that the client announced.
    pub features: Features,
    /// Subscriptions, by name; WAMP sessions too.
    pub subscriptions: HashMap<SubscriptionName, Subscribed, RandomState>,
    /// Those that select what they get.
    pub selections: HashMap<Filter, SelectionKey, RandomState>,
    /// The number of them that have wildcards.
    pub wildcards: usize,
    /// Procedures served; registered again when the session resumes.
    pub procedures: HashMap<(Filter, CalleeForm), RegisterOptions, RandomState>,
    /// Subscriptions to `$reply/…` and `$cancel/…`, which reach only their own session.
    pub private: Vec<(Filter, SubscribeOptions)>,
    /// Queues that it takes from.
    pub queues: BTreeMap<Topic, SubscribeOptions>,
    /// Its connection, once that has asked for items.
    pub queue_user: Option<ConnectionId>,
    /// Outgoing QoS > 0.
    pub inflight: Inflight,
    /// The session is on record: it outlives the process.
    pub is_recorded: bool,
    /// The session was kept as a piece. That may tell of steps of QoS 2 that no record tells of: they were on their way at the end.
    pub is_from_piece: bool,
    /// The records are being read, and it is in them.
    pub is_replayed: bool,
    /// When its client left; `None` if it has not.
    pub left_ms: Option<u64>,
    /// A record of it has its place since its piece of the realm's state was kept.
    pub is_changed: bool,
    /// Events that were for it when its piece was kept.
    pub kept_routed: u64,
    /// Its progress in the history, if it stays and there is one.
    pub backlog: Option<Box<Backlog>>,
    /// The events that its client has acknowledged since the last checkpoint.
    pub finished: Finished,
    /// The input from its client, as far as it is not over.
    pub inbound: Inbound,
    /// Deliveries to it that are on record before they are said.
    pub saying: Saying,
    /// Retained messages and past events still to be sent, one subscription after the other.
    pub replays: VecDeque<Replay>,
    /// Calls that read the history, answered one after the other.
    pub history_calls: VecDeque<HistoryCall>,
    /// The read for the first of them.
    pub call_read: Option<ReadTicket>,
    /// The will or the end that is due while its client is away.
    pub timers: [Option<TimerKey>; 2],
}

impl Session {
    /// True if this connection is the session's, or will be.
    pub fn is_of(&self, connection: ConnectionId) -> bool {
        self.connection == Some(connection) || self.arriving.is_some_and(|arriving| arriving.connection == connection)
    }

    /// True if it has a connection, or will have one.
    pub fn is_attended(&self) -> bool {
        self.connection.is_some() || self.arriving.is_some()
    }

    /// The session that `open` asks for, without a connection.
    pub fn new(open: &mut Open, window: u16) -> Self {
        Session {
            id: open.session,
            connection: None,
            arriving: None,
            left_at: None,
            protocol: open.protocol,
            transport: std::mem::take(&mut open.transport),
            principal: open.principal.clone(),
            client_id: open.client_id.clone(),
            expiry_s: open.expiry_s,
            will_delay_s: 0,
            will: open.will.take(),
            features: open.features,
            subscriptions: HashMap::default(),
            selections: HashMap::default(),
            wildcards: 0,
            procedures: HashMap::default(),
            private: Vec::new(),
            queues: BTreeMap::new(),
            queue_user: None,
            inflight: Inflight::new(window),
            is_recorded: false,
            is_from_piece: false,
            is_replayed: false,
            left_ms: None,
            is_changed: false,
            kept_routed: 0,
            backlog: None,
            finished: Finished::default(),
            inbound: Inbound::default(),
            saying: Saying::default(),
            replays: VecDeque::new(),
            history_calls: VecDeque::new(),
            call_read: None,
            timers: [None; 2],
        }
    }
}

/// Publications of QoS 1 and 2 that sessions are owed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Owed {
    /// Those that are not over, those that are left to the history included.
    pub messages: u64,
    /// Bytes of their payloads, as far as they are in memory.
    pub bytes: u64,
    /// Those that were sent and are not acknowledged.
    pub in_flight: u64,
}

impl Owed {
    /// Adds what others are owed.
    pub fn add(&mut self, more: &Owed) {
        self.messages += more.messages;
        self.bytes += more.bytes;
        self.in_flight += more.in_flight;
    }
}

impl Session {
    /// The publications that it is owed.
    fn owed(&self) -> Owed {
        let held = self.inflight.held();
        // In the history, where they are read when there is room.
        let elsewhere = |backlog: &Backlog| backlog.unfinished().saturating_sub(self.inflight.unfinished() as u64);
        let messages = held.messages + self.backlog.as_deref().map_or(0, elsewhere);
        Owed { messages, ..held }
    }
}

/// All sessions of a realm, with their indexes. Names that clients choose are hashed with a seed they cannot know (LIMITS.md).
#[derive(Debug, Default)]
pub struct Sessions {
    /// With the age of each: how many sessions there had been when it began.
    slab: Slab<(u32, Session)>,
    last_age: u32,
    by_connection: HashMap<ConnectionId, SessionKey, FixedState>,
    by_client_id: HashMap<Box<str>, SessionKey, RandomState>,
    by_id: HashMap<SessionId, SessionKey, FixedState>,
}

impl Sessions {
    /// Adds a session without a connection, whose client id is not in use.
    pub fn insert(&mut self, session: Session) -> SessionKey {
        let (id, client_id) = (session.id, session.client_id.clone());
        self.last_age = self.last_age.wrapping_add(1);
        let key = SessionKey::new(self.slab.insert((self.last_age, session)) as u32, self.last_age);
        self.by_id.insert(id, key);
        if let Some(client_id) = client_id {
            self.by_client_id.insert(client_id, key);
        }
        key
    }

    /// Takes a session out.
    pub fn remove(&mut self, key: SessionKey) -> Option<Session> {
        self.at(key)?;
        self.connect(key, None);
        let (_, session) = self.slab.try_remove(key.place())?;
        self.by_id.remove(&session.id);
        if let Some(client_id) = &session.client_id {
            self.by_client_id.remove(client_id);
        }
        Some(session)
    }

    /// Notes the connection that a session will have. Commands of that connection are the session's from now on.
    pub fn note_arriving(&mut self, key: SessionKey, arriving: Arriving) {
        if let Some(session) = self.at_mut(key) {
            session.arriving = Some(arriving);
            self.by_connection.insert(arriving.connection, key);
        }
    }

    /// Joins a connection to a session, or parts them; returns the connection it had. None is expected any more.
    pub fn connect(&mut self, key: SessionKey, connection: Option<ConnectionId>) -> Option<ConnectionId> {
        let session = self.at_mut(key)?;
        let before = std::mem::replace(&mut session.connection, connection);
        let expected = session.arriving.take().map(|arriving| arriving.connection);
        for parted in before.into_iter().chain(expected) {
            self.by_connection.remove(&parted);
        }
        if let Some(connection) = connection {
            self.by_connection.insert(connection, key);
        }
        before
    }

    /// The session at this place.
    pub fn at(&self, key: SessionKey) -> Option<&Session> {
        self.slab.get(key.place()).filter(|(age, _)| *age == key.age()).map(|(_, session)| session)
    }

    /// The session at this place, to change.
    pub fn at_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.slab.get_mut(key.place()).filter(|(age, _)| *age == key.age()).map(|(_, session)| session)
    }

    /// The session of this connection.
    pub fn of_connection(&self, connection: ConnectionId) -> Option<SessionKey> {
        self.by_connection.get(&connection).copied()
    }

    /// The session of this MQTT client id.
    pub fn of_client_id(&self, client_id: &str) -> Option<SessionKey> {
        self.by_client_id.get(client_id).copied()
    }

    /// The session with this id.
    pub fn of_id(&self, id: SessionId) -> Option<SessionKey> {
        self.by_id.get(&id).copied()
    }

    /// Sessions in all.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// True without any session.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Sessions with a connection, or with one that they wait for.
    pub fn connected(&self) -> usize {
        self.by_connection.len()
    }

    /// The publications that the sessions at these places are owed together; `None` behind the last place.
    pub fn owed(&self, places: Range<usize>) -> Option<Owed> {
        if places.start >= self.slab.capacity() {
            return None;
        }
        let mut all = Owed::default();
        places.filter_map(|place| self.slab.get(place)).for_each(|(_, session)| all.add(&session.owed()));
        Some(all)
    }

    /// Every session with its place.
    pub fn iter(&self) -> impl Iterator<Item = (SessionKey, &Session)> {
        self.slab.iter().map(|(place, (age, session))| (SessionKey::new(place as u32, *age), session))
    }
}
