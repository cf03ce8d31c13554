//! The history, read from both sides of a router that was killed: by calls, and by subscriptions that begin in the past.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod common;
mod support;

use std::time::Duration;

use common::{Running, corsac};
use serde_json::{Value, json};
use support::data::Data;
use support::mqtt::Mqtt;
use support::router::Router;
use support::wamp::Wamp;

fn ids(events: &Value) -> Vec<u64> {
    events.as_array().unwrap().iter().map(|event| event["id"].as_u64().unwrap()).collect()
}

/// Publishes from both sides; ends with a killed router and a new one that has its history.
fn with_history(data: &Data) -> Router {
    let router = data.start();
    let (mut mqtt, mut wamp) = (Mqtt::open(&router, "p"), Wamp::open(&router));
    for (number, payload) in ["'{\"k\":1,\"n\":1}'", "'plain text'", "'\\x00\\xFF'"].into_iter().enumerate() {
        let line = format!("PUBLISH h/mqtt {payload} q1 id={}", number + 1);
        mqtt.send(&line);
        assert_eq!(mqtt.receive()[0], "PUBACK");
    }
    assert_eq!(wamp.publish("h.wamp", json!([4, "four"]), json!({"k": 1})), 4);
    assert_eq!(wamp.publish("h.wamp", json!([{"k": 1, "n": 5}]), json!({})), 5);
    mqtt.send("PUBLISH h/mqtt 'not stored'");
    assert_eq!(wamp.publish("other", json!([6]), json!({})), 6);
    drop(router); // SIGKILL
    data.start()
}

#[test]
fn what_was_acknowledged_is_read_by_calls_after_a_kill() {
    let data = Data::new();
    let router = with_history(&data);
    let (mut wamp, mut mqtt) = (Wamp::open(&router), Mqtt::open(&router, "r"));
    let roles = &wamp.welcome[2]["roles"];
    assert_eq!((&roles["broker"]["features"]["event_history"], roles.get("callee")), (&json!(true), None));
    let (args, _) = wamp.call("corsac.history.read", json!(["h.#"]), json!({}));
    let events = &args[0]["events"];
    assert_eq!((ids(events), &args[0]["is_end"]), (vec![1, 2, 3, 4, 5], &json!(true)));
    let said: Vec<_> =
        events.as_array().unwrap().iter().map(|event| json!([event["topic"], event["args"], event["kwargs"]])).collect();
    assert_eq!(
        json!(said),
        json!([
            ["h.mqtt", [{"k": 1, "n": 1}], {}],
            ["h.mqtt", ["plain text"], {}],
            ["h.mqtt", ["\u{0}AP8="], {}],
            ["h.wamp", [4, "four"], {"k": 1}],
            ["h.wamp", [{"k": 1, "n": 5}], {}],
        ])
    );
    for (arguments, expected) in [
        (json!({"args": ["h/+", {"limit": 2}], "kwargs": {}}), vec![1, 2]),
        (json!({"args": ["h/mqtt"], "kwargs": {"after": 1}}), vec![2, 3]),
        (json!({"args": ["h.wamp"], "kwargs": {"reverse": true}}), vec![5, 4]),
        (json!("#"), vec![1, 2, 3, 4, 5, 6]),
    ] {
        let (body, error) = mqtt.call("corsac/history/read", &arguments);
        assert_eq!((ids(&body["events"]), error), (expected, None), "{arguments}");
    }
    let subscription = wamp.subscribe(json!({"match": "prefix"}), "h");
    let (args, kwargs) = wamp.call("wamp.subscription.get_events", json!([subscription]), json!({"reverse": true, "limit": 2}));
    let publications: Vec<_> = args.as_array().unwrap().iter().map(|event| event["publication"].as_u64().unwrap()).collect();
    assert_eq!((publications, &args[0]["subscription"], &kwargs["is_end"]), (vec![5, 4], &json!(subscription), &json!(false)));
    assert_eq!(
        (&args[1]["args"], &args[1]["kwargs"], &args[1]["details"]["topic"]),
        (&json!([4, "four"]), &json!({"k": 1}), &json!("h.wamp"))
    );
    // Another session may name the subscription too, an MQTT client as well.
    let (body, _) = mqtt.call("wamp/subscription/get_events", &json!({"args": [subscription], "kwargs": {"topic": "h.mqtt"}}));
    assert_eq!(body["args"].as_array().unwrap().len(), 3);
    let (_, error) = mqtt.call("wamp/subscription/get_events", &json!({"args": [99], "kwargs": {}}));
    assert_eq!(error.as_deref(), Some("wamp.error.no_such_subscription"));
}

#[test]
fn wamp_subscriptions_begin_in_the_past() {
    let data = Data::new();
    let router = with_history(&data);
    let (mut publisher, mut wamp) = (Wamp::open(&router), Wamp::open(&router));
    wamp.subscribe(json!({"after": 3, "match": "prefix"}), "h");
    assert_eq!((wamp.event(), wamp.event()), (json!(4), json!({"k": 1, "n": 5})));
    publisher.publish("h.wamp", json!(["live"]), json!({}));
    assert_eq!(wamp.event(), "live");
    let mut wamp = Wamp::open(&router);
    let last = wamp.subscribe(json!({"last": 1, "snapshot": true}), "h.*");
    assert_eq!(wamp.event(), "live");
    let details = json!({"subscription": last, "reason": "corsac.subscription.complete"});
    assert_eq!(wamp.receive(), json!([35, 0, details]));
    wamp.subscribe(json!({"after": 0, "filter": {"k": 1}}), "h.*");
    assert_eq!((wamp.event(), wamp.event()), (json!({"k": 1, "n": 1}), json!({"k": 1, "n": 5})));
    publisher.publish("h.x", json!([{"k": 2}]), json!({}));
    publisher.publish("h.x", json!([{"k": 1, "n": 9}]), json!({}));
    assert_eq!(wamp.event(), json!({"k": 1, "n": 9}));
    for (options, uri) in [
        (json!({"after": 1_000}), "wamp.error.invalid_argument"),
        (json!({"after": -1}), "wamp.error.invalid_argument"),
        (json!({"after": "1"}), "wamp.error.invalid_argument"),
        (json!({"after": 9_007_199_254_740_992_u64}), "wamp.error.invalid_argument"),
        (json!({"after": 1, "last": 1}), "wamp.error.invalid_argument"),
        (json!({"after": 1, "retained": true}), "wamp.error.invalid_argument"),
    ] {
        let answer = wamp.ask(32, json!([options, "h.y"]));
        assert_eq!((&answer[0], &answer[1], &answer[4]), (&json!(8), &json!(32), &json!(uri)), "{options} {answer}");
    }
}

/// Some client libraries let no other options through than the specification's, and custom attributes, which begin with `_`.
#[test]
fn options_may_be_custom_attributes() {
    let data = Data::new();
    let router = with_history(&data);
    let (mut publisher, mut wamp) = (Wamp::open(&router), Wamp::open(&router));
    wamp.subscribe(json!({"_after": 3, "_filter": {"k": 1}, "match": "prefix"}), "h");
    assert_eq!(wamp.event(), json!({"k": 1, "n": 5}));
    let last = wamp.subscribe(json!({"_last": 1, "_snapshot": true}), "h.wamp");
    assert_eq!(wamp.receive()[4], json!([{"k": 1, "n": 5}]));
    assert_eq!(wamp.receive()[2]["subscription"], last);
    let keyed = json!([{"acknowledge": true, "_dedup": "once", "_retain": true}, "own.t", [1]]);
    assert_eq!(publisher.ask(16, keyed.clone())[2], publisher.ask(16, keyed)[2]);
    wamp.subscribe(json!({"_retained": true}), "own.t");
    assert_eq!(wamp.event(), 1);
    let refused = publisher.ask(16, json!([{"acknowledge": true, "_when": null, "_retain": true}, "own.t", [2]]));
    assert_eq!(refused[4], "corsac.error.condition_failed", "{refused}");
    let refused = publisher.ask(16, json!([{"_watch": 1}, "own.t", [2]]));
    assert!(refused[5][0].as_str().is_some_and(|text| text.contains("watch must be")), "{refused}");
}

/// `corsac.publish` is for clients that cannot say the options of PUBLISH at all.
#[test]
fn a_call_publishes_with_options() {
    let data = Data::new();
    let router = with_history(&data);
    let (mut caller, mut wamp, mut mqtt) = (Wamp::open(&router), Wamp::open(&router), Mqtt::open(&router, "s"));
    wamp.subscribe(json!({}), "own.t");
    mqtt.ask("SUBSCRIBE id=1 own/t:0");
    let (id, _) = caller.call("corsac.publish", json!(["own.t", [1, "two"], {"k": 3}, {"retain": true}]), json!({}));
    let event = wamp.receive();
    assert_eq!((&event[2], &event[4], &event[5]), (&id[0], &json!([1, "two"]), &json!({"k": 3})), "{event}");
    assert_eq!(mqtt.receive()[1], "own/t");
    // By name, in MQTT's spelling, and with what only options can say.
    let arguments = json!({"topic": "own/t", "args": ["x"], "options": {"dedup": "once", "expiry_s": 60}});
    let (first, _) = caller.call("corsac.publish", json!([]), arguments.clone());
    let (again, _) = caller.call("corsac.publish", json!([]), arguments);
    assert_eq!(first, again);
    assert_eq!(wamp.event(), "x");
    let lock = json!(["own.lock", ["me"], {}, {"when": null, "watch": true, "will": null, "retain": true}]);
    let (token, _) = caller.call("corsac.publish", lock, json!({}));
    assert!(token[0].as_u64() > first[0].as_u64(), "{token}");
    for (arguments, uri, says) in [
        (json!(["own.lock", ["x"], {}, {"when": {"a": 1}}]), "corsac.error.condition_failed", "own.lock"),
        (json!(["corsac.x", []]), "wamp.error.invalid_uri", "belong to the router"),
        (json!(["a b", []]), "wamp.error.invalid_uri", "a b"),
        (json!(["own.t", 5]), "wamp.error.invalid_argument", "`args` must be a list"),
        (json!(["own.t", [], {}, {"qos": 9}]), "wamp.error.invalid_argument", "options.qos must be"),
        (json!([]), "wamp.error.invalid_argument", "`topic` is missing"),
    ] {
        let answer = caller.ask(48, json!([{}, "corsac.publish", arguments]));
        assert_eq!((&answer[0], &answer[1]), (&json!(8), &json!(48)), "{answer}");
        assert_eq!(answer[4], uri, "{arguments} {answer}");
        assert!(answer[5][0].as_str().is_some_and(|text| text.contains(says)), "{arguments} {answer}");
    }
    // Names are read in either spelling by all procedures of the router's.
    for (filter, count) in [("own.t", 2), ("own/t", 2), ("own/#", 3), ("own.#", 3), ("own/+", 3)] {
        let (events, _) = caller.call("corsac.history.read", json!([filter]), json!({}));
        assert_eq!(events[0]["events"].as_array().map(Vec::len), Some(count), "{filter}: {events}");
    }
}

#[test]
fn mqtt_subscriptions_begin_in_the_past() {
    let data = Data::new();
    let router = with_history(&data);
    let (mut publisher, mut mqtt) = (Wamp::open(&router), Mqtt::open(&router, "s"));
    mqtt.send("SUBSCRIBE id=1 h/+:1 user=corsac-after:3");
    assert_eq!(mqtt.receive(), ["SUBACK", "id=1", "01"]);
    assert_eq!(mqtt.message(), ("h/wamp".to_owned(), "{\"args\":[4,\"four\"],\"kwargs\":{\"k\":1}}".to_owned()));
    assert_eq!(mqtt.message(), ("h/wamp".to_owned(), "{\"k\":1,\"n\":5}".to_owned()));
    publisher.publish("h.wamp", json!([{ "live": true }]), json!({}));
    assert_eq!(mqtt.message().1, "{\"live\":true}");
    let mut mqtt = Mqtt::open(&router, "t");
    mqtt.send("SUBSCRIBE id=1 h/+:0 user=corsac-last:2 user=corsac-snapshot:true user=corsac-filter:{\"k\":1}");
    assert_eq!(mqtt.receive()[0], "SUBACK");
    assert_eq!((mqtt.message().1.as_str(), mqtt.message().1.as_str()), ("{\"k\":1,\"n\":1}", "{\"k\":1,\"n\":5}"));
    // The subscription has ended by itself.
    publisher.publish("h.x", json!([{"k": 1}]), json!({}));
    mqtt.send("UNSUBSCRIBE id=2 h/+");
    assert_eq!(mqtt.receive(), ["UNSUBACK", "id=2", "11"]);
    for property in ["corsac-after:1;DROP", "corsac-after:99", "corsac-last:-1", "corsac-filter:{", "corsac-snapshot:maybe"] {
        mqtt.send(&format!("SUBSCRIBE id=3 h/+:0 user={property}"));
        let answer = mqtt.receive();
        assert!(answer.contains(&"83".to_owned()) && answer.iter().any(|word| word.contains("must be")), "{property} {answer:?}");
    }
}

#[test]
fn without_a_history_that_is_said() {
    let router = Router::start("");
    let (mut wamp, mut mqtt) = (Wamp::open(&router), Mqtt::open(&router, "m"));
    let roles = &wamp.welcome[2]["roles"];
    assert!(roles["broker"]["features"].get("event_history").is_none() && roles.get("callee").is_none());
    for (code, rest) in
        [(48, json!([{}, "corsac.history.read", ["#"]])), (32, json!([{"after": 0}, "h.x"])), (32, json!([{"last": 1}, "h.x"]))]
    {
        let answer = wamp.ask(code, rest);
        assert_eq!((&answer[0], &answer[4]), (&json!(8), &json!("corsac.error.no_history")), "{answer}");
    }
    mqtt.send("SUBSCRIBE id=1 h/+:0 user=corsac-after:0");
    let answer = mqtt.receive();
    assert!(answer.contains(&"83".to_owned()) && answer.iter().any(|word| word.contains("--memory")), "{answer:?}");
    let (_, error) = mqtt.call("corsac/history/read", &json!("#"));
    assert_eq!(error.as_deref(), Some("corsac.error.no_history"));
    // Patterns and snapshots of values need none.
    wamp.publish("h.x", json!([1]), json!({}));
    let answer = wamp.ask(16, json!([{"acknowledge": true, "retain": true}, "h.kept", [{"k": 1}]]));
    assert_eq!(answer[0], 17);
    let mut other = Wamp::open(&router);
    other.subscribe(json!({"snapshot": true, "filter": {"k": 1}}), "h.#");
    assert_eq!(other.event(), json!({"k": 1}));
    assert_eq!(other.receive()[0], 35);
}

/// Numbers on `n.x` while subscribers join from the beginning: each sees all of them, once and in order.
#[test]
fn subscribers_that_join_while_others_publish_miss_nothing() {
    const COUNT: u64 = 6_000;
    let data = Data::new();
    let router = data.start();
    let mut publisher = Wamp::open(&router);
    std::thread::scope(|scope| {
        let publishing = scope.spawn(move || {
            for number in 0..COUNT {
                publisher.request(16, json!([{"acknowledge": true, "exclude_me": false}, "n.x", [number]]));
                // Bursts, so that some join between them.
                if number % 100 == 99 {
                    for _ in 0..100 {
                        assert_eq!(publisher.receive()[0], 17);
                    }
                }
            }
        });
        for joiner in 0..12 {
            let router = &router;
            scope.spawn(move || {
                std::thread::park_timeout(Duration::from_millis(joiner * 30));
                if joiner % 2 == 0 {
                    let mut wamp = Wamp::open(router);
                    wamp.subscribe(json!({"after": 0}), "n.x");
                    (0..COUNT).for_each(|number| assert_eq!(wamp.event(), number, "joiner {joiner}"));
                    return;
                }
                let mut mqtt = Mqtt::open(router, &format!("j{joiner}"));
                let qos = joiner / 2 % 2;
                mqtt.send(&format!("SUBSCRIBE id=1 n/#:{qos} user=corsac-after:0"));
                assert_eq!(mqtt.receive()[0], "SUBACK");
                for number in 0..COUNT {
                    let words = mqtt.receive();
                    assert_eq!(words[2], number.to_string(), "joiner {joiner}: {words:?}");
                    if let Some(id) = words.iter().find(|word| word.starts_with("id=")) {
                        mqtt.send(&format!("PUBACK {id}"));
                    }
                }
            });
        }
        publishing.join().unwrap();
    });
}

/// `corsac history` over both protocols: the same lines, and what is published while it follows.
#[test]
fn the_command_line_prints_and_follows_the_history() {
    let data = Data::new();
    let router = with_history(&data);
    let mut publisher = Wamp::open(&router);
    let urls = [format!("ws://{}/ws", router.http), format!("mqtt://{}", router.mqtt)];
    let run = |url: &str, arguments: &[&str]| {
        let mut command = corsac(&["history", "--url", url]);
        command.args(arguments);
        Running::start(command)
    };
    for url in &urls {
        let (code, stdout, stderr) = run(url, &["h/#", "--after", "1"]).end();
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        let lines: Vec<Vec<&str>> = stdout.lines().map(|line| line.splitn(4, ' ').collect()).collect();
        let said: Vec<_> = lines.iter().map(|line| (line[0], line[2], line.get(3).copied().unwrap_or_default())).collect();
        assert_eq!(
            said[..],
            [
                ("2", "h/mqtt", "plain text"),
                ("3", "h/mqtt", "hex:00ff"),
                ("4", "h/wamp", "{\"args\":[4,\"four\"],\"kwargs\":{\"k\":1}}"),
                ("5", "h/wamp", "{\"k\":1,\"n\":5}"),
            ]
        );
        assert!(lines.iter().all(|line| line[1].starts_with("20") && line[1].ends_with('Z')), "{stdout}");
        let (_, stdout, _) = run(url, &["h.wamp", "--last", "1", "--json"]).end();
        let event: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((&event["id"], &event["topic"], &event["args"]), (&json!(5), &json!("h.wamp"), &json!([{"k": 1, "n": 5}])));
        let mut following = run(url, &["h/#", "--last", "2", "--follow"]);
        assert!(following.line().starts_with("4 ") && following.line().starts_with("5 "));
        following.signal("-INT");
        assert_eq!(following.end().0, Some(0));
        let (code, _, stderr) = run(url, &["h/#", "--after", "5", "--last", "1"]).end();
        assert!(code == Some(0) && stderr.contains("no event of h/# is kept in that part of the history"), "{stderr}");
    }
    let mut following: Vec<Running> = urls.iter().map(|url| run(url, &["f.#", "--follow"])).collect();
    for number in 0..3 {
        let id = publisher.publish("f.x", json!([number]), json!({}));
        for (following, url) in following.iter_mut().zip(&urls) {
            let line = following.line();
            assert!(line.starts_with(&format!("{id} ")) && line.ends_with(&format!(" f.x {number}")), "{url} {line}");
        }
    }
    drop(following);
    let memory = Router::start("");
    let (code, stdout, stderr) = run(&format!("ws://{}/ws", memory.http), &["#"]).end();
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("corsac.error.no_history") && stderr.contains("without --memory"), "{stderr}");
}
