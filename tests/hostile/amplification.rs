//! Small input that costs much: answers nobody reads, lengths of frames, topics that come once, realms, lists, filters.
use super::support::wire::frame;
use super::wamp::Session;
use super::*;

/// A client that asks and asks and does not read the answers is not listened to.
#[test]
fn answers_of_the_realm_that_nobody_reads_are_bounded() {
    let router = Router::start("limits.stalled_outbox_timeout_ms = 60000\n");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    let questions = ["PINGREQ", "PUBLISH t x q1 id=1", "SUBSCRIBE id=1 t:0", "UNSUBSCRIBE id=1 t", "PUBREL id=9", "PUBREC id=9"];
    for question in questions {
        let mut client = Client::connect(&router, "CONNECT v5 clean id=deaf");
        client.wire.set_write_timeout(Duration::from_millis(300));
        let batch = packet::encode(&bytes::words(question), 5).repeat(10_000);
        let mut bytes = 0;
        while bytes < 60_000_000 && client.try_send(&batch) {
            bytes += batch.len();
        }
        let grown_kib = router.rss_kib().saturating_sub(baseline_kib);
        assert!(grown_kib < 48 * 1024, "{question}: {grown_kib} KiB more after {bytes} bytes");
        assert_serves(&router);
    }
}

/// Answers of any kind that the client does not read are bounded: the router stops reading its questions.
fn assert_answers_are_bounded(open: &[u8], question: &[u8]) {
    let router = Router::start("");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    let mut wires: Vec<_> = (0..4).map(|_| Wire::websocket(router.http, "/mqtt", "mqtt")).collect();
    let batch = question.repeat(64 * 1024 / question.len());
    for wire in &mut wires {
        wire.set_write_timeout(Duration::from_millis(300));
        wire.send_raw(open).unwrap();
        // 64 MB of questions each.
        for _ in 0..1000 {
            if wire.send_raw(&batch).is_err() {
                break;
            }
        }
    }
    let rss_kib = router.rss_kib();
    assert!(rss_kib < baseline_kib + 40 * 1024, "{rss_kib} KiB, before {baseline_kib} KiB");
    assert_serves(&router);
}

#[test]
fn pongs_that_nobody_reads_are_bounded() {
    assert_answers_are_bounded(b"", &frame(0x89, &[b'x'; 125]));
}

#[test]
fn answers_over_websocket_that_nobody_reads_are_bounded() {
    let connect = frame(0x82, b"\x10\x0E\x00\x04MQTT\x04\x02\x00\x00\x00\x02ws");
    assert_answers_are_bounded(&connect, &frame(0x82, b"\xC0\x00"));
}

/// Realms cost what they hold: a client that makes many does not make each of them pay for all others.
#[test]
fn realms_of_clients_cost_their_share() {
    let router = Router::start("");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    let clients: Vec<_> = (0..300).map(|n| Client::connect(&router, &format!("CONNECT v4 clean id=a name=x@made{n}"))).collect();
    // The next figures are taken 10 s after the first.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut witness = Client::connect(&router, "CONNECT v5 clean id=witness");
    assert!(witness.ask("SUBSCRIBE id=1 $SYS/broker/uptime:0,rh2").starts_with("SUBACK"));
    assert_eq!(witness.wire.receive(deadline), Arrival::Bytes);
    assert_serves(&router);
    let grown_kib = router.rss_kib().saturating_sub(baseline_kib);
    assert!(grown_kib < 32 * 1024, "{grown_kib} KiB more for {} realms", clients.len());
    assert_serves(&router);
}

/// The router's memory of topics is bounded in bytes, not only in number.
#[test]
fn topics_that_come_once_are_forgotten() {
    let router = Router::start("");
    assert_serves(&router);
    let mut publisher = Client::connect(&router, "CONNECT v4 clean id=publisher");
    let mut baseline_kib = 0;
    for round in 0..6_000 {
        if round == 500 {
            publisher.settle();
            baseline_kib = router.rss_kib();
        }
        let topic = format!("{round}-{}", "x".repeat(60_000));
        let mut packet = bytes::text_with_length(topic.as_bytes());
        packet.push(b'p');
        let head = [vec![0x30], bytes::variable(packet.len() as u32)].concat();
        assert!(publisher.try_send(&[head, packet].concat()));
    }
    publisher.settle();
    drop(publisher);
    let rss_kib = router.rss_kib();
    assert!(rss_kib < baseline_kib + 64 * 1024, "{rss_kib} KiB, {baseline_kib} KiB after the first 500 topics of 60 KB");
    assert_serves(&router);
}

/// A frame that is begun and not finished is a packet that is not finished.
#[test]
fn a_frame_that_is_never_finished_is_cut_off() {
    let router = Router::start("limits.packet_timeout_ms = 1000\n");
    let connect = frame(0x82, b"\x10\x0E\x00\x04MQTT\x04\x02\x00\x00\x00\x02ws");
    let hello = frame(0x81, br#"[1,"realm1",{"roles":{"publisher":{}}}]"#);
    for (subprotocol, open, first) in [("mqtt", connect, 0x82), ("wamp.2.json", hello, 0x81)] {
        for begun in [
            &[first][..],
            &[first, 0xFE],
            &[first, 0xFE, 0x01, 0x00, b'm', b'a', b's', b'k', b'x'],
            &[first & 0x0F, 0x81, 0, 0, 0, 0, b' '],
        ] {
            let mut wire = Wire::websocket(router.http, "/ws", subprotocol);
            wire.send_raw(&open).unwrap();
            assert_eq!(wire.receive(Instant::now() + PATIENCE), Arrival::Bytes);
            wire.send_raw(begun).unwrap();
            assert!(wire.await_end(Duration::from_secs(5)), "{subprotocol}: {begun:02X?} and then silence");
        }
    }
    assert_nobody_left(&router);
}

/// 16 MiB are announced by each of 100 open connections, and one byte of it comes.
#[test]
fn nothing_is_allocated_by_the_length_of_a_frame() {
    let router = Router::start("");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    let wires: Vec<_> = (0..100)
        .map(|n| {
            let mut wire = Wire::websocket(router.http, "/ws", "mqtt");
            wire.send(&packet::encode(&bytes::words(&format!("CONNECT v4 clean id=liar{n}")), 4)).unwrap();
            assert_eq!(wire.receive(Instant::now() + PATIENCE), Arrival::Bytes);
            wire.send_raw(b"\x82\xFF\0\0\0\0\0\xF0\0\0maskx").unwrap();
            wire
        })
        .collect();
    assert_serves(&router);
    assert!(router.rss_kib() < baseline_kib + 16 * 1024, "{} KiB, before {baseline_kib} KiB", router.rss_kib());
    drop(wires);
    assert_nobody_left(&router);
}

/// The most memory the router has ever had.
fn peak_kib(router: &Router) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", router.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// One packet of 16 MiB holds four million filters: more than the quota are not worth a place in memory each.
#[test]
fn filters_beyond_the_quota_cost_nothing() {
    for (first, entry) in [(0x82_u8, &b"\0\x01a\0"[..]), (0xA2, b"\0\x01a")] {
        let router = Router::start("");
        assert_serves(&router);
        let before_kib = peak_kib(&router);
        let mut client = Client::connect(&router, "CONNECT v4 clean id=many");
        let mut body = vec![0, 1];
        body.extend(entry.repeat(16_000_000 / entry.len()));
        let packet = [vec![first], bytes::variable(body.len() as u32), body].concat();
        assert!(client.try_send(&packet));
        client.wire.receive(Instant::now() + Duration::from_secs(20));
        let grown_kib = peak_kib(&router) - before_kib;
        assert!(grown_kib < 200 * 1024, "{first:02X}: {grown_kib} KiB at the peak");
        assert_serves(&router);
    }
}

/// Black and white lists of any length cost the others no time.
#[test]
fn lists_of_receivers_without_end() {
    let router = Router::start("");
    let mut subscribers: Vec<_> = (0..300).map(|n| Client::connect(&router, &format!("CONNECT v5 clean id=s{n}"))).collect();
    for subscriber in &mut subscribers {
        assert!(subscriber.ask("SUBSCRIBE id=1 a/b:0").starts_with("SUBACK"));
    }
    let mut bystander = Client::connect(&router, "CONNECT v5 clean id=bystander");
    for (key, element) in [("exclude", "1"), ("exclude_authid", "\"a\""), ("eligible", "1")] {
        let mut session = Session::open(&router);
        let list = format!("{element},").repeat(3_000_000);
        session.0.send_text(&format!("[16,1,{{\"{key}\":[{}]}},\"a.b\"]", list.trim_end_matches(','))).unwrap();
        let until = Instant::now() + Duration::from_secs(6);
        while Instant::now() < until {
            let asked = Instant::now();
            bystander.settle();
            assert!(asked.elapsed() < Duration::from_secs(5), "{key}: a bystander waits {:?}", asked.elapsed());
        }
    }
}

/// From the moment it says that it serves, the router stops in order.
#[test]
fn a_stop_right_after_the_start_is_a_stop() {
    for _ in 0..40 {
        let router = Router::start("");
        let kill = std::process::Command::new("sh").arg("-c").arg(format!("kill -TERM {}", router.pid())).status();
        assert!(kill.unwrap().success());
        let status = router.wait(Duration::from_secs(5));
        assert!(status.success(), "{status}");
    }
}
