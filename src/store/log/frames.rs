//! Reads the frames of a segment through a window, so that neighbours cost one read.
use super::frame::{HEADER_BYTES, Header, Salt};
use crate::store::disk::DiskFile;
use crate::store::error::Error;

/// Bytes read at once where neighbours are wanted.
pub const WIDE: usize = 256 * 1024;
/// Bytes read at once where single records are wanted.
pub const NARROW: usize = 4 * 1024;

/// The frames of one segment.
pub struct Frames<'a, F> {
    file: &'a F,
    name: &'a str,
    salt: Salt,
    /// Where frames end at the latest.
    end: u64,
    reach: usize,
    is_reverse: bool,
    start: u64,
    window: Vec<u8>,
}

impl<'a, F: DiskFile> Frames<'a, F> {
    /// The frames of `file` below `end`, read `reach` bytes at a time.
    pub fn new(file: &'a F, name: &'a str, salt: Salt, end: u64, reach: usize) -> Self {
        Frames { file, name, salt, end, reach, is_reverse: false, start: 0, window: Vec::new() }
    }

    /// As it is, for a reader that goes backwards.
    pub fn reversed(mut self, is_reverse: bool) -> Self {
        self.is_reverse = is_reverse;
        self
    }

    /// `length` bytes at `offset`; `None` if the frames end before.
    pub fn bytes(&mut self, offset: u64, length: usize) -> Result<Option<&[u8]>, Error> {
        let behind = offset.saturating_add(length as u64);
        if behind > self.end {
            return Ok(None);
        }
        if offset < self.start || behind > self.start + self.window.len() as u64 {
            self.load(offset, behind)?;
        }
        let at = (offset - self.start) as usize;
        Ok(self.window.get(at..at + length))
    }

    fn load(&mut self, offset: u64, behind: u64) -> Result<(), Error> {
        let reach = self.reach as u64;
        let start = if self.is_reverse { behind.saturating_sub(reach).min(offset) } else { offset };
        let end = behind.max(start + reach).min(self.end);
        self.start = start;
        self.window.resize((end - start) as usize, 0);
        let count = self.file.read_at(start, &mut self.window).map_err(|error| Error::io(self.name, error))?;
        self.window.truncate(count);
        Ok(())
    }

    /// The header at `offset`, if there is a valid one.
    pub fn header(&mut self, offset: u64) -> Result<Option<Header>, Error> {
        let salt = self.salt;
        Ok(self.bytes(offset, HEADER_BYTES)?.and_then(|bytes| Header::decode(bytes, salt, offset)))
    }

    /// The body behind `header` at `offset`, if it is what was written.
    pub fn body(&mut self, offset: u64, header: &Header) -> Result<Option<&[u8]>, Error> {
        let salt = self.salt;
        let body = self.bytes(offset + HEADER_BYTES as u64, header.length as usize)?;
        Ok(body.filter(|body| header.fits(body, salt, offset)))
    }

    /// The body of the frame that must be at `offset`.
    pub fn must(&mut self, offset: u64) -> Result<&[u8], Error> {
        let name = self.name;
        let Some(header) = self.header(offset)? else { return Err(Error::corrupt(name, offset, "no record where one was")) };
        self.body(offset, &header)?.ok_or_else(|| Error::corrupt(name, offset, "a record with a wrong checksum"))
    }
}
