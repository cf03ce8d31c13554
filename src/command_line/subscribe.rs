//! `corsac sub`: prints events, a line each.
use std::time::Duration;

use clap::Args;
use corsac::model::Filter;
use serde::Serialize;
use serde_json::value::RawValue;

use super::again::{self, Again};
use super::client::body::compact;
use super::client::names::{self, Match, Spelling};
use super::client::target::Target;
use super::client::{Client, Event, Lasting, Subscribing, Trouble};
use super::failure::{Failure, Usage};
use super::output::{self, Written, say};

/// The arguments of `corsac sub`.
#[derive(Args)]
pub struct Subscribe {
    /// Topics and patterns: demo/hello, demo/+/state, 'demo/#', or as WAMP spells them, demo.hello, 'demo.*.state', 'demo.#'
    #[arg(required = true, value_name = "FILTER")]
    filters: Vec<String>,
    /// The values that the topics have now, first
    #[arg(long)]
    retained: bool,
    /// Print JSON objects: topic, args, kwargs, retained, id (if it is stored) and qos (if it is known)
    #[arg(long)]
    json: bool,
    /// Print the payloads alone, byte for byte as MQTT carries them, with nothing between
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Stop after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after this time; that is a failure if --count is not reached
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// End with the connection instead of connecting again
    #[arg(long)]
    once: bool,
    /// Read the filters as exact names, prefixes or WAMP wildcards, instead of guessing from + * #
    #[arg(long = "match", value_enum, value_name = "HOW")]
    policy: Option<Match>,
    /// Print topics in this spelling [default: mqtt, unless a filter is in WAMP's]
    #[arg(long, value_enum, value_name = "HOW")]
    spell: Option<Spelling>,
    #[command(flatten)]
    target: Target,
}

/// Prints events until there are enough of them, the time is over, or nobody reads them.
pub async fn subscribe(command: &Subscribe) -> Result<(), Failure> {
    let filters = command.filters.iter().map(|text| names::filter(text, command.policy)).collect::<Result<Vec<_>, Usage>>()?;
    let spelling = names::printed_as(command.spell, command.filters.iter().map(String::as_str));
    let positions = filters.iter().map(|filter| Position { filter: filter.clone(), subscription: 0, last: None }).collect();
    let mut subscriber =
        Subscriber { command, positions, spelling, session: Lasting::new(), client: None, was_connected: false, seen: 0 };
    let mut stop = output::stop()?;
    let begun = tokio::select! {
        begun = subscriber.begin() => begun.map(|()| true),
        () = stop.requested() => Ok(false),
    };
    if !begun? {
        subscriber.close().await;
        return Ok(());
    }
    let outcome = tokio::select! {
        outcome = subscriber.run() => outcome,
        () = over(command.timeout_ms) => subscriber.check_count(),
        () = stop.requested() => Ok(()),
    };
    subscriber.close().await;
    outcome
}

async fn over(timeout_ms: Option<u64>) {
    match timeout_ms {
        Some(timeout_ms) => tokio::time::sleep(Duration::from_millis(timeout_ms)).await,
        None => std::future::pending().await,
    }
}

/// The progress of the events of one filter.
struct Position {
    filter: Filter,
    /// The subscription that its events name.
    subscription: u64,
    /// The id of its last event in the history, or of one behind which it has none.
    last: Option<u64>,
}

/// A subscriber over all its connections.
struct Subscriber<'a> {
    command: &'a Subscribe,
    positions: Vec<Position>,
    spelling: Spelling,
    session: Lasting,
    client: Option<Client>,
    was_connected: bool,
    seen: u64,
}

impl Subscriber<'_> {
    async fn begin(&mut self) -> Result<(), Failure> {
        self.connect().await?;
        say(&format!("subscribed to {}; Ctrl-C stops it", self.command.filters.join(", ")));
        Ok(())
    }

    async fn run(&mut self) -> Result<(), Failure> {
        while let Some(why) = self.print_events().await? {
            if self.command.once {
                return Err(why.into());
            }
            self.connect_again(&why).await?;
        }
        Ok(())
    }

    /// Connects and subscribes; true if what was published since the connection before may be missed.
    async fn connect(&mut self) -> Result<bool, Trouble> {
        self.client = None;
        let mut client = match self.command.once {
            true => Client::open(&self.command.target).await?,
            false => Client::open_lasting(&self.command.target, &mut self.session).await?,
        };
        let mut may_miss = false;
        if !client.is_resumed() {
            for position in &mut self.positions {
                may_miss |= resume(&mut client, position, self.command.retained).await?;
            }
        }
        if !self.command.once {
            self.note_position(&mut client).await?;
        }
        self.client = Some(client);
        Ok(may_miss && std::mem::replace(&mut self.was_connected, true))
    }

    /// Notes where the history ends now: a filter whose first event is still to come goes on behind that.
    async fn note_position(&mut self, client: &mut Client) -> Result<(), Trouble> {
        for position in self.positions.iter_mut().filter(|position| position.last.is_none()) {
            position.last = client.newest(&position.filter).await.map_err(Trouble::Lost)?;
        }
        Ok(())
    }

    async fn connect_again(&mut self, why: &str) -> Result<(), Failure> {
        let mut again = Again::after(why);
        loop {
            again.pause().await;
            match self.connect().await {
                Ok(may_miss) => {
                    again::say_connected(if may_miss { "what was published meanwhile may be missing" } else { "" });
                    return Ok(());
                }
                Err(Trouble::Lost(_)) => {}
                Err(trouble) => return Err(trouble.into()),
            }
        }
    }

    /// Prints what comes; returns why the connection was lost, or nothing once there is no more to print.
    async fn print_events(&mut self) -> Result<Option<String>, Failure> {
        let Some(client) = &mut self.client else { return Ok(None) };
        loop {
            let event = match client.next_event().await {
                Ok(event) => event,
                Err(why) => return Ok(Some(why)),
            };
            for position in self.positions.iter_mut().filter(|position| position.subscription == event.subscription) {
                position.last = position.last.max(event.id);
            }
            if print(&event, self.spelling, self.command)? == Written::ReaderGone {
                return Ok(None);
            }
            self.seen += 1;
            if self.command.count == Some(self.seen) {
                return Ok(None);
            }
        }
    }

    /// The time is over.
    fn check_count(&self) -> Result<(), Failure> {
        let (seen, timeout_ms) = (self.seen, self.command.timeout_ms.unwrap_or_default());
        match self.command.count {
            Some(count) if seen < count => {
                let why = format!("{seen} of {count} events came in {timeout_ms} ms; wait longer, or check the filter");
                Err(Failure::from(why))
            }
            _ => Ok(()),
        }
    }

    async fn close(self) {
        if let Some(client) = self.client {
            client.close().await;
        }
        if self.session.has_begun {
            self.session.end(&self.command.target).await;
        }
    }
}

/// Subscribes behind the last event of the connection before; true where that cannot be, and what was published before may be missed.
async fn resume(client: &mut Client, position: &mut Position, with_retained: bool) -> Result<bool, Trouble> {
    let after = position.last;
    let anew = Subscribing { with_retained, after: None };
    let how = if after.is_some() { Subscribing { with_retained: false, after } } else { anew };
    let subscribed = match client.subscribe(&position.filter, how).await {
        // No history, another one, or one that begins later.
        Err(Trouble::Refused(..)) if after.is_some() => {
            position.last = None;
            client.subscribe(&position.filter, anew).await.map(|subscription| (subscription, true))
        }
        subscribed => subscribed.map(|subscription| (subscription, after.is_none())),
    };
    let (subscription, may_miss) = subscribed?;
    position.subscription = subscription;
    Ok(may_miss)
}

/// One event as a JSON object.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    args: &'a [Box<RawValue>],
    kwargs: &'a RawValue,
    retained: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qos: Option<u8>,
}

fn print(event: &Event, spelling: Spelling, command: &Subscribe) -> Result<Written, String> {
    let topic = names::spelled(&event.topic, spelling);
    if command.raw {
        let message = event.message.clone().unwrap_or_else(|| event.body.to_message().bytes);
        return output::print_bytes(&message);
    }
    if !command.json {
        let payload = event.body.line();
        return if payload.is_empty() { output::print(topic) } else { output::print(&format!("{topic} {payload}")) };
    }
    let nothing = RawValue::from_string("{}".to_owned()).unwrap_or_default();
    let line = Line {
        topic,
        args: &event.body.args,
        kwargs: event.body.kwargs.as_deref().unwrap_or(&nothing),
        retained: event.is_retained,
        id: event.id,
        qos: event.qos,
    };
    let line = serde_json::to_string(&line).map_err(|error| format!("cannot print an event: {error}"))?;
    output::print(&compact(&line))
}
