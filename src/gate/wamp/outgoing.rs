//! The messages that a WAMP client is sent: events, results, invocations, and the answers to its requests.
use super::asked::{self, About, Asked};
use super::{State, WampGate};
use crate::gate::{Output, arguments};
use crate::model::command::{CancelMode, FailedRequest};
use crate::model::delivery::{Answer, Event, Granted, Invocation};
use crate::model::outcome::Outcome;
use crate::model::properties::Properties;
use crate::model::{
    Command, Delivery, ErrorUri, InvocationId, Payload, Publication, PublicationId, Reason, RequestId, SubscriptionId,
};
use crate::wire::payload;

use crate::wire::wamp::options::{
    ErrorDetails, EventDetails, InterruptOptions, InvocationDetails, MqttDetails, ResultDetails, UnsubscribedDetails,
    UserProperties,
};
use crate::wire::wamp::{Message, RequestKind, encode_event, encode_invocation, encode_published, encode_result, reason};

impl WampGate {
    /// One delivery of the realm.
    pub fn handle_delivery(&mut self, delivery: Delivery, output: &mut Output) {
        match (self.state, delivery) {
            (State::Closed, _) => {}
            (_, Delivery::Opened { session, .. }) => self.handle_opened(session, output),
            (_, Delivery::Refused(reason)) => self.say_end(reason, &reason.to_string(), output),
            (_, Delivery::Event(event)) => self.send_event(&event, output),
            (_, Delivery::Published(request, Ok(id))) => self.send_published(request, id, output),
            (_, Delivery::Published(request, Err(reason))) => self.send_error(RequestKind::Publish, request, reason, output),
            (_, Delivery::Subscribed(request, results)) => self.send_granted(request, &results, output),
            (_, Delivery::Unsubscribed(request, results)) => self.send_given_up(request, &results, output),
            (_, Delivery::Revoked(subscription, outcome)) => self.send_revoked(subscription, outcome, output),
            (_, Delivery::Invocation(invocation)) => self.send_invocation(&invocation, output),
            (_, Delivery::Interrupt { invocation, mode, reason: why }) => {
                let options = InterruptOptions { mode: Some(mode), reason: Some(reason::error_uri(why).into()) };
                self.send(&Message::Interrupt { invocation, options }, output);
            }
            (_, Delivery::Answer(answer)) => self.send_answer(*answer, output),
            (_, Delivery::Failed(kind, request, reason)) => self.send_error(kind_of(kind), request, reason, output),
            (_, Delivery::Pong) => self.handle_pong(output),
            (_, Delivery::Close(reason)) => self.say_end(reason, &reason.to_string(), output),
            // The rest is said to MQTT clients only.
            _ => {}
        }
    }

    fn send_event(&mut self, event: &Event, output: &mut Output) {
        let publication = &*event.publication;
        let convert = || payload::to_args(&publication.payload, publication.properties.as_deref(), self.encoding);
        let (args, kwargs) = match &publication.payload {
            Payload::Args { encoding, args, kwargs } if *encoding == self.encoding => (args, kwargs),
            _ => match publication.conversions.args(self.encoding, convert) {
                Payload::Args { args, kwargs, .. } => (args, kwargs),
                Payload::Bytes(_) | Payload::List(_) => return,
            },
        };
        let Some(subscription) = event.subscriptions.first().map(|id| SubscriptionId(*id)) else { return };
        let details = event_details(event);
        let encoding = self.encoding;
        let fits = self.send_with(output, |output| {
            encode_event(encoding, &mut output.bytes, subscription, publication.id, details.as_ref(), args, kwargs);
        });
        output.too_large += u64::from(!fits);
    }

    /// PUBLISHED; or the result of a call that published.
    fn send_published(&mut self, request: RequestId, id: PublicationId, output: &mut Output) {
        let encoding = self.encoding;
        match self.requests.close(request.0) {
            Some(Asked { kind: RequestKind::Call, .. }) => {
                let (details, payload) = (ResultDetails::default(), Payload::of_values(&[id.0.into()]));
                self.send(&Message::Result { request, details, payload }, output);
            }
            _ => drop(self.send_with(output, |output| encode_published(encoding, &mut output.bytes, request, id))),
        }
    }

    fn send_granted(&mut self, request: RequestId, results: &[Result<Granted, Reason>], output: &mut Output) {
        let asked = self.requests.close(request.0);
        match results.first() {
            Some(Ok(Granted::Subscription(subscription, _))) => {
                self.send(&Message::Subscribed { request, subscription: *subscription }, output);
            }
            Some(Ok(Granted::Registration(registration, _))) => {
                self.send(&Message::Registered { request, registration: *registration }, output);
            }
            Some(Err(reason)) => self.send_refusal(RequestKind::Subscribe, request, asked, *reason, output),
            None => {}
        }
    }

    fn send_given_up(&mut self, request: RequestId, results: &[Result<(), Reason>], output: &mut Output) {
        let asked = self.requests.close(request.0);
        match (results.first(), asked.as_ref().map(|asked| asked.kind)) {
            (Some(Err(reason)), _) => self.send_refusal(RequestKind::Unsubscribe, request, asked, *reason, output),
            (_, Some(RequestKind::Unregister)) => {
                self.send(&Message::Unregistered { request, details: None }, output);
            }
            _ => {
                self.send(&Message::Unsubscribed { request, details: None }, output);
            }
        }
    }

    /// WAMP: Advanced, Subscription Revocation.
    fn send_revoked(&self, subscription: SubscriptionId, outcome: Result<(), Reason>, output: &mut Output) {
        let why = outcome.err().map_or(reason::SUBSCRIPTION_COMPLETE, reason::error_uri);
        let details = UnsubscribedDetails { subscription: Some(subscription), reason: Some(why.into()) };
        self.send(&Message::Unsubscribed { request: RequestId(0), details: Some(details) }, output);
    }

    fn send_error(&mut self, kind: RequestKind, request: RequestId, why: Reason, output: &mut Output) {
        // CANCEL has the id of a call, which goes on.
        let asked = if kind == RequestKind::Cancel { None } else { self.requests.close(request.0) };
        self.send_refusal(kind, request, asked, why, output);
    }

    /// ERROR for a request, of the kind that was asked for if that is known. A sentence says what was refused, and why.
    fn send_refusal(&self, kind: RequestKind, request: RequestId, asked: Option<Asked>, why: Reason, output: &mut Output) {
        let kind = asked.as_ref().map_or(kind, |asked| asked.kind);
        let sentence = asked.map_or_else(|| why.to_string(), |asked| asked.sentence(why));
        let details = ErrorDetails { message: Some(why.to_string().into()), ..ErrorDetails::default() };
        self.send_fitting_error((kind, request), reason::error_uri(why), details, asked::arguments(&sentence, why), output);
    }

    /// ERROR with as much of it as the client can take: without details, without arguments, at last without its URI.
    fn send_fitting_error(
        &self,
        (kind, request): (RequestKind, RequestId),
        uri: &str,
        details: ErrorDetails,
        payload: Payload,
        output: &mut Output,
    ) {
        let error = |uri: &'static str, details, payload| Message::Error { kind, request, details, error: uri.into(), payload };
        let whole = Message::Error { kind, request, details, error: uri.into(), payload: payload.clone() };
        if self.send(&whole, output) {
            return;
        }
        let named = |payload| Message::Error { kind, request, details: ErrorDetails::default(), error: uri.into(), payload };
        let less = [payload, Payload::of_text(LARGER_ERROR), Payload::empty()].map(named);
        let nameless = error(reason::error_uri(Reason::MessageTooLarge), ErrorDetails::default(), Payload::empty());
        self.send_first(less.into_iter().chain([nameless]), output);
    }

    fn send_invocation(&self, invocation: &Invocation, output: &mut Output) {
        let Invocation { id, registration, procedure, payload, caller, receive_progress, timeout_ms, properties } = invocation;
        let is_bare = procedure.is_none() && caller.is_none() && timeout_ms.is_none() && properties.is_none();
        let details = (!is_bare || *receive_progress).then(|| InvocationDetails {
            procedure: procedure.as_ref().map(|procedure| procedure.as_uri().into()),
            caller: caller.as_ref().map(|caller| caller.session),
            caller_authid: caller.as_ref().map(|caller| (&*caller.principal.authid).into()),
            caller_authrole: caller.as_ref().map(|caller| (&*caller.principal.authrole).into()),
            receive_progress: receive_progress.then_some(true),
            timeout: *timeout_ms,
            mqtt: mqtt_details(properties.as_deref()),
            passthru: properties.as_ref().and_then(|properties| properties.passthru.clone()),
            ..InvocationDetails::default()
        });
        let payload = payload::to_args(payload, properties.as_deref(), self.encoding);
        let Payload::Args { args, kwargs, .. } = &payload else { return decline(*id, output) };
        let encoding = self.encoding;
        let fits = self.send_with(output, |output| {
            encode_invocation(encoding, &mut output.bytes, *id, *registration, details.as_ref(), args, kwargs);
        });
        if !fits {
            decline(*id, output);
        }
    }

    fn send_answer(&mut self, answer: Answer, output: &mut Output) {
        let Answer { request, outcome, payload, properties } = answer;
        let is_answered = self.requests.at_mut(request.0).is_some_and(|asked| matches!(asked.about, About::Answered));
        if outcome != Outcome::Progress {
            self.requests.close(request.0);
        }
        if is_answered {
            return;
        }
        let items = arguments::items(&payload);
        let payload = payload::to_args(&payload, properties.as_deref(), self.encoding);
        let mqtt = mqtt_details(properties.as_deref());
        let passthru = properties.and_then(|properties| properties.passthru);
        if let Outcome::Error(error) = &outcome {
            let message = match error {
                ErrorUri::Reason(reason) => Some(reason.to_string().into()),
                ErrorUri::Custom(_) => None,
            };
            let details = ErrorDetails { message, mqtt, passthru, ..ErrorDetails::default() };
            return self.send_fitting_error((RequestKind::Call, request), reason::uri_of(error), details, payload, output);
        }
        let progress = (outcome == Outcome::Progress).then_some(true);
        let is_bare = progress.is_none() && mqtt.is_none() && passthru.is_none();
        let details = (!is_bare).then(|| ResultDetails { progress, mqtt, passthru, ..ResultDetails::default() });
        let encoding = self.encoding;
        let fits = match &payload {
            Payload::Args { args, kwargs, .. } => self.send_with(output, |output| {
                encode_result(encoding, &mut output.bytes, request, details.as_ref(), args, kwargs);
            }),
            Payload::Bytes(_) | Payload::List(_) => false,
        };
        if !fits {
            output.commands.extend(items.into_iter().filter_map(arguments::give_back));
            self.refuse_result(request, outcome == Outcome::Progress, output);
        }
    }

    /// A result that the caller cannot take ends its call, be it one of several: what would be missing from them is not passed over.
    fn refuse_result(&mut self, request: RequestId, is_progress: bool, output: &mut Output) {
        let (error, details) = (reason::error_uri(Reason::MessageTooLarge), ErrorDetails::default());
        self.send_fitting_error((RequestKind::Call, request), error, details, Payload::of_text(LARGER_RESULT), output);
        if is_progress {
            if let Some(asked) = self.requests.at_mut(request.0) {
                asked.about = About::Answered;
            }
            output.commands.push(Command::Cancel { request, mode: CancelMode::KillNoWait });
        }
    }
}

/// Said to a caller of a result that it cannot take.
const LARGER_RESULT: &str = "the result is larger than what this session takes; ask for less, or take longer messages";

/// Said to a caller of the arguments of an error that it cannot take.
const LARGER_ERROR: &str = "the arguments of this error are larger than what this session takes";

/// An invocation that its callee cannot take is answered in the callee's place.
fn decline(invocation: InvocationId, output: &mut Output) {
    let outcome = Outcome::Error(ErrorUri::Reason(Reason::MessageTooLarge));
    let acknowledge = crate::model::command::Acknowledge::None;
    let (payload, properties) = (Payload::empty(), None);
    let answer = crate::model::command::Yield { acknowledge, invocation, outcome, payload, properties };
    output.commands.push(Command::Yield(Box::new(answer)));
}

fn kind_of(kind: FailedRequest) -> RequestKind {
    match kind {
        FailedRequest::Publish => RequestKind::Publish,
        FailedRequest::Subscribe => RequestKind::Subscribe,
        FailedRequest::Unsubscribe => RequestKind::Unsubscribe,
        FailedRequest::Register => RequestKind::Register,
        FailedRequest::Unregister => RequestKind::Unregister,
        FailedRequest::Call => RequestKind::Call,
        FailedRequest::Cancel => RequestKind::Cancel,
    }
}

/// The details of an event beyond its payload; none for most of WAMP's own.
fn event_details(event: &Event) -> Option<EventDetails> {
    let publication: &Publication = &event.publication;
    let publisher = publication.publisher.as_ref();
    let is_bare = publisher.is_none() && publication.properties.is_none() && matches!(publication.payload, Payload::Args { .. });
    if is_bare && !event.by_pattern && !event.retain {
        return None;
    }
    Some(EventDetails {
        publisher: publisher.map(|publisher| publisher.session),
        publisher_authid: publisher.map(|publisher| (&*publisher.principal.authid).into()),
        publisher_authrole: publisher.map(|publisher| (&*publisher.principal.authrole).into()),
        topic: event.by_pattern.then(|| publication.topic.as_uri().into()),
        retained: event.retain.then_some(true),
        mqtt: published_by_mqtt(publication),
        passthru: publication.properties.as_ref().and_then(|properties| properties.passthru.clone()),
        ..EventDetails::default()
    })
}

/// The details of an MQTT publication beyond its payload; none for WAMP publications that carry nothing of MQTT's.
fn published_by_mqtt(publication: &Publication) -> Option<Box<MqttDetails>> {
    let details = mqtt_details(publication.properties.as_deref());
    if matches!(publication.payload, Payload::Args { .. }) && details.is_none() {
        return None;
    }
    let details = details.map(|details| *details).unwrap_or_default();
    Some(Box::new(MqttDetails { qos: Some(publication.qos), retain: Some(publication.retain), ..details }))
}

fn mqtt_details(properties: Option<&Properties>) -> Option<Box<MqttDetails>> {
    let properties = properties?;
    let details = MqttDetails {
        user_properties: (!properties.user.is_empty()).then(|| UserProperties(properties.user.clone())),
        content_type: properties.content_type.clone(),
        response_topic: properties.response_topic.clone(),
        correlation_data: properties.correlation_data.clone(),
        ..MqttDetails::default()
    };
    (details != MqttDetails::default()).then(|| Box::new(details))
}
