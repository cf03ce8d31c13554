//! `corsac queue`: puts items into a queue, takes them, and says what became of them.
use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::{Args, Subcommand};
use corsac::model::{Topic, names as reserved};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::client::body::{Body, compact};
use super::client::target::Target;
use super::client::{Calling, Client, Outcome, names, refusal};
use super::failure::{Failure, Usage};
use super::output::{self, Written, say};
use super::publish;

/// The arguments of `corsac queue`.
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
    /// Print the sizes of a queue, and what has happened to its items since the router was started
    Stats(Stats),
    /// Print all queues with their sizes, a line each
    List(List),
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
    /// Acknowledge each item as soon as it is printed (it is then never delivered again, even if your program fails)
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
    /// The token that `take` printed before each item
    #[arg(required = true, value_name = "TOKEN")]
    tokens: Vec<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Nack {
    /// The token that `take` printed before each item
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
    /// Time for which a taken item belongs to its taker
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
    /// Print a JSON object, on a terminal too
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct List {
    /// Print JSON objects as `stats` does, a line each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// The time beyond the wait that the router has to answer.
const GRACE: Duration = Duration::from_secs(30);

/// Runs one of the verbs.
pub async fn queue(command: &Queue) -> Result<(), Failure> {
    match &command.verb {
        Verb::Put(command) => put(command).await,
        Verb::Take(command) => take(command).await,
        Verb::Ack(Ack { tokens, target }) => settle(target, "ack", tokens, Map::new()).await,
        Verb::Nack(Nack { tokens, delay_ms, target }) => {
            settle(target, "nack", tokens, options([("delay_ms", json!(delay_ms))])).await
        }
        Verb::Declare(command) => declare(command).await,
        Verb::Stats(command) => stats(command).await,
        Verb::List(command) => list(command).await,
    }
}

async fn put(command: &Put) -> Result<(), Failure> {
    let name = quoted(checked(&command.name)?);
    let options = Value::from(options([("delay_ms", json!(command.delay_ms))])).to_string();
    let arguments = |item: Body| {
        let item = item.args.first().map_or_else(|| quoted(""), |item| item.get().to_owned());
        [name.clone(), item, options.clone()]
    };
    let typed = |item: &String| Body::typed(std::slice::from_ref(item), None, command.json);
    if !matches!(command.items.iter().map(String::as_str).collect::<Vec<_>>()[..], [] | ["-"]) {
        let items = command.items.iter().map(typed).collect::<Result<Vec<_>, Usage>>()?;
        let mut client = Client::open(&command.target).await?;
        for item in items {
            call(&mut client, "put", &arguments(item), GRACE).await?;
        }
        client.close().await;
        return Ok(());
    }
    let mut client = Client::open(&command.target).await?;
    let mut lines = publish::lines("item");
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            message = client.idle() => return Err(message.into()),
        };
        let Some(line) = line else { break };
        let line = line.map_err(|error| format!("cannot read standard input: {error}"))?;
        let item = match String::from_utf8(line) {
            Ok(text) => typed(&text)?,
            Err(_) if command.json => return Err(Usage("a line is not JSON but binary; leave out --json".to_owned()).into()),
            Err(error) => Body::binary(error.into_bytes().into()),
        };
        call(&mut client, "put", &arguments(item), GRACE).await?;
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

async fn take(command: &Take) -> Result<(), Failure> {
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
        // An item that nobody has read is for somebody else.
        let verb = if is_read { "ack" } else { "nack" };
        if command.ack || !is_read {
            call(&mut client, verb, &[quoted(&item.token)], GRACE).await?;
        }
    }
    client.close().await;
    if is_empty {
        let waited = if command.wait_ms > 0 { format!(" in {} ms", command.wait_ms) } else { String::new() };
        let why =
            format!("no item came from {name}{waited}; wait longer with --wait-ms, or look with `corsac queue stats {name}`");
        return Err(why.into());
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

async fn settle(target: &Target, verb: &str, tokens: &[String], options: Map<String, Value>) -> Result<(), Failure> {
    if let Some(token) = tokens.iter().find(|token| !is_token(token)) {
        let why = format!("{token:?} is no token; write what `corsac queue take` printed before the item, as 4711 or 4711.1");
        return Err(Usage(why).into());
    }
    let mut client = Client::open(target).await?;
    let options = Value::from(options).to_string();
    for token in tokens {
        call(&mut client, verb, &[quoted(token), options.clone()], GRACE).await.map_err(|why| format!("{token}: {why}"))?;
    }
    client.close().await;
    Ok(())
}

/// As the router writes them: `4711` or `4711.1`.
fn is_token(text: &str) -> bool {
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').map_or(is_number(text), |(claim, index)| is_number(claim) && is_number(index))
}

async fn declare(command: &Declare) -> Result<(), Failure> {
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

/// The figures of `stats`, in this order, and the meaning of each.
const FIGURES: [(&str, &str); 13] = [
    ("ready", "items that the next taker gets"),
    ("claimed", "items that somebody has"),
    ("delayed", "items that rest"),
    ("bytes", "of all of them, about"),
    ("waiting", "calls that wait for an item"),
    ("subscribers", "connections that take what comes"),
    ("put", "items that came"),
    ("taken", "deliveries"),
    ("acknowledged", "items that were done with"),
    ("returned", "deliveries that ended otherwise"),
    ("dead_lettered", "items that went to the queue for dead letters"),
    ("dropped", "dead letters without such a queue"),
    ("expired", "items whose time was over"),
];

async fn stats(command: &Stats) -> Result<(), Failure> {
    let name = checked(&command.name)?;
    let mut client = Client::open(&command.target).await?;
    let answer = call(&mut client, "stats", &[quoted(name)], GRACE).await?.json();
    client.close().await;
    let stats: Map<String, Value> = serde_json::from_str(&answer).unwrap_or_default();
    if stats.get("known") == Some(&Value::Bool(false)) {
        return Err(format!("there is no queue {name} (yet); look for others with `corsac queue list`").into());
    }
    if command.json || !io::stdout().is_terminal() {
        output::print(&answer)?;
        return Ok(());
    }
    for (figure, meaning) in FIGURES {
        let value = stats.get(figure).map(Value::to_string).unwrap_or_default();
        output::print(&format!("{figure:14} {value:>10}  {meaning}"))?;
    }
    for setting in ["visibility_ms", "max_deliveries", "dead_letter", "max_len"] {
        let value = stats.get(setting).filter(|value| !value.is_null()).map_or("-".to_owned(), Value::to_string);
        output::print(&format!("{setting:14} {value:>10}"))?;
    }
    Ok(())
}

async fn list(command: &List) -> Result<(), Failure> {
    const COLUMNS: [&str; 5] = ["ready", "claimed", "delayed", "waiting", "put"];
    let mut client = Client::open(&command.target).await?;
    let answer = call(&mut client, "list", &[], GRACE).await?.json();
    client.close().await;
    let queues: Vec<Map<String, Value>> =
        serde_json::from_str(&answer).map_err(|_| "the router's answer is no list of queues; is it Corsac?".to_owned())?;
    if queues.is_empty() {
        say("there is no queue yet; put something into one with `corsac queue put jobs 1`");
    } else if !command.json {
        output::print(&format!("{}  name", COLUMNS.map(|column| format!("{column:>9}")).join(" ")))?;
    }
    for queue in queues {
        let figures = COLUMNS.map(|column| format!("{:>9}", queue.get(column).map(Value::to_string).unwrap_or_default()));
        let name = queue.get("name").and_then(Value::as_str).unwrap_or_default();
        let name = names::event_topic(name).map_or(name.to_owned(), |topic| topic.as_mqtt().to_owned());
        let line = if command.json { Value::from(queue).to_string() } else { format!("{}  {name}", figures.join(" ")) };
        if output::print(&line)? == Written::ReaderGone {
            break;
        }
    }
    Ok(())
}

/// Calls `corsac.queue.<verb>` with these arguments, each JSON or else text.
async fn call(client: &mut Client, verb: &str, arguments: &[String], patience: Duration) -> Result<Body, String> {
    let procedure = Topic::from_uri(&format!("{}{verb}", reserved::QUEUE_PROCEDURES)).map_err(|reason| reason.to_string())?;
    let body = Body::typed(arguments, None, false)?;
    let mut ignore = |_: &Body| Ok(());
    let calling = Calling { timeout_ms: None, with_progress: false };
    let outcome = tokio::time::timeout(patience, client.call(&procedure, &body, calling, &mut ignore)).await;
    match outcome.map_err(|_| "the router does not answer; is its disk full or slow?".to_owned())?? {
        Outcome::Result(body) => Ok(body),
        Outcome::Error(uri, body) => Err(refusal(&uri, &body)),
    }
}

/// A name that can be one of a queue.
fn checked(name: &str) -> Result<&str, Usage> {
    names::topic(name)
        .map(|_| name)
        .map_err(|_| Usage(format!("{name:?} is not the name of a queue; write it like jobs or jobs/resize")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_numbers() {
        assert!(["4711", "4711.1"].into_iter().all(is_token));
        assert!(!["", ".", "1.", ".1", "nonsense", "1.2.3", "-1"].into_iter().any(is_token));
    }
}
