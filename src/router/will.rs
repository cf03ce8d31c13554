//! Wills: published when a session ends without goodbye, also when it is the process that ends.
//!
//! With a history a will is a record from CONNECT on, and another one says that it is void: published, given up, or replaced. What is
//! left of an earlier process is published behind the record of its end, or when its session has been away for the delay.
use std::sync::Arc;

use bytes::Bytes;

use super::Router;
use super::effect::{Draft, DraftBody};
use super::session::SessionKey;
use super::state::{ITS_REALM, PieceKey};
use crate::model::command::{Acknowledge, Will};
use crate::model::record::{Flags, Kind, Origin};
use crate::model::{Item, Payload, Publication, Record, SessionId};

impl Router {
    /// A client has connected: this is what its connection leaves behind, in place of what an earlier one did.
    pub(super) fn record_will(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at_mut(key).filter(|_| self.has_history) else { return };
        session.will_delay_s = session.will.as_ref().map_or(0, |will| will.delay_s);
        let id = session.id;
        let origin = Origin::of(id, &session.principal);
        match session.will.as_ref().map(|will| item_of(will, origin)) {
            Some(item) => {
                self.changes.note(|| PieceKey::Will(id.0));
                self.wills.insert(id, item.clone());
                self.append_item(item);
            }
            None => self.void_will(id),
        }
    }

    /// The will of a session comes to nothing any more.
    pub(super) fn void_will(&mut self, session: SessionId) {
        if let Some(Item { origin, .. }) = self.wills.remove(&session) {
            self.changes.note(|| PieceKey::Will(session.0));
            self.append_item(Item { origin, ..Item::of_kind(Kind::WILL, ITS_REALM.into(), 0, Payload::empty()) });
        }
    }

    fn append_item(&mut self, item: Item) {
        let draft = Draft { body: DraftBody::Item(Box::new(item)), ..Draft::change(Kind::WILL, Bytes::new(), None) };
        self.append_drafted(Kind::WILL, draft);
    }

    /// Publishes the will [MQTT-3.1.2-8], retained or not as it says [MQTT-3.1.2-14], [MQTT-3.1.2-15]; it is gone with that
    /// [MQTT-3.1.2-10].
    pub(super) fn publish_will(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at_mut(key) else { return };
        let (id, Some(will)) = (session.id, session.will.take()) else { return };
        self.publish_last(Some(key), will);
        self.void_will(id);
    }

    fn publish_last(&mut self, from: Option<SessionKey>, will: Will) {
        let mut publication = will.publication;
        if let (Some(seconds), Some(publication)) = (will.expiry_s, Arc::get_mut(&mut publication)) {
            publication.expires_at_ms = Some(self.now_ms + u64::from(seconds) * 1_000);
        }
        if !self.is_stored(&publication, Acknowledge::None) {
            self.publish(from, publication, None);
        } else if self.make_room_for(&publication).is_ok() {
            // A will over the quota of retained messages has nobody left to be told.
            self.append(from, None, publication, Acknowledge::None, None);
        }
    }

    /// A record of an earlier process about a will.
    pub(super) fn replay_will(&mut self, record: &Record) {
        let Some(session) = record.item.origin.as_ref().map(|origin| origin.session) else { return };
        self.changes.note(|| PieceKey::Will(session.0));
        match record.item.topic {
            Some(_) => drop(self.wills.insert(session, record.item.clone())),
            None => drop(self.wills.remove(&session)),
        }
    }

    /// Gives a session that an earlier process had its will back.
    pub(super) fn restore_will(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at_mut(key) else { return };
        session.will = self.wills.get(&session.id).and_then(|item| will_of(item, session.will_delay_s));
    }

    /// The end of the process before this one has its place: wills of sessions that ended with it are due.
    pub(super) fn publish_earlier_wills(&mut self) {
        for key in std::mem::take(&mut self.due_wills) {
            self.publish_will(key);
        }
        let orphans: Vec<SessionId> = self.wills.keys().filter(|id| self.sessions.of_id(**id).is_none()).copied().collect();
        for session in orphans {
            if let Some(will) = self.wills.get(&session).and_then(|item| will_of(item, 0)) {
                self.publish_last(None, will);
            }
            self.void_will(session);
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::command::{Close, Open, Protocol, SubscribeOptions};
    use crate::model::{Command, ConnectionId, Delivery, Qos, Reason, Topic};
    use crate::router::tests::{Realm, mqtt_open};

    fn will(topic: &str, delay_s: u32) -> Will {
        let topic = Topic::from_mqtt(topic).unwrap();
        let publication = Arc::new(Publication::new(topic, Payload::Bytes("gone".into()), Qos::AtLeastOnce));
        Will { publication, delay_s, expiry_s: Some(1_000) }
    }

    fn open(realm: &mut Realm, client: &str, expiry_s: u32, will: Option<Will>) -> ConnectionId {
        realm.open(Open { clean_start: false, expiry_s, will, ..mqtt_open(Protocol::Mqtt5, client) })
    }

    /// The topics of wills that came since the last look.
    fn published(realm: &mut Realm, seen: &mut usize) -> Vec<String> {
        let new = realm.records.iter().skip(*seen);
        let topics = new.filter_map(|record| record.item.indexed_topic()).map(|topic| topic.as_mqtt().to_owned()).collect();
        *seen = realm.records.len();
        topics
    }

    #[test]
    fn what_a_crash_cuts_off_leaves_its_will() {
        let mut realm = Realm::new();
        open(&mut realm, "a", 0, Some(will("clean", 0)));
        open(&mut realm, "b", 3_600, Some(will("stays", 0)));
        open(&mut realm, "c", 3_600, Some(will("late", 5)));
        let polite = open(&mut realm, "d", 0, Some(will("polite", 0)));
        realm.send(polite, Command::Close(Close { expiry_s: None, with_will: false }));
        let lost = open(&mut realm, "e", 0, Some(will("lost", 0)));
        realm.send(lost, Command::Lost(Reason::ConnectionLost));
        let replaced = open(&mut realm, "f", 3_600, Some(will("old", 0)));
        realm.send(replaced, Command::Close(Close { expiry_s: None, with_will: false }));
        open(&mut realm, "f", 3_600, None);
        let mut seen = 0;
        assert_eq!(published(&mut realm, &mut seen), ["lost"]);
        realm.restart();
        assert_eq!(published(&mut realm, &mut seen), ["stays", "clean"]);
        realm.advance(6_000);
        assert_eq!(published(&mut realm, &mut seen), ["late"]);
        realm.restart();
        realm.advance(60_000);
        assert_eq!(published(&mut realm, &mut seen), Vec::<String>::new(), "once");
    }

    #[test]
    fn who_comes_back_in_time_has_its_will_again() {
        let mut realm = Realm::new();
        open(&mut realm, "c", 3_600, Some(will("late", 5)));
        realm.restart();
        let mut seen = realm.records.len();
        realm.advance(1_000);
        let subscriber = realm.mqtt("s");
        realm.subscribe(subscriber, "#", SubscribeOptions::default().qos).unwrap();
        open(&mut realm, "c", 3_600, Some(will("next", 0)));
        realm.advance(60_000);
        assert_eq!(published(&mut realm, &mut seen), Vec::<String>::new());
        realm.restart();
        assert_eq!(published(&mut realm, &mut seen), ["next"]);
        assert!(realm.inbox(subscriber).iter().all(|told| !matches!(told, Delivery::Event(_))));
    }
}
