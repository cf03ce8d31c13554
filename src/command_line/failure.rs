//! The failure of a command: one message for people, and the exit code.

/// A failure. The message says what happened and what to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// For standard error, without `corsac: ` before it.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

/// The exit code of a command that failed.
const FAILED: u8 = 1;
/// The exit code where the command line is wrong.
const USAGE: u8 = 2;

impl Failure {
    /// The command ends with this exit code.
    pub fn with_code(message: String, code: u8) -> Self {
        Failure { message, code }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure { message, code: FAILED }
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Failure::from(message.to_owned())
    }
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        failure.message
    }
}

/// A fault of the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage(pub String);

impl From<Usage> for Failure {
    fn from(usage: Usage) -> Self {
        Failure { message: usage.0, code: USAGE }
    }
}

impl From<Usage> for String {
    fn from(usage: Usage) -> Self {
        usage.0
    }
}
