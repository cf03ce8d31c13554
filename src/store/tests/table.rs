//! The same tests on the reference, on a log on a simulated disk and on a log on the real one.
use super::*;
use crate::store::disk::{Disk, DiskFile};

/// Every implementation, with its name.
fn with_each(test: impl Fn(&str, &mut dyn Store)) {
    test("memory", &mut Memory::new(2_000));
    test("simulated", &mut simulated(&SimulatedDisk::new(1)).unwrap());
    let directory = Directory::new();
    test("disk", &mut directory.open(small()).unwrap());
}

fn fill(store: &mut dyn Store, count: u64) {
    for number in 1..=count {
        let topic = ["a/b", "a/c", "d", "a/b/x", "$r/a", "wamp/a"][number as usize % 6];
        let realm = if number % 7 == 0 { "other" } else { "one" };
        store.append(&[item(realm, number * 10, topic, &format!("text {number}"))]).unwrap();
    }
}

#[test]
fn ids_are_dense_per_realm_and_nothing_is_read_before_its_sync() {
    with_each(|name, store| {
        assert_eq!(store.realm_state("one"), RealmState { last: None, oldest: None, last_time_ms: 0 }, "{name}");
        let batch = [item("one", 1, "a", "x"), item("two", 1, "a", "y"), item("one", 2, "b", "z")];
        assert_eq!(store.write(&batch).unwrap(), [id(1), id(1), id(2)], "{name}");
        assert!(store.read(&Query::new("one")).unwrap().records.is_empty(), "{name}");
        assert_eq!(store.realm_state("one").last, None);
        store.sync().unwrap();
        assert_eq!(store.append(&[item("one", 2, "c", "")]).unwrap(), [id(3)]);
        let page = store.read(&Query::new("one")).unwrap();
        assert_eq!((ids(&page.records), page.cursor, page.is_end), (vec![1, 2, 3], Some(id(3)), true), "{name}");
        assert_eq!(page.records[1].item, batch[2]);
        assert_eq!(store.realm_state("one"), RealmState { last: Some(id(3)), oldest: Some(id(1)), last_time_ms: 2 });
        assert_eq!(store.realms(), ["one".into(), "two".into()]);
        assert!(store.append(&[]).unwrap().is_empty());
        assert_eq!(store.read(&Query::new("none")).unwrap(), Page { is_end: true, ..Page::default() });
    });
}

#[test]
fn a_refused_batch_leaves_nothing() {
    with_each(|name, store| {
        store.append(&[item("one", 100, "a", "x")]).unwrap();
        let late = store.append(&[item("one", 100, "a", "y"), item("new", 1, "a", "y"), item("one", 99, "a", "z")]);
        assert!(matches!(late, Err(Error::TimeWentBack { last_ms: 100 })), "{name}: {late:?}");
        let nameless = store.append(&[item("one", 100, "a", "y"), item("", 1, "a", "y")]);
        assert!(matches!(nameless, Err(Error::Unstorable(_))), "{name}: {nameless:?}");
        assert_eq!(store.append(&[item("one", 100, "a", "w"), item("new", 5, "a", "y")]).unwrap(), [id(2), id(1)], "{name}");
        assert_eq!(ids(&read_all(store, &Query::new("one")).unwrap()), [1, 2]);
    });
}

#[test]
fn every_query_finds_what_looking_at_everything_finds() {
    let filters =
        ["a/b", "a/#", "+/b", "#", "none", "a/+", "$r/#", "wamp/+", "a/b/#"].map(|text| Some(Filter::from_mqtt(text).unwrap()));
    let prefixes = ["", "a.", "a.b", "wamp"].map(|text| Some(Filter::Prefix(text.into())));
    with_each(|name, store| {
        fill(store, 400);
        let all = read_all(store, &Query::new("one")).unwrap();
        assert_eq!(ids(&all), (1..=343).collect::<Vec<_>>(), "{name}");
        for filter in filters.iter().chain(&prefixes).chain([&None]) {
            for (after, before) in
                [(None, None), (Some(1), Some(343)), (Some(100), None), (None, Some(120)), (Some(200), Some(203))]
            {
                for (from_ms, until_ms) in [(None, None), (Some(1_000), Some(3_000)), (Some(3_995), None), (Some(9_999), None)] {
                    for (limit, reverse) in [(1, false), (7, true), (1_000, false), (1_000, true)] {
                        let (after, before) = (after.and_then(EventId::new), before.and_then(EventId::new));
                        let query = Query {
                            filter: filter.clone(),
                            after,
                            before,
                            from_ms,
                            until_ms,
                            limit,
                            reverse,
                            ..Query::new("one")
                        };
                        let mut expected: Vec<_> = all.iter().filter(|record| is_wanted(record, &query)).cloned().collect();
                        if reverse {
                            expected.reverse();
                        }
                        let found = read_all(store, &query).unwrap();
                        assert_eq!(ids(&found), ids(&expected), "{name} {query:?}");
                        assert_eq!(found, expected);
                    }
                }
            }
        }
    });
}

fn is_wanted(record: &Record, query: &Query) -> bool {
    query.filter.as_ref().is_none_or(|filter| filter.covers(record.item.topic.as_ref().unwrap()))
        && query.after.is_none_or(|after| record.id > after)
        && query.before.is_none_or(|before| record.id < before)
        && query.from_ms.is_none_or(|from| record.item.time_ms >= from)
        && query.until_ms.is_none_or(|until| record.item.time_ms < until)
}

#[test]
fn other_kinds_are_read_only_without_a_filter() {
    with_each(|name, store| {
        let session = Item::of_kind(Kind::SESSION, "one".into(), 1, Payload::empty());
        let lock = Item { kind: Kind::LOCK, ..item("one", 1, "a", "") };
        store.append(&[session, lock, item("one", 1, "a", "")]).unwrap();
        assert_eq!(ids(&read_all(store, &Query::new("one")).unwrap()), [1, 2, 3], "{name}");
        for filter in ["a", "#"] {
            let query = Query { filter: Some(Filter::from_mqtt(filter).unwrap()), ..Query::new("one") };
            assert_eq!(ids(&read_all(store, &query).unwrap()), [3], "{name}");
        }
    });
}

#[test]
fn retention_drops_the_oldest_only_behind_a_snapshot_and_says_too_old() {
    let count = |max| Retention { max_count: Some(max), ..Retention::default() };
    with_each(|name, store| {
        fill(store, 400);
        assert_eq!(store.retain(&[count(10)], 4_000).unwrap(), 0, "{name}: no snapshot");
        let as_of = [("one".into(), id(200)), ("other".into(), id(33))];
        store.write_snapshot(&as_of, &mut [b"state".to_vec()].into_iter()).unwrap();
        let kept_for_ever = Retention { filter: Some(Filter::from_mqtt("a/#").unwrap()), ..count(10) };
        assert_eq!(store.retain(&[kept_for_ever], 4_000).unwrap(), 0, "{name}: topics without a rule are kept");
        assert!(store.retain(&[count(10)], 4_000).unwrap() > 0, "{name}");
        let oldest = store.realm_state("one").oldest.unwrap();
        assert!((2..=201).contains(&oldest.value()), "{name} {oldest}");
        let left: Vec<u64> = (oldest.value()..=343).collect();
        assert_eq!(ids(&read_all(store, &Query::new("one")).unwrap()), left);
        assert_eq!(ids(&read_all(store, &Query { reverse: true, ..Query::new("one") }).unwrap()).len(), left.len());
        let after = |number| store.read_after("one", EventId::new(number), None, 1);
        assert!(matches!(after(1), Err(Error::TooOld { oldest: said }) if said == oldest), "{name}");
        assert_eq!(ids(&after(oldest.value() - 1).unwrap().records), [oldest.value()]);
        let old = Query { before: oldest.previous(), reverse: true, ..Query::new("one") };
        assert!(matches!(store.read(&old), Err(Error::TooOld { .. })));
        assert_eq!(store.append(&[item("one", 9_999, "a", "")]).unwrap(), [id(344)], "{name}: ids go on");
    });
}

#[test]
fn retention_goes_by_age_and_size_too() {
    let as_of = [("one".into(), id(343)), ("other".into(), id(57))];
    for (rule, now_ms, drops) in [
        (Retention { max_age_ms: Some(1_000), ..Retention::default() }, 4_000, true),
        (Retention { max_age_ms: Some(1_000), ..Retention::default() }, 1_000, false),
        (Retention { max_bytes: Some(1_000), ..Retention::default() }, 0, true),
        (Retention { max_bytes: Some(1 << 30), ..Retention::default() }, u64::MAX, false),
        (Retention { realm: Some("other".into()), max_count: Some(0), ..Retention::default() }, 0, false),
    ] {
        with_each(|name, store| {
            fill(store, 400);
            store.write_snapshot(&as_of, &mut std::iter::empty()).unwrap();
            assert_eq!(store.retain(std::slice::from_ref(&rule), now_ms).unwrap() > 0, drops, "{name} {rule:?}");
            assert_eq!(store.realm_state("one").last, Some(id(343)));
        });
    }
}

#[test]
fn a_snapshot_replaces_the_one_before_and_never_a_later_one() {
    with_each(|name, store| {
        store.append(&[item("one", 1, "a", "x"), item("one", 1, "a", "y"), item("two", 1, "a", "z")]).unwrap();
        assert_eq!(store.snapshot().unwrap(), None, "{name}");
        let mut write = |as_of: &[(&str, u64)], text: &str| {
            let as_of: Vec<_> = as_of.iter().map(|(realm, number)| (Arc::from(*realm), id(*number))).collect();
            store.write_snapshot(&as_of, &mut [text.as_bytes().to_vec(), vec![7; 100]].into_iter())
        };
        write(&[("one", 1)], "first").unwrap();
        write(&[("one", 2), ("two", 1)], "second").unwrap();
        for wrong in [&[("one", 1), ("two", 1)][..], &[("one", 2)], &[("one", 3), ("two", 1)], &[]] {
            assert!(matches!(write(wrong, "wrong"), Err(Error::SnapshotOutOfOrder)), "{name} {wrong:?}");
        }
        let snapshot = store.snapshot().unwrap().unwrap();
        assert_eq!(snapshot.as_of, [("one".into(), id(2)), ("two".into(), id(1))]);
        assert_eq!(snapshot.chunks, [b"second".to_vec(), vec![7; 100]]);
    });
}

#[test]
fn a_log_is_the_same_after_it_was_opened_again() {
    fn check<D: Disk>(open: impl Fn() -> Log<D>)
    where
        D::File: DiskFile,
    {
        let mut log = open();
        fill(&mut log, 300);
        let state = (log.realms(), log.realm_state("one"), read_all(&log, &Query::new("one")).unwrap());
        drop(log);
        let mut log = open();
        assert_eq!(log.recovery().torn, None);
        assert_eq!((log.realms(), log.realm_state("one"), read_all(&log, &Query::new("one")).unwrap()), state);
        assert_eq!(log.append(&[item("one", 9_999, "a", "")]).unwrap(), [state.1.last.unwrap().next().unwrap()]);
    }
    let disk = SimulatedDisk::new(3);
    check(|| {
        disk.end_process();
        simulated(&disk).unwrap()
    });
    let directory = Directory::new();
    check(|| directory.open(small()).unwrap());
}

#[test]
fn a_batch_can_be_written_while_the_one_before_is_synced() {
    let directory = Directory::new();
    let mut log = directory.open(small()).unwrap();
    log.write(&[item("one", 1, "a", "x")]).unwrap();
    let job = log.start_sync().unwrap();
    let syncing = std::thread::spawn(|| job.run());
    log.write(&[item("one", 1, "a", "y")]).unwrap();
    log.finish_sync(syncing.join().unwrap()).unwrap();
    assert_eq!(ids(&read_all(&log, &Query::new("one")).unwrap()), [1]);
    // A job that is overtaken by a new segment changes nothing.
    let job = log.start_sync().unwrap();
    fill(&mut log, 100);
    let last = log.realm_state("one").last;
    log.finish_sync(job.run()).unwrap();
    assert_eq!(log.realm_state("one").last, last);
    assert_eq!(read_all(&log, &Query::new("one")).unwrap().len() as u64, last.unwrap().value());
}

#[test]
fn readers_on_other_threads_see_only_whole_history() {
    let directory = Directory::new();
    let mut log = directory.open(small()).unwrap();
    let reader = log.reader().clone();
    let reading = std::thread::spawn(move || {
        let mut query = Query::new("one");
        let mut seen = Vec::new();
        while seen.len() < 500 {
            let page = reader.read(&query).unwrap();
            query = query.behind(&page);
            seen.extend(ids(&page.records));
            std::thread::yield_now();
        }
        seen
    });
    for number in 1..=250 {
        log.append(&[item("one", number, "a", "x"), item("one", number, "b", "y")]).unwrap();
    }
    assert_eq!(reading.join().unwrap(), (1..=500).collect::<Vec<_>>());
}
