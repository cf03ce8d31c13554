//! What there was before a new subscription: sent in pages, as fast as the receiver reads, each once; retained messages from here.
use super::Router;
use super::broker::SelectionKey;
use super::deliver::Passage;
use super::effect::Effect;
use super::retained::{Author, Cursor, Retained, Wanted};
use super::session::SessionKey;
use crate::model::command::SubscribeOptions;
use crate::model::query::ReadTicket;
use crate::model::{Delivery, Filter, SubscriptionId};

/// Retained messages looked at before the router turns to others.
const PAGE_STEPS: usize = 256;

/// Retained messages or past events that a subscription is still to get.
#[derive(Debug)]
pub struct Replay {
    filter: Filter,
    source: Source,
    /// The subscription selects what it gets.
    selection: Option<SelectionKey>,
    /// The page of the history that is being read for it.
    pub(super) reading: Option<ReadTicket>,
    /// It waits for room in its receiver's window.
    pub(super) is_held_up: bool,
    /// Its subscription has ended; it only keeps the place of what follows until its page has left the outbox.
    is_over: bool,
}

/// Where it comes from.
#[derive(Debug)]
enum Source {
    Retained {
        subscription: SubscriptionId,
        options: SubscribeOptions,
        cursor: Option<Cursor>,
        /// Values set later than this came to the subscriber live.
        until: u64,
        /// The same among those of the router's own, until they have been sent.
        own_until: Option<u64>,
    },
    History(SelectionKey),
}

impl Replay {
    /// True if its subscription has ended.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// True if it goes on when its client comes back.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self.source, Source::History(_)) && !self.is_over
    }
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
        let selection = self.sessions.at(key).and_then(|session| session.selections.get(filter)).copied();
        let selected = selection.and_then(|selection| self.selections.get(selection as usize));
        // No filter that starts with a wildcard covers a name of the router's [MQTT-4.7.2-1].
        let is_own = filter.is_hidden() && !self.own_retained.is_empty();
        if self.retained.is_empty() && !is_own && selection.is_none() {
            return;
        }
        // What is set while a snapshot is sent does not come otherwise.
        let is_snapshot = selected.is_some_and(|selected| selected.is_snapshot());
        let until = |store: &Retained| if is_snapshot { u64::MAX } else { store.latest() };
        let own_until = is_own.then(|| until(&self.own_retained));
        let until = until(&self.retained);
        self.line_up(key, filter, selection, Source::Retained { subscription, options, cursor: None, until, own_until });
    }

    /// Begins to send the past events that a subscription has asked for.
    pub(super) fn start_past(&mut self, key: SessionKey, filter: &Filter, selection: SelectionKey) {
        self.line_up(key, filter, Some(selection), Source::History(selection));
    }

    fn line_up(&mut self, key: SessionKey, filter: &Filter, selection: Option<SelectionKey>, source: Source) {
        let filter = filter.clone();
        let replay = Replay { filter, source, selection, reading: None, is_held_up: false, is_over: false };
        let Some(session) = self.sessions.at_mut(key) else { return };
        session.replays.push_back(replay);
        if session.replays.len() == 1 {
            self.continue_replay(key);
        }
    }

    /// Takes back what is still to be sent for a subscription that has ended [MQTT-3.10.4-2].
    pub(super) fn stop_replays(&mut self, key: SessionKey, filter: &Filter) {
        let Some(session) = self.sessions.at_mut(key) else { return };
        let begun = session.replays.pop_front();
        session.replays.retain(|replay| replay.filter != *filter);
        if let Some(mut begun) = begun {
            begun.is_over |= begun.filter == *filter;
            session.replays.push_front(begun);
        }
    }

    /// Sends the next page; asks to be told when it has left the outbox if there is more.
    pub(super) fn continue_replay(&mut self, key: SessionKey) {
        let mut page = Vec::new();
        loop {
            let Some(session) = self.sessions.at_mut(key) else { return };
            let Some(mut replay) = session.replays.pop_front() else { return };
            if replay.is_over {
                // Only what is being read for it keeps its place.
                match replay.reading {
                    Some(_) => return session.replays.push_front(replay),
                    None => continue,
                }
            }
            let (subscription, options, cursor, until, own_until) = match &mut replay.source {
                Source::Retained { subscription, options, cursor, until, own_until } => {
                    (*subscription, *options, cursor, *until, own_until)
                }
                Source::History(selection) => {
                    let selection = *selection;
                    session.replays.push_front(replay);
                    return self.continue_past(key, selection);
                }
            };
            let (protocol, connection) = (session.protocol, session.connection);
            // [MQTT-3.8.3-3]
            let own = session.client_id.as_deref().filter(|_| options.no_local).map(Author::of);
            let (store, set_until) = match *own_until {
                Some(until) => (&self.own_retained, until),
                None => (&self.retained, until),
            };
            let wanted = Wanted { now_ms: self.now_ms, set_until, not_by: own };
            page.clear();
            let after = cursor.take();
            let next = store.page(&replay.filter, after.as_ref(), PAGE_STEPS, wanted, &mut page);
            page.retain(|publication| replay.selection.is_none_or(|selection| self.is_wanted(selection, publication)));
            for publication in &page {
                let mut passage = Passage::of(options, &replay.filter, protocol, subscription);
                passage.retain = true; // 3.1.1: [MQTT-3.3.1-8]
                self.deliver_to(key, publication, passage);
            }
            // Behind those of the router's own come those of clients.
            if next.is_some() || own_until.take().is_some() {
                *cursor = next;
                if let Some(session) = self.sessions.at_mut(key) {
                    session.replays.push_front(replay);
                }
            } else if let Some(selection) = replay.selection {
                self.complete(selection);
            }
            let Some(session) = self.sessions.at_mut(key) else { return };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::command::{Acknowledge, UnsubscribeEntry};
    use crate::model::{Command, ConnectionId, Publication, Qos, Topic};
    use crate::router::tests::{Realm, payload};

    /// A realm with this many retained messages below `name/`.
    fn retain(realm: &mut Realm, publisher: ConnectionId, name: &str, count: usize) {
        for number in 0..count {
            let topic = Topic::from_mqtt(&format!("{name}/{number}")).unwrap();
            let publication = Publication { retain: true, ..Publication::new(topic, payload("x"), Qos::AtMostOnce) };
            let publication = Arc::new(publication);
            realm.send(publisher, Command::Publish { publication, acknowledge: Acknowledge::None, options: None });
        }
    }

    fn events(told: Vec<Delivery>) -> usize {
        told.iter().filter(|told| matches!(told, Delivery::Event(_))).count()
    }

    /// What else comes as the outbox is emptied again and again.
    fn drained(realm: &mut Realm, connection: ConnectionId) -> usize {
        let mut count = 0;
        for _ in 0..10 {
            realm.router.handle_outbox_drained(connection);
            realm.advance(0);
            count += events(realm.inbox(connection));
        }
        count
    }

    #[test]
    fn nothing_retained_comes_behind_the_end_of_its_subscription() {
        // [MQTT-3.10.4-2]
        let mut realm = Realm::new();
        let (a, b) = (realm.mqtt("a"), realm.mqtt("b"));
        retain(&mut realm, a, "x", 2 * PAGE_STEPS);
        retain(&mut realm, a, "y", 2 * PAGE_STEPS);
        realm.subscribe(b, "x/#", Qos::AtMostOnce).unwrap();
        realm.subscribe(b, "y/#", Qos::AtMostOnce).unwrap();
        assert_eq!(events(realm.inbox(b)), PAGE_STEPS);
        let give_up = |filter| UnsubscribeEntry::Topic { filter: Filter::from_mqtt(filter).unwrap(), share: None };
        // One that waits, then one that has begun.
        realm.give_up(b, give_up("y/#")).unwrap();
        realm.give_up(b, give_up("x/#")).unwrap();
        assert_eq!(drained(&mut realm, b), 0);
        // The next one is sent whole.
        realm.subscribe(b, "x/#", Qos::AtMostOnce).unwrap();
        assert_eq!(events(realm.inbox(b)) + drained(&mut realm, b), 2 * PAGE_STEPS);
    }

    #[test]
    fn the_end_of_one_subscription_holds_up_no_other() {
        let mut realm = Realm::new();
        let (a, b) = (realm.mqtt("a"), realm.mqtt("b"));
        retain(&mut realm, a, "x", 2 * PAGE_STEPS);
        retain(&mut realm, a, "y", 3);
        realm.subscribe(b, "x/#", Qos::AtMostOnce).unwrap();
        realm.subscribe(b, "y/#", Qos::AtMostOnce).unwrap();
        realm.inbox(b);
        let entry = UnsubscribeEntry::Topic { filter: Filter::from_mqtt("x/#").unwrap(), share: None };
        realm.give_up(b, entry).unwrap();
        assert_eq!(drained(&mut realm, b), 3);
    }
}
