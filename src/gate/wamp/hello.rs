//! HELLO and WELCOME: which realm, who, and what each side can do.
use std::borrow::Cow;
use std::sync::Arc;

use super::{State, WampGate};
use crate::gate::Output;
use crate::gate::report::Introduction;
use crate::model::command::{Features, Open, Protocol, Transport};
use crate::model::sentence::{Wish, of_wish};
use crate::model::{Command, Principal, Reason, SessionId, Topic};
use crate::wire::wamp::Message;
use crate::wire::wamp::options::{self, HelloDetails, Role, Roles, WelcomeDetails};

impl WampGate {
    pub(super) fn handle_hello(&mut self, realm: &str, details: &HelloDetails, output: &mut Output) {
        if let Err((reason, text)) = self.check(realm, details) {
            return self.end(reason, &text, output);
        }
        let realm: Box<str> = self.settings.listener_realm.clone().unwrap_or_else(|| realm.into());
        let [first, second] = self.origin.random;
        // The identity that the client claims is not believed: an anonymous session is nobody's in particular.
        let principal = Arc::new(Principal::anonymous(&format!("anonymous-{second:016x}")));
        self.joined = Some((realm.clone(), principal.clone()));
        output.report.introduction = Some(Box::new(Introduction {
            client_id: None,
            user: details.authid.clone(),
            realm: realm.clone(),
            protocol: Protocol::Wamp,
            session: SessionId((first >> 11) + 1),
            has_unchecked_password: false,
        }));
        output.realm = Some(realm);
        output.commands.push(Command::Open(Box::new(Open {
            session: SessionId((first >> 11) + 1),
            protocol: Protocol::Wamp,
            transport: Transport { peer: self.origin.peer.clone(), kind: self.origin.transport },
            principal,
            client_id: None,
            clean_start: true,
            expiry_s: 0,
            receive_maximum: u16::MAX,
            will: None,
            features: features(details),
        })));
        self.state = State::Opening;
    }

    fn check(&self, realm: &str, details: &HelloDetails) -> Result<(), (Reason, Cow<'static, str>)> {
        let roles = details.roles.as_deref().ok_or((Reason::ProtocolViolation, "HELLO.Details.roles is missing".into()))?;
        let has_role =
            roles.publisher.is_some() || roles.subscriber.is_some() || roles.caller.is_some() || roles.callee.is_some();
        if !has_role {
            return Err((Reason::NoSuchRole, "HELLO.Details.roles must name publisher, subscriber, caller or callee".into()));
        }
        if let Err(why) = Topic::from_uri(realm) {
            return Err((why, of_wish(Wish::Join, realm, why).into()));
        }
        if let Some(listener_realm) = &self.settings.listener_realm
            && **listener_realm != *realm
        {
            return Err((Reason::NoSuchRealm, "this listener serves another realm".into()));
        }
        if !self.settings.allow_anonymous {
            return Err((Reason::NotAuthenticated, "anonymous clients are not let in".into()));
        }
        let methods = details.authmethods.as_deref().unwrap_or_default();
        if !methods.is_empty() && !methods.iter().any(|method| **method == *"anonymous") {
            return Err((Reason::BadAuthenticationMethod, "only anonymous is configured".into()));
        }
        Ok(())
    }

    /// The realm has opened the session: WELCOME, and input is welcome.
    pub(super) fn handle_opened(&mut self, session: SessionId, output: &mut Output) {
        if self.state != State::Opening {
            return;
        }
        self.state = State::Open;
        let Some((realm, principal)) = self.joined.take() else { return };
        let details = WelcomeDetails {
            roles: Some(Box::new(announced(self.settings.has_history))),
            agent: options::text(concat!("corsac/", env!("CARGO_PKG_VERSION"))),
            realm: Some(realm),
            authid: Some((&*principal.authid).into()),
            authrole: Some((&*principal.authrole).into()),
            authmethod: Some(principal.authmethod.clone()),
            authprovider: Some(principal.authprovider.clone()),
            ..WelcomeDetails::default()
        };
        let (broker, dealer) = (Some(Role::default()), Some(Role::default()));
        let bare =
            WelcomeDetails { roles: Some(Box::new(Roles { broker, dealer, ..Roles::default() })), ..WelcomeDetails::default() };
        let welcome = |details| Message::Welcome { session, details: Box::new(details) };
        // A client with room for little is told little; one that cannot be told that it is welcome is not.
        if !self.send_first([welcome(details), welcome(bare)], output) {
            self.end(Reason::MessageTooLarge, "there is no room for WELCOME: take longer messages", output);
        }
    }
}

/// The roles and features that the router announces, and has. The specification wants `callee` beside event history (WAMP: Advanced,
/// Event History), but Autobahn|Python ends a session whose WELCOME names any other role than `broker` and `dealer`.
fn announced(has_history: bool) -> Roles {
    let broker = options::Features {
        publisher_identification: Some(true),
        publisher_exclusion: Some(true),
        subscriber_blackwhite_listing: Some(true),
        pattern_based_subscription: Some(true),
        event_retention: Some(true),
        event_history: has_history.then_some(true),
        payload_passthru_mode: Some(true),
        ..options::Features::default()
    };
    let dealer = options::Features {
        progressive_call_results: Some(true),
        call_canceling: Some(true),
        call_timeout: Some(true),
        caller_identification: Some(true),
        pattern_based_registration: Some(true),
        shared_registration: Some(true),
        payload_passthru_mode: Some(true),
        ..options::Features::default()
    };
    let role = |features| Some(Role { features: Some(Box::new(features)) });
    Roles { broker: role(broker), dealer: role(dealer), ..Roles::default() }
}

/// The features that the client announced and the router must respect.
fn features(details: &HelloDetails) -> Features {
    let callee = details.roles.as_deref().and_then(|roles| roles.callee.as_ref()).and_then(|role| role.features.as_deref());
    let has = |feature: fn(&options::Features) -> Option<bool>| callee.and_then(feature).unwrap_or(false);
    Features {
        callee_canceling: has(|features| features.call_canceling),
        callee_progress: has(|features| features.progressive_call_results),
        callee_timeout: has(|features| features.call_timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roles_are_broker_and_dealer_and_no_other() {
        for has_history in [false, true] {
            let Roles { publisher, subscriber, caller, callee, broker, dealer } = announced(has_history);
            assert_eq!((publisher, subscriber, caller, callee), (None, None, None, None));
            let features = broker.and_then(|role| role.features).map(|features| features.event_history);
            assert_eq!(features, Some(has_history.then_some(true)));
            assert!(dealer.is_some());
        }
    }
}
