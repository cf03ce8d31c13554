//! Every packet there and back again, cut short at every byte, with every bit flipped.

use std::num::NonZeroU32;

use bytes::BytesMut;
use proptest::prelude::*;

use super::super::*;
use super::{encoded, id, receive};

// Everything a packet borrows is owned by the test case and lent to it there.

#[derive(Clone, Debug)]
struct Fields {
    texts: Vec<String>,
    topic: String,
    filters: Vec<(String, u8)>,
    bytes: Vec<u8>,
    user: Vec<(String, String)>,
    ids: Vec<u32>,
    number: u32,
    short: u16,
    present: u32,
    qos: u8,
}

impl Fields {
    /// Bit `bit` of the mask that says which optional fields are there.
    fn has(&self, bit: u32) -> bool {
        self.present >> bit & 1 != 0
    }

    fn option<T>(&self, bit: u32, value: T) -> Option<T> {
        self.has(bit).then_some(value)
    }

    fn qos(&self) -> Qos {
        Qos::from_bits(self.qos).unwrap()
    }

    fn text(&self, at: usize) -> &str {
        &self.texts[at]
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let text = "[^\\x00]{0,12}";
    let filter = proptest::collection::vec("[a-zü$ ]{0,4}|\\+", 1..5).prop_map(|levels| levels.join("/"));
    let filter = (filter, any::<bool>()).prop_map(|(filter, all)| if all { filter + "/#" } else { filter });
    let filter = filter.prop_filter("empty", |filter| !filter.is_empty());
    (
        proptest::collection::vec(text, 6),
        "[^\\x00+#]{1,20}",
        proptest::collection::vec((filter, 0u8..0x30), 1..4),
        proptest::collection::vec(any::<u8>(), 0..300),
        proptest::collection::vec((text, text), 0..4),
        proptest::collection::vec(1u32..=268_435_455, 0..4),
        any::<u32>(),
        1u16..,
        any::<u32>(),
        0u8..3,
    )
        .prop_map(|(texts, topic, filters, bytes, user, ids, number, short, present, qos)| Fields {
            texts,
            topic,
            filters,
            bytes,
            user,
            ids,
            number,
            short,
            present,
            qos,
        })
}

fn versions() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5)]
}

fn round_trip(packet: Packet<'_>, version: Version, from: Peer) {
    let bytes = encoded(&packet, version);
    assert_eq!(receive(&bytes, version, from), Ok(packet));
    for length in 0..bytes.len().min(400) {
        match frame(&bytes[..length], 65_536, version, from) {
            Ok(Frame::Incomplete { at_least }) => {
                assert!(at_least > length && at_least <= bytes.len().max(2))
            }
            other => panic!("{length}: {other:?}"),
        }
        let cut = decode(&bytes[..length], version, from);
        assert!(cut.is_err(), "{cut:?}");
    }
}

/// A packet decoded from an attacker's bytes can be walked through, and encoded again to something equal.
fn survive(bytes: &[u8], version: Version, from: Peer) {
    let Ok(Frame::Complete { length }) = frame(bytes, 65_536, version, from) else {
        return;
    };
    let Ok(packet) = decode(&bytes[..length], version, from) else {
        return;
    };
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let mut out = BytesMut::new();
    packet.encode(version, &mut out).unwrap();
    assert_eq!(out.len(), packet.encoded_len(version));
    assert_eq!(decode(&out, version, from), Ok(packet));
}

fn publish_properties<'a>(
    fields: &'a Fields,
    user: &'a [(&'a str, &'a str)],
    ids: &'a [SubscriptionId],
) -> PublishProperties<'a> {
    PublishProperties {
        payload_format: fields.option(0, fields.has(1)),
        message_expiry_s: fields.option(2, fields.number),
        topic_alias: fields.option(3, id(fields.short)),
        response_topic: fields.option(4, &fields.topic),
        correlation_data: fields.option(5, &fields.bytes),
        content_type: fields.option(6, fields.text(0)),
        user: UserProperties::from_pairs(user),
        subscription_ids: SubscriptionIds::from_slice(ids),
    }
}

fn will<'a>(fields: &'a Fields, user: UserProperties<'a>, version: Version) -> Will<'a> {
    let properties = WillProperties {
        will_delay_s: fields.option(8, fields.number),
        payload_format: fields.option(9, fields.has(10)),
        message_expiry_s: fields.option(11, fields.number),
        content_type: fields.option(12, fields.text(1)),
        response_topic: fields.option(13, &fields.topic),
        correlation_data: fields.option(14, &fields.bytes),
        user,
    };
    let properties = if version == Version::V5 { properties } else { WillProperties::default() };
    Will { qos: fields.qos(), retain: fields.has(15), topic: &fields.topic, payload: &fields.bytes, properties }
}

fn connect<'a>(fields: &'a Fields, user: UserProperties<'a>, version: Version) -> Connect<'a> {
    let method = fields.option(5, fields.text(2));
    let properties = ConnectProperties {
        session_expiry_s: fields.option(0, fields.number),
        receive_maximum: fields.option(1, id(fields.short)),
        maximum_packet_size: NonZeroU32::new(fields.number),
        topic_alias_maximum: fields.option(2, fields.short),
        request_response_information: fields.option(3, fields.has(4)),
        request_problem_information: fields.option(4, fields.has(3)),
        authentication_method: method,
        authentication_data: method.and(fields.option(6, &fields.bytes)),
        user,
    };
    let username = fields.option(16, fields.text(3));
    let password: Option<&[u8]> = fields.option(17, &fields.bytes);
    Connect {
        version,
        is_bridge: fields.has(19),
        clean_start: fields.has(7),
        keep_alive_s: fields.short,
        properties: if version == Version::V5 { properties } else { ConnectProperties::default() },
        client_id: fields.text(4),
        will: fields.has(18).then(|| will(fields, user, version)),
        username,
        password: if version == Version::V5 { password } else { username.and(password) },
    }
}

fn connack<'a>(fields: &'a Fields, user: UserProperties<'a>) -> ConnAckProperties<'a> {
    ConnAckProperties {
        session_expiry_s: fields.option(0, fields.number),
        assigned_client_id: fields.option(1, fields.text(0)),
        server_keep_alive_s: fields.option(2, fields.short),
        authentication_method: fields.option(3, fields.text(1)),
        authentication_data: fields.option(4, &fields.bytes),
        response_information: fields.option(5, fields.text(2)),
        server_reference: fields.option(6, fields.text(3)),
        reason_string: fields.option(7, fields.text(4)),
        topic_alias_maximum: fields.option(8, fields.short),
        receive_maximum: fields.option(9, id(fields.short)),
        maximum_qos: fields.option(10, Qos::from_bits(fields.qos & 1).unwrap()),
        retain_available: fields.option(11, fields.has(12)),
        maximum_packet_size: NonZeroU32::new(fields.number),
        wildcard_subscription_available: fields.option(13, fields.has(14)),
        subscription_ids_available: fields.option(15, fields.has(16)),
        shared_subscription_available: fields.option(17, fields.has(18)),
        user,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn publish_round_trips(fields in fields(), version in versions()) {
        let user: Vec<_> = fields.user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let ids: Vec<_> = fields.ids.iter().filter_map(|value| SubscriptionId::new(*value)).collect();
        let qos = fields.qos();
        let acknowledged = qos != Qos::AtMostOnce;
        let v5 = version == Version::V5;
        let properties = if v5 { publish_properties(&fields, &user, &ids) } else { PublishProperties::default() };
        let aliased = properties.topic_alias.is_some() && fields.has(20);
        let publish = Publish {
            dup: acknowledged && fields.has(21),
            qos,
            retain: fields.has(22),
            topic: if aliased { "" } else { &fields.topic },
            packet_id: acknowledged.then(|| id(fields.short)),
            properties,
            payload: &fields.bytes,
        };
        round_trip(Packet::Publish(publish), version, Peer::Server);
    }

    #[test]
    fn connect_round_trips(fields in fields(), version in versions()) {
        let user: Vec<_> = fields.user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let connect = connect(&fields, UserProperties::from_pairs(&user), version);
        let bytes = encoded(&Packet::Connect(connect), version);
        assert_eq!(receive(&bytes, version, Peer::Newcomer), Ok(Packet::Connect(connect)));
    }

    #[test]
    fn connack_round_trips(fields in fields(), version in versions()) {
        let user: Vec<_> = fields.user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let v5 = version == Version::V5;
        let accepted = fields.has(20);
        let properties = connack(&fields, UserProperties::from_pairs(&user));
        let packet = ConnAck {
            session_present: accepted && fields.has(21) && version != Version::V31,
            reason: if accepted { ReasonCode::Success } else { ReasonCode::NotAuthorized },
            properties: if v5 { properties } else { ConnAckProperties::default() },
        };
        round_trip(Packet::ConnAck(packet), version, Peer::Server);
    }

    #[test]
    fn acknowledgements_round_trip(fields in fields(), version in versions(), from_server in any::<bool>()) {
        let user: Vec<_> = fields.user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let user = UserProperties::from_pairs(&user);
        let v5 = version == Version::V5;
        let from = if from_server { Peer::Server } else { Peer::Client };
        let properties = AckProperties { reason_string: fields.option(0, fields.text(0)), user };
        let properties = if v5 { properties } else { AckProperties::default() };
        let ack = |failure| Ack {
            packet_id: id(fields.short),
            reason: if v5 && fields.has(1) { failure } else { ReasonCode::Success },
            properties,
        };
        round_trip(Packet::PubAck(ack(ReasonCode::QuotaExceeded)), version, from);
        round_trip(Packet::PubRec(ack(ReasonCode::NotAuthorized)), version, from);
        round_trip(Packet::PubRel(ack(ReasonCode::PacketIdentifierNotFound)), version, from);
        round_trip(Packet::PubComp(ack(ReasonCode::PacketIdentifierNotFound)), version, from);
        let codes = [0, 1, 2, 0x80];
        round_trip(Packet::SubAck(SubAck { packet_id: id(fields.short), properties, codes: &codes }), version, Peer::Server);
        let codes: &[u8] = if v5 { &[0, 0x11, 0x87] } else { &[] };
        round_trip(Packet::UnsubAck(UnsubAck { packet_id: id(fields.short), properties, codes }), version, Peer::Server);
        if from == Peer::Client {
            round_trip(Packet::PingReq, version, from);
        } else {
            round_trip(Packet::PingResp, version, from);
        }
    }

    #[test]
    fn subscribe_and_unsubscribe_round_trip(fields in fields(), version in versions()) {
        let user: Vec<_> = fields.user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let v5 = version == Version::V5;
        let user = if v5 { UserProperties::from_pairs(&user) } else { UserProperties::default() };
        let handling = [RetainHandling::AtSubscribe, RetainHandling::IfNew, RetainHandling::Never];
        let requests: Vec<_> = fields.filters.iter().map(|(filter, bits)| {
            let qos = Qos::from_bits(bits & 3).unwrap_or_default();
            let options = SubscriptionOptions {
                qos,
                no_local: bits & 4 != 0,
                retain_as_published: bits & 8 != 0,
                retain_handling: handling[usize::from(bits >> 4)],
            };
            let options = if v5 { options } else { SubscriptionOptions { qos, ..SubscriptionOptions::default() } };
            SubscriptionRequest { filter, options }
        }).collect();
        let subscription_id = SubscriptionId::new(fields.number % 268_435_455 + 1).filter(|_| v5 && fields.has(0));
        let subscribe = Subscribe {
            packet_id: id(fields.short),
            properties: SubscribeProperties { subscription_id, user },
            requests: Requests::from_slice(&requests),
        };
        round_trip(Packet::Subscribe(subscribe), version, Peer::Client);
        let filters: Vec<&str> = fields.filters.iter().map(|(filter, _)| filter.as_str()).collect();
        let unsubscribe = Unsubscribe {
            packet_id: id(fields.short),
            properties: UnsubscribeProperties { user },
            filters: Filters::from_slice(&filters),
        };
        round_trip(Packet::Unsubscribe(unsubscribe), version, Peer::Client);
    }

    #[test]
    fn disconnect_and_auth_round_trip(fields in fields(), from_server in any::<bool>()) {
        let user: Vec<_> = fields.user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let user = UserProperties::from_pairs(&user);
        let from = if from_server { Peer::Server } else { Peer::Client };
        let reason = if from_server { ReasonCode::SessionTakenOver } else { ReasonCode::DisconnectWithWill };
        let properties = DisconnectProperties {
            session_expiry_s: fields.option(0, fields.number).filter(|_| !from_server),
            reason_string: fields.option(1, fields.text(0)),
            server_reference: fields.option(2, fields.text(1)),
            user,
        };
        round_trip(Packet::Disconnect(Disconnect { reason, properties }), Version::V5, from);
        let properties = AuthProperties {
            authentication_method: Some(fields.text(2)),
            authentication_data: fields.option(3, &fields.bytes),
            reason_string: fields.option(4, fields.text(3)),
            user,
        };
        round_trip(Packet::Auth(Auth { reason: ReasonCode::ContinueAuthentication, properties }), Version::V5, from);
    }

    #[test]
    fn bit_flips_never_panic(fields in fields(), version in versions()) {
        let user: Vec<_> = fields.user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let user_properties = UserProperties::from_pairs(&user);
        let ids: Vec<_> = fields.ids.iter().filter_map(|value| SubscriptionId::new(*value)).collect();
        let publish = Publish {
            qos: Qos::AtLeastOnce,
            topic: &fields.topic,
            packet_id: Some(id(fields.short)),
            properties: publish_properties(&fields, &user, &ids),
            payload: b"payload",
            ..Publish::default()
        };
        let connect = connect(&fields, user_properties, version);
        let connack = ConnAck { properties: connack(&fields, user_properties), ..ConnAck::default() };
        let packets = [
            (Packet::Publish(publish), Peer::Server),
            (Packet::Connect(connect), Peer::Newcomer),
            (Packet::ConnAck(connack), Peer::Server),
        ];
        for (packet, from) in packets {
            let mut bytes = encoded(&packet, version);
            for bit in 0..bytes.len().min(200) * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                survive(&bytes, version, from);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        first in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..64), version in versions(), from in 0..3usize,
    ) {
        let mut bytes = vec![first, body.len() as u8];
        bytes.extend_from_slice(&body);
        survive(&bytes, version, [Peer::Newcomer, Peer::Client, Peer::Server][from]);
        survive(&body, version, Peer::Client);
    }
}
