//! Runs the tasks of a workload on threads of their own through its phases, and measures the time between.
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::credit::Counters;
use super::histogram::Histogram;
use super::link::{Link, SCRATCH_BYTES, Scratch};
use super::process::{Router, Thread, ThreadTimes};
use super::target::Target;

/// Connections that one thread opens at the same time.
const OPENING: usize = 64;
/// How long nothing may happen while connections are opened.
const OPEN_PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(2);

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
    stopping: AtomicBool,
    ready: AtomicUsize,
    sending: AtomicUsize,
    failure: Mutex<Option<String>>,
    epoch: OnceLock<Instant>,
    latencies: Mutex<Vec<Arc<Mutex<Histogram>>>>,
    threads: Mutex<Vec<(&'static str, Thread)>>,
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
            stopping: AtomicBool::new(false),
            ready: AtomicUsize::new(0),
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

    /// True once senders shall stop.
    #[inline]
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
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

    fn check(&self) -> Result<(), String> {
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
    /// Opens a connection when it is its turn.
    pub(super) async fn open(&self, target: &Target, client: &str, from: Option<IpAddr>) -> Result<Link, String> {
        let _turn = self.opening.acquire().await.map_err(|error| error.to_string())?;
        Link::open(target, client, from).await
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

/// How busy one thread of the generator was.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(super) struct ThreadUse {
    /// What it did.
    pub role: &'static str,
    /// Share of the time that it ran on a processor, 0 to 1.
    pub busy: f64,
    /// Share of the time that it waited for a processor, 0 to 1.
    pub starved: f64,
}

/// What came out.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// How long it took to open all connections.
    pub opening_s: f64,
    /// The time that was measured.
    pub seconds: f64,
    /// Sent, acknowledged and received in that time.
    pub sent: u64,
    /// See `sent`.
    pub acknowledged: u64,
    /// See `sent`.
    pub received: u64,
    /// Processor time of the router in that time, where it can be seen.
    pub router_cpu_s: Option<f64>,
    /// Memory of the router at the end of that time.
    pub router_rss_bytes: Option<u64>,
    /// Received in the whole run.
    pub received_in_all: u64,
    /// What should have been received in the whole run.
    pub expected_in_all: u64,
    /// Received again or out of order, in the whole run.
    pub repeated: u64,
    /// Threads of the generator.
    pub threads: Vec<ThreadUse>,
    /// What tasks have recorded.
    pub latencies: Histogram,
}

struct Snapshot {
    at: Instant,
    sent: u64,
    acknowledged: u64,
    received: u64,
    cpu_s: Option<f64>,
    threads: Vec<(&'static str, ThreadTimes)>,
}

impl Snapshot {
    fn take(run: &Run, router: Option<&Router>) -> Self {
        Snapshot {
            at: Instant::now(),
            sent: run.sent.sum(),
            acknowledged: run.acknowledged.sum(),
            received: run.received.sum(),
            cpu_s: router.map(Router::cpu_s),
            threads: locked(&run.threads).iter().map(|(role, thread)| (*role, thread.times())).collect(),
        }
    }
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
        let opening = Instant::now();
        let threads: Vec<_> = self.groups.into_iter().flat_map(|group| spawn(&run, group)).collect();
        let mut opening_s = 0.0;
        let outcome = wait_until_ready(&run, tasks).and_then(|()| {
            opening_s = opening.elapsed().as_secs_f64();
            run.epoch();
            run.phase.send_replace(Phase::Running);
            measure(&run, timing, router, if quiet { "" } else { self.unit }, &self.expected)
        });
        run.stopping.store(true, Ordering::SeqCst);
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
        let run = Arc::clone(run);
        std::thread::spawn(move || {
            if let Some(thread) = Thread::current() {
                locked(&run.threads).push((group.role, thread));
            }
            work(&run, share);
        })
    };
    shares.into_iter().map(work_on).collect()
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

fn wait_until_ready(run: &Run, tasks: usize) -> Result<(), String> {
    let mut seen = 0;
    let mut since = Instant::now();
    while seen < tasks {
        std::thread::sleep(TICK);
        run.check()?;
        let ready = run.ready.load(Ordering::SeqCst);
        if ready > seen {
            (seen, since) = (ready, Instant::now());
        } else if since.elapsed() > OPEN_PATIENCE {
            return Err(format!("only {seen} of {tasks} connections are ready, and no more for {OPEN_PATIENCE:?}"));
        }
    }
    Ok(())
}

fn measure(
    run: &Run,
    timing: Timing,
    router: Option<&Router>,
    unit: &str,
    expected: &dyn Fn(&Run) -> u64,
) -> Result<Measured, String> {
    std::thread::sleep(timing.warm_up);
    let begin = Snapshot::take(run, router);
    watch_progress(run, begin.at + timing.duration, router, unit)?;
    let end = Snapshot::take(run, router);
    let router_rss_bytes = router.map(Router::rss_bytes);
    run.stopping.store(true, Ordering::SeqCst);
    drain(run, timing.drain, expected)?;
    let seconds = (end.at - begin.at).as_secs_f64();
    let used = |(before, after): (&(&'static str, ThreadTimes), &(&'static str, ThreadTimes))| ThreadUse {
        role: after.0,
        busy: (after.1.running_s - before.1.running_s) / seconds,
        starved: (after.1.waiting_s - before.1.waiting_s) / seconds,
    };
    Ok(Measured {
        opening_s: 0.0,
        seconds,
        sent: end.sent - begin.sent,
        acknowledged: end.acknowledged - begin.acknowledged,
        received: end.received - begin.received,
        router_cpu_s: begin.cpu_s.zip(end.cpu_s).map(|(before, after)| after - before),
        router_rss_bytes,
        received_in_all: run.received.sum(),
        expected_in_all: expected(run),
        repeated: run.repeated.load(Ordering::SeqCst),
        threads: begin.threads.iter().zip(&end.threads).map(used).collect(),
        latencies: Histogram::default(),
    })
}

/// Sleeps until `end`, and says every second how it goes (unless `unit` is empty).
fn watch_progress(run: &Run, end: Instant, router: Option<&Router>, unit: &str) -> Result<(), String> {
    let start = Instant::now();
    let mut last = Snapshot::take(run, router);
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(());
        }
        let next = last.at + Duration::from_secs(1);
        std::thread::sleep(next.min(end).saturating_duration_since(now).min(Duration::from_millis(50)));
        run.check()?;
        if Instant::now() >= next && !unit.is_empty() {
            let current = Snapshot::take(run, router);
            let seconds = (current.at - last.at).as_secs_f64();
            let per_second = |count: u64| super::report::grouped((count as f64 / seconds) as u64);
            let cpu = current.cpu_s.zip(last.cpu_s).map_or(String::new(), |(now, before)| {
                format!(", router {:.0} % of a processor", (now - before) / seconds * 100.0)
            });
            eprintln!(
                "  {:3.0} s  {:>11}/s sent  {:>11}/s {unit}{cpu}",
                (current.at - start).as_secs_f64(),
                per_second(current.sent - last.sent),
                per_second(current.received - last.received)
            );
            last = current;
        }
    }
}

/// Waits until all senders have finished and all is received; gives up when nothing happens any more.
fn drain(run: &Run, patience: Duration, expected: &dyn Fn(&Run) -> u64) -> Result<(), String> {
    let mut seen = (0, 0);
    let mut since = Instant::now();
    loop {
        run.check()?;
        let received = run.received.sum();
        if run.senders_left() == 0 && received >= expected(run) {
            return Ok(());
        }
        let state = (received, run.acknowledged.sum());
        if state != seen {
            (seen, since) = (state, Instant::now());
        } else if since.elapsed() > patience {
            return Ok(());
        }
        std::thread::sleep(TICK);
    }
}
