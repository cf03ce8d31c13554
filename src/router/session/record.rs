//! Records and pieces from which an MQTT session survives a restart.
//!
//! A session that stays after its connection is recorded when it is opened, left and ended. Its subscriptions and the ends of its
//! QoS 2 ids are records before they are answered. Acknowledgements of its client are recorded in batches, which nobody waits
//! for. Events that it is owed are read in the history again, behind its cursor ([`super::backlog`]).
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::model::command::Protocol;
use crate::model::record::Kind;
use crate::router::base::codec::decode_record;
use crate::router::session::Session;
use crate::router::session::entry::{Entry, is_false};
use crate::router::session::resumable::{ReplayProgress, ReplayState};
use crate::router::session::window::Begun;

/// The time that acknowledgements may wait for their record.
pub const CHECKPOINT_MS: u64 = 200;

/// The owner of the keys of a client's QoS 2 handshakes is this and the client id.
pub const HANDSHAKES: &str = "mqtt:";

/// [`Kind::SESSION`]
#[derive(Serialize, Deserialize)]
pub enum SessionChange {
    /// A client has connected to it, or it begins.
    Opened {
        client: Box<str>,
        session: u64,
        authid: Box<str>,
        authrole: Box<str>,
        protocol: u8,
        expiry_s: u32,
        will_delay_s: u32,
    },
    /// Its client has gone: it expires so many seconds after this record. Nothing behind event `sent` was sent to it.
    Left { client: Box<str>, expiry_s: u32, sent: u64 },
    /// The session is over.
    Ended { client: Box<str> },
}

/// [`Kind::SUBSCRIPTION`]
#[derive(Serialize, Deserialize)]
pub enum SubscriptionChange {
    Subscribed { client: Box<str>, entries: Vec<Entry> },
    Unsubscribed { client: Box<str>, entries: Vec<Entry> },
}

/// [`Kind::HANDSHAKE`]: the steps of QoS 2 that a packet id must not forget.
#[derive(Serialize, Deserialize)]
pub enum Handshake {
    /// From a client: PUBREL ends the use of the id.
    Released { client: Box<str>, packet_id: NonZeroU16 },
    /// Towards a client: the id is given to this event, which may come through a shared subscription, or in a replay.
    Sent {
        client: Box<str>,
        packet_id: NonZeroU16,
        event: u64,
        is_shared: bool,
        #[serde(default, skip_serializing_if = "is_false")]
        is_replayed: bool,
    },
    /// Towards a client: PUBREC has come.
    Received { client: Box<str>, packet_id: NonZeroU16 },
}

/// [`Kind::CURSOR`]: how far a client has come. Ranges of ids include both ends.
#[derive(Serialize, Deserialize)]
pub struct Checkpoint {
    pub client: Box<str>,
    /// Everything up to here is over.
    pub cursor: u64,
    /// So is this behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over: Vec<(u64, u64)>,
    /// The number of events that were over for it, ever.
    pub done: u64,
    /// Events that came through shared subscriptions and were over since the checkpoint before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<(u64, u64)>,
    /// The same of what came in replays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replayed: Vec<(u64, u64)>,
    /// The progress of the session in the replays that have changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replays: Vec<ReplayProgress>,
}

/// True for the record of a session's opening.
pub fn opens_session(kind: Kind, body: &[u8]) -> bool {
    kind == Kind::SESSION && matches!(decode_record(body), Some(SessionChange::Opened { .. }))
}

pub fn level_of(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Mqtt31 => 3,
        Protocol::Mqtt311 => 4,
        Protocol::Mqtt5 | Protocol::Wamp => 5,
    }
}

pub fn protocol_of(level: u8) -> Protocol {
    match level {
        3 => Protocol::Mqtt31,
        4 => Protocol::Mqtt311,
        _ => Protocol::Mqtt5,
    }
}

/// Of [`PieceKey::Session`]
#[derive(Serialize, Deserialize)]
pub struct SessionState {
    pub session: u64,
    pub authid: Box<str>,
    pub authrole: Box<str>,
    pub protocol: u8,
    pub expiry_s: u32,
    pub left_ms: Option<u64>,
    pub sent_until: u64,
    pub cursor: u64,
    pub over: Vec<(u64, u64)>,
    pub done: u64,
    pub routed: u64,
    pub will_delay_s: u32,
    pub uses: u64,
    pub unreleased: Vec<u16>,
    /// The oldest packet id that is in use towards the client, or the next.
    pub first_packet_id: u16,
    /// QoS 2 deliveries that have begun: packet id, event, and how far they have come.
    pub begun: Vec<(u16, u64, Begun)>,
    /// Everything subscribed and served, with the last event before.
    pub entries: Vec<(Entry, u64)>,
    pub shared: Vec<SharedState>,
    #[serde(default)]
    pub replays: Vec<ReplayState>,
}

/// An event that a session is owed through a shared subscription.
#[derive(Serialize, Deserialize)]
pub struct SharedState {
    pub event: u64,
    pub filter: Box<str>,
    pub share: Box<str>,
    pub qos: u8,
    pub retain: bool,
    pub identifiers: Vec<u64>,
    /// Of QoS 2 that was sent.
    pub packet_id: Option<u16>,
}

impl Session {
    /// True if its piece is not what it was when it was kept.
    pub fn is_piece_changed(&self) -> bool {
        let routed = self.backlog.as_ref().map_or(0, |backlog| backlog.routed());
        self.is_recorded && (self.is_changed || routed != self.kept_routed)
    }

    pub fn note_piece_kept(&mut self) {
        self.kept_routed = self.backlog.as_ref().map_or(0, |backlog| backlog.routed());
        self.is_changed = false;
    }
}
