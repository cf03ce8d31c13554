//! Procedures of the router's own: which there are, and how they answer.
pub mod history;
mod lock;
pub mod queue;

use crate::model::arguments::Arguments;
use crate::model::command::{Call, ReplyTo};
use crate::model::{ConnectionId, PublicationId, Reason, names};
use crate::router::base::context::Consequence;
use crate::router::base::key::SessionKey;
use crate::router::base::reply::kept_name;
use crate::router::base::reply::{Caller, Message, Reply, qos_of};
use crate::router::flow::{answer, call};
use crate::router::realm::Realm;

/// A call of a name of the router's own.
pub fn call_own(realm: &mut Realm, key: SessionKey, caller: &Caller, call: &Call) {
    let reply = match &call.arguments {
        Some(Ok(arguments)) if call.procedure.as_uri() == names::PUT => queue::call_put(realm, key, caller, call, arguments),
        Some(Ok(arguments)) => choose_own(realm, key, caller, call.procedure.as_uri(), arguments),
        Some(Err(reason)) => (*reason).into(),
        None => Reason::NoSuchProcedure.into(),
    };
    answer::reply(realm, caller, reply);
}

fn choose_own(realm: &mut Realm, key: SessionKey, caller: &Caller, procedure: &str, arguments: &Arguments) -> Reply {
    if let Some(verb) = procedure.strip_prefix(names::QUEUE_PROCEDURES) {
        return queue::call_queue(realm, key, caller, verb, arguments);
    }
    if let Some(verb) = procedure.strip_prefix(names::LOCK_PROCEDURES) {
        return lock::call_lock(realm, key, caller, verb, arguments);
    }
    match procedure {
        "wamp.subscription.get_events" => history::call_get_events(realm, key, caller, arguments),
        names::READ_HISTORY => history::call_read_history(realm, key, caller, arguments),
        // Only MQTT clients come to here with it: their PUBLISH has the options as user properties.
        names::PUBLISH => Reason::NotSupported.into(),
        _ => Reason::NoSuchProcedure.into(),
    }
}

pub fn handle_call(realm: &mut Realm, key: SessionKey, connection: ConnectionId, call: Call) {
    let acknowledge = call.acknowledge;
    if !answer::accept(realm, key, connection, acknowledge, 0) {
        return;
    }
    let outcome = take_call(realm, key, call).map(|callees| (PublicationId(0), callees));
    answer::acknowledge(realm, key, connection, acknowledge, outcome);
}

/// Passes a call on; how many callees have it. A fault of the call itself is said to its reply address: the PUBLISH that carried
/// it was fine.
fn take_call(realm: &mut Realm, key: SessionKey, mut call: Call) -> Result<usize, Reason> {
    if !answer::is_reply_allowed(realm, &call.reply) {
        return Err(Reason::NotAuthorized);
    }
    realm.sessions.at(key).ok_or(Reason::ConnectionLost)?;
    if matches!(&call.reply, ReplyTo::Request(request) if realm.calls.of_request(key, *request).is_some()) {
        // Two answers under one id could not be told apart (WAMP: Basic, Identifiers: ids are used once).
        realm.cx.then(Consequence::End(key, Reason::ProtocolViolation));
        return Err(Reason::ProtocolViolation);
    }
    let reply = std::mem::replace(&mut call.reply, ReplyTo::Nobody);
    let (session, qos, name) = (Some(key), qos_of(call.acknowledge), kept_name(&call.procedure));
    let caller = Caller { session, reply, qos, name, lock: None };
    if call.procedure.is_reserved() {
        call_own(realm, key, &caller, &call);
        return Ok(0);
    }
    match call::choose(realm, key, &caller, &call) {
        Ok(choice) => Ok(call::invoke(realm, key, caller, call, choice)),
        // Nowhere else to say it.
        Err(reason) if caller.reply == ReplyTo::Nobody && reason != Reason::NoSuchProcedure => Err(reason),
        Err(reason) => {
            answer::answer(realm, &caller, Message::error(reason));
            Ok(0)
        }
    }
}
