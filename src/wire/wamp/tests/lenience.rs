//! Messages that clients write against the letter of the specification, where taking them costs nothing.
use super::*;

#[test]
fn whole_doubles_are_integers_in_binary_encodings() {
    // [16, 1, {"exclude": [2^40 as a double]}, "t"] as msgpackr writes it under wampy.
    let mut input = vec![0x94, 0x10, 0x01, 0x81, 0xA7];
    input.extend_from_slice(b"exclude");
    input.extend_from_slice(&[0x91, 0xCB]);
    input.extend_from_slice(&((1_u64 << 40) as f64).to_be_bytes());
    input.extend_from_slice(&[0xA1, b't']);
    let input = Bytes::from(input);
    let Ok(Message::Publish { options, .. }) = decode(&input, Encoding::MsgPack) else { panic!("no PUBLISH") };
    assert_eq!(options.exclude, Some(vec![SessionId(1 << 40)]));
    for broken in [0.5_f64, 0.0, -1.0, f64::NAN, 1e300] {
        let mut bytes = input.to_vec();
        bytes[14..22].copy_from_slice(&broken.to_be_bytes());
        assert!(decode(&Bytes::from(bytes), Encoding::MsgPack).is_err(), "{broken}");
    }
    // [32, 1, {"after": 2^40 as a double}, "t"]
    let double = ((1_u64 << 40) as f64).to_be_bytes();
    let input = [b"\x94\x20\x01\x81\xA5after\xCB", &double[..], b"\xA1t"].concat();
    let input = Bytes::from(input);
    let Ok(Message::Subscribe { options, .. }) = decode(&input, Encoding::MsgPack) else { panic!("no SUBSCRIBE") };
    assert_eq!(options.after, Some(1 << 40));
}

/// `json` with every integer from 0 as a decimal.
fn with_decimals(json: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value::{Array, Object};
    match json {
        Array(list) => list.iter().map(with_decimals).collect(),
        Object(map) => map.iter().map(|(key, value)| (key.clone(), with_decimals(value))).collect(),
        value => value.as_u64().map_or_else(|| value.clone(), |number| (number as f64).into()),
    }
}

/// Clients whose only numbers are doubles write `1.0` where an integer is wanted: in codes, ids, options of any width and enums.
#[test]
fn whole_decimals_are_integers_wherever_one_is_wanted() {
    for text in GOOD {
        for encoding in ENCODINGS {
            let input = foreign(&with_decimals(&parse(text)), encoding);
            let message = decode(&input, encoding).unwrap_or_else(|error| panic!("{text} {encoding:?}: {error}"));
            let again = read_foreign(&encoded(&message, encoding), encoding);
            assert_eq!(with_decimals(&again), with_decimals(&parse(text)), "{encoding:?}");
            assert_eq!(message_code(&input, encoding), Some(message.code()), "{text}");
        }
    }
    for (text, expected) in [
        (
            r#"[1.6e1,10e-1,{"qos":2.0,"expiry_s":6e1,"mqtt":{"qos":1e0}},"a"]"#,
            r#"[16,1,{"qos":2,"expiry_s":60,"mqtt":{"qos":1}},"a"]"#,
        ),
        (r#"[8.0,4.8E+1,7.00,{},"a.b"]"#, r#"[8,48,7,{},"a.b"]"#),
        (r#"[64,1,{"concurrency":0.4e1},"p"]"#, r#"[64,1,{"concurrency":4},"p"]"#),
        (r#"[35.0,0.0,{"subscription":4.0}]"#, r#"[35,0,{"subscription":4}]"#),
    ] {
        assert_eq!(shown(&Bytes::from_static(text.as_bytes()), Encoding::Json), expected);
    }
    let refused = shown(&Bytes::from_static(br#"[16,1,{"qos":1.5},"a"]"#), Encoding::Json);
    assert!(refused.contains("Options.qos must be 0, 1 or 2"), "{refused}");
}

/// As clients write it that have a place for arguments and nothing to put there.
#[test]
fn null_stands_for_no_arguments_and_no_options() {
    for (text, expected) in [
        (r#"[16,1,{},"a",null]"#, r#"[16,1,{},"a"]"#),
        (r#"[16,1,null,"a",null,null]"#, r#"[16,1,{},"a"]"#),
        (r#"[16,1,{},"a",null,{"k":1}]"#, r#"[16,1,{},"a",[],{"k":1}]"#),
        (r#"[16,1,{},"a",[1],null]"#, r#"[16,1,{},"a",[1]]"#),
        (r#"[48,1,null,"p",null,{"k":null}]"#, r#"[48,1,{},"p",[],{"k":null}]"#),
        (r#"[70,1,null,null]"#, r#"[70,1,{}]"#),
        (r#"[8,68,7,null,"a.b",null,null]"#, r#"[8,68,7,{},"a.b"]"#),
        (r#"[1,"realm1",null]"#, r#"[1,"realm1",{}]"#),
        (r#"[32,1,null,"a"]"#, r#"[32,1,{},"a"]"#),
        (r#"[64,1,null,"p"]"#, r#"[64,1,{},"p"]"#),
        (r#"[49,1,null]"#, r#"[49,1,{}]"#),
        (r#"[6,null,"wamp.close.close_realm"]"#, r#"[6,{},"wamp.close.close_realm"]"#),
    ] {
        for encoding in ENCODINGS {
            assert_eq!(shown(&foreign(&parse(text), encoding), encoding), expected, "{encoding:?}");
        }
    }
    // JavaScript's `undefined`, as msgpackr and cbor-x write it.
    for (input, encoding) in
        [(&b"\x95\x10\x01\x80\xa1a\xd4\0\0"[..], Encoding::MsgPack), (b"\x85\x10\x01\xa0\x61a\xf7", Encoding::Cbor)]
    {
        assert_eq!(shown(&Bytes::from_static(input), encoding), r#"[16,1,{},"a"]"#);
    }
}
