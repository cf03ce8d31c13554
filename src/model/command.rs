//! The commands that a session gives to its realm.
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::arguments::Arguments;
use super::outcome::Outcome;
use super::properties::Properties;
use super::{
    EventId, Filter, InvocationId, PacketId, Payload, Principal, Publication, Qos, Reason, RegistrationId, RequestId, SessionId,
    SubscriptionId, Topic,
};

/// One request of a connection; the gate has validated its form, the router decides.
#[derive(Debug)]
pub enum Command {
    /// First command of a connection: open or resume a session.
    Open(Box<Open>),
    /// Publish one message.
    Publish {
        /// The message, not yet shared with anybody.
        publication: Arc<Publication>,
        /// The answer that the publisher wants.
        acknowledge: Acknowledge,
        /// Options that most publications do not have.
        options: Option<Box<PublishOptions>>,
    },
    /// A publication, call or answer that the gate has refused: answered in its turn.
    Refuse {
        /// The answer that its sender wants.
        acknowledge: Acknowledge,
        /// Why.
        reason: Reason,
    },
    /// A WAMP request that the gate has refused: answered in its turn by `Delivery::Failed`.
    Fail {
        /// Which kind.
        kind: FailedRequest,
        /// Echoed in the answer.
        request: RequestId,
        /// Why.
        reason: Reason,
    },
    /// Subscribe to topics and serve procedures; answered by one `Delivery::Subscribed`.
    Subscribe {
        /// Echoed in the answer.
        request: RequestId,
        /// The subscriptions asked for, in order.
        entries: Vec<SubscribeEntry>,
    },
    /// Give up by filter, as MQTT names it; answered by one `Delivery::Unsubscribed`.
    Unsubscribe {
        /// Echoed in the answer.
        request: RequestId,
        /// The subscriptions to give up, in order.
        entries: Vec<UnsubscribeEntry>,
    },
    /// Progress of QoS > 0 deliveries, all of one read batch.
    Acknowledge(Vec<Acknowledgement>),
    /// The publisher's PUBREL: ends the use of a packet id, answered by `Delivery::Completed`.
    Release(PacketId),
    /// Call a procedure.
    Call(Box<Call>),
    /// Cancel a call of this session.
    Cancel {
        /// The call's request.
        request: RequestId,
        /// The effect on the callee.
        mode: CancelMode,
    },
    /// Answer of a callee.
    Yield(Box<Yield>),
    /// PINGREQ: answered by `Delivery::Pong`, behind all that has been said and before what waits for the disk.
    Ping,
    /// Change the session's expiry and will before the end, then end (DISCONNECT, GOODBYE).
    Close(Close),
    /// The socket is gone, or the gate ended the connection for this reason.
    Lost(Reason),
}

/// The kinds of WAMP requests that can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum FailedRequest {
    Publish,
    Subscribe,
    Unsubscribe,
    Register,
    Unregister,
    Call,
    Cancel,
}

/// The answer to a publisher (or MQTT caller).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acknowledge {
    /// Not at all.
    None,
    /// MQTT QoS 1: PUBACK with this id.
    AtLeastOnce(PacketId),
    /// MQTT QoS 2: PUBREC with this id, recognised again until released.
    ExactlyOnce(PacketId),
    /// The same, with DUP: its sender says that it is a repetition.
    ExactlyOnceAgain(PacketId),
    /// WAMP `acknowledge: true`: PUBLISHED or ERROR with this request.
    Request(RequestId),
}

/// Longest [`PublishOptions::dedup`], in bytes.
pub const MAX_DEDUP_BYTES: usize = 128;

/// Rare options of a publication (WAMP: Advanced, Publisher Exclusion, Subscriber Black- and Whitelisting).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishOptions {
    /// Do not deliver to the publisher itself: WAMP's default is true, MQTT's false.
    pub exclude_me: bool,
    /// Show the publisher to subscribers.
    pub disclose_me: bool,
    /// Publish only where the topic's value lets it.
    pub condition: Option<Box<Condition>>,
    /// Publications stored with the same key of the same client count as one, however often they are sent (MAPPING.md, Payloads).
    pub dedup: Option<Box<str>>,
}

impl Default for PublishOptions {
    fn default() -> Self {
        PublishOptions { exclude_me: true, disclose_me: false, condition: None, dedup: None }
    }
}

/// The condition on a topic's value that a publication sets, and its promise for later (MAPPING.md, Retained state).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Condition {
    /// Publish only if the value fits this ([`crate::model::pattern`]); `None` = whatever it is.
    pub when: Option<Value>,
    /// Wait in line until it fits.
    pub watch: bool,
    /// The value that the topic gets if the session ends; `Some(null)` = none.
    pub will: Option<Value>,
    /// The client says that it has sent this before (DUP).
    pub is_resent: bool,
    /// Where the grant of what waits is said, besides the acknowledgement, and the loss of what is held.
    pub reply: Option<ReplyTo>,
}

/// Opens a session.
#[derive(Debug)]
pub struct Open {
    /// The session id to use if a new session begins; random in 1..=2^53 (WAMP: global scope).
    pub session: SessionId,
    /// The protocol of the connection.
    pub protocol: Protocol,
    /// The transport of the connection.
    pub transport: Transport,
    /// The identity of the client.
    pub principal: Arc<Principal>,
    /// MQTT's client id, which names the session; WAMP sessions have none.
    pub client_id: Option<Box<str>>,
    /// Forget an earlier session of this client id.
    pub clean_start: bool,
    /// Seconds the session outlives its connection: 0 ends with it, `u32::MAX` never ends.
    pub expiry_s: u32,
    /// QoS > 0 publications the client takes unacknowledged.
    pub receive_maximum: u16,
    /// Published when the session ends without a goodbye.
    pub will: Option<Will>,
    /// The WAMP features that the client announced and that change the router's messages.
    pub features: Features,
}

/// The protocol of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// MQTT 3.1
    Mqtt31,
    /// MQTT 3.1.1
    Mqtt311,
    /// MQTT 5.0
    Mqtt5,
    /// WAMP v2
    Wamp,
}

impl Protocol {
    /// True for every MQTT version.
    pub fn is_mqtt(self) -> bool {
        !matches!(self, Protocol::Wamp)
    }
}

/// The transport of a client, as shown to others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transport {
    /// The peer's address.
    pub peer: Box<str>,
    /// `tcp`, `websocket` or `rawsocket`.
    pub kind: &'static str,
}

/// Client features that the router must respect (WAMP: `HELLO.Details.roles`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// Callee can be sent INTERRUPT.
    pub callee_canceling: bool,
    /// Callee understands `receive_progress` and sends progressive results.
    pub callee_progress: bool,
    /// Callee enforces `timeout` itself when it is forwarded.
    pub callee_timeout: bool,
}

/// A will (MQTT) or testament (WAMP).
#[derive(Clone, Debug)]
pub struct Will {
    /// The message to publish.
    pub publication: Arc<Publication>,
    /// Seconds to wait for the session to come back first.
    pub delay_s: u32,
    /// Lifetime in seconds, counted from when it is published.
    pub expiry_s: Option<u32>,
}

/// One thing asked for by a SUBSCRIBE.
#[derive(Clone, Debug)]
pub enum SubscribeEntry {
    /// Events of topics.
    Topic {
        /// Which topics.
        filter: Filter,
        /// The group that shares this subscription, if any.
        share: Option<Box<str>>,
        /// The terms of delivery.
        options: SubscribeOptions,
    },
    /// Events of topics: past ones too, or some only.
    Selected {
        /// Which topics.
        filter: Filter,
        /// The terms of delivery.
        options: SubscribeOptions,
        /// Which events.
        selection: Box<Selection>,
    },
    /// Invocations of procedures.
    Procedure {
        /// Which procedures.
        filter: Filter,
        /// The terms of service.
        options: RegisterOptions,
    },
    /// Refused by the gate already; keeps its place in the answer.
    Refused(Reason),
}

/// The terms on which events are delivered to one subscriber.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubscribeOptions {
    /// The most that is granted; WAMP subscribers take QoS 0.
    pub qos: Qos,
    /// Nothing that this session published.
    pub no_local: bool,
    /// Keep the RETAIN flag of the publication.
    pub retain_as_published: bool,
    /// When retained messages are sent at subscribing.
    pub retain_handling: RetainHandling,
    /// MQTT 5 subscription identifier, 1..=268,435,455.
    pub identifier: Option<u32>,
    /// Only changes of retained state, no passing events (`retained: true`, fox-wamp's meaning).
    pub retained_only: bool,
}

/// Options that few subscriptions use (MAPPING.md, SUBSCRIBE options).
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Selection {
    /// Of the history, first: each event once, and without a gap to the live ones. No retained messages then.
    pub past: Option<Past>,
    /// The subscription ends after the events or values that exist.
    pub is_snapshot: bool,
    /// Only events whose body fits this pattern.
    pub pattern: Option<Value>,
}

/// The point in the past where a subscription begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Past {
    /// Behind this event; `None` = from the oldest that is kept.
    After(Option<EventId>),
    /// With so many of the last events.
    Last(u64),
}

/// MQTT 5 retain handling.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RetainHandling {
    /// At every SUBSCRIBE (0).
    #[default]
    Always,
    /// Only if the subscription is new (1).
    IfNew,
    /// Never (2); also WAMP without `get_retained`.
    Never,
}

/// The terms on which a procedure is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RegisterOptions {
    /// The rule by which several callees share the procedure.
    pub invoke: InvokePolicy,
    /// The callee wants to know its callers.
    pub disclose_caller: bool,
    /// The callee takes over `timeout` (WAMP: Call Timeout, `forward_timeout`).
    pub forward_timeout: bool,
    /// The form in which invocations reach the callee.
    pub form: CalleeForm,
    /// For invocations as publications: the most QoS that is granted.
    pub qos: Qos,
    /// For invocations as publications: MQTT 5 subscription identifier, 1..=268,435,455 [MQTT-3.3.4-3].
    pub identifier: Option<u32>,
}

/// The form in which an invocation reaches the callee.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CalleeForm {
    /// As WAMP INVOCATION.
    #[default]
    Invocation,
    /// As a publication on `$callee/<procedure>` with a response topic (MQTT 5).
    Publication,
    /// As a publication on `$callee/<procedure>/$id/<invocation>` (MQTT 3.1.1).
    PublicationById,
}

/// Which of several callees takes a call (WAMP: Advanced, Shared Registration).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum InvokePolicy {
    /// One callee only.
    #[default]
    Single,
    /// In turn.
    RoundRobin,
    /// By chance.
    Random,
    /// The one that registered first.
    First,
    /// The one that registered last.
    Last,
}

/// One thing given up.
#[derive(Clone, Debug)]
pub enum UnsubscribeEntry {
    /// A subscription by filter and group.
    Topic {
        /// Which topics.
        filter: Filter,
        /// The group.
        share: Option<Box<str>>,
    },
    /// A registration by filter, served in this form.
    Procedure {
        /// Which procedures.
        filter: Filter,
        /// In which form.
        form: CalleeForm,
    },
    /// A subscription by id.
    Subscription(SubscriptionId),
    /// A registration by id.
    Registration(RegistrationId),
    /// Not a filter that could have been subscribed.
    Refused(Reason),
}

/// One step of a QoS > 0 delivery, said by the receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledgement {
    /// Which delivery.
    pub packet_id: PacketId,
    /// Which step.
    pub step: AcknowledgeStep,
}

/// The receiver's steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcknowledgeStep {
    /// PUBACK: QoS 1 is done.
    Acknowledged,
    /// PUBREC: QoS 2 is received, PUBREL is owed.
    Received,
    /// PUBREC with an error: QoS 2 is over.
    Rejected,
    /// PUBCOMP: QoS 2 is done.
    Completed,
    /// PUBACK with an error, or the gate could not send it: QoS 1 is over, and an item of a queue is not done with.
    Declined,
}

/// A call.
#[derive(Debug)]
pub struct Call {
    /// Where the answer goes.
    pub reply: ReplyTo,
    /// For MQTT callers, the acknowledgement of the PUBLISH that carried the call; its answers have the same QoS.
    pub acknowledge: Acknowledge,
    /// The procedure that is called.
    pub procedure: Topic,
    /// With what; of `corsac.queue.put` only what is put, as its one argument.
    pub payload: Payload,
    /// Time limit in milliseconds; 0 = none.
    pub timeout_ms: u64,
    /// The caller takes progressive results.
    pub receive_progress: bool,
    /// Show the caller to the callee.
    pub disclose_me: bool,
    /// Properties that travel with the call.
    pub properties: Option<Box<Properties>>,
    /// The payload decoded, where the procedure is a name of the router's own; or why it cannot be.
    pub arguments: Option<Result<Box<Arguments>, Reason>>,
}

/// Where the answer of a call goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplyTo {
    /// To the caller, under its request id.
    Request(RequestId),
    /// As publications on this topic (MQTT 5), with the correlation data of the call.
    Topic {
        /// Response topic.
        topic: Topic,
        /// Echoed.
        correlation_data: Option<Bytes>,
    },
    /// As publications on `$reply/<call id>/result`, `/progress`, `/error` (MQTT 3.1.1).
    CallId(Box<str>),
    /// Nowhere: an MQTT 5 call without a response topic.
    Nobody,
}

/// The effect of a canceled call on its callee (WAMP: Advanced, Call Canceling).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CancelMode {
    /// The callee is not told; the caller is answered at once.
    Skip,
    /// The callee is told, the caller waits for its answer.
    Kill,
    /// The callee is told, the caller is answered at once.
    #[default]
    KillNoWait,
}

/// A callee's answer.
#[derive(Debug)]
pub struct Yield {
    /// For MQTT callees: how the PUBLISH that carried the answer is acknowledged.
    pub acknowledge: Acknowledge,
    /// Which invocation.
    pub invocation: InvocationId,
    /// The outcome that it reports.
    pub outcome: Outcome,
    /// The body.
    pub payload: Payload,
    /// Properties that travel with the answer.
    pub properties: Option<Box<Properties>>,
}

/// A goodbye.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    /// New expiry of the session, where the client changes it (3.14.2.2.2).
    pub expiry_s: Option<u32>,
    /// Publish the will all the same (DISCONNECT 0x04).
    pub with_will: bool,
}
