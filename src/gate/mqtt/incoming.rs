//! The packets of an open MQTT connection: PUBLISH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, and the calls among them.
use std::sync::Arc;

use bytes::Bytes;

use super::names::{self, Address, YieldKind};
use super::{MqttGate, State};
use crate::gate::arguments;
use crate::gate::condition;
use crate::gate::dedup;
use crate::gate::report::Ending;
use crate::gate::selection::{self, Asked};
use crate::gate::{Arrived, Output};
use crate::model::arguments::integer_of_text;
use crate::model::command::{
    Acknowledge, Call, Close, InvokePolicy, PublishOptions, RegisterOptions, ReplyTo, RetainHandling, SubscribeEntry,
    SubscribeOptions, UnsubscribeEntry, Yield,
};
use crate::model::names as reserved;
use crate::model::outcome::Outcome;
use crate::model::properties::Properties;
use crate::model::reason::MustBe;
use crate::model::{Command, ErrorUri, Filter, InvocationId, PacketId, Payload, Publication, Qos, Reason, RequestId, Topic};
use crate::wire::mqtt::{
    self as wire, Characters, Disconnect, Error, PacketType, Peer, Publish, PublishProperties, ReasonCode, SharedFilter,
    Subscribe, Unsubscribe, Version,
};
use crate::wire::wamp::reason;

/// Filters that one SUBSCRIBE or UNSUBSCRIBE may name whatever the bound of subscriptions: each costs an answer.
const MAX_FILTERS: usize = 10_000;

impl MqttGate {
    /// A whole PUBLISH.
    pub(super) fn handle_publish(
        &mut self,
        arrived: Arrived<'_>,
        frame: &[u8],
        now_ms: u64,
        output: &mut Output,
    ) -> Result<(), Error> {
        let known = wire::publish_name(frame).and_then(|name| self.topics.find(name));
        let known_name = known.as_ref().map(Topic::as_mqtt);
        let publish = decode_publish(frame, self.version, known_name);
        let publish = publish.as_ref().map_err(|error| *error)?;
        output.received += 1;
        let topic = match self.topics.resolve(publish.topic, known.as_ref(), publish.properties.topic_alias) {
            Ok(topic) => topic,
            Err(reason) => {
                self.end(names::code_of(reason, PacketType::Disconnect), reason, output);
                return Ok(());
            }
        };
        if topic.is_unfit() && !is_removal(publish) {
            return Err(Error::DiscouragedCharacter);
        }
        let acknowledge = acknowledge(publish);
        if publish.check_payload_format().is_err() {
            return self.refuse_publish(acknowledge, Reason::PayloadFormatInvalid, output);
        }
        if topic.level_count() > self.settings.limits.max_topic_levels {
            output.report.refuse("publish", topic.as_mqtt(), Reason::InvalidTopic);
            return self.refuse_publish(acknowledge, Reason::InvalidTopic, output);
        }
        let payload = Payload::Bytes(arrived.keep(publish.payload));
        if names::is_address(topic.as_mqtt()) {
            return self.handle_addressed(publish, &topic, payload, acknowledge, output);
        }
        let mut publication = Publication::new(topic, payload, publish.qos);
        publication.retain = publish.retain;
        publication.expires_at_ms = publish.properties.message_expiry_s.map(|seconds| now_ms + u64::from(seconds) * 1_000);
        publication.properties = properties(&publish.properties);
        let options = match options(publish, publication.properties.as_deref()) {
            Ok(options) => options,
            Err(reason) => return self.refuse_publish(acknowledge, reason, output),
        };
        output.commands.push(Command::Publish { publication: Arc::new(publication), acknowledge, options });
        Ok(())
    }

    /// A PUBLISH to a topic of the router's: a call, an answer, or nothing that a client may publish to.
    fn handle_addressed(
        &mut self,
        publish: &Publish<'_>,
        topic: &Topic,
        payload: Payload,
        acknowledge: Acknowledge,
        output: &mut Output,
    ) -> Result<(), Error> {
        let properties = properties(&publish.properties);
        let command = match names::address(topic.as_mqtt()) {
            Address::Call(name) if self.version != Version::V5 => {
                // The call is made all the same, as is a call of 5.0 without a response topic.
                output.report.refuse("answer", topic.as_mqtt(), Reason::NoReplyAddress);
                call(name, ReplyTo::Nobody, payload, acknowledge, properties)
            }
            Address::Call(name) => response_topic(publish, properties.as_deref())
                .and_then(|reply| call(name, reply, payload, acknowledge, properties)),
            Address::CallById(name, id) => call(name, ReplyTo::CallId(id.into()), payload, acknowledge, properties),
            Address::Yield(invocation, kind) => Ok(answer(invocation, kind, payload, acknowledge, properties)),
            Address::Other => Err(Reason::NotAuthorized),
        };
        match command {
            Ok(command) => output.commands.push(command),
            Err(reason) => {
                output.report.refuse("publish", topic.as_mqtt(), reason);
                return self.refuse_publish(acknowledge, reason, output);
            }
        }
        Ok(())
    }

    /// The realm gives the answer, so that it does not overtake those owed for earlier packets (4.6).
    fn refuse_publish(&self, acknowledge: Acknowledge, reason: Reason, output: &mut Output) -> Result<(), Error> {
        output.commands.push(Command::Refuse { acknowledge, reason });
        Ok(())
    }

    /// More filters in one packet than a session of any configuration needs: not even looked at.
    fn has_too_many(&mut self, filters: usize, output: &mut Output) -> bool {
        let is_over = filters > self.settings.limits.max_subscriptions_per_session.max(MAX_FILTERS);
        if is_over {
            self.end(ReasonCode::QuotaExceeded, Reason::QuotaExceeded, output);
        }
        is_over
    }

    pub(super) fn handle_subscribe(&mut self, subscribe: &Subscribe<'_>, output: &mut Output) {
        if self.has_too_many(subscribe.requests.iter().count(), output) {
            return;
        }
        let identifier = subscribe.properties.subscription_id.map(|id| id.value());
        let asked = selection::of_properties(subscribe.properties.user.iter());
        // [MQTT-3.8.4-5]
        let entry = |request: wire::SubscriptionRequest<'_>| {
            let entry = self.subscribe_entry(request, identifier, &asked);
            if let SubscribeEntry::Refused(reason) = entry {
                output.report.refuse("subscribe", request.filter, reason);
            }
            entry
        };
        let entries = subscribe.requests.iter().map(entry).collect();
        let request = RequestId(u64::from(subscribe.packet_id.get()));
        output.commands.push(Command::Subscribe { request, entries });
    }

    fn subscribe_entry(
        &self,
        request: wire::SubscriptionRequest<'_>,
        identifier: Option<u32>,
        asked: &Result<Asked, Reason>,
    ) -> SubscribeEntry {
        let (share, text) = match SharedFilter::split(request.filter) {
            Ok(Some(shared)) => (Some(shared.name), shared.filter),
            Ok(None) => (None, request.filter),
            Err(_) => return SubscribeEntry::Refused(Reason::InvalidFilter),
        };
        if self.settings.refused_filters.iter().any(|refused| **refused == *text) {
            return SubscribeEntry::Refused(Reason::Refused);
        }
        if text.bytes().filter(|byte| *byte == b'/').count() >= self.settings.limits.max_topic_levels {
            return SubscribeEntry::Refused(Reason::QuotaExceeded);
        }
        let qos = request.options.qos;
        if let Some(callee) = names::callee_filter(text, self.version == Version::V5) {
            let invoke = if share.is_some() { InvokePolicy::RoundRobin } else { InvokePolicy::Single };
            return match callee {
                Ok((filter, form)) => SubscribeEntry::Procedure {
                    filter,
                    options: RegisterOptions { invoke, form, qos, identifier, ..Default::default() },
                },
                Err(reason) => SubscribeEntry::Refused(reason),
            };
        }
        let asked = match asked {
            Ok(asked) => asked,
            Err(reason) => return SubscribeEntry::Refused(*reason),
        };
        let options = SubscribeOptions {
            qos,
            // A bridge would pass on what it brought, and must know what is retained. Shared, the first cannot be [MQTT-3.8.3-4].
            no_local: request.options.no_local || (self.is_bridge && share.is_none()),
            retain_as_published: request.options.retain_as_published || self.is_bridge,
            retain_handling: match request.options.retain_handling {
                wire::RetainHandling::AtSubscribe => RetainHandling::Always,
                wire::RetainHandling::IfNew => RetainHandling::IfNew,
                wire::RetainHandling::Never => RetainHandling::Never,
            },
            identifier,
            retained_only: asked.retained_only,
        };
        match (Filter::from_mqtt(text), asked.selection.clone(), share) {
            (Err(reason), ..) => SubscribeEntry::Refused(reason),
            (Ok(filter), None, share) => SubscribeEntry::Topic { filter, share: share.map(Into::into), options },
            (Ok(filter), Some(selection), None) => SubscribeEntry::Selected { filter, options, selection: Box::new(selection) },
            (Ok(_), Some(_), Some(_)) => SubscribeEntry::Refused(Reason::SharedSubscriptionInvalid),
        }
    }

    pub(super) fn handle_unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>, output: &mut Output) {
        if self.has_too_many(unsubscribe.filters.iter().count(), output) {
            return;
        }
        let is_v5 = self.version == Version::V5;
        // [MQTT-3.10.4-6]
        let entries = unsubscribe.filters.iter().map(|filter| unsubscribe_entry(filter, is_v5)).collect();
        let request = RequestId(u64::from(unsubscribe.packet_id.get()));
        output.commands.push(Command::Unsubscribe { request, entries });
    }

    pub(super) fn handle_disconnect(&mut self, disconnect: &Disconnect<'_>, output: &mut Output) -> Result<(), Error> {
        let expiry_s = disconnect.properties.session_expiry_s;
        if self.expiry_s == 0 && expiry_s.is_some_and(|seconds| seconds > 0) {
            // 3.14.2.2.2
            self.end(ReasonCode::ProtocolError, Reason::ProtocolViolation, output);
            return Ok(());
        }
        // [MQTT-3.14.4-3]: only reason code 0x00 takes the will back; 3.1.1: [MQTT-3.14.4-3], where it has no other.
        let with_will = disconnect.reason != ReasonCode::NORMAL_DISCONNECTION;
        output.commands.push(Command::Close(Close { expiry_s, with_will }));
        self.state = State::Closed; // [MQTT-3.14.4-1]
        output.report.end(if with_will { Ending::Lost("said goodbye, with its will".into()) } else { Ending::Goodbye });
        output.close = true;
        Ok(())
    }
}

/// A PUBLISH without discouraged characters; or one that has them in its topic name alone, and only removes what is retained there. Such
/// a value is from before these names were refused.
fn decode_publish<'a>(frame: &'a [u8], version: Version, known: Option<&'a str>) -> Result<Publish<'a>, Error> {
    let publish = wire::decode_publish(frame, version, Peer::Client, Characters::Strict, known);
    let Err(Error::DiscouragedCharacter) = publish else { return publish };
    let lenient = wire::decode_publish(frame, version, Peer::Client, Characters::Any, known)?;
    if is_removal(&lenient) { Ok(lenient) } else { publish }
}

/// True for a PUBLISH that removes the retained value of its topic and says nothing else.
fn is_removal(publish: &Publish<'_>) -> bool {
    publish.retain && publish.payload.is_empty() && publish.properties == PublishProperties::default()
}

/// The answer that the QoS asks for [MQTT-3.3.4-1].
fn acknowledge(publish: &Publish<'_>) -> Acknowledge {
    match (publish.qos, publish.packet_id) {
        (Qos::AtLeastOnce, Some(id)) => Acknowledge::AtLeastOnce(PacketId(id)),
        (Qos::ExactlyOnce, Some(id)) if publish.dup => Acknowledge::ExactlyOnceAgain(PacketId(id)),
        (Qos::ExactlyOnce, Some(id)) => Acknowledge::ExactlyOnce(PacketId(id)),
        _ => Acknowledge::None,
    }
}

/// Properties that travel unaltered ([MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-20]); `None`
/// for the many messages without any.
fn properties(properties: &PublishProperties<'_>) -> Option<Box<Properties>> {
    let is_plain = properties.user.is_empty()
        && properties.payload_format.is_none()
        && properties.response_topic.is_none()
        && properties.correlation_data.is_none()
        && properties.content_type.is_none();
    if is_plain {
        return None;
    }
    Some(Box::new(Properties {
        content_type: properties.content_type.map(Into::into),
        payload_format: properties.payload_format,
        response_topic: properties.response_topic.map(Into::into),
        correlation_data: properties.correlation_data.map(Bytes::copy_from_slice),
        user: names::user_properties(&properties.user),
        passthru: None,
        outcome: None,
    }))
}

/// The options that its user properties ask for.
fn options(publish: &Publish<'_>, properties: Option<&Properties>) -> Result<Option<Box<PublishOptions>>, Reason> {
    let Some(properties) = properties.filter(|properties| !properties.user.is_empty()) else { return Ok(None) };
    let condition = condition::of_properties(properties, publish.dup, || response_topic(publish, Some(properties)))?;
    let dedup = dedup::of_properties(properties, publish.qos)?;
    if condition.is_none() && dedup.is_none() {
        return Ok(None);
    }
    Ok(Some(Box::new(PublishOptions { exclude_me: false, condition, dedup, ..PublishOptions::default() })))
}

fn response_topic(publish: &Publish<'_>, properties: Option<&Properties>) -> Result<ReplyTo, Reason> {
    let Some(name) = publish.properties.response_topic else { return Ok(ReplyTo::Nobody) };
    let topic = Topic::from_mqtt(name)?;
    // Under `$reply/` it reaches the caller alone; any other topic of the router's is not the caller's to publish to.
    if let Some(root) = topic.root().filter(|_| !name.starts_with(reserved::REPLY)) {
        return Err(Reason::ReservedName(root));
    }
    Ok(ReplyTo::Topic { topic, correlation_data: properties.and_then(|p| p.correlation_data.clone()) })
}

fn call(
    name: &str,
    reply: ReplyTo,
    payload: Payload,
    acknowledge: Acknowledge,
    properties: Option<Box<Properties>>,
) -> Result<Command, Reason> {
    let option = |name| properties.as_deref().and_then(|properties| user_property(properties, name));
    let timeout_ms = match option(reserved::TIMEOUT_MS) {
        Some(text) => integer_of_text(text).ok_or(Reason::WrongValue(reserved::TIMEOUT_MS, MustBe::WholeNumber))?,
        None => 0,
    };
    let receive_progress = option(reserved::RECEIVE_PROGRESS).is_some_and(is_true);
    let disclose_me = option(reserved::DISCLOSE_ME).is_some_and(is_true);
    let procedure = Topic::from_mqtt(name)?;
    let (arguments, payload) = arguments::take(&procedure, payload, properties.as_deref());
    Ok(Command::Call(Box::new(Call {
        reply,
        acknowledge,
        procedure,
        payload,
        timeout_ms,
        receive_progress,
        disclose_me,
        properties,
        arguments,
    })))
}

fn answer(
    invocation: InvocationId,
    kind: Option<YieldKind>,
    payload: Payload,
    acknowledge: Acknowledge,
    properties: Option<Box<Properties>>,
) -> Command {
    let option = |name| properties.as_deref().and_then(|properties| user_property(properties, name));
    let outcome = match (kind, option(reserved::STATUS)) {
        (Some(YieldKind::Progress), _) | (None, Some("progress")) => Outcome::Progress,
        (Some(YieldKind::Error), _) | (None, Some("error")) => {
            let uri = option(reserved::ERROR).map_or(reason::RUNTIME_ERROR, reason::checked_uri);
            Outcome::Error(ErrorUri::Custom(uri.into()))
        }
        _ => Outcome::Result,
    };
    Command::Yield(Box::new(Yield { acknowledge, invocation, outcome, payload, properties }))
}

fn user_property<'a>(properties: &'a Properties, name: &str) -> Option<&'a str> {
    properties.user.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
}

fn is_true(text: &str) -> bool {
    text == "true" || text == "1"
}

fn unsubscribe_entry(filter: &str, is_v5: bool) -> UnsubscribeEntry {
    let (share, text) = match SharedFilter::split(filter) {
        Ok(Some(shared)) => (Some(shared.name), shared.filter),
        Ok(None) => (None, filter),
        Err(_) => return UnsubscribeEntry::Refused(Reason::InvalidFilter),
    };
    if let Some(callee) = names::callee_filter(text, is_v5) {
        return match callee {
            Ok((filter, form)) => UnsubscribeEntry::Procedure { filter, form },
            Err(reason) => UnsubscribeEntry::Refused(reason),
        };
    }
    match Filter::from_mqtt(text) {
        Ok(filter) => UnsubscribeEntry::Topic { filter, share: share.map(Into::into) },
        Err(reason) => UnsubscribeEntry::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::mqtt::tests::{CONNECT_V4, CONNECT_V5, opened};

    #[test]
    fn under_an_unfit_name_a_value_can_be_removed_and_nothing_else_done() {
        let removal = (&b"\x31\x05\0\x03a\x01b"[..], &b"\x31\x06\0\x03a\x01b\0"[..]);
        let value = (&b"\x31\x06\0\x03a\x01bx"[..], &b"\x31\x07\0\x03a\x01b\0x"[..]);
        let event = (&b"\x30\x05\0\x03a\x01b"[..], &b"\x30\x06\0\x03a\x01b\0"[..]);
        let described = &b"\x31\x0D\0\x03a\x01b\x07\x26\0\x01k\0\x01v"[..];
        for (connect, removal, others) in
            [(CONNECT_V4, removal.0, vec![value.0, event.0]), (CONNECT_V5, removal.1, vec![value.1, event.1, described])]
        {
            for other in others {
                for is_known in [false, true] {
                    let (mut gate, mut output) = (opened(connect), Output::default());
                    if is_known {
                        gate.handle_bytes(removal, 0, &mut output);
                        assert!(matches!(&output.commands[..], [Command::Publish { .. }]) && !output.close, "{output:?}");
                    }
                    gate.handle_bytes(other, 0, &mut output);
                    assert!(
                        output.close && matches!(output.commands.last(), Some(Command::Lost(Reason::Malformed))),
                        "{output:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_call_without_an_address_for_its_answer_is_made_and_noted() {
        let (v4, v5) = (&b"\x30\x0E\0\x0A$call/demoxx"[..], &b"\x30\x0F\0\x0A$call/demo\0xx"[..]);
        for (connect, publish, is_noted) in [(CONNECT_V4, v4, true), (CONNECT_V5, v5, false)] {
            let (mut gate, mut output) = (opened(connect), Output::default());
            assert_eq!(gate.handle_bytes(publish, 0, &mut output).bytes, publish.len());
            let [Command::Call(call)] = &output.commands[..] else { panic!("{output:?}") };
            assert_eq!((call.procedure.as_mqtt(), &call.reply), ("demo", &ReplyTo::Nobody));
            let noted =
                output.report.notes.iter().any(|note| note.reason == Reason::NoReplyAddress && &*note.name == "$call/demo");
            assert_eq!(noted, is_noted);
        }
    }
}
