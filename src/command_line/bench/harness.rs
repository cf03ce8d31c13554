//! Runs the tasks of a workload on threads of their own through its phases, and measures the time between.
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::link::{Link, SCRATCH_BYTES, Scratch};
use super::measure::{self, Measured};
use super::open;
use super::process::{Router, Thread, open_files_limit};
use super::run::{PROGRESS, Phase, Run, TICK, Timing, locked, progress};
use super::target::Target;

/// Connections that one thread opens at the same time.
const OPENING: usize = 64;
/// Longest time without any progress while connections are opened.
const OPEN_PATIENCE: Duration = Duration::from_secs(20);
/// Files that the load generator needs besides its connections.
const OTHER_FILES: usize = 64;
/// The surroundings of a task.
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
        let link = open::open(target, &format!("{}-{client}", self.run.name), from).await?;
        self.run.note_step();
        Ok(link)
    }

    /// Says that this task is ready, and waits until all are.
    pub(super) async fn start(&self) {
        self.run.note_ready();
        self.run.reached(Phase::Running).await;
    }

    /// Waits until the run is over.
    pub(super) async fn over(&self) {
        self.run.reached(Phase::Over).await;
    }
}

/// The work of one connection.
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
    /// Their name, for people.
    pub role: &'static str,
    /// On how many threads.
    pub threads: usize,
    /// The tasks.
    pub tasks: Vec<Task>,
}

/// A workload that is ready to run.
pub(super) struct Load {
    /// The state that its threads share.
    pub run: Arc<Run>,
    /// Its tasks.
    pub groups: Vec<Group>,
    /// The messages that have to be received in all, given those that were sent.
    pub expected: Box<dyn Fn(&Run) -> u64>,
    /// The unit that is counted, for people.
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
            run.enter(Phase::Running);
            measure::measure(&run, timing, router, if quiet { "" } else { self.unit }, &self.expected)
        });
        run.stop();
        run.enter(Phase::Over);
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
        let (ready, steps) = run.readiness();
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
