//! The segmented log: one per process, all realms in it, appended to by one writer, read by any number of [`Reader`]s.
//!
//! A directory holds `segment-NNNNNNNNNNNN.log` (header, frames, and once sealed its index), `identity`, `synced`, `snapshot` and
//! `lock`. Only the last segment is written and, at start, scanned; the others are found by their footers. Nothing is readable
//! before it is synced, so that nobody can see what a power cut may take back.
mod footer;
mod frame;
mod frames;
mod heads;
mod identity;
mod index;
mod reader;
mod recovery;
mod retention;
mod segment;
mod snapshot;
mod snapshot_job;
mod tail;
mod writer;

use identity::Identity;
pub use identity::{FORMAT, IDENTITY_FILE};
pub use reader::{Extent, Reader};
pub use recovery::Options;
pub use retention::Plan;
pub use snapshot::SnapshotReader;
pub use snapshot_job::{SnapshotDone, SnapshotJob, Snapshots};
pub use tail::{Recovery, Torn};
pub use writer::{Log, SyncDone, SyncJob};

use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, OsDisk};
use super::error::Error;
use super::query::{Page, Query, RealmState, Retention};
use super::{Snapshot, Store};
use crate::model::{EventId, Item};

/// True for the names of what a log, and the projections beside it, leave in their directory.
pub fn is_own_name(name: &str) -> bool {
    let plain = ["identity", "identity.new", "synced", "lock", "snapshot", "snapshot.new"];
    let is_segment = name.strip_prefix("segment-").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    plain.contains(&name) || is_segment || name == "state" || name.starts_with("state-damaged-")
}

/// Whether an acknowledgement waits for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// A sync a batch.
    #[default]
    Sync,
    /// Whenever the operating system writes: a power cut loses what was acknowledged.
    Os,
}

/// The log's use of its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bytes of a segment, preallocated; at most 1 GiB.
    pub segment_bytes: u64,
    /// A segment with as many bytes is sealed before the next batch: only whole segments are trimmed.
    pub roll_bytes: u64,
    /// So is one whose first record is this old by then.
    pub roll_age_ms: u64,
    /// Bytes that stay free on the disk.
    pub reserve_bytes: u64,
    /// Bytes at the end of the log that are left in the operating system's memory, for readers that are not far behind.
    pub cached_bytes: u64,
    /// The meaning of an acknowledgement.
    pub durability: Durability,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            segment_bytes: 64 * 1024 * 1024,
            roll_bytes: u64::MAX,
            roll_age_ms: u64::MAX,
            reserve_bytes: 64 * 1024 * 1024,
            cached_bytes: 8 * 1024 * 1024,
            durability: Durability::Sync,
        }
    }
}

/// The format of the log in the directory at `path`, which exists; `None` if there is no log. Fails where somebody uses it, or where
/// this program cannot read it.
pub fn probe(path: &Path) -> Result<Option<u32>, Error> {
    if !path.join(IDENTITY_FILE).exists() {
        return Ok(None);
    }
    let disk = OsDisk::new(path).map_err(|error| Error::io(".", error))?;
    if !disk.lock().map_err(|error| Error::io("lock", error))? {
        return Err(Error::Locked(disk.holder()));
    }
    let names = disk.list().map_err(|error| Error::io(".", error))?;
    Ok(Identity::read(&disk, &names)?.map(|identity| identity.format))
}

impl Log<OsDisk> {
    /// Opens, or makes, the log in the directory at `path`.
    pub fn open_at(path: &Path, config: Config, options: Options) -> Result<Self, Error> {
        let disk = OsDisk::new(path).map_err(|error| Error::io(".", error))?;
        Log::open(disk, config, options)
    }
}

impl<D: Disk> Store for Log<D> {
    fn write(&mut self, items: &[Item]) -> Result<Vec<EventId>, Error> {
        self.write_batch(items)
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.sync_all()
    }

    fn read(&self, query: &Query) -> Result<Page, Error> {
        self.reader().read(query)
    }

    fn realms(&self) -> Vec<Arc<str>> {
        self.reader().realms()
    }

    fn realm_state(&self, realm: &str) -> RealmState {
        self.reader().realm_state(realm)
    }

    fn retain(&mut self, rules: &[Retention], now_ms: u64) -> Result<usize, Error> {
        let plan = self.reader().plan_retention(rules, now_ms)?;
        self.trim_before(plan.first_kept)
    }

    fn write_snapshot(&mut self, as_of: &[(Arc<str>, EventId)], chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), Error> {
        let done = self.start_snapshot()?.write(as_of, chunks)?;
        self.finish_snapshot(done)
    }

    fn snapshot(&self) -> Result<Option<Snapshot>, Error> {
        let Some(mut reader) = self.open_snapshot()? else { return Ok(None) };
        let mut snapshot = Snapshot { as_of: reader.as_of().to_vec(), chunks: Vec::new() };
        while let Some(chunk) = reader.next_chunk()? {
            snapshot.chunks.push(chunk);
        }
        Ok(Some(snapshot))
    }
}
