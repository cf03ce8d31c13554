//! Retries with a key of the client's, over new connections and over SIGKILL, on disk and in memory: one event, one answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod support;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::Value;
use support::router::Router;
use support::wire::{Arrival, PATIENCE, Wire};
use support::{bytes, packet};

/// A data directory that goes with the test.
struct Data(PathBuf);

impl Data {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("corsac-dedup-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Data(std::env::temp_dir().join(name))
    }

    fn start(&self) -> Router {
        Router::start_in(&self.0, "")
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn wait(wire: &mut Wire) {
    assert!(matches!(wire.receive(Instant::now() + PATIENCE), Arrival::Bytes), "nothing comes");
}

/// MQTT 5.
struct Mqtt(Wire);

impl Mqtt {
    fn open(router: &Router, connect: &str) -> Self {
        let mut client = Mqtt(Wire::tcp(router.mqtt));
        assert!(client.ask(connect).starts_with("CONNACK"));
        client
    }

    /// A session that stays.
    fn resume(router: &Router, id: &str) -> Self {
        Self::open(router, &format!("CONNECT v5 id={id} session_expiry=1000"))
    }

    fn publish_one(&mut self) {
        assert_eq!(self.ask("PUBLISH t one q1 id=1 user=corsac-dedup:a"), "PUBACK id=1 rc=00");
    }

    fn send(&mut self, line: &str) {
        self.0.send(&packet::encode(&bytes::words(line), 5)).unwrap();
    }

    fn receive(&mut self) -> String {
        loop {
            if let Some((words, length)) = packet::decode(&self.0.arrived, 5).unwrap() {
                self.0.arrived.drain(..length);
                return words.join(" ");
            }
            wait(&mut self.0);
        }
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.receive()
    }

    /// The topic and payload of the next packet, which must be a PUBLISH.
    fn event(&mut self) -> String {
        let words = self.receive();
        let mut words = words.split(' ');
        assert_eq!(words.next(), Some("PUBLISH"));
        words.take(2).collect::<Vec<_>>().join(" ")
    }

    /// Nothing came before the answer to this.
    fn assert_nothing(&mut self) {
        assert_eq!(self.ask("PINGREQ"), "PINGRESP");
    }
}

/// A session of its own.
fn clean(router: &Router, id: &str) -> Mqtt {
    Mqtt::open(router, &format!("CONNECT v5 clean id={id}"))
}

/// WAMP over a WebSocket in JSON.
struct Wamp {
    wire: Wire,
    requests: u64,
}

impl Wamp {
    fn open(router: &Router) -> Self {
        let mut client = Wamp { wire: Wire::websocket(router.http, "/ws", "wamp.2.json"), requests: 0 };
        client.wire.send_text(r#"[1,"realm1",{"roles":{"publisher":{}}}]"#).unwrap();
        assert_eq!(client.receive()[0], 2);
        client
    }

    fn receive(&mut self) -> Value {
        loop {
            let mut messages = serde_json::Deserializer::from_slice(&self.wire.arrived).into_iter();
            if let Some(Ok(message)) = messages.next() {
                let length = messages.byte_offset();
                self.wire.arrived.drain(..length);
                return message;
            }
            wait(&mut self.wire);
        }
    }

    /// PUBLISH to `t` with these options, and the answer.
    fn publish(&mut self, options: &Value, text: &str) -> Value {
        self.requests += 1;
        let message = serde_json::json!([16, self.requests, options, "t", [text]]);
        self.wire.send_text(&message.to_string()).unwrap();
        self.receive()
    }

    /// The id of the publication.
    fn publish_as(&mut self, key: &str, text: &str) -> u64 {
        let answer = self.publish(&serde_json::json!({"acknowledge": true, "dedup": key}), text);
        assert_eq!((&answer[0], &answer[1]), (&17.into(), &self.requests.into()), "{answer}");
        answer[2].as_u64().unwrap()
    }
}

#[test]
fn a_retry_over_wamp_is_the_first_publication() {
    let data = Data::new();
    let router = data.start();
    let mut subscriber = Mqtt::resume(&router, "s");
    assert!(subscriber.ask("SUBSCRIBE id=1 t:1").starts_with("SUBACK id=1 01"));
    let mut publisher = Wamp::open(&router);
    let first = publisher.publish_as("order 1", "one");
    let second = publisher.publish_as("order 2", "two");
    assert!(first < second);
    assert_eq!(Wamp::open(&router).publish_as("order 1", "one"), first);
    drop(router);

    let router = data.start();
    let mut publisher = Wamp::open(&router);
    assert_eq!(publisher.publish_as("order 2", "two"), second);
    assert_eq!(publisher.publish_as("order 1", "one"), first);
    assert!(publisher.publish_as("order 3", "three") > second);
    let mut subscriber = Mqtt::resume(&router, "s");
    for text in ["one", "two", "three"] {
        assert_eq!(subscriber.event(), format!("t {text}"));
    }
    subscriber.assert_nothing();
}

#[test]
fn a_retry_over_mqtt_is_the_first_publication() {
    let data = Data::new();
    let router = data.start();
    let mut subscriber = Mqtt::resume(&router, "s");
    assert!(subscriber.ask("SUBSCRIBE id=1 t:1").starts_with("SUBACK id=1 01"));
    let mut publisher = clean(&router, "p");
    publisher.publish_one();
    publisher.publish_one();
    clean(&router, "p").publish_one();
    let mut publisher = Mqtt::resume(&router, "q");
    assert!(publisher.ask("PUBLISH t two q2 id=2 user=corsac-dedup:b").starts_with("PUBREC id=2 rc=00"));
    assert!(publisher.ask("PUBLISH t three q2 id=3 user=corsac-dedup:c").starts_with("PUBREC id=3 rc=00"));
    drop(router);

    let router = data.start();
    clean(&router, "p").publish_one();
    // The handshakes that the crash cut through go on: a PUBLISH is known by its key, a PUBREL is answered in any case.
    let mut publisher = Mqtt::resume(&router, "q");
    assert!(publisher.ask("PUBLISH t two q2 dup id=2 user=corsac-dedup:b").starts_with("PUBREC id=2 rc=00"));
    assert_eq!(publisher.ask("PUBREL id=2"), "PUBCOMP id=2 rc=00");
    assert_eq!(publisher.ask("PUBREL id=3"), "PUBCOMP id=3 rc=92");
    // Of another client it is another one.
    clean(&router, "r").publish_one();
    let mut subscriber = Mqtt::resume(&router, "s");
    for text in ["one", "two", "three", "one"] {
        assert_eq!(subscriber.event(), format!("t {text}"));
    }
    subscriber.assert_nothing();
}

#[test]
fn keys_mean_the_same_in_memory() {
    let router = Router::start("");
    let mut subscriber = clean(&router, "s");
    assert!(subscriber.ask("SUBSCRIBE id=1 t:1").starts_with("SUBACK id=1 01"));
    let first = Wamp::open(&router).publish_as("a", "one");
    assert_eq!(Wamp::open(&router).publish_as("a", "one"), first);
    for _ in 0..2 {
        let mut publisher = clean(&router, "p");
        assert_eq!(publisher.ask("PUBLISH t two q1 id=1 user=corsac-dedup:a"), "PUBACK id=1 rc=00");
    }
    // QoS 0 is answered by nobody, and so not sent again: a key says nothing there.
    let mut publisher = clean(&router, "p");
    publisher.send("PUBLISH t three user=corsac-dedup:a");
    for text in ["one", "two", "three"] {
        assert_eq!(subscriber.event(), format!("t {text}"));
    }
    subscriber.assert_nothing();
}

#[test]
fn what_is_no_key_is_refused() {
    let router = Router::start("");
    let mut client = Wamp::open(&router);
    let long = "x".repeat(129);
    for key in ["", &long] {
        let answer = client.publish(&serde_json::json!({"acknowledge": true, "dedup": key}), "x");
        assert_eq!((&answer[0], &answer[4]), (&8.into(), &"wamp.error.invalid_argument".into()), "{answer}");
    }
    let options = serde_json::json!({"acknowledge": true, "retain": true, "dedup": "a", "when": null});
    assert_eq!(client.publish(&options, "x")[4], "wamp.error.invalid_argument");
    let mut client = clean(&router, "p");
    let answer = client.ask(&format!("PUBLISH t x q1 id=1 user=corsac-dedup:{long}"));
    assert!(answer.starts_with("PUBACK id=1 rc=83"), "{answer}");
}
