//! MsgPack and CBOR over RawSocket: lengths that lie, nesting without end, frames that are begun and not finished.
use super::wamp::Session;
use super::*;

const HELLO: &str = r#"[1,"realm1",{"roles":{"publisher":{}}}]"#;

/// An open session over RawSocket; serializer 1 is JSON, 2 MsgPack, 3 CBOR.
fn open(router: &Router, serializer: u8) -> Wire {
    let hello: serde_json::Value = serde_json::from_str(HELLO).unwrap();
    let hello = match serializer {
        2 => rmp_serde::to_vec(&hello).unwrap(),
        3 => cbor4ii::serde::to_vec(Vec::new(), &hello).unwrap(),
        _ => HELLO.as_bytes().to_vec(),
    };
    let mut wire = Wire::tcp(router.http);
    wire.send(&[0x7F, 0xF0 | serializer, 0, 0]).unwrap();
    wire.send(&framed(&hello)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    // The handshake, then WELCOME.
    while wire.arrived.len() < 9 {
        assert_eq!(wire.receive(deadline), Arrival::Bytes);
    }
    wire
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes()[..], message].concat()
}

#[test]
fn lengths_of_collections_that_lie() {
    let router = Router::start("");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    let lies: [(u8, &[u8]); 11] = [
        (3, b"\x9B\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"),
        (3, b"\x83\x01\x7B\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFFx"),
        (3, b"\x83\x01\x66realm1\xBB\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
        (3, b"\x83\x01\x66realm1\xBB\x00\x00\x00\x00\x7F\xFF\xFF\xFF\x61a\x01"),
        (3, b"\x83\x01\x5A\xFF\xFF\xFF\xFFx"),
        (2, b"\xDD\xFF\xFF\xFF\xFF\x01"),
        (2, b"\x93\x01\xDB\xFF\xFF\xFF\xFFx"),
        (2, b"\x93\x01\xA6realm1\xDF\xFF\xFF\xFF\xFF"),
        (2, b"\x93\x01\xA6realm1\xDF\x7F\xFF\xFF\xFF\xA1a\x01"),
        (2, b"\x93\x01\xC6\xFF\xFF\xFF\xFFx"),
        (2, b"\x93\x01\xC9\xFF\xFF\xFF\xFF\x01x"),
    ];
    for (serializer, lie) in lies {
        for _ in 0..20 {
            let mut wire = Wire::tcp(router.http);
            wire.send(&[0x7F, 0xF0 | serializer, 0, 0]).unwrap();
            wire.send(&framed(lie)).unwrap();
            assert!(wire.await_end(PATIENCE), "{lie:02X?}");
            assert!(String::from_utf8_lossy(&wire.arrived).contains("wamp.error.protocol_violation"), "{lie:02X?}");
        }
    }
    assert_nobody_left(&router);
    assert_memory(&router, baseline_kib, 8 * 1024);
}

/// A payload is nobody's to understand on the way: what nests too deeply to be converted arrives as bytes.
#[test]
fn payloads_nested_without_end_arrive() {
    let router = Router::start("");
    let mut mqtt = Client::connect(&router, "CONNECT v5 clean id=reader");
    assert!(mqtt.ask("SUBSCRIBE id=1 deep/#:0").starts_with("SUBACK"));
    let mut json = Session::open(&router);
    assert_eq!(json.ask(r#"[32,1,{"match":"prefix"},"deep"]"#)[0], 33);
    let depths = [60, 70, 1_000, 300_000];
    let msgpack = depths.map(|depth| (2, [vec![0x91; depth], vec![0xC0]].concat()));
    let cbor = depths.map(|depth| (3, [vec![0x81; depth], vec![0xF6]].concat()));
    let indefinite = (3, [vec![0x9F; 300_000], vec![0xF6], vec![0xFF; 300_000]].concat());
    let tags = (3, [vec![0x81], vec![0xC1; 300_000], vec![0x01]].concat());
    for (serializer, payload) in msgpack.into_iter().chain(cbor).chain([indefinite, tags]) {
        let mut wire = open(&router, serializer);
        // [PUBLISH, 1, {}, "deep.x", payload]
        let head: &[u8] = if serializer == 2 { b"\x95\x10\x01\x80\xA6deep.x" } else { b"\x85\x10\x01\xA0\x66deep.x" };
        wire.send(&framed(&[head, &payload].concat())).unwrap();
        let shown = (serializer, payload.len());
        assert_eq!(mqtt.receive()[..2], ["PUBLISH", "deep/x"], "{shown:?}");
        assert_eq!(json.receive()[0], 36, "{shown:?}");
    }
    assert_serves(&router);
}

#[test]
fn a_frame_that_is_never_finished_is_cut_off() {
    let router = Router::start("limits.packet_timeout_ms = 1000\n");
    let begun: [&[u8]; 3] = [b"\0", b"\0\0\0\x10[16", b"\x01\0\0\x10x"];
    let wires: Vec<_> = begun
        .into_iter()
        .map(|begun| {
            let mut wire = open(&router, 1);
            wire.send(begun).unwrap();
            (begun, wire)
        })
        .collect();
    for (begun, mut wire) in wires {
        assert!(wire.await_end(Duration::from_secs(5)), "{begun:02X?} and then silence");
    }
    assert_nobody_left(&router);
}

#[test]
fn pings_that_nobody_reads_the_answers_of() {
    let router = Router::start("");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    let mut wire = open(&router, 1);
    wire.set_write_timeout(Duration::from_millis(300));
    let pings = [&[1, 0, 0x80, 0][..], &[b'x'; 0x8000]].concat().repeat(4);
    let sent = (0..1_000).take_while(|_| wire.send(&pings).is_ok()).count();
    assert!(sent < 1_000, "128 MB were taken");
    assert!(router.rss_kib() < baseline_kib + 24 * 1024, "{} KiB", router.rss_kib());
    assert_serves(&router);
}

/// The next frame: its kind (0 message, 1 PING, 2 PONG) and body.
fn frame(wire: &mut Wire) -> (u8, Vec<u8>) {
    loop {
        if let [kind, high, middle, low, rest @ ..] = &wire.arrived[..] {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if let Some(body) = rest.get(..length) {
                let frame = (*kind, body.to_vec());
                wire.arrived.drain(..4 + length);
                return frame;
            }
        }
        wire.wait().unwrap();
    }
}

#[test]
fn a_pong_comes_in_its_turn() {
    let router = Router::start("");
    let mut wire = open(&router, 1);
    wire.arrived.drain(..4);
    assert_eq!(frame(&mut wire).0, 0, "WELCOME");
    let ping = |body: &[u8]| [&(body.len() as u32 | 1 << 24).to_be_bytes()[..], body].concat();
    let mut sent = Vec::new();
    for request in 1..=50 {
        sent.extend(framed(format!(r#"[48,{request},{{}},"corsac.queue.stats",["jobs"]]"#).as_bytes()));
        sent.extend(ping(format!("ping {request}").as_bytes()));
        sent.extend(ping(b""));
    }
    // More than wait at a time; what is behind it is read in the end.
    sent.extend(ping(&[b'x'; 100_000]).repeat(5));
    sent.extend(framed(br#"[48,51,{},"corsac.queue.stats",["jobs"]]"#));
    wire.send(&sent).unwrap();
    for request in 1..=50 {
        let (kind, body) = frame(&mut wire);
        let result: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((kind, &result[0], &result[1]), (0, &50.into(), &request.into()), "{result}");
        assert_eq!(frame(&mut wire), (2, format!("ping {request}").into_bytes()));
        assert_eq!(frame(&mut wire), (2, Vec::new()));
    }
    for _ in 0..5 {
        assert_eq!(frame(&mut wire), (2, vec![b'x'; 100_000]));
    }
    assert_eq!(frame(&mut wire).0, 0);
    assert_serves(&router);
}

/// Keys must not repeat, and finding out must not take the square of their number.
#[test]
fn options_of_many_keys() {
    let router = Router::start("");
    let mut session = Session::open(&router);
    let keys: Vec<String> = (0..100_000).map(|n| format!("\"_k{n}\":1")).collect();
    let started = Instant::now();
    let answer = session.ask(&format!("[16,1,{{\"acknowledge\":true,{}}},\"a.b\"]", keys.join(",")));
    assert_eq!(answer[0], 17, "{answer}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
