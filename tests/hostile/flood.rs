//! Subscribers that stop reading while messages come in: the publisher goes on, memory is bounded, losses are told.
use super::*;

const PAYLOAD_BYTES: usize = 1_000;

/// Publishes `count` messages at QoS 0 in batches; returns how long it took until the router had taken all.
fn flood(publisher: &mut Client, count: usize) -> Duration {
    let started = Instant::now();
    let payload = "x".repeat(PAYLOAD_BYTES);
    let publish = packet::encode(&bytes::words(&format!("PUBLISH flood/x {payload}")), publisher.version);
    let batch = publish.repeat(50);
    for _ in 0..count / 50 {
        assert!(publisher.try_send(&batch));
    }
    publisher.settle();
    started.elapsed()
}

/// The number of events that the router says it has dropped before this one.
fn told(event: &[String]) -> usize {
    let count = event.iter().find_map(|word| word.strip_prefix("user=")?.strip_prefix("dropped:"));
    count.map_or(0, |count| count.parse().unwrap())
}

/// The numbers of events that came, and that the router says it has dropped, until the marker.
fn count_until_marker(reader: &mut Client) -> (usize, usize) {
    let (mut received, mut dropped) = (0, 0);
    loop {
        let event = reader.receive();
        assert_eq!(event[0], "PUBLISH", "{event:?}");
        dropped += told(&event);
        if event[1] == "flood/end" {
            return (received, dropped);
        }
        received += 1;
    }
}

/// Counts until a marker has arrived, which may be lost as well and so is published again and again: events received, events
/// told as dropped, markers.
fn count_with_markers(reader: &mut Client, publisher: &mut Client) -> (usize, usize, usize) {
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| count_until_marker(reader));
        let mut markers = 0;
        while !counting.is_finished() {
            publisher.send("PUBLISH flood/end x");
            publisher.settle();
            markers += 1;
        }
        let (received, dropped) = counting.join().unwrap();
        (received, dropped, markers)
    })
}

#[test]
fn sleepers_hold_up_nobody_and_cost_their_bound() {
    let limits = "limits.max_outbox_bytes = 200000\nlimits.stalled_outbox_timeout_ms = 2000\n";
    let router = Router::start(limits);
    let mut sleepers: Vec<_> = (0..40).map(|n| Client::connect(&router, &format!("CONNECT v4 clean id=sleeper{n}"))).collect();
    for sleeper in &mut sleepers {
        assert!(sleeper.ask("SUBSCRIBE id=1 flood/x:0").starts_with("SUBACK"));
    }
    let mut publisher = Client::connect(&router, "CONNECT v5 clean id=publisher");
    let mut bystander = Client::connect(&router, "CONNECT v5 clean id=bystander");
    let baseline_kib = router.rss_kib();
    // 20 MB, and 40 times as much if everything was kept.
    let took = flood(&mut publisher, 20_000);
    assert!(took < Duration::from_secs(20), "the publisher was held up for {took:?}");
    let grown_kib = router.rss_kib().saturating_sub(baseline_kib);
    // An outbox overshoots to four times its bound while it moves; then its socket's batch.
    assert!(grown_kib < 40 * 2_000, "{grown_kib} KiB more");
    let started = Instant::now();
    bystander.settle();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(router.is_alive());
    // 2 s without a byte taken: closed.
    router.await_figure("sockets", |open| open <= 3);
    assert_memory(&router, baseline_kib, 16 * 1024);
    drop(sleepers);
    assert_serves(&router);
}

#[test]
fn a_reader_is_told_what_it_lost() {
    let router = Router::start("limits.max_outbox_bytes = 100000\nlimits.stalled_outbox_timeout_ms = 60000\n");
    let mut reader = Client::connect(&router, "CONNECT v5 clean id=reader");
    assert!(reader.ask("SUBSCRIBE id=1 flood/#:0").starts_with("SUBACK"));
    let mut publisher = Client::connect(&router, "CONNECT v5 clean id=publisher");
    let count = 40_000;
    flood(&mut publisher, count);
    let (received, dropped, markers) = count_with_markers(&mut reader, &mut publisher);
    assert!(dropped > 0, "nothing was dropped: {received} received");
    let told = received + dropped;
    assert!((count..count + markers).contains(&told), "{received} received and {dropped} told of {count}, {markers} markers");
}

/// A reader beside one that sleeps: what it does not get it is told of, to the last message.
#[test]
fn a_reader_beside_a_sleeper_misses_nothing_untold() {
    let router = Router::start("");
    let mut sleeper = Client::connect(&router, "CONNECT v5 clean id=sleeper");
    assert!(sleeper.ask("SUBSCRIBE id=1 flood/#:0").starts_with("SUBACK"));
    let mut reader = Client::connect(&router, "CONNECT v5 clean id=reader");
    assert!(reader.ask("SUBSCRIBE id=1 flood/#:0").starts_with("SUBACK"));
    let mut publisher = Client::connect(&router, "CONNECT v5 clean id=publisher");
    let count = 10_000;
    let (received, dropped) = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&mut publisher, count));
        let (mut received, mut dropped) = (0, 0);
        // Reads along while the flood lasts.
        while !flooding.is_finished() || received + dropped < count {
            let event = reader.receive();
            dropped += told(&event);
            received += 1;
            if flooding.is_finished() && reader.wire.receive(Instant::now() + Duration::from_millis(200)) == Arrival::Silence {
                break;
            }
        }
        (received, dropped)
    });
    let (more, told, markers) = count_with_markers(&mut reader, &mut publisher);
    let known = received + more + dropped + told;
    assert!((count..count + markers).contains(&known), "{received} received and {dropped} told of {count}");
}

/// QoS 1: the window, then a queue with a bound of its own.
#[test]
fn subscribers_that_never_acknowledge_cost_their_bound() {
    let router = Router::start(
        "limits.max_session_queue_bytes = 500000\nlimits.max_session_queue = 2000\nlimits.max_outbox_bytes = 200000\n",
    );
    let mut mutes: Vec<_> = (0..20).map(|n| Client::connect(&router, &format!("CONNECT v4 id=mute{n}"))).collect();
    for mute in &mut mutes {
        assert!(mute.ask("SUBSCRIBE id=1 flood/x:1").starts_with("SUBACK"));
    }
    let mut publisher = Client::connect(&router, "CONNECT v4 clean id=publisher");
    let baseline_kib = router.rss_kib();
    let publish = format!("PUBLISH flood/x {} q1 id=1", "x".repeat(PAYLOAD_BYTES));
    let publish = packet::encode(&bytes::words(&publish), 4);
    let started = Instant::now();
    for _ in 0..200 {
        assert!(publisher.try_send(&publish.repeat(100)));
        for _ in 0..100 {
            assert_eq!(publisher.receive()[0], "PUBACK");
        }
    }
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    // 20 MB went in; a session may hold half a megabyte and its window.
    let grown_kib = router.rss_kib().saturating_sub(baseline_kib);
    assert!(grown_kib < 40 * 1024, "{grown_kib} KiB more");
    assert_serves(&router);
}

/// A client that asks and asks and does not read the answers is not listened to.
#[test]
fn pings_that_nobody_reads_the_answers_of() {
    let router = Router::start("");
    assert_serves(&router);
    let baseline_kib = router.rss_kib();
    let mut client = Client::connect(&router, "CONNECT v5 clean id=deaf");
    client.wire.set_write_timeout(Duration::from_millis(300));
    let batch = packet::encode(&bytes::words("PINGREQ"), 5).repeat(10_000);
    let sent = (0..3_000).take_while(|_| client.try_send(&batch)).count();
    assert!(sent < 3_000, "60 MB were taken");
    let grown_kib = router.rss_kib().saturating_sub(baseline_kib);
    assert!(grown_kib < 24 * 1024, "{grown_kib} KiB more");
    assert_serves(&router);
}

#[test]
fn a_stop_in_the_middle_of_a_flood_is_a_stop() {
    let router = Router::start("");
    let mut sleeper = Client::connect(&router, "CONNECT v5 clean id=sleeper");
    assert!(sleeper.ask("SUBSCRIBE id=1 flood/x:0").starts_with("SUBACK"));
    let mut publisher = Client::connect(&router, "CONNECT v5 clean id=publisher");
    let batch = packet::encode(&bytes::words("PUBLISH flood/x hello"), 5).repeat(1000);
    for _ in 0..50 {
        assert!(publisher.try_send(&batch));
    }
    router.terminate();
    while publisher.try_send(&batch) {}
    assert!(router.wait(Duration::from_secs(6)).success());
}
