//! Tests of the solo pipeline: batches by load, ids, duplicates, windows and refusals.
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::cluster::segment::Slot;

fn item(body: u64) -> Item {
    Item { body: Bytes::copy_from_slice(&body.to_le_bytes()), dedup: None, is_control: false, weight: 10 }
}

fn keyed(body: u64, key: u64) -> Item {
    Item { dedup: Some(DedupKey { scope: 1, key }), ..item(body) }
}

fn identity(nonce: u128) -> Identity {
    Identity { owner: NodeId(1), ledger: LedgerId(0), nonce }
}

fn fresh(limits: SoloLimits) -> Solo {
    Solo::start(identity(1), Restored::new(limits.seen), limits)
}

fn drain(solo: &mut Solo, now_ms: u64) -> Vec<SoloEffect> {
    std::iter::from_fn(|| solo.poll_effect(now_ms)).collect()
}

/// The write and the token among these effects, which are nothing else.
fn written(effects: &[SoloEffect]) -> (&Write, SyncToken) {
    match effects {
        [SoloEffect::Write(write), SoloEffect::Sync { token }] => (write, *token),
        _ => panic!("no write: {effects:?}"),
    }
}

/// A solo that has its life.
fn joined(limits: SoloLimits) -> Solo {
    let mut solo = fresh(limits);
    let effects = drain(&mut solo, 100);
    solo.handle_synced(written(&effects).1);
    assert_eq!(drain(&mut solo, 100), [SoloEffect::Joined(Incarnation(1))]);
    solo
}

fn ordered(ticket: u64, offset: usize, count: usize, first_id: u64, dt_ms: u64, is_duplicate: bool) -> SoloEffect {
    SoloEffect::Ordered { ticket: Ticket(ticket), offset, count, first_id: EventId(first_id), dt_ms, is_duplicate }
}

fn refused(ticket: u64, offset: usize, count: usize, reason: Refusal) -> SoloEffect {
    SoloEffect::Refused { ticket: Ticket(ticket), offset, count, reason }
}

#[test]
fn a_head_comes_back_from_its_bytes() {
    let head = Head {
        slot: Slot(1),
        dt_ms: u64::MAX,
        incarnation: Incarnation(3),
        segment: SegmentNumber(4),
        from: Pseq(5),
        to: Pseq(6),
        digest: Digest(u128::MAX - 7),
    };
    assert_eq!(Head::decode(&head.encode()), Some(head));
    assert_eq!(Head::decode(&head.encode()[1..]), None);
    assert_eq!(Head::decode(&[0; Head::LENGTH + 1]), None);
}

#[test]
fn the_first_write_grants_a_life_and_then_an_idle_solo_writes_nothing() {
    let mut solo = joined(SoloLimits::default());
    assert!(solo.is_idle());
    for now_ms in 0..1000 {
        assert_eq!(solo.poll_effect(now_ms * 1000), None);
    }
}

#[test]
fn a_batch_is_one_write_and_one_sync_and_nothing_is_said_before() {
    let mut solo = joined(SoloLimits::default());
    solo.submit(Ticket(7), vec![item(1), item(2)]).unwrap();
    solo.submit(Ticket(8), vec![item(3)]).unwrap();
    let effects = drain(&mut solo, 200);
    let (write, token) = written(&effects);
    assert_eq!((write.head.slot, write.head.dt_ms, write.head.from, write.head.to), (Slot(2), 200, Pseq(1), Pseq(3)));
    let ids: Vec<_> = write.records.iter().map(|record| record.id.0).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(write.records[2].content, Content::Item(item(3)));
    solo.submit(Ticket(9), vec![item(4)]).unwrap();
    assert_eq!(drain(&mut solo, 201), [], "a sync is in flight");
    solo.handle_synced(SyncToken(999));
    assert_eq!(drain(&mut solo, 201), [], "another token");
    solo.handle_synced(token);
    let effects = drain(&mut solo, 150);
    assert_eq!(effects[..2], [ordered(7, 0, 2, 1, 200, false), ordered(8, 0, 1, 3, 200, false)]);
    let (write, token) = written(&effects[2..]);
    assert_eq!((write.head.dt_ms, write.head.segment), (200, SegmentNumber(2)), "time never goes back");
    solo.handle_synced(token);
    solo.handle_synced(token);
    assert_eq!(drain(&mut solo, 300), [ordered(9, 0, 1, 4, 200, false)]);
}

#[test]
fn a_key_gives_the_first_id_within_a_batch_and_later() {
    let mut solo = joined(SoloLimits::default());
    solo.submit(Ticket(1), vec![item(1), keyed(2, 5), keyed(3, 5), item(4)]).unwrap();
    let effects = drain(&mut solo, 200);
    let (write, token) = written(&effects);
    let bodies: Vec<_> = write.records.iter().map(|record| (record.id.0, record.content.clone())).collect();
    let kept = [(1, Content::Item(item(1))), (2, Content::Item(keyed(2, 5))), (3, Content::Item(item(4)))];
    assert_eq!(bodies, kept, "a duplicate is not in history");
    solo.handle_synced(token);
    let said = [ordered(1, 0, 2, 1, 200, false), ordered(1, 2, 1, 2, 200, true), ordered(1, 3, 1, 3, 200, false)];
    assert_eq!(drain(&mut solo, 200), said);
    solo.submit(Ticket(2), vec![keyed(9, 5)]).unwrap();
    let effects = drain(&mut solo, 300);
    solo.handle_synced(written(&effects).1);
    assert_eq!(drain(&mut solo, 300), [ordered(2, 0, 1, 2, 300, true)]);
    assert_eq!(solo.next_id(), EventId(4));
}

#[test]
fn windows_and_batches_are_bounded() {
    let limits = SoloLimits { window_bytes: 50, window_items: 5, batch_bytes: 25, ..SoloLimits::default() };
    let mut solo = joined(limits);
    assert_eq!(solo.submit(Ticket(1), (0..6).map(item).collect()), Err(Refusal::TooLarge));
    solo.submit(Ticket(2), (0..3).map(item).collect()).unwrap();
    assert_eq!(solo.submit(Ticket(3), (0..3).map(item).collect()), Err(Refusal::WindowFull));
    assert_eq!(solo.room_bytes(), 20);
    let effects = drain(&mut solo, 1);
    let (write, token) = written(&effects);
    assert_eq!(write.records.len(), 2, "a batch of 25 bytes");
    solo.handle_synced(token);
    let effects = drain(&mut solo, 1);
    assert_eq!(effects[0], ordered(2, 0, 2, 1, 100, false));
    solo.handle_synced(written(&effects[1..]).1);
    assert_eq!(drain(&mut solo, 1), [ordered(2, 2, 1, 3, 100, false)]);
    assert_eq!(solo.room_bytes(), 50);
    let heavy = Item { weight: 50, ..item(1) };
    solo.submit(Ticket(4), vec![heavy]).unwrap();
    assert_eq!(written(&drain(&mut solo, 1)).0.records.len(), 1, "one item heavier than a batch goes alone");
}

#[test]
fn a_failed_sync_poisons() {
    let mut solo = joined(SoloLimits::default());
    solo.submit(Ticket(1), vec![item(1)]).unwrap();
    let token = written(&drain(&mut solo, 1)).1;
    solo.submit(Ticket(2), vec![item(2), item(3)]).unwrap();
    solo.handle_failed();
    assert_eq!(drain(&mut solo, 1), [refused(1, 0, 1, Refusal::Poisoned), refused(2, 0, 2, Refusal::Poisoned)]);
    solo.handle_synced(token);
    solo.handle_room();
    assert_eq!(solo.submit(Ticket(3), vec![item(4)]), Err(Refusal::Poisoned));
    assert_eq!(drain(&mut solo, 1), []);
}

#[test]
fn a_full_disk_refuses_and_recovers_without_a_gap() {
    let mut solo = joined(SoloLimits::default());
    solo.submit(Ticket(1), vec![keyed(1, 1)]).unwrap();
    drain(&mut solo, 1);
    solo.submit(Ticket(2), vec![item(2)]).unwrap();
    solo.handle_disk_full();
    assert_eq!(drain(&mut solo, 1), [refused(1, 0, 1, Refusal::DiskFull), refused(2, 0, 1, Refusal::DiskFull)]);
    assert_eq!(solo.submit(Ticket(3), vec![item(3)]), Err(Refusal::DiskFull));
    solo.handle_room();
    solo.submit(Ticket(4), vec![keyed(1, 1)]).unwrap();
    let effects = drain(&mut solo, 200);
    let (write, token) = written(&effects);
    assert_eq!((write.head.slot, write.head.from, write.records[0].id), (Slot(2), Pseq(1), EventId(1)), "nothing was used up");
    solo.submit(Ticket(5), vec![item(5)]).unwrap();
    solo.handle_low_space();
    assert_eq!(drain(&mut solo, 200), [refused(5, 0, 1, Refusal::DiskFull)]);
    solo.handle_synced(token);
    assert_eq!(drain(&mut solo, 200), [ordered(4, 0, 1, 1, 200, false)], "what was written is acknowledged");
    assert_eq!(solo.room_bytes(), SoloLimits::default().window_bytes);
}

#[test]
fn a_write_refused_before_it_was_polled_is_not_made() {
    let mut solo = joined(SoloLimits::default());
    solo.submit(Ticket(1), vec![item(1)]).unwrap();
    assert!(matches!(solo.poll_effect(1), Some(SoloEffect::Write(_))));
    solo.handle_disk_full();
    assert_eq!(drain(&mut solo, 1), [refused(1, 0, 1, Refusal::DiskFull)]);
}

#[test]
fn a_restart_ends_the_old_life_and_goes_on_behind_the_log() {
    let limits = SoloLimits::default();
    let mut restored = Restored::new(limits.seen);
    restored.handle_head(Head { slot: Slot(1), dt_ms: 500, incarnation: Incarnation(1), ..Head::default() });
    restored.handle_head(Head { slot: Slot(2), dt_ms: 600, incarnation: Incarnation(1), ..Head::default() });
    restored.handle_record(EventId(1), Some(DedupKey { scope: 1, key: 5 }));
    restored.handle_record(EventId(2), None);
    let (head, next_id, keys) = restored.snapshot();
    let mut solo = Solo::start(identity(2), Restored::from_snapshot(limits.seen, head, next_id, &keys), limits);
    solo.submit(Ticket(1), vec![keyed(1, 5), item(2)]).unwrap();
    let effects = drain(&mut solo, 10);
    let (write, token) = written(&effects);
    assert_eq!(write.records, [Record { id: EventId(3), content: Content::Gone(Incarnation(1)) }]);
    assert_eq!((write.head.slot, write.head.dt_ms, write.head.incarnation), (Slot(3), 600, Incarnation(2)));
    solo.handle_synced(token);
    let effects = drain(&mut solo, 700);
    let gone = SoloEffect::Gone { incarnation: Incarnation(1), id: EventId(3), dt_ms: 600 };
    assert_eq!(effects[..2], [gone, SoloEffect::Joined(Incarnation(2))]);
    solo.handle_synced(written(&effects[2..]).1);
    assert_eq!(drain(&mut solo, 700), [ordered(1, 0, 1, 1, 700, true), ordered(1, 1, 1, 4, 700, false)]);
    assert_eq!(solo.snapshot().1, EventId(5));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A log read back remembers what the solo that wrote it does, whatever is forgotten on the way.
    #[test]
    fn a_log_read_back_is_what_was_there(
        batches in prop::collection::vec(prop::collection::vec(prop::option::of((0..4u64, 0..6u64)), 1..6), 1..20),
        keys_per_scope in 1..4usize, scopes in 1..4usize, stop in 0..20usize,
    ) {
        let seen = SeenLimits { keys_per_scope, scopes };
        let limits = SoloLimits { seen, ..SoloLimits::default() };
        let mut solo = fresh(limits);
        let mut restored = Restored::new(seen);
        for (number, keys) in std::iter::once(Vec::new()).chain(batches).enumerate() {
            let keyed = |key: Option<(u64, u64)>| Item { dedup: key.map(|(scope, key)| DedupKey { scope, key }), ..item(1) };
            solo.submit(Ticket(number as u64), keys.into_iter().map(keyed).collect()).unwrap();
            for effect in drain(&mut solo, 5) {
                match effect {
                    SoloEffect::Write(write) => {
                        restored.handle_head(write.head);
                        for record in write.records {
                            let Content::Item(item) = record.content else { continue };
                            restored.handle_record(record.id, item.dedup);
                        }
                    }
                    SoloEffect::Sync { token } => solo.handle_synced(token),
                    _ => {}
                }
            }
            drain(&mut solo, 5);
            let (head, next_id, keys) = restored.snapshot();
            prop_assert_eq!(&solo.snapshot(), &(head, next_id, keys.clone()));
            if number == stop {
                restored = Restored::from_snapshot(seen, head, next_id, &keys);
            }
        }
    }

    /// Whatever is submitted in whatever batches: every item is answered once, in order, and ids are dense.
    #[test]
    fn every_item_is_answered_once(
        steps in prop::collection::vec((prop::collection::vec(prop::option::of(0..6u64), 0..8), any::<bool>()), 1..40),
        batch_items in 1..9usize,
    ) {
        let limits = SoloLimits { batch_items, ..SoloLimits::default() };
        let mut solo = joined(limits);
        let (mut submitted, mut answered) = (Vec::new(), Vec::new());
        let (mut disk, mut token, mut body) = (Vec::new(), None, 0);
        let mut take = |solo: &mut Solo, token: &mut Option<SyncToken>, answered: &mut Vec<(u64, usize, u64)>| {
            for effect in drain(solo, 5) {
                match effect {
                    SoloEffect::Write(write) => disk.extend(write.records),
                    SoloEffect::Sync { token: new } => *token = Some(new),
                    SoloEffect::Ordered { ticket, offset, count, first_id, .. } => {
                        answered.extend((0..count).map(|n| (ticket.0, offset + n, first_id.0 + n as u64)));
                    }
                    other => panic!("{other:?}"),
                }
            }
            disk.len()
        };
        for (number, (keys, syncs)) in steps.into_iter().enumerate() {
            let mut items = Vec::new();
            for (offset, key) in keys.into_iter().enumerate() {
                body += 1;
                submitted.push((number as u64, offset, body, key));
                items.push(key.map_or_else(|| item(body), |key| keyed(body, key)));
            }
            solo.submit(Ticket(number as u64), items).unwrap();
            take(&mut solo, &mut token, &mut answered);
            if syncs && let Some(token) = token.take() {
                solo.handle_synced(token);
            }
        }
        while !solo.is_idle() {
            take(&mut solo, &mut token, &mut answered);
            if let Some(token) = token.take() {
                solo.handle_synced(token);
            }
        }
        // The definition: one after the other, a known key gets its id, everything else the next.
        let (mut next, mut ids) = (0, std::collections::BTreeMap::new());
        let expected: Vec<_> = submitted.iter().map(|(ticket, offset, _, key)| {
            let known = key.and_then(|key| ids.get(&key).copied());
            let id = known.unwrap_or_else(|| { next += 1; next });
            if let Some(key) = key { ids.insert(*key, id); }
            (*ticket, *offset, id)
        }).collect();
        prop_assert_eq!(&answered, &expected);
        prop_assert_eq!(disk.iter().map(|record| record.id.0).collect::<Vec<_>>(), (1..=next).collect::<Vec<_>>());
    }
}
