//! The end of a sealed segment: its index on disk, read in small pieces, each with its own checksum.
//!
//! Behind the records stand blocks of 4,096 bytes (checksum u32, then 4,092 bytes of the index), then a trailer of 36 bytes. The
//! index holds for each realm the offsets of its records by id (u32 each, ids are dense), those of its publications by topic, the
//! topics' places, and the topics themselves in their order. A directory of the realms follows.
use std::ops::Range;
use std::sync::Arc;

use super::frame::Salt;
use super::index::{
    Candidates, Index, MAX_GATHERED, MAX_TOPICS, MemoryIndex, RealmIndex, Span, Wanted, in_order, literal_prefix,
};
use crate::model::{Filter, Topic};
use crate::store::disk::DiskFile;
use crate::store::error::Error;
use crate::store::input::{Input, put_bytes};

const BLOCK_BYTES: usize = 4_096;
const BLOCK_DATA: usize = BLOCK_BYTES - 4;
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 36;
const MAGIC: &[u8; 8] = b"corsacF\x01";
/// Salts the trailer's checksum; no block has this number.
const TRAILER_PLACE: u64 = u64::MAX;

/// Where the parts of a realm's index are, in bytes of the index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RealmPart {
    /// Its name.
    pub realm: Arc<str>,
    /// Its records.
    pub span: Span,
    offsets_at: u32,
    postings_at: u32,
    table_at: u32,
    topics_at: u32,
    topics_end: u32,
    topic_count: u32,
}

/// A segment that is no longer written. Holds what is needed to find its index, not the index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub name: String,
    /// The salt that its checksums begin with.
    pub salt: Salt,
    /// Where its records end.
    pub data_end: u64,
    /// The checksum of its last record.
    pub chain: u32,
    /// By name.
    pub realms: Vec<RealmPart>,
}

/// The bytes that seal a segment whose records end at `data_end` with the checksum `chain`.
pub fn encode(index: &MemoryIndex, salt: Salt, data_end: u64, chain: u32) -> Vec<u8> {
    let mut content = Vec::new();
    let mut directory = (index.realms.len() as u32).to_le_bytes().to_vec();
    for (name, realm) in &index.realms {
        let places = encode_realm(realm, &mut content);
        let span = realm.span();
        put_bytes(&mut directory, name.as_bytes());
        for number in [span.first, span.count, span.first_time_ms, span.last_time_ms] {
            directory.extend_from_slice(&number.to_le_bytes());
        }
        for place in places {
            directory.extend_from_slice(&place.to_le_bytes());
        }
    }
    let directory_at = content.len() as u32;
    content.extend_from_slice(&directory);
    let mut out = Vec::with_capacity(content.len() / BLOCK_DATA * BLOCK_BYTES + 2 * BLOCK_BYTES);
    for (number, data) in content.chunks(BLOCK_DATA).enumerate() {
        let mut block = [0; BLOCK_DATA];
        if let Some(part) = block.get_mut(..data.len()) {
            part.copy_from_slice(data);
        }
        out.extend_from_slice(&salt.checksum(number as u64, &block).to_le_bytes());
        out.extend_from_slice(&block);
    }
    let mut trailer = MAGIC.to_vec();
    trailer.extend_from_slice(&data_end.to_le_bytes());
    for number in [directory_at, directory.len() as u32, chain, 0] {
        trailer.extend_from_slice(&number.to_le_bytes());
    }
    trailer.extend_from_slice(&salt.checksum(TRAILER_PLACE, &trailer).to_le_bytes());
    out.extend_from_slice(&trailer);
    out
}

/// Appends one realm's parts; returns where they are, in the order of the fields of [`RealmPart`].
fn encode_realm(realm: &RealmIndex, out: &mut Vec<u8>) -> [u32; 6] {
    let offsets_at = out.len() as u32;
    let put_all = |out: &mut Vec<u8>, numbers: &[u32]| numbers.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
    put_all(out, &realm.offsets);
    let mut topics: Vec<_> = realm.topics.iter().collect();
    topics.sort_unstable_by_key(|(topic, _)| *topic);
    let postings_at = out.len() as u32;
    let (mut entries, mut table, mut start) = (Vec::new(), Vec::with_capacity(topics.len()), 0_u32);
    for (topic, posting) in &topics {
        put_all(out, &posting.offsets);
        table.push(entries.len() as u32);
        let count = posting.offsets.len() as u32;
        entries.extend_from_slice(&start.to_le_bytes());
        entries.extend_from_slice(&count.to_le_bytes());
        entries.extend_from_slice(&posting.bytes.to_le_bytes());
        put_bytes(&mut entries, topic.as_mqtt().as_bytes());
        start += count;
    }
    let table_at = out.len() as u32;
    put_all(out, &table);
    let topics_at = out.len() as u32;
    out.extend_from_slice(&entries);
    [offsets_at, postings_at, table_at, topics_at, out.len() as u32, topics.len() as u32]
}

impl Sealed {
    /// Reads the trailer and the directory of the segment in `file`.
    pub fn open<F: DiskFile>(file: &F, number: u64, name: &str, salt: Salt) -> Result<Sealed, Error> {
        let length = file.length().map_err(|error| Error::io(name, error))?;
        let damaged = |what| Error::corrupt(name, length.saturating_sub(TRAILER_BYTES as u64), what);
        let mut trailer = [0; TRAILER_BYTES];
        let at = length.checked_sub(TRAILER_BYTES as u64).ok_or_else(|| damaged("too short for a sealed segment"))?;
        file.read_at(at, &mut trailer).map_err(|error| Error::io(name, error))?;
        let (data_end, directory, chain) = decode_trailer(&trailer, salt).ok_or_else(|| damaged("no valid trailer"))?;
        let blocks = at.checked_sub(data_end).filter(|bytes| bytes % BLOCK_BYTES as u64 == 0);
        if blocks.is_none_or(|bytes| u64::from(directory.end) > bytes) {
            return Err(damaged("a trailer that does not fit the file"));
        }
        let sealed = Sealed { number, name: name.to_owned(), salt, data_end, chain, realms: Vec::new() };
        let bytes = sealed.index(file).read(directory)?;
        let realms = decode_directory(&bytes).ok_or_else(|| damaged("a directory that cannot be read"))?;
        Ok(Sealed { realms, ..sealed })
    }

    /// Its index, read from `file`.
    pub fn index<'a, F>(&'a self, file: &'a F) -> FooterIndex<'a, F> {
        FooterIndex { sealed: self, file }
    }

    /// The records of `realm`.
    pub fn span(&self, realm: &str) -> Option<Span> {
        self.part(realm).map(|part| part.span)
    }

    fn part(&self, realm: &str) -> Option<&RealmPart> {
        let at = self.realms.binary_search_by(|part| (*part.realm).cmp(realm)).ok()?;
        self.realms.get(at)
    }
}

fn decode_trailer(trailer: &[u8; TRAILER_BYTES], salt: Salt) -> Option<(u64, Range<u32>, u32)> {
    let (signed, crc) = trailer.split_last_chunk::<4>()?;
    let mut input = Input::new(signed);
    if &input.array::<8>()? != MAGIC || u32::from_le_bytes(*crc) != salt.checksum(TRAILER_PLACE, signed) {
        return None;
    }
    let (data_end, at, length) = (input.u64()?, input.u32()?, input.u32()?);
    Some((data_end, at..at.checked_add(length)?, input.u32()?))
}

fn decode_directory(bytes: &[u8]) -> Option<Vec<RealmPart>> {
    let mut input = Input::new(bytes);
    let mut realms = Vec::new();
    for _ in 0..input.u32()? {
        let realm = input.shared_text()?;
        let (first, count) = (input.u64()?, input.u64()?);
        let span = Span { first, count, first_time_ms: input.u64()?, last_time_ms: input.u64()? };
        let (offsets_at, postings_at, table_at) = (input.u32()?, input.u32()?, input.u32()?);
        let (topics_at, topics_end, topic_count) = (input.u32()?, input.u32()?, input.u32()?);
        realms.push(RealmPart { realm, span, offsets_at, postings_at, table_at, topics_at, topics_end, topic_count });
    }
    input.is_empty().then_some(realms)
}

/// One topic of an index.
pub struct TopicEntry {
    /// The topic.
    pub topic: Topic,
    /// Where its postings begin, counted in postings.
    start: u32,
    /// Its publications.
    pub count: u32,
    /// The bytes they take.
    pub bytes: u64,
}

/// The index of a sealed segment.
pub struct FooterIndex<'a, F> {
    sealed: &'a Sealed,
    file: &'a F,
}

impl<F: DiskFile> FooterIndex<'_, F> {
    /// The bytes `range` of the index, checked.
    fn read(&self, range: Range<u32>) -> Result<Vec<u8>, Error> {
        let Sealed { name, data_end, salt, .. } = self.sealed;
        let (start, end) = (range.start as usize, range.end.max(range.start) as usize);
        let (first, behind) = (start / BLOCK_DATA, end.div_ceil(BLOCK_DATA));
        let at = data_end + (first * BLOCK_BYTES) as u64;
        let length = self.file.length().map_err(|error| Error::io(name, error))?;
        if at + ((behind - first) * BLOCK_BYTES) as u64 > length {
            return Err(Error::corrupt(name, at, "an index that is longer than its file"));
        }
        let mut blocks = vec![0; (behind - first) * BLOCK_BYTES];
        self.file.read_at(at, &mut blocks).map_err(|error| Error::io(name, error))?;
        let mut bytes = Vec::with_capacity((behind - first) * BLOCK_DATA);
        for (number, block) in blocks.chunks_exact(BLOCK_BYTES).enumerate() {
            let Some((crc, data)) = block.split_first_chunk::<4>() else { continue };
            if u32::from_le_bytes(*crc) != salt.checksum((first + number) as u64, data) {
                let offset = at + (number * BLOCK_BYTES) as u64;
                return Err(Error::corrupt(name, offset, "an index block with a wrong checksum"));
            }
            bytes.extend_from_slice(data);
        }
        bytes.truncate(end - first * BLOCK_DATA);
        bytes.drain(..(start - first * BLOCK_DATA).min(bytes.len()));
        Ok(bytes)
    }

    fn numbers(&self, at: u32, range: Range<u32>) -> Result<Vec<u32>, Error> {
        let bytes = self.read(at.saturating_add(range.start * 4)..at.saturating_add(range.end * 4))?;
        Ok(bytes.chunks_exact(4).filter_map(|chunk| chunk.try_into().ok().map(u32::from_le_bytes)).collect())
    }

    fn number(&self, at: u32, index: u32) -> Result<u32, Error> {
        Ok(self.numbers(at, index..index + 1)?.first().copied().unwrap_or_default())
    }

    fn unreadable(&self) -> Error {
        Error::corrupt(&self.sealed.name, self.sealed.data_end, "an index that cannot be read")
    }

    /// The first index below `count` for which `is_before` no longer holds.
    fn partition(count: u32, mut is_before: impl FnMut(u32) -> Result<bool, Error>) -> Result<u32, Error> {
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(middle)? { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The topics `range` of a realm, in their order.
    fn topics(&self, part: &RealmPart, range: Range<u32>) -> Result<Vec<TopicEntry>, Error> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let start = part.topics_at + self.number(part.table_at, range.start)?;
        let is_last = range.end >= part.topic_count;
        let end = if is_last { part.topics_end } else { part.topics_at + self.number(part.table_at, range.end)? };
        let bytes = self.read(start..end)?;
        let mut input = Input::new(&bytes);
        let mut entry = || {
            let (start, count, bytes) = (input.u32()?, input.u32()?, input.u64()?);
            Some(TopicEntry { topic: Topic::from_mqtt(input.text()?).ok()?, start, count, bytes })
        };
        range.map(|_| entry().ok_or_else(|| self.unreadable())).collect()
    }

    fn topic(&self, part: &RealmPart, index: u32) -> Result<Topic, Error> {
        let mut entries = self.topics(part, index..index + 1)?;
        entries.pop().map(|entry| entry.topic).ok_or_else(|| self.unreadable())
    }

    /// Hands every topic of `realm` to `visit`, some thousands read at a time.
    pub fn visit_topics(&self, part: &RealmPart, mut visit: impl FnMut(TopicEntry)) -> Result<(), Error> {
        for start in (0..part.topic_count).step_by(MAX_TOPICS) {
            let end = part.topic_count.min(start + MAX_TOPICS as u32);
            self.topics(part, start..end)?.into_iter().for_each(&mut visit);
        }
        Ok(())
    }

    /// The topics that `filter` covers; `None` if too many would have to be looked at.
    fn covered(&self, part: &RealmPart, filter: &Filter) -> Result<Option<Vec<TopicEntry>>, Error> {
        let prefix = literal_prefix(filter);
        let from = Self::partition(part.topic_count, |at| Ok(self.topic(part, at)?.as_mqtt() < prefix.as_str()))?;
        let to = if matches!(filter, Filter::Exact(_)) {
            part.topic_count.min(from + 1)
        } else {
            Self::partition(part.topic_count, |at| {
                let topic = self.topic(part, at)?;
                Ok(topic.as_mqtt() < prefix.as_str() || topic.as_mqtt().starts_with(&prefix))
            })?
        };
        if to.saturating_sub(from) as usize > MAX_TOPICS {
            return Ok(None);
        }
        let mut topics = self.topics(part, from..to.max(from))?;
        topics.retain(|entry| filter.covers(&entry.topic));
        Ok(Some(topics))
    }

    /// Those postings of a topic that could be among the first wanted.
    fn postings(&self, part: &RealmPart, entry: &TopicEntry, wanted: &Wanted<'_>) -> Result<Vec<u32>, Error> {
        let at = part.postings_at + entry.start * 4;
        let limit = u32::try_from(wanted.limit).unwrap_or(u32::MAX);
        if entry.count <= 1_024 {
            let mut offsets = self.numbers(at, 0..entry.count)?;
            offsets.retain(|offset| wanted.within.contains(offset));
            return Ok(offsets);
        }
        let from = Self::partition(entry.count, |index| Ok(self.number(at, index)? < wanted.within.start))?;
        let to = Self::partition(entry.count, |index| Ok(self.number(at, index)? < wanted.within.end))?.max(from);
        let range =
            if wanted.reverse { from.max(to.saturating_sub(limit))..to } else { from..to.min(from.saturating_add(limit)) };
        self.numbers(at, range)
    }
}

impl<F: DiskFile> Index for FooterIndex<'_, F> {
    fn span(&self, realm: &str) -> Option<Span> {
        self.sealed.span(realm)
    }

    fn offsets(&self, realm: &str, range: Range<u64>) -> Result<Vec<u32>, Error> {
        let Some(part) = self.sealed.part(realm) else { return Ok(Vec::new()) };
        let end = range.end.min(part.span.count) as u32;
        self.numbers(part.offsets_at, (range.start as u32).min(end)..end)
    }

    fn candidates(&self, wanted: &Wanted<'_>) -> Result<Candidates, Error> {
        let Some(part) = self.sealed.part(wanted.realm) else { return Ok(Candidates::Offsets(Vec::new())) };
        let Some(topics) = self.covered(part, wanted.filter)? else { return Ok(Candidates::Scan) };
        let mut found = Vec::new();
        for entry in &topics {
            found.extend(self.postings(part, entry, wanted)?);
            if found.len() > MAX_GATHERED {
                return Ok(Candidates::Scan);
            }
        }
        Ok(Candidates::Offsets(in_order(found, wanted.limit, wanted.reverse)))
    }
}
