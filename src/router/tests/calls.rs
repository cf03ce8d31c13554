//! Calls between WAMP sessions.
use super::{ALL_FEATURES, Realm, call_to, payload, refusal, reply_topic, wamp_call};
use crate::model::command::{Call, CalleeForm, CancelMode, Features, InvokePolicy, RegisterOptions, ReplyTo, UnsubscribeEntry};
use crate::model::outcome::Outcome;
use crate::model::{ConnectionId, Delivery, ErrorUri, Filter, InvocationId, Limits, MatchPolicy, Qos, Reason, RequestId};
use crate::router::matcher::tests::Chance;

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
    let numbers = |realm: &mut Realm, callee, count| -> Vec<u64> { (0..count).map(|_| realm.invocation(callee).id.0).collect() };
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
    assert_eq!(realm.router.sizes().sessions, 1);
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
        10 => {
            let _ = realm.give_up(
                session,
                UnsubscribeEntry::Procedure { filter: Filter::from_uri(uri, MatchPolicy::Exact).unwrap(), form },
            );
        }
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
    let census = realm.router.sizes();
    assert_eq!((realm.pending(), census.registrations, census.sessions), (0, 0, 0));
    assert_eq!(realm.router.poll_timeout(), None);
}
