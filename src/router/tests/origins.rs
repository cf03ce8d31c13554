//! Promise 1 holds for every origin of a message: killed before the acknowledgement, the router sends it again.
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::model::command::{
    Acknowledge, AcknowledgeStep, Acknowledgement, Condition, Open, Past, PublishOptions, Selection, SubscribeEntry,
    SubscribeOptions, Will,
};
use crate::model::readers::{Audience, Readers};
use crate::model::{Command, ConnectionId, Delivery, Filter, Payload, Publication, Qos, RequestId, SessionId, Topic};
use crate::router::base::piece::Piece;
use crate::router::tests::{Realm, packet, persistent_open};

/// A client with a window for so many deliveries, which keeps its session.
struct Receiver {
    connection: ConnectionId,
    window: u16,
    /// Packet ids and texts that came and are not acknowledged.
    held: Vec<(u16, String)>,
    /// All texts that came without DUP, and those that were acknowledged.
    first: Vec<String>,
    done: Vec<String>,
}

fn come(realm: &mut Realm, window: u16) -> Receiver {
    let connection = realm.open(Open { receive_maximum: window, ..persistent_open("s") });
    Receiver { connection, window, held: Vec::new(), first: Vec::new(), done: Vec::new() }
}

impl Receiver {
    /// The same client on a new connection: with QoS 2 it knows the ids of messages that it holds.
    fn come_back(&mut self, realm: &mut Realm) {
        self.connection = realm.open(Open { receive_maximum: self.window, ..persistent_open("s") });
    }

    fn look(&mut self, realm: &mut Realm) {
        for told in realm.inbox(self.connection) {
            match told {
                Delivery::Event(event) => {
                    let Some(id) = event.packet_id else { continue };
                    let text = text_of(&event.publication);
                    if self.held.contains(&(id.value(), text.clone())) {
                        assert!(event.duplicate, "{text} comes again without DUP");
                        continue;
                    }
                    assert!(self.held.iter().all(|(held, _)| *held != id.value()), "{id:?} is in use: {:?}, {text}", self.held);
                    if !event.duplicate {
                        self.first.push(text.clone());
                    }
                    self.held.push((id.value(), text));
                }
                Delivery::Release(id, _) => self.complete(realm, id.value()),
                Delivery::Paused => realm.drain(self.connection),
                _ => {}
            }
        }
    }

    fn complete(&mut self, realm: &mut Realm, id: u16) {
        self.held.retain(|(held, _)| *held != id);
        let step = Acknowledgement { packet_id: packet(id), step: AcknowledgeStep::Completed };
        realm.send(self.connection, Command::Acknowledge(vec![step]));
    }

    /// PUBACK, or PUBREC and all that follows, for one that is held.
    fn acknowledge(&mut self, realm: &mut Realm, at: usize, qos: Qos) {
        let (id, text) = self.held[at].clone();
        self.done.push(text);
        let step = match qos {
            Qos::ExactlyOnce => AcknowledgeStep::Received,
            _ => {
                self.held.remove(at);
                AcknowledgeStep::Acknowledged
            }
        };
        realm.send(self.connection, Command::Acknowledge(vec![Acknowledgement { packet_id: packet(id), step }]));
    }

    /// Takes everything that is left.
    fn finish(&mut self, realm: &mut Realm, qos: Qos) {
        loop {
            self.look(realm);
            if self.held.is_empty() {
                return;
            }
            self.acknowledge(realm, 0, qos);
        }
    }

    fn texts(&mut self, realm: &mut Realm) -> Vec<String> {
        self.look(realm);
        self.held.iter().map(|(_, text)| text.clone()).collect()
    }
}

fn text_of(publication: &Publication) -> String {
    match &publication.payload {
        Payload::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

fn topic(name: &str) -> Topic {
    Topic::from_mqtt(name).unwrap()
}

fn options(qos: Qos) -> SubscribeOptions {
    SubscribeOptions { qos, ..SubscribeOptions::default() }
}

fn subscribe(realm: &mut Realm, connection: ConnectionId, filter: &str, qos: Qos) {
    let entry = SubscribeEntry::Topic { filter: Filter::from_mqtt(filter).unwrap(), share: None, options: options(qos) };
    realm.ask(connection, entry).unwrap();
}

fn publication(name: &str, text: &str, retain: bool) -> Publication {
    Publication { retain, ..Publication::new(topic(name), Payload::Bytes(text.to_owned().into()), Qos::ExactlyOnce) }
}

fn publish(realm: &mut Realm, from: ConnectionId, publication: Publication) {
    let acknowledge = Acknowledge::Request(RequestId(1));
    realm.send(from, Command::Publish { publication: Arc::new(publication), acknowledge, options: None });
}

fn selected(realm: &mut Realm, s: ConnectionId, qos: Qos, selection: Selection) {
    let (filter, selection) = (Filter::from_mqtt("t/#").unwrap(), Box::new(selection));
    realm.ask(s, SubscribeEntry::Selected { filter, options: options(qos), selection }).unwrap();
}

fn by_name() -> Audience {
    Audience { authids: Some(vec!["user".into()]), ..Audience::default() }
}

fn publish_to(realm: &mut Realm, audience: Audience, retain: bool) {
    let readers = Some(Box::new(Readers { eligible: Some(audience), exclude: None }));
    let from = realm.wamp();
    publish(realm, from, Publication { readers, ..publication("t/a", "x", retain) });
}

fn will(realm: &mut Realm, s: ConnectionId, qos: Qos, delay_s: u32) {
    subscribe(realm, s, "t/#", qos);
    let will = Some(Will { publication: Arc::new(publication("t/w", "x", false)), delay_s, expiry_s: None });
    let gone = realm.open(Open { will, ..persistent_open("w") });
    realm.lose(gone);
    realm.advance(u64::from(delay_s) * 1_000);
}

fn values(realm: &mut Realm) {
    let from = realm.wamp();
    publish(realm, from, publication("t/a", "x", true));
    publish(realm, from, publication("u", "no", true));
}

fn publish_live(realm: &mut Realm) {
    let from = realm.wamp();
    publish(realm, from, publication("t/a", "x", false));
}

/// A way to be owed a message.
type Origin = (&'static str, fn(&mut Realm, ConnectionId, Qos));

/// Each way in which the client `s` is owed the message `x` of what was there before.
const EARLIER: [Origin; 7] = [
    ("retained", |realm, s, qos| {
        values(realm);
        subscribe(realm, s, "t/#", qos);
    }),
    ("retained by name", |realm, s, qos| {
        values(realm);
        subscribe(realm, s, "t/a", qos);
    }),
    ("retained, restricted", |realm, s, qos| {
        publish_to(realm, by_name(), true);
        subscribe(realm, s, "t/#", qos);
    }),
    ("after", |realm, s, qos| {
        values(realm);
        selected(realm, s, qos, Selection { past: Some(Past::After(None)), ..Selection::default() });
    }),
    ("last", |realm, s, qos| {
        values(realm);
        selected(realm, s, qos, Selection { past: Some(Past::Last(9)), ..Selection::default() });
    }),
    ("snapshot", |realm, s, qos| {
        values(realm);
        selected(realm, s, qos, Selection { is_snapshot: true, ..Selection::default() });
    }),
    ("snapshot of the past", |realm, s, qos| {
        values(realm);
        selected(realm, s, qos, Selection { is_snapshot: true, past: Some(Past::After(None)), ..Selection::default() });
    }),
];

/// The same of what happens.
const LIVE: [Origin; 7] = [
    ("live", |realm, s, qos| {
        subscribe(realm, s, "t/#", qos);
        publish_live(realm);
    }),
    ("shared", |realm, s, qos| {
        let filter = Filter::from_mqtt("t/#").unwrap();
        realm.ask(s, SubscribeEntry::Topic { filter, share: Some("g".into()), options: options(qos) }).unwrap();
        publish_live(realm);
    }),
    ("restricted by name", |realm, s, qos| {
        subscribe(realm, s, "t/#", qos);
        publish_to(realm, by_name(), false);
    }),
    ("restricted by session", |realm, s, qos| {
        subscribe(realm, s, "t/#", qos);
        let key = realm.router.realm.sessions.of_client_id("s").unwrap();
        let id: SessionId = realm.router.realm.sessions.at(key).unwrap().id;
        publish_to(realm, Audience { sessions: Some(vec![id]), ..Audience::default() }, false);
    }),
    ("will", |realm, s, qos| will(realm, s, qos, 0)),
    ("delayed will", |realm, s, qos| will(realm, s, qos, 30)),
    ("lock grant", |realm, s, qos| {
        subscribe(realm, s, "t/#", qos);
        let from = realm.wamp();
        let condition = Some(Box::new(Condition { when: Some(json!(null)), watch: true, ..Condition::default() }));
        let options = Some(Box::new(PublishOptions { condition, ..PublishOptions::default() }));
        let publication = Arc::new(publication("t/lock", "x", true));
        realm.send(from, Command::Publish { publication, acknowledge: Acknowledge::Request(RequestId(1)), options });
    }),
];

/// The pieces of the realm as they are now, and of how many records.
fn keep(realm: &mut Realm) -> (BTreeMap<Vec<u8>, Piece>, usize) {
    let keys = realm.router.pieces();
    let pieces = keys.into_iter().filter_map(|key| Some((key.to_bytes(), realm.router.piece(&key)?))).collect();
    (pieces, realm.records.len())
}

#[test]
fn what_is_not_acknowledged_comes_again_whatever_its_origin() {
    for (name, origin) in EARLIER.into_iter().chain(LIVE) {
        for (qos, is_kept) in [Qos::AtLeastOnce, Qos::ExactlyOnce].into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
            let what = format!("{name}, {qos:?}, {is_kept}");
            let mut realm = Realm::new();
            realm.router.track_changes();
            let mut receiver = come(&mut realm, 10);
            origin(&mut realm, receiver.connection, qos);
            assert_eq!(receiver.texts(&mut realm), ["x"], "{what}");
            for round in 0..2 {
                let (pieces, kept) = if is_kept { keep(&mut realm) } else { Default::default() };
                realm.restart_behind(&pieces, kept);
                receiver.come_back(&mut realm);
                if qos == Qos::AtLeastOnce {
                    receiver.held.clear();
                }
                assert_eq!(receiver.texts(&mut realm), ["x"], "{what} {round}");
                assert_eq!(receiver.first, ["x"], "{what}: without DUP, once");
            }
            receiver.finish(&mut realm, qos);
            realm.advance(300);
            let (pieces, kept) = if is_kept { keep(&mut realm) } else { Default::default() };
            realm.restart_behind(&pieces, kept);
            receiver.come_back(&mut realm);
            assert_eq!(receiver.texts(&mut realm), [""; 0], "{what}: it is over");
        }
    }
}

/// Values of `count` topics, retained.
fn realm_with(count: usize) -> (Realm, ConnectionId, Vec<String>) {
    let mut realm = Realm::new();
    realm.router.track_changes();
    let from = realm.wamp();
    let texts: Vec<String> = (0..count).map(|number| format!("v{number:04}")).collect();
    for text in &texts {
        publish(&mut realm, from, publication(&format!("t/{text}"), text, true));
    }
    (realm, from, texts)
}

#[test]
fn a_replay_goes_on_from_the_present_values() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        for is_kept in [false, true] {
            let (mut realm, from, texts) = realm_with(700);
            let mut receiver = come(&mut realm, 5);
            subscribe(&mut realm, receiver.connection, "t/#", qos);
            for number in 0..300 {
                receiver.look(&mut realm);
                // Not always the oldest.
                let at = if number % 7 == 0 { receiver.held.len() - 1 } else { 0 };
                receiver.acknowledge(&mut realm, at, qos);
                if number == 150 {
                    realm.lose(receiver.connection);
                    receiver.come_back(&mut realm);
                }
                if number == 200 {
                    realm.advance(300);
                    let (pieces, kept) = if is_kept { keep(&mut realm) } else { Default::default() };
                    realm.restart_behind(&pieces, kept);
                    if qos == Qos::AtLeastOnce {
                        receiver.held.clear();
                    }
                    receiver.come_back(&mut realm);
                }
            }
            let from = if realm.router.sizes().connected > 1 { from } else { realm.wamp() };
            publish(&mut realm, from, publication("t/v0650", "changed", true));
            publish(&mut realm, from, publication("t/v0651", "", true));
            receiver.finish(&mut realm, qos);
            let mut done = receiver.done.clone();
            done.sort();
            let mut expected = texts.clone();
            expected.retain(|text| text != "v0650" && text != "v0651");
            expected.extend(["changed".to_owned(), String::new()]);
            expected.sort();
            assert_eq!(done, expected, "{qos:?} {is_kept}");
        }
    }
}

/// A record of an earlier version does not say how retained messages are wanted: nothing is owed of them.
#[test]
fn records_of_earlier_versions_owe_no_values() {
    let (mut realm, _, _) = realm_with(3);
    let receiver = come(&mut realm, 2);
    subscribe(&mut realm, receiver.connection, "t/#", Qos::AtLeastOnce);
    for record in &mut realm.records {
        if let Payload::Bytes(body) = &record.item.payload
            && let Ok(text) = std::str::from_utf8(body)
        {
            record.item.payload = Payload::Bytes(text.replace(",\"retained\":1", "").into());
        }
    }
    realm.restart();
    let mut receiver = come(&mut realm, 2);
    assert_eq!(receiver.texts(&mut realm), [""; 0]);
}

/// Values are paced by the window of their receiver: none is lost for want of room.
#[test]
fn no_value_is_lost_for_want_of_room() {
    let limits = crate::model::Limits { max_session_queue: 4, ..crate::model::Limits::default() };
    let mut realm = Realm::with_limits(limits);
    let from = realm.wamp();
    for number in 0..100 {
        publish(&mut realm, from, publication(&format!("t/{number}"), &number.to_string(), true));
    }
    let mut receiver = come(&mut realm, 3);
    subscribe(&mut realm, receiver.connection, "t/#", Qos::AtLeastOnce);
    receiver.finish(&mut realm, Qos::AtLeastOnce);
    assert_eq!(receiver.done.len(), 100);
}

/// Values that the client has given up are not owed, in this life or the next.
#[test]
fn an_unsubscribed_replay_is_over() {
    let (mut realm, _, _) = realm_with(30);
    let mut receiver = come(&mut realm, 2);
    subscribe(&mut realm, receiver.connection, "t/#", Qos::AtLeastOnce);
    receiver.look(&mut realm);
    let filter = Filter::from_mqtt("t/#").unwrap();
    let entry = crate::model::command::UnsubscribeEntry::Topic { filter, share: None };
    realm.give_up(receiver.connection, entry).unwrap();
    realm.restart();
    receiver.held.clear();
    receiver.come_back(&mut realm);
    assert_eq!(receiver.texts(&mut realm), [""; 0]);
}
