//! DISCONNECT (3.14): the last packet of a connection.

use bytes::{BufMut, BytesMut};

use crate::wire::mqtt::properties::{self, UserProperties, property_set};
use crate::wire::mqtt::read::Reader;
use crate::wire::mqtt::{Error, PacketType, Peer, ReasonCode, Version, write};

property_set! {
    /// The properties of DISCONNECT (3.14.2.2).
    DisconnectProperties of Disconnect {
        /// A new session expiry in seconds; from clients alone [MQTT-3.14.2-2].
        session_expiry_s: u32 = 0x11,
        /// Reason in words, for diagnosis.
        reason_string: &'a str = 0x1F,
        /// Another server to use; means nothing from a client.
        server_reference: &'a str = 0x1C,
    }
}

/// DISCONNECT: the connection ends, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why; normal disconnection before 5.0.
    pub reason: ReasonCode,
    /// Properties; not sent before 5.0.
    pub properties: DisconnectProperties<'a>,
}

impl<'a> Disconnect<'a> {
    pub(in crate::wire::mqtt) fn decode(mut body: Reader<'a>, version: Version, from: Peer) -> Result<Self, Error> {
        let mut disconnect = Self::default();
        if version == Version::V5 && !body.is_empty() {
            // Both may be left out, the properties alone too (3.14.2.1, 3.14.2.2.1).
            let reason = ReasonCode::from_byte(body.u8()?);
            disconnect.reason = reason
                .filter(|code| code.is_legal_in(PacketType::Disconnect, version, from))
                .ok_or(Error::ReasonCode(PacketType::Disconnect))?;
            if !body.is_empty() {
                disconnect.properties = DisconnectProperties::decode(&mut body)?;
            }
        }
        if from == Peer::Server && disconnect.properties.session_expiry_s.is_some() {
            return Err(Error::PropertyNotAllowed(PacketType::Disconnect)); // [MQTT-3.14.2-2]
        }
        body.finish()?;
        Ok(disconnect)
    }

    pub(in crate::wire::mqtt) fn body_len(&self, version: Version) -> usize {
        if version != Version::V5 {
            return 0;
        }
        match self.properties.content_len() {
            0 if self.reason == ReasonCode::NORMAL_DISCONNECTION => 0,
            0 => 1,
            content => 1 + write::variable_byte_integer_len(content) + content,
        }
    }

    pub(in crate::wire::mqtt) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), Error> {
        let body_len = self.body_len(version);
        if body_len > 0 {
            out.put_u8(self.reason.byte());
        }
        if body_len > 1 {
            self.properties.write(out)?;
        }
        Ok(())
    }
}
