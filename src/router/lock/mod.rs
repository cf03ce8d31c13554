//! Topics that somebody holds or waits for, and what each session has of them.
pub mod holder;
pub mod record;
pub mod request;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::{FixedState, RandomState};
use serde_json::Value;

use crate::model::record::Ticket;
use crate::model::{PacketId, Payload, Publication, RequestId, SessionId, Topic, pattern};
use crate::router::base::key::SessionKey;
use crate::router::base::timers::TimerKey;
use crate::router::lock::holder::{Ends, Holder};
use crate::router::lock::request::Request;

/// Reads what a publication says as JSON; `None` for what cannot be read so, or is too long to be compared.
pub type ReadValue = fn(&Publication) -> Option<Value>;

/// Longest pattern and will, in bytes of JSON; longer values of topics fit no pattern, but for being there.
pub const MAX_VALUE_BYTES: usize = 4 * 1024;

/// Reads JSON and nothing else.
pub fn read_json(publication: &Publication) -> Option<Value> {
    match &publication.payload {
        Payload::Bytes(bytes) if bytes.len() <= MAX_VALUE_BYTES => serde_json::from_slice(bytes).ok(),
        _ => None,
    }
}

/// All conditions and locks of a realm.
#[derive(Debug)]
pub struct Conditions {
    /// The time of the last record, by which everything here is judged, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    pub topics: HashMap<Topic, LockedTopic, RandomState>,
    pub sessions: HashMap<SessionKey, SessionLocks, FixedState>,
    /// Grants on record whose publication has not come.
    pub recorded: HashMap<Topic, (SessionId, Value), RandomState>,
    /// Grants on their way whose record the disk has refused.
    pub unrecorded: BTreeSet<Topic>,
    /// Grants on record whose publication the disk has refused: the next one on the topic must not be taken for theirs.
    pub orphaned: BTreeSet<Topic>,
    /// While records are read: what has ended since.
    pub ends: Ends,
    pub requests: u64,
    pub read: ReadValue,
}

impl Default for Conditions {
    fn default() -> Self {
        let (topics, sessions, recorded, unrecorded) = Default::default();
        let (orphaned, ends) = Default::default();
        Conditions { time_ms: 0, topics, sessions, recorded, unrecorded, orphaned, ends, requests: 0, read: read_json }
    }
}

impl Conditions {
    /// True if somebody holds `topic` or waits for it.
    pub fn has(&self, topic: &Topic) -> bool {
        self.topics.contains_key(topic)
    }
}

/// A topic that somebody holds or waits for.
#[derive(Debug, Default)]
pub struct LockedTopic {
    /// The holder, whose end gives it another value.
    pub holder: Option<Holder>,
    /// The requests that wait, in the order of ids.
    pub line: VecDeque<Box<Request>>,
    /// Nobody in the line can be judged before this has its place.
    pub blocked_by: Option<Ticket>,
    /// When to look again, and what reminds of it.
    pub timer: Option<(u64, TimerKey)>,
    /// To look again is on its way into the history.
    pub is_due_asked: bool,
    /// When to try again what the disk refused.
    pub retry_ms: Option<u64>,
}

/// The topics that a session waits for and holds.
#[derive(Debug, Default)]
pub struct SessionLocks {
    pub waiting: BTreeMap<Topic, usize>,
    pub requests: usize,
    pub bytes: usize,
    pub calls: HashMap<RequestId, Topic, FixedState>,
    pub packets: BTreeMap<PacketId, Topic>,
    pub held: BTreeSet<Topic>,
}

/// The standing of a request.
pub enum Judgement {
    Fits,
    Unfit,
    /// The judgement depends on a change that has no place yet.
    Blocked(Ticket),
}

/// The value of a topic, read when it must be.
pub struct Reading {
    pub publication: Option<Arc<Publication>>,
    pub value: OnceCell<Option<Value>>,
    pub read: ReadValue,
}

impl Reading {
    pub fn of(publication: Option<Arc<Publication>>, read: ReadValue) -> Self {
        Reading { publication, value: OnceCell::new(), read }
    }

    pub fn fits(&self, when: &Value) -> bool {
        match &self.publication {
            None => pattern::fits_state(when, None),
            Some(_) if when.is_null() => false,
            Some(publication) => {
                let value = self.value.get_or_init(|| (self.read)(publication));
                value.as_ref().is_some_and(|value| pattern::fits_state(when, Some(value)))
            }
        }
    }
}

impl SessionLocks {
    pub fn enter(&mut self, request: &Request) {
        let topic = &request.publication.topic;
        self.requests += 1;
        self.bytes += request.weight;
        *self.waiting.entry(topic.clone()).or_default() += 1;
        self.calls.extend(request.call().map(|id| (id, topic.clone())));
        self.packets.extend(request.packet.map(|id| (id, topic.clone())));
    }

    pub fn leave(&mut self, request: &Request) {
        let topic = &request.publication.topic;
        self.requests = self.requests.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(request.weight);
        if let Some(count) = self.waiting.get_mut(topic) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(topic);
            }
        }
        if let Some(id) = request.call() {
            self.calls.remove(&id);
        }
        if let Some(id) = request.packet {
            self.packets.remove(&id);
        }
    }
}
