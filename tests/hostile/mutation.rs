//! Every prefix and every single-bit flip of valid packets, each on a connection of its own that is then dropped.
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// CONNECT of each version, with all it may hold.
const CONNECTS: [&str; 4] = [
    "CONNECT v3 clean id=m3 will=w will_payload=x will_q1 name=n password=p",
    "CONNECT v4 clean id=m4 keep=10 will=w will_payload=x will_q2 name=n password=p",
    "CONNECT v5 clean id=m5 receive_maximum=9 alias_maximum=3 maximum_packet=99999 want_response_information=1 user=a:b",
    "CONNECT v5 clean id=m6 will=w will_payload=x will.payload_format=1 will.content_type=c will.correlation=d will.user=a:b",
];

/// The packets of an open connection in version 5.
const PACKETS: [&str; 12] = [
    "PUBLISH t/x hello",
    "PUBLISH t/x hello q1 id=3 alias=2 user=a:b content_type=c payload_format=1 message_expiry=9 response_topic=r correlation=d",
    "PUBLISH t/x hello q2 id=4",
    "PUBACK id=3 rc=00",
    "PUBREC id=4 rc=10 reason=r",
    "PUBREL id=4 rc=00 user=a:b",
    "PUBCOMP id=4",
    "SUBSCRIBE id=5 t/+:1,nl,rap t/#:2,rh1 $share/g/t:0 subscription_id=300 user=a:b",
    "UNSUBSCRIBE id=6 t/+ t/# user=a:b",
    "PINGREQ",
    "DISCONNECT rc=04 session_expiry=0 reason=r user=a:b",
    "AUTH rc=18 method=m auth_data=d reason=r",
];

/// Every prefix and every single-bit flip.
fn mutations(bytes: &[u8]) -> Vec<Vec<u8>> {
    let prefixes = (0..bytes.len()).map(|length| bytes[..length].to_vec());
    let flips = (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    prefixes.chain(flips).collect()
}

fn inputs() -> Vec<Vec<u8>> {
    let encode = |line: &str| {
        let words = bytes::words(line);
        packet::encode(&words, packet::version_of(&words).unwrap_or(5))
    };
    let mut inputs: Vec<Vec<u8>> = CONNECTS.iter().flat_map(|line| mutations(&encode(line))).collect();
    let connect = encode("CONNECT v5 clean id=");
    for line in PACKETS {
        inputs.extend(mutations(&encode(line)).into_iter().map(|mutation| [connect.clone(), mutation].concat()));
    }
    inputs
}

/// Sends each input on its own connection and drops it, half of them without waiting for the answer.
fn send_all(router: &Router, inputs: &[Vec<u8>]) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(input) = inputs.get(number) else { return };
                    let mut wire = Wire::tcp([router.mqtt, router.http][number % 2]);
                    wire.send(input).ok();
                    if number % 4 < 2 {
                        assert!(wire.close(), "the router does not end the connection after {input:02X?}");
                    }
                }
            });
        }
    });
}

#[test]
fn every_prefix_and_every_flipped_bit() {
    let router = Router::start("");
    let inputs = inputs();
    assert!(inputs.len() > 3_000, "{}", inputs.len());
    // Once to warm up, then twice more: what a round leaves behind would show in the next.
    send_all(&router, &inputs);
    assert_nobody_left(&router);
    let (baseline_kib, descriptors) = (router.rss_kib(), router.descriptors());
    for _ in 0..2 {
        send_all(&router, &inputs);
    }
    assert_nobody_left(&router);
    assert_memory(&router, baseline_kib, 4 * 1024);
    assert!(router.descriptors() <= descriptors + 2);
    assert!(router.figure("sessions") < 50, "sessions are left: {}", router.figure("sessions"));
    assert_serves(&router);
}

#[test]
fn mutations_are_what_they_say() {
    assert_eq!(mutations(b"\x01\x80").len(), 2 + 16);
    assert!(mutations(b"\x01\x80").contains(&vec![0x01, 0x00]));
    assert!(mutations(b"\x01\x80").contains(&vec![0x01]));
}
