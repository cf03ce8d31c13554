//! CONNECT (3.1): the one packet that says which version the connection speaks.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, BytesMut};

use crate::wire::mqtt::properties::{self, UserProperties, property_set};
use crate::wire::mqtt::read::Reader;
use crate::wire::mqtt::{Error, PacketType, Qos, Version, topic, write};

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

property_set! {
    /// The properties of CONNECT (3.1.2.11).
    ConnectProperties of Connect {
        /// Seconds for which the session outlives the connection; `u32::MAX` is forever, absent is 0.
        session_expiry_s: u32 = 0x11,
        /// QoS 1 and 2 publications that the client takes at once; absent is 65,535.
        receive_maximum: NonZeroU16 = 0x21,
        /// Largest packet in bytes that the client takes.
        maximum_packet_size: NonZeroU32 = 0x27,
        /// Topic aliases that the client takes; absent is 0.
        topic_alias_maximum: u16 = 0x22,
        /// Whether the client wants Response Information in CONNACK; absent is no.
        request_response_information: bool = 0x19,
        /// Whether reason strings and user properties may come with failures; absent is yes.
        request_problem_information: bool = 0x17,
        /// Name of the method of enhanced authentication.
        authentication_method: &'a str = 0x15,
        /// Data of the method.
        authentication_data: &'a [u8] = 0x16,
    }
}

property_set! {
    /// The properties of a will (3.1.3.2).
    WillProperties of Connect {
        /// Seconds between the end of the connection and the will; absent is 0.
        will_delay_s: u32 = 0x18,
        /// Whether the payload is said to be UTF-8.
        payload_format: bool = 0x01,
        /// Lifetime of the will message in seconds.
        message_expiry_s: u32 = 0x02,
        /// Content type of the payload.
        content_type: &'a str = 0x03,
        /// Topic for responses.
        response_topic: &'a str = 0x08,
        /// Data by which the requester knows the response.
        correlation_data: &'a [u8] = 0x09,
    }
}

/// The message that the server publishes when the connection ends without DISCONNECT (3.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// QoS of the publication.
    pub qos: Qos,
    /// Whether it is retained.
    pub retain: bool,
    /// Its topic name.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// Its properties; empty before 5.0.
    pub properties: WillProperties<'a>,
}

/// CONNECT: a client asks for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version that every further packet of the connection is in.
    pub version: Version,
    /// The client passes messages on for another broker: none of its own comes back to it, and RETAIN as published.
    pub is_bridge: bool,
    /// Clean Start, in 3.1 and 3.1.1 Clean Session.
    pub clean_start: bool,
    /// Keep alive in seconds, 0 is off.
    pub keep_alive_s: u16,
    /// Properties; empty before 5.0.
    pub properties: ConnectProperties<'a>,
    /// Client identifier, possibly empty: whether that is accepted is not the codec's to say [MQTT-3.1.3-6].
    pub client_id: &'a str,
    /// The will.
    pub will: Option<Will<'a>>,
    /// User name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
}

/// Bit 7 of the protocol level, by which mosquitto says that it bridges.
const BRIDGE: u8 = 0x80;

/// The protocol name and level at the head of CONNECT (3.1.2.1, 3.1.2.2), and whether the client says that it is a bridge.
pub(in crate::wire::mqtt) fn decode_version(body: &mut Reader<'_>) -> Result<(Version, bool), Error> {
    let name = body.binary()?;
    let level = body.u8()?;
    let version = match (name, level & !BRIDGE) {
        (b"MQIsdp", 3) => Version::V31,
        (b"MQTT", 4) => Version::V311,
        (b"MQTT", 5) => Version::V5,
        (b"MQIsdp" | b"MQTT", level) => return Err(Error::UnsupportedVersion(level)),
        _ => return Err(Error::ProtocolName), // [MQTT-3.1.2-1]
    };
    Ok((version, level & BRIDGE != 0))
}

/// The connect flags (3.1.2.3). 3.1 does not say what contradictions among them mean, so there they mean nothing.
fn check_connect_flags(flags: u8, version: Version) -> Result<(), Error> {
    if flags & 0x01 != 0 && version != Version::V31 {
        return Err(Error::ConnectFlags); // [MQTT-3.1.2-3]
    }
    let will_qos = flags >> 3 & 0x03;
    if flags & WILL == 0 {
        // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
        let contradiction = will_qos != 0 || flags & WILL_RETAIN != 0;
        if contradiction && version != Version::V31 {
            return Err(Error::WillFlags);
        }
    } else if will_qos == 3 {
        return Err(Error::WillFlags); // [MQTT-3.1.2-12]
    }
    if flags & PASSWORD != 0 && flags & USERNAME == 0 && version != Version::V5 {
        return Err(Error::PasswordWithoutUsername); // 3.1.1: [MQTT-3.1.2-22]
    }
    Ok(())
}

/// The will, whose fields are there if its flag is set [MQTT-3.1.2-9].
fn decode_will<'a>(flags: u8, body: &mut Reader<'a>, version: Version) -> Result<Will<'a>, Error> {
    let properties = if version == Version::V5 { WillProperties::decode(body)? } else { WillProperties::default() };
    if let Some(response_topic) = properties.response_topic {
        topic::check_topic_name(response_topic).map_err(|_| Error::ResponseTopic)?;
    }
    let topic = body.string()?; // [MQTT-3.1.3-11]
    topic::check_topic_name(topic)?;
    Ok(Will {
        qos: Qos::from_bits(flags >> 3 & 0x03).ok_or(Error::WillFlags)?,
        retain: flags & WILL_RETAIN != 0,
        topic,
        payload: body.binary()?,
        properties,
    })
}

/// Whether a credential follows, as its flag says ([MQTT-3.1.2-16], [MQTT-3.1.2-17], [MQTT-3.1.2-18],
/// [MQTT-3.1.2-19]; bytes that no flag announced are left over). 3.1 lets the remaining length overrule the flags: where
/// nothing is left, nothing was sent.
fn credential_follows(flag: bool, body: &Reader<'_>, version: Version) -> bool {
    flag && !(version == Version::V31 && body.is_empty())
}

impl<'a> Connect<'a> {
    /// The fields in their order [MQTT-3.1.3-1]; whatever is out of form is refused [MQTT-3.1.4-1].
    pub(in crate::wire::mqtt) fn decode(first: u8, mut body: Reader<'a>) -> Result<Self, Error> {
        let (version, is_bridge) = decode_version(&mut body)?;
        if version != Version::V31 && first & 0x0F != 0 {
            return Err(Error::FixedHeaderFlags(PacketType::Connect));
        }
        let flags = body.u8()?;
        check_connect_flags(flags, version)?;
        let keep_alive_s = body.u16()?;
        let properties =
            if version == Version::V5 { ConnectProperties::decode(&mut body)? } else { ConnectProperties::default() };
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(Error::AuthenticationDataWithoutMethod);
        }
        let client_id = body.string()?; // [MQTT-3.1.3-3], [MQTT-3.1.3-4]
        let will = if flags & WILL != 0 { Some(decode_will(flags, &mut body, version)?) } else { None };
        let username = if credential_follows(flags & USERNAME != 0, &body, version) { Some(body.string()?) } else { None }; // [MQTT-3.1.3-12]
        let password = if credential_follows(flags & PASSWORD != 0, &body, version) { Some(body.binary()?) } else { None };
        body.finish()?;
        let clean_start = flags & CLEAN_START != 0;
        Ok(Self { version, is_bridge, clean_start, keep_alive_s, properties, client_id, will, username, password })
    }

    fn flags(&self) -> u8 {
        let bit = |set: bool, flag: u8| if set { flag } else { 0 };
        let will = self.will.map_or(0, |will| WILL | will.qos.bits() << 3 | bit(will.retain, WILL_RETAIN));
        bit(self.clean_start, CLEAN_START)
            | will
            | bit(self.username.is_some(), USERNAME)
            | bit(self.password.is_some(), PASSWORD)
    }

    /// Length of the body in bytes.
    pub(in crate::wire::mqtt) fn body_len(&self) -> usize {
        let v5 = self.version == Version::V5;
        let block = |content: usize| {
            if v5 { write::variable_byte_integer_len(content) + content } else { 0 }
        };
        let name = self.version.protocol_name().len();
        let will = self.will.map_or(0, |will| block(will.properties.content_len()) + 4 + will.topic.len() + will.payload.len());
        let username = self.username.map_or(0, |name| 2 + name.len());
        let password = self.password.map_or(0, |password| 2 + password.len());
        2 + name + 4 + block(self.properties.content_len()) + 2 + self.client_id.len() + will + username + password
    }

    pub(in crate::wire::mqtt) fn write(&self, out: &mut BytesMut) -> Result<(), Error> {
        if self.password.is_some() && self.username.is_none() && self.version != Version::V5 {
            return Err(Error::PasswordWithoutUsername);
        }
        write::string(self.version.protocol_name(), out)?;
        out.put_u8(self.version.level() | if self.is_bridge { BRIDGE } else { 0 });
        out.put_u8(self.flags());
        out.put_u16(self.keep_alive_s);
        if self.version == Version::V5 {
            self.properties.write(out)?;
        }
        write::string(self.client_id, out)?;
        if let Some(will) = self.will {
            if self.version == Version::V5 {
                will.properties.write(out)?;
            }
            write::string(will.topic, out)?;
            write::binary(will.payload, out)?;
        }
        if let Some(username) = self.username {
            write::string(username, out)?;
        }
        if let Some(password) = self.password {
            write::binary(password, out)?;
        }
        Ok(())
    }
}
