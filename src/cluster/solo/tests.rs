//! Tests of the solo pipeline: batches by load, ids, duplicates, windows and refusals.
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::cluster::segment::DedupKey;
use crate::model::record::Kind;
use crate::model::{Payload, Record, Topic};

const REALM: &str = "realm1";

fn item(body: u64) -> Item {
    let payload = Payload::Bytes(Bytes::copy_from_slice(&body.to_le_bytes()));
    Item::publication(REALM.into(), 0, Topic::from_mqtt("a").unwrap(), payload)
}

/// The weight of each such item.
fn weight() -> u64 {
    item(1).weight_bytes()
}

fn key(owner: &str, key: u64) -> DedupKey {
    DedupKey { owner: owner.into(), key: Bytes::copy_from_slice(&key.to_le_bytes()) }
}

fn keyed(body: u64, number: u64) -> Item {
    Item { dedup: Some(key("one", number)), ..item(body) }
}

/// An item as it is written.
fn at(time_ms: u64, item: Item) -> Item {
    Item { time_ms, ..item }
}

fn id(number: u64) -> EventId {
    EventId::new(number).unwrap()
}

fn fresh(limits: SoloLimits) -> Solo {
    Solo::start(REALM.into(), Restored::new(limits.seen), limits)
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
    assert!(!solo.is_idle());
    assert_eq!(drain(&mut solo, 100), [SoloEffect::Joined(Incarnation(1))], "nothing is there to end");
    solo
}

fn ordered(ticket: u64, offset: usize, count: usize, first_id: u64, dt_ms: u64, is_duplicate: bool) -> SoloEffect {
    SoloEffect::Ordered { ticket: Ticket(ticket), offset, count, first_id: id(first_id), dt_ms, is_duplicate }
}

fn refused(ticket: u64, offset: usize, count: usize, reason: Refusal) -> SoloEffect {
    SoloEffect::Refused { ticket: Ticket(ticket), offset, count, reason }
}

#[test]
fn an_idle_solo_writes_nothing() {
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
    solo.submit(Ticket(8), vec![Item { realm: "another".into(), ..item(3) }]).unwrap();
    let effects = drain(&mut solo, 200);
    let (write, token) = written(&effects);
    assert_eq!((write.first_id, &write.items[..]), (id(1), &[1, 2, 3].map(|n| at(200, item(n)))[..]));
    assert!(write.has(&[id(1), id(2), id(3)]) && !write.has(&[id(2), id(3), id(4)]) && !write.has(&[id(1), id(2)]));
    solo.submit(Ticket(9), vec![item(4)]).unwrap();
    assert_eq!(drain(&mut solo, 201), [], "a sync is in flight");
    solo.handle_synced(SyncToken(999));
    assert_eq!(drain(&mut solo, 201), [], "another token");
    solo.handle_synced(token);
    let effects = drain(&mut solo, 150);
    assert_eq!(effects[..2], [ordered(7, 0, 2, 1, 200, false), ordered(8, 0, 1, 3, 200, false)]);
    let (write, token) = written(&effects[2..]);
    assert_eq!((write.first_id, &write.items[..]), (id(4), &[at(200, item(4))][..]), "time never goes back");
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
    assert_eq!(write.items, [item(1), keyed(2, 5), item(4)].map(|item| at(200, item)), "a duplicate is not in history");
    solo.handle_synced(token);
    let said = [ordered(1, 0, 2, 1, 200, false), ordered(1, 2, 1, 2, 200, true), ordered(1, 3, 1, 3, 200, false)];
    assert_eq!(drain(&mut solo, 200), said);
    solo.submit(Ticket(2), vec![keyed(9, 5)]).unwrap();
    assert_eq!(drain(&mut solo, 300), [ordered(2, 0, 1, 2, 300, true)], "its first copy is durable: nothing is written");
    assert_eq!(solo.next_id(), id(4));
}

#[test]
fn windows_and_batches_are_bounded() {
    let (window_bytes, batch_bytes) = (weight() * 5, weight() * 5 / 2);
    let limits = SoloLimits { item_bytes: weight() * 4, window_bytes, window_items: 5, batch_bytes, ..SoloLimits::default() };
    let mut solo = joined(limits);
    assert_eq!(solo.submit(Ticket(1), (0..6).map(item).collect()), Err(Refusal::TooLarge));
    solo.submit(Ticket(2), (0..3).map(item).collect()).unwrap();
    assert_eq!(solo.submit(Ticket(3), (0..3).map(item).collect()), Err(Refusal::WindowFull));
    assert_eq!(solo.room().bytes, weight() * 2);
    let effects = drain(&mut solo, 1);
    let (write, token) = written(&effects);
    assert_eq!(write.items.len(), 2, "a batch of two and a half");
    solo.handle_synced(token);
    let effects = drain(&mut solo, 1);
    assert_eq!(effects[0], ordered(2, 0, 2, 1, 100, false));
    solo.handle_synced(written(&effects[1..]).1);
    assert_eq!(drain(&mut solo, 1), [ordered(2, 2, 1, 3, 100, false)]);
    assert_eq!(solo.room().bytes, window_bytes);
    let heavy = Item { payload: Payload::Bytes(vec![0; weight() as usize * 3].into()), ..item(1) };
    let heavier = Item { payload: Payload::Bytes(vec![0; weight() as usize * 4].into()), ..item(1) };
    assert_eq!(solo.submit(Ticket(5), vec![heavier]), Err(Refusal::TooLarge));
    solo.submit(Ticket(4), vec![heavy, item(2)]).unwrap();
    assert_eq!(written(&drain(&mut solo, 1)).0.items.len(), 1, "one item heavier than a batch goes alone");
}

#[test]
fn answers_of_calls_are_refused() {
    use crate::model::outcome::Outcome;
    use crate::model::properties::Properties;
    let mut solo = joined(SoloLimits::default());
    let properties = Properties { outcome: Some(Outcome::Result), ..Properties::default() };
    let item = Item { properties: Some(Box::new(properties)), ..item(1) };
    assert_eq!(solo.submit(Ticket(1), vec![item]), Err(Refusal::Unstorable));
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
    assert_eq!(write.first_id, id(1), "nothing was used up");
    solo.submit(Ticket(5), vec![item(5)]).unwrap();
    solo.handle_low_space();
    assert_eq!(drain(&mut solo, 200), [refused(5, 0, 1, Refusal::DiskFull)]);
    solo.handle_synced(token);
    assert_eq!(drain(&mut solo, 200), [ordered(4, 0, 1, 1, 200, false)], "what was written is acknowledged");
    assert_eq!(solo.room().bytes, SoloLimits::default().window_bytes);
}

#[test]
fn a_write_refused_before_it_was_polled_is_not_made() {
    let mut solo = joined(SoloLimits::default());
    solo.submit(Ticket(1), vec![item(1)]).unwrap();
    assert!(matches!(solo.poll_effect(1), Some(SoloEffect::Write(_))));
    solo.handle_disk_full();
    assert_eq!(drain(&mut solo, 1), [refused(1, 0, 1, Refusal::DiskFull)]);
}

fn record(number: u64, item: Item) -> Record {
    Record { id: id(number), item }
}

#[test]
fn a_restart_ends_the_old_life_and_goes_on_behind_the_log() {
    let limits = SoloLimits::default();
    let mut restored = Restored::new(limits.seen);
    restored.handle_record(&record(1, at(500, keyed(1, 5)))).unwrap();
    assert_eq!(restored.handle_record(&record(3, at(600, item(2)))), Err(Gap { expected: id(2) }));
    restored.handle_record(&record(2, at(600, item(2)))).unwrap();
    let restored = Restored::from_state(limits.seen, &restored.state());
    let mut solo = Solo::start(REALM.into(), restored, limits);
    solo.submit(Ticket(1), vec![keyed(1, 5), item(2)]).unwrap();
    let effects = drain(&mut solo, 10);
    let (write, token) = written(&effects);
    assert_eq!((write.first_id, write.items.len()), (id(3), 1));
    let end = write.items[0].clone();
    assert_eq!((end.kind, end.time_ms), (Kind::GONE, 600));
    solo.handle_synced(token);
    let effects = drain(&mut solo, 700);
    let gone = SoloEffect::Gone { incarnation: Incarnation(1), id: id(3), dt_ms: 600 };
    assert_eq!(effects[..2], [gone, SoloEffect::Joined(Incarnation(2))]);
    solo.handle_synced(written(&effects[2..]).1);
    assert_eq!(drain(&mut solo, 700), [ordered(1, 0, 1, 1, 700, true), ordered(1, 1, 1, 4, 700, false)]);
    assert_eq!((solo.state().next_id, solo.state().incarnation), (id(5), Incarnation(2)));
    // Only the end of the first life survives: the second has ended without a trace, and is ended.
    let mut restored = Restored::new(limits.seen);
    for (number, item) in [(1, item(1)), (2, item(2)), (3, end)] {
        restored.handle_record(&record(number, item)).unwrap();
    }
    let mut solo = Solo::start(REALM.into(), restored, limits);
    let token = written(&drain(&mut solo, 10)).1;
    solo.handle_synced(token);
    let gone = SoloEffect::Gone { incarnation: Incarnation(2), id: id(4), dt_ms: 600 };
    assert_eq!(drain(&mut solo, 10), [gone, SoloEffect::Joined(Incarnation(3))]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A log read back is the state that wrote it; where keys are over the bounds, what is remembered is true and within them.
    #[test]
    fn a_log_read_back_is_what_was_there(
        batches in prop::collection::vec(prop::collection::vec(prop::option::of((0..4u64, 0..6u64)), 1..6), 1..20),
        keys_per_owner in 1..8usize, owners in 1..5usize, stop in 0..20usize,
    ) {
        let seen = SeenLimits { keys_per_owner, owners, ..SeenLimits::default() };
        let limits = SoloLimits { seen, ..SoloLimits::default() };
        let mut solo = joined(limits);
        let mut restored = Restored::new(seen);
        let mut given = Vec::new();
        for (number, keys) in batches.into_iter().enumerate() {
            let keyed = |of: Option<(u64, u64)>| Item { dedup: of.map(|(owner, of)| key(&owner.to_string(), of)), ..item(1) };
            solo.submit(Ticket(number as u64), keys.into_iter().map(keyed).collect()).unwrap();
            for effect in drain(&mut solo, 5) {
                match effect {
                    SoloEffect::Write(write) => {
                        for (n, item) in (0..).zip(write.items) {
                            let record = Record { id: write.first_id.plus(n), item };
                            given.extend(record.item.dedup.clone().map(|key| (key, record.id)));
                            restored.handle_record(&record).unwrap();
                        }
                    }
                    SoloEffect::Sync { token } => solo.handle_synced(token),
                    _ => {}
                }
            }
            drain(&mut solo, 5);
            let (there, back) = (solo.state(), restored.state());
            prop_assert_eq!((there.next_id, there.dt_ms, there.incarnation), (back.next_id, back.dt_ms, back.incarnation));
            if keys_per_owner >= 6 && owners >= 4 {
                prop_assert_eq!(there.seen, back.seen.clone());
            }
            prop_assert!(back.seen.iter().all(|pair| given.contains(pair)));
            let of = |owner: u64| back.seen.iter().filter(|(key, _)| *key.owner == *owner.to_string()).count();
            prop_assert!((0..4).all(|owner| of(owner) <= keys_per_owner));
            prop_assert!((0..4).filter(|owner| of(*owner) > 0).count() <= owners);
            if number == stop {
                restored = Restored::from_state(seen, &back);
            }
        }
    }

    /// In whatever batches items are submitted, every item is answered once, in order, and ids are dense.
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
                    SoloEffect::Write(write) => disk.extend((0..).zip(write.items).map(|(n, _)| write.first_id.plus(n))),
                    SoloEffect::Sync { token: new } => *token = Some(new),
                    SoloEffect::Ordered { ticket, offset, count, first_id, .. } => {
                        answered.extend((0..count).map(|n| (ticket.0, offset + n, first_id.value() + n as u64)));
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
        prop_assert_eq!(disk.iter().map(|id| id.value()).collect::<Vec<_>>(), (1..=next).collect::<Vec<_>>());
    }
}
