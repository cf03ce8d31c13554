//! SUBSCRIBE and UNSUBSCRIBE, entry by entry.
use super::Router;
use super::session::SessionKey;
use crate::model::command::{RetainHandling, SubscribeEntry, SubscribeOptions, UnsubscribeEntry};
use crate::model::delivery::Granted;
use crate::model::{ConnectionId, Delivery, Filter, Reason, RequestId, SubscriptionId};

/// A retained replay owed after the answer: SUBACK comes first.
type OwedReplay = (Filter, SubscriptionId, SubscribeOptions);

impl Router {
    pub(super) fn subscribe(
        &mut self,
        key: SessionKey,
        connection: ConnectionId,
        request: RequestId,
        entries: Vec<SubscribeEntry>,
    ) {
        let mut replays = Vec::new();
        let results = entries
            .into_iter()
            .map(|entry| match entry {
                SubscribeEntry::Topic { filter, share, options } => {
                    self.subscribe_topic(key, filter, share, options, &mut replays)
                }
                SubscribeEntry::Procedure { filter, options } => self.register(key, filter, options),
                SubscribeEntry::Refused(reason) => Err(reason),
            })
            .collect();
        self.deliver(connection, Delivery::Subscribed(request, results));
        for (filter, subscription, options) in replays {
            self.start_replay(key, &filter, subscription, options);
        }
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
        let name = (filter, share);
        let session = self.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
        if is_private(&name.0) && session.protocol.is_mqtt() {
            session.private.retain(|(filter, _)| *filter != name.0);
            if session.private.len() >= self.limits.max_subscriptions_per_session {
                return Err(Reason::QuotaExceeded);
            }
            session.private.push((name.0, options));
            return Ok(Granted::Subscription(SubscriptionId(0), options.qos));
        }
        let is_new = !session.subscriptions.contains_key(&name);
        let is_full = session.subscriptions.len() >= self.limits.max_subscriptions_per_session
            || (is_wildcard && session.wildcards >= self.limits.max_wildcards_per_session)
            || (is_wildcard && self.broker.wildcards() >= self.limits.max_wildcards_per_realm);
        if is_new && is_full {
            return Err(Reason::QuotaExceeded);
        }
        session.wildcards += usize::from(is_new && is_wildcard);
        // In place of an earlier one [MQTT-3.8.4-3]; deliveries that wait are none of it [MQTT-3.8.4-4], 3.1.1: [MQTT-3.8.4-3].
        session.subscriptions.insert(name.clone(), options);
        let (filter, share) = name;
        let (id, _) = self.broker.subscribe(key, &filter, share.as_deref(), options);
        let wants_retained = match options.retain_handling {
            RetainHandling::Always => true,  // [MQTT-3.3.1-9]; 3.1.1: [MQTT-3.3.1-6]
            RetainHandling::IfNew => is_new, // [MQTT-3.3.1-10]
            RetainHandling::Never => false,  // [MQTT-3.3.1-11]
        };
        // 4.8.2 (non-normative): nothing retained on a shared subscription.
        if wants_retained && share.is_none() {
            replays.push((filter, id, options));
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
        }
        Ok(())
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
