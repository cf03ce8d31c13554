//! The line of those who wait for the items of a queue, and the items that each connection has.
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::Topic;
use crate::router::base::claim::Token;

/// Somebody in line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Taker {
    /// A call, which gets what there is when there is something, up to `max` items.
    Call {
        /// The id of the record by which it asked.
        take: u64,
        /// Items at the most.
        max: u32,
        /// The connection that called.
        by: u64,
        /// When its wait is over, in milliseconds since the Unix epoch.
        until_ms: u64,
    },
    /// A connection, which gets one item after the other.
    Connection(u64),
}

/// The line of one queue: first come, first served. A connection that was served comes last again.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Line {
    takers: BTreeMap<u64, Taker>,
    last_turn: u64,
    calls: usize,
    subscribers: BTreeSet<u64>,
}

impl Line {
    /// Stands behind everybody; the turn.
    pub fn join(&mut self, taker: Taker) -> u64 {
        self.last_turn += 1;
        self.calls += usize::from(matches!(taker, Taker::Call { .. }));
        self.takers.insert(self.last_turn, taker);
        self.last_turn
    }

    /// Takes whoever has this turn out.
    pub fn leave(&mut self, turn: u64) -> Option<Taker> {
        let taker = self.takers.remove(&turn)?;
        self.calls -= usize::from(matches!(taker, Taker::Call { .. }));
        Some(taker)
    }

    /// Takes whoever is first out.
    pub fn next(&mut self) -> Option<Taker> {
        let turn = self.takers.first_key_value().map(|(turn, _)| *turn)?;
        self.leave(turn)
    }

    /// A connection takes from this queue, in line or holding as much as it may.
    pub fn note_subscriber(&mut self, by: u64) {
        self.subscribers.insert(by);
    }

    /// The connection takes no more.
    pub fn forget_subscriber(&mut self, by: u64) {
        self.subscribers.remove(&by);
    }

    /// Everybody in line, with their turns.
    pub fn takers(&self) -> impl Iterator<Item = (&u64, &Taker)> {
        self.takers.iter()
    }

    /// Calls in line.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Connections that take from this queue.
    pub fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    /// True if nobody wants anything.
    pub fn is_empty(&self) -> bool {
        self.takers.is_empty() && self.subscribers.is_empty()
    }
}

/// The waiting and the claims of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Consumer {
    /// Items that it may hold at a time.
    pub window: u32,
    /// The queues that it takes from, with its turn in each line where it stands in it.
    pub queues: BTreeMap<Topic, Option<u64>>,
    /// Its calls that wait, by the ids of their records.
    pub calls: BTreeSet<u64>,
    /// The items that were delivered to it.
    pub claims: BTreeSet<Token>,
}

impl Consumer {
    /// True if it may hold one more.
    pub fn has_room(&self) -> bool {
        self.claims.len() < self.window as usize
    }

    /// True if it neither waits nor has anything.
    pub fn is_nothing(&self) -> bool {
        self.queues.is_empty() && self.calls.is_empty() && self.claims.is_empty()
    }
}
