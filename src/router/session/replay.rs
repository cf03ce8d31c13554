//! Retained messages or past events that a subscription is still to get.
use crate::model::command::SubscribeOptions;
use crate::model::query::ReadTicket;
use crate::model::{Filter, Qos, SubscriptionId};
use crate::router::base::key::SelectionKey;
use crate::router::retained::Cursor;

/// Retained messages or past events that a subscription is still to get.
#[derive(Debug)]
pub struct Replay {
    pub filter: Filter,
    pub source: ReplaySource,
    /// The number under which its session remembers it for another process.
    pub resumable: Option<u32>,
    /// The subscription selects what it gets.
    pub selection: Option<SelectionKey>,
    /// The page of the history that is being read for it.
    pub reading: Option<ReadTicket>,
    /// The replay waits for room in its receiver's window.
    pub is_held_up: bool,
    /// Its subscription has ended; it only keeps the place of what follows until its page has left the outbox.
    pub is_over: bool,
}

/// Where it comes from.
#[derive(Debug)]
pub enum ReplaySource {
    Retained {
        subscription: SubscriptionId,
        options: SubscribeOptions,
        cursor: Option<Cursor>,
        /// Values set later than this came to the subscriber live.
        until: u64,
        /// The same among those of the router's own, until they have been sent.
        own_until: Option<u64>,
    },
    History(SelectionKey),
}

impl Replay {
    /// True if some of it may have been sent.
    pub fn has_begun(&self) -> bool {
        match &self.source {
            ReplaySource::Retained { cursor, own_until, .. } => cursor.is_some() || own_until.is_some(),
            ReplaySource::History(_) => true,
        }
    }

    /// True if its subscription has ended.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The connection has ended; true if it goes on when the client comes back. Figures of the router's own do not.
    pub fn outlive_connection(&mut self) -> bool {
        self.is_held_up = false;
        match &mut self.source {
            ReplaySource::History(_) => !self.is_over,
            ReplaySource::Retained { options, cursor, own_until, .. } => {
                if own_until.take().is_some() {
                    *cursor = None;
                }
                options.qos > Qos::AtMostOnce && !self.is_over
            }
        }
    }

    /// True if values wait in the window of their receiver.
    pub fn is_paced_by_window(&self) -> bool {
        matches!(&self.source, ReplaySource::Retained { options, .. } if options.qos > Qos::AtMostOnce)
    }
}
