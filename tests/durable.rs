//! The state that survives SIGKILL, seen by MQTT clients: retained values, sessions, the messages owed to them, and QoS 2 in the middle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod support;

use serde_json::json;
use support::data::Data;
use support::mqtt::Mqtt as Client;
use support::router::Router;
use support::wamp::Wamp;
use support::wire::PATIENCE;

#[test]
fn a_session_is_owed_what_it_has_not_acknowledged() {
    let data = Data::new();
    let router = data.start();
    let (mut subscriber, is_present) = Client::resume(&router, "s");
    assert!(!is_present);
    assert_eq!(subscriber.ask("SUBSCRIBE id=1 t/+:1 u:1"), "SUBACK id=1 01 01");
    assert_eq!(subscriber.ask("UNSUBSCRIBE id=2 u"), "UNSUBACK id=2 00");
    subscriber.send("DISCONNECT");
    let (mut publisher, _) = Client::resume(&router, "p");
    for number in 1..=4 {
        publisher.ask(&format!("PUBLISH t/{number} x{number} q1 id={number}"));
    }
    publisher.ask("PUBLISH u no q1 id=9");
    drop(router);

    let router = data.start();
    let (mut subscriber, is_present) = Client::resume(&router, "s");
    assert!(is_present);
    for number in 1..=4 {
        assert_eq!(subscriber.receive(), format!("PUBLISH t/{number} x{number} q1 id={number}"));
    }
    subscriber.send("PUBACK id=1");
    subscriber.send("PUBACK id=2");
    // An orderly end writes what was acknowledged.
    subscriber.assert_nothing();
    router.terminate();
    assert!(router.wait(PATIENCE).success());

    let router = data.start();
    let (mut subscriber, is_present) = Client::resume(&router, "s");
    assert!(is_present);
    // Ids go on where they were.
    assert_eq!(subscriber.receive(), "PUBLISH t/3 x3 q1 id=3 dup");
    assert_eq!(subscriber.receive(), "PUBLISH t/4 x4 q1 id=4 dup");
    subscriber.assert_nothing();
}

#[test]
fn a_publication_that_is_sent_again_after_a_crash_is_one() {
    let data = Data::new();
    let router = data.start();
    let (mut subscriber, _) = Client::resume(&router, "s");
    subscriber.ask("SUBSCRIBE id=1 t:1");
    subscriber.send("DISCONNECT");
    let (mut publisher, _) = Client::resume(&router, "p");
    assert!(publisher.ask("PUBLISH t once q2 id=7").starts_with("PUBREC id=7"));
    drop(router);

    let router = data.start();
    let (mut publisher, is_present) = Client::resume(&router, "p");
    assert!(is_present);
    assert!(publisher.ask("PUBLISH t once q2 dup id=7").starts_with("PUBREC id=7"));
    assert_eq!(publisher.ask("PUBREL id=7"), "PUBCOMP id=7 rc=00");
    drop(router);

    // The id is free: another message under it is another message.
    let router = data.start();
    let (mut publisher, _) = Client::resume(&router, "p");
    assert!(publisher.ask("PUBLISH t twice q2 id=7").starts_with("PUBREC id=7"));
    let (mut subscriber, _) = Client::resume(&router, "s");
    assert_eq!(subscriber.receive(), "PUBLISH t once q1 id=1");
    assert_eq!(subscriber.receive(), "PUBLISH t twice q1 id=2");
    subscriber.assert_nothing();
}

#[test]
fn a_delivery_of_qos_2_goes_on_where_it_was() {
    let data = Data::new();
    let router = data.start();
    let (mut subscriber, _) = Client::resume(&router, "s");
    subscriber.ask("SUBSCRIBE id=1 t:2");
    let (mut publisher, _) = Client::resume(&router, "p");
    publisher.ask("PUBLISH t b q2 id=2");
    assert_eq!(subscriber.receive(), "PUBLISH t b q2 id=1");
    drop(router);

    let router = data.start();
    let (mut subscriber, _) = Client::resume(&router, "s");
    assert_eq!(subscriber.receive(), "PUBLISH t b q2 id=1 dup");
    assert_eq!(subscriber.ask("PUBREC id=1"), "PUBREL id=1 rc=00");
    drop(router);

    let router = data.start();
    let (mut subscriber, _) = Client::resume(&router, "s");
    assert_eq!(subscriber.receive(), "PUBREL id=1 rc=00");
    subscriber.send("PUBCOMP id=1");
    subscriber.assert_nothing();
}

#[test]
fn a_delivery_of_qos_2_that_waited_at_the_crash_is_one() {
    let data = Data::new();
    let router = data.start();
    let (mut subscriber, _) = Client::resume(&router, "s");
    subscriber.ask("SUBSCRIBE id=1 t:2");
    subscriber.send("DISCONNECT");
    assert!(subscriber.wire.await_end(PATIENCE));
    let (mut publisher, _) = Client::resume(&router, "p");
    publisher.ask("PUBLISH t a q2 id=1");
    publisher.ask("PUBLISH t b q2 id=2");
    let connect = "CONNECT v5 id=s session_expiry=1000 receive_maximum=1";
    let (mut subscriber, _) = Client::try_connect(router.mqtt, connect).unwrap();
    assert_eq!(subscriber.receive(), "PUBLISH t a q2 id=1");
    subscriber.assert_nothing();
    drop(router);

    let router = data.start();
    let (mut subscriber, _) = Client::resume(&router, "s");
    assert_eq!(subscriber.receive(), "PUBLISH t a q2 id=1 dup");
    // Its id would be on record, had it been sent.
    assert_eq!(subscriber.receive(), "PUBLISH t b q2 id=2");
    assert_eq!(subscriber.ask("PUBREC id=2"), "PUBREL id=2 rc=00");
    drop(router);

    let router = data.start();
    let (mut subscriber, _) = Client::resume(&router, "s");
    assert_eq!(subscriber.receive(), "PUBLISH t a q2 id=1 dup");
    assert_eq!(subscriber.receive(), "PUBREL id=2 rc=00");
    subscriber.assert_nothing();
}

#[test]
fn what_ended_stays_ended_and_what_is_retained_stays() {
    let data = Data::new();
    let router = data.start();
    let (mut client, _) = Client::resume(&router, "s");
    client.ask("SUBSCRIBE id=1 t:1");
    client.send("PUBLISH kept value retain");
    client.ask("PUBLISH gone value q1 retain id=2");
    client.ask("PUBLISH gone '' q1 retain id=3");
    client.send("DISCONNECT session_expiry=0");
    assert!(client.wire.await_end(PATIENCE));
    let (mut other, _) = Client::resume(&router, "o");
    other.assert_nothing();
    router.terminate();
    assert!(router.wait(PATIENCE).success());

    let router = data.start();
    let (mut client, is_present) = Client::resume(&router, "s");
    assert!(!is_present);
    client.send("SUBSCRIBE id=1 #:1");
    assert_eq!(client.receive(), "SUBACK id=1 01");
    assert_eq!(client.receive(), "PUBLISH kept value q0 retain");
    client.assert_nothing();
}

#[test]
fn a_crash_of_the_router_is_no_goodbye() {
    let data = Data::new();
    let router = data.start();
    let (mut watcher, _) = Client::resume(&router, "w");
    assert_eq!(watcher.ask("SUBSCRIBE id=1 status/+:1"), "SUBACK id=1 01");
    let connect = |id: &str| format!("CONNECT v5 clean id={id} will=status/{id} will_payload=gone will_q1");
    let _lost = Client::try_connect(router.mqtt, &connect("lost")).unwrap();
    let (mut polite, _) = Client::try_connect(router.mqtt, &connect("polite")).unwrap();
    polite.send("DISCONNECT");
    assert!(polite.wire.await_end(PATIENCE));
    // This acknowledged publication is behind the DISCONNECT on the disk.
    watcher.ask("PUBLISH t x q1 id=1");
    router.kill();
    drop(router);

    for _ in 0..2 {
        let router = data.start();
        let (mut watcher, _) = Client::resume(&router, "w");
        let will = watcher.receive();
        assert!(will.starts_with("PUBLISH status/lost gone q1"), "{will:?}");
        watcher.assert_nothing();
        router.kill();
    }
}

/// Values that were retained before the SUBSCRIBE are owed as well as what comes live; what has changed comes once.
#[test]
fn a_session_is_owed_the_values_that_it_has_not_acknowledged() {
    const VALUES: usize = 300;
    let data = Data::new();
    let mut router = data.start();
    let (mut publisher, _) = Client::resume(&router, "p");
    for number in 1..=VALUES {
        publisher.ask(&format!("PUBLISH t/{number:03} v{number} q1 retain id={number}"));
    }
    let connect = "CONNECT v5 id=s session_expiry=1000 receive_maximum=5";
    let (mut subscriber, _) = Client::try_connect(router.mqtt, connect).unwrap();
    assert_eq!(subscriber.ask("SUBSCRIBE id=1 t/+:1"), "SUBACK id=1 01");
    let mut seen = std::collections::BTreeSet::new();
    let mut take = |subscriber: &mut Client| {
        let words = subscriber.receive();
        seen.insert(words[1].clone());
        subscriber.send(&format!("PUBACK id={}", words.id()));
        seen.len()
    };
    for round in 0..3 {
        for _ in 0..40 {
            take(&mut subscriber);
        }
        // The connection ends, the process is killed, and it stops.
        match round {
            0 => drop(subscriber),
            1 => {
                drop(router);
                router = data.start();
            }
            _ => {
                router.terminate();
                assert!(router.wait(PATIENCE).success());
                router = data.start();
            }
        }
        let (back, is_present) = Client::try_connect(router.mqtt, connect).unwrap();
        assert!(is_present);
        subscriber = back;
    }
    let (mut publisher, _) = Client::resume(&router, "p");
    publisher.ask("PUBLISH t/299 changed q1 retain id=1");
    while take(&mut subscriber) < VALUES {}
}

/// 4.8.2: a worker whose window is full keeps nothing but what it was sent, and that only while its connection lasts.
#[test]
fn a_member_that_hangs_keeps_nothing_from_the_others() {
    let data = Data::new();
    let router = data.start();
    let join = |router: &Router, id: &str| {
        let connect = format!("CONNECT v5 id={id} session_expiry=1000 receive_maximum=1");
        let (mut member, is_present) = Client::try_connect(router.mqtt, &connect).unwrap();
        if !is_present {
            assert_eq!(member.ask("SUBSCRIBE id=1 $share/g/t:1"), "SUBACK id=1 01");
        }
        member
    };
    let (mut hangs, mut works) = (join(&router, "a"), join(&router, "b"));
    let (mut publisher, _) = Client::resume(&router, "p");
    for number in 1..=10 {
        publisher.ask(&format!("PUBLISH t x{number} q1 id={number}"));
    }
    let take = |member: &mut Client, text: &str| {
        let words = member.receive();
        assert_eq!(words[2], text, "{words:?}");
        member.send(&format!("PUBACK id={}", words.id()));
    };
    assert_eq!(hangs.receive(), "PUBLISH t x1 q1 id=1");
    for number in 2..=6 {
        take(&mut works, &format!("x{number}"));
    }
    assert!(works.receive().starts_with("PUBLISH t x7 q1"));
    drop(router);

    let router = data.start();
    let mut works = join(&router, "b");
    let mut left: Vec<String> = ["x1", "x7", "x8", "x9", "x10"].map(str::to_owned).into();
    while !left.is_empty() {
        let words = works.receive();
        left.retain(|text| *text != words[2]);
        works.send(&format!("PUBACK id={}", words.id()));
    }
    works.assert_nothing();
    let mut hangs = join(&router, "a");
    hangs.assert_nothing();
    let (mut publisher, _) = Client::resume(&router, "p");
    for number in 11..=12 {
        publisher.ask(&format!("PUBLISH t x{number} q1 id={number}"));
    }
    let sent = hangs.receive();
    take(&mut works, if sent[2] == "x11" { "x12" } else { "x11" });
    works.assert_nothing();
    drop(hangs);
    take(&mut works, &sent[2]);
    works.assert_nothing();
}

/// The events that the history has on `t`.
fn history(router: &Router) -> Vec<String> {
    let (args, _) = Wamp::open(router).call("corsac.history.read", json!(["t", {"limit": 1_000}]), json!({}));
    args[0]["events"].as_array().unwrap().iter().map(|event| event["args"][0].as_str().unwrap().to_owned()).collect()
}

/// A PUBLISH of QoS 2 with packet id 1, retained, and its PUBREL.
fn exchange(client: &mut Client, text: &str) {
    let answer = client.ask(&format!("PUBLISH t {text} q2 id=1 retain"));
    assert!(answer.starts_with("PUBREC id=1"), "{answer:?}");
    assert!(client.ask("PUBREL id=1").starts_with("PUBCOMP id=1"));
}

fn disconnect(mut client: Client) {
    client.send("DISCONNECT");
    assert!(client.wire.await_end(PATIENCE));
}

/// A new session's messages are its own, however the one before ended: a subscriber, the retained value and the history have all.
#[test]
fn sessions_of_one_client_lose_nothing_of_each_other() {
    let data = Data::new();
    let mut router = data.start();
    let mut expected = Vec::new();
    let connects = [
        "CONNECT v5 clean id=c session_expiry=3600",
        "CONNECT v4 id=c",
        "CONNECT v4 clean id=c",
        "CONNECT v4 id=c",
        "CONNECT v5 clean id=c session_expiry=1",
    ];
    for round in 0..3 {
        let (mut subscriber, _) = Client::try_connect(router.mqtt, "CONNECT v5 clean id=s").unwrap();
        assert_eq!(subscriber.ask("SUBSCRIBE id=1 t:2,rh2"), "SUBACK id=1 02");
        for (number, connect) in connects.iter().enumerate() {
            let (mut client, _) = Client::try_connect(router.mqtt, connect).unwrap();
            let text = format!("r{round}n{number}");
            exchange(&mut client, &text);
            let words = subscriber.receive();
            assert_eq!((words[1].as_str(), &words[2]), ("t", &text), "{words:?}");
            subscriber.send(&format!("PUBREC id={}", words.id()));
            let released = subscriber.receive();
            subscriber.send(&format!("PUBCOMP id={}", released.id()));
            expected.push(text);
            disconnect(client);
        }
        // The last of them expires in this life, in the next, or while nobody runs.
        if round == 1 {
            std::thread::sleep(std::time::Duration::from_millis(1_200));
        }
        drop(router);
        router = data.start();
        let (mut reader, _) = Client::try_connect(router.mqtt, "CONNECT v5 clean id=r").unwrap();
        assert_eq!(reader.ask("SUBSCRIBE id=1 t:0"), "SUBACK id=1 00");
        assert_eq!(reader.receive(), format!("PUBLISH t {} q0 retain", expected.last().unwrap()));
        assert_eq!(history(&router), expected);
    }
}
