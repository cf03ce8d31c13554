//! The history by calls: `wamp.subscription.get_events` (WAMP: Advanced, Event History) and `corsac.history.read`.
//!
//! A session's calls are answered one after the other, each from as many pages as it takes, within a bound of bytes.
use crate::model::reason::MustBe;
use crate::model::timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::model::arguments::Arguments;
use crate::model::outcome::Outcome;
use crate::model::properties::Properties;
use crate::model::publication::Publisher;
use crate::model::query::{MAX_PAGE_RECORDS, Page, Query, ReadTicket};
use crate::model::timestamp::Timestamp;
use crate::model::{Encoding, EventId, Filter, MatchPolicy, Payload, Publication, Reason, Record, SubscriptionId, Topic};
use crate::router::base::effect::ReadForm;
use crate::router::base::key::SessionKey;
use crate::router::base::reads::{Purpose, is_readable};
use crate::router::base::reply::{Caller, Message, Reply};
use crate::router::flow::{answer, append, deliver};
use crate::router::realm::Realm;
use crate::router::session::reading::{Form, HistoryCall};

/// Events that one answer holds where the caller does not say how many.
const DEFAULT_LIMIT: usize = 1_000;

/// Bytes of events that one answer holds, as they are stored; one event may go above it.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Calls of a session that wait for their turn.
pub const MAX_LINE: usize = 64;

/// Where the options stand if they are not named.
const OPTIONS: usize = 1;

/// The part of a query that both procedures have in common: number, direction, and bounds of time.
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

fn read_query(arguments: &Arguments) -> Result<Query, Reason> {
    let filter = filter_of(arguments.text(0, "filter")?, arguments.text_option(OPTIONS, "match")?)?;
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

/// A filter in either spelling, or why it is none.
pub fn filter_of(text: &str, policy: Option<&str>) -> Result<Filter, Reason> {
    let policy = match policy {
        None => None,
        Some("exact") => Some(MatchPolicy::Exact),
        Some("prefix") => Some(MatchPolicy::Prefix),
        Some("wildcard") => Some(MatchPolicy::Wildcard),
        Some(_) => return Err(Reason::WrongValue("match", MustBe::Policy)),
    };
    Filter::from_either(text, policy).map_err(|why| match why {
        Reason::InvalidFilter | Reason::InvalidTopic => Reason::WrongValue("filter", MustBe::Filter),
        why => why,
    })
}

fn answer_payload(call: &HistoryCall, page: &Page) -> Payload {
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

/// The details that its `EVENT` had.
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

/// `wamp.subscription.get_events(subscription, {limit, reverse, topic, from_… after_… before_… until_…})`
pub fn call_get_events(realm: &mut Realm, key: SessionKey, caller: &Caller, arguments: &Arguments) -> Reply {
    let query = events_query(realm, arguments);
    query.map_or_else(Reply::from, |(query, form)| read_for_call(realm, key, caller, query, form))
}

/// `corsac.history.read(filter, {after, before, limit, reverse, match, …})`
pub fn call_read_history(realm: &mut Realm, key: SessionKey, caller: &Caller, arguments: &Arguments) -> Reply {
    let query = read_query(arguments);
    query.map_or_else(Reply::from, |query| read_for_call(realm, key, caller, query, Form::Read))
}

fn events_query(realm: &Realm, arguments: &Arguments) -> Result<(Query, Form), Reason> {
    let subscription = SubscriptionId(arguments.number(0, "subscription")?);
    let filter = realm.broker.filter_of(subscription).ok_or(Reason::NoSuchSubscription)?;
    let mut query = Query { filter: Some(filter.clone()), ..bounded_query(arguments)? };
    if let Some(uri) = arguments.text_option(OPTIONS, "topic")? {
        let topic = Topic::from_either(uri).map_err(|_| Reason::WrongValue("topic", MustBe::Topic))?;
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

fn read_for_call(realm: &mut Realm, key: SessionKey, caller: &Caller, query: Query, form: Form) -> Reply {
    let Some(session) = realm.sessions.at_mut(key) else { return Reply::Later };
    if session.history_calls.len() >= MAX_LINE {
        return Reason::QuotaExceeded.into();
    }
    session.history_calls.push_back(HistoryCall { caller: caller.clone(), query, form, events: Vec::new() });
    continue_calls(realm, key);
    Reply::Later
}

/// Reads for the call at the head of the line, if nothing is being read.
fn continue_calls(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at(key) else { return };
    if session.call_read.is_some() {
        return;
    }
    let Some(call) = session.history_calls.front() else { return };
    let ticket = append::read(realm, key, Purpose::Call, call.query.clone(), ReadForm::Json);
    if let Some(session) = realm.sessions.at_mut(key) {
        session.call_read = ticket;
    }
}

pub fn handle_call_page(realm: &mut Realm, key: SessionKey, ticket: ReadTicket, page: Result<Page, Reason>) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    // Of a line that was given up.
    if session.call_read != Some(ticket) {
        return;
    }
    session.call_read = None;
    if let Some(call) = session.history_calls.pop_front() {
        go_on_with(realm, key, call, page);
    }
    continue_calls(realm, key);
}

/// Adds a page to an answer; sends it, or puts the call back to the head of the line.
fn go_on_with(realm: &mut Realm, key: SessionKey, mut call: HistoryCall, page: Result<Page, Reason>) {
    let page = match page {
        Ok(page) => page,
        Err(reason) => return answer::reply(realm, &call.caller, reason.into()),
    };
    let Some(reader) = call.caller.session.and_then(|key| realm.sessions.at(key)) else { return };
    let (mut count, mut bytes) = (0, 0);
    for record in page.records.iter().filter(|record| is_readable(record)) {
        let publication = record.to_publication().filter(|publication| deliver::admits(reader, publication));
        let Some(publication) = publication else { continue };
        if !call.events.is_empty() {
            call.events.push(b',');
        }
        write_event(&mut call.events, call.form, record, &publication);
        count += 1;
        bytes += record.item.weight_bytes() as usize;
    }
    let is_full = count >= call.query.limit || bytes >= call.query.max_bytes;
    if page.is_end || is_full {
        let payload = answer_payload(&call, &page);
        let caller = call.caller;
        answer::answer(realm, &caller, Message { outcome: Outcome::Result, payload, properties: None });
        return;
    }
    call.query = call.query.behind(&page);
    call.query.limit -= count;
    call.query.max_bytes -= bytes;
    if let Some(session) = realm.sessions.at_mut(key) {
        session.history_calls.push_front(call);
    }
}
