//! A realm for tests: opens sessions of both protocols, sends commands, and keeps what each connection is told.
mod append;
mod backlog;
mod calls;
mod dedup;
mod handshakes;
mod history;
mod lives;
mod lock_histories;
mod locks;
mod origins;
mod past;
mod pieces;
mod queue_connections;
mod queue_procedures;
mod readers;
mod registrations;
mod replay;
mod shares;
pub mod text;
mod topic_calls;
mod trace;
mod wills;
mod world;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::{Draft, Effect, Piece, PieceKey, ReadForm, Router};
use crate::model::arguments::Arguments;
use crate::model::command::{
    Acknowledge, Call, CalleeForm, CancelMode, Features, InvokePolicy, Open, Protocol, RegisterOptions, ReplyTo, SubscribeEntry,
    SubscribeOptions, Transport, UnsubscribeEntry, Yield,
};
use crate::model::delivery::{Answer, Event, Granted, Invocation};
use crate::model::outcome::Outcome;
use crate::model::query::{Page, Query, ReadTicket};
use crate::model::record::{Kind, Ticket};
use crate::model::{
    Command, ConnectionId, Delivery, Encoding, ErrorUri, EventId, Filter, InvocationId, Item, Limits, MatchPolicy, PacketId,
    Payload, Principal, Publication, Qos, Reason, Record, RequestId, SessionId, Topic,
};

/// One router with its clock and everything that its connections were told and have not looked at.
pub struct Realm {
    /// The router under test.
    pub router: Router,
    /// The time of the next command.
    pub now_ms: u64,
    /// Connections so far: sessions are numbered by them.
    pub connections: u64,
    requests: u64,
    /// The records that the realm has on its disk, in the order of ids; those of changes of state too.
    pub records: Vec<Record>,
    /// Ids up to this one are not kept any more.
    pub trimmed: u64,
    /// There is no disk.
    pub has_no_history: bool,
    tickets: VecDeque<(Ticket, Item)>,
    /// Pages that wait for `page`.
    pub reads: VecDeque<(ReadTicket, Query, ReadForm)>,
    /// Reads wait for `page`.
    pub is_reader_slow: bool,
    /// Records in a page at the most.
    pub page_records: usize,
    /// Appends wait for `append`.
    pub is_disk_slow: bool,
    /// Connections of which nothing waits any more.
    pub settled: Vec<ConnectionId>,
    inboxes: BTreeMap<ConnectionId, VecDeque<Delivery>>,
    /// Everything that the router has asked for.
    pub trace: text::Trace,
}

/// The features of a callee that can do everything.
pub const ALL_FEATURES: Features = Features { callee_canceling: true, callee_progress: true, callee_timeout: true };

impl Default for Realm {
    fn default() -> Self {
        Self::new()
    }
}

impl Realm {
    /// An empty realm under the default limits.
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// An empty realm under these limits.
    pub fn with_limits(limits: Limits) -> Self {
        let mut router = Router::new(limits, 1);
        router.keep_history();
        Realm {
            router,
            now_ms: 1_000_000,
            connections: 0,
            requests: 0,
            records: Vec::new(),
            trimmed: 0,
            has_no_history: false,
            tickets: VecDeque::new(),
            reads: VecDeque::new(),
            is_reader_slow: false,
            page_records: usize::MAX,
            is_disk_slow: false,
            settled: Vec::new(),
            inboxes: BTreeMap::new(),
            trace: text::Trace::default(),
        }
    }

    /// A realm whose router has read this log.
    pub fn restarted(log: Vec<Record>, now_ms: u64) -> Self {
        let mut realm = Realm { now_ms, ..Self::new() };
        log.iter().for_each(|record| realm.router.handle_replayed(record).unwrap());
        realm.records = log;
        realm
    }

    /// A WAMP session with every feature.
    pub fn wamp(&mut self) -> ConnectionId {
        self.wamp_with(ALL_FEATURES)
    }

    /// A WAMP session with these features.
    pub fn wamp_with(&mut self, features: Features) -> ConnectionId {
        self.open(Open { features, ..open(Protocol::Wamp) })
    }

    /// An MQTT 5 session that ends with its connection.
    pub fn mqtt(&mut self, client_id: &str) -> ConnectionId {
        self.open(mqtt_open(Protocol::Mqtt5, client_id))
    }

    /// An MQTT session that stays for an hour, resumed if it is there.
    pub fn persistent(&mut self, client_id: &str) -> ConnectionId {
        self.open(persistent_open(client_id))
    }

    /// A connection whose session was opened; its session id is random-looking, its authid `user`.
    pub fn open(&mut self, mut open: Open) -> ConnectionId {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        open.session = SessionId(1_000 + self.connections);
        self.send(connection, Command::Open(Box::new(open)));
        // CONNACK waits for the records that CONNECT brings about.
        while !self.inboxes.contains_key(&connection) && !self.tickets.is_empty() {
            self.append();
        }
        let opened = self.inboxes.get_mut(&connection).and_then(VecDeque::pop_front);
        assert!(matches!(opened, Some(Delivery::Opened { .. })), "{opened:?}");
        connection
    }

    /// The same, but its answer is left in its inbox.
    pub fn knock(&mut self, mut open: Open) -> ConnectionId {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        open.session = SessionId(1_000 + self.connections);
        self.send(connection, Command::Open(Box::new(open)));
        connection
    }

    /// Hands a command to the router and keeps what it has to say.
    pub fn send(&mut self, connection: ConnectionId, command: Command) {
        self.router.handle(connection, command, self.now_ms);
        self.collect();
    }

    /// The connection is lost.
    pub fn lose(&mut self, connection: ConnectionId) {
        self.send(connection, Command::Lost(Reason::ConnectionLost));
    }

    /// Lets time go by, and with it everything that becomes due.
    pub fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        self.router.handle_timeout(self.now_ms);
        self.collect();
    }

    fn collect(&mut self) {
        loop {
            self.collect_effects();
            if !self.is_disk_slow && !self.tickets.is_empty() {
                self.hand_append();
            } else if !self.is_reader_slow && !self.reads.is_empty() {
                self.hand_page();
            } else {
                return;
            }
        }
    }

    fn collect_effects(&mut self) {
        while let Some(effect) = self.router.poll_effect() {
            self.trace.note(&effect);
            match effect {
                Effect::Deliver(connection, delivery) => self.inboxes.entry(connection).or_default().push_back(delivery),
                Effect::Append(ticket, draft) => {
                    self.note(ticket, draft);
                }
                Effect::Read(ticket, query, form) => {
                    self.reads.push_back((ticket, *query, form));
                }
                Effect::Settled(connection) => self.settled.push(connection),
            }
        }
    }

    fn note(&mut self, ticket: Ticket, draft: Draft) {
        let item = draft.into_item("realm1".into());
        self.trace.note_item(&item);
        self.tickets.push_back((ticket, item));
    }

    /// The next thing on its way into the history has its place.
    pub fn append(&mut self) {
        self.hand_append();
        self.collect();
    }

    fn hand_append(&mut self) {
        let (ticket, mut item) = self.tickets.pop_front().expect("nothing is on its way");
        item.time_ms = self.now_ms;
        let is_copy = |record: &&Record| item.dedup.is_some() && record.item.dedup == item.dedup;
        if let Some(first) = self.records.iter().find(is_copy).map(|record| record.id) {
            self.router.handle_appended(ticket, first, self.now_ms, true);
            return self.collect();
        }
        let id = EventId::new(self.records.len() as u64 + 1).unwrap();
        self.records.push(Record { id, item });
        self.router.handle_appended(ticket, id, self.now_ms, false);
    }

    /// The process ends and another one reads the history; everybody has to come again.
    pub fn restart(&mut self) {
        self.restart_behind(&BTreeMap::new(), 0);
    }

    /// The same, with something that happens before the end of the earlier process has its place.
    pub fn restart_with(&mut self, before: impl FnOnce(&mut Self)) {
        self.reread(&BTreeMap::new(), 0);
        before(self);
        self.place_gone();
    }

    /// The same as a restart, but it reads these pieces instead of so many records.
    pub fn restart_behind(&mut self, pieces: &BTreeMap<Vec<u8>, Piece>, kept: usize) {
        self.reread(pieces, kept);
        self.place_gone();
    }

    fn reread(&mut self, pieces: &BTreeMap<Vec<u8>, Piece>, kept: usize) {
        self.router = Router::new(self.router.realm.cx.limits.clone(), 1);
        self.router.keep_history();
        self.inboxes.clear();
        self.tickets.clear();
        for (key, piece) in pieces {
            let restored = PieceKey::from_bytes(key).and_then(|key| self.router.restore(&key, piece));
            assert!(restored.is_some(), "{key:?} {piece:?}");
        }
        if let Some(last) = kept.checked_sub(1).and_then(|last| self.records.get(last)) {
            self.router.resume_behind(last.id, last.item.time_ms);
        }
        self.router.track_changes();
        for record in self.records.iter().skip(kept) {
            self.router.handle_replayed(record).unwrap();
        }
        self.router.finish_replay(self.now_ms);
    }

    fn place_gone(&mut self) {
        let (id, time_ms) = (EventId::new(self.records.len() as u64 + 1).unwrap(), self.now_ms);
        let item = Item { time_ms, ..Item::of_kind(Kind::GONE, "realm1".into(), time_ms, Payload::empty()) };
        self.records.push(Record { id, item });
        self.router.handle_gone(id, time_ms);
        self.collect();
    }

    /// Everything on its way into the history has its place.
    pub fn append_all(&mut self) {
        while !self.tickets.is_empty() {
            self.append();
        }
    }

    /// The number of records on their way into the history.
    pub fn on_their_way(&self) -> usize {
        self.tickets.len()
    }

    /// The next page that is waited for has been read.
    pub fn page(&mut self) {
        self.hand_page();
        self.collect();
    }

    fn hand_page(&mut self) {
        let (ticket, query, form) = self.reads.pop_front().expect("nothing is being read");
        let page = self.read(&query, form);
        self.router.handle_history(ticket, page);
    }

    /// The outbox of this connection has been emptied.
    pub fn drain(&mut self, connection: ConnectionId) {
        self.router.handle_outbox_drained(connection);
        self.collect();
    }

    /// The answer that a log would give, in few words.
    fn read(&self, query: &Query, form: ReadForm) -> Result<Page, Reason> {
        let after = query.after.map_or(0, EventId::value);
        let before = query.before.map_or(u64::MAX, EventId::value);
        if self.has_no_history {
            return Err(Reason::NoHistory);
        }
        if (query.after.is_some() && after < self.trimmed) || before <= self.trimmed {
            return Err(Reason::HistoryTooOld(EventId::new(self.trimmed + 1).unwrap()));
        }
        let is_within = |record: &&Record| {
            let (id, time_ms) = (record.id.value(), record.item.time_ms);
            let is_in_time = query.from_ms.is_none_or(|ms| time_ms >= ms) && query.until_ms.is_none_or(|ms| time_ms < ms);
            id > after.max(self.trimmed) && id < before && is_in_time
        };
        let mut within: Vec<&Record> = self.records.iter().filter(is_within).collect();
        if query.reverse {
            within.reverse();
        }
        let mut page = Page { is_end: true, cursor: if query.reverse { query.before } else { query.after }, ..Page::default() };
        for record in within {
            if page.records.len() >= query.bounded_limit().min(self.page_records) {
                page.is_end = false;
                break;
            }
            page.cursor = Some(record.id);
            if query.covers(&record.item) {
                page.records.push(in_form(record, form));
            }
        }
        Ok(page)
    }

    /// The next thing on its way into the history cannot be stored.
    pub fn refuse_append(&mut self, reason: Reason) {
        let (ticket, _) = self.tickets.pop_front().expect("nothing is on its way");
        self.router.handle_append_refused(ticket, reason);
        self.collect();
    }

    /// Everything that a connection was told since the last look.
    pub fn inbox(&mut self, connection: ConnectionId) -> Vec<Delivery> {
        self.inboxes.remove(&connection).unwrap_or_default().into()
    }

    /// The next thing a connection was told.
    pub fn next(&mut self, connection: ConnectionId) -> Delivery {
        let next = self.inboxes.get_mut(&connection).and_then(VecDeque::pop_front);
        next.unwrap_or_else(|| panic!("nothing for {connection}"))
    }

    /// The next thing must be an invocation.
    pub fn invocation(&mut self, connection: ConnectionId) -> Invocation {
        match self.next(connection) {
            Delivery::Invocation(invocation) => *invocation,
            other => panic!("not an invocation: {other:?}"),
        }
    }

    /// The next thing must be an answer.
    pub fn answer(&mut self, connection: ConnectionId) -> Answer {
        match self.next(connection) {
            Delivery::Answer(answer) => *answer,
            other => panic!("not an answer: {other:?}"),
        }
    }

    /// The next thing must be an answer with an error; of which request, and the error.
    pub fn error(&mut self, connection: ConnectionId) -> (u64, ErrorUri) {
        let answer = self.answer(connection);
        match answer.outcome {
            Outcome::Error(uri) => (answer.request.0, uri),
            other => panic!("not an error: {other:?}"),
        }
    }

    /// The next thing must be an interrupt.
    pub fn interrupt(&mut self, connection: ConnectionId) -> (u64, CancelMode, Reason) {
        match self.next(connection) {
            Delivery::Interrupt { invocation, mode, reason } => (invocation.0, mode, reason),
            other => panic!("not an interrupt: {other:?}"),
        }
    }

    /// The next thing must be an event.
    pub fn event(&mut self, connection: ConnectionId) -> Event {
        match self.next(connection) {
            Delivery::Event(event) => event,
            other => panic!("not an event: {other:?}"),
        }
    }

    /// The connection must have been told nothing more.
    pub fn nothing(&mut self, connection: ConnectionId) {
        let inbox = self.inbox(connection);
        assert!(inbox.is_empty(), "{inbox:?}");
    }

    /// SUBSCRIBE or REGISTER with one entry; the answer.
    pub fn ask(&mut self, connection: ConnectionId, entry: SubscribeEntry) -> Result<Granted, Reason> {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.send(connection, Command::Subscribe { request, entries: vec![entry] });
        let is_answer = |told: &Delivery| matches!(told, Delivery::Subscribed(answered, _) if *answered == request);
        // Subscriptions of a session that stays are on record before they are answered.
        while !self.inboxes.get(&connection).is_some_and(|inbox| inbox.iter().any(is_answer)) && !self.tickets.is_empty() {
            self.append();
        }
        match self.take(connection, is_answer) {
            Delivery::Subscribed(_, results) if results.len() == 1 => results[0],
            other => panic!("not one answer: {other:?}"),
        }
    }

    /// UNSUBSCRIBE or UNREGISTER with one entry; the answer.
    pub fn give_up(&mut self, connection: ConnectionId, entry: UnsubscribeEntry) -> Result<(), Reason> {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.send(connection, Command::Unsubscribe { request, entries: vec![entry] });
        let is_answer = |told: &Delivery| matches!(told, Delivery::Unsubscribed(answered, _) if *answered == request);
        match self.take(connection, is_answer) {
            Delivery::Unsubscribed(_, results) if results.len() == 1 => results[0],
            other => panic!("not one answer: {other:?}"),
        }
    }

    /// The first thing of this kind that a connection was told; the rest stays.
    pub fn take(&mut self, connection: ConnectionId, is_wanted: impl Fn(&Delivery) -> bool) -> Delivery {
        let inbox = self.inboxes.entry(connection).or_default();
        let wanted = inbox.iter().position(is_wanted).and_then(|index| inbox.remove(index));
        wanted.unwrap_or_else(|| panic!("not among what {connection} was told: {inbox:?}"))
    }

    /// Subscribes an MQTT session.
    pub fn subscribe(&mut self, connection: ConnectionId, filter: &str, qos: Qos) -> Result<Granted, Reason> {
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        self.ask(connection, SubscribeEntry::Topic { filter: Filter::from_mqtt(filter).unwrap(), share: None, options })
    }

    /// Registers a procedure by its URI, exactly.
    pub fn register(&mut self, connection: ConnectionId, uri: &str) -> Result<Granted, Reason> {
        self.register_with(connection, uri, MatchPolicy::Exact, RegisterOptions::default())
    }

    /// Registers procedures by URI and options.
    pub fn register_with(
        &mut self,
        connection: ConnectionId,
        uri: &str,
        policy: MatchPolicy,
        options: RegisterOptions,
    ) -> Result<Granted, Reason> {
        self.ask(connection, SubscribeEntry::Procedure { filter: Filter::from_uri(uri, policy).unwrap(), options })
    }

    /// Registers a procedure shared under this policy.
    pub fn register_shared(&mut self, connection: ConnectionId, uri: &str, invoke: InvokePolicy) -> Result<Granted, Reason> {
        self.register_with(connection, uri, MatchPolicy::Exact, RegisterOptions { invoke, ..RegisterOptions::default() })
    }

    /// Serves procedures over MQTT, QoS 2 granted.
    pub fn serve(&mut self, connection: ConnectionId, filter: &str, form: CalleeForm) -> Result<Granted, Reason> {
        let options = RegisterOptions { form, qos: Qos::ExactlyOnce, ..RegisterOptions::default() };
        self.ask(connection, SubscribeEntry::Procedure { filter: Filter::from_mqtt(filter).unwrap(), options })
    }

    /// A plain call under a request id.
    pub fn call(&mut self, connection: ConnectionId, request: u64, uri: &str) {
        self.call_with(connection, wamp_call(request, uri));
    }

    /// A call.
    pub fn call_with(&mut self, connection: ConnectionId, call: Call) {
        self.send(connection, Command::Call(Box::new(call)));
    }

    /// A call of a procedure of the router's own, with these arguments and this payload.
    pub fn call_own(&mut self, connection: ConnectionId, request: u64, uri: &str, list: Value, payload: Payload) {
        let Value::Array(list) = list else { panic!("arguments are a list: {list}") };
        let arguments = Some(Ok(Box::new(Arguments { list, ..Arguments::default() })));
        self.call_with(connection, Call { arguments, payload, ..wamp_call(request, uri) });
    }

    /// CANCEL.
    pub fn cancel(&mut self, connection: ConnectionId, request: u64, mode: CancelMode) {
        self.send(connection, Command::Cancel { request: RequestId(request), mode });
    }

    /// A callee's answer, unacknowledged.
    pub fn answer_with(&mut self, connection: ConnectionId, invocation: u64, outcome: Outcome, text: &'static str) {
        self.yield_with(connection, invocation, outcome, text, Acknowledge::None);
    }

    /// A callee's answer by PUBLISH.
    pub fn yield_with(
        &mut self,
        connection: ConnectionId,
        invocation: u64,
        outcome: Outcome,
        text: &'static str,
        acknowledge: Acknowledge,
    ) {
        let answer =
            Yield { acknowledge, invocation: InvocationId(invocation), outcome, payload: payload(text), properties: None };
        self.send(connection, Command::Yield(Box::new(answer)));
    }

    /// Calls on their way, of the whole realm.
    pub fn pending(&self) -> usize {
        self.router.realm.calls.len()
    }
}

fn in_form(record: &Record, form: ReadForm) -> Record {
    let mut record = record.clone();
    if let (ReadForm::Json, Payload::Bytes(bytes)) = (form, &record.item.payload) {
        let args = format!("[{}]", serde_json::to_string(&String::from_utf8_lossy(bytes)).unwrap()).into();
        record.item.payload = Payload::Args { encoding: Encoding::Json, args, kwargs: Default::default() };
        record.item.properties.get_or_insert_default();
    }
    record
}

/// The command that opens a session of this protocol.
pub fn open(protocol: Protocol) -> Open {
    Open {
        session: SessionId(0),
        protocol,
        transport: Transport::default(),
        principal: Arc::new(Principal::anonymous("user")),
        client_id: None,
        clean_start: true,
        expiry_s: 0,
        receive_maximum: u16::MAX,
        will: None,
        features: Features::default(),
    }
}

/// The command that opens an MQTT session that ends with its connection.
pub fn mqtt_open(protocol: Protocol, client_id: &str) -> Open {
    Open { client_id: Some(client_id.into()), ..open(protocol) }
}

/// The CONNECT of an MQTT session that stays for an hour, or is resumed.
pub fn persistent_open(client_id: &str) -> Open {
    Open { clean_start: false, expiry_s: 3_600, ..mqtt_open(Protocol::Mqtt5, client_id) }
}

/// A call under a request id, without options.
pub fn wamp_call(request: u64, uri: &str) -> Call {
    call_to(uri, ReplyTo::Request(RequestId(request)))
}

/// A call with this reply address, QoS 0, without options.
pub fn call_to(uri: &str, reply: ReplyTo) -> Call {
    Call {
        arguments: None,
        reply,
        acknowledge: Acknowledge::None,
        procedure: Topic::from_uri(uri).unwrap(),
        payload: payload("question"),
        timeout_ms: 0,
        receive_progress: false,
        disclose_me: false,
        properties: None,
    }
}

/// A reply address with correlation data.
pub fn reply_topic(topic: &str, correlation_data: &'static str) -> ReplyTo {
    ReplyTo::Topic { topic: Topic::from_mqtt(topic).unwrap(), correlation_data: Some(correlation_data.into()) }
}

/// A payload of bytes.
pub fn payload(text: &'static str) -> Payload {
    Payload::Bytes(text.into())
}

/// A packet id.
pub fn packet(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

/// The topic and outcome of a publication.
pub fn topic_and_outcome(publication: &Publication) -> (&str, Option<&Outcome>) {
    (publication.topic.as_mqtt(), publication.properties.as_ref().and_then(|properties| properties.outcome.as_ref()))
}

/// An error of the router's own.
pub fn refusal(reason: Reason) -> Outcome {
    Outcome::Error(ErrorUri::Reason(reason))
}
