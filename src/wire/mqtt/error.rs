//! The faults that an MQTT packet can have, and the reason code that answers each.

use std::fmt;

use super::{PacketType, ReasonCode};

/// A fault found while splitting, decoding or encoding a packet. Every fault ends the connection [MQTT-4.13.1-1].
///
/// The clauses are those of MQTT 5.0 unless they say 3.1.1. Where the text of the standard and the public conformance
/// catalogues give different reason codes for the same fault, [`Error::reason`] follows the catalogues and the variant says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A field reaches beyond the end of its packet or property block (4.13.1).
    Truncated,
    /// Bytes are left over behind the last field (4.13.1).
    TrailingBytes,
    /// The remaining length takes more than four bytes, or in 5.0 more than it needs (2.1.4, [MQTT-1.5.5-1]).
    RemainingLength,
    /// A variable byte integer takes more than four bytes, or more than it needs [MQTT-1.5.5-1].
    VariableByteInteger,
    /// The packet is larger than the receiver allows (3.1.2.11.4, 3.2.2.3.6), or than the format can express.
    TooLarge,
    /// Reserved flag bits of the fixed header are set [MQTT-2.1.3-1].
    FixedHeaderFlags(PacketType),
    /// Packet type 0, or 15 before 5.0 (2.1.2).
    ReservedPacketType,
    /// A packet that only the other side may send (2.1.2).
    WrongDirection(PacketType),
    /// PINGREQ or PINGRESP with a body (3.12.2, 3.13.2).
    PingNotEmpty,
    /// The first packet of a client is not CONNECT [MQTT-3.1.0-1].
    ConnectExpected,
    /// A second CONNECT on one connection [MQTT-3.1.0-2].
    SecondConnect,
    /// CONNECT names another protocol than `MQTT` or `MQIsdp` [MQTT-3.1.2-1].
    ProtocolName,
    /// CONNECT asks for this protocol level, which is none of ours [MQTT-3.1.2-2]. Bit 7, how mosquitto marks a bridge, is taken off.
    UnsupportedVersion(u8),
    /// The reserved bit of the connect flags is set [MQTT-3.1.2-3].
    ConnectFlags,
    /// Will QoS or will retain without a will ([MQTT-3.1.2-11], [MQTT-3.1.2-13]), or will QoS 3 [MQTT-3.1.2-12].
    WillFlags,
    /// A password without a user name, before 5.0 (3.1.1: [MQTT-3.1.2-22]).
    PasswordWithoutUsername,
    /// A string is not UTF-8, or encodes a surrogate [MQTT-1.5.4-1].
    Utf8,
    /// A string contains U+0000 [MQTT-1.5.4-2].
    NullCharacter,
    /// A string contains a control character or a non-character (1.5.4: MAY be treated as malformed).
    DiscouragedCharacter,
    /// A packet identifier is 0 [MQTT-2.2.1-3]. The catalogues want malformed for SUBSCRIBE and UNSUBSCRIBE, protocol error otherwise.
    PacketIdZero(PacketType),
    /// A PUBLISH has QoS 3 [MQTT-3.3.1-4].
    Qos3,
    /// A PUBLISH of QoS 0 has the DUP flag [MQTT-3.3.1-2].
    DupWithoutQos,
    /// A topic name is empty and no alias stands for it (3.3.2.1, [MQTT-4.7.3-1]). The standard says protocol error, the catalogues malformed.
    TopicEmpty,
    /// A topic name contains a wildcard [MQTT-3.3.2-2].
    TopicWildcard,
    /// A topic alias is 0 [MQTT-3.3.2-8].
    TopicAliasZero,
    /// A response topic is empty or contains a wildcard [MQTT-3.3.2-14].
    ResponseTopic,
    /// A topic filter is empty [MQTT-4.7.3-1].
    FilterEmpty,
    /// `#` not alone in the last level [MQTT-4.7.1-1], or `+` not alone in its level [MQTT-4.7.1-2].
    FilterSyntax,
    /// SUBSCRIBE [MQTT-3.8.3-2] or UNSUBSCRIBE [MQTT-3.10.3-2] without a filter. The standard says protocol error, the catalogues malformed.
    NoFilter,
    /// `$share/` without a share name or a filter behind it, or with a wildcard in the name ([MQTT-4.8.2-1], [MQTT-4.8.2-2]).
    SharedFilter,
    /// No Local on a shared subscription [MQTT-3.8.3-4].
    SharedNoLocal,
    /// Subscription options with reserved bits [MQTT-3.8.3-5], QoS 3, or retain handling 3. For the last two the standard says protocol error, the catalogues malformed.
    SubscriptionOptions,
    /// SUBACK or UNSUBACK of 5.0 without a reason code (3.9.3, 3.11.3).
    NoReasonCode,
    /// Reserved bits of the acknowledge flags are set [MQTT-3.2.2-1], or a session is present although the connection is refused [MQTT-3.2.2-6].
    ConnackFlags,
    /// The property block or a property in it reaches beyond its end (2.2.2).
    PropertyTruncated,
    /// A property identifier that does not exist (2.2.2.2).
    PropertyUnknown,
    /// A property that exists but not in this packet (2.2.2.2). The standard says malformed; the catalogues say so of SUBSCRIBE and UNSUBSCRIBE alone.
    PropertyNotAllowed(PacketType),
    /// A property that may appear once appears twice (2.2.2.2).
    PropertyDuplicate,
    /// A property has a value outside its range, e.g. Receive Maximum 0 (3.1.2.11.3).
    PropertyValue,
    /// The subscription identifier of a SUBSCRIBE is 0 (3.8.2.1.2); in PUBLISH it is [`Error::PropertyValue`].
    SubscriptionIdZero,
    /// A reason code that does not exist, or not in this packet, or not from this sender (2.4).
    ReasonCode(PacketType),
    /// AUTH without Authentication Method (3.15.2.2.2).
    AuthenticationMethodMissing,
    /// Authentication Data without Authentication Method (3.1.2.11.10).
    AuthenticationDataWithoutMethod,
    /// The payload is not the UTF-8 that its payload format indicator promises (3.3.2.3.2).
    PayloadFormat,
    /// Encoding: a string or binary field is longer than 65,535 bytes (1.5.4, 1.5.6).
    FieldTooLong,
    /// Encoding: a PUBLISH of QoS 0 with a packet identifier, or one above without ([MQTT-2.2.1-2], [MQTT-2.2.1-4]).
    PacketIdMismatch,
    /// Encoding: the packet does not exist in this version of the protocol.
    NotInVersion(PacketType),
}

impl Error {
    /// The MQTT 5 reason code to put into CONNACK or DISCONNECT for this fault (4.13).
    #[must_use]
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::TooLarge => ReasonCode::PacketTooLarge,
            Self::ProtocolName | Self::UnsupportedVersion(_) | Self::NotInVersion(_) => ReasonCode::UnsupportedProtocolVersion,
            Self::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            Self::PayloadFormat => ReasonCode::PayloadFormatInvalid,
            Self::PropertyNotAllowed(packet) | Self::PacketIdZero(packet)
                if matches!(packet, PacketType::Subscribe | PacketType::Unsubscribe) =>
            {
                ReasonCode::MalformedPacket
            }
            error if error.is_protocol_error() => ReasonCode::ProtocolError,
            _ => ReasonCode::MalformedPacket,
        }
    }

    fn is_protocol_error(self) -> bool {
        matches!(
            self,
            Self::ReservedPacketType
                | Self::WrongDirection(_)
                | Self::ConnectExpected
                | Self::SecondConnect
                | Self::PacketIdZero(_)
                | Self::ResponseTopic
                | Self::SharedFilter
                | Self::SharedNoLocal
                | Self::SubscriptionIdZero
                | Self::PropertyNotAllowed(_)
                | Self::PropertyDuplicate
                | Self::PropertyValue
                | Self::ReasonCode(_)
                | Self::AuthenticationMethodMissing
                | Self::AuthenticationDataWithoutMethod
        )
    }

    fn text(self) -> &'static str {
        match self {
            Self::Truncated => "a field reaches beyond the end of the packet",
            Self::TrailingBytes => "bytes are left over behind the last field",
            Self::RemainingLength => "the remaining length is malformed",
            Self::VariableByteInteger => "a variable byte integer is malformed",
            Self::TooLarge => "the packet is too large",
            Self::FixedHeaderFlags(_) => "reserved flags of the fixed header are set",
            Self::ReservedPacketType => "the packet type is reserved",
            Self::WrongDirection(_) => "only the other side may send this packet",
            Self::PingNotEmpty => "a ping with a body",
            Self::ConnectExpected => "the first packet is not CONNECT",
            Self::SecondConnect => "a second CONNECT",
            Self::ProtocolName => "the protocol name is unknown",
            Self::UnsupportedVersion(_) => "the protocol version is not supported",
            Self::ConnectFlags => "the reserved connect flag is set",
            Self::WillFlags => "the will flags contradict each other",
            Self::PasswordWithoutUsername => "a password without a user name",
            Self::Utf8 => "a string is not UTF-8",
            Self::NullCharacter => "a string contains U+0000",
            Self::DiscouragedCharacter => "a string contains a control or non-character",
            Self::PacketIdZero(_) => "the packet identifier is 0",
            Self::Qos3 => "QoS 3",
            Self::DupWithoutQos => "DUP with QoS 0",
            Self::TopicEmpty => "the topic name is empty",
            Self::TopicWildcard => "the topic name contains a wildcard",
            Self::TopicAliasZero => "the topic alias is 0",
            Self::ResponseTopic => "the response topic is not a topic name",
            Self::FilterEmpty => "a topic filter is empty",
            Self::FilterSyntax => "a wildcard does not stand alone in its level",
            Self::NoFilter => "no topic filter",
            Self::SharedFilter => "a shared subscription without a proper name or filter",
            Self::SharedNoLocal => "no local on a shared subscription",
            Self::SubscriptionOptions => "the subscription options are invalid",
            Self::NoReasonCode => "no reason code",
            Self::ConnackFlags => "the acknowledge flags are invalid",
            Self::PropertyTruncated => "a property reaches beyond the end of its block",
            Self::PropertyUnknown => "an unknown property",
            Self::PropertyNotAllowed(_) => "a property of another packet",
            Self::PropertyDuplicate => "a property appears twice",
            Self::PropertyValue => "a property is out of range",
            Self::SubscriptionIdZero => "the subscription identifier is 0",
            Self::ReasonCode(_) => "the reason code is not one of this packet and sender",
            Self::AuthenticationMethodMissing => "AUTH without an authentication method",
            Self::AuthenticationDataWithoutMethod => "authentication data without a method",
            Self::PayloadFormat => "the payload is not UTF-8",
            Self::FieldTooLong => "a field is longer than 65535 bytes",
            Self::PacketIdMismatch => "the packet identifier does not fit the QoS",
            Self::NotInVersion(_) => "the packet does not exist in this version",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl std::error::Error for Error {}
