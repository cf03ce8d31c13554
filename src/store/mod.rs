//! Durability: the history of all realms on disk, one log per process, and the complete state that stands in for trimmed history.
//!
//! [`Log`] is the log, [`Memory`] the reference that does the same without a disk; both are a [`Store`].
pub mod codec;
pub mod disk;
pub mod error;
mod input;
pub mod log;
pub mod memory;
pub mod projections;
pub mod query;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use log::Log;
pub use memory::Memory;
pub use projections::Projections;
pub use query::{Page, Query, RealmState, Retention};

use std::sync::Arc;

use crate::model::{EventId, Filter, Item};

/// The last id that something includes, for each realm, each realm once.
pub type AsOf = Vec<(Arc<str>, EventId)>;

/// The complete state as of some id of each realm, opaque here. Records that it stands for may be trimmed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// The last ids that it includes.
    pub as_of: AsOf,
    /// The state, in pieces of at most [`MAX_CHUNK_BYTES`].
    pub chunks: Vec<Vec<u8>>,
}

/// The largest piece of a snapshot.
pub const MAX_CHUNK_BYTES: usize = 1024 * 1024;

/// An ordered history per realm.
pub trait Store {
    /// Gives `items` the next ids of their realms, all or none. They are not durable, and nobody can read them, before [`Store::sync`].
    fn write(&mut self, items: &[Item]) -> Result<Vec<EventId>, Error>;

    /// Makes everything written durable and readable.
    fn sync(&mut self) -> Result<(), Error>;

    /// Both: one write and one sync for the batch.
    fn append(&mut self, items: &[Item]) -> Result<Vec<EventId>, Error> {
        let ids = self.write(items)?;
        self.sync()?;
        Ok(ids)
    }

    /// A page of history. The work for one call is bounded; ask again behind the page until it is the end.
    fn read(&self, query: &Query) -> Result<Page, Error>;

    /// The next records behind `after` that `filter` covers.
    fn read_after(&self, realm: &str, after: Option<EventId>, filter: Option<&Filter>, limit: usize) -> Result<Page, Error> {
        self.read(&Query { after, filter: filter.cloned(), limit, ..Query::new(realm) })
    }

    /// The realms that have, or had, records.
    fn realms(&self) -> Vec<Arc<str>>;

    /// Where the history of `realm` begins and ends.
    fn realm_state(&self, realm: &str) -> RealmState;

    /// Drops what no rule asks to keep and the snapshot stands for; returns how many segments went.
    fn retain(&mut self, rules: &[Retention], now_ms: u64) -> Result<usize, Error>;

    /// Replaces the snapshot, atomically. Its ids must be durable, and none before that of the snapshot it replaces.
    fn write_snapshot(&mut self, as_of: &[(Arc<str>, EventId)], chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), Error>;

    /// The snapshot, all of it.
    fn snapshot(&self) -> Result<Option<Snapshot>, Error>;
}

/// Whether a snapshot as of `new` may replace one as of `old`.
fn is_later(new: &[(Arc<str>, EventId)], old: &[(Arc<str>, EventId)]) -> bool {
    old.iter().all(|(realm, id)| as_of(new, realm) >= id.value())
}

/// The number of the last id of `realm` that a snapshot includes, 0 for none.
fn as_of(ids: &[(Arc<str>, EventId)], realm: &str) -> u64 {
    ids.iter().find(|(name, _)| &**name == realm).map_or(0, |(_, id)| id.value())
}
