//! The messages of a router to a WAMP client, as owned values.
use corsac::model::EventId;
use corsac::wire::wamp::Message;
use corsac::wire::wamp::options::EventDetails;

use super::body::Body;

/// One message of the router.
pub enum Incoming {
    /// WELCOME
    Welcome,
    /// CHALLENGE, with the method.
    Challenge(String),
    /// ABORT or GOODBYE: reason and explanation.
    Ended(String, Option<String>),
    /// The answer to the request of this id.
    Answer(u64, Answer),
    /// EVENT, with the id of its subscription.
    Event(u64, Box<Event>),
    /// INVOCATION
    Invocation(u64, Body),
    /// INTERRUPT
    Interrupt(u64),
    /// Nothing that a client needs to look at.
    Other,
}

/// The answer to a request, which may go on.
pub enum Answer {
    /// Done; the id of what came of it, 0 if there is none.
    Done(u64),
    /// RESULT; true for a progressive one.
    Result(bool, Body),
    /// ERROR: its URI and what the failing side says.
    Error(String, Body),
}

/// EVENT
pub struct Event {
    /// Where it was published, if the subscription does not say it.
    pub topic: Option<String>,
    /// The body.
    pub body: Body,
    /// The topic's value, not a new message.
    pub is_retained: bool,
    /// Its id in the history, if it is stored.
    pub id: Option<u64>,
    /// MQTT's quality of service, if it came from there.
    pub qos: Option<u8>,
}

impl From<Message<'_>> for Incoming {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Welcome { .. } => Incoming::Welcome,
            Message::Challenge { method, .. } => Incoming::Challenge(method.into()),
            Message::Abort { details, reason, .. } | Message::Goodbye { details, reason } => {
                Incoming::Ended(reason.into(), details.message.map(Into::into))
            }
            Message::Published { request, publication } => Incoming::Answer(request.0, Answer::Done(publication.0)),
            Message::Subscribed { request, subscription } => Incoming::Answer(request.0, Answer::Done(subscription.0)),
            Message::Registered { request, registration } => Incoming::Answer(request.0, Answer::Done(registration.0)),
            Message::Result { request, details, payload } => {
                let is_progress = details.progress.unwrap_or(false);
                Incoming::Answer(request.0, Answer::Result(is_progress, Body::of_payload(&payload)))
            }
            Message::Error { request, error, payload, .. } => {
                Incoming::Answer(request.0, Answer::Error(error.into(), Body::of_payload(&payload)))
            }
            Message::Event { subscription, publication, details, payload } => {
                let event = event(publication.0, details, Body::of_payload(&payload));
                Incoming::Event(subscription.0, Box::new(event))
            }
            Message::Invocation { invocation, payload, .. } => Incoming::Invocation(invocation.0, Body::of_payload(&payload)),
            Message::Interrupt { invocation, .. } => Incoming::Interrupt(invocation.0),
            _ => Incoming::Other,
        }
    }
}

fn event(publication: u64, details: EventDetails, body: Body) -> Event {
    Event {
        topic: details.topic.map(Into::into),
        body,
        is_retained: details.retained.unwrap_or(false),
        id: EventId::new(publication).map(EventId::value),
        qos: details.mqtt.and_then(|mqtt| mqtt.qos).map(|qos| qos.bits()),
    }
}
