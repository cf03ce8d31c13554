//! The outcome of a call, as its callee or the router says it.
use super::ErrorUri;

/// The kind of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// One of several results; more follow.
    Progress,
    /// The result.
    Result,
    /// An error.
    Error(ErrorUri),
}
