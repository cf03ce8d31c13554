//! Encoded messages decode to the same: the WAMP messages that a router sends, and MQTT's answers with every reason code.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
use std::borrow::Cow;
use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use corsac::model::command::CancelMode;
use corsac::model::properties::Passthru;
use corsac::model::{
    Encoding, InvocationId, Payload, PublicationId, RegistrationId, RequestId, SessionId, SubscriptionId as Subscription,
};
use corsac::wire::mqtt::{
    self, Ack, AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Disconnect, DisconnectProperties, Packet,
    PacketType, Peer, Publish, PublishProperties, ReasonCode, SubAck, UnsubAck, UserProperties, Version,
};
use corsac::wire::wamp::options::*;
use corsac::wire::wamp::{Message, RequestKind, decode, encode};
use proptest::option::of;
use proptest::prelude::*;

/// Text as options hold it; never what JSON would take for binary.
fn text() -> BoxedStrategy<Box<str>> {
    prop_oneof!["[a-z.]{0,12}", "[^\0]{0,20}"].prop_map(Box::from).boxed()
}

fn uri() -> impl Strategy<Value = Cow<'static, str>> {
    text().prop_map(|text| Cow::Owned(text.into()))
}

fn number() -> impl Strategy<Value = u64> {
    1..=1_u64 << 53
}

fn mode() -> impl Strategy<Value = CancelMode> {
    prop_oneof![Just(CancelMode::Skip), Just(CancelMode::Kill), Just(CancelMode::KillNoWait)]
}

fn kind() -> impl Strategy<Value = RequestKind> {
    (0..8_usize).prop_map(|at| {
        let codes = [16, 32, 34, 48, 49, 64, 66, 68];
        RequestKind::new(codes[at]).unwrap()
    })
}

fn passthru() -> BoxedStrategy<Option<Box<Passthru>>> {
    let fields = (of(text()), of(text()), of(text()), of(text()));
    let passthru = fields.prop_map(|(scheme, serializer, cipher, keyid)| Passthru { scheme, serializer, cipher, keyid });
    // One without attributes cannot be told from none.
    passthru.prop_map(|passthru| Some(passthru).filter(|passthru| passthru.attributes().next().is_some()).map(Box::new)).boxed()
}

/// No arguments, arguments, or arguments and keywords.
fn payload(encoding: Encoding) -> impl Strategy<Value = Payload> {
    let (list, map): (&[u8], &[u8]) = match encoding {
        Encoding::Json => (br#"[1,"x",null]"#, br#"{"k":[true]}"#),
        Encoding::MsgPack => (b"\x93\x01\xa1x\xc0", b"\x81\xa1k\x91\xc3"),
        Encoding::Cbor => (b"\x83\x01\x61x\xf6", b"\xa1\x61k\x81\xf5"),
    };
    let (list, map) = (Bytes::copy_from_slice(list), Bytes::copy_from_slice(map));
    (0..3_u8).prop_map(move |parts| Payload::Args {
        encoding,
        args: if parts > 0 { list.clone() } else { Bytes::new() },
        kwargs: if parts > 1 { map.clone() } else { Bytes::new() },
    })
}

fn opening() -> BoxedStrategy<Message<'static>> {
    let features =
        any::<[Option<bool>; 4]>().prop_map(|[registration_meta_api, event_history, testament_meta_api, topic_reflection]| {
            Features { registration_meta_api, event_history, testament_meta_api, topic_reflection, ..Features::default() }
        });
    let role = features.prop_map(|features| Role { features: Some(Box::new(features)) });
    let roles = (of(role.clone()), of(role)).prop_map(|(broker, dealer)| Box::new(Roles { broker, dealer, ..Roles::default() }));
    let welcome = (number(), of(roles), of(text()), of(text()), of(text()), of(any::<bool>()), of(text())).prop_map(
        |(session, roles, realm, authid, authprovider, resumed, resume_token)| {
            let details =
                WelcomeDetails { roles, realm, authid, authprovider, resumed, resume_token, ..WelcomeDetails::default() };
            Message::Welcome { session: SessionId(session), details: Box::new(details) }
        },
    );
    let challenge = (uri(), of(text()), of(text()), of(any::<u32>()), of(any::<u32>()), of(text())).prop_map(
        |(method, challenge, salt, iterations, memory, nonce)| {
            let extra = ChallengeExtra { challenge, salt, iterations, memory, nonce, ..ChallengeExtra::default() };
            Message::Challenge { method, extra: Box::new(extra) }
        },
    );
    let authenticate = (uri(), of(text()), of(text()), of(text())).prop_map(|(signature, nonce, channel_binding, cbind_data)| {
        Message::Authenticate { signature, extra: Box::new(AuthenticateExtra { nonce, channel_binding, cbind_data }) }
    });
    prop_oneof![welcome, challenge, authenticate].boxed()
}

fn ending(encoding: Encoding) -> BoxedStrategy<Message<'static>> {
    let details = || (of(text()), of(any::<bool>())).prop_map(|(message, resumable)| CloseDetails { message, resumable });
    let error = (kind(), number(), of(text()), of(number()), passthru(), uri(), payload(encoding)).prop_map(
        |(kind, request, message, callee, passthru, error, payload)| {
            let details = ErrorDetails { message, callee: callee.map(SessionId), passthru, ..ErrorDetails::default() };
            Message::Error { kind, request: RequestId(request), details, error, payload }
        },
    );
    prop_oneof![
        (details(), uri(), payload(encoding)).prop_map(|(details, reason, payload)| Message::Abort { details, reason, payload }),
        (details(), uri()).prop_map(|(details, reason)| Message::Goodbye { details, reason }),
        error,
    ]
    .boxed()
}

fn answer() -> BoxedStrategy<Message<'static>> {
    let revoked = || (number(), of(text()));
    prop_oneof![
        (number(), number()).prop_map(|(a, b)| Message::Published { request: RequestId(a), publication: PublicationId(b) }),
        (number(), number()).prop_map(|(a, b)| Message::Subscribed { request: RequestId(a), subscription: Subscription(b) }),
        (number(), number()).prop_map(|(a, b)| Message::Unsubscribe { request: RequestId(a), subscription: Subscription(b) }),
        (number(), number()).prop_map(|(a, b)| Message::Registered { request: RequestId(a), registration: RegistrationId(b) }),
        (number(), number()).prop_map(|(a, b)| Message::Unregister { request: RequestId(a), registration: RegistrationId(b) }),
        number().prop_map(|id| Message::EventReceived { publication: PublicationId(id) }),
        number().prop_map(|id| Message::Unsubscribed { request: RequestId(id), details: None }),
        number().prop_map(|id| Message::Unregistered { request: RequestId(id), details: None }),
        revoked().prop_map(|(id, reason)| {
            let details = UnsubscribedDetails { subscription: Some(Subscription(id)), reason };
            Message::Unsubscribed { request: RequestId(0), details: Some(details) }
        }),
        revoked().prop_map(|(id, reason)| {
            let details = UnregisteredDetails { registration: Some(RegistrationId(id)), reason };
            Message::Unregistered { request: RequestId(0), details: Some(details) }
        }),
    ]
    .boxed()
}

fn call(encoding: Encoding) -> BoxedStrategy<Message<'static>> {
    let result = (number(), of(any::<bool>()), of(number()), of(text()), passthru(), payload(encoding)).prop_map(
        |(request, progress, callee, callee_authid, passthru, payload)| {
            let details =
                ResultDetails { progress, callee: callee.map(SessionId), callee_authid, passthru, ..ResultDetails::default() };
            Message::Result { request: RequestId(request), details, payload }
        },
    );
    let invocation = (number(), number(), of(text()), of(number()), of(any::<u64>()), passthru(), payload(encoding)).prop_map(
        |(invocation, registration, procedure, caller, timeout, passthru, payload)| {
            let caller = caller.map(SessionId);
            let details = InvocationDetails { procedure, caller, timeout, passthru, ..InvocationDetails::default() };
            let (invocation, registration) = (InvocationId(invocation), RegistrationId(registration));
            Message::Invocation { invocation, registration, details, payload }
        },
    );
    let interrupt = (number(), of(mode()), of(text())).prop_map(|(id, mode, reason)| Message::Interrupt {
        invocation: InvocationId(id),
        options: InterruptOptions { mode, reason },
    });
    let yielded = (number(), of(any::<bool>()), passthru(), payload(encoding)).prop_map(|(id, progress, passthru, payload)| {
        Message::Yield { invocation: InvocationId(id), options: YieldOptions { progress, passthru, mqtt: None }, payload }
    });
    prop_oneof![result, invocation, interrupt, yielded].boxed()
}

fn message(encoding: Encoding) -> BoxedStrategy<Message<'static>> {
    prop_oneof![opening(), ending(encoding), answer(), call(encoding)].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn messages_of_a_router_decode_to_what_was_encoded(
        (encoding, message) in prop_oneof![Just(Encoding::Json), Just(Encoding::MsgPack), Just(Encoding::Cbor)]
            .prop_flat_map(|encoding| message(encoding).prop_map(move |message| (encoding, message)))
    ) {
        let mut out = BytesMut::new();
        encode(&message, encoding, &mut out);
        let out = out.freeze();
        prop_assert_eq!(decode(&out, encoding), Ok(message));
    }
}

fn survives(packet: Packet<'_>, version: Version, from: Peer) {
    let mut out = BytesMut::new();
    packet.encode(version, &mut out).unwrap();
    assert_eq!(out.len(), packet.encoded_len(version));
    assert_eq!(mqtt::decode(&out, version, from), Ok(packet), "{version:?} {from:?}");
}

/// The packet of this type that carries `reason`, with and without properties.
fn answers<'a>(packet: PacketType, reason: ReasonCode, codes: &'a [u8], user: UserProperties<'a>) -> Option<Packet<'a>> {
    let packet_id = NonZeroU16::MAX;
    let properties = AckProperties { user, ..AckProperties::default() };
    let ack = Ack { packet_id, reason, properties };
    Some(match packet {
        PacketType::ConnAck => {
            let properties = ConnAckProperties { user, ..ConnAckProperties::default() };
            Packet::ConnAck(ConnAck { session_present: false, reason, properties })
        }
        PacketType::PubAck => Packet::PubAck(ack),
        PacketType::PubRec => Packet::PubRec(ack),
        PacketType::PubRel => Packet::PubRel(ack),
        PacketType::PubComp => Packet::PubComp(ack),
        PacketType::SubAck => Packet::SubAck(SubAck { packet_id, properties, codes }),
        PacketType::UnsubAck => Packet::UnsubAck(UnsubAck { packet_id, properties, codes }),
        PacketType::Disconnect => Packet::Disconnect(Disconnect {
            reason,
            properties: DisconnectProperties { user, ..DisconnectProperties::default() },
        }),
        PacketType::Auth => {
            let authentication_method = Some("method");
            Packet::Auth(Auth { reason, properties: AuthProperties { authentication_method, user, ..AuthProperties::default() } })
        }
        _ => return None,
    })
}

#[test]
fn every_answer_of_version_5_survives_with_every_reason_code_it_may_carry() {
    let mut survived = 0;
    for (first, byte) in (1..=15_u8).flat_map(|packet| (0..=255).map(move |byte| (packet << 4, byte))) {
        let packet = PacketType::from_first_byte(first).unwrap();
        let Some(reason) = ReasonCode::from_byte(byte) else { continue };
        for from in [Peer::Client, Peer::Server] {
            let is_answer = matches!(packet, PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck);
            if !reason.is_legal_in(packet, Version::V5, from) || (is_answer && from == Peer::Client) {
                continue;
            }
            for user in [&[][..], &[("name", "value")]] {
                let codes = [byte];
                let Some(packet) = answers(packet, reason, &codes, UserProperties::from_pairs(user)) else { continue };
                survives(packet, Version::V5, from);
                survived += 1;
            }
        }
    }
    // Rows of the tables: CONNACK 22, PUBACK and PUBREC 9, PUBREL and PUBCOMP 2, SUBACK 12, UNSUBACK 7, DISCONNECT 29 and 14, AUTH 2.
    let rows = 22 + 2 * (9 + 9 + 2 + 2) + 12 + 7 + 29 + 14 + 2 * 2;
    assert_eq!(survived, 2 * rows);
}

#[test]
fn what_is_left_of_versions_3_survives() {
    for version in [Version::V31, Version::V311] {
        survives(Packet::Disconnect(Disconnect::default()), version, Peer::Client);
        for codes in [&[0][..], &[1], &[2, 0x80]] {
            survives(
                Packet::SubAck(SubAck { packet_id: NonZeroU16::MIN, properties: AckProperties::default(), codes }),
                version,
                Peer::Server,
            );
        }
        for reason in (0..=5).filter_map(ReasonCode::from_connack_return_code) {
            let properties = ConnAckProperties::default();
            survives(Packet::ConnAck(ConnAck { session_present: false, reason, properties }), version, Peer::Server);
        }
    }
}

#[test]
fn publications_of_clients_survive() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let user = [("a", "b"), ("a", "b")];
        let full = PublishProperties {
            response_topic: Some("$reply/x"),
            correlation_data: Some(b"\0"),
            user: UserProperties::from_pairs(&user),
            ..PublishProperties::default()
        };
        let properties = if version == Version::V5 { full } else { PublishProperties::default() };
        for (qos, packet_id) in [(mqtt::Qos::AtMostOnce, None), (mqtt::Qos::ExactlyOnce, Some(NonZeroU16::MIN))] {
            let dup = packet_id.is_some();
            let publish = Publish { dup, qos, retain: true, topic: "a//b", packet_id, properties, payload: b"\xff" };
            survives(Packet::Publish(publish), version, Peer::Client);
        }
    }
}
