//! Retained messages or past events that a subscription is still to get.
use crate::model::command::SubscribeOptions;
use crate::model::query::ReadTicket;
use crate::model::{Filter, SubscriptionId};
use crate::router::base::key::SelectionKey;
use crate::router::retained::Cursor;

/// Retained messages or past events that a subscription is still to get.
#[derive(Debug)]
pub struct Replay {
    pub filter: Filter,
    pub source: ReplaySource,
    /// The subscription selects what it gets.
    pub selection: Option<SelectionKey>,
    /// The page of the history that is being read for it.
    pub reading: Option<ReadTicket>,
    /// It waits for room in its receiver's window.
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
    /// True if its subscription has ended.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// True if it goes on when its client comes back.
    pub fn is_lasting(&self) -> bool {
        matches!(self.source, ReplaySource::History(_)) && !self.is_over
    }
}
