//! Acknowledgements of a client, and what is next for it: from its window, its backlog, and its replays.
use smallvec::SmallVec;

use crate::model::command::{AcknowledgeStep, Acknowledgement};
use crate::model::query::{Page, ReadTicket};
use crate::model::{ConnectionId, Reason};
use crate::router::base::context::Consequence;
use crate::router::base::key::SessionKey;
use crate::router::flow::{backlog, deliver, progress, queues, replay};
use crate::router::realm::Realm;
use crate::router::session::window::{Next, Progress};

pub fn handle_acknowledgements(realm: &mut Realm, key: SessionKey, connection: ConnectionId, steps: &[Acknowledgement]) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let (mut finished, mut released) = (SmallVec::<[_; 16]>::new(), SmallVec::<[_; 16]>::new());
    let mut claims = Vec::new();
    let mut is_violation = false;
    for step in steps {
        match session.inflight.handle_acknowledgement(*step) {
            Progress::Done(id, source) => finished.push((id, source)),
            Progress::Settled(claim, is_done) => claims.push((claim, is_done)),
            Progress::Release(id) => released.push((id, Ok(()))), // [MQTT-4.3.3-4]
            Progress::Unknown if step.step == AcknowledgeStep::Received => {
                released.push((step.packet_id, Err(Reason::PacketIdNotFound)));
            }
            Progress::Unknown => {}
            Progress::Violation => {
                is_violation = true;
                break;
            }
        }
    }
    for (id, source) in finished {
        progress::note_finished(realm, key, id, source);
    }
    for (id, known) in released {
        deliver::send_release(realm, key, connection, id, known);
    }
    queues::release_claims(realm, key, claims);
    if is_violation {
        return realm.cx.then(Consequence::End(key, Reason::ProtocolViolation));
    }
    continue_window(realm, key, connection);
}

/// A replay of a session has brought something: what it may send of that, it sends.
pub fn go_on(realm: &mut Realm, key: SessionKey) {
    if let Some(connection) = realm.sessions.at(key).and_then(|session| session.connection) {
        continue_window(realm, key, connection);
    }
}

/// Sends what is next in a session's window, as far as it has room.
pub fn continue_window(realm: &mut Realm, key: SessionKey, connection: ConnectionId) {
    while let Some(session) = realm.sessions.at_mut(key)
        && let Some(next) = session.inflight.poll_next(realm.cx.now_ms, &realm.cx.limits)
    {
        match next {
            Next::Publish(event) => deliver::send_event(realm, key, connection, event),
            Next::Release(packet_id) => deliver::repeat_release(realm, key, connection, packet_id),
        }
    }
    deliver::take_from_fellows(realm, key);
    backlog::continue_backlog(realm, key);
    let Some(session) = realm.sessions.at(key) else { return };
    if session.inflight.waiting() == 0 && session.replays.front().is_some_and(|replay| replay.is_held_up) {
        replay::continue_replay(realm, key);
    }
}

/// A page has come for a session that is behind.
pub fn handle_backlog_page(realm: &mut Realm, key: SessionKey, ticket: ReadTicket, page: Result<Page, Reason>) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let Some(backlog) = session.backlog.as_mut() else { return };
    if !backlog.take_read(ticket) {
        return;
    }
    let Some(connection) = session.connection else { return };
    match page {
        Ok(page) => backlog::pass_backlog(realm, key, connection, &page),
        Err(Reason::HistoryTooOld(oldest)) => {
            let resumed = oldest.previous();
            backlog.skip_to(resumed);
            if let Some(until) = resumed {
                session.inflight.give_up_awaited(until);
            }
        }
        Err(reason) => return realm.cx.then(Consequence::End(key, reason)),
    }
    continue_window(realm, key, connection);
}
