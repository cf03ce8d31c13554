//! Why the store refuses: precise enough to act on, and never a loss that nobody hears of.
use std::fmt;
use std::io;

use crate::model::EventId;

/// A refusal of the store.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The disk would fall below its reserve. Nothing was written; the same call succeeds once there is space.
    NoSpace,
    /// A sync or a write failed before: what is on disk is unknown, so nothing is accepted until the directory is opened again.
    Poisoned,
    /// The record asked for has been trimmed.
    TooOld {
        /// The oldest id that is kept; or the next to be given, where nothing is kept.
        oldest: EventId,
    },
    /// The bytes on disk are not those that were written there.
    Corrupt {
        /// The file, below the data directory.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
        /// The fault in words.
        what: &'static str,
    },
    /// The records of a realm do not follow one upon the other.
    RecordMissing {
        /// The realm.
        realm: String,
        /// The record before which one is missing.
        before: EventId,
    },
    /// Another process uses the directory: which, if that is known.
    Locked(Option<u32>),
    /// The directory belongs to another node.
    OtherDirectory {
        /// The identity it has.
        found: [u8; 16],
        /// The identity it should have.
        expected: [u8; 16],
    },
    /// The directory is an older copy: somebody has already seen ids that it does not hold.
    OlderCopy {
        /// The realm in which that shows.
        realm: String,
        /// An id that was given.
        known: EventId,
        /// The last id that the directory holds; `None` if it holds none of the realm.
        found: Option<EventId>,
    },
    /// The directory was written by a later program.
    NewerFormat {
        /// The format that it has.
        found: u32,
        /// The latest format that this program knows.
        known: u32,
    },
    /// The files are of a later version of this program.
    UnknownVersion {
        /// The file.
        file: String,
        /// Its version.
        version: u32,
    },
    /// More bytes than one batch may have; nothing was written.
    BatchTooLarge {
        /// Bytes of the batch.
        bytes: usize,
        /// Bytes that a batch may have.
        limit: usize,
    },
    /// An item older than the one before it in its realm; nothing was written.
    TimeWentBack {
        /// The least time that would be accepted, in milliseconds since the Unix epoch.
        last_ms: u64,
    },
    /// An item that cannot be stored; nothing was written.
    Unstorable(&'static str),
    /// A snapshot older than the one that is there, or of ids that are not on disk.
    SnapshotOutOfOrder,
    /// Another snapshot is being written.
    SnapshotUnderWay,
    /// The operating system said no.
    Io {
        /// The file, below the data directory.
        file: String,
        /// Its error.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn io(file: &str, source: io::Error) -> Self {
        Error::Io { file: file.to_owned(), source }
    }

    pub(super) fn corrupt(file: &str, offset: u64, what: &'static str) -> Self {
        Error::Corrupt { file: file.to_owned(), offset, what }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoSpace => f.write_str("no space left above the disk's reserve"),
            Error::Poisoned => {
                f.write_str("a write to disk failed before; nothing is accepted until the directory is opened again")
            }
            Error::TooOld { oldest } => write!(f, "older than what is kept; the oldest id is {oldest}"),
            Error::Corrupt { file, offset, what } => write!(f, "{file} is damaged at byte {offset}: {what}"),
            Error::RecordMissing { realm, before } => write!(f, "a record of realm {realm} is missing before id {before}"),
            Error::Locked(None) => f.write_str("the data directory is in use by another process"),
            Error::Locked(Some(pid)) => write!(f, "the data directory is in use by process {pid}"),
            Error::NewerFormat { found, known } => {
                write!(f, "the data directory has format {found}, and this program knows formats up to {known}")
            }
            Error::OtherDirectory { found, expected } => {
                write!(f, "the data directory is that of node {}, not of {}", hex(found), hex(expected))
            }
            Error::OlderCopy { realm, known, found } => {
                let found = found.map_or(0, EventId::value);
                write!(
                    f,
                    "the data directory is an older copy: it ends at id {found} of realm {realm:?}, but id {known} was given"
                )
            }
            Error::UnknownVersion { file, version } => write!(f, "{file} has version {version}, which this program cannot read"),
            Error::BatchTooLarge { bytes, limit } => write!(f, "a batch of {bytes} bytes, at most {limit}"),
            Error::TimeWentBack { last_ms } => write!(f, "a record from before the last one, which is of {last_ms} ms"),
            Error::Unstorable(why) => write!(f, "this cannot be stored: {why}"),
            Error::SnapshotOutOfOrder => f.write_str("a snapshot that is older than the last one or ahead of the log"),
            Error::SnapshotUnderWay => f.write_str("another snapshot is being written"),
            Error::Io { file, source } => write!(f, "{file}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn hex(bytes: &[u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
