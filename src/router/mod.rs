//! One realm: who is subscribed, what is retained, and who hears of a publication.
pub mod matcher;
pub mod retained;
