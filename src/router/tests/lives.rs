//! One life behind the other: nothing that a session, a connection or a process left is taken for something of the next.
use std::sync::Arc;

use serde_json::json;

use crate::model::command::{Acknowledge, CalleeForm, Open, Protocol, SubscribeEntry, SubscribeOptions, Will};
use crate::model::outcome::Outcome;
use crate::model::record::Kind;
use crate::model::{Command, ConnectionId, Delivery, Filter, Payload, Publication, Qos, Reason, RequestId, Topic};
use crate::router::tests::handshakes::{HOUR_S, connect, exchange, history, publish, send, subscriber, texts};
use crate::router::tests::{Realm, mqtt_open, packet};

/// The refusal ended the use of the packet id, in this life and the next: the next message under it is new.
#[test]
fn what_a_full_queue_refused_takes_no_packet_id() {
    for protocol in [Protocol::Mqtt5, Protocol::Mqtt311] {
        let mut realm = Realm::new();
        let declarer = realm.wamp();
        realm.call_own(declarer, 1, "corsac.queue.declare", json!(["q", {"max_len": 1}]), Payload::empty());
        let client = connect(&mut realm, protocol, false, HOUR_S);
        let mut answers = Vec::new();
        for id in 1..=2 {
            let topic = Topic::from_mqtt("$queue/q").unwrap();
            let publication = Arc::new(Publication::new(topic, Payload::Bytes("item".into()), Qos::ExactlyOnce));
            let acknowledge = Acknowledge::ExactlyOnce(packet(id));
            realm.send(client, Command::Publish { publication, acknowledge, options: None });
            answers.extend(realm.inbox(client));
        }
        assert!(
            matches!(&answers[..], [Delivery::Received(_, Ok(_)), Delivery::Received(_, Err(Reason::QuotaExceeded))]),
            "{answers:?}"
        );
        exchange(&mut realm, client, 2, "new");
        let refused = realm.records.iter().rposition(|record| record.item.kind == Kind::QUEUE).unwrap();
        realm.records.truncate(refused + 1);
        realm.restart();
        let client = connect(&mut realm, protocol, false, HOUR_S);
        exchange(&mut realm, client, 2, "newer");
        assert_eq!(history(&realm), ["newer"]);
    }
}

/// A full disk takes the end of one session and the beginning of the next together, or neither.
#[test]
fn a_session_whose_beginning_is_not_on_record_is_refused() {
    let mut realm = Realm::new();
    let client = connect(&mut realm, Protocol::Mqtt5, true, HOUR_S);
    send(&mut realm, client, 1, "a");
    realm.lose(client);
    realm.is_disk_slow = true;
    let refused = realm.knock(Open { clean_start: true, expiry_s: HOUR_S, ..mqtt_open(Protocol::Mqtt5, "p") });
    while realm.on_their_way() > 0 {
        realm.nothing(refused);
        realm.refuse_append(Reason::NoSpace);
    }
    assert!(matches!(realm.next(refused), Delivery::Refused(Reason::NoSpace)));
    assert_eq!(realm.router.sizes().sessions, 0);
    realm.is_disk_slow = false;
    // The session on record is another, whose end is not on record.
    let client = connect(&mut realm, Protocol::Mqtt5, false, HOUR_S);
    exchange(&mut realm, client, 1, "b");
    realm.restart();
    let client = connect(&mut realm, Protocol::Mqtt5, false, HOUR_S);
    exchange(&mut realm, client, 1, "c");
    assert_eq!(history(&realm), ["a", "b", "c"]);
}

/// A client that is there already is let in: its session is on record as it was.
#[test]
fn a_session_goes_on_while_the_disk_is_full() {
    let mut realm = Realm::new();
    let client = connect(&mut realm, Protocol::Mqtt5, true, HOUR_S);
    realm.lose(client);
    realm.is_disk_slow = true;
    let again = realm.knock(Open { clean_start: false, expiry_s: HOUR_S, ..mqtt_open(Protocol::Mqtt5, "p") });
    realm.refuse_append(Reason::NoSpace);
    assert!(matches!(realm.next(again), Delivery::Opened { session_present: true, .. }));
}

/// CONNECT with an expiry of 0 is a session that ends with its connection, also where the process ends first.
#[test]
fn what_was_to_stay_no_longer_does_not_stay() {
    let mut realm = Realm::new();
    let client = connect(&mut realm, Protocol::Mqtt5, true, HOUR_S);
    realm.lose(client);
    connect(&mut realm, Protocol::Mqtt5, false, 0);
    realm.restart();
    realm.advance(0);
    let client = realm.knock(Open { clean_start: false, expiry_s: HOUR_S, ..mqtt_open(Protocol::Mqtt5, "p") });
    assert!(matches!(realm.next(client), Delivery::Opened { session_present: false, .. }));
}

fn will(text: &'static str) -> Option<Will> {
    let publication = Publication::new(Topic::from_mqtt("t").unwrap(), Payload::Bytes(text.into()), Qos::AtLeastOnce);
    Some(Will { publication: Arc::new(publication), delay_s: 0, expiry_s: None })
}

fn publish_0(text: &'static str) -> Command {
    let publication = Publication::new(Topic::from_mqtt("t").unwrap(), Payload::Bytes(text.into()), Qos::AtMostOnce);
    Command::Publish { publication: Arc::new(publication), acknowledge: Acknowledge::None, options: None }
}

/// [MQTT-3.1.4-3] comes before [MQTT-3.1.4-5]: a client is let in when everything that its CONNECT has ended has its place.
#[test]
fn what_a_connect_ends_comes_before_what_its_client_does() {
    let ways = (0..8).map(|bits| (bits & 1 != 0, if bits & 2 != 0 { HOUR_S } else { 0 }, bits & 4 != 0));
    for (clean_start, expiry_s, is_lost) in ways {
        let mut realm = Realm::new();
        let subscriber = subscriber(&mut realm);
        let open = || Open { clean_start, expiry_s, ..mqtt_open(Protocol::Mqtt5, "p") };
        let old = realm.open(Open { will: will("will"), ..open() });
        realm.is_disk_slow = true;
        realm.send(old, publish("stored", Acknowledge::ExactlyOnce(packet(1))));
        if is_lost {
            realm.lose(old);
        }
        let new = realm.knock(open());
        while realm.on_their_way() > 0 {
            realm.nothing(new);
            realm.append();
        }
        assert!(matches!(realm.next(new), Delivery::Opened { .. }), "{clean_start} {expiry_s} {is_lost}");
        realm.send(new, publish_0("new"));
        assert_eq!(texts(&mut realm, subscriber), ["stored", "will", "new"], "{clean_start} {expiry_s} {is_lost}");
    }
}

#[test]
fn an_expired_session_comes_before_the_next() {
    let mut realm = Realm::new();
    let subscriber = subscriber(&mut realm);
    let open = |will| Open { expiry_s: 60, will, ..mqtt_open(Protocol::Mqtt5, "p") };
    let delayed = will("will").map(|will| Will { delay_s: 3_600, ..will });
    let old = realm.open(open(delayed));
    realm.lose(old);
    realm.is_disk_slow = true;
    realm.advance(61_000);
    let new = realm.knock(Open { expiry_s: 0, ..open(None) });
    realm.nothing(new);
    realm.append_all();
    assert!(matches!(realm.next(new), Delivery::Opened { .. }));
    realm.send(new, publish_0("new"));
    assert_eq!(texts(&mut realm, subscriber), ["will", "new"]);
}

/// A client may go, or come once more, while its CONNECT waits.
#[test]
fn a_client_that_is_not_let_in_yet_may_go() {
    let mut realm = Realm::new();
    realm.is_disk_slow = true;
    let open = || Open { clean_start: false, expiry_s: HOUR_S, will: will("will"), ..mqtt_open(Protocol::Mqtt5, "p") };
    let first = realm.knock(open());
    assert_eq!(realm.router.sizes().connected, 1);
    let second = realm.knock(open());
    assert!(matches!(realm.next(first), Delivery::Refused(Reason::ServerBusy)));
    realm.lose(second);
    realm.append_all();
    assert_eq!(realm.router.sizes().connected, 0);
    realm.nothing(first);
    realm.nothing(second);
    let third = realm.knock(Open { will: None, ..open() });
    realm.append_all();
    assert!(matches!(realm.next(third), Delivery::Opened { session_present: true, .. }));
    assert!(!realm.router.is_owed(third) && realm.settled.contains(&third));
    // Wills are of clients that were let in.
    realm.restart();
    assert_eq!(history(&realm), [""; 0]);
}

/// CONNACK tells that the will is on record: a crash right behind it leaves the will.
#[test]
fn connack_tells_that_the_will_is_on_record() {
    let mut realm = Realm::new();
    realm.is_disk_slow = true;
    let client = realm.knock(Open { will: will("will"), ..mqtt_open(Protocol::Mqtt5, "p") });
    while realm.on_their_way() > 0 {
        realm.nothing(client);
        realm.append();
    }
    assert!(matches!(realm.next(client), Delivery::Opened { .. }));
    realm.restart();
    realm.append_all();
    assert_eq!(history(&realm), ["will"]);
}

/// The router stops while a client is on its way in.
#[test]
fn a_stop_ends_those_too_who_are_on_their_way_in() {
    let mut realm = Realm::new();
    realm.is_disk_slow = true;
    let client = realm.knock(Open { expiry_s: HOUR_S, will: will("will"), ..mqtt_open(Protocol::Mqtt5, "p") });
    realm.router.shut_down(realm.now_ms);
    realm.advance(0);
    realm.append_all();
    let told = realm.inbox(client);
    assert!(matches!(&told[..], [Delivery::Opened { .. }, Delivery::Close(Reason::ShuttingDown)]), "{told:?}");
    realm.lose(client);
    realm.append_all();
    assert_eq!(history(&realm), ["will"]);
}

/// A subscriber that comes behind a PUBLISH with QoS 0 that clears a value is not told the value, in either protocol.
#[test]
fn a_cleared_value_is_told_to_nobody_who_subscribes_then() {
    for filter in ["t", "+", "#"] {
        let mut realm = Realm::new();
        let (publisher, mqtt, wamp) = (realm.mqtt("c"), realm.mqtt("m"), realm.wamp());
        let stays = realm.persistent("stays");
        realm.send(publisher, publish("value", Acknowledge::ExactlyOnce(packet(1))));
        realm.is_disk_slow = true;
        let topic = Topic::from_mqtt("t").unwrap();
        let clear = Publication { retain: true, ..Publication::new(topic, Payload::empty(), Qos::AtMostOnce) };
        realm.send(publisher, Command::Publish { publication: Arc::new(clear), acknowledge: Acknowledge::None, options: None });
        let subscribers = [mqtt, wamp, stays];
        for connection in subscribers {
            realm.inbox(connection);
            let filter = Filter::from_mqtt(filter).unwrap();
            let entries = vec![SubscribeEntry::Topic { filter, share: None, options: SubscribeOptions::default() }];
            realm.send(connection, Command::Subscribe { request: RequestId(1), entries });
            realm.send(connection, publish_0("own"));
        }
        realm.append_all();
        for connection in subscribers {
            let told = realm.inbox(connection);
            assert!(matches!(told[0], Delivery::Subscribed(..)), "{filter}: {told:?}");
            assert!(told.iter().all(|told| !matches!(told, Delivery::Event(event) if event.retain)), "{filter}: {told:?}");
        }
        assert!(realm.records.iter().any(|record| record.item.kind == Kind::SUBSCRIPTION));
    }
}

fn invocation(realm: &mut Realm, worker: ConnectionId) -> u64 {
    let event = realm.event(worker);
    let response_topic = event.publication.properties.as_ref().and_then(|it| it.response_topic.clone()).unwrap();
    response_topic.strip_prefix("$yield/").unwrap().parse().unwrap()
}

/// A worker may answer when its session has ended. The answer is nobody's, also if the next session was called meanwhile.
#[test]
fn a_late_answer_is_none_to_a_call_of_a_later_session() {
    for is_restarted in [false, true] {
        let mut realm = Realm::new();
        let (worker, caller) = (realm.mqtt("w"), realm.wamp());
        // Something is on record before the restart.
        realm.persistent("s");
        realm.serve(worker, "work", CalleeForm::Publication).unwrap();
        realm.call(caller, 1, "work");
        let first = invocation(&mut realm, worker);
        realm.lose(worker);
        if is_restarted {
            realm.restart();
        }
        let (worker, caller) = (realm.mqtt("w"), realm.wamp());
        realm.serve(worker, "work", CalleeForm::Publication).unwrap();
        realm.call(caller, 1, "work");
        let second = invocation(&mut realm, worker);
        realm.answer_with(worker, first, Outcome::Result, "late");
        realm.nothing(caller);
        realm.answer_with(worker, second, Outcome::Result, "right");
        assert_eq!(realm.answer(caller).payload, Payload::Bytes("right".into()));
    }
}

/// A full disk has no answer in 3.1.1. The client is cut off, and the message that it sends again was not taken before.
#[test]
fn what_a_full_disk_refused_is_taken_when_it_comes_again() {
    for protocol in [Protocol::Mqtt5, Protocol::Mqtt311] {
        let mut realm = Realm::new();
        let client = connect(&mut realm, protocol, false, HOUR_S);
        realm.is_disk_slow = true;
        realm.send(client, publish("a", Acknowledge::ExactlyOnce(packet(1))));
        realm.refuse_append(Reason::NoSpace);
        assert!(matches!(realm.next(client), Delivery::Received(_, Err(Reason::NoSpace))));
        realm.lose(client);
        realm.is_disk_slow = false;
        realm.append_all();
        let client = connect(&mut realm, protocol, false, HOUR_S);
        realm.send(client, publish("a", Acknowledge::ExactlyOnceAgain(packet(1))));
        assert!(matches!(realm.next(client), Delivery::Received(_, Ok(_))));
        assert_eq!(history(&realm), ["a"]);
    }
}

/// PUBCOMP says that the id is free, in the next life too, which would answer the next message as one that was taken.
#[test]
fn an_id_is_free_when_that_is_on_record() {
    let mut realm = Realm::new();
    let client = connect(&mut realm, Protocol::Mqtt5, false, HOUR_S);
    send(&mut realm, client, 1, "a");
    realm.is_disk_slow = true;
    realm.send(client, Command::Release(packet(1)));
    realm.refuse_append(Reason::NoSpace);
    assert!(matches!(realm.next(client), Delivery::Close(Reason::NoSpace)));
    realm.is_disk_slow = false;
    realm.append_all();
    let client = connect(&mut realm, Protocol::Mqtt5, false, HOUR_S);
    realm.send(client, Command::Release(packet(1)));
    assert!(matches!(realm.next(client), Delivery::Completed(_, Ok(()))));
    realm.restart();
    let client = connect(&mut realm, Protocol::Mqtt5, false, HOUR_S);
    exchange(&mut realm, client, 1, "b");
    assert_eq!(history(&realm), ["a", "b"]);
}
