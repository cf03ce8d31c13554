//! The bytes of one record, exactly and by version, without the frame that the log puts around them.
//!
//! Version 1: `version u8, kind u8, parts u8, realm text, id varint, time varint, [topic text], qos u8, flags u16,
//! [session varint, authid text, authrole text], [expires varint], [owner text, key bytes], payload tag u8, its parts bytes,
//! [properties], [readers]`. `parts` says which of those in brackets are there. Numbers are little-endian; text is UTF-8 behind its length.
use bytes::Bytes;

use super::error::Error;
use super::input::{Input, put_bytes, put_varint};
use crate::model::properties::{Passthru, Properties};
use crate::model::readers::{Audience, Readers};
use crate::model::record::{DedupKey, Flags, Kind, Origin};
use crate::model::{Encoding, EventId, Item, Payload, Qos, Record, SessionId, Topic};

/// The version that is written; every earlier one is read.
pub const VERSION: u8 = 1;

/// The most bytes that one record may take: a message of 16 MiB and what belongs to it.
pub const MAX_RECORD_BYTES: usize = 24 * 1024 * 1024;

const HAS_TOPIC: u8 = 1;
const HAS_ORIGIN: u8 = 2;
const HAS_EXPIRY: u8 = 4;
const HAS_DEDUP: u8 = 8;
const HAS_PROPERTIES: u8 = 16;
const HAS_READERS: u8 = 32;
const ALL_PARTS: u8 = 63;

/// The part of a record that the index needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary<'a> {
    /// Its realm.
    pub realm: &'a str,
    /// Its kind.
    pub kind: Kind,
    /// Its place.
    pub id: EventId,
    /// Its time.
    pub time_ms: u64,
    /// Its topic, in MQTT spelling.
    pub topic: Option<&'a str>,
}

/// Whether `item` can be written so that it is read back as it is.
pub fn check(item: &Item) -> Result<(), Error> {
    let is_answer = item.properties.as_ref().is_some_and(|properties| properties.outcome.is_some());
    if is_answer || matches!(item.payload, Payload::List(_)) {
        return Err(Error::Unstorable("the answer of a call"));
    }
    if item.realm.is_empty() {
        return Err(Error::Unstorable("a realm without a name"));
    }
    Ok(())
}

/// Appends `item` with its place.
pub fn encode(item: &Item, id: EventId, out: &mut Vec<u8>) {
    let part = |is_there: bool, bit: u8| if is_there { bit } else { 0 };
    let parts = part(item.topic.is_some(), HAS_TOPIC)
        | part(item.origin.is_some(), HAS_ORIGIN)
        | part(item.expires_at_ms.is_some(), HAS_EXPIRY)
        | part(item.dedup.is_some(), HAS_DEDUP)
        | part(item.properties.is_some(), HAS_PROPERTIES)
        | part(item.readers.is_some(), HAS_READERS);
    out.extend_from_slice(&[VERSION, item.kind.0, parts]);
    put_bytes(out, item.realm.as_bytes());
    put_varint(out, id.value());
    put_varint(out, item.time_ms);
    if let Some(topic) = &item.topic {
        put_bytes(out, topic.as_mqtt().as_bytes());
    }
    out.push(item.qos.bits());
    out.extend_from_slice(&item.flags.0.to_le_bytes());
    if let Some(origin) = &item.origin {
        put_varint(out, origin.session.0);
        put_bytes(out, origin.authid.as_bytes());
        put_bytes(out, origin.authrole.as_bytes());
    }
    if let Some(expires_at_ms) = item.expires_at_ms {
        put_varint(out, expires_at_ms);
    }
    if let Some(dedup) = &item.dedup {
        put_bytes(out, dedup.owner.as_bytes());
        put_bytes(out, &dedup.key);
    }
    encode_payload(&item.payload, out);
    if let Some(properties) = &item.properties {
        encode_properties(properties, out);
    }
    if let Some(readers) = &item.readers {
        encode_audience(readers.eligible.as_ref(), out);
        encode_audience(readers.exclude.as_ref(), out);
    }
}

/// 0, or 1 and its three lists: each 0, or its length and 1 and its entries.
fn encode_audience(audience: Option<&Audience>, out: &mut Vec<u8>) {
    out.push(u8::from(audience.is_some()));
    let Some(Audience { sessions, authids, authroles }) = audience else { return };
    put_varint(out, sessions.as_ref().map_or(0, |ids| ids.len() as u64 + 1));
    sessions.iter().flatten().for_each(|id| put_varint(out, id.0));
    for names in [authids, authroles] {
        put_varint(out, names.as_ref().map_or(0, |names| names.len() as u64 + 1));
        names.iter().flatten().for_each(|name| put_bytes(out, name.as_bytes()));
    }
}

fn encode_payload(payload: &Payload, out: &mut Vec<u8>) {
    match payload {
        Payload::Bytes(bytes) => {
            out.push(0);
            put_bytes(out, bytes);
        }
        // Refused by `check`.
        Payload::List(_) => out.extend_from_slice(&[0, 0]),
        Payload::Args { encoding, args, kwargs } => {
            out.push(match encoding {
                Encoding::Json => 1,
                Encoding::MsgPack => 2,
                Encoding::Cbor => 3,
            });
            put_bytes(out, args);
            put_bytes(out, kwargs);
        }
    }
}

fn encode_properties(properties: &Properties, out: &mut Vec<u8>) {
    put_optional(out, properties.content_type.as_deref().map(str::as_bytes));
    out.push(match properties.payload_format {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    });
    put_optional(out, properties.response_topic.as_deref().map(str::as_bytes));
    put_optional(out, properties.correlation_data.as_deref());
    put_varint(out, properties.user.len() as u64);
    for (name, value) in &properties.user {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
    match &properties.passthru {
        None => out.push(0),
        Some(passthru) => encode_passthru(passthru, out),
    }
}

fn encode_passthru(passthru: &Passthru, out: &mut Vec<u8>) {
    match &passthru.scheme {
        Some(scheme) => {
            out.push(1);
            put_bytes(out, scheme.as_bytes());
        }
        None => out.push(2),
    }
    for part in [&passthru.serializer, &passthru.cipher, &passthru.keyid] {
        put_optional(out, part.as_deref().map(str::as_bytes));
    }
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put_bytes(out, bytes);
    }
}

/// The record that `bytes` are, all of them; `None` if they are none of a version known here.
pub fn decode(bytes: &[u8]) -> Option<Record> {
    let mut input = Input::new(bytes);
    let (summary, parts) = decode_summary(&mut input)?;
    let qos = Qos::from_bits(input.u8()?)?;
    let flags = Flags(input.u16()?);
    let origin = if parts & HAS_ORIGIN != 0 { Some(decode_origin(&mut input)?) } else { None };
    let expires_at_ms = if parts & HAS_EXPIRY != 0 { Some(input.varint()?) } else { None };
    let dedup = if parts & HAS_DEDUP != 0 { Some(decode_dedup(&mut input)?) } else { None };
    let payload = decode_payload(&mut input)?;
    let properties = if parts & HAS_PROPERTIES != 0 { Some(Box::new(decode_properties(&mut input)?)) } else { None };
    let readers = if parts & HAS_READERS != 0 { Some(Box::new(decode_readers(&mut input)?)) } else { None };
    let topic = match summary.topic {
        Some(topic) => Some(Topic::from_mqtt(topic).ok()?),
        None => None,
    };
    let (realm, kind, time_ms) = (summary.realm.into(), summary.kind, summary.time_ms);
    let item = Item { realm, kind, time_ms, topic, origin, qos, flags, expires_at_ms, dedup, payload, readers, properties };
    input.is_empty().then_some(Record { id: summary.id, item })
}

/// The front of a record.
pub fn summary(bytes: &[u8]) -> Option<Summary<'_>> {
    decode_summary(&mut Input::new(bytes)).map(|(summary, _)| summary)
}

fn decode_summary<'a>(input: &mut Input<'a>) -> Option<(Summary<'a>, u8)> {
    if input.u8()? != VERSION {
        return None;
    }
    let kind = Kind(input.u8()?);
    let parts = input.u8()?;
    if parts & !ALL_PARTS != 0 {
        return None;
    }
    let realm = input.text().filter(|realm| !realm.is_empty())?;
    let id = EventId::new(input.varint()?)?;
    let time_ms = input.varint()?;
    let topic = if parts & HAS_TOPIC != 0 { Some(input.text()?) } else { None };
    Some((Summary { realm, kind, id, time_ms, topic }, parts))
}

fn decode_origin(input: &mut Input<'_>) -> Option<Origin> {
    Some(Origin { session: SessionId(input.varint()?), authid: input.shared_text()?, authrole: input.shared_text()? })
}

fn decode_dedup(input: &mut Input<'_>) -> Option<DedupKey> {
    Some(DedupKey { owner: input.shared_text()?, key: Bytes::copy_from_slice(input.bytes()?) })
}

fn decode_readers(input: &mut Input<'_>) -> Option<Readers> {
    Some(Readers { eligible: decode_audience(input)?, exclude: decode_audience(input)? })
}

fn decode_audience(input: &mut Input<'_>) -> Option<Option<Audience>> {
    match input.u8()? {
        0 => return Some(None),
        1 => {}
        _ => return None,
    }
    let sessions = decode_list(input, |input| input.varint().map(SessionId))?;
    let authids = decode_list(input, |input| input.text().map(Into::into))?;
    let authroles = decode_list(input, |input| input.text().map(Into::into))?;
    Some(Some(Audience { sessions, authids, authroles }))
}

fn decode_list<'a, T>(input: &mut Input<'a>, one: impl Fn(&mut Input<'a>) -> Option<T>) -> Option<Option<Vec<T>>> {
    let Some(count) = usize::try_from(input.varint()?).ok()?.checked_sub(1) else { return Some(None) };
    // Each takes a byte at least: nothing is allocated by a declared number.
    let mut list = Vec::with_capacity(count.min(input.remaining()));
    for _ in 0..count {
        list.push(one(input)?);
    }
    Some(Some(list))
}

fn decode_payload(input: &mut Input<'_>) -> Option<Payload> {
    let encoding = match input.u8()? {
        0 => return Some(Payload::Bytes(Bytes::copy_from_slice(input.bytes()?))),
        1 => Encoding::Json,
        2 => Encoding::MsgPack,
        3 => Encoding::Cbor,
        _ => return None,
    };
    let args = Bytes::copy_from_slice(input.bytes()?);
    Some(Payload::Args { encoding, args, kwargs: Bytes::copy_from_slice(input.bytes()?) })
}

fn decode_properties(input: &mut Input<'_>) -> Option<Properties> {
    let content_type = optional_text(input)?;
    let payload_format = match input.u8()? {
        0 => None,
        1 => Some(false),
        2 => Some(true),
        _ => return None,
    };
    let response_topic = optional_text(input)?;
    let correlation_data = optional(input)?.map(Bytes::copy_from_slice);
    let count = usize::try_from(input.varint()?).ok()?;
    // Each takes two bytes at least: nothing is allocated by a declared number.
    let mut user = Vec::with_capacity(count.min(input.remaining() / 2));
    for _ in 0..count {
        user.push((input.text()?.into(), input.text()?.into()));
    }
    let passthru = match input.u8()? {
        0 => None,
        // 2: it names no scheme.
        mark @ (1 | 2) => Some(Box::new(Passthru {
            scheme: if mark == 1 { Some(input.text()?.into()) } else { None },
            serializer: optional_text(input)?,
            cipher: optional_text(input)?,
            keyid: optional_text(input)?,
        })),
        _ => return None,
    };
    Some(Properties { content_type, payload_format, response_topic, correlation_data, user, passthru, outcome: None })
}

fn optional<'a>(input: &mut Input<'a>) -> Option<Option<&'a [u8]>> {
    match input.u8()? {
        0 => Some(None),
        1 => input.bytes().map(Some),
        _ => None,
    }
}

fn optional_text(input: &mut Input<'_>) -> Option<Option<Box<str>>> {
    match optional(input)? {
        Some(bytes) => std::str::from_utf8(bytes).ok().map(|text| Some(text.into())),
        None => Some(None),
    }
}
