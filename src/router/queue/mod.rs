//! Queues: items that one taker each gets, again if it was not done with them (MAPPING.md, Queues).
//!
//! Everything that happens to them is a record in the history ([`change`]), evaluated when it has its place ([`state`]). This
//! file asks for those records, answers the callers, and keeps the bounds of the realm. The bounds are looked at when something
//! is asked for, so the same records lead to the same queues whatever the bounds are by then.
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
mod changed;
pub mod item;
mod kept;
mod line;
mod past;
pub mod state;
mod takers;
#[cfg(test)]
mod tests;

use crate::model::RequestId;
use crate::router::base::key::SessionKey;
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::model::{Publication, Topic};
use crate::router::base::reply::Caller;
use crate::router::base::timers::TimerKey;
use crate::router::queue::change::{Change, is_queue};
use crate::router::queue::state::QueueState;

/// The queues of a realm, and who of this process waits for what of them.
#[derive(Debug, Default)]
pub struct Queues {
    pub state: QueueState,
    /// Calls that wait for items, by the ids of their records.
    callers: BTreeMap<u64, Caller>,
    /// The same calls by who made them, for CANCEL.
    takes: HashMap<(SessionKey, RequestId), u64, FixedState>,
    /// Calls for items on their way into the history.
    pub asked: HashMap<Topic, usize, RandomState>,
    pub timer: Option<(u64, TimerKey)>,
    /// A record of the time is on its way into the history.
    pub is_ticking: bool,
    /// Changes that could not be stored and have to be.
    pub owed: VecDeque<Change>,
    pub retry_at_ms: Option<u64>,
}

impl Queues {
    /// A call waits for items under the id of its record.
    pub fn add_caller(&mut self, take: u64, caller: Caller) {
        self.takes.extend(name_of(&caller).map(|name| (name, take)));
        self.callers.insert(take, caller);
    }

    /// The caller waits no longer.
    pub fn remove_caller(&mut self, take: u64) -> Option<Caller> {
        let caller = self.callers.remove(&take)?;
        if let Some(name) = name_of(&caller) {
            self.takes.remove(&name);
        }
        Some(caller)
    }

    /// The record under which a call of a session waits.
    pub fn take_of(&self, session: SessionKey, request: RequestId) -> Option<u64> {
        self.takes.get(&(session, request)).copied()
    }

    /// True if no call waits, and none is on its way.
    #[cfg(test)]
    pub fn has_no_callers(&self) -> bool {
        self.callers.is_empty() && self.takes.is_empty() && self.asked.is_empty()
    }
}

/// The name by which CANCEL finds a call.
fn name_of(caller: &Caller) -> Option<(SessionKey, RequestId)> {
    caller.session.zip(caller.request())
}

/// True for what is put into a queue.
pub fn is_put(publication: &Publication) -> bool {
    is_queue(&publication.topic)
}
