//! Answers of the router's own that hold payloads as they arrived: each is converted for the one who gets it.
use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::{convert, single, with_writer};
use crate::model::payload::Part;
use crate::model::{Encoding, Payload};

/// The list of parts as the one argument, each a dictionary of its head and, in `args` and `kwargs`, its payload.
pub(super) fn to_args(parts: &[Part], target: Encoding) -> Payload {
    let encoded: Vec<Bytes> = parts.iter().map(|part| encode(part, target)).collect();
    single(target, |writer| {
        writer.list(encoded.len());
        encoded.iter().for_each(|part| writer.raw(part));
        writer.end_list();
    })
}

fn encode(part: &Part, target: Encoding) -> Bytes {
    let (args, kwargs) = match super::to_args(&part.payload, part.properties.as_deref(), target) {
        Payload::Args { args, kwargs, .. } => (args, kwargs),
        Payload::Bytes(_) | Payload::List(_) => (Bytes::new(), Bytes::new()),
    };
    let head: Vec<(&String, Bytes)> = part.head.iter().map(|(name, value)| (name, value_in(value, target))).collect();
    let mut out = BytesMut::new();
    with_writer(target, &mut out, |writer| {
        writer.map(head.len() + 1 + usize::from(!kwargs.is_empty()));
        for (name, value) in &head {
            writer.key(name);
            writer.raw(value);
        }
        writer.key("args");
        if args.is_empty() {
            writer.list(0);
            writer.end_list();
        } else {
            writer.raw(&args);
        }
        if !kwargs.is_empty() {
            writer.key("kwargs");
            writer.raw(&kwargs);
        }
        writer.end_map();
    });
    out.freeze()
}

/// A value of the router's own in `target`; such a value has a form in every encoding.
fn value_in(value: &Value, target: Encoding) -> Bytes {
    convert(Encoding::Json, &value.to_string().into(), target).unwrap_or_default()
}
