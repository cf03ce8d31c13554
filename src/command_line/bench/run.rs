//! One run of a workload: what its threads share, and which phase it is in.
use std::io::Write;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::credit::Counters;
use super::histogram::Histogram;
use super::process::Thread;

/// The time between two reports of progress.
pub(super) const PROGRESS: Duration = Duration::from_secs(1);
/// The time between two looks of the main thread at the state of the run.
pub(super) const TICK: Duration = Duration::from_millis(2);

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Phase {
    /// Connections are opened.
    Opening,
    /// Tasks do what they do.
    Running,
    /// Tasks end.
    Over,
}

/// The state that all threads of one run share.
#[derive(Debug)]
pub(super) struct Run {
    phase: watch::Sender<Phase>,
    /// Its name, which no other run has, for client identifiers.
    pub name: String,
    stopped_after: OnceLock<Duration>,
    ready: AtomicUsize,
    steps: AtomicU64,
    sending: AtomicUsize,
    failure: Mutex<Option<String>>,
    epoch: OnceLock<Instant>,
    latencies: Mutex<Vec<Arc<Mutex<Histogram>>>>,
    /// The threads that work on it, and what they do.
    pub threads: Mutex<Vec<(&'static str, Thread)>>,
    /// Messages that publishers have sent, calls that callers have made.
    pub sent: Counters,
    /// Of these, acknowledged.
    pub acknowledged: Counters,
    /// Messages that subscribers have received, results that callers have received.
    pub received: Counters,
    /// Messages that came again or behind later ones.
    pub repeated: AtomicU64,
}

impl Run {
    /// A run with so many senders and receivers.
    pub(super) fn new(senders: usize, receivers: usize) -> Arc<Self> {
        Arc::new(Run {
            phase: watch::Sender::new(Phase::Opening),
            name: unique("b"),
            stopped_after: OnceLock::new(),
            ready: AtomicUsize::new(0),
            steps: AtomicU64::new(0),
            sending: AtomicUsize::new(senders),
            failure: Mutex::new(None),
            epoch: OnceLock::new(),
            latencies: Mutex::default(),
            threads: Mutex::default(),
            sent: Counters::new(senders),
            acknowledged: Counters::new(senders),
            received: Counters::new(receivers),
            repeated: AtomicU64::new(0),
        })
    }

    /// Lets senders stop.
    pub(super) fn stop(&self) {
        self.stopped_after.get_or_init(|| self.epoch().elapsed());
    }

    /// When senders were let stop, counted from the start; `None` before.
    pub(super) fn stopped_after(&self) -> Option<Duration> {
        self.stopped_after.get().copied()
    }

    /// Enters this phase.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// A task is ready to start.
    pub(super) fn note_ready(&self) {
        self.ready.fetch_add(1, Ordering::SeqCst);
    }

    /// Tasks that are ready, and steps towards that: connections that are open, subscriptions.
    pub(super) fn readiness(&self) -> (usize, u64) {
        (self.ready.load(Ordering::SeqCst), self.steps.load(Ordering::Relaxed))
    }

    /// Something has happened that takes time before the run starts.
    pub(super) fn note_step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// True once senders shall stop.
    #[inline]
    pub(super) fn is_stopping(&self) -> bool {
        self.stopped_after.get().is_some()
    }

    /// When the run has started.
    pub(super) fn epoch(&self) -> Instant {
        *self.epoch.get_or_init(Instant::now)
    }

    /// A sender has sent its last message.
    pub(super) fn finish_sending(&self) {
        self.sending.fetch_sub(1, Ordering::SeqCst);
    }

    /// The senders that have not finished.
    pub(super) fn senders_left(&self) -> usize {
        self.sending.load(Ordering::SeqCst)
    }

    /// A histogram for one task; all of them count together at the end.
    pub(super) fn histogram(&self) -> Arc<Mutex<Histogram>> {
        let histogram = Arc::default();
        locked(&self.latencies).push(Arc::clone(&histogram));
        histogram
    }

    /// The durations that all tasks have recorded.
    pub(super) fn merged_latencies(&self) -> Histogram {
        let mut merged = Histogram::default();
        for histogram in locked(&self.latencies).iter() {
            merged.merge(&locked(histogram));
        }
        merged
    }

    /// A task has failed; the first error is the run's.
    pub(super) fn fail(&self, error: String) {
        locked(&self.failure).get_or_insert(error);
    }

    /// The error of a task, if one has failed.
    pub(super) fn check(&self) -> Result<(), String> {
        locked(&self.failure).clone().map_or(Ok(()), Err)
    }

    /// Waits for this phase.
    pub(super) async fn reached(&self, phase: Phase) {
        // The sender lives as long as `self`.
        let _ = self.phase.subscribe().wait_for(|current| *current >= phase).await;
    }
}

/// A lock that does not mind that a thread has panicked.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The length of each phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Before anything is measured.
    pub warm_up: Duration,
    /// The time that is measured.
    pub duration: Duration,
    /// The time without any arrival after which missing messages count as lost.
    pub drain: Duration,
}

/// Says how it goes. Where nobody reads that, the run goes on all the same.
pub(super) fn progress(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

/// A name under `base` that no other run of this machine uses.
pub(super) fn unique(base: &str) -> String {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    format!("{base}{:x}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed))
}
