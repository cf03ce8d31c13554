//! The procedures `corsac.queue.*`: their arguments, and their answers.
use crate::model::reason::MustBe;
use crate::router::flow::queues::{name_of, settings_value};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::model::arguments::{Arguments, integer};
use crate::model::command::Call;
use crate::model::record::Kind;
use crate::model::{Publication, Qos, Reason, names};
use crate::router::base::claim::Token;
use crate::router::base::key::SessionKey;
use crate::router::base::reply::{Caller, Reply, without_addresses};
use crate::router::flow::{append, queues};
use crate::router::queue::change::{Change, queue_of};
use crate::router::queue::item::Stats;
use crate::router::queue::state::MAX_TAKE;
use crate::router::realm::Realm;

fn token_of(arguments: &Arguments) -> Result<Token, Reason> {
    match arguments.find(0, "token") {
        Some(Value::String(text)) => text.parse(),
        other => other.and_then(integer).map(|claim| Token(claim, 0)).ok_or(Reason::WrongValue("token", MustBe::Token)),
    }
}

fn nack(arguments: &Arguments) -> Result<Change, Reason> {
    let delay_ms = Some(arguments.number_option(1, "delay_ms")?.unwrap_or(0));
    Ok(Change::Nack { tokens: vec![token_of(arguments)?], delay_ms })
}

fn extension(arguments: &Arguments) -> Result<Change, Reason> {
    Ok(Change::Extend { token: token_of(arguments)?, visibility_ms: visibility(arguments)? })
}

/// A claim that is over when it begins is none.
fn visibility(arguments: &Arguments) -> Result<Option<u64>, Reason> {
    match arguments.number_option(1, "visibility_ms")? {
        Some(0) => Err(Reason::WrongValue("visibility_ms", MustBe::PositiveNumber)),
        visibility_ms => Ok(visibility_ms),
    }
}

/// The item that a call puts, as a publication of its queue.
fn item_of(call: &Call, arguments: &Arguments) -> Result<Publication, Reason> {
    let queue = queue_of(arguments.text(0, "name")?)?;
    let mut properties = without_addresses(call.properties.clone());
    if let Some(properties) = &mut properties {
        // They were about the call: what is put has its encoding with it.
        properties.content_type = None;
        properties.payload_format = None;
    }
    if let Some(delay_ms) = arguments.number_option(2, "delay_ms")? {
        properties.get_or_insert_default().user.push((names::DELAY.into(), delay_ms.to_string().into()));
    }
    let mut publication = Publication::new(queue, call.payload.clone(), Qos::AtLeastOnce);
    publication.properties = properties;
    Ok(publication)
}

fn stats_value(name: &str, stats: &Stats) -> Map<String, Value> {
    let counts = &stats.counts;
    let values = [
        ("name", json!(name)),
        ("known", json!(stats.is_known)),
        ("declared", json!(stats.is_declared)),
        ("ready", json!(stats.ready)),
        ("delayed", json!(stats.delayed)),
        ("claimed", json!(stats.claimed)),
        ("bytes", json!(stats.bytes)),
        ("waiting", json!(stats.waiting)),
        ("subscribers", json!(stats.subscribers)),
        ("put", json!(counts.put)),
        ("taken", json!(counts.taken)),
        ("acknowledged", json!(counts.acknowledged)),
        ("returned", json!(counts.returned)),
        ("dead_lettered", json!(counts.dead_lettered)),
        ("dropped", json!(counts.dropped)),
        ("expired", json!(counts.expired)),
    ];
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), value));
    values.chain(settings_value(&stats.settings)).collect()
}

/// A call of `corsac.queue.<verb>`, but for `corsac.queue.put`.
pub fn call_queue(realm: &mut Realm, key: SessionKey, caller: &Caller, verb: &str, arguments: &Arguments) -> Reply {
    let change = match verb {
        "declare" => declaration(realm, arguments),
        "take" => taking(realm, key, caller, arguments),
        "ack" => token_of(arguments).map(|token| Change::Ack { tokens: vec![token] }),
        "nack" => nack(arguments),
        "extend" => extension(arguments),
        "stats" => return queue_stats(realm, arguments).unwrap_or_else(Reply::from),
        "list" => return queue_list(realm),
        _ => Err(Reason::NoSuchProcedure),
    };
    match change {
        Ok(change) => {
            append::append_change(realm, Some(key), Kind::QUEUE, change.encode(), Some(caller.clone()));
            Reply::Later
        }
        Err(reason) => reason.into(),
    }
}

/// A call of `corsac.queue.put`: `name`, what is put, `{delay_ms}`. Its payload is what is put.
pub fn call_put(realm: &mut Realm, key: SessionKey, caller: &Caller, call: &Call, arguments: &Arguments) -> Reply {
    let publication = item_of(call, arguments).and_then(|item| queues::check_put(realm, &item).map(|()| item));
    match publication {
        Ok(publication) => {
            append::append_put(realm, key, Arc::new(publication), caller.clone());
            Reply::Later
        }
        Err(reason) => reason.into(),
    }
}

fn declaration(realm: &Realm, arguments: &Arguments) -> Result<Change, Reason> {
    let queue = queue_of(arguments.text(0, "name")?)?;
    queues::check_queue(realm, &queue)?;
    let dead_letter = match arguments.text_option(1, "dead_letter")? {
        None => None,
        Some("") => Some(Box::default()),
        Some(name) => Some(queue_of(name)?.as_mqtt().into()),
    };
    // Its own dead letters would only come round again.
    if dead_letter.as_deref() == Some(queue.as_mqtt()) {
        return Err(Reason::WrongValue("dead_letter", MustBe::QueueName));
    }
    let max_deliveries = arguments.number_option(1, "max_deliveries")?.map(u32::try_from).transpose();
    Ok(Change::Declare {
        queue: queue.as_mqtt().into(),
        visibility_ms: visibility(arguments)?,
        max_deliveries: max_deliveries.map_err(|_| Reason::WrongValue("max_deliveries", MustBe::WholeNumber))?,
        dead_letter,
        max_len: arguments.number_option(1, "max_len")?,
    })
}

/// Refuses a wait that would be one too many in line.
fn taking(realm: &mut Realm, key: SessionKey, caller: &Caller, arguments: &Arguments) -> Result<Change, Reason> {
    let queue = queue_of(arguments.text(0, "name")?)?;
    let wait_ms = arguments.number_option(1, "wait_ms")?.unwrap_or(0);
    let max = match arguments.number_option(1, "max")? {
        Some(0) => return Err(Reason::WrongValue("max", MustBe::PositiveNumber)),
        max => max.unwrap_or(1).min(u64::from(MAX_TAKE)) as u32,
    };
    let asked = realm.queues.asked.get(&queue).copied().unwrap_or(0);
    let has_reply_room = realm.calls.has_reply_room(key, caller.reply_bytes(), realm.cx.limits.max_session_queue_bytes);
    if realm.queues.state.waiting(&queue) + asked >= realm.cx.limits.max_queue_takers || !has_reply_room {
        return Err(Reason::QuotaExceeded);
    }
    queues::check_queue(realm, &queue)?;
    let by = queues::note_queue_user(realm, key).ok_or(Reason::ConnectionLost)?;
    realm.calls.hold_reply(key, caller.reply_bytes());
    queues::note_asked(realm, queue.as_mqtt(), true);
    Ok(Change::Take { queue: queue.as_mqtt().into(), max, wait_ms, by: by.0 })
}

fn queue_stats(realm: &Realm, arguments: &Arguments) -> Result<Reply, Reason> {
    let name = arguments.text(0, "name")?;
    let stats = realm.queues.state.stats(&queue_of(name)?);
    Ok(Reply::Now(vec![stats_value(name, &stats).into()]))
}

/// The queues that are there, or have been in the life of this process, each with its sizes and counts.
fn queue_list(realm: &Realm) -> Reply {
    let state = &realm.queues.state;
    let queues = state.names().into_iter().map(|queue| Value::from(stats_value(name_of(queue), &state.stats(queue))));
    Reply::Now(vec![queues.collect()])
}
