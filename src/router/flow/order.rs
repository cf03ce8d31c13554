//! The order of one session's commands around what it has on its way into the history.
//!
//! A publication that is stored goes on at once, and is answered in its turn. An unacknowledged one follows the stored one before
//! it. Everything else waits until the session owes nothing.
use crate::router::waiting::Waiting;
use bytes::Bytes;

use crate::model::command::{Acknowledge, PublishOptions, SubscribeEntry};
use crate::model::record::Kind;
use crate::model::{Command, ConnectionId, Filter, Publication};
use crate::router::base::codec::encode_record;
use crate::router::base::context::Follower;
use crate::router::base::key::SessionKey;
use crate::router::flow::{append, queues};
use crate::router::queue::is_put;
use crate::router::realm::Realm;
use crate::router::session::entry::Entry;
use crate::router::session::inbound::Turn;
use crate::router::session::record::{Handshake, SubscriptionChange};
use crate::router::waits::Waiter;

/// True for what is judged as a condition.
pub fn is_conditional(options: &Option<Box<PublishOptions>>) -> bool {
    options.as_ref().is_some_and(|options| options.condition.is_some())
}

/// Keeps the order of a session's commands around what it has on its way into the history: returns the command if it can be
/// handled now.
pub fn admit(realm: &mut Realm, key: SessionKey, connection: ConnectionId, command: Command) -> Option<Command> {
    let turn = realm.sessions.at(key).map_or(Turn::Now, |session| session.inbound.turn());
    match (turn, command) {
        (Turn::Now, command) => Some(command),
        // Progress of deliveries is nobody's business but the window's.
        (_, command @ Command::Acknowledge(_)) => Some(command),
        (Turn::Behind(last), Command::Publish { publication, acknowledge, options }) if !is_conditional(&options) => {
            if can_be_stored(realm, key, &publication, acknowledge) {
                return Some(Command::Publish { publication, acknowledge, options });
            }
            let is_follower = acknowledge == Acknowledge::None
                && !append::is_stored(realm, &publication, Acknowledge::None)
                && !publication.topic.is_reserved();
            let session = realm.sessions.at_mut(key)?;
            match realm.tickets.at_mut(last).filter(|_| is_follower).and_then(Waiting::followers) {
                Some(followers) => {
                    session.inbound.note_follower(publication.weight());
                    followers.push(Follower { publication, options });
                }
                // A publication that follows nothing in particular waits for everything.
                None => session.inbound.defer(connection, Command::Publish { publication, acknowledge, options }),
            }
            None
        }
        (_, command) => {
            if let Some(session) = realm.sessions.at_mut(key) {
                session.inbound.defer(connection, command);
            }
            None
        }
    }
}

/// Has a SUBSCRIBE, and all that its session sends after it, wait for the changes of retained values that are on their way. The
/// SUBSCRIBE of a session that stays is on record behind them anyway.
pub fn hold_for_values(realm: &mut Realm, key: SessionKey, command: &Command) {
    let Command::Subscribe { entries, .. } = command else { return };
    let last = entries.iter().filter_map(filter_of).filter_map(|filter| realm.on_the_way.last_under(filter)).max();
    let session = realm.sessions.at_mut(key).filter(|session| !session.is_durable());
    if let (Some(ticket), Some(session)) = (last, session) {
        session.inbound.note_owed();
        realm.waits.push(ticket, Waiter::Session(key));
    }
}

/// The topics whose retained values an entry may ask for.
fn filter_of(entry: &SubscribeEntry) -> Option<&Filter> {
    match entry {
        SubscribeEntry::Topic { filter, .. } | SubscribeEntry::Selected { filter, .. } => Some(filter),
        SubscribeEntry::Procedure { .. } | SubscribeEntry::Refused(_) => None,
    }
}

/// True for a publication that will be stored, without anything to be said about it before.
fn can_be_stored(realm: &Realm, key: SessionKey, publication: &Publication, acknowledge: Acknowledge) -> bool {
    let is_repetition = realm.sessions.at(key).is_some_and(|session| session.inbound.is_repetition(acknowledge));
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
        Command::Release(packet_id) if session.inbound.uses_packet_id(*packet_id) => {
            let packet_id = packet_id.0;
            Some((Kind::HANDSHAKE, encode_record(&Handshake::Released { client, packet_id })))
        }
        _ => None,
    }
}

/// The next of a session's commands that waited, if it need not wait again, with the connection that sent it. All that follows
/// from it is done before the one behind it is asked for.
pub fn next_deferred(realm: &mut Realm, key: SessionKey) -> Option<(ConnectionId, Command)> {
    let session = realm.sessions.at_mut(key)?;
    while let Some((connection, command)) = session.inbound.next_deferred() {
        // A connection that has taken the session over, or ended it, has put an end to these as well.
        if session.is_of(connection) {
            return Some((connection, command));
        }
    }
    if session.inbound.turn() == Turn::Now {
        let settled = session.settled();
        realm.cx.effects.extend(settled);
    }
    None
}
