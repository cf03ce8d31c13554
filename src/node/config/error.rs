//! Everything that can be wrong with a configuration; each message says what to do next.
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the configuration file; line and column count from 1, the column in characters.
    File {
        /// The file as it was named.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// In this environment variable.
    Variable(String),
    /// In this flag.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Place::Variable(name) => f.write_str(name),
            Place::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Why a configuration is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file as it was named.
        path: PathBuf,
        /// The error of the system.
        error: String,
    },
    /// The file is not TOML.
    Syntax {
        /// Where parsing stopped.
        place: Place,
        /// The message of the parser.
        message: String,
    },
    /// A key or variable that does not exist.
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// `key` or `variable`.
        noun: &'static str,
        /// The key as written.
        key: String,
        /// The text to write instead: `did you mean …?` or the known keys.
        advice: String,
    },
    /// A value that its key cannot take.
    WrongValue {
        /// Where it stands.
        place: Place,
        /// The key, with its table.
        key: String,
        /// The fault, and the text to write instead.
        problem: String,
    },
    /// Two values that exclude each other, or a value that needs another one.
    Contradiction(String),
    /// A listener that other machines reach, and nothing that says who may use it.
    RemoteWithoutUsers(SocketAddr),
}

impl ConfigError {
    /// True if it is the command line that is to be written in another way.
    pub fn is_of_command_line(&self) -> bool {
        matches!(self, ConfigError::WrongValue { place: Place::Flag(_), .. })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable { path, error } => {
                write!(f, "cannot read {}: {error}; check the file that --config or CORSAC_CONFIG names", path.display())
            }
            ConfigError::Syntax { place, message } => write!(f, "{place}: not TOML: {message}; correct this line"),
            ConfigError::UnknownKey { place: Place::Variable(_), noun, key, advice } => {
                write!(f, "unknown {noun} `{key}`, {advice}")
            }
            ConfigError::UnknownKey { place, noun, key, advice } => write!(f, "{place}: unknown {noun} `{key}`, {advice}"),
            ConfigError::WrongValue { place: place @ Place::File { .. }, key, problem } => {
                write!(f, "{place}: `{key}` {problem}")
            }
            ConfigError::WrongValue { place, problem, .. } => write!(f, "{place} {problem}"),
            ConfigError::Contradiction(text) => f.write_str(text),
            ConfigError::RemoteWithoutUsers(address) => write!(
                f,
                "{address} is open to other machines, but no users are configured: anybody who reaches it could use every \
                 realm. Listen on 127.0.0.1:{port}, or allow it with --allow-anonymous-remote",
                port = address.port()
            ),
        }
    }
}

impl std::error::Error for ConfigError {}
