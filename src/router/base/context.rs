//! The context of every step of a realm: its time, bounds, chance and timers, and the place for what is to be done.
use std::collections::VecDeque;
use std::sync::Arc;

use super::due::Due;
use super::effect::Effect;
use super::key::SessionKey;
use super::random::Random;
use super::timers::Timers;
use crate::model::command::PublishOptions;
use crate::model::{Command, ConnectionId, Delivery, Limits, Publication, Reason, Topic};

/// The time to wait before something that the disk refused is tried again.
pub const RETRY_MS: u64 = 1_000;

/// The counters of a realm, read by the status page and `$SYS`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Publications that clients have sent, those that are refused included.
    pub published: u64,
    /// Bytes of their payloads.
    pub published_bytes: u64,
    /// Events sent towards connections.
    pub delivered: u64,
    /// Bytes of their payloads.
    pub delivered_bytes: u64,
    /// Deliveries lost at the bound of a session's queue.
    pub dropped: u64,
    /// Errors of calls from MQTT that had nowhere to go.
    pub unheard: u64,
    /// Sessions whose client has stayed away for longer than they wait.
    pub expired: u64,
}

impl Counters {
    /// Adds those of another realm.
    pub fn add(&mut self, more: &Counters) {
        self.published += more.published;
        self.published_bytes += more.published_bytes;
        self.delivered += more.delivered;
        self.delivered_bytes += more.delivered_bytes;
        self.dropped += more.dropped;
        self.unheard += more.unheard;
        self.expired += more.expired;
    }
}

/// A task that a flow leaves to be done above it. Tasks are done in order, each with all that follows from it, before the next.
#[derive(Debug)]
pub enum Consequence {
    /// The router ends the connection of a session; the session may stay.
    End(SessionKey, Reason),
    /// A command is carried out that was on its way into the history.
    Carry(SessionKey, ConnectionId, Command),
    /// Publications of a session behind a ticket go out, now that this has come back.
    Follow(Option<SessionKey>, Vec<Follower>),
    /// Commands of a session that waited go on, as far as they need not wait again.
    Continue(SessionKey),
    /// A client that waited to be let in has what it waited for.
    Arrive(SessionKey, ConnectionId),
    /// The line of a topic is looked at again.
    Advance(Topic),
}

/// An unacknowledged publication that follows a stored one of its session.
#[derive(Debug)]
pub struct Follower {
    /// The message to publish.
    pub publication: Arc<Publication>,
    /// Its options.
    pub options: Option<Box<PublishOptions>>,
}

/// The context that every step of a realm may use.
#[derive(Debug)]
pub struct Context {
    /// Milliseconds since the Unix epoch, never running backwards.
    pub now_ms: u64,
    /// The bounds of the realm.
    pub limits: Limits,
    /// All the chance that the realm has.
    pub random: Random,
    /// The tasks that are due, by time.
    pub timers: Timers<Due>,
    /// The counters of the realm.
    pub counters: Counters,
    /// The router stops: nobody may join any more.
    pub is_closed: bool,
    /// Every connection is told to end once nothing waits for its place in the history.
    pub is_stopping: bool,
    /// Effects to be carried out outside of the realm, in order.
    pub effects: VecDeque<Effect>,
    consequences: Vec<Consequence>,
}

impl Context {
    /// That of a realm whose time has not begun.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Context {
            now_ms: 0,
            limits,
            random: Random::new(seed),
            timers: Timers::new(),
            counters: Counters::default(),
            is_closed: false,
            is_stopping: false,
            effects: VecDeque::new(),
            consequences: Vec::new(),
        }
    }

    /// Time goes on, never back.
    pub fn note_time(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Tells a connection something.
    pub fn tell(&mut self, to: ConnectionId, delivery: Delivery) {
        self.effects.push_back(Effect::Deliver(to, delivery));
    }

    /// Leaves something to be done above the flow that is at work.
    pub fn then(&mut self, next: Consequence) {
        self.consequences.push(next);
    }

    /// True if nothing was left to be done.
    pub fn is_done(&self) -> bool {
        self.consequences.is_empty()
    }

    /// Moves what was left to be done to the end of `line`, the first of it last.
    pub fn take_consequences(&mut self, line: &mut Vec<Consequence>) {
        line.extend(self.consequences.drain(..).rev());
    }
}
