//! Hosts and origins that were refused of late: browsers do not show a page why it may not connect, so the status page does.
use parking_lot::Mutex;

/// Refusals that are remembered; those of longest ago make room.
const MAX_REFUSALS: usize = 16;

/// The time for which one is remembered behind its last.
const KEPT_MS: u64 = 3_600_000;

/// A host or origin that was refused, perhaps more than once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The text that it was told: the refusal, and the option that would allow it.
    pub why: String,
    /// The number of times.
    pub count: u64,
    /// The last time, in milliseconds since the Unix epoch.
    pub last_ms: u64,
}

/// The refusals of the last hour.
#[derive(Debug, Default)]
pub struct Refused(Mutex<Vec<Refusal>>);

impl Refused {
    /// Notes one.
    pub fn note(&self, why: &str, now_ms: u64) {
        let mut refusals = self.0.lock();
        let count = match refusals.iter().position(|refusal| refusal.why == why) {
            Some(at) => refusals.remove(at).count,
            None => 0,
        };
        if refusals.len() >= MAX_REFUSALS {
            refusals.remove(0);
        }
        refusals.push(Refusal { why: why.to_owned(), count: count + 1, last_ms: now_ms });
    }

    /// Those of the last hour, the latest one first.
    pub fn all(&self, now_ms: u64) -> Vec<Refusal> {
        let mut refusals = self.0.lock();
        refusals.retain(|refusal| now_ms < refusal.last_ms.saturating_add(KEPT_MS));
        refusals.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_for_an_hour() {
        let refused = Refused::default();
        refused.note("a", 1);
        refused.note("b", 2);
        refused.note("a", 3);
        let told = |now_ms| refused.all(now_ms).into_iter().map(|refusal| (refusal.why, refusal.count)).collect::<Vec<_>>();
        assert_eq!(told(4), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        assert_eq!(told(2 + KEPT_MS), [("a".to_owned(), 2)]);
        for n in 0..100 {
            refused.note(&n.to_string(), KEPT_MS);
        }
        let left = told(KEPT_MS);
        assert_eq!((left.len(), left[0].0.as_str(), left[MAX_REFUSALS - 1].0.as_str()), (MAX_REFUSALS, "99", "84"));
        assert!(told(2 * KEPT_MS).is_empty());
    }
}
