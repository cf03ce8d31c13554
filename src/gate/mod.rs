//! The protocol machine of one connection, without socket or clock: it makes commands of bytes, and bytes of deliveries.
pub mod arguments;
pub mod condition;
pub mod dedup;
pub mod fit;
pub mod known;
pub mod mqtt;
mod output;
pub mod report;
pub mod selection;
pub mod wamp;

use std::sync::Arc;

use bytes::Bytes;

pub use output::Output;

use crate::model::{Delivery, Encoding, Limits};

/// The settings that every gate of a listener needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bounds.
    pub limits: Limits,
    /// The realm of clients that name none.
    pub default_realm: Box<str>,
    /// The realm of every MQTT client of this listener, whatever it says.
    pub listener_realm: Option<Box<str>>,
    /// Realms that the configuration names: an MQTT client may name one of them behind `@` in its user name.
    pub named_realms: Arc<[Box<str>]>,
    /// Any text behind `@` in the user name of an MQTT client is its realm.
    pub realm_from_user: bool,
    /// Clients without credentials are let in.
    pub allow_anonymous: bool,
    /// Filters that no MQTT client may subscribe to.
    pub refused_filters: Vec<Box<str>>,
    /// Where clients are sent at shutdown (MQTT 5 server reference).
    pub server_reference: Option<Box<str>>,
    /// The realms keep a history.
    pub has_history: bool,
    /// The numbering of requests that WAMP clients must keep.
    pub request_ids: RequestIds,
}

/// Which request ids a WAMP client may use, from 1 to 2^53 (WAMP: Basic, Identifiers).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RequestIds {
    /// Every one that is not open in its session: many client libraries number at random.
    #[default]
    Any,
    /// The one behind the last, as the specification says; the first of a session may be any.
    CountingByOne,
}

/// The origin of a connection.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The peer's address.
    pub peer: Box<str>,
    /// `tcp`, `websocket` or `rawsocket`.
    pub transport: &'static str,
    /// Random bits of this connection's own, for the ids it hands out.
    pub random: [u64; 2],
}

/// Bytes from a socket.
#[derive(Clone, Copy, Debug)]
pub enum Arrived<'a> {
    /// They are gone after the call: what is to stay is copied.
    Lent(&'a [u8]),
    /// A large part of them may stay as it is.
    Shared(&'a Bytes),
}

impl<'a> Arrived<'a> {
    /// All of them.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Arrived::Lent(bytes) => bytes,
            Arrived::Shared(bytes) => bytes,
        }
    }

    /// A part of them that stays. The part holds no more than twice its own size in memory.
    pub fn keep(self, part: &[u8]) -> Bytes {
        match self {
            Arrived::Shared(bytes) if part.len() >= bytes.len() / 2 => bytes.slice_ref(part),
            _ => Bytes::copy_from_slice(part),
        }
    }
}

impl<'a> From<&'a [u8]> for Arrived<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Arrived::Lent(bytes)
    }
}

/// The part of some input that was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Used {
    /// The bytes used, from its front.
    pub bytes: usize,
    /// The rest is the beginning of something with at least as many bytes; 0 if that is not known.
    pub unfinished: usize,
}

/// A gate of either protocol.
#[derive(Debug)]
pub enum Gate {
    /// MQTT of any version.
    Mqtt(Box<mqtt::MqttGate>),
    /// WAMP, whose messages come whole or in RawSocket frames.
    Wamp(Box<wamp::WampGate>),
}

impl Gate {
    /// A gate that waits for MQTT's CONNECT.
    pub fn mqtt(settings: Arc<Settings>, origin: Origin, now_ms: u64) -> Self {
        Gate::Mqtt(Box::new(mqtt::MqttGate::new(settings, origin, now_ms)))
    }

    /// A gate that waits for WAMP's HELLO, every input being one message.
    pub fn wamp(settings: Arc<Settings>, origin: Origin, encoding: Encoding, now_ms: u64) -> Self {
        Gate::Wamp(Box::new(wamp::WampGate::messages(settings, origin, encoding, now_ms)))
    }

    /// A gate that waits for the RawSocket handshake.
    pub fn rawsocket(settings: Arc<Settings>, origin: Origin, now_ms: u64) -> Self {
        Gate::Wamp(Box::new(wamp::WampGate::rawsocket(settings, origin, now_ms)))
    }

    /// Bytes from the socket; what is not used is the start of something unfinished.
    pub fn handle_bytes<'a>(&mut self, input: impl Into<Arrived<'a>>, now_ms: u64, output: &mut Output) -> Used {
        match self {
            Gate::Mqtt(gate) => gate.handle_bytes(input.into(), now_ms, output),
            Gate::Wamp(gate) => Used { bytes: gate.handle_bytes(input.into().bytes(), now_ms, output), unfinished: 0 },
        }
    }

    /// Where the connection comes from.
    pub fn peer(&self) -> &str {
        match self {
            Gate::Mqtt(gate) => gate.peer(),
            Gate::Wamp(gate) => gate.peer(),
        }
    }

    /// True while input is welcome; what arrives else is offered again later.
    pub fn wants_input(&self) -> bool {
        match self {
            Gate::Mqtt(gate) => gate.wants_input(),
            Gate::Wamp(gate) => gate.wants_input(),
        }
    }

    /// One delivery of the realm.
    pub fn handle_delivery(&mut self, delivery: Delivery, now_ms: u64, output: &mut Output) {
        match self {
            Gate::Mqtt(gate) => gate.handle_delivery(delivery, now_ms, output),
            Gate::Wamp(gate) => gate.handle_delivery(delivery, output),
        }
    }

    /// Deliveries that were lost at the bound of the outbox since the last time.
    pub fn handle_dropped(&mut self, count: u64) {
        match self {
            Gate::Mqtt(gate) => gate.handle_dropped(count),
            // WAMP has no place to say so on an event; the meta event tells.
            Gate::Wamp(_) => {}
        }
    }

    /// Does all that is due at `now_ms`.
    pub fn handle_timeout(&mut self, now_ms: u64, output: &mut Output) {
        match self {
            Gate::Mqtt(gate) => gate.handle_timeout(now_ms, output),
            Gate::Wamp(gate) => gate.handle_timeout(now_ms, output),
        }
    }

    /// A part of something has come that the gate has not seen, or nothing is read: its client is not silent.
    pub fn note_heard(&mut self, now_ms: u64) {
        match self {
            Gate::Mqtt(gate) => gate.note_heard(now_ms),
            Gate::Wamp(_) => {} // knows no keep-alive
        }
    }

    /// A packet has begun that does not go on.
    pub fn handle_slow(&mut self, output: &mut Output) {
        match self {
            Gate::Mqtt(gate) => gate.handle_slow(output),
            Gate::Wamp(gate) => gate.handle_slow(output),
        }
    }

    /// The socket has ended, in whatever way.
    pub fn handle_end(&mut self, output: &mut Output) {
        match self {
            Gate::Mqtt(gate) => gate.handle_end(output),
            Gate::Wamp(gate) => gate.handle_end(output),
        }
    }

    /// When `handle_timeout` is next needed.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self {
            Gate::Mqtt(gate) => gate.poll_timeout(),
            Gate::Wamp(gate) => gate.poll_timeout(),
        }
    }
}
