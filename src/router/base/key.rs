//! Names of sessions and of what they have subscribed to.
use crate::model::Filter;

/// Where the realm keeps what a selective subscription selects; reused after its end.
pub type SelectionKey = u32;

/// A subscription as its session names it: filter and share group.
pub type SubscriptionName = (Filter, Option<Box<str>>);

/// Names one session as long as it lasts: its place in the realm's table, and which of the sessions that had the place it is. A look-up
/// with the key of a session that has ended finds nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionKey {
    place: u32,
    age: u32,
}

impl SessionKey {
    /// The session of this age at this place.
    pub fn new(place: u32, age: u32) -> Self {
        SessionKey { place, age }
    }

    /// Where it is.
    pub fn place(self) -> usize {
        self.place as usize
    }

    /// Which of those that were there.
    pub fn age(self) -> u32 {
        self.age
    }
}
