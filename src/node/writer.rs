//! The one thread that writes the log, for all realms: it takes what waits, writes it, syncs once, and says so.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::post::{Post, Written};
use crate::cluster::segment::SyncToken;
use crate::cluster::solo::Write;
use crate::store::disk::OsDisk;
use crate::store::log::{SnapshotDone, SnapshotJob};
use crate::store::{Error, Log, Store};

/// The time between two looks at a full disk.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(200);

/// One thing for the thread to do.
pub enum Job {
    /// A batch of a realm, to be written and synced; the realm is told.
    Write(Arc<Post>, Write, SyncToken),
    /// Begin a snapshot.
    StartSnapshot(Sender<Result<SnapshotJob<OsDisk>, Error>>),
    /// Put a snapshot in the place of the one before.
    FinishSnapshot(SnapshotDone<OsDisk>, Sender<Result<(), Error>>),
    /// Seal the segment if it is old by this time, in milliseconds since the Unix epoch.
    SealOld(u64, Sender<Result<(), Error>>),
    /// Remove what stands before this segment, as far as the snapshot stands for it; how many segments went.
    Trim(u64, Sender<Result<usize, Error>>),
}

/// Has the thread do something and waits for it; `None` where the thread has ended.
pub fn ask<T>(jobs: &Sender<Job>, job: impl FnOnce(Sender<T>) -> Job) -> Option<T> {
    let (answer, answered) = channel();
    jobs.send(job(answer)).ok()?;
    answered.recv().ok()
}

/// The thread.
pub struct Writer {
    log: Log<OsDisk>,
    told: UnboundedSender<(Arc<Post>, Written)>,
    /// Realms that wait for room.
    full: Vec<Arc<Post>>,
    /// The disk is full: true while any of them waits.
    is_full: Arc<AtomicBool>,
    /// Says how much room there is.
    room: Box<dyn Fn() -> String + Send>,
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

/// Batches that are written and not yet synced.
type Unsynced = Vec<(Arc<Post>, Written)>;

impl Writer {
    /// Of `log`: tells realms by `told`, and why the disk cannot be trusted any more by `failed`. While the disk is full `is_full` is
    /// set, and the log has what `room` says.
    pub fn new(
        log: Log<OsDisk>,
        told: UnboundedSender<(Arc<Post>, Written)>,
        failed: tokio::sync::oneshot::Sender<String>,
        is_full: Arc<AtomicBool>,
        room: impl Fn() -> String + Send + 'static,
    ) -> Self {
        let (full, failpoint) = (Vec::new(), Failpoint::named());
        Writer { log, told, full, is_full, room: Box::new(room), failed: Some(failed), failpoint }
    }

    /// Works until nobody can ask for anything any more.
    pub fn run(mut self, waiting: &Receiver<Job>) {
        loop {
            let first = match self.full.is_empty() {
                true => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => waiting.recv_timeout(LOOK_FOR_ROOM),
            };
            match first {
                Ok(job) => self.work(job, waiting),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !self.full.is_empty() && self.log.has_room() {
                self.is_full.store(false, Ordering::Relaxed);
                tracing::info!("there is room on the disk of the history again: everything is stored");
                for realm in std::mem::take(&mut self.full) {
                    self.told.send((realm, Written::Room)).ok();
                }
            }
        }
    }

    /// Everything that waits, and one sync for what is written.
    fn work(&mut self, first: Job, waiting: &Receiver<Job>) {
        let mut unsynced = Unsynced::new();
        for job in std::iter::once(first).chain(waiting.try_iter()) {
            match job {
                Job::Write(realm, write, token) => self.write(realm, &write, token, &mut unsynced),
                Job::StartSnapshot(answer) => drop(answer.send(self.log.start_snapshot())),
                Job::FinishSnapshot(done, answer) => drop(answer.send(self.log.finish_snapshot(done))),
                Job::SealOld(now_ms, answer) => drop(answer.send(self.log.seal_old(now_ms))),
                Job::Trim(first_kept, answer) => drop(answer.send(self.log.trim_before(first_kept))),
            }
        }
        if !unsynced.is_empty() {
            self.sync(unsynced);
        }
    }

    fn write(&mut self, realm: Arc<Post>, write: &Write, token: SyncToken, unsynced: &mut Unsynced) {
        match self.log.write(&write.items) {
            Ok(ids) if write.has(&ids) => unsynced.push((realm, Written::Synced(token))),
            Ok(_) => self.fail(realm, "the log is not the one that was opened"),
            Err(Error::NoSpace) => {
                if !self.is_full.swap(true, Ordering::Relaxed) {
                    tracing::error!("nothing can be stored until there is room: {}; free some space", (self.room)());
                }
                self.full.push(realm.clone());
                self.told.send((realm, Written::DiskFull)).ok();
            }
            Err(error) => self.fail(realm, &error.to_string()),
        }
    }

    fn sync(&mut self, written: Unsynced) {
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

    fn fail(&mut self, realm: Arc<Post>, why: &str) {
        self.told.send((realm, Written::Failed)).ok();
        if let Some(failed) = self.failed.take() {
            failed.send(why.to_owned()).ok();
        }
    }
}
