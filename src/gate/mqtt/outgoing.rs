//! The packets that an MQTT client is sent: events, acknowledgements and ends, within the limits that it announced.
use std::num::NonZeroU16;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{MqttGate, State, names};
use crate::gate::{Output, arguments, fit};
use crate::model::command::{Acknowledge, AcknowledgeStep, Acknowledgement, Yield};
use crate::model::delivery::{Event, Granted, Taken};
use crate::model::names as reserved;
use crate::model::outcome::Outcome;
use crate::model::payload::Body;
use crate::model::properties::Properties;
use crate::model::{
    Command, Delivery, Encoding, ErrorUri, EventId, InvocationId, PacketId, Payload, Publication, Qos, Reason, RequestId,
};
use crate::wire::mqtt::{
    self as wire, Ack, AckProperties, Packet, PacketType, Publish, PublishProperties, ReasonCode, SubAck, SubscriptionId,
    SubscriptionIds, UnsubAck, UserProperties, Version,
};
use crate::wire::payload;
use crate::wire::wamp::reason;

type Pairs<'a> = SmallVec<[(&'a str, &'a str); 4]>;

impl MqttGate {
    /// One delivery of the realm.
    pub fn handle_delivery(&mut self, delivery: Delivery, now_ms: u64, output: &mut Output) {
        // One delivery is one packet, but for the rare one that does not fit its receiver.
        output.sent += 1;
        match (self.state, delivery) {
            (State::Closed, _) => {}
            (_, Delivery::Opened { session_present, .. }) => self.handle_opened(session_present, now_ms, output),
            (_, Delivery::Refused(reason)) => self.refuse_open(reason, output),
            (_, Delivery::Missed(count)) => self.handle_dropped(count),
            (_, Delivery::Event(event)) => self.send_event(&event, now_ms, output),
            (_, Delivery::Acknowledged(id, taken)) => self.send_taken(PacketType::PubAck, id, taken, output),
            (_, Delivery::Received(id, taken)) => self.send_taken(PacketType::PubRec, id, taken, output),
            (_, Delivery::Release(id, known)) => self.send_step(PacketType::PubRel, id, known, output),
            (_, Delivery::Completed(id, known)) => self.send_step(PacketType::PubComp, id, known, output),
            (_, Delivery::Subscribed(request, results)) => self.send_suback(request, &results, output),
            (_, Delivery::Unsubscribed(request, results)) => self.send_unsuback(request, &results, output),
            // [MQTT-3.12.4-1]
            (_, Delivery::Pong) => drop(Packet::PingResp.encode(self.version, &mut output.bytes)),
            (_, Delivery::Close(reason)) => self.disconnect(names::code_of(reason, PacketType::Disconnect), reason, output),
            // The rest is said to WAMP clients only.
            _ => {}
        }
    }

    fn send_event(&mut self, event: &Event, now_ms: u64, output: &mut Output) {
        let publication = &*event.publication;
        // The event has waited too long for its receiver to read [MQTT-3.3.2-5]; one that may have been sent before is sent
        // again.
        if publication.is_expired(now_ms) && !event.duplicate {
            return skip(event, output);
        }
        if publication.topic.is_unfit() {
            output.withhold(&publication.topic);
            return skip(event, output);
        }
        let outcome = publication.properties.as_ref().and_then(|properties| properties.outcome.as_ref());
        let (payload, body) = match (&publication.payload, outcome) {
            (payload, Some(Outcome::Error(error))) if self.version != Version::V5 => {
                let body = publication.conversions.body(|| error_body(error, payload, publication.properties.as_deref()));
                (&body.bytes, Some(body))
            }
            (Payload::Bytes(bytes), _) => (bytes, None),
            (Payload::Args { .. } | Payload::List(_), _) => {
                let body =
                    publication.conversions.body(|| payload::to_bytes(&publication.payload, publication.properties.as_deref()));
                (&body.bytes, Some(body))
            }
        };
        let publish = Publish {
            dup: event.duplicate, // [MQTT-3.3.1-3]
            qos: event.qos,
            retain: event.retain,
            topic: publication.topic.as_mqtt(),
            packet_id: event.packet_id.map(|id| id.0),
            properties: PublishProperties::default(),
            payload,
        };
        if self.version == Version::V5 && !self.is_plain(event, body) {
            return self.send_described(event, publish, (payload, body), now_ms, output);
        }
        // [MQTT-3.1.2-24]
        match publish.encode_head_within(self.version, payload.len(), self.max_packet_bytes, &mut output.bytes) {
            Ok(_) => output.put_payload(payload),
            Err(_) => self.send_less(event, now_ms, output),
        }
    }

    /// True for the many events that no property has to go with.
    fn is_plain(&self, event: &Event, body: Option<&Body>) -> bool {
        let publication = &event.publication;
        let is_bare = publication.properties.is_none() && publication.expires_at_ms.is_none() && body.is_none();
        is_bare && event.subscriptions.is_empty() && self.dropped == 0 && self.aliases.are_off()
    }

    /// An event with its properties.
    fn send_described(
        &mut self,
        event: &Event,
        publish: Publish<'_>,
        (payload, body): (&Bytes, Option<&Body>),
        now_ms: u64,
        output: &mut Output,
    ) {
        let publication = &*event.publication;
        let mut fitted = None;
        let described = match publication.properties.as_deref() {
            // They are from before such were left out where they came in.
            Some(properties) if !fit::is_fit(properties) => {
                let fitted = fitted.insert(properties.clone());
                output.left_out += fit::leave_out(fitted);
                Some(&*fitted)
            }
            described => described,
        };
        let alias = self.aliases.assign(&publication.topic);
        let ids: SmallVec<[SubscriptionId; 2]> = event.subscriptions.iter().filter_map(|id| subscription_id(*id)).collect();
        let dropped = std::mem::take(&mut self.dropped);
        let dropped_text = if dropped > 0 { dropped.to_string() } else { String::new() };
        let mut pairs = pairs(described);
        if dropped > 0 {
            pairs.push(("dropped", &dropped_text));
        }
        let properties = PublishProperties {
            message_expiry_s: publication.remaining_s(now_ms), // [MQTT-3.3.2-6]
            topic_alias: alias.map(|(alias, _)| alias),
            user: UserProperties::from_pairs(&pairs),
            subscription_ids: SubscriptionIds::from_slice(&ids), // [MQTT-3.3.4-4]
            ..content(described, body)
        };
        let topic = if alias.is_some_and(|(_, is_known)| is_known) { "" } else { publish.topic };
        let publish = Publish { topic, properties, ..publish };
        // [MQTT-3.1.2-24]
        match publish.encode_head_within(Version::V5, payload.len(), self.max_packet_bytes, &mut output.bytes) {
            Ok(_) => output.put_payload(payload),
            Err(_) => {
                self.aliases.forget(&publication.topic);
                self.dropped = dropped;
                self.send_less(event, now_ms, output);
            }
        }
    }

    /// An event that does not fit its receiver is passed over [MQTT-3.1.2-25], unless somebody waits for it.
    fn send_less(&mut self, event: &Event, now_ms: u64, output: &mut Output) {
        let topic = event.publication.topic.as_mqtt();
        if let Some(invocation) = invocation_of(&event.publication) {
            decline(invocation, output);
        } else if !topic.starts_with(reserved::CANCEL)
            && let Some(outcome) = event.publication.properties.as_ref().and_then(|properties| properties.outcome.as_ref())
        {
            output.commands.extend(arguments::items(&event.publication.payload).into_iter().filter_map(arguments::give_back));
            return self.send_answer_error(event, outcome, now_ms, output);
        } else {
            output.too_large += 1;
        }
        skip(event, output);
    }

    /// In place of an answer that is too large: an error, with as much of it as fits. A caller who cannot be told even that cannot be
    /// served.
    fn send_answer_error(&mut self, event: &Event, outcome: &Outcome, now_ms: u64, output: &mut Output) {
        let publication = &*event.publication;
        let too_large = reason::error_uri(Reason::MessageTooLarge);
        let (uri, sentence) = match outcome {
            Outcome::Error(error) => (reason::uri_of(error), LARGER_ERROR),
            Outcome::Result | Outcome::Progress => (too_large, LARGER_RESULT),
        };
        let body = payload::to_bytes(&Payload::of_text(sentence), None);
        let ids: SmallVec<[SubscriptionId; 2]> = event.subscriptions.iter().filter_map(|id| subscription_id(*id)).collect();
        let correlation_data = publication.properties.as_ref().and_then(|properties| properties.correlation_data.as_deref());
        let pairs = |uri| [(reserved::STATUS, "error"), (reserved::ERROR, uri)];
        let (named, nameless) = (pairs(uri), pairs(too_large));
        for (pairs, payload) in
            [(&named[..], &body.bytes[..]), (&named, b""), (&nameless, b""), (nameless.get(..1).unwrap_or_default(), b"")]
        {
            let properties = PublishProperties {
                payload_format: (!payload.is_empty()).then_some(true),
                message_expiry_s: publication.remaining_s(now_ms),
                correlation_data,
                user: UserProperties::from_pairs(pairs),
                subscription_ids: SubscriptionIds::from_slice(&ids),
                ..PublishProperties::default()
            };
            let publish = Publish {
                dup: event.duplicate,
                qos: event.qos,
                retain: false,
                topic: publication.topic.as_mqtt(),
                packet_id: event.packet_id.map(|id| id.0),
                properties,
                payload,
            };
            if publish.encode_head_within(Version::V5, payload.len(), self.max_packet_bytes, &mut output.bytes).is_ok() {
                return output.bytes.extend_from_slice(payload);
            }
        }
        skip(event, output);
        self.end(ReasonCode::PacketTooLarge, Reason::MessageTooLarge, output);
    }

    /// PUBACK [MQTT-4.3.2-4] or PUBREC [MQTT-4.3.3-8], with the id of the PUBLISH [MQTT-2.2.1-5]. Before 5.0 the only ways to
    /// refuse are to close (quota) or to drop (rules); 3.1.1: [MQTT-4.8.0-2], [MQTT-3.3.5-2].
    fn send_taken(&mut self, packet: PacketType, id: PacketId, taken: Result<Taken, Reason>, output: &mut Output) {
        let code = match taken {
            Ok(Taken { token: Some(token), .. }) if self.version == Version::V5 => {
                return self.send_token(packet, id, token, output);
            }
            Ok(Taken { has_receivers: true, .. }) => ReasonCode::Success,
            Ok(Taken { has_receivers: false, .. }) => ReasonCode::NoMatchingSubscribers,
            Err(reason) if reason.is_want_of_room() && self.version != Version::V5 => {
                return self.end(ReasonCode::QuotaExceeded, reason, output);
            }
            Err(reason) => names::code_of(reason, packet),
        };
        self.send_ack(packet, id.0, code, taken.err(), output);
    }

    /// The acknowledgement of a publication under a condition carries the token of the grant (MAPPING.md, Retained state). Where
    /// the client's packets have no room for that, the acknowledgement goes alone.
    fn send_token(&self, packet: PacketType, id: PacketId, token: EventId, output: &mut Output) {
        let text = token.to_string();
        let pairs = [(reserved::TOKEN, text.as_str())];
        let properties = AckProperties { user: UserProperties::from_pairs(&pairs), ..AckProperties::default() };
        let ack = Ack { packet_id: id.0, reason: ReasonCode::Success, properties };
        let said = if packet == PacketType::PubAck { Packet::PubAck(ack) } else { Packet::PubRec(ack) };
        if said.encode_within(self.version, self.max_packet_bytes, &mut output.bytes).is_err() {
            self.send_ack(packet, id.0, ReasonCode::Success, None, output);
        }
    }

    fn send_step(&mut self, packet: PacketType, id: PacketId, known: Result<(), Reason>, output: &mut Output) {
        let code = known.err().map_or(ReasonCode::Success, |reason| names::code_of(reason, packet));
        self.send_ack(packet, id.0, code, None, output);
    }

    fn send_ack(&self, packet: PacketType, id: NonZeroU16, code: ReasonCode, why: Option<Reason>, output: &mut Output) {
        // Words that only repeat the code are left out: eclipse paho's own suite cannot read them in a PUBACK.
        let why = why.filter(|reason| *reason != Reason::NotAuthorized);
        if let Some(reason) = why.filter(|_| self.version == Version::V5 && self.wants_problem_information) {
            let text = reason.to_string();
            let properties = AckProperties { reason_string: Some(&text), ..AckProperties::default() };
            let ack = Ack { packet_id: id, reason: code, properties };
            let packet = if packet == PacketType::PubAck { Packet::PubAck(ack) } else { Packet::PubRec(ack) };
            packet.encode_within(self.version, self.max_packet_bytes, &mut output.bytes).ok();
            return;
        }
        wire::encode_ack(packet, id, code, self.version, &mut output.bytes).ok();
    }

    /// SUBACK [MQTT-3.8.4-1]: a code for each filter [MQTT-3.8.4-6] in their order [MQTT-3.9.3-1].
    fn send_suback(&mut self, request: RequestId, results: &[Result<Granted, Reason>], output: &mut Output) {
        let Some(packet_id) = packet_id(request) else { return }; // [MQTT-3.8.4-2]
        let codes: Vec<u8> = results
            .iter()
            .map(|result| match result {
                Ok(Granted::Subscription(_, qos) | Granted::Registration(_, qos)) => qos.bits(), // [MQTT-3.8.4-7]
                Err(_) if self.version != Version::V5 => 0x80,
                Err(reason) => names::code_of(*reason, PacketType::SubAck).byte(), // [MQTT-3.9.3-2]
            })
            .collect();
        let why = results.iter().find_map(|result| result.err()).map(|reason| reason.to_string());
        let properties = self.problem(why.as_deref());
        self.send_answer(&Packet::SubAck(SubAck { packet_id, properties, codes: &codes }), output);
    }

    /// UNSUBACK [MQTT-3.10.4-4]: a code for each filter in their order [MQTT-3.11.3-1].
    fn send_unsuback(&mut self, request: RequestId, results: &[Result<(), Reason>], output: &mut Output) {
        let Some(packet_id) = packet_id(request) else { return }; // [MQTT-3.10.4-5], [MQTT-2.2.1-6]
        let refusal = |reason| names::code_of(reason, PacketType::UnsubAck);
        let code = |result: &Result<(), Reason>| result.err().map_or(ReasonCode::Success, refusal).byte();
        let codes: Vec<u8> = results.iter().map(code).collect();
        let properties = AckProperties::default();
        self.send_answer(&Packet::UnsubAck(UnsubAck { packet_id, properties, codes: &codes }), output);
    }

    /// An answer that the client has a right to; one that has no room for it [MQTT-3.1.2-24] cannot be served.
    fn send_answer(&mut self, answer: &Packet<'_>, output: &mut Output) {
        if answer.encode_within(self.version, self.max_packet_bytes, &mut output.bytes).is_err() {
            self.end(ReasonCode::PacketTooLarge, Reason::MessageTooLarge, output);
        }
    }

    fn problem<'a>(&self, why: Option<&'a str>) -> AckProperties<'a> {
        AckProperties { reason_string: why.filter(|_| self.wants_problem_information), ..AckProperties::default() }
    }
}

/// Said to a caller of a result that it cannot take.
const LARGER_RESULT: &str = "the result is larger than this client's Maximum Packet Size";

/// Said to a caller of an error that it cannot take whole.
const LARGER_ERROR: &str = "the payload of this error is larger than this client's Maximum Packet Size";

/// The invocation that a publication of the router's puts to this client.
fn invocation_of(publication: &Publication) -> Option<InvocationId> {
    let topic = publication.topic.as_mqtt();
    if !topic.starts_with(reserved::CALLEE) {
        return None;
    }
    let response_topic = publication.properties.as_ref().and_then(|properties| properties.response_topic.as_deref());
    let number = match response_topic.and_then(|topic| topic.strip_prefix(reserved::YIELD)) {
        Some(number) => number,
        None => topic.rsplit_once("/$id/")?.1,
    };
    number.parse().ok().map(InvocationId)
}

/// An invocation that this client cannot take is answered in its place.
fn decline(invocation: InvocationId, output: &mut Output) {
    let outcome = Outcome::Error(ErrorUri::Reason(Reason::MessageTooLarge));
    let (acknowledge, payload, properties) = (Acknowledge::None, Payload::empty(), None);
    output.commands.push(Command::Yield(Box::new(Yield { acknowledge, invocation, outcome, payload, properties })));
}

/// A packet too large for its receiver counts as delivered [MQTT-3.1.2-25], and so does one that has expired on its way.
fn skip(event: &Event, output: &mut Output) {
    let Some(packet_id) = event.packet_id else { return };
    let step = match event.qos {
        Qos::ExactlyOnce => AcknowledgeStep::Rejected,
        // An item of a queue that this client cannot be sent is for another one.
        _ if event.publication.topic.as_mqtt().starts_with(reserved::QUEUE) => AcknowledgeStep::Declined,
        _ => AcknowledgeStep::Acknowledged,
    };
    output.commands.push(Command::Acknowledge(vec![Acknowledgement { packet_id, step }]));
}

fn subscription_id(id: u64) -> Option<SubscriptionId> {
    u32::try_from(id).ok().and_then(SubscriptionId::new)
}

fn packet_id(request: RequestId) -> Option<NonZeroU16> {
    u16::try_from(request.0).ok().and_then(NonZeroU16::new)
}

/// User properties as they were published; an answer says what it is in ours, whatever its callee said there.
fn pairs(properties: Option<&Properties>) -> Pairs<'_> {
    let Some(properties) = properties else { return Pairs::new() };
    let user = properties.user.iter().map(|(name, value)| (&**name, &**value));
    let Some(outcome) = &properties.outcome else { return user.collect() };
    let mut pairs: Pairs<'_> = user.filter(|(name, _)| *name != reserved::STATUS && *name != reserved::ERROR).collect();
    match outcome {
        Outcome::Progress => pairs.push((reserved::STATUS, "progress")),
        Outcome::Result => pairs.push((reserved::STATUS, "result")),
        Outcome::Error(error) => pairs.extend([(reserved::STATUS, "error"), (reserved::ERROR, reason::uri_of(error))]),
    }
    pairs
}

/// An error for a client that has no properties to find its URI in: `{"error":uri,"args":[…],"kwargs":{…}}`.
fn error_body(error: &ErrorUri, payload: &Payload, properties: Option<&Properties>) -> Body {
    let mut json = Vec::from(&b"{\"error\":"[..]);
    // A string always has a JSON form.
    serde_json::to_writer(&mut json, reason::uri_of(error)).ok();
    if let Payload::Args { args, kwargs, .. } = payload::to_args(payload, properties, Encoding::Json) {
        for (name, part) in [(&b",\"args\":"[..], args), (&b",\"kwargs\":"[..], kwargs)] {
            if !part.is_empty() {
                json.extend_from_slice(name);
                json.extend_from_slice(&part);
            }
        }
    }
    json.push(b'}');
    Body { bytes: json.into(), content_type: Some(payload::JSON_TYPE), is_utf8: true }
}

/// Content type and payload format as published, or as the conversion made them.
fn content<'a>(properties: Option<&'a Properties>, body: Option<&Body>) -> PublishProperties<'a> {
    let mut content = PublishProperties::default();
    if let Some(properties) = properties {
        content.content_type = properties.content_type.as_deref();
        content.payload_format = properties.payload_format;
        content.response_topic = properties.response_topic.as_deref();
        content.correlation_data = properties.correlation_data.as_deref();
    }
    if let Some(body) = body {
        content.content_type = content.content_type.or(body.content_type);
        content.payload_format = content.payload_format.or(body.is_utf8.then_some(true));
    }
    content
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gate::mqtt::tests::{CONNECT_V4, CONNECT_V5, opened};
    use crate::model::Topic;

    /// A message that lives for a second.
    fn event(qos: Qos, duplicate: bool) -> Event {
        let topic = Topic::from_mqtt("t").unwrap();
        let publication = Publication::new(topic, Payload::Bytes("x".into()), qos);
        let publication = Arc::new(Publication { expires_at_ms: Some(1_000), ..publication });
        let packet_id = (qos != Qos::AtMostOnce).then(|| PacketId::new(7).unwrap());
        Event { publication, qos, retain: false, duplicate, by_pattern: false, packet_id, subscriptions: SmallVec::new() }
    }

    #[test]
    fn an_answer_that_does_not_fit_is_an_error_in_its_place() {
        let answer = |outcome: Outcome, qos| {
            let properties = Properties { correlation_data: Some("c".into()), outcome: Some(outcome), ..Properties::default() };
            let publication =
                Publication::new(Topic::from_mqtt("$reply/a").unwrap(), Payload::Bytes(vec![b'y'; 500].into()), qos);
            let publication = Publication { properties: Some(Box::new(properties)), ..publication };
            Event { publication: Arc::new(publication), ..event(qos, false) }
        };
        let long = Outcome::Error(ErrorUri::Custom("e".repeat(300).into()));
        for (outcome, max_bytes, is_sent, says) in [
            (Outcome::Result, 200, true, "corsac.error.message_too_large"),
            (Outcome::Progress, 200, true, "corsac.error.message_too_large"),
            (Outcome::Error(ErrorUri::Custom("my.error".into())), 200, true, "my.error"),
            (long, 200, true, "corsac.error.message_too_large"),
            (Outcome::Result, 100, true, "corsac.error.message_too_large"),
            (Outcome::Result, 50, true, "corsac-status"),
            (Outcome::Result, 30, false, "\u{95}"),
        ] {
            for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
                let (mut gate, mut output) = (opened(CONNECT_V5), Output::default());
                gate.max_packet_bytes = max_bytes;
                gate.handle_delivery(Delivery::Event(answer(outcome.clone(), qos)), 0, &mut output);
                let text: String = output.bytes.iter().map(|byte| char::from(*byte)).collect();
                assert!(text.contains(says) && output.bytes.len() <= max_bytes as usize, "{outcome:?} {max_bytes}: {text:?}");
                assert_eq!((output.close, text.contains("$reply/a")), (!is_sent, is_sent), "{outcome:?} {max_bytes}: {text:?}");
                // An answer that was sent waits for its acknowledgement; one that never can be does not.
                let commands = if is_sent { 0 } else { 1 + usize::from(qos != Qos::AtMostOnce) };
                assert_eq!(output.commands.len(), commands, "{output:?}");
            }
        }
    }

    #[test]
    fn an_invocation_that_does_not_fit_is_declined() {
        for (topic, response_topic) in [("$callee/a/b", Some("$yield/7")), ("$callee/a/b/$id/7", None)] {
            let properties = Properties { response_topic: response_topic.map(Into::into), ..Properties::default() };
            let payload = Payload::Bytes(vec![b'y'; 500].into());
            let publication = Publication::new(Topic::from_mqtt(topic).unwrap(), payload, Qos::AtMostOnce);
            let publication = Arc::new(Publication { properties: Some(Box::new(properties)), ..publication });
            let (mut gate, mut output) = (opened(CONNECT_V5), Output::default());
            gate.max_packet_bytes = 100;
            gate.handle_delivery(Delivery::Event(Event { publication, ..event(Qos::AtMostOnce, false) }), 0, &mut output);
            let [Command::Yield(answer)] = &output.commands[..] else { panic!("{output:?}") };
            assert_eq!(answer.invocation, InvocationId(7));
            assert_eq!(answer.outcome, Outcome::Error(ErrorUri::Reason(Reason::MessageTooLarge)));
            assert!(output.bytes.is_empty() && !output.close, "{output:?}");
        }
    }

    #[test]
    fn a_name_that_no_mqtt_client_can_be_sent_is_withheld() {
        for connect in [CONNECT_V4, CONNECT_V5] {
            for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
                let topic = Topic::from_mqtt("a\u{1}b").unwrap();
                let publication = Arc::new(Publication::new(topic.clone(), Payload::Bytes("x".into()), qos));
                let (mut gate, mut output) = (opened(connect), Output::default());
                gate.handle_delivery(Delivery::Event(Event { publication, ..event(qos, true) }), 0, &mut output);
                assert!(output.bytes.is_empty() && !output.close, "{output:?}");
                assert_eq!(output.withheld, [topic]);
                assert_eq!(output.commands.len(), usize::from(qos != Qos::AtMostOnce), "{qos:?}");
            }
        }
        // Where the name is fit, only what is unfit of the properties is left out.
        let user = vec![("k".into(), "two\nlines".into()), ("k".into(), "v".into())];
        let properties = Properties { content_type: Some("\u{7F}".into()), user, ..Properties::default() };
        let sent = event(Qos::AtMostOnce, true);
        let publication = Publication::new(sent.publication.topic.clone(), Payload::Bytes("x".into()), Qos::AtMostOnce);
        let publication = Arc::new(Publication { properties: Some(Box::new(properties)), ..publication });
        let (mut gate, mut output) = (opened(CONNECT_V5), Output::default());
        gate.handle_delivery(Delivery::Event(Event { publication, ..sent }), 0, &mut output);
        assert_eq!((&output.bytes[..], output.left_out), (&b"\x30\x0C\0\x01t\x07\x26\0\x01k\0\x01vx"[..], 2));
    }

    #[test]
    fn what_expires_before_it_is_sent_is_not_sent() {
        // [MQTT-3.3.2-5]
        for connect in [CONNECT_V4, CONNECT_V5] {
            for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
                for (now_ms, duplicate, is_sent) in [(999, false, true), (1_000, false, false), (1_000, true, true)] {
                    let (mut gate, mut output) = (opened(connect), Output::default());
                    gate.handle_delivery(Delivery::Event(event(qos, duplicate)), now_ms, &mut output);
                    assert_eq!(!output.bytes.is_empty(), is_sent, "{qos:?} at {now_ms}");
                    // Its place in the window is free again.
                    let is_freed = matches!(output.commands[..], [Command::Acknowledge(_)]);
                    assert_eq!(is_freed, !is_sent && qos != Qos::AtMostOnce, "{qos:?} at {now_ms}: {output:?}");
                }
            }
        }
    }
}
