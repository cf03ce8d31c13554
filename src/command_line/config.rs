//! `corsac config`: prints the configuration file that says what holds without one.
use corsac::node::config;

use super::output::print_bytes;

/// The arguments of `corsac config`.
#[derive(clap::Args)]
pub struct Config {
    /// Print every key with a comment and its default, as a file to begin with: corsac config --defaults > corsac.toml
    #[arg(long, required = true)]
    defaults: bool,
}

/// Prints it.
pub fn config(command: &Config) -> Result<(), String> {
    if command.defaults {
        print_bytes(config::defaults().as_bytes())?;
    }
    Ok(())
}
