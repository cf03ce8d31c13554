//! The whole pipeline: 3 sync, 2 groups of 3 ndb, 2 entries, on a network and on machines that fail in every way.
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::cluster::entry::{EntryLimits, Mode};
use crate::cluster::message::{Effect, Message, NdbWrite, Peer};
use crate::cluster::quorum::{Group, Members};
use crate::cluster::resolver::{Outcome, Resolver};
use crate::cluster::rule::{Rule, Rules};
use crate::cluster::seen::SeenLimits;
use crate::cluster::segment::{
    DedupKey, Digest, EventId, GroupId, Incarnation, Item, LedgerEntry, LedgerId, NodeId, Op, Pseq, SegRef, Slot, SyncToken,
    Ticket,
};
use crate::cluster::{Entry, Ndb, Sync};
use crate::faults;
use crate::ledger::{Ballot, Ledger, Vote};
use crate::random::Random;

const SYNCS: usize = 3;
const GROUPS: usize = 2;
const REPLICAS: usize = 3;
const NDBS: usize = GROUPS * REPLICAS;
const ENTRIES: usize = 2;
const MAX_PUBLISHED: u64 = 40;

/// The rules that are switched off.
#[derive(Clone, Copy, Default)]
struct Broken {
    rules: Rules,
    reuses_life: bool,
    forgets_votes: bool,
}

#[derive(Clone, Debug)]
enum Letter {
    Message(Message),
    Vote(Vote),
}

struct SyncNode {
    up: bool,
    machine: Sync,
    ledger: Ledger,
    led: Option<Ballot>,
}

struct NdbNode {
    up: bool,
    machine: Ndb,
    disk: Vec<NdbWrite>,
    synced: usize,
    syncs: Vec<(SyncToken, usize)>,
    /// The fences that it confirmed.
    fenced: BTreeMap<NodeId, Incarnation>,
}

struct EntryNode {
    up: bool,
    machine: Entry,
    is_superseded: bool,
}

/// The name of an item: owner, life, place.
type Name = (NodeId, Incarnation, Pseq);

struct World {
    random: Random,
    broken: Broken,
    mode: Mode,
    members: Members,
    net: Vec<(Peer, Letter)>,
    syncs: Vec<SyncNode>,
    ndbs: Vec<NdbNode>,
    entries: Vec<EntryNode>,
    cut: BTreeSet<Peer>,
    is_healed: bool,
    now_ms: u64,
    next_nonce: u128,
    next_ticket: u64,
    decided: BTreeMap<Slot, LedgerEntry>,
    outcomes: BTreeMap<Slot, Vec<Outcome>>,
    published: BTreeMap<Name, Item>,
    tickets: BTreeMap<Ticket, Name>,
    /// The acknowledged items, with the id if it was told.
    acknowledged: BTreeMap<Name, Option<EventId>>,
    largest_acknowledged: Option<EventId>,
    /// The largest id acknowledged to anybody when this was published.
    floors: BTreeMap<Name, Option<EventId>>,
    granted: BTreeSet<(NodeId, u128)>,
    fault: Option<String>,
    trace: Digest,
}

fn node(peer: Peer) -> usize {
    let (Peer::Entry(node) | Peer::Ndb(node) | Peer::Sync(node)) = peer;
    usize::from(node.0)
}

fn name(number: usize) -> NodeId {
    NodeId(number as u16)
}

fn members() -> Members {
    let group = |g: usize| Group {
        id: GroupId(g as u16),
        members: (g * REPLICAS..(g + 1) * REPLICAS).map(name).collect(),
        write_quorum: 2,
    };
    Members {
        groups: (0..GROUPS).map(group).collect(),
        syncs: (0..SYNCS).map(name).collect(),
        entries: (0..ENTRIES).map(name).collect(),
    }
}

impl World {
    fn new(seed: u64, mode: Mode, broken: Broken) -> Self {
        let (members, rules) = (members(), broken.rules);
        let sync = |n| SyncNode {
            up: true,
            machine: Sync::start_with(name(n), members.clone(), rules),
            ledger: Ledger::new(n, SYNCS),
            led: None,
        };
        let ndb = |n| {
            let machine = Ndb::start_with(name(n), members.clone(), [], rules);
            NdbNode { up: true, machine, disk: Vec::new(), synced: 0, syncs: Vec::new(), fenced: BTreeMap::new() }
        };
        let syncs = (0..SYNCS).map(sync).collect();
        let ndbs = (0..NDBS).map(ndb).collect();
        let mut world = World {
            random: Random(seed),
            broken,
            mode,
            members: members.clone(),
            net: Vec::new(),
            syncs,
            ndbs,
            entries: Vec::new(),
            cut: BTreeSet::new(),
            is_healed: false,
            now_ms: 1,
            next_nonce: 0,
            next_ticket: 0,
            decided: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            published: BTreeMap::new(),
            tickets: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            largest_acknowledged: None,
            floors: BTreeMap::new(),
            granted: BTreeSet::new(),
            fault: None,
            trace: Digest::default(),
        };
        for n in 0..ENTRIES {
            let machine = world.entry(n);
            world.entries.push(EntryNode { up: true, machine, is_superseded: false });
            world.pump_entry(n);
        }
        world
    }

    fn entry(&mut self, n: usize) -> Entry {
        self.next_nonce += 1;
        let limits = EntryLimits { window_bytes: 10_000, segment_bytes: 60, segment_items: 4 };
        let (members, rules) = (self.members.clone(), self.broken.rules);
        Entry::start_with(name(n), LedgerId(0), members, self.mode, limits, self.next_nonce, rules)
    }

    fn fail(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }

    fn post(&mut self, to: Peer, letter: Letter) {
        self.trace = self.trace.bytes(format!("{to:?}{letter:?}").as_bytes());
        self.net.push((to, letter));
    }

    // The effects that machines ask for.

    fn pump_sync(&mut self, n: usize) {
        loop {
            let SyncNode { machine, ledger, led, .. } = &mut self.syncs[n];
            if *led != ledger.ballot() {
                *led = ledger.ballot();
                machine.handle_leading(led.is_some());
            }
            let news = std::mem::take(&mut ledger.news);
            let votes = std::mem::take(&mut ledger.outbox);
            for (slot, entry) in news {
                self.learned(slot, &entry);
                self.syncs[n].machine.handle_decided(slot, entry);
            }
            for (to, vote) in votes {
                self.post(Peer::Sync(name(to)), Letter::Vote(vote));
            }
            let Some(effect) = self.syncs[n].machine.poll_effect(self.now_ms) else { break };
            match effect {
                Effect::Propose(entry) => self.syncs[n].ledger.propose(entry),
                Effect::Teach { to, after } => {
                    let chosen: Vec<_> =
                        self.syncs[n].ledger.chosen.range(after.next()..).take(50).map(|(s, e)| (*s, e.clone())).collect();
                    for (slot, entry) in chosen {
                        self.post(to, Letter::Message(Message::AdvanceSegmentResolved { slot, entry }));
                    }
                }
                other => self.common(other),
            }
        }
    }

    fn pump_ndb(&mut self, n: usize) {
        while let Some(effect) = self.ndbs[n].machine.poll_effect() {
            let ndb = &mut self.ndbs[n];
            match effect {
                Effect::Write(write) => ndb.disk.push(write),
                Effect::Sync { token } => ndb.syncs.push((token, ndb.disk.len())),
                Effect::Send { to, message } => {
                    match &message {
                        Message::EntryFenced { owner, incarnation, .. } => {
                            let fenced = ndb.fenced.entry(*owner).or_default();
                            *fenced = incarnation.max(fenced).to_owned();
                        }
                        Message::TrimAdvanceSegment { key, .. } => {
                            let fenced = ndb.fenced.get(&key.stream.owner).copied().unwrap_or_default();
                            if key.stream.incarnation <= fenced {
                                self.fail(format!("FENCE: ndb {n} trims {key:?} after its fence"));
                            }
                        }
                        _ => {}
                    }
                    self.post(to, Letter::Message(message));
                }
                other => self.common(other),
            }
        }
    }

    fn pump_entry(&mut self, n: usize) {
        while let Some(effect) = self.entries[n].machine.poll_effect() {
            match effect {
                Effect::Acknowledge { ticket, id } => self.acknowledged(ticket, id),
                Effect::Superseded(_) => self.entries[n].is_superseded = true,
                Effect::Joined(_) => {}
                other => self.common(other),
            }
        }
        if self.entries[n].is_superseded {
            self.entries[n].is_superseded = false;
            self.next_nonce += 1;
            self.entries[n].machine.rejoin(self.next_nonce);
            self.pump_entry(n);
        }
    }

    fn common(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.post(to, Letter::Message(message)),
            Effect::Resolved { slot, outcomes } => {
                if *self.outcomes.entry(slot).or_insert_with(|| outcomes.clone()) != outcomes {
                    self.fail(format!("DETERMINISM: slot {slot} brought different things (I2)"));
                }
            }
            Effect::Fatal(breach) => self.fail(format!("BREACH: {breach:?}")),
            other => self.fail(format!("EFFECT: {other:?} from the wrong machine")),
        }
    }

    // Oracles.

    fn learned(&mut self, slot: Slot, entry: &LedgerEntry) {
        if let Some(known) = self.decided.get(&slot) {
            if known != entry {
                self.fail(format!("AGREEMENT: slot {slot} has two values (I1)"));
            }
            return;
        }
        self.decided.insert(slot, entry.clone());
        for op in &entry.ops {
            let segments = match op {
                Op::Segment(x) => std::slice::from_ref(x),
                Op::Join(join) => &join.recovered,
            };
            for x in segments {
                let copies = (0..NDBS).filter(|n| self.holds(*n, x)).count();
                if copies < 2 {
                    self.fail(format!("CERTIFICATE: {:?} was elected with {copies} durable copies (I4)", x.key));
                }
            }
        }
    }

    /// Whether the disk of an ndb has all of a segment.
    fn holds(&self, n: usize, x: &SegRef) -> bool {
        let mut places = BTreeMap::new();
        for write in &self.ndbs[n].disk[..self.ndbs[n].synced] {
            if let NdbWrite::Keep { key, first, items, .. } = write
                && *key == x.key
            {
                places.extend((first.0..).zip(items));
            }
        }
        let items: Vec<&Item> = (x.from.0..=x.to.0).map_while(|pseq| places.get(&pseq).copied()).collect();
        SegRef::of(x.key, x.group, x.from, items).is_some_and(|here| here == *x)
    }

    fn acknowledged(&mut self, ticket: Ticket, id: Option<EventId>) {
        let Some(name) = self.tickets.get(&ticket).copied() else {
            return self.fail(format!("ANSWER: unknown ticket {ticket:?}"));
        };
        let known = self.acknowledged.entry(name).or_default();
        *known = known.or(id);
        self.largest_acknowledged = self.largest_acknowledged.max(id);
    }

    /// Checks the whole order, once all is decided.
    fn check_order(&self) -> Result<(), String> {
        let mut resolver = Resolver::new(SeenLimits::default(), self.broken.rules);
        let (mut ids, mut lasts, mut keys) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut next = EventId::FIRST;
        for (slot, entry) in &self.decided {
            let mut outcomes = Vec::new();
            resolver.apply(*slot, entry, &mut outcomes).map_err(|_| format!("PREFIX: slot {slot} without the one before"))?;
            for outcome in outcomes {
                let (key, from, to, first, is_duplicate) = match outcome {
                    Outcome::Ordered { key, from, to, first_id, .. } => (key, from, to, first_id, false),
                    Outcome::Duplicate { key, pseq, id } => (key, pseq, pseq, id, true),
                    Outcome::Gone { id, .. } if id == next => {
                        next = next.plus(1);
                        continue;
                    }
                    Outcome::Gone { id, .. } => return Err(format!("DENSE: end {id} where {next} is next (I7)")),
                    _ => continue,
                };
                for pseq in from.0..=to.0 {
                    let id = first.plus(pseq - from.0);
                    let name = (key.stream.owner, key.stream.incarnation, Pseq(pseq));
                    let item = self.published.get(&name).ok_or("INVENTED: an item nobody published")?;
                    let last = lasts.entry((name.0, name.1)).or_insert(0);
                    if pseq != *last + 1 {
                        return Err(format!("FIFO: {name:?} after {last} (I5)"));
                    }
                    *last = pseq;
                    ids.insert(name, id);
                    let first = item.dedup.clone().map(|key| *keys.entry(key).or_insert(id));
                    if first.is_some_and(|first| first != id) || (is_duplicate && first.is_none()) {
                        return Err(format!("KEY: {name:?} got {id}, its key has {first:?} (I5)"));
                    }
                    if !is_duplicate {
                        if id != next {
                            return Err(format!("DENSE: {id} where {next} is next (I7)"));
                        }
                        next = next.plus(1);
                        if self.mode == Mode::Ordered && self.floors[&name] >= Some(id) {
                            return Err(format!(
                                "REAL-TIME: {name:?} got {id}, {:?} was acknowledged before (I8)",
                                self.floors[&name]
                            ));
                        }
                    }
                }
            }
        }
        for (name, told) in &self.acknowledged {
            match ids.get(name) {
                None => return Err(format!("LOST: {name:?} was acknowledged (I6)")),
                Some(id) if told.is_some_and(|told| told != *id) => {
                    return Err(format!("ID: {name:?} was told {told:?}, has {id}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// A nonce is granted once (I9).
    fn check_grants(&mut self) {
        let grants: Vec<(NodeId, u128)> = self
            .outcomes
            .values()
            .flatten()
            .filter_map(|outcome| match outcome {
                Outcome::Joined { owner, nonce, .. } => Some((*owner, *nonce)),
                _ => None,
            })
            .collect();
        for grant in grants {
            if !self.granted.insert(grant) {
                self.fail(format!("LIFE: {grant:?} was granted twice (I9)"));
            }
        }
    }

    // The events of a run.

    fn publish(&mut self, n: usize) {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let key = Bytes::copy_from_slice(&[self.random.below(12) as u8]);
        let dedup = self.random.chance(150).then_some(DedupKey { owner: "one".into(), key });
        let body = Bytes::copy_from_slice(&self.next_ticket.to_le_bytes());
        let item = Item { body, dedup, is_control: self.random.chance(100), weight: 10 };
        let machine = &mut self.entries[n].machine;
        let Some(life) = machine.incarnation() else { return };
        if let Ok(pseq) = machine.submit(ticket, item.clone()) {
            let name = (name(n), life, pseq);
            self.tickets.insert(ticket, name);
            self.floors.insert(name, self.largest_acknowledged);
            if self.published.insert(name, item).is_some() {
                self.fail(format!("CONTENT: {name:?} was published twice (I3)"));
            }
        }
    }

    fn deliver(&mut self) {
        if self.net.is_empty() {
            return;
        }
        let at = self.random.below(self.net.len());
        let (to, letter) = self.net.swap_remove(at);
        if !self.is_healed {
            if self.random.chance(60) {
                return;
            }
            if self.random.chance(40) {
                self.net.push((to, letter.clone()));
            }
            if self.cut.contains(&to) {
                if self.random.chance(500) {
                    self.net.push((to, letter)); // Held up rather than lost.
                }
                return;
            }
        }
        if self.net.len() > 4000 {
            self.net.truncate(3000);
        }
        self.hand_over(to, letter);
    }

    fn hand_over(&mut self, to: Peer, letter: Letter) {
        let n = node(to);
        match (to, letter) {
            (Peer::Sync(_), letter) if self.syncs[n].up => {
                match letter {
                    Letter::Message(message) => self.syncs[n].machine.handle_message(message),
                    Letter::Vote(vote) => self.syncs[n].ledger.handle(vote),
                }
                self.pump_sync(n);
            }
            (Peer::Ndb(_), Letter::Message(message)) if self.ndbs[n].up => {
                self.ndbs[n].machine.handle_message(message);
                self.pump_ndb(n);
            }
            (Peer::Entry(_), Letter::Message(message)) if self.entries[n].up => {
                self.entries[n].machine.handle_message(message);
                self.pump_entry(n);
            }
            _ => {}
        }
    }

    fn sync_disk(&mut self, n: usize) {
        let ndb = &mut self.ndbs[n];
        if ndb.up && !ndb.syncs.is_empty() {
            let (token, length) = ndb.syncs.remove(0);
            ndb.synced = length;
            ndb.machine.handle_synced(token);
            self.pump_ndb(n);
        }
    }

    fn tick(&mut self) {
        match self.random.below(3) {
            0 => {
                let n = self.random.below(SYNCS);
                if self.syncs[n].up {
                    self.syncs[n].machine.handle_tick();
                    self.syncs[n].ledger.send_again();
                    // The consensus library keeps its nodes up to date.
                    let from = self.random.below(SYNCS);
                    if self.is_healed || !self.cut.contains(&Peer::Sync(name(n))) {
                        for (slot, entry) in self.syncs[from].ledger.chosen.clone() {
                            self.syncs[n].ledger.handle(Vote::Chosen { slot, entry });
                        }
                    }
                    self.pump_sync(n);
                }
            }
            1 => {
                let n = self.random.below(NDBS);
                if self.ndbs[n].up {
                    self.ndbs[n].machine.handle_tick();
                    self.pump_ndb(n);
                }
            }
            _ => {
                let n = self.random.below(ENTRIES);
                if self.entries[n].up {
                    self.entries[n].machine.handle_tick();
                    self.pump_entry(n);
                }
            }
        }
    }

    fn claim(&mut self) {
        let n = self.random.below(SYNCS);
        let has_leader = self.syncs.iter().any(|sync| sync.up && sync.ledger.leads());
        let chance = if has_leader { if self.is_healed { 0 } else { 250 } } else { 1000 };
        if self.syncs[n].up && self.random.chance(chance) {
            self.syncs[n].ledger.claim();
            self.pump_sync(n);
        }
    }

    fn start_sync(&mut self, n: usize) {
        let rules = self.broken.rules;
        let sync = &mut self.syncs[n];
        if !sync.up {
            sync.up = true;
            sync.led = None;
            sync.machine = Sync::start_with(name(n), self.members.clone(), rules);
            for (slot, entry) in sync.ledger.chosen.clone() {
                sync.machine.handle_decided(slot, entry);
            }
            self.pump_sync(n);
        }
    }

    fn start_ndb(&mut self, n: usize) {
        let rules = self.broken.rules;
        let ndb = &mut self.ndbs[n];
        if !ndb.up {
            ndb.up = true;
            ndb.machine = Ndb::start_with(name(n), self.members.clone(), ndb.disk.clone(), rules);
            self.pump_ndb(n);
        }
    }

    fn start_entry(&mut self, n: usize) {
        if !self.entries[n].up {
            let life = self.entries[n].machine.incarnation();
            self.entries[n] = EntryNode { up: true, machine: self.entry(n), is_superseded: false };
            if let Some(life) = life.filter(|_| self.broken.reuses_life) {
                self.entries[n].machine.reuse(life);
            }
            self.pump_entry(n);
        }
    }

    fn break_something(&mut self) {
        if self.random.chance(350) {
            let n = self.random.below(SYNCS + NDBS + ENTRIES);
            let peer = match n {
                0..SYNCS => Peer::Sync(name(n)),
                _ if n < SYNCS + NDBS => Peer::Ndb(name(n - SYNCS)),
                _ => Peer::Entry(name(n - SYNCS - NDBS)),
            };
            if !self.cut.remove(&peer) && self.random.chance(500) {
                self.cut.insert(peer);
            }
            return;
        }
        let (s, n, e) = (self.random.below(SYNCS), self.random.below(NDBS), self.random.below(ENTRIES));
        match self.random.below(10) {
            0 => {
                self.syncs[s].up = false;
                self.syncs[s].ledger.crash(self.broken.forgets_votes);
            }
            1 | 2 => self.start_sync(s),
            3 if self.ndbs[n].up => {
                // Power loss: a prefix of what was not synced stays.
                let ndb = &mut self.ndbs[n];
                ndb.up = false;
                let lost = self.random.below(ndb.disk.len() - ndb.synced + 1);
                ndb.disk.truncate(ndb.disk.len() - lost);
                ndb.synced = ndb.disk.len();
                ndb.syncs.clear();
            }
            4..=6 => self.start_ndb(n),
            7 if self.random.chance(400) => self.entries[e].up = false,
            8 | 9 => self.start_entry(e),
            _ => {}
        }
    }

    fn step(&mut self) {
        self.now_ms += self.random.below(3) as u64;
        match self.random.below(1000) {
            0..=619 => (0..=self.net.len() / 60).for_each(|_| self.deliver()),
            620..=739 => {
                let n = self.random.below(NDBS);
                self.sync_disk(n);
            }
            740..=829 => {
                let n = self.random.below(ENTRIES);
                if !self.is_healed && self.entries[n].up && (self.published.len() as u64) < MAX_PUBLISHED * ENTRIES as u64 {
                    self.publish(n);
                    if self.random.chance(600) {
                        self.pump_entry(n);
                    }
                }
            }
            830..=869 => self.claim(),
            870..=939 => self.tick(),
            940..=969 => {
                let n = self.random.below(ENTRIES);
                if self.entries[n].up {
                    self.pump_entry(n);
                }
            }
            _ if !self.is_healed => self.break_something(),
            _ => {}
        }
    }

    fn has_converged(&self) -> bool {
        let applied = |slot: Slot| slot.0 == self.decided.len() as u64;
        self.entries.iter().all(|entry| entry.machine.incarnation().is_some() && entry.machine.is_idle())
            && self.ndbs.iter().all(|ndb| applied(ndb.machine.resolver().applied()))
            && self.entries.iter().all(|entry| applied(entry.machine.resolver().applied()))
            && self.syncs.iter().all(|sync| applied(sync.machine.resolver().applied()))
    }

    fn run(mut self, steps: usize) -> Result<u64, String> {
        for _ in 0..steps {
            self.step();
            self.fault.take().map_or(Ok(()), Err)?;
        }
        self.is_healed = true;
        (0..SYNCS).for_each(|n| self.start_sync(n));
        (0..NDBS).for_each(|n| self.start_ndb(n));
        (0..ENTRIES).for_each(|n| self.start_entry(n));
        for _ in 0..60 {
            for _ in 0..1000 {
                self.step();
                self.fault.take().map_or(Ok(()), Err)?;
            }
            if self.has_converged() {
                break;
            }
        }
        self.check_grants();
        self.fault.take().map_or(Ok(()), Err)?;
        self.check_order()?;
        if !self.has_converged() {
            return Err("LIVENESS: it does not converge".into());
        }
        let digests: BTreeSet<Digest> = self.ndbs.iter().map(|ndb| ndb.machine.resolver().digest()).collect();
        if digests.len() != 1 {
            return Err("DETERMINISM: learners differ (I2)".into());
        }
        if std::env::var("SIM_SHOW").is_ok() {
            let lives: u32 = self.entries.iter().map(|entry| entry.machine.incarnation().unwrap_or_default().0).sum();
            let (slots, published, acknowledged) = (self.decided.len(), self.published.len(), self.acknowledged.len());
            println!("{slots} slots, {published} published, {acknowledged} acknowledged, {lives} lives");
        }
        Ok(self.trace.0 as u64)
    }
}

fn schedule(seed: u64, mode: Mode, broken: Broken) -> Result<u64, String> {
    World::new(seed, mode, broken).run(800 + (seed % 5) as usize * 700)
}

#[test]
fn ordered_mode_holds_its_invariants() {
    let found = faults(150, |seed| schedule(seed, Mode::Ordered, Broken::default()));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn durable_mode_holds_its_invariants() {
    let found = faults(150, |seed| schedule(seed, Mode::Durable, Broken::default()));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..4 {
        let run = || schedule(seed, Mode::Ordered, Broken::default());
        assert_eq!(run(), run());
    }
}

/// A rule that is switched off must be noticed within so many schedules.
fn is_noticed(what: &str, mode: Mode, broken: Broken, runs: u64) {
    let found = (1..=runs).find_map(|seed| schedule(seed, mode, broken).err().map(|fault| (seed, fault)));
    if std::env::var("SIM_SHOW").is_ok() {
        println!("{what} {mode:?}: {found:?}");
    }
    assert!(found.is_some(), "{what} was not missed in {runs} schedules");
}

fn without(rule: Rule) -> Broken {
    Broken { rules: Rules::without(rule), ..Broken::default() }
}

/// `Rule::AtomicJoin` has a directed test beside `cluster::sync`: chance hardly ever meets it.
#[test]
fn broken_rules_are_noticed() {
    for (rule, mode) in [
        (Rule::SyncFirst, Mode::Ordered),
        (Rule::Certificate, Mode::Ordered),
        (Rule::WriteQuorum, Mode::Ordered),
        (Rule::HoldBack, Mode::Ordered),
        (Rule::DropOrdered, Mode::Ordered),
        (Rule::KeyedOnce, Mode::Ordered),
        (Rule::SlotOrder, Mode::Ordered),
        (Rule::StaleInit, Mode::Ordered),
        (Rule::Fence, Mode::Durable),
        (Rule::FenceQuorum, Mode::Durable),
        (Rule::CumulativeAck, Mode::Durable),
        (Rule::NoTrimAfterFence, Mode::Durable),
    ] {
        is_noticed(&format!("{rule:?}"), mode, without(rule), 300);
    }
}

#[test]
fn a_life_used_twice_is_noticed() {
    is_noticed("reuse of a life", Mode::Ordered, Broken { reuses_life: true, ..Broken::default() }, 200);
}

#[test]
fn a_ledger_that_forgets_is_noticed() {
    is_noticed("a forgotten vote", Mode::Ordered, Broken { forgets_votes: true, ..Broken::default() }, 500);
}
