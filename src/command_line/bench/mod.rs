//! `corsac bench`: the load generator for any MQTT or WAMP router.
mod arguments;
mod connections;
mod credit;
mod disk;
mod flight;
mod harness;
mod histogram;
mod inlet;
mod link;
mod measure;
mod open;
mod process;
mod pubsub;
mod report;
mod retained;
mod rpc;
mod stamp;
mod target;
mod template;
mod versus;

use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use corsac::model::Qos;

pub use arguments::Bench;
use arguments::{Common, ConnectArguments, IdleArguments, PubsubArguments, RetainedArguments, RpcArguments, Work};
use process::Router;
use report::Outcome;
use target::Target;

/// How long a disk is measured.
const DISK_TIME: Duration = Duration::from_secs(1);

/// Runs the workload, as often as asked for, and prints what it came to.
pub fn bench(bench: &Bench) -> Result<(), String> {
    match &bench.work {
        Work::Pubsub(arguments) => bench_pubsub(arguments, None),
        Work::Latency(arguments) => bench_pubsub(&arguments.pubsub, Some(arguments.rate)),
        Work::Rpc(arguments) => bench_rpc(arguments),
        Work::Connect(arguments) => bench_connect(arguments),
        Work::Idle(arguments) => bench_idle(arguments),
        Work::Retained(arguments) => bench_retained(arguments),
    }
}

/// A router in a comparison.
struct Side {
    target: Target,
    pid: Option<u32>,
}

impl Side {
    /// Its processes, looked up for each round: it may have been started again.
    fn router(&self) -> Option<Router> {
        Router::find(self.target.address, self.pid)
    }
}

fn bench_pubsub(arguments: &PubsubArguments, rate: Option<f64>) -> Result<(), String> {
    let common = &arguments.common;
    arguments.shape(rate, String::new())?;
    let subscribe_at = arguments.subscribe_at.as_deref().map(|url| common.target(url)).transpose()?;
    let vs_subscribe_at = arguments.vs_subscribe_at.as_deref().map(|url| common.target(url)).transpose()?;
    rounds(common, |side, is_second| {
        let shape = arguments.shape(rate, unique(&arguments.topic))?;
        let subscribe_at = if is_second { &vs_subscribe_at } else { &subscribe_at };
        let subscribe_at = subscribe_at.as_ref().unwrap_or(&side.target);
        let router = side.router();
        let measured = pubsub::load(&shape, &side.target, subscribe_at).drive(common.timing(), router.as_ref(), common.quiet)?;
        let unit = if shape.subscribers == 0 { "publications acknowledged" } else { "messages received" };
        let work = describe(arguments, rate);
        let mut outcome = Outcome::of(&side.target, &work, unit, measured.received, &measured, router.as_ref());
        if *subscribe_at != side.target {
            outcome.protocol = format!("{} to {}", outcome.protocol, subscribe_at.describe());
        }
        Ok(outcome)
    })
}

fn bench_rpc(arguments: &RpcArguments) -> Result<(), String> {
    let common = &arguments.common;
    let serve_at = arguments.serve_at.as_deref().map(|url| common.target(url)).transpose()?;
    let vs_serve_at = arguments.vs_serve_at.as_deref().map(|url| common.target(url)).transpose()?;
    let RpcArguments { callers, callees, window, size, .. } = arguments;
    let work = format!("calls, {callers} to {callees}, window {window}, {size} bytes");
    rounds(common, |side, is_second| {
        let calls = rpc::Calls {
            callers: *callers as usize,
            callees: *callees as usize,
            window: *window as usize,
            size: *size,
            plain: arguments.plain,
            threads: common.threads,
            warm_up: common.warm_up,
            procedure: unique("bench"),
        };
        let serve_at = if is_second { &vs_serve_at } else { &serve_at };
        let router = side.router();
        let load = rpc::load(&calls, &side.target, serve_at.as_ref().unwrap_or(&side.target))?;
        let measured = load.drive(common.timing(), router.as_ref(), common.quiet)?;
        Ok(Outcome::of(&side.target, &work, "results", measured.received, &measured, router.as_ref()))
    })
}

fn bench_connect(arguments: &ConnectArguments) -> Result<(), String> {
    let (common, parallel) = (&arguments.common, arguments.parallel as usize);
    let work = format!("connections opened and closed, {parallel} at a time");
    rounds(common, |side, _| {
        let router = side.router();
        let load = connections::connect(&side.target, parallel, common.threads, common.warm_up)?;
        let measured = load.drive(common.timing(), router.as_ref(), common.quiet)?;
        Ok(Outcome::of(&side.target, &work, "connections", measured.received, &measured, router.as_ref()))
    })
}

fn bench_idle(arguments: &IdleArguments) -> Result<(), String> {
    let (common, count, subscriptions) = (&arguments.common, arguments.connections, arguments.subscriptions);
    let work = format!("{count} idle connections with {subscriptions} subscriptions each");
    rounds(common, |side, _| {
        let router = side.router();
        let before = router.as_ref().map(Router::rss_bytes);
        let load = connections::idle(&side.target, count as usize, subscriptions, &unique("bench"), common.threads)?;
        let measured = load.drive(common.timing(), router.as_ref(), common.quiet)?;
        let outcome = Outcome::of(&side.target, &work, "connections opened", count, &measured, router.as_ref());
        let mut outcome = outcome.grown(before, measured.router_rss_bytes, count, "connection");
        outcome.per_second = count as f64 / measured.opening_s;
        Ok(outcome)
    })
}

fn bench_retained(arguments: &RetainedArguments) -> Result<(), String> {
    let RetainedArguments { common, messages, size, readers } = arguments;
    let work = format!("replays of {messages} retained messages of {size} bytes to {readers}");
    rounds(common, |side, _| {
        let values = retained::Values {
            count: *messages as usize,
            size: *size as usize,
            readers: *readers as usize,
            threads: common.threads,
            warm_up: common.warm_up,
            topic: unique("bench"),
        };
        let router = side.router();
        let before = router.as_ref().map(Router::rss_bytes);
        let measured = retained::load(&values, &side.target).drive(common.timing(), router.as_ref(), common.quiet)?;
        let outcome = Outcome::of(&side.target, &work, "retained messages", measured.received, &measured, router.as_ref());
        Ok(outcome.grown(before, measured.router_rss_bytes, *messages, "message"))
    })
}

fn describe(arguments: &PubsubArguments, rate: Option<f64>) -> String {
    let PubsubArguments { publishers, subscribers, topics, window, size, .. } = arguments;
    let topics = if *topics > 1 { format!(" on {topics} topics") } else { String::new() };
    let window = if arguments.qos == Qos::AtMostOnce { String::new() } else { format!(", window {window}") };
    let rate = rate.map_or(String::new(), |rate| format!(", {rate} messages/s"));
    format!("{publishers} to {subscribers}{topics}, QoS {}{window}, {size} bytes{rate}", arguments.qos.bits())
}

/// A name under `base` that no other run of this machine uses.
fn unique(base: &str) -> String {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    format!("{base}/{:x}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed))
}

/// Runs the rounds of one or two routers and prints them; `once` is told whether it is the second one's turn.
fn rounds(common: &Common, once: impl Fn(&Side, bool) -> Result<Outcome, String>) -> Result<(), String> {
    let a = Side { target: common.target(&common.url)?, pid: common.pid };
    let vs = common.vs.as_deref().map(|url| common.target(url)).transpose()?;
    let b = vs.map(|target| Side { target, pid: common.vs_pid });
    let rounds = common.rounds.unwrap_or(if b.is_some() { 5 } else { 1 }).max(1);
    let show = |side: &Side, is_second: bool, round: usize| {
        if !common.quiet {
            eprintln!("round {} of {rounds}: {}", round + 1, side.target.url);
        }
        let mut outcome = once(side, is_second)?;
        let disk = common.disk.as_deref().map(|directory| disk::syncs_per_second(directory, DISK_TIME));
        outcome.disk_syncs_per_second = disk.transpose()?;
        if !common.json {
            print(&outcome.text())?;
        }
        Ok(outcome)
    };
    let second = b.as_ref().map(|b| move |round| show(b, true, round));
    let comparison = versus::run(rounds, |round| show(&a, false, round), second)?;
    if common.json {
        let json = serde_json::to_string_pretty(&comparison).map_err(|error| error.to_string())?;
        return print(&(json + "\n"));
    }
    if rounds > 1 { print(&comparison.text()) } else { Ok(()) }
}

fn print(text: &str) -> Result<(), String> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that closed the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}
