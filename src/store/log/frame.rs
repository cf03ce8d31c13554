//! The frame around each record in a segment: its length and checksums, chained to the record before it.
//!
//! 20 bytes, little-endian: `check u32` over the other 16, `length u32` of the body, `previous u32` checksum of the frame before,
//! `durable u32` offset below which the segment was synced when this was written, `crc u32` over everything but `check`. All are
//! CRC-32C that begin with a salt of the directory, the segment and the offset. So neither a frame in a wrong place nor bytes
//! inside a payload pass for one.

/// Bytes before the body.
pub const HEADER_BYTES: usize = 20;

/// Where frames begin: multiples of this.
pub const ALIGNMENT: usize = 4;

/// The start of every checksum of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Salt(u32);

impl Salt {
    /// The salt of a segment.
    pub fn new(directory: &[u8; 16], segment: u64) -> Self {
        Salt(crc32c::crc32c_append(crc32c::crc32c(directory), &segment.to_le_bytes()))
    }

    /// The checksum of `bytes` that belong at `place`.
    pub fn checksum(self, place: u64, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &place.to_le_bytes()), bytes)
    }
}

/// A header whose own checksum is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bytes of the body, at least 1.
    pub length: u32,
    /// Checksum of the frame before.
    pub previous: u32,
    /// The end of the synced bytes when it was written.
    pub durable: u32,
    /// Checksum of this frame.
    pub crc: u32,
}

impl Header {
    /// The header at `offset`, if `bytes` begin with one that belongs there.
    pub fn decode(bytes: &[u8], salt: Salt, offset: u64) -> Option<Header> {
        let (check, rest) = bytes.get(..HEADER_BYTES)?.split_first_chunk::<4>()?;
        if rest.starts_with(&[0; 4]) || u32::from_le_bytes(*check) != !salt.checksum(offset, rest) {
            return None;
        }
        let mut numbers = rest.chunks_exact(4).filter_map(|chunk| chunk.try_into().ok().map(u32::from_le_bytes));
        Some(Header { length: numbers.next()?, previous: numbers.next()?, durable: numbers.next()?, crc: numbers.next()? })
    }

    /// Whether `body` is what was written behind this header.
    pub fn fits(&self, body: &[u8], salt: Salt, offset: u64) -> bool {
        body.len() == self.length as usize && self.crc == crc32c::crc32c_append(salt.checksum(offset, &self.front()), body)
    }

    fn front(&self) -> [u8; 12] {
        let mut front = [0; 12];
        for (part, number) in front.chunks_exact_mut(4).zip([self.length, self.previous, self.durable]) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        front
    }

    /// Bytes that the whole frame takes, the gap behind it included.
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.length as usize) as u64
    }
}

/// Bytes of a frame with a body of `length` bytes, the gap behind it included.
pub fn frame_bytes(length: usize) -> usize {
    (HEADER_BYTES + length).next_multiple_of(ALIGNMENT)
}

/// Fills in the header of `frame`, which has room for it in front and whose body takes `length` bytes; returns the checksum.
pub fn seal(frame: &mut [u8], length: u32, salt: Salt, offset: u64, previous: u32, durable: u32) -> u32 {
    let mut header = Header { length, previous, durable, crc: 0 };
    let Some((front, rest)) = frame.split_first_chunk_mut::<HEADER_BYTES>() else { return previous };
    let body = rest.get(..length as usize).unwrap_or_default();
    header.crc = crc32c::crc32c_append(salt.checksum(offset, &header.front()), body);
    let mut sealed = [0; 16];
    for (part, number) in sealed.chunks_exact_mut(4).zip([length, previous, durable, header.crc]) {
        part.copy_from_slice(&number.to_le_bytes());
    }
    let (check, numbers) = front.split_at_mut(4);
    check.copy_from_slice(&(!salt.checksum(offset, &sealed)).to_le_bytes());
    numbers.copy_from_slice(&sealed);
    header.crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_only_valid_as_it_was_written_and_where() {
        let salt = Salt::new(&[7; 16], 3);
        let mut frame = vec![0; frame_bytes(5)];
        frame[HEADER_BYTES..HEADER_BYTES + 5].copy_from_slice(b"hello");
        let crc = seal(&mut frame, 5, salt, 64, 0xABCD, 64);
        let valid = |frame: &[u8], salt, offset| {
            Header::decode(frame, salt, offset).is_some_and(|header| header.fits(&frame[20..25], salt, offset))
        };
        assert!(valid(&frame, salt, 64));
        assert_eq!(Header::decode(&frame, salt, 64).map(|header| (header.crc, header.previous)), Some((crc, 0xABCD)));
        assert!(!valid(&frame, salt, 68));
        assert!(!valid(&frame, Salt::new(&[7; 16], 4), 64));
        assert!(!valid(&frame, Salt::new(&[8; 16], 3), 64));
        for bit in 0..25 * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!valid(&flipped, salt, 64), "bit {bit}");
        }
        for end in 0..HEADER_BYTES {
            assert_eq!(Header::decode(&frame[..end], salt, 64), None);
        }
        assert_eq!(Header::decode(&[0; 20], salt, 64), None);
    }
}
