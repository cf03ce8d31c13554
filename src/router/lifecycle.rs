//! Sessions from opening to end: resuming, takeover, wills, expiry.
use super::Router;
use super::effect::Effect;
use super::replay::Replay;
use super::session::{Session, SessionKey};
use crate::model::command::{Close, Open};
use crate::model::{ConnectionId, Delivery, Reason, Topic};

/// What a timer is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Due {
    /// The will of a session whose client is away.
    Will(SessionKey),
    /// The end of a session whose client is away.
    Expiry(SessionKey),
    /// The timeout of a call, by its place among those on their way.
    Call(u32),
    /// A record of what was acknowledged.
    Checkpoint,
    /// Something of the queues.
    Queues,
    /// The end of what a topic is held for, or of its value.
    Topic(Topic),
    /// The end of the time that this request waits in the line of a topic.
    Wait(Topic, u64),
}

/// Largest window towards a client, whatever it would take.
const MAX_WINDOW: u16 = 1_024;

impl Router {
    pub(super) fn open(&mut self, connection: ConnectionId, mut open: Open) {
        open.expiry_s = open.expiry_s.min(self.limits.max_session_expiry_s);
        let earlier = open.client_id.as_deref().and_then(|client_id| self.sessions.of_client_id(client_id));
        if let Some(earlier) = earlier {
            // A session belongs to the user who made it.
            if self.sessions.at(earlier).is_some_and(|s| s.principal.authid != open.principal.authid) {
                return self.deliver(connection, Delivery::Refused(Reason::ClientIdNotValid));
            }
            self.take_over(earlier);
        }
        // The takeover may have ended it.
        let earlier = open.client_id.as_deref().and_then(|client_id| self.sessions.of_client_id(client_id));
        // [MQTT-3.1.4-4]; 3.1.1: [MQTT-3.1.2-4], [MQTT-3.1.2-6]
        match earlier {
            // [MQTT-3.1.2-5]
            Some(earlier) if !open.clean_start => self.resume(earlier, connection, open),
            // [MQTT-3.1.2-4]
            Some(earlier) => {
                self.end(earlier, Reason::SessionTakenOver);
                self.start(connection, open);
            }
            // [MQTT-3.1.2-6]
            None => self.start(connection, open),
        }
    }

    fn start(&mut self, connection: ConnectionId, mut open: Open) {
        if self.sessions.of_id(open.session).is_some() {
            return self.deliver(connection, Delivery::Refused(Reason::ServerBusy));
        }
        let window = open.receive_maximum.min(MAX_WINDOW);
        let mut session = Session::new(&mut open, connection, window);
        session.is_recorded = session.is_durable();
        let id = session.id;
        let key = self.sessions.insert(session);
        // [MQTT-3.2.2-2], [MQTT-3.2.2-3]
        self.deliver(connection, Delivery::Opened { session: id, session_present: false });
        self.start_backlog(key);
        self.record_opened(key);
        self.record_will(key);
    }

    /// [MQTT-3.1.4-3]: the older connection of a client id ends; 3.1.1: [MQTT-3.1.4-2].
    fn take_over(&mut self, key: SessionKey) {
        if self.sessions.at(key).is_some_and(|session| session.connection.is_some()) {
            self.end_connection(key, Reason::SessionTakenOver);
        }
    }

    /// The router ends a session's connection; the session may stay.
    pub(super) fn end_connection(&mut self, key: SessionKey, reason: Reason) {
        if let Some(connection) = self.sessions.at(key).and_then(|session| session.connection) {
            self.deliver(connection, Delivery::Close(reason));
        }
        self.lose(key, reason);
    }

    fn resume(&mut self, key: SessionKey, connection: ConnectionId, open: Open) {
        self.clear_timers(key); // [MQTT-3.1.3-9]
        self.sessions.connect(key, Some(connection));
        let Some(session) = self.sessions.at_mut(key) else { return };
        session.protocol = open.protocol;
        session.transport = open.transport;
        session.principal = open.principal;
        session.features = open.features;
        session.expiry_s = open.expiry_s;
        session.left_ms = None;
        session.will = open.will;
        session.is_recorded |= session.is_durable();
        session.unreleased.values_mut().for_each(|repeats| repeats.count = 0);
        session.inflight.reconnect(open.receive_maximum.min(MAX_WINDOW));
        let id = session.id;
        self.effects.push_back(Effect::Deliver(connection, Delivery::Opened { session: id, session_present: true })); // [MQTT-3.2.2-3]
        self.continue_window(key, connection); // [MQTT-4.4.0-1], [MQTT-4.8.2-4]
        self.register_again(key);
        self.start_backlog(key);
        self.record_opened(key);
        self.record_will(key);
        self.attach_again(key);
        self.continue_replay(key);
    }

    /// DISCONNECT or GOODBYE: the will goes, unless asked for [MQTT-3.14.4-3].
    pub(super) fn close(&mut self, key: SessionKey, close: Close) {
        if let Some(session) = self.sessions.at_mut(key) {
            if let Some(expiry_s) = close.expiry_s {
                session.expiry_s = expiry_s.min(self.limits.max_session_expiry_s);
            }
            if !close.with_will {
                session.will = None;
                let id = session.id;
                self.void_will(id);
            }
        }
        self.lose(key, Reason::ConnectionLost);
    }

    /// The connection is gone: the session, which has lasted as long [MQTT-4.1.0-1], ends with it, or waits for its client
    /// [MQTT-3.1.2-23].
    pub(super) fn lose(&mut self, key: SessionKey, reason: Reason) {
        self.sessions.connect(key, None);
        self.withdraw(key);
        self.leave_lines(key);
        let Some(session) = self.sessions.at_mut(key) else { return };
        // Retained messages are asked for again; past events go on where they are.
        session.replays.retain(Replay::is_lasting);
        session.history_calls.clear();
        session.call_read = None;
        if session.expiry_s == 0 {
            return self.end(key, reason);
        }
        self.record_left(key);
        let will_is_due = self.wait_for_client(key, self.now_ms);
        if will_is_due {
            self.publish_will(key);
        }
        self.bound_stored_sessions(key);
    }

    /// Sets what becomes of a session whose client left at `left_ms`; true if its will is due at once.
    pub(super) fn wait_for_client(&mut self, key: SessionKey, left_ms: u64) -> bool {
        let Some(session) = self.sessions.at_mut(key) else { return false };
        let expiry_ms = match session.expiry_s {
            u32::MAX => u64::MAX,
            seconds => left_ms.saturating_add(u64::from(seconds) * 1_000),
        };
        session.left_ms = Some(left_ms);
        let will_ms = session.will.as_ref().map(|will| self.now_ms + u64::from(will.delay_s) * 1_000);
        let timers = [
            will_ms
                .filter(|at_ms| *at_ms > self.now_ms && *at_ms < expiry_ms)
                .map(|at_ms| self.timers.set(at_ms, Due::Will(key))),
            (expiry_ms < u64::MAX).then(|| self.timers.set(expiry_ms, Due::Expiry(key))),
        ];
        session.timers = timers;
        will_ms.is_some_and(|at_ms| at_ms <= self.now_ms)
    }

    fn bound_stored_sessions(&mut self, key: SessionKey) {
        if self.sessions.len() - self.sessions.connected() > self.limits.max_stored_sessions {
            self.end(key, Reason::QuotaExceeded);
        }
    }

    /// The router stops: wills are published while there is somebody to read them, then every connection ends.
    pub fn shut_down(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let connected: Vec<_> = self.sessions.iter().filter(|(_, s)| s.connection.is_some()).map(|(key, _)| key).collect();
        for key in connected {
            self.publish_will(key);
        }
        self.checkpoint();
        self.is_stopping = true;
        self.continue_shut_down();
    }

    /// The last wills have their place in the history, if any: now everybody may go.
    pub(super) fn continue_shut_down(&mut self) {
        if !self.is_stopping || !self.appends.is_empty() {
            return;
        }
        self.is_stopping = false;
        let connected: Vec<_> = self.sessions.iter().filter_map(|(_, session)| session.connection).collect();
        for connection in connected {
            self.deliver(connection, Delivery::Close(Reason::ShuttingDown));
        }
    }

    pub(super) fn handle_due(&mut self, due: Due) {
        match due {
            Due::Will(key) => {
                if let Some(session) = self.sessions.at_mut(key) {
                    session.timers[0] = None;
                }
                self.publish_will(key);
            }
            // [MQTT-4.1.0-2]
            Due::Expiry(key) => self.end(key, Reason::ConnectionLost),
            Due::Call(place) => self.time_out(place),
            Due::Checkpoint => self.checkpoint(),
            Due::Queues => self.handle_queues_due(),
            Due::Topic(topic) => self.ask_due(&topic),
            Due::Wait(topic, request) => self.end_wait(&topic, request),
        }
    }

    /// The session is over: its will is due at the latest now [MQTT-3.1.2-8], and nothing of it stays.
    pub(super) fn end(&mut self, key: SessionKey, reason: Reason) {
        if let Some(connection) = self.sessions.connect(key, None) {
            self.deliver(connection, Delivery::Close(reason));
            self.withdraw(key);
            self.leave_lines(key);
        }
        self.clear_timers(key);
        self.publish_will(key);
        // What it had of its share groups goes to nobody else after a restart either.
        self.record_progress(key);
        let Some(session) = self.remove_session(key) else { return };
        self.record_ended(key, &session);
        self.counters.dropped += session.inflight.dropped;
        self.redistribute(session.inflight);
    }

    /// Takes a session out with its subscriptions.
    pub(super) fn remove_session(&mut self, key: SessionKey) -> Option<Session> {
        let session = self.sessions.remove(key)?;
        for selection in session.selections.values() {
            self.selections.try_remove(*selection as usize);
        }
        for (filter, share) in session.subscriptions.keys() {
            self.broker.unsubscribe(key, filter, share.as_deref());
        }
        Some(session)
    }

    /// What its share groups still owe, but for QoS 2 that has begun [MQTT-4.8.2-5], goes to their other members.
    pub(super) fn redistribute(&mut self, inflight: super::inflight::Inflight) {
        for (group, owed) in inflight.into_shared() {
            if let Some((member, options)) = self.pick_member(group, owed.qos) {
                let subscriptions = options.identifier.map(u64::from).into_iter().collect();
                let passage = super::deliver::Passage {
                    qos: options.qos,
                    retain: owed.retain,
                    by_pattern: true,
                    subscriptions,
                    source: owed.source,
                };
                self.deliver_to(member, &owed.publication, passage);
            }
        }
    }

    fn clear_timers(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.at_mut(key) else { return };
        for timer in std::mem::take(&mut session.timers).into_iter().flatten() {
            self.timers.clear(timer);
        }
    }
}
