//! Registrations, shared and by pattern.
use crate::model::command::{
    CalleeForm, Features, InvokePolicy, Open, Protocol, RegisterOptions, ReplyTo, SubscribeEntry, UnsubscribeEntry,
};
use crate::model::delivery::Granted;
use crate::model::outcome::Outcome;
use crate::model::{ErrorUri, Filter, Limits, MatchPolicy, Qos, Reason};

use super::{Realm, call_to, mqtt_open, wamp_call};

/// Which of the callees got each of five calls.
fn shares(policy: InvokePolicy) -> Vec<usize> {
    let mut realm = Realm::new();
    let callees = [realm.wamp(), realm.wamp(), realm.wamp()];
    let ids: Vec<_> = callees.iter().map(|callee| realm.register_shared(*callee, "a.b", policy).unwrap()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    let caller = realm.wamp();
    (1..=12)
        .map(|request| {
            realm.call(caller, request, "a.b");
            callees.iter().position(|callee| !realm.inbox(*callee).is_empty()).unwrap()
        })
        .collect()
}

#[test]
fn policies_choose_among_callees() {
    assert_eq!(shares(InvokePolicy::RoundRobin), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
    assert_eq!(shares(InvokePolicy::First), [0; 12]);
    assert_eq!(shares(InvokePolicy::Last), [2; 12]);
    let random = shares(InvokePolicy::Random);
    assert!((0..3).all(|callee| random.contains(&callee)), "{random:?}");
    assert_ne!(random, shares(InvokePolicy::RoundRobin));
}

#[test]
fn round_robin_goes_on_where_it_was_when_a_callee_leaves() {
    let mut realm = Realm::new();
    let callees = [realm.wamp(), realm.wamp(), realm.wamp()];
    for callee in callees {
        realm.register_shared(callee, "a", InvokePolicy::RoundRobin).unwrap();
    }
    let caller = realm.wamp();
    realm.call(caller, 1, "a");
    realm.call(caller, 2, "a");
    realm.lose(callees[0]);
    realm.invocation(callees[1]);
    realm.call(caller, 3, "a");
    realm.invocation(callees[2]);
    realm.call(caller, 4, "a");
    realm.invocation(callees[1]);
}

#[test]
fn a_procedure_has_one_callee_unless_shared_under_one_policy() {
    let mut realm = Realm::new();
    let (a, b) = (realm.wamp(), realm.wamp());
    realm.register(a, "single").unwrap();
    assert_eq!(realm.register(b, "single"), Err(Reason::ProcedureAlreadyExists));
    assert_eq!(realm.register(a, "single"), Err(Reason::ProcedureAlreadyExists));
    assert_eq!(realm.register_shared(b, "single", InvokePolicy::First), Err(Reason::InvocationPolicyConflict));
    realm.register_shared(a, "shared", InvokePolicy::First).unwrap();
    assert_eq!(realm.register_shared(a, "shared", InvokePolicy::First), Err(Reason::ProcedureAlreadyExists));
    assert_eq!(realm.register_shared(b, "shared", InvokePolicy::Last), Err(Reason::InvocationPolicyConflict));
    assert_eq!(realm.register(b, "shared"), Err(Reason::InvocationPolicyConflict));
    realm.register_shared(b, "shared", InvokePolicy::First).unwrap();
    assert_eq!(realm.router.sizes().registrations, 2);
}

#[test]
fn a_repeated_mqtt_subscribe_replaces_its_own_registration() {
    let mut realm = Realm::new();
    let (a, b) = (realm.mqtt("a"), realm.mqtt("b"));
    let Ok(Granted::Registration(id, Qos::ExactlyOnce)) = realm.serve(a, "x", CalleeForm::Publication) else { panic!() };
    let options = RegisterOptions { form: CalleeForm::Publication, identifier: Some(3), ..RegisterOptions::default() };
    let again = SubscribeEntry::Procedure { filter: Filter::from_mqtt("x").unwrap(), options };
    assert_eq!(realm.ask(a, again), Ok(Granted::Registration(id, Qos::AtMostOnce)));
    realm.call_with(b, call_to("x", ReplyTo::Nobody));
    assert_eq!(realm.event(a).subscriptions.as_slice(), [3]);
    assert_eq!(realm.serve(a, "x", CalleeForm::PublicationById), Err(Reason::ProcedureAlreadyExists));
    assert_eq!(realm.serve(b, "x", CalleeForm::Publication), Err(Reason::ProcedureAlreadyExists));
}

#[test]
fn reserved_roots_are_not_for_clients() {
    let mut realm = Realm::new();
    let a = realm.wamp();
    let by = |realm: &mut Realm, uri: &str, policy| realm.register_with(a, uri, policy, RegisterOptions::default());
    let is_refused = |result| matches!(result, Err(Reason::ReservedName(_)));
    for uri in ["wamp.session.count", "corsac.x", "$call", "wamp", "$lock.y", "$corsac-x.y"] {
        assert!(is_refused(by(&mut realm, uri, MatchPolicy::Exact)), "{uri}");
        assert!(is_refused(by(&mut realm, uri, MatchPolicy::Prefix)), "{uri}");
    }
    for uri in ["wamp..count", "corsac.", "$SYS..y"] {
        assert!(is_refused(by(&mut realm, uri, MatchPolicy::Wildcard)), "{uri}");
    }
    assert!(is_refused(by(&mut realm, "corsac.", MatchPolicy::Prefix)));
    by(&mut realm, "", MatchPolicy::Prefix).unwrap();
    by(&mut realm, "$x.y", MatchPolicy::Exact).unwrap();
    by(&mut realm, "wampus", MatchPolicy::Prefix).unwrap();
    realm.call(a, 1, "wamp.session.other");
    assert_eq!(realm.error(a), (1, ErrorUri::Reason(Reason::NoSuchProcedure)));
}

#[test]
fn the_best_pattern_is_called_and_told_the_procedure() {
    let mut realm = Realm::new();
    let (exact, prefix, wildcard, caller) = (realm.wamp(), realm.wamp(), realm.wamp(), realm.wamp());
    let options = RegisterOptions::default();
    let registered = realm.register(exact, "a.b.c").unwrap();
    realm.register_with(prefix, "a.b", MatchPolicy::Prefix, options).unwrap();
    realm.register_with(wildcard, "a..c", MatchPolicy::Wildcard, options).unwrap();
    realm.call(caller, 1, "a.b.c");
    realm.call(caller, 2, "a.bee");
    realm.call(caller, 3, "a.x.c");
    let invocation = realm.invocation(exact);
    assert_eq!(invocation.procedure, None);
    assert_eq!(Granted::Registration(invocation.registration, Qos::AtMostOnce), registered);
    assert_eq!(realm.invocation(prefix).procedure.unwrap().as_uri(), "a.bee");
    assert_eq!(realm.invocation(wildcard).procedure.unwrap().as_uri(), "a.x.c");
}

#[test]
fn unregistering_ends_new_calls_and_not_those_taken() {
    let mut realm = Realm::new();
    let (callee, other, caller) = (realm.wamp(), realm.wamp(), realm.wamp());
    let Ok(Granted::Registration(id, _)) = realm.register(callee, "a") else { panic!() };
    realm.call(caller, 1, "a");
    assert_eq!(realm.give_up(other, UnsubscribeEntry::Registration(id)), Err(Reason::NoSuchRegistration));
    let invocation = realm.invocation(callee).id.0;
    assert_eq!(realm.give_up(callee, UnsubscribeEntry::Registration(id)), Ok(()));
    assert_eq!(realm.give_up(callee, UnsubscribeEntry::Registration(id)), Err(Reason::NoSuchRegistration));
    realm.call(caller, 2, "a");
    assert_eq!(realm.error(caller), (2, ErrorUri::Reason(Reason::NoSuchProcedure)));
    realm.answer_with(callee, invocation, Outcome::Result, "late");
    assert_eq!(realm.answer(caller).outcome, Outcome::Result);
    assert_eq!(realm.router.sizes().registrations, 0);
    assert_ne!(realm.register(callee, "b"), Ok(Granted::Registration(id, Qos::AtMostOnce)));
    assert_eq!(realm.give_up(callee, UnsubscribeEntry::Registration(id)), Err(Reason::NoSuchRegistration));
    assert_eq!(realm.router.sizes().registrations, 1);
}

#[test]
fn unsubscribing_by_filter_unregisters_an_mqtt_callee() {
    let mut realm = Realm::new();
    let callee = realm.mqtt("c");
    realm.serve(callee, "a/+", CalleeForm::Publication).unwrap();
    let entry = |form| UnsubscribeEntry::Procedure { filter: Filter::from_mqtt("a/+").unwrap(), form };
    assert_eq!(realm.give_up(callee, entry(CalleeForm::PublicationById)), Err(Reason::NoSuchRegistration));
    assert_eq!(realm.give_up(callee, entry(CalleeForm::Publication)), Ok(()));
    assert_eq!(realm.router.sizes().registrations, 0);
}

#[test]
fn registrations_of_a_session_are_bounded() {
    let mut realm = Realm::with_limits(Limits { max_registrations_per_session: 2, ..Limits::default() });
    let (a, b) = (realm.wamp(), realm.wamp());
    realm.register(a, "x1").unwrap();
    realm.register(a, "x2").unwrap();
    assert_eq!(realm.register(a, "x3"), Err(Reason::QuotaExceeded));
    realm.register(b, "x3").unwrap();
    let mqtt = realm.mqtt("m");
    for procedure in ["y1", "y2", "y1"] {
        realm.serve(mqtt, procedure, CalleeForm::Publication).unwrap();
    }
    assert_eq!(realm.serve(mqtt, "y3", CalleeForm::Publication), Err(Reason::QuotaExceeded));
}

#[test]
fn registrations_go_with_the_connection() {
    let mut realm = Realm::new();
    let (callee, caller) = (realm.wamp(), realm.wamp());
    realm.register(callee, "a").unwrap();
    realm.lose(callee);
    assert_eq!(realm.router.sizes().registrations, 0);
    realm.call(caller, 1, "a");
    assert_eq!(realm.error(caller), (1, ErrorUri::Reason(Reason::NoSuchProcedure)));
    let other = realm.wamp_with(Features::default());
    realm.register(other, "a").unwrap();
}

#[test]
fn a_persistent_session_registers_again_when_it_resumes() {
    let mut realm = Realm::new();
    let callee = realm.persistent("c");
    realm.serve(callee, "kept", CalleeForm::Publication).unwrap();
    realm.serve(callee, "taken", CalleeForm::Publication).unwrap();
    realm.lose(callee);
    assert_eq!(realm.router.sizes().registrations, 0);
    let other = realm.wamp();
    realm.register(other, "taken").unwrap();
    let callee = realm.persistent("c");
    assert_eq!(realm.router.sizes().registrations, 2);
    realm.call(other, 1, "kept");
    realm.call_with(other, wamp_call(2, "taken"));
    assert_eq!(realm.event(callee).publication.topic.as_mqtt(), "$callee/kept");
    realm.nothing(callee);
    // The registration that it lost to another is not its own any more.
    let name = Filter::from_mqtt("taken").unwrap();
    let entry = UnsubscribeEntry::Procedure { filter: name, form: CalleeForm::Publication };
    assert_eq!(realm.give_up(callee, entry), Err(Reason::NoSuchRegistration));
}

#[test]
fn the_end_of_a_stored_session_leaves_no_registration() {
    let mut realm = Realm::new();
    let callee = realm.persistent("c");
    realm.serve(callee, "a", CalleeForm::Publication).unwrap();
    realm.lose(callee);
    realm.advance(3_600_000);
    let callee = realm.open(Open { clean_start: false, ..mqtt_open(Protocol::Mqtt5, "c") });
    assert_eq!(realm.router.sizes().registrations, 0);
    realm.call_with(callee, call_to("a", ReplyTo::Nobody));
    realm.nothing(callee);
}
