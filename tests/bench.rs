//! `corsac bench` against the real router: every workload runs, counts and reports, and refuses what it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod common;

use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::Duration;

use common::{Router, Running, corsac};
use serde_json::Value;

/// Short enough for a test; a run of this length says that it does not count.
const SHORT: [&str; 7] = ["--duration", "0.3", "--warm-up", "0.1", "--quiet", "--json", "--drain=3"];

/// The outcome of one run.
fn bench(work: &str, url: &str, options: &[&str]) -> Value {
    let arguments: Vec<&str> = ["bench", work, url].iter().chain(&SHORT).chain(options).copied().collect();
    let (code, stdout, stderr) = Running::start(corsac(&arguments)).end();
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
    let mut report: Value = serde_json::from_str(&stdout).expect("JSON");
    report["a"][0].take()
}

/// The run has moved something, lost nothing, and knows that it was short.
fn assert_sound(work: &str, url: &str, options: &[&str]) -> Value {
    let outcome = bench(work, url, options);
    assert!(outcome["per_second"].as_f64().unwrap() > 0.0, "{outcome:#}");
    assert_eq!((&outcome["lost"], &outcome["repeated"]), (&Value::from(0), &Value::from(0)), "{outcome:#}");
    assert!(outcome["expected"].as_u64().unwrap() > 0, "{outcome:#}");
    assert_eq!(outcome["counts"], Value::from(false));
    assert!(outcome["notes"].to_string().contains("shorter than 3 s"), "{outcome:#}");
    outcome
}

#[test]
fn messages_flow_in_every_protocol() {
    let router = Router::start();
    let (mqtt, ws, rs) = (format!("mqtt://{}", router.mqtt), format!("ws://{}/ws", router.http), format!("rs://{}", router.http));
    for version in ["3", "4", "5"] {
        for qos in ["0", "1", "2"] {
            assert_sound("pubsub", &mqtt, &["--mqtt-version", version, "--qos", qos, "--window", "50"]);
        }
    }
    for url in [&ws, &rs] {
        for serializer in ["json", "msgpack", "cbor"] {
            assert_sound("pubsub", url, &["--serializer", serializer, "--qos", "1"]);
            assert_sound("pubsub", url, &["--serializer", serializer, "--size", "5"]);
        }
    }
    assert_sound("pubsub", &ws, &["--subscribe-at", &mqtt]);
    assert_sound("pubsub", &mqtt, &["--subscribe-at", &rs, "--serializer", "cbor"]);
    assert_sound("pubsub", &mqtt, &["-p", "3", "-s", "5", "--topics", "2", "--threads", "2"]);
    assert_sound("pubsub", &mqtt, &["--size", "300000"]);
    assert_sound("pubsub", &mqtt, &["-s", "0", "--qos", "1"]);
}

#[test]
fn latencies_are_measured_at_a_steady_rate() {
    let router = Router::start();
    let outcome = assert_sound("latency", &format!("mqtt://{}", router.mqtt), &["--rate", "500", "--qos", "1"]);
    let latency = &outcome["latency_us"];
    let of = |name: &str| latency[name].as_f64().unwrap();
    assert!(of("p50") > 0.0 && of("p50") <= of("p99") && of("p99") <= of("max"), "{latency:#}");
    // 0.3 s at 500 a second, what was due while the run was being stopped, and nothing of the 0.1 s of warm-up.
    assert!(of("count") >= 100.0, "{latency:#}");
    assert_eq!(of("count"), outcome["expected"].as_f64().unwrap() - 50.0, "{outcome:#}");
}

#[test]
fn a_rate_that_is_not_reached_is_no_result() {
    let router = Router::start();
    let url = format!("mqtt://{}", router.mqtt);
    let outcome = bench("latency", &url, &["--rate", "1e9"]);
    assert!(outcome["notes"].to_string().contains("the rate was not reached"), "{outcome:#}");
}

/// Coordinated omission: a router that stops until the end holds up what is due, which counts from when it was due.
#[test]
fn a_stall_at_the_end_is_measured() {
    let router = Router::start();
    let url = format!("mqtt://{}", router.mqtt);
    let options = ["--rate", "500", "--qos", "1", "--window", "10", "--duration", "2.5", "--warm-up", "0", "--json"];
    let arguments: Vec<&str> = ["bench", "latency", &url].iter().chain(&options).copied().collect();
    let mut running = Running::start(corsac(&arguments));
    let stderr = BufReader::new(running.child.stderr.take().expect("piped"));
    // The bench has run for a second when it first says how it goes.
    stderr.lines().find(|line| line.as_ref().unwrap().contains("/s received")).expect("progress").unwrap();
    router.running.signal("-STOP");
    std::thread::sleep(Duration::from_secs(2));
    router.running.signal("-CONT");
    let (code, stdout, _) = running.end();
    let mut report: Value = serde_json::from_str(&stdout).expect("JSON");
    let outcome = report["a"][0].take();
    assert_eq!((code, &outcome["lost"]), (Some(0), &Value::from(0)));
    // Most of what was due waited for the router; a tenth of all certainly for longer than this.
    let (p90, expected) = (outcome["latency_us"]["p90"].as_f64().unwrap(), outcome["expected"].as_u64().unwrap());
    assert!(p90 > 500_000.0 && expected >= 1_250, "{outcome:#}");
}

#[test]
fn the_disk_is_measured_where_it_is_asked_for() {
    let router = Router::start();
    let (url, directory) = (format!("mqtt://{}", router.mqtt), std::env::temp_dir());
    let outcome = assert_sound("pubsub", &url, &["--qos", "1", "--disk", directory.to_str().unwrap()]);
    assert!(outcome["disk_syncs_per_second"].as_f64().unwrap() > 0.0, "{outcome:#}");
    assert!(assert_sound("pubsub", &url, &["--qos", "1"])["disk_syncs_per_second"].is_null());
}

#[test]
fn calls_are_answered() {
    let router = Router::start();
    for (url, options) in [
        (format!("ws://{}/ws", router.http), &["--window", "1"][..]),
        (format!("rs://{}", router.http), &["--serializer", "cbor", "--callers", "2"]),
        (format!("mqtt://{}", router.mqtt), &["--window", "10"]),
        (format!("mqtt://{}", router.mqtt), &["--plain"]),
        // More than all buffers hold, both ways; longer than what is looked at as a whole.
        (format!("ws://{}/ws", router.http), &["--size", "200000"]),
        (format!("mqtt://{}", router.mqtt), &["--size", "100000"]),
    ] {
        let outcome = assert_sound("rpc", &url, options);
        assert!(outcome["latency_us"]["p50"].as_f64().unwrap() > 0.0, "{outcome:#}");
    }
}

#[test]
fn connections_and_retained_messages_are_counted() {
    let router = Router::start();
    for url in [format!("mqtt://{}", router.mqtt), format!("ws://{}/ws", router.http)] {
        assert_sound("connect", &url, &["--parallel", "4"]);
        let outcome = assert_sound("idle", &url, &["--connections", "50", "--subscriptions", "2"]);
        assert_eq!((&outcome["expected"], &outcome["growth"]["of"]), (&Value::from(50), &Value::from("connection")));
        assert_eq!(outcome["router"]["pids"][0], Value::from(router.running.child.id()));
        assert_sound("retained", &url, &["--messages", "300"]);
    }
}

#[test]
fn two_at_once_do_not_disturb_each_other() {
    let router = Router::start();
    let url = format!("mqtt://{}", router.mqtt);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_sound("pubsub", &url, &["-p", "2", "-s", "2"]));
        }
    });
}

#[test]
fn what_was_measured_before_a_failure_is_not_lost() {
    let router = Router::start();
    let url = format!("mqtt://{}", router.mqtt);
    let arguments: Vec<&str> = ["bench", "pubsub", &url, "--vs", "mqtt://127.0.0.1:1"].iter().chain(&SHORT).copied().collect();
    let (code, stdout, stderr) = Running::start(corsac(&arguments)).end();
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert!(code == Some(1) && stderr.contains("cannot connect"), "{stderr}");
    assert!(report["a"][0]["per_second"].as_f64().unwrap() > 0.0, "{report:#}");
    assert!(report["error"].as_str().unwrap().contains("cannot connect") && report["counts"] == false, "{report:#}");
}

#[test]
fn two_routers_take_turns() {
    let (one, other) = (Router::start(), Router::start());
    let (one, other) = (format!("mqtt://{}", one.mqtt), format!("mqtt://{}", other.mqtt));
    let arguments: Vec<&str> = ["bench", "pubsub", &one, "--vs", &other, "--rounds", "2"].iter().chain(&SHORT).copied().collect();
    let (code, stdout, _) = Running::start(corsac(&arguments)).end();
    assert_eq!(code, Some(0));
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((report["a"][1]["url"].as_str(), report["b"][1]["url"].as_str()), (Some(&*one), Some(&*other)));
    assert!(report["ratio_median"]["per_second"].as_f64().unwrap() > 0.0 && report["a"].as_array().unwrap().len() == 2);
}

#[test]
fn the_comparison_runs_without_peers() {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|output| output.status.success()) {
        return eprintln!("no python3: the comparison is not tried");
    }
    let mut compare = Command::new("python3");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/compare");
    let rows = "--rows=qos0,crossing,idle-wamp,start";
    compare.args([script, "--quick", "--peers=none", rows, "--corsac", env!("CARGO_BIN_EXE_corsac")]);
    let output = compare.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    // The head of the table and a line for each row, all of which lost nothing.
    assert_eq!(lines.len(), 2 + 4, "{stdout}{stderr}");
    assert!(lines[2..].iter().all(|line| line.ends_with("| none |")), "{stdout}{stderr}");
}

#[test]
fn what_cannot_be_measured_is_said() {
    for (code, arguments, expected) in [
        (2, &["pubsub", "mqtt://192.0.2.1"][..], "--remote"),
        (2, &["pubsub", "http://127.0.0.1"], "is no mqtt://HOST:PORT"),
        (2, &["pubsub", "mqtt://127.0.0.1:1", "-s", "0"], "nothing to count"),
        (2, &["pubsub", "mqtt://127.0.0.1:1", "--topic", "a.b"], "--topic"),
        (2, &["pubsub", "mqtt://127.0.0.1:1", "--duration", "1e19"], "number of seconds"),
        (2, &["latency", "mqtt://127.0.0.1:1", "--rate=0"], "--rate"),
        (2, &["latency", "mqtt://127.0.0.1:1", "--size=18"], "payload of 19 bytes"),
        (2, &["idle", "mqtt://127.0.0.1:1", "--connections", "18446744073709551615"], "--connections"),
        (2, &["latency", "mqtt://127.0.0.1:1", "--rate=10", "--publishers=17"], "16 publishers at most"),
        (2, &["rpc", "mqtt://127.0.0.1:1", "--mqtt-version", "4"], "version 5 only"),
        (1, &["pubsub", "mqtt://127.0.0.1:1"], "cannot connect to 127.0.0.1:1"),
    ] {
        let all: Vec<&str> = ["bench"].iter().chain(arguments).chain(&["--quiet"]).copied().collect();
        let (status, stdout, stderr) = Running::start(corsac(&all)).end();
        assert_eq!((status, stdout.as_str()), (Some(code), ""), "{stderr}");
        // clap's way to begin, and ours.
        let begin = if code == 2 { "error: " } else { "corsac: " };
        assert!(stderr.starts_with(begin) && stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn more_connections_than_open_files_are_refused() {
    for (work, option) in [("idle", "--connections"), ("connect", "--parallel"), ("pubsub", "--subscribers")] {
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -n 50; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_corsac")]);
        limited.args(["bench", work, "mqtt://127.0.0.1:1", option, "40", "--quiet"]);
        let output = limited.output().expect("sh runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{stderr}");
        assert!(stderr.starts_with("corsac: ") && stderr.contains("ulimit -n"), "{stderr}");
    }
}
