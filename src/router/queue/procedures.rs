//! The procedures `corsac.queue.*`: their arguments, and their answers.
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::DELAY;
use super::change::{Change, Token, queue_of};
use super::item::{Grant, Settings, Stats};
use super::state::MAX_TAKE;
use crate::model::arguments::Arguments;
use crate::model::command::{Call, Outcome};
use crate::model::payload::Part;
use crate::model::record::Kind;
use crate::model::{Payload, Publication, Qos, Reason, RequestId, Topic};
use crate::router::Router;
use crate::router::invocation::{Caller, Message, without_addresses};
use crate::router::own::Reply;
use crate::router::session::SessionKey;

/// The procedure whose second argument is an item, in the encoding in which it came.
pub const PUT: &str = "corsac.queue.put";

impl Router {
    /// A call of `corsac.queue.<verb>`, but for [`PUT`].
    pub(in crate::router) fn call_queue(&mut self, key: SessionKey, caller: &Caller, verb: &str, arguments: &Arguments) -> Reply {
        let change = match verb {
            "declare" => self.declaration(arguments),
            "take" => self.taking(key, caller, arguments),
            "ack" => token(arguments).map(|token| Change::Ack { tokens: vec![token] }),
            "nack" => nack(arguments),
            "extend" => extension(arguments),
            "stats" => return self.queue_stats(arguments).unwrap_or_else(Reply::from),
            _ => Err(Reason::NoSuchProcedure),
        };
        match change {
            Ok(change) => {
                self.append_change(Some(key), Kind::QUEUE, change.encode(), Some(caller.clone()));
                Reply::Later
            }
            Err(reason) => reason.into(),
        }
    }

    /// A call of [`PUT`]: `name`, what is put, `{delay_ms}`. Its payload is what is put.
    pub(in crate::router) fn call_put(&mut self, key: SessionKey, caller: &Caller, call: &Call, arguments: &Arguments) -> Reply {
        let publication = item_of(call, arguments).and_then(|item| self.check_put(&item).map(|()| item));
        match publication {
            Ok(publication) => {
                self.append_put(key, Arc::new(publication), caller.clone());
                Reply::Later
            }
            Err(reason) => reason.into(),
        }
    }

    fn declaration(&self, arguments: &Arguments) -> Result<Change, Reason> {
        let queue = queue_of(arguments.text(0, "name")?)?;
        self.check_queue(&queue)?;
        let dead_letter = match arguments.text_option(1, "dead_letter")? {
            None => None,
            Some("") => Some(Box::default()),
            Some(name) => Some(queue_of(name)?.as_mqtt().into()),
        };
        // Its own dead letters would only come round again.
        if dead_letter.as_deref() == Some(queue.as_mqtt()) {
            return Err(Reason::InvalidArgument);
        }
        let max_deliveries = arguments.number_option(1, "max_deliveries")?.map(u32::try_from).transpose();
        Ok(Change::Declare {
            queue: queue.as_mqtt().into(),
            visibility_ms: visibility(arguments)?,
            max_deliveries: max_deliveries.map_err(|_| Reason::InvalidArgument)?,
            dead_letter,
            max_len: arguments.number_option(1, "max_len")?,
        })
    }

    /// Refuses a wait that would be one too many in line.
    fn taking(&mut self, key: SessionKey, caller: &Caller, arguments: &Arguments) -> Result<Change, Reason> {
        let queue = queue_of(arguments.text(0, "name")?)?;
        let wait_ms = arguments.number_option(1, "wait_ms")?.unwrap_or(0);
        let max = match arguments.number_option(1, "max")? {
            Some(0) => return Err(Reason::InvalidArgument),
            max => max.unwrap_or(1).min(u64::from(MAX_TAKE)) as u32,
        };
        let asked = self.queues.asked.get(&queue).copied().unwrap_or(0);
        let has_reply_room = self.sessions.at(key).is_some_and(|session| {
            session.reply_bytes.saturating_add(caller.reply_bytes()) <= self.limits.max_session_queue_bytes
        });
        if self.queues.state.waiting(&queue) + asked >= self.limits.max_queue_takers || !has_reply_room {
            return Err(Reason::QuotaExceeded);
        }
        self.check_queue(&queue)?;
        let by = self.note_queue_user(key).ok_or(Reason::ConnectionLost)?;
        if let Some(session) = self.sessions.at_mut(key) {
            session.reply_bytes += caller.reply_bytes();
        }
        self.note_asked(queue.as_mqtt(), true);
        Ok(Change::Take { queue: queue.as_mqtt().into(), max, wait_ms, by: by.0 })
    }

    fn queue_stats(&self, arguments: &Arguments) -> Result<Reply, Reason> {
        let name = arguments.text(0, "name")?;
        let stats = self.queues.state.stats(&queue_of(name)?);
        Ok(Reply::Now(vec![stats_value(name, &stats).into()]))
    }

    /// CANCEL of a call that waits for items.
    pub(in crate::router) fn cancel_take(&mut self, key: SessionKey, request: RequestId) {
        let is_it = |caller: &Caller| caller.session == Some(key) && caller.request() == Some(request);
        let take = self.queues.callers.iter().find(|(_, (caller, _))| is_it(caller)).map(|(take, _)| *take);
        if let Some(take) = take {
            self.append_owed(Change::Cancel { take });
        }
    }

    /// Gives a call what it has taken; what cannot be given returns.
    pub(super) fn hand_over(&mut self, take: u64, items: Vec<Grant>) {
        let tokens = items.iter().map(|item| item.token).collect::<Vec<_>>();
        let parts: Arc<[Part]> = items.into_iter().map(part_of).collect();
        let is_handed_over = self.take_caller(take).is_some_and(|caller| {
            self.answer(&caller, Message { outcome: Outcome::Result, payload: Payload::List(parts), properties: None })
        });
        if !is_handed_over && !tokens.is_empty() {
            self.append_owed(Change::Return { tokens });
        }
    }

    /// Who waits by this record, if it is still there; it waits no longer.
    pub(super) fn take_caller(&mut self, take: u64) -> Option<Caller> {
        let (caller, id) = self.queues.callers.remove(&take)?;
        let session = caller.session.and_then(|key| self.sessions.at_mut(key)).filter(|session| session.id == id)?;
        session.reply_bytes = session.reply_bytes.saturating_sub(caller.reply_bytes());
        Some(caller)
    }
}

fn token(arguments: &Arguments) -> Result<Token, Reason> {
    match arguments.find(0, "token") {
        Some(Value::String(text)) => text.parse(),
        Some(Value::Number(number)) => number.as_u64().map(|claim| Token(claim, 0)).ok_or(Reason::InvalidArgument),
        _ => Err(Reason::InvalidArgument),
    }
}

fn nack(arguments: &Arguments) -> Result<Change, Reason> {
    let delay_ms = Some(arguments.number_option(1, "delay_ms")?.unwrap_or(0));
    Ok(Change::Nack { tokens: vec![token(arguments)?], delay_ms })
}

fn extension(arguments: &Arguments) -> Result<Change, Reason> {
    Ok(Change::Extend { token: token(arguments)?, visibility_ms: visibility(arguments)? })
}

/// A claim that is over when it begins is none.
fn visibility(arguments: &Arguments) -> Result<Option<u64>, Reason> {
    match arguments.number_option(1, "visibility_ms")? {
        Some(0) => Err(Reason::InvalidArgument),
        visibility_ms => Ok(visibility_ms),
    }
}

/// What a call puts, as a publication of its queue.
fn item_of(call: &Call, arguments: &Arguments) -> Result<Publication, Reason> {
    let queue = queue_of(arguments.text(0, "name")?)?;
    let mut properties = without_addresses(call.properties.clone());
    if let Some(properties) = &mut properties {
        // They were about the call: what is put has its encoding with it.
        properties.content_type = None;
        properties.payload_format = None;
    }
    if let Some(delay_ms) = arguments.number_option(2, "delay_ms")? {
        properties.get_or_insert_default().user.push((DELAY.into(), delay_ms.to_string().into()));
    }
    let mut publication = Publication::new(queue, call.payload.clone(), Qos::AtLeastOnce);
    publication.properties = properties;
    Ok(publication)
}

/// An item as a call gets it.
fn part_of(grant: Grant) -> Part {
    let Grant { token, id, delivery_count, body } = grant;
    let head = [("id", json!(id)), ("token", json!(token.to_string())), ("delivery_count", json!(delivery_count))];
    let head = head.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Part { head, payload: body.payload, properties: body.properties }
}

/// The settings of a queue as a call is told them.
pub fn settings_value(settings: &Settings) -> Map<String, Value> {
    let Settings { visibility_ms, max_deliveries, dead_letter, max_len } = settings;
    let unless_zero = |number: u64| if number > 0 { json!(number) } else { Value::Null };
    let values = [
        ("visibility_ms", json!(visibility_ms)),
        ("max_deliveries", unless_zero(u64::from(*max_deliveries))),
        ("dead_letter", dead_letter.as_ref().map_or(Value::Null, |queue| json!(name_of(queue)))),
        ("max_len", unless_zero(*max_len)),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn stats_value(name: &str, stats: &Stats) -> Map<String, Value> {
    let counts = &stats.counts;
    let values = [
        ("name", json!(name)),
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

/// The name of a queue, in WAMP's spelling.
fn name_of(queue: &Topic) -> &str {
    queue.as_uri().strip_prefix("$queue.").unwrap_or_default()
}
