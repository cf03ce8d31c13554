//! `corsac check --ports`: whether a start would get its addresses and its data directory, which are left as they are.
use super::banner;
use super::config::Config;
use super::data_dir;
use crate::net::listener;

/// One line about each place that a start would take; or about each that it would not get, and what to do. Call it where tokio runs.
pub fn check(config: &Config) -> Result<Vec<String>, Vec<String>> {
    let (mut found, mut problems, mut bound) = (Vec::new(), Vec::new(), Vec::new());
    for listener in &config.listeners {
        match listener::bind(listener.address) {
            Ok(socket) => {
                // Until all are tried: two of them may want the same.
                bound.push(socket);
                found.push(format!("{} is free", listener.address));
            }
            Err(error) => problems.push(banner::bind_refusal(config, listener, &error)),
        }
    }
    if !config.memory {
        match data_dir::probe(&config.data_dir, &config.limits) {
            Ok(line) => found.push(line),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}
