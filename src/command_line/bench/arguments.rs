//! The command line of `corsac bench`.
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use corsac::model::{Encoding, Qos};
use corsac::wire::mqtt::{MAX_REMAINING_LENGTH, Version};

use super::pubsub::Shape;
use super::run::Timing;
use super::stamp;
use super::target::{Dialect, Target};

/// Connections, topics and whatever else each takes room here.
const MAX_COUNT: u64 = 1_000_000;
/// A packet of MQTT cannot hold more.
const MAX_PAYLOAD_BYTES: u64 = MAX_REMAINING_LENGTH as u64;
/// Messages a second: rare ones would not be due within the longest run, frequent ones could not be told apart.
const RATES: std::ops::RangeInclusive<f64> = 1e-5..=1e9;
const MAX_SECONDS: f64 = 86_400.0;

const HELP: &str = "\
Routers are named by mqtt://HOST:PORT, ws://HOST:PORT/PATH (WAMP) or rs://HOST:PORT (WAMP on RawSocket).

  corsac bench pubsub mqtt://127.0.0.1:1883
  corsac bench pubsub mqtt://127.0.0.1:1883 --qos 1 --window 200
  corsac bench pubsub mqtt://127.0.0.1:1883 --vs mqtt://127.0.0.1:1884
  corsac bench pubsub ws://127.0.0.1:8080/ws \\
      --subscribe-at mqtt://127.0.0.1:1883
  corsac bench latency mqtt://127.0.0.1:1883 --rate 5000
  corsac bench rpc ws://127.0.0.1:8080/ws --window 100

A run counts if nothing was lost and it took 3 seconds or more. The processor time of the router is the steadiest figure on a machine \
that does other things too. Memory is compared with what the router had before: start it afresh for that.

Exit code: 0 there is a figure, whether it counts or not, 1 the run failed, 2 the command line is wrong.";

/// Measure a router: any that speaks MQTT or WAMP
#[derive(Args)]
#[command(after_help = HELP)]
pub struct Bench {
    #[command(subcommand)]
    pub(super) work: Work,
}

/// The workload that is measured.
#[derive(Subcommand)]
pub(super) enum Work {
    /// Publish and subscribe as fast as the router goes
    Pubsub(PubsubArguments),
    /// Publish at a steady rate and measure how long messages take, from when they were due
    Latency(LatencyArguments),
    /// Call procedures, in WAMP or MQTT 5
    Rpc(RpcArguments),
    /// Open connections and close them again
    Connect(ConnectArguments),
    /// Hold connections that do nothing, and measure the router's memory for each
    Idle(IdleArguments),
    /// Store retained messages, subscribe to all of them, again and again, and remove them (unless interrupted)
    Retained(RetainedArguments),
}

/// Above the options for two routers.
const COMPARING: &str = "Comparing two routers";
/// Above the options that few need.
const SELDOM: &str = "Seldom needed";

/// Where to, and how long.
#[derive(Args, Clone)]
pub(super) struct Common {
    /// The router: mqtt://…, ws://… or rs://…, with USER:PASSWORD@ before HOST if needed
    pub url: String,
    /// A second router: rounds alternate between both, and the medians of their ratios are printed
    #[arg(long, value_name = "URL", help_heading = COMPARING)]
    pub vs: Option<String>,
    /// Rounds [default: 5 with --vs, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = COMPARING)]
    pub rounds: Option<u64>,
    /// Seconds that are measured; under 3 the run does not count
    #[arg(long, default_value = "5", value_name = "S", value_parser = seconds)]
    pub duration: Duration,
    /// Seconds before that
    #[arg(long, default_value = "1", value_name = "S", value_parser = seconds, help_heading = SELDOM)]
    pub warm_up: Duration,
    /// Seconds without any arrival after which what is missing is lost
    #[arg(long, default_value = "5", value_name = "S", value_parser = seconds, help_heading = SELDOM)]
    pub drain: Duration,
    /// Version of MQTT: 3 (3.1), 4 (3.1.1) or 5
    #[arg(long, value_name = "3|4|5", default_value = "5", value_parser = version)]
    pub mqtt_version: Version,
    /// Serializer of WAMP
    #[arg(long, value_name = "NAME", value_enum, default_value = "json")]
    pub serializer: Serializer,
    /// Realm of WAMP
    #[arg(long, default_value = "realm1")]
    pub realm: String,
    /// Threads for each side, publishers and subscribers or callers and callees
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=1_024))]
    pub threads: u64,
    /// Process of the router, where it is not found by its port
    #[arg(long, value_name = "PID", help_heading = SELDOM)]
    pub pid: Option<u32>,
    /// Process of the second router
    #[arg(long, value_name = "PID", requires = "vs", help_heading = COMPARING)]
    pub vs_pid: Option<u32>,
    /// Allow routers on other machines
    #[arg(long, help_heading = SELDOM)]
    pub remote: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Measure after it, for 1 s, how often the disk of this directory can sync: name the router's data directory
    #[arg(long, value_name = "DIR", value_parser = directory, help_heading = SELDOM)]
    pub disk: Option<PathBuf>,
    /// No progress
    #[arg(long, help_heading = SELDOM)]
    pub quiet: bool,
}

impl Common {
    /// The length of each phase.
    pub(super) fn timing(&self) -> Timing {
        Timing { warm_up: self.warm_up, duration: self.duration, drain: self.drain }
    }

    /// The router at `url`, spoken to as the options say.
    pub(super) fn target(&self, url: &str) -> Result<Target, String> {
        let encoding = match self.serializer {
            Serializer::Json => Encoding::Json,
            Serializer::Msgpack => Encoding::MsgPack,
            Serializer::Cbor => Encoding::Cbor,
        };
        let dialect = Dialect { version: self.mqtt_version, encoding, realm: self.realm.clone(), remote: self.remote };
        Target::parse(url, &dialect)
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Serializer {
    Json,
    Msgpack,
    Cbor,
}

/// The publishers, the subscribers and their messages.
#[derive(Args, Clone)]
pub(super) struct PubsubArguments {
    #[command(flatten)]
    pub common: Common,
    /// Connections that publish, 1 to 65,536
    #[arg(long, value_name = "N", short, default_value = "1", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub publishers: u64,
    /// Connections that subscribe; without any, acknowledgements are counted
    #[arg(long, value_name = "N", short, default_value = "1", value_parser = clap::value_parser!(u64).range(..=MAX_COUNT))]
    pub subscribers: u64,
    /// Topics: publisher and subscriber i use topic i modulo this
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    pub topics: u64,
    /// QoS of publications and subscriptions; in WAMP, 1 and 2 ask for acknowledgements
    #[arg(long, value_name = "0|1|2", default_value = "0", value_parser = qos)]
    pub qos: Qos,
    /// Publications of a publisher that may be unacknowledged
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub window: u64,
    /// Payload in bytes; from 19 on it carries a sequence number that is verified
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = clap::value_parser!(u64).range(..=MAX_PAYLOAD_BYTES))]
    pub size: u64,
    /// Messages that publishers may be ahead of their slowest subscriber, as routers drop QoS 0 beyond that, 0 for any number
    /// [default: 1 MiB of messages, less with more than 16 subscribers]
    #[arg(long, value_name = "N", help_heading = SELDOM)]
    pub ahead: Option<u64>,
    /// Where the subscribers connect, if that is another port or protocol of the router
    #[arg(long, value_name = "URL")]
    pub subscribe_at: Option<String>,
    /// The same for the second router
    #[arg(long, value_name = "URL", requires = "vs", help_heading = COMPARING)]
    pub vs_subscribe_at: Option<String>,
    /// The topic, under which each run has its own
    #[arg(long, value_name = "TOPIC", default_value = "bench", help_heading = SELDOM)]
    pub topic: String,
}

impl PubsubArguments {
    /// The shape of one run; `rate` is in messages a second.
    pub(super) fn shape(&self, rate: Option<f64>, topic: String) -> Result<Shape, String> {
        let publishers = self.publishers as usize;
        if rate.is_some() && publishers > 16 {
            return Err("at a steady rate there are 16 publishers at most: each has a thread of its own".into());
        }
        let is_plain =
            |level: &str| !level.is_empty() && level.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if !self.topic.split('/').all(is_plain) {
            return Err(format!(
                "--topic '{}' cannot be used: letters, digits, - and _, with / between levels, are safe in both protocols",
                self.topic
            ));
        }
        if rate.is_some() && (self.subscribers == 0 || (self.size as usize) < stamp::MIN_BYTES) {
            return Err(format!(
                "latencies need subscribers and a payload of {} bytes or more, which says when it was due",
                stamp::MIN_BYTES
            ));
        }
        if self.subscribers == 0 && self.qos == Qos::AtMostOnce {
            return Err("without subscribers and acknowledgements there is nothing to count: --subscribers or --qos".into());
        }
        Ok(Shape {
            publishers,
            subscribers: self.subscribers as usize,
            topics: self.topics as usize,
            qos: self.qos,
            window: self.window as usize,
            size: self.size as usize,
            ahead: self.ahead,
            rate,
            threads: self.common.threads as usize,
            warm_up: self.common.warm_up,
            drain: self.common.drain,
            topic,
        })
    }
}

/// A steady rate.
#[derive(Args, Clone)]
pub(super) struct LatencyArguments {
    #[command(flatten)]
    pub pubsub: PubsubArguments,
    /// Messages a second, of all publishers together
    #[arg(long, value_name = "N", default_value = "5000", value_parser = rate)]
    pub rate: f64,
}

/// The callers and the callees.
#[derive(Args, Clone)]
pub(super) struct RpcArguments {
    #[command(flatten)]
    pub common: Common,
    /// Connections that call
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    pub callers: u64,
    /// Connections that serve a procedure each; caller i calls procedure i modulo this
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    pub callees: u64,
    /// Calls of a caller that may be unanswered
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub window: u64,
    /// Payload of calls and of results, in bytes
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = clap::value_parser!(u64).range(..=MAX_PAYLOAD_BYTES))]
    pub size: u64,
    /// MQTT: requests and responses on plain topics, which every broker has, instead of $call/
    #[arg(long)]
    pub plain: bool,
    /// Where the callees connect, if that is another port or protocol of the router
    #[arg(long, value_name = "URL")]
    pub serve_at: Option<String>,
    /// The same for the second router
    #[arg(long, value_name = "URL", requires = "vs", help_heading = COMPARING)]
    pub vs_serve_at: Option<String>,
}

/// The connections to open.
#[derive(Args, Clone)]
pub(super) struct ConnectArguments {
    #[command(flatten)]
    pub common: Common,
    /// Connections that are being opened at the same time
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    pub parallel: u64,
}

/// The connections to hold.
#[derive(Args, Clone)]
pub(super) struct IdleArguments {
    #[command(flatten)]
    pub common: Common,
    /// Connections to hold
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    pub connections: u64,
    /// Subscriptions of each, to topics of its own
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub subscriptions: u64,
}

/// The values to store.
#[derive(Args, Clone)]
pub(super) struct RetainedArguments {
    #[command(flatten)]
    pub common: Common,
    /// Topics with a retained message
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub messages: u64,
    /// Payload in bytes
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = clap::value_parser!(u64).range(1..=MAX_PAYLOAD_BYTES))]
    pub size: u64,
    /// Connections that subscribe
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    pub readers: u64,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=MAX_SECONDS).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("not a number of seconds up to {MAX_SECONDS}"))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| RATES.contains(rate));
    rate.ok_or_else(|| format!("not a number from {} to {}", RATES.start(), RATES.end()))
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err("there is no such directory".into()) }
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "3" | "3.1" => Ok(Version::V31),
        "4" | "3.1.1" => Ok(Version::V311),
        "5" | "5.0" => Ok(Version::V5),
        _ => Err("3, 4 or 5".into()),
    }
}

fn qos(text: &str) -> Result<Qos, String> {
    match text {
        "0" => Ok(Qos::AtMostOnce),
        "1" => Ok(Qos::AtLeastOnce),
        "2" => Ok(Qos::ExactlyOnce),
        _ => Err("0, 1 or 2".into()),
    }
}
