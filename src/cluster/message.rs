//! The messages between entry, ndb and sync, by their names on the wire, and what a machine wants done.
use super::resolver::Outcome;
use super::segment::{
    Digest, EventId, GroupId, Incarnation, Item, LedgerEntry, NodeId, Pseq, SegRef, SegmentKey, Slot, StreamId, SyncToken, Ticket,
};

/// A node in one of its roles.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Peer {
    /// An entry.
    Entry(NodeId),
    /// An ndb.
    Ndb(NodeId),
    /// A sync.
    Sync(NodeId),
}

/// One part of a segment that a fenced ndb holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Which segment.
    pub key: SegmentKey,
    /// Of which group.
    pub group: GroupId,
    /// Its first item.
    pub from: Pseq,
    /// The bodies from there on, without gap.
    pub items: Vec<Item>,
}

/// A message of one ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// INIT_ENTRY: an entry asks for a life.
    InitEntry {
        /// The entry that asks.
        owner: NodeId,
        /// Chosen at random for this request.
        nonce: u128,
        /// Of the life that the same process had.
        prev_nonce: Option<u128>,
    },
    /// KEEP_ADVANCE_HISTORY, with BEGIN_ADVANCE_SEGMENT in it: bodies at their places.
    KeepAdvanceHistory {
        /// Which segment.
        key: SegmentKey,
        /// Of which group.
        group: GroupId,
        /// The first item of the segment.
        from: Pseq,
        /// The first item of these.
        first: Pseq,
        /// The items.
        items: Vec<Item>,
        /// ADVANCE_SEGMENT_OVER, if they are the last.
        over: Option<SegRef>,
    },
    /// ADVANCE_SEGMENT_OVER: the segment is exactly this.
    AdvanceSegmentOver(SegRef),
    /// TRIM_ADVANCE_SEGMENT: everything up to `durable_to` is on this disk.
    TrimAdvanceSegment {
        /// Which segment.
        key: SegmentKey,
        /// The ndb that has it.
        ndb: NodeId,
        /// Up to where, from its first item on.
        durable_to: Pseq,
        /// The bytes that it takes further.
        credit_bytes: u64,
    },
    /// TRIM_ADVANCE_SEGMENT, refused: the stream is fenced.
    Refused {
        /// Which stream.
        stream: StreamId,
        /// Up to which life.
        fenced: Incarnation,
    },
    /// GENERATE_DRAFT: this ndb holds the segment durably, which is one vote for its certificate.
    GenerateDraft {
        /// The segment.
        segment: SegRef,
        /// The ndb that holds it.
        ndb: NodeId,
    },
    /// FENCE_ENTRY: take nothing more of this life, and tell what you hold.
    FenceEntry {
        /// The entry whose life is fenced.
        owner: NodeId,
        /// Up to which life.
        incarnation: Incarnation,
        /// Which sync asks.
        sync: NodeId,
        /// For whom: the nonce of the process that wants the next life.
        nonce: u128,
    },
    /// ENTRY_FENCED: the fence is durable. With it come the items that are held and not yet ordered.
    EntryFenced {
        /// The entry whose life was fenced.
        owner: NodeId,
        /// Which life.
        incarnation: Incarnation,
        /// For whom.
        nonce: u128,
        /// The ndb that answers.
        ndb: NodeId,
        /// The items that it holds, segment by segment.
        reports: Vec<Report>,
    },
    /// COPY_ADVANCE_HISTORY: bodies of a recovered segment, taken whatever is fenced.
    CopyAdvanceHistory {
        /// The segment.
        segment: SegRef,
        /// All its items.
        items: Vec<Item>,
    },
    /// ADVANCE_SEGMENT_RESOLVED: this slot is decided.
    AdvanceSegmentResolved {
        /// Which.
        slot: Slot,
        /// Its value.
        entry: LedgerEntry,
    },
    /// LEARN: send me the slots behind this.
    Learn {
        /// The node that asks.
        from: Peer,
        /// The slot applied last.
        after: Slot,
    },
}

/// A record that an ndb appends to its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NdbWrite {
    /// Items at their places, from the entry or from a recovery.
    Keep {
        /// Which segment.
        key: SegmentKey,
        /// Of which group.
        group: GroupId,
        /// The first item of the segment.
        from: Pseq,
        /// The first item of these.
        first: Pseq,
        /// The items.
        items: Vec<Item>,
    },
    /// The end of a segment.
    Over(SegRef),
    /// Nothing more up to this life.
    Fence {
        /// The entry.
        owner: NodeId,
        /// Which life.
        incarnation: Incarnation,
    },
}

/// An effect that a machine asks for, or reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Send a message; it may be lost, doubled, late.
    Send {
        /// To whom.
        to: Peer,
        /// The message.
        message: Message,
    },
    /// Append to the log of this ndb.
    Write(NdbWrite),
    /// Make everything written so far durable, then call `handle_synced`.
    Sync {
        /// To be given back.
        token: SyncToken,
    },
    /// The ledger boundary: propose this for the next slot.
    Propose(LedgerEntry),
    /// The ledger boundary: send a peer the decided slots behind this one.
    Teach {
        /// Whom.
        to: Peer,
        /// The slot that it applied last.
        after: Slot,
    },
    /// A slot was applied.
    Resolved {
        /// Which.
        slot: Slot,
        /// Its outcomes, in order. At an ndb only the segments of its group have bodies there.
        outcomes: Vec<Outcome>,
    },
    /// A submitted item is durable (mode `durable`, no id yet) or ordered: acknowledge it.
    Acknowledge {
        /// Which.
        ticket: Ticket,
        /// Its id; `None` in mode `durable`.
        id: Option<EventId>,
    },
    /// The entry has its life: open the listeners.
    Joined(Incarnation),
    /// Another process has the entry's life. The fate of the items that were not acknowledged is unknown, so ask for the next
    /// life.
    Superseded(Incarnation),
    /// Two bodies in one place, or another breach of an invariant: stop the process, forking history is worse.
    Fatal(Breach),
}

/// An invariant that does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Breach {
    /// I3: two bodies for one item.
    Content(SegmentKey, Pseq),
    /// I4: bodies under an elected segment that have another digest.
    Certificate(SegmentKey, Digest),
    /// I1: two values for one slot.
    Agreement(Slot),
}
