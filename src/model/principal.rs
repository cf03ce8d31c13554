//! Who a session acts for, as authentication established it; never what the client says of itself.

/// The identity behind a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// The user name; for anonymous sessions a name of the router's making.
    pub authid: Box<str>,
    /// The role that rules apply to.
    pub authrole: Box<str>,
    /// How it was established: `anonymous`, `ticket`, ...
    pub authmethod: Box<str>,
    /// Who established it: `static`, `dynamic`, ...
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
}
