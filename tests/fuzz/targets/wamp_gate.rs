//! Any messages, and any bytes of a RawSocket in any pieces, into the WAMP gate: the same commands, bytes and end.
#![no_main]

use corsac::gate::Gate;
use corsac::model::{Encoding, Reason};
use corsac_fuzz::choice::{ENCODINGS, NOW_MS};
use corsac_fuzz::gates::{Connection, Opening, check_splits, origin, settings};
use corsac_fuzz::wamp::{CLIENT_MESSAGES, join, messages, split};

corsac_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let [choice, kind, first, second, stream @ ..] = data else { return };
    let settings = settings(*choice);
    let opening = if choice & 0xC0 == 0xC0 { Opening::Refused(Reason::ServerBusy) } else { Opening::Granted };
    match ENCODINGS.get(usize::from(kind % 4)) {
        Some(encoding) => {
            let gate = Gate::wamp(settings, origin(), *encoding, NOW_MS);
            let mut connection = Connection::new(gate, opening);
            split(stream).for_each(|message| connection.receive(message));
            assert_eq!(connection.ends.last().copied().unwrap_or(0), connection.bytes.len());
            connection.end();
        }
        None => check_splits(|| Gate::rawsocket(settings.clone(), origin(), NOW_MS), opening, stream, &[*first, *second]),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (kind, encoding) in (0..).zip(ENCODINGS) {
        let messages = &messages(encoding)[..CLIENT_MESSAGES];
        seeds.push([[0, kind, 0, 0].as_slice(), &join(messages.iter().map(Vec::as_slice))].concat());
        seeds.push([[0, 3, 3, 50].as_slice(), &rawsocket(encoding, messages)].concat());
    }
    seeds
}

fn rawsocket(encoding: Encoding, messages: &[Vec<u8>]) -> Vec<u8> {
    let serializer = ENCODINGS.iter().position(|other| *other == encoding).unwrap_or(0) as u8 + 1;
    let mut stream = vec![0x7F, 0xF0 | serializer, 0, 0, 1, 0, 0, 2, b'h', b'i'];
    for message in messages {
        stream.extend_from_slice(&(message.len() as u32).to_be_bytes());
        stream.extend_from_slice(message);
    }
    stream
}
