//! Calls on their way, as both sides have them: who called, who is called, and how long each may take.
use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;
use slab::Slab;

use crate::model::command::ReplyTo;
use crate::model::{InvocationId, RequestId};
use crate::router::base::context::Context;
use crate::router::base::due::Due;
use crate::router::base::key::SessionKey;
use crate::router::base::reply::{Caller, request_of};
use crate::router::base::timers::TimerKey;
use crate::router::dealer::remembered::Remembered;

/// A call that a callee has and its caller waits for.
#[derive(Debug)]
pub struct Pending {
    /// The caller, who waits for the answer.
    pub caller: Caller,
    /// The callee, who is to give it.
    pub callee: SessionKey,
    /// The callee's number for it.
    pub invocation: InvocationId,
    /// The caller takes progressive results.
    pub receive_progress: bool,
    /// Time to the first result and between results, in milliseconds; 0 = the router does not watch it.
    pub timeout_ms: u64,
    /// The timer of its end.
    pub timer: Option<TimerKey>,
    /// The callee was told to stop.
    pub is_interrupted: bool,
}

/// The calls of one session, as caller and as callee.
#[derive(Debug, Default)]
struct Side {
    /// Calls that wait for an answer, by request.
    requests: HashMap<RequestId, u32, FixedState>,
    /// Calls by topic, which have no request id.
    by_topic: BTreeSet<u32>,
    /// Bytes that the reply addresses of its calls hold.
    reply_bytes: usize,
    /// Invocations that it has not answered and somebody waits for.
    invocations: HashMap<InvocationId, u32, FixedState>,
    /// Invocations that nobody waits for any more and of which it has not been told.
    abandoned: BTreeSet<InvocationId>,
    /// The last invocation id given to it.
    last_invocation: u64,
}

/// All calls of a realm that somebody waits for.
#[derive(Debug, Default)]
pub struct Calls {
    pending: Slab<Pending>,
    sides: HashMap<SessionKey, Side, FixedState>,
    remembered: Remembered,
}

impl Calls {
    /// True if a session may make one more call whose reply address holds so many bytes.
    pub fn has_room(&self, caller: SessionKey, reply_bytes: usize, max_calls: usize, max_bytes: usize) -> bool {
        let Some(side) = self.sides.get(&caller) else { return max_calls > 0 && reply_bytes <= max_bytes };
        side.requests.len() + side.by_topic.len() < max_calls && side.reply_bytes + reply_bytes <= max_bytes
    }

    /// True if a session may hold so many more bytes of reply addresses.
    pub fn has_reply_room(&self, caller: SessionKey, reply_bytes: usize, max_bytes: usize) -> bool {
        self.sides.get(&caller).map_or(0, |side| side.reply_bytes).saturating_add(reply_bytes) <= max_bytes
    }

    /// A call that waits otherwise than here holds so many bytes of its reply address.
    pub fn hold_reply(&mut self, caller: SessionKey, reply_bytes: usize) {
        self.sides.entry(caller).or_default().reply_bytes += reply_bytes;
    }

    /// The caller waits no longer.
    pub fn release_reply(&mut self, caller: SessionKey, reply_bytes: usize) {
        if let Some(side) = self.sides.get_mut(&caller) {
            side.reply_bytes = side.reply_bytes.saturating_sub(reply_bytes);
        }
    }

    /// The number of invocations that a session has not answered.
    pub fn unanswered(&self, callee: SessionKey) -> usize {
        self.sides.get(&callee).map_or(0, |side| side.invocations.len())
    }

    /// The number of the next invocation of a session.
    pub fn next_invocation(&mut self, callee: SessionKey) -> InvocationId {
        let side = self.sides.entry(callee).or_default();
        side.last_invocation += 1;
        InvocationId(side.last_invocation)
    }

    /// True for the number of an invocation that a session was given, answered or not.
    pub fn was_invoked(&self, callee: SessionKey, invocation: InvocationId) -> bool {
        let last = self.sides.get(&callee).map_or(0, |side| side.last_invocation);
        (1..=last).contains(&invocation.0)
    }

    /// Enters a call of `caller` in the tables of both sides and starts its time; where it stands.
    pub fn start(&mut self, caller: SessionKey, pending: Pending, cx: &mut Context) -> u32 {
        let (callee, invocation, reply_bytes) = (pending.callee, pending.invocation, pending.caller.reply_bytes());
        let request = request_of(&pending.caller.reply);
        let place = self.pending.insert(pending) as u32;
        let side = self.sides.entry(caller).or_default();
        side.reply_bytes += reply_bytes;
        match request {
            Some(request) => drop(side.requests.insert(request, place)),
            None => drop(side.by_topic.insert(place)),
        }
        self.sides.entry(callee).or_default().invocations.insert(invocation, place);
        self.restart_timer(place, cx);
        place
    }

    /// (Re)starts the time that a call has until its next result (WAMP: Advanced, Progressive Call Results, Timeouts).
    pub fn restart_timer(&mut self, place: u32, cx: &mut Context) {
        let Some(pending) = self.pending.get_mut(place as usize).filter(|pending| pending.timeout_ms > 0) else { return };
        if let Some(timer) = pending.timer.take() {
            cx.timers.clear(timer);
        }
        pending.timer = Some(cx.timers.set(cx.now_ms.saturating_add(pending.timeout_ms), Due::Call(place)));
    }

    /// Takes a call out of the tables of both sides.
    pub fn take(&mut self, place: u32, cx: &mut Context) -> Option<Pending> {
        let pending = self.pending.try_remove(place as usize)?;
        if let Some(timer) = pending.timer {
            cx.timers.clear(timer);
        }
        if let Some(side) = pending.caller.session.and_then(|key| self.sides.get_mut(&key)) {
            side.reply_bytes = side.reply_bytes.saturating_sub(pending.caller.reply_bytes());
            match request_of(&pending.caller.reply) {
                Some(request) => drop(side.requests.remove(&request)),
                None => drop(side.by_topic.remove(&place)),
            }
        }
        if let Some(side) = self.sides.get_mut(&pending.callee) {
            side.invocations.remove(&pending.invocation);
        }
        Some(pending)
    }

    /// The call at this place.
    pub fn at(&self, place: u32) -> Option<&Pending> {
        self.pending.get(place as usize)
    }

    /// The callee of the call at this place was told to stop, or could not be.
    pub fn note_interrupted(&mut self, place: u32, is_told: bool) {
        if let Some(pending) = self.pending.get_mut(place as usize) {
            pending.is_interrupted = is_told;
        }
    }

    /// The call that a session has made under this request.
    pub fn of_request(&self, caller: SessionKey, request: RequestId) -> Option<u32> {
        self.sides.get(&caller)?.requests.get(&request).copied()
    }

    /// The call that a session has under this invocation.
    pub fn of_invocation(&self, callee: SessionKey, invocation: InvocationId) -> Option<u32> {
        self.sides.get(&callee)?.invocations.get(&invocation).copied()
    }

    /// Where the calls stand that a session has not answered, in the order in which it was given them.
    pub fn of_callee(&self, callee: SessionKey) -> Vec<u32> {
        let invocations = self.sides.get(&callee).into_iter().flat_map(|side| &side.invocations);
        let mut places: Vec<_> = invocations.map(|(invocation, place)| (*invocation, *place)).collect();
        places.sort_unstable();
        places.into_iter().map(|(_, place)| place).collect()
    }

    /// The caller has left: where those of its calls stand that want an answer, in the order of requests. The others go on.
    pub fn leave(&mut self, caller: SessionKey) -> Vec<u32> {
        let Some(side) = self.sides.get_mut(&caller) else { return Vec::new() };
        let mut requests: Vec<_> = side.requests.iter().map(|(request, place)| (*request, *place)).collect();
        requests.sort_unstable();
        let by_topic = std::mem::take(&mut side.by_topic);
        let mut places: Vec<u32> = requests.into_iter().map(|(_, place)| place).chain(by_topic).collect();
        places.retain(|place| match self.pending.get_mut(*place as usize) {
            Some(pending) if pending.caller.reply == ReplyTo::Nobody => {
                pending.caller.session = None;
                false
            }
            _ => true,
        });
        places
    }

    /// Nobody waits for this invocation any more, of which its callee has not been told; of those it has, `max` are remembered.
    pub fn note_abandoned(&mut self, callee: SessionKey, invocation: InvocationId, max: usize) {
        let Some(side) = self.sides.get_mut(&callee) else { return };
        side.abandoned.insert(invocation);
        if side.abandoned.len() > max {
            side.abandoned.pop_first();
        }
    }

    /// True for an invocation that nobody waits for, and of which its callee has not been told.
    pub fn is_abandoned(&self, callee: SessionKey, invocation: InvocationId) -> bool {
        self.sides.get(&callee).is_some_and(|side| side.abandoned.contains(&invocation))
    }

    /// Its callee has been told, or is done with it.
    pub fn forget_abandoned(&mut self, callee: SessionKey, invocation: InvocationId) {
        if let Some(side) = self.sides.get_mut(&callee) {
            side.abandoned.remove(&invocation);
        }
    }

    /// A session of an MQTT client begins: its invocations go on counting behind those of the session before.
    pub fn begin(&mut self, session: SessionKey, client: &str) {
        let last_invocation = self.remembered.last_of(client);
        if last_invocation > 0 {
            self.sides.insert(session, Side { last_invocation, ..Side::default() });
        }
    }

    /// A session has ended, of this client if it was MQTT's.
    pub fn forget(&mut self, session: SessionKey, client: Option<&str>) {
        let last = self.sides.remove(&session).map_or(0, |side| side.last_invocation);
        if let Some(client) = client {
            self.remembered.note(client, last);
        }
    }

    /// There was a process before this one, whose invocations are on no record; `chance`: all of its bits are random.
    pub fn skip_earlier(&mut self, chance: u64) {
        self.remembered.base = 1 + (chance >> 16);
    }

    /// Calls on their way, of the whole realm.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Limits, Qos};

    fn pending(caller: SessionKey, callee: SessionKey, invocation: InvocationId, reply: ReplyTo) -> Pending {
        let caller = Caller { session: Some(caller), reply, qos: Qos::AtMostOnce, name: None, lock: None };
        let (receive_progress, timeout_ms, timer, is_interrupted) = (false, 10, None, false);
        Pending { caller, callee, invocation, receive_progress, timeout_ms, timer, is_interrupted }
    }

    #[test]
    fn a_call_stands_in_the_tables_of_both_sides_until_it_is_taken() {
        let (mut calls, mut cx) = (Calls::default(), Context::new(Limits::default(), 1));
        let (a, b) = (SessionKey::new(1, 1), SessionKey::new(2, 2));
        let invocation = calls.next_invocation(b);
        let place = calls.start(a, pending(a, b, invocation, ReplyTo::Request(RequestId(7))), &mut cx);
        assert_eq!((calls.of_request(a, RequestId(7)), calls.of_invocation(b, invocation)), (Some(place), Some(place)));
        assert_eq!((calls.of_callee(b), calls.unanswered(b), cx.timers.next_ms()), (vec![place], 1, Some(10)));
        assert!(!calls.has_room(a, 0, 1, 9) && calls.has_room(a, 9, 2, 9) && !calls.has_room(a, 10, 2, 9));
        assert!(calls.take(place, &mut cx).is_some() && calls.take(place, &mut cx).is_none());
        assert_eq!((calls.of_request(a, RequestId(7)), calls.unanswered(b), cx.timers.next_ms()), (None, 0, None));
        assert!(
            calls.was_invoked(b, invocation) && !calls.was_invoked(b, InvocationId(2)) && !calls.was_invoked(b, InvocationId(0))
        );
    }

    #[test]
    fn a_caller_that_leaves_takes_what_it_wanted_an_answer_for() {
        let (mut calls, mut cx) = (Calls::default(), Context::new(Limits::default(), 1));
        let (a, b) = (SessionKey::new(1, 1), SessionKey::new(2, 2));
        let mut start = |reply| {
            let invocation = calls.next_invocation(b);
            calls.start(a, pending(a, b, invocation, reply), &mut cx)
        };
        let (silent, wanted) = (start(ReplyTo::Nobody), start(ReplyTo::CallId("x".into())));
        assert_eq!(calls.leave(a), [wanted]);
        assert!(calls.at(silent).is_some_and(|pending| pending.caller.session.is_none()));
        calls.note_abandoned(b, InvocationId(1), 1);
        calls.note_abandoned(b, InvocationId(2), 1);
        assert!(!calls.is_abandoned(b, InvocationId(1)) && calls.is_abandoned(b, InvocationId(2)));
        calls.forget(b, None);
        assert!(!calls.was_invoked(b, InvocationId(1)));
    }
}
