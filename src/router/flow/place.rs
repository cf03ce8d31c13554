//! Records that have their place in the history, or cannot have one: applied in the order of tickets, then answered.
use crate::router::base::context::Consequence;
use std::sync::Arc;

use crate::model::command::Acknowledge;
use crate::model::record::{Kind, Ticket};
use crate::model::{Command, ConnectionId, Delivery, EventId, PublicationId, Reason};
use crate::router::base::context::Follower;
use crate::router::base::key::SessionKey;
use crate::router::base::place::Place;
use crate::router::base::reply::{Caller, Reply};
use crate::router::flow::{answer, append, deliver, holders, locks, queues, route, session, wills};
use crate::router::lock::request::{By, Role};
use crate::router::queue::is_put;
use crate::router::realm::Realm;
use crate::router::session::record::opens_session;
use crate::router::waiting::{Published, Waiting, WaitingChange, WaitingCommand, WaitingDelivery, WaitingItem};
use crate::router::waits::Waiter;

/// The record of this ticket is in the history as `id`, at `time_ms` (milliseconds since the Unix epoch). A duplicate was there
/// before, under this id: it is acknowledged and goes to nobody. Tickets come back in their order.
pub fn handle_appended(realm: &mut Realm, ticket: Ticket, id: EventId, time_ms: u64, is_duplicate: bool) {
    realm.cx.note_time(time_ms);
    let place = Place { id, time_ms };
    realm.reads.note_last(id);
    realm.locks.time_ms = time_ms;
    match append::take(realm, ticket) {
        Some(Waiting::Publication(published)) => place_publication(realm, place, published, is_duplicate),
        Some(Waiting::Item(put)) => place_put(realm, place, &put),
        Some(Waiting::Change(asked)) => place_change(realm, place, asked),
        Some(Waiting::Condition(request)) => locks::take_request(realm, place, request),
        Some(Waiting::Will(session, item)) => wills::place_will(realm, id, session, item),
        Some(Waiting::Command(held)) => release_command(realm, held, Ok(())),
        Some(Waiting::Delivery(said)) => say(realm, said),
        None => {}
    }
    go_on_behind(realm, ticket);
}

/// A ticket has come back. Those who waited for it go on behind all that follows from it.
fn go_on_behind(realm: &mut Realm, ticket: Ticket) {
    for waiter in realm.waits.take(ticket) {
        match waiter {
            Waiter::Client(key, connection) => realm.cx.then(Consequence::Arrive(key, connection)),
            Waiter::Session(key) => answer::owe_less(realm, key),
            Waiter::Left(_) => {}
        }
    }
}

/// A publication has its place.
///
/// 1. Id: it gets that of its place, before anybody else sees it.
/// 2. Value: if it is retained, it is the value of its topic from now on.
/// 3. Receivers: it goes to everybody whose subscriptions cover its topic, or into its queue. A duplicate goes to nobody.
/// 4. Holder: a grant is told its token; a change of the value of a topic that is held makes that void, or is its end.
/// 5. Answer: its publisher is acknowledged.
/// 6. Followers: publications of its session behind it that were not to be stored go out.
/// 7. Next in line: commands of its session that waited go on, then the line of its topic is looked at.
fn place_publication(realm: &mut Realm, place: Place, mut waiting: Published, is_duplicate: bool) {
    let from = append::author(realm, waiting.from);
    if let (Some(key), Acknowledge::ExactlyOnce(id) | Acknowledge::ExactlyOnceAgain(id)) = (from, waiting.acknowledge) {
        deliver::note_session_changed(realm, key);
        if let Some(session) = realm.sessions.at_mut(key) {
            session.inbound.note_placed(id);
        }
    }
    let mut publication = waiting.publication;
    // `Effect::Append` was dropped before this call, so this is the only `Arc` left: nothing is copied.
    Arc::make_mut(&mut publication).id = place.id.into();
    let receivers = match is_duplicate {
        true => Ok(1),
        false if is_put(&publication) => queues::apply_put(realm, place, &publication).map(|()| 1),
        false => Ok(route::publish_ordered(realm, from, waiting.by, &publication, waiting.options.as_deref())),
    };
    let role = std::mem::take(&mut waiting.role);
    if !is_duplicate && (!matches!(role, Role::Plain) || publication.retain && realm.locks.has(&publication.topic)) {
        let acknowledge = (waiting.acknowledge, receivers.is_ok_and(|receivers| receivers > 0));
        let by = By { key: from, session: waiting.origin, connection: waiting.connection };
        waiting.acknowledge = holders::apply_placed(realm, place, &publication, by, role, acknowledge);
    }
    let outcome = receivers.map(|receivers| (place.id.into(), receivers));
    finish_command(realm, waiting.connection, from, waiting.acknowledge, outcome, waiting.followers);
    if publication.retain {
        realm.cx.then(Consequence::Advance(publication.topic.clone()));
    }
}

/// An item that a call put has its place.
fn place_put(realm: &mut Realm, place: Place, put: &WaitingItem) {
    let outcome = queues::apply_put(realm, place, &put.publication);
    if append::author(realm, put.from).is_some() {
        answer::reply(realm, &put.caller, outcome.map_or_else(Reply::from, |()| Reply::Now(vec![place.id.value().into()])));
    }
    answer::finish_change(realm, put.from);
}

fn place_change(realm: &mut Realm, place: Place, change: WaitingChange) {
    let WaitingChange { from, kind, body, caller } = change;
    let author = append::author(realm, from);
    if let Some(key) = author {
        deliver::note_session_changed(realm, key);
    }
    apply_change(realm, place, kind, &body, author, caller);
    answer::finish_change(realm, from);
}

/// The record of this ticket could not be stored: nobody gets it, and its publisher is told why.
pub fn handle_append_refused(realm: &mut Realm, ticket: Ticket, reason: Reason) {
    match append::take(realm, ticket) {
        Some(Waiting::Publication(published)) => refuse_publication(realm, published, reason),
        Some(Waiting::Item(WaitingItem { from, caller, .. })) => refuse_asked(realm, from, Some(caller), reason),
        Some(Waiting::Change(WaitingChange { from, kind, body, caller })) => {
            change_refused(realm, kind, &body, caller.is_some());
            if opens_session(kind, &body) {
                session::refuse_opening(realm, from, reason);
            }
            refuse_asked(realm, from, caller, reason);
        }
        Some(Waiting::Condition(request)) => locks::refuse_untaken(realm, request, reason),
        Some(Waiting::Will(session, _)) => wills::refuse_will(realm, session),
        Some(Waiting::Command(held)) => release_command(realm, held, Err(reason)),
        // A disk that takes nothing is no reason to withhold what others have published; a crash may repeat it.
        Some(Waiting::Delivery(said)) => say(realm, said),
        None => {}
    }
    go_on_behind(realm, ticket);
}

fn refuse_publication(realm: &mut Realm, waiting: Published, reason: Reason) {
    let from = append::author(realm, waiting.from);
    let publication = waiting.publication;
    holders::note_refused(realm, &publication.topic, from, waiting.role, reason);
    finish_command(realm, waiting.connection, from, waiting.acknowledge, Err(reason), waiting.followers);
    if publication.retain {
        realm.cx.then(Consequence::Advance(publication.topic.clone()));
    }
}

/// Tells whoever asked for a change why there is none.
fn refuse_asked(realm: &mut Realm, from: Option<SessionKey>, caller: Option<Caller>, reason: Reason) {
    if let Some(caller) = caller.filter(|_| append::author(realm, from).is_some()) {
        answer::reply(realm, &caller, reason.into());
    }
    answer::finish_change(realm, from);
}

fn finish_command(
    realm: &mut Realm,
    connection: Option<ConnectionId>,
    from: Option<SessionKey>,
    acknowledge: Acknowledge,
    outcome: Result<(PublicationId, usize), Reason>,
    followers: Vec<Follower>,
) {
    if let (Some(connection), Some(key)) = (connection, from) {
        answer::acknowledge(realm, key, connection, acknowledge, outcome);
    }
    follow(realm, from, followers);
}

/// A command is on record, or cannot be.
fn release_command(realm: &mut Realm, held: WaitingCommand, recorded: Result<(), Reason>) {
    let from = append::author(realm, Some(held.from));
    // A connection that has taken the session over has put an end to it, but it is on record, so it is carried out for nobody to
    // hear.
    if let Some(key) = from {
        deliver::note_session_changed(realm, key);
        match recorded {
            Ok(()) => realm.cx.then(Consequence::Carry(key, held.connection, held.command)),
            Err(reason) => refuse_command(realm, key, held.connection, held.command, reason),
        }
    }
    realm.cx.then(Consequence::Follow(from, held.followers));
}

fn refuse_command(realm: &mut Realm, key: SessionKey, connection: ConnectionId, command: Command, reason: Reason) {
    match command {
        Command::Subscribe { request, entries } => {
            let results = entries.iter().map(|_| Err(reason)).collect();
            realm.cx.tell(connection, Delivery::Subscribed(request, results));
        }
        Command::Unsubscribe { request, entries } => {
            let results = entries.iter().map(|_| Err(reason)).collect();
            realm.cx.tell(connection, Delivery::Unsubscribed(request, results));
        }
        // PUBREL has no refusal, and PUBCOMP would be untrue: a restart would take the next use of the id for this one.
        Command::Release(_) => realm.cx.then(Consequence::End(key, reason)),
        command => realm.cx.then(Consequence::Carry(key, connection, command)),
    }
}

/// Publications that came behind a ticket go on.
pub fn follow(realm: &mut Realm, from: Option<SessionKey>, followers: Vec<Follower>) {
    for follower in followers {
        if let Some(session) = from.and_then(|key| realm.sessions.at_mut(key)) {
            session.inbound.note_followed(follower.publication.weight());
        }
        route::publish(realm, from, follower.publication, follower.options.as_deref());
    }
    if let Some(key) = from {
        answer::owe_less(realm, key);
    }
}

/// A step is on record. To a client that has gone it is not said: it is said again when it comes back.
fn say(realm: &mut Realm, said: WaitingDelivery) {
    if let Some(key) = append::author(realm, Some(said.to)) {
        deliver::note_session_changed(realm, key);
        let Some(session) = realm.sessions.at_mut(key) else { return };
        session.saying.note_back();
        if session.connection == Some(said.connection) {
            for delivery in said.deliveries {
                realm.cx.tell(said.connection, delivery);
            }
        }
    }
}

/// A change of state has its place, now or (`from` and `caller` are `None`) in the life of an earlier process.
fn apply_change(realm: &mut Realm, place: Place, kind: Kind, body: &[u8], from: Option<SessionKey>, caller: Option<Caller>) {
    match kind {
        Kind::QUEUE => queues::apply_queue_change(realm, place, body, from, caller),
        Kind::LOCK => locks::apply_lock(realm, place, body, from, caller),
        _ => {}
    }
}

/// A change of state could not be stored; whoever asked for it (`has_caller`) is told by others.
fn change_refused(realm: &mut Realm, kind: Kind, body: &[u8], has_caller: bool) {
    match kind {
        Kind::QUEUE => queues::queue_change_refused(realm, body, has_caller),
        Kind::LOCK => holders::lock_change_refused(realm, body),
        _ => {}
    }
}

/// The process before this one ended at this place in the history, and all its connections with it. Before anything that this
/// process asks for has its place.
pub fn handle_gone(realm: &mut Realm, id: EventId, time_ms: u64) {
    queues::end_earlier_takers(realm, Place { id, time_ms });
    locks::end_earlier_holders(realm, time_ms);
}
