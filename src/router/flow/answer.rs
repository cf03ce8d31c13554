//! Answers: to publications, releases of packet ids, and calls.
use crate::router::session::inbound::PacketUse;
use crate::router::session::window::Offered;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::command::{Acknowledge, Protocol, ReplyTo};
use crate::model::delivery::{Answer, Taken};
use crate::model::outcome::Outcome;
use crate::model::properties::Properties;
use crate::model::{
    ConnectionId, Delivery, ErrorUri, InvocationId, PacketId, Payload, Publication, PublicationId, Qos, Reason, Topic, names,
};
use crate::router::base::context::Consequence;
use crate::router::base::key::SessionKey;
use crate::router::base::passage::{Passage, Source};
use crate::router::base::reply::{Caller, Message, Reply};
use crate::router::flow::{append, deliver, route};
use crate::router::realm::Realm;

/// User properties of an answer that the router says itself.
const STATUS: [&str; 2] = [names::STATUS, names::ERROR];

/// The last level of `$reply/<call id>/…`.
fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Progress => "progress",
        Outcome::Result => "result",
        Outcome::Error(_) => "error",
    }
}

pub fn is_private_topic(topic: &Topic) -> bool {
    topic.as_mqtt().starts_with(names::REPLY)
}

pub fn private_passage(qos: Qos, identifier: Option<u32>) -> Passage {
    let subscriptions: SmallVec<[u64; 2]> = identifier.map(u64::from).into_iter().collect();
    Passage { qos, retain: false, by_pattern: false, subscriptions, source: Source::Other }
}

/// Takes a publication's packet id into use; false if it is a repetition, which is answered here [MQTT-4.3.3-10],
/// 3.1.1: [MQTT-4.3.3-2].
///
/// A repetition has DUP [MQTT-3.3.1-1]. A client that sends the second identical repetition without it on one connection has gone
/// wrong.
pub fn accept(realm: &mut Realm, key: SessionKey, connection: ConnectionId, acknowledge: Acknowledge, fingerprint: u64) -> bool {
    let (packet_id, is_repetition) = match acknowledge {
        Acknowledge::ExactlyOnce(packet_id) => (packet_id, false),
        Acknowledge::ExactlyOnceAgain(packet_id) => (packet_id, true),
        _ => return true,
    };
    let Some(session) = realm.sessions.at_mut(key) else { return false };
    let max = (session.protocol == Protocol::Mqtt5).then_some(realm.cx.limits.receive_maximum);
    match session.inbound.take_packet_id(packet_id, is_repetition, fingerprint, max) {
        PacketUse::New => return true,
        PacketUse::Repeated => {
            realm.cx.tell(connection, Delivery::Received(packet_id, Ok(Taken { has_receivers: true, token: None })));
        }
        PacketUse::Violation => realm.cx.then(Consequence::End(key, Reason::ProtocolViolation)),
        PacketUse::TooMany => realm.cx.then(Consequence::End(key, Reason::ReceiveMaximumExceeded)),
    }
    false
}

/// The answer to a publication that has been taken or refused. QoS 1 leaves nothing behind: the id is free for a new message
/// [MQTT-4.3.2-5], 3.1.1: [MQTT-4.3.2-2].
pub fn acknowledge(
    realm: &mut Realm,
    key: SessionKey,
    connection: ConnectionId,
    acknowledge: Acknowledge,
    outcome: Result<(PublicationId, usize), Reason>,
) {
    let taken = outcome.map(|(_, receivers)| Taken { has_receivers: receivers > 0, token: None });
    match acknowledge {
        Acknowledge::None => {}
        Acknowledge::AtLeastOnce(id) => realm.cx.tell(connection, Delivery::Acknowledged(id, taken)),
        Acknowledge::ExactlyOnce(id) | Acknowledge::ExactlyOnceAgain(id) => {
            if let (Err(reason), Some(session)) = (&taken, realm.sessions.at_mut(key)) {
                // PUBREC with an error ends the use of the id [MQTT-4.3.3-9]. 3.1.1 has no such answer and releases the id. For
                // want of room its client has no answer at all, and sends the message again.
                if session.protocol == Protocol::Mqtt5 || reason.is_want_of_room() {
                    session.inbound.release(id);
                }
            }
            realm.cx.tell(connection, Delivery::Received(id, taken));
        }
        Acknowledge::Request(request) => {
            realm.cx.tell(connection, Delivery::Published(request, outcome.map(|(id, _)| id)));
        }
    }
}

/// PUBREL ends the use of a packet id [MQTT-4.3.3-12] and is answered, known or not [MQTT-4.3.3-11].
pub fn handle_release(realm: &mut Realm, key: SessionKey, connection: ConnectionId, packet_id: PacketId) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let was_known = session.inbound.release(packet_id);
    let outcome = if was_known { Ok(()) } else { Err(Reason::PacketIdNotFound) };
    realm.cx.tell(connection, Delivery::Completed(packet_id, outcome));
}

/// A change has its place, or could not be stored.
pub fn finish_change(realm: &mut Realm, from: Option<SessionKey>) {
    if let Some(session) = append::author(realm, from).and_then(|key| realm.sessions.at_mut(key)) {
        session.inbound.note_changed();
        let settled = session.settled();
        realm.cx.effects.extend(settled);
    }
}

/// One of a session's tickets has come back.
pub fn owe_less(realm: &mut Realm, key: SessionKey) {
    if let Some(session) = realm.sessions.at_mut(key) {
        session.inbound.note_back();
    }
    realm.cx.then(Consequence::Continue(key));
}

/// Answers a call of a procedure of the router's own.
pub fn reply(realm: &mut Realm, caller: &Caller, reply: Reply) {
    let (outcome, payload) = match reply {
        Reply::Now(values) => (Outcome::Result, Payload::of_values(&values)),
        // The sentence is added where all errors of the router's are sent.
        Reply::Refused(uri) => (Outcome::Error(uri), Payload::empty()),
        Reply::Failed(reason, sentence) => (Outcome::Error(ErrorUri::Reason(reason)), Payload::of_values(&[sentence.into()])),
        Reply::Later => return,
    };
    answer(realm, caller, Message { outcome, payload, properties: None });
}

/// Answers a caller; true if there is one.
pub fn answer(realm: &mut Realm, caller: &Caller, mut message: Message) -> bool {
    let Some(key) = caller.session.filter(|key| realm.sessions.at(*key).is_some()) else { return false };
    if let Outcome::Error(ErrorUri::Reason(reason)) = message.outcome
        && message.payload.is_empty()
    {
        message.payload = caller.refusal(reason);
    }
    let ReplyTo::Request(request) = caller.reply else {
        let is_error = matches!(message.outcome, Outcome::Error(_));
        let is_heard = publish_answer(realm, key, caller, message);
        realm.cx.counters.unheard += u64::from(is_error && !is_heard);
        return is_heard;
    };
    let Some(connection) = realm.sessions.at(key).and_then(|session| session.connection) else { return false };
    let Message { outcome, payload, properties } = message;
    realm.cx.tell(connection, Delivery::Answer(Box::new(Answer { request, outcome, payload, properties })));
    true
}

/// Answers go to `$reply/…`, which reaches only the calling session, or to a topic that the caller might publish to itself.
pub fn is_reply_allowed(_realm: &Realm, reply: &ReplyTo) -> bool {
    match reply {
        ReplyTo::Topic { topic, .. } => !topic.is_reserved() || is_private_topic(topic),
        ReplyTo::Request(_) | ReplyTo::CallId(_) | ReplyTo::Nobody => true,
    }
}

/// Tells an MQTT callee to stop, if it is subscribed to `$cancel/<invocation>`.
pub fn publish_cancel(realm: &mut Realm, callee: SessionKey, invocation: InvocationId, reason: Reason) -> bool {
    let Ok(topic) = Topic::from_mqtt(&format!("{}{invocation}", names::CANCEL)) else { return false };
    let mut publication = Publication::new(topic, Payload::empty(), Qos::AtLeastOnce);
    let outcome = Some(Outcome::Error(ErrorUri::Reason(reason)));
    publication.properties = Some(Box::new(Properties { outcome, ..Properties::default() }));
    publish_private(realm, callee, publication)
}

/// Answers a call made by PUBLISH; true if the answer was sent to somebody.
pub fn publish_answer(realm: &mut Realm, key: SessionKey, caller: &Caller, message: Message) -> bool {
    let Message { outcome, payload, properties } = message;
    let (topic, correlation_data) = match &caller.reply {
        ReplyTo::Topic { topic, correlation_data } => (topic.clone(), correlation_data.clone()),
        ReplyTo::CallId(id) => match Topic::from_mqtt(&format!("{}{id}/{}", names::REPLY, kind(&outcome))) {
            Ok(topic) => (topic, None),
            Err(_) => return false,
        },
        ReplyTo::Request(_) | ReplyTo::Nobody => return false,
    };
    let mut properties = properties.unwrap_or_default();
    properties.user.retain(|(name, _)| !STATUS.contains(&&**name));
    properties.correlation_data = correlation_data;
    properties.outcome = Some(outcome);
    let is_private = is_private_topic(&topic);
    let mut publication = Publication::new(topic, payload, caller.qos);
    publication.properties = Some(properties);
    if is_private {
        return publish_private(realm, key, publication);
    }
    let (_, receivers) = route::publish(realm, Some(key), Arc::new(publication), None);
    receivers > 0
}

/// Sends to one session what it alone may see, if it has subscribed to it. Where its client is away, QoS > 0 waits for it: a
/// caller learns when it comes back that its call was canceled.
fn publish_private(realm: &mut Realm, key: SessionKey, publication: Publication) -> bool {
    let Some(session) = realm.sessions.at(key) else { return false };
    let mut merged: Option<Passage> = None;
    for (filter, options) in &session.private {
        if filter.covers(&publication.topic) {
            Passage::merge(&mut merged, private_passage(options.qos, options.identifier));
        }
    }
    merged.is_some_and(|passage| send_to(realm, key, publication, passage).is_ok())
}

/// One publication of the router's own to one session; refused where its line is full.
pub fn send_to(realm: &mut Realm, key: SessionKey, mut publication: Publication, passage: Passage) -> Result<(), Reason> {
    publication.id = PublicationId(realm.cx.random.publication_id());
    match deliver::deliver_to(realm, key, &Arc::new(publication), passage) {
        Offered::Dropped => Err(Reason::QuotaExceeded),
        _ => Ok(()),
    }
}

/// A session need not wait for a request any longer.
pub fn decide(realm: &mut Realm, key: SessionKey) {
    if let Some(session) = realm.sessions.at_mut(key) {
        session.inbound.note_decided();
    }
    owe_less(realm, key);
}
