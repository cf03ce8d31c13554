//! The simulator: the machines of `cluster` under seeded schedules with crashes, power loss and faults of the network.
//!
//! The machines are compiled into this test, so that their rules can be switched off one by one: each must be missed.
//! `SIM_RUNS` multiplies the schedules, `SIM_SEED` runs one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[allow(dead_code, unused_imports)]
#[path = "../../src/cluster/mod.rs"]
mod cluster;
mod ledger;
mod lives;
mod pipeline;
mod random;
#[allow(dead_code)]
#[path = "../../src/store/tests/simulated_disk.rs"]
mod simulated_disk;
mod solo;

// The machines, the disk and the lives name these by `crate`.
use corsac::{model, router, store};

use std::collections::BTreeMap;

/// Runs schedules from seed 1 on, `runs` of them. The faults found, by kind: their number, and the first with its seed.
fn faults(runs: u64, schedule: impl Fn(u64) -> Result<u64, String>) -> BTreeMap<String, (u64, u64, String)> {
    let one = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let times = std::env::var("SIM_RUNS").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let seeds = one.map_or(1..=runs * times, |seed| seed..=seed);
    let mut found = BTreeMap::new();
    for seed in seeds {
        if let Err(fault) = schedule(seed) {
            let kind = fault.split(':').next().unwrap().to_owned();
            found.entry(kind).or_insert((0, seed, fault)).0 += 1;
        }
    }
    found
}
