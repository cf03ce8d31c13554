//! What comes of each ticket: a publication, an item, a change, a condition, a command, or a delivery.
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

/// What comes of each ticket.
#[derive(Debug)]
pub enum Waiting {
    /// It is published.
    Publication(Published),
    /// It is put into its queue.
    Item(WaitingItem),
    /// State changes.
    Change(WaitingChange),
    /// It is judged.
    Condition(Box<Request>),
    /// It is the will of this session from now on, or the end of that.
    Will(SessionId, Option<Box<Item>>),
    /// It is carried out.
    Command(WaitingCommand),
    /// It is said.
    Delivery(WaitingDelivery),
}

/// A step of a delivery that is on record before it is said.
#[derive(Debug)]
pub struct WaitingDelivery {
    /// To whom.
    pub to: SessionKey,
    /// On which connection; on a later one it is said again.
    pub connection: ConnectionId,
    /// What is said, and after it the events of the session that came behind it.
    pub deliveries: Vec<Delivery>,
}

/// A command that is on record before it is carried out.
#[derive(Debug)]
pub struct WaitingCommand {
    /// Whose.
    pub from: SessionKey,
    /// Who is answered.
    pub connection: ConnectionId,
    /// The command.
    pub command: Command,
    /// Unacknowledged publications that its session published after it.
    pub followers: Vec<Follower>,
}

/// A change of state that somebody, or the router itself, has asked for.
#[derive(Debug)]
pub struct WaitingChange {
    /// Who asked, if it was a session.
    pub from: Option<SessionKey>,
    /// What it is about.
    pub kind: Kind,
    /// What it says.
    pub body: Bytes,
    /// Who is answered.
    pub caller: Option<Caller>,
}

/// An item of a queue, put by a call.
#[derive(Debug)]
pub struct WaitingItem {
    /// Who called.
    pub from: Option<SessionKey>,
    /// The item.
    pub publication: Arc<Publication>,
    /// Who is answered.
    pub caller: Caller,
}

impl Waiting {
    /// What goes on as soon as this has come back.
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
    /// Whose it is, while that session lasts.
    pub from: Option<SessionKey>,
    /// Whose it is on record, also when that session has ended.
    pub origin: Option<SessionId>,
    /// Who retains it, if it is retained.
    pub by: Option<Author>,
    /// By which connection, and who is answered; wills have none.
    pub connection: Option<ConnectionId>,
    /// What is published.
    pub publication: Arc<Publication>,
    /// How it is answered.
    pub acknowledge: Acknowledge,
    /// How it is published.
    pub options: Option<Box<PublishOptions>>,
    /// Unacknowledged publications that its session published after it.
    pub followers: Vec<Follower>,
    /// What it does to whoever holds or waits for its topic.
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
