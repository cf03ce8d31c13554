//! Wills, over restarts.
use std::sync::Arc;

use crate::model::command::{Close, Open, Protocol, SubscribeOptions, Will};
use crate::model::{Command, ConnectionId, Delivery, Payload, Publication, Qos, Reason, Topic};

use super::{Realm, mqtt_open};

fn will(topic: &str, delay_s: u32) -> Will {
    let topic = Topic::from_mqtt(topic).unwrap();
    let publication = Arc::new(Publication::new(topic, Payload::Bytes("gone".into()), Qos::AtLeastOnce));
    Will { publication, delay_s, expiry_s: Some(1_000) }
}

fn open(realm: &mut Realm, client: &str, expiry_s: u32, will: Option<Will>) -> ConnectionId {
    realm.open(Open { clean_start: false, expiry_s, will, ..mqtt_open(Protocol::Mqtt5, client) })
}

/// The topics of wills that came since the last look.
fn published(realm: &mut Realm, seen: &mut usize) -> Vec<String> {
    let new = realm.records.iter().skip(*seen);
    let topics = new.filter_map(|record| record.item.indexed_topic()).map(|topic| topic.as_mqtt().to_owned()).collect();
    *seen = realm.records.len();
    topics
}

#[test]
fn what_a_crash_cuts_off_leaves_its_will() {
    let mut realm = Realm::new();
    open(&mut realm, "a", 0, Some(will("clean", 0)));
    open(&mut realm, "b", 3_600, Some(will("stays", 0)));
    open(&mut realm, "c", 3_600, Some(will("late", 5)));
    let polite = open(&mut realm, "d", 0, Some(will("polite", 0)));
    realm.send(polite, Command::Close(Close { expiry_s: None, with_will: false }));
    let lost = open(&mut realm, "e", 0, Some(will("lost", 0)));
    realm.send(lost, Command::Lost(Reason::ConnectionLost));
    let replaced = open(&mut realm, "f", 3_600, Some(will("old", 0)));
    realm.send(replaced, Command::Close(Close { expiry_s: None, with_will: false }));
    open(&mut realm, "f", 3_600, None);
    let mut seen = 0;
    assert_eq!(published(&mut realm, &mut seen), ["lost"]);
    realm.restart();
    assert_eq!(published(&mut realm, &mut seen), ["stays", "clean"]);
    realm.advance(6_000);
    assert_eq!(published(&mut realm, &mut seen), ["late"]);
    realm.restart();
    realm.advance(60_000);
    assert_eq!(published(&mut realm, &mut seen), Vec::<String>::new(), "once");
}

#[test]
fn who_comes_back_in_time_has_its_will_again() {
    let mut realm = Realm::new();
    open(&mut realm, "c", 3_600, Some(will("late", 5)));
    realm.restart();
    let mut seen = realm.records.len();
    realm.advance(1_000);
    let subscriber = realm.mqtt("s");
    realm.subscribe(subscriber, "#", SubscribeOptions::default().qos).unwrap();
    open(&mut realm, "c", 3_600, Some(will("next", 0)));
    realm.advance(60_000);
    assert_eq!(published(&mut realm, &mut seen), Vec::<String>::new());
    realm.restart();
    assert_eq!(published(&mut realm, &mut seen), ["next"]);
    assert!(realm.inbox(subscriber).iter().all(|told| !matches!(told, Delivery::Event(_))));
}
