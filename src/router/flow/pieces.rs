//! Pieces of state: which have changed, what they are now, and how a realm is made of them.
use crate::model::record::Kind;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::command::{SubscribeEntry, SubscribeOptions};
use crate::model::record::Flags;
use crate::model::{EventId, Filter, PacketId, Principal, Publication, PublicationId, Qos, Record, SessionId, Topic};
use crate::router::base::codec::{decode, encode};
use crate::router::base::effect::{Draft, DraftBody};
use crate::router::base::key::SessionKey;
use crate::router::base::passage::Source;
use crate::router::base::piece::{ITS_REALM, Piece, PieceKey};
use crate::router::base::place::Place;
use crate::router::flow::{deliver, progress, queues, restart};
use crate::router::lock::LockedTopic;
use crate::router::lock::holder::Holder;
use crate::router::realm::Realm;
use crate::router::session::Session;
use crate::router::session::backlog::Position;
use crate::router::session::entry::Entry;
use crate::router::session::record::{SessionState, SharedState, level_of, protocol_of};
use crate::router::session::window::Outgoing;

/// Of [`PieceKey::Holder`]
#[derive(Serialize, Deserialize)]
struct HolderState {
    session: u64,
    token: u64,
    will: Value,
    deadline_ms: Option<u64>,
    /// Its connection has ended.
    #[serde(default)]
    parted: bool,
}

/// Of [`PieceKey::Grant`]
#[derive(Serialize, Deserialize)]
struct GrantState {
    session: u64,
    will: Value,
}

/// A publication that has its place, as a record again.
fn record_of(publication: &Arc<Publication>) -> Option<Record> {
    let id = publication.id.event()?;
    let flags = Flags::of([(publication.retain, Flags::RETAIN), (publication.publisher.is_some(), Flags::DISCLOSED)]);
    let author = publication.publisher.clone();
    let draft = Draft { body: DraftBody::Publication(Kind::PUBLICATION, publication.clone()), author, flags, dedup: None };
    Some(Record { id, item: draft.into_item(ITS_REALM.into()) })
}

/// From now on changes of pieces are noted, for [`Router::take_changes`].
pub fn track_changes(realm: &mut Realm) {
    realm.changes.track();
    realm.queues.track_changes();
}

/// No piece is kept yet.
pub fn note_all_changed(realm: &mut Realm) {
    for key in pieces(realm) {
        match key {
            PieceKey::Session(_) | PieceKey::Event(_) => {}
            PieceKey::Retained(topic) => realm.changes.note_retained(&topic),
            key @ (PieceKey::Queues | PieceKey::QueueItem(..)) => realm.queues.note_changed(&key),
            key => realm.changes.note(|| key),
        }
    }
    let sessions: Vec<SessionKey> = realm.sessions.iter().map(|(key, _)| key).collect();
    sessions.into_iter().for_each(|key| deliver::note_session_changed(realm, key));
}

/// The number of retained messages that have changed.
pub fn changed_retained(realm: &Realm) -> usize {
    realm.changes.retained()
}

/// The number of other pieces that have changed, about.
pub fn changed(realm: &Realm) -> usize {
    realm.changes.others() + realm.queues.changed()
}

/// So many of the retained messages that have changed. They may be kept before all other pieces: whatever a record before the
/// last has retained gives way to what is read behind it.
pub fn take_changed_retained(realm: &mut Realm, count: usize) -> Vec<(PieceKey, Option<Piece>)> {
    let topics = realm.changes.take_retained(count);
    let piece_of = |topic: Topic| {
        let key = PieceKey::Retained(topic);
        let piece = piece(realm, &key);
        (key, piece)
    };
    topics.into_iter().map(piece_of).collect()
}

/// The pieces that have changed since the last time, as they are now; `None` is no more.
pub fn take_changes(realm: &mut Realm) -> Vec<(PieceKey, Option<Piece>)> {
    let events = shared_events(realm).collect();
    let mut keys = realm.changes.take_all(events);
    let changed: Vec<SessionKey> =
        realm.sessions.iter().filter(|(_, session)| session.is_piece_changed()).map(|(key, _)| key).collect();
    for key in changed {
        let Some(session) = realm.sessions.at_mut(key) else { continue };
        session.note_piece_kept();
        keys.extend(session.client_id.clone().map(PieceKey::Session));
    }
    keys.extend(realm.queues.take_changes());
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(|key| (key.clone(), piece(realm, &key))).collect()
}

/// Every piece there is, by key.
pub fn pieces(realm: &Realm) -> Vec<PieceKey> {
    let sessions = realm.sessions.iter().map(|(_, session)| session).filter(|session| session.is_recorded);
    let held = realm.locks.topics.iter().filter(|(_, cell)| cell.holder.is_some());
    let mut keys: Vec<PieceKey> = realm.retained.topics().cloned().map(PieceKey::Retained).collect();
    keys.extend(shared_events(realm).map(PieceKey::Event));
    keys.extend(held.map(|(topic, _)| PieceKey::Holder(topic.clone())));
    keys.extend(realm.locks.recorded.keys().cloned().map(PieceKey::Grant));
    keys.extend(sessions.filter_map(|session| session.client_id.clone()).map(PieceKey::Session));
    keys.extend(realm.queues.pieces());
    keys.extend(realm.wills.sessions().map(|session| PieceKey::Will(session.0)));
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The present content of a piece; `None` if there is none.
pub fn piece(realm: &mut Realm, key: &PieceKey) -> Option<Piece> {
    let of_record = |record| Piece { head: Bytes::new(), record: Some(record) };
    let of_head = |head| Piece { head, record: None };
    match key {
        PieceKey::Event(id) => find_shared(realm, PublicationId(*id)).and_then(|event| record_of(&event)).map(of_record),
        PieceKey::Retained(topic) => realm.retained.find(topic, 0).and_then(record_of).map(of_record),
        PieceKey::Holder(topic) => {
            let holder = realm.locks.topics.get(topic)?.holder.as_ref()?;
            let (session, token) = (holder.session().0, holder.token().value());
            let (will, deadline_ms, parted) = (holder.will().clone(), holder.deadline_ms(), realm.locks.ends.has_parted(holder));
            let state = HolderState { session, token, will, deadline_ms, parted };
            Some(of_head(encode(&state)))
        }
        PieceKey::Grant(topic) => {
            let (session, will) = realm.locks.recorded.get(topic)?;
            Some(of_head(encode(&GrantState { session: session.0, will: will.clone() })))
        }
        PieceKey::Session(client) => {
            let key = realm.sessions.of_client_id(client)?;
            session_state(realm, key).map(|state| of_head(encode(&state)))
        }
        PieceKey::Queues | PieceKey::QueueItem(..) => realm.queues.piece(key),
        PieceKey::Will(session) => {
            let record = realm.wills.of(SessionId(*session))?.clone();
            Some(of_record(record))
        }
    }
}

/// The numbers of the events that sessions which stay are owed through shared subscriptions.
fn shared_events(realm: &Realm) -> impl Iterator<Item = u64> {
    let sessions = realm.sessions.iter().map(|(_, session)| session).filter(|session| session.is_recorded);
    let owed = sessions.flat_map(|session| session.inflight.shared());
    owed.filter_map(|(_, owed)| owed.publication.id.event()).map(EventId::value)
}

/// An event that members of share groups are owed; rare enough to be looked for.
fn find_shared(realm: &Realm, id: PublicationId) -> Option<Arc<Publication>> {
    let mut shared = realm.sessions.iter().flat_map(|(_, session)| session.inflight.shared());
    shared.find(|(_, owed)| owed.publication.id == id).map(|(_, owed)| owed.publication.clone())
}

fn session_state(realm: &mut Realm, key: SessionKey) -> Option<SessionState> {
    // The last acknowledgements of its client may not be on record yet, but count all the same.
    let finished = realm.sessions.at(key)?.finished.history().to_vec();
    let Position { cursor, over, done } = progress::standing_of(realm, key, &finished)?;
    let session = realm.sessions.at(key).filter(|session| session.is_recorded)?;
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
        uses: session.inbound.uses(),
        unreleased: session.inbound.placed_ids().map(PacketId::value).collect(),
        first_packet_id: session.inflight.first_id().value(),
        begun: begun.collect(),
        entries: entries_of(realm, session),
        shared: shared_of(realm, session),
        replays: session.backlog.as_ref().map_or(Vec::new(), |backlog| backlog.replay_states()),
    })
}

fn entries_of(realm: &Realm, session: &Session) -> Vec<(Entry, u64)> {
    let subscribed = session.subscriptions.iter().filter_map(|((filter, share), subscribed)| {
        let selected = session.selections.get(filter).filter(|_| share.is_none());
        let selected = selected.and_then(|selection| realm.selections.get(*selection as usize));
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

fn shared_of(realm: &Realm, session: &Session) -> Vec<SharedState> {
    let names: HashMap<u32, (Box<str>, Box<str>), FixedState> = session
        .subscriptions
        .keys()
        .filter_map(|(filter, share)| {
            let share = share.clone()?;
            Some((realm.broker.group_of(filter, &share)?, (filter.as_mqtt()?.into(), share)))
        })
        .collect();
    let state = |(packet_id, owed): (Option<PacketId>, &Outgoing)| {
        let Source::Shared(group) = owed.source else { return None };
        // A member that has given its subscription up keeps what it was sent.
        let (filter, share) = names.get(&group).cloned().unwrap_or_default();
        Some(SharedState {
            event: owed.publication.id.event()?.value(),
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
pub fn restore(realm: &mut Realm, key: &PieceKey, piece: &Piece) -> Option<()> {
    let Piece { head, record } = piece;
    match key {
        PieceKey::Event(_) => {
            realm.restoring.insert(record.as_ref()?.id, Arc::new(record.as_ref()?.to_publication()?));
        }
        PieceKey::Retained(_) => {
            let publication = record.as_ref()?.to_publication()?;
            realm.retained.set(Arc::new(publication), None);
        }
        PieceKey::Holder(topic) => {
            let HolderState { session, token, will, deadline_ms, parted } = decode(head)?;
            let holder = Holder::earlier(SessionId(session), EventId::new(token)?, will, deadline_ms).parted(parted);
            realm.locks.topics.insert(topic.clone(), LockedTopic { holder: Some(holder), ..LockedTopic::default() });
        }
        PieceKey::Grant(topic) => {
            let GrantState { session, will } = decode(head)?;
            realm.locks.recorded.insert(topic.clone(), (SessionId(session), will));
        }
        PieceKey::Session(client) => restore_session(realm, client, decode(head)?)?,
        PieceKey::Queues | PieceKey::QueueItem(..) => realm.queues.restore(key, piece)?,
        PieceKey::Will(session) => {
            realm.wills.set(SessionId(*session), Some(record.clone()?));
        }
    }
    Some(())
}

/// All pieces are those of a realm whose last event was this, at that time (milliseconds since the Unix epoch).
pub fn resume_behind(realm: &mut Realm, last: EventId, time_ms: u64) {
    realm.reads.note_last(last);
    realm.locks.time_ms = time_ms;
    realm.restoring.clear();
    queues::set_queue_timer(realm);
}

fn restore_session(realm: &mut Realm, client: &str, state: SessionState) -> Option<()> {
    let place = Place { id: EventId::FIRST, time_ms: 0 };
    let key = restart::replay_opened(realm, place, client, SessionId(state.session), state.expiry_s)?;
    for (entry, since) in state.entries {
        let name = entry.to_subscribe();
        if let Some(entry) = name {
            let filter = match &entry {
                SubscribeEntry::Topic { filter, share, .. } => Some((filter.clone(), share.clone())),
                SubscribeEntry::Selected { filter, .. } => Some((filter.clone(), None)),
                _ => None,
            };
            // Those that are owed are in the piece.
            restart::replay_entry(realm, key, entry);
            let session = realm.sessions.at_mut(key)?;
            if let Some(subscribed) = filter.and_then(|name| session.subscriptions.get_mut(&name)) {
                subscribed.since = since;
            }
        }
    }
    let shared: Vec<_> = state.shared.into_iter().filter_map(|shared| restore_shared(realm, shared)).collect();
    let session = realm.sessions.at_mut(key)?;
    let SessionState { authid, authrole, cursor, over, done, routed, .. } = state;
    session.principal = Arc::new(Principal::of_record(authid, authrole));
    session.protocol = protocol_of(state.protocol);
    session.left_ms = state.left_ms;
    session.is_from_piece = true;
    session.inbound.restore_uses(state.uses);
    session.will_delay_s = state.will_delay_s;
    state.unreleased.into_iter().filter_map(PacketId::new).for_each(|id| session.inbound.restore_packet_id(id, 0));
    let backlog = session.backlog.as_mut()?;
    backlog.restore(Position { cursor, over, done });
    backlog.restore_routed(routed, EventId::new(state.sent_until));
    session.inflight.restore_first(PacketId::new(state.first_packet_id)?);
    for (packet_id, event, step) in state.begun {
        if let (Some(packet_id), Some(event)) = (PacketId::new(packet_id), EventId::new(event)) {
            session.inflight.restore_begun(packet_id, event, step);
        }
    }
    for (packet_id, owed) in shared {
        match (packet_id, owed.publication.id.event()) {
            (Some(packet_id), Some(event)) => session.inflight.restore_sent(packet_id, event, owed),
            _ => session.inflight.wait(owed),
        }
    }
    state.replays.into_iter().for_each(|replay| restart::restore_replay(realm, key, replay));
    Some(())
}

fn restore_shared(realm: &Realm, state: SharedState) -> Option<(Option<PacketId>, Outgoing)> {
    let publication = realm.restoring.get(&EventId::new(state.event)?)?.clone();
    let group = match state.share.is_empty() {
        true => u32::MAX,
        false => realm.broker.group_of(&Filter::from_mqtt(&state.filter).ok()?, &state.share)?,
    };
    let owed = Outgoing {
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
