//! Connections to a router that may be killed at any moment: whoever talks to it hears of the end, and goes on later.
use std::net::SocketAddr;
use std::time::Instant;

use super::support::wire::{Arrival, PATIENCE, Wire};
use super::support::{bytes, packet};

/// The router is gone.
#[derive(Debug)]
pub struct Ended;

impl From<std::io::Error> for Ended {
    fn from(_: std::io::Error) -> Self {
        Ended
    }
}

/// Waits for bytes; a router that lives and says nothing is a fault.
fn wait(wire: &mut Wire) -> Result<(), Ended> {
    match wire.receive(Instant::now() + PATIENCE) {
        Arrival::Bytes => Ok(()),
        Arrival::End => Err(Ended),
        Arrival::Silence => panic!("nothing comes"),
    }
}

/// An MQTT client's connection, in lines as the packet sequences have them.
pub struct Mqtt {
    wire: Wire,
    version: u8,
}

impl Mqtt {
    /// Connects; also whether the session was there.
    pub fn open(address: SocketAddr, connect: &str) -> Result<(Self, bool), Ended> {
        let version = packet::version_of(&bytes::words(connect)).unwrap();
        let mut link = Mqtt { wire: Wire::try_tcp(address)?, version };
        let answer = link.ask(connect)?;
        assert!(answer[0] == "CONNACK" && answer.contains(&"rc=00".to_owned()), "{answer:?}");
        Ok((link, answer[1] == "present"))
    }

    pub fn send(&mut self, line: &str) -> Result<(), Ended> {
        Ok(self.wire.send(&packet::encode(&bytes::words(line), self.version))?)
    }

    /// The next packet as words.
    pub fn receive(&mut self) -> Result<Vec<String>, Ended> {
        loop {
            if let Some((words, length)) = packet::decode(&self.wire.arrived, self.version).unwrap() {
                self.wire.arrived.drain(..length);
                return Ok(words);
            }
            wait(&mut self.wire)?;
        }
    }

    pub fn ask(&mut self, line: &str) -> Result<Vec<String>, Ended> {
        self.send(line)?;
        self.receive()
    }
}

/// The packet id of a packet with one.
pub fn id_of(words: &[String]) -> u16 {
    words.iter().find_map(|word| word.strip_prefix("id=")).unwrap_or_else(|| panic!("{words:?}")).parse().unwrap()
}

/// A WAMP session over a WebSocket in JSON.
pub struct Wamp(Wire);

impl Wamp {
    pub fn open(address: SocketAddr) -> Result<Self, Ended> {
        let mut link = Wamp(Wire::try_websocket(address, "/ws", "wamp.2.json")?);
        link.send(r#"[1,"realm1",{"roles":{"caller":{},"publisher":{}}}]"#)?;
        assert_eq!(link.receive()?[0], 2);
        Ok(link)
    }

    pub fn send(&mut self, message: &str) -> Result<(), Ended> {
        Ok(self.0.send_text(message)?)
    }

    pub fn receive(&mut self) -> Result<serde_json::Value, Ended> {
        loop {
            let mut messages = serde_json::Deserializer::from_slice(&self.0.arrived).into_iter();
            if let Some(Ok(message)) = messages.next() {
                let length = messages.byte_offset();
                self.0.arrived.drain(..length);
                return Ok(message);
            }
            wait(&mut self.0)?;
        }
    }
}
