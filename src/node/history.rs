//! The history of this process: the log with its writer, what is kept of the realms' states, and how a start reads both.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::amount::{self, counted};
use super::config::{Config, HistoryRule};
use super::data_dir;
use super::fold::{self, Entries};
use super::keeper::Keeper;
use super::kept::{self, Batch, Kept};
use super::post::{News, Post, Written};
use super::state::Rebuilt;
use super::writer::{Job, Writer};
use crate::cluster::segment::SyncToken;
use crate::cluster::solo::{SoloLimits, Write};
use crate::model::{EventId, Limits};
use crate::net::clock::now_ms;
use crate::store::disk::{Disk, OsDisk};
use crate::store::log::{self, Options, Reader, Snapshots};
use crate::store::{Error, Log, Projections, Retention};

/// The time between two reports of progress while the log is read at start.
const PROGRESS: Duration = Duration::from_secs(2);

/// Parts in which what a rule keeps goes.
const PARTS: u64 = 8;
/// The smallest part, in bytes and milliseconds.
const MIN_PART_BYTES: u64 = 1024 * 1024;
const MIN_PART_MS: u64 = 10_000;
/// Bytes that a small publication takes in the log, about.
const RECORD_BYTES: u64 = 128;

/// The snapshot that is being read at the start, and the realm that was looked for last.
type ReadSnapshot = (Entries<<OsDisk as Disk>::File>, Arc<str>);

/// The history of all realms.
pub struct History {
    jobs: Sender<Job>,
    reader: Reader<OsDisk>,
    snapshots: Snapshots<OsDisk>,
    reading: Mutex<Option<ReadSnapshot>>,
    path: PathBuf,
    limits: Limits,
    is_full: Arc<AtomicBool>,
    projections: Arc<Projections>,
    batches: Sender<Batch>,
    rules: Vec<HistoryRule>,
    /// The keeper ends with it.
    _keeper: Sender<()>,
}

/// The history that [`History::open`] opens.
pub struct Opened {
    /// For the realms.
    pub history: Arc<History>,
    /// Ends the process when it says why the disk cannot be trusted any more.
    pub failure: tokio::sync::oneshot::Receiver<String>,
}

impl History {
    /// Opens the log that `config` names and reads it. Call it where tokio runs.
    pub fn open(config: &Config) -> Result<Opened, String> {
        let path = &data_dir::absolute(&config.data_dir);
        let refusal = |error: Error| data_dir::refusal(path, &config.limits, &error);
        data_dir::check(path)?;
        let log = open_log(path, config).map_err(refusal)?;
        tell_of_recovery(&log, path);
        let (projections, damaged) = Projections::open_at(path, &log.directory(), now_ms()).map_err(refusal)?;
        if let Some(damaged) = damaged {
            let kept_as = damaged.kept_as.display();
            tracing::warn!(
                "what was kept of the realms' states is damaged ({}): it is made anew from the history, and nothing is lost; \
                 {kept_as} has what was there, remove it at will",
                damaged.why
            );
        }
        let (reader, snapshots, projections) = (log.reader().clone(), log.snapshots(), Arc::new(projections));
        let (jobs, waiting) = channel();
        let (told, news) = unbounded_channel();
        let (failed, failure) = tokio::sync::oneshot::channel();
        let is_full = Arc::new(AtomicBool::new(false));
        let room = {
            let (path, limits) = (path.clone(), config.limits.clone());
            move || data_dir::room(&path, &limits)
        };
        let writer = Writer::new(log, told, failed, is_full.clone(), room);
        spawn("history", move || writer.run(&waiting))?;
        let (batches, kept) = channel();
        let keeping = projections.clone();
        spawn("state", move || kept::run(&keeping, &kept))?;
        let (keeper, stop) = channel();
        let (rules, limits) = (config.retention(), config.limits.clone());
        let looking = Keeper { reader: reader.clone(), jobs: jobs.clone(), rules, limits };
        spawn("keeper", move || looking.run(&stop))?;
        tokio::spawn(tell(news));
        let history = History {
            jobs,
            path: path.clone(),
            limits: config.limits.clone(),
            is_full,
            reader,
            snapshots,
            reading: Mutex::new(None),
            projections,
            batches,
            rules: config.history.clone(),
            _keeper: keeper,
        };
        Ok(Opened { history: Arc::new(history), failure })
    }

    /// The realms that have a history.
    pub fn realms(&self) -> Vec<Arc<str>> {
        self.reader.realms()
    }

    /// The bounds of what a realm may send on its way into it at a time.
    pub fn solo_limits(&self) -> SoloLimits {
        SoloLimits::of_segment(self.limits.segment_bytes)
    }

    /// Why nothing can be stored now, and what to do; `None` while everything can.
    pub fn trouble(&self) -> Option<String> {
        let is_full = self.is_full.load(Ordering::Relaxed);
        is_full.then(|| format!("nothing can be stored: {}; free some space", data_dir::room(&self.path, &self.limits)))
    }

    /// Why it cannot be read, and what to do.
    pub fn refusal(&self, error: &Error) -> String {
        data_dir::refusal(&self.path, &self.limits, error)
    }

    /// Where it is and how much it holds, as a part of a sentence.
    pub fn describe(&self) -> String {
        let realms = self.realms();
        let events = |realm: &Arc<str>| {
            let state = self.reader.realm_state(realm);
            let count = |last: EventId, oldest: EventId| last.value() - oldest.value() + 1;
            state.last.zip(state.oldest).map_or(0, |(last, oldest)| count(last, oldest))
        };
        let extent = self.reader.extent();
        let (path, format) = (self.path.display(), log::FORMAT);
        let events: u64 = realms.iter().map(events).sum();
        if events == 0 {
            return format!("history in {path} (format {format}, empty)");
        }
        let (size, events) = (amount::size(extent.bytes + extent.snapshot_bytes), counted(events, "event"));
        format!("history in {path} (format {format}, {size}, {events}, {})", counted(realms.len() as u64, "realm"))
    }

    /// Puts a realm together: from what is kept of its state, else from the snapshot, and from the records since.
    pub fn rebuild(&self, realm: &Arc<str>, limits: &Limits, seed: u64) -> Result<(Rebuilt, Kept), Error> {
        let new = || Rebuilt::new(limits.clone(), seed);
        let mut rebuilt = new();
        let kept = self.read_kept(realm, &mut rebuilt);
        if kept.is_none() {
            rebuilt = new();
            self.projections.forget(realm)?;
            self.read_snapshot(realm, &mut rebuilt)?;
        }
        let rules = self.rules.iter().filter(|rule| rule.realm.as_ref().is_none_or(|name| name == realm));
        rebuilt.router.store_by(rules.map(HistoryRule::storing).collect());
        rebuilt.router.track_changes();
        if kept.is_none() {
            rebuilt.note_all_changed();
        }
        let began = Instant::now();
        let mut told = began;
        let count = fold::replay(&self.reader, realm, &mut rebuilt, None, |at| {
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                tracing::info!("reading the history of realm {realm}: at id {at}");
            }
        })?;
        if count > 0 {
            let (events, ms) = (counted(count, "event"), began.elapsed().as_millis());
            tracing::info!("recovered realm {realm} from the history: {events} in {ms} ms");
        }
        rebuilt.unreadable.lines(realm).iter().for_each(|line| tracing::warn!("{line}"));
        Ok((rebuilt, Kept::start(realm.clone(), self.batches.clone(), kept, now_ms())))
    }

    /// Reads what is kept of the state of a realm, if the history behind it is there.
    fn read_kept(&self, realm: &str, rebuilt: &mut Rebuilt) -> Option<EventId> {
        let state = self.reader.realm_state(realm);
        let last = state.last?;
        let first = state.oldest.or(last.next());
        // A process that is killed soon after its first start has kept nothing.
        let as_of = self.projections.as_of(realm)?;
        let is_followed = as_of <= last && as_of.next() >= first;
        let mut is_sound = || self.projections.read(realm, |key, value| rebuilt.take(key, value).is_some());
        if is_followed && is_sound() && rebuilt.finish(as_of).is_some() {
            return Some(as_of);
        }
        tracing::warn!(
            "what is kept of the state of realm {realm} does not fit the history: it is made anew from that, nothing is lost"
        );
        None
    }

    /// Reads the snapshot's entries of a realm. Realms come in the order of their names, mostly.
    fn read_snapshot(&self, realm: &Arc<str>, rebuilt: &mut Rebuilt) -> Result<(), Error> {
        let mut reading = self.reading.lock();
        let opened = match reading.take_if(|(_, last)| *last < *realm) {
            Some((entries, _)) => Some(entries),
            None => self.snapshots.open()?.map(Entries::of).transpose()?,
        };
        let Some(mut entries) = opened else { return Ok(()) };
        entries.read_realm(realm, rebuilt)?;
        *reading = Some((entries, realm.clone()));
        Ok(())
    }

    /// A reader of everything that is durable, for any thread.
    pub fn reader(&self) -> &Reader<OsDisk> {
        &self.reader
    }

    /// Has a batch of a realm written and synced; its post brings the news.
    pub fn write(&self, realm: Arc<Post>, write: Write, token: SyncToken) {
        // Where the writer has ended the process ends too.
        self.jobs.send(Job::Write(realm, write, token)).ok();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map(drop).map_err(|error| format!("cannot start a thread: {error}; raise the limit of processes (ulimit -u)"))
}

fn open_log(path: &Path, config: &Config) -> Result<Log<OsDisk>, Error> {
    let default = log::Config::default();
    let (roll_bytes, roll_age_ms) = parts_of(&config.retention());
    let Limits { segment_bytes, disk_reserve_bytes: reserve_bytes, .. } = config.limits;
    let log_config =
        log::Config { durability: config.durability, roll_bytes, roll_age_ms, segment_bytes, reserve_bytes, ..default };
    let options = Options { new_identity: *uuid::Uuid::new_v4().as_bytes(), ..Options::default() };
    Log::open_at(path, log_config, options)
}

/// The bytes and the time that go into one segment, so that the rules are kept to about an eighth.
fn parts_of(rules: &[Retention]) -> (u64, u64) {
    let bytes = rules.iter().filter_map(|rule| rule.max_bytes);
    let counted =
        rules.iter().filter_map(|rule| rule.max_count).filter(|count| *count > 0).map(|count| count.saturating_mul(RECORD_BYTES));
    let age_ms = rules.iter().filter_map(|rule| rule.max_age_ms).min().unwrap_or(u64::MAX);
    let bytes = bytes.chain(counted).min().unwrap_or(u64::MAX);
    ((bytes / PARTS).max(MIN_PART_BYTES), (age_ms / PARTS).max(MIN_PART_MS))
}

fn tell_of_recovery(log: &Log<OsDisk>, path: &Path) {
    let recovery = log.recovery();
    if let Some(torn) = &recovery.torn {
        let (bytes, file, kept_as) = (counted(torn.bytes, "byte"), &torn.file, &torn.kept_as);
        tracing::info!(
            "the process before this one ended while it wrote: {bytes} at the end of {file} in {}, which nobody was told are stored, are \
             kept aside as {kept_as}; remove that file at will",
            path.display()
        );
    }
    if let Some(older) = recovery.older_format {
        let known = log::FORMAT;
        tracing::info!(
            "the history in {} had format {older} and has format {known} now; an older Corsac cannot read it any more",
            path.display()
        );
    }
    for file in &recovery.rebuilt {
        tracing::warn!(
            "the index in {file} in {} was damaged and is made anew: nothing is lost, but look at the disk",
            path.display()
        );
    }
}

/// Brings the writer's news to the realms.
async fn tell(mut news: UnboundedReceiver<(Arc<Post>, Written)>) {
    while let Some((realm, written)) = news.recv().await {
        realm.bring(News::Written(written));
    }
}
