//! Conditions and locks, one case after the other.
use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::arguments::Arguments;
use crate::model::command::{Acknowledge, Call, CancelMode, Condition, PublishOptions, ReplyTo};
use crate::model::delivery::Taken;
use crate::model::outcome::Outcome;
use crate::model::reason::MustBe;
use crate::model::record::Kind;
use crate::model::{
    Command, ConnectionId, Delivery, ErrorUri, Limits, PacketId, Payload, Publication, PublicationId, Qos, Reason, Record,
    RequestId, Topic, names,
};
use crate::router::base::context::RETRY_MS;
use crate::router::base::piece::PieceKey;
use crate::router::lock::record::LockChange;

use super::{Realm, packet, reply_topic, wamp_call};

fn slow() -> Realm {
    let mut realm = Realm::new();
    realm.is_disk_slow = true;
    realm
}

fn append_all(realm: &mut Realm) {
    while realm.on_their_way() > 0 {
        realm.append();
    }
}

/// PUBLISH to `t`, retained, under a condition.
fn publish_if(text: &'static str, acknowledge: Acknowledge, condition: Condition) -> Command {
    let topic = Topic::from_mqtt("t").unwrap();
    let publication = Publication { retain: true, ..Publication::new(topic, Payload::Bytes(text.into()), Qos::AtLeastOnce) };
    let options = PublishOptions { condition: Some(Box::new(condition)), ..PublishOptions::default() };
    Command::Publish { publication: Arc::new(publication), acknowledge, options: Some(Box::new(options)) }
}

fn publish(text: &'static str, request: u64) -> Command {
    let topic = Topic::from_mqtt("t").unwrap();
    let publication = Publication { retain: true, ..Publication::new(topic, Payload::Bytes(text.into()), Qos::AtLeastOnce) };
    let acknowledge = Acknowledge::Request(RequestId(request));
    Command::Publish { publication: Arc::new(publication), acknowledge, options: None }
}

fn request(id: u64) -> Acknowledge {
    Acknowledge::Request(RequestId(id))
}

fn when(when: Value) -> Condition {
    Condition { when: Some(when), ..Condition::default() }
}

fn lock() -> Condition {
    Condition { watch: true, will: Some(Value::Null), ..when(Value::Null) }
}

fn value(realm: &Realm) -> Option<String> {
    value_of(realm, "t")
}

fn value_of(realm: &Realm, topic: &str) -> Option<String> {
    let topic = Topic::from_mqtt(topic).unwrap();
    let value = realm.router.realm.retained.find(&topic, realm.now_ms)?;
    match &value.payload {
        Payload::Bytes(bytes) | Payload::Args { args: bytes, .. } => Some(String::from_utf8(bytes.to_vec()).unwrap()),
        Payload::List(_) => None,
    }
}

fn published(realm: &mut Realm, connection: ConnectionId) -> Result<u64, Reason> {
    match realm.next(connection) {
        Delivery::Denied(..) => published(realm, connection),
        Delivery::Published(_, outcome) => outcome.map(|PublicationId(id)| id),
        other => panic!("{other:?}"),
    }
}

fn acquire(id: u64, options: &Value) -> Call {
    acquire_of("t", id, options)
}

/// A call that acquires the lock of this name.
pub fn acquire_of(name: &str, id: u64, options: &Value) -> Call {
    let list = vec![name.into(), options.clone()];
    let arguments = Some(Ok(Box::new(Arguments { list, ..Arguments::default() })));
    Call { arguments, ..wamp_call(id, "corsac.lock.acquire") }
}

/// A call of a procedure of the router's.
pub fn call(realm: &mut Realm, connection: ConnectionId, id: u64, procedure: &str, list: Vec<Value>) {
    let arguments = Some(Ok(Box::new(Arguments { list, ..Arguments::default() })));
    realm.call_with(connection, Call { arguments, ..wamp_call(id, procedure) });
}

/// The sentence of a call that has failed, and why it has.
fn failure(realm: &mut Realm, connection: ConnectionId) -> (Reason, String) {
    let answer = realm.answer(connection);
    match (answer.outcome, answer.payload) {
        (Outcome::Error(ErrorUri::Reason(reason)), Payload::Args { args, .. }) => {
            let list: Vec<Value> = serde_json::from_slice(&args).unwrap();
            (reason, list[0].as_str().unwrap().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

/// The message to the holder of a lock about its loss: cause, token, who.
fn lost(realm: &mut Realm, connection: ConnectionId) -> (String, u64, Option<u64>) {
    let event = realm.event(connection);
    let Payload::Args { args, .. } = &event.publication.payload else { panic!("{event:?}") };
    let list: Vec<Value> = serde_json::from_slice(args).unwrap();
    let cause = list[0]["cause"].as_str().unwrap().to_owned();
    assert!(list[0]["reason"].is_string() && list[0]["name"].is_string(), "{list:?}");
    (cause, list[0]["token"].as_u64().unwrap(), list[0]["by"].as_u64())
}

/// The result of a call, or its error.
fn result(realm: &mut Realm, connection: ConnectionId) -> Result<Value, Reason> {
    let answer = realm.answer(connection);
    match (answer.outcome, answer.payload) {
        (Outcome::Error(ErrorUri::Reason(reason)), _) => Err(reason),
        (Outcome::Result, Payload::Args { args, .. }) => {
            let list: Vec<Value> = serde_json::from_slice(&args).unwrap();
            Ok(list.into_iter().next().unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

fn token(realm: &mut Realm, connection: ConnectionId) -> u64 {
    result(realm, connection).unwrap()["token"].as_u64().unwrap()
}

#[test]
fn a_condition_is_judged_in_its_place_and_not_on_arrival() {
    let mut realm = slow();
    let (a, b) = (realm.wamp(), realm.wamp());
    realm.send(a, publish_if("{\"n\":1}", request(1), when(Value::Null)));
    realm.send(b, publish_if("{\"n\":2}", request(1), when(Value::Null)));
    realm.append();
    realm.append();
    // The first fits and is on its way; the second would fit the value as it is, but not what comes before it.
    realm.nothing(a);
    realm.nothing(b);
    assert_eq!(value(&realm), None);
    realm.append();
    assert_eq!(published(&mut realm, a), Ok(3));
    assert_eq!(published(&mut realm, b), Err(Reason::ConditionFailed));
    assert_eq!(value(&realm).as_deref(), Some("{\"n\":1}"));
    for (condition, is_fit) in [(json!({"n": 2}), false), (json!({"n": 1}), true), (json!({"n": 1}), false)] {
        realm.send(b, publish_if("{\"n\":5}", request(2), when(condition)));
        append_all(&mut realm);
        assert_eq!(published(&mut realm, b).is_ok(), is_fit);
    }
    // Refused conditions leave records that readers of history do not see.
    let kinds: Vec<_> = realm.records.iter().map(|record| record.item.kind == Kind::PUBLICATION).collect();
    assert_eq!(kinds, [false, false, true, false, false, true, false]);
}

#[test]
fn what_is_on_its_way_decides_too() {
    let mut realm = slow();
    let (a, b) = (realm.wamp(), realm.wamp());
    realm.send(a, publish_if("1", request(1), when(Value::Null)));
    realm.send(b, publish("2", 1));
    realm.append(); // The condition fits what is there, but the other value comes before anything that is published now.
    realm.nothing(a);
    assert_eq!(realm.on_their_way(), 1);
    realm.append();
    assert_eq!((published(&mut realm, b), published(&mut realm, a)), (Ok(2), Err(Reason::ConditionFailed)));
    assert_eq!(value(&realm).as_deref(), Some("2"));
    // A value that fits as well holds nobody up; one that the disk refuses was never there.
    realm.send(a, publish_if("3", request(2), when(json!(2))));
    realm.send(b, publish("2", 2));
    realm.append();
    assert_eq!(realm.on_their_way(), 2);
    append_all(&mut realm);
    assert_eq!(value(&realm).as_deref(), Some("3"));
    realm.inbox(a);
    realm.inbox(b);
    realm.send(a, publish_if("4", request(3), when(json!(3))));
    realm.send(b, publish("", 3));
    realm.append();
    realm.refuse_append(Reason::NoSpace);
    append_all(&mut realm);
    assert!(published(&mut realm, a).is_ok());
    assert_eq!((published(&mut realm, b), value(&realm).as_deref()), (Err(Reason::NoSpace), Some("4")));
}

#[test]
fn a_session_keeps_its_order_around_a_condition() {
    let mut realm = slow();
    let (a, subscriber) = (realm.wamp(), realm.mqtt("s"));
    realm.subscribe(subscriber, "t", Qos::AtMostOnce).unwrap();
    realm.send(a, publish_if("1", request(1), when(Value::Null)));
    realm.send(a, publish("2", 2));
    assert_eq!(realm.on_their_way(), 1);
    append_all(&mut realm);
    assert_eq!((published(&mut realm, a), published(&mut realm, a)), (Ok(2), Ok(3)));
    let ids: Vec<_> = (0..2).map(|_| realm.event(subscriber).publication.id.0).collect();
    assert_eq!(ids, [2, 3]);
    // A request that waits in line holds nothing back.
    realm.send(a, publish_if("4", request(3), lock()));
    realm.append();
    realm.send(a, publish("", 4));
    append_all(&mut realm);
    assert_eq!((published(&mut realm, a), published(&mut realm, a)), (Ok(5), Ok(7)));
    assert!(!realm.router.is_owed(a));
}

#[test]
fn a_line_is_served_in_its_order_and_each_token_is_larger() {
    let mut realm = Realm::new();
    let sessions: Vec<_> = (0..3).map(|_| realm.wamp()).collect();
    for session in &sessions {
        realm.send(*session, publish_if("\"mine\"", request(1), lock()));
    }
    let mut last = 0;
    for (turn, session) in sessions.iter().enumerate() {
        let token = published(&mut realm, *session).unwrap();
        assert!(token > last);
        last = token;
        sessions.iter().skip(turn + 1).for_each(|waiting| realm.nothing(*waiting));
        match turn {
            0 => realm.send(*session, publish("", 2)),
            _ => realm.lose(*session),
        }
    }
    assert_eq!(value(&realm), None);
    assert!(realm.router.realm.locks.topics.is_empty() && realm.router.realm.locks.sessions.is_empty());
}

#[test]
fn a_will_is_the_value_at_the_end_unless_somebody_else_has_changed_it() {
    for (change, expected) in [(None, "[{\"is\":\"over\"}]"), (Some(false), "[{\"is\":\"over\"}]"), (Some(true), "x")] {
        let mut realm = Realm::new();
        let (holder, other) = (realm.wamp(), realm.wamp());
        let will = Some(json!({"is": "over"}));
        realm.send(holder, publish_if("\"on\"", request(1), Condition { will, ..Condition::default() }));
        match change {
            Some(true) => realm.send(other, publish("x", 1)),
            Some(false) => realm.send(holder, publish("y", 2)),
            None => {}
        }
        realm.lose(holder);
        assert_eq!(value(&realm).as_deref(), Some(expected), "{change:?}");
    }
}

#[test]
fn mqtt_is_told_that_it_is_in_line_and_then_the_token() {
    let mut realm = Realm::new();
    let (holder, waiter) = (realm.mqtt("a"), realm.mqtt("b"));
    let ReplyTo::Topic { .. } = reply_topic("$reply/lock", "7") else { unreachable!() };
    let condition = Condition { reply: Some(reply_topic("$reply/lock", "7")), ..lock() };
    realm.subscribe(waiter, "$reply/#", Qos::AtMostOnce).unwrap();
    realm.send(holder, publish_if("a", Acknowledge::AtLeastOnce(packet(1)), when(Value::Null)));
    let Delivery::Acknowledged(_, Ok(Taken { token: Some(token), .. })) = realm.next(holder) else { panic!() };
    assert_eq!(token.value(), 2);
    realm.send(waiter, publish_if("b", Acknowledge::AtLeastOnce(packet(1)), condition.clone()));
    assert!(matches!(realm.next(waiter), Delivery::Acknowledged(_, Ok(Taken { token: None, .. }))));
    // Sent again, it joins what is there.
    let again = Condition { is_resent: true, ..condition };
    realm.send(waiter, publish_if("b", Acknowledge::AtLeastOnce(packet(1)), again));
    assert!(matches!(realm.next(waiter), Delivery::Acknowledged(PacketId(_), Ok(_))));
    assert_eq!(realm.router.realm.locks.topics.values().map(|cell| cell.line.len()).sum::<usize>(), 1);
    realm.send(holder, publish("", 1));
    let told = realm.event(waiter);
    let properties = told.publication.properties.as_ref().unwrap();
    assert_eq!(properties.user, [("corsac-token".into(), "6".into())]);
    assert_eq!(properties.correlation_data.as_deref(), Some(&b"7"[..]));
    realm.nothing(waiter);
    // Its connection ends, its session does not: that is the end of what it holds.
    assert_eq!(value(&realm).as_deref(), Some("b"));
    realm.lose(waiter);
    assert_eq!(value(&realm), None);
}

#[test]
fn conditions_that_cannot_be_are_refused() {
    let mut realm = Realm::new();
    let client = realm.mqtt("a");
    let long = json!("x".repeat(5_000));
    let public = Some(reply_topic("$SYS/x", ""));
    for (condition, reason) in [
        (Condition { watch: true, ..Condition::default() }, Reason::WrongValue("watch", MustBe::WithWhen)),
        (when(long.clone()), Reason::WrongValue("when", MustBe::Short)),
        (Condition { will: Some(long), ..Condition::default() }, Reason::WrongValue("will", MustBe::Short)),
        (Condition { reply: public, ..lock() }, Reason::NotAuthorized),
    ] {
        realm.send(client, publish_if("a", Acknowledge::AtLeastOnce(packet(1)), condition));
        assert!(matches!(realm.next(client), Delivery::Acknowledged(_, Err(refused)) if refused == reason));
    }
    let limits = Limits { max_waiting: 1, ..Limits::default() };
    let mut realm = Realm::with_limits(limits);
    let clients: Vec<_> = (0..3).map(|_| realm.wamp()).collect();
    clients.iter().for_each(|client| realm.send(*client, publish_if("a", request(1), lock())));
    assert!(published(&mut realm, clients[0]).is_ok());
    realm.nothing(clients[1]);
    assert_eq!(published(&mut realm, clients[2]), Err(Reason::QuotaExceeded));
}

#[test]
fn a_long_value_is_one_that_nothing_fits() {
    let mut realm = Realm::new();
    let client = realm.wamp();
    realm.send(client, publish(Box::leak("1".repeat(5_000).into_boxed_str()), 1));
    assert_eq!(published(&mut realm, client), Ok(1));
    for condition in [Value::Null, json!(1), json!({})] {
        realm.send(client, publish_if("2", request(2), when(condition)));
        assert_eq!(published(&mut realm, client), Err(Reason::ConditionFailed));
    }
}

#[test]
fn a_lock_is_acquired_renewed_and_released_by_its_token_alone() {
    let mut realm = Realm::new();
    let (a, b, watcher) = (realm.wamp(), realm.wamp(), realm.mqtt("w"));
    realm.subscribe(watcher, "$lock/t", Qos::AtMostOnce).unwrap();
    realm.call_with(a, acquire(1, &json!({})));
    let first = token(&mut realm, a);
    assert_eq!(realm.event(watcher).publication.id.0, first);
    realm.call_with(b, acquire(1, &json!({"wait_ms": 0})));
    assert_eq!(result(&mut realm, b), Err(Reason::ConditionFailed));
    realm.call_with(b, acquire(2, &json!({})));
    realm.nothing(b);
    call(&mut realm, b, 3, "corsac.lock.inspect", vec!["t".into()]);
    let seen = result(&mut realm, b).unwrap();
    assert_eq!((&seen["held"], &seen["token"], &seen["waiting"]), (&json!(true), &json!(first), &json!(1)));
    call(&mut realm, b, 4, "corsac.lock.release", vec!["t".into(), json!(first + 1)]);
    assert_eq!(result(&mut realm, b), Err(Reason::ConditionFailed));
    call(&mut realm, a, 2, "corsac.lock.release", vec!["t".into(), json!(first)]);
    assert_eq!(result(&mut realm, a), Ok(Value::Null));
    let second = token(&mut realm, b);
    assert!(second > first);
    for procedure in ["corsac.lock.release", "corsac.lock.renew"] {
        call(&mut realm, a, 3, procedure, vec!["t".into(), json!(first), json!({"ttl_ms": 5})]);
        assert_eq!(result(&mut realm, a), Err(Reason::ConditionFailed));
    }
    for list in [vec![], vec!["$SYS/x".into()], vec!["a/+".into()], vec!["t".into(), json!({"ttl_ms": 0})], vec![json!(1)]] {
        call(&mut realm, a, 4, "corsac.lock.acquire", list);
        assert!(result(&mut realm, a).is_err());
    }
}

#[test]
fn the_time_of_a_lock_ends_in_its_place() {
    let mut realm = slow();
    let (a, b) = (realm.wamp(), realm.wamp());
    realm.call_with(a, acquire(1, &json!({"ttl_ms": 100})));
    realm.call_with(b, acquire(1, &json!({"ttl_ms": 100})));
    append_all(&mut realm);
    let first = token(&mut realm, a);
    realm.advance(60);
    call(&mut realm, a, 2, "corsac.lock.renew", vec!["t".into(), json!(first), json!({"ttl_ms": 100})]);
    realm.advance(40); // The timer fires before the renewal has its place, and is behind it in the order.
    assert_eq!(realm.on_their_way(), 2);
    append_all(&mut realm);
    assert_eq!(result(&mut realm, a).unwrap()["token"], first);
    realm.nothing(b);
    realm.advance(99);
    assert_eq!(realm.on_their_way(), 0);
    realm.advance(1);
    call(&mut realm, a, 3, "corsac.lock.renew", vec!["t".into(), json!(first), json!({"ttl_ms": 100})]);
    append_all(&mut realm);
    assert_eq!(result(&mut realm, a), Err(Reason::ConditionFailed));
    assert!(token(&mut realm, b) > first);
}

#[test]
fn whoever_waits_may_give_up() {
    let mut realm = Realm::new();
    let (a, b, c) = (realm.wamp(), realm.wamp(), realm.wamp());
    realm.call_with(a, acquire(1, &json!({})));
    let first = token(&mut realm, a);
    realm.call_with(b, acquire(1, &json!({"wait_ms": 100})));
    realm.call_with(c, acquire(7, &json!({})));
    realm.advance(100);
    assert_eq!(result(&mut realm, b), Err(Reason::Timeout));
    realm.cancel(c, 7, CancelMode::KillNoWait);
    assert_eq!(result(&mut realm, c), Err(Reason::Canceled));
    call(&mut realm, a, 2, "corsac.lock.release", vec!["t".into(), json!(first)]);
    realm.inbox(a);
    realm.nothing(b);
    realm.nothing(c);
    assert_eq!(value_of(&realm, "$lock/t"), None);
    assert!(realm.router.realm.locks.topics.is_empty() && realm.router.realm.locks.sessions.is_empty());
}

#[test]
fn a_holder_that_ends_before_its_grant_has_its_place_holds_nothing() {
    let mut realm = slow();
    let (a, b) = (realm.mqtt("a"), realm.wamp());
    realm.send(a, publish_if("a", Acknowledge::AtLeastOnce(packet(1)), lock()));
    realm.append();
    realm.send(b, publish_if("b", request(1), lock()));
    let taken_over = realm.mqtt("a");
    append_all(&mut realm);
    assert!(published(&mut realm, b).unwrap() > 0);
    assert!(!realm.router.is_owed(taken_over));
}

#[test]
fn what_the_disk_refuses_is_said_or_tried_again() {
    let mut realm = slow();
    let (a, b) = (realm.wamp(), realm.wamp());
    realm.call_with(a, acquire(1, &json!({})));
    realm.refuse_append(Reason::NoSpace);
    assert_eq!(result(&mut realm, a), Err(Reason::NoSpace));
    realm.call_with(a, acquire(2, &json!({})));
    realm.append();
    realm.refuse_append(Reason::NoSpace);
    realm.refuse_append(Reason::NoSpace);
    assert_eq!(result(&mut realm, a), Err(Reason::NoSpace));
    // The record of the grant is refused, its publication is not: it is given up at once.
    realm.call_with(a, acquire(3, &json!({})));
    realm.append();
    realm.refuse_append(Reason::NoSpace);
    append_all(&mut realm);
    assert_eq!(result(&mut realm, a), Err(Reason::NoSpace));
    assert_eq!(value_of(&realm, "$lock/t"), None);
    realm.call_with(a, acquire(3, &json!({"ttl_ms": 100})));
    append_all(&mut realm);
    let first = token(&mut realm, a);
    realm.call_with(b, acquire(1, &json!({})));
    append_all(&mut realm);
    realm.advance(100);
    realm.refuse_append(Reason::NoSpace);
    realm.advance(RETRY_MS);
    realm.append();
    realm.refuse_append(Reason::NoSpace); // the end of the holder
    realm.nothing(b);
    realm.advance(RETRY_MS);
    append_all(&mut realm);
    assert!(token(&mut realm, b) > first);
}

#[test]
fn locks_by_name_have_a_space_of_their_own() {
    let mut realm = Realm::new();
    let (a, b, watcher, other) = (realm.wamp(), realm.wamp(), realm.mqtt("w"), realm.mqtt("o"));
    for filter in ["#", "+/+", "+/a/b", "a/#"] {
        realm.subscribe(other, filter, Qos::AtMostOnce).unwrap();
    }
    realm.subscribe(watcher, "$lock/#", Qos::AtMostOnce).unwrap();
    realm.call_with(a, acquire_of("a/b", 1, &json!({})));
    let first = token(&mut realm, a);
    let event = realm.event(watcher);
    assert_eq!((event.publication.topic.as_mqtt(), event.publication.id.0), ("$lock/a/b", first));
    // The other spelling is the same lock, the topic of its name is not.
    realm.call_with(b, acquire_of("a.b", 1, &json!({"wait_ms": 0})));
    assert_eq!(failure(&mut realm, b).0, Reason::ConditionFailed);
    assert_eq!(value_of(&realm, "a/b"), None);
    for topic in ["$lock/a/b", "$lock"] {
        let topic = Topic::from_mqtt(topic).unwrap();
        for condition in [None, Some(Box::new(lock()))] {
            let publication = Publication { retain: true, ..Publication::new(topic.clone(), Payload::empty(), Qos::AtLeastOnce) };
            let options = Some(Box::new(PublishOptions { condition, ..PublishOptions::default() }));
            realm.send(b, Command::Publish { publication: Arc::new(publication), acknowledge: request(2), options });
            assert!(matches!(published(&mut realm, b), Err(Reason::ReservedName(_))));
        }
    }
    let late = realm.mqtt("late");
    realm.subscribe(late, "$lock/+/b", Qos::AtMostOnce).unwrap();
    assert!(realm.event(late).retain);
    call(&mut realm, a, 2, "corsac.lock.release", vec!["a.b".into(), json!(first)]);
    assert_eq!(result(&mut realm, a), Ok(Value::Null));
    assert!(realm.event(watcher).publication.payload.is_empty());
    realm.nothing(other);
}

#[test]
fn an_error_says_what_is_wrong_with_which_lock() {
    let mut realm = Realm::new();
    let (a, b) = (realm.wamp(), realm.wamp());
    realm.call_with(a, acquire_of("demo.printer", 1, &json!({})));
    let first = token(&mut realm, a);
    let session = realm.router.realm.sessions.at(realm.router.realm.sessions.of_connection(a).unwrap()).unwrap().id;
    for (verb, list, reason, words) in [
        (
            "acquire",
            json!(["demo.printer", {"wait_ms": 0}]),
            Reason::ConditionFailed,
            format!("session {session} holds the lock demo.printer"),
        ),
        (
            "acquire",
            json!(["demo/printer", {"wait_ms": "x"}]),
            Reason::WrongValue("wait_ms", MustBe::WholeNumber),
            "wait_ms of the lock demo/printer".to_owned(),
        ),
        (
            "acquire",
            json!(["demo/printer", {"ttl_ms": 0}]),
            Reason::InvalidArgument,
            "ttl_ms of the lock demo/printer".to_owned(),
        ),
        ("acquire", json!([]), Reason::WrongValue("name", MustBe::Text), "say which lock".to_owned()),
        ("acquire", json!(["demo/+"]), Reason::InvalidTopic, "\"demo/+\" is not the name of a lock".to_owned()),
        ("acquire", json!(["corsac.x"]), reserved("corsac"), "there is no lock corsac.x: names under corsac.".to_owned()),
        ("release", json!(["demo/printer", first + 1]), Reason::ConditionFailed, "by another token".to_owned()),
        (
            "renew",
            json!(["demo/printer", first + 1, {"ttl_ms": 5}]),
            Reason::ConditionFailed,
            "holds the lock demo/printer".to_owned(),
        ),
        ("renew", json!(["demo/printer", first]), Reason::InvalidArgument, "ttl_ms of the lock demo/printer".to_owned()),
        ("release", json!(["demo/printer"]), Reason::InvalidArgument, "say which token holds the lock demo/printer".to_owned()),
        ("release", json!(["demo/other", 5]), Reason::ConditionFailed, "nobody holds the lock demo/other".to_owned()),
    ] {
        let Value::Array(list) = list else { unreachable!() };
        call(&mut realm, b, 1, &format!("corsac.lock.{verb}"), list);
        let (refused, sentence) = failure(&mut realm, b);
        assert!(refused == reason && sentence.contains(&words), "{verb}: {refused:?} {sentence}");
    }
    realm.call_with(b, acquire_of("demo/printer", 2, &json!({"wait_ms": 100})));
    realm.advance(100);
    assert_eq!(
        failure(&mut realm, b).1,
        format!("session {session} still holds the lock demo/printer; wait longer with wait_ms")
    );
    realm.call_with(b, acquire_of("demo/printer", 3, &json!({})));
    realm.cancel(b, 3, CancelMode::KillNoWait);
    assert_eq!(failure(&mut realm, b).1, "the lock demo/printer: canceled");
}

fn reserved(root: &str) -> Reason {
    Reason::ReservedName(crate::model::names::Root::of(root).unwrap())
}

#[test]
fn what_is_no_lock_is_said_to_be_none() {
    let mut realm = Realm::new();
    let (a, b) = (realm.wamp(), realm.wamp());
    realm.send(a, publish("x", 1));
    assert_eq!(published(&mut realm, a), Ok(1));
    for (verb, list) in [("inspect", json!(["t"])), ("release", json!(["t", 1])), ("renew", json!(["t", 1, {"ttl_ms": 5}]))] {
        let Value::Array(list) = list else { unreachable!() };
        call(&mut realm, a, 1, &format!("corsac.lock.{verb}"), list);
        let expected = (Reason::NotALock, "t is a topic with the retained value \"x\", not a lock".to_owned());
        assert_eq!(failure(&mut realm, a), expected, "{verb}");
    }
    // The lock of that name is another thing: it is free.
    realm.call_with(a, acquire(2, &json!({})));
    let first = token(&mut realm, a);
    call(&mut realm, a, 3, "corsac.lock.inspect", vec!["t".into()]);
    assert_eq!(result(&mut realm, a).unwrap()["token"], first);
    call(&mut realm, a, 4, "corsac.lock.release", vec!["t".into(), json!(first)]);
    assert_eq!(result(&mut realm, a), Ok(Value::Null));
    // So is one that a publication has made on the topic itself: its token releases it.
    realm.send(a, publish("", 5));
    realm.send(a, publish_if("y", request(6), lock()));
    assert!(published(&mut realm, a).is_ok());
    let held = published(&mut realm, a).unwrap();
    call(&mut realm, b, 1, "corsac.lock.inspect", vec!["t".into()]);
    let seen = result(&mut realm, b).unwrap();
    assert_eq!((&seen["token"], &seen["held"]), (&json!(held), &json!(true)));
    realm.call_with(b, acquire(2, &json!({})));
    let other = token(&mut realm, b);
    for (connection, token) in [(b, other), (a, held)] {
        call(&mut realm, connection, 9, "corsac.lock.release", vec!["t".into(), json!(token)]);
        assert_eq!(result(&mut realm, connection), Ok(Value::Null));
    }
    assert_eq!((value(&realm), value_of(&realm, "$lock/t")), (None, None));
    call(&mut realm, b, 10, "corsac.lock.inspect", vec!["t".into()]);
    assert_eq!(result(&mut realm, b).unwrap()["held"], false);
}

#[test]
fn a_holder_is_told_at_once_who_has_ended_what_it_holds() {
    let mut realm = Realm::new();
    let (holder, other, bystander) = (realm.wamp(), realm.wamp(), realm.wamp());
    for connection in [holder, other, bystander] {
        realm.subscribe(connection, names::ON_LOCK_LOST, Qos::AtMostOnce).unwrap();
    }
    let id_of = |realm: &Realm, connection| {
        realm.router.realm.sessions.at(realm.router.realm.sessions.of_connection(connection).unwrap()).unwrap().id.0
    };
    let other_id = id_of(&realm, other);
    // By a publication, whatever it says.
    for text in ["", "theirs"] {
        realm.send(holder, publish_if("mine", request(1), lock()));
        let held = published(&mut realm, holder).unwrap();
        realm.send(holder, publish("mine still", 2));
        assert!(published(&mut realm, holder).is_ok());
        realm.send(other, publish(text, 1));
        assert_eq!(lost(&mut realm, holder), ("changed".to_owned(), held, Some(other_id)));
        assert!(published(&mut realm, other).is_ok());
        realm.nothing(other);
    }
    // By a grant to somebody else.
    realm.send(holder, publish_if("mine", request(1), Condition { will: Some(json!("over")), ..Condition::default() }));
    let held = published(&mut realm, holder).unwrap();
    realm.send(other, publish_if("theirs", request(1), Condition { will: Some(Value::Null), ..Condition::default() }));
    assert_eq!(lost(&mut realm, holder), ("changed".to_owned(), held, Some(other_id)));
    let held = published(&mut realm, other).unwrap();
    // By itself: that is nothing new to it.
    realm.send(other, publish("", 2));
    assert!(published(&mut realm, other).is_ok());
    realm.nothing(other);
    // By its token, which anybody may know, and by time.
    realm.call_with(holder, acquire(3, &json!({"ttl_ms": 1_000})));
    let named = token(&mut realm, holder);
    assert!(named > held);
    call(&mut realm, other, 4, "corsac.lock.release", vec!["t".into(), json!(named)]);
    assert_eq!(lost(&mut realm, holder), ("released".to_owned(), named, Some(other_id)));
    assert_eq!(result(&mut realm, other), Ok(Value::Null));
    realm.call_with(holder, acquire(5, &json!({"ttl_ms": 1_000})));
    let named = token(&mut realm, holder);
    realm.advance(1_000);
    assert_eq!(lost(&mut realm, holder), ("expired".to_owned(), named, None));
    realm.call_with(holder, acquire(6, &json!({})));
    let named = token(&mut realm, holder);
    call(&mut realm, holder, 7, "corsac.lock.release", vec!["t".into(), json!(named)]);
    assert_eq!(result(&mut realm, holder), Ok(Value::Null));
    for connection in [holder, other, bystander] {
        realm.nothing(connection);
    }
}

#[test]
fn an_mqtt_holder_is_told_where_its_grant_was() {
    let mut realm = Realm::new();
    let (holder, other) = (realm.mqtt("h"), realm.wamp());
    realm.subscribe(holder, "$reply/#", Qos::AtMostOnce).unwrap();
    for (watch, answers) in [(true, 1), (false, 0)] {
        let condition = Condition { watch, reply: Some(reply_topic("$reply/lock", "7")), ..lock() };
        realm.send(holder, publish_if("mine", Acknowledge::AtLeastOnce(packet(1)), condition));
        let told = realm.inbox(holder);
        assert_eq!(told.iter().filter(|told| matches!(told, Delivery::Event(_))).count(), answers);
        realm.send(other, publish("", 1));
        assert!(published(&mut realm, other).is_ok());
        let event = realm.event(holder);
        let properties = event.publication.properties.as_ref().unwrap();
        assert_eq!(properties.user[0], ("corsac-lost".into(), "changed".into()));
        assert_eq!(properties.correlation_data.as_deref(), Some(&b"7"[..]));
        assert!(matches!(&properties.outcome, Some(Outcome::Error(ErrorUri::Custom(uri))) if **uri == *"corsac.error.lock_lost"));
        realm.nothing(holder);
    }
}

#[test]
fn locks_of_an_older_build_stood_on_topics_and_end_with_the_restart() {
    let mut realm = Realm::new();
    let (a, b) = (realm.wamp(), realm.wamp());
    realm.send(a, publish_if("{\"session\":1}", request(1), lock()));
    assert!(published(&mut realm, a).is_ok());
    realm.call_with(b, acquire(1, &json!({})));
    assert!(token(&mut realm, b) > 0);
    assert!(value(&realm).is_some() && value_of(&realm, "$lock/t").is_some());
    realm.restart();
    assert_eq!((value(&realm), value_of(&realm, "$lock/t")), (None, None));
    assert!(realm.router.realm.locks.topics.is_empty());
}

/// PUBLISH to `t`, retained, at QoS 1.
fn set(text: &'static str, id: u16) -> Command {
    let Command::Publish { publication, options, .. } = publish(text, 1) else { unreachable!() };
    Command::Publish { publication, acknowledge: Acknowledge::AtLeastOnce(packet(id)), options }
}

#[test]
fn a_session_that_comes_back_is_not_the_holder_that_it_was() {
    for restarts in 0..3 {
        let mut realm = slow();
        let before = realm.persistent("m");
        realm.send(before, publish_if("mine", Acknowledge::AtLeastOnce(packet(1)), lock()));
        while !realm.records.last().is_some_and(is_grant) {
            realm.append();
        }
        // The grant is on record, its publication on its way; what the new connection publishes comes behind it.
        let after = realm.persistent("m");
        realm.send(after, set("new", 2));
        append_all(&mut realm);
        assert_eq!(value(&realm).as_deref(), Some("new"));
        for _ in 0..restarts {
            realm.restart();
            append_all(&mut realm);
            assert_eq!(value(&realm).as_deref(), Some("new"), "after {restarts} restarts");
        }
        let kept = realm.persistent("m");
        realm.lose(kept);
        append_all(&mut realm);
        assert_eq!(value(&realm).as_deref(), Some("new"));
    }
}

fn is_grant(record: &Record) -> bool {
    let Payload::Bytes(body) = &record.item.payload else { return false };
    record.item.kind == Kind::LOCK && matches!(LockChange::decode(body), Some(LockChange::Grant { session: 1.., .. }))
}

#[test]
fn what_the_disk_refused_to_an_ended_holder_is_not_taken_from_its_session() {
    let mut realm = slow();
    let before = realm.persistent("m");
    realm.send(before, publish_if("mine", Acknowledge::AtLeastOnce(packet(1)), lock()));
    append_all(&mut realm);
    realm.lose(before);
    realm.refuse_append(Reason::NoSpace); // the end of the holder, which is tried again
    append_all(&mut realm);
    let after = realm.persistent("m");
    realm.send(after, set("new", 2));
    append_all(&mut realm);
    realm.advance(2 * RETRY_MS);
    append_all(&mut realm);
    assert_eq!(value(&realm).as_deref(), Some("new"));
    let pieces: Vec<_> = realm.router.pieces();
    assert!(!pieces.contains(&PieceKey::Holder(Topic::from_mqtt("t").unwrap())));
    realm.restart();
    append_all(&mut realm);
    assert_eq!(value(&realm).as_deref(), Some("new"));
}

#[test]
fn a_promise_whose_publication_never_came_is_nobodys() {
    // Cut off by the end of the process.
    let mut realm = slow();
    let before = realm.persistent("m");
    realm.send(before, publish_if("1", Acknowledge::AtLeastOnce(packet(1)), lock()));
    while !realm.records.last().is_some_and(is_grant) {
        realm.append();
    }
    realm.restart();
    let after = realm.persistent("m");
    realm.send(after, publish_if("2", Acknowledge::AtLeastOnce(packet(2)), when(Value::Null)));
    append_all(&mut realm);
    assert_eq!(value(&realm).as_deref(), Some("2"));
    realm.restart();
    append_all(&mut realm);
    assert_eq!(value(&realm).as_deref(), Some("2"));
    // Refused by the disk.
    let mut realm = slow();
    let client = realm.persistent("m");
    realm.send(client, publish_if("1", Acknowledge::AtLeastOnce(packet(1)), lock()));
    while !realm.records.last().is_some_and(is_grant) {
        realm.append();
    }
    realm.refuse_append(Reason::NoSpace);
    realm.send(client, publish_if("2", Acknowledge::AtLeastOnce(packet(2)), when(Value::Null)));
    append_all(&mut realm);
    assert_eq!(value(&realm).as_deref(), Some("2"));
    realm.restart();
    append_all(&mut realm);
    assert_eq!(value(&realm).as_deref(), Some("2"));
}
