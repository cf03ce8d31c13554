//! Why bytes are no WAMP message: what the gate needs to answer with ABORT or ERROR.
use std::borrow::Cow;
use std::fmt;

use super::token::Malformed;
use crate::model::{InvocationId, RequestId};

/// The kind of fault that a message has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// Not of the encoding at all.
    Malformed,
    /// Well-formed, with a message code that WAMP does not define.
    UnknownCode(u64),
    /// A known message with a wrong number of elements or wrong types.
    Invalid,
    /// Options or details with keys that repeat, or nested too deeply.
    Excess,
    /// A known message whose options or details hold a value of the wrong type or out of range under a known key.
    InvalidOption,
}

/// A message that cannot be decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// The kind of fault.
    pub kind: ErrorKind,
    /// For people: fit for the `message` of ABORT or ERROR.
    pub detail: Box<str>,
    /// The message code, once it was read.
    pub code: Option<u64>,
    /// The request id, if it was read before the fault: an ERROR can name it.
    pub request: Option<RequestId>,
    /// The invocation that a YIELD or ERROR answers, if it was read before the fault.
    pub invocation: Option<InvocationId>,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for DecodeError {}

/// A fault inside one element, before it is known which message it belongs to.
#[derive(Debug)]
pub(crate) enum Fault {
    Malformed(Malformed),
    /// A message code that is not defined.
    Unknown(u64),
    /// The rules of envelopes are broken.
    Invalid(Cow<'static, str>),
    /// Keys that repeat, or nesting without measure.
    Excess(Cow<'static, str>),
    /// A known key holds what it cannot hold: the key, and what it should be.
    Option(&'static str, &'static str),
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Fault::Malformed(malformed)
    }
}

impl Fault {
    pub(crate) fn invalid<T>(text: impl Into<Cow<'static, str>>) -> Result<T, Fault> {
        Err(Fault::Invalid(text.into()))
    }
}
