//! Calls of and to MQTT sessions.
use crate::model::command::{
    Acknowledge, AcknowledgeStep, Acknowledgement, Call, CalleeForm, CancelMode, Features, Open, Protocol, RegisterOptions,
    ReplyTo, SubscribeEntry, SubscribeOptions, Yield,
};
use crate::model::delivery::Granted;
use crate::model::delivery::{Event, Taken};
use crate::model::outcome::Outcome;
use crate::model::properties::Properties;
use crate::model::{Command, ConnectionId, Delivery, ErrorUri, Filter, InvocationId, PacketId, Qos, Reason, RegistrationId};

use super::{Realm, call_to, mqtt_open, packet, payload, refusal, reply_topic, topic_and_outcome, wamp_call};

fn properties(event: &Event) -> &Properties {
    event.publication.properties.as_deref().unwrap()
}

fn user(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn at_least_once(call: Call, id: u16) -> Call {
    Call { acknowledge: Acknowledge::AtLeastOnce(packet(id)), ..call }
}

/// The next thing must be a PUBACK; whether somebody got the message.
fn acknowledged(realm: &mut Realm, connection: ConnectionId, id: u16) -> Result<bool, Reason> {
    match realm.next(connection) {
        Delivery::Acknowledged(packet_id, taken) if packet_id == packet(id) => taken.map(|taken| taken.has_receivers),
        other => panic!("not acknowledged: {other:?}"),
    }
}

/// A realm with a WAMP callee of `a.b` and an MQTT caller with `$reply/#` at QoS 1.
fn mqtt_caller() -> (Realm, ConnectionId, ConnectionId) {
    let mut realm = Realm::new();
    let (callee, caller) = (realm.wamp(), realm.mqtt("caller"));
    realm.register(callee, "a.b").unwrap();
    realm.subscribe(caller, "$reply/#", Qos::AtLeastOnce).unwrap();
    (realm, callee, caller)
}

/// A realm with an MQTT callee of `a.b` and a WAMP caller.
fn mqtt_callee(form: CalleeForm) -> (Realm, ConnectionId, ConnectionId) {
    let mut realm = Realm::new();
    let (callee, caller) = (realm.mqtt("callee"), realm.wamp());
    assert!(matches!(realm.serve(callee, "a/b", form), Ok(Granted::Registration(RegistrationId(1), Qos::ExactlyOnce))));
    (realm, callee, caller)
}

#[test]
fn an_invocation_is_a_publication_with_a_response_topic() {
    let (mut realm, callee, caller) = mqtt_callee(CalleeForm::Publication);
    realm.call(caller, 1, "a.b");
    let event = realm.event(callee);
    assert_eq!((event.publication.topic.as_mqtt(), &event.publication.payload), ("$callee/a/b", &payload("question")));
    assert_eq!((event.qos, event.packet_id), (Qos::AtLeastOnce, PacketId::new(1)));
    assert_eq!(properties(&event), &Properties { response_topic: Some("$yield/1".into()), ..Properties::default() });
    assert_ne!(event.publication.id.0, 0);
    realm.answer_with(callee, 1, Outcome::Result, "42");
    assert_eq!(realm.answer(caller).payload, payload("42"));
}

#[test]
fn an_invocation_may_carry_its_number_in_the_topic() {
    let (mut realm, callee, caller) = mqtt_callee(CalleeForm::PublicationById);
    realm.call(caller, 1, "a.b");
    realm.call(caller, 2, "a.b");
    assert_eq!(realm.event(callee).publication.topic.as_mqtt(), "$callee/a/b/$id/1");
    let event = realm.event(callee);
    assert_eq!(event.publication.topic.as_mqtt(), "$callee/a/b/$id/2");
    assert_eq!(properties(&event).response_topic, None);
    realm.answer_with(callee, 2, Outcome::Error(ErrorUri::Custom("com.no".into())), "");
    assert_eq!(realm.error(caller), (2, ErrorUri::Custom("com.no".into())));
}

#[test]
fn an_invocation_names_procedure_caller_and_wishes() {
    let mut realm = Realm::new();
    let (callee, caller) = (realm.mqtt("callee"), realm.mqtt("caller"));
    realm.serve(callee, "a/#", CalleeForm::Publication).unwrap();
    let sent = Properties { user: user(&[("x", "y"), ("corsac-timeout-ms", "500")]), ..Properties::default() };
    let call = Call {
        receive_progress: true,
        disclose_me: true,
        timeout_ms: 500,
        properties: Some(Box::new(Properties { correlation_data: Some("secret".into()), ..sent.clone() })),
        ..call_to("a.b.c", reply_topic("$reply/1", "secret"))
    };
    realm.call_with(caller, call);
    let event = realm.event(callee);
    assert_eq!(event.publication.topic.as_mqtt(), "$callee/a/b/c");
    assert_eq!(event.publication.publisher.as_ref().unwrap().session.0, 1_002);
    assert_eq!(event.publication.expires_at_ms, Some(realm.now_ms + 500));
    let user = user(&[("x", "y"), ("corsac-timeout-ms", "500"), ("corsac-receive-progress", "true")]);
    assert_eq!(properties(&event), &Properties { response_topic: Some("$yield/1".into()), user, ..Properties::default() });
}

#[test]
fn an_invocation_has_the_smaller_qos_and_the_identifier_of_the_subscription() {
    let mut realm = Realm::new();
    let (callee, caller) = (realm.mqtt("callee"), realm.mqtt("caller"));
    let options =
        RegisterOptions { form: CalleeForm::Publication, qos: Qos::AtLeastOnce, identifier: Some(9), ..Default::default() };
    let filter = Filter::from_mqtt("a").unwrap();
    realm.ask(callee, SubscribeEntry::Procedure { filter, options }).unwrap();
    let acknowledges = [Acknowledge::None, Acknowledge::AtLeastOnce(packet(1)), Acknowledge::ExactlyOnce(packet(2))];
    let expected = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::AtLeastOnce];
    for (acknowledge, qos) in acknowledges.into_iter().zip(expected) {
        realm.call_with(caller, Call { acknowledge, ..call_to("a", ReplyTo::Nobody) });
        let event = realm.event(callee);
        assert_eq!((event.qos, event.subscriptions.as_slice()), (qos, &[9][..]));
    }
}

#[test]
fn an_answer_reaches_the_reply_topic_of_the_caller_alone() {
    let (mut realm, callee, caller) = mqtt_caller();
    let other = realm.mqtt("other");
    realm.subscribe(other, "$reply/#", Qos::AtLeastOnce).unwrap();
    realm.call_with(caller, at_least_once(call_to("a.b", reply_topic("$reply/x", "c-1")), 5));
    assert_eq!(acknowledged(&mut realm, caller, 5), Ok(true));
    assert_eq!(realm.invocation(callee).properties, None);
    realm.answer_with(callee, 1, Outcome::Result, "42");
    let event = realm.event(caller);
    assert_eq!(topic_and_outcome(&event.publication), ("$reply/x", Some(&Outcome::Result)));
    assert_eq!((&event.publication.payload, event.qos), (&payload("42"), Qos::AtLeastOnce));
    assert_eq!(properties(&event).correlation_data.as_deref(), Some(&b"c-1"[..]));
    realm.nothing(other);
}

#[test]
fn an_answer_has_the_smaller_qos_of_call_and_subscription() {
    let (mut realm, callee, caller) = mqtt_caller();
    let acknowledges = [Acknowledge::None, Acknowledge::AtLeastOnce(packet(1)), Acknowledge::ExactlyOnce(packet(2))];
    let expected = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::AtLeastOnce];
    for ((acknowledge, qos), invocation) in acknowledges.into_iter().zip(expected).zip(1..) {
        realm.call_with(caller, Call { acknowledge, ..call_to("a.b", reply_topic("$reply/x", "")) });
        realm.inbox(caller);
        realm.answer_with(callee, invocation, Outcome::Result, "");
        assert_eq!(realm.event(caller).qos, qos);
    }
}

#[test]
fn overlapping_reply_subscriptions_give_one_copy() {
    let mut realm = Realm::new();
    let (callee, caller) = (realm.wamp(), realm.mqtt("caller"));
    realm.register(callee, "a").unwrap();
    for (filter, identifier, qos) in
        [("$reply/#", 1, Qos::AtMostOnce), ("$reply/+", 2, Qos::AtLeastOnce), ("$reply/y", 3, Qos::AtMostOnce)]
    {
        let options = SubscribeOptions { qos, identifier: Some(identifier), ..SubscribeOptions::default() };
        let filter = Filter::from_mqtt(filter).unwrap();
        realm.ask(caller, SubscribeEntry::Topic { filter, share: None, options }).unwrap();
    }
    realm.call_with(caller, at_least_once(call_to("a", reply_topic("$reply/x", "")), 1));
    realm.inbox(caller);
    realm.answer_with(callee, 1, Outcome::Result, "");
    let event = realm.event(caller);
    assert_eq!((event.qos, event.subscriptions.as_slice()), (Qos::AtLeastOnce, &[1, 2][..]));
    realm.nothing(caller);
}

#[test]
fn an_answer_that_nobody_subscribed_to_is_dropped() {
    let mut realm = Realm::new();
    let (callee, caller) = (realm.wamp(), realm.mqtt("caller"));
    realm.register(callee, "a").unwrap();
    for reply in [reply_topic("$reply/x", ""), ReplyTo::CallId("7".into()), ReplyTo::Nobody] {
        realm.call_with(caller, call_to("a", reply.clone()));
        let invocation = realm.invocation(callee).id.0;
        realm.answer_with(callee, invocation, Outcome::Result, "");
        realm.nothing(caller);
        realm.call_with(caller, call_to("nobody", reply));
        realm.nothing(caller);
    }
    assert_eq!(realm.pending(), 0);
    // Their errors are counted.
    assert_eq!(realm.router.counters().unheard, 3);
}

#[test]
fn an_answer_to_another_topic_is_an_ordinary_publication() {
    let (mut realm, callee, caller) = mqtt_caller();
    let (other, wamp) = (realm.mqtt("other"), realm.wamp());
    realm.subscribe(other, "answers/+", Qos::ExactlyOnce).unwrap();
    realm.subscribe(caller, "answers/+", Qos::AtMostOnce).unwrap();
    realm.subscribe(wamp, "answers/1", Qos::AtMostOnce).unwrap();
    realm.call_with(caller, at_least_once(call_to("a.b", reply_topic("answers/1", "c")), 1));
    realm.inbox(caller);
    realm.answer_with(callee, 1, Outcome::Result, "42");
    let event = realm.event(other);
    assert_eq!(topic_and_outcome(&event.publication), ("answers/1", Some(&Outcome::Result)));
    assert_eq!((event.qos, properties(&event).correlation_data.as_deref()), (Qos::AtLeastOnce, Some(&b"c"[..])));
    assert_eq!(realm.event(caller).qos, Qos::AtMostOnce);
    realm.event(wamp);
}

#[test]
fn a_reply_topic_of_the_routers_is_refused() {
    let (mut realm, callee, caller) = mqtt_caller();
    for topic in ["$callee/x", "$yield/1", "$SYS/x", "wamp/session/on_join", "$reply"] {
        realm.call_with(caller, at_least_once(call_to("a.b", reply_topic(topic, "")), 1));
        assert_eq!(acknowledged(&mut realm, caller, 1), Err(Reason::NotAuthorized), "{topic}");
    }
    realm.nothing(callee);
}

#[test]
fn answers_by_call_id_name_their_kind() {
    let (mut realm, callee, _) = mqtt_caller();
    let caller = realm.open(mqtt_open(Protocol::Mqtt311, "old"));
    realm.subscribe(caller, "$reply/7/+", Qos::AtMostOnce).unwrap();
    realm.call_with(caller, Call { receive_progress: true, ..call_to("a.b", ReplyTo::CallId("7".into())) });
    realm.answer_with(callee, 1, Outcome::Progress, "half");
    realm.answer_with(callee, 1, Outcome::Result, "whole");
    realm.call_with(caller, call_to("a.b", ReplyTo::CallId("7".into())));
    let error = Outcome::Error(ErrorUri::Custom("com.no".into()));
    realm.answer_with(callee, 2, error.clone(), "why");
    for (topic, outcome, text) in [
        ("$reply/7/progress", Outcome::Progress, "half"),
        ("$reply/7/result", Outcome::Result, "whole"),
        ("$reply/7/error", error, "why"),
    ] {
        let event = realm.event(caller);
        assert_eq!(topic_and_outcome(&event.publication), (topic, Some(&outcome)));
        assert_eq!(event.publication.payload, payload(text));
    }
}

#[test]
fn an_answer_says_its_status_once_and_keeps_other_properties() {
    let mut realm = Realm::new();
    let both = realm.mqtt("both");
    realm.serve(both, "a", CalleeForm::Publication).unwrap();
    realm.subscribe(both, "$reply/#", Qos::AtMostOnce).unwrap();
    // A session may call itself.
    realm.call_with(both, call_to("a", reply_topic("$reply/x", "mine")));
    realm.event(both);
    let answer = Yield {
        acknowledge: Acknowledge::None,
        invocation: InvocationId(1),
        outcome: Outcome::Result,
        payload: payload("{}"),
        properties: Some(Box::new(Properties {
            content_type: Some("application/json".into()),
            response_topic: Some("elsewhere".into()),
            correlation_data: Some("other".into()),
            user: user(&[("corsac-status", "error"), ("k", "v"), ("corsac-error", "e")]),
            ..Properties::default()
        })),
    };
    realm.send(both, Command::Yield(Box::new(answer)));
    let expected = Properties {
        content_type: Some("application/json".into()),
        correlation_data: Some("mine".into()),
        user: user(&[("k", "v")]),
        outcome: Some(Outcome::Result),
        ..Properties::default()
    };
    assert_eq!(properties(&realm.event(both)), &expected);
}

#[test]
fn a_call_without_callee_is_acknowledged_and_answered_with_an_error() {
    let (mut realm, _, caller) = mqtt_caller();
    realm.call_with(caller, call_to("nobody", reply_topic("$reply/x", "")));
    let refused = refusal(Reason::NoSuchProcedure);
    assert_eq!(topic_and_outcome(&realm.event(caller).publication), ("$reply/x", Some(&refused)));
    realm.nothing(caller);
    realm.call_with(caller, at_least_once(call_to("nobody", ReplyTo::CallId("7".into())), 3));
    assert_eq!(topic_and_outcome(&realm.event(caller).publication), ("$reply/7/error", Some(&refused)));
    assert_eq!(acknowledged(&mut realm, caller, 3), Ok(false));
}

#[test]
fn a_repeated_call_of_qos_2_is_made_once() {
    let (mut realm, callee, caller) = mqtt_caller();
    let call = || Call { acknowledge: Acknowledge::ExactlyOnce(packet(4)), ..call_to("a.b", ReplyTo::Nobody) };
    let received = |realm: &mut Realm| match realm.next(caller) {
        Delivery::Received(id, Ok(Taken { has_receivers, .. })) => (id, has_receivers),
        other => panic!("{other:?}"),
    };
    realm.call_with(caller, call());
    realm.call_with(caller, call());
    assert_eq!([received(&mut realm), received(&mut realm)], [(packet(4), true); 2]);
    assert_eq!(realm.inbox(callee).len(), 1);
    realm.send(caller, Command::Release(packet(4)));
    realm.call_with(caller, call());
    assert_eq!(realm.inbox(callee).len(), 1);
}

#[test]
fn a_callees_answer_is_acknowledged() {
    let (mut realm, callee, caller) = mqtt_callee(CalleeForm::Publication);
    realm.call(caller, 1, "a.b");
    realm.event(callee);
    let acknowledge = |id| Acknowledge::AtLeastOnce(packet(id));
    realm.yield_with(callee, 2, Outcome::Result, "forged", acknowledge(1));
    assert_eq!(acknowledged(&mut realm, callee, 1), Err(Reason::NotAuthorized));
    realm.yield_with(callee, 0, Outcome::Result, "forged", acknowledge(2));
    assert_eq!(acknowledged(&mut realm, callee, 2), Err(Reason::NotAuthorized));
    realm.yield_with(callee, 1, Outcome::Result, "42", acknowledge(3));
    assert_eq!(acknowledged(&mut realm, callee, 3), Ok(true));
    realm.yield_with(callee, 1, Outcome::Result, "again", acknowledge(4));
    assert_eq!(acknowledged(&mut realm, callee, 4), Ok(false));
    assert_eq!(realm.answer(caller).payload, payload("42"));
    realm.nothing(caller);
    realm.yield_with(callee, 9, Outcome::Result, "forged", Acknowledge::None);
    realm.nothing(callee);
}

#[test]
fn a_callees_answer_of_qos_2_is_taken_once() {
    let (mut realm, callee, caller) = mqtt_callee(CalleeForm::Publication);
    realm.call_with(caller, Call { receive_progress: true, ..wamp_call(1, "a.b") });
    realm.event(callee);
    for _ in 0..2 {
        realm.yield_with(callee, 1, Outcome::Progress, "half", Acknowledge::ExactlyOnce(packet(1)));
        assert!(matches!(realm.next(callee), Delivery::Received(_, Ok(Taken { has_receivers: true, .. }))));
    }
    assert_eq!(realm.answer(caller).outcome, Outcome::Progress);
    realm.nothing(caller);
}

#[test]
fn an_mqtt_callee_is_canceled_where_it_subscribed_to_that() {
    let (mut realm, callee, caller) = mqtt_callee(CalleeForm::Publication);
    realm.subscribe(callee, "$cancel/#", Qos::AtMostOnce).unwrap();
    realm.call(caller, 1, "a.b");
    realm.event(callee);
    realm.cancel(caller, 1, CancelMode::Kill);
    realm.nothing(caller);
    let expected = refusal(Reason::Canceled);
    assert_eq!(topic_and_outcome(&realm.event(callee).publication), ("$cancel/1", Some(&expected)));
    realm.answer_with(callee, 1, Outcome::Error(ErrorUri::Custom("wamp.error.canceled".into())), "");
    assert_eq!(realm.error(caller), (1, ErrorUri::Custom("wamp.error.canceled".into())));

    realm.call_with(caller, Call { timeout_ms: 10, ..wamp_call(2, "a.b") });
    realm.event(callee);
    realm.advance(10);
    assert_eq!(realm.error(caller), (2, ErrorUri::Reason(Reason::Timeout)));
    let expected = refusal(Reason::Timeout);
    assert_eq!(topic_and_outcome(&realm.event(callee).publication), ("$cancel/2", Some(&expected)));
}

#[test]
fn an_mqtt_callee_without_that_subscription_is_left_alone() {
    let (mut realm, callee, caller) = mqtt_callee(CalleeForm::Publication);
    realm.subscribe(callee, "$cancel/2", Qos::AtMostOnce).unwrap();
    let other = realm.mqtt("other");
    realm.subscribe(other, "$cancel/#", Qos::AtMostOnce).unwrap();
    realm.call(caller, 1, "a.b");
    realm.event(callee);
    realm.cancel(caller, 1, CancelMode::Kill);
    assert_eq!(realm.error(caller), (1, ErrorUri::Reason(Reason::Canceled)));
    realm.nothing(callee);
    realm.nothing(other);
}

#[test]
fn a_callee_that_leaves_cancels_the_calls_of_mqtt_callers() {
    let (mut realm, callee, caller) = mqtt_caller();
    realm.call_with(caller, call_to("a.b", reply_topic("$reply/x", "c")));
    realm.lose(callee);
    let expected = refusal(Reason::Canceled);
    assert_eq!(topic_and_outcome(&realm.event(caller).publication), ("$reply/x", Some(&expected)));
}

#[test]
fn a_caller_that_leaves_cancels_all_calls_but_those_without_answer() {
    let (mut realm, callee, caller) = mqtt_caller();
    for reply in [ReplyTo::Nobody, ReplyTo::CallId("1".into()), reply_topic("$reply/x", ""), ReplyTo::Nobody] {
        realm.call_with(caller, Call { timeout_ms: 10, ..call_to("a.b", reply) });
    }
    realm.inbox(callee);
    realm.lose(caller);
    assert_eq!([realm.interrupt(callee).0, realm.interrupt(callee).0], [2, 3]);
    realm.answer_with(callee, 1, Outcome::Result, "done");
    realm.nothing(callee);
    // The place of the session that left is another's now; nothing of its calls reaches that one.
    let newcomer = realm.mqtt("newcomer");
    realm.subscribe(newcomer, "$reply/#", Qos::AtMostOnce).unwrap();
    realm.advance(10);
    assert_eq!(realm.interrupt(callee), (4, CancelMode::KillNoWait, Reason::Timeout));
    realm.nothing(newcomer);
    assert_eq!(realm.pending(), 0);
}

#[test]
fn what_waits_for_a_callee_that_left_is_not_sent_when_it_returns() {
    let mut realm = Realm::new();
    let open = || Open { clean_start: false, expiry_s: 60, receive_maximum: 1, ..mqtt_open(Protocol::Mqtt5, "callee") };
    let (callee, caller) = (realm.open(open()), realm.wamp_with(Features::default()));
    realm.serve(callee, "a", CalleeForm::Publication).unwrap();
    realm.call(caller, 1, "a");
    realm.call(caller, 2, "a");
    assert_eq!(realm.inbox(callee).len(), 1);
    realm.lose(callee);
    assert_eq!([realm.error(caller).0, realm.error(caller).0], [1, 2]);
    let callee = realm.open(open());
    // An invocation that was sent is owed [MQTT-4.4.0-1].
    assert!(realm.event(callee).duplicate);
    realm.nothing(callee);
    realm.answer_with(callee, 1, Outcome::Result, "late");
    realm.nothing(caller);
    let step = AcknowledgeStep::Acknowledged;
    let packet_id = packet(1);
    realm.send(callee, Command::Acknowledge(vec![Acknowledgement { packet_id, step }]));
    realm.call(caller, 3, "a");
    assert_eq!(properties(&realm.event(callee)).response_topic.as_deref(), Some("$yield/3"));
}

#[test]
fn a_callee_whose_line_is_full_refuses_the_call() {
    let limits = crate::model::Limits { max_session_queue: 1, ..Default::default() };
    let mut realm = Realm::with_limits(limits);
    let open = Open { receive_maximum: 1, ..mqtt_open(Protocol::Mqtt5, "callee") };
    let (callee, caller) = (realm.open(open), realm.wamp());
    realm.serve(callee, "a", CalleeForm::Publication).unwrap();
    for request in 1..=3 {
        realm.call(caller, request, "a");
    }
    assert_eq!(realm.error(caller), (3, ErrorUri::Reason(Reason::QuotaExceeded)));
    realm.nothing(caller);
    assert_eq!(realm.pending(), 2);
}

#[test]
fn a_procedure_too_long_for_a_topic_is_refused() {
    let mut realm = Realm::new();
    let (callee, caller) = (realm.mqtt("callee"), realm.wamp());
    realm.serve(callee, "#", CalleeForm::Publication).unwrap();
    realm.call(caller, 1, &"a".repeat(65_530));
    assert_eq!(realm.error(caller), (1, ErrorUri::Reason(Reason::InvalidTopic)));
    realm.nothing(callee);
    assert_eq!(realm.pending(), 0);
}

#[test]
fn a_caller_that_returns_learns_that_its_call_was_canceled() {
    let mut realm = Realm::new();
    let (callee, caller) = (realm.wamp(), realm.persistent("caller"));
    realm.register(callee, "a").unwrap();
    realm.subscribe(caller, "$reply/#", Qos::AtLeastOnce).unwrap();
    realm.call_with(caller, at_least_once(call_to("a", reply_topic("$reply/x", "c")), 1));
    realm.lose(caller);
    realm.answer_with(callee, 1, Outcome::Result, "discarded");
    let caller = realm.persistent("caller");
    let expected = refusal(Reason::Canceled);
    assert_eq!(topic_and_outcome(&realm.event(caller).publication), ("$reply/x", Some(&expected)));
    realm.nothing(caller);
}

#[test]
fn a_callee_that_returns_and_goes_on_is_told_to_stop() {
    let mut realm = Realm::new();
    let (callee, caller) = (realm.persistent("callee"), realm.wamp());
    realm.serve(callee, "a", CalleeForm::Publication).unwrap();
    realm.subscribe(callee, "$cancel/+", Qos::AtMostOnce).unwrap();
    realm.call_with(caller, Call { receive_progress: true, ..wamp_call(1, "a") });
    realm.event(callee);
    realm.lose(callee);
    assert_eq!(realm.error(caller), (1, ErrorUri::Reason(Reason::Canceled)));
    let callee = realm.persistent("callee");
    assert!(realm.event(callee).duplicate);
    realm.answer_with(callee, 1, Outcome::Progress, "half");
    assert_eq!(realm.event(callee).publication.topic.as_mqtt(), "$cancel/1");
    realm.answer_with(callee, 1, Outcome::Progress, "more");
    realm.nothing(callee);
    realm.nothing(caller);
}
