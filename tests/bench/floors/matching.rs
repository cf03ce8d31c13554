//! From a topic to the subscriptions that cover it, among 1 to 1,000,000 of them.
use std::hint::black_box;

use corsac::model::{Filter, Topic};
use corsac::router::matcher::Matcher;
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::sizes;

/// Topics that are looked up in turn, so that no cache of the processor has them all.
const TOPICS: usize = 4_096;
/// A step through the subscriptions that has no factor in common with their number.
const STRIDE: usize = 7_919;

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    group.throughput(Throughput::Elements(1));
    for count in sizes([1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]) {
        for (name, last_level) in [("exact", "state"), ("wildcards", "+")] {
            let mut matcher = Matcher::new();
            for device in 0..count {
                let filter = Filter::from_mqtt(&format!("{}/{last_level}", path(device))).unwrap();
                matcher.insert(&filter, device);
            }
            let topics: Vec<Topic> =
                (0..TOPICS).map(|at| Topic::from_mqtt(&format!("{}/state", path(at * STRIDE % count))).unwrap()).collect();
            let mut turn = 0;
            group.bench_with_input(BenchmarkId::new(name, count), &topics, |bencher, topics| {
                bencher.iter(|| {
                    turn = (turn + 1) % TOPICS;
                    let mut found = 0;
                    matcher.match_topic(black_box(&topics[turn]), |_| found += 1);
                    assert_eq!(found, 1);
                });
            });
        }
    }
    group.finish();
}

fn path(device: usize) -> String {
    format!("site/{}/device/{device}", device % 100)
}
