//! The counts and the resources between two points in time while a load runs.
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::process::{Router, ThreadTimes};
use super::run::{PROGRESS, Run, TICK, Timing, locked, progress};
use crate::command_line::output::grouped;

/// The load of one thread of the generator.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(super) struct ThreadUse {
    /// Its work.
    pub role: &'static str,
    /// Share of the time that it ran on a processor, 0 to 1.
    pub busy: f64,
    /// Share of the time that it waited for a processor, 0 to 1.
    pub starved: f64,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// The time that it took to open all connections.
    pub opening_s: f64,
    /// The time that was measured.
    pub seconds: f64,
    /// Sent in that time.
    pub sent: u64,
    /// Received in that time.
    pub received: u64,
    /// Processor time of the router in that time, where it can be seen.
    pub router_cpu_s: Option<f64>,
    /// Memory of the router at the end of that time.
    pub router_rss_bytes: Option<u64>,
    /// When senders were let stop, counted from the start.
    pub stopped_after: Duration,
    /// Sent in the whole run.
    pub sent_in_all: u64,
    /// Received in the whole run.
    pub received_in_all: u64,
    /// Messages that should have been received in the whole run.
    pub expected_in_all: u64,
    /// Received again or out of order, in the whole run.
    pub repeated: u64,
    /// Threads of the generator.
    pub threads: Vec<ThreadUse>,
    /// The durations that tasks have recorded.
    pub latencies: Histogram,
}

struct Snapshot {
    at: Instant,
    sent: u64,
    received: u64,
    cpu_s: Option<f64>,
    threads: Vec<(&'static str, Option<ThreadTimes>)>,
}

impl Snapshot {
    fn take(run: &Run, router: Option<&Router>) -> Self {
        Snapshot {
            at: Instant::now(),
            sent: run.sent.sum(),
            received: run.received.sum(),
            cpu_s: router.and_then(Router::cpu_s),
            threads: locked(&run.threads).iter().map(|(role, thread)| (*role, thread.times())).collect(),
        }
    }
}

/// Lets a run that has started go on for as long as `timing` says, and ends it.
pub(super) fn measure(
    run: &Run,
    timing: Timing,
    router: Option<&Router>,
    unit: &str,
    expected: &dyn Fn(&Run) -> u64,
) -> Result<Measured, String> {
    watch_progress(run, Instant::now() + timing.warm_up, router, "")?;
    let begin = Snapshot::take(run, router);
    watch_progress(run, begin.at + timing.duration, router, unit)?;
    let end = Snapshot::take(run, router);
    let router_rss_bytes = router.and_then(Router::rss_bytes);
    run.stop();
    drain(run, timing.drain, expected)?;
    let seconds = (end.at - begin.at).as_secs_f64();
    let used = |((role, before), (_, after)): (&(&'static str, _), &(_, _))| {
        let (before, after): (ThreadTimes, ThreadTimes) = Option::zip(*before, *after)?;
        let busy = (after.running_s - before.running_s) / seconds;
        Some(ThreadUse { role, busy, starved: (after.waiting_s - before.waiting_s) / seconds })
    };
    Ok(Measured {
        opening_s: 0.0,
        seconds,
        sent: end.sent - begin.sent,
        received: end.received - begin.received,
        router_cpu_s: begin.cpu_s.zip(end.cpu_s).map(|(before, after)| after - before),
        router_rss_bytes,
        stopped_after: run.stopped_after().unwrap_or_default(),
        sent_in_all: run.sent.sum(),
        received_in_all: run.received.sum(),
        expected_in_all: expected(run),
        repeated: run.repeated.load(Ordering::SeqCst),
        threads: begin.threads.iter().zip(&end.threads).filter_map(used).collect(),
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
        let next = last.at + PROGRESS;
        std::thread::sleep(next.min(end).saturating_duration_since(now).min(Duration::from_millis(50)));
        run.check()?;
        if Instant::now() >= next && !unit.is_empty() {
            let current = Snapshot::take(run, router);
            let seconds = (current.at - last.at).as_secs_f64();
            let per_second = |count: u64| grouped((count as f64 / seconds) as u64);
            let cpu = current.cpu_s.zip(last.cpu_s).map_or(String::new(), |(now, before)| {
                format!(", router {:.0} % of a processor", (now - before) / seconds * 100.0)
            });
            progress(&format!(
                "  {:3.0} s  {:>11}/s sent  {:>11}/s {unit}{cpu}",
                (current.at - start).as_secs_f64(),
                per_second(current.sent - last.sent),
                per_second(current.received - last.received)
            ));
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
