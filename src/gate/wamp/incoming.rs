//! The messages of an open WAMP session: each becomes one command, or a refusal in its turn.
use std::mem;
use std::sync::Arc;

use super::asked::{About, Asked};
use super::{State, WampGate};
use crate::gate::report::Ending;
use crate::gate::{Output, RequestIds};
use crate::gate::{arguments, condition, dedup, fit, selection};
use crate::model::command::{
    Acknowledge, Call, CancelMode, Close, FailedRequest, PublishOptions, RegisterOptions, ReplyTo, RetainHandling, Selection,
    SubscribeEntry, SubscribeOptions, UnsubscribeEntry, Yield,
};
use crate::model::names::PUBLISH;
use crate::model::outcome::Outcome;
use crate::model::properties::{Passthru, Properties};
use crate::model::readers::{Audience, Readers};
use crate::model::reason::MustBe;
use crate::model::{Command, ErrorUri, Filter, InvocationId, Payload, Publication, Qos, Reason, RequestId, Topic};

use crate::wire::wamp::options::{self, MqttDetails};
use crate::wire::wamp::value::to_json;
use crate::wire::wamp::{Message, PublishCall, RequestKind, publish_call, reason};

impl WampGate {
    pub(super) fn handle_request(&mut self, message: &mut Message<'_>, now_ms: u64, output: &mut Output) {
        if let Some((kind, request)) = request(message)
            && !self.count(kind, request, output)
        {
            return;
        }
        match message {
            Message::Publish { request, options, topic, payload } => {
                self.handle_publish(*request, options, topic, take(payload), now_ms, output);
            }
            Message::Subscribe { request, options, topic } => self.handle_subscribe(*request, options, topic, output),
            Message::Unsubscribe { request, subscription } => {
                let entry = UnsubscribeEntry::Subscription(*subscription);
                self.handle_give_up(RequestKind::Unsubscribe, *request, subscription.0, entry, output);
            }
            Message::Register { request, options, procedure } => self.handle_register(*request, options, procedure, output),
            Message::Unregister { request, registration } => {
                let entry = UnsubscribeEntry::Registration(*registration);
                self.handle_give_up(RequestKind::Unregister, *request, registration.0, entry, output);
            }
            Message::Call { request, options, procedure, payload } => {
                self.handle_call(*request, options, procedure, take(payload), now_ms, output);
            }
            Message::Cancel { request, options } => {
                let mode = options.mode.unwrap_or(CancelMode::KillNoWait);
                output.commands.push(Command::Cancel { request: *request, mode });
            }
            Message::Yield { invocation, options, payload } => {
                let outcome = if options.progress == Some(true) { Outcome::Progress } else { Outcome::Result };
                let properties = properties(options.passthru.take(), options.mqtt.take(), output);
                answer(*invocation, outcome, take(payload), properties, output);
            }
            Message::Error { kind: RequestKind::Invocation, request, details, error, payload } => {
                let outcome = Outcome::Error(ErrorUri::Custom(reason::checked_uri(error).into()));
                let properties = properties(details.passthru.take(), details.mqtt.take(), output);
                answer(InvocationId(request.0), outcome, take(payload), properties, output);
            }
            Message::Goodbye { .. } => self.handle_goodbye(output),
            Message::Abort { .. } => {
                output.commands.push(Command::Lost(Reason::ConnectionLost));
                output.report.end(Ending::Lost("said ABORT".into()));
                self.close(output);
            }
            // A proposal that is not announced; its senders expect no answer.
            Message::EventReceived { .. } => {}
            _ => self.end(Reason::ProtocolViolation, "not a message that a client may send now", output),
        }
    }

    /// Takes a request id; where it must follow the one before and does not, the session ends and this is false.
    pub(super) fn count(&mut self, kind: RequestKind, request: RequestId, output: &mut Output) -> bool {
        if self.settings.request_ids == RequestIds::Any || matches!(kind, RequestKind::Cancel | RequestKind::Invocation) {
            return true;
        }
        let follows = self.last_request.is_none_or(|last| request.0 == last + 1);
        self.last_request = Some(request.0);
        if !follows {
            let text = "request ids must count by one, as the router is told by wamp.strict_request_ids";
            self.end(Reason::ProtocolViolation, text, output);
        }
        follows
    }

    /// Notes a request that is going to be answered. Two answers under one id could not be told apart: where the id is open, the
    /// session ends and this is false.
    fn open(&mut self, kind: RequestKind, request: RequestId, about: About, output: &mut Output) -> bool {
        let is_new = self.requests.open(request.0, Asked { kind, about });
        if !is_new {
            let text = format!("the request id {request} is open: use it again when its request is answered");
            self.end(Reason::ProtocolViolation, &text, output);
        }
        is_new
    }

    /// Refuses a request, in its turn.
    pub(super) fn fail(&mut self, kind: RequestKind, request: RequestId, about: About, reason: Reason, output: &mut Output) {
        // CANCEL has the id of a call, which goes on.
        if kind == RequestKind::Cancel || self.open(kind, request, about, output) {
            output.commands.push(Command::Fail { kind: failed(kind), request, reason });
        }
    }

    fn handle_give_up(&mut self, kind: RequestKind, request: RequestId, id: u64, entry: UnsubscribeEntry, output: &mut Output) {
        if self.open(kind, request, About::Name(id.to_string().into()), output) {
            output.commands.push(Command::Unsubscribe { request, entries: vec![entry] });
        }
    }

    fn handle_publish(
        &mut self,
        request: RequestId,
        options: &mut options::PublishOptions,
        topic: &str,
        payload: Payload,
        now_ms: u64,
        output: &mut Output,
    ) {
        let is_acknowledged = options.acknowledge == Some(true);
        let acknowledge = if is_acknowledged { Acknowledge::Request(request) } else { Acknowledge::None };
        let name = self.name(topic).and_then(|topic| self.publishable(topic));
        if is_acknowledged {
            let about = name.as_ref().map_or_else(|_| About::Name(topic.into()), |topic| About::Topic(topic.clone()));
            if !self.open(RequestKind::Publish, request, about, output) {
                return;
            }
        }
        self.publish(acknowledge, options, (topic, name), payload, now_ms, output);
    }

    fn publish(
        &mut self,
        acknowledge: Acknowledge,
        options: &mut options::PublishOptions,
        (name, topic): (&str, Result<Topic, Reason>),
        payload: Payload,
        now_ms: u64,
        output: &mut Output,
    ) {
        let (topic, routing, readers) = match topic.and_then(|topic| Ok((topic, routing(options)?, readers(options)?))) {
            Ok(both) => both,
            Err(reason) => {
                output.report.refuse("publish", name, reason);
                return output.commands.push(Command::Refuse { acknowledge, reason });
            }
        };
        let is_acknowledged = acknowledge != Acknowledge::None;
        let qos = options.qos.unwrap_or(if is_acknowledged { Qos::AtLeastOnce } else { Qos::AtMostOnce });
        let mut publication = Publication::new(topic, payload, qos);
        publication.retain = options.retain == Some(true);
        publication.readers = readers;
        publication.expires_at_ms = options.expiry_s.map(|seconds| now_ms + u64::from(seconds) * 1_000);
        publication.properties = properties(options.passthru.take(), options.mqtt.take(), output);
        let publication = Arc::new(publication);
        output.commands.push(Command::Publish { publication, acknowledge, options: routing });
    }

    /// A call of `corsac.publish`: a PUBLISH that is answered as a call is.
    fn handle_publish_call(&mut self, request: RequestId, payload: &Payload, now_ms: u64, output: &mut Output) {
        let (topic, payload, mut options) = match publish_call(payload) {
            Ok(PublishCall { topic, payload, options }) => (topic, payload, options),
            Err(text) => {
                let about = About::Refused(format!("{PUBLISH}: {text}").into());
                return self.fail(RequestKind::Call, request, about, Reason::InvalidArgument, output);
            }
        };
        let name = Topic::from_either(&topic).and_then(|topic| self.publishable(topic));
        if self.open(RequestKind::Call, request, About::Publication(topic.clone()), output) {
            options.acknowledge = Some(true);
            self.publish(Acknowledge::Request(request), &mut options, (&topic, name), payload, now_ms, output);
        }
    }

    /// A topic that a client may publish to.
    fn publishable(&self, topic: Topic) -> Result<Topic, Reason> {
        if let Some(root) = topic.root() {
            return Err(Reason::ReservedName(root));
        }
        if topic.level_count() <= self.settings.limits.max_topic_levels { Ok(topic) } else { Err(Reason::InvalidTopic) }
    }

    fn handle_subscribe(&mut self, request: RequestId, options: &options::SubscribeOptions, topic: &str, output: &mut Output) {
        let filter = match Filter::from_subscribed_uri(topic, options.policy.unwrap_or_default()) {
            Ok(filter) if filter.level_count() > self.settings.limits.max_topic_levels => Err(Reason::InvalidFilter),
            filter => filter,
        };
        let retained_only = options.retained == Some(true);
        let wants_retained = retained_only || options.get_retained == Some(true) || options.retained_state == Some(true);
        let selection = selection(options, wants_retained);
        let options = SubscribeOptions {
            retain_handling: if wants_retained { RetainHandling::Always } else { RetainHandling::Never },
            retained_only,
            ..SubscribeOptions::default()
        };
        let entry = match (filter, selection) {
            (Ok(filter), Ok(None)) => SubscribeEntry::Topic { filter, share: None, options },
            (Ok(filter), Ok(Some(selection))) => SubscribeEntry::Selected { filter, options, selection: Box::new(selection) },
            (Err(reason), _) | (_, Err(reason)) => {
                output.report.refuse("subscribe", topic, reason);
                SubscribeEntry::Refused(reason)
            }
        };
        if self.open(RequestKind::Subscribe, request, About::Name(topic.into()), output) {
            output.commands.push(Command::Subscribe { request, entries: vec![entry] });
        }
    }

    fn handle_register(&mut self, request: RequestId, options: &options::RegisterOptions, procedure: &str, output: &mut Output) {
        let entry = match Filter::from_uri(procedure, options.policy.unwrap_or_default()) {
            Ok(filter) if filter.level_count() <= self.settings.limits.max_topic_levels => SubscribeEntry::Procedure {
                filter,
                options: RegisterOptions {
                    invoke: options.invoke.unwrap_or_default(),
                    disclose_caller: options.disclose_caller.unwrap_or(false),
                    forward_timeout: options.forward_timeout.unwrap_or(false),
                    ..RegisterOptions::default()
                },
            },
            Ok(_) => SubscribeEntry::Refused(Reason::InvalidFilter),
            Err(reason) => SubscribeEntry::Refused(reason),
        };
        if let SubscribeEntry::Refused(reason) = entry {
            output.report.refuse("register", procedure, reason);
        }
        if self.open(RequestKind::Register, request, About::Name(procedure.into()), output) {
            output.commands.push(Command::Subscribe { request, entries: vec![entry] });
        }
    }

    fn handle_call(
        &mut self,
        request: RequestId,
        options: &mut options::CallOptions,
        procedure: &str,
        payload: Payload,
        now_ms: u64,
        output: &mut Output,
    ) {
        // A name that nobody can register has no callee; saying more would tell which names there are.
        let procedure = match self.name(procedure) {
            Ok(procedure) => procedure,
            Err(reason) => return self.fail(RequestKind::Call, request, About::Name(procedure.into()), reason, output),
        };
        if options.progress == Some(true) {
            let about = About::Refused("CALL.Options.progress is not supported: send all arguments in one call".into());
            return self.fail(RequestKind::Call, request, about, Reason::OptionNotAllowed, output);
        }
        if procedure.is_reserved() && procedure.as_uri() == PUBLISH {
            return self.handle_publish_call(request, &payload, now_ms, output);
        }
        if !self.open(RequestKind::Call, request, About::Unsaid, output) {
            return;
        }
        let properties = properties(options.passthru.take(), options.mqtt.take(), output);
        let (arguments, payload) = arguments::take(&procedure, payload, properties.as_deref());
        output.commands.push(Command::Call(Box::new(Call {
            reply: ReplyTo::Request(request),
            acknowledge: Acknowledge::None,
            procedure,
            payload,
            timeout_ms: options.timeout.unwrap_or(0),
            receive_progress: options.receive_progress.unwrap_or(false),
            disclose_me: options.disclose_me.unwrap_or(false),
            properties,
            arguments,
        })));
    }

    /// GOODBYE: everything of the session is gone before its answer (WAMP: Basic, Session Closing).
    fn handle_goodbye(&mut self, output: &mut Output) {
        debug_assert!(self.state == State::Open);
        output.commands.push(Command::Close(Close { expiry_s: None, with_will: false }));
        let goodbye = Message::Goodbye { details: options::CloseDetails::default(), reason: reason::GOODBYE_AND_OUT.into() };
        self.send(&goodbye, output);
        output.report.end(Ending::Goodbye);
        self.close(output);
    }
}

/// The selection of a subscription, if it has one. Past events and retained ones exclude each other: the history has the latter
/// too.
fn selection(options: &options::SubscribeOptions, wants_retained: bool) -> Result<Option<Selection>, Reason> {
    let past = selection::past(options.after, options.last)?;
    if past.is_some() && wants_retained {
        return Err(Reason::WrongValue("after", MustBe::PastOrRetained));
    }
    let pattern = options.filter.as_deref().map(to_json);
    let selection = Selection { past, is_snapshot: options.snapshot == Some(true), pattern };
    Ok((selection != Selection::default()).then_some(selection))
}

/// The payload of a message that is over.
fn take(payload: &mut Payload) -> Payload {
    mem::replace(payload, Payload::empty())
}

/// Messages that carry a new request id of the client's.
fn request(message: &Message<'_>) -> Option<(RequestKind, RequestId)> {
    Some(match message {
        Message::Publish { request, .. } => (RequestKind::Publish, *request),
        Message::Subscribe { request, .. } => (RequestKind::Subscribe, *request),
        Message::Unsubscribe { request, .. } => (RequestKind::Unsubscribe, *request),
        Message::Register { request, .. } => (RequestKind::Register, *request),
        Message::Unregister { request, .. } => (RequestKind::Unregister, *request),
        Message::Call { request, .. } => (RequestKind::Call, *request),
        _ => return None,
    })
}

/// The kind of a request that failed in the gate.
fn failed(kind: RequestKind) -> FailedRequest {
    match kind {
        RequestKind::Publish => FailedRequest::Publish,
        RequestKind::Subscribe => FailedRequest::Subscribe,
        RequestKind::Unsubscribe => FailedRequest::Unsubscribe,
        RequestKind::Register => FailedRequest::Register,
        RequestKind::Unregister => FailedRequest::Unregister,
        RequestKind::Cancel => FailedRequest::Cancel,
        RequestKind::Call | RequestKind::Invocation => FailedRequest::Call,
    }
}

/// Entries that one list of sessions, authids or authroles may have: each is compared with each receiver.
const MAX_LISTED: usize = 1_000;

/// Lists without measure are refused.
fn check_lists(options: &options::PublishOptions) -> Result<(), Reason> {
    let ids = [&options.exclude, &options.eligible];
    let names = [&options.exclude_authid, &options.eligible_authid, &options.exclude_authrole, &options.eligible_authrole];
    let lengths = ids.into_iter().flatten().map(Vec::len).chain(names.into_iter().flatten().map(Vec::len));
    if lengths.max().is_some_and(|length| length > MAX_LISTED) { Err(Reason::QuotaExceeded) } else { Ok(()) }
}

/// The sessions that may receive a publication; `None` is everybody.
fn readers(options: &options::PublishOptions) -> Result<Option<Box<Readers>>, Reason> {
    let has_ids = options.eligible.is_some() || options.exclude.is_some();
    let has_authids = options.eligible_authid.is_some() || options.exclude_authid.is_some();
    if !has_ids && !has_authids && options.eligible_authrole.is_none() && options.exclude_authrole.is_none() {
        return Ok(None);
    }
    check_lists(options)?;
    let audience = |sessions: &Option<Vec<_>>, authids: &Option<Vec<_>>, authroles: &Option<Vec<_>>| {
        let audience = Audience { sessions: sessions.clone(), authids: authids.clone(), authroles: authroles.clone() };
        (audience != Audience::default()).then_some(audience)
    };
    let eligible = audience(&options.eligible, &options.eligible_authid, &options.eligible_authrole);
    let exclude = audience(&options.exclude, &options.exclude_authid, &options.exclude_authrole);
    Ok((eligible.is_some() || exclude.is_some()).then(|| Box::new(Readers { eligible, exclude })))
}

/// True where no option says anything about the way of a publication: so are most.
fn is_for_everybody(options: &options::PublishOptions) -> bool {
    let options::PublishOptions { exclude_me, disclose_me, dedup, when, watch, will, .. } = options;
    let is_unconditional = when.is_none() && watch.is_none() && will.is_none() && dedup.is_none();
    is_unconditional && exclude_me.is_none() && disclose_me.is_none()
}

/// Under which condition a publication is made, and what its retries are known by; `None` for the default, everybody but
/// the publisher.
fn routing(options: &options::PublishOptions) -> Result<Option<Box<PublishOptions>>, Reason> {
    if is_for_everybody(options) {
        return Ok(None);
    }
    let routing = PublishOptions {
        exclude_me: options.exclude_me.unwrap_or(true),
        disclose_me: options.disclose_me.unwrap_or(false),
        condition: condition::of_options(options),
        dedup: dedup::of_options(options)?,
    };
    Ok((routing != PublishOptions::default()).then(|| Box::new(routing)))
}

/// The answer of a callee cannot be read: its caller is told in its place.
pub(super) fn fail_invocation(invocation: InvocationId, detail: &str, output: &mut Output) {
    let payload = Payload::of_text(&format!("the answer of the callee cannot be read: {detail}"));
    let outcome = Outcome::Error(ErrorUri::Custom(reason::RUNTIME_ERROR.into()));
    answer(invocation, outcome, payload, None, output);
}

fn answer(
    invocation: InvocationId,
    outcome: Outcome,
    payload: Payload,
    properties: Option<Box<Properties>>,
    output: &mut Output,
) {
    let acknowledge = Acknowledge::None;
    output.commands.push(Command::Yield(Box::new(Yield { acknowledge, invocation, outcome, payload, properties })));
}

/// The properties that travel with a message unaltered. Those that no MQTT client could be sent are left out, and counted.
fn properties(passthru: Option<Box<Passthru>>, mqtt: Option<Box<MqttDetails>>, output: &mut Output) -> Option<Box<Properties>> {
    if passthru.is_none() && mqtt.is_none() {
        return None;
    }
    let mqtt = mqtt.map(|mqtt| *mqtt).unwrap_or_default();
    let mut properties = Properties {
        content_type: mqtt.content_type,
        payload_format: None,
        response_topic: mqtt.response_topic,
        correlation_data: mqtt.correlation_data,
        user: mqtt.user_properties.map(|user| user.0).unwrap_or_default(),
        passthru,
        outcome: None,
    };
    output.left_out += fit::leave_out(&mut properties);
    Some(Box::new(properties))
}
