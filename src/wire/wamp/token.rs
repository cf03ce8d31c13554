//! The one token stream that JSON, MsgPack and CBOR are read as and written from; neither side recurses.
use crate::model::id::{MAX_ID, whole};
use std::borrow::Cow;
use std::ops::Range;

/// Bytes that are not of the encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed {
    /// The fault in words.
    pub(crate) what: &'static str,
    /// Offset of the fault in bytes.
    pub(crate) at: usize,
}

/// A list or dictionary that has been opened; its reader says by `Reader::more` when it is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Open {
    /// Tokens to come (a dictionary has two per entry); `None` = up to a closing mark.
    pub(crate) left: Option<u64>,
    /// Nothing was read from it yet.
    pub(crate) first: bool,
    /// A dictionary.
    pub(crate) map: bool,
}

/// One item, or the head of one.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Token<'a> {
    /// Null, nil; CBOR `undefined` too.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer from 0.
    Uint(u64),
    /// The integer -1 - n, as CBOR counts.
    Negative(u64),
    /// An integer of any size, big-endian (CBOR tags 2 and 3); `negative` stands for -1 - n.
    Big { negative: bool, bytes: Cow<'a, [u8]> },
    /// A JSON number that is no integer of 64 bits, as it is spelled.
    Decimal(&'a str),
    /// A number in 32 bits (or 16: CBOR's half).
    F32(f32),
    /// A number in 64 bits.
    F64(f64),
    /// Text.
    Str(Cow<'a, str>),
    /// Binary.
    Bin(Cow<'a, [u8]>),
    /// MsgPack's typed binary.
    Ext(i8, &'a [u8]),
    /// CBOR's mark on the item that follows.
    Tag(u64),
    /// A list begins.
    List(Open),
    /// A dictionary begins; keys and values follow by turns.
    Map(Open),
}

impl Token<'_> {
    /// The integer from 0 that it says, in any spelling of a whole number. Under wampy, msgpackr and cbor-x write those from 2^32
    /// on as doubles, and clients whose only numbers are doubles write `1.0` in JSON.
    #[inline]
    pub(crate) fn uint(&self) -> Option<u64> {
        match self {
            Token::Uint(value) => Some(*value),
            rare => rare.uint_of_decimal(),
        }
    }

    #[cold]
    fn uint_of_decimal(&self) -> Option<u64> {
        match self {
            Token::F32(value) => whole(f64::from(*value)),
            Token::F64(value) => whole(*value),
            Token::Decimal(text) => whole_decimal(text),
            Token::Big { negative: false, bytes } => {
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                let bytes = bytes.get(zeros..).filter(|bytes| bytes.len() <= 8)?;
                Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
            }
            _ => None,
        }
    }

    /// The id that it says.
    pub(crate) fn id(&self) -> Option<u64> {
        self.uint().filter(|id| (1..=MAX_ID).contains(id))
    }
}

/// The kind of an item that was passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A list.
    List,
    /// A dictionary.
    Map,
    /// Anything else.
    Other,
}

/// Reads one encoded value, item by item. Never allocates by a declared length, never recurses.
pub(crate) trait Reader<'a>: Clone {
    /// At the first byte of `input`, as envelopes are read.
    fn start(input: &'a [u8]) -> Result<Self, Malformed>;

    /// At the first byte of `input`, as payloads are read: what no Unicode string can hold becomes U+FFFD.
    fn start_lenient(input: &'a [u8]) -> Result<Self, Malformed> {
        Self::start(input)
    }

    /// The next item, where one is due.
    fn read(&mut self) -> Result<Token<'a>, Malformed>;

    /// The next key of a dictionary, where one is due.
    fn read_key(&mut self) -> Result<Token<'a>, Malformed> {
        self.read()
    }

    /// True if `open` has another item (in a dictionary: entry). Consumes what separates or closes. Dictionaries are asked once
    /// per entry.
    fn more(&mut self, open: &mut Open) -> Result<bool, Malformed>;

    /// Passes over the next value, however deep, and says what it was and where it stands. Fully validated.
    fn skip(&mut self) -> Result<(Kind, Range<usize>), Malformed>;

    /// Fails if anything but allowed filling follows.
    fn finish(&mut self) -> Result<(), Malformed>;
}

/// Writes items one after the other.
pub(crate) trait Writer {
    /// A list of `len` items begins.
    fn list(&mut self, len: usize);
    /// The list is complete.
    fn end_list(&mut self);
    /// A dictionary of `len` entries begins.
    fn map(&mut self, len: usize);
    /// The dictionary is complete.
    fn end_map(&mut self);
    /// The key of an entry; its value is written next.
    fn key(&mut self, key: &str);
    /// Null.
    fn null(&mut self);
    /// A boolean.
    fn bool(&mut self, value: bool);
    /// An integer from 0.
    fn uint(&mut self, value: u64);
    /// The integer -1 - n.
    fn negative(&mut self, n: u64);
    /// A number of 32 bits.
    fn f32(&mut self, value: f32);
    /// A number of 64 bits.
    fn f64(&mut self, value: f64);
    /// Text.
    fn str(&mut self, value: &str);
    /// Binary.
    fn bin(&mut self, value: &[u8]);
    /// One value that is encoded already.
    fn raw(&mut self, encoded: &[u8]);
}

impl Token<'_> {
    /// The integer -1 - n for a negative number.
    pub(crate) fn from_i64(value: i64) -> Self {
        match u64::try_from(value) {
            Ok(value) => Token::Uint(value),
            Err(_) => Token::Negative(!value.cast_unsigned()),
        }
    }
}

/// Writes the signed integer `value`.
pub(crate) fn write_i64<W: Writer>(writer: &mut W, value: i64) {
    match u64::try_from(value) {
        Ok(value) => writer.uint(value),
        Err(_) => writer.negative(!value.cast_unsigned()),
    }
}

/// The integer from 0 that a JSON number is, also one with a point or an exponent (`1.0`, `5e0`, `1.5E1`), exactly; `None` if it is
/// none of 64 bits.
pub(crate) fn whole_decimal(text: &str) -> Option<u64> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.trim_start_matches('-').bytes().chain(fraction.bytes());
    let significant = digits().skip_while(|digit| *digit == b'0').count();
    if significant == 0 {
        return Some(0);
    }
    let zeros_behind = fraction.bytes().rev().chain(whole.bytes().rev()).take_while(|digit| *digit == b'0').count();
    // Digits that count, and by how many places the point stands behind the last of them.
    let kept = significant.checked_sub(zeros_behind)?;
    let places =
        i64::try_from(zeros_behind).ok()? - i64::try_from(fraction.len()).ok()? + exponent.parse::<i32>().map(i64::from).ok()?;
    if whole.starts_with('-') || kept > 20 || !(0..20).contains(&places) {
        return None;
    }
    let value = digits().skip_while(|digit| *digit == b'0').take(kept);
    let value = value.chain(std::iter::repeat_n(b'0', usize::try_from(places).ok()?));
    value.map(|digit| u64::from(digit - b'0')).try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(digit))
}

/// The number that decimal `text` spells, unless it is beyond the range of doubles.
pub(crate) fn to_f64(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// The number of 64 bits nearest to a big integer.
pub(crate) fn big_to_f64(negative: bool, bytes: &[u8]) -> f64 {
    let magnitude = bytes.iter().fold(0.0_f64, |sum, byte| sum * 256.0 + f64::from(*byte));
    if negative { -1.0 - magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_an_integer_however_it_is_spelled() {
        for (text, expected) in [
            ("1.0", Some(1)),
            ("5e0", Some(5)),
            ("1.5E1", Some(15)),
            ("0.05e+2", Some(5)),
            ("120e-1", Some(12)),
            ("100.00e-2", Some(1)),
            ("-0", Some(0)),
            ("-0.0e7", Some(0)),
            ("0e999999999999", Some(0)),
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("18446744073709551615.0", Some(u64::MAX)),
            ("1e19", Some(10_000_000_000_000_000_000)),
            ("18446744073709551616", None),
            ("1e20", None),
            ("1e999999999999", None),
            ("1e-999999999999", None),
            ("1.5", None),
            ("0.1", None),
            ("15e-1", None),
            ("-1.0", None),
            ("1e-1", None),
        ] {
            assert_eq!(Token::Decimal(text).uint(), expected, "{text}");
        }
        let big = |bytes: &[u8]| Token::Big { negative: false, bytes: bytes.to_vec().into() }.uint();
        assert_eq!((big(&[0, 1, 0]), big(&[0; 40]), big(&[1; 9])), (Some(256), Some(0), None));
        assert_eq!((Token::F32(7.0).uint(), Token::F32(7.5).uint(), Token::F64(-0.0).uint()), (Some(7), None, Some(0)));
        assert_eq!((Token::F64(f64::NAN).uint(), Token::F32(f32::INFINITY).uint()), (None, None));
    }

    #[test]
    fn long_numbers_cost_no_more_than_they_are_long() {
        let zeros = "0".repeat(1_000_000);
        assert_eq!(Token::Decimal(&format!("1{zeros}e-1000000")).uint(), Some(1));
        assert_eq!(Token::Decimal(&format!("0.{zeros}1e1000001")).uint(), Some(1));
        assert_eq!(Token::Decimal(&format!("7.{zeros}")).uint(), Some(7));
        assert_eq!(Token::Decimal(&format!("7{zeros}")).uint(), None);
    }
}
