//! Payloads in the form their receiver takes (MAPPING: Payloads); every conversion is total.
use bytes::Bytes;

use crate::model::publication::Properties;
use crate::model::{Encoding, Payload};

/// As arguments.
pub fn to_args(payload: &Payload, _properties: Option<&Properties>, target: Encoding) -> Payload {
    match payload {
        Payload::Args { encoding, .. } if *encoding == target => payload.clone(),
        _ => Payload::Args { encoding: target, args: Bytes::new(), kwargs: Bytes::new() },
    }
}
