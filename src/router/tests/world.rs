//! Clients of every kind that do everything at once, on a disk that is slow and refuses at times, over restarts; by a seed.
use std::sync::Arc;

use serde_json::{Value, json};

use super::{ALL_FEATURES, Realm, mqtt_open, packet, wamp_call};
use crate::model::arguments::Arguments;
use crate::model::command::{
    Acknowledge, AcknowledgeStep, Acknowledgement, Call, CalleeForm, CancelMode, Close, Condition, InvokePolicy, Open, Past,
    Protocol, PublishOptions, RegisterOptions, ReplyTo, RetainHandling, Selection, SubscribeEntry, SubscribeOptions,
    UnsubscribeEntry, Will, Yield,
};
use crate::model::outcome::Outcome;
use crate::model::readers::{Audience, Readers};
use crate::model::{
    Command, ConnectionId, Delivery, Encoding, ErrorUri, EventId, Filter, InvocationId, Limits, MatchPolicy, PacketId, Payload,
    Publication, Qos, Reason, RequestId, Topic,
};
use crate::router::matcher::tests::Chance;

const TOPICS: [&str; 6] = ["a", "a/b", "a/b/c", "v", "$queue/q", "$SYS/x"];
const FILTERS: [&str; 9] = ["a", "a/b", "a/#", "+/b", "#", "v", "$queue/q", "$reply/#", "$cancel/+"];
const PROCEDURES: [&str; 3] = ["p", "p.q", "p.r"];

/// The state and the knowledge of a client.
#[derive(Default)]
struct Client {
    connection: Option<ConnectionId>,
    protocol: Speech,
    /// Events that it has not acknowledged.
    held: Vec<(PacketId, Qos)>,
    /// Packet ids that were received and not completed.
    received: Vec<PacketId>,
    /// QoS 2 ids that it has used and not released.
    used: Vec<PacketId>,
    invocations: Vec<u64>,
    calls: Vec<u64>,
    /// Tokens of items and of locks.
    tokens: Vec<Value>,
}

#[derive(Clone, Copy, PartialEq, Default)]
enum Speech {
    #[default]
    Wamp,
    Stays(Protocol),
    Goes(Protocol),
}

/// The world of one seed.
pub struct World {
    /// The realm that they are in.
    pub realm: Realm,
    chance: Chance,
    clients: Vec<Client>,
    requests: u64,
}

impl World {
    /// A world that has not begun.
    pub fn new(seed: u64) -> Self {
        let limits = Limits {
            max_session_queue: 12,
            max_retained: 5,
            max_pending_calls_per_session: 4,
            max_waiting: 3,
            receive_maximum: 6,
            max_session_expiry_s: 3_600,
            ..Limits::default()
        };
        let mut realm = Realm::with_limits(limits);
        realm.router.track_changes();
        (realm.is_disk_slow, realm.is_reader_slow, realm.page_records) =
            (!seed.is_multiple_of(3), seed % 4 > 1, 3 + seed as usize % 5);
        let client = |protocol| Client { protocol, ..Client::default() };
        let clients = vec![
            client(Speech::Stays(Protocol::Mqtt5)),
            client(Speech::Stays(Protocol::Mqtt311)),
            client(Speech::Goes(Protocol::Mqtt5)),
            client(Speech::Wamp),
            client(Speech::Wamp),
        ];
        World { realm, chance: Chance(seed * 7_919 + 1), clients, requests: 0 }
    }

    fn is(&mut self, one_in: usize) -> bool {
        self.chance.below(one_in) == 0
    }

    fn number(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    fn open(&mut self, who: usize) -> ConnectionId {
        if let Some(connection) = self.clients[who].connection {
            return connection;
        }
        let name = ["a", "b", "c", "d", "e"][who];
        let open = match self.clients[who].protocol {
            Speech::Wamp => Open { features: ALL_FEATURES, ..super::open(Protocol::Wamp) },
            Speech::Stays(protocol) => {
                Open { clean_start: self.is(8), expiry_s: 60, receive_maximum: 3, ..mqtt_open(protocol, name) }
            }
            Speech::Goes(protocol) => mqtt_open(protocol, name),
        };
        let open = Open { will: self.will(who), ..open };
        let connection = self.realm.open(open);
        let client = &mut self.clients[who];
        client.connection = Some(connection);
        client.held.clear();
        client.received.clear();
        client.invocations.clear();
        client.calls.clear();
        connection
    }

    fn will(&mut self, who: usize) -> Option<Will> {
        if self.clients[who].protocol == Speech::Wamp || !self.is(2) {
            return None;
        }
        let topic = Topic::from_mqtt(["a/b", "v"][self.chance.below(2)]).unwrap();
        let mut publication = Publication::new(topic, Payload::Bytes("\"will\"".into()), Qos::AtLeastOnce);
        publication.retain = self.is(2);
        let delay_s = [0, 5][self.chance.below(2)];
        Some(Will { publication: Arc::new(publication), delay_s, expiry_s: self.is(3).then_some(20) })
    }

    /// Does one thing, and looks at what everybody was told.
    pub fn step(&mut self) {
        let who = self.chance.below(self.clients.len());
        let connection = self.open(who);
        let is_wamp = self.clients[who].protocol == Speech::Wamp;
        match self.chance.below(32) {
            0..=7 => self.publish(who, connection),
            8..=11 => self.subscribe(connection, is_wamp),
            12 => self.unsubscribe(connection, is_wamp),
            13..=16 => self.acknowledge(who, connection),
            17 => self.release(who, connection),
            18..=19 => self.call(who, connection),
            20 => self.register(connection, is_wamp),
            21 => self.answer(who, connection),
            22 => self.own_call(who, connection),
            23 => self.cancel(who, connection),
            24 if self.is(3) => self.leave(who, connection),
            25 => self.realm.advance([1, 250, 7_000, 40_000][self.chance.below(4)]),
            26 if self.realm.on_their_way() > 0 && self.is(2) => self.realm.refuse_append(Reason::NoSpace),
            27 if !self.realm.reads.is_empty() => self.realm.page(),
            28 => self.realm.drain(connection),
            29 if self.is(40) => self.restart(),
            30 if self.is(4) => self.realm.router.handle_outbox_overrun(connection, 2),
            _ => self.store(),
        }
        self.listen();
    }

    /// Lets everything come to its end.
    pub fn finish(&mut self) {
        for _ in 0..40 {
            self.realm.append_all();
            while !self.realm.reads.is_empty() {
                self.realm.page();
            }
            for who in 0..self.clients.len() {
                let connection = self.open(who);
                self.acknowledge(who, connection);
                self.realm.drain(connection);
            }
            self.realm.advance(1_000);
            self.listen();
        }
        self.realm.router.shut_down(self.realm.now_ms);
        self.realm.advance(0);
        self.realm.append_all();
    }

    fn store(&mut self) {
        for _ in 0..self.realm.on_their_way().div_ceil(2) {
            self.realm.append();
        }
    }

    fn restart(&mut self) {
        self.realm.restart();
        self.clients.iter_mut().for_each(|client| client.connection = None);
    }

    fn leave(&mut self, who: usize, connection: ConnectionId) {
        let close = Close { expiry_s: self.is(4).then_some(0), with_will: self.is(2) };
        let command = if self.is(2) { Command::Lost(Reason::ConnectionLost) } else { Command::Close(close) };
        self.realm.send(connection, command);
        self.clients[who].connection = None;
    }

    fn publish(&mut self, who: usize, connection: ConnectionId) {
        let topic = Topic::from_mqtt(TOPICS[self.chance.below(TOPICS.len())]).unwrap();
        let text = if self.is(6) { String::new() } else { format!("{{\"k\":{}}}", self.chance.below(2)) };
        let payload = match self.clients[who].protocol {
            Speech::Wamp if !text.is_empty() => {
                Payload::Args { encoding: Encoding::Json, args: format!("[{text}]").into(), kwargs: Default::default() }
            }
            _ => Payload::Bytes(text.into()),
        };
        let qos = Qos::from_bits(self.chance.below(3) as u8).unwrap();
        let mut publication = Publication::new(topic, payload, qos);
        publication.retain = self.is(3);
        publication.expires_at_ms = self.is(6).then(|| self.realm.now_ms + 5_000);
        let acknowledge = match (self.clients[who].protocol, qos) {
            (Speech::Wamp, Qos::AtMostOnce) | (_, Qos::AtMostOnce) => Acknowledge::None,
            (Speech::Wamp, _) => Acknowledge::Request(RequestId(self.number())),
            (_, Qos::AtLeastOnce) => Acknowledge::AtLeastOnce(packet(self.number() as u16 % 1_000 + 1)),
            (_, Qos::ExactlyOnce) => match self.clients[who].used.last().copied().filter(|_| self.chance.below(4) == 0) {
                Some(id) => Acknowledge::ExactlyOnceAgain(id),
                None => {
                    let id = packet(self.number() as u16 % 1_000 + 1);
                    self.clients[who].used.push(id);
                    Acknowledge::ExactlyOnce(id)
                }
            },
        };
        let options = self.publish_options(who, &mut publication).map(Box::new);
        self.realm.send(connection, Command::Publish { publication: Arc::new(publication), acknowledge, options });
    }

    fn publish_options(&mut self, who: usize, publication: &mut Publication) -> Option<PublishOptions> {
        let exclude_me = self.clients[who].protocol == Speech::Wamp;
        match self.chance.below(8) {
            0 => Some(PublishOptions { exclude_me: !exclude_me, disclose_me: true, ..PublishOptions::default() }),
            1 => {
                let authids = Some(vec![if self.is(2) { "user".into() } else { "nobody".into() }]);
                let audience = Some(Audience { authids, ..Audience::default() });
                let (eligible, exclude) = if self.is(2) { (audience, None) } else { (None, audience) };
                publication.readers = Some(Box::new(Readers { eligible, exclude }));
                Some(PublishOptions { exclude_me, ..PublishOptions::default() })
            }
            2 => Some(PublishOptions { exclude_me, dedup: Some(["x", "y"][self.chance.below(2)].into()), ..Default::default() }),
            3 | 4 if publication.topic.as_mqtt() == "v" => {
                let will = self.is(2).then_some(Value::Null).filter(|_| publication.retain);
                let reply = self.is(3).then(|| ReplyTo::CallId("w".into()));
                let condition = Condition { when: Some(Value::Null), watch: self.is(2), will, reply, is_resent: false };
                Some(PublishOptions { exclude_me, condition: Some(Box::new(condition)), ..PublishOptions::default() })
            }
            _ => None,
        }
    }

    fn subscribe(&mut self, connection: ConnectionId, is_wamp: bool) {
        let filter = Filter::from_mqtt(FILTERS[self.chance.below(if is_wamp { 6 } else { FILTERS.len() })]).unwrap();
        let qos = if is_wamp { 0 } else { self.chance.below(3) as u8 };
        let options = SubscribeOptions {
            qos: Qos::from_bits(qos).unwrap(),
            no_local: self.is(4),
            retain_as_published: self.is(2),
            retained_only: self.is(8),
            retain_handling: [RetainHandling::Always, RetainHandling::IfNew, RetainHandling::Never][self.chance.below(3)],
            identifier: (!is_wamp && self.is(3)).then(|| 1 + self.chance.below(9) as u32),
        };
        let entry = match self.chance.below(8) {
            0 | 1 => {
                let past = match self.chance.below(3) {
                    0 => None,
                    1 => Some(Past::Last(self.chance.below(6) as u64)),
                    _ => Some(Past::After(EventId::new(self.chance.below(8) as u64))),
                };
                let pattern = self.is(2).then(|| json!({ "k": 1 }));
                let selection = Box::new(Selection { past, is_snapshot: self.is(4), pattern });
                SubscribeEntry::Selected { filter, options, selection }
            }
            2 | 3 if !is_wamp => SubscribeEntry::Topic { filter, share: Some("g".into()), options },
            _ => SubscribeEntry::Topic { filter, share: None, options },
        };
        let request = RequestId(self.number());
        self.realm.send(connection, Command::Subscribe { request, entries: vec![entry] });
    }

    fn unsubscribe(&mut self, connection: ConnectionId, is_wamp: bool) {
        let entry = match is_wamp && self.is(3) {
            true => UnsubscribeEntry::Subscription(crate::model::SubscriptionId(1 + self.chance.below(6) as u64)),
            false => {
                let filter = Filter::from_mqtt(FILTERS[self.chance.below(FILTERS.len())]).unwrap();
                UnsubscribeEntry::Topic { filter, share: (!is_wamp && self.is(3)).then(|| "g".into()) }
            }
        };
        let request = RequestId(self.number());
        self.realm.send(connection, Command::Unsubscribe { request, entries: vec![entry] });
    }

    fn acknowledge(&mut self, who: usize, connection: ConnectionId) {
        let count = self.chance.below(4) + 1;
        let client = &mut self.clients[who];
        let mut steps: Vec<Acknowledgement> = Vec::new();
        for packet_id in client.received.drain(..) {
            steps.push(Acknowledgement { packet_id, step: AcknowledgeStep::Completed });
        }
        for (packet_id, qos) in client.held.drain(..count.min(client.held.len())) {
            let is_declined = self.chance.below(8) == 0;
            let step = match (qos, is_declined) {
                (Qos::ExactlyOnce, false) => AcknowledgeStep::Received,
                (Qos::ExactlyOnce, true) => AcknowledgeStep::Rejected,
                (_, true) => AcknowledgeStep::Declined,
                (_, false) => AcknowledgeStep::Acknowledged,
            };
            steps.push(Acknowledgement { packet_id, step });
        }
        if !steps.is_empty() {
            self.realm.send(connection, Command::Acknowledge(steps));
        }
    }

    fn release(&mut self, who: usize, connection: ConnectionId) {
        let id = self.clients[who].used.pop().unwrap_or(packet(999));
        if self.clients[who].protocol != Speech::Wamp {
            self.realm.send(connection, Command::Release(id));
        }
    }

    fn call(&mut self, who: usize, connection: ConnectionId) {
        let number = self.number();
        let uri = PROCEDURES[self.chance.below(PROCEDURES.len())];
        let protocol = self.clients[who].protocol;
        let call = match protocol {
            Speech::Wamp => {
                self.clients[who].calls.push(number);
                wamp_call(number, uri)
            }
            _ => {
                let reply = match self.chance.below(3) {
                    0 => ReplyTo::CallId("7".into()),
                    1 => super::reply_topic(["$reply/x", "a/b"][self.chance.below(2)], "c"),
                    _ => ReplyTo::Nobody,
                };
                let acknowledge = match self.chance.below(2) {
                    0 => Acknowledge::AtLeastOnce(packet(number as u16 % 1_000 + 1)),
                    _ => Acknowledge::None,
                };
                Call { acknowledge, ..super::call_to(uri, reply) }
            }
        };
        let timeout_ms = [0, 0, 5_000][self.chance.below(3)];
        let call = Call { timeout_ms, receive_progress: self.is(2), disclose_me: self.is(4), ..call };
        self.realm.call_with(connection, call);
    }

    fn register(&mut self, connection: ConnectionId, is_wamp: bool) {
        let uri = PROCEDURES[self.chance.below(2)];
        let policy = if self.is(2) { MatchPolicy::Exact } else { MatchPolicy::Prefix };
        let invoke = [InvokePolicy::Single, InvokePolicy::RoundRobin, InvokePolicy::Random][self.chance.below(3)];
        let form = match (is_wamp, self.is(2)) {
            (true, _) => CalleeForm::Invocation,
            (false, true) => CalleeForm::Publication,
            (false, false) => CalleeForm::PublicationById,
        };
        let qos = Qos::from_bits(self.chance.below(3) as u8).unwrap();
        let options = RegisterOptions { invoke, form, qos, disclose_caller: self.is(3), ..RegisterOptions::default() };
        let filter = Filter::from_uri(uri, policy).unwrap();
        let request = RequestId(self.number());
        let command = match self.is(4) {
            true => Command::Unsubscribe { request, entries: vec![UnsubscribeEntry::Procedure { filter, form }] },
            false => Command::Subscribe { request, entries: vec![SubscribeEntry::Procedure { filter, options }] },
        };
        self.realm.send(connection, command);
    }

    fn answer(&mut self, who: usize, connection: ConnectionId) {
        let Some(invocation) = self.clients[who].invocations.pop() else { return };
        let outcome = match self.chance.below(4) {
            0 => Outcome::Progress,
            1 => Outcome::Error(ErrorUri::Custom("com.no".into())),
            _ => Outcome::Result,
        };
        if outcome == Outcome::Progress {
            self.clients[who].invocations.push(invocation);
        }
        let is_acknowledged = self.clients[who].protocol != Speech::Wamp && self.is(2);
        let acknowledge = match is_acknowledged {
            true => Acknowledge::AtLeastOnce(packet(self.number() as u16 % 1_000 + 1)),
            false => Acknowledge::None,
        };
        let payload = Payload::Bytes("\"answer\"".into());
        let answer = Yield { acknowledge, invocation: InvocationId(invocation), outcome, payload, properties: None };
        self.realm.send(connection, Command::Yield(Box::new(answer)));
    }

    /// A procedure of the router's own.
    fn own_call(&mut self, who: usize, connection: ConnectionId) {
        let number = self.number();
        let token = self.clients[who].tokens.pop().unwrap_or_else(|| json!(3));
        let (uri, list) = match self.chance.below(12) {
            0 => ("corsac.queue.put", json!(["q", number, { "delay_ms": 1_000 * self.chance.below(2) }])),
            1 | 2 => ("corsac.queue.take", json!(["q", { "wait_ms": 3_000 * self.chance.below(3), "max": 2 }])),
            3 => ("corsac.queue.ack", json!([token])),
            4 => ("corsac.queue.nack", json!([token, { "delay_ms": 500 }])),
            5 => ("corsac.queue.declare", json!(["q", { "max_deliveries": 2, "dead_letter": "d", "visibility_ms": 9_000 }])),
            6 => ("corsac.queue.stats", json!(["q"])),
            7 | 8 => ("corsac.lock.acquire", json!(["v", { "wait_ms": 8_000 * self.chance.below(2), "ttl_ms": 20_000 }])),
            9 => ("corsac.lock.release", json!(["v", token])),
            10 => ("corsac.lock.inspect", json!(["v"])),
            _ => ("corsac.history.read", json!(["a.b", { "limit": 4 }])),
        };
        let Value::Array(list) = list else { panic!("no list") };
        let arguments = Some(Ok(Box::new(Arguments { list, ..Arguments::default() })));
        let call = match self.clients[who].protocol {
            Speech::Wamp => {
                self.clients[who].calls.push(number);
                wamp_call(number, uri)
            }
            _ => super::call_to(uri, super::reply_topic("$reply/x", "own")),
        };
        let payload = Payload::Bytes(format!("\"item {number}\"").into());
        self.realm.call_with(connection, Call { arguments, payload, ..call });
    }

    fn cancel(&mut self, who: usize, connection: ConnectionId) {
        let mode = [CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait][self.chance.below(3)];
        if let Some(request) = self.clients[who].calls.pop() {
            self.realm.cancel(connection, request, mode);
        }
    }

    fn listen(&mut self) {
        for who in 0..self.clients.len() {
            let Some(connection) = self.clients[who].connection else { continue };
            for delivery in self.realm.inbox(connection) {
                let client = &mut self.clients[who];
                match delivery {
                    Delivery::Event(event) => {
                        client.held.extend(event.packet_id.map(|id| (id, event.qos)));
                        let properties = event.publication.properties.as_deref();
                        let reply = properties.and_then(|properties| properties.response_topic.as_deref());
                        client.invocations.extend(reply.and_then(|reply| reply.strip_prefix("$yield/")?.parse::<u64>().ok()));
                    }
                    Delivery::Release(id, _) => client.received.push(id),
                    Delivery::Invocation(invocation) => client.invocations.push(invocation.id.0),
                    Delivery::Answer(answer) => {
                        if let Payload::Args { args, .. } = &answer.payload {
                            let value: Value = serde_json::from_slice(args).unwrap_or_default();
                            client.tokens.extend(value[0].get("token").cloned());
                        } else if let Payload::List(parts) = &answer.payload {
                            client.tokens.extend(parts.iter().filter_map(|part| part.head.get("token").cloned()));
                        }
                    }
                    Delivery::Close(_) => client.connection = None,
                    _ => {}
                }
            }
        }
    }
}
