//! The state of a realm in pieces: what a snapshot holds, and what a restart begins with instead of the whole history.
//!
//! A piece is a key, a head of its own form and, where something was published, a record. The router knows which pieces have changed
//! since it was last asked, so that whoever keeps them need not write them all. What belongs to connections is in no piece but that
//! of the queues, whose records are judged by it.
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::{FixedState, RandomState};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Router;
use super::append::Place;
use super::backlog::Standing;
use super::condition::Cell;
use super::durable::{Entry, level_of, protocol_of};
use super::effect::{Draft, DraftBody};
use super::inflight::{Begun, Owed, Source};
use super::lock::Holder;
use super::session::{Repeats, Session, SessionKey};
use crate::model::command::{SubscribeEntry, SubscribeOptions};
use crate::model::record::Flags;
use crate::model::{EventId, Filter, PacketId, Principal, Publication, PublicationId, Qos, Record, SessionId, Topic};

/// Names a piece. In the order of their bytes pieces can be restored.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PieceKey {
    /// An event that members of share groups are owed.
    Event(u64),
    /// The retained message of a topic.
    Retained(Topic),
    /// Who holds a topic.
    Holder(Topic),
    /// A grant whose publication follows.
    Grant(Topic),
    /// A session that stays, by its client id.
    Session(Box<str>),
    /// Everything of queues but their items.
    Queues,
    /// An item of a queue.
    QueueItem(u64, u32),
    /// What the connection of a session leaves behind.
    Will(u64),
}

impl PieceKey {
    /// As bytes, each key its own.
    pub fn to_bytes(&self) -> Vec<u8> {
        let named = |tag: u8, name: &str| [&[tag], name.as_bytes()].concat();
        match self {
            PieceKey::Event(id) => [&b"a"[..], &id.to_be_bytes()].concat(),
            PieceKey::Retained(topic) => named(b'b', topic.as_mqtt()),
            PieceKey::Holder(topic) => named(b'c', topic.as_mqtt()),
            PieceKey::Grant(topic) => named(b'd', topic.as_mqtt()),
            PieceKey::Session(client) => named(b'e', client),
            PieceKey::Queues => vec![b'f'],
            PieceKey::QueueItem(id, index) => [&b"g"[..], &id.to_be_bytes(), &index.to_be_bytes()].concat(),
            PieceKey::Will(session) => [&b"h"[..], &session.to_be_bytes()].concat(),
        }
    }

    /// Back from bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let text = || std::str::from_utf8(rest).ok();
        let topic = || Topic::from_mqtt(text()?).ok();
        Some(match tag {
            b'a' => PieceKey::Event(u64::from_be_bytes(rest.try_into().ok()?)),
            b'b' => PieceKey::Retained(topic()?),
            b'c' => PieceKey::Holder(topic()?),
            b'd' => PieceKey::Grant(topic()?),
            b'e' => PieceKey::Session(text()?.into()),
            b'f' if rest.is_empty() => PieceKey::Queues,
            b'g' => {
                let (id, index) = rest.split_first_chunk::<8>()?;
                PieceKey::QueueItem(u64::from_be_bytes(*id), u32::from_be_bytes(index.try_into().ok()?))
            }
            b'h' => PieceKey::Will(u64::from_be_bytes(rest.try_into().ok()?)),
            _ => return None,
        })
    }
}

/// What records of pieces name for their realm, which whoever keeps them knows.
pub(super) const ITS_REALM: &str = "-";

/// What a piece holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// What is not published: MsgPack of the kind of piece.
    pub head: Bytes,
    /// What is.
    pub record: Option<Record>,
}

/// Which pieces have changed, but for sessions, which know it themselves, and queues.
#[derive(Debug, Default)]
pub struct Changes {
    is_tracked: bool,
    retained: HashSet<Topic, RandomState>,
    keys: HashSet<PieceKey, RandomState>,
    sessions: usize,
    /// The pieces of kind event that were said to be there.
    events: HashSet<u64, FixedState>,
}

impl Changes {
    /// The retained message of a topic is not what it was.
    pub(super) fn note_retained(&mut self, topic: &Topic) {
        if self.is_tracked {
            self.retained.insert(topic.clone());
        }
    }

    /// A piece is not what it was.
    pub(super) fn note(&mut self, key: impl FnOnce() -> PieceKey) {
        if self.is_tracked {
            self.keys.insert(key());
        }
    }
}

/// Of [`PieceKey::Session`]
#[derive(Serialize, Deserialize)]
struct SessionState {
    session: u64,
    authid: Box<str>,
    authrole: Box<str>,
    protocol: u8,
    expiry_s: u32,
    left_ms: Option<u64>,
    sent_until: u64,
    cursor: u64,
    over: Vec<(u64, u64)>,
    done: u64,
    routed: u64,
    will_delay_s: u32,
    uses: u64,
    unreleased: Vec<u16>,
    /// The oldest packet id that is in use towards the client, or the next.
    first_packet_id: u16,
    /// QoS 2 deliveries that have begun: packet id, event, and how far they have come.
    begun: Vec<(u16, u64, Begun)>,
    /// Everything subscribed and served, with the last event before.
    entries: Vec<(Entry, u64)>,
    shared: Vec<SharedState>,
}

/// An event that a session is owed through a shared subscription.
#[derive(Serialize, Deserialize)]
struct SharedState {
    event: u64,
    filter: Box<str>,
    share: Box<str>,
    qos: u8,
    retain: bool,
    identifiers: Vec<u64>,
    /// Of QoS 2 that was sent.
    packet_id: Option<u16>,
}

/// Of [`PieceKey::Holder`]
#[derive(Serialize, Deserialize)]
struct HolderState {
    session: u64,
    token: u64,
    will: Value,
    deadline_ms: Option<u64>,
}

/// Of [`PieceKey::Grant`]
#[derive(Serialize, Deserialize)]
struct GrantState {
    session: u64,
    will: Value,
}

pub(super) fn encode(state: &impl Serialize) -> Bytes {
    // Numbers, texts and lists of them always have a form.
    rmp_serde::to_vec_named(state).map(Bytes::from).unwrap_or_default()
}

pub(super) fn decode<'a, T: Deserialize<'a>>(head: &'a [u8]) -> Option<T> {
    rmp_serde::from_slice(head).ok()
}

/// A publication that has its place, as a record again.
fn record_of(publication: &Arc<Publication>) -> Option<Record> {
    let id = EventId::new(publication.id.0)?;
    let flags = Flags::of([(publication.retain, Flags::RETAIN), (publication.publisher.is_some(), Flags::DISCLOSED)]);
    let author = publication.publisher.clone();
    let draft = Draft { body: DraftBody::Publication(publication.clone()), author, flags, dedup: None };
    Some(Record { id, item: draft.into_item(ITS_REALM.into()) })
}

impl Router {
    /// From now on changes of pieces are noted, for [`Router::take_changes`].
    pub fn track_changes(&mut self) {
        self.changes.is_tracked = true;
        self.queues.track_changes();
    }

    /// No piece is kept yet.
    pub fn note_all_changed(&mut self) {
        for key in self.pieces() {
            match key {
                PieceKey::Session(_) | PieceKey::Event(_) => {}
                PieceKey::Retained(topic) => self.changes.note_retained(&topic),
                key @ (PieceKey::Queues | PieceKey::QueueItem(..)) => self.queues.note_changed(&key),
                key => self.changes.note(|| key),
            }
        }
        let sessions: Vec<SessionKey> = self.sessions.iter().map(|(key, _)| key).collect();
        sessions.into_iter().for_each(|key| self.note_session_changed(key));
    }

    /// How many retained messages have changed.
    pub fn changed_retained(&self) -> usize {
        self.changes.retained.len()
    }

    /// How many other pieces have changed, about.
    pub fn changed(&self) -> usize {
        self.changes.keys.len() + self.changes.sessions + self.queues.changed()
    }

    /// So many of the retained messages that have changed. They may be kept before all other pieces: whatever a record before the
    /// last has retained gives way to what is read behind it.
    pub fn take_changed_retained(&mut self, count: usize) -> Vec<(PieceKey, Option<Piece>)> {
        let topics: Vec<Topic> = self.changes.retained.iter().take(count).cloned().collect();
        let piece_of = |topic: Topic| {
            self.changes.retained.remove(&topic);
            let key = PieceKey::Retained(topic);
            let piece = self.piece(&key);
            (key, piece)
        };
        topics.into_iter().map(piece_of).collect()
    }

    /// The last event whose effect is in the pieces.
    pub fn as_of(&self) -> Option<EventId> {
        self.reads.last_id()
    }

    /// The pieces that have changed since the last time, as they are now; `None` is no more.
    pub fn take_changes(&mut self) -> Vec<(PieceKey, Option<Piece>)> {
        let mut keys: Vec<PieceKey> = self.changes.keys.drain().collect();
        keys.extend(self.changes.retained.drain().map(PieceKey::Retained));
        self.changes.sessions = 0;
        let changed: Vec<SessionKey> =
            self.sessions.iter().filter(|(_, session)| session.is_piece_changed()).map(|(key, _)| key).collect();
        for key in changed {
            let Some(session) = self.sessions.at_mut(key) else { continue };
            session.note_piece_kept();
            keys.extend(session.client_id.clone().map(PieceKey::Session));
        }
        let events: HashSet<u64, FixedState> = self.shared_events().collect();
        keys.extend(events.symmetric_difference(&self.changes.events).map(|id| PieceKey::Event(*id)));
        self.changes.events = events;
        keys.extend(self.queues.take_changes());
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().map(|key| (key.clone(), self.piece(&key))).collect()
    }

    /// Every piece there is, by key.
    pub fn pieces(&self) -> Vec<PieceKey> {
        let sessions = self.sessions.iter().map(|(_, session)| session).filter(|session| session.is_recorded);
        let held = self.conditions.cells.iter().filter(|(_, cell)| cell.holder.is_some());
        let mut keys: Vec<PieceKey> = self.retained.topics().cloned().map(PieceKey::Retained).collect();
        keys.extend(self.shared_events().map(PieceKey::Event));
        keys.extend(held.map(|(topic, _)| PieceKey::Holder(topic.clone())));
        keys.extend(self.conditions.recorded.keys().cloned().map(PieceKey::Grant));
        keys.extend(sessions.filter_map(|session| session.client_id.clone()).map(PieceKey::Session));
        keys.extend(self.queues.pieces());
        keys.extend(self.wills.keys().map(|session| PieceKey::Will(session.0)));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// What a piece is now; `None` if there is none.
    pub fn piece(&mut self, key: &PieceKey) -> Option<Piece> {
        let of_record = |record| Piece { head: Bytes::new(), record: Some(record) };
        let of_head = |head| Piece { head, record: None };
        match key {
            PieceKey::Event(id) => self.find_shared(PublicationId(*id)).and_then(|event| record_of(&event)).map(of_record),
            PieceKey::Retained(topic) => self.retained.find(topic, 0).and_then(record_of).map(of_record),
            PieceKey::Holder(topic) => {
                let holder = self.conditions.cells.get(topic)?.holder.as_ref()?;
                let (session, token) = (holder.session().0, holder.token().value());
                let state = HolderState { session, token, will: holder.will().clone(), deadline_ms: holder.deadline_ms() };
                Some(of_head(encode(&state)))
            }
            PieceKey::Grant(topic) => {
                let (session, will) = self.conditions.recorded.get(topic)?;
                Some(of_head(encode(&GrantState { session: session.0, will: will.clone() })))
            }
            PieceKey::Session(client) => {
                let key = self.sessions.of_client_id(client)?;
                self.session_state(key).map(|state| of_head(encode(&state)))
            }
            PieceKey::Queues | PieceKey::QueueItem(..) => self.queues.piece(key),
            PieceKey::Will(session) => {
                let item = self.wills.get(&SessionId(*session))?.clone();
                Some(of_record(Record { id: EventId::FIRST, item }))
            }
        }
    }

    /// The numbers of the events that sessions which stay are owed through shared subscriptions.
    fn shared_events(&self) -> impl Iterator<Item = u64> {
        let sessions = self.sessions.iter().map(|(_, session)| session).filter(|session| session.is_recorded);
        let owed = sessions.flat_map(|session| session.inflight.shared());
        owed.filter_map(|(_, owed)| EventId::new(owed.publication.id.0)).map(EventId::value)
    }

    /// A record of this session has its place, or what it leaves has.
    pub(super) fn note_session_changed(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at_mut(key).filter(|session| session.is_recorded) else { return };
        self.changes.sessions += usize::from(!session.is_piece_changed());
        session.is_changed = true;
    }

    /// An event that members of share groups are owed; rare enough to be looked for.
    fn find_shared(&self, id: PublicationId) -> Option<Arc<Publication>> {
        let mut shared = self.sessions.iter().flat_map(|(_, session)| session.inflight.shared());
        shared.find(|(_, owed)| owed.publication.id == id).map(|(_, owed)| owed.publication.clone())
    }

    fn session_state(&mut self, key: SessionKey) -> Option<SessionState> {
        // What its client acknowledged last may not be on record yet: it is true all the same.
        let finished = self.sessions.at(key)?.finished.history().to_vec();
        let Standing { cursor, over, done } = self.standing_of(key, &finished)?;
        let session = self.sessions.at(key).filter(|session| session.is_recorded)?;
        let number = |id: Option<EventId>| id.map_or(0, EventId::value);
        let begun = session.inflight.begun().map(|(id, event, step)| (id.value(), event.value(), step));
        Some(SessionState {
            session: session.id.0,
            authid: (&*session.principal.authid).into(),
            authrole: (&*session.principal.authrole).into(),
            protocol: level_of(session.protocol),
            expiry_s: session.expiry_s,
            left_ms: session.left_ms,
            sent_until: number(session.sent_until()),
            cursor,
            over,
            done,
            routed: session.backlog.as_ref().map_or(0, |backlog| backlog.routed()),
            will_delay_s: session.will_delay_s,
            uses: session.uses,
            // What has no place yet may never have one: then its repetition is the first.
            unreleased: session.unreleased.iter().filter(|(_, use_)| use_.is_placed).map(|(id, _)| id.value()).collect(),
            first_packet_id: session.inflight.first_id().value(),
            begun: begun.collect(),
            entries: self.entries_of(session),
            shared: self.shared_of(session),
        })
    }

    fn entries_of(&self, session: &Session) -> Vec<(Entry, u64)> {
        let subscribed = session.subscriptions.iter().filter_map(|((filter, share), subscribed)| {
            let selected = session.selections.get(filter).filter(|_| share.is_none());
            let selected = selected.and_then(|selection| self.selections.get(*selection as usize));
            let pattern = match selected {
                Some(selected) if selected.is_snapshot() => return None,
                selected => selected.and_then(|selected| selected.pattern().cloned()),
            };
            Some((Entry::of_topic(filter, share.clone(), &subscribed.options, pattern)?, subscribed.since))
        });
        let topic = |filter: &Filter, options: &SubscribeOptions| Some((Entry::of_topic(filter, None, options, None)?, 0));
        let private = session.private.iter().filter_map(|(filter, options)| topic(filter, options));
        let queues = session.queues.iter().filter_map(|(queue, options)| topic(&Filter::Exact(queue.clone()), options));
        let procedures = session.procedures.iter().filter_map(|((filter, _), options)| {
            let entry = SubscribeEntry::Procedure { filter: filter.clone(), options: *options };
            Some((Entry::of_subscribe(&entry)?, 0))
        });
        subscribed.chain(private).chain(queues).chain(procedures).collect()
    }

    fn shared_of(&self, session: &Session) -> Vec<SharedState> {
        let names: HashMap<u32, (Box<str>, Box<str>), FixedState> = session
            .subscriptions
            .keys()
            .filter_map(|(filter, share)| {
                let share = share.clone()?;
                Some((self.broker.group_of(filter, &share)?, (filter.as_mqtt()?.into(), share)))
            })
            .collect();
        let state = |(packet_id, owed): (Option<PacketId>, &Owed)| {
            let Source::Shared(group) = owed.source else { return None };
            let (filter, share) = names.get(&group)?.clone();
            Some(SharedState {
                event: EventId::new(owed.publication.id.0)?.value(),
                filter,
                share,
                qos: owed.qos.bits(),
                retain: owed.retain,
                identifiers: owed.subscriptions.to_vec(),
                packet_id: packet_id.map(PacketId::value),
            })
        };
        session.inflight.shared().filter_map(state).collect()
    }

    /// Puts a piece in its place, into a realm without connections, before any record is read. Pieces come in the order of their
    /// keys' bytes. `None` if it says nothing that is known here.
    pub fn restore(&mut self, key: &PieceKey, piece: &Piece) -> Option<()> {
        let Piece { head, record } = piece;
        match key {
            PieceKey::Event(_) => {
                self.restoring.insert(record.as_ref()?.id, Arc::new(record.as_ref()?.to_publication()?));
            }
            PieceKey::Retained(_) => {
                let publication = record.as_ref()?.to_publication()?;
                self.retained.set(Arc::new(publication), None);
            }
            PieceKey::Holder(topic) => {
                let HolderState { session, token, will, deadline_ms } = decode(head)?;
                let holder = Holder::earlier(SessionId(session), EventId::new(token)?, will, deadline_ms);
                self.conditions.cells.insert(topic.clone(), Cell { holder: Some(holder), ..Cell::default() });
            }
            PieceKey::Grant(topic) => {
                let GrantState { session, will } = decode(head)?;
                self.conditions.recorded.insert(topic.clone(), (SessionId(session), will));
            }
            PieceKey::Session(client) => self.restore_session(client, decode(head)?)?,
            PieceKey::Queues | PieceKey::QueueItem(..) => self.queues.restore(key, piece)?,
            PieceKey::Will(session) => {
                self.wills.insert(SessionId(*session), record.as_ref()?.item.clone());
            }
        }
        Some(())
    }

    /// All pieces are those of a realm whose last event was this, at that time (milliseconds since the Unix epoch).
    pub fn resume_behind(&mut self, last: EventId, time_ms: u64) {
        self.reads.note_last(last);
        self.conditions.time_ms = time_ms;
        self.restoring.clear();
        self.set_queue_timer();
    }

    fn restore_session(&mut self, client: &str, state: SessionState) -> Option<()> {
        let place = Place { id: EventId::FIRST, time_ms: 0 };
        let key = self.replay_opened(place, client, SessionId(state.session), state.expiry_s)?;
        for (entry, since) in state.entries {
            let name = entry.to_subscribe();
            if let Some(entry) = name {
                let filter = match &entry {
                    SubscribeEntry::Topic { filter, share, .. } => Some((filter.clone(), share.clone())),
                    SubscribeEntry::Selected { filter, .. } => Some((filter.clone(), None)),
                    _ => None,
                };
                self.replay_entry(key, entry);
                let session = self.sessions.at_mut(key)?;
                if let Some(subscribed) = filter.and_then(|name| session.subscriptions.get_mut(&name)) {
                    subscribed.since = since;
                }
            }
        }
        let shared: Vec<_> = state.shared.into_iter().filter_map(|shared| self.restore_shared(shared)).collect();
        let session = self.sessions.at_mut(key)?;
        let SessionState { authid, authrole, cursor, over, done, routed, .. } = state;
        session.principal = Arc::new(Principal::of_record(authid, authrole));
        session.protocol = protocol_of(state.protocol);
        session.left_ms = state.left_ms;
        session.uses = state.uses;
        session.will_delay_s = state.will_delay_s;
        session.unreleased = state
            .unreleased
            .into_iter()
            .filter_map(PacketId::new)
            .map(|id| (id, Repeats { fingerprint: 0, count: 0, is_placed: true }))
            .collect();
        let backlog = session.backlog.as_mut()?;
        backlog.restore(Standing { cursor, over, done });
        backlog.restore_routed(routed, EventId::new(state.sent_until));
        session.inflight.restore_first(PacketId::new(state.first_packet_id)?);
        for (packet_id, event, step) in state.begun {
            if let (Some(packet_id), Some(event)) = (PacketId::new(packet_id), EventId::new(event)) {
                session.inflight.restore_begun(packet_id, event, step);
            }
        }
        for (packet_id, owed) in shared {
            match (packet_id, EventId::new(owed.publication.id.0)) {
                (Some(packet_id), Some(event)) => session.inflight.restore_sent(packet_id, event, Some(owed)),
                _ => session.inflight.wait(owed),
            }
        }
        Some(())
    }

    fn restore_shared(&self, state: SharedState) -> Option<(Option<PacketId>, Owed)> {
        let publication = self.restoring.get(&EventId::new(state.event)?)?.clone();
        let group = self.broker.group_of(&Filter::from_mqtt(&state.filter).ok()?, &state.share)?;
        let owed = Owed {
            publication,
            qos: Qos::from_bits(state.qos)?,
            retain: state.retain,
            subscriptions: state.identifiers.into_iter().collect(),
            source: Source::Shared(group),
            again: state.qos == Qos::AtLeastOnce.bits(),
            claim: None,
        };
        Some((state.packet_id.and_then(PacketId::new), owed))
    }
}

impl Session {
    /// True if its piece is not what it was when it was kept.
    fn is_piece_changed(&self) -> bool {
        let routed = self.backlog.as_ref().map_or(0, |backlog| backlog.routed());
        self.is_recorded && (self.is_changed || routed != self.kept_routed)
    }

    fn note_piece_kept(&mut self) {
        self.kept_routed = self.backlog.as_ref().map_or(0, |backlog| backlog.routed());
        self.is_changed = false;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::model::command::{Acknowledge, AcknowledgeStep, Acknowledgement};
    use crate::model::{Command, ConnectionId, Delivery, Payload, RequestId};
    use crate::router::tests::{Realm, packet};

    const CLIENTS: [&str; 3] = ["a", "b", "c"];

    #[derive(Clone, Debug)]
    enum Step {
        Publish {
            from: usize,
            topic: usize,
            qos: u8,
            retain: bool,
            is_empty: bool,
        },
        Subscribe {
            client: usize,
            filter: usize,
            qos: u8,
        },
        /// Everything that came, or only the last.
        Acknowledge(usize, bool),
        Leave(usize),
        End(usize),
        Put(usize),
        Take(u64),
        Done,
        Lock(usize),
        Unlock(usize),
        Time(u64),
        Keep,
        KeepPart,
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        let client = 0..CLIENTS.len();
        prop_oneof![
            8 => (0..CLIENTS.len(), 0..4_usize, 0..3_u8, any::<bool>(), any::<bool>())
                .prop_map(|(from, topic, qos, retain, is_empty)| Step::Publish { from, topic, qos, retain, is_empty }),
            3 => (client.clone(), 0..4_usize, 0..3_u8).prop_map(|(client, filter, qos)| Step::Subscribe { client, filter, qos }),
            3 => (client.clone(), any::<bool>()).prop_map(|(client, is_all)| Step::Acknowledge(client, is_all)),
            2 => client.clone().prop_map(Step::Leave),
            1 => client.prop_map(Step::End),
            2 => (0..2_usize).prop_map(Step::Put),
            2 => (0..2_u64).prop_map(|wait| Step::Take(wait * 1_000)),
            1 => Just(Step::Done),
            2 => (0..2_usize).prop_map(Step::Lock),
            1 => (0..2_usize).prop_map(Step::Unlock),
            2 => (0..40_000_u64).prop_map(Step::Time),
            3 => Just(Step::Keep),
            2 => Just(Step::KeepPart),
            1 => Just(Step::Restart),
        ]
    }

    /// A realm, and what is kept of it.
    struct World {
        realm: Realm,
        clients: [Option<ConnectionId>; 3],
        worker: ConnectionId,
        requests: u64,
        tokens: Vec<String>,
        locks: BTreeMap<usize, u64>,
        kept: BTreeMap<Vec<u8>, Piece>,
        kept_records: usize,
        /// What the client of each connection has not acknowledged.
        held: [Vec<Acknowledgement>; 3],
        /// State is kept when all that was acknowledged is on record.
        is_exact: bool,
    }

    impl World {
        fn start() -> Self {
            let mut realm = Realm::new();
            realm.router.track_changes();
            let worker = realm.wamp();
            let (clients, tokens, locks, kept) = Default::default();
            World {
                realm,
                clients,
                worker,
                requests: 0,
                tokens,
                locks,
                kept,
                kept_records: 0,
                held: Default::default(),
                is_exact: true,
            }
        }

        fn client(&mut self, index: usize) -> ConnectionId {
            if self.clients[index].is_none() {
                self.held[index].clear();
            }
            let realm = &mut self.realm;
            *self.clients[index].get_or_insert_with(|| realm.persistent(CLIENTS[index]))
        }

        fn call(&mut self, uri: &str, list: Value) {
            self.requests += 1;
            let is_second = list[0] == "l2";
            let payload = Payload::Bytes("{}".into());
            self.realm.call_own(self.worker, self.requests, uri, list, payload);
            for told in self.realm.inbox(self.worker) {
                let Delivery::Answer(answer) = told else { continue };
                let Payload::Args { args, .. } = &answer.payload else { continue };
                let Ok(value) = serde_json::from_slice::<Value>(args) else { continue };
                if let Some(token) = value[0]["token"].as_u64() {
                    self.locks.insert(usize::from(is_second), token);
                } else {
                    let tokens = value[0].as_array().into_iter().flatten().filter_map(|item| item["token"].as_str());
                    self.tokens.extend(tokens.map(str::to_owned));
                }
            }
        }

        fn acknowledge(&mut self, index: usize, is_all: bool) {
            let connection = self.client(index);
            let step = |packet_id, step| Acknowledgement { packet_id, step };
            let steps = self.realm.inbox(connection).into_iter().filter_map(|told| match told {
                Delivery::Event(event) if event.qos == Qos::ExactlyOnce => {
                    Some(step(event.packet_id?, AcknowledgeStep::Received))
                }
                Delivery::Event(event) => Some(step(event.packet_id?, AcknowledgeStep::Acknowledged)),
                Delivery::Release(id, _) => Some(step(id, AcknowledgeStep::Completed)),
                _ => None,
            });
            self.held[index].extend(steps);
            let first = if is_all { 0 } else { self.held[index].len().saturating_sub(1) };
            let steps = self.held[index].split_off(first);
            self.realm.send(connection, Command::Acknowledge(steps));
        }

        fn keep(&mut self, changes: Vec<(PieceKey, Option<Piece>)>) {
            for (key, piece) in changes {
                match piece {
                    Some(piece) => drop(self.kept.insert(key.to_bytes(), piece)),
                    None => drop(self.kept.remove(&key.to_bytes())),
                }
            }
        }

        fn publish(&mut self, step: Step) {
            let Step::Publish { from, topic, qos, retain, is_empty } = step else { return };
            let connection = self.client(from);
            let payload = Payload::Bytes(if is_empty { "" } else { "\"x\"" }.into());
            let qos = Qos::from_bits(qos).unwrap();
            let mut publication = Publication::new(Topic::from_mqtt(["t/1", "t/2", "u", "v"][topic]).unwrap(), payload, qos);
            publication.retain = retain;
            self.requests += 1;
            let id = packet((self.requests % 1_000) as u16 + 1);
            let acknowledge = match qos {
                Qos::AtMostOnce => Acknowledge::None,
                Qos::AtLeastOnce => Acknowledge::AtLeastOnce(id),
                Qos::ExactlyOnce => Acknowledge::ExactlyOnce(id),
            };
            self.realm.send(connection, Command::Publish { publication: Arc::new(publication), acknowledge, options: None });
            if topic % 2 == 0 {
                self.realm.send(connection, Command::Release(id));
            }
        }

        fn subscribe(&mut self, client: usize, filter: usize, qos: u8) {
            let connection = self.client(client);
            // What went to a member with QoS 0 is on no record: records alone know less than pieces then.
            let qos = Qos::from_bits(if filter == 3 { qos.max(1) } else { qos }).unwrap();
            let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
            let share = (filter == 3).then(|| "g".into());
            let filter = Filter::from_mqtt(["t/+", "u", "v", "v"][filter]).unwrap();
            let entries = vec![SubscribeEntry::Topic { filter, share, options }];
            self.realm.send(connection, Command::Subscribe { request: RequestId(1), entries });
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Publish { .. } => self.publish(step),
                Step::Subscribe { client, filter, qos } => self.subscribe(client, filter, qos),
                Step::Acknowledge(client, is_all) => self.acknowledge(client, is_all),
                Step::Leave(client) => {
                    if let Some(connection) = self.clients[client].take() {
                        self.realm.lose(connection);
                    }
                }
                Step::End(client) => {
                    let close = crate::model::command::Close { expiry_s: Some(0), with_will: false };
                    let connection = self.client(client);
                    self.realm.send(connection, Command::Close(close));
                    self.clients[client] = None;
                }
                Step::Put(queue) => self.call("corsac.queue.put", json!([(["q1", "q2"][queue]), self.requests, {"delay_ms": 5}])),
                Step::Take(wait_ms) => self.call("corsac.queue.take", json!(["q1", {"wait_ms": wait_ms, "max": 2}])),
                Step::Done => {
                    if let Some(token) = self.tokens.pop() {
                        self.call("corsac.queue.ack", json!([token]));
                    }
                }
                Step::Lock(name) => {
                    self.call("corsac.lock.acquire", json!([(["l1", "l2"][name]), {"wait_ms": 0, "ttl_ms": 60_000}]))
                }
                Step::Unlock(name) => {
                    if let Some(token) = self.locks.remove(&name) {
                        self.call("corsac.lock.release", json!([(["l1", "l2"][name]), token]));
                    }
                }
                Step::Time(ms) => self.realm.advance(ms),
                Step::KeepPart => {
                    let part = self.realm.router.take_changed_retained(1);
                    self.keep(part);
                }
                Step::Keep => {
                    if self.is_exact {
                        self.realm.advance(300);
                    }
                    let changes = self.realm.router.take_changes();
                    self.keep(changes);
                    self.kept_records = self.realm.records.len();
                    let keys: BTreeSet<Vec<u8>> = self.realm.router.pieces().iter().map(PieceKey::to_bytes).collect();
                    let has = |key: &&Vec<u8>| !matches!(PieceKey::from_bytes(key), Some(PieceKey::Event(_)));
                    let (kept, there): (Vec<_>, Vec<_>) =
                        (self.kept.keys().filter(has).collect(), keys.iter().filter(has).collect());
                    assert_eq!(kept, there, "what is kept is what there is");
                }
                Step::Restart => {
                    self.realm.restart_behind(&self.kept, self.kept_records);
                    self.clients = [None; 3];
                    self.worker = self.realm.wamp();
                }
            }
        }

        /// What anybody can see of the realm after a restart.
        fn look(&mut self) -> (Vec<String>, BTreeSet<(usize, u64)>) {
            let router = &mut self.realm.router;
            let mut seen = Vec::new();
            for key in router.pieces() {
                match (router.piece(&key), &key) {
                    (_, PieceKey::Session(_) | PieceKey::Event(_)) | (None, _) => {}
                    (Some(piece), _) => seen.push(format!("{key:?} {piece:?}")),
                }
            }
            self.realm.advance(0);
            for client in CLIENTS {
                let Some(key) = self.realm.router.sessions.of_client_id(client) else { continue };
                let session = self.realm.router.sessions.at(key).unwrap();
                let names: BTreeSet<String> =
                    session.subscriptions.iter().map(|(name, subscribed)| format!("{name:?} {:?}", subscribed.options)).collect();
                seen.push(format!("{client} {names:?} {:?} {}", session.unreleased.keys(), session.uses));
            }
            let connections: Vec<_> = CLIENTS.map(|client| self.realm.persistent(client)).into_iter().collect();
            let mut events = BTreeSet::new();
            for _ in 0..50 {
                for (index, connection) in connections.iter().enumerate() {
                    self.clients[index] = Some(*connection);
                    let inbox = self.realm.inbox(*connection);
                    let mut steps = Vec::new();
                    for told in inbox {
                        match told {
                            Delivery::Event(event) => {
                                // Which member of a group gets what it is owed is nobody's business.
                                let is_shared = event.publication.topic.as_mqtt() == "v";
                                events.insert((if is_shared { 9 } else { index }, event.publication.id.0));
                                let is_twice = event.qos == Qos::ExactlyOnce;
                                let step = if is_twice { AcknowledgeStep::Received } else { AcknowledgeStep::Acknowledged };
                                steps.extend(event.packet_id.map(|packet_id| Acknowledgement { packet_id, step }));
                            }
                            Delivery::Release(packet_id, _) => {
                                steps.push(Acknowledgement { packet_id, step: AcknowledgeStep::Completed });
                            }
                            _ => {}
                        }
                    }
                    self.realm.send(*connection, Command::Acknowledge(steps));
                }
            }
            (seen, events)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

        /// Pieces and the records behind them lead to the realm that all records lead to.
        #[test]
        fn pieces_stand_for_the_records_before_them(is_exact in any::<bool>(), steps in proptest::collection::vec(step(), 0..80)) {
            let mut world = World::start();
            world.is_exact = is_exact;
            steps.into_iter().for_each(|step| world.take(step));
            if is_exact {
                world.realm.advance(300);
            }
            let (records, now_ms) = (world.realm.records.clone(), world.realm.now_ms);
            let restarted = |kept: &BTreeMap<Vec<u8>, Piece>, count| {
                let mut world = World::start();
                (world.realm.records, world.realm.now_ms, world.realm.connections) = (records.clone(), now_ms, 1_000);
                world.realm.restart_behind(kept, count);
                world.look()
            };
            let ((seen, events), (expected, owed)) =
                (restarted(&world.kept, world.kept_records), restarted(&BTreeMap::new(), 0));
            prop_assert_eq!(seen, expected);
            // Pieces may know of acknowledgements that no record tells of.
            prop_assert!(if is_exact { events == owed } else { events.is_subset(&owed) }, "{:?} {:?}", events, owed);
        }
    }

    /// Found by crashes: what was over before something older, and not on record yet, came twice.
    #[test]
    fn what_is_over_is_known_before_it_is_on_record() {
        let mut world = World { is_exact: false, ..World::start() };
        world.take(Step::Subscribe { client: 0, filter: 1, qos: 2 });
        for _ in 0..2 {
            world.take(Step::Publish { from: 1, topic: 2, qos: 2, retain: false, is_empty: false });
        }
        // PUBREC and PUBCOMP for the second event alone.
        (0..2).for_each(|_| world.take(Step::Acknowledge(0, false)));
        world.take(Step::Keep);
        world.take(Step::Restart);
        let client = world.client(0);
        let told = world.realm.inbox(client);
        let events = told.iter().filter(|told| matches!(told, Delivery::Event(_))).count();
        assert!(events == 1 && told.len() == 1, "{told:?}");
    }

    /// Else its repetition would be answered as one, and nobody had it.
    #[test]
    fn what_has_no_place_yet_is_not_kept() {
        let mut world = World { is_exact: false, ..World::start() };
        world.client(0);
        world.realm.is_disk_slow = true;
        let publish = Step::Publish { from: 0, topic: 1, qos: 2, retain: false, is_empty: false };
        world.take(publish.clone());
        world.take(Step::Keep);
        world.take(Step::Restart);
        world.requests = 0;
        world.take(publish);
        assert_eq!(world.realm.records.iter().filter(|record| record.item.indexed_topic().is_some()).count(), 0);
        world.realm.append_all();
        assert_eq!(world.realm.records.iter().filter(|record| record.item.indexed_topic().is_some()).count(), 1);
    }

    #[test]
    fn keys_come_back_as_they_were() {
        let topic = || Topic::from_mqtt("a/ä").unwrap();
        let all = [
            PieceKey::Event(7),
            PieceKey::Retained(topic()),
            PieceKey::Holder(topic()),
            PieceKey::Grant(topic()),
            PieceKey::Session("c".into()),
            PieceKey::Queues,
            PieceKey::QueueItem(u64::MAX, 3),
            PieceKey::Will(7),
        ];
        for key in &all {
            assert_eq!(PieceKey::from_bytes(&key.to_bytes()).as_ref(), Some(key));
        }
        assert!(all.is_sorted() && all.iter().map(PieceKey::to_bytes).is_sorted());
        for bad in [&b""[..], b"a", b"a1234567", b"b", b"b#", b"fx", b"g123", b"z", b"e\xff"] {
            assert_eq!(PieceKey::from_bytes(bad), None, "{bad:?}");
        }
    }
}
