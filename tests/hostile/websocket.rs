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
    ];
    for (name, bytes) in cases {
        for subprotocol in ["mqtt", "wamp.2.json", "wamp.2.msgpack", "wamp.2.cbor"] {
            let code = close_code(&router, subprotocol, &bytes);
            assert!(matches!(code, 0 | 1002), "{name} over {subprotocol}: {code}");
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
