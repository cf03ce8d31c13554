//! Messages and deliveries in any order into the WAMP gate: its output is messages, framed within the agreed size.
#![no_main]

use bytes::Bytes;
use corsac::gate::Gate;
use corsac::model::Encoding;
use corsac::wire::wamp::decode;
use corsac::wire::wamp::rawsocket::{FrameHead, FrameKind, HEAD_BYTES};
use corsac_fuzz::choice::{Choice, ENCODINGS, NOW_MS};
use corsac_fuzz::gates::{Connection, Opening, origin, settings};
use corsac_fuzz::wamp::{CLIENT_MESSAGES, messages};
use libfuzzer_sys::arbitrary::Unstructured;

corsac_fuzz::target!(run, seeds);

/// The largest message that a RawSocket client takes, the least that a handshake can say.
const MAX_BYTES: usize = 512;

fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let choice = &mut Choice(&mut bytes);
    let at = choice.below(3);
    let encoding = ENCODINGS[at];
    let is_rawsocket = choice.flag();
    let settings = settings(choice.below(8) as u8 & !1);
    let gate = match is_rawsocket {
        true => Gate::rawsocket(settings, origin(), NOW_MS),
        false => Gate::wamp(settings, origin(), encoding, NOW_MS),
    };
    let opening = if choice.below(16) == 0 { Opening::Refused(choice.rejection()) } else { Opening::Granted };
    let mut connection = Connection::new(gate, opening);
    if is_rawsocket {
        connection.receive(&[0x7F, at as u8 + 1, 0, 0]);
        assert_eq!(connection.bytes.len(), HEAD_BYTES);
        connection.bytes.clear();
    }
    let messages = messages(encoding);
    connection.receive(&framed(&messages[0], is_rawsocket));
    read(&mut connection, encoding, is_rawsocket);
    while choice.has_more() {
        match choice.below(8) {
            0 => connection.wait(choice.pick(&[0, 1, 1_500, 30_000])),
            1 => connection.receive(&framed(&messages[choice.below(CLIENT_MESSAGES)], is_rawsocket)),
            2 if choice.below(16) == 0 => connection.end(),
            _ => connection.deliver(choice.delivery()),
        }
        read(&mut connection, encoding, is_rawsocket);
    }
    connection.end();
}

fn framed(message: &[u8], is_rawsocket: bool) -> Vec<u8> {
    if is_rawsocket { [(message.len() as u32).to_be_bytes().as_slice(), message].concat() } else { message.to_vec() }
}

/// Reads what was sent, as the client would.
fn read(connection: &mut Connection, encoding: Encoding, is_rawsocket: bool) {
    let bytes = Bytes::from(std::mem::take(&mut connection.bytes));
    let ends = std::mem::take(&mut connection.ends);
    assert!(!is_rawsocket || ends.is_empty());
    let mut start = 0;
    for end in ends {
        check(bytes.slice(start..end), encoding);
        start = end;
    }
    while is_rawsocket && start < bytes.len() {
        let head = FrameHead::decode(&bytes[start..], MAX_BYTES).expect("a sound frame").expect("a whole head");
        let end = start + HEAD_BYTES + head.length;
        if head.kind == FrameKind::Message {
            check(bytes.slice(start + HEAD_BYTES..end), encoding);
        }
        start = end;
    }
    assert_eq!(start, bytes.len());
}

fn check(message: Bytes, encoding: Encoding) {
    if let Err(error) = decode(&message, encoding) {
        panic!("{error}: {}", message.escape_ascii());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    corsac_fuzz::noise()
}
