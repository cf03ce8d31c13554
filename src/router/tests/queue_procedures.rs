//! Queues as calls see them.
use serde_json::{Value, json};

use crate::model::command::CancelMode;
use crate::model::delivery::Answer;
use crate::model::names::PUT;
use crate::model::outcome::Outcome;
use crate::model::payload::Part;
use crate::model::record::Kind;
use crate::model::{ConnectionId, Encoding, ErrorUri, Limits, Payload, Reason};
use crate::router::queue::change::{is_queue, queue_of};

use super::Realm;

fn json_args(value: &Value) -> Payload {
    Payload::Args { encoding: Encoding::Json, args: json!([value]).to_string().into(), kwargs: Default::default() }
}

fn put(realm: &mut Realm, connection: ConnectionId, name: &str, value: Value) {
    realm.call_own(connection, 1, PUT, json!([name, null]), json_args(&value));
}

fn call(realm: &mut Realm, connection: ConnectionId, verb: &str, list: Value) {
    realm.call_own(connection, 2, &format!("corsac.queue.{verb}"), list, Payload::empty());
}

/// The one value that a call was answered with; `None` for none.
fn value(answer: &Answer) -> Option<Value> {
    assert_eq!(answer.outcome, Outcome::Result, "{answer:?}");
    let Payload::Args { args, .. } = &answer.payload else { panic!("{answer:?}") };
    let values: Vec<Value> = serde_json::from_slice(args).unwrap();
    assert!(values.len() <= 1);
    values.into_iter().next()
}

fn asked(realm: &mut Realm, connection: ConnectionId, verb: &str, list: Value) -> Option<Value> {
    call(realm, connection, verb, list);
    value(&realm.answer(connection))
}

fn refused(realm: &mut Realm, connection: ConnectionId, verb: &str, list: Value) -> ErrorUri {
    call(realm, connection, verb, list);
    realm.error(connection).1
}

/// Items that a call was answered with: payload, delivery count, token.
fn items(realm: &mut Realm, connection: ConnectionId) -> Vec<(Payload, u64, String)> {
    let answer = realm.answer(connection);
    let Payload::List(parts) = &answer.payload else { panic!("{answer:?}") };
    let item = |part: &Part| {
        let token = part.head["token"].as_str().unwrap().to_owned();
        (part.payload.clone(), part.head["delivery_count"].as_u64().unwrap(), token)
    };
    parts.iter().map(item).collect()
}

fn take(realm: &mut Realm, connection: ConnectionId, list: Value) -> Vec<(Payload, u64, String)> {
    call(realm, connection, "take", list);
    items(realm, connection)
}

#[test]
fn an_item_goes_from_hand_to_hand_as_it_was_put() {
    let mut realm = Realm::new();
    let (a, b) = (realm.wamp(), realm.wamp());
    put(&mut realm, a, "jobs", json!({"x": [1, null]}));
    let id = value(&realm.answer(a)).unwrap();
    assert_eq!(id, json!(1));
    let got = take(&mut realm, b, json!(["jobs"]));
    assert_eq!(got, [(json_args(&json!({"x": [1, null]})), 1, "2".to_owned())]);
    assert_eq!(asked(&mut realm, b, "ack", json!(["2"])), None);
    assert_eq!(refused(&mut realm, b, "ack", json!(["2"])), ErrorUri::Reason(Reason::NoSuchToken));
    assert_eq!(refused(&mut realm, b, "nack", json!([2])), ErrorUri::Reason(Reason::NoSuchToken));
    assert_eq!(refused(&mut realm, b, "extend", json!(["2.1"])), ErrorUri::Reason(Reason::NoSuchToken));
    assert!(take(&mut realm, b, json!(["jobs", {"max": 5}])).is_empty());
    // Readers of history see none of it.
    assert!(realm.records.iter().all(|record| record.item.kind == Kind::QUEUE && record.item.indexed_topic().is_none()));
    assert!(realm.records[0].item.topic.as_ref().is_some_and(is_queue));
}

#[test]
fn waiting_calls_are_answered_in_their_turn_or_when_their_time_is_over() {
    let mut realm = Realm::new();
    let (a, b, c) = (realm.wamp(), realm.wamp(), realm.wamp());
    call(&mut realm, a, "take", json!(["q", {"wait_ms": 50}]));
    call(&mut realm, b, "take", json!(["q", {"wait_ms": 1_000}]));
    realm.nothing(a);
    realm.advance(49);
    realm.nothing(a);
    realm.advance(1);
    assert!(items(&mut realm, a).is_empty());
    put(&mut realm, c, "q", json!(1));
    realm.answer(c);
    assert_eq!(items(&mut realm, b), [(json_args(&json!(1)), 1, realm.records.last().unwrap().id.to_string())]);
    assert_eq!(realm.router.poll_timeout(), Some(realm.now_ms + 30_000));
    realm.advance(30_000);
    assert_eq!(take(&mut realm, a, json!(["q"]))[0].1, 2);
}

#[test]
fn a_call_that_has_left_gets_nothing_and_an_item_that_did_not_reach_it_counts_no_delivery() {
    let mut realm = Realm::new();
    let (a, b) = (realm.wamp(), realm.wamp());
    call(&mut realm, a, "take", json!(["q", {"wait_ms": 1_000}]));
    realm.is_disk_slow = true;
    put(&mut realm, b, "q", json!(1));
    // The put has its place before the end of the one who waits.
    realm.lose(a);
    let newcomer = realm.wamp();
    while realm.on_their_way() > 0 {
        realm.append();
    }
    realm.is_disk_slow = false;
    realm.nothing(newcomer);
    realm.answer(b);
    assert_eq!(take(&mut realm, b, json!(["q"]))[0].1, 1);
    // Asked, left, and only then in its place.
    realm.is_disk_slow = true;
    let c = realm.wamp();
    call(&mut realm, c, "take", json!(["q", {"wait_ms": 1_000}]));
    realm.lose(c);
    put(&mut realm, b, "q", json!(2));
    while realm.on_their_way() > 0 {
        realm.append();
    }
    realm.is_disk_slow = false;
    realm.answer(b);
    assert_eq!(take(&mut realm, b, json!(["q"]))[0], (json_args(&json!(2)), 1, realm.records.last().unwrap().id.to_string()));
    assert!(realm.router.realm.queues.has_no_callers());
}

#[test]
fn a_canceled_take_takes_nothing() {
    let mut realm = Realm::new();
    let (a, b) = (realm.wamp(), realm.wamp());
    call(&mut realm, a, "take", json!(["q", {"wait_ms": 1_000}]));
    realm.cancel(b, 2, CancelMode::Kill);
    realm.nothing(a);
    realm.cancel(a, 2, CancelMode::Kill);
    assert_eq!(realm.error(a), (2, ErrorUri::Reason(Reason::Canceled)));
    put(&mut realm, b, "q", json!(1));
    realm.nothing(a);
}

#[test]
fn a_call_holds_back_nothing_of_its_session() {
    let mut realm = Realm::new();
    let a = realm.wamp();
    realm.is_disk_slow = true;
    put(&mut realm, a, "q", json!(1));
    call(&mut realm, a, "take", json!(["q"]));
    call(&mut realm, a, "stats", json!(["q"]));
    assert_eq!(value(&realm.answer(a)).unwrap()["ready"], 0);
    assert_eq!(realm.on_their_way(), 2);
    realm.append();
    assert_eq!(value(&realm.answer(a)), Some(json!(1)));
    // Only its socket is read no faster than the disk writes.
    assert!(realm.router.is_owed(a) && realm.settled.is_empty());
    realm.refuse_append(Reason::NoSpace);
    assert!(!realm.router.is_owed(a) && realm.settled == [a]);
    assert_eq!(realm.error(a).1, ErrorUri::Reason(Reason::NoSpace));
    assert!(realm.router.realm.queues.asked.is_empty());
}

#[test]
fn settings_and_figures_are_told() {
    let mut realm = Realm::new();
    let a = realm.wamp();
    let options = json!({"visibility_ms": 500, "max_deliveries": 2, "dead_letter": "jobs.dead", "max_len": 1});
    let told = asked(&mut realm, a, "declare", json!(["jobs", options.clone()]));
    assert_eq!(told, Some(options));
    put(&mut realm, a, "jobs", json!(1));
    realm.answer(a);
    put(&mut realm, a, "jobs", json!(2));
    assert_eq!(realm.error(a).1, ErrorUri::Reason(Reason::QuotaExceeded));
    for _ in 0..2 {
        assert_eq!(take(&mut realm, a, json!(["jobs"])).len(), 1);
        realm.advance(500);
    }
    let stats = asked(&mut realm, a, "stats", json!(["jobs"])).unwrap();
    let figures = ["declared", "ready", "put", "taken", "returned", "dead_lettered", "dead_letter", "max_len"];
    let expected = json!([true, 0, 1, 2, 2, 1, "jobs.dead", 1]);
    assert_eq!(Value::from(figures.map(|name| stats[name].clone()).to_vec()), expected);
    assert_eq!(asked(&mut realm, a, "stats", json!(["jobs/dead"])).unwrap()["ready"], 1);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let mut realm = Realm::new();
    let a = realm.wamp();
    for (verb, list) in [
        ("take", json!([])),
        ("take", json!([5])),
        ("take", json!(["q", {"max": 0}])),
        ("take", json!(["q", {"wait_ms": -1}])),
        ("declare", json!(["q", {"visibility_ms": 0}])),
        ("declare", json!(["q", {"max_deliveries": 4_294_967_296_u64}])),
        ("declare", json!(["q", {"dead_letter": "q"}])),
        ("extend", json!(["1", {"visibility_ms": 0}])),
        ("ack", json!([])),
        ("ack", json!(["one"])),
        ("nack", json!(["1", {"delay_ms": "soon"}])),
    ] {
        let refused = refused(&mut realm, a, verb, list.clone());
        assert!(matches!(refused, ErrorUri::Reason(Reason::WrongValue(..))), "{verb} {list}: {refused:?}");
    }
    for (verb, list) in [("take", json!([""])), ("take", json!(["a b"])), ("stats", json!(["#"]))] {
        assert_eq!(refused(&mut realm, a, verb, list), ErrorUri::Reason(Reason::InvalidTopic));
    }
    assert_eq!(refused(&mut realm, a, "steal", json!(["q"])), ErrorUri::Reason(Reason::NoSuchProcedure));
    assert!(realm.records.is_empty());
}

#[test]
fn bounds_of_the_realm_refuse() {
    let limits = Limits { max_queues: 2, max_queued: 3, max_queued_bytes: 2_000, max_queue_takers: 2, ..Limits::default() };
    let mut realm = Realm::with_limits(limits);
    let a = realm.wamp();
    let full = ErrorUri::Reason(Reason::QuotaExceeded);
    realm.is_disk_slow = true;
    for _ in 0..2 {
        call(&mut realm, a, "take", json!(["q", {"wait_ms": 9}]));
    }
    // On their way, too.
    assert_eq!(refused(&mut realm, a, "take", json!(["q"])), full);
    realm.append();
    assert_eq!(refused(&mut realm, a, "take", json!(["q"])), full);
    realm.append();
    assert_eq!(refused(&mut realm, a, "take", json!(["q"])), full);
    realm.is_disk_slow = false;
    realm.advance(9);
    assert_eq!(realm.inbox(a).len(), 2);
    put(&mut realm, a, "q", json!("x".repeat(1_900)));
    assert_eq!(realm.error(a).1, full);
    for name in ["a", "b", "b"] {
        put(&mut realm, a, name, json!(1));
        value(&realm.answer(a));
    }
    put(&mut realm, a, "b", json!(1));
    assert_eq!(realm.error(a).1, full);
    for (verb, list) in [("take", json!(["c"])), ("declare", json!(["c"]))] {
        assert_eq!(refused(&mut realm, a, verb, list), full);
    }
    put(&mut realm, a, "c", json!(1));
    assert_eq!(realm.error(a).1, full);
    assert_eq!(take(&mut realm, a, json!(["a"])).len(), 1);
}

#[test]
fn a_restart_finds_everything_but_those_who_waited() {
    let mut realm = Realm::new();
    let a = realm.wamp();
    asked(&mut realm, a, "declare", json!(["q", {"visibility_ms": 1_000}]));
    for text in ["x", "y", "z"] {
        realm.call_own(a, 1, PUT, json!(["q", null, {"delay_ms": 0}]), json_args(&json!(text)));
        realm.answer(a);
    }
    realm.call_own(a, 1, PUT, json!(["q", null, {"delay_ms": 5_000}]), json_args(&json!("later")));
    realm.answer(a);
    let token = take(&mut realm, a, json!(["q"]))[0].2.clone();
    assert_eq!(take(&mut realm, a, json!(["q"])).len(), 1);
    call(&mut realm, a, "take", json!(["other", {"wait_ms": 60_000}]));
    let before = realm.router.realm.queues.state.clone();
    realm.restart();
    let b = realm.wamp();
    assert_eq!(asked(&mut realm, b, "stats", json!(["other"])).unwrap()["waiting"], 0);
    assert_eq!(realm.router.realm.queues.state.items(), before.items());
    assert_eq!(asked(&mut realm, b, "ack", json!([token])), None);
    realm.advance(1_000);
    let got = take(&mut realm, b, json!(["q", {"max": 9}]));
    let counts: Vec<_> = got.iter().map(|(payload, count, _)| (payload.clone(), *count)).collect();
    assert_eq!(counts, [(json_args(&json!("y")), 2), (json_args(&json!("z")), 1)]);
    realm.advance(4_000);
    let got = take(&mut realm, b, json!(["q", {"max": 9}]));
    assert_eq!((got[2].0.clone(), got[2].1), (json_args(&json!("later")), 1));
}

#[test]
fn counts_outlive_the_queue_and_are_listed() {
    let mut realm = Realm::new();
    let a = realm.wamp();
    assert_eq!(asked(&mut realm, a, "list", json!([])), Some(json!([])));
    let stats = |realm: &mut Realm, name: &str| asked(realm, a, "stats", json!([name])).unwrap();
    let figures = |stats: &Value| Value::from(["known", "put", "taken", "acknowledged"].map(|name| stats[name].clone()).to_vec());
    assert_eq!(figures(&stats(&mut realm, "jobs")), json!([false, 0, 0, 0]));
    for round in 1..3 {
        put(&mut realm, a, "jobs", json!(1));
        realm.answer(a);
        let token = take(&mut realm, a, json!(["jobs"]))[0].2.clone();
        asked(&mut realm, a, "ack", json!([token]));
        assert_eq!(figures(&stats(&mut realm, "jobs")), json!([true, round, round, round]));
        assert!(!realm.router.realm.queues.state.has(&queue_of("jobs").unwrap()));
    }
    put(&mut realm, a, "a/b", json!(1));
    realm.answer(a);
    // Asked for in vain, and no more than that.
    assert!(take(&mut realm, a, json!(["nothing"])).is_empty());
    let list = asked(&mut realm, a, "list", json!([])).unwrap();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|queue| (queue["name"].clone(), queue["ready"].clone())).collect();
    assert_eq!(names, [(json!("a.b"), json!(1)), (json!("jobs"), json!(0))]);
}
