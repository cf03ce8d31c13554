//! Snapshots written beside the writer: what goes on meanwhile, what a crash at any operation leaves, and what may be trimmed behind.
use super::*;
use crate::store::log::{Extent, SnapshotDone};

fn fill(log: &mut Log<SimulatedDisk>, count: u64) {
    for _ in 0..count {
        let time_ms = log.realm_state("one").last_time_ms + 1;
        log.append(&[item("one", time_ms, "a", &"some text ".repeat(10))]).unwrap();
    }
}

fn state_of(ids: &[(Arc<str>, EventId)]) -> Vec<u8> {
    format!("{ids:?}").into_bytes()
}

/// A snapshot of everything sealed, written but not adopted.
fn written(log: &mut Log<SimulatedDisk>) -> Result<SnapshotDone<SimulatedDisk>, Error> {
    let job = log.start_snapshot()?;
    let ids = job.reader().sealed_heads();
    job.write(&ids, &mut [state_of(&ids)].into_iter())
}

#[test]
fn appending_goes_on_while_a_snapshot_is_written() {
    let directory = Directory::new();
    let mut log = directory.open(small()).unwrap();
    let append = |log: &mut Log<_>, number| log.append(&[item("one", number, "a", &"x".repeat(500))]).unwrap();
    for number in 1..=50 {
        append(&mut log, number);
    }
    let job = log.start_snapshot().unwrap();
    assert_eq!(job.previous().unwrap().map(|_| ()), None);
    let (asked, asks) = std::sync::mpsc::channel::<Vec<u8>>();
    let ids = job.reader().sealed_heads();
    let writing = std::thread::spawn(move || {
        let done = job.write(&ids, &mut asks.iter());
        (ids, done)
    });
    asked.send(vec![1; 10]).unwrap();
    for number in 51..=100 {
        append(&mut log, number);
    }
    assert!(matches!(log.start_snapshot(), Err(Error::SnapshotUnderWay)));
    asked.send(vec![2; 3 * MAX_CHUNK_BYTES / 2]).unwrap();
    drop(asked);
    let (ids, done) = writing.join().unwrap();
    let done = done.unwrap();
    assert!(matches!(log.start_snapshot(), Err(Error::SnapshotUnderWay)), "until it is adopted");
    assert_eq!(log.snapshot().unwrap(), None);
    log.finish_snapshot(done).unwrap();
    let snapshot = log.snapshot().unwrap().unwrap();
    assert_eq!((&snapshot.as_of, snapshot.chunks.concat().len()), (&ids, 10 + 3 * MAX_CHUNK_BYTES / 2));
    let job = log.start_snapshot().unwrap();
    assert_eq!((job.previous_ids(), job.previous().unwrap().unwrap().as_of()), (&ids[..], &ids[..]));
    drop(job);
    log.start_snapshot().unwrap();
}

#[test]
fn a_snapshot_that_is_given_up_leaves_nothing() {
    let disk = SimulatedDisk::new(1);
    let mut log = simulated(&disk).unwrap();
    fill(&mut log, 60);
    let has_draft = |disk: &SimulatedDisk| disk.names().iter().any(|name| name == "snapshot.new");
    let done = written(&mut log).unwrap();
    assert!(has_draft(&disk));
    drop(done);
    assert!(!has_draft(&disk));
    let ahead = [("one".into(), id(61))];
    assert!(matches!(log.start_snapshot().unwrap().write(&ahead, &mut std::iter::empty()), Err(Error::SnapshotOutOfOrder)));
    disk.fail_syncs(true);
    assert!(matches!(written(&mut log), Err(Error::Io { .. })));
    disk.fail_syncs(false);
    assert!(!has_draft(&disk) && log.snapshot().unwrap().is_none());
    // Nothing was built on that file: the log itself is sound.
    let done = written(&mut log).unwrap();
    log.finish_snapshot(done).unwrap();
    // One that a process left is gone at the next start.
    std::mem::forget(written(&mut log).unwrap());
    assert!(has_draft(&disk));
    drop(log);
    disk.end_process();
    let log = simulated(&disk).unwrap();
    assert!(!has_draft(&disk) && log.snapshot().unwrap().is_some());
}

#[test]
fn a_poisoned_log_adopts_no_snapshot() {
    let disk = SimulatedDisk::new(2);
    let mut log = simulated(&disk).unwrap();
    fill(&mut log, 60);
    let done = written(&mut log).unwrap();
    disk.fail_syncs(true);
    log.append(&[item("one", 999, "a", "")]).unwrap_err();
    assert!(matches!(log.finish_snapshot(done), Err(Error::Poisoned)));
    assert!(matches!(log.start_snapshot().map(|_| ()), Err(Error::Poisoned)));
    assert!(!disk.names().iter().any(|name| name.starts_with("snapshot")));
}

#[test]
fn a_full_disk_keeps_the_old_snapshot() {
    let disk = SimulatedDisk::new(3);
    let mut log = simulated(&disk).unwrap();
    fill(&mut log, 60);
    let done = written(&mut log).unwrap();
    log.finish_snapshot(done).unwrap();
    let old = log.snapshot().unwrap().unwrap();
    fill(&mut log, 60);
    disk.set_capacity(0);
    assert!(matches!(written(&mut log).map(|_| ()), Err(Error::NoSpace)));
    let rule = Retention { max_count: Some(1), ..Retention::default() };
    assert!(
        matches!(log.retain(std::slice::from_ref(&rule), 0), Err(Error::NoSpace)),
        "not even the few bytes that a trim needs"
    );
    assert_eq!(log.snapshot().unwrap(), Some(old));
    disk.set_capacity(u64::MAX);
    assert!(log.retain(&[rule], 0).unwrap() > 0);
}

#[test]
fn a_scheduler_sees_what_there_is_and_what_holds_trimming_up() {
    let disk = SimulatedDisk::new(4);
    let mut log = simulated(&disk).unwrap();
    assert_eq!((log.reader().sealed_heads(), log.reader().extent().sealed_segments), (vec![], 0));
    fill(&mut log, 200);
    let reader = log.reader().clone();
    let keep_ten = [Retention { max_count: Some(10), ..Retention::default() }];
    let before = reader.extent();
    assert!(before.sealed_segments > 5 && before.bytes > 200 * 120, "{before:?}");
    assert_eq!((before.uncarried_segments, before.snapshot_bytes), (before.sealed_segments, 0));
    let heads = reader.sealed_heads();
    let last = reader.realm_state("one").last.unwrap().value();
    assert!((last - 40..last).contains(&heads[0].1.value()), "{heads:?}");
    let plan = reader.plan_retention(&keep_ten, 0).unwrap();
    assert!(plan.trimmable() == 0 && plan.held_up() > 3, "{plan:?}");
    assert_eq!(plan.first_kept, plan.first_uncarried + plan.held_up());
    assert_eq!(log.trim_before(plan.first_kept).unwrap(), 0);
    let done = written(&mut log).unwrap();
    log.finish_snapshot(done).unwrap();
    let extent = reader.extent();
    let carried = Extent { uncarried_segments: 0, uncarried_bytes: 0, snapshot_bytes: extent.snapshot_bytes, ..before };
    assert_eq!(extent, carried);
    assert_eq!(extent.snapshot_bytes, disk.bytes_of("snapshot").len() as u64);
    let again = reader.plan_retention(&keep_ten, 0).unwrap();
    assert_eq!((again.trimmable(), again.held_up(), again.first_kept), (plan.held_up(), 0, plan.first_kept));
    assert_eq!(log.trim_before(plan.first_kept).unwrap() as u64, again.trimmable());
    fill(&mut log, 40);
    assert!((1..5).contains(&reader.extent().uncarried_segments));
    // The same after a restart.
    let (extent, heads) = (reader.extent(), reader.sealed_heads());
    drop((log, reader));
    disk.end_process();
    let log = simulated(&disk).unwrap();
    assert_eq!((log.reader().extent(), log.reader().sealed_heads()), (extent, heads));
}

/// Snapshot, segments, a second snapshot beside them, a trim. Says which snapshots were acknowledged, and how many records.
fn story(disk: &SimulatedDisk, snapshots: &mut Vec<AsOf>, appended: &mut u64) -> Result<(), Error> {
    let mut log = simulated(disk)?;
    let mut append = |log: &mut Log<SimulatedDisk>| {
        for _ in 0..12 {
            log.append(&[item("one", *appended, "a", &"x".repeat(400))])?;
            *appended += 1;
        }
        Ok::<(), Error>(())
    };
    append(&mut log)?;
    for _ in 0..2 {
        let done = written(&mut log)?;
        append(&mut log)?;
        log.finish_snapshot(done)?;
        snapshots.push(log.snapshot()?.unwrap_or_default().as_of);
        log.retain(&[Retention { max_count: Some(3), ..Retention::default() }], 0)?;
    }
    append(&mut log)
}

#[test]
fn after_a_crash_at_any_operation_there_is_one_whole_snapshot_and_nothing_is_missing() {
    let mut is_whole = false;
    let mut operations = 0;
    while !is_whole {
        assert!(operations < 2_000, "the story has no end");
        let seeds = if cfg!(debug_assertions) { 4 } else { 40 };
        for seed in 0..seeds {
            let disk = SimulatedDisk::new(seed);
            let (mut snapshots, mut appended) = (Vec::new(), 0);
            disk.cut_power_after(operations);
            is_whole = story(&disk, &mut snapshots, &mut appended).is_ok();
            if seed % 2 == 0 {
                disk.cut_power()
            } else {
                disk.end_process()
            }
            let log = simulated(&disk).unwrap_or_else(|error| panic!("{operations} {seed}: {error}"));
            let last = log.realm_state("one").last.map_or(0, EventId::value);
            assert!(last >= appended && last <= appended + 1, "{operations} {seed}: {appended} {last}");
            let snapshot = log.snapshot().unwrap();
            let as_of = snapshot.as_ref().map_or(Vec::new(), |snapshot| snapshot.as_of.clone());
            assert!(is_later(&as_of, snapshots.last().map_or(&[][..], |acknowledged| acknowledged)), "{operations} {seed}");
            if let Some(snapshot) = snapshot {
                assert_eq!(snapshot.chunks, [state_of(&as_of)], "{operations} {seed}");
            }
            let oldest = log.realm_state("one").oldest.map_or(last + 1, EventId::value);
            assert!(oldest <= super::super::as_of(&as_of, "one") + 1, "{operations} {seed}: a gap behind the snapshot");
            let kept = ids(&read_all(&log, &Query::new("one")).unwrap());
            assert_eq!(kept, (oldest..=last).collect::<Vec<_>>(), "{operations} {seed}");
        }
        operations += 1;
    }
    assert!(operations > 100, "{operations} operations: too few to prove anything");
}
