//! Calls of a session that read the history, answered one after the other.
use crate::model::SubscriptionId;
use crate::model::query::Query;
use crate::router::base::reply::Caller;

/// The form of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Of `corsac.history.read`.
    Read,
    /// Of `wamp.subscription.get_events`.
    Events { subscription: SubscriptionId, by_pattern: bool },
}

/// A call that reads the history.
#[derive(Debug)]
pub struct HistoryCall {
    pub caller: Caller,
    /// The query for the rest that is to be read.
    pub query: Query,
    pub form: Form,
    /// The events found, as JSON with commas between.
    pub events: Vec<u8>,
}
