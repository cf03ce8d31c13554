//! SIGKILL at random moments under load: what was acknowledged is in the history, in order, and everybody goes on where they were.
//!
//! `CORSAC_CRASH_SEED` chooses the moments (it is printed with a failure), and `CORSAC_CRASH_CYCLES` their number. SIGKILL leaves
//! all that was written, synced or not; power cuts are simulated by `src/store/tests`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod support;

#[path = "crash/ledger.rs"]
mod ledger;
#[path = "crash/mortal.rs"]
mod mortal;
#[path = "crash/publisher.rs"]
mod publisher;
#[path = "sim/random.rs"]
mod random;
#[path = "crash/subscriber.rs"]
mod subscriber;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ledger::Ledger;
use mortal::Mortal;
use publisher::{Publisher, Way};
use random::Random;
use subscriber::Subscriber;
use support::data::Data;
use support::router::{PATIENCE, Router};

/// Crashes of one history; more of them are of further histories, which begin empty.
const CYCLES: usize = 20;
/// Every so many cycles the whole history is read again, not only what is new.
const WHOLE: usize = 10;

/// The end of a cycle.
#[derive(Debug)]
enum Crash {
    /// SIGKILL so long after the clients were let go.
    Kill(Duration),
    /// The process aborts at a named point; SIGKILL if it does not come there.
    Failpoint(String),
    /// SIGKILL so long after the process was started, before anybody is served; then as the first.
    Twice(Duration, Duration),
    /// The process is asked to stop so long after, so that the state it keeps is as of the end.
    Stop(Duration),
}

impl Crash {
    fn draw(random: &mut Random) -> Self {
        // Often short: connecting and resuming are interrupted too.
        let longest_ms = [10, 100, 400][random.below(3)];
        let after = Duration::from_micros(random.below(longest_ms * 1_000) as u64);
        if random.chance(400) {
            let point = if random.chance(500) { "after_write" } else { "after_sync" };
            return Crash::Failpoint(format!("{point}:{}", 2 + random.below(60)));
        }
        if random.chance(200) {
            return Crash::Twice(Duration::from_micros(random.below(60_000) as u64), after);
        }
        if random.chance(200) { Crash::Stop(after) } else { Crash::Kill(after) }
    }
}

/// The numbers of the environment, or those of every day.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Everybody who talks to the router.
struct Clients {
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    mortal: Mortal,
}

impl Clients {
    fn new(seed: u64) -> Self {
        let publishers = [
            ("w1", Way::Wamp, 1),
            ("w2", Way::Wamp, 16),
            ("k1", Way::Keyed, 8),
            ("a1", Way::Mqtt { version: 5, qos: 1 }, 16),
            ("a2", Way::Mqtt { version: 4, qos: 1 }, 4),
            ("b1", Way::Mqtt { version: 5, qos: 2 }, 8),
            ("b2", Way::Mqtt { version: 4, qos: 2 }, 2),
        ];
        let mut publishers = Vec::from(publishers.map(|(name, way, window)| Publisher::new(name, way, window)));
        publishers.extend([Publisher::mortal("e1", 5, 4, seed), Publisher::mortal("e2", 4, 2, seed + 1)]);
        let subscribers = vec![Subscriber::new("s1", 1), Subscriber::new("s2", 2)];
        Clients { publishers, subscribers, mortal: Mortal::new("s3", seed + 2) }
    }

    /// Sessions that have ended and begun again under their names.
    fn lives(&self) -> u64 {
        self.publishers.iter().map(Publisher::lives).sum::<u64>() + self.mortal.lives.len() as u64
    }

    /// Lets everybody go until the router is gone; true if it went by itself.
    fn run_until(&mut self, router: Router, crash: &Crash) -> bool {
        let (http, mqtt) = (router.http, router.mqtt);
        std::thread::scope(|scope| {
            for publisher in &mut self.publishers {
                scope.spawn(move || publisher.run(http, mqtt, true).unwrap_err());
            }
            for subscriber in &mut self.subscribers {
                scope.spawn(move || subscriber.run(mqtt, None).unwrap_err());
            }
            let mortal = &mut self.mortal;
            scope.spawn(move || mortal.run(mqtt, "crash/log/#"));
            match crash {
                Crash::Kill(after) | Crash::Twice(_, after) => std::thread::sleep(*after),
                Crash::Stop(after) => {
                    std::thread::sleep(*after);
                    router.terminate();
                    assert!(router.wait(PATIENCE).success());
                }
                Crash::Failpoint(_) => {
                    let deadline = Instant::now() + Duration::from_millis(500);
                    while router.is_alive() && Instant::now() < deadline {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            }
            let has_ended = !router.is_alive();
            drop(router);
            let has_aborted = has_ended && matches!(crash, Crash::Failpoint(_));
            assert!(has_ended == has_aborted || matches!(crash, Crash::Stop(_)), "the process has ended");
            has_aborted
        })
    }

    /// Lets everybody finish.
    fn finish(&mut self, router: &Router, ledger: &mut Ledger) {
        for publisher in &mut self.publishers {
            publisher.run(router.http, router.mqtt, false).unwrap();
        }
        ledger.read(router.http, true);
        let enough = ledger.texts("crash.log.", |_| true).len();
        for subscriber in &mut self.subscribers {
            subscriber.run(router.mqtt, Some(enough)).unwrap();
        }
    }

    fn check(&self, router: &Router, ledger: &Ledger, is_whole: bool) {
        for publisher in &self.publishers {
            ledger.check_publisher(publisher);
        }
        for subscriber in &self.subscribers {
            ledger.check_subscriber(subscriber, "crash.log.", is_whole);
        }
        ledger.check_mortal(&self.mortal, "crash.log.");
        ledger.check_retained(router.mqtt);
    }
}

/// Kills a process that has not said yet where it listens.
fn kill_at_start(data: &Path, after: Duration) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corsac"));
    command.args(["run", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--log", "error", "--data"]).arg(data);
    let mut child = command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A router whose log goes on in another segment often: as if something had to be kept in parts of 1 MiB.
fn start(data: &Data) -> Router {
    Router::start_in(&data.0, "[[history]]\nfilter = \"nothing\"\nmax_bytes = 1\n")
}

/// Crashes one history so often; how many of the crashes were at failpoints, how many events there are, how many acknowledged, and how
/// many sessions have ended and begun again.
fn crash_one_history(random: &mut Random, cycles: usize) -> [usize; 4] {
    let data = Data::new();
    let (mut clients, mut ledger) = (Clients::new(random.number()), Ledger::default());
    let router = data.start();
    for subscriber in &clients.subscribers {
        subscriber.subscribe(router.mqtt, "crash/log/#");
    }
    drop(router);

    let mut aborted = 0;
    for cycle in 0..cycles {
        let crash = Crash::draw(random);
        if let Crash::Twice(after, _) = &crash {
            kill_at_start(&data.0, *after);
        }
        if random.chance(100) {
            // The state can be made anew from the log.
            std::fs::remove_dir_all(data.0.join("state")).unwrap();
        }
        let mut router = start(&data);
        ledger.read(router.http, cycle % WHOLE == 0);
        println!("cycle {cycle}: {} events, then {crash:?}", ledger.entries.len());
        clients.check(&router, &ledger, false);
        if let Crash::Failpoint(failpoint) = &crash {
            drop(router);
            router = Router::start_failing(&data.0, Some(failpoint));
        }
        aborted += usize::from(clients.run_until(router, &crash));
    }
    let router = data.start();
    clients.finish(&router, &mut ledger);
    clients.check(&router, &ledger, true);
    let acknowledged = clients.publishers.iter().map(|publisher| publisher.acknowledged.len()).sum();
    assert!(acknowledged > cycles, "there was no load");
    [aborted, ledger.entries.len(), acknowledged, clients.lives() as usize]
}

/// A publication that was written and not answered is there afterwards.
#[test]
#[cfg(debug_assertions)]
fn a_failpoint_ends_the_process_between_the_disk_and_the_answer() {
    for point in ["after_write:2", "after_sync:2"] {
        let data = Data::new();
        let router = Router::start_failing(&data.0, Some(point));
        let (mut link, _) = support::mqtt::Mqtt::try_connect(router.mqtt, "CONNECT v5 clean id=").unwrap();
        assert_eq!(link.ask("PUBLISH crash/log/x x.0 q1 id=1")[0], "PUBACK");
        assert!(link.try_ask("PUBLISH crash/log/x x.1 q1 id=2").is_err());
        assert!(!router.wait(support::wire::PATIENCE).success());
        let router = data.start();
        let mut ledger = Ledger::default();
        ledger.read(router.http, true);
        assert_eq!(ledger.texts("crash.", |_| true), ["x.0", "x.1"]);
    }
}

#[test]
fn nothing_acknowledged_is_lost_however_often_the_process_is_killed() {
    let seed = number("CORSAC_CRASH_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 % 1_000_000);
    let cycles = number("CORSAC_CRASH_CYCLES").map_or(CYCLES, |cycles| cycles as usize);
    println!("CORSAC_CRASH_SEED={seed} CORSAC_CRASH_CYCLES={cycles}");
    let (mut random, started, mut lives) = (Random(seed), Instant::now(), 0);
    for first in (0..cycles).step_by(CYCLES) {
        let count = CYCLES.min(cycles - first);
        let [aborted, events, acknowledged, ended] = crash_one_history(&mut random, count);
        lives += ended;
        println!("{count} crashes, {aborted} of them at failpoints: {events} events, {acknowledged} acknowledged, {ended} lives");
    }
    println!("{cycles} crashes, {lives} lives in {:?}", started.elapsed());
    assert!(lives > cycles, "sessions ended and began again");
}
