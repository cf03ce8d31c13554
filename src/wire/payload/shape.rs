//! The shape of encoded arguments seen from outside: empty, one value, many, or a call in disguise.
use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::transcode::{Unfit, json_of};
use crate::model::Encoding;
use crate::wire::wamp::cbor::CborReader;
use crate::wire::wamp::json::{JsonReader, binary_of};
use crate::wire::wamp::msgpack::MsgPackReader;
use crate::wire::wamp::token::{Kind, Malformed, Reader, Token};

/// The shape of a list or a dictionary of arguments.
#[derive(Debug)]
pub(super) enum Shape {
    /// Absent, or without an item.
    Empty,
    /// A list of one binary.
    Binary(Bytes),
    /// A list of one text that MQTT carries bare: the text, and where it stands encoded.
    Bare(Bytes, Range<usize>),
    /// A list of one value, which stands there.
    One(Range<usize>),
    /// A longer list, or a dictionary.
    Many,
}

/// Looks at one part of a payload.
pub(super) fn shape_of(encoding: Encoding, part: &Bytes) -> Result<Shape, Unfit> {
    if part.is_empty() {
        return Ok(Shape::Empty);
    }
    let shape = match encoding {
        Encoding::Json => shape_with::<JsonReader<'_>>(part, true),
        Encoding::MsgPack => shape_with::<MsgPackReader<'_>>(part, false),
        Encoding::Cbor => shape_with::<CborReader<'_>>(part, false),
    };
    Ok(shape?)
}

fn shape_with<'a, R: Reader<'a>>(part: &'a Bytes, json: bool) -> Result<Shape, Malformed> {
    let mut reader = R::start(part)?;
    let (Token::List(mut open) | Token::Map(mut open)) = reader.read()? else {
        return Err(Malformed { what: "neither a list nor a dictionary", at: 0 });
    };
    if !reader.more(&mut open)? {
        return Ok(Shape::Empty);
    }
    if open.map {
        return Ok(Shape::Many);
    }
    let mut first = reader.clone();
    let (_, range) = reader.skip()?;
    if reader.more(&mut open)? {
        return Ok(Shape::Many);
    }
    Ok(loop {
        break match first.read() {
            Ok(Token::Tag(_)) => continue,
            Ok(Token::Bin(bytes)) => Shape::Binary(slice_of(part, bytes)),
            Ok(Token::Str(text)) => match binary_of(&text).filter(|_| json) {
                Some(bytes) => Shape::Binary(bytes.into()),
                None if is_bare(&text) => Shape::Bare(slice_of(part, into_bytes(text)), range),
                None => Shape::One(range),
            },
            // The value was passed over without a fault but cannot be read: a text with half a surrogate pair, which JSON alone
            // allows.
            _ => Shape::One(range),
        };
    })
}

/// True for a text that comes back from MQTT as that text without quotes. Such a text is no JSON text, is not empty (zero bytes
/// are no argument) and does not begin with NUL (which marks binary).
pub(super) fn is_bare(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('\0') && json_of(text).is_none()
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// `bytes`, which may stand in `part`, without a copy if they do.
fn slice_of(part: &Bytes, bytes: Cow<'_, [u8]>) -> Bytes {
    match bytes {
        Cow::Borrowed(bytes) => part.slice_ref(bytes),
        Cow::Owned(bytes) => bytes.into(),
    }
}

/// Where args and kwargs stand in a value that is exactly `{"args":[…],"kwargs":{…}}`.
pub(super) fn call_of(encoding: Encoding, value: &Bytes) -> Option<(Range<usize>, Range<usize>)> {
    match encoding {
        Encoding::Json => call_with::<JsonReader<'_>>(value),
        Encoding::MsgPack => call_with::<MsgPackReader<'_>>(value),
        Encoding::Cbor => call_with::<CborReader<'_>>(value),
    }
}

fn call_with<'a, R: Reader<'a>>(value: &'a Bytes) -> Option<(Range<usize>, Range<usize>)> {
    let mut reader = R::start_lenient(value).ok()?;
    let Token::Map(mut open) = reader.read().ok()? else { return None };
    let (mut args, mut kwargs) = (None, None);
    while reader.more(&mut open).ok()? {
        let Token::Str(key) = reader.read_key().ok()? else { return None };
        let (slot, wanted) = match key.as_ref() {
            "args" => (&mut args, Kind::List),
            "kwargs" => (&mut kwargs, Kind::Map),
            _ => return None,
        };
        let (kind, range) = reader.skip().ok()?;
        if kind != wanted || slot.replace(range).is_some() {
            return None;
        }
    }
    Some((args?, kwargs?))
}

/// Which argument is sought.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sought<'a> {
    /// An item of the list.
    At(usize),
    /// The value under this key.
    Named(&'a str),
}

/// Where one argument stands in a list of arguments, or in a dictionary of them; `None` if it is not there.
pub(super) fn argument_of(encoding: Encoding, part: &Bytes, sought: Sought<'_>) -> Option<Range<usize>> {
    match encoding {
        Encoding::Json => argument_with::<JsonReader<'_>>(part, sought),
        Encoding::MsgPack => argument_with::<MsgPackReader<'_>>(part, sought),
        Encoding::Cbor => argument_with::<CborReader<'_>>(part, sought),
    }
}

fn argument_with<'a, R: Reader<'a>>(part: &'a Bytes, sought: Sought<'_>) -> Option<Range<usize>> {
    let mut reader = R::start_lenient(part).ok()?;
    let (Token::List(mut open) | Token::Map(mut open)) = reader.read().ok()? else { return None };
    let mut place = 0;
    while reader.more(&mut open).ok()? {
        let is_it = match (open.map, sought) {
            (false, Sought::At(wanted)) => wanted == place,
            (true, Sought::Named(name)) => matches!(reader.read_key().ok()?, Token::Str(key) if key == name),
            _ => return None,
        };
        let (_, range) = reader.skip().ok()?;
        if is_it {
            return Some(range);
        }
        place += 1;
    }
    None
}
