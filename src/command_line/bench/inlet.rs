//! The frames that a router sends: walked over by their heads alone, and told apart without decoding.
use corsac::model::Encoding;
use corsac::wire::wamp::code;

/// Of a frame longer than this only the head is looked at, and the rest is passed over as it arrives.
const WHOLE_BYTES: usize = 64 * 1024;
/// Bytes of such a frame that have to be there.
pub(super) const HEAD_BYTES: usize = 4 * 1024;

/// The framing of messages on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// MQTT packets; `v5` have properties.
    Mqtt {
        /// Version 5.
        v5: bool,
    },
    /// WAMP messages, one to a WebSocket frame.
    WebSocket(Encoding),
    /// WAMP messages in RawSocket frames.
    RawSocket(Encoding),
}

/// One thing that the router has sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Item<'a> {
    /// A publication. Of a long one, only the head.
    Event {
        /// MQTT's QoS; 0 in WAMP.
        qos: u8,
        /// The packet id, 0 for QoS 0.
        packet_id: u16,
        /// MQTT: the payload. WAMP: the message that holds it.
        body: &'a [u8],
        /// The message without frame, or the packet.
        whole: &'a [u8],
    },
    /// PUBACK, PUBCOMP or PUBLISHED: a publication has been acknowledged.
    Acknowledged,
    /// PUBREC.
    Received(u16),
    /// PUBREL.
    Release(u16),
    /// INVOCATION with its id.
    Invocation(u64),
    /// RESULT with the id of the call.
    Result(u64),
    /// A PING of the WebSocket or RawSocket layer and what it carries.
    Ping(&'a [u8]),
    /// A message that is of no account here.
    Other(&'a [u8]),
}

/// A frame at the head of a buffer.
struct Frame<'a> {
    /// Its first byte.
    first: u8,
    /// Bytes of it and its head that are still to come.
    missing: usize,
    /// Bytes of it and its head that are there.
    present: usize,
    /// Its content, as far as it is there.
    body: &'a [u8],
    /// The frame with its head, as far as it is there.
    whole: &'a [u8],
}

/// The frames of one connection.
#[derive(Debug)]
pub(super) struct Inlet {
    layout: Layout,
    /// Bytes of a long frame that are still to come.
    skip: usize,
}

impl Inlet {
    /// The inlet of a connection on which nothing has arrived.
    pub(super) fn new(layout: Layout) -> Self {
        Inlet { layout, skip: 0 }
    }

    /// Hands every frame in `bytes` to `take`; returns how many bytes these frames have, the rest is the beginning of another.
    #[inline]
    pub(super) fn walk(&mut self, bytes: &[u8], mut take: impl FnMut(Item<'_>) -> Result<(), String>) -> Result<usize, String> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let mut at = skipped;
        while let Some(rest) = bytes.get(at..)
            && let Some((used, item)) = self.next(rest)?
        {
            at += used;
            take(item)?;
        }
        Ok(at)
    }

    /// The first frame of `bytes` and how many of them it has; `None` until it is whole. Of a long one the rest is left to `walk`.
    #[inline]
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(usize, Item<'a>)>, String> {
        let Some(frame) = self.frame(bytes)? else { return Ok(None) };
        self.skip = frame.missing;
        Ok(Some((frame.present, item(self.layout, &frame)?)))
    }

    /// The frame at the head of `bytes`, if there is enough of it.
    #[inline]
    fn frame<'a>(&self, bytes: &'a [u8]) -> Result<Option<Frame<'a>>, String> {
        let head = match self.layout {
            Layout::Mqtt { .. } => mqtt_head(bytes)?,
            Layout::WebSocket(_) => websocket_head(bytes)?,
            Layout::RawSocket(_) => rawsocket_head(bytes),
        };
        let Some((head_len, body_len)) = head else { return Ok(None) };
        let total = head_len + body_len;
        let enough = if total > WHOLE_BYTES { HEAD_BYTES } else { total };
        if bytes.len() < enough {
            return Ok(None);
        }
        let present = total.min(bytes.len());
        let (Some(first), Some(whole), Some(body)) = (bytes.first(), bytes.get(..present), bytes.get(head_len..present)) else {
            return Ok(None);
        };
        Ok(Some(Frame { first: *first, missing: total - present, present, body, whole }))
    }
}

/// Length of the fixed header and of what follows it (MQTT 2.1).
#[inline]
pub(super) fn mqtt_head(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut length = 0;
    for (at, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((at + 2, length)));
        }
    }
    if bytes.len() < 5 { Ok(None) } else { Err("the router sends what is not MQTT".into()) }
}

/// Length of the frame's head and of what follows it (RFC 6455, 5.2); a server masks nothing.
#[inline]
fn websocket_head(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 || second & 0x80 != 0 || first & 0x80 == 0 || first & 0x0F == 0 {
        return Err("the router sends masked, fragmented or compressed WebSocket frames, which are not counted".into());
    }
    Ok(match second {
        126 => rest.first_chunk().map(|length| (4, usize::from(u16::from_be_bytes(*length)))),
        127 => rest.first_chunk().map(|length| (10, usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX / 2))),
        length => Some((2, usize::from(*length))),
    })
}

/// Length of the frame's head and of what follows it (WAMP: Advanced, RawSocket Transport).
#[inline]
fn rawsocket_head(bytes: &[u8]) -> Option<(usize, usize)> {
    let [first, a, b, c] = bytes.first_chunk::<4>()?;
    let length = u32::from_be_bytes([first >> 3 & 1, *a, *b, *c]);
    Some((4, length as usize))
}

#[inline]
fn item<'a>(layout: Layout, frame: &Frame<'a>) -> Result<Item<'a>, String> {
    match layout {
        Layout::Mqtt { v5 } => mqtt_item(frame, v5),
        Layout::WebSocket(encoding) => match frame.first & 0x0F {
            1 | 2 => wamp_item(frame.body, encoding),
            8 => Err(format!("the router has closed the WebSocket: {}", readable(frame.body.get(2..).unwrap_or_default()))),
            9 => Ok(Item::Ping(frame.body)),
            _ => Ok(Item::Other(frame.body)),
        },
        Layout::RawSocket(encoding) => match frame.first & 0x07 {
            0 => wamp_item(frame.body, encoding),
            1 => Ok(Item::Ping(frame.body)),
            _ => Ok(Item::Other(frame.body)),
        },
    }
}

#[inline]
fn mqtt_item<'a>(frame: &Frame<'a>, v5: bool) -> Result<Item<'a>, String> {
    let (body, whole) = (frame.body, frame.whole);
    match frame.first >> 4 {
        3 => publish(frame, v5).ok_or_else(|| "the router sends a PUBLISH that is cut off".to_string()),
        4 | 7 => acknowledged(body).map(|_| Item::Acknowledged),
        5 => acknowledged(body).map(Item::Received),
        6 => acknowledged(body).map(Item::Release),
        14 => Err(format!("the router has disconnected, reason code {:#04x}", body.first().unwrap_or(&0))),
        _ => Ok(Item::Other(whole)),
    }
}

/// The packet id of an acknowledgement, which must not be a refusal (reason codes from 0x80).
#[inline]
fn acknowledged(body: &[u8]) -> Result<u16, String> {
    match body {
        [_, _, code @ 0x80..=0xFF, ..] => Err(format!("the router refuses a publication, reason code {code:#04x}")),
        [high, low, ..] => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err("the router sends an acknowledgement that is cut off".into()),
    }
}

/// MQTT 3.3: topic, packet id, properties, then the payload.
#[inline]
fn publish<'a>(frame: &Frame<'a>, v5: bool) -> Option<Item<'a>> {
    let (topic_len, rest) = frame.body.split_first_chunk::<2>()?;
    let mut rest = rest.get(usize::from(u16::from_be_bytes(*topic_len))..)?;
    let qos = frame.first >> 1 & 3;
    let mut packet_id = 0;
    if qos > 0 {
        let (id, behind) = rest.split_first_chunk::<2>()?;
        packet_id = u16::from_be_bytes(*id);
        rest = behind;
    }
    if v5 {
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let (byte, behind) = rest.split_first()?;
            rest = behind;
            length |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        rest = rest.get(length..)?;
    }
    Some(Item::Event { qos, packet_id, body: rest, whole: frame.whole })
}

#[inline]
fn wamp_item(message: &[u8], encoding: Encoding) -> Result<Item<'_>, String> {
    let cut = || format!("the router sends what is not WAMP: {}", readable(message));
    let (code, rest) = first_integer(message, encoding).ok_or_else(cut)?;
    let id = || next_integer(rest, encoding).map(|(id, _)| id).ok_or_else(cut);
    Ok(match code {
        code::EVENT => Item::Event { qos: 0, packet_id: 0, body: message, whole: message },
        code::PUBLISHED => Item::Acknowledged,
        code::INVOCATION => Item::Invocation(id()?),
        code::RESULT => Item::Result(id()?),
        code::ERROR | code::ABORT | code::GOODBYE => return Err(format!("the router says {}", readable(message))),
        _ => Item::Other(message),
    })
}

/// The code of a message and what is behind it.
#[inline]
fn first_integer(message: &[u8], encoding: Encoding) -> Option<(u64, &[u8])> {
    let (open, rest) = message.split_first()?;
    let opens = match encoding {
        Encoding::Json => *open == b'[',
        Encoding::MsgPack => open & 0xF0 == 0x90,
        Encoding::Cbor => open & 0xE0 == 0x80,
    };
    if opens { integer(rest, encoding) } else { None }
}

/// The integer behind another one.
#[inline]
fn next_integer(rest: &[u8], encoding: Encoding) -> Option<(u64, &[u8])> {
    if encoding != Encoding::Json {
        return integer(rest, encoding);
    }
    let start = rest.iter().position(u8::is_ascii_digit)?;
    integer(rest.get(start..)?, encoding)
}

#[inline]
fn integer(bytes: &[u8], encoding: Encoding) -> Option<(u64, &[u8])> {
    if encoding == Encoding::Json {
        let end = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
        let (digits, rest) = bytes.split_at_checked(end)?;
        let number = digits.iter().fold(0_u64, |number, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
        return if digits.is_empty() { None } else { Some((number, rest)) };
    }
    let (first, rest) = bytes.split_first()?;
    let width = match (encoding, *first) {
        (Encoding::MsgPack, small @ ..=0x7F) | (_, small @ ..=0x17) => return Some((u64::from(small), rest)),
        (Encoding::MsgPack, 0xCC..=0xCF) => 1 << (first - 0xCC),
        (Encoding::Cbor, 0x18..=0x1B) => 1 << (first - 0x18),
        _ => return None,
    };
    let (number, rest) = rest.split_at_checked(width)?;
    Some((number.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)), rest))
}

/// The start of a message, for people.
pub(super) fn readable(message: &[u8]) -> String {
    String::from_utf8_lossy(message.get(..200).unwrap_or(message)).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The items that `take` is told, in words, when `bytes` arrive in pieces of `piece` bytes.
    fn told(layout: Layout, bytes: &[u8], piece: usize) -> Result<Vec<String>, String> {
        let mut inlet = Inlet::new(layout);
        let (mut told, mut carry) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            carry.extend_from_slice(piece);
            let used = inlet.walk(&carry, |item| {
                told.push(match item {
                    Item::Event { qos, packet_id, body, .. } => format!("event {qos} {packet_id} {}", readable(body)),
                    item => format!("{item:?}"),
                });
                Ok(())
            })?;
            carry.drain(..used);
        }
        assert_eq!((carry.len(), inlet.skip), (0, 0));
        Ok(told)
    }

    #[test]
    fn mqtt_packets_are_counted_however_they_are_cut() {
        let bytes = b"\x30\x05\0\x01tab\x32\x07\0\x01t\0\x09xy\x40\x02\0\x01\x50\x02\0\x02\x62\x02\0\x03\x70\x02\0\x04\xD0\0";
        let expected =
            ["event 0 0 ab", "event 1 9 xy", "Acknowledged", "Received(2)", "Release(3)", "Acknowledged", "Other([208, 0])"];
        for piece in 1..=bytes.len() {
            assert_eq!(told(Layout::Mqtt { v5: false }, bytes, piece).unwrap(), expected);
        }
        let v5 = b"\x34\x0A\0\x01t\0\x09\x02\x01\x01ab";
        assert_eq!(told(Layout::Mqtt { v5: true }, v5, 3).unwrap(), ["event 2 9 ab"]);
    }

    #[test]
    fn long_frames_are_counted_once_and_passed_over() {
        let length = 1_000_000;
        let mut bytes = vec![0x30, 0x80 | (length & 0x7F) as u8, 0x80 | (length >> 7 & 0x7F) as u8, (length >> 14) as u8];
        bytes.extend(b"\0\x01t");
        bytes.resize(4 + length, b'x');
        bytes.extend(b"\x40\x02\0\x01");
        for piece in [1_000, 65_536, 262_144, bytes.len()] {
            let told = told(Layout::Mqtt { v5: false }, &bytes, piece).unwrap();
            assert_eq!(told.len(), 2);
            assert!(told[0].starts_with("event 0 0 xxx") && told[1] == "Acknowledged");
        }
    }

    #[test]
    fn wamp_messages_are_known_by_their_code_in_every_encoding() {
        let json = Layout::WebSocket(Encoding::Json);
        let bytes = b"\x81\x10[36,1,2,{},[\"a\"]\x81\x08[17,1,2]\x81\x0D[68, 77,3,{}]\x81\x09[50,8,{}]\x89\x02hi";
        let expected = ["event 0 0 [36,1,2,{},[\\\"a\\\"]", "Acknowledged", "Invocation(77)", "Result(8)", "Ping([104, 105])"];
        for piece in 1..=bytes.len() {
            assert_eq!(told(json, bytes, piece).unwrap(), expected);
        }
        let raw = b"\0\0\0\x05\x94\x44\xCD\x01\x02\x01\0\0\x02hi";
        assert_eq!(told(Layout::RawSocket(Encoding::MsgPack), raw, 2).unwrap(), ["Invocation(258)", "Ping([104, 105])"]);
        let cbor = b"\0\0\0\x06\x83\x18\x32\x19\x01\x02";
        assert_eq!(told(Layout::RawSocket(Encoding::Cbor), cbor, 99).unwrap(), ["Result(258)"]);
    }

    #[test]
    fn refusals_end_the_run() {
        for (layout, bytes, expected) in [
            (Layout::Mqtt { v5: true }, &b"\x40\x03\0\x01\x87"[..], "0x87"),
            (Layout::Mqtt { v5: true }, b"\xE0\x01\x8E", "0x8e"),
            (Layout::Mqtt { v5: false }, b"\x30\xFF\xFF\xFF\xFF", "not MQTT"),
            (Layout::Mqtt { v5: false }, b"\x30\x01\0", "cut off"),
            (Layout::WebSocket(Encoding::Json), b"\x81\x18[8,48,1,{},\"wamp.error\"]", "wamp.error"),
            (Layout::WebSocket(Encoding::Json), b"\x88\x05\x03\xE8bye", "bye"),
            (Layout::WebSocket(Encoding::Json), b"\x01\x01[", "fragmented"),
            (Layout::WebSocket(Encoding::Cbor), b"\x82\x01\xFF", "not WAMP"),
        ] {
            let error = told(layout, bytes, 99).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
