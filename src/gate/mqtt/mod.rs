//! The MQTT gate: one connection of 3.1, 3.1.1 or 5.0, from CONNECT to its end.
mod aliases;
mod incoming;
mod names;
mod open;
mod outgoing;

use std::sync::Arc;

use crate::gate::report::{Ending, stranger};
use crate::gate::{Arrived, Origin, Output, Settings, Used};
use crate::model::command::{AcknowledgeStep, Acknowledgement};
use crate::model::{Command, PacketId, Reason};
use crate::wire::mqtt::{
    self, Characters, Disconnect, DisconnectProperties, Error, Frame, Packet, PacketType, Peer, ReasonCode, Version,
};
use aliases::{InboundTopics, OutboundAliases};

/// Where a connection stands; the legal steps are Newcomer -> Opening -> Open -> Closed, and any -> Closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Waits for CONNECT.
    Newcomer,
    /// CONNECT is with the realm; nothing is read until it answers, so that CONNACK comes first [MQTT-3.2.0-1].
    Opening,
    /// Open for everything.
    Open,
    /// Nothing more is read or written [MQTT-3.14.4-1].
    Closed,
}

/// One MQTT connection.
#[derive(Debug)]
pub struct MqttGate {
    settings: Arc<Settings>,
    origin: Origin,
    state: State,
    version: Version,
    /// The client passes messages on for another broker.
    is_bridge: bool,
    topics: InboundTopics,
    aliases: OutboundAliases,
    /// The client's Maximum Packet Size.
    max_packet_bytes: u32,
    /// The client wants reason strings [MQTT-3.1.2-29].
    wants_problem_information: bool,
    /// The content of CONNACK beyond the defaults.
    greeting: open::Greeting,
    /// Session expiry of CONNECT: DISCONNECT may not turn 0 into something else (3.14.2.2.2).
    expiry_s: u32,
    /// One and a half keep-alives; 0 = none.
    keep_alive_ms: u64,
    heard_ms: u64,
    opened_by_ms: u64,
    dropped: u64,
}

impl MqttGate {
    /// A connection of which nothing is known yet.
    pub fn new(settings: Arc<Settings>, origin: Origin, now_ms: u64) -> Self {
        let opened_by_ms = now_ms + settings.limits.open_timeout_ms;
        MqttGate {
            origin,
            state: State::Newcomer,
            version: Version::V311,
            is_bridge: false,
            topics: InboundTopics::new(settings.limits.topic_alias_maximum),
            aliases: OutboundAliases::default(),
            max_packet_bytes: u32::MAX,
            wants_problem_information: true,
            greeting: open::Greeting::default(),
            expiry_s: 0,
            keep_alive_ms: 0,
            heard_ms: now_ms,
            opened_by_ms,
            dropped: 0,
            settings,
        }
    }

    /// Handles every whole packet in `input`, and says how long the next one is, as far as that is known.
    pub fn handle_bytes<'a>(&mut self, input: impl Into<Arrived<'a>>, now_ms: u64, output: &mut Output) -> Used {
        self.heard_ms = now_ms;
        let (arrived, mut used, mut unfinished) = (input.into(), 0, 0);
        let input = arrived.bytes();
        while matches!(self.state, State::Newcomer | State::Open) {
            let rest = input.get(used..).unwrap_or_default();
            match self.handle_head(arrived, rest, now_ms, output) {
                Ok(Frame::Complete { length }) => used += length,
                Ok(Frame::Incomplete { at_least }) => {
                    unfinished = at_least;
                    break;
                }
                Err(error) => {
                    self.refuse(error, rest, output);
                    break;
                }
            }
        }
        let bytes = if self.state == State::Closed { input.len() } else { used };
        Used { bytes, unfinished }
    }

    /// Where the connection comes from.
    pub fn peer(&self) -> &str {
        &self.origin.peer
    }

    /// True while input is welcome; false between CONNECT and CONNACK.
    pub fn wants_input(&self) -> bool {
        self.state != State::Opening
    }

    /// Handles the packet at the head of `input`, which is the rest of what has arrived, if it is whole.
    fn handle_head(&mut self, arrived: Arrived<'_>, input: &[u8], now_ms: u64, output: &mut Output) -> Result<Frame, Error> {
        let limits = &self.settings.limits;
        let (peer, max_bytes) = match self.state {
            State::Newcomer => (Peer::Newcomer, limits.max_packet_before_auth_bytes),
            _ => (Peer::Client, limits.max_packet_bytes),
        };
        let max_bytes = u32::try_from(max_bytes).unwrap_or(u32::MAX);
        let found = mqtt::frame(input, max_bytes, self.version, peer)?;
        let Frame::Complete { length } = found else { return Ok(found) };
        let frame = input.get(..length).unwrap_or_default();
        let first = frame.first().copied().unwrap_or_default();
        if peer == Peer::Client && PacketType::from_first_byte(first) == Some(PacketType::Publish) {
            self.handle_publish(arrived, frame, now_ms, output)?;
            return Ok(found);
        }
        // Looked at where it is: a packet is large.
        let packet = mqtt::decode_with(frame, self.version, peer, Characters::Strict);
        let packet = packet.as_ref().map_err(|error| *error)?;
        output.received += 1;
        self.handle_packet(packet, output)?;
        Ok(found)
    }

    fn handle_packet(&mut self, packet: &Packet<'_>, output: &mut Output) -> Result<(), Error> {
        match packet {
            Packet::Connect(connect) => self.handle_connect(connect, output),
            Packet::PubAck(ack) if ack.reason.is_error() => acknowledge(ack.packet_id, AcknowledgeStep::Declined, output),
            Packet::PubAck(ack) => acknowledge(ack.packet_id, AcknowledgeStep::Acknowledged, output),
            Packet::PubRec(ack) if ack.reason.is_error() => acknowledge(ack.packet_id, AcknowledgeStep::Rejected, output), // [MQTT-4.4.0-2]
            Packet::PubRec(ack) => acknowledge(ack.packet_id, AcknowledgeStep::Received, output),
            Packet::PubComp(ack) => acknowledge(ack.packet_id, AcknowledgeStep::Completed, output),
            Packet::PubRel(ack) => output.commands.push(Command::Release(PacketId(ack.packet_id))),
            Packet::Subscribe(subscribe) => self.handle_subscribe(subscribe, output),
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(unsubscribe, output),
            // By the realm, so that its answer does not overtake those owed for earlier packets.
            Packet::PingReq => output.commands.push(Command::Ping),
            Packet::Disconnect(disconnect) => return self.handle_disconnect(disconnect, output),
            // [MQTT-4.12.0-6], [MQTT-4.12.0-7]: no authentication has begun that AUTH could continue.
            Packet::Auth(_) => self.end(ReasonCode::ProtocolError, Reason::ProtocolViolation, output),
            // PUBLISH has its own way, and the others are the server's.
            Packet::Publish(_) | Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {}
        }
        Ok(())
    }

    /// Answers a fault of the client: by CONNACK where it may be, by DISCONNECT in 5.0, by silence before.
    fn refuse(&mut self, error: Error, input: &[u8], output: &mut Output) {
        output.report.end(Ending::Cut(names::reason_of(error), describe(error, input, self.state == State::Newcomer).into()));
        match self.state {
            State::Newcomer => {
                // Only a whole CONNECT within its bound says which version its refusal is to be written in.
                let max_bytes = u32::try_from(self.settings.limits.max_packet_before_auth_bytes).unwrap_or(u32::MAX);
                let length = match mqtt::frame(input, max_bytes, self.version, Peer::Newcomer) {
                    Ok(Frame::Complete { length }) => length,
                    _ => 0,
                };
                self.refuse_newcomer(error, input.get(..length).unwrap_or_default(), output);
            }
            _ => self.end(error.reason(), names::reason_of(error), output),
        }
    }

    /// Ends an open connection from this side [MQTT-4.13.1-1].
    fn end(&mut self, code: ReasonCode, reason: Reason, output: &mut Output) {
        self.disconnect(code, reason, output);
        output.commands.push(Command::Lost(reason));
    }

    /// DISCONNECT, if the client can read one, then nothing more [MQTT-3.14.4-2], [MQTT-4.13.2-1].
    fn disconnect(&mut self, code: ReasonCode, reason: Reason, output: &mut Output) {
        output.report.end(Ending::cut(reason));
        // [MQTT-3.14.0-1]: not before CONNACK.
        if self.version == Version::V5 && self.state == State::Open {
            let is_moving = code == ReasonCode::ServerShuttingDown;
            let properties = DisconnectProperties {
                reason_string: Some(code.name()),
                server_reference: self.settings.server_reference.as_deref().filter(|_| is_moving),
                ..DisconnectProperties::default() // [MQTT-3.14.2-2]
            };
            // A DISCONNECT that does not fit even without words is left out: closing says enough [MQTT-3.14.2-3].
            let packet = Packet::Disconnect(Disconnect { reason: code, properties });
            packet.encode_within(Version::V5, self.max_packet_bytes, &mut output.bytes).ok();
        }
        self.state = State::Closed;
        output.close = true;
    }

    /// The socket has ended.
    pub fn handle_end(&mut self, output: &mut Output) {
        if matches!(self.state, State::Open | State::Opening) {
            output.commands.push(Command::Lost(Reason::ConnectionLost));
        }
        self.state = State::Closed;
    }

    /// Deliveries that were lost at the outbox.
    pub fn handle_dropped(&mut self, count: u64) {
        self.dropped += count;
    }

    /// The client is not silent, whatever has been seen of what it sends.
    pub fn note_heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// A packet has begun that does not go on.
    pub fn handle_slow(&mut self, output: &mut Output) {
        match self.state {
            State::Open => self.end(ReasonCode::ImplementationSpecificError, Reason::TooSlow, output),
            State::Newcomer | State::Opening => self.give_up(output),
            State::Closed => {}
        }
    }

    /// Ends a connection that never opened.
    fn give_up(&mut self, output: &mut Output) {
        output.report.end(Ending::cut(Reason::TooSlow));
        self.handle_end(output);
        output.close = true;
    }

    /// Keep-alive, and connections that never open.
    pub fn handle_timeout(&mut self, now_ms: u64, output: &mut Output) {
        if self.poll_timeout().is_none_or(|due_ms| due_ms > now_ms) {
            return;
        }
        match self.state {
            State::Open => self.end(ReasonCode::KeepAliveTimeout, Reason::KeepAliveTimeout, output),
            State::Newcomer | State::Opening => self.give_up(output),
            State::Closed => {}
        }
    }

    /// When `handle_timeout` is next needed.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.state {
            State::Newcomer | State::Opening => Some(self.opened_by_ms),
            State::Open => (self.keep_alive_ms > 0).then(|| self.heard_ms + self.keep_alive_ms),
            State::Closed => None,
        }
    }
}

/// The fault of the packet at the head of `input`, in words: its name, its size where that is the fault, or the protocol that its
/// sender speaks instead of MQTT.
fn describe(error: Error, input: &[u8], is_newcomer: bool) -> String {
    let first = input.first().copied().unwrap_or_default();
    if is_newcomer
        && first != 0x10
        && let Some(other) = stranger(input)
    {
        return format!("these bytes begin {other}");
    }
    let packet = PacketType::from_first_byte(first).map_or("packet type 0".to_owned(), |packet| format!("{packet:?}"));
    let packet = packet.to_uppercase();
    match (error, mqtt::declared_bytes(input)) {
        (Error::TooLarge, Some(bytes)) => format!("{packet} of {bytes} bytes"),
        (Error::UnsupportedVersion(level), _) => format!("{packet}: {error}: {level}"),
        _ => format!("{packet}: {error}"),
    }
}

/// Adds one step to the batch of this read.
fn acknowledge(packet_id: std::num::NonZeroU16, step: AcknowledgeStep, output: &mut Output) {
    let acknowledgement = Acknowledgement { packet_id: PacketId(packet_id), step };
    match output.commands.last_mut() {
        Some(Command::Acknowledge(steps)) => steps.push(acknowledgement),
        _ => output.commands.push(Command::Acknowledge(vec![acknowledgement])),
    }
}

#[cfg(test)]
pub mod tests {
    //! Gates at work, for the tests of this folder.
    use super::*;
    use crate::gate::Origin;
    use crate::model::{Delivery, Limits, SessionId};

    /// CONNECT of client `a` in 3.1.1, with a clean session.
    pub const CONNECT_V4: &[u8] = b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01a";

    /// The same in 5.0.
    pub const CONNECT_V5: &[u8] = b"\x10\x0E\0\x04MQTT\x05\x02\0\0\0\0\x01a";

    /// A gate that has been sent this CONNECT and waits for its realm.
    pub fn connecting(connect: &[u8]) -> MqttGate {
        let settings = Settings {
            limits: Limits::default(),
            default_realm: "realm1".into(),
            named_realms: Arc::default(),
            realm_from_user: false,
            listener_realm: None,
            allow_anonymous: true,
            refused_filters: Vec::new(),
            server_reference: None,
            has_history: true,
            request_ids: Default::default(),
        };
        let origin = Origin { peer: "127.0.0.1:1".into(), transport: "tcp", random: [1 << 40, 2] };
        let (mut gate, mut output) = (MqttGate::new(Arc::new(settings), origin, 0), Output::default());
        assert_eq!(gate.handle_bytes(connect, 0, &mut output).bytes, connect.len());
        assert!(matches!(output.commands[..], [Command::Open(_)]), "{output:?}");
        gate
    }

    /// A gate that is open after this CONNECT.
    pub fn opened(connect: &[u8]) -> MqttGate {
        let (mut gate, mut output) = (connecting(connect), Output::default());
        gate.handle_delivery(Delivery::Opened { session: SessionId(1), session_present: false }, 0, &mut output);
        assert!(output.bytes.starts_with(b"\x20") && !output.close, "{output:?}");
        gate
    }
}
