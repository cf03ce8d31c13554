//! Pieces and records lead to the same realm.
use crate::model::record::Kind;
use crate::model::{EventId, Item, Limits, Record};
use crate::router::{Router, Unreadable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Realm, packet};
use crate::model::command::{Acknowledge, AcknowledgeStep, Acknowledgement, SubscribeEntry, SubscribeOptions};
use crate::model::{Command, ConnectionId, Delivery, Filter, Payload, Publication, Qos, RequestId, Topic};
use crate::router::base::piece::{Piece, PieceKey};
use proptest::prelude::*;

const CLIENTS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Publish {
        from: usize,
        topic: usize,
        qos: u8,
        retain: bool,
        is_empty: bool,
    },
    Subscribe {
        client: usize,
        filter: usize,
        qos: u8,
    },
    /// Everything that came, or only the last.
    Acknowledge(usize, bool),
    Leave(usize),
    End(usize),
    Put(usize),
    Take(u64),
    Done,
    Lock(usize),
    Unlock(usize),
    Time(u64),
    Keep,
    KeepPart,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS.len();
    prop_oneof![
        8 => (0..CLIENTS.len(), 0..4_usize, 0..3_u8, any::<bool>(), any::<bool>())
            .prop_map(|(from, topic, qos, retain, is_empty)| Step::Publish { from, topic, qos, retain, is_empty }),
        3 => (client.clone(), 0..4_usize, 0..3_u8).prop_map(|(client, filter, qos)| Step::Subscribe { client, filter, qos }),
        3 => (client.clone(), any::<bool>()).prop_map(|(client, is_all)| Step::Acknowledge(client, is_all)),
        2 => client.clone().prop_map(Step::Leave),
        1 => client.prop_map(Step::End),
        2 => (0..2_usize).prop_map(Step::Put),
        2 => (0..2_u64).prop_map(|wait| Step::Take(wait * 1_000)),
        1 => Just(Step::Done),
        2 => (0..2_usize).prop_map(Step::Lock),
        1 => (0..2_usize).prop_map(Step::Unlock),
        2 => (0..40_000_u64).prop_map(Step::Time),
        3 => Just(Step::Keep),
        2 => Just(Step::KeepPart),
        1 => Just(Step::Restart),
    ]
}

/// A realm, and what is kept of it.
struct World {
    realm: Realm,
    clients: [Option<ConnectionId>; 3],
    worker: ConnectionId,
    requests: u64,
    tokens: Vec<String>,
    locks: BTreeMap<usize, u64>,
    kept: BTreeMap<Vec<u8>, Piece>,
    kept_records: usize,
    /// The deliveries that the client of each connection has not acknowledged.
    held: [Vec<Acknowledgement>; 3],
    /// State is kept when all that was acknowledged is on record.
    is_exact: bool,
}

impl World {
    fn start() -> Self {
        let mut realm = Realm::new();
        realm.router.track_changes();
        let worker = realm.wamp();
        let (clients, tokens, locks, kept) = Default::default();
        World {
            realm,
            clients,
            worker,
            requests: 0,
            tokens,
            locks,
            kept,
            kept_records: 0,
            held: Default::default(),
            is_exact: true,
        }
    }

    fn client(&mut self, index: usize) -> ConnectionId {
        if self.clients[index].is_none() {
            self.held[index].clear();
        }
        let realm = &mut self.realm;
        *self.clients[index].get_or_insert_with(|| realm.persistent(CLIENTS[index]))
    }

    fn call(&mut self, uri: &str, list: Value) {
        self.requests += 1;
        let is_second = list[0] == "l2";
        let payload = Payload::Bytes("{}".into());
        self.realm.call_own(self.worker, self.requests, uri, list, payload);
        for told in self.realm.inbox(self.worker) {
            let Delivery::Answer(answer) = told else { continue };
            let Payload::Args { args, .. } = &answer.payload else { continue };
            let Ok(value) = serde_json::from_slice::<Value>(args) else { continue };
            if let Some(token) = value[0]["token"].as_u64() {
                self.locks.insert(usize::from(is_second), token);
            } else {
                let tokens = value[0].as_array().into_iter().flatten().filter_map(|item| item["token"].as_str());
                self.tokens.extend(tokens.map(str::to_owned));
            }
        }
    }

    fn acknowledge(&mut self, index: usize, is_all: bool) {
        let connection = self.client(index);
        let step = |packet_id, step| Acknowledgement { packet_id, step };
        let steps = self.realm.inbox(connection).into_iter().filter_map(|told| match told {
            Delivery::Event(event) if event.qos == Qos::ExactlyOnce => Some(step(event.packet_id?, AcknowledgeStep::Received)),
            Delivery::Event(event) => Some(step(event.packet_id?, AcknowledgeStep::Acknowledged)),
            Delivery::Release(id, _) => Some(step(id, AcknowledgeStep::Completed)),
            _ => None,
        });
        self.held[index].extend(steps);
        let first = if is_all { 0 } else { self.held[index].len().saturating_sub(1) };
        let steps = self.held[index].split_off(first);
        self.realm.send(connection, Command::Acknowledge(steps));
    }

    fn keep(&mut self, changes: Vec<(PieceKey, Option<Piece>)>) {
        for (key, piece) in changes {
            match piece {
                Some(piece) => drop(self.kept.insert(key.to_bytes(), piece)),
                None => drop(self.kept.remove(&key.to_bytes())),
            }
        }
    }

    fn publish(&mut self, step: Step) {
        let Step::Publish { from, topic, qos, retain, is_empty } = step else { return };
        let connection = self.client(from);
        let payload = Payload::Bytes(if is_empty { "" } else { "\"x\"" }.into());
        let qos = Qos::from_bits(qos).unwrap();
        let mut publication = Publication::new(Topic::from_mqtt(["t/1", "t/2", "u", "v"][topic]).unwrap(), payload, qos);
        publication.retain = retain;
        self.requests += 1;
        let id = packet((self.requests % 1_000) as u16 + 1);
        let acknowledge = match qos {
            Qos::AtMostOnce => Acknowledge::None,
            Qos::AtLeastOnce => Acknowledge::AtLeastOnce(id),
            Qos::ExactlyOnce => Acknowledge::ExactlyOnce(id),
        };
        self.realm.send(connection, Command::Publish { publication: Arc::new(publication), acknowledge, options: None });
        if topic % 2 == 0 {
            self.realm.send(connection, Command::Release(id));
        }
    }

    fn subscribe(&mut self, client: usize, filter: usize, qos: u8) {
        let connection = self.client(client);
        // An event that went to a member with QoS 0 is on no record: records alone know less than pieces then.
        let qos = Qos::from_bits(if filter == 3 { qos.max(1) } else { qos }).unwrap();
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        let share = (filter == 3).then(|| "g".into());
        let filter = Filter::from_mqtt(["t/+", "u", "v", "v"][filter]).unwrap();
        let entries = vec![SubscribeEntry::Topic { filter, share, options }];
        self.realm.send(connection, Command::Subscribe { request: RequestId(1), entries });
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Publish { .. } => self.publish(step),
            Step::Subscribe { client, filter, qos } => self.subscribe(client, filter, qos),
            Step::Acknowledge(client, is_all) => self.acknowledge(client, is_all),
            Step::Leave(client) => {
                if let Some(connection) = self.clients[client].take() {
                    self.realm.lose(connection);
                }
            }
            Step::End(client) => {
                let close = crate::model::command::Close { expiry_s: Some(0), with_will: false };
                let connection = self.client(client);
                self.realm.send(connection, Command::Close(close));
                self.clients[client] = None;
            }
            Step::Put(queue) => self.call("corsac.queue.put", json!([(["q1", "q2"][queue]), self.requests, {"delay_ms": 5}])),
            Step::Take(wait_ms) => self.call("corsac.queue.take", json!(["q1", {"wait_ms": wait_ms, "max": 2}])),
            Step::Done => {
                if let Some(token) = self.tokens.pop() {
                    self.call("corsac.queue.ack", json!([token]));
                }
            }
            Step::Lock(name) => self.call("corsac.lock.acquire", json!([(["l1", "l2"][name]), {"wait_ms": 0, "ttl_ms": 60_000}])),
            Step::Unlock(name) => {
                if let Some(token) = self.locks.remove(&name) {
                    self.call("corsac.lock.release", json!([(["l1", "l2"][name]), token]));
                }
            }
            Step::Time(ms) => self.realm.advance(ms),
            Step::KeepPart => {
                let part = self.realm.router.take_changed_retained(1);
                self.keep(part);
            }
            Step::Keep => {
                if self.is_exact {
                    self.realm.advance(300);
                }
                let changes = self.realm.router.take_changes();
                self.keep(changes);
                self.kept_records = self.realm.records.len();
                let keys: BTreeSet<Vec<u8>> = self.realm.router.pieces().iter().map(PieceKey::to_bytes).collect();
                let has = |key: &&Vec<u8>| !matches!(PieceKey::from_bytes(key), Some(PieceKey::Event(_)));
                let (kept, there): (Vec<_>, Vec<_>) = (self.kept.keys().filter(has).collect(), keys.iter().filter(has).collect());
                assert_eq!(kept, there, "what is kept is what there is");
            }
            Step::Restart => {
                self.realm.restart_behind(&self.kept, self.kept_records);
                self.clients = [None; 3];
                self.worker = self.realm.wamp();
            }
        }
    }

    /// The state of the realm that anybody can see after a restart.
    fn look(&mut self) -> (Vec<String>, BTreeSet<(usize, u64)>) {
        let router = &mut self.realm.router;
        let mut seen = Vec::new();
        for key in router.pieces() {
            match (router.piece(&key), &key) {
                (_, PieceKey::Session(_) | PieceKey::Event(_)) | (None, _) => {}
                (Some(piece), _) => seen.push(format!("{key:?} {piece:?}")),
            }
        }
        self.realm.advance(0);
        for client in CLIENTS {
            let Some(key) = self.realm.router.realm.sessions.of_client_id(client) else { continue };
            let session = self.realm.router.realm.sessions.at(key).unwrap();
            let names: BTreeSet<String> =
                session.subscriptions.iter().map(|(name, subscribed)| format!("{name:?} {:?}", subscribed.options)).collect();
            seen.push(format!(
                "{client} {names:?} {:?} {}",
                session.inbound.placed_ids().collect::<Vec<_>>(),
                session.inbound.uses()
            ));
        }
        let connections: Vec<_> = CLIENTS.map(|client| self.realm.persistent(client)).into_iter().collect();
        let mut events = BTreeSet::new();
        for _ in 0..50 {
            for (index, connection) in connections.iter().enumerate() {
                self.clients[index] = Some(*connection);
                let inbox = self.realm.inbox(*connection);
                let mut steps = Vec::new();
                for told in inbox {
                    match told {
                        Delivery::Event(event) => {
                            // Which member of a group gets what it is owed is nobody's business.
                            let is_shared = event.publication.topic.as_mqtt() == "v";
                            events.insert((if is_shared { 9 } else { index }, event.publication.id.0));
                            let is_twice = event.qos == Qos::ExactlyOnce;
                            let step = if is_twice { AcknowledgeStep::Received } else { AcknowledgeStep::Acknowledged };
                            steps.extend(event.packet_id.map(|packet_id| Acknowledgement { packet_id, step }));
                        }
                        Delivery::Release(packet_id, _) => {
                            steps.push(Acknowledgement { packet_id, step: AcknowledgeStep::Completed });
                        }
                        _ => {}
                    }
                }
                self.realm.send(*connection, Command::Acknowledge(steps));
            }
        }
        (seen, events)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    /// Pieces and the records behind them lead to the realm that all records lead to.
    #[test]
    fn pieces_stand_for_the_records_before_them(is_exact in any::<bool>(), steps in proptest::collection::vec(step(), 0..80)) {
        let mut world = World::start();
        world.is_exact = is_exact;
        steps.into_iter().for_each(|step| world.take(step));
        if is_exact {
            world.realm.advance(300);
        }
        let (records, now_ms) = (world.realm.records.clone(), world.realm.now_ms);
        let restarted = |kept: &BTreeMap<Vec<u8>, Piece>, count| {
            let mut world = World::start();
            (world.realm.records, world.realm.now_ms, world.realm.connections) = (records.clone(), now_ms, 1_000);
            world.realm.restart_behind(kept, count);
            world.look()
        };
        let ((seen, events), (expected, owed)) =
            (restarted(&world.kept, world.kept_records), restarted(&BTreeMap::new(), 0));
        prop_assert_eq!(seen, expected);
        // Pieces may know of acknowledgements that no record tells of.
        prop_assert!(if is_exact { events == owed } else { events.is_subset(&owed) }, "{:?} {:?}", events, owed);
    }
}

/// Found by crashes: what was over before something older, and not on record yet, came twice.
#[test]
fn what_is_over_is_known_before_it_is_on_record() {
    let mut world = World { is_exact: false, ..World::start() };
    world.take(Step::Subscribe { client: 0, filter: 1, qos: 2 });
    for _ in 0..2 {
        world.take(Step::Publish { from: 1, topic: 2, qos: 2, retain: false, is_empty: false });
    }
    // PUBREC and PUBCOMP for the second event alone.
    (0..2).for_each(|_| world.take(Step::Acknowledge(0, false)));
    world.take(Step::Keep);
    world.take(Step::Restart);
    let client = world.client(0);
    let told = world.realm.inbox(client);
    let events = told.iter().filter(|told| matches!(told, Delivery::Event(_))).count();
    assert!(events == 1 && told.len() == 1, "{told:?}");
}

/// Else its repetition would be answered as one, and nobody had it.
#[test]
fn what_has_no_place_yet_is_not_kept() {
    let mut world = World { is_exact: false, ..World::start() };
    world.client(0);
    world.realm.is_disk_slow = true;
    let publish = Step::Publish { from: 0, topic: 1, qos: 2, retain: false, is_empty: false };
    world.take(publish.clone());
    world.take(Step::Keep);
    world.take(Step::Restart);
    world.requests = 0;
    world.take(publish);
    assert_eq!(world.realm.records.iter().filter(|record| record.item.indexed_topic().is_some()).count(), 0);
    world.realm.append_all();
    assert_eq!(world.realm.records.iter().filter(|record| record.item.indexed_topic().is_some()).count(), 1);
}

/// The record of earlier acknowledgements gets its place behind a piece that knows of later ones.
#[test]
fn what_is_over_stays_over_whatever_an_older_record_says() {
    let mut world = World { is_exact: false, ..World::start() };
    world.take(Step::Subscribe { client: 0, filter: 1, qos: 2 });
    for _ in 0..3 {
        world.take(Step::Publish { from: 1, topic: 2, qos: 2, retain: false, is_empty: false });
    }
    let client = world.client(0);
    let steps = |id, step| Command::Acknowledge(vec![Acknowledgement { packet_id: packet(id), step }]);
    for id in 1..=3 {
        world.realm.send(client, steps(id, AcknowledgeStep::Received));
    }
    world.realm.send(client, steps(1, AcknowledgeStep::Completed));
    world.realm.is_disk_slow = true;
    world.realm.advance(300);
    assert_eq!(world.realm.on_their_way(), 1, "the checkpoint");
    world.realm.send(client, steps(2, AcknowledgeStep::Completed));
    world.take(Step::Keep);
    world.realm.append();
    world.realm.is_disk_slow = false;
    world.take(Step::Restart);
    let client = world.client(0);
    let told = world.realm.inbox(client);
    assert!(matches!(&told[..], [Delivery::Release(id, Ok(()))] if *id == packet(3)), "{told:?}");
}

/// A piece may tell of a packet id whose record is lost. The next process records it again: a third may have records alone.
#[test]
fn steps_of_qos_2_that_a_piece_tells_of_are_recorded_again() {
    let mut world = World { is_exact: false, ..World::start() };
    world.take(Step::Subscribe { client: 0, filter: 1, qos: 2 });
    world.realm.is_disk_slow = true;
    world.take(Step::Publish { from: 1, topic: 2, qos: 2, retain: false, is_empty: false });
    while world.realm.records.iter().all(|record| record.item.indexed_topic().is_none()) {
        world.realm.append();
    }
    assert!(world.realm.on_their_way() > 0, "the packet id");
    world.take(Step::Keep);
    world.take(Step::Restart);
    world.realm.is_disk_slow = false;
    let client = world.client(0);
    let told = world.realm.inbox(client);
    assert!(matches!(&told[..], [Delivery::Event(event)] if event.packet_id == Some(packet(1))), "{told:?}");
    let steps = [AcknowledgeStep::Received, AcknowledgeStep::Completed];
    for step in steps.map(|step| Acknowledgement { packet_id: packet(1), step }) {
        world.realm.send(client, Command::Acknowledge(vec![step]));
    }
    world.realm.restart();
    world.clients = [None; 3];
    let client = world.client(0);
    let told = world.realm.inbox(client);
    assert!(told.iter().all(|told| matches!(told, Delivery::Release(..))), "{told:?}");
}

/// [MQTT-3.10.4-3]: a delivery of a shared subscription that has begun goes on to its end, also without the subscription.
#[test]
fn what_a_share_group_gave_outlives_the_group() {
    let mut world = World::start();
    world.take(Step::Subscribe { client: 0, filter: 3, qos: 2 });
    world.take(Step::Publish { from: 1, topic: 3, qos: 2, retain: false, is_empty: false });
    let client = world.client(0);
    let told = world.realm.inbox(client);
    let sent = |told: &[Delivery]| {
        let mut events = told.iter().filter_map(|told| match told {
            Delivery::Event(event) => Some((event.packet_id, event.publication.id)),
            _ => None,
        });
        (events.next(), events.next())
    };
    let before = sent(&told);
    assert!(before.0.is_some() && before.1.is_none());
    let filter = Filter::from_mqtt("v").unwrap();
    let entry = crate::model::command::UnsubscribeEntry::Topic { filter, share: Some("g".into()) };
    world.realm.give_up(client, entry).unwrap();
    for _ in 0..2 {
        world.take(Step::Keep);
        world.take(Step::Restart);
        let client = world.client(0);
        let told = world.realm.inbox(client);
        assert_eq!(sent(&told), before, "{told:?}");
    }
}

#[test]
fn keys_come_back_as_they_were() {
    let topic = || Topic::from_mqtt("a/ä").unwrap();
    let all = [
        PieceKey::Event(7),
        PieceKey::Retained(topic()),
        PieceKey::Holder(topic()),
        PieceKey::Grant(topic()),
        PieceKey::Session("c".into()),
        PieceKey::Queues,
        PieceKey::QueueItem(u64::MAX, 3),
        PieceKey::Will(7),
    ];
    for key in &all {
        assert_eq!(PieceKey::from_bytes(&key.to_bytes()).as_ref(), Some(key));
    }
    assert!(all.is_sorted() && all.iter().map(PieceKey::to_bytes).is_sorted());
    for bad in [&b""[..], b"a", b"a1234567", b"b", b"b#", b"fx", b"g123", b"z", b"e\xff"] {
        assert_eq!(PieceKey::from_bytes(bad), None, "{bad:?}");
    }
}

/// Nothing is passed over in silence.
#[test]
fn a_record_that_cannot_be_read_is_said() {
    let kinds = [Kind::SESSION, Kind::SUBSCRIPTION, Kind::HANDSHAKE, Kind::CURSOR, Kind::LOCK, Kind::QUEUE, Kind(200)];
    for (number, kind) in (1..).zip(kinds) {
        let mut router = Router::new(Limits::default(), 1);
        for body in ["{\"Unheard\":{}}", "\0"] {
            let item = Item::of_kind(kind, "r".into(), 1, Payload::Bytes(body.into()));
            let record = Record { id: EventId::new(number).unwrap(), item };
            assert_eq!(router.handle_replayed(&record), Err(Unreadable), "{kind:?} {body}");
            assert_eq!(router.as_of(), Some(record.id));
        }
    }
}
