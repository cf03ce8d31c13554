//! `corsac queue`: puts items into a queue, takes them, and says what became of them.
use std::time::Duration;

use clap::{Args, Subcommand};
use corsac::model::Topic;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::client::body::{Body, compact};
use super::client::target::Target;
use super::client::{Calling, Client, Outcome, names, refusal};
use super::output::{self, Written};
use super::publish;

/// What `corsac queue` is told.
#[derive(Args)]
pub struct Queue {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Put items: typed, or the lines of standard input
    Put(Put),
    /// Take items and print them, a line each
    Take(Take),
    /// Say that items are done with
    Ack(Ack),
    /// Return items that are not done with
    Nack(Nack),
    /// Say how a queue treats its items, and print that
    Declare(Declare),
    /// Print the sizes and counts of a queue
    Stats(Stats),
}

#[derive(Args)]
struct Put {
    /// The queue: jobs, jobs/resize or jobs.resize
    name: String,
    /// An item each, JSON if it parses, else text; without any (or with -) each line of standard input is an item
    #[arg(value_name = "ITEM", allow_negative_numbers = true)]
    items: Vec<String>,
    /// Nobody gets them before this time is over
    #[arg(long, value_name = "MS")]
    delay_ms: Option<u64>,
    /// Take JSON only
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Take {
    /// The queue: jobs, jobs/resize or jobs.resize
    name: String,
    /// Items at the most
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    max: u64,
    /// Wait this long for the first
    #[arg(long, value_name = "MS", default_value = "0")]
    wait_ms: u64,
    /// Say that each is done with, once it is printed
    #[arg(long)]
    ack: bool,
    /// Print JSON objects: id, token, delivery_count, args, kwargs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Ack {
    /// What `take` printed before each item
    #[arg(required = true, value_name = "TOKEN")]
    tokens: Vec<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Nack {
    /// What `take` printed before each item
    #[arg(required = true, value_name = "TOKEN")]
    tokens: Vec<String>,
    /// Nobody gets them before this time is over
    #[arg(long, value_name = "MS")]
    delay_ms: Option<u64>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Declare {
    /// The queue: jobs, jobs/resize or jobs.resize
    name: String,
    /// Who takes an item has it for this long
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    visibility_ms: Option<u64>,
    /// Deliveries of an item before it is a dead letter; 0 = any number
    #[arg(long, value_name = "N")]
    max_deliveries: Option<u32>,
    /// The queue for dead letters; '' = none, they are dropped and counted
    #[arg(long, value_name = "NAME")]
    dead_letter: Option<String>,
    /// Items that it holds; 0 = any number
    #[arg(long, value_name = "N")]
    max_len: Option<u64>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Stats {
    /// The queue: jobs, jobs/resize or jobs.resize
    name: String,
    #[command(flatten)]
    target: Target,
}

/// How much longer than the wait we give the router to answer.
const GRACE: Duration = Duration::from_secs(30);

/// Runs one of the verbs.
pub async fn queue(command: &Queue) -> Result<(), String> {
    match &command.verb {
        Verb::Put(command) => put(command).await,
        Verb::Take(command) => take(command).await,
        Verb::Ack(Ack { tokens, target }) => settle(target, "ack", tokens, Map::new()).await,
        Verb::Nack(Nack { tokens, delay_ms, target }) => {
            settle(target, "nack", tokens, options([("delay_ms", json!(delay_ms))])).await
        }
        Verb::Declare(command) => declare(command).await,
        Verb::Stats(Stats { name, target }) => {
            let mut client = Client::open(target).await?;
            let stats = call(&mut client, "stats", &[quoted(checked(name)?)], GRACE).await?;
            output::print(&stats.json())?;
            client.close().await;
            Ok(())
        }
    }
}

async fn put(command: &Put) -> Result<(), String> {
    let name = quoted(checked(&command.name)?);
    let options = Value::from(options([("delay_ms", json!(command.delay_ms))])).to_string();
    let arguments = |item: &str| -> Result<[String; 3], String> {
        // Looked at by itself: the name would hide what is wrong with it.
        Body::typed(&[item.to_owned()], None, command.json)?;
        Ok([name.clone(), if item.is_empty() { quoted("") } else { item.to_owned() }, options.clone()])
    };
    if !matches!(command.items.iter().map(String::as_str).collect::<Vec<_>>()[..], [] | ["-"]) {
        let calls = command.items.iter().map(|item| arguments(item)).collect::<Result<Vec<_>, _>>()?;
        let mut client = Client::open(&command.target).await?;
        for arguments in calls {
            call(&mut client, "put", &arguments, GRACE).await?;
        }
        client.close().await;
        return Ok(());
    }
    let mut client = Client::open(&command.target).await?;
    let mut lines = publish::lines();
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            message = client.idle() => return Err(message),
        };
        let Some(line) = line else { break };
        let line = line.map_err(|error| format!("cannot read standard input: {error}; it must be UTF-8"))?;
        call(&mut client, "put", &arguments(&line)?, GRACE).await?;
    }
    client.close().await;
    Ok(())
}

/// An item as the router tells it.
#[derive(Serialize, Deserialize)]
struct Item {
    id: u64,
    token: String,
    delivery_count: u64,
    args: Vec<Box<RawValue>>,
    #[serde(default)]
    kwargs: Box<RawValue>,
}

async fn take(command: &Take) -> Result<(), String> {
    let name = checked(&command.name)?;
    let mut client = Client::open(&command.target).await?;
    let options = Value::from(options([("max", json!(command.max)), ("wait_ms", json!(command.wait_ms))])).to_string();
    let patience = GRACE + Duration::from_millis(command.wait_ms);
    let answer = call(&mut client, "take", &[quoted(name), options], patience).await?;
    let items: Vec<Item> = answer
        .args
        .first()
        .and_then(|items| serde_json::from_str(items.get()).ok())
        .ok_or("the router's answer is no list of items; is it Corsac?")?;
    let is_empty = items.is_empty();
    let mut is_read = true;
    for item in items {
        if is_read {
            is_read = output::print(&line(&item, command)?)? == Written::Line;
        }
        // What nobody has read is for somebody else.
        let verb = if is_read { "ack" } else { "nack" };
        if command.ack || !is_read {
            call(&mut client, verb, &[quoted(&item.token)], GRACE).await?;
        }
    }
    client.close().await;
    if is_empty {
        let waited = if command.wait_ms > 0 { format!(" in {} ms", command.wait_ms) } else { String::new() };
        return Err(format!(
            "no item came from {name}{waited}; wait longer with --wait-ms, or look with `corsac queue stats {name}`"
        ));
    }
    Ok(())
}

fn line(item: &Item, command: &Take) -> Result<String, String> {
    if command.json {
        let line = serde_json::to_string(item).map_err(|error| format!("cannot print an item: {error}"))?;
        return Ok(compact(&line));
    }
    let args = Value::Array(Vec::new()).to_string();
    let texts = item.args.iter().map(|arg| arg.get().to_owned()).collect::<Vec<_>>();
    let kwargs = Some(item.kwargs.get()).filter(|kwargs| kwargs.starts_with('{'));
    let body = if texts.is_empty() && kwargs.is_none() { args } else { Body::typed(&texts, kwargs, true)?.line() };
    Ok(if command.ack { body } else { format!("{} {body}", item.token) })
}

async fn settle(target: &Target, verb: &str, tokens: &[String], options: Map<String, Value>) -> Result<(), String> {
    let mut client = Client::open(target).await?;
    let options = Value::from(options).to_string();
    for token in tokens {
        call(&mut client, verb, &[quoted(token), options.clone()], GRACE).await.map_err(|why| format!("{token}: {why}"))?;
    }
    client.close().await;
    Ok(())
}

async fn declare(command: &Declare) -> Result<(), String> {
    if let Some(name) = command.dead_letter.as_deref().filter(|name| !name.is_empty()) {
        checked(name)?;
    }
    let options = options([
        ("visibility_ms", json!(command.visibility_ms)),
        ("max_deliveries", json!(command.max_deliveries)),
        ("dead_letter", json!(command.dead_letter)),
        ("max_len", json!(command.max_len)),
    ]);
    let arguments = [quoted(checked(&command.name)?), Value::from(options).to_string()];
    let mut client = Client::open(&command.target).await?;
    let settings = call(&mut client, "declare", &arguments, GRACE).await?;
    output::print(&settings.json())?;
    client.close().await;
    Ok(())
}

/// Calls `corsac.queue.<verb>` with these arguments, each JSON or else text.
async fn call(client: &mut Client, verb: &str, arguments: &[String], patience: Duration) -> Result<Body, String> {
    let procedure = Topic::from_uri(&format!("corsac.queue.{verb}")).map_err(|reason| reason.to_string())?;
    let body = Body::typed(arguments, None, false)?;
    let mut ignore = |_: &Body| Ok(());
    let calling = Calling { timeout_ms: None, with_progress: false };
    let outcome = tokio::time::timeout(patience, client.call(&procedure, &body, calling, &mut ignore)).await;
    match outcome.map_err(|_| "the router does not answer; is its disk full or slow?".to_owned())?? {
        Outcome::Result(body) => Ok(body),
        Outcome::Error(uri, body) if uri == "corsac.error.no_such_token" => {
            Err(format!("{}; its time was over, or it is done with already", refusal(&uri, &body)))
        }
        Outcome::Error(uri, body) => Err(refusal(&uri, &body)),
    }
}

/// A name that can be one of a queue.
fn checked(name: &str) -> Result<&str, String> {
    names::topic(name)
        .map(|_| name)
        .map_err(|_| format!("{name:?} is not the name of a queue; write it like jobs or jobs/resize"))
}

/// Those options that are given.
fn options<const N: usize>(options: [(&str, Value); N]) -> Map<String, Value> {
    let given = options.into_iter().filter(|(_, value)| !value.is_null());
    given.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Text as JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
