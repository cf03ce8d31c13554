//! The table of MAPPING, Payloads, row by row, round trips, and input that is nothing at all.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use rmpv::Value;

use super::*;
use crate::model::payload::Part;

const ENCODINGS: [Encoding; 3] = [Encoding::Json, Encoding::MsgPack, Encoding::Cbor];

fn json_args(args: &str, kwargs: &str) -> Payload {
    let (args, kwargs) = (Bytes::copy_from_slice(args.as_bytes()), Bytes::copy_from_slice(kwargs.as_bytes()));
    Payload::Args { encoding: Encoding::Json, args, kwargs }
}

fn args_in(encoding: Encoding, args: &[u8], kwargs: &[u8]) -> Payload {
    Payload::Args { encoding, args: Bytes::copy_from_slice(args), kwargs: Bytes::copy_from_slice(kwargs) }
}

fn mqtt(bytes: &[u8]) -> Payload {
    Payload::Bytes(Bytes::copy_from_slice(bytes))
}

fn typed(content_type: &str) -> Properties {
    Properties { content_type: Some(content_type.into()), ..Properties::default() }
}

/// Args and kwargs as JSON text.
fn shown(payload: &Payload) -> (String, String) {
    match to_args(payload, None, Encoding::Json) {
        Payload::Args { args, kwargs, .. } => {
            (String::from_utf8(args.to_vec()).unwrap(), String::from_utf8(kwargs.to_vec()).unwrap())
        }
        other => panic!("not arguments: {other:?}"),
    }
}

fn pair(args: &str, kwargs: &str) -> (String, String) {
    (args.to_owned(), kwargs.to_owned())
}

#[test]
fn arguments_become_messages() {
    let json = |text: &str| Body {
        bytes: Bytes::copy_from_slice(text.as_bytes()),
        content_type: Some("application/json"),
        is_utf8: true,
    };
    let raw = |bytes: &[u8]| Body { bytes: Bytes::copy_from_slice(bytes), content_type: None, is_utf8: false };
    let binary = |bytes: &[u8]| Body { content_type: Some("application/octet-stream"), ..raw(bytes) };
    let bare = |text: &str| Body { content_type: Some("text/plain"), ..json(text) };
    let table = [
        ("", "", raw(b"")),
        ("[]", "", raw(b"")),
        ("[ ]", "{ }", raw(b"")),
        ("[1]", "", json("1")),
        ("[1.50]", "{}", json("1.50")),
        ("[ {\"b\":1, \"a\":2} ]", "", json("{\"b\":1, \"a\":2}")),
        ("[null]", "", json("null")),
        ("[[]]", "", json("[]")),
        ("[\"text\"]", "", bare("text")),
        ("[\"a\\u0000b\\u001b[1m\\n\"]", "", bare("a\0b\x1b[1m\n")),
        ("[\"{\\\"a\\\":\"]", "", bare("{\"a\":")),
        ("[\"ON\"]", "{}", bare("ON")),
        ("[\"-\"]", "", bare("-")),
        ("[\"nul\"]", "", bare("nul")),
        ("[\"\u{feff}\"]", "", bare("\u{feff}")),
        ("[\"\"]", "", json("\"\"")),
        ("[\"1\"]", "", json("\"1\"")),
        ("[\"true\"]", "", json("\"true\"")),
        ("[\"[]\\t\"]", "", json("\"[]\\t\"")),
        ("[\"\\\"x\\\"\"]", "", json("\"\\\"x\\\"\"")),
        ("[\"\u{feff}null\"]", "", json("\"\u{feff}null\"")),
        ("[\"\\u0000AAEC\"]", "", binary(&[0, 1, 2])),
        ("[\"\\u0000\"]", "", binary(b"")),
        ("[\"\\u0000?\"]", "", json("\"\\u0000?\"")),
        ("[1,2]", "", json("[1,2]")),
        ("[1,\"\\u0000AAEC\"]", "", json("[1,\"\\u0000AAEC\"]")),
        ("[]", "{\"a\":1}", json("{\"a\":1}")),
        ("", "{\"a\":1}", json("{\"a\":1}")),
        ("[1]", "{\"a\":1}", json("{\"args\":[1],\"kwargs\":{\"a\":1}}")),
        ("[1,2]", "{\"a\":1}", json("{\"args\":[1,2],\"kwargs\":{\"a\":1}}")),
    ];
    for (args, kwargs, expected) in table {
        let payload = json_args(args, kwargs);
        assert_eq!(to_bytes(&payload, None), expected, "{args} {kwargs}");
        for encoding in [Encoding::MsgPack, Encoding::Cbor] {
            let body = to_bytes(&to_args(&payload, None, encoding), None);
            let is_json = expected.content_type == Some(JSON_TYPE);
            let spaceless: Vec<u8> = expected.bytes.iter().copied().filter(|byte| *byte != b' ' || !is_json).collect();
            let bytes = if args.contains("1.50") { Bytes::from_static(b"1.5") } else { spaceless.into() };
            assert_eq!(body, Body { bytes, ..expected.clone() }, "{encoding:?} {args} {kwargs}");
        }
    }
}

#[test]
fn messages_become_arguments() {
    let binary = |bytes: &[u8]| pair(&format!("[\"\\u0000{}\"]", STANDARD.encode(bytes)), "");
    let table: &[(&[u8], (String, String))] = &[
        (b"", pair("", "")),
        (b"42", pair("[42]", "")),
        (b" {\"a\" : 1.0}\n", pair("[{\"a\" : 1.0}]", "")),
        (b"\xEF\xBB\xBF[1,2]", pair("[[1,2]]", "")),
        (b"\"\\ud800\"", pair("[\"\\ud800\"]", "")),
        (b"{\"a\":1,\"a\":2}", pair("[{\"a\":1,\"a\":2}]", "")),
        (b"{\"args\":[1],\"kwargs\":{\"a\":2}}", pair("[1]", "{\"a\":2}")),
        (b" { \"kwargs\": {} , \"args\": [ ] } ", pair("[ ]", "{}")),
        (b"{\"args\":[1]}", pair("[{\"args\":[1]}]", "")),
        (b"{\"args\":[1],\"kwargs\":[]}", pair("[{\"args\":[1],\"kwargs\":[]}]", "")),
        (b"{\"args\":[1],\"kwargs\":{},\"x\":1}", pair("[{\"args\":[1],\"kwargs\":{},\"x\":1}]", "")),
        (b"hello", pair("[\"hello\"]", "")),
        (b"{\"a\":", pair("[\"{\\\"a\\\":\"]", "")),
        (b"1 2", pair("[\"1 2\"]", "")),
        ("äö\r\n".as_bytes(), pair("[\"äö\\r\\n\"]", "")),
        (b"\0", binary(b"\0")),
        (b"\0text", binary(b"\0text")),
        (b"a\0b", pair("[\"a\\u0000b\"]", "")),
        (b"\x01\x02", pair("[\"\\u0001\\u0002\"]", "")),
        (b"a\x1bb", pair("[\"a\\u001bb\"]", "")),
        ("\u{feff}ON".as_bytes(), pair("[\"\u{feff}ON\"]", "")),
        (b"\xFF\xFE", binary(b"\xFF\xFE")),
        (b"\"\xFF\"", binary(b"\"\xFF\"")),
        (b"[1,2\xC0\x80]", binary(b"[1,2\xC0\x80]")),
    ];
    for (bytes, expected) in table {
        assert_eq!(shown(&mqtt(bytes)), *expected, "{}", bytes.escape_ascii());
        for encoding in [Encoding::MsgPack, Encoding::Cbor] {
            let (args, kwargs) = shown(&to_args(&mqtt(bytes), None, encoding));
            let value = |text: &str| (!text.is_empty()).then(|| serde_json::from_str::<serde_json::Value>(text).ok());
            if !bytes.starts_with(b"\"\\ud800") {
                assert_eq!((value(&args), value(&kwargs)), (value(&expected.0), value(&expected.1)), "{encoding:?}");
            }
        }
    }
}

#[test]
fn content_types_and_formats_are_believed_if_they_fit() {
    let to_json = |bytes: &[u8], properties: &Properties| shown(&to_args(&mqtt(bytes), Some(properties), Encoding::Json));
    assert_eq!(to_json(b"\x92\x01\x02", &typed("application/msgpack")), pair("[[1,2]]", ""));
    assert_eq!(to_json(b"\x82\x01\x02", &typed("Application/CBOR; x=y")), pair("[[1,2]]", ""));
    let call = b"\x82\xA4args\x91\x01\xA6kwargs\x81\xA1a\xC0";
    assert_eq!(to_json(call, &typed("application/msgpack")), pair("[1]", "{\"a\":null}"));
    // A body that is not of its content type is read by its looks.
    assert_eq!(to_json(b"{\"a\":1}", &typed("application/msgpack")), pair("[{\"a\":1}]", ""));
    assert_eq!(to_json(b"\xC1", &typed("application/msgpack")), pair("[\"\\u0000wQ==\"]", ""));
    assert_eq!(to_json(b"\x81\x01\x02", &typed("application/cbor")), pair("[\"\\u0000gQEC\"]", ""));
    assert_eq!(to_json(b"ON", &typed("application/cbor")), pair("[\"ON\"]", ""));
    assert_eq!(to_json(b"1", &typed("application/octet-stream")), pair("[\"\\u0000MQ==\"]", ""));
    assert_eq!(to_json(b"\x01", &typed("text/plain")), pair("[\"\\u0001\"]", ""));
    let text = Properties { payload_format: Some(true), ..Properties::default() };
    assert_eq!(to_json(b"\x01", &text), pair("[\"\\u0001\"]", ""));
    assert_eq!(to_json(b"\xFF", &text), pair("[\"\\u0000/w==\"]", ""));
    assert_eq!(to_json(b"\0AAEC", &text), pair("[\"\\u0000AEFBRUM=\"]", ""));
    // The same encoding is not touched: the head is one byte, the rest is what came.
    let payload = to_args(&mqtt(b"\xDC\x00\x01\xCC\x01"), Some(&typed("application/msgpack")), Encoding::MsgPack);
    assert_eq!(payload, args_in(Encoding::MsgPack, b"\x91\xDC\x00\x01\xCC\x01", b""));
}

#[test]
fn bodies_can_be_in_other_encodings() {
    let body = to_bytes_in(&json_args("[1]", "{\"a\":true}"), Encoding::MsgPack);
    assert_eq!(body.bytes, &b"\x82\xA4args\x91\x01\xA6kwargs\x81\xA1a\xC3"[..]);
    assert_eq!((body.content_type, body.is_utf8), (Some("application/msgpack"), false));
    let body = to_bytes_in(&json_args("[1,-1]", ""), Encoding::Cbor);
    assert_eq!((body.bytes.as_ref(), body.content_type), (&b"\x82\x01\x20"[..], Some("application/cbor")));
    // The publisher's own content type is kept to.
    let ways = [
        ("application/msgpack", &b"\xA2ON"[..]),
        ("application/cbor; x=y", b"\x62ON"),
        ("application/json", b"\"ON\""),
        ("application/ld+JSON", b"\"ON\""),
        ("text/plain", b"ON"),
        ("application/octet-stream", b"ON"),
    ];
    for (content_type, bytes) in ways {
        assert_eq!(to_bytes(&json_args("[\"ON\"]", ""), Some(&typed(content_type))).bytes, bytes, "{content_type}");
    }
}

/// MsgPack bytes of one value, and what JSON makes of it.
const FROM_MSGPACK: &[(&[u8], &str)] = &[
    (b"\xC0", "null"),
    (b"\xCB\x3F\xF0\x00\x00\x00\x00\x00\x00", "1.0"),
    (b"\xCA\x3F\x80\x00\x00", "1.0"),
    (b"\xCA\x3D\xCC\xCC\xCD", "0.10000000149011612"),
    (b"\xCB\x7F\xF8\x00\x00\x00\x00\x00\x00", "null"),
    (b"\xCB\xFF\xF0\x00\x00\x00\x00\x00\x00", "null"),
    (b"\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "18446744073709551615"),
    (b"\xD3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
    (b"\xC4\x03\x00\x01\x02", "\"\\u0000AAEC\""),
    (b"\xA2\x00A", "\"\\u0000A\""),
    (b"\x81\x01\x02", "{\"1\":2}"),
    (b"\x81\xFF\x02", "{\"-1\":2}"),
    (b"\x81\xC0\x02", "{\"null\":2}"),
    (b"\x81\xC3\x02", "{\"true\":2}"),
    (b"\x81\xCB\x3F\xF8\x00\x00\x00\x00\x00\x00\x02", "{\"1.5\":2}"),
    (b"\x81\xC4\x01\xFF\x02", "{\"\\u0000/w==\":2}"),
    (b"\x81\x91\x01\x02", "{\"\\u0000kQE=\":2}"),
    (b"\xD6\xFF\x00\x00\x00\x05", "5"),
    (b"\xD7\xFF\x77\x35\x94\x00\x00\x00\x00\x05", "5.5"),
    (b"\xC7\x0C\xFF\x00\x00\x00\x00\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE", "-2"),
    (b"\xD4\x05\x09", "\"\\u0000CQ==\""),
];

/// CBOR bytes of one value, and what JSON and MsgPack make of it.
const FROM_CBOR: &[(&[u8], &str, &[u8])] = &[
    (b"\xF7", "null", b"\xC0"),
    (b"\xE5", "5", b"\x05"),
    (b"\xF9\x3C\x00", "1.0", b"\xCA\x3F\x80\x00\x00"),
    (b"\xF9\x00\x01", "5.960464477539063e-8", b"\xCA\x33\x80\x00\x00"),
    (b"\xF9\x7E\x00", "null", b"\xCA\x7F\xC0\x00\x00"),
    (b"\xF9\xFC\x00", "null", b"\xCA\xFF\x80\x00\x00"),
    (b"\x3B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "-18446744073709551616", b"\xCB\xC3\xF0\x00\x00\x00\x00\x00\x00"),
    (b"\xC2\x42\x01\x00", "256", b"\xCD\x01\x00"),
    (b"\xC3\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00", "-18446744073709551617", b"\xCB\xC3\xF0\x00\x00\x00\x00\x00\x00"),
    (b"\xC2\x61a", "\"a\"", b"\xA1a"),
    (b"\xC1\x05", "5", b"\x05"),
    (b"\xC0\xC0\x61a", "\"a\"", b"\xA1a"),
    (b"\x9F\x01\xBF\x61a\x9F\xFF\xFF\xFF", "[1,{\"a\":[]}]", b"\x92\x01\x81\xA1a\x90"),
    (b"\x7F\x61a\x61b\xFF", "\"ab\"", b"\xA2ab"),
    (b"\x5F\x41\x00\x42\x01\x02\xFF", "\"\\u0000AAEC\"", b"\xC4\x03\x00\x01\x02"),
    (b"\xA1\xC1\x01\x02", "{\"1\":2}", b"\x81\x01\x02"),
    (b"\xA1\xA0\x02", "{\"\\u0000oA==\":2}", b"\x81\xC4\x01\xA0\x02"),
];

/// JSON text of one value, and what MsgPack and CBOR make of it.
const FROM_JSON: &[(&str, &[u8], &[u8])] = &[
    ("-0", b"\xCB\x80\x00\x00\x00\x00\x00\x00\x00", b"\xFB\x80\x00\x00\x00\x00\x00\x00\x00"),
    ("1e0", b"\xCB\x3F\xF0\x00\x00\x00\x00\x00\x00", b"\xFB\x3F\xF0\x00\x00\x00\x00\x00\x00"),
    ("-18446744073709551616", b"\xCB\xC3\xF0\x00\x00\x00\x00\x00\x00", b"\x3B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
    ("18446744073709551616", b"\xCB\x43\xF0\x00\x00\x00\x00\x00\x00", b"\xC2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00"),
    ("1e400", b"\xA51e400", b"\x651e400"),
    ("\"\\u0000AAEC\"", b"\xC4\x03\x00\x01\x02", b"\x43\x00\x01\x02"),
    ("\"\\u0000A\"", b"\xA2\x00A", b"\x62\x00A"),
    ("{\"\\u0000AAEC\":0}", b"\x81\xA5\x00AAEC\x00", b"\xA1\x65\x00AAEC\x00"),
    ("\"\\ud800x\\ud83d\\ude00\"", b"\xA8\xEF\xBF\xBDx\xF0\x9F\x98\x80", b"\x68\xEF\xBF\xBDx\xF0\x9F\x98\x80"),
];

fn value_of(input: &[u8], from: Encoding, to: Encoding) -> Vec<u8> {
    let mut out = BytesMut::new();
    append(from, &Bytes::copy_from_slice(input), to, &mut out).unwrap();
    out.to_vec()
}

#[test]
fn what_the_target_has_no_word_for() {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    for (input, json) in FROM_MSGPACK {
        assert_eq!(text(value_of(input, Encoding::MsgPack, Encoding::Json)), *json, "{}", input.escape_ascii());
    }
    for (input, json, msgpack) in FROM_CBOR {
        assert_eq!(text(value_of(input, Encoding::Cbor, Encoding::Json)), *json, "{}", input.escape_ascii());
        assert_eq!(value_of(input, Encoding::Cbor, Encoding::MsgPack), *msgpack, "{}", input.escape_ascii());
    }
    for (input, msgpack, cbor) in FROM_JSON {
        assert_eq!(value_of(input.as_bytes(), Encoding::Json, Encoding::MsgPack), *msgpack, "{input}");
        assert_eq!(value_of(input.as_bytes(), Encoding::Json, Encoding::Cbor), *cbor, "{input}");
    }
    let time = value_of(b"\xD6\xFF\x00\x00\x00\x05", Encoding::MsgPack, Encoding::Cbor);
    assert_eq!(time, b"\xC1\x05");
}

#[test]
fn what_is_too_deep_is_text_or_binary() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let fits = nested(MAX_DEPTH);
    assert_eq!(shown(&mqtt(fits.as_bytes())).0, format!("[{fits}]"));
    let deep = nested(MAX_DEPTH + 1);
    let text = json_args(&format!("[\"{deep}\"]"), "");
    for encoding in ENCODINGS {
        let payload = to_args(&mqtt(deep.as_bytes()), None, encoding);
        assert_eq!(to_args(&payload, None, Encoding::Json), text);
        assert_eq!(to_bytes(&payload, None).bytes, deep);
    }
    assert_eq!(to_bytes(&json_args(&format!("[\"{fits}\"]"), ""), None).bytes, format!("\"{fits}\""));
    let typed_deep = mqtt(&[vec![0x91; MAX_DEPTH], vec![0x90]].concat());
    let binary = shown(&to_args(&typed_deep, Some(&typed(MSGPACK_TYPE)), Encoding::Json)).0;
    assert!(binary.starts_with("[\"\\u0000kZGR"), "{binary}");
    // Between WAMP clients of the same encoding, and towards MQTT, nothing has to be converted.
    let abyss = nested(1_000_000);
    assert_eq!(to_args(&json_args(&abyss, ""), None, Encoding::Json), json_args(&abyss, ""));
    assert_eq!(to_bytes(&json_args(&format!("[{abyss}]"), ""), None).bytes, abyss);
    let payload = to_args(&json_args(&abyss, "{\"a\":1}"), None, Encoding::Cbor);
    let both =
        [[abyss.as_bytes(), b""].concat(), b"{\"a\":1}".to_vec()].map(|part| format!("\"\\u0000{}\"", STANDARD.encode(part)));
    assert_eq!(shown(&payload).0, format!("[{}]", both.join(",")));
    // Arguments that came as MsgPack and cannot be JSON go as MsgPack.
    let msgpack = args_in(Encoding::MsgPack, &[vec![0x91; 1000], vec![0x90]].concat(), b"");
    let body = to_bytes(&msgpack, None);
    assert_eq!((body.bytes.len(), body.content_type), (1000, Some("application/msgpack")));
    assert_eq!(to_args(&mqtt(&body.bytes), Some(&typed("application/msgpack")), Encoding::MsgPack).len(), 1004);
}

#[test]
fn arguments_that_are_none_are_survived() {
    for encoding in ENCODINGS {
        for (args, kwargs) in [(&b"\xC1"[..], &b""[..]), (b"1", b"{"), (b"", b"\xFF"), (b"[1", b"")] {
            let payload = args_in(encoding, args, kwargs);
            for target in ENCODINGS {
                let converted = to_args(&payload, None, target);
                assert!(matches!(converted, Payload::Args { encoding, .. } if encoding == target));
            }
            let body = to_bytes(&payload, None);
            assert!(!body.bytes.is_empty());
        }
    }
}

/// Values that every encoding can say.
fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e300..1e300_f64).prop_map(Value::from),
        "[^\0]{0,12}".prop_map(Value::from),
        vec(any::<u8>(), 0..40).prop_map(Value::Binary),
    ];
    let inner = leaf.prop_recursive(5, 60, 20, |inner| {
        let map = btree_map("[a-zäö\"]{0,5}", inner.clone(), 0..20);
        prop_oneof![
            vec(inner, 0..20).prop_map(Value::Array),
            map.prop_map(|map| Value::Map(map.into_iter().map(|(key, value)| (Value::from(key), value)).collect())),
        ]
    });
    inner.boxed()
}

/// Texts of every kind; never what JSON would take for binary.
fn text() -> BoxedStrategy<String> {
    let json = value().prop_map(|value| {
        let json = value_of(&msgpack(&value), Encoding::MsgPack, Encoding::Json);
        String::from_utf8(json).unwrap()
    });
    let broken = (json.clone(), any::<proptest::sample::Index>(), "[ -~\\n\0\u{1b}é]{0,2}").prop_map(|(json, at, noise)| {
        let at = (0..=at.index(json.len() + 1)).rev().find(|at| json.is_char_boundary(*at)).unwrap();
        format!("{}{noise}{}", &json[..at], &json[at..])
    });
    let depth = (MAX_DEPTH - 1..MAX_DEPTH + 2).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth));
    let spelled = prop_oneof![
        Just(String::new()),
        "\\PC{0,12}",
        "[\u{0}-\u{1f}a]{0,4}",
        "[-+0-9.eE]{0,6}",
        "(true|false|null|NaN|Infinity|ON|nul)[ \n]?",
        "[ \t\n\u{feff}]{0,2}[\"\\[{]?[a1,:]{0,3}[\"\\]}]?",
        json,
        broken,
        depth,
    ];
    spelled.prop_filter("WAMP's JSON has no such text", |text| crate::wire::wamp::json::binary_of(text).is_none()).boxed()
}

/// MQTT messages of every kind.
fn message() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![text().prop_map(String::into_bytes), vec(any::<u8>(), 0..20), value().prop_map(|value| msgpack(&value))].boxed()
}

/// Args and kwargs as the values that they spell.
fn values(payload: &Payload) -> [Option<serde_json::Value>; 2] {
    let (args, kwargs) = shown(payload);
    [args, kwargs].map(|text| serde_json::from_str(&text).ok())
}

fn msgpack(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).unwrap();
    out
}

fn kwargs() -> BoxedStrategy<Value> {
    btree_map("[a-z]{1,5}", value(), 1..4)
        .prop_map(|map| Value::Map(map.into_iter().map(|(key, value)| (Value::from(key), value)).collect()))
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn values_survive_the_round(value in value()) {
        let start = msgpack(&value);
        for way in [
            [Encoding::MsgPack, Encoding::Json, Encoding::Cbor, Encoding::MsgPack],
            [Encoding::MsgPack, Encoding::Cbor, Encoding::Json, Encoding::MsgPack],
        ] {
            let end = way.windows(2).fold(start.clone(), |bytes, step| value_of(&bytes, step[0], step[1]));
            prop_assert_eq!(rmpv::decode::read_value(&mut end.as_slice()).unwrap(), value.clone());
        }
    }

    #[test]
    fn foreign_readers_agree(value in value()) {
        let start = msgpack(&value);
        let json = value_of(&start, Encoding::MsgPack, Encoding::Json);
        let ours: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let cbor = value_of(&json, Encoding::Json, Encoding::Cbor);
        let again: serde_json::Value = serde_json::from_slice(&value_of(&cbor, Encoding::Cbor, Encoding::Json)).unwrap();
        prop_assert_eq!(&ours, &again);
        let mut reader = cbor4ii::core::utils::SliceReader::new(&cbor);
        let foreign: Result<cbor4ii::core::Value, _> = cbor4ii::core::dec::Decode::decode(&mut reader);
        prop_assert!(foreign.is_ok());
    }

    #[test]
    fn calls_survive_mqtt(args in vec(value(), 1..4), kwargs in kwargs()) {
        for encoding in ENCODINGS {
            let start = args_in(Encoding::MsgPack, &msgpack(&Value::Array(args.clone())), &msgpack(&kwargs));
            let start = to_args(&start, None, encoding);
            let body = to_bytes(&start, None);
            prop_assert!(body.is_utf8 && std::str::from_utf8(&body.bytes).is_ok());
            let Payload::Args { args: back, kwargs: back_kwargs, .. } =
                to_args(&Payload::Bytes(body.bytes), None, Encoding::MsgPack) else { panic!("not arguments") };
            prop_assert_eq!(rmpv::decode::read_value(&mut back.as_ref()).unwrap(), Value::Array(args.clone()));
            prop_assert_eq!(rmpv::decode::read_value(&mut back_kwargs.as_ref()).unwrap(), kwargs.clone());
        }
    }

    #[test]
    fn single_values_survive_mqtt(value in value()) {
        let start = args_in(Encoding::MsgPack, &msgpack(&Value::Array(vec![value.clone()])), b"");
        let body = to_bytes(&start, None);
        let properties = body.content_type.map(typed);
        let back = to_args(&Payload::Bytes(body.bytes), properties.as_ref(), Encoding::MsgPack);
        let Payload::Args { args, .. } = back else { panic!("not arguments") };
        let expected = if value == Value::Binary(Vec::new()) { vec![] } else { vec![value] };
        let found = if args.is_empty() { Value::Array(vec![]) } else { rmpv::decode::read_value(&mut args.as_ref()).unwrap() };
        prop_assert_eq!(found, Value::Array(expected));
    }

    #[test]
    fn texts_come_back_from_mqtt(text in text(), from in 0..3_usize, to in 0..3_usize) {
        let start = to_args(&args_in(Encoding::MsgPack, &msgpack(&Value::Array(vec![text.as_str().into()])), b""), None, ENCODINGS[from]);
        let body = to_bytes(&start, None);
        prop_assert!(body.is_utf8 && !body.bytes.is_empty());
        // Bare, but for those that would not come back.
        let is_bare = body.bytes == text.as_bytes();
        let is_json = is_json(&text);
        prop_assert_eq!(is_bare, !text.is_empty() && !is_json && !text.starts_with('\0'));
        prop_assert_eq!(body.content_type, Some(if is_bare { TEXT_TYPE } else { JSON_TYPE }));
        let properties = typed(body.content_type.unwrap());
        for properties in [None, Some(&properties)] {
            let back = to_args(&Payload::Bytes(body.bytes.clone()), properties, ENCODINGS[to]);
            prop_assert_eq!(shown(&back), shown(&start));
        }
    }

    #[test]
    fn messages_come_back_from_wamp(bytes in message(), by in 0..3_usize, content in 0..5_usize) {
        let properties = typed(["application/msgpack", "application/cbor", "application/json", "text/plain", ""][content]);
        let args = to_args(&mqtt(&bytes), Some(&properties), ENCODINGS[by]);
        let body = to_bytes(&args, None);
        // The same bytes, or what every client of WAMP takes for the same.
        let properties = body.content_type.map(typed);
        for encoding in ENCODINGS {
            let again = to_args(&Payload::Bytes(body.bytes.clone()), properties.as_ref(), encoding);
            let is_same = body.bytes == bytes || values(&again) == values(&args);
            prop_assert!(is_same, "{:?} {:?} {:?}", bytes.escape_ascii().to_string(), args, again);
        }
    }

    #[test]
    fn noise_is_delivered(bytes in vec(any::<u8>(), 1..60), content in 0..4_usize, to in 0..3_usize) {
        let properties = typed(["application/msgpack", "application/cbor", "application/json", ""][content]);
        let payload = to_args(&mqtt(&bytes), Some(&properties), ENCODINGS[to]);
        // The result must be arguments that a WAMP client could have sent.
        let mut out = BytesMut::new();
        let message = crate::wire::wamp::Message::Yield {
            invocation: crate::model::InvocationId(1),
            options: Default::default(),
            payload: payload.clone(),
        };
        crate::wire::wamp::encode(&message, ENCODINGS[to], &mut out);
        let bytes = out.freeze();
        prop_assert_eq!(crate::wire::wamp::decode(&bytes, ENCODINGS[to]), Ok(message));
    }

    #[test]
    fn what_is_json_is_what_serde_says(bytes in "[\\[\\]{}\",:0-9eE.+\\-truefalsn \\\\u]{0,24}") {
        let ours = check(Encoding::Json, &Bytes::from(bytes.clone()));
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&bytes);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}", bytes);
    }

    #[test]
    fn what_is_msgpack_is_what_rmpv_says(bytes in vec(any::<u8>(), 0..24)) {
        let ours = check(Encoding::MsgPack, &Bytes::from(bytes.clone()));
        let mut rest = bytes.as_slice();
        let theirs = rmpv::decode::read_value(&mut rest).ok().filter(|value| rest.is_empty() && is_unicode(value));
        // rmpv takes the byte that is never used for nil.
        prop_assert!(ours.is_ok() == theirs.is_some() || bytes.contains(&0xC1), "{:?}", theirs);
    }

    #[test]
    fn what_is_cbor_is_what_cbor4ii_says(bytes in vec(any::<u8>(), 0..24)) {
        use cbor4ii::core::{Value, dec::{Decode, Read}, error::DecodeError, utils::SliceReader};
        let ours = check(Encoding::Cbor, &Bytes::from(bytes.clone()));
        let mut reader = SliceReader::new(&bytes);
        match Value::decode(&mut reader) {
            Ok(_) if reader.fill(1).unwrap().as_ref().is_empty() => prop_assert!(ours.is_ok(), "{:?}", ours),
            // cbor4ii does not know simple values beyond undefined.
            Err(DecodeError::Unsupported { .. }) => {}
            _ => prop_assert!(ours.is_err(), "{:?}", ours),
        }
    }
}

/// rmpv keeps text that is no Unicode; we do not take it.
fn is_unicode(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_str(),
        Value::Array(list) => list.iter().all(is_unicode),
        Value::Map(map) => map.iter().all(|(key, value)| is_unicode(key) && is_unicode(value)),
        _ => true,
    }
}

/// One argument apart from the rest, in every encoding, byte for byte.
#[test]
fn an_argument_is_split_off_as_it_is() {
    for (encoding, args, kwargs, body, rest) in [
        (
            Encoding::Json,
            &br#"["q", {"a":[1 ,2]} ,{"d":5}]"#[..],
            &b""[..],
            &br#"[{"a":[1 ,2]}]"#[..],
            &br#"["q", null ,{"d":5}]"#[..],
        ),
        (Encoding::MsgPack, b"\x93\xa1q\xc4\x02\xFF\0\x80", b"", b"\x91\xc4\x02\xFF\0", b"\x93\xa1q\xc0\x80"),
        (Encoding::Cbor, b"\x82\x61q\xfb\x3f\xf0\0\0\0\0\0\0", b"", b"\x81\xfb\x3f\xf0\0\0\0\0\0\0", b"\x82\x61q\xf6"),
    ] {
        let split = split(&args_in(encoding, args, kwargs), None, 1, "body");
        assert_eq!(split, Some((args_in(encoding, body, b""), args_in(encoding, rest, b""))), "{encoding:?}");
    }
    let (body, rest) = split(&json_args(r#"["q"]"#, r#"{"x":1,"body":"\u0000AA=="}"#), None, 1, "body").unwrap();
    assert_eq!((body, shown(&rest)), (json_args(r#"["\u0000AA=="]"#, ""), pair(r#"["q"]"#, r#"{"x":1,"body":null}"#)));
    let message = mqtt(br#"{"args":["q",[true]],"kwargs":{}}"#);
    assert_eq!(shown(&split(&message, None, 1, "body").unwrap().0), pair("[[true]]", ""));
    let packed = mqtt(b"\x82\xa4args\x92\xa1q\xc4\x01\xFF\xa6kwargs\x80");
    let (body, _) = split(&packed, Some(&typed(MSGPACK_TYPE)), 1, "body").unwrap();
    assert_eq!(body, args_in(Encoding::MsgPack, b"\x91\xc4\x01\xFF", b""));
    for payload in [json_args(r#"["q"]"#, ""), json_args("", ""), mqtt(b"q"), mqtt(b""), json_args("[", "{")] {
        assert_eq!(split(&payload, None, 1, "body"), None, "{payload:?}");
    }
}

/// Each part of a list in the encoding of whoever gets it.
#[test]
fn a_list_holds_payloads_of_every_kind() {
    let part = |token: &str, payload: Payload, properties: Option<Properties>| Part {
        head: [("id".to_owned(), 7.into()), ("token".to_owned(), token.into())].into_iter().collect(),
        payload,
        properties: properties.map(std::sync::Arc::new),
    };
    let list = Payload::List(
        [
            part("a", args_in(Encoding::MsgPack, b"\x91\xc4\x01\xFF", b""), None),
            part("b", mqtt(b"\x01"), Some(typed(CBOR_TYPE))),
            part("c", json_args("[1,2]", r#"{"k":null}"#), None),
            part("d", mqtt(b""), None),
        ]
        .into(),
    );
    let expected = concat!(
        r#"[[{"id":7,"token":"a","args":["\u0000/w=="]},{"id":7,"token":"b","args":[1]},"#,
        r#"{"id":7,"token":"c","args":[1,2],"kwargs":{"k":null}},{"id":7,"token":"d","args":[]}]]"#
    );
    assert_eq!(shown(&list), pair(expected, ""));
    for encoding in ENCODINGS {
        let converted = to_args(&list, None, encoding);
        let is_same = encoding == Encoding::Json || shown(&converted) == pair(expected, "");
        assert!(is_same, "{encoding:?}: {:?}", shown(&converted));
    }
    let body = to_bytes(&list, None);
    assert_eq!(body.bytes, expected[1..expected.len() - 1]);
    assert_eq!((body.content_type, list.is_empty()), (Some(JSON_TYPE), false));
    assert_eq!(shown(&Payload::List([].into())), pair("[[]]", ""));
}
