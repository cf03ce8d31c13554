//! The order of a session's commands around what it has on its way into the history.
use crate::router::session::inbound::Turn;
use crate::router::waiting::Waiting;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Realm, mqtt_open, open, persistent_open};
use crate::model::command::{
    Acknowledge, AcknowledgeStep, Acknowledgement, Condition, Past, Protocol, PublishOptions, Selection, SubscribeEntry,
    SubscribeOptions,
};
use crate::model::delivery::Taken;
use crate::model::{Command, ConnectionId, Delivery, Filter, PacketId, Payload, Publication, Qos, Reason, RequestId, Topic};
use crate::router::matcher::tests::Chance;

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
    let entry =
        SubscribeEntry::Topic { filter: Filter::from_mqtt(filter).unwrap(), share: None, options: SubscribeOptions::default() };
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

/// Behind a disk that stalls, neither publications nor commands pile up: their connection is not read any more.
#[test]
fn what_waits_behind_a_stalled_disk_is_bounded() {
    let follower = || publish("u", "0123456789", Acknowledge::None, false);
    let command = || subscribe("t");
    for next in [&follower as &dyn Fn() -> Command, &command] {
        let mut realm = slow();
        let (publisher, subscriber) = (realm.mqtt("p"), realm.mqtt("s"));
        realm.subscribe(subscriber, "#", Qos::AtMostOnce).unwrap();
        realm.send(publisher, publish("t", "stored", Acknowledge::AtLeastOnce(id(1)), false));
        let mut sent = 0;
        while !realm.router.is_over_its_share(publisher) {
            assert!(sent < 10_000, "nothing holds it up");
            realm.send(publisher, next());
            sent += 1;
        }
        assert!(sent > 100 && realm.settled.is_empty());
        realm.append_all();
        assert!(!realm.router.is_over_its_share(publisher) && realm.settled == [publisher], "{:?}", realm.settled);
    }
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
fn a_ping_is_answered_behind_what_is_said_and_waits_for_no_disk() {
    let mut realm = slow();
    let client = realm.mqtt("c");
    realm.send(client, publish("t", "kept", Acknowledge::AtLeastOnce(id(1)), true));
    realm.send(client, subscribe("t"));
    realm.send(client, Command::Ping);
    assert!(matches!(realm.inbox(client)[..], [Delivery::Pong]));
    realm.append();
    realm.inbox(client);
    realm.send(client, publish("t", "live", Acknowledge::None, false));
    realm.send(client, subscribe("u"));
    realm.send(client, Command::Ping);
    assert!(matches!(realm.inbox(client)[..], [Delivery::Event(_), Delivery::Subscribed(..), Delivery::Pong]));
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

#[test]
fn nobody_joins_a_realm_that_stops() {
    let mut realm = slow();
    let subscriber = realm.persistent("s");
    realm.append_all();
    realm.router.shut_down(realm.now_ms);
    realm.advance(0);
    assert_eq!(texts(&mut realm, subscriber), ["close server shutting down"]);
    for (number, opening) in [mqtt_open(Protocol::Mqtt5, "s"), open(Protocol::Wamp)].into_iter().enumerate() {
        let connection = ConnectionId(1_000 + number as u64);
        realm.send(connection, Command::Open(Box::new(opening)));
        let told = realm.inbox(connection);
        assert!(matches!(told[..], [Delivery::Refused(Reason::ShuttingDown)]), "{told:?}");
    }
}

/// The client `s` comes, and is told nothing before everything has its place.
fn let_in(realm: &mut Realm) -> ConnectionId {
    let connection = realm.knock(persistent_open("s"));
    assert!(realm.on_their_way() > 1);
    while realm.on_their_way() > 0 {
        realm.nothing(connection);
        realm.append();
    }
    assert!(matches!(realm.next(connection), Delivery::Opened { session_present: true, .. }));
    connection
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
    let subscriber = let_in(&mut realm);
    let told = realm.inbox(subscriber);
    assert!(matches!(&told[..], [Delivery::Event(event)] if event.duplicate), "{told:?}");

    let received = Acknowledgement { packet_id: id(1), step: AcknowledgeStep::Received };
    realm.send(subscriber, Command::Acknowledge(vec![received]));
    let subscriber = let_in(&mut realm);
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
        let Command::Publish { publication, acknowledge, .. } = publish("t", "1", Acknowledge::AtLeastOnce(id(2)), true) else {
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
        for (_, session) in router.realm.sessions.iter() {
            if let Turn::Behind(last) = session.inbound.turn() {
                let followers = router.realm.tickets.at_mut(last).and_then(Waiting::followers);
                assert!(followers.is_some(), "{:?}", session.inbound);
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
