//! HTTP on the one port: heads without end, heads in drops, requests nobody reads the answers to, foreign pages.
use std::io::Write;
use std::path::Path;

use super::support::data::Data;
use super::support::wire::upgrade_request;
use super::*;

const SHORT_TIMES: &str = "limits.open_timeout_ms = 1000\n";

#[test]
fn a_head_in_drops_is_cut_off() {
    let router = Router::start(SHORT_TIMES);
    let request = upgrade_request(router.http, "/mqtt", "mqtt", "");
    let mut wire = Wire::tcp(router.http);
    let started = Instant::now();
    for byte in request.bytes().cycle() {
        if byte == b'\r' || byte == b'\n' {
            continue; // one line that never ends
        }
        wire.send_raw(&[byte]).ok();
        if wire.receive(Instant::now() + Duration::from_millis(20)) != Arrival::Silence {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "still open");
    }
    assert_nobody_left(&router);
}

/// The same head in single bytes, but in time.
#[test]
fn a_head_in_single_bytes_is_read() {
    let router = Router::start("");
    let mut wire = Wire::tcp(router.http);
    for byte in upgrade_request(router.http, "/mqtt", "mqtt", "").bytes() {
        wire.send_raw(&[byte]).unwrap();
    }
    assert!(wire.read_head().starts_with("HTTP/1.1 101"));
}

#[test]
fn a_head_over_16_kib_is_refused() {
    let router = Router::start("");
    let fits = format!("X-Long: {}\r\n", "x".repeat(12_000));
    let mut wire = Wire::tcp(router.http);
    wire.send_raw(upgrade_request(router.http, "/mqtt", "mqtt", &fits).as_bytes()).unwrap();
    assert!(wire.read_head().starts_with("HTTP/1.1 101"));
    for head in [
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000)),
        format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(20_000)),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(4_000)),
    ] {
        let mut wire = Wire::tcp(router.http);
        wire.send_raw(head.as_bytes()).ok();
        let answer = wire.read_head();
        let is_refusal =
            answer.is_empty() || ["400", "414", "431"].iter().any(|code| answer.starts_with(&format!("HTTP/1.1 {code}")));
        assert!(is_refusal, "{answer}");
    }
    assert_serves(&router);
}

/// 32 MiB of head: the router stops listening long before.
#[test]
fn a_head_without_end_is_not_kept() {
    let router = Router::start("");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    for _ in 0..8 {
        let mut wire = Wire::tcp(router.http);
        wire.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ").unwrap();
        let sent = (0..32 * 1024).take_while(|_| wire.send_raw(&[b'x'; 1024]).is_ok()).count();
        assert!(sent < 32 * 1024, "all 32 MiB were taken");
    }
    assert_memory(&router, baseline_kib, 4 * 1024);
    assert_serves(&router);
}

/// Thousands of requests in one connection, of which no answer is read.
#[test]
fn answers_that_nobody_reads_are_bounded() {
    let router = Router::start("");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    let mut socket = std::net::TcpStream::connect(router.http).unwrap();
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let requests = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    let mut sent = 0;
    while sent < 2_000 && socket.write_all(requests.as_bytes()).is_ok() {
        sent += 1;
    }
    assert!(sent < 2_000, "two million requests were taken without an answer being read");
    assert!(router.rss_kib() < baseline_kib + 16 * 1024, "{} KiB", router.rss_kib());
    assert_serves(&router);
}

/// A request that has been answered does not buy a connection for ever.
#[test]
fn an_idle_http_connection_is_closed() {
    let router = Router::start(SHORT_TIMES);
    let mut wire = Wire::tcp(router.http);
    wire.send_raw(format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", router.http).as_bytes()).unwrap();
    assert!(wire.read_head().starts_with("HTTP/1.1 200"));
    assert!(wire.await_end(Duration::from_secs(5)), "still open after 5 s");
}

/// A body that is announced and never comes.
#[test]
fn a_body_that_never_comes_is_not_waited_for() {
    let router = Router::start(SHORT_TIMES);
    let mut wire = Wire::tcp(router.http);
    wire.send_raw(b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    assert!(wire.read_head().starts_with("HTTP/1.1 405"));
    assert!(wire.await_end(Duration::from_secs(5)), "still open after 5 s");
}

/// The status and the body of the answer to a GET of this path, with this head below the request line.
fn ask(router: &Router, path: &str, head: &str) -> (String, String) {
    let mut wire = Wire::tcp(router.http);
    wire.send_raw(format!("GET {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n").as_bytes()).unwrap();
    let answer = wire.read_head();
    assert!(wire.await_end(PATIENCE), "{path} {head}: still open");
    let status = answer.split_whitespace().nth(1).unwrap_or_default().to_owned();
    (status, String::from_utf8_lossy(&wire.arrived).into_owned())
}

/// The status of the answer to an upgrade request for this `Host`, with the origin that a page of that name has.
fn ask_upgrade(router: &Router, host: &str) -> String {
    let page = format!("Origin: http://{host}\r\n");
    let request = upgrade_request(router.http, "/ws", "wamp.2.json", &page);
    let mut wire = Wire::tcp(router.http);
    wire.send_raw(request.replace(&format!("Host: {}", router.http), &format!("Host: {host}")).as_bytes()).unwrap();
    wire.read_head().split_whitespace().nth(1).unwrap_or_default().to_owned()
}

/// DNS rebinding: a page of another site, whose name has come to mean this machine, is of the same host as the router.
#[test]
fn strange_names_are_not_answered_to() {
    let router = Router::start("");
    let port = router.http.port();
    let flag =
        "this router does not answer to the name rebind.example.test; to let it, start with --allow-host rebind.example.test";
    for host in [format!("rebind.example.test:{port}"), "Rebind.Example.Test.".to_owned()] {
        for path in ["/", "/status.json", "/demo", "/ws", "/nothing", "/healthz/"] {
            let (status, body) = ask(&router, path, &format!("Host: {host}\r\n"));
            assert_eq!((status.as_str(), body.trim_end()), ("403", flag), "{path}");
        }
        assert_eq!(ask_upgrade(&router, &host), "403");
        assert_eq!(ask(&router, "/healthz", &format!("Host: {host}\r\n")), ("200".to_owned(), "ok".to_owned()));
    }
    let known =
        ["localhost", &format!("LOCALHOST.:{port}"), "app.localhost", &format!("127.0.0.1:{port}"), "[::1]", "192.168.1.10:8080"];
    for host in known {
        assert_eq!(ask(&router, "/status.json", &format!("Host: {host}\r\n")).0, "200", "{host}");
        assert_eq!(ask_upgrade(&router, host), "101", "{host}");
    }
    assert_serves(&router);
}

#[test]
fn the_target_names_the_router_too() {
    let router = Router::start("");
    for (target, host, status) in [
        ("http://localhost/status.json", "localhost", "200"),
        ("http://evil.example/status.json", "localhost", "403"),
        ("http://localhost/status.json", "evil.example", "403"),
        ("http://localhost@evil.example/status.json", "localhost", "400"),
        ("http://evil.example/healthz", "localhost", "200"),
    ] {
        assert_eq!(ask(&router, target, &format!("Host: {host}\r\n")).0, status, "{target} {host}");
    }
}

#[test]
fn a_request_names_its_host_once() {
    let router = Router::start("");
    for head in [
        "",
        "Host:\r\n",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nhost: evil.example\r\n",
        "Host: localhost, evil.example\r\n",
        "Host: user@localhost\r\n",
        "Host: localhost:80:80\r\n",
        "Host: localhost:99999\r\n",
        "Host: localhost/x\r\n",
        "Host: [::1\r\n",
        "Host: a..b\r\n",
        "Host: l\u{f6}calhost\r\n",
    ] {
        for path in ["/status.json", "/healthz"] {
            assert_eq!(ask(&router, path, head).0, "400", "{head:?}");
        }
    }
    // HTTP/1.0 knows no Host; if it names one, that counts.
    for (head, status) in [("", "200"), ("Host: localhost\r\n", "200"), ("Host: evil.example\r\n", "403")] {
        let mut wire = Wire::tcp(router.http);
        wire.send_raw(format!("GET /status.json HTTP/1.0\r\n{head}\r\n").as_bytes()).unwrap();
        assert_eq!(wire.read_head().split_whitespace().nth(1), Some(status), "{head}");
    }
    assert_nobody_left(&router);
}

/// Waits for a warning with these words in the log that goes to this file.
fn await_warning(said: &Path, words: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(said).unwrap();
        if text.lines().any(|line| line.contains("WARN") && line.contains(words)) {
            return;
        }
        assert!(Instant::now() < deadline, "no warning with {words:?}: {text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn names_can_be_allowed_and_refusals_are_logged() {
    let directory = Data::created();
    let said = directory.0.join("said.txt");
    let router = Router::start_saying(&directory.0.join("data"), "allow_hosts = [\"Router.LAN\"]\n", &said);
    for (host, status) in [("router.lan:8080", "101"), ("ROUTER.lan.", "101"), ("localhost", "101"), ("other.lan", "403")] {
        assert_eq!(ask_upgrade(&router, host), status, "{host}");
    }
    await_warning(&said, "--allow-host other.lan");
}

#[test]
fn pages_of_others_may_not_connect() {
    let router = Router::start("");
    let ask = |origin: &str| {
        let mut wire = Wire::tcp(router.http);
        let more = format!("Origin: {origin}\r\nConnection: close\r\n");
        wire.send_raw(upgrade_request(router.http, "/ws", "wamp.2.json", &more).as_bytes()).unwrap();
        let head = wire.read_head();
        if head.starts_with("HTTP/1.1 403") {
            wire.await_end(Duration::from_millis(500));
        }
        (head, String::from_utf8_lossy(&wire.arrived).into_owned())
    };
    for origin in [
        "https://evil.example",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "file://localhost",
        "ws://evil.example",
        "l\u{f6}calhost",
        "http://localhost\r\nOrigin: https://evil.example",
        "http://evil.example:8080",
        "http://[::2]",
        "http://0.0.0.0",
    ] {
        let (head, body) = ask(origin);
        assert!(head.starts_with("HTTP/1.1 403"), "{origin}: {head}");
        assert!(body.contains("--allow-origin"), "{origin}: {body}");
    }
    let (head, body) = ask("null");
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(body.contains("serve the page from http://localhost") && !body.contains("--allow-origin"), "{body}");
    let own = format!("ws://{}", router.http);
    for origin in ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:5173", "https://localhost", "file://", &own] {
        assert!(ask(origin).0.starts_with("HTTP/1.1 101"), "{origin}");
    }
    let router = Router::start("allow_origins = [\"https://app.example\"]\n");
    for (origin, status) in [
        ("https://app.example", "101"),
        ("https://app.example:443", "101"),
        ("http://app.example", "403"),
        ("https://app.example.org", "403"),
    ] {
        let mut wire = Wire::tcp(router.http);
        wire.send_raw(upgrade_request(router.http, "/mqtt", "mqtt", &format!("Origin: {origin}\r\n")).as_bytes()).unwrap();
        assert!(wire.read_head().starts_with(&format!("HTTP/1.1 {status}")), "{origin}");
    }
}

/// Libraries that are no browsers name the URL of the WebSocket; a page of the same name is still one of another site.
#[test]
fn the_url_of_the_websocket_is_an_origin_of_no_page() {
    let directory = Data::created();
    let said = directory.0.join("said.txt");
    let router = Router::start_saying(&directory.0.join("data"), "", &said);
    for (host, origin, status) in [
        ("router.example:8080", "ws://router.example:8080", "101"),
        ("router.example", "wss://router.example", "101"),
        ("192.168.1.10:8080", "file://", "101"),
        ("router.example", "http://router.example", "403"),
        ("router.example", "ws://other.example", "403"),
        ("router.example", "file://", "403"),
        ("localhost", "https://page.example", "403"),
        ("localhost", "null", "403"),
    ] {
        for (path, subprotocol) in [("/ws", "wamp.2.json"), ("/mqtt", "mqtt")] {
            let request = upgrade_request(router.http, path, subprotocol, &format!("Origin: {origin}\r\n"));
            let request = request.replace(&format!("Host: {}", router.http), &format!("Host: {host}"));
            let mut wire = Wire::tcp(router.http);
            wire.send_raw(request.as_bytes()).unwrap();
            assert_eq!(wire.read_head().split_whitespace().nth(1), Some(status), "{host} {origin}");
        }
    }
    let status: serde_json::Value = serde_json::from_str(&router.page("/status.json")).unwrap();
    let refused: Vec<_> =
        status["refused"].as_array().unwrap().iter().map(|refusal| refusal["count"].as_u64().unwrap()).collect();
    assert_eq!(refused, [2, 2, 6], "{status}");
    for advice in ["--allow-host router.example", "--allow-origin https://page.example", "serve the page from http://localhost"] {
        await_warning(&said, advice);
    }
}

/// Proxies and libraries write the same request in many ways (RFC 9110, 5.6.1 and 7.8).
#[test]
fn upgrades_in_any_form() {
    let router = Router::start("");
    let whole = upgrade_request(router.http, "/mqtt", "mqtt", "");
    for (from, to) in [
        ("Upgrade: websocket\r\n", "Upgrade: h2c, websocket\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\nUpgrade: WebSocket\r\n"),
        ("Upgrade: websocket\r\n", "UPGRADE:\twebsocket \t,,TLS/1.0\r\n"),
        ("Connection: Upgrade\r\n", "connection: keep-alive, UPGRADE\r\n"),
        ("Connection: Upgrade\r\n", "Connection: keep-alive\r\nConnection: upgrade\r\n"),
        ("Connection: Upgrade\r\n", "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
        ("Sec-WebSocket-Protocol: mqtt\r\n", "Sec-WebSocket-Protocol: chat\r\nsec-websocket-protocol: ,soap ,mqtt\r\n"),
        ("Sec-WebSocket-Version: 13\r\n", "SEC-WEBSOCKET-VERSION:13\r\nContent-Length: 0\r\n"),
    ] {
        assert!(whole.contains(from), "{from}");
        let mut wire = Wire::tcp(router.http);
        wire.send_raw(whole.replace(from, to).as_bytes()).unwrap();
        let head = wire.read_head().to_lowercase();
        assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-protocol: mqtt\r\n"), "{to}: {head}");
    }
}

#[test]
fn upgrades_that_are_none() {
    let router = Router::start("");
    let whole = upgrade_request(router.http, "/mqtt", "mqtt", "");
    for (from, to, status) in [
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", "426"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: short", "400"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", "400"),
        ("Sec-WebSocket-Protocol: mqtt", "Sec-WebSocket-Protocol: chat", "400"),
        ("Sec-WebSocket-Protocol: mqtt\r\n", "", "400"),
        ("GET ", "POST ", "426"),
        ("HTTP/1.1", "HTTP/1.0", "426"),
        ("HTTP/1.1", "HTTP/9.9", "400"),
        ("Upgrade: websocket", "Upgrade: h2c, websockets", "426"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "400"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nContent-Length: 9", "400"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nTransfer-Encoding: chunked", "400"),
    ] {
        let mut wire = Wire::tcp(router.http);
        wire.send_raw(whole.replace(from, to).as_bytes()).unwrap();
        let head = wire.read_head().replace("HTTP/1.0", "HTTP/1.1");
        assert!(head.is_empty() || head.starts_with(&format!("HTTP/1.1 {status}")), "{to}: {head}");
    }
    assert_nobody_left(&router);
}

/// The port for MQTT alone speaks nothing else, and the one port nothing that it does not know.
#[test]
fn other_protocols_are_turned_away() {
    let router = Router::start(SHORT_TIMES);
    for (address, input) in [
        (router.mqtt, "GET / HTTP/1.1\r\n\r\n"),
        (router.mqtt, "\x7F\x71\0\0"),
        (router.http, "\x16\x03\x01\x02\0\x01\0\x01\u{7f}"),
        (router.http, "SSH-2.0-x\r\n\r\n"),
        (router.http, "\0\0\0\0\r\n\r\n"),
        (router.http, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ] {
        let mut wire = Wire::tcp(address);
        wire.send_raw(input.as_bytes()).unwrap();
        assert!(wire.await_end(Duration::from_secs(5)), "{input:?} is listened to");
    }
    assert_serves(&router);
}
