//! The small clients against the real router, each its own process.
//!
//! Every publisher with every subscriber, every caller with every callee, and how they end.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used)]
mod common;

use std::io::{BufRead, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{PATIENCE, Router, Running, corsac};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

fn start(way: &[String], arguments: &[&str]) -> Running {
    let (name, rest) = arguments.split_at(if arguments[0] == "queue" { 2 } else { 1 });
    let mut command = corsac(name);
    command.args(way).args(rest);
    Running::start(command)
}

fn run(way: &[String], arguments: &[&str]) -> (Option<i32>, String, String) {
    start(way, arguments).end()
}

/// Runs a client that must succeed in silence.
fn publish(way: &[String], arguments: &[&str]) {
    let arguments: Vec<&str> = ["pub"].iter().chain(arguments).copied().collect();
    assert_eq!(run(way, &arguments), (Some(0), String::new(), String::new()), "{way:?} {arguments:?}");
}

/// A subscriber that has subscribed to `<root>/#`, as it says.
fn subscriber(way: &[String], root: &str, arguments: &[&str]) -> Running {
    let filter = format!("{root}/#");
    let arguments: Vec<&str> = ["sub", &filter].iter().chain(arguments).copied().collect();
    let mut subscriber = start(way, &arguments);
    assert_eq!(subscriber.said(), format!("subscribed to {filter}; Ctrl-C stops it"));
    subscriber
}

/// The end of a subscriber, without the line by which it says that it has subscribed.
fn end_of_subscriber(subscriber: Running) -> (Option<i32>, String, String) {
    let (code, stdout, stderr) = subscriber.end();
    let stderr = stderr.split_inclusive('\n').filter(|line| !line.starts_with("subscribed to ")).collect();
    (code, stdout, stderr)
}

#[test]
fn every_publisher_reaches_every_subscriber() {
    let router = Router::start();
    let ways = router.ways();
    let mut subscribers: Vec<Running> = ways.iter().map(|way| subscriber(way, "demo", &[])).collect();
    for way in &ways {
        publish(way, &["demo/text", "hello"]);
        publish(way, &["demo.json", "{\"b\":[1,2.5,null],\"a\":\"\u{e9}\"}"]);
        publish(way, &["demo.list", "1", "two"]);
        publish(way, &["demo/both", "1", "--kwargs", "{\"k\":true}"]);
        publish(way, &["demo/quick", "0", "--qos", "0"]);
        publish(way, &["demo/once", "2", "--qos", "2"]);
    }
    for subscriber in &mut subscribers {
        for _ in &ways {
            for expected in [
                "demo/text hello",
                "demo/json {\"b\":[1,2.5,null],\"a\":\"\u{e9}\"}",
                "demo/list [1,\"two\"]",
                "demo/both {\"args\":[1],\"kwargs\":{\"k\":true}}",
                "demo/quick 0",
                "demo/once 2",
            ] {
                assert_eq!(subscriber.line(), expected);
            }
        }
    }
}

#[test]
fn lines_are_published_one_by_one_and_in_order() {
    let router = Router::start();
    for way in router.ways() {
        let mut subscriber = subscriber(&way, "lines", &["--count", "2999"]);
        let mut command = corsac(&["pub", "lines/x"]);
        command.args(&way).stdin(Stdio::piped());
        let mut publisher = Running::start(command);
        let mut stdin = publisher.child.stdin.take().expect("piped");
        // One line alone is published before more come.
        writeln!(stdin, "first").unwrap();
        assert_eq!(subscriber.line(), "lines/x first");
        for number in 1..2_999 {
            writeln!(stdin, "{number}").unwrap();
        }
        drop(stdin);
        for number in 1..2_999 {
            assert_eq!(subscriber.line(), format!("lines/x {number}"));
        }
        assert_eq!(publisher.end(), (Some(0), String::new(), String::new()));
        assert_eq!(end_of_subscriber(subscriber), (Some(0), String::new(), String::new()));
    }
}

#[test]
fn values_are_kept_and_removed_from_both_sides() {
    let router = Router::start();
    let ways = router.ways();
    for setter in &ways {
        publish(setter, &["state/lamp", "{\"on\":true}", "--retain"]);
        for reader in &ways {
            let arguments = ["sub", "state/+", "--retained", "--json", "--count", "1", "--timeout-ms", "10000"];
            let (code, stdout, stderr) = end_of_subscriber(start(reader, &arguments));
            assert_eq!((code, stderr.as_str()), (Some(0), ""));
            let event: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
            assert_eq!(
                (&event["topic"], &event["args"][0]["on"], &event["retained"]),
                (&"state/lamp".into(), &true.into(), &true.into())
            );
        }
        publish(setter, &["state.lamp", "", "--retain"]);
        let readers: Vec<Running> =
            ways.iter().map(|way| start(way, &["sub", "state.*", "--retained", "--timeout-ms", "300"])).collect();
        for reader in readers {
            assert_eq!(end_of_subscriber(reader), (Some(0), String::new(), String::new()));
        }
    }
}

/// A callee that has registered.
fn callee(way: &[String], arguments: &[&str]) -> Running {
    let arguments: Vec<&str> = ["register"].iter().chain(arguments).copied().collect();
    let mut callee = start(way, &arguments);
    let line = callee.said();
    assert!(line.starts_with("serving "), "{line}");
    callee
}

/// stdout of a call that must succeed.
fn result(way: &[String], arguments: &[&str]) -> String {
    let arguments: Vec<&str> = ["call"].iter().chain(arguments).copied().collect();
    let (code, stdout, stderr) = run(way, &arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{way:?} {arguments:?}");
    stdout
}

#[test]
fn every_caller_reaches_every_callee() {
    let router = Router::start();
    let ways = router.ways();
    for serving in &ways {
        let _echo = callee(serving, &["demo.echo", "--echo"]);
        let _shell = callee(
            serving,
            &[
                "demo/run",
                "--",
                "sh",
                "-c",
                "read line; test \"$line\" = '[\"work\"]' || { echo \"not $line\" >&2; exit 3; }; echo '{\"a\" : 1}'",
            ],
        );
        for way in &ways {
            assert_eq!(result(way, &["demo/echo"]), "null\n");
            assert_eq!(result(way, &["demo/echo", "text"]), "\"text\"\n");
            assert_eq!(result(way, &["demo/echo", ""]), "\"\"\n");
            assert_eq!(result(way, &["demo.echo", "-1.5"]), "-1.5\n");
            assert_eq!(result(way, &["demo.echo", "{\"b\":[1,null],\"a\":\"x\"}"]), "{\"b\":[1,null],\"a\":\"x\"}\n");
            assert_eq!(
                result(way, &["demo.echo", "1", "two", "--kwargs", "{\"k\":true}"]),
                "{\"args\":[1,\"two\"],\"kwargs\":{\"k\":true}}\n"
            );
            assert_eq!(result(way, &["demo.run", "work"]), "{\"a\":1}\n");
            let (code, stdout, stderr) = run(way, &["call", "demo.run", "play"]);
            assert_eq!((code, stdout.as_str()), (Some(1), ""));
            assert_eq!(stderr, "corsac: corsac.error.command_failed: not [\"play\"]\n");
            let (code, _, stderr) = run(way, &["register", "demo.echo", "--echo"]);
            assert!(code == Some(1) && stderr.contains("take another name"), "{stderr}");
        }
    }
    for way in &ways {
        let (code, stdout, stderr) = run(way, &["call", "demo.echo"]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.starts_with("corsac: wamp.error.no_such_procedure") && stderr.contains("corsac register"), "{stderr}");
    }
}

#[test]
fn a_call_that_is_given_up_stops_its_command() {
    let router = Router::start();
    let ways = router.ways();
    let mut callees = Vec::new();
    let mut calls = Vec::new();
    for (number, way) in ways.iter().enumerate() {
        let file = std::env::temp_dir().join(format!("corsac-call-{}-{number}", std::process::id()));
        let (procedure, script) = (format!("demo.slow.{number}"), format!("echo $$ > {}; exec sleep 60", file.display()));
        callees.push((callee(way, &[&procedure, "--concurrency", "1", "--", "sh", "-c", &script]), file));
        let caller = &ways[(number + 1) % ways.len()];
        calls.push(start(caller, &["call", &procedure, "--timeout-ms", "1500"]));
    }
    for ((callee, file), call) in callees.into_iter().zip(calls) {
        let (code, _, stderr) = call.end();
        assert_eq!(code, Some(1));
        assert!(stderr.starts_with("corsac: wamp.error.timeout") && stderr.contains("--timeout-ms"), "{stderr}");
        let process = format!("/proc/{}", std::fs::read_to_string(&file).expect("the command ran").trim());
        let deadline = Instant::now() + PATIENCE;
        while std::path::Path::new(&process).exists() {
            assert!(Instant::now() < deadline, "{process} still runs");
            std::thread::sleep(Duration::from_millis(2));
        }
        callee.signal("-INT");
        assert_eq!(callee.end().0, Some(0));
        std::fs::remove_file(file).ok();
    }
}

#[test]
fn calls_beyond_the_concurrency_wait_their_turn() {
    let router = Router::start();
    for way in router.ways() {
        let _callee = callee(&way, &["demo.work", "--concurrency", "2", "--", "sh", "-c", "sleep 0.02; cat"]);
        let calls: Vec<Running> = (0..8).map(|number| start(&way, &["call", "demo.work", &number.to_string()])).collect();
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.end(), (Some(0), format!("[{number}]\n"), String::new()));
        }
    }
}

#[test]
fn progressive_results_are_printed_as_they_come() {
    let router = Router::start();
    let stream = std::net::TcpStream::connect(&router.http).expect("the router listens");
    let mut request = router.ws().into_client_request().expect("a URL");
    request.headers_mut().insert("sec-websocket-protocol", "wamp.2.json".parse().unwrap());
    let (mut callee, _) = tungstenite::client(request, stream).expect("a WebSocket");
    let features = "{\"progressive_call_results\":true,\"call_canceling\":true}";
    for message in [
        format!("[1,\"realm1\",{{\"roles\":{{\"callee\":{{\"features\":{features}}}}}}}]"),
        "[64,1,{},\"demo.count\"]".to_owned(),
    ] {
        callee.send(Message::text(message)).expect("open");
        callee.read().expect("WELCOME, then REGISTERED");
    }
    std::thread::spawn(move || {
        while let Ok(message) = callee.read() {
            let invocation: serde_json::Value = serde_json::from_slice(&message.into_data()).expect("JSON");
            let wants_progress = invocation[3]["receive_progress"] == true;
            for number in 1..=3 {
                let options = if number < 3 { "{\"progress\":true}" } else { "{}" };
                if number == 3 || wants_progress {
                    callee.send(Message::text(format!("[70,{},{options},[{number}]]", invocation[1]))).expect("open");
                }
            }
        }
    });
    for way in router.ways() {
        assert_eq!(result(&way, &["demo.count"]), "3\n");
        assert_eq!(result(&way, &["demo.count", "--progress"]), "1\n2\n3\n");
    }
}

#[test]
fn topics_are_printed_as_the_filter_is_spelled() {
    let router = Router::start();
    let ways = router.ways();
    publish(&ways[0], &["spelled/a.b/c", "1", "--retain"]);
    for way in &ways {
        for (filter, expected) in [("spelled/#", "spelled/a.b/c 1\n"), ("spelled.#", "spelled.a%2Eb.c 1\n")] {
            let (_, stdout, _) = run(way, &["sub", filter, "--retained", "--count", "1"]);
            assert_eq!(stdout, expected);
        }
    }
    let of = |way: usize| run(&ways[way], &["sub", "--retained", "--count", "1", "--match", "prefix", "spel"]);
    assert_eq!(of(0).1, "spelled/a.b/c 1\n");
    assert!(of(3).0 == Some(2) && of(3).2.contains("MQTT knows no --match prefix"), "{:?}", of(3));
    let (_, stdout, _) = run(&ways[0], &["sub", "--retained", "--count", "1", "--match", "wildcard", "spelled..c"]);
    assert_eq!(stdout, "spelled.a%2Eb.c 1\n");
    for way in &ways {
        for (arguments, expected) in [
            (&["#"][..], "spelled/a.b/c 1\n"),
            (&["spelled.#", "--spell", "mqtt"], "spelled/a.b/c 1\n"),
            (&["#", "--spell", "wamp"], "spelled.a%2Eb.c 1\n"),
        ] {
            let arguments: Vec<&str> = ["sub", "--retained", "--count", "1"].iter().chain(arguments).copied().collect();
            assert_eq!(run(way, &arguments).1, expected, "{arguments:?}");
        }
    }
}

#[test]
fn a_subscriber_says_when_events_are_missing() {
    let router = Router::start();
    for way in router.ways() {
        let (code, stdout, stderr) = run(&way, &["sub", "quiet", "--count", "2", "--timeout-ms", "100"]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains("0 of 2 events came in 100 ms"), "{stderr}");
    }
}

#[test]
fn a_subscriber_ends_quietly_with_its_reader_and_by_signals() {
    let router = Router::start();
    for way in router.ways() {
        let mut reader_gone = subscriber(&way, "pipe", &[]);
        reader_gone.stdout = None;
        publish(&way, &["pipe/x", "1"]);
        assert_eq!(end_of_subscriber(reader_gone), (Some(0), String::new(), String::new()));
        for signal in ["-INT", "-TERM"] {
            let subscriber = subscriber(&way, "pipe", &[]);
            subscriber.signal(signal);
            assert_eq!(end_of_subscriber(subscriber), (Some(0), String::new(), String::new()));
        }
    }
}

#[test]
fn a_router_that_stops_is_told_by_every_client() {
    let router = Router::start();
    let subscribers: Vec<Running> = router.ways().iter().map(|way| subscriber(way, "stop", &["--once"])).collect();
    router.running.signal("-TERM");
    for subscriber in subscribers {
        let (code, _, stderr) = subscriber.end();
        assert_eq!(code, Some(1));
        assert!(stderr.contains("the router ended"), "{stderr}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let router = Router::start();
    let (ws, mqtt) = (router.ws(), router.mqtt());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let (no_ws, no_mqtt, no_http) = (format!("ws://{nobody}/ws"), format!("mqtt://{nobody}"), format!("ws://{}/ws", router.mqtt));
    for (url, arguments, code, expected) in [
        (&no_ws, &["pub", "a", "1"][..], 1, "is the router running? start it with `corsac`"),
        (&no_mqtt, &["sub", "a"], 1, "is the router running? start it with `corsac`"),
        (&no_http, &["pub", "a", "1"], 1, "that port speaks MQTT only"),
        (&format!("rs://{}", router.mqtt), &["pub", "a", "1"], 1, "that port speaks MQTT only"),
        (&ws, &["pub", "wamp.x", "1"], 1, "message 1 was refused: wamp.error."),
        (&mqtt, &["pub", "$SYS/x", "1"], 1, "message 1 was refused: NotAuthorized"),
        (&mqtt, &["pub", "a", "not json", "--json"], 2, "is not JSON"),
        (&mqtt, &["pub", "a", "--kwargs", "5"], 2, "--kwargs must be a JSON object"),
        (&ws, &["pub", "a/#", "1"], 2, "write it like demo/hello"),
        (&ws, &["pub", "a..b", "1"], 2, "in MQTT's it is \"a//b\""),
        (&ws, &["pub", "q.with space.x", "1"], 2, "in MQTT's it is \"q/with space/x\""),
        (&ws, &["pub", "a", "--file", "/no/such"], 1, "cannot read /no/such"),
        (&ws, &["pub", "a"], 1, "write the message: corsac pub a hello"),
        (&ws, &["sub", "a#b"], 2, "--match prefix a"),
        (&ws, &["sub", "demo.>"], 2, "for all names below demo write 'demo.#'"),
        (&ws, &["sub", ""], 2, "is not a filter"),
        (&ws, &["history", "a*"], 2, "--match prefix a"),
        (&ws, &["history", "a", "--since", "soon"], 2, "90s, 15m, 1h, 7d"),
        (&ws, &["register", "a"], 2, "or --echo"),
        (&ws, &["register", "a", "--", "/no/such"], 127, "there is no such command"),
        (&ws, &["register", "a", "--", "/etc/passwd"], 126, "no executable file"),
        (&ws, &["lock", "a b", "--", "true"], 2, "is not the name of a lock"),
        (&mqtt, &["lock", "a/#", "--", "true"], 2, "is not the name of a lock"),
        (&mqtt, &["register", "corsac.x", "--echo"], 1, "choose another first level)\n"),
        (&ws, &["call", "corsac.queue.put", "a b", "1"], 1, "corsac.queue.put: the name in its arguments has a space"),
        (&mqtt, &["history", "a", "-n", "5"], 2, "write --last"),
        (&ws, &["lock", "a", "--", "no-such-command"], 127, "there is no such command"),
        (&ws, &["queue", "ack", "nonsense"], 2, "is no token"),
        (&ws, &["queue", "stats", "nosuch"], 1, "there is no queue nosuch (yet)"),
        (&ws, &["sub"], 2, "<FILTER>"),
        (&ws, &["pub", "a", "--qos", "3"], 2, "--qos"),
        (&"gopher://x".to_owned(), &["pub", "a"], 2, "take ws://, rs:// or mqtt://"),
        (&"ws://127.0.0.1:0x/".to_owned(), &["pub", "a"], 2, "is not a port"),
    ] {
        let (got, stdout, stderr) = run(&["--url".to_owned(), url.clone()], arguments);
        assert_eq!((got, stdout.as_str()), (Some(code), ""), "{url} {arguments:?} {stderr}");
        assert!(stderr.contains(expected), "{url} {arguments:?} {stderr}");
    }
}

#[test]
fn the_environment_may_name_the_router() {
    let router = Router::start();
    let with = |arguments: &[&str]| {
        let mut command = corsac(arguments);
        command.env("CORSAC_URL", router.mqtt());
        Running::start(command).end()
    };
    let mut command = corsac(&["pub", "a", "1"]);
    command.env("CORSAC_URL", "foo");
    let (code, _, stderr) = Running::start(command).end();
    assert!(code == Some(2) && stderr.starts_with("corsac: CORSAC_URL is \"foo\": it has no scheme"), "{stderr}");
    let (_, _, stderr) = with(&["pub", "a", "--qos", "x"]);
    assert!(!stderr.contains("--url"), "{stderr}");
    assert_eq!(with(&["pub", "env/x", "1", "--retain"]), (Some(0), String::new(), String::new()));
    assert_eq!(with(&["sub", "#", "--retained", "--count", "1"]).1, "env/x 1\n");
    assert_eq!(with(&["check"]).0, Some(0));
}

#[test]
fn items_go_through_queues_from_every_client_to_every_client() {
    let router = Router::start();
    let ways = router.ways();
    let queue = |way: &[String], arguments: &[&str]| {
        let arguments: Vec<&str> = ["queue"].iter().chain(arguments).copied().collect();
        run(way, &arguments)
    };
    let done = |stdout: &str| (Some(0), stdout.to_owned(), String::new());
    for (number, putting) in ways.iter().enumerate() {
        let name = format!("work.{number}");
        assert_eq!(queue(putting, &["put", &name, "text", "{\"b\" : 1}", "[1,2]", "5", ""]), done(""));
        for taking in &ways {
            let (code, stdout, stderr) = queue(taking, &["take", &name, "--max", "9"]);
            assert_eq!((code, stderr.as_str()), (Some(0), ""));
            let (tokens, bodies): (Vec<_>, Vec<_>) =
                stdout.lines().map(|line| line.split_once(' ').expect("token, body")).unzip();
            assert_eq!(bodies, ["text", "{\"b\":1}", "[1,2]", "5", "\"\""]);
            let nack: Vec<&str> = ["nack"].into_iter().chain(tokens).collect();
            assert_eq!(queue(putting, &nack), done(""));
        }
        let taker = {
            let mut command = corsac(&["queue", "take", "later", "--wait-ms", "10000", "--ack"]);
            command.args(&ways[(number + 1) % ways.len()]);
            Running::start(command)
        };
        let mut putter = corsac(&["queue", "put", "later", "--delay-ms", "10"]);
        putter.args(putting).stdin(Stdio::piped());
        let mut putter = Running::start(putter);
        writeln!(putter.child.stdin.take().expect("piped"), "a line").unwrap();
        assert_eq!(putter.end(), done(""));
        assert_eq!(taker.end(), done("a line\n"));
        let (_, stdout, _) = queue(putting, &["take", &name, "--json", "--ack"]);
        let item: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
        assert_eq!((&item["args"][0], &item["delivery_count"]), (&"text".into(), &(ways.len() as u64 + 1).into()));
        let (code, stdout, stderr) = queue(putting, &["ack", item["token"].as_str().expect("text")]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains("corsac.error.no_such_token"), "{stderr}");
        assert_eq!(stderr.matches("its time was over").count(), 1, "{stderr}");
        let (_, stdout, _) = queue(putting, &["declare", &name, "--max-deliveries", "3", "--dead-letter", "dead"]);
        assert_eq!(stdout, "{\"dead_letter\":\"dead\",\"max_deliveries\":3,\"max_len\":null,\"visibility_ms\":30000}\n");
        let (_, stdout, _) = queue(putting, &["stats", &name]);
        let stats: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
        assert_eq!((&stats["ready"], &stats["acknowledged"]), (&4.into(), &1.into()));
        let (code, stdout, stderr) = queue(putting, &["take", "nothing", "--wait-ms", "10"]);
        assert!(code == Some(1) && stdout.is_empty() && stderr.contains("no item came from nothing in 10 ms"), "{stderr}");
        let (code, _, stderr) = queue(putting, &["put", "a b", "1"]);
        assert!(code == Some(2) && stderr.contains("write it like jobs"), "{stderr}");
        let (code, stdout, _) = queue(putting, &["list"]);
        let (_, row) =
            stdout.lines().find_map(|line| line.split_once(&format!("work/{number}")).map(|(row, _)| (0, row))).unwrap();
        assert_eq!((code, row.split_whitespace().collect::<Vec<_>>()), (Some(0), vec!["4", "0", "0", "0", "5"]), "{stdout}");
        let (_, stdout, _) = queue(putting, &["list", "--json"]);
        assert!(stdout.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{stdout}");
    }
    // The fate of the items is known when none is left.
    let (_, stdout, _) = queue(&ways[0], &["stats", "later"]);
    let stats: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((&stats["put"], &stats["acknowledged"], &stats["ready"]), (&5.into(), &5.into(), &0.into()));
}

#[test]
fn every_url_leads_to_the_realm_that_is_named() {
    let router = Router::start();
    let there = |way: &[String]| [&way[..2], &["--realm".to_owned(), "factory".to_owned()]].concat();
    for (number, publisher) in router.ways().iter().enumerate() {
        publish(&there(publisher), &[&format!("realm/{number}"), "1", "--retain"]);
        for subscriber in router.ways() {
            let arguments = ["sub", "realm/#", "--retained", "--count", &(number + 1).to_string()];
            assert_eq!(run(&there(&subscriber), &arguments).1.lines().count(), number + 1, "{publisher:?} {subscriber:?}");
        }
    }
    assert_eq!(run(&router.ways()[0], &["sub", "realm/#", "--retained", "--timeout-ms", "100"]).1, "");
}

/// Arguments of `corsac pub`, its standard input, and the bytes that MQTT clients get. Then the args and kwargs that WAMP clients
/// get of it, from a WAMP and from an MQTT publisher.
type Body = (&'static [&'static str], &'static str, &'static [u8], &'static str, &'static str);

const BODIES: &[Body] = &[
    (&["hello"], "", b"hello", r#"[["hello"],{}]"#, r#"[["hello"],{}]"#),
    (&["ON"], "", b"ON", r#"[["ON"],{}]"#, r#"[["ON"],{}]"#),
    (&["\"hello\""], "", b"hello", r#"[["hello"],{}]"#, r#"[["hello"],{}]"#),
    (&["\"1\""], "", b"\"1\"", r#"[["1"],{}]"#, r#"[["1"],{}]"#),
    (&["\"\""], "", b"\"\"", r#"[[""],{}]"#, r#"[[""],{}]"#),
    (&[""], "", b"", "[[],{}]", "[[],{}]"),
    (&["21.50"], "", b"21.50", "[[21.50],{}]", "[[21.50],{}]"),
    (&["-5"], "", b"-5", "[[-5],{}]", "[[-5],{}]"),
    (&["12345678901234567890"], "", b"12345678901234567890", "[[12345678901234567890],{}]", "[[12345678901234567890],{}]"),
    (&["007"], "", b"007", r#"[["007"],{}]"#, r#"[["007"],{}]"#),
    (&["null"], "", b"null", "[[null],{}]", "[[null],{}]"),
    (&["{\"b\": 1}"], "", b"{\"b\":1}", r#"[[{"b":1}],{}]"#, r#"[[{"b":1}],{}]"#),
    (&["{\"b\":"], "", b"{\"b\":", r#"[["{\"b\":"],{}]"#, r#"[["{\"b\":"],{}]"#),
    (&["a\u{1b}[1mb\nc"], "", b"a\x1b[1mb\nc", r#"[["a\u001b[1mb\nc"],{}]"#, r#"[["a\u001b[1mb\nc"],{}]"#),
    // MQTT has no arguments: several are one list.
    (&["a", "b"], "", b"[\"a\",\"b\"]", r#"[["a","b"],{}]"#, r#"[[["a","b"]],{}]"#),
    (&["--kwargs", "{\"k\":1}"], "", b"{\"k\":1}", r#"[[],{"k":1}]"#, r#"[[{"k":1}],{}]"#),
    (&["a", "--kwargs", "{\"k\":1}"], "", b"{\"args\":[\"a\"],\"kwargs\":{\"k\":1}}", r#"[["a"],{"k":1}]"#, r#"[["a"],{"k":1}]"#),
    (&["--stdin"], "two\nlines\n", b"two\nlines\n", r#"[["two\nlines\n"],{}]"#, r#"[["two\nlines\n"],{}]"#),
    (&["--stdin"], "[1,\n 2]\n", b"[1,2]", "[[[1,2]],{}]", "[[[1,2]],{}]"),
    (&["--stdin", "--binary"], "1", b"1", r#"[["\u0000MQ=="],{}]"#, r#"[["\u0000MQ=="],{}]"#),
    (&["-"], "one line\n", b"one line", r#"[["one line"],{}]"#, r#"[["one line"],{}]"#),
];

#[test]
fn every_url_sends_the_same_bytes() {
    let router = Router::start();
    let ways = router.ways();
    let (wamp, mqtt) = (&ways[0], &ways[3]);
    // In JSON, which keeps a number as it is written.
    let rs = ways[2][..2].to_vec();
    let mut json = subscriber(wamp, "same", &["--json"]);
    for (arguments, input, bytes, from_wamp, from_mqtt) in BODIES {
        for way in [&ways[0], &rs, &ways[3]] {
            let raw = subscriber(mqtt, "same", &["--raw", "--count", "1"]);
            let mut command = corsac(&["pub", "same/x"]);
            command.args(way).args(*arguments).stdin(Stdio::piped());
            let mut publisher = Running::start(command);
            publisher.child.stdin.take().expect("piped").write_all(input.as_bytes()).unwrap();
            assert_eq!(publisher.end(), (Some(0), String::new(), String::new()), "{arguments:?}");
            assert_eq!(raw.end().1.as_bytes(), *bytes, "{arguments:?} through {way:?}");
            let event: serde_json::Value = serde_json::from_str(&json.line()).expect("JSON");
            let expected: serde_json::Value =
                serde_json::from_str(if way[1].starts_with("mqtt") { from_mqtt } else { from_wamp }).expect("JSON");
            assert_eq!(serde_json::json!([event["args"], event["kwargs"]]), expected, "{arguments:?} through {way:?}");
        }
    }
}

#[test]
fn binary_goes_through_and_is_shown() {
    let router = Router::start();
    let ways = router.ways();
    let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    let file = std::env::temp_dir().join(format!("corsac-binary-{}", std::process::id()));
    std::fs::write(&file, &bytes).expect("room for a file");
    for way in &ways {
        let mut lines: Vec<Running> = ways.iter().map(|way| subscriber(way, "binary", &["--count", "2"])).collect();
        let raw: Vec<Running> = ways.iter().map(|way| subscriber(way, "binary", &["--raw", "--count", "2"])).collect();
        publish(way, &["binary/x", "--file", file.to_str().expect("UTF-8")]);
        let mut command = corsac(&["pub", "binary/x"]);
        command.args(way).stdin(Stdio::piped());
        let mut publisher = Running::start(command);
        publisher.child.stdin.take().expect("piped").write_all(b"\xff\x00\n").unwrap();
        assert_eq!(publisher.end(), (Some(0), String::new(), String::new()));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        for subscriber in &mut lines {
            assert_eq!(subscriber.line(), format!("binary/x hex:{hex}"));
            assert_eq!(subscriber.line(), "binary/x hex:ff00");
        }
        for mut subscriber in raw {
            let mut read = Vec::new();
            std::io::Read::read_to_end(subscriber.stdout.as_mut().expect("piped"), &mut read).unwrap();
            assert_eq!(read, [&bytes[..], b"\xff\x00"].concat());
        }
    }
    std::fs::remove_file(file).ok();
}

#[test]
fn what_looks_alike_is_printed_apart() {
    let router = Router::start();
    let ways = router.ways();
    let mut subscriber = subscriber(&ways[0], "alike", &[]);
    for (arguments, line) in [
        (&["{\"k\":1}"][..], "{\"k\":1}"),
        (&["--kwargs", "{\"k\":1}"], "{\"args\":[],\"kwargs\":{\"k\":1}}"),
        (&["quoted"], "quoted"),
        (&["\"\\\"quoted\\\"\""], "\"\\\"quoted\\\"\""),
        (&["1"], "1"),
        (&["\"1\""], "\"1\""),
        (&["hex:ff"], "\"hex:ff\""),
        (&["tab\tand\nline"], "\"tab\\tand\\nline\""),
        (&["trailing "], "trailing "),
    ] {
        let arguments: Vec<&str> = ["alike/x"].iter().chain(arguments).copied().collect();
        publish(&ways[0], &arguments);
        let mut read = String::new();
        subscriber.stdout.as_mut().expect("piped").read_line(&mut read).unwrap();
        assert_eq!(read, format!("alike/x {line}\n"));
    }
}

#[test]
fn a_message_that_is_too_large_is_told_with_its_size() {
    let router = Router::start();
    let file = std::env::temp_dir().join(format!("corsac-large-{}", std::process::id()));
    std::fs::write(&file, "x".repeat(17_000_000)).expect("room for a file");
    for way in router.ways() {
        let (code, stdout, stderr) = run(&way, &["pub", "large/x", "--file", file.to_str().expect("UTF-8")]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains("17,000,0") && stderr.contains("limits.max_packet_bytes"), "{way:?}: {stderr}");
    }
    std::fs::remove_file(file).ok();
}

/// A directory that is removed in the end.
struct Data(std::path::PathBuf);

impl Data {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corsac-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&path).ok();
        Data(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn a_subscriber_goes_on_when_the_router_is_back() {
    let data = Data::new("again");
    let mut router = Router::start_on("127.0.0.1:0", "127.0.0.1:0", data.path());
    let (http, mqtt, ways) = (router.http.clone(), router.mqtt.clone(), router.ways());
    publish(&ways[0], &["other/x", "before"]);
    let mut subscribers: Vec<Running> = ways.iter().map(|way| subscriber(way, "again", &[])).collect();
    for (round, signal) in ["-TERM", "-KILL", "-TERM"].into_iter().enumerate() {
        router.running.signal(signal);
        router.running.end();
        let lost: Vec<String> = subscribers.iter_mut().map(Running::said).collect();
        assert!(lost.iter().all(|line| line.starts_with("corsac: ") && line.ends_with("; connecting again")), "{lost:?}");
        router = Router::start_on(&http, &mqtt, data.path());
        // Published while most of them are not there yet.
        publish(&ways[round % 2], &["again/x", &format!("first {round}")]);
        publish(&ways[round % 2], &["again/x", &format!("second {round}")]);
        for (way, subscriber) in ways.iter().zip(&mut subscribers) {
            assert_eq!(subscriber.said(), "corsac: connected again", "{way:?} {signal}");
            let mut line = subscriber.line();
            // An event whose acknowledgement the router was killed before noting comes once more by MQTT.
            while way[1].starts_with("mqtt") && signal == "-KILL" && line.ends_with(&format!(" {}", round - 1)) {
                line = subscriber.line();
            }
            assert_eq!(line, format!("again/x first {round}"), "{way:?} {signal}");
            assert_eq!(subscriber.line(), format!("again/x second {round}"), "{way:?} {signal}");
        }
    }
    publish(&ways[0], &["again/x", "last"]);
    for mut subscriber in subscribers {
        assert_eq!(subscriber.line(), "again/x last");
        subscriber.signal("-INT");
        let (code, stdout, _) = subscriber.end();
        assert_eq!((code, stdout.as_str()), (Some(0), ""));
    }
}

#[test]
fn a_subscriber_says_what_may_be_missing_without_a_history() {
    let mut router = Router::start();
    let (http, mqtt, ways) = (router.http.clone(), router.mqtt.clone(), router.ways());
    let mut subscribers: Vec<Running> = ways.iter().map(|way| subscriber(way, "memory", &[])).collect();
    router.running.signal("-TERM");
    drop(router);
    router = Router::start_with(&["--http", &http, "--mqtt", &mqtt, "--memory"]);
    for (way, subscriber) in ways.iter().zip(&mut subscribers) {
        assert!(subscriber.said().ends_with("; connecting again"));
        let said = subscriber.said();
        assert_eq!(said, "corsac: connected again; what was published meanwhile may be missing", "{way:?}");
    }
    publish(&ways[0], &["memory/x", "1"]);
    assert!(subscribers.iter_mut().all(|subscriber| subscriber.line() == "memory/x 1"));
    drop(router);
}

#[test]
fn a_callee_serves_again_when_the_router_is_back() {
    let mut router = Router::start();
    let (http, mqtt, ways) = (router.http.clone(), router.mqtt.clone(), router.ways());
    let mut callees: Vec<Running> =
        (0..ways.len()).map(|number| callee(&ways[number], &[&format!("demo.echo.{number}"), "--echo"])).collect();
    let ends = callee(&ways[0], &["demo.once", "--once", "--echo"]);
    router.running.signal("-KILL");
    router.running.end();
    router = Router::start_with(&["--http", &http, "--mqtt", &mqtt, "--memory"]);
    let (code, _, stderr) = ends.end();
    assert!(code == Some(1) && stderr.contains("corsac: the"), "{stderr}");
    for (number, callee) in callees.iter_mut().enumerate() {
        assert!(callee.said().ends_with("; connecting again"));
        assert_eq!(callee.said(), "corsac: connected again");
        assert_eq!(result(&ways[0], &[&format!("demo.echo.{number}"), "here"]), "\"here\"\n");
    }
    drop(router);
}

#[test]
fn parts_of_the_history_are_read() {
    let data = Data::new("parts");
    let router = Router::start_on("127.0.0.1:0", "127.0.0.1:0", data.path());
    let ways = router.ways();
    for number in 1..=5 {
        publish(&ways[0], &["parts/x", &number.to_string()]);
    }
    for way in &ways {
        let read = |arguments: &[&str]| {
            let arguments: Vec<&str> = ["history", "parts/#"].iter().chain(arguments).copied().collect();
            let (code, stdout, stderr) = run(way, &arguments);
            assert_eq!(code, Some(0), "{arguments:?} {stderr}");
            let events: Vec<String> = stdout.lines().map(|line| line.split(' ').skip(2).collect::<Vec<_>>().join(" ")).collect();
            (events, stderr)
        };
        let all: Vec<String> = (1..=5).map(|number| format!("parts/x {number}")).collect();
        for (arguments, expected) in [
            (&[][..], &all[..]),
            (&["--after", "2"], &all[2..]),
            (&["--after", "1", "--last", "2"], &all[3..]),
            (&["--after", "4", "--last", "3"], &all[4..]),
            (&["--since", "1h"], &all[..]),
            (&["--since", "1h", "--until", "0s", "--last", "1"], &all[4..]),
        ] {
            assert_eq!(read(arguments), (expected.to_vec(), String::new()), "{way:?} {arguments:?}");
        }
        for arguments in [&["--until", "1h"][..], &["--since", "2100-01-01T00:00:00Z"], &["--after", "5"], &["--last", "0"]] {
            assert_eq!(
                read(arguments),
                (vec![], "no event of parts/# is kept in that part of the history\n".to_owned()),
                "{arguments:?}"
            );
        }
        let (code, stdout, stderr) = run(way, &["history", "nosuch"]);
        assert_eq!((code, stdout.as_str()), (Some(0), ""));
        assert!(stderr.contains("no event of nosuch is kept; check the name"), "{stderr}");
        assert!(run(way, &["history", "parts.#", "--last", "1"]).1.contains(" parts.x 5"));
    }
}

#[test]
fn the_demo_has_its_device() {
    let router = Router::start();
    let mut command = corsac(&["demo", "--url", &router.mqtt()]);
    command.stderr(Stdio::inherit());
    let mut device = Running::start(command);
    assert!(device.line().starts_with("open http://127.0.0.1:8080/demo"));
    assert!(device.line().starts_with("connected to "));
    for way in router.ways() {
        let (_, stdout, _) = run(&way, &["sub", "demo/device/online", "--retained", "--count", "1"]);
        assert_eq!(stdout, "demo/device/online true\n");
        let lamp = result(&way, &["demo.lamp.set", "{\"on\":false}"]);
        let lamp: serde_json::Value = serde_json::from_str(&lamp).expect("JSON");
        assert_eq!(lamp, serde_json::json!({ "on": false, "brightness": 60 }));
    }
    device.signal("-INT");
    device.stdout = None;
    assert_eq!(device.end().0, Some(0));
    let (code, _, stderr) = run(&["--url".to_owned(), router.ws()], &["demo"]);
    assert!(code == Some(2) && stderr.contains("mqtt://"), "{stderr}");
}
