//! What an MQTT client is sent: events, acknowledgements and ends, within what it said it can take.
use std::num::NonZeroU16;

use smallvec::SmallVec;

use super::{MqttGate, State, names};
use crate::gate::Output;
use crate::model::command::{AcknowledgeStep, Acknowledgement, Outcome};
use crate::model::delivery::{Event, Granted, Taken};
use crate::model::payload::Body;
use crate::model::publication::Properties;
use crate::model::{Command, Delivery, Encoding, ErrorUri, PacketId, Payload, Publication, Qos, Reason, RequestId};
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
            (_, Delivery::Event(event)) => self.send_event(&event, now_ms, output),
            (_, Delivery::Acknowledged(id, taken)) => self.send_taken(PacketType::PubAck, id, taken, output),
            (_, Delivery::Received(id, taken)) => self.send_taken(PacketType::PubRec, id, taken, output),
            (_, Delivery::Release(id, known)) => self.send_step(PacketType::PubRel, id, known, output),
            (_, Delivery::Completed(id, known)) => self.send_step(PacketType::PubComp, id, known, output),
            (_, Delivery::Subscribed(request, results)) => self.send_suback(request, &results, output),
            (_, Delivery::Unsubscribed(request, results)) => self.send_unsuback(request, &results, output),
            (_, Delivery::Close(reason)) => self.disconnect(names::code_of(reason, PacketType::Disconnect), output),
            // The rest is said to WAMP clients only.
            _ => {}
        }
    }

    fn send_event(&mut self, event: &Event, now_ms: u64, output: &mut Output) {
        let publication = &*event.publication;
        let outcome = publication.properties.as_ref().and_then(|properties| properties.outcome.as_ref());
        let (payload, body) = match (&publication.payload, outcome) {
            (payload, Some(Outcome::Error(error))) if self.version != Version::V5 => {
                let body = publication.conversions.body(|| error_body(error, payload, publication.properties.as_deref()));
                (&body.bytes, Some(body))
            }
            (Payload::Bytes(bytes), _) => (bytes, None),
            (Payload::Args { .. }, _) => {
                let body = publication.conversions.body(|| payload::to_bytes(&publication.payload));
                (&body.bytes, Some(body))
            }
        };
        let mut publish = Publish {
            dup: event.duplicate,
            qos: event.qos,
            retain: event.retain,
            topic: publication.topic.as_mqtt(),
            packet_id: event.packet_id.map(|id| id.0),
            properties: PublishProperties::default(),
            payload: &[],
        };
        if self.version != Version::V5 {
            return match publish.encode_head(self.version, payload.len(), &mut output.bytes) {
                Ok(_) => output.bytes.extend_from_slice(payload),
                Err(_) => skip(event, output),
            };
        }
        let alias = self.aliases.assign(&publication.topic);
        let ids: SmallVec<[SubscriptionId; 2]> = event.subscriptions.iter().filter_map(|id| subscription_id(*id)).collect();
        let dropped = std::mem::take(&mut self.dropped);
        let dropped_text = if dropped > 0 { dropped.to_string() } else { String::new() };
        let mut pairs = pairs(publication.properties.as_deref());
        if dropped > 0 {
            pairs.push(("dropped", &dropped_text));
        }
        publish.properties = PublishProperties {
            message_expiry_s: publication.remaining_s(now_ms),
            topic_alias: alias.map(|(alias, _)| alias),
            user: UserProperties::from_pairs(&pairs),
            subscription_ids: SubscriptionIds::from_slice(&ids),
            ..content(publication, body)
        };
        if alias.is_some_and(|(_, is_known)| is_known) {
            publish.topic = "";
        }
        if publish.encoded_len(Version::V5, payload.len()) > self.max_packet_bytes as usize
            || publish.encode_head(Version::V5, payload.len(), &mut output.bytes).is_err()
        {
            self.aliases.forget(&publication.topic);
            self.dropped = dropped;
            return skip(event, output);
        }
        output.bytes.extend_from_slice(payload);
    }

    /// PUBACK or PUBREC. Before 5.0 there is no way to refuse but to close (quota) or to drop (rules) [MQTT-3.3.5-2].
    fn send_taken(&mut self, packet: PacketType, id: PacketId, taken: Result<Taken, Reason>, output: &mut Output) {
        let code = match taken {
            Ok(Taken { has_receivers: true }) => ReasonCode::Success,
            Ok(Taken { has_receivers: false }) => ReasonCode::NoMatchingSubscribers,
            Err(reason @ (Reason::QuotaExceeded | Reason::NoSpace | Reason::StorageFailed)) if self.version != Version::V5 => {
                return self.end(ReasonCode::QuotaExceeded, reason, output);
            }
            Err(reason) => names::code_of(reason, packet),
        };
        self.send_ack(packet, id.0, code, taken.err(), output);
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

    fn send_suback(&mut self, request: RequestId, results: &[Result<Granted, Reason>], output: &mut Output) {
        let Some(packet_id) = packet_id(request) else { return };
        let codes: Vec<u8> = results
            .iter()
            .map(|result| match result {
                Ok(Granted::Subscription(_, qos) | Granted::Registration(_, qos)) => qos.bits(),
                Err(_) if self.version != Version::V5 => 0x80,
                Err(reason) => names::code_of(*reason, PacketType::SubAck).byte(),
            })
            .collect();
        let why = results.iter().find_map(|result| result.err()).map(|reason| reason.to_string());
        let properties = self.problem(why.as_deref());
        let packet = Packet::SubAck(SubAck { packet_id, properties, codes: &codes });
        packet.encode_within(self.version, self.max_packet_bytes, &mut output.bytes).ok();
    }

    fn send_unsuback(&mut self, request: RequestId, results: &[Result<(), Reason>], output: &mut Output) {
        let Some(packet_id) = packet_id(request) else { return };
        let code = |reason| names::code_of(reason, PacketType::UnsubAck);
        let codes: Vec<u8> = results.iter().map(|result| result.err().map_or(ReasonCode::Success, code).byte()).collect();
        let packet = Packet::UnsubAck(UnsubAck { packet_id, properties: AckProperties::default(), codes: &codes });
        packet.encode(self.version, &mut output.bytes).ok();
    }

    fn problem<'a>(&self, why: Option<&'a str>) -> AckProperties<'a> {
        AckProperties { reason_string: why.filter(|_| self.wants_problem_information), ..AckProperties::default() }
    }
}

/// A packet too large for its receiver counts as delivered [MQTT-3.1.2-25].
fn skip(event: &Event, output: &mut Output) {
    let Some(packet_id) = event.packet_id else { return };
    let step = if event.qos == Qos::ExactlyOnce { AcknowledgeStep::Rejected } else { AcknowledgeStep::Acknowledged };
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
    let mut pairs: Pairs<'_> = user.filter(|(name, _)| *name != "corsac-status" && *name != "corsac-error").collect();
    match outcome {
        Outcome::Progress => pairs.push(("corsac-status", "progress")),
        Outcome::Result => pairs.push(("corsac-status", "result")),
        Outcome::Error(error) => pairs.extend([("corsac-status", "error"), ("corsac-error", reason::uri_of(error))]),
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
fn content<'a>(publication: &'a Publication, body: Option<&Body>) -> PublishProperties<'a> {
    let mut content = PublishProperties::default();
    if let Some(properties) = &publication.properties {
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
