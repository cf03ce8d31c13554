//! A disk in memory that does what disks do: forgets what was not synced, tears writes, flips bits, fails and fills up.
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::store::disk::{Disk, DiskFile};

/// A small generator of chance, the same for the same seed.
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A change that a file was asked for since its last sync.
#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone, Default)]
struct Content {
    /// As the process sees it.
    seen: Vec<u8>,
    /// The end of the written bytes: those behind take no space where none is reserved.
    written: u64,
    /// As a power cut leaves it, what is dirty aside.
    durable: Vec<u8>,
    dirty: Vec<Change>,
}

#[derive(Clone)]
enum Naming {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

struct Inner {
    contents: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    dirty_names: Vec<Naming>,
    is_locked: bool,
    /// Operations until everything fails; then the power is off.
    operations_left: Option<u64>,
    is_off: bool,
    fail_syncs: bool,
    capacity: u64,
    cannot_reserve: bool,
    chance: Chance,
    syncs: u64,
}

/// The disk; clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<Inner>>);

/// A file of it.
pub struct SimulatedFile(Arc<Mutex<Inner>>, usize);

fn apply_name(names: &mut BTreeMap<String, usize>, naming: &Naming) {
    match naming {
        Naming::Create(name, content) => drop(names.insert(name.clone(), *content)),
        Naming::Rename(from, to) => {
            if let Some(content) = names.remove(from) {
                names.insert(to.clone(), content);
            }
        }
        Naming::Remove(name) => drop(names.remove(name)),
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, data) => {
            let end = *offset as usize + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset as usize..end].copy_from_slice(data);
        }
        Change::Length(length) => bytes.resize(*length as usize, 0),
    }
}

impl SimulatedDisk {
    pub fn new(seed: u64) -> Self {
        SimulatedDisk(Arc::new(Mutex::new(Inner {
            contents: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            dirty_names: Vec::new(),
            is_locked: false,
            operations_left: None,
            is_off: false,
            fail_syncs: false,
            capacity: u64::MAX,
            cannot_reserve: false,
            chance: Chance::new(seed),
            syncs: 0,
        })))
    }

    /// After this many operations the power goes off, in the middle of one: that one may have happened, or a part of it.
    pub fn cut_power_after(&self, operations: u64) {
        self.0.lock().operations_left = Some(operations);
    }

    pub fn fail_syncs(&self, fail: bool) {
        self.0.lock().fail_syncs = fail;
    }

    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity = bytes;
    }

    /// Allocating reserves nothing, as on some file systems: a full disk shows in the middle of a write.
    pub fn reserve_nothing(&self) {
        self.0.lock().cannot_reserve = true;
    }

    /// Bytes of all files that have a name.
    pub fn used(&self) -> u64 {
        self.0.lock().used()
    }

    /// True once the power has gone off.
    pub fn is_off(&self) -> bool {
        self.0.lock().is_off
    }

    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// The process ends, but the machine does not: everything written is there.
    pub fn end_process(&self) {
        let mut inner = self.0.lock();
        inner.is_locked = false;
        inner.operations_left = None;
        inner.is_off = false;
        inner.fail_syncs = false;
    }

    /// The power goes off and on: each write and each name that was not synced is there, torn or lost, by chance.
    pub fn cut_power(&self) {
        let mut inner = self.0.lock();
        let Inner { contents, names, durable_names, dirty_names, chance, .. } = &mut *inner;
        // Most file systems keep their order; nobody promises it.
        let kept_names = chance.below(dirty_names.len() as u64 + 1) as usize;
        let is_ordered = chance.one_in(2);
        for (at, naming) in dirty_names.iter().enumerate() {
            if if is_ordered { at < kept_names } else { chance.one_in(2) } {
                apply_name(durable_names, naming);
            }
        }
        dirty_names.clear();
        names.clone_from(durable_names);
        for content in contents {
            for change in std::mem::take(&mut content.dirty) {
                match (chance.below(4), change) {
                    (0, _) => {}
                    (1, Change::Write(offset, data)) => tear(&mut content.durable, offset, &data, chance),
                    (_, change) => apply(&mut content.durable, &change),
                }
            }
            content.seen.clone_from(&content.durable);
            content.written = content.seen.len() as u64;
        }
        drop(inner);
        self.end_process();
    }

    /// Changes one bit of a file that has bytes; says which.
    pub fn flip_bit(&self) -> Option<(String, u64)> {
        let mut inner = self.0.lock();
        let Inner { contents, names, chance, .. } = &mut *inner;
        let all: Vec<_> = names.iter().filter(|(_, at)| !contents[**at].seen.is_empty()).collect();
        let (name, at) = *all.get(chance.below(all.len() as u64) as usize)?;
        let content = &mut contents[*at];
        // Mostly where there is something.
        let used = content.seen.iter().rposition(|byte| *byte != 0).map_or(1, |last| last as u64 + 1);
        let offset = if chance.one_in(8) { chance.below(content.seen.len() as u64) } else { chance.below(used) };
        let bit = 1 << chance.below(8);
        content.seen[offset as usize] ^= bit;
        if let Some(byte) = content.durable.get_mut(offset as usize) {
            *byte ^= bit;
        }
        Some((name.clone(), offset))
    }

    pub fn names(&self) -> Vec<String> {
        self.0.lock().names.keys().cloned().collect()
    }

    pub fn bytes_of(&self, name: &str) -> Vec<u8> {
        let inner = self.0.lock();
        inner.contents[inner.names[name]].seen.clone()
    }

    pub fn replace(&self, name: &str, bytes: Vec<u8>) {
        let mut inner = self.0.lock();
        let at = inner.names[name];
        let written = bytes.len() as u64;
        inner.contents[at] = Content { seen: bytes.clone(), written, durable: bytes, dirty: Vec::new() };
    }

    pub fn delete(&self, name: &str) {
        let mut inner = self.0.lock();
        inner.names.remove(name);
        inner.durable_names.remove(name);
    }

    /// A copy of the whole directory as it is, on a disk of its own.
    pub fn copied(&self) -> Self {
        let inner = self.0.lock();
        let copy = Inner {
            contents: inner.contents.clone(),
            names: inner.names.clone(),
            durable_names: inner.durable_names.clone(),
            dirty_names: inner.dirty_names.clone(),
            is_locked: false,
            operations_left: None,
            is_off: false,
            fail_syncs: false,
            capacity: inner.capacity,
            cannot_reserve: inner.cannot_reserve,
            chance: inner.chance.clone(),
            syncs: 0,
        };
        SimulatedDisk(Arc::new(Mutex::new(copy)))
    }
}

/// Some sectors of a write arrive, others do not.
fn tear(bytes: &mut Vec<u8>, offset: u64, data: &[u8], chance: &mut Chance) {
    const SECTOR: usize = 64;
    for (number, part) in data.chunks(SECTOR).enumerate() {
        if chance.one_in(2) {
            let cut = if chance.one_in(4) { chance.below(part.len() as u64) as usize } else { part.len() };
            apply(bytes, &Change::Write(offset + (number * SECTOR) as u64, part[..cut].to_vec()));
        }
    }
}

impl Inner {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.operations_left {
            Some(0) => Err(self.no_power()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn is_last_operation(&self) -> bool {
        self.operations_left == Some(0) && !self.is_off
    }

    fn no_power(&mut self) -> io::Error {
        self.is_off = true;
        io::Error::other("no power")
    }

    fn used(&self) -> u64 {
        self.names.values().map(|at| self.taken_by(&self.contents[*at])).sum()
    }

    fn taken_by(&self, content: &Content) -> u64 {
        if self.cannot_reserve { content.written } else { content.seen.len() as u64 }
    }

    fn change(&mut self, at: usize, change: Change) -> io::Result<()> {
        if self.is_last_operation() {
            // Where only the process ends, what it had handed over is there.
            let part = match change {
                Change::Write(offset, data) if self.chance.one_in(2) => {
                    let count = self.chance.below(data.len() as u64 + 1) as usize;
                    Change::Write(offset, data[..count].to_vec())
                }
                change => change,
            };
            if self.chance.one_in(2) {
                self.take_in(at, part);
            }
            return Err(self.no_power());
        }
        self.step()?;
        let before = self.taken_by(&self.contents[at]);
        let after = match &change {
            Change::Write(offset, data) => before.max(offset + data.len() as u64),
            Change::Length(length) if self.cannot_reserve => before.min(*length),
            Change::Length(length) => *length,
        };
        let room = self.capacity.saturating_sub(self.used());
        if after > before && after - before > room {
            if let Change::Write(offset, data) = change {
                // As much as fits.
                let count = (before + room).saturating_sub(offset).min(data.len() as u64) as usize;
                self.take_in(at, Change::Write(offset, data[..count].to_vec()));
            }
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.take_in(at, change);
        Ok(())
    }

    fn take_in(&mut self, at: usize, change: Change) {
        let content = &mut self.contents[at];
        content.written = match &change {
            Change::Write(offset, data) => content.written.max(offset + data.len() as u64),
            Change::Length(length) => content.written.min(*length),
        };
        apply(&mut content.seen, &change);
        content.dirty.push(change);
    }

    fn name(&mut self, naming: Naming) -> io::Result<()> {
        if self.is_last_operation() {
            if self.chance.one_in(2) {
                apply_name(&mut self.names, &naming);
                self.dirty_names.push(naming);
            }
            return Err(self.no_power());
        }
        self.step()?;
        apply_name(&mut self.names, &naming);
        self.dirty_names.push(naming);
        Ok(())
    }
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;

    fn lock(&self) -> io::Result<bool> {
        let mut inner = self.0.lock();
        inner.step()?;
        Ok(!std::mem::replace(&mut inner.is_locked, true))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.lock().step()?;
        Ok(self.names())
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut inner = self.0.lock();
        inner.step()?;
        let at = *inner.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(SimulatedFile(self.0.clone(), at))
    }

    fn create(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut inner = self.0.lock();
        inner.contents.push(Content::default());
        let at = inner.contents.len() - 1;
        inner.name(Naming::Create(name.to_owned(), at))?;
        Ok(SimulatedFile(self.0.clone(), at))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.lock().name(Naming::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().name(Naming::Remove(name.to_owned()))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.step()?;
        if inner.fail_syncs {
            return Err(io::Error::other("input/output error"));
        }
        inner.durable_names = inner.names.clone();
        inner.dirty_names.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut inner = self.0.lock();
        inner.step()?;
        Ok(inner.capacity.saturating_sub(inner.used()))
    }
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        let mut inner = self.0.lock();
        inner.step()?;
        Ok(inner.contents[self.1].seen.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.0.lock();
        inner.step()?;
        let seen = &inner.contents[self.1].seen;
        let start = (offset as usize).min(seen.len());
        let count = buffer.len().min(seen.len() - start);
        buffer[..count].copy_from_slice(&seen[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().change(self.1, Change::Write(offset, bytes.to_vec()))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let present = self.length()?;
        if length <= present { Ok(()) } else { self.0.lock().change(self.1, Change::Length(length)) }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.lock().change(self.1, Change::Length(length))
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.step()?;
        if inner.fail_syncs {
            // Like an operating system: the pages count as clean from now on, and are not on disk.
            inner.contents[self.1].dirty.clear();
            return Err(io::Error::other("input/output error"));
        }
        inner.syncs += 1;
        let content = &mut inner.contents[self.1];
        for change in std::mem::take(&mut content.dirty) {
            apply(&mut content.durable, &change);
        }
        Ok(())
    }

    fn release(&self, range: Range<u64>) {
        // Bytes that are not dirty are read again from the disk.
        let content = &mut self.0.lock().contents[self.1];
        let mut disk = content.durable.clone();
        content.dirty.iter().for_each(|change| apply(&mut disk, change));
        for at in range.start as usize..(range.end as usize).min(content.seen.len()) {
            content.seen[at] = disk.get(at).copied().unwrap_or(0);
        }
    }
}
