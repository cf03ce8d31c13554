//! The nouns of the house: ids, topics, payloads, publications, commands and deliveries; no verbs, no input or output.
pub mod arguments;
pub mod command;
pub mod delivery;
pub mod event_id;
pub mod filter;
pub mod id;
pub mod limits;
pub mod payload;
pub mod principal;
pub mod publication;
pub mod qos;
pub mod reason;
pub mod record;
pub mod topic;

pub use command::Command;
pub use delivery::Delivery;
pub use event_id::EventId;
pub use filter::{Filter, MatchPolicy};
pub use id::{ConnectionId, InvocationId, PacketId, PublicationId, RegistrationId, RequestId, SessionId, SubscriptionId};
pub use limits::Limits;
pub use payload::{Encoding, Payload};
pub use principal::Principal;
pub use publication::Publication;
pub use qos::Qos;
pub use reason::{ErrorUri, Reason};
pub use record::{Item, Record};
pub use topic::Topic;
