//! Locks of the real router, held by processes that are killed, stopped and cut off; a resource watches who uses it.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used)]
mod support;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::data::Data;
use support::router::{PATIENCE, Router};
use support::wamp::Wamp;

/// The lines that the users of the resource wrote, in its order: token and word.
struct Resource(PathBuf);

impl Resource {
    fn uses(&self) -> Vec<(u64, String)> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let parse = |line: &str| line.split_once(' ').map(|(token, word)| (token.parse().unwrap(), word.to_owned())).unwrap();
        whole.lines().map(parse).collect()
    }

    /// Waits until this word has come so often; the token of the last.
    fn await_word(&self, word: &str, count: usize) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tokens: Vec<u64> = self.uses().into_iter().filter(|(_, said)| said == word).map(|(token, _)| token).collect();
            if tokens.len() >= count {
                return tokens[count - 1];
            }
            assert!(Instant::now() < deadline, "not {count} times {word:?}: {:?}", self.uses());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A `corsac lock` in a process group of its own, which does not outlive its test.
struct Holder(Child);

impl Holder {
    /// Runs `script` under the lock; `$say WORD` there writes to the resource.
    fn start(url: &str, flags: &[&str], resource: &Resource, script: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corsac"));
        command.args(["lock", "demo/resource", "--url", url]).args(flags).args(["--", "sh", "-c"]);
        let script = script.replace("$say", "say");
        command.arg(format!("say() {{ echo \"$CORSAC_LOCK_TOKEN $1\" >> {}; }}; {script}", resource.0.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        Holder(command.spawn().unwrap())
    }

    /// Signals the process and its command.
    fn signal(&self, name: &str) {
        let group = format!("-{}", self.0.id());
        assert!(Command::new("kill").args([name, "--", &group]).status().unwrap().success());
    }

    fn end(mut self) -> Output {
        let deadline = Instant::now() + PATIENCE;
        while self.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
        // Processes that its command has left behind would keep the pipe open.
        Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).stderr(Stdio::null()).status().unwrap();
        let mut stderr = Vec::new();
        std::io::Read::read_to_end(self.0.stderr.as_mut().unwrap(), &mut stderr).unwrap();
        Output { status: self.0.wait().unwrap(), stdout: Vec::new(), stderr }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Its command may live, whatever has become of itself.
        Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).stderr(Stdio::null()).status().ok();
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn urls(router: &Router) -> [String; 3] {
    [format!("ws://{}/ws", router.http), format!("rs://{}", router.http), format!("mqtt://{}", router.mqtt)]
}

fn on_disk(data: &Path) -> Router {
    Router::start_on_disk(data, "127.0.0.1:0", "127.0.0.1:0")
}

#[test]
fn holders_of_both_protocols_take_turns_and_never_meet() {
    const TURNS: usize = 6;
    let directory = Data::created();
    for router in [Router::start(""), on_disk(&directory.0.join("data"))] {
        let resource = Resource(directory.0.join(format!("uses-{}", router.pid())));
        std::thread::scope(|scope| {
            for url in urls(&router) {
                for _ in 0..2 {
                    let (url, resource) = (url.clone(), &resource);
                    scope.spawn(move || {
                        for _ in 0..TURNS {
                            let ended = Holder::start(&url, &[], resource, "$say in; sleep 0.01; $say out").end();
                            assert!(ended.status.success(), "{ended:?}");
                        }
                    });
                }
            }
        });
        let uses = resource.uses();
        assert_eq!(uses.len(), 6 * TURNS * 2);
        for (number, turn) in uses.chunks(2).enumerate() {
            assert_eq!((turn[0].0, &*turn[0].1, &*turn[1].1), (turn[1].0, "in", "out"), "turn {number}: {uses:?}");
        }
        assert!(uses.chunks(2).is_sorted_by(|a, b| a[0].0 < b[0].0), "{uses:?}");
    }
}

#[test]
fn the_kill_of_a_holder_lets_the_next_one_in_with_a_larger_token() {
    let directory = Data::created();
    let router = on_disk(&directory.0.join("data"));
    let resource = Resource(directory.0.join("uses"));
    for (turn, url) in urls(&router).iter().enumerate() {
        let holder = Holder::start(url, &[], &resource, "$say in; sleep 60; $say out");
        let first = resource.await_word("in", 2 * turn + 1);
        let next = Holder::start(url, &["--wait-ms", "20000"], &resource, "$say in");
        let refused = Holder::start(url, &["--wait-ms", "0"], &resource, "$say in").end();
        assert_eq!(refused.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("somebody else holds the lock"), "{refused:?}");
        holder.signal("-KILL");
        assert!(next.end().status.success());
        assert!(resource.await_word("in", 2 * turn + 2) > first);
    }
    assert!(resource.uses().iter().all(|(_, word)| word == "in"));
}

#[test]
fn a_holder_that_stands_still_beyond_its_time_has_lost_the_lock() {
    let directory = Data::created();
    let router = Router::start("");
    let resource = Resource(directory.0.join("uses"));
    for (turn, url) in urls(&router).iter().enumerate() {
        let holder = Holder::start(url, &["--ttl-ms", "400"], &resource, "$say in; while :; do sleep 0.05; done");
        let first = resource.await_word("in", 2 * turn + 1);
        // Renewed, it lasts longer than its time.
        std::thread::sleep(Duration::from_millis(900));
        assert_eq!(Holder::start(url, &["--wait-ms", "0"], &resource, "$say in").end().status.code(), Some(1));
        holder.signal("-STOP");
        assert!(Holder::start(url, &["--wait-ms", "20000"], &resource, "$say in").end().status.success());
        assert!(resource.await_word("in", 2 * turn + 2) > first);
        holder.signal("-CONT");
        let ended = holder.end();
        let why = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(1) && why.contains("is lost, its command was killed"), "{why}");
    }
}

#[test]
fn a_restart_of_the_router_releases_what_its_connections_held() {
    let directory = Data::created();
    let data = directory.0.join("data");
    let resource = Resource(directory.0.join("uses"));
    let mut last = 0;
    for turn in 0..3 {
        let router = on_disk(&data);
        let url = urls(&router)[turn].clone();
        // Nobody finds the lock held by a connection of the process before.
        let holder = Holder::start(&url, &["--wait-ms", "0"], &resource, "$say in; sleep 60; $say out");
        let token = resource.await_word("in", turn + 1);
        assert!(token > last, "{token} after {last}");
        last = token;
        let waiting = Holder::start(&url, &[], &resource, "$say waited");
        std::thread::sleep(Duration::from_millis(100));
        router.kill();
        let ended = holder.end();
        assert!(String::from_utf8_lossy(&ended.stderr).contains("its command was killed"), "{ended:?}");
        assert_eq!(waiting.end().status.code(), Some(1));
    }
    assert!(resource.uses().iter().all(|(_, word)| word == "in"), "{:?}", resource.uses());
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let directory = Data::created();
    let router = Router::start("");
    let resource = Resource(directory.0.join("uses"));
    let url = &urls(&router)[0];
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)] {
        assert_eq!(Holder::start(url, &[], &resource, script).end().status.code(), Some(code));
    }
    let asked = Holder::start(url, &[], &resource, "trap '$say asked; exit 3' TERM; $say in; while :; do sleep 0.02; done");
    resource.await_word("in", 1);
    assert!(Command::new("kill").args(["-TERM", &asked.0.id().to_string()]).status().unwrap().success());
    assert_eq!(asked.end().status.code(), Some(3));
    resource.await_word("asked", 1);
}

#[test]
fn a_command_that_cannot_be_run_exits_as_in_a_shell() {
    let directory = Data::created();
    let router = Router::start("");
    let text = directory.0.join("no-program");
    std::fs::write(&text, "words").unwrap();
    for (command, code, why) in [
        ("/no/such/command", 127, "there is no such command"),
        ("corsac-no-such-command", 127, "there is no such command"),
        (text.to_str().unwrap(), 126, "cannot run"),
        (directory.0.to_str().unwrap(), 126, "cannot run"),
    ] {
        // The lock is free again each time.
        let mut lock = Command::new(env!("CARGO_BIN_EXE_corsac"));
        lock.args(["lock", "a", "--wait-ms", "0", "--url", &urls(&router)[0], "--", command]);
        let ended = lock.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(code) && said.contains(why) && said.contains(command), "{ended:?}");
    }
}

#[test]
fn a_holder_is_told_at_once_that_its_lock_was_released() {
    let directory = Data::created();
    let router = Router::start("");
    let resource = Resource(directory.0.join("uses"));
    let mut other = Wamp::open(&router);
    let session = other.welcome[1].clone();
    for (turn, url) in urls(&router).iter().enumerate() {
        // Its next renewal is ten seconds away.
        for (flags, name) in [(&[][..], "demo/resource"), (&["--ttl-ms", "0"], "demo.resource")] {
            let holder = Holder::start(url, flags, &resource, "$say in; sleep 60; $say out");
            let token = resource.await_word("in", 2 * turn + usize::from(!flags.is_empty()) + 1);
            let begun = Instant::now();
            other.call("corsac.lock.release", json!([name, token]), json!({}));
            let ended = holder.end();
            let why = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
            assert!(ended.status.code() == Some(1) && why.contains("its command was killed"), "{ended:?}");
            assert!(why.contains(&format!("session {session} has released it")), "{why}");
        }
    }
    assert!(resource.uses().iter().all(|(_, word)| word == "in"));
}

#[test]
fn locks_by_name_stand_where_no_wildcard_and_no_publisher_reaches_them() {
    let directory = Data::created();
    let router = on_disk(&directory.0.join("data"));
    let (mut holder, mut watcher, mut other) = (Wamp::open(&router), Wamp::open(&router), Wamp::open(&router));
    other.subscribe(json!({ "match": "prefix" }), "");
    other.subscribe(json!({ "match": "prefix" }), "demo.");
    other.subscribe(json!({ "match": "wildcard" }), "..printer");
    watcher.subscribe(json!({ "match": "prefix" }), "$lock.");
    let (granted, _) = holder.call("corsac.lock.acquire", json!(["demo/printer"]), json!({}));
    let token = granted[0]["token"].as_u64().unwrap();
    let event = watcher.receive();
    assert_eq!((&event[0], &event[2], &event[3]["topic"]), (&json!(36), &json!(token), &json!("$lock.demo.printer")));
    for options in [json!({ "acknowledge": true, "retain": true }), json!({ "acknowledge": true, "when": null })] {
        let refused = other.ask(16, json!([options, "$lock.demo.printer", []]));
        assert_eq!((&refused[0], &refused[4]), (&json!(8), &json!("wamp.error.invalid_uri")), "{refused}");
        assert!(refused[3]["message"].as_str().unwrap().contains("names under $lock/ belong to the router"), "{refused}");
    }
    let refused = other.ask(48, json!([{}, "corsac.lock.acquire", ["demo.printer", { "wait_ms": 0 }]]));
    assert_eq!(refused[4], "corsac.error.condition_failed");
    assert!(refused[5][0].as_str().unwrap().contains("holds the lock demo.printer"), "{refused}");
    drop(holder);
    let event = watcher.receive();
    assert_eq!((&event[0], &event[3]["topic"]), (&json!(36), &json!("$lock.demo.printer")));
    let mut history = |filter: &str| other.call("corsac.history.read", json!([filter, { "match": "prefix" }]), json!({})).0;
    assert_eq!(history("demo.")[0]["events"], json!([]));
    let events = history("$lock.")[0]["events"].clone();
    assert_eq!(events.as_array().map(Vec::len), Some(2), "{events}");
}

#[test]
fn the_holder_of_a_topic_hears_who_has_changed_it() {
    let directory = Data::created();
    let lock = json!({ "when": null, "will": null, "watch": true });
    for router in [Router::start(""), on_disk(&directory.0.join("data"))] {
        let (mut holder, mut other) = (Wamp::open(&router), Wamp::open(&router));
        holder.subscribe(json!({}), "corsac.lock.on_lost");
        other.subscribe(json!({}), "corsac.lock.on_lost");
        publish(&mut holder, &lock, &json!(["mine"]));
        let token = holder.receive()[2].clone();
        publish(&mut other, &json!({}), &json!(["x"]));
        assert_eq!(other.receive()[0], 17);
        let lost = holder.event();
        assert_eq!((&lost["token"], &lost["by"], &lost["cause"]), (&token, &other.welcome[1], &json!("changed")), "{lost}");
        // The holder's promise is void, and the value that is there is no lock.
        let refused = other.ask(48, json!([{}, "corsac.lock.inspect", ["demo/resource"]]));
        assert_eq!(refused[4], "corsac.error.not_a_lock", "{refused}");
        assert_eq!(refused[5][0], "demo/resource is a topic with the retained value \"x\", not a lock");
        drop(holder);
        publish(&mut other, &json!({ "when": "x" }), &json!([]));
        assert_eq!(other.receive()[0], 17);
    }
}

/// PUBLISH to demo.resource, acknowledged and retained, with these options besides.
fn publish(session: &mut Wamp, options: &Value, args: &Value) {
    let mut all = json!({ "acknowledge": true, "retain": true });
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    session.request(16, json!([all, "demo.resource", args]));
}

#[test]
fn a_wamp_publication_waits_for_its_condition_and_is_acknowledged_by_the_grant() {
    let directory = Data::created();
    let lock = json!({ "when": null, "will": null, "watch": true });
    for router in [Router::start(""), on_disk(&directory.0.join("data"))] {
        let (mut a, mut b, mut c) = (Wamp::open(&router), Wamp::open(&router), Wamp::open(&router));
        publish(&mut a, &lock, &json!([{ "pid": 1 }]));
        let first = a.receive();
        assert_eq!((&first[0], &first[1]), (&json!(17), &json!(1)));
        publish(&mut b, &lock, &json!([{ "pid": 2 }]));
        publish(&mut c, &json!({ "when": null }), &json!([3]));
        assert_eq!(c.receive()[4], "corsac.error.condition_failed");
        publish(&mut c, &json!({ "when": { "pid": 2 } }), &json!([3]));
        assert_eq!(c.receive()[4], "corsac.error.condition_failed");
        drop(a);
        let second = b.receive();
        assert_eq!((&second[0], &second[1]), (&json!(17), &json!(1)));
        assert!(second[2].as_u64() > first[2].as_u64(), "{second} after {first}");
    }
}
