//! The past that a new subscription gets: retained messages and past events, in pages, as fast as its session reads.
//!
//! The history is read up to the last event of the realm. Events stored meanwhile are behind the end of that read. A bounded
//! number of them is held back and sent behind the last page, in one step with which the subscription becomes a live one. If more
//! came than is held, those are let go and the history is read on. Events that are not stored have no place in the order and are
//! sent at once.
use std::sync::Arc;

use crate::model::command::{Past, Selection, SubscribeOptions};
use crate::model::names::Root;
use crate::model::query::{Page, Query, ReadTicket};
use crate::model::record::Flags;
use crate::model::{Delivery, EventId, Filter, Publication, Qos, Reason, Record, SubscriptionId};
use crate::router::base::catching::{Catching, PAGE_BYTES, PAGE_EVENTS, together};
use crate::router::base::context::Consequence;
use crate::router::base::effect::ReadForm;
use crate::router::base::key::{SelectionKey, SessionKey};
use crate::router::base::passage::{Passage, Source};
use crate::router::base::reads::{Purpose, is_readable};
use crate::router::broker::selection::SelectiveSubscription;
use crate::router::flow::queues::queue_named;
use crate::router::flow::{append, deliver, progress, queues};
use crate::router::realm::Realm;
use crate::router::retained::{Author, Cursor, Retained, Wanted};
use crate::router::session::entry::Entry;
use crate::router::session::replay::{Replay, ReplaySource};
use crate::router::session::window::Outgoing;

/// `$reply/…` and `$cancel/…`: each session sees only its own (MAPPING.md, Calls).
pub fn is_private_filter(filter: &Filter) -> bool {
    !matches!(filter, Filter::Prefix(_)) && matches!(filter.root(), Some(Root::Reply | Root::Cancel))
}

/// Retained messages looked at before the router turns to others.
pub const PAGE_STEPS: usize = 256;

pub fn unsubscribe_topic(realm: &mut Realm, key: SessionKey, filter: &Filter, share: Option<&str>) -> Result<(), Reason> {
    let session = realm.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
    if is_private_filter(filter) && session.protocol.is_mqtt() {
        let before = session.private.len();
        session.private.retain(|(private, _)| private != filter);
        return if session.private.len() < before { Ok(()) } else { Err(Reason::NoSuchSubscription) };
    }
    if session.protocol.is_mqtt()
        && let Some(queue) = queue_named(filter)
    {
        return queues::unsubscribe_queue(realm, key, queue?);
    }
    // [MQTT-3.10.4-1]
    let name = (filter.clone(), share.map(Into::into));
    if session.subscriptions.remove(&name).is_none() {
        return Err(Reason::NoSuchSubscription);
    }
    session.wildcards -= usize::from(!matches!(filter, Filter::Exact(_)));
    // Deliveries that wait in the window and behind it stay there [MQTT-3.10.4-3].
    realm.broker.unsubscribe(key, filter, share);
    if share.is_none() {
        stop_replays(realm, key, filter);
        forget_selection(realm, key, filter);
    }
    Ok(())
}

/// Takes a subscription away that its session has not given up.
pub fn drop_subscription(realm: &mut Realm, key: SessionKey, filter: &Filter) {
    unsubscribe_topic(realm, key, filter, None).ok();
}

/// Reads the next page for the subscription whose turn it is, unless it has to wait: for the page before, for its client to
/// come back, or for room in its window.
pub fn continue_past(realm: &mut Realm, key: SessionKey, selection: SelectionKey) {
    let last = realm.reads.last_id();
    let max_events = PAGE_EVENTS.min(realm.cx.limits.max_session_queue / 2).max(1);
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let Some(replay) = session.replays.front_mut().filter(|replay| replay.reading.is_none()) else { return };
    replay.is_held_up = session.inflight.waiting() > 0;
    replay.is_held_up &= !session.inflight.is_awaiting_replay();
    if replay.is_held_up || session.connection.is_none() {
        return;
    }
    let Some(selected) = realm.selections.get_mut(selection as usize) else { return };
    let until = selected.until;
    let Some(catching) = &mut selected.catching else { return };
    let mut query = Query { filter: Some(selected.filter.clone()), max_bytes: PAGE_BYTES, ..Query::new("") };
    if catching.is_finding() {
        query.before = catching.find_before();
        query.reverse = true;
    } else {
        query.after = catching.cursor();
        query.before = until.and_then(EventId::next);
        query.limit = max_events;
        catching.start_read(last);
    }
    let ticket = append::read(realm, key, Purpose::Past(selection), query, ReadForm::Stored);
    if let Some(replay) = realm.sessions.at_mut(key).and_then(|session| session.replays.front_mut()) {
        replay.reading = ticket;
    }
}

/// A page has come for the subscription whose turn it is.
pub fn handle_past_page(
    realm: &mut Realm,
    key: SessionKey,
    selection: SelectionKey,
    ticket: ReadTicket,
    page: Result<Page, Reason>,
) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let Some(replay) = session.replays.front_mut().filter(|replay| replay.reading == Some(ticket)) else { return };
    replay.reading = None;
    if replay.is_over() || session.connection.is_none() {
        return continue_replay(realm, key);
    }
    let is_finding = catching_mut(realm, selection).is_some_and(|catching| catching.is_finding());
    match page {
        Ok(page) if is_finding => find_in(realm, key, selection, &page),
        Ok(page) => pass_page(realm, key, selection, &page),
        // Trimmed while it was looked through: the last ones are what is left.
        Err(Reason::HistoryTooOld(_)) if is_finding => find_in(realm, key, selection, &Page { is_end: true, ..Page::default() }),
        Err(reason) => {
            let resumable = pop_replay(realm, key).and_then(|replay| replay.resumable);
            resumable.into_iter().for_each(|replay| progress::end_resumable(realm, key, replay));
            revoke(realm, selection, Err(reason));
            continue_replay(realm, key);
        }
    }
}

fn catching_mut(realm: &mut Realm, selection: SelectionKey) -> Option<&mut Catching<Arc<Publication>>> {
    realm.selections.get_mut(selection as usize)?.catching.as_mut()
}

/// Looks for the first of the last events.
fn find_in(realm: &mut Realm, key: SessionKey, selection: SelectionKey, page: &Page) {
    let wanted: Vec<EventId> = page
        .records
        .iter()
        .filter(|record| past_event(realm, key, selection, record).is_some())
        .map(|record| record.id)
        .collect();
    let Some(catching) = catching_mut(realm, selection) else { return };
    catching.note_found(&wanted, page);
    continue_past(realm, key, selection);
}

/// Sends the events of a page, and becomes live if that was all.
fn pass_page(realm: &mut Realm, key: SessionKey, selection: SelectionKey, page: &Page) {
    let records = together(&page.records);
    let is_cut = records.len() < page.records.len();
    let mut is_any = false;
    let resumable = realm.sessions.at(key).and_then(|session| session.replays.front()?.resumable);
    for record in records {
        if let Some(publication) = past_event(realm, key, selection, record) {
            let is_new = since_of(realm, key, selection) < record.id.value();
            pass_past(realm, selection, &Arc::new(publication), resumable.filter(|_| !is_new), is_new);
            is_any = true;
        }
    }
    let last = realm.reads.last_id();
    let Some(selected) = realm.selections.get_mut(selection as usize) else { return };
    let is_bounded = selected.until.is_some();
    let Some(catching) = &mut selected.catching else { return };
    let cut_at = records.last().filter(|_| is_cut).map(|record| record.id);
    let Some(held) = catching.finish_read(page, cut_at, last) else {
        return pause_replay(realm, key, is_any);
    };
    for publication in held.iter().filter(|_| !is_bounded) {
        deliver::pass(realm, selection, publication, Source::Past);
        is_any = true;
    }
    pop_replay(realm, key);
    complete(realm, selection);
    resumable.into_iter().for_each(|replay| progress::note_all_sent(realm, key, replay));
    pause_replay(realm, key, is_any);
}

/// Sends a past event: one that is new to the session's cursor, or one that belongs to this replay.
fn pass_past(realm: &mut Realm, selection: SelectionKey, publication: &Arc<Publication>, resumable: Option<u32>, is_new: bool) {
    let source = if is_new { Source::Past } else { Source::Other };
    if let Some((key, passage)) = deliver::passage_through(realm, selection, publication, source) {
        send_replayed(realm, key, publication, passage, resumable);
    }
}

/// Sends a value or past event of a replay. One that the session is owed over restarts is remembered until it is over; one that an
/// earlier process had sent goes on where it was.
fn send_replayed(
    realm: &mut Realm,
    key: SessionKey,
    publication: &Arc<Publication>,
    mut passage: Passage,
    resumable: Option<u32>,
) {
    let qos = publication.qos.min(passage.qos);
    let id = publication.id.event().filter(|_| qos > Qos::AtMostOnce);
    let session = realm.sessions.at_mut(key);
    let mut replays = session.and_then(|session| Some((&mut session.inflight, session.backlog.as_mut()?.replays())));
    if let (Some(number), Some((_, replays))) = (resumable, &mut replays) {
        replays.note_begun(number);
    }
    if let (Some(number), Some(id), Some((inflight, replays))) = (resumable, id, replays) {
        if replays.was_over(number, id) {
            return;
        }
        replays.note_sent(number, &publication.topic, id);
        passage.source = Source::Replayed;
        if replays.is_resumed(number) {
            let again = qos == Qos::AtLeastOnce;
            let Passage { retain, subscriptions, source, .. } = passage;
            let publication = publication.clone();
            let owed = Outgoing { publication, qos, retain, subscriptions, source, claim: None, again };
            return inflight.restore_read(owed).into_iter().for_each(|owed| inflight.wait(owed));
        }
    }
    deliver::deliver_to(realm, key, publication, passage);
}

/// The number of the last event before a subscription began.
fn since_of(realm: &Realm, key: SessionKey, selection: SelectionKey) -> u64 {
    let filter = realm.selections.get(selection as usize).map(|selected| selected.filter.clone());
    let subscriptions = realm.sessions.at(key).map(|session| &session.subscriptions);
    filter.zip(subscriptions).and_then(|(filter, all)| all.get(&(filter, None))).map_or(0, |subscribed| subscribed.since)
}

/// The event that a reader gets of a record, if any.
fn past_event(realm: &Realm, key: SessionKey, selection: SelectionKey, record: &Record) -> Option<Publication> {
    let session = realm.sessions.at(key)?;
    let selected = realm.selections.get(selection as usize)?;
    let is_own = record.item.origin.as_ref().is_some_and(|origin| origin.session == session.id);
    let is_kept_from = is_own && (selected.options.no_local || record.item.flags.has(Flags::NOT_TO_ITSELF));
    let is_unwanted = selected.options.retained_only && !record.item.flags.has(Flags::RETAIN);
    if is_kept_from || is_unwanted || !is_readable(record) {
        return None;
    }
    let event = record.to_publication().filter(|event| !event.is_expired(realm.cx.now_ms) && deliver::admits(session, event))?;
    deliver::is_wanted(realm, selection, &event).then_some(event)
}

/// Goes on when what was sent has left the outbox; at once if nothing was.
fn pause_replay(realm: &mut Realm, key: SessionKey, is_any: bool) {
    let Some(session) = realm.sessions.at(key) else { return };
    match session.connection.filter(|_| is_any && !session.replays.is_empty()) {
        Some(connection) => realm.cx.tell(connection, Delivery::Paused),
        None => continue_replay(realm, key),
    }
}

fn pop_replay(realm: &mut Realm, key: SessionKey) -> Option<Replay> {
    realm.sessions.at_mut(key)?.replays.pop_front()
}

/// Begins to send what is retained under `filter` to a session that has just subscribed.
pub fn start_replay(
    realm: &mut Realm,
    key: SessionKey,
    filter: &Filter,
    subscription: SubscriptionId,
    options: SubscribeOptions,
) {
    let selection = realm.sessions.at(key).and_then(|session| session.selections.get(filter)).copied();
    let selected = selection.and_then(|selection| realm.selections.get(selection as usize));
    // No filter that starts with a wildcard covers a name of the router's [MQTT-4.7.2-1].
    let is_own = filter.is_hidden() && !realm.own_retained.is_empty();
    if realm.retained.is_empty() && !is_own && selection.is_none() {
        return;
    }
    // A value that is set while a snapshot is sent does not come otherwise.
    let is_snapshot = selected.is_some_and(|selected| selected.is_snapshot());
    let until = |store: &Retained| if is_snapshot { u64::MAX } else { store.latest() };
    let own_until = is_own.then(|| until(&realm.own_retained));
    let until = until(&realm.retained);
    let pattern = selected.and_then(|selected| selected.pattern().cloned());
    let entry = Entry::of_topic(filter, None, &options, pattern).map(|entry| Entry { snapshot: is_snapshot, ..entry });
    let source = ReplaySource::Retained { subscription, options, cursor: None, until, own_until };
    line_up(realm, key, filter, selection, source, entry);
}

/// Begins to send the past events that a subscription has asked for, as it is recorded.
pub fn start_past(realm: &mut Realm, key: SessionKey, filter: &Filter, selection: SelectionKey, entry: Option<Entry>) {
    line_up(realm, key, filter, Some(selection), ReplaySource::History(selection), entry);
}

fn line_up(
    realm: &mut Realm,
    key: SessionKey,
    filter: &Filter,
    selection: Option<SelectionKey>,
    source: ReplaySource,
    entry: Option<Entry>,
) {
    let last = realm.reads.last_id().map_or(0, EventId::value);
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let until = session.inbound.asked_behind().unwrap_or(last);
    // A client that asks again before it was sent anything has asked once.
    let is_again = |replay: &Replay| replay.filter == *filter && !replay.has_begun();
    let given_up: Vec<u32> =
        session.replays.iter().filter(|replay| is_again(replay)).filter_map(|replay| replay.resumable).collect();
    session.replays.retain(|replay| !is_again(replay));
    let entry = entry.filter(|entry| session.is_recorded && entry.qos > 0);
    let replays = session.backlog.as_mut().map(|backlog| backlog.replays());
    let resumable = replays.zip(entry).map(|(replays, entry)| replays.begin(entry, until));
    let filter = filter.clone();
    let replay = Replay { filter, source, resumable, selection, reading: None, is_held_up: false, is_over: false };
    session.replays.push_back(replay);
    let is_first = session.replays.len() == 1;
    given_up.into_iter().for_each(|replay| progress::end_resumable(realm, key, replay));
    if is_first {
        continue_replay(realm, key);
    }
}

/// Takes back what is still to be sent for a subscription that has ended [MQTT-3.10.4-2].
pub fn stop_replays(realm: &mut Realm, key: SessionKey, filter: &Filter) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let begun = session.replays.pop_front();
    session.replays.retain(|replay| replay.filter != *filter);
    if let Some(mut begun) = begun {
        begun.is_over |= begun.filter == *filter;
        session.replays.push_front(begun);
    }
}

/// Has a session forget, over restarts too, what was still to be sent for a subscription: its client has given that up.
pub fn forget_replays(realm: &mut Realm, key: SessionKey, filter: &Filter) {
    let backlog = realm.sessions.at_mut(key).and_then(|session| session.backlog.as_mut());
    if let Some((backlog, filter)) = backlog.zip(filter.as_mqtt()) {
        backlog.replays().forget(filter);
    }
}

/// An earlier process was done with this replay.
pub fn end_replay(realm: &mut Realm, key: SessionKey, resumable: u32) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let Some(index) = session.replays.iter().position(|replay| replay.resumable == Some(resumable)) else { return };
    if let Some(selection) = session.replays.remove(index).and_then(|replay| replay.selection) {
        complete(realm, selection);
    }
}

/// Another process goes on with the replays of a session: behind the last value that is over.
pub fn resume_replays(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at_mut(key) else { return };
    let Some(backlog) = &mut session.backlog else { return };
    let replays = backlog.replays();
    replays.resume();
    for replay in &mut session.replays {
        let Some(resumption) = replay.resumable.and_then(|number| replays.resumption_of(number)) else { continue };
        match &mut replay.source {
            ReplaySource::Retained { cursor, until, .. } => {
                *cursor = resumption.topic.map(Cursor::behind);
                *until = if *until == u64::MAX { u64::MAX } else { resumption.until };
            }
            ReplaySource::History(selection) => {
                let Some(selected) = realm.selections.get_mut(*selection as usize) else { continue };
                let since = session.subscriptions.get(&(replay.filter.clone(), None)).map_or(0, |subscribed| subscribed.since);
                selected.until = EventId::new(resumption.until.min(since));
                selected.catching = resumption.past.map(|past| catching_of(past, selected.until));
            }
        }
    }
}

/// Values that an earlier process had sent, and no replay can bring any more, do not come.
fn give_up_replayed(realm: &mut Realm, key: SessionKey) {
    if let Some(session) = realm.sessions.at_mut(key)
        && session.replays.iter().all(|replay| replay.resumable.is_none())
    {
        session.inflight.give_up_replayed();
    }
}

/// Sends the next page; asks to be told when it has left the outbox if there is more.
pub fn continue_replay(realm: &mut Realm, key: SessionKey) {
    send_pages(realm, key);
    give_up_replayed(realm, key);
}

fn send_pages(realm: &mut Realm, key: SessionKey) {
    loop {
        let Some(session) = realm.sessions.at_mut(key) else { return };
        let Some(mut replay) = session.replays.pop_front() else { return };
        if replay.is_over {
            // Only what is being read for it keeps its place.
            match replay.reading {
                Some(_) => return session.replays.push_front(replay),
                None => continue,
            }
        }
        if let ReplaySource::History(selection) = replay.source {
            session.replays.push_front(replay);
            return continue_past(realm, key, selection);
        }
        let is_full = session.inflight.waiting() > 0 && !session.inflight.is_awaiting_replay();
        replay.is_held_up = replay.is_paced_by_window() && is_full;
        let Some(connection) = session.connection.filter(|_| !replay.is_held_up) else {
            return session.replays.push_front(replay);
        };
        let (page, is_last) = next_page(realm, key, &mut replay);
        for publication in &page {
            send_value(realm, key, publication, &replay);
        }
        if is_last {
            replay.selection.into_iter().for_each(|selection| complete(realm, selection));
            replay.resumable.into_iter().for_each(|number| progress::note_all_sent(realm, key, number));
        }
        let Some(session) = realm.sessions.at_mut(key) else { return };
        if !is_last {
            session.replays.push_front(replay);
        }
        if session.replays.is_empty() {
            return;
        }
        if !page.is_empty() {
            return realm.cx.tell(connection, Delivery::Paused);
        }
    }
}

/// The next retained messages of a replay, and whether they are the last. Behind those of the router's own come those of clients.
fn next_page(realm: &Realm, key: SessionKey, replay: &mut Replay) -> (Vec<Arc<Publication>>, bool) {
    let mut page = Vec::new();
    let ReplaySource::Retained { options, cursor, until, own_until, .. } = &mut replay.source else { return (page, true) };
    let Some(session) = realm.sessions.at(key) else { return (page, true) };
    // [MQTT-3.8.3-3]
    let not_by = session.client_id.as_deref().filter(|_| options.no_local).map(Author::of);
    let (store, set_until) = match *own_until {
        Some(until) => (&realm.own_retained, until),
        None => (&realm.retained, *until),
    };
    let wanted = Wanted { now_ms: realm.cx.now_ms, set_until, not_by };
    let steps = PAGE_STEPS.min(realm.cx.limits.max_session_queue).max(1);
    *cursor = store.page(&replay.filter, cursor.take().as_ref(), steps, wanted, &mut page);
    page.retain(|publication| deliver::admits(session, publication));
    page.retain(|publication| replay.selection.is_none_or(|selection| deliver::is_wanted(realm, selection, publication)));
    let is_last = cursor.is_none() && own_until.take().is_none();
    (page, is_last)
}

fn send_value(realm: &mut Realm, key: SessionKey, publication: &Arc<Publication>, replay: &Replay) {
    let ReplaySource::Retained { subscription, options, .. } = &replay.source else { return };
    let Some(protocol) = realm.sessions.at(key).map(|session| session.protocol) else { return };
    let passage = Passage::of(*options, &replay.filter, protocol, *subscription);
    // 3.1.1: [MQTT-3.3.1-8]
    send_replayed(realm, key, publication, Passage { retain: true, ..passage }, replay.resumable);
}

fn catching_of(past: Past, last: Option<EventId>) -> Catching<Arc<Publication>> {
    match past {
        Past::After(after) => Catching::after(after),
        Past::Last(count) => Catching::last(count, last),
    }
}

/// Makes a subscription a selective one.
pub fn select(
    realm: &mut Realm,
    key: SessionKey,
    subscription: SubscriptionId,
    filter: &Filter,
    options: SubscribeOptions,
    selection: Selection,
) -> SelectionKey {
    let Selection { past, is_snapshot, pattern } = selection;
    let catching = past.map(|past| catching_of(past, realm.reads.last_id()));
    let filter = filter.clone();
    let selected = SelectiveSubscription {
        session: key,
        subscription,
        filter: filter.clone(),
        options,
        pattern,
        is_snapshot,
        until: None,
        catching,
    };
    let selection = realm.selections.insert(selected) as SelectionKey;
    realm.broker.select(key, &filter, Some(selection));
    if let Some(session) = realm.sessions.at_mut(key) {
        session.selections.insert(filter, selection);
    }
    selection
}

/// The subscription is over, or from now on gets simply what comes.
pub fn forget_selection(realm: &mut Realm, key: SessionKey, filter: &Filter) {
    let Some(selection) = realm.sessions.at_mut(key).and_then(|session| session.selections.remove(filter)) else { return };
    realm.selections.try_remove(selection as usize);
    realm.broker.select(key, filter, None);
}

/// The past has been sent: a snapshot ends, any other subscription goes on with live events.
pub fn complete(realm: &mut Realm, selection: SelectionKey) {
    let last = realm.reads.last_id().map_or(0, EventId::value);
    let Some(selected) = realm.selections.get_mut(selection as usize) else { return };
    // This subscription has had everything, also what the session reads besides, unless an earlier process had it.
    let session = realm.sessions.at_mut(selected.session).filter(|session| !session.is_replayed && selected.until.is_none());
    let subscribed = session.and_then(|session| session.subscriptions.get_mut(&(selected.filter.clone(), None)));
    if let (Some(_), Some(subscribed)) = (selected.catching.take(), subscribed) {
        subscribed.had = last;
    }
    selected.until = None;
    if selected.is_snapshot {
        revoke(realm, selection, Ok(()));
    } else if selected.pattern.is_none() {
        let (key, filter) = (selected.session, selected.filter.clone());
        forget_selection(realm, key, &filter);
    }
}

/// Ends a subscription from this side. WAMP clients are told (WAMP: Advanced, Subscription Revocation). MQTT has no word for it.
/// A client knows that it asked for a snapshot, and after a fault its connection ends.
pub fn revoke(realm: &mut Realm, selection: SelectionKey, outcome: Result<(), Reason>) {
    let Some(selected) = realm.selections.get(selection as usize) else { return };
    let (key, subscription, filter) = (selected.session, selected.subscription, selected.filter.clone());
    drop_subscription(realm, key, &filter);
    let Some(session) = realm.sessions.at(key) else { return };
    match (outcome, session.connection) {
        (Err(reason), Some(_)) if session.protocol.is_mqtt() => realm.cx.then(Consequence::End(key, reason)),
        (outcome, Some(connection)) => realm.cx.tell(connection, Delivery::Revoked(subscription, outcome)),
        _ => {}
    }
}
