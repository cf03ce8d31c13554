//! PUBLISH (3.3): the packet that matters, decoded in one pass and encoded without its payload where that is shared.

use std::num::NonZeroU16;

use bytes::{BufMut, BytesMut};

use crate::wire::mqtt::properties::{self, SubscriptionIds, UserProperties};
use crate::wire::mqtt::read::Reader;
use crate::wire::mqtt::{Error, PacketType, Peer, Qos, Version, topic, utf8, write};

/// The properties of PUBLISH (3.3.2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// Whether the payload is said to be UTF-8.
    pub payload_format: Option<bool>,
    /// Lifetime of the message in seconds.
    pub message_expiry_s: Option<u32>,
    /// The number that stands for the topic; whether it is within the announced maximum is for the receiver to say.
    pub topic_alias: Option<NonZeroU16>,
    /// Topic for responses.
    pub response_topic: Option<&'a str>,
    /// Data by which the requester knows the response.
    pub correlation_data: Option<&'a [u8]>,
    /// Content type of the payload.
    pub content_type: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
    /// The subscriptions that this PUBLISH answers. A client must not send any [MQTT-3.3.4-6]. One is tolerated, because the
    /// catalogues want it so, but it means nothing and is never passed on.
    pub subscription_ids: SubscriptionIds<'a>,
}

impl<'a> PublishProperties<'a> {
    /// Reads the block into the empty set that this is.
    #[inline]
    fn read(&mut self, body: &mut Reader<'a>, from: Peer) -> Result<(), Error> {
        let block = body.property_block().map_err(properties::in_block)?;
        if block.is_empty() { Ok(()) } else { self.read_block(block, from).map_err(properties::in_block) }
    }

    fn read_block(&mut self, block: Reader<'a>, from: Peer) -> Result<(), Error> {
        let set = self;
        let mut rest = block;
        let mut topic_alias: Option<u16> = None;
        while !rest.is_empty() {
            match rest.u8()? {
                0x01 => properties::read_once(&mut set.payload_format, &mut rest)?,
                0x02 => properties::read_once(&mut set.message_expiry_s, &mut rest)?,
                0x03 => properties::read_once(&mut set.content_type, &mut rest)?, // [MQTT-3.3.2-19]
                0x08 => properties::read_once(&mut set.response_topic, &mut rest)?, // [MQTT-3.3.2-13]
                0x09 => properties::read_once(&mut set.correlation_data, &mut rest)?,
                properties::SUBSCRIPTION_ID => {
                    properties::read_once(&mut None::<properties::SubscriptionId>, &mut rest)?;
                    if from != Peer::Server {
                        return Err(Error::PropertyNotAllowed(PacketType::Publish)); // [MQTT-3.3.4-6]
                    }
                    set.subscription_ids = SubscriptionIds::of_block(block.rest());
                }
                0x23 => properties::read_once(&mut topic_alias, &mut rest)?,
                properties::USER_PROPERTY => {
                    properties::check_user_property(&mut rest)?;
                    set.user = UserProperties::of_block(block.rest());
                }
                id => return Err(properties::refuse(id, &mut rest, PacketType::Publish)),
            }
        }
        if let Some(alias) = topic_alias {
            set.topic_alias = Some(NonZeroU16::new(alias).ok_or(Error::TopicAliasZero)?); // [MQTT-3.3.2-8]
        }
        if let Some(response_topic) = set.response_topic {
            topic::check_topic_name(response_topic).map_err(|_| Error::ResponseTopic)?; // [MQTT-3.3.2-14]
        }
        Ok(())
    }

    /// Bytes of the properties without the length in front of them.
    #[must_use]
    pub fn content_len(&self) -> usize {
        properties::optional_len(self.payload_format)
            + properties::optional_len(self.message_expiry_s)
            + properties::optional_len(self.content_type)
            + properties::optional_len(self.response_topic)
            + properties::optional_len(self.correlation_data)
            + self.subscription_ids.encoded_len()
            + properties::optional_len(self.topic_alias)
            + self.user.encoded_len()
    }

    fn write(&self, content_len: usize, out: &mut BytesMut) -> Result<(), Error> {
        write::variable_byte_integer(content_len, out)?;
        if content_len == 0 {
            return Ok(());
        }
        properties::write_optional(0x01, self.payload_format, out)?;
        properties::write_optional(0x02, self.message_expiry_s, out)?;
        properties::write_optional(0x03, self.content_type, out)?;
        properties::write_optional(0x08, self.response_topic, out)?;
        properties::write_optional(0x09, self.correlation_data, out)?;
        self.subscription_ids.write(out)?;
        properties::write_optional(0x23, self.topic_alias, out)?;
        self.user.write(out)
    }
}

/// PUBLISH: a message on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether the packet is sent again; never with QoS 0.
    pub dup: bool,
    /// QoS of the delivery.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic name; empty in 5.0 where an alias stands for it.
    pub topic: &'a str,
    /// Packet identifier, for QoS 1 and 2.
    pub packet_id: Option<NonZeroU16>,
    /// Properties; not sent before 5.0.
    pub properties: PublishProperties<'a>,
    /// Application message, 0 to 268,435,455 bytes.
    pub payload: &'a [u8],
}

/// Where things are in the bytes that [`Publish::encode_head`] appended, so that they can be patched for the next receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishHead {
    /// Offset of the first byte in the buffer: `| 0x08` sets DUP.
    pub start: usize,
    /// Offset of the two bytes of the packet identifier (big endian), for QoS 1 and 2.
    pub packet_id_at: Option<usize>,
    /// Length of the head in bytes.
    pub length: usize,
}

/// The topic name of a PUBLISH; bytes that are those of `known` are not looked at again.
#[inline]
fn decode_name<'a>(body: &mut Reader<'a>, known: Option<&'a str>) -> Result<&'a str, Error> {
    let mut rest = *body;
    if let Some(known) = known
        && rest.binary()? == known.as_bytes()
    {
        *body = rest;
        return Ok(known);
    }
    let topic = body.string()?; // [MQTT-3.3.2-1]
    if utf8::has_wildcard(topic) {
        return Err(Error::TopicWildcard); // [MQTT-3.3.2-2], [MQTT-4.7.0-1]
    }
    Ok(topic)
}

impl<'a> Publish<'a> {
    #[inline]
    pub(in crate::wire::mqtt) fn decode(
        first: u8,
        mut body: Reader<'a>,
        version: Version,
        from: Peer,
        known: Option<&'a str>,
    ) -> Result<Self, Error> {
        let qos = Qos::from_bits(first >> 1 & 0x03).ok_or(Error::Qos3)?;
        let topic = decode_name(&mut body, known)?;
        let packet_id = if qos == Qos::AtMostOnce { None } else { Some(body.packet_id(PacketType::Publish)?) };
        let dup = first & 0x08 != 0 && qos != Qos::AtMostOnce;
        let retain = first & 0x01 != 0;
        let mut properties = PublishProperties::default();
        if version == Version::V5 {
            properties.read(&mut body, from)?;
        }
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(Error::TopicEmpty);
        }
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload: body.rest() })
    }

    /// Whether the payload is what its payload format indicator promises (3.3.2.3.2). A receiver MAY check this.
    pub fn check_payload_format(&self) -> Result<(), Error> {
        if self.properties.payload_format == Some(true) && std::str::from_utf8(self.payload).is_err() {
            return Err(Error::PayloadFormat);
        }
        Ok(())
    }

    /// Length of the whole packet with its header and a payload of this many bytes: what Maximum Packet Size bounds.
    #[must_use]
    pub fn encoded_len(&self, version: Version, payload_len: usize) -> usize {
        let body = self.head_body_len(version, self.properties.content_len()).saturating_add(payload_len);
        1 + write::variable_byte_integer_len(body) + body
    }

    pub(in crate::wire::mqtt) fn body_len(&self, version: Version) -> usize {
        self.head_body_len(version, self.properties.content_len()) + self.payload.len()
    }

    fn head_body_len(&self, version: Version, content: usize) -> usize {
        let properties = if version == Version::V5 { write::variable_byte_integer_len(content) + content } else { 0 };
        let packet_id = if self.qos == Qos::AtMostOnce { 0 } else { 2 };
        2 + self.topic.len() + packet_id + properties
    }

    /// Appends everything but the payload, of which only the length counts: for payloads that many receivers share.
    /// `self.payload` is ignored. On an error the buffer is left as it was.
    pub fn encode_head(&self, version: Version, payload_len: usize, out: &mut BytesMut) -> Result<PublishHead, Error> {
        self.encode_head_within(version, payload_len, u32::MAX, out)
    }

    /// [`Self::encode_head`] for a receiver of packets of at most `max_packet_size` bytes [MQTT-3.1.2-24]; [`Error::TooLarge`] if
    /// this would be none of them.
    pub fn encode_head_within(
        &self,
        version: Version,
        payload_len: usize,
        max_packet_size: u32,
        out: &mut BytesMut,
    ) -> Result<PublishHead, Error> {
        let content = if version == Version::V5 { self.properties.content_len() } else { 0 };
        let head = self.head_body_len(version, content);
        let body = head.saturating_add(payload_len);
        let whole = (1 + write::variable_byte_integer_len(body)).saturating_add(body);
        if u32::try_from(whole).map_or(true, |whole| whole > max_packet_size) {
            return Err(Error::TooLarge);
        }
        let start = out.len();
        out.reserve(5 + head);
        let written = self.write_head(version, body, content, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn write_head(&self, version: Version, body: usize, content: usize, out: &mut BytesMut) -> Result<PublishHead, Error> {
        let at_most_once = self.qos == Qos::AtMostOnce;
        if at_most_once == self.packet_id.is_some() {
            return Err(Error::PacketIdMismatch); // [MQTT-2.2.1-2]
        }
        let start = out.len();
        let dup = if self.dup && !at_most_once { 0x08 } else { 0 }; // [MQTT-4.3.1-1]
        out.put_u8(0x30 | dup | self.qos.bits() << 1 | u8::from(self.retain));
        write::variable_byte_integer(body, out)?;
        write::string(self.topic, out)?;
        let packet_id_at = self.packet_id.map(|packet_id| {
            let at = out.len();
            out.put_u16(packet_id.get());
            at
        });
        if version == Version::V5 {
            self.properties.write(content, out)?;
        }
        Ok(PublishHead { start, packet_id_at, length: out.len() - start })
    }

    /// Appends the whole packet. On an error the buffer is left as it was.
    pub fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), Error> {
        out.reserve(self.payload.len() + self.topic.len() + 16);
        self.encode_head(version, self.payload.len(), out)?;
        out.put_slice(self.payload);
        Ok(())
    }
}
