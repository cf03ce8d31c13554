//! The progress of sessions that stay: counted as it happens, recorded in batches, which nobody waits for.
use crate::model::record::Kind;
use crate::model::{EventId, PublicationId};
use crate::router::base::codec::encode_record;
use crate::router::base::due::Due;
use crate::router::base::key::SessionKey;
use crate::router::base::passage::Source;
use crate::router::base::piece::PieceKey;
use crate::router::flow::append;
use crate::router::realm::Realm;
use crate::router::session::Session;
use crate::router::session::backlog::Position;
use crate::router::session::record::{CHECKPOINT_MS, Checkpoint, SessionChange, level_of};

/// A session that stays is one that may be behind.
pub fn start_backlog(realm: &mut Realm, key: SessionKey) {
    let has_history = realm.has_history;
    if let Some(session) = realm.sessions.at_mut(key).filter(|session| has_history && session.is_recorded) {
        session.backlog.get_or_insert_default();
    }
}

/// The part of the history that is over for a session by now, for the record.
pub fn standing_of(realm: &mut Realm, key: SessionKey, finished: &[(u64, u64)]) -> Option<Position> {
    let cursor = cursor_of(realm, key)?;
    Some(realm.sessions.at_mut(key)?.backlog.as_mut()?.note(finished, cursor))
}

/// The number of the last event up to which all is over for a session.
fn cursor_of(realm: &Realm, key: SessionKey) -> Option<u64> {
    let session = realm.sessions.at(key)?;
    let backlog = session.backlog.as_ref()?;
    let last = realm.reads.last_id().map_or(0, EventId::value);
    let number = |id: Option<EventId>| id.map_or(0, EventId::value);
    let reading = backlog.cursor().map(number);
    // Past events that it asked for when it subscribed come first; live ones are behind those.
    let selected = session.selections.values().filter_map(|selection| realm.selections.get(*selection as usize));
    let selected = selected.filter_map(|selected| {
        let since = session.subscriptions.get(&(selected.filter.clone(), None)).map_or(0, |subscribed| subscribed.since);
        selected.catching.as_ref().map(|catching| number(catching.cursor()).max(since))
    });
    let unfinished = session.inflight.first_unfinished().map(|id| id.value() - 1);
    Some(reading.into_iter().chain(selected).chain(unfinished).fold(last, u64::min))
}

/// A session that stays, or was to stay until now, has been opened.
pub fn record_opened(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at(key).filter(|session| session.is_recorded) else { return };
    let Some(client) = session.client_id.clone() else { return };
    let change = SessionChange::Opened {
        client,
        session: session.id.0,
        authid: (&*session.principal.authid).into(),
        authrole: (&*session.principal.authrole).into(),
        protocol: level_of(session.protocol),
        expiry_s: session.expiry_s,
        will_delay_s: session.will.as_ref().map_or(0, |will| will.delay_s),
    };
    append::append_change(realm, Some(key), Kind::SESSION, encode_record(&change), None);
}

/// The client of a session that stays has gone.
pub fn record_left(realm: &mut Realm, key: SessionKey) {
    record_progress(realm, key);
    let Some(session) = realm.sessions.at(key).filter(|session| session.is_durable()) else { return };
    let Some(client) = session.client_id.clone() else { return };
    let sent = session.sent_until().map_or(0, EventId::value);
    let change = SessionChange::Left { client, expiry_s: session.expiry_s, sent };
    append::append_change(realm, Some(key), Kind::SESSION, encode_record(&change), None);
}

/// A session is over that may be on record.
pub fn record_ended(realm: &mut Realm, session: &Session) {
    if let Some(client) = session.client_id.clone().filter(|_| session.is_recorded) {
        realm.changes.note(|| PieceKey::Session(client.clone()));
        append::append_change(realm, None, Kind::SESSION, encode_record(&SessionChange::Ended { client }), None);
    }
}

/// A delivery is over: that of a stored event is to be on record.
pub fn note_finished(realm: &mut Realm, key: SessionKey, publication: PublicationId, source: Source) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let Some(backlog) = session.backlog.as_mut().filter(|_| source != Source::Other) else { return };
    let Some(id) = EventId::new(publication.0) else { return };
    match source {
        Source::Live | Source::Past => backlog.note_done(id),
        Source::Replayed => backlog.replays().note_over(id),
        Source::Shared(_) | Source::Other => {}
    }
    if session.finished.note(id, source) {
        schedule_checkpoint(realm, key);
    }
}

/// There is nothing left to send of a replay that its session is owed over restarts.
pub fn note_all_sent(realm: &mut Realm, key: SessionKey, replay: u32) {
    let backlog = realm.sessions.at_mut(key).and_then(|session| session.backlog.as_mut());
    let Some(replays) = backlog.map(|backlog| backlog.replays()) else { return };
    replays.note_all_sent(replay);
    if replays.is_changed() {
        schedule_checkpoint(realm, key);
    }
}

/// A replay that its session was owed over restarts comes to nothing.
pub fn end_resumable(realm: &mut Realm, key: SessionKey, replay: u32) {
    if let Some(backlog) = realm.sessions.at_mut(key).and_then(|session| session.backlog.as_mut()) {
        backlog.replays().end(replay);
        schedule_checkpoint(realm, key);
    }
}

fn schedule_checkpoint(realm: &mut Realm, key: SessionKey) {
    realm.progressed.push(key);
    if realm.checkpoint_timer.is_none() {
        realm.checkpoint_timer = Some(realm.cx.timers.set(realm.cx.now_ms + CHECKPOINT_MS, Due::Checkpoint));
    }
}

/// Records what was acknowledged since the last time.
pub fn checkpoint(realm: &mut Realm) {
    if let Some(timer) = realm.checkpoint_timer.take() {
        realm.cx.timers.clear(timer);
    }
    for key in std::mem::take(&mut realm.progressed) {
        record_progress(realm, key);
    }
}

pub fn record_progress(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let replays = session.backlog.as_mut().map_or(Vec::new(), |backlog| backlog.replays().take_changes());
    if session.finished.is_empty() && replays.is_empty() {
        return;
    }
    let (client, [history, shared, replayed]) = (session.client_id.clone(), session.finished.take());
    if let (Some(client), Some(standing)) = (client, standing_of(realm, key, &history)) {
        let Position { cursor, over, done } = standing;
        let checkpoint = Checkpoint { client, cursor, over, done, shared, replayed, replays };
        append::append_change(realm, Some(key), Kind::CURSOR, encode_record(&checkpoint), None);
    }
}
