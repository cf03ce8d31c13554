//! Values of topics that are on their way into the history, by topic and in their order.
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::model::record::Ticket;
use crate::model::{ConnectionId, Publication, SessionId, Topic};

/// A retained publication that has no place yet.
#[derive(Debug)]
pub struct NextValue {
    /// Under which it comes back.
    pub ticket: Ticket,
    /// The value.
    pub publication: Arc<Publication>,
    /// Whose it is; the router's own have none.
    pub by: Option<SessionId>,
    /// By which connection; wills have none.
    pub connection: Option<ConnectionId>,
}

/// All retained publications that have no place yet.
#[derive(Debug, Default)]
pub struct OnTheWay(HashMap<Topic, VecDeque<NextValue>, RandomState>);

impl OnTheWay {
    /// One more, behind all others.
    pub fn push(&mut self, next: NextValue) {
        self.0.entry(next.publication.topic.clone()).or_default().push_back(next);
    }

    /// The oldest of a topic has come back.
    pub fn pop(&mut self, topic: &Topic) {
        let Some(line) = self.0.get_mut(topic) else { return };
        line.pop_front();
        if line.is_empty() {
            self.0.remove(topic);
        }
    }

    /// The next values of a topic, in their order.
    pub fn of(&self, topic: &Topic) -> impl Iterator<Item = &NextValue> {
        self.0.get(topic).into_iter().flatten()
    }
}
