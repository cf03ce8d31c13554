//! Any bytes as the beginning of an MQTT stream: what a prefix shows, more bytes do not change.
#![no_main]

use corsac::wire::mqtt::{Frame, frame};
use corsac_fuzz::mqtt::{PEERS, VERSIONS, client_packets, connect};

corsac_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let [choice, bytes @ ..] = data else { return };
    let (version, from) = (VERSIONS[usize::from(choice % 3)], PEERS[usize::from(choice / 3 % 3)]);
    let max_bytes = if choice & 0x80 == 0 { 300 } else { u32::MAX };
    let mut known: Option<Result<Frame, _>> = None;
    let mut needed = 0;
    for end in 0..=bytes.len().min(700) {
        let found = frame(&bytes[..end], max_bytes, version, from);
        if let Some(known) = &known {
            assert_eq!(&found, known, "at {end}");
            continue;
        }
        match found {
            Ok(Frame::Incomplete { at_least }) => {
                assert!(at_least > end && at_least >= needed && at_least as u64 <= u64::from(max_bytes).max(2));
                needed = at_least;
            }
            Ok(Frame::Complete { length }) => {
                assert!(length == end && length == needed);
                known = Some(found);
            }
            Err(_) => known = Some(found),
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![5, 0x30, 0xFF, 0xFF, 0xFF, 0x7F], vec![2, 0x10, 0x80, 0x80, 0x80, 0x80, 1], vec![5, 0xD0, 1, 0]];
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let stream = [connect(version, true), client_packets(version).concat()].concat();
        seeds.push([[at as u8].as_slice(), &stream].concat());
        seeds.push([[at as u8 + 3].as_slice(), &client_packets(version).concat()].concat());
    }
    seeds
}
