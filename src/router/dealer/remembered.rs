//! The last invocations of clients whose sessions have ended, so that a late answer names no invocation of the next session.
use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::model::limits::MAX_CALLEES_REMEMBERED;

/// The last invocations of MQTT clients, by client id. Of those that are forgotten, a late answer may be taken for one of the next
/// session.
#[derive(Debug, Default)]
pub struct Remembered {
    /// Above the invocations of earlier processes, as far as chance can tell.
    pub base: u64,
    last: HashMap<Box<str>, u64, RandomState>,
    oldest_first: VecDeque<Box<str>>,
}

impl Remembered {
    /// The number behind which the next session of this client counts.
    pub fn last_of(&self, client: &str) -> u64 {
        self.last.get(client).copied().unwrap_or(self.base)
    }

    /// A session of this client has ended, whose last invocation had this number.
    pub fn note(&mut self, client: &str, last: u64) {
        if last <= self.base {
            return;
        }
        if self.last.insert(client.into(), last).is_none() {
            self.oldest_first.push_back(client.into());
        }
        if self.oldest_first.len() > MAX_CALLEES_REMEMBERED
            && let Some(client) = self.oldest_first.pop_front()
        {
            self.last.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_clients_are_remembered() {
        let mut remembered = Remembered { base: 5, ..Remembered::default() };
        remembered.note("unused", 5);
        for number in 0..=MAX_CALLEES_REMEMBERED as u64 {
            remembered.note(&number.to_string(), 6 + number);
        }
        assert_eq!(["unused", "0", "1", "7"].map(|client| remembered.last_of(client)), [5, 5, 7, 13]);
        remembered.note("7", 20);
        assert_eq!((remembered.last_of("7"), remembered.last.len()), (20, MAX_CALLEES_REMEMBERED));
    }
}
