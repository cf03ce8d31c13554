//! Why something was refused: the closed list; `wire` turns it into a WAMP URI or an MQTT reason code.
use std::fmt;

use super::EventId;

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
    /// An option or argument with a value that cannot be.
    InvalidArgument,
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
    /// What the router does not do.
    NotSupported,
    /// The disk is full.
    NoSpace,
    /// The disk has failed: what it holds is known after a restart only.
    StorageFailed,
    /// The router keeps no history.
    NoHistory,
    /// What was asked for is no longer kept: the oldest event that is.
    HistoryTooOld(EventId),
    /// Something that should not happen, said without detail.
    Internal,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::HistoryTooOld(oldest) => return write!(f, "no longer kept; the oldest event that is has the id {oldest}"),
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
            Reason::NoSuchProcedure => "no such procedure",
            Reason::ProcedureAlreadyExists => "procedure is already registered",
            Reason::InvocationPolicyConflict => "procedure is registered with another invocation policy",
            Reason::NoSuchRegistration => "no such registration",
            Reason::NoSuchSubscription => "no such subscription",
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
