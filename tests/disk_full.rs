//! A full disk, on a small tmpfs: what cannot be stored is refused and said to be, reads go on, and room lets writing go on by itself.
//!
//! Mounting needs a privilege: without it the test says so and passes; `src/store/tests` simulate a full disk everywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod support;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::data::Data;
use support::mqtt::Mqtt;
use support::router::Router;
use support::wamp::Wamp;
use support::wire::PATIENCE;

/// Of the file system: two segments of 64 MiB and the reserve of 64 MiB fit, but not beside the ballast.
const MIB: usize = 200;
const BALLAST_MIB: usize = 60;

/// A small file system, unmounted in the end whatever happens. Routers that use it must be gone before.
struct Disk(Data);

impl Disk {
    fn mount() -> Result<Self, String> {
        let data = Data::created();
        let size = format!("size={MIB}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "corsac-test"]).arg(&data.0).output();
        match mounted {
            Ok(Output { status, .. }) if status.success() => Ok(Disk(data)),
            Ok(Output { stderr, .. }) => Err(String::from_utf8_lossy(&stderr).lines().next().unwrap_or_default().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.0.join("ballast")
    }

    fn start(&self) -> Router {
        Router::start_in(&self.0.0.join("data"), "")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is still there must not keep it.
        Command::new("umount").arg("-l").arg(&self.0.0).status().ok();
    }
}

/// Publishes with acknowledgement; whether it was taken.
fn is_taken(client: &mut Mqtt, line: &str) -> bool {
    let answer = client.ask(line);
    assert_eq!(answer[0], "PUBACK", "{answer:?}");
    match answer.field("rc=") {
        Some("00" | "10") => true,
        Some("97") => false,
        _ => panic!("{answer:?}"),
    }
}

/// Publishes what is large until it is refused, from when on everything is; between, what is small, whose texts are returned.
fn fill(client: &mut Mqtt) -> Vec<String> {
    let mut stored = Vec::new();
    while is_taken(client, "32 [ s'large' 0001 00 78*1048576 ]") {
        stored.push(format!("n{}", stored.len()));
        assert!(stored.len() < MIB, "the disk is never full");
        assert!(is_taken(client, &format!("PUBLISH h/x n{} q1 id=2", stored.len() - 1)));
    }
    stored
}

/// Everything on `h.x`, by a call.
fn history(router: &Router) -> Vec<String> {
    let (args, _) = Wamp::open(router).call("corsac.history.read", json!(["h.x", {"limit": 1_000}]), json!({}));
    assert_eq!(args[0]["is_end"], true);
    let text = |event: &Value| event["args"][0].as_str().unwrap().to_owned();
    args[0]["events"].as_array().unwrap().iter().map(text).collect()
}

/// Nothing is stored, everything is said, and what needs no disk goes on.
fn assert_full(router: &Router, stored: &[String]) {
    let (mut mqtt, mut wamp) = (Mqtt::open(router, "full"), Wamp::open(router));
    assert!(!is_taken(&mut mqtt, "PUBLISH h/x refused q1 id=1"));
    assert!(!is_taken(&mut mqtt, "PUBLISH kept refused q1 id=1 retain"));
    let answer = mqtt.ask("PUBLISH h/x refused q2 id=1");
    assert!(answer.starts_with("PUBREC id=1 rc=97"), "{answer:?}");
    for options in [json!({"acknowledge": true}), json!({"acknowledge": true, "retain": true})] {
        let answer = wamp.ask(16, json!([options, "h.x", ["refused"]]));
        assert_eq!((&answer[0], &answer[4]), (&json!(8), &json!("corsac.error.no_space")), "{answer}");
    }
    // Before MQTT 5 there is no way to refuse but to end.
    let (mut old, _) = Mqtt::try_connect(router.mqtt, "CONNECT v4 clean id=old").unwrap();
    assert!(old.try_ask("PUBLISH h/x refused q1 id=1").is_err());

    assert_eq!(history(router), stored);
    assert_eq!(mqtt.ask("SUBSCRIBE id=1 kept:0 live:0"), "SUBACK id=1 00 00");
    assert_eq!(mqtt.receive(), "PUBLISH kept value q0 retain");
    wamp.subscribe(json!({"after": 0}), "h.x");
    for text in stored {
        assert_eq!(wamp.event(), json!(text));
    }
    Mqtt::open(router, "other").send("PUBLISH live news");
    assert_eq!(mqtt.receive(), "PUBLISH live news q0");
    assert_told(router);
}

/// `/healthz` fails, and says why to whoever knows a name of the router; the page says it too.
fn assert_told(router: &Router) {
    let (head, body) = router.ask("/healthz", "localhost");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    let needed =
        "128 MiB needed: a segment of 64 MiB (limits.segment_bytes) and 64 MiB that stay free (limits.disk_reserve_bytes)";
    for part in ["not ok: nothing can be stored: ", " MiB free in ", needed] {
        assert!(body.contains(part), "{body}");
    }
    let (head, body) = router.ask("/healthz", "elsewhere.example");
    assert!(head.starts_with("HTTP/1.1 503 ") && body == "not ok", "{head} {body}");
    let status: Value = serde_json::from_str(&router.page("/status.json")).unwrap();
    assert!(status["trouble"].as_str().is_some_and(|trouble| trouble.contains(needed)), "{status}");
}

/// Waits until something is stored again.
fn await_room(client: &mut Mqtt) {
    let deadline = Instant::now() + PATIENCE;
    while !is_taken(client, "PUBLISH h/x again q1 id=3") {
        assert!(Instant::now() < deadline, "there is room, and nothing is stored");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_full_disk_refuses_reads_go_on_and_writing_recovers_by_itself() {
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(why) => return println!("skipped, no tmpfs can be mounted: {why}"),
    };
    std::fs::write(disk.ballast(), vec![1; BALLAST_MIB << 20]).unwrap();
    let router = disk.start();
    let mut client = Mqtt::open(&router, "filler");
    assert!(is_taken(&mut client, "PUBLISH kept value q1 id=1 retain"));
    assert_eq!(router.page("/healthz"), "ok");
    let mut stored = fill(&mut client);
    assert!(stored.len() > 40, "{stored:?}");
    assert_full(&router, &stored);

    // A restart changes nothing of what is stored; that the disk is full shows again.
    drop((client, router));
    let router = disk.start();
    assert_eq!(history(&router), stored);
    let mut client = Mqtt::open(&router, "filler");
    assert_eq!(fill(&mut client).len(), 0);
    assert_full(&router, &stored);
    std::fs::remove_file(disk.ballast()).unwrap();
    await_room(&mut client);
    stored.push("again".to_owned());
    assert_eq!(router.page("/healthz"), "ok");
    let mut wamp = Wamp::open(&router);
    wamp.publish("h.x", json!(["by wamp"]), json!({}));
    stored.push("by wamp".to_owned());
    assert!(is_taken(&mut client, "PUBLISH kept changed q1 id=1 retain"));
    assert_eq!(history(&router), stored);
    drop((client, wamp, router));

    let router = disk.start();
    assert_eq!(history(&router), stored);
    assert_eq!(Mqtt::open(&router, "last").ask("SUBSCRIBE id=1 kept:0"), "SUBACK id=1 00");
}
