//! `corsac check` validates the configuration, prints it as resolved, and with `--ports` tries the addresses and the data directory.
use corsac::node::config::Flags;
use corsac::node::places;

use super::output::print_bytes;
use super::{Failure, load, runtime};

/// The arguments of `corsac check`.
#[derive(clap::Args)]
pub struct Check {
    #[command(flatten)]
    flags: Flags,
    /// Try the addresses and the data directory too, and leave them as they are
    #[arg(long)]
    ports: bool,
}

/// Prints the configuration in effect, or says what is wrong with it.
pub fn check(command: &Check) -> Result<(), Failure> {
    let config = load(&command.flags)?;
    let mut text = format!("OK\n{}", config.summary());
    if command.ports {
        let found = runtime()?.block_on(async { places::check(&config) });
        let lines = found.map_err(|problems| problems.join("\ncorsac: "))?;
        lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    print_bytes(text.as_bytes())?;
    Ok(())
}
