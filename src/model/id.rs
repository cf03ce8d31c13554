//! Identifiers as newtypes, so that no two kinds can be confused.
use std::fmt;
use std::num::NonZeroU16;

/// The largest id that WAMP allows, 2^53: every WAMP id is in 1..=2^53 (WAMP: Basic, Identifiers).
pub const MAX_ID: u64 = 1 << 53;

/// The integer from 0 that a double stands for: up to [`MAX_ID`] each has a double of its own.
pub(crate) fn whole(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..=MAX_ID as f64).contains(&number)).then_some(number as u64)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A connection within one process: never reused while the process lives.
    ConnectionId
}
id! {
    /// A session of a realm; in WAMP the id of WELCOME (global scope, random in 1..=2^53).
    SessionId
}
id! {
    /// The number that the peer gives a request: the WAMP request id (session scope) or the MQTT packet id.
    RequestId
}
id! {
    /// A subscription of a realm: one per distinct filter (router scope).
    SubscriptionId
}
id! {
    /// A registration of a realm: one per distinct procedure filter (router scope).
    RegistrationId
}
id! {
    /// An invocation as its callee numbers it (WAMP: session scope, counting from 1).
    InvocationId
}
id! {
    /// A publication: for history its event id (below 2^52), else random at or above 2^52.
    PublicationId
}

/// An MQTT packet identifier, 1..=65535 [MQTT-2.2.1-3].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PacketId(pub NonZeroU16);

impl PacketId {
    /// The packet id with this number; `None` for zero.
    pub fn new(value: u16) -> Option<Self> {
        NonZeroU16::new(value).map(Self)
    }

    /// The number on the wire.
    pub fn value(self) -> u16 {
        self.0.get()
    }
}
