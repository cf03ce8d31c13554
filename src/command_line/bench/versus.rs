//! Several rounds, of one router or of two in turn, and what they come to in the middle.
use std::fmt::Write;

use serde::Serialize;

use super::report::{Outcome, median};
use crate::command_line::output::grouped;

/// The middle of some rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Middle {
    /// The figure.
    per_second: Option<f64>,
    /// Processor time of the router for a million, in seconds.
    cpu_s_per_million: Option<f64>,
    /// Median latency, in microseconds.
    p50_us: Option<f64>,
    /// 99th percentile, in microseconds.
    p99_us: Option<f64>,
    /// Memory of the router for each connection or whatever was added.
    bytes_each: Option<f64>,
}

/// The figures of a round, or the ratios of two rounds.
impl Middle {
    fn of(outcome: &Outcome) -> Self {
        Middle {
            per_second: Some(outcome.per_second),
            cpu_s_per_million: outcome.router.as_ref().and_then(|router| router.cpu_s_per_million),
            p50_us: outcome.latency_us.as_ref().map(|latency| latency.p50),
            p99_us: outcome.latency_us.as_ref().map(|latency| latency.p99),
            bytes_each: outcome.growth.as_ref().map(|growth| growth.bytes_each),
        }
    }

    fn ratio(&self, other: &Middle) -> Self {
        let ratio = |a: Option<f64>, b: Option<f64>| a.zip(b).filter(|(_, b)| *b != 0.0).map(|(a, b)| a / b);
        Middle {
            per_second: ratio(self.per_second, other.per_second),
            cpu_s_per_million: ratio(self.cpu_s_per_million, other.cpu_s_per_million),
            p50_us: ratio(self.p50_us, other.p50_us),
            p99_us: ratio(self.p99_us, other.p99_us),
            bytes_each: ratio(self.bytes_each, other.bytes_each),
        }
    }

    /// The median of each figure by itself.
    fn median(rounds: &[Middle]) -> Self {
        let of = |figure: fn(&Middle) -> Option<f64>| median(rounds.iter().filter_map(figure).collect());
        Middle {
            per_second: of(|round| round.per_second),
            cpu_s_per_million: of(|round| round.cpu_s_per_million),
            p50_us: of(|round| round.p50_us),
            p99_us: of(|round| round.p99_us),
            bytes_each: of(|round| round.bytes_each),
        }
    }

    fn figures(&self) -> [(&'static str, Option<f64>); 5] {
        [
            ("rate, 1/s", self.per_second),
            ("router's processor time, s a million", self.cpu_s_per_million),
            ("latency p50, us", self.p50_us),
            ("latency p99, us", self.p99_us),
            ("memory, bytes for each", self.bytes_each),
        ]
    }
}

/// All rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Comparison {
    /// The rounds of the first router.
    pub a: Vec<Outcome>,
    /// Their medians.
    pub a_median: Middle,
    /// The rounds of the second router, if there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub b: Vec<Outcome>,
    /// Their medians.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b_median: Option<Middle>,
    /// The medians of the ratios, first to second, of rounds that followed each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_median: Option<Middle>,
    /// True if every round counts.
    pub counts: bool,
    /// Why there are no more rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Comparison {
    /// The comparison of rounds that were run in turn.
    pub(super) fn of(a: Vec<Outcome>, b: Vec<Outcome>) -> Self {
        let figures = |outcomes: &[Outcome]| outcomes.iter().map(Middle::of).collect::<Vec<_>>();
        let (of_a, of_b) = (figures(&a), figures(&b));
        let ratios: Vec<Middle> = of_a.iter().zip(&of_b).map(|(a, b)| a.ratio(b)).collect();
        let is_compared = !b.is_empty();
        Comparison {
            a_median: Middle::median(&of_a),
            b_median: is_compared.then(|| Middle::median(&of_b)),
            ratio_median: is_compared.then(|| Middle::median(&ratios)),
            counts: a.iter().chain(&b).all(|outcome| outcome.counts),
            error: None,
            a,
            b,
        }
    }

    /// The medians, and the ratios if there are two routers.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let (Some(first), rounds) = (self.a.first(), self.a.len()) else { return text };
        let number = |value: Option<f64>| {
            value.map_or("-".to_string(), |value| if value < 1_000.0 { format!("{value:.2}") } else { grouped(value as u64) })
        };
        let heads = (&first.url, self.b.first().map_or("", |second| &second.url));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "medians of {rounds} rounds: {}", first.work);
        let _ =
            writeln!(text, "  {:<38} {:>26} {:>26} {:>8}", "", heads.0, heads.1, if self.b.is_empty() { "" } else { "ratio" });
        for (index, (name, value)) in self.a_median.figures().into_iter().enumerate() {
            let of = |middle: &Option<Middle>| {
                middle.as_ref().and_then(|middle| middle.figures().get(index).and_then(|(_, value)| *value))
            };
            if value.is_some() {
                let other = self.b_median.as_ref().map_or(String::new(), |_| number(of(&self.b_median)));
                let ratio = self.ratio_median.as_ref().map_or(String::new(), |_| number(of(&self.ratio_median)));
                let _ = writeln!(text, "  {name:<38} {:>26} {other:>26} {ratio:>8}", number(value));
            }
        }
        // Writing to a string cannot fail.
        let _ = match &self.error {
            Some(error) => writeln!(text, "  ended early: {error}"),
            None if !self.counts => writeln!(text, "  does not count: see the notes of the rounds"),
            None => Ok(()),
        };
        text
    }
}

/// Runs the rounds: one router, or two in turn. Where one fails, those before it are not lost.
pub(super) fn run(
    rounds: u64,
    mut a: impl FnMut(u64) -> Result<Outcome, String>,
    mut b: Option<impl FnMut(u64) -> Result<Outcome, String>>,
) -> Comparison {
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    let mut run_all = || {
        for round in 0..rounds {
            of_a.push(a(round)?);
            if let Some(b) = &mut b {
                of_b.push(b(round)?);
            }
        }
        Ok(())
    };
    let error: Option<String> = run_all().err();
    let counts = error.is_none();
    let comparison = Comparison::of(of_a, of_b);
    Comparison { counts: counts && comparison.counts, error, ..comparison }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(per_second: f64, counts: bool) -> Outcome {
        Outcome {
            url: "mqtt://a".into(),
            protocol: String::new(),
            work: "work".into(),
            unit: "messages",
            per_second,
            seconds: 5.0,
            opened_in_s: None,
            sent_per_second: None,
            expected: 1,
            lost: 0,
            repeated: 0,
            latency_us: None,
            growth: None,
            disk_syncs_per_second: None,
            router: None,
            threads: Vec::new(),
            counts,
            notes: Vec::new(),
        }
    }

    #[test]
    fn ratios_are_taken_between_neighbours() {
        let mut order = String::new();
        let rates = [(100.0, 50.0), (200.0, 200.0), (90.0, 30.0)];
        let comparison = {
            let order = std::cell::RefCell::new(&mut order);
            let a = |round: u64| {
                order.borrow_mut().push('A');
                Ok(outcome(rates[round as usize].0, true))
            };
            let b = |round: u64| {
                order.borrow_mut().push('B');
                Ok(outcome(rates[round as usize].1, round != 1))
            };
            run(3, a, Some(b))
        };
        assert_eq!(order, "ABABAB");
        assert_eq!(comparison.a_median.per_second, Some(100.0));
        assert_eq!(comparison.b_median.clone().unwrap().per_second, Some(50.0));
        assert_eq!(comparison.ratio_median.clone().unwrap().per_second, Some(2.0));
        assert!(!comparison.counts && comparison.text().contains("does not count"));
    }

    #[test]
    fn a_failure_leaves_the_rounds_before_it() {
        let b = |round| if round == 1 { Err("gone".to_string()) } else { Ok(outcome(50.0, true)) };
        let comparison = run(3, |_| Ok(outcome(100.0, true)), Some(b));
        assert_eq!((comparison.a.len(), comparison.b.len(), comparison.counts), (2, 1, false));
        assert_eq!(comparison.ratio_median.clone().unwrap().per_second, Some(2.0));
        assert!(comparison.text().contains("ended early: gone"), "{}", comparison.text());
        let comparison = run(1, |_| Err("gone".to_string()), None::<fn(u64) -> Result<Outcome, String>>);
        assert_eq!((comparison.text().as_str(), comparison.error.as_deref()), ("", Some("gone")));
    }
}
