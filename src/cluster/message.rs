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
        /// Who.
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
        /// Who has it.
        ndb: NodeId,
        /// Up to where, from its first item on.
        durable_to: Pseq,
        /// How much more it takes.
        credit_bytes: u64,
    },
    /// TRIM_ADVANCE_SEGMENT, refused: the stream is fenced.
    Refused {
        /// Which stream.
        stream: StreamId,
        /// Up to which life.
        fenced: Incarnation,
    },
    /// GENERATE_DRAFT: this ndb holds the segment durably; one vote for its certificate.
    GenerateDraft {
        /// The segment.
        segment: SegRef,
        /// Who holds it.
        ndb: NodeId,
    },
    /// FENCE_ENTRY: take nothing more of this life, and tell what you hold.
    FenceEntry {
        /// Whose.
        owner: NodeId,
        /// Up to which life.
        incarnation: Incarnation,
        /// Which sync asks.
        sync: NodeId,
        /// For whom: the nonce of the process that wants the next life.
        nonce: u128,
    },
    /// ENTRY_FENCED: the fence is durable; this is what is held and not yet ordered.
    EntryFenced {
        /// Whose life was fenced.
        owner: NodeId,
        /// Which life.
        incarnation: Incarnation,
        /// For whom.
        nonce: u128,
        /// Who answers.
        ndb: NodeId,
        /// What it holds.
        reports: Vec<Report>,
    },
    /// COPY_ADVANCE_HISTORY: bodies of a recovered segment; no fence is asked.
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
        /// Who asks.
        from: Peer,
        /// The slot applied last.
        after: Slot,
    },
}

/// What an ndb appends to its log.
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
        /// Whose.
        owner: NodeId,
        /// Which life.
        incarnation: Incarnation,
    },
}

/// What a machine wants done, or says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Send a message; it may be lost, doubled, late.
    Send {
        /// To whom.
        to: Peer,
        /// What.
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
        /// What it applied last.
        after: Slot,
    },
    /// A slot was applied.
    Resolved {
        /// Which.
        slot: Slot,
        /// What it brought; of an ndb, only its group's segments have bodies there.
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
    /// Another process has the entry's life: what was not acknowledged is unknown; ask for the next.
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
