//! Calls on their way: who called, who is called, and how long they may take.
use crate::model::InvocationId;
use crate::router::base::key::SessionKey;
use crate::router::base::reply::Caller;
use crate::router::base::timers::TimerKey;

/// A call that a callee has and its caller waits for.
#[derive(Debug)]
pub struct Pending {
    pub caller: Caller,
    pub callee: SessionKey,
    pub invocation: InvocationId,
    /// The caller takes progressive results.
    pub receive_progress: bool,
    /// Time to the first result and between results, in milliseconds; 0 = the router does not watch it.
    pub timeout_ms: u64,
    pub timer: Option<TimerKey>,
    /// The callee was told to stop.
    pub is_interrupted: bool,
}
