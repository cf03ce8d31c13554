//! The file that holds the complete state as of some ids: written beside the old one, which it then replaces in one step.
use std::sync::Arc;

use super::identity::VERSION;
use crate::model::EventId;
use crate::store::disk::{Disk, DiskFile, is_full};
use crate::store::error::Error;
use crate::store::input::{Input, put_bytes, put_varint};
use crate::store::{AsOf, MAX_CHUNK_BYTES};

/// The name of the file.
pub const SNAPSHOT_FILE: &str = "snapshot";
/// The name of one that is not whole yet.
pub const TEMPORARY: &str = "snapshot.new";
const MAGIC: &[u8; 8] = b"corsacS\x01";

/// Pieces are `length u32, checksum u32, bytes`. Each checksum goes on from the one before, and a piece of length 0 is the end.
struct Pieces<'a, F> {
    file: &'a F,
    at: u64,
    chain: u32,
}

fn checksum(chain: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(chain, &(bytes.len() as u32).to_le_bytes()), bytes)
}

impl<F: DiskFile> Pieces<'_, F> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.chain = checksum(self.chain, bytes);
        let piece = [&(bytes.len() as u32).to_le_bytes(), &self.chain.to_le_bytes(), bytes].concat();
        self.file.write_at(self.at, &piece)?;
        self.at += piece.len() as u64;
        Ok(())
    }
}

/// Writes a snapshot as of `ids` under its temporary name, and syncs it; returns its bytes.
pub fn write<D: Disk>(
    disk: &D,
    directory: &[u8; 16],
    ids: &[(Arc<str>, EventId)],
    chunks: &mut dyn Iterator<Item = Vec<u8>>,
) -> Result<u64, Error> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&VERSION.to_le_bytes());
    put_varint(&mut head, ids.len() as u64);
    for (realm, id) in ids {
        put_bytes(&mut head, realm.as_bytes());
        put_varint(&mut head, id.value());
    }
    let mut write = || {
        let file = disk.create(TEMPORARY)?;
        let mut pieces = Pieces { file: &file, at: 0, chain: crc32c::crc32c(directory) };
        pieces.put(&head)?;
        for chunk in &mut *chunks {
            for piece in chunk.chunks(MAX_CHUNK_BYTES) {
                pieces.put(piece)?;
            }
        }
        pieces.put(&[])?;
        file.sync()?;
        Ok(pieces.at)
    };
    write().map_err(|error| if is_full(&error) { Error::NoSpace } else { Error::io(SNAPSHOT_FILE, error) })
}

/// A snapshot on its way in.
#[derive(Debug)]
pub struct SnapshotReader<F> {
    file: F,
    at: u64,
    chain: u32,
    as_of: AsOf,
    is_end: bool,
}

/// The snapshot of the directory, if it has one.
pub fn open<D: Disk>(disk: &D, directory: &[u8; 16]) -> Result<Option<SnapshotReader<D::File>>, Error> {
    let file = match disk.open(SNAPSHOT_FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(SNAPSHOT_FILE, error)),
    };
    let mut reader = SnapshotReader { file, at: 0, chain: crc32c::crc32c(directory), as_of: Vec::new(), is_end: false };
    let head = reader.next_chunk()?.unwrap_or_default();
    match decode_head(&head) {
        Some((VERSION, as_of)) => reader.as_of = as_of,
        Some((version, _)) => return Err(Error::UnknownVersion { file: SNAPSHOT_FILE.to_owned(), version }),
        None => return Err(Error::corrupt(SNAPSHOT_FILE, 0, "not a snapshot")),
    }
    Ok(Some(reader))
}

fn decode_head(head: &[u8]) -> Option<(u32, AsOf)> {
    let mut input = Input::new(head);
    (input.array::<8>()? == *MAGIC).then_some(())?;
    let version = input.u32()?;
    let mut as_of = Vec::new();
    for _ in 0..input.varint()? {
        as_of.push((input.shared_text()?, EventId::new(input.varint()?)?));
    }
    input.is_empty().then_some((version, as_of))
}

impl<F: DiskFile> SnapshotReader<F> {
    /// The last id that it includes, for each realm.
    pub fn as_of(&self) -> &[(Arc<str>, EventId)] {
        &self.as_of
    }

    /// Bytes of its file.
    pub fn bytes(&self) -> Result<u64, Error> {
        self.file.length().map_err(|error| Error::io(SNAPSHOT_FILE, error))
    }

    /// The next piece; `None` at the end. The state is complete, and sound, only once the end was reached without an error.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.is_end {
            return Ok(None);
        }
        let damaged = Error::corrupt(SNAPSHOT_FILE, self.at, "a piece is damaged or missing");
        let mut front = [0; 8];
        let count = self.file.read_at(self.at, &mut front).map_err(|error| Error::io(SNAPSHOT_FILE, error))?;
        let mut input = Input::new(front.get(..count).unwrap_or_default());
        let (Some(length), Some(crc)) = (input.u32(), input.u32()) else { return Err(damaged) };
        // A head with very many realms is longer than other pieces.
        let remaining = self.file.length().map_err(|error| Error::io(SNAPSHOT_FILE, error))?.saturating_sub(self.at + 8);
        if u64::from(length) > remaining {
            return Err(damaged);
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_at(self.at + 8, &mut bytes).map_err(|error| Error::io(SNAPSHOT_FILE, error))?;
        if crc != checksum(self.chain, &bytes) {
            return Err(damaged);
        }
        self.chain = crc;
        self.at += 8 + u64::from(length);
        self.is_end = length == 0;
        Ok((!self.is_end).then_some(bytes))
    }
}
