//! SUBACK and UNSUBACK (3.9, 3.11): one reason code for each filter, in their order.

use std::num::NonZeroU16;

use bytes::{BufMut, BytesMut};

use super::AckProperties;
use crate::wire::mqtt::read::Reader;
use crate::wire::mqtt::{Error, PacketType, Peer, ReasonCode, Version, write};

/// SUBACK: what became of the filters of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The packet identifier of the SUBSCRIBE.
    pub packet_id: NonZeroU16,
    /// Properties; not sent before 5.0.
    pub properties: AckProperties<'a>,
    /// A [`ReasonCode`] byte for each filter; before 5.0 every failure is sent as 0x80.
    pub codes: &'a [u8],
}

/// UNSUBACK: what became of the filters of an UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The packet identifier of the UNSUBSCRIBE.
    pub packet_id: NonZeroU16,
    /// Properties; not sent before 5.0.
    pub properties: AckProperties<'a>,
    /// A [`ReasonCode`] byte for each filter; not sent before 5.0.
    pub codes: &'a [u8],
}

fn decode_properties<'a>(packet: PacketType, body: &mut Reader<'a>, version: Version) -> Result<AckProperties<'a>, Error> {
    if version != Version::V5 {
        return Ok(AckProperties::default());
    }
    AckProperties::decode(body).map_err(|error| match error {
        Error::PropertyNotAllowed(_) => Error::PropertyNotAllowed(packet),
        error => error,
    })
}

fn check_codes(packet: PacketType, codes: &[u8], version: Version) -> Result<(), Error> {
    if codes.is_empty() {
        return Err(Error::NoReasonCode);
    }
    let legal = |code: &u8| ReasonCode::from_byte(*code).is_some_and(|code| code.is_legal_in(packet, version, Peer::Server));
    if codes.iter().all(legal) { Ok(()) } else { Err(Error::ReasonCode(packet)) }
}

fn properties_len(properties: &AckProperties<'_>, version: Version) -> usize {
    if version != Version::V5 {
        return 0;
    }
    let content = properties.content_len();
    write::variable_byte_integer_len(content) + content
}

impl<'a> SubAck<'a> {
    pub(in crate::wire::mqtt) fn decode(mut body: Reader<'a>, version: Version) -> Result<Self, Error> {
        let packet_id = body.packet_id(PacketType::SubAck)?;
        let properties = decode_properties(PacketType::SubAck, &mut body, version)?;
        let codes = body.rest();
        check_codes(PacketType::SubAck, codes, version)?;
        Ok(Self { packet_id, properties, codes })
    }

    pub(in crate::wire::mqtt) fn body_len(&self, version: Version) -> usize {
        2 + properties_len(&self.properties, version) + self.codes.len()
    }

    pub(in crate::wire::mqtt) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), Error> {
        out.put_u16(self.packet_id.get());
        if version == Version::V5 {
            self.properties.write(out)?;
            out.put_slice(self.codes);
        } else {
            // One code stands for every failure; 3.1.1: [MQTT-3.9.3-2].
            self.codes.iter().for_each(|code| out.put_u8((*code).min(0x80)));
        }
        Ok(())
    }
}

impl<'a> UnsubAck<'a> {
    pub(in crate::wire::mqtt) fn decode(mut body: Reader<'a>, version: Version) -> Result<Self, Error> {
        let packet_id = body.packet_id(PacketType::UnsubAck)?;
        let properties = decode_properties(PacketType::UnsubAck, &mut body, version)?;
        let codes = body.rest();
        if version == Version::V5 {
            check_codes(PacketType::UnsubAck, codes, version)?;
        } else {
            body.finish()?;
        }
        Ok(Self { packet_id, properties, codes })
    }

    pub(in crate::wire::mqtt) fn body_len(&self, version: Version) -> usize {
        let codes = if version == Version::V5 { self.codes.len() } else { 0 };
        2 + properties_len(&self.properties, version) + codes
    }

    pub(in crate::wire::mqtt) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), Error> {
        out.put_u16(self.packet_id.get());
        if version == Version::V5 {
            self.properties.write(out)?;
            out.put_slice(self.codes);
        }
        Ok(())
    }
}
