//! The cost of the pure floors by themselves: `cargo bench --bench floors [-- NAME]`; as a test, each runs once and small.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#[path = "floors/fan_out.rs"]
mod fan_out;
#[path = "floors/matching.rs"]
mod matching;
#[path = "floors/mqtt.rs"]
mod mqtt;
#[path = "floors/resolver.rs"]
mod resolver;
#[path = "floors/wamp.rs"]
mod wamp;

use std::time::Duration;

use criterion::Criterion;

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of a payload, as in the comparison with other routers.
const PAYLOAD: &[u8; 64] = b"\"sixty-four bytes which are a JSON string for those who want it\"";

/// `sizes` without those that a test has no time for.
fn sizes<const N: usize>(sizes: [usize; N]) -> impl Iterator<Item = usize> {
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    sizes.into_iter().filter(move |size| is_measured || *size <= 1_000)
}

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let mut criterion = criterion.sample_size(50).configure_from_args();
    mqtt::bench(&mut criterion);
    wamp::bench(&mut criterion);
    matching::bench(&mut criterion);
    fan_out::bench(&mut criterion);
    resolver::bench(&mut criterion);
    criterion.final_summary();
}
