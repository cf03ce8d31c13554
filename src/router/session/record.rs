//! Records and pieces from which an MQTT session survives a restart.
//!
//! A session that stays after its connection is recorded when it is opened, left and ended. Its subscriptions and the ends of its
//! QoS 2 ids are records before they are answered. Acknowledgements of its client are recorded in batches, which nobody waits
//! for. Events that it is owed are read in the history again, behind its cursor ([`super::backlog`]).
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::command::{
    CalleeForm, InvokePolicy, Past, Protocol, RegisterOptions, RetainHandling, Selection, SubscribeEntry, SubscribeOptions,
    UnsubscribeEntry,
};
use crate::model::record::Kind;
use crate::model::{EventId, Filter, Qos};
use crate::router::base::codec::decode_record;
use crate::router::session::Session;
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

/// A filter as it is recorded, with what was asked for. Earlier versions did not record what comes before live events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Entry {
    pub filter: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Box<str>>,
    /// A procedure, served as a publication (1) or by id (2); 0 is a topic.
    #[serde(default)]
    pub form: u8,
    #[serde(default)]
    pub qos: u8,
    /// 1 no local, 2 retain as published, 4 retained only; for a procedure 1 shared in turn.
    #[serde(default)]
    pub flags: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<u32>,
    /// Only events whose body fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Value>,
    /// Retained messages: 1 always, 2 if it is new; 0 never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retained: u8,
    /// Past events behind this one first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// So many past events first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// The subscription ends behind these.
    #[serde(default, skip_serializing_if = "is_false")]
    pub snapshot: bool,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !*value
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

impl Entry {
    pub fn of_subscribe(entry: &SubscribeEntry) -> Option<Entry> {
        match entry {
            SubscribeEntry::Topic { filter, share, options } => Entry::of_topic(filter, share.clone(), options, None),
            // With QoS 0 nothing is owed: a snapshot ends with the process, and any other subscription goes on with live events.
            SubscribeEntry::Selected { options, selection, .. } if options.qos == Qos::AtMostOnce && selection.is_snapshot => {
                None
            }
            SubscribeEntry::Selected { filter, options, selection } if options.qos == Qos::AtMostOnce => {
                Entry::of_topic(filter, None, options, selection.pattern.clone())
            }
            SubscribeEntry::Selected { filter, options, selection } => Entry::of_selected(filter, options, selection),
            SubscribeEntry::Procedure { filter, options } => Some(Entry {
                filter: filter.as_mqtt()?.into(),
                share: None,
                form: form_number(options.form),
                qos: options.qos.bits(),
                flags: u8::from(options.invoke != InvokePolicy::Single),
                identifier: options.identifier,
                ..Entry::default()
            }),
            SubscribeEntry::Refused(_) => None,
        }
    }

    pub fn of_topic(
        filter: &Filter,
        share: Option<Box<str>>,
        options: &SubscribeOptions,
        pattern: Option<Value>,
    ) -> Option<Entry> {
        let flags = [options.no_local, options.retain_as_published, options.retained_only];
        let flags = flags.iter().rev().fold(0, |flags, is_set| flags << 1 | u8::from(*is_set));
        let (qos, identifier) = (options.qos.bits(), options.identifier);
        let retained = match options.retain_handling {
            RetainHandling::Always if options.qos > Qos::AtMostOnce => 1,
            RetainHandling::IfNew if options.qos > Qos::AtMostOnce => 2,
            _ => 0,
        };
        Some(Entry { filter: filter.as_mqtt()?.into(), share, qos, flags, identifier, pattern, retained, ..Entry::default() })
    }

    pub fn of_selected(filter: &Filter, options: &SubscribeOptions, selection: &Selection) -> Option<Entry> {
        let (after, last) = match selection.past {
            Some(Past::After(after)) => (Some(after.map_or(0, EventId::value)), None),
            Some(Past::Last(count)) => (None, Some(count)),
            None => (None, None),
        };
        let entry = Entry::of_topic(filter, None, options, selection.pattern.clone())?;
        Some(Entry { after, last, snapshot: selection.is_snapshot, ..entry })
    }

    /// True if what its session published does not come to it.
    pub fn has_no_local(&self) -> bool {
        self.flags & 1 != 0
    }

    /// The past events that are asked for.
    pub fn past(&self) -> Option<Past> {
        let after = self.after.map(|after| Past::After(EventId::new(after)));
        after.or(self.last.map(Past::Last))
    }

    pub fn of_unsubscribe(entry: &UnsubscribeEntry) -> Option<Entry> {
        let (filter, share, form) = match entry {
            UnsubscribeEntry::Topic { filter, share } => (filter, share.clone(), 0),
            UnsubscribeEntry::Procedure { filter, form } => (filter, None, form_number(*form)),
            _ => return None,
        };
        Some(Entry { filter: filter.as_mqtt()?.into(), share, form, ..Entry::default() })
    }

    pub fn to_subscribe(&self) -> Option<SubscribeEntry> {
        let filter = Filter::from_mqtt(&self.filter).ok()?;
        let qos = Qos::from_bits(self.qos)?;
        let identifier = self.identifier;
        Some(match form_of(self.form) {
            Some(form) => {
                let invoke = if self.flags == 0 { InvokePolicy::Single } else { InvokePolicy::RoundRobin };
                let options = RegisterOptions { invoke, form, qos, identifier, ..RegisterOptions::default() };
                SubscribeEntry::Procedure { filter, options }
            }
            None => {
                let options = SubscribeOptions {
                    qos,
                    no_local: self.flags & 1 != 0,
                    retain_as_published: self.flags & 2 != 0,
                    retained_only: self.flags & 4 != 0,
                    retain_handling: match self.retained {
                        1 => RetainHandling::Always,
                        2 => RetainHandling::IfNew,
                        _ => RetainHandling::Never,
                    },
                    identifier,
                };
                let selection = Selection { past: self.past(), is_snapshot: self.snapshot, pattern: self.pattern.clone() };
                match selection == Selection::default() {
                    true => SubscribeEntry::Topic { filter, share: self.share.clone(), options },
                    false => SubscribeEntry::Selected { filter, options, selection: Box::new(selection) },
                }
            }
        })
    }

    pub fn to_unsubscribe(&self) -> Option<UnsubscribeEntry> {
        let filter = Filter::from_mqtt(&self.filter).ok()?;
        Some(match form_of(self.form) {
            Some(form) => UnsubscribeEntry::Procedure { filter, form },
            None => UnsubscribeEntry::Topic { filter, share: self.share.clone() },
        })
    }
}

pub fn form_number(form: CalleeForm) -> u8 {
    match form {
        CalleeForm::Invocation | CalleeForm::Publication => 1,
        CalleeForm::PublicationById => 2,
    }
}

pub fn form_of(number: u8) -> Option<CalleeForm> {
    match number {
        1 => Some(CalleeForm::Publication),
        2 => Some(CalleeForm::PublicationById),
        _ => None,
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
