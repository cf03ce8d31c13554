//! Members of share groups that hang: the others get what was not sent, and at the end of the connection what was sent with QoS 1.
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::command::{
    Acknowledge, AcknowledgeStep, Acknowledgement, Open, SubscribeEntry, SubscribeOptions, UnsubscribeEntry,
};
use crate::model::{Command, ConnectionId, Delivery, Filter, Payload, Publication, Qos, RequestId, Topic};
use crate::router::tests::{Realm, packet, persistent_open};

/// A member of the group `g` on `t`, whose session stays.
fn join(realm: &mut Realm, name: &str, window: u16, qos: Qos) -> ConnectionId {
    let member = come(realm, name, window);
    let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
    realm.ask(member, SubscribeEntry::Topic { filter: filter(), share: Some("g".into()), options }).unwrap();
    member
}

fn filter() -> Filter {
    Filter::from_mqtt("t").unwrap()
}

fn come(realm: &mut Realm, name: &str, window: u16) -> ConnectionId {
    realm.open(Open { receive_maximum: window, ..persistent_open(name) })
}

fn publish(realm: &mut Realm, from: ConnectionId, numbers: std::ops::RangeInclusive<u32>) {
    for number in numbers {
        let topic = Topic::from_mqtt("t").unwrap();
        let publication = Arc::new(Publication::new(topic, Payload::Bytes(number.to_string().into()), Qos::ExactlyOnce));
        let acknowledge = Acknowledge::Request(RequestId(1));
        realm.send(from, Command::Publish { publication, acknowledge, options: None });
    }
}

/// Texts with their packet ids that a member was told since the last look, and whether with DUP.
fn told(realm: &mut Realm, member: ConnectionId) -> Vec<(u32, u16, bool)> {
    let events = realm.inbox(member).into_iter().filter_map(|told| match told {
        Delivery::Event(event) => {
            let Payload::Bytes(bytes) = &event.publication.payload else { panic!("{event:?}") };
            let number = std::str::from_utf8(bytes).unwrap().parse().unwrap();
            Some((number, event.packet_id.unwrap().value(), event.duplicate))
        }
        _ => None,
    });
    events.collect()
}

fn acknowledge(realm: &mut Realm, member: ConnectionId, id: u16, step: AcknowledgeStep) {
    realm.send(member, Command::Acknowledge(vec![Acknowledgement { packet_id: packet(id), step }]));
}

/// Takes and acknowledges until nothing comes; the numbers.
fn work(realm: &mut Realm, member: ConnectionId) -> Vec<u32> {
    let mut done = Vec::new();
    loop {
        let came = told(realm, member);
        if came.is_empty() {
            return done;
        }
        for (number, id, _) in came {
            done.push(number);
            acknowledge(realm, member, id, AcknowledgeStep::Acknowledged);
        }
    }
}

#[test]
fn what_a_member_has_no_room_for_goes_to_the_others() {
    let mut realm = Realm::new();
    let from = realm.wamp();
    let (hangs, works) = (join(&mut realm, "a", 1, Qos::AtLeastOnce), join(&mut realm, "b", 2, Qos::AtLeastOnce));
    // Three are sent, and the others wait with whoever is in turn.
    publish(&mut realm, from, 1..=20);
    let sent = told(&mut realm, hangs);
    assert_eq!(sent.len(), 1);
    let expected: Vec<u32> = (1..=20).filter(|number| *number != sent[0].0).collect();
    assert_eq!(work(&mut realm, works), expected, "each in its order");
    // There is room for two more, and a member that comes has room for the third.
    publish(&mut realm, from, 21..=23);
    let third = join(&mut realm, "c", 10, Qos::AtLeastOnce);
    publish(&mut realm, from, 24..=24);
    assert_eq!(work(&mut realm, third), [23, 24]);
    assert_eq!(work(&mut realm, works), [21, 22]);
    assert!(told(&mut realm, hangs).is_empty());
}

#[test]
fn a_member_that_joins_gets_what_waits() {
    let mut realm = Realm::new();
    let from = realm.wamp();
    let hangs = join(&mut realm, "a", 1, Qos::AtLeastOnce);
    publish(&mut realm, from, 1..=5);
    assert_eq!(told(&mut realm, hangs).len(), 1);
    let joins = join(&mut realm, "b", 1, Qos::AtLeastOnce);
    assert_eq!(work(&mut realm, joins), [2, 3, 4, 5]);
}

/// A worker that computes is no member that hangs: nothing that was sent moves while its connection is there.
#[test]
fn what_was_sent_with_qos_1_moves_when_the_connection_ends() {
    let mut realm = Realm::new();
    let from = realm.wamp();
    let (hangs, works) = (join(&mut realm, "a", 2, Qos::AtLeastOnce), join(&mut realm, "b", 1, Qos::AtLeastOnce));
    publish(&mut realm, from, 1..=3);
    let sent: Vec<u32> = told(&mut realm, hangs).into_iter().map(|(number, ..)| number).collect();
    assert_eq!(sent, [1, 3]);
    assert_eq!(work(&mut realm, works), [2]);
    realm.advance(60_000);
    assert!(told(&mut realm, works).is_empty());
    realm.lose(hangs);
    assert_eq!(work(&mut realm, works), [1, 3]);
    let again = come(&mut realm, "a", 2);
    assert!(told(&mut realm, again).is_empty(), "it is somebody else's");
}

#[test]
fn what_was_sent_stays_where_nobody_else_is_there_or_the_client_is_back() {
    let mut realm = Realm::new();
    let from = realm.wamp();
    let hangs = join(&mut realm, "a", 1, Qos::AtLeastOnce);
    publish(&mut realm, from, 1..=2);
    assert_eq!(told(&mut realm, hangs), [(1, 1, false)]);
    realm.lose(hangs);
    let back = come(&mut realm, "a", 1);
    assert_eq!(told(&mut realm, back), [(1, 1, true)]);
    // Another connection of the client takes over [MQTT-4.4.0-1].
    let other = join(&mut realm, "b", 1, Qos::AtLeastOnce);
    assert_eq!(told(&mut realm, other), [(2, 1, false)]);
    let back = come(&mut realm, "a", 1);
    assert_eq!(told(&mut realm, back), [(1, 1, true)]);
}

/// [MQTT-4.8.2-5]
#[test]
fn qos_2_that_was_sent_stays_with_its_member() {
    let mut realm = Realm::new();
    let from = realm.wamp();
    let (hangs, other) = (join(&mut realm, "a", 1, Qos::ExactlyOnce), join(&mut realm, "b", 3, Qos::ExactlyOnce));
    publish(&mut realm, from, 1..=4);
    assert_eq!(told(&mut realm, hangs), [(1, 1, false)]);
    assert_eq!(told(&mut realm, other), [(2, 1, false), (3, 2, false), (4, 3, false)]);
    publish(&mut realm, from, 5..=5);
    realm.lose(hangs);
    acknowledge(&mut realm, other, 1, AcknowledgeStep::Received);
    acknowledge(&mut realm, other, 1, AcknowledgeStep::Completed);
    assert_eq!(told(&mut realm, other), [(5, 4, false)]);
    let back = come(&mut realm, "a", 1);
    assert_eq!(told(&mut realm, back), [(1, 1, true)]);
}

/// Over a restart from records and from pieces: nothing is lost, and QoS 2 that was sent is with its member.
#[test]
fn what_moved_is_owed_once_in_the_next_process() {
    for is_kept in [false, true] {
        let mut realm = Realm::new();
        realm.router.track_changes();
        let from = realm.wamp();
        let (hangs, works) = (join(&mut realm, "a", 1, Qos::ExactlyOnce), join(&mut realm, "b", 1, Qos::ExactlyOnce));
        publish(&mut realm, from, 1..=6);
        assert_eq!(told(&mut realm, hangs), [(1, 1, false)]);
        for (number, id) in [(2, 1), (3, 2), (4, 3)] {
            assert_eq!(told(&mut realm, works), [(number, id, false)]);
            acknowledge(&mut realm, works, id, AcknowledgeStep::Received);
            acknowledge(&mut realm, works, id, AcknowledgeStep::Completed);
        }
        realm.advance(300);
        let (pieces, kept) = if is_kept {
            let keys = realm.router.pieces();
            let pieces = keys.into_iter().filter_map(|key| Some((key.to_bytes(), realm.router.piece(&key)?)));
            (pieces.collect(), realm.records.len())
        } else {
            (BTreeMap::new(), 0)
        };
        realm.restart_behind(&pieces, kept);
        let works = come(&mut realm, "b", 5);
        assert_eq!(told(&mut realm, works), [(5, 4, true), (6, 5, false)], "{is_kept}");
        let hangs = come(&mut realm, "a", 5);
        assert_eq!(told(&mut realm, hangs), [(1, 1, true)], "{is_kept}");
    }
}

/// A group that ends leaves nothing behind that anybody looks for.
#[test]
fn a_group_that_ends_is_behind_no_more() {
    let mut realm = Realm::new();
    let from = realm.wamp();
    let hangs = join(&mut realm, "a", 1, Qos::AtLeastOnce);
    publish(&mut realm, from, 1..=3);
    assert!(realm.router.realm.broker.is_any_behind());
    realm.give_up(hangs, UnsubscribeEntry::Topic { filter: filter(), share: Some("g".into()) }).unwrap();
    assert!(!realm.router.realm.broker.is_any_behind());
    // [MQTT-3.10.4-3]
    assert_eq!(work(&mut realm, hangs).len(), 3);
}
