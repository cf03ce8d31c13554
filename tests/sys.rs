//! `$SYS`: every name of mosquitto's that dashboards read is there, and has the figure that follows from a known traffic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::data::Data;
use support::mqtt::Mqtt;
use support::router::{PATIENCE, Router};
use support::wamp::Wamp;
use support::wire::Arrival;

/// Figures every second instead of every ten.
const CONFIG: &str = "[mqtt]\nsys_interval_s = 1\n";

/// Names with an exact figure once the traffic of [`traffic`] has passed and the reader is there.
const FIGURES: &[(&str, u64)] = &[
    // Five and the reader; the one that is away; the one that stayed away for too long is none of them.
    ("clients/total", 7),
    ("clients/connected", 6),
    ("clients/active", 6),
    ("clients/disconnected", 1),
    ("clients/inactive", 1),
    ("clients/expired", 1),
    ("clients/maximum", 6),
    // Those of the one that is away and of the reader too.
    ("subscriptions/count", 6),
    ("shared_subscriptions/count", 2),
    ("retained messages/count", 3),
    // Retained, owed to the one that is away, and one that is not acknowledged.
    ("messages/stored", 3 + 4 + 1),
    ("store/messages/count", 3 + 4 + 1),
    ("store/messages/bytes", 3 * 5 + 4 * 3 + 2),
    ("messages/inflight", 1),
    ("store/records/unreadable", 0),
    ("publish/messages/received", 3 + 4 + 1 + 1),
    ("publish/bytes/received", 3 * 5 + 4 * 3 + 5 + 2),
    ("publish/messages/dropped", 0),
];

/// Names whose figure moves with the reading of them.
const MOVING: &[&str] = &[
    "publish/messages/sent",
    "publish/bytes/sent",
    "messages/received",
    "messages/sent",
    "bytes/received",
    "bytes/sent",
    "uptime",
    "version",
];

const LOADS: &[&str] = &[
    "bytes/received",
    "bytes/sent",
    "connections",
    "messages/received",
    "messages/sent",
    "publish/dropped",
    "publish/received",
    "publish/sent",
    "sockets",
];

/// Reads figures below `$SYS/broker/` until they fit.
struct Reader {
    client: Mqtt,
    found: BTreeMap<String, String>,
}

impl Reader {
    fn start(router: &Router) -> Self {
        let mut client = Mqtt::open(router, "reader");
        client.send("SUBSCRIBE id=1 $SYS/broker/#:0");
        Reader { client, found: BTreeMap::new() }
    }

    fn await_all(&mut self, what: &str, fits: impl Fn(&BTreeMap<String, String>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !fits(&self.found) {
            assert!(Instant::now() < deadline, "{what}: {:#?}", self.found);
            let words = self.client.receive();
            if words[0] == "PUBLISH" {
                let name = words[1].trim_matches('\'').strip_prefix("$SYS/broker/").unwrap().to_owned();
                self.found.insert(name, words[2].trim_matches('\'').to_owned());
            }
        }
    }

    fn number(&self, name: &str) -> u64 {
        self.found[name].parse().unwrap()
    }
}

/// Sessions and messages as [`FIGURES`] counts them; the sessions stay as long as what is returned.
fn traffic(router: &Router) -> Vec<Mqtt> {
    let (mut away, _) = Mqtt::resume(router, "away");
    assert_eq!(away.ask("SUBSCRIBE id=1 q/#:1")[0], "SUBACK");
    away.send("DISCONNECT");
    assert!(away.wire.await_end(PATIENCE));
    let mut gone = Mqtt::connect(router, "id=gone session_expiry=1");
    gone.send("DISCONNECT");
    assert!(gone.wire.await_end(PATIENCE));
    let mut clients = Vec::new();
    for (id, filters) in [("s1", "a/b:0 x/+:0"), ("s2", "a/b:0"), ("w1", "$share/g/a/b:0"), ("w2", "$share/g/a/b:0")] {
        let mut client = Mqtt::open(router, id);
        assert_eq!(client.ask(&format!("SUBSCRIBE id=1 {filters}"))[0], "SUBACK");
        clients.push(client);
    }
    let mut publisher = Mqtt::open(router, "publisher");
    for n in 1..=3 {
        publisher.ask(&format!("PUBLISH r/{n} 12345 q1 id=1 retain"));
    }
    for n in 1..=4 {
        publisher.ask(&format!("PUBLISH q/{n} 123 q1 id=1"));
    }
    publisher.ask("PUBLISH a/b hello q1 id=1");
    // The publication comes back to its publisher, and is not acknowledged.
    assert_eq!(publisher.ask("SUBSCRIBE id=2 own:1")[0], "SUBACK");
    publisher.send("PUBLISH own 12 q1 id=3");
    let came = [publisher.receive(), publisher.receive()];
    assert!(came.iter().any(|words| words.starts_with("PUBLISH own")), "{came:?}");
    clients.push(publisher);
    clients
}

fn check(router: &Router) {
    let clients = traffic(router);
    let mut reader = Reader::start(router);
    let names = || FIGURES.iter().map(|(name, _)| *name).chain(MOVING.iter().copied());
    reader.await_all("names", |found| names().all(|name| found.contains_key(name)));
    for what in LOADS {
        for minutes in [1, 5, 15] {
            let value = &reader.found[&format!("load/{what}/{minutes}min")];
            assert!(value.parse::<f64>().is_ok_and(|load| load >= 0.0), "{what} {value}");
        }
    }
    let has = |found: &BTreeMap<String, String>| FIGURES.iter().all(|(name, value)| found[*name] == value.to_string());
    reader.await_all(&format!("{FIGURES:?}"), has);
    assert!(reader.found["uptime"].ends_with(" seconds") && reader.found["version"].starts_with("corsac version "));
    // Before the reader came: a/b three times, own once, 5 and 2 bytes.
    assert!(reader.number("publish/messages/sent") >= 4 && reader.number("publish/bytes/sent") >= 17);
    assert!(reader.number("messages/received") >= 9 + 8 && reader.number("bytes/received") > 32);
    let load = |name: &str| reader.found[name].parse::<f64>().unwrap();
    assert!(load("load/connections/1min") > 0.0 && load("load/sockets/1min") > 0.0);
    assert!(load("load/publish/received/1min") > 0.0 && load("load/publish/received/15min") > 0.0);
    drop(clients);
}

#[test]
fn each_name_has_its_figure_in_memory() {
    check(&Router::start(CONFIG));
}

#[test]
fn each_name_has_its_figure_on_disk() {
    let data = Data::new();
    check(&Router::start_in(&data.0, CONFIG));
}

#[test]
fn a_router_that_nobody_uses_counts_nothing() {
    let router = Router::start(CONFIG);
    // The reader sees some rounds of figures go by.
    let mut reader = Reader::start(&router);
    let uptime = |found: &BTreeMap<String, String>| found.get("uptime")?.strip_suffix(" seconds")?.parse::<u64>().ok();
    reader.await_all("three rounds", |found| uptime(found) >= Some(3) && found.contains_key("publish/messages/received"));
    for name in ["publish/messages/received", "publish/bytes/received", "retained messages/count", "messages/stored"] {
        assert_eq!(reader.number(name), 0, "{name}");
    }
    // Neither does the page, which is no client.
    assert_eq!((router.figure("messages_in"), router.figure("connections"), router.figure("sockets")), (0, 1, 2));
    assert_eq!(router.figure("retained"), 0);
    let wamp = Wamp::open(&router);
    router.await_figure("connections", |count| count == 2);
    drop(wamp);
    router.await_figure("connections", |count| count == 1);
}

#[test]
fn zero_is_never() {
    let router = Router::start("[mqtt]\nsys_interval_s = 0\n");
    let mut client = Mqtt::open(&router, "c");
    assert_eq!(client.ask("SUBSCRIBE id=1 $SYS/#:0")[0], "SUBACK");
    assert!(matches!(client.wire.receive(Instant::now() + Duration::from_millis(300)), Arrival::Silence));
    client.assert_nothing();
}
