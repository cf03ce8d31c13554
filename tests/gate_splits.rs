//! A client's stream comes to the same commands, bytes and end wherever the network cuts it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#[path = "support/gate.rs"]
mod gate;

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use corsac::gate::{Arrived, Gate, Origin, Output};
use corsac::model::{Command, Delivery, Encoding, Limits, SessionId};
use corsac::wire::mqtt::{
    Ack, AckProperties, Connect, ConnectProperties, Disconnect, DisconnectProperties, Filters, Packet, Publish,
    PublishProperties, Qos, ReasonCode, Requests, Subscribe, SubscribeProperties, SubscriptionOptions, SubscriptionRequest,
    Unsubscribe, UnsubscribeProperties, UserProperties, Version, Will, WillProperties,
};
use corsac::wire::wamp::rawsocket::{FrameHead, FrameKind, Handshake};
use corsac::wire::wamp::{decode, encode};
use gate::settings;
use proptest::prelude::*;
use proptest::sample::subsequence;

const NOW_MS: u64 = 1_700_000_000_000;

fn origin() -> Origin {
    Origin { peer: "127.0.0.1:1".into(), transport: "tcp", random: [1 << 40, 2] }
}

/// Everything that a gate has said, commands written out and those of acknowledgements step by step: one read is one batch.
#[derive(PartialEq, Debug, Default)]
struct Said {
    commands: Vec<String>,
    bytes: BytesMut,
    realm: Option<Box<str>>,
    is_closed: bool,
}

impl Said {
    /// True if a session is to be opened.
    fn add(&mut self, output: Output) -> bool {
        for command in &output.commands {
            match command {
                Command::Acknowledge(steps) => self.commands.extend(steps.iter().map(|step| format!("{step:?}"))),
                command => self.commands.push(format!("{command:?}")),
            }
        }
        self.bytes.extend_from_slice(&output.bytes);
        self.realm = output.realm.or(self.realm.take());
        self.is_closed |= output.close;
        matches!(output.commands.first(), Some(Command::Open(_)))
    }
}

/// The pieces into the gate, as a socket would bring them, lent or to be kept; opening is granted at once.
fn hear<'a>(mut gate: Gate, is_shared: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> Said {
    let (mut said, mut unused) = (Said::default(), Vec::new());
    for piece in pieces {
        unused.extend_from_slice(piece);
        loop {
            let mut output = Output::default();
            let used = match is_shared {
                true => gate.handle_bytes(Arrived::Shared(&unused.clone().into()), NOW_MS, &mut output),
                false => gate.handle_bytes(&unused[..], NOW_MS, &mut output),
            }
            .bytes;
            unused.drain(..used);
            if !said.add(output) {
                break;
            }
            let mut output = Output::default();
            let opened = Delivery::Opened { session: SessionId(7), session_present: false };
            gate.handle_delivery(opened, NOW_MS, &mut output);
            said.add(output);
        }
    }
    assert!(unused.is_empty(), "a whole stream leaves nothing");
    said
}

/// Cut once at every boundary, cut everywhere, and cut at these places.
fn check_splits(gate: impl Fn() -> Gate, stream: &[u8], cuts: &[usize]) -> Said {
    let whole = hear(gate(), false, [stream]);
    assert_eq!(hear(gate(), true, [stream]), whole, "kept where it is");
    assert_eq!(hear(gate(), false, stream.chunks(1)), whole, "byte by byte");
    for at in 0..=stream.len() {
        let (first, second) = stream.split_at(at);
        assert_eq!(hear(gate(), at % 2 == 0, [first, second]), whole, "cut at {at}");
    }
    let mut pieces = Vec::new();
    let mut rest = stream;
    for cut in cuts {
        let (piece, behind) = rest.split_at(*cut.min(&rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    assert_eq!(hear(gate(), true, pieces), whole, "cut into {cuts:?}");
    whole
}

fn id(value: u16) -> NonZeroU16 {
    NonZeroU16::new(value).unwrap()
}

fn add(packet: Packet<'_>, version: Version, stream: &mut Vec<u8>) {
    let mut out = BytesMut::new();
    packet.encode(version, &mut out).unwrap();
    stream.extend_from_slice(&out);
}

fn connect(version: Version, is_full: bool) -> Vec<u8> {
    let user = [("name", "value")];
    let properties = ConnectProperties {
        session_expiry_s: Some(60),
        maximum_packet_size: NonZeroU32::new(1_000),
        topic_alias_maximum: Some(3),
        request_response_information: Some(true),
        user: UserProperties::from_pairs(&user),
        ..ConnectProperties::default()
    };
    let will =
        Will { qos: Qos::AtLeastOnce, retain: true, topic: "a/will", payload: b"x", properties: WillProperties::default() };
    let connect = Connect {
        version,
        is_bridge: is_full,
        clean_start: true,
        keep_alive_s: 60,
        properties: if version == Version::V5 && is_full { properties } else { ConnectProperties::default() },
        client_id: "client",
        will: is_full.then_some(will),
        username: is_full.then_some("joe@factory"),
        password: is_full.then_some(b"secret"),
    };
    let mut stream = Vec::new();
    add(Packet::Connect(connect), version, &mut stream);
    stream
}

/// One packet of each kind that an open client may send, the last one DISCONNECT; `payload` in the publications.
fn packets(version: Version, payload: &[u8]) -> Vec<Vec<u8>> {
    let is_v5 = version == Version::V5;
    let user = [("a", "b"), ("a", "c")];
    let alias = is_v5.then(|| id(2));
    let full = PublishProperties { topic_alias: alias, user: UserProperties::from_pairs(&user), ..PublishProperties::default() };
    let full = if is_v5 { full } else { PublishProperties::default() };
    let publish = Publish { topic: "a/b", payload, ..Publish::default() };
    let aliased = Publish { topic: if is_v5 { "" } else { "a/b" }, properties: full, ..publish };
    let options = SubscriptionOptions { qos: Qos::ExactlyOnce, ..SubscriptionOptions::default() };
    let requests = ["a/+/#", "$share/g/b", "$callee/com/add"].map(|filter| SubscriptionRequest { filter, options });
    let requests = Requests::from_slice(&requests);
    let ack = Ack { packet_id: id(9), reason: ReasonCode::Success, properties: AckProperties::default() };
    let properties = UnsubscribeProperties::default();
    let filters = Filters::from_slice(&["a/+/#", "b"]);
    let list = [
        Packet::PingReq,
        Packet::Publish(publish),
        Packet::Publish(Publish { qos: Qos::AtLeastOnce, packet_id: Some(id(1)), properties: full, retain: true, ..publish }),
        Packet::Publish(Publish { qos: Qos::ExactlyOnce, packet_id: Some(id(2)), ..aliased }),
        Packet::Publish(Publish { topic: "$call/com/add/$id/1", ..publish }),
        Packet::Publish(Publish { topic: "$yield/1/progress", ..publish }),
        Packet::Subscribe(Subscribe { packet_id: id(3), properties: SubscribeProperties::default(), requests }),
        Packet::Unsubscribe(Unsubscribe { packet_id: id(4), properties, filters }),
        Packet::PubAck(ack),
        Packet::PubRec(ack),
        Packet::PubRel(ack),
        Packet::PubComp(ack),
        Packet::Disconnect(Disconnect { reason: ReasonCode::NORMAL_DISCONNECTION, properties: DisconnectProperties::default() }),
    ];
    let encoded = |packet| {
        let mut stream = Vec::new();
        add(packet, version, &mut stream);
        stream
    };
    list.into_iter().map(encoded).collect()
}

/// Messages of an open session but for their request ids, which count; the last one is refused for its option.
const MESSAGES: [&str; 9] = [
    r#"[16,ID,{"acknowledge":true,"retain":true},"a.b",["x",1.5],{"k":null}]"#,
    r#"[16,ID,{"exclude":[3]},"a.b"]"#,
    r#"[32,ID,{"match":"wildcard"},"a..c"]"#,
    r#"[34,ID,5]"#,
    r#"[48,ID,{"timeout":9},"com.add",[1,2]]"#,
    r#"[64,ID,{"invoke":"roundrobin"},"com.add"]"#,
    r#"[66,ID,5]"#,
    r#"[70,1,{"progress":true},["x"]]"#,
    r#"[16,ID,{"acknowledge":"yes"},"refused"]"#,
];

fn frame(kind: FrameKind, body: &[u8], stream: &mut Vec<u8>) {
    stream.extend_from_slice(&FrameHead { kind, length: body.len() }.encode().unwrap());
    stream.extend_from_slice(body);
}

fn in_encoding(text: &str, encoding: Encoding) -> Vec<u8> {
    let input = Bytes::copy_from_slice(text.as_bytes());
    if encoding == Encoding::Json {
        return input.to_vec();
    }
    let message = decode(&input, Encoding::Json).unwrap();
    let mut out = BytesMut::new();
    encode(&message, encoding, &mut out);
    out.to_vec()
}

fn rawsocket(encoding: Encoding, chosen: &[usize]) -> Vec<u8> {
    let mut stream = Handshake::new(encoding, 1 << 20).encode().to_vec();
    let hello = r#"[1,"realm1",{"roles":{"publisher":{},"callee":{}}}]"#;
    frame(FrameKind::Message, &in_encoding(hello, encoding), &mut stream);
    frame(FrameKind::Ping, b"are you there", &mut stream);
    for (text, request) in chosen.iter().map(|at| MESSAGES[*at]).zip(requests(chosen)) {
        frame(FrameKind::Message, &in_encoding(&text.replace("ID", &request.to_string()), encoding), &mut stream);
    }
    frame(FrameKind::Pong, b"", &mut stream);
    frame(FrameKind::Message, &in_encoding(r#"[6,{},"wamp.close.close_realm"]"#, encoding), &mut stream);
    stream
}

/// The request ids of these messages: the next one for those that have one.
fn requests(chosen: &[usize]) -> Vec<u64> {
    let mut last = 0;
    let next = |at: &usize| {
        last += u64::from(MESSAGES[*at].contains("ID"));
        last
    };
    chosen.iter().map(next).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mqtt_is_the_same_however_it_is_cut(
        version in prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5)],
        is_full in any::<bool>(),
        chosen in subsequence((0..13).collect::<Vec<usize>>(), 0..=13),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        cuts in proptest::collection::vec(0..60_usize, 0..8),
    ) {
        let packets = packets(version, &payload);
        let mut stream = connect(version, is_full);
        // The second publication makes the alias known that the third uses alone.
        stream.extend_from_slice(&packets[2]);
        chosen.iter().for_each(|at| stream.extend_from_slice(&packets[*at]));
        let said = check_splits(|| Gate::mqtt(settings(Limits::default()), origin(), NOW_MS), &stream, &cuts);
        prop_assert_eq!(said.commands.len(), 2 + chosen.len(), "{:?}", said);
        prop_assert_eq!(said.is_closed, chosen.contains(&12));
    }

    #[test]
    fn rawsocket_is_the_same_however_it_is_cut(
        encoding in prop_oneof![Just(Encoding::Json), Just(Encoding::MsgPack), Just(Encoding::Cbor)],
        chosen in proptest::collection::vec(0..8_usize, 0..8),
        is_refused in any::<bool>(),
        cuts in proptest::collection::vec(0..60_usize, 0..8),
    ) {
        let mut chosen = chosen;
        if is_refused && encoding == Encoding::Json {
            chosen.push(8);
        }
        let stream = rawsocket(encoding, &chosen);
        let said = check_splits(|| Gate::rawsocket(settings(Limits::default()), origin(), NOW_MS), &stream, &cuts);
        // HELLO and GOODBYE, and the PING.
        prop_assert_eq!(said.commands.len(), 3 + chosen.len(), "{:?}", said);
        prop_assert!(said.is_closed);
    }
}
