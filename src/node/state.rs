//! The state of a realm at rest, as entries of bytes: from the router and the pipeline, and back.
//!
//! An entry is a piece of the router's state ([`PieceKey`]) or what the pipeline goes on from: `M`, and for each owner of keys `K` and
//! its name. In the order of their keys entries can be restored. The projections hold them, and so does a snapshot.
use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::segment::{DedupKey, Incarnation};
use crate::cluster::solo::{Restored, SoloLimits, SoloState};
use crate::model::limits::MAX_NAMED_RECORDS;
use crate::model::record::Kind;
use crate::model::{EventId, Limits, Record};
use crate::router::Router;
use crate::router::{Piece, PieceKey};
use crate::store::codec;
use crate::wire::payload;

use super::value;

/// Comes before all pieces of the router, whose tags are small letters.
const PIPELINE: &[u8] = b"M";
const OWNER: u8 = b'K';

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// A router that reads values as the processes of this node do.
pub fn new_router(limits: Limits, seed: u64) -> Router {
    let mut router = Router::new(limits, seed);
    router.convert_with(payload::to_args);
    router.read_values_with(value::of);
    router
}

/// Records that could not be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UnreadRecords {
    /// The first of them, [`MAX_NAMED_RECORDS`] at most.
    pub first: Vec<(EventId, Kind)>,
    /// Their number in all.
    pub count: u64,
}

impl UnreadRecords {
    fn note(&mut self, record: &Record) {
        self.count += 1;
        if self.first.len() < MAX_NAMED_RECORDS {
            self.first.push((record.id, record.item.kind));
        }
    }

    /// One line of the log about each that is named, and one about all others.
    pub fn lines(&self, realm: &str) -> Vec<String> {
        let advice = "what it changed is missing; if a later Corsac wrote it, start that one";
        let line =
            |(id, kind): &(EventId, Kind)| format!("record {id} of realm {realm} ({}) cannot be read: {advice}", kind.noun());
        let mut lines: Vec<String> = self.first.iter().map(line).collect();
        let others = self.count - self.first.len() as u64;
        if others > 0 {
            lines.push(format!("{others} more records of realm {realm} cannot be read; $SYS counts them all"));
        }
        lines
    }
}

/// A realm that is put together again, first from entries, then from records.
pub struct Rebuilt {
    /// The realm as its clients see it.
    pub router: Router,
    /// The place that its pipeline goes on from; complete once [`Rebuilt::finish`] says so.
    pub restored: Restored,
    /// Owners of keys that were in records.
    pub owners: HashSet<Arc<str>>,
    /// Records whose effect is missing.
    pub unreadable: UnreadRecords,
    pipeline: Option<(EventId, u64, Incarnation)>,
    seen: Vec<(DedupKey, EventId)>,
}

impl Rebuilt {
    /// Nothing of it yet.
    pub fn new(limits: Limits, seed: u64) -> Self {
        let mut router = new_router(limits, seed);
        router.keep_history();
        let restored = Restored::new(SoloLimits::default().seen);
        let (owners, unreadable) = Default::default();
        Rebuilt { router, restored, owners, unreadable, pipeline: None, seen: Vec::new() }
    }

    /// Takes an entry in; `None` if it cannot be one.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key.split_first()? {
            _ if key == PIPELINE => {
                let [next_id, dt_ms, incarnation] = numbers(value)?;
                let incarnation = Incarnation(u32::try_from(incarnation).ok()?);
                self.pipeline = Some((EventId::new(next_id)?, dt_ms, incarnation));
            }
            (&OWNER, owner) => {
                let owner: Arc<str> = std::str::from_utf8(owner).ok()?.into();
                let mut rest = value;
                while !rest.is_empty() {
                    let (id, key);
                    (id, rest) = rest.split_first_chunk::<8>()?;
                    (key, rest) = bytes_from(rest)?;
                    let key = DedupKey { owner: owner.clone(), key: Bytes::copy_from_slice(key) };
                    self.seen.push((key, EventId::new(u64::from_le_bytes(*id))?));
                }
            }
            _ => self.router.restore(&PieceKey::from_bytes(key)?, &decode(value)?)?,
        }
        Some(())
    }

    /// All entries are there, and are as of this id; `None` if that does not fit.
    pub fn finish(&mut self, as_of: EventId) -> Option<()> {
        let (next_id, dt_ms, incarnation) = self.pipeline.take().filter(|(next_id, ..)| *next_id == as_of.plus(1))?;
        let mut seen = std::mem::take(&mut self.seen);
        seen.sort_unstable_by_key(|(_, id)| *id);
        let state = SoloState { next_id, dt_ms, incarnation, seen };
        self.restored = Restored::from_state(SoloLimits::default().seen, &state);
        self.router.resume_behind(as_of, dt_ms);
        Some(())
    }

    /// The next record of the realm; `None` if one is missing before it.
    pub fn replay(&mut self, record: &Record) -> Option<()> {
        self.restored.handle_record(record).ok()?;
        if let Some(key) = &record.item.dedup
            && !self.owners.contains(&key.owner)
        {
            self.owners.insert(key.owner.clone());
        }
        if self.router.handle_replayed(record).is_err() {
            self.unreadable.note(record);
        }
        Some(())
    }

    /// No entry is kept yet.
    pub fn note_all_changed(&mut self) {
        self.router.note_all_changed();
        self.owners.extend(self.restored.state().seen.into_iter().map(|(key, _)| key.owner));
    }

    /// Every entry of the realm as it is now, made when it is asked for.
    pub fn entries(self) -> impl Iterator<Item = Entry> {
        let Rebuilt { mut router, restored, .. } = self;
        let pieces = router.pieces().into_iter().filter_map(move |key| Some((key.to_bytes(), encode(&router.piece(&key)?))));
        entries_of(&restored.state()).into_iter().chain(pieces)
    }
}

/// The state that the pipeline goes on from, as entries.
pub fn entries_of(state: &SoloState) -> Vec<Entry> {
    let mut by_owner: std::collections::BTreeMap<&Arc<str>, Vec<(&Bytes, EventId)>> = Default::default();
    for (key, id) in &state.seen {
        by_owner.entry(&key.owner).or_default().push((&key.key, *id));
    }
    let owners = by_owner.into_iter().map(|(owner, keys)| owner_entry(owner, keys.into_iter()));
    let pipeline = pipeline_entry(state.next_id, state.dt_ms, state.incarnation);
    // `K` comes before `M`.
    owners.chain([pipeline]).collect()
}

/// Where the pipeline goes on.
pub fn pipeline_entry(next_id: EventId, dt_ms: u64, incarnation: Incarnation) -> Entry {
    let value = [next_id.value(), dt_ms, u64::from(incarnation.0)].iter().flat_map(|number| number.to_le_bytes()).collect();
    (PIPELINE.to_vec(), value)
}

/// The keys of one owner, by ascending id.
pub fn owner_entry<'a>(owner: &str, keys: impl Iterator<Item = (&'a Bytes, EventId)>) -> Entry {
    let mut value = Vec::new();
    for (key, id) in keys {
        value.extend_from_slice(&id.value().to_le_bytes());
        put_bytes(&mut value, key);
    }
    ([&[OWNER], owner.as_bytes()].concat(), value)
}

/// A piece as the value of an entry.
pub fn encode(piece: &Piece) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_bytes(&mut bytes, &piece.head);
    if let Some(record) = &piece.record {
        codec::encode(&record.item, record.id, &mut bytes);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Piece> {
    let (head, record) = bytes_from(bytes)?;
    let head = Bytes::copy_from_slice(head);
    let record = if record.is_empty() { None } else { Some(codec::decode(record)?) };
    Some(Piece { head, record })
}

fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let numbers: Vec<u64> = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
    numbers.try_into().ok().filter(|_| rest.is_empty())
}

/// Bytes behind their length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The bytes that [`put_bytes`] wrote, and those behind them.
pub fn bytes_from(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::Flags;
    use crate::model::{Item, Payload, Topic};

    #[test]
    fn entries_lead_back_to_where_they_came_from() {
        let mut rebuilt = Rebuilt::new(Limits::default(), 1);
        let id = |number| EventId::new(number).unwrap();
        let opened =
            r#"{"Opened":{"client":"c","session":7,"authid":"u","authrole":"r","protocol":5,"expiry_s":60,"will_delay_s":0}}"#;
        let mut items = vec![Item::of_kind(Kind::SESSION, "r".into(), 1, Payload::Bytes(opened.into()))];
        for number in 2..5 {
            let topic = Topic::from_mqtt(&format!("t/{number}")).unwrap();
            let mut item = Item::publication("r".into(), number, topic, Payload::Bytes("x".into()));
            item.flags = Flags::RETAIN;
            item.dedup = Some(DedupKey { owner: "o".into(), key: number.to_string().into() });
            items.push(item);
        }
        for (number, item) in (1..).zip(items) {
            let record = Record { id: id(number), item };
            rebuilt.restored.handle_record(&record).unwrap();
            rebuilt.router.handle_replayed(&record).unwrap();
        }
        let state = rebuilt.restored.state();
        let entries: Vec<Entry> = rebuilt.entries().collect();
        assert!(entries.is_sorted() && entries.len() == 2 + 3 + 1, "{entries:?}");
        let mut again = Rebuilt::new(Limits::default(), 1);
        assert!(entries.iter().all(|(key, value)| again.take(key, value).is_some()));
        assert_eq!((again.finish(id(3)), again.finish(id(4))), (None, None), "as of something else");
        let mut again = Rebuilt::new(Limits::default(), 1);
        assert!(entries.iter().all(|(key, value)| again.take(key, value).is_some()));
        assert!(again.finish(id(4)).is_some() && again.restored.state() == state);
        assert_eq!((again.router.as_of(), again.entries().collect::<Vec<_>>()), (Some(id(4)), entries));
    }

    #[test]
    fn records_that_cannot_be_read_are_named_or_counted() {
        let mut rebuilt = Rebuilt::new(Limits::default(), 1);
        let opened = Payload::Bytes(r#"{"Opened":{"client":7}}"#.into());
        let kinds = [Kind::SESSION, Kind(200)].into_iter().cycle().take(MAX_NAMED_RECORDS + 3);
        for (number, kind) in (1..).zip(kinds) {
            let record =
                Record { id: EventId::new(number).unwrap(), item: Item::of_kind(kind, "r".into(), number, opened.clone()) };
            assert!(rebuilt.replay(&record).is_some());
        }
        let lines = rebuilt.unreadable.lines("r");
        assert_eq!((rebuilt.unreadable.count, lines.len()), (MAX_NAMED_RECORDS as u64 + 3, MAX_NAMED_RECORDS + 1));
        assert!(lines[0].starts_with("record 1 of realm r (a change of a session) cannot be read"), "{lines:?}");
        assert!(lines[1].starts_with("record 2 of realm r (of a later version) cannot be read"), "{lines:?}");
        assert!(lines[MAX_NAMED_RECORDS].starts_with("3 more records of realm r"), "{lines:?}");
        assert_eq!(UnreadRecords::default().lines("r"), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        let mut rebuilt = Rebuilt::new(Limits::default(), 1);
        let piece = [&[0, 0, 0, 0][..], &[9, 9]].concat();
        for (key, value) in [(&b""[..], &b""[..]), (b"M", b"1"), (b"Ko", b"12345678"), (b"bt", b""), (b"bt", &piece), (b"z", b"")]
        {
            assert_eq!(rebuilt.take(key, value), None, "{key:?}");
        }
    }
}
