//! Which topics a subscription (or which procedures a registration) covers.
use super::topic::Topic;

/// How WAMP names a filter's kind (`match` option; WAMP: Advanced, Pattern-based Subscriptions).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum MatchPolicy {
    /// The whole name.
    #[default]
    Exact,
    /// A string prefix of the WAMP spelling.
    Prefix,
    /// Single levels left open.
    Wildcard,
}

/// A valid filter over topics (or procedures). Two filters that are equal cover the same names by the same rule.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Filter {
    /// One topic. Kept apart so that the commonest case is one hash look-up.
    Exact(Topic),
    /// MQTT spelling with `+` for one level and a last `#` for the parent and all below it [MQTT-4.7.1].
    Levels(Box<str>),
    /// A string prefix of the WAMP spelling; `emergency` covers `emergency-low`.
    Prefix(Box<str>),
}

impl Filter {
    /// How WAMP names this filter's kind; `#` has no WAMP name and counts as wildcard.
    pub fn policy(&self) -> MatchPolicy {
        match self {
            Filter::Exact(_) => MatchPolicy::Exact,
            Filter::Levels(_) => MatchPolicy::Wildcard,
            Filter::Prefix(_) => MatchPolicy::Prefix,
        }
    }
}
