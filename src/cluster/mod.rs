//! The order of records decided without input or output: the advance-segment pipeline as pure machines.
//!
//! `handle_` methods take events, `poll_` methods give effects. Durability is an effect: a machine asks for a write and a sync,
//! and says nothing that another may count before the sync came back (R3).
pub mod entry;
mod held;
pub mod learner;
pub mod message;
pub mod ndb;
pub mod quorum;
pub mod resolver;
pub mod rule;
pub mod seen;
pub mod segment;
pub mod solo;
pub mod sync;

pub use entry::Entry;
pub use message::{Effect, Message, Peer};
pub use ndb::Ndb;
pub use resolver::{Outcome, Resolver};
pub use segment::{
    DedupKey, Digest, EventId, GroupId, Incarnation, Item, LedgerEntry, LedgerId, NodeId, Op, Pseq, SegRef, SegmentKey,
    SegmentNumber, Slot, StreamId, SyncToken, Ticket,
};
pub use solo::Solo;
pub use sync::Sync;
