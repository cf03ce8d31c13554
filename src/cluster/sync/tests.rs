//! Tests of a sync: certificates, recovery in the order of section 8.1, and the atomic Join.
use bytes::Bytes;

use super::*;
use crate::cluster::quorum::Group;
use crate::cluster::resolver::{Outcome, Resolver};
use crate::cluster::seen::SeenLimits;
use crate::cluster::segment::{GroupId, LedgerId, Pseq, SegmentNumber, StreamId};

const OWNER: NodeId = NodeId(7);

fn members() -> Members {
    let group = Group { id: GroupId(0), members: (0..3).map(NodeId).collect(), write_quorum: 2 };
    Members { groups: vec![group], syncs: vec![NodeId(0)], entries: vec![OWNER] }
}

fn items(count: u64) -> Vec<Item> {
    let item = |n: u64| Item { body: Bytes::copy_from_slice(&n.to_le_bytes()), dedup: None, is_control: false, weight: 8 };
    (1..=count).map(item).collect()
}

fn key(incarnation: u32) -> SegmentKey {
    let stream = StreamId { owner: OWNER, incarnation: Incarnation(incarnation), ledger: LedgerId(0) };
    SegmentKey { stream, segment: SegmentNumber(1) }
}

fn join(incarnation: u32, nonce: u128) -> LedgerEntry {
    let incarnation = Incarnation(incarnation);
    LedgerEntry { dt_ms: 0, ops: vec![Op::Join(Join { owner: OWNER, incarnation, nonce, prev_nonce: None, recovered: vec![] })] }
}

/// A leader that knows of the first life.
fn leader(rules: Rules) -> Sync {
    let mut sync = Sync::start_with(NodeId(0), members(), rules);
    sync.handle_leading(true);
    sync.handle_decided(Slot(1), join(1, 11));
    drain(&mut sync);
    sync
}

fn drain(sync: &mut Sync) -> Vec<Effect> {
    std::iter::from_fn(|| sync.poll_effect(5)).collect()
}

fn proposals(effects: Vec<Effect>) -> Vec<LedgerEntry> {
    effects.into_iter().filter_map(|effect| if let Effect::Propose(entry) = effect { Some(entry) } else { None }).collect()
}

fn fenced(sync: &mut Sync, ndb: u16, nonce: u128, held: u64) {
    let (owner, incarnation, ndb) = (OWNER, Incarnation(1), NodeId(ndb));
    let reports = vec![Report { key: key(1), group: GroupId(0), from: Pseq(1), items: items(held) }];
    sync.handle_message(Message::EntryFenced { owner, incarnation, nonce, ndb, reports });
}

#[test]
fn a_segment_is_proposed_once_with_its_certificate() {
    let mut sync = leader(Rules::default());
    let segment = SegRef::of(key(1), GroupId(0), Pseq(1), &items(2)).unwrap();
    for (ndb, expected) in [(0, 0), (0, 0), (1, 1), (2, 0)] {
        sync.handle_message(Message::GenerateDraft { segment: segment.clone(), ndb: NodeId(ndb) });
        assert_eq!(proposals(drain(&mut sync)).len(), expected, "ndb {ndb}");
    }
    sync.handle_leading(true);
    let again = proposals(drain(&mut sync));
    assert_eq!(again, [LedgerEntry { dt_ms: 5, ops: vec![Op::Segment(segment.clone())] }], "a new leadership proposes again");
    sync.handle_decided(Slot(2), again.into_iter().next().unwrap());
    assert!(drain(&mut sync).iter().any(|effect| matches!(effect, Effect::Resolved { slot: Slot(2), .. })));
    sync.handle_message(Message::GenerateDraft { segment, ndb: NodeId(1) });
    sync.handle_leading(true);
    assert_eq!(drain(&mut sync), [], "what is ordered is not proposed");
}

#[test]
fn who_does_not_lead_proposes_nothing() {
    let mut sync = leader(Rules::default());
    sync.handle_leading(false);
    let segment = SegRef::of(key(1), GroupId(0), Pseq(1), &items(2)).unwrap();
    for ndb in 0..3 {
        sync.handle_message(Message::GenerateDraft { segment: segment.clone(), ndb: NodeId(ndb) });
    }
    sync.handle_message(Message::InitEntry { owner: OWNER, nonce: 12, prev_nonce: None });
    assert_eq!(drain(&mut sync), []);
}

/// The proposals of the recovery, as far as the ledger decides them.
fn recovery(rules: Rules) -> Vec<LedgerEntry> {
    let mut sync = leader(rules);
    sync.handle_message(Message::InitEntry { owner: OWNER, nonce: 12, prev_nonce: None });
    let asked = drain(&mut sync);
    let is_fence = |effect: &Effect| matches!(effect, Effect::Send { message: Message::FenceEntry { nonce: 12, .. }, .. });
    assert_eq!(asked.iter().filter(|effect| is_fence(effect)).count(), 3);
    fenced(&mut sync, 0, 99, 9);
    fenced(&mut sync, 0, 12, 1);
    assert_eq!(drain(&mut sync), [], "F = 2");
    fenced(&mut sync, 2, 12, 3);
    let copies = drain(&mut sync);
    let is_copy = |effect: &Effect| matches!(effect, Effect::Send { message: Message::CopyAdvanceHistory { items, .. }, .. } if items.len() == 3);
    assert!(copies.len() == 3 && copies.iter().all(is_copy), "{copies:?}");
    let segment = SegRef::of(key(1), GroupId(0), Pseq(1), &items(3)).unwrap();
    let mut proposed = Vec::new();
    for ndb in [0, 2] {
        assert_eq!(proposed, [], "no proposal before W drafts");
        sync.handle_message(Message::GenerateDraft { segment: segment.clone(), ndb: NodeId(ndb) });
        proposed = proposals(drain(&mut sync));
    }
    proposed
}

/// Whether the next life can be granted without the tail: a ledger may lose any proposal of a leader that falls.
fn loses_the_tail(proposed: &[LedgerEntry]) -> bool {
    (0..1u32 << proposed.len()).any(|kept| {
        let mut resolver = Resolver::new(SeenLimits::default(), Rules::default());
        let mut outcomes = Vec::new();
        resolver.apply(Slot(1), &join(1, 11), &mut outcomes).unwrap();
        let decided = proposed.iter().enumerate().filter(|(at, _)| kept >> at & 1 == 1).map(|(_, entry)| entry);
        for (slot, entry) in (2..).zip(decided) {
            resolver.apply(Slot(slot), entry, &mut outcomes).unwrap();
        }
        let has_tail = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Ordered { to: Pseq(3), .. }));
        resolver.granted(OWNER, 12).is_some() && !has_tail
    })
}

#[test]
fn the_next_life_comes_with_the_tail_of_the_last() {
    assert!(!loses_the_tail(&recovery(Rules::default())));
    assert!(loses_the_tail(&recovery(Rules::without(Rule::AtomicJoin))));
}

#[test]
fn a_granted_nonce_is_not_served_again() {
    let mut sync = leader(Rules::default());
    sync.handle_message(Message::InitEntry { owner: OWNER, nonce: 11, prev_nonce: None });
    sync.handle_message(Message::InitEntry { owner: NodeId(1), nonce: 5, prev_nonce: None });
    assert_eq!(drain(&mut sync), [], "a repeated request must not fence a live entry, nor a stranger anybody");
}
