//! The arguments of `corsac.publish`: a PUBLISH for clients that cannot say its options (MAPPING.md, Retained state).
use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::cbor::CborReader;
use super::dict::{deeper, entries};
use super::fault::Fault;
use super::json::JsonReader;
use super::msgpack::MsgPackReader;
use super::options::PublishOptions;
use super::token::{Kind, Reader, Token};
use crate::model::{Encoding, Payload};

/// The names of the arguments, in their order.
const NAMES: [&str; 4] = ["topic", "args", "kwargs", "options"];

/// A publication asked for by a call.
#[derive(Clone, PartialEq, Debug)]
pub struct PublishCall {
    /// The topic in either spelling; nobody has looked at it yet.
    pub topic: Box<str>,
    /// The arguments, as slices of the call's own.
    pub payload: Payload,
    /// Its options.
    pub options: PublishOptions,
}

/// Reads `topic`, `args`, `kwargs` and `options`, each in its place or by its name; or says what is wrong with them.
pub fn publish_call(call: &Payload) -> Result<PublishCall, String> {
    let Payload::Args { encoding, args, kwargs } = call else { return Err("there are no arguments".to_owned()) };
    match encoding {
        Encoding::Json => read::<JsonReader<'_>>(*encoding, args, kwargs),
        Encoding::MsgPack => read::<MsgPackReader<'_>>(*encoding, args, kwargs),
        Encoding::Cbor => read::<CborReader<'_>>(*encoding, args, kwargs),
    }
}

fn read<'a, R: Reader<'a>>(encoding: Encoding, args: &'a Bytes, kwargs: &'a Bytes) -> Result<PublishCall, String> {
    let mut parts = Parts::default();
    parts.take_list::<R>(args).and_then(|()| parts.take_map::<R>(kwargs)).map_err(|fault| match fault {
        Fault::Malformed(malformed) => malformed.what.to_owned(),
        Fault::Unknown(_) => "no arguments".to_owned(),
        Fault::Invalid(what) | Fault::Excess(what) => what.into_owned(),
        Fault::Option(key, must_be) => format!("options.{key} must be {must_be}"),
    })?;
    let topic = parts.topic.ok_or("`topic` is missing")?;
    let payload = Payload::Args { encoding, args: parts.args, kwargs: parts.kwargs };
    Ok(PublishCall { topic, payload, options: parts.options })
}

#[derive(Default)]
struct Parts {
    topic: Option<Box<str>>,
    args: Bytes,
    kwargs: Bytes,
    options: PublishOptions,
}

impl Parts {
    fn take_list<'a, R: Reader<'a>>(&mut self, list: &'a Bytes) -> Result<(), Fault> {
        if list.is_empty() {
            return Ok(());
        }
        let mut reader = R::start_lenient(list)?;
        let Token::List(mut open) = reader.read()? else { return Fault::invalid("the arguments are not a list") };
        for name in NAMES {
            if !reader.more(&mut open)? {
                return Ok(());
            }
            self.take(name, list, &mut reader)?;
        }
        if reader.more(&mut open)? { Fault::invalid("it takes topic, args, kwargs and options") } else { Ok(()) }
    }

    fn take_map<'a, R: Reader<'a>>(&mut self, map: &'a Bytes) -> Result<(), Fault> {
        if map.is_empty() {
            return Ok(());
        }
        let mut reader = R::start_lenient(map)?;
        let Token::Map(mut open) = reader.read()? else { return Fault::invalid("the keyword arguments are not a dictionary") };
        while reader.more(&mut open)? {
            let key: Cow<'_, str> = match reader.read_key()? {
                Token::Str(key) => key,
                _ => return Fault::invalid("a keyword that is not a string"),
            };
            match NAMES.into_iter().find(|name| *name == key) {
                Some(name) => self.take(name, map, &mut reader)?,
                None => return Fault::invalid("it takes topic, args, kwargs and options"),
            }
        }
        Ok(())
    }

    /// Takes one argument, which the reader of `input` stands before; null counts as not given.
    fn take<'a, R: Reader<'a>>(&mut self, name: &str, input: &'a Bytes, reader: &mut R) -> Result<(), Fault> {
        let slice = |range: Range<usize>| input.slice(range);
        if reader.clone().read()? == Token::Null {
            reader.read()?;
            return Ok(());
        }
        match name {
            "topic" => match reader.read()? {
                Token::Str(topic) => self.topic = Some(topic.into()),
                _ => return Fault::invalid("`topic` must be a string"),
            },
            "args" => match reader.skip()? {
                (Kind::List, range) => self.args = slice(range),
                _ => return Fault::invalid("`args` must be a list"),
            },
            "kwargs" => match reader.skip()? {
                (Kind::Map, range) => self.kwargs = slice(range),
                _ => return Fault::invalid("`kwargs` must be a dictionary"),
            },
            _ => match reader.read()? {
                Token::Map(open) => self.options = entries(open, reader, deeper(0)?)?,
                _ => return Fault::invalid("`options` must be a dictionary"),
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::payload::to_args;

    const ENCODINGS: [Encoding; 3] = [Encoding::Json, Encoding::MsgPack, Encoding::Cbor];

    fn called(encoding: Encoding, args: Value, kwargs: Value) -> Result<PublishCall, String> {
        let kwargs = if kwargs == json!({}) { Bytes::new() } else { kwargs.to_string().into() };
        let call = Payload::Args { encoding: Encoding::Json, args: args.to_string().into(), kwargs };
        publish_call(&to_args(&call, None, encoding))
    }

    #[test]
    fn arguments_are_read_by_place_and_by_name() {
        for encoding in ENCODINGS {
            let in_place =
                called(encoding, json!(["a.b", [1, {"x": [2]}], {"k": "v"}, {"retain": true, "when": null}]), json!({}));
            let named = called(
                encoding,
                json!([]),
                json!({"topic": "a.b", "args": [1, {"x": [2]}], "kwargs": {"k": "v"}, "options": {"_retain": true, "_when": null}}),
            );
            let call = in_place.unwrap();
            assert_eq!(named.as_ref(), Ok(&call), "{encoding:?}");
            assert_eq!((&*call.topic, call.options.retain, call.options.when.is_some()), ("a.b", Some(true), true));
            let Payload::Args { args, kwargs, .. } = to_args(&call.payload, None, Encoding::Json) else { panic!("{call:?}") };
            assert_eq!((&args[..], &kwargs[..]), (&br#"[1,{"x":[2]}]"#[..], &br#"{"k":"v"}"#[..]), "{encoding:?}");
            let short = called(encoding, json!(["a", null, null, null]), json!({})).unwrap();
            assert!(short.payload.is_empty() && short.options == PublishOptions::default());
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (args, kwargs, says) in [
            (json!([]), json!({}), "`topic` is missing"),
            (json!([1]), json!({}), "`topic` must be"),
            (json!(["a", "x"]), json!({}), "`args` must be"),
            (json!(["a", [], []]), json!({}), "`kwargs` must be"),
            (json!(["a", [], {}, 1]), json!({}), "`options` must be"),
            (json!(["a", [], {}, {"qos": 7}]), json!({}), "options.qos must be"),
            (json!(["a", [], {}, {}, 1]), json!({}), "it takes"),
            (json!(["a"]), json!({"option": {}}), "it takes"),
        ] {
            for encoding in ENCODINGS {
                let refused = called(encoding, args.clone(), kwargs.clone()).unwrap_err();
                assert!(refused.contains(says), "{args} {kwargs}: {refused}");
            }
        }
    }
}
