//! Bounds that a client runs into: levels, wildcards, subscriptions, sessions, realms, connections, retained bytes.
use super::*;

/// A topic or filter of nothing but slashes, as long as the protocol can say.
fn slashes(count: usize) -> String {
    format!("{:04X} '/'*{count}", count)
}

#[test]
fn nothing_but_slashes() {
    let router = Router::start("");
    for version in [4, 5] {
        let (block, code) = if version == 5 { ("[ ]", "97") } else { ("", "80") };
        let mut client = Client::connect(&router, &format!("CONNECT v{version} clean id=slashes"));
        let long = slashes(65_535);
        let answer = client.ask(&format!("82 [ 0001 {block} {long} 00 ]"));
        assert!(answer.starts_with("SUBACK id=1") && answer.ends_with(code), "{answer}");
        assert!(client.ask(&format!("A2 [ 0001 {block} {long} ]")).starts_with("UNSUBACK id=1"));
        let answer = client.ask(&format!("33 [ {long} 0002 {block} 'x' ]"));
        assert!(answer.starts_with(if version == 5 { "PUBACK id=2 rc=90" } else { "PUBACK id=2" }), "{answer}");
        client.send(&format!("31 [ {long} {block} 'x' ]"));
        client.settle();
    }
    assert_nothing_retained(&router);
    assert_serves(&router);
}

/// All combinations of `+` and a literal in 16 levels: a session gets its quota, and a publication still reaches everybody.
#[test]
fn every_combination_of_wildcards() {
    let router = Router::start("");
    let filter = |bits: u32| (0..16).map(|bit| if bits >> bit & 1 == 1 { "+" } else { "a" }).collect::<Vec<_>>().join("/");
    let combinations: Vec<_> = (0..65_536).map(filter).collect();
    let mut greedy = Client::connect(&router, "CONNECT v5 clean id=greedy");
    let mut granted = 0;
    for filters in combinations.chunks(100).take(20) {
        let entries: String = filters.iter().map(|filter| format!(" {filter}:0")).collect();
        let answer = greedy.ask(&format!("SUBSCRIBE id=1{entries}"));
        granted += answer.split(' ').filter(|code| *code == "00").count();
        assert!(
            answer
                .split(' ')
                .skip(2)
                .all(|code| matches!(code, "00" | "97") || code.starts_with("reason") || code.ends_with('\'')),
            "{answer}"
        );
    }
    assert_eq!(granted, 1_001, "a thousand with wildcards, and the one without");
    let mut clients: Vec<_> = (0..66).map(|n| Client::connect(&router, &format!("CONNECT v4 clean id=part{n}"))).collect();
    for (client, part) in clients.iter_mut().zip(combinations.chunks(1_000)) {
        let filters: String = part.iter().map(|filter| format!(" {filter}:0")).collect();
        assert!(!client.ask(&format!("SUBSCRIBE id=1{filters}")).contains("80"));
    }
    let topic = ["a"; 16].join("/");
    let mut publisher = Client::connect(&router, "CONNECT v5 clean id=publisher");
    let started = Instant::now();
    assert_eq!(publisher.ask(&format!("PUBLISH {topic} x q1 id=1")), "PUBACK id=1 rc=00");
    for client in clients.iter_mut().chain([&mut greedy]) {
        assert_eq!(client.receive()[..3], ["PUBLISH", topic.as_str(), "x"]);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_serves(&router);
    drop((clients, greedy, publisher));
    assert_nobody_left(&router);
    router.await_figure("subscriptions", |count| count == 0);
}

#[test]
fn sessions_of_clients_that_never_return_are_bounded() {
    let router = Router::start("limits.max_stored_sessions = 5\n");
    for n in 0..40 {
        let version = [4, 5][n % 2];
        let mut client = Client::connect(
            &router,
            &format!("CONNECT v{version} id=gone{n}{}", if version == 5 { " session_expiry=4294967295" } else { "" }),
        );
        assert!(client.ask("SUBSCRIBE id=1 x:1").starts_with("SUBACK"));
        client.send("DISCONNECT");
        assert!(client.wire.await_end(PATIENCE));
    }
    router.await_figure("sessions", |count| count <= 5);
}

#[test]
fn realms_of_clients_are_bounded() {
    let router = Router::start("mqtt.realm_from_user = true\nlimits.max_auto_realms = 3\n");
    let mut codes = Vec::new();
    for n in 0..6 {
        let mut client = Client { wire: Wire::tcp(router.mqtt), version: 5 };
        codes.push(client.ask(&format!("CONNECT v5 clean id=a name=x@made{n}"))[..13].to_owned());
    }
    assert_eq!(codes, ["CONNACK rc=00", "CONNACK rc=00", "CONNACK rc=00", "CONNACK rc=97", "CONNACK rc=97", "CONNACK rc=97"]);
    let router = Router::start("mqtt.realm_from_user = true\n");
    for name in ["a\"; DROP TABLE", "a b", "..", "a#", "a..b", "a\\x00b"] {
        let mut client = Client { wire: Wire::tcp(router.mqtt), version: 5 };
        let answer = client.ask(&format!("CONNECT v5 clean id=a name='x@{name}'"));
        assert!(answer.starts_with("CONNACK rc=8"), "{name}: {answer}");
    }
    assert_serves(&router);
}

#[test]
fn connections_are_bounded() {
    let router = Router::start("limits.max_connections = 20\n");
    let clients: Vec<_> = (0..15).map(|n| Client::connect(&router, &format!("CONNECT v4 clean id=c{n}"))).collect();
    let wires: Vec<_> = (0..50).map(|_| Wire::tcp(router.mqtt)).collect();
    let refused = wires.into_iter().map(|mut wire| wire.await_end(Duration::from_millis(20))).filter(|ended| *ended).count();
    assert!(refused >= 45, "{refused} of 50 refused");
    drop(clients);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut wire = Wire::tcp(router.mqtt);
        wire.send(&packet::encode(&bytes::words("CONNECT v4 clean id=again"), 4)).ok();
        if wire.receive(Instant::now() + Duration::from_secs(1)) == Arrival::Bytes {
            break;
        }
        assert!(Instant::now() < deadline, "nobody is let in again");
    }
}

#[test]
fn connections_of_an_address_are_bounded() {
    let limits =
        "limits.limit_loopback = true\nlimits.max_connections_per_address = 4\nlimits.max_connection_rate_per_address = 1000\n";
    let router = Router::start(limits);
    let _clients: Vec<_> = (0..4).map(|n| Client::connect(&router, &format!("CONNECT v4 clean id=c{n}"))).collect();
    assert!(Wire::tcp(router.mqtt).await_end(PATIENCE), "a fifth connection of one address");
    let router = Router::start("limits.limit_loopback = true\nlimits.max_connection_rate_per_address = 10\n");
    let mut wires: Vec<_> = (0..40).map(|_| Wire::tcp(router.mqtt)).collect();
    let refused = wires.iter_mut().filter_map(|wire| wire.await_end(Duration::from_millis(5)).then_some(())).count();
    assert!((20..=30).contains(&refused), "{refused} of 40 refused");
}

/// Properties count as much as payloads: a bound that one of them passes by is none.
#[test]
fn retained_bytes_are_bounded_whatever_they_are_made_of() {
    let router = Router::start("limits.max_retained_bytes = 1000000\n");
    let mut client = Client::connect(&router, "CONNECT v5 clean id=hoarder");
    let big = "'x'*60000";
    for (n, properties) in
        ["", "[ 26 EA60 KEY EA60 KEY ]", "[ 03 EA60 KEY ]", "[ 09 EA60 KEY ]", "[ 08 EA60 KEY ]", "[ 26 0000 0000 ]"]
            .into_iter()
            .enumerate()
    {
        let (properties, payload) = match properties {
            "" => ("[ ]".to_owned(), big),
            "[ 26 0000 0000 ]" => (format!("[ {} ]", "2600000000 ".repeat(12_000)), "'x'"),
            properties => (properties.replace("KEY", big), "'x'"),
        };
        let mut codes = Vec::new();
        for topic in 0..30 {
            let answer = client.ask(&format!("33 [ s'kind{n}/{topic}' 0001 {properties} {payload} ]"));
            codes.push(answer.split(' ').nth(2).unwrap().to_owned());
        }
        assert_eq!(codes.last().unwrap(), "rc=97", "kind {n}: {codes:?}");
        for topic in 0..30 {
            client.ask(&format!("33 [ s'kind{n}/{topic}' 0001 [ ] ]"));
        }
    }
    assert_nothing_retained(&router);
    assert_serves(&router);
}

/// 20,000 retained messages, then `#` from fifty subscribers that do not read.
#[test]
fn retained_messages_wait_for_their_reader() {
    let router = Router::start("");
    let mut publisher = Client::connect(&router, "CONNECT v4 clean id=publisher");
    let payload = "x".repeat(500);
    for numbers in (0..20_000).collect::<Vec<_>>().chunks(1000) {
        let packets: Vec<u8> = numbers
            .iter()
            .flat_map(|n| packet::encode(&bytes::words(&format!("PUBLISH many/{n} {payload} retain")), 4))
            .collect();
        assert!(publisher.try_send(&packets));
        publisher.settle();
    }
    let baseline_kib = router.rss_kib();
    let mut sleepers: Vec<_> = (0..50).map(|n| Client::connect(&router, &format!("CONNECT v4 clean id=s{n}"))).collect();
    for sleeper in &mut sleepers {
        sleeper.send("SUBSCRIBE id=1 many/#:1");
    }
    let started = Instant::now();
    assert_serves(&router);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    // 50 x 10 MB would be half a gigabyte.
    assert!(router.rss_kib() < baseline_kib + 100 * 1024, "{} KiB, before {baseline_kib} KiB", router.rss_kib());
    let reader = &mut sleepers[0];
    assert_eq!(reader.receive()[0], "SUBACK");
    for n in 0..20_000 {
        assert_eq!(reader.receive()[0], "PUBLISH", "{n}");
    }
    reader.settle();
    drop(sleepers);
    drop(publisher);
    assert_nobody_left(&router);
    assert_serves(&router);
}
