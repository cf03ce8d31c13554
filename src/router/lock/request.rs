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
    /// The pattern that the topic's value must fit; `None` fits any.
    pub when: Option<Value>,
    /// The request waits until it does.
    pub watch: bool,
    /// The value that the topic gets at the publisher's end.
    pub will: Option<Value>,
    /// The time that the grant lasts.
    pub ttl_ms: Option<u64>,
    /// The time that it waits.
    pub wait_ms: Option<u64>,
    pub acknowledge: Acknowledge,
    /// The one who is told the loss of the grant.
    pub asker: Option<Caller>,
    /// The asker is told the token too, besides the acknowledgement.
    pub is_told: bool,
    /// The request is a call: the asker is told about a refusal too.
    pub is_call: bool,
    /// Its session waits with what follows until this is decided.
    pub is_owed: bool,
    pub timer: Option<TimerKey>,
    /// The PUBLISH that asked.
    pub packet: Option<PacketId>,
    pub weight: usize,
}

/// The effect of a publication on the holder of its topic, and on those who wait.
#[derive(Debug, Default)]
pub enum Role {
    /// Void, if it changes the value.
    #[default]
    Plain,
    /// The grant of a request.
    Granted(Box<LockGrant>),
    /// The value that the end of the holder gives.
    Release,
}

/// The one who changes a value.
#[derive(Clone, Copy, Debug)]
pub struct By {
    /// The session, while it lasts.
    pub key: Option<SessionKey>,
    /// Its number, also when it has ended.
    pub session: Option<SessionId>,
    /// By which connection; wills have none.
    pub connection: Option<ConnectionId>,
}

/// The answers and work that remain once a grant has its id.
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
