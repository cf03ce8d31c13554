//! Sessions that begin, end in every way and begin again under the same names: nothing taken is lost, nothing comes twice.
//!
//! A life is a session of a client. `SIM_RUNS=76` makes it 100,000 lives and more of each kind of history.
mod client;
mod house;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::{Client, Promise};
use house::House;

use crate::faults;
use crate::model::command::{Features, Open, Protocol, SubscribeEntry, SubscribeOptions, Transport};
use crate::model::{Command, ConnectionId, Delivery, Filter, Payload, Principal, RequestId, SessionId};

const NAMES: [&str; 3] = ["a", "b", "c"];

struct World {
    house: House,
    clients: [Client; 3],
    /// A subscriber with QoS 0, who sees what is not stored as well.
    observer: Option<ConnectionId>,
    seen: Vec<String>,
    /// The disk refuses now and then. Messages may reach a client twice then, and wills may be lost.
    has_refusals: bool,
}

/// Texts of the same client, in an order: a session's come before the next one's, a will before what a later connection begins.
fn check_order<'a>(texts: impl Iterator<Item = &'a str>, with_wills: bool) -> Result<(), String> {
    let mut lasts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for text in texts {
        let parts: Vec<&str> = text.split('.').collect();
        let (name, epoch): (_, u32) = (parts[1], parts[3].parse().unwrap());
        let last = lasts.entry(name).or_default();
        if parts[2] == "will" {
            if with_wills && epoch < last.1 {
                return Err(format!("ORDER: the will {text} comes behind what connection {} began", last.1));
            }
            continue;
        }
        let life: u32 = parts[2].parse().unwrap();
        if life < last.0 {
            return Err(format!("ORDER: {text} comes behind something of session {}", last.0));
        }
        *last = (life, last.1.max(epoch));
    }
    Ok(())
}

impl World {
    fn new(seed: u64, kind: usize) -> Self {
        let house = House::new(seed.wrapping_mul(3) + kind as u64, kind);
        let clients = NAMES.map(|name| Client::new(name, kind == 3));
        let mut world = World { house, clients, observer: None, seen: Vec::new(), has_refusals: kind == 3 };
        world.observe();
        world
    }

    fn observe(&mut self) {
        let open = Open {
            session: SessionId(0),
            protocol: Protocol::Mqtt5,
            transport: Transport::default(),
            principal: Arc::new(Principal::anonymous("observer")),
            client_id: Some("observer".into()),
            clean_start: true,
            expiry_s: 0,
            receive_maximum: 1,
            will: None,
            features: Features::default(),
        };
        let observer = self.house.connect(open);
        let filter = Filter::from_mqtt("t/#").unwrap();
        let entries = vec![SubscribeEntry::Topic { filter, share: None, options: SubscribeOptions::default() }];
        self.house.send(observer, Command::Subscribe { request: RequestId(1), entries });
        self.observer = Some(observer);
        self.seen.clear();
    }

    fn watch(&mut self) -> Result<(), String> {
        let Some(observer) = self.observer else { return Ok(()) };
        let mut is_new = false;
        while let Some((told, _)) = self.house.told(observer) {
            if let Delivery::Event(event) = told
                && let Payload::Bytes(bytes) = &event.publication.payload
            {
                self.seen.push(String::from_utf8_lossy(bytes).into_owned());
                is_new = true;
            }
        }
        if is_new { check_order(self.seen.iter().map(String::as_str), !self.has_refusals) } else { Ok(()) }
    }

    fn restart(&mut self) -> Result<(), String> {
        for client in &mut self.clients {
            client.note_end(self.house.now_ms);
        }
        self.house.restart()?;
        self.observe();
        self.check(false)
    }

    fn step(&mut self) -> Result<(), String> {
        let client = self.house.random.below(NAMES.len());
        let client = &mut self.clients[client];
        match self.house.random.below(1_000) {
            0..=11 => client.connect(&mut self.house, false),
            12..=99 if client.connection.is_none() => client.connect(&mut self.house, false),
            100..=106 => client.lose(&mut self.house),
            107..=113 => client.disconnect(&mut self.house, false),
            114..=120 => client.disconnect(&mut self.house, true),
            121..=239 => client.publish(&mut self.house),
            240..=269 => client.repeat(&mut self.house, false),
            270..=279 => client.subscribe(&mut self.house),
            280..=599 => drop(client.look(&mut self.house)?),
            600..=609 => {
                let ms = [1, 250, 10_000, 61_000, 3_700_000][self.house.random.below(5)];
                self.house.advance(ms);
            }
            610..=619 => self.house.keep(),
            620..=622 if self.house.has_history() => self.restart()?,
            623..=624 => self.house.cut_power_soon(),
            625..=630 if self.has_refusals => self.house.refuse(),
            _ => drop(self.house.step()),
        }
        if self.house.is_off() {
            self.restart()?;
        }
        self.watch()
    }

    /// No more faults: everybody comes once more, and takes what is left.
    fn finish(&mut self) -> Result<(), String> {
        if self.house.has_history() {
            self.restart()?;
        }
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = !self.house.step();
            for client in &mut self.clients {
                while client.look(&mut self.house)? {
                    is_quiet = false;
                }
                if client.connection.is_none() {
                    is_quiet = false;
                    client.connect(&mut self.house, true);
                }
            }
            if self.house.is_off() {
                is_quiet = false;
                self.restart()?;
            }
            self.watch()?;
        }
        self.check(true)
    }

    fn check(&self, is_whole: bool) -> Result<(), String> {
        let mut texts = Vec::new();
        let mut places = Vec::new();
        for (place, record) in self.house.records.iter().enumerate() {
            if let (Some(_), Payload::Bytes(bytes)) = (record.item.indexed_topic(), &record.item.payload) {
                texts.push(std::str::from_utf8(bytes).unwrap());
                places.push(place);
            }
        }
        check_order(texts.iter().copied(), !self.has_refusals)?;
        let mut known = BTreeSet::new();
        if let Some(text) = texts.iter().find(|text| !known.insert(**text) && text.starts_with('2')) {
            return Err(format!("TWICE: {text} is in the history"));
        }
        for client in &self.clients {
            if let Some(text) = client.taken.iter().find(|text| !known.contains(text.as_str())) {
                return Err(format!("LOST: {text} was taken and is not in the history"));
            }
            for will in &client.wills {
                check_will(will, known.contains(will.text.as_str()), is_whole && !self.has_refusals)?;
            }
            if self.has_refusals {
                continue;
            }
            for (number, life) in (1..).zip(&client.lives) {
                let from = life.from.unwrap_or(usize::MAX);
                let with_place = texts.iter().zip(&places).filter(|(text, place)| **place >= from && text.starts_with('2'));
                let expected: Vec<&str> = with_place.map(|(text, _)| *text).collect();
                let is_last = number == client.lives.len();
                let is_prefix = life.received.len() <= expected.len() && life.received.iter().zip(&expected).all(|(a, b)| a == b);
                if !is_prefix || (is_whole && is_last && life.received.len() < expected.len()) {
                    return Err(format!("RECEIVED: {} in {number}: {:?} of {expected:?}", client.name, life.received));
                }
            }
        }
        Ok(())
    }
}

fn check_will(will: &Promise, is_published: bool, is_whole: bool) -> Result<(), String> {
    if is_published && !will.is_due {
        return Err(format!("WILL: {} is published while its connection is there", will.text));
    }
    if is_whole && will.is_told && will.is_due && !will.is_void && !is_published {
        return Err(format!("WILL: {} is not published", will.text));
    }
    Ok(())
}

fn world(seed: u64, kind: usize) -> Result<World, String> {
    let mut world = World::new(seed, kind);
    for _ in 0..1_500 {
        world.step()?;
    }
    world.finish()?;
    Ok(world)
}

fn lives(kind: usize) {
    let lives = std::cell::Cell::new(0);
    let found = faults(60, |seed| {
        let world = world(seed, kind)?;
        lives.set(lives.get() + world.clients.iter().map(|client| client.lives.len()).sum::<usize>());
        Ok(0)
    });
    println!("{} lives", lives.get());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_session_takes_anything_of_another_without_history() {
    lives(0);
}

#[test]
fn no_session_takes_anything_of_another_in_memory() {
    lives(1);
}

#[test]
fn no_session_takes_anything_of_another_on_disk() {
    lives(2);
}

#[test]
fn no_session_takes_anything_of_another_on_a_full_disk() {
    lives(3);
}

#[test]
fn the_lives_go_through_what_they_are_for() {
    let (mut lives, mut restarts, mut taken, mut received, mut repetitions, mut takeovers, mut wills) = (0, 0, 0, 0, 0, 0, 0);
    for seed in 1..20 {
        let world = world(seed, 1 + seed as usize % 2).unwrap();
        restarts += world.house.restarts;
        for client in &world.clients {
            lives += client.lives.len();
            taken += client.taken.len();
            received += client.lives.iter().map(|life| life.received.len()).sum::<usize>();
            repetitions += client.repetitions;
            takeovers += client.takeovers;
            wills += client.wills.iter().filter(|will| will.is_told && will.is_due && !will.is_void).count();
        }
    }
    let all = format!(
        "{lives} lives, {restarts} restarts, {taken} taken, {received} received, {repetitions} again, {takeovers} takeovers, {wills} wills"
    );
    println!("{all}");
    assert!(lives > 300 && restarts > 80 && taken > 500 && received > 500, "{all}");
    assert!(repetitions > 300 && takeovers > 150 && wills > 100, "{all}");
}
