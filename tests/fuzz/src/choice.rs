//! From bytes to nouns: topics, payloads, publications, commands and deliveries, all valid by their types and nothing else.
use std::sync::Arc;

use bytes::Bytes;
use corsac::model::command::{
    Acknowledge, AcknowledgeStep, Acknowledgement, Call, CalleeForm, CancelMode, Close, Condition, FailedRequest, Features,
    InvokePolicy, Open, Protocol, PublishOptions, RegisterOptions, ReplyTo, RetainHandling, SubscribeEntry, SubscribeOptions,
    Transport, UnsubscribeEntry, Will, Yield,
};
use corsac::model::delivery::{Answer, Event, Granted, Invocation, Taken};
use corsac::model::outcome::Outcome;
use corsac::model::properties::{Passthru, Properties};
use corsac::model::publication::Publisher;
use corsac::model::readers::{Audience, Readers};
use corsac::model::{
    Command, Delivery, Encoding, ErrorUri, Filter, InvocationId, MatchPolicy, PacketId, Payload, Principal, Publication,
    PublicationId, Qos, Reason, RegistrationId, RequestId, SessionId, SubscriptionId, Topic,
};
use libfuzzer_sys::arbitrary::Unstructured;

use crate::wamp;

/// The time at which everything begins, in milliseconds since the Unix epoch.
pub const NOW_MS: u64 = 1_700_000_000_000;

/// All encodings.
pub const ENCODINGS: [Encoding; 3] = [Encoding::Json, Encoding::MsgPack, Encoding::Cbor];

const NAMES: &[&str] = &[
    "a",
    "b",
    "a/b",
    "a/b/c",
    "a//b",
    "/",
    "/a",
    "a/1.5",
    "*",
    "a/*",
    "a b",
    "50%",
    "a%2Fb",
    "v%2E1/x",
    "a/%2A",
    "é/ü",
    "$SYS/a",
    "$reply/x",
    "$call/a/b",
    "$callee/a",
    "$cancel/1",
    "wamp/a",
    "corsac/a",
    "$SYS/broker/connection/x/state",
    "com/add",
];
const FILTERS: &[&str] =
    &["#", "+", "a/#", "a/+", "+/b", "+/+", "a/b/#", "/+", "$SYS/#", "$reply/#", "$cancel/#", "wamp/#", "+/a/#", "a/+/c"];
const PREFIXES: &[&str] = &["", "a", "a.", "a.b", "wamp", "w", "a.1%2E", "%", "*", "$"];
const TEXTS: &[&str] =
    &["", "a", "text/plain", "application/json", "application/cbor", "application/msgpack", "x;y", "\0", "é\u{1F600}", "a/+"];
/// Why a request is refused.
const REFUSALS: &[Reason] = &[
    Reason::NotAuthorized,
    Reason::QuotaExceeded,
    Reason::InvalidTopic,
    Reason::InvalidFilter,
    Reason::InvalidArgument,
    Reason::OptionNotAllowed,
    Reason::DiscloseMeNotAllowed,
    Reason::ConditionFailed,
    Reason::NoSuchProcedure,
    Reason::NoSuchSubscription,
    Reason::NoSuchRegistration,
    Reason::ProcedureAlreadyExists,
    Reason::InvocationPolicyConflict,
    Reason::Canceled,
    Reason::Timeout,
    Reason::Unavailable,
    Reason::MessageTooLarge,
    Reason::NotSupported,
    Reason::Internal,
];
/// Why a PUBLISH of MQTT is refused, whatever it carried.
const PUBLISH_REFUSALS: &[Reason] = &[
    Reason::NotAuthorized,
    Reason::QuotaExceeded,
    Reason::InvalidTopic,
    Reason::InvalidArgument,
    Reason::OptionNotAllowed,
    Reason::DiscloseMeNotAllowed,
    Reason::ConditionFailed,
    Reason::NoSuchProcedure,
    Reason::PayloadFormatInvalid,
    Reason::Unavailable,
    Reason::NotSupported,
    Reason::Internal,
];
/// Why an UNSUBSCRIBE is refused.
const UNSUBSCRIBE_REFUSALS: &[Reason] =
    &[Reason::NoSuchSubscription, Reason::NoSuchRegistration, Reason::InvalidFilter, Reason::NotAuthorized, Reason::Internal];
/// Why a realm ends a connection.
const ENDS: &[Reason] = &[
    Reason::ProtocolViolation,
    Reason::ReceiveMaximumExceeded,
    Reason::SessionTakenOver,
    Reason::AdministrativeAction,
    Reason::ShuttingDown,
    Reason::ServerBusy,
    Reason::QuotaExceeded,
    Reason::NotAuthorized,
    Reason::TooSlow,
    Reason::ConnectionLost,
];
/// Why a realm does not let somebody in.
const REJECTIONS: &[Reason] = &[
    Reason::NoSuchRealm,
    Reason::NotAuthorized,
    Reason::NotAuthenticated,
    Reason::ClientIdNotValid,
    Reason::ServerBusy,
    Reason::QuotaExceeded,
];

/// Which protocol's gate a command comes from: what the one never says the other may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Speaks {
    Mqtt,
    Wamp,
}

/// Bytes read as choices; behind their end every choice is the first one.
pub struct Choice<'a, 'b>(pub &'b mut Unstructured<'a>);

impl Choice<'_, '_> {
    /// True while there are bytes.
    pub fn has_more(&self) -> bool {
        !self.0.is_empty()
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.int_in_range(0..=bound.max(1) - 1).unwrap_or(0)
    }

    /// A number of 16 bits.
    pub fn short(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// A number of 32 bits, mostly small or at an end.
    pub fn number(&mut self) -> u32 {
        match self.below(6) {
            0 => 0,
            1 => u32::MAX,
            2 => self.0.arbitrary().unwrap_or(0),
            _ => self.below(16) as u32,
        }
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// A value or none.
    pub fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flag() { Some(make(self)) } else { None }
    }

    /// Up to `most` values.
    pub fn several<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn one_or_more<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..1 + self.below(3)).map(|_| make(self)).collect()
    }

    /// Any bytes, few of them.
    pub fn bytes(&mut self) -> Bytes {
        let length = self.below(48).min(self.0.len());
        Bytes::copy_from_slice(self.0.bytes(length).unwrap_or_default())
    }

    /// Any text.
    pub fn text(&mut self) -> Box<str> {
        match self.below(4) {
            0 => String::from_utf8_lossy(&self.bytes()).into(),
            _ => self.pick(TEXTS).into(),
        }
    }

    /// Any text without U+0000.
    pub fn plain_text(&mut self) -> Box<str> {
        self.text().replace('\0', "0").into()
    }

    /// A topic, mostly one of a few.
    pub fn topic(&mut self) -> Topic {
        let known = self.pick(NAMES);
        let named = match self.below(8) {
            0 => Topic::from_mqtt(&String::from_utf8_lossy(&self.bytes())).ok(),
            1 => Topic::from_uri(&String::from_utf8_lossy(&self.bytes())).ok(),
            _ => None,
        };
        named.unwrap_or_else(|| Topic::from_mqtt(known).expect("a name from the table"))
    }

    /// A filter of any kind.
    pub fn filter(&mut self) -> Filter {
        let made = match self.below(8) {
            0 | 1 => Some(Filter::Exact(self.topic())),
            2 => Filter::from_uri(self.pick(PREFIXES), MatchPolicy::Prefix).ok(),
            3 => Filter::from_uri(self.topic().as_uri(), MatchPolicy::Wildcard).ok(),
            4 => Filter::from_mqtt(&String::from_utf8_lossy(&self.bytes())).ok(),
            _ => Filter::from_mqtt(self.pick(FILTERS)).ok(),
        };
        made.unwrap_or_else(|| Filter::from_mqtt("#").expect("a filter"))
    }

    /// A QoS.
    pub fn qos(&mut self) -> Qos {
        self.pick(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
    }

    /// Why a request is refused.
    pub fn refusal(&mut self) -> Reason {
        self.pick(REFUSALS)
    }

    /// Why a realm does not let somebody in.
    pub fn rejection(&mut self) -> Reason {
        self.pick(REJECTIONS)
    }

    /// One of few packet ids.
    pub fn packet_id(&mut self) -> PacketId {
        let id = if self.below(8) == 0 { self.short() } else { self.below(6) as u16 };
        PacketId::new(id.max(1)).expect("not zero")
    }

    /// One of few request ids.
    pub fn request(&mut self) -> RequestId {
        RequestId(1 + self.below(12) as u64)
    }

    /// A payload as a gate may take it: any bytes, or arguments that are well-formed.
    pub fn payload(&mut self) -> Payload {
        if self.flag() {
            return Payload::Bytes(self.bytes());
        }
        let encoding = self.pick(&ENCODINGS);
        let (args, kwargs) = (self.bytes(), self.bytes());
        wamp::arguments(encoding, args, kwargs).unwrap_or_else(|| wamp::numbers(encoding, self.below(4)))
    }

    /// Properties that travel with a message.
    pub fn properties(&mut self) -> Option<Box<Properties>> {
        self.maybe(|choice| {
            // Gates let in what MQTT can carry, and nothing else.
            let content_type = choice.maybe(Self::plain_text);
            let payload_format = choice.maybe(Self::flag);
            let response_topic = choice.maybe(|choice| choice.topic().as_mqtt().into());
            let correlation_data = choice.maybe(Self::bytes);
            let user = choice.several(3, |choice| (choice.plain_text(), choice.plain_text()));
            let (scheme, serializer, keyid) = (choice.maybe(Self::text), choice.maybe(Self::text), choice.maybe(Self::text));
            let passthru = Passthru { scheme, serializer, cipher: None, keyid };
            let passthru = Some(passthru).filter(|passthru| passthru.attributes().next().is_some()).map(Box::new);
            Box::new(Properties { content_type, payload_format, response_topic, correlation_data, user, passthru, outcome: None })
        })
    }

    /// A message as a gate makes it.
    pub fn publication(&mut self) -> Publication {
        let mut publication = Publication::new(self.topic(), self.payload(), self.qos());
        let readers = Readers { eligible: self.maybe(Self::audience), exclude: self.maybe(Self::audience) };
        publication.readers = (readers != Readers::default()).then(|| Box::new(readers));
        publication.retain = self.flag();
        publication.expires_at_ms = self.maybe(|choice| NOW_MS + u64::from(choice.number()) * 1_000);
        publication.properties = self.properties();
        publication
    }

    fn publisher(&mut self) -> Option<Publisher> {
        self.maybe(|choice| Publisher {
            session: SessionId(1 + choice.below(9) as u64),
            principal: Arc::new(Principal::anonymous("somebody")),
        })
    }

    fn acknowledge(&mut self, speaks: Speaks) -> Acknowledge {
        match (self.below(3), speaks) {
            (0, _) => Acknowledge::None,
            (_, Speaks::Wamp) => Acknowledge::Request(self.request()),
            (1, Speaks::Mqtt) => Acknowledge::AtLeastOnce(self.packet_id()),
            (_, Speaks::Mqtt) if self.flag() => Acknowledge::ExactlyOnceAgain(self.packet_id()),
            (_, Speaks::Mqtt) => Acknowledge::ExactlyOnce(self.packet_id()),
        }
    }

    fn audience(&mut self) -> Audience {
        Audience {
            sessions: self.maybe(|choice| choice.several(3, |choice| SessionId(1 + choice.below(9) as u64))),
            authids: self.maybe(|choice| choice.several(2, |choice| choice.pick(&["c0", "c1", "x"]).into())),
            authroles: self.maybe(|choice| choice.several(2, |choice| choice.pick(&["anonymous", "x"]).into())),
        }
    }

    fn outcome(&mut self) -> Outcome {
        match self.below(4) {
            0 => Outcome::Progress,
            1 => Outcome::Error(ErrorUri::Reason(self.refusal())),
            2 => Outcome::Error(ErrorUri::Custom(self.plain_text())),
            _ => Outcome::Result,
        }
    }

    /// The first command of a connection.
    pub fn open(&mut self, session: SessionId) -> Open {
        let protocol = self.pick(&[Protocol::Mqtt5, Protocol::Mqtt311, Protocol::Mqtt31, Protocol::Wamp]);
        let client_id: Option<Box<str>> = protocol.is_mqtt().then(|| self.pick(&["c0", "c1", "c2", "c3"]).into());
        let authid = client_id.as_deref().map_or_else(|| format!("w{}", session.0), str::to_owned);
        Open {
            session,
            protocol,
            transport: Transport { peer: "127.0.0.1:1".into(), kind: "tcp" },
            principal: Arc::new(Principal::anonymous(&authid)),
            clean_start: self.flag() || client_id.is_none(),
            expiry_s: if client_id.is_none() { 0 } else { self.number() },
            client_id,
            receive_maximum: if self.flag() { u16::MAX } else { 1 + self.below(4) as u16 },
            will: self.maybe(|choice| Will {
                publication: Arc::new(choice.publication()),
                delay_s: choice.number(),
                expiry_s: choice.maybe(Self::number),
            }),
            features: Features { callee_canceling: self.flag(), callee_progress: self.flag(), callee_timeout: self.flag() },
        }
    }

    fn subscribe_entry(&mut self, speaks: Speaks) -> SubscribeEntry {
        match self.below(8) {
            0 => SubscribeEntry::Refused(self.refusal()),
            1 | 2 => SubscribeEntry::Procedure { filter: self.filter(), options: self.register_options(speaks) },
            _ => {
                let is_shared = speaks == Speaks::Mqtt && self.below(4) == 0;
                SubscribeEntry::Topic {
                    filter: self.filter(),
                    share: is_shared.then(|| self.pick(&["g", "h"]).into()),
                    options: self.subscribe_options(speaks),
                }
            }
        }
    }

    fn register_options(&mut self, speaks: Speaks) -> RegisterOptions {
        const FIVE: [InvokePolicy; 5] =
            [InvokePolicy::Single, InvokePolicy::RoundRobin, InvokePolicy::Random, InvokePolicy::First, InvokePolicy::Last];
        RegisterOptions {
            invoke: self.pick(&FIVE),
            disclose_caller: self.flag(),
            forward_timeout: self.flag(),
            form: self.form(speaks),
            qos: if speaks == Speaks::Mqtt { self.qos() } else { Qos::default() },
            identifier: self.maybe(|choice| 1 + choice.below(3) as u32).filter(|_| speaks == Speaks::Mqtt),
        }
    }

    fn form(&mut self, speaks: Speaks) -> CalleeForm {
        match speaks {
            Speaks::Mqtt => self.pick(&[CalleeForm::Publication, CalleeForm::PublicationById]),
            Speaks::Wamp => CalleeForm::Invocation,
        }
    }

    fn subscribe_options(&mut self, speaks: Speaks) -> SubscribeOptions {
        let retain_handling = self.pick(&[RetainHandling::Always, RetainHandling::Never, RetainHandling::IfNew]);
        match speaks {
            Speaks::Mqtt => SubscribeOptions {
                qos: self.qos(),
                no_local: self.flag(),
                retain_as_published: self.flag(),
                retain_handling,
                identifier: self.maybe(|choice| 1 + choice.below(3) as u32),
                retained_only: false,
            },
            Speaks::Wamp => {
                SubscribeOptions { retain_handling, retained_only: self.below(4) == 0, ..SubscribeOptions::default() }
            }
        }
    }

    fn unsubscribe_entry(&mut self, speaks: Speaks) -> UnsubscribeEntry {
        match (self.below(4), speaks) {
            (0, _) => UnsubscribeEntry::Refused(self.refusal()),
            (1, Speaks::Wamp) => UnsubscribeEntry::Registration(RegistrationId(self.below(8) as u64)),
            (_, Speaks::Wamp) => UnsubscribeEntry::Subscription(SubscriptionId(self.below(8) as u64)),
            (1, Speaks::Mqtt) => UnsubscribeEntry::Procedure { filter: self.filter(), form: self.form(speaks) },
            (_, Speaks::Mqtt) => {
                UnsubscribeEntry::Topic { filter: self.filter(), share: self.maybe(|choice| choice.pick(&["g", "h"]).into()) }
            }
        }
    }

    /// Any command but `Open`, as the gate of this protocol may say it.
    pub fn command(&mut self, speaks: Speaks) -> Command {
        match self.below(14) {
            0 => Command::Refuse { acknowledge: self.acknowledge(speaks), reason: self.refusal() },
            1..=3 => {
                let most = if speaks == Speaks::Mqtt { 3 } else { 1 };
                Command::Subscribe {
                    request: self.request(),
                    entries: self.several(most, |choice| choice.subscribe_entry(speaks)),
                }
            }
            4 => Command::Unsubscribe {
                request: self.request(),
                entries: self.several(2, |choice| choice.unsubscribe_entry(speaks)),
            },
            5 => Command::Call(Box::new(self.call(speaks))),
            6 => Command::Yield(Box::new(Yield {
                acknowledge: if speaks == Speaks::Mqtt { self.acknowledge(speaks) } else { Acknowledge::None },
                invocation: InvocationId(self.below(6) as u64),
                outcome: self.outcome(),
                payload: self.payload(),
                properties: self.properties(),
            })),
            7 => {
                let expiry_s = self.maybe(Self::number).filter(|_| speaks == Speaks::Mqtt);
                Command::Close(Close { expiry_s, with_will: self.flag() })
            }
            8 => Command::Lost(self.pick(ENDS)),
            9 | 10 => self.own_command(speaks),
            _ => Command::Publish {
                publication: Arc::new(self.publication()),
                acknowledge: self.acknowledge(speaks),
                options: if speaks == Speaks::Wamp { self.maybe(Self::publish_options) } else { None },
            },
        }
    }

    /// A command that only one of the protocols has.
    fn own_command(&mut self, speaks: Speaks) -> Command {
        const STEPS: [AcknowledgeStep; 5] = [
            AcknowledgeStep::Acknowledged,
            AcknowledgeStep::Received,
            AcknowledgeStep::Rejected,
            AcknowledgeStep::Completed,
            AcknowledgeStep::Declined,
        ];
        match (speaks, self.flag()) {
            (Speaks::Mqtt, true) => Command::Release(self.packet_id()),
            (Speaks::Mqtt, false) => Command::Acknowledge(
                self.several(3, |choice| Acknowledgement { packet_id: choice.packet_id(), step: choice.pick(&STEPS) }),
            ),
            (Speaks::Wamp, true) => Command::Cancel { request: self.request(), mode: self.cancel_mode() },
            (Speaks::Wamp, false) => Command::Fail { kind: self.failed(), request: self.request(), reason: self.refusal() },
        }
    }

    fn publish_options(&mut self) -> Box<PublishOptions> {
        Box::new(PublishOptions {
            exclude_me: self.flag(),
            disclose_me: self.flag(),
            condition: self.maybe(Self::condition),
            dedup: if self.below(8) == 0 { Some(self.pick(&["a", "b"]).into()) } else { None },
        })
    }

    fn condition(&mut self) -> Box<Condition> {
        let value = |choice: &mut Self| match choice.below(4) {
            0 | 1 => serde_json::Value::Null,
            2 => choice.below(3).into(),
            _ => serde_json::json!({ "a": choice.below(3) }),
        };
        let reply = self.maybe(|choice| ReplyTo::Topic { topic: choice.topic(), correlation_data: choice.maybe(Self::bytes) });
        let (when, watch, will) = (self.maybe(value), self.flag(), self.maybe(value));
        Box::new(Condition { when, watch, will, is_resent: self.flag(), reply })
    }

    fn call(&mut self, speaks: Speaks) -> Call {
        let reply = match (speaks, self.below(3)) {
            (Speaks::Wamp, _) => ReplyTo::Request(self.request()),
            (Speaks::Mqtt, 0) => ReplyTo::Topic { topic: self.topic(), correlation_data: self.maybe(Self::bytes) },
            (Speaks::Mqtt, 1) => ReplyTo::CallId(self.pick(&["1", "x"]).into()),
            (Speaks::Mqtt, _) => ReplyTo::Nobody,
        };
        let procedure = self.topic();
        let (arguments, payload) = corsac::gate::arguments::take(&procedure, self.payload(), None);
        Call {
            reply,
            acknowledge: if speaks == Speaks::Mqtt { self.acknowledge(speaks) } else { Acknowledge::None },
            arguments,
            procedure,
            payload,
            timeout_ms: u64::from(self.number()),
            receive_progress: self.flag(),
            disclose_me: self.flag(),
            properties: self.properties(),
        }
    }

    fn cancel_mode(&mut self) -> CancelMode {
        self.pick(&[CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait])
    }

    fn failed(&mut self) -> FailedRequest {
        self.pick(&[
            FailedRequest::Publish,
            FailedRequest::Subscribe,
            FailedRequest::Unsubscribe,
            FailedRequest::Register,
            FailedRequest::Unregister,
            FailedRequest::Call,
            FailedRequest::Cancel,
        ])
    }

    fn done(&mut self) -> Result<(), Reason> {
        if self.flag() { Ok(()) } else { Err(self.refusal()) }
    }

    fn known(&mut self) -> Result<(), Reason> {
        if self.flag() { Ok(()) } else { Err(Reason::PacketIdNotFound) }
    }

    fn taken(&mut self) -> Result<Taken, Reason> {
        let has_receivers = self.flag();
        if self.flag() { Ok(Taken { has_receivers, token: None }) } else { Err(self.pick(PUBLISH_REFUSALS)) }
    }

    fn given_up(&mut self) -> Result<(), Reason> {
        if self.flag() { Ok(()) } else { Err(self.pick(UNSUBSCRIBE_REFUSALS)) }
    }

    fn granted(&mut self) -> Result<Granted, Reason> {
        let id = 1 + self.below(9) as u64;
        let qos = self.qos();
        let is_registration = self.below(4) == 0;
        self.done().map(|()| match is_registration {
            true => Granted::Registration(RegistrationId(id), qos),
            false => Granted::Subscription(SubscriptionId(id), qos),
        })
    }

    /// A publication on its way to one receiver, as a realm sends it.
    pub fn event(&mut self) -> Event {
        let mut publication = self.publication();
        publication.id = PublicationId((1 << 52) + self.below(1_000) as u64);
        publication.publisher = self.publisher();
        if self.below(8) == 0 {
            let outcome = Some(self.outcome());
            publication.properties =
                Some(Box::new(Properties { outcome, ..publication.properties.map(|p| *p).unwrap_or_default() }));
        }
        let qos = self.qos();
        Event {
            publication: Arc::new(publication),
            qos,
            retain: self.flag(),
            duplicate: qos != Qos::AtMostOnce && self.flag(),
            by_pattern: self.flag(),
            packet_id: (qos != Qos::AtMostOnce).then(|| self.packet_id()),
            subscriptions: self.several(3, |choice| 1 + choice.below(200) as u64).into(),
        }
    }

    /// Any delivery but `Opened`.
    pub fn delivery(&mut self) -> Delivery {
        match self.below(18) {
            0 => Delivery::Release(self.packet_id(), self.known()),
            1 => Delivery::Acknowledged(self.packet_id(), self.taken()),
            2 => Delivery::Received(self.packet_id(), self.taken()),
            3 => Delivery::Completed(self.packet_id(), self.known()),
            4 => {
                let id = PublicationId(1 + self.below(9) as u64);
                Delivery::Published(self.request(), self.done().map(|()| id))
            }
            5 => Delivery::Subscribed(self.request(), self.one_or_more(Self::granted)),
            6 => Delivery::Unsubscribed(self.request(), self.one_or_more(Self::given_up)),
            7 => Delivery::Invocation(Box::new(Invocation {
                id: InvocationId(1 + self.below(9) as u64),
                registration: RegistrationId(1 + self.below(9) as u64),
                procedure: self.maybe(Self::topic),
                payload: self.payload(),
                caller: self.publisher(),
                receive_progress: self.flag(),
                timeout_ms: self.maybe(|choice| u64::from(choice.number())),
                properties: self.properties(),
            })),
            8 => Delivery::Interrupt {
                invocation: InvocationId(1 + self.below(9) as u64),
                mode: self.cancel_mode(),
                reason: self.pick(&[Reason::Canceled, Reason::Timeout]),
            },
            9 | 10 => Delivery::Answer(Box::new(Answer {
                request: self.request(),
                outcome: self.outcome(),
                payload: self.payload(),
                properties: self.properties(),
            })),
            11 => Delivery::Failed(self.failed(), self.request(), self.refusal()),
            12 if self.below(4) == 0 => Delivery::Close(self.pick(ENDS)),
            13 if self.below(4) == 0 => Delivery::Refused(self.rejection()),
            _ => Delivery::Event(self.event()),
        }
    }
}
