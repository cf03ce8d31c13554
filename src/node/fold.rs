//! Makes a snapshot of all realms: the one before it and the sealed segments since, folded realm by realm, never what runs.
//!
//! In the file a realm is its name, the id that it is as of, and its entries, each behind its length; an empty name is the end.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::{Entry, Rebuilt, bytes_from, put_bytes};
use crate::model::{EventId, Limits};
use crate::store::disk::{Disk, DiskFile, OsDisk};
use crate::store::log::{Reader, SnapshotDone, SnapshotJob, SnapshotReader};
use crate::store::query::MAX_PAGE_RECORDS;
use crate::store::{AsOf, Error, Query};

/// Bytes that are gathered before they are written.
const CHUNK_BYTES: usize = 512 * 1024;

/// Entries of the realms of a snapshot, in the order in which they were written.
pub struct Entries<F> {
    reader: SnapshotReader<F>,
    buffer: Vec<u8>,
    at: usize,
    /// The realm whose entries come next, and the id that they are as of; `None` behind the last.
    ahead: Option<(Arc<str>, EventId)>,
}

impl<F: DiskFile> Entries<F> {
    /// Of this snapshot.
    pub fn of(reader: SnapshotReader<F>) -> Result<Self, Error> {
        let mut entries = Entries { reader, buffer: Vec::new(), at: 0, ahead: None };
        entries.ahead = entries.next_realm()?;
        Ok(entries)
    }

    /// The bytes behind the next length.
    fn next(&mut self) -> Result<Vec<u8>, Error> {
        loop {
            if let Some((bytes, _)) = self.buffer.get(self.at..).and_then(bytes_from) {
                self.at += 4 + bytes.len();
                return Ok(bytes.to_vec());
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            let Some(chunk) = self.reader.next_chunk()? else { return Err(unreadable()) };
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// The next realm and the id that its entries are as of, which follow.
    fn next_realm(&mut self) -> Result<Option<(Arc<str>, EventId)>, Error> {
        let name = self.next()?;
        if name.is_empty() {
            // The ids that it is as of are known to be complete only now.
            return self.reader.next_chunk()?.is_none().then_some(None).ok_or_else(unreadable);
        }
        let name = String::from_utf8(name).map_err(|_| unreadable())?;
        let as_of = self.next()?.try_into().ok().map(u64::from_le_bytes).and_then(EventId::new);
        Ok(Some((name.into(), as_of.ok_or_else(unreadable)?)))
    }

    /// The next entry of that realm; `None` behind the last.
    fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let key = self.next()?;
        if key.is_empty() { Ok(None) } else { Ok(Some((key, self.next()?))) }
    }

    /// Reads what there is of `realm` into `rebuilt`, passing over the realms before it. Realms come in the order of their names.
    pub fn read_realm(&mut self, realm: &str, rebuilt: &mut Rebuilt) -> Result<(), Error> {
        while let Some((name, as_of)) = self.ahead.take_if(|(name, _)| **name <= *realm) {
            let is_it = *name == *realm;
            while let Some((key, value)) = self.next_entry()? {
                if is_it {
                    rebuilt.take(&key, &value).ok_or_else(unreadable)?;
                }
            }
            if is_it {
                rebuilt.finish(as_of).ok_or_else(unreadable)?;
            }
            self.ahead = self.next_realm()?;
        }
        Ok(())
    }
}

fn unreadable() -> Error {
    Error::Corrupt { file: "snapshot".to_owned(), offset: 0, what: "an entry that cannot be read" }
}

/// Reads the records of `realm` behind what `rebuilt` includes, up to `until`, or all; how many they were.
pub fn replay<D: Disk>(
    reader: &Reader<D>,
    realm: &Arc<str>,
    rebuilt: &mut Rebuilt,
    until: Option<EventId>,
    mut progress: impl FnMut(EventId),
) -> Result<u64, Error> {
    let before = until.and_then(EventId::next);
    let mut query = Query { after: rebuilt.router.as_of(), before, limit: MAX_PAGE_RECORDS, ..Query::new(realm.clone()) };
    let mut count = 0;
    loop {
        let page = reader.read(&query)?;
        count += page.records.len() as u64;
        for record in &page.records {
            if rebuilt.replay(record).is_none() {
                return Err(Error::RecordMissing { realm: realm.to_string(), before: record.id });
            }
        }
        if page.is_end {
            return Ok(count);
        }
        page.cursor.into_iter().for_each(&mut progress);
        query = query.behind(&page);
    }
}

/// The share of a processor, and of the disk, that a fold leaves to those who are served meanwhile.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Half: space waits for it.
    Brisk,
    /// Four fifths: nobody waits for it, and only the start after a loss of the projections would be longer.
    Easy,
}

impl Pace {
    /// The rest that is due after so much work.
    fn rest(self, worked: Duration) -> Duration {
        match self {
            Pace::Brisk => worked,
            Pace::Easy => worked * 4,
        }
    }
}

/// Folds and writes a snapshot as of the last sealed segment; `None` if nothing is sealed.
pub fn write(job: SnapshotJob<OsDisk>, limits: &Limits, pace: Pace) -> Result<Option<SnapshotDone<OsDisk>>, Error> {
    let mut as_of: AsOf = job.reader().sealed_heads();
    for (realm, before) in job.previous_ids() {
        match as_of.iter_mut().find(|(name, _)| name == realm) {
            Some((_, id)) => *id = (*id).max(*before),
            None => as_of.push((realm.clone(), *before)),
        }
    }
    if as_of.is_empty() {
        return Ok(None);
    }
    as_of.sort_unstable();
    let previous = job.previous()?.map(Entries::of).transpose()?;
    let mut fold = Fold {
        reader: job.reader().clone(),
        limits: limits.clone(),
        pace,
        previous,
        realms: as_of.iter().cloned().collect(),
        current: None,
        is_end: false,
        failed: None,
    };
    let done = job.write(&as_of, &mut fold)?;
    match fold.failed {
        // The file ends too early: it is dropped.
        Some(error) => Err(error),
        None => Ok(Some(done)),
    }
}

/// The chunks of a snapshot while it is made.
struct Fold {
    reader: Reader<OsDisk>,
    limits: Limits,
    pace: Pace,
    previous: Option<Entries<<OsDisk as Disk>::File>>,
    realms: VecDeque<(Arc<str>, EventId)>,
    current: Option<Box<dyn Iterator<Item = Entry>>>,
    is_end: bool,
    failed: Option<Error>,
}

impl Fold {
    /// Puts the next realm together.
    fn rebuild(&mut self, realm: &Arc<str>, until: EventId) -> Result<Rebuilt, Error> {
        let mut rebuilt = Rebuilt::new(self.limits.clone(), 0);
        // Both are in the order of names, and every realm of the snapshot before is in this one.
        if let Some(previous) = &mut self.previous {
            previous.read_realm(realm, &mut rebuilt)?;
        }
        let mut began = Instant::now();
        replay(&self.reader, realm, &mut rebuilt, Some(until), |_| {
            std::thread::sleep(self.pace.rest(began.elapsed()));
            began = Instant::now();
        })?;
        Ok(rebuilt)
    }

    fn fill(&mut self, chunk: &mut Vec<u8>) -> Result<(), Error> {
        while chunk.len() < CHUNK_BYTES && !self.is_end {
            if let Some(entries) = &mut self.current {
                match entries.next() {
                    Some((key, value)) => {
                        put_bytes(chunk, &key);
                        put_bytes(chunk, &value);
                    }
                    None => {
                        put_bytes(chunk, &[]);
                        self.current = None;
                    }
                }
            } else if let Some((realm, until)) = self.realms.pop_front() {
                put_bytes(chunk, realm.as_bytes());
                put_bytes(chunk, &until.value().to_le_bytes());
                self.current = Some(Box::new(self.rebuild(&realm, until)?.entries()));
            } else {
                put_bytes(chunk, &[]);
                self.is_end = true;
            }
        }
        Ok(())
    }
}

impl Iterator for Fold {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut chunk = Vec::new();
        if self.failed.is_none()
            && let Err(error) = self.fill(&mut chunk)
        {
            self.failed = Some(error);
            return None;
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}
