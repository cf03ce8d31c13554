//! The file of a segment: its name, its header, and what stands in it when it is opened again.
use std::sync::Arc;

use super::footer;
use super::frame::{ALIGNMENT, HEADER_BYTES, Header, Salt};
use super::frames::{Frames, WIDE};
use super::heads::{HEADS_TAG, Head, Heads};
use super::identity::VERSION;
use super::index::{MemoryIndex, Place};
use crate::model::Topic;
use crate::model::record::Kind;
use crate::store::codec;
use crate::store::disk::DiskFile;
use crate::store::error::Error;
use crate::store::input::Input;

/// Where the first frame begins.
pub const DATA_START: u64 = 64;
const MAGIC: &[u8; 8] = b"corsacL\x01";
/// Salts the header's checksum; frames begin behind it.
const HEADER_PLACE: u64 = 0;

/// The name of segment `number`.
pub fn file_name(number: u64) -> String {
    format!("segment-{number:012}.log")
}

/// The number in a name of [`file_name`].
pub fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("segment-")?.strip_suffix(".log")?.parse().ok().filter(|number| file_name(*number) == name)
}

/// The header of segment `number` behind a segment whose last checksum is `previous`.
pub fn encode_header(directory: &[u8; 16], number: u64, previous: u32) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(directory);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&previous.to_le_bytes());
    bytes.resize(DATA_START as usize - 4, 0);
    bytes.extend_from_slice(&Salt::new(directory, number).checksum(HEADER_PLACE, &bytes).to_le_bytes());
    bytes
}

/// Checks the header of a segment; returns the last checksum of the segment before it.
pub fn read_header<F: DiskFile>(file: &F, name: &str, directory: &[u8; 16], number: u64) -> Result<u32, Error> {
    let mut bytes = [0; DATA_START as usize];
    let count = file.read_at(0, &mut bytes).map_err(|error| Error::io(name, error))?;
    let decode = || {
        let (signed, crc) = bytes.get(..count)?.split_last_chunk::<4>()?;
        let mut input = Input::new(signed);
        let is_sound = Salt::new(directory, number).checksum(HEADER_PLACE, signed) == u32::from_le_bytes(*crc);
        (is_sound && input.array::<8>()? == *MAGIC).then_some(())?;
        let version = input.u32()?;
        input.take(24)?;
        Some((version, input.u32()?))
    };
    match decode() {
        Some((VERSION, previous)) => Ok(previous),
        Some((version, _)) => Err(Error::UnknownVersion { file: name.to_owned(), version }),
        None => Err(Error::corrupt(name, 0, "no valid header of this segment of this directory")),
    }
}

/// The heads that a segment begins with.
pub fn read_heads<F: DiskFile>(file: &F, name: &str, salt: Salt, end: u64) -> Result<Heads, Error> {
    let mut frames = Frames::new(file, name, salt, end, WIDE);
    Heads::decode(frames.must(DATA_START)?).ok_or_else(|| Error::corrupt(name, DATA_START, "a segment without heads"))
}

/// A segment as its frames say it is.
pub struct Scanned {
    /// Where the valid frames end.
    pub end: u64,
    /// The checksum of the last.
    pub chain: u32,
    /// The heads before the first record.
    pub start: Heads,
    /// The heads behind the last.
    pub heads: Heads,
    /// Where everything is.
    pub index: MemoryIndex,
}

/// Reads the frames of a segment, as far as they are valid, up to `limit`.
pub fn scan<F: DiskFile>(file: &F, name: &str, salt: Salt, previous: u32, limit: u64) -> Result<Scanned, Error> {
    let mut frames = Frames::new(file, name, salt, limit, WIDE);
    let mut scanned = Scanned {
        end: DATA_START,
        chain: previous,
        start: Heads::default(),
        heads: Heads::default(),
        index: MemoryIndex::default(),
    };
    while let Some(header) = frames.header(scanned.end)? {
        let offset = scanned.end;
        let Some(body) = frames.body(offset, &header)? else { break };
        if header.previous != scanned.chain {
            // Valid in itself, but behind something else: left over from a write that was given up.
            break;
        }
        if !take_in(&mut scanned, body, offset, &header) {
            return Err(Error::corrupt(name, offset, "a record that does not follow from the one before it"));
        }
        scanned.chain = header.crc;
        scanned.end = offset + header.frame_bytes();
    }
    if scanned.end == DATA_START {
        return Err(Error::corrupt(name, DATA_START, "a segment without heads"));
    }
    Ok(scanned)
}

fn take_in(scanned: &mut Scanned, body: &[u8], offset: u64, header: &Header) -> bool {
    if offset == DATA_START {
        let Some(heads) = Heads::decode(body) else { return false };
        scanned.start = heads.clone();
        scanned.heads = heads;
        return true;
    }
    if body.first() == Some(&HEADS_TAG) {
        return false;
    }
    let Some(summary) = codec::summary(body) else { return false };
    let head = scanned.heads.head(summary.realm);
    if summary.id.value() != head.next || summary.time_ms < head.last_time_ms {
        return false;
    }
    let topic = match summary.topic.filter(|_| summary.kind == Kind::PUBLICATION).map(Topic::from_mqtt) {
        Some(Ok(topic)) => Some(topic),
        Some(Err(_)) => return false,
        None => None,
    };
    let realm = scanned.heads.name(summary.realm).cloned().unwrap_or_else(|| Arc::from(summary.realm));
    scanned.heads.set(&realm, Head { next: head.next + 1, last_time_ms: summary.time_ms });
    let (id, time_ms) = (summary.id.value(), summary.time_ms);
    let bytes = header.frame_bytes() as u32;
    scanned.index.push(Place { realm, id, time_ms, offset: offset as u32, bytes, topic });
    true
}

/// The first valid frame behind `from` that was written when everything up to behind `from` was synced. Such a frame proves that
/// the damage at `from` does not come from a crash. Frames without that were written together with the bytes at `from`.
pub fn later_proof<F: DiskFile>(file: &F, name: &str, salt: Salt, from: u64, limit: u64) -> Result<Option<u64>, Error> {
    let mut frames = Frames::new(file, name, salt, limit, WIDE);
    let mut offset = from + ALIGNMENT as u64;
    while offset + HEADER_BYTES as u64 <= limit {
        if let Some(header) = frames.header(offset)?
            && u64::from(header.durable) > from
            && frames.body(offset, &header)?.is_some()
        {
            return Ok(Some(offset));
        }
        offset += ALIGNMENT as u64;
    }
    Ok(None)
}

/// Where the bytes that are not zero end, at or behind `from`.
pub fn end_of_bytes<F: DiskFile>(file: &F, name: &str, from: u64, length: u64) -> Result<u64, Error> {
    let mut buffer = vec![0; WIDE.min(length.saturating_sub(from) as usize)];
    let (mut at, mut end) = (from, from);
    while at < length {
        let count = file.read_at(at, &mut buffer).map_err(|error| Error::io(name, error))?;
        if count == 0 {
            break;
        }
        let read = buffer.get(..count).unwrap_or_default();
        if let Some(last) = read.iter().rposition(|byte| *byte != 0) {
            end = at + last as u64 + 1;
        }
        at += count as u64;
    }
    Ok(end)
}

/// The index of a sealed segment whose footer is damaged, made anew from its records, if they are whole: the next segment says what
/// the last checksum must be.
pub fn rebuild<F: DiskFile>(file: &F, name: &str, salt: Salt, previous: u32, last: u32) -> Result<Vec<u8>, Error> {
    let length = file.length().map_err(|error| Error::io(name, error))?;
    let scanned = scan(file, name, salt, previous, length)?;
    if scanned.chain != last {
        return Err(Error::corrupt(name, scanned.end, "a record is damaged or missing"));
    }
    let sealing = footer::encode(&scanned.index, salt, scanned.end, scanned.chain);
    let write = || {
        file.truncate(scanned.end)?;
        file.write_at(scanned.end, &sealing)?;
        file.sync()
    };
    write().map_err(|error| Error::io(name, error))?;
    Ok(sealing)
}
