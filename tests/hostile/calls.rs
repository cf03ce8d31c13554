//! Calls: answers of strangers, callees that never answer, callers that never stop.
use super::wamp::Session;
use super::*;

const SMALL: &str = "limits.max_pending_calls_per_session = 5\nlimits.max_registrations_per_session = 3\n\
                     limits.max_subscriptions_per_session = 4\nlimits.max_wildcards_per_session = 2\n";

#[test]
fn a_stranger_answers_nothing() {
    let router = Router::start("");
    let (mut callee, mut caller, mut stranger) = (Session::open(&router), Session::open(&router), Session::open(&router));
    assert_eq!(callee.ask(r#"[64,1,{},"a.b"]"#)[0], 65);
    caller.0.send_text(r#"[48,1,{},"a.b",["question"]]"#).unwrap();
    let invocation = callee.receive();
    assert_eq!((&invocation[0], &invocation[4][0]), (&68.into(), &"question".into()), "{invocation}");
    // The call stays the callee's, whatever becomes of the stranger.
    stranger.0.send_text(&format!(r#"[70,{},{{}},["stolen"]]"#, invocation[1])).unwrap();
    stranger.0.send_text(&format!(r#"[8,68,{},{{}},"a.b.c"]"#, invocation[1])).ok();
    let mut mqtt = Client::connect(&router, "CONNECT v5 clean id=stranger");
    assert!(mqtt.ask(&format!("PUBLISH $yield/{} stolen q1 id=1", invocation[1])).starts_with("PUBACK id=1"));
    callee.0.send_text(&format!(r#"[70,{},{{}},["answer"]]"#, invocation[1])).unwrap();
    let result = caller.receive();
    assert_eq!((&result[0], &result[3][0]), (&50.into(), &"answer".into()), "{result}");
    // A second answer to the same call is late, and no fault that others feel.
    callee.0.send_text(&format!(r#"[70,{},{{}},["again"]]"#, invocation[1])).unwrap();
    assert_serves(&router);
}

#[test]
fn pending_calls_are_bounded() {
    let router = Router::start(SMALL);
    let (mut callee, mut caller) = (Session::open(&router), Session::open(&router));
    assert_eq!(callee.ask(r#"[64,1,{},"a.b"]"#)[0], 65);
    for request in 1..=5 {
        caller.0.send_text(&format!(r#"[48,{request},{{}},"a.b"]"#)).unwrap();
        assert_eq!(callee.receive()[0], 68);
    }
    let refused = caller.ask(r#"[48,6,{},"a.b"]"#);
    assert_eq!(
        (&refused[0], &refused[2], &refused[4]),
        (&8.into(), &6.into(), &"corsac.error.quota_exceeded".into()),
        "{refused}"
    );
    let mut other = Session::open(&router);
    assert_eq!(other.ask(r#"[64,1,{},"a.c"]"#)[0], 65);
    let mut mqtt = Client::connect(&router, "CONNECT v5 clean id=caller");
    assert!(mqtt.ask("SUBSCRIBE id=1 $reply/#:1").starts_with("SUBACK id=1 01"));
    for id in 1..=5 {
        assert!(mqtt.ask(&format!("PUBLISH $call/a/c x q1 id={id} response_topic=$reply/{id}")).starts_with("PUBACK"));
        assert_eq!(other.receive()[0], 68);
    }
    mqtt.send("PUBLISH $call/a/c x q1 id=6 response_topic=$reply/6");
    let mut answers = [mqtt.receive().join(" "), mqtt.receive().join(" ")];
    answers.sort();
    assert!(answers[0].starts_with("PUBACK id=6"), "{answers:?}");
    assert!(answers[1].contains("user=corsac-error:corsac.error.quota_exceeded"), "{answers:?}");
    drop((caller, mqtt));
    assert_serves(&router);
}

#[test]
fn registrations_and_subscriptions_of_wamp_are_bounded() {
    let router = Router::start(SMALL);
    let mut session = Session::open(&router);
    let mut answers = Vec::new();
    for request in 1..=5 {
        answers.push(session.ask(&format!(r#"[64,{request},{{}},"p.n{request}"]"#))[0].clone());
    }
    assert_eq!(answers, [65, 65, 65, 8, 8]);
    let mut answers = Vec::new();
    for request in 6..=12 {
        let topic = if request < 10 { format!("t..n{request}") } else { format!("t.n{request}") };
        let policy = if request < 10 { r#"{"match":"wildcard"}"# } else { "{}" };
        answers.push(session.ask(&format!(r#"[32,{request},{policy},"{topic}"]"#))[0].clone());
    }
    assert_eq!(answers, [33, 33, 8, 8, 33, 33, 8]);
    assert_serves(&router);
}

#[test]
fn callers_and_callees_that_vanish_leave_nothing() {
    let router = Router::start("");
    assert_serves(&router);
    let mut baseline_kib = 0;
    for round in 0..3 {
        for n in 0..50 {
            let (mut callee, mut caller) = (Session::open(&router), Session::open(&router));
            assert_eq!(callee.ask(r#"[64,1,{"invoke":"roundrobin"},"a.b"]"#)[0], 65);
            for request in 1..=20 {
                caller.0.send_text(&format!(r#"[48,{request},{{"timeout":60000}},"a.b",["{}"]]"#, "x".repeat(1_000))).unwrap();
                assert_eq!(callee.receive()[0], 68);
            }
            if n % 2 == 0 {
                drop(callee);
                for request in 1..=20 {
                    let error = caller.receive();
                    assert_eq!((&error[0], &error[2]), (&8.into(), &request.into()), "{error}");
                }
            } else {
                drop(caller);
                assert_eq!(callee.receive()[0], 69, "INTERRUPT");
            }
        }
        assert_nobody_left(&router);
        router.await_figure("registrations", |count| count == 0);
        router.await_figure("sessions", |count| count == 0);
        if round == 0 {
            baseline_kib = router.rss_kib();
        }
    }
    assert_memory(&router, baseline_kib, 4 * 1024);
    assert_serves(&router);
}

/// A forbidden name and one that is not there: here, names of the router's own.
#[test]
fn the_routers_names_are_nobodys() {
    let router = Router::start("");
    let mut session = Session::open(&router);
    for (request, uri) in ["wamp.session.mine", "corsac.mine", "wamp.x"].into_iter().enumerate() {
        let answer = session.ask(&format!(r#"[64,{},{{}},"{uri}"]"#, request + 1));
        assert_eq!(answer[0], 8, "{uri}: {answer}");
    }
    let mut mqtt = Client::connect(&router, "CONNECT v5 clean id=callee");
    for filter in ["$callee/wamp/x", "$callee/corsac/x", "$share/g/$callee/wamp/x"] {
        let answer = mqtt.ask(&format!("SUBSCRIBE id=1 {filter}:1"));
        assert!(!answer.ends_with(" 01"), "{filter}: {answer}");
    }
    for topic in ["wamp/session/on_join", "corsac/x"] {
        let answer = mqtt.ask(&format!("PUBLISH {topic} x q1 id=1"));
        assert!(answer.starts_with("PUBACK id=1 rc=87"), "{topic}: {answer}");
        let mut will = Client { wire: Wire::tcp(router.mqtt), version: 5 };
        let answer = will.ask(&format!("CONNECT v5 clean id=will will={topic} will_payload=x"));
        assert!(answer.starts_with("CONNACK rc=8"), "{topic}: {answer}");
    }
}
