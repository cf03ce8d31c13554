//! The codec as a whole: tables of bytes and the answers they get.

mod round_trips;

use std::num::NonZeroU16;

use bytes::BytesMut;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Splits and decodes as a connection would.
fn receive(bytes: &[u8], version: Version, from: Peer) -> Result<Packet<'_>, Error> {
    match frame(bytes, 65_536, version, from)? {
        Frame::Complete { length } => decode(&bytes[..length], version, from),
        Frame::Incomplete { .. } => Err(Error::Truncated),
    }
}

fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = BytesMut::new();
    packet.encode(version, &mut out).unwrap();
    assert_eq!(out.len(), packet.encoded_len(version), "{packet:?}");
    out.to_vec()
}

fn id(value: u16) -> NonZeroU16 {
    NonZeroU16::new(value).unwrap()
}

/// Hex of a packet that must be refused, why, and with which reason code.
type Refusals = &'static [(&'static str, Error, u8)];

fn check_refusals(version: Version, from: Peer, cases: Refusals) {
    for (text, error, reason) in cases {
        let bytes = hex(text);
        assert_eq!(receive(&bytes, version, from), Err(*error), "{text}");
        assert_eq!(error.reason().byte(), *reason, "{text}");
    }
}

const VERSION_5_REFUSALS: Refusals = &[
    ("20 02 00 00", Error::WrongDirection(PacketType::ConnAck), 0x82),
    ("B0 04 00 01 00 00", Error::WrongDirection(PacketType::UnsubAck), 0x82),
    ("B1 03 00 01 00", Error::FixedHeaderFlags(PacketType::UnsubAck), 0x81),
    ("D0 00", Error::WrongDirection(PacketType::PingResp), 0x82),
    ("00 00", Error::ReservedPacketType, 0x82),
    ("C0 01 00", Error::PingNotEmpty, 0x81),
    ("D0 01 00", Error::WrongDirection(PacketType::PingResp), 0x82),
    ("D1 00", Error::FixedHeaderFlags(PacketType::PingResp), 0x81),
    ("21 00", Error::WrongDirection(PacketType::ConnAck), 0x82),
    ("A2 06 0000 00 0001 70", Error::PacketIdZero(PacketType::Unsubscribe), 0x81),
    ("C1 00", Error::FixedHeaderFlags(PacketType::PingReq), 0x81),
    ("30 FF FF FF 7F", Error::TooLarge, 0x95),
    ("30 80 80 80 80 01", Error::RemainingLength, 0x81),
    // SUBSCRIBE
    ("82 05 00 01 00 00 00", Error::FilterEmpty, 0x81),
    ("82 03 12 34 00", Error::NoFilter, 0x81),
    ("82 07 00 00 00 0001 70 00", Error::PacketIdZero(PacketType::Subscribe), 0x81),
    ("82 07 12 34 00 0001 70 03", Error::SubscriptionOptions, 0x81),
    ("82 07 12 34 00 0001 70 30", Error::SubscriptionOptions, 0x81),
    ("82 07 12 34 00 0001 70 40", Error::SubscriptionOptions, 0x81),
    ("82 08 12 34 00 0001 70 00 00", Error::Truncated, 0x81),
    ("82 08 12 34 00 0002 61 23 00", Error::FilterSyntax, 0x81),
    ("82 0F 12 34 00 0009 2473686172652F702F 00", Error::SharedFilter, 0x82),
    ("82 0E 12 34 00 0008 2473686172652F70 00", Error::SharedFilter, 0x82),
    ("82 10 12 34 00 000A 2473686172652F702F70 04", Error::SharedNoLocal, 0x82),
    ("82 09 00 01 02 0B00 0001 70 00", Error::SubscriptionIdZero, 0x82),
    ("82 0B 00 01 04 0B01 0B01 0001 70 00", Error::PropertyDuplicate, 0x82),
    ("82 09 00 01 02 0100 0001 70 00", Error::PropertyNotAllowed(PacketType::Subscribe), 0x81),
    ("A2 03 12 34 00", Error::NoFilter, 0x81),
    // PUBLISH
    ("30 03 0000 00", Error::TopicEmpty, 0x81),
    ("30 06 0003 61 2F 23 00", Error::TopicWildcard, 0x81),
    ("30 04 0001 2B 00", Error::TopicWildcard, 0x81),
    ("36 06 0001 61 0001 00", Error::Qos3, 0x81),
    ("38 04 0001 61 00", Error::DupWithoutQos, 0x81),
    ("32 06 0001 61 0000 00", Error::PacketIdZero(PacketType::Publish), 0x82),
    ("30 05 0002 C0 80 00", Error::Utf8, 0x81),
    ("30 06 0003 ED A0 80 00", Error::Utf8, 0x81),
    ("30 04 0001 00 00", Error::NullCharacter, 0x81),
    ("30 07 0001 61 03 230000", Error::TopicAliasZero, 0x94),
    ("30 0A 0001 61 06 230001 230001", Error::PropertyDuplicate, 0x82),
    ("30 06 0001 61 02 0102", Error::PropertyValue, 0x82),
    ("30 08 0001 61 04 0800 0123", Error::ResponseTopic, 0x82),
    ("30 07 0001 61 03 080000", Error::ResponseTopic, 0x82),
    ("30 06 0001 61 02 0B00", Error::PropertyValue, 0x82),
    ("30 07 0001 61 03 0B8000", Error::VariableByteInteger, 0x81),
    ("30 06 0001 61 02 0B01", Error::PropertyNotAllowed(PacketType::Publish), 0x82),
    ("30 05 0001 61 01 01", Error::PropertyTruncated, 0x81),
    ("30 06 0001 61 02 0400", Error::PropertyUnknown, 0x81),
    ("30 06 0001 61 02 1700", Error::PropertyNotAllowed(PacketType::Publish), 0x82),
    // A block that cannot be read is malformed, whatever else is wrong with it.
    ("30 08 0001 61 04 1700 7001", Error::PropertyUnknown, 0x81),
    ("30 05 0001 61 01 17", Error::PropertyTruncated, 0x81),
    ("30 05 0001 61 02 17", Error::PropertyTruncated, 0x81),
    // acknowledgements
    ("40 02 0000", Error::PacketIdZero(PacketType::PubAck), 0x82),
    ("40 00", Error::Truncated, 0x81),
    ("40 03 0001 FF", Error::ReasonCode(PacketType::PubAck), 0x82),
    ("40 05 0001 00 00 00", Error::TrailingBytes, 0x81),
    ("62 03 0001 10", Error::ReasonCode(PacketType::PubRel), 0x82),
    ("60 02 0001", Error::FixedHeaderFlags(PacketType::PubRel), 0x81),
    // DISCONNECT and AUTH
    ("E0 01 8B", Error::ReasonCode(PacketType::Disconnect), 0x82),
    ("E0 03 00 01 11", Error::PropertyTruncated, 0x81),
    ("F0 00", Error::ReasonCode(PacketType::Auth), 0x82),
    ("F0 02 18 00", Error::AuthenticationMethodMissing, 0x82),
];

#[test]
fn version_5_refuses_what_the_standard_forbids() {
    check_refusals(Version::V5, Peer::Client, VERSION_5_REFUSALS);
}

const VERSION_3_1_1_REFUSALS: Refusals = &[
    ("30 02 00 00", Error::TopicEmpty, 0x81),
    ("30 05 0003 61 2F 23", Error::TopicWildcard, 0x81),
    ("F0 00", Error::ReservedPacketType, 0x82),
    ("82 06 12 34 0001 70 04", Error::SubscriptionOptions, 0x81),
    ("82 05 12 34 0001 70", Error::Truncated, 0x81),
    ("8A 06 12 34 0001 70 00", Error::FixedHeaderFlags(PacketType::Subscribe), 0x81),
    ("40 03 0001 00", Error::TrailingBytes, 0x81),
    ("E0 01 00", Error::TrailingBytes, 0x81),
    ("10 0D 0004 4D515454 04 02 000A 0001 70", Error::SecondConnect, 0x82),
];

#[test]
fn version_3_1_1_refuses_what_the_standard_forbids() {
    check_refusals(Version::V311, Peer::Client, VERSION_3_1_1_REFUSALS);
}

const CONNECT_REFUSALS: Refusals = &[
    ("20 02 00 00", Error::ConnectExpected, 0x82),
    ("30 FF FF FF 7F", Error::ConnectExpected, 0x82),
    ("10 80 80 80 80 01", Error::RemainingLength, 0x81),
    ("10 0F 0006 4D5149736470 02 00 000A 0001 70", Error::UnsupportedVersion(2), 0x84),
    ("10 0D 0004 4D515454 06 02 000A 0001 70", Error::UnsupportedVersion(6), 0x84),
    ("10 0D 0004 4D515454 86 02 000A 0001 70", Error::UnsupportedVersion(6), 0x84),
    ("10 0D 0004 4D515454 83 02 000A 0001 70", Error::UnsupportedVersion(3), 0x84),
    ("10 0C 0003 4D5154 04 02 000A 0001 70", Error::ProtocolName, 0x84),
    ("14 0D 0004 4D515454 04 02 000A 0001 70", Error::FixedHeaderFlags(PacketType::Connect), 0x81),
    ("10 0D 0004 4D515454 04 03 000A 0001 70", Error::ConnectFlags, 0x81),
    ("10 0D 0004 4D515454 04 0A 000A 0001 70", Error::WillFlags, 0x81),
    ("10 0D 0004 4D515454 04 22 000A 0001 70", Error::WillFlags, 0x81),
    ("10 13 0004 4D515454 04 1E 000A 0001 70 0001 70 0001 70", Error::WillFlags, 0x81),
    ("10 10 0004 4D515454 04 42 000A 0001 70 0001 70", Error::PasswordWithoutUsername, 0x81),
    ("10 10 0004 4D515454 04 02 000A 0001 70 0001 70", Error::TrailingBytes, 0x81),
    ("10 0A 0004 4D515454 04 02 000A", Error::Truncated, 0x81),
    ("10 11 0004 4D515454 04 02 000A 0005 746F700000", Error::NullCharacter, 0x81),
    ("10 13 0004 4D515454 04 06 000A 0001 70 0001 2B 0001 70", Error::TopicWildcard, 0x81),
    ("10 8E 00 0004 4D515454 05 02 000A 00 0001 70", Error::RemainingLength, 0x81),
    ("10 11 0004 4D515454 05 02 000A 03 210000 0001 70", Error::PropertyValue, 0x82),
    ("10 13 0004 4D515454 05 02 000A 05 2700000000 0001 70", Error::PropertyValue, 0x82),
    ("10 12 0004 4D515454 05 02 000A 04 16000161 0001 70", Error::AuthenticationDataWithoutMethod, 0x82),
    ("10 10 0004 4D515454 05 02 000A 02 1902 0001 70", Error::PropertyValue, 0x82),
    ("10 10 0004 4D515454 05 02 000A 02 0100 0001 70", Error::PropertyNotAllowed(PacketType::Connect), 0x82),
];

#[test]
fn connect_refusals() {
    check_refusals(Version::V311, Peer::Newcomer, CONNECT_REFUSALS);
}

#[test]
fn connect_names_its_version() {
    for (text, version) in [
        ("10 0F 0006 4D5149736470 03 02 000A 0001 70", Version::V31),
        ("14 0F 0006 4D5149736470 03 01 000A 0001 70", Version::V31),
        ("10 0D 0004 4D515454 04 02 000A 0001 70", Version::V311),
        ("10 0E 0004 4D515454 05 02 000A 00 0001 70", Version::V5),
    ] {
        let bytes = hex(text);
        let Ok(Packet::Connect(connect)) = receive(&bytes, Version::V5, Peer::Newcomer) else { panic!("{text}") };
        assert_eq!((connect.version, connect.client_id, connect.keep_alive_s), (version, "p", 10));
    }
}

#[test]
fn version_3_1_lets_the_length_overrule_the_credential_flags() {
    let bytes = hex("10 0F 0006 4D5149736470 03 C2 000A 0001 70");
    let Ok(Packet::Connect(connect)) = receive(&bytes, Version::V31, Peer::Newcomer) else { panic!() };
    assert_eq!((connect.username, connect.password), (None, None));
    let bytes = hex("10 0D 0004 4D515454 04 C2 000A 0001 70");
    assert_eq!(receive(&bytes, Version::V311, Peer::Newcomer), Err(Error::Truncated));
}

#[test]
fn a_refused_connect_still_names_its_version() {
    let bytes = hex("10 11 0004 4D515454 05 02 000A 03 210000 0001 70");
    assert!(receive(&bytes, Version::V311, Peer::Newcomer).is_err());
    assert_eq!(connect_version(&bytes), Some(Version::V5));
    assert_eq!(connect_version(&hex("10 03 0001 61")), None);
    assert_eq!(connect_version(&hex("30 07 0004 4D515454 05")), None);
}

#[test]
fn version_5_takes_a_password_alone() {
    let bytes = hex("10 11 0004 4D515454 05 42 000A 00 0001 70 0001 00");
    let Ok(Packet::Connect(connect)) = receive(&bytes, Version::V5, Peer::Newcomer) else { panic!() };
    assert_eq!((connect.username, connect.password), (None, Some(&[0u8][..])));
}

#[test]
fn malformed_shared_filters_are_plain_before_version_5() {
    let bytes = hex("82 0D 12 34 0008 2473686172652F70 00");
    assert!(receive(&bytes, Version::V311, Peer::Client).is_ok());
}

#[test]
fn an_alias_stands_for_the_topic() {
    let bytes = hex("30 06 0000 03 230001");
    let Ok(Packet::Publish(publish)) = receive(&bytes, Version::V5, Peer::Client) else { panic!() };
    assert_eq!((publish.topic, publish.properties.topic_alias), ("", NonZeroU16::new(1)));
}

#[test]
fn a_server_sends_many_subscription_ids() {
    let bytes = hex("30 0A 0001 61 06 0B01 0B02 0B01");
    let Ok(Packet::Publish(publish)) = receive(&bytes, Version::V5, Peer::Server) else { panic!() };
    let ids: Vec<u32> = publish.properties.subscription_ids.iter().map(SubscriptionId::value).collect();
    assert_eq!(ids, [1, 2, 1]);
}

#[test]
fn the_payload_format_is_checked_on_demand() {
    let bytes = hex("30 07 0001 61 02 0101 FF");
    let Ok(Packet::Publish(publish)) = receive(&bytes, Version::V5, Peer::Client) else { panic!() };
    assert_eq!(publish.check_payload_format(), Err(Error::PayloadFormat));
    assert_eq!(Error::PayloadFormat.reason(), ReasonCode::PayloadFormatInvalid);
    let text = Publish { payload: "ü".as_bytes(), ..publish };
    assert_eq!(text.check_payload_format(), Ok(()));
}

#[test]
fn discouraged_characters_are_refused_where_asked() {
    let bytes = hex("30 06 0003 61 01 62 00");
    assert!(decode(&bytes, Version::V5, Peer::Client).is_ok());
    let strict = decode_with(&bytes, Version::V5, Peer::Client, Characters::Strict);
    assert_eq!(strict, Err(Error::DiscouragedCharacter));
    assert_eq!(Error::DiscouragedCharacter.reason(), ReasonCode::MalformedPacket);
}

#[test]
fn answers_are_as_short_as_they_can_be() {
    let ack = Ack::new(id(0x1234), ReasonCode::Success);
    assert_eq!(encoded(&Packet::PubAck(ack), Version::V5), hex("40 02 1234"));
    let ack = Ack::new(id(0x1234), ReasonCode::NoMatchingSubscribers);
    assert_eq!(encoded(&Packet::PubAck(ack), Version::V5), hex("40 03 1234 10"));
    assert_eq!(encoded(&Packet::PubAck(ack), Version::V311), hex("40 02 1234"));
    let disconnect = |reason| Packet::Disconnect(Disconnect { reason, ..Disconnect::default() });
    assert_eq!(encoded(&disconnect(ReasonCode::NORMAL_DISCONNECTION), Version::V5), hex("E0 00"));
    assert_eq!(encoded(&disconnect(ReasonCode::ProtocolError), Version::V5), hex("E0 01 82"));
    assert_eq!(encoded(&disconnect(ReasonCode::ProtocolError), Version::V311), hex("E0 00"));
    let codes = [0, 1, 0x87];
    let suback = Packet::SubAck(SubAck { packet_id: id(1), properties: AckProperties::default(), codes: &codes });
    assert_eq!(encoded(&suback, Version::V311), hex("90 05 0001 00 01 80"));
    assert_eq!(encoded(&suback, Version::V5), hex("90 06 0001 00 00 01 87"));
}

/// [MQTT-3.2.2-1], [MQTT-3.2.2-6]
#[test]
fn connack_is_written_in_the_expected_order() {
    let properties =
        ConnAckProperties { topic_alias_maximum: Some(10), receive_maximum: NonZeroU16::new(20), ..ConnAckProperties::default() };
    let connack = Packet::ConnAck(ConnAck { properties, ..ConnAck::default() });
    assert_eq!(encoded(&connack, Version::V5), hex("20 09 00 00 06 22000A 210014"));
    assert_eq!(encoded(&connack, Version::V311), hex("20 02 00 00"));
    let refused = ConnAck { session_present: true, reason: ReasonCode::ClientIdentifierNotValid, ..ConnAck::default() };
    assert_eq!(encoded(&Packet::ConnAck(refused), Version::V311), hex("20 02 00 02"));
}

#[test]
fn acknowledgements_have_a_short_cut() {
    for version in [Version::V31, Version::V311, Version::V5] {
        for reason in [ReasonCode::Success, ReasonCode::PacketIdentifierNotFound] {
            let ack = Ack::new(id(7), reason);
            let packets = [Packet::PubAck(ack), Packet::PubRec(ack), Packet::PubRel(ack), Packet::PubComp(ack)];
            for packet in packets {
                let mut out = BytesMut::new();
                encode_ack(packet.packet_type(), id(7), reason, version, &mut out).unwrap();
                assert_eq!(out, encoded(&packet, version));
            }
        }
    }
    let mut out = BytesMut::new();
    let refused = encode_ack(PacketType::SubAck, id(7), ReasonCode::Success, Version::V5, &mut out);
    assert_eq!(refused, Err(Error::NotInVersion(PacketType::SubAck)));
}

#[test]
fn a_publish_head_can_be_patched() {
    let publish = Publish { qos: Qos::AtLeastOnce, packet_id: Some(id(1)), topic: "a/b", ..Publish::default() };
    let mut out = BytesMut::from(&b"before"[..]);
    let head = publish.encode_head(Version::V5, 3, &mut out).unwrap();
    assert_eq!((head.start, head.length, head.packet_id_at), (6, 10, Some(13)));
    out[head.start] |= 0x08;
    let at = head.packet_id_at.unwrap();
    out[at..at + 2].copy_from_slice(&0x0203u16.to_be_bytes());
    out.extend_from_slice(b"xyz");
    let expected = Publish { dup: true, packet_id: Some(id(0x0203)), payload: b"xyz", ..publish };
    assert_eq!(decode(&out[6..], Version::V5, Peer::Server), Ok(Packet::Publish(expected)));
    assert_eq!(out.len() - 6, publish.encoded_len(Version::V5, 3));
    let within = |max, out: &mut BytesMut| publish.encode_head_within(Version::V5, 3, max, out).map(|head| head.length);
    assert_eq!((within(13, &mut out), within(12, &mut out)), (Ok(10), Err(Error::TooLarge)));
}

#[test]
fn failures_leave_the_buffer_alone() {
    let long = "x".repeat(65_536);
    let mut out = BytesMut::from(&b"kept"[..]);
    let publish = Packet::Publish(Publish { topic: &long, ..Publish::default() });
    assert_eq!(publish.encode(Version::V5, &mut out), Err(Error::FieldTooLong));
    let no_id = Packet::Publish(Publish { qos: Qos::AtLeastOnce, topic: "a", ..Publish::default() });
    assert_eq!(no_id.encode(Version::V5, &mut out), Err(Error::PacketIdMismatch));
    let auth = Packet::Auth(Auth::default());
    assert_eq!(auth.encode(Version::V311, &mut out), Err(Error::NotInVersion(PacketType::Auth)));
    let nothing = Requests::from_slice(&[]);
    let subscribe = Subscribe { packet_id: id(1), properties: SubscribeProperties::default(), requests: nothing };
    assert_eq!(Packet::Subscribe(subscribe).encode(Version::V5, &mut out), Err(Error::NoFilter));
    let publish = Publish { topic: "a", ..Publish::default() };
    assert_eq!(publish.encode_head(Version::V5, 268_435_455, &mut out), Err(Error::TooLarge));
    assert_eq!(publish.encode_head_within(Version::V5, 3, 8, &mut out), Err(Error::TooLarge));
    assert_eq!(&out[..], b"kept");
}

/// [MQTT-3.2.2-19], [MQTT-3.4.2-2], [MQTT-3.5.2-2], [MQTT-3.9.2-1], [MQTT-3.14.2-3]
#[test]
fn diagnostics_give_way_to_the_maximum_packet_size() {
    let user = [("name", "value")];
    let properties = AckProperties { reason_string: Some("no room left"), user: UserProperties::from_pairs(&user) };
    let packet = Packet::PubAck(Ack { packet_id: id(1), reason: ReasonCode::QuotaExceeded, properties });
    let mut out = BytesMut::new();
    packet.encode_within(Version::V5, 100, &mut out).unwrap();
    assert_eq!(out, encoded(&packet, Version::V5));
    out.clear();
    packet.encode_within(Version::V5, 5, &mut out).unwrap();
    assert_eq!(&out[..], hex("40 03 0001 97"));
    out.clear();
    assert_eq!(packet.encode_within(Version::V5, 4, &mut out), Err(Error::TooLarge));
    assert!(out.is_empty());
}
