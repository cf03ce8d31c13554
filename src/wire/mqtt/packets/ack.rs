//! PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7), which differ in their type alone.

use std::num::NonZeroU16;

use bytes::{BufMut, BytesMut};

use crate::wire::mqtt::properties::{self, UserProperties, property_set};
use crate::wire::mqtt::read::Reader;
use crate::wire::mqtt::{Error, PacketType, Peer, ReasonCode, Version, write};

property_set! {
    /// The properties of the acknowledgements (3.4.2.2, and alike for the others).
    AckProperties of PubAck {
        /// Reason in words, for diagnosis.
        reason_string: &'a str = 0x1F,
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The packet identifier of the PUBLISH.
    pub packet_id: NonZeroU16,
    /// The outcome; always success before 5.0.
    pub reason: ReasonCode,
    /// Properties; not sent before 5.0.
    pub properties: AckProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement without properties.
    #[must_use]
    pub fn new(packet_id: NonZeroU16, reason: ReasonCode) -> Self {
        Self { packet_id, reason, properties: AckProperties::default() }
    }

    #[inline]
    pub(in crate::wire::mqtt) fn decode(
        packet: PacketType,
        mut body: Reader<'a>,
        version: Version,
        from: Peer,
    ) -> Result<Self, Error> {
        let mut ack = Self::new(body.packet_id(packet)?, ReasonCode::Success);
        if version == Version::V5 && !body.is_empty() {
            // Reason code and properties may be left out when there is nothing to say (3.4.2.1, 3.4.2.2.1).
            let reason = ReasonCode::from_byte(body.u8()?);
            ack.reason = reason.filter(|code| code.is_legal_in(packet, version, from)).ok_or(Error::ReasonCode(packet))?;
            if !body.is_empty() {
                ack.properties = AckProperties::decode(&mut body)?;
            }
        }
        body.finish()?;
        Ok(ack)
    }

    pub(in crate::wire::mqtt) fn body_len(&self, version: Version) -> usize {
        if version != Version::V5 {
            return 2;
        }
        match self.properties.content_len() {
            0 if self.reason == ReasonCode::Success => 2,
            0 => 3,
            content => 3 + write::variable_byte_integer_len(content) + content,
        }
    }

    pub(in crate::wire::mqtt) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), Error> {
        out.put_u16(self.packet_id.get());
        let body_len = self.body_len(version);
        if body_len > 2 {
            out.put_u8(self.reason.byte());
        }
        if body_len > 3 {
            self.properties.write(out)?;
        }
        Ok(())
    }
}

/// Appends PUBACK, PUBREC, PUBREL or PUBCOMP without properties; any other type is [`Error::NotInVersion`].
#[inline]
pub fn encode_ack(
    packet: PacketType,
    packet_id: NonZeroU16,
    reason: ReasonCode,
    version: Version,
    out: &mut BytesMut,
) -> Result<(), Error> {
    let first = match packet {
        PacketType::PubAck => 0x40,
        PacketType::PubRec => 0x50,
        PacketType::PubRel => 0x62,
        PacketType::PubComp => 0x70,
        _ => return Err(Error::NotInVersion(packet)),
    };
    let [high, low] = packet_id.get().to_be_bytes();
    if version == Version::V5 && reason != ReasonCode::Success {
        out.extend_from_slice(&[first, 3, high, low, reason.byte()]);
    } else {
        out.extend_from_slice(&[first, 2, high, low]);
    }
    Ok(())
}
