//! Any payload in every form that a receiver can take: conversions are total, and what they make is well-formed.
#![no_main]

use bytes::Bytes;
use corsac::model::properties::Properties;
use corsac::model::{Encoding, Payload};
use corsac::wire::payload::{Form, JSON_TYPE, bytes_to_args, is_json, to_args, to_bytes, to_bytes_in};
use corsac_fuzz::choice::ENCODINGS;
use corsac_fuzz::wamp::{is_sound, is_well_formed, messages};
use serde_json::Value;

corsac_fuzz::target!(run, seeds);

const TYPES: [Option<&str>; 6] = [
    None,
    Some("application/json"),
    Some("application/msgpack"),
    Some("application/cbor; x=y"),
    Some("text/plain"),
    Some("application/octet-stream"),
];
const FORMS: [Form; 2] = [Form::Auto, Form::Binary];

fn run(data: &[u8]) {
    let [choice, split, bytes @ ..] = data else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    if choice & 0x80 == 0 {
        let content_type = TYPES[usize::from(choice % 6)].map(Into::into);
        let properties = Properties { content_type, payload_format: Some(choice & 0x40 != 0), ..Properties::default() };
        check_message(&bytes, &properties);
    } else {
        let (args, kwargs) = bytes.split_at(usize::from(*split).min(bytes.len()));
        let encoding = ENCODINGS[usize::from(choice % 3)];
        let (args, kwargs) = (bytes.slice_ref(args), bytes.slice_ref(kwargs));
        check_arguments(&Payload::Args { encoding, args, kwargs });
    }
}

/// An application message of MQTT.
fn check_message(bytes: &Bytes, properties: &Properties) {
    let payload = Payload::Bytes(bytes.clone());
    for target in ENCODINGS {
        let args = to_args(&payload, Some(properties), target);
        check_args(&args, target);
        FORMS.into_iter().for_each(|form| check_args(&bytes_to_args(bytes, form, target), target));
        for encoding in ENCODINGS {
            check_args(&bytes_to_args(bytes, Form::Encoded(encoding), target), target);
        }
        assert_eq!(&to_bytes_in(&payload, target).bytes, bytes, "bytes stay what they are");
    }
    check_json_survives(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        check_text_survives(text);
    }
}

/// A text of WAMP, and what MQTT sends back of it: without quotes wherever the quotes are not needed.
fn check_text_survives(text: &str) {
    // WAMP's JSON takes these for binary.
    if text.starts_with('\0') {
        return;
    }
    let quoted = serde_json::to_string(&[text]).unwrap();
    let payload = Payload::Args { encoding: Encoding::Json, args: quoted.clone().into(), kwargs: Bytes::new() };
    for encoding in ENCODINGS {
        let body = to_bytes(&to_args(&payload, None, encoding), None);
        assert_eq!(body.bytes == text.as_bytes(), !text.is_empty() && !is_json(text), "{text:?}");
        let Payload::Args { args, .. } = bytes_to_args(&body.bytes, Form::Auto, Encoding::Json) else { panic!("{body:?}") };
        let back: Vec<String> = serde_json::from_slice(&args).unwrap();
        assert_eq!(back, [text]);
    }
}

fn check_args(payload: &Payload, target: Encoding) {
    assert!(matches!(payload, Payload::Args { encoding, .. } if *encoding == target));
    assert!(is_sound(payload), "{payload:?}");
}

/// JSON that holds nothing but what all encodings can say is the same behind each of them.
fn check_json_survives(bytes: &Bytes) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    if !is_plain(&value) || is_like_a_call(&value) {
        return;
    }
    for target in ENCODINGS {
        let args = bytes_to_args(bytes, Form::Auto, target);
        let body = to_bytes_in(&args, Encoding::Json);
        assert_eq!(serde_json::from_slice::<Value>(&body.bytes).ok(), Some(value.clone()), "{target:?}");
        assert_eq!((body.content_type, body.is_utf8), (Some(JSON_TYPE), true));
    }
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::Number(number) => !number.is_f64(),
        Value::String(text) => !text.starts_with('\0'),
        Value::Array(list) => list.iter().all(is_plain),
        Value::Object(map) => map.iter().all(|(key, value)| !key.starts_with('\0') && is_plain(value)),
    }
}

fn is_like_a_call(value: &Value) -> bool {
    value.get("args").is_some() || value.get("kwargs").is_some()
}

/// Arguments of WAMP, sound or not.
fn check_arguments(payload: &Payload) {
    let is_sound_source = is_sound(payload);
    for target in ENCODINGS {
        let args = to_args(payload, None, target);
        assert!(matches!(&args, Payload::Args { encoding, .. } if *encoding == target));
        assert!(!is_sound_source || is_sound(&args), "{args:?}");
        let body = to_bytes_in(payload, target);
        let encoding = match body.content_type {
            Some(JSON_TYPE) => Some(Encoding::Json),
            Some("application/msgpack") => Some(Encoding::MsgPack),
            Some("application/cbor") => Some(Encoding::Cbor),
            // A lone binary goes as it is.
            _ => None,
        };
        if let Some(encoding) = encoding.filter(|_| is_sound_source) {
            assert_ne!(is_well_formed(&body.bytes, encoding), Some(false), "{body:?}");
        }
        if body.is_utf8 {
            assert!(std::str::from_utf8(&body.bytes).is_ok(), "{body:?}");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 8] = [
        br#"{"args":[1,{"a":"\u0000AAEC"}],"kwargs":{"b":[true,null]}}"#,
        br#"[1.5,-1e300,18446744073709551615,123456789012345678901234567890,"\ud83d\ude00\ud800"]"#,
        br#"{"a":[[[[{}]]]],"":"\n\t\u0001"}"#,
        "\u{feff}\"é\"".as_bytes(),
        b"plain text",
        b"\x82\xa1a\x93\xc0\xcb\x7f\xf0\0\0\0\0\0\0\xd6\xff\0\0\0\x01\x01\xc4\x01x",
        b"\xa2\x61a\x9f\xc2\x49\x01\0\0\0\0\0\0\0\0\xf7\xf9\x7c\0\xff\x01\xd8\x2a\x7f\x61a\xff",
        b"\xff\0\xfe",
    ];
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for text in texts {
        seeds.extend((0..6).map(|choice| [&[choice, 0], text].concat()));
        seeds.extend((0x80..0x83).map(|choice| [&[choice, text.len() as u8], text].concat()));
    }
    for (choice, encoding) in (0x80..).zip(ENCODINGS) {
        seeds.extend(messages(encoding).iter().map(|message| [[choice, message.len() as u8].as_slice(), message].concat()));
    }
    seeds
}
