//! `corsac history`: prints what was published, a line each, and goes on with what is.
use std::time::Duration;

use clap::Args;
use corsac::model::{Filter, MatchPolicy, Topic};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::client::body::{Body, compact};
use super::client::names::{self, Match, Spelling};
use super::client::target::Target;
use super::client::{Calling, Client, Outcome, refusal, wamp_filter};
use super::output::{self, Written};

/// What `corsac history` is told.
#[derive(Args)]
pub struct History {
    /// Topics: demo/hello, demo/+/state, 'demo/#'; or as WAMP spells them: demo.hello, 'demo.*.state', 'demo.#'
    filter: String,
    /// How the filter is meant, where its text alone does not say it
    #[arg(long = "match", value_enum, value_name = "HOW")]
    policy: Option<Match>,
    /// Only what came after this event; 0 is everything that is kept
    #[arg(long, value_name = "ID", conflicts_with = "last")]
    after: Option<u64>,
    /// Only so many of the last events
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// Go on with what is published from now on, as far as it is kept
    #[arg(long)]
    follow: bool,
    /// Print JSON objects: id, time, topic, args, kwargs, publisher, retain, qos
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Events asked for at a time.
const PAGE: u64 = 1_000;
/// How long an event may be missed whose announcement was.
const LOOK: Duration = Duration::from_millis(500);

/// One event.
#[derive(Serialize, Deserialize)]
struct Past {
    id: u64,
    time: String,
    time_ms: u64,
    topic: String,
    args: Vec<Box<RawValue>>,
    kwargs: Box<RawValue>,
    retain: bool,
    qos: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher_authid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher_authrole: Option<String>,
}

/// One answer.
#[derive(Deserialize)]
struct Page {
    events: Vec<Past>,
    cursor: Option<u64>,
    is_end: bool,
}

/// A reader and how it prints.
struct Reader<'a> {
    client: Client,
    filter: Filter,
    command: &'a History,
    spelling: Spelling,
}

/// Prints what there is; with `--follow` also what comes, until somebody stops it or nobody reads it.
pub async fn history(command: &History) -> Result<(), String> {
    let filter = names::filter(&command.filter, command.policy)?;
    let mut client = Client::open(&command.target).await?;
    if command.follow {
        client.subscribe(&filter, false).await?;
    }
    let spelling = names::spelling(&command.filter).unwrap_or(client.spelling());
    let mut stop = output::stop()?;
    let mut reader = Reader { client, filter, command, spelling };
    let outcome = tokio::select! {
        outcome = reader.run() => outcome,
        () = stop.requested() => Ok(()),
    };
    reader.client.close().await;
    outcome
}

impl Reader<'_> {
    async fn run(&mut self) -> Result<(), String> {
        let mut after = match self.command.last {
            Some(count) => self.print_last(count).await?,
            None => self.print_after(self.command.after.unwrap_or(0)).await?,
        };
        while let Some(id) = after.filter(|_| self.command.follow) {
            // An event says that there is more, and the history what.
            tokio::select! {
                event = self.client.next_event() => drop(event?),
                () = tokio::time::sleep(LOOK) => {}
            }
            after = self.print_after(id).await?;
        }
        Ok(())
    }

    /// Everything behind an event; where to go on, unless nobody reads any more.
    async fn print_after(&mut self, mut after: u64) -> Result<Option<u64>, String> {
        loop {
            let page = self.read(&format!("{{\"after\":{after},\"limit\":{PAGE}}}")).await?;
            for event in page.events {
                if self.print(event)? == Written::ReaderGone {
                    return Ok(None);
                }
            }
            after = page.cursor.unwrap_or(after).max(after);
            if page.is_end {
                return Ok(Some(after));
            }
        }
    }

    async fn print_last(&mut self, count: u64) -> Result<Option<u64>, String> {
        let (mut events, mut before) = (Vec::new(), None);
        while (events.len() as u64) < count {
            let limit = (count - events.len() as u64).min(PAGE);
            let before_option = before.map_or(String::new(), |id: u64| format!(",\"before\":{id}"));
            let page = self.read(&format!("{{\"reverse\":true,\"limit\":{limit}{before_option}}}")).await?;
            events.extend(page.events);
            before = page.cursor;
            if page.is_end {
                break;
            }
        }
        let newest = match events.first() {
            Some(event) => event.id,
            // Nothing is printed of what there is; what comes is behind all of it.
            None => self.read("{\"reverse\":true,\"limit\":1}").await?.events.first().map_or(0, |event| event.id),
        };
        for event in events.into_iter().rev() {
            if self.print(event)? == Written::ReaderGone {
                return Ok(None);
            }
        }
        Ok(Some(newest))
    }

    async fn read(&mut self, options: &str) -> Result<Page, String> {
        let (text, policy) = match self.filter.as_mqtt() {
            // What MQTT can say, a router understands from MQTT clients.
            Some(text) if self.client.spelling() == Spelling::Mqtt && (text.contains('/') || text == "+") => {
                (text.to_owned(), None)
            }
            _ => wamp_filter(&self.filter).map(|(uri, policy)| (uri, Some(policy)))?,
        };
        let policy = match policy {
            Some(MatchPolicy::Prefix) => ",\"match\":\"prefix\"}",
            Some(MatchPolicy::Wildcard) => ",\"match\":\"wildcard\"}",
            Some(MatchPolicy::Exact) | None => "}",
        };
        let options = format!("{}{policy}", options.strip_suffix('}').unwrap_or(options));
        let body = Body::typed(&[serde_json::Value::from(text).to_string()], Some(&options), true)?;
        let procedure = Topic::from_uri("corsac.history.read").map_err(|reason| reason.to_string())?;
        let calling = Calling { timeout_ms: None, with_progress: false };
        match self.client.call(&procedure, &body, calling, &mut |_| Ok(())).await? {
            Outcome::Result(body) => {
                serde_json::from_str(&body.json()).map_err(|error| format!("the router's history is not understood: {error}"))
            }
            Outcome::Error(uri, body) => Err(refusal(&uri, &body)),
        }
    }

    fn print(&self, mut event: Past) -> Result<Written, String> {
        if let (Spelling::Mqtt, Some(topic)) = (self.spelling, names::event_topic(&event.topic)) {
            event.topic = names::spelled(&topic, Spelling::Mqtt).to_owned();
        }
        if self.command.json {
            let line = serde_json::to_string(&event).map_err(|error| format!("cannot print an event: {error}"))?;
            return output::print(&compact(&line));
        }
        let Past { id, time, topic, args, kwargs, .. } = event;
        let payload = Body::of_parts(args, kwargs).line();
        output::print(format!("{id} {time} {topic} {payload}").trim_end())
    }
}
