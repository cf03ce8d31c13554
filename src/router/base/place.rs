//! Where something stands in the history.
use crate::model::EventId;

/// Where a change of state stands in the history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// In the order.
    pub id: EventId,
    /// In milliseconds since the Unix epoch: what is due at which time is decided by this, not by the clock.
    pub time_ms: u64,
}
