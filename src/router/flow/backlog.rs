//! A session that is behind reads on in the history, page by page, as its client takes what it is sent.
use crate::router::session::backlog::Passed;
use std::sync::Arc;

use crate::model::query::{Page, Query};
use crate::model::record::Flags;
use crate::model::{ConnectionId, Delivery, EventId, Publication, Qos, Record, SubscriptionId};
use crate::router::base::catching::{PAGE_BYTES, PAGE_EVENTS, together};
use crate::router::base::effect::ReadForm;
use crate::router::base::key::SessionKey;
use crate::router::base::passage::{Passage, Source};
use crate::router::base::reads::{Purpose, has_known_readers};
use crate::router::flow::{append, deliver};
use crate::router::realm::Realm;
use crate::router::session::Session;
use crate::router::session::window::Outgoing;

/// A session that is behind reads on when no more than this waits for its window.
const LOW_EVENTS: usize = 32;

/// Filters that a read asks for; a session with more reads everything.
const MAX_FILTERS: usize = 256;

/// Reads on for a session that is behind, if its client is there and has taken most of what it was sent.
pub fn continue_backlog(realm: &mut Realm, key: SessionKey) {
    let last = realm.reads.last_id();
    let Some(session) = realm.sessions.at_mut(key).filter(|session| session.connection.is_some()) else { return };
    if session.inflight.waiting() > LOW_EVENTS && !session.inflight.is_awaiting() {
        return;
    }
    // Past events that an earlier process owed come first: they are older.
    let selected = session.replays.iter().filter_map(|replay| realm.selections.get(replay.selection? as usize));
    if selected.into_iter().any(|selected| selected.until.is_some()) {
        return;
    }
    let Some(after) = session.backlog.as_mut().and_then(|backlog| backlog.start_read(last)) else { return };
    let mut filters = session.subscriptions.keys().filter(|(_, share)| share.is_none()).map(|(filter, _)| filter.clone());
    let Some(filter) = filters.next() else {
        let Some(connection) = session.connection else { return };
        return pass_backlog(realm, key, connection, &Page { is_end: true, ..Page::default() });
    };
    let also: Vec<_> = filters.collect();
    // So many are looked up one by one in every segment: it is less work to look at every record.
    let (filter, also) = if also.len() < MAX_FILTERS { (Some(filter), also) } else { (None, Vec::new()) };
    let query = Query { filter, also, after, limit: PAGE_EVENTS, max_bytes: PAGE_BYTES, ..Query::new("") };
    let ticket = append::read(realm, key, Purpose::Backlog, query, ReadForm::Stored);
    if let Some(backlog) = realm.sessions.at_mut(key).and_then(|session| session.backlog.as_mut()) {
        backlog.note_reading(ticket);
    }
}

pub fn pass_backlog(realm: &mut Realm, key: SessionKey, connection: ConnectionId, page: &Page) {
    let records = together(&page.records);
    let is_cut = records.len() < page.records.len();
    let found: Vec<Outgoing> = records.iter().filter_map(|record| owed_of(realm, key, record)).collect();
    let last = realm.reads.last_id();
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let Some(backlog) = &mut session.backlog else { return };
    let cut_at = records.last().filter(|_| is_cut).map(|record| record.id);
    let Some(Passed { cursor, is_live, held }) = backlog.finish_read(page, cut_at, last) else { return };
    let line: Vec<Outgoing> = found.into_iter().chain(held).collect();
    if is_live {
        let missed = backlog.note_live(session.inflight.unfinished() + line.len());
        missed.into_iter().for_each(|missed| realm.cx.tell(connection, Delivery::Missed(missed)));
    }
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let sent_until = session.sent_until().map(EventId::value);
    for owed in line {
        let is_old = Some(owed.publication.id.0) <= sent_until;
        let owed = if is_old { session.inflight.restore_read(owed) } else { Some(owed) };
        if let Some(owed) = owed {
            session.inflight.wait(owed);
        }
    }
    if let Some(cursor) = cursor {
        session.inflight.give_up_awaited(cursor);
    }
}

/// The delivery of a record of the history that a session is owed, if any.
fn owed_of(realm: &Realm, key: SessionKey, record: &Record) -> Option<Outgoing> {
    let session = realm.sessions.at(key)?;
    let backlog = session.backlog.as_ref()?;
    // A session that stays is itself in every process, so that session ids admit it too.
    if !has_known_readers(record) || backlog.was_over(record.id) {
        return None;
    }
    let publication = record.to_publication().filter(|publication| deliver::admits(session, publication))?;
    let passage = passage_of(realm, session, record, &publication)?;
    let qos = publication.qos.min(passage.qos);
    if qos == Qos::AtMostOnce || publication.is_expired(realm.cx.now_ms) {
        return None;
    }
    let again = qos == Qos::AtLeastOnce && Some(record.id) <= backlog.sent_until();
    let Passage { retain, subscriptions, .. } = passage;
    Some(Outgoing { publication: Arc::new(publication), qos, retain, subscriptions, source: Source::Past, claim: None, again })
}

/// The passage of an event of the history to a session, through its subscriptions that were there before.
fn passage_of(realm: &Realm, session: &Session, record: &Record, publication: &Publication) -> Option<Passage> {
    let is_own = record.item.origin.as_ref().is_some_and(|origin| origin.session == session.id);
    if is_own && record.item.flags.has(Flags::NOT_TO_ITSELF) {
        return None;
    }
    let mut merged: Option<Passage> = None;
    for ((filter, share), subscribed) in &session.subscriptions {
        let options = subscribed.options;
        let is_kept_from = (is_own && options.no_local) || (options.retained_only && !publication.retain);
        let is_old = subscribed.since.max(subscribed.had) >= record.id.value();
        if share.is_some() || is_old || is_kept_from || !filter.covers(&publication.topic) {
            continue;
        }
        if let Some(selection) = session.selections.get(filter) {
            let selected = realm.selections.get(*selection as usize);
            let comes_otherwise = selected.is_some_and(|selected| selected.catching.is_some() || selected.is_snapshot());
            if comes_otherwise || !deliver::is_wanted(realm, *selection, publication) {
                continue;
            }
        }
        let retain = options.retain_as_published && publication.retain;
        let passage = Passage::of(options, filter, session.protocol, SubscriptionId(0));
        Passage::merge(&mut merged, Passage { retain, source: Source::Past, ..passage });
    }
    merged
}
