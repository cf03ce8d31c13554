//! Replays that a session is owed over restarts: how far its client has come in each, and how they are begun again.
//!
//! A replay goes on from the present values behind the last that its client has acknowledged; what has changed since the SUBSCRIBE
//! comes live. So a record or a piece needs the subscription as it was asked for, the last event before it, the last value that is
//! over, and the few that were over before older ones.
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::model::command::Past;
use crate::model::{EventId, Topic};
use crate::router::retained::is_before;
use crate::router::session::entry::Entry;
use crate::router::session::ranges::Ranges;

/// Names a replay of a session: its filter, and the number of the last event before its SUBSCRIBE.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplayName {
    pub filter: Box<str>,
    pub until: u64,
}

/// The progress of a client in a replay.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reached {
    /// Everything up to this topic is over: retained values come in the order of topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<Box<str>>,
    /// Everything up to this event is over: past events come in the order of events.
    #[serde(default)]
    pub event: u64,
    /// Events that were over before older ones: from and to, both included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over: Vec<(u64, u64)>,
}

/// A change of a replay, for the record; without a place it is over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplayProgress {
    pub name: ReplayName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Reached>,
}

/// A replay as it is kept in the piece of its session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplayState {
    pub entry: Entry,
    pub until: u64,
    pub reached: Reached,
}

/// A value or an event that was sent, or waits to be.
#[derive(Debug)]
struct Mark {
    topic: Topic,
    id: EventId,
    is_over: bool,
}

/// One replay.
#[derive(Debug)]
struct Resumable {
    number: u32,
    name: ReplayName,
    entry: Entry,
    /// Everything up to this value is over.
    topic: Option<Box<str>>,
    event: u64,
    /// Events that were over before older ones in an earlier process.
    over: Ranges,
    /// Values that were sent behind that one, in the order of sending.
    marks: VecDeque<Mark>,
    /// Some of it was sent, or was left out for a reason that no record knows.
    has_begun: bool,
    /// There is nothing left to send.
    is_all_sent: bool,
    /// An earlier process may have sent any of it.
    is_resumed: bool,
    /// A record is to tell of it.
    is_changed: bool,
}

/// Where another process goes on with a replay.
#[derive(Debug)]
pub struct Resumption<'a> {
    /// Behind this topic, if it is of retained values and has come anywhere.
    pub topic: Option<&'a str>,
    /// With these past events, if it is of such.
    pub past: Option<Past>,
    /// Up to the event of this number.
    pub until: u64,
}

/// All replays that a session is owed over restarts.
#[derive(Debug, Default)]
pub struct Resumables {
    all: Vec<Resumable>,
    last_number: u32,
    /// Those that are over, and whose end is not on record.
    ended: Vec<ReplayName>,
}

impl Resumable {
    /// Moves up to the first value that is not over.
    fn advance(&mut self) {
        while self.marks.front().is_some_and(|mark| mark.is_over)
            && let Some(mark) = self.marks.pop_front()
        {
            self.topic = Some(mark.topic.as_mqtt().into());
            self.event = mark.id.value();
            self.is_changed = true;
        }
    }

    fn reached(&self) -> Reached {
        let mut over = self.over.clone();
        let marked = self.marks.iter().filter(|mark| mark.is_over).map(|mark| mark.id.value());
        over.add(&marked.map(|id| (id, id)).collect::<Vec<_>>());
        Reached { topic: self.topic.clone(), event: self.event, over: over.into_vec() }
    }

    fn is_over(&self) -> bool {
        self.is_all_sent && self.marks.is_empty()
    }
}

impl Resumables {
    /// A replay begins, of a subscription that was asked for like this behind the event of this number; the number by which it is known
    /// here. An earlier one of the same filter that has sent nothing gives way.
    pub fn begin(&mut self, entry: Entry, until: u64) -> u32 {
        self.last_number += 1;
        let name = ReplayName { filter: entry.filter.clone(), until };
        let has_begun = entry.has_no_local() || entry.snapshot;
        self.all.push(Resumable {
            number: self.last_number,
            name,
            entry,
            has_begun,
            topic: None,
            event: 0,
            over: Ranges::default(),
            marks: VecDeque::new(),
            is_all_sent: false,
            is_resumed: false,
            is_changed: false,
        });
        self.last_number
    }

    fn at(&self, number: u32) -> Option<&Resumable> {
        self.all.iter().find(|one| one.number == number)
    }

    fn at_mut(&mut self, number: u32) -> Option<&mut Resumable> {
        self.all.iter_mut().find(|one| one.number == number)
    }

    /// True if this event was over before older ones in an earlier process.
    pub fn was_over(&self, number: u32, id: EventId) -> bool {
        self.at(number).is_some_and(|one| one.over.has(id.value()))
    }

    /// True if an earlier process may have sent some of it.
    pub fn is_resumed(&self, number: u32) -> bool {
        self.at(number).is_some_and(|one| one.is_resumed)
    }

    /// Where another process goes on with a replay.
    pub fn resumption_of(&self, number: u32) -> Option<Resumption<'_>> {
        let one = self.at(number)?;
        let until = one.name.until;
        let past = if one.event > 0 { Some(Past::After(EventId::new(one.event))) } else { one.entry.past() };
        Some(Resumption { topic: one.topic.as_deref(), past, until })
    }

    /// Some of it is sent that nobody acknowledges.
    pub fn note_begun(&mut self, number: u32) {
        if let Some(one) = self.at_mut(number) {
            one.has_begun = true;
        }
    }

    /// The next value of a replay is sent, or waits to be.
    pub fn note_sent(&mut self, number: u32, topic: &Topic, id: EventId) {
        if let Some(one) = self.at_mut(number) {
            one.marks.push_back(Mark { topic: topic.clone(), id, is_over: false });
        }
    }

    /// There is nothing left to send of it.
    pub fn note_all_sent(&mut self, number: u32) {
        if let Some(one) = self.at_mut(number) {
            one.is_all_sent = true;
        }
        self.forget_ended();
    }

    /// A client has acknowledged this event, which came in one of the replays.
    pub fn note_over(&mut self, id: EventId) {
        let is_it = |mark: &&mut Mark| mark.id == id && !mark.is_over;
        let found = self.all.iter_mut().find_map(|one| {
            one.marks.iter_mut().find(is_it)?.is_over = true;
            one.is_changed = true;
            one.advance();
            Some(())
        });
        if found.is_none() {
            // An earlier process has sent it, and it has not been found again.
            let it = [(id.value(), id.value())];
            self.all.iter_mut().filter(|one| one.is_resumed).for_each(|one| {
                one.over.add(&it);
                one.is_changed = true;
            });
        }
        self.forget_ended();
    }

    /// A replay comes to nothing: a newer one of its filter takes its place, or it has ended by itself.
    pub fn end(&mut self, number: u32) {
        if let Some(index) = self.all.iter().position(|one| one.number == number) {
            self.ended.push(self.all.swap_remove(index).name);
        }
    }

    /// Its subscription has ended.
    pub fn forget(&mut self, filter: &str) {
        self.all.retain(|one| *one.name.filter != *filter);
    }

    /// One that has sent nothing finds nothing in another process either, and needs no record of its end.
    fn forget_ended(&mut self) {
        let ended = &mut self.ended;
        self.all.retain(|one| {
            let is_over = one.is_over();
            ended.extend((is_over && (one.has_begun || one.is_resumed)).then(|| one.name.clone()));
            !is_over
        });
    }

    /// True if a record is to tell of something.
    pub fn is_changed(&self) -> bool {
        !self.ended.is_empty() || self.all.iter().any(|one| one.is_changed)
    }

    /// The changes that a record has to tell since the last one.
    pub fn take_changes(&mut self) -> Vec<ReplayProgress> {
        let ended = std::mem::take(&mut self.ended).into_iter().map(|name| ReplayProgress { name, reached: None });
        let mut all: Vec<_> = ended.collect();
        for one in self.all.iter_mut().filter(|one| one.is_changed) {
            one.is_changed = false;
            all.push(ReplayProgress { name: one.name.clone(), reached: Some(one.reached()) });
        }
        all
    }

    /// All of it, for the piece of the session.
    pub fn states(&self) -> Vec<ReplayState> {
        let state = |one: &Resumable| ReplayState { entry: one.entry.clone(), until: one.name.until, reached: one.reached() };
        self.all.iter().map(state).collect()
    }

    /// An earlier process has come so far in a replay, or farther, as a piece knows of more than the records behind it. The number of
    /// the replay if it is over.
    pub fn restore(&mut self, said: ReplayProgress) -> Option<u32> {
        let one = self.all.iter_mut().find(|one| one.name == said.name)?;
        match said.reached {
            Some(reached) => {
                one.reach(reached);
                None
            }
            None => {
                let number = one.number;
                self.all.retain(|one| one.number != number);
                Some(number)
            }
        }
    }

    /// The number of the newest.
    pub fn newest(&self) -> u32 {
        self.last_number
    }

    /// One of them began in an earlier process, which had come so far.
    pub fn restore_reached(&mut self, number: u32, until: u64, reached: Reached) {
        if let Some(one) = self.at_mut(number) {
            one.name.until = until;
            one.reach(reached);
        }
    }

    /// Another process goes on with all of them.
    pub fn resume(&mut self) {
        self.all.iter_mut().for_each(|one| one.is_resumed = true);
    }
}

impl Resumable {
    fn reach(&mut self, said: Reached) {
        let is_farther = match (&self.topic, &said.topic) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(known), Some(said)) => is_before(known, said),
        };
        if is_farther {
            self.topic = said.topic;
        }
        self.event = self.event.max(said.event);
        self.over.add(&said.over);
    }
}
