//! A small client of either protocol, for `corsac pub | sub | call | register | history`.
pub mod body;
mod incoming;
mod mqtt;
pub mod names;
mod pump;
pub mod target;
mod transport;
mod wamp;

use bytes::Bytes;
use corsac::model::{Filter, Qos, Topic, names as reserved};

use crate::command_line::failure::{Failure, Usage};
use body::Body;
use mqtt::MqttClient;
use names::Spelling;
pub use pump::Lasting;
use target::{Scheme, Target};
use wamp::WampClient;
pub use wamp::wamp_filter;

/// The error of an invocation that its caller gave up.
pub const CANCELED: &str = reserved::CANCELED;

/// Why there is no session, or not what was asked of it. Messages are for people and say what to do.
#[derive(Debug)]
pub enum Trouble {
    /// The command line is wrong.
    Usage(Usage),
    /// There is no connection: another try may make one.
    Lost(String),
    /// Another try would end in the same way: the error's URI (where there is one), and the message.
    Refused(String, String),
}

impl From<Usage> for Trouble {
    fn from(usage: Usage) -> Self {
        Trouble::Usage(usage)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Usage(usage) => usage.into(),
            Trouble::Lost(message) | Trouble::Refused(_, message) => message.into(),
        }
    }
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> Self {
        Failure::from(trouble).message
    }
}

/// A connection that has joined a realm. Errors are messages for people that say what to do.
pub enum Client {
    /// Over `ws://` and `rs://`.
    Wamp(Box<WampClient>),
    /// Over `mqtt://`.
    Mqtt(Box<MqttClient>),
}

/// The options of a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publishing {
    /// Above 0 the router acknowledges.
    pub qos: Qos,
    /// Keep as the topic's value.
    pub retain: bool,
}

/// The options of a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Subscribing {
    /// The values of the topics first.
    pub with_retained: bool,
    /// The history behind this event first. An MQTT session that lasts does without.
    pub after: Option<u64>,
}

/// The options of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Calling {
    /// The router gives up after this long.
    pub timeout_ms: Option<u64>,
    /// Progressive results are welcome.
    pub with_progress: bool,
}

/// The end of a call.
#[derive(Debug)]
pub enum Outcome {
    /// With this result.
    Result(Body),
    /// With the error of this URI.
    Error(String, Body),
}

/// Something that a callee is told.
#[derive(Debug)]
pub enum Work {
    /// To serve the call of this number with these arguments.
    Invocation(u64, Body),
    /// Nobody waits for the call of this number any longer.
    Cancel(u64),
}

/// An event for a subscriber.
#[derive(Debug)]
pub struct Event {
    /// By which subscription, where the protocol tells it, else 0.
    pub subscription: u64,
    /// Where it was published.
    pub topic: Topic,
    /// The body.
    pub body: Body,
    /// The bytes that it came as, if they were MQTT's.
    pub message: Option<Bytes>,
    /// The topic's value, not a new message.
    pub is_retained: bool,
    /// Its id in the history, if it is stored and the protocol tells it.
    pub id: Option<u64>,
    /// MQTT's quality of service, if the protocol tells it.
    pub qos: Option<u8>,
}

/// Runs the method of whichever client there is.
macro_rules! either {
    ($client:expr, $inner:ident => $body:expr) => {
        match $client {
            Client::Wamp($inner) => $body,
            Client::Mqtt($inner) => $body,
        }
    };
}

impl Client {
    /// Connects and joins the realm.
    pub async fn open(target: &Target) -> Result<Self, Trouble> {
        Self::open_with(target, None).await
    }

    /// The same as one more connection of a session that lasts, where the protocol has such sessions.
    pub async fn open_lasting(target: &Target, session: &mut Lasting) -> Result<Self, Trouble> {
        Self::open_with(target, Some(session)).await
    }

    async fn open_with(target: &Target, session: Option<&mut Lasting>) -> Result<Self, Trouble> {
        let url = target.url()?;
        Ok(match url.scheme {
            Scheme::WebSocket | Scheme::RawSocket => Client::Wamp(Box::new(WampClient::open(target, url).await?)),
            Scheme::Mqtt => Client::Mqtt(Box::new(MqttClient::open(target, url, session).await?)),
        })
    }

    /// True if the router has kept the session, with its subscriptions and what it is owed.
    pub fn is_resumed(&self) -> bool {
        match self {
            Client::Wamp(_) => false,
            Client::Mqtt(client) => client.is_resumed(),
        }
    }

    /// The spelling of topics in this protocol.
    pub fn spelling(&self) -> Spelling {
        match self {
            Client::Wamp(_) => Spelling::Wamp,
            Client::Mqtt(_) => Spelling::Mqtt,
        }
    }

    /// Publishes; returns before the acknowledgement, which `settle` awaits.
    pub async fn publish(&mut self, topic: &Topic, body: &Body, publishing: Publishing) -> Result<(), String> {
        either!(self, client => client.publish(topic, body, publishing).await)
    }

    /// Waits until every publication is acknowledged.
    pub async fn settle(&mut self) -> Result<(), String> {
        either!(self, client => client.settle().await)
    }

    /// Subscribes; the id of the subscription as its events name it, 0 where they name none.
    pub async fn subscribe(&mut self, filter: &Filter, how: Subscribing) -> Result<u64, Trouble> {
        either!(self, client => client.subscribe(filter, how).await)
    }

    /// The id of an event in the history behind which `filter` has none so far; `None` without a history, or where the protocol needs
    /// it for nothing.
    pub async fn newest(&mut self, filter: &Filter) -> Result<Option<u64>, String> {
        match self {
            Client::Wamp(client) => client.newest(filter).await,
            Client::Mqtt(_) => Ok(None),
        }
    }

    /// The next event. May be given up at any time without loss.
    pub async fn next_event(&mut self) -> Result<Event, String> {
        either!(self, client => client.next_event().await)
    }

    /// Calls a procedure; `on_progress` gets progressive results.
    pub async fn call(
        &mut self,
        procedure: &Topic,
        body: &Body,
        calling: Calling,
        on_progress: &mut impl FnMut(&Body) -> Result<(), String>,
    ) -> Result<Outcome, String> {
        either!(self, client => client.call(procedure, body, calling, on_progress).await)
    }

    /// Serves a procedure; `concurrency` calls at a time.
    pub async fn register(&mut self, procedure: &Topic, concurrency: Option<u32>) -> Result<(), Trouble> {
        either!(self, client => client.register(procedure, concurrency).await)
    }

    /// The next call to serve or to leave. May be given up at any time without loss.
    pub async fn next_work(&mut self) -> Result<Work, String> {
        either!(self, client => client.next_work().await)
    }

    /// Answers the call of this number.
    pub async fn answer(&mut self, invocation: u64, outcome: Outcome) -> Result<(), String> {
        either!(self, client => client.answer(invocation, outcome).await)
    }

    /// Keeps the connection alive while there is nothing to do; says how it ended.
    pub async fn idle(&mut self) -> String {
        either!(self, client => client.idle().await)
    }

    /// Leaves, everything sent.
    pub async fn close(self) {
        either!(self, client => client.close().await);
    }
}

/// An error of the router or of a callee, with what to do about it.
pub fn refusal(uri: &str, body: &Body) -> String {
    match body.sentence() {
        // The router's own words say what to do, where they go on behind a semicolon.
        Some(sentence) if sentence.contains("; ") || sentence.starts_with("the router has no") => format!("{uri}: {sentence}"),
        Some(sentence) => format!("{uri}: {sentence}{}", advice(uri)),
        None if body.is_empty() => format!("{uri}{}", advice(uri)),
        None => format!("{uri} {}{}", body.arguments_json(), advice(uri)),
    }
}

/// The event, of a message that goes on with the advice.
pub fn what_happened(message: &str) -> &str {
    message.split_once("; ").map_or(message, |(what, _)| what)
}

/// Advice on the error of this URI; empty where only its own words can give it.
fn advice(uri: &str) -> &'static str {
    match uri {
        reserved::NO_SUCH_REALM => "; name a realm that the router has with --realm",
        reserved::NO_SUCH_PROCEDURE => "; is whoever serves it connected? try `corsac register PROCEDURE --echo`",
        reserved::PROCEDURE_ALREADY_EXISTS => "; somebody else serves it: stop that, or take another name",
        reserved::NOT_AUTHORIZED => "; the router's rules do not allow it: take another name, or ask whoever runs it",
        reserved::INVALID_URI => "; check the name",
        reserved::TIMEOUT => "; give it longer with --timeout-ms, or look after whoever serves it",
        reserved::NO_AVAILABLE_CALLEE => "; is whoever serves it still connected?",
        reserved::NO_HISTORY => "; start the router without --memory",
        reserved::HISTORY_TOO_OLD => ", the oldest event that is kept; begin with --after 0",
        reserved::SYSTEM_SHUTDOWN => "; start the router again with `corsac`",
        _ => "",
    }
}
