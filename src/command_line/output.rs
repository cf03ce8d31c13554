//! The output of the small clients, and the signals that stop them.
use std::io::{self, Write};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The fate of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// The line is out.
    Line,
    /// The reader of the pipe has gone: no failure, but nothing more to do.
    ReaderGone,
}

/// Prints one line at once.
pub fn print(line: &str) -> Result<Written, String> {
    print_bytes(&[line.as_bytes(), b"\n"].concat())
}

/// Prints these bytes at once, without a line end.
pub fn print_bytes(bytes: &[u8]) -> Result<Written, String> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Written::Line),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Written::ReaderGone),
        Err(error) => Err(format!("cannot print: {error}; is the disk full?")),
    }
}

/// Says a line about the command itself on standard error. Nobody has to read it.
pub fn say(line: &str) {
    writeln!(io::stderr().lock(), "{line}").ok();
}

/// `number` with commas between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1_000, 17_000_012, 123_456].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "17,000,012", "123,456"]);
    }
}
