//! Sessions of one client after another: nothing of a session that has ended is taken for something of the next.
use std::sync::Arc;

use crate::model::command::{Acknowledge, Close, Open, Protocol};
use crate::model::record::DedupKey;
use crate::model::{Command, ConnectionId, Delivery, PacketId, Payload, Publication, Qos, Topic};
use crate::router::tests::{Realm, mqtt_open, packet};

pub const HOUR_S: u32 = 3_600;

/// A CONNECT of client `p`.
pub fn connect(realm: &mut Realm, protocol: Protocol, clean_start: bool, expiry_s: u32) -> ConnectionId {
    realm.open(Open { clean_start, expiry_s, ..mqtt_open(protocol, "p") })
}

pub fn publish(text: &str, acknowledge: Acknowledge) -> Command {
    let topic = Topic::from_mqtt("t").unwrap();
    let mut publication = Publication::new(topic, Payload::Bytes(text.to_owned().into()), Qos::ExactlyOnce);
    publication.retain = true;
    Command::Publish { publication: Arc::new(publication), acknowledge, options: None }
}

/// PUBLISH QoS 2, answered with success.
pub fn send(realm: &mut Realm, connection: ConnectionId, id: u16, text: &str) {
    realm.send(connection, publish(text, Acknowledge::ExactlyOnce(packet(id))));
    assert!(matches!(realm.next(connection), Delivery::Received(answered, Ok(_)) if answered == packet(id)));
}

/// PUBLISH QoS 2 and PUBREL, both answered.
pub fn exchange(realm: &mut Realm, connection: ConnectionId, id: u16, text: &str) {
    send(realm, connection, id, text);
    realm.send(connection, Command::Release(packet(id)));
    assert!(matches!(realm.next(connection), Delivery::Completed(answered, Ok(())) if answered == packet(id)));
}

fn disconnect(realm: &mut Realm, connection: ConnectionId, expiry_s: Option<u32>) {
    realm.send(connection, Command::Close(Close { expiry_s, with_will: false }));
}

fn text_of(payload: &Payload) -> String {
    match payload {
        Payload::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The texts on `t` in the history.
pub fn history(realm: &Realm) -> Vec<String> {
    let on_topic = realm.records.iter().filter(|record| record.item.indexed_topic().is_some());
    on_topic.map(|record| text_of(&record.item.payload)).collect()
}

/// The texts that a subscriber to `t` was told since the last look.
pub fn texts(realm: &mut Realm, connection: ConnectionId) -> Vec<String> {
    let events = realm.inbox(connection).into_iter().filter_map(|told| match told {
        Delivery::Event(event) => Some(text_of(&event.publication.payload)),
        _ => None,
    });
    events.collect()
}

/// A subscriber, the history and the retained value all have these, in this order.
fn assert_all_have(realm: &mut Realm, subscriber: ConnectionId, expected: &[&str]) {
    assert_eq!(history(realm), expected);
    let value = realm.router.realm.retained.find(&Topic::from_mqtt("t").unwrap(), realm.now_ms);
    assert_eq!(value.map(|value| text_of(&value.payload)).as_deref(), expected.last().copied());
    assert_eq!(texts(realm, subscriber), expected);
}

pub fn subscriber(realm: &mut Realm) -> ConnectionId {
    let subscriber = realm.mqtt("s");
    realm.subscribe(subscriber, "t", Qos::AtMostOnce).unwrap();
    subscriber
}

#[test]
fn a_clean_start_begins_with_new_messages() {
    let mut realm = Realm::new();
    let subscriber = subscriber(&mut realm);
    for text in ["a", "b", "c"] {
        let client = connect(&mut realm, Protocol::Mqtt5, true, HOUR_S);
        exchange(&mut realm, client, 1, text);
        disconnect(&mut realm, client, None);
    }
    assert_all_have(&mut realm, subscriber, &["a", "b", "c"]);
}

#[test]
fn an_expired_session_is_followed_by_new_messages() {
    let mut realm = Realm::new();
    let subscriber = subscriber(&mut realm);
    for text in ["a", "b", "c"] {
        let client = connect(&mut realm, Protocol::Mqtt5, false, 60);
        // One use ends, the other does not.
        exchange(&mut realm, client, 1, text);
        send(&mut realm, client, 2, text);
        realm.lose(client);
        realm.advance(61_000);
    }
    assert_all_have(&mut realm, subscriber, &["a", "a", "b", "b", "c", "c"]);
}

/// Clean Session 0, 1, 0: the middle one ends the first.
#[test]
fn sessions_of_3_1_1_are_told_apart() {
    let mut realm = Realm::new();
    let subscriber = subscriber(&mut realm);
    for (clean, text) in [(false, "a"), (true, "b"), (false, "c")] {
        let client = connect(&mut realm, Protocol::Mqtt311, clean, if clean { 0 } else { u32::MAX });
        exchange(&mut realm, client, 1, text);
        disconnect(&mut realm, client, None);
    }
    assert_all_have(&mut realm, subscriber, &["a", "b", "c"]);
}

#[test]
fn sessions_are_told_apart_over_restarts() {
    let mut realm = Realm::new();
    for text in ["a", "b", "c"] {
        let client = connect(&mut realm, Protocol::Mqtt5, true, HOUR_S);
        exchange(&mut realm, client, 1, text);
        realm.restart();
    }
    let again = connect(&mut realm, Protocol::Mqtt5, true, HOUR_S);
    exchange(&mut realm, again, 1, "d");
    assert_eq!(history(&realm), ["a", "b", "c", "d"]);
}

/// The same session, over a restart in the middle of a handshake: a resent PUBLISH is the one before, a new one is new.
#[test]
fn a_session_that_goes_on_knows_its_uses() {
    let mut realm = Realm::new();
    let client = connect(&mut realm, Protocol::Mqtt5, true, HOUR_S);
    exchange(&mut realm, client, 1, "a");
    send(&mut realm, client, 1, "b");
    for _ in 0..2 {
        realm.restart();
        let client = connect(&mut realm, Protocol::Mqtt5, false, HOUR_S);
        realm.send(client, publish("b", Acknowledge::ExactlyOnceAgain(packet(1))));
        assert!(matches!(realm.next(client), Delivery::Received(_, Ok(_))));
    }
    let client = connect(&mut realm, Protocol::Mqtt5, false, HOUR_S);
    realm.send(client, Command::Release(packet(1)));
    assert!(matches!(realm.next(client), Delivery::Completed(_, Ok(()))));
    realm.restart();
    let client = connect(&mut realm, Protocol::Mqtt5, false, HOUR_S);
    exchange(&mut realm, client, 1, "c");
    assert_eq!(history(&realm), ["a", "b", "c"]);
}

/// The key of a use as it was written before it held its session.
fn early_key(packet_id: PacketId, uses: u64) -> DedupKey {
    let key = [&packet_id.value().to_le_bytes()[..], &uses.to_le_bytes()].concat();
    DedupKey { owner: "mqtt:p".into(), key: key.into() }
}

#[test]
fn keys_of_an_earlier_build_are_read_and_swallow_nothing() {
    let mut realm = Realm::new();
    let client = connect(&mut realm, Protocol::Mqtt5, false, HOUR_S);
    exchange(&mut realm, client, 1, "a");
    send(&mut realm, client, 1, "b");
    let mut uses = 0;
    for record in realm.records.iter_mut().filter(|record| record.item.dedup.is_some()) {
        uses += 1;
        record.item.dedup = Some(early_key(packet(1), uses));
    }
    assert_eq!(uses, 2);
    realm.restart();
    let client = connect(&mut realm, Protocol::Mqtt5, false, HOUR_S);
    realm.send(client, publish("b", Acknowledge::ExactlyOnceAgain(packet(1))));
    assert!(matches!(realm.next(client), Delivery::Received(_, Ok(_))));
    assert_eq!(history(&realm), ["a", "b"]);
    for (clean_start, text) in [(false, "c"), (true, "d"), (false, "e"), (true, "f")] {
        let client = connect(&mut realm, Protocol::Mqtt5, clean_start, HOUR_S);
        realm.send(client, Command::Release(packet(1)));
        realm.next(client);
        exchange(&mut realm, client, 1, text);
    }
    assert_eq!(history(&realm), ["a", "b", "c", "d", "e", "f"]);
}
