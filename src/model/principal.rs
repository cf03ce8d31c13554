//! The identity that a session acts for, as authentication established it, never as the client claims it.

use std::sync::Arc;

/// The identity behind a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// The user name; for anonymous sessions a name of the router's making.
    pub authid: Arc<str>,
    /// The role that rules apply to.
    pub authrole: Arc<str>,
    /// The method that established it: `anonymous`, `ticket`, ...
    pub authmethod: Box<str>,
    /// The provider that established it: `static`, `dynamic`, ...
    pub authprovider: Box<str>,
}

impl Principal {
    /// A session that was let in without credentials under the name `authid`.
    pub fn anonymous(authid: &str) -> Self {
        Principal {
            authid: authid.into(),
            authrole: "anonymous".into(),
            authmethod: "anonymous".into(),
            authprovider: "static".into(),
        }
    }

    /// Whom a record of the history names: how that was established is not on record.
    pub fn of_record(authid: impl Into<Arc<str>>, authrole: impl Into<Arc<str>>) -> Self {
        Principal { authid: authid.into(), authrole: authrole.into(), ..Principal::anonymous("") }
    }
}
