//! SUBSCRIBE and UNSUBSCRIBE, entry by entry; one that asks for past events waits until it is known whether they are kept.
use super::Router;
use super::broker::SelectionKey;
use super::effect::ReadForm;
use super::queue::connections::queue_named;
use super::read::Purpose;
use super::session::{SessionKey, Subscribed};
use crate::model::command::{Past, RetainHandling, Selection, SubscribeEntry, SubscribeOptions, UnsubscribeEntry};
use crate::model::delivery::Granted;
use crate::model::query::Query;
use crate::model::reason::MustBe;
use crate::model::{ConnectionId, Delivery, EventId, Filter, Qos, Reason, RequestId, SubscriptionId};

/// A replay owed after the answer: SUBACK comes first.
#[derive(Debug)]
pub(super) enum OwedReplay {
    Retained(Filter, SubscriptionId, SubscribeOptions),
    Past(Filter, SelectionKey),
}

/// A SUBSCRIBE that waits for the history.
#[derive(Debug)]
pub struct Probing {
    connection: ConnectionId,
    request: RequestId,
    entries: Vec<SubscribeEntry>,
}

impl Router {
    pub(super) fn subscribe(
        &mut self,
        key: SessionKey,
        connection: ConnectionId,
        request: RequestId,
        entries: Vec<SubscribeEntry>,
    ) {
        let mut pasts = entries.iter().filter_map(past_of).peekable();
        if pasts.peek().is_none() {
            return self.subscribe_all(key, connection, request, entries, Ok(()));
        }
        // The oldest event that anybody asks for.
        let after = pasts.filter_map(first_of).min();
        self.hold_up(key, Probing { connection, request, entries });
        self.read(key, Purpose::Probe, Query { after, limit: 1, ..Query::new("") }, ReadForm::Stored);
    }

    /// The history has answered: what a SUBSCRIBE asks for is there, or why not.
    pub(super) fn handle_probe(&mut self, key: SessionKey, outcome: Result<(), Reason>) {
        let Some(Probing { connection, request, entries }) = self.let_go_on(key) else { return };
        if self.sessions.at(key).is_some_and(|session| session.connection == Some(connection)) {
            self.subscribe_all(key, connection, request, entries, outcome);
        }
        self.continue_deferred(key);
    }

    fn subscribe_all(
        &mut self,
        key: SessionKey,
        connection: ConnectionId,
        request: RequestId,
        entries: Vec<SubscribeEntry>,
        history: Result<(), Reason>,
    ) {
        let mut replays = Vec::new();
        let results = entries
            .into_iter()
            .map(|entry| match entry {
                SubscribeEntry::Topic { filter, share, options } => {
                    self.subscribe_topic(key, filter, share, options, &mut replays)
                }
                SubscribeEntry::Selected { filter, options, selection } => {
                    self.subscribe_selected(key, filter, options, *selection, history, &mut replays)
                }
                SubscribeEntry::Procedure { filter, options } => self.register(key, filter, options),
                SubscribeEntry::Refused(reason) => Err(reason),
            })
            .collect();
        self.deliver(connection, Delivery::Subscribed(request, results));
        for replay in replays {
            match replay {
                OwedReplay::Retained(filter, subscription, options) => self.start_replay(key, &filter, subscription, options),
                OwedReplay::Past(filter, selection) => self.start_past(key, &filter, selection),
            }
        }
    }

    pub(super) fn subscribe_selected(
        &mut self,
        key: SessionKey,
        filter: Filter,
        mut options: SubscribeOptions,
        selection: Selection,
        history: Result<(), Reason>,
        replays: &mut Vec<OwedReplay>,
    ) -> Result<Granted, Reason> {
        if is_private(&filter) {
            return Err(Reason::InvalidArgument);
        }
        if let Some(past) = selection.past {
            self.check_past(past, history)?;
            options.retain_handling = RetainHandling::Never;
        } else if selection.is_snapshot {
            options.retain_handling = RetainHandling::Always;
        }
        let has_past = selection.past.is_some();
        let mut retained = Vec::new();
        let granted = self.subscribe_topic(key, filter.clone(), None, options, &mut retained)?;
        if let Granted::Subscription(id, _) = granted {
            let selection = self.select(key, id, &filter, options, selection);
            replays.extend(has_past.then_some(OwedReplay::Past(filter, selection)));
        }
        replays.append(&mut retained);
        Ok(granted)
    }

    /// What is asked for must be in the history, and not ahead of it: such an id is that of another realm, or of another time.
    fn check_past(&self, past: Past, history: Result<(), Reason>) -> Result<(), Reason> {
        let after = first_of(past);
        match history {
            // Others of the same SUBSCRIBE may ask for less.
            Err(Reason::HistoryTooOld(oldest)) if after.is_none_or(|after| after.next() >= Some(oldest)) => {}
            history => history?,
        }
        if after > self.reads.last_id() { Err(Reason::WrongValue("after", MustBe::KnownEvent)) } else { Ok(()) }
    }

    pub(super) fn subscribe_topic(
        &mut self,
        key: SessionKey,
        filter: Filter,
        share: Option<Box<str>>,
        options: SubscribeOptions,
        replays: &mut Vec<OwedReplay>,
    ) -> Result<Granted, Reason> {
        let is_wildcard = !matches!(filter, Filter::Exact(_));
        let last = self.reads.last_id().map_or(0, EventId::value);
        let name = (filter, share);
        let session = self.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
        if let Some(root) = name.0.root().filter(|root| !root.is_heard(&name.0, session.protocol.is_mqtt())) {
            return Err(Reason::ReservedName(root));
        }
        if is_private(&name.0) && session.protocol.is_mqtt() {
            session.private.retain(|(filter, _)| *filter != name.0);
            if session.private.len() >= self.limits.max_subscriptions_per_session {
                return Err(Reason::QuotaExceeded);
            }
            session.private.push((name.0, options));
            return Ok(Granted::Subscription(SubscriptionId(0), options.qos));
        }
        if session.protocol.is_mqtt()
            && let Some(queue) = queue_named(&name.0)
        {
            return self.subscribe_queue(key, queue?, name.1.is_some(), options);
        }
        let is_new = !session.subscriptions.contains_key(&name);
        let is_full = session.subscriptions.len() >= self.limits.max_subscriptions_per_session
            || (is_wildcard && session.wildcards >= self.limits.max_wildcards_per_session)
            || (is_wildcard && self.broker.wildcards() >= self.limits.max_wildcards_per_realm);
        if is_new && is_full {
            return Err(Reason::QuotaExceeded);
        }
        session.wildcards += usize::from(is_new && is_wildcard);
        if name.1.is_none() && session.selections.contains_key(&name.0) {
            self.stop_replays(key, &name.0);
            self.forget_selection(key, &name.0);
        }
        let session = self.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
        // In place of an earlier one [MQTT-3.8.4-3]; deliveries that wait are none of it [MQTT-3.8.4-4], 3.1.1: [MQTT-3.8.4-3].
        // What came with QoS 0 before is not owed.
        let earlier = session.subscriptions.get(&name).filter(|earlier| earlier.options.qos > Qos::AtMostOnce);
        let since = earlier.map_or(last, |earlier| earlier.since);
        session.subscriptions.insert(name.clone(), Subscribed { options, since });
        let (filter, share) = name;
        let (id, _) = self.broker.subscribe(key, &filter, share.as_deref(), options);
        let wants_retained = match options.retain_handling {
            RetainHandling::Always => true,  // [MQTT-3.3.1-9]; 3.1.1: [MQTT-3.3.1-6]
            RetainHandling::IfNew => is_new, // [MQTT-3.3.1-10]
            RetainHandling::Never => false,  // [MQTT-3.3.1-11]
        };
        // 4.8.2 (non-normative): nothing retained on a shared subscription.
        if wants_retained && share.is_none() {
            replays.push(OwedReplay::Retained(filter, id, options));
        }
        Ok(Granted::Subscription(id, options.qos)) // [MQTT-3.8.4-7]
    }

    pub(super) fn unsubscribe(
        &mut self,
        key: SessionKey,
        connection: ConnectionId,
        request: RequestId,
        entries: &[UnsubscribeEntry],
    ) {
        let results = entries.iter().map(|entry| self.unsubscribe_entry(key, entry)).collect();
        self.deliver(connection, Delivery::Unsubscribed(request, results));
    }

    pub(super) fn unsubscribe_entry(&mut self, key: SessionKey, entry: &UnsubscribeEntry) -> Result<(), Reason> {
        match entry {
            UnsubscribeEntry::Topic { filter, share } => self.unsubscribe_topic(key, filter, share.as_deref()),
            UnsubscribeEntry::Subscription(id) => {
                let filter = self.broker.filter_of(*id).cloned().ok_or(Reason::NoSuchSubscription)?;
                self.unsubscribe_topic(key, &filter, None)
            }
            UnsubscribeEntry::Procedure { filter, form } => self.unregister(key, filter, *form),
            UnsubscribeEntry::Registration(id) => self.unregister_by_id(key, *id),
            UnsubscribeEntry::Refused(reason) => Err(*reason),
        }
    }

    fn unsubscribe_topic(&mut self, key: SessionKey, filter: &Filter, share: Option<&str>) -> Result<(), Reason> {
        let session = self.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
        if is_private(filter) && session.protocol.is_mqtt() {
            let before = session.private.len();
            session.private.retain(|(private, _)| private != filter);
            return if session.private.len() < before { Ok(()) } else { Err(Reason::NoSuchSubscription) };
        }
        if session.protocol.is_mqtt()
            && let Some(queue) = queue_named(filter)
        {
            return self.unsubscribe_queue(key, queue?);
        }
        // [MQTT-3.10.4-1]
        let name = (filter.clone(), share.map(Into::into));
        if session.subscriptions.remove(&name).is_none() {
            return Err(Reason::NoSuchSubscription);
        }
        session.wildcards -= usize::from(!matches!(filter, Filter::Exact(_)));
        // What waits in the window and behind it stays there [MQTT-3.10.4-3].
        self.broker.unsubscribe(key, filter, share);
        if share.is_none() {
            self.stop_replays(key, filter);
            self.forget_selection(key, filter);
        }
        Ok(())
    }

    /// Takes a subscription away that its session has not given up.
    pub(super) fn drop_subscription(&mut self, key: SessionKey, filter: &Filter) {
        self.unsubscribe_topic(key, filter, None).ok();
    }
}

fn past_of(entry: &SubscribeEntry) -> Option<Past> {
    match entry {
        SubscribeEntry::Selected { selection, .. } => selection.past,
        _ => None,
    }
}

/// The event that is asked for first, where that is said.
fn first_of(past: Past) -> Option<EventId> {
    match past {
        Past::After(after) => after,
        Past::Last(_) => None,
    }
}

/// `$reply/…` and `$cancel/…`: each session sees only its own (MAPPING.md, Calls).
fn is_private(filter: &Filter) -> bool {
    let text = match filter {
        Filter::Exact(topic) => topic.as_mqtt(),
        Filter::Levels(levels) => levels,
        Filter::Prefix(_) => return false,
    };
    matches!(text.split('/').next(), Some("$reply" | "$cancel"))
}
