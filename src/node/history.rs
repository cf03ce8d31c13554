//! The history of this process: the log, the thread that writes it, and what a restart reads back.
//!
//! One thread writes for all realms: it takes what waits, writes it, syncs once, and says so; meanwhile the next batches gather.
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::config::Config;
use super::event_loop::EventLoop;
use crate::cluster::segment::SyncToken;
use crate::cluster::solo::{Restored, SoloLimits, Write};
use crate::model::Record;
use crate::store::disk::OsDisk;
use crate::store::log::{self, Options, Reader};
use crate::store::query::MAX_PAGE_RECORDS;
use crate::store::{Error, Log, Query, Store};

/// How often a full disk is looked at.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(200);

/// How often reading the log at start says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// One batch of a realm, to be written and synced.
struct Job {
    realm: Weak<EventLoop>,
    write: Write,
    token: SyncToken,
}

/// What the writer says to a realm.
#[derive(Clone, Copy, Debug)]
pub enum Written {
    /// The batch with this token is durable.
    Synced(SyncToken),
    /// The disk is full: nothing of the batch was written.
    DiskFull,
    /// There is room again.
    Room,
    /// A write or sync failed: what became of the batch is known after a restart only.
    Failed,
}

/// The history of all realms.
pub struct History {
    jobs: Sender<Job>,
    reader: Reader<OsDisk>,
}

/// What [`History::open`] opens.
pub struct Opened {
    /// For the realms.
    pub history: Arc<History>,
    /// Ends the process when it says why the disk cannot be trusted any more.
    pub failure: tokio::sync::oneshot::Receiver<String>,
}

impl History {
    /// Opens the log that `config` names and reads it. Call it where tokio runs.
    pub fn open(config: &Config) -> Result<Opened, String> {
        let path = &config.data_dir;
        let log = open_log(path, config).map_err(|error| format!("cannot open the history in {}: {error}", path.display()))?;
        tell_of_recovery(&log, path);
        let reader = log.reader().clone();
        let (jobs, waiting) = channel();
        let (told, news) = unbounded_channel();
        let (failed, failure) = tokio::sync::oneshot::channel();
        let writer = Writer { log, told, full: Vec::new(), failed: Some(failed), failpoint: Failpoint::named() };
        std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(|error| format!("cannot start a thread: {error}; raise the limit of processes (ulimit -u)"))?;
        tokio::spawn(tell(news));
        Ok(Opened { history: Arc::new(History { jobs, reader }), failure })
    }

    /// The realms that have a history.
    pub fn realms(&self) -> Vec<Arc<str>> {
        self.reader.realms()
    }

    /// Hands every record of a realm to `handle`, in the order of ids; what its pipeline goes on from.
    pub fn replay(&self, realm: &Arc<str>, mut handle: impl FnMut(&Record)) -> Result<Restored, Error> {
        let mut restored = Restored::new(SoloLimits::default().seen);
        let mut query = Query { limit: MAX_PAGE_RECORDS, ..Query::new(realm.clone()) };
        let mut told = Instant::now();
        loop {
            let page = self.reader.read(&query)?;
            for record in &page.records {
                if restored.handle_record(record).is_err() {
                    let file = format!("realm {realm}");
                    return Err(Error::Corrupt { file, offset: record.id.value(), what: "a record is missing" });
                }
                handle(record);
            }
            if page.is_end {
                return Ok(restored);
            }
            query = query.behind(&page);
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                let at = page.cursor.map_or(0, |id| id.value());
                tracing::info!("reading the history of realm {realm}: {at} records");
            }
        }
    }

    /// A reader of everything that is durable, for any thread.
    pub fn reader(&self) -> &Reader<OsDisk> {
        &self.reader
    }

    /// Has a batch of `realm` written and synced; `EventLoop::tell_written` is told.
    pub fn write(&self, realm: Weak<EventLoop>, write: Write, token: SyncToken) {
        // Where the writer has ended the process ends too.
        self.jobs.send(Job { realm, write, token }).ok();
    }
}

fn open_log(path: &Path, config: &Config) -> Result<Log<OsDisk>, Error> {
    let log_config = log::Config { durability: config.durability, ..log::Config::default() };
    let options = Options { new_identity: *uuid::Uuid::new_v4().as_bytes(), ..Options::default() };
    Log::open_at(path, log_config, options)
}

fn tell_of_recovery(log: &Log<OsDisk>, path: &Path) {
    let recovery = log.recovery();
    if let Some(torn) = &recovery.torn {
        let (file, kept_as) = (&torn.file, &torn.kept_as);
        let bytes = torn.bytes;
        tracing::warn!(file, bytes, kept_as, "cut an unfinished write off the history in {}", path.display());
    }
    for file in &recovery.rebuilt {
        tracing::warn!(file, "made a damaged index anew in {}", path.display());
    }
}

/// The thread that writes.
struct Writer {
    log: Log<OsDisk>,
    told: UnboundedSender<(Weak<EventLoop>, Written)>,
    /// Realms that wait for room.
    full: Vec<Weak<EventLoop>>,
    failed: Option<tokio::sync::oneshot::Sender<String>>,
    failpoint: Failpoint,
}

/// Where a debug build aborts: at the n-th passage of the point that the environment names, as in `FAILPOINT=after_sync:7`.
struct Failpoint(Option<(String, u32)>);

impl Failpoint {
    fn named() -> Self {
        let text = std::env::var("FAILPOINT").ok().filter(|_| cfg!(debug_assertions));
        let parts = text.as_deref().and_then(|text| text.split_once(':'));
        Failpoint(parts.and_then(|(point, passages)| Some((point.to_owned(), passages.parse().ok()?))))
    }

    fn pass(&mut self, point: &str) {
        if let Some((_, left)) = self.0.as_mut().filter(|(named, _)| named == point) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                std::process::abort();
            }
        }
    }
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Job>) {
        loop {
            let first = match self.full.is_empty() {
                true => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => waiting.recv_timeout(LOOK_FOR_ROOM),
            };
            match first {
                Ok(job) => self.write_all(job, waiting),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !self.full.is_empty() && self.log.has_room() {
                for realm in std::mem::take(&mut self.full) {
                    self.told.send((realm, Written::Room)).ok();
                }
            }
        }
    }

    /// Everything that waits, and one sync for it.
    fn write_all(&mut self, first: Job, waiting: &Receiver<Job>) {
        let mut written = Vec::new();
        for job in std::iter::once(first).chain(waiting.try_iter()) {
            match self.log.write(&job.write.items) {
                Ok(ids) if job.write.has(&ids) => written.push((job.realm, Written::Synced(job.token))),
                Ok(_) => self.fail(job.realm, "the log is not the one that was opened"),
                Err(Error::NoSpace) => {
                    tracing::error!("the disk is full: nothing is stored until there is room");
                    self.full.push(job.realm.clone());
                    self.told.send((job.realm, Written::DiskFull)).ok();
                }
                Err(error) => self.fail(job.realm, &error.to_string()),
            }
        }
        if written.is_empty() {
            return;
        }
        self.failpoint.pass("after_write");
        if let Err(error) = self.log.sync() {
            for (realm, _) in written {
                self.fail(realm, &error.to_string());
            }
            return;
        }
        self.failpoint.pass("after_sync");
        for news in written {
            self.told.send(news).ok();
        }
    }

    fn fail(&mut self, realm: Weak<EventLoop>, why: &str) {
        self.told.send((realm, Written::Failed)).ok();
        if let Some(failed) = self.failed.take() {
            failed.send(why.to_owned()).ok();
        }
    }
}

/// Brings the writer's news to the realms.
async fn tell(mut news: UnboundedReceiver<(Weak<EventLoop>, Written)>) {
    while let Some((realm, written)) = news.recv().await {
        if let Some(realm) = realm.upgrade() {
            realm.tell_written(written);
        }
    }
}
