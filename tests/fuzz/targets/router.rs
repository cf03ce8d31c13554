//! Any commands of any connections into a realm: no panic, no word to strangers, and nothing left when everybody has gone.
#![no_main]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use corsac::model::command::{ReplyTo, SubscribeEntry};
use corsac::model::outcome::Outcome;
use corsac::model::record::Ticket;
use corsac::model::{
    Command, ConnectionId, Delivery, EventId, Filter, InvocationId, Limits, PacketId, Principal, Qos, Reason, RequestId,
    SessionId,
};
use corsac::router::{Effect, Router};
use corsac_fuzz::choice::{Choice, NOW_MS, Speaks};
use libfuzzer_sys::arbitrary::Unstructured;

corsac_fuzz::target!(run, seeds);

/// A connection as seen from outside of the realm.
#[derive(Debug)]
struct Client {
    /// The owner of its filters: its client id, else itself.
    name: String,
    is_mqtt: bool,
    has_served: bool,
    window: usize,
    /// Neither side has said goodbye.
    is_open: bool,
    unacknowledged: BTreeSet<PacketId>,
    last_request: u64,
    /// Calls of WAMP that have no final answer.
    calls: BTreeSet<RequestId>,
    last_invocation: InvocationId,
}

impl Client {
    fn new(name: String, is_mqtt: bool, window: usize) -> Self {
        Client {
            name,
            is_mqtt,
            has_served: false,
            window,
            is_open: true,
            unacknowledged: BTreeSet::new(),
            last_request: 100,
            calls: BTreeSet::new(),
            last_invocation: InvocationId(0),
        }
    }
}

struct World {
    router: Router,
    now_ms: u64,
    clients: BTreeMap<ConnectionId, Client>,
    /// Every filter that was ever subscribed under a name.
    filters: HashMap<String, Vec<Filter>>,
}

fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let choice = &mut Choice(&mut bytes);
    let router = Router::new(limits(), choice.below(256) as u64);
    let mut world = World { router, now_ms: NOW_MS, clients: BTreeMap::new(), filters: HashMap::new() };
    while choice.has_more() {
        world.step(choice);
        world.look();
    }
    world.empty();
}

fn limits() -> Limits {
    Limits {
        max_subscriptions_per_session: 6,
        max_registrations_per_session: 4,
        max_pending_calls_per_session: 4,
        max_wildcards_per_session: 4,
        max_wildcards_per_realm: 8,
        receive_maximum: 4,
        max_retained: 6,
        max_retained_bytes: 2_000,
        max_session_queue: 5,
        max_session_queue_bytes: 3_000,
        max_stored_sessions: 3,
        ..Limits::default()
    }
}

impl World {
    fn step(&mut self, choice: &mut Choice<'_, '_>) {
        match choice.below(12) {
            0 => self.open(choice),
            1 => {
                self.now_ms += choice.pick(&[0, 1, 1_000, 10_000, u64::from(u32::MAX) * 1_000]);
                self.router.handle_timeout(self.now_ms);
                assert!(self.router.poll_timeout().is_none_or(|due_ms| due_ms > self.now_ms), "due for ever");
            }
            2 if choice.flag() => self.router.handle_outbox_drained(self.anybody(choice)),
            2 => self.router.handle_outbox_overrun(self.anybody(choice), 1 + choice.below(3) as u64),
            3 => {
                let publication = choice.publication();
                self.router.publish_own(publication, self.now_ms);
            }
            _ => {
                let connection = self.anybody(choice);
                let is_mqtt = self.clients.get(&connection).is_none_or(|client| client.is_mqtt);
                let command = choice.command(if is_mqtt { Speaks::Mqtt } else { Speaks::Wamp });
                self.tell(connection, command);
            }
        }
    }

    /// A connection that was opened, or one that never was.
    fn anybody(&self, choice: &mut Choice<'_, '_>) -> ConnectionId {
        let open: Vec<ConnectionId> = self.clients.iter().filter(|(_, client)| client.is_open).map(|(id, _)| *id).collect();
        if open.is_empty() || choice.below(16) == 0 {
            return ConnectionId(choice.below(self.clients.len() + 2) as u64);
        }
        choice.pick(&open)
    }

    fn open(&mut self, choice: &mut Choice<'_, '_>) {
        // A gate says `Open` once and first, so every one is of a new connection; session ids may collide.
        let connection = ConnectionId(self.clients.len() as u64);
        let session = SessionId(1 + choice.below(40) as u64);
        let open = choice.open(session);
        let name = open.client_id.as_deref().map_or_else(|| format!("{connection}"), str::to_owned);
        let client = Client::new(name, open.protocol.is_mqtt(), usize::from(open.receive_maximum));
        self.clients.insert(connection, client);
        self.router.handle(connection, Command::Open(Box::new(open)), self.now_ms);
    }

    fn tell(&mut self, connection: ConnectionId, mut command: Command) {
        if let Some(client) = self.clients.get_mut(&connection) {
            match &mut command {
                Command::Close(_) | Command::Lost(_) => client.is_open = false,
                Command::Subscribe { entries, .. } => {
                    let filters = entries.iter().filter_map(|entry| match entry {
                        SubscribeEntry::Topic { filter, .. } => Some(filter.clone()),
                        _ => None,
                    });
                    self.filters.entry(client.name.clone()).or_default().extend(filters);
                    client.has_served |= entries.iter().any(|entry| matches!(entry, SubscribeEntry::Procedure { .. }));
                }
                Command::Call(call) if !client.is_mqtt => {
                    // The gate lets no request id come twice.
                    client.last_request += 1;
                    call.reply = ReplyTo::Request(RequestId(client.last_request));
                    if client.is_open {
                        client.calls.insert(RequestId(client.last_request));
                    }
                }
                Command::Cancel { request, .. } => request.0 += 100,
                Command::Acknowledge(steps) => {
                    // An id that is over may be used again; one that is not ended in the realm stays with the realm.
                    client.unacknowledged.retain(|packet_id| steps.iter().all(|step| step.packet_id != *packet_id));
                }
                _ => {}
            }
        }
        self.router.handle(connection, command, self.now_ms);
    }

    /// Takes the effects, and holds each to what its receiver may be told.
    fn look(&mut self) {
        while let Some(effect) = self.router.poll_effect() {
            let (connection, delivery) = match effect {
                Effect::Deliver(connection, delivery) => (connection, delivery),
                Effect::Append(ticket, draft) => {
                    drop(draft);
                    self.append(ticket);
                    continue;
                }
                Effect::Read(ticket, ..) => {
                    self.router.handle_history(ticket, Err(Reason::NoHistory));
                    continue;
                }
                Effect::Settled(_) => continue,
            };
            let client = self.clients.get_mut(&connection).unwrap_or_else(|| panic!("a stranger is told {delivery:?}"));
            assert!(client.is_open, "told behind the end: {delivery:?}");
            let filters = self.filters.get(&client.name).map(Vec::as_slice).unwrap_or_default();
            check(client, filters, &delivery);
        }
    }

    /// Every seventh is not stored, every fifth was there before.
    fn append(&mut self, ticket: Ticket) {
        if ticket.0 % 7 == 6 {
            return self.router.handle_append_refused(ticket, Reason::NoSpace);
        }
        let id = EventId::FIRST.plus(ticket.0);
        self.router.handle_appended(ticket, id, self.now_ms, ticket.0 % 5 == 4);
    }

    /// Everybody goes, nobody comes back, and all time passes.
    fn empty(&mut self) {
        let mut everybody: Vec<ConnectionId> = self.clients.keys().copied().collect();
        // One that only calls goes last: all its callees have left, so all its calls are answered.
        everybody.sort_by_key(|id| is_caller(&self.clients, *id));
        for (number, connection) in everybody.iter().copied().enumerate() {
            let is_last = number + 1 == everybody.len() && is_caller(&self.clients, connection);
            let calls = self.clients.get(&connection).map_or(0, |client| client.calls.len());
            assert!(!is_last || calls == 0, "calls without a callee and without an answer");
            self.tell(connection, Command::Lost(Reason::ConnectionLost));
            self.look();
        }
        // Sessions that never end are ended by a clean start of their client.
        for client_id in ["c0", "c1", "c2", "c3"] {
            let open = Choice(&mut Unstructured::new(&[])).open(SessionId(1_000));
            let open = corsac::model::command::Open {
                client_id: Some(client_id.into()),
                principal: std::sync::Arc::new(Principal::anonymous(client_id)),
                clean_start: true,
                expiry_s: 0,
                will: None,
                ..open
            };
            let connection = ConnectionId(self.clients.len() as u64);
            self.clients.insert(connection, Client::new(client_id.into(), true, 1));
            self.router.handle(connection, Command::Open(Box::new(open)), self.now_ms);
            self.look();
            self.tell(connection, Command::Lost(Reason::ConnectionLost));
            self.look();
        }
        let sizes = self.router.sizes();
        assert_eq!((sizes.sessions, sizes.connected, sizes.subscriptions, sizes.registrations), (0, 0, 0, 0), "{sizes:?}");
        assert!(sizes.retained <= limits().max_retained);
        // Queues and conditions may have something due that belongs to nobody: when its time has come it is over.
        for _ in 0..100 {
            let Some(due_ms) = self.router.poll_timeout() else { break };
            self.now_ms = self.now_ms.max(due_ms);
            self.router.handle_timeout(self.now_ms);
            self.look();
        }
        assert_eq!(self.router.poll_timeout(), None, "a timer of nobody");
    }
}

/// Open, and nobody that anybody could call.
fn is_caller(clients: &BTreeMap<ConnectionId, Client>, id: ConnectionId) -> bool {
    clients.get(&id).is_some_and(|client| client.is_open && !client.has_served)
}

/// Checks that this client may be told this now.
fn check(client: &mut Client, filters: &[Filter], delivery: &Delivery) {
    match delivery {
        Delivery::Close(_) | Delivery::Refused(_) => client.is_open = false,
        Delivery::Event(event) => {
            let topic = &event.publication.topic;
            let is_own = topic.as_mqtt().starts_with('$');
            assert!(is_own || filters.iter().any(|filter| filter.covers(topic)), "not subscribed: {topic:?}");
            assert_eq!(event.packet_id.is_some(), event.qos != Qos::AtMostOnce);
            assert!(client.is_mqtt || event.subscriptions.len() == 1, "WAMP names one subscription");
            if let Some(packet_id) = event.packet_id {
                assert!(client.unacknowledged.insert(packet_id), "{packet_id:?} is in use");
                assert!(client.unacknowledged.len() <= client.window, "more than Receive Maximum");
            }
        }
        Delivery::Invocation(invocation) => {
            assert!(client.has_served && !client.is_mqtt, "no callee");
            assert_eq!(invocation.id.0, client.last_invocation.0 + 1, "WAMP: session scope");
            client.last_invocation = invocation.id;
        }
        Delivery::Interrupt { invocation, .. } => assert!(*invocation <= client.last_invocation, "{invocation} never was"),
        Delivery::Answer(answer) => {
            assert!(client.calls.contains(&answer.request), "answered without a call: {answer:?}");
            if answer.outcome != Outcome::Progress {
                client.calls.remove(&answer.request);
            }
        }
        _ => {}
    }
}

fn seeds() -> Vec<Vec<u8>> {
    corsac_fuzz::noise()
}
