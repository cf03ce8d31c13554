//! The body of a publication as one JSON value, which conditions are compared with.
use serde_json::{Value, json};

use crate::model::{Encoding, Payload, Publication};
use crate::router::MAX_VALUE_BYTES;
use crate::wire::payload;

/// The one argument, or the list or the dictionary of several (MAPPING.md, Payloads); `None` for what is too long to be compared.
pub fn of(publication: &Publication) -> Option<Value> {
    if publication.payload.len() > MAX_VALUE_BYTES {
        return None;
    }
    let payload = payload::to_args(&publication.payload, publication.properties.as_deref(), Encoding::Json);
    let Payload::Args { args, kwargs, .. } = payload else { return None };
    let parse = |part: &[u8]| if part.is_empty() { Some(Value::Null) } else { serde_json::from_slice(part).ok() };
    let (mut args, kwargs) = (parse(&args)?, parse(&kwargs)?);
    let is_empty = |part: &Value| part.as_object().is_none_or(|members| members.is_empty());
    Some(match (args.as_array_mut(), is_empty(&kwargs)) {
        (Some(list), true) if list.len() == 1 => list.pop()?,
        (Some(_), true) => args,
        (Some(list), false) if !list.is_empty() => json!({ "args": args, "kwargs": kwargs }),
        _ => kwargs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Qos, Topic};

    fn value(payload: Payload) -> Option<Value> {
        of(&Publication::new(Topic::from_mqtt("t").unwrap(), payload, Qos::AtLeastOnce))
    }

    fn args(encoding: Encoding, args: &'static [u8], kwargs: &'static [u8]) -> Payload {
        Payload::Args { encoding, args: args.into(), kwargs: kwargs.into() }
    }

    #[test]
    fn every_payload_has_one_value() {
        for (payload, expected) in [
            (Payload::Bytes("{\"a\":1}".into()), json!({"a": 1})),
            (Payload::Bytes("plain".into()), json!("plain")),
            (Payload::Bytes((&[0xFF][..]).into()), json!("\0/w==")),
            (args(Encoding::Json, b"[1]", b""), json!(1)),
            (args(Encoding::Json, b"[null]", b""), json!(null)),
            (args(Encoding::Json, b"[1,2]", b"{}"), json!([1, 2])),
            (args(Encoding::Json, b"", b"{\"a\":1}"), json!({"a": 1})),
            (args(Encoding::Json, b"[1]", b"{\"a\":1}"), json!({"args": [1], "kwargs": {"a": 1}})),
            (args(Encoding::MsgPack, b"\x91\xC4\x01\x31", b""), json!("\0MQ==")),
            (args(Encoding::Cbor, b"\x81\xA1\x61a\x01", b""), json!({"a": 1})),
        ] {
            assert_eq!(value(payload.clone()), Some(expected), "{payload:?}");
        }
        assert_eq!(value(Payload::Bytes(vec![b'1'; MAX_VALUE_BYTES + 1].into())), None);
    }
}
