//! Sessions from opening to end: resuming, takeover, expiry.
use crate::model::command::{Close, Open};
use crate::model::record::Ticket;
use crate::model::{ConnectionId, Delivery, Reason};
use crate::router::base::due::Due;
use crate::router::base::key::SessionKey;
use crate::router::flow::call::is_invocation;
use crate::router::flow::{call, deliver, locks, progress, queues, replay, wills, window};
use crate::router::realm::Realm;
use crate::router::session::replay::Replay;
use crate::router::session::{Arriving, Session};
use crate::router::waits::Waiter;

/// Largest window towards a client, whatever it would take.
const MAX_WINDOW: u16 = 1_024;

pub fn open(realm: &mut Realm, connection: ConnectionId, mut open: Open) {
    // A client that comes back at once would be sent away once more, after it was told that all is well.
    if realm.cx.is_closed {
        return realm.cx.tell(connection, Delivery::Refused(Reason::ShuttingDown));
    }
    open.expiry_s = open.expiry_s.min(realm.cx.limits.max_session_expiry_s);
    let first = realm.tickets.next();
    let earlier = open.client_id.as_deref().and_then(|client_id| realm.sessions.of_client_id(client_id));
    if let Some(earlier) = earlier {
        // A session belongs to the user who made it.
        if realm.sessions.at(earlier).is_some_and(|s| s.principal.authid != open.principal.authid) {
            return realm.cx.tell(connection, Delivery::Refused(Reason::ClientIdNotValid));
        }
        take_over(realm, earlier);
    }
    // The takeover may have ended it.
    let earlier = open.client_id.as_deref().and_then(|client_id| realm.sessions.of_client_id(client_id));
    // [MQTT-3.1.4-4]; 3.1.1: [MQTT-3.1.2-4], [MQTT-3.1.2-6]
    match earlier {
        // [MQTT-3.1.2-5]
        Some(earlier) if !open.clean_start => resume(realm, earlier, connection, open, first),
        // [MQTT-3.1.2-4]
        Some(earlier) => {
            end(realm, earlier, Reason::SessionTakenOver);
            start(realm, connection, open, first);
        }
        // [MQTT-3.1.2-6]
        None => start(realm, connection, open, first),
    }
}

fn start(realm: &mut Realm, connection: ConnectionId, mut open: Open, first: Ticket) {
    if realm.sessions.of_id(open.session).is_some() {
        return realm.cx.tell(connection, Delivery::Refused(Reason::ServerBusy));
    }
    let window = open.receive_maximum.min(MAX_WINDOW);
    let mut session = Session::new(&mut open, window);
    session.is_recorded = session.is_durable();
    let key = realm.sessions.insert(session);
    if let Some(client) = &open.client_id {
        realm.calls.begin(key, client);
    }
    progress::start_backlog(realm, key);
    progress::record_opened(realm, key);
    wills::record_will(realm, key);
    let_in(realm, key, connection, false, first);
}

/// Lets the client of a session in: at once, or when the tickets from `first` on, which are its CONNECT's, have come back, and those
/// of the remains of its session before.
fn let_in(realm: &mut Realm, key: SessionKey, connection: ConnectionId, is_present: bool, first: Ticket) {
    let Some(session) = realm.sessions.at(key) else { return };
    let brought_about = realm.tickets.last().filter(|last| *last >= first);
    let left = session.client_id.as_ref().and_then(|client| realm.waits.left_by(client));
    realm.sessions.note_arriving(key, Arriving { connection, is_present, refused: None });
    match brought_about.max(left) {
        Some(ticket) => realm.waits.push(ticket, Waiter::Client(key, connection)),
        None => arrive(realm, key, connection),
    }
}

/// A client has what it waited for before it is let in.
pub fn arrive_behind(realm: &mut Realm, key: SessionKey, connection: ConnectionId) {
    arrive(realm, key, connection);
    let settled = realm.sessions.at(key).and_then(Session::settled);
    realm.cx.effects.extend(settled);
}

fn arrive(realm: &mut Realm, key: SessionKey, connection: ConnectionId) {
    let session = realm.sessions.at_mut(key);
    let arriving = session.and_then(|session| session.arriving).filter(|arriving| arriving.connection == connection);
    let Some(Arriving { is_present, refused, .. }) = arriving else { return };
    if let Some(reason) = refused {
        return turn_away(realm, key, connection, reason);
    }
    realm.sessions.connect(key, Some(connection));
    let Some(session) = realm.sessions.at_mut(key) else { return };
    session.left_at = None;
    let id = session.id;
    // [MQTT-3.2.2-2], [MQTT-3.2.2-3]
    realm.cx.tell(connection, Delivery::Opened { session: id, session_present: is_present });
    if is_present {
        window::continue_window(realm, key, connection); // [MQTT-4.4.0-1], [MQTT-4.8.2-4]
        register_again(realm, key);
        queues::attach_again(realm, key);
        replay::continue_replay(realm, key);
        window::continue_window(realm, key, connection);
    }
}

/// A session that is to stay cannot begin where that cannot be on record: after a restart there would be another one, or none.
fn turn_away(realm: &mut Realm, key: SessionKey, connection: ConnectionId, reason: Reason) {
    forget_unaccepted(realm, key);
    realm.sessions.connect(key, None);
    realm.cx.tell(connection, Delivery::Refused(reason));
    if let Some(session) = realm.sessions.at_mut(key) {
        session.is_recorded = false;
    }
    end(realm, key, reason);
}

/// The record of a session's opening could not be stored.
pub fn refuse_opening(realm: &mut Realm, from: Option<SessionKey>, reason: Reason) {
    let session = from.and_then(|key| realm.sessions.at_mut(key));
    // One that was there before is on record as it was.
    if let Some(arriving) = session.and_then(|session| session.arriving.as_mut()).filter(|arriving| !arriving.is_present) {
        arriving.refused = Some(reason);
    }
}

/// A connection that never had its CONNACK leaves no will.
fn forget_unaccepted(realm: &mut Realm, key: SessionKey) {
    if let Some(session) = realm.sessions.at_mut(key).filter(|session| session.arriving.is_some()) {
        session.will = None;
        let id = session.id;
        wills::void_will(realm, id);
    }
}

/// [MQTT-3.1.4-3]: the older connection of a client id ends; 3.1.1: [MQTT-3.1.4-2].
fn take_over(realm: &mut Realm, key: SessionKey) {
    if realm.sessions.at(key).is_some_and(Session::is_attended) {
        end_connection(realm, key, Reason::SessionTakenOver);
    }
}

/// The router ends a session's connection; the session may stay.
pub fn end_connection(realm: &mut Realm, key: SessionKey, reason: Reason) {
    let session = realm.sessions.at(key);
    if let Some(connection) = session.and_then(|session| session.connection) {
        realm.cx.tell(connection, Delivery::Close(reason));
    } else if let Some(arriving) = session.and_then(|session| session.arriving) {
        // Before CONNACK nothing else is said [MQTT-3.14.0-1].
        realm.cx.tell(arriving.connection, Delivery::Refused(Reason::ServerBusy));
    }
    lose(realm, key, reason);
}

fn resume(realm: &mut Realm, key: SessionKey, connection: ConnectionId, open: Open, first: Ticket) {
    clear_timers(realm, key); // [MQTT-3.1.3-9]
    let Some(session) = realm.sessions.at_mut(key) else { return };
    session.protocol = open.protocol;
    session.transport = open.transport;
    session.principal = open.principal;
    session.features = open.features;
    session.expiry_s = open.expiry_s;
    session.left_ms = None;
    session.will = open.will;
    session.is_recorded |= session.is_durable();
    session.inbound.reconnect();
    session.inflight.reconnect(open.receive_maximum.min(MAX_WINDOW));
    progress::start_backlog(realm, key);
    progress::record_opened(realm, key);
    wills::record_will(realm, key);
    let_in(realm, key, connection, true, first);
}

/// DISCONNECT or GOODBYE: the will goes, unless asked for [MQTT-3.14.4-3].
pub fn close(realm: &mut Realm, key: SessionKey, close: Close) {
    if let Some(session) = realm.sessions.at_mut(key) {
        if let Some(expiry_s) = close.expiry_s {
            session.expiry_s = expiry_s.min(realm.cx.limits.max_session_expiry_s);
        }
        if !close.with_will {
            session.will = None;
            let id = session.id;
            wills::void_will(realm, id);
        }
    }
    lose(realm, key, Reason::ConnectionLost);
}

/// The connection is gone: the session, which has lasted as long [MQTT-4.1.0-1], ends with it, or waits for its client
/// [MQTT-3.1.2-23].
pub fn lose(realm: &mut Realm, key: SessionKey, reason: Reason) {
    let next = realm.tickets.next();
    if let Some(session) = realm.sessions.at_mut(key) {
        session.left_at.get_or_insert(next);
    }
    forget_unaccepted(realm, key);
    realm.sessions.connect(key, None);
    withdraw(realm, key);
    locks::leave_lines(realm, key);
    let Some(session) = realm.sessions.at_mut(key) else { return };
    session.replays.retain_mut(Replay::outlive_connection);
    session.history_calls.clear();
    session.call_read = None;
    if session.expiry_s == 0 {
        return end(realm, key, reason);
    }
    progress::record_left(realm, key);
    if reason != Reason::SessionTakenOver && !realm.cx.is_closed {
        deliver::give_to_fellows(realm, key);
    }
    let will_is_due = wait_for_client(realm, key, realm.cx.now_ms);
    if will_is_due {
        wills::publish_will(realm, key);
    }
    bound_stored_sessions(realm, key);
}

/// Sets what becomes of a session whose client left at `left_ms`; true if its will is due at once.
pub fn wait_for_client(realm: &mut Realm, key: SessionKey, left_ms: u64) -> bool {
    let Some(session) = realm.sessions.at_mut(key) else { return false };
    let expiry_ms = match session.expiry_s {
        u32::MAX => u64::MAX,
        seconds => left_ms.saturating_add(u64::from(seconds) * 1_000),
    };
    session.left_ms = Some(left_ms);
    let will_ms = session.will.as_ref().map(|will| realm.cx.now_ms + u64::from(will.delay_s) * 1_000);
    let timers = [
        will_ms
            .filter(|at_ms| *at_ms > realm.cx.now_ms && *at_ms < expiry_ms)
            .map(|at_ms| realm.cx.timers.set(at_ms, Due::Will(key))),
        (expiry_ms < u64::MAX).then(|| realm.cx.timers.set(expiry_ms, Due::Expiry(key))),
    ];
    session.timers = timers;
    will_ms.is_some_and(|at_ms| at_ms <= realm.cx.now_ms)
}

fn bound_stored_sessions(realm: &mut Realm, key: SessionKey) {
    if realm.sessions.len() - realm.sessions.connected() > realm.cx.limits.max_stored_sessions {
        end(realm, key, Reason::QuotaExceeded);
    }
}

/// The router stops: wills are published while there is somebody to read them, then every connection ends.
pub fn shut_down(realm: &mut Realm) {
    let connected: Vec<_> = realm.sessions.iter().filter(|(_, s)| s.connection.is_some()).map(|(key, _)| key).collect();
    for key in connected {
        wills::publish_will(realm, key);
    }
    progress::checkpoint(realm);
    realm.cx.is_closed = true;
    realm.cx.is_stopping = true;
}

/// The last wills have their place in the history, if any: now everybody may go.
pub fn continue_shut_down(realm: &mut Realm) {
    if !realm.cx.is_stopping || !realm.tickets.is_empty() || !realm.waits.is_empty() {
        return;
    }
    realm.cx.is_stopping = false;
    let connected: Vec<_> = realm.sessions.iter().filter_map(|(_, session)| session.connection).collect();
    for connection in connected {
        realm.cx.tell(connection, Delivery::Close(Reason::ShuttingDown));
    }
}

/// The session is over: its will is due at the latest now [MQTT-3.1.2-8], and nothing of it stays.
pub fn end(realm: &mut Realm, key: SessionKey, reason: Reason) {
    let next = realm.tickets.next();
    if let Some(connection) = realm.sessions.connect(key, None) {
        realm.cx.tell(connection, Delivery::Close(reason));
        withdraw(realm, key);
        locks::leave_lines(realm, key);
    }
    clear_timers(realm, key);
    wills::publish_will(realm, key);
    // Deliveries of its share groups that it had go to nobody else after a restart either.
    progress::record_progress(realm, key);
    let Some(session) = remove_session(realm, key) else { return };
    progress::record_ended(realm, &session);
    note_left(realm, &session, session.left_at.unwrap_or(next));
    realm.cx.counters.dropped += session.inflight.dropped();
    deliver::redistribute(realm, session.inflight);
}

/// A session is over. Tickets from `first` on may be its remains, and so are those that it still owes.
fn note_left(realm: &mut Realm, session: &Session, first: Ticket) {
    let Some(client) = session.client_id.clone() else { return };
    if let Some(last) = realm.tickets.last().filter(|last| *last >= first || !session.inbound.is_settled()) {
        realm.waits.note_left(client, last);
    }
}

/// Takes a session out with its subscriptions.
pub fn remove_session(realm: &mut Realm, key: SessionKey) -> Option<Session> {
    let session = realm.sessions.remove(key)?;
    realm.calls.forget(key, session.client_id.as_deref());
    for selection in session.selections.values() {
        realm.selections.try_remove(*selection as usize);
    }
    for (filter, share) in session.subscriptions.keys() {
        realm.broker.unsubscribe(key, filter, share.as_deref());
    }
    Some(session)
}

fn clear_timers(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    for timer in std::mem::take(&mut session.timers).into_iter().flatten() {
        realm.cx.timers.clear(timer);
    }
}

/// A session came back: it serves again what it served, unless another took its place in the meantime.
pub fn register_again(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    session.procedures.retain(|(filter, _), options| realm.dealer.register(key, filter, *options).is_ok());
}

/// A session has no connection any more: nobody waits for it, it waits for nobody, and it serves nothing until it comes back.
pub fn withdraw(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    if !session.procedures.is_empty() {
        session.inflight.forget_waiting(is_invocation);
    }
    for (filter, _) in session.procedures.keys() {
        realm.dealer.unregister(key, filter);
    }
    call::abandon_invocations(realm, key);
    call::abandon_calls(realm, key);
    queues::leave_queues(realm, key);
}
