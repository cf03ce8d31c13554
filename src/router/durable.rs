//! What of MQTT sessions outlives the process: as records, each made when something changes and applied again at the next start.
//!
//! A session that stays after its connection is recorded when it is opened, left and ended; its subscriptions and the ends of its
//! QoS 2 ids are records before they are answered; what its client has acknowledged is recorded in batches, which nobody waits
//! for. What it is owed is read in the history again, behind its cursor ([`super::backlog`]).
use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Router;
use super::append::Place;
use super::backlog::{Backlog, Standing};
use super::inflight::{Owed, Source};
use super::lifecycle::Due;
use super::session::{Repeats, Session, SessionKey};
use super::state::PieceKey;
use crate::model::command::{
    CalleeForm, Features, InvokePolicy, Open, Protocol, RegisterOptions, RetainHandling, Selection, SubscribeEntry,
    SubscribeOptions, Transport, UnsubscribeEntry,
};
use crate::model::delivery::Event;
use crate::model::record::{DedupKey, Flags, Kind};
use crate::model::{
    Command, ConnectionId, Delivery, EventId, Filter, PacketId, Principal, PublicationId, Qos, Reason, Record, SessionId,
};

/// How long what was acknowledged may wait for its record.
pub(super) const CHECKPOINT_MS: u64 = 200;

/// What the owners of the keys of QoS 2 handshakes are called, before their client ids.
const HANDSHAKES: &str = "mqtt:";

/// [`Kind::SESSION`]
#[derive(Serialize, Deserialize)]
enum SessionChange {
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
pub(super) struct Entry {
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
    /// Towards a client: the id is given to this event, which may come through a shared subscription.
    Sent { client: Box<str>, packet_id: NonZeroU16, event: u64, is_shared: bool },
    /// Towards a client: PUBREC has come.
    Received { client: Box<str>, packet_id: NonZeroU16 },
}

/// [`Kind::CURSOR`]: how far a client has come. Ranges of ids include both ends.
#[derive(Serialize, Deserialize)]
struct Checkpoint {
    client: Box<str>,
    /// Everything up to here is over.
    cursor: u64,
    /// So is this behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    over: Vec<(u64, u64)>,
    /// How many events were over for it, ever.
    done: u64,
    /// What came through shared subscriptions and was over since the checkpoint before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shared: Vec<(u64, u64)>,
}

fn encode(change: &impl Serialize) -> Bytes {
    // Numbers, texts and lists of them always have a form.
    serde_json::to_vec(change).map(Bytes::from).unwrap_or_default()
}

/// What a session has been acknowledged since its last checkpoint, as ranges of ids.
#[derive(Debug, Default)]
pub struct Finished {
    history: Vec<(u64, u64)>,
    shared: Vec<(u64, u64)>,
}

impl Finished {
    /// One more; true if it is the first.
    fn note(&mut self, id: EventId, source: Source) -> bool {
        let (is_first, id) = (self.is_empty(), id.value());
        let ranges = if source.is_history() { &mut self.history } else { &mut self.shared };
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => ranges.push((id, id)),
        }
        is_first
    }

    /// Of the events that are read again otherwise.
    pub(super) fn history(&self) -> &[(u64, u64)] {
        &self.history
    }

    fn is_empty(&self) -> bool {
        self.history.is_empty() && self.shared.is_empty()
    }
}

impl Session {
    /// True if it stays after its connection, and so after the process.
    pub(super) fn is_durable(&self) -> bool {
        self.protocol.is_mqtt() && self.expiry_s > 0 && self.client_id.is_some()
    }

    /// While records are read: its client has left, and events up to this one may have been sent to it.
    fn note_left(&mut self, left_ms: u64, sent: Option<EventId>) {
        self.left_ms = Some(left_ms);
        if let Some(backlog) = &mut self.backlog {
            backlog.note_sent_until(sent);
        }
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
            will_delay_s: session.will.as_ref().map_or(0, |will| will.delay_s),
        };
        self.append_change(Some(key), Kind::SESSION, encode(&change), None);
    }

    /// The client of a session that stays has gone.
    pub(super) fn record_left(&mut self, key: SessionKey) {
        self.record_progress(key);
        let Some(session) = self.sessions.at(key).filter(|session| session.is_durable()) else { return };
        let Some(client) = session.client_id.clone() else { return };
        let sent = session.sent_until().map_or(0, EventId::value);
        let change = SessionChange::Left { client, expiry_s: session.expiry_s, sent };
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
            self.changes.note(|| PieceKey::Session(client.clone()));
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

    /// What recognizes a QoS 2 publication after a restart: client, packet id, which use of an id this is in its session, and the
    /// session. Uses are counted anew in each session, and keys outlive sessions.
    pub(super) fn handshake_key(&mut self, key: SessionKey, packet_id: PacketId) -> Option<DedupKey> {
        let session = self.sessions.at_mut(key).filter(|session| session.is_durable())?;
        session.uses += 1;
        let mut key = packet_id.value().to_le_bytes().to_vec();
        key.extend_from_slice(&session.uses.to_le_bytes());
        key.extend_from_slice(&session.id.0.to_le_bytes());
        Some(DedupKey { owner: format!("{HANDSHAKES}{}", session.client_id.as_deref()?).into(), key: key.into() })
    }

    /// A delivery is over: that of a stored event is to be on record.
    pub(super) fn note_finished(&mut self, key: SessionKey, publication: PublicationId, source: Source) {
        let Some(session) = self.sessions.at_mut(key) else { return };
        let Some(backlog) = session.backlog.as_mut().filter(|_| source != Source::Other) else { return };
        let Some(id) = EventId::new(publication.0) else { return };
        if source.is_history() {
            backlog.note_done(id);
        }
        if session.finished.note(id, source) {
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
                let is_shared = session.is_some_and(|session| session.inflight.is_shared(PacketId(packet_id)));
                let step = Handshake::Sent { client, packet_id, event: event.publication.id.0, is_shared };
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
            self.record_progress(key);
        }
    }

    pub(super) fn record_progress(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at_mut(key).filter(|session| !session.finished.is_empty()) else { return };
        let (client, Finished { history, shared }) = (session.client_id.clone(), std::mem::take(&mut session.finished));
        if let (Some(client), Some(standing)) = (client, self.standing_of(key, &history)) {
            let Standing { cursor, over, done } = standing;
            let checkpoint = Checkpoint { client, cursor, over, done, shared };
            self.append_change(Some(key), Kind::CURSOR, encode(&checkpoint), None);
        }
    }

    /// A record of an earlier process about sessions.
    pub(super) fn replay_change(&mut self, place: Place, kind: Kind, body: &[u8]) {
        match kind {
            Kind::SESSION => decode(body).map(|change| self.replay_session(place, change)),
            Kind::SUBSCRIPTION => decode(body).map(|change| self.replay_subscription(change)),
            Kind::HANDSHAKE => decode(body).map(|step| self.replay_handshake(step)),
            Kind::CURSOR => decode(body).map(|checkpoint| self.replay_checkpoint(checkpoint)),
            _ => None,
        };
    }

    /// A session, to be changed by a record.
    fn session_of(&mut self, client: &str) -> Option<&mut Session> {
        let key = self.sessions.of_client_id(client)?;
        self.note_session_changed(key);
        self.sessions.at_mut(key)
    }

    fn replay_checkpoint(&mut self, checkpoint: Checkpoint) {
        let Checkpoint { client, cursor, over, done, shared } = checkpoint;
        let Some(key) = self.sessions.of_client_id(&client) else { return };
        self.note_session_changed(key);
        let Some(session) = self.sessions.at_mut(key) else { return };
        let Some(backlog) = &mut session.backlog else { return };
        backlog.restore(Standing { cursor, over, done });
        let is_over = |id: PublicationId| EventId::new(id.0).is_none_or(|id| backlog.is_over(id));
        session.inflight.restore_finished(|id, source| source.is_history() && is_over(id));
        if shared.is_empty() {
            return;
        }
        // Who got what of a shared subscription is not on record before it is over.
        let is_over = |id: PublicationId| shared.iter().any(|(first, last)| (*first..=*last).contains(&id.0));
        for member in self.broker.fellows(key, &self.sessions) {
            self.note_session_changed(member);
            if let Some(member) = self.sessions.at_mut(member) {
                member.inflight.restore_finished(|id, source| matches!(source, Source::Shared(_)) && is_over(id));
            }
        }
    }

    /// Finds what an earlier process sent through a shared subscription, with whichever member it was expected.
    fn replay_sent(&mut self, client: &str, packet_id: PacketId, event: EventId, is_shared: bool) {
        let Some(key) = self.sessions.of_client_id(client) else { return };
        self.note_session_changed(key);
        let fellows = if is_shared { self.broker.fellows(key, &self.sessions) } else { Vec::new() };
        let mut fellows = fellows.into_iter();
        let owed = fellows.find_map(|member| {
            let owed = self.sessions.at_mut(member)?.inflight.take_waiting(event.into())?;
            self.note_session_changed(member);
            Some(Owed { qos: Qos::ExactlyOnce, ..owed })
        });
        let Some(session) = self.sessions.at_mut(key) else { return };
        let is_over = match is_shared {
            true => owed.is_none(),
            false => session.backlog.as_ref().is_none_or(|backlog| backlog.is_over(event)),
        };
        if !is_over {
            session.inflight.restore_sent(packet_id, event, owed);
        }
    }

    fn replay_handshake(&mut self, step: Handshake) {
        match step {
            Handshake::Released { client, packet_id } => {
                if let Some(session) = self.session_of(&client) {
                    session.unreleased.remove(&PacketId(packet_id));
                }
            }
            Handshake::Sent { client, packet_id, event, is_shared } => {
                if let Some(event) = EventId::new(event) {
                    self.replay_sent(&client, PacketId(packet_id), event, is_shared);
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
                if let Some(key) = self.sessions.of_client_id(&client) {
                    let removed = self.remove_session(key);
                    self.changes.note(|| PieceKey::Session(client));
                    removed.into_iter().for_each(|session| self.redistribute(session.inflight));
                }
            }
            SessionChange::Left { client, expiry_s, sent } => {
                if let Some(session) = self.session_of(&client) {
                    session.expiry_s = expiry_s;
                    session.note_left(place.time_ms, EventId::new(sent));
                }
            }
            SessionChange::Opened { client, session, authid, authrole, protocol, expiry_s, will_delay_s } => {
                let principal = Principal::of_record(authid, authrole);
                let key = self
                    .sessions
                    .of_client_id(&client)
                    .or_else(|| self.replay_opened(place, &client, SessionId(session), expiry_s));
                if let Some(key) = key {
                    self.note_session_changed(key);
                }
                if let Some(session) = key.and_then(|key| self.sessions.at_mut(key)) {
                    session.protocol = protocol_of(protocol);
                    session.principal = Arc::new(principal);
                    session.expiry_s = expiry_s;
                    session.will_delay_s = will_delay_s;
                    session.left_ms = None;
                    session.inflight.restore_connected();
                }
            }
        }
    }

    pub(super) fn replay_opened(&mut self, place: Place, client: &str, session: SessionId, expiry_s: u32) -> Option<SessionKey> {
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
        session.backlog = Some(Box::new(Backlog::restored(Some(place.id))));
        Some(self.sessions.insert(session))
    }

    fn replay_subscription(&mut self, change: SubscriptionChange) {
        let (client, entries, is_subscribed) = match change {
            SubscriptionChange::Subscribed { client, entries } => (client, entries, true),
            SubscriptionChange::Unsubscribed { client, entries } => (client, entries, false),
        };
        let Some(key) = self.sessions.of_client_id(&client) else { return };
        self.note_session_changed(key);
        // The bounds refuse again what they refused before.
        for entry in entries {
            if is_subscribed && let Some(entry) = entry.to_subscribe() {
                self.replay_entry(key, entry);
            } else if let Some(entry) = entry.to_unsubscribe() {
                self.unsubscribe_entry(key, &entry).ok();
            }
        }
    }

    pub(super) fn replay_entry(&mut self, key: SessionKey, entry: SubscribeEntry) {
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
        let Some((key, id)) = record.item.dedup.as_ref().and_then(|key| self.read_handshake_key(key)) else { return };
        self.note_session_changed(key);
        if let Some(session) = self.sessions.at_mut(key) {
            session.unreleased.insert(id.0, Repeats { fingerprint: 0, count: 0, is_placed: true });
            session.uses = session.uses.max(id.1);
        }
    }

    /// A publication of an earlier process: its subscribers are owed one more.
    pub(super) fn replay_publication(&mut self, record: &Record) {
        // Whom a restricted one was for is not on record.
        let is_for_nobody = self.sessions.is_empty() || record.item.flags.has(Flags::RESTRICTED);
        if is_for_nobody || record.item.qos == Qos::AtMostOnce {
            return;
        }
        let Some(publication) = record.to_publication() else { return };
        let from = record.item.origin.as_ref().and_then(|origin| self.sessions.of_id(origin.session));
        self.route(from, &Arc::new(publication), None);
    }

    /// The session that a key is of, if it is there; the key of an earlier session of its client is nobody's. Before session ids
    /// were in keys, the session was that of the client at the record's place.
    fn read_handshake_key(&self, key: &DedupKey) -> Option<(SessionKey, (PacketId, u64))> {
        let session = self.sessions.of_client_id(key.owner.strip_prefix(HANDSHAKES)?)?;
        let (packet_id, rest) = key.key.split_first_chunk::<2>()?;
        let (uses, rest) = rest.split_first_chunk::<8>()?;
        let id = if rest.is_empty() { None } else { Some(SessionId(u64::from_le_bytes(rest.try_into().ok()?))) };
        if id.is_some() && self.sessions.at(session).map(|session| session.id) != id {
            return None;
        }
        Some((session, (PacketId::new(u16::from_le_bytes(*packet_id))?, u64::from_le_bytes(*uses))))
    }

    /// The process ended here, and all its connections.
    pub(super) fn replay_gone(&mut self, place: Place) {
        let connected: Vec<_> =
            self.sessions.iter().filter(|(_, session)| session.left_ms.is_none()).map(|(key, _)| key).collect();
        for key in connected {
            self.note_session_changed(key);
            if let Some(session) = self.sessions.at_mut(key) {
                session.note_left(place.time_ms, Some(place.id));
            }
        }
    }

    /// Everything is read: sessions wait for their clients, from when those left, or from now if the process ended first.
    pub fn finish_replay(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        // Nobody is connected: what was said to anybody is void.
        self.effects.clear();
        let last = self.reads.last_id();
        let sessions: Vec<SessionKey> = self.sessions.iter().map(|(key, _)| key).collect();
        for key in sessions {
            let Some(session) = self.sessions.at_mut(key) else { continue };
            session.inflight.trim_to(&self.limits);
            session.is_replayed = false;
            let left_ms = session.left_ms.unwrap_or(self.now_ms);
            if session.left_ms.is_none() {
                session.note_left(left_ms, last);
                self.note_session_changed(key);
            }
            self.restore_will(key);
            if self.wait_for_client(key, left_ms) {
                self.due_wills.push(key);
            }
        }
    }
}

fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

pub(super) fn level_of(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Mqtt31 => 3,
        Protocol::Mqtt311 => 4,
        Protocol::Mqtt5 | Protocol::Wamp => 5,
    }
}

pub(super) fn protocol_of(level: u8) -> Protocol {
    match level {
        3 => Protocol::Mqtt31,
        4 => Protocol::Mqtt311,
        _ => Protocol::Mqtt5,
    }
}

impl Entry {
    pub(super) fn of_subscribe(entry: &SubscribeEntry) -> Option<Entry> {
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

    pub(super) fn of_topic(
        filter: &Filter,
        share: Option<Box<str>>,
        options: &SubscribeOptions,
        pattern: Option<Value>,
    ) -> Option<Entry> {
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

    pub(super) fn to_subscribe(&self) -> Option<SubscribeEntry> {
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

#[cfg(test)]
mod tests;
