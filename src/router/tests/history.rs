//! Procedures that read the history.
use crate::router::procedure::history::{MAX_LINE, filter_of};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::arguments::Arguments;
use crate::model::command::{Acknowledge, Call, PublishOptions, SubscribeEntry, SubscribeOptions};
use crate::model::delivery::Granted;
use crate::model::outcome::Outcome;
use crate::model::readers::{Audience, Readers};
use crate::model::reason::MustBe;
use crate::model::{
    Command, ConnectionId, ErrorUri, EventId, Filter, MatchPolicy, Payload, Publication, Qos, Reason, Record, RequestId,
    SessionId, Topic,
};

use super::{Realm, payload, wamp_call};

fn publish(realm: &mut Realm, from: ConnectionId, topic: &str, text: &'static str) {
    publish_with(realm, from, topic, text, None);
}

fn publish_with(realm: &mut Realm, from: ConnectionId, topic: &str, text: &'static str, options: Option<PublishOptions>) {
    let publication = Publication::new(Topic::from_mqtt(topic).unwrap(), payload(text), Qos::AtLeastOnce);
    let (publication, options) = (Arc::new(publication), options.map(Box::new));
    let acknowledge = Acknowledge::Request(RequestId(1));
    realm.send(from, Command::Publish { publication, acknowledge, options });
    realm.inbox(from);
}

fn call(realm: &mut Realm, from: ConnectionId, uri: &str, list: Value, named: Value) {
    let (Value::Array(list), Value::Object(named)) = (list, named) else { panic!("no arguments") };
    let arguments = Some(Ok(Box::new(Arguments { list, named })));
    realm.call_with(from, Call { arguments, ..wamp_call(realm.records.len() as u64 + 7, uri) });
}

/// Args and kwargs of the answer, or the error.
fn answered(realm: &mut Realm, from: ConnectionId) -> Result<(Value, Value), ErrorUri> {
    let answer = realm.answer(from);
    match (answer.outcome, answer.payload) {
        (Outcome::Result, Payload::Args { args, kwargs, .. }) => {
            let kwargs = if kwargs.is_empty() { json!({}) } else { serde_json::from_slice(&kwargs).unwrap() };
            Ok((serde_json::from_slice(&args).unwrap(), kwargs))
        }
        (Outcome::Error(uri), _) => Err(uri),
        other => panic!("{other:?}"),
    }
}

/// The texts of the events of `get_events`.
fn events(realm: &mut Realm, from: ConnectionId, subscription: u64, named: Value) -> Result<Vec<String>, ErrorUri> {
    call(realm, from, "wamp.subscription.get_events", json!([subscription]), named);
    let (args, _) = answered(realm, from)?;
    let text = |event: &Value| event["args"][0].as_str().unwrap().to_owned();
    Ok(args.as_array().unwrap().iter().map(text).collect())
}

fn subscribe(realm: &mut Realm, connection: ConnectionId, uri: &str, policy: MatchPolicy) -> u64 {
    let filter = Filter::from_uri(uri, policy).unwrap();
    let granted = realm.ask(connection, SubscribeEntry::Topic { filter, share: None, options: SubscribeOptions::default() });
    match granted {
        Ok(Granted::Subscription(id, _)) => id.0,
        other => panic!("{other:?}"),
    }
}

/// Ten events `0`..`9` with ids 1..10, a second apart from 1970-01-01T00:20:00Z on; even ones on `a/x`, the others on `a/y`.
fn ten() -> (Realm, ConnectionId) {
    let mut realm = Realm::new();
    let publisher = realm.wamp();
    realm.now_ms = 1_200_000;
    for (number, text) in ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"].into_iter().enumerate() {
        publish(&mut realm, publisher, if number % 2 == 0 { "a/x" } else { "a/y" }, text);
        realm.now_ms += 1_000;
    }
    (realm, publisher)
}

#[test]
fn every_argument_is_taken_on_every_kind_of_subscription() {
    let (mut realm, caller) = ten();
    let other = realm.wamp();
    let exact = subscribe(&mut realm, other, "a.x", MatchPolicy::Exact);
    let prefix = subscribe(&mut realm, other, "a", MatchPolicy::Prefix);
    let wildcard = subscribe(&mut realm, other, "a.", MatchPolicy::Wildcard);
    for (subscription, named, expected) in [
        (exact, json!({}), "02468"),
        (prefix, json!({}), "0123456789"),
        (wildcard, json!({}), "0123456789"),
        (prefix, json!({"limit": 3}), "012"),
        (prefix, json!({"limit": 3, "reverse": true}), "987"),
        (exact, json!({"limit": 2, "reverse": true}), "86"),
        (prefix, json!({"topic": "a.y"}), "13579"),
        (wildcard, json!({"topic": "a.x", "limit": 1}), "0"),
        (prefix, json!({"topic": "b"}), ""),
        (exact, json!({"topic": "a.x"}), "02468"),
        (exact, json!({"topic": "a.y"}), ""),
        (prefix, json!({"from_publication": 8}), "789"),
        (prefix, json!({"after_publication": 8}), "89"),
        (prefix, json!({"before_publication": 3}), "01"),
        (prefix, json!({"until_publication": 3}), "012"),
        (prefix, json!({"after_publication": 3, "from_publication": 3, "until_publication": 6, "before_publication": 6}), "34"),
        (prefix, json!({"from_publication": 1, "until_publication": 4_503_599_627_370_495_u64, "limit": 1}), "0"),
        (prefix, json!({"after_publication": 4_503_599_627_370_495_u64}), ""),
        (prefix, json!({"from_time": "1970-01-01T00:20:08Z"}), "89"),
        (prefix, json!({"after_time": "1970-01-01T00:20:08Z"}), "9"),
        (prefix, json!({"before_time": "1970-01-01T00:20:02.000Z"}), "01"),
        (prefix, json!({"until_time": "1970-01-01T01:20:02+01:00"}), "012"),
        (prefix, json!({"from_time": "1970-01-01T00:20:07.9999Z", "until_time": "1970-01-01T00:20:08.0001Z"}), "8"),
        (prefix, json!({"after_time": "1970-01-01T00:20:07.9999Z", "before_time": "1970-01-01T00:20:08.0001Z"}), "8"),
        (prefix, json!({"from_time": "1970-01-01T00:20:08.0001Z"}), "9"),
        (prefix, json!({"after_publication": 2, "before_time": "1970-01-01T00:20:05Z", "topic": "a.y", "reverse": true}), "3"),
        (prefix, json!({"limit": 1_000_000_000_000_u64}), "0123456789"),
    ] {
        let found = events(&mut realm, caller, subscription, named.clone());
        assert_eq!(found.map(|found| found.concat()), Ok(expected.to_owned()), "{named}");
    }
}

#[test]
fn arguments_that_cannot_be_are_refused() {
    let (mut realm, caller) = ten();
    let prefix = subscribe(&mut realm, caller, "a", MatchPolicy::Prefix);
    for named in [
        json!({"limit": 0}),
        json!({"limit": -1}),
        json!({"limit": "3"}),
        json!({"reverse": 1}),
        json!({"from_time": 5}),
        json!({"until_time": "yesterday"}),
        json!({"after_publication": 0}),
        json!({"before_publication": 4_503_599_627_370_496_u64}),
        json!({"until_publication": "1; DROP TABLE"}),
        json!({"topic": "a..b"}),
    ] {
        let refused = events(&mut realm, caller, prefix, named.clone()).unwrap_err();
        let name = named.as_object().unwrap().keys().next().unwrap();
        assert!(matches!(refused, ErrorUri::Reason(Reason::WrongValue(wrong, _)) if wrong == name), "{named}: {refused:?}");
    }
    let unknown = ErrorUri::Reason(Reason::NoSuchSubscription);
    assert_eq!(events(&mut realm, caller, 9_999, json!({})), Err(unknown));
}

#[test]
fn events_have_the_form_of_the_specification() {
    let (mut realm, caller) = ten();
    let prefix = subscribe(&mut realm, caller, "a", MatchPolicy::Prefix);
    let options = PublishOptions { disclose_me: true, ..PublishOptions::default() };
    publish_with(&mut realm, caller, "a/z", "shown", Some(options));
    call(&mut realm, caller, "wamp.subscription.get_events", json!([prefix]), json!({"from_publication": 11}));
    let (args, kwargs) = answered(&mut realm, caller).unwrap();
    let details = json!({
        "topic": "a.z", "publisher": 1_001, "publisher_authid": "user", "publisher_authrole": "anonymous",
        "mqtt": {"qos": 1, "retain": false},
    });
    assert_eq!(
        args,
        json!([{
            "timestamp": "1970-01-01T00:20:10.000Z", "subscription": prefix, "publication": 11,
            "details": details, "args": ["shown"], "kwargs": {},
        }])
    );
    assert_eq!(kwargs, json!({"cursor": 11, "is_end": true}));
    call(&mut realm, caller, "corsac.history.read", json!(["a.#", {"limit": 1, "after": 10}]), json!({}));
    let (args, kwargs) = answered(&mut realm, caller).unwrap();
    let event = json!({
        "id": 11, "time_ms": 1_210_000, "time": "1970-01-01T00:20:10.000Z", "topic": "a.z", "retain": false, "qos": 1,
        "publisher": 1_001, "publisher_authid": "user", "publisher_authrole": "anonymous", "args": ["shown"], "kwargs": {},
    });
    assert_eq!((args, kwargs), (json!([{"events": [event], "cursor": 11, "is_end": true}]), json!({})));
}

/// The ids that `corsac.history.read` finds, the cursor, and whether that was all.
fn read(realm: &mut Realm, from: ConnectionId, list: Value) -> (Vec<u64>, Option<u64>, bool) {
    call(realm, from, "corsac.history.read", list, json!({}));
    let (args, _) = answered(realm, from).unwrap();
    let ids = args[0]["events"].as_array().unwrap().iter().map(|event| event["id"].as_u64().unwrap()).collect();
    (ids, args[0]["cursor"].as_u64(), args[0]["is_end"].as_bool().unwrap())
}

#[test]
fn the_history_is_read_page_by_page_in_both_directions() {
    for page_records in [1, 2, 3, 100] {
        let (mut realm, caller) = ten();
        realm.page_records = page_records;
        assert_eq!(read(&mut realm, caller, json!(["a.y", {"limit": 2}])), (vec![2, 4], Some(4), false));
        assert_eq!(read(&mut realm, caller, json!(["a.y", {"limit": 9, "after": 4}])).0, [6, 8, 10]);
        assert_eq!(read(&mut realm, caller, json!(["a.y", {"limit": 2, "reverse": true}])), (vec![10, 8], Some(8), false));
        assert_eq!(read(&mut realm, caller, json!(["a.y", {"before": 8, "reverse": true}])).0, [6, 4, 2]);
        assert_eq!(read(&mut realm, caller, json!(["a.y", {"before": 8, "after": 3}])).0, [4, 6]);
        assert_eq!(read(&mut realm, caller, json!(["a", {"match": "prefix", "after": 8}])), (vec![9, 10], Some(10), true));
        assert_eq!(read(&mut realm, caller, json!(["a.*", {"after": 8}])).0, [9, 10]);
        assert_eq!(read(&mut realm, caller, json!(["a.", {"match": "wildcard", "after": 0, "limit": 1}])).0, [1]);
        assert_eq!(read(&mut realm, caller, json!(["a", {"after": 8}])).0, [] as [u64; 0]);
    }
}

#[test]
fn filters_may_be_spelled_as_mqtt_does() {
    let (a_y, all) = (Filter::Exact(Topic::from_mqtt("a/y").unwrap()), Filter::from_mqtt("a/#"));
    assert_eq!((filter_of("a/y", None), filter_of("a.y", None)), (Ok(a_y.clone()), Ok(a_y)));
    assert_eq!((filter_of("a/#", None), filter_of("a.#", None)), (all.clone(), all));
    assert_eq!(filter_of("a", Some("fuzzy")), Err(Reason::WrongValue("match", MustBe::Policy)));
    for bad in ["", "a..b", "a/#/b", "a b"] {
        assert_eq!(filter_of(bad, None), Err(Reason::WrongValue("filter", MustBe::Filter)), "{bad:?}");
    }
    assert_eq!(filter_of("a/\u{1}", None), Err(Reason::UnfitCharacter('\u{1}')));
}

#[test]
fn what_is_not_for_everybody_is_read_by_whom_it_is_for() {
    let (mut realm, caller) = ten();
    let names = |name: &str| Audience { authids: Some(vec![name.into()]), ..Audience::default() };
    let ids = Audience { sessions: Some(vec![SessionId(1_001)]), ..Audience::default() };
    let all = [
        Readers { eligible: Some(names("nobody")), exclude: None },
        Readers { eligible: None, exclude: Some(names("user")) },
        Readers { eligible: Some(ids), exclude: None },
        Readers { eligible: Some(names("user")), exclude: Some(names("nobody")) },
    ];
    for readers in all {
        let publication = Publication::new(Topic::from_mqtt("a/x").unwrap(), payload("secret"), Qos::AtLeastOnce);
        let publication = Arc::new(Publication { readers: Some(Box::new(readers)), ..publication });
        realm.send(caller, Command::Publish { publication, acknowledge: Acknowledge::Request(RequestId(1)), options: None });
        realm.inbox(caller);
    }
    publish(&mut realm, caller, "a/x", "seen");
    assert_eq!(read(&mut realm, caller, json!(["a.x", {"after": 10}])).0, [14, 15]);
    assert_eq!(read(&mut realm, caller, json!(["a.x", {"after": 10, "limit": 1}])).0, [14]);
    // A record of an earlier version does not say for whom it is.
    realm.records[13].item.readers = None;
    assert_eq!(read(&mut realm, caller, json!(["a.x", {"after": 10}])).0, [15]);
}

#[test]
fn what_has_no_effect_yet_is_not_read() {
    let (mut realm, caller) = ten();
    let written = realm.records[0].clone();
    realm.records.push(Record { id: EventId::new(11).unwrap(), ..written });
    assert_eq!(read(&mut realm, caller, json!(["#", {"after": 9}])).0, [10]);
    let mut empty = Realm::new();
    let caller = empty.wamp();
    empty.records.push(realm.records[0].clone());
    assert_eq!(read(&mut empty, caller, json!(["#"])), (vec![], None, true));
}

#[test]
fn without_what_was_asked_for_the_answer_is_an_error() {
    let (mut realm, caller) = ten();
    realm.trimmed = 5;
    call(&mut realm, caller, "corsac.history.read", json!(["#", {"after": 4}]), json!({}));
    let told = realm.answer(caller);
    let oldest = EventId::new(6).unwrap();
    assert_eq!(told.outcome, Outcome::Error(ErrorUri::Reason(Reason::HistoryTooOld(oldest))));
    let Payload::Args { args, .. } = told.payload else { panic!("{:?}", told.payload) };
    let args: Value = serde_json::from_slice(&args).unwrap();
    assert!(args[0].as_str().unwrap().contains("no longer kept") && args[1] == 6, "{args}");
    assert_eq!(read(&mut realm, caller, json!(["#", {"after": 5, "limit": 2}])).0, [6, 7]);
    realm.has_no_history = true;
    call(&mut realm, caller, "corsac.history.read", json!(["#"]), json!({}));
    assert_eq!(answered(&mut realm, caller), Err(ErrorUri::Reason(Reason::NoHistory)));
}

#[test]
fn calls_are_answered_one_after_the_other_in_a_bounded_line() {
    let (mut realm, caller) = ten();
    realm.is_reader_slow = true;
    for _ in 0..MAX_LINE {
        call(&mut realm, caller, "corsac.history.read", json!(["#", {"limit": 1}]), json!({}));
    }
    assert_eq!(realm.reads.len(), 1);
    realm.nothing(caller);
    call(&mut realm, caller, "corsac.history.read", json!(["#"]), json!({}));
    assert_eq!(answered(&mut realm, caller), Err(ErrorUri::Reason(Reason::QuotaExceeded)));
    for _ in 0..MAX_LINE {
        realm.page();
        assert!(answered(&mut realm, caller).is_ok());
    }
    // A page for a session that has gone is nobody's, also if somebody else has its place.
    call(&mut realm, caller, "corsac.history.read", json!(["#"]), json!({}));
    realm.lose(caller);
    let other = realm.wamp();
    call(&mut realm, other, "corsac.history.read", json!(["a.x"]), json!({}));
    realm.page();
    realm.nothing(other);
    realm.page();
    assert_eq!(answered(&mut realm, other).unwrap().0[0]["events"].as_array().unwrap().len(), 5);
}
