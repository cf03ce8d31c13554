//! The demo's device, a thermometer and a heat lamp that speak MQTT 5.
//!
//! Its actions in MQTT's words, and the same for a WAMP client:
//! - publishes `demo/den/temperature` every second (events of `demo.den.temperature`);
//! - keeps the retained `demo/lamp/state`, and `demo/device/online`, which its will sets to `false`;
//! - subscribes to `$callee/demo/lamp/set`: that serves the procedure `demo.lamp.set`;
//! - publishes to `$call/demo/page/greet`: that calls the procedure `demo.page.greet`;
//! - publishes and subscribes to `demo/chat`, as the page does.
#![allow(clippy::indexing_slicing)] // of JSON values only, where what is not there is null
use std::error::Error;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, LastWill, Packet, Publish, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The setting of the lamp, retained at `demo/lamp/state`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Lamp {
    on: bool,
    /// Per cent.
    brightness: u32,
}

/// The argument of `demo.lamp.set`: what is left out stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    on: Option<bool>,
    brightness: Option<u32>,
}

/// The state that is simulated.
struct Den {
    lamp: Lamp,
    celsius: f64,
    seconds: u32,
    is_connected: bool,
}

impl Den {
    /// One second later: slowly towards what the lamp makes of it, with a draught from the entrance.
    fn tick(&mut self) -> f64 {
        self.seconds += 1;
        let warmth = if self.lamp.on { f64::from(self.lamp.brightness) * 0.12 } else { 0.0 };
        let draught = (f64::from(self.seconds) / 7.0).sin() * 0.4;
        self.celsius += (16.0 + warmth + draught - self.celsius) * 0.06;
        (self.celsius * 10.0).round() / 10.0
    }

    fn set(&mut self, change: &Change) -> Result<Lamp, String> {
        if change.brightness.is_some_and(|brightness| brightness > 100) {
            return Err("brightness is per cent: 0 to 100".to_owned());
        }
        self.lamp.on = change.on.unwrap_or(self.lamp.on);
        self.lamp.brightness = change.brightness.unwrap_or(self.lamp.brightness);
        Ok(self.lamp)
    }
}

/// A device and its connection.
struct Device {
    client: AsyncClient,
    den: Mutex<Den>,
}

/// Runs the device for ever, with a user name and password if need be. The device connects again when the connection is lost, and
/// publishes a reading every `tick`.
pub async fn serve(user: Option<(String, String)>, host: &str, port: u16, tick: Duration) {
    let mut options = MqttOptions::new(format!("den-{}", std::process::id()), host, port);
    if let Some((name, password)) = user {
        options.set_credentials(name, password);
    }
    options.set_keep_alive(Duration::from_secs(10));
    options.set_last_will(LastWill::new("demo/device/online", "false", QoS::AtLeastOnce, true, None));
    let (client, mut connection) = AsyncClient::new(options, 100);
    let den = Den { lamp: Lamp { on: true, brightness: 60 }, celsius: 18.0, seconds: 0, is_connected: false };
    let device = Arc::new(Device { client, den: Mutex::new(den) });
    tokio::spawn(measure(device.clone(), tick));
    loop {
        let handled = match connection.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                say(format_args!("connected to {host}:{port}"));
                device.start()
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => device.handle(&publish),
            Ok(_) => Ok(()),
            Err(error) => {
                device.lock().is_connected = false;
                say(format_args!("not connected: {error}; is the router running? start it with `corsac`"));
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(())
            }
        };
        if let Err(error) = handled {
            say(format_args!("too much at once: {error}"));
        }
    }
}

/// Publishes a reading every `tick`, and calls the page every tenth time.
async fn measure(device: Arc<Device>, tick: Duration) {
    let mut ticks = tokio::time::interval(tick);
    loop {
        ticks.tick().await;
        let (celsius, seconds, is_connected) = {
            let mut den = device.lock();
            (den.tick(), den.seconds, den.is_connected)
        };
        if is_connected {
            let reading = json!({ "celsius": celsius }).to_string();
            let sent = device.client.publish("demo/den/temperature", QoS::AtMostOnce, false, reading).await;
            if sent.is_err() || (seconds % 10 == 0 && device.call_page().is_err()) {
                return; // the connection is driven no longer
            }
        }
    }
}

// Requests are only queued here (`try_…`), since the loop that sends them is the one that calls.
impl Device {
    fn lock(&self) -> MutexGuard<'_, Den> {
        self.den.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says hello after each connect: the router keeps nothing of the session before.
    fn start(&self) -> Result<(), Box<dyn Error>> {
        let mut chat = Filter::new("demo/chat", QoS::AtLeastOnce);
        chat.nolocal = true; // what we say ourselves need not come back
        let others = ["$callee/demo/lamp/set", "$reply/#"].map(|filter| Filter::new(filter, QoS::AtLeastOnce));
        self.client.try_subscribe_many(others.into_iter().chain([chat]))?;
        self.client.try_publish("demo/device/online", QoS::AtLeastOnce, true, "true")?;
        let lamp = {
            let mut den = self.lock();
            den.is_connected = true;
            den.lamp
        };
        self.publish_lamp(lamp)
    }

    fn publish_lamp(&self, lamp: Lamp) -> Result<(), Box<dyn Error>> {
        Ok(self.client.try_publish("demo/lamp/state", QoS::AtLeastOnce, true, json!(lamp).to_string())?)
    }

    /// A message: a call of our procedure, the answer to ours, or talk.
    fn handle(&self, publish: &Publish) -> Result<(), Box<dyn Error>> {
        match publish.topic.as_ref() {
            b"$callee/demo/lamp/set" => self.set_lamp(publish),
            b"$reply/greet" => {
                let error = user_property(publish, "corsac-error");
                say(format_args!(
                    "demo.page.greet: {}",
                    error.map_or_else(|| text(publish), |uri| format!("nobody answers ({uri})"))
                ));
                Ok(())
            }
            b"demo/chat" => self.answer_chat(publish),
            _ => Ok(()),
        }
    }

    /// Serves `demo.lamp.set`: the answer goes to the response topic of the invocation.
    fn set_lamp(&self, invocation: &Publish) -> Result<(), Box<dyn Error>> {
        let Some(properties) = &invocation.properties else { return Ok(()) };
        let Some(response_topic) = &properties.response_topic else { return Ok(()) };
        let change = serde_json::from_slice(&invocation.payload).map_err(|error| error.to_string());
        let outcome = change.and_then(|change: Change| self.lock().set(&change));
        say(format_args!("demo.lamp.set({}): {outcome:?}", text(invocation)));
        let (answer, user_properties) = match &outcome {
            Ok(lamp) => (json!(lamp), vec![]),
            Err(why) => (json!(why), vec![property("corsac-status", "error"), property("corsac-error", "demo.error.bad_lamp")]),
        };
        let properties = PublishProperties {
            correlation_data: properties.correlation_data.clone(),
            user_properties,
            ..PublishProperties::default()
        };
        let answer = answer.to_string();
        self.client.try_publish_with_properties(response_topic, QoS::AtLeastOnce, false, answer, properties)?;
        match outcome {
            Ok(lamp) => self.publish_lamp(lamp),
            Err(_) => Ok(()),
        }
    }

    /// Calls `demo.page.greet`, served by every open page.
    fn call_page(&self) -> Result<(), Box<dyn Error>> {
        let properties = PublishProperties {
            response_topic: Some("$reply/greet".to_owned()),
            user_properties: vec![property("corsac-timeout-ms", "2000")],
            ..PublishProperties::default()
        };
        let name = json!("den").to_string();
        Ok(self.client.try_publish_with_properties("$call/demo/page/greet", QoS::AtLeastOnce, false, name, properties)?)
    }

    /// Answers what others say.
    fn answer_chat(&self, publish: &Publish) -> Result<(), Box<dyn Error>> {
        say(format_args!("demo/chat: {}", text(publish)));
        let message: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap_or_default();
        if message["from"] == "device" {
            return Ok(()); // another device; it would answer us for ever
        }
        let (celsius, lamp) = {
            let den = self.lock();
            (den.celsius, den.lamp)
        };
        let state = if lamp.on { format!("on at {} %", lamp.brightness) } else { "off".to_owned() };
        let answer = json!({ "from": "device", "text": format!("It is {celsius:.1} °C in here, and the lamp is {state}.") });
        Ok(self.client.try_publish("demo/chat", QoS::AtLeastOnce, false, answer.to_string())?)
    }
}

/// Prints a line; nobody has to read it.
fn say(line: std::fmt::Arguments<'_>) {
    writeln!(std::io::stdout().lock(), "{line}").ok();
}

fn text(publish: &Publish) -> String {
    String::from_utf8_lossy(&publish.payload).into_owned()
}

fn property(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn user_property<'a>(publish: &'a Publish, name: &str) -> Option<&'a str> {
    let properties = publish.properties.as_ref()?;
    properties.user_properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
