//! What went through the sockets of the process; connections add to it once a batch.
use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since start.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    messages_received: AtomicU64,
    messages_sent: AtomicU64,
}

/// One reading of the totals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Bytes that sockets gave.
    pub bytes_received: u64,
    /// Bytes that sockets took.
    pub bytes_sent: u64,
    /// MQTT packets and WAMP messages that came.
    pub messages_received: u64,
    /// MQTT packets and WAMP messages that went.
    pub messages_sent: u64,
}

impl Traffic {
    /// Adds what one batch moved.
    pub fn add(&self, moved: Totals) {
        let add = |total: &AtomicU64, more: u64| {
            if more > 0 {
                total.fetch_add(more, Ordering::Relaxed);
            }
        };
        add(&self.bytes_received, moved.bytes_received);
        add(&self.bytes_sent, moved.bytes_sent);
        add(&self.messages_received, moved.messages_received);
        add(&self.messages_sent, moved.messages_sent);
    }

    /// The totals now.
    pub fn totals(&self) -> Totals {
        Totals {
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            messages_received: self.messages_received.load(Ordering::Relaxed),
            messages_sent: self.messages_sent.load(Ordering::Relaxed),
        }
    }
}
