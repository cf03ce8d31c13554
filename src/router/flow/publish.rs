//! PUBLISH: checked, then published at once, sent into the history, judged as a condition, or put into a queue.
use crate::router::queue::is_put;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::model::command::{Acknowledge, PublishOptions};
use crate::model::text::unfit_in;
use crate::model::{ConnectionId, Delivery, Payload, Publication, Reason, Topic};
use crate::router::base::key::SessionKey;
use crate::router::flow::{answer, append, locks, queues, route};
use crate::router::realm::Realm;

/// The number that two publications have in common if one repeats the other.
fn fingerprint(publication: &Publication) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    publication.topic.hash(&mut hasher);
    if let Payload::Bytes(bytes) = &publication.payload {
        bytes.hash(&mut hasher);
    }
    hasher.finish()
}

/// The character for which a name is refused. A value that is retained under such a name, from before, can be removed.
fn unfit_without_value(realm: &Realm, topic: &Topic) -> Option<char> {
    let character = if topic.is_unfit() { unfit_in(topic.as_mqtt()) } else { None };
    character.filter(|_| realm.retained.find(topic, realm.cx.now_ms).is_none())
}

pub fn handle_publish(
    realm: &mut Realm,
    key: SessionKey,
    connection: ConnectionId,
    publication: Arc<Publication>,
    acknowledge: Acknowledge,
    mut options: Option<Box<PublishOptions>>,
) {
    realm.cx.counters.published += 1;
    realm.cx.counters.published_bytes += publication.payload.len() as u64;
    let is_qos_2 = matches!(acknowledge, Acknowledge::ExactlyOnce(_) | Acknowledge::ExactlyOnceAgain(_));
    let fingerprint = if is_qos_2 { fingerprint(&publication) } else { 0 };
    if !answer::accept(realm, key, connection, acknowledge, fingerprint) {
        return;
    }
    if is_put(&publication) {
        return queues::put_published(realm, key, connection, publication, acknowledge, options);
    }
    let outcome = if let Some(root) = publication.topic.root() {
        let reason = Reason::ReservedName(root);
        realm.cx.tell(connection, Delivery::Denied(publication.topic.clone(), reason));
        Err(reason)
    } else if let Some(character) = unfit_without_value(realm, &publication.topic) {
        let reason = Reason::UnfitCharacter(character);
        realm.cx.tell(connection, Delivery::Denied(publication.topic.clone(), reason));
        Err(reason)
    } else if let Some(options) = options.take_if(|options| options.condition.is_some()) {
        match locks::ask(realm, key, connection, publication, acknowledge, options) {
            Ok(()) => return,
            Err(reason) => Err(reason),
        }
    } else if !append::is_stored(realm, &publication, acknowledge) {
        Ok(route::publish(realm, Some(key), publication, options.as_deref()))
    } else if let Err(reason) = append::make_room_for(realm, &publication) {
        Err(reason)
    } else {
        return append::append(realm, Some(key), Some(connection), publication, acknowledge, options);
    };
    answer::acknowledge(realm, key, connection, acknowledge, outcome);
}
