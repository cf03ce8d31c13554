//! AUTH (3.15): enhanced authentication of 5.0, back and forth.

use bytes::{BufMut, BytesMut};

use crate::wire::mqtt::properties::{self, UserProperties, property_set};
use crate::wire::mqtt::read::Reader;
use crate::wire::mqtt::{Error, PacketType, Peer, ReasonCode, Version, write};

property_set! {
    /// The properties of AUTH (3.15.2.2).
    AuthProperties of Auth {
        /// Name of the method; always there after decoding.
        authentication_method: &'a str = 0x15,
        /// Data of the method.
        authentication_data: &'a [u8] = 0x16,
        /// Reason in words, for diagnosis.
        reason_string: &'a str = 0x1F,
    }
}

/// AUTH: a step of an authentication exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success (server), continue (both), or re-authenticate (client).
    pub reason: ReasonCode,
    /// Properties.
    pub properties: AuthProperties<'a>,
}

impl<'a> Auth<'a> {
    pub(in crate::wire::mqtt) fn decode(mut body: Reader<'a>, from: Peer) -> Result<Self, Error> {
        // A body may be missing altogether (3.15.2.1), but then so is the method that must be there (3.15.2.2.2).
        let byte = if body.is_empty() { 0 } else { body.u8()? };
        let reason = ReasonCode::from_byte(byte)
            .filter(|code| code.is_legal_in(PacketType::Auth, Version::V5, from))
            .ok_or(Error::ReasonCode(PacketType::Auth))?;
        let properties = if body.is_empty() { AuthProperties::default() } else { AuthProperties::decode(&mut body)? };
        if properties.authentication_method.is_none() {
            return Err(Error::AuthenticationMethodMissing);
        }
        body.finish()?;
        Ok(Self { reason, properties })
    }

    pub(in crate::wire::mqtt) fn body_len(&self) -> usize {
        let content = self.properties.content_len();
        1 + write::variable_byte_integer_len(content) + content
    }

    pub(in crate::wire::mqtt) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), Error> {
        if version != Version::V5 {
            return Err(Error::NotInVersion(PacketType::Auth));
        }
        if self.properties.authentication_method.is_none() {
            return Err(Error::AuthenticationMethodMissing);
        }
        out.put_u8(self.reason.byte());
        self.properties.write(out)
    }
}
