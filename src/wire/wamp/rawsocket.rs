//! WAMP over RawSocket: the handshake and the frames (WAMP: Advanced, RawSocket Transport).
use std::fmt;

use crate::model::Encoding;

/// The first byte of both handshakes.
pub const MAGIC: u8 = 0x7F;
/// Bytes of a handshake and of the head of a frame.
pub const HEAD_BYTES: usize = 4;
/// The longest message that can be agreed on, 2^24 bytes.
pub const MAX_MESSAGE_BYTES: usize = 1 << 24;

/// Why there will be no connection: the handshake's error reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Refusal {
    /// Serializer unsupported.
    SerializerUnsupported = 1,
    /// Maximum message length unacceptable.
    LengthUnacceptable = 2,
    /// Use of reserved bits.
    ReservedBits = 3,
    /// Maximum connection count reached.
    TooManyConnections = 4,
}

impl Refusal {
    /// The four bytes to send before closing.
    pub fn encode(self) -> [u8; 4] {
        [MAGIC, (self as u8) << 4, 0, 0]
    }
}

/// The reasons why a handshake fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeError {
    /// The first byte is not 0x7F, so this is some other protocol.
    NotRawSocket,
    /// The request has to be refused; to be answered with `Refusal::encode`. From a router: it has refused.
    Refused(Refusal),
    /// A router's reply that says nothing that was asked: another serializer, reserved bits, an unknown error.
    BadReply,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HandshakeError::NotRawSocket => "not a RawSocket handshake",
            HandshakeError::Refused(Refusal::SerializerUnsupported) => "serializer unsupported",
            HandshakeError::Refused(Refusal::LengthUnacceptable) => "maximum message length unacceptable",
            HandshakeError::Refused(Refusal::ReservedBits) => "use of reserved bits",
            HandshakeError::Refused(Refusal::TooManyConnections) => "maximum connection count reached",
            HandshakeError::BadReply => "reply that was not asked for",
        })
    }
}

impl std::error::Error for HandshakeError {}

/// Either side's half of a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    /// The encoding of the messages.
    pub encoding: Encoding,
    /// The longest message that the sender of this is willing to receive: 2^9..=2^24 bytes.
    pub max_message_bytes: usize,
}

impl Handshake {
    /// The half that promises to take messages of at least 512 and at most `max_bytes` bytes, rounded down to a power of two.
    pub fn new(encoding: Encoding, max_bytes: usize) -> Self {
        let power = max_bytes.clamp(1 << 9, MAX_MESSAGE_BYTES).ilog2();
        Handshake { encoding, max_message_bytes: 1 << power }
    }

    /// The four bytes on the wire.
    pub fn encode(self) -> [u8; 4] {
        let length = self.max_message_bytes.clamp(1 << 9, MAX_MESSAGE_BYTES).ilog2().saturating_sub(9);
        let length = u8::try_from(length).unwrap_or(15);
        [MAGIC, length << 4 | serializer(self.encoding), 0, 0]
    }

    /// A client's request: `Ok(None)` until all four bytes are there. The first byte alone tells another protocol.
    pub fn decode_request(input: &[u8]) -> Result<Option<Self>, HandshakeError> {
        let Some([second, reserved @ ..]) = head(input)? else { return Ok(None) };
        if reserved != [0, 0] {
            return Err(HandshakeError::Refused(Refusal::ReservedBits));
        }
        match encoding(second & 0x0F) {
            Some(encoding) => Ok(Some(Handshake { encoding, max_message_bytes: length(second) })),
            None => Err(HandshakeError::Refused(Refusal::SerializerUnsupported)),
        }
    }

    /// A router's reply to `request`: `Ok(None)` until all four bytes are there.
    pub fn decode_reply(input: &[u8], request: Handshake) -> Result<Option<Self>, HandshakeError> {
        let Some([second, reserved @ ..]) = head(input)? else { return Ok(None) };
        if reserved != [0, 0] {
            return Err(HandshakeError::BadReply);
        }
        match (second & 0x0F, second >> 4) {
            (0, 1) => Err(HandshakeError::Refused(Refusal::SerializerUnsupported)),
            (0, 2) => Err(HandshakeError::Refused(Refusal::LengthUnacceptable)),
            (0, 3) => Err(HandshakeError::Refused(Refusal::ReservedBits)),
            (0, 4) => Err(HandshakeError::Refused(Refusal::TooManyConnections)),
            (number, _) if number == serializer(request.encoding) => {
                Ok(Some(Handshake { encoding: request.encoding, max_message_bytes: length(second) }))
            }
            _ => Err(HandshakeError::BadReply),
        }
    }
}

/// The three bytes behind the magic one.
fn head(input: &[u8]) -> Result<Option<[u8; 3]>, HandshakeError> {
    match input {
        [first, ..] if *first != MAGIC => Err(HandshakeError::NotRawSocket),
        [_, a, b, c, ..] => Ok(Some([*a, *b, *c])),
        _ => Ok(None),
    }
}

fn length(second: u8) -> usize {
    1 << (usize::from(second >> 4) + 9)
}

fn serializer(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Json => 1,
        Encoding::MsgPack => 2,
        Encoding::Cbor => 3,
    }
}

fn encoding(serializer: u8) -> Option<Encoding> {
    match serializer {
        1 => Some(Encoding::Json),
        2 => Some(Encoding::MsgPack),
        3 => Some(Encoding::Cbor),
        _ => None,
    }
}

/// The content of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// A WAMP message.
    Message = 0,
    /// To be answered by a PONG with the same payload.
    Ping = 1,
    /// The answer to a PING.
    Pong = 2,
}

/// The head of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHead {
    /// The kind of content that follows.
    pub kind: FrameKind,
    /// Its length in bytes, 0..=2^24.
    pub length: usize,
}

/// The faults in the head of a frame; after one the connection has to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// A reserved bit, a reserved type, or the 25th bit of the length together with others.
    Reserved,
    /// Longer than was agreed on.
    TooLong {
        /// The length that the head declares, in bytes.
        length: usize,
        /// The maximum of the handshake, in bytes.
        max: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Reserved => f.write_str("reserved bits in the head of a frame"),
            FrameError::TooLong { length, max } => write!(f, "frame of {length} bytes, {max} are allowed"),
        }
    }
}

impl std::error::Error for FrameError {}

impl FrameHead {
    /// The head at the start of `input`, for frames of at most `max_bytes`. `Ok(None)` until all four bytes are there;
    /// the first byte alone shows reserved bits. The payload follows at `HEAD_BYTES`; nothing is allocated for it.
    pub fn decode(input: &[u8], max_bytes: usize) -> Result<Option<Self>, FrameError> {
        let Some((first, rest)) = input.split_first() else { return Ok(None) };
        let kind = match first & 0xF7 {
            0 => FrameKind::Message,
            1 => FrameKind::Ping,
            2 => FrameKind::Pong,
            _ => return Err(FrameError::Reserved),
        };
        let [a, b, c, ..] = rest else { return Ok(None) };
        let low = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let length = match (first & 0x08 != 0, low) {
            (false, low) => low,
            (true, 0) => MAX_MESSAGE_BYTES,
            (true, _) => return Err(FrameError::Reserved),
        };
        if length > max_bytes {
            return Err(FrameError::TooLong { length, max: max_bytes });
        }
        Ok(Some(FrameHead { kind, length }))
    }

    /// The four bytes on the wire; `None` for a length above 2^24.
    pub fn encode(self) -> Option<[u8; 4]> {
        let [a, b, c, d] = u32::try_from(self.length).ok().filter(|length| *length <= 1 << 24)?.to_be_bytes();
        Some([self.kind as u8 | a << 3, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_every_second_byte() {
        for second in 0..=u8::MAX {
            let decoded = Handshake::decode_request(&[MAGIC, second, 0, 0]);
            match second & 0x0F {
                1..=3 => {
                    let handshake = decoded.unwrap().unwrap();
                    assert_eq!(handshake.max_message_bytes, 2_usize.pow(u32::from(second >> 4) + 9));
                    assert_eq!(handshake.encode(), [MAGIC, second, 0, 0]);
                    assert_eq!(Handshake::new(handshake.encoding, handshake.max_message_bytes), handshake);
                    assert_eq!(Handshake::decode_reply(&[MAGIC, second, 0, 0], handshake), Ok(Some(handshake)));
                }
                _ => assert_eq!(decoded, Err(HandshakeError::Refused(Refusal::SerializerUnsupported))),
            }
        }
    }

    #[test]
    fn requests_that_are_none() {
        let refused = |refusal| Err(HandshakeError::Refused(refusal));
        assert_eq!(Handshake::decode_request(&[]), Ok(None));
        assert_eq!(Handshake::decode_request(&[0x7F, 0xF1, 0]), Ok(None));
        assert_eq!(Handshake::decode_request(b"G"), Err(HandshakeError::NotRawSocket));
        assert_eq!(Handshake::decode_request(&[0x7F, 0xF1, 0, 1]), refused(Refusal::ReservedBits));
        assert_eq!(Handshake::decode_request(&[0x7F, 0xF1, 1, 0]), refused(Refusal::ReservedBits));
        assert_eq!(Handshake::decode_request(&[0x7F, 0xF4, 0, 0]), refused(Refusal::SerializerUnsupported));
        // The bytes behind the handshake are not looked at.
        assert!(Handshake::decode_request(&[0x7F, 0xF2, 0, 0, 0xFF]).unwrap().is_some());
    }

    #[test]
    fn replies_refuse_by_number() {
        let request = Handshake::new(Encoding::MsgPack, 1 << 24);
        assert_eq!(request.encode(), [0x7F, 0xF2, 0, 0]);
        for (number, refusal) in [
            (0x10, Refusal::SerializerUnsupported),
            (0x20, Refusal::LengthUnacceptable),
            (0x30, Refusal::ReservedBits),
            (0x40, Refusal::TooManyConnections),
        ] {
            assert_eq!(refusal.encode(), [0x7F, number, 0, 0]);
            assert_eq!(Handshake::decode_reply(&refusal.encode(), request), Err(HandshakeError::Refused(refusal)));
        }
        for reply in [[0x7F, 0, 0, 0], [0x7F, 0x50, 0, 0], [0x7F, 0xF1, 0, 0], [0x7F, 0xF2, 0, 1]] {
            assert_eq!(Handshake::decode_reply(&reply, request), Err(HandshakeError::BadReply));
        }
        assert_eq!(Handshake::decode_reply(&[0x7F], request), Ok(None));
        assert_eq!(Handshake::decode_reply(&[0x10], request), Err(HandshakeError::NotRawSocket));
    }

    #[test]
    fn lengths_are_rounded_down() {
        for (asked, granted) in [(0, 512), (512, 512), (1023, 512), (65_536, 65_536), (usize::MAX, 1 << 24)] {
            assert_eq!(Handshake::new(Encoding::Json, asked).max_message_bytes, granted);
        }
    }

    #[test]
    fn heads_of_frames() {
        let max = MAX_MESSAGE_BYTES;
        for (kind, first) in [(FrameKind::Message, 0), (FrameKind::Ping, 1), (FrameKind::Pong, 2)] {
            for (length, rest) in [(0, [0, 0, 0]), (258, [0, 1, 2]), (max - 1, [0xFF; 3])] {
                let [a, b, c] = rest;
                assert_eq!(FrameHead { kind, length }.encode(), Some([first, a, b, c]));
                assert_eq!(FrameHead::decode(&[first, a, b, c], max), Ok(Some(FrameHead { kind, length })));
            }
            assert_eq!(FrameHead { kind, length: max }.encode(), Some([first | 8, 0, 0, 0]));
            assert_eq!(FrameHead::decode(&[first | 8, 0, 0, 0], max), Ok(Some(FrameHead { kind, length: max })));
        }
        assert_eq!(FrameHead { kind: FrameKind::Message, length: max + 1 }.encode(), None);
    }

    #[test]
    fn heads_that_are_none() {
        let max = 512;
        for first in (0..=u8::MAX).filter(|first| !matches!(first & 0xF7, 0..=2)) {
            assert_eq!(FrameHead::decode(&[first], max), Err(FrameError::Reserved));
        }
        assert_eq!(FrameHead::decode(&[], max), Ok(None));
        assert_eq!(FrameHead::decode(&[0, 0, 2], max), Ok(None));
        assert_eq!(FrameHead::decode(&[8, 0, 0, 1], MAX_MESSAGE_BYTES), Err(FrameError::Reserved));
        assert_eq!(FrameHead::decode(&[0, 0, 2, 1], max), Err(FrameError::TooLong { length: 513, max }));
        assert!(FrameHead::decode(&[8, 0, 0, 0], max).is_err());
        assert!(FrameHead::decode(&[0, 0, 2, 0], max).unwrap().is_some());
    }
}
