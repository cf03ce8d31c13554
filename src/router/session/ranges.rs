//! Sets of event ids as ranges.

/// Sets of numbers, as ranges that neither touch nor overlap, in order; both ends are included.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// These ranges, which neither touch nor overlap and stand in order.
    pub fn of(ranges: Vec<(u64, u64)>) -> Self {
        Ranges(ranges)
    }

    pub fn has(&self, number: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < number);
        self.0.get(at).is_some_and(|(first, _)| *first <= number)
    }

    pub fn add(&mut self, more: &[(u64, u64)]) {
        let mut all = std::mem::take(&mut self.0);
        all.extend_from_slice(more);
        all.sort_unstable();
        for (first, last) in all {
            match self.0.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => self.0.push((first, last)),
            }
        }
    }

    pub fn into_vec(self) -> Vec<(u64, u64)> {
        self.0
    }

    pub fn forget_until(&mut self, number: u64) {
        self.0.retain(|(_, last)| *last > number);
        if let Some((first, _)) = self.0.first_mut() {
            *first = (*first).max(number.saturating_add(1));
        }
    }
}
