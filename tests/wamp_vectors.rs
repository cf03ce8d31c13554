//! The test vectors of the WAMP specification (tests/data/wamp-proto), read as their README asks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use std::fs;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use corsac::model::Encoding;
use corsac::wire::wamp::{ErrorKind, Message, decode, encode};
use serde_json::Value;

const SERIALIZERS: [(&str, Encoding); 3] = [("json", Encoding::Json), ("msgpack", Encoding::MsgPack), ("cbor", Encoding::Cbor)];

/// The elements of each message behind its code, as the vectors name them.
fn elements(code: u64) -> &'static [&'static str] {
    match code {
        1 => &["realm", "details"],
        2 => &["session_id", "details"],
        3 => &["details", "reason", "args", "kwargs"],
        4 => &["method", "extra"],
        5 => &["signature", "extra"],
        6 => &["details", "reason"],
        8 => &["request_type", "request_id", "details", "error", "args", "kwargs"],
        16 => &["request_id", "options", "topic", "args", "kwargs"],
        17 => &["request_id", "publication_id"],
        32 => &["request_id", "options", "topic"],
        33 | 34 => &["request_id", "subscription_id"],
        36 => &["subscription", "publication", "details", "args", "kwargs"],
        35 | 67 => &["request_id"],
        48 => &["request_id", "options", "procedure", "args", "kwargs"],
        49 | 69 => &["request_id", "options"],
        50 => &["request_id", "details", "args", "kwargs"],
        64 => &["request_id", "options", "procedure"],
        65 | 66 => &["request_id", "registration_id"],
        68 => &["request_id", "registration_id", "details", "args", "kwargs"],
        70 => &["request_id", "options", "args", "kwargs"],
        337 => &["publication_id"],
        other => panic!("a message that nobody knows: {other}"),
    }
}

fn vectors() -> Vec<(PathBuf, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wamp-proto/singlemessage");
    let mut vectors = Vec::new();
    for folder in ["basic", "advanced"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            vectors.push((path, serde_json::from_str(&text).unwrap()));
        }
    }
    assert_eq!(vectors.len(), 26, "all vectors are there");
    vectors
}

fn samples(vector: &Value) -> &Vec<Value> {
    vector["samples"].as_array().unwrap()
}

fn from_hex(hex: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn variants(sample: &Value, serializer: &str) -> Vec<Bytes> {
    let variants = sample["serializers"][serializer].as_array().expect("a serializer that we speak");
    variants.iter().map(|variant| from_hex(variant["bytes_hex"].as_str().unwrap())).collect()
}

fn encoded(message: &Message<'_>, encoding: Encoding) -> Bytes {
    let mut out = BytesMut::new();
    encode(message, encoding, &mut out);
    out.freeze()
}

/// The part of the message that has this name in the vectors.
fn attribute(message: &[Value], name: &str) -> Value {
    let code = message[0].as_u64().unwrap();
    match name {
        "message_type" => message[0].clone(),
        "roles" => message[2]["roles"].clone(),
        // Transparent payload, which only refused messages have.
        "payload" => Value::Null,
        _ => {
            let at = elements(code).iter().position(|element| *element == name).expect("an attribute of the message");
            message.get(at + 1).cloned().unwrap_or(Value::Null)
        }
    }
}

/// A payload that is no list of arguments: refused, see the README of the vectors.
fn is_transparent(sample: &Value) -> bool {
    sample["expected_attributes"]["payload"].is_string()
        || sample["wmsg"].as_array().is_some_and(|wmsg| wmsg.iter().any(|element| element.get("enc_algo").is_some()))
}

#[test]
fn every_variant_decodes_to_the_expected_attributes() {
    let mut count = 0;
    for (path, vector) in vectors() {
        for sample in samples(&vector).iter().filter(|sample| sample["serializers"].is_object()) {
            for (serializer, encoding) in SERIALIZERS {
                for bytes in variants(sample, serializer) {
                    count += 1;
                    if is_transparent(sample) {
                        assert_eq!(decode(&bytes, encoding).unwrap_err().kind, ErrorKind::Invalid, "{path:?}");
                        continue;
                    }
                    let message = decode(&bytes, encoding).unwrap_or_else(|error| panic!("{path:?}: {error}"));
                    let json: Vec<Value> = serde_json::from_slice(&encoded(&message, Encoding::Json)).unwrap();
                    for (name, expected) in sample["expected_attributes"].as_object().unwrap() {
                        assert_eq!(attribute(&json, name), *expected, "{path:?} {serializer} {name}");
                    }
                }
            }
        }
    }
    assert!(count > 100, "{count} variants");
}

#[test]
fn encoding_gives_one_of_the_variants() {
    for (path, vector) in vectors() {
        for sample in samples(&vector).iter().filter(|sample| sample["serializers"].is_object() && !is_transparent(sample)) {
            for (serializer, encoding) in SERIALIZERS {
                let variants = variants(sample, serializer);
                let again = variants.iter().map(|bytes| encoded(&decode(bytes, encoding).unwrap(), encoding));
                let found: Vec<Bytes> = again.collect();
                assert!(found.iter().any(|bytes| variants.contains(bytes)), "{path:?} {serializer} {found:?}");
            }
        }
    }
}

#[test]
fn options_and_details_are_validated() {
    let mut count = 0;
    for (path, vector) in vectors() {
        for sample in samples(&vector).iter().filter(|sample| sample["wmsg"].is_array()) {
            count += 1;
            let bytes = Bytes::from(serde_json::to_vec(&sample["wmsg"]).unwrap());
            let outcome = decode(&bytes, Encoding::Json);
            let described = format!("{path:?} {}: {outcome:?}", sample["description"]);
            if is_transparent(sample) {
                assert_eq!(outcome.unwrap_err().kind, ErrorKind::Invalid, "{described}");
            } else if let Some(contains) = sample["expected_error"]["contains"].as_str() {
                let error = outcome.expect_err(&described);
                assert!(error.detail.contains(contains), "{described}");
                assert_eq!(sample["expected_error"]["type"], "protocol_violation");
            } else {
                let wmsg = sample["wmsg"].as_array().unwrap();
                let json: Vec<Value> = serde_json::from_slice(&encoded(&outcome.unwrap(), Encoding::Json)).unwrap();
                assert_eq!(json, *wmsg, "{path:?}");
            }
        }
    }
    assert!(count > 60, "{count} samples");
}
