//! Calls on their way: from the caller to a callee, and its answers back, until one of them has had enough.
use super::Router;
use super::dealer::Choice;
use super::lifecycle::Due;
use super::session::SessionKey;
use super::timers::TimerKey;
use crate::model::command::{Acknowledge, Call, CalleeForm, CancelMode, Outcome, ReplyTo, Yield};
use crate::model::delivery::{Answer, Invocation};
use crate::model::publication::Properties;
use crate::model::{ConnectionId, Delivery, ErrorUri, InvocationId, Payload, PublicationId, Qos, Reason, RequestId};

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
    /// Bytes that its reply address holds while the call is on its way.
    fn reply_bytes(&self) -> usize {
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
        let caller = Caller { session: Some(key), reply, qos: qos_of(call.acknowledge) };
        match self.choose(key, &caller, &call) {
            Ok(choice) => Ok(self.invoke(key, caller, call, choice)),
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
        // A callee that cannot be canceled counts as one without progressive results (WAMP: Advanced, Progressive Call Results).
        let has_progress = session.features.callee_progress && session.features.callee_canceling;
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
        let Some(place) = self.sessions.at(key).and_then(|session| session.calls.get(&request).copied()) else { return };
        let is_told = mode != CancelMode::Skip && self.interrupt_pending(place, mode, Reason::Canceled);
        if mode == CancelMode::Kill && is_told {
            return;
        }
        self.abandon(place, Message::error(Reason::Canceled));
    }

    /// The time of a call is over.
    pub(super) fn time_out(&mut self, place: u32) {
        if let Some(pending) = self.pending.get_mut(place as usize) {
            pending.timer = None;
        }
        self.interrupt_pending(place, CancelMode::KillNoWait, Reason::Timeout);
        self.abandon(place, Message::error(Reason::Timeout));
    }

    /// Callers that wait for a session that is gone (WAMP: Basic, Callee Leaving During an RPC Invocation).
    pub(super) fn abandon_invocations(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at_mut(key) else { return };
        session.abandoned.clear();
        let mut places: Vec<_> = session.invocations.iter().map(|(invocation, place)| (*invocation, *place)).collect();
        places.sort_unstable();
        for (_, place) in places {
            self.finish(place, Message::error(Reason::Canceled));
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
    fn answer(&mut self, caller: &Caller, message: Message) -> bool {
        let Some(key) = caller.session else { return false };
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
        Acknowledge::ExactlyOnce(_) => Qos::ExactlyOnce,
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
