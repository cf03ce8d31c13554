//! The log after something happened to its directory while nobody looked, and on a full or failing disk.
use super::*;
use crate::store::disk::Disk;

fn filled(seed: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed);
    let mut log = simulated(&disk).unwrap();
    for number in 0..120 {
        log.append(&[item("one", number, ["a", "b/c"][number as usize % 2], &"some text ".repeat(10))]).unwrap();
    }
    drop(log);
    disk.end_process();
    disk
}

fn segments(disk: &SimulatedDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".log")).collect()
}

fn said(disk: &SimulatedDisk) -> String {
    match simulated(disk) {
        Ok(_) => "opened".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_directory_is_used_by_one_process() {
    let disk = filled(1);
    let _log = simulated(&disk).unwrap();
    assert!(matches!(simulated(&disk), Err(Error::Locked(_))));
    let directory = Directory::new();
    let log = directory.open(small()).unwrap();
    assert!(matches!(directory.open(small()), Err(Error::Locked(_))));
    drop(log);
    directory.open(small()).unwrap();
}

#[test]
fn another_nodes_directory_and_an_older_copy_are_refused() {
    let disk = filled(2);
    let open = |options| {
        disk.end_process();
        Log::open(disk.clone(), small(), options).map(|log| log.directory())
    };
    let expecting = |expected| Options { expected: Some(expected), ..Options::default() };
    assert_eq!(open(expecting([9; 16])).unwrap(), [9; 16]);
    assert!(matches!(open(expecting([8; 16])), Err(Error::OtherDirectory { found, .. }) if found == [9; 16]));
    let knowing = |number| Options { known: vec![("one".into(), id(number))], ..Options::default() };
    open(knowing(120)).unwrap();
    let refused = open(knowing(121)).unwrap_err();
    assert!(matches!(&refused, Error::OlderCopy { found: Some(found), .. } if *found == id(120)), "{refused}");
}

#[test]
fn a_missing_file_is_named() {
    let names = segments(&filled(3));
    assert!(names.len() > 3);
    for (at, name) in names.iter().enumerate() {
        let disk = filled(3);
        disk.delete(name);
        let said = said(&disk);
        assert!(said.contains(name) && said.contains("missing"), "{at}: {said}");
    }
    let disk = filled(3);
    disk.delete("identity");
    assert!(said(&disk).contains("identity"), "{}", said(&disk));
}

#[test]
fn segments_in_each_others_place_are_found_out() {
    let disk = filled(4);
    let names = segments(&disk);
    let (first, second) = (disk.bytes_of(&names[0]), disk.bytes_of(&names[1]));
    disk.replace(&names[0], second);
    disk.replace(&names[1], first);
    assert!(said(&disk).contains("damaged"), "{}", said(&disk));
}

/// Two copies of a directory that went on with different records of the same sizes; the names of the segments are the same.
fn forks() -> [SimulatedDisk; 2] {
    let disk = filled(13);
    ["a", "b"].map(|letter| {
        let fork = disk.copied();
        let mut log = simulated(&fork).unwrap();
        for number in 0..80 {
            log.append(&[item("one", 1_000 + number, "a", &letter.repeat(100))]).unwrap();
        }
        drop(log);
        fork.end_process();
        fork
    })
}

#[test]
fn a_segment_of_another_history_of_the_directory_is_found_out() {
    let [ours, theirs] = forks();
    let names = segments(&ours);
    assert_eq!(names, segments(&theirs));
    let differ: Vec<_> = names.iter().filter(|name| ours.bytes_of(name) != theirs.bytes_of(name)).collect();
    assert!(differ.len() >= 3);
    for name in differ {
        let copy = ours.copied();
        copy.replace(name, theirs.bytes_of(name));
        let said = said(&copy);
        assert!(said.contains("damaged"), "{name}: {said}");
    }
}

#[test]
fn records_of_another_history_behind_ours_are_no_part_of_it() {
    let [ours, theirs] = forks();
    let name = segments(&ours).pop().unwrap();
    let (mut bytes, other) = (ours.bytes_of(&name), theirs.bytes_of(&name));
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let last = |byte: u8| bytes[..used].iter().rposition(|found| *found == byte).unwrap() + 1;
    // The last record of the other, each valid in itself and in its place.
    let start = last(b'a') - 140;
    bytes[start..].copy_from_slice(&other[start..]);
    ours.replace(&name, bytes.clone());
    assert!(said(&ours).contains("damaged"), "below the mark");
    ours.delete("synced");
    ours.end_process();
    let log = simulated(&ours).unwrap();
    assert!(log.recovery().torn.is_some());
    let found = read_all(&log, &Query::new("one")).unwrap();
    assert_eq!(ids(&found), (1..200).collect::<Vec<_>>(), "all but the last");
}

/// Reads what opening lets through, by id and by topic.
fn contents(disk: &SimulatedDisk) -> Result<(Vec<u64>, Vec<u64>), Error> {
    disk.end_process();
    let log = simulated(disk)?;
    let filtered = Query { filter: Some(Filter::from_mqtt("b/#").unwrap()), ..Query::new("one") };
    Ok((ids(&read_all(&log, &Query::new("one"))?), ids(&read_all(&log, &filtered)?)))
}

#[test]
fn every_bit_of_every_file_matters_or_is_harmless() {
    let disk = filled(5);
    let whole: (Vec<u64>, Vec<u64>) = ((1..=120).collect(), (1..=60).map(|n| n * 2).collect());
    let mut chance = Chance::new(7);
    let (mut detected, mut harmless) = (0, 0);
    for name in disk.names() {
        let bytes = disk.bytes_of(&name);
        for offset in 0..bytes.len() {
            if bytes.len() > 200 && !chance.one_in(11) {
                continue;
            }
            let copy = disk.copied();
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1 << chance.below(8);
            copy.replace(&name, flipped);
            match contents(&copy) {
                Ok(found) => {
                    assert_eq!(found, whole, "{name} {offset}");
                    harmless += 1;
                }
                Err(Error::Corrupt { .. }) => detected += 1,
                Err(error) => panic!("{name} {offset}: {error}"),
            }
        }
    }
    assert!(detected > 500 && harmless > 100, "{detected} {harmless}");
}

#[test]
fn what_others_follow_was_not_torn_even_without_the_mark() {
    let disk = filled(5);
    let name = segments(&disk).pop().unwrap();
    let bytes = disk.bytes_of(&name);
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    disk.delete("synced");
    let mut refused = 0;
    for offset in (0..used).step_by(3) {
        let copy = disk.copied();
        let mut flipped = bytes.clone();
        flipped[offset] ^= 16;
        copy.replace(&name, flipped);
        copy.end_process();
        match simulated(&copy) {
            Err(Error::Corrupt { file, .. }) => {
                assert_eq!(file, name);
                refused += 1;
            }
            Err(error) => panic!("{offset}: {error}"),
            // Only the last record, behind which nothing was written, can be taken for torn; then it is said.
            Ok(log) => match log.recovery().torn.clone() {
                Some(torn) => assert!(offset as u64 >= torn.offset && torn.offset + 200 > used as u64, "{offset} {torn:?}"),
                // A gap between two frames.
                None => assert_eq!(read_all(&log, &Query::new("one")).unwrap().len(), 120, "{offset}"),
            },
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn every_truncation_is_found_out_or_harmless() {
    let disk = filled(6);
    let whole: (Vec<u64>, Vec<u64>) = ((1..=120).collect(), (1..=60).map(|n| n * 2).collect());
    let mut detected = 0;
    for name in disk.names() {
        let bytes = disk.bytes_of(&name);
        for end in (0..bytes.len()).step_by(if bytes.len() > 200 { 37 } else { 1 }) {
            let copy = disk.copied();
            copy.replace(&name, bytes[..end].to_vec());
            match contents(&copy) {
                Ok(found) => assert_eq!(found, whole, "{name} {end}"),
                Err(Error::Corrupt { .. }) => detected += 1,
                Err(error) => panic!("{name} {end}: {error}"),
            }
        }
    }
    assert!(detected > 50, "{detected}");
}

#[test]
fn a_damaged_index_is_made_anew() {
    let disk = filled(7);
    let name = segments(&disk).remove(1);
    let mut bytes = disk.bytes_of(&name);
    let end = bytes.len();
    bytes.truncate(end - 10);
    disk.replace(&name, bytes);
    let log = simulated(&disk).unwrap();
    assert_eq!(log.recovery().rebuilt, [name]);
    assert_eq!(read_all(&log, &Query::new("one")).unwrap().len(), 120);
}

#[test]
fn a_damaged_index_of_damaged_records_is_left_as_it_is() {
    let disk = filled(7);
    let name = segments(&disk).remove(1);
    let mut bytes = disk.bytes_of(&name);
    let end = bytes.len();
    bytes.truncate(end - 10);
    bytes[700] ^= 1;
    disk.replace(&name, bytes.clone());
    assert!(said(&disk).contains("a record is damaged or missing"));
    assert!(disk.bytes_of(&name) == bytes, "what is sound behind the damage is still there");
}

#[test]
fn a_snapshot_that_is_missing_behind_a_trim_is_refused() {
    let disk = filled(14);
    let mut log = simulated(&disk).unwrap();
    let rule = Retention { max_count: Some(1), ..Retention::default() };
    let mut older = Vec::new();
    for number in [40, 110] {
        log.write_snapshot(&[("one".into(), id(number))], &mut std::iter::empty()).unwrap();
        older.push(disk.bytes_of("snapshot"));
    }
    assert!(log.retain(&[rule], 0).unwrap() > 2);
    drop(log);
    disk.end_process();
    let copy = disk.copied();
    copy.replace("snapshot", older.remove(0));
    disk.delete("snapshot");
    for disk in [disk, copy] {
        assert!(
            said(&disk).contains("snapshot is damaged at byte 0: missing, or older than what was trimmed"),
            "{}",
            said(&disk)
        );
    }
}

#[test]
fn a_torn_tail_is_cut_off_kept_and_said() {
    let disk = filled(8);
    let name = segments(&disk).pop().unwrap();
    let used = disk.bytes_of(&name).iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut bytes = disk.bytes_of(&name);
    let start = used.next_multiple_of(4);
    bytes[start..start + 30].fill(0xEE);
    disk.replace(&name, bytes);
    let mut log = simulated(&disk).unwrap();
    let torn = log.recovery().torn.clone().unwrap();
    assert_eq!((&torn.file, torn.offset, torn.bytes), (&name, start as u64, 30));
    assert_eq!(disk.bytes_of(&torn.kept_as), [0xEE; 30]);
    assert_eq!(log.append(&[item("one", 999, "a", "")]).unwrap(), [id(121)]);
    drop(log);
    disk.end_process();
    assert_eq!(simulated(&disk).unwrap().recovery().torn, None);
}

#[test]
fn a_failed_sync_poisons_and_what_it_left_is_written_again() {
    let disk = filled(9);
    let mut log = simulated(&disk).unwrap();
    disk.fail_syncs(true);
    assert!(matches!(log.append(&[item("one", 999, "a", "lost?")]), Err(Error::Io { .. })));
    disk.fail_syncs(false);
    let refusals = [
        log.append(&[item("one", 999, "a", "")]).unwrap_err(),
        log.sync().unwrap_err(),
        log.write_snapshot(&[("one".into(), id(1))], &mut std::iter::empty()).unwrap_err(),
        log.trim_before(3).unwrap_err(),
    ];
    assert!(refusals.iter().all(|error| matches!(error, Error::Poisoned)), "{refusals:?}");
    assert_eq!(read_all(&log, &Query::new("one")).unwrap().len(), 120, "reads go on");
    drop(log);
    disk.end_process();
    // The record is there for a new process, though not on disk; what it builds on it must not be lost with it.
    let mut log = simulated(&disk).unwrap();
    assert_eq!(log.append(&[item("one", 999, "a", "on top")]).unwrap(), [id(122)]);
    drop(log);
    disk.cut_power();
    assert_eq!(read_all(&simulated(&disk).unwrap(), &Query::new("one")).unwrap().len(), 122);
}

#[test]
fn a_full_disk_refuses_before_the_write_and_recovers_by_itself() {
    let disk = SimulatedDisk::new(10);
    let config = Config { reserve_bytes: 2_000, ..small() };
    disk.set_capacity(20_000);
    let mut log = Log::open(disk.clone(), config, Options::default()).unwrap();
    let mut count = 0;
    let refused = loop {
        match log.append(&[item("one", count, "a", "some text that takes space")]) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::NoSpace), "{refused}");
    assert!(disk.free_bytes().unwrap() >= 2_000);
    for _ in 0..5 {
        assert!(matches!(log.append(&[item("one", count, "a", "some text that takes space")]), Err(Error::NoSpace)));
    }
    assert_eq!(read_all(&log, &Query::new("one")).unwrap().len() as u64, count, "reads go on");
    let as_of = [("one".into(), id(count))];
    log.write_snapshot(&as_of, &mut [b"state".to_vec()].into_iter()).unwrap();
    let rule = Retention { max_count: Some(10), ..Retention::default() };
    assert!(log.retain(&[rule], 0).unwrap() > 0);
    assert_eq!(log.append(&[item("one", count, "a", "fits again")]).unwrap(), [id(count + 1)]);
    drop(log);
    disk.end_process();
    let log = Log::open(disk, config, Options::default()).unwrap();
    assert_eq!(log.realm_state("one").last, Some(id(count + 1)));
}

#[test]
fn a_batch_that_fits_no_segment_is_refused_whole() {
    let disk = filled(11);
    let mut log = simulated(&disk).unwrap();
    let large = item("one", 999, "a", &"x".repeat(5_000));
    assert!(matches!(log.append(&[item("one", 999, "a", ""), large]), Err(Error::BatchTooLarge { .. })));
    assert_eq!(log.append(&[item("one", 999, "a", "")]).unwrap(), [id(121)]);
}

#[test]
fn one_sync_is_enough_for_a_batch() {
    let disk = SimulatedDisk::new(12);
    let mut log = Log::open(disk.clone(), Config { segment_bytes: 1 << 20, ..small() }, Options::default()).unwrap();
    let before = disk.syncs();
    let batch: Vec<_> = (0..500).map(|number| item("one", number, "a", "x")).collect();
    log.append(&batch).unwrap();
    assert_eq!(disk.syncs() - before, 1);
    log.sync().unwrap();
    assert_eq!(disk.syncs() - before, 1, "nothing new, nothing synced");
}

#[test]
fn records_per_second_are_measured_beside_the_disk() {
    use std::time::Instant;
    let directory = Directory::new();
    let count = if cfg!(debug_assertions) { 5_000 } else { 500_000 };
    let config = Config { reserve_bytes: 0, ..Config::default() };
    let mut log = directory.open(config).unwrap();
    let batch: Vec<_> =
        (0..1_000).map(|number: u64| item("realm1", 1, &format!("plant/line{}/state", number % 50), &"x".repeat(100))).collect();
    let started = Instant::now();
    for _ in 0..count / 1_000 {
        log.append(&batch).unwrap();
    }
    let appending = started.elapsed();
    drop(log);
    let started = Instant::now();
    let log = directory.open(config).unwrap();
    let opening = started.elapsed();
    assert_eq!(log.realm_state("realm1").last, Some(id(count)));
    let file = std::fs::File::create(directory.0.join("plain")).unwrap();
    let started = Instant::now();
    for number in 0..50_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4_096], number * 4_096).unwrap();
        file.sync_data().unwrap();
    }
    let syncs = 50.0 / started.elapsed().as_secs_f64();
    println!(
        "{:.0} records/s synced every 1,000; {syncs:.0} plain fdatasync/s; opened {count} in {opening:?}",
        count as f64 / appending.as_secs_f64()
    );
}
