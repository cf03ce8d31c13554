//! PUBLISH from bytes and EVENT to bytes, in JSON, MsgPack and CBOR.
use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use corsac::model::{Encoding, Payload, PublicationId, RequestId, SubscriptionId};
use corsac::wire::wamp::{Message, decode, encode, encode_event};
use criterion::{Criterion, Throughput};

use crate::PAYLOAD;

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wamp");
    group.throughput(Throughput::Elements(1));
    for (name, encoding) in [("JSON", Encoding::Json), ("MsgPack", Encoding::MsgPack), ("CBOR", Encoding::Cbor)] {
        let args = Bytes::from([b"[".as_slice(), PAYLOAD, b"]"].concat());
        let publish = Message::Publish {
            request: RequestId(7),
            options: Default::default(),
            topic: "bench.topic".into(),
            payload: Payload::Args { encoding: Encoding::Json, args, kwargs: Bytes::new() },
        };
        let mut bytes = BytesMut::new();
        encode(&publish, encoding, &mut bytes);
        let bytes = bytes.freeze();
        group.bench_function(format!("decode PUBLISH, {name}"), |bencher| {
            bencher.iter(|| black_box(decode(black_box(&bytes), encoding).is_ok()));
        });
        let Ok(Message::Publish { payload: Payload::Args { args, kwargs, .. }, .. }) = decode(&bytes, encoding) else {
            unreachable!("what was encoded is a PUBLISH");
        };
        group.bench_function(format!("encode EVENT, {name}"), |bencher| {
            let (mut out, details) = (BytesMut::new(), Default::default());
            bencher.iter(|| {
                out.clear();
                encode_event(encoding, &mut out, SubscriptionId(7), PublicationId(1 << 40), Some(&details), &args, &kwargs);
                black_box(out.len())
            });
        });
    }
    group.finish();
}
