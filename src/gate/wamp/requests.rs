//! The requests of a session that wait for their answers, by the ids that the client gave them (WAMP: Basic, Identifiers).
use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

/// Ids that are kept in a row: enough for what a client that counts has on its way.
const MAX_ROW: usize = 1_024;

/// The state of each open request. Ids that count by one stand in a row, where finding one costs nothing; all others are looked
/// up.
#[derive(Debug)]
pub struct OpenRequests<T> {
    /// The id that the row begins with.
    first: u64,
    /// Beginning and ending with an open request; no id between is among the others.
    row: VecDeque<Option<T>>,
    others: HashMap<u64, T, RandomState>,
}

impl<T> Default for OpenRequests<T> {
    fn default() -> Self {
        OpenRequests { first: 0, row: VecDeque::new(), others: HashMap::default() }
    }
}

impl<T> OpenRequests<T> {
    /// Notes a request; false, and nothing is noted, where one with this id is open.
    pub fn open(&mut self, id: u64, request: T) -> bool {
        if !self.others.is_empty() && self.others.contains_key(&id) {
            return false;
        }
        if self.row.is_empty() {
            self.first = id;
        }
        let length = self.row.len();
        let place = id.checked_sub(self.first).and_then(|place| usize::try_from(place).ok()).filter(|place| *place <= length);
        match place {
            Some(place) if place < length => match self.row.get_mut(place) {
                Some(slot @ None) => *slot = Some(request),
                _ => return false,
            },
            Some(_) if length < MAX_ROW => self.row.push_back(Some(request)),
            _ => drop(self.others.insert(id, request)),
        }
        true
    }

    /// The open request with this id.
    pub fn at_mut(&mut self, id: u64) -> Option<&mut T> {
        match self.place(id) {
            Some(place) => self.row.get_mut(place)?.as_mut(),
            None => self.others.get_mut(&id),
        }
    }

    /// The request is answered: what was noted of it, if it was open.
    pub fn close(&mut self, id: u64) -> Option<T> {
        let Some(place) = self.place(id) else { return self.others.remove(&id) };
        let request = self.row.get_mut(place)?.take();
        while let Some(None) = self.row.front() {
            self.row.pop_front();
            self.first += 1;
        }
        while let Some(None) = self.row.back() {
            self.row.pop_back();
        }
        request
    }

    /// Where the row has this id.
    fn place(&self, id: u64) -> Option<usize> {
        let place = usize::try_from(id.checked_sub(self.first)?).ok()?;
        (place < self.row.len()).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The same as a plain map, whatever ids come, counting or not.
        #[test]
        fn a_row_and_the_others_are_one_map(steps in proptest::collection::vec((0..4u8, 0..40u64), 0..400)) {
            let (mut open, mut map, mut next) = (OpenRequests::default(), HashMap::new(), 1u64);
            for (number, (step, choice)) in steps.into_iter().enumerate() {
                let id = match step {
                    0 | 1 => next,
                    2 => choice + 1,
                    _ => (1 << 53) - choice,
                };
                if step < 2 || choice % 2 == 0 {
                    let is_new = !map.contains_key(&id);
                    prop_assert_eq!(open.open(id, number), is_new);
                    map.entry(id).or_insert(number);
                    next += u64::from(step < 2);
                } else {
                    let closed = if step == 2 { next.saturating_sub(choice) } else { id };
                    prop_assert_eq!(open.at_mut(closed).copied(), map.get(&closed).copied());
                    prop_assert_eq!(open.close(closed), map.remove(&closed));
                }
            }
            for (id, number) in map {
                prop_assert_eq!(open.close(id), Some(number));
            }
            prop_assert!(open.row.is_empty() && open.others.is_empty());
        }
    }

    #[test]
    fn one_that_stays_open_holds_a_bounded_row() {
        let mut open = OpenRequests::default();
        for id in 1..=100_000 {
            assert!(open.open(id, ()));
            assert!(id == 1 || open.close(id).is_some());
        }
        assert!(open.row.len() <= MAX_ROW && open.others.is_empty());
        assert!(!open.open(1, ()));
        assert_eq!((open.close(1), open.close(1)), (Some(()), None));
        assert!(open.row.is_empty());
    }
}
