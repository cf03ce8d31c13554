//! Keys of publications, and who owns them.
use std::sync::Arc;

use serde_json::Value;

use crate::model::command::{Acknowledge, Condition, Open, Protocol, PublishOptions};
use crate::model::{
    Command, ConnectionId, Delivery, PacketId, Payload, Principal, Publication, Qos, Reason, RequestId, SessionId, Topic,
};

use super::{Realm, open, packet};

/// A retained publication to `topic`.
fn publish(topic: &str, text: &'static str, acknowledge: Acknowledge, key: &str) -> Command {
    let qos = match acknowledge {
        Acknowledge::None => Qos::AtMostOnce,
        Acknowledge::ExactlyOnce(_) | Acknowledge::ExactlyOnceAgain(_) => Qos::ExactlyOnce,
        _ => Qos::AtLeastOnce,
    };
    let topic = Topic::from_mqtt(topic).unwrap();
    let publication = Publication { retain: true, ..Publication::new(topic, Payload::Bytes(text.into()), qos) };
    let options = PublishOptions { dedup: Some(key.into()), ..PublishOptions::default() };
    Command::Publish { publication: Arc::new(publication), acknowledge, options: Some(Box::new(options)) }
}

fn request(id: u64) -> Acknowledge {
    Acknowledge::Request(RequestId(id))
}

fn published(realm: &mut Realm, connection: ConnectionId) -> u64 {
    match realm.next(connection) {
        Delivery::Published(_, Ok(id)) => id.0,
        other => panic!("{other:?}"),
    }
}

fn texts(realm: &mut Realm, connection: ConnectionId) -> Vec<String> {
    let text = |delivery| match delivery {
        Delivery::Event(event) => match &event.publication.payload {
            Payload::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    realm.inbox(connection).into_iter().map(text).collect()
}

fn authenticated(realm: &mut Realm, authid: &str) -> ConnectionId {
    let principal = Principal { authmethod: "ticket".into(), ..Principal::anonymous(authid) };
    realm.open(Open { principal: Arc::new(principal), ..open(Protocol::Wamp) })
}

fn named(realm: &mut Realm, authid: &str) -> ConnectionId {
    realm.open(Open { principal: Arc::new(Principal::anonymous(authid)), ..open(Protocol::Wamp) })
}

#[test]
fn a_retry_is_answered_as_the_first_and_goes_to_nobody() {
    let mut realm = Realm::new();
    let (subscriber, first) = (realm.mqtt("s"), named(&mut realm, "anonymous-1"));
    realm.subscribe(subscriber, "t", Qos::AtMostOnce).unwrap();
    realm.send(first, publish("t", "a", request(1), "k"));
    let id = published(&mut realm, first);
    realm.send(first, publish("t", "b", request(2), "other"));
    assert_ne!(published(&mut realm, first), id);
    realm.lose(first);
    let retry = named(&mut realm, "anonymous-2");
    realm.send(retry, publish("t", "a", request(1), "k"));
    assert_eq!(published(&mut realm, retry), id);
    assert_eq!(texts(&mut realm, subscriber), ["a", "b"]);
    realm.restart();
    let retry = named(&mut realm, "anonymous-3");
    realm.send(retry, publish("t", "a", request(1), "k"));
    assert_eq!(published(&mut realm, retry), id);
    // The value that the topic has got since is not touched.
    let topic = Topic::from_mqtt("t").unwrap();
    let value = realm.router.realm.retained.find(&topic, realm.now_ms).map(|value| value.payload.clone());
    assert_eq!(value, Some(Payload::Bytes("b".into())));
}

#[test]
fn a_retry_waits_for_the_first_copy_and_its_own_turn() {
    let mut realm = Realm::new();
    realm.is_disk_slow = true;
    let client = realm.wamp();
    realm.send(client, publish("t", "a", request(1), "k"));
    realm.send(client, publish("t", "a", request(2), "k"));
    realm.nothing(client);
    realm.append_all();
    let id = published(&mut realm, client);
    assert_eq!(published(&mut realm, client), id);
    assert!(!realm.router.is_owed(client));
    // A publication that was not stored was never there.
    realm.send(client, publish("t", "b", request(3), "refused"));
    realm.refuse_append(Reason::NoSpace);
    assert!(matches!(realm.next(client), Delivery::Published(_, Err(Reason::NoSpace))));
    realm.send(client, publish("t", "b", request(4), "refused"));
    realm.append_all();
    assert_ne!(published(&mut realm, client), id);
}

#[test]
fn keys_of_others_are_others() {
    let mut realm = Realm::new();
    let subscriber = realm.mqtt("s");
    realm.subscribe(subscriber, "t", Qos::AtMostOnce).unwrap();
    let wamp = [named(&mut realm, "x"), authenticated(&mut realm, "x"), authenticated(&mut realm, "y")];
    for client in wamp {
        realm.send(client, publish("t", "wamp", request(1), "k"));
    }
    for client in [realm.mqtt("x"), realm.mqtt("y")] {
        realm.send(client, publish("t", "mqtt", Acknowledge::AtLeastOnce(packet(1)), "k"));
    }
    assert_eq!(texts(&mut realm, subscriber), ["wamp", "wamp", "wamp", "mqtt", "mqtt"]);
    let again = [authenticated(&mut realm, "x"), named(&mut realm, "z")];
    for client in again {
        realm.send(client, publish("t", "wamp", request(1), "k"));
    }
    let again = realm.mqtt("x");
    realm.send(again, publish("t", "mqtt", Acknowledge::AtLeastOnce(packet(1)), "k"));
    assert_eq!(texts(&mut realm, subscriber), [""; 0]);
}

fn received(realm: &mut Realm, connection: ConnectionId) -> PacketId {
    match realm.next(connection) {
        Delivery::Received(id, Ok(_)) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn qos_2_with_a_key_comes_once_over_a_restart() {
    let mut realm = Realm::new();
    let (publisher, subscriber) = (realm.persistent("p"), realm.persistent("s"));
    realm.subscribe(subscriber, "t", Qos::AtLeastOnce).unwrap();
    realm.inbox(subscriber);
    realm.send(publisher, publish("t", "a", Acknowledge::ExactlyOnce(packet(7)), "k"));
    assert_eq!(received(&mut realm, publisher), packet(7));
    realm.restart();
    let publisher = realm.persistent("p");
    realm.send(publisher, publish("t", "a", Acknowledge::ExactlyOnceAgain(packet(7)), "k"));
    assert_eq!(received(&mut realm, publisher), packet(7));
    realm.send(publisher, Command::Release(packet(7)));
    assert!(matches!(realm.next(publisher), Delivery::Completed(_, Ok(()))));
    // Without a key it is another one.
    let Command::Publish { publication, acknowledge, .. } = publish("t", "b", Acknowledge::ExactlyOnce(packet(7)), "") else {
        panic!()
    };
    realm.send(publisher, Command::Publish { publication, acknowledge, options: None });
    assert_eq!(received(&mut realm, publisher), packet(7));
    let subscriber = realm.persistent("s");
    assert_eq!(texts(&mut realm, subscriber), ["a", "b"]);
}

#[test]
fn an_item_of_a_queue_is_put_once() {
    let mut realm = Realm::new();
    let client = realm.mqtt("p");
    for id in 1..=3 {
        realm.send(client, publish("$queue/jobs", "job", Acknowledge::AtLeastOnce(packet(id)), ["k", "k", "l"][id as usize - 1]));
        assert!(matches!(realm.next(client), Delivery::Acknowledged(_, Ok(_))));
    }
    let puts = |record: &&crate::model::Record| record.item.topic.is_some();
    assert_eq!(realm.records.iter().filter(puts).count(), 2);
}

#[test]
fn a_condition_takes_no_key() {
    let mut realm = Realm::new();
    let client = realm.wamp();
    let Command::Publish { publication, acknowledge, options } = publish("t", "a", request(1), "k") else { panic!() };
    let mut options = options.unwrap();
    options.condition = Some(Box::new(Condition { when: Some(Value::Null), ..Condition::default() }));
    realm.send(client, Command::Publish { publication, acknowledge, options: Some(options) });
    assert!(matches!(realm.next(client), Delivery::Published(_, Err(Reason::WrongValue("dedup", _)))));
}

#[test]
fn owners_of_handshakes_have_other_names() {
    let mut realm = Realm::new();
    for authid in ["mqtt:a", "", ":"] {
        let client = authenticated(&mut realm, authid);
        let session =
            realm.router.realm.sessions.of_connection(client).and_then(|key| realm.router.realm.sessions.at(key)).unwrap();
        assert!(session.key_owner().starts_with("retry:wamp:") && session.id != SessionId(0));
    }
}
