//! An MQTT 5 connection of a small client; calls as MAPPING.md (Calls) lays them on topics.
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use corsac::model::{Filter, Qos, Topic};
use rumqttc::NetworkOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter as Subscription, Packet, PubAckReason, PubCompReason, PubRecReason, Publish, PublishProperties, RetainForwardRule,
    SubAck, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as Happened, EventLoop, MqttOptions, StateError};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::body::Body;
use super::target::{Target, Url};
use super::transport::unreachable;
use super::{CANCELED, Calling, Event, Outcome, Publishing, Work};

/// Publications that may wait for their acknowledgement, and packets that may wait to be looked at.
const WINDOW: u16 = 256;
/// The longest packet taken, the router's own bound.
const MAX_PACKET_BYTES: u32 = 16 << 20;
/// Long, since a reader that stops reading our output stops us from pinging too.
const KEEP_ALIVE: Duration = Duration::from_secs(300);
/// Under this topic answers come to this session alone.
const REPLIES: &str = "$reply/corsac";
/// How calls and answers are published.
const ADDRESSED: Publishing = Publishing { qos: Qos::AtLeastOnce, retain: false };

/// An open connection.
pub struct MqttClient {
    requests: AsyncClient,
    packets: mpsc::Receiver<Result<Packet, String>>,
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
    /// Connects and joins the realm.
    pub async fn open(target: &Target) -> Result<Self, String> {
        let host = target.url.host.as_str();
        let mut options = MqttOptions::new(format!("corsac-{}", Uuid::new_v4().simple()), host, target.url.port);
        options.set_keep_alive(KEEP_ALIVE).set_max_packet_size(Some(MAX_PACKET_BYTES));
        options.set_outgoing_inflight_upper_limit(WINDOW);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        if let Some((user, password)) = credentials(target) {
            options.set_credentials(user, password);
        }
        let (requests, events) = AsyncClient::new(options, usize::from(WINDOW));
        let (tx, mut packets) = mpsc::channel(usize::from(WINDOW));
        tokio::spawn(pump(events, tx, target.url.clone()));
        match packets.recv().await {
            Some(Ok(Packet::ConnAck(_))) => {}
            Some(Err(message)) => return Err(message),
            _ => return Err(format!("{} did not answer CONNECT; is it an MQTT broker?", target.url)),
        }
        Ok(MqttClient {
            requests,
            packets,
            unacknowledged: 0,
            acknowledged: 0,
            calls: 0,
            correlations: HashMap::new(),
            arrived: VecDeque::new(),
        })
    }

    /// Publishes; waits only when too many acknowledgements are owed.
    pub async fn publish(&mut self, topic: &Topic, body: &Body, publishing: Publishing) -> Result<(), String> {
        while self.unacknowledged >= WINDOW {
            self.acknowledgement().await?;
        }
        self.unacknowledged += u16::from(publishing.qos > Qos::AtMostOnce);
        self.send(topic.as_mqtt(), body, publishing, PublishProperties::default()).await
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
    pub async fn subscribe(&mut self, filter: &Filter, with_retained: bool) -> Result<(), String> {
        let Some(text) = filter.as_mqtt() else {
            return Err("MQTT knows no --match prefix; take a filter like 'demo/#', or a ws:// URL".to_owned());
        };
        self.subscribe_to(text, with_retained).await.map_err(|why| format!("cannot subscribe to {text}: {why}"))
    }

    async fn subscribe_to(&mut self, text: &str, with_retained: bool) -> Result<(), String> {
        let rule = if with_retained { RetainForwardRule::OnEverySubscribe } else { RetainForwardRule::Never };
        let subscription = Subscription {
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: rule,
            ..Subscription::new(text, QoS::ExactlyOnce)
        };
        self.requests.subscribe_many([subscription]).await.map_err(|_| lost("the client stopped"))?;
        loop {
            match self.packet().await? {
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
            return Ok(Event { topic, body: body_of(publish), is_retained, publication: None, qos });
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
            self.subscribe_to(&format!("{REPLIES}/#"), false).await?;
        }
        self.calls += 1;
        let response_topic = format!("{REPLIES}/{}", self.calls);
        let mut user_properties = Vec::new();
        if let Some(timeout_ms) = calling.timeout_ms {
            user_properties.push(("corsac-timeout-ms".to_owned(), timeout_ms.to_string()));
        }
        if calling.with_progress {
            user_properties.push(("corsac-receive-progress".to_owned(), "true".to_owned()));
        }
        let properties = PublishProperties {
            response_topic: Some(response_topic.clone()),
            correlation_data: Some(self.calls.to_string().into()),
            user_properties,
            ..PublishProperties::default()
        };
        self.send(&format!("$call/{}", procedure.as_mqtt()), body, ADDRESSED, properties).await?;
        loop {
            let answer = self.next().await?;
            if answer.topic != response_topic.as_bytes() {
                continue;
            }
            match user_property(&answer, "corsac-status") {
                Some("progress") => on_progress(&body_of(answer))?,
                Some("error") => {
                    let uri = user_property(&answer, "corsac-error").unwrap_or("wamp.error.runtime_error").to_owned();
                    return Ok(Outcome::Error(uri, body_of(answer)));
                }
                _ => return Ok(Outcome::Result(body_of(answer))),
            }
        }
    }

    /// Serves a procedure; calls come from `next_work`.
    pub async fn register(&mut self, procedure: &Topic, _concurrency: Option<u32>) -> Result<(), String> {
        let name = procedure.as_mqtt();
        self.subscribe_to("$cancel/#", false).await.map_err(|why| format!("cannot hear of canceled calls: {why}"))?;
        let served = self.subscribe_to(&format!("$callee/{name}"), false).await;
        served.map_err(|why| format!("cannot serve {name}: {why}; if somebody else serves it, stop that or take another name"))
    }

    /// The next call to serve or to leave. May be given up at any time.
    pub async fn next_work(&mut self) -> Result<Work, String> {
        loop {
            let publish = self.next().await?;
            let topic = String::from_utf8_lossy(&publish.topic);
            if let Some(number) = topic.strip_prefix("$cancel/").and_then(|number| number.parse().ok()) {
                self.correlations.remove(&number);
                return Ok(Work::Cancel(number));
            }
            let Some(properties) = &publish.properties else { continue };
            let reply = properties.response_topic.as_deref().unwrap_or_default();
            let Some(number) = reply.strip_prefix("$yield/").and_then(|number| number.parse().ok()) else { continue };
            self.correlations.insert(number, properties.correlation_data.clone());
            return Ok(Work::Invocation(number, body_of(publish)));
        }
    }

    /// Answers an invocation.
    pub async fn answer(&mut self, invocation: u64, outcome: Outcome) -> Result<(), String> {
        let Some(correlation_data) = self.correlations.remove(&invocation) else { return Ok(()) };
        let user = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (user_properties, body) = match outcome {
            // Who canceled does not wait for the answer.
            Outcome::Error(uri, _) if uri == CANCELED => return Ok(()),
            Outcome::Error(uri, body) => (user(&[("corsac-status", "error"), ("corsac-error", &uri)]), body),
            Outcome::Result(body) => (user(&[("corsac-status", "result")]), body),
        };
        let properties = PublishProperties { correlation_data, user_properties, ..PublishProperties::default() };
        self.send(&format!("$yield/{invocation}"), &body, ADDRESSED, properties).await
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

    async fn send(&self, topic: &str, body: &Body, how: Publishing, mut properties: PublishProperties) -> Result<(), String> {
        let message = body.to_message();
        properties.content_type = message.content_type.map(Into::into);
        properties.payload_format_indicator = message.is_utf8.then_some(1);
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
        self.packets.recv().await.unwrap_or_else(|| Err(lost("it was closed")))
    }
}

/// Drives the connection until it ends; nobody reconnects.
async fn pump(mut events: EventLoop, packets: mpsc::Sender<Result<Packet, String>>, url: Url) {
    let mut is_open = false;
    loop {
        let packet = match events.poll().await {
            Ok(Happened::Incoming(packet)) => Ok(packet),
            Ok(Happened::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
            Ok(Happened::Outgoing(_)) => continue,
            Err(error) => Err(ended(&url, is_open, error)),
        };
        is_open = true;
        let is_last = packet.is_err();
        if packets.send(packet).await.is_err() || is_last {
            return;
        }
    }
}

/// Why there is no connection, and what to do.
fn ended(url: &Url, was_open: bool, error: ConnectionError) -> String {
    match error {
        ConnectionError::Io(error) if !was_open => unreachable(url, &error),
        ConnectionError::ConnectionRefused(code) => {
            format!("{url} refused the connection: {code:?}; check user, password and --realm")
        }
        ConnectionError::Timeout(_) => format!("{url} does not answer; is it the router's address?"),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            format!("the router ended the connection: {}", refusal(&format!("{reason_code:?}"), reason_string))
        }
        error if !was_open => format!("{url} does not speak MQTT 5: {error}; check --url"),
        error => lost(&error.to_string()),
    }
}

fn lost(why: &str) -> String {
    format!("the connection was lost: {why}; is the router still running?")
}

fn refusal(reason: &str, why: Option<String>) -> String {
    why.map_or_else(|| reason.to_owned(), |why| format!("{reason} ({why})"))
}

fn granted(ack: SubAck) -> Result<(), String> {
    let refused = ack.return_codes.into_iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
    match refused {
        None => Ok(()),
        Some(code) => Err(refusal(&format!("{code:?}"), ack.properties.and_then(|properties| properties.reason_string))),
    }
}

/// User name and password; the realm stands behind the `@` of the name (MAPPING: Realms).
fn credentials(target: &Target) -> Option<(String, String)> {
    match (&target.url.user, &target.realm) {
        (user, None) => user.clone(),
        (None, Some(realm)) => Some((format!("corsac@{realm}"), String::new())),
        (Some((name, password)), Some(realm)) => {
            let name = name.split_once('@').map_or(name.as_str(), |(name, _)| name);
            Some((format!("{name}@{realm}"), password.clone()))
        }
    }
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
