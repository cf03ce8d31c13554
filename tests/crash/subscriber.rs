//! Subscribers whose sessions outlive every crash: each acknowledges what it has written down.
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use super::support::mqtt::{Mqtt, Words};
use super::support::wire::Ended;

pub struct Subscriber {
    pub name: String,
    /// Granted.
    qos: u8,
    /// Texts as they came, with the QoS of each.
    pub arrivals: Vec<(String, u8)>,
    pub distinct: HashSet<String>,
    /// QoS 2: ids between PUBLISH and PUBREL, and what came under them.
    open: BTreeMap<u16, String>,
}

impl Subscriber {
    pub fn new(name: &str, qos: u8) -> Self {
        let name = name.to_owned();
        Subscriber { name, qos, arrivals: Vec::new(), distinct: HashSet::new(), open: BTreeMap::new() }
    }

    fn connect(&self, address: SocketAddr) -> Result<(Mqtt, bool), Ended> {
        Mqtt::try_connect(address, &format!("CONNECT v5 id={} session_expiry=1000", self.name))
    }

    pub fn subscribe(&self, address: SocketAddr, filter: &str) {
        let (mut link, _) = self.connect(address).unwrap();
        let answer = link.ask(&format!("SUBSCRIBE id=1 {filter}:{}", self.qos));
        assert_eq!(answer, format!("SUBACK id=1 0{}", self.qos));
    }

    /// Takes what comes until the router is gone, or until so many different texts are there and nothing more comes.
    pub fn run(&mut self, address: SocketAddr, enough: Option<usize>) -> Result<(), Ended> {
        let (mut link, is_present) = self.connect(address)?;
        assert!(is_present, "{}: the session is lost", self.name);
        let mut is_asked = false;
        loop {
            if !is_asked && enough.is_some_and(|enough| self.distinct.len() >= enough) {
                is_asked = true;
                link.try_send("PINGREQ")?;
            }
            let words = link.try_receive()?;
            match words[0].as_str() {
                "PUBLISH" => self.handle_publish(&mut link, &words)?,
                "PUBREL" => {
                    self.open.remove(&words.id());
                    link.try_send(&format!("PUBCOMP id={}", words.id()))?;
                }
                "PINGRESP" => return Ok(()),
                "DISCONNECT" => return Err(Ended),
                other => panic!("{}: {other} out of turn: {words:?}", self.name),
            }
        }
    }

    fn handle_publish(&mut self, link: &mut Mqtt, words: &Words) -> Result<(), Ended> {
        let packet_id = words.id();
        // A text of WAMP is JSON.
        let text = words[2].trim_matches(['\'', '"']).to_owned();
        if words[3] == "q2" {
            match self.open.get(&packet_id) {
                // [MQTT-4.3.3-10]: the same again.
                Some(known) => {
                    let is_same = *known == text && words.contains(&"dup".to_owned());
                    assert!(is_same, "{}: {packet_id} is in use for {known}: {words:?}", self.name);
                    return link.try_send(&format!("PUBREC id={packet_id}"));
                }
                None => drop(self.open.insert(packet_id, text.clone())),
            }
        }
        let (qos, answer) = if words[3] == "q2" { (2, "PUBREC") } else { (1, "PUBACK") };
        self.distinct.insert(text.clone());
        self.arrivals.push((text, qos));
        link.try_send(&format!("{answer} id={packet_id}"))
    }
}
