//! A relay of rumqttc clients between Corsac and another broker, rumqttd, which runs inside this test.
#![allow(clippy::expect_used, clippy::panic)]
mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, Router};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use rumqttd::local::{LinkRx, LinkTx};
use rumqttd::{Broker, Config, Notification, RouterConfig};

fn other_broker() -> Broker {
    let router = RouterConfig {
        max_connections: 16,
        max_outgoing_packet_count: 200,
        max_segment_size: 1024 * 1024,
        max_segment_count: 10,
        ..RouterConfig::default()
    };
    Broker::new(Config { router, ..Config::default() })
}

fn client(router: &Router, name: &str) -> (AsyncClient, EventLoop) {
    let (host, port) = router.mqtt.rsplit_once(':').expect("HOST:PORT");
    let mut options = MqttOptions::new(name, host, port.parse().expect("a port"));
    options.set_keep_alive(Duration::from_secs(5));
    AsyncClient::new(options, 64)
}

async fn subscribed(client: &AsyncClient, events: &mut EventLoop, filter: &str) {
    client.subscribe(filter, QoS::AtLeastOnce).await.expect("a running event loop");
    loop {
        let event = tokio::time::timeout(PATIENCE, events.poll()).await.expect("in time").expect("connected");
        if matches!(event, Event::Incoming(Packet::SubAck(_))) {
            return;
        }
    }
}

/// Carries what rumqttd says under `south/` to Corsac.
fn carry_south(mut link: LinkRx, corsac: AsyncClient) {
    while let Ok(notification) = link.recv() {
        let Some(Notification::Forward(forward)) = notification else { continue };
        let topic = String::from_utf8(forward.publish.topic.to_vec()).expect("a topic");
        if corsac.try_publish(topic, QoS::AtLeastOnce, false, forward.publish.payload).is_err() {
            return;
        }
    }
}

/// Carries what Corsac says under `north/` to rumqttd.
async fn carry_north(mut events: EventLoop, mut link: LinkTx) {
    while let Ok(event) = events.poll().await {
        if let Event::Incoming(Packet::Publish(publish)) = event {
            link.publish(publish.topic, publish.payload).expect("rumqttd runs");
        }
    }
}

/// The next `count` messages on a link of rumqttd.
fn heard(link: &mut LinkRx, count: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut heard = Vec::new();
    while heard.len() < count {
        match link.recv_deadline(deadline).expect("in time") {
            Some(Notification::Forward(forward)) => heard.push(String::from_utf8_lossy(&forward.publish.payload).into_owned()),
            _ => continue,
        }
    }
    heard
}

#[tokio::test]
async fn messages_cross_between_two_brokers_in_order() {
    let router = Router::start();
    let broker = other_broker();
    let (relay, mut relay_events) = client(&router, "relay");
    subscribed(&relay, &mut relay_events, "north/#").await;
    let (mut relay_tx, relay_rx) = broker.link("relay").expect("a link");
    relay_tx.subscribe("south/#").expect("rumqttd runs");
    let (mut far_tx, mut far_rx) = broker.link("far").expect("a link");
    far_tx.subscribe("north/#").expect("rumqttd runs");
    std::thread::spawn(move || carry_south(relay_rx, relay));
    tokio::spawn(carry_north(relay_events, relay_tx));

    let (near, mut near_events) = client(&router, "near");
    subscribed(&near, &mut near_events, "south/+").await;
    let sent: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    for text in &sent {
        near.publish("north/a", QoS::AtLeastOnce, false, text.as_str()).await.expect("a running event loop");
        far_tx.publish("south/b", text.clone()).expect("rumqttd runs");
    }
    let mut arrived = Vec::new();
    while arrived.len() < sent.len() {
        let event = tokio::time::timeout(PATIENCE, near_events.poll()).await.expect("in time").expect("connected");
        if let Event::Incoming(Packet::Publish(publish)) = event {
            assert_eq!(publish.topic, "south/b");
            arrived.push(String::from_utf8_lossy(&publish.payload).into_owned());
        }
    }
    assert_eq!(arrived, sent);
    // The relay's event loop and this one run on the same thread: leave it to them while the far side is waited for.
    let far = tokio::task::spawn_blocking(move || heard(&mut far_rx, 50));
    let poll = async { while near_events.poll().await.is_ok() {} };
    let far = tokio::select! {
        far = far => far.expect("no panic"),
        () = poll => panic!("the connection was lost"),
    };
    assert_eq!(far, sent);
}
