//! A snapshot written beside the writer: a job on any thread makes the whole file, the log's owner then puts it in the old one's place.
//!
//! The job never renames. Names of the directory (segments, identity, snapshot) change on the thread that owns the log and
//! nowhere else. So a trim always goes by the snapshot that is there, and a job that is given up leaves nothing that counts. Left
//! to the owner's thread are a renaming and a sync of the directory, less than for each new segment.
use std::sync::Arc;

use super::reader::Reader;
use super::snapshot::{self, SNAPSHOT_FILE, SnapshotReader, TEMPORARY};
use super::writer::Log;
use crate::model::EventId;
use crate::store::disk::{Disk, is_full};
use crate::store::error::Error;
use crate::store::{AsOf, as_of, is_later};

/// Writes one snapshot, on any thread. Begun by [`Log::start_snapshot`]; dropping it gives it up.
pub struct SnapshotJob<D: Disk> {
    directory: [u8; 16],
    reader: Reader<D>,
    previous: AsOf,
    draft: Draft<D>,
}

/// A snapshot that is whole and synced under its temporary name, for [`Log::finish_snapshot`]; dropped instead, it is removed.
pub struct SnapshotDone<D: Disk> {
    as_of: AsOf,
    bytes: u64,
    draft: Draft<D>,
}

/// The temporary file, and the right to it.
struct Draft<D: Disk> {
    disk: D,
    is_there: bool,
    /// Released behind `drop`, when the file is gone.
    _slot: Arc<()>,
}

impl<D: Disk> Drop for Draft<D> {
    fn drop(&mut self) {
        if self.is_there {
            // The next one, or the next start, would replace it too.
            let _ = self.disk.remove(TEMPORARY);
        }
    }
}

impl<D: Disk> SnapshotJob<D> {
    /// The last ids that the snapshot to be replaced includes; empty if there is none.
    pub fn previous_ids(&self) -> &[(Arc<str>, EventId)] {
        &self.previous
    }

    /// The snapshot that is to be replaced; it stays until this job's is in its place.
    pub fn previous(&self) -> Result<Option<SnapshotReader<D::File>>, Error> {
        if self.previous.is_empty() { Ok(None) } else { snapshot::open(&self.draft.disk, &self.directory) }
    }

    /// The history, of which nothing behind [`SnapshotJob::previous_ids`] is trimmed while the job lasts.
    pub fn reader(&self) -> &Reader<D> {
        &self.reader
    }

    /// Writes the state as of `ids`, which must be durable and none before that of the snapshot before, and syncs it. A refusal
    /// leaves everything as it was. A snapshot may use the disk's reserve, because it is the way to get space back.
    pub fn write(
        mut self,
        ids: &[(Arc<str>, EventId)],
        chunks: &mut dyn Iterator<Item = Vec<u8>>,
    ) -> Result<SnapshotDone<D>, Error> {
        check_order(&self.reader, ids, &self.previous)?;
        self.draft.is_there = true;
        let bytes = snapshot::write(&self.draft.disk, &self.directory, ids, chunks)?;
        Ok(SnapshotDone { as_of: ids.to_vec(), bytes, draft: self.draft })
    }
}

/// Opens the snapshot of a directory, whichever it is by then.
pub struct Snapshots<D> {
    disk: D,
    directory: [u8; 16],
}

impl<D: Disk> Snapshots<D> {
    /// The snapshot, to be read piece by piece.
    pub fn open(&self) -> Result<Option<SnapshotReader<D::File>>, Error> {
        snapshot::open(&self.disk, &self.directory)
    }
}

fn check_order<D: Disk>(reader: &Reader<D>, ids: &[(Arc<str>, EventId)], previous: &[(Arc<str>, EventId)]) -> Result<(), Error> {
    let is_durable = |(realm, id): &(Arc<str>, EventId)| reader.realm_state(realm).last.is_some_and(|last| last >= *id);
    let is_in_order = !ids.is_empty() && ids.iter().all(is_durable) && is_later(ids, previous);
    if is_in_order { Ok(()) } else { Err(Error::SnapshotOutOfOrder) }
}

impl<D: Disk> Log<D> {
    /// Begins a snapshot: fold and write it with the job on any thread, hand the outcome to [`Log::finish_snapshot`]. Appending goes
    /// on meanwhile. One at a time.
    pub fn start_snapshot(&mut self) -> Result<SnapshotJob<D>, Error> {
        self.check_alive()?;
        if Arc::get_mut(&mut self.snapshot_slot).is_none() {
            return Err(Error::SnapshotUnderWay);
        }
        let draft = Draft { disk: self.disk.clone(), is_there: false, _slot: self.snapshot_slot.clone() };
        let (reader, previous) = (self.reader.clone(), self.snapshot_of.clone());
        Ok(SnapshotJob { directory: self.identity.directory, reader, previous, draft })
    }

    /// Puts the snapshot of `done` in the place of the one before, in one step. From then on what it includes may be trimmed.
    pub fn finish_snapshot(&mut self, done: SnapshotDone<D>) -> Result<(), Error> {
        self.check_alive()?;
        let SnapshotDone { as_of, bytes, mut draft } = done;
        check_order(&self.reader, &as_of, &self.snapshot_of)?;
        self.disk
            .rename(TEMPORARY, SNAPSHOT_FILE)
            .map_err(|error| if is_full(&error) { Error::NoSpace } else { Error::io(SNAPSHOT_FILE, error) })?;
        draft.is_there = false;
        if let Err(error) = self.disk.sync_directory() {
            // Which of the two a power cut leaves is unknown; nothing that only the new one includes has been trimmed.
            return self.poison(Error::io(SNAPSHOT_FILE, error));
        }
        self.reader.set_snapshot(as_of.clone(), bytes);
        self.snapshot_of = as_of;
        Ok(())
    }

    /// For whoever reads snapshots when the log is elsewhere.
    pub fn snapshots(&self) -> Snapshots<D> {
        Snapshots { disk: self.disk.clone(), directory: self.identity.directory }
    }

    /// The snapshot, to be read piece by piece.
    pub fn open_snapshot(&self) -> Result<Option<SnapshotReader<D::File>>, Error> {
        if self.snapshot_of.is_empty() {
            return Ok(None);
        }
        snapshot::open(&self.disk, &self.identity.directory)
    }

    /// Whether the snapshot includes id number `id` of `realm`.
    pub fn is_in_snapshot(&self, realm: &str, id: EventId) -> bool {
        as_of(&self.snapshot_of, realm) >= id.value()
    }
}
