//! The files beside the log: the realms' state in sled, which may be damaged, snapshots, and the trimming behind them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod support;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use support::data::Data;
use support::mqtt::Mqtt;
use support::router::Router;
use support::wamp::Wamp;
use support::wire::PATIENCE;

/// Every file under a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}

fn log_bytes(data: &Data) -> u64 {
    let files = files(&data.0).into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.map(|file| std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(file).unwrap()) * 512).sum()
}

fn stop(router: &Router) {
    router.terminate();
    assert!(router.wait(PATIENCE).success());
}

/// Leaves something of every kind behind: a retained value, a session with a subscription and an event, items of a queue.
fn fill(router: &Router) {
    let (mut session, _) = Mqtt::resume(router, "s");
    session.ask("SUBSCRIBE id=1 t/#:1");
    session.send("DISCONNECT");
    assert!(session.wire.await_end(PATIENCE));
    let mut publisher = Mqtt::open(router, "p");
    publisher.ask("PUBLISH kept/1 first q1 retain id=1");
    publisher.ask("PUBLISH kept/2 gone q1 retain id=2");
    publisher.ask("PUBLISH kept/2 '' q1 retain id=3");
    publisher.ask("PUBLISH t/1 owed q1 id=4");
    let mut wamp = Wamp::open(router);
    for number in 0..3 {
        wamp.call("corsac.queue.put", json!(["jobs", number]), json!({}));
    }
    wamp.call("corsac.queue.declare", json!(["jobs", {"max_deliveries": 7}]), json!({}));
}

/// The whole state is there, and stays.
fn check(router: &Router) {
    let mut reader = Mqtt::open(router, "r");
    reader.send("SUBSCRIBE id=1 kept/#:0");
    assert_eq!(reader.receive()[0], "SUBACK");
    assert_eq!(reader.receive(), "PUBLISH kept/1 first q0 retain");
    reader.assert_nothing();
    let (mut session, is_present) = Mqtt::resume(router, "s");
    assert!(is_present);
    let event = session.receive();
    assert!(event.starts_with("PUBLISH t/1 owed q1"), "{event:?}");
    // Not acknowledged: the next one has it too.
    session.send("DISCONNECT");
    assert!(session.wire.await_end(PATIENCE));
    let mut wamp = Wamp::open(router);
    let (stats, _) = wamp.call("corsac.queue.stats", json!(["jobs"]), json!({}));
    assert_eq!((&stats[0]["ready"], &stats[0]["max_deliveries"]), (&json!(3), &json!(7)), "{stats}");
}

#[test]
fn what_is_kept_of_the_state_may_be_deleted_cut_off_or_overwritten() {
    let data = Data::new();
    let said_in = std::env::temp_dir().join(format!("corsac-said-{}", std::process::id()));
    let router = data.start();
    fill(&router);
    stop(&router);
    let state = data.0.join("state");
    let said = || std::fs::read_to_string(&said_in).unwrap();

    let router = Router::start_saying(&data.0, "", &said_in);
    check(&router);
    assert_eq!(said(), "", "nothing is made anew");
    stop(&router);

    let overwrite = |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
    let flip = |bytes: &mut Vec<u8>| (0..bytes.len()).step_by(97).for_each(|at| bytes[at] ^= 4);
    let damages: [&dyn Fn(); 4] = [
        &|| std::fs::remove_dir_all(&state).unwrap(),
        &|| files(&state).iter().for_each(|file| std::fs::write(file, b"").unwrap()),
        &|| rewrite(&state, &overwrite),
        &|| rewrite(&state, &flip),
    ];
    for (number, damage) in damages.iter().enumerate() {
        damage();
        let router = Router::start_saying(&data.0, "", &said_in);
        check(&router);
        // Where there is nothing it is as behind a kill soon after the first start.
        let is_damaged = number > 0;
        assert_eq!(said().contains("made anew from"), is_damaged, "{number}: {}", said());
        assert!(is_damaged || said().is_empty(), "{}", said());
        // From a kill what is kept is older than the log, or is not there yet.
        if number % 2 == 0 {
            stop(&router)
        } else {
            router.kill()
        }
        drop(router);
        let router = data.start();
        check(&router);
        stop(&router);
    }
    std::fs::remove_file(&said_in).ok();
}

fn rewrite(directory: &Path, change: &dyn Fn(&mut Vec<u8>)) {
    for file in files(directory) {
        let mut bytes = std::fs::read(&file).unwrap();
        change(&mut bytes);
        std::fs::write(&file, bytes).unwrap();
    }
}

/// About 20 MiB where 2 are asked for: the oldest goes, and what it meant stays.
#[test]
fn what_no_rule_asks_to_keep_is_trimmed_behind_a_snapshot() {
    let data = Data::new();
    let config = "[[history]]\nmax_bytes = 2097152\n";
    let start = || Router::start_in(&data.0, config);
    let router = start();
    fill(&router);
    let (mut owed, _) = Mqtt::resume(&router, "slow");
    owed.ask("SUBSCRIBE id=1 bulk:1");
    owed.send("DISCONNECT");
    assert!(owed.wire.await_end(PATIENCE));
    let mut publisher = Mqtt::open(&router, "p");
    let filling = "x".repeat(20_000);
    let count = 1_000;
    for number in 1..=count {
        publisher.send(&format!("PUBLISH bulk {number}:{filling} q1 id={number}"));
        if number % 50 == 0 {
            (0..50).for_each(|_| assert_eq!(publisher.receive()[0], "PUBACK"));
        }
    }
    let deadline = Instant::now() + PATIENCE;
    // The segment that is being written is reserved ahead.
    while log_bytes(&data) > (64 + 6) << 20 {
        assert!(Instant::now() < deadline, "{} bytes of the log stay", log_bytes(&data));
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    let mut wamp = Wamp::open(&router);
    let too_old = wamp.ask(32, json!([{"after": 1}, "bulk"]));
    assert_eq!(too_old[4], json!("corsac.error.history_too_old"), "{too_old}");
    assert!(too_old[5][0].as_str().unwrap().contains("bulk"), "{too_old}");
    let oldest = too_old[5][1].as_u64().unwrap_or_default();
    router.kill();
    drop(router);

    // With what is kept of the state, without it, and once more.
    for is_state_lost in [false, true, false] {
        if is_state_lost {
            std::fs::remove_dir_all(data.0.join("state")).unwrap();
        }
        let router = start();
        check_but_for_events(&router);
        if is_state_lost { stop(&router) } else { router.kill() }
    }
    let router = start();
    let (mut slow, is_present) = Mqtt::resume(&router, "slow");
    assert!(is_present);
    let (mut numbers, mut missed) = (Vec::new(), None);
    while numbers.last() != Some(&count) {
        let event = slow.receive();
        assert_eq!(event[0], "PUBLISH", "{event:?}");
        missed = missed.or(event.iter().find_map(|word| word.strip_prefix("user=dropped:")?.parse::<u64>().ok()));
        numbers.push(event[2].split(':').next().unwrap().parse::<u64>().unwrap());
        slow.send(&format!("PUBACK id={}", event.id()));
    }
    assert!(numbers.is_sorted() && numbers.len() < 500, "{numbers:?}");
    assert_eq!(missed, Some(count - numbers.len() as u64), "of {count}, oldest {oldest}");
}

/// The state that the trimmed part of the log left: the event that was owed is gone with it.
fn check_but_for_events(router: &Router) {
    let mut reader = Mqtt::open(router, "r");
    reader.send("SUBSCRIBE id=1 kept/#:0");
    assert_eq!(reader.receive()[0], "SUBACK");
    assert_eq!(reader.receive(), "PUBLISH kept/1 first q0 retain");
    reader.assert_nothing();
    let (_, is_present) = Mqtt::resume(router, "s");
    assert!(is_present);
    let mut wamp = Wamp::open(router);
    let (stats, _): (Value, Value) = wamp.call("corsac.queue.stats", json!(["jobs"]), json!({}));
    assert_eq!((&stats[0]["ready"], &stats[0]["max_deliveries"]), (&json!(3), &json!(7)), "{stats}");
}

/// QoS 0 has a place in the history where a rule says so, and QoS 1 has none where it says that.
#[test]
fn rules_say_what_is_stored() {
    let data = Data::new();
    let config = "[[history]]\nfilter = \"all/#\"\nstore = \"all\"\n[[history]]\nfilter = \"few/#\"\nstore = \"retained\"\n";
    let router = Router::start_in(&data.0, config);
    let mut publisher = Mqtt::open(&router, "p");
    publisher.send("PUBLISH all/1 x q0");
    publisher.ask("PUBLISH few/1 x q1 id=1");
    publisher.ask("PUBLISH few/2 y q1 retain id=2");
    publisher.ask("PUBLISH other z q1 id=3");
    router.kill();
    drop(router);
    let router = Router::start_in(&data.0, config);
    let (events, _) = Wamp::open(&router).call("corsac.history.read", json!(["#"]), json!({}));
    let topics: Vec<&str> =
        events[0]["events"].as_array().unwrap().iter().map(|event| event["topic"].as_str().unwrap()).collect();
    assert_eq!(topics, ["all.1", "few.2", "other"], "{events}");
}
