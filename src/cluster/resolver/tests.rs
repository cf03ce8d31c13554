//! Tests of the resolver against its definition, item by item: exactly once, in order, dense, and the same everywhere.
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::cluster::held::MAX_HELD;
use crate::cluster::segment::{LedgerId, SegmentNumber, StreamId};

const ITEMS: u64 = 12;

/// The key of an item, if it has one: a function of what the item is (I3).
fn key_of(owner: u16, incarnation: u32, pseq: u64) -> Option<DedupKey> {
    let mixed = u64::from(owner) * 7 + u64::from(incarnation) * 3 + pseq;
    mixed
        .is_multiple_of(3)
        .then_some(DedupKey { owner: owner.to_string().into(), key: Bytes::copy_from_slice(&[(mixed % 5) as u8]) })
}

fn segment(owner: u16, incarnation: u32, number: u64, from: u64, to: u64) -> SegRef {
    let stream = StreamId { owner: NodeId(owner), incarnation: Incarnation(incarnation), ledger: LedgerId(0) };
    let key = SegmentKey { stream, segment: SegmentNumber(number) };
    let dedup = (from..=to).filter_map(|pseq| Some((Pseq(pseq), key_of(owner, incarnation, pseq)?))).collect();
    let (from, to, group) = (Pseq(from), Pseq(to), GroupId(0));
    SegRef { key, group, group_epoch: 0, from, to, bytes: 0, digest: Digest::default(), dedup, inline: Vec::new() }
}

fn join(owner: u16, incarnation: u32, nonce: u128, prev_nonce: Option<u128>, recovered: Vec<SegRef>) -> Op {
    Op::Join(Join { owner: NodeId(owner), incarnation: Incarnation(incarnation), nonce, prev_nonce, recovered })
}

fn entry(ops: Vec<Op>) -> LedgerEntry {
    LedgerEntry { dt_ms: 0, ops }
}

/// An id and what got it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Given {
    Item(u16, u32, u64, u64),
    Duplicate(u16, u32, u64, u64),
    Gone(u16, u32, u64),
}

fn spread(outcomes: &[Outcome]) -> Vec<Given> {
    let mut given = Vec::new();
    for outcome in outcomes {
        match outcome {
            Outcome::Ordered { key, from, to, first_id, .. } => {
                let (owner, incarnation) = (key.stream.owner.0, key.stream.incarnation.0);
                given.extend((from.0..=to.0).map(|p| Given::Item(owner, incarnation, p, first_id.value() + p - from.0)));
            }
            Outcome::Duplicate { key, pseq, id } => {
                given.push(Given::Duplicate(key.stream.owner.0, key.stream.incarnation.0, pseq.0, id.value()));
            }
            Outcome::Gone { owner, incarnation, id } => given.push(Given::Gone(owner.0, incarnation.0, id.value())),
            Outcome::Joined { .. } | Outcome::Held(_) | Outcome::Dropped(_) => {}
        }
    }
    given
}

/// The definition, item by item and without segments. An item that arrived of the present life is ordered as soon as everything
/// before it in its stream is. A join lets the rest of the life that it ends arrive, and nothing else.
#[derive(Default)]
struct Naive {
    given: Vec<Given>,
    next_id: u64,
    lives: BTreeMap<u16, u32>,
    arrived: BTreeSet<(u16, u32, u64)>,
    keys: BTreeMap<DedupKey, u64>,
}

impl Naive {
    fn arrive(&mut self, x: &SegRef) {
        let (owner, incarnation) = (x.key.stream.owner.0, x.key.stream.incarnation.0);
        if self.lives.get(&owner) != Some(&incarnation) {
            return;
        }
        self.arrived.extend((x.from.0..=x.to.0).map(|pseq| (owner, incarnation, pseq)));
        let is_of = |given: &&Given| matches!(given, Given::Item(o, i, ..) | Given::Duplicate(o, i, ..) if (*o, *i) == (owner, incarnation));
        let mut next = 1 + self.given.iter().filter(is_of).count() as u64;
        while self.arrived.contains(&(owner, incarnation, next)) {
            let key = key_of(owner, incarnation, next);
            if let Some(id) = key.as_ref().and_then(|key| self.keys.get(key)) {
                self.given.push(Given::Duplicate(owner, incarnation, next, *id));
            } else {
                self.next_id += 1;
                self.given.push(Given::Item(owner, incarnation, next, self.next_id));
                self.keys.extend(key.map(|key| (key, self.next_id)));
            }
            next += 1;
        }
    }

    fn apply(&mut self, entry: &LedgerEntry) {
        for op in &entry.ops {
            match op {
                Op::Segment(x) => self.arrive(x),
                Op::Join(join) => {
                    let before = self.lives.get(&join.owner.0).copied().unwrap_or(0);
                    if join.incarnation.0 == before + 1 {
                        let is_tail = |x: &&SegRef| (x.key.stream.owner, x.key.stream.incarnation.0) == (join.owner, before);
                        join.recovered.iter().filter(is_tail).for_each(|x| self.arrive(x));
                        if before > 0 {
                            self.next_id += 1;
                            self.given.push(Given::Gone(join.owner.0, before, self.next_id));
                        }
                        self.lives.insert(join.owner.0, before + 1);
                    }
                }
            }
        }
    }
}

fn any_segment() -> impl Strategy<Value = SegRef> {
    (1..3u16, 0..4u32, 1..9u64, 1..=ITEMS, 0..5u64)
        .prop_map(|(owner, incarnation, number, from, more)| segment(owner, incarnation, number, from, (from + more).min(ITEMS)))
}

fn any_op() -> impl Strategy<Value = Op> {
    let recovered = prop::collection::vec((any_segment(), prop::bool::weighted(0.7)), 0..4);
    let join = (1..3u16, 1..4u32, any::<u128>(), recovered).prop_map(|(owner, incarnation, nonce, recovered)| {
        // Mostly the tail of the life before, sometimes what has no business there.
        let tail = recovered.into_iter().map(|(x, is_tail)| {
            let (number, from, to) = (x.key.segment.0, x.from.0, x.to.0);
            if is_tail { segment(owner, incarnation - 1, number, from, to) } else { x }
        });
        join(owner, incarnation, nonce, None, tail.collect())
    });
    prop_oneof![8 => any_segment().prop_map(Op::Segment), 1 => join]
}

fn any_log() -> impl Strategy<Value = Vec<LedgerEntry>> {
    let slots = prop::collection::vec(prop::collection::vec(any_op(), 0..4).prop_map(entry), 1..30);
    slots.prop_map(|mut log| {
        // Both owners have a life, or hardly anything is ordered.
        log.insert(0, entry(vec![join(1, 1, 1, None, vec![]), join(2, 1, 2, None, vec![])]));
        log
    })
}

fn run(log: &[LedgerEntry], rules: Rules) -> (Resolver, Vec<Given>) {
    let mut resolver = Resolver::new(SeenLimits::default(), rules);
    let mut outcomes = Vec::new();
    for (slot, entry) in (1..).zip(log) {
        resolver.apply(Slot(slot), entry, &mut outcomes).unwrap();
    }
    (resolver, spread(&outcomes))
}

/// Why what was given breaks I5 or I7, if it does.
fn fault(given: &[Given]) -> Option<String> {
    let (mut next_id, mut places, mut keys) = (1, BTreeMap::new(), BTreeMap::new());
    for given in given {
        let (owner, incarnation, pseq) = match *given {
            Given::Item(owner, incarnation, pseq, _) | Given::Duplicate(owner, incarnation, pseq, _) => {
                (owner, incarnation, pseq)
            }
            Given::Gone(owner, incarnation, _) => (owner, incarnation, 0),
        };
        if pseq > 0 {
            let place = places.entry((owner, incarnation)).or_insert(0);
            *place += 1;
            if *place != pseq {
                return Some(format!("{given:?} where place {place} is next"));
            }
        }
        let key = key_of(owner, incarnation, pseq).filter(|_| pseq > 0);
        let first = key.as_ref().and_then(|key| keys.get(key).copied());
        match *given {
            Given::Duplicate(.., id) if first == Some(id) => {}
            Given::Item(.., id) | Given::Gone(.., id) if id == next_id && first.is_none() => {
                keys.extend(key.map(|key| (key, id)));
                next_id += 1;
            }
            _ => return Some(format!("{given:?} where id {next_id} is next")),
        }
    }
    None
}

proptest! {
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ids_are_those_of_the_definition(log in any_log()) {
        let (resolver, given) = run(&log, Rules::default());
        let mut naive = Naive::default();
        log.iter().for_each(|entry| naive.apply(entry));
        prop_assert_eq!(&given, &naive.given);
        prop_assert_eq!(resolver.next_id().value(), naive.next_id + 1);
    }

    #[test]
    fn a_recovered_tail_has_no_order_of_its_own(log in any_log(), turn in 0..4usize) {
        let mut turned = log.clone();
        for op in turned.iter_mut().flat_map(|entry| &mut entry.ops) {
            if let Op::Join(Join { recovered, .. }) = op && !recovered.is_empty() {
                let turn = turn % recovered.len();
                recovered.rotate_left(turn);
            }
        }
        let ((resolver, given), (other, other_given)) = (run(&log, Rules::default()), run(&turned, Rules::default()));
        prop_assert_eq!((given, resolver.digest()), (other_given, other.digest()));
    }

    #[test]
    fn each_item_once_in_order_and_ids_dense(log in any_log()) {
        prop_assert_eq!(fault(&run(&log, Rules::default()).1), None);
    }

    #[test]
    fn learners_agree_wherever_they_stopped(log in any_log(), stop in 0..30usize) {
        let (whole, given) = run(&log, Rules::default());
        let (mut late, mut late_given) = run(&log[..stop.min(log.len())], Rules::default());
        prop_assert!(given.starts_with(&late_given), "what was given stays (I7)");
        let mut outcomes = Vec::new();
        for (slot, entry) in (1..).zip(&log).skip(stop.min(log.len())) {
            late.apply(Slot(slot), entry, &mut outcomes).unwrap();
        }
        late_given.extend(spread(&outcomes));
        prop_assert_eq!(given, late_given);
        prop_assert_eq!(whole.digest(), late.digest());
    }

    #[test]
    fn a_forecast_comes_true(log in any_log(), owner in 1..3u16, more in 0..6u64) {
        let (mut resolver, _) = run(&log, Rules::default());
        let (incarnation, next) = resolver.owner(NodeId(owner));
        let x = segment(owner, incarnation.0, 99, next.0, next.0 + more);
        let forecast = resolver.forecast(&x);
        let mut outcomes = Vec::new();
        resolver.apply(resolver.applied().next(), &entry(vec![Op::Segment(x)]), &mut outcomes).unwrap();
        // Segments that were held back may follow at once; a solo holds nothing back.
        prop_assert!(outcomes.starts_with(&forecast), "{forecast:?} {outcomes:?}");
    }
}

#[test]
fn slots_are_applied_in_order() {
    let mut resolver = Resolver::default();
    let outcomes = &mut Vec::new();
    assert_eq!(resolver.apply(Slot(2), &entry(vec![]), outcomes), Err(OutOfOrder { expected: Slot(1) }));
    assert_eq!(resolver.apply(Slot(1), &LedgerEntry { dt_ms: 9, ops: vec![] }, outcomes), Ok(()));
    assert_eq!(resolver.apply(Slot(1), &entry(vec![]), outcomes), Err(OutOfOrder { expected: Slot(2) }));
    assert_eq!(resolver.apply(Slot(2), &LedgerEntry { dt_ms: 3, ops: vec![] }, outcomes), Ok(()));
    assert_eq!((resolver.dt_ms(), resolver.digest()), (9, resolver.clone().digest()));
}

#[test]
fn the_same_process_keeps_its_sessions_another_ends_them() {
    let log = [
        entry(vec![join(1, 1, 11, None, vec![])]),
        entry(vec![join(1, 2, 12, Some(11), vec![])]),
        entry(vec![join(1, 2, 13, None, vec![])]),
        entry(vec![join(1, 3, 14, Some(11), vec![])]),
    ];
    let (resolver, given) = run(&log, Rules::default());
    assert_eq!(given, [Given::Gone(1, 2, 1)], "11 is not the nonce of life 2");
    assert_eq!(resolver.owner(NodeId(1)), (Incarnation(3), Pseq(1)));
    assert_eq!(
        [11, 12, 13, 14].map(|nonce| resolver.granted(NodeId(1), nonce).map(|life| life.0)),
        [Some(1), Some(2), None, Some(3)]
    );
}

#[test]
fn a_recovered_tail_is_ordered_with_the_join_and_what_is_behind_a_gap_is_not() {
    let tail = vec![segment(1, 1, 3, 7, 8), segment(1, 1, 2, 3, 4), segment(1, 1, 1, 1, 2)];
    let log = [entry(vec![join(1, 1, 1, None, vec![])]), entry(vec![join(1, 2, 2, None, tail)])];
    let (resolver, given) = run(&log, Rules::default());
    let places: Vec<_> =
        given.iter().filter_map(|given| if let Given::Item(_, 1, p, _) = given { Some(*p) } else { None }).collect();
    assert_eq!(places, [1, 2, 3, 4]);
    assert_eq!(resolver.owner(NodeId(1)), (Incarnation(2), Pseq(1)));
    assert!(!resolver.is_open(&segment(1, 1, 3, 7, 8)) && resolver.is_open(&segment(1, 2, 1, 1, 1)));
}

#[test]
fn a_join_recovers_the_life_that_ends_and_nothing_else() {
    let start = entry(vec![join(1, 1, 1, None, vec![]), join(2, 1, 2, None, vec![])]);
    let (own, foreign) = (segment(1, 1, 3, 1, 1), segment(2, 1, 1, 1, 1));
    for recovered in [vec![own.clone(), foreign.clone()], vec![foreign.clone(), own.clone()]] {
        let log = [start.clone(), entry(vec![join(1, 2, 0, None, recovered)]), entry(vec![Op::Segment(foreign.clone())])];
        let (_, given) = run(&log, Rules::default());
        assert_eq!(given, [Given::Item(1, 1, 1, 1), Given::Gone(1, 1, 2), Given::Item(2, 1, 1, 3)]);
    }
}

#[test]
fn held_segments_are_bounded() {
    let mut resolver = Resolver::default();
    let mut outcomes = Vec::new();
    let many = (0..=MAX_HELD as u64).map(|n| Op::Segment(segment(1, 1, n, n + 2, n + 2)));
    let ops = std::iter::once(join(1, 1, 1, None, vec![])).chain(many).collect();
    resolver.apply(Slot(1), &entry(ops), &mut outcomes).unwrap();
    assert!(matches!(outcomes.last(), Some(Outcome::Dropped(_))));
    outcomes.clear();
    resolver.apply(Slot(2), &entry(vec![Op::Segment(segment(1, 1, 9999, 1, 1))]), &mut outcomes).unwrap();
    assert_eq!(resolver.owner(NodeId(1)).1, Pseq(MAX_HELD as u64 + 2));
}

#[test]
fn the_checks_have_teeth() {
    let start = entry(vec![join(1, 1, 1, None, vec![])]);
    let gap = [start.clone(), entry(vec![Op::Segment(segment(1, 1, 2, 3, 4))]), entry(vec![Op::Segment(segment(1, 1, 1, 1, 2))])];
    let again = [start.clone(), entry(vec![Op::Segment(segment(1, 1, 1, 1, 3)), Op::Segment(segment(1, 1, 2, 2, 4))])];
    // Places 2 and 17 have the same key.
    let keyed = [start, entry(vec![Op::Segment(segment(1, 1, 1, 1, 17))])];
    for (log, rule) in [(&gap[..], Rule::HoldBack), (&again[..], Rule::DropOrdered), (&keyed[..], Rule::KeyedOnce)] {
        assert_eq!(fault(&run(log, Rules::default()).1), None, "{rule:?}");
        assert!(fault(&run(log, Rules::without(rule)).1).is_some(), "{rule:?}");
    }
}
