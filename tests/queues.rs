//! Queues on the real binary, with clients of both protocols, killed in the middle: no item that was acknowledged is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::data::Data;
use support::mqtt::Mqtt;
use support::router::Router;
use support::wire::{Ended, PATIENCE};
use support::{packet, wamp};

/// A WAMP session that calls the procedures of queues.
struct Wamp(wamp::Wamp);

impl Wamp {
    fn open(router: &Router) -> Self {
        Wamp(wamp::Wamp::open(router))
    }

    fn request(&mut self, verb: &str, args: Value) -> Result<u64, Ended> {
        self.0.try_request(48, json!([{}, format!("corsac.queue.{verb}"), args]))
    }

    /// The answer of `corsac.queue.<verb>`: its value, or the URI of its error.
    fn call(&mut self, verb: &str, args: Value) -> Result<Result<Value, String>, Ended> {
        self.request(verb, args)?;
        let answer = self.0.try_receive()?;
        match answer[0].as_u64() {
            Some(50) => Ok(Ok(answer[3][0].clone())),
            Some(8) => Ok(Err(answer[4].as_str().unwrap().to_owned())),
            _ => panic!("{answer}"),
        }
    }

    fn value(&mut self, verb: &str, args: Value) -> Value {
        self.call(verb, args).expect("connected").expect("no error")
    }
}

/// The events that all clients have seen, in one order.
#[derive(Default)]
struct Seen {
    /// Items whose put was acknowledged.
    stored: BTreeSet<String>,
    /// The last delivery of each.
    deliveries: BTreeMap<String, u64>,
    /// Items that somebody is done with, as far as that one knows.
    done: BTreeSet<String>,
    /// Items of which the router has said so.
    confirmed: BTreeSet<String>,
}

impl Seen {
    fn deliver(&mut self, text: &str, count: u64) {
        assert!(!self.confirmed.contains(text), "{text} comes after its acknowledgement was stored");
        let last = self.deliveries.insert(text.to_owned(), count).unwrap_or(0);
        assert!(count > last, "{text}: delivery {count} after {last}");
    }
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

fn next_text() -> String {
    format!("item-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Puts until the connection ends, some at a time.
fn put_by_mqtt(router: &Router, seen: &Mutex<Seen>) -> Result<(), Ended> {
    let mut client = Mqtt::connect(router, "id=putter");
    loop {
        let texts: Vec<String> = (0..8).map(|_| next_text()).collect();
        for (id, text) in (1..).zip(&texts) {
            client.try_send(&format!("PUBLISH $queue/work/all {text} q1 id={id}"))?;
        }
        for (id, text) in (1..).zip(&texts) {
            let answer = client.try_receive()?;
            assert_eq!(answer.join(" "), format!("PUBACK id={id} rc=00"));
            seen.lock().unwrap().stored.insert(text.clone());
        }
    }
}

fn put_by_wamp(router: &Router, seen: &Mutex<Seen>) -> Result<(), Ended> {
    let mut session = Wamp::open(router);
    loop {
        let text = next_text();
        session.call("put", json!(["work.all", text]))?.expect("taken in");
        seen.lock().unwrap().stored.insert(text);
    }
}

/// Takes, and is done with all but every seventh.
fn take_by_mqtt(router: &Router, seen: &Mutex<Seen>) -> Result<(), Ended> {
    let mut client = Mqtt::connect(router, "id=taker receive_maximum=20");
    assert_eq!(client.ask("SUBSCRIBE id=1 $queue/work/all:1").join(" "), "SUBACK id=1 01");
    for number in 1.. {
        let words = client.try_receive()?;
        assert_eq!(words[..2], ["PUBLISH", "$queue/work/all"], "{words:?}");
        // An item that WAMP put is JSON.
        let text = &words[2].trim_matches(['\'', '"']).to_owned();
        let mut seen = seen.lock().unwrap();
        seen.deliver(text, words.field("user=corsac-delivery-count:").unwrap().parse().unwrap());
        if number % 7 > 0 {
            seen.done.insert(text.clone());
            drop(seen);
            client.try_send(&format!("PUBACK id={}", words.id()))?;
        }
    }
    unreachable!("numbers have no end")
}

fn take_by_wamp(router: &Router, seen: &Mutex<Seen>) -> Result<(), Ended> {
    let mut session = Wamp::open(router);
    loop {
        let items = session.call("take", json!(["work/all", {"max": 5, "wait_ms": 100}]))?.expect("items");
        for item in items.as_array().unwrap() {
            let text = item["args"][0].as_str().unwrap().to_owned();
            seen.lock().unwrap().deliver(&text, item["delivery_count"].as_u64().unwrap());
            seen.lock().unwrap().done.insert(text.clone());
            session.call("ack", json!([item["token"]]))?.expect("in time");
            seen.lock().unwrap().confirmed.insert(text);
        }
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_router_is_killed() {
    let directory = Data::new();
    let seen = Mutex::new(Seen::default());
    for round in 0..3 {
        let router = directory.start();
        if round == 0 {
            Wamp::open(&router).value("declare", json!(["work.all", {"visibility_ms": 3_000}]));
        }
        let before = seen.lock().unwrap().stored.len();
        std::thread::scope(|scope| {
            for client in [put_by_mqtt, put_by_wamp, take_by_mqtt, take_by_wamp] {
                let (router, seen) = (&router, &seen);
                scope.spawn(move || client(router, seen));
            }
            let deadline = Instant::now() + PATIENCE;
            while seen.lock().unwrap().stored.len() < before + 150 {
                assert!(Instant::now() < deadline, "nothing is stored");
                std::thread::sleep(Duration::from_millis(1));
            }
            router.kill();
        });
    }
    let router = directory.start();
    let mut session = Wamp::open(&router);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let items = session.value("take", json!(["work.all", {"max": 1_000, "wait_ms": 500}]));
        for item in items.as_array().unwrap() {
            let text = item["args"][0].as_str().unwrap();
            let mut seen = seen.lock().unwrap();
            seen.deliver(text, item["delivery_count"].as_u64().unwrap());
            seen.done.insert(text.to_owned());
            session.call("ack", json!([item["token"]])).unwrap().unwrap();
        }
        let stats = session.value("stats", json!(["work.all"]));
        let left = ["ready", "claimed", "delayed"].map(|name| stats[name].as_u64().unwrap());
        if left == [0; 3] {
            break;
        }
        assert!(Instant::now() < deadline, "{stats}");
    }
    let seen = seen.into_inner().unwrap();
    let lost: Vec<_> = seen.stored.difference(&seen.done).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(seen.done.len() >= 450 && seen.confirmed.len() > 10, "{} {}", seen.done.len(), seen.confirmed.len());
}

#[test]
fn claims_settings_and_figures_survive_a_kill() {
    let directory = Data::new();
    let router = directory.start();
    let mut session = Wamp::open(&router);
    let settings = json!({"visibility_ms": 600_000, "max_deliveries": 5, "dead_letter": "dead", "max_len": 10});
    assert_eq!(session.value("declare", json!(["q", settings.clone()])), settings);
    for value in [json!({"a": [1, "\u{e9}"]}), json!("\u{0}AAEC"), json!(2)] {
        session.value("put", json!(["q", value]));
    }
    let items = session.value("take", json!(["q"]));
    assert_eq!(items[0]["args"], json!([{"a": [1, "\u{e9}"]}]));
    let mut taker = Mqtt::connect(&router, "id=taker");
    assert_eq!(taker.ask("SUBSCRIBE id=1 $queue/q:1").join(" "), "SUBACK id=1 01");
    // Binary as MQTT has it.
    assert_eq!(taker.receive()[2], packet_text(b"\0\x01\x02"));
    assert_eq!(taker.receive()[2], "2");
    taker.send("PUBACK id=2");
    // Stored when the router answers what came after it.
    assert_eq!(taker.ask("PUBLISH $queue/other x q1 id=3")[0], "PUBACK");
    let before = session.value("stats", json!(["q"]));
    assert_eq!((&before["claimed"], &before["acknowledged"]), (&json!(2), &json!(1)));
    router.kill();

    let router = directory.start();
    let mut session = Wamp::open(&router);
    // The connection's claim has returned, the call's is held.
    let items_again = session.value("take", json!(["q", {"max": 10}]));
    assert_eq!(items_again.as_array().unwrap().len(), 1);
    assert_eq!((&items_again[0]["args"][0], &items_again[0]["delivery_count"]), (&json!("\u{0}AAEC"), &json!(2)));
    let after = session.value("stats", json!(["q"]));
    for name in ["put", "acknowledged", "visibility_ms", "max_deliveries", "dead_letter", "max_len", "claimed", "bytes"] {
        assert_eq!(after[name], before[name], "{name}");
    }
    assert_eq!((&after["subscribers"], &after["returned"]), (&json!(0), &json!(1)));
    session.value("ack", json!([items[0]["token"]]));
    session.value("nack", json!([items_again[0]["token"]]));
    assert_eq!(session.call("ack", json!([items_again[0]["token"]])).unwrap(), Err("corsac.error.no_such_token".to_owned()));
    assert_eq!(session.value("take", json!(["q"]))[0]["delivery_count"], 3);
}

/// A payload as the tests write it.
fn packet_text(payload: &[u8]) -> String {
    let head = [0x30, 4 + payload.len() as u8, 0, 1, b't', 0];
    packet::decode(&[&head[..], payload].concat(), 5).unwrap().unwrap().0[2].clone()
}

#[test]
fn in_memory_everything_works_too() {
    let router = Router::start("");
    let (mut a, mut b) = (Wamp::open(&router), Wamp::open(&router));
    a.value("declare", json!(["q", {"visibility_ms": 300}]));
    b.request("take", json!(["q", {"wait_ms": 10_000}])).unwrap();
    a.value("put", json!(["q", "x", {"delay_ms": 50}]));
    let first = b.0.receive();
    assert_eq!((&first[3][0][0]["args"], &first[3][0][0]["delivery_count"]), (&json!(["x"]), &json!(1)));
    // Its claim is over by itself.
    let again = a.value("take", json!(["q", {"wait_ms": 10_000}]));
    assert_eq!(again[0]["delivery_count"], 2);
    assert_eq!(b.call("ack", json!([first[3][0][0]["token"]])).unwrap(), Err("corsac.error.no_such_token".to_owned()));
    a.value("ack", json!([again[0]["token"]]));
    assert_eq!(a.value("take", json!(["q", {"wait_ms": 10}])), json!([]));
}
