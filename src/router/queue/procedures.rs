//! The procedures `corsac.queue.*`: their arguments, and their answers.
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::DELAY;
use super::change::{Change, Token, queue_of};
use super::item::{Grant, Settings, Stats};
use super::state::MAX_TAKE;
use crate::model::arguments::{Arguments, integer};
use crate::model::command::{Call, Outcome};
use crate::model::payload::Part;
use crate::model::reason::MustBe;
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
    fn taking(&mut self, key: SessionKey, caller: &Caller, arguments: &Arguments) -> Result<Change, Reason> {
        let queue = queue_of(arguments.text(0, "name")?)?;
        let wait_ms = arguments.number_option(1, "wait_ms")?.unwrap_or(0);
        let max = match arguments.number_option(1, "max")? {
            Some(0) => return Err(Reason::WrongValue("max", MustBe::PositiveNumber)),
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
            self.append_owed(Some(key), Change::Cancel { take });
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
            self.append_owed(None, Change::Return { tokens });
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
        other => other.and_then(integer).map(|claim| Token(claim, 0)).ok_or(Reason::WrongValue("token", MustBe::Token)),
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
        Some(0) => Err(Reason::WrongValue("visibility_ms", MustBe::PositiveNumber)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::command::CancelMode;
    use crate::model::delivery::Answer;
    use crate::model::{ConnectionId, Encoding, ErrorUri, Limits};
    use crate::router::queue::change::is_queue;
    use crate::router::tests::Realm;

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
        assert!(realm.router.queues.callers.is_empty() && realm.router.queues.asked.is_empty());
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
        assert!(realm.router.queues.asked.is_empty());
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
        let before = realm.router.queues.state.clone();
        realm.restart();
        let b = realm.wamp();
        assert_eq!(asked(&mut realm, b, "stats", json!(["other"])).unwrap()["waiting"], 0);
        assert_eq!(realm.router.queues.state.items(), before.items());
        assert_eq!(asked(&mut realm, b, "ack", json!([token])), None);
        realm.advance(1_000);
        let got = take(&mut realm, b, json!(["q", {"max": 9}]));
        let counts: Vec<_> = got.iter().map(|(payload, count, _)| (payload.clone(), *count)).collect();
        assert_eq!(counts, [(json_args(&json!("y")), 2), (json_args(&json!("z")), 1)]);
        realm.advance(4_000);
        let got = take(&mut realm, b, json!(["q", {"max": 9}]));
        assert_eq!((got[2].0.clone(), got[2].1), (json_args(&json!("later")), 1));
    }
}
