//! What of MQTT sessions outlives the process: as records, each made when something changes and applied again at the next start.
//!
//! A session that stays after its connection is recorded when it is opened, left and ended; its subscriptions and the ends of its
//! QoS 2 ids are records before they are answered; what its client has acknowledged is recorded in batches, which nobody waits
//! for. What it is owed follows from the publications behind its subscriptions, minus what was acknowledged.
use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Router;
use super::append::Place;
use super::lifecycle::Due;
use super::session::{Repeats, Session, SessionKey};
use crate::model::command::{
    CalleeForm, Features, InvokePolicy, Open, Protocol, RegisterOptions, RetainHandling, Selection, SubscribeEntry,
    SubscribeOptions, Transport, UnsubscribeEntry,
};
use crate::model::delivery::Event;
use crate::model::record::{DedupKey, Flags, Kind};
use crate::model::{
    Command, ConnectionId, Delivery, EventId, Filter, Limits, PacketId, Principal, PublicationId, Qos, Reason, Record, SessionId,
};

/// How long what was acknowledged may wait for its record.
pub(super) const CHECKPOINT_MS: u64 = 200;

/// [`Kind::SESSION`]
#[derive(Serialize, Deserialize)]
enum SessionChange {
    /// A client has connected to it, or it begins.
    Opened { client: Box<str>, session: u64, authid: Box<str>, authrole: Box<str>, protocol: u8, expiry_s: u32 },
    /// Its client has gone: it expires so many seconds after this record.
    Left { client: Box<str>, expiry_s: u32 },
    /// It is over.
    Ended { client: Box<str> },
}

/// [`Kind::SUBSCRIPTION`]
#[derive(Serialize, Deserialize)]
enum SubscriptionChange {
    Subscribed { client: Box<str>, entries: Vec<Entry> },
    Unsubscribed { client: Box<str>, entries: Vec<Entry> },
}

/// A filter as it is recorded, with what was asked for.
#[derive(Serialize, Deserialize)]
struct Entry {
    filter: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<Box<str>>,
    /// A procedure, served as a publication (1) or by id (2); 0 is a topic.
    #[serde(default)]
    form: u8,
    #[serde(default)]
    qos: u8,
    /// 1 no local, 2 retain as published, 4 retained only; of a procedure: 1 shared in turn.
    #[serde(default)]
    flags: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identifier: Option<u32>,
    /// Only events whose body fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pattern: Option<Value>,
}

/// [`Kind::HANDSHAKE`]: the steps of QoS 2 that a packet id must not forget.
#[derive(Serialize, Deserialize)]
enum Handshake {
    /// From a client: PUBREL ends the use of the id.
    Released { client: Box<str>, packet_id: NonZeroU16 },
    /// Towards a client: the id is given to this event.
    Sent { client: Box<str>, packet_id: NonZeroU16, event: u64 },
    /// Towards a client: PUBREC has come.
    Received { client: Box<str>, packet_id: NonZeroU16 },
}

/// [`Kind::CURSOR`]: events that are over for a client, as ranges of ids, both ends included.
#[derive(Serialize, Deserialize)]
struct Finished {
    client: Box<str>,
    ranges: Vec<(u64, u64)>,
}

fn encode(change: &impl Serialize) -> Bytes {
    // Numbers, texts and lists of them always have a form.
    serde_json::to_vec(change).map(Bytes::from).unwrap_or_default()
}

/// What a session has been acknowledged since its last checkpoint.
#[derive(Debug, Default)]
pub struct Progress {
    ranges: Vec<(u64, u64)>,
}

impl Progress {
    /// One more; true if it is the first.
    fn note(&mut self, id: EventId) -> bool {
        let (is_first, id) = (self.ranges.is_empty(), id.value());
        match self.ranges.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => self.ranges.push((id, id)),
        }
        is_first
    }
}

impl Session {
    /// True if it stays after its connection, and so after the process.
    pub(super) fn is_durable(&self) -> bool {
        self.protocol.is_mqtt() && self.expiry_s > 0 && self.client_id.is_some()
    }
}

impl Router {
    /// A session that stays has been opened.
    pub(super) fn record_opened(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at(key).filter(|session| session.is_durable()) else { return };
        let Some(client) = session.client_id.clone() else { return };
        let change = SessionChange::Opened {
            client,
            session: session.id.0,
            authid: (&*session.principal.authid).into(),
            authrole: (&*session.principal.authrole).into(),
            protocol: level_of(session.protocol),
            expiry_s: session.expiry_s,
        };
        self.append_change(Some(key), Kind::SESSION, encode(&change), None);
    }

    /// The client of a session that stays has gone.
    pub(super) fn record_left(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at(key).filter(|session| session.is_durable()) else { return };
        let Some(client) = session.client_id.clone() else { return };
        let change = SessionChange::Left { client, expiry_s: session.expiry_s };
        self.append_change(Some(key), Kind::SESSION, encode(&change), None);
    }

    /// A session is over that may be on record.
    pub(super) fn record_ended(&mut self, key: SessionKey, session: &Session) {
        self.progressed.retain(|progressed| *progressed != key);
        if self.progressed.is_empty()
            && let Some(timer) = self.checkpoint_timer.take()
        {
            self.timers.clear(timer);
        }
        if let Some(client) = session.client_id.clone().filter(|_| session.is_recorded) {
            self.append_change(None, Kind::SESSION, encode(&SessionChange::Ended { client }), None);
        }
    }

    /// The record that a command of a session that stays must be, before it is carried out.
    pub(super) fn record_of(&self, key: SessionKey, command: &Command) -> Option<(Kind, Bytes)> {
        let session = self.sessions.at(key).filter(|session| session.is_durable())?;
        let client = session.client_id.clone()?;
        match command {
            Command::Subscribe { entries, .. } => {
                let entries = entries.iter().filter_map(Entry::of_subscribe).collect();
                Some((Kind::SUBSCRIPTION, encode(&SubscriptionChange::Subscribed { client, entries })))
            }
            Command::Unsubscribe { entries, .. } => {
                let entries = entries.iter().filter_map(Entry::of_unsubscribe).collect();
                Some((Kind::SUBSCRIPTION, encode(&SubscriptionChange::Unsubscribed { client, entries })))
            }
            Command::Release(packet_id) if session.unreleased.contains_key(packet_id) => {
                let packet_id = packet_id.0;
                Some((Kind::HANDSHAKE, encode(&Handshake::Released { client, packet_id })))
            }
            _ => None,
        }
    }

    /// What recognizes a QoS 2 publication after a restart: client, packet id, and which use of it this is.
    pub(super) fn handshake_key(&mut self, key: SessionKey, packet_id: PacketId) -> Option<DedupKey> {
        let session = self.sessions.at_mut(key).filter(|session| session.is_durable())?;
        session.uses += 1;
        let mut key = packet_id.value().to_le_bytes().to_vec();
        key.extend_from_slice(&session.uses.to_le_bytes());
        Some(DedupKey { owner: format!("mqtt:{}", session.client_id.as_deref()?).into(), key: key.into() })
    }

    /// A delivery of a stored event is over.
    pub(super) fn note_finished(&mut self, key: SessionKey, publication: PublicationId) {
        let Some(session) = self.sessions.at_mut(key).filter(|session| session.is_recorded) else { return };
        if EventId::new(publication.0).is_some_and(|id| session.progress.note(id)) {
            self.progressed.push(key);
            if self.checkpoint_timer.is_none() {
                self.checkpoint_timer = Some(self.timers.set(self.now_ms + CHECKPOINT_MS, Due::Checkpoint));
            }
        }
    }

    /// Sends an event; the packet id of QoS 2 is on record before, so that no other process gives it to another event.
    pub(super) fn send_event(&mut self, key: SessionKey, connection: ConnectionId, event: Event) {
        let session = self.sessions.at(key).filter(|session| session.is_recorded);
        // A repetition has its record, unless that is on its way still.
        let is_on_record = event.duplicate && session.is_some_and(|session| !session.owed.is_saying());
        let Some(client) = session.and_then(|session| session.client_id.clone()) else {
            return self.deliver(connection, Delivery::Event(event));
        };
        match event.packet_id.filter(|_| event.qos == Qos::ExactlyOnce && !is_on_record) {
            Some(PacketId(packet_id)) => {
                let step = Handshake::Sent { client, packet_id, event: event.publication.id.0 };
                self.append_delivery(key, connection, Delivery::Event(event), Kind::HANDSHAKE, encode(&step));
            }
            None => self.say_behind(key, connection, Delivery::Event(event)),
        }
    }

    /// Sends PUBREL; that PUBREC has come is on record before.
    pub(super) fn send_release(&mut self, key: SessionKey, connection: ConnectionId, id: PacketId, known: Result<(), Reason>) {
        let session = self.sessions.at(key).filter(|session| session.is_recorded && known.is_ok());
        let delivery = Delivery::Release(id, known);
        match session.and_then(|session| session.client_id.clone()) {
            Some(client) => {
                let step = Handshake::Received { client, packet_id: id.0 };
                self.append_delivery(key, connection, delivery, Kind::HANDSHAKE, encode(&step));
            }
            None => self.deliver(connection, delivery),
        }
    }

    /// Sends PUBREL once more, to a client that came back; where the record of a PUBREC is on its way still, behind it.
    pub(super) fn repeat_release(&mut self, key: SessionKey, connection: ConnectionId, id: PacketId) {
        if self.sessions.at(key).is_some_and(|session| session.owed.is_saying()) {
            self.send_release(key, connection, id, Ok(()));
        } else {
            self.deliver(connection, Delivery::Release(id, Ok(())));
        }
    }

    /// Records what was acknowledged since the last time.
    pub(super) fn checkpoint(&mut self) {
        if let Some(timer) = self.checkpoint_timer.take() {
            self.timers.clear(timer);
        }
        for key in std::mem::take(&mut self.progressed) {
            let Some(session) = self.sessions.at_mut(key) else { continue };
            let ranges = std::mem::take(&mut session.progress.ranges);
            if let Some(client) = session.client_id.clone().filter(|_| !ranges.is_empty()) {
                self.append_change(Some(key), Kind::CURSOR, encode(&Finished { client, ranges }), None);
            }
        }
    }

    /// A record of an earlier process about sessions.
    pub(super) fn replay_change(&mut self, place: Place, kind: Kind, body: &[u8]) {
        match kind {
            Kind::SESSION => decode(body).map(|change| self.replay_session(place, change)),
            Kind::SUBSCRIPTION => decode(body).map(|change| self.replay_subscription(change)),
            Kind::HANDSHAKE => decode(body).map(|step| self.replay_handshake(step)),
            Kind::CURSOR => decode(body).map(|Finished { client, ranges }| {
                if let Some(session) = self.session_of(&client) {
                    let is_over = |id: PublicationId| ranges.iter().any(|(first, last)| (*first..=*last).contains(&id.0));
                    session.inflight.restore_finished(is_over);
                }
            }),
            _ => None,
        };
    }

    fn session_of(&mut self, client: &str) -> Option<&mut Session> {
        self.sessions.of_client_id(client).and_then(|key| self.sessions.at_mut(key))
    }

    fn replay_handshake(&mut self, step: Handshake) {
        match step {
            Handshake::Released { client, packet_id } => {
                if let Some(session) = self.session_of(&client) {
                    session.unreleased.remove(&PacketId(packet_id));
                }
            }
            Handshake::Sent { client, packet_id, event } => {
                if let Some(session) = self.session_of(&client) {
                    session.inflight.restore_sent(PacketId(packet_id), PublicationId(event));
                }
            }
            Handshake::Received { client, packet_id } => {
                if let Some(session) = self.session_of(&client) {
                    session.inflight.restore_received(PacketId(packet_id));
                }
            }
        }
    }

    fn replay_session(&mut self, place: Place, change: SessionChange) {
        match change {
            SessionChange::Ended { client } => {
                let Some(key) = self.sessions.of_client_id(&client) else { return };
                let Some(session) = self.sessions.remove(key) else { return };
                for (filter, share) in session.subscriptions.keys() {
                    self.broker.unsubscribe(key, filter, share.as_deref());
                }
            }
            SessionChange::Left { client, expiry_s } => {
                if let Some(session) = self.session_of(&client) {
                    session.expiry_s = expiry_s;
                    session.left_ms = Some(place.time_ms);
                }
            }
            SessionChange::Opened { client, session, authid, authrole, protocol, expiry_s } => {
                let principal =
                    Principal { authid: (&*authid).into(), authrole: (&*authrole).into(), ..Principal::anonymous("") };
                let key =
                    self.sessions.of_client_id(&client).or_else(|| self.replay_opened(&client, SessionId(session), expiry_s));
                if let Some(session) = key.and_then(|key| self.sessions.at_mut(key)) {
                    session.protocol = protocol_of(protocol);
                    session.principal = Arc::new(principal);
                    session.expiry_s = expiry_s;
                    session.left_ms = None;
                    session.inflight.restore_connected();
                }
            }
        }
    }

    fn replay_opened(&mut self, client: &str, session: SessionId, expiry_s: u32) -> Option<SessionKey> {
        if self.sessions.of_id(session).is_some() {
            return None;
        }
        let mut open = Open {
            session,
            protocol: Protocol::Mqtt5,
            transport: Transport::default(),
            principal: Arc::new(Principal::anonymous("")),
            client_id: Some(client.into()),
            clean_start: false,
            expiry_s,
            receive_maximum: 1,
            will: None,
            features: Features::default(),
        };
        let mut session = Session::new(&mut open, ConnectionId(0), 1);
        session.connection = None;
        session.is_recorded = true;
        session.is_replayed = true;
        Some(self.sessions.insert(session))
    }

    fn replay_subscription(&mut self, change: SubscriptionChange) {
        let (client, entries, is_subscribed) = match change {
            SubscriptionChange::Subscribed { client, entries } => (client, entries, true),
            SubscriptionChange::Unsubscribed { client, entries } => (client, entries, false),
        };
        let Some(key) = self.sessions.of_client_id(&client) else { return };
        // The bounds refuse again what they refused before.
        for entry in entries {
            if is_subscribed && let Some(entry) = entry.to_subscribe() {
                self.replay_entry(key, entry);
            } else if let Some(entry) = entry.to_unsubscribe() {
                self.unsubscribe_entry(key, &entry).ok();
            }
        }
    }

    fn replay_entry(&mut self, key: SessionKey, entry: SubscribeEntry) {
        match entry {
            // What is retained was sent, or is owed no more: the client subscribed on an earlier connection.
            SubscribeEntry::Topic { filter, share, options } => {
                self.subscribe_topic(key, filter, share, options, &mut Vec::new()).ok();
            }
            SubscribeEntry::Selected { filter, options, selection } => {
                self.subscribe_selected(key, filter, options, *selection, Ok(()), &mut Vec::new()).ok();
            }
            SubscribeEntry::Procedure { filter, options } => {
                if let Some(session) = self.sessions.at_mut(key) {
                    session.procedures.insert((filter, options.form), options);
                }
            }
            SubscribeEntry::Refused(_) => {}
        }
    }

    /// The QoS 2 id under which a publication or an item of a queue came, not released.
    pub(super) fn replay_packet_id(&mut self, record: &Record) {
        if let Some((key, id)) = record.item.dedup.as_ref().and_then(|key| self.read_handshake_key(key))
            && let Some(session) = self.sessions.at_mut(key)
        {
            session.unreleased.insert(id.0, Repeats { fingerprint: 0, count: 0 });
            session.uses = session.uses.max(id.1);
        }
    }

    /// A publication of an earlier process: what its subscribers are owed.
    pub(super) fn replay_publication(&mut self, record: &Record) {
        // Whom a restricted one was for is not on record.
        if record.item.qos == Qos::AtMostOnce || record.item.flags.has(Flags::RESTRICTED) {
            return;
        }
        let Some(publication) = record.to_publication() else { return };
        let from = record.item.origin.as_ref().and_then(|origin| self.sessions.of_id(origin.session));
        let limits = std::mem::replace(&mut self.limits, unlimited());
        self.route(from, &Arc::new(publication), None);
        self.limits = limits;
    }

    fn read_handshake_key(&self, key: &DedupKey) -> Option<(SessionKey, (PacketId, u64))> {
        let session = self.sessions.of_client_id(key.owner.strip_prefix("mqtt:")?)?;
        let (packet_id, uses) = key.key.split_first_chunk::<2>()?;
        let packet_id = PacketId::new(u16::from_le_bytes(*packet_id))?;
        Some((session, (packet_id, u64::from_le_bytes(uses.try_into().ok()?))))
    }

    /// Everything is read: sessions wait for their clients, from when those left, or from now if the process ended first.
    pub fn finish_replay(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        // Nobody is connected: what was said to anybody is void.
        self.effects.clear();
        let sessions: Vec<SessionKey> = self.sessions.iter().map(|(key, _)| key).collect();
        for key in sessions {
            let Some(session) = self.sessions.at_mut(key) else { continue };
            session.inflight.trim_to(&self.limits);
            session.is_replayed = false;
            let left_ms = session.left_ms.take().unwrap_or(self.now_ms);
            self.wait_for_client(key, left_ms);
        }
    }
}

fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// What was acknowledged is taken out of the line later than it came in.
fn unlimited() -> Limits {
    Limits { max_session_queue: usize::MAX, max_session_queue_bytes: usize::MAX, ..Limits::default() }
}

fn level_of(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Mqtt31 => 3,
        Protocol::Mqtt311 => 4,
        Protocol::Mqtt5 | Protocol::Wamp => 5,
    }
}

fn protocol_of(level: u8) -> Protocol {
    match level {
        3 => Protocol::Mqtt31,
        4 => Protocol::Mqtt311,
        _ => Protocol::Mqtt5,
    }
}

impl Entry {
    fn of_subscribe(entry: &SubscribeEntry) -> Option<Entry> {
        match entry {
            SubscribeEntry::Topic { filter, share, options } => Entry::of_topic(filter, share.clone(), options, None),
            // A snapshot ends by itself.
            SubscribeEntry::Selected { selection, .. } if selection.is_snapshot => None,
            SubscribeEntry::Selected { filter, options, selection } => {
                Entry::of_topic(filter, None, options, selection.pattern.clone())
            }
            SubscribeEntry::Procedure { filter, options } => Some(Entry {
                filter: filter.as_mqtt()?.into(),
                share: None,
                form: form_number(options.form),
                qos: options.qos.bits(),
                flags: u8::from(options.invoke != InvokePolicy::Single),
                identifier: options.identifier,
                pattern: None,
            }),
            SubscribeEntry::Refused(_) => None,
        }
    }

    fn of_topic(filter: &Filter, share: Option<Box<str>>, options: &SubscribeOptions, pattern: Option<Value>) -> Option<Entry> {
        let flags = [options.no_local, options.retain_as_published, options.retained_only];
        let flags = flags.iter().rev().fold(0, |flags, is_set| flags << 1 | u8::from(*is_set));
        let (qos, identifier) = (options.qos.bits(), options.identifier);
        Some(Entry { filter: filter.as_mqtt()?.into(), share, form: 0, qos, flags, identifier, pattern })
    }

    fn of_unsubscribe(entry: &UnsubscribeEntry) -> Option<Entry> {
        let (filter, share, form) = match entry {
            UnsubscribeEntry::Topic { filter, share } => (filter, share.clone(), 0),
            UnsubscribeEntry::Procedure { filter, form } => (filter, None, form_number(*form)),
            _ => return None,
        };
        Some(Entry { filter: filter.as_mqtt()?.into(), share, form, qos: 0, flags: 0, identifier: None, pattern: None })
    }

    fn to_subscribe(&self) -> Option<SubscribeEntry> {
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
                    retain_handling: RetainHandling::Never,
                    identifier,
                };
                match self.pattern.clone() {
                    None => SubscribeEntry::Topic { filter, share: self.share.clone(), options },
                    pattern => {
                        let selection = Box::new(Selection { pattern, ..Selection::default() });
                        SubscribeEntry::Selected { filter, options, selection }
                    }
                }
            }
        })
    }

    fn to_unsubscribe(&self) -> Option<UnsubscribeEntry> {
        let filter = Filter::from_mqtt(&self.filter).ok()?;
        Some(match form_of(self.form) {
            Some(form) => UnsubscribeEntry::Procedure { filter, form },
            None => UnsubscribeEntry::Topic { filter, share: self.share.clone() },
        })
    }
}

fn form_number(form: CalleeForm) -> u8 {
    match form {
        CalleeForm::Invocation | CalleeForm::Publication => 1,
        CalleeForm::PublicationById => 2,
    }
}

fn form_of(number: u8) -> Option<CalleeForm> {
    match number {
        1 => Some(CalleeForm::Publication),
        2 => Some(CalleeForm::PublicationById),
        _ => None,
    }
}
