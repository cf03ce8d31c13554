//! Packet sequences of MQTT 3.1, 3.1.1 and 5 against the real binary: `tests/sequences/*.txt`, whose README tells the notation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod support;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use support::router::Router;
use support::wire::{Arrival, PATIENCE, Wire};
use support::{bytes, packet};

/// Sequences that run at the same time: most of their time is spent waiting for what the specification ties to seconds.
const THREADS: usize = 24;

/// A configuration line that gives each sequence of its file a router of its own.
const ALONE: &str = "# alone";

/// One sequence of a file.
struct Sequence {
    name: String,
    place: String,
    /// Clauses or rows that it shows.
    because: String,
    steps: Vec<(usize, String)>,
}

/// A file: what the router is configured with, and its sequences.
struct Table {
    config: String,
    sequences: Vec<Sequence>,
}

fn parse(file: &str, text: &str) -> Table {
    let mut table = Table { config: String::new(), sequences: Vec::new() };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(config) = line.strip_prefix("@ ") {
            assert!(table.sequences.is_empty(), "{file}:{}: configuration comes first", number + 1);
            table.config.push_str(config);
            table.config.push('\n');
        } else if let Some(name) = line.strip_prefix("= ") {
            let place = format!("{file}:{}", number + 1);
            let sequence = Sequence { name: name.to_owned(), place, because: String::new(), steps: Vec::new() };
            table.sequences.push(sequence);
        } else {
            let sequence = table.sequences.last_mut().unwrap_or_else(|| panic!("{file}:{}: no sequence yet", number + 1));
            match line.strip_prefix(": ") {
                Some(because) => sequence.because.push_str(because),
                None => sequence.steps.push((number + 1, line.to_owned())),
            }
        }
    }
    table
}

/// One client of a sequence.
struct Client {
    wire: Wire,
    version: u8,
    /// Expected in any order, from consecutive `<*` lines.
    pending: Vec<Vec<String>>,
}

/// A sequence on its way.
struct Run<'a> {
    router: &'a Router,
    /// The text that `~` stands for.
    own: String,
    clients: BTreeMap<String, Client>,
    variables: HashMap<String, String>,
    is_stopping: bool,
}

impl Run<'_> {
    fn step(&mut self, line: &str) -> Result<(), String> {
        let line = line.replace('~', &self.own);
        let words = bytes::words(&line);
        if line == "router stop" {
            self.router.terminate();
            self.is_stopping = true;
            return Ok(());
        }
        let (name, verb, rest) = (words[0].as_str(), words.get(1).map_or("", String::as_str), words.get(2..).unwrap_or(&[]));
        if verb != "<*" {
            self.settle(name)?;
        }
        match verb {
            "via" => self.open(name, rest),
            "version" => {
                self.client(name)?.version = rest[0].parse().unwrap();
                Ok(())
            }
            ">" => self.send(name, rest),
            "<" => self.expect(name, rest),
            "<*" => {
                let expected = self.filled(rest);
                self.client(name)?.pending.push(expected);
                Ok(())
            }
            "connect" | "resume" => self.connect(name, verb == "resume", rest),
            "subscribe" => self.subscribe(name, rest),
            "publish" => self.publish(name, rest),
            "idle" => self.idle(name),
            "quiet" => self.quiet(name, rest[0].parse().unwrap()),
            "close" => self.close(name),
            _ => Err(format!("no such step: {line}")),
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        for name in self.clients.keys().cloned().collect::<Vec<_>>() {
            self.settle(&name)?;
            self.idle(&name).map_err(|error| format!("at the end, {name}: {error}"))?;
        }
        if self.is_stopping {
            let status = self.router.wait(Duration::from_secs(5));
            return if status.success() { Ok(()) } else { Err(format!("the router has ended with {status}")) };
        }
        Ok(())
    }

    /// Connects a socket: `tcp`, `one-port`, or `ws PATH SUBPROTOCOL`.
    fn open(&mut self, name: &str, how: &[String]) -> Result<(), String> {
        let wire = match how.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["tcp"] => Wire::tcp(self.router.mqtt),
            ["one-port"] => Wire::tcp(self.router.http),
            ["ws", path, subprotocol] => Wire::websocket(self.router.http, path, subprotocol),
            _ => return Err(format!("no such transport: {how:?}")),
        };
        self.clients.insert(name.to_owned(), Client { wire, version: 5, pending: Vec::new() });
        Ok(())
    }

    fn client(&mut self, name: &str) -> Result<&mut Client, String> {
        if !self.clients.contains_key(name) {
            self.open(name, &["tcp".to_owned()])?;
        }
        Ok(self.clients.get_mut(name).unwrap())
    }

    /// Words with the variables in them replaced.
    fn filled(&self, words: &[String]) -> Vec<String> {
        let fill = |word: &String| {
            self.variables.iter().fold(word.clone(), |word, (name, value)| word.replace(&format!("{{{name}}}"), value))
        };
        words.iter().map(fill).collect()
    }

    fn send(&mut self, name: &str, words: &[String]) -> Result<(), String> {
        let words = self.filled(words);
        let client = self.client(name)?;
        // `+` continues what an earlier line has begun, and is no packet of its own.
        let words = match words.split_first() {
            Some((first, rest)) if first == "+" => rest,
            _ => {
                if let Some(version) = packet::version_of(&words) {
                    client.version = version;
                }
                &words
            }
        };
        let bytes = packet::encode(words, client.version);
        client.wire.send(&bytes).map_err(|error| format!("cannot send: {error}"))
    }

    fn expect(&mut self, name: &str, expected: &[String]) -> Result<(), String> {
        let expected = self.filled(expected);
        if expected == ["close"] {
            return self.expect_end(name);
        }
        let client = self.client(name)?;
        if !packet::is_packet(&expected[0]) {
            let wanted = bytes::encode(&expected);
            let got = client.bytes(wanted.len())?;
            return if got == wanted { Ok(()) } else { Err(format!("got {}", hex(&got))) };
        }
        let got = client.packet()?;
        compare(&expected, &got, &mut self.variables)
    }

    /// Meets what was expected in any order.
    fn settle(&mut self, name: &str) -> Result<(), String> {
        let Some(client) = self.clients.get_mut(name) else { return Ok(()) };
        let mut pending = std::mem::take(&mut client.pending);
        while !pending.is_empty() {
            let got = client.packet().map_err(|error| format!("{error}; still expected: {pending:?}"))?;
            let found = pending.iter().position(|expected| compare(expected, &got, &mut self.variables.clone()).is_ok());
            let Some(found) = found else { return Err(format!("got {}, expected in any order: {pending:?}", got.join(" "))) };
            compare(&pending.remove(found), &got, &mut self.variables)?;
        }
        Ok(())
    }

    fn expect_end(&mut self, name: &str) -> Result<(), String> {
        let mut client = self.clients.remove(name).ok_or("not connected")?;
        let has_ended = client.wire.await_end(PATIENCE);
        if !client.wire.arrived.is_empty() {
            let got = client.packet().map_or_else(|error| error, |words| words.join(" "));
            return Err(format!("got {got} before the end"));
        }
        if has_ended { Ok(()) } else { Err("the connection stays open".into()) }
    }

    /// CONNECT with a clean start (or none) and the client's name as its id, unless the words say otherwise.
    fn connect(&mut self, name: &str, is_resumed: bool, words: &[String]) -> Result<(), String> {
        let mut packet = vec!["CONNECT".to_owned()];
        packet.extend((!is_resumed).then(|| "clean".to_owned()));
        packet.extend((!words.iter().any(|word| word.starts_with("id="))).then(|| format!("id={}{name}", self.own)));
        packet.extend(words.iter().cloned());
        self.send(name, &packet)?;
        let mut answer = vec!["CONNACK".to_owned(), "rc=00".to_owned()];
        answer.extend(is_resumed.then(|| "present".to_owned()));
        self.expect(name, &answer)
    }

    fn subscribe(&mut self, name: &str, words: &[String]) -> Result<(), String> {
        let packet = ["SUBSCRIBE", "id=60000"].map(str::to_owned).into_iter().chain(words.iter().cloned());
        self.send(name, &packet.collect::<Vec<_>>())?;
        let got = self.client(name)?.packet()?;
        let is_granted =
            got[0] == "SUBACK" && got[1] == "id=60000" && got[2..].iter().all(|code| matches!(code.as_str(), "00" | "01" | "02"));
        if is_granted { Ok(()) } else { Err(format!("got {}", got.join(" "))) }
    }

    /// PUBLISH and the acknowledgements it needs.
    fn publish(&mut self, name: &str, words: &[String]) -> Result<(), String> {
        let packet = ["PUBLISH", "id=60001"].map(str::to_owned).into_iter().chain(words.iter().cloned());
        self.send(name, &packet.collect::<Vec<_>>())?;
        let lines: &[&str] = match words.iter().map(String::as_str).find(|word| matches!(*word, "q1" | "q2")) {
            None => return self.idle(name),
            Some("q1") => &["< PUBACK id=60001"],
            Some(_) => &["< PUBREC id=60001", "> PUBREL id=60001", "< PUBCOMP id=60001"],
        };
        lines.iter().try_for_each(|line| self.step(&format!("{name} {line}")))
    }

    /// Nothing is on its way: all that was sent before has been routed, and the very next packets answer these two questions.
    /// (PINGREQ alone would not show it, as its answer does not wait for the realm.)
    fn idle(&mut self, name: &str) -> Result<(), String> {
        for line in ["> UNSUBSCRIBE id=65535 ~/nobody/subscribed", "< UNSUBACK id=65535 *", "> PINGREQ", "< PINGRESP"] {
            self.step(&format!("{name} {line}"))?;
        }
        Ok(())
    }

    /// Nothing comes for so many milliseconds.
    fn quiet(&mut self, name: &str, ms: u64) -> Result<(), String> {
        let client = self.client(name)?;
        if client.wire.arrived.is_empty() && client.wire.receive(Instant::now() + Duration::from_millis(ms)) == Arrival::Silence {
            return Ok(());
        }
        Err(format!("not quiet: {:?}", client.packet()))
    }

    fn close(&mut self, name: &str) -> Result<(), String> {
        let client = self.clients.remove(name).ok_or("not connected")?;
        if client.wire.close() { Ok(()) } else { Err("the router does not notice that the client has gone".into()) }
    }
}

impl Client {
    /// The next packet.
    fn packet(&mut self) -> Result<Vec<String>, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let decoded = packet::decode(&self.wire.arrived, self.version);
            let decoded = decoded.map_err(|error| format!("got {}: {error}", hex(&self.wire.arrived)))?;
            if let Some((words, length)) = decoded {
                self.wire.arrived.drain(..length);
                return Ok(words);
            }
            self.more(deadline)?;
        }
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + PATIENCE;
        while self.wire.arrived.len() < count {
            self.more(deadline)?;
        }
        Ok(self.wire.arrived.drain(..count).collect())
    }

    fn more(&mut self, deadline: Instant) -> Result<(), String> {
        match self.wire.receive(deadline) {
            Arrival::Bytes => Ok(()),
            Arrival::End => Err(format!("the connection has ended{}", self.unread())),
            Arrival::Silence => Err(format!("nothing comes{}", self.unread())),
        }
    }

    fn unread(&self) -> String {
        if self.wire.arrived.is_empty() { String::new() } else { format!(", after {}", hex(&self.wire.arrived)) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" ")
}

/// Sorts a packet's words: plain ones in their order, named ones in theirs.
fn sorted(words: &[String]) -> (Vec<&str>, Vec<(&str, &str)>) {
    let is_named = |word: &&String| !word.starts_with('\'') && word.contains('=');
    let plain = words.iter().filter(|word| !is_named(word)).map(String::as_str).collect();
    (plain, words.iter().filter(is_named).filter_map(|word| word.split_once('=')).collect())
}

/// Whether a packet is the expected one. A PUBLISH is compared whole (packet ids only where they are given), other packets only
/// in the parts that the expectation names. Without `rc` the packet must be no refusal; `!name` must be absent, and `…` allows
/// more properties.
fn compare(expected: &[String], got: &[String], variables: &mut HashMap<String, String>) -> Result<(), String> {
    let wrong = || format!("got {}", got.join(" "));
    let ((plain, named), (got_plain, mut got_named)) = (sorted(expected), sorted(got));
    let is_publish = expected[0] == "PUBLISH";
    let absent: Vec<&str> = plain.iter().filter_map(|word| word.strip_prefix('!')).collect();
    let mut plain: Vec<&str> = plain.into_iter().filter(|word| !word.starts_with('!') && *word != "…").collect();
    if is_publish && !plain.iter().any(|word| matches!(*word, "q0" | "q1" | "q2")) {
        plain.insert(plain.len().min(3), "q0");
    }
    let text = |words: &[&str]| words.iter().map(|word| bytes::unquote(word)).collect::<Vec<_>>();
    let is_any = plain.get(1) == Some(&"*");
    if !is_any && text(&plain) != text(&got_plain) || is_any && plain[0] != got_plain[0] {
        return Err(wrong());
    }
    if let Some(name) = absent.iter().find(|name| got_named.iter().any(|(got, _)| got == *name)) {
        return Err(format!("{name} should be absent: {}", wrong()));
    }
    for (name, pattern) in &named {
        let found = got_named.iter().position(|(got, value)| got == name && fits(pattern, value, variables));
        let found = found.ok_or_else(|| format!("{name}={pattern} is missing: {}", wrong()))?;
        got_named.remove(found);
    }
    if let Some((_, code)) = got_named.iter().find(|(name, _)| *name == "rc")
        && *code >= "80"
    {
        return Err(wrong());
    }
    if is_publish && !expected.iter().any(|word| word == "…") && got_named.iter().any(|(name, _)| *name != "id") {
        return Err(format!("more than expected: {}", wrong()));
    }
    Ok(())
}

/// `*`, `a|b`, `1..5`, `{variable}` (bound on first use), `err` (a reason code of 80 and above), or the value itself.
fn fits(pattern: &str, value: &str, variables: &mut HashMap<String, String>) -> bool {
    if let Some(name) = pattern.strip_prefix('{').and_then(|pattern| pattern.strip_suffix('}')) {
        return variables.entry(name.to_owned()).or_insert_with(|| value.to_owned()) == value;
    }
    if let Some((low, high)) = pattern.split_once("..")
        && let (Ok(low), Ok(high), Ok(value)) = (low.parse::<u32>(), high.parse::<u32>(), value.parse::<u32>())
    {
        return (low..=high).contains(&value);
    }
    pattern == "*"
        || pattern == "err" && value >= "80"
        || pattern.split('|').any(|choice| bytes::unquote(choice) == bytes::unquote(value))
}

/// Runs one sequence; an error tells where it went wrong.
fn run(router: &Router, number: usize, sequence: &Sequence) -> Result<(), String> {
    let own = format!("t{number}");
    let mut run = Run { router, own, clients: BTreeMap::new(), variables: HashMap::new(), is_stopping: false };
    let at = |line: usize, step: &str, error: String| {
        format!("{} {} {}\n    line {line}: {step}\n    {error}", sequence.place, sequence.name, sequence.because)
    };
    for (line, step) in &sequence.steps {
        run.step(step).map_err(|error| at(*line, step, error))?;
    }
    run.finish().map_err(|error| at(0, "end of the sequence", error))
}

/// Runs all sequences of the files with the same configuration in one router; returns what went wrong.
fn run_all(config: &str, sequences: &[Sequence]) -> Vec<String> {
    let router = Router::start(config);
    let next = Mutex::new(sequences.iter().enumerate());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(sequences.len()) {
            scope.spawn(|| {
                loop {
                    let Some((number, sequence)) = next.lock().unwrap().next() else { return };
                    if let Err(failure) = run(&router, number, sequence) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

/// Every file of the folder, by configuration. `CORSAC_SEQUENCES=word` runs those whose file or name holds the word.
fn tables() -> BTreeMap<String, Vec<Sequence>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sequences");
    let only = std::env::var("CORSAC_SEQUENCES").unwrap_or_default();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let mut tables: BTreeMap<String, Vec<Sequence>> = BTreeMap::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let mut table = parse(&name, &fs::read_to_string(&file).unwrap());
        table.sequences.retain(|sequence| name.contains(&only) || sequence.name.contains(&only));
        tables.entry(table.config).or_default().extend(table.sequences);
    }
    tables
}

#[test]
fn every_sequence_is_answered_as_the_specification_says() {
    let tables = tables();
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (config, sequences) in &tables {
            let size = if config.contains(ALONE) { 1 } else { sequences.len().max(1) };
            for part in sequences.chunks(size) {
                scope.spawn(|| failures.lock().unwrap().extend(run_all(config, part)));
            }
        }
    });
    let (failures, count) = (failures.into_inner().unwrap(), tables.values().map(Vec::len).sum::<usize>());
    assert!(failures.is_empty(), "{} of {count} sequences fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_sequence_says_what_it_shows() {
    let (tables, mut names) = (tables(), HashMap::new());
    for sequence in tables.values().flatten() {
        assert!(!sequence.steps.is_empty() && !sequence.because.is_empty(), "{} {}", sequence.place, sequence.name);
        if let Some(other) = names.insert(&sequence.name, &sequence.place) {
            panic!("{} and {other} have one name: {}", sequence.place, sequence.name);
        }
    }
    assert!(names.len() >= 400, "only {} sequences", names.len());
}

/// The runner itself: what differs is noticed.
#[test]
fn differences_are_noticed() {
    let same = |expected: &str, got: &str| {
        compare(&bytes::words(expected), &bytes::words(got), &mut HashMap::from([("x".to_owned(), "7".to_owned())])).is_ok()
    };
    assert!(same("PUBLISH a 'b' q1", "PUBLISH a b q1 id=3"));
    assert!(same("PUBLISH a b", "PUBLISH a b q0"));
    assert!(same("PUBACK id={x}", "PUBACK id=7 rc=10"));
    assert!(same("CONNACK !assigned_id", "CONNACK rc=00 receive_maximum=5"));
    assert!(same("PUBLISH a b message_expiry=8..9 …", "PUBLISH a b q0 message_expiry=9 user=k:v"));
    assert!(same("SUBACK id=1 *", "SUBACK id=1 00 01"));
    for (expected, got) in [
        ("PUBLISH a b", "PUBLISH a c q0"),
        ("PUBLISH a b", "PUBLISH a b q1 id=1"),
        ("PUBLISH a b", "PUBLISH a b q0 retain"),
        ("PUBLISH a b", "PUBLISH a b q0 user=k:v"),
        ("PUBLISH a b user=k:v", "PUBLISH a b q0"),
        ("PUBLISH a b q1 id=2", "PUBLISH a b q1 id=1"),
        ("PUBACK id={x}", "PUBACK id=8 rc=00"),
        ("PUBACK id=8", "PUBACK id=8 rc=87"),
        ("CONNACK", "CONNACK present rc=00"),
        ("CONNACK !assigned_id", "CONNACK rc=00 assigned_id=a"),
        ("CONNACK rc=err", "CONNACK rc=00"),
        ("SUBACK id=1 00", "SUBACK id=1 00 01"),
        ("PUBLISH a b message_expiry=8..9", "PUBLISH a b q0 message_expiry=7"),
    ] {
        assert!(!same(expected, got), "{expected} / {got}");
    }
}
