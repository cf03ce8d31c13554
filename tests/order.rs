//! Order between connections of one thread: what became readable first is handled first, and whoever asked is answered first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod support;

use std::time::Instant;

use support::data::Data;
use support::router::Router;
use support::wire::{Arrival, PATIENCE, Wire};
use support::{bytes, packet};

const ROUNDS: usize = 300;

fn connect(router: &Router, client: &str) -> Wire {
    let mut wire = Wire::tcp(router.mqtt);
    send(&mut wire, &format!("CONNECT v5 clean id={client}"));
    assert_eq!(receive(&mut wire)[0], "CONNACK");
    wire
}

fn send(wire: &mut Wire, line: &str) {
    wire.send(&packet::encode(&bytes::words(line), 5)).unwrap();
}

/// The next packet, which may have arrived already.
fn receive(wire: &mut Wire) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some((words, length)) = packet::decode(&wire.arrived, 5).unwrap() {
            wire.arrived.drain(..length);
            return words;
        }
        assert!(matches!(wire.receive(deadline), Arrival::Bytes), "nothing comes");
    }
}

/// The eclipse paho suite does not wait for SUBACK either (`test_subscribe_options`).
#[test]
fn a_publish_after_a_subscribe_on_another_connection_finds_it() {
    let router = Router::start("");
    let (mut publisher, mut subscriber) = (connect(&router, "p"), connect(&router, "s"));
    let mut third = connect(&router, "t");
    for round in 0..ROUNDS {
        // While the router's thread is still inside its last call on a socket, the kernel holds back what arrives there,
        // and the other socket becomes readable first. Once it answers somebody else it is inside none of the two.
        send(&mut third, "PINGREQ");
        assert_eq!(receive(&mut third)[0], "PINGRESP");
        send(&mut subscriber, &format!("SUBSCRIBE id=1 t/{round}:0"));
        send(&mut publisher, &format!("PUBLISH t/{round} x"));
        assert_eq!(receive(&mut subscriber)[0], "SUBACK");
        // Comes after everything that was sent before.
        send(&mut subscriber, "UNSUBSCRIBE id=2 none");
        assert_eq!(receive(&mut subscriber)[0], "PUBLISH", "round {round}");
        assert_eq!(receive(&mut subscriber)[0], "UNSUBACK");
    }
}

/// The autobahn-js suite compares the order of PUBLISHED and EVENT on two connections.
#[test]
fn a_publisher_is_answered_before_its_subscribers_are_served() {
    let router = Router::start("");
    let (mut publisher, mut subscriber) = (connect(&router, "p"), connect(&router, "s"));
    send(&mut subscriber, "SUBSCRIBE id=1 t:0");
    assert_eq!(receive(&mut subscriber)[0], "SUBACK");
    for round in 0..ROUNDS {
        send(&mut publisher, "PUBLISH t x q1 id=7");
        assert_eq!(receive(&mut subscriber)[0], "PUBLISH");
        // On loopback what was written first is there first: no waiting.
        let arrival = publisher.receive(Instant::now() + std::time::Duration::from_millis(1));
        assert!(matches!(arrival, Arrival::Bytes), "round {round}");
        assert_eq!(receive(&mut publisher)[0], "PUBACK");
    }
}

/// [MQTT-3.1.4-3]: the will of the connection before comes before anything that the client does then, stored or not.
#[test]
fn the_will_of_a_connection_that_is_taken_over_comes_before_the_next_connection() {
    let data = Data::new();
    let router = data.start();
    let mut subscriber = connect(&router, "s");
    send(&mut subscriber, "SUBSCRIBE id=1 t:0");
    assert_eq!(receive(&mut subscriber)[0], "SUBACK");
    let mut client = None;
    for round in 0..40 {
        let mut next = Wire::tcp(router.mqtt);
        let expiry = if round % 2 == 0 { 0 } else { 60 };
        send(&mut next, &format!("CONNECT v5 clean id=c will=t will_payload=will{round} will_q1 session_expiry={expiry}"));
        assert_eq!(receive(&mut next)[0], "CONNACK");
        send(&mut next, &format!("PUBLISH t birth{round}"));
        if client.replace(next).is_some() {
            assert_eq!(receive(&mut subscriber)[2], format!("will{}", round - 1));
        }
        assert_eq!(receive(&mut subscriber)[2], format!("birth{round}"));
    }
}

#[test]
fn a_value_that_is_cleared_without_acknowledgement_is_told_to_nobody_who_comes_then() {
    let data = Data::new();
    let router = data.start();
    let (mut publisher, mut subscriber) = (connect(&router, "p"), connect(&router, "s"));
    for round in 0..40 {
        send(&mut publisher, &format!("PUBLISH t/{round} x q1 id=1 retain"));
        assert_eq!(receive(&mut publisher)[0], "PUBACK");
        send(&mut publisher, &format!("PUBLISH t/{round} '' retain"));
        send(&mut publisher, "PINGREQ");
        assert_eq!(receive(&mut publisher)[0], "PINGRESP");
        let filter = if round % 2 == 0 { format!("t/{round}") } else { "t/+".to_owned() };
        send(&mut subscriber, &format!("SUBSCRIBE id=1 {filter}:1"));
        assert_eq!(receive(&mut subscriber)[0], "SUBACK", "round {round}");
        send(&mut subscriber, &format!("UNSUBSCRIBE id=2 {filter}"));
        assert_eq!(receive(&mut subscriber)[0], "UNSUBACK", "round {round}");
    }
}
