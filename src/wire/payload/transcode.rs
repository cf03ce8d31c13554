//! One value from one encoding into another, token by token, without recursion and without a tree in between.
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::MAX_DEPTH;
use super::sink::Sink;
use crate::model::Encoding;
use crate::wire::wamp::cbor::{CborReader, CborWriter};
use crate::wire::wamp::json::{JsonReader, JsonWriter, binary_of};
use crate::wire::wamp::msgpack::{MsgPackReader, MsgPackWriter};
use crate::wire::wamp::token::{Malformed, Open, Reader, Token};

/// Why a value cannot be converted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unfit {
    /// The value is not of its encoding.
    Malformed,
    /// The value is nested deeper than `MAX_DEPTH`.
    TooDeep,
}

impl From<Malformed> for Unfit {
    fn from(_: Malformed) -> Self {
        Unfit::Malformed
    }
}

/// Takes the parts of a value in the order in which a walk meets them.
trait Visitor {
    /// A container begins.
    fn open(&mut self, open: Open);
    /// The innermost container has another item (in a dictionary: entry).
    fn item(&mut self);
    /// A key that is a scalar.
    fn key(&mut self, key: Token<'_>);
    /// A scalar.
    fn scalar(&mut self, token: Token<'_>);
    /// The innermost container ends.
    fn close(&mut self, map: bool);
}

/// Walks over one value; tags are left out.
fn walk<'a, R: Reader<'a>>(input: &'a [u8], reader: &mut R, visitor: &mut impl Visitor) -> Result<(), Unfit> {
    let mut stack: SmallVec<[Open; 16]> = SmallVec::new();
    loop {
        match reader.read()? {
            Token::Tag(_) => continue,
            Token::List(open) | Token::Map(open) => {
                if stack.len() >= MAX_DEPTH {
                    return Err(Unfit::TooDeep);
                }
                visitor.open(open);
                stack.push(open);
            }
            scalar => visitor.scalar(scalar),
        }
        loop {
            let Some(open) = stack.last_mut() else { return Ok(()) };
            if reader.more(open)? {
                visitor.item();
                if open.map {
                    walk_key(input, reader, visitor)?;
                }
                break;
            }
            visitor.close(open.map);
            stack.pop();
        }
    }
}

/// Takes a key. One that is a container stands for the binary of its encoding.
fn walk_key<'a, R: Reader<'a>>(input: &'a [u8], reader: &mut R, visitor: &mut impl Visitor) -> Result<(), Unfit> {
    loop {
        let before = reader.clone();
        match reader.read_key()? {
            Token::Tag(_) => {}
            Token::List(_) | Token::Map(_) => {
                *reader = before;
                let (_, range) = reader.skip()?;
                visitor.key(Token::Bin(input.get(range).unwrap_or_default().into()));
                return Ok(());
            }
            key => {
                visitor.key(key);
                return Ok(());
            }
        }
    }
}

/// Only looks whether the walk succeeds.
struct Looker;

impl Visitor for Looker {
    fn open(&mut self, _: Open) {}
    fn item(&mut self) {}
    fn key(&mut self, _: Token<'_>) {}
    fn scalar(&mut self, _: Token<'_>) {}
    fn close(&mut self, _: bool) {}
}

/// Counts the items of every container, in the order in which they begin: the binary encodings say lengths first.
#[derive(Default)]
struct Counter {
    lengths: Vec<u32>,
    /// Where the counts of the open containers stand.
    open: Vec<usize>,
}

impl Visitor for Counter {
    fn open(&mut self, _: Open) {
        self.open.push(self.lengths.len());
        self.lengths.push(0);
    }

    fn item(&mut self) {
        if let Some(length) = self.open.last().and_then(|at| self.lengths.get_mut(*at)) {
            *length += 1;
        }
    }

    fn key(&mut self, _: Token<'_>) {}

    fn scalar(&mut self, _: Token<'_>) {}

    fn close(&mut self, _: bool) {
        self.open.pop();
    }
}

/// Writes what it meets.
struct Transcriber<S> {
    sink: S,
    /// Lengths of the containers to come, where the source does not say them and the target wants them.
    lengths: Option<std::vec::IntoIter<u32>>,
    /// The source is JSON: strings may be binary.
    from_json: bool,
}

impl<S: Sink> Visitor for Transcriber<S> {
    fn open(&mut self, open: Open) {
        let said = open.left.map_or(0, |left| if open.map { left / 2 } else { left });
        let length = match &mut self.lengths {
            Some(lengths) => u64::from(lengths.next().unwrap_or(0)),
            None => said,
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if open.map { self.sink.map(length) } else { self.sink.list(length) }
    }

    fn item(&mut self) {}

    fn key(&mut self, key: Token<'_>) {
        self.sink.key_token(&key);
    }

    fn scalar(&mut self, token: Token<'_>) {
        match &token {
            Token::Str(text) if self.from_json && text.starts_with('\0') => match binary_of(text) {
                Some(bytes) => self.sink.bin(&bytes),
                None => self.sink.str(text),
            },
            _ => self.sink.scalar(&token),
        }
    }

    fn close(&mut self, map: bool) {
        if map { self.sink.end_map() } else { self.sink.end_list() }
    }
}

/// The one value that `text` is as JSON, without the white space around it; `None` where `text` is no JSON text. This decides for both
/// directions: text deeper than `MAX_DEPTH` is none, and a byte order mark before the value is passed over, as some put one there.
pub(super) fn json_of(text: &str) -> Option<&str> {
    let json = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Most text that is none shows so in its first character.
    let first = json.bytes().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))?;
    if !matches!(first, b'"' | b'[' | b'{' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') {
        return None;
    }
    let mut reader = JsonReader::of_text(json);
    let (_, range) = reader.skip().ok()?;
    reader.finish().ok()?;
    json.get(range).filter(|_| reader.deepest() <= MAX_DEPTH)
}

/// The one value in `input`, without what surrounds it, if `input` is nothing else and not too deep.
pub(super) fn check(encoding: Encoding, input: &Bytes) -> Result<Bytes, Unfit> {
    fn with<'a, R: Reader<'a>>(input: &'a Bytes) -> Result<Bytes, Unfit> {
        let mut reader = R::start_lenient(input)?;
        let (_, range) = reader.skip()?;
        reader.finish()?;
        walk(input, &mut R::start_lenient(input)?, &mut Looker)?;
        Ok(input.slice(range))
    }
    match encoding {
        Encoding::Json => {
            let text = std::str::from_utf8(input).map_err(|_| Unfit::Malformed)?;
            json_of(text).map(|value| input.slice_ref(value.as_bytes())).ok_or(Unfit::Malformed)
        }
        Encoding::MsgPack => with::<MsgPackReader<'_>>(input),
        Encoding::Cbor => with::<CborReader<'_>>(input),
    }
}

/// Appends the value `input` to `out` in another encoding, or as it is if that is the same. On failure `out` is as before.
pub(super) fn append(encoding: Encoding, input: &Bytes, target: Encoding, out: &mut BytesMut) -> Result<(), Unfit> {
    let before = out.len();
    let result = match encoding {
        _ if encoding == target => {
            out.extend_from_slice(input);
            Ok(())
        }
        Encoding::Json => append_from::<JsonReader<'_>>(encoding, input, target, out),
        Encoding::MsgPack => append_from::<MsgPackReader<'_>>(encoding, input, target, out),
        Encoding::Cbor => append_from::<CborReader<'_>>(encoding, input, target, out),
    };
    if result.is_err() {
        out.truncate(before);
    }
    result
}

fn append_from<'a, R: Reader<'a>>(
    encoding: Encoding,
    input: &'a Bytes,
    target: Encoding,
    out: &mut BytesMut,
) -> Result<(), Unfit> {
    let mut reader = R::start_lenient(input)?;
    let from_json = encoding == Encoding::Json;
    // JSON never says lengths and CBOR may leave them out; MsgPack always says them, and JSON does not want them.
    let lengths = if target == Encoding::Json || encoding == Encoding::MsgPack {
        None
    } else {
        let mut counter = Counter::default();
        walk(input, &mut reader.clone(), &mut counter)?;
        Some(counter.lengths.into_iter())
    };
    match target {
        Encoding::Json => {
            walk(input, &mut reader, &mut Transcriber { sink: JsonWriter::new(out), lengths, from_json })?;
        }
        Encoding::MsgPack => {
            walk(input, &mut reader, &mut Transcriber { sink: MsgPackWriter::new(out), lengths, from_json })?;
        }
        Encoding::Cbor => {
            walk(input, &mut reader, &mut Transcriber { sink: CborWriter::new(out), lengths, from_json })?;
        }
    }
    Ok(reader.finish()?)
}
