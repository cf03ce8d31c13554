//! Procedures of the router's own: which there are, and how they answer.
use serde_json::Value;

use super::Router;
use super::append::Place;
use super::invocation::{Caller, Message};
use super::queue::procedures::PUT;
use super::session::SessionKey;
use crate::model::arguments::Arguments;
use crate::model::command::{Call, Outcome};
use crate::model::record::Kind;
use crate::model::{ErrorUri, EventId, Payload, Reason};

/// How a procedure of the router's answers.
#[derive(Debug)]
pub(super) enum Reply {
    /// With these arguments, now.
    #[allow(dead_code, reason = "locks and queues answer so")]
    Now(Vec<Value>),
    /// With this error, now.
    Refused(ErrorUri),
    /// By itself, when there is an answer: it has kept the caller.
    Later,
}

impl From<Reason> for Reply {
    fn from(reason: Reason) -> Self {
        Reply::Refused(ErrorUri::Reason(reason))
    }
}

impl Router {
    /// A call of a name of the router's own.
    pub(super) fn call_own(&mut self, key: SessionKey, caller: &Caller, call: &Call) {
        let reply = match &call.arguments {
            Some(Ok(arguments)) if call.procedure.as_uri() == PUT => self.call_put(key, caller, call, arguments),
            Some(Ok(arguments)) => self.choose_own(key, caller, call.procedure.as_uri(), arguments),
            Some(Err(reason)) => (*reason).into(),
            None => Reason::NoSuchProcedure.into(),
        };
        self.reply(caller, reply);
    }

    fn choose_own(&mut self, key: SessionKey, caller: &Caller, procedure: &str, arguments: &Arguments) -> Reply {
        if let Some(verb) = procedure.strip_prefix("corsac.queue.") {
            return self.call_queue(key, caller, verb, arguments);
        }
        let reply = match procedure {
            "wamp.subscription.get_events" => return self.call_get_events(key, caller, arguments),
            "corsac.history.read" => return self.call_read_history(key, caller, arguments),
            "corsac.lock.acquire" => self.acquire_lock(caller, arguments),
            "corsac.lock.release" => self.change_lock(key, caller, arguments, false),
            "corsac.lock.renew" => self.change_lock(key, caller, arguments, true),
            "corsac.lock.inspect" => self.inspect_lock(arguments),
            _ => Err(Reason::NoSuchProcedure),
        };
        reply.unwrap_or_else(Reply::from)
    }

    /// A change of state has its place, now or (`from` and `caller` are `None`) in the life of an earlier process.
    pub(super) fn apply_change(
        &mut self,
        place: Place,
        kind: Kind,
        body: &[u8],
        from: Option<SessionKey>,
        caller: Option<Caller>,
    ) {
        match kind {
            Kind::QUEUE => self.apply_queue_change(place, body, from, caller),
            Kind::LOCK => self.apply_lock(place, body, from, caller),
            _ => {}
        }
    }

    /// A change of state could not be stored; whoever asked for it (`has_caller`) is told by others.
    pub(super) fn change_refused(&mut self, kind: Kind, body: &[u8], has_caller: bool) {
        match kind {
            Kind::QUEUE => self.queue_change_refused(body, has_caller),
            Kind::LOCK => self.lock_change_refused(body),
            _ => {}
        }
    }

    /// The process before this one ended at this place in the history, and all its connections with it. Before anything that this
    /// process asks for has its place.
    pub fn handle_gone(&mut self, id: EventId, time_ms: u64) {
        self.end_earlier_takers(Place { id, time_ms });
        self.end_earlier_holders(time_ms);
        self.publish_earlier_wills();
    }

    /// Answers a call of a procedure of the router's own.
    pub(super) fn reply(&mut self, caller: &Caller, reply: Reply) {
        let (outcome, payload) = match reply {
            Reply::Now(values) => (Outcome::Result, Payload::of_values(&values)),
            // The sentence is added where all errors of the router's are sent.
            Reply::Refused(uri) => (Outcome::Error(uri), Payload::empty()),
            Reply::Later => return,
        };
        self.answer(caller, Message { outcome, payload, properties: None });
    }
}
