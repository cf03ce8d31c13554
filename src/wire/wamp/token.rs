//! The one token stream that JSON, MsgPack and CBOR are read as and written from; neither side recurses.
use crate::model::id::{MAX_ID, whole};
use std::borrow::Cow;
use std::ops::Range;

/// Bytes that are not of the encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed {
    /// What is wrong.
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
    /// The integer from 0 that it says. msgpackr and cbor-x, under wampy, write whole numbers from 2^32 on as doubles.
    pub(crate) fn uint(&self) -> Option<u64> {
        match self {
            Token::Uint(value) => Some(*value),
            Token::F64(value) => whole(*value),
            _ => None,
        }
    }

    /// The id that it says.
    pub(crate) fn id(&self) -> Option<u64> {
        self.uint().filter(|id| (1..=MAX_ID).contains(id))
    }
}

/// What kind of item was passed over.
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

    /// True if `open` has another item (in a dictionary: entry); consumes what separates or closes.
    /// Dictionaries are asked once per entry.
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

/// The number that decimal `text` spells, unless it is beyond the range of doubles.
pub(crate) fn to_f64(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// The number of 64 bits nearest to a big integer.
pub(crate) fn big_to_f64(negative: bool, bytes: &[u8]) -> f64 {
    let magnitude = bytes.iter().fold(0.0_f64, |sum, byte| sum * 256.0 + f64::from(*byte));
    if negative { -1.0 - magnitude } else { magnitude }
}
