//! The holder of a topic, whose end gives the topic another value.
use std::collections::HashMap;

use foldhash::fast::FixedState;
use serde_json::Value;

use crate::model::{ConnectionId, EventId, SessionId};
use crate::router::base::key::SessionKey;
use crate::router::base::reply::Caller;

/// The one whose end gives a topic another value: a session as long as it has this connection. A session that comes back is
/// another life, with the same number.
#[derive(Debug)]
pub struct Holder {
    /// `None` for those of an earlier process.
    pub key: Option<SessionKey>,
    pub session: SessionId,
    /// `None` for those of an earlier process.
    pub connection: Option<ConnectionId>,
    /// Its connection has ended: what its session changes from then on is somebody else's doing.
    pub is_parted: bool,
    /// The id of the grant.
    pub token: EventId,
    pub will: Value,
    /// When the grant ends by itself, in the time of records.
    pub deadline_ms: Option<u64>,
    /// Where the grant was told, if there.
    pub told: Option<Caller>,
    pub leaving: Option<Leaving>,
}

/// While records are read: how connections have ended since holders got what they hold.
#[derive(Debug, Default)]
pub struct Ends {
    /// The last process, at this place.
    pub process: Option<EventId>,
    /// That of a session which stays, at this place.
    pub sessions: HashMap<SessionId, EventId, FixedState>,
}

impl Ends {
    /// True if the connection of this holder has ended: in this life, or before the records that are being read.
    pub fn has_parted(&self, holder: &Holder) -> bool {
        holder.is_parted || self.process.max(self.sessions.get(&holder.session).copied()) > Some(holder.token)
    }
}

/// A holder that is about to end.
#[derive(Debug)]
pub struct Leaving {
    /// The value that the topic gets.
    pub value: Value,
    /// The caller that asked for it.
    pub asker: Option<Caller>,
    pub is_on_its_way: bool,
}

impl Holder {
    /// One of an earlier process.
    pub fn earlier(session: SessionId, token: EventId, will: Value, deadline_ms: Option<u64>) -> Self {
        let (key, connection, is_parted, told, leaving) = Default::default();
        Holder { key, session, connection, is_parted, token, will, deadline_ms, told, leaving }
    }

    /// One whose connection had ended before, or not.
    pub fn parted(self, is_parted: bool) -> Self {
        Holder { is_parted, ..self }
    }

    /// True for what this session sends by this connection.
    pub fn is_by(&self, session: Option<SessionId>, connection: Option<ConnectionId>) -> bool {
        session == Some(self.session) && connection.is_some() && connection == self.connection
    }

    /// True once its time is over.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.deadline_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// The session of the holder.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The id of the grant.
    pub fn token(&self) -> EventId {
        self.token
    }

    /// The value that the topic gets at its end.
    pub fn will(&self) -> &Value {
        &self.will
    }

    /// When it ends by itself.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }

    /// Ends it, with this value; only the first end counts.
    pub fn leave(&mut self, value: Value, asker: Option<Caller>) {
        self.leaving.get_or_insert(Leaving { value, asker, is_on_its_way: false });
    }
}
