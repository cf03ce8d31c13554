//! The MQTT codec: 3.1, 3.1.1 and 5.0 in both directions, strict, without copies and without state.
//!
//! [`frame`] finds the packet at the head of a buffer, [`decode`] turns it into a [`Packet`] that borrows from it, and
//! [`Packet::encode`] appends one to a buffer. PUBLISH and the acknowledgements have ways of their own that allocate nothing
//! and look at nothing they need not: [`Publish::encode_head`] and [`encode_ack`].
//!
//! Decoding checks everything that a packet alone can show. The rules that need memory of the connection are left to its owner:
//! known topic aliases, free packet identifiers, receive maximum, empty client identifiers. The one exception is that CONNECT
//! comes first and once ([`Peer::Newcomer`]). Encoding trusts its caller and checks only what would break the packet apart.

mod error;
mod frame;
mod packets;
mod properties;
mod read;
mod reason;
mod topic;
mod utf8;
mod write;

#[cfg(test)]
mod tests;

use bytes::{BufMut, BytesMut};

pub use crate::model::Qos;
pub use error::Error;
pub use frame::{Frame, declared_bytes, frame};
pub use packets::{
    Ack, AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect,
    DisconnectProperties, Filters, Publish, PublishHead, PublishProperties, Requests, RetainHandling, SubAck, Subscribe,
    SubscribeProperties, SubscriptionOptions, SubscriptionRequest, UnsubAck, Unsubscribe, UnsubscribeProperties, Will,
    WillProperties, encode_ack,
};
pub use properties::{SubscriptionId, SubscriptionIds, UserPairs, UserProperties};
pub use reason::ReasonCode;
pub use topic::{SharedFilter, check_topic_filter, check_topic_name};
pub use utf8::has_discouraged_character;
pub use write::{MAX_PACKET_BYTES, MAX_REMAINING_LENGTH};

use read::Reader;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 3.1, which calls itself MQIsdp.
    V31,
    /// 3.1.1.
    V311,
    /// 5.0.
    V5,
}

impl Version {
    /// The protocol name in CONNECT (3.1.2.1).
    #[must_use]
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Self::V31 => "MQIsdp",
            Self::V311 | Self::V5 => "MQTT",
        }
    }

    /// The protocol level in CONNECT (3.1.2.2).
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// The sender of a packet, which decides the packet types that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A client before its CONNECT, which is all that it may send [MQTT-3.1.0-1].
    Newcomer,
    /// A client after its CONNECT, which it may not send again [MQTT-3.1.0-2].
    Client,
    /// A server.
    Server,
}

/// The characters that a string may hold, within those that the standard allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Characters {
    /// Any character but U+0000.
    #[default]
    Any,
    /// No control characters and no non-characters either: the receiver MAY call them malformed (1.5.4).
    Strict,
}

/// The type of a packet (2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The packet type in the upper half of a first byte; 0 is none.
    #[must_use]
    pub const fn from_first_byte(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The first byte of a packet of this type, PUBLISH without its flags (2.1.3).
    const fn first_byte(self) -> u8 {
        let flags = match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0x02,
            _ => 0x00,
        };
        (self as u8) << 4 | flags
    }
}

/// A control packet, borrowing from the bytes it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Connection request (3.1).
    Connect(Connect<'a>),
    /// Connect acknowledgement (3.2).
    ConnAck(ConnAck<'a>),
    /// Publish message (3.3).
    Publish(Publish<'a>),
    /// Publish acknowledgement, QoS 1 (3.4).
    PubAck(Ack<'a>),
    /// Publish received, QoS 2 (3.5).
    PubRec(Ack<'a>),
    /// Publish release, QoS 2 (3.6).
    PubRel(Ack<'a>),
    /// Publish complete, QoS 2 (3.7).
    PubComp(Ack<'a>),
    /// Subscribe request (3.8).
    Subscribe(Subscribe<'a>),
    /// Subscribe acknowledgement (3.9).
    SubAck(SubAck<'a>),
    /// Unsubscribe request (3.10).
    Unsubscribe(Unsubscribe<'a>),
    /// Unsubscribe acknowledgement (3.11).
    UnsubAck(UnsubAck<'a>),
    /// PING request (3.12).
    PingReq,
    /// PING response (3.13).
    PingResp,
    /// Disconnect notification (3.14).
    Disconnect(Disconnect<'a>),
    /// Authentication exchange (3.15).
    Auth(Auth<'a>),
}

/// Decodes one whole packet, as [`frame`] measured it.
///
/// `version` is that of the connection; CONNECT does not heed it and names its own.
pub fn decode(frame: &[u8], version: Version, from: Peer) -> Result<Packet<'_>, Error> {
    decode_with(frame, version, from, Characters::Any)
}

/// [`decode`] with a rule for what strings may hold.
pub fn decode_with(frame: &[u8], version: Version, from: Peer, characters: Characters) -> Result<Packet<'_>, Error> {
    // Before CONNECT has named the version nothing of 5.0 binds.
    let version = if from == Peer::Newcomer { Version::V31 } else { version };
    let (first, body) = frame::split(frame, version)?;
    let packet = frame::check_first_byte(first, version, from)?;
    let body = Reader::new(body, characters);
    Ok(match packet {
        PacketType::Connect => Packet::Connect(decode_connect(frame, first, body)?),
        PacketType::ConnAck => Packet::ConnAck(ConnAck::decode(body, version)?),
        PacketType::Publish => Packet::Publish(Publish::decode(first, body, version, from, None)?),
        PacketType::PubAck => Packet::PubAck(Ack::decode(packet, body, version, from)?),
        PacketType::PubRec => Packet::PubRec(Ack::decode(packet, body, version, from)?),
        PacketType::PubRel => Packet::PubRel(Ack::decode(packet, body, version, from)?),
        PacketType::PubComp => Packet::PubComp(Ack::decode(packet, body, version, from)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(body, version)?),
        PacketType::SubAck => Packet::SubAck(SubAck::decode(body, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        PacketType::UnsubAck => Packet::UnsubAck(UnsubAck::decode(body, version)?),
        PacketType::PingReq if body.is_empty() => Packet::PingReq,
        PacketType::PingResp if body.is_empty() => Packet::PingResp,
        PacketType::PingReq | PacketType::PingResp => return Err(Error::PingNotEmpty),
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(body, version, from)?),
        PacketType::Auth => Packet::Auth(Auth::decode(body, from)?),
    })
}

/// The topic name of a PUBLISH as it stands in the packet; neither is looked at more than that takes.
#[must_use]
pub fn publish_name(frame: &[u8]) -> Option<&[u8]> {
    let (_, body) = frame::split(frame, Version::V31).ok()?;
    Reader::new(body, Characters::Any).binary().ok()
}

/// [`decode_with`] for what is a PUBLISH by its first byte, without the detour over a [`Packet`]. `known` is a topic name that was
/// decoded before under the same rule for strings: it is not checked again where it is the one that [`publish_name`] gives.
#[inline]
pub fn decode_publish<'a>(
    frame: &'a [u8],
    version: Version,
    from: Peer,
    characters: Characters,
    known: Option<&'a str>,
) -> Result<Publish<'a>, Error> {
    let (first, body) = frame::split(frame, version)?;
    frame::check_first_byte(first, version, from)?;
    Publish::decode(first, Reader::new(body, characters), version, from, known)
}

/// The version that a CONNECT names, however wrong the rest of it is: in it the refusal is written.
#[must_use]
pub fn connect_version(frame: &[u8]) -> Option<Version> {
    let (first, body) = frame::split(frame, Version::V31).ok()?;
    if PacketType::from_first_byte(first) != Some(PacketType::Connect) {
        return None;
    }
    packets::decode_version(&mut Reader::new(body, Characters::Any)).ok().map(|(version, _)| version)
}

fn decode_connect<'a>(frame: &'a [u8], first: u8, body: Reader<'a>) -> Result<Connect<'a>, Error> {
    let connect = Connect::decode(first, body)?;
    if connect.version == Version::V5 {
        frame::split(frame, Version::V5)?; // [MQTT-1.5.5-1], which could not be judged before
    }
    Ok(connect)
}

impl Packet<'_> {
    /// Its type.
    #[must_use]
    pub fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Length of the packet in bytes with its header: what Maximum Packet Size bounds (3.1.2.11.4). CONNECT goes by its own version.
    #[must_use]
    pub fn encoded_len(&self, version: Version) -> usize {
        let body = self.body_len(version);
        1 + write::variable_byte_integer_len(body) + body
    }

    fn body_len(&self, version: Version) -> usize {
        match self {
            Self::Connect(packet) => packet.body_len(),
            Self::ConnAck(packet) => packet.body_len(version),
            Self::Publish(packet) => packet.body_len(version),
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => ack.body_len(version),
            Self::Subscribe(packet) => packet.body_len(version),
            Self::SubAck(packet) => packet.body_len(version),
            Self::Unsubscribe(packet) => packet.body_len(version),
            Self::UnsubAck(packet) => packet.body_len(version),
            Self::PingReq | Self::PingResp => 0,
            Self::Disconnect(packet) => packet.body_len(version),
            Self::Auth(packet) => packet.body_len(),
        }
    }

    /// Appends the packet. On an error the buffer is left as it was. Before 5.0 reason codes and properties are left out.
    pub fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), Error> {
        if let Self::Publish(publish) = self {
            return publish.encode(version, out);
        }
        let start = out.len();
        let body_len = self.body_len(version);
        out.reserve(5_usize.saturating_add(body_len).min(write::MAX_REMAINING_LENGTH));
        out.put_u8(self.packet_type().first_byte());
        let written = write::variable_byte_integer(body_len, out).and_then(|()| self.write_body(version, out));
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn write_body(&self, version: Version, out: &mut BytesMut) -> Result<(), Error> {
        match self {
            Self::Connect(packet) => packet.write(out),
            Self::ConnAck(packet) => packet.write(version, out),
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => ack.write(version, out),
            Self::Subscribe(packet) => packet.write(version, out),
            Self::SubAck(packet) => packet.write(version, out),
            Self::Unsubscribe(packet) => packet.write(version, out),
            Self::UnsubAck(packet) => packet.write(version, out),
            Self::Publish(_) | Self::PingReq | Self::PingResp => Ok(()),
            Self::Disconnect(packet) => packet.write(version, out),
            Self::Auth(packet) => packet.write(version, out),
        }
    }

    /// Appends the packet if it has no more than `max_packet_size` bytes, without the reason string and the user properties if it
    /// fits only so. They MUST NOT be sent where they do not fit ([MQTT-3.2.2-19], [MQTT-3.4.2-2], [MQTT-3.5.2-2],
    /// [MQTT-3.9.2-1], [MQTT-3.14.2-3]), and no packet may exceed the receiver's maximum [MQTT-3.1.2-24]. Otherwise the answer is
    /// [`Error::TooLarge`], and the buffer is left as it was.
    pub fn encode_within(&self, version: Version, max_packet_size: u32, out: &mut BytesMut) -> Result<(), Error> {
        let fits = |packet: &Packet<'_>| u32::try_from(packet.encoded_len(version)).is_ok_and(|len| len <= max_packet_size);
        if fits(self) {
            return self.encode(version, out);
        }
        let bare = self.without_diagnostics();
        if fits(&bare) { bare.encode(version, out) } else { Err(Error::TooLarge) }
    }

    /// The packet without the parts that only help to find faults: reason string, and user properties of answers.
    #[must_use]
    pub fn without_diagnostics(&self) -> Self {
        let none = AckProperties::default();
        let user = UserProperties::default();
        let mut packet = *self;
        match &mut packet {
            Self::ConnAck(packet) => {
                packet.properties = ConnAckProperties { reason_string: None, user, ..packet.properties };
            }
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => ack.properties = none,
            Self::SubAck(packet) => packet.properties = none,
            Self::UnsubAck(packet) => packet.properties = none,
            Self::Disconnect(packet) => {
                packet.properties = DisconnectProperties { reason_string: None, user, ..packet.properties };
            }
            Self::Auth(packet) => {
                packet.properties = AuthProperties { reason_string: None, user, ..packet.properties };
            }
            _ => {}
        }
        packet
    }
}
