//! CONNECT and CONNACK: who the client is, which realm it joins, what both sides allow.
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use super::{MqttGate, State, names};
use crate::gate::Output;
use crate::gate::mqtt::aliases::OutboundAliases;
use crate::gate::report::{Ending, Introduction};
use crate::model::command::{Features, Open, Protocol, Transport, Will};
use crate::model::names as reserved;
use crate::model::properties::Properties;
use crate::model::{Command, Payload, Principal, Publication, Reason, SessionId, Topic};
use crate::wire::mqtt::{self as wire, ConnAck, ConnAckProperties, Connect, Error, Packet, PacketType, ReasonCode, Version};

/// The content of CONNACK beyond the defaults.
#[derive(Debug, Default)]
pub struct Greeting {
    assigned_client_id: Option<Box<str>>,
    server_keep_alive_s: Option<u16>,
    session_expiry_s: Option<u32>,
    wants_response_information: bool,
}

impl MqttGate {
    pub(super) fn handle_connect(&mut self, connect: &Connect<'_>, output: &mut Output) {
        self.version = connect.version;
        self.is_bridge = connect.is_bridge;
        self.wants_problem_information = connect.properties.request_problem_information.unwrap_or(true);
        self.max_packet_bytes = connect.properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get);
        match self.open(connect) {
            Ok(open) => {
                let (realm, user) = self.realm(connect);
                output.report.introduction = Some(Box::new(introduction(connect, &open, realm.clone(), user)));
                output.realm = Some(realm);
                output.commands.push(Command::Open(Box::new(open)));
                self.state = State::Opening;
            }
            Err(reason) => self.refuse_open(reason, output),
        }
    }

    fn open(&mut self, connect: &Connect<'_>) -> Result<Open, Reason> {
        // [MQTT-3.1.4-2]
        if connect.properties.authentication_method.is_some() {
            return Err(Reason::BadAuthenticationMethod); // [MQTT-4.12.0-1]
        }
        if !self.settings.allow_anonymous {
            return Err(Reason::NotAuthenticated);
        }
        let client_id = self.client_id(connect)?;
        let will = connect.will.as_ref().map(will_of).transpose()?;
        self.agree_on_keep_alive(connect);
        self.expiry_s = match connect.version {
            Version::V5 => connect.properties.session_expiry_s.unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => u32::MAX,
        };
        let granted_s = self.expiry_s.min(self.settings.limits.max_session_expiry_s);
        self.greeting.session_expiry_s = (granted_s != self.expiry_s).then_some(granted_s);
        self.greeting.wants_response_information = connect.properties.request_response_information.unwrap_or(false);
        let aliases = connect.properties.topic_alias_maximum.unwrap_or(0);
        self.aliases = OutboundAliases::new(aliases.min(self.settings.limits.topic_alias_maximum));
        Ok(Open {
            session: SessionId((self.origin.random[0] >> 11) + 1),
            protocol: protocol(connect.version),
            transport: Transport { peer: self.origin.peer.clone(), kind: self.origin.transport },
            principal: Arc::new(Principal::anonymous(&client_id)),
            client_id: Some(client_id),
            clean_start: connect.clean_start,
            expiry_s: self.expiry_s,
            // [MQTT-4.9.0-1]
            receive_maximum: connect.properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get),
            will,
            features: Features::default(),
        })
    }

    /// [MQTT-3.1.3-6]: a client without a name gets one, if its session need not be found again by it. Any other name is
    /// accepted [MQTT-3.1.3-5].
    fn client_id(&mut self, connect: &Connect<'_>) -> Result<Box<str>, Reason> {
        if !connect.client_id.is_empty() {
            return Ok(connect.client_id.into());
        }
        // 3.1.1: [MQTT-3.1.3-7], [MQTT-3.1.3-8]; 3.1 wants 1 to 23 characters always.
        if connect.version == Version::V31 || (connect.version == Version::V311 && !connect.clean_start) {
            return Err(Reason::ClientIdNotValid);
        }
        // Random, so that no other session has it [MQTT-3.2.2-16].
        let [high, low] = self.origin.random;
        let random = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        let assigned: Box<str> = uuid::Builder::from_random_bytes(random).into_uuid().simple().to_string().into();
        self.greeting.assigned_client_id = Some(assigned.clone());
        Ok(assigned)
    }

    /// The client's keep-alive [MQTT-3.2.2-22], or the longest that is allowed [MQTT-3.1.2-22], [MQTT-3.2.2-21].
    fn agree_on_keep_alive(&mut self, connect: &Connect<'_>) {
        let longest_s = self.settings.limits.max_keep_alive_s;
        let asked_s = connect.keep_alive_s;
        let agreed_s = if longest_s > 0 && (asked_s == 0 || asked_s > longest_s) { longest_s } else { asked_s };
        self.greeting.server_keep_alive_s = (agreed_s != asked_s).then_some(agreed_s);
        self.keep_alive_ms = u64::from(agreed_s) * 1_500;
    }

    /// The realm that the client joins, and its user name in it (MAPPING.md, Realms). The first of these decides: the listener's
    /// realm, a user property, the text behind `@` in its user name where that means a realm, the default.
    fn realm<'a>(&self, connect: &Connect<'a>) -> (Box<str>, Option<&'a str>) {
        let named = connect.properties.user.iter().find(|(name, _)| *name == reserved::REALM).map(|(_, realm)| realm);
        let split = connect.username.and_then(|name| name.rsplit_once('@'));
        match (&self.settings.listener_realm, named, split) {
            (Some(realm), ..) => (realm.clone(), connect.username),
            (None, Some(realm), _) => (realm.into(), connect.username),
            (None, None, Some((user, realm))) if self.is_realm(realm) => (realm.into(), Some(user)),
            (None, None, _) => (self.settings.default_realm.clone(), connect.username),
        }
    }

    /// Many a user name is a mail address: only what is known as a realm, or what the configuration says to be one, is split off.
    fn is_realm(&self, name: &str) -> bool {
        let is_named = || self.settings.named_realms.iter().any(|realm| **realm == *name);
        !name.is_empty() && (self.settings.realm_from_user || is_named())
    }

    /// The realm has opened the session: CONNACK [MQTT-3.1.4-5], and input is welcome.
    pub(super) fn handle_opened(&mut self, session_present: bool, now_ms: u64, output: &mut Output) {
        if self.state != State::Opening {
            return; // [MQTT-3.2.0-2]
        }
        self.state = State::Open;
        self.heard_ms = now_ms;
        let limits = &self.settings.limits;
        let properties = ConnAckProperties {
            session_expiry_s: self.greeting.session_expiry_s,
            assigned_client_id: self.greeting.assigned_client_id.as_deref(), // [MQTT-3.1.3-7]
            server_keep_alive_s: self.greeting.server_keep_alive_s,
            // [MQTT-3.1.2-28]
            response_information: self.greeting.wants_response_information.then_some(reserved::REPLY),
            topic_alias_maximum: Some(limits.topic_alias_maximum).filter(|maximum| *maximum > 0),
            receive_maximum: NonZeroU16::new(limits.receive_maximum),
            maximum_packet_size: packet_size(limits.max_packet_bytes),
            ..ConnAckProperties::default()
        };
        let needed = ConnAckProperties { topic_alias_maximum: None, response_information: None, ..properties };
        let needed = ConnAckProperties { maximum_packet_size: None, ..needed };
        let has_fit = [properties, needed].into_iter().any(|properties| {
            let connack = Packet::ConnAck(ConnAck { session_present, reason: ReasonCode::Success, properties });
            connack.encode_within(self.version, self.max_packet_bytes, &mut output.bytes).is_ok()
        });
        self.greeting = Greeting::default();
        if !has_fit {
            // A client that cannot be told that it is connected is not, and is told nothing else [MQTT-3.14.0-1].
            self.state = State::Opening;
            self.end(ReasonCode::PacketTooLarge, Reason::MessageTooLarge, output);
        }
    }

    /// CONNACK with a refusal, then the end [MQTT-3.2.2-7], as for a refused client id [MQTT-3.1.3-8]; 3.1.1: [MQTT-3.1.3-9].
    pub(super) fn refuse_open(&mut self, reason: Reason, output: &mut Output) {
        output.report.end(Ending::cut(reason));
        self.send_refusal(names::code_of(reason, PacketType::ConnAck), Some(&reason.to_string()), output);
        self.state = State::Closed; // [MQTT-3.1.4-6], [MQTT-4.13.2-1]
        output.close = true;
    }

    fn send_refusal(&mut self, code: ReasonCode, text: Option<&str>, output: &mut Output) {
        let properties = ConnAckProperties { reason_string: text, ..ConnAckProperties::default() };
        let connack = Packet::ConnAck(ConnAck { session_present: false, reason: code, properties });
        connack.encode_within(self.version, self.max_packet_bytes, &mut output.bytes).ok();
    }

    /// The first packet was no acceptable CONNECT. Version 5.0 says why [MQTT-3.1.4-1], [MQTT-3.1.2-2]. Before it only an unknown
    /// version is answered, in the form of the version nearest to it; 3.1.1: [MQTT-3.1.2-2], [MQTT-3.1.4-1].
    pub(super) fn refuse_newcomer(&mut self, error: Error, input: &[u8], output: &mut Output) {
        if let Error::UnsupportedVersion(level) = error {
            self.version = if level < Version::V5.level() { Version::V311 } else { Version::V5 };
            self.send_refusal(ReasonCode::UnsupportedProtocolVersion, None, output);
        } else if wire::connect_version(input) == Some(Version::V5) {
            self.version = Version::V5;
            self.send_refusal(error.reason(), Some(&error.to_string()), output);
        }
        self.state = State::Closed;
        output.close = true;
    }
}

/// The announcement of our largest packet; nothing is announced where MQTT itself allows no larger one.
fn packet_size(max_bytes: usize) -> Option<NonZeroU32> {
    u32::try_from(max_bytes).ok().filter(|_| max_bytes < wire::MAX_PACKET_BYTES).and_then(NonZeroU32::new)
}

/// The client, for the log.
fn introduction(connect: &Connect<'_>, open: &Open, realm: Box<str>, user: Option<&str>) -> Introduction {
    Introduction {
        client_id: open.client_id.clone(),
        user: user.map(Into::into),
        realm,
        protocol: open.protocol,
        session: open.session,
        has_unchecked_password: connect.password.is_some(),
    }
}

fn protocol(version: Version) -> Protocol {
    match version {
        Version::V31 => Protocol::Mqtt31,
        Version::V311 => Protocol::Mqtt311,
        Version::V5 => Protocol::Mqtt5,
    }
}

fn will_of(will: &crate::wire::mqtt::Will<'_>) -> Result<Will, Reason> {
    let topic = Topic::from_mqtt(will.topic)?;
    if let Some(root) = topic.root() {
        return Err(Reason::ReservedName(root));
    }
    if will.properties.payload_format == Some(true) && std::str::from_utf8(will.payload).is_err() {
        return Err(Reason::PayloadFormatInvalid);
    }
    let delay_s = will.properties.will_delay_s.unwrap_or(0);
    let mut publication = Publication::new(topic, Payload::Bytes(will.payload.to_vec().into()), will.qos);
    publication.retain = will.retain;
    let properties = Properties {
        content_type: will.properties.content_type.map(Into::into),
        payload_format: will.properties.payload_format,
        response_topic: will.properties.response_topic.map(Into::into),
        correlation_data: will.properties.correlation_data.map(|data| data.to_vec().into()),
        user: names::user_properties(&will.properties.user), // [MQTT-3.1.3-10]
        passthru: None,
        outcome: None,
    };
    publication.properties = (properties != Properties::default()).then(|| Box::new(properties));
    Ok(Will { publication: Arc::new(publication), delay_s, expiry_s: will.properties.message_expiry_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::mqtt::tests::{CONNECT_V4, CONNECT_V5, connecting};
    use crate::model::Delivery;

    #[test]
    fn a_client_id_that_the_realm_refuses_is_told_so() {
        // [MQTT-3.1.3-8], [MQTT-3.2.2-7]; 3.1.1: [MQTT-3.1.3-9]
        for (connect, head) in [(CONNECT_V4, &b"\x20\x02\0\x02"[..]), (CONNECT_V5, b"\x20")] {
            let (mut gate, mut output) = (connecting(connect), Output::default());
            gate.handle_delivery(Delivery::Refused(Reason::ClientIdNotValid), 0, &mut output);
            assert!(output.bytes.starts_with(head) && output.close, "{output:?}");
            assert!(connect == CONNECT_V4 || output.bytes[3] == 0x85, "{output:?}");
            // Nothing behind it is looked at [MQTT-3.1.4-6].
            let mut output = Output::default();
            assert_eq!(gate.handle_bytes(&b"\xC0\0"[..], 0, &mut output).bytes, 2);
            assert!(output.bytes.is_empty() && output.commands.is_empty(), "{output:?}");
        }
    }

    #[test]
    fn the_realm_is_what_the_configuration_lets_it_be() {
        // MAPPING.md, Realms: listener, named realms, everything behind `@`; user name and user property.
        for (listener, named, from_user, user, property, expected) in [
            (None, "", false, Some("joe"), None, ("realm1", Some("joe"))),
            (None, "", false, None, None, ("realm1", None)),
            (None, "", false, Some("joe@example.com"), None, ("realm1", Some("joe@example.com"))),
            (None, "factory", false, Some("joe@factory"), None, ("factory", Some("joe"))),
            (None, "factory", false, Some("joe@Factory"), None, ("realm1", Some("joe@Factory"))),
            (None, "factory", false, Some("joe@home@factory"), None, ("factory", Some("joe@home"))),
            (None, "", true, Some("joe@example.com"), None, ("example.com", Some("joe"))),
            (None, "", true, Some("joe@"), None, ("realm1", Some("joe@"))),
            (None, "", false, Some("joe"), Some("office"), ("office", Some("joe"))),
            (None, "factory", true, Some("joe@factory"), Some("office"), ("office", Some("joe@factory"))),
            (Some("hall"), "factory", true, Some("joe@factory"), Some("office"), ("hall", Some("joe@factory"))),
        ] {
            let mut gate = connecting(CONNECT_V5);
            let settings = Arc::make_mut(&mut gate.settings);
            settings.listener_realm = listener.map(Into::into);
            settings.named_realms = [named].into_iter().filter(|name| !name.is_empty()).map(Into::into).collect();
            settings.realm_from_user = from_user;
            let pairs: Vec<_> = property.map(|realm| ("corsac-realm", realm)).into_iter().collect();
            let connect = Connect {
                version: Version::V5,
                is_bridge: false,
                clean_start: true,
                keep_alive_s: 0,
                properties: wire::ConnectProperties { user: wire::UserProperties::from_pairs(&pairs), ..Default::default() },
                client_id: "a",
                will: None,
                username: user,
                password: None,
            };
            let (realm, user) = gate.realm(&connect);
            assert_eq!((&*realm, user), expected, "{connect:?}");
        }
    }

    #[test]
    fn connack_is_said_once() {
        // [MQTT-3.2.0-2]
        let (mut gate, mut output) = (connecting(CONNECT_V4), Output::default());
        for session in [1, 2] {
            let opened = Delivery::Opened { session: SessionId(session), session_present: session == 2 };
            gate.handle_delivery(opened, 0, &mut output);
        }
        assert_eq!(&output.bytes[..], b"\x20\x02\0\0");
    }
}
