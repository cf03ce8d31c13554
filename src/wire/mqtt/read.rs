//! A cursor over the bytes of one packet: every read is checked, nothing is copied.

use std::num::NonZeroU16;

use super::{Characters, Error, PacketType, utf8};

/// The unread rest of a packet or of a property block.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    characters: Characters,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], characters: Characters) -> Self {
        Self { rest: bytes, characters }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// A reader over the next `length` bytes.
    fn part(&mut self, length: usize) -> Result<Self, Error> {
        Ok(Self::new(self.take(length)?, self.characters))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Error> {
        let (byte, rest) = self.rest.split_first().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// A variable byte integer: at most four bytes, and no more than needed [MQTT-1.5.5-1].
    pub(super) fn variable_byte_integer(&mut self) -> Result<u32, Error> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                let minimal = byte != 0 || shift == 0;
                return if minimal { Ok(value) } else { Err(Error::VariableByteInteger) };
            }
        }
        Err(Error::VariableByteInteger)
    }

    /// Binary data with its two-byte length (1.5.6).
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A UTF-8 string with its two-byte length (1.5.4).
    pub(super) fn string(&mut self) -> Result<&'a str, Error> {
        utf8::text(self.binary()?, self.characters)
    }

    /// A packet identifier, which is never 0 [MQTT-2.2.1-3].
    pub(super) fn packet_id(&mut self, packet: PacketType) -> Result<NonZeroU16, Error> {
        NonZeroU16::new(self.u16()?).ok_or(Error::PacketIdZero(packet))
    }

    /// The block of properties that starts here, without its length, which is there even if it is 0 [MQTT-2.2.2-1].
    pub(super) fn property_block(&mut self) -> Result<Self, Error> {
        if let Some((0, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(Self::new(&[], self.characters));
        }
        let length = self.variable_byte_integer()?;
        self.part(usize::try_from(length).map_err(|_| Error::Truncated)?)
    }

    /// Fails where bytes are left.
    pub(super) fn finish(self) -> Result<(), Error> {
        if self.is_empty() { Ok(()) } else { Err(Error::TrailingBytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(bytes: &[u8]) -> Result<u32, Error> {
        Reader::new(bytes, Characters::Any).variable_byte_integer()
    }

    #[test]
    fn variable_byte_integers_are_minimal() {
        assert_eq!(integer(&[0x00]), Ok(0));
        assert_eq!(integer(&[0x7F]), Ok(127));
        assert_eq!(integer(&[0x80, 0x01]), Ok(128));
        assert_eq!(integer(&[0xFF, 0xFF, 0xFF, 0x7F]), Ok(268_435_455));
        assert_eq!(integer(&[0x80, 0x00]), Err(Error::VariableByteInteger));
        assert_eq!(integer(&[0x81, 0x80, 0x00]), Err(Error::VariableByteInteger));
        assert_eq!(integer(&[0x80, 0x80, 0x80, 0x80, 0x01]), Err(Error::VariableByteInteger));
        assert_eq!(integer(&[0x80]), Err(Error::Truncated));
    }

    #[test]
    fn lengths_never_reach_beyond_the_bytes() {
        let mut reader = Reader::new(&[0xFF, 0xFF, b'a'], Characters::Any);
        assert_eq!(reader.binary(), Err(Error::Truncated));
        let mut reader = Reader::new(&[0xFF, 0xFF, 0xFF, 0x7F], Characters::Any);
        assert!(matches!(reader.property_block(), Err(Error::Truncated)));
    }
}
