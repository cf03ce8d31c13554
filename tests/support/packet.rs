//! MQTT packets as lines of text, written and read by a codec of the tests' own.
//!
//! | line | |
//! |---|---|
//! | `CONNECT v5 clean id=me keep=60 session_expiry=9 will=t/1 will_payload=x will_q1 will_retain will.will_delay=1 name=n password=p` | `v3`, `v4`, `v5` |
//! | `CONNACK present rc=00 receive_maximum=9` | |
//! | `PUBLISH a/b 'a payload' q1 id=7 dup retain user=k:v` | topic, then payload |
//! | `PUBACK id=7 rc=10` | and PUBREC, PUBREL, PUBCOMP |
//! | `SUBSCRIBE id=1 a/b:1 c/#:2,nl,rap,rh1 subscription_id=5` | `SUBACK id=1 01 02` |
//! | `UNSUBSCRIBE id=1 a/b` | `UNSUBACK id=1 00` |
//! | `PINGREQ`, `PINGRESP`, `DISCONNECT rc=04`, `AUTH rc=18 method=x` | |
use super::bytes::{self, quote, text_with_length, unquote, variable};
use super::fields::{self, Reader};

/// The names of the packets by their type; 0 is none.
const NAMES: [&str; 16] = [
    "",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
];

/// True for a line that names a packet.
pub fn is_packet(word: &str) -> bool {
    !word.is_empty() && NAMES.contains(&word)
}

/// The words of a packet, sorted.
struct Parts<'a> {
    plain: Vec<&'a str>,
    /// `name=value` where the name is no property.
    named: Vec<(&'a str, &'a str)>,
    properties: Vec<u8>,
    will_properties: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn new(words: &'a [String]) -> Self {
        let mut parts = Parts { plain: Vec::new(), named: Vec::new(), properties: Vec::new(), will_properties: Vec::new() };
        for word in words {
            let Some((name, value)) = word.split_once('=').filter(|_| !word.starts_with('\'')) else {
                parts.plain.push(word);
                continue;
            };
            let will = name.strip_prefix("will.").and_then(|name| fields::encode(name, value));
            match (will, fields::encode(name, value)) {
                (Some(bytes), _) => parts.will_properties.extend(bytes),
                (None, Some(bytes)) => parts.properties.extend(bytes),
                (None, None) => parts.named.push((name, value)),
            }
        }
        parts
    }

    fn flag(&mut self, name: &str) -> bool {
        let found = self.plain.iter().position(|word| *word == name);
        found.map(|at| self.plain.remove(at)).is_some()
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.named.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn id(&self) -> [u8; 2] {
        self.value("id").map_or(0, |id| id.parse::<u16>().unwrap_or_else(|_| panic!("id={id}"))).to_be_bytes()
    }

    fn code(&self) -> Option<u8> {
        self.value("rc").map(|code| u8::from_str_radix(code, 16).unwrap())
    }

    fn qos(&mut self, prefix: &str) -> u8 {
        (1..=3).find(|qos| self.flag(&format!("{prefix}{qos}"))).unwrap_or(0)
    }

    fn block(&self) -> Vec<u8> {
        [variable(self.properties.len() as u32), self.properties.clone()].concat()
    }
}

/// The version that a CONNECT line or packet asks for.
pub fn version_of(words: &[String]) -> Option<u8> {
    if words.first()? == "CONNECT" {
        return Some(words.iter().find_map(|word| word.strip_prefix('v')?.parse().ok()).unwrap_or(5));
    }
    let bytes = if is_packet(words.first()?) { return None } else { bytes::encode(words) };
    if bytes.first() != Some(&0x10) {
        return None;
    }
    let name_at = 1 + bytes[1..].iter().position(|byte| byte & 0x80 == 0)? + 1;
    let length = usize::from(*bytes.get(name_at + 1)?);
    // Bit 7 says that the client is a bridge.
    bytes.get(name_at + 2 + length).map(|level| level & 0x7F)
}

/// The bytes of a line: a packet, or raw.
pub fn encode(words: &[String], version: u8) -> Vec<u8> {
    let Some(kind) = NAMES.iter().position(|name| *name == words[0]).filter(|kind| *kind > 0) else {
        return bytes::encode(words);
    };
    let mut parts = Parts::new(&words[1..]);
    let is_v5 = version == 5;
    let block = if is_v5 { parts.block() } else { Vec::new() };
    let mut first = (kind as u8) << 4;
    let body = match words[0].as_str() {
        "CONNECT" => connect(&mut parts, version),
        "PUBLISH" => publish(&mut parts, &mut first, &block),
        "SUBSCRIBE" | "UNSUBSCRIBE" => {
            first |= 2;
            let filters = parts.plain.iter().flat_map(|word| filter(word, kind == 8));
            [&parts.id()[..], &block].into_iter().flatten().copied().chain(filters).collect()
        }
        "SUBACK" | "UNSUBACK" => {
            let codes = parts.plain.iter().flat_map(|code| bytes::from_hex(code).unwrap());
            [&parts.id()[..], &block].into_iter().flatten().copied().chain(codes).collect()
        }
        "CONNACK" => [vec![u8::from(parts.flag("present")), parts.code().unwrap_or(0)], block].concat(),
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => {
            first |= u8::from(kind == 6) << 1;
            [parts.id().to_vec(), code_and_block(&parts, is_v5)].concat()
        }
        "DISCONNECT" | "AUTH" => code_and_block(&parts, is_v5),
        _ => Vec::new(),
    };
    [vec![first], variable(body.len() as u32), body].concat()
}

/// Reason code and properties, left out where they say nothing.
fn code_and_block(parts: &Parts<'_>, is_v5: bool) -> Vec<u8> {
    match (parts.code(), parts.properties.is_empty()) {
        _ if !is_v5 => Vec::new(),
        (None, true) => Vec::new(),
        (Some(code), true) => vec![code],
        (code, false) => [vec![code.unwrap_or(0)], parts.block()].concat(),
    }
}

fn connect(parts: &mut Parts<'_>, version: u8) -> Vec<u8> {
    let (will_qos, will) = (parts.qos("will_q"), parts.value("will"));
    let (name, password) = (parts.value("name"), parts.value("password"));
    let mut flags = u8::from(parts.flag("clean")) << 1 | will_qos << 3;
    flags |= u8::from(will.is_some()) << 2 | u8::from(parts.flag("will_retain")) << 5;
    flags |= u8::from(password.is_some()) << 6 | u8::from(name.is_some()) << 7;
    let mut body = text_with_length(if version == 3 { b"MQIsdp" } else { b"MQTT" });
    body.extend([version, flags]);
    body.extend(parts.value("keep").map_or(0, |keep| keep.parse::<u16>().unwrap()).to_be_bytes());
    if version == 5 {
        body.extend(parts.block());
    }
    body.extend(text_with_length(&unquote(parts.value("id").unwrap_or_default())));
    if let Some(topic) = will {
        if version == 5 {
            body.extend(variable(parts.will_properties.len() as u32));
            body.extend(&parts.will_properties);
        }
        body.extend(text_with_length(&unquote(topic)));
        body.extend(text_with_length(&unquote(parts.value("will_payload").unwrap_or_default())));
    }
    for field in [name, password].into_iter().flatten() {
        body.extend(text_with_length(&unquote(field)));
    }
    body
}

fn publish(parts: &mut Parts<'_>, first: &mut u8, block: &[u8]) -> Vec<u8> {
    let qos = parts.qos("q");
    *first |= u8::from(parts.flag("dup")) << 3 | qos << 1 | u8::from(parts.flag("retain"));
    let topic = parts.plain.first().map(|topic| unquote(topic)).unwrap_or_default();
    let mut body = text_with_length(&topic);
    if qos > 0 {
        body.extend(parts.id());
    }
    body.extend(block);
    body.extend(parts.plain.get(1).map(|payload| unquote(payload)).unwrap_or_default());
    body
}

/// `filter:1,nl,rap,rh2` of SUBSCRIBE, or a filter alone.
fn filter(word: &str, has_options: bool) -> Vec<u8> {
    let Some((filter, options)) = word.rsplit_once(':').filter(|_| has_options) else {
        return text_with_length(&unquote(word));
    };
    let byte = options.split(',').map(|option| match option {
        "nl" => 0x04,
        "rap" => 0x08,
        "rh1" => 0x10,
        "rh2" => 0x20,
        qos => qos.parse().unwrap_or_else(|_| panic!("subscription option {qos}")),
    });
    let byte = byte.fold(0_u8, |all, option| all | option);
    [text_with_length(&unquote(filter)), vec![byte]].concat()
}

/// The packet at the head of `input` as words, and its length; `None` if it is not whole yet.
pub fn decode(input: &[u8], version: u8) -> Result<Option<(Vec<String>, usize)>, String> {
    if input.len() < 2 {
        return Ok(None);
    }
    let mut reader = Reader(&input[1..]);
    let Ok(length) = reader.variable() else { return if input.len() > 5 { Err("a bad length".into()) } else { Ok(None) } };
    let total = input.len() - reader.0.len() + length as usize;
    let Ok(body) = reader.take(length as usize) else { return Ok(None) };
    let kind = usize::from(input[0] >> 4);
    let mut words = vec![NAMES[kind].to_owned()];
    let mut body = Reader(body);
    match NAMES[kind] {
        "CONNACK" => {
            if body.number(1)? == 1 {
                words.push("present".into());
            }
            words.push(format!("rc={:02X}", body.number(1)?));
            words.extend(block(&mut body, version)?);
        }
        "PUBLISH" => read_publish(input[0], &mut body, version, &mut words)?,
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => {
            words.push(format!("id={}", body.number(2)?));
            words.extend(read_code(&mut body, version)?);
        }
        "SUBACK" | "UNSUBACK" => {
            words.push(format!("id={}", body.number(2)?));
            words.extend(block(&mut body, version)?);
            words.extend(body.take(body.0.len())?.iter().map(|code| format!("{code:02X}")));
        }
        "DISCONNECT" | "AUTH" => words.extend(read_code(&mut body, version)?),
        "PINGRESP" => {}
        name => return Err(format!("a server does not send {name:?} ({:02X})", input[0])),
    }
    if !body.0.is_empty() {
        return Err(format!("{} bytes are left over in {words:?}", body.0.len()));
    }
    Ok(Some((words, total)))
}

fn block(body: &mut Reader<'_>, version: u8) -> Result<Vec<String>, String> {
    let properties = if version == 5 { body.properties()? } else { Vec::new() };
    Ok(properties.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn read_code(body: &mut Reader<'_>, version: u8) -> Result<Vec<String>, String> {
    if version != 5 {
        return Ok(Vec::new());
    }
    let code = if body.0.is_empty() { 0 } else { body.number(1)? };
    let mut words = vec![format!("rc={code:02X}")];
    if !body.0.is_empty() {
        words.extend(block(body, version)?);
    }
    Ok(words)
}

fn read_publish(first: u8, body: &mut Reader<'_>, version: u8, words: &mut Vec<String>) -> Result<(), String> {
    let qos = first >> 1 & 3;
    let topic = quote(body.text()?);
    let id = if qos > 0 { Some(body.number(2)?) } else { None };
    let properties = block(body, version)?;
    words.extend([topic, quote(body.take(body.0.len())?), format!("q{qos}")]);
    words.extend(id.map(|id| format!("id={id}")));
    words.extend((first & 0x08 != 0).then(|| "dup".to_owned()));
    words.extend((first & 0x01 != 0).then(|| "retain".to_owned()));
    words.extend(properties);
    Ok(())
}

#[test]
fn packets_are_written_and_read() {
    let bytes = |line: &str, version| encode(&bytes::words(line), version);
    assert_eq!(bytes("CONNECT v4 clean id=a keep=10", 4), b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x0A\x00\x01a");
    assert_eq!(bytes("SUBSCRIBE id=1 a/b:1,nl,rh1 subscription_id=200", 5), b"\x82\x0C\x00\x01\x03\x0B\xC8\x01\x00\x03a/b\x15");
    assert_eq!(version_of(&bytes::words("10 [ s'MQTT' 04 02 0000 s'a' ]")), Some(4));
    for line in [
        "PUBLISH a/b 'x y' q1 id=7 dup retain user=k:v alias=3",
        "PUBACK id=9 rc=10",
        "SUBACK id=1 00 80",
        "CONNACK present rc=00 assigned_id=me",
    ] {
        let bytes = bytes(line, 5);
        let (words, length) = decode(&bytes, 5).unwrap().unwrap();
        assert_eq!((words.join(" ").as_str(), length), (line, bytes.len()));
        assert_eq!(decode(&bytes[..bytes.len() - 1], 5), Ok(None));
    }
    assert!(decode(b"\x10\x00", 5).is_err());
    assert!(decode(b"\x40\x01\x00", 4).is_err());
}
