//! The log of the real binary: who came, who went and why, each refusal and the key that would allow it, bounded and without secrets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use support::bytes;
use support::data::Data;
use support::mqtt::Mqtt;
use support::router::{PATIENCE, Router};
use support::wamp::Wamp;
use support::wire::Wire;

/// A router and the file of its log.
struct Logged {
    router: Router,
    file: PathBuf,
    _directory: Data,
}

impl Logged {
    fn start(config: &str, level: &str) -> Self {
        let directory = Data::created();
        let file = directory.0.join("log");
        Logged { router: Router::start_logging(config, level, &file), file, _directory: directory }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    /// The first line that has all of these parts.
    fn line(&self, parts: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if let Some(line) = text.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no line with {parts:?} in:\n{text}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Sends bytes to the port for MQTT alone, or to the one port.
    fn say(&self, to_mqtt: bool, bytes: &[u8]) -> TcpStream {
        let mut socket = TcpStream::connect(if to_mqtt { self.router.mqtt } else { self.router.http }).unwrap();
        socket.write_all(bytes).unwrap();
        socket
    }
}

fn signal(router: &Router, name: &str) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", router.pid())).status();
    assert!(status.unwrap().success());
}

#[test]
fn clients_come_and_go_with_a_reason() {
    let log = Logged::start("", "info");
    let started = log.line(&["INFO", "listening on", "no history"]);
    assert!(started.contains(&log.router.mqtt.to_string()) && started.contains(&log.router.http.to_string()), "{started}");
    // Said goodbye.
    let mut polite = Mqtt::connect(&log.router, "id=polite name=joe");
    let come = log.line(&["INFO", "client connected", "client=\"polite\""]);
    for part in ["user=\"joe\"", "realm=\"realm1\"", "protocol=\"MQTT 5\"", "address=\"127.0.0.1:"] {
        assert!(come.contains(part), "{come}");
    }
    polite.send("DISCONNECT");
    log.line(&["INFO", "client gone: said goodbye", "client=\"polite\"", "address=\"127.0.0.1:"]);
    // Taken over, lost, silent.
    let first = Mqtt::open(&log.router, "twin");
    let second = Mqtt::open(&log.router, "twin");
    log.line(&["INFO", "client gone: session taken over", "client=\"twin\""]);
    drop((first, second));
    log.line(&["INFO", "client gone: connection", "client=\"twin\""]);
    let _silent = Mqtt::connect(&log.router, "id=silent keep=1");
    log.line(&["INFO", "client gone: keep alive timeout", "client=\"silent\""]);
    // WAMP has no client id.
    let mut wamp = Wamp::open(&log.router);
    log.line(&["INFO", "client connected", "session=", "protocol=\"WAMP\""]);
    wamp.try_send(&json!([6, {}, "wamp.close.normal"])).unwrap();
    log.line(&["INFO", "client gone: said goodbye", "protocol=\"WAMP\""]);
    // The router's own end.
    let _staying = Mqtt::open(&log.router, "staying");
    signal(&log.router, "TERM");
    log.router.wait(PATIENCE);
    log.line(&["INFO", "stopping: SIGTERM"]);
    log.line(&["INFO", "client gone: server shutting down", "client=\"staying\""]);
    log.line(&["INFO", "stopped after"]);
}

#[test]
fn what_a_client_did_wrong_is_said() {
    let log = Logged::start("", "warn");
    for (id, bytes, expected) in [
        ("empty", &b"\x30\x03\0\0\0"[..], &["malformed message", "PUBLISH", "topic name is empty"][..]),
        ("server", b"\x20\x02\0\0", &["protocol violation", "CONNACK", "only the other side"]),
        ("twice", b"\x10\x0E\0\x04MQTT\x05\x02\0\0\0\0\x01a", &["protocol violation", "CONNECT", "second CONNECT"]),
        ("large", b"\x30\xFF\xFF\xFF\x7F", &["message too large", "PUBLISH of 268435460 bytes", "limits.max_packet_bytes"]),
        ("alias", b"\x30\x08\0\x01a\x03\x23\0\x63xx", &["topic alias invalid", "limits.topic_alias_maximum"]),
    ] {
        let mut client = Mqtt::open(&log.router, id);
        client.wire.send_raw(bytes).unwrap();
        let name = format!("client=\"{id}\"");
        let mut parts = vec!["WARN", "client cut off", &name, "address=\"127.0.0.1:"];
        parts.extend(expected);
        log.line(&parts);
    }
    let mut wamp = Wamp::open(&log.router);
    wamp.try_send(&json!([9999])).unwrap();
    log.line(&["WARN", "client cut off: protocol violation", "session=", "protocol=\"WAMP\""]);
    let mut frames = Wire::websocket(log.router.http, "/ws", "wamp.2.json");
    frames.send_raw(b"\x81\x05hello").unwrap();
    log.line(&["WARN", "client refused: malformed message: WebSocket:"]);
}

#[test]
fn strangers_and_their_protocols_are_told_apart() {
    let log = Logged::start("", "warn");
    let mut open = Vec::new();
    for to_mqtt in [true, false] {
        for (bytes, expected) in [
            (&b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03"[..], "TLS"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "PROXY protocol"),
        ] {
            let socket = log.say(to_mqtt, bytes);
            let address = format!("address=\"{}\"", socket.local_addr().unwrap()).replace('"', if to_mqtt { "\"" } else { "" });
            log.line(&["WARN", "refused", expected, &address]);
            open.push(socket);
        }
    }
    open.push(log.say(true, b"GET / HTTP/1.1\r\n\r\n"));
    log.line(&["WARN", "refused", "HTTP request", "--http"]);
    open.push(log.say(true, b"\x10\xFF\xFF\xFF\x7F"));
    log.line(&["WARN", "client refused: message too large", "limits.max_packet_before_auth_bytes"]);
    open.push(log.say(true, b"\x10\x0E\0\x04MQTT\x09\x02\0\0\0\0\x01a"));
    log.line(&["WARN", "client refused", "protocol version is not supported: 9"]);
    open.push(log.say(false, b"\x01\x02\x03\r\n\r\n"));
    log.line(&["WARN", "refused", "no HTTP, WAMP or MQTT"]);
    let foreign = "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: http://evil.example\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    open.push(log.say(false, foreign.as_bytes()));
    log.line(&["WARN", "request refused", "http://evil.example", "--allow-origin", "403"]);
}

#[test]
fn refusals_name_the_key_that_would_allow_them() {
    let config = "auto_create_realms = false\n[mqtt]\nrefused_filters = [\"secret/#\"]\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
                  [[listeners]]\naddress = \"127.0.0.1:0\"\nkind = \"mqtt\"\n[limits]\nmax_subscriptions_per_session = 1\n";
    let log = Logged::start(config, "warn");
    let mut wamp = Wire::websocket(log.router.http, "/ws", "wamp.2.json");
    wamp.send_text(r#"[1,"nosuch",{"roles":{"caller":{}}}]"#).unwrap();
    log.line(&["WARN", "client refused: no such realm", "realm=\"nosuch\"", "[[realms]]", "auto_create_realms"]);
    let mut client = Mqtt::open(&log.router, "asker");
    client.send("PUBLISH corsac/status x");
    log.line(&[
        "WARN",
        "publish refused: names under corsac. belong to the router",
        "name=\"corsac/status\"",
        "client=\"asker\"",
    ]);
    assert!(client.ask("PUBLISH $SYS/a x q1 id=5").join(" ").contains("rc=87"));
    log.line(&["WARN", "publish refused: names under $SYS/", "name=\"$SYS/a\""]);
    client.ask("SUBSCRIBE id=6 secret/#:0");
    log.line(&["WARN", "subscribe refused", "name=\"secret/#\"", "mqtt.refused_filters"]);
    client.ask("SUBSCRIBE id=7 one:0");
    client.ask("SUBSCRIBE id=8 two:0");
    log.line(&["WARN", "subscribe or register refused: quota exceeded", "limits.max_subscriptions_per_session"]);
}

#[test]
fn nothing_secret_and_nothing_raw_is_ever_logged() {
    let log = Logged::start("", "trace");
    let mut client = Mqtt::connect(&log.router, r"id='a\x22b\xE2\x80\xAE\xC3\xA9' name=joe password=geheim123");
    client.ask("SUBSCRIBE id=1 topic/of/mine:1");
    client.send("PUBLISH topic/of/mine payload456 q1 id=2 user=name789:value789");
    let (topic, payload) = loop {
        let words = client.receive();
        if words[0] == "PUBLISH" {
            break (words[1].clone(), words.join(" "));
        }
    };
    assert!(topic == "topic/of/mine" && payload.contains("payload456"));
    let long = "x".repeat(5_000);
    drop(Mqtt::open(&log.router, &long));
    log.line(&["client gone", "xxxx"]);
    for parts in [
        &["DEBUG", "subscribe", "name=\"topic/of/mine\"", "QoS 1"][..],
        &["TRACE", "from the client: PUBLISH \"topic/of/mine\"", "QoS 1, id 2"],
        &["TRACE", "to the client: PUBACK 2"],
        &["TRACE", "to the client: PUBLISH or EVENT \"topic/of/mine\""],
        &["WARN", "password, which this version does not check", "user=\"joe\""],
    ] {
        log.line(parts);
    }
    let text = log.text();
    for secret in ["geheim123", "payload456", "value789", "\u{202e}"] {
        assert!(!text.contains(secret), "{secret} in:\n{text}");
    }
    assert!(text.contains(r#"client="a\"b\u{202e}é""#), "{text}");
    assert!(text.lines().all(|line| line.chars().count() < 1_000), "a line is too long");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "a raw control character:\n{text:?}");
}

#[test]
fn a_flood_of_one_kind_is_summed_up() {
    let log = Logged::start("", "info");
    for _ in 0..300 {
        let mut client = Mqtt::open(&log.router, "flood");
        client.send("DISCONNECT");
        client.wire.await_end(PATIENCE);
    }
    log.line(&["INFO", "more clients connected", "10 of a kind a second"]);
    log.line(&["INFO", "more clients went"]);
    drop(Mqtt::open(&log.router, "after"));
    let mut of_second = std::collections::HashMap::<String, usize>::new();
    for line in log.text().lines().filter(|line| line.contains("client connected")) {
        *of_second.entry(line[..19].to_owned()).or_default() += 1;
    }
    // The router's seconds need not begin with the clock's.
    assert!(of_second.values().all(|lines| *lines <= 20), "{of_second:?}");
}

#[test]
fn levels_and_targets_mean_something() {
    let quiet = Logged::start("", "INFO");
    let mut client = Mqtt::open(&quiet.router, "a");
    client.ask("SUBSCRIBE id=1 a:0");
    client.send("DISCONNECT");
    quiet.line(&["client gone"]);
    assert!(!quiet.text().contains("DEBUG") && !quiet.text().contains("TRACE"), "{}", quiet.text());
    let target = Logged::start("", "off,corsac::net=debug");
    let mut client = Mqtt::open(&target.router, "a");
    client.ask("SUBSCRIBE id=1 a:0");
    target.line(&["DEBUG", "subscribe", "name=\"a\""]);
    assert!(!target.text().contains("listening on"), "{}", target.text());
    let off = Logged::start("", "off");
    drop(Mqtt::open(&off.router, "a"));
    off.router.await_figure("sockets", |open| open <= 1);
    assert_eq!(off.text(), "");
}

#[test]
fn signals_that_mean_something_else_are_passed_over() {
    let log = Logged::start("", "info");
    let mut client = Mqtt::open(&log.router, "a");
    for name in ["HUP", "PIPE", "HUP"] {
        signal(&log.router, name);
    }
    log.line(&["INFO", "SIGHUP", "restart"]);
    client.assert_nothing();
    assert!(log.router.is_alive());
    signal(&log.router, "INT");
    assert!(log.router.wait(PATIENCE).success());
    log.line(&["INFO", "stopping: SIGINT"]);
}

#[test]
fn bytes_of_the_test_are_what_they_say() {
    assert_eq!(bytes::unquote(r"'a\x22b'"), b"a\"b");
}
