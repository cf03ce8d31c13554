//! Dictionaries of options and details: read into structs by key, unknown keys passed over but validated.
use std::borrow::Cow;

use bytes::Bytes;
use rmpv::Value;
use smallvec::SmallVec;

use super::fault::Fault;
use super::json::binary_of;
use super::token::{Open, Reader, Token, Writer, big_to_f64, to_f64, write_i64};
use crate::model::command::{CancelMode, InvokePolicy};
use crate::model::properties::Passthru;
use crate::model::{MatchPolicy, PublicationId, Qos, RegistrationId, SessionId, SubscriptionId};

/// Containers that an envelope may nest, the message itself counted (LIMITS: nesting).
pub(crate) const MAX_DEPTH: usize = 64;

/// A struct that a dictionary is read into.
pub(crate) trait Dict: Default {
    /// Takes the value of `key`, which the reader stands before. False: the key is not known and nothing was read.
    fn entry<'a, R: Reader<'a>>(&mut self, key: &str, reader: &mut R, depth: usize) -> Result<bool, Fault>;
    /// Keys that `write_entries` writes.
    fn entries(&self) -> usize;
    /// Writes every key that is present.
    fn write_entries<W: Writer>(&self, writer: &mut W);
}

/// The type of an option. Null stands for an option that is absent, unless the type holds null itself.
pub(crate) trait Item: Sized {
    /// For people: "must be ...".
    const MUST_BE: &'static str;
    /// The value that null stands for; `None` = absent.
    fn null() -> Option<Self> {
        None
    }
    /// The value of a token that has been read; `None` if it is none of this type. `depth` containers are open.
    fn take<'a, R: Reader<'a>>(token: Token<'a>, reader: &mut R, depth: usize) -> Result<Option<Self>, Fault>;
    fn write<W: Writer>(&self, writer: &mut W);
}

/// Reads the value of the known key `key`.
pub(crate) fn option<'a, T: Item, R: Reader<'a>>(key: &'static str, reader: &mut R, depth: usize) -> Result<Option<T>, Fault> {
    match reader.read()? {
        Token::Null => Ok(T::null()),
        token => match T::take(token, reader, depth)? {
            Some(value) => Ok(Some(value)),
            None => Err(Fault::Option(key, T::MUST_BE)),
        },
    }
}

/// Reads the entries of an opened dictionary; the message and the dictionaries around it are `depth`.
pub(crate) fn entries<'a, D: Dict, R: Reader<'a>>(mut open: Open, reader: &mut R, depth: usize) -> Result<D, Fault> {
    let depth = deeper(depth)?;
    // Most are empty, and then made where they are wanted: no copy of a large struct.
    if !reader.more(&mut open)? {
        return Ok(D::default());
    }
    let mut dict = D::default();
    let mut keys = Keys::default();
    loop {
        let key = key(reader)?;
        if !dict.entry(&key, reader, depth)? {
            pass_over(reader, depth)?;
        }
        keys.add(key)?;
        if !reader.more(&mut open)? {
            break;
        }
    }
    keys.finish()?;
    Ok(dict)
}

/// One container more than `depth`.
pub(crate) fn deeper(depth: usize) -> Result<usize, Fault> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(Fault::Excess("options or details are nested too deeply".into())) }
}

fn key<'a, R: Reader<'a>>(reader: &mut R) -> Result<Cow<'a, str>, Fault> {
    match reader.read_key()? {
        Token::Str(key) => Ok(key),
        _ => Fault::invalid("a key that is not a string"),
    }
}

/// Validates a value that nobody asked for, by the same rules; recursion is bounded by `MAX_DEPTH`.
fn pass_over<'a, R: Reader<'a>>(reader: &mut R, depth: usize) -> Result<(), Fault> {
    let token = untagged(reader)?;
    match token {
        Token::List(mut open) => {
            let depth = deeper(depth)?;
            while reader.more(&mut open)? {
                pass_over(reader, depth)?;
            }
        }
        Token::Map(mut open) => {
            let depth = deeper(depth)?;
            let mut keys = Keys::default();
            while reader.more(&mut open)? {
                keys.add(key(reader)?)?;
                pass_over(reader, depth)?;
            }
            keys.finish()?;
        }
        _ => {}
    }
    Ok(())
}

/// The next token that is no tag.
fn untagged<'a, R: Reader<'a>>(reader: &mut R) -> Result<Token<'a>, Fault> {
    loop {
        match reader.read()? {
            Token::Tag(_) => {}
            token => return Ok(token),
        }
    }
}

/// Keys of one dictionary: each may appear once (WAMP: Basic, Messages). Few are compared, many are sorted.
#[derive(Default)]
pub(crate) struct Keys<'a>(SmallVec<[Cow<'a, str>; 8]>);

impl<'a> Keys<'a> {
    const FEW: usize = 16;

    pub(crate) fn add(&mut self, key: Cow<'a, str>) -> Result<(), Fault> {
        if self.0.len() < Self::FEW && self.0.contains(&key) {
            return Self::repeated(&key);
        }
        self.0.push(key);
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        if self.0.len() <= Self::FEW {
            return Ok(());
        }
        self.0.sort_unstable();
        match self.0.iter().zip(self.0.iter().skip(1)).find(|(key, next)| key == next) {
            Some((key, _)) => Self::repeated(key),
            None => Ok(()),
        }
    }

    fn repeated(key: &str) -> Result<(), Fault> {
        let shown: String = key.chars().take(64).collect();
        Err(Fault::Excess(format!("the key {shown:?} appears twice").into()))
    }
}

/// Reads the `ppt_*` keys (WAMP: Advanced, Payload Passthru Mode).
pub(crate) fn passthru_entry<'a, R: Reader<'a>>(
    passthru: &mut Option<Box<Passthru>>,
    key: &str,
    reader: &mut R,
    depth: usize,
) -> Result<bool, Fault> {
    type Place = fn(&mut Passthru) -> &mut Option<Box<str>>;
    let (key, place): (_, Place) = match key {
        "ppt_scheme" => ("ppt_scheme", |passthru| &mut passthru.scheme),
        "ppt_serializer" => ("ppt_serializer", |passthru| &mut passthru.serializer),
        "ppt_cipher" => ("ppt_cipher", |passthru| &mut passthru.cipher),
        "ppt_keyid" => ("ppt_keyid", |passthru| &mut passthru.keyid),
        _ => return Ok(false),
    };
    if let Some(value) = option(key, reader, depth)? {
        *place(passthru.get_or_insert_default()) = Some(value);
    }
    Ok(true)
}

/// The number of `ppt_*` keys that `write_passthru` writes.
pub(crate) fn passthru_entries(passthru: &Option<Box<Passthru>>) -> usize {
    passthru.as_ref().map_or(0, |passthru| passthru.attributes().count())
}

/// Writes the `ppt_*` keys.
pub(crate) fn write_passthru<W: Writer>(passthru: &Option<Box<Passthru>>, writer: &mut W) {
    for (key, value) in passthru.iter().flat_map(|passthru| passthru.attributes()) {
        writer.key(key);
        writer.str(value);
    }
}

/// Declares a struct of optional entries, one per key (and further spellings of it that are read but not written).
/// `[passthru]` adds the `ppt_*` keys.
macro_rules! dict {
    (
        $(#[$doc:meta])*
        $name:ident { $( $(#[$field_doc:meta])* $field:ident : $type:ty = $key:literal $(| $also:literal)* ),* $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug, Default)]
        pub struct $name { $( $(#[$field_doc])* pub $field: Option<$type>, )* }

        impl $crate::wire::wamp::dict::Dict for $name {
            #[allow(unused_variables)]
            fn entry<'a, R: Reader<'a>>(&mut self, key: &str, reader: &mut R, depth: usize) -> Result<bool, Fault> {
                match key {
                    $( $key $(| $also)* => self.$field = option($key, reader, depth)?, )*
                    _ => return Ok(false),
                }
                Ok(true)
            }

            fn entries(&self) -> usize {
                0 $( + usize::from(self.$field.is_some()) )*
            }

            #[allow(unused_variables)]
            fn write_entries<W: Writer>(&self, writer: &mut W) {
                $( if let Some(value) = &self.$field {
                    writer.key($key);
                    value.write(writer);
                } )*
            }
        }

        impl Item for $name {
            const MUST_BE: &'static str = "a dictionary";

            fn take<'a, R: Reader<'a>>(token: Token<'a>, reader: &mut R, depth: usize) -> Result<Option<Self>, Fault> {
                match token {
                    Token::Map(open) => entries(open, reader, depth).map(Some),
                    _ => Ok(None),
                }
            }

            fn write<W: Writer>(&self, writer: &mut W) {
                write_dict(self, writer);
            }
        }
    };
    (
        [passthru] $(#[$doc:meta])*
        $name:ident { $( $(#[$field_doc:meta])* $field:ident : $type:ty = $key:literal $(| $also:literal)* ),* $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug, Default)]
        pub struct $name {
            $( $(#[$field_doc])* pub $field: Option<$type>, )*
            /// `ppt_scheme`, `ppt_serializer`, `ppt_cipher`, `ppt_keyid` (WAMP: Advanced, Payload Passthru Mode).
            pub passthru: Option<Box<Passthru>>,
        }

        impl $crate::wire::wamp::dict::Dict for $name {
            fn entry<'a, R: Reader<'a>>(&mut self, key: &str, reader: &mut R, depth: usize) -> Result<bool, Fault> {
                match key {
                    $( $key $(| $also)* => self.$field = option($key, reader, depth)?, )*
                    _ => return passthru_entry(&mut self.passthru, key, reader, depth),
                }
                Ok(true)
            }

            fn entries(&self) -> usize {
                passthru_entries(&self.passthru) $( + usize::from(self.$field.is_some()) )*
            }

            fn write_entries<W: Writer>(&self, writer: &mut W) {
                $( if let Some(value) = &self.$field {
                    writer.key($key);
                    value.write(writer);
                } )*
                write_passthru(&self.passthru, writer);
            }
        }
    };
}
pub(crate) use dict;

/// Writes `dict` as one value, nothing as an empty one.
pub(crate) fn write_optional_dict<D: Dict, W: Writer>(dict: Option<&D>, writer: &mut W) {
    match dict {
        Some(dict) => write_dict(dict, writer),
        None => {
            writer.map(0);
            writer.end_map();
        }
    }
}

/// Writes `dict` as one value.
pub(crate) fn write_dict<D: Dict, W: Writer>(dict: &D, writer: &mut W) {
    writer.map(dict.entries());
    dict.write_entries(writer);
    writer.end_map();
}

impl Item for bool {
    const MUST_BE: &'static str = "a boolean";

    fn take<'a, R: Reader<'a>>(token: Token<'a>, _: &mut R, _: usize) -> Result<Option<Self>, Fault> {
        Ok(if let Token::Bool(value) = token { Some(value) } else { None })
    }

    fn write<W: Writer>(&self, writer: &mut W) {
        writer.bool(*self);
    }
}

impl Item for u64 {
    const MUST_BE: &'static str = "an integer from 0";

    fn take<'a, R: Reader<'a>>(token: Token<'a>, _: &mut R, _: usize) -> Result<Option<Self>, Fault> {
        Ok(token.uint())
    }

    fn write<W: Writer>(&self, writer: &mut W) {
        writer.uint(*self);
    }
}

impl Item for u32 {
    const MUST_BE: &'static str = "an integer from 0 to 4294967295";

    fn take<'a, R: Reader<'a>>(token: Token<'a>, _: &mut R, _: usize) -> Result<Option<Self>, Fault> {
        Ok(token.uint().and_then(|value| u32::try_from(value).ok()))
    }

    fn write<W: Writer>(&self, writer: &mut W) {
        writer.uint(u64::from(*self));
    }
}

impl Item for Box<str> {
    const MUST_BE: &'static str = "a string";

    fn take<'a, R: Reader<'a>>(token: Token<'a>, _: &mut R, _: usize) -> Result<Option<Self>, Fault> {
        Ok(if let Token::Str(value) = token { Some(value.into()) } else { None })
    }

    fn write<W: Writer>(&self, writer: &mut W) {
        writer.str(self);
    }
}

impl Item for Bytes {
    const MUST_BE: &'static str = "binary";

    fn take<'a, R: Reader<'a>>(token: Token<'a>, _: &mut R, _: usize) -> Result<Option<Self>, Fault> {
        Ok(match token {
            Token::Bin(value) => Some(Bytes::copy_from_slice(&value)),
            Token::Str(text) => binary_of(&text).map(Bytes::from),
            _ => None,
        })
    }

    fn write<W: Writer>(&self, writer: &mut W) {
        writer.bin(self);
    }
}

impl<T: Item> Item for Vec<T> {
    const MUST_BE: &'static str = "a list of values of the right type";

    fn take<'a, R: Reader<'a>>(token: Token<'a>, reader: &mut R, depth: usize) -> Result<Option<Self>, Fault> {
        let Token::List(mut open) = token else { return Ok(None) };
        let depth = deeper(depth)?;
        let mut list = Vec::new();
        while reader.more(&mut open)? {
            let token = reader.read()?;
            match T::take(token, reader, depth)? {
                Some(item) => list.push(item),
                None => return Ok(None),
            }
        }
        Ok(Some(list))
    }

    fn write<W: Writer>(&self, writer: &mut W) {
        writer.list(self.len());
        self.iter().for_each(|item| item.write(writer));
        writer.end_list();
    }
}

impl<T: Item> Item for Box<T> {
    const MUST_BE: &'static str = T::MUST_BE;

    fn null() -> Option<Self> {
        T::null().map(Box::new)
    }

    fn take<'a, R: Reader<'a>>(token: Token<'a>, reader: &mut R, depth: usize) -> Result<Option<Self>, Fault> {
        Ok(T::take(token, reader, depth)?.map(Box::new))
    }

    fn write<W: Writer>(&self, writer: &mut W) {
        self.as_ref().write(writer);
    }
}

macro_rules! id_items {
    ($($id:ident),*) => {$(
        impl Item for $id {
            const MUST_BE: &'static str = "an id from 1 to 9007199254740992";

            fn take<'a, R: Reader<'a>>(token: Token<'a>, _: &mut R, _: usize) -> Result<Option<Self>, Fault> {
                Ok(token.id().map($id))
            }

            fn write<W: Writer>(&self, writer: &mut W) {
                writer.uint(self.0);
            }
        }
    )*};
}
id_items!(SessionId, PublicationId, SubscriptionId, RegistrationId);

impl Item for Qos {
    const MUST_BE: &'static str = "0, 1 or 2";

    fn take<'a, R: Reader<'a>>(token: Token<'a>, _: &mut R, _: usize) -> Result<Option<Self>, Fault> {
        Ok(token.uint().and_then(|value| u8::try_from(value).ok()).and_then(Qos::from_bits))
    }

    fn write<W: Writer>(&self, writer: &mut W) {
        writer.uint(*self as u64);
    }
}

/// An enum of words.
macro_rules! word_items {
    ($($type:ident $must_be:literal { $($variant:ident = $word:literal),* })*) => {$(
        impl Item for $type {
            const MUST_BE: &'static str = $must_be;

            fn take<'a, R: Reader<'a>>(token: Token<'a>, _: &mut R, _: usize) -> Result<Option<Self>, Fault> {
                let Token::Str(word) = token else { return Ok(None) };
                Ok(match word.as_ref() {
                    $($word => Some($type::$variant),)*
                    _ => None,
                })
            }

            fn write<W: Writer>(&self, writer: &mut W) {
                writer.str(match self { $($type::$variant => $word),* });
            }
        }
    )*};
}
word_items! {
    MatchPolicy "\"exact\", \"prefix\" or \"wildcard\"" { Exact = "exact", Prefix = "prefix", Wildcard = "wildcard" }
    InvokePolicy "\"single\", \"roundrobin\", \"random\", \"first\" or \"last\"" {
        Single = "single", RoundRobin = "roundrobin", Random = "random", First = "first", Last = "last"
    }
    CancelMode "\"skip\", \"kill\" or \"killnowait\"" { Skip = "skip", Kill = "kill", KillNoWait = "killnowait" }
}

impl Item for Value {
    const MUST_BE: &'static str = "a value";

    fn null() -> Option<Self> {
        Some(Value::Nil)
    }

    fn take<'a, R: Reader<'a>>(token: Token<'a>, reader: &mut R, depth: usize) -> Result<Option<Self>, Fault> {
        value(token, reader, depth).map(Some)
    }

    fn write<W: Writer>(&self, writer: &mut W) {
        write_value(self, writer);
    }
}

/// A value of any kind, for patterns and what only clients understand; recursion is bounded by `MAX_DEPTH`.
/// JSON strings that hold binary (`"\u0000"` and Base64) become binary.
fn value<'a, R: Reader<'a>>(token: Token<'a>, reader: &mut R, depth: usize) -> Result<Value, Fault> {
    Ok(match token {
        Token::Null => Value::Nil,
        Token::Bool(value) => Value::from(value),
        Token::Uint(value) => Value::from(value),
        Token::Negative(n) => i64::try_from(n).map_or_else(|_| Value::F64(-1.0 - n as f64), |n| Value::from(!n)),
        Token::Big { negative, bytes } => Value::F64(big_to_f64(negative, &bytes)),
        Token::Decimal(text) => to_f64(text).map_or_else(|| Value::from(text), Value::F64),
        Token::F32(value) => Value::F32(value),
        Token::F64(value) => Value::F64(value),
        Token::Str(text) => binary_of(&text).map_or_else(|| Value::from(text.as_ref()), Value::Binary),
        Token::Bin(bytes) => Value::Binary(bytes.into_owned()),
        Token::Ext(kind, bytes) => Value::Ext(kind, bytes.to_vec()),
        Token::Tag(_) => {
            let token = untagged(reader)?;
            value(token, reader, depth)?
        }
        Token::List(mut open) => {
            let depth = deeper(depth)?;
            let mut list = Vec::new();
            while reader.more(&mut open)? {
                let token = reader.read()?;
                list.push(value(token, reader, depth)?);
            }
            Value::Array(list)
        }
        Token::Map(open) => value_map(open, reader, depth)?,
    })
}

fn value_map<'a, R: Reader<'a>>(mut open: Open, reader: &mut R, depth: usize) -> Result<Value, Fault> {
    let depth = deeper(depth)?;
    let mut keys = Keys::default();
    let mut map = Vec::new();
    while reader.more(&mut open)? {
        let name = key(reader)?;
        let token = reader.read()?;
        map.push((Value::from(name.as_ref()), value(token, reader, depth)?));
        keys.add(name)?;
    }
    keys.finish()?;
    Ok(Value::Map(map))
}

/// Writes a value that was decoded before, so that its depth is bounded.
fn write_value<W: Writer>(value: &Value, writer: &mut W) {
    match value {
        Value::Nil => writer.null(),
        Value::Boolean(value) => writer.bool(*value),
        Value::Integer(value) => match (value.as_u64(), value.as_i64()) {
            (Some(value), _) => writer.uint(value),
            (None, value) => write_i64(writer, value.unwrap_or_default()),
        },
        Value::F32(value) => writer.f32(*value),
        Value::F64(value) => writer.f64(*value),
        Value::String(text) => writer.str(text.as_str().unwrap_or_default()),
        Value::Binary(bytes) | Value::Ext(_, bytes) => writer.bin(bytes),
        Value::Array(list) => {
            writer.list(list.len());
            list.iter().for_each(|item| write_value(item, writer));
            writer.end_list();
        }
        Value::Map(map) => {
            writer.map(map.len());
            for (key, value) in map {
                writer.key(key.as_str().unwrap_or_default());
                write_value(value, writer);
            }
            writer.end_map();
        }
    }
}
