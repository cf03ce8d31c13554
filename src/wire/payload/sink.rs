//! Writers of payloads: what each encoding makes of a token of another one.
use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::number::{from_digits, to_digits, to_u64};
use crate::wire::wamp::cbor::CborWriter;
use crate::wire::wamp::json::JsonWriter;
use crate::wire::wamp::msgpack::MsgPackWriter;
use crate::wire::wamp::token::{Token, Writer, big_to_f64, to_f64};

/// A writer that has an answer to every token.
pub(super) trait Sink: Writer {
    /// An integer of any size; `negative` stands for -1 - n.
    fn big(&mut self, negative: bool, bytes: &[u8]);
    /// A JSON number that is no integer of 64 bits.
    fn decimal(&mut self, text: &str);
    /// Seconds since the epoch (MsgPack timestamp).
    fn time(&mut self, seconds: i64, nanoseconds: u32);
    /// A key that is a scalar.
    fn key_token(&mut self, key: &Token<'_>) {
        self.scalar(key);
    }

    /// Anything that is no container and no tag.
    fn scalar(&mut self, token: &Token<'_>) {
        match token {
            Token::Bool(value) => self.bool(*value),
            Token::Uint(value) => self.uint(*value),
            Token::Negative(n) => self.negative(*n),
            Token::Big { negative, bytes } => self.big(*negative, bytes),
            Token::Decimal(text) => self.decimal(text),
            Token::F32(value) => self.f32(*value),
            Token::F64(value) => self.f64(*value),
            Token::Str(text) => self.str(text),
            Token::Bin(bytes) => self.bin(bytes),
            Token::Ext(kind, bytes) => match timestamp(*kind, bytes) {
                Some((seconds, nanoseconds)) => self.time(seconds, nanoseconds),
                None => self.bin(bytes),
            },
            Token::Null | Token::Tag(_) | Token::List(_) | Token::Map(_) => self.null(),
        }
    }
}

impl Sink for JsonWriter<'_> {
    fn big(&mut self, negative: bool, bytes: &[u8]) {
        match to_digits(negative, bytes) {
            Some(digits) => self.number(&digits),
            None => self.bin(bytes),
        }
    }

    fn decimal(&mut self, text: &str) {
        self.number(text);
    }

    fn time(&mut self, seconds: i64, nanoseconds: u32) {
        write_time(self, seconds, nanoseconds);
    }

    fn key_token(&mut self, key: &Token<'_>) {
        self.key(&key_text(key));
    }
}

impl Sink for MsgPackWriter<'_> {
    fn big(&mut self, negative: bool, bytes: &[u8]) {
        match (to_u64(bytes), big_to_f64(negative, bytes)) {
            (Some(n), _) if negative => self.negative(n),
            (Some(value), _) => self.uint(value),
            (None, value) if value.is_finite() => self.f64(value),
            (None, _) => self.bin(bytes),
        }
    }

    fn decimal(&mut self, text: &str) {
        match to_f64(text) {
            Some(value) => self.f64(value),
            None => self.str(text),
        }
    }

    fn time(&mut self, seconds: i64, nanoseconds: u32) {
        write_time(self, seconds, nanoseconds);
    }
}

impl Sink for CborWriter<'_> {
    fn big(&mut self, negative: bool, bytes: &[u8]) {
        self.tag(if negative { 3 } else { 2 });
        self.bin(bytes);
    }

    fn decimal(&mut self, text: &str) {
        match (from_digits(text), to_f64(text)) {
            (Some((negative, bytes)), _) => self.big(negative, &bytes),
            (None, Some(value)) => self.f64(value),
            (None, None) => self.str(text),
        }
    }

    fn time(&mut self, seconds: i64, nanoseconds: u32) {
        self.tag(1);
        write_time(self, seconds, nanoseconds);
    }
}

fn write_time<W: Writer>(writer: &mut W, seconds: i64, nanoseconds: u32) {
    match (nanoseconds, u64::try_from(seconds)) {
        (0, Ok(seconds)) => writer.uint(seconds),
        (0, Err(_)) => writer.negative(!seconds.cast_unsigned()),
        _ => writer.f64(seconds as f64 + f64::from(nanoseconds) / 1e9),
    }
}

/// The timestamp in a MsgPack extension of type -1: 4, 8 or 12 bytes.
fn timestamp(kind: i8, bytes: &[u8]) -> Option<(i64, u32)> {
    if kind != -1 {
        return None;
    }
    if let Ok(seconds) = <[u8; 4]>::try_from(bytes) {
        return Some((i64::from(u32::from_be_bytes(seconds)), 0));
    }
    if let Ok(both) = <[u8; 8]>::try_from(bytes) {
        let both = u64::from_be_bytes(both);
        return Some((i64::try_from(both & ((1 << 34) - 1)).ok()?, u32::try_from(both >> 34).ok()?));
    }
    let (nanoseconds, seconds) = bytes.split_first_chunk::<4>()?;
    let seconds = <[u8; 8]>::try_from(seconds).ok()?;
    Some((i64::from_be_bytes(seconds), u32::from_be_bytes(*nanoseconds)))
}

/// A key of any type as JSON has it: a string.
fn key_text<'t>(key: &'t Token<'_>) -> Cow<'t, str> {
    let binary = |bytes: &[u8]| Cow::Owned(format!("\0{}", STANDARD.encode(bytes)));
    match key {
        Token::Str(text) => Cow::Borrowed(text.as_ref()),
        Token::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
        Token::Uint(value) => Cow::Owned(value.to_string()),
        Token::Negative(n) => Cow::Owned((-1 - i128::from(*n)).to_string()),
        Token::Decimal(text) => Cow::Borrowed(text),
        Token::F32(value) => Cow::Owned(format!("{:?}", f64::from(*value))),
        Token::F64(value) => Cow::Owned(format!("{value:?}")),
        Token::Big { negative, bytes } => to_digits(*negative, bytes).map_or_else(|| binary(bytes), Cow::Owned),
        Token::Bin(bytes) => binary(bytes),
        Token::Ext(_, bytes) => binary(bytes),
        Token::Null | Token::Tag(_) | Token::List(_) | Token::Map(_) => Cow::Borrowed("null"),
    }
}
