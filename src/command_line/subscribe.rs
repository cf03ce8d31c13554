//! `corsac sub`: prints events, a line each.
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::client::body::compact;
use super::client::names::{self, Match, Spelling};
use super::client::target::Target;
use super::client::{Client, Event};
use super::output::{self, Written};

/// What `corsac sub` is told.
#[derive(Args)]
pub struct Subscribe {
    /// Topics and patterns: demo/hello, demo/+/state, 'demo/#'; or as WAMP spells them: demo.hello, 'demo.*.state', 'demo.#'
    #[arg(required = true, value_name = "FILTER")]
    filters: Vec<String>,
    /// How the filters are meant, where their text alone does not say it
    #[arg(long = "match", value_enum, value_name = "HOW")]
    policy: Option<Match>,
    /// The values that the topics have now, first
    #[arg(long)]
    retained: bool,
    /// Print JSON objects: topic, args, kwargs, retained, publication, qos
    #[arg(long)]
    json: bool,
    /// Stop after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after this time; that is a failure if --count is not reached
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    #[command(flatten)]
    target: Target,
}

/// Prints events until there are enough of them, the time is over, or nobody reads them.
pub async fn subscribe(command: &Subscribe) -> Result<(), String> {
    let filters = command.filters.iter().map(|text| names::filter(text, command.policy)).collect::<Result<Vec<_>, _>>()?;
    let mut client = Client::open(&command.target).await?;
    for filter in &filters {
        client.subscribe(filter, command.retained).await?;
    }
    // Topics are printed the way the filters are written.
    let spelling = command.filters.iter().find_map(|text| names::spelling(text)).unwrap_or(client.spelling());
    let mut stop = output::stop()?;
    let end = async {
        match command.timeout_ms {
            Some(timeout_ms) => tokio::time::sleep(Duration::from_millis(timeout_ms)).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let mut seen = 0;
    loop {
        tokio::select! {
            event = client.next_event() => {
                let line = line(&event?, spelling, command.json)?;
                if output::print(&line)? == Written::ReaderGone {
                    break;
                }
                seen += 1;
            }
            () = &mut end => break,
            () = stop.requested() => {
                client.close().await;
                return Ok(());
            }
        }
        if command.count == Some(seen) {
            break;
        }
    }
    client.close().await;
    match (command.count, command.timeout_ms) {
        (Some(count), Some(timeout_ms)) if seen < count => {
            Err(format!("{seen} of {count} events came in {timeout_ms} ms; wait longer, or check the filter"))
        }
        _ => Ok(()),
    }
}

/// One event as a JSON object.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    args: &'a [Box<RawValue>],
    kwargs: &'a RawValue,
    retained: bool,
    publication: Option<u64>,
    qos: Option<u8>,
}

fn line(event: &Event, spelling: Spelling, is_json: bool) -> Result<String, String> {
    let topic = names::spelled(&event.topic, spelling);
    if !is_json {
        let payload = event.body.line();
        return Ok(if payload.is_empty() { topic.to_owned() } else { format!("{topic} {payload}") });
    }
    let nothing = RawValue::from_string("{}".to_owned()).unwrap_or_default();
    let line = Line {
        topic,
        args: &event.body.args,
        kwargs: event.body.kwargs.as_deref().unwrap_or(&nothing),
        retained: event.is_retained,
        publication: event.publication,
        qos: event.qos,
    };
    serde_json::to_string(&line).map(|line| compact(&line)).map_err(|error| format!("cannot print an event: {error}"))
}
