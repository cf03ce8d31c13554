//! The number of an event in the history of its realm.
use std::fmt;

use super::PublicationId;

/// The place of an event in the one order of its realm: dense, from 1, below 2^52. An event that is not stored has a random
/// publication id at or above 2^52, so the two never meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EventId(u64);

impl EventId {
    /// The first id of a realm.
    pub const FIRST: EventId = EventId(1);
    /// The last id of a realm.
    pub const LAST: EventId = EventId((1 << 52) - 1);

    /// The id with this number; `None` outside 1..2^52.
    pub const fn new(value: u64) -> Option<Self> {
        if value >= Self::FIRST.0 && value <= Self::LAST.0 { Some(EventId(value)) } else { None }
    }

    /// Its number.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The id behind it; `None` behind [`EventId::LAST`].
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// The id so many behind it; [`EventId::LAST`] where the ids end.
    pub const fn plus(self, count: u64) -> Self {
        let value = self.0.saturating_add(count);
        if value <= Self::LAST.0 { EventId(value) } else { Self::LAST }
    }

    /// The id before it; `None` before [`EventId::FIRST`].
    pub const fn previous(self) -> Option<Self> {
        Self::new(self.0 - 1)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<EventId> for PublicationId {
    fn from(id: EventId) -> Self {
        PublicationId(id.0)
    }
}

impl PublicationId {
    /// The event of the history that it names: such a publication may be read there again. Those of publications past the history
    /// are above every event id.
    pub fn event(self) -> Option<EventId> {
        EventId::new(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_in_their_range() {
        assert_eq!(EventId::new(0), None);
        assert_eq!(EventId::new(1), Some(EventId::FIRST));
        assert_eq!(EventId::new((1 << 52) - 1), Some(EventId::LAST));
        assert_eq!(EventId::new(1 << 52), None);
        assert_eq!(EventId::LAST.next(), None);
        assert_eq!(EventId::FIRST.previous(), None);
        assert_eq!(EventId::FIRST.plus(2), EventId(3));
        assert_eq!(EventId::FIRST.plus(u64::MAX), EventId::LAST);
        assert_eq!(EventId::FIRST.next().and_then(EventId::previous), Some(EventId::FIRST));
    }
}
