//! CONNACK (3.2): the server's answer to CONNECT.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, BytesMut};

use crate::wire::mqtt::properties::{self, UserProperties, property_set};
use crate::wire::mqtt::read::Reader;
use crate::wire::mqtt::{Error, PacketType, Peer, Qos, ReasonCode, Version, write};

property_set! {
    /// The properties of CONNACK (3.2.2.3).
    ConnAckProperties of ConnAck {
        /// Seconds for which the session lives on, where it is not what the client asked for.
        session_expiry_s: u32 = 0x11,
        /// The client identifier that the server chose.
        assigned_client_id: &'a str = 0x12,
        /// Keep alive in seconds that the client must use instead of its own.
        server_keep_alive_s: u16 = 0x13,
        /// Method of enhanced authentication.
        authentication_method: &'a str = 0x15,
        /// Data of the method.
        authentication_data: &'a [u8] = 0x16,
        /// Base of the response topics that the client may use.
        response_information: &'a str = 0x1A,
        /// Another server to use.
        server_reference: &'a str = 0x1C,
        /// Reason in words, for diagnosis.
        reason_string: &'a str = 0x1F,
        /// Topic aliases that the server takes; absent is 0.
        topic_alias_maximum: u16 = 0x22,
        /// QoS 1 and 2 publications that the server takes at once; absent is 65,535.
        receive_maximum: NonZeroU16 = 0x21,
        /// Highest QoS that the server takes, 0 or 1; absent is 2.
        maximum_qos: Qos = 0x24,
        /// Whether the server takes retained messages; absent is yes.
        retain_available: bool = 0x25,
        /// Largest packet in bytes that the server takes.
        maximum_packet_size: NonZeroU32 = 0x27,
        /// Whether it takes wildcard subscriptions; absent is yes.
        wildcard_subscription_available: bool = 0x28,
        /// Whether it takes subscription identifiers; absent is yes.
        subscription_ids_available: bool = 0x29,
        /// Whether it takes shared subscriptions; absent is yes.
        shared_subscription_available: bool = 0x2A,
    }
}

/// CONNACK: the connection is accepted or refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server had a session for the client.
    pub session_present: bool,
    /// Accepted, or why not; 3.1 and 3.1.1 get the return code that comes nearest.
    pub reason: ReasonCode,
    /// Properties; not sent before 5.0.
    pub properties: ConnAckProperties<'a>,
}

impl<'a> ConnAck<'a> {
    pub(in crate::wire::mqtt) fn decode(mut body: Reader<'a>, version: Version) -> Result<Self, Error> {
        let flags = body.u8()?;
        // [MQTT-3.2.2-1]; 3.1 reserves the whole byte without giving it a meaning.
        if flags > 1 && version != Version::V31 {
            return Err(Error::ConnackFlags);
        }
        let session_present = flags & 1 != 0 && version != Version::V31;
        let code = body.u8()?;
        let reason = match version {
            Version::V5 => ReasonCode::from_byte(code),
            Version::V31 | Version::V311 => ReasonCode::from_connack_return_code(code),
        };
        let reason = reason
            .filter(|reason| reason.is_legal_in(PacketType::ConnAck, version, Peer::Server))
            .ok_or(Error::ReasonCode(PacketType::ConnAck))?;
        if session_present && reason.is_error() {
            return Err(Error::ConnackFlags); // [MQTT-3.2.2-6]
        }
        let properties =
            if version == Version::V5 { ConnAckProperties::decode(&mut body)? } else { ConnAckProperties::default() };
        body.finish()?;
        Ok(Self { session_present, reason, properties })
    }

    pub(in crate::wire::mqtt) fn body_len(&self, version: Version) -> usize {
        if version != Version::V5 {
            return 2;
        }
        let content = self.properties.content_len();
        2 + write::variable_byte_integer_len(content) + content
    }

    pub(in crate::wire::mqtt) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), Error> {
        // The other bits are 0 [MQTT-3.2.2-1]; a refusal has no session [MQTT-3.2.2-6].
        let session_present = self.session_present && !self.reason.is_error() && version != Version::V31;
        out.put_u8(u8::from(session_present));
        if version != Version::V5 {
            out.put_u8(self.reason.connack_return_code());
            return Ok(());
        }
        out.put_u8(self.reason.byte());
        self.properties.write(out)
    }
}
