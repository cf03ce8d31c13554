//! The properties of MQTT 5 by name, both ways.
use super::bytes::{quote, text_with_length, unquote, variable};

/// The form of a property's value.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Byte,
    Two,
    Four,
    Variable,
    Text,
    Pair,
}

const PROPERTIES: &[(&str, u8, Kind)] = &[
    ("payload_format", 0x01, Kind::Byte),
    ("message_expiry", 0x02, Kind::Four),
    ("content_type", 0x03, Kind::Text),
    ("response_topic", 0x08, Kind::Text),
    ("correlation", 0x09, Kind::Text),
    ("subscription_id", 0x0B, Kind::Variable),
    ("session_expiry", 0x11, Kind::Four),
    ("assigned_id", 0x12, Kind::Text),
    ("server_keep_alive", 0x13, Kind::Two),
    ("method", 0x15, Kind::Text),
    ("auth_data", 0x16, Kind::Text),
    ("problem_information", 0x17, Kind::Byte),
    ("will_delay", 0x18, Kind::Four),
    ("want_response_information", 0x19, Kind::Byte),
    ("response_information", 0x1A, Kind::Text),
    ("server_reference", 0x1C, Kind::Text),
    ("reason", 0x1F, Kind::Text),
    ("receive_maximum", 0x21, Kind::Two),
    ("alias_maximum", 0x22, Kind::Two),
    ("alias", 0x23, Kind::Two),
    ("maximum_qos", 0x24, Kind::Byte),
    ("retain_available", 0x25, Kind::Byte),
    ("user", 0x26, Kind::Pair),
    ("maximum_packet", 0x27, Kind::Four),
    ("wildcards_available", 0x28, Kind::Byte),
    ("ids_available", 0x29, Kind::Byte),
    ("shared_available", 0x2A, Kind::Byte),
];

/// One property as bytes; `None` if there is none of that name. A pair is written `name:value`.
pub fn encode(name: &str, value: &str) -> Option<Vec<u8>> {
    let (_, id, kind) = PROPERTIES.iter().find(|(known, ..)| *known == name)?;
    let number = || value.parse::<u32>().unwrap_or_else(|_| panic!("{name} is no number: {value}"));
    let mut bytes = vec![*id];
    match kind {
        Kind::Byte => bytes.push(number() as u8),
        Kind::Two => bytes.extend((number() as u16).to_be_bytes()),
        Kind::Four => bytes.extend(number().to_be_bytes()),
        Kind::Variable => bytes.extend(variable(number())),
        Kind::Text => bytes.extend(text_with_length(&unquote(value))),
        Kind::Pair => {
            let value = String::from_utf8(unquote(value)).unwrap();
            let (name, value) = value.split_once(':').expect("a user property is name:value");
            bytes.extend(text_with_length(name.as_bytes()));
            bytes.extend(text_with_length(value.as_bytes()));
        }
    }
    Some(bytes)
}

/// Takes bytes from the front of a packet.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("a field beyond the end of the packet")?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn number(&mut self, bytes: usize) -> Result<u32, String> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    pub fn variable(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.number(1)?;
            value |= (byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a variable byte integer of five bytes".into())
    }

    pub fn text(&mut self) -> Result<&'a [u8], String> {
        let length = self.number(2)?;
        self.take(length as usize)
    }

    /// A block of properties, as `(name, value)` in its order.
    pub fn properties(&mut self) -> Result<Vec<(String, String)>, String> {
        let length = self.variable()?;
        let mut block = Reader(self.take(length as usize)?);
        let mut properties = Vec::new();
        while !block.0.is_empty() {
            let id = block.number(1)?;
            let known = PROPERTIES.iter().find(|(_, known, _)| u32::from(*known) == id);
            let (name, _, kind) = known.ok_or_else(|| format!("property {id:02X} is unknown"))?;
            let value = match kind {
                Kind::Byte => block.number(1)?.to_string(),
                Kind::Two => block.number(2)?.to_string(),
                Kind::Four => block.number(4)?.to_string(),
                Kind::Variable => block.variable()?.to_string(),
                Kind::Text => quote(block.text()?),
                Kind::Pair => quote(&[block.text()?, b":", block.text()?].concat()),
            };
            properties.push(((*name).to_owned(), value));
        }
        Ok(properties)
    }
}
