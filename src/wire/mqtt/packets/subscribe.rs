//! SUBSCRIBE and UNSUBSCRIBE (3.8, 3.10) and the lists of filters in them.

use std::num::NonZeroU16;

use bytes::{BufMut, BytesMut};

use crate::model::names;
use crate::wire::mqtt::properties::{self, SubscriptionId, UserProperties, property_set};
use crate::wire::mqtt::read::Reader;
use crate::wire::mqtt::{Characters, Error, PacketType, Qos, SharedFilter, Version, topic, write};

property_set! {
    /// The properties of SUBSCRIBE (3.8.2.1).
    SubscribeProperties of Subscribe {
        /// Identifier that every PUBLISH for these filters carries.
        subscription_id: SubscriptionId = 0x0B,
    }
}

property_set! {
    /// The properties of UNSUBSCRIBE (3.10.2.1).
    UnsubscribeProperties of Unsubscribe {
    }
}

/// When retained messages are sent for a subscription (3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    AtSubscribe,
    /// Only where the subscription does not exist yet.
    IfNew,
    /// Never.
    Never,
}

/// The options of one filter (3.8.3.1); before 5.0 the QoS alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Highest QoS of deliveries.
    pub qos: Qos,
    /// Whether the client's own publications stay away.
    pub no_local: bool,
    /// Whether deliveries keep the RETAIN flag of the publication.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    fn decode(byte: u8, version: Version) -> Result<Self, Error> {
        let reserved = match version {
            Version::V31 => 0x00, // the upper six bits are not used
            Version::V311 => 0xFC,
            Version::V5 => 0xC0,
        };
        if byte & reserved != 0 {
            return Err(Error::SubscriptionOptions); // [MQTT-3.8.3-5]; 3.1.1: [MQTT-3-8.3-4]
        }
        let qos = Qos::from_bits(byte & 0x03).ok_or(Error::SubscriptionOptions)?;
        if version != Version::V5 {
            return Ok(Self { qos, ..Self::default() });
        }
        let retain_handling = match byte >> 4 & 0x03 {
            0 => RetainHandling::AtSubscribe,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(Error::SubscriptionOptions),
        };
        Ok(Self { qos, no_local: byte & 0x04 != 0, retain_as_published: byte & 0x08 != 0, retain_handling })
    }

    fn byte(self, version: Version) -> u8 {
        if version != Version::V5 {
            return self.qos.bits();
        }
        let retain_handling = match self.retain_handling {
            RetainHandling::AtSubscribe => 0x00,
            RetainHandling::IfNew => 0x10,
            RetainHandling::Never => 0x20,
        };
        self.qos.bits() | u8::from(self.no_local) << 2 | u8::from(self.retain_as_published) << 3 | retain_handling
    }
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionRequest<'a> {
    /// Topic filter, of checked syntax.
    pub filter: &'a str,
    /// Its options.
    pub options: SubscriptionOptions,
}

fn decode_filter<'a>(body: &mut Reader<'a>, version: Version) -> Result<&'a str, Error> {
    let filter = body.string()?; // [MQTT-3.8.3-1], [MQTT-3.10.3-1]
    topic::check_topic_filter(filter)?;
    if version == Version::V5 {
        SharedFilter::split(filter)?;
    }
    Ok(filter)
}

fn decode_request<'a>(body: &mut Reader<'a>, version: Version) -> Result<SubscriptionRequest<'a>, Error> {
    let filter = decode_filter(body, version)?;
    let options = SubscriptionOptions::decode(body.u8()?, version)?;
    if options.no_local && filter.starts_with(names::SHARE) {
        return Err(Error::SharedNoLocal); // [MQTT-3.8.3-4]
    }
    Ok(SubscriptionRequest { filter, options })
}

/// The filters of a SUBSCRIBE with their options, in order.
#[derive(Clone, Copy)]
pub struct Requests<'a>(RequestSource<'a>);

#[derive(Clone, Copy)]
enum RequestSource<'a> {
    /// The checked payload of a packet of this version.
    Payload(&'a [u8], Version),
    List(&'a [SubscriptionRequest<'a>]),
}

impl<'a> Requests<'a> {
    /// Filters to send; there must be one at least [MQTT-3.8.3-2].
    #[must_use]
    pub fn from_slice(requests: &'a [SubscriptionRequest<'a>]) -> Self {
        Self(RequestSource::List(requests))
    }

    /// The filters with their options.
    pub fn iter(&self) -> impl Iterator<Item = SubscriptionRequest<'a>> + use<'a> {
        let (payload, version, list): (&'a [u8], _, &'a [_]) = match self.0 {
            RequestSource::Payload(payload, version) => (payload, version, &[]),
            RequestSource::List(list) => (&[], Version::V5, list),
        };
        let mut rest = Reader::new(payload, Characters::Any);
        std::iter::from_fn(move || decode_request(&mut rest, version).ok()).chain(list.iter().copied())
    }
}

impl PartialEq for Requests<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Requests<'_> {}

impl std::fmt::Debug for Requests<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// The filters of an UNSUBSCRIBE, in order.
#[derive(Clone, Copy)]
pub struct Filters<'a>(FilterSource<'a>);

#[derive(Clone, Copy)]
enum FilterSource<'a> {
    /// The checked payload of a packet.
    Payload(&'a [u8]),
    List(&'a [&'a str]),
}

impl<'a> Filters<'a> {
    /// Filters to send; there must be one at least [MQTT-3.10.3-2].
    #[must_use]
    pub fn from_slice(filters: &'a [&'a str]) -> Self {
        Self(FilterSource::List(filters))
    }

    /// The filters.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (payload, list): (&'a [u8], &'a [&'a str]) = match self.0 {
            FilterSource::Payload(payload) => (payload, &[]),
            FilterSource::List(list) => (&[], list),
        };
        let mut rest = Reader::new(payload, Characters::Any);
        std::iter::from_fn(move || rest.string().ok()).chain(list.iter().copied())
    }
}

impl PartialEq for Filters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Filters<'_> {}

impl std::fmt::Debug for Filters<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// SUBSCRIBE: a client asks for topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Packet identifier.
    pub packet_id: NonZeroU16,
    /// Properties; not sent before 5.0.
    pub properties: SubscribeProperties<'a>,
    /// Filters with their options; at least one.
    pub requests: Requests<'a>,
}

impl<'a> Subscribe<'a> {
    pub(in crate::wire::mqtt) fn decode(mut body: Reader<'a>, version: Version) -> Result<Self, Error> {
        let packet_id = body.packet_id(PacketType::Subscribe)?;
        let properties = if version == Version::V5 {
            SubscribeProperties::decode(&mut body).map_err(|error| match error {
                Error::PropertyValue => Error::SubscriptionIdZero, // the only property with a range
                error => error,
            })?
        } else {
            SubscribeProperties::default()
        };
        if body.is_empty() {
            return Err(Error::NoFilter); // [MQTT-3.8.3-2]
        }
        let requests = Requests(RequestSource::Payload(body.rest(), version));
        while !body.is_empty() {
            decode_request(&mut body, version)?;
        }
        Ok(Self { packet_id, properties, requests })
    }

    pub(in crate::wire::mqtt) fn body_len(&self, version: Version) -> usize {
        let content = self.properties.content_len();
        let properties = if version == Version::V5 { write::variable_byte_integer_len(content) + content } else { 0 };
        let requests: usize = self.requests.iter().map(|request| 3 + request.filter.len()).sum();
        2 + properties + requests
    }

    pub(in crate::wire::mqtt) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), Error> {
        out.put_u16(self.packet_id.get());
        if version == Version::V5 {
            self.properties.write(out)?;
        }
        if self.requests.iter().next().is_none() {
            return Err(Error::NoFilter);
        }
        for request in self.requests.iter() {
            write::string(request.filter, out)?;
            out.put_u8(request.options.byte(version));
        }
        Ok(())
    }
}

/// UNSUBSCRIBE: a client gives topics up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Packet identifier.
    pub packet_id: NonZeroU16,
    /// Properties; not sent before 5.0.
    pub properties: UnsubscribeProperties<'a>,
    /// Filters; at least one.
    pub filters: Filters<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(in crate::wire::mqtt) fn decode(mut body: Reader<'a>, version: Version) -> Result<Self, Error> {
        let packet_id = body.packet_id(PacketType::Unsubscribe)?;
        let properties =
            if version == Version::V5 { UnsubscribeProperties::decode(&mut body)? } else { UnsubscribeProperties::default() };
        if body.is_empty() {
            return Err(Error::NoFilter); // [MQTT-3.10.3-2]
        }
        let filters = Filters(FilterSource::Payload(body.rest()));
        while !body.is_empty() {
            decode_filter(&mut body, version)?;
        }
        Ok(Self { packet_id, properties, filters })
    }

    pub(in crate::wire::mqtt) fn body_len(&self, version: Version) -> usize {
        let content = self.properties.content_len();
        let properties = if version == Version::V5 { write::variable_byte_integer_len(content) + content } else { 0 };
        let filters: usize = self.filters.iter().map(|filter| 2 + filter.len()).sum();
        2 + properties + filters
    }

    pub(in crate::wire::mqtt) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), Error> {
        out.put_u16(self.packet_id.get());
        if version == Version::V5 {
            self.properties.write(out)?;
        }
        if self.filters.iter().next().is_none() {
            return Err(Error::NoFilter);
        }
        self.filters.iter().try_for_each(|filter| write::string(filter, out))
    }
}
