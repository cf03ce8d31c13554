//! Messages in all three encodings: examples, round trips, and input that is none.
mod lenience;

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use cbor4ii::core::Value as CborValue;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use rmpv::Value;

use super::options::*;
use super::*;
use crate::model::command::{CancelMode, InvokePolicy};
use crate::model::properties::Passthru;
use crate::model::{
    Encoding, InvocationId, MatchPolicy, Payload, PublicationId, Qos, RegistrationId, RequestId, SessionId, SubscriptionId,
};

const ENCODINGS: [Encoding; 3] = [Encoding::Json, Encoding::MsgPack, Encoding::Cbor];

fn encoded(message: &Message<'_>, encoding: Encoding) -> Bytes {
    let mut out = BytesMut::new();
    encode(message, encoding, &mut out);
    out.freeze()
}

/// `json`, in the given encoding, by serializers that are not ours.
fn foreign(json: &serde_json::Value, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Json => serde_json::to_vec(json).unwrap().into(),
        Encoding::MsgPack => rmp_serde::to_vec_named(json).unwrap().into(),
        Encoding::Cbor => {
            let mut out = cbor4ii::core::utils::BufWriter::new(Vec::new());
            cbor4ii::core::enc::Encode::encode(&to_cbor(json), &mut out).unwrap();
            out.into_inner().into()
        }
    }
}

fn to_cbor(json: &serde_json::Value) -> CborValue {
    match json {
        serde_json::Value::Null => CborValue::Null,
        serde_json::Value::Bool(value) => CborValue::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => CborValue::Integer(i128::from(value)),
            (None, Some(value)) => CborValue::Integer(i128::from(value)),
            (None, None) => CborValue::Float(number.as_f64().unwrap()),
        },
        serde_json::Value::String(text) => CborValue::Text(text.clone()),
        serde_json::Value::Array(list) => CborValue::Array(list.iter().map(to_cbor).collect()),
        serde_json::Value::Object(map) => {
            CborValue::Map(map.iter().map(|(key, value)| (CborValue::Text(key.clone()), to_cbor(value))).collect())
        }
    }
}

fn from_cbor(cbor: &CborValue) -> serde_json::Value {
    match cbor {
        CborValue::Null => serde_json::Value::Null,
        CborValue::Bool(value) => (*value).into(),
        CborValue::Integer(value) => i64::try_from(*value).map_or_else(|_| u64::try_from(*value).unwrap().into(), Into::into),
        CborValue::Float(value) => (*value).into(),
        CborValue::Text(text) => text.clone().into(),
        CborValue::Array(list) => list.iter().map(from_cbor).collect(),
        CborValue::Map(map) => map
            .iter()
            .map(|(key, value)| match key {
                CborValue::Text(key) => (key.clone(), from_cbor(value)),
                other => panic!("a key that is no text: {other:?}"),
            })
            .collect(),
        other => panic!("not from JSON: {other:?}"),
    }
}

/// The JSON of a value in the given encoding, by readers that are not ours.
fn read_foreign(bytes: &[u8], encoding: Encoding) -> serde_json::Value {
    match encoding {
        Encoding::Json => serde_json::from_slice(bytes).unwrap(),
        Encoding::MsgPack => rmp_serde::from_slice(bytes).unwrap(),
        Encoding::Cbor => {
            let mut reader = cbor4ii::core::utils::SliceReader::new(bytes);
            from_cbor(&cbor4ii::core::dec::Decode::decode(&mut reader).unwrap())
        }
    }
}

fn parse(json: &str) -> serde_json::Value {
    serde_json::from_str(json).unwrap()
}

/// A text form of the outcome that is the same for all encodings: payloads as JSON.
fn shown(input: &Bytes, encoding: Encoding) -> String {
    match decode(input, encoding) {
        Err(error) => format!("{:?} {:?}: {error}", error.kind, error.request.map(|request| request.0)),
        Ok(message) => {
            let mut out = BytesMut::new();
            encode(&message, Encoding::Json, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        }
    }
}

/// Every message, as it comes back in the shortest spelling.
const GOOD: &[&str] = &[
    r#"[1,"realm1",{"roles":{"publisher":{},"subscriber":{},"caller":{"features":{"call_canceling":true}},"callee":{"features":{"call_timeout":true}}},"agent":"x","authmethods":["ticket","wampcra"],"authid":"joe","authextra":{"a":[1,null,-2.5]}}]"#,
    r#"[1,"",{}]"#,
    r#"[2,9007199254740992,{"roles":{"broker":{"features":{"event_history":true}},"dealer":{}},"realm":"realm1","authid":"joe","authrole":"user","authmethod":"ticket","authprovider":"static"}]"#,
    r#"[3,{"message":"no \"such\" realm\n"},"wamp.error.no_such_realm"]"#,
    r#"[3,{},"wamp.error.protocol_violation",["a"],{"b":1}]"#,
    r#"[4,"wamp-scram",{"salt":"c2FsdA==","iterations":4096,"kdf":"pbkdf2","nonce":"n"}]"#,
    r#"[4,"cryptosign",{"challenge":"00ff","channel_binding":"tls-unique"}]"#,
    r#"[5,"sig",{"nonce":"n","channel_binding":"tls-exporter","cbind_data":"x"}]"#,
    r#"[6,{},"wamp.close.close_realm"]"#,
    r#"[8,48,7,{"callee":5},"com.app.error",[1],{"k":"v"}]"#,
    r#"[8,68,7,{},"com.app.error"]"#,
    r#"[16,1,{},"a.b"]"#,
    r#"[16,1,{"acknowledge":true,"exclude_me":false,"disclose_me":true,"retain":true,"exclude":[1,2],"exclude_authid":["a"],"exclude_authrole":[],"eligible":[3],"eligible_authid":["b"],"eligible_authrole":["c"],"rkey":"k","qos":2,"expiry_s":60,"dedup":"d","when":null,"watch":true,"will":{"x":1},"mqtt":{"qos":1,"retain":false,"user_properties":[["a","b"],["a","c"]],"content_type":"text/plain"},"ppt_scheme":"x_a","ppt_keyid":"k"},"a.b",[],{"k":[]}]"#,
    // An attribute of payload passthru that is empty is not a missing one, and its scheme may be missing.
    r#"[16,1,{"ppt_scheme":""},"a.b"]"#,
    r#"[16,1,{"ppt_serializer":"","ppt_cipher":"","ppt_keyid":""},"a.b"]"#,
    r#"[17,1,2]"#,
    r#"[32,1,{"match":"prefix","get_retained":true,"nkey":"n","after":0,"retained":true,"retained_state":false,"snapshot":true,"filter":{"a":1}},"a"]"#,
    r#"[33,1,2]"#,
    r#"[34,1,2]"#,
    r#"[35,1]"#,
    r#"[35,0,{"subscription":4,"reason":"gone"}]"#,
    r#"[36,1,2,{"publisher":3,"publisher_authid":"a","publisher_authrole":"b","topic":"t","retained":true,"trustlevel":0},["x"]]"#,
    r#"[337,5]"#,
    r#"[48,1,{"timeout":5000,"receive_progress":true,"progress":false,"disclose_me":true,"runmode":"partition","rkey":"7"},"p",[1]]"#,
    r#"[49,1,{"mode":"kill"}]"#,
    r#"[49,1,{}]"#,
    r#"[50,1,{"progress":true},[null]]"#,
    r#"[64,1,{"match":"wildcard","invoke":"roundrobin","concurrency":4,"disclose_caller":true,"force_reregister":true,"forward_timeout":true},"p"]"#,
    r#"[65,1,2]"#,
    r#"[66,1,2]"#,
    r#"[67,1]"#,
    r#"[67,0,{"registration":4}]"#,
    r#"[68,1,2,{"procedure":"p","caller":3,"receive_progress":true,"timeout":9},[],{}]"#,
    r#"[69,1,{"mode":"killnowait","reason":"wamp.error.timeout"}]"#,
    r#"[70,1,{"progress":true},["x"],{"y":{}}]"#,
];

#[test]
fn every_message_survives_every_encoding() {
    for text in GOOD {
        for encoding in ENCODINGS {
            let input = foreign(&parse(text), encoding);
            let message = decode(&input, encoding).unwrap_or_else(|error| panic!("{text}: {error}"));
            let out = encoded(&message, encoding);
            assert_eq!(decode(&out, encoding).as_ref(), Ok(&message), "{text}");
            assert_eq!(read_foreign(&out, encoding), parse(text), "{encoding:?}");
        }
    }
}

/// `value` with each of its parts, itself among them, replaced by a mark in turn; those of a dictionary also without the others.
fn marked(value: &serde_json::Value) -> Vec<serde_json::Value> {
    use serde_json::Value::{Array, Object, String};
    let mut all = vec![String(MARK.to_owned())];
    match value {
        Array(list) => all.extend((0..list.len()).flat_map(|at| {
            marked(&list[at]).into_iter().map(move |part| {
                let mut list = list.clone();
                list[at] = part;
                Array(list)
            })
        })),
        Object(map) => all.extend(map.iter().flat_map(|(key, value)| {
            marked(value).into_iter().flat_map(move |part| {
                let alone = serde_json::Map::from_iter([(key.clone(), part)]);
                [map.clone().into_iter().chain(alone.clone()).collect(), Object(alone)]
            })
        })),
        _ => {}
    }
    all
}

const MARK: &str = "@here@";

/// The replacements for a part of a message: empty, at a bound, or of another type.
const PARTS: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "-0",
    "4294967296",
    "9007199254740993",
    "18446744073709551616",
    "-9223372036854775809",
    "0.5",
    "1e999",
    "1e-999",
    r#""""#,
    r#""\u0000""#,
    r#""\u0000AQI=""#,
    r#""\u0000AQI""#,
    r#""exact""#,
    "[]",
    r#"[""]"#,
    "[[]]",
    r#"[["","\u0000"]]"#,
    "{}",
    r#"{"":""}"#,
    r#"{"features":{}}"#,
];

#[test]
fn whatever_is_accepted_survives_every_encoding() {
    let mut accepted = 0;
    for text in GOOD {
        for (marked, part) in marked(&parse(text)).iter().flat_map(|marked| PARTS.iter().map(move |part| (marked, part))) {
            let text = marked.to_string().replace(&format!("\"{MARK}\""), part);
            let input = Bytes::from(text.clone());
            let Ok(message) = decode(&input, Encoding::Json) else { continue };
            accepted += 1;
            assert_eq!(decode(&encoded(&message, Encoding::Json), Encoding::Json).as_ref(), Ok(&message), "{text}");
            for encoding in ENCODINGS {
                let out = encoded(&message, encoding);
                let again = decode(&out, encoding).unwrap_or_else(|error| panic!("{text} in {encoding:?}: {error}"));
                assert_eq!(encoded(&again, encoding), out, "{text} in {encoding:?}");
            }
        }
    }
    assert!(accepted > 500, "{accepted}");
}

/// As in payloads: infinity is another number, and JSON has none.
#[test]
fn a_decimal_beyond_all_numbers_is_its_text() {
    let hello = |number: &str| format!(r#"[1,"realm1",{{"roles":{{"caller":{{}}}},"authextra":{{"a":{number},"b":1.5}}}}]"#);
    let (beyond, text) = (Bytes::from(hello("-1e999")), Bytes::from(hello("\"-1e999\"")));
    let message = decode(&beyond, Encoding::Json).unwrap();
    assert_eq!(message, decode(&text, Encoding::Json).unwrap());
    assert_eq!(decode(&encoded(&message, Encoding::Json), Encoding::Json).unwrap(), message);
}

#[test]
fn every_message_has_its_code() {
    for text in GOOD {
        for encoding in ENCODINGS {
            let input = foreign(&parse(text), encoding);
            let code = decode(&input, encoding).unwrap().code();
            assert_eq!(parse(text)[0], code);
            assert_eq!(message_code(&input, encoding), Some(code));
        }
    }
    assert_eq!(message_code(b" [ 16 , 1", Encoding::Json), Some(16));
    assert_eq!(message_code(b"[]", Encoding::Json), None);
    assert_eq!(message_code(b"", Encoding::MsgPack), None);
}

/// The messages that every encoding refuses, with the error of each.
const BAD: &[(&str, &str)] = &[
    ("{}", "Invalid None: invalid message: the message is not a list"),
    ("1", "Invalid None: invalid message: the message is not a list"),
    ("[]", "Invalid None: invalid message: message code is missing"),
    ("[1]", "Invalid None: invalid HELLO: Realm is missing"),
    ("[9999]", "UnknownCode(9999) None: unknown message code 9999"),
    ("[0]", "UnknownCode(0) None: unknown message code 0"),
    ("[18,1]", "UnknownCode(18) None: unknown message code 18"),
    ("[-1]", "Invalid None: invalid message: the message code is not an integer"),
    ("[\"1\"]", "Invalid None: invalid message: the message code is not an integer"),
    ("[1.5]", "Invalid None: invalid message: the message code is not an integer"),
    ("[1,2,{}]", "Invalid None: invalid HELLO: Realm is not a string"),
    ("[1,\"r\",[]]", "Invalid None: invalid HELLO: Details is not a dictionary"),
    ("[1,\"r\",{},1]", "Invalid None: invalid HELLO: there are more elements than it has"),
    ("[1,\"r\",{\"roles\":[]}]", "InvalidOption None: HELLO.Details.roles must be a dictionary"),
    ("[16,0,{},\"t\"]", "Invalid None: invalid PUBLISH: Request is not an id from 1 to 9007199254740992"),
    ("[16,9007199254740993,{},\"t\"]", "Invalid None: invalid PUBLISH: Request is not an id from 1 to 9007199254740992"),
    ("[16,\"1\",{},\"t\"]", "Invalid None: invalid PUBLISH: Request is not an id from 1 to 9007199254740992"),
    ("[16,1.5,{},\"t\"]", "Invalid None: invalid PUBLISH: Request is not an id from 1 to 9007199254740992"),
    ("[16,1,{},\"t\",{}]", "Invalid Some(1): invalid PUBLISH: Arguments is not a list"),
    ("[16,1,{},\"t\",[],[]]", "Invalid Some(1): invalid PUBLISH: ArgumentsKw is not a dictionary"),
    ("[16,1,{},\"t\",[],{},1]", "Invalid Some(1): invalid PUBLISH: there are more elements than it has"),
    ("[16,1,{},\"t\",null,[]]", "Invalid Some(1): invalid PUBLISH: ArgumentsKw is not a dictionary"),
    ("[16,1,{},\"t\",null,null,null]", "Invalid Some(1): invalid PUBLISH: there are more elements than it has"),
    ("[16,1,{},null]", "Invalid Some(1): invalid PUBLISH: Topic is not a string"),
    ("[16,null,{},\"t\"]", "Invalid None: invalid PUBLISH: Request is not an id from 1 to 9007199254740992"),
    ("[16,1,{\"acknowledge\":1},\"t\"]", "InvalidOption Some(1): PUBLISH.Options.acknowledge must be a boolean"),
    ("[16,1,{\"qos\":3},\"t\"]", "InvalidOption Some(1): PUBLISH.Options.qos must be 0, 1 or 2"),
    (
        "[16,1,{\"exclude\":[0]},\"t\"]",
        "InvalidOption Some(1): PUBLISH.Options.exclude must be a list of values of the right type",
    ),
    (
        "[32,1,{\"match\":\"regex\"},\"t\"]",
        "InvalidOption Some(1): SUBSCRIBE.Options.match must be \"exact\", \"prefix\" or \"wildcard\"",
    ),
    ("[32,1,{\"after\":\"1; DROP\"},\"t\"]", "InvalidOption Some(1): SUBSCRIBE.Options.after must be an integer from 0"),
    ("[32,1,{\"after\":-1},\"t\"]", "InvalidOption Some(1): SUBSCRIBE.Options.after must be an integer from 0"),
    ("[34,1]", "Invalid Some(1): invalid UNSUBSCRIBE: Subscription is missing"),
    ("[35,0]", "Invalid None: invalid UNSUBSCRIBED: Details is missing"),
    ("[8,47,1,{},\"e\"]", "Invalid None: invalid ERROR: REQUEST.Type is not the code of a request"),
    ("[70,1,{\"progress\":\"yes\"}]", "InvalidOption Some(1): YIELD.Options.progress must be a boolean"),
];

#[test]
fn what_is_no_message_is_refused() {
    for (text, expected) in BAD {
        for encoding in ENCODINGS {
            assert_eq!(shown(&foreign(&parse(text), encoding), encoding), *expected, "{text} {encoding:?}");
        }
    }
}

#[test]
fn broken_json_is_refused() {
    let table: &[(&[u8], &str)] = &[
        (b"", "Malformed"),
        (b"[", "Malformed"),
        (b"[16,1,{},\"t\"", "Malformed"),
        (b"[16,1,{},\"t\",]", "Malformed"),
        (b"[16,1,{,},\"t\"]", "Malformed"),
        (b"[16,1,{},\"t\"]]", "Malformed"),
        (b"[16,1,{},\"t\"] x", "Malformed"),
        (b"[16,01,{},\"t\"]", "Malformed"),
        (b"[16,1,{},\"\\ud800\"]", "Malformed"),
        (b"[16,1,{},\"\xff\"]", "Malformed"),
        (b"[16,1,{},\"\xed\xa0\x80\"]", "Malformed"),
        (b"[16,1,{},\"\x01\"]", "Malformed"),
        (b"[16,1,{},\"t\",[1 2]]", "Malformed"),
        (b"[16,1,{},\"t\",[+1]]", "Malformed"),
        (b"[16,1,{},\"t\",[NaN]]", "Malformed"),
        (b"[16,1,{},\"t\",[\"\\x\"]]", "Malformed"),
        (b"[16,1,{},\"t\",[{1:2}]]", "Malformed"),
        (b"\xef\xbb\xbf[16,1,{},\"t\"]", "Malformed"),
        (b"[16,1,{\"retain\":true,\"retain\":true},\"t\"]", "Excess"),
        (b"[16,1,{\"x\":1,\"\\u0078\":1},\"t\"]", "Excess"),
        (b"[16,1,{\"x\":{\"y\":1,\"y\":2}},\"t\"]", "Excess"),
        (b"[16,1e-1,{},\"t\"]", "Invalid"),
        (b"[16,9007199254740993.0,{},\"t\"]", "Invalid"),
        (b"[16,1e,{},\"t\"]", "Malformed"),
        (b"[16,-0,{},\"t\"]", "Invalid"),
    ];
    for (input, kind) in table {
        let input = Bytes::from_static(input);
        let found = format!("{:?}", decode(&input, Encoding::Json).expect_err("refused").kind);
        assert_eq!(found, *kind, "{}", input.escape_ascii());
    }
}

#[test]
fn broken_binary_is_refused() {
    let table: &[(Encoding, &[u8], &str)] = &[
        (Encoding::MsgPack, b"", "Malformed"),
        (Encoding::MsgPack, b"\xc1", "Malformed"),
        (Encoding::MsgPack, b"\xdd\xff\xff\xff\xff", "Malformed"),
        (Encoding::MsgPack, b"\x94\x10\x01\x80\xa1\xff", "Malformed"),
        (Encoding::MsgPack, b"\x94\x10\x01\x80\xa1t\x00", "Malformed"),
        (Encoding::MsgPack, b"\x94\x10\x01\x80\xc4\x01t", "Invalid"),
        (Encoding::MsgPack, b"\x94\x10\x01\x81\x01\x01\xa1t", "Invalid"),
        (Encoding::MsgPack, b"\x94\x10\x01\x82\xa1x\x01\xa1x\x01\xa1t", "Excess"),
        (Encoding::MsgPack, b"\x95\x10\x01\x80\xa1t\xdc\xff\xff\x01", "Malformed"),
        (Encoding::MsgPack, b"\x95\x10\x01\x80\xa1t\xdf\xff\xff\xff\xff", "Malformed"),
        (Encoding::MsgPack, b"\x95\x10\x01\x80\xa1t\x91\xa1\xff", "Malformed"),
        (Encoding::Cbor, b"", "Malformed"),
        (Encoding::Cbor, b"\xff", "Malformed"),
        (Encoding::Cbor, b"\x9f\x10", "Malformed"),
        (Encoding::Cbor, b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "Malformed"),
        (Encoding::Cbor, b"\x84\x10\x01\xa0\x61\xff", "Malformed"),
        (Encoding::Cbor, b"\x84\x10\x01\xa0\x61t\x00", "Malformed"),
        (Encoding::Cbor, b"\x84\x10\x01\xa0\x41t", "Invalid"),
        (Encoding::Cbor, b"\x84\x10\x01\xa1\x01\x01\x61t", "Invalid"),
        (Encoding::Cbor, b"\x84\x10\x01\xbf\x61x\xff\x61t", "Malformed"),
        (Encoding::Cbor, b"\x85\x10\x01\xa0\x61t\x9f\xff\xff", "Malformed"),
        (Encoding::Cbor, b"\x85\x10\x01\xa0\x61t\x81\xbf\x01\xff", "Malformed"),
        (Encoding::Cbor, b"\x85\x10\x01\xa0\x61t\x81\x7f\x41t\xff", "Malformed"),
        (Encoding::Cbor, b"\x85\x10\x01\xa0\x61t\x81\xc1", "Malformed"),
        (Encoding::Cbor, b"\x85\x10\x01\xa0\x61t\x81\xf8\x14", "Malformed"),
        (Encoding::Cbor, b"\x85\x10\x01\xa0\x61t\x81\x1c", "Malformed"),
    ];
    for (encoding, input, kind) in table {
        let input = Bytes::from_static(input);
        let found = format!("{:?}", decode(&input, *encoding).expect_err("refused").kind);
        assert_eq!(found, *kind, "{encoding:?} {}", input.escape_ascii());
    }
}

#[test]
fn cbor_may_leave_lengths_unsaid() {
    let input = Bytes::from_static(
        b"\x9f\x10\x01\xbf\x6backnowledge\xf5\x61x\xc1\x9f\xff\xff\x7f\x61a\x61.\x61b\xff\x9f\xbf\x01\x9f\xff\xff\xff\xff",
    );
    let Ok(Message::Publish { options, topic, payload, .. }) = decode(&input, Encoding::Cbor) else { panic!("refused") };
    assert_eq!((options.acknowledge, topic.as_ref()), (Some(true), "a.b"));
    let args = Bytes::from_static(b"\x9f\xbf\x01\x9f\xff\xff\xff");
    assert_eq!(payload, Payload::Args { encoding: Encoding::Cbor, args, kwargs: Bytes::new() });
}

#[test]
fn payloads_are_kept_as_they_are() {
    let payload = r#"[ 1.0 , 1e2, 123456789012345678901234567890, "\u0041\ud800", {"b":1,"a":2,"a":3}],  {"z" : -0, "a": [ ] }"#;
    let input = Bytes::from(format!("[16, 7 , {{ }} ,\"\\u0061\\ud83d\\ude00\", {payload} ] \n"));
    let Ok(Message::Publish { request, topic, payload, .. }) = decode(&input, Encoding::Json) else { panic!("refused") };
    assert_eq!((request, topic.as_ref()), (RequestId(7), "a😀"));
    let Payload::Args { args, kwargs, .. } = payload else { panic!("not arguments") };
    let mut out = BytesMut::new();
    let details = EventDetails::default();
    encode_event(Encoding::Json, &mut out, SubscriptionId(1), PublicationId(2), Some(&details), &args, &kwargs);
    let expected =
        r#"[36,1,2,{},[ 1.0 , 1e2, 123456789012345678901234567890, "\u0041\ud800", {"b":1,"a":2,"a":3}],{"z" : -0, "a": [ ] }]"#;
    assert_eq!(out, expected);
}

#[test]
fn the_short_ways_write_the_same() {
    for encoding in ENCODINGS {
        let args = foreign(&parse("[1]"), encoding);
        for kwargs in [Bytes::new(), foreign(&parse(r#"{"a":1}"#), encoding)] {
            let payload = Payload::Args { encoding, args: args.clone(), kwargs: kwargs.clone() };
            let mut out = BytesMut::new();
            let details = EventDetails { retained: Some(true), ..EventDetails::default() };
            encode_event(encoding, &mut out, SubscriptionId(3), PublicationId(1 << 53), Some(&details), &args, &kwargs);
            let event = Message::Event {
                subscription: SubscriptionId(3),
                publication: PublicationId(1 << 53),
                details,
                payload: payload.clone(),
            };
            assert_eq!(decode(&out.split().freeze(), encoding), Ok(event));

            let details = ResultDetails { progress: Some(true), ..ResultDetails::default() };
            encode_result(encoding, &mut out, RequestId(1), Some(&details), &args, &kwargs);
            let result = Message::Result { request: RequestId(1), details, payload: payload.clone() };
            assert_eq!(decode(&out.split().freeze(), encoding), Ok(result));

            let details = InvocationDetails { timeout: Some(1), ..InvocationDetails::default() };
            encode_invocation(encoding, &mut out, InvocationId(1), RegistrationId(2), Some(&details), &args, &kwargs);
            let invocation =
                Message::Invocation { invocation: InvocationId(1), registration: RegistrationId(2), details, payload };
            assert_eq!(decode(&out.split().freeze(), encoding), Ok(invocation));

            encode_published(encoding, &mut out, RequestId(1), PublicationId(2));
            let published = Message::Published { request: RequestId(1), publication: PublicationId(2) };
            assert_eq!(decode(&out.split().freeze(), encoding), Ok(published));
        }
    }
}

#[test]
fn nesting_is_bounded_in_envelopes_and_free_in_payloads() {
    for (levels, fits) in [(62, true), (63, false), (100_000, false)] {
        let json = format!("[16,1,{{\"x\":{}{}}},\"t\"]", "[".repeat(levels), "]".repeat(levels));
        let kind = decode(&json.into(), Encoding::Json).err().map(|error| error.kind);
        assert_eq!(kind, if fits { None } else { Some(ErrorKind::Excess) }, "{levels}");
    }
    let deep = 1_000_000;
    let json = format!("[16,1,{{}},\"t\",{}{}]", "[{\"a\":".repeat(deep), "1".to_owned() + &"}]".repeat(deep));
    assert!(decode(&json.into(), Encoding::Json).is_ok());
    assert!(decode(&format!("[16,1,{{}},\"t\",{}", "[".repeat(deep)).into(), Encoding::Json).is_err());
    let msgpack = [b"\x95\x10\x01\x80\xa1t".as_slice(), &vec![0x91; deep], b"\x90"].concat();
    assert!(decode(&msgpack.into(), Encoding::MsgPack).is_ok());
    let cbor = [b"\x85\x10\x01\xa0\x61t".as_slice(), &vec![0x9F; deep], &vec![0xFF; deep]].concat();
    assert!(decode(&cbor.into(), Encoding::Cbor).is_ok());
    let cbor = [b"\x85\x10\x01\xa0\x61t\x81".as_slice(), &vec![0xC1; deep], b"\x01"].concat();
    assert!(decode(&cbor.into(), Encoding::Cbor).is_ok());
}

#[test]
fn many_keys_are_compared_in_time() {
    let many = 200_000;
    let keys: Vec<String> = (0..many).map(|number| format!("\"key{number}\":0")).collect();
    let json = |extra: &str| Bytes::from(format!("[16,1,{{{}{extra}}},\"t\"]", keys.join(",")));
    assert!(decode(&json(""), Encoding::Json).is_ok());
    let error = decode(&json(",\"key77\":0"), Encoding::Json).expect_err("refused");
    assert_eq!((error.kind, error.detail.as_ref()), (ErrorKind::Excess, "invalid PUBLISH: the key \"key77\" appears twice"));
}

#[test]
fn every_prefix_and_flipped_bit_is_survived() {
    for text in GOOD {
        for encoding in ENCODINGS {
            let good = foreign(&parse(text), encoding);
            for end in 0..good.len() {
                assert!(decode(&good.slice(..end), encoding).is_err(), "{text} {end}");
            }
            for bit in 0..good.len() * 8 {
                let mut bad = good.to_vec();
                bad[bit / 8] ^= 1 << (bit % 8);
                if let Ok(message) = decode(&bad.into(), encoding) {
                    let again = encoded(&message, encoding);
                    assert!(decode(&again, encoding).is_ok(), "{text} {bit}");
                }
            }
        }
    }
}

#[test]
fn subprotocols_have_names() {
    for name in ["wamp.2.json", "wamp.2.msgpack", "wamp.2.cbor", "wamp.2.json.batched", "wamp.2.cbor.batched"] {
        let subprotocol = Subprotocol::from_name(name).unwrap();
        assert_eq!(subprotocol.name(), name);
        assert_eq!(subprotocol.is_text(), name.contains("json"));
    }
    assert_eq!(Subprotocol::from_name("wamp.2.ubjson"), None);
    assert_eq!(Subprotocol::from_name("WAMP.2.JSON"), None);
}

/// Text, now and then with everything that has to be escaped; never what JSON would take for binary.
fn text() -> BoxedStrategy<Box<str>> {
    prop_oneof!["[a-z.]{0,12}", "[^\0]{0,20}"].prop_map(Box::from).boxed()
}

fn id<T>(make: fn(u64) -> T) -> impl Strategy<Value = T>
where
    T: std::fmt::Debug,
{
    (1..=1_u64 << 53).prop_map(make)
}

fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e300..1e300_f64).prop_map(Value::from),
        text().prop_map(|text| Value::from(text.as_ref())),
        vec(any::<u8>(), 0..20).prop_map(Value::Binary),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        let map = proptest::collection::btree_map("[a-z]{0,5}", inner.clone(), 0..4);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::Array),
            map.prop_map(|map| Value::Map(map.into_iter().map(|(key, value)| (Value::from(key), value)).collect())),
        ]
    })
    .boxed()
}

fn passthru() -> BoxedStrategy<Option<Box<Passthru>>> {
    let fields = (of(text()), of(text()), of(text()), of(text()));
    let passthru = fields.prop_map(|(scheme, serializer, cipher, keyid)| Passthru { scheme, serializer, cipher, keyid });
    // One without attributes cannot be told from none.
    passthru.prop_map(|passthru| Some(passthru).filter(|passthru| passthru.attributes().next().is_some()).map(Box::new)).boxed()
}

fn qos() -> impl Strategy<Value = Qos> {
    prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)]
}

fn mqtt() -> BoxedStrategy<Option<Box<MqttDetails>>> {
    let data = vec(any::<u8>(), 0..9).prop_map(Bytes::from);
    let fields = (of(qos()), of(any::<bool>()), of(vec((text(), text()), 0..3)), of(text()), of(text()), of(data));
    of(fields.prop_map(|(qos, retain, user, content_type, response_topic, correlation_data)| {
        let user_properties = user.map(UserProperties);
        Box::new(MqttDetails { qos, retain, user_properties, content_type, response_topic, correlation_data })
    }))
    .boxed()
}

fn payload(encoding: Encoding) -> impl Strategy<Value = Payload> {
    let json = vec(any::<u16>(), 0..4);
    (0..3_u8, json).prop_map(move |(parts, numbers)| {
        let args = if parts > 0 { foreign(&serde_json::json!(numbers), encoding) } else { Bytes::new() };
        let kwargs = if parts > 1 { foreign(&serde_json::json!({ "n": numbers }), encoding) } else { Bytes::new() };
        Payload::Args { encoding, args, kwargs }
    })
}

fn forwarders() -> BoxedStrategy<Vec<Forwarder>> {
    let fields = (of(id(SessionId)), of(text()), of(text()));
    let forwarder = fields.prop_map(|(session, authid, authrole)| Forwarder { session, authid, authrole });
    vec(forwarder, 0..3).boxed()
}

fn publish_options() -> BoxedStrategy<PublishOptions> {
    let flags = (of(any::<bool>()), of(any::<bool>()), of(any::<bool>()), of(any::<bool>()), of(any::<bool>()));
    let lists = || (of(vec(id(SessionId), 0..3)), of(vec(text(), 0..3)), of(vec(text(), 0..3)));
    let own =
        (of(text()), of(qos()), of(any::<u32>()), of(text()), of(value()), of(value()), mqtt(), passthru(), of(forwarders()));
    (flags, lists(), lists(), own)
        .prop_map(|(flags, exclude, eligible, own)| PublishOptions {
            acknowledge: flags.0,
            exclude_me: flags.1,
            disclose_me: flags.2,
            retain: flags.3,
            watch: flags.4,
            exclude: exclude.0,
            exclude_authid: exclude.1,
            exclude_authrole: exclude.2,
            eligible: eligible.0,
            eligible_authid: eligible.1,
            eligible_authrole: eligible.2,
            rkey: own.0.map(ResourceKey),
            transaction_hash: None,
            forward_for: own.8,
            qos: own.1,
            expiry_s: own.2,
            dedup: own.3,
            when: own.4.map(Box::new),
            will: own.5.map(Box::new),
            mqtt: own.6,
            passthru: own.7,
        })
        .boxed()
}

fn subscribe_options() -> BoxedStrategy<SubscribeOptions> {
    let policy = prop_oneof![Just(MatchPolicy::Exact), Just(MatchPolicy::Prefix), Just(MatchPolicy::Wildcard)];
    let flags = (of(any::<bool>()), of(any::<bool>()), of(any::<bool>()), of(any::<bool>()));
    (of(policy), flags, of(text()), of(any::<u64>()), of(value()), of(qos()))
        .prop_map(|(policy, flags, nkey, after, filter, qos)| SubscribeOptions {
            policy,
            get_retained: flags.0,
            retained: flags.1,
            retained_state: flags.2,
            snapshot: flags.3,
            nkey,
            forward_for: None,
            after,
            last: after,
            filter: filter.map(Box::new),
            qos,
        })
        .boxed()
}

fn register_options() -> BoxedStrategy<RegisterOptions> {
    let invoke = prop_oneof![Just(InvokePolicy::Single), Just(InvokePolicy::RoundRobin), Just(InvokePolicy::Random)];
    let flags = (of(any::<bool>()), of(any::<bool>()), of(any::<bool>()));
    (of(invoke), of(any::<u32>()), flags, of(value()))
        .prop_map(|(invoke, concurrency, flags, reducer)| RegisterOptions {
            policy: None,
            invoke,
            concurrency,
            disclose_caller: flags.0,
            force_reregister: flags.1,
            forward_timeout: flags.2,
            reducer: reducer.map(Box::new),
        })
        .boxed()
}

fn call_options() -> BoxedStrategy<CallOptions> {
    let flags = (of(any::<bool>()), of(any::<bool>()), of(any::<bool>()));
    (of(any::<u64>()), flags, of(text()), of(text()), mqtt(), passthru())
        .prop_map(|(timeout, flags, runmode, rkey, mqtt, passthru)| CallOptions {
            timeout,
            receive_progress: flags.0,
            progress: flags.1,
            disclose_me: flags.2,
            runmode,
            rkey: rkey.map(ResourceKey),
            mqtt,
            passthru,
        })
        .boxed()
}

fn event_details() -> BoxedStrategy<EventDetails> {
    (of(id(SessionId)), of(text()), of(text()), of(text()), of(any::<bool>()), of(any::<u64>()), mqtt(), passthru())
        .prop_map(|(publisher, publisher_authid, publisher_authrole, topic, retained, trustlevel, mqtt, passthru)| EventDetails {
            publisher,
            publisher_authid,
            publisher_authrole,
            topic,
            retained,
            trustlevel,
            transaction_hash: None,
            forward_for: None,
            x_acknowledged_delivery: None,
            mqtt,
            passthru,
        })
        .boxed()
}

fn hello() -> BoxedStrategy<Message<'static>> {
    let features = of((of(any::<bool>()), of(any::<bool>()))
        .prop_map(|(call_canceling, call_timeout)| Box::new(Features { call_canceling, call_timeout, ..Features::default() })));
    let role = || features.clone().prop_map(|features| Role { features });
    let roles = (of(role()), of(role()), of(role()), of(role())).prop_map(|(publisher, subscriber, caller, callee)| {
        Box::new(Roles { publisher, subscriber, caller, callee, broker: None, dealer: None })
    });
    (text(), of(roles), of(text()), of(vec(text(), 0..4)), of(text()), of(value()), of(any::<bool>()))
        .prop_map(|(realm, roles, agent, authmethods, authid, authextra, resumable)| {
            let authextra = authextra.map(Box::new);
            let details = HelloDetails { roles, agent, authmethods, authid, authextra, resumable, ..Default::default() };
            Message::Hello { realm: Cow::Owned(realm.into()), details: Box::new(details) }
        })
        .boxed()
}

fn message(encoding: Encoding) -> BoxedStrategy<Message<'static>> {
    let uri = || text().prop_map(|text| Cow::<'static, str>::Owned(text.into()));
    let mode = prop_oneof![Just(CancelMode::Skip), Just(CancelMode::Kill), Just(CancelMode::KillNoWait)];
    prop_oneof![
        hello(),
        (id(RequestId), publish_options(), uri(), payload(encoding))
            .prop_map(|(request, options, topic, payload)| Message::Publish { request, options, topic, payload }),
        (id(RequestId), subscribe_options(), uri()).prop_map(|(request, options, topic)| Message::Subscribe {
            request,
            options,
            topic
        }),
        (id(SubscriptionId), id(PublicationId), event_details(), payload(encoding)).prop_map(
            |(subscription, publication, details, payload)| Message::Event { subscription, publication, details, payload }
        ),
        (id(RequestId), call_options(), uri(), payload(encoding))
            .prop_map(|(request, options, procedure, payload)| Message::Call { request, options, procedure, payload }),
        (id(RequestId), register_options(), uri()).prop_map(|(request, options, procedure)| Message::Register {
            request,
            options,
            procedure
        }),
        (id(RequestId), of(mode)).prop_map(|(request, mode)| Message::Cancel { request, options: CancelOptions { mode } }),
        (id(RequestId), of(text()), passthru(), uri(), payload(encoding)).prop_map(
            |(request, message, passthru, error, payload)| {
                let details = ErrorDetails { message, passthru, ..ErrorDetails::default() };
                Message::Error { kind: RequestKind::Call, request, details, error, payload }
            }
        ),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn what_is_encoded_decodes_to_the_same(message in (0..3_usize).prop_flat_map(|at| {
        let encoding = ENCODINGS[at];
        message(encoding).prop_map(move |message| (encoding, message))
    })) {
        let (encoding, message) = message;
        let bytes = encoded(&message, encoding);
        prop_assert_eq!(decode(&bytes, encoding), Ok(message));
    }

    #[test]
    fn json_text_is_what_serde_says(text in r#"([a-z]{0,9}|é|😀|"|\\u[0-9a-fD][08d][0-9a-f]{2}|\\ud8[0-9]{2}\\udc[0-9]{2}|\\["nrtbf/\\x]){0,6}"#) {
        let json = format!("[16,1,{{}},\"{text}\"]");
        let theirs: Result<serde_json::Value, _> = serde_json::from_str(&json);
        let input = Bytes::from(json);
        match decode(&input, Encoding::Json) {
            Ok(Message::Publish { topic, .. }) => prop_assert_eq!(&theirs.unwrap()[3], topic.as_ref()),
            other => prop_assert!(theirs.is_err(), "{:?}", other),
        }
    }

    #[test]
    fn noise_is_survived(bytes in vec(any::<u8>(), 0..200), start in 0..3_usize) {
        let heads: [&[u8]; 3] = [b"[16,1,{},\"t\",[", b"\x95\x10\x01\x80\xa1t", b"\x85\x10\x01\xa0\x61t"];
        let input = Bytes::from([heads[start], &bytes].concat());
        if let Ok(message) = decode(&input, ENCODINGS[start]) {
            let again = encoded(&message, ENCODINGS[start]);
            prop_assert_eq!(decode(&again, ENCODINGS[start]), Ok(message));
        }
    }
}

#[test]
fn a_resource_key_is_a_string_or_any_integer() {
    let key = |rkey: &str| match decode(&Bytes::from(format!(r#"[48,1,{{"rkey":{rkey}}},"p"]"#)), Encoding::Json) {
        Ok(Message::Call { options, .. }) => options.rkey.map(|key| key.0.to_string()),
        _ => None,
    };
    let keys = ["\"7\"", "7.0", "-7", "-18446744073709551616", "0.5", "[]"].map(key);
    assert_eq!(
        keys.each_ref().map(|key| key.as_deref()),
        [Some("7"), Some("7"), Some("-7"), Some("-18446744073709551616"), None, None]
    );
}
