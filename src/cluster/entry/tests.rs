//! Tests of an entry: segments close by load, acknowledgements are cumulative, a lost life is never used again.
use bytes::Bytes;

use super::*;
use crate::cluster::quorum::Group;
use crate::cluster::segment::{Join, Op};

fn members() -> Members {
    let group = |g: u16| Group { id: GroupId(g), members: (g * 3..g * 3 + 3).map(NodeId).collect(), write_quorum: 2 };
    Members { groups: vec![group(0), group(1)], syncs: vec![NodeId(0)], entries: vec![NodeId(7)] }
}

fn item(body: u64) -> Item {
    Item { body: Bytes::copy_from_slice(&body.to_le_bytes()), dedup: None, is_control: false, weight: 10 }
}

fn drain(entry: &mut Entry) -> Vec<Effect> {
    std::iter::from_fn(|| entry.poll_effect()).collect()
}

fn decide(entry: &mut Entry, slot: u64, op: Op) -> Vec<Effect> {
    let message = Message::AdvanceSegmentResolved { slot: Slot(slot), entry: LedgerEntry { dt_ms: 0, ops: vec![op] } };
    entry.handle_message(message);
    drain(entry)
}

fn grant(incarnation: u32, nonce: u128) -> Op {
    let incarnation = Incarnation(incarnation);
    Op::Join(Join { owner: NodeId(7), incarnation, nonce, prev_nonce: None, recovered: vec![] })
}

fn joined(mode: Mode) -> Entry {
    let limits = EntryLimits { window_bytes: 100, ..EntryLimits::default() };
    let mut entry = Entry::start(NodeId(7), LedgerId(0), members(), mode, limits, 11);
    assert_eq!(entry.submit(Ticket(1), item(1)), Err(NotTaken::NotJoined));
    drain(&mut entry);
    let effects = decide(&mut entry, 1, grant(1, 11));
    assert_eq!(effects[0], Effect::Joined(Incarnation(1)));
    entry
}

/// The messages for the ndb with this number.
fn sent(effects: &[Effect], ndb: u16) -> Vec<Message> {
    let to_ndb = |effect: &Effect| match effect {
        Effect::Send { to: Peer::Ndb(to), message } if to.0 == ndb => Some(message.clone()),
        _ => None,
    };
    effects.iter().filter_map(to_ndb).collect()
}

fn key(segment: u64) -> SegmentKey {
    let stream = StreamId { owner: NodeId(7), incarnation: Incarnation(1), ledger: LedgerId(0) };
    SegmentKey { stream, segment: SegmentNumber(segment) }
}

fn trim(entry: &mut Entry, segment: u64, ndb: u16, durable_to: u64) -> Vec<Effect> {
    let (key, ndb, durable_to) = (key(segment), NodeId(ndb), Pseq(durable_to));
    entry.handle_message(Message::TrimAdvanceSegment { key, ndb, durable_to, credit_bytes: 0 });
    drain(entry)
}

#[test]
fn the_first_segment_is_over_at_once_the_next_with_its_first_mark() {
    let mut entry = joined(Mode::Ordered);
    entry.submit(Ticket(1), item(1)).unwrap();
    let effects = drain(&mut entry);
    let over = SegRef::of(key(1), GroupId(0), Pseq(1), &[item(1)]).unwrap();
    assert!(matches!(&sent(&effects, 0)[..], [Message::KeepAdvanceHistory { over: Some(end), .. }] if *end == over));
    assert_eq!(effects.len(), 3, "one to each member");
    entry.submit(Ticket(2), item(2)).unwrap();
    assert!(matches!(&sent(&drain(&mut entry), 3)[..], [Message::KeepAdvanceHistory { over: None, .. }]));
    entry.submit(Ticket(3), item(3)).unwrap();
    assert!(matches!(&sent(&drain(&mut entry), 3)[..], [Message::KeepAdvanceHistory { first: Pseq(3), over: None, .. }]));
    let second = SegRef::of(key(2), GroupId(1), Pseq(2), &[item(2), item(3)]).unwrap();
    assert_eq!(sent(&trim(&mut entry, 2, 3, 2), 3), [Message::AdvanceSegmentOver(second.clone())]);
    let acknowledged = |n: u64, id: u64| Effect::Acknowledge { ticket: Ticket(n), id: EventId::new(id) };
    assert_eq!(decide(&mut entry, 2, Op::Segment(over))[0], acknowledged(1, 1));
    assert_eq!(decide(&mut entry, 3, Op::Segment(second))[..2], [acknowledged(2, 2), acknowledged(3, 3)]);
    assert!(entry.is_idle() && entry.segments.is_empty() && entry.window_bytes == 0);
}

#[test]
fn durable_acknowledgements_are_cumulative() {
    let mut entry = joined(Mode::Durable);
    entry.submit(Ticket(1), item(1)).unwrap();
    drain(&mut entry);
    entry.submit(Ticket(2), item(2)).unwrap();
    drain(&mut entry);
    for ndb in [3, 4] {
        let effects = trim(&mut entry, 2, ndb, 2);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Acknowledge { .. })), "the first is not durable");
    }
    trim(&mut entry, 1, 0, 1);
    let acknowledged = |n: u64| Effect::Acknowledge { ticket: Ticket(n), id: None };
    assert_eq!(trim(&mut entry, 1, 2, 1), [acknowledged(1), acknowledged(2)]);
}

#[test]
fn what_is_stuck_goes_to_the_next_group_ever_more_rarely() {
    let mut entry = joined(Mode::Ordered);
    entry.submit(Ticket(1), item(1)).unwrap();
    drain(&mut entry);
    let mut again = Vec::new();
    for tick in 0..20 {
        entry.handle_tick();
        let effects = drain(&mut entry);
        if !sent(&effects, 0).is_empty() || !sent(&effects, 3).is_empty() {
            again.push(tick);
        }
    }
    assert_eq!(again, [1, 2, 4, 8, 16]);
}

#[test]
fn windows_are_bounded_and_a_lost_life_is_not_used_again() {
    let mut entry = joined(Mode::Ordered);
    for n in 0..10 {
        entry.submit(Ticket(n), item(n)).unwrap();
    }
    assert_eq!(entry.submit(Ticket(10), item(10)), Err(NotTaken::WindowFull));
    drain(&mut entry);
    entry.handle_message(Message::Refused { stream: key(1).stream, fenced: Incarnation(1) });
    assert_eq!(drain(&mut entry), [Effect::Superseded(Incarnation(1))]);
    entry.rejoin(12);
    let request = Message::InitEntry { owner: NodeId(7), nonce: 12, prev_nonce: Some(11) };
    assert_eq!(drain(&mut entry), [Effect::Send { to: Peer::Sync(NodeId(0)), message: request }]);
    assert_eq!(decide(&mut entry, 2, grant(2, 12))[0], Effect::Joined(Incarnation(2)));
    assert_eq!(entry.submit(Ticket(11), item(11)), Ok(Pseq(1)));
    assert_eq!(decide(&mut entry, 3, grant(3, 99)).iter().filter(|effect| matches!(effect, Effect::Superseded(_))).count(), 1);
    assert_eq!(entry.submit(Ticket(12), item(12)), Err(NotTaken::NotJoined));
}
