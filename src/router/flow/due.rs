//! The work that is done when a timer fires.
use crate::model::Reason;
use crate::router::base::due::Due;
use crate::router::flow::{call, locks, progress, queues, session, wills};
use crate::router::realm::Realm;

pub fn handle_due(realm: &mut Realm, due: Due) {
    match due {
        Due::Will(key) => {
            if let Some(session) = realm.sessions.at_mut(key) {
                session.timers[0] = None;
            }
            wills::publish_will(realm, key);
        }
        // [MQTT-4.1.0-2]
        Due::Expiry(key) => {
            realm.cx.counters.expired += 1;
            session::end(realm, key, Reason::ConnectionLost);
        }
        Due::Call(place) => call::time_out(realm, place),
        Due::Checkpoint => progress::checkpoint(realm),
        Due::Queues => queues::handle_queues_due(realm),
        Due::Topic(topic) => locks::ask_due(realm, &topic),
        Due::Wait(topic, request) => locks::end_wait(realm, &topic, request),
    }
}
