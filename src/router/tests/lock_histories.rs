//! Random histories of locks: what is told and what is recorded must be what one order of events explains.
use crate::router::Router;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::Realm;
use super::locks::{acquire_of, call};
use crate::model::command::{Acknowledge, Condition, PublishOptions};
use crate::model::outcome::Outcome;
use crate::model::record::{Flags, Kind};
use crate::model::{
    Command, ConnectionId, Delivery, ErrorUri, EventId, Limits, Payload, Publication, PublicationId, Qos, Reason, Record,
    RequestId, SessionId, Topic,
};
use crate::router::base::context::RETRY_MS;
use crate::router::lock::record::LockChange;
use crate::router::matcher::tests::Chance;

/// Names of locks, and the topics of these names.
const NAMES: [&str; 2] = ["a", "b"];

/// Where locks stand that publications make, and those of the same names that procedures make.
const TOPICS: [&str; 4] = ["a", "b", "$lock/a", "$lock/b"];

/// The requests of a client and their answers.
#[derive(Default)]
struct Client {
    connection: Option<ConnectionId>,
    /// By request: the number of the lock's request, or `None` for other calls.
    asked: BTreeMap<u64, (usize, bool)>,
    /// Topic and token.
    tokens: Vec<(usize, u64)>,
    is_mqtt: bool,
}

/// A topic, as the records so far leave it.
#[derive(Default)]
struct Seen {
    has_value: bool,
    /// Session and token.
    holder: Option<(SessionId, u64)>,
    /// The time of the holder may be over.
    is_due: bool,
}

struct History {
    realm: Realm,
    chance: Chance,
    clients: Vec<Client>,
    requests: u64,
    /// Every token that was told: topic, token, request.
    told: Vec<(usize, u64, u64)>,
    /// Sessions whose connection was lost, and the last record before that happened first.
    lost: BTreeMap<SessionId, u64>,
    has_refused: bool,
    /// Whether the disk may refuse.
    can_refuse: bool,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut realm = Realm::with_limits(Limits { max_waiting: 4, ..Limits::default() });
        realm.is_disk_slow = true;
        let clients = (0..4).map(|number| Client { is_mqtt: number == 3, ..Client::default() }).collect();
        History {
            realm,
            chance: Chance(seed * 7_919 + 1),
            clients,
            requests: 0,
            told: Vec::new(),
            lost: BTreeMap::new(),
            has_refused: false,
            can_refuse: seed.is_multiple_of(2),
        }
    }

    fn step(&mut self) {
        let (who, topic) = (self.chance.below(4), self.chance.below(2));
        if self.clients[who].connection.is_none() {
            let connection = if self.clients[who].is_mqtt { self.realm.persistent("m") } else { self.realm.wamp() };
            self.clients[who].connection = Some(connection);
        }
        match self.chance.below(16) {
            0..=3 => self.acquire(who, topic),
            4 => self.publish(who, topic, Some(Value::Null)),
            5 => self.publish(who, topic, None),
            6 => self.change(who, "corsac.lock.release"),
            7 => self.change(who, "corsac.lock.renew"),
            8 if self.chance.below(3) == 0 => self.lose(who),
            9 => self.realm.advance(self.chance.below(30) as u64 * 1_000),
            10 if self.can_refuse && self.realm.on_their_way() > 0 && self.chance.below(4) == 0 => {
                self.has_refused = true;
                self.realm.refuse_append(Reason::NoSpace);
            }
            _ if self.realm.on_their_way() > 0 => self.realm.append(),
            _ => {}
        }
        self.listen();
    }

    fn acquire(&mut self, who: usize, topic: usize) {
        let Some(connection) = self.clients[who].connection.filter(|_| !self.clients[who].is_mqtt) else {
            return self.publish(who, topic, Some(Value::Null));
        };
        self.requests += 1;
        // By its last digits the record tells which request it is of.
        let seconds = if self.chance.below(2) == 0 { 1 + self.chance.below(40) as u64 } else { 1_000_000 };
        let mut options = json!({ "ttl_ms": seconds * 1_000 + self.requests });
        if self.chance.below(2) == 0 {
            options["wait_ms"] = (self.chance.below(3) * 10_000).into();
        }
        self.clients[who].asked.insert(self.requests, (NAMES.len() + topic, true));
        self.realm.call_with(connection, acquire_of(NAMES[topic], self.requests, &options));
    }

    /// A retained publication: of a lock in line, or of whatever disturbs.
    fn publish(&mut self, who: usize, topic: usize, when: Option<Value>) {
        let Some(connection) = self.clients[who].connection else { return };
        self.requests += 1;
        let name = Topic::from_mqtt(TOPICS[topic]).unwrap();
        let is_clear = when.is_none() && self.chance.below(3) > 0;
        let payload = if is_clear { Payload::empty() } else { Payload::Bytes(self.requests.to_string().into()) };
        let publication = Publication { retain: true, ..Publication::new(name, payload, Qos::AtLeastOnce) };
        let condition = Condition { when: when.clone(), watch: true, will: Some(Value::Null), ..Condition::default() };
        let options =
            when.map(|_| Box::new(PublishOptions { condition: Some(Box::new(condition)), ..PublishOptions::default() }));
        let acknowledge = if self.clients[who].is_mqtt {
            Acknowledge::AtLeastOnce(crate::router::tests::packet(1 + (self.requests % 1_000) as u16))
        } else {
            Acknowledge::Request(RequestId(self.requests))
        };
        self.clients[who].asked.insert(self.requests, (topic, options.is_some()));
        self.realm.send(connection, Command::Publish { publication: Arc::new(publication), acknowledge, options });
    }

    /// Release or renewal, with a token that was told at some time, or one that never was.
    fn change(&mut self, who: usize, procedure: &str) {
        let Some(connection) = self.clients[who].connection.filter(|_| !self.clients[who].is_mqtt) else { return };
        self.requests += 1;
        let known = self.clients[who].tokens.last().copied();
        let (topic, token) = known.filter(|_| self.chance.below(5) > 0).unwrap_or((0, 1 + self.chance.below(50) as u64));
        let list =
            vec![NAMES[topic % NAMES.len()].into(), token.into(), json!({ "ttl_ms": 1_000 + self.chance.below(40) * 1_000 })];
        call(&mut self.realm, connection, self.requests, procedure, list);
    }

    fn lose(&mut self, who: usize) {
        if let Some(connection) = self.clients[who].connection.take() {
            let key = self.realm.router.realm.sessions.of_connection(connection);
            let session = key.and_then(|key| self.realm.router.realm.sessions.at(key)).map(|session| session.id);
            self.lost.entry(session.unwrap()).or_insert(self.realm.records.len() as u64);
            self.realm.lose(connection);
            self.clients[who].tokens.clear();
        }
    }

    /// Takes in the deliveries to everybody.
    fn listen(&mut self) {
        for client in &mut self.clients {
            let Some(connection) = client.connection else { continue };
            for delivery in self.realm.inbox(connection) {
                let (request, token) = match delivery {
                    Delivery::Published(request, Ok(PublicationId(id))) => (request.0, id),
                    Delivery::Answer(answer) => {
                        assert_ne!(answer.outcome, Outcome::Error(ErrorUri::Reason(Reason::Internal)));
                        let Payload::Args { args, .. } = &answer.payload else { continue };
                        let list: Vec<Value> = serde_json::from_slice(args).unwrap();
                        match list.first().filter(|value| value.get("ttl_ms").is_none()).and_then(|value| value["token"].as_u64())
                        {
                            Some(token) => (answer.request.0, token),
                            None => continue,
                        }
                    }
                    _ => continue,
                };
                if let Some((topic, true)) = client.asked.remove(&request) {
                    client.tokens.push((topic, token));
                    self.told.push((topic, token, request));
                }
            }
        }
    }

    /// Nobody is left, and nothing is left of them.
    fn end(&mut self) {
        for who in 0..self.clients.len() {
            self.lose(who);
        }
        for _ in 0..20 {
            while self.realm.on_their_way() > 0 {
                self.realm.append();
            }
            self.realm.advance(10 * RETRY_MS);
        }
        let conditions = &self.realm.router.realm.locks;
        assert!(
            conditions.topics.is_empty() && conditions.sessions.is_empty() && conditions.unrecorded.is_empty(),
            "{conditions:?}"
        );
    }

    /// Judges the records alone: each grant finds its topic free, in the order in which it was asked for.
    fn check_log(&self) {
        let mut topics: BTreeMap<&str, Seen> = BTreeMap::new();
        let mut granted: Vec<(&str, u64)> = Vec::new();
        let mut released = BTreeSet::new();
        for record in &self.realm.records {
            let item = &record.item;
            let Some(topic) = item.topic.as_ref().map(Topic::as_mqtt) else {
                let Payload::Bytes(body) = &item.payload else { continue };
                match LockChange::decode(body) {
                    Some(LockChange::Release { token, .. }) => drop(released.insert(token)),
                    Some(LockChange::Due { topic }) => {
                        let name = TOPICS.iter().find(|name| **name == topic).unwrap();
                        topics.entry(name).or_default().is_due = true;
                    }
                    _ => {}
                }
                continue;
            };
            let seen = topics.entry(topic).or_default();
            let by = item.origin.as_ref().map(|origin| origin.session);
            if item.flags.has(Flags::CONDITIONAL) {
                assert!(!seen.has_value, "granted while held: {record:?}");
                granted.push((topic, record.id.value()));
                seen.holder = by.map(|session| (session, record.id.value()));
                seen.is_due = false;
            } else if by.is_none() {
                // The end of a holder changes nobody else's value, and has a reason.
                let (session, token) = seen.holder.take().expect("nobody's end");
                let has_reason = released.contains(&token)
                    || seen.is_due
                    || self.lost.get(&session).is_some_and(|known| *known < record.id.value())
                    || self.has_refused;
                assert!(has_reason, "ended without a reason: {record:?}");
            } else if seen.holder.is_some_and(|(session, _)| Some(session) != by) || item.payload.is_empty() {
                seen.holder = None;
            }
            seen.has_value = !item.payload.is_empty();
        }
        let asked: BTreeMap<u64, EventId> = self.realm.records.iter().filter_map(asked).collect();
        for (topic, token, _) in &self.told {
            assert!(granted.contains(&(TOPICS[*topic], *token)), "told, but not granted: {token}");
        }
        for topic in 0..TOPICS.len() {
            let told = || self.told.iter().filter(|told| told.0 == topic);
            assert!(told().is_sorted_by(|a, b| a.1 < b.1), "tokens do not grow: {:?}", self.told);
            let asked: Vec<_> = told().filter_map(|told| asked.get(&told.2)).collect();
            assert!(asked.is_sorted(), "not first come, first served: {asked:?}");
        }
    }

    /// Another router that reads the records knows the same values and holders, and ends every one of them.
    fn check_replay(&self) {
        let now_ms = self.realm.now_ms;
        let mut realm = Realm::restarted(self.realm.records.clone(), now_ms);
        for name in TOPICS {
            let topic = Topic::from_mqtt(name).unwrap();
            let value =
                |router: &Router| router.realm.retained.find(&topic, now_ms).map(|value| (value.id, value.payload.clone()));
            assert_eq!(value(&realm.router), value(&self.realm.router));
            let holder = |router: &Router| {
                let holder = router.realm.locks.topics.get(&topic)?.holder.as_ref()?;
                Some((holder.token, holder.session, holder.leaving.is_some()))
            };
            match (holder(&realm.router), holder(&self.realm.router)) {
                // The holder is leaving because the disk has refused the record of its grant.
                (None, Some((_, _, true))) => {}
                (replayed, live) => assert_eq!(replayed.map(|(token, ..)| token), live.map(|(token, ..)| token), "{name}"),
            }
        }
        realm.router.handle_gone(EventId::LAST, now_ms);
        realm.advance(0);
        assert!(realm.router.realm.locks.topics.is_empty());
        for name in TOPICS {
            let topic = Topic::from_mqtt(name).unwrap();
            let is_held = self
                .realm
                .router
                .realm
                .locks
                .topics
                .get(&topic)
                .is_some_and(|cell| cell.holder.as_ref().is_some_and(|holder| holder.leaving.is_none()));
            assert!(!is_held || realm.router.realm.retained.find(&topic, now_ms).is_none());
        }
    }
}

/// The request that a record is of, and its place.
fn asked(record: &Record) -> Option<(u64, EventId)> {
    let Payload::Bytes(body) = &record.item.payload else { return None };
    match LockChange::decode(body).filter(|_| record.item.kind == Kind::LOCK)? {
        LockChange::Ask { ttl_ms: Some(ttl_ms), .. } => Some((ttl_ms % 1_000, record.id)),
        _ => None,
    }
}

/// The world of one seed, for its trace.
pub fn play(seed: u64, prepare: &dyn Fn(&mut Realm)) -> u32 {
    let mut history = History::new(seed);
    prepare(&mut history.realm);
    (0..150).for_each(|_| history.step());
    history.end();
    history.realm.trace.hash()
}

#[test]
fn every_history_of_locks_has_one_order() {
    let (mut grants, mut most_waiting) = (0, 0);
    for seed in 0..400 {
        let mut history = History::new(seed);
        for step in 0..250 {
            history.step();
            let lines = history.realm.router.realm.locks.topics.values().map(|cell| cell.line.len());
            most_waiting = most_waiting.max(lines.max().unwrap_or_default());
            if step % 50 == 49 {
                history.check_replay();
            }
        }
        history.end();
        history.listen();
        history.check_log();
        history.check_replay();
        grants += history.told.len();
    }
    assert!(grants > 1_500 && most_waiting >= 3, "{grants} {most_waiting}");
}
