//! What a solo writes, and how a log of such writes is read back after a restart.
use crate::cluster::seen::{Seen, SeenLimits};
use crate::cluster::segment::{DedupKey, Digest, EventId, Incarnation, Item, LedgerId, Pseq, SegmentNumber, Slot};

/// The head of a write: the draft and its election in one; it comes before the records and is all that is not an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// The slot that this write decides.
    pub slot: Slot,
    /// The time of all its records, in milliseconds since 1970: it only grows.
    pub dt_ms: u64,
    /// The life of the process.
    pub incarnation: Incarnation,
    /// The number of the segment, 0 for the grant of the life.
    pub segment: SegmentNumber,
    /// The first place in the stream; 0 for a grant.
    pub from: Pseq,
    /// The last place in the stream; 0 for a grant.
    pub to: Pseq,
    /// The digest of the segment; the nonce of a grant.
    pub digest: Digest,
}

impl Head {
    /// Bytes of an encoded head.
    pub const LENGTH: usize = 60;

    /// The head in bytes, integers little-endian in the order of the fields.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let slot = self.slot.0.to_le_bytes();
        let (time, life, segment) = (self.dt_ms.to_le_bytes(), self.incarnation.0.to_le_bytes(), self.segment.0.to_le_bytes());
        let (from, to, digest) = (self.from.0.to_le_bytes(), self.to.0.to_le_bytes(), self.digest.0.to_le_bytes());
        let fields = [&slot[..], &time, &life, &segment, &from, &to, &digest];
        for (place, byte) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *place = *byte;
        }
        bytes
    }

    /// The head that these bytes are; `None` if they are of another length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (slot, rest) = bytes.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        let (life, rest) = rest.split_first_chunk()?;
        let (segment, rest) = rest.split_first_chunk()?;
        let (from, rest) = rest.split_first_chunk()?;
        let (to, rest) = rest.split_first_chunk()?;
        let (digest, rest) = rest.split_first_chunk()?;
        rest.is_empty().then(|| Head {
            slot: Slot(u64::from_le_bytes(*slot)),
            dt_ms: u64::from_le_bytes(*time),
            incarnation: Incarnation(u32::from_le_bytes(*life)),
            segment: SegmentNumber(u64::from_le_bytes(*segment)),
            from: Pseq(u64::from_le_bytes(*from)),
            to: Pseq(u64::from_le_bytes(*to)),
            digest: Digest(u128::from_le_bytes(*digest)),
        })
    }
}

/// One record of history, final as soon as it is durable with all before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its id: one more than that of the record before.
    pub id: EventId,
    /// What has it.
    pub content: Content,
}

/// What a record holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// What was submitted.
    Item(Item),
    /// SESSION_GONE: the process that had this life has ended, and its connections with it.
    Gone(Incarnation),
}

/// What is appended to the log: the head, then the records; any prefix of it that survives a power loss is sound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// Which ledger.
    pub ledger: LedgerId,
    /// Draft and election.
    pub head: Head,
    /// Bodies with their ids, ascending without gap; duplicates are left out.
    pub records: Vec<Record>,
}

/// What the log says, folded record by record in its order; also what a snapshot must keep.
#[derive(Clone, Debug)]
pub struct Restored {
    pub(super) head: Head,
    pub(super) next_id: EventId,
    pub(super) seen: Seen,
    /// Scopes with keys in the write whose head came last.
    fresh: Vec<u64>,
}

impl Restored {
    /// An empty log.
    pub fn new(limits: SeenLimits) -> Self {
        Restored { head: Head::default(), next_id: EventId(1), seen: Seen::new(limits), fresh: Vec::new() }
    }

    /// From a snapshot: its last head, the next id, and the keys by ascending id.
    pub fn from_snapshot(limits: SeenLimits, head: Head, next_id: EventId, seen: &[(DedupKey, EventId)]) -> Self {
        let mut restored = Restored { head, next_id, ..Restored::new(limits) };
        for (key, id) in seen {
            restored.seen.remember(*key, *id);
        }
        restored
    }

    /// The head of a write.
    pub fn handle_head(&mut self, head: Head) {
        self.forget_oldest();
        self.head = Head { dt_ms: head.dt_ms.max(self.head.dt_ms), ..head };
    }

    /// A record of the write whose head came last.
    pub fn handle_record(&mut self, id: EventId, dedup: Option<DedupKey>) {
        if let Some(key) = dedup {
            self.seen.remember(key, id);
            self.fresh.push(key.scope);
        }
        self.next_id = self.next_id.max(id.next());
    }

    /// The last head, the next id, and the keys by ascending id; taken between two writes.
    pub fn snapshot(&mut self) -> (Head, EventId, Vec<(DedupKey, EventId)>) {
        self.forget_oldest();
        (self.head, self.next_id, self.seen.all())
    }

    /// The end of a write: as a resolver does at the end of a slot.
    pub(super) fn forget_oldest(&mut self) {
        self.seen.forget_oldest(std::mem::take(&mut self.fresh));
    }
}
