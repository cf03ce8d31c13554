//! One publication through the router, to 1 to 1,000 subscribers: from the command to the last effect.
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use corsac::model::command::{Acknowledge, Open, Protocol, SubscribeEntry, SubscribeOptions};
use corsac::model::{Command, ConnectionId, Filter, Limits, Payload, Principal, Publication, Qos, RequestId, SessionId, Topic};
use corsac::router::Router;
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::{PAYLOAD, sizes};

/// A time like any other, in milliseconds since the Unix epoch.
const NOW_MS: u64 = 1_700_000_000_000;
const PUBLISHER: ConnectionId = ConnectionId(1);

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan-out");
    for subscribers in sizes([1, 10, 100, 1_000]) {
        group.throughput(Throughput::Elements(subscribers as u64));
        group.bench_with_input(BenchmarkId::new("QoS 0", subscribers), &subscribers, |bencher, subscribers| {
            let mut router = realm(*subscribers);
            let topic = Topic::from_mqtt("bench/topic").unwrap();
            bencher.iter(|| {
                let payload = Payload::Bytes(Bytes::from_static(PAYLOAD));
                let publication = Arc::new(Publication::new(topic.clone(), payload, Qos::AtMostOnce));
                let command = Command::Publish { publication, acknowledge: Acknowledge::None, options: None };
                router.handle(PUBLISHER, command, NOW_MS);
                assert_eq!(drain(&mut router), *subscribers);
            });
        });
    }
    group.finish();
}

/// A realm with a publisher and as many subscribers of `bench/topic`.
fn realm(subscribers: usize) -> Router {
    let mut router = Router::new(Limits::default(), 1);
    for number in 0..=subscribers as u64 {
        let connection = ConnectionId(PUBLISHER.0 + number);
        router.handle(connection, Command::Open(Box::new(open(number))), NOW_MS);
        if connection != PUBLISHER {
            let filter = Filter::from_mqtt("bench/topic").unwrap();
            let entry = SubscribeEntry::Topic { filter, share: None, options: SubscribeOptions::default() };
            router.handle(connection, Command::Subscribe { request: RequestId(1), entries: vec![entry] }, NOW_MS);
        }
    }
    drain(&mut router);
    router
}

fn open(number: u64) -> Open {
    Open {
        session: SessionId(1_000 + number),
        protocol: Protocol::Mqtt5,
        transport: Default::default(),
        principal: Arc::new(Principal::anonymous("bench")),
        client_id: Some(format!("bench-{number}").into()),
        clean_start: true,
        expiry_s: 0,
        receive_maximum: u16::MAX,
        will: None,
        features: Default::default(),
    }
}

/// Takes every effect, and answers how many there were.
fn drain(router: &mut Router) -> usize {
    std::iter::from_fn(|| black_box(router.poll_effect())).count()
}
