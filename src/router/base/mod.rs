//! Nouns of the router, and what every step of a realm may use: they know no part and no flow.
pub mod catching;
pub mod claim;
pub mod codec;
pub mod context;
pub mod due;
pub mod effect;
pub mod key;
pub mod on_the_way;
pub mod passage;
pub mod piece;
pub mod place;
pub mod random;
pub mod reads;
pub mod reply;
pub mod tickets;
pub mod timers;
