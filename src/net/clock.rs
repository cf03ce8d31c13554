//! The one clock of the process: milliseconds since the Unix epoch that never run backwards.
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

static START: OnceLock<(Instant, u64)> = OnceLock::new();

fn start() -> &'static (Instant, u64) {
    START.get_or_init(|| {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Instant::now(), u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    })
}

/// Now: the wall clock at the start of the process plus what a steady clock has counted since.
pub fn now_ms() -> u64 {
    let (instant, epoch_ms) = start();
    epoch_ms + u64::try_from(instant.elapsed().as_millis()).unwrap_or(0)
}

/// The instant at which `now_ms` will say `at_ms`.
pub fn instant_of(at_ms: u64) -> tokio::time::Instant {
    let ahead_ms = at_ms.saturating_sub(now_ms());
    tokio::time::Instant::now() + std::time::Duration::from_millis(ahead_ms)
}
