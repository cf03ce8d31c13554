//! Counters of what was sent and received, and the credit that keeps publishers from running away from their subscribers.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Sleep of a publisher without credit before it looks whether the run is over.
const LOOK_AROUND: Duration = Duration::from_millis(20);

/// A number that one thread writes and others read; on a cache line of its own.
#[repr(align(128))]
#[derive(Default, Debug)]
struct Counter(AtomicU64);

/// One counter for each of several tasks.
#[derive(Debug)]
pub(super) struct Counters(Vec<Counter>);

impl Counters {
    /// That many counters at zero.
    pub(super) fn new(count: usize) -> Self {
        Counters((0..count).map(|_| Counter::default()).collect())
    }

    /// Adds to the counter of task `index`; returns what it stands at.
    #[inline]
    pub(super) fn add(&self, index: usize, more: u64) -> u64 {
        self.0.get(index).map_or(0, |counter| counter.0.fetch_add(more, Ordering::SeqCst) + more)
    }

    /// The count of task `index`.
    pub(super) fn at(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |counter| counter.0.load(Ordering::SeqCst))
    }

    /// The sum of all.
    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(|counter| counter.0.load(Ordering::Relaxed)).sum()
    }
}

/// The messages that the publishers of one topic may send: never more than `ahead` beyond those that its slowest subscriber has
/// received.
#[derive(Debug)]
pub(super) struct Credit {
    /// `None` = without limit.
    ahead: Option<u64>,
    sent: AtomicU64,
    /// One for each subscriber of the topic.
    received: Counters,
    /// When the slowest subscriber has got so far, a publisher waits to be told.
    wanted: AtomicU64,
    more: Notify,
}

impl Credit {
    /// The credit of a topic with so many subscribers; without any, or without `ahead`, there is no limit.
    pub(super) fn new(subscribers: usize, ahead: Option<u64>) -> Self {
        Credit {
            ahead: ahead.filter(|_| subscribers > 0),
            sent: AtomicU64::new(0),
            received: Counters::new(subscribers),
            wanted: AtomicU64::new(u64::MAX),
            more: Notify::new(),
        }
    }

    /// The messages that the slowest subscriber has received.
    fn slowest(&self) -> u64 {
        (0..self.received.0.len()).map(|index| self.received.at(index)).min().unwrap_or(u64::MAX)
    }

    /// Takes up to `most` messages of credit, but not just a few of them where more are to be had soon; 0 = not now.
    pub(super) fn take(&self, most: u64) -> u64 {
        let Some(ahead) = self.ahead else { return most };
        let worthwhile = most.min(ahead.div_ceil(4)).max(1);
        let slowest = self.slowest();
        let mut taken = 0;
        let _ = self.sent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |sent| {
            let room = slowest.saturating_add(ahead).saturating_sub(sent);
            taken = if room >= worthwhile { room.min(most) } else { 0 };
            (taken > 0).then_some(sent + taken)
        });
        taken
    }

    /// Waits for credit as `take` wants it; returns after a while in any case.
    pub(super) async fn wait(&self, most: u64) {
        let Some(ahead) = self.ahead else { return };
        let more = self.more.notified();
        tokio::pin!(more);
        more.as_mut().enable();
        let worthwhile = most.min(ahead.div_ceil(4)).max(1);
        let needed = (self.sent.load(Ordering::SeqCst) + worthwhile).saturating_sub(ahead);
        // The order matters: a subscriber counts first and looks at `wanted` then.
        self.wanted.fetch_min(needed, Ordering::SeqCst);
        if self.slowest() < needed {
            // Elapsed or told: the caller looks again.
            let _ = tokio::time::timeout(LOOK_AROUND, more).await;
        }
    }

    /// Subscriber `index` has received so many more.
    #[inline]
    pub(super) fn receive(&self, index: usize, more: u64) {
        let received = self.received.add(index, more);
        if received >= self.wanted.load(Ordering::SeqCst) {
            self.wanted.store(u64::MAX, Ordering::SeqCst);
            self.more.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn nobody_runs_further_ahead_than_allowed() {
        let credit = Credit::new(2, Some(100));
        assert_eq!(credit.take(60), 60);
        assert_eq!(credit.take(60), 40);
        assert_eq!(credit.take(60), 0);
        credit.receive(0, 50);
        assert_eq!(credit.take(60), 0, "the other subscriber has received nothing");
        credit.receive(1, 30);
        assert_eq!(credit.take(60), 30);
        assert_eq!(credit.take(1), 0);
    }

    #[test]
    fn a_little_credit_is_not_worth_a_write() {
        let credit = Credit::new(1, Some(100));
        assert_eq!(credit.take(100), 100);
        credit.receive(0, 24);
        assert_eq!(credit.take(100), 0);
        assert_eq!(credit.take(3), 3, "unless no more is asked for");
        credit.receive(0, 4);
        assert_eq!(credit.take(100), 25);
    }

    #[test]
    fn without_subscribers_or_limit_everything_is_allowed() {
        assert_eq!(Credit::new(0, Some(1)).take(1_000), 1_000);
        assert_eq!(Credit::new(1, None).take(1_000), 1_000);
    }

    #[tokio::test]
    async fn who_waits_is_told() {
        let credit = Arc::new(Credit::new(1, Some(1_000)));
        let subscriber = credit.clone();
        let receiving = std::thread::spawn(move || {
            let mut received = 0;
            while received < 1_000_000 {
                let sent = subscriber.sent.load(Ordering::SeqCst);
                assert!(sent - received <= 1_000);
                subscriber.receive(0, sent - received);
                received = sent;
                std::hint::spin_loop();
            }
        });
        let mut left = 1_000_000;
        while left > 0 {
            match credit.take(left.min(400)) {
                0 => credit.wait(left.min(400)).await,
                taken => left -= taken,
            }
        }
        receiving.join().unwrap();
    }
}
