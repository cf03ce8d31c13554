//! Options and details of every WAMP message as structs: the keys of both profiles and Corsac's own (MAPPING.md).
//!
//! Corsac's own are also read with a `_` before them, as custom attributes (WAMP: Basic, Custom Attributes), because some client
//! libraries send nothing else beside the keys of the profiles.
use std::borrow::Cow;

use bytes::Bytes;
use rmpv::Value;

use super::dict::{Item, Keys, dict, entries, option, passthru_entries, passthru_entry, write_dict, write_passthru};
use super::fault::Fault;
use super::token::{Reader, Token, Writer};
use crate::model::command::{CancelMode, InvokePolicy};
use crate::model::properties::Passthru;
use crate::model::{MatchPolicy, Qos, RegistrationId, SessionId, SubscriptionId};

dict! {
    /// `HELLO.Details`.
    HelloDetails {
        /// The roles of the client, and the features of each.
        roles: Box<Roles> = "roles",
        /// Its software.
        agent: Box<str> = "agent",
        /// Authentication methods it can do, the preferred one first.
        authmethods: Vec<Box<str>> = "authmethods",
        /// The identity that it asks for.
        authid: Box<str> = "authid",
        /// The role it claims; never believed.
        authrole: Box<str> = "authrole",
        /// Input for its authentication method.
        authextra: Box<Value> = "authextra",
        /// The client wants to be able to resume the session.
        resumable: bool = "resumable",
        /// The session it wants to resume.
        resume_session: SessionId = "resume-session",
        /// Proof that it may.
        resume_token: Box<str> = "resume-token",
    }
}

dict! {
    /// `Details.roles`: what is present is announced.
    Roles {
        /// Client: subscribes.
        subscriber: Role = "subscriber",
        /// Client: publishes.
        publisher: Role = "publisher",
        /// Client: calls.
        caller: Role = "caller",
        /// Client: serves procedures.
        callee: Role = "callee",
        /// Router: routes events.
        broker: Role = "broker",
        /// Router: routes calls.
        dealer: Role = "dealer",
    }
}

dict! {
    /// One role.
    Role {
        /// The features that it supports beyond the basic profile.
        features: Box<Features> = "features",
    }
}

dict! {
    /// Features of a role (WAMP: Advanced, Feature Announcement).
    Features {
        /// Progressive Call Results
        progressive_call_results: bool = "progressive_call_results",
        /// Progressive Call Invocations
        progressive_call_invocations: bool = "progressive_call_invocations",
        /// Call Timeout
        call_timeout: bool = "call_timeout",
        /// Call Canceling; some clients spell it with two l.
        call_canceling: bool = "call_canceling" | "call_cancelling",
        /// Caller Identification
        caller_identification: bool = "caller_identification",
        /// Call Trustlevels
        call_trustlevels: bool = "call_trustlevels",
        /// Pattern-based Registration
        pattern_based_registration: bool = "pattern_based_registration",
        /// Shared Registration
        shared_registration: bool = "shared_registration",
        /// Sharded Registration
        sharded_registration: bool = "sharded_registration",
        /// Registration Revocation
        registration_revocation: bool = "registration_revocation",
        /// Call Re-Routing
        call_reroute: bool = "call_reroute",
        /// Registration Meta API
        registration_meta_api: bool = "registration_meta_api",
        /// Procedure Reflection
        procedure_reflection: bool = "procedure_reflection",
        /// Subscriber Black- and Whitelisting
        subscriber_blackwhite_listing: bool = "subscriber_blackwhite_listing",
        /// Publisher Exclusion
        publisher_exclusion: bool = "publisher_exclusion",
        /// Publisher Identification
        publisher_identification: bool = "publisher_identification",
        /// Publication Trustlevels
        publication_trustlevels: bool = "publication_trustlevels",
        /// Pattern-based Subscription
        pattern_based_subscription: bool = "pattern_based_subscription",
        /// Sharded Subscription
        sharded_subscription: bool = "sharded_subscription",
        /// Sharded Subscription, as the specification spells it.
        shareded_subscriptions: bool = "shareded_subscriptions",
        /// Event Retention
        event_retention: bool = "event_retention",
        /// Event History
        event_history: bool = "event_history",
        /// Subscription Revocation
        subscription_revocation: bool = "subscription_revocation",
        /// Subscription Meta API
        subscription_meta_api: bool = "subscription_meta_api",
        /// Topic Reflection
        topic_reflection: bool = "topic_reflection",
        /// Session Meta API
        session_meta_api: bool = "session_meta_api",
        /// Testaments
        testament_meta_api: bool = "testament_meta_api",
        /// Payload Passthru Mode
        payload_passthru_mode: bool = "payload_passthru_mode",
        /// Acknowledged event delivery (a proposal).
        acknowledge_event_received: bool = "acknowledge_event_received",
    }
}

dict! {
    /// `WELCOME.Details`.
    WelcomeDetails {
        /// The roles of the router, and the features of each.
        roles: Box<Roles> = "roles",
        /// Its software.
        agent: Box<str> = "agent",
        /// The realm that was joined.
        realm: Box<str> = "realm",
        /// The identity of the client.
        authid: Box<str> = "authid",
        /// Which role's rules apply.
        authrole: Box<str> = "authrole",
        /// The method that authenticated it.
        authmethod: Box<str> = "authmethod",
        /// By whom.
        authprovider: Box<str> = "authprovider",
        /// More from the authentication method.
        authextra: Box<Value> = "authextra",
        /// An earlier session goes on.
        resumed: bool = "resumed",
        /// The session can be resumed.
        resumable: bool = "resumable",
        /// Proof for resuming.
        resume_token: Box<str> = "resume-token",
    }
}

dict! {
    /// `ABORT.Details` and `GOODBYE.Details`.
    CloseDetails {
        /// For people.
        message: Box<str> = "message",
        /// The client wants to come back to this session (GOODBYE).
        resumable: bool = "resumable",
    }
}

dict! {
    /// `CHALLENGE.Extra` of every method.
    ChallengeExtra {
        /// The challenge to be signed: `wampcra` a string, `cryptosign` 64 hexadecimal digits.
        challenge: Box<str> = "challenge",
        /// The channel that the signature is bound to (`cryptosign`).
        channel_binding: Box<str> = "channel_binding",
        /// Salt of the password, in Base64 for `wamp-scram`.
        salt: Box<str> = "salt",
        /// Rounds of the key derivation.
        iterations: u32 = "iterations",
        /// Bytes of the derived key (`wampcra`).
        keylen: u32 = "keylen",
        /// Memory of the key derivation in KiB (`wamp-scram`).
        memory: u32 = "memory",
        /// Key derivation, `pbkdf2` or `argon2id13` (`wamp-scram`).
        kdf: Box<str> = "kdf",
        /// The client's nonce and the router's (`wamp-scram`).
        nonce: Box<str> = "nonce",
        /// Parallel lanes of the key derivation.
        parallel: u32 = "parallel",
    }
}

dict! {
    /// `AUTHENTICATE.Extra` of every method.
    AuthenticateExtra {
        /// The nonce of the challenge (`wamp-scram`).
        nonce: Box<str> = "nonce",
        /// The kind of channel binding used.
        channel_binding: Box<str> = "channel_binding",
        /// The data of the channel binding, in Base64.
        cbind_data: Box<str> = "cbind_data",
    }
}

dict! {
    [passthru]
    /// `ERROR.Details`.
    ErrorDetails {
        /// For people.
        message: Box<str> = "message",
        /// The session of the callee that failed, if it is disclosed.
        callee: SessionId = "callee",
        /// Its authid.
        callee_authid: Box<str> = "callee_authid",
        /// Its authrole.
        callee_authrole: Box<str> = "callee_authrole",
        /// Attributes that the message carried in MQTT.
        mqtt: Box<MqttDetails> = "mqtt" | "_mqtt",
    }
}

dict! {
    [passthru]
    /// `PUBLISH.Options`.
    PublishOptions {
        /// Answer with PUBLISHED or ERROR.
        acknowledge: bool = "acknowledge",
        /// Not to the publisher itself; the default is true.
        exclude_me: bool = "exclude_me",
        /// Show the publisher to subscribers.
        disclose_me: bool = "disclose_me",
        /// Keep as the topic's value.
        retain: bool = "retain" | "_retain",
        /// Not to these sessions.
        exclude: Vec<SessionId> = "exclude",
        /// Not to these authids.
        exclude_authid: Vec<Box<str>> = "exclude_authid",
        /// Not to these authroles.
        exclude_authrole: Vec<Box<str>> = "exclude_authrole",
        /// To these sessions only.
        eligible: Vec<SessionId> = "eligible",
        /// To these authids only.
        eligible_authid: Vec<Box<str>> = "eligible_authid",
        /// To these authroles only.
        eligible_authrole: Vec<Box<str>> = "eligible_authrole",
        /// Which shard of a sharded subscription.
        rkey: ResourceKey = "rkey",
        /// A hash that names the transaction it belongs to; read and written, not used.
        transaction_hash: Box<str> = "transaction_hash",
        /// Routers that passed it on (router-to-router links); read and written, not used.
        forward_for: Vec<Forwarder> = "forward_for",
        /// Corsac: MQTT's quality of service.
        qos: Qos = "qos" | "_qos",
        /// Corsac: seconds until the message is worth nothing.
        expiry_s: u32 = "expiry_s" | "_expiry_s",
        /// Corsac: a retry with the same key is the same message.
        dedup: Box<str> = "dedup" | "_dedup",
        /// Corsac: a condition on the topic's value, where null demands that there is none.
        when: Box<Value> = "when" | "_when",
        /// Corsac: wait in line until it fits.
        watch: bool = "watch" | "_watch",
        /// Corsac: the topic's value when this session ends, where null stands for none.
        will: Box<Value> = "will" | "_will",
        /// Attributes for MQTT receivers.
        mqtt: Box<MqttDetails> = "mqtt" | "_mqtt",
    }
}

dict! {
    [passthru]
    /// `EVENT.Details`.
    EventDetails {
        /// The publisher's session, if it is disclosed.
        publisher: SessionId = "publisher",
        /// Its authid.
        publisher_authid: Box<str> = "publisher_authid",
        /// Its authrole.
        publisher_authrole: Box<str> = "publisher_authrole",
        /// The topic, where the subscription is a pattern.
        topic: Box<str> = "topic",
        /// The topic's value, not a new message.
        retained: bool = "retained",
        /// The trust level of the publisher.
        trustlevel: u64 = "trustlevel",
        /// A hash that names the transaction it belongs to; read and written, not used.
        transaction_hash: Box<str> = "transaction_hash",
        /// Routers that passed it on (router-to-router links); read and written, not used.
        forward_for: Vec<Forwarder> = "forward_for",
        /// The event is to be answered by EVENT_RECEIVED (a proposal).
        x_acknowledged_delivery: bool = "x_acknowledged_delivery",
        /// Attributes that the message carried in MQTT.
        mqtt: Box<MqttDetails> = "mqtt",
    }
}

dict! {
    /// `SUBSCRIBE.Options`.
    SubscribeOptions {
        /// The kind of filter that the topic is.
        policy: MatchPolicy = "match",
        /// The topic's value first.
        get_retained: bool = "get_retained" | "_get_retained",
        /// Which node of a sharded subscription this is.
        nkey: Box<str> = "nkey",
        /// Routers that passed it on (router-to-router links); read and written, not used.
        forward_for: Vec<Forwarder> = "forward_for",
        /// Corsac: the history behind this event id first, then live.
        after: u64 = "after" | "_after",
        /// Corsac: so many of the last events first, then live.
        last: u64 = "last" | "_last",
        /// Corsac: values first, and then their changes only.
        retained: bool = "retained" | "_retained",
        /// Corsac: values first, and then everything.
        retained_state: bool = "retained_state" | "_retained_state",
        /// Corsac: what there is, then the subscription ends.
        snapshot: bool = "snapshot" | "_snapshot",
        /// Corsac: only events whose body fits.
        filter: Box<Value> = "filter" | "_filter",
        /// Corsac: the most that is granted of MQTT's quality of service.
        qos: Qos = "qos" | "_qos",
    }
}

dict! {
    /// `UNSUBSCRIBED.Details`, where the router has revoked a subscription.
    UnsubscribedDetails {
        /// Which.
        subscription: SubscriptionId = "subscription",
        /// Why.
        reason: Box<str> = "reason",
    }
}

dict! {
    /// `UNREGISTERED.Details`, where the router has revoked a registration.
    UnregisteredDetails {
        /// Which.
        registration: RegistrationId = "registration",
        /// Why.
        reason: Box<str> = "reason",
    }
}

dict! {
    [passthru]
    /// `CALL.Options`.
    CallOptions {
        /// Time limit in milliseconds; 0 = none.
        timeout: u64 = "timeout",
        /// Progressive results are welcome.
        receive_progress: bool = "receive_progress",
        /// More of this call follows (Progressive Call Invocations).
        progress: bool = "progress",
        /// Show the caller to the callee.
        disclose_me: bool = "disclose_me",
        /// The run mode of a sharded procedure: `all` or `partition`.
        runmode: Box<str> = "runmode",
        /// Which shard.
        rkey: ResourceKey = "rkey",
        /// Attributes for an MQTT callee.
        mqtt: Box<MqttDetails> = "mqtt" | "_mqtt",
    }
}

dict! {
    /// `CANCEL.Options`.
    CancelOptions {
        /// The effect on the callee.
        mode: CancelMode = "mode",
    }
}

dict! {
    [passthru]
    /// `RESULT.Details`.
    ResultDetails {
        /// More results follow.
        progress: bool = "progress",
        /// The callee's session, if it is disclosed.
        callee: SessionId = "callee",
        /// Its authid.
        callee_authid: Box<str> = "callee_authid",
        /// Its authrole.
        callee_authrole: Box<str> = "callee_authrole",
        /// Attributes that the answer carried in MQTT.
        mqtt: Box<MqttDetails> = "mqtt",
    }
}

dict! {
    /// `REGISTER.Options`.
    RegisterOptions {
        /// The kind of filter that the procedure is.
        policy: MatchPolicy = "match",
        /// The rule by which several callees share it.
        invoke: InvokePolicy = "invoke",
        /// Calls that the callee takes at a time.
        concurrency: u32 = "concurrency" | "_concurrency",
        /// The callee wants to know its callers.
        disclose_caller: bool = "disclose_caller",
        /// Take the procedure from whoever has it.
        force_reregister: bool = "force_reregister" | "_force_reregister",
        /// The callee enforces the caller's time limit.
        forward_timeout: bool = "forward_timeout",
        /// The rule by which results of several callees become one.
        reducer: Box<Value> = "reducer" | "_reducer",
    }
}

dict! {
    [passthru]
    /// `INVOCATION.Details`.
    InvocationDetails {
        /// The procedure called, where the registration is a pattern.
        procedure: Box<str> = "procedure",
        /// The caller's session, if it is disclosed.
        caller: SessionId = "caller",
        /// Its authid.
        caller_authid: Box<str> = "caller_authid",
        /// Its authrole.
        caller_authrole: Box<str> = "caller_authrole",
        /// The caller takes progressive results.
        receive_progress: bool = "receive_progress",
        /// More of this call follows (Progressive Call Invocations).
        progress: bool = "progress",
        /// Time limit in milliseconds that the callee enforces.
        timeout: u64 = "timeout",
        /// The trust level of the caller.
        trustlevel: u64 = "trustlevel",
        /// Which shard was asked for.
        rkey: ResourceKey = "rkey",
        /// Attributes that the call carried in MQTT.
        mqtt: Box<MqttDetails> = "mqtt",
    }
}

dict! {
    /// `INTERRUPT.Options`.
    InterruptOptions {
        /// The mode in which the call was canceled.
        mode: CancelMode = "mode",
        /// Why, as a URI.
        reason: Box<str> = "reason",
    }
}

dict! {
    [passthru]
    /// `YIELD.Options`.
    YieldOptions {
        /// More results follow.
        progress: bool = "progress",
        /// Attributes for an MQTT caller.
        mqtt: Box<MqttDetails> = "mqtt" | "_mqtt",
    }
}

dict! {
    /// Attributes that a message has only in MQTT (MAPPING: Payloads).
    MqttDetails {
        /// The publisher's quality of service.
        qos: Qos = "qos",
        /// The RETAIN flag.
        retain: bool = "retain",
        /// User properties in their order; names may repeat.
        user_properties: UserProperties = "user_properties",
        /// Content type.
        content_type: Box<str> = "content_type",
        /// Response topic, in MQTT spelling.
        response_topic: Box<str> = "response_topic",
        /// Correlation data.
        correlation_data: Bytes = "correlation_data",
    }
}

dict! {
    /// One router that passed a message on.
    Forwarder {
        /// The session that it came from.
        session: SessionId = "session",
        /// Its authid.
        authid: Box<str> = "authid",
        /// Its authrole.
        authrole: Box<str> = "authrole",
    }
}

/// Which shard: a string, or an integer in its decimal spelling.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ResourceKey(pub Box<str>);

impl Item for ResourceKey {
    const MUST_BE: &'static str = "a string or an integer";

    fn take<'a, R: Reader<'a>>(token: Token<'a>, _: &mut R, _: usize) -> Result<Option<Self>, Fault> {
        Ok(match token {
            Token::Str(text) => Some(ResourceKey(text.into())),
            Token::Negative(n) => Some(ResourceKey((-1 - i128::from(n)).to_string().into())),
            token => token.uint().map(|value| ResourceKey(value.to_string().into())),
        })
    }

    fn write<W: Writer>(&self, writer: &mut W) {
        writer.str(&self.0);
    }
}

/// MQTT 5 user properties: written as a list of pairs, read as that or as a dictionary.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserProperties(pub Vec<(Box<str>, Box<str>)>);

impl Item for UserProperties {
    const MUST_BE: &'static str = "a list of pairs of strings";

    fn take<'a, R: Reader<'a>>(token: Token<'a>, reader: &mut R, _: usize) -> Result<Option<Self>, Fault> {
        let mut pairs = Vec::new();
        let mut keys = Keys::default();
        let mut open = match token {
            Token::List(open) | Token::Map(open) => open,
            _ => return Ok(None),
        };
        while reader.more(&mut open)? {
            let pair = if open.map { Some((reader.read_key()?, reader.read()?)) } else { pair(reader)? };
            let Some((Token::Str(name), Token::Str(value))) = pair else { return Ok(None) };
            pairs.push((name.clone().into(), value.into()));
            if open.map {
                keys.add(name)?;
            }
        }
        keys.finish()?;
        Ok(Some(UserProperties(pairs)))
    }

    fn write<W: Writer>(&self, writer: &mut W) {
        writer.list(self.0.len());
        for (name, value) in &self.0 {
            writer.list(2);
            writer.str(name);
            writer.str(value);
            writer.end_list();
        }
        writer.end_list();
    }
}

/// A list of exactly two tokens, unless one of them opens something.
fn pair<'a, R: Reader<'a>>(reader: &mut R) -> Result<Option<(Token<'a>, Token<'a>)>, Fault> {
    let Token::List(mut open) = reader.read()? else { return Ok(None) };
    let mut next = || -> Result<Option<Token<'a>>, Fault> {
        if !reader.more(&mut open)? {
            return Ok(None);
        }
        Ok(match reader.read()? {
            token @ Token::Str(_) => Some(token),
            _ => None,
        })
    };
    let (Some(name), Some(value)) = (next()?, next()?) else { return Ok(None) };
    Ok(if reader.more(&mut open)? { None } else { Some((name, value)) })
}

/// `text` as the owned string that options hold.
pub fn text(text: impl Into<Cow<'static, str>>) -> Option<Box<str>> {
    Some(text.into().into())
}
