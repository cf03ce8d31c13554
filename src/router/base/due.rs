//! The purposes of timers.
use crate::model::Topic;
use crate::router::base::key::SessionKey;

/// The purpose of a timer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Due {
    /// The will of a session whose client is away.
    Will(SessionKey),
    /// The end of a session whose client is away.
    Expiry(SessionKey),
    /// The timeout of a call, by its place among those on their way.
    Call(u32),
    /// A record of what was acknowledged.
    Checkpoint,
    /// Something of the queues.
    Queues,
    /// The end of what a topic is held for, or of its value.
    Topic(Topic),
    /// The end of the time that this request waits in the line of a topic.
    Wait(Topic, u64),
}
