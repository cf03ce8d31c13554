//! A message that is sent many times: encoded once by the codecs, then copied with another id and stamp each time.
use super::stamp::{self, LETTERS, Stamp};

/// An id that is found again in any encoded message: below 2^53, and eight different bytes.
pub(super) const SENTINEL: u64 = 0x000F_A5C3_96E1_B2D4;

/// The spelling of the id of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Id {
    /// There is none.
    None,
    /// Two bytes: an MQTT packet id.
    Short,
    /// Eight bytes: MsgPack, CBOR, correlation data.
    Wide,
    /// Decimal digits: JSON.
    Digits,
}

/// The bytes before each message on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// Nothing: MQTT packets frame themselves.
    None,
    /// The four bytes of WAMP's RawSocket.
    RawSocket,
    /// A frame of a WebSocket client with this first byte. The masking key is zero, which masks nothing; the router unmasks
    /// as it would with any other.
    WebSocket(u8),
}

impl Framing {
    /// Appends the head of a message of `length` bytes.
    #[inline]
    pub(super) fn begin(self, length: usize, out: &mut Vec<u8>) {
        match self {
            Framing::None => {}
            Framing::RawSocket => {
                let [_, head @ ..] = (length as u32).to_be_bytes();
                out.push(if length == 1 << 24 { 8 } else { 0 });
                out.extend_from_slice(&head);
            }
            Framing::WebSocket(first) => websocket_head(first, length, out),
        }
    }

    /// Appends a whole message.
    pub(super) fn append(self, message: &[u8], out: &mut Vec<u8>) {
        self.begin(message.len(), out);
        out.extend_from_slice(message);
    }

    /// Appends the answer to a ping of this layer.
    pub(super) fn append_pong(self, ping: &[u8], out: &mut Vec<u8>) {
        match self {
            Framing::None => {}
            Framing::RawSocket => {
                let at = out.len();
                self.append(ping, out);
                if let Some(first) = out.get_mut(at) {
                    *first |= 2;
                }
            }
            Framing::WebSocket(_) => Framing::WebSocket(0x8A).append(ping, out),
        }
    }
}

/// RFC 6455, 5.2: the length in 7, 16 or 64 bits, and the masking key.
fn websocket_head(first: u8, length: usize, out: &mut Vec<u8>) {
    const MASKED: u8 = 0x80;
    match length {
        0..=125 => out.extend_from_slice(&[first, MASKED | length as u8]),
        126..=0xFFFF => {
            out.extend_from_slice(&[first, MASKED | 126]);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[first, MASKED | 127]);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
}

/// One message in two parts, with the id between them.
#[derive(Clone, Debug)]
pub(super) struct Template {
    framing: Framing,
    head: Vec<u8>,
    id: Id,
    tail: Vec<u8>,
    /// Where the letters of the stamp are in `tail`.
    stamp_at: Option<usize>,
}

impl Template {
    /// The template of a message that was encoded with the id [`SENTINEL`], or without any.
    pub(super) fn new(framing: Framing, encoded: &[u8]) -> Self {
        let (head, id, tail) = split(encoded, &SENTINEL.to_be_bytes())
            .map(|(head, tail)| (head, Id::Wide, tail))
            .or_else(|| split(encoded, SENTINEL.to_string().as_bytes()).map(|(head, tail)| (head, Id::Digits, tail)))
            .unwrap_or((&[], Id::None, encoded));
        Self::of_parts(framing, head, id, tail)
    }

    /// The template of an MQTT packet whose packet id stands at `packet_id_at`.
    pub(super) fn with_packet_id(encoded: &[u8], packet_id_at: usize) -> Self {
        let (head, rest) = encoded.split_at_checked(packet_id_at).unwrap_or((encoded, &[]));
        Self::of_parts(Framing::None, head, Id::Short, rest.get(2..).unwrap_or_default())
    }

    fn of_parts(framing: Framing, head: &[u8], id: Id, tail: &[u8]) -> Self {
        let stamp_at = stamp::position(tail).map(|mark| mark + 1);
        Template { framing, head: head.to_vec(), id, tail: tail.to_vec(), stamp_at }
    }

    /// Bytes of one message on the wire, within a few.
    pub(super) fn len(&self) -> usize {
        let frame = match self.framing {
            Framing::None => 0,
            Framing::RawSocket => 4,
            Framing::WebSocket(_) => 8,
        };
        frame + self.head.len() + 8 + self.tail.len()
    }

    /// Appends the message with this id and stamp.
    #[inline]
    pub(super) fn append(&self, id: u64, stamp: Stamp, out: &mut Vec<u8>) {
        let mut digits = [0; 20];
        let wide = id.to_be_bytes();
        let id: &[u8] = match self.id {
            Id::None => &[],
            Id::Short => wide.last_chunk::<2>().map_or(&[], |short| short),
            Id::Wide => &wide,
            Id::Digits => decimal(id, &mut digits),
        };
        self.framing.begin(self.head.len() + id.len() + self.tail.len(), out);
        out.extend_from_slice(&self.head);
        out.extend_from_slice(id);
        let tail_at = out.len();
        out.extend_from_slice(&self.tail);
        if let Some(at) = self.stamp_at
            && let Some(letters) = out.get_mut(tail_at + at..tail_at + at + LETTERS)
        {
            letters.copy_from_slice(&stamp.encode());
        }
    }
}

/// The bytes before and behind the first `needle`.
fn split<'a>(bytes: &'a [u8], needle: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(needle.len()).position(|window| window == needle)?;
    Some((bytes.get(..at)?, bytes.get(at + needle.len()..)?))
}

/// The digits of a number.
#[inline]
fn decimal(number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut rest = number;
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        start -= 1;
        if rest == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { publisher: 1, sequence: 0x23 };

    fn appended(template: &Template, id: u64) -> Vec<u8> {
        let mut out = Vec::new();
        template.append(id, STAMP, &mut out);
        out
    }

    #[test]
    fn ids_are_replaced_in_every_spelling() {
        let json = Template::new(Framing::None, format!("[16,{SENTINEL},{{}},\"t\",[\"@aaaaaaaaaaaaaaaaxx\"]]").as_bytes());
        assert_eq!(appended(&json, 7), b"[16,7,{},\"t\",[\"@aaabaaaaaaaaaacdxx\"]]");
        assert_eq!(appended(&json, 1_000), b"[16,1000,{},\"t\",[\"@aaabaaaaaaaaaacdxx\"]]");
        let wide = [&b"\x93\x10\xCF"[..], &SENTINEL.to_be_bytes(), b"rest"].concat();
        assert_eq!(appended(&Template::new(Framing::None, &wide), 258), b"\x93\x10\xCF\0\0\0\0\0\0\x01\x02rest");
        let packet = Template::with_packet_id(b"\x32\x06\0\x01t\xFF\xFF\0", 5);
        assert_eq!(appended(&packet, 0x0102), b"\x32\x06\0\x01t\x01\x02\0");
        assert_eq!(appended(&Template::new(Framing::None, b"\x30\x01"), 9), b"\x30\x01");
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for number in [0, 1, 9, 10, 99, 100, 12_345_678_901, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn frames_say_how_long_they_are() {
        let frame = |framing: Framing, length: usize| {
            let mut out = Vec::new();
            framing.append(&vec![b'x'; length], &mut out);
            out.truncate(out.len() - length);
            out
        };
        assert_eq!(frame(Framing::RawSocket, 258), [0, 0, 1, 2]);
        assert_eq!(frame(Framing::RawSocket, 1 << 24), [8, 0, 0, 0]);
        assert_eq!(frame(Framing::WebSocket(0x81), 5), [0x81, 0x85, 0, 0, 0, 0]);
        assert_eq!(frame(Framing::WebSocket(0x82), 126), [0x82, 0xFE, 0, 126, 0, 0, 0, 0]);
        assert_eq!(frame(Framing::WebSocket(0x82), 65_536), [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
}
