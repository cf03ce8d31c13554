//! The small files beside the segments: whose directory it is, where the log begins, and how far it was synced.
use crate::store::disk::{Disk, DiskFile, is_full};
use crate::store::error::Error;
use crate::store::input::Input;

/// The file that says whose directory it is; a directory with it is one of ours.
pub const IDENTITY_FILE: &str = "identity";
const SYNCED_FILE: &str = "synced";
const MAGIC: &[u8; 8] = b"corsacI\x01";
/// The version of segments and snapshots: how their bytes lie.
pub const VERSION: u32 = 1;
/// The format of the directory as a whole: it goes up with whatever a program before it would misread or take for damage. A directory
/// of an older format is read, and has this one from then on.
///
/// 1: the first. 2: records may name their readers (`HAS_READERS` in `store/codec.rs`), which a program of format 1 takes for damage.
pub const FORMAT: u32 = 2;

/// The identity of a directory, and its oldest segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Random, given when the directory was made.
    pub directory: [u8; 16],
    /// Segments before this one were trimmed.
    pub first_segment: u64,
    /// The format that the directory says it has.
    pub format: u32,
}

impl Identity {
    /// The identity that the directory holds; `None` if it holds none.
    pub fn read<D: Disk>(disk: &D, names: &[String]) -> Result<Option<Identity>, Error> {
        if !names.iter().any(|name| name == IDENTITY_FILE) {
            return Ok(None);
        }
        let bytes = read_small(disk, IDENTITY_FILE)?;
        let decode = |bytes: &[u8]| {
            let (signed, crc) = bytes.split_last_chunk::<4>()?;
            let mut input = Input::new(signed);
            let is_sound = input.array::<8>()? == *MAGIC && crc32c::crc32c(signed) == u32::from_le_bytes(*crc);
            let format = input.u32()?;
            let identity = Identity { directory: input.array()?, first_segment: input.u64()?, format };
            (is_sound && input.is_empty()).then_some(identity)
        };
        match decode(&bytes) {
            Some(identity) if (1..=FORMAT).contains(&identity.format) => Ok(Some(identity)),
            Some(identity) => Err(Error::NewerFormat { found: identity.format, known: FORMAT }),
            None => Err(Error::corrupt(IDENTITY_FILE, 0, "not what was written there")),
        }
    }

    /// Replaces what the directory says, atomically.
    pub fn write<D: Disk>(&self, disk: &D) -> Result<(), Error> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.format.to_le_bytes());
        bytes.extend_from_slice(&self.directory);
        bytes.extend_from_slice(&self.first_segment.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let temporary = format!("{IDENTITY_FILE}.new");
        let write = || {
            let file = disk.create(&temporary)?;
            file.write_at(0, &bytes)?;
            file.sync()?;
            disk.rename(&temporary, IDENTITY_FILE)?;
            disk.sync_directory()
        };
        write().map_err(|error| {
            let _ = disk.remove(&temporary);
            if is_full(&error) { Error::NoSpace } else { Error::io(IDENTITY_FILE, error) }
        })
    }
}

fn read_small<D: Disk>(disk: &D, name: &str) -> Result<Vec<u8>, Error> {
    let read = || {
        let mut bytes = vec![0; 256];
        let count = disk.open(name)?.read_at(0, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    };
    read().map_err(|error| Error::io(name, error))
}

/// The end of the bytes that are known to be synced. The mark is written after each sync and not synced itself, so it may be
/// behind, never ahead. Damage below it does not come from a crash.
pub struct Mark<F> {
    file: F,
    directory: [u8; 16],
}

impl<F: DiskFile> Mark<F> {
    /// The mark of a directory, and where it stands: segment and offset.
    pub fn open<D: Disk<File = F>>(disk: &D, names: &[String], directory: [u8; 16]) -> Result<(Self, Option<(u64, u64)>), Error> {
        let is_there = names.iter().any(|name| name == SYNCED_FILE);
        let found = if is_there { decode_mark(&read_small(disk, SYNCED_FILE)?, &directory) } else { None };
        let file = if is_there { disk.open(SYNCED_FILE) } else { disk.create(SYNCED_FILE) };
        Ok((Mark { file: file.map_err(|error| Error::io(SYNCED_FILE, error))?, directory }, found))
    }

    /// Moves it.
    pub fn move_to(&self, segment: u64, offset: u64) -> Result<(), Error> {
        let mut bytes = [segment.to_le_bytes(), offset.to_le_bytes()].concat();
        bytes.extend_from_slice(&mark_crc(&self.directory, &bytes).to_le_bytes());
        self.file.write_at(0, &bytes).map_err(|error| Error::io(SYNCED_FILE, error))
    }

    /// Makes it survive a power cut.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync().map_err(|error| Error::io(SYNCED_FILE, error))
    }
}

fn mark_crc(directory: &[u8; 16], bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(directory), bytes)
}

fn decode_mark(bytes: &[u8], directory: &[u8; 16]) -> Option<(u64, u64)> {
    let (signed, crc) = bytes.split_last_chunk::<4>()?;
    let mut input = Input::new(signed);
    let found = (input.u64()?, input.u64()?);
    (input.is_empty() && u32::from_le_bytes(*crc) == mark_crc(directory, signed)).then_some(found)
}
