//! Queues as an MQTT connection sees them: a subscription to `$queue/<name>` takes, PUBACK is done, the end returns the rest.
use std::sync::Arc;

use smallvec::SmallVec;

use super::change::{Change, Token, is_queue};
use super::item::Grant;
use crate::model::command::SubscribeOptions;
use crate::model::delivery::Granted;
use crate::model::publication::Properties;
use crate::model::{ConnectionId, Delivery, Filter, Publication, PublicationId, Qos, Reason, SubscriptionId, Topic};
use crate::router::Router;
use crate::router::inflight::Owed;
use crate::router::session::SessionKey;

/// Queues that a connection may take from at a time: when it has room again it comes last in the line of each.
const MAX_QUEUES: usize = 1_000;

/// Which queue a filter names; a filter over several names none.
pub fn queue_named(filter: &Filter) -> Option<Result<&Topic, Reason>> {
    match filter {
        Filter::Exact(topic) => is_queue(topic).then_some(Ok(topic)),
        Filter::Levels(levels) => levels.starts_with("$queue/").then_some(Err(Reason::InvalidFilter)),
        Filter::Prefix(_) => None,
    }
}

impl Router {
    /// A session takes from a queue from now on, one item after the other, as many unacknowledged as its window has room for.
    pub(in crate::router) fn subscribe_queue(
        &mut self,
        key: SessionKey,
        queue: &Topic,
        is_shared: bool,
        options: SubscribeOptions,
    ) -> Result<Granted, Reason> {
        if is_shared {
            // Whoever takes from a queue shares it already.
            return Err(Reason::SharedSubscriptionInvalid);
        }
        if options.qos == Qos::AtMostOnce {
            // Without PUBACK nothing says that an item is done with.
            return Err(Reason::NotSupported);
        }
        self.check_queue(queue)?;
        let max = self.limits.max_subscriptions_per_session.min(MAX_QUEUES);
        let session = self.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
        let is_new = !session.queues.contains_key(queue);
        if is_new && session.queues.len() >= max {
            return Err(Reason::QuotaExceeded);
        }
        session.queues.insert(queue.clone(), options);
        if is_new {
            self.attach(key, queue);
        }
        Ok(Granted::Subscription(SubscriptionId(0), Qos::AtLeastOnce))
    }

    fn attach(&mut self, key: SessionKey, queue: &Topic) {
        let Some(by) = self.note_queue_user(key) else { return };
        let window = self.sessions.at(key).map_or(1, |session| session.inflight.window());
        self.append_owed(Change::Attach { queue: queue.as_mqtt().into(), by: by.0, window });
    }

    /// A session came back: it takes again from the queues that it took from.
    pub(in crate::router) fn attach_again(&mut self, key: SessionKey) {
        let queues: Vec<Topic> =
            self.sessions.at(key).map(|session| session.queues.keys().cloned().collect()).unwrap_or_default();
        for queue in queues {
            self.attach(key, &queue);
        }
    }

    /// It takes no more; what it has stays with it until it is done with that, or ends.
    pub(in crate::router) fn unsubscribe_queue(&mut self, key: SessionKey, queue: &Topic) -> Result<(), Reason> {
        let session = self.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
        session.queues.remove(queue).ok_or(Reason::NoSuchSubscription)?;
        if let Some(by) = session.connection {
            self.append_owed(Change::Detach { queue: queue.as_mqtt().into(), by: by.0 });
        }
        Ok(())
    }

    /// The end of this session's connection is the queues' business from now on; which connection.
    pub(super) fn note_queue_user(&mut self, key: SessionKey) -> Option<ConnectionId> {
        let session = self.sessions.at_mut(key)?;
        session.queue_user = session.connection;
        session.connection
    }

    /// The connection of a session has ended: nothing of a queue that it has is owed to it any more [MQTT-4.4.0-1] is about
    /// publications, and these go to others now.
    pub(in crate::router) fn leave_queues(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at_mut(key) else { return };
        let Some(by) = session.queue_user.take() else { return };
        session.inflight.forget_claims();
        self.append_owed(Change::Gone { by: by.0 });
    }

    /// Puts an item into the window of a connection. One that has ended returns it by its end.
    pub(super) fn deliver_item(&mut self, to: ConnectionId, queue: Topic, grant: Grant) {
        let Some(key) = self.sessions.of_connection(to) else { return };
        let id = PublicationId(grant.id);
        let Some(session) = self.sessions.at_mut(key) else { return };
        let identifier = session.queues.get(&queue).and_then(|options| options.identifier);
        let token = grant.token;
        let mut publication = publication_of(queue, grant);
        publication.id = id;
        let subscriptions: SmallVec<[u64; 2]> = identifier.map(u64::from).into_iter().collect();
        let claim = Some(token);
        let qos = Qos::AtLeastOnce;
        let owed =
            Owed { publication: Arc::new(publication), qos, retain: false, subscriptions, share: None, claim, again: false };
        let before = session.inflight.dropped;
        let event = session.inflight.offer(owed, true, &self.limits);
        let is_dropped = session.inflight.dropped > before;
        if let Some(event) = event {
            self.deliver(to, Delivery::Event(event));
        }
        if is_dropped {
            self.append_owed(Change::Nack { tokens: vec![token], delay_ms: None });
        }
    }

    /// What a connection has said about its items in one read. What it declines rests as long as a claim would last.
    pub(in crate::router) fn settle_claims(&mut self, claims: Vec<(Token, bool)>) {
        let of = |is_done: bool| claims.iter().filter(|claim| claim.1 == is_done).map(|claim| claim.0).collect::<Vec<_>>();
        let (done, declined) = (of(true), of(false));
        if !done.is_empty() {
            self.append_owed(Change::Ack { tokens: done });
        }
        if !declined.is_empty() {
            self.append_owed(Change::Nack { tokens: declined, delay_ms: None });
        }
    }
}

/// An item as a publication of its queue.
fn publication_of(queue: Topic, grant: Grant) -> Publication {
    let Grant { token, delivery_count, body, .. } = grant;
    let mut properties = body.properties.as_deref().cloned().unwrap_or_else(Properties::default);
    properties.user.push(("corsac-delivery-count".into(), delivery_count.to_string().into()));
    properties.user.push(("corsac-token".into(), token.to_string().into()));
    let mut publication = Publication::new(queue, body.payload, Qos::AtLeastOnce);
    publication.properties = Some(Box::new(properties));
    publication
}
