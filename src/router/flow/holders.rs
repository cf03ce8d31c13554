//! The life of a holder from the grant to the end: release by token, time to live, the end of the session or of the process.
//!
//! A lock is the publication `when: null, watch: true, will: null, retain: true`, on the topic `$lock/<name>` where a procedure
//! asked for it. Its end is a publication too: the holder's will, or no value.
use crate::model::SessionId;
use crate::router::base::on_the_way::NextValue;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::command::Acknowledge;
use crate::model::delivery::Taken;
use crate::model::outcome::Outcome;
use crate::model::properties::Properties;
use crate::model::{ConnectionId, Delivery, Payload, Publication, Qos, Reason, Topic, names};
use crate::router::base::context::RETRY_MS;
use crate::router::base::due::Due;
use crate::router::base::key::SessionKey;
use crate::router::base::piece::PieceKey;
use crate::router::base::place::Place;
use crate::router::base::reply::{Caller, Message, Reply, json_args};
use crate::router::flow::lost::{Loser, Lost};
use crate::router::flow::{answer, append, lost};
use crate::router::lock::holder::Holder;
use crate::router::lock::record::LockChange;
use crate::router::lock::request::{By, LockGrant, Role};
use crate::router::realm::Realm;
use crate::router::waiting::Published;

/// A publication has its place. The publication is a grant, the end of a holder, or a change that makes the holder's promise
/// void. Gives the part of its acknowledgement that is left.
pub fn apply_placed(
    realm: &mut Realm,
    place: Place,
    publication: &Publication,
    by: By,
    role: Role,
    (acknowledge, has_receivers): (Acknowledge, bool),
) -> Acknowledge {
    let topic = &publication.topic;
    match role {
        Role::Plain => note_value(realm, publication, by),
        Role::Release => {
            if let Some(caller) = take_holder(realm, topic).and_then(|holder| holder.leaving?.asker) {
                answer::reply(realm, &caller, Reply::Now(Vec::new()));
            }
        }
        Role::Granted(granted) => {
            if realm.locks.recorded.remove(topic).is_some() {
                realm.changes.note(|| PieceKey::Grant(topic.clone()));
            }
            if realm.locks.unrecorded.remove(topic) {
                // A restart would not know that it is held.
                hold(realm, place, topic, by, &granted);
                end_holder(realm, topic);
                return tell_refused(realm, by.key, *granted, acknowledge, Reason::NoSpace);
            } else if publication.retain && !publication.payload.is_empty() && granted.will.is_some() {
                hold(realm, place, topic, by, &granted);
            } else if publication.retain {
                note_value(realm, publication, by);
            }
            return tell_granted(realm, place, by.key, *granted, (acknowledge, has_receivers));
        }
    }
    acknowledge
}

/// A change by the holder itself keeps its promise; a change by anybody else makes it void.
fn note_value(realm: &mut Realm, publication: &Publication, by: By) {
    let holder = realm.locks.topics.get(&publication.topic).and_then(|cell| cell.holder.as_ref());
    let is_own = holder.is_some_and(|holder| holder.is_by(by.session, by.connection));
    if !is_own || publication.payload.is_empty() {
        void_holder(realm, &publication.topic, by.session);
    }
}

/// The holder's promise is void: the topic has another value, from this session.
fn void_holder(realm: &mut Realm, topic: &Topic, by: Option<SessionId>) {
    let Some(mut holder) = take_holder(realm, topic) else { return };
    match holder.leaving.take() {
        Some(leaving) => {
            if let Some(caller) = leaving.asker {
                lost::refuse_token(realm, topic, &caller);
            }
        }
        None if by != Some(holder.session) => lost::tell_lost(realm, topic, Loser::of(&holder), Lost::Changed(by)),
        None => {}
    }
}

fn take_holder(realm: &mut Realm, topic: &Topic) -> Option<Holder> {
    let holder = realm.locks.topics.get_mut(topic)?.holder.take()?;
    realm.changes.note(|| PieceKey::Holder(topic.clone()));
    if let Some(key) = holder.key {
        if let Some(standing) = realm.locks.sessions.get_mut(&key) {
            standing.held.remove(topic);
        }
        forget_standing(realm, key);
    }
    Some(holder)
}

fn hold(realm: &mut Realm, place: Place, topic: &Topic, by: By, granted: &LockGrant) {
    void_holder(realm, topic, by.session);
    let Some(session) = by.session else { return };
    let key = by.key.filter(|key| is_connected_by(realm, *key, granted.connection));
    let will = granted.will.clone().unwrap_or_default();
    let deadline_ms = granted.ttl_ms.map(|ttl_ms| place.time_ms.saturating_add(ttl_ms));
    let (token, connection, told) = (place.id, Some(granted.connection), granted.asker.clone());
    let (is_parted, leaving) = (key.is_none(), None);
    let mut holder = Holder { key, session, connection, is_parted, token, will, deadline_ms, told, leaving };
    match key {
        Some(key) => drop(realm.locks.sessions.entry(key).or_default().held.insert(topic.clone())),
        // The session had ended before it was granted.
        None => holder.leave(holder.will.clone(), None),
    }
    realm.changes.note(|| PieceKey::Holder(topic.clone()));
    realm.locks.topics.entry(topic.clone()).or_default().holder = Some(holder);
}

fn is_connected_by(realm: &Realm, from: SessionKey, connection: ConnectionId) -> bool {
    realm.sessions.at(from).is_some_and(|session| session.connection == Some(connection))
}

/// Tells the token: in the acknowledgement (MQTT 5), as the answer of the call, or on the response topic.
fn tell_granted(
    realm: &mut Realm,
    place: Place,
    from: Option<SessionKey>,
    granted: LockGrant,
    (acknowledge, has_receivers): (Acknowledge, bool),
) -> Acknowledge {
    if !from.is_some_and(|from| is_connected_by(realm, from, granted.connection)) {
        return acknowledge;
    }
    let token = place.id.value();
    match granted.asker {
        Some(asker) if granted.is_call => answer::reply(realm, &asker, Reply::Now(vec![json!({ "token": token })])),
        Some(asker) if granted.is_told => {
            let user = vec![(names::TOKEN.into(), token.to_string().into())];
            let properties = Some(Box::new(Properties { user, ..Properties::default() }));
            let payload = json_args(&json!({ "token": token }));
            answer::answer(realm, &asker, Message { outcome: Outcome::Result, payload, properties });
        }
        _ => {}
    }
    let taken = Ok(Taken { has_receivers, token: Some(place.id) });
    match acknowledge {
        Acknowledge::AtLeastOnce(id) => realm.cx.tell(granted.connection, Delivery::Acknowledged(id, taken)),
        Acknowledge::ExactlyOnce(id) | Acknowledge::ExactlyOnceAgain(id) => {
            realm.cx.tell(granted.connection, Delivery::Received(id, taken));
        }
        Acknowledge::None | Acknowledge::Request(_) => return acknowledge,
    }
    Acknowledge::None
}

/// Tells that a grant came to nothing.
fn tell_refused(
    realm: &mut Realm,
    from: Option<SessionKey>,
    granted: LockGrant,
    acknowledge: Acknowledge,
    reason: Reason,
) -> Acknowledge {
    let Some(from) = from.filter(|from| is_connected_by(realm, *from, granted.connection)) else { return acknowledge };
    if let Some(asker) = granted.asker {
        answer::reply(realm, &asker, reason.into());
    }
    answer::acknowledge(realm, from, granted.connection, acknowledge, Err(reason));
    Acknowledge::None
}

/// A publication could not be stored: a grant is refused, an end is tried again.
pub fn note_refused(realm: &mut Realm, topic: &Topic, from: Option<SessionKey>, role: Role, reason: Reason) {
    match role {
        Role::Plain => {}
        Role::Granted(granted) => {
            realm.locks.unrecorded.remove(topic);
            if realm.locks.recorded.remove(topic).is_some() {
                realm.locks.orphaned.insert(topic.clone());
                realm.changes.note(|| PieceKey::Grant(topic.clone()));
            }
            tell_refused(realm, from, *granted, Acknowledge::None, reason);
        }
        Role::Release => {
            let retry_ms = realm.cx.now_ms.saturating_add(RETRY_MS);
            let Some(cell) = realm.locks.topics.get_mut(topic) else { return };
            cell.retry_ms = Some(retry_ms);
            if let Some(leaving) = cell.holder.as_mut().and_then(|holder| holder.leaving.as_mut()) {
                leaving.is_on_its_way = false;
            }
        }
    }
}

/// A record about conditions could not be stored.
pub fn lock_change_refused(realm: &mut Realm, body: &[u8]) {
    let change = LockChange::decode(body);
    let Some((change, topic)) = change.and_then(|change| change.topic().map(|topic| (change, topic))) else { return };
    match (change, realm.locks.topics.get_mut(&topic)) {
        (LockChange::Grant { session: 0, .. }, _) => drop(realm.locks.orphaned.insert(topic)),
        (LockChange::Grant { .. }, _) => drop(realm.locks.unrecorded.insert(topic)),
        (LockChange::Due { .. }, Some(cell)) => {
            cell.is_due_asked = false;
            cell.retry_ms = Some(realm.cx.now_ms.saturating_add(RETRY_MS));
            set_topic_timer(realm, &topic);
        }
        _ => {}
    }
}

/// The session that holds a topic has ended.
pub fn end_holder(realm: &mut Realm, topic: &Topic) {
    if let Some(holder) = realm.locks.topics.get_mut(topic).and_then(|cell| cell.holder.as_mut()) {
        holder.is_parted = true;
        holder.leave(holder.will.clone(), None);
    }
}

/// Publishes what the end of a holder leaves behind, once nothing on its way could make that void.
pub fn publish_release(realm: &mut Realm, topic: &Topic) {
    let Some(cell) = realm.locks.topics.get_mut(topic).filter(|cell| cell.retry_ms.is_none()) else { return };
    let Some(holder) = &mut cell.holder else { return };
    let keeps = |next: &NextValue| holder.is_by(next.by, next.connection) && !next.publication.payload.is_empty();
    let is_kept = realm.on_the_way.of(topic).all(keeps);
    let Some(leaving) = &mut holder.leaving else { return };
    if leaving.is_on_its_way || !is_kept {
        return;
    }
    leaving.is_on_its_way = true;
    let payload = if leaving.value.is_null() { Payload::empty() } else { json_args(&leaving.value) };
    let mut publication = Publication { retain: true, ..Publication::new(topic.clone(), payload, Qos::AtLeastOnce) };
    if append::make_room_for(realm, &publication).is_err() {
        publication.payload = Payload::empty();
    }
    append::append_published(realm, None, Published::own(Arc::new(publication), Role::Release));
}

/// Sets the timer of a topic to when it must be looked at again.
pub fn set_topic_timer(realm: &mut Realm, topic: &Topic) {
    let Some(cell) = realm.locks.topics.get(topic) else { return };
    let held = cell.holder.as_ref().filter(|holder| holder.leaving.is_none());
    let expiry_ms = match cell.line.is_empty() {
        true => None,
        false => realm.retained.find(topic, realm.locks.time_ms).and_then(|value| value.expires_at_ms),
    };
    let due = [held.and_then(|holder| holder.deadline_ms), expiry_ms, cell.retry_ms];
    let due_ms = due.into_iter().flatten().min().filter(|_| !cell.is_due_asked);
    if cell.timer.map(|(at_ms, _)| at_ms) == due_ms {
        return;
    }
    if let Some((_, timer)) = cell.timer {
        realm.cx.timers.clear(timer);
    }
    let timer = due_ms.map(|at_ms| (at_ms, realm.cx.timers.set(at_ms, Due::Topic(topic.clone()))));
    if let Some(cell) = realm.locks.topics.get_mut(topic) {
        cell.timer = timer;
    }
}

/// The holder with this token gives `topic` up, for whoever knows it: `by`, who is answered as `asker`.
pub fn release(realm: &mut Realm, topic: &Topic, token: u64, by: Option<SessionKey>, asker: Option<Caller>) {
    let by = by.and_then(|key| realm.sessions.at(key)).map(|session| session.id);
    if let Some(holder) = held_by(realm, topic, token) {
        holder.leave(Value::Null, asker);
        let loser = Some(Loser::of(holder)).filter(|loser| by != Some(loser.session));
        if let Some(loser) = loser {
            lost::tell_lost(realm, topic, loser, Lost::Released(by));
        }
    } else if let Some(caller) = asker {
        lost::refuse_token(realm, topic, &caller);
    }
}

/// The holder of `topic` by this token, unless it is ending.
pub fn held_by<'a>(realm: &'a mut Realm, topic: &Topic, token: u64) -> Option<&'a mut Holder> {
    let holder = realm.locks.topics.get_mut(topic)?.holder.as_mut()?;
    (holder.token.value() == token && holder.leaving.is_none()).then_some(holder)
}

pub fn forget_standing(realm: &mut Realm, key: SessionKey) {
    let standing = realm.locks.sessions.get(&key);
    if standing.is_some_and(|standing| standing.requests == 0 && standing.held.is_empty()) {
        realm.locks.sessions.remove(&key);
    }
}
