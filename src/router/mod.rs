//! One realm as a plain value: commands in, effects out; it knows no socket, no clock and no protocol bytes.
pub mod append;
pub mod backlog;
pub mod broker;
pub mod condition;
pub mod dealer;
pub mod dedup;
pub mod deliver;
pub mod durable;
pub mod effect;
pub mod history;
pub mod inflight;
pub mod invocation;
pub mod lifecycle;
pub mod lock;
pub mod lock_change;
pub mod matcher;
pub mod own;
pub mod past;
pub mod queue;
pub mod random;
pub mod read;
pub mod replay;
pub mod retained;
pub mod selected;
pub mod session;
pub mod state;
pub mod subscribe;
#[cfg(test)]
pub mod tests;
pub mod timers;
pub mod topic_calls;
pub mod will;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;

pub use effect::Effect;

use crate::model::command::{Acknowledge, AcknowledgeStep, Acknowledgement, Protocol, PublishOptions};
use crate::model::delivery::Taken;
use crate::model::names;
use crate::model::payload::ToArgs;
use crate::model::record::StoreRule;
use crate::model::{
    Command, ConnectionId, Delivery, Encoding, EventId, Item, Limits, PacketId, Payload, Publication, PublicationId, Qos, Reason,
    SessionId, Topic,
};
use append::Appends;
use broker::Broker;
use condition::Conditions;
use dealer::Dealer;
use inflight::{Next, Progress};
use invocation::Pending;
use lifecycle::Due;
use queue::Desk;
use random::Random;
use read::Reads;
use retained::Retained;
use selected::Selected;
use session::{Repeats, SessionKey, Sessions};
use slab::Slab;
use smallvec::SmallVec;
use state::Changes;
use timers::{TimerKey, Timers};

/// What a realm counts; read by the status page and `$SYS`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Publications accepted.
    pub published: u64,
    /// Events sent towards connections.
    pub delivered: u64,
    /// Deliveries lost at the bound of a session's queue.
    pub dropped: u64,
}

impl Counters {
    /// Adds those of another realm.
    pub fn add(&mut self, more: &Counters) {
        self.published += more.published;
        self.delivered += more.delivered;
        self.dropped += more.dropped;
    }
}

/// One realm: its sessions, subscriptions, retained messages and registrations.
#[derive(Debug)]
pub struct Router {
    now_ms: u64,
    limits: Limits,
    random: Random,
    sessions: Sessions,
    broker: Broker,
    dealer: Dealer,
    pending: Slab<Pending>,
    retained: Retained,
    /// Retained messages of the router's own (`$SYS`), which take no place from those of clients.
    own_retained: Retained,
    appends: Appends,
    /// Sessions with acknowledgements that are not on record.
    progressed: Vec<SessionKey>,
    checkpoint_timer: Option<TimerKey>,
    /// What is stored can be read.
    has_history: bool,
    store_rules: Vec<StoreRule>,
    reads: Reads,
    selections: Slab<Selected>,
    to_args: ToArgs,
    queues: Desk,
    conditions: Conditions,
    changes: Changes,
    /// Wills on record, by session.
    wills: BTreeMap<SessionId, Item>,
    /// Sessions of an earlier process whose wills are due.
    due_wills: Vec<SessionKey>,
    /// While pieces of state are restored: events that are owed through shared subscriptions.
    restoring: HashMap<EventId, Arc<Publication>, FixedState>,
    timers: Timers<Due>,
    /// Every connection is told to end once nothing waits for its place in the history.
    is_stopping: bool,
    effects: VecDeque<Effect>,
    counters: Counters,
}

impl Router {
    /// An empty realm; `seed` is all the chance it will ever have.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Router {
            now_ms: 0,
            limits,
            random: Random::new(seed),
            sessions: Sessions::default(),
            broker: Broker::default(),
            dealer: Dealer::default(),
            pending: Slab::new(),
            retained: Retained::default(),
            own_retained: Retained::default(),
            appends: Appends::default(),
            progressed: Vec::new(),
            checkpoint_timer: None,
            has_history: false,
            store_rules: Vec::new(),
            reads: Reads::default(),
            selections: Slab::new(),
            to_args: |payload, _, _| payload.clone(),
            queues: Desk::default(),
            conditions: Conditions::default(),
            changes: Changes::default(),
            wills: BTreeMap::new(),
            due_wills: Vec::new(),
            restoring: HashMap::default(),
            timers: Timers::new(),
            is_stopping: false,
            effects: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes one command of a connection. `now_ms`: milliseconds since the Unix epoch, never running backwards.
    pub fn handle(&mut self, connection: ConnectionId, command: Command, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        if let Command::Open(open) = command {
            return self.open(connection, *open);
        }
        // Commands behind a refused open, or behind the end, find no session: nobody waits for an answer.
        let Some(key) = self.sessions.of_connection(connection) else { return };
        if let Some(command) = self.put_behind(key, connection, command) {
            self.handle_command(key, connection, command);
        }
    }

    fn handle_command(&mut self, key: SessionKey, connection: ConnectionId, command: Command) {
        match self.record_of(key, &command) {
            Some((kind, body)) => self.append_command(key, connection, command, kind, body),
            None => self.carry_out(key, connection, command),
        }
    }

    fn carry_out(&mut self, key: SessionKey, connection: ConnectionId, command: Command) {
        match command {
            Command::Open(_) => {}
            Command::Publish { publication, acknowledge, options } => {
                self.handle_publish(key, connection, publication, acknowledge, options);
            }
            Command::Refuse { acknowledge, reason } => {
                if self.accept(key, connection, acknowledge, 0) {
                    self.acknowledge(key, connection, acknowledge, Err(reason));
                }
            }
            Command::Fail { kind, request, reason } => self.deliver(connection, Delivery::Failed(kind, request, reason)),
            Command::Subscribe { request, entries } => self.subscribe(key, connection, request, entries),
            Command::Unsubscribe { request, entries } => self.unsubscribe(key, connection, request, &entries),
            Command::Acknowledge(steps) => self.handle_acknowledgements(key, connection, &steps),
            Command::Release(packet_id) => self.handle_release(key, connection, packet_id),
            Command::Call(call) => self.handle_call(key, connection, *call),
            Command::Cancel { request, mode } => self.handle_cancel(key, request, mode),
            Command::Yield(answer) => self.handle_yield(key, connection, *answer),
            Command::Close(close) => self.close(key, close),
            Command::Lost(reason) => self.lose(key, reason),
        }
    }

    /// What is due at `now_ms`.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        while let Some(due) = self.timers.pop_due(self.now_ms) {
            self.handle_due(due);
        }
    }

    /// The outbox has passed the `Delivery::Paused` of this connection: more of a long answer may follow.
    pub fn handle_outbox_drained(&mut self, connection: ConnectionId) {
        if let Some(key) = self.sessions.of_connection(connection) {
            self.continue_replay(key);
        }
    }

    /// Events for this connection were lost at the bound of its outbox: subscribers of `corsac.session.on_slow` are told
    /// the session and how many, the figures count them.
    pub fn handle_outbox_overrun(&mut self, connection: ConnectionId, dropped: u64) {
        self.counters.dropped += dropped;
        let Some(session) = self.sessions.of_connection(connection).and_then(|key| self.sessions.at(key)) else { return };
        let args = format!("[{},{dropped}]", session.id).into();
        let payload = Payload::Args { encoding: Encoding::Json, args, kwargs: Bytes::new() };
        if let Ok(topic) = Topic::from_mqtt(names::ON_SLOW) {
            self.publish(None, Arc::new(Publication::new(topic, payload, Qos::AtMostOnce)), None);
        }
    }

    /// The next effect, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front()?;
        self.counters.delivered += u64::from(matches!(effect, Effect::Deliver(_, Delivery::Event(_))));
        Some(effect)
    }

    /// When `handle_timeout` is next needed.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.timers.next_ms()
    }

    /// Publishes in the router's own name (`$SYS`, meta events).
    pub fn publish_own(&mut self, publication: Publication, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        self.publish(None, Arc::new(publication), None);
    }

    /// Counters since the realm exists.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Sizes of the realm now.
    pub fn census(&self) -> Census {
        Census {
            sessions: self.sessions.len(),
            connected: self.sessions.connected(),
            subscriptions: self.broker.len(),
            registrations: self.dealer.len(),
            retained: self.retained.len(),
        }
    }

    fn deliver(&mut self, connection: ConnectionId, delivery: Delivery) {
        self.effects.push_back(Effect::Deliver(connection, delivery));
    }

    fn handle_publish(
        &mut self,
        key: SessionKey,
        connection: ConnectionId,
        publication: Arc<Publication>,
        acknowledge: Acknowledge,
        mut options: Option<Box<PublishOptions>>,
    ) {
        let is_qos_2 = matches!(acknowledge, Acknowledge::ExactlyOnce(_) | Acknowledge::ExactlyOnceAgain(_));
        let fingerprint = if is_qos_2 { fingerprint(&publication) } else { 0 };
        if !self.accept(key, connection, acknowledge, fingerprint) {
            return;
        }
        if queue::is_put(&publication) {
            return self.put_published(key, connection, publication, acknowledge, options);
        }
        let outcome = if let Some(root) = publication.topic.root() {
            Err(Reason::ReservedName(root))
        } else if let Some(options) = options.take_if(|options| options.condition.is_some()) {
            match self.ask(key, connection, publication, acknowledge, options) {
                Ok(()) => return,
                Err(reason) => Err(reason),
            }
        } else if !self.is_stored(&publication, acknowledge) {
            Ok(self.publish(Some(key), publication, options.as_deref()))
        } else if let Err(reason) = self.make_room_for(&publication) {
            Err(reason)
        } else {
            return self.append(Some(key), Some(connection), publication, acknowledge, options);
        };
        self.acknowledge(key, connection, acknowledge, outcome);
    }

    /// Takes a publication's packet id into use; false if it is a repetition, which is answered here [MQTT-4.3.3-10],
    /// 3.1.1: [MQTT-4.3.3-2].
    ///
    /// What is sent again has DUP [MQTT-3.3.1-1]: without it, the second identical repetition on one connection is a client gone
    /// wrong.
    fn accept(&mut self, key: SessionKey, connection: ConnectionId, acknowledge: Acknowledge, fingerprint: u64) -> bool {
        let (packet_id, is_repetition) = match acknowledge {
            Acknowledge::ExactlyOnce(packet_id) => (packet_id, false),
            Acknowledge::ExactlyOnceAgain(packet_id) => (packet_id, true),
            _ => return true,
        };
        let Some(session) = self.sessions.at_mut(key) else { return false };
        if let Some(repeats) = session.unreleased.get_mut(&packet_id) {
            let is_same = repeats.fingerprint == fingerprint;
            let count = if is_same && !is_repetition { repeats.count + 1 } else { 0 };
            *repeats = Repeats { fingerprint, count, ..*repeats };
            match count {
                0 | 1 => self.deliver(connection, Delivery::Received(packet_id, Ok(Taken { has_receivers: true, token: None }))),
                _ => self.end_connection(key, Reason::ProtocolViolation),
            }
            return false;
        }
        if session.protocol == Protocol::Mqtt5 && session.unreleased.len() >= usize::from(self.limits.receive_maximum) {
            // [MQTT-3.3.4-7]
            self.end_connection(key, Reason::ReceiveMaximumExceeded);
            return false;
        }
        session.unreleased.insert(packet_id, Repeats { fingerprint, count: 0, is_placed: false });
        true
    }

    /// The answer to a publication that has been taken or refused. QoS 1 leaves nothing behind: the id is free for a new message
    /// [MQTT-4.3.2-5], 3.1.1: [MQTT-4.3.2-2].
    fn acknowledge(
        &mut self,
        key: SessionKey,
        connection: ConnectionId,
        acknowledge: Acknowledge,
        outcome: Result<(PublicationId, usize), Reason>,
    ) {
        let taken = outcome.map(|(_, receivers)| Taken { has_receivers: receivers > 0, token: None });
        match acknowledge {
            Acknowledge::None => {}
            Acknowledge::AtLeastOnce(id) => self.deliver(connection, Delivery::Acknowledged(id, taken)),
            Acknowledge::ExactlyOnce(id) | Acknowledge::ExactlyOnceAgain(id) => {
                if let (Err(_), Some(session)) = (&taken, self.sessions.at_mut(key)) {
                    // PUBREC with an error ends the use of the id [MQTT-4.3.3-9]; 3.1.1 has no such answer and releases it.
                    if session.protocol == Protocol::Mqtt5 {
                        session.unreleased.remove(&id);
                    }
                }
                self.deliver(connection, Delivery::Received(id, taken));
            }
            Acknowledge::Request(request) => {
                self.deliver(connection, Delivery::Published(request, outcome.map(|(id, _)| id)));
            }
        }
    }

    /// PUBREL ends the use of a packet id [MQTT-4.3.3-12] and is answered, known or not [MQTT-4.3.3-11].
    fn handle_release(&mut self, key: SessionKey, connection: ConnectionId, packet_id: PacketId) {
        let Some(session) = self.sessions.at_mut(key) else { return };
        let was_known = session.unreleased.remove(&packet_id).is_some();
        let outcome = if was_known { Ok(()) } else { Err(Reason::PacketIdNotFound) };
        self.deliver(connection, Delivery::Completed(packet_id, outcome));
    }

    fn handle_acknowledgements(&mut self, key: SessionKey, connection: ConnectionId, steps: &[Acknowledgement]) {
        let Some(session) = self.sessions.at_mut(key) else { return };
        let (mut finished, mut released) = (SmallVec::<[_; 16]>::new(), SmallVec::<[_; 16]>::new());
        let mut claims = Vec::new();
        let mut is_violation = false;
        for step in steps {
            match session.inflight.handle_acknowledgement(*step) {
                Progress::Done(id, source) => finished.push((id, source)),
                Progress::Settled(claim, is_done) => claims.push((claim, is_done)),
                Progress::Release(id) => released.push((id, Ok(()))), // [MQTT-4.3.3-4]
                Progress::Unknown if step.step == AcknowledgeStep::Received => {
                    released.push((step.packet_id, Err(Reason::PacketIdNotFound)));
                }
                Progress::Unknown => {}
                Progress::Violation => {
                    is_violation = true;
                    break;
                }
            }
        }
        for (id, source) in finished {
            self.note_finished(key, id, source);
        }
        for (id, known) in released {
            self.send_release(key, connection, id, known);
        }
        self.settle_claims(key, claims);
        if is_violation {
            return self.end_connection(key, Reason::ProtocolViolation);
        }
        self.continue_window(key, connection);
    }

    /// Sends what is next in a session's window, as far as it has room.
    fn continue_window(&mut self, key: SessionKey, connection: ConnectionId) {
        while let Some(session) = self.sessions.at_mut(key)
            && let Some(next) = session.inflight.poll_next(self.now_ms, &self.limits)
        {
            match next {
                Next::Publish(event) => self.send_event(key, connection, event),
                Next::Release(packet_id) => self.repeat_release(key, connection, packet_id),
            }
        }
        self.continue_backlog(key);
        let Some(session) = self.sessions.at(key) else { return };
        if session.inflight.waiting() == 0 && session.replays.front().is_some_and(|replay| replay.is_held_up) {
            self.continue_replay(key);
        }
    }
}

/// What two publications have in common if one repeats the other.
fn fingerprint(publication: &Publication) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    publication.topic.hash(&mut hasher);
    if let Payload::Bytes(bytes) = &publication.payload {
        bytes.hash(&mut hasher);
    }
    hasher.finish()
}

/// Sizes of a realm at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Census {
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Sessions with a connection.
    pub connected: usize,
    /// Distinct subscriptions.
    pub subscriptions: usize,
    /// Distinct registrations.
    pub registrations: usize,
    /// Retained messages.
    pub retained: usize,
}

impl Census {
    /// Adds those of another realm.
    pub fn add(&mut self, more: &Census) {
        self.sessions += more.sessions;
        self.connected += more.connected;
        self.subscriptions += more.subscriptions;
        self.registrations += more.registrations;
        self.retained += more.retained;
    }
}
