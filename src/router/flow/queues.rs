//! Queues and those who take from them: records asked for, evaluated in their places, and what follows told.
use crate::model::reason::MustBe;
use crate::router::base::codec::Unreadable;
use crate::router::session::window::Offered;
use serde_json::{Map, Value, json};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::arguments::integer_of_text;
use crate::model::command::{Acknowledge, PublishOptions, SubscribeOptions};
use crate::model::delivery::Granted;
use crate::model::outcome::Outcome;
use crate::model::payload::Part;
use crate::model::properties::Properties;
use crate::model::record::Kind;
use crate::model::{
    ConnectionId, Delivery, Filter, Payload, Publication, PublicationId, Qos, Reason, Record, RequestId, SubscriptionId, Topic,
    names,
};
use crate::router::base::claim::Token;
use crate::router::base::context::RETRY_MS;
use crate::router::base::due::Due;
use crate::router::base::key::SessionKey;
use crate::router::base::passage::Source;
use crate::router::base::place::Place;
use crate::router::base::reply::{Caller, Message, Reply};
use crate::router::flow::{answer, append};
use crate::router::queue::change::{Change, is_queue};
use crate::router::queue::item::ItemBody;
use crate::router::queue::item::{Grant, QueueEvent, Refused, Settings, weight_of};
use crate::router::realm::Realm;
use crate::router::session::window::Outgoing;

/// The reply for the outcome of a record.
fn reply_of(outcome: Result<Option<Settings>, Refused>) -> Reply {
    match outcome {
        Ok(None) => Reply::Now(Vec::new()),
        Ok(Some(settings)) => Reply::Now(vec![settings_value(&settings).into()]),
        Err(Refused::NoSuchToken) => Reason::NoSuchToken.into(),
        Err(Refused::Full) => Reason::QuotaExceeded.into(),
    }
}

/// The item that a publication is.
pub fn body_of(publication: &Publication) -> ItemBody {
    let properties = publication.properties.as_deref().cloned().map(Arc::new);
    ItemBody { payload: publication.payload.clone(), properties }
}

/// The time that an item rests, as its properties say.
pub fn delay_of(properties: Option<&Properties>) -> Result<u64, Reason> {
    let said = properties.and_then(|properties| properties.user.iter().rev().find(|(name, _)| **name == *names::DELAY));
    said.map_or(Ok(0), |(_, delay_ms)| integer_of_text(delay_ms).ok_or(Reason::WrongValue("delay_ms", MustBe::WholeNumber)))
}

/// Queues that a connection may take from at a time: when it has room again it comes last in the line of each.
const MAX_QUEUES: usize = 1_000;

/// Which queue a filter names; a filter over several names none.
pub fn queue_named(filter: &Filter) -> Option<Result<&Topic, Reason>> {
    match filter {
        Filter::Exact(topic) => is_queue(topic).then_some(Ok(topic)),
        Filter::Levels(levels) => levels.starts_with(names::QUEUE).then_some(Err(Reason::InvalidFilter)),
        Filter::Prefix(_) => None,
    }
}

/// An item as a publication of its queue.
fn publication_of(queue: Topic, grant: Grant) -> Publication {
    let Grant { token, delivery_count, body, .. } = grant;
    let mut properties = body.properties.as_deref().cloned().unwrap_or_else(Properties::default);
    properties.user.push((names::DELIVERY_COUNT.into(), delivery_count.to_string().into()));
    properties.user.push((names::TOKEN.into(), token.to_string().into()));
    let mut publication = Publication::new(queue, body.payload, Qos::AtLeastOnce);
    publication.properties = Some(Box::new(properties));
    publication
}

/// A PUBLISH to a queue puts: stored at every QoS, and acknowledged when it is.
pub fn put_published(
    realm: &mut Realm,
    key: SessionKey,
    connection: ConnectionId,
    mut publication: Arc<Publication>,
    acknowledge: Acknowledge,
    options: Option<Box<PublishOptions>>,
) {
    if let Err(reason) = check_put(realm, &publication) {
        return answer::acknowledge(realm, key, connection, acknowledge, Err(reason));
    }
    // An item is no value of a topic. The gate made it for this command and holds it no more: nothing is copied.
    Arc::make_mut(&mut publication).retain = false;
    append::append(realm, Some(key), Some(connection), publication, acknowledge, options);
}

/// Refuses an item above the bounds of the realm. Items on their way into the history are not counted: the bounds of that way
/// bound the excess.
pub fn check_put(realm: &Realm, publication: &Publication) -> Result<(), Reason> {
    let (state, limits) = (&realm.queues.state, &realm.cx.limits);
    delay_of(publication.properties.as_deref())?;
    check_queue(realm, &publication.topic)?;
    let bytes = state.bytes() + weight_of(&publication.payload, publication.properties.as_deref());
    let is_full = state.items() >= limits.max_queued || bytes > limits.max_queued_bytes;
    if is_full { Err(Reason::QuotaExceeded) } else { Ok(()) }
}

/// Refuses what would begin one queue more than the realm may have.
pub fn check_queue(realm: &Realm, queue: &Topic) -> Result<(), Reason> {
    let is_over = !realm.queues.state.has(queue) && realm.queues.state.count() >= realm.cx.limits.max_queues;
    if is_over { Err(Reason::QuotaExceeded) } else { Ok(()) }
}

/// An item has its place.
pub fn apply_put(realm: &mut Realm, place: Place, publication: &Publication) -> Result<(), Reason> {
    let delay_ms = delay_of(publication.properties.as_deref()).unwrap_or(0);
    let (topic, expires_at_ms) = (&publication.topic, publication.expires_at_ms);
    let (outcome, told) = realm.queues.state.put(place, topic, body_of(publication), delay_ms, expires_at_ms);
    tell(realm, told);
    set_queue_timer(realm);
    outcome.map_err(|_| Reason::QuotaExceeded)
}

/// A change of queues that this process asked for has its place.
pub fn apply_queue_change(realm: &mut Realm, place: Place, body: &[u8], from: Option<SessionKey>, caller: Option<Caller>) {
    let Some(change) = Change::decode(body) else { return };
    // The place of a session that has ended may be another's by now.
    let caller = caller.filter(|_| from.is_some());
    let mut answers = caller.clone();
    match &change {
        Change::Take { queue, .. } => {
            note_asked(realm, queue, false);
            answers = None;
            if let Some(caller) = caller {
                realm.queues.add_caller(place.id.value(), caller);
            }
        }
        Change::Tick => realm.queues.is_ticking = false,
        _ => {}
    }
    let (outcome, told) = realm.queues.state.apply(place, change);
    if let Some(caller) = answers {
        answer::reply(realm, &caller, reply_of(outcome));
    }
    tell(realm, told);
    set_queue_timer(realm);
}

/// A change could not be stored. A change that somebody asked for is refused; one that follows from an event is tried again.
pub fn queue_change_refused(realm: &mut Realm, body: &[u8], is_asked: bool) {
    match Change::decode(body) {
        Some(Change::Take { queue, .. }) => note_asked(realm, &queue, false),
        Some(Change::Tick) => realm.queues.is_ticking = false,
        Some(change) if !is_asked => realm.queues.owed.push_back(change),
        _ => {}
    }
    realm.queues.retry_at_ms = Some(realm.cx.now_ms.saturating_add(RETRY_MS));
    set_queue_timer(realm);
}

/// A record of queues from the life of an earlier process.
pub fn replay_queue_record(realm: &mut Realm, record: &Record) -> Result<bool, Unreadable> {
    let mut is_taken = true;
    let place = Place { id: record.id, time_ms: record.item.time_ms };
    match (record.item.kind, &record.item.topic, &record.item.payload) {
        (Kind::GONE, ..) => drop(realm.queues.state.end_all(place)),
        (Kind::QUEUE, Some(queue), payload) => {
            let properties = record.item.properties.as_deref();
            let body = ItemBody { payload: payload.clone(), properties: properties.cloned().map(Arc::new) };
            let delay_ms = delay_of(properties).unwrap_or(0);
            is_taken = realm.queues.state.put(place, queue, body, delay_ms, record.item.expires_at_ms).0.is_ok();
        }
        (Kind::QUEUE, None, crate::model::Payload::Bytes(body)) => {
            let change = Change::decode(body).ok_or(Unreadable)?;
            drop(realm.queues.state.apply(place, change));
        }
        _ => return Err(Unreadable),
    }
    set_queue_timer(realm);
    Ok(is_taken)
}

/// The process before this one has ended, and this is the place of its end.
pub fn end_earlier_takers(realm: &mut Realm, place: Place) {
    let told = realm.queues.state.end_all(place);
    tell(realm, told);
    set_queue_timer(realm);
}

/// Something of the queues is due: what that means is decided where the record of the time stands.
pub fn handle_queues_due(realm: &mut Realm) {
    realm.queues.timer = None;
    if realm.queues.retry_at_ms.is_some_and(|at_ms| at_ms <= realm.cx.now_ms) {
        realm.queues.retry_at_ms = None;
        for change in std::mem::take(&mut realm.queues.owed) {
            append_owed(realm, None, change);
        }
    }
    let is_due = realm.queues.state.next_due_ms().is_some_and(|at_ms| at_ms <= realm.cx.now_ms);
    if is_due && !realm.queues.is_ticking && realm.queues.retry_at_ms.is_none() {
        realm.queues.is_ticking = true;
        append::append_change(realm, None, Kind::QUEUE, Change::Tick.encode(), None);
    }
    set_queue_timer(realm);
}

/// Sends a change on its way that follows from what has happened, behind those that wait to be tried again.
fn append_owed(realm: &mut Realm, from: Option<SessionKey>, change: Change) {
    if is_pointless(realm, &change) {
        return;
    }
    if realm.queues.retry_at_ms.is_some() {
        return realm.queues.owed.push_back(change);
    }
    append::append_change(realm, from, Kind::QUEUE, change.encode(), None);
}

/// True for what a connection that has ended meanwhile wanted to have.
fn is_pointless(realm: &Realm, change: &Change) -> bool {
    let Change::Attach { queue, by, .. } = change else { return false };
    let session = realm.sessions.of_connection(ConnectionId(*by)).and_then(|key| realm.sessions.at(key));
    !session.is_some_and(|session| session.queues.keys().any(|topic| topic.as_mqtt() == &**queue))
}

pub fn set_queue_timer(realm: &mut Realm) {
    let desk = &realm.queues;
    let due_ms = match (desk.retry_at_ms, desk.is_ticking) {
        (Some(at_ms), _) => Some(at_ms),
        // When that has its place there is another look.
        (None, true) => None,
        (None, false) => desk.state.next_due_ms(),
    };
    if desk.timer.map(|(at_ms, _)| at_ms) == due_ms {
        return;
    }
    if let Some((_, timer)) = realm.queues.timer.take() {
        realm.cx.timers.clear(timer);
    }
    realm.queues.timer = due_ms.map(|at_ms| (at_ms, realm.cx.timers.set(at_ms, Due::Queues)));
}

/// Tells those who waited what has come of it.
fn tell(realm: &mut Realm, told: Vec<QueueEvent>) {
    for told in told {
        match told {
            QueueEvent::Items { take, items } => hand_over(realm, take, items),
            QueueEvent::Canceled { take } => {
                if let Some(caller) = take_caller(realm, take) {
                    answer::reply(realm, &caller, Reason::Canceled.into());
                }
            }
            QueueEvent::Delivery { to, queue, grant } => deliver_item(realm, ConnectionId(to), queue, grant),
        }
    }
}

/// Counts the calls for items that are on their way into the history.
pub fn note_asked(realm: &mut Realm, queue: &str, is_new: bool) {
    let Ok(queue) = Topic::from_mqtt(queue) else { return };
    let count = realm.queues.asked.entry(queue.clone()).or_default();
    *count = if is_new { *count + 1 } else { count.saturating_sub(1) };
    if *count == 0 {
        realm.queues.asked.remove(&queue);
    }
}

/// A session takes from a queue from now on, one item after the other, as many unacknowledged as its window has room for.
pub fn subscribe_queue(
    realm: &mut Realm,
    key: SessionKey,
    queue: &Topic,
    is_shared: bool,
    options: SubscribeOptions,
) -> Result<Granted, Reason> {
    if is_shared {
        // A session that takes from a queue shares it already.
        return Err(Reason::SharedSubscriptionInvalid);
    }
    if options.qos == Qos::AtMostOnce {
        // Without PUBACK nothing says that an item is done with.
        return Err(Reason::NotSupported);
    }
    check_queue(realm, queue)?;
    let max = realm.cx.limits.max_subscriptions_per_session.min(MAX_QUEUES);
    let session = realm.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
    let is_new = !session.queues.contains_key(queue);
    if is_new && session.queues.len() >= max {
        return Err(Reason::QuotaExceeded);
    }
    session.queues.insert(queue.clone(), options);
    if is_new {
        attach(realm, key, queue);
    }
    Ok(Granted::Subscription(SubscriptionId(0), Qos::AtLeastOnce))
}

fn attach(realm: &mut Realm, key: SessionKey, queue: &Topic) {
    let Some(by) = note_queue_user(realm, key) else { return };
    let window = realm.sessions.at(key).map_or(1, |session| session.inflight.window());
    append_owed(realm, Some(key), Change::Attach { queue: queue.as_mqtt().into(), by: by.0, window });
}

/// A session came back: it takes again from the queues that it took from.
pub fn attach_again(realm: &mut Realm, key: SessionKey) {
    let queues: Vec<Topic> = realm.sessions.at(key).map(|session| session.queues.keys().cloned().collect()).unwrap_or_default();
    for queue in queues {
        attach(realm, key, &queue);
    }
}

/// The session takes no more. Its items stay with it until it is done with them, or ends.
pub fn unsubscribe_queue(realm: &mut Realm, key: SessionKey, queue: &Topic) -> Result<(), Reason> {
    let session = realm.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
    session.queues.remove(queue).ok_or(Reason::NoSuchSubscription)?;
    if let Some(by) = session.connection {
        append_owed(realm, Some(key), Change::Detach { queue: queue.as_mqtt().into(), by: by.0 });
    }
    Ok(())
}

/// The end of this session's connection is the queues' business from now on; which connection.
pub fn note_queue_user(realm: &mut Realm, key: SessionKey) -> Option<ConnectionId> {
    let session = realm.sessions.at_mut(key)?;
    session.queue_user = session.connection;
    session.connection
}

/// The connection of a session has ended. Items of queues that it has are owed to it no more: [MQTT-4.4.0-1] is about
/// publications, and these go to others now.
pub fn leave_queues(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let Some(by) = session.queue_user.take() else { return };
    session.inflight.forget_claims();
    append_owed(realm, None, Change::Gone { by: by.0 });
}

/// Puts an item into the window of a connection. One that has ended returns it by its end.
pub fn deliver_item(realm: &mut Realm, to: ConnectionId, queue: Topic, grant: Grant) {
    let Some(key) = realm.sessions.of_connection(to) else { return };
    let id = PublicationId(grant.id);
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let identifier = session.queues.get(&queue).and_then(|options| options.identifier);
    let token = grant.token;
    let mut publication = publication_of(queue, grant);
    publication.id = id;
    let subscriptions: SmallVec<[u64; 2]> = identifier.map(u64::from).into_iter().collect();
    let claim = Some(token);
    let qos = Qos::AtLeastOnce;
    let owed = Outgoing {
        publication: Arc::new(publication),
        qos,
        retain: false,
        subscriptions,
        source: Source::Other,
        claim,
        again: false,
    };
    match session.inflight.offer(owed, true, &realm.cx.limits) {
        Offered::Now(event) => realm.cx.tell(to, Delivery::Event(event)),
        Offered::Dropped => append_owed(realm, None, Change::Nack { tokens: vec![token], delay_ms: None }),
        Offered::Waits | Offered::InHistory => {}
    }
}

/// Settles the items that a connection has answered in one read. A declined item rests as long as a claim would last.
pub fn release_claims(realm: &mut Realm, key: SessionKey, claims: Vec<(Token, bool)>) {
    let of = |is_done: bool| claims.iter().filter(|claim| claim.1 == is_done).map(|claim| claim.0).collect::<Vec<_>>();
    let (done, declined) = (of(true), of(false));
    if !done.is_empty() {
        append_owed(realm, Some(key), Change::Ack { tokens: done });
    }
    if !declined.is_empty() {
        append_owed(realm, Some(key), Change::Nack { tokens: declined, delay_ms: None });
    }
}

/// CANCEL of a call that waits for items.
pub fn cancel_take(realm: &mut Realm, key: SessionKey, request: RequestId) {
    if let Some(take) = realm.queues.take_of(key, request) {
        append_owed(realm, Some(key), Change::Cancel { take });
    }
}

/// Gives a call what it has taken; what cannot be given returns.
pub fn hand_over(realm: &mut Realm, take: u64, items: Vec<Grant>) {
    let tokens = items.iter().map(|item| item.token).collect::<Vec<_>>();
    let parts: Arc<[Part]> = items.into_iter().map(part_of).collect();
    let is_handed_over = take_caller(realm, take).is_some_and(|caller| {
        answer::answer(realm, &caller, Message { outcome: Outcome::Result, payload: Payload::List(parts), properties: None })
    });
    if !is_handed_over && !tokens.is_empty() {
        append_owed(realm, None, Change::Return { tokens });
    }
}

/// The caller that waits by this record, if it is still there; it waits no longer.
pub fn take_caller(realm: &mut Realm, take: u64) -> Option<Caller> {
    let caller = realm.queues.remove_caller(take)?;
    let key = caller.session.filter(|key| realm.sessions.at(*key).is_some())?;
    realm.calls.release_reply(key, caller.reply_bytes());
    Some(caller)
}

/// An item as a call gets it.
fn part_of(grant: Grant) -> Part {
    let Grant { token, id, delivery_count, body } = grant;
    let head = [("id", json!(id)), ("token", json!(token.to_string())), ("delivery_count", json!(delivery_count))];
    let head = head.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Part { head, payload: body.payload, properties: body.properties }
}

/// The settings of a queue as a call is told them.
pub fn settings_value(settings: &Settings) -> Map<String, Value> {
    let Settings { visibility_ms, max_deliveries, dead_letter, max_len } = settings;
    let unless_zero = |number: u64| if number > 0 { json!(number) } else { Value::Null };
    let values = [
        ("visibility_ms", json!(visibility_ms)),
        ("max_deliveries", unless_zero(u64::from(*max_deliveries))),
        ("dead_letter", dead_letter.as_ref().map_or(Value::Null, |queue| json!(name_of(queue)))),
        ("max_len", unless_zero(*max_len)),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The name of a queue, in WAMP's spelling.
pub fn name_of(queue: &Topic) -> &str {
    queue.as_uri().strip_prefix(names::QUEUE_URI).unwrap_or_default()
}
