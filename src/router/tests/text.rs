//! Effects as text that no rename changes: what the trace of a seeded world is made of.
use std::fmt::Write;

use crate::model::command::CancelMode;
use crate::model::delivery::{Answer, Event, Granted, Invocation, Taken};
use crate::model::outcome::Outcome;
use crate::model::properties::Properties;
use crate::model::publication::Publisher;
use crate::model::query::Query;
use crate::model::record::{DedupKey, Origin};
use crate::model::{Delivery, Encoding, ErrorUri, Filter, Item, Payload, Publication, Reason};
use crate::router::Effect;
use crate::router::ReadForm;

/// Everything that a router has asked for, as a hash; and line by line, if it is to be looked at.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    /// Every line is printed.
    pub is_shown: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Trace { hash: 0xcbf2_9ce4_8422_2325, is_shown: false }
    }
}

impl Trace {
    /// The notes so far, as one number.
    pub fn hash(&self) -> u32 {
        (self.hash ^ (self.hash >> 32)) as u32
    }

    /// One more effect; what it appends is noted as its record by [`Trace::note_item`].
    pub fn note(&mut self, effect: &Effect) {
        let line = match effect {
            Effect::Deliver(connection, delivery) => format!("{} < {}", connection.0, delivery_text(delivery)),
            Effect::Append(ticket, _) => format!("append {}", ticket.0),
            Effect::Read(ticket, query, form) => format!("read {} {}", ticket.0, query_text(query, *form)),
            Effect::Settled(connection) => format!("settled {}", connection.0),
        };
        self.add(&line);
    }

    /// The record that an effect asks a place for.
    pub fn note_item(&mut self, item: &Item) {
        let line = item_text(item);
        self.add(&line);
    }

    fn add(&mut self, line: &str) {
        if self.is_shown {
            println!("{line}");
        }
        // FNV-1a
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn delivery_text(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Opened { session, session_present } => format!("opened {} {session_present}", session.0),
        Delivery::Refused(reason) => format!("refused {}", reason_text(*reason)),
        Delivery::Event(event) => format!("event {}", event_text(event)),
        Delivery::Release(id, outcome) => format!("pubrel {} {}", id.0, done_text(*outcome)),
        Delivery::Acknowledged(id, outcome) => format!("puback {} {}", id.0, taken_text(*outcome)),
        Delivery::Received(id, outcome) => format!("pubrec {} {}", id.0, taken_text(*outcome)),
        Delivery::Missed(count) => format!("missed {count}"),
        Delivery::Denied(topic, reason) => format!("denied {} {}", topic.as_mqtt(), reason_text(*reason)),
        Delivery::Paused => "paused".to_owned(),
        Delivery::Completed(id, outcome) => format!("pubcomp {} {}", id.0, done_text(*outcome)),
        Delivery::Published(request, outcome) => {
            format!("published {} {}", request.0, outcome.map_or_else(reason_text, |id| id.0.to_string()))
        }
        Delivery::Subscribed(request, results) => {
            let results: Vec<String> = results.iter().map(|result| result.map_or_else(reason_text, granted_text)).collect();
            format!("subscribed {} {}", request.0, results.join(","))
        }
        Delivery::Unsubscribed(request, results) => {
            let results: Vec<String> = results.iter().map(|result| done_text(*result)).collect();
            format!("unsubscribed {} {}", request.0, results.join(","))
        }
        Delivery::Revoked(id, outcome) => format!("revoked {} {}", id.0, done_text(*outcome)),
        Delivery::Invocation(invocation) => format!("invocation {}", invocation_text(invocation)),
        Delivery::Interrupt { invocation, mode, reason } => {
            let mode = match mode {
                CancelMode::Skip => "skip",
                CancelMode::Kill => "kill",
                CancelMode::KillNoWait => "killnowait",
            };
            format!("interrupt {} {mode} {}", invocation.0, reason_text(*reason))
        }
        Delivery::Answer(answer) => format!("answer {}", answer_text(answer)),
        Delivery::Failed(_, request, reason) => format!("failed {} {}", request.0, reason_text(*reason)),
        Delivery::Pong => "pong".to_owned(),
        Delivery::Close(reason) => format!("close {}", reason_text(*reason)),
    }
}

fn event_text(event: &Event) -> String {
    // The order of identifiers of overlapping subscriptions means nothing.
    let mut subscriptions = event.subscriptions.to_vec();
    subscriptions.sort_unstable();
    let flags = [(event.retain, "retain"), (event.duplicate, "dup"), (event.by_pattern, "pattern")];
    let flags: Vec<&str> = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect();
    let packet_id = event.packet_id.map_or(0, |id| id.value());
    format!("{packet_id} qos={} {} {subscriptions:?} {}", event.qos.bits(), flags.join("+"), publication_text(&event.publication))
}

fn publication_text(publication: &Publication) -> String {
    let Publication { id, topic, payload, qos, retain, expires_at_ms, publisher, properties, .. } = publication;
    format!(
        "#{} {} qos={} {retain} until={} by={} {} {}",
        id.0,
        topic.as_mqtt(),
        qos.bits(),
        expires_at_ms.unwrap_or(0),
        publisher_text(publisher.as_ref()),
        payload_text(payload),
        properties_text(properties.as_deref())
    )
}

fn publisher_text(publisher: Option<&Publisher>) -> String {
    publisher.map_or_else(String::new, |publisher| format!("{}/{}", publisher.session.0, publisher.principal.authid))
}

fn payload_text(payload: &Payload) -> String {
    match payload {
        Payload::Bytes(bytes) => bytes.escape_ascii().to_string(),
        Payload::Args { encoding, args, kwargs } => {
            let encoding = match encoding {
                Encoding::Json => "json",
                Encoding::MsgPack => "msgpack",
                Encoding::Cbor => "cbor",
            };
            format!("{encoding} {} {}", args.escape_ascii(), kwargs.escape_ascii())
        }
        Payload::List(parts) => {
            let part = |part: &crate::model::payload::Part| {
                let head: std::collections::BTreeMap<_, _> = part.head.iter().collect();
                format!(
                    "{} {} {}",
                    serde_json::to_string(&head).unwrap(),
                    payload_text(&part.payload),
                    properties_text(part.properties.as_deref())
                )
            };
            parts.iter().map(part).collect::<Vec<_>>().join(";")
        }
    }
}

fn properties_text(properties: Option<&Properties>) -> String {
    let Some(properties) = properties else { return "-".to_owned() };
    let Properties { content_type, payload_format, response_topic, correlation_data, user, passthru, outcome } = properties;
    let mut text = String::new();
    for (name, value) in [("type", content_type), ("reply", response_topic)] {
        if let Some(value) = value {
            write!(text, "{name}={value} ").unwrap();
        }
    }
    for (name, is_set) in [("text", payload_format.unwrap_or(false)), ("passthru", passthru.is_some())] {
        if is_set {
            write!(text, "{name} ").unwrap();
        }
    }
    if let Some(data) = correlation_data {
        write!(text, "data={} ", data.escape_ascii()).unwrap();
    }
    for (name, value) in user {
        write!(text, "{name}:{value} ").unwrap();
    }
    if let Some(outcome) = outcome {
        write!(text, "{}", outcome_text(outcome)).unwrap();
    }
    format!("({text})")
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Progress => "progress".to_owned(),
        Outcome::Result => "result".to_owned(),
        Outcome::Error(ErrorUri::Reason(reason)) => format!("error {}", reason_text(*reason)),
        Outcome::Error(ErrorUri::Custom(uri)) => format!("error {uri}"),
    }
}

fn invocation_text(invocation: &Invocation) -> String {
    let Invocation { id, registration, procedure, payload, caller, receive_progress, timeout_ms, properties } = invocation;
    format!(
        "{} {} {} {} {} {receive_progress} {} {}",
        id.0,
        registration.0,
        procedure.as_ref().map_or("", |procedure| procedure.as_mqtt()),
        payload_text(payload),
        publisher_text(caller.as_ref()),
        timeout_ms.unwrap_or(0),
        properties_text(properties.as_deref())
    )
}

fn answer_text(answer: &Answer) -> String {
    let Answer { request, outcome, payload, properties } = answer;
    format!("{} {} {} {}", request.0, outcome_text(outcome), payload_text(payload), properties_text(properties.as_deref()))
}

fn taken_text(outcome: Result<Taken, Reason>) -> String {
    outcome.map_or_else(reason_text, |taken| format!("{} {}", taken.has_receivers, taken.token.map_or(0, |id| id.value())))
}

fn done_text(outcome: Result<(), Reason>) -> String {
    outcome.map_or_else(reason_text, |()| "done".to_owned())
}

fn granted_text(granted: Granted) -> String {
    match granted {
        Granted::Subscription(id, qos) => format!("subscription {} {}", id.0, qos.bits()),
        Granted::Registration(id, qos) => format!("registration {} {}", id.0, qos.bits()),
    }
}

fn item_text(item: &Item) -> String {
    let Item { kind, topic, origin, qos, flags, expires_at_ms, dedup, payload, properties, .. } = item;
    let origin = origin.as_ref().map(|Origin { session, authid, .. }| format!("{}/{authid}", session.0));
    let dedup = dedup.as_ref().map(|DedupKey { owner, key }| format!("{owner}/{}", key.escape_ascii()));
    format!(
        "record {} {} by={} qos={} flags={} until={} dedup={} {} {}",
        kind.0,
        topic.as_ref().map_or("", |topic| topic.as_mqtt()),
        origin.unwrap_or_default(),
        qos.bits(),
        flags.0,
        expires_at_ms.unwrap_or(0),
        dedup.unwrap_or_default(),
        payload_text(payload),
        properties_text(properties.as_deref())
    )
}

/// In which order filters are asked for means nothing.
fn query_text(query: &Query, form: ReadForm) -> String {
    let number = |id: Option<crate::model::EventId>| id.map_or(0, |id| id.value());
    let mut filters: Vec<String> = query.filter.iter().chain(&query.also).map(filter_text).collect();
    filters.sort_unstable();
    let form = match form {
        ReadForm::Stored => "stored",
        ReadForm::Json => "json",
    };
    format!(
        "{} {}..{} {}..{} limit={} bytes={} {} {form}",
        filters.join(","),
        number(query.after),
        number(query.before),
        query.from_ms.unwrap_or(0),
        query.until_ms.unwrap_or(0),
        query.limit,
        query.max_bytes,
        query.reverse
    )
}

fn filter_text(filter: &Filter) -> String {
    match filter {
        Filter::Exact(topic) => topic.as_mqtt().to_owned(),
        Filter::Levels(levels) => format!("levels {levels}"),
        Filter::Prefix(prefix) => format!("prefix {prefix}"),
    }
}

fn reason_text(reason: Reason) -> String {
    let name = match reason {
        Reason::Malformed => "malformed",
        Reason::ProtocolViolation => "protocol-violation",
        Reason::InvalidTopic => "invalid-topic",
        Reason::InvalidFilter => "invalid-filter",
        Reason::InvalidArgument => "invalid-argument",
        Reason::OptionNotAllowed => "option-not-allowed",
        Reason::DiscloseMeNotAllowed => "disclose-me-not-allowed",
        Reason::NotAuthorized => "not-authorized",
        Reason::Refused => "refused",
        Reason::NotAuthenticated => "not-authenticated",
        Reason::NoSuchRealm => "no-such-realm",
        Reason::NoSuchRole => "no-such-role",
        Reason::ConditionFailed => "condition-failed",
        Reason::NoSuchProcedure => "no-such-procedure",
        Reason::ProcedureAlreadyExists => "procedure-already-exists",
        Reason::InvocationPolicyConflict => "invocation-policy-conflict",
        Reason::NoSuchRegistration => "no-such-registration",
        Reason::NoSuchSubscription => "no-such-subscription",
        Reason::NoReplyAddress => "no-reply-address",
        Reason::Canceled => "canceled",
        Reason::Timeout => "timeout",
        Reason::Unavailable => "unavailable",
        Reason::QuotaExceeded => "quota-exceeded",
        Reason::MessageTooLarge => "message-too-large",
        Reason::ReceiveMaximumExceeded => "receive-maximum-exceeded",
        Reason::TopicAliasInvalid => "topic-alias-invalid",
        Reason::PacketIdNotFound => "packet-id-not-found",
        Reason::PayloadFormatInvalid => "payload-format-invalid",
        Reason::ClientIdNotValid => "client-id-not-valid",
        Reason::UnsupportedProtocolVersion => "unsupported-protocol-version",
        Reason::BadAuthenticationMethod => "bad-authentication-method",
        Reason::KeepAliveTimeout => "keep-alive-timeout",
        Reason::TooSlow => "too-slow",
        Reason::SessionTakenOver => "session-taken-over",
        Reason::AdministrativeAction => "administrative-action",
        Reason::ShuttingDown => "shutting-down",
        Reason::ConnectionLost => "connection-lost",
        Reason::ServerBusy => "server-busy",
        Reason::SharedSubscriptionInvalid => "shared-subscription-invalid",
        Reason::NotSupported => "not-supported",
        Reason::NoSpace => "no-space",
        Reason::StorageFailed => "storage-failed",
        Reason::NoHistory => "no-history",
        Reason::NoSuchToken => "no-such-token",
        Reason::NotALock => "not-a-lock",
        Reason::UnfitCharacter(character) => return format!("unfit-character {:x}", u32::from(character)),
        Reason::ReservedName(root) => return format!("reserved-name {root}"),
        Reason::WrongValue(name, must_be) => return format!("wrong-value {name} {must_be}"),
        Reason::HistoryTooOld(oldest) => return format!("history-too-old {}", oldest.value()),
        Reason::Internal => "internal",
    };
    name.to_owned()
}
