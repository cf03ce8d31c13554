//! `corsac history`: prints what was published, a line each, and goes on with what is.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use corsac::model::timestamp::{self, Timestamp};
use corsac::model::{Filter, MatchPolicy, names as reserved};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::again::{self, Again};
use super::client::body::{Body, compact};
use super::client::names::{self, Match, Spelling};
use super::client::target::Target;
use super::client::{Calling, Client, Outcome, Subscribing, Trouble, refusal, wamp_filter};
use super::failure::Failure;
use super::output::{self, Written, say};

/// The arguments of `corsac history`.
#[derive(Args)]
pub struct History {
    /// Topics: demo/hello, demo/+/state, 'demo/#', or as WAMP spells them, demo.hello, 'demo.*.state', 'demo.#'
    filter: String,
    /// Only so many of the last events
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// Only what came after this event; 0 is everything that is kept
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    /// Only what came since then: 90s, 15m, 1h or 7d ago, or a time as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what came before then
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "follow")]
    until: Option<Timestamp>,
    /// Go on with what is published from now on, as far as it is kept
    #[arg(long)]
    follow: bool,
    /// Print JSON objects: id, time, topic, args, kwargs, publisher, retain, qos
    #[arg(long)]
    json: bool,
    /// Read the filter as an exact name, a prefix or a WAMP wildcard, instead of guessing from + * #
    #[arg(long = "match", value_enum, value_name = "HOW")]
    policy: Option<Match>,
    /// Print topics in this spelling [default: mqtt, unless the filter is in WAMP's]
    #[arg(long, value_enum, value_name = "HOW")]
    spell: Option<Spelling>,
    #[command(flatten)]
    target: Target,
}

/// A time that is typed, or how long ago it was.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Some(timestamp) = Timestamp::parse(text) {
        return Ok(timestamp);
    }
    let unit_ms = |unit| match unit {
        's' => Some(1_000),
        'm' => Some(60_000),
        'h' => Some(3_600_000),
        'd' => Some(86_400_000),
        _ => None,
    };
    let ago_ms = text.chars().next_back().and_then(unit_ms).and_then(|unit_ms: u64| {
        let number = text.get(..text.len() - 1)?;
        number.parse::<u64>().ok()?.checked_mul(unit_ms)
    });
    let ago_ms = ago_ms.ok_or("it is neither a time ago (90s, 15m, 1h, 7d) nor a time (2026-01-31T12:00:00Z)")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    Ok(Timestamp { ms: now_ms.saturating_sub(ago_ms), has_rest: false })
}

/// Events asked for at a time.
const PAGE: u64 = 1_000;
/// The time for which an event may be missed whose announcement was.
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
    /// The event behind which it goes on.
    after: u64,
    printed: u64,
}

/// Prints what there is; with `--follow` also what comes, until somebody stops it or nobody reads it.
pub async fn history(command: &History) -> Result<(), Failure> {
    let filter = names::filter(&command.filter, command.policy)?;
    let client = open(command, &filter).await?;
    let spelling = names::printed_as(command.spell, [command.filter.as_str()].into_iter());
    let mut stop = output::stop()?;
    let mut reader = Reader { client, filter, command, spelling, after: command.after.unwrap_or(0), printed: 0 };
    let outcome = tokio::select! {
        outcome = reader.run() => outcome,
        () = stop.requested() => Ok(Written::ReaderGone),
    };
    if matches!(outcome, Ok(Written::Line)) && reader.printed == 0 {
        let is_part = [command.after, command.last].iter().any(Option::is_some) || command.since.or(command.until).is_some();
        let part = if is_part { " in that part of the history" } else { "; check the name" };
        say(&format!("no event of {} is kept{part}", command.filter));
    }
    reader.client.close().await;
    outcome.map(|_| ())
}

/// Connects, and has the router say when there is more to read.
async fn open(command: &History, filter: &Filter) -> Result<Client, Trouble> {
    let mut client = Client::open(&command.target).await?;
    if command.follow {
        client.subscribe(filter, Subscribing::default()).await?;
    }
    Ok(client)
}

impl Reader<'_> {
    async fn run(&mut self) -> Result<Written, Failure> {
        let mut written = match self.command.last {
            Some(count) => self.print_last(count).await?,
            None => self.print_all().await?,
        };
        while self.command.follow && written == Written::Line {
            written = match self.print_what_comes().await {
                Err(Trouble::Lost(why)) => self.connect_again(&why).await?,
                written => written?,
            };
        }
        Ok(written)
    }

    /// Prints until nobody reads it any more.
    async fn print_what_comes(&mut self) -> Result<Written, Trouble> {
        loop {
            // An event says that there is more, and the history what.
            tokio::select! {
                event = self.client.next_event() => drop(event.map_err(Trouble::Lost)?),
                () = tokio::time::sleep(LOOK) => {}
            }
            if self.print_all().await? == Written::ReaderGone {
                return Ok(Written::ReaderGone);
            }
        }
    }

    async fn connect_again(&mut self, why: &str) -> Result<Written, Failure> {
        let mut again = Again::after(why);
        loop {
            again.pause().await;
            match open(self.command, &self.filter).await {
                Ok(client) => {
                    again::say_connected("");
                    self.client = client;
                    return Ok(Written::Line);
                }
                Err(Trouble::Lost(_)) => {}
                Err(trouble) => return Err(trouble.into()),
            }
        }
    }

    /// Prints everything behind where it stands.
    async fn print_all(&mut self) -> Result<Written, Trouble> {
        loop {
            let page = self.read(json!({ "after": self.after, "limit": PAGE })).await?;
            for event in page.events {
                self.after = event.id;
                if self.print(event)? == Written::ReaderGone {
                    return Ok(Written::ReaderGone);
                }
            }
            self.after = page.cursor.unwrap_or(0).max(self.after);
            if page.is_end {
                return Ok(Written::Line);
            }
        }
    }

    async fn print_last(&mut self, count: u64) -> Result<Written, Trouble> {
        let (mut events, mut before) = (Vec::new(), None::<u64>);
        while (events.len() as u64) < count {
            let limit = (count - events.len() as u64).min(PAGE);
            let page = self.read(json!({ "reverse": true, "limit": limit, "after": self.after, "before": before })).await?;
            events.extend(page.events);
            before = page.cursor;
            if page.is_end {
                break;
            }
        }
        let newest = match events.first() {
            Some(event) => event.id,
            // Nothing is printed of what there is; what comes is behind all of it.
            None => self.read(json!({ "reverse": true, "limit": 1 })).await?.events.first().map_or(0, |event| event.id),
        };
        for event in events.into_iter().rev() {
            if self.print(event)? == Written::ReaderGone {
                return Ok(Written::ReaderGone);
            }
        }
        self.after = newest.max(self.after);
        Ok(Written::Line)
    }

    async fn read(&mut self, mut options: Value) -> Result<Page, Trouble> {
        let (text, policy) = match self.filter.as_mqtt() {
            // A filter that MQTT can spell is one that a router understands from MQTT clients.
            Some(text) if self.client.spelling() == Spelling::Mqtt && (text.contains('/') || text == "+") => {
                (text.to_owned(), None)
            }
            _ => wamp_filter(&self.filter).map(|(uri, policy)| (uri, Some(policy)))?,
        };
        let policy = match policy {
            Some(MatchPolicy::Prefix) => Some("prefix"),
            Some(MatchPolicy::Wildcard) => Some("wildcard"),
            Some(MatchPolicy::Exact) | None => None,
        };
        let time = |at: Option<Timestamp>| at.map(|at| timestamp::format(at.ceil_ms()));
        if let Some(options) = options.as_object_mut() {
            options.insert("match".to_owned(), json!(policy));
            options.insert("from_time".to_owned(), json!(time(self.command.since)));
            options.insert("before_time".to_owned(), json!(time(self.command.until)));
            options.retain(|_, value| !value.is_null());
        }
        let body = Body::typed(&[Value::from(text).to_string()], Some(&options.to_string()), true)?;
        let procedure = names::topic(reserved::READ_HISTORY)?;
        let calling = Calling { timeout_ms: None, with_progress: false };
        match self.client.call(&procedure, &body, calling, &mut |_| Ok(())).await.map_err(Trouble::Lost)? {
            Outcome::Result(body) => serde_json::from_str(&body.json()).map_err(|error| {
                let why = format!("the router's history is not understood: {error}; is it Corsac?");
                Trouble::Refused(String::new(), why)
            }),
            Outcome::Error(uri, body) => {
                let why = refusal(&uri, &body);
                Err(Trouble::Refused(uri, why))
            }
        }
    }

    fn print(&mut self, mut event: Past) -> Result<Written, Trouble> {
        self.printed += 1;
        if let (Spelling::Mqtt, Some(topic)) = (self.spelling, names::event_topic(&event.topic)) {
            event.topic = names::spelled(&topic, Spelling::Mqtt).to_owned();
        }
        let line = if self.command.json {
            let line = serde_json::to_string(&event).map_err(|error| format!("cannot print an event: {error}"));
            line.map(|line| compact(&line))
        } else {
            let Past { id, time, topic, args, kwargs, .. } = event;
            let payload = Body::of_parts(args, kwargs).line();
            Ok(if payload.is_empty() { format!("{id} {time} {topic}") } else { format!("{id} {time} {topic} {payload}") })
        };
        let written = line.and_then(|line| output::print(&line));
        written.map_err(|why| Trouble::Refused(String::new(), why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now = moment("0s").unwrap().ms;
        for (text, ago_ms) in [("90s", 90_000), ("15m", 900_000), ("1h", 3_600_000), ("7d", 604_800_000)] {
            let before = now - moment(text).unwrap().ms;
            assert!((0..=ago_ms).contains(&before) && before + 60_000 > ago_ms, "{text}: {before}");
        }
        assert_eq!(moment("1970-01-01T00:00:01.5Z"), Ok(Timestamp { ms: 1_500, has_rest: false }));
        assert_eq!(moment("99999999999999999999999d").ok(), None);
        for text in ["", "h", "1", "1w", "yesterday", "2026-01-31", "ü"] {
            assert!(moment(text).unwrap_err().contains("1h"), "{text}");
        }
    }
}
