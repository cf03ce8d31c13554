//! WebSocket messages to and from bytes (RFC 6455): the plain ones, which most are, here, all others by tungstenite.
use std::collections::VecDeque;
use std::io::{self, Read, Write};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_tungstenite::tungstenite;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::transport::Taker;
use crate::gate::{Arrived, Output};
use crate::model::Limits;

/// Bytes that tungstenite holds for an idle connection.
const READ_BUFFER_BYTES: usize = 1024;

/// Longest head of a frame: two bytes, eight of length, four of mask.
const MAX_HEAD_BYTES: usize = 14;

/// The content of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carries {
    /// MQTT: binary frames are pieces of one byte stream [MQTT-6.0.0-1], [MQTT-6.0.0-2].
    Stream,
    /// WAMP: one message a frame, binary.
    Binary,
    /// WAMP: one message a frame, text.
    Text,
}

impl Carries {
    /// First byte of a whole message in one frame.
    fn first_byte(self) -> u8 {
        match self {
            Carries::Text => 0x81,
            Carries::Binary | Carries::Stream => 0x82,
        }
    }
}

/// The frames of one connection, on the server's side.
pub struct Frames {
    context: WebSocketContext,
    carries: Carries,
    max_bytes: usize,
    /// The longest message of now.
    limit: usize,
    /// Bytes of a message whose last piece has not come, the head of the first piece among them; 0 if there is none.
    pieces_bytes: usize,
    /// Messages that the gate has not taken yet.
    messages: VecDeque<Bytes>,
    /// The start of something unfinished (streams only).
    partial: BytesMut,
    /// Frames on their way.
    out: BytesMut,
    has_ended: bool,
    /// Why, where the client is to blame.
    fault: Option<Box<str>>,
}

/// The two ends that tungstenite sees: what was read, and where to write.
struct Ends<'a> {
    input: &'a [u8],
    out: &'a mut BytesMut,
}

impl Read for Ends<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Ends<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The length of a frame, and of its head in it.
struct Extent {
    head: usize,
    whole: usize,
}

/// The fault of a frame that a client begins with these two bytes (RFC 6455, 5.1, 5.2, 5.4 and 5.5).
fn head_fault(first: u8, second: u8, is_in_pieces: bool) -> Option<&'static str> {
    let (opcode, is_final, is_masked, length) = (first & 0x0F, first & 0x80 != 0, second & 0x80 != 0, second & 0x7F);
    let is_control = opcode & 0x08 != 0;
    match opcode {
        _ if first & 0x70 != 0 => Some("a reserved bit is set, and no extension was agreed on"),
        0x3..=0x7 | 0xB..=0xF => Some("a reserved opcode"),
        _ if !is_masked => Some("a client masks its frames"),
        _ if is_control && !is_final => Some("a control frame comes in one piece"),
        _ if is_control && length > 125 => Some("a control frame holds 125 bytes at the most"),
        0x0 if !is_in_pieces => Some("a continuation of nothing"),
        0x1 | 0x2 if is_in_pieces => Some("a message begins before the one before it has ended"),
        _ => None,
    }
}

/// The extent of the frame at the head of `input`; `None` until its head says it. A length is written in as few bytes as it
/// needs, and its highest bit is 0 (RFC 6455, 5.2).
fn extent(input: &[u8]) -> Result<Option<Extent>, &'static str> {
    let Some(second) = input.get(1) else { return Ok(None) };
    let (head, length, least) = match second & 0x7F {
        126 => match input.get(2..4).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => (4, u64::from(u16::from_be_bytes(bytes)), 126),
            None => return Ok(None),
        },
        127 => match input.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => (10, u64::from_be_bytes(bytes), 65_536),
            None => return Ok(None),
        },
        length => (2, u64::from(length), 0),
    };
    if length < least {
        return Err("a length that is not written in as few bytes as it needs");
    }
    if length > i64::MAX.unsigned_abs() {
        return Err("a length whose highest bit is set");
    }
    let head = if second & 0x80 != 0 { head + 4 } else { head };
    Ok(Some(Extent { head, whole: usize::try_from(length).unwrap_or(usize::MAX).saturating_add(head) }))
}

/// Puts a client's mask on `payload`, or takes it off (RFC 6455, 5.3).
fn mask(payload: &mut [u8], key: [u8; 4]) {
    let (words, rest) = payload.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

impl Frames {
    /// No frames yet.
    pub fn new(carries: Carries, limits: &Limits) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(limits.max_packet_before_auth_bytes))
            .max_frame_size(Some(limits.max_packet_before_auth_bytes));
        Frames {
            context: WebSocketContext::new(Role::Server, Some(config)),
            carries,
            max_bytes: limits.max_packet_bytes,
            limit: limits.max_packet_before_auth_bytes,
            pieces_bytes: 0,
            messages: VecDeque::new(),
            partial: BytesMut::new(),
            out: BytesMut::new(),
            has_ended: false,
            fault: None,
        }
    }

    /// Gives the messages in the whole frames of `input` to `take`, and keeps those that it does not want yet; returns how many
    /// bytes the frames were. The payloads are unmasked where they stand.
    ///
    /// A frame is judged by its head as soon as that is there. tungstenite makes room for a frame as soon as it has seen its
    /// length, so it sees none before the whole is there. One that declares too much is refused at once, with the part that is
    /// there.
    pub fn decode(&mut self, input: &mut [u8], take: Taker<'_>) -> usize {
        let mut used = 0;
        while let Some(rest) = input.get_mut(used..).filter(|_| !self.has_ended)
            && let [first, second, ..] = *rest
        {
            let extent = match head_fault(first, second, self.pieces_bytes > 0) {
                None => extent(rest),
                Some(fault) => Err(fault),
            };
            let Extent { head, whole } = match extent {
                Ok(Some(extent)) => extent,
                Ok(None) => return used,
                Err(fault) => {
                    self.end(CloseCode::Protocol, fault);
                    return input.len();
                }
            };
            if whole > self.limit.saturating_add(MAX_HEAD_BYTES) {
                self.decode_other(rest, take);
                return input.len();
            }
            let Some(frame) = rest.get_mut(..whole) else { return used };
            used += whole;
            if !self.decode_plain(frame, head, take) {
                self.decode_other(frame, take);
            }
            // Control frames may come between the pieces of a message.
            if first & 0x08 == 0 {
                self.pieces_bytes = match (first & 0x80, self.pieces_bytes) {
                    (0, 0) => whole,
                    (0, before) => before + (whole - head),
                    _ => 0,
                };
            }
        }
        if self.has_ended { input.len() } else { used }
    }

    /// A whole message of the right kind in one frame, as it should be; false, and nothing done, for any other frame.
    fn decode_plain(&mut self, frame: &mut [u8], head: usize, take: Taker<'_>) -> bool {
        let is_plain = frame.first() == Some(&self.carries.first_byte());
        let Some((head, payload)) = frame.split_at_mut_checked(head) else { return false };
        let Some(key) = head.last_chunk::<4>().filter(|_| is_plain) else { return false };
        if payload.is_empty() || payload.len() > self.limit {
            return false;
        }
        mask(payload, *key);
        if self.carries == Carries::Text && std::str::from_utf8(payload).is_err() {
            mask(payload, *key);
            return false;
        }
        self.pass_on(payload, take);
        true
    }

    /// Control frames, pieces of messages, and everything that is wrong.
    fn decode_other(&mut self, frame: &[u8], take: Taker<'_>) {
        let mut out = std::mem::take(&mut self.out);
        let mut ends = Ends { input: frame, out: &mut out };
        while !self.has_ended {
            match (self.context.read(&mut ends), self.carries) {
                (Ok(Message::Binary(bytes)), Carries::Stream) => self.pass_on(&bytes, take),
                (Ok(Message::Binary(bytes)), Carries::Binary) if !bytes.is_empty() => self.pass_on(&bytes, take),
                (Ok(Message::Text(text)), Carries::Text) if !text.is_empty() => self.pass_on(text.as_bytes(), take),
                // An empty message is none, and a frame of the other kind is nobody's [MQTT-6.0.0-1].
                (Ok(Message::Binary(_) | Message::Text(_)), _) => {
                    let frame = CloseFrame { code: CloseCode::Unsupported, reason: "wrong kind of frame".into() };
                    self.context.close(&mut ends, Some(frame)).ok();
                    self.has_ended = true;
                    self.fault = Some("wrong kind of frame".into());
                }
                (Ok(_), _) => {}
                (Err(Error::Io(error)), _) if error.kind() == io::ErrorKind::WouldBlock => break,
                (Err(error), _) => {
                    let frame = close_frame(&error);
                    self.fault = frame.as_ref().map(|frame| match frame.code {
                        CloseCode::Size => format!("{}; {LARGER}", frame.reason).into(),
                        _ => frame.reason.as_str().into(),
                    });
                    self.context.close(&mut ends, frame).ok();
                    self.has_ended = true;
                }
            }
        }
        // PONGs and the answer to CLOSE.
        self.context.flush(&mut ends).ok();
        self.out = out;
    }

    fn pass_on(&mut self, payload: &[u8], take: Taker<'_>) {
        if self.carries == Carries::Stream {
            self.partial.extend_from_slice(payload);
        } else if !self.messages.is_empty() || take(Arrived::Lent(payload)).bytes == 0 {
            self.messages.push_back(Bytes::copy_from_slice(payload));
        }
    }

    /// Gives to `take` what it has not taken before.
    pub fn offer_again(&mut self, take: Taker<'_>) {
        if !self.partial.is_empty() {
            let used = take(Arrived::Lent(&self.partial)).bytes;
            self.partial.advance(used);
        }
        while let Some(message) = self.messages.front() {
            if take(Arrived::Lent(message)).bytes == 0 {
                return;
            }
            self.messages.pop_front();
        }
        self.messages.shrink_to(16);
    }

    /// The input that `offer_again` would give, in bytes or messages.
    pub fn leftover(&self) -> usize {
        self.partial.len() + self.messages.len()
    }

    /// Bytes of whole frames that are the beginning of something: of a message in pieces, of a packet in frames.
    pub fn unfinished(&self) -> usize {
        self.pieces_bytes + self.partial.len()
    }

    /// True once nothing more is read.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Why nothing more is read, where the client is to blame.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Messages may be as large as they may ever be.
    pub fn set_open(&mut self) {
        self.limit = self.max_bytes;
        let max_bytes = Some(self.max_bytes);
        self.context.set_config(|config| {
            config.max_message_size = max_bytes;
            config.max_frame_size = max_bytes;
        });
    }

    /// Puts the gate's output into frames.
    pub fn encode(&mut self, output: &mut Output) {
        // Once CLOSE has been said nothing more is sent.
        if self.context.can_write() {
            self.out.reserve(output.bytes.len() + output.ends.len().max(1) * MAX_HEAD_BYTES);
            if self.carries == Carries::Stream {
                self.put_frame(&output.bytes);
            }
            let mut start = 0;
            for end in &output.ends {
                self.put_frame(output.bytes.get(start..*end).unwrap_or_default());
                start = *end;
            }
        }
        output.ends.clear();
        output.bytes.clear();
    }

    /// Appends a whole message in one frame (RFC 6455, 5.2); a server does not mask.
    fn put_frame(&mut self, payload: &[u8]) {
        self.out.put_u8(self.carries.first_byte());
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(length @ 0..=125), _) => self.out.put_u8(length),
            (_, Ok(length)) => {
                self.out.put_u8(126);
                self.out.put_u16(length);
            }
            _ => {
                self.out.put_u8(127);
                self.out.put_u64(payload.len() as u64);
            }
        }
        self.out.put_slice(payload);
    }

    /// The bytes that are to be sent.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Bytes that are to be sent.
    pub fn unsent(&self) -> usize {
        self.out.len()
    }

    /// Says CLOSE, if nobody has.
    pub fn close(&mut self) {
        self.end(CloseCode::Normal, "");
    }

    /// Says CLOSE with this code, if nobody has; nothing more is read.
    fn end(&mut self, code: CloseCode, reason: &'static str) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.fault = (code != CloseCode::Normal).then(|| reason.into());
            let mut ends = Ends { input: &[], out: &mut self.out };
            let frame = CloseFrame { code, reason: reason.into() };
            self.context.close(&mut ends, Some(frame)).ok();
            self.context.flush(&mut ends).ok();
        }
    }

    /// Asks the other side for a sign of life: PING (RFC 6455, 5.5.2).
    pub fn ping(&mut self) {
        if self.context.can_write() && !self.has_ended {
            self.out.put_slice(&[0x89, 0]);
        }
    }
}

/// The advice behind the fault of a message that is too large.
const LARGER: &str = "limits.max_packet_bytes allows more, and limits.max_packet_before_auth_bytes before the session is open";

/// The CLOSE frame that answers a fault of the client (RFC 6455, 7.4.1).
fn close_frame(error: &Error) -> Option<CloseFrame> {
    let code = match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Protocol(_) => CloseCode::Protocol,
        _ => return None,
    };
    Some(CloseFrame { code, reason: error.to_string().into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Used;

    /// A client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let key = [1, 2, 3, 0x80];
        let mut frame = vec![first];
        match u16::try_from(payload.len()) {
            Ok(length @ 0..=125) => frame.push(0x80 | length as u8),
            Ok(length) => frame.extend([&[0x80 | 126][..], &length.to_be_bytes()].concat()),
            Err(_) => frame.extend([&[0x80 | 127][..], &payload.len().to_be_bytes()].concat()),
        }
        frame.extend_from_slice(&key);
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    /// The messages in these bytes, handed over in pieces of this length, and the answer.
    fn received(carries: Carries, bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Vec<u8>, bool) {
        let mut frames = Frames::new(carries, &Limits::default());
        let (mut messages, mut held) = (Vec::new(), Vec::new());
        let mut take = |message: Arrived<'_>| {
            messages.push(message.bytes().to_vec());
            Used { bytes: message.bytes().len(), unfinished: 0 }
        };
        for piece in bytes.chunks(piece) {
            held.extend_from_slice(piece);
            let used = frames.decode(&mut held, &mut take);
            held.drain(..used);
            frames.offer_again(&mut take);
        }
        (messages, frames.out().to_vec(), frames.has_ended())
    }

    #[test]
    fn messages_come_whole_in_pieces_and_between_control_frames() {
        let bytes = [
            frame(0x81, b"one"),
            frame(0x89, b"ping"),
            frame(0x01, "dr\u{fc}".as_bytes()),
            frame(0x89, b""),
            frame(0x80, b"b"),
            frame(0x81, "\u{3000}".repeat(300).as_bytes()),
        ]
        .concat();
        for piece in [1, 2, 3, 7, 100, 10_000] {
            let (messages, out, has_ended) = received(Carries::Text, &bytes, piece);
            assert_eq!(messages, [b"one".to_vec(), "dr\u{fc}b".into(), "\u{3000}".repeat(300).into()]);
            assert_eq!((out.as_slice(), has_ended), (&b"\x8A\x04ping\x8A\x00"[..], false));
        }
    }

    #[test]
    fn what_is_no_plain_message_is_judged_as_before() {
        let limit = Limits::default().max_packet_before_auth_bytes;
        let unmasked = b"\x81\x01a".to_vec();
        let table = [
            (frame(0x81, b"a\xFF"), CloseCode::Invalid),
            (frame(0x82, b"a"), CloseCode::Unsupported),
            (frame(0x81, b""), CloseCode::Unsupported),
            (frame(0xC1, b"a"), CloseCode::Protocol),
            (frame(0x80, b"a"), CloseCode::Protocol),
            ([frame(0x01, b"a"), frame(0x81, b"b")].concat(), CloseCode::Protocol),
            (unmasked, CloseCode::Protocol),
            (frame(0x81, &vec![b'a'; limit + 1]), CloseCode::Size),
        ];
        for (bytes, code) in table {
            let (messages, out, has_ended) = received(Carries::Text, &[bytes, frame(0x81, b"more")].concat(), 100_000);
            assert!(messages.is_empty() && has_ended, "{code:?} {messages:?}");
            assert_eq!(out.get(2..4), Some(&u16::from(code).to_be_bytes()[..]), "{code:?}");
        }
    }

    /// Every head that a client may not send, with an opcode of each kind; nothing of the payload need have come.
    #[test]
    fn heads_that_are_wrong_end_at_once() {
        let long = |length: &[u8]| [length, b"mask"].concat();
        let lengths = [
            long(b"\xFE\x00\x00"),
            long(b"\xFE\x00\x7D"),
            long(b"\xFF\x00\x00\x00\x00\x00\x00\x00\x00"),
            long(b"\xFF\x00\x00\x00\x00\x00\x00\x00\x05"),
            long(b"\xFF\x00\x00\x00\x00\x00\x00\x00\x7D"),
            long(b"\xFF\x00\x00\x00\x00\x00\x00\xFF\xFF"),
            long(b"\xFF\x80\x00\x00\x00\x00\x00\x00\x05"),
            long(b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
        ];
        let mut wrong: Vec<(Vec<u8>, &str)> = Vec::new();
        for first in [0x01, 0x81, 0x88, 0x89, 0x8A] {
            wrong.extend(lengths.iter().map(|length| ([&[first][..], length].concat(), "length")));
        }
        // 126 and 65,535 bytes are rightly written so, but not in a control frame.
        for first in [0x88, 0x89, 0x8A] {
            wrong.push(([&[first][..], b"\xFE\x00\x7Emask"].concat(), "long control frame"));
        }
        wrong.extend([0x08, 0x09, 0x0A].map(|first| (vec![first, 0x80], "control frame in pieces")));
        wrong.extend((0x3..=0x7).chain(0xB..=0xF).map(|opcode| (vec![0x80 | opcode, 0x80], "opcode")));
        wrong.extend([0x10, 0x20, 0x40, 0x70].map(|bits| (vec![0x81 | bits, 0x80], "reserved bit")));
        wrong.extend([0x81, 0x82, 0x88, 0x89, 0x8A].map(|first| (vec![first, 5], "no mask")));
        wrong.extend([0x00, 0x80].map(|first| (vec![first, 0x80], "continuation of nothing")));
        wrong.extend([0x01, 0x81, 0x82].map(|first| ([frame(0x01, b"a"), vec![first, 0xFE]].concat(), "message in a message")));
        for (bytes, why) in wrong {
            for piece in [1, 3, 100] {
                let (messages, out, has_ended) = received(Carries::Text, &bytes, piece);
                let code = out.get(2..4).map(|code| u16::from_be_bytes([code[0], code[1]]));
                assert_eq!((code, messages.len(), has_ended), (Some(1002), 0, true), "{why}: {bytes:02X?}");
            }
        }
        for right in [frame(0x81, &[b'a'; 125]), frame(0x81, &[b'a'; 126]), frame(0x81, &[b'a'; 65_535]), frame(0x89, &[0; 125])]
        {
            assert!(!received(Carries::Text, &right, 1000).2, "{:02X?}", &right[..4]);
        }
    }

    #[test]
    fn what_is_unfinished_is_counted() {
        let mut frames = Frames::new(Carries::Text, &Limits::default());
        let mut taken = 0;
        let mut take = |message: Arrived<'_>| {
            taken += 1;
            Used { bytes: message.bytes().len(), unfinished: 0 }
        };
        for (first, payload, unfinished) in
            [(0x01, &b""[..], 6), (0x00, b"", 6), (0x89, b"ping", 6), (0x00, b"abc", 9), (0x80, b"d", 0), (0x81, b"e", 0)]
        {
            let mut bytes = frame(first, payload);
            assert_eq!(frames.decode(&mut bytes, &mut take), bytes.len());
            assert_eq!(frames.unfinished(), unfinished, "{first:02X}");
        }
        assert_eq!(taken, 2);
    }

    #[test]
    fn what_is_not_taken_is_offered_again_in_its_order() {
        let mut frames = Frames::new(Carries::Binary, &Limits::default());
        let mut bytes = [frame(0x82, b"a"), frame(0x82, b"b")].concat();
        let mut is_open = false;
        let mut taken = Vec::new();
        let mut take = |message: Arrived<'_>| {
            taken.extend_from_slice(message.bytes());
            let bytes = if is_open { message.bytes().len() } else { 0 };
            is_open = true;
            Used { bytes, unfinished: 0 }
        };
        assert_eq!(frames.decode(&mut bytes, &mut take), bytes.len());
        assert_eq!(frames.leftover(), 2);
        frames.offer_again(&mut take);
        assert_eq!((taken.as_slice(), frames.leftover()), (&b"aab"[..], 0));
    }

    #[test]
    fn frames_are_as_long_as_they_say() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let mut frames = Frames::new(Carries::Binary, &Limits::default());
            let mut output = Output { ends: vec![length], ..Output::default() };
            output.bytes.extend_from_slice(&vec![7; length]);
            frames.encode(&mut output);
            let Ok(Some(Extent { head, whole })) = extent(frames.out()) else { panic!("no frame of {length}") };
            assert_eq!((frames.out()[0], whole, whole - head, output.bytes.len()), (0x82, frames.unsent(), length, 0));
        }
        let mut frames = Frames::new(Carries::Binary, &Limits::default());
        frames.close();
        let said = frames.unsent();
        let mut output = Output { ends: vec![1], ..Output::default() };
        output.bytes.extend_from_slice(b"a");
        frames.encode(&mut output);
        assert_eq!((frames.unsent(), output.ends.len()), (said, 0));
    }
}
