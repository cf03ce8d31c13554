//! The way of a publication: retained state, the plan of receivers, and one event for each.
use std::sync::Arc;

use smallvec::SmallVec;

use super::Router;
use super::broker::Receiver;
use super::inflight::{Owed, Source};
use super::retained::Author;
use super::selected::Body;
use super::session::{Session, SessionKey, Subscribed};
use crate::model::command::{Audience, Protocol, PublishOptions, SubscribeOptions};
use crate::model::delivery::Event;
use crate::model::publication::Publisher;
use crate::model::{EventId, Filter, Publication, PublicationId, Qos, Reason, SubscriptionId};

/// Retained messages under `$` and the other roots of the router's.
const MAX_OWN_RETAINED: usize = 1_000;

/// Expired retained messages taken out before a new one is refused.
const PURGE_STEPS: usize = 1_000;

/// How one delivery differs from the next of the same publication.
#[derive(Clone, Debug)]
pub(super) struct Passage {
    /// QoS granted.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
    /// Subscribed by pattern.
    pub by_pattern: bool,
    /// Ids to name.
    pub subscriptions: SmallVec<[u64; 2]>,
    /// Where it comes from.
    pub source: Source,
}

impl Passage {
    /// A delivery through one subscription.
    pub fn of(options: SubscribeOptions, filter: &Filter, protocol: Protocol, id: SubscriptionId) -> Self {
        let subscriptions = match (protocol, options.identifier) {
            (Protocol::Wamp, _) => SmallVec::from_slice(&[id.0]),
            (_, Some(identifier)) => SmallVec::from_slice(&[u64::from(identifier)]),
            (_, None) => SmallVec::new(),
        };
        let by_pattern = !matches!(filter, Filter::Exact(_));
        Passage { qos: options.qos, retain: false, by_pattern, subscriptions, source: Source::Other }
    }

    /// One delivery through several subscriptions: with the greatest QoS of them and all their ids [MQTT-3.3.4-2], [MQTT-3.3.4-4].
    pub fn merge(merged: &mut Option<Passage>, more: Passage) {
        let Some(passage) = merged else { return *merged = Some(more) };
        passage.qos = passage.qos.max(more.qos);
        passage.retain |= more.retain;
        passage.by_pattern |= more.by_pattern;
        passage.subscriptions.extend(more.subscriptions);
    }
}

impl Router {
    /// Publishes past the history, for a session or for the router itself; tells how many receivers it had.
    pub(super) fn publish(
        &mut self,
        from: Option<SessionKey>,
        mut publication: Arc<Publication>,
        options: Option<&PublishOptions>,
    ) -> (PublicationId, usize) {
        let id = PublicationId(self.random.publication_id());
        let publisher = options.filter(|o| o.disclose_me).and(from).and_then(|key| self.disclosed(key));
        // Nobody else holds it yet: the gate made it for this command.
        if let Some(publication) = Arc::get_mut(&mut publication) {
            publication.id = id;
            publication.publisher = publisher;
        }
        // What clients retain goes through the history.
        if publication.retain && publication.topic.is_reserved() {
            self.retain_own(&publication, from.and_then(|key| self.author_of(key)));
        }
        if publication.is_expired(self.now_ms) {
            return (id, 0);
        }
        self.counters.published += 1;
        (id, self.route(from, &publication, options))
    }

    /// Publishes what has its place in the history, and what `by` has published; tells how many receivers it had.
    pub(super) fn publish_ordered(
        &mut self,
        from: Option<SessionKey>,
        by: Option<Author>,
        publication: &Arc<Publication>,
        options: Option<&PublishOptions>,
    ) -> usize {
        // [MQTT-3.3.1-8]
        if publication.retain {
            self.retain(publication, by);
        }
        if publication.is_expired(self.now_ms) {
            // It is acknowledged all the same [MQTT-4.3.3-13].
            return 0;
        }
        self.counters.published += 1;
        self.route(from, publication, options)
    }

    /// Keeps the value of a topic in place of the one before [MQTT-3.3.1-5], or clears it with an empty one [MQTT-3.3.1-6], which
    /// is not kept [MQTT-3.3.1-7]. It is nobody's but the realm's: 3.1.1: [MQTT-3.1.2-7].
    pub(super) fn retain(&mut self, publication: &Arc<Publication>, by: Option<Author>) {
        self.changes.note_retained(&publication.topic);
        if self.is_nothing(publication) {
            self.retained.clear(&publication.topic);
        } else {
            self.retained.set(publication.clone(), by);
        }
    }

    /// True for what only takes the place of the value before: nobody will get it any more.
    fn is_nothing(&self, publication: &Publication) -> bool {
        publication.payload.is_empty() || publication.is_expired(self.now_ms)
    }

    /// Who retains what this session publishes.
    pub(super) fn author_of(&self, key: SessionKey) -> Option<Author> {
        self.sessions.at(key)?.client_id.as_deref().map(Author::of)
    }

    /// Refuses what would be retained above the bounds. What is on its way into the history is not counted: the bounds of that way
    /// bound the excess.
    pub(super) fn make_room_for(&mut self, publication: &Publication) -> Result<(), Reason> {
        if self.retained_is_full(publication) {
            self.retained.purge_expired(self.now_ms, PURGE_STEPS);
        }
        if self.retained_is_full(publication) { Err(Reason::QuotaExceeded) } else { Ok(()) }
    }

    /// Figures of the router's: as many as it has, whatever clients retain. (And the state of bridging brokers.)
    fn retain_own(&mut self, publication: &Arc<Publication>, by: Option<Author>) {
        let is_known = self.own_retained.find(&publication.topic, self.now_ms).is_some();
        if self.is_nothing(publication) {
            self.own_retained.clear(&publication.topic);
        } else if is_known || self.own_retained.len() < MAX_OWN_RETAINED {
            self.own_retained.set(publication.clone(), by);
        }
    }

    pub(super) fn retained_is_full(&self, publication: &Publication) -> bool {
        if !publication.retain || self.is_nothing(publication) {
            return false;
        }
        let earlier = self.retained.find(&publication.topic, self.now_ms);
        let bytes = self.retained.bytes() - earlier.map_or(0, |earlier| earlier.weight()) + publication.weight();
        bytes > self.limits.max_retained_bytes || (earlier.is_none() && self.retained.len() >= self.limits.max_retained)
    }

    /// The identity that others may see of a session.
    pub(super) fn disclosed(&self, key: SessionKey) -> Option<Publisher> {
        self.sessions.at(key).map(|session| Publisher { session: session.id, principal: session.principal.clone() })
    }

    /// To everybody whose filters match [MQTT-3.3.2-3], in the order in which publications come to the realm [MQTT-4.6.0-5],
    /// whatever their topic [MQTT-4.6.0-6]; 3.1.1: [MQTT-4.6.0-6].
    pub(super) fn route(
        &mut self,
        from: Option<SessionKey>,
        publication: &Arc<Publication>,
        options: Option<&PublishOptions>,
    ) -> usize {
        let plan = self.broker.plan(&publication.topic, &self.sessions);
        let exclude_me = self.is_kept_from_publisher(from, options);
        let is_restricted = options.is_some_and(PublishOptions::is_restricted);
        let is_history = !is_restricted && EventId::new(publication.id.0).is_some();
        let source = if is_history { Source::Live } else { Source::Other };
        let (mut reached, mut body) = (0, Body::default());
        for receiver in &plan.receivers {
            if Some(receiver.session) == from {
                if exclude_me {
                    continue;
                }
                if receiver.no_local && receiver.selection.is_some() {
                    continue;
                }
                if receiver.no_local {
                    reached += self.deliver_own(receiver.session, publication, options, source);
                    continue;
                }
            }
            let is_unwanted = receiver.retained_only && !publication.retain;
            if is_unwanted || options.is_some_and(|options| !self.admits(options, receiver.session)) {
                continue;
            }
            if let Some(selection) = receiver.selection {
                reached += usize::from(self.deliver_selected(selection, publication, is_restricted, &mut body));
                continue;
            }
            reached += 1;
            self.deliver_to(receiver.session, publication, passage(receiver, publication, source));
        }
        for group in &plan.groups {
            reached += usize::from(self.deliver_shared(*group, publication));
        }
        reached
    }

    /// WAMP: Advanced, Publisher Exclusion; MQTT has No Local for it.
    pub(super) fn is_kept_from_publisher(&self, from: Option<SessionKey>, options: Option<&PublishOptions>) -> bool {
        let is_wamp = || from.and_then(|key| self.sessions.at(key)).is_some_and(|session| !session.protocol.is_mqtt());
        options.map_or_else(is_wamp, |options| options.exclude_me)
    }

    /// A publisher that subscribes with No Local: only its other subscriptions count [MQTT-3.8.3-3].
    fn deliver_own(
        &mut self,
        key: SessionKey,
        publication: &Arc<Publication>,
        options: Option<&PublishOptions>,
        source: Source,
    ) -> usize {
        if options.is_some_and(|options| !self.admits(options, key)) {
            return 0;
        }
        let Some(session) = self.sessions.at(key) else { return 0 };
        let mut merged: Option<Passage> = None;
        for ((filter, share), Subscribed { options, .. }) in &session.subscriptions {
            let is_selected = session.selections.contains_key(filter);
            if share.is_some() || is_selected || options.no_local || !filter.covers(&publication.topic) {
                continue;
            }
            let retain = options.retain_as_published && publication.retain;
            let passage = Passage::of(*options, filter, session.protocol, SubscriptionId(0));
            Passage::merge(&mut merged, Passage { retain, source, ..passage });
        }
        let Some(passage) = merged else { return 0 };
        self.deliver_to(key, publication, passage);
        1
    }

    /// One event on its way to one session [MQTT-4.5.0-1]: at once, into its window (where it waits if the client is away,
    /// 3.1.1: [MQTT-3.1.2-5]), or nowhere if it is away and took QoS 0.
    pub(super) fn deliver_to(&mut self, key: SessionKey, publication: &Arc<Publication>, passage: Passage) {
        if matches!(passage.source, Source::Shared(_)) {
            self.note_session_changed(key);
        }
        let Some(session) = self.sessions.at_mut(key) else { return };
        let qos = publication.qos.min(passage.qos); // [MQTT-3.8.4-8], [MQTT-4.8.2-3]
        let Passage { retain, by_pattern, subscriptions, source, .. } = passage;
        let event = if qos == Qos::AtMostOnce {
            // Whatever the window holds [MQTT-3.3.4-10].
            let publication = publication.clone();
            Some(Event { publication, qos, retain, duplicate: false, by_pattern, packet_id: None, subscriptions })
        } else {
            // At the start of the process: sessions whose client had not left may have been sent it (what comes through shared
            // subscriptions; the rest is read again). What was sent as QoS 2 is on record with its packet id.
            let again = session.is_replayed && session.left_ms.is_none() && qos == Qos::AtLeastOnce;
            let owed = Owed { publication: publication.clone(), qos, retain, subscriptions, source, claim: None, again };
            session.put_in_line(owed, &self.limits)
        };
        if let (Some(event), Some(connection)) = (event, session.connection) {
            self.send_event(key, connection, event);
        }
    }

    /// One member of a share group gets it: in turn among those that are connected, else one that will come back.
    fn deliver_shared(&mut self, group_key: u32, publication: &Arc<Publication>) -> bool {
        let Some((session, options)) = self.pick_member(group_key, publication.qos) else { return false };
        let mut subscriptions = SmallVec::new();
        subscriptions.extend(options.identifier.map(u64::from)); // [MQTT-3.3.4-5]
        let retain = options.retain_as_published && publication.retain;
        let source = Source::Shared(group_key);
        self.deliver_to(session, publication, Passage { qos: options.qos, retain, by_pattern: true, subscriptions, source });
        true
    }

    pub(super) fn pick_member(&mut self, group_key: u32, qos: Qos) -> Option<(SessionKey, SubscribeOptions)> {
        let group = self.broker.group_mut(group_key)?;
        let count = group.members.len();
        let turn = group.turn;
        let at = |step: usize| (turn + step) % count.max(1);
        let is_connected = |index: &usize| {
            let member = group.members.get(*index).and_then(|(key, _)| self.sessions.at(*key));
            member.is_some_and(|session| session.connection.is_some())
        };
        // Nobody keeps what a member takes with QoS 0 while it is away.
        let keeps = |index: &usize| {
            let granted = group.members.get(*index).map(|(_, options)| options.qos);
            granted.is_some_and(|granted| granted.min(qos) > Qos::AtMostOnce)
        };
        let index = (0..count).map(at).find(is_connected).or_else(|| (0..count).map(at).find(keeps))?;
        group.turn = index + 1;
        group.members.get(index).copied()
    }

    /// WAMP: Advanced, Subscriber Black- and Whitelisting: inside every white list that is given and no black list.
    fn admits(&self, options: &PublishOptions, key: SessionKey) -> bool {
        if options.eligible.is_none() && options.exclude.is_none() {
            return true;
        }
        let Some(session) = self.sessions.at(key) else { return false };
        let eligible = options.eligible.as_ref().is_none_or(|audience| is_listed(audience, session, true));
        eligible && !options.exclude.as_ref().is_some_and(|audience| is_listed(audience, session, false))
    }
}

/// True if the session is in all lists that are present (`all`), or in any of them.
fn is_listed(audience: &Audience, session: &Session, all: bool) -> bool {
    let lists = [
        audience.sessions.as_ref().map(|ids| ids.contains(&session.id)),
        audience.authids.as_ref().map(|names| names.iter().any(|name| **name == *session.principal.authid)),
        audience.authroles.as_ref().map(|names| names.iter().any(|name| **name == *session.principal.authrole)),
    ];
    let mut present = lists.into_iter().flatten();
    if all { present.all(|is_in| is_in) } else { present.any(|is_in| is_in) }
}

fn passage(receiver: &Receiver, publication: &Publication, source: Source) -> Passage {
    Passage {
        qos: receiver.qos,
        // [MQTT-3.3.1-12], [MQTT-3.3.1-13]: the flag is for values that were there before, unless asked for.
        retain: receiver.retain_as_published && publication.retain,
        by_pattern: receiver.by_pattern,
        subscriptions: SmallVec::from_slice(&receiver.subscriptions),
        source,
    }
}
