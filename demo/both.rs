//! Two clients in one program, a WAMP one and an MQTT one, share a topic and a procedure each way.
//! `cargo run --example both [HTTP_HOST:PORT MQTT_HOST:PORT]`
#![allow(clippy::indexing_slicing)] // of JSON values only, where what is not there is null
use std::error::Error;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, client_async};

/// The exchanges of both clients, one line for each. The router listens at these HOST:PORTs.
pub async fn exchange(http: &str, mqtt: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let mut lines = Vec::new();
    let mut wamp = Wamp::join(http, "realm1").await?;
    let mut mqtt = Mqtt::connect(mqtt).await?;

    // One topic: WAMP calls it demo.both.topic, MQTT demo/both/topic. Both hear what either publishes.
    let subscription = wamp.request(32, json!({}), "demo.both.topic", None).await?;
    mqtt.subscribe("demo/both/topic").await?;
    mqtt.client.publish("demo/both/topic", QoS::AtLeastOnce, false, json!({ "celsius": 21.5 }).to_string()).await?;
    let event = wamp.next(36).await?; // [EVENT, subscription, publication, details, args]
    assert_eq!(event[1], subscription[2]);
    lines.push(format!("WAMP heard {}", event[4]));
    mqtt.next("demo/both/topic").await?; // its own
    wamp.request(16, json!({ "acknowledge": true }), "demo.both.topic", Some(json!([{ "on": true }]))).await?;
    lines.push(format!("MQTT heard {}", text(&mqtt.next("demo/both/topic").await?)));

    // A procedure that the MQTT client serves and the WAMP client calls.
    mqtt.subscribe("$callee/demo/both/double").await?;
    let call = wamp.next_request();
    wamp.send(json!([48, call, {}, "demo.both.double", [21]])).await?;
    let invocation = mqtt.next("$callee/demo/both/double").await?;
    let number: i64 = text(&invocation).parse()?;
    mqtt.answer(&invocation, &(number * 2).to_string()).await?;
    let result = wamp.next(50).await?; // [RESULT, request, details, args]
    lines.push(format!("WAMP called MQTT's double(21): {}", result[3][0]));

    // A procedure that the WAMP client serves and the MQTT client calls.
    wamp.request(64, json!({}), "demo.both.upper", None).await?;
    mqtt.subscribe("$reply/#").await?;
    mqtt.call("demo/both/upper", "\"corsac\"").await?;
    let invocation = wamp.next(68).await?; // [INVOCATION, invocation, registration, details, args]
    let upper = invocation[4][0].as_str().unwrap_or_default().to_uppercase();
    wamp.send(json!([70, invocation[1], {}, [upper]])).await?;
    lines.push(format!("MQTT called WAMP's upper(\"corsac\"): {}", text(&mqtt.next("$reply/both").await?)));
    Ok(lines)
}

/// A WAMP session over WebSocket, in JSON.
pub struct Wamp {
    socket: WebSocketStream<TcpStream>,
    requests: u64,
}

impl Wamp {
    /// Joins `realm` at the router's HOST:PORT.
    pub async fn join(address: &str, realm: &str) -> Result<Self, Box<dyn Error>> {
        let mut request = format!("ws://{address}/ws").into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("wamp.2.json"));
        let (socket, _) = client_async(request, TcpStream::connect(address).await?).await?;
        let mut session = Wamp { socket, requests: 0 };
        let roles = json!({ "publisher": {}, "subscriber": {}, "caller": {}, "callee": {} });
        session.send(json!([1, realm, { "roles": roles }])).await?;
        session.next(2).await?; // WELCOME
        Ok(session)
    }

    /// The id for a request: 1, 2, 3, …
    pub fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Sends a message.
    pub async fn send(&mut self, message: Value) -> Result<(), Box<dyn Error>> {
        Ok(self.socket.send(Message::text(message.to_string())).await?)
    }

    /// PUBLISH (16), SUBSCRIBE (32) or REGISTER (64), and its answer, whose code is one more.
    pub async fn request(&mut self, code: u64, options: Value, name: &str, args: Option<Value>) -> Result<Value, Box<dyn Error>> {
        let mut message = vec![json!(code), json!(self.next_request()), options, json!(name)];
        message.extend(args);
        self.send(Value::Array(message)).await?;
        self.next(code + 1).await
    }

    /// The next message of this code; others are passed over.
    pub async fn next(&mut self, code: u64) -> Result<Value, Box<dyn Error>> {
        while let Some(frame) = self.socket.next().await {
            let Message::Text(text) = frame? else { continue };
            let message: Value = serde_json::from_str(&text)?;
            match message[0].as_u64() {
                Some(got) if got == code => return Ok(message),
                Some(3 | 6 | 8) => return Err(format!("the router refused: {message}").into()), // ABORT, GOODBYE, ERROR
                _ => {}
            }
        }
        Err("the router closed the connection".into())
    }
}

/// An MQTT 5 connection.
struct Mqtt {
    client: AsyncClient,
    packets: mpsc::Receiver<Packet>,
}

impl Mqtt {
    async fn connect(address: &str) -> Result<Self, Box<dyn Error>> {
        let (host, port) = address.rsplit_once(':').ok_or("not HOST:PORT")?;
        let options = MqttOptions::new(format!("both-{}", std::process::id()), host, port.parse()?);
        let (client, mut connection) = AsyncClient::new(options, 16);
        let (tx, packets) = mpsc::channel(16);
        tokio::spawn(async move {
            // Ends with the connection, or when nobody wants its packets.
            while let Ok(event) = connection.poll().await {
                if let Event::Incoming(packet) = event
                    && tx.send(packet).await.is_err()
                {
                    break;
                }
            }
        });
        Ok(Mqtt { client, packets })
    }

    /// Subscribes and waits until it is granted.
    async fn subscribe(&mut self, filter: &str) -> Result<(), Box<dyn Error>> {
        self.client.subscribe(filter, QoS::AtLeastOnce).await?;
        while let Some(packet) = self.packets.recv().await {
            if matches!(packet, Packet::SubAck(_)) {
                return Ok(());
            }
        }
        Err("the MQTT connection was lost".into())
    }

    /// The next message at this topic; others are passed over.
    async fn next(&mut self, topic: &str) -> Result<Publish, Box<dyn Error>> {
        while let Some(packet) = self.packets.recv().await {
            match packet {
                Packet::Publish(publish) if publish.topic == topic.as_bytes() => return Ok(publish),
                _ => {}
            }
        }
        Err("the MQTT connection was lost".into())
    }

    /// Answers an invocation: to its response topic, with its correlation data.
    async fn answer(&self, invocation: &Publish, payload: &str) -> Result<(), Box<dyn Error>> {
        let asked = invocation.properties.clone().unwrap_or_default();
        let topic = asked.response_topic.ok_or("no response topic")?;
        let properties = PublishProperties { correlation_data: asked.correlation_data, ..PublishProperties::default() };
        Ok(self.client.publish_with_properties(topic, QoS::AtLeastOnce, false, payload.to_owned(), properties).await?)
    }

    /// Calls a procedure; the answer comes at `$reply/both`.
    async fn call(&self, procedure: &str, payload: &str) -> Result<(), Box<dyn Error>> {
        let properties = PublishProperties { response_topic: Some("$reply/both".to_owned()), ..PublishProperties::default() };
        let topic = format!("$call/{procedure}");
        Ok(self.client.publish_with_properties(topic, QoS::AtLeastOnce, false, payload.to_owned(), properties).await?)
    }
}

fn text(publish: &Publish) -> String {
    String::from_utf8_lossy(&publish.payload).into_owned()
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code)] // the test of the demo calls `exchange`
async fn main() -> Result<(), Box<dyn Error>> {
    let mut addresses = std::env::args().skip(1);
    let http = addresses.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let mqtt = addresses.next().unwrap_or_else(|| "127.0.0.1:1883".to_owned());
    let lines = tokio::time::timeout(Duration::from_secs(10), exchange(&http, &mqtt)).await.map_err(|_| "no answer in 10 s")?;
    for line in lines.map_err(|error| format!("{error}; is the router running? start it with `corsac`"))? {
        println!("{line}");
    }
    Ok(())
}
