//! Lengths that lie, silence, and packet ids without end.
use super::*;

const SHORT_TIMES: &str = "limits.open_timeout_ms = 1000\nlimits.packet_timeout_ms = 1000\n";

#[test]
fn lengths_that_lie_cost_nothing() {
    let router = Router::start("");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    let lies: [&[u8]; 5] = [
        b"\x30\xFF\xFF\xFF\x7F",
        b"\x10\xFF\xFF\xFF\x7F",
        b"\x10\x80\x80\x80\x80\x01",
        b"\x10\xFF\xFF\x03\x00\x04MQTT",
        b"\x00\x00",
    ];
    let mut wires = Vec::new();
    for lie in lies.iter().cycle().take(500) {
        let mut wire = Wire::tcp(router.mqtt);
        wire.send(lie).unwrap();
        wires.push(wire);
    }
    for mut wire in wires {
        assert!(wire.await_end(PATIENCE));
        assert_eq!(wire.arrived, b"");
    }
    assert_nobody_left(&router);
    assert_memory(&router, baseline_kib, 8 * 1024);
    assert_serves(&router);
}

/// 16 MiB are announced by each of 200 open connections, and one byte of it comes.
#[test]
fn nothing_is_allocated_by_a_declared_length() {
    let router = Router::start(SHORT_TIMES);
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    let mut clients: Vec<_> = (0..200).map(|n| Client::connect(&router, &format!("CONNECT v5 clean id=liar{n}"))).collect();
    for client in &mut clients {
        // 16 MiB less a little: just inside the bound.
        assert!(client.try_send(b"\x30\xF0\xFF\xFF\x07\x00"));
    }
    for client in &mut clients {
        assert_eq!(client.receive()[0], "DISCONNECT");
    }
    assert!(router.rss_kib() < baseline_kib + 32 * 1024, "{} KiB", router.rss_kib());
    drop(clients);
    assert_nobody_left(&router);
    assert_serves(&router);
}

#[test]
fn silent_sockets_are_closed() {
    let router = Router::start(SHORT_TIMES);
    assert_serves(&router);
    let (baseline_kib, descriptors) = (router.rss_kib(), router.descriptors());
    let started = Instant::now();
    let addresses = [router.mqtt, router.http];
    let wires: Vec<_> = (0..1000).map(|n| Wire::tcp(addresses[n % 2])).collect();
    router.await_figure("sockets", |open| open > 900);
    assert_serves(&router);
    for mut wire in wires {
        assert!(wire.await_end(PATIENCE));
    }
    assert!(started.elapsed() >= Duration::from_secs(1), "closed too early: {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(6), "closed too late: {:?}", started.elapsed());
    assert_nobody_left(&router);
    assert_memory(&router, baseline_kib, 8 * 1024);
    assert!(router.descriptors() <= descriptors + 2);
}

/// One byte every now and then does not keep a connection that never says CONNECT.
#[test]
fn a_connect_in_drops_is_cut_off() {
    let router = Router::start(SHORT_TIMES);
    for address in [router.mqtt, router.http] {
        let mut wire = Wire::tcp(address);
        let started = Instant::now();
        wire.send(b"\x10\xFF\x01").unwrap();
        while wire.receive(Instant::now() + Duration::from_millis(100)) == Arrival::Silence {
            assert!(started.elapsed() < Duration::from_secs(5), "still open");
            wire.send(b"\x00").ok();
        }
    }
    assert_nobody_left(&router);
}

#[test]
fn one_qos_2_id_is_one_entry_however_often_it_comes() {
    let router = Router::start("");
    let mut client = Client::connect(&router, "CONNECT v4 clean id=again");
    let baseline_kib = router.rss_kib();
    for round in 0..200 {
        let mut batch = Vec::new();
        for n in 0..100 {
            batch.extend(packet::encode(&bytes::words(&format!("PUBLISH t {round}/{n} q2 id=7")), 4));
        }
        assert!(client.try_send(&batch));
        for _ in 0..100 {
            assert_eq!(client.receive(), ["PUBREC", "id=7"]);
        }
    }
    assert_eq!(client.ask("PUBREL id=7"), "PUBCOMP id=7");
    assert_memory(&router, baseline_kib, 4 * 1024);
}

/// On one connection nothing is sent again [MQTT-4.4.0-1]: a client that repeats itself on and on has gone wrong.
#[test]
fn one_qos_2_message_on_and_on_ends_the_connection() {
    let router = Router::start("");
    let mut client = Client::connect(&router, "CONNECT v5 clean id=again");
    let publish = packet::encode(&bytes::words("PUBLISH t same q2 id=7"), 5);
    client.try_send(&publish.repeat(100_000));
    let mut answers = Vec::new();
    while answers.last().is_none_or(|answer: &Vec<String>| answer[0] != "DISCONNECT") {
        answers.push(client.receive());
    }
    assert!(answers.len() <= 4, "{answers:?}");
    assert_eq!(answers.last().unwrap()[1], "rc=82");
    assert_serves(&router);
}

/// 3.1.1 has no Receive Maximum: all its ids may be in use, and no more.
#[test]
fn every_qos_2_id_in_use_is_bounded() {
    let router = Router::start("");
    let mut client = Client::connect(&router, "CONNECT v4 clean id=all");
    let baseline_kib = router.rss_kib();
    for ids in (1..=65_535_u32).collect::<Vec<_>>().chunks(1000) {
        let packets: Vec<u8> =
            ids.iter().flat_map(|id| packet::encode(&bytes::words(&format!("PUBLISH t x q2 id={id}")), 4)).collect();
        assert!(client.try_send(&packets));
        for id in ids {
            assert_eq!(client.receive(), ["PUBREC".to_owned(), format!("id={id}")]);
        }
    }
    assert!(router.rss_kib() < baseline_kib + 16 * 1024, "{} KiB", router.rss_kib());
    drop(client);
    assert_nobody_left(&router);
    assert_memory(&router, baseline_kib, 4 * 1024);
    assert_serves(&router);
}

/// A connection that is refused leaves nothing: no session, no subscription, no retained message.
#[test]
fn what_is_pipelined_behind_a_refusal_leaves_nothing() {
    let router = Router::start("");
    for connect in
        ["10 [ s'MQTT' 04 00 0000 s'' ]", "10 [ s'MQTT' 05 02 0000 [ 15 s'x' ] s'a' ]", "10 [ s'MQTT' 04 03 0000 s'a' ]"]
    {
        let mut wire = Wire::tcp(router.mqtt);
        let more = "31 [ s'kept' 'never' ] 31 [ s'kept' [ ] 'never' ] 82 [ 0001 s'x' 00 ]";
        wire.send(&bytes::encode(&bytes::words(&format!("{connect} {more}")))).unwrap();
        assert!(wire.await_end(PATIENCE));
    }
    for figure in ["sessions", "subscriptions"] {
        assert_eq!(router.figure(figure), 0, "{figure}");
    }
    assert_nothing_retained(&router);
}

/// No message of the session's is lost between a peer's silence and its end: half-open connections are found by keep-alive.
#[test]
fn keep_alive_is_one_and_a_half_times() {
    let router = Router::start("");
    let mut client = Client::connect(&router, "CONNECT v5 clean id=quiet keep=1");
    let started = Instant::now();
    assert_eq!(client.receive()[..2], ["DISCONNECT", "rc=8D"]);
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(1450) && waited < Duration::from_millis(3000), "{waited:?}");
}
