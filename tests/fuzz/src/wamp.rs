//! WAMP for the targets: messages to start from, second opinions on what is well-formed, and what every decoder owes.
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use corsac::model::{Encoding, Payload};
use corsac::wire::wamp::batch::split_first;
use corsac::wire::wamp::{ErrorKind, Message, decode, encode, message_code};

/// Messages with every key there is, in JSON; those of a client first, as it may send them one after the other.
pub const MESSAGES: &[&str] = &[
    r#"[1,"realm1",{"roles":{"publisher":{},"subscriber":{},"caller":{"features":{"call_canceling":true}},"callee":{"features":{"call_timeout":true,"progressive_call_results":true}}},"agent":"x","authmethods":["anonymous","wampcra"],"authid":"joe","authextra":{"a":[1,null,-2.5]}}]"#,
    r#"[32,1,{"match":"prefix","get_retained":true},"a."]"#,
    r#"[32,2,{"match":"wildcard","retained":true},"a..b"]"#,
    r#"[32,3,{"nkey":"n","after":0,"retained_state":false,"snapshot":true,"filter":{"a":1},"qos":1},"a.*.#"]"#,
    r#"[16,4,{"acknowledge":true,"exclude_me":false,"disclose_me":true,"retain":true,"exclude":[1,2],"exclude_authid":["a"],"exclude_authrole":[],"eligible":[3],"eligible_authid":["b"],"eligible_authrole":["c"],"qos":2,"expiry_s":60,"mqtt":{"qos":1,"retain":false,"user_properties":[["a","b"],["a","c"]],"content_type":"text/plain","response_topic":"x/y","correlation_data":"\u0000AQI="},"ppt_scheme":"x_a","ppt_serializer":"cbor","ppt_cipher":"c","ppt_keyid":"k"},"a.b",["x",1.5,{"y":"\u0000AAEC"}],{"k":[]}]"#,
    r#"[16,5,{"rkey":"k","dedup":"d","when":null,"watch":true,"will":{"x":1}},"a.b"]"#,
    r#"[64,6,{"match":"wildcard","invoke":"roundrobin","concurrency":4,"disclose_caller":true,"force_reregister":true,"forward_timeout":true},"com..add"]"#,
    r#"[48,7,{"timeout":5000,"receive_progress":true,"disclose_me":true,"runmode":"partition","rkey":7},"com.add",[1,2]]"#,
    r#"[49,7,{"mode":"killnowait"}]"#,
    r#"[70,1,{"progress":true},["x"],{"y":{}}]"#,
    r#"[8,68,1,{"message":"m"},"com.app.error",[1],{"k":"v"}]"#,
    r#"[34,8,1]"#,
    r#"[66,9,1]"#,
    r#"[337,5]"#,
    r#"[6,{"message":"bye"},"wamp.close.close_realm"]"#,
    r#"[2,9007199254740992,{"roles":{"broker":{"features":{"event_history":true}},"dealer":{}},"realm":"realm1","authid":"joe","authrole":"user","authmethod":"ticket","authprovider":"static"}]"#,
    r#"[3,{"message":"no \"such\" realm\n"},"wamp.error.no_such_realm",["a"],{"b":1}]"#,
    r#"[4,"wamp-scram",{"salt":"c2FsdA==","iterations":4096,"kdf":"pbkdf2","nonce":"n","memory":1,"parallel":1}]"#,
    r#"[4,"cryptosign",{"challenge":"00ff","channel_binding":"tls-unique"}]"#,
    r#"[5,"sig",{"nonce":"n","channel_binding":"tls-exporter","cbind_data":"x"}]"#,
    r#"[17,1,2]"#,
    r#"[33,1,2]"#,
    r#"[35,0,{"subscription":4,"reason":"gone"}]"#,
    r#"[36,1,2,{"publisher":3,"publisher_authid":"a","publisher_authrole":"b","topic":"t","retained":true,"trustlevel":0,"forward_for":[{"session":1,"authid":"a","authrole":"r"}],"transaction_hash":"h"},["x"]]"#,
    r#"[50,1,{"progress":true,"callee":5,"callee_authid":"a"},[null]]"#,
    r#"[65,1,2]"#,
    r#"[67,0,{"registration":4}]"#,
    r#"[68,1,2,{"procedure":"p","caller":3,"receive_progress":true,"timeout":9},[],{}]"#,
    r#"[69,1,{"mode":"kill","reason":"wamp.error.timeout"}]"#,
];

/// The number of the messages that are a client's.
pub const CLIENT_MESSAGES: usize = 15;

/// The messages in one encoding.
pub fn messages(encoding: Encoding) -> &'static [Vec<u8>] {
    static MADE: [OnceLock<Vec<Vec<u8>>>; 3] = [const { OnceLock::new() }; 3];
    let [json, msgpack, cbor] = &MADE;
    let made = match encoding {
        Encoding::Json => json,
        Encoding::MsgPack => msgpack,
        Encoding::Cbor => cbor,
    };
    made.get_or_init(|| make_messages(encoding))
}

fn make_messages(encoding: Encoding) -> Vec<Vec<u8>> {
    let in_encoding = |text: &&'static str| {
        let input = Bytes::from_static(text.as_bytes());
        let message = decode(&input, Encoding::Json).expect("a sound message");
        let mut out = BytesMut::new();
        encode(&message, encoding, &mut out);
        out.to_vec()
    };
    match encoding {
        Encoding::Json => MESSAGES.iter().map(|text| text.as_bytes().to_vec()).collect(),
        _ => MESSAGES.iter().map(in_encoding).collect(),
    }
}

/// Between messages, where a target's input holds several.
const SEPARATOR: &[u8] = b"\x1e\x1e";

/// The messages of one input.
pub fn split(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(stream);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let end = bytes.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        rest = end.and_then(|end| bytes.get(end + SEPARATOR.len()..));
        bytes.get(..end.unwrap_or(bytes.len()))
    })
}

/// One input of these messages.
pub fn join<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    messages.into_iter().collect::<Vec<_>>().join(SEPARATOR)
}

/// These parts as arguments, if they are well-formed.
pub fn arguments(encoding: Encoding, args: Bytes, kwargs: Bytes) -> Option<Payload> {
    let payload = Payload::Args { encoding, args, kwargs };
    is_sound(&payload).then_some(payload)
}

/// Arguments that are numbers from 0 on.
pub fn numbers(encoding: Encoding, count: usize) -> Payload {
    let args = match encoding {
        Encoding::Json => serde_json::to_vec(&(0..count).collect::<Vec<_>>()).expect("JSON"),
        Encoding::MsgPack => [0x90 + count as u8].into_iter().chain(0..count as u8).collect(),
        Encoding::Cbor => [0x80 + count as u8].into_iter().chain(0..count as u8).collect(),
    };
    Payload::Args { encoding, args: args.into(), kwargs: Bytes::new() }
}

/// True for arguments that a message can carry to be decoded again as they are.
pub fn is_sound(payload: &Payload) -> bool {
    let Payload::Args { encoding, args, kwargs } = payload else { return false };
    // Where there are no args a message shows an empty list.
    if args.is_empty() && !kwargs.is_empty() {
        let args = match numbers(*encoding, 0) {
            Payload::Args { args, .. } => args,
            Payload::Bytes(bytes) => bytes,
            Payload::List(_) => return false,
        };
        return is_sound(&Payload::Args { encoding: *encoding, args, kwargs: kwargs.clone() });
    }
    let request = corsac::model::RequestId(1);
    let message = Message::Result { request, details: Default::default(), payload: payload.clone() };
    let mut out = BytesMut::new();
    encode(&message, *encoding, &mut out);
    match decode(&out.freeze(), *encoding) {
        Ok(Message::Result { payload: again, .. }) => again == *payload,
        _ => false,
    }
}

/// The duties of each decoder: no panic, agreement with others on what is well-formed, and messages that can be encoded again.
pub fn check_decoder(data: &[u8], encoding: Encoding) {
    let input = Bytes::copy_from_slice(data);
    let mut batch = input.clone();
    while let Ok(Some(_)) = split_first(&mut batch, encoding) {}
    let decoded = decode(&input, encoding);
    match &decoded {
        Ok(message) => {
            assert_eq!(message_code(&input, encoding), Some(message.code()));
            assert_ne!(is_well_formed(data, encoding), Some(false), "accepted, but not well-formed");
            check_again(message, encoding);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            // `\u` in JSON: half a surrogate pair is well-formed for some and not for others.
            let is_list = data.first().is_some_and(|first| is_list(*first, encoding)) && !data.contains(&b'\\');
            let is_refused = error.kind == ErrorKind::Malformed && is_list && encoding == Encoding::Json;
            assert!(!is_refused || is_well_formed(data, encoding) != Some(true), "well-formed, but {error}");
        }
    }
}

fn check_again(message: &Message<'_>, encoding: Encoding) {
    let mut out = BytesMut::new();
    encode(message, encoding, &mut out);
    let out = out.freeze();
    let again = decode(&out, encoding);
    // Written out, because options may hold a NaN, which no NaN equals. Extensions of MsgPack among them become binary.
    let (again, message_text) = (format!("{again:?}"), format!("{:?}", Ok::<_, ()>(message)));
    assert!(again == message_text || message_text.contains("Ext("), "{again} is not {message_text}");
    for other in crate::choice::ENCODINGS {
        let mut out = BytesMut::new();
        encode(message, other, &mut out);
        let out = out.freeze();
        let code = decode(&out, other).map(|message| message.code());
        assert_eq!(code, Ok(message.code()), "{message:?} in {other:?}");
    }
}

fn is_list(first: u8, encoding: Encoding) -> bool {
    match encoding {
        Encoding::Json => first == b'[',
        Encoding::MsgPack => matches!(first, 0x90..=0x9F | 0xDC | 0xDD),
        Encoding::Cbor => matches!(first, 0x80..=0x9F),
    }
}

/// The judgement of other libraries; `None` where they have no opinion.
pub fn is_well_formed(data: &[u8], encoding: Encoding) -> Option<bool> {
    match encoding {
        Encoding::Json => {
            let text = std::str::from_utf8(data);
            Some(text.is_ok_and(|text| serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()))
        }
        Encoding::MsgPack => {
            let mut rest = data;
            match rmpv::decode::read_value_ref_with_max_depth(&mut rest, 200) {
                Err(rmpv::decode::Error::DepthLimitExceeded) => None,
                read => Some(read.is_ok() && rest.is_empty()),
            }
        }
        Encoding::Cbor => {
            let mut decoder = minicbor::Decoder::new(data);
            let read = decoder.skip();
            Some(read.is_ok() && decoder.position() == data.len())
        }
    }
}
