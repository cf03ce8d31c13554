//! PUBLISH and PUBACK, from bytes and to bytes.
use std::hint::black_box;
use std::num::NonZeroU16;

use bytes::BytesMut;
use corsac::model::Qos;
use corsac::wire::mqtt::{Ack, Frame, Packet, Peer, Publish, ReasonCode, Version, decode, frame};
use criterion::{Criterion, Throughput};

use crate::PAYLOAD;

const MAX_PACKET_BYTES: u32 = 1 << 20;

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mqtt");
    group.throughput(Throughput::Elements(1));
    let publish = |qos, packet_id| {
        let properties = Default::default();
        Packet::Publish(Publish { dup: false, qos, retain: false, topic: "bench/topic", packet_id, properties, payload: PAYLOAD })
    };
    let packets = [
        ("PUBLISH, QoS 0", publish(Qos::AtMostOnce, None)),
        ("PUBLISH, QoS 1", publish(Qos::AtLeastOnce, NonZeroU16::new(7))),
        ("PUBACK", Packet::PubAck(Ack::new(NonZeroU16::new(7).unwrap(), ReasonCode::Success))),
    ];
    for (name, packet) in packets {
        let mut bytes = BytesMut::new();
        packet.encode(Version::V5, &mut bytes).unwrap();
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| {
                let input = black_box(&bytes[..]);
                let Ok(Frame::Complete { length }) = frame(input, MAX_PACKET_BYTES, Version::V5, Peer::Client) else {
                    unreachable!("the packet is whole");
                };
                black_box(decode(&input[..length], Version::V5, Peer::Client).is_ok())
            });
        });
        group.bench_function(format!("encode {name}"), |bencher| {
            let mut out = BytesMut::new();
            bencher.iter(|| {
                out.clear();
                black_box(&packet).encode(Version::V5, &mut out).unwrap();
                black_box(out.len())
            });
        });
    }
    group.finish();
}
