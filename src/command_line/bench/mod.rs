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
mod run;
mod stamp;
mod target;
mod template;
mod versus;

use std::io::{self, Write};
use std::time::Duration;

use clap::error::ErrorKind;
use corsac::model::Qos;

use super::output::grouped;
pub use arguments::Bench;
use arguments::{Common, ConnectArguments, IdleArguments, PubsubArguments, RetainedArguments, RpcArguments, Work};
use measure::Measured;
use process::Router;
use report::Outcome;
use run::{progress, unique};
use target::Target;

/// The time for which a disk is measured.
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
    /// Where the other half of the clients connect: subscribers, callees.
    other: Target,
    pid: Option<u32>,
}

impl Side {
    /// Its processes, looked up for each round: it may have been started again.
    fn router(&self) -> Option<Router> {
        let mut addresses = vec![self.target.address, self.other.address];
        addresses.dedup();
        Router::find(&addresses, self.pid)
    }

    /// Says so if the clients connect at two places.
    fn outcome(&self, work: &str, unit: &'static str, figure: u64, measured: &Measured, router: Option<&Router>) -> Outcome {
        let mut outcome = Outcome::of(&self.target, work, unit, figure, measured, router);
        if self.other != self.target {
            outcome.protocol = format!("{} to {} at {}", outcome.protocol, self.other.describe(), self.other.url);
        }
        outcome
    }
}

fn bench_pubsub(arguments: &PubsubArguments, rate: Option<f64>) -> Result<(), String> {
    let common = &arguments.common;
    or_usage(arguments.shape(rate, String::new()));
    let work = describe(arguments, rate);
    rounds(common, [&arguments.subscribe_at, &arguments.vs_subscribe_at], |side| {
        let shape = arguments.shape(rate, unique(&format!("{}/", arguments.topic)))?;
        let router = side.router();
        let load = pubsub::load(&shape, &side.target, &side.other);
        let measured = load.drive(common.timing(), router.as_ref(), common.quiet)?;
        let unit = if shape.subscribers == 0 { "publications acknowledged" } else { "messages received" };
        let mut outcome = side.outcome(&work, unit, measured.received, &measured, router.as_ref());
        if let Some(due) = shape.due_by(measured.stopped_after).filter(|due| measured.sent_in_all < *due) {
            let (sent, due) = (grouped(measured.sent_in_all), grouped(due));
            outcome.refuse(format!("the rate was not reached: {sent} of {due} messages that were due were sent"));
        }
        Ok(outcome)
    })
}

fn bench_rpc(arguments: &RpcArguments) -> Result<(), String> {
    let common = &arguments.common;
    let RpcArguments { callers, callees, window, size, .. } = arguments;
    let work = format!("calls, {callers} to {callees}, window {window}, {size} bytes");
    rounds(common, [&arguments.serve_at, &arguments.vs_serve_at], |side| {
        let calls = rpc::Calls {
            callers: *callers as usize,
            callees: *callees as usize,
            window: *window as usize,
            size: *size as usize,
            plain: arguments.plain,
            threads: common.threads as usize,
            warm_up: common.warm_up,
            procedure: unique("bench/"),
        };
        let router = side.router();
        let measured =
            or_usage(rpc::load(&calls, &side.target, &side.other)).drive(common.timing(), router.as_ref(), common.quiet)?;
        Ok(side.outcome(&work, "results", measured.received, &measured, router.as_ref()))
    })
}

fn bench_connect(arguments: &ConnectArguments) -> Result<(), String> {
    let (common, parallel) = (&arguments.common, arguments.parallel as usize);
    let work = format!("connections opened and closed, {parallel} at a time");
    rounds(common, [&None, &None], |side| {
        let router = side.router();
        let load = connections::connect(&side.target, parallel, common.threads as usize, common.warm_up);
        let measured = load.drive(common.timing(), router.as_ref(), common.quiet)?;
        Ok(side.outcome(&work, "connections", measured.received, &measured, router.as_ref()))
    })
}

fn bench_idle(arguments: &IdleArguments) -> Result<(), String> {
    let (common, count, subscriptions) = (&arguments.common, arguments.connections, arguments.subscriptions);
    let work = format!("{count} idle connections with {subscriptions} subscriptions each");
    rounds(common, [&None, &None], |side| {
        let router = side.router();
        let before = router.as_ref().and_then(Router::rss_bytes);
        let load = connections::idle(&side.target, count as usize, subscriptions, &unique("bench/"), common.threads as usize);
        let measured = load.drive(common.timing(), router.as_ref(), common.quiet)?;
        let outcome = side.outcome(&work, "connections opened", count, &measured, router.as_ref());
        Ok(outcome.opened_in(count, measured.opening_s).grown(before, measured.router_rss_bytes, count, "connection"))
    })
}

fn bench_retained(arguments: &RetainedArguments) -> Result<(), String> {
    let RetainedArguments { common, messages, size, readers } = arguments;
    let work = format!("replays of {messages} retained messages of {size} bytes to {readers}");
    rounds(common, [&None, &None], |side| {
        let values = retained::Values {
            count: *messages as usize,
            size: *size as usize,
            readers: *readers as usize,
            threads: common.threads as usize,
            warm_up: common.warm_up,
            topic: unique("bench/"),
        };
        let router = side.router();
        let before = router.as_ref().and_then(Router::rss_bytes);
        let measured = retained::load(&values, &side.target).drive(common.timing(), router.as_ref(), common.quiet)?;
        let outcome = side.outcome(&work, "retained messages", measured.received, &measured, router.as_ref());
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

/// A fault in the command line ends the program as clap does it.
fn or_usage<T>(checked: Result<T, String>) -> T {
    checked.unwrap_or_else(|error| clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n")).exit())
}

/// Runs the rounds of one or two routers and prints them. `others` are the URLs for the other half of the clients of both.
fn rounds(common: &Common, others: [&Option<String>; 2], once: impl Fn(&Side) -> Result<Outcome, String>) -> Result<(), String> {
    let side = |url: &str, other: &Option<String>, pid| {
        let target = or_usage(common.target(url));
        let other = other.as_deref().map_or_else(|| target.clone(), |url| or_usage(common.target(url)));
        Side { target, other, pid }
    };
    let a = side(&common.url, others[0], common.pid);
    let b = common.vs.as_deref().map(|url| side(url, others[1], common.vs_pid));
    let is_compared = b.is_some();
    let rounds = common.rounds.unwrap_or(if is_compared { 5 } else { 1 });
    let show = |side: &Side, round: u64| {
        if !common.quiet {
            progress(&format!("round {} of {rounds}: {}", round + 1, side.target.url));
        }
        let mut outcome = once(side)?;
        let disk = common.disk.as_deref().map(|directory| disk::syncs_per_second(directory, DISK_TIME));
        outcome.disk_syncs_per_second = disk.transpose()?;
        if !common.json {
            print(&outcome.text())?;
        }
        Ok(outcome)
    };
    let second = b.as_ref().map(|b| move |round| show(b, round));
    let comparison = versus::run(rounds, |round| show(&a, round), second);
    if common.json {
        let json = serde_json::to_string_pretty(&comparison).map_err(|error| error.to_string())?;
        print(&(json + "\n"))?;
    } else if rounds > 1 || is_compared {
        print(&comparison.text())?;
    }
    comparison.error.map_or(Ok(()), Err)
}

fn print(text: &str) -> Result<(), String> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that closed the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}
