//! The data directory of the real binary: whose it is, which formats are read, and what is said where it cannot be used.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use corsac::model::record::Kind;
use corsac::model::{Item, Payload};
use corsac::store::log::{self, Options};
use corsac::store::{Log, Store};
use support::data::Data;
use support::mqtt::Mqtt;
use support::router::{PATIENCE, Router};

/// A copy of the directory that a program before this format wrote (tests/data/format-1).
fn older() -> Data {
    let data = Data::created();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/format-1"), &data.0);
    fs::remove_file(data.0.join("README.md")).unwrap();
    data
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The exit code and standard error of a router that cannot start with this directory.
fn refused(data: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_corsac"))
        .args(["run", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--log", "warn", "--data"])
        .arg(data)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The log, once this part of it is there.
fn said(log: &Path, part: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(log).unwrap();
        if text.contains(part) {
            return text;
        }
        assert!(Instant::now() < deadline, "no {part:?} in {text}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Topics and payloads that a session is owed, acknowledged to the end.
fn owed(client: &mut Mqtt, count: usize) -> Vec<String> {
    let (mut found, mut steps) = (Vec::new(), 0);
    while found.len() < count || steps > 0 {
        let words = client.receive();
        let id = words.id();
        match words[0].as_str() {
            "PUBLISH" if words.contains(&"q2".to_owned()) => {
                client.send(&format!("PUBREC id={id}"));
                steps += 1;
            }
            "PUBLISH" => client.send(&format!("PUBACK id={id}")),
            "PUBREL" => {
                client.send(&format!("PUBCOMP id={id}"));
                steps -= 1;
                continue;
            }
            _ => panic!("{words:?}"),
        }
        found.push(format!("{} {}", words[1], words[2].trim_matches('\'')));
    }
    client.assert_nothing();
    found.sort();
    found
}

fn check_older(router: &Router) {
    // Sessions and what they are owed, at both levels.
    let everything = ["t/1 one", "t/2 two", "t/3 {\"n\":3}", "t/4 four", "t/half half"];
    for id in ["away", "two"] {
        let (mut session, is_present) = Mqtt::resume(router, id);
        assert!(is_present, "{id}");
        assert_eq!(owed(&mut session, 5), everything, "{id}");
    }
    // Retained values have their properties, in both realms; removed ones stay so, and no lock is held.
    let mut looker = Mqtt::open(router, "looker");
    looker.send("SUBSCRIBE id=1 kept/#:1 demo/#:1");
    let mut retained: Vec<String> = Vec::new();
    while retained.len() < 4 {
        let words = looker.receive();
        if words[0] == "PUBLISH" {
            looker.send(&format!("PUBACK id={}", words.id()));
            retained.push(format!(
                "{} {} {}",
                words[1],
                words[2].trim_matches('\''),
                words.field("content_type=").unwrap_or("-")
            ));
        } else {
            assert!(words.starts_with("SUBACK"), "{words:?}");
            retained.push(String::new());
        }
    }
    looker.assert_nothing();
    retained.sort();
    assert_eq!(retained, ["", "kept/json {\"a\":1} application/json", "kept/lamp on -", "kept/late late -"]);
    let mut elsewhere = Mqtt::connect(router, "id=elsewhere user=corsac-realm:factory");
    elsewhere.send("SUBSCRIBE id=1 kept/#:0");
    let answers = [elsewhere.receive(), elsewhere.receive()];
    assert!(answers.iter().any(|words| words.starts_with("PUBLISH kept/other elsewhere")), "{answers:?}");
}

fn check_older_steps(router: &Router) {
    // A QoS 2 message that was received and not released is the one that is sent again.
    let mut listener = Mqtt::open(router, "listener");
    listener.ask("SUBSCRIBE id=1 t/#:0 keyed:0 will/of:0 other:0");
    let (mut half, is_present) = Mqtt::resume(router, "half");
    assert!(is_present);
    assert!(half.ask("PUBLISH t/half half q2 dup id=7").starts_with("PUBREC id=7"));
    assert_eq!(half.ask("PUBREL id=7"), "PUBCOMP id=7 rc=00");
    // A key of `pub` is known; another is not.
    let mut publisher = Mqtt::open(router, "pub");
    publisher.ask("PUBLISH keyed first q1 id=1 user=corsac-dedup:key-1");
    publisher.ask("PUBLISH keyed second q1 id=2 user=corsac-dedup:key-2");
    let words = listener.receive();
    assert!(words.starts_with("PUBLISH keyed second"), "{words:?}");
    // The will of a session that was never ended comes with its end.
    drop(Mqtt::open(router, "willing"));
    let words = listener.receive();
    assert!(words.starts_with("PUBLISH will/of gone"), "{words:?}");
    // Two items wait, and their queue has what was declared.
    let mut worker = Mqtt::open(router, "worker");
    worker.send("SUBSCRIBE id=1 $queue/jobs:1");
    let mut items = Vec::new();
    while items.len() < 2 {
        let words = worker.receive();
        if words[0] == "PUBLISH" {
            items.push(words[2].trim_matches('\'').to_owned());
            worker.send(&format!("PUBACK id={}", words.id()));
        }
    }
    assert_eq!(items, ["{\"n\":1}", "{\"n\":2}"]);
    let (stats, error) = worker.call("corsac/queue/stats", &serde_json::json!("declared"));
    assert_eq!((error, &stats["max_deliveries"]), (None, &serde_json::json!(3)), "{stats}");
}

#[test]
fn what_the_format_before_wrote_is_read_and_kept() {
    let data = older();
    let router = data.start();
    check_older(&router);
    check_older_steps(&router);
    drop(router);
    // From now on it is of this format, and everything that came is there.
    let router = data.start();
    let (mut session, _) = Mqtt::resume(&router, "away");
    session.assert_nothing();
    let mut looker = Mqtt::open(&router, "looker");
    looker.send("SUBSCRIBE id=1 kept/lamp:0");
    let answers = [looker.receive(), looker.receive()];
    assert!(answers.iter().any(|words| words.starts_with("PUBLISH kept/lamp on")), "{answers:?}");
}

#[test]
fn it_is_read_without_the_kept_state_too() {
    let data = older();
    fs::remove_dir_all(data.0.join("state")).unwrap();
    let router = data.start();
    check_older(&router);
    check_older_steps(&router);
}

#[test]
fn a_newer_format_is_refused_by_name_and_left_alone() {
    let data = Data::created();
    drop(data.start());
    let identity = data.0.join("identity");
    let mut bytes = fs::read(&identity).unwrap();
    bytes[8..12].copy_from_slice(&99_u32.to_le_bytes());
    let end = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    fs::write(&identity, &bytes).unwrap();
    let said = refused(&data.0);
    for part in [data.0.to_str().unwrap(), "has format 99", "formats up to 2", "newer Corsac", "--data"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(fs::read(&identity).unwrap(), bytes);
}

#[test]
fn what_is_not_ours_is_refused_with_the_way_out() {
    let data = Data::created();
    fs::write(data.0.join("notes.txt"), "mine").unwrap();
    let said = refused(&data.0);
    assert!(said.contains("holds other files (notes.txt)") && said.contains("--data"), "{said}");
    let left: Vec<PathBuf> = fs::read_dir(&data.0).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [data.0.join("notes.txt")], "nothing is written there");
    let said = refused(&data.0.join("notes.txt"));
    assert!(said.contains("is no directory") && said.contains("--data"), "{said}");
}

#[test]
fn a_directory_in_use_names_its_process() {
    let data = Data::created();
    let router = data.start();
    let said = refused(&data.0);
    assert!(said.contains(&format!("is in use by process {}", router.pid())) && said.contains("--data"), "{said}");
}

#[test]
fn damage_says_where_and_what_to_do() {
    let data = older();
    let segment = data.0.join("segment-000000000001.log");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[1_000] ^= 0x10;
    fs::write(&segment, bytes).unwrap();
    let said = refused(&data.0);
    for part in ["segment-000000000001.log is damaged at byte", "Nothing was changed", "Restore a copy"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn an_ordinary_crash_is_no_reason_to_warn() {
    let data = Data::new();
    let log = std::env::temp_dir().join(format!("corsac-crash-{}", std::process::id()));
    let router = data.start();
    assert!(Mqtt::open(&router, "a").ask("PUBLISH t/1 x q1 id=1").starts_with("PUBACK id=1"));
    router.kill();
    let router = Router::start_telling(&data.0, "", "info", &log);
    let said = said(&log, "listening on");
    let recovered = "recovered realm realm1 from the history: ";
    let line = said.lines().find(|line| line.contains(recovered)).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("INFO") && line.contains(" 1 event in ") && line.ends_with(" ms"), "{line}");
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    drop(router);
    fs::remove_file(log).ok();
}

/// Records as a later version may write them.
fn later(data: &Path, count: u64) {
    let options = Options { new_identity: [7; 16], ..Options::default() };
    let mut log = Log::open_at(data, log::Config::default(), options).unwrap();
    let item = |n| Item::of_kind(Kind(200), "realm1".into(), n, Payload::Bytes("{}".into()));
    log.write(&(1..=count).map(item).collect::<Vec<_>>()).unwrap();
    log.sync().unwrap();
}

#[test]
fn records_that_cannot_be_read_are_named_and_counted() {
    let data = Data::new();
    later(&data.0, 25);
    let log = std::env::temp_dir().join(format!("corsac-later-{}", std::process::id()));
    let router = Router::start_telling(&data.0, "[mqtt]\nsys_interval_s = 1\n", "warn", &log);
    let said = said(&log, "more records of realm realm1");
    for id in 1..=10 {
        let line = format!("record {id} of realm realm1 (of a later version) cannot be read: what it changed is missing");
        assert_eq!(said.matches(&line).count(), 1, "{said}");
    }
    assert!(said.contains("15 more records of realm realm1 cannot be read"), "{said}");
    assert_eq!(said.lines().count(), 11, "{said}");
    assert_eq!(router.figure("unreadable"), 25);
    let mut reader = Mqtt::open(&router, "reader");
    reader.send("SUBSCRIBE id=1 $SYS/broker/store/records/unreadable:0 $SYS/realm/realm1/store/records/unreadable:0");
    let mut told = 0;
    while told < 2 {
        let words = reader.receive();
        if words[0] == "PUBLISH" {
            assert_eq!(words[2], "25", "{words:?}");
            told += 1;
        }
    }
    drop(router);
    fs::remove_file(log).ok();
}

/// Killed where the test fails.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn the_start_says_where_the_history_is_and_what_it_holds() {
    // Named from where the router is started, and told as it is from everywhere.
    let (home, data) = (Data::created(), older());
    copy(&data.0, &home.0.join("history"));
    let log = home.0.join("log");
    let mut router = Command::new(env!("CARGO_BIN_EXE_corsac"))
        .args(["run", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--data", "history"])
        .current_dir(&home.0)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .map(Child)
        .unwrap();
    let path = fs::canonicalize(&home.0).unwrap().join("history");
    let lines = BufReader::new(router.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let banner: Vec<String> = lines.take_while(|line| !line.contains("curl ")).collect();
    let start = format!("  History in {} (format 2, ", path.display());
    let line = banner.iter().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{banner:?}"));
    assert!(line.contains(" KiB, ") && line.ends_with(" events, 2 realms)."), "{line}");
    let log = said(&log, "listening on");
    let line = log.lines().find(|line| line.contains("listening on")).unwrap();
    assert!(line.contains("INFO") && line.contains(&start.trim().replace("History", "history")), "{line}");
    assert!(log.contains("had format 1 and has format 2 now"), "{log}");
}
