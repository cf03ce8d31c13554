//! One router with its history, in memory or on a disk that loses what was not synced, and everything that its connections are told.
use std::collections::{BTreeMap, VecDeque};

use crate::cluster::seen::SeenLimits;
use crate::cluster::segment::SyncToken;
use crate::cluster::solo::{Restored, Solo, SoloEffect, SoloLimits};
use crate::model::command::Open;
use crate::model::query::{Page, Query, ReadTicket};
use crate::model::record::{DedupKey, Kind, Ticket};
use crate::model::{Command, ConnectionId, Delivery, EventId, Item, Limits, Payload, Reason, Record, SessionId};
use crate::random::Random;
use crate::router::{Effect, Piece, PieceKey, Router};
use crate::simulated_disk::{SimulatedDisk, SimulatedFile};
use crate::solo::read_back;
use crate::store::log::{Config, Durability, Options, SyncJob};
use crate::store::{Error, Log, Store};

const REALM: &str = "realm1";

/// Where records go.
pub enum History {
    /// Nowhere: a place is given at once, and the router knows that nothing can be read.
    None,
    /// Into a list, one at a time. Those that wait are lost with the process.
    Memory(VecDeque<(Ticket, Item)>),
    /// Through the pipeline into the log.
    Disk(Box<Disk>),
}

/// The log and the pipeline before it.
pub struct Disk {
    disk: SimulatedDisk,
    log: Log<SimulatedDisk>,
    solo: Solo,
    syncs: VecDeque<(SyncToken, SyncJob<SimulatedFile>)>,
    items: BTreeMap<Ticket, Item>,
}

/// A change of fate.
enum Settled {
    Appended(Ticket, EventId, u64, bool),
    Gone(EventId, u64),
}

/// The disk has no power: the process is over.
struct Off;

impl From<Error> for Off {
    fn from(_: Error) -> Self {
        Off
    }
}

fn config() -> Config {
    Config { segment_bytes: 8_192, reserve_bytes: 0, cached_bytes: 512, durability: Durability::Sync, ..Config::default() }
}

fn solo(restored: Restored) -> Solo {
    Solo::start(REALM.into(), restored, SoloLimits { batch_items: 3, ..SoloLimits::default() })
}

impl Disk {
    fn open(disk: &SimulatedDisk) -> Result<Log<SimulatedDisk>, Error> {
        Log::open(disk.clone(), config(), Options { new_identity: [7; 16], ..Options::default() })
    }

    fn new(seed: u64) -> Self {
        let disk = SimulatedDisk::new(seed);
        let log = Disk::open(&disk).unwrap();
        let solo = solo(Restored::new(SeenLimits::default()));
        Disk { disk, log, solo, syncs: VecDeque::new(), items: BTreeMap::new() }
    }

    /// One thing done; `None` where nothing is to be done.
    fn step(&mut self, now_ms: u64) -> Result<Option<Vec<(Settled, Item)>>, Off> {
        let Some(effect) = self.solo.poll_effect(now_ms) else {
            let Some((token, job)) = self.syncs.pop_front() else { return Ok(None) };
            self.log.finish_sync(job.run())?;
            self.solo.handle_synced(token);
            return Ok(Some(Vec::new()));
        };
        match effect {
            SoloEffect::Write(write) => assert!(write.has(&self.log.write(&write.items)?)),
            SoloEffect::Sync { token } => self.syncs.push_back((token, self.log.start_sync()?)),
            SoloEffect::Ordered { ticket, first_id, dt_ms, is_duplicate, .. } => {
                let item = self.items.remove(&ticket).unwrap();
                return Ok(Some(vec![(Settled::Appended(ticket, first_id, dt_ms, is_duplicate), item)]));
            }
            SoloEffect::Gone { id, dt_ms, .. } => return Ok(Some(vec![(Settled::Gone(id, dt_ms), gone(dt_ms))])),
            SoloEffect::Refused { reason, .. } => panic!("{reason:?}"),
            SoloEffect::Joined(_) => {}
        }
        Ok(Some(Vec::new()))
    }

    /// The process ends, by itself or with the power; what is there then.
    fn end(&mut self, random: &mut Random) -> Vec<Record> {
        self.syncs.clear();
        self.items.clear();
        loop {
            if random.chance(500) {
                self.disk.end_process()
            } else {
                self.disk.cut_power()
            }
            let Ok(log) = Disk::open(&self.disk) else { continue };
            self.log = log;
            let Ok(records) = read_back(&self.log, 1_000) else { continue };
            let mut restored = Restored::new(SeenLimits::default());
            records.iter().for_each(|record| restored.handle_record(record).unwrap());
            self.solo = solo(restored);
            return records;
        }
    }
}

fn gone(time_ms: u64) -> Item {
    Item::of_kind(Kind::GONE, REALM.into(), time_ms, Payload::empty())
}

pub struct House {
    router: Router,
    pub random: Random,
    pub now_ms: u64,
    /// The records that have their places, in the order of ids.
    pub records: Vec<Record>,
    keys: BTreeMap<DedupKey, EventId>,
    history: History,
    reads: VecDeque<(ReadTicket, Query)>,
    /// The inbox of each connection, each thing with the number of records by then.
    inboxes: BTreeMap<ConnectionId, VecDeque<(Delivery, usize)>>,
    connections: u64,
    /// The state of the router that is kept, and the number of records that it is of.
    kept: BTreeMap<Vec<u8>, Piece>,
    kept_records: usize,
    /// The power has gone off.
    is_off: bool,
    pub restarts: u64,
}

impl House {
    pub fn new(seed: u64, kind: usize) -> Self {
        let history = match kind {
            0 => History::None,
            1 | 3 => History::Memory(VecDeque::new()),
            _ => History::Disk(Box::new(Disk::new(seed))),
        };
        let mut house = House {
            router: Router::new(Limits::default(), seed),
            random: Random(seed),
            now_ms: 1_000_000,
            records: Vec::new(),
            keys: BTreeMap::new(),
            history,
            reads: VecDeque::new(),
            inboxes: BTreeMap::new(),
            connections: 0,
            kept: BTreeMap::new(),
            kept_records: 0,
            is_off: false,
            restarts: 0,
        };
        if house.has_history() {
            house.router.keep_history();
            house.router.track_changes();
        }
        house
    }

    /// True if a restart finds anything.
    pub fn has_history(&self) -> bool {
        !matches!(self.history, History::None)
    }

    /// A connection that asks for a session.
    pub fn connect(&mut self, open: Open) -> ConnectionId {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let session = SessionId((self.random.number() >> 11) + 1);
        self.send(connection, Command::Open(Box::new(Open { session, ..open })));
        connection
    }

    pub fn send(&mut self, connection: ConnectionId, command: Command) {
        self.router.handle(connection, command, self.now_ms);
        self.collect();
    }

    /// The connection's outbox is empty.
    pub fn drain(&mut self, connection: ConnectionId) {
        self.router.handle_outbox_drained(connection);
        self.collect();
    }

    pub fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        self.router.handle_timeout(self.now_ms);
        self.collect();
    }

    /// The next thing that a connection was told.
    pub fn told(&mut self, connection: ConnectionId) -> Option<(Delivery, usize)> {
        self.inboxes.get_mut(&connection)?.pop_front()
    }

    fn collect(&mut self) {
        while let Some(effect) = self.router.poll_effect() {
            match effect {
                Effect::Deliver(connection, delivery) => {
                    let told = (delivery, self.records.len());
                    self.inboxes.entry(connection).or_default().push_back(told);
                }
                Effect::Append(ticket, draft) => self.put(ticket, draft.into_item(REALM.into())),
                Effect::Read(ticket, query, _) => self.reads.push_back((ticket, *query)),
                Effect::Settled(_) => {}
            }
        }
    }

    fn put(&mut self, ticket: Ticket, item: Item) {
        match &mut self.history {
            History::None => self.place(ticket, item),
            History::Memory(waiting) => waiting.push_back((ticket, item)),
            History::Disk(disk) => {
                disk.solo.submit(ticket, vec![item.clone()]).unwrap();
                disk.items.insert(ticket, item);
            }
        }
    }

    /// Gives the next place, unless its key has one.
    fn place(&mut self, ticket: Ticket, mut item: Item) {
        item.time_ms = self.now_ms;
        let next = EventId::new(self.records.len() as u64 + 1).unwrap();
        let known = item.dedup.as_ref().and_then(|key| self.keys.get(key)).copied();
        if known.is_none() {
            self.keys.extend(item.dedup.clone().map(|key| (key, next)));
            self.records.push(Record { id: next, item });
        }
        self.router.handle_appended(ticket, known.unwrap_or(next), self.now_ms, known.is_some());
    }

    /// One thing gets on; false if there was nothing.
    pub fn step(&mut self) -> bool {
        if !self.reads.is_empty() && self.random.chance(500) {
            return self.read();
        }
        let settled = match &mut self.history {
            History::None => None,
            History::Memory(waiting) => {
                let Some((ticket, item)) = waiting.pop_front() else { return self.read() };
                self.place(ticket, item);
                self.collect();
                return true;
            }
            History::Disk(disk) => match disk.step(self.now_ms) {
                Ok(settled) => settled,
                Err(Off) => {
                    self.is_off = true;
                    return true;
                }
            },
        };
        let Some(settled) = settled else { return self.read() };
        for (settled, item) in settled {
            self.settle(settled, item);
        }
        self.collect();
        true
    }

    fn settle(&mut self, settled: Settled, item: Item) {
        match settled {
            Settled::Appended(ticket, id, time_ms, is_duplicate) => {
                if !is_duplicate {
                    assert_eq!(id.value(), self.records.len() as u64 + 1);
                    self.records.push(Record { id, item: Item { time_ms, ..item } });
                }
                self.router.handle_appended(ticket, id, time_ms, is_duplicate);
            }
            Settled::Gone(id, time_ms) => {
                assert_eq!(id.value(), self.records.len() as u64 + 1);
                self.records.push(Record { id, item });
                self.router.handle_gone(id, time_ms);
            }
        }
    }

    fn read(&mut self) -> bool {
        let Some((ticket, query)) = self.reads.pop_front() else { return false };
        let page = if self.has_history() { Ok(page_of(&self.records, &query)) } else { Err(Reason::NoHistory) };
        self.router.handle_history(ticket, page);
        self.collect();
        true
    }

    /// The disk has no room for what comes next.
    pub fn refuse(&mut self) {
        if let History::Memory(waiting) = &mut self.history
            && let Some((ticket, _)) = waiting.pop_front()
        {
            self.router.handle_append_refused(ticket, Reason::NoSpace);
            self.collect();
        }
    }

    /// Keeps the state of the realm as it is.
    pub fn keep(&mut self) {
        if self.has_history() && self.router.as_of().map_or(0, EventId::value) == self.records.len() as u64 {
            for (key, piece) in self.router.take_changes() {
                match piece {
                    Some(piece) => drop(self.kept.insert(key.to_bytes(), piece)),
                    None => drop(self.kept.remove(&key.to_bytes())),
                }
            }
            self.kept_records = self.records.len();
        }
    }

    /// The power goes off soon.
    pub fn cut_power_soon(&mut self) {
        let operations = self.random.below(40) as u64;
        if let History::Disk(disk) = &self.history {
            disk.disk.cut_power_after(operations);
        }
    }

    /// True once the power has gone off: nothing but a restart helps.
    pub fn is_off(&self) -> bool {
        self.is_off
    }

    /// The process ends, and another one goes on with what it finds.
    pub fn restart(&mut self) -> Result<(), String> {
        self.restarts += 1;
        self.is_off = false;
        self.reads.clear();
        self.inboxes.clear();
        match &mut self.history {
            History::None => return Err("HOUSE: there is nothing to be found".into()),
            History::Memory(waiting) => waiting.clear(),
            History::Disk(disk) => {
                let found = disk.end(&mut self.random);
                if found.len() < self.records.len() {
                    return Err(format!("HOUSE: {} records were told of, {} are there", self.records.len(), found.len()));
                }
                self.records = found;
            }
        }
        self.reread();
        // A client that comes is let in when the end of the process before has its place, and what follows from that.
        loop {
            if self.random.chance(3) {
                return self.restart();
            }
            if !self.step() {
                return Ok(());
            }
            if self.is_off {
                return self.restart();
            }
        }
    }

    fn reread(&mut self) {
        self.router = Router::new(Limits::default(), self.random.number());
        self.router.keep_history();
        let is_kept = self.kept_records > 0 && self.random.chance(500);
        if is_kept {
            for (key, piece) in &self.kept {
                let restored = PieceKey::from_bytes(key).and_then(|key| self.router.restore(&key, piece));
                assert!(restored.is_some(), "{key:?} {piece:?}");
            }
            let last = &self.records[self.kept_records - 1];
            self.router.resume_behind(last.id, last.item.time_ms);
        } else {
            (self.kept, self.kept_records) = (BTreeMap::new(), 0);
        }
        self.router.track_changes();
        for record in self.records.iter().skip(self.kept_records) {
            self.router.handle_replayed(record).unwrap();
        }
        self.router.finish_replay(self.now_ms);
        self.router.handle_timeout(self.now_ms);
        if let History::Memory(_) = self.history {
            let id = EventId::new(self.records.len() as u64 + 1).unwrap();
            self.settle(Settled::Gone(id, self.now_ms), gone(self.now_ms));
        }
        self.collect();
    }
}

/// The answer of a log.
fn page_of(records: &[Record], query: &Query) -> Page {
    let (after, before) = (query.after.map_or(0, EventId::value), query.before.map_or(u64::MAX, EventId::value));
    let mut page = Page { is_end: true, cursor: query.after, ..Page::default() };
    for record in records.iter().filter(|record| record.id.value() > after && record.id.value() < before) {
        if page.records.len() >= query.bounded_limit().min(7) {
            page.is_end = false;
            break;
        }
        page.cursor = Some(record.id);
        if query.covers(&record.item) {
            page.records.push(record.clone());
        }
    }
    page
}
