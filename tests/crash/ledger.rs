//! The history after each crash, held against the knowledge of publishers and subscribers.
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::mortal::Mortal;
use super::publisher::{Message, Publisher, Way};
use super::subscriber::Subscriber;
use super::support::mqtt::Mqtt;
use super::support::wamp::Wamp;

/// An event as `corsac.history.read` gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub message: Message,
    qos: u64,
    time_ms: u64,
}

/// Everything that was ever read, by its id.
#[derive(Default)]
pub struct Ledger {
    pub entries: BTreeMap<u64, Entry>,
}

impl Ledger {
    /// Reads what is new, or everything once more: what was there is there, unchanged.
    pub fn read(&mut self, http: SocketAddr, everything: bool) {
        let mut link = Wamp::try_open(http).unwrap();
        let last = self.entries.keys().next_back().copied().unwrap_or(0);
        let (mut after, mut count) = if everything { (0, 0) } else { (last, self.entries.len()) };
        loop {
            let arguments = json!(["crash", {"match": "prefix", "after": after, "limit": 1000}]);
            let (args, _) = link.call("corsac.history.read", arguments, json!({}));
            let page = &args[0];
            for event in page["events"].as_array().unwrap() {
                let id = event["id"].as_u64().unwrap();
                assert!(id > after, "{id} comes after {after}");
                after = id;
                count += 1;
                self.note(id, last, entry_of(event));
            }
            if page["is_end"] == true {
                break;
            }
            // The cursor may stand on a record that is no event.
            after = after.max(page["cursor"].as_u64().unwrap());
        }
        assert_eq!(count, self.entries.len(), "what was read before is gone");
    }

    fn note(&mut self, id: u64, last: u64, entry: Entry) {
        match self.entries.get(&id) {
            Some(known) => assert_eq!(*known, entry, "{id} has changed"),
            None => assert!(id > last, "{id} was not there when {last} was read"),
        }
        self.entries.insert(id, entry);
    }

    /// Every acknowledged publication is there, in order, as often as it may.
    pub fn check_publisher(&self, publisher: &Publisher) {
        let name = &publisher.name;
        let mut copies: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (id, Entry { message, .. }) in &self.entries {
            if let Some(number) = message.text.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('.')) {
                let number = number.parse().unwrap();
                assert_eq!(*message, publisher.message(number), "{name}: {id} is not as it was published");
                if !copies.contains_key(&number) {
                    let expected = copies.keys().next_back().map_or(0, |last| last + 1);
                    let expected = (expected..).find(|number| !publisher.message(*number).text.is_empty());
                    assert_eq!(Some(number), expected, "{name}: first copies are out of order, or one is missing, at {id}");
                }
                copies.entry(number).or_default().push(*id);
            }
        }
        let is_once = matches!(publisher.way, Way::Keyed | Way::Mqtt { qos: 2, .. });
        for (number, ids) in copies.iter().filter(|_| is_once) {
            assert_eq!(ids.len(), 1, "{name}: {number} is there as {ids:?}");
        }
        for (number, told) in &publisher.acknowledged {
            match told {
                Some(id) => {
                    let found = self.entries.get(id).map(|entry| &entry.message);
                    assert_eq!(found, Some(&publisher.message(*number)), "{name}: {number} was acknowledged as {id}");
                }
                None => assert!(copies.contains_key(number), "{name}: {number} was acknowledged and is gone"),
            }
        }
        let told: HashSet<u64> = publisher.acknowledged.values().flatten().copied().collect();
        assert_eq!(told.len(), publisher.acknowledged.values().flatten().count(), "{name}: two have one id");
    }

    /// Texts of the events of `topic` and below, each where it is first.
    pub fn texts(&self, topic: &str, qos: impl Fn(u64) -> bool) -> Vec<&str> {
        let entries = self.entries.values().filter(|entry| entry.message.topic.starts_with(topic) && qos(entry.qos));
        firsts(entries.map(|entry| entry.message.text.as_str()))
    }

    /// The events that a subscriber took are the history of its filter, so far or in whole.
    pub fn check_subscriber(&self, subscriber: &Subscriber, topic: &str, is_whole: bool) {
        let arrivals =
            |qos: u8| subscriber.arrivals.iter().filter(move |arrival| arrival.1 == qos).map(|(text, _)| text.as_str());
        let twos: Vec<&str> = arrivals(2).collect();
        let has_twos = !twos.is_empty();
        // Deliveries of each QoS have an order of their own.
        let ones = firsts(arrivals(1));
        for (found, expected) in [
            (ones, self.texts(topic, |qos| qos == 1 || !has_twos)),
            // Exactly once: nothing may be there twice.
            (twos, if has_twos { self.texts(topic, |qos| qos == 2) } else { Vec::new() }),
        ] {
            let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
            if let Some(at) = differs {
                let around = |texts: &[&str]| texts[at.saturating_sub(4)..texts.len().min(at + 8)].join(" ");
                let earlier = found[..at].iter().position(|text| *text == found[at]);
                panic!(
                    "{}: delivery {at} is wrong, the same came as {earlier:?}: {}; the history has {}",
                    subscriber.name,
                    around(&found),
                    around(&expected)
                );
            }
            assert!(found.len() <= expected.len(), "{:?} is in no history", found[expected.len()]);
            assert!(!is_whole || found.len() == expected.len(), "{} of {} came", found.len(), expected.len());
        }
    }

    /// The messages of each session of a subscriber are a part of the history, whole and in order.
    pub fn check_mortal(&self, mortal: &Mortal, topic: &str) {
        let expected = self.texts(topic, |qos| qos == 2);
        for (number, life) in mortal.lives.iter().enumerate() {
            let Some(first) = life.first() else { continue };
            let from = expected.iter().position(|text| text == first);
            let from = from.unwrap_or_else(|| panic!("{}: {first} is in no history", mortal.name));
            let part = &expected[from..expected.len().min(from + life.len())];
            assert!(life == part, "{}: its session {number} took {life:?} of {part:?}", mortal.name);
        }
    }

    /// The retained messages for a newcomer are the last retained of each topic.
    pub fn check_retained(&self, mqtt: SocketAddr) {
        let mut expected: BTreeMap<String, &str> = BTreeMap::new();
        for Entry { message, .. } in self.entries.values().filter(|entry| entry.message.retain) {
            let topic = message.topic.replace('.', "/");
            match message.text.as_str() {
                "" => expected.remove(&topic),
                text => expected.insert(topic, text),
            };
        }
        let (mut link, _) = Mqtt::try_connect(mqtt, "CONNECT v5 clean id=").unwrap();
        link.send("SUBSCRIBE id=1 crash/kept/#:0");
        link.send("UNSUBSCRIBE id=2 none");
        let mut found = BTreeMap::new();
        loop {
            let words = link.receive();
            match words[0].as_str() {
                "PUBLISH" => drop(found.insert(words[1].clone(), words[2].trim_matches(['\'', '"']).to_owned())),
                "SUBACK" => {}
                _ => break,
            }
        }
        let found: BTreeMap<String, &str> = found.iter().map(|(topic, text)| (topic.clone(), text.as_str())).collect();
        assert_eq!(found, expected, "retained values");
    }
}

fn firsts<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    texts.filter(|text| seen.insert(*text)).collect()
}

fn entry_of(event: &Value) -> Entry {
    let args = event["args"].as_array().unwrap();
    assert!(args.len() <= 1, "{event}");
    let text = args.first().map_or("", |text| text.as_str().unwrap()).to_owned();
    let topic = event["topic"].as_str().unwrap().to_owned();
    let retain = event["retain"].as_bool().unwrap();
    let (qos, time_ms) = (event["qos"].as_u64().unwrap(), event["time_ms"].as_u64().unwrap());
    Entry { message: Message { topic, text, retain }, qos, time_ms }
}
