//! One publication under a condition: what is asked for, by whom, and what its grant does.
use crate::model::SessionId;
use std::sync::Arc;

use serde_json::Value;

use crate::model::command::{Acknowledge, PublishOptions};
use crate::model::{ConnectionId, PacketId, Publication, RequestId};
use crate::router::base::key::SessionKey;
use crate::router::base::reply::Caller;
use crate::router::base::timers::TimerKey;

/// One publication under a condition, until it is published or refused.
#[derive(Debug)]
pub struct Request {
    pub number: u64,
    pub from: SessionKey,
    pub session: SessionId,
    pub connection: ConnectionId,
    pub publication: Arc<Publication>,
    pub options: Option<Box<PublishOptions>>,
    /// What the topic's value must fit; `None` = whatever it is.
    pub when: Option<Value>,
    /// It waits until it does.
    pub watch: bool,
    /// The value that the topic gets at the publisher's end.
    pub will: Option<Value>,
    /// How long the grant lasts.
    pub ttl_ms: Option<u64>,
    /// How long it waits.
    pub wait_ms: Option<u64>,
    pub acknowledge: Acknowledge,
    /// Who is told the loss of what is granted.
    pub asker: Option<Caller>,
    /// The asker is told the token too, besides the acknowledgement.
    pub is_told: bool,
    /// It is a call: the asker is told about a refusal too.
    pub is_call: bool,
    /// Its session waits with what follows until this is decided.
    pub is_owed: bool,
    pub timer: Option<TimerKey>,
    /// The PUBLISH that asked.
    pub packet: Option<PacketId>,
    pub weight: usize,
}

/// What a publication does to whoever holds or waits for its topic.
#[derive(Debug, Default)]
pub enum Role {
    /// Void, if it changes the value.
    #[default]
    Plain,
    /// It is the grant of a request.
    Granted(Box<LockGrant>),
    /// It is the value that the end of the holder gives.
    Release,
}

/// Who changes a value.
#[derive(Clone, Copy, Debug)]
pub struct By {
    /// The session, while it lasts.
    pub key: Option<SessionKey>,
    /// Its number, also when it has ended.
    pub session: Option<SessionId>,
    /// By which connection; wills have none.
    pub connection: Option<ConnectionId>,
}

/// What remains to be said and done once a grant has its id.
#[derive(Debug)]
pub struct LockGrant {
    pub connection: ConnectionId,
    pub will: Option<Value>,
    pub ttl_ms: Option<u64>,
    pub asker: Option<Caller>,
    pub is_told: bool,
    pub is_call: bool,
}

impl Request {
    pub fn call(&self) -> Option<RequestId> {
        match self.asker.as_ref().filter(|_| self.is_call)?.reply {
            crate::model::command::ReplyTo::Request(id) => Some(id),
            _ => None,
        }
    }
}

pub fn packet_of(acknowledge: Acknowledge) -> Option<PacketId> {
    match acknowledge {
        Acknowledge::AtLeastOnce(id) | Acknowledge::ExactlyOnce(id) | Acknowledge::ExactlyOnceAgain(id) => Some(id),
        Acknowledge::None | Acknowledge::Request(_) => None,
    }
}
