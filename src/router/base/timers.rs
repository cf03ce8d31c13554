//! The tasks that are due, by time: call timeouts, will delays, session expiries.
use std::collections::BTreeMap;

/// Ordered by time, then by the order of being set.
#[derive(Debug)]
pub struct Timers<T> {
    due: BTreeMap<(u64, u64), T>,
    next: u64,
}

/// Names a timer that was set, so that it can be cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerKey(u64, u64);

impl<T> Timers<T> {
    /// No timers.
    pub fn new() -> Self {
        Timers { due: BTreeMap::new(), next: 0 }
    }

    /// `what` becomes due at `at_ms`.
    pub fn set(&mut self, at_ms: u64, what: T) -> TimerKey {
        self.next += 1;
        self.due.insert((at_ms, self.next), what);
        TimerKey(at_ms, self.next)
    }

    /// Forgets a timer; one that has been due is forgotten already.
    pub fn clear(&mut self, key: TimerKey) {
        self.due.remove(&(key.0, key.1));
    }

    /// When the next one is due.
    pub fn next_ms(&self) -> Option<u64> {
        self.due.keys().next().map(|(at_ms, _)| *at_ms)
    }

    /// Takes one that is due at `now_ms`.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<T> {
        let entry = self.due.first_entry()?;
        (entry.key().0 <= now_ms).then(|| entry.remove())
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_due_in_order_and_can_be_cleared() {
        let mut timers = Timers::new();
        timers.set(20, "b");
        timers.set(10, "a");
        let cleared = timers.set(15, "x");
        timers.clear(cleared);
        assert_eq!(timers.next_ms(), Some(10));
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(30), Some("a"));
        assert_eq!(timers.pop_due(30), Some("b"));
        assert_eq!(timers.pop_due(30), None);
    }
}
