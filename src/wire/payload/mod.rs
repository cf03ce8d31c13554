//! Payloads in the form that their receiver takes (MAPPING: Payloads).
//!
//! Every conversion is total: it may lose what the target cannot say, it never fails.
//!
//! The conversion of values that the target has no word for:
//!
//! | value | in JSON | in MsgPack | in CBOR |
//! |---|---|---|---|
//! | binary | `"\u0000"` and Base64; read back likewise | binary | byte string |
//! | integer beyond 64 bits | its digits | the nearest double | big integer (tags 2 and 3) |
//! | integer beyond the range of doubles | text (from CBOR: binary) | text (from CBOR: binary) | text |
//! | decimal beyond the range of doubles | as spelled | text | text |
//! | NaN, infinities | `null` | double | double |
//! | key that is no text | its text, or binary of the encoding of a list or dictionary | as it is, or likewise | as it is, or
//! likewise |
//! | MsgPack timestamp | seconds | | seconds under tag 1 |
//! | other MsgPack extension | binary of its data | | binary of its data |
//! | CBOR tag | the value without it | the value without it | |
//! | CBOR `undefined`, other simple values | `null`, their number | nil, their number | |
//! | half a surrogate pair in JSON | as spelled | U+FFFD | U+FFFD |
//! | text that begins with NUL and goes on in Base64 | read back as binary | as it is | as it is |
//!
//! Arguments nested deeper than [`MAX_DEPTH`] become binary of their encoding; an MQTT message of such JSON is text.
mod list;
mod number;
mod shape;
mod sink;
#[cfg(test)]
mod tests;
mod transcode;

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use self::shape::{Shape, Sought, argument_of, call_of, shape_of};
use self::transcode::{Unfit, append, check, json_of};
use super::wamp::cbor::CborWriter;
use super::wamp::json::JsonWriter;
use super::wamp::msgpack::MsgPackWriter;
use super::wamp::token::Writer;
use crate::model::payload::Body;
use crate::model::properties::Properties;
use crate::model::{Encoding, Payload};

/// Containers that a payload may nest and still be converted.
pub const MAX_DEPTH: usize = 512;

/// MQTT 5 content type of JSON.
pub const JSON_TYPE: &str = "application/json";
/// MQTT 5 content type of MsgPack.
pub const MSGPACK_TYPE: &str = "application/msgpack";
/// MQTT 5 content type of CBOR.
pub const CBOR_TYPE: &str = "application/cbor";

/// MQTT 5 content type of text.
pub const TEXT_TYPE: &str = "text/plain";
/// MQTT 5 content type of binary.
pub const BINARY_TYPE: &str = "application/octet-stream";

/// The reading of an MQTT application message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Form {
    /// JSON if it is JSON, else text if it is UTF-8 that does not begin with NUL, else binary.
    #[default]
    Auto,
    /// This encoding if it is of it, else as `Auto`.
    Encoded(Encoding),
    /// Binary, whatever it looks like.
    Binary,
}

impl Form {
    /// The form that a message says it has, by its content type.
    pub fn of(properties: Option<&Properties>) -> Self {
        match essence(properties).as_str() {
            MSGPACK_TYPE | "application/x-msgpack" | "application/vnd.msgpack" => Form::Encoded(Encoding::MsgPack),
            CBOR_TYPE => Form::Encoded(Encoding::Cbor),
            BINARY_TYPE => Form::Binary,
            _ => Form::Auto,
        }
    }
}

/// The content type without its parameters, in small letters; empty if there is none.
fn essence(properties: Option<&Properties>) -> String {
    let content_type = properties.and_then(|properties| properties.content_type.as_deref()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// True if `text` is JSON, within [`MAX_DEPTH`]: such text is read as its value, any other stays text.
pub fn is_json(text: &str) -> bool {
    json_of(text).is_some()
}

/// `payload` as arguments in `target`; `properties` are those of the message that carried it.
pub fn to_args(payload: &Payload, properties: Option<&Properties>, target: Encoding) -> Payload {
    match payload {
        Payload::Bytes(bytes) => bytes_to_args(bytes, Form::of(properties), target),
        Payload::Args { encoding, .. } if *encoding == target => payload.clone(),
        Payload::List(parts) => list::to_args(parts, target),
        Payload::Args { encoding, args, kwargs } => args_to_args(*encoding, args, kwargs, target),
    }
}

/// One argument, by its place or its name, as a payload of its own, still encoded as it is; and the payload without it (`null` stands
/// in its place). `None` if it is not there.
pub fn split(payload: &Payload, properties: Option<&Properties>, place: usize, name: &str) -> Option<(Payload, Payload)> {
    let encoding = match (payload, Form::of(properties)) {
        (Payload::Args { encoding, .. }, _) => *encoding,
        (_, Form::Encoded(encoding)) => encoding,
        _ => Encoding::Json,
    };
    let Payload::Args { args, kwargs, .. } = to_args(payload, properties, encoding) else { return None };
    let cut = |part: &Bytes, range: Range<usize>| {
        let mut rest = BytesMut::from(part.get(..range.start).unwrap_or_default());
        with_writer(encoding, &mut rest, |writer| writer.null());
        rest.extend_from_slice(part.get(range.end..).unwrap_or_default());
        let value = single(encoding, |writer| writer.raw(part.get(range).unwrap_or_default()));
        (value, rest.freeze())
    };
    if let Some(range) = argument_of(encoding, &kwargs, Sought::Named(name)) {
        let (value, kwargs) = cut(&kwargs, range);
        return Some((value, Payload::Args { encoding, args, kwargs }));
    }
    let range = argument_of(encoding, &args, Sought::At(place))?;
    let (value, args) = cut(&args, range);
    Some((value, Payload::Args { encoding, args, kwargs }))
}

/// An MQTT application message that is taken for `form` as arguments in `target`.
pub fn bytes_to_args(bytes: &Bytes, form: Form, target: Encoding) -> Payload {
    if bytes.is_empty() {
        return Payload::Args { encoding: target, args: Bytes::new(), kwargs: Bytes::new() };
    }
    let binary = || single(target, |writer| writer.bin(bytes));
    match form {
        Form::Binary => return binary(),
        Form::Auto | Form::Encoded(Encoding::Json) => {}
        Form::Encoded(encoding) => match check(encoding, bytes).and_then(|value| value_to_args(&value, encoding, target)) {
            Ok(converted) => return converted,
            Err(Unfit::TooDeep) => return binary(),
            Err(Unfit::Malformed) => {}
        },
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return binary() };
    match json_of(text).map(|value| value_to_args(&bytes.slice_ref(value.as_bytes()), Encoding::Json, target)) {
        Some(Ok(converted)) => converted,
        // JSON says that such a text is binary, so that it would not come back as text.
        Some(Err(_)) | None if text.starts_with('\0') => binary(),
        Some(Err(_)) | None => single(target, |writer| writer.str(text)),
    }
}

/// `payload` as an MQTT application message (MAPPING: Payloads). A lone text goes bare where it comes back as that text. Anything
/// else goes in JSON, or in the encoding that the content type among `properties` names.
pub fn to_bytes(payload: &Payload, properties: Option<&Properties>) -> Body {
    let properties = properties.filter(|properties| properties.content_type.is_some());
    let is_json = || matches!(essence(properties).rsplit(['/', '+']).next(), Some("json"));
    match Form::of(properties) {
        Form::Encoded(encoding) => body_of(payload, encoding, false),
        Form::Auto | Form::Binary => body_of(payload, Encoding::Json, !is_json()),
    }
}

/// `payload` as an MQTT application message, in `target` where it has to be encoded; a text too.
pub fn to_bytes_in(payload: &Payload, target: Encoding) -> Body {
    body_of(payload, target, false)
}

fn body_of(payload: &Payload, target: Encoding, is_text_bare: bool) -> Body {
    if let Payload::List(parts) = payload {
        return body_of(&list::to_args(parts, target), target, false);
    }
    let (encoding, args, kwargs) = match payload {
        Payload::Bytes(bytes) => return Body { bytes: bytes.clone(), content_type: None, is_utf8: false },
        Payload::List(_) => return Body { bytes: Bytes::new(), content_type: None, is_utf8: false },
        Payload::Args { encoding, args, kwargs } => (*encoding, args, kwargs),
    };
    match args_to_body(encoding, args, kwargs, (target, is_text_bare)) {
        Ok(body) => body,
        // Arguments that cannot be converted go as they came.
        Err(_) => args_to_body(encoding, args, kwargs, (encoding, false)).unwrap_or_else(|_| Body {
            bytes: if kwargs.is_empty() { args.clone() } else { [args.as_ref(), kwargs].concat().into() },
            content_type: None,
            is_utf8: false,
        }),
    }
}

/// Runs `write` with a writer of `encoding` that appends to `out`.
fn with_writer(encoding: Encoding, out: &mut BytesMut, write: impl FnOnce(&mut dyn Writer)) {
    match encoding {
        Encoding::Json => write(&mut JsonWriter::new(out)),
        Encoding::MsgPack => write(&mut MsgPackWriter::new(out)),
        Encoding::Cbor => write(&mut CborWriter::new(out)),
    }
}

/// Arguments of one value.
fn single(target: Encoding, write: impl FnOnce(&mut dyn Writer)) -> Payload {
    let mut out = BytesMut::new();
    with_writer(target, &mut out, |writer| {
        writer.list(1);
        write(writer);
        writer.end_list();
    });
    Payload::Args { encoding: target, args: out.freeze(), kwargs: Bytes::new() }
}

/// One encoded value, checked, as the one argument, or as args and kwargs where it is exactly `{"args":[…],"kwargs":{…}}`.
fn value_to_args(value: &Bytes, encoding: Encoding, target: Encoding) -> Result<Payload, Unfit> {
    if let Some((args, kwargs)) = call_of(encoding, value) {
        let args = convert(encoding, &value.slice(args), target)?;
        let kwargs = convert(encoding, &value.slice(kwargs), target)?;
        return Ok(Payload::Args { encoding: target, args, kwargs });
    }
    let mut out = BytesMut::with_capacity(value.len() + 2);
    out.put_u8(match target {
        Encoding::Json => b'[',
        Encoding::MsgPack => 0x91,
        Encoding::Cbor => 0x81,
    });
    append(encoding, value, target, &mut out)?;
    if target == Encoding::Json {
        out.put_u8(b']');
    }
    Ok(Payload::Args { encoding: target, args: out.freeze(), kwargs: Bytes::new() })
}

/// One encoded value in another encoding; itself if it is the same.
fn convert(encoding: Encoding, value: &Bytes, target: Encoding) -> Result<Bytes, Unfit> {
    if encoding == target || value.is_empty() {
        return Ok(value.clone());
    }
    let mut out = BytesMut::with_capacity(value.len());
    append(encoding, value, target, &mut out)?;
    Ok(out.freeze())
}

fn args_to_args(encoding: Encoding, args: &Bytes, kwargs: &Bytes, target: Encoding) -> Payload {
    match (convert(encoding, args, target), convert(encoding, kwargs, target)) {
        (Ok(args), Ok(kwargs)) => Payload::Args { encoding: target, args, kwargs },
        _ => binaries(args, kwargs, target),
    }
}

/// Arguments that cannot be converted: each part that is there as binary.
fn binaries(args: &Bytes, kwargs: &Bytes, target: Encoding) -> Payload {
    let parts: Vec<&Bytes> = [args, kwargs].into_iter().filter(|part| !part.is_empty()).collect();
    let mut out = BytesMut::new();
    with_writer(target, &mut out, |writer| {
        writer.list(parts.len());
        parts.iter().for_each(|part| writer.bin(part));
        writer.end_list();
    });
    Payload::Args { encoding: target, args: out.freeze(), kwargs: Bytes::new() }
}

fn args_to_body(
    encoding: Encoding,
    args: &Bytes,
    kwargs: &Bytes,
    (target, is_text_bare): (Encoding, bool),
) -> Result<Body, Unfit> {
    let (args_shape, kwargs_shape) = (shape_of(encoding, args)?, shape_of(encoding, kwargs)?);
    let mut out = BytesMut::with_capacity(args.len() + kwargs.len() + 24);
    match (args_shape, kwargs_shape) {
        (Shape::Empty, Shape::Empty) => return Ok(Body { bytes: Bytes::new(), content_type: None, is_utf8: false }),
        (Shape::Binary(bytes), Shape::Empty) => {
            return Ok(Body { bytes, content_type: Some(BINARY_TYPE), is_utf8: false });
        }
        (Shape::Bare(text, _), Shape::Empty) if is_text_bare => {
            return Ok(Body { bytes: text, content_type: Some(TEXT_TYPE), is_utf8: true });
        }
        (Shape::One(value) | Shape::Bare(_, value), Shape::Empty) => append(encoding, &args.slice(value), target, &mut out)?,
        (Shape::Many, Shape::Empty) => append(encoding, args, target, &mut out)?,
        (Shape::Empty, _) => append(encoding, kwargs, target, &mut out)?,
        (_, _) => {
            let (args, kwargs) = (convert(encoding, args, target)?, convert(encoding, kwargs, target)?);
            with_writer(target, &mut out, |writer| {
                writer.map(2);
                writer.key("args");
                writer.raw(&args);
                writer.key("kwargs");
                writer.raw(&kwargs);
                writer.end_map();
            });
        }
    }
    let content_type = match target {
        Encoding::Json => JSON_TYPE,
        Encoding::MsgPack => MSGPACK_TYPE,
        Encoding::Cbor => CBOR_TYPE,
    };
    Ok(Body { bytes: out.freeze(), content_type: Some(content_type), is_utf8: target == Encoding::Json })
}
