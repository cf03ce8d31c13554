//! The segment that is written: how one begins, where it stands, and what opening found behind its end.
use std::sync::Arc;

use super::frame::{self, HEADER_BYTES, Salt};
use super::heads::Heads;
use super::segment::{DATA_START, encode_header, file_name};
use crate::store::disk::{Disk, DiskFile, is_full};
use crate::store::error::Error;

/// The damage that opening found and repaired.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Bytes behind the last valid record that were never synced, cut off.
    pub torn: Option<Torn>,
    /// Segments whose index was damaged and has been made anew from their records.
    pub rebuilt: Vec<String>,
    /// True if the directory was new.
    pub is_new: bool,
    /// The format that the directory had, where that was an older one.
    pub older_format: Option<u32>,
}

/// A torn tail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Torn {
    /// The segment's file.
    pub file: String,
    /// Where the valid records end.
    pub offset: u64,
    /// Bytes that stood behind it.
    pub bytes: u64,
    /// The file in which they are kept.
    pub kept_as: String,
}

/// The segment being written.
pub(super) struct Tail<F> {
    pub number: u64,
    pub name: String,
    pub file: Arc<F>,
    pub salt: Salt,
    /// Where the next frame goes.
    pub end: u64,
    /// The end of the synced bytes.
    pub synced: u64,
    /// The end of the preallocated space.
    pub allocated: u64,
    /// The bytes before this are left to the disk alone.
    pub released: u64,
    /// The checksum of the last frame.
    pub chain: u32,
    /// When its first record was made, if it has one.
    pub first_time_ms: Option<u64>,
}

/// A new file with its space reserved; nothing stays behind where there is none.
pub(super) fn allocate<D: Disk>(disk: &D, name: &str, bytes: u64) -> Result<D::File, Error> {
    let made = disk.create(name).and_then(|file| file.allocate(bytes).map(|()| file));
    made.map_err(|error| {
        let _ = disk.remove(name);
        if is_full(&error) { Error::NoSpace } else { Error::io(name, error) }
    })
}

/// Makes of `file`, which has its temporary name, segment `number`.
pub(super) fn begin<D: Disk>(
    disk: &D,
    file: D::File,
    directory: &[u8; 16],
    number: u64,
    previous: u32,
    heads: &Heads,
) -> Result<Tail<D::File>, Error> {
    let (name, salt) = (file_name(number), Salt::new(directory, number));
    let body = heads.encode();
    let mut first = vec![0; HEADER_BYTES];
    first.extend_from_slice(&body);
    first.resize(frame::frame_bytes(body.len()), 0);
    let chain = frame::seal(&mut first, body.len() as u32, salt, DATA_START, previous, DATA_START as u32);
    let bytes = [encode_header(directory, number, previous), first].concat();
    let write = || {
        file.write_at(0, &bytes)?;
        file.sync()?;
        disk.rename(&format!("{name}.new"), &name)?;
        disk.sync_directory()
    };
    write().map_err(|error| Error::io(&name, error))?;
    let end = bytes.len() as u64;
    Ok(Tail {
        number,
        name,
        file: Arc::new(file),
        salt,
        end,
        synced: end,
        allocated: end,
        released: 0,
        chain,
        first_time_ms: None,
    })
}
