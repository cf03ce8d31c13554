//! Retained messages for a new subscription, page by page.
use std::sync::Arc;

use crate::model::command::{Acknowledge, UnsubscribeEntry};
use crate::model::{Command, ConnectionId, Delivery, Filter, Payload, Publication, Qos, Reason, Topic};
use crate::router::flow::replay::PAGE_STEPS;

use super::{Realm, packet, payload};

/// A realm with this many retained messages below `name/`.
fn retain(realm: &mut Realm, publisher: ConnectionId, name: &str, count: usize) {
    for number in 0..count {
        let topic = Topic::from_mqtt(&format!("{name}/{number}")).unwrap();
        let publication = Publication { retain: true, ..Publication::new(topic, payload("x"), Qos::AtMostOnce) };
        let publication = Arc::new(publication);
        realm.send(publisher, Command::Publish { publication, acknowledge: Acknowledge::None, options: None });
    }
}

fn events(told: Vec<Delivery>) -> usize {
    told.iter().filter(|told| matches!(told, Delivery::Event(_))).count()
}

/// The number of events that still come as the outbox is emptied again and again.
fn drained(realm: &mut Realm, connection: ConnectionId) -> usize {
    let mut count = 0;
    for _ in 0..10 {
        realm.router.handle_outbox_drained(connection);
        realm.advance(0);
        count += events(realm.inbox(connection));
    }
    count
}

#[test]
fn nothing_retained_comes_behind_the_end_of_its_subscription() {
    // [MQTT-3.10.4-2]
    let mut realm = Realm::new();
    let (a, b) = (realm.mqtt("a"), realm.mqtt("b"));
    retain(&mut realm, a, "x", 2 * PAGE_STEPS);
    retain(&mut realm, a, "y", 2 * PAGE_STEPS);
    realm.subscribe(b, "x/#", Qos::AtMostOnce).unwrap();
    realm.subscribe(b, "y/#", Qos::AtMostOnce).unwrap();
    assert_eq!(events(realm.inbox(b)), PAGE_STEPS);
    let give_up = |filter| UnsubscribeEntry::Topic { filter: Filter::from_mqtt(filter).unwrap(), share: None };
    // One that waits, then one that has begun.
    realm.give_up(b, give_up("y/#")).unwrap();
    realm.give_up(b, give_up("x/#")).unwrap();
    assert_eq!(drained(&mut realm, b), 0);
    // The next one is sent whole.
    realm.subscribe(b, "x/#", Qos::AtMostOnce).unwrap();
    assert_eq!(events(realm.inbox(b)) + drained(&mut realm, b), 2 * PAGE_STEPS);
}

/// A name that no MQTT client can be sent has a value from before such names were refused.
#[test]
fn a_value_under_an_unfit_name_can_be_removed_once() {
    let mut realm = Realm::new();
    let a = realm.mqtt("a");
    let topic = Topic::from_mqtt("x/\u{1}").unwrap();
    let older = Publication { retain: true, ..Publication::new(topic.clone(), payload("x"), Qos::AtLeastOnce) };
    realm.router.realm.retained.set(Arc::new(older), None);
    let removal = Publication { retain: true, ..Publication::new(topic, Payload::empty(), Qos::AtLeastOnce) };
    for expected in [Ok(()), Err(Reason::UnfitCharacter('\u{1}'))] {
        let acknowledge = Acknowledge::AtLeastOnce(packet(1));
        let publication = Arc::new(removal.clone());
        realm.send(a, Command::Publish { publication, acknowledge, options: None });
        let told = realm.inbox(a);
        let answered = told.iter().find_map(|told| match told {
            Delivery::Acknowledged(_, taken) => Some(taken.as_ref().map(drop).map_err(|reason| *reason)),
            _ => None,
        });
        assert_eq!(answered, Some(expected), "{told:?}");
        assert!(realm.router.realm.retained.is_empty());
    }
}

#[test]
fn the_end_of_one_subscription_holds_up_no_other() {
    let mut realm = Realm::new();
    let (a, b) = (realm.mqtt("a"), realm.mqtt("b"));
    retain(&mut realm, a, "x", 2 * PAGE_STEPS);
    retain(&mut realm, a, "y", 3);
    realm.subscribe(b, "x/#", Qos::AtMostOnce).unwrap();
    realm.subscribe(b, "y/#", Qos::AtMostOnce).unwrap();
    realm.inbox(b);
    let entry = UnsubscribeEntry::Topic { filter: Filter::from_mqtt("x/#").unwrap(), share: None };
    realm.give_up(b, entry).unwrap();
    assert_eq!(drained(&mut realm, b), 3);
}
