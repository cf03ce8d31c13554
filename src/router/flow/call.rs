//! Calls on their way: from the caller to a callee, and its answers back, until one of them has had enough.
use crate::model::command::{Call, CalleeForm, CancelMode, Yield};
use crate::model::delivery::Invocation;
use crate::model::outcome::Outcome;
use crate::model::{ConnectionId, Delivery, InvocationId, Publication, PublicationId, Qos, Reason, RequestId, Topic, names};
use crate::router::base::context::Consequence;
use crate::router::base::key::SessionKey;
use crate::router::base::reply::{Caller, Message, qos_of, without_addresses};
use crate::router::dealer::Choice;
use crate::router::dealer::calls::Pending;
use crate::router::flow::answer::private_passage;
use crate::router::flow::{answer, append, locks, queues};
use crate::router::realm::Realm;

/// True for what `publish_invocation` and `publish_cancel` send.
pub fn is_invocation(publication: &Publication) -> bool {
    let topic = publication.topic.as_mqtt();
    topic.starts_with(names::CALLEE) || topic.starts_with(names::CANCEL)
}

/// The callee that takes the call, within the bounds of both sides.
pub fn choose(realm: &mut Realm, key: SessionKey, caller: &Caller, call: &Call) -> Result<Choice, Reason> {
    let max_pending = realm.cx.limits.max_pending_calls_per_session;
    if !realm.calls.has_room(key, caller.reply_bytes(), max_pending, realm.cx.limits.max_session_queue_bytes) {
        return Err(Reason::QuotaExceeded);
    }
    let choice = realm.dealer.choose(&call.procedure, &mut realm.cx.random).ok_or(Reason::NoSuchProcedure)?;
    if realm.calls.unanswered(choice.callee.session) >= max_pending { Err(Reason::QuotaExceeded) } else { Ok(choice) }
}

/// Hands the call to its callee; how many have it.
pub fn invoke(realm: &mut Realm, key: SessionKey, caller: Caller, call: Call, choice: Choice) -> usize {
    let callee = choice.callee;
    let Some(session) = realm.sessions.at(callee.session) else { return 0 };
    let invocation = realm.calls.next_invocation(callee.session);
    let is_forwarded = callee.options.forward_timeout && session.features.callee_timeout;
    let receive_progress = call.receive_progress;
    let timeout_ms = if is_forwarded { 0 } else { call.timeout_ms };
    let pending =
        Pending { caller, callee: callee.session, invocation, receive_progress, timeout_ms, timer: None, is_interrupted: false };
    let place = realm.calls.start(key, pending, &mut realm.cx);
    let is_taken = match callee.options.form {
        CalleeForm::Invocation => send_invocation(realm, key, invocation, call, choice, is_forwarded),
        _ => publish_invocation(realm, key, invocation, call, choice),
    };
    if let Err(reason) = is_taken {
        finish(realm, place, Message::error(reason));
    }
    usize::from(is_taken.is_ok())
}

fn send_invocation(
    realm: &mut Realm,
    key: SessionKey,
    id: InvocationId,
    call: Call,
    choice: Choice,
    is_timeout_forwarded: bool,
) -> Result<(), Reason> {
    let Choice { callee, registration, by_pattern } = choice;
    let is_disclosed = call.disclose_me || callee.options.disclose_caller;
    let caller = if is_disclosed { append::disclosed(realm, key) } else { None };
    let session = realm.sessions.at(callee.session).ok_or(Reason::NoSuchProcedure)?;
    let connection = session.connection.ok_or(Reason::NoSuchProcedure)?;
    // The specification counts a callee that cannot be canceled as one without progressive results; autobahn-js announces
    // just that and serves them all the same, as every router lets it.
    let has_progress = session.features.callee_progress;
    let invocation = Invocation {
        id,
        registration,
        procedure: by_pattern.then_some(call.procedure),
        payload: call.payload,
        caller,
        receive_progress: call.receive_progress && has_progress,
        timeout_ms: (is_timeout_forwarded && call.timeout_ms > 0).then_some(call.timeout_ms),
        properties: without_addresses(call.properties),
    };
    realm.cx.tell(connection, Delivery::Invocation(Box::new(invocation)));
    Ok(())
}

pub fn handle_yield(realm: &mut Realm, key: SessionKey, connection: ConnectionId, answer: Yield) {
    let acknowledge = answer.acknowledge;
    if !answer::accept(realm, key, connection, acknowledge, 0) {
        return;
    }
    let outcome = take_yield(realm, key, answer).map(|callers| (PublicationId(0), callers));
    answer::acknowledge(realm, key, connection, acknowledge, outcome);
}

/// Passes a callee's answer on; how many callers have it.
fn take_yield(realm: &mut Realm, key: SessionKey, answer: Yield) -> Result<usize, Reason> {
    let Yield { invocation, outcome, payload, properties, .. } = answer;
    let session = realm.sessions.at(key).ok_or(Reason::ConnectionLost)?;
    if !realm.calls.was_invoked(key, invocation) {
        // Not an invocation of this session: a topic that it may not publish to, or a message out of order.
        if session.protocol.is_mqtt() {
            return Err(Reason::NotAuthorized);
        }
        realm.cx.then(Consequence::End(key, Reason::ProtocolViolation));
        return Err(Reason::ProtocolViolation);
    }
    let is_progress = outcome == Outcome::Progress;
    let Some(place) = realm.calls.of_invocation(key, invocation) else {
        take_late_yield(realm, key, invocation, is_progress);
        return Ok(0);
    };
    let message = Message { outcome, payload, properties: without_addresses(properties) };
    if !is_progress {
        return Ok(usize::from(finish(realm, place, message)));
    }
    let Some(pending) = realm.calls.at(place).filter(|pending| pending.receive_progress) else { return Ok(0) };
    let caller = pending.caller.clone();
    realm.calls.restart_timer(place, &mut realm.cx);
    Ok(usize::from(answer::answer(realm, &caller, message)))
}

/// An answer that nobody waits for: a callee that goes on with progressive results is told to stop, once.
fn take_late_yield(realm: &mut Realm, key: SessionKey, invocation: InvocationId, is_progress: bool) {
    let is_untold = realm.calls.is_abandoned(key, invocation);
    if !is_untold || (is_progress && !interrupt(realm, key, invocation, CancelMode::KillNoWait, Reason::Canceled)) {
        return;
    }
    realm.calls.forget_abandoned(key, invocation);
}

/// WAMP: Advanced, Call Canceling. A call that is over, or never was, is not the caller's fault: answers and CANCEL may cross.
pub fn handle_cancel(realm: &mut Realm, key: SessionKey, request: RequestId, mode: CancelMode) {
    let Some(place) = realm.calls.of_request(key, request) else {
        locks::cancel_wait(realm, key, request);
        return queues::cancel_take(realm, key, request);
    };
    let is_told = mode != CancelMode::Skip && interrupt_pending(realm, place, mode, Reason::Canceled);
    if mode == CancelMode::Kill && is_told {
        return;
    }
    abandon(realm, place, Message::error(Reason::Canceled));
}

/// The time of a call is over.
pub fn time_out(realm: &mut Realm, place: u32) {
    interrupt_pending(realm, place, CancelMode::KillNoWait, Reason::Timeout);
    abandon(realm, place, Message::error(Reason::Timeout));
}

/// Callers that wait for a session that is gone (WAMP: Basic, Callee Leaving During an RPC Invocation).
pub fn abandon_invocations(realm: &mut Realm, key: SessionKey) {
    for place in realm.calls.of_callee(key) {
        // A callee that comes back may go on with it.
        abandon(realm, place, Message::error(Reason::Canceled));
    }
}

/// Calls of a session that is gone (WAMP: Basic, Caller Leaving During an RPC Invocation). A call that wanted no answer goes on.
pub fn abandon_calls(realm: &mut Realm, key: SessionKey) {
    for place in realm.calls.leave(key) {
        interrupt_pending(realm, place, CancelMode::KillNoWait, Reason::Canceled);
        abandon(realm, place, Message::error(Reason::Canceled));
    }
}

/// Tells the callee of a call to stop, if it has not been told; true if it has.
fn interrupt_pending(realm: &mut Realm, place: u32, mode: CancelMode, reason: Reason) -> bool {
    let Some(pending) = realm.calls.at(place) else { return false };
    if pending.is_interrupted {
        return true;
    }
    let is_told = interrupt(realm, pending.callee, pending.invocation, mode, reason);
    realm.calls.note_interrupted(place, is_told);
    is_told
}

/// Tells a callee to stop, if it can be told.
fn interrupt(realm: &mut Realm, callee: SessionKey, invocation: InvocationId, mode: CancelMode, reason: Reason) -> bool {
    let Some(session) = realm.sessions.at(callee) else { return false };
    if session.protocol.is_mqtt() {
        return answer::publish_cancel(realm, callee, invocation, reason);
    }
    let Some(connection) = session.connection.filter(|_| session.features.callee_canceling) else { return false };
    realm.cx.tell(connection, Delivery::Interrupt { invocation, mode, reason });
    true
}

/// Ends a call that its callee still works on.
fn abandon(realm: &mut Realm, place: u32, message: Message) {
    let Some(pending) = realm.calls.at(place) else { return };
    let (callee, invocation, is_interrupted) = (pending.callee, pending.invocation, pending.is_interrupted);
    finish(realm, place, message);
    if !is_interrupted {
        realm.calls.note_abandoned(callee, invocation, realm.cx.limits.max_pending_calls_per_session);
    }
}

/// Ends a call with its last answer; true if somebody has it.
fn finish(realm: &mut Realm, place: u32, message: Message) -> bool {
    realm.calls.take(place, &mut realm.cx).is_some_and(|pending| answer::answer(realm, &pending.caller, message))
}

/// Puts a call to an MQTT callee: `$callee/<procedure>` with response topic `$yield/<invocation>`, or
/// `$callee/<procedure>/$id/<invocation>`.
pub fn publish_invocation(
    realm: &mut Realm,
    caller: SessionKey,
    invocation: InvocationId,
    call: Call,
    choice: Choice,
) -> Result<(), Reason> {
    let options = choice.callee.options;
    let procedure = call.procedure.as_mqtt();
    let is_by_id = options.form == CalleeForm::PublicationById;
    let topic = match is_by_id {
        true => Topic::from_mqtt(&format!("{}{procedure}/$id/{invocation}", names::CALLEE))?,
        false => Topic::from_mqtt(&format!("{}{procedure}", names::CALLEE))?,
    };
    // A WAMP call is answered in any case: it counts as acknowledged.
    let is_wamp = realm.sessions.at(caller).is_some_and(|session| !session.protocol.is_mqtt());
    let qos = if is_wamp { Qos::AtLeastOnce } else { qos_of(call.acknowledge) };
    let mut properties = without_addresses(call.properties).unwrap_or_default();
    if !is_by_id {
        properties.response_topic = Some(format!("{}{invocation}", names::YIELD).into());
    }
    let is_said = properties.user.iter().any(|(name, _)| **name == *names::RECEIVE_PROGRESS);
    if call.receive_progress && !is_said {
        properties.user.push((names::RECEIVE_PROGRESS.into(), "true".into()));
    }
    let mut publication = Publication::new(topic, call.payload, qos);
    publication.properties = Some(properties);
    // Not worth delivering once the caller has been told that it took too long.
    publication.expires_at_ms = (call.timeout_ms > 0).then(|| realm.cx.now_ms.saturating_add(call.timeout_ms));
    if call.disclose_me || options.disclose_caller {
        publication.publisher = append::disclosed(realm, caller);
    }
    let passage = private_passage(options.qos, options.identifier);
    answer::send_to(realm, choice.callee.session, publication, passage)
}
