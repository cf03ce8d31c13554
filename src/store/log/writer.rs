//! The one writer of a log: batches in, ids out, a sync for many, a new segment when one is full.
use std::mem;
use std::sync::Arc;

use super::footer::{self, Sealed};
use super::frame::{self, HEADER_BYTES};
use super::heads::{Head, Heads};
use super::identity::{Identity, Mark};
use super::index::{MemoryIndex, Place};
use super::reader::{Ends, Open, OpenData, Reader, State};
use super::segment::file_name;
use super::tail::{Recovery, Tail, allocate, begin};
use super::{Config, Durability};
use crate::model::{EventId, Item};
use crate::store::disk::{Disk, DiskFile, is_full};
use crate::store::error::Error;
use crate::store::{AsOf, codec};

/// The log of a process. A thread that owns it collects a batch, writes and syncs it, and answers; what arrives meanwhile is the
/// next batch. To write the next batch while the sync runs, see [`Log::start_sync`].
pub struct Log<D: Disk> {
    pub(super) disk: D,
    pub(super) config: Config,
    pub(super) identity: Identity,
    pub(super) reader: Reader<D>,
    pub(super) tail: Tail<D::File>,
    pub(super) mark: Mark<D::File>,
    /// The heads behind everything written.
    pub(super) heads: Heads,
    /// The last ids that the snapshot includes.
    pub(super) snapshot_of: AsOf,
    /// Shared with the snapshot that is being written, if one is.
    pub(super) snapshot_slot: Arc<()>,
    pub(super) recovery: Recovery,
    pub(super) is_poisoned: bool,
    pub(super) scratch: Scratch,
}

/// A batch on its way, and what is written but not yet synced.
#[derive(Default)]
pub(super) struct Scratch {
    frames: Vec<u8>,
    places: Vec<Place>,
    lengths: Vec<u32>,
    undo: Vec<(Arc<str>, Head)>,
    unsynced: Vec<Place>,
    time_ms: u64,
}

/// A sync that can run elsewhere.
pub struct SyncJob<F> {
    file: Arc<F>,
    segment: u64,
    end: u64,
    durability: Durability,
}

/// The outcome of a [`SyncJob`].
#[derive(Debug)]
pub struct SyncDone {
    segment: u64,
    end: u64,
    result: std::io::Result<()>,
}

impl<F: DiskFile> SyncJob<F> {
    /// Waits for the disk.
    pub fn run(self) -> SyncDone {
        let result = if self.durability == Durability::Os { Ok(()) } else { self.file.sync() };
        SyncDone { segment: self.segment, end: self.end, result }
    }
}

impl<D: Disk> Log<D> {
    /// A reader of this log, for any thread.
    pub fn reader(&self) -> &Reader<D> {
        &self.reader
    }

    /// The damage that opening it found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The identity of the directory.
    pub fn directory(&self) -> [u8; 16] {
        self.identity.directory
    }

    /// True once a write or sync has failed.
    pub fn is_poisoned(&self) -> bool {
        self.is_poisoned
    }

    pub(super) fn check_alive(&self) -> Result<(), Error> {
        if self.is_poisoned { Err(Error::Poisoned) } else { Ok(()) }
    }

    pub(super) fn poison<T>(&mut self, error: Error) -> Result<T, Error> {
        self.is_poisoned = true;
        Err(error)
    }

    /// Bytes that one batch may take.
    fn batch_limit(&self) -> usize {
        // Room is left for the heads of some thousand realms.
        (self.config.segment_bytes - self.config.segment_bytes / 8) as usize
    }

    pub(super) fn write_batch(&mut self, items: &[Item]) -> Result<Vec<EventId>, Error> {
        self.check_alive()?;
        let written = self.encode(items).and_then(|ids| self.write_encoded().map(|()| ids));
        if written.is_err() {
            for (realm, head) in mem::take(&mut self.scratch.undo).into_iter().rev() {
                self.heads.set(&realm, head);
            }
            self.scratch.places.clear();
        }
        written
    }

    /// Bodies of all items into the scratch, with room for their headers; the heads move on, and `undo` says from where.
    fn encode(&mut self, items: &[Item]) -> Result<Vec<EventId>, Error> {
        let limit = self.batch_limit();
        let Scratch { frames, places, lengths, undo, time_ms, .. } = &mut self.scratch;
        frames.clear();
        places.clear();
        lengths.clear();
        undo.clear();
        let mut ids = Vec::with_capacity(items.len());
        *time_ms = items.last().map_or(0, |item| item.time_ms);
        for item in items {
            codec::check(item)?;
            let head = self.heads.head(&item.realm);
            let id = EventId::new(head.next).ok_or(Error::Unstorable("no id is left in the realm"))?;
            if item.time_ms < head.last_time_ms {
                return Err(Error::TimeWentBack { last_ms: head.last_time_ms });
            }
            let start = frames.len();
            frames.resize(start + HEADER_BYTES, 0);
            codec::encode(item, id, frames);
            let length = frames.len() - start - HEADER_BYTES;
            let bytes = frame::frame_bytes(length);
            frames.resize(start + bytes, 0);
            if length > codec::MAX_RECORD_BYTES || frames.len() > limit {
                return Err(Error::BatchTooLarge { bytes: frames.len(), limit: limit.min(codec::MAX_RECORD_BYTES) });
            }
            let realm = self.heads.name(&item.realm).cloned().unwrap_or_else(|| item.realm.clone());
            undo.push((realm.clone(), head));
            self.heads.set(&realm, Head { next: head.next + 1, last_time_ms: item.time_ms });
            lengths.push(length as u32);
            let (topic, time_ms) = (item.indexed_topic().cloned(), item.time_ms);
            places.push(Place { realm, id: head.next, time_ms, offset: start as u32, bytes: bytes as u32, topic });
            ids.push(id);
        }
        Ok(ids)
    }

    fn write_encoded(&mut self) -> Result<(), Error> {
        if self.tail.end + self.scratch.frames.len() as u64 > self.tail.allocated {
            self.roll()?;
        } else if self.is_to_be_sealed(self.scratch.time_ms) {
            // Sealing need not be: without room for another segment there is some in this one.
            match self.roll() {
                Err(Error::NoSpace) => {}
                rolled => rolled?,
            }
        }
        self.tail.first_time_ms.get_or_insert(self.scratch.time_ms);
        let (tail, scratch) = (&self.tail, &mut self.scratch);
        if tail.end + scratch.frames.len() as u64 > tail.allocated {
            let limit = (tail.allocated - tail.end) as usize;
            return Err(Error::BatchTooLarge { bytes: scratch.frames.len(), limit });
        }
        let mut chain = tail.chain;
        for (place, length) in scratch.places.iter_mut().zip(&scratch.lengths) {
            let frame = scratch.frames.get_mut(place.offset as usize..).unwrap_or_default();
            let offset = tail.end + u64::from(place.offset);
            chain = frame::seal(frame, *length, tail.salt, offset, chain, tail.synced as u32);
            place.offset = offset as u32;
        }
        if let Err(error) = tail.file.write_at(tail.end, &scratch.frames) {
            return self.give_up(error);
        }
        self.tail.end += self.scratch.frames.len() as u64;
        self.tail.chain = chain;
        let Scratch { places, unsynced, .. } = &mut self.scratch;
        unsynced.append(places);
        Ok(())
    }

    /// After a failed write, cuts off for good the part of it that may have arrived: refused records must not be there after a
    /// power cut. Only a full disk is an error to go on after.
    fn give_up(&mut self, error: std::io::Error) -> Result<(), Error> {
        let was_full = is_full(&error);
        let failed = Error::io(&self.tail.name, error);
        let cut_off = || self.tail.file.truncate(self.tail.end).and_then(|()| self.tail.file.sync());
        if !was_full || cut_off().is_err() {
            return self.poison(failed);
        }
        self.tail.allocated = self.tail.end;
        Err(Error::NoSpace)
    }

    /// Begins to sync what is written: run the job on any thread, hand its outcome to [`Log::finish_sync`], write on meanwhile.
    pub fn start_sync(&self) -> Result<SyncJob<D::File>, Error> {
        self.check_alive()?;
        let Tail { file, number, end, .. } = &self.tail;
        Ok(SyncJob { file: file.clone(), segment: *number, end: *end, durability: self.config.durability })
    }

    /// Makes readable what `done` made durable. A failed sync poisons the log: what the disk holds is then unknown.
    pub fn finish_sync(&mut self, done: SyncDone) -> Result<(), Error> {
        if let Err(error) = done.result {
            let name = file_name(done.segment);
            return self.poison(Error::io(&name, error));
        }
        self.check_alive()?;
        // A segment that is sealed meanwhile was synced for it.
        if done.segment != self.tail.number || done.end <= self.tail.synced {
            return Ok(());
        }
        self.tail.synced = done.end;
        let unsynced = &mut self.scratch.unsynced;
        let count = unsynced.partition_point(|place| u64::from(place.offset) < done.end);
        self.reader.publish(unsynced.drain(..count), done.end);
        let (cached, step) = (self.config.cached_bytes, (self.config.cached_bytes / 8).max(1));
        self.release_until(self.tail.synced.saturating_sub(cached) / step * step);
        if self.config.durability == Durability::Sync {
            // Where this fails the mark stays behind, which it may.
            let _ = self.mark.move_to(done.segment, done.end);
        }
        Ok(())
    }

    /// Leaves only the newest part of the segment in the operating system's memory. The log would push out other files there, and
    /// memory that goes round costs less than new memory for each page.
    fn release_until(&mut self, until: u64) {
        if until > self.tail.released && self.config.durability == Durability::Sync {
            self.tail.file.release(self.tail.released..until);
            self.tail.released = until;
        }
    }

    pub(super) fn sync_all(&mut self) -> Result<(), Error> {
        let job = self.start_sync()?;
        if job.end <= self.tail.synced {
            return Ok(());
        }
        self.finish_sync(job.run())
    }

    /// Seals the segment and begins the next. A full disk leaves everything as it was.
    fn roll(&mut self) -> Result<(), Error> {
        self.sync_all()?;
        self.check_space(self.config.segment_bytes)?;
        let tail = &self.tail;
        let sealing = self.reader.with_open_index(|index| footer::encode(index, tail.salt, tail.end, tail.chain));
        self.check_space(self.config.segment_bytes + sealing.len() as u64)?;
        let number = self.tail.number + 1;
        let temporary = format!("{}.new", file_name(number));
        let file = allocate(&self.disk, &temporary, self.config.segment_bytes)?;
        if let Err(error) = self.seal(&sealing) {
            let _ = self.disk.remove(&temporary);
            return Err(error);
        }
        // Those of what is written: `self.heads` is already behind the batch that waits.
        let heads = self.reader.heads();
        let next = begin(&self.disk, file, &self.identity.directory, number, self.tail.chain, &heads);
        let next = match next {
            Ok(next) => Tail { allocated: next.end.max(self.config.segment_bytes), ..next },
            Err(error) => return self.poison(error),
        };
        self.release_until(self.tail.end);
        let old = mem::replace(&mut self.tail, next);
        match Sealed::open(&*old.file, old.number, &old.name, old.salt) {
            Ok(sealed) => self.reader.roll(sealed, &self.tail, heads),
            Err(error) => return self.poison(error),
        }
        if self.config.durability == Durability::Sync {
            let _ = self.mark.move_to(self.tail.number, self.tail.synced);
        }
        Ok(())
    }

    /// True if what stands in the segment should be trimmed before what comes at this time.
    fn is_to_be_sealed(&self, time_ms: u64) -> bool {
        let age_ms = self.tail.first_time_ms.map_or(0, |first_ms| time_ms.saturating_sub(first_ms));
        self.tail.first_time_ms.is_some() && (self.tail.end >= self.config.roll_bytes || age_ms >= self.config.roll_age_ms)
    }

    /// Seals the segment if what stands in it is old enough, so that it can be trimmed although nothing comes.
    pub fn seal_old(&mut self, now_ms: u64) -> Result<(), Error> {
        self.check_alive()?;
        if self.is_to_be_sealed(now_ms) { self.roll() } else { Ok(()) }
    }

    fn seal(&mut self, sealing: &[u8]) -> Result<(), Error> {
        let Tail { file, end, name, .. } = &self.tail;
        // The length first: once the trailer is there, it stands at the end.
        let written = file.truncate(*end).and_then(|()| file.write_at(*end, sealing));
        if let Err(error) = written {
            return self.give_up(error);
        }
        if let Err(error) = file.sync() {
            let error = Error::io(name, error);
            return self.poison(error);
        }
        Ok(())
    }

    /// True if the disk has room for what may come next.
    pub fn has_room(&self) -> bool {
        self.check_space(self.config.segment_bytes).is_ok()
    }

    fn check_space(&self, bytes: u64) -> Result<(), Error> {
        let free = self.disk.free_bytes().map_err(|error| Error::io(".", error))?;
        if free >= bytes.saturating_add(self.config.reserve_bytes) { Ok(()) } else { Err(Error::NoSpace) }
    }

    /// Removes the segments before `first_kept`, as far as the snapshot stands for them; the one being written stays. Returns how
    /// many went. See [`Reader::plan_retention`].
    pub fn trim_before(&mut self, first_kept: u64) -> Result<usize, Error> {
        self.check_alive()?;
        let doomed = self.reader.sealed_before(first_kept, &self.snapshot_of);
        let Some(last) = doomed.last() else { return Ok(0) };
        let identity = Identity { first_segment: last.number + 1, ..self.identity };
        let oldest = self.reader.heads_of(identity.first_segment)?;
        identity.write(&self.disk)?;
        self.identity = identity;
        self.reader.forget_before(identity.first_segment, oldest);
        for sealed in &doomed {
            self.disk.remove(&sealed.name).map_err(|error| Error::io(&sealed.name, error))?;
        }
        self.disk.sync_directory().map_err(|error| Error::io(".", error))?;
        Ok(doomed.len())
    }
}

impl<D: Disk> Drop for Log<D> {
    fn drop(&mut self) {
        // A directory that was closed in order says to the byte how far it was synced.
        if !self.is_poisoned {
            let _ = self.mark.sync();
        }
    }
}

impl<D: Disk> Reader<D> {
    /// The state of a log whose last segment is `tail`.
    pub(super) fn new(disk: D, sealed: Vec<Arc<Sealed>>, tail: &Tail<D::File>, index: MemoryIndex, ends: Ends) -> Self {
        let Ends { oldest, sealed: sealed_heads, written } = ends;
        let open = Arc::new(open_of(tail, index, written));
        let state = State { sealed: Arc::new(sealed), open, oldest, sealed_heads, snapshot_of: Vec::new(), snapshot_bytes: 0 };
        Reader { disk, state: Arc::new(parking_lot::RwLock::new(state)) }
    }

    fn roll(&self, sealed: Sealed, tail: &Tail<D::File>, heads: Heads) {
        let open = Arc::new(open_of(tail, MemoryIndex::default(), heads.clone()));
        let mut state = self.state.write();
        let mut all = state.sealed.to_vec();
        all.push(Arc::new(sealed));
        state.sealed = Arc::new(all);
        state.open = open;
        state.sealed_heads = heads;
    }
}

fn open_of<F>(tail: &Tail<F>, index: MemoryIndex, heads: Heads) -> Open<F> {
    let data = OpenData { index, heads, end: tail.synced };
    let (name, salt, file) = (tail.name.clone(), tail.salt, tail.file.clone());
    Open { name, salt, file, data: parking_lot::RwLock::new(data) }
}
