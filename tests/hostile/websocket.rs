//! Frames that no client may send, and frames without end (RFC 6455).
use super::support::wire::{frame, upgrade_request};
use super::*;

/// A WebSocket with the subprotocol, and what the router does with these bytes on it: the close code, or 0 for none.
fn close_code(router: &Router, subprotocol: &str, bytes: &[u8]) -> u16 {
    let mut wire = Wire::websocket(router.http, "/ws", subprotocol);
    wire.send_raw(bytes).ok();
    assert!(wire.await_end(PATIENCE), "{subprotocol}: still open after {:02X?}", &bytes[..bytes.len().min(16)]);
    let close = wire.controls.iter().find(|(opcode, _)| *opcode == 8);
    close.and_then(|(_, payload)| payload.get(..2)).map_or(0, |code| u16::from_be_bytes([code[0], code[1]]))
}

#[test]
fn frames_that_are_none() {
    let router = Router::start("");
    let unmasked = b"\x82\x02\xC0\x00".to_vec();
    let long_ping = frame(0x89, &[b'x'; 126]);
    let fragmented_ping = frame(0x09, b"x");
    let reserved_bit = frame(0xC2, b"x");
    let reserved_opcode = frame(0x83, b"x");
    let reserved_control = frame(0x8B, b"x");
    let lonely_continuation = frame(0x80, b"x");
    let interleaved = [frame(0x02, b"x"), frame(0x82, b"y")].concat();
    let short_close = frame(0x88, b"x");
    let bad_close_code = frame(0x88, &1005_u16.to_be_bytes());
    let cases = [
        ("unmasked", unmasked),
        ("long ping", long_ping),
        ("fragmented ping", fragmented_ping),
        ("reserved bit", reserved_bit),
        ("reserved opcode", reserved_opcode),
        ("reserved control", reserved_control),
        ("lonely continuation", lonely_continuation),
        ("interleaved", interleaved),
        ("short close", short_close),
        ("bad close code", bad_close_code),
        ("ping with a length too long by two bytes", b"\x89\xFE\0\x01mask\x15".to_vec()),
        ("close with a length too long by eight bytes", b"\x88\xFF\0\0\0\0\0\0\0\0mask".to_vec()),
        ("data with a length too long by two bytes", b"\x82\xFE\0\x01mask\x15".to_vec()),
        ("data with a length too long by eight bytes", [&b"\x82\xFF\0\0\0\0\0\0\xFF\xFFmask"[..], &[0; 65_535]].concat()),
        ("piece with a length too long by eight bytes", b"\x02\xFF\0\0\0\0\0\0\0\x01mask\x15".to_vec()),
        ("length with the highest bit", b"\x82\xFF\x80\0\0\0\0\0\0\x01mask\x15".to_vec()),
    ];
    for (name, bytes) in cases {
        for subprotocol in ["mqtt", "wamp.2.json", "wamp.2.msgpack", "wamp.2.cbor"] {
            assert_eq!(close_code(&router, subprotocol, &bytes), 1002, "{name} over {subprotocol}");
        }
    }
    assert_nobody_left(&router);
    assert_serves(&router);
}

/// [MQTT-6.0.0-1]
#[test]
fn frames_of_the_wrong_kind() {
    let router = Router::start("");
    for (subprotocol, bytes) in [
        ("mqtt", frame(0x81, b"text")),
        ("wamp.2.json", frame(0x82, b"[1,\"realm1\",{}]")),
        ("wamp.2.msgpack", frame(0x81, b"text")),
        ("wamp.2.cbor", frame(0x81, b"text")),
        ("wamp.2.json", frame(0x81, b"")),
        ("wamp.2.msgpack", frame(0x82, b"")),
    ] {
        let code = close_code(&router, subprotocol, &bytes);
        assert!(matches!(code, 0 | 1002 | 1003 | 1007), "{subprotocol}: {code}");
    }
    assert!(matches!(close_code(&router, "wamp.2.json", &frame(0x81, b"[1,\"\xC0\x80\",{}]")), 0 | 1007));
}

#[test]
fn lengths_of_frames_that_lie() {
    let router = Router::start("");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    for subprotocol in ["mqtt", "wamp.2.json", "wamp.2.msgpack"] {
        let first = if subprotocol == "wamp.2.json" { 0x81 } else { 0x82 };
        for lie in [
            b"\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF".as_slice(),
            b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            b"\xFF\0\0\0\0\x40\0\0\0",
            b"\xFF\0\0\0\0\0\x02\0\0",
        ] {
            let mut bytes = vec![first];
            bytes.extend(lie);
            bytes.extend(b"mask");
            let code = close_code(&router, subprotocol, &bytes);
            assert!(matches!(code, 0 | 1002 | 1009), "{subprotocol}: {code}");
        }
    }
    assert_nobody_left(&router);
    assert_memory(&router, baseline_kib, 8 * 1024);
}

/// Before CONNECT or HELLO no message may be longer than 64 KiB, in however many pieces it comes.
#[test]
fn a_message_in_pieces_is_one_message() {
    let router = Router::start("");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    for (subprotocol, first) in [("mqtt", 0x02), ("wamp.2.json", 0x01), ("wamp.2.cbor", 0x02)] {
        let mut wire = Wire::websocket(router.http, "/ws", subprotocol);
        let started = Instant::now();
        let mut is_open = wire.send_raw(&frame(first, &[b' '; 1000])).is_ok();
        while is_open {
            is_open = wire.send_raw(&frame(0x00, &[b' '; 1000])).is_ok();
            assert!(started.elapsed() < Duration::from_secs(5), "{subprotocol}: still listened to");
        }
    }
    assert_memory(&router, baseline_kib, 8 * 1024);
    assert_serves(&router);
}

/// A piece of nothing costs nothing.
#[test]
fn empty_pieces_without_end() {
    let router = Router::start("");
    let mut wire = Wire::websocket(router.http, "/ws", "wamp.2.json");
    let baseline_kib = router.rss_kib();
    wire.send_raw(&frame(0x01, b"")).unwrap();
    let pieces = frame(0x00, b"").repeat(10_000);
    for _ in 0..100 {
        if wire.send_raw(&pieces).is_err() {
            break;
        }
    }
    assert!(router.rss_kib() < baseline_kib + 32 * 1024, "{} KiB", router.rss_kib());
    assert_serves(&router);
}

#[test]
fn mqtt_in_frames_of_any_cut() {
    let router = Router::start("");
    let stream =
        bytes::encode(&bytes::words("10 [ s'MQTT' 04 02 0000 s'cut' ] 82 [ 0001 s'cut/x' 00 ] 30 [ s'cut/x' 'payload' ] C000"));
    for cut in 1..stream.len() {
        let mut wire = Wire::websocket(router.http, "/mqtt", "mqtt");
        for piece in stream.chunks(cut) {
            wire.send(piece).unwrap();
        }
        let wanted = [bytes::encode(&bytes::words("20020000 9003000100 30 [ s'cut/x' 'payload' ]")).len() + 2];
        let deadline = Instant::now() + PATIENCE;
        while wire.arrived.len() < wanted[0] {
            assert_eq!(wire.receive(deadline), Arrival::Bytes, "cut {cut}: {:02X?}", wire.arrived);
        }
        assert!(wire.arrived.windows(16).any(|part| part == b"\x30\x0E\x00\x05cut/xpayload"), "{:02X?}", wire.arrived);
    }
    assert_nobody_left(&router);
}

/// Waits for PINGs and, if `answers`, sends PONG for each; returns how many came until there were `count` or the end.
fn pings(wire: &mut Wire, count: usize, answers: bool) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let mut answered = 0;
    loop {
        let pings = wire.controls.iter().filter(|(opcode, _)| *opcode == 9).count();
        while answers && answered < pings {
            wire.send_raw(&frame(0x8A, b"")).ok();
            answered += 1;
        }
        // Control frames alone count as silence for `receive`.
        let step = (Instant::now() + Duration::from_millis(20)).min(deadline);
        if pings >= count || wire.receive(step) == Arrival::End {
            return pings;
        }
        assert!(Instant::now() < deadline, "{pings} PINGs, and the connection is still open");
    }
}

/// A browser cannot send PING, and proxies forget who is silent: the router asks, and gives up who does not answer.
#[test]
fn a_silent_websocket_is_asked_for_a_sign_of_life() {
    let router = Router::start("limits.websocket_ping_ms = 400\n");
    for (subprotocol, path) in [("wamp.2.json", "/ws"), ("mqtt", "/mqtt")] {
        let open = |router: &Router| {
            let mut wire = Wire::websocket(router.http, path, subprotocol);
            match subprotocol {
                "mqtt" => wire.send(b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0\0").unwrap(),
                _ => wire.send_text(r#"[1,"realm1",{"roles":{"publisher":{}}}]"#).unwrap(),
            }
            assert_eq!(wire.receive(Instant::now() + PATIENCE), Arrival::Bytes);
            wire
        };
        let mut deaf = open(&router);
        let started = Instant::now();
        assert_eq!(pings(&mut deaf, 3, false), 2, "{subprotocol}: two PINGs, and then the end");
        assert!(started.elapsed() >= Duration::from_millis(1150), "{subprotocol}: given up after {:?}", started.elapsed());
        let mut alive = open(&router);
        assert_eq!(pings(&mut alive, 5, true), 5, "{subprotocol}: an answer is enough");
        drop(alive);
    }
    assert_nobody_left(&router);
}

/// Traffic either way is a sign of life, and the client's own PINGs are.
#[test]
fn a_busy_websocket_is_not_asked() {
    let router = Router::start("limits.websocket_ping_ms = 3000\n");
    let mut subscriber = Client { wire: Wire::websocket(router.http, "/mqtt", "mqtt"), version: 5 };
    subscriber.open("CONNECT v5 clean id= keep=0");
    assert!(subscriber.ask("SUBSCRIBE id=1 busy:0").starts_with("SUBACK"));
    let mut pinging = Wire::websocket(router.http, "/mqtt", "mqtt");
    pinging.send(b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0\0").unwrap();
    let mut publisher = Client::connect(&router, "CONNECT v5 clean id=");
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(4500) {
        publisher.send("PUBLISH busy x q0");
        assert_eq!(subscriber.receive()[0], "PUBLISH");
        pinging.send_raw(&frame(0x89, b"")).unwrap();
        pinging.receive(Instant::now() + Duration::from_millis(100));
    }
    let asked = |wire: &Wire| wire.controls.iter().filter(|(opcode, _)| *opcode == 9).count();
    assert_eq!((asked(&subscriber.wire), asked(&pinging)), (0, 0));
}

/// A browser answers PING for a page that hangs: MQTT's keep-alive asks for packets [MQTT-3.1.2-24].
#[test]
fn a_pong_keeps_no_mqtt_session_alive() {
    let router = Router::start("limits.websocket_ping_ms = 200\n");
    let mut client = Client { wire: Wire::websocket(router.http, "/mqtt", "mqtt"), version: 5 };
    client.open("CONNECT v5 clean id= keep=1");
    let started = Instant::now();
    let asked = pings(&mut client.wire, 100, true);
    assert!((3..=9).contains(&asked) && started.elapsed() < Duration::from_secs(5), "{asked} PINGs in {:?}", started.elapsed());
    assert_eq!(client.receive()[..2], ["DISCONNECT", "rc=8D"]);
}

/// A client need not wait for the answer to its upgrade before it says HELLO: what came with the request is not left lying.
#[test]
fn a_hello_together_with_the_upgrade_is_answered() {
    let router = Router::start("");
    let hello = br#"[1,"realm1",{"roles":{"publisher":{}}}]"#;
    for cut in [0, 3, hello.len()] {
        let mut wire = Wire::tcp(router.http);
        let mut all = upgrade_request(router.http, "/ws", "wamp.2.json", "").into_bytes();
        let frame = frame(0x81, hello);
        let (first, rest) = frame.split_at(cut.min(frame.len()));
        all.extend_from_slice(if cut == 0 { &frame } else { first });
        wire.send_raw(&all).unwrap();
        assert!(wire.read_head().starts_with("HTTP/1.1 101"));
        if cut > 0 {
            wire.send_raw(rest).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        while !wire.arrived.windows(3).any(|part| part == b"[2,") {
            assert_eq!(wire.receive(deadline), Arrival::Bytes, "no WELCOME");
        }
    }
}
