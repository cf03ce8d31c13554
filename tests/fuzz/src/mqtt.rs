//! MQTT for the targets: packets of both sides to start from, and a reader that holds the gate to what it may send.
use std::collections::HashMap;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::BytesMut;
use corsac::wire::mqtt::{
    Ack, AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect,
    DisconnectProperties, Filters, Frame, Packet, Peer, Publish, PublishProperties, Qos, ReasonCode, Requests, RetainHandling,
    SubAck, Subscribe, SubscribeProperties, SubscriptionId, SubscriptionIds, SubscriptionOptions, SubscriptionRequest, UnsubAck,
    Unsubscribe, UnsubscribeProperties, UserProperties, Version, Will, WillProperties, decode, frame,
};

/// All versions.
pub const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
/// All peers.
pub const PEERS: [Peer; 3] = [Peer::Newcomer, Peer::Client, Peer::Server];

const USER: &[(&str, &str)] = &[("corsac-timeout-ms", "100"), ("a", "b"), ("a", "c")];

fn encoded(packet: Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = BytesMut::new();
    packet.encode(version, &mut out).expect("a sound packet");
    out.to_vec()
}

fn id(value: u16) -> NonZeroU16 {
    NonZeroU16::new(value).expect("not zero")
}

/// A CONNECT; `full` has everything that a CONNECT can have.
pub fn connect(version: Version, full: bool) -> Vec<u8> {
    let has_properties = full && version == Version::V5;
    let user = UserProperties::from_pairs(USER);
    let properties = ConnectProperties {
        session_expiry_s: Some(60),
        receive_maximum: Some(id(2)),
        maximum_packet_size: NonZeroU32::new(200),
        topic_alias_maximum: Some(3),
        request_response_information: Some(true),
        request_problem_information: Some(false),
        user,
        ..ConnectProperties::default()
    };
    let will_properties =
        WillProperties { will_delay_s: Some(1), content_type: Some("text/plain"), user, ..WillProperties::default() };
    let will = Will {
        qos: Qos::AtLeastOnce,
        retain: true,
        topic: "a/will",
        payload: b"gone",
        properties: if has_properties { will_properties } else { WillProperties::default() },
    };
    let connect = Connect {
        version,
        is_bridge: full,
        clean_start: !full,
        keep_alive_s: 60,
        properties: if has_properties { properties } else { ConnectProperties::default() },
        client_id: "c",
        will: full.then_some(will),
        username: full.then_some("joe@factory"),
        password: full.then_some(b"secret"),
    };
    encoded(Packet::Connect(connect), version)
}

/// A PUBLISH with packet id 7; `full` is retained and has everything that a PUBLISH can have.
pub fn publish(version: Version, topic: &str, qos: Qos, full: bool) -> Vec<u8> {
    let properties = PublishProperties {
        payload_format: Some(true),
        message_expiry_s: Some(9),
        topic_alias: Some(id(1)),
        response_topic: Some("$reply/x"),
        correlation_data: Some(b"\x01\x02"),
        content_type: Some("application/json"),
        user: UserProperties::from_pairs(USER),
        ..PublishProperties::default()
    };
    let publish = Publish {
        dup: false,
        qos,
        retain: full,
        topic,
        packet_id: (qos != Qos::AtMostOnce).then(|| id(7)),
        properties: if full && version == Version::V5 { properties } else { PublishProperties::default() },
        payload: br#"{"args":[1],"kwargs":{}}"#,
    };
    encoded(Packet::Publish(publish), version)
}

/// A SUBSCRIBE to one filter.
pub fn subscribe(version: Version, filter: &str, qos: Qos) -> Vec<u8> {
    let requests = [SubscriptionRequest { filter, options: SubscriptionOptions { qos, ..SubscriptionOptions::default() } }];
    let properties = SubscribeProperties::default();
    encoded(Packet::Subscribe(Subscribe { packet_id: id(3), properties, requests: Requests::from_slice(&requests) }), version)
}

/// The answers that a client owes for these packets of a server: PUBACK, PUBREC, PUBREL and PUBCOMP, each in its turn.
pub fn answers(mut bytes: &[u8], version: Version) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    while let Ok(Frame::Complete { length }) = frame(bytes, u32::MAX, version, Peer::Server) {
        let (packet, rest) = bytes.split_at(length);
        let ack = |packet_id| Ack { packet_id, reason: ReasonCode::Success, properties: AckProperties::default() };
        let answer = match decode(packet, version, Peer::Server) {
            Ok(Packet::Publish(Publish { qos: Qos::AtLeastOnce, packet_id: Some(id), .. })) => Some(Packet::PubAck(ack(id))),
            Ok(Packet::Publish(Publish { packet_id: Some(id), .. })) => Some(Packet::PubRec(ack(id))),
            Ok(Packet::PubRec(received)) if !received.reason.is_error() => Some(Packet::PubRel(ack(received.packet_id))),
            Ok(Packet::PubRel(released)) => Some(Packet::PubComp(ack(released.packet_id))),
            _ => None,
        };
        answers.extend(answer.map(|packet| encoded(packet, version)));
        bytes = rest;
    }
    answers
}

fn acks(version: Version) -> Vec<Vec<u8>> {
    let reason_string = (version == Version::V5).then_some("why");
    let ack =
        Ack { packet_id: id(7), reason: ReasonCode::Success, properties: AckProperties { reason_string, ..Default::default() } };
    [Packet::PubAck(ack), Packet::PubRec(ack), Packet::PubRel(ack), Packet::PubComp(ack)]
        .into_iter()
        .map(|packet| encoded(packet, version))
        .collect()
}

/// The packets that a client may send behind its CONNECT, one of each.
pub fn client_packets(version: Version) -> Vec<Vec<u8>> {
    let is_v5 = version == Version::V5;
    let options = SubscriptionOptions { qos: Qos::ExactlyOnce, ..SubscriptionOptions::default() };
    let all = SubscriptionOptions { no_local: is_v5, retain_as_published: is_v5, ..options };
    let handling = if is_v5 { RetainHandling::IfNew } else { RetainHandling::default() };
    let requests = [
        SubscriptionRequest { filter: "a/+/#", options: SubscriptionOptions { retain_handling: handling, ..all } },
        SubscriptionRequest { filter: "$share/g/a", options },
        SubscriptionRequest { filter: "$callee/com/add", options },
    ];
    let properties = SubscribeProperties { subscription_id: SubscriptionId::new(9).filter(|_| is_v5), ..Default::default() };
    let subscribe = Subscribe { packet_id: id(1), properties, requests: Requests::from_slice(&requests) };
    let filters = ["a/+/#", "$share/g/a", "$callee/com/add"];
    let unsubscribe =
        Unsubscribe { packet_id: id(2), properties: UnsubscribeProperties::default(), filters: Filters::from_slice(&filters) };
    let mut packets = vec![
        encoded(Packet::Subscribe(subscribe), version),
        publish(version, "a/b/c", Qos::AtMostOnce, false),
        publish(version, "a/b/c", Qos::AtLeastOnce, true),
        publish(version, "$call/com/add", Qos::ExactlyOnce, true),
        publish(version, "$call/com/add/$id/1", Qos::AtMostOnce, false),
        publish(version, "$yield/1/error", Qos::AtMostOnce, false),
        encoded(Packet::Unsubscribe(unsubscribe), version),
        encoded(Packet::PingReq, version),
    ];
    packets.extend(acks(version));
    let properties = DisconnectProperties { session_expiry_s: Some(5).filter(|_| is_v5), ..DisconnectProperties::default() };
    let reason = if is_v5 { ReasonCode::DisconnectWithWill } else { ReasonCode::NORMAL_DISCONNECTION };
    packets.push(encoded(Packet::Disconnect(Disconnect { reason, properties }), version));
    if is_v5 {
        packets.push(auth(version));
    }
    packets
}

fn auth(version: Version) -> Vec<u8> {
    let properties =
        AuthProperties { authentication_method: Some("x"), authentication_data: Some(b"data"), ..AuthProperties::default() };
    encoded(Packet::Auth(Auth { reason: ReasonCode::ContinueAuthentication, properties }), version)
}

/// The packets that a server may send, one of each.
pub fn server_packets(version: Version) -> Vec<Vec<u8>> {
    let is_v5 = version == Version::V5;
    let properties = ConnAckProperties {
        assigned_client_id: Some("x"),
        receive_maximum: Some(id(9)),
        maximum_qos: Some(Qos::AtLeastOnce),
        server_keep_alive_s: Some(3),
        user: UserProperties::from_pairs(USER),
        ..ConnAckProperties::default()
    };
    let properties = if is_v5 { properties } else { ConnAckProperties::default() };
    let connack = ConnAck { session_present: version != Version::V31, reason: ReasonCode::Success, properties };
    let codes: &[u8] = if is_v5 { &[0, 0x11] } else { &[] };
    let properties = AckProperties::default();
    let mut packets = vec![
        encoded(Packet::ConnAck(connack), version),
        encoded(Packet::SubAck(SubAck { packet_id: id(1), properties, codes: &[0, 1, 2, 0x80] }), version),
        encoded(Packet::UnsubAck(UnsubAck { packet_id: id(1), properties, codes }), version),
        encoded(Packet::PingResp, version),
        publish(version, "a/b", Qos::ExactlyOnce, true),
    ];
    packets.extend(acks(version));
    if is_v5 {
        let ids: Vec<SubscriptionId> = [1, 268_435_455].into_iter().filter_map(SubscriptionId::new).collect();
        let properties = PublishProperties { subscription_ids: SubscriptionIds::from_slice(&ids), ..Default::default() };
        packets.push(encoded(Packet::Publish(Publish { topic: "a", properties, payload: b"x", ..Publish::default() }), version));
        let properties = DisconnectProperties { reason_string: Some("why"), server_reference: Some("b"), ..Default::default() };
        packets.push(encoded(Packet::Disconnect(Disconnect { reason: ReasonCode::ServerShuttingDown, properties }), version));
        packets.push(auth(version));
    }
    packets
}

/// A client that reads what the gate sends, and believes nothing.
#[derive(Debug)]
pub struct Receiver {
    version: Version,
    max_packet_bytes: usize,
    alias_maximum: u16,
    aliases: HashMap<u16, String>,
    is_over: bool,
}

impl Receiver {
    /// A client of this version that announced these bounds.
    pub fn new(version: Version, max_packet_bytes: usize, alias_maximum: u16) -> Self {
        Receiver { version, max_packet_bytes, alias_maximum, aliases: HashMap::new(), is_over: false }
    }

    /// Reads whole packets; returns the topics and payloads of the publications among them.
    pub fn read(&mut self, mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut publications = Vec::new();
        while !bytes.is_empty() {
            assert!(!self.is_over, "bytes behind the last packet");
            let length = match frame(bytes, u32::MAX, self.version, Peer::Server) {
                Ok(Frame::Complete { length }) => length,
                other => panic!("no packet: {other:?} {bytes:02x?}"),
            };
            assert!(length <= self.max_packet_bytes, "{length} bytes, {} are allowed", self.max_packet_bytes);
            let packet = decode(&bytes[..length], self.version, Peer::Server);
            match packet.unwrap_or_else(|error| panic!("{error}: {:02x?}", &bytes[..length])) {
                Packet::Publish(publish) => publications.push(self.resolve(&publish)),
                Packet::Disconnect(_) => self.is_over = true,
                Packet::ConnAck(connack) => self.is_over = connack.reason.is_error(),
                _ => {}
            }
            bytes = &bytes[length..];
        }
        publications
    }

    fn resolve(&mut self, publish: &Publish<'_>) -> (String, Vec<u8>) {
        if let Some(alias) = publish.properties.topic_alias {
            assert!(alias.get() <= self.alias_maximum, "alias {alias}, {} are allowed", self.alias_maximum);
            if !publish.topic.is_empty() {
                self.aliases.insert(alias.get(), publish.topic.to_owned());
            }
        }
        let topic = match (publish.topic, publish.properties.topic_alias) {
            ("", Some(alias)) => self.aliases.get(&alias.get()).expect("a known alias").clone(),
            (topic, _) => topic.to_owned(),
        };
        (topic, publish.payload.to_vec())
    }
}
