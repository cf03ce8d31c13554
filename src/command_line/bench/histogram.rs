//! Durations in buckets whose width grows with the value: any percentile within 1.6 % and in constant space.
use std::time::Duration;

/// Each power of two is divided into 2^6 buckets.
const PRECISION_BITS: u32 = 6;
const BUCKETS_PER_POWER: usize = 1 << PRECISION_BITS;
/// Enough for every 64-bit number of nanoseconds.
const BUCKETS: usize = (64 - PRECISION_BITS as usize + 1) * BUCKETS_PER_POWER;

/// The number of times that each duration was seen.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_ns: u64,
    sum_ns: u128,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; BUCKETS], total: 0, max_ns: 0, sum_ns: 0 }
    }
}

/// The bucket of a value: the position of its highest bit, and the six bits behind that.
fn bucket(value: u64) -> usize {
    let power = (u64::BITS - value.leading_zeros()).saturating_sub(PRECISION_BITS + 1);
    power as usize * BUCKETS_PER_POWER + (value >> power) as usize
}

/// The largest value in a bucket.
fn upper_end(bucket: usize) -> u64 {
    let power = (bucket / BUCKETS_PER_POWER).saturating_sub(1);
    let mantissa = (bucket - power * BUCKETS_PER_POWER) as u64;
    (((u128::from(mantissa) + 1) << power) - 1).try_into().unwrap_or(u64::MAX)
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub(super) fn record(&mut self, duration: Duration) {
        let value = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count += 1;
        }
        self.total += 1;
        self.sum_ns += u128::from(value);
        self.max_ns = self.max_ns.max(value);
    }

    /// Counts everything that `other` has counted.
    pub(super) fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// The number of durations that were counted.
    pub(super) fn len(&self) -> u64 {
        self.total
    }

    /// The duration that a share of `quantile` (0 to 1) of all does not exceed, in microseconds; the upper end of its bucket.
    pub(super) fn quantile_us(&self, quantile: f64) -> f64 {
        let rank = ((self.total as f64 * quantile).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_end(bucket).min(self.max_ns) as f64 / 1e3;
            }
        }
        0.0
    }

    /// The longest, in microseconds.
    pub(super) fn max_us(&self) -> f64 {
        self.max_ns as f64 / 1e3
    }

    /// The mean, in microseconds.
    pub(super) fn mean_us(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.sum_ns as f64 / self.total as f64 / 1e3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_every_value_once() {
        let mut last = None;
        for value in (0..5_000).chain((13..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])).chain([u64::MAX]) {
            let bucket = bucket(value);
            assert!(bucket < BUCKETS && last.is_none_or(|last| last <= bucket), "{value}");
            assert!(upper_end(bucket) >= value, "{value}");
            assert!((upper_end(bucket) - value) as f64 <= value as f64 / 60.0, "{value}");
            assert!(bucket == 0 || upper_end(bucket - 1) < value, "{value}");
            last = Some(bucket);
        }
    }

    #[test]
    fn quantiles_are_within_the_precision() {
        let mut histogram = Histogram::default();
        for us in 1..=10_000 {
            histogram.record(Duration::from_micros(us));
        }
        for (quantile, expected) in [(0.5, 5_000.0), (0.9, 9_000.0), (0.99, 9_900.0), (0.999, 9_990.0), (1.0, 10_000.0)] {
            let found = histogram.quantile_us(quantile);
            assert!(found >= expected && found <= expected * 1.017, "{quantile}: {found}");
        }
        assert_eq!((histogram.max_us(), histogram.len()), (10_000.0, 10_000));
        assert!((histogram.mean_us() - 5_000.5).abs() < 0.01);
    }

    #[test]
    fn merged_histograms_are_as_one() {
        let (mut one, mut even, mut odd) = (Histogram::default(), Histogram::default(), Histogram::default());
        for us in 0..1_000 {
            one.record(Duration::from_micros(us * us));
            if us % 2 == 0 { &mut even } else { &mut odd }.record(Duration::from_micros(us * us));
        }
        even.merge(&odd);
        assert_eq!((even.len(), even.max_us(), even.mean_us()), (one.len(), one.max_us(), one.mean_us()));
        for quantile in [0.1, 0.5, 0.99, 1.0] {
            assert_eq!(even.quantile_us(quantile), one.quantile_us(quantile));
        }
    }

    #[test]
    fn nothing_counted_is_nothing_reported() {
        let histogram = Histogram::default();
        assert_eq!((histogram.quantile_us(0.99), histogram.max_us(), histogram.mean_us()), (0.0, 0.0, 0.0));
    }
}
