//! The deliveries that a realm sends to a connection; its gate encodes them.
use std::sync::Arc;

use smallvec::SmallVec;

use super::command::{CancelMode, FailedRequest};
use super::outcome::Outcome;
use super::properties::Properties;
use super::publication::Publisher;
use super::{
    EventId, InvocationId, PacketId, Payload, Publication, PublicationId, Qos, Reason, RegistrationId, RequestId, SessionId,
    SubscriptionId, Topic,
};

/// One thing to tell a client.
#[derive(Debug)]
pub enum Delivery {
    /// The session is open.
    Opened {
        /// Its id.
        session: SessionId,
        /// The session existed before.
        session_present: bool,
    },
    /// The session was not opened; the connection ends.
    Refused(Reason),
    /// A publication, as one event per receiver (MQTT) or per subscription (WAMP).
    Event(Event),
    /// PUBREL for a delivery that the receiver has said to have [MQTT-4.3.3-4], or `PacketIdNotFound`.
    Release(PacketId, Result<(), Reason>),
    /// QoS 1 publication taken (PUBACK), or refused.
    Acknowledged(PacketId, Result<Taken, Reason>),
    /// QoS 2 publication taken (PUBREC), or refused.
    Received(PacketId, Result<Taken, Reason>),
    /// So many events that the receiver was owed are not kept any more: it is told with the next one.
    Missed(u64),
    /// Not for the client: it may not publish to this topic, which the log is told.
    Denied(Topic, Reason),
    /// Not for the client: more of a long answer follows once the outbox has come to this.
    Paused,
    /// QoS 2 publication over (PUBCOMP), or unknown.
    Completed(PacketId, Result<(), Reason>),
    /// WAMP PUBLISHED, or its ERROR.
    Published(RequestId, Result<PublicationId, Reason>),
    /// Answer to `Command::Subscribe`, entry by entry.
    Subscribed(RequestId, Vec<Result<Granted, Reason>>),
    /// Answer to `Command::Unsubscribe`, entry by entry.
    Unsubscribed(RequestId, Vec<Result<(), Reason>>),
    /// The router has ended a subscription: it was a snapshot and is complete, or why else.
    Revoked(SubscriptionId, Result<(), Reason>),
    /// A call for a WAMP callee.
    Invocation(Box<Invocation>),
    /// The callee should stop.
    Interrupt {
        /// Which invocation.
        invocation: InvocationId,
        /// The mode in which the call was canceled.
        mode: CancelMode,
        /// Why: `Canceled` or `Timeout`.
        reason: Reason,
    },
    /// An answer for a WAMP caller, refusals by the router included (`Outcome::Error(ErrorUri::Reason(_))`, no payload).
    Answer(Box<Answer>),
    /// A WAMP request that the gate had refused: ERROR.
    Failed(FailedRequest, RequestId, Reason),
    /// PINGRESP.
    Pong,
    /// The router ends the connection.
    Close(Reason),
}

/// A publication on its way to one receiver.
#[derive(Debug)]
pub struct Event {
    /// The publication.
    pub publication: Arc<Publication>,
    /// QoS of this delivery: the smaller of published and granted.
    pub qos: Qos,
    /// RETAIN flag of this delivery.
    pub retain: bool,
    /// Sent before.
    pub duplicate: bool,
    /// The topic was not subscribed by its name alone: WAMP details must name it.
    pub by_pattern: bool,
    /// Present for QoS > 0.
    pub packet_id: Option<PacketId>,
    /// WAMP: the one subscription. MQTT 5: the subscription identifiers, if any.
    pub subscriptions: SmallVec<[u64; 2]>,
}

/// A publication that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Somebody receives it (else MQTT 5 reason 0x10).
    pub has_receivers: bool,
    /// Where it was published under a condition: the id of its grant.
    pub token: Option<EventId>,
}

/// A granted subscription or registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Granted {
    /// Events will come under this id with at most this QoS.
    Subscription(SubscriptionId, Qos),
    /// Invocations will come under this id.
    Registration(RegistrationId, Qos),
}

/// A call, as put to a WAMP callee.
#[derive(Debug)]
pub struct Invocation {
    /// The callee's number for it.
    pub id: InvocationId,
    /// The registration that it fits.
    pub registration: RegistrationId,
    /// The procedure called, where the registration is a pattern.
    pub procedure: Option<Topic>,
    /// With what.
    pub payload: Payload,
    /// The caller, if disclosed.
    pub caller: Option<Publisher>,
    /// The caller takes progressive results.
    pub receive_progress: bool,
    /// Time limit that the callee asked to enforce, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Properties that travel with the call.
    pub properties: Option<Box<Properties>>,
}

/// A result, progress or error, as put to a WAMP caller.
#[derive(Debug)]
pub struct Answer {
    /// The call's request.
    pub request: RequestId,
    /// Result, progress or error.
    pub outcome: Outcome,
    /// The body.
    pub payload: Payload,
    /// Properties that travel with the answer.
    pub properties: Option<Box<Properties>>,
}
