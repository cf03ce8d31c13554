//! Tests of an ndb: nothing counts before its sync, fences hold, and a restart remembers what was durable.
use bytes::Bytes;

use super::*;
use crate::cluster::quorum::Group;
use crate::cluster::segment::{Digest, Join, LedgerId, SegmentNumber, StreamId};

fn members() -> Members {
    let group = Group { id: GroupId(0), members: (0..3).map(NodeId).collect(), write_quorum: 2 };
    Members { groups: vec![group], syncs: vec![NodeId(0), NodeId(1)], entries: vec![NodeId(7)] }
}

fn items(from: u64, to: u64) -> Vec<Item> {
    let item = |n: u64| Item { body: Bytes::copy_from_slice(&n.to_le_bytes()), dedup: None, is_control: false, weight: 8 };
    (from..=to).map(item).collect()
}

fn key(incarnation: u32) -> SegmentKey {
    let stream = StreamId { owner: NodeId(7), incarnation: Incarnation(incarnation), ledger: LedgerId(0) };
    SegmentKey { stream, segment: SegmentNumber(1) }
}

fn over(to: u64) -> SegRef {
    SegRef::of(key(1), GroupId(0), Pseq(1), &items(1, to)).unwrap()
}

fn keep(first: u64, to: u64, over: Option<SegRef>) -> Message {
    let (key, group, from, first) = (key(1), GroupId(0), Pseq(1), Pseq(first));
    Message::KeepAdvanceHistory { key, group, from, first, items: items(first.0, to), over }
}

fn fence() -> Message {
    Message::FenceEntry { owner: NodeId(7), incarnation: Incarnation(1), sync: NodeId(0), nonce: 5 }
}

fn drain(ndb: &mut Ndb) -> Vec<Effect> {
    std::iter::from_fn(|| ndb.poll_effect()).collect()
}

/// Everything that is said once the sync is done; before it only writes and the sync.
fn said(ndb: &mut Ndb, log: &mut Vec<NdbWrite>) -> Vec<Message> {
    let mut token = None;
    for effect in drain(ndb) {
        match effect {
            Effect::Write(write) => log.push(write),
            Effect::Sync { token: asked } => token = Some(asked),
            other => panic!("{other:?} before its sync"),
        }
    }
    ndb.handle_synced(token.unwrap());
    messages(drain(ndb))
}

fn messages(effects: Vec<Effect>) -> Vec<Message> {
    effects
        .into_iter()
        .filter_map(|effect| if let Effect::Send { message, .. } = effect { Some(message) } else { None })
        .collect()
}

fn trims(messages: &[Message]) -> Vec<u64> {
    let trim =
        |message: &Message| if let Message::TrimAdvanceSegment { durable_to, .. } = message { Some(durable_to.0) } else { None };
    messages.iter().filter_map(trim).collect()
}

fn drafts(messages: &[Message]) -> Vec<SegRef> {
    let draft =
        |message: &Message| if let Message::GenerateDraft { segment, .. } = message { Some(segment.clone()) } else { None };
    messages.iter().filter_map(draft).collect()
}

#[test]
fn marks_are_cumulative_and_durable() {
    let (mut ndb, mut log) = (Ndb::start(NodeId(1), members(), []), Vec::new());
    ndb.handle_message(keep(3, 4, Some(over(4))));
    assert_eq!(said(&mut ndb, &mut log), [], "a gap before it");
    ndb.handle_message(keep(1, 2, None));
    let all = said(&mut ndb, &mut log);
    assert_eq!((trims(&all), drafts(&all)), (vec![4], vec![over(4), over(4)]), "one draft to each sync");
    let mut again = Ndb::start(NodeId(1), members(), log);
    assert_eq!(drain(&mut again), []);
    again.handle_tick();
    assert_eq!(drafts(&messages(drain(&mut again))).len(), 2, "announced again after a restart");
}

#[test]
fn an_end_with_another_digest_is_no_draft() {
    let mut ndb = Ndb::start(NodeId(1), members(), []);
    ndb.handle_message(keep(1, 2, Some(SegRef { digest: Digest(1), ..over(2) })));
    let all = said(&mut ndb, &mut Vec::new());
    assert_eq!((trims(&all), drafts(&all)), (vec![2], vec![]));
}

#[test]
fn a_fence_makes_the_tail_durable_and_silences_the_life() {
    let (mut ndb, mut log) = (Ndb::start(NodeId(1), members(), []), Vec::new());
    ndb.handle_message(keep(1, 2, None));
    ndb.handle_message(fence());
    ndb.handle_message(keep(3, 4, None));
    let refused = Message::Refused { stream: key(1).stream, fenced: Incarnation(1) };
    let effects = drain(&mut ndb);
    assert!(effects.contains(&Effect::Send { to: Peer::Entry(NodeId(7)), message: refused.clone() }), "soon fenced");
    let token = effects.iter().find_map(|effect| if let Effect::Sync { token } = effect { Some(*token) } else { None });
    log.extend(effects.into_iter().filter_map(|effect| if let Effect::Write(write) = effect { Some(write) } else { None }));
    ndb.handle_synced(token.unwrap());
    let (reports, nonce) = (vec![Report { key: key(1), group: GroupId(0), from: Pseq(1), items: items(1, 2) }], 5);
    let answer = Message::EntryFenced { owner: NodeId(7), incarnation: Incarnation(1), nonce, ndb: NodeId(1), reports };
    assert_eq!(messages(drain(&mut ndb)), [answer], "no TRIM after the fence (R9)");
    let mut again = Ndb::start(NodeId(1), members(), log);
    again.handle_message(keep(3, 4, None));
    assert_eq!(messages(drain(&mut again)), [refused], "a fence is not forgotten");
    again.handle_message(Message::CopyAdvanceHistory { segment: over(3), items: items(1, 3) });
    let all = said(&mut again, &mut Vec::new());
    assert_eq!((trims(&all), drafts(&all).len()), (vec![], 2), "a copy is drafted, never trimmed");
}

#[test]
fn two_bodies_in_one_place_stop_the_process() {
    let mut ndb = Ndb::start(NodeId(1), members(), []);
    ndb.handle_message(keep(1, 2, None));
    let (key, group, from, first) = (key(1), GroupId(0), Pseq(1), Pseq(2));
    ndb.handle_message(Message::KeepAdvanceHistory { key, group, from, first, items: items(9, 9), over: None });
    let effects = drain(&mut ndb);
    let Some(Effect::Sync { token }) = effects.last() else { panic!("{effects:?}") };
    ndb.handle_synced(*token);
    assert!(drain(&mut ndb).contains(&Effect::Fatal(Breach::Content(key, Pseq(2)))));
}

#[test]
fn what_is_ordered_is_let_go_and_checked() {
    let mut ndb = Ndb::start(NodeId(1), members(), []);
    let grant = Join { owner: NodeId(7), incarnation: Incarnation(1), nonce: 1, prev_nonce: None, recovered: vec![] };
    let decide = |ndb: &mut Ndb, slot, op| {
        ndb.handle_message(Message::AdvanceSegmentResolved { slot: Slot(slot), entry: LedgerEntry { dt_ms: 0, ops: vec![op] } });
        drain(ndb)
    };
    decide(&mut ndb, 1, Op::Join(grant));
    ndb.handle_message(keep(1, 2, Some(over(2))));
    said(&mut ndb, &mut Vec::new());
    assert_eq!(ndb.unresolved_bytes, 16);
    let mut wrong = ndb.learner.clone();
    assert!(matches!(&decide(&mut ndb, 2, Op::Segment(over(2)))[..], [Effect::Resolved { slot: Slot(2), .. }]));
    assert_eq!((ndb.unresolved_bytes, ndb.stored.len()), (0, 0));
    // The same, elected with another digest.
    std::mem::swap(&mut ndb.learner, &mut wrong);
    ndb.handle_message(keep(1, 2, Some(over(2))));
    said(&mut ndb, &mut Vec::new());
    let effects = decide(&mut ndb, 2, Op::Segment(SegRef { digest: Digest(1), ..over(2) }));
    assert!(effects.contains(&Effect::Fatal(Breach::Certificate(key(1), over(2).digest))), "{effects:?}");
}
