//! Any bytes as an MQTT packet, of every version, from either side: no panic, and what decodes can be encoded again.
#![no_main]

use bytes::BytesMut;
use corsac::wire::mqtt::{
    Characters, Frame, Packet, Peer, SharedFilter, Version, check_topic_filter, check_topic_name, connect_version, decode_with,
    frame,
};
use corsac_fuzz::mqtt::{PEERS, VERSIONS, client_packets, connect, server_packets};

corsac_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let [choice, bytes @ ..] = data else { return };
    let (version, from) = (VERSIONS[usize::from(choice % 3)], PEERS[usize::from(choice / 3 % 3)]);
    let characters = if choice & 0x80 == 0 { Characters::Any } else { Characters::Strict };
    let framed = frame(bytes, u32::MAX, version, from);
    let named = connect_version(bytes);
    if let Ok(packet) = decode_with(bytes, version, from, characters) {
        assert!(
            named
                == match packet {
                    Packet::Connect(connect) => Some(connect.version),
                    _ => None,
                }
        );
        assert_eq!(framed, Ok(Frame::Complete { length: bytes.len() }));
        assert!(characters == Characters::Any || decode_with(bytes, version, from, Characters::Any) == Ok(packet));
        check(packet, version, from, characters, u32::from(choice & 0x7F));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let is_filter = check_topic_filter(text).is_ok();
        assert!(check_topic_name(text).is_err() || is_filter);
        let shared = SharedFilter::split(text).ok().flatten();
        assert!(shared.is_none_or(|shared| text == format!("$share/{}/{}", shared.name, shared.filter)));
    }
}

fn check(packet: Packet<'_>, version: Version, from: Peer, characters: Characters, limit: u32) {
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let mut out = BytesMut::new();
    packet.encode(version, &mut out).expect("encoded again");
    assert_eq!(out.len(), packet.encoded_len(version));
    assert_eq!(decode_with(&out, version, from, characters), Ok(packet));
    let whole = out.len();
    out.clear();
    match packet.encode_within(version, limit, &mut out) {
        Ok(()) => {
            assert!(out.len() <= limit as usize);
            assert!(decode_with(&out, version, from, characters).is_ok());
        }
        Err(_) => assert!(out.is_empty() && whole > limit as usize),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let at = at as u8;
        let sides = [
            (0, vec![connect(version, false), connect(version, true)]),
            (3, client_packets(version)),
            (6, server_packets(version)),
        ];
        seeds.extend(
            sides
                .into_iter()
                .flat_map(|(side, packets)| packets.into_iter().map(move |packet| [[at + side].as_slice(), &packet].concat())),
        );
    }
    seeds
}
