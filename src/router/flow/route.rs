//! One publication to everybody whose subscriptions cover its topic; retained state first.
use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::command::PublishOptions;
use crate::model::{Publication, PublicationId};
use crate::router::base::key::SessionKey;
use crate::router::base::passage::{Passage, Source};
use crate::router::broker::plan::Receiver;
use crate::router::broker::selection::ParsedBody;
use crate::router::flow::{append, deliver};
use crate::router::realm::Realm;
use crate::router::retained::Author;

/// Retained messages under `$` and the other roots of the router's.
const MAX_OWN_RETAINED: usize = 1_000;

fn receiver_passage(receiver: &Receiver, publication: &Publication, source: Source) -> Passage {
    Passage {
        qos: receiver.qos,
        // [MQTT-3.3.1-12], [MQTT-3.3.1-13]: the flag is for values that were there before, unless asked for.
        retain: receiver.retain_as_published && publication.retain,
        by_pattern: receiver.by_pattern,
        subscriptions: SmallVec::from_slice(&receiver.subscriptions),
        source,
    }
}

/// Publishes past the history, for a session or for the router itself; tells how many receivers it had.
pub fn publish(
    realm: &mut Realm,
    from: Option<SessionKey>,
    mut publication: Arc<Publication>,
    options: Option<&PublishOptions>,
) -> (PublicationId, usize) {
    let id = PublicationId(realm.cx.random.publication_id());
    let publisher = options.filter(|o| o.disclose_me).and(from).and_then(|key| append::disclosed(realm, key));
    // The gate made it for this command and holds it no more: nothing is copied.
    let own = Arc::make_mut(&mut publication);
    (own.id, own.publisher) = (id, publisher);
    // Messages that clients retain go through the history.
    if publication.retain && publication.topic.is_reserved() {
        retain_own(realm, &publication, from.and_then(|key| append::author_of(realm, key)));
    }
    if publication.is_expired(realm.cx.now_ms) {
        return (id, 0);
    }
    (id, route(realm, from, &publication, options))
}

/// Publishes what has its place in the history, and what `by` has published; tells how many receivers it had.
pub fn publish_ordered(
    realm: &mut Realm,
    from: Option<SessionKey>,
    by: Option<Author>,
    publication: &Arc<Publication>,
    options: Option<&PublishOptions>,
) -> usize {
    // [MQTT-3.3.1-8]
    if publication.retain {
        retain(realm, publication, by);
    }
    if publication.is_expired(realm.cx.now_ms) {
        // The publication is acknowledged all the same [MQTT-4.3.3-13].
        return 0;
    }
    route(realm, from, publication, options)
}

/// Keeps the value of a topic in place of the one before [MQTT-3.3.1-5], or clears it with an empty one [MQTT-3.3.1-6], which is
/// not kept [MQTT-3.3.1-7]. The value is nobody's but the realm's; 3.1.1: [MQTT-3.1.2-7].
pub fn retain(realm: &mut Realm, publication: &Arc<Publication>, by: Option<Author>) {
    realm.changes.note_retained(&publication.topic);
    if append::is_nothing(realm, publication) {
        realm.retained.clear(&publication.topic);
    } else {
        realm.retained.set(publication.clone(), by);
    }
}

/// Figures of the router's: as many as it has, whatever clients retain. (And the state of bridging brokers.)
fn retain_own(realm: &mut Realm, publication: &Arc<Publication>, by: Option<Author>) {
    let is_known = realm.own_retained.find(&publication.topic, realm.cx.now_ms).is_some();
    if append::is_nothing(realm, publication) {
        realm.own_retained.clear(&publication.topic);
    } else if is_known || realm.own_retained.len() < MAX_OWN_RETAINED {
        realm.own_retained.set(publication.clone(), by);
    }
}

/// To everybody whose filters match [MQTT-3.3.2-3], in the order in which publications come to the realm [MQTT-4.6.0-5],
/// whatever their topic [MQTT-4.6.0-6]; 3.1.1: [MQTT-4.6.0-6].
pub fn route(
    realm: &mut Realm,
    from: Option<SessionKey>,
    publication: &Arc<Publication>,
    options: Option<&PublishOptions>,
) -> usize {
    let plan = realm.broker.plan(&publication.topic);
    let exclude_me = append::is_kept_from_publisher(realm, from, options);
    let is_stored = publication.id.event().is_some();
    let source = if is_stored { Source::Live } else { Source::Other };
    // Events that are limited to sessions by their ids are not among the past events that subscriptions ask for.
    let is_history = is_stored && publication.readers.as_ref().is_none_or(|readers| readers.is_lasting());
    let (mut reached, mut body) = (0, ParsedBody::default());
    for receiver in &plan.receivers {
        if Some(receiver.session) == from {
            if exclude_me {
                continue;
            }
            if receiver.no_local && receiver.selection.is_some() {
                continue;
            }
            if receiver.no_local {
                reached += deliver::deliver_own(realm, receiver.session, publication, source);
                continue;
            }
        }
        let is_unwanted = receiver.retained_only && !publication.retain;
        let is_admitted = || realm.sessions.at(receiver.session).is_some_and(|session| deliver::admits(session, publication));
        if is_unwanted || (publication.readers.is_some() && !is_admitted()) {
            continue;
        }
        if let Some(selection) = receiver.selection {
            reached += usize::from(deliver::deliver_selected(realm, selection, publication, is_history, &mut body));
            continue;
        }
        reached += 1;
        deliver::deliver_to(realm, receiver.session, publication, receiver_passage(receiver, publication, source));
    }
    for group in &plan.groups {
        reached += usize::from(deliver::deliver_shared(realm, *group, publication));
    }
    reached
}
