//! JSON as tokens (RFC 8259): a reader that never recurses and a writer of the shortest form.
use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};

use super::token::{Kind, Malformed, Open, Reader, Token, Writer};

/// Reads JSON text.
#[derive(Clone)]
pub(crate) struct JsonReader<'a> {
    text: &'a str,
    at: usize,
    /// The most containers that `skip` has found open at a time.
    deepest: usize,
    /// Half a surrogate pair, which no Unicode string can hold, becomes U+FFFD; otherwise it is a fault.
    lenient: bool,
}

impl<'a> Reader<'a> for JsonReader<'a> {
    fn start(input: &'a [u8]) -> Result<Self, Malformed> {
        match std::str::from_utf8(input) {
            Ok(text) => Ok(Self::of_text(text)),
            Err(error) => Err(Malformed { what: "text is not UTF-8", at: error.valid_up_to() }),
        }
    }

    fn start_lenient(input: &'a [u8]) -> Result<Self, Malformed> {
        Self::start(input).map(|strict| JsonReader { lenient: true, ..strict })
    }

    fn read(&mut self) -> Result<Token<'a>, Malformed> {
        self.skip_space();
        let Some(first) = self.peek() else { return self.fault("ends too early") };
        match first {
            b'"' => self.read_str().map(Token::Str),
            b'[' | b'{' => {
                self.at += 1;
                let open = Open { left: None, first: true, map: first == b'{' };
                Ok(if open.map { Token::Map(open) } else { Token::List(open) })
            }
            b'-' | b'0'..=b'9' => self.read_number(),
            b't' => self.literal("true").map(|()| Token::Bool(true)),
            b'f' => self.literal("false").map(|()| Token::Bool(false)),
            b'n' => self.literal("null").map(|()| Token::Null),
            _ => self.fault("expected a value"),
        }
    }

    fn read_key(&mut self) -> Result<Token<'a>, Malformed> {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return self.fault("expected a key in quotes");
        }
        let key = self.read_str()?;
        self.expect(b':', "expected a colon after the key")?;
        Ok(Token::Str(key))
    }

    fn more(&mut self, open: &mut Open) -> Result<bool, Malformed> {
        self.skip_space();
        let close = if open.map { b'}' } else { b']' };
        let first = std::mem::replace(&mut open.first, false);
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) if first => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => self.fault("expected a comma or the end of the container"),
            None => self.fault("ends too early"),
        }
    }

    fn skip(&mut self) -> Result<(Kind, Range<usize>), Malformed> {
        self.skip_space();
        let start = self.at;
        let kind = match self.peek() {
            Some(b'[') => Kind::List,
            Some(b'{') => Kind::Map,
            _ => Kind::Other,
        };
        let mut nest = Nest::default();
        loop {
            if !self.skip_head(&mut nest)? && !self.skip_tail(&mut nest)? {
                return Ok((kind, start..self.at));
            }
        }
    }

    fn finish(&mut self) -> Result<(), Malformed> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { self.fault("something follows the value") }
    }
}

impl<'a> JsonReader<'a> {
    /// At the start of `text`.
    pub(crate) fn of_text(text: &'a str) -> Self {
        JsonReader { text, at: 0, deepest: 0, lenient: false }
    }

    /// The most containers that were open at a time in what has been skipped.
    pub(crate) fn deepest(&self) -> usize {
        self.deepest
    }

    fn fault<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed { what, at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The rest of the text, as bytes.
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes over spaces, then exactly this byte.
    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Malformed> {
        self.skip_space();
        if self.peek() != Some(byte) {
            return self.fault(what);
        }
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self, word: &'static str) -> Result<(), Malformed> {
        if !self.rest().starts_with(word.as_bytes()) {
            return self.fault("expected true, false or null");
        }
        self.at += word.len();
        Ok(())
    }

    /// Passes over a scalar, or opens a container and its first key. True: a value is due next.
    fn skip_head(&mut self, nest: &mut Nest) -> Result<bool, Malformed> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => self.skip_str()?,
            Some(b'-' | b'0'..=b'9') => self.skip_number()?,
            Some(b't') => self.literal("true")?,
            Some(b'f') => self.literal("false")?,
            Some(b'n') => self.literal("null")?,
            Some(byte @ (b'[' | b'{')) => {
                self.at += 1;
                self.skip_space();
                if self.peek() == Some(if byte == b'{' { b'}' } else { b']' }) {
                    self.at += 1;
                    self.deepest = self.deepest.max(nest.depth() + 1);
                    return Ok(false);
                }
                nest.push(byte == b'{');
                self.deepest = self.deepest.max(nest.depth());
                if byte == b'{' {
                    self.skip_key()?;
                }
                return Ok(true);
            }
            Some(_) => return self.fault("expected a value"),
            None => return self.fault("ends too early"),
        }
        Ok(false)
    }

    /// After a value: passes over closing marks up to the next value (true) or the end of all containers (false).
    fn skip_tail(&mut self, nest: &mut Nest) -> Result<bool, Malformed> {
        while let Some(map) = nest.top() {
            self.skip_space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    if map {
                        self.skip_key()?;
                    }
                    return Ok(true);
                }
                Some(b'}') if map => nest.pop(),
                Some(b']') if !map => nest.pop(),
                Some(_) => return self.fault("expected a comma or the end of the container"),
                None => return self.fault("ends too early"),
            }
            self.at += 1;
        }
        Ok(false)
    }

    fn skip_key(&mut self) -> Result<(), Malformed> {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return self.fault("expected a key in quotes");
        }
        self.skip_str()?;
        self.expect(b':', "expected a colon after the key")
    }

    /// Passes over a string; `at` is on its first quote.
    fn skip_str(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        loop {
            self.at += plain_run(self.rest());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.skip_escape()?,
                Some(_) => return self.fault("control character in a string"),
                None => return self.fault("string without an end"),
            }
        }
    }

    fn skip_escape(&mut self) -> Result<(), Malformed> {
        match self.rest() {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
            [_, b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => self.at += 6,
            _ => return self.fault("unknown escape in a string"),
        }
        Ok(())
    }

    fn read_str(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let start = self.at + 1;
        let run = plain_run(self.text.as_bytes().get(start..).unwrap_or_default());
        if self.text.as_bytes().get(start + run) == Some(&b'"') {
            self.at = start + run + 1;
            return Ok(Cow::Borrowed(self.text.get(start..start + run).unwrap_or_default()));
        }
        self.read_escaped().map(Cow::Owned)
    }

    fn read_escaped(&mut self) -> Result<String, Malformed> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let start = self.at;
            self.at += plain_run(self.rest());
            text.push_str(self.since(start));
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    let character = self.read_escape()?;
                    text.push(character);
                }
                Some(_) => return self.fault("control character in a string"),
                None => return self.fault("string without an end"),
            }
        }
    }

    fn read_escape(&mut self) -> Result<char, Malformed> {
        let start = self.at;
        self.skip_escape()?;
        let escape = self.since(start);
        Ok(match escape.as_bytes().get(1) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.read_unit(code_unit(escape)),
            Some(other) => char::from(*other),
            None => return self.fault("unknown escape in a string"),
        })
    }

    /// The character of a `\u` escape, together with the other half of a surrogate pair.
    fn read_unit(&mut self, unit: u32) -> Result<char, Malformed> {
        if let Some(character) = char::from_u32(unit) {
            return Ok(character);
        }
        let start = self.at;
        if (0xD800..0xDC00).contains(&unit) && self.rest().starts_with(b"\\u") {
            self.skip_escape()?;
            let low = code_unit(self.since(start));
            if (0xDC00..0xE000).contains(&low) {
                let point = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                return Ok(char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = start;
        }
        if self.lenient { Ok(char::REPLACEMENT_CHARACTER) } else { self.fault("half a surrogate pair in a string") }
    }

    fn skip_digits(&mut self) -> usize {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// Passes over a number; true if it is an integer by its spelling.
    fn scan_number(&mut self) -> Result<bool, Malformed> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let digits = self.skip_digits();
        if digits == 0 || (leading_zero && digits > 1) {
            return self.fault("not a number");
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            self.at += 1;
            integer = false;
            if self.skip_digits() == 0 {
                return self.fault("not a number");
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            integer = false;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.skip_digits() == 0 {
                return self.fault("not a number");
            }
        }
        Ok(integer)
    }

    fn skip_number(&mut self) -> Result<(), Malformed> {
        self.scan_number().map(|_| ())
    }

    fn read_number(&mut self) -> Result<Token<'a>, Malformed> {
        let start = self.at;
        let integer = self.scan_number()?;
        let text = self.since(start);
        if integer {
            if let Ok(value) = text.parse::<u64>() {
                return Ok(Token::Uint(value));
            }
            if let Some(n) = text.strip_prefix('-').and_then(|digits| digits.parse::<u128>().ok()?.checked_sub(1))
                && let Ok(n) = u64::try_from(n)
            {
                return Ok(Token::Negative(n));
            }
        }
        Ok(Token::Decimal(text))
    }
}

/// The four hexadecimal digits of `\uXXXX`.
fn code_unit(escape: &str) -> u32 {
    escape.get(2..).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// The number of bytes at the start of `bytes` that need no attention inside a string: neither quote, backslash nor control.
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut run = 0;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * u64::from(b'"'));
        let slash = word ^ (ONES * u64::from(b'\\'));
        let found =
            (word.wrapping_sub(ONES * 0x20) & !word) | (quote.wrapping_sub(ONES) & !quote) | (slash.wrapping_sub(ONES) & !slash);
        let found = found & (ONES << 7);
        if found != 0 {
            return run + found.trailing_zeros() as usize / 8;
        }
        run += 8;
    }
    run + rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1F)).count()
}

/// The open containers of a value of any depth, one bit each: 1 = dictionary.
#[derive(Default)]
struct Nest {
    top: u64,
    used: u32,
    spilled: Vec<u64>,
}

impl Nest {
    fn push(&mut self, map: bool) {
        if self.used == u64::BITS {
            self.spilled.push(self.top);
            self.used = 0;
        }
        self.top = self.top << 1 | u64::from(map);
        self.used += 1;
    }

    fn depth(&self) -> usize {
        self.spilled.len() * u64::BITS as usize + self.used as usize
    }

    fn top(&self) -> Option<bool> {
        (self.used > 0).then_some(self.top & 1 == 1)
    }

    fn pop(&mut self) {
        self.top >>= 1;
        self.used = self.used.saturating_sub(1);
        if self.used == 0
            && let Some(word) = self.spilled.pop()
        {
            self.top = word;
            self.used = u64::BITS;
        }
    }
}

/// Writes JSON text without spaces.
pub(crate) struct JsonWriter<'b> {
    out: &'b mut BytesMut,
    /// The next item is the first of its container, or the value of a key.
    fresh: bool,
}

impl<'b> JsonWriter<'b> {
    /// Appends to `out`.
    pub(crate) fn new(out: &'b mut BytesMut) -> Self {
        JsonWriter { out, fresh: true }
    }

    fn separate(&mut self) {
        if !self.fresh {
            self.out.put_u8(b',');
        }
        self.fresh = false;
    }

    fn open(&mut self, mark: u8) {
        self.separate();
        self.out.put_u8(mark);
        self.fresh = true;
    }

    fn close(&mut self, mark: u8) {
        self.out.put_u8(mark);
        self.fresh = false;
    }

    fn quoted(&mut self, text: &str) {
        self.out.put_u8(b'"');
        let mut rest = text.as_bytes();
        while let Some((plain, after)) = rest.split_at_checked(plain_run(rest)) {
            self.out.put_slice(plain);
            let Some((byte, after)) = after.split_first() else { break };
            put_escape(self.out, *byte);
            rest = after;
        }
        self.out.put_u8(b'"');
    }

    /// A number as it is spelled.
    pub(crate) fn number(&mut self, text: &str) {
        self.separate();
        self.out.put_slice(text.as_bytes());
    }
}

fn put_escape(out: &mut BytesMut, byte: u8) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        0x08 => b'b',
        0x0C => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.put_slice(b"\\u00");
            out.put_u8(if byte >= 0x10 { b'1' } else { b'0' });
            let low = byte & 0x0F;
            return out.put_u8(if low < 10 { b'0' + low } else { b'a' + low - 10 });
        }
    };
    out.put_slice(&[b'\\', short]);
}

impl Writer for JsonWriter<'_> {
    fn list(&mut self, _len: usize) {
        self.open(b'[');
    }

    fn end_list(&mut self) {
        self.close(b']');
    }

    fn map(&mut self, _len: usize) {
        self.open(b'{');
    }

    fn end_map(&mut self) {
        self.close(b'}');
    }

    fn key(&mut self, key: &str) {
        self.separate();
        self.quoted(key);
        self.out.put_u8(b':');
        self.fresh = true;
    }

    fn null(&mut self) {
        self.separate();
        self.out.put_slice(b"null");
    }

    fn bool(&mut self, value: bool) {
        self.separate();
        self.out.put_slice(if value { b"true" } else { b"false" });
    }

    fn uint(&mut self, value: u64) {
        self.separate();
        put_uint(self.out, value);
    }

    fn negative(&mut self, n: u64) {
        self.separate();
        self.out.put_u8(b'-');
        match n.checked_add(1) {
            Some(value) => put_uint(self.out, value),
            None => self.out.put_slice(b"18446744073709551616"),
        }
    }

    fn f32(&mut self, value: f32) {
        self.f64(f64::from(value));
    }

    /// The shortest spelling that reads back as the same number, always with a point or an exponent. A number that JSON cannot
    /// spell (NaN, infinities) is null.
    fn f64(&mut self, value: f64) {
        if !value.is_finite() {
            return self.null();
        }
        self.separate();
        let written = write!(self.out, "{value:?}");
        debug_assert!(written.is_ok(), "a buffer that grows takes every number");
    }

    fn str(&mut self, value: &str) {
        self.separate();
        self.quoted(value);
    }

    /// WAMP: Advanced, Binary support in JSON.
    fn bin(&mut self, value: &[u8]) {
        self.separate();
        self.out.put_slice(b"\"\\u0000");
        self.out.put_slice(STANDARD.encode(value).as_bytes());
        self.out.put_u8(b'"');
    }

    fn raw(&mut self, encoded: &[u8]) {
        self.separate();
        self.out.put_slice(encoded);
    }
}

/// Appends `value` in decimal, two digits at a time.
fn put_uint(out: &mut BytesMut, value: u64) {
    let mut digits = [[0; 2]; 10];
    let (mut left, mut start) = (value, 2 * digits.len());
    for pair in digits.iter_mut().rev() {
        let two = (left % 100) as u8;
        *pair = [b'0' + two / 10, b'0' + two % 10];
        start -= 2;
        // A zero in front.
        start += usize::from(left < 10);
        left /= 100;
        if left == 0 {
            break;
        }
    }
    out.put_slice(digits.as_flattened().get(start..).unwrap_or_default());
}

/// The binary that WAMP's JSON rule put into the string `text`: NUL, then Base64 (WAMP: Advanced, Binary support in JSON).
pub(crate) fn binary_of(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.strip_prefix('\0')?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_with_all_their_digits_and_no_more() {
        let around = (0..20).flat_map(|power| [10_u64.pow(power) - 1, 10_u64.pow(power), 10_u64.pow(power) + 1]);
        for value in around.chain([u64::MAX, 9_007_199_254_740_992, 1_234_567_890_123_456_789]) {
            let mut out = BytesMut::new();
            put_uint(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }
}
