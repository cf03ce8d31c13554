//! The realms of this process, by name.
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::event_loop::EventLoop;
use super::history::History;
use crate::model::{ConnectionId, Limits, Reason, Topic};
use crate::net;
use crate::net::outbox::Outbox;
use crate::store::Error;

/// Longest name of a realm, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// All realms; those of the configuration from the start, others on first use where that is allowed.
pub struct Realms {
    limits: Limits,
    creates: bool,
    history: Option<Arc<History>>,
    by_name: Mutex<HashMap<Box<str>, Arc<EventLoop>>>,
    configured: usize,
}

impl Realms {
    /// The realms called `names`, and those that `history` knows. `creates` lets others come into being on first use.
    pub fn start(names: &[String], creates: bool, limits: Limits, history: Option<Arc<History>>) -> Result<Arc<Self>, String> {
        let mut by_name: HashMap<Box<str>, Arc<EventLoop>> = HashMap::new();
        let known = history.as_ref().filter(|_| creates).map(|history| history.realms()).unwrap_or_default();
        for name in names.iter().map(String::as_str).chain(known.iter().map(|name| &**name)) {
            if !by_name.contains_key(name) {
                let realm = EventLoop::start(limits.clone(), seed()?, name, history.as_ref())
                    .map_err(|error| refusal(history.as_ref(), name, &error))?;
                by_name.insert(name.into(), realm);
            }
        }
        Ok(Arc::new(Realms { limits, creates, history, configured: names.len(), by_name: Mutex::new(by_name) }))
    }

    /// Every realm with its name, in the order of names.
    pub fn all(&self) -> Vec<(Box<str>, Arc<EventLoop>)> {
        let mut all: Vec<_> = self.by_name.lock().iter().map(|(name, realm)| (name.clone(), realm.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn open(&self, name: &str) -> Result<Arc<EventLoop>, Reason> {
        let mut by_name = self.by_name.lock();
        if let Some(realm) = by_name.get(name) {
            return Ok(realm.clone());
        }
        let is_legal = name.len() <= MAX_NAME_BYTES && Topic::from_uri(name).is_ok();
        if !self.creates || !is_legal {
            return Err(Reason::NoSuchRealm);
        }
        if by_name.len() >= self.configured + self.limits.max_auto_realms {
            return Err(Reason::QuotaExceeded);
        }
        let realm = EventLoop::start(self.limits.clone(), seed().map_err(|_| Reason::Internal)?, name, self.history.as_ref())
            .map_err(|error| {
                tracing::error!("{}", refusal(self.history.as_ref(), name, &error));
                Reason::StorageFailed
            })?;
        by_name.insert(name.into(), realm.clone());
        Ok(realm)
    }
}

impl net::Realms for Realms {
    fn join(&self, realm: &str, connection: ConnectionId, outbox: Arc<Outbox>) -> Result<Arc<dyn net::Realm>, Reason> {
        let realm = self.open(realm)?;
        realm.join(connection, outbox);
        Ok(realm)
    }
}

/// Why the realm called `name` cannot be put together.
fn refusal(history: Option<&Arc<History>>, name: &str, error: &Error) -> String {
    let why = history.map_or_else(|| error.to_string(), |history| history.refusal(error));
    format!("cannot start realm {name}: {why}")
}

fn seed() -> Result<u64, String> {
    getrandom::u64().map_err(|error| format!("the system gives no random numbers: {error}"))
}
