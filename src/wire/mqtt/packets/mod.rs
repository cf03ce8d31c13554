//! The control packets (chapter 3), one file for each family.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod publish;
mod suback;
mod subscribe;

pub use ack::{Ack, AckProperties, encode_ack};
pub use auth::{Auth, AuthProperties};
pub use connack::{ConnAck, ConnAckProperties};
pub(super) use connect::decode_version;
pub use connect::{Connect, ConnectProperties, Will, WillProperties};
pub use disconnect::{Disconnect, DisconnectProperties};
pub use publish::{Publish, PublishHead, PublishProperties};
pub use suback::{SubAck, UnsubAck};
pub use subscribe::{
    Filters, Requests, RetainHandling, Subscribe, SubscribeProperties, SubscriptionOptions, SubscriptionRequest, Unsubscribe,
    UnsubscribeProperties,
};
