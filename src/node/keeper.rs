//! Keeps the history in its bounds: writes a snapshot when the log has outgrown the one before, and removes what no rule asks to keep.
//!
//! A thread of its own looks once in a while. The thread reads and folds beside the writer, which only begins and ends a job.
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::fold::{self, Pace};
use super::writer::{Job, ask};
use crate::model::Limits;
use crate::net::clock::now_ms;
use crate::store::disk::OsDisk;
use crate::store::log::Reader;
use crate::store::{Error, Retention};

/// The time between two looks for segments that are sealed since the last time, and are to be sealed.
const LOOK: Duration = Duration::from_secs(1);

/// Looks between two that look for old segments too.
const LOOKS: u32 = 30;

/// Sealed segments worth a snapshot, however small the one before is, in bytes.
const MIN_GROWTH_BYTES: u64 = 1024 * 1024 * 1024;

/// The rules and bounds that the thread goes by.
pub struct Keeper {
    /// The log.
    pub reader: Reader<OsDisk>,
    /// Its writer.
    pub jobs: Sender<Job>,
    /// The rules for how long publications are kept.
    pub rules: Vec<Retention>,
    /// Bounds of the realms.
    pub limits: Limits,
}

impl Keeper {
    /// Looks after the log until `stop` has no sender any more.
    pub fn run(self, stop: &Receiver<()>) {
        let (mut sealed, mut looks) = (0, 0);
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(LOOK) {
            looks += 1;
            ask(&self.jobs, |answer| Job::SealOld(now_ms(), answer)).unwrap_or(Ok(())).unwrap_or_else(|error| tell(&error));
            let now_sealed = self.reader.extent().sealed_segments;
            if now_sealed == 0 || (now_sealed == sealed && looks < LOOKS) {
                continue;
            }
            looks = 0;
            self.look().unwrap_or_else(|error| tell(&error));
            sealed = self.reader.extent().sealed_segments;
        }
    }

    fn look(&self) -> Result<(), Error> {
        let extent = self.reader.extent();
        let mut plan = self.reader.plan_retention(&self.rules, now_ms())?;
        let has_grown = extent.uncarried_bytes > extent.snapshot_bytes.max(MIN_GROWTH_BYTES);
        let pace = if plan.held_up() > 0 { Some(Pace::Brisk) } else { has_grown.then_some(Pace::Easy) };
        if let Some(pace) = pace {
            self.snapshot(pace)?;
            plan = self.reader.plan_retention(&self.rules, now_ms())?;
        }
        if plan.trimmable() > 0 {
            let removed = ask(&self.jobs, |answer| Job::Trim(plan.first_kept, answer)).unwrap_or(Ok(0))?;
            tracing::info!("removed {removed} segments of the history that no rule asks to keep");
        }
        Ok(())
    }

    /// Replaces the snapshot by one as of the last sealed segment.
    fn snapshot(&self, pace: Pace) -> Result<(), Error> {
        let Some(job) = ask(&self.jobs, Job::StartSnapshot).transpose()? else { return Ok(()) };
        let Some(done) = fold::write(job, &self.limits, pace)? else { return Ok(()) };
        ask(&self.jobs, |answer| Job::FinishSnapshot(done, answer)).unwrap_or(Ok(()))
    }
}

fn tell(error: &Error) {
    match error {
        Error::NoSpace => tracing::warn!("there is no room to make room in the history: free some on its disk"),
        error => tracing::error!("cannot trim the history: {error}"),
    }
}
