//! A Rust client of the router, with rumqttc over MQTT 5: `cargo run --example client -- [PORT]`.
use std::{env, error::Error, time::Duration};

use rumqttc::v5::mqttbytes::{QoS, v5::PublishProperties};
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).map_or(Ok(1883), |port| port.parse())?;
    let mut options = MqttOptions::new("rumqttc", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut events) = AsyncClient::new(options, 10);
    for topic in ["demo/hello", "$callee/demo/greet/rust", "$reply/#"] {
        client.subscribe(topic, QoS::AtMostOnce).await?;
    }
    client.publish("demo/hello", QoS::AtMostOnce, false, "rust is here").await?;
    let call = PublishProperties { response_topic: Some("$reply/1".into()), ..Default::default() };
    client.publish_with_properties("$call/demo/greet/rust", QoS::AtMostOnce, false, "fox", call).await?;
    loop {
        let Event::Incoming(Incoming::Publish(message)) = events.poll().await? else { continue };
        let (topic, text) = (str::from_utf8(&message.topic)?, str::from_utf8(&message.payload)?);
        match message.properties.and_then(|properties| properties.response_topic) {
            Some(answer_to) => client.publish(answer_to, QoS::AtMostOnce, false, format!("Hello, {text}!")).await?,
            None => println!("{topic} {text}"),
        }
    }
}
