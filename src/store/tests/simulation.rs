//! Seeded runs on a disk that loses power at any operation: what was acknowledged is there, and damage shows.
//!
//! `CORSAC_SIMULATION_RUNS` says how many runs each test makes (10,000 take about half a minute; [`RUNS`] unless it is set),
//! `CORSAC_SIMULATION_SEED` with which seed they begin (0). A failure names its seed.
use std::cell::RefCell;
use std::collections::BTreeMap;

use super::model::{Kept, Model, REALMS, fold};
use super::*;
use crate::store::log::{SnapshotDone, SyncJob};

/// Runs of each test, every day.
const RUNS: u64 = 400;

/// The seeds of a test, and how many they are.
fn seeds() -> (std::ops::Range<u64>, u64) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")));
    let (first, runs) = (number("CORSAC_SIMULATION_SEED").unwrap_or(0), number("CORSAC_SIMULATION_RUNS").unwrap_or(RUNS));
    (first..first + runs, runs)
}

/// The events of all runs, so that they are seen to reach everything.
type Tally = BTreeMap<&'static str, u64>;

thread_local! {
    static TALLY: RefCell<Tally> = RefCell::default();
}

fn tally(what: &'static str, count: u64) {
    TALLY.with_borrow_mut(|tally| *tally.entry(what).or_default() += count);
}

/// Panics unless each of these happened once in so many runs; a few runs prove nothing.
fn assert_reached(runs: u64, expected: &[(&'static str, u64)]) {
    let tally = TALLY.take();
    println!("{runs} runs: {tally:?}");
    for (what, every) in expected {
        let count = tally.get(what).copied().unwrap_or(0);
        assert!(runs < 200 || count >= runs / every, "{what}: only {count} times in {runs} runs");
    }
}

/// A snapshot on its way.
enum Draft {
    None,
    Started(SnapshotJob<SimulatedDisk>),
    Written(SnapshotDone<SimulatedDisk>, AsOf),
}

/// One process: a log, and what its owner has begun.
struct Life<'a> {
    disk: &'a SimulatedDisk,
    log: Log<SimulatedDisk>,
    model: &'a mut Model,
    chance: &'a mut Chance,
    sync: Option<SyncJob<simulated_disk::SimulatedFile>>,
    draft: Draft,
    /// The first segment that a plan would keep, and what that keeps.
    plan: Option<(u64, Kept)>,
    /// The log is poisoned, or the power is off.
    is_over: bool,
}

impl Life<'_> {
    /// The outcome of a call: a refusal for want of space changes nothing, anything else ends this life.
    fn outcome<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => return Some(value),
            Err(Error::NoSpace) => tally("refused, full", 1),
            Err(error) => self.end(&error),
        }
        None
    }

    fn end(&mut self, error: &Error) {
        let is_expected = matches!(error, Error::Io { .. } | Error::Poisoned);
        assert!(is_expected, "{error}");
        assert!(self.disk.is_off() || self.log.is_poisoned() || error.to_string().contains("input/output"), "{error}");
        self.is_over = true;
    }

    fn write(&mut self) {
        if self.is_over {
            return;
        }
        let batch = self.model.batch(self.chance);
        match self.log.write(&batch) {
            Ok(ids) => self.model.note_written(batch, &ids),
            Err(Error::NoSpace) => tally("refused, full", 1),
            Err(Error::BatchTooLarge { .. }) => tally("refused, too large", 1),
            Err(error) => {
                self.model.note_uncertain(batch);
                self.end(&error);
            }
        }
        self.model.note_seen(&self.log);
    }

    fn sync(&mut self) {
        if self.is_over {
            return;
        }
        let result = self.log.sync();
        if self.outcome(result).is_some() {
            self.model.note_synced();
        }
    }

    /// A sync that other things happen beside.
    fn sync_beside(&mut self) {
        match self.sync.take() {
            None => {
                let started = self.log.start_sync();
                self.sync = self.outcome(started);
            }
            Some(job) => {
                let done = job.run();
                for _ in 0..self.chance.below(3) {
                    self.write();
                }
                if !self.is_over {
                    let result = self.log.finish_sync(done);
                    self.outcome(result);
                    tally("synced beside", 1);
                }
            }
        }
        self.model.note_seen(&self.log);
    }

    /// Up to where a snapshot may go: the sealed segments, or anything readable.
    fn ids(&mut self, job: &SnapshotJob<SimulatedDisk>) -> AsOf {
        if self.chance.one_in(2) {
            return job.reader().sealed_heads();
        }
        let mut ids = AsOf::new();
        for realm in REALMS {
            let Some(last) = job.reader().realm_state(realm).last else { continue };
            let least = super::super::as_of(job.previous_ids(), realm);
            let number = last.value().saturating_sub(self.chance.below(6)).max(least).max(1);
            ids.push((realm.into(), id(number)));
        }
        ids
    }

    /// The next step of a snapshot: begun, written while the log goes on, adopted, or given up at either point.
    fn snapshot(&mut self) {
        match std::mem::replace(&mut self.draft, Draft::None) {
            Draft::None => {
                let started = self.log.start_snapshot();
                self.draft = self.outcome(started).map_or(Draft::None, Draft::Started);
            }
            draft if self.chance.one_in(8) => {
                tally("given up", 1);
                drop(draft);
            }
            Draft::Started(job) => self.write_snapshot(job),
            Draft::Written(done, ids) => self.adopt(done, ids),
        }
    }

    fn write_snapshot(&mut self, job: SnapshotJob<SimulatedDisk>) {
        let ids = self.ids(&job);
        if ids.is_empty() || !is_later(&ids, job.previous_ids()) {
            return;
        }
        let folded = fold(&job, &ids);
        let Some(state) = self.outcome(folded) else { return };
        let mut state = state.into_iter();
        let mut chunks = std::iter::from_fn(|| {
            // The log is appended to, synced and trimmed between any two pieces.
            for _ in 0..self.chance.below(4) {
                self.step_beside();
            }
            state.next()
        });
        let written = job.write(&ids, &mut chunks);
        match written {
            Ok(done) => self.draft = Draft::Written(done, ids),
            Err(Error::NoSpace) => tally("snapshot refused, full", 1),
            // Nothing was built on that file: only a log that is poisoned or without power ends.
            Err(Error::Io { .. }) if !self.disk.is_off() => tally("snapshot failed", 1),
            Err(error) => self.end(&error),
        }
    }

    fn adopt(&mut self, done: SnapshotDone<SimulatedDisk>, ids: AsOf) {
        let is_late = REALMS.iter().any(|realm| {
            let last = self.log.realm_state(realm).last.map_or(0, EventId::value);
            last > super::super::as_of(&ids, realm) + 20
        });
        self.model.note_adopted(ids.clone(), false);
        match self.log.finish_snapshot(done) {
            Ok(()) => {
                self.model.note_adopted(ids, true);
                tally("adopted", 1);
                tally("adopted late", is_late.into());
            }
            Err(error) => self.end(&error),
        }
    }

    fn rules(&mut self) -> Vec<Retention> {
        let filter = |text| Some(Filter::from_mqtt(text).unwrap());
        let all = Retention::default();
        match self.chance.below(6) {
            0..3 => vec![Retention { max_count: Some(3), ..all }],
            3 => vec![Retention { max_bytes: Some(600), ..all }],
            4 => {
                let short = Retention { filter: filter("a/#"), max_age_ms: Some(5), ..all.clone() };
                vec![short, Retention { max_age_ms: Some(20), ..all }]
            }
            // The other topics are kept for ever.
            _ => vec![Retention { filter: filter("a/#"), max_count: Some(2), ..all }],
        }
    }

    /// The next step of a trim: planned, or carried out, perhaps long after.
    fn trim(&mut self) {
        let Some((first_kept, kept)) = self.plan.take() else {
            let rules = self.rules();
            let now_ms = self.model.time_ms() + self.chance.below(20);
            let planned = self.log.reader().plan_retention(&rules, now_ms);
            let kept = self.model.kept_by(&rules, now_ms, &self.log);
            self.plan = self.outcome(planned).map(|plan| (plan.first_kept, kept));
            return;
        };
        self.model.note_trim(&kept);
        let trimmed = self.log.trim_before(first_kept);
        let count = self.outcome(trimmed).unwrap_or(0);
        tally("trimmed", count as u64);
    }

    /// Anything but a step of the snapshot.
    fn step_beside(&mut self) {
        if self.is_over {
            return;
        }
        match self.chance.below(24) {
            0..9 => {
                self.write();
                self.sync();
            }
            9..15 => self.write(),
            15..17 => self.sync(),
            17..19 => self.sync_beside(),
            19..23 => self.trim(),
            _ => {
                let room = [100, 5_000, u64::MAX, u64::MAX][self.chance.below(4) as usize];
                self.disk.set_capacity(self.disk.used().saturating_add(self.chance.below(room)));
            }
        }
    }

    fn step(&mut self) {
        match self.chance.below(16) {
            0..4 => self.snapshot(),
            4 if self.chance.one_in(16) => self.disk.fail_syncs(true),
            _ => self.step_beside(),
        }
    }
}

fn open(disk: &SimulatedDisk, segment_bytes: u64) -> Result<Log<SimulatedDisk>, Error> {
    Log::open(disk.clone(), Config { segment_bytes, ..small() }, Options { new_identity: [4; 16], ..Options::default() })
}

/// Works until the power goes off, or the log is poisoned, or for long enough.
fn work(disk: &SimulatedDisk, segment_bytes: u64, model: &mut Model, chance: &mut Chance) {
    let log = match open(disk, segment_bytes) {
        Ok(log) => log,
        Err(error) => return assert!(disk.is_off(), "{error}"),
    };
    if let Err(problem) = model.compare(&log) {
        return assert!(problem.contains("no power"), "{problem}");
    }
    let (sync, draft, plan) = (None, Draft::None, None);
    let steps = chance.below(80);
    let mut life = Life { disk, log, model, chance, sync, draft, plan, is_over: false };
    for _ in 0..steps {
        life.step();
        if life.is_over {
            break;
        }
    }
    tally("lives cut short", life.is_over.into());
}

/// A new life after the power came back, or only the process ended.
fn restart(disk: &SimulatedDisk, chance: &mut Chance) {
    disk.set_capacity(u64::MAX);
    if chance.one_in(3) { disk.end_process() } else { disk.cut_power() }
}

/// Says the seed where a run panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("CORSAC_SIMULATION_SEED={} CORSAC_SIMULATION_RUNS=1", self.0);
        }
    }
}

#[test]
fn nothing_synced_is_lost_wherever_the_power_goes_off() {
    let (seeds, runs) = seeds();
    for seed in seeds {
        let _named = Named(seed);
        let (disk, mut chance, mut model) = (SimulatedDisk::new(seed), Chance::new(seed), Model::default());
        let segment_bytes = 1_024 + chance.below(3_000);
        if chance.one_in(4) {
            disk.reserve_nothing();
        }
        for _ in 0..3 {
            disk.cut_power_after(chance.below(500));
            work(&disk, segment_bytes, &mut model, &mut chance);
            restart(&disk, &mut chance);
        }
        let log = open(&disk, segment_bytes).unwrap_or_else(|error| panic!("{error}"));
        model.compare(&log).unwrap_or_else(|problem| panic!("{problem}"));
        tally("records", model.count() as u64);
    }
    let cut = [("lives cut short", 1), ("refused, full", 4), ("snapshot refused, full", 50), ("snapshot failed", 200)];
    let beside = [("given up", 4), ("adopted", 1), ("adopted late", 20), ("trimmed", 3), ("synced beside", 1)];
    assert_reached(runs, &[&cut[..], &beside].concat());
}

/// A flipped bit that was harmless so far: what is written behind it is there, or the damage shows at last.
fn go_on(mut log: Log<SimulatedDisk>, disk: &SimulatedDisk, segment_bytes: u64, model: &mut Model, chance: &mut Chance) {
    let batch = model.batch(chance);
    match log.append(&batch) {
        Ok(ids) => model.note_written(batch, &ids),
        Err(error) => return assert!(matches!(error, Error::BatchTooLarge { .. }), "{error}"),
    }
    model.note_synced();
    drop(log);
    disk.cut_power();
    match open(disk, segment_bytes).map(|log| model.compare(&log)) {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => assert!(problem.starts_with("unreadable"), "{problem}"),
        Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error}"),
    }
}

#[test]
fn a_flipped_bit_is_harmless_repaired_or_said() {
    let (seeds, runs) = seeds();
    for seed in seeds {
        let _named = Named(seed);
        let (disk, mut chance, mut model) = (SimulatedDisk::new(!seed), Chance::new(!seed), Model::default());
        let segment_bytes = 1_024 + chance.below(3_000);
        disk.cut_power_after(50 + chance.below(1_200));
        work(&disk, segment_bytes, &mut model, &mut chance);
        restart(&disk, &mut chance);
        let Some((file, offset)) = disk.flip_bit() else { continue };
        let log = match open(&disk, segment_bytes) {
            Ok(log) => log,
            // An end that the snapshot lies behind looks like an older copy.
            Err(Error::Corrupt { .. } | Error::OlderCopy { .. }) => {
                tally("refused at start", 1);
                continue;
            }
            Err(error) => panic!("{file} {offset}: {error}"),
        };
        match model.compare(&log) {
            Ok(()) => {
                tally("harmless or repaired", 1);
                go_on(log, &disk, segment_bytes, &mut model, &mut chance);
            }
            Err(problem) if problem.starts_with("unreadable") => tally("refused when read", 1),
            // The last batch before a power cut that took the mark with it: told from a torn one by nothing, so it is kept and said.
            Err(problem) => {
                let said = log.recovery().torn.clone().unwrap_or_else(|| panic!("{file} {offset}: {problem}"));
                assert!(said.file == file && offset >= said.offset, "{file} {offset}: {problem}, {said:?}");
                tally("kept as torn", 1);
            }
        }
    }
    let torn = TALLY.with_borrow(|tally| tally.get("kept as torn").copied().unwrap_or(0));
    assert!(runs < 200 || torn < runs / 50, "{torn} times as torn");
    assert_reached(runs, &[("refused at start", 25), ("harmless or repaired", 25), ("refused when read", 250)]);
}
