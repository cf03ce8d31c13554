//! Hostile input against the real binary (LIMITS.md): the process lives, others notice nothing, memory comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod support;

#[path = "hostile/amplification.rs"]
mod amplification;
#[path = "hostile/bounds.rs"]
mod bounds;
#[path = "hostile/calls.rs"]
mod calls;
#[path = "hostile/characters.rs"]
mod characters;
#[path = "hostile/counters.rs"]
mod counters;
#[path = "hostile/flood.rs"]
mod flood;
#[path = "hostile/http.rs"]
mod http;
#[path = "hostile/mutation.rs"]
mod mutation;
#[path = "hostile/packets.rs"]
mod packets;
#[path = "hostile/serializers.rs"]
mod serializers;
#[path = "hostile/slow.rs"]
mod slow;
#[path = "hostile/too_large.rs"]
mod too_large;
#[path = "hostile/wamp.rs"]
mod wamp;
#[path = "hostile/websocket.rs"]
mod websocket;

use std::time::{Duration, Instant};

use support::router::Router;
use support::wire::{Arrival, PATIENCE, Wire};
use support::{bytes, packet};

/// An MQTT client that reads and writes lines as the packet sequences do.
struct Client {
    wire: Wire,
    version: u8,
}

impl Client {
    /// Connected, or the test fails.
    fn connect(router: &Router, line: &str) -> Self {
        let mut client = Client { wire: Wire::tcp(router.mqtt), version: 5 };
        client.open(line);
        client
    }

    fn open(&mut self, line: &str) {
        self.version = packet::version_of(&bytes::words(line)).unwrap();
        self.send(line);
        assert_eq!(self.receive()[0], "CONNACK", "{line}");
    }

    fn send(&mut self, line: &str) {
        self.wire.send(&packet::encode(&bytes::words(line), self.version)).unwrap();
    }

    /// Sends; false if the router has closed the connection.
    fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.wire.send(bytes).is_ok()
    }

    /// The next packet; `close` at the end of the connection.
    fn receive(&mut self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some((words, length)) = packet::decode(&self.wire.arrived, self.version).unwrap() {
                self.wire.arrived.drain(..length);
                return words;
            }
            match self.wire.receive(deadline) {
                Arrival::Bytes => {}
                Arrival::End => return vec!["close".to_owned()],
                Arrival::Silence => panic!("nothing comes"),
            }
        }
    }

    /// Sends a line; the next packet as a line.
    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.receive().join(" ")
    }

    /// A round trip through the realm: everything sent before has been routed.
    fn settle(&mut self) {
        self.send("UNSUBSCRIBE id=65535 nobody/subscribed");
        let answer = self.receive();
        assert_eq!(answer[..2], ["UNSUBACK", "id=65535"], "{answer:?}");
    }
}

/// The router serves a newcomer at once.
fn assert_serves(router: &Router) {
    let started = Instant::now();
    assert!(router.is_alive(), "the process has ended");
    let mut subscriber = Client::connect(router, "CONNECT v5 clean id=");
    assert!(subscriber.ask("SUBSCRIBE id=1 still/alive:1").starts_with("SUBACK id=1 01"));
    let mut publisher = Client::connect(router, "CONNECT v4 clean id=");
    assert_eq!(publisher.ask("PUBLISH still/alive yes q1 id=1"), "PUBACK id=1");
    assert_eq!(subscriber.receive()[..3], ["PUBLISH", "still/alive", "yes"]);
    assert!(started.elapsed() < Duration::from_secs(5), "others wait: {:?}", started.elapsed());
}

/// No client's message is retained in the default realm.
fn assert_nothing_retained(router: &Router) {
    let mut client = Client::connect(router, "CONNECT v5 clean id=");
    assert_eq!(client.ask("SUBSCRIBE id=1 #:0"), "SUBACK id=1 00");
    client.settle();
}

/// Connections of others have gone: only the one that asks is open.
fn assert_nobody_left(router: &Router) {
    router.await_figure("sockets", |open| open <= 1);
}

/// Memory returns to within `margin_kib` of `baseline_kib` within 5 s.
fn assert_memory(router: &Router, baseline_kib: u64, margin_kib: u64) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let rss_kib = router.rss_kib();
        if rss_kib <= baseline_kib + margin_kib {
            return;
        }
        assert!(Instant::now() < deadline, "{rss_kib} KiB, before it was {baseline_kib} KiB, margin {margin_kib} KiB");
        // A request gives the allocator's threads something to do.
        router.page("/healthz");
    }
}
