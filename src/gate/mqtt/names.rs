//! The names of MQTT: reasons as codes, user properties as owned pairs, and the topics that mean calls (MAPPING.md, Calls).
use crate::model::command::CalleeForm;
use crate::model::topic::MAX_SPELLING_BYTES;
use crate::model::{Filter, InvocationId, Reason, names};
use crate::wire::mqtt::{Error, PacketType, Peer, ReasonCode, UserProperties, Version};

/// The MQTT 5 reason code of a refusal in `packet`: the one that says most among those that the packet may carry
/// ([MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2], [MQTT-3.11.3-2],
/// [MQTT-3.14.2-1]).
pub fn code_of(reason: Reason, packet: PacketType) -> ReasonCode {
    let code = match (reason, packet) {
        (
            Reason::InvalidTopic | Reason::UnfitCharacter(_) | Reason::ReservedName(_),
            PacketType::SubAck | PacketType::UnsubAck,
        ) => ReasonCode::TopicFilterInvalid,
        (Reason::ShuttingDown, PacketType::ConnAck) => ReasonCode::ServerUnavailable,
        (reason, _) => general_code_of(reason),
    };
    if code.is_legal_in(packet, Version::V5, Peer::Server) {
        return code;
    }
    // The steps of QoS 2 can only say that they do not know the id (3.6.2.1, 3.7.2.1).
    match packet {
        PacketType::PubRel | PacketType::PubComp => ReasonCode::PacketIdentifierNotFound,
        _ => ReasonCode::ImplementationSpecificError,
    }
}

fn general_code_of(reason: Reason) -> ReasonCode {
    match reason {
        Reason::Refused => ReasonCode::UnspecifiedError,
        Reason::Malformed => ReasonCode::MalformedPacket,
        Reason::ProtocolViolation => ReasonCode::ProtocolError,
        Reason::InvalidTopic | Reason::UnfitCharacter(_) => ReasonCode::TopicNameInvalid,
        Reason::InvalidFilter => ReasonCode::TopicFilterInvalid,
        Reason::NotAuthorized | Reason::ReservedName(_) | Reason::NoSuchRealm | Reason::DiscloseMeNotAllowed => {
            ReasonCode::NotAuthorized
        }
        Reason::NotAuthenticated => ReasonCode::BadUserNameOrPassword,
        Reason::NoSuchSubscription | Reason::NoSuchRegistration => ReasonCode::NoSubscriptionExisted,
        Reason::QuotaExceeded | Reason::NoSpace => ReasonCode::QuotaExceeded,
        Reason::MessageTooLarge => ReasonCode::PacketTooLarge,
        Reason::ReceiveMaximumExceeded => ReasonCode::ReceiveMaximumExceeded,
        Reason::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
        Reason::PacketIdNotFound => ReasonCode::PacketIdentifierNotFound,
        Reason::PayloadFormatInvalid => ReasonCode::PayloadFormatInvalid,
        Reason::ClientIdNotValid => ReasonCode::ClientIdentifierNotValid,
        Reason::UnsupportedProtocolVersion => ReasonCode::UnsupportedProtocolVersion,
        Reason::BadAuthenticationMethod => ReasonCode::BadAuthenticationMethod,
        Reason::KeepAliveTimeout => ReasonCode::KeepAliveTimeout,
        Reason::SessionTakenOver => ReasonCode::SessionTakenOver,
        Reason::AdministrativeAction => ReasonCode::AdministrativeAction,
        Reason::ShuttingDown => ReasonCode::ServerShuttingDown,
        Reason::ServerBusy => ReasonCode::ServerBusy,
        _ => ReasonCode::ImplementationSpecificError,
    }
}

/// Why the realm should think that a connection ended which sent this.
pub fn reason_of(error: Error) -> Reason {
    match error.reason() {
        ReasonCode::MalformedPacket => Reason::Malformed,
        ReasonCode::PacketTooLarge => Reason::MessageTooLarge,
        _ => Reason::ProtocolViolation,
    }
}

/// User properties, owned and in their order [MQTT-3.3.2-18].
pub fn user_properties(user: &UserProperties<'_>) -> Vec<(Box<str>, Box<str>)> {
    user.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// The meaning of a PUBLISH to a topic of the router's.
#[derive(PartialEq, Eq, Debug)]
pub enum Address<'a> {
    /// A call of this procedure, answered on its response topic.
    Call(&'a str),
    /// A call of this procedure under the caller's own id.
    CallById(&'a str, &'a str),
    /// An answer to this invocation; `Some` where the topic says which kind.
    Yield(InvocationId, Option<YieldKind>),
    /// No address of ours.
    Other,
}

/// The kind of an answer, as the last level of its topic says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum YieldKind {
    /// `/progress`
    Progress,
    /// `/error`
    Error,
}

/// True for topic names that mean a call or an answer.
pub fn is_address(name: &str) -> bool {
    name.starts_with('$') && (name.starts_with(names::CALL) || name.starts_with(names::YIELD))
}

/// Longest id of a call, in bytes: `$reply/<id>/progress` must be a topic.
const MAX_CALL_ID: usize = MAX_SPELLING_BYTES - (names::REPLY.len() + "/progress".len());

/// Reads a topic name that starts with `$`.
pub fn address(name: &str) -> Address<'_> {
    if let Some(rest) = name.strip_prefix(names::CALL) {
        return match rest.rsplit_once("/$id/") {
            Some((procedure, id)) if !id.is_empty() && !id.contains('/') && id.len() <= MAX_CALL_ID => {
                Address::CallById(procedure, id)
            }
            // The topic of its answer would be too long to be sent.
            Some((_, id)) if id.len() > MAX_CALL_ID => Address::Other,
            _ => Address::Call(rest),
        };
    }
    let Some(rest) = name.strip_prefix(names::YIELD) else { return Address::Other };
    let (number, kind) = match rest.split_once('/') {
        None => (rest, None),
        Some((number, "progress")) => (number, Some(YieldKind::Progress)),
        Some((number, "error")) => (number, Some(YieldKind::Error)),
        Some(_) => return Address::Other,
    };
    number.parse().map_or(Address::Other, |number| Address::Yield(InvocationId(number), kind))
}

/// The procedures that a SUBSCRIBE to `$callee/…` serves, and how their invocations come; `None` for any other filter.
pub fn callee_filter(filter: &str, is_v5: bool) -> Option<Result<(Filter, CalleeForm), Reason>> {
    let procedure = filter.strip_prefix(names::CALLEE)?;
    let (procedure, form) = match procedure.strip_suffix("/$id/+") {
        Some(procedure) => (procedure, CalleeForm::PublicationById),
        None if is_v5 => (procedure, CalleeForm::Publication),
        // Without properties there is no other place for the invocation's number.
        None => (procedure, CalleeForm::PublicationById),
    };
    Some(Filter::from_mqtt(procedure).map(|filter| (filter, form)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_code_in_every_packet() {
        // [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2], [MQTT-3.11.3-2], [MQTT-3.14.2-1]
        let packets = [
            PacketType::ConnAck,
            PacketType::PubAck,
            PacketType::PubRec,
            PacketType::PubRel,
            PacketType::PubComp,
            PacketType::SubAck,
            PacketType::UnsubAck,
            PacketType::Disconnect,
        ];
        let reasons = [Reason::InvalidTopic, Reason::InvalidFilter, Reason::QuotaExceeded, Reason::MessageTooLarge];
        for reason in reasons.into_iter().chain([Reason::ShuttingDown, Reason::PacketIdNotFound, Reason::Internal]) {
            for packet in packets {
                let code = code_of(reason, packet);
                assert!(code.is_error() && code.is_legal_in(packet, Version::V5, Peer::Server), "{reason:?} {packet:?} {code:?}");
            }
        }
        assert_eq!(code_of(Reason::QuotaExceeded, PacketType::PubAck), ReasonCode::QuotaExceeded);
        assert_eq!(code_of(Reason::QuotaExceeded, PacketType::UnsubAck), ReasonCode::ImplementationSpecificError);
        assert_eq!(code_of(Reason::NoSuchSubscription, PacketType::UnsubAck), ReasonCode::NoSubscriptionExisted);
    }

    #[test]
    fn addresses_are_read_from_topic_names() {
        assert_eq!(address("$call/com/add"), Address::Call("com/add"));
        assert_eq!(address("$call/com/add/$id/7"), Address::CallById("com/add", "7"));
        let longest = "7".repeat(MAX_CALL_ID);
        assert_eq!(address(&format!("$call/a/$id/{longest}")), Address::CallById("a", &longest));
        assert_eq!(address(&format!("$call/a/$id/{longest}7")), Address::Other);
        assert_eq!(address("$yield/12"), Address::Yield(InvocationId(12), None));
        assert_eq!(address("$yield/12/error"), Address::Yield(InvocationId(12), Some(YieldKind::Error)));
        assert_eq!(address("$yield/12/other"), Address::Other);
        assert_eq!(address("$yield/-1"), Address::Other);
        assert_eq!(address("$SYS/x"), Address::Other);
    }
}
