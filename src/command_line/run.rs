//! `corsac run`: the router.
use std::io;

use corsac::node::config::Flags;

use super::Failure;
use tokio::runtime::{Builder, Runtime};

/// Runs the router until it is told to stop.
pub fn run(flags: &Flags) -> Result<(), Failure> {
    let config = super::load(flags)?;
    let _log = super::log::start(&config.log)?;
    let runtime = runtime(config.threads)
        .map_err(|error| format!("cannot start threads: {error}; raise the limit of processes (ulimit -u)"))?;
    Ok(runtime.block_on(corsac::node::run(config))?)
}

/// One thread is the default, and not only on small machines, because its queue is first in, first out. So messages that two
/// clients send one after the other are handled in that order, and a publisher has its answer before its subscribers are served.
/// One thread costs less for each message too (see `src/DECISIONS.md`, Order and turns).
fn runtime(threads: usize) -> io::Result<Runtime> {
    let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}
