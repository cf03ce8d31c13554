//! The rules of safety by name, so that a test can switch one off and see that the checker notices.

/// A rule of the protocol that a machine keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Nothing that another node counts is sent before it is on disk (R3).
    SyncFirst,
    /// A segment is elected only with W equal drafts (R4).
    Certificate,
    /// W is what the group says, not 1.
    WriteQuorum,
    /// A segment that would leave a gap is held back (R6).
    HoldBack,
    /// An item that is already ordered is dropped (R6).
    DropOrdered,
    /// A key gets one id.
    KeyedOnce,
    /// Slots are applied in slot order (R5).
    SlotOrder,
    /// A restarted entry never uses a life again (R7).
    NewIncarnation,
    /// A fenced replica takes nothing more from the old life (I10).
    Fence,
    /// F replies of each group before a tail is recovered.
    FenceQuorum,
    /// `ack = durable` acknowledges an item only after all before it.
    CumulativeAck,
    /// No TRIM after a fence (R9).
    NoTrimAfterFence,
    /// The next life and the recovered tail are one op (R8).
    AtomicJoin,
    /// A request to join whose nonce was already granted is not served again.
    StaleInit,
}

/// Which rules are kept: all of them, but for one in a test.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    #[cfg(test)]
    broken: Option<Rule>,
}

impl Rules {
    /// Whether this rule is kept.
    #[cfg(not(test))]
    pub(crate) const fn keeps(self, _: Rule) -> bool {
        true
    }

    /// Whether this rule is kept.
    #[cfg(test)]
    pub(crate) fn keeps(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    /// All rules but this one.
    #[cfg(test)]
    #[allow(dead_code)]
    pub(crate) fn without(rule: Rule) -> Self {
        Rules { broken: Some(rule) }
    }
}
