//! MsgPack as tokens: a reader that never recurses and a writer of the shortest form.
use std::borrow::Cow;
use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::token::{Kind, Malformed, Open, Reader, Token, Writer};

/// Reads MsgPack.
#[derive(Clone)]
pub(crate) struct MsgPackReader<'a> {
    input: &'a [u8],
    at: usize,
}

/// The head of an item: its first byte and its length.
enum Head {
    Nil,
    Bool(bool),
    Int(i64),
    Uint(u64),
    F32(f32),
    F64(f64),
    Str(usize),
    Bin(usize),
    Ext(usize),
    List(u64),
    Map(u64),
}

impl<'a> Reader<'a> for MsgPackReader<'a> {
    fn start(input: &'a [u8]) -> Result<Self, Malformed> {
        Ok(MsgPackReader { input, at: 0 })
    }

    fn read(&mut self) -> Result<Token<'a>, Malformed> {
        Ok(match self.head()? {
            Head::Nil => Token::Null,
            Head::Bool(value) => Token::Bool(value),
            Head::Int(value) => Token::from_i64(value),
            Head::Uint(value) => Token::Uint(value),
            Head::F32(value) => Token::F32(value),
            Head::F64(value) => Token::F64(value),
            Head::Str(len) => Token::Str(Cow::Borrowed(self.text(len)?)),
            Head::Bin(len) => Token::Bin(Cow::Borrowed(self.bytes(len)?)),
            Head::Ext(len) => match self.bytes(len + 1)? {
                // JavaScript's `undefined`, as msgpackr and msgpack5 write it: wampy puts it into options.
                [0, 0] => Token::Null,
                [kind, data @ ..] => Token::Ext(kind.cast_signed(), data),
                [] => return self.fault("ends too early"),
            },
            Head::List(len) => Token::List(self.open(len, false)?),
            Head::Map(len) => Token::Map(self.open(len, true)?),
        })
    }

    fn more(&mut self, open: &mut Open) -> Result<bool, Malformed> {
        open.first = false;
        match open.left {
            None | Some(0) => Ok(false),
            Some(left) => {
                open.left = Some(left.saturating_sub(if open.map { 2 } else { 1 }));
                Ok(true)
            }
        }
    }

    fn skip(&mut self) -> Result<(Kind, Range<usize>), Malformed> {
        let start = self.at;
        let mut kind = None;
        let mut pending = 1_u64;
        while pending > 0 {
            pending -= 1;
            let (items, this) = match self.head()? {
                Head::Str(len) => (0, self.text(len).map(|_| Kind::Other)?),
                Head::Bin(len) => (0, self.bytes(len).map(|_| Kind::Other)?),
                Head::Ext(len) => (0, self.bytes(len + 1).map(|_| Kind::Other)?),
                Head::List(len) => (len, Kind::List),
                Head::Map(len) => (len * 2, Kind::Map),
                _ => (0, Kind::Other),
            };
            kind.get_or_insert(this);
            pending += items;
            // Every item takes a byte at least, so a lying length ends here and not at the end of the input.
            if pending > self.left() {
                return self.fault("ends too early");
            }
        }
        Ok((kind.unwrap_or(Kind::Other), start..self.at))
    }

    fn finish(&mut self) -> Result<(), Malformed> {
        if self.left() == 0 { Ok(()) } else { self.fault("something follows the value") }
    }
}

impl<'a> MsgPackReader<'a> {
    fn fault<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed { what, at: self.at })
    }

    fn left(&self) -> u64 {
        self.input.len().saturating_sub(self.at) as u64
    }

    fn open(&self, len: u64, map: bool) -> Result<Open, Malformed> {
        let left = if map { len * 2 } else { len };
        if left > self.left() {
            return self.fault("ends too early");
        }
        Ok(Open { left: Some(left), first: true, map })
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.saturating_add(len);
        let Some(bytes) = self.input.get(self.at..end) else { return self.fault("ends too early") };
        self.at = end;
        Ok(bytes)
    }

    fn text(&mut self, len: usize) -> Result<&'a str, Malformed> {
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

    /// An unsigned number of 1, 2, 4 or 8 bytes: 2^`power`.
    fn number(&mut self, power: u8) -> Result<u64, Malformed> {
        Ok(match power {
            0 => u64::from(u8::from_be_bytes(self.array()?)),
            1 => u64::from(u16::from_be_bytes(self.array()?)),
            2 => u64::from(u32::from_be_bytes(self.array()?)),
            _ => u64::from_be_bytes(self.array()?),
        })
    }

    /// A length of 1, 2 or 4 bytes.
    fn length(&mut self, power: u8) -> Result<usize, Malformed> {
        Ok(usize::try_from(self.number(power)?).unwrap_or(usize::MAX))
    }

    fn head(&mut self) -> Result<Head, Malformed> {
        let [first] = self.array()?;
        Ok(match first {
            0x00..=0x7F => Head::Uint(u64::from(first)),
            0x80..=0x8F => Head::Map(u64::from(first & 0x0F)),
            0x90..=0x9F => Head::List(u64::from(first & 0x0F)),
            0xA0..=0xBF => Head::Str(usize::from(first & 0x1F)),
            0xC0 => Head::Nil,
            0xC1 => {
                self.at -= 1;
                return self.fault("a byte that MsgPack never uses");
            }
            0xC2 | 0xC3 => Head::Bool(first == 0xC3),
            0xC4..=0xC6 => Head::Bin(self.length(first - 0xC4)?),
            0xC7..=0xC9 => Head::Ext(self.length(first - 0xC7)?),
            0xCA => Head::F32(f32::from_be_bytes(self.array()?)),
            0xCB => Head::F64(f64::from_be_bytes(self.array()?)),
            0xCC..=0xCF => Head::Uint(self.number(first - 0xCC)?),
            0xD0 => Head::Int(i64::from(i8::from_be_bytes(self.array()?))),
            0xD1 => Head::Int(i64::from(i16::from_be_bytes(self.array()?))),
            0xD2 => Head::Int(i64::from(i32::from_be_bytes(self.array()?))),
            0xD3 => Head::Int(i64::from_be_bytes(self.array()?)),
            0xD4..=0xD8 => Head::Ext(1 << (first - 0xD4)),
            0xD9..=0xDB => Head::Str(self.length(first - 0xD9)?),
            0xDC | 0xDD => Head::List(self.number(first - 0xDC + 1)?),
            0xDE | 0xDF => Head::Map(self.number(first - 0xDE + 1)?),
            0xE0..=0xFF => Head::Int(i64::from(first.cast_signed())),
        })
    }
}

/// Writes MsgPack.
pub(crate) struct MsgPackWriter<'b> {
    out: &'b mut BytesMut,
}

impl<'b> MsgPackWriter<'b> {
    /// Appends to `out`.
    pub(crate) fn new(out: &'b mut BytesMut) -> Self {
        MsgPackWriter { out }
    }

    /// A head with a length: `short` for lengths below `bound`, else `marks` for 1, 2 and 4 bytes of length.
    fn head(&mut self, len: usize, short: u8, bound: usize, marks: [Option<u8>; 3]) {
        let [one, two, four] = marks;
        match (u8::try_from(len), u16::try_from(len), one) {
            (Ok(small), ..) if len < bound => self.out.put_u8(short | small),
            (Ok(small), _, Some(mark)) => self.out.put_slice(&[mark, small]),
            (_, Ok(len), _) => {
                self.out.put_u8(two.unwrap_or_default());
                self.out.put_u16(len);
            }
            _ => {
                self.out.put_u8(four.unwrap_or_default());
                self.out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
            }
        }
    }
}

impl Writer for MsgPackWriter<'_> {
    fn list(&mut self, len: usize) {
        self.head(len, 0x90, 16, [None, Some(0xDC), Some(0xDD)]);
    }

    fn end_list(&mut self) {}

    fn map(&mut self, len: usize) {
        self.head(len, 0x80, 16, [None, Some(0xDE), Some(0xDF)]);
    }

    fn end_map(&mut self) {}

    fn key(&mut self, key: &str) {
        self.str(key);
    }

    fn null(&mut self) {
        self.out.put_u8(0xC0);
    }

    fn bool(&mut self, value: bool) {
        self.out.put_u8(if value { 0xC3 } else { 0xC2 });
    }

    fn uint(&mut self, value: u64) {
        if let Ok(value) = u8::try_from(value) {
            if value >= 0x80 {
                self.out.put_u8(0xCC);
            }
            self.out.put_u8(value);
        } else if let Ok(value) = u16::try_from(value) {
            self.out.put_u8(0xCD);
            self.out.put_u16(value);
        } else if let Ok(value) = u32::try_from(value) {
            self.out.put_u8(0xCE);
            self.out.put_u32(value);
        } else {
            self.out.put_u8(0xCF);
            self.out.put_u64(value);
        }
    }

    /// Below -2^63 there is no integer in MsgPack: the nearest number of 64 bits.
    fn negative(&mut self, n: u64) {
        let Ok(n) = i64::try_from(n) else { return self.f64(-1.0 - n as f64) };
        let value = !n;
        if value >= -32 {
            self.out.put_i8(value as i8);
        } else if let Ok(value) = i8::try_from(value) {
            self.out.put_u8(0xD0);
            self.out.put_i8(value);
        } else if let Ok(value) = i16::try_from(value) {
            self.out.put_u8(0xD1);
            self.out.put_i16(value);
        } else if let Ok(value) = i32::try_from(value) {
            self.out.put_u8(0xD2);
            self.out.put_i32(value);
        } else {
            self.out.put_u8(0xD3);
            self.out.put_i64(value);
        }
    }

    fn f32(&mut self, value: f32) {
        self.out.put_u8(0xCA);
        self.out.put_f32(value);
    }

    fn f64(&mut self, value: f64) {
        self.out.put_u8(0xCB);
        self.out.put_f64(value);
    }

    fn str(&mut self, value: &str) {
        self.head(value.len(), 0xA0, 32, [Some(0xD9), Some(0xDA), Some(0xDB)]);
        self.out.put_slice(value.as_bytes());
    }

    fn bin(&mut self, value: &[u8]) {
        self.head(value.len(), 0, 0, [Some(0xC4), Some(0xC5), Some(0xC6)]);
        self.out.put_slice(value);
    }

    fn raw(&mut self, encoded: &[u8]) {
        self.out.put_slice(encoded);
    }
}
