//! An MQTT client in lines of text; what the router owes and does not send is a fault.
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Instant;

use serde_json::Value;

use super::router::Router;
use super::wire::{Arrival, Ended, PATIENCE, Wire};
use super::{bytes, packet};

/// A packet as words: compares with a line, and with words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Words(pub Vec<String>);

impl Deref for Words {
    type Target = Vec<String>;

    fn deref(&self) -> &Vec<String> {
        &self.0
    }
}

impl Words {
    /// Whether the line begins so.
    pub fn starts_with(&self, line: &str) -> bool {
        self.join(" ").starts_with(line)
    }

    /// The text behind the first of these names: `id=`, `user=corsac-token:`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.iter().find_map(|word| word.strip_prefix(name))
    }

    /// The packet id of a packet with one.
    pub fn id(&self) -> u16 {
        self.field("id=").unwrap_or_else(|| panic!("{self:?}")).parse().unwrap()
    }
}

impl PartialEq<&str> for Words {
    fn eq(&self, line: &&str) -> bool {
        self.join(" ") == **line
    }
}

impl PartialEq<String> for Words {
    fn eq(&self, line: &String) -> bool {
        self.join(" ") == *line
    }
}

impl<const N: usize> PartialEq<[&str; N]> for Words {
    fn eq(&self, words: &[&str; N]) -> bool {
        self.0 == *words
    }
}

/// A client's connection. Methods that begin with `try_` also hear that the router has gone.
pub struct Mqtt {
    pub wire: Wire,
    version: u8,
}

impl Mqtt {
    /// Connects with this packet; also whether the session was there.
    pub fn try_connect(address: SocketAddr, connect: &str) -> Result<(Self, bool), Ended> {
        let version = packet::version_of(&bytes::words(connect)).unwrap();
        let mut client = Mqtt { wire: Wire::try_tcp(address)?, version };
        let answer = client.try_ask(connect)?;
        // Server unavailable: a router that stops lets nobody in.
        if answer[0] == "CONNACK" && answer.contains(&if version == 5 { "rc=88" } else { "rc=03" }.to_owned()) {
            return Err(Ended);
        }
        assert!(answer[0] == "CONNACK" && answer.contains(&"rc=00".to_owned()), "{answer:?}");
        Ok((client, answer[1] == "present"))
    }

    /// A clean session of MQTT 5.
    pub fn open(router: &Router, id: &str) -> Self {
        Mqtt::connect(router, &format!("id={id}"))
    }

    /// The same with further fields of CONNECT.
    pub fn connect(router: &Router, options: &str) -> Self {
        Mqtt::try_connect(router.mqtt, &format!("CONNECT v5 clean {options}")).unwrap().0
    }

    /// A session of MQTT 5 that stays; also whether it was there.
    pub fn resume(router: &Router, id: &str) -> (Self, bool) {
        Mqtt::try_connect(router.mqtt, &format!("CONNECT v5 id={id} session_expiry=1000")).unwrap()
    }

    pub fn try_send(&mut self, line: &str) -> Result<(), Ended> {
        Ok(self.wire.send(&packet::encode(&bytes::words(line), self.version))?)
    }

    pub fn try_receive(&mut self) -> Result<Words, Ended> {
        loop {
            if let Some((words, length)) = packet::decode(&self.wire.arrived, self.version).unwrap() {
                self.wire.arrived.drain(..length);
                return Ok(Words(words));
            }
            self.wire.wait()?;
        }
    }

    pub fn try_ask(&mut self, line: &str) -> Result<Words, Ended> {
        self.try_send(line)?;
        self.try_receive()
    }

    pub fn send(&mut self, line: &str) {
        self.try_send(line).unwrap();
    }

    pub fn receive(&mut self) -> Words {
        self.try_receive().unwrap()
    }

    pub fn ask(&mut self, line: &str) -> Words {
        self.try_ask(line).unwrap()
    }

    /// Nothing came before the answer to this.
    pub fn assert_nothing(&mut self) {
        assert_eq!(self.ask("PINGREQ"), "PINGRESP");
    }

    /// Topic and payload of the next message.
    pub fn message(&mut self) -> (String, String) {
        let words = self.receive();
        assert_eq!(words[0], "PUBLISH", "{words:?}");
        let text = |word: &str| word.trim_matches('\'').to_owned();
        let payload = words.get(2).filter(|word| word.starts_with('\'')).map_or(String::new(), |word| text(word));
        (text(&words[1]), payload)
    }

    /// Calls; the result, and the URI if it is an error.
    pub fn call(&mut self, procedure: &str, arguments: &Value) -> (Value, Option<String>) {
        self.send("SUBSCRIBE id=9 $reply/#:0");
        assert_eq!(self.receive()[0], "SUBACK");
        self.send(&format!("PUBLISH $call/{procedure} '{arguments}' response_topic=$reply/a"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The answer's payload as it is: the lines of text quote it.
            if let Some(answer) = self.answer() {
                return answer;
            }
            assert!(matches!(self.wire.receive(deadline), Arrival::Bytes), "nothing comes");
        }
    }

    fn answer(&mut self) -> Option<(Value, Option<String>)> {
        let (words, length) = packet::decode(&self.wire.arrived, self.version).unwrap()?;
        let packet: Vec<u8> = self.wire.arrived.drain(..length).collect();
        let error =
            words.iter().find_map(|word| word.strip_prefix("user=corsac-error:")).map(|uri| uri.trim_matches('\'').to_owned());
        let start = packet.iter().position(|byte| matches!(byte, b'{' | b'['));
        let body = start.map_or(Value::Null, |start| serde_json::from_slice(&packet[start..]).unwrap());
        Some((body, error))
    }
}
