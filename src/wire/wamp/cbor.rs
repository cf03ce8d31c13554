//! CBOR as tokens (RFC 8949): a reader that never recurses and a writer of the shortest form.
use std::borrow::Cow;
use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::token::{Kind, Malformed, Open, Reader, Token, Writer};

/// The byte that ends what was opened without a length.
const BREAK: u8 = 0xFF;

/// Reads CBOR.
#[derive(Clone)]
pub(crate) struct CborReader<'a> {
    input: &'a [u8],
    at: usize,
}

/// The head of an item: major type 0..=7, what its argument says, and the low five bits.
struct Head {
    major: u8,
    /// `None` = of a length that is not said.
    value: Option<u64>,
    info: u8,
}

impl<'a> Reader<'a> for CborReader<'a> {
    fn start(input: &'a [u8]) -> Result<Self, Malformed> {
        Ok(CborReader { input, at: 0 })
    }

    fn read(&mut self) -> Result<Token<'a>, Malformed> {
        let head = self.head()?;
        Ok(match (head.major, head.value) {
            (0, Some(value)) => Token::Uint(value),
            (1, Some(n)) => Token::Negative(n),
            (2, _) => Token::Bin(self.byte_string(head.value)?),
            (3, _) => Token::Str(self.text_string(head.value)?),
            (4 | 5, _) => {
                let open = self.open(&head)?;
                if open.map { Token::Map(open) } else { Token::List(open) }
            }
            (6, Some(tag)) => self.tagged(tag)?,
            (7, Some(value)) => self.simple(head.info, value)?,
            _ => return self.fault("an unexpected break or a length that is not said"),
        })
    }

    fn more(&mut self, open: &mut Open) -> Result<bool, Malformed> {
        open.first = false;
        match open.left {
            Some(0) => Ok(false),
            Some(left) => {
                open.left = Some(left.saturating_sub(if open.map { 2 } else { 1 }));
                Ok(true)
            }
            None if self.peek() == Some(BREAK) => {
                self.at += 1;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    fn skip(&mut self) -> Result<(Kind, Range<usize>), Malformed> {
        let start = self.at;
        let kind = match self.peek().map(|first| first >> 5) {
            Some(4) => Kind::List,
            Some(5) => Kind::Map,
            _ => Kind::Other,
        };
        let mut nest = Nest { pending: 1, ..Nest::default() };
        loop {
            while nest.pending == 0 {
                if nest.outer.is_empty() {
                    return Ok((kind, start..self.at));
                }
                if self.peek() != Some(BREAK) {
                    nest.pending = if nest.map { 2 } else { 1 };
                    break;
                }
                self.at += 1;
                nest.pop();
            }
            self.skip_item(&mut nest)?;
        }
    }

    fn finish(&mut self) -> Result<(), Malformed> {
        if self.left() == 0 { Ok(()) } else { self.fault("something follows the value") }
    }
}

/// Where `skip` stands: items that are due until the innermost container of unsaid length may end.
#[derive(Default)]
struct Nest {
    pending: u64,
    /// That container is a dictionary.
    map: bool,
    /// The same for the containers of unsaid length around it: items due, shifted left, and the `map` bit.
    outer: Vec<u32>,
}

impl Nest {
    /// False if there are more items due than any input that is let in could hold.
    fn push(&mut self, map: bool) -> bool {
        let Ok(pending) = u32::try_from(self.pending << 1) else { return false };
        self.outer.push(pending | u32::from(self.map));
        self.pending = 0;
        self.map = map;
        true
    }

    fn pop(&mut self) {
        let outer = self.outer.pop().unwrap_or_default();
        self.pending = u64::from(outer >> 1);
        self.map = outer & 1 == 1;
    }
}

impl<'a> CborReader<'a> {
    fn fault<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed { what, at: self.at })
    }

    fn left(&self) -> u64 {
        self.input.len().saturating_sub(self.at) as u64
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn bytes(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let end = self.at.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
        let Some(bytes) = self.input.get(self.at..end) else { return self.fault("ends too early") };
        self.at = end;
        Ok(bytes)
    }

    fn text(&mut self, len: u64) -> Result<&'a str, Malformed> {
        let at = self.at;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| Malformed { what: "text is not UTF-8", at })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.input.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => self.fault("ends too early"),
        }
    }

    fn head(&mut self) -> Result<Head, Malformed> {
        let [first] = self.array()?;
        let info = first & 0x1F;
        let value = match info {
            0..=23 => Some(u64::from(info)),
            24 => Some(u64::from(u8::from_be_bytes(self.array()?))),
            25 => Some(u64::from(u16::from_be_bytes(self.array()?))),
            26 => Some(u64::from(u32::from_be_bytes(self.array()?))),
            27 => Some(u64::from_be_bytes(self.array()?)),
            31 => None,
            _ => return self.fault("a length that CBOR never uses"),
        };
        Ok(Head { major: first >> 5, value, info })
    }

    fn open(&self, head: &Head) -> Result<Open, Malformed> {
        let map = head.major == 5;
        let left = head.value.map(|len| if map { len.saturating_mul(2) } else { len });
        // Every item takes a byte at least.
        if left.is_some_and(|left| left > self.left()) {
            return self.fault("ends too early");
        }
        Ok(Open { left, first: true, map })
    }

    fn byte_string(&mut self, len: Option<u64>) -> Result<Cow<'a, [u8]>, Malformed> {
        if let Some(len) = len {
            return self.bytes(len).map(Cow::Borrowed);
        }
        let mut whole = Vec::new();
        while let Some(len) = self.chunk(2)? {
            whole.extend_from_slice(self.bytes(len)?);
        }
        Ok(Cow::Owned(whole))
    }

    fn text_string(&mut self, len: Option<u64>) -> Result<Cow<'a, str>, Malformed> {
        if let Some(len) = len {
            return self.text(len).map(Cow::Borrowed);
        }
        let mut whole = String::new();
        while let Some(len) = self.chunk(3)? {
            whole.push_str(self.text(len)?);
        }
        Ok(Cow::Owned(whole))
    }

    /// Length of the next piece of a string in pieces, each of the same type and with its length (RFC 8949, 3.2.3).
    fn chunk(&mut self, major: u8) -> Result<Option<u64>, Malformed> {
        if self.peek() == Some(BREAK) {
            self.at += 1;
            return Ok(None);
        }
        match self.head()? {
            head if head.major == major && head.value.is_some() => Ok(head.value),
            _ => self.fault("a string with a piece that is not of its type"),
        }
    }

    /// Integers of any size (tags 2 and 3) are one token, any other tag stands for itself.
    fn tagged(&mut self, tag: u64) -> Result<Token<'a>, Malformed> {
        let byte_string_follows = self.peek().is_some_and(|first| first >> 5 == 2);
        if !matches!(tag, 2 | 3) || !byte_string_follows {
            return Ok(Token::Tag(tag));
        }
        let head = self.head()?;
        Ok(Token::Big { negative: tag == 3, bytes: self.byte_string(head.value)? })
    }

    /// Major type 7: booleans, null, undefined, numbers; any other simple value reads as its number.
    fn simple(&self, info: u8, value: u64) -> Result<Token<'a>, Malformed> {
        Ok(match (info, value) {
            (20 | 21, _) => Token::Bool(info == 21),
            (22 | 23, _) => Token::Null,
            (24, 0..=31) => return self.fault("a simple value in two bytes that needs one"),
            (25, bits) => Token::F32(from_half(bits)),
            (26, bits) => Token::F32(f32::from_bits(u32::try_from(bits).unwrap_or_default())),
            (27, bits) => Token::F64(f64::from_bits(bits)),
            _ => Token::Uint(value),
        })
    }

    fn skip_item(&mut self, nest: &mut Nest) -> Result<(), Malformed> {
        nest.pending -= 1;
        let head = self.head()?;
        match (head.major, head.value) {
            (0 | 1, Some(_)) => {}
            (2, Some(len)) => _ = self.bytes(len)?,
            (3, Some(len)) => _ = self.text(len)?,
            (2 | 3, None) => {
                while let Some(len) = self.chunk(head.major)? {
                    if head.major == 3 { self.text(len).map(|_| ())? } else { self.bytes(len).map(|_| ())? }
                }
            }
            (4 | 5, Some(_)) => nest.pending += self.open(&head)?.left.unwrap_or_default(),
            (4 | 5, None) => {
                if !nest.push(head.major == 5) {
                    return self.fault("ends too early");
                }
            }
            (6, Some(_)) => nest.pending += 1,
            (7, Some(value)) => _ = self.simple(head.info, value)?,
            _ => return self.fault("an unexpected break or a length that is not said"),
        }
        if nest.pending > self.left() {
            return self.fault("ends too early");
        }
        Ok(())
    }
}

/// The number in the 16 bits of IEEE 754 half precision; every one fits 32 bits exactly (RFC 8949, appendix D).
fn from_half(bits: u64) -> f32 {
    let mantissa = (bits & 0x3FF) as u32;
    let exponent = (bits >> 10 & 0x1F) as u32;
    let sign = ((bits >> 15 & 1) as u32) << 31;
    let magnitude = match exponent {
        0 => (mantissa as f32 * f32::from_bits(0x3380_0000)).to_bits(),
        31 => 0x7F80_0000 | mantissa << 13,
        _ => (exponent + 112) << 23 | mantissa << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// Writes CBOR.
pub(crate) struct CborWriter<'b> {
    out: &'b mut BytesMut,
}

impl<'b> CborWriter<'b> {
    /// Appends to `out`.
    pub(crate) fn new(out: &'b mut BytesMut) -> Self {
        CborWriter { out }
    }

    fn head(&mut self, major: u8, value: u64) {
        let mark = major << 5;
        if let Ok(value) = u8::try_from(value) {
            if value < 24 {
                self.out.put_u8(mark | value);
            } else {
                self.out.put_slice(&[mark | 24, value]);
            }
        } else if let Ok(value) = u16::try_from(value) {
            self.out.put_u8(mark | 25);
            self.out.put_u16(value);
        } else if let Ok(value) = u32::try_from(value) {
            self.out.put_u8(mark | 26);
            self.out.put_u32(value);
        } else {
            self.out.put_u8(mark | 27);
            self.out.put_u64(value);
        }
    }

    /// A mark on the item that is written next.
    pub(crate) fn tag(&mut self, tag: u64) {
        self.head(6, tag);
    }
}

impl Writer for CborWriter<'_> {
    fn list(&mut self, len: usize) {
        self.head(4, len as u64);
    }

    fn end_list(&mut self) {}

    fn map(&mut self, len: usize) {
        self.head(5, len as u64);
    }

    fn end_map(&mut self) {}

    fn key(&mut self, key: &str) {
        self.str(key);
    }

    fn null(&mut self) {
        self.out.put_u8(0xF6);
    }

    fn bool(&mut self, value: bool) {
        self.out.put_u8(if value { 0xF5 } else { 0xF4 });
    }

    fn uint(&mut self, value: u64) {
        self.head(0, value);
    }

    fn negative(&mut self, n: u64) {
        self.head(1, n);
    }

    fn f32(&mut self, value: f32) {
        self.out.put_u8(0xFA);
        self.out.put_f32(value);
    }

    fn f64(&mut self, value: f64) {
        self.out.put_u8(0xFB);
        self.out.put_f64(value);
    }

    fn str(&mut self, value: &str) {
        self.head(3, value.len() as u64);
        self.out.put_slice(value.as_bytes());
    }

    fn bin(&mut self, value: &[u8]) {
        self.head(2, value.len() as u64);
        self.out.put_slice(value);
    }

    fn raw(&mut self, encoded: &[u8]) {
        self.out.put_slice(encoded);
    }
}
