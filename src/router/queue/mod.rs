//! Queues: items that one taker each gets, again if it was not done with them (MAPPING.md, Queues).
//!
//! Everything that happens to them is a record in the history ([`change`]), evaluated when it has its place ([`state`]). This file
//! asks for those records, answers who asked, and keeps the bounds of the realm, which are looked at when something is asked for:
//! the same records lead to the same queues whatever the bounds are by then.
//!
//! | | |
//! |---|---|
//! | a queue that nobody declared | is there while it holds something or somebody waits: claims of 30 s, any number of deliveries and items, no dead letters |
//! | name | a topic in either spelling: `jobs/a` and `jobs.a` are the queue `$queue/jobs/a` |
//! | order | by the places of the puts; what returns is older than what was not taken yet, and comes before it |
//! | claim of a call | ends by ack, by nack, or when its visibility is over, wherever the caller is by then |
//! | claim of a connection | ends by PUBACK or with the connection; a PUBACK with an error, or an item that does not fit the client, lets it rest as long as a claim lasts |
//! | token | the id of the record that led to the claim; of its second claim with `.1`, and so on |
//! | delivery count | 1 at first, and raised with each claim; a claim whose answer reached nobody is taken back and does not count |
//! | dead letter | what returns after `max_deliveries` claims: goes to the end of `dead_letter`, whatever its `max_len`, and is counted anew there; without that queue it is dropped and counted |
//! | `max_len` | items in all, claimed ones too; a put beyond it is refused with `corsac.error.quota_exceeded` |
//! | take | one item, or up to `max` (1,000) as long as they have no more than 1 MiB together; waits `wait_ms` for the first, in line; then no items |
//! | lifetime (MQTT 5 message expiry) | the item is gone with it, unless it is claimed and acknowledged |
//! | `corsac-delay`, `delay_ms` | milliseconds before it can be taken |
pub mod change;
pub(super) mod connections;
pub(super) mod item;
mod kept;
mod line;
pub(super) mod procedures;
pub(super) mod state;
mod takers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;

use self::change::{Change, is_queue};
use self::item::{Body, Refused, Settings, Told, weight_of};
use self::state::Queues;
use super::Router;
use super::append::Place;
use super::invocation::Caller;
use super::lifecycle::Due;
use super::own::Reply;
use super::session::SessionKey;
use super::timers::TimerKey;
use crate::model::command::{Acknowledge, PublishOptions};
use crate::model::publication::Properties;
use crate::model::reason::MustBe;
use crate::model::record::Kind;
use crate::model::{ConnectionId, Publication, Reason, Record, SessionId, Topic};

/// The user property that says how long an item rests before it can be taken, in milliseconds.
pub const DELAY: &str = "corsac-delay";

/// What could not be stored and has to be is tried again after this time.
const RETRY_MS: u64 = 1_000;

/// The queues of a realm, and who of this process waits for what of them.
#[derive(Debug, Default)]
pub struct Desk {
    state: Queues,
    /// Calls that wait for items, by the ids of their records.
    callers: BTreeMap<u64, (Caller, SessionId)>,
    /// Calls for items on their way into the history.
    asked: HashMap<Topic, usize, RandomState>,
    timer: Option<(u64, TimerKey)>,
    /// A record of the time is on its way into the history.
    is_ticking: bool,
    /// Changes that could not be stored and have to be.
    owed: VecDeque<Change>,
    retry_at_ms: Option<u64>,
}

impl Router {
    /// A PUBLISH to a queue puts: stored at every QoS, and acknowledged when it is.
    pub(super) fn put_published(
        &mut self,
        key: SessionKey,
        connection: ConnectionId,
        mut publication: Arc<Publication>,
        acknowledge: Acknowledge,
        options: Option<Box<PublishOptions>>,
    ) {
        if let Err(reason) = self.check_put(&publication) {
            return self.acknowledge(key, connection, acknowledge, Err(reason));
        }
        // An item is no value of a topic. Nobody else holds it yet: the gate made it for this command.
        if let Some(publication) = Arc::get_mut(&mut publication) {
            publication.retain = false;
        }
        self.append(Some(key), Some(connection), publication, acknowledge, options);
    }

    /// Refuses an item above the bounds of the realm. What is on its way into the history is not counted: the bounds of that way
    /// bound the excess.
    pub(super) fn check_put(&self, publication: &Publication) -> Result<(), Reason> {
        let (state, limits) = (&self.queues.state, &self.limits);
        delay_of(publication.properties.as_deref())?;
        self.check_queue(&publication.topic)?;
        let bytes = state.bytes() + weight_of(&publication.payload, publication.properties.as_deref());
        let is_full = state.items() >= limits.max_queued || bytes > limits.max_queued_bytes;
        if is_full { Err(Reason::QuotaExceeded) } else { Ok(()) }
    }

    /// Refuses what would begin one queue more than the realm may have.
    fn check_queue(&self, queue: &Topic) -> Result<(), Reason> {
        let is_over = !self.queues.state.has(queue) && self.queues.state.count() >= self.limits.max_queues;
        if is_over { Err(Reason::QuotaExceeded) } else { Ok(()) }
    }

    /// An item has its place.
    pub(super) fn apply_put(&mut self, place: Place, publication: &Publication) -> Result<(), Reason> {
        let delay_ms = delay_of(publication.properties.as_deref()).unwrap_or(0);
        let (topic, expires_at_ms) = (&publication.topic, publication.expires_at_ms);
        let (outcome, told) = self.queues.state.put(place, topic, body_of(publication), delay_ms, expires_at_ms);
        self.tell(told);
        self.set_queue_timer();
        outcome.map_err(|_| Reason::QuotaExceeded)
    }

    /// A change of queues that this process asked for has its place.
    pub(super) fn apply_queue_change(&mut self, place: Place, body: &[u8], from: Option<SessionKey>, caller: Option<Caller>) {
        let Some(change) = Change::decode(body) else { return };
        // The place of a session that has ended may be another's by now.
        let caller = caller.filter(|_| from.is_some());
        let mut answers = caller.clone();
        match &change {
            Change::Take { queue, .. } => {
                self.note_asked(queue, false);
                answers = None;
                if let (Some(caller), Some(session)) = (caller, from.and_then(|key| self.sessions.at(key))) {
                    self.queues.callers.insert(place.id.value(), (caller, session.id));
                }
            }
            Change::Tick => self.queues.is_ticking = false,
            _ => {}
        }
        let (outcome, told) = self.queues.state.apply(place, change);
        if let Some(caller) = answers {
            self.reply(&caller, reply_of(outcome));
        }
        self.tell(told);
        self.set_queue_timer();
    }

    /// A change could not be stored. What somebody asked for is refused; what follows from what has happened is tried again.
    pub(super) fn queue_change_refused(&mut self, body: &[u8], is_asked: bool) {
        match Change::decode(body) {
            Some(Change::Take { queue, .. }) => self.note_asked(&queue, false),
            Some(Change::Tick) => self.queues.is_ticking = false,
            Some(change) if !is_asked => self.queues.owed.push_back(change),
            _ => {}
        }
        self.queues.retry_at_ms = Some(self.now_ms.saturating_add(RETRY_MS));
        self.set_queue_timer();
    }

    /// A record of queues from the life of an earlier process.
    pub(super) fn replay_queue_record(&mut self, record: &Record) {
        let place = Place { id: record.id, time_ms: record.item.time_ms };
        match (record.item.kind, &record.item.topic, &record.item.payload) {
            (Kind::GONE, ..) => drop(self.queues.state.end_all(place)),
            (Kind::QUEUE, Some(queue), payload) => {
                let properties = record.item.properties.as_deref();
                let body = Body { payload: payload.clone(), properties: properties.cloned().map(Arc::new) };
                let delay_ms = delay_of(properties).unwrap_or(0);
                drop(self.queues.state.put(place, queue, body, delay_ms, record.item.expires_at_ms));
            }
            (Kind::QUEUE, None, crate::model::Payload::Bytes(body)) => {
                if let Some(change) = Change::decode(body) {
                    drop(self.queues.state.apply(place, change));
                }
            }
            _ => return,
        }
        self.set_queue_timer();
    }

    /// The process before this one has ended, and this is the place of its end.
    pub(super) fn end_earlier_takers(&mut self, place: Place) {
        let told = self.queues.state.end_all(place);
        self.tell(told);
        self.set_queue_timer();
    }

    /// Something of the queues is due: what that means is decided where the record of the time stands.
    pub(super) fn handle_queues_due(&mut self) {
        self.queues.timer = None;
        if self.queues.retry_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
            self.queues.retry_at_ms = None;
            for change in std::mem::take(&mut self.queues.owed) {
                self.append_owed(None, change);
            }
        }
        let is_due = self.queues.state.next_due_ms().is_some_and(|at_ms| at_ms <= self.now_ms);
        if is_due && !self.queues.is_ticking && self.queues.retry_at_ms.is_none() {
            self.queues.is_ticking = true;
            self.append_change(None, Kind::QUEUE, Change::Tick.encode(), None);
        }
        self.set_queue_timer();
    }

    /// Sends a change on its way that follows from what has happened, behind those that wait to be tried again.
    fn append_owed(&mut self, from: Option<SessionKey>, change: Change) {
        if self.is_pointless(&change) {
            return;
        }
        if self.queues.retry_at_ms.is_some() {
            return self.queues.owed.push_back(change);
        }
        self.append_change(from, Kind::QUEUE, change.encode(), None);
    }

    /// True for what a connection that has ended meanwhile wanted to have.
    fn is_pointless(&self, change: &Change) -> bool {
        let Change::Attach { queue, by, .. } = change else { return false };
        let session = self.sessions.of_connection(ConnectionId(*by)).and_then(|key| self.sessions.at(key));
        !session.is_some_and(|session| session.queues.keys().any(|topic| topic.as_mqtt() == &**queue))
    }

    pub(super) fn set_queue_timer(&mut self) {
        let desk = &self.queues;
        let due_ms = match (desk.retry_at_ms, desk.is_ticking) {
            (Some(at_ms), _) => Some(at_ms),
            // When that has its place there is another look.
            (None, true) => None,
            (None, false) => desk.state.next_due_ms(),
        };
        if desk.timer.map(|(at_ms, _)| at_ms) == due_ms {
            return;
        }
        if let Some((_, timer)) = self.queues.timer.take() {
            self.timers.clear(timer);
        }
        self.queues.timer = due_ms.map(|at_ms| (at_ms, self.timers.set(at_ms, Due::Queues)));
    }

    /// Tells those who waited what has come of it.
    fn tell(&mut self, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Items { take, items } => self.hand_over(take, items),
                Told::Canceled { take } => {
                    if let Some(caller) = self.take_caller(take) {
                        self.reply(&caller, Reason::Canceled.into());
                    }
                }
                Told::Delivery { to, queue, grant } => self.deliver_item(ConnectionId(to), queue, grant),
            }
        }
    }

    /// Counts the calls for items that are on their way into the history.
    fn note_asked(&mut self, queue: &str, is_new: bool) {
        let Ok(queue) = Topic::from_mqtt(queue) else { return };
        let count = self.queues.asked.entry(queue.clone()).or_default();
        *count = if is_new { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.queues.asked.remove(&queue);
        }
    }
}

/// What a record answers.
fn reply_of(outcome: Result<Option<Settings>, Refused>) -> Reply {
    match outcome {
        Ok(None) => Reply::Now(Vec::new()),
        Ok(Some(settings)) => Reply::Now(vec![procedures::settings_value(&settings).into()]),
        Err(Refused::NoSuchToken) => Reason::NoSuchToken.into(),
        Err(Refused::Full) => Reason::QuotaExceeded.into(),
    }
}

/// The item that a publication is.
fn body_of(publication: &Publication) -> Body {
    let properties = publication.properties.as_deref().cloned().map(Arc::new);
    Body { payload: publication.payload.clone(), properties }
}

/// How long an item rests, as its properties say.
fn delay_of(properties: Option<&Properties>) -> Result<u64, Reason> {
    let said = properties.and_then(|properties| properties.user.iter().rev().find(|(name, _)| **name == *DELAY));
    said.map_or(Ok(0), |(_, delay_ms)| delay_ms.parse().map_err(|_| Reason::WrongValue("delay_ms", MustBe::WholeNumber)))
}

/// True for what is put into a queue.
pub(super) fn is_put(publication: &Publication) -> bool {
    is_queue(&publication.topic)
}
