//! A solo on a disk that loses what was not synced: nothing acknowledged is lost, ids are dense, keys are ordered once.
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::cluster::rule::{Rule, Rules};
use crate::cluster::seen::SeenLimits;
use crate::cluster::segment::{DedupKey, Digest, EventId, Incarnation, Item, LedgerId, NodeId, Slot, SyncToken, Ticket};
use crate::cluster::solo::{Content, Head, Identity, Refusal, Restored, Solo, SoloEffect, SoloLimits};
use crate::faults;
use crate::random::Random;

/// What the log holds.
#[derive(Clone, Debug)]
enum Entry {
    Head(Head),
    Item(EventId, Item),
    Gone(EventId),
}

struct World {
    random: Random,
    rules: Rules,
    limits: SoloLimits,
    solo: Solo,
    disk: Vec<Entry>,
    /// How much of the disk survives a power loss.
    synced: usize,
    /// Syncs that were asked for, with the length of the disk then.
    syncs: Vec<(SyncToken, usize)>,
    now_ms: u64,
    next_body: u64,
    next_ticket: u64,
    nonce: u128,
    /// Of the process that runs: the items of each ticket, and which are answered.
    tickets: BTreeMap<Ticket, (Vec<Item>, BTreeSet<usize>, EventId)>,
    /// Items with a key whose outcome is unknown: they are sent again.
    unknown: Vec<Item>,
    acknowledged: BTreeMap<Vec<u8>, EventId>,
    key_ids: BTreeMap<DedupKey, EventId>,
    largest_acknowledged: EventId,
    last_said: EventId,
    gone: BTreeSet<Incarnation>,
    trace: Digest,
}

impl World {
    fn new(seed: u64, rules: Rules) -> Self {
        let mut random = Random(seed);
        let seen = SeenLimits::default();
        let (batch_items, window_items) = (1 + random.below(8), 20 + random.below(40));
        let limits = SoloLimits { window_bytes: 1000, window_items, batch_bytes: 400, batch_items, seen };
        let solo = Solo::start_with(identity(1), Restored::new(seen), limits, rules);
        World {
            random,
            rules,
            limits,
            solo,
            disk: Vec::new(),
            synced: 0,
            syncs: Vec::new(),
            now_ms: 1000,
            next_body: 0,
            next_ticket: 0,
            nonce: 1,
            tickets: BTreeMap::new(),
            unknown: Vec::new(),
            acknowledged: BTreeMap::new(),
            key_ids: BTreeMap::new(),
            largest_acknowledged: EventId(0),
            last_said: EventId(0),
            gone: BTreeSet::new(),
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
            Ok(()) => drop(self.tickets.insert(ticket, (items, BTreeSet::new(), self.largest_acknowledged))),
            Err(_) => self.unknown.extend(items.into_iter().filter(|item| item.dedup.is_some())),
        }
    }

    fn item(&mut self) -> Item {
        self.next_body += 1;
        let key = self.random.below(60) as u64;
        let dedup = self.random.chance(400).then_some(DedupKey { scope: key % 3, key });
        // A key names one publication: its copies have the same body.
        let body = dedup.map_or(1000 + self.next_body, |key| key.key);
        let weight = 1 + self.random.below(60) as u32;
        Item { body: Bytes::copy_from_slice(&body.to_le_bytes()), dedup, is_control: false, weight }
    }

    fn poll(&mut self) -> Result<bool, String> {
        let Some(effect) = self.solo.poll_effect(self.now_ms) else { return Ok(false) };
        self.trace = self.trace.bytes(format!("{effect:?}").as_bytes());
        match effect {
            SoloEffect::Write(write) => {
                self.disk.push(Entry::Head(write.head));
                for record in write.records {
                    self.disk.push(match record.content {
                        Content::Item(item) => Entry::Item(record.id, item),
                        Content::Gone(_) => Entry::Gone(record.id),
                    });
                }
            }
            SoloEffect::Sync { token } => self.syncs.push((token, self.disk.len())),
            SoloEffect::Ordered { ticket, offset, count, first_id, is_duplicate, .. } => {
                for n in 0..count {
                    self.acknowledge(ticket, offset + n, EventId(first_id.0 + n as u64), is_duplicate)?;
                }
            }
            SoloEffect::Refused { ticket, offset, count, .. } => {
                let (items, answered, _) = self.tickets.get_mut(&ticket).ok_or("ANSWER: unknown ticket refused")?;
                if !(offset..offset + count).all(|offset| answered.insert(offset)) {
                    return Err(format!("ANSWER: {ticket} refused at {offset}, {answered:?} are answered"));
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

    fn acknowledge(&mut self, ticket: Ticket, offset: usize, id: EventId, is_duplicate: bool) -> Result<(), String> {
        let (items, answered, floor) = self.tickets.get_mut(&ticket).ok_or("ANSWER: unknown ticket")?;
        if !answered.insert(offset) {
            return Err(format!("ANSWER: {ticket} at {offset}, {answered:?} are answered"));
        }
        let item = &items[offset];
        if !is_duplicate {
            if id <= *floor {
                return Err(format!("REAL-TIME: {id} was sent after {floor} was acknowledged"));
            }
            if id <= self.last_said {
                return Err(format!("ORDER: {id} after {}", self.last_said));
            }
            self.last_said = id;
        }
        if let Some(key) = item.dedup
            && *self.key_ids.entry(key).or_insert(id) != id
        {
            return Err(format!("KEY: {key:?} has two ids"));
        }
        let on_disk = self.disk[..self.synced]
            .iter()
            .any(|entry| matches!(entry, Entry::Item(at, kept) if *at == id && kept.body == item.body));
        if !on_disk {
            return Err(format!("ACKNOWLEDGED: {id} is not durable"));
        }
        self.acknowledged.insert(item.body.to_vec(), id);
        self.largest_acknowledged = self.largest_acknowledged.max(id);
        Ok(())
    }

    fn sync(&mut self) {
        if !self.syncs.is_empty() {
            let (token, length) = self.syncs.remove(0);
            self.synced = self.synced.max(length);
            self.solo.handle_synced(token);
        }
    }

    /// The process ends; with the power, only a prefix of what was not synced stays.
    fn crash(&mut self, is_power_loss: bool) -> Result<(), String> {
        if is_power_loss {
            let lost = self.random.below(self.disk.len() - self.synced + 1);
            self.disk.truncate(self.disk.len() - lost);
        }
        for (items, answered, _) in std::mem::take(&mut self.tickets).into_values() {
            let open = items.into_iter().enumerate().filter(|(offset, item)| item.dedup.is_some() && !answered.contains(offset));
            self.unknown.extend(open.map(|(_, item)| item));
        }
        self.syncs.clear();
        self.synced = self.disk.len(); // Recovery syncs what it read before it goes on.
        let mut restored = Restored::new(self.limits.seen);
        for entry in &self.disk {
            match entry {
                Entry::Head(head) => restored.handle_head(Head::decode(&head.encode()).unwrap()),
                Entry::Item(id, item) => restored.handle_record(*id, item.dedup),
                Entry::Gone(id) => restored.handle_record(*id, None),
            }
        }
        if self.random.chance(500) {
            let (head, next_id, seen) = restored.snapshot();
            restored = Restored::from_snapshot(self.limits.seen, head, next_id, &seen);
        }
        self.nonce += 1;
        self.solo = Solo::start_with(identity(self.nonce), restored, self.limits, self.rules);
        self.check_disk()
    }

    fn step(&mut self) -> Result<(), String> {
        self.now_ms = (self.now_ms + self.random.below(5) as u64).saturating_sub(2);
        match self.random.below(1000) {
            0..=249 => self.submit(),
            250..=649 => drop(self.poll()?),
            650..=949 => self.sync(),
            950..=959 => self.solo.handle_room(),
            // Refused for space: only a write whose sync is not under way, and nothing of it stays.
            960..=969 => {
                let head = self.disk.iter().rposition(|entry| matches!(entry, Entry::Head(_)));
                if let Some(head) = head.filter(|head| *head >= self.synced) {
                    self.disk.truncate(head);
                    self.syncs.clear();
                    self.solo.handle_disk_full();
                }
            }
            970..=974 => self.solo.handle_low_space(),
            975..=977 => {
                self.solo.handle_failed();
                if self.solo.submit(Ticket(u64::MAX), Vec::new()) != Err(Refusal::Poisoned) {
                    return Err("POISON: it takes items after a failure".into());
                }
                while self.poll()? {}
                self.crash(true)?;
            }
            978..=988 => self.crash(true)?,
            989..=992 => self.crash(false)?,
            _ => while self.poll()? {},
        }
        Ok(())
    }

    /// What the disk says must be an order: dense ids, slots and lives that grow, one id for a key, everything acknowledged.
    fn check_disk(&self) -> Result<(), String> {
        let (mut last, mut slot, mut dt_ms, mut life) = (0, Slot(0), 0, Incarnation(0));
        let (mut keys, mut kept) = (BTreeSet::new(), BTreeMap::new());
        for entry in &self.disk {
            match entry {
                Entry::Head(head) => {
                    if head.slot != slot.next() || head.dt_ms < dt_ms || head.incarnation < life {
                        return Err(format!("HEAD: {head:?} after slot {slot}, life {life}"));
                    }
                    (slot, dt_ms, life) = (head.slot, head.dt_ms, head.incarnation);
                }
                Entry::Item(id, item) => {
                    if item.dedup.is_some_and(|key| !keys.insert(key)) {
                        return Err(format!("KEY: {id} is a second copy"));
                    }
                    kept.insert(id, item);
                }
                Entry::Gone(_) => {}
            }
            if let Entry::Item(id, _) | Entry::Gone(id) = entry {
                if id.0 != last + 1 {
                    return Err(format!("DENSE: {id} after {last}"));
                }
                last = id.0;
            }
        }
        for (body, id) in &self.acknowledged {
            if kept.get(id).is_none_or(|item| item.body != body[..]) {
                return Err(format!("LOST: {id} was acknowledged"));
            }
        }
        Ok(())
    }

    fn run(mut self, steps: usize) -> Result<u64, String> {
        for _ in 0..steps {
            self.step()?;
        }
        self.solo.handle_room();
        self.submit();
        for _ in 0..1000 {
            while self.poll()? {}
            self.sync();
        }
        if let Some((ticket, _)) = self.tickets.iter().find(|(_, (items, answered, _))| answered.len() != items.len()) {
            return Err(format!("LIVENESS: ticket {ticket} is not answered"));
        }
        let length = self.disk.len();
        self.now_ms += 1_000_000;
        if self.poll()? || self.disk.len() != length || self.solo.room_bytes() != self.limits.window_bytes {
            return Err("IDLE: an idle solo is not idle".into());
        }
        self.check_disk()?;
        Ok(self.trace.0 as u64)
    }
}

fn identity(nonce: u128) -> Identity {
    Identity { owner: NodeId(1), ledger: LedgerId(0), nonce }
}

fn schedule(seed: u64, rules: Rules) -> Result<u64, String> {
    World::new(seed, rules).run(200 + (seed % 4) as usize * 200)
}

#[test]
fn nothing_acknowledged_is_lost() {
    let found = faults(2000, |seed| schedule(seed, Rules::default()));
    assert!(found.is_empty(), "{found:#?}");
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
