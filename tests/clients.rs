//! The small clients against the real router, each its own process.
//!
//! Every publisher with every subscriber, every caller with every callee, and how they end.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used)]
mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{PATIENCE, Router, Running, corsac};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

fn start(way: &[String], arguments: &[&str]) -> Running {
    let mut command = corsac(&arguments[..1]);
    command.args(way).args(&arguments[1..]);
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

/// A subscriber that has subscribed: it has seen the retained message at `<root>/ready`.
fn subscriber(way: &[String], root: &str, arguments: &[&str]) -> Running {
    publish(way, &[&format!("{root}/ready"), "1", "--retain"]);
    let filter = format!("{root}/#");
    let arguments: Vec<&str> = ["sub", &filter, "--retained"].iter().chain(arguments).copied().collect();
    let mut subscriber = start(way, &arguments);
    assert!(subscriber.line().contains("ready"));
    subscriber
}

#[test]
fn every_publisher_reaches_every_subscriber() {
    let router = Router::start();
    let ways = router.ways();
    let mut subscribers: Vec<Running> = ways.iter().map(|way| subscriber(way, "demo", &[])).collect();
    // Whoever subscribed before the ready message of another one has seen that too.
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
                let mut line = subscriber.line();
                while line == "demo/ready 1" {
                    line = subscriber.line();
                }
                assert_eq!(line, expected);
            }
        }
    }
}

#[test]
fn lines_are_published_one_by_one_and_in_order() {
    let router = Router::start();
    for way in router.ways() {
        let mut subscriber = subscriber(&way, "lines", &["--count", "3000"]);
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
        assert_eq!(subscriber.end(), (Some(0), String::new(), String::new()));
    }
}

#[test]
fn values_are_kept_and_removed_from_both_sides() {
    let router = Router::start();
    let ways = router.ways();
    for setter in &ways {
        publish(setter, &["state/lamp", "{\"on\":true}", "--retain"]);
        for reader in &ways {
            let (code, stdout, stderr) =
                run(reader, &["sub", "state/+", "--retained", "--json", "--count", "1", "--timeout-ms", "10000"]);
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
            assert_eq!(reader.end(), (Some(0), String::new(), String::new()));
        }
    }
}

/// A callee that has registered.
fn callee(way: &[String], arguments: &[&str]) -> Running {
    let arguments: Vec<&str> = ["register"].iter().chain(arguments).copied().collect();
    let mut callee = start(way, &arguments);
    // Its one line comes on stderr, for people.
    let mut stderr = BufReader::new(callee.child.stderr.take().expect("piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("UTF-8");
    assert!(line.starts_with("serving "), "{line}");
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
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
            assert_eq!(stderr, "corsac: corsac.error.command_failed [\"not [\\\"play\\\"]\"]\n");
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
    assert_eq!(of(0).1, "spelled.a%2Eb.c 1\n");
    assert!(of(3).2.contains("MQTT knows no --match prefix"), "{:?}", of(3));
    let (_, stdout, _) = run(&ways[0], &["sub", "--retained", "--count", "1", "--match", "wildcard", "spelled..c"]);
    assert_eq!(stdout, "spelled.a%2Eb.c 1\n");
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
        assert_eq!(reader_gone.end(), (Some(0), String::new(), String::new()));
        for signal in ["-INT", "-TERM"] {
            let subscriber = subscriber(&way, "pipe", &[]);
            subscriber.signal(signal);
            assert_eq!(subscriber.end(), (Some(0), String::new(), String::new()));
        }
    }
}

#[test]
fn a_router_that_stops_is_told_by_every_client() {
    let router = Router::start();
    let subscribers: Vec<Running> = router.ways().iter().map(|way| subscriber(way, "stop", &[])).collect();
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
        (&no_http, &["pub", "a", "1"], 1, "Corsac speaks WAMP at /ws"),
        (&ws, &["pub", "wamp.x", "1"], 1, "message 1 was refused: wamp.error."),
        (&mqtt, &["pub", "$SYS/x", "1"], 1, "message 1 was refused: NotAuthorized"),
        (&mqtt, &["pub", "a", "not json", "--json"], 1, "is not JSON"),
        (&ws, &["pub", "a/#", "1"], 1, "write it like demo/hello"),
        (&ws, &["sub", "a#b"], 1, "write it like demo/hello"),
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
    assert_eq!(with(&["pub", "env/x", "1", "--retain"]), (Some(0), String::new(), String::new()));
    assert_eq!(with(&["sub", "#", "--retained", "--count", "1"]).1, "env/x 1\n");
    assert_eq!(with(&["check"]).0, Some(0));
}

#[test]
fn items_go_through_queues_from_every_client_to_every_client() {
    let router = Router::start();
    let ways = router.ways();
    let queue = |way: &[String], arguments: &[&str]| {
        let mut command = corsac(&["queue", arguments[0]]);
        command.args(way).args(&arguments[1..]);
        Running::start(command).end()
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
            assert_eq!(bodies, ["text", "{\"b\":1}", "[1,2]", "5", ""]);
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
        assert!(stderr.contains("corsac.error.no_such_token") && stderr.contains("its time was over"), "{stderr}");
        let (_, stdout, _) = queue(putting, &["declare", &name, "--max-deliveries", "3", "--dead-letter", "dead"]);
        assert_eq!(stdout, "{\"dead_letter\":\"dead\",\"max_deliveries\":3,\"max_len\":null,\"visibility_ms\":30000}\n");
        let (_, stdout, _) = queue(putting, &["stats", &name]);
        let stats: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
        assert_eq!((&stats["ready"], &stats["acknowledged"]), (&4.into(), &1.into()));
        let (code, stdout, stderr) = queue(putting, &["take", "nothing", "--wait-ms", "10"]);
        assert!(code == Some(1) && stdout.is_empty() && stderr.contains("no item came from nothing in 10 ms"), "{stderr}");
        let (code, _, stderr) = queue(putting, &["put", "a b", "1"]);
        assert!(code == Some(1) && stderr.contains("write it like jobs"), "{stderr}");
    }
}
