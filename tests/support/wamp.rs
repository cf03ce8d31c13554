//! A WAMP client over a WebSocket in JSON; what the router owes and does not send is a fault.
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::router::Router;
use super::wire::{Ended, Wire};

/// A session. Methods that begin with `try_` also hear that the router has gone.
pub struct Wamp {
    pub wire: Wire,
    requests: u64,
    /// The answer to HELLO.
    pub welcome: Value,
}

impl Wamp {
    pub fn try_open(address: SocketAddr) -> Result<Self, Ended> {
        let wire = Wire::try_websocket(address, "/ws", "wamp.2.json")?;
        let mut client = Wamp { wire, requests: 0, welcome: Value::Null };
        let hello = json!([1, "realm1", {"roles": {"caller": {}, "publisher": {}, "subscriber": {}}}]);
        client.try_send(&hello)?;
        client.welcome = client.try_receive()?;
        // A router that stops lets nobody in.
        if client.welcome[0] == 3 && client.welcome[2] == "wamp.close.system_shutdown" {
            return Err(Ended);
        }
        assert_eq!(client.welcome[0], 2, "{}", client.welcome);
        Ok(client)
    }

    pub fn open(router: &Router) -> Self {
        Wamp::try_open(router.http).unwrap()
    }

    pub fn try_send(&mut self, message: &Value) -> Result<(), Ended> {
        Ok(self.wire.send_text(&message.to_string())?)
    }

    pub fn try_receive(&mut self) -> Result<Value, Ended> {
        loop {
            let mut messages = serde_json::Deserializer::from_slice(&self.wire.arrived).into_iter();
            if let Some(Ok(message)) = messages.next() {
                let length = messages.byte_offset();
                self.wire.arrived.drain(..length);
                return Ok(message);
            }
            self.wire.wait()?;
        }
    }

    pub fn receive(&mut self) -> Value {
        self.try_receive().unwrap()
    }

    /// Sends a request with these elements behind its id, which it returns.
    pub fn try_request(&mut self, code: u64, rest: Value) -> Result<u64, Ended> {
        self.requests += 1;
        let mut message = vec![code.into(), self.requests.into()];
        message.extend(rest.as_array().unwrap().iter().cloned());
        self.try_send(&Value::from(message))?;
        Ok(self.requests)
    }

    pub fn request(&mut self, code: u64, rest: Value) -> u64 {
        self.try_request(code, rest).unwrap()
    }

    pub fn ask(&mut self, code: u64, rest: Value) -> Value {
        self.request(code, rest);
        self.receive()
    }

    /// Publishes; the event's id.
    pub fn publish(&mut self, topic: &str, args: Value, kwargs: Value) -> u64 {
        let answer = self.ask(16, json!([{"acknowledge": true}, topic, args, kwargs]));
        assert_eq!(answer[0], 17, "{answer}");
        answer[2].as_u64().unwrap()
    }

    /// Subscribes; its id.
    pub fn subscribe(&mut self, options: Value, topic: &str) -> u64 {
        let answer = self.ask(32, json!([options, topic]));
        assert_eq!(answer[0], 33, "{answer}");
        answer[2].as_u64().unwrap()
    }

    /// Calls; args and kwargs of the result.
    pub fn call(&mut self, procedure: &str, args: Value, kwargs: Value) -> (Value, Value) {
        let answer = self.ask(48, json!([{}, procedure, args, kwargs]));
        assert_eq!(answer[0], 50, "{answer}");
        (answer[3].clone(), answer[4].clone())
    }

    /// The next message must be an event; its first argument.
    pub fn event(&mut self) -> Value {
        let event = self.receive();
        assert_eq!(event[0], 36, "{event}");
        event[4][0].clone()
    }
}
