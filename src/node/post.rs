//! The way back to a realm for the threads that work for it: they bring it news, and need not know what takes them.
use crate::cluster::segment::SyncToken;
use crate::model::Reason;
use crate::model::query::{Page, ReadTicket};

/// News from the writer of the history.
#[derive(Clone, Copy, Debug)]
pub enum Written {
    /// The batch with this token is durable.
    Synced(SyncToken),
    /// The disk is full: nothing of the batch was written.
    DiskFull,
    /// There is room again.
    Room,
    /// A write or sync failed: the fate of the batch is known after a restart only.
    Failed,
}

/// Something that a thread has for a realm.
#[derive(Debug)]
pub enum News {
    /// The writer of the history has done something.
    Written(Written),
    /// A page of the history has been read.
    Read(ReadTicket, Result<Page, Reason>),
}

/// Brings news to one realm, as long as that is there.
pub struct Post(Box<dyn Fn(News) + Send + Sync>);

impl Post {
    /// To whatever `take` stands for.
    pub fn new(take: impl Fn(News) + Send + Sync + 'static) -> Self {
        Post(Box::new(take))
    }

    /// Brings it, on the thread of the caller.
    pub fn bring(&self, news: News) {
        (self.0)(news);
    }
}
