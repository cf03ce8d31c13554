//! Values of topics that are on their way into the history, by topic and in their order.
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::model::limits::MAX_CHANGES_LOOKED_AT;
use crate::model::record::Ticket;
use crate::model::{ConnectionId, Filter, Publication, SessionId, Topic};

/// A retained publication that has no place yet.
#[derive(Debug)]
pub struct NextValue {
    /// Under which it comes back.
    pub ticket: Ticket,
    /// The value.
    pub publication: Arc<Publication>,
    /// The session that it comes from; the router's own have none.
    pub by: Option<SessionId>,
    /// By which connection; wills have none.
    pub connection: Option<ConnectionId>,
}

/// All retained publications that have no place yet.
#[derive(Debug, Default)]
pub struct OnTheWay {
    by_topic: HashMap<Topic, VecDeque<NextValue>, RandomState>,
    last: Ticket,
}

impl OnTheWay {
    /// One more, behind all others.
    pub fn push(&mut self, next: NextValue) {
        self.last = next.ticket;
        self.by_topic.entry(next.publication.topic.clone()).or_default().push_back(next);
    }

    /// The oldest of a topic has come back.
    pub fn pop(&mut self, topic: &Topic) {
        let Some(line) = self.by_topic.get_mut(topic) else { return };
        line.pop_front();
        if line.is_empty() {
            self.by_topic.remove(topic);
        }
    }

    /// The next values of a topic, in their order.
    pub fn of(&self, topic: &Topic) -> impl Iterator<Item = &NextValue> {
        self.by_topic.get(topic).into_iter().flatten()
    }

    /// The ticket of the last change of a value under `filter`. Where very many are on their way, it may be one of another value.
    pub fn last_under(&self, filter: &Filter) -> Option<Ticket> {
        if let Filter::Exact(topic) = filter {
            return self.of(topic).last().map(|next| next.ticket);
        }
        if self.by_topic.len() > MAX_CHANGES_LOOKED_AT {
            return Some(self.last);
        }
        let under = self.by_topic.iter().filter(|(topic, _)| filter.covers(topic));
        under.filter_map(|(_, line)| line.back()).map(|next| next.ticket).max()
    }
}
