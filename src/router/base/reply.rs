//! The caller who waits for the answer of a call, and the answer.
use crate::model::Topic;
use crate::model::sentence::of_call;
use bytes::Bytes;
use serde_json::Value;

use crate::model::command::{Acknowledge, ReplyTo};
use crate::model::outcome::Outcome;
use crate::model::properties::Properties;
use crate::model::{Encoding, ErrorUri, Payload, Qos, Reason, RequestId};
use crate::router::base::key::SessionKey;

/// A value as the one argument of a publication.
pub fn json_args(value: &Value) -> Payload {
    let args = Value::Array(vec![value.clone()]).to_string().into();
    Payload::Args { encoding: Encoding::Json, args, kwargs: Bytes::new() }
}

/// The answer of a procedure of the router's own.
#[derive(Debug)]
pub enum Reply {
    /// With these arguments, now.
    Now(Vec<Value>),
    /// With this error, now.
    Refused(ErrorUri),
    /// With this error and a sentence about it, now.
    Failed(Reason, String),
    /// By itself, when there is an answer: it has kept the caller.
    Later,
}

impl From<Reason> for Reply {
    fn from(reason: Reason) -> Self {
        Reply::Refused(ErrorUri::Reason(reason))
    }
}

/// The one who waits for an answer, and where.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The session; `None` once it has left a call that it wanted no answer for.
    pub session: Option<SessionKey>,
    /// Where the answer goes.
    pub reply: ReplyTo,
    /// QoS of the call, and so of its answers.
    pub qos: Qos,
    /// The procedure that was called, for refusals; `None` where its name is too long to be kept.
    pub name: Option<Topic>,
    /// The lock that it asks about, as it spells that.
    pub lock: Option<Box<str>>,
}

/// Longest name that a call keeps while it is on its way, in bytes.
const MAX_KEPT_NAME: usize = 256;

/// The name of the procedure, if a call keeps it.
pub fn kept_name(name: &Topic) -> Option<Topic> {
    (name.as_mqtt().len() <= MAX_KEPT_NAME).then(|| name.clone())
}

/// An answer for a caller.
#[derive(Debug)]
pub struct Message {
    /// Result, progress or error.
    pub outcome: Outcome,
    /// The body.
    pub payload: Payload,
    /// Properties that travel with it.
    pub properties: Option<Box<Properties>>,
}

impl Message {
    /// An error of the router's own.
    pub fn error(reason: Reason) -> Self {
        Message { outcome: Outcome::Error(ErrorUri::Reason(reason)), payload: Payload::empty(), properties: None }
    }
}

impl Caller {
    /// The request, if it has one.
    pub fn request(&self) -> Option<RequestId> {
        request_of(&self.reply)
    }

    /// The arguments of an error of the router's own. The first is a sentence with the name of the procedure, as the caller
    /// spells it; behind it are values that a program can use.
    pub fn refusal(&self, reason: Reason) -> Payload {
        if let Some(lock) = &self.lock {
            return Payload::of_values(&[format!("the lock {lock}: {reason}").into()]);
        }
        let name = match (&self.name, &self.reply) {
            (None, _) => "the procedure",
            (Some(name), ReplyTo::Request(_)) => name.as_uri(),
            (Some(name), _) => name.as_mqtt(),
        };
        let sentence = of_call(name, reason).into();
        match reason {
            Reason::HistoryTooOld(oldest) => Payload::of_values(&[sentence, oldest.value().into()]),
            _ => Payload::of_values(&[sentence]),
        }
    }

    /// Bytes that its reply address holds while the call is on its way.
    pub fn reply_bytes(&self) -> usize {
        match &self.reply {
            ReplyTo::Request(_) | ReplyTo::Nobody => 0,
            ReplyTo::Topic { topic, correlation_data } => {
                topic.as_mqtt().len() + correlation_data.as_ref().map_or(0, |data| data.len())
            }
            ReplyTo::CallId(id) => id.len(),
        }
    }
}

/// The QoS of the PUBLISH that carried a call.
pub fn qos_of(acknowledge: Acknowledge) -> Qos {
    match acknowledge {
        Acknowledge::None | Acknowledge::Request(_) => Qos::AtMostOnce,
        Acknowledge::AtLeastOnce(_) => Qos::AtLeastOnce,
        Acknowledge::ExactlyOnce(_) | Acknowledge::ExactlyOnceAgain(_) => Qos::ExactlyOnce,
    }
}

pub fn request_of(reply: &ReplyTo) -> Option<RequestId> {
    match reply {
        ReplyTo::Request(request) => Some(*request),
        _ => None,
    }
}

/// Where an answer goes is between each side and the router: the other side does not see it.
pub fn without_addresses(mut properties: Option<Box<Properties>>) -> Option<Box<Properties>> {
    if let Some(properties) = &mut properties {
        properties.response_topic = None;
        properties.correlation_data = None;
    }
    properties
}
