//! Clients of every kind at one realm, from bytes to bytes: whatever some of them say, each is sent only what it can read.
#![no_main]

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use corsac::gate::{Gate, Origin};
use corsac::model::{ConnectionId, Delivery, Encoding, EventId, Limits, Reason};
use corsac::router::{Effect, Router};
use corsac::wire::mqtt::Version;
use corsac::wire::wamp::{Message, decode, encode};
use corsac_fuzz::choice::{Choice, ENCODINGS, NOW_MS};
use corsac_fuzz::gates::{Connection, Opening, origin, settings};
use corsac_fuzz::mqtt::{self, Receiver, VERSIONS};
use libfuzzer_sys::arbitrary::Unstructured;

corsac_fuzz::target!(run, seeds);

/// More are not let in.
const CLIENTS: usize = 8;

/// Steps after these are not looked at: short runs find more.
const STEPS: usize = 100;

const TOPICS: &[&str] = &["a/b", "a/b/c", "a", "b", "a b", "$call/com/add", "$call/com/add/$id/1", "$reply/x", "$yield/1"];
const FILTERS: &[&str] = &["#", "a/#", "+/b", "a/b", "$share/g/a/#", "$callee/com/add", "$callee/com/+", "$reply/#", "$cancel/#"];
/// Messages of WAMP clients, their request ids left open.
const SAYINGS: &[&str] = &[
    r#"[16,ID,{"acknowledge":true},"a.b",[1]]"#,
    r#"[16,ID,{"retain":true,"exclude_me":false},"a.b",[],{"k":TEXT}]"#,
    r#"[16,ID,{"disclose_me":true,"mqtt":{"user_properties":[["k",TEXT]],"content_type":TEXT}},"a.b",[TEXT]]"#,
    r#"[16,ID,{"ppt_scheme":TEXT,"mqtt":{"response_topic":TEXT}},"a.b.c",[1]]"#,
    r#"[16,ID,{},TEXT]"#,
    r#"[32,ID,{"get_retained":true},"a.b"]"#,
    r#"[32,ID,{"match":"prefix"},"a"]"#,
    r#"[32,ID,{"match":"wildcard","retained":true},"a."]"#,
    r#"[32,ID,{"match":"prefix"},TEXT]"#,
    r#"[34,ID,1]"#,
    r#"[64,ID,{"invoke":"roundrobin"},"com.add"]"#,
    r#"[64,ID,{"match":"prefix","disclose_caller":true},"com"]"#,
    r#"[66,ID,1]"#,
    r#"[48,ID,{"receive_progress":true,"timeout":1000,"disclose_me":true},"com.add",[TEXT,2],{"k":1}]"#,
    r#"[48,ID,{"mqtt":{"user_properties":[[TEXT,"v"]],"correlation_data":"\u0000AQI="}},"com.add"]"#,
    r#"[49,LAST,{"mode":"kill"}]"#,
    r#"[49,LAST,{}]"#,
    r#"[70,CALL,{},[TEXT]]"#,
    r#"[70,CALL,{"progress":true,"mqtt":{"content_type":TEXT}},[1]]"#,
    r#"[8,68,CALL,{"message":TEXT},TEXT,[1],{"k":TEXT}]"#,
    r#"[6,{},"wamp.close.normal"]"#,
];
const TEXTS: &[&str] =
    &[r#""x""#, r#""a\u0000b""#, r#""""#, r#""a/+""#, r#""é\n""#, r#""\u0000AQI=""#, r#""a.b""#, r#""application/cbor""#];

enum Tongue {
    Mqtt { receiver: Receiver, version: Version, owed: Vec<Vec<u8>> },
    Wamp { encoding: Encoding, last_request: u64, last_call: u64 },
}

struct Client {
    connection: Connection,
    tongue: Tongue,
    /// The client has begun as most do.
    is_known: bool,
}

struct World {
    router: Router,
    now_ms: u64,
    clients: BTreeMap<ConnectionId, Client>,
    opened: u64,
}

fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let choice = &mut Choice(&mut bytes);
    let limits = Limits { max_session_queue: 20, max_retained: 10, max_pending_calls_per_session: 6, ..Limits::default() };
    let router = Router::new(limits, choice.below(256) as u64);
    let mut world = World { router, now_ms: NOW_MS, clients: BTreeMap::new(), opened: 0 };
    world.begin(choice);
    for _ in 0..STEPS {
        if !choice.has_more() {
            break;
        }
        world.step(choice);
        world.settle();
    }
    world.empty();
}

impl World {
    fn step(&mut self, choice: &mut Choice<'_, '_>) {
        let ids: Vec<ConnectionId> = self.clients.keys().copied().collect();
        if ids.is_empty() || (ids.len() < CLIENTS && choice.below(8) == 0) {
            return self.open(choice);
        }
        let id = choice.pick(&ids);
        let Some(client) = self.clients.get_mut(&id) else { return };
        if !std::mem::replace(&mut client.is_known, true) {
            return client.begin(choice);
        }
        match choice.below(64) {
            0..=2 => self.wait(choice.pick(&[1, 1_000, 30_000, 100_000])),
            3 => client.connection.end(),
            4 => client.connection.receive(&choice.bytes()),
            _ => client.speak(choice),
        }
    }

    /// A cast that can call each other.
    fn begin(&mut self, choice: &mut Choice<'_, '_>) {
        self.open_mqtt(Version::V5, false);
        self.open_mqtt(Version::V311, false);
        self.open_wamp(Encoding::Json);
        self.open_wamp(choice.pick(&ENCODINGS));
        self.settle();
    }

    fn open(&mut self, choice: &mut Choice<'_, '_>) {
        match choice.flag() {
            true => self.open_mqtt(choice.pick(&VERSIONS), choice.flag()),
            false => self.open_wamp(choice.pick(&ENCODINGS)),
        }
    }

    /// `is_full`: with everything that a CONNECT can say, bounds included.
    fn open_mqtt(&mut self, version: Version, is_full: bool) {
        let bounds = if version == Version::V5 && is_full { (200, 3) } else { (usize::MAX, 0) };
        let receiver = Receiver::new(version, bounds.0, bounds.1);
        let gate = Gate::mqtt(settings(1), self.origin(), self.now_ms);
        let tongue = Tongue::Mqtt { receiver, version, owed: Vec::new() };
        self.enter(gate, &mqtt::connect(version, is_full), tongue);
    }

    fn open_wamp(&mut self, encoding: Encoding) {
        let gate = Gate::wamp(settings(1), self.origin(), encoding, self.now_ms);
        let hello = in_encoding(r#"[1,"factory",{"roles":{"publisher":{},"subscriber":{},"caller":{},"callee":{"features":{"call_canceling":true,"progressive_call_results":true}}}}]"#.to_owned(), encoding);
        self.enter(gate, &hello, Tongue::Wamp { encoding, last_request: 0, last_call: 0 });
    }

    fn origin(&mut self) -> Origin {
        self.opened += 1;
        Origin { random: [self.opened << 20, self.opened], ..origin() }
    }

    fn enter(&mut self, gate: Gate, hello: &[u8], tongue: Tongue) {
        let mut connection = Connection::new(gate, Opening::Asked);
        connection.wait(self.now_ms - NOW_MS);
        connection.receive(hello);
        self.clients.insert(ConnectionId(self.opened), Client { connection, tongue, is_known: false });
    }

    fn wait(&mut self, time_ms: u64) {
        self.now_ms += time_ms;
        self.router.handle_timeout(self.now_ms);
        self.clients.values_mut().for_each(|client| client.connection.wait(time_ms));
    }

    /// Carries commands to the realm and deliveries to the gates until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let mut is_quiet = true;
            for (id, client) in &mut self.clients {
                for command in std::mem::take(&mut client.connection.asked) {
                    self.router.handle(*id, command, self.now_ms);
                    is_quiet = false;
                }
            }
            while let Some(effect) = self.router.poll_effect() {
                is_quiet = false;
                let (id, delivery) = match effect {
                    Effect::Deliver(id, delivery) => (id, delivery),
                    Effect::Append(ticket, draft) => {
                        drop(draft);
                        self.router.handle_appended(ticket, EventId::FIRST.plus(ticket.0), self.now_ms, false);
                        continue;
                    }
                    Effect::Read(ticket, ..) => {
                        self.router.handle_history(ticket, Err(Reason::NoHistory));
                        continue;
                    }
                    Effect::Settled(_) => continue,
                };
                let client = self.clients.get_mut(&id).unwrap_or_else(|| panic!("a stranger is told {delivery:?}"));
                match delivery {
                    Delivery::Paused => self.router.handle_outbox_drained(id),
                    delivery => client.connection.deliver(delivery),
                }
            }
            if is_quiet {
                break;
            }
        }
        self.clients.values_mut().for_each(Client::read);
        self.clients.retain(|_, client| !client.connection.is_closed || client.connection.is_open());
    }

    /// Everybody goes; sessions that stay are ended by a clean start.
    fn empty(&mut self) {
        self.clients.values_mut().for_each(|client| client.connection.end());
        self.settle();
        let gate = Gate::mqtt(settings(1), origin(), self.now_ms);
        let mut connection = Connection::new(gate, Opening::Asked);
        connection.receive(&mqtt::connect(Version::V311, false));
        let tongue =
            Tongue::Mqtt { receiver: Receiver::new(Version::V311, usize::MAX, 0), version: Version::V311, owed: Vec::new() };
        self.clients.insert(ConnectionId(0), Client { connection, tongue, is_known: false });
        self.settle();
        self.clients.values_mut().for_each(|client| client.connection.end());
        self.settle();
        let sizes = self.router.sizes();
        assert_eq!((sizes.sessions, sizes.connected, sizes.subscriptions, sizes.registrations), (0, 0, 0, 0), "{sizes:?}");
        assert_eq!(self.router.poll_timeout(), None, "a timer of nobody");
    }
}

impl Client {
    /// Subscribes or registers, which makes the client of use to others.
    fn begin(&mut self, choice: &mut Choice<'_, '_>) {
        match &self.tongue {
            Tongue::Mqtt { version, .. } => {
                let packet = mqtt::subscribe(*version, "$reply/#", choice.qos());
                self.connection.receive(&packet);
            }
            Tongue::Wamp { .. } => self.say(r#"[64,ID,{"invoke":"roundrobin"},"com.add"]"#, choice),
        }
    }

    /// One thing that a client of this kind may say.
    fn speak(&mut self, choice: &mut Choice<'_, '_>) {
        match &mut self.tongue {
            Tongue::Mqtt { version, owed, .. } => {
                let packet = match choice.below(8) {
                    0 => choice.pick(&mqtt::client_packets(*version)),
                    1..=3 => owed.pop().unwrap_or_default(),
                    4 | 5 => mqtt::subscribe(*version, choice.pick(FILTERS), choice.qos()),
                    _ => mqtt::publish(*version, choice.pick(TOPICS), choice.qos(), choice.flag()),
                };
                self.connection.receive(&packet);
            }
            Tongue::Wamp { .. } => self.say(choice.pick(SAYINGS), choice),
        }
    }

    /// A message of WAMP, its open places filled.
    fn say(&mut self, saying: &str, choice: &mut Choice<'_, '_>) {
        let Tongue::Wamp { encoding, last_request, last_call } = &mut self.tongue else { return };
        let mut text = saying.replace("LAST", &(*last_request).max(1).to_string());
        *last_request += u64::from(saying.contains("ID"));
        text = text.replace("ID", &last_request.to_string());
        text = text.replace("CALL", &(*last_call).max(1).to_string());
        while text.contains("TEXT") {
            text = text.replacen("TEXT", choice.pick(TEXTS), 1);
        }
        self.connection.receive(&in_encoding(text, *encoding));
    }

    /// Reads what it was sent, as strictly as it may.
    fn read(&mut self) {
        let sent = Bytes::from(std::mem::take(&mut self.connection.bytes));
        let ends = std::mem::take(&mut self.connection.ends);
        match &mut self.tongue {
            Tongue::Mqtt { receiver, version, owed } => {
                receiver.read(&sent);
                owed.extend(mqtt::answers(&sent, *version));
            }
            Tongue::Wamp { encoding, last_call, .. } => {
                let mut start = 0;
                for end in ends {
                    let message = sent.slice(start..end);
                    start = end;
                    match decode(&message, *encoding) {
                        Ok(Message::Invocation { invocation, .. }) => *last_call = invocation.0,
                        Ok(_) => {}
                        Err(error) => panic!("{error}: {}", message.escape_ascii()),
                    }
                }
            }
        }
    }
}

/// A message in another encoding; what JSON cannot decode goes as it is.
fn in_encoding(text: String, encoding: Encoding) -> Vec<u8> {
    let input = Bytes::from(text);
    match decode(&input, Encoding::Json) {
        Ok(message) if encoding != Encoding::Json => {
            let mut out = BytesMut::new();
            encode(&message, encoding, &mut out);
            out.to_vec()
        }
        _ => input.to_vec(),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    corsac_fuzz::noise()
}
