//! Reads a log while it is written: what is synced, from the footers of sealed segments and from the index of the open one.
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::RwLock;

use super::footer::Sealed;
use super::frame::Salt;
use super::frames::{Frames, NARROW, WIDE};
use super::heads::{Head, Heads};
use super::index::{Candidates, Index, MAX_GATHERED, MemoryIndex, Place, Span, Wanted, in_order};
use super::segment::{DATA_START, read_heads};
use crate::model::{EventId, Record};
use crate::store::disk::{Disk, DiskFile};
use crate::store::error::Error;
use crate::store::query::{MAX_EXAMINED, Page, Query, RealmState};
use crate::store::{AsOf, as_of, codec};

/// Segments that one call looks into.
const MAX_SEGMENTS: usize = 64;

/// A log as readers see it; cheap to clone, for any thread.
pub struct Reader<D: Disk> {
    pub(super) disk: D,
    pub(super) state: Arc<RwLock<State<D::File>>>,
}

impl<D: Disk> Clone for Reader<D> {
    fn clone(&self) -> Self {
        Reader { disk: self.disk.clone(), state: self.state.clone() }
    }
}

pub(super) struct State<F> {
    /// By number, without a gap.
    pub sealed: Arc<Vec<Arc<Sealed>>>,
    pub open: Arc<Open<F>>,
    /// The heads that the first segment begins with.
    pub oldest: Heads,
    /// The heads that the open segment begins with.
    pub sealed_heads: Heads,
    pub snapshot_of: AsOf,
    pub snapshot_bytes: u64,
}

/// Where the order of each realm begins and ends.
pub(super) struct Ends {
    /// The heads that the first segment begins with.
    pub oldest: Heads,
    /// The heads that the open segment begins with.
    pub sealed: Heads,
    /// The heads behind everything.
    pub written: Heads,
}

/// The size of the log, by which a scheduler of snapshots and trims decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    /// Segments that are no longer written.
    pub sealed_segments: usize,
    /// Bytes of all records, those of the open segment included; indexes and reserved space are not.
    pub bytes: u64,
    /// Sealed segments that the snapshot does not include: what the next one would add.
    pub uncarried_segments: usize,
    /// Bytes of their records.
    pub uncarried_bytes: u64,
    /// Bytes of the snapshot's file; 0 if there is none.
    pub snapshot_bytes: u64,
}

/// The segment being written, as far as it is synced.
pub(super) struct Open<F> {
    pub name: String,
    pub salt: Salt,
    pub file: Arc<F>,
    pub data: RwLock<OpenData>,
}

pub(super) struct OpenData {
    pub index: MemoryIndex,
    pub heads: Heads,
    pub end: u64,
}

/// A source of a page: ids `low..=high` of a realm in one segment.
struct Part<'a> {
    name: &'a str,
    salt: Salt,
    end: u64,
    span: Span,
    low: u64,
    high: u64,
    query: &'a Query,
}

/// The page so far.
#[derive(Default)]
struct Gathered {
    records: Vec<Record>,
    bytes: usize,
    examined: usize,
}

impl Gathered {
    fn is_full(&self, query: &Query) -> bool {
        self.records.len() >= query.bounded_limit() || self.bytes >= query.bounded_bytes() || self.examined >= MAX_EXAMINED
    }
}

impl<D: Disk> Reader<D> {
    /// The realms that have, or had, records.
    pub fn realms(&self) -> Vec<Arc<str>> {
        let open = self.state.read().open.clone();
        let data = open.data.read();
        data.heads.iter().map(|(realm, _)| realm.clone()).collect()
    }

    /// Where the history of `realm` begins and ends.
    pub fn realm_state(&self, realm: &str) -> RealmState {
        let (oldest, head) = self.ends(realm);
        RealmState {
            last: EventId::new(head.next - 1),
            oldest: EventId::new(oldest).filter(|_| oldest < head.next),
            last_time_ms: head.last_time_ms,
        }
    }

    /// The number of the oldest id that is kept (or would be next), and the end.
    fn ends(&self, realm: &str) -> (u64, Head) {
        let state = self.state.read();
        let head = state.open.data.read().heads.head(realm);
        (state.oldest.head(realm).next, head)
    }

    fn too_old(&self, realm: &str) -> Error {
        Error::TooOld { oldest: EventId::new(self.ends(realm).0).unwrap_or(EventId::LAST) }
    }

    /// A page of history; see [`crate::store::Store::read`].
    pub fn read(&self, query: &Query) -> Result<Page, Error> {
        let (sealed, open) = {
            let state = self.state.read();
            (state.sealed.clone(), state.open.clone())
        };
        let Some((low, high)) = self.bounds(query)? else {
            let cursor = if query.reverse { query.before } else { query.after };
            return Ok(Page { records: Vec::new(), cursor, is_end: true });
        };
        let mut gathered = Gathered::default();
        let mut cursor = if query.reverse { high + 1 } else { low - 1 };
        let order: &mut dyn Iterator<Item = usize> =
            if query.reverse { &mut (0..=sealed.len()).rev() } else { &mut (0..=sealed.len()) };
        let mut visited = 0;
        for at in order {
            let found = match sealed.get(at) {
                Some(sealed) => self.gather_sealed(sealed, (low, high), query, &mut gathered)?,
                None => gather_open(&open, (low, high), query, &mut gathered)?,
            };
            let Some(reached) = found else { continue };
            cursor = reached;
            visited += 1;
            if gathered.is_full(query) || visited >= MAX_SEGMENTS {
                break;
            }
        }
        let is_end = if query.reverse { cursor <= low } else { cursor >= high };
        Ok(Page { records: gathered.records, cursor: EventId::new(cursor), is_end })
    }

    /// The ids that `query` is about, as far as they are kept.
    fn bounds(&self, query: &Query) -> Result<Option<(u64, u64)>, Error> {
        let (oldest, head) = self.ends(&query.realm);
        let after = query.after.map(EventId::value);
        let before = query.before.map(EventId::value);
        if after.is_some_and(|after| after + 1 < oldest) || before.is_some_and(|before| before < oldest) {
            return Err(self.too_old(&query.realm));
        }
        let mut low = oldest.max(after.map_or(0, |after| after + 1));
        let mut high = (head.next - 1).min(before.map_or(u64::MAX, |before| before - 1));
        if let Some(from_ms) = query.from_ms {
            low = low.max(self.first_number_at(&query.realm, from_ms)?);
        }
        if let Some(until_ms) = query.until_ms {
            high = high.min(self.first_number_at(&query.realm, until_ms)? - 1);
        }
        Ok((low <= high).then_some((low, high)))
    }

    fn gather_sealed(
        &self,
        sealed: &Sealed,
        bounds: (u64, u64),
        query: &Query,
        gathered: &mut Gathered,
    ) -> Result<Option<u64>, Error> {
        let Some(span) = sealed.span(&query.realm) else { return Ok(None) };
        let Some((low, high)) = intersection(span, bounds) else { return Ok(None) };
        let file = self.open_sealed(sealed, &query.realm)?;
        let part = Part { name: &sealed.name, salt: sealed.salt, end: sealed.data_end, span, low, high, query };
        part.gather(&sealed.index(&file), &file, gathered).map(Some)
    }

    /// The file of a sealed segment; one that was trimmed meanwhile is too old.
    pub(super) fn open_sealed(&self, sealed: &Sealed, realm: &str) -> Result<D::File, Error> {
        self.disk.open(&sealed.name).map_err(|error| {
            let first = self.state.read().sealed.first().map_or(u64::MAX, |first| first.number);
            let is_trimmed = error.kind() == io::ErrorKind::NotFound && sealed.number < first;
            if is_trimmed { self.too_old(realm) } else { Error::io(&sealed.name, error) }
        })
    }

    /// The first kept id of `realm` of this time or later; the next to be given, where there is none.
    fn first_number_at(&self, realm: &str, time_ms: u64) -> Result<u64, Error> {
        let (sealed, open) = {
            let state = self.state.read();
            (state.sealed.clone(), state.open.clone())
        };
        for sealed in sealed.iter() {
            if let Some(span) = sealed.span(realm).filter(|span| span.last_time_ms >= time_ms) {
                let file = self.open_sealed(sealed, realm)?;
                let mut frames = Frames::new(&file, &sealed.name, sealed.salt, sealed.data_end, NARROW);
                return first_within(span, time_ms, realm, &sealed.index(&file), &mut frames);
            }
        }
        match open.span(realm).filter(|span| span.last_time_ms >= time_ms) {
            Some(span) => {
                let mut frames = Frames::new(&*open.file, &open.name, open.salt, open.end(), NARROW);
                first_within(span, time_ms, realm, &*open, &mut frames)
            }
            None => Ok(open.data.read().heads.head(realm).next),
        }
    }

    /// The heads behind everything readable.
    pub(super) fn heads(&self) -> Heads {
        let open = self.state.read().open.clone();
        let data = open.data.read();
        data.heads.clone()
    }

    pub(super) fn publish(&self, places: impl Iterator<Item = Place>, end: u64) {
        let open = self.state.read().open.clone();
        let mut data = open.data.write();
        for place in places {
            data.heads.set(&place.realm, Head { next: place.id + 1, last_time_ms: place.time_ms });
            data.index.push(place);
        }
        data.end = end;
    }

    pub(super) fn with_open_index<T>(&self, f: impl FnOnce(&MemoryIndex) -> T) -> T {
        let open = self.state.read().open.clone();
        let data = open.data.read();
        f(&data.index)
    }

    /// The sealed segments before `first_kept` that a snapshot as of `ids` stands for, without a gap.
    pub(super) fn sealed_before(&self, first_kept: u64, ids: &[(Arc<str>, EventId)]) -> Vec<Arc<Sealed>> {
        let sealed = self.state.read().sealed.clone();
        let is_doomed = |sealed: &&Arc<Sealed>| sealed.number < first_kept && is_carried(sealed, ids);
        sealed.iter().take_while(is_doomed).cloned().collect()
    }

    /// The heads that segment `number` begins with.
    pub(super) fn heads_of(&self, number: u64) -> Result<Heads, Error> {
        let (sealed, open) = {
            let state = self.state.read();
            (state.sealed.clone(), state.open.clone())
        };
        match sealed.iter().find(|sealed| sealed.number == number) {
            Some(sealed) => read_heads(&self.open_sealed(sealed, "")?, &sealed.name, sealed.salt, sealed.data_end),
            None => read_heads(&*open.file, &open.name, open.salt, open.end()),
        }
    }

    pub(super) fn forget_before(&self, number: u64, oldest: Heads) {
        let mut state = self.state.write();
        state.sealed = Arc::new(state.sealed.iter().filter(|sealed| sealed.number >= number).cloned().collect());
        state.oldest = oldest;
    }

    pub(super) fn set_snapshot(&self, ids: AsOf, bytes: u64) {
        let mut state = self.state.write();
        state.snapshot_of = ids;
        state.snapshot_bytes = bytes;
    }

    /// The last id in a sealed segment, for each realm that has one: a snapshot is folded up to here.
    pub fn sealed_heads(&self) -> AsOf {
        let state = self.state.read();
        state.sealed_heads.iter().filter_map(|(realm, head)| Some((realm.clone(), EventId::new(head.next - 1)?))).collect()
    }

    /// The size of the log. Reads nothing from disk.
    pub fn extent(&self) -> Extent {
        let (sealed, open, snapshot_of, snapshot_bytes) = {
            let state = self.state.read();
            (state.sealed.clone(), state.open.clone(), state.snapshot_of.clone(), state.snapshot_bytes)
        };
        let bytes_of = |sealed: &Arc<Sealed>| sealed.data_end.saturating_sub(DATA_START);
        let uncarried = sealed.iter().skip_while(|sealed| is_carried(sealed, &snapshot_of));
        Extent {
            sealed_segments: sealed.len(),
            bytes: sealed.iter().map(bytes_of).sum::<u64>() + open.end().saturating_sub(DATA_START),
            uncarried_segments: uncarried.clone().count(),
            uncarried_bytes: uncarried.map(bytes_of).sum(),
            snapshot_bytes,
        }
    }
}

/// Whether a snapshot as of `ids` includes everything in a segment.
pub(super) fn is_carried(sealed: &Sealed, ids: &[(Arc<str>, EventId)]) -> bool {
    sealed.realms.iter().all(|part| part.span.last() <= as_of(ids, &part.realm))
}

fn gather_open<F: DiskFile>(
    open: &Open<F>,
    bounds: (u64, u64),
    query: &Query,
    gathered: &mut Gathered,
) -> Result<Option<u64>, Error> {
    let Some(span) = open.span(&query.realm) else { return Ok(None) };
    let Some((low, high)) = intersection(span, bounds) else { return Ok(None) };
    let part = Part { name: &open.name, salt: open.salt, end: open.end(), span, low, high, query };
    part.gather(open, &*open.file, gathered).map(Some)
}

/// Locks for each look-up alone, so that the writer never waits for a reader's disk.
impl<F> Index for Open<F> {
    fn span(&self, realm: &str) -> Option<Span> {
        self.data.read().index.span(realm)
    }

    fn offsets(&self, realm: &str, range: Range<u64>) -> Result<Vec<u32>, Error> {
        self.data.read().index.offsets(realm, range)
    }

    fn candidates(&self, wanted: &Wanted<'_>) -> Result<Candidates, Error> {
        self.data.read().index.candidates(wanted)
    }
}

impl<F> Open<F> {
    fn end(&self) -> u64 {
        self.data.read().end
    }
}

fn intersection(span: Span, (low, high): (u64, u64)) -> Option<(u64, u64)> {
    let (low, high) = (low.max(span.first), high.min(span.last()));
    (low <= high).then_some((low, high))
}

fn first_within<F: DiskFile>(
    span: Span,
    time_ms: u64,
    realm: &str,
    index: &impl Index,
    frames: &mut Frames<'_, F>,
) -> Result<u64, Error> {
    if span.first_time_ms >= time_ms {
        return Ok(span.first);
    }
    // The last is late enough.
    let (mut low, mut high) = (0, span.count - 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let offset = index.offsets(realm, middle..middle + 1)?.first().copied().unwrap_or_default();
        let is_early = codec::summary(frames.must(offset.into())?).is_some_and(|summary| summary.time_ms < time_ms);
        if is_early { low = middle + 1 } else { high = middle }
    }
    Ok(span.first + low)
}

impl Part<'_> {
    /// Adds what the segment holds; returns up to which id everything was looked at, as a cursor in the direction of the query.
    fn gather<F: DiskFile>(&self, index: &impl Index, file: &F, gathered: &mut Gathered) -> Result<u64, Error> {
        let limit = self.query.bounded_limit() - gathered.records.len();
        match self.query.filter.as_ref().map(|_| self.candidates(index, limit)).transpose()? {
            Some(Candidates::Offsets(offsets)) => self.read_each(file, &offsets, limit, gathered),
            Some(Candidates::Scan) | None => self.scan(index, file, gathered),
        }
    }

    /// Where the records are that any of the filters covers.
    fn candidates(&self, index: &impl Index, limit: usize) -> Result<Candidates, Error> {
        let Query { realm, reverse, .. } = self.query;
        let (within, reverse) = (self.within(index)?, *reverse);
        let mut found = Vec::new();
        for filter in self.query.filters() {
            match index.candidates(&Wanted { realm, filter, within: within.clone(), limit, reverse })? {
                Candidates::Offsets(offsets) if self.query.also.is_empty() => return Ok(Candidates::Offsets(offsets)),
                Candidates::Offsets(offsets) => found.extend(offsets),
                Candidates::Scan => return Ok(Candidates::Scan),
            }
            if found.len() > MAX_GATHERED {
                return Ok(Candidates::Scan);
            }
        }
        // A record that two filters cover counts once.
        found.sort_unstable();
        found.dedup();
        Ok(Candidates::Offsets(in_order(found, limit, reverse)))
    }

    /// The offsets between which the wanted ids are.
    fn within(&self, index: &impl Index) -> Result<Range<u32>, Error> {
        let at = |id: u64| {
            let nth = id - self.span.first;
            Ok::<u32, Error>(index.offsets(&self.query.realm, nth..nth + 1)?.first().copied().unwrap_or_default())
        };
        Ok(at(self.low)?..at(self.high)? + 1)
    }

    fn frames<'a, F: DiskFile>(&'a self, file: &'a F, offsets: &[u32]) -> Frames<'a, F> {
        let ends: BTreeSet<u32> = offsets.first().into_iter().chain(offsets.last()).copied().collect();
        let stretch = ends.last().copied().unwrap_or_default() - ends.first().copied().unwrap_or_default();
        let is_dense = offsets.len() > 1 && stretch as usize / offsets.len() < NARROW;
        let reach = if is_dense { WIDE.min(stretch as usize + NARROW) } else { NARROW };
        Frames::new(file, self.name, self.salt, self.end, reach).reversed(self.query.reverse)
    }

    /// The records at `offsets`, all of which must be covered; fewer than `limit` are all there are.
    fn read_each<F: DiskFile>(&self, file: &F, offsets: &[u32], limit: usize, gathered: &mut Gathered) -> Result<u64, Error> {
        let mut frames = self.frames(file, offsets);
        let mut cursor = if self.query.reverse { self.high + 1 } else { self.low - 1 };
        for (read, offset) in offsets.iter().enumerate() {
            if gathered.is_full(self.query) {
                return Ok(cursor);
            }
            let record = self.record(&mut frames, *offset, gathered)?;
            let is_right = self.is_covered(&record) && (self.low..=self.high).contains(&record.id.value());
            if !is_right {
                return Err(Error::corrupt(self.name, (*offset).into(), "not the record that the index names"));
            }
            cursor = record.id.value();
            gathered.records.push(record);
            if read + 1 == limit {
                return Ok(cursor);
            }
        }
        Ok(if self.query.reverse { self.low } else { self.high })
    }

    /// Every record of the part in turn, until the page is full.
    fn scan<F: DiskFile>(&self, index: &impl Index, file: &F, gathered: &mut Gathered) -> Result<u64, Error> {
        let most = (MAX_EXAMINED - gathered.examined.min(MAX_EXAMINED)) as u64;
        let most = if self.query.filter.is_some() { most } else { most.min(self.query.bounded_limit() as u64) };
        let (low, high) = if self.query.reverse {
            (self.low.max((self.high + 1).saturating_sub(most)), self.high)
        } else {
            (self.low, self.high.min((self.low + most).saturating_sub(1)))
        };
        let mut cursor = if self.query.reverse { self.high + 1 } else { self.low - 1 };
        if low > high {
            return Ok(cursor);
        }
        let mut offsets = index.offsets(&self.query.realm, low - self.span.first..high + 1 - self.span.first)?;
        if self.query.reverse {
            offsets.reverse();
        }
        let mut frames = self.frames(file, &offsets);
        for offset in offsets {
            if gathered.is_full(self.query) {
                break;
            }
            let record = self.record(&mut frames, offset, gathered)?;
            let expected = if self.query.reverse { cursor - 1 } else { cursor + 1 };
            if record.id.value() != expected {
                return Err(Error::corrupt(self.name, offset.into(), "not the record that the index names"));
            }
            cursor = expected;
            if self.is_covered(&record) {
                gathered.records.push(record);
            }
        }
        Ok(cursor)
    }

    fn record<F: DiskFile>(&self, frames: &mut Frames<'_, F>, offset: u32, gathered: &mut Gathered) -> Result<Record, Error> {
        let body = frames.must(offset.into())?;
        gathered.examined += 1;
        gathered.bytes += body.len();
        let record = codec::decode(body).filter(|record| record.item.realm == self.query.realm);
        record.ok_or_else(|| Error::corrupt(self.name, offset.into(), "a record that cannot be read"))
    }

    fn is_covered(&self, record: &Record) -> bool {
        self.query.covers(&record.item)
    }
}
