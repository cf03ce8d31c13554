//! Tests of the store: one table for the reference and the log, a simulated disk, the bytes.
mod directory;
mod model;
mod round_trips;
mod simulated_disk;
mod simulation;
mod snapshots;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use self::simulated_disk::{Chance, SimulatedDisk};
use super::log::{Config, Durability, Options, SnapshotJob};
use super::*;
use crate::model::record::Kind;
use crate::model::{Payload, Record, Topic};

fn item(realm: &str, time_ms: u64, topic: &str, text: &str) -> Item {
    let payload = Payload::Bytes(Bytes::copy_from_slice(text.as_bytes()));
    Item::publication(realm.into(), time_ms, Topic::from_mqtt(topic).unwrap(), payload)
}

fn small() -> Config {
    Config { segment_bytes: 4_096, reserve_bytes: 0, cached_bytes: 512, durability: Durability::Sync, ..Config::default() }
}

fn simulated(disk: &SimulatedDisk) -> Result<Log<SimulatedDisk>, Error> {
    Log::open(disk.clone(), small(), Options { new_identity: [9; 16], ..Options::default() })
}

/// A directory that is removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("corsac-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Directory(std::env::temp_dir().join(name))
    }

    fn open(&self, config: Config) -> Result<Log<super::disk::OsDisk>, Error> {
        Log::open_at(&self.0, config, Options { new_identity: [5; 16], ..Options::default() })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All that `query` finds, page by page.
fn read_all(store: &dyn Store, query: &Query) -> Result<Vec<Record>, Error> {
    let (mut query, mut all) = (query.clone(), Vec::new());
    for _ in 0..100_000 {
        let page = store.read(&query)?;
        assert!(page.is_end || page.cursor.is_some());
        let next = query.clone().behind(&page);
        all.extend(page.records.clone());
        if page.is_end {
            return Ok(all);
        }
        assert_ne!(next, query, "no progress");
        query = next;
    }
    panic!("no end");
}

fn ids(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.id.value()).collect()
}

fn id(number: u64) -> EventId {
    EventId::new(number).unwrap()
}
