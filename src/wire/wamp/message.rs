//! Every WAMP message of both profiles, in both directions.
use std::borrow::Cow;

use super::options::{
    AuthenticateExtra, CallOptions, CancelOptions, ChallengeExtra, CloseDetails, ErrorDetails, EventDetails, HelloDetails,
    InterruptOptions, InvocationDetails, PublishOptions, RegisterOptions, ResultDetails, SubscribeOptions, UnregisteredDetails,
    UnsubscribedDetails, WelcomeDetails, YieldOptions,
};
use crate::model::{InvocationId, Payload, PublicationId, RegistrationId, RequestId, SessionId, SubscriptionId};

/// The codes of WAMP messages (WAMP: Basic, Message Codes; Advanced, Additional Messages).
pub mod code {
    #![allow(missing_docs)]
    pub const HELLO: u64 = 1;
    pub const WELCOME: u64 = 2;
    pub const ABORT: u64 = 3;
    pub const CHALLENGE: u64 = 4;
    pub const AUTHENTICATE: u64 = 5;
    pub const GOODBYE: u64 = 6;
    pub const ERROR: u64 = 8;
    pub const PUBLISH: u64 = 16;
    pub const PUBLISHED: u64 = 17;
    pub const SUBSCRIBE: u64 = 32;
    pub const SUBSCRIBED: u64 = 33;
    pub const UNSUBSCRIBE: u64 = 34;
    pub const UNSUBSCRIBED: u64 = 35;
    pub const EVENT: u64 = 36;
    pub const CALL: u64 = 48;
    pub const CANCEL: u64 = 49;
    pub const RESULT: u64 = 50;
    pub const REGISTER: u64 = 64;
    pub const REGISTERED: u64 = 65;
    pub const UNREGISTER: u64 = 66;
    pub const UNREGISTERED: u64 = 67;
    pub const INVOCATION: u64 = 68;
    pub const INTERRUPT: u64 = 69;
    pub const YIELD: u64 = 70;
    /// A proposal that the router does not announce; decoded so that it can be passed over.
    pub const EVENT_RECEIVED: u64 = 337;
}

/// The kind of request that an ERROR answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum RequestKind {
    /// PUBLISH
    Publish = 16,
    /// SUBSCRIBE
    Subscribe = 32,
    /// UNSUBSCRIBE
    Unsubscribe = 34,
    /// CALL
    Call = 48,
    /// CANCEL
    Cancel = 49,
    /// REGISTER
    Register = 64,
    /// UNREGISTER
    Unregister = 66,
    /// INVOCATION
    Invocation = 68,
}

impl RequestKind {
    /// The kind with this message code.
    pub fn new(code: u64) -> Option<Self> {
        Some(match code {
            code::PUBLISH => Self::Publish,
            code::SUBSCRIBE => Self::Subscribe,
            code::UNSUBSCRIBE => Self::Unsubscribe,
            code::CALL => Self::Call,
            code::CANCEL => Self::Cancel,
            code::REGISTER => Self::Register,
            code::UNREGISTER => Self::Unregister,
            code::INVOCATION => Self::Invocation,
            _ => return None,
        })
    }

    /// Its message code.
    pub fn code(self) -> u64 {
        self as u64
    }
}

/// One message. URIs are strings that nobody has looked at yet. Payloads of decoded messages are `Payload::Args`, slices
/// of the message; any payload can be encoded.
#[derive(Clone, PartialEq, Debug)]
pub enum Message<'a> {
    /// Client: open a session.
    Hello {
        /// Which realm.
        realm: Cow<'a, str>,
        /// The client's roles and identity.
        details: Box<HelloDetails>,
    },
    /// Router: the session is open.
    Welcome {
        /// Its id.
        session: SessionId,
        /// The realm and the identity that the client has now.
        details: Box<WelcomeDetails>,
    },
    /// Either: there will be no session, or no longer.
    Abort {
        /// More about it.
        details: CloseDetails,
        /// Why, as a URI.
        reason: Cow<'a, str>,
        /// Still more.
        payload: Payload,
    },
    /// Router: prove who you are.
    Challenge {
        /// By which method.
        method: Cow<'a, str>,
        /// The input that the method needs for the proof.
        extra: Box<ChallengeExtra>,
    },
    /// Client: the proof.
    Authenticate {
        /// Signature, ticket or password proof.
        signature: Cow<'a, str>,
        /// Further proof that the method needs.
        extra: Box<AuthenticateExtra>,
    },
    /// Either: the session ends, or its end is confirmed.
    Goodbye {
        /// More about it.
        details: CloseDetails,
        /// Why, as a URI.
        reason: Cow<'a, str>,
    },
    /// Either: a request failed.
    Error {
        /// The kind of the request.
        kind: RequestKind,
        /// Its id; for INVOCATION the invocation.
        request: RequestId,
        /// More about it.
        details: ErrorDetails,
        /// The error, as a URI.
        error: Cow<'a, str>,
        /// The arguments that the failing side sends.
        payload: Payload,
    },
    /// Client: publish.
    Publish {
        /// Echoed in the answer, if one is wanted.
        request: RequestId,
        /// Its options.
        options: PublishOptions,
        /// Where.
        topic: Cow<'a, str>,
        /// The arguments.
        payload: Payload,
    },
    /// Router: published.
    Published {
        /// The request.
        request: RequestId,
        /// Its id; of history the event id.
        publication: PublicationId,
    },
    /// Client: subscribe.
    Subscribe {
        /// Echoed in the answer.
        request: RequestId,
        /// Its options.
        options: SubscribeOptions,
        /// To what.
        topic: Cow<'a, str>,
    },
    /// Router: subscribed.
    Subscribed {
        /// The request.
        request: RequestId,
        /// Events will come under this id.
        subscription: SubscriptionId,
    },
    /// Client: unsubscribe.
    Unsubscribe {
        /// Echoed in the answer.
        request: RequestId,
        /// The subscription that is given up.
        subscription: SubscriptionId,
    },
    /// Router: unsubscribed, or revoked (with request 0 and details).
    Unsubscribed {
        /// The request, 0 where there was none.
        request: RequestId,
        /// The subscription that was revoked.
        details: Option<UnsubscribedDetails>,
    },
    /// Router: an event.
    Event {
        /// Of which subscription.
        subscription: SubscriptionId,
        /// Of which publication.
        publication: PublicationId,
        /// More about it.
        details: EventDetails,
        /// The arguments that were published.
        payload: Payload,
    },
    /// Client: the event has arrived (a proposal).
    EventReceived {
        /// Which.
        publication: PublicationId,
    },
    /// Client: call a procedure.
    Call {
        /// Echoed in the answer.
        request: RequestId,
        /// Its options.
        options: CallOptions,
        /// Which.
        procedure: Cow<'a, str>,
        /// With what.
        payload: Payload,
    },
    /// Client: never mind the call.
    Cancel {
        /// Which.
        request: RequestId,
        /// Its options.
        options: CancelOptions,
    },
    /// Router: the result of a call.
    Result {
        /// Which.
        request: RequestId,
        /// More about it.
        details: ResultDetails,
        /// The result.
        payload: Payload,
    },
    /// Client: serve a procedure.
    Register {
        /// Echoed in the answer.
        request: RequestId,
        /// Its options.
        options: RegisterOptions,
        /// Which.
        procedure: Cow<'a, str>,
    },
    /// Router: registered.
    Registered {
        /// The request.
        request: RequestId,
        /// Invocations will come under this id.
        registration: RegistrationId,
    },
    /// Client: serve no longer.
    Unregister {
        /// Echoed in the answer.
        request: RequestId,
        /// The registration that is given up.
        registration: RegistrationId,
    },
    /// Router: unregistered, or revoked (with request 0 and details).
    Unregistered {
        /// The request, 0 where there was none.
        request: RequestId,
        /// The registration that was revoked.
        details: Option<UnregisteredDetails>,
    },
    /// Router: serve a call.
    Invocation {
        /// Echoed in the answer.
        invocation: InvocationId,
        /// Of which registration.
        registration: RegistrationId,
        /// More about it.
        details: InvocationDetails,
        /// With what.
        payload: Payload,
    },
    /// Router: never mind the invocation.
    Interrupt {
        /// Which.
        invocation: InvocationId,
        /// Its options.
        options: InterruptOptions,
    },
    /// Client: the result of an invocation.
    Yield {
        /// Which.
        invocation: InvocationId,
        /// Its options.
        options: YieldOptions,
        /// The result.
        payload: Payload,
    },
}

impl Message<'_> {
    /// Its code on the wire.
    pub fn code(&self) -> u64 {
        match self {
            Message::Hello { .. } => code::HELLO,
            Message::Welcome { .. } => code::WELCOME,
            Message::Abort { .. } => code::ABORT,
            Message::Challenge { .. } => code::CHALLENGE,
            Message::Authenticate { .. } => code::AUTHENTICATE,
            Message::Goodbye { .. } => code::GOODBYE,
            Message::Error { .. } => code::ERROR,
            Message::Publish { .. } => code::PUBLISH,
            Message::Published { .. } => code::PUBLISHED,
            Message::Subscribe { .. } => code::SUBSCRIBE,
            Message::Subscribed { .. } => code::SUBSCRIBED,
            Message::Unsubscribe { .. } => code::UNSUBSCRIBE,
            Message::Unsubscribed { .. } => code::UNSUBSCRIBED,
            Message::Event { .. } => code::EVENT,
            Message::EventReceived { .. } => code::EVENT_RECEIVED,
            Message::Call { .. } => code::CALL,
            Message::Cancel { .. } => code::CANCEL,
            Message::Result { .. } => code::RESULT,
            Message::Register { .. } => code::REGISTER,
            Message::Registered { .. } => code::REGISTERED,
            Message::Unregister { .. } => code::UNREGISTER,
            Message::Unregistered { .. } => code::UNREGISTERED,
            Message::Invocation { .. } => code::INVOCATION,
            Message::Interrupt { .. } => code::INTERRUPT,
            Message::Yield { .. } => code::YIELD,
        }
    }
}

/// The name of a message, for errors.
pub(crate) fn name_of(message_code: u64) -> &'static str {
    match message_code {
        code::HELLO => "HELLO",
        code::WELCOME => "WELCOME",
        code::ABORT => "ABORT",
        code::CHALLENGE => "CHALLENGE",
        code::AUTHENTICATE => "AUTHENTICATE",
        code::GOODBYE => "GOODBYE",
        code::ERROR => "ERROR",
        code::PUBLISH => "PUBLISH",
        code::PUBLISHED => "PUBLISHED",
        code::SUBSCRIBE => "SUBSCRIBE",
        code::SUBSCRIBED => "SUBSCRIBED",
        code::UNSUBSCRIBE => "UNSUBSCRIBE",
        code::UNSUBSCRIBED => "UNSUBSCRIBED",
        code::EVENT => "EVENT",
        code::CALL => "CALL",
        code::CANCEL => "CANCEL",
        code::RESULT => "RESULT",
        code::REGISTER => "REGISTER",
        code::REGISTERED => "REGISTERED",
        code::UNREGISTER => "UNREGISTER",
        code::UNREGISTERED => "UNREGISTERED",
        code::INVOCATION => "INVOCATION",
        code::INTERRUPT => "INTERRUPT",
        code::YIELD => "YIELD",
        code::EVENT_RECEIVED => "EVENT_RECEIVED",
        _ => "message",
    }
}
