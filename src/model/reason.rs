//! The reasons for a refusal as a closed list; `wire` turns each into a WAMP URI or an MQTT reason code.
use std::fmt;

use super::EventId;
use super::names::Root;

/// A refusal or an end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// Bytes that are not of the protocol.
    Malformed,
    /// A message that its sender may not send now.
    ProtocolViolation,
    /// A name that is no valid topic or procedure.
    InvalidTopic,
    /// A filter that is no valid filter.
    InvalidFilter,
    /// A name with a character that no MQTT client can be sent.
    UnfitCharacter(char),
    /// A name that belongs to the router.
    ReservedName(Root),
    /// An option or argument with a value that cannot be.
    InvalidArgument,
    /// The option or argument of this name, and what it must be.
    WrongValue(&'static str, MustBe),
    /// An option that this router or realm does not allow.
    OptionNotAllowed,
    /// `disclose_me` where disclosure is not allowed.
    DiscloseMeNotAllowed,
    /// The rules forbid it.
    NotAuthorized,
    /// The configuration forbids it, without saying why.
    Refused,
    /// Credentials were wrong or missing.
    NotAuthenticated,
    /// No realm of that name.
    NoSuchRealm,
    /// No role that this router can play for the client.
    NoSuchRole,
    /// The topic's value does not fit the condition, or the token is not the holder's.
    ConditionFailed,
    /// No item of a queue is claimed under this token.
    NoSuchToken,
    /// The name of a lock is a topic with a value that nobody holds.
    NotALock,
    /// No callee for the procedure.
    NoSuchProcedure,
    /// The procedure has a callee, and is not shared under that policy.
    ProcedureAlreadyExists,
    /// The procedure has callees under another invocation policy.
    InvocationPolicyConflict,
    /// No such registration of this session.
    NoSuchRegistration,
    /// No such subscription of this session.
    NoSuchSubscription,
    /// A call over MQTT 3.1.1 that says nothing about where its answer goes.
    NoReplyAddress,
    /// The call or invocation was canceled.
    Canceled,
    /// The call's time is over.
    Timeout,
    /// All callees left or declined.
    Unavailable,
    /// A bound of `limits` was reached.
    QuotaExceeded,
    /// A message above the size that this connection may send.
    MessageTooLarge,
    /// More unacknowledged QoS > 0 publications than Receive Maximum allows.
    ReceiveMaximumExceeded,
    /// A topic alias outside the agreed range.
    TopicAliasInvalid,
    /// A packet id that is not in use for what it was used for.
    PacketIdNotFound,
    /// The payload is not what its format indicator says.
    PayloadFormatInvalid,
    /// The client id cannot be accepted.
    ClientIdNotValid,
    /// A protocol level that this router does not speak.
    UnsupportedProtocolVersion,
    /// Enhanced authentication by a method that this router does not have.
    BadAuthenticationMethod,
    /// Nobody heard from the client for one and a half keep-alives.
    KeepAliveTimeout,
    /// Not opened, or a started packet not finished, in time.
    TooSlow,
    /// The same client connected again.
    SessionTakenOver,
    /// Ended by an administrator or a meta procedure.
    AdministrativeAction,
    /// The router stops.
    ShuttingDown,
    /// The socket was closed without a goodbye.
    ConnectionLost,
    /// Too many connections, or too fast.
    ServerBusy,
    /// A shared subscription with an option that it cannot have.
    SharedSubscriptionInvalid,
    /// The router does not support this.
    NotSupported,
    /// The disk is full.
    NoSpace,
    /// The disk has failed: what it holds is known after a restart only.
    StorageFailed,
    /// The router keeps no history.
    NoHistory,
    /// The event asked for is no longer kept; with the oldest event that is.
    HistoryTooOld(EventId),
    /// Something that should not happen, said without detail.
    Internal,
}

/// The type that an option or argument must have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "their words say it")]
pub enum MustBe {
    Text,
    WholeNumber,
    PositiveNumber,
    Flag,
    EventId,
    KnownEvent,
    Time,
    Token,
    Policy,
    Topic,
    Filter,
    QueueName,
    Json,
    Key,
    KeyOfStored,
    AloneOfAfterAndLast,
    PastOrRetained,
    OfTopics,
    WithWhen,
    WithRetain,
    WithoutCondition,
    Short,
}

impl fmt::Display for MustBe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MustBe::Text => "a text",
            MustBe::WholeNumber => "a whole number from 0",
            MustBe::PositiveNumber => "a whole number from 1",
            MustBe::Flag => "true or false",
            MustBe::EventId => "the id of an event: a whole number from 1 to 4503599627370495",
            MustBe::KnownEvent => "the id of an event that this realm has had; begin with 0, for everything that is kept",
            MustBe::Time => "a time, as 2026-01-31T12:00:00Z",
            MustBe::Token => "a token, as the grant told it",
            MustBe::Policy => "\"exact\", \"prefix\" or \"wildcard\"",
            MustBe::Topic => "the name of one topic, as demo.hello or demo/hello",
            MustBe::Filter => "a name or a pattern, as demo.hello, demo/hello, demo.# or demo/#",
            MustBe::QueueName => "the name of a queue, as jobs or print/jobs, and no other queue's dead letters come round in it",
            MustBe::Json => "JSON of at most 16 KiB",
            MustBe::Key => "a text of 1 to 128 bytes",
            MustBe::KeyOfStored => "left out of what is not stored: acknowledge it, retain it, or publish it with QoS 1 or 2",
            MustBe::AloneOfAfterAndLast => "left out where `after` is given",
            MustBe::OfTopics => "left out, as `last`, `snapshot` and `filter`, where what comes is for one session alone",
            MustBe::WithWhen => "said together with `when`, which it waits for",
            MustBe::WithRetain => "said together with `retain`: a value that is not kept has no end",
            MustBe::WithoutCondition => "left out beside `when`, `watch` and `will`, which make a retry harmless by themselves",
            MustBe::Short => "at most 4 KiB of JSON",
            MustBe::PastOrRetained => "left out where `retained` values are asked for: the history has them too",
        })
    }
}

impl Reason {
    /// True for want of room. MQTT before 5.0 has no word for a refusal: its publishers are cut off then, and send the message again.
    pub fn is_want_of_room(self) -> bool {
        matches!(self, Reason::QuotaExceeded | Reason::NoSpace | Reason::StorageFailed)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::HistoryTooOld(oldest) => return write!(f, "no longer kept; the oldest event that is has the id {oldest}"),
            Reason::UnfitCharacter(character) => {
                return write!(f, "a name cannot hold U+{:04X}, which no MQTT client can be sent", u32::from(*character));
            }
            Reason::WrongValue(name, must_be) => return write!(f, "`{name}` must be {must_be}"),
            Reason::ReservedName(root) => return write!(f, "{root}"),
            Reason::NoHistory => "there is no history; start the router without --memory",
            Reason::Malformed => "malformed message",
            Reason::ProtocolViolation => "protocol violation",
            Reason::InvalidTopic => "invalid topic or procedure name",
            Reason::InvalidFilter => "invalid topic filter",
            Reason::InvalidArgument => "invalid argument",
            Reason::OptionNotAllowed => "option not allowed",
            Reason::DiscloseMeNotAllowed => "disclosing the caller or publisher is not allowed",
            Reason::NotAuthorized => "not authorized",
            Reason::Refused => "refused by the configuration",
            Reason::NotAuthenticated => "bad user name or password",
            Reason::NoSuchRealm => "no such realm",
            Reason::NoSuchRole => "no role in common",
            Reason::ConditionFailed => "the condition does not hold",
            Reason::NoSuchToken => "no item is claimed under this token: it is done with, or its time was over",
            Reason::NotALock => "that is a topic, not a lock",
            Reason::NoSuchProcedure => "no such procedure",
            Reason::ProcedureAlreadyExists => "procedure is already registered",
            Reason::InvocationPolicyConflict => "procedure is registered with another invocation policy",
            Reason::NoSuchRegistration => "no such registration",
            Reason::NoSuchSubscription => "no such subscription",
            Reason::NoReplyAddress => {
                "over MQTT 3.1.1 only $call/<procedure>/$id/<number> is answered, on $reply/<number>/result or /error"
            }
            Reason::Canceled => "canceled",
            Reason::Timeout => "timeout",
            Reason::Unavailable => "no callee is available",
            Reason::QuotaExceeded => "quota exceeded",
            Reason::MessageTooLarge => "message too large",
            Reason::ReceiveMaximumExceeded => "receive maximum exceeded",
            Reason::TopicAliasInvalid => "topic alias invalid",
            Reason::PacketIdNotFound => "packet identifier not found",
            Reason::PayloadFormatInvalid => "payload format invalid",
            Reason::ClientIdNotValid => "client identifier not valid",
            Reason::UnsupportedProtocolVersion => "unsupported protocol version",
            Reason::BadAuthenticationMethod => "bad authentication method",
            Reason::KeepAliveTimeout => "keep alive timeout",
            Reason::TooSlow => "not opened or finished in time",
            Reason::SessionTakenOver => "session taken over",
            Reason::AdministrativeAction => "administrative action",
            Reason::ShuttingDown => "server shutting down",
            Reason::ConnectionLost => "connection lost",
            Reason::ServerBusy => "server busy",
            Reason::SharedSubscriptionInvalid => "option not possible on a shared subscription",
            Reason::NotSupported => "not supported",
            Reason::NoSpace => "no space left on the disk",
            Reason::StorageFailed => "the storage has failed",
            Reason::Internal => "internal error",
        })
    }
}

/// The URI of an error: a reason of ours, or whatever a callee said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ErrorUri {
    /// Said by the router.
    Reason(Reason),
    /// Said by a callee, passed on unaltered.
    Custom(Box<str>),
}

impl From<Reason> for ErrorUri {
    fn from(reason: Reason) -> Self {
        ErrorUri::Reason(reason)
    }
}
