//! `corsac run`: the router.
use std::io::{self, IsTerminal};

use corsac::node::config::Flags;
use tracing_subscriber::EnvFilter;

/// Runs the router until it is told to stop.
pub fn run(flags: &Flags) -> Result<(), String> {
    let config = super::load(flags)?;
    start_log(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}; raise the limit of processes (ulimit -u)"))?;
    runtime.block_on(corsac::node::run(config))
}

/// Sends the log to stderr, coloured where that is a terminal.
fn start_log(log: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(log).map_err(|error| format!("--log {log}: {error}"))?;
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour).init();
    Ok(())
}
