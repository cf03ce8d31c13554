//! What the small clients print, and the signals that stop them.
use std::io::{self, Write};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// It is out.
    Line,
    /// The reader of the pipe has gone: no failure, but nothing more to do.
    ReaderGone,
}

/// Prints one line at once.
pub fn print(line: &str) -> Result<Written, String> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Written::Line),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Written::ReaderGone),
        Err(error) => Err(format!("cannot print: {error}; is the disk full?")),
    }
}

/// SIGINT and SIGTERM.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Returns once somebody wants us to stop.
    pub async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// From now on these signals only ask.
pub fn stop() -> Result<Stop, String> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    Ok(Stop { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
}
