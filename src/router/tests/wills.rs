//! Wills, over restarts.
use std::collections::BTreeMap;
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

/// The state that is kept is true after a crash: a will is there until it is published.
#[test]
fn a_will_that_has_no_place_yet_is_kept() {
    let mut realm = Realm::new();
    realm.router.track_changes();
    let client = open(&mut realm, "c", 0, Some(will("gone", 0)));
    let mut kept: BTreeMap<_, _> =
        realm.router.take_changes().into_iter().filter_map(|(key, piece)| Some((key.to_bytes(), piece?))).collect();
    realm.is_disk_slow = true;
    realm.lose(client);
    for (key, piece) in realm.router.take_changes() {
        match piece {
            Some(piece) => drop(kept.insert(key.to_bytes(), piece)),
            None => drop(kept.remove(&key.to_bytes())),
        }
    }
    let mut seen = realm.records.len();
    realm.is_disk_slow = false;
    realm.restart_behind(&kept, seen);
    assert_eq!(published(&mut realm, &mut seen), ["gone"]);
    realm.restart();
    assert_eq!(published(&mut realm, &mut seen), Vec::<String>::new(), "once");
}

/// The crash comes between the publication of a will and the record that the will is void.
#[test]
fn a_will_whose_end_is_not_on_record_is_published_once() {
    for is_kept in [false, true] {
        let mut realm = Realm::new();
        realm.router.track_changes();
        let client = open(&mut realm, "c", 0, Some(will("gone", 0)));
        let (kept, records) = match is_kept {
            true => (realm.router.take_changes(), realm.records.len()),
            false => (Vec::new(), 0),
        };
        let kept = kept.into_iter().filter_map(|(key, piece)| Some((key.to_bytes(), piece?))).collect();
        let mut seen = realm.records.len();
        realm.is_disk_slow = true;
        realm.lose(client);
        realm.append();
        assert_eq!(published(&mut realm, &mut seen), ["gone"]);
        realm.is_disk_slow = false;
        realm.restart_behind(&kept, records);
        realm.restart();
        assert_eq!(published(&mut realm, &mut seen), Vec::<String>::new(), "{is_kept}");
    }
}

/// Sessions of an earlier process that are over by its end, and whose places others may have by then.
#[test]
fn a_will_of_an_expired_session_is_published_once() {
    let mut realm = Realm::new();
    let client = open(&mut realm, "c", 60, Some(will("gone", 30)));
    realm.lose(client);
    realm.now_ms += 100_000;
    let mut seen = realm.records.len();
    realm.restart_with(|realm| {
        realm.advance(0);
        open(realm, "d", 60, Some(will("other", 0)));
    });
    assert_eq!(published(&mut realm, &mut seen), ["gone"]);
}
