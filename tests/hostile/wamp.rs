//! WAMP: messages out of place, ids that do not count, nesting without end, RawSocket handshakes that are none.
use super::*;

const HELLO: &str =
    r#"[1,"realm1",{"roles":{"caller":{},"callee":{"features":{"call_canceling":true}},"publisher":{},"subscriber":{}}}]"#;

/// A WAMP client over a WebSocket in JSON.
pub struct Session(pub Wire);

impl Session {
    pub fn new(router: &Router) -> Self {
        Session(Wire::websocket(router.http, "/ws", "wamp.2.json"))
    }

    pub fn open(router: &Router) -> Self {
        let mut session = Session::new(router);
        session.0.send_text(HELLO).unwrap();
        assert_eq!(session.receive()[0], 2);
        session
    }

    /// The next message; null at the end of the connection.
    pub fn receive(&mut self) -> serde_json::Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut messages = serde_json::Deserializer::from_slice(&self.0.arrived).into_iter();
            if let Some(Ok(message)) = messages.next() {
                let length = messages.byte_offset();
                self.0.arrived.drain(..length);
                return message;
            }
            match self.0.receive(deadline) {
                Arrival::Bytes => {}
                Arrival::End => return serde_json::Value::Null,
                Arrival::Silence => panic!("nothing that can be read comes: {}", String::from_utf8_lossy(&self.0.arrived)),
            }
        }
    }

    pub fn ask(&mut self, message: &str) -> serde_json::Value {
        self.0.send_text(message).unwrap();
        self.receive()
    }

    /// The message must be answered with ABORT, and the connection ended.
    fn assert_aborts(mut self, message: &str) {
        let answer = self.ask(message);
        let shown = &message[..message.len().min(80)];
        assert_eq!(answer[0], 3, "{shown}: {answer}");
        assert_eq!(answer[2], "wamp.error.protocol_violation", "{shown}: {answer}");
        assert!(self.0.await_end(PATIENCE), "{shown}: still open");
    }
}

#[test]
fn messages_that_are_none() {
    let router = Router::start("");
    let deep = format!("[16,1,{{}},\"a.b\",{}", "[".repeat(60_000));
    let deep_options = format!("[16,1,{}{}{},\"a.b\"]", "{\"a\":".repeat(200), "1", "}".repeat(200));
    for message in [
        "[]",
        "[1]",
        "[9999]",
        "[-1]",
        "[1.5]",
        "[\"1\"]",
        "{}",
        "1",
        "null",
        "[1,",
        "]",
        "[1,\"realm1\"]",
        "[1,\"realm1\",{}",
        "[1,1,{}]",
        "[1,\"realm1\",[]]",
        "[16,1,{},\"a.b\"]",
        "[2,1,{}]",
        "[6,{},\"x\"]",
        "[36,1,1,{}]",
        "[1,\"realm1\",{\"a\":1,\"a\":2}]",
        &deep,
        &deep_options,
    ] {
        Session::new(&router).assert_aborts(message);
    }
    assert_nobody_left(&router);
    assert_serves(&router);
}

#[test]
fn messages_out_of_place() {
    let router = Router::start("");
    for message in [
        "[]",
        "[1]",
        "[9999]",
        HELLO,
        "[2,1,{}]",
        "[4,\"ticket\",{}]",
        "[5,\"x\",{}]",
        "[17,1,1]",
        "[33,1,1]",
        "[36,1,1,{}]",
        "[50,1,{}]",
        "[65,1,1]",
        "[68,1,1,{}]",
        "[69,1,{}]",
        "[16,0,{},\"a.b\"]",
        "[16,-1,{},\"a.b\"]",
        "[16,1.5,{},\"a.b\"]",
        "[16,9007199254740993,{},\"a.b\"]",
        "[16,\"1\",{},\"a.b\"]",
        "[8,48,1,{},\"a.b\"]",
        "[16,1,{\"a\":1,\"a\":1},\"a.b\"]",
        "[70,1,{}]x",
    ] {
        Session::open(&router).assert_aborts(message);
    }
    assert_nobody_left(&router);
    router.await_figure("sessions", |count| count == 0);
    assert_serves(&router);
}

/// Client libraries number their requests at random, backwards, or all alike.
#[test]
fn request_ids_are_any_that_are_not_open() {
    let router = Router::start("");
    let mut session = Session::open(&router);
    assert_eq!(session.ask("[64,9007199254740992,{},\"own.p\"]")[0], 65);
    for id in [9_007_199_254_740_992_u64, 77, 76, 75, 1, 1, 500, 3, 1_u64 << 52] {
        let requests = [
            (format!("[32,{id},{{}},\"a.b\"]"), 33),
            (format!("[16,{id},{{\"acknowledge\":true}},\"a.b\"]"), 17),
            (format!("[48,{id},{{}},\"no.such\"]"), 8),
            (format!("[34,{id},999]"), 8),
        ];
        for (request, code) in requests {
            let answer = session.ask(&request);
            assert_eq!(answer[0], code, "{request}: {answer}");
            let echoed = if code == 8 { &answer[2] } else { &answer[1] };
            assert_eq!(echoed, &id, "{request}: {answer}");
        }
        // A PUBLISH that asks for no answer occupies no id.
        session.0.send_text(&format!("[16,{id},{{}},\"c.d\"]")).unwrap();
    }
    // While a call waits, its id is open: for a call, and for anything else that is answered.
    for second in ["[48,5,{},\"own.p\"]", "[32,5,{},\"a.b\"]", "[16,5,{\"acknowledge\":true},\"a.b\"]"] {
        let mut session = Session::open(&router);
        assert_eq!(session.ask("[64,9,{},\"own.q\"]")[0], 65);
        assert_eq!(session.ask("[48,5,{},\"own.q\"]")[0], 68);
        session.assert_aborts(second);
    }
    // So does one that waits for a lock.
    let mut session = Session::open(&router);
    assert_eq!(session.ask("[48,5,{},\"corsac.lock.acquire\",[\"a\"]]")[0], 50);
    let mut other = Session::open(&router);
    other.0.send_text("[48,5,{},\"corsac.lock.acquire\",[\"a\",{\"wait_ms\":60000}]]").unwrap();
    other.assert_aborts("[48,5,{},\"corsac.lock.acquire\",[\"a\",{\"wait_ms\":60000}]]");
}

#[test]
fn strict_request_ids_count_by_one() {
    let router = Router::start("wamp.strict_request_ids = true\n");
    let mut session = Session::open(&router);
    assert_eq!(session.ask("[32,1,{},\"a.b\"]")[0], 33);
    assert_eq!(session.ask("[16,2,{\"acknowledge\":true},\"a.b\"]")[0], 17);
    session.assert_aborts("[16,2,{\"acknowledge\":true},\"a.b\"]");
    // wampy goes on counting in its next session: the first id may be any, from then on there is no gap.
    let mut session = Session::open(&router);
    assert_eq!(session.ask("[32,7,{},\"a.b\"]")[0], 33);
    session.assert_aborts("[32,9,{},\"a.b\"]");
}

/// A request that is wrong behind its id is refused, and no more: its sender keeps the session and what it serves.
#[test]
fn wrong_requests_cost_no_session() {
    let router = Router::start("");
    let mut session = Session::open(&router);
    assert_eq!(session.ask("[64,1,{},\"own.p\"]")[0], 65);
    for (message, names) in [
        ("[16,7,{}]", "Topic"),
        ("[16,7,[],\"a.b\"]", "Options"),
        ("[16,7,{},1]", "Topic"),
        ("[16,7,{},\"a.b\",{}]", "Arguments"),
        ("[16,7,{},\"a.b\",[],[]]", "ArgumentsKw"),
        ("[16,7,{},\"a.b\",[],{},1]", "more elements"),
        ("[16,7,{\"acknowledge\":1},\"a.b\"]", "acknowledge"),
        ("[16,7,{\"qos\":3},\"a.b\"]", "qos"),
        ("[32,7,{}]", "Topic"),
        ("[32,7,{\"match\":\"foo\"},\"a.b\"]", "match"),
        ("[32,7,{\"after\":\"x\"},\"a.b\"]", "after"),
        ("[34,7]", "Subscription"),
        ("[34,7,\"x\"]", "Subscription"),
        ("[48,7,{},\"a.b\",1]", "Arguments"),
        ("[48,7,{\"timeout\":-1},\"a.b\"]", "timeout"),
        ("[48,7,{\"progress\":true},\"own.p\"]", "progress"),
        ("[64,7,{}]", "Procedure"),
        ("[64,7,{\"invoke\":\"best\"},\"a.b\"]", "invoke"),
        ("[66,7,{}]", "Registration"),
    ] {
        let answer = session.ask(message);
        assert_eq!((&answer[0], &answer[2]), (&8.into(), &7.into()), "{message}: {answer}");
        let uri = if names == "progress" { "wamp.error.option_not_allowed" } else { "wamp.error.invalid_argument" };
        assert_eq!(answer[4], uri, "{message}: {answer}");
        assert!(answer[5][0].as_str().is_some_and(|text| text.contains(names)), "{message}: {answer}");
    }
    // The session still serves its procedure.
    let mut caller = Session::open(&router);
    for (number, answer) in ["[70,I,[],[1]]", "[70,I,{},1]", "[70,I]", "[8,68,I,{}]", "[8,68,I,{},1]", "[8,68,I,{},\"a.b\",{}]"]
        .into_iter()
        .enumerate()
    {
        caller.0.send_text(&format!("[48,{},{{}},\"own.p\"]", number + 1)).unwrap();
        let invocation = session.receive();
        assert_eq!(invocation[0], 68, "{answer}: {invocation}");
        session.0.send_text(&answer.replace('I', &invocation[1].to_string())).unwrap();
        let error = caller.receive();
        assert_eq!((&error[0], &error[4]), (&8.into(), &"wamp.error.runtime_error".into()), "{answer}: {error}");
        assert!(error[5][0].as_str().is_some_and(|text| text.contains("cannot be read")), "{answer}: {error}");
    }
    // An answer that nobody asked for is out of order all the same.
    session.assert_aborts("[70,99,[]]");
}

/// Each ERROR of the router's begins its arguments with a sentence that has the name in it.
#[test]
fn errors_say_a_sentence() {
    let router = Router::start("");
    let (mut session, mut other) = (Session::open(&router), Session::open(&router));
    assert_eq!(other.ask("[64,1,{},\"taken.p\"]")[0], 65);
    for (message, uri, says) in [
        ("[48,1,{},\"demo.x\"]", "wamp.error.no_such_procedure", "no callee is registered for demo.x"),
        ("[48,1,{},\"corsac.history.raed\"]", "wamp.error.no_such_procedure", "corsac.history.raed"),
        ("[48,1,{},\"corsac.history.read\"]", "wamp.error.invalid_argument", "`filter` must be"),
        ("[48,1,{},\"corsac.history.read\",[\"#\",{\"limit\":0}]]", "wamp.error.invalid_argument", "`limit` must be"),
        ("[48,1,{},\"corsac.queue.ack\",[\"77\"]]", "corsac.error.no_such_token", "token"),
        ("[48,1,{},\"a b\"]", "wamp.error.invalid_uri", "a b"),
        ("[64,1,{},\"taken.p\"]", "wamp.error.procedure_already_exists", "taken.p is registered already"),
        ("[64,1,{},\"wamp.p\"]", "wamp.error.invalid_uri", "belong to the router"),
        ("[64,1,{},\"a..p\"]", "wamp.error.invalid_uri", "a..p"),
        ("[66,1,77]", "wamp.error.no_such_registration", "77"),
        ("[34,1,77]", "wamp.error.no_such_subscription", "77"),
        ("[32,1,{},\"a b\"]", "wamp.error.invalid_uri", "a b"),
        ("[32,1,{\"after\":5,\"last\":5},\"a.b\"]", "wamp.error.invalid_argument", "`last` must be"),
        ("[16,1,{\"acknowledge\":true},\"corsac.status\"]", "wamp.error.invalid_uri", "belong to the router"),
        ("[16,1,{\"acknowledge\":true},\"a..b\"]", "wamp.error.invalid_uri", "a..b"),
        ("[16,1,{\"acknowledge\":true,\"dedup\":\"\"},\"a.b\"]", "wamp.error.invalid_argument", "`dedup` must be"),
    ] {
        let answer = session.ask(message);
        assert_eq!((&answer[0], &answer[4]), (&8.into(), &uri.into()), "{message}: {answer}");
        assert!(answer[5][0].as_str().is_some_and(|text| text.contains(says)), "{message}: {answer}");
    }
    // So they do for calls that MQTT clients make, in their spelling, as payload.
    let mut mqtt = Client::connect(&router, "CONNECT v5 clean id=caller");
    assert!(mqtt.ask("SUBSCRIBE id=1 $reply/#:0").starts_with("SUBACK"));
    let answer = mqtt.ask("PUBLISH $call/demo/x 1 response_topic=$reply/1");
    assert!(answer.contains("no callee is registered for demo/x"), "{answer}");
    assert!(answer.contains("user=corsac-error:wamp.error.no_such_procedure"), "{answer}");
    let mut old = Client::connect(&router, "CONNECT v4 clean id=old");
    assert!(old.ask("SUBSCRIBE id=1 $reply/#:0").starts_with("SUBACK"));
    let answer = old.ask("PUBLISH $call/demo/x/$id/1 1");
    assert!(answer.starts_with("PUBLISH $reply/1/error") && answer.contains("no callee is registered for demo/x"), "{answer}");
}

#[test]
fn bad_uris_are_answered() {
    let router = Router::start("");
    let mut session = Session::open(&router);
    for (id, uri) in ["a b", "a..b#", "#x", ".", "wamp.x", "corsac.x"].into_iter().enumerate() {
        let answer = session.ask(&format!("[16,{},{{\"acknowledge\":true}},\"{uri}\"]", id + 1));
        assert_eq!(answer[0], 8, "{uri}: {answer}");
        assert!(matches!(answer[4].as_str(), Some("wamp.error.invalid_uri" | "wamp.error.not_authorized")), "{uri}: {answer}");
    }
    let answer = session.ask("[32,7,{},\"a b\"]");
    assert_eq!((&answer[0], &answer[4]), (&8.into(), &"wamp.error.invalid_uri".into()), "{answer}");
}

#[test]
fn nothing_is_heard_after_goodbye() {
    let router = Router::start("");
    let mut listener = Session::open(&router);
    assert_eq!(listener.ask("[32,1,{},\"a.b\"]")[0], 33);
    let mut session = Session::open(&router);
    session.0.send_text("[6,{},\"wamp.close.close_realm\"]").unwrap();
    session.0.send_text("[16,1,{},\"a.b\",[\"late\"]]").ok();
    assert_eq!(session.receive()[0], 6);
    assert_eq!(session.receive(), serde_json::Value::Null);
    let mut other = Session::open(&router);
    assert_eq!(other.ask("[16,1,{\"acknowledge\":true},\"a.b\",[\"on time\"]]")[0], 17);
    assert_eq!(listener.receive()[4][0], "on time");
}

#[test]
fn realms_that_cannot_be() {
    let router = Router::start("");
    for realm in ["a\\\"; DROP", "", "a..b", "a b", "a#", &"x".repeat(5_000)] {
        let mut session = Session::new(&router);
        let answer = session.ask(&format!("[1,\"{realm}\",{{\"roles\":{{\"publisher\":{{}}}}}}]"));
        assert_eq!(answer[0], 3, "{realm}: {answer}");
        assert!(session.0.await_end(PATIENCE));
    }
    assert_serves(&router);
}

/// Payloads are nobody's to understand: whatever they nest arrives, at least as bytes or text.
#[test]
fn payloads_nested_without_end_arrive() {
    let router = Router::start("");
    let mut mqtt = Client::connect(&router, "CONNECT v5 clean id=reader");
    assert!(mqtt.ask("SUBSCRIBE id=1 deep/#:0").starts_with("SUBACK"));
    let mut wamp = Session::open(&router);
    assert_eq!(wamp.ask("[32,1,{\"match\":\"prefix\"},\"deep\"]")[0], 33);
    let mut publisher = Session::open(&router);
    for (id, depth) in [10, 65, 200, 5_000, 30_000].into_iter().enumerate() {
        let nested = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        publisher.0.send_text(&format!("[16,{},{{\"acknowledge\":true}},\"deep.x\",[{nested}]]", id + 1)).unwrap();
        let event = mqtt.receive();
        assert_eq!(event[..2], ["PUBLISH", "deep/x"], "{depth}");
        assert_eq!(publisher.receive()[0], 17, "{depth}");
        let mut publisher = Client::connect(&router, "CONNECT v5 clean id=writer");
        publisher.send(&format!("30 [ s'deep/y' [ ] '{nested}' ]"));
        assert_eq!(mqtt.receive()[..2], ["PUBLISH", "deep/y"]);
    }
    assert_serves(&router);
}

/// Kills others: bytes that are no JSON, for a WAMP subscriber.
#[test]
fn payloads_that_are_no_json_reach_wamp() {
    let router = Router::start("");
    let mut wamp = Session::open(&router);
    assert_eq!(wamp.ask("[32,1,{},\"odd.x\"]")[0], 33);
    let mut mqtt = Client::connect(&router, "CONNECT v4 clean id=writer");
    let payloads = ["'\\xFF\\x00'", "'{'", "'[1,'", "'\\xC0\\x80'", "'\\x22\\x22 x'", "'nul'", "' '", "'[[[[[[[[[[[['"];
    for payload in payloads {
        mqtt.send(&format!("30 [ s'odd/x' {payload} ]"));
        let event = wamp.receive();
        assert_eq!((&event[0], event[4].as_array().map(Vec::len)), (&36.into(), Some(1)), "{payload}: {event}");
    }
    mqtt.send("30 [ s'odd/x' ]");
    let event = wamp.receive();
    assert!(event[0] == 36 && event[4].as_array().is_none_or(Vec::is_empty), "{event}");
}

#[test]
fn rawsocket_handshakes_that_are_none() {
    let router = Router::start("limits.open_timeout_ms = 1000\n");
    for (handshake, answer) in [
        ([0x7F, 0xF0, 0, 0], Some(0x10)),
        ([0x7F, 0xFF, 0, 0], Some(0x10)),
        ([0x7F, 0xF1, 0, 1], Some(0x30)),
        ([0x7F, 0xF1, 1, 0], Some(0x30)),
    ] {
        let mut wire = Wire::tcp(router.http);
        wire.send(&handshake).unwrap();
        assert!(wire.await_end(PATIENCE), "{handshake:02X?}");
        assert_eq!(wire.arrived.get(1).copied(), answer, "{handshake:02X?}");
    }
    for partial in [&[0x7F][..], &[0x7F, 0xF1], &[0x7F, 0xF1, 0], &[0x7F, 0xF1, 0, 0]] {
        let mut wire = Wire::tcp(router.http);
        wire.send(partial).unwrap();
        assert!(wire.await_end(Duration::from_secs(5)), "{partial:02X?} and silence");
    }
    assert_nobody_left(&router);
}

#[test]
fn rawsocket_frames_that_lie() {
    let router = Router::start("");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    for head in [[0x00, 0xFF, 0xFF, 0xFF], [0x03, 0, 0, 1], [0x08, 0, 0, 0], [0xF0, 0, 0, 1], [0x01, 0xFF, 0xFF, 0xFF]] {
        let mut wires: Vec<_> = (0..50).map(|_| Wire::tcp(router.http)).collect();
        for wire in &mut wires {
            wire.send(&[0x7F, 0xF1, 0, 0]).unwrap();
            wire.send(&head).unwrap();
        }
        for mut wire in wires {
            assert!(wire.await_end(PATIENCE), "{head:02X?}");
        }
    }
    assert_memory(&router, baseline_kib, 8 * 1024);
    let mut wire = Wire::tcp(router.http);
    wire.send(&[0x7F, 0xF1, 0, 0, 0x01, 0, 0, 2, b'h', b'i']).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while wire.arrived.len() < 10 {
        assert_eq!(wire.receive(deadline), Arrival::Bytes);
    }
    assert_eq!(wire.arrived[4..], [0x02, 0, 0, 2, b'h', b'i'], "PING is answered with PONG");
}

/// Every prefix and every single-bit flip of WAMP messages, in each serialization.
#[test]
fn mutated_messages() {
    let router = Router::start("");
    assert_serves(&router);
    let messages: [&[u8]; 3] = [
        HELLO.as_bytes(),
        br#"[16,1,{"acknowledge":true,"exclude":[1]},"a.b",["x",1.5],{"k":null}]"#,
        br#"[32,1,{"match":"wildcard"},"a..b"]"#,
    ];
    let run = || {
        for (number, message) in messages.iter().enumerate() {
            for bit in 0..message.len() * 8 {
                let mut flipped = message.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let mut wire = Wire::tcp(router.http);
                wire.send(&[0x7F, 0xF1, 0, 0]).ok();
                let mut frames = Vec::new();
                for body in if number == 0 { vec![&flipped[..]] } else { vec![HELLO.as_bytes(), &flipped[..]] } {
                    frames.extend((body.len() as u32).to_be_bytes());
                    frames.extend(body);
                }
                wire.send(&frames).ok();
                if bit % 8 == 0 {
                    wire.close();
                }
            }
        }
    };
    run();
    assert_nobody_left(&router);
    let baseline_kib = router.rss_kib();
    run();
    assert_nobody_left(&router);
    assert_memory(&router, baseline_kib, 4 * 1024);
    assert_eq!(router.figure("sessions"), 0);
    assert_serves(&router);
}
