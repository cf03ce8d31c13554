//! A subscriber that ends its session after some messages and begins another under the same name.
use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::random::Random;
use super::support::mqtt::{Mqtt, Words};
use super::support::wire::{Ended, PATIENCE};

pub struct Mortal {
    pub name: String,
    random: Random,
    /// Of each session, the texts that came with QoS 2, each once.
    pub lives: Vec<Vec<String>>,
    /// Messages of the session that is there.
    length: usize,
    /// CONNACK has told of the session that is there, and nothing was done to end it.
    is_there: bool,
    /// SUBACK has come.
    is_subscribed: bool,
    /// Ids between PUBLISH and PUBREL, and the texts that came under them.
    open: BTreeMap<u16, String>,
}

impl Mortal {
    pub fn new(name: &str, seed: u64) -> Self {
        Mortal {
            name: name.to_owned(),
            random: Random(seed),
            lives: Vec::new(),
            length: 0,
            is_there: false,
            is_subscribed: false,
            open: BTreeMap::new(),
        }
    }

    /// Lives until the router is gone.
    pub fn run(&mut self, address: SocketAddr, filter: &str) -> Ended {
        let mut still_there = Vec::new();
        loop {
            match self.live(address, filter) {
                // Now and then the connection is still there when the next one comes.
                Ok(link) => still_there.extend(Some(link).filter(|_| self.random.chance(300))),
                Err(ended) => return ended,
            }
            if still_there.len() > 1 {
                still_there.remove(0);
            }
        }
    }

    /// One session, or what is left of it.
    fn live(&mut self, address: SocketAddr, filter: &str) -> Result<Mqtt, Ended> {
        let clean = if self.is_there { "" } else { " clean" };
        let connect = format!("CONNECT v5{clean} id={} session_expiry=1000", self.name);
        let (mut link, is_present) = Mqtt::try_connect(address, &connect)?;
        assert_eq!(is_present, self.is_there, "{}: the session is lost, or is another", self.name);
        if !is_present {
            self.lives.push(Vec::new());
            self.open.clear();
            (self.is_there, self.is_subscribed) = (true, false);
            self.length = 1 + self.random.below(40);
        }
        if !self.is_subscribed {
            link.try_send(&format!("SUBSCRIBE id=1 {filter}:2"))?;
        }
        while self.lives.last().is_none_or(|life| life.len() < self.length) {
            let words = link.try_receive()?;
            match words[0].as_str() {
                "SUBACK" => self.is_subscribed = true,
                "PUBLISH" => self.handle_publish(&mut link, &words)?,
                "PUBREL" => {
                    self.open.remove(&words.id());
                    link.try_send(&format!("PUBCOMP id={}", words.id()))?;
                }
                "DISCONNECT" => return Err(Ended),
                other => panic!("{}: {other} out of turn: {words:?}", self.name),
            }
        }
        self.is_there = false;
        if self.random.chance(500) {
            link.try_send("DISCONNECT session_expiry=0")?;
            link.wire.await_end(PATIENCE);
        }
        Ok(link)
    }

    fn handle_publish(&mut self, link: &mut Mqtt, words: &Words) -> Result<(), Ended> {
        let packet_id = words.id();
        let text = words[2].trim_matches(['\'', '"']).to_owned();
        if words[3] == "q1" {
            return link.try_send(&format!("PUBACK id={packet_id}"));
        }
        match self.open.get(&packet_id) {
            // [MQTT-4.3.3-10]: the same again.
            Some(known) => {
                let is_same = *known == text && words.contains(&"dup".to_owned());
                assert!(is_same, "{}: {packet_id} is in use for {known}: {words:?}", self.name);
            }
            None => {
                self.open.insert(packet_id, text.clone());
                self.lives.last_mut().unwrap().push(text);
            }
        }
        link.try_send(&format!("PUBREC id={packet_id}"))
    }
}
