//! A solo on the log of the store, on a disk that loses what was not synced: nothing acknowledged is lost, ids are dense and stay.
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::cluster::rule::{Rule, Rules};
use crate::cluster::seen::SeenLimits;
use crate::cluster::segment::{DedupKey, Digest, EventId, Incarnation, SyncToken, Ticket};
use crate::cluster::solo::{Refusal, Restored, Solo, SoloEffect, SoloLimits, Write};
use crate::faults;
use crate::model::record::Kind;
use crate::model::{Item, Payload, Record, Topic};
use crate::random::Random;
use crate::simulated_disk::{SimulatedDisk, SimulatedFile};
use crate::store::log::{Config, Durability, Options, SyncJob};
use crate::store::{Error, Log, Query, Store};

const REALM: &str = "realm1";

/// The items of a ticket, which of them are answered, and what was acknowledged when they were submitted.
type Submitted = (Vec<Item>, BTreeSet<usize>, Option<EventId>);

struct World {
    random: Random,
    rules: Rules,
    limits: SoloLimits,
    config: Config,
    disk: SimulatedDisk,
    log: Log<SimulatedDisk>,
    solo: Solo,
    /// Syncs under way.
    syncs: Vec<(SyncToken, SyncJob<SimulatedFile>)>,
    now_ms: u64,
    next_body: u64,
    next_ticket: u64,
    /// Of the process that runs.
    tickets: BTreeMap<Ticket, Submitted>,
    /// Items with a key whose outcome is unknown: they are sent again.
    unknown: Vec<Item>,
    /// The acknowledged items by id; then all records found at the last start.
    acknowledged: BTreeMap<EventId, Payload>,
    found: Vec<Record>,
    key_ids: BTreeMap<DedupKey, EventId>,
    last_said: Option<EventId>,
    gone: BTreeSet<Incarnation>,
    restarts: u64,
    /// Writes that the log refused for want of space.
    refused_writes: u64,
    trace: Digest,
}

fn open(disk: &SimulatedDisk, config: Config) -> Result<Log<SimulatedDisk>, Error> {
    Log::open(disk.clone(), config, Options { new_identity: [7; 16], ..Options::default() })
}

fn is_off(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.to_string() == "no power")
}

/// The records that a start reads: the whole realm, in pages of so many records.
pub fn read_back(log: &Log<SimulatedDisk>, limit: usize) -> Result<Vec<Record>, Error> {
    let (mut query, mut all) = (Query { limit, ..Query::new(REALM) }, Vec::new());
    loop {
        let page = log.read(&query)?;
        query = query.behind(&page);
        all.extend(page.records);
        if page.is_end {
            return Ok(all);
        }
    }
}

impl World {
    fn new(seed: u64, rules: Rules) -> Self {
        let mut random = Random(seed);
        let seen = SeenLimits::default();
        let (batch_items, window_items) = (1 + random.below(8), 20 + random.below(40));
        let limits = SoloLimits { item_bytes: 1_000, window_bytes: 10_000, window_items, batch_bytes: 1_500, batch_items, seen };
        let segment_bytes = 2_048 + random.below(4_096) as u64;
        let config =
            Config { segment_bytes, reserve_bytes: 0, cached_bytes: 512, durability: Durability::Sync, ..Config::default() };
        let disk = SimulatedDisk::new(seed);
        let log = open(&disk, config).unwrap();
        let solo = Solo::start_with(REALM.into(), Restored::new(seen), limits, rules);
        World {
            random,
            rules,
            limits,
            config,
            disk,
            log,
            solo,
            syncs: Vec::new(),
            now_ms: 1000,
            next_body: 0,
            next_ticket: 0,
            tickets: BTreeMap::new(),
            unknown: Vec::new(),
            acknowledged: BTreeMap::new(),
            found: Vec::new(),
            key_ids: BTreeMap::new(),
            last_said: None,
            gone: BTreeSet::new(),
            restarts: 0,
            refused_writes: 0,
            trace: Digest::default(),
        }
    }

    fn submit(&mut self) {
        let count = self.random.below(6);
        let mut items: Vec<Item> = (0..count).map(|_| self.item()).collect();
        if self.random.chance(300) {
            items.append(&mut self.unknown);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        match self.solo.submit(ticket, items.clone()) {
            Ok(()) => {
                let floor = self.acknowledged.last_key_value().map(|(id, _)| *id);
                self.tickets.insert(ticket, (items, BTreeSet::new(), floor));
            }
            Err(_) => self.unknown.extend(items.into_iter().filter(|item| item.dedup.is_some())),
        }
    }

    fn item(&mut self) -> Item {
        self.next_body += 1;
        let key = self.random.below(60) as u64;
        let owner = ["one", "two", "three"][key as usize % 3];
        let key = self.random.chance(400).then(|| Bytes::copy_from_slice(&key.to_le_bytes()));
        // A key names one publication: its copies have the same body, and it is no number of those without one.
        let body = key.clone().unwrap_or_else(|| Bytes::from((1000 + self.next_body).to_string()));
        let topic = Topic::from_mqtt(["a", "b/c"][self.random.below(2)]).unwrap();
        let dedup = key.map(|key| DedupKey { owner: owner.into(), key });
        Item { dedup, ..Item::publication(REALM.into(), 0, topic, Payload::Bytes(body)) }
    }

    /// Carries out the next effect; whether there was one.
    fn poll(&mut self) -> Result<bool, String> {
        let Some(effect) = self.solo.poll_effect(self.now_ms) else { return Ok(false) };
        self.trace = self.trace.bytes(format!("{effect:?}").as_bytes());
        match effect {
            SoloEffect::Write(write) => self.write(&write)?,
            SoloEffect::Sync { token } => self.syncs.push((token, self.log.start_sync().map_err(|error| error.to_string())?)),
            SoloEffect::Ordered { ticket, offset, count, first_id, is_duplicate, .. } => {
                for n in 0..count {
                    self.acknowledge(ticket, offset + n, first_id.plus(n as u64), is_duplicate)?;
                }
            }
            SoloEffect::Refused { ticket, offset, count, .. } => {
                let (items, answered, _) = self.tickets.get_mut(&ticket).ok_or("ANSWER: unknown ticket refused")?;
                if !(offset..offset + count).all(|offset| answered.insert(offset)) {
                    return Err(format!("ANSWER: {ticket:?} refused at {offset}, {answered:?} are answered"));
                }
                self.unknown.extend(items[offset..offset + count].iter().filter(|item| item.dedup.is_some()).cloned());
            }
            SoloEffect::Gone { incarnation, .. } => {
                if !self.gone.insert(incarnation) {
                    return Err(format!("GONE: life {incarnation} ended twice"));
                }
            }
            SoloEffect::Joined(_) => {}
        }
        Ok(true)
    }

    fn write(&mut self, write: &Write) -> Result<(), String> {
        match self.log.write(&write.items) {
            Ok(ids) if write.has(&ids) => Ok(()),
            Ok(ids) => Err(format!("IDS: {} is expected, the log gave {ids:?}", write.first_id)),
            Err(Error::NoSpace) => {
                self.refused_writes += 1;
                self.solo.handle_disk_full();
                Ok(())
            }
            Err(_) => self.fail(),
        }
    }

    fn acknowledge(&mut self, ticket: Ticket, offset: usize, id: EventId, is_duplicate: bool) -> Result<(), String> {
        let (items, answered, floor) = self.tickets.get_mut(&ticket).ok_or("ANSWER: unknown ticket")?;
        if !answered.insert(offset) {
            return Err(format!("ANSWER: {ticket:?} at {offset}, {answered:?} are answered"));
        }
        let item = &items[offset];
        if !is_duplicate {
            if Some(id) <= *floor {
                return Err(format!("REAL-TIME: {id} was sent after {floor:?} was acknowledged"));
            }
            if Some(id) <= self.last_said {
                return Err(format!("ORDER: {id} after {:?}", self.last_said));
            }
            self.last_said = Some(id);
        }
        if let Some(key) = &item.dedup
            && *self.key_ids.entry(key.clone()).or_insert(id) != id
        {
            return Err(format!("KEY: {key:?} has two ids"));
        }
        // A record that can be read is durable. Without power nothing can be read; the next start shows which records were
        // durable.
        match self.log.read_after(REALM, id.previous(), None, 1) {
            Ok(page) if page.records.first().is_some_and(|it| it.id == id && it.item.payload == item.payload) => {}
            Err(error) if is_off(&error) => {}
            _ => return Err(format!("ACKNOWLEDGED: {id} is not durable")),
        }
        self.acknowledged.insert(id, item.payload.clone());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        if self.syncs.is_empty() {
            return Ok(());
        }
        let (token, job) = self.syncs.remove(0);
        let done = job.run();
        if self.random.chance(20) {
            return self.restart(); // The write is durable, and nobody heard of it.
        }
        match self.log.finish_sync(done) {
            Ok(()) => self.solo.handle_synced(token),
            Err(_) => return self.fail(),
        }
        Ok(())
    }

    /// The log failed: the process says what it must and ends.
    fn fail(&mut self) -> Result<(), String> {
        self.solo.handle_failed();
        if self.solo.submit(Ticket(u64::MAX), Vec::new()) != Err(Refusal::Poisoned) {
            return Err("POISON: it takes items after a failure".into());
        }
        while self.poll()? {}
        self.restart()
    }

    /// The process ends, or the power goes off too; then all begins with what the log says.
    fn restart(&mut self) -> Result<(), String> {
        for (items, answered, _) in std::mem::take(&mut self.tickets).into_values() {
            let open = items.into_iter().enumerate().filter(|(offset, item)| item.dedup.is_some() && !answered.contains(offset));
            self.unknown.extend(open.map(|(_, item)| item));
        }
        self.syncs.clear();
        self.restarts += 1;
        self.disk.set_capacity(u64::MAX);
        self.log = loop {
            if self.random.chance(300) {
                self.disk.end_process()
            } else {
                self.disk.cut_power()
            }
            if self.random.chance(200) {
                self.disk.cut_power_after(self.random.below(60) as u64);
            }
            match open(&self.disk, self.config) {
                Ok(log) => break log,
                Err(error) if is_off(&error) => {}
                Err(error) => return Err(format!("OPEN: {error}")),
            }
        };
        let records = match read_back(&self.log, 7) {
            Ok(records) => records,
            Err(error) if is_off(&error) => return self.restart(),
            Err(error) => return Err(format!("READ: {error}")),
        };
        let mut restored = Restored::new(self.limits.seen);
        for (n, record) in records.iter().enumerate() {
            restored.handle_record(record).map_err(|gap| format!("DENSE: {} where {} is next", record.id, gap.expected))?;
            if self.random.chance(5) || n == records.len() / 2 {
                restored = Restored::from_state(self.limits.seen, &restored.state());
            }
        }
        self.solo = Solo::start_with(REALM.into(), restored, self.limits, self.rules);
        let next_id = self.log.realm_state(REALM).last.map_or(EventId::FIRST, |last| last.plus(1));
        if self.solo.next_id() != next_id {
            return Err(format!("IDS: the solo goes on with {}, the log with {next_id}", self.solo.next_id()));
        }
        self.check(records)
    }

    /// The records must be an order that only grew: those of before, and all that were acknowledged, as submitted. Each key has
    /// one record, and the time does not go back.
    fn check(&mut self, records: Vec<Record>) -> Result<(), String> {
        if !records.starts_with(&self.found) {
            return Err(format!("CHANGED: {} records were there, now they are not what they were", self.found.len()));
        }
        for (id, payload) in &self.acknowledged {
            if records.get(id.value() as usize - 1).is_none_or(|record| record.item.payload != *payload) {
                return Err(format!("LOST: {id} was acknowledged"));
            }
        }
        let (mut keys, mut last_body, mut lives, mut time_ms) = (BTreeSet::new(), 0, BTreeSet::new(), 0);
        for Record { id, item } in &records {
            let Payload::Bytes(body) = &item.payload else { return Err(format!("INVENTED: {item:?}")) };
            match (&item.dedup, item.kind) {
                (_, Kind::GONE) if !lives.insert(body.clone()) => return Err(format!("GONE: {id} ends a life again")),
                (_, Kind::GONE) => {}
                (Some(key), _) if !keys.insert(key) => return Err(format!("KEY: {id} is a second copy")),
                (Some(_), _) => {}
                (None, _) => {
                    let body: u64 =
                        std::str::from_utf8(body).ok().and_then(|body| body.parse().ok()).ok_or("INVENTED: a body")?;
                    if body <= last_body {
                        return Err(format!("FIFO: {body} after {last_body}"));
                    }
                    last_body = body;
                }
            }
            if item.time_ms < time_ms {
                return Err(format!("TIME: {id} is older than the one before it"));
            }
            time_ms = item.time_ms;
        }
        self.found = records;
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        self.now_ms = (self.now_ms + self.random.below(5) as u64).saturating_sub(2);
        match self.random.below(1000) {
            0..=249 => self.submit(),
            250..=649 => drop(self.poll()?),
            650..=929 => self.sync()?,
            930..=939 => {
                // Another realm writes too: one log, and each sync is for all.
                let other = Item::of_kind(Kind::CURSOR, "other".into(), 0, Payload::Bytes(Bytes::new()));
                if !matches!(self.log.write(&[other]), Ok(_) | Err(Error::NoSpace)) {
                    self.fail()?;
                }
            }
            940..=949 => {
                self.disk.set_capacity(u64::MAX);
                self.solo.handle_room();
            }
            950..=959 => self.disk.set_capacity(0),
            960..=964 => self.solo.handle_low_space(),
            965..=969 => self.disk.cut_power_after(self.random.below(40) as u64),
            970..=971 => self.disk.fail_syncs(true),
            972..=979 => self.restart()?,
            _ => while self.poll()? {},
        }
        Ok(())
    }

    fn run(mut self, steps: usize) -> Result<(u64, Self), String> {
        for _ in 0..steps {
            self.step()?;
        }
        self.restart()?;
        self.disk.end_process();
        self.submit();
        for _ in 0..1000 {
            while self.poll()? {}
            if let Some((token, job)) = self.syncs.pop() {
                self.log.finish_sync(job.run()).map_err(|error| format!("LIVENESS: {error}"))?;
                self.solo.handle_synced(token);
            }
        }
        if let Some((ticket, _)) = self.tickets.iter().find(|(_, (items, answered, _))| answered.len() != items.len()) {
            return Err(format!("LIVENESS: ticket {ticket:?} is not answered"));
        }
        let syncs = self.disk.syncs();
        self.now_ms += 1_000_000;
        if self.poll()? || self.disk.syncs() != syncs || self.solo.room().bytes != self.limits.window_bytes {
            return Err("IDLE: an idle solo is not idle".into());
        }
        let records = read_back(&self.log, 7).map_err(|error| format!("READ: {error}"))?;
        self.check(records)?;
        Ok((self.trace.0 as u64, self))
    }
}

fn world(seed: u64, rules: Rules) -> Result<(u64, World), String> {
    World::new(seed, rules).run(200 + (seed % 4) as usize * 200)
}

fn schedule(seed: u64, rules: Rules) -> Result<u64, String> {
    world(seed, rules).map(|(trace, _)| trace)
}

#[test]
fn nothing_acknowledged_is_lost() {
    let found = faults(1000, |seed| schedule(seed, Rules::default()));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_schedules_go_through_what_they_are_for() {
    let (mut restarts, mut records, mut acknowledged, mut keys, mut refused) = (0, 0, 0, 0, 0);
    for seed in 1..100 {
        let (_, world) = world(seed, Rules::default()).unwrap();
        restarts += world.restarts;
        records += world.found.len();
        acknowledged += world.acknowledged.len();
        keys += world.key_ids.len();
        refused += world.refused_writes;
    }
    let all =
        format!("{restarts} restarts, {records} records, {acknowledged} acknowledged, {keys} keys, {refused} writes refused");
    assert!(restarts > 500 && records > 5_000 && acknowledged > 5_000 && keys > 1_000 && refused > 5, "{all}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..20 {
        assert_eq!(schedule(seed, Rules::default()), schedule(seed, Rules::default()));
    }
    assert_ne!(schedule(1, Rules::default()), schedule(2, Rules::default()));
}

#[test]
fn broken_rules_are_noticed() {
    for rule in [Rule::SyncFirst, Rule::KeyedOnce] {
        let found = faults(50, |seed| schedule(seed, Rules::without(rule)));
        assert!(!found.is_empty(), "{rule:?}");
    }
}
