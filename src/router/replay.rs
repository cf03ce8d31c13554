//! Retained messages for a new subscription: sent in pages, as fast as the receiver reads, each once.
use super::Router;
use super::deliver::Passage;
use super::effect::Effect;
use super::retained::{Cursor, Retained};
use super::session::SessionKey;
use crate::model::command::SubscribeOptions;
use crate::model::{Delivery, Filter, SubscriptionId};

/// Retained messages looked at before the router turns to others.
const PAGE_STEPS: usize = 256;

/// Retained messages that a subscription is still to get.
#[derive(Debug)]
pub struct Replay {
    filter: Filter,
    subscription: SubscriptionId,
    options: SubscribeOptions,
    cursor: Option<Cursor>,
    /// Values set later than this came to the subscriber live.
    until: u64,
}

impl Router {
    /// Begins to send what is retained under `filter` to a session that has just subscribed.
    pub(super) fn start_replay(
        &mut self,
        key: SessionKey,
        filter: &Filter,
        subscription: SubscriptionId,
        options: SubscribeOptions,
    ) {
        let store = self.retained_under(filter);
        if store.is_empty() {
            return;
        }
        let until = store.latest();
        let replay = Replay { filter: filter.clone(), subscription, options, cursor: None, until };
        let Some(session) = self.sessions.at_mut(key) else { return };
        session.replays.push_back(replay);
        if session.replays.len() == 1 {
            self.continue_replay(key);
        }
    }

    /// Where what a filter covers is retained: no filter covers both names of clients and names of the router's, for those
    /// that start with a wildcard cover none of the latter [MQTT-4.7.2-1].
    fn retained_under(&self, filter: &Filter) -> &Retained {
        let first = match filter {
            Filter::Exact(topic) => topic.as_mqtt(),
            Filter::Levels(levels) => levels,
            Filter::Prefix(prefix) => prefix,
        };
        let is_own = first.starts_with('$') || matches!(first.split(['/', '.']).next(), Some("wamp" | "corsac"));
        if is_own { &self.own_retained } else { &self.retained }
    }

    /// Sends the next page; asks to be told when it has left the outbox if there is more.
    pub(super) fn continue_replay(&mut self, key: SessionKey) {
        let mut page = Vec::new();
        loop {
            let Some(session) = self.sessions.at_mut(key) else { return };
            let Some(mut replay) = session.replays.pop_front() else { return };
            let (protocol, connection) = (session.protocol, session.connection);
            page.clear();
            let after = replay.cursor.take();
            let store = self.retained_under(&replay.filter);
            let next = store.page(&replay.filter, after.as_ref(), PAGE_STEPS, self.now_ms, replay.until, &mut page);
            for publication in &page {
                let mut passage = Passage::of(replay.options, &replay.filter, protocol, replay.subscription);
                passage.retain = true;
                self.deliver_to(key, publication, passage);
            }
            let Some(session) = self.sessions.at_mut(key) else { return };
            if let Some(cursor) = next {
                replay.cursor = Some(cursor);
                session.replays.push_front(replay);
            }
            if session.replays.is_empty() {
                return;
            }
            if let Some(connection) = connection.filter(|_| !page.is_empty()) {
                self.effects.push_back(Effect::Deliver(connection, Delivery::Paused));
                return;
            }
        }
    }
}
