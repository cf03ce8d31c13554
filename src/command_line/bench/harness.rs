//! Runs the tasks of a workload on threads of their own through its phases, and measures the time between.
use std::future::Future;
use std::io::Write;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::credit::Counters;
use super::histogram::Histogram;
use super::link::{Link, SCRATCH_BYTES, Scratch};
use super::measure::{self, Measured};
use super::process::{Router, Thread, open_files_limit};
use super::target::Target;

/// Connections that one thread opens at the same time.
const OPENING: usize = 64;
/// How long nothing may happen while connections are opened.
const OPEN_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is said how it goes.
pub(super) const PROGRESS: Duration = Duration::from_secs(1);
/// Files that the load generator needs besides its connections.
const OTHER_FILES: usize = 64;
/// How often the main thread looks how things stand.
pub(super) const TICK: Duration = Duration::from_millis(2);

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Opening,
    Running,
    Over,
}

/// What all threads of one run share.
#[derive(Debug)]
pub(super) struct Run {
    phase: watch::Sender<Phase>,
    /// Its name, which no other run has, for client identifiers.
    name: String,
    stopped_after: OnceLock<Duration>,
    ready: AtomicUsize,
    /// Steps towards being ready: connections that are open, subscriptions.
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

    /// How many senders have not finished.
    pub(super) fn senders_left(&self) -> usize {
        self.sending.load(Ordering::SeqCst)
    }

    /// A histogram for one task; all of them count together at the end.
    pub(super) fn histogram(&self) -> Arc<Mutex<Histogram>> {
        let histogram = Arc::default();
        locked(&self.latencies).push(Arc::clone(&histogram));
        histogram
    }

    fn merged_latencies(&self) -> Histogram {
        let mut merged = Histogram::default();
        for histogram in locked(&self.latencies).iter() {
            merged.merge(&locked(histogram));
        }
        merged
    }

    fn fail(&self, error: String) {
        locked(&self.failure).get_or_insert(error);
    }

    /// The error of a task, if one has failed.
    pub(super) fn check(&self) -> Result<(), String> {
        locked(&self.failure).clone().map_or(Ok(()), Err)
    }

    async fn reached(&self, phase: Phase) {
        // The sender lives as long as `self`.
        let _ = self.phase.subscribe().wait_for(|current| *current >= phase).await;
    }
}

/// A lock that does not mind that a thread has panicked.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What a task has around it.
#[derive(Clone)]
pub(super) struct Context {
    /// The run it belongs to.
    pub run: Arc<Run>,
    /// The buffer of its thread.
    pub scratch: Scratch,
    opening: Rc<Semaphore>,
}

impl Context {
    /// Opens a connection when it is its turn; `client` is to be unique in this run.
    pub(super) async fn open(&self, target: &Target, client: &str, from: Option<IpAddr>) -> Result<Link, String> {
        let _turn = self.opening.acquire().await.map_err(|error| error.to_string())?;
        self.open_now(target, client, from).await
    }

    /// Opens a connection at once.
    pub(super) async fn open_now(&self, target: &Target, client: &str, from: Option<IpAddr>) -> Result<Link, String> {
        // 23 characters are always allowed [MQTT-3.1.3-5].
        let link = Link::open(target, &format!("{}-{client}", self.run.name), from).await?;
        self.run.note_step();
        Ok(link)
    }

    /// Says that this task is ready, and waits until all are.
    pub(super) async fn start(&self) {
        self.run.ready.fetch_add(1, Ordering::SeqCst);
        self.run.reached(Phase::Running).await;
    }

    /// Waits until the run is over.
    pub(super) async fn over(&self) {
        self.run.reached(Phase::Over).await;
    }
}

/// What one connection does.
pub(super) type Task = Box<dyn FnOnce(Context) -> Pin<Box<dyn Future<Output = Result<(), String>>>> + Send>;

/// Makes a task of an asynchronous function.
pub(super) fn task<F>(work: impl FnOnce(Context) -> F + Send + 'static) -> Task
where
    F: Future<Output = Result<(), String>> + 'static,
{
    Box::new(move |context| Box::pin(work(context)))
}

/// Tasks that share threads.
pub(super) struct Group {
    /// What they are, for people.
    pub role: &'static str,
    /// On how many threads.
    pub threads: usize,
    /// The tasks.
    pub tasks: Vec<Task>,
}

/// How long each phase takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Before anything is measured.
    pub warm_up: Duration,
    /// What is measured.
    pub duration: Duration,
    /// How long nothing may arrive before what is missing is called lost.
    pub drain: Duration,
}

/// A workload that is ready to run.
pub(super) struct Load {
    /// What its threads share.
    pub run: Arc<Run>,
    /// Its tasks.
    pub groups: Vec<Group>,
    /// How much has to be received in all, given what was sent.
    pub expected: Box<dyn Fn(&Run) -> u64>,
    /// What is counted, for people.
    pub unit: &'static str,
}

impl Load {
    /// Runs it from the first connection to the last message.
    pub(super) fn drive(self, timing: Timing, router: Option<&Router>, quiet: bool) -> Result<Measured, String> {
        let run = self.run;
        let tasks = self.groups.iter().map(|group| group.tasks.len()).sum();
        check_open_files(tasks)?;
        let opening = Instant::now();
        let threads: Vec<_> = self.groups.into_iter().flat_map(|group| spawn(&run, group)).collect();
        let mut opening_s = 0.0;
        let outcome = wait_until_ready(&run, tasks, quiet).and_then(|()| {
            opening_s = opening.elapsed().as_secs_f64();
            run.epoch();
            run.phase.send_replace(Phase::Running);
            measure::measure(&run, timing, router, if quiet { "" } else { self.unit }, &self.expected)
        });
        run.stop();
        run.phase.send_replace(Phase::Over);
        for thread in threads {
            thread.join().map_err(|_| "a thread of the load generator has panicked")?;
        }
        run.check()?;
        Ok(Measured { opening_s, latencies: run.merged_latencies(), ..outcome? })
    }
}

fn spawn(run: &Arc<Run>, group: Group) -> Vec<std::thread::JoinHandle<()>> {
    let count = group.threads.clamp(1, group.tasks.len().max(1));
    let mut shares: Vec<Vec<Task>> = (0..count).map(|_| Vec::new()).collect();
    for (index, task) in group.tasks.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(index % count) {
            share.push(task);
        }
    }
    let work_on = |share: Vec<Task>| {
        let working = Arc::clone(run);
        let thread = std::thread::Builder::new().spawn(move || {
            if let Some(thread) = Thread::current() {
                locked(&working.threads).push((group.role, thread));
            }
            work(&working, share);
        });
        thread.map_err(|error| run.fail(format!("cannot start a thread: {error}; raise the limit of processes (ulimit -u)"))).ok()
    };
    shares.into_iter().filter_map(work_on).collect()
}

/// One thread: all its tasks until the run is over.
fn work(run: &Arc<Run>, tasks: Vec<Task>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return run.fail(format!("cannot start a thread: {error}")),
    };
    let local = tokio::task::LocalSet::new();
    let scratch = Rc::new(std::cell::RefCell::new(vec![0; SCRATCH_BYTES]));
    let context = Context { run: Arc::clone(run), scratch, opening: Rc::new(Semaphore::new(OPENING)) };
    for task in tasks {
        let work = task(context.clone());
        let run = Arc::clone(run);
        local.spawn_local(async move {
            if let Err(error) = work.await {
                run.fail(error);
            }
        });
    }
    local.block_on(&runtime, run.reached(Phase::Over));
}

fn wait_until_ready(run: &Run, tasks: usize, quiet: bool) -> Result<(), String> {
    let start = Instant::now();
    let (mut seen, mut since, mut said) = (0, start, start);
    loop {
        run.check()?;
        let (ready, steps) = (run.ready.load(Ordering::SeqCst), run.steps.load(Ordering::Relaxed));
        if ready >= tasks {
            return Ok(());
        }
        let done = steps + run.acknowledged.sum();
        if done > seen {
            (seen, since) = (done, Instant::now());
        } else if since.elapsed() > OPEN_PATIENCE {
            return Err(format!("only {ready} of {tasks} connections are ready, and nothing more happens for {OPEN_PATIENCE:?}"));
        }
        if said.elapsed() >= PROGRESS && !quiet {
            said = Instant::now();
            progress(&format!(
                "  {:3.0} s  {ready} of {tasks} connections are ready, after {done} steps",
                start.elapsed().as_secs_f64()
            ));
        }
        std::thread::sleep(TICK);
    }
}

/// Refuses more connections than files may be open.
fn check_open_files(connections: usize) -> Result<(), String> {
    let needed = connections + OTHER_FILES;
    match open_files_limit() {
        Some(limit) if limit < needed => Err(format!(
            "{connections} connections need as many open files, {limit} are allowed: ulimit -n {needed}, here and for the router"
        )),
        _ => Ok(()),
    }
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
