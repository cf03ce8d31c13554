//! Names of claims of items of queues.
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::Reason;
use crate::model::reason::MustBe;

/// Names one claim of one item: the id of the record that led to it, and which of that record's claims it is, counting from 0.
/// As text `4711`, `4711.1`, …
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Token(pub u64, pub u32);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token(claim, 0) => write!(f, "{claim}"),
            Token(claim, index) => write!(f, "{claim}.{index}"),
        }
    }
}

impl FromStr for Token {
    type Err = Reason;

    fn from_str(text: &str) -> Result<Self, Reason> {
        let (claim, index) = text.split_once('.').map_or((text, None), |(claim, index)| (claim, Some(index)));
        let index = index.map_or(Ok(0), str::parse).map_err(|_| Reason::WrongValue("token", MustBe::Token))?;
        Ok(Token(claim.parse().map_err(|_| Reason::WrongValue("token", MustBe::Token))?, index))
    }
}
