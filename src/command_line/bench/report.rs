//! The outcome of a run, as text for people and as JSON for scripts.
use std::fmt::Write;

use serde::Serialize;

use super::histogram::Histogram;
use super::measure::{Measured, ThreadUse};
use super::process::Router;
use super::target::Target;
use crate::command_line::output::grouped;

/// Shorter runs say little.
const MIN_SECONDS: f64 = 3.0;
/// A thread that runs for this share of the time could hardly do more.
const BUSY: f64 = 0.9;
/// The work of a thread that looks at the clock until a message is due, and so is always busy.
pub(super) const PACING: &str = "pacing";
/// A thread that runs for less than this share of the time holds nothing up.
const IDLE: f64 = 0.02;
/// A thread that waits for a processor for this share of the time is held up by the machine.
const STARVED: f64 = 0.25;

/// Percentiles in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Latencies {
    /// The number of durations.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// Nine of ten are shorter.
    pub p90: f64,
    /// 99 of 100 are shorter.
    pub p99: f64,
    /// 999 of 1,000 are shorter.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

impl Latencies {
    /// The percentiles of a histogram; `None` if it is empty.
    pub(super) fn of(histogram: &Histogram) -> Option<Self> {
        (histogram.len() > 0).then(|| Latencies {
            count: histogram.len(),
            p50: histogram.quantile_us(0.5),
            p90: histogram.quantile_us(0.9),
            p99: histogram.quantile_us(0.99),
            p999: histogram.quantile_us(0.999),
            max: histogram.max_us(),
            mean: histogram.mean_us(),
        })
    }
}

/// The resources that the router used while it was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct RouterUse {
    /// Its processes.
    pub pids: Vec<u32>,
    /// Processor time, in seconds.
    pub cpu_s: f64,
    /// The same for a million of what is counted, if it was done in that time.
    pub cpu_s_per_million: Option<f64>,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
}

/// Memory of the router.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Growth {
    /// Resident bytes more than before, divided by their number.
    pub bytes_each: f64,
    /// The things that the bytes are divided among.
    pub of: &'static str,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Outcome {
    /// The router.
    pub url: String,
    /// The protocol.
    pub protocol: String,
    /// The workload.
    pub work: String,
    /// The unit of `per_second`.
    pub unit: &'static str,
    /// The figure.
    pub per_second: f64,
    /// The time that was measured, in seconds.
    pub seconds: f64,
    /// The time before in which connections were opened, in seconds, if `per_second` counts those.
    pub opened_in_s: Option<f64>,
    /// Sent in a second, where that is another figure.
    pub sent_per_second: Option<f64>,
    /// Messages that should have arrived, in the whole run.
    pub expected: u64,
    /// Messages of these that have not.
    pub lost: u64,
    /// Messages that came again or out of order.
    pub repeated: u64,
    /// The latencies.
    pub latency_us: Option<Latencies>,
    /// By how much the memory of the router has grown.
    pub growth: Option<Growth>,
    /// The resources that the router used.
    pub router: Option<RouterUse>,
    /// Syncs of 4 KiB that the disk could do in a second, where that was asked for.
    pub disk_syncs_per_second: Option<f64>,
    /// The load of each thread of the generator.
    pub threads: Vec<ThreadUse>,
    /// True if the run was long enough and nothing was lost.
    pub counts: bool,
    /// Remarks for the reader.
    pub notes: Vec<String>,
}

impl Outcome {
    /// The outcome of a run that was measured by the harness; `figure` counts in the measured time.
    pub(super) fn of(
        target: &Target,
        work: &str,
        unit: &'static str,
        figure: u64,
        measured: &Measured,
        router: Option<&Router>,
    ) -> Self {
        let lost = measured.expected_in_all.saturating_sub(measured.received_in_all.saturating_sub(measured.repeated));
        let router = router.and_then(|router| {
            let (cpu_s, rss_bytes) = measured.router_cpu_s.zip(measured.router_rss_bytes)?;
            let cpu_s_per_million = (figure > 0).then(|| cpu_s * 1e6 / figure as f64);
            Some(RouterUse { pids: router.pids.clone(), cpu_s, cpu_s_per_million, rss_bytes })
        });
        let mut outcome = Outcome {
            url: target.url.clone(),
            protocol: target.describe(),
            work: work.to_string(),
            unit,
            per_second: figure as f64 / measured.seconds,
            seconds: measured.seconds,
            opened_in_s: None,
            sent_per_second: (is_other(measured.sent, figure)).then_some(measured.sent as f64 / measured.seconds),
            expected: measured.expected_in_all,
            lost,
            repeated: measured.repeated,
            latency_us: Latencies::of(&measured.latencies),
            growth: None,
            router,
            disk_syncs_per_second: None,
            threads: measured.threads.clone(),
            counts: true,
            notes: Vec::new(),
        };
        outcome.judge();
        outcome
    }

    /// Adds how the memory of the router has grown since `before` by `count` new things.
    pub(super) fn grown(mut self, before: Option<u64>, after: Option<u64>, count: u64, of: &'static str) -> Self {
        self.growth = before.zip(after).map(|(before, after)| {
            let bytes_each = (after as f64 - before as f64) / count as f64;
            Growth { bytes_each, of }
        });
        if self.growth.as_ref().is_some_and(|growth| growth.bytes_each <= 0.0) {
            self.notes.push("the router had memory to spare from before: start it afresh to see what it takes".into());
        }
        self
    }

    /// Makes the figure that of connections opened before the measured time.
    pub(super) fn opened_in(mut self, count: u64, seconds: f64) -> Self {
        (self.per_second, self.opened_in_s) = (count as f64 / seconds, Some(seconds));
        if let Some(router) = &mut self.router {
            router.cpu_s_per_million = None;
        }
        self
    }

    /// Notes what makes the figure doubtful.
    fn judge(&mut self) {
        if self.seconds < MIN_SECONDS {
            self.refuse("shorter than 3 s".into());
        }
        if self.lost > 0 {
            self.refuse(format!("{} of {} were lost", grouped(self.lost), grouped(self.expected)));
        }
        if self.per_second == 0.0 {
            self.refuse("nothing was counted".into());
        }
        if self.router.is_none() {
            self.notes.push("the router's process is not seen from here: what it uses is not known (--pid)".into());
        }
        for thread in &self.threads {
            if thread.busy > BUSY && thread.role != PACING {
                self.notes.push(format!(
                    "the load generator is the bottleneck: its {} thread was busy for {:.0} % of the time; the router may be faster (--threads)",
                    thread.role,
                    thread.busy * 100.0
                ));
            } else if thread.starved > STARVED && thread.busy > IDLE {
                self.notes.push(format!(
                    "the machine is the bottleneck: the {} thread of the load generator waited for a processor for {:.0} % of the time",
                    thread.role,
                    thread.starved * 100.0
                ));
            }
        }
    }

    /// The run does not count.
    pub(super) fn refuse(&mut self, why: String) {
        self.counts = false;
        self.notes.push(format!("does not count: {why}"));
    }

    /// The outcome in a few lines.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{} ({})\n", self.url, self.protocol);
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<10} {value}");
        };
        let seconds = self.opened_in_s.unwrap_or(self.seconds);
        line("rate", format!("{} {}/s over {seconds:.2} s", grouped(self.per_second as u64), self.unit));
        if let Some(sent) = self.sent_per_second {
            line("sent", format!("{}/s", grouped(sent as u64)));
        }
        line("lost", format!("{} of {}", grouped(self.lost), grouped(self.expected)));
        if self.repeated > 0 {
            line("repeated", format!("{} came again or out of order", grouped(self.repeated)));
        }
        if let Some(latency) = &self.latency_us {
            let Latencies { p50, p90, p99, p999, max, .. } = latency;
            line("latency", format!("p50 {p50:.1}  p90 {p90:.1}  p99 {p99:.1}  p99.9 {p999:.1}  max {max:.1} us"));
        }
        if let Some(Growth { bytes_each, of }) = &self.growth
            && *bytes_each > 0.0
        {
            line("memory", format!("{:.3} KiB more for each {of}", bytes_each / 1024.0));
        }
        if let Some(router) = &self.router {
            let processors = router.cpu_s / self.seconds;
            let mib = router.rss_bytes as f64 / 1048576.0;
            let per_million =
                router.cpu_s_per_million.map_or(String::new(), |s| format!("{s:.3} s of processor time a million, "));
            line("router", format!("{per_million}{processors:.2} processors, {mib:.1} MiB"));
        }
        if let Some(syncs) = self.disk_syncs_per_second {
            line("disk", format!("{} syncs/s of 4 KiB each, one after the other", grouped(syncs as u64)));
        }
        let threads: Vec<String> =
            self.threads.iter().map(|thread| format!("{} {:.0} %", thread.role, thread.busy * 100.0)).collect();
        if !threads.is_empty() {
            line("generator", format!("busy: {}", threads.join(", ")));
        }
        for note in &self.notes {
            line("note", note.clone());
        }
        text
    }
}

/// True if `sent` says something that `figure` does not.
fn is_other(sent: u64, figure: u64) -> bool {
    sent > 0 && sent.abs_diff(figure) > figure / 50
}

/// The middle of some numbers; of an even count the mean of the two in the middle.
pub(super) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let high = *numbers.get(numbers.len() / 2)?;
    let low = if numbers.len().is_multiple_of(2) { *numbers.get(numbers.len() / 2 - 1)? } else { high };
    Some((low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn medians_stand_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    fn outcome(seconds: f64, received: u64, busy: f64) -> Outcome {
        let measured = Measured {
            opening_s: 0.0,
            seconds,
            sent: 100,
            received,
            stopped_after: Duration::ZERO,
            sent_in_all: 100,
            router_cpu_s: Some(0.5),
            router_rss_bytes: Some(1),
            received_in_all: received,
            expected_in_all: 100,
            repeated: 0,
            threads: vec![ThreadUse { role: "publishing", busy, starved: 0.0 }],
            latencies: Histogram::default(),
        };
        let dialect = super::super::target::Dialect {
            version: corsac::wire::mqtt::Version::V5,
            encoding: corsac::model::Encoding::Json,
            realm: String::new(),
            remote: false,
        };
        let target = Target::parse("mqtt://127.0.0.1:1", &dialect).unwrap();
        Outcome::of(&target, "work", "messages", received, &measured, Some(&Router { pids: vec![1] }))
    }

    #[test]
    fn only_long_runs_without_loss_count() {
        assert!(outcome(5.0, 100, 0.1).counts);
        assert!(!outcome(1.0, 100, 0.1).counts);
        let lossy = outcome(5.0, 99, 0.1);
        assert!(!lossy.counts && lossy.lost == 1 && lossy.text().contains("1 of 100 were lost"), "{}", lossy.text());
    }

    #[test]
    fn the_disk_has_its_line() {
        let measured = Outcome { disk_syncs_per_second: Some(1_234.5), ..outcome(5.0, 100, 0.1) };
        assert!(measured.text().contains("  disk       1,234 syncs/s"), "{}", measured.text());
        assert!(!outcome(5.0, 100, 0.1).text().contains("disk"));
    }

    #[test]
    fn a_busy_generator_says_so() {
        assert!(outcome(5.0, 100, 0.5).notes.is_empty());
        assert!(outcome(5.0, 100, 0.95).text().contains("the load generator is the bottleneck"));
        assert_eq!(outcome(5.0, 100, 0.5).router.unwrap().cpu_s_per_million, Some(5_000.0));
    }
}
