//! The fields of a packet on their way into a buffer.

use bytes::{BufMut, BytesMut};

use super::Error;

/// The largest remaining length that four bytes can express (2.1.4).
pub const MAX_REMAINING_LENGTH: usize = 268_435_455;
/// The largest packet: that and the fixed header before it.
pub const MAX_PACKET_BYTES: usize = MAX_REMAINING_LENGTH + 5;

/// The bytes that a variable byte integer takes (1.5.5).
pub(super) const fn variable_byte_integer_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer (1.5.5).
pub(super) fn variable_byte_integer(value: usize, out: &mut BytesMut) -> Result<(), Error> {
    if value > MAX_REMAINING_LENGTH {
        return Err(Error::TooLarge);
    }
    let mut rest = value;
    loop {
        let low = (rest & 0x7F) as u8;
        rest >>= 7;
        if rest == 0 {
            out.put_u8(low);
            return Ok(());
        }
        out.put_u8(low | 0x80);
    }
}

/// Appends binary data with its two-byte length (1.5.6).
pub(super) fn binary(bytes: &[u8], out: &mut BytesMut) -> Result<(), Error> {
    let length = u16::try_from(bytes.len()).map_err(|_| Error::FieldTooLong)?;
    out.put_u16(length);
    out.put_slice(bytes);
    Ok(())
}

/// Appends a UTF-8 string with its two-byte length (1.5.4).
pub(super) fn string(text: &str, out: &mut BytesMut) -> Result<(), Error> {
    binary(text.as_bytes(), out)
}
