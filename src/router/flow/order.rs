//! The order of one session's commands around what it has on its way into the history.
//!
//! What is stored goes on at once, and is answered in its turn; an unacknowledged publication follows the stored one before it;
//! everything else waits until the session owes nothing.
use crate::router::waiting::Waiting;
use bytes::Bytes;

use crate::model::command::{Acknowledge, PublishOptions};
use crate::model::record::Kind;
use crate::model::{Command, ConnectionId, Publication};
use crate::router::base::codec::encode_record;
use crate::router::base::context::Follower;
use crate::router::base::key::SessionKey;
use crate::router::flow::{append, queues};
use crate::router::queue::is_put;
use crate::router::realm::Realm;
use crate::router::session::inbound::Probing;
use crate::router::session::record::{Entry, Handshake, SubscriptionChange};

/// True for what is judged as a condition.
pub fn is_conditional(options: &Option<Box<PublishOptions>>) -> bool {
    options.as_ref().is_some_and(|options| options.condition.is_some())
}

/// Keeps the order of a session's commands around what it has on its way into the history: returns the command if it can be
/// handled now.
pub fn admit(realm: &mut Realm, key: SessionKey, connection: ConnectionId, command: Command) -> Option<Command> {
    let owed = realm.sessions.at(key).map(|session| &session.owed).filter(|owed| owed.tickets > 0);
    let Some(owed) = owed else { return Some(command) };
    let is_probing = owed.probing.is_some();
    let can_go_on = owed.deferred.is_empty() && owed.undecided == 0;
    match command {
        // Progress of deliveries is nobody's business but the window's.
        Command::Acknowledge(_) => Some(command),
        command if is_probing => {
            defer(realm, key, connection, command);
            None
        }
        Command::Publish { ref publication, acknowledge, ref options }
            if can_go_on && !is_conditional(options) && can_be_stored(realm, key, publication, acknowledge) =>
        {
            Some(command)
        }
        Command::Publish { publication, acknowledge: Acknowledge::None, options }
            if can_go_on
                && !is_conditional(&options)
                && !append::is_stored(realm, &publication, Acknowledge::None)
                && !publication.topic.is_reserved() =>
        {
            let last = owed.last;
            match realm.tickets.at_mut(last).and_then(Waiting::followers) {
                Some(followers) => followers.push(Follower { publication, options }),
                // It follows nothing in particular: it waits for everything.
                None => defer(realm, key, connection, Command::Publish { publication, acknowledge: Acknowledge::None, options }),
            }
            None
        }
        command => {
            defer(realm, key, connection, command);
            None
        }
    }
}

fn defer(realm: &mut Realm, key: SessionKey, connection: ConnectionId, command: Command) {
    if let Some(session) = realm.sessions.at_mut(key) {
        session.owed.deferred.push_back((connection, command));
    }
}

/// Has everything that the session sends from now on wait for the history's answer to a SUBSCRIBE.
pub fn begin_probe(realm: &mut Realm, key: SessionKey, probing: Probing) {
    if let Some(session) = realm.sessions.at_mut(key) {
        session.owed.tickets += 1;
        session.owed.probing = Some(Box::new(probing));
    }
}

/// Takes that SUBSCRIBE back out.
pub fn end_probe(realm: &mut Realm, key: SessionKey) -> Option<Probing> {
    let owed = &mut realm.sessions.at_mut(key)?.owed;
    let probing = owed.probing.take()?;
    owed.tickets = owed.tickets.saturating_sub(1);
    Some(*probing)
}

/// True for a publication that will be stored, without anything to be said about it before.
fn can_be_stored(realm: &Realm, key: SessionKey, publication: &Publication, acknowledge: Acknowledge) -> bool {
    let is_repetition = match acknowledge {
        Acknowledge::ExactlyOnce(id) | Acknowledge::ExactlyOnceAgain(id) => {
            realm.sessions.at(key).is_some_and(|session| session.unreleased.contains_key(&id))
        }
        _ => false,
    };
    let is_refused = if is_put(publication) {
        queues::check_put(realm, publication).is_err()
    } else {
        append::retained_is_full(realm, publication)
    };
    append::is_stored(realm, publication, acknowledge) && !is_repetition && !is_refused
}

/// The record that a command of a session that stays must be, before it is carried out.
pub fn record_of(realm: &Realm, key: SessionKey, command: &Command) -> Option<(Kind, Bytes)> {
    let session = realm.sessions.at(key).filter(|session| session.is_durable())?;
    let client = session.client_id.clone()?;
    match command {
        Command::Subscribe { entries, .. } => {
            let entries = entries.iter().filter_map(Entry::of_subscribe).collect();
            Some((Kind::SUBSCRIPTION, encode_record(&SubscriptionChange::Subscribed { client, entries })))
        }
        Command::Unsubscribe { entries, .. } => {
            let entries = entries.iter().filter_map(Entry::of_unsubscribe).collect();
            Some((Kind::SUBSCRIPTION, encode_record(&SubscriptionChange::Unsubscribed { client, entries })))
        }
        Command::Release(packet_id) if session.unreleased.contains_key(packet_id) => {
            let packet_id = packet_id.0;
            Some((Kind::HANDSHAKE, encode_record(&Handshake::Released { client, packet_id })))
        }
        _ => None,
    }
}

/// The next of a session's commands that waited, if it need not wait again, with the connection that sent it. What comes of it is done
/// before the one behind it is asked for.
pub fn next_deferred(realm: &mut Realm, key: SessionKey) -> Option<(ConnectionId, Command)> {
    let session = realm.sessions.at_mut(key)?;
    while session.owed.tickets == 0 {
        let Some((connection, command)) = session.owed.deferred.pop_front() else {
            let settled = session.settled();
            realm.cx.effects.extend(settled);
            return None;
        };
        // Whoever has taken the session over, or ended it, has put an end to these as well.
        if session.connection == Some(connection) {
            return Some((connection, command));
        }
    }
    None
}
