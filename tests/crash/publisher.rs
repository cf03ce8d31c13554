//! Publishers that never give up: what was not acknowledged before a crash is published again after it.
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use serde_json::json;

use super::random::Random;
use super::support::mqtt::{Mqtt, Words};
use super::support::wamp::Wamp;
use super::support::wire::{Ended, PATIENCE};

/// The router stops.
const GOODBYE: u64 = 6;

/// The protocol of a publisher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// PUBLISH with `acknowledge`.
    Wamp,
    /// The same with a key that makes a repetition recognizable.
    Keyed,
    /// This version of MQTT, with this QoS.
    Mqtt { version: u8, qos: u8 },
}

/// One publication of a publisher, by its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// As WAMP has it.
    pub topic: String,
    /// Empty: what is retained on the topic is removed.
    pub text: String,
    pub retain: bool,
}

/// A QoS > 0 PUBLISH on its way.
struct Flight {
    packet_id: u16,
    number: u64,
    /// PUBREC has come.
    is_received: bool,
}

pub struct Publisher {
    pub name: String,
    pub way: Way,
    /// Publications that wait for their acknowledgement at the same time.
    window: usize,
    /// The number of the next publication.
    next: u64,
    /// The acknowledged publications, with the publication id where that was told.
    pub acknowledged: BTreeMap<u64, Option<u64>>,
    /// WAMP: numbers without an answer.
    unanswered: VecDeque<u64>,
    /// MQTT: the same, in the order of sending.
    flights: VecDeque<Flight>,
    /// CONNACK has told of the session, and nothing was done to end it.
    must_be_present: bool,
    /// The ends of its sessions, if they end.
    mortality: Option<Mortality>,
}

/// A publisher that ends its session after some publications, when nothing is on its way.
struct Mortality {
    random: Random,
    /// Publications of this session that are left.
    left: usize,
    lives: u64,
}

impl Publisher {
    pub fn new(name: &str, way: Way, window: usize) -> Self {
        Publisher {
            name: name.to_owned(),
            way,
            window,
            next: 0,
            acknowledged: BTreeMap::new(),
            unanswered: VecDeque::new(),
            flights: VecDeque::new(),
            must_be_present: false,
            mortality: None,
        }
    }

    /// The same; its sessions end, in every way that there is.
    pub fn mortal(name: &str, version: u8, window: usize, seed: u64) -> Self {
        let mortality = Some(Mortality { random: Random(seed), left: 5, lives: 0 });
        Publisher { mortality, ..Publisher::new(name, Way::Mqtt { version, qos: 2 }, window) }
    }

    /// Sessions that it has begun in place of others.
    pub fn lives(&self) -> u64 {
        self.mortality.as_ref().map_or(0, |mortality| mortality.lives)
    }

    /// The publication with this number. Every fourth is retained, on topics that publishers share.
    pub fn message(&self, number: u64) -> Message {
        let retain = number.is_multiple_of(4);
        let is_removal = matches!(self.way, Way::Wamp | Way::Keyed) && number.is_multiple_of(28);
        let topic = if retain { format!("crash.kept.k{}", number / 4 % 3) } else { format!("crash.log.{}", self.name) };
        let text = if is_removal { String::new() } else { format!("{}.{number}", self.name) };
        Message { topic, text, retain }
    }

    /// Publishes until the router is gone; without `more`, until everything is acknowledged.
    pub fn run(&mut self, http: SocketAddr, mqtt: SocketAddr, more: bool) -> Result<(), Ended> {
        match self.way {
            Way::Wamp | Way::Keyed => self.run_wamp(http, more),
            Way::Mqtt { version, qos } => self.run_mqtt(mqtt, version, qos, more),
        }
    }

    fn run_wamp(&mut self, address: SocketAddr, more: bool) -> Result<(), Ended> {
        let mut link = Wamp::try_open(address)?;
        let mut again: VecDeque<u64> = std::mem::take(&mut self.unanswered);
        let mut requests = 0;
        let mut sent = VecDeque::new();
        loop {
            while sent.len() < self.window && (more || !again.is_empty()) {
                let number = again.pop_front().unwrap_or_else(|| self.take_number());
                requests += 1;
                sent.push_back((requests, number));
                self.unanswered = sent.iter().map(|(_, number)| *number).chain(again.iter().copied()).collect();
                let Message { topic, text, retain } = self.message(number);
                let mut options = json!({"acknowledge": true, "retain": retain});
                if self.way == Way::Keyed {
                    options["dedup"] = format!("{}.{number}", self.name).into();
                }
                let mut publish = vec![options, json!(topic)];
                publish.extend((!text.is_empty()).then(|| json!([text])));
                link.try_request(16, publish.into())?;
            }
            let Some((request, number)) = sent.front().copied() else { return Ok(()) };
            let answer = link.try_receive()?;
            if answer[0] == GOODBYE {
                return Err(Ended);
            }
            assert_eq!((&answer[0], &answer[1]), (&17.into(), &request.into()), "{}: {answer}", self.name);
            self.acknowledged.insert(number, answer[2].as_u64());
            sent.pop_front();
            self.unanswered.pop_front();
        }
    }

    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn run_mqtt(&mut self, address: SocketAddr, version: u8, qos: u8, more: bool) -> Result<(), Ended> {
        let mut link = self.connect(address, version, qos)?;
        loop {
            while more && self.flights.len() < self.window && self.may_go_on() {
                let number = self.take_number();
                // The lowest that is free: ids come back as soon as they may.
                let is_free = |id: &u16| self.flights.iter().all(|flight| flight.packet_id != *id);
                let packet_id = (1..).find(is_free).unwrap();
                self.flights.push_back(Flight { packet_id, number, is_received: false });
                link.try_send(&self.line(number, packet_id, qos, ""))?;
            }
            if self.flights.is_empty() && more {
                link = self.begin_anew(address, version, qos, link)?;
                continue;
            }
            if self.flights.is_empty() {
                return Ok(());
            }
            let answer = link.try_receive()?;
            if answer[0] == "DISCONNECT" {
                return Err(Ended);
            }
            self.handle_answer(&mut link, &answer)?;
        }
    }

    fn connect(&mut self, address: SocketAddr, version: u8, qos: u8) -> Result<Mqtt, Ended> {
        let expiry = if version == 5 { " session_expiry=1000" } else { "" };
        let (mut link, is_present) = Mqtt::try_connect(address, &format!("CONNECT v{version} id={}{expiry}", self.name))?;
        assert!(is_present || !self.must_be_present, "{}: the session is lost", self.name);
        self.must_be_present = true;
        self.send_again(&mut link, qos, is_present)?;
        Ok(link)
    }

    fn may_go_on(&mut self) -> bool {
        let Some(mortality) = &mut self.mortality else { return true };
        let may_go_on = mortality.left > 0;
        mortality.left -= usize::from(may_go_on);
        may_go_on
    }

    /// Ends the session, on which nothing is on its way, and begins another.
    fn begin_anew(&mut self, address: SocketAddr, version: u8, qos: u8, mut link: Mqtt) -> Result<Mqtt, Ended> {
        let mortality = self.mortality.as_mut().unwrap();
        mortality.left = 1 + mortality.random.below(30);
        mortality.lives += 1;
        let way = mortality.random.below(3);
        self.must_be_present = false;
        let expiry = if version == 5 { " session_expiry=1000" } else { "" };
        let clean = format!("CONNECT v{version} clean id={}{expiry}", self.name);
        match way {
            0 if version == 5 => {
                link.try_send("DISCONNECT session_expiry=0")?;
                link.wire.await_end(PATIENCE);
                self.connect(address, version, qos)
            }
            // The router ends the connection that is still there.
            1 if version == 5 => {
                let (next, is_present) = Mqtt::try_connect(address, &clean)?;
                assert!(!is_present, "{}: a clean start finds a session", self.name);
                self.must_be_present = true;
                Ok(next)
            }
            1 => {
                let _between = Mqtt::try_connect(address, &clean)?;
                self.connect(address, version, qos)
            }
            _ => {
                drop(link);
                drop(Mqtt::try_connect(address, &format!("CONNECT v4 clean id={}", self.name))?);
                self.connect(address, version, qos)
            }
        }
    }

    /// Publications owed to a session that was there go out again in their order; in a new session everything is new.
    fn send_again(&mut self, link: &mut Mqtt, qos: u8, is_present: bool) -> Result<(), Ended> {
        for flight in &self.flights {
            match flight.is_received {
                true => link.try_send(&format!("PUBREL id={}", flight.packet_id))?,
                false => {
                    let dup = if is_present { " dup" } else { "" };
                    link.try_send(&self.line(flight.number, flight.packet_id, qos, dup))?;
                }
            }
        }
        Ok(())
    }

    fn line(&self, number: u64, packet_id: u16, qos: u8, dup: &str) -> String {
        let Message { topic, text, retain } = self.message(number);
        let retain = if retain { " retain" } else { "" };
        format!("PUBLISH {} {text} q{qos} id={packet_id}{retain}{dup}", topic.replace('.', "/"))
    }

    fn handle_answer(&mut self, link: &mut Mqtt, answer: &Words) -> Result<(), Ended> {
        let packet_id = answer.id();
        let at = self.flights.iter().position(|flight| flight.packet_id == packet_id);
        let at = at.unwrap_or_else(|| panic!("{}: {answer:?} answers nothing", self.name));
        let is_refused = answer.iter().any(|word| word.starts_with("rc=") && !["rc=00", "rc=10"].contains(&word.as_str()));
        match answer[0].as_str() {
            // The id may be over for the router already.
            "PUBCOMP" if self.flights[at].is_received => drop(self.flights.remove(at)),
            _ if is_refused => panic!("{}: refused, {answer:?}", self.name),
            "PUBACK" => {
                self.acknowledged.insert(self.flights[at].number, None);
                self.flights.remove(at);
            }
            "PUBREC" => {
                self.acknowledged.insert(self.flights[at].number, None);
                self.flights[at].is_received = true;
                link.try_send(&format!("PUBREL id={packet_id}"))?;
            }
            other => panic!("{}: {other} out of turn: {answer:?}", self.name),
        }
        Ok(())
    }
}
