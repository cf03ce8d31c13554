//! Conditions and locks, one case after the other.
use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::arguments::Arguments;
use crate::model::command::{Acknowledge, Call, CancelMode, Condition, Outcome, PublishOptions, ReplyTo};
use crate::model::delivery::Taken;
use crate::model::record::Kind;
use crate::model::{
    Command, ConnectionId, Delivery, ErrorUri, Limits, PacketId, Payload, Publication, PublicationId, Qos, Reason, RequestId,
    Topic,
};
use crate::router::base::context::RETRY_MS;

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
    let topic = Topic::from_mqtt("t").unwrap();
    let value = realm.router.realm.retained.find(&topic, realm.now_ms)?;
    match &value.payload {
        Payload::Bytes(bytes) | Payload::Args { args: bytes, .. } => Some(String::from_utf8(bytes.to_vec()).unwrap()),
        Payload::List(_) => None,
    }
}

fn published(realm: &mut Realm, connection: ConnectionId) -> Result<u64, Reason> {
    match realm.next(connection) {
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
    // What waits in line holds nothing back.
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
        (Condition { watch: true, ..Condition::default() }, Reason::InvalidArgument),
        (when(long.clone()), Reason::InvalidArgument),
        (Condition { will: Some(long), ..Condition::default() }, Reason::InvalidArgument),
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
    realm.subscribe(watcher, "t", Qos::AtMostOnce).unwrap();
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
    assert_eq!(value(&realm), None);
    assert!(realm.router.realm.locks.topics.is_empty() && realm.router.realm.locks.sessions.is_empty());
}

#[test]
fn a_holder_that_ends_before_its_grant_has_its_place_holds_nothing() {
    let mut realm = slow();
    let (a, b) = (realm.mqtt("a"), realm.wamp());
    realm.send(a, publish_if("a", Acknowledge::AtLeastOnce(packet(1)), lock()));
    realm.append();
    realm.call_with(b, acquire(1, &json!({})));
    let taken_over = realm.mqtt("a");
    append_all(&mut realm);
    assert!(token(&mut realm, b) > 0);
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
    assert_eq!(value(&realm), None);
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
