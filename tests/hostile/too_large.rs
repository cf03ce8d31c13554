//! Receivers that take little: whatever somebody waits for and does not fit becomes an error that does, and everybody stays.
use serde_json::{Value, json};

use super::*;

/// A WAMP session over RawSocket in JSON.
struct Small(Wire);

impl Small {
    /// Takes messages of up to 2^(9 + `length`) bytes.
    fn open(router: &Router, length: u8) -> Self {
        let mut session = Small(Wire::tcp(router.http));
        session.0.send(&[0x7F, length << 4 | 1, 0, 0]).unwrap();
        while session.0.arrived.len() < 4 {
            session.0.wait().unwrap();
        }
        session.0.arrived.drain(..4);
        session
    }

    /// In the realm, as everything.
    fn join(router: &Router, length: u8) -> Self {
        let mut session = Small::open(router, length);
        let features = json!({"features": {"call_canceling": true, "progressive_call_results": true}});
        let roles = json!({"caller": {}, "callee": features, "publisher": {}, "subscriber": {}});
        let welcome = session.ask(json!([1, "realm1", {"roles": roles}]));
        assert_eq!(welcome[0], 2, "{welcome}");
        session
    }

    fn send(&mut self, message: Value) {
        let body = message.to_string();
        let head = u32::try_from(body.len()).unwrap().to_be_bytes();
        self.0.send(&[&head[..], body.as_bytes()].concat()).unwrap();
    }

    /// The next message; null at the end of the connection.
    fn receive(&mut self) -> Value {
        loop {
            if let [0, high, middle, low, rest @ ..] = &self.0.arrived[..] {
                let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
                if let Some(body) = rest.get(..length) {
                    let message = serde_json::from_slice(body).unwrap();
                    self.0.arrived.drain(..4 + length);
                    return message;
                }
            }
            if self.0.wait().is_err() {
                return Value::Null;
            }
        }
    }

    fn ask(&mut self, message: Value) -> Value {
        self.send(message);
        self.receive()
    }

    /// The answer to a call that this callee, which serves `own.p`, has answered so; `I` stands for the invocation.
    fn call_of(&mut self, callee: &mut Small, options: Value, answers: &[&Value]) -> Value {
        self.send(json!([48, 1, options, "own.p"]));
        let mut invocation = callee.receive();
        if invocation[0] == 69 {
            // Of the call before, which ended with what did not fit.
            invocation = callee.receive();
        }
        assert_eq!(invocation[0], 68, "{invocation}");
        for answer in answers {
            let mut answer = (*answer).clone();
            let place = if answer[0] == 70 { 1 } else { 2 };
            answer[place] = invocation[1].clone();
            callee.send(answer);
        }
        self.receive()
    }
}

fn is_error(answer: &Value, uri: &str) -> bool {
    answer[0] == 8 && answer[1] == 48 && answer[2] == 1 && answer[4] == uri
}

const TOO_LARGE: &str = "corsac.error.message_too_large";

#[test]
fn what_wamp_clients_wait_for() {
    let router = Router::start("");
    let (mut small, mut callee) = (Small::join(&router, 1), Small::join(&router, 15));
    assert_eq!(callee.ask(json!([64, 1, {}, "own.p"]))[0], 65);
    let (much, long) = ("y".repeat(5_000), format!("my.{}", "e".repeat(2_000)));
    for (options, answers, uri) in [
        (json!({}), vec![json!([70, 0, {}, [much]])], TOO_LARGE),
        (json!({}), vec![json!([8, 68, 0, {}, "my.error", [much]])], "my.error"),
        (json!({}), vec![json!([8, 68, 0, {}, "my.error", [], {"k": much}])], "my.error"),
        (json!({}), vec![json!([8, 68, 0, {}, long, ["why"]])], TOO_LARGE),
        (json!({}), vec![json!([70, 0, {"mqtt": {"user_properties": [["k", much]]}}, [1]])], TOO_LARGE),
        (
            json!({"receive_progress": true}),
            vec![json!([70, 0, {"progress": true}, [much]]), json!([70, 0, {}, ["end"]])],
            TOO_LARGE,
        ),
    ] {
        let answer = small.call_of(&mut callee, options, &answers.iter().collect::<Vec<_>>());
        assert!(is_error(&answer, uri), "{answers:?}: {answer}");
        assert!(answer[5][0].as_str().is_some_and(|text| text.contains("larger")) || uri == TOO_LARGE, "{answer}");
        // A call under the same id is another one, whatever still came of the last.
        let answer = small.call_of(&mut callee, json!({}), &[&json!([70, 0, {}, ["fits"]])]);
        assert_eq!((&answer[0], &answer[3]), (&json!(50), &json!(["fits"])), "{answer}");
    }
    // So do the router's own answers, and those of a callee on MQTT.
    for number in 0..20 {
        let publish = json!([16, number + 10, {"acknowledge": true}, "own.t", ["x".repeat(100)]]);
        assert_eq!(callee.ask(publish)[0], 17);
    }
    let answer = small.ask(json!([48, 1, {}, "corsac.queue.stats", ["x".repeat(900)]]));
    assert!(is_error(&answer, TOO_LARGE), "{answer}");
    let mut mqtt = Client::connect(&router, "CONNECT v5 clean id=callee");
    assert!(mqtt.ask("SUBSCRIBE id=1 $callee/own/m:0").starts_with("SUBACK"));
    small.send(json!([48, 1, {}, "own.m"]));
    assert_eq!(mqtt.receive()[0], "PUBLISH");
    mqtt.send(&format!("PUBLISH $yield/1 {much}"));
    let answer = small.receive();
    assert!(is_error(&answer, TOO_LARGE), "{answer}");
    // A refusal with a long name is a refusal.
    let mut tiny = Small::join(&router, 0);
    let answer = tiny.ask(json!([48, 1, {}, format!("nobody.{}", "\u{1F98A}".repeat(128))]));
    assert!(is_error(&answer, "wamp.error.no_such_procedure"), "{answer}");
    assert_serves(&router);
}

#[test]
fn calls_that_do_not_fit_their_callee() {
    let router = Router::start("");
    let (mut small, mut caller) = (Small::join(&router, 1), Small::join(&router, 15));
    assert_eq!(small.ask(json!([64, 1, {}, "own.p"]))[0], 65);
    let mut served = Client::connect(&router, "CONNECT v5 clean id=callee maximum_packet=300");
    assert!(served.ask("SUBSCRIBE id=1 $callee/own/m:1").starts_with("SUBACK"));
    let mut mqtt = Client::connect(&router, "CONNECT v5 clean id=caller");
    assert!(mqtt.ask("SUBSCRIBE id=1 $reply/#:0").starts_with("SUBACK"));
    for procedure in ["own.p", "own.m"] {
        for _ in 0..3 {
            let answer = caller.ask(json!([48, 1, {}, procedure, ["z".repeat(5_000)]]));
            assert!(is_error(&answer, TOO_LARGE), "{answer}");
            assert!(answer[5][0].as_str().is_some_and(|text| text.contains(procedure)), "{answer}");
        }
        let slashed = procedure.replace('.', "/");
        let answer = mqtt.ask(&format!("PUBLISH $call/{slashed} {} response_topic=$reply/1", "z".repeat(5_000)));
        assert!(answer.contains(&format!("user=corsac-error:{TOO_LARGE}")) && answer.contains(&slashed), "{answer}");
    }
    // Both still serve what fits.
    caller.send(json!([48, 1, {}, "own.p", ["fits"]]));
    assert_eq!(small.receive()[4], json!(["fits"]));
    caller.send(json!([48, 2, {}, "own.m", ["fits"]]));
    assert!(served.receive().join(" ").contains("fits"));
    assert_serves(&router);
}

#[test]
fn what_mqtt_clients_wait_for() {
    let router = Router::start("");
    let mut callee = Small::join(&router, 15);
    assert_eq!(callee.ask(json!([64, 1, {}, "own.p"]))[0], 65);
    let (much, long) = ("y".repeat(5_000), format!("my.{}", "e".repeat(2_000)));
    let mut phone = Client::connect(&router, "CONNECT v5 clean id=phone maximum_packet=300");
    assert!(phone.ask("SUBSCRIBE id=1 $reply/#:0 answers/#:0").starts_with("SUBACK"));
    for (answer, uri) in [
        (json!([70, 0, {}, [much]]), TOO_LARGE),
        (json!([70, 0, {"progress": true}, [much]]), TOO_LARGE),
        (json!([8, 68, 0, {}, "my.error", [much]]), "my.error"),
        (json!([8, 68, 0, {}, long, ["why"]]), TOO_LARGE),
        (json!([70, 0, {"mqtt": {"user_properties": [["k", much]]}}, [1]]), TOO_LARGE),
    ] {
        for topic in ["$reply/a", "answers/a"] {
            let progress = if answer[2]["progress"] == true { " user=corsac-receive-progress:true" } else { "" };
            phone.send(&format!("PUBLISH $call/own/p 1 response_topic={topic} correlation=c{progress}"));
            let invocation = callee.receive();
            let mut answer = answer.clone();
            let place = if answer[0] == 70 { 1 } else { 2 };
            answer[place] = invocation[1].clone();
            callee.send(answer);
            let told = phone.receive();
            assert_eq!(told[..2], ["PUBLISH", topic], "{told:?}");
            assert!(told.contains(&format!("user=corsac-error:{uri}")), "{told:?}");
            assert!(told.contains(&"correlation=c".to_owned()), "{told:?}");
        }
    }
    // An answer of the router's own, and the end of a call whose callee leaves.
    phone.send(&format!("PUBLISH $call/corsac/queue/stats {} response_topic=$reply/a", "x".repeat(200)));
    let told = phone.receive().join(" ");
    assert!(told.contains(&format!("user=corsac-error:{TOO_LARGE}")), "{told}");
    phone.settle();
    assert_serves(&router);
}

/// An item that its taker cannot be sent is there for the next one at once.
#[test]
fn items_of_a_queue() {
    let router = Router::start("");
    let (mut small, mut large) = (Small::join(&router, 1), Small::join(&router, 15));
    let put = json!([48, 1, {}, "corsac.queue.put", ["jobs", "y".repeat(5_000)]]);
    assert_eq!(large.ask(put)[0], 50);
    let answer = small.ask(json!([48, 1, {}, "corsac.queue.take", ["jobs"]]));
    assert!(is_error(&answer, TOO_LARGE), "{answer}");
    let taken = large.ask(json!([48, 2, {}, "corsac.queue.take", ["jobs", {"wait_ms": 5_000}]]));
    assert_eq!((&taken[0], &taken[3][0][0]["delivery_count"]), (&json!(50), &json!(2)), "{taken}");
    assert_eq!(large.ask(json!([48, 3, {}, "corsac.queue.ack", [taken[3][0][0]["token"]]]))[0], 50);
    let mut phone = Client::connect(&router, "CONNECT v5 clean id=phone maximum_packet=300");
    assert!(phone.ask("SUBSCRIBE id=1 $reply/#:0").starts_with("SUBACK"));
    assert_eq!(large.ask(json!([48, 4, {}, "corsac.queue.put", ["jobs", "z".repeat(5_000)]]))[0], 50);
    let answer = phone.ask("PUBLISH $call/corsac/queue/take jobs response_topic=$reply/a");
    assert!(answer.contains(&format!("user=corsac-error:{TOO_LARGE}")), "{answer}");
    let taken = large.ask(json!([48, 5, {}, "corsac.queue.take", ["jobs", {"wait_ms": 5_000}]]));
    assert_eq!(taken[3][0][0]["delivery_count"], 2, "{taken}");
    assert_serves(&router);
}

#[test]
fn greetings() {
    let router = Router::start("");
    // With room for little, what is announced is little.
    let mut tiny = Small::join(&router, 0);
    assert_eq!(tiny.ask(json!([64, 1, {}, "own.p"]))[0], 65);
    drop(tiny);
    // A client that has no room for an answer at all is left, not kept in silence.
    let mut client = Client { wire: Wire::tcp(router.mqtt), version: 5 };
    client.send("CONNECT v5 clean id=tiny maximum_packet=7");
    assert_eq!(client.receive(), ["close"]);
    let mut client = Client::connect(&router, "CONNECT v5 clean id=tiny maximum_packet=40");
    assert!(client.ask("SUBSCRIBE id=1 $reply/#:0").starts_with("SUBACK"));
    client.send("PUBLISH $call/no/such x response_topic=$reply/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_eq!(client.receive()[..2], ["DISCONNECT", "rc=95"]);
    assert_nobody_left(&router);
    assert_serves(&router);
}

/// SUBACK and UNSUBACK cannot be made smaller, what only its words make large can.
#[test]
fn answers_of_mqtt() {
    let router = Router::start("");
    let mut client = Client::connect(&router, "CONNECT v5 clean id=tiny maximum_packet=30");
    let filters: Vec<String> = (0..40).map(|number| format!("a{number}:0")).collect();
    client.send(&format!("SUBSCRIBE id=1 {}", filters.join(" ")));
    assert_eq!(client.receive()[..2], ["DISCONNECT", "rc=95"]);
    let mut client = Client::connect(&router, "CONNECT v5 clean id=tiny maximum_packet=30");
    assert_eq!(client.ask("PUBLISH corsac/a x q1 id=1"), "PUBACK id=1 rc=87", "the reason string has no room");
    assert_eq!(client.ask("PUBLISH corsac/a x q2 id=2"), "PUBREC id=2 rc=87");
    let refused = client.ask("SUBSCRIBE id=3 $callee/corsac/x:1");
    assert!(refused.starts_with("SUBACK id=3 8") && !refused.contains("reason"), "{refused}");
    // The grant of a lock, without its token.
    let lock = "user=corsac-when:null user=corsac-will:null retain";
    assert!(client.ask(&format!("PUBLISH locked {{}} q1 id=4 {lock}")).starts_with("PUBACK id=4 rc=00"));
    client.settle();
    assert_serves(&router);
}

/// An event that is too large for its receiver is nobody's fault: it is passed over, and counted.
#[test]
fn events_are_passed_over_and_counted() {
    let router = Router::start("");
    let (mut small, mut large) = (Small::join(&router, 0), Small::join(&router, 15));
    let mut phone = Client::connect(&router, "CONNECT v5 clean id=phone maximum_packet=300");
    assert!(phone.ask("SUBSCRIBE id=1 own/t:1 own/u:0").starts_with("SUBACK"));
    assert_eq!(small.ask(json!([32, 1, {}, "own.t"]))[0], 33);
    for text in ["y".repeat(5_000), "fits".to_owned()] {
        for (request, topic) in [(1, "own.t"), (2, "own.u")] {
            assert_eq!(large.ask(json!([16, request, {"acknowledge": true}, topic, [text]]))[0], 17);
        }
    }
    assert_eq!(small.receive()[4], json!(["fits"]));
    assert_eq!([phone.receive()[2].clone(), phone.receive()[2].clone()], ["fits", "fits"]);
    let mut witness = Client::connect(&router, "CONNECT v5 clean id=witness");
    assert!(witness.ask("SUBSCRIBE id=1 '$SYS/broker/messages/too large':0").starts_with("SUBACK"));
    // The figures are taken every ten seconds.
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        assert!(Instant::now() < deadline, "the count of what was too large is not told");
        if let Some((words, length)) = packet::decode(&witness.wire.arrived, 5).unwrap() {
            witness.wire.arrived.drain(..length);
            if words[2] == "3" {
                break;
            }
        } else {
            witness.wire.receive(deadline);
        }
    }
    assert_serves(&router);
}

/// An item that its only taker cannot be sent waits for another one, and costs nothing meanwhile.
#[test]
fn items_that_their_only_taker_cannot_be_sent() {
    let router = Router::start("");
    let mut phone = Client::connect(&router, "CONNECT v5 clean id=phone maximum_packet=300");
    assert!(phone.ask("SUBSCRIBE id=1 $queue/jobs:1").starts_with("SUBACK"));
    let mut large = Small::join(&router, 15);
    // An item that is declined rests as long as a claim would last.
    assert_eq!(large.ask(json!([48, 1, {}, "corsac.queue.declare", ["jobs", {"visibility_ms": 500}]]))[0], 50);
    assert_eq!(large.ask(json!([48, 1, {}, "corsac.queue.put", ["jobs", "y".repeat(5_000)]]))[0], 50);
    let before = router.cpu_ms();
    std::thread::sleep(Duration::from_secs(2));
    let used = router.cpu_ms() - before;
    assert!(used < 1_000, "{used} ms of processor time for an item that goes round");
    phone.send("DISCONNECT");
    let taken = large.ask(json!([48, 2, {}, "corsac.queue.take", ["jobs", {"wait_ms": 5_000}]]));
    assert_eq!(taken[3][0][0]["args"], json!(["y".repeat(5_000)]));
    assert_serves(&router);
}
