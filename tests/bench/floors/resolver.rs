//! Slots of the ledger, with one segment each, become ids.
use std::hint::black_box;

use bytes::Bytes;
use corsac::cluster::segment::{
    DedupKey, GroupId, Incarnation, Item, Join, LedgerEntry, LedgerId, NodeId, Op, Pseq, SegRef, SegmentKey, SegmentNumber, Slot,
    StreamId,
};
use corsac::cluster::{Outcome, Resolver};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};

const OWNER: NodeId = NodeId(1);
const LIFE: Incarnation = Incarnation(1);
/// Slots that are applied in one turn.
const SLOTS: u64 = 64;

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resolver");
    for (name, items, is_keyed) in
        [("slots of one item", 1, false), ("slots of 100 items", 100, false), ("slots of 100 keys", 100, true)]
    {
        let ledger: Vec<LedgerEntry> = (0..SLOTS).map(|slot| entry(slot, items, is_keyed)).collect();
        group.throughput(Throughput::Elements(SLOTS * items));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_batched(joined, |resolver| order(resolver, black_box(&ledger)), BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// A resolver whose owner has its first life.
fn joined() -> Resolver {
    let mut resolver = Resolver::default();
    let join = Join { owner: OWNER, incarnation: LIFE, nonce: 1, prev_nonce: None, recovered: Vec::new() };
    resolver.apply(Slot(1), &LedgerEntry { dt_ms: 1, ops: vec![Op::Join(join)] }, &mut Vec::new()).unwrap();
    resolver
}

/// The segment of a slot, counted from 0.
fn entry(slot: u64, items: u64, is_keyed: bool) -> LedgerEntry {
    let key = SegmentKey {
        stream: StreamId { owner: OWNER, incarnation: LIFE, ledger: LedgerId(0) },
        segment: SegmentNumber(slot + 1),
    };
    let dedup = |at: u64| DedupKey { owner: "bench".into(), key: Bytes::copy_from_slice(&(slot * items + at).to_be_bytes()) };
    let item = |at| Item { body: Bytes::new(), dedup: is_keyed.then(|| dedup(at)), is_control: false, weight: 64 };
    let all: Vec<Item> = (0..items).map(item).collect();
    let segment = SegRef::of(key, GroupId(0), Pseq(slot * items + 1), &all).unwrap();
    LedgerEntry { dt_ms: slot + 1, ops: vec![Op::Segment(segment)] }
}

fn order(mut resolver: Resolver, ledger: &[LedgerEntry]) -> Resolver {
    let mut outcomes = Vec::new();
    for (slot, entry) in (2..).map(Slot).zip(ledger) {
        outcomes.clear();
        resolver.apply(slot, entry, &mut outcomes).unwrap();
        assert!(matches!(outcomes[..], [Outcome::Ordered { .. }]));
    }
    resolver
}
