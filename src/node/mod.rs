//! Composition: configuration, listeners, the pages of the router itself.
pub mod admin;
pub mod banner;
pub mod config;
pub mod origin;

pub use config::Config;

/// Serves until the process is told to stop; an error is one sentence that says what to do.
pub async fn run(_config: Config) -> Result<(), String> {
    Err("not wired: this build validates configurations (corsac check) and serves nothing".to_owned())
}
