//! Reasons as WAMP URIs: errors of requests, and why a session ends (WAMP: Basic, Predefined URIs; Advanced, Advanced Profile URIs).
use crate::model::{ErrorUri, Reason, Topic, names};

/// The reason of a GOODBYE that answers a GOODBYE.
pub const GOODBYE_AND_OUT: &str = "wamp.close.goodbye_and_out";
/// The reason with which a snapshot ends its subscription.
pub const SUBSCRIPTION_COMPLETE: &str = "corsac.subscription.complete";
/// The reason of a client's ordinary GOODBYE.
pub const CLOSE_REALM: &str = "wamp.close.close_realm";
/// The reason of an ABORT for what breaks the protocol.
pub const PROTOCOL_VIOLATION: &str = "wamp.error.protocol_violation";

pub use names::{INVALID_URI, RUNTIME_ERROR};

/// The URI that a callee gives its error, or another one for what is no URI: who is sent that may end its session.
pub fn checked_uri(uri: &str) -> &str {
    if Topic::from_uri(uri).is_ok() { uri } else { INVALID_URI }
}

/// The URI of an ERROR for a request that was refused for this reason.
pub fn error_uri(reason: Reason) -> &'static str {
    match reason {
        Reason::Malformed | Reason::ProtocolViolation => PROTOCOL_VIOLATION,
        Reason::InvalidTopic | Reason::InvalidFilter | Reason::UnfitCharacter(_) | Reason::ReservedName(_) => INVALID_URI,
        Reason::InvalidArgument
        | Reason::WrongValue(..)
        | Reason::NoReplyAddress
        | Reason::TopicAliasInvalid
        | Reason::PacketIdNotFound
        | Reason::PayloadFormatInvalid => "wamp.error.invalid_argument",
        Reason::OptionNotAllowed | Reason::SharedSubscriptionInvalid => "wamp.error.option_not_allowed",
        Reason::DiscloseMeNotAllowed => "wamp.error.option_disallowed.disclose_me",
        Reason::NotAuthorized | Reason::Refused => names::NOT_AUTHORIZED,
        Reason::NotAuthenticated | Reason::ClientIdNotValid => "wamp.error.authentication_denied",
        Reason::BadAuthenticationMethod => "wamp.error.no_matching_auth_method",
        Reason::NoSuchRealm => names::NO_SUCH_REALM,
        Reason::NoSuchRole => "wamp.error.no_such_role",
        Reason::ConditionFailed => names::CONDITION_FAILED,
        Reason::NoSuchToken => names::NO_SUCH_TOKEN,
        Reason::NotALock => "corsac.error.not_a_lock",
        Reason::NoSuchProcedure => names::NO_SUCH_PROCEDURE,
        Reason::ProcedureAlreadyExists => names::PROCEDURE_ALREADY_EXISTS,
        Reason::InvocationPolicyConflict => "wamp.error.procedure_exists_with_different_invocation_policy",
        Reason::NoSuchRegistration => "wamp.error.no_such_registration",
        Reason::NoSuchSubscription => "wamp.error.no_such_subscription",
        Reason::Canceled => names::CANCELED,
        Reason::Timeout => names::TIMEOUT,
        Reason::Unavailable => names::NO_AVAILABLE_CALLEE,
        Reason::QuotaExceeded | Reason::ReceiveMaximumExceeded => "corsac.error.quota_exceeded",
        Reason::MessageTooLarge => "corsac.error.message_too_large",
        Reason::KeepAliveTimeout | Reason::TooSlow => "corsac.error.too_slow",
        Reason::SessionTakenOver => "corsac.error.session_taken_over",
        Reason::AdministrativeAction => "wamp.close.killed",
        Reason::ShuttingDown => names::SYSTEM_SHUTDOWN,
        Reason::ConnectionLost => "corsac.error.connection_lost",
        Reason::NoSpace => "corsac.error.no_space",
        Reason::StorageFailed => "corsac.error.storage_failed",
        Reason::NoHistory => names::NO_HISTORY,
        Reason::HistoryTooOld(_) => names::HISTORY_TOO_OLD,
        Reason::ServerBusy => names::SERVER_BUSY,
        Reason::UnsupportedProtocolVersion | Reason::NotSupported => "wamp.error.feature_not_supported",
        Reason::Internal => "corsac.error.internal",
    }
}

/// The URI of a GOODBYE or ABORT that ends a session for this reason. Most are as for requests; a fault of the client against the
/// protocol is a protocol violation.
pub fn close_uri(reason: Reason) -> &'static str {
    match reason {
        Reason::InvalidArgument
        | Reason::WrongValue(..)
        | Reason::PacketIdNotFound
        | Reason::TopicAliasInvalid
        | Reason::PayloadFormatInvalid => PROTOCOL_VIOLATION,
        _ => error_uri(reason),
    }
}

/// True if a session that ends for this reason is told so by ABORT; otherwise by GOODBYE, as is fit for a session that did
/// nothing wrong.
pub fn is_abort(reason: Reason) -> bool {
    !matches!(reason, Reason::ShuttingDown | Reason::AdministrativeAction | Reason::SessionTakenOver)
}

/// The URI of an ERROR.
pub fn uri_of(error: &ErrorUri) -> &str {
    match error {
        ErrorUri::Reason(reason) => error_uri(*reason),
        ErrorUri::Custom(uri) => uri,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reasons with a URI that the specification names, by that URI.
    const STANDARD: &[(Reason, &str)] = &[
        (Reason::ProtocolViolation, "wamp.error.protocol_violation"),
        (Reason::Malformed, "wamp.error.protocol_violation"),
        (Reason::InvalidTopic, "wamp.error.invalid_uri"),
        (Reason::InvalidFilter, "wamp.error.invalid_uri"),
        (Reason::InvalidArgument, "wamp.error.invalid_argument"),
        (Reason::OptionNotAllowed, "wamp.error.option_not_allowed"),
        (Reason::DiscloseMeNotAllowed, "wamp.error.option_disallowed.disclose_me"),
        (Reason::NotAuthorized, "wamp.error.not_authorized"),
        (Reason::NotAuthenticated, "wamp.error.authentication_denied"),
        (Reason::BadAuthenticationMethod, "wamp.error.no_matching_auth_method"),
        (Reason::NoSuchRealm, "wamp.error.no_such_realm"),
        (Reason::NoSuchRole, "wamp.error.no_such_role"),
        (Reason::NoSuchProcedure, "wamp.error.no_such_procedure"),
        (Reason::ProcedureAlreadyExists, "wamp.error.procedure_already_exists"),
        (Reason::NoSuchRegistration, "wamp.error.no_such_registration"),
        (Reason::NoSuchSubscription, "wamp.error.no_such_subscription"),
        (Reason::Canceled, "wamp.error.canceled"),
        (Reason::Timeout, "wamp.error.timeout"),
        (Reason::Unavailable, "wamp.error.no_available_callee"),
        (Reason::NotSupported, "wamp.error.feature_not_supported"),
        (Reason::ShuttingDown, "wamp.close.system_shutdown"),
        (Reason::AdministrativeAction, "wamp.close.killed"),
        (Reason::QuotaExceeded, "corsac.error.quota_exceeded"),
        (Reason::MessageTooLarge, "corsac.error.message_too_large"),
    ];

    #[test]
    fn reasons_have_their_uris() {
        for (reason, uri) in STANDARD {
            assert_eq!(error_uri(*reason), *uri);
            assert_eq!(uri_of(&ErrorUri::Reason(*reason)), *uri);
        }
        assert_eq!(uri_of(&ErrorUri::Custom("com.app.error".into())), "com.app.error");
        assert_eq!(checked_uri("com.app.error"), "com.app.error");
        for bad in ["", "a b", "a..b", "a#", "my.err\u{1}or", "a\u{FFFE}", &"x".repeat(70_000)] {
            assert_eq!(checked_uri(bad), INVALID_URI, "{bad:?}");
        }
    }

    #[test]
    fn sessions_end_by_goodbye_or_abort() {
        assert_eq!(close_uri(Reason::PayloadFormatInvalid), PROTOCOL_VIOLATION);
        assert_eq!(close_uri(Reason::ShuttingDown), "wamp.close.system_shutdown");
        assert!(is_abort(Reason::ProtocolViolation) && is_abort(Reason::NotAuthenticated));
        assert!(!is_abort(Reason::ShuttingDown) && !is_abort(Reason::AdministrativeAction));
    }
}
