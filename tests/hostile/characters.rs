//! Characters that no MQTT client can be sent: refused in names, left out of properties, replaced in URIs of errors.
use serde_json::{Value, json};

use super::wamp::Session;
use super::*;

/// Of each kind one or two: C0, DEL, C1, non-characters.
const UNFIT: [char; 10] = ['\0', '\u{1}', '\t', '\n', '\u{1F}', '\u{7F}', '\u{80}', '\u{9F}', '\u{FDD0}', '\u{FFFF}'];

fn message(elements: Value) -> String {
    elements.to_string()
}

/// ERROR `wamp.error.invalid_uri`, whose sentence names the character and shows none.
fn assert_names(answer: &Value, character: char, what: &str) {
    assert_eq!((&answer[0], &answer[4]), (&json!(8), &json!("wamp.error.invalid_uri")), "{what}: {answer}");
    let sentence = answer[5][0].as_str().unwrap_or_default();
    assert!(sentence.contains(&format!("U+{:04X}", u32::from(character))), "{what}: {answer}");
    assert!(!sentence.contains(character), "{what}: {answer}");
}

/// A line of the MQTT test client shows what is not printable by escapes.
fn has_unfit(words: &[String]) -> bool {
    words.iter().any(|word| word.contains("\\x") || word.chars().any(|character| UNFIT.contains(&character)))
}

#[test]
fn names_are_refused_where_they_come_in() {
    let router = Router::start("");
    let mut mqtt = Client::connect(&router, "CONNECT v5 clean id=reader");
    assert!(mqtt.ask("SUBSCRIBE id=1 #:0").starts_with("SUBACK"));
    let mut session = Session::open(&router);
    for character in UNFIT {
        let name = format!("own.a{character}b");
        for (request, what) in [
            (json!([16, 1, {"acknowledge": true}, name, ["x"]]), "PUBLISH"),
            (json!([16, 1, {"acknowledge": true, "retain": true}, name, ["x"]]), "PUBLISH retain"),
            (json!([32, 1, {}, name]), "SUBSCRIBE"),
            (json!([32, 1, {"match": "prefix"}, name]), "SUBSCRIBE prefix"),
            (json!([32, 1, {"match": "wildcard"}, format!("{name}..c")]), "SUBSCRIBE wildcard"),
            (json!([64, 1, {}, name]), "REGISTER"),
            (json!([64, 1, {"match": "prefix"}, name]), "REGISTER prefix"),
            (json!([48, 1, {}, name]), "CALL"),
            (json!([48, 1, {}, "corsac.queue.put", [name, 1]]), "a queue"),
            (json!([48, 1, {}, "corsac.queue.put", [format!("own/a{character}b"), 1]]), "a queue in MQTT's spelling"),
            (json!([48, 1, {}, "corsac.lock.acquire", [name]]), "a lock"),
            (json!([48, 1, {}, "corsac.lock.acquire", [format!("own/a{character}b")]]), "a lock in MQTT's spelling"),
            (json!([48, 1, {}, "corsac.history.read", [name]]), "a filter"),
            (json!([48, 1, {}, "corsac.publish", [name, ["x"]]]), "a call that publishes"),
            (json!([48, 1, {}, "corsac.publish", [format!("own/a{character}b"), ["x"]]]), "the same in MQTT's spelling"),
            (json!([48, 1, {}, "corsac.queue.take", [name]]), "a queue to take from"),
            (json!([48, 1, {}, "corsac.queue.declare", [name, {}]]), "a queue to declare"),
            (json!([48, 1, {}, "corsac.lock.inspect", [name]]), "a lock to look at"),
        ] {
            assert_names(&session.ask(&message(request)), character, what);
        }
        let mut newcomer = Session::new(&router);
        let refused = newcomer.ask(&message(json!([1, format!("realm{character}"), {"roles": {"caller": {}}}])));
        assert_eq!((&refused[0], &refused[2]), (&json!(3), &json!("wamp.error.invalid_uri")), "{refused}");
        assert!(refused[1]["message"].as_str().is_some_and(|text| text.contains("U+")), "{refused}");
    }
    // White space has a code in WAMP's spelling, which is its character in MQTT's.
    for (code, character) in [("%09", '\t'), ("%0A", '\n'), ("%C2%85", '\u{85}')] {
        let request = json!([16, 1, {"acknowledge": true}, format!("own.a{code}b"), ["x"]]);
        assert_names(&session.ask(&message(request)), character, code);
    }
    mqtt.settle();
    assert_serves(&router);
}

#[test]
fn properties_are_left_out() {
    let router = Router::start("");
    let mut mqtt = Client::connect(&router, "CONNECT v5 clean id=reader");
    assert!(mqtt.ask("SUBSCRIBE id=1 own/#:0").starts_with("SUBACK"));
    let mut session = Session::open(&router);
    for character in UNFIT {
        let text = format!("two{character}lines");
        let details = json!({
            "user_properties": [["k", text], [text, "v"], ["good", "kept"]],
            "content_type": text,
            "response_topic": text,
        });
        let request = json!([16, 1, {"acknowledge": true, "mqtt": details}, "own.t", ["x"]]);
        assert_eq!(session.ask(&message(request))[0], 17);
        let event = mqtt.receive();
        assert_eq!(event[..2], ["PUBLISH", "own/t"], "{event:?}");
        assert!(event.contains(&"user=good:kept".to_owned()), "{event:?}");
        let rest = ["user=k", "user=two", "response_topic="].map(|start| event.iter().any(|word| word.starts_with(start)));
        assert!(rest == [false; 3] && !has_unfit(&event), "{event:?}");
    }
    assert_serves(&router);
}

/// Wherever a WAMP client can say a property, and whichever way it reaches an MQTT client.
#[test]
fn properties_are_left_out_on_every_way() {
    let router = Router::start("");
    let (mut caller, mut callee) = (Session::open(&router), Session::open(&router));
    assert_eq!(callee.ask(r#"[64,1,{},"own.w"]"#)[0], 65);
    let mut mqtt = Client::connect(&router, "CONNECT v5 clean id=both");
    assert!(mqtt.ask("SUBSCRIBE id=1 $callee/own/m:0 $reply/#:0").starts_with("SUBACK"));
    for character in UNFIT {
        let text = format!("two{character}lines");
        let details = json!({"user_properties": [["k", text], [text, "v"], ["good", "kept"]], "content_type": text});
        let assert_fit = |message: &[String], way: &str| {
            assert!(message.contains(&"user=good:kept".to_owned()), "{way}: {message:?}");
            let has_rest = ["user=k", "user=two"].iter().any(|start| message.iter().any(|word| word.starts_with(start)));
            assert!(!has_rest && !has_unfit(message), "{way}: {message:?}");
        };
        // A call of an MQTT callee.
        caller.0.send_text(&message(json!([48, 1, {"mqtt": details}, "own.m", ["x"]]))).unwrap();
        let invocation = mqtt.receive();
        assert_fit(&invocation, "CALL");
        let answer_to = invocation.iter().find_map(|word| word.strip_prefix("response_topic=")).unwrap();
        mqtt.send(&format!("PUBLISH {answer_to} done"));
        assert_eq!(caller.receive()[0], 50);
        // The answers of a WAMP callee to an MQTT caller.
        for (answer, way) in [
            (json!([70, 0, {"mqtt": details}, ["x"]]), "YIELD"),
            (json!([70, 0, {"mqtt": details, "progress": true}, ["x"]]), "progress"),
            (json!([8, 68, 0, {"mqtt": details}, "my.error", ["x"]]), "ERROR"),
        ] {
            mqtt.send("PUBLISH $call/own/w 1 response_topic=$reply/a user=corsac-receive-progress:true");
            let (mut answer, invocation) = (answer, callee.receive());
            answer[if way == "ERROR" { 2 } else { 1 }] = invocation[1].clone();
            callee.0.send_text(&message(answer)).unwrap();
            assert_fit(&mqtt.receive(), way);
            if way == "progress" {
                callee.0.send_text(&message(json!([70, invocation[1], {}]))).unwrap();
                mqtt.receive();
            }
        }
        // Retained values, and items of a queue.
        let mut late = Client::connect(&router, "CONNECT v5 clean id=late");
        let options = json!({"acknowledge": true, "retain": true, "mqtt": details});
        assert_eq!(caller.ask(&message(json!([16, 2, options, "own.kept", ["x"]])))[0], 17);
        assert!(late.ask("SUBSCRIBE id=1 own/kept:1").starts_with("SUBACK"));
        assert_fit(&late.receive(), "a retained value");
        let published = json!([48, 3, {}, "corsac.publish", ["own.called", ["x"], {}, {"retain": true, "mqtt": details}]]);
        assert_eq!(caller.ask(&message(published))[0], 50);
        assert!(late.ask("SUBSCRIBE id=2 own/called:1").starts_with("SUBACK"));
        assert_fit(&late.receive(), "corsac.publish");
        assert_eq!(caller.ask(&message(json!([48, 4, {"mqtt": details}, "corsac.queue.put", ["own", "x"]])))[0], 50);
        assert!(late.ask("SUBSCRIBE id=3 $queue/own:1").starts_with("SUBACK"));
        let item = late.receive();
        assert_fit(&item, "an item of a queue");
        late.send(&format!("PUBACK id={}", item.iter().find_map(|word| word.strip_prefix("id=")).unwrap()));
        late.settle();
    }
    assert_serves(&router);
}

#[test]
fn uris_of_errors_are_replaced() {
    let router = Router::start("");
    let (mut callee, mut caller) = (Session::open(&router), Session::open(&router));
    assert_eq!(callee.ask(r#"[64,1,{},"own.p"]"#)[0], 65);
    let mut mqtt = Client::connect(&router, "CONNECT v5 clean id=caller");
    assert!(mqtt.ask("SUBSCRIBE id=1 $reply/#:0").starts_with("SUBACK"));
    let bad = UNFIT.iter().map(|character| format!("my.err{character}or"));
    for uri in bad.chain(["", "my error", "my..error", "my.#"].map(str::to_owned)) {
        mqtt.send("PUBLISH $call/own/p 1 response_topic=$reply/a");
        let invocation = callee.receive();
        callee.0.send_text(&message(json!([8, 68, invocation[1], {}, uri, ["why"]]))).unwrap();
        let answer = mqtt.receive();
        assert!(answer.contains(&"user=corsac-error:wamp.error.invalid_uri".to_owned()), "{uri:?}: {answer:?}");
        caller.0.send_text(r#"[48,1,{},"own.p"]"#).unwrap();
        let invocation = callee.receive();
        callee.0.send_text(&message(json!([8, 68, invocation[1], {}, uri, ["why"]]))).unwrap();
        let answer = caller.receive();
        assert_eq!((&answer[4], &answer[5]), (&json!("wamp.error.invalid_uri"), &json!(["why"])), "{uri:?}");
    }
    // A callee on MQTT is held to the same.
    let mut served = Client::connect(&router, "CONNECT v5 clean id=callee");
    assert!(served.ask("SUBSCRIBE id=1 $callee/own/q:0").starts_with("SUBACK"));
    caller.0.send_text(r#"[48,2,{},"own.q"]"#).unwrap();
    assert_eq!(served.receive()[0], "PUBLISH");
    served.send("PUBLISH $yield/1/error x user=corsac-error:my..error");
    assert_eq!(caller.receive()[4], "wamp.error.invalid_uri");
}
