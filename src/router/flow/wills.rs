//! Wills: published when a session ends without goodbye, also when it is the process that ends.
//!
//! With a history a will is a record from CONNECT on, and another record says that it is void: published, given up, or replaced.
//! Wills of an earlier process are published behind the record of its end, or when their session has been away for the delay.
use std::sync::Arc;

use bytes::Bytes;

use crate::model::command::{Acknowledge, Will};
use crate::model::record::{DedupKey, Flags, Kind, Origin};
use crate::model::{EventId, Item, Payload, Publication, Record, SessionId};
use crate::router::base::effect::{Draft, DraftBody};
use crate::router::base::key::SessionKey;
use crate::router::base::piece::{ITS_REALM, PieceKey};
use crate::router::flow::{append, route};
use crate::router::realm::Realm;

/// A will as a record: its lifetime, which begins when it is published, stands in the place of the end of that.
fn item_of(will: &Will, origin: Origin) -> Item {
    let Publication { topic, payload, qos, retain, properties, .. } = &*will.publication;
    Item {
        topic: Some(topic.clone()),
        origin: Some(origin),
        qos: *qos,
        flags: Flags::of([(*retain, Flags::RETAIN)]),
        expires_at_ms: will.expiry_s.map(|seconds| u64::from(seconds) * 1_000),
        properties: properties.clone(),
        ..Item::of_kind(Kind::WILL, ITS_REALM.into(), 0, payload.clone())
    }
}

fn will_of(item: &Item, delay_s: u32) -> Option<Will> {
    let mut publication = Publication::new(item.topic.clone()?, item.payload.clone(), item.qos);
    publication.retain = item.flags.has(Flags::RETAIN);
    publication.properties = item.properties.clone();
    let expiry_s = item.expires_at_ms.map(|ms| u32::try_from(ms / 1_000).unwrap_or(u32::MAX));
    Some(Will { publication: Arc::new(publication), delay_s, expiry_s })
}

/// A client has connected: this is what its connection leaves behind, in place of what an earlier one did.
pub fn record_will(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at_mut(key).filter(|_| realm.has_history) else { return };
    session.will_delay_s = session.will.as_ref().map_or(0, |will| will.delay_s);
    let id = session.id;
    let origin = Origin::of(id, &session.principal);
    match session.will.as_ref().map(|will| item_of(will, origin)) {
        Some(item) => change_will(realm, id, item),
        None => void_will(realm, id),
    }
}

/// The will of a session comes to nothing any more.
pub fn void_will(realm: &mut Realm, session: SessionId) {
    if realm.wills.is_expected(session) {
        // Of an origin a will's end needs the session alone.
        let origin = Some(Origin { session, authid: "".into(), authrole: "".into() });
        change_will(realm, session, Item { origin, ..Item::of_kind(Kind::WILL, ITS_REALM.into(), 0, Payload::empty()) });
    }
}

fn change_will(realm: &mut Realm, session: SessionId, item: Item) {
    let will = item.topic.is_some().then(|| item.clone());
    realm.wills.note_sent(session, will.is_some());
    let draft = Draft { body: DraftBody::Item(Box::new(item)), ..Draft::change(Kind::WILL, Bytes::new(), None) };
    append::append_will(realm, session, will, draft);
}

/// A change of a session's will has its place; a crash before would not know of the change.
pub fn place_will(realm: &mut Realm, id: EventId, session: SessionId, item: Option<Box<Item>>) {
    realm.wills.note_back(session);
    realm.changes.note(|| PieceKey::Will(session.0));
    realm.wills.set(session, item.map(|item| Record { id, item: *item }));
}

/// A change of a session's will could not be stored.
pub fn refuse_will(realm: &mut Realm, session: SessionId) {
    realm.wills.note_back(session);
}

/// Publishes the will [MQTT-3.1.2-8], retained or not as it says [MQTT-3.1.2-14], [MQTT-3.1.2-15]; it is gone with that
/// [MQTT-3.1.2-10].
pub fn publish_will(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let (id, Some(will)) = (session.id, session.will.take()) else { return };
    let recognized = realm.wills.key_of(id);
    publish_last(realm, Some(key), will, recognized);
    void_will(realm, id);
}

fn publish_last(realm: &mut Realm, from: Option<SessionKey>, will: Will, key: Option<Box<DedupKey>>) {
    let mut publication = will.publication;
    if let Some(seconds) = will.expiry_s {
        Arc::make_mut(&mut publication).expires_at_ms = Some(realm.cx.now_ms + u64::from(seconds) * 1_000);
    }
    if !append::is_stored(realm, &publication, Acknowledge::None) {
        route::publish(realm, from, publication, None);
    } else if append::make_room_for(realm, &publication).is_ok() {
        // A will over the quota of retained messages has nobody left to be told.
        append::append_last(realm, from, publication, key);
    }
}

/// A record of an earlier process about a will.
pub fn replay_will(realm: &mut Realm, record: &Record) {
    let Some(session) = record.item.origin.as_ref().map(|origin| origin.session) else { return };
    realm.changes.note(|| PieceKey::Will(session.0));
    realm.wills.set(session, record.item.topic.is_some().then(|| record.clone()));
}

/// Gives a session that an earlier process had its will back.
pub fn restore_will(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let record = realm.wills.of(session.id);
    session.will = record.and_then(|record| will_of(&record.item, session.will_delay_s));
}

/// The end of the process before this one has its place: wills of sessions that ended with it are due.
pub fn publish_earlier_wills(realm: &mut Realm) {
    for key in realm.wills.take_due() {
        publish_will(realm, key);
    }
    let is_orphan = |id: &SessionId| realm.sessions.of_id(*id).is_none() && realm.wills.is_expected(*id);
    let orphans: Vec<SessionId> = realm.wills.sessions().filter(is_orphan).collect();
    for session in orphans {
        if let Some(will) = realm.wills.of(session).and_then(|record| will_of(&record.item, 0)) {
            let recognized = realm.wills.key_of(session);
            publish_last(realm, None, will, recognized);
        }
        void_will(realm, session);
    }
}
