//! Records of an earlier process, applied again at the start: sessions, subscriptions, and what they are owed.
use crate::router::base::codec::Unreadable;
use crate::router::session::record::HANDSHAKES;
use std::sync::Arc;

use crate::model::command::{Features, Open, Protocol, Selection, SubscribeEntry, SubscribeOptions, Transport};
use crate::model::record::{DedupKey, Flags, Kind};
use crate::model::{EventId, Filter, Item, PacketId, Payload, Principal, PublicationId, Qos, Record, SessionId, SubscriptionId};
use crate::router::base::codec::decode_record;
use crate::router::base::key::SessionKey;
use crate::router::base::passage::Source;
use crate::router::base::piece::PieceKey;
use crate::router::base::place::Place;
use crate::router::base::reads::has_known_readers;
use crate::router::flow::subscribe::OwedReplay;
use crate::router::flow::{deliver, locks, queues, replay, route, session, subscribe, wills};
use crate::router::lock::LockedTopic;
use crate::router::lock::holder::Holder;
use crate::router::lock::record::LockChange;
use crate::router::realm::Realm;
use crate::router::session::Session;
use crate::router::session::backlog::{Backlog, Position};
use crate::router::session::entry::Entry;
use crate::router::session::record::{Checkpoint, Handshake, SessionChange, SubscriptionChange, protocol_of};
use crate::router::session::resumable::ReplayState;
use crate::router::session::window::Outgoing;

/// A record of the history that was there before this process: brings the realm's state to what it was behind it. Records
/// come in the order of ids, all of them, before any command. Which client retained a message is not on record: No Local does
/// not see it.
pub fn handle_replayed(realm: &mut Realm, record: &Record) -> Result<(), Unreadable> {
    realm.reads.note_last(record.id);
    replay_packet_id(realm, record);
    realm.locks.time_ms = record.item.time_ms;
    let Item { kind, flags, time_ms, payload, .. } = &record.item;
    match (*kind, payload) {
        (Kind::LOCK, _) => return replay_lock(realm, record),
        (Kind::WILL, _) => {
            wills::replay_will(realm, record);
            return Ok(());
        }
        (Kind::QUEUE, _) => {
            if !queues::replay_queue_record(realm, record)? {
                replay_refused(realm, record);
            }
        }
        (Kind::GONE, _) => {
            queues::replay_queue_record(realm, record)?;
            locks::replay_process_end(realm, record.id);
            replay_gone(realm, Place { id: record.id, time_ms: *time_ms });
        }
        (Kind::PUBLICATION, _) => replay_publication(realm, record),
        (kind, Payload::Bytes(body)) => {
            replay_change(realm, Place { id: record.id, time_ms: *time_ms }, kind, body).ok_or(Unreadable)?;
        }
        _ => return Err(Unreadable),
    }
    if flags.has(Flags::RETAIN)
        && let Some(publication) = record.to_publication()
    {
        replay_holder(realm, record);
        route::retain(realm, &Arc::new(publication), None);
    }
    Ok(())
}

/// A record of an earlier process about sessions; `None` if it cannot be read.
fn replay_change(realm: &mut Realm, place: Place, kind: Kind, body: &[u8]) -> Option<()> {
    match kind {
        Kind::SESSION => decode_record(body).map(|change| replay_session(realm, place, change)),
        Kind::SUBSCRIPTION => decode_record(body).map(|change| replay_subscription(realm, change)),
        Kind::HANDSHAKE => decode_record(body).map(|step| replay_handshake(realm, step)),
        Kind::CURSOR => decode_record(body).map(|checkpoint| replay_checkpoint(realm, checkpoint)),
        _ => None,
    }
}

/// The members of the share groups that a session is in, itself too.
fn fellows_of(realm: &Realm, key: SessionKey) -> Vec<SessionKey> {
    let session = realm.sessions.at(key).into_iter();
    realm.broker.fellows(session.flat_map(|session| session.subscriptions.keys()))
}

/// A session, to be changed by a record.
fn session_of<'a>(realm: &'a mut Realm, client: &str) -> Option<&'a mut Session> {
    let key = realm.sessions.of_client_id(client)?;
    deliver::note_session_changed(realm, key);
    realm.sessions.at_mut(key)
}

fn replay_checkpoint(realm: &mut Realm, checkpoint: Checkpoint) {
    let Checkpoint { client, cursor, over, done, shared, replayed, replays } = checkpoint;
    let Some(key) = realm.sessions.of_client_id(&client) else { return };
    deliver::note_session_changed(realm, key);
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let Some(backlog) = &mut session.backlog else { return };
    backlog.restore_said(Position { cursor, over, done });
    let is_over = |id: PublicationId| id.event().is_none_or(|id| backlog.is_over(id));
    session.inflight.restore_finished(|id, source| source.is_history() && is_over(id));
    if !replayed.is_empty() {
        let is_over = |id: PublicationId| replayed.iter().any(|(first, last)| (*first..=*last).contains(&id.0));
        session.inflight.restore_finished(|id, source| source == Source::Replayed && is_over(id));
    }
    let ended: Vec<u32> = replays.into_iter().filter_map(|said| backlog.replays().restore(said)).collect();
    ended.into_iter().for_each(|number| replay::end_replay(realm, key, number));
    if shared.is_empty() {
        return;
    }
    // The receiver of each event of a shared subscription is not on record before it is over.
    let is_over = |id: PublicationId| shared.iter().any(|(first, last)| (*first..=*last).contains(&id.0));
    for member in fellows_of(realm, key) {
        deliver::note_session_changed(realm, member);
        if let Some(member) = realm.sessions.at_mut(member) {
            member.inflight.restore_finished(|id, source| matches!(source, Source::Shared(_)) && is_over(id));
        }
    }
}

/// Finds what an earlier process sent through a shared subscription, with whichever member it was expected.
fn replay_sent(realm: &mut Realm, client: &str, packet_id: PacketId, event: EventId, is_shared: bool, is_replayed: bool) {
    let Some(key) = realm.sessions.of_client_id(client) else { return };
    deliver::note_session_changed(realm, key);
    if is_replayed {
        let inflight = realm.sessions.at_mut(key).map(|session| &mut session.inflight);
        return inflight.into_iter().for_each(|inflight| inflight.restore_awaited(packet_id, event, Source::Replayed));
    }
    let fellows = if is_shared { fellows_of(realm, key) } else { Vec::new() };
    let mut fellows = fellows.into_iter();
    let owed = fellows.find_map(|member| {
        let owed = realm.sessions.at_mut(member)?.inflight.take_waiting(event.into())?;
        deliver::note_session_changed(realm, member);
        Some(Outgoing { qos: Qos::ExactlyOnce, ..owed })
    });
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let is_over = match is_shared {
        true => owed.is_none(),
        false => session.backlog.as_ref().is_none_or(|backlog| backlog.is_over(event)),
    };
    match owed {
        _ if is_over => {}
        Some(owed) => session.inflight.restore_sent(packet_id, event, owed),
        None => session.inflight.restore_awaited(packet_id, event, Source::Past),
    }
}

fn replay_handshake(realm: &mut Realm, step: Handshake) {
    match step {
        Handshake::Released { client, packet_id } => {
            if let Some(session) = session_of(realm, &client) {
                session.inbound.release(PacketId(packet_id));
            }
        }
        Handshake::Sent { client, packet_id, event, is_shared, is_replayed } => {
            if let Some(event) = EventId::new(event) {
                replay_sent(realm, &client, PacketId(packet_id), event, is_shared, is_replayed);
            }
        }
        Handshake::Received { client, packet_id } => {
            if let Some(session) = session_of(realm, &client) {
                session.inflight.restore_received(PacketId(packet_id));
            }
        }
    }
}

fn replay_session(realm: &mut Realm, place: Place, change: SessionChange) {
    match change {
        SessionChange::Ended { client } => replay_ended(realm, &client),
        SessionChange::Left { client, expiry_s, sent } => {
            if let Some(session) = session_of(realm, &client) {
                session.expiry_s = expiry_s;
                session.note_left(place.time_ms, EventId::new(sent));
                let id = session.id;
                locks::replay_end(realm, id, place.id);
            }
        }
        SessionChange::Opened { client, session, authid, authrole, protocol, expiry_s, will_delay_s } => {
            let principal = Principal::of_record(authid, authrole);
            // A full disk may have refused the end of the session before.
            let earlier = realm.sessions.of_client_id(&client).and_then(|key| realm.sessions.at(key));
            if earlier.is_some_and(|earlier| earlier.id.0 != session) {
                replay_ended(realm, &client);
            }
            let key = realm
                .sessions
                .of_client_id(&client)
                .or_else(|| replay_opened(realm, place, &client, SessionId(session), expiry_s));
            if let Some(key) = key {
                deliver::note_session_changed(realm, key);
            }
            if let Some(session) = key.and_then(|key| realm.sessions.at_mut(key)) {
                session.protocol = protocol_of(protocol);
                session.principal = Arc::new(principal);
                session.expiry_s = expiry_s;
                session.will_delay_s = will_delay_s;
                session.left_ms = None;
                session.inflight.restore_connected();
                let id = session.id;
                locks::replay_end(realm, id, place.id);
            }
        }
    }
}

fn replay_ended(realm: &mut Realm, client: &str) {
    let Some(key) = realm.sessions.of_client_id(client) else { return };
    let removed = session::remove_session(realm, key);
    realm.changes.note(|| PieceKey::Session(client.into()));
    removed.into_iter().for_each(|session| deliver::redistribute(realm, session.inflight));
}

pub fn replay_opened(realm: &mut Realm, place: Place, client: &str, session: SessionId, expiry_s: u32) -> Option<SessionKey> {
    if realm.sessions.of_id(session).is_some() {
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
    let mut session = Session::new(&mut open, 1);
    session.is_recorded = true;
    session.is_replayed = true;
    session.backlog = Some(Box::new(Backlog::restored(Some(place.id))));
    Some(realm.sessions.insert(session))
}

fn replay_subscription(realm: &mut Realm, change: SubscriptionChange) {
    let (client, entries, is_subscribed) = match change {
        SubscriptionChange::Subscribed { client, entries } => (client, entries, true),
        SubscriptionChange::Unsubscribed { client, entries } => (client, entries, false),
    };
    let Some(key) = realm.sessions.of_client_id(&client) else { return };
    deliver::note_session_changed(realm, key);
    // The bounds refuse again what they refused before.
    for entry in entries {
        if is_subscribed && let Some(entry) = entry.to_subscribe() {
            let replays = replay_entry(realm, key, entry);
            subscribe::start_replays(realm, key, replays);
        } else if let Some(entry) = entry.to_unsubscribe() {
            subscribe::unsubscribe_entry(realm, key, &entry).ok();
        }
    }
}

/// Subscribes a session as it was subscribed. The replays that it is owed are begun again, as far as records behind do not say that
/// they are over.
pub fn replay_entry(realm: &mut Realm, key: SessionKey, entry: SubscribeEntry) -> Vec<OwedReplay> {
    let mut replays = Vec::new();
    match entry {
        SubscribeEntry::Topic { filter, share, options } => {
            subscribe::subscribe_topic(realm, key, filter, share, options, &mut replays).ok();
        }
        SubscribeEntry::Selected { filter, options, selection } => {
            subscribe::subscribe_selected(realm, key, filter, options, *selection, Ok(()), &mut replays).ok();
        }
        SubscribeEntry::Procedure { filter, options } => {
            if let Some(session) = realm.sessions.at_mut(key) {
                session.procedures.insert((filter, options.form), options);
            }
        }
        SubscribeEntry::Refused(_) => {}
    }
    replays.retain(OwedReplay::is_lasting);
    replays
}

/// A replay that a session is owed, as it was kept. A subscription that ends with it is kept nowhere else.
pub fn restore_replay(realm: &mut Realm, key: SessionKey, state: ReplayState) {
    let ReplayState { entry, until, reached } = state;
    let replay = match entry.to_subscribe() {
        Some(SubscribeEntry::Topic { filter, options, .. }) => OwedReplay::Retained(filter, SubscriptionId(0), options),
        Some(SubscribeEntry::Selected { filter, options, selection }) => {
            restore_selected(realm, key, entry, until, filter, options, *selection)
        }
        _ => return,
    };
    let newest = |realm: &mut Realm| Some(realm.sessions.at_mut(key)?.backlog.as_mut()?.replays().newest());
    let before = newest(realm);
    subscribe::start_replays(realm, key, vec![replay]);
    let number = newest(realm).filter(|number| Some(*number) != before);
    let backlog = realm.sessions.at_mut(key).and_then(|session| session.backlog.as_mut());
    if let (Some(number), Some(backlog)) = (number, backlog) {
        backlog.replays().restore_reached(number, until, reached);
    }
}

/// The replay of a subscription that selects what it gets, which is made anew.
fn restore_selected(
    realm: &mut Realm,
    key: SessionKey,
    entry: Entry,
    until: u64,
    filter: Filter,
    options: SubscribeOptions,
    selection: Selection,
) -> OwedReplay {
    let is_past = selection.past.is_some();
    if selection.is_snapshot {
        subscribe::subscribe_topic(realm, key, filter.clone(), None, options, &mut Vec::new()).ok();
        let subscriptions = realm.sessions.at_mut(key).map(|session| &mut session.subscriptions);
        if let Some(subscribed) = subscriptions.and_then(|all| all.get_mut(&(filter.clone(), None))) {
            subscribed.since = until;
        }
    }
    if selection.is_snapshot || is_past {
        replay::forget_selection(realm, key, &filter);
        let selection = replay::select(realm, key, SubscriptionId(0), &filter, options, selection);
        if is_past {
            return OwedReplay::Past(filter, selection, Some(entry));
        }
    }
    OwedReplay::Retained(filter, SubscriptionId(0), options)
}

/// The QoS 2 id under which a publication or an item of a queue came, not released.
pub fn replay_packet_id(realm: &mut Realm, record: &Record) {
    let Some((key, id)) = record.item.dedup.as_ref().and_then(|key| read_handshake_key(realm, key)) else { return };
    deliver::note_session_changed(realm, key);
    if let Some(session) = realm.sessions.at_mut(key) {
        session.inbound.restore_packet_id(id.0, id.1);
    }
}

/// An item that its queue had no room for. That ended the use of its packet id [MQTT-4.3.3-9].
fn replay_refused(realm: &mut Realm, record: &Record) {
    let Some((key, (id, _))) = record.item.dedup.as_ref().and_then(|key| read_handshake_key(realm, key)) else { return };
    if let Some(session) = realm.sessions.at_mut(key) {
        session.inbound.release(id);
    }
}

/// A publication of an earlier process: its subscribers are owed one more.
pub fn replay_publication(realm: &mut Realm, record: &Record) {
    if realm.sessions.is_empty() || !has_known_readers(record) || record.item.qos == Qos::AtMostOnce {
        return;
    }
    let Some(publication) = record.to_publication() else { return };
    let from = record.item.origin.as_ref().and_then(|origin| realm.sessions.of_id(origin.session));
    route::route(realm, from, &Arc::new(publication), None);
}

/// The session that a key is of, if it is there; the key of an earlier session of its client is nobody's. Before session ids
/// were in keys, the session was that of the client at the record's place.
fn read_handshake_key(realm: &Realm, key: &DedupKey) -> Option<(SessionKey, (PacketId, u64))> {
    let session = realm.sessions.of_client_id(key.owner.strip_prefix(HANDSHAKES)?)?;
    let (packet_id, rest) = key.key.split_first_chunk::<2>()?;
    let (uses, rest) = rest.split_first_chunk::<8>()?;
    let id = if rest.is_empty() { None } else { Some(SessionId(u64::from_le_bytes(rest.try_into().ok()?))) };
    if id.is_some() && realm.sessions.at(session).map(|session| session.id) != id {
        return None;
    }
    Some((session, (PacketId::new(u16::from_le_bytes(*packet_id))?, u64::from_le_bytes(*uses))))
}

/// The process ended here, and all its connections.
pub fn replay_gone(realm: &mut Realm, place: Place) {
    let connected: Vec<_> = realm.sessions.iter().filter(|(_, session)| session.left_ms.is_none()).map(|(key, _)| key).collect();
    for key in connected {
        deliver::note_session_changed(realm, key);
        if let Some(session) = realm.sessions.at_mut(key) {
            session.note_left(place.time_ms, Some(place.id));
        }
    }
}

/// Everything is read: sessions wait for their clients, from when those left, or from now if the process ended first.
pub fn finish_replay(realm: &mut Realm) {
    // Nobody is connected: what was said to anybody is void.
    realm.cx.effects.clear();
    let last = realm.reads.last_id();
    if last.is_some() {
        realm.calls.skip_earlier(realm.cx.random.bits());
    }
    let sessions: Vec<SessionKey> = realm.sessions.iter().map(|(key, _)| key).collect();
    for key in sessions {
        let Some(session) = realm.sessions.at_mut(key) else { continue };
        session.inflight.trim_to(&realm.cx.limits);
        session.is_replayed = false;
        for (_, owed) in session.inflight.shared() {
            if let Source::Shared(group) = owed.source {
                realm.broker.note_behind(group, true);
            }
        }
        if let Some(client) = &session.client_id {
            realm.calls.begin(key, client);
        }
        let left_ms = session.left_ms.unwrap_or(realm.cx.now_ms);
        if session.left_ms.is_none() {
            session.note_left(left_ms, last);
            deliver::note_session_changed(realm, key);
        }
        replay::resume_replays(realm, key);
        wills::restore_will(realm, key);
        if session::wait_for_client(realm, key, left_ms) {
            realm.wills.note_due(key);
        }
    }
}

/// A record about conditions that was there before this process.
fn replay_lock(realm: &mut Realm, record: &Record) -> Result<(), Unreadable> {
    let Payload::Bytes(body) = &record.item.payload else { return Err(Unreadable) };
    let change = LockChange::decode(body).ok_or(Unreadable)?;
    let topic = change.topic().ok_or(Unreadable)?;
    if let LockChange::Grant { session, will, .. } = change {
        realm.changes.note(|| PieceKey::Grant(topic.clone()));
        realm.locks.recorded.insert(topic, (SessionId(session), will));
    }
    Ok(())
}

/// A change of a topic's value that was there before this process: whose end is to change it again.
pub fn replay_holder(realm: &mut Realm, record: &Record) {
    let Some(topic) = &record.item.topic else { return };
    let by = record.item.origin.as_ref().map(|origin| origin.session);
    let is_empty = record.item.payload.is_empty();
    let holder = realm.locks.topics.get(topic).and_then(|cell| cell.holder.as_ref());
    if holder.is_some_and(|holder| by != Some(holder.session) || is_empty || realm.locks.ends.has_parted(holder)) {
        realm.changes.note(|| PieceKey::Holder(topic.clone()));
        realm.locks.topics.remove(topic);
    }
    if realm.locks.recorded.contains_key(topic) {
        realm.changes.note(|| PieceKey::Grant(topic.clone()));
        realm.changes.note(|| PieceKey::Holder(topic.clone()));
    }
    let is_grant = record.item.flags.has(Flags::CONDITIONAL) && !is_empty;
    let recorded = realm.locks.recorded.remove(topic).filter(|(session, _)| is_grant && by == Some(*session));
    if let Some((session, will)) = recorded {
        let holder = Holder::earlier(session, record.id, will, None);
        realm.locks.topics.insert(topic.clone(), LockedTopic { holder: Some(holder), ..LockedTopic::default() });
    }
}
