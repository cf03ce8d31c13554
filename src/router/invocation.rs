//! Calls on their way: from the caller to a callee, and its answers back, until one of them has had enough.
use super::Router;
use super::dealer::Choice;
use super::lifecycle::Due;
use super::session::SessionKey;
use super::timers::TimerKey;
use crate::model::command::{Acknowledge, Call, CalleeForm, CancelMode, Outcome, ReplyTo, Yield};
use crate::model::delivery::{Answer, Invocation};
use crate::model::publication::Properties;
use crate::model::sentence::of_call;
use crate::model::{ConnectionId, Delivery, ErrorUri, InvocationId, Payload, PublicationId, Qos, Reason, RequestId, Topic};

/// A call that a callee has and its caller waits for.
#[derive(Debug)]
pub struct Pending {
    caller: Caller,
    callee: SessionKey,
    invocation: InvocationId,
    /// The caller takes progressive results.
    receive_progress: bool,
    /// Time to the first result and between results, in milliseconds; 0 = the router does not watch it.
    timeout_ms: u64,
    timer: Option<TimerKey>,
    /// The callee was told to stop.
    is_interrupted: bool,
}

/// Who waits for an answer, and where.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The session; `None` once it has left a call that it wanted no answer for.
    pub session: Option<SessionKey>,
    /// Where the answer goes.
    pub reply: ReplyTo,
    /// QoS of the call, and so of its answers.
    pub qos: Qos,
    /// What was called, for refusals; `None` where that is too long to be kept.
    pub name: Option<Topic>,
}

/// Longest name that a call keeps while it is on its way, in bytes.
const MAX_KEPT_NAME: usize = 256;

/// What a call keeps of the name of what is called.
pub(super) fn kept_name(name: &Topic) -> Option<Topic> {
    (name.as_mqtt().len() <= MAX_KEPT_NAME).then(|| name.clone())
}

/// What a caller is told.
#[derive(Debug)]
pub struct Message {
    /// What it is.
    pub outcome: Outcome,
    /// The body.
    pub payload: Payload,
    /// Properties that travel with it.
    pub properties: Option<Box<Properties>>,
}

impl Message {
    /// An error of the router's own.
    fn error(reason: Reason) -> Self {
        Message { outcome: Outcome::Error(ErrorUri::Reason(reason)), payload: Payload::empty(), properties: None }
    }
}

impl Caller {
    /// The request, if it has one.
    pub(super) fn request(&self) -> Option<RequestId> {
        request_of(&self.reply)
    }

    /// The arguments of an error of the router's own: a sentence with the name of what was called, as the caller spells it, and behind
    /// it what a program can use.
    fn refusal(&self, reason: Reason) -> Payload {
        let name = match (&self.name, &self.reply) {
            (None, _) => "the procedure",
            (Some(name), ReplyTo::Request(_)) => name.as_uri(),
            (Some(name), _) => name.as_mqtt(),
        };
        let sentence = of_call(name, reason).into();
        match reason {
            Reason::HistoryTooOld(oldest) => Payload::of_values(&[sentence, oldest.value().into()]),
            _ => Payload::of_values(&[sentence]),
        }
    }

    /// Bytes that its reply address holds while the call is on its way.
    pub(super) fn reply_bytes(&self) -> usize {
        match &self.reply {
            ReplyTo::Request(_) | ReplyTo::Nobody => 0,
            ReplyTo::Topic { topic, correlation_data } => {
                topic.as_mqtt().len() + correlation_data.as_ref().map_or(0, |data| data.len())
            }
            ReplyTo::CallId(id) => id.len(),
        }
    }
}

impl Router {
    pub(super) fn handle_call(&mut self, key: SessionKey, connection: ConnectionId, call: Call) {
        let acknowledge = call.acknowledge;
        if !self.accept(key, connection, acknowledge, 0) {
            return;
        }
        let outcome = self.take_call(key, call).map(|callees| (PublicationId(0), callees));
        self.acknowledge(key, connection, acknowledge, outcome);
    }

    /// Passes a call on; how many callees have it. What is wrong with the call itself is said to its reply address:
    /// the PUBLISH that carried it was fine.
    fn take_call(&mut self, key: SessionKey, mut call: Call) -> Result<usize, Reason> {
        if !self.is_reply_allowed(&call.reply) {
            return Err(Reason::NotAuthorized);
        }
        let session = self.sessions.at(key).ok_or(Reason::ConnectionLost)?;
        if matches!(&call.reply, ReplyTo::Request(request) if session.calls.contains_key(request)) {
            // Two answers under one id could not be told apart (WAMP: Basic, Identifiers: ids are used once).
            self.end_connection(key, Reason::ProtocolViolation);
            return Err(Reason::ProtocolViolation);
        }
        let reply = std::mem::replace(&mut call.reply, ReplyTo::Nobody);
        let caller = Caller { session: Some(key), reply, qos: qos_of(call.acknowledge), name: kept_name(&call.procedure) };
        if call.procedure.is_reserved() {
            self.call_own(key, &caller, &call);
            return Ok(0);
        }
        match self.choose(key, &caller, &call) {
            Ok(choice) => Ok(self.invoke(key, caller, call, choice)),
            // Nowhere else to say it.
            Err(reason) if caller.reply == ReplyTo::Nobody && reason != Reason::NoSuchProcedure => Err(reason),
            Err(reason) => {
                self.answer(&caller, Message::error(reason));
                Ok(0)
            }
        }
    }

    /// The callee that takes the call, within the bounds of both sides.
    fn choose(&mut self, key: SessionKey, caller: &Caller, call: &Call) -> Result<Choice, Reason> {
        let session = self.sessions.at(key).ok_or(Reason::ConnectionLost)?;
        let max_pending = self.limits.max_pending_calls_per_session;
        if session.calls.len() + session.topic_calls.len() >= max_pending
            || session.reply_bytes + caller.reply_bytes() > self.limits.max_session_queue_bytes
        {
            return Err(Reason::QuotaExceeded);
        }
        let choice = self.dealer.choose(&call.procedure, &mut self.random).ok_or(Reason::NoSuchProcedure)?;
        let callee = self.sessions.at(choice.callee.session).ok_or(Reason::NoSuchProcedure)?;
        if callee.invocations.len() >= max_pending { Err(Reason::QuotaExceeded) } else { Ok(choice) }
    }

    /// Hands the call to its callee; how many have it.
    fn invoke(&mut self, key: SessionKey, caller: Caller, call: Call, choice: Choice) -> usize {
        let callee = choice.callee;
        let Some(session) = self.sessions.at_mut(callee.session) else { return 0 };
        session.last_invocation += 1;
        let invocation = InvocationId(session.last_invocation);
        let is_forwarded = callee.options.forward_timeout && session.features.callee_timeout;
        let receive_progress = call.receive_progress;
        let timeout_ms = if is_forwarded { 0 } else { call.timeout_ms };
        let pending = Pending {
            caller,
            callee: callee.session,
            invocation,
            receive_progress,
            timeout_ms,
            timer: None,
            is_interrupted: false,
        };
        let place = self.note_pending(key, pending);
        let is_taken = match callee.options.form {
            CalleeForm::Invocation => self.send_invocation(key, invocation, call, choice, is_forwarded),
            _ => self.publish_invocation(key, invocation, call, choice),
        };
        if let Err(reason) = is_taken {
            self.finish(place, Message::error(reason));
        }
        usize::from(is_taken.is_ok())
    }

    fn send_invocation(
        &mut self,
        key: SessionKey,
        id: InvocationId,
        call: Call,
        choice: Choice,
        is_timeout_forwarded: bool,
    ) -> Result<(), Reason> {
        let Choice { callee, registration, by_pattern } = choice;
        let is_disclosed = call.disclose_me || callee.options.disclose_caller;
        let caller = if is_disclosed { self.disclosed(key) } else { None };
        let session = self.sessions.at(callee.session).ok_or(Reason::NoSuchProcedure)?;
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
        self.deliver(connection, Delivery::Invocation(Box::new(invocation)));
        Ok(())
    }

    /// Enters a call in the tables of both sides and starts its time; where it stands.
    fn note_pending(&mut self, caller: SessionKey, pending: Pending) -> u32 {
        let (callee, invocation, reply_bytes) = (pending.callee, pending.invocation, pending.caller.reply_bytes());
        let request = request_of(&pending.caller.reply);
        let place = self.pending.insert(pending) as u32;
        if let Some(session) = self.sessions.at_mut(caller) {
            session.reply_bytes += reply_bytes;
            match request {
                Some(request) => drop(session.calls.insert(request, place)),
                None => drop(session.topic_calls.insert(place)),
            }
        }
        if let Some(session) = self.sessions.at_mut(callee) {
            session.invocations.insert(invocation, place);
        }
        self.start_timer(place);
        place
    }

    /// (Re)starts the time that a call has until its next result (WAMP: Advanced, Progressive Call Results, Timeouts).
    fn start_timer(&mut self, place: u32) {
        let Some(pending) = self.pending.get_mut(place as usize).filter(|pending| pending.timeout_ms > 0) else { return };
        if let Some(timer) = pending.timer.take() {
            self.timers.clear(timer);
        }
        pending.timer = Some(self.timers.set(self.now_ms.saturating_add(pending.timeout_ms), Due::Call(place)));
    }

    /// Takes a call out of every table.
    fn take_pending(&mut self, place: u32) -> Option<Pending> {
        let pending = self.pending.try_remove(place as usize)?;
        if let Some(timer) = pending.timer {
            self.timers.clear(timer);
        }
        if let Some(session) = pending.caller.session.and_then(|key| self.sessions.at_mut(key)) {
            session.reply_bytes -= pending.caller.reply_bytes();
            match request_of(&pending.caller.reply) {
                Some(request) => drop(session.calls.remove(&request)),
                None => drop(session.topic_calls.remove(&place)),
            }
        }
        if let Some(session) = self.sessions.at_mut(pending.callee) {
            session.invocations.remove(&pending.invocation);
        }
        Some(pending)
    }

    pub(super) fn handle_yield(&mut self, key: SessionKey, connection: ConnectionId, answer: Yield) {
        let acknowledge = answer.acknowledge;
        if !self.accept(key, connection, acknowledge, 0) {
            return;
        }
        let outcome = self.take_yield(key, answer).map(|callers| (PublicationId(0), callers));
        self.acknowledge(key, connection, acknowledge, outcome);
    }

    /// Passes a callee's answer on; how many callers have it.
    fn take_yield(&mut self, key: SessionKey, answer: Yield) -> Result<usize, Reason> {
        let Yield { invocation, outcome, payload, properties, .. } = answer;
        let session = self.sessions.at(key).ok_or(Reason::ConnectionLost)?;
        if invocation.0 == 0 || invocation.0 > session.last_invocation {
            // Not an invocation of this session: a topic that it may not publish to, or a message out of order.
            if session.protocol.is_mqtt() {
                return Err(Reason::NotAuthorized);
            }
            self.end_connection(key, Reason::ProtocolViolation);
            return Err(Reason::ProtocolViolation);
        }
        let is_progress = outcome == Outcome::Progress;
        let Some(place) = session.invocations.get(&invocation).copied() else {
            self.take_late_yield(key, invocation, is_progress);
            return Ok(0);
        };
        let message = Message { outcome, payload, properties: without_addresses(properties) };
        if !is_progress {
            return Ok(usize::from(self.finish(place, message)));
        }
        let Some(pending) = self.pending.get(place as usize).filter(|pending| pending.receive_progress) else { return Ok(0) };
        let caller = pending.caller.clone();
        self.start_timer(place);
        Ok(usize::from(self.answer(&caller, message)))
    }

    /// An answer that nobody waits for: a callee that goes on with progressive results is told to stop, once.
    fn take_late_yield(&mut self, key: SessionKey, invocation: InvocationId, is_progress: bool) {
        let is_untold = self.sessions.at(key).is_some_and(|session| session.abandoned.contains(&invocation));
        if !is_untold || (is_progress && !self.interrupt(key, invocation, CancelMode::KillNoWait, Reason::Canceled)) {
            return;
        }
        if let Some(session) = self.sessions.at_mut(key) {
            session.abandoned.remove(&invocation);
        }
    }

    /// WAMP: Advanced, Call Canceling. A call that is over, or never was, is not the caller's fault: answers and CANCEL may cross.
    pub(super) fn handle_cancel(&mut self, key: SessionKey, request: RequestId, mode: CancelMode) {
        let Some(place) = self.sessions.at(key).and_then(|session| session.calls.get(&request).copied()) else {
            self.cancel_wait(key, request);
            return self.cancel_take(key, request);
        };
        let is_told = mode != CancelMode::Skip && self.interrupt_pending(place, mode, Reason::Canceled);
        if mode == CancelMode::Kill && is_told {
            return;
        }
        self.abandon(place, Message::error(Reason::Canceled));
    }

    /// The time of a call is over.
    pub(super) fn time_out(&mut self, place: u32) {
        self.interrupt_pending(place, CancelMode::KillNoWait, Reason::Timeout);
        self.abandon(place, Message::error(Reason::Timeout));
    }

    /// Callers that wait for a session that is gone (WAMP: Basic, Callee Leaving During an RPC Invocation).
    pub(super) fn abandon_invocations(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at(key) else { return };
        let mut places: Vec<_> = session.invocations.iter().map(|(invocation, place)| (*invocation, *place)).collect();
        places.sort_unstable();
        for (_, place) in places {
            // A callee that comes back may go on with it.
            self.abandon(place, Message::error(Reason::Canceled));
        }
    }

    /// Calls of a session that is gone (WAMP: Basic, Caller Leaving During an RPC Invocation). A call that wanted no answer goes on.
    pub(super) fn abandon_calls(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at_mut(key) else { return };
        let mut requests: Vec<_> = session.calls.iter().map(|(request, place)| (*request, *place)).collect();
        requests.sort_unstable();
        let by_topic = std::mem::take(&mut session.topic_calls);
        for place in requests.into_iter().map(|(_, place)| place).chain(by_topic) {
            match self.pending.get_mut(place as usize) {
                Some(pending) if pending.caller.reply == ReplyTo::Nobody => pending.caller.session = None,
                _ => {
                    self.interrupt_pending(place, CancelMode::KillNoWait, Reason::Canceled);
                    self.abandon(place, Message::error(Reason::Canceled));
                }
            }
        }
    }

    /// Tells the callee of a call to stop, if it has not been told; true if it has.
    fn interrupt_pending(&mut self, place: u32, mode: CancelMode, reason: Reason) -> bool {
        let Some(pending) = self.pending.get(place as usize) else { return false };
        if pending.is_interrupted {
            return true;
        }
        let is_told = self.interrupt(pending.callee, pending.invocation, mode, reason);
        if let Some(pending) = self.pending.get_mut(place as usize) {
            pending.is_interrupted = is_told;
        }
        is_told
    }

    /// Tells a callee to stop, if it can be told.
    fn interrupt(&mut self, callee: SessionKey, invocation: InvocationId, mode: CancelMode, reason: Reason) -> bool {
        let Some(session) = self.sessions.at(callee) else { return false };
        if session.protocol.is_mqtt() {
            return self.publish_cancel(callee, invocation, reason);
        }
        let Some(connection) = session.connection.filter(|_| session.features.callee_canceling) else { return false };
        self.deliver(connection, Delivery::Interrupt { invocation, mode, reason });
        true
    }

    /// Ends a call that its callee still works on.
    fn abandon(&mut self, place: u32, message: Message) {
        let Some(pending) = self.pending.get(place as usize) else { return };
        let (callee, invocation, is_interrupted) = (pending.callee, pending.invocation, pending.is_interrupted);
        self.finish(place, message);
        let Some(session) = self.sessions.at_mut(callee).filter(|_| !is_interrupted) else { return };
        session.abandoned.insert(invocation);
        if session.abandoned.len() > self.limits.max_pending_calls_per_session {
            session.abandoned.pop_first();
        }
    }

    /// Ends a call with its last answer; true if somebody has it.
    fn finish(&mut self, place: u32, message: Message) -> bool {
        self.take_pending(place).is_some_and(|pending| self.answer(&pending.caller, message))
    }

    /// Answers a caller; true if there is one.
    pub(super) fn answer(&mut self, caller: &Caller, mut message: Message) -> bool {
        let Some(key) = caller.session else { return false };
        if let Outcome::Error(ErrorUri::Reason(reason)) = message.outcome {
            message.payload = caller.refusal(reason);
        }
        let ReplyTo::Request(request) = caller.reply else { return self.publish_answer(key, caller, message) };
        let Some(connection) = self.sessions.at(key).and_then(|session| session.connection) else { return false };
        let Message { outcome, payload, properties } = message;
        self.deliver(connection, Delivery::Answer(Box::new(Answer { request, outcome, payload, properties })));
        true
    }
}

/// The QoS of the PUBLISH that carried a call.
pub(super) fn qos_of(acknowledge: Acknowledge) -> Qos {
    match acknowledge {
        Acknowledge::None | Acknowledge::Request(_) => Qos::AtMostOnce,
        Acknowledge::AtLeastOnce(_) => Qos::AtLeastOnce,
        Acknowledge::ExactlyOnce(_) | Acknowledge::ExactlyOnceAgain(_) => Qos::ExactlyOnce,
    }
}

fn request_of(reply: &ReplyTo) -> Option<RequestId> {
    match reply {
        ReplyTo::Request(request) => Some(*request),
        _ => None,
    }
}

/// Where an answer goes is between each side and the router: the other side does not see it.
pub(super) fn without_addresses(mut properties: Option<Box<Properties>>) -> Option<Box<Properties>> {
    if let Some(properties) = &mut properties {
        properties.response_topic = None;
        properties.correlation_data = None;
    }
    properties
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::command::{Features, InvokePolicy, RegisterOptions, UnsubscribeEntry};
    use crate::model::{Filter, Limits, MatchPolicy};
    use crate::router::matcher::tests::Chance;
    use crate::router::tests::{ALL_FEATURES, Realm, call_to, payload, refusal, reply_topic, wamp_call};

    const NO_FEATURES: Features = Features { callee_canceling: false, callee_progress: false, callee_timeout: false };

    /// A realm with a callee of `a.b` and a caller.
    fn pair() -> (Realm, ConnectionId, ConnectionId) {
        pair_with(ALL_FEATURES)
    }

    fn pair_with(features: Features) -> (Realm, ConnectionId, ConnectionId) {
        let mut realm = Realm::new();
        let (callee, caller) = (realm.wamp_with(features), realm.wamp());
        realm.register(callee, "a.b").unwrap();
        (realm, callee, caller)
    }

    fn custom(uri: &str) -> Outcome {
        Outcome::Error(ErrorUri::Custom(uri.into()))
    }

    fn router_error(realm: &mut Realm, caller: ConnectionId, request: u64, reason: Reason) {
        assert_eq!(realm.error(caller), (request, ErrorUri::Reason(reason)));
        realm.nothing(caller);
    }

    /// The session's connection was ended for a violation.
    fn is_ended(realm: &mut Realm, connection: ConnectionId) {
        assert!(matches!(realm.next(connection), Delivery::Close(Reason::ProtocolViolation)));
        realm.nothing(connection);
    }

    #[test]
    fn a_call_reaches_its_callee_and_the_result_its_caller() {
        let (mut realm, callee, caller) = pair();
        realm.call(caller, 7, "a.b");
        realm.nothing(caller);
        let invocation = realm.invocation(callee);
        assert_eq!((invocation.id, invocation.payload), (InvocationId(1), payload("question")));
        assert_eq!((invocation.caller, invocation.procedure, invocation.timeout_ms), (None, None, None));
        assert!(!invocation.receive_progress);
        realm.answer_with(callee, 1, Outcome::Result, "42");
        let answer = realm.answer(caller);
        assert_eq!((answer.request, answer.outcome, answer.payload), (RequestId(7), Outcome::Result, payload("42")));
        realm.nothing(callee);
        assert_eq!(realm.pending(), 0);
    }

    #[test]
    fn the_error_of_a_callee_reaches_the_caller_unaltered() {
        let (mut realm, callee, caller) = pair();
        realm.call(caller, 1, "a.b");
        realm.answer_with(callee, 1, custom("com.app.broken"), "why");
        let answer = realm.answer(caller);
        assert_eq!((answer.outcome, answer.payload), (custom("com.app.broken"), payload("why")));
        assert_eq!(realm.pending(), 0);
    }

    #[test]
    fn a_call_without_callee_is_refused() {
        let mut realm = Realm::new();
        let caller = realm.wamp();
        realm.call(caller, 1, "nobody");
        router_error(&mut realm, caller, 1, Reason::NoSuchProcedure);
    }

    #[test]
    fn invocations_are_numbered_per_callee_from_one() {
        let mut realm = Realm::new();
        let (a, b, caller) = (realm.wamp(), realm.wamp(), realm.wamp());
        realm.register_shared(a, "x", InvokePolicy::RoundRobin).unwrap();
        realm.register_shared(b, "x", InvokePolicy::RoundRobin).unwrap();
        realm.register(b, "y").unwrap();
        for (request, uri) in (1..).zip(["x", "x", "y", "x", "x"]) {
            realm.call(caller, request, uri);
        }
        let numbers =
            |realm: &mut Realm, callee, count| -> Vec<u64> { (0..count).map(|_| realm.invocation(callee).id.0).collect() };
        assert_eq!(numbers(&mut realm, a, 2), [1, 2]);
        assert_eq!(numbers(&mut realm, b, 3), [1, 2, 3]);
    }

    #[test]
    fn calls_of_one_caller_reach_a_callee_in_their_order() {
        let (mut realm, callee, caller) = pair();
        realm.register(callee, "c.d").unwrap();
        let texts = ["1", "2", "3", "4", "5", "6"];
        for (request, text) in (1..).zip(texts) {
            let uri = if request % 2 == 0 { "a.b" } else { "c.d" };
            realm.call_with(caller, Call { payload: payload(text), ..wamp_call(request, uri) });
        }
        for text in texts {
            assert_eq!(realm.invocation(callee).payload, payload(text));
        }
    }

    #[test]
    fn a_request_id_in_use_ends_the_connection() {
        let (mut realm, callee, caller) = pair();
        realm.call(caller, 1, "a.b");
        realm.call(caller, 1, "a.b");
        is_ended(&mut realm, caller);
        realm.invocation(callee);
        assert_eq!(realm.interrupt(callee), (1, CancelMode::KillNoWait, Reason::Canceled));
        assert_eq!(realm.pending(), 0);
    }

    #[test]
    fn progress_reaches_only_callers_that_asked_and_keeps_order() {
        let (mut realm, callee, caller) = pair();
        realm.call_with(caller, Call { receive_progress: true, ..wamp_call(1, "a.b") });
        realm.call(caller, 2, "a.b");
        assert!(realm.invocation(callee).receive_progress);
        assert!(!realm.invocation(callee).receive_progress);
        for text in ["one", "two"] {
            realm.answer_with(callee, 1, Outcome::Progress, text);
            realm.answer_with(callee, 2, Outcome::Progress, text);
        }
        realm.answer_with(callee, 1, Outcome::Result, "end");
        realm.answer_with(callee, 2, Outcome::Result, "end");
        realm.answer_with(callee, 1, Outcome::Progress, "after the end");
        for (outcome, text) in [(Outcome::Progress, "one"), (Outcome::Progress, "two"), (Outcome::Result, "end")] {
            let answer = realm.answer(caller);
            assert_eq!((answer.request, answer.outcome, answer.payload), (RequestId(1), outcome, payload(text)));
        }
        assert_eq!(realm.answer(caller).request, RequestId(2));
        realm.nothing(caller);
        realm.nothing(callee);
    }

    #[test]
    fn progress_is_asked_only_of_callees_that_announce_it() {
        for (callee_progress, callee_canceling) in [(true, false), (true, true), (false, true), (false, false)] {
            let (mut realm, callee, caller) = pair_with(Features { callee_progress, callee_canceling, ..NO_FEATURES });
            realm.call_with(caller, Call { receive_progress: true, ..wamp_call(1, "a.b") });
            assert_eq!(realm.invocation(callee).receive_progress, callee_progress);
        }
    }

    #[test]
    fn a_late_answer_is_ignored_and_one_never_asked_for_ends_the_connection() {
        let (mut realm, callee, caller) = pair();
        realm.call(caller, 1, "a.b");
        realm.invocation(callee);
        realm.answer_with(callee, 1, Outcome::Result, "first");
        realm.answer_with(callee, 1, Outcome::Result, "again");
        realm.answer_with(callee, 1, custom("a.error"), "again");
        assert_eq!(realm.answer(caller).payload, payload("first"));
        realm.nothing(caller);
        realm.nothing(callee);
        realm.answer_with(callee, 2, Outcome::Result, "not issued");
        is_ended(&mut realm, callee);
        realm.answer_with(caller, 0, Outcome::Result, "zero");
        is_ended(&mut realm, caller);
    }

    #[test]
    fn nobody_answers_the_invocation_of_another() {
        let (mut realm, callee, caller) = pair();
        let other = realm.wamp();
        realm.register(other, "c").unwrap();
        realm.call(other, 1, "c");
        realm.answer_with(other, 1, Outcome::Result, "own");
        realm.call(caller, 1, "a.b");
        // The number 1 of `other` is its own, answered long ago.
        realm.answer_with(other, 1, Outcome::Result, "forged");
        realm.nothing(caller);
        realm.answer_with(callee, 1, Outcome::Result, "true");
        assert_eq!(realm.answer(caller).payload, payload("true"));
    }

    #[test]
    fn cancel_skip_answers_at_once_and_leaves_the_callee_alone() {
        let (mut realm, callee, caller) = pair();
        realm.call(caller, 1, "a.b");
        realm.invocation(callee);
        realm.cancel(caller, 1, CancelMode::Skip);
        router_error(&mut realm, caller, 1, Reason::Canceled);
        realm.nothing(callee);
        realm.answer_with(callee, 1, Outcome::Result, "discarded");
        realm.nothing(caller);
        realm.nothing(callee);
    }

    #[test]
    fn cancel_kill_waits_for_the_callee() {
        let (mut realm, callee, caller) = pair();
        for (request, answer) in [(1, custom("wamp.error.canceled")), (2, Outcome::Result)] {
            realm.call(caller, request, "a.b");
            realm.invocation(callee);
            realm.cancel(caller, request, CancelMode::Kill);
            realm.nothing(caller);
            assert_eq!(realm.interrupt(callee), (request, CancelMode::Kill, Reason::Canceled));
            realm.cancel(caller, request, CancelMode::Kill);
            realm.nothing(callee);
            realm.answer_with(callee, request, answer.clone(), "");
            assert_eq!(realm.answer(caller).outcome, answer);
        }
    }

    #[test]
    fn a_second_cancel_may_stop_the_waiting() {
        let (mut realm, callee, caller) = pair();
        realm.call(caller, 1, "a.b");
        realm.cancel(caller, 1, CancelMode::Kill);
        realm.cancel(caller, 1, CancelMode::KillNoWait);
        router_error(&mut realm, caller, 1, Reason::Canceled);
        realm.invocation(callee);
        assert_eq!(realm.interrupt(callee), (1, CancelMode::Kill, Reason::Canceled));
        realm.nothing(callee);
    }

    #[test]
    fn cancel_killnowait_answers_at_once_and_tells_the_callee() {
        let (mut realm, callee, caller) = pair();
        realm.call(caller, 1, "a.b");
        realm.invocation(callee);
        realm.cancel(caller, 1, CancelMode::default());
        router_error(&mut realm, caller, 1, Reason::Canceled);
        assert_eq!(realm.interrupt(callee), (1, CancelMode::KillNoWait, Reason::Canceled));
        realm.answer_with(callee, 1, custom("wamp.error.canceled"), "");
        realm.nothing(caller);
        realm.nothing(callee);
    }

    #[test]
    fn cancel_is_skip_where_the_callee_cannot_be_interrupted() {
        let (mut realm, callee, caller) = pair_with(NO_FEATURES);
        for (request, mode) in [(1, CancelMode::Kill), (2, CancelMode::KillNoWait)] {
            realm.call(caller, request, "a.b");
            realm.invocation(callee);
            realm.cancel(caller, request, mode);
            router_error(&mut realm, caller, request, Reason::Canceled);
            realm.nothing(callee);
        }
    }

    #[test]
    fn cancel_of_no_call_is_ignored() {
        let (mut realm, callee, caller) = pair();
        realm.cancel(caller, 1, CancelMode::Kill);
        realm.call(caller, 2, "a.b");
        realm.answer_with(callee, 1, Outcome::Result, "");
        realm.answer(caller);
        realm.cancel(caller, 2, CancelMode::KillNoWait);
        realm.nothing(caller);
        realm.invocation(callee);
        realm.nothing(callee);
    }

    #[test]
    fn progress_for_an_abandoned_call_is_interrupted_once() {
        let (mut realm, callee, caller) = pair();
        realm.call_with(caller, Call { receive_progress: true, ..wamp_call(1, "a.b") });
        realm.invocation(callee);
        realm.cancel(caller, 1, CancelMode::Skip);
        router_error(&mut realm, caller, 1, Reason::Canceled);
        realm.answer_with(callee, 1, Outcome::Progress, "still there");
        assert_eq!(realm.interrupt(callee), (1, CancelMode::KillNoWait, Reason::Canceled));
        realm.answer_with(callee, 1, Outcome::Progress, "still there");
        realm.answer_with(callee, 1, Outcome::Result, "end");
        realm.nothing(callee);
        realm.nothing(caller);
    }

    #[test]
    fn abandoned_invocations_are_remembered_within_the_bound() {
        let limits = Limits { max_pending_calls_per_session: 3, ..Limits::default() };
        let mut realm = Realm::with_limits(limits);
        let (callee, caller) = (realm.wamp(), realm.wamp());
        realm.register(callee, "a.b").unwrap();
        for request in 1..=10 {
            realm.call(caller, request, "a.b");
            realm.cancel(caller, request, CancelMode::Skip);
        }
        realm.inbox(callee);
        realm.answer_with(callee, 7, Outcome::Progress, "forgotten");
        realm.nothing(callee);
        realm.answer_with(callee, 8, Outcome::Progress, "remembered");
        assert_eq!(realm.interrupt(callee).0, 8);
    }

    #[test]
    fn a_timeout_answers_the_caller_and_tells_the_callee() {
        let (mut realm, callee, caller) = pair();
        realm.call_with(caller, Call { timeout_ms: 500, ..wamp_call(1, "a.b") });
        assert_eq!(realm.invocation(callee).timeout_ms, None);
        realm.advance(499);
        realm.nothing(caller);
        realm.advance(1);
        router_error(&mut realm, caller, 1, Reason::Timeout);
        assert_eq!(realm.interrupt(callee), (1, CancelMode::KillNoWait, Reason::Timeout));
        realm.answer_with(callee, 1, Outcome::Result, "too late");
        realm.nothing(caller);
        assert_eq!(realm.router.poll_timeout(), None);
    }

    #[test]
    fn a_call_that_is_over_has_no_timer() {
        let (mut realm, callee, caller) = pair();
        realm.call_with(caller, Call { timeout_ms: 500, ..wamp_call(1, "a.b") });
        assert_eq!(realm.router.poll_timeout(), Some(realm.now_ms + 500));
        realm.answer_with(callee, 1, Outcome::Result, "in time");
        assert_eq!(realm.router.poll_timeout(), None);
        realm.call_with(caller, Call { timeout_ms: u64::MAX, ..wamp_call(2, "a.b") });
        assert_eq!(realm.router.poll_timeout(), Some(u64::MAX));
    }

    #[test]
    fn a_timeout_counts_from_result_to_result() {
        let (mut realm, callee, caller) = pair();
        realm.call_with(caller, Call { timeout_ms: 500, receive_progress: true, ..wamp_call(1, "a.b") });
        realm.advance(400);
        realm.answer_with(callee, 1, Outcome::Progress, "one");
        realm.advance(400);
        assert_eq!(realm.answer(caller).outcome, Outcome::Progress);
        realm.nothing(caller);
        realm.advance(100);
        router_error(&mut realm, caller, 1, Reason::Timeout);
    }

    #[test]
    fn a_killed_call_still_times_out() {
        let (mut realm, callee, caller) = pair();
        realm.call_with(caller, Call { timeout_ms: 500, ..wamp_call(1, "a.b") });
        realm.cancel(caller, 1, CancelMode::Kill);
        realm.advance(500);
        router_error(&mut realm, caller, 1, Reason::Timeout);
        realm.invocation(callee);
        assert_eq!(realm.interrupt(callee).1, CancelMode::Kill);
        realm.nothing(callee);
    }

    #[test]
    fn a_timeout_is_forwarded_to_callees_that_asked_and_can() {
        for (features, is_forwarded) in [(ALL_FEATURES, true), (NO_FEATURES, false)] {
            let mut realm = Realm::new();
            let (callee, caller) = (realm.wamp_with(features), realm.wamp());
            let options = RegisterOptions { forward_timeout: true, ..RegisterOptions::default() };
            realm.register_with(callee, "a", MatchPolicy::Exact, options).unwrap();
            realm.call_with(caller, Call { timeout_ms: 500, ..wamp_call(1, "a") });
            assert_eq!(realm.invocation(callee).timeout_ms, is_forwarded.then_some(500));
            assert_eq!(realm.router.poll_timeout().is_none(), is_forwarded);
            realm.call(caller, 2, "a");
            assert_eq!(realm.invocation(callee).timeout_ms, None);
        }
    }

    #[test]
    fn the_callee_is_told_when_its_caller_leaves() {
        let (mut realm, callee, caller) = pair();
        for request in 1..=8 {
            realm.call_with(caller, Call { timeout_ms: 500, ..wamp_call(request, "a.b") });
        }
        realm.inbox(callee);
        realm.lose(caller);
        for invocation in 1..=8 {
            assert_eq!(realm.interrupt(callee), (invocation, CancelMode::KillNoWait, Reason::Canceled));
        }
        realm.answer_with(callee, 1, Outcome::Result, "discarded");
        realm.nothing(callee);
        assert_eq!((realm.pending(), realm.router.poll_timeout()), (0, None));
    }

    #[test]
    fn every_waiting_caller_is_told_when_the_callee_leaves() {
        let (mut realm, callee, caller) = pair();
        let other = realm.wamp();
        realm.call(caller, 1, "a.b");
        realm.call(other, 1, "a.b");
        realm.call(caller, 2, "a.b");
        realm.lose(callee);
        assert_eq!(realm.error(caller), (1, ErrorUri::Reason(Reason::Canceled)));
        router_error(&mut realm, caller, 2, Reason::Canceled);
        router_error(&mut realm, other, 1, Reason::Canceled);
        assert_eq!(realm.pending(), 0);
    }

    #[test]
    fn a_session_that_calls_itself_may_leave() {
        let (mut realm, callee, _) = pair();
        realm.call(callee, 1, "a.b");
        realm.lose(callee);
        realm.invocation(callee);
        realm.nothing(callee);
        assert_eq!(realm.pending(), 0);
        assert_eq!(realm.router.census().sessions, 1);
    }

    #[test]
    fn a_taken_over_session_leaves_its_calls() {
        let (mut realm, callee, _) = pair();
        let caller = realm.persistent("c");
        realm.call_with(caller, call_to("a.b", reply_topic("$reply/1", "x")));
        realm.invocation(callee);
        let again = realm.persistent("c");
        assert_eq!(realm.interrupt(callee), (1, CancelMode::KillNoWait, Reason::Canceled));
        realm.nothing(again);
        assert_eq!(realm.pending(), 0);
    }

    #[test]
    fn callers_are_disclosed_where_either_side_asks() {
        let mut realm = Realm::new();
        let (callee, caller) = (realm.wamp(), realm.wamp());
        realm.register(callee, "plain").unwrap();
        let options = RegisterOptions { disclose_caller: true, ..RegisterOptions::default() };
        realm.register_with(callee, "curious", MatchPolicy::Exact, options).unwrap();
        realm.call(caller, 1, "plain");
        assert_eq!(realm.invocation(callee).caller, None);
        realm.call_with(caller, Call { disclose_me: true, ..wamp_call(2, "plain") });
        let shown = realm.invocation(callee).caller.unwrap();
        assert_eq!((shown.session.0, &*shown.principal.authid), (1_002, "user"));
        realm.call(caller, 3, "curious");
        assert_eq!(realm.invocation(callee).caller, Some(shown));
    }

    #[test]
    fn calls_on_their_way_are_bounded_on_both_sides() {
        let mut realm = Realm::with_limits(Limits { max_pending_calls_per_session: 2, ..Limits::default() });
        let (callee, other, caller, second) = (realm.wamp(), realm.wamp(), realm.wamp(), realm.wamp());
        realm.register(callee, "a.b").unwrap();
        realm.register(other, "c").unwrap();
        realm.call(caller, 1, "a.b");
        realm.call(caller, 2, "a.b");
        realm.call(caller, 3, "c");
        router_error(&mut realm, caller, 3, Reason::QuotaExceeded);
        realm.call(second, 1, "a.b");
        router_error(&mut realm, second, 1, Reason::QuotaExceeded);
        realm.answer_with(callee, 1, Outcome::Result, "");
        realm.answer(caller);
        realm.call(caller, 4, "c");
        realm.nothing(caller);
        realm.call(second, 2, "a.b");
        realm.nothing(second);
    }

    #[test]
    fn what_reply_addresses_hold_is_bounded() {
        let mut realm = Realm::with_limits(Limits { max_session_queue_bytes: 20, ..Limits::default() });
        let callee = realm.wamp();
        realm.register(callee, "a").unwrap();
        let caller = realm.mqtt("c");
        realm.subscribe(caller, "$reply/#", Qos::AtMostOnce).unwrap();
        realm.call_with(caller, call_to("a", reply_topic("$reply/1", "12")));
        realm.nothing(caller);
        realm.call_with(caller, call_to("a", reply_topic("$reply/2", "123")));
        let event = realm.event(caller);
        assert_eq!(event.publication.properties.as_ref().unwrap().outcome, Some(refusal(Reason::QuotaExceeded)));
        realm.answer_with(callee, 1, Outcome::Result, "");
        realm.event(caller);
        realm.call_with(caller, call_to("a", reply_topic("$reply/3", "1234")));
        realm.nothing(caller);
    }

    /// One random step of a session; true if the session is to be replaced.
    fn step(realm: &mut Realm, chance: &mut Chance, session: ConnectionId, request: u64) -> bool {
        let uri = ["a", "b", "c.d", "e"][chance.below(4)];
        let invoke = [InvokePolicy::Single, InvokePolicy::RoundRobin, InvokePolicy::Last][chance.below(3)];
        let form = [CalleeForm::Invocation, CalleeForm::Publication, CalleeForm::PublicationById][chance.below(3)];
        let number = 1 + chance.below(4) as u64;
        match chance.below(12) {
            0 => drop(realm.register_with(
                session,
                uri,
                [MatchPolicy::Exact, MatchPolicy::Prefix][chance.below(2)],
                RegisterOptions { invoke, form, ..RegisterOptions::default() },
            )),
            1..5 => {
                let reply = match chance.below(4) {
                    0 => reply_topic("$reply/x", "correlation"),
                    1 => ReplyTo::CallId("9".into()),
                    2 => ReplyTo::Nobody,
                    _ => ReplyTo::Request(RequestId(request)),
                };
                let timeout_ms = [0, 3][chance.below(2)];
                let receive_progress = chance.below(2) == 0;
                realm.call_with(session, Call { timeout_ms, receive_progress, ..call_to(uri, reply) });
            }
            5 | 6 => {
                let outcome = [Outcome::Progress, Outcome::Result][chance.below(2)].clone();
                realm.answer_with(session, number, outcome, "");
            }
            7 => {
                let mode = [CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait][chance.below(3)];
                realm.cancel(session, request.saturating_sub(chance.below(20) as u64), mode);
            }
            8 => realm.advance(1),
            9 => drop(realm.inbox(session)),
            10 => drop(realm.give_up(
                session,
                UnsubscribeEntry::Procedure { filter: Filter::from_uri(uri, MatchPolicy::Exact).unwrap(), form },
            )),
            _ => {
                realm.lose(session);
                return true;
            }
        }
        false
    }

    #[test]
    fn whatever_happens_nothing_stays_behind() {
        let mut chance = Chance(88_172_645_463_325_252);
        let mut realm = Realm::with_limits(Limits { max_pending_calls_per_session: 5, ..Limits::default() });
        let open = |realm: &mut Realm, place: usize| match place {
            0 | 1 => realm.wamp(),
            2 => realm.mqtt("plain"),
            _ => realm.persistent("persistent"),
        };
        let mut sessions: Vec<_> = (0..4).map(|place| open(&mut realm, place)).collect();
        let mut most = 0;
        for request in 0..20_000 {
            let place = chance.below(sessions.len());
            // An answer to an invocation never issued ends a WAMP session too.
            let is_lost = step(&mut realm, &mut chance, sessions[place], request);
            if is_lost || realm.inbox(sessions[place]).iter().any(|told| matches!(told, Delivery::Close(_))) {
                sessions[place] = open(&mut realm, place);
            }
            most = most.max(realm.pending());
        }
        assert!(most > 5, "{most}");
        for session in sessions {
            realm.lose(session);
        }
        realm.advance(3_600_000);
        let census = realm.router.census();
        assert_eq!((realm.pending(), census.registrations, census.sessions), (0, 0, 0));
        assert_eq!(realm.router.poll_timeout(), None);
    }
}
