//! Publications under a condition: asked for in the order of ids, granted first come, first served, each grant its own publication.
//!
//! A condition has its place as a record of kind LOCK, and is judged there against the topic's value at that record's time. A
//! publication whose condition fits is then published with an id of its own: the token. So that the condition still holds at that
//! id, every change of the value that is on its way before it must let it fit too. Else the request stands in line until those
//! changes have their places.
use crate::router::base::on_the_way::NextValue;
use crate::router::base::reply::kept_name;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::command::{Acknowledge, Condition, PublishOptions};
use crate::model::reason::MustBe;
use crate::model::record::Kind;
use crate::model::{ConnectionId, EventId, Publication, PublicationId, Reason, RequestId, SessionId, Topic, pattern};
use crate::router::base::due::Due;
use crate::router::base::key::SessionKey;
use crate::router::base::piece::PieceKey;
use crate::router::base::place::Place;
use crate::router::base::reply::{Caller, Reply, qos_of};
use crate::router::flow::lost::{Loser, Lost};
use crate::router::flow::{answer, append, deliver, holders, lost};
use crate::router::lock::holder::{Ends, Holder};
use crate::router::lock::record::LockChange;
use crate::router::lock::request::{LockGrant, Request, Role, packet_of};
use crate::router::lock::{Judgement, LockedTopic, MAX_VALUE_BYTES, Reading, SessionLocks};
use crate::router::realm::Realm;
use crate::router::waiting::Published;

/// The timer of a topic has fired: what follows from it is judged when that has its place in the order.
pub fn ask_due(realm: &mut Realm, topic: &Topic) {
    let Some(cell) = realm.locks.topics.get_mut(topic) else { return };
    (cell.timer, cell.retry_ms, cell.is_due_asked) = (None, None, true);
    let change = LockChange::Due { topic: topic.as_mqtt().into() };
    append::append_change(realm, None, Kind::LOCK, change.encode(), None);
}

/// A change that somebody, or a timer, has asked for has its place.
pub fn apply_lock(realm: &mut Realm, place: Place, body: &[u8], from: Option<SessionKey>, caller: Option<Caller>) {
    let Some(change) = LockChange::decode(body) else { return };
    let Some(topic) = change.topic() else { return };
    let asker = caller.filter(|_| from.is_some());
    match change {
        LockChange::Ask { .. } => return,
        // Told with the publication itself, which follows.
        LockChange::Grant { session, will, .. } => {
            realm.changes.note(|| PieceKey::Grant(topic.clone()));
            realm.locks.recorded.insert(topic, (SessionId(session), will));
            return;
        }
        LockChange::Release { token, .. } => holders::release(realm, &topic, token, from, asker),
        LockChange::Renew { token, ttl_ms, .. } => {
            realm.changes.note(|| PieceKey::Holder(topic.clone()));
            let holder = holders::held_by(realm, &topic, token);
            let is_held = holder.map(|holder| holder.deadline_ms = Some(place.time_ms.saturating_add(ttl_ms))).is_some();
            match asker {
                Some(caller) if is_held => {
                    answer::reply(realm, &caller, Reply::Now(vec![json!({ "token": token, "ttl_ms": ttl_ms })]));
                }
                Some(caller) => lost::refuse_token(realm, &topic, &caller),
                None => {}
            }
        }
        LockChange::Due { .. } => {
            let Some(cell) = realm.locks.topics.get_mut(&topic) else { return };
            cell.is_due_asked = false;
            let is_over = |holder: &&mut Holder| holder.leaving.is_none() && holder.is_over(place.time_ms);
            if let Some(holder) = cell.holder.as_mut().filter(is_over) {
                holder.leave(Value::Null, None);
                let loser = Loser::of(holder);
                lost::tell_lost(realm, &topic, loser, Lost::Expired);
            }
        }
    }
    advance(realm, &topic);
}

/// A record that the connection of a session which stays has ended: what it holds gets its will, and a grant whose publication has
/// not come will not come.
pub fn replay_end(realm: &mut Realm, session: SessionId, id: EventId) {
    if !realm.locks.topics.is_empty() {
        realm.locks.ends.sessions.insert(session, id);
    }
    forget_recorded(realm, |by| by == session);
}

/// The same for all connections of a process.
pub fn replay_process_end(realm: &mut Realm, id: EventId) {
    realm.locks.ends = Ends { process: Some(id), ..Ends::default() };
    for topic in realm.locks.topics.keys() {
        realm.changes.note(|| PieceKey::Holder(topic.clone()));
    }
    forget_recorded(realm, |_| true);
}

fn forget_recorded(realm: &mut Realm, is_over: impl Fn(SessionId) -> bool) {
    let changes = &mut realm.changes;
    realm.locks.recorded.retain(|topic, (session, _)| {
        let is_over = is_over(*session);
        if is_over {
            changes.note(|| PieceKey::Grant(topic.clone()));
        }
        !is_over
    });
}

/// The process before this one has ended, with all of its connections: what they held gets its wills.
pub fn end_earlier_holders(realm: &mut Realm, time_ms: u64) {
    realm.locks.time_ms = realm.locks.time_ms.max(time_ms);
    forget_recorded(realm, |_| true);
    realm.locks.ends = Ends::default();
    let held = |(topic, cell): (&Topic, &LockedTopic)| {
        let token = cell.holder.as_ref().filter(|holder| holder.key.is_none())?.token;
        Some((token, topic.clone()))
    };
    let mut held: Vec<_> = realm.locks.topics.iter().filter_map(held).collect();
    held.sort_unstable();
    for (_, topic) in held {
        holders::end_holder(realm, &topic);
        advance(realm, &topic);
    }
}

/// Takes a publication under a condition: judged when it has its place, answered when that is decided.
pub fn ask(
    realm: &mut Realm,
    key: SessionKey,
    connection: ConnectionId,
    publication: Arc<Publication>,
    acknowledge: Acknowledge,
    mut options: Box<PublishOptions>,
) -> Result<(), Reason> {
    let Condition { when, watch, will, is_resent, reply } = options.condition.take().map(|c| *c).unwrap_or_default();
    let is_too_long = |value: &Value| value.to_string().len() > MAX_VALUE_BYTES;
    let wrong = |name, must_be| Err(Reason::WrongValue(name, must_be));
    if watch && when.is_none() {
        return wrong("watch", MustBe::WithWhen);
    }
    if will.is_some() && !publication.retain {
        return wrong("will", MustBe::WithRetain);
    }
    for (name, value) in [("when", &when), ("will", &will)] {
        if value.as_ref().is_some_and(is_too_long) {
            return wrong(name, MustBe::Short);
        }
    }
    // Whether a retry fits is judged anew: a condition makes it harmless by itself.
    if options.dedup.is_some() {
        return wrong("dedup", MustBe::WithoutCondition);
    }
    if !reply.as_ref().is_none_or(|reply| answer::is_reply_allowed(realm, reply)) {
        return Err(Reason::NotAuthorized);
    }
    if is_resent && is_waiting(realm, key, acknowledge, &publication.topic) {
        answer::acknowledge(realm, key, connection, acknowledge, Ok((PublicationId(0), 1)));
        return Ok(());
    }
    let (session, qos, name) = (Some(key), qos_of(acknowledge), kept_name(&publication.topic));
    let asker = reply.map(|reply| Caller { session, reply, qos, name, lock: None });
    let (packet, request) = (packet_of(acknowledge), request(realm, key, connection, publication));
    let request = Request { when, watch, will, acknowledge, asker, is_told: watch, packet, options: Some(options), ..request };
    submit(realm, request)
}

/// A request without anything asked for.
fn request(realm: &mut Realm, key: SessionKey, connection: ConnectionId, publication: Arc<Publication>) -> Request {
    realm.locks.requests += 1;
    let session = realm.sessions.at(key).map_or(SessionId(0), |session| session.id);
    Request {
        number: realm.locks.requests,
        from: key,
        session,
        connection,
        weight: publication.weight(),
        publication,
        options: None,
        when: None,
        watch: false,
        will: None,
        ttl_ms: None,
        wait_ms: None,
        acknowledge: Acknowledge::None,
        asker: None,
        is_told: false,
        is_call: false,
        is_owed: true,
        timer: None,
        packet: None,
    }
}

/// A call that publishes under a condition; `caller` is told the token.
pub fn request_of_call(realm: &mut Realm, caller: &Caller, publication: Publication) -> Result<Request, Reason> {
    let key = caller.session.ok_or(Reason::ConnectionLost)?;
    let connection = realm.sessions.at(key).and_then(|session| session.connection).ok_or(Reason::ConnectionLost)?;
    let request = request(realm, key, connection, Arc::new(publication));
    Ok(Request { asker: Some(caller.clone()), is_told: true, is_call: true, ..request })
}

/// Sends a request on its way, within the bounds of its session.
pub fn submit(realm: &mut Realm, request: Request) -> Result<(), Reason> {
    append::make_room_for(realm, &request.publication)?;
    let topic = request.publication.topic.clone();
    let standing = realm.locks.sessions.entry(request.from).or_default();
    if standing.requests >= realm.cx.limits.max_pending_calls_per_session
        || standing.bytes + request.weight > realm.cx.limits.max_session_queue_bytes
    {
        return Err(Reason::QuotaExceeded);
    }
    standing.enter(&request);
    let Request { when, watch, will, ttl_ms, .. } = &request;
    let (when, will) = (when.clone(), will.clone());
    let change = LockChange::Ask { topic: topic.as_mqtt().into(), when, watch: *watch, will, ttl_ms: *ttl_ms };
    append::append_request(realm, request.from, change.encode(), Box::new(request));
    Ok(())
}

/// A resend of what waits joins it: MQTT's acknowledgement said no more than that it is in line.
fn is_waiting(realm: &Realm, key: SessionKey, acknowledge: Acknowledge, topic: &Topic) -> bool {
    let standing = realm.locks.sessions.get(&key);
    packet_of(acknowledge).is_some_and(|id| standing.and_then(|standing| standing.packets.get(&id)) == Some(topic))
}

/// True while the connection that asked is there to be answered.
fn is_there(realm: &Realm, request: &Request) -> bool {
    let session = realm.sessions.at(request.from);
    session.is_some_and(|session| session.connection == Some(request.connection))
}

/// A request has its place: it stands in line from now on, unless it cannot be waited for.
pub fn take_request(realm: &mut Realm, place: Place, mut request: Box<Request>) {
    if !is_there(realm, &request) {
        return forget_owed(realm, &request);
    }
    if let Some((session, id)) = realm.sessions.at_mut(request.from).zip(request.packet) {
        session.inbound.note_placed(id);
    }
    let topic = request.publication.topic.clone();
    let cell = realm.locks.topics.entry(topic.clone()).or_default();
    if cell.line.len() >= realm.cx.limits.max_waiting {
        return refuse(realm, *request, Reason::QuotaExceeded);
    }
    let wait_ms = request.wait_ms.filter(|_| request.watch);
    request.timer =
        wait_ms.map(|ms| realm.cx.timers.set(place.time_ms.saturating_add(ms), Due::Wait(topic.clone(), request.number)));
    let (key, connection) = (request.from, request.connection);
    let is_in_line = request.watch;
    // MQTT's acknowledgements keep their order [MQTT-4.6.0-2]: that of what waits says that it is in line.
    let acknowledge = match request.acknowledge {
        _ if !is_in_line => Acknowledge::None,
        Acknowledge::Request(_) => Acknowledge::None,
        _ => std::mem::replace(&mut request.acknowledge, Acknowledge::None),
    };
    request.is_owed = !is_in_line;
    cell.line.push_back(request);
    advance(realm, &topic);
    answer::acknowledge(realm, key, connection, acknowledge, Ok((PublicationId(0), 1)));
    if is_in_line {
        answer::decide(realm, key);
    }
}

/// A request that could not be stored.
pub fn refuse_untaken(realm: &mut Realm, request: Box<Request>, reason: Reason) {
    match is_there(realm, &request) {
        true => refuse(realm, *request, reason),
        false => forget_owed(realm, &request),
    }
}

/// A request of a connection that is gone holds its session up no longer.
fn forget_owed(realm: &mut Realm, request: &Request) {
    if let Some(key) = append::author(realm, Some(request.from)).filter(|_| request.is_owed) {
        answer::decide(realm, key);
    }
}

/// Publishes whatever fits now, in the order of the line, and refuses what does not and will not wait.
pub fn advance(realm: &mut Realm, topic: &Topic) {
    if !realm.locks.has(topic) {
        return;
    }
    holders::publish_release(realm, topic);
    let refused = walk(realm, topic);
    holders::set_topic_timer(realm, topic);
    forget_if_idle(realm, topic);
    for request in refused {
        refuse(realm, request, Reason::ConditionFailed);
    }
}

/// Grants what it can; what is to be refused.
fn walk(realm: &mut Realm, topic: &Topic) -> Vec<Request> {
    let mut refused = Vec::new();
    let Some(cell) = realm.locks.topics.get_mut(topic) else { return refused };
    if cell.blocked_by.is_some_and(|ticket| realm.tickets.has(ticket)) {
        return refused;
    }
    let (mut line, mut blocked_by) = (std::mem::take(&mut cell.line), None);
    let current = realm.retained.find(topic, realm.locks.time_ms).cloned();
    let current = Reading::of(current, realm.locks.read);
    let mut index = 0;
    while let Some(request) = line.get(index) {
        match judge(realm, request, &current) {
            Judgement::Unfit if request.watch => index += 1,
            Judgement::Unfit => refused.extend(line.remove(index).map(|request| *request)),
            Judgement::Fits => {
                if let Some(request) = line.remove(index) {
                    grant(realm, *request);
                }
            }
            // First come, first served: nobody behind it is before it.
            Judgement::Blocked(ticket) => {
                blocked_by = Some(ticket);
                break;
            }
        }
    }
    if let Some(cell) = realm.locks.topics.get_mut(topic) {
        (cell.line, cell.blocked_by) = (line, blocked_by);
    }
    refused
}

/// Against the value as it is, and as it may be by the time that the grant has its id.
fn judge(realm: &Realm, request: &Request, current: &Reading) -> Judgement {
    let Some(when) = &request.when else { return Judgement::Fits };
    let asker = realm.sessions.at(request.from);
    let is_hidden = |value: &Publication| asker.is_none_or(|session| !deliver::admits(session, value));
    // A value that the asker may not read is there, and fits nothing that is asked of it.
    if !current.fits(when) || current.publication.as_deref().is_some_and(is_hidden) {
        return Judgement::Unfit;
    }
    for NextValue { ticket, publication: next, .. } in realm.on_the_way.of(&request.publication.topic) {
        let (read, is_kept) = (realm.locks.read, !next.payload.is_empty());
        let may_be_gone = !is_kept || next.expires_at_ms.is_some();
        if (is_kept && (is_hidden(next) || !Reading::of(Some(next.clone()), read).fits(when)))
            || (may_be_gone && !pattern::fits_state(when, None))
        {
            return Judgement::Blocked(*ticket);
        }
    }
    Judgement::Fits
}

/// Publishes a request that fits. The promise of its publisher for its end goes before it.
fn grant(realm: &mut Realm, mut request: Request) {
    leave_line(realm, &mut request);
    let Request { from: key, session, connection, publication, options, will, ttl_ms, acknowledge, is_owed, .. } = request;
    let Request { asker, is_told, is_call, .. } = request;
    let is_orphaned = realm.locks.orphaned.remove(&publication.topic);
    let promise = match &will {
        Some(will) => Some(LockChange::grant(&publication.topic, session, will.clone())),
        None => is_orphaned.then(|| LockChange::no_grant(&publication.topic)),
    };
    if let Some(change) = promise {
        append::append_change(realm, Some(key), Kind::LOCK, change.encode(), None);
    }
    if let Some(session) = realm.sessions.at_mut(key) {
        // The answer owed for the request is owed for its publication.
        session.inbound.note_granted(is_owed);
    }
    let granted = Box::new(LockGrant { connection, will, ttl_ms, asker, is_told, is_call });
    let connection = Some(connection);
    append::append_published(
        realm,
        Some(key),
        Published { connection, acknowledge, options, ..Published::own(publication, Role::Granted(granted)) },
    );
}

/// Tells the publisher of a request, which is in no line any more, why it was not published.
fn refuse(realm: &mut Realm, mut request: Request, reason: Reason) {
    leave_line(realm, &mut request);
    let (key, connection) = (request.from, request.connection);
    answer::acknowledge(realm, key, connection, request.acknowledge, Err(reason));
    let is_told = request.is_call || (request.is_told && request.acknowledge == Acknowledge::None);
    if let Some(asker) = request.asker.filter(|_| is_told) {
        lost::refuse_request(realm, &request.publication.topic, &asker, reason);
    }
    if request.is_owed {
        answer::decide(realm, key);
    }
    forget_if_idle(realm, &request.publication.topic);
}

fn leave_line(realm: &mut Realm, request: &mut Request) {
    if let Some(timer) = request.timer.take() {
        realm.cx.timers.clear(timer);
    }
    if let Some(standing) = realm.locks.sessions.get_mut(&request.from) {
        standing.leave(request);
    }
    holders::forget_standing(realm, request.from);
}

/// Drops what is known of a topic that nobody holds and nobody waits for.
pub fn forget_if_idle(realm: &mut Realm, topic: &Topic) {
    let cell = realm.locks.topics.get(topic);
    if cell.is_some_and(|cell| cell.holder.is_none() && cell.line.is_empty() && !cell.is_due_asked)
        && let Some(cell) = realm.locks.topics.remove(topic)
        && let Some((_, timer)) = cell.timer
    {
        realm.cx.timers.clear(timer);
    }
}

/// Takes a request out of its line.
fn take_out(realm: &mut Realm, topic: &Topic, is_wanted: impl Fn(&Request) -> bool) -> Option<Box<Request>> {
    let cell = realm.locks.topics.get_mut(topic)?;
    let index = cell.line.iter().position(|request| is_wanted(request))?;
    cell.blocked_by = None;
    cell.line.remove(index)
}

/// A request has waited as long as it wanted to.
pub fn end_wait(realm: &mut Realm, topic: &Topic, number: u64) {
    if let Some(request) = take_out(realm, topic, |request| request.number == number) {
        refuse(realm, *request, Reason::Timeout);
        advance(realm, topic);
    }
}

/// CANCEL of a call that waits for a lock.
pub fn cancel_wait(realm: &mut Realm, key: SessionKey, id: RequestId) {
    let topic = realm.locks.sessions.get(&key).and_then(|standing| standing.calls.get(&id)).cloned();
    let Some(topic) = topic else { return };
    let request = take_out(realm, &topic, |request| request.from == key && request.call() == Some(id));
    if let Some(request) = request {
        refuse(realm, *request, Reason::Canceled);
        advance(realm, &topic);
    }
}

/// The connection of a session is gone: it waits for nothing any more, and what it holds gets its will.
pub fn leave_lines(realm: &mut Realm, key: SessionKey) {
    let Some(standing) = realm.locks.sessions.remove(&key) else { return };
    let SessionLocks { waiting, held, .. } = standing;
    for topic in waiting.keys() {
        while let Some(mut request) = take_out(realm, topic, |request| request.from == key) {
            if let Some(timer) = request.timer.take() {
                realm.cx.timers.clear(timer);
            }
            forget_owed(realm, &request);
        }
    }
    for topic in &held {
        holders::end_holder(realm, topic);
    }
    let topics: BTreeSet<_> = waiting.into_keys().chain(held).collect();
    for topic in topics {
        advance(realm, &topic);
    }
}
