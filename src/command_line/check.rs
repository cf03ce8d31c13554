//! `corsac check`: validates the configuration and prints what it comes to.
use std::io::{self, Write};

use corsac::node::config::Flags;

/// Prints the configuration in effect, or says what is wrong with it.
pub fn check(flags: &Flags) -> Result<(), String> {
    let config = super::load(flags)?;
    let text = format!("OK\n{}", config.summary());
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that closed the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}
