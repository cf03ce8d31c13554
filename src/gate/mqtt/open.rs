//! CONNECT and CONNACK: who the client is, which realm it joins, what both sides allow.
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use super::{MqttGate, State, names};
use crate::gate::Output;
use crate::gate::mqtt::aliases::OutboundAliases;
use crate::model::command::{Features, Open, Protocol, Transport, Will};
use crate::model::publication::Properties;
use crate::model::{Command, Payload, Principal, Publication, Reason, SessionId, Topic};
use crate::wire::mqtt::{self as wire, ConnAck, ConnAckProperties, Connect, Error, Packet, PacketType, ReasonCode, Version};

/// What CONNACK tells beyond the defaults.
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
        self.wants_problem_information = connect.properties.request_problem_information.unwrap_or(true);
        self.max_packet_bytes = connect.properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get);
        match self.open(connect) {
            Ok(open) => {
                output.realm = Some(self.realm(connect));
                output.commands.push(Command::Open(Box::new(open)));
                self.state = State::Opening;
            }
            Err(reason) => self.refuse_open(reason, output),
        }
    }

    fn open(&mut self, connect: &Connect<'_>) -> Result<Open, Reason> {
        if connect.properties.authentication_method.is_some() {
            return Err(Reason::BadAuthenticationMethod);
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
            receive_maximum: connect.properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get),
            will,
            features: Features::default(),
        })
    }

    /// [MQTT-3.1.3-6]: a client without a name gets one, if its session need not be found again by it.
    fn client_id(&mut self, connect: &Connect<'_>) -> Result<Box<str>, Reason> {
        if !connect.client_id.is_empty() {
            return Ok(connect.client_id.into());
        }
        // [MQTT-3.1.3-8] of 3.1.1; 3.1 wants 1 to 23 characters always.
        if connect.version == Version::V31 || (connect.version == Version::V311 && !connect.clean_start) {
            return Err(Reason::ClientIdNotValid);
        }
        let [high, low] = self.origin.random;
        let random = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        let assigned: Box<str> = uuid::Builder::from_random_bytes(random).into_uuid().simple().to_string().into();
        self.greeting.assigned_client_id = Some(assigned.clone());
        Ok(assigned)
    }

    /// The client's keep-alive, or the longest that is allowed [MQTT-3.1.2-22], [MQTT-3.2.2-21].
    fn agree_on_keep_alive(&mut self, connect: &Connect<'_>) {
        let longest_s = self.settings.limits.max_keep_alive_s;
        let asked_s = connect.keep_alive_s;
        let agreed_s = if longest_s > 0 && (asked_s == 0 || asked_s > longest_s) { longest_s } else { asked_s };
        self.greeting.server_keep_alive_s = (agreed_s != asked_s).then_some(agreed_s);
        self.keep_alive_ms = u64::from(agreed_s) * 1_500;
    }

    /// MAPPING.md, Realms: the listener's, else what follows `@` in the user name, else the default.
    fn realm(&self, connect: &Connect<'_>) -> Box<str> {
        let named = connect.username.and_then(|name| name.rsplit_once('@')).map(|(_, realm)| realm);
        match (&self.settings.listener_realm, named) {
            (Some(realm), _) => realm.clone(),
            (None, Some(realm)) if !realm.is_empty() => realm.into(),
            (None, _) => self.settings.default_realm.clone(),
        }
    }

    /// The realm has opened the session: CONNACK, and input is welcome.
    pub(super) fn handle_opened(&mut self, session_present: bool, now_ms: u64, output: &mut Output) {
        if self.state != State::Opening {
            return;
        }
        self.state = State::Open;
        self.heard_ms = now_ms;
        let limits = &self.settings.limits;
        let properties = ConnAckProperties {
            session_expiry_s: self.greeting.session_expiry_s,
            assigned_client_id: self.greeting.assigned_client_id.as_deref(),
            server_keep_alive_s: self.greeting.server_keep_alive_s,
            response_information: self.greeting.wants_response_information.then_some("$reply/"),
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
            // A client that cannot be told that it is connected is not.
            self.end(ReasonCode::PacketTooLarge, Reason::MessageTooLarge, output);
        }
    }

    /// CONNACK with a refusal, then the end [MQTT-3.2.2-7].
    pub(super) fn refuse_open(&mut self, reason: Reason, output: &mut Output) {
        self.send_refusal(names::code_of(reason, PacketType::ConnAck), &reason.to_string(), output);
        self.state = State::Closed;
        output.close = true;
    }

    fn send_refusal(&mut self, code: ReasonCode, text: &str, output: &mut Output) {
        let properties = ConnAckProperties { reason_string: Some(text), ..ConnAckProperties::default() };
        let connack = Packet::ConnAck(ConnAck { session_present: false, reason: code, properties });
        connack.encode_within(self.version, self.max_packet_bytes, &mut output.bytes).ok();
    }

    /// The first packet was no acceptable CONNECT: 5.0 says why, before it only an unknown version is answered [MQTT-3.1.2-2].
    pub(super) fn refuse_newcomer(&mut self, error: Error, input: &[u8], output: &mut Output) {
        if matches!(error, Error::UnsupportedVersion(_)) {
            self.version = Version::V311;
            self.send_refusal(ReasonCode::UnsupportedProtocolVersion, "", output);
        } else if wire::connect_version(input) == Some(Version::V5) {
            self.version = Version::V5;
            self.send_refusal(error.reason(), &error.to_string(), output);
        }
        self.state = State::Closed;
        output.close = true;
    }
}

/// The announcement of our largest packet; nothing is announced where MQTT itself allows no larger one.
fn packet_size(max_bytes: usize) -> Option<NonZeroU32> {
    const MQTT_MAX_BYTES: u32 = 268_435_455 + 5;
    u32::try_from(max_bytes).ok().filter(|bytes| *bytes < MQTT_MAX_BYTES).and_then(NonZeroU32::new)
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
    if topic.is_reserved() {
        return Err(Reason::NotAuthorized);
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
        user: names::user_properties(&will.properties.user),
        passthru: None,
        outcome: None,
    };
    publication.properties = (properties != Properties::default()).then(|| Box::new(properties));
    Ok(Will { publication: Arc::new(publication), delay_s, expiry_s: will.properties.message_expiry_s })
}
