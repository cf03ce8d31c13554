//! The counts of queues that are no more; they live as long as the process.
use std::collections::{BTreeMap, VecDeque};

use super::item::Counts;
use crate::model::Topic;

/// Queues whose counts are remembered; those that came to their end first are forgotten first.
const MAX_PAST: usize = 1_000;

/// The counts of queues that are no more, and of earlier lives of those that are. Two states of queues are equal whatever is in it: it is
/// told to people, and nothing follows from it.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    counts: BTreeMap<Topic, Counts>,
    order: VecDeque<Topic>,
}

impl PartialEq for Past {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Past {}

impl Past {
    /// A queue came to its end. One to which nothing ever happened leaves nothing.
    pub(super) fn note(&mut self, queue: Topic, counts: Counts) {
        if counts == Counts::default() {
            return;
        }
        let known = self.counts.entry(queue.clone()).or_insert_with(|| {
            self.order.push_back(queue);
            Counts::default()
        });
        *known = known.plus(counts);
        if self.order.len() > MAX_PAST
            && let Some(first) = self.order.pop_front()
        {
            self.counts.remove(&first);
        }
    }

    /// The counts of its earlier lives, if it had any.
    pub(super) fn of(&self, queue: &Topic) -> Option<Counts> {
        self.counts.get(queue).copied()
    }

    /// Those with earlier lives.
    pub(super) fn queues(&self) -> impl Iterator<Item = &Topic> {
        self.counts.keys()
    }

    /// The process to which all this happened has ended.
    pub(super) fn clear(&mut self) {
        *self = Past::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_the_oldest_are_forgotten() {
        let topic = |number: usize| Topic::from_mqtt(&format!("$queue/{number}")).unwrap();
        let put = |put| Counts { put, ..Counts::default() };
        let mut past = Past::default();
        past.note(topic(0), Counts::default());
        assert_eq!((past.of(&topic(0)), past.queues().count()), (None, 0));
        for number in 0..MAX_PAST {
            past.note(topic(number), put(1));
            past.note(topic(0), put(2));
        }
        assert_eq!(past.of(&topic(0)), Some(put(1 + 2 * MAX_PAST as u64)));
        past.note(topic(MAX_PAST), put(5));
        assert_eq!((past.of(&topic(0)), past.of(&topic(MAX_PAST))), (None, Some(put(5))));
        assert_eq!(past.queues().count(), MAX_PAST);
        past.clear();
        assert_eq!(past.queues().count(), 0);
    }
}
