//! The history by calls: `wamp.subscription.get_events` (WAMP: Advanced, Event History) and `corsac.history.read`.
//!
//! A session's calls are answered one after the other, each from as many pages as it takes, within a bound of bytes.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Router;
use super::effect::ReadForm;
use super::invocation::{Caller, Message};
use super::own::Reply;
use super::read::{Purpose, is_visible};
use super::session::SessionKey;
use crate::model::arguments::Arguments;
use crate::model::command::Outcome;
use crate::model::publication::{Properties, Publisher};
use crate::model::query::{MAX_PAGE_RECORDS, Page, Query, ReadTicket};
use crate::model::reason::MustBe;
use crate::model::timestamp::{self, Timestamp};
use crate::model::{Encoding, EventId, Filter, MatchPolicy, Payload, Publication, Reason, Record, SubscriptionId, Topic};

/// Events that one answer holds where the caller does not say how many.
const DEFAULT_LIMIT: usize = 1_000;
/// Bytes of events that one answer holds, as they are stored; one event may go above it.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Calls of a session that wait for their turn.
const MAX_LINE: usize = 64;
/// Where the options stand if they are not named.
const OPTIONS: usize = 1;

/// What an answer looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// Of `corsac.history.read`.
    Read,
    /// Of `wamp.subscription.get_events`.
    Events { subscription: SubscriptionId, by_pattern: bool },
}

/// A call that reads the history.
#[derive(Debug)]
pub struct HistoryCall {
    caller: Caller,
    /// What is still to be read.
    query: Query,
    form: Form,
    /// The events found, as JSON with commas between.
    events: Vec<u8>,
}

impl Router {
    /// `wamp.subscription.get_events(subscription, {limit, reverse, topic, from_… after_… before_… until_…})`
    pub(super) fn call_get_events(&mut self, key: SessionKey, caller: &Caller, arguments: &Arguments) -> Reply {
        let query = self.events_query(arguments);
        query.map_or_else(Reply::from, |(query, form)| self.read_for_call(key, caller, query, form))
    }

    /// `corsac.history.read(filter, {after, before, limit, reverse, match, …})`
    pub(super) fn call_read_history(&mut self, key: SessionKey, caller: &Caller, arguments: &Arguments) -> Reply {
        let is_mqtt = self.sessions.at(key).is_some_and(|session| session.protocol.is_mqtt());
        let query = read_query(arguments, is_mqtt);
        query.map_or_else(Reply::from, |query| self.read_for_call(key, caller, query, Form::Read))
    }

    fn events_query(&self, arguments: &Arguments) -> Result<(Query, Form), Reason> {
        let subscription = SubscriptionId(arguments.number(0, "subscription")?);
        let filter = self.broker.filter_of(subscription).ok_or(Reason::NoSuchSubscription)?;
        let mut query = Query { filter: Some(filter.clone()), ..bounded_query(arguments)? };
        if let Some(uri) = arguments.text_option(OPTIONS, "topic")? {
            let topic = Topic::from_uri(uri).map_err(|_| Reason::WrongValue("topic", MustBe::Topic))?;
            if filter.covers(&topic) {
                query.filter = Some(Filter::Exact(topic));
            } else {
                query.from_ms = Some(u64::MAX);
            }
        }
        let bound = |name: &'static str| {
            let number = arguments.number_option(OPTIONS, name)?;
            number.map(|number| EventId::new(number).ok_or(Reason::WrongValue(name, MustBe::EventId))).transpose()
        };
        let from = bound("from_publication")?.and_then(EventId::previous);
        let until = bound("until_publication")?.and_then(EventId::next);
        query.after = bound("after_publication")?.max(from);
        query.before = [bound("before_publication")?, until].into_iter().flatten().min();
        let by_pattern = !matches!(filter, Filter::Exact(_));
        Ok((query, Form::Events { subscription, by_pattern }))
    }

    fn read_for_call(&mut self, key: SessionKey, caller: &Caller, query: Query, form: Form) -> Reply {
        let Some(session) = self.sessions.at_mut(key) else { return Reply::Later };
        if session.history_calls.len() >= MAX_LINE {
            return Reason::QuotaExceeded.into();
        }
        session.history_calls.push_back(HistoryCall { caller: caller.clone(), query, form, events: Vec::new() });
        self.continue_calls(key);
        Reply::Later
    }

    /// Reads for the call at the head of the line, if nothing is being read.
    fn continue_calls(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at(key) else { return };
        if session.call_read.is_some() {
            return;
        }
        let Some(call) = session.history_calls.front() else { return };
        let ticket = self.read(key, Purpose::Call, call.query.clone(), ReadForm::Json);
        if let Some(session) = self.sessions.at_mut(key) {
            session.call_read = ticket;
        }
    }

    pub(super) fn handle_call_page(&mut self, key: SessionKey, ticket: ReadTicket, page: Result<Page, Reason>) {
        let Some(session) = self.sessions.at_mut(key) else { return };
        // Of a line that was given up.
        if session.call_read != Some(ticket) {
            return;
        }
        session.call_read = None;
        if let Some(call) = session.history_calls.pop_front() {
            self.go_on_with(key, call, page);
        }
        self.continue_calls(key);
    }

    /// Adds a page to an answer; sends it, or puts the call back to the head of the line.
    fn go_on_with(&mut self, key: SessionKey, mut call: HistoryCall, page: Result<Page, Reason>) {
        let page = match page {
            Ok(page) => page,
            Err(reason) => return self.reply(&call.caller, reason.into()),
        };
        let (mut count, mut bytes) = (0, 0);
        for record in page.records.iter().filter(|record| is_visible(record)) {
            let Some(publication) = record.to_publication() else { continue };
            if !call.events.is_empty() {
                call.events.push(b',');
            }
            write_event(&mut call.events, call.form, record, &publication);
            count += 1;
            bytes += record.item.weight_bytes() as usize;
        }
        let is_full = count >= call.query.limit || bytes >= call.query.max_bytes;
        if page.is_end || is_full {
            let payload = answer(&call, &page);
            let caller = call.caller;
            self.answer(&caller, Message { outcome: Outcome::Result, payload, properties: None });
            return;
        }
        call.query = call.query.behind(&page);
        call.query.limit -= count;
        call.query.max_bytes -= bytes;
        if let Some(session) = self.sessions.at_mut(key) {
            session.history_calls.push_front(call);
        }
    }
}

/// What both procedures have in common: how many, in which direction, between which times.
fn bounded_query(arguments: &Arguments) -> Result<Query, Reason> {
    let limit = match arguments.number_option(OPTIONS, "limit")? {
        None => DEFAULT_LIMIT,
        Some(0) => return Err(Reason::WrongValue("limit", MustBe::PositiveNumber)),
        Some(limit) => usize::try_from(limit).unwrap_or(MAX_PAGE_RECORDS).min(MAX_PAGE_RECORDS),
    };
    let time = |name: &'static str| {
        let text = arguments.text_option(OPTIONS, name)?;
        text.map(|text| Timestamp::parse(text).ok_or(Reason::WrongValue(name, MustBe::Time))).transpose()
    };
    let from = [time("from_time")?.map(Timestamp::ceil_ms), time("after_time")?.map(|time| time.ms + 1)];
    let until = [time("before_time")?.map(Timestamp::ceil_ms), time("until_time")?.map(|time| time.ms + 1)];
    Ok(Query {
        from_ms: from.into_iter().flatten().max(),
        until_ms: until.into_iter().flatten().min(),
        limit,
        max_bytes: MAX_ANSWER_BYTES,
        reverse: arguments.flag(OPTIONS, "reverse")?,
        // The realm is whose it is that reads.
        ..Query::new("")
    })
}

fn read_query(arguments: &Arguments, is_mqtt: bool) -> Result<Query, Reason> {
    let filter = filter_of(arguments.text(0, "filter")?, arguments.text_option(OPTIONS, "match")?, is_mqtt)?;
    let mut query = Query { filter: Some(filter), ..bounded_query(arguments)? };
    let bound = |name: &'static str| match arguments.number_option(OPTIONS, name)? {
        // Before the first id there is nothing: from the oldest that is kept.
        None | Some(0) => Ok(None),
        Some(number) => EventId::new(number).map(Some).ok_or(Reason::WrongValue(name, MustBe::EventId)),
    };
    query.after = bound("after")?;
    query.before = bound("before")?;
    Ok(query)
}

/// A filter as WAMP spells it; for MQTT callers one with a `/`, or a lone `+`, as MQTT does.
fn filter_of(text: &str, policy: Option<&str>, is_mqtt: bool) -> Result<Filter, Reason> {
    let policy = match policy {
        None if is_mqtt && (text.contains('/') || text == "+") => return Filter::from_mqtt(text),
        None | Some("exact") => MatchPolicy::Exact,
        Some("prefix") => MatchPolicy::Prefix,
        Some("wildcard") => MatchPolicy::Wildcard,
        Some(_) => return Err(Reason::WrongValue("match", MustBe::Policy)),
    };
    Filter::from_subscribed_uri(text, policy)
}

fn answer(call: &HistoryCall, page: &Page) -> Payload {
    let cursor = page.cursor.map(EventId::value);
    let about = json!({ "cursor": cursor, "is_end": page.is_end });
    let (args, kwargs) = match call.form {
        Form::Events { .. } => ([b"[", call.events.as_slice(), b"]"].concat(), about.to_string().into()),
        Form::Read => {
            let about = about.to_string();
            let rest = about.strip_prefix('{').unwrap_or_default().as_bytes();
            ([b"[{\"events\":[", call.events.as_slice(), b"],", rest, b"]"].concat(), bytes::Bytes::new())
        }
    };
    Payload::Args { encoding: Encoding::Json, args: args.into(), kwargs }
}

fn write_event(out: &mut Vec<u8>, form: Form, record: &Record, publication: &Publication) {
    let time_ms = record.item.time_ms;
    let about = match form {
        Form::Events { subscription, by_pattern } => json!({
            "timestamp": timestamp::format(time_ms),
            "subscription": subscription.0,
            "publication": publication.id.0,
            "details": details(publication, by_pattern),
        }),
        Form::Read => {
            let mut about = json!({
                "id": publication.id.0,
                "time_ms": time_ms,
                "time": timestamp::format(time_ms),
                "topic": publication.topic.as_uri(),
                "retain": publication.retain,
                "qos": publication.qos.bits(),
            });
            if let (Some(about), Some(publisher)) = (about.as_object_mut(), &publication.publisher) {
                disclose(about, publisher);
            }
            about
        }
    };
    let (args, kwargs): (&[u8], &[u8]) = match &publication.payload {
        Payload::Args { encoding: Encoding::Json, args, kwargs } => (args, kwargs),
        _ => (&[], &[]),
    };
    // A value has no text that ends otherwise.
    out.extend_from_slice(about.to_string().strip_suffix('}').unwrap_or_default().as_bytes());
    out.extend_from_slice(b",\"args\":");
    out.extend_from_slice(if args.is_empty() { b"[]" } else { args });
    out.extend_from_slice(b",\"kwargs\":");
    out.extend_from_slice(if kwargs.is_empty() { b"{}" } else { kwargs });
    out.push(b'}');
}

fn disclose(about: &mut Map<String, Value>, publisher: &Publisher) {
    about.insert("publisher".to_owned(), publisher.session.0.into());
    about.insert("publisher_authid".to_owned(), (*publisher.principal.authid).into());
    about.insert("publisher_authrole".to_owned(), (*publisher.principal.authrole).into());
}

/// What `EVENT.Details` said of it.
fn details(publication: &Publication, by_pattern: bool) -> Map<String, Value> {
    let mut details = Map::new();
    if let Some(publisher) = &publication.publisher {
        disclose(&mut details, publisher);
    }
    if by_pattern {
        details.insert("topic".to_owned(), publication.topic.as_uri().into());
    }
    let Some(properties) = publication.properties.as_deref() else { return details };
    if let Some(passthru) = &properties.passthru {
        details.extend(passthru.attributes().map(|(name, text)| (name.to_owned(), text.into())));
    }
    let mut mqtt = mqtt_details(properties);
    if !mqtt.is_empty() || properties.passthru.is_none() {
        mqtt.insert("qos".to_owned(), publication.qos.bits().into());
        mqtt.insert("retain".to_owned(), publication.retain.into());
        details.insert("mqtt".to_owned(), mqtt.into());
    }
    details
}

fn mqtt_details(properties: &Properties) -> Map<String, Value> {
    let mut details = Map::new();
    if !properties.user.is_empty() {
        let pairs: Vec<Value> = properties.user.iter().map(|(name, value)| json!([name, value])).collect();
        details.insert("user_properties".to_owned(), pairs.into());
    }
    let optional = [("content_type", &properties.content_type), ("response_topic", &properties.response_topic)];
    for (name, text) in optional {
        details.extend(text.as_deref().map(|text| (name.to_owned(), text.into())));
    }
    // Binary in JSON (WAMP: Basic, Binary conversion of JSON Strings).
    let correlation_data = properties.correlation_data.as_deref().map(|data| format!("\0{}", STANDARD.encode(data)));
    details.extend(correlation_data.map(|text| ("correlation_data".to_owned(), text.into())));
    details
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::command::{Acknowledge, Audience, Call, PublishOptions, SubscribeEntry, SubscribeOptions};
    use crate::model::delivery::Granted;
    use crate::model::{Command, ConnectionId, ErrorUri, Qos, RequestId};
    use crate::router::tests::{Realm, payload, wamp_call};

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

    /// What the events of `get_events` say.
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
            (
                prefix,
                json!({"after_publication": 3, "from_publication": 3, "until_publication": 6, "before_publication": 6}),
                "34",
            ),
            (prefix, json!({"from_publication": 1, "until_publication": 4_503_599_627_370_495_u64, "limit": 1}), "0"),
            (prefix, json!({"after_publication": 4_503_599_627_370_495_u64}), ""),
            (prefix, json!({"from_time": "1970-01-01T00:20:08Z"}), "89"),
            (prefix, json!({"after_time": "1970-01-01T00:20:08Z"}), "9"),
            (prefix, json!({"before_time": "1970-01-01T00:20:02.000Z"}), "01"),
            (prefix, json!({"until_time": "1970-01-01T01:20:02+01:00"}), "012"),
            (prefix, json!({"from_time": "1970-01-01T00:20:07.9999Z", "until_time": "1970-01-01T00:20:08.0001Z"}), "8"),
            (prefix, json!({"after_time": "1970-01-01T00:20:07.9999Z", "before_time": "1970-01-01T00:20:08.0001Z"}), "8"),
            (prefix, json!({"from_time": "1970-01-01T00:20:08.0001Z"}), "9"),
            (
                prefix,
                json!({"after_publication": 2, "before_time": "1970-01-01T00:20:05Z", "topic": "a.y", "reverse": true}),
                "3",
            ),
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
    fn mqtt_callers_may_spell_filters_as_mqtt_does() {
        let (a_y, all) = (Filter::Exact(Topic::from_mqtt("a/y").unwrap()), Filter::from_mqtt("a/#"));
        assert_eq!(filter_of("a/y", None, true), Ok(a_y.clone()));
        assert_eq!(filter_of("a.y", None, true), Ok(a_y.clone()));
        assert_eq!(filter_of("a.y", None, false), Ok(a_y));
        assert_eq!((filter_of("a/#", None, true), filter_of("a.#", None, false)), (all.clone(), all));
        assert_eq!(
            filter_of("a/y", None, false),
            Topic::from_mqtt("a%2Fy").map(|_| Filter::Exact(Topic::from_uri("a/y").unwrap()))
        );
        assert_eq!(filter_of("a", Some("fuzzy"), false), Err(Reason::WrongValue("match", MustBe::Policy)));
    }

    #[test]
    fn what_is_not_for_everybody_is_for_no_reader() {
        let (mut realm, caller) = ten();
        let audience = Some(Audience { authids: Some(vec!["user".into()]), ..Audience::default() });
        publish_with(
            &mut realm,
            caller,
            "a/x",
            "secret",
            Some(PublishOptions { eligible: audience, ..PublishOptions::default() }),
        );
        publish(&mut realm, caller, "a/x", "seen");
        assert_eq!(read(&mut realm, caller, json!(["a.x", {"after": 9}])).0, [12]);
        assert_eq!(read(&mut realm, caller, json!(["a.x", {"after": 9, "limit": 1}])).0, [12]);
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
}
