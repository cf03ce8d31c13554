//! Bytes and deliveries in any order into the MQTT gate: what it sends are packets that its client can read and has allowed.
#![no_main]

use std::num::{NonZeroU16, NonZeroU32};

use bytes::BytesMut;
use corsac::gate::Gate;
use corsac::model::{Delivery, Payload};
use corsac::wire::mqtt::{Connect, ConnectProperties, Packet, Version};
use corsac_fuzz::choice::{Choice, NOW_MS};
use corsac_fuzz::gates::{Connection, Opening, origin, settings};
use corsac_fuzz::mqtt::{Receiver, VERSIONS, client_packets};
use libfuzzer_sys::arbitrary::Unstructured;

corsac_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let choice = &mut Choice(&mut bytes);
    let version = choice.pick(&VERSIONS);
    let max_packet_bytes = if choice.flag() { u32::MAX } else { 1 + choice.below(120) as u32 };
    let alias_maximum = choice.below(6) as u16;
    let connect = connect(choice, version, max_packet_bytes, alias_maximum);
    let has_bounds = version == Version::V5;
    let mut receiver =
        Receiver::new(version, if has_bounds { max_packet_bytes as usize } else { usize::MAX }, alias_maximum.min(3));
    let settings = settings(choice.below(8) as u8);
    let opening = if choice.below(16) == 0 { Opening::Refused(choice.rejection()) } else { Opening::Granted };
    let mut connection = Connection::new(Gate::mqtt(settings, origin(), NOW_MS), opening);
    connection.receive(&connect);
    let packets = client_packets(version);
    while choice.has_more() {
        step(choice, &mut connection, &mut receiver, &packets);
    }
    connection.end();
}

fn connect(choice: &mut Choice<'_, '_>, version: Version, max_packet_bytes: u32, alias_maximum: u16) -> Vec<u8> {
    let properties = ConnectProperties {
        session_expiry_s: choice.maybe(Choice::number),
        receive_maximum: choice.maybe(|choice| NonZeroU16::MIN.saturating_add(choice.below(9) as u16)),
        maximum_packet_size: NonZeroU32::new(max_packet_bytes).filter(|bytes| bytes.get() < u32::MAX),
        topic_alias_maximum: Some(alias_maximum),
        request_problem_information: choice.maybe(Choice::flag),
        ..ConnectProperties::default()
    };
    let connect = Connect {
        version,
        is_bridge: choice.flag(),
        clean_start: choice.flag(),
        keep_alive_s: choice.below(3) as u16,
        properties: if version == Version::V5 { properties } else { ConnectProperties::default() },
        client_id: choice.pick(&["c", ""]),
        will: None,
        username: None,
        password: None,
    };
    let mut out = BytesMut::new();
    Packet::Connect(connect).encode(version, &mut out).expect("a sound packet");
    out.to_vec()
}

fn step(choice: &mut Choice<'_, '_>, connection: &mut Connection, receiver: &mut Receiver, packets: &[Vec<u8>]) {
    let expected = match choice.below(10) {
        0 => return connection.wait(choice.pick(&[0, 1, 1_500, 3_000, 30_000])),
        1 => return connection.drop(choice.below(3) as u64),
        2 => {
            connection.receive(&choice.pick(packets));
            None
        }
        3 => {
            connection.receive(&choice.bytes());
            None
        }
        4 if choice.below(16) == 0 => {
            connection.end();
            None
        }
        _ => {
            let delivery = choice.delivery();
            let expected = expected(&delivery);
            connection.deliver(delivery);
            expected
        }
    };
    let sent = std::mem::take(&mut connection.bytes);
    for (topic, payload) in receiver.read(&sent) {
        let (expected_topic, expected_payload) = expected.as_ref().expect("publications come from events alone");
        assert_eq!(&topic, expected_topic);
        assert!(expected_payload.as_ref().is_none_or(|expected| *expected == payload));
    }
}

fn expected(delivery: &Delivery) -> Option<(String, Option<Vec<u8>>)> {
    let Delivery::Event(event) = delivery else { return None };
    let is_answer = event.publication.properties.as_ref().is_some_and(|properties| properties.outcome.is_some());
    let payload = match &event.publication.payload {
        Payload::Bytes(bytes) if !is_answer => Some(bytes.to_vec()),
        _ => None,
    };
    Some((event.publication.topic.as_mqtt().to_owned(), payload))
}

fn seeds() -> Vec<Vec<u8>> {
    corsac_fuzz::noise()
}
