//! Whose end gives a topic another value.
use serde_json::Value;

use crate::model::{EventId, SessionId};
use crate::router::base::key::SessionKey;
use crate::router::base::reply::Caller;

/// Whose end gives a topic another value.
#[derive(Debug)]
pub struct Holder {
    /// `None` for those of an earlier process.
    pub key: Option<SessionKey>,
    pub session: SessionId,
    /// The id of the grant.
    pub token: EventId,
    pub will: Value,
    /// When the grant ends by itself, in the time of records.
    pub deadline_ms: Option<u64>,
    pub leaving: Option<Leaving>,
}

/// A holder that is about to end.
#[derive(Debug)]
pub struct Leaving {
    /// What the topic gets.
    pub value: Value,
    /// Who asked for it.
    pub asker: Option<Caller>,
    pub is_on_its_way: bool,
}

impl Holder {
    /// One of an earlier process.
    pub fn earlier(session: SessionId, token: EventId, will: Value, deadline_ms: Option<u64>) -> Self {
        Holder { key: None, session, token, will, deadline_ms, leaving: None }
    }

    /// Whose session it is.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The id of the grant.
    pub fn token(&self) -> EventId {
        self.token
    }

    /// What the topic gets at its end.
    pub fn will(&self) -> &Value {
        &self.will
    }

    /// When it ends by itself.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }

    /// It ends, with this value; only the first end counts.
    pub fn leave(&mut self, value: Value, asker: Option<Caller>) {
        self.leaving.get_or_insert(Leaving { value, asker, is_on_its_way: false });
    }
}
