//! The work that waits for each ticket: a publication, an item, a change, a condition, a command, or a delivery.
use std::sync::Arc;

use bytes::Bytes;

use crate::model::command::{Acknowledge, PublishOptions};
use crate::model::record::{DedupKey, Kind};
use crate::model::{Command, ConnectionId, Delivery, Item, Publication, SessionId};
use crate::router::base::context::Follower;
use crate::router::base::key::SessionKey;
use crate::router::base::reply::Caller;
use crate::router::lock::request::{Request, Role};
use crate::router::retained::Author;

/// The work that waits for a ticket.
#[derive(Debug)]
pub enum Waiting {
    /// The publication is published.
    Publication(Published),
    /// The item is put into its queue.
    Item(WaitingItem),
    /// State changes.
    Change(WaitingChange),
    /// The condition is judged.
    Condition(Box<Request>),
    /// The will of this session from now on, or the end of that.
    Will(SessionId, Option<Box<Item>>),
    /// The command is carried out.
    Command(WaitingCommand),
    /// The delivery is said.
    Delivery(WaitingDelivery),
}

/// A step of a delivery that is on record before it is said.
#[derive(Debug)]
pub struct WaitingDelivery {
    /// To whom.
    pub to: SessionKey,
    /// On which connection; on a later one it is said again.
    pub connection: ConnectionId,
    /// The delivery that is said, and after it the events of the session that came behind it.
    pub deliveries: Vec<Delivery>,
}

/// A command that is on record before it is carried out.
#[derive(Debug)]
pub struct WaitingCommand {
    /// The session that it comes from.
    pub from: SessionKey,
    /// The connection that is answered.
    pub connection: ConnectionId,
    /// The command.
    pub command: Command,
    /// Unacknowledged publications that its session published after it.
    pub followers: Vec<Follower>,
}

/// A change of state that somebody, or the router itself, has asked for.
#[derive(Debug)]
pub struct WaitingChange {
    /// The session that asked, if it was one.
    pub from: Option<SessionKey>,
    /// The kind of its record.
    pub kind: Kind,
    /// The body of its record.
    pub body: Bytes,
    /// The caller that is answered.
    pub caller: Option<Caller>,
}

/// An item of a queue, put by a call.
#[derive(Debug)]
pub struct WaitingItem {
    /// The session that called.
    pub from: Option<SessionKey>,
    /// The item.
    pub publication: Arc<Publication>,
    /// The caller that is answered.
    pub caller: Caller,
}

impl Waiting {
    /// The publications that go on as soon as this has come back.
    pub fn followers(&mut self) -> Option<&mut Vec<Follower>> {
        match self {
            Waiting::Publication(Published { followers, .. }) | Waiting::Command(WaitingCommand { followers, .. }) => {
                Some(followers)
            }
            _ => None,
        }
    }
}

/// A publication that has no id yet.
#[derive(Debug)]
pub struct Published {
    /// The session that it comes from, while that lasts.
    pub from: Option<SessionKey>,
    /// The session that it comes from on record, also when that has ended.
    pub origin: Option<SessionId>,
    /// The author of the retained message, if it is retained.
    pub by: Option<Author>,
    /// By which connection, and who is answered; wills have none.
    pub connection: Option<ConnectionId>,
    /// The message to publish.
    pub publication: Arc<Publication>,
    /// The answer that it gets.
    pub acknowledge: Acknowledge,
    /// The options of its publication.
    pub options: Option<Box<PublishOptions>>,
    /// Unacknowledged publications that its session published after it.
    pub followers: Vec<Follower>,
    /// Its effect on the holder of its topic, and on those who wait.
    pub role: Role,
    /// The key that recognizes it, where its publisher has none to give.
    pub key: Option<Box<DedupKey>>,
}

impl Published {
    /// One of the router's own.
    pub fn own(publication: Arc<Publication>, role: Role) -> Self {
        let acknowledge = Acknowledge::None;
        Published {
            from: None,
            origin: None,
            by: None,
            connection: None,
            publication,
            acknowledge,
            options: None,
            followers: Vec::new(),
            role,
            key: None,
        }
    }
}
