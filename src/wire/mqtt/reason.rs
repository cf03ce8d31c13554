//! The reason codes of MQTT 5.0 (2.4), their names, and what each packet may carry.

use super::{PacketType, Peer, Version};

macro_rules! reason_codes {
    ($($(#[$meta:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// A reason code of MQTT 5.0 (2.4); values from 0x80 are failures.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(u8)]
        pub enum ReasonCode { $($(#[$meta])* #[doc = concat!($text, ".")] $name = $code,)* }

        impl ReasonCode {
            /// Every reason code, ascending.
            pub const ALL: &'static [ReasonCode] = &[$(Self::$name),*];

            /// The reason code with this value, if there is one.
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($code => Some(Self::$name),)* _ => None }
            }

            /// The name that the standard gives it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reason_codes! {
    #[default]
    Success = 0x00, "Success";
    GrantedQos1 = 0x01, "Granted QoS 1";
    GrantedQos2 = 0x02, "Granted QoS 2";
    DisconnectWithWill = 0x04, "Disconnect with Will Message";
    NoMatchingSubscribers = 0x10, "No matching subscribers";
    NoSubscriptionExisted = 0x11, "No subscription existed";
    ContinueAuthentication = 0x18, "Continue authentication";
    ReAuthenticate = 0x19, "Re-authenticate";
    UnspecifiedError = 0x80, "Unspecified error";
    MalformedPacket = 0x81, "Malformed Packet";
    ProtocolError = 0x82, "Protocol Error";
    ImplementationSpecificError = 0x83, "Implementation specific error";
    UnsupportedProtocolVersion = 0x84, "Unsupported Protocol Version";
    ClientIdentifierNotValid = 0x85, "Client Identifier not valid";
    BadUserNameOrPassword = 0x86, "Bad User Name or Password";
    NotAuthorized = 0x87, "Not authorized";
    ServerUnavailable = 0x88, "Server unavailable";
    ServerBusy = 0x89, "Server busy";
    Banned = 0x8A, "Banned";
    ServerShuttingDown = 0x8B, "Server shutting down";
    BadAuthenticationMethod = 0x8C, "Bad authentication method";
    KeepAliveTimeout = 0x8D, "Keep Alive timeout";
    SessionTakenOver = 0x8E, "Session taken over";
    TopicFilterInvalid = 0x8F, "Topic Filter invalid";
    TopicNameInvalid = 0x90, "Topic Name invalid";
    PacketIdentifierInUse = 0x91, "Packet Identifier in use";
    PacketIdentifierNotFound = 0x92, "Packet Identifier not found";
    ReceiveMaximumExceeded = 0x93, "Receive Maximum exceeded";
    TopicAliasInvalid = 0x94, "Topic Alias invalid";
    PacketTooLarge = 0x95, "Packet too large";
    MessageRateTooHigh = 0x96, "Message rate too high";
    QuotaExceeded = 0x97, "Quota exceeded";
    AdministrativeAction = 0x98, "Administrative action";
    PayloadFormatInvalid = 0x99, "Payload format invalid";
    RetainNotSupported = 0x9A, "Retain not supported";
    QosNotSupported = 0x9B, "QoS not supported";
    UseAnotherServer = 0x9C, "Use another server";
    ServerMoved = 0x9D, "Server moved";
    SharedSubscriptionsNotSupported = 0x9E, "Shared Subscriptions not supported";
    ConnectionRateExceeded = 0x9F, "Connection rate exceeded";
    MaximumConnectTime = 0xA0, "Maximum connect time";
    SubscriptionIdentifiersNotSupported = 0xA1, "Subscription Identifiers not supported";
    WildcardSubscriptionsNotSupported = 0xA2, "Wildcard Subscriptions not supported";
}

impl ReasonCode {
    /// 0x00 as DISCONNECT calls it.
    pub const NORMAL_DISCONNECTION: Self = Self::Success;
    /// 0x00 as SUBACK calls it.
    pub const GRANTED_QOS_0: Self = Self::Success;

    /// The value on the wire.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// Whether it reports a failure (2.4).
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.byte() >= 0x80
    }

    /// The CONNACK return code of 3.1 and 3.1.1 (3.2.2.3 there) that comes nearest.
    #[must_use]
    pub const fn connack_return_code(self) -> u8 {
        match self {
            code if !code.is_error() => 0,
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::BadUserNameOrPassword | Self::BadAuthenticationMethod => 4,
            Self::NotAuthorized | Self::Banned | Self::TopicNameInvalid => 5,
            _ => 3,
        }
    }

    /// The reason code that a CONNACK return code of 3.1 and 3.1.1 stands for, if it is one.
    #[must_use]
    pub const fn from_connack_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }

    /// Whether this packet may carry it, sent by `from`: the tables of [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1],
    /// [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2], [MQTT-3.11.3-2], [MQTT-3.14.2-1] and 3.15.2.1.
    #[must_use]
    pub fn is_legal_in(self, packet: PacketType, version: Version, from: Peer) -> bool {
        match packet {
            PacketType::ConnAck => {
                matches!(self.byte(), 0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F)
            }
            PacketType::PubAck | PacketType::PubRec => {
                matches!(self.byte(), 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
            }
            PacketType::PubRel | PacketType::PubComp => matches!(self.byte(), 0x00 | 0x92),
            PacketType::SubAck if version != Version::V5 => {
                matches!(self.byte(), 0x00..=0x02 | 0x80)
            }
            PacketType::SubAck => {
                matches!(self.byte(), 0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
            }
            PacketType::UnsubAck => {
                matches!(self.byte(), 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91)
            }
            PacketType::Disconnect if from == Peer::Server => {
                matches!(self.byte(), 0x00 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x90 | 0x93..=0xA2)
            }
            PacketType::Disconnect => {
                matches!(self.byte(), 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99)
            }
            PacketType::Auth if from == Peer::Server => matches!(self.byte(), 0x00 | 0x18),
            PacketType::Auth => matches!(self.byte(), 0x18 | 0x19),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_bytes_agree() {
        assert_eq!(ReasonCode::ALL.len(), 43);
        for byte in 0..=u8::MAX {
            match ReasonCode::from_byte(byte) {
                Some(code) => assert_eq!(code.byte(), byte),
                None => assert!(ReasonCode::ALL.iter().all(|code| code.byte() != byte)),
            }
        }
        assert_eq!(ReasonCode::PacketTooLarge.name(), "Packet too large");
    }

    #[test]
    fn disconnect_codes_belong_to_their_sender() {
        let legal = |code: ReasonCode, from| code.is_legal_in(PacketType::Disconnect, Version::V5, from);
        assert!(legal(ReasonCode::DisconnectWithWill, Peer::Client));
        assert!(!legal(ReasonCode::DisconnectWithWill, Peer::Server));
        assert!(legal(ReasonCode::ServerShuttingDown, Peer::Server));
        assert!(!legal(ReasonCode::ServerShuttingDown, Peer::Client));
    }

    #[test]
    fn return_codes_of_old_versions_survive_both_ways() {
        for code in 0..=5 {
            let reason = ReasonCode::from_connack_return_code(code).unwrap();
            assert_eq!(reason.connack_return_code(), code);
        }
        assert_eq!(ReasonCode::from_connack_return_code(6), None);
    }
}
