//! An MQTT 5 connection of a small client; calls as MAPPING.md (Calls) lays them on topics.
use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use corsac::model::payload::Body as Message;
use corsac::model::{Filter, Qos, Topic, names as reserved};
use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter as Subscription, Packet, PubAckReason, PubCompReason, PubRecReason, Publish, PublishProperties, RetainForwardRule,
    SubAck, SubscribeReasonCode,
};

use super::body::Body;
use super::pump::{self, Lasting, Packets, WINDOW, lost, refusal};
use super::target::{Target, Url};
use super::transport::too_long;
use super::{CANCELED, Calling, Event, Outcome, Publishing, Subscribing, Trouble, Work};
use crate::command_line::failure::Usage;

/// The level below `$reply/` where answers come.
const REPLIES: &str = "corsac";
/// The options with which calls and answers are published.
const ADDRESSED: Publishing = Publishing { qos: Qos::AtLeastOnce, retain: false };

/// An open connection.
pub struct MqttClient {
    requests: AsyncClient,
    packets: Packets,
    /// The router has kept the session.
    is_resumed: bool,
    /// The longest packet that the router takes.
    max_packet_bytes: usize,
    /// Publications whose acknowledgement has not come.
    unacknowledged: u16,
    /// Acknowledgements that have come.
    acknowledged: u64,
    calls: u64,
    /// The correlation data of invocations not answered yet.
    correlations: HashMap<u64, Option<Bytes>>,
    /// Messages that came while an acknowledgement was awaited.
    arrived: VecDeque<Publish>,
}

impl MqttClient {
    /// Connects and joins the realm, in a session of its own or in one that lasts.
    pub async fn open(target: &Target, url: Url, session: Option<&mut Lasting>) -> Result<Self, Trouble> {
        let (requests, mut packets) = pump::connect(target, &url, session.as_deref());
        let ack = match packets.recv().await {
            Some(Ok(Packet::ConnAck(ack))) => ack,
            Some(Err(trouble)) => return Err(trouble),
            _ => return Err(Trouble::Refused(String::new(), format!("{url} did not answer CONNECT; is it an MQTT broker?"))),
        };
        if let Some(session) = session {
            session.has_begun = true;
        }
        let max_packet_bytes = ack.properties.and_then(|properties| properties.max_packet_size).unwrap_or(u32::MAX);
        Ok(MqttClient {
            requests,
            packets,
            is_resumed: ack.session_present,
            max_packet_bytes: max_packet_bytes as usize,
            unacknowledged: 0,
            acknowledged: 0,
            calls: 0,
            correlations: HashMap::new(),
            arrived: VecDeque::new(),
        })
    }

    /// True if the router has kept the session.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Publishes; waits only when too many acknowledgements are owed.
    pub async fn publish(&mut self, topic: &Topic, body: &Body, publishing: Publishing) -> Result<(), String> {
        while self.unacknowledged >= WINDOW {
            self.acknowledgement().await?;
        }
        self.unacknowledged += u16::from(publishing.qos > Qos::AtMostOnce);
        self.send(topic.as_mqtt(), body.to_message(), publishing, PublishProperties::default()).await
    }

    /// Waits for every acknowledgement owed.
    pub async fn settle(&mut self) -> Result<(), String> {
        while self.unacknowledged > 0 {
            self.acknowledgement().await?;
        }
        Ok(())
    }

    async fn acknowledgement(&mut self) -> Result<(), String> {
        let refused = match self.packet().await? {
            Packet::PubAck(ack) if !matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers) => {
                Some((format!("{:?}", ack.reason), ack.properties.and_then(|properties| properties.reason_string)))
            }
            Packet::PubRec(ack) if !matches!(ack.reason, PubRecReason::Success | PubRecReason::NoMatchingSubscribers) => {
                Some((format!("{:?}", ack.reason), ack.properties.and_then(|properties| properties.reason_string)))
            }
            Packet::PubComp(ack) if ack.reason != PubCompReason::Success => Some((format!("{:?}", ack.reason), None)),
            Packet::PubAck(_) | Packet::PubComp(_) => None,
            packet => {
                self.keep(packet);
                return Ok(());
            }
        };
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        self.acknowledged += 1;
        match refused {
            None => Ok(()),
            Some((reason, why)) => Err(format!("message {} was refused: {}", self.acknowledged, refusal(&reason, why))),
        }
    }

    /// Subscribes; events come from `next_event`.
    pub async fn subscribe(&mut self, filter: &Filter, how: Subscribing) -> Result<u64, Trouble> {
        let Some(text) = filter.as_mqtt() else {
            let why = "MQTT knows no --match prefix; take a filter like 'demo/#', or a ws:// URL";
            return Err(Trouble::Usage(Usage(why.to_owned())));
        };
        let granted = self.subscribe_to(text, how.with_retained).await;
        granted.map(|()| 0).map_err(|trouble| because(&format!("cannot subscribe to {text}"), trouble))
    }

    async fn subscribe_to(&mut self, text: &str, with_retained: bool) -> Result<(), Trouble> {
        let rule = if with_retained { RetainForwardRule::OnEverySubscribe } else { RetainForwardRule::Never };
        let subscription = Subscription {
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: rule,
            ..Subscription::new(text, QoS::ExactlyOnce)
        };
        self.requests.subscribe_many([subscription]).await.map_err(|_| Trouble::Lost(lost("the client stopped")))?;
        loop {
            match self.received().await? {
                Packet::SubAck(ack) => return granted(ack),
                packet => self.keep(packet),
            }
        }
    }

    /// The next event. May be given up at any time.
    pub async fn next_event(&mut self) -> Result<Event, String> {
        loop {
            let publish = self.next().await?;
            let Ok(topic) = Topic::from_mqtt(&String::from_utf8_lossy(&publish.topic)) else { continue };
            let (is_retained, qos) = (publish.retain, Some(publish.qos as u8));
            let message = Some(publish.payload.clone());
            return Ok(Event { subscription: 0, topic, body: body_of(publish), message, is_retained, id: None, qos });
        }
    }

    /// Calls; `on_progress` gets progressive results.
    pub async fn call(
        &mut self,
        procedure: &Topic,
        body: &Body,
        calling: Calling,
        on_progress: &mut impl FnMut(&Body) -> Result<(), String>,
    ) -> Result<Outcome, String> {
        if self.calls == 0 {
            self.subscribe_to(&format!("{}{REPLIES}/#", reserved::REPLY), false).await?;
        }
        self.calls += 1;
        let response_topic = format!("{}{REPLIES}/{}", reserved::REPLY, self.calls);
        let mut user_properties = Vec::new();
        if let Some(timeout_ms) = calling.timeout_ms {
            user_properties.push((reserved::TIMEOUT_MS.to_owned(), timeout_ms.to_string()));
        }
        if calling.with_progress {
            user_properties.push((reserved::RECEIVE_PROGRESS.to_owned(), "true".to_owned()));
        }
        let properties = PublishProperties {
            response_topic: Some(response_topic.clone()),
            correlation_data: Some(self.calls.to_string().into()),
            user_properties,
            ..PublishProperties::default()
        };
        self.send(&format!("{}{}", reserved::CALL, procedure.as_mqtt()), body.to_arguments(), ADDRESSED, properties).await?;
        loop {
            let answer = self.next().await?;
            if answer.topic != response_topic.as_bytes() {
                continue;
            }
            match user_property(&answer, reserved::STATUS) {
                Some("progress") => on_progress(&body_of(answer))?,
                Some("error") => {
                    let uri = user_property(&answer, reserved::ERROR).unwrap_or(reserved::RUNTIME_ERROR).to_owned();
                    return Ok(Outcome::Error(uri, body_of(answer)));
                }
                _ => return Ok(Outcome::Result(body_of(answer))),
            }
        }
    }

    /// Serves a procedure; calls come from `next_work`.
    pub async fn register(&mut self, procedure: &Topic, _concurrency: Option<u32>) -> Result<(), Trouble> {
        let name = procedure.as_mqtt();
        let heard = self.subscribe_to(&format!("{}#", reserved::CANCEL), false).await;
        heard.map_err(|trouble| because("cannot hear of canceled calls", trouble))?;
        let served = self.subscribe_to(&format!("{}{name}", reserved::CALLEE), false).await;
        served.map_err(|trouble| match because(&format!("cannot serve {name}"), trouble) {
            // The router's own words say what to do, where they go on behind a semicolon.
            Trouble::Refused(uri, why) if !why.contains("; ") => {
                Trouble::Refused(uri, format!("{why}; if somebody else serves it, stop that or take another name"))
            }
            other => other,
        })
    }

    /// The next call to serve or to leave. May be given up at any time.
    pub async fn next_work(&mut self) -> Result<Work, String> {
        loop {
            let publish = self.next().await?;
            let topic = String::from_utf8_lossy(&publish.topic);
            if let Some(number) = topic.strip_prefix(reserved::CANCEL).and_then(|number| number.parse().ok()) {
                self.correlations.remove(&number);
                return Ok(Work::Cancel(number));
            }
            let Some(properties) = &publish.properties else { continue };
            let reply = properties.response_topic.as_deref().unwrap_or_default();
            let Some(number) = reply.strip_prefix(reserved::YIELD).and_then(|number| number.parse().ok()) else { continue };
            self.correlations.insert(number, properties.correlation_data.clone());
            return Ok(Work::Invocation(number, body_of(publish)));
        }
    }

    /// Answers an invocation.
    pub async fn answer(&mut self, invocation: u64, outcome: Outcome) -> Result<(), String> {
        let Some(correlation_data) = self.correlations.remove(&invocation) else { return Ok(()) };
        let user = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (user_properties, body) = match outcome {
            // A caller who canceled does not wait for the answer.
            Outcome::Error(uri, _) if uri == CANCELED => return Ok(()),
            Outcome::Error(uri, body) => (user(&[(reserved::STATUS, "error"), (reserved::ERROR, &uri)]), body),
            Outcome::Result(body) => (user(&[(reserved::STATUS, "result")]), body),
        };
        let properties = PublishProperties { correlation_data, user_properties, ..PublishProperties::default() };
        self.send(&format!("{}{invocation}", reserved::YIELD), body.to_arguments(), ADDRESSED, properties).await
    }

    /// Keeps the connection alive until it ends; says how.
    pub async fn idle(&mut self) -> String {
        loop {
            if let Err(message) = self.packet().await {
                return message;
            }
        }
    }

    /// Disconnects, everything sent.
    pub async fn close(mut self) {
        if self.requests.disconnect().await.is_ok() {
            while self.packets.recv().await.is_some_and(|packet| packet.is_ok()) {}
        }
    }

    async fn send(
        &self,
        topic: &str,
        message: Message,
        how: Publishing,
        mut properties: PublishProperties,
    ) -> Result<(), String> {
        properties.content_type = message.content_type.map(Into::into);
        properties.payload_format_indicator = message.is_utf8.then_some(1);
        let publish = Publish::new(topic, qos(how.qos), message.bytes.clone(), Some(properties.clone()));
        let bytes = Publish { pkid: 1, ..publish }.size();
        if bytes > self.max_packet_bytes {
            return Err(too_long(bytes as u64, self.max_packet_bytes as u64));
        }
        let sent = self.requests.publish_with_properties(topic, qos(how.qos), how.retain, message.bytes, properties).await;
        sent.map_err(|_| lost("the client stopped"))
    }

    fn keep(&mut self, packet: Packet) {
        if let Packet::Publish(publish) = packet {
            self.arrived.push_back(publish);
        }
    }

    /// The next message; a refused publication of ours is an error.
    async fn next(&mut self) -> Result<Publish, String> {
        loop {
            if let Some(publish) = self.arrived.pop_front() {
                return Ok(publish);
            }
            match self.packet().await? {
                Packet::PubAck(ack) if !matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers) => {
                    let why = ack.properties.and_then(|properties| properties.reason_string);
                    return Err(format!("the router refused: {}", refusal(&format!("{:?}", ack.reason), why)));
                }
                packet => self.keep(packet),
            }
        }
    }

    async fn packet(&mut self) -> Result<Packet, String> {
        self.received().await.map_err(String::from)
    }

    async fn received(&mut self) -> Result<Packet, Trouble> {
        self.packets.recv().await.unwrap_or_else(|| Err(Trouble::Lost(lost("it was closed"))))
    }
}

/// The same trouble, and what it was met at.
fn because(what: &str, trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Refused(uri, why) => Trouble::Refused(uri, format!("{what}: {why}")),
        other => other,
    }
}

fn granted(ack: SubAck) -> Result<(), Trouble> {
    let refused = ack.return_codes.into_iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
    let Some(code) = refused.map(|code| format!("{code:?}")) else { return Ok(()) };
    let why = refusal(&code, ack.properties.and_then(|properties| properties.reason_string));
    Err(Trouble::Refused(code, why))
}

fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn user_property<'a>(publish: &'a Publish, name: &str) -> Option<&'a str> {
    let properties = publish.properties.as_ref()?;
    properties.user_properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn body_of(publish: Publish) -> Body {
    let properties = publish.properties.unwrap_or_default();
    let payload_format = properties.payload_format_indicator.map(|indicator| indicator == 1);
    Body::of_message(publish.payload, properties.content_type.as_deref(), payload_format)
}
