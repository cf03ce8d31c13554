//! Counters that come round while something of each kind stays open: nothing stands still, and nothing is meant twice.
use std::collections::{BTreeSet, HashSet};

use super::support::wire;
use super::wamp::Session;
use super::*;

/// More than there are packet ids.
const COUNT: u32 = 70_000;
/// Sent at a time, so that both sides are busy.
const BATCH: u32 = 500;

/// The next packets, so many: the first byte and what follows the length.
fn packets(wire: &mut Wire, count: usize) -> Vec<(u8, Vec<u8>)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while found.len() < count {
        let rest = &wire.arrived[at..];
        let length_bytes = rest.iter().skip(1).take(4).take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let length = rest.iter().skip(1).take(length_bytes).rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7F));
        match rest.get(1 + length_bytes..1 + length_bytes + length).filter(|_| rest.len() > length_bytes) {
            Some(body) => {
                found.push((rest[0], body.to_vec()));
                at += 1 + length_bytes + length;
            }
            None => wire.wait().unwrap(),
        }
    }
    wire.arrived.drain(..at);
    found
}

/// Packet id and payload of a PUBLISH with a packet id.
fn delivery((first, body): &(u8, Vec<u8>), version: u8) -> (u16, String) {
    assert!(matches!(first, 0x32 | 0x34), "{first:02X} {body:02X?}");
    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let id = u16::from_be_bytes([body[2 + topic], body[3 + topic]]);
    let properties = if version == 5 { 1 + usize::from(body[4 + topic]) } else { 0 };
    (id, String::from_utf8(body[4 + topic + properties..].to_vec()).unwrap())
}

fn send_all(client: &mut Client, lines: impl Iterator<Item = String>) {
    let sent: Vec<u8> = lines.flat_map(|line| packet::encode(&bytes::words(&line), client.version)).collect();
    client.wire.send(&sent).unwrap();
}

/// The numbers from 2 on, in batches.
fn batches() -> impl Iterator<Item = std::ops::Range<u32>> {
    (2..COUNT).step_by(BATCH as usize).map(|first| first..(first + BATCH).min(COUNT))
}

/// The packet ids of one session: a delivery stays at each of its steps, and all that come after it arrive.
#[test]
fn packet_ids_of_deliveries() {
    let router = Router::start("");
    for version in [4, 5] {
        let mut subscriber = Client::connect(&router, &format!("CONNECT v{version} clean id=subscriber"));
        assert!(subscriber.ask("SUBSCRIBE id=1 t:2").starts_with("SUBACK"));
        let mut publisher = Client::connect(&router, "CONNECT v4 clean id=publisher");
        let mut held = BTreeSet::new();
        for (number, line) in ["q1 id=1", "q2 id=2", "q2 id=3"].into_iter().enumerate() {
            publisher.send(&format!("PUBLISH t held{number} {line}"));
            held.insert(delivery(&packets(&mut subscriber.wire, 1)[0], version).0);
        }
        // The last one has been received and released, and is never completed.
        let last = *held.last().unwrap();
        subscriber.send(&format!("PUBREC id={last}"));
        assert_eq!(packets(&mut subscriber.wire, 1)[0].0, 0x62, "PUBREL");
        packets(&mut publisher.wire, 3);
        let mut expected = 2;
        for batch in batches() {
            send_all(&mut publisher, batch.clone().map(|number| format!("PUBLISH t {number} q1 id={}", number % 60_000 + 4)));
            let arrived: Vec<_> =
                packets(&mut subscriber.wire, batch.len()).iter().map(|packet| delivery(packet, version)).collect();
            let ids: HashSet<u16> = arrived.iter().map(|(id, _)| *id).collect();
            assert!(ids.len() == batch.len() && held.iter().all(|id| !ids.contains(id)) && !ids.contains(&0));
            for (_, payload) in &arrived {
                assert_eq!(*payload, expected.to_string());
                expected += 1;
            }
            send_all(&mut subscriber, arrived.iter().map(|(id, _)| format!("PUBACK id={id}")));
            packets(&mut publisher.wire, batch.len());
        }
        // The delivery that was held is still known.
        subscriber.send(&format!("PUBCOMP id={last}"));
        subscriber.settle();
    }
    assert_serves(&router);
}

/// The packet ids of a publisher: one that is never released is another one for as long as it is not.
#[test]
fn packet_ids_of_publications() {
    let router = Router::start("");
    let mut subscriber = Client::connect(&router, "CONNECT v4 clean id=subscriber");
    assert!(subscriber.ask("SUBSCRIBE id=1 t:0").starts_with("SUBACK"));
    let mut publisher = Client::connect(&router, "CONNECT v4 clean id=publisher");
    assert_eq!(publisher.ask("PUBLISH t 1 q2 id=1"), "PUBREC id=1");
    for batch in batches() {
        let ids = batch.clone().map(|number| (number - 2) % 65_534 + 2);
        send_all(&mut publisher, batch.clone().zip(ids.clone()).map(|(number, id)| format!("PUBLISH t {number} q2 id={id}")));
        assert!(packets(&mut publisher.wire, batch.len()).iter().all(|(first, _)| *first == 0x50), "PUBREC");
        send_all(&mut publisher, ids.map(|id| format!("PUBREL id={id}")));
        assert!(packets(&mut publisher.wire, batch.len()).iter().all(|(first, _)| *first == 0x70), "PUBCOMP");
    }
    let arrived = packets(&mut subscriber.wire, COUNT as usize - 1);
    for (number, (_, body)) in arrived.iter().enumerate() {
        assert_eq!(String::from_utf8_lossy(&body[3..]), (number + 1).to_string());
    }
    // Sent again, the first one is known.
    assert_eq!(publisher.ask("PUBLISH t 1 q2 dup id=1"), "PUBREC id=1");
    assert_eq!(publisher.ask("PUBREL id=1"), "PUBCOMP id=1");
    subscriber.settle();
    assert_serves(&router);
}

/// Calls: one waits for its answer, as its caller, its callee and the packet of its invocation do.
#[test]
fn ids_of_calls_and_invocations() {
    let router = Router::start("");
    let mut callee = Client::connect(&router, "CONNECT v5 clean id=callee");
    assert!(callee.ask("SUBSCRIBE id=1 $callee/p:1").starts_with("SUBACK"));
    let mut caller = Session::open(&router);
    caller.0.send_text(r#"[48,1,{},"p",[1]]"#).unwrap();
    let first = callee.receive();
    let yielded = |words: &[String]| words.iter().find_map(|word| word.strip_prefix("response_topic=")).unwrap().to_owned();
    let held = yielded(&first);
    for batch in batches() {
        let calls: Vec<u8> = batch
            .clone()
            .flat_map(|number| wire::frame(0x81, format!(r#"[48,{number},{{}},"p",[{number}]]"#).as_bytes()))
            .collect();
        caller.0.send_raw(&calls).unwrap();
        let mut answers = Vec::new();
        for number in batch.clone() {
            let invocation = callee.receive();
            let id = invocation.iter().find_map(|word| word.strip_prefix("id=")).unwrap();
            let answer_to = yielded(&invocation);
            assert!(answer_to != held && invocation[2] == number.to_string(), "{invocation:?}");
            answers.extend([format!("PUBACK id={id}"), format!("PUBLISH {answer_to} {number}")]);
        }
        send_all(&mut callee, answers.into_iter());
        for number in batch {
            let result = caller.receive();
            assert_eq!((&result[0], &result[1], &result[3][0]), (&50.into(), &number.into(), &number.into()), "{result}");
        }
    }
    callee.send(&format!("PUBLISH {held} 1"));
    let result = caller.receive();
    assert_eq!((&result[0], &result[1]), (&50.into(), &1.into()), "{result}");
    assert_serves(&router);
}

/// A queue: its subscriber keeps one item, and all others pass.
#[test]
fn tokens_and_packet_ids_of_a_queue() {
    let router = Router::start("");
    let mut putter = Session::open(&router);
    assert_eq!(putter.ask(r#"[48,1,{},"corsac.queue.declare",["jobs",{"visibility_ms":3600000}]]"#)[0], 50);
    let mut taker = Client::connect(&router, "CONNECT v4 clean id=taker");
    assert!(taker.ask("SUBSCRIBE id=1 $queue/jobs:1").starts_with("SUBACK"));
    let mut publisher = Client::connect(&router, "CONNECT v4 clean id=publisher");
    publisher.send("PUBLISH $queue/jobs held q1 id=1");
    let held = delivery(&packets(&mut taker.wire, 1)[0], 4).0;
    packets(&mut publisher.wire, 1);
    for batch in batches() {
        send_all(
            &mut publisher,
            batch.clone().map(|number| format!("PUBLISH $queue/jobs {number} q1 id={}", number % 60_000 + 1)),
        );
        packets(&mut publisher.wire, batch.len());
        let mut expected = batch.clone();
        while expected.start < expected.end {
            let (id, payload) = delivery(&packets(&mut taker.wire, 1)[0], 4);
            assert_eq!(payload, expected.start.to_string());
            assert_ne!(id, held);
            taker.send(&format!("PUBACK id={id}"));
            expected.start += 1;
        }
    }
    taker.send(&format!("PUBACK id={held}"));
    taker.settle();
    let stats = putter.ask(r#"[48,2,{},"corsac.queue.stats",["jobs"]]"#);
    assert_eq!((&stats[3][0]["claimed"], &stats[3][0]["acknowledged"]), (&0.into(), &(COUNT - 1).into()), "{stats}");
    assert_serves(&router);
}
