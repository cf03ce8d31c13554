//! Requests to the history: places for records, and pages; a session's commands are counted while they wait for it.
use crate::router::base::on_the_way::NextValue;
use crate::router::session::record::HANDSHAKES;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::command::{Acknowledge, PublishOptions};
use crate::model::publication::Publisher;
use crate::model::query::{Query, ReadTicket};
use crate::model::record::{DedupKey, Flags, Kind, StoreRule, Stored, Ticket};
use crate::model::{Command, ConnectionId, Delivery, Item, PacketId, Publication, Qos, Reason, SessionId};
use crate::router::base::effect::{Draft, Effect, ReadForm};
use crate::router::base::key::SessionKey;
use crate::router::base::reads::{Purpose, Reader};
use crate::router::base::reply::Caller;
use crate::router::lock::request::{Request, Role};
use crate::router::queue::is_put;
use crate::router::realm::Realm;
use crate::router::retained::Author;
use crate::router::session::Session;
use crate::router::waiting::{Published, Waiting, WaitingChange, WaitingCommand, WaitingDelivery, WaitingItem};

impl Session {
    /// The effect that tells its connection that nothing it sent is on its way any more, if that is so.
    pub fn settled(&self) -> Option<Effect> {
        self.connection.filter(|_| self.inbound.is_settled()).map(Effect::Settled)
    }
}

/// Expired retained messages taken out before a new one is refused.
const PURGE_STEPS: usize = 1_000;

impl Session {
    /// Owner of the keys that its client chooses. No owner of QoS 2 handshakes has such a name.
    pub fn key_owner(&self) -> String {
        let authid = &self.principal.authid;
        match &self.client_id {
            // MQTT has no NUL in names [MQTT-1.5.4-2].
            Some(client_id) => format!("retry:mqtt:{authid}\0{client_id}"),
            None if *self.principal.authmethod == *"anonymous" => "retry:wamp".to_owned(),
            None => format!("retry:wamp:{authid}"),
        }
    }
}

/// A session has asked for a change of state.
fn note_change(realm: &mut Realm, from: Option<SessionKey>) {
    if let Some(session) = from.and_then(|key| realm.sessions.at_mut(key)) {
        session.inbound.note_change();
    }
}

/// Its publisher, if its session has not ended meanwhile.
pub fn author(realm: &Realm, from: Option<SessionKey>) -> Option<SessionKey> {
    from.filter(|key| realm.sessions.at(*key).is_some())
}

/// An acknowledged publication is in the history before its acknowledgement, unless a rule says otherwise. A retained one is
/// there too, whatever its QoS (MAPPING.md). Those of the router's own names are not, but for items of queues, which always are.
pub fn is_stored(realm: &Realm, publication: &Publication, acknowledge: Acknowledge) -> bool {
    let covers = |rule: &&StoreRule| rule.filter.as_ref().is_none_or(|filter| filter.covers(&publication.topic));
    let rule = realm.store_rules.iter().find(covers);
    let is_wanted = match rule.map_or(Stored::Acknowledged, |rule| rule.stored) {
        Stored::Acknowledged => acknowledge != Acknowledge::None || publication.qos > Qos::AtMostOnce || publication.retain,
        Stored::All => true,
        Stored::Retained => publication.retain,
    };
    (is_wanted && !publication.topic.is_reserved()) || is_put(publication)
}

/// Sends a publication on its way into the history.
pub fn append(
    realm: &mut Realm,
    from: Option<SessionKey>,
    connection: Option<ConnectionId>,
    publication: Arc<Publication>,
    acknowledge: Acknowledge,
    options: Option<Box<PublishOptions>>,
) {
    let waiting = Published { connection, acknowledge, options, ..Published::own(publication, Role::Plain) };
    if let Some(session) = from.and_then(|key| realm.sessions.at_mut(key)) {
        session.inbound.note_owed();
    }
    append_published(realm, from, waiting);
}

/// Publishes a will. All that is asked for under one key is published once.
pub fn append_last(realm: &mut Realm, from: Option<SessionKey>, publication: Arc<Publication>, key: Option<Box<DedupKey>>) {
    if let Some(session) = from.and_then(|key| realm.sessions.at_mut(key)) {
        session.inbound.note_owed();
    }
    append_published(realm, from, Published { key, ..Published::own(publication, Role::Plain) });
}

/// The same, counted as owed already.
pub fn append_published(realm: &mut Realm, from: Option<SessionKey>, mut waiting: Published) {
    let is_disclosed = waiting.options.as_deref().is_some_and(|options| options.disclose_me);
    let author = from.and_then(|key| disclosed(realm, key));
    // The gate made it for this command and holds it no more: nothing is copied.
    Arc::make_mut(&mut waiting.publication).publisher = author.clone().filter(|_| is_disclosed);
    waiting.from = from;
    waiting.origin = author.as_ref().map(|author| author.session);
    waiting.by = from.filter(|_| waiting.publication.retain).and_then(|key| author_of(realm, key));
    let flags = flags_of(realm, from, &waiting);
    let dedup = waiting.key.take().map(|key| *key).or_else(|| dedup_key(realm, from, &waiting));
    // An item that is put into a queue is no event for readers of history.
    let kind = if is_put(&waiting.publication) { Kind::QUEUE } else { Kind::PUBLICATION };
    let draft = Draft { flags, dedup, ..Draft::publication(kind, waiting.publication.clone(), author) };
    let ticket = send(realm, Waiting::Publication(waiting), draft);
    if let Some(session) = from.and_then(|key| realm.sessions.at_mut(key)) {
        session.inbound.note_sent(ticket);
    }
}

/// Asks for the place of a record; `waiting` is what comes of it.
fn send(realm: &mut Realm, waiting: Waiting, draft: Draft) -> Ticket {
    if let Waiting::Publication(Published { publication, origin, connection, .. }) = &waiting
        && publication.retain
    {
        let (ticket, publication) = (realm.tickets.next(), publication.clone());
        realm.on_the_way.push(NextValue { ticket, publication, by: *origin, connection: *connection });
    }
    let ticket = realm.tickets.push(waiting);
    realm.cx.effects.push_back(Effect::Append(ticket, draft));
    ticket
}

/// Takes out what comes of a ticket that has come back.
pub fn take(realm: &mut Realm, ticket: Ticket) -> Option<Waiting> {
    let waiting = realm.tickets.take(ticket)?;
    if let Waiting::Publication(published) = &waiting
        && published.publication.retain
    {
        realm.on_the_way.pop(&published.publication.topic);
    }
    Some(waiting)
}

/// Has a command of a session recorded, and then carried out.
pub fn append_command(realm: &mut Realm, key: SessionKey, connection: ConnectionId, command: Command, kind: Kind, body: Bytes) {
    let Some(author) = disclosed(realm, key) else { return };
    let held = WaitingCommand { from: key, connection, command, followers: Vec::new() };
    let ticket = send(realm, Waiting::Command(held), Draft::change(kind, body, Some(author)));
    if let Some(session) = realm.sessions.at_mut(key) {
        session.inbound.note_owed();
        session.inbound.note_sent(ticket);
    }
}

/// Has something recorded, and then said.
pub fn append_delivery(
    realm: &mut Realm,
    key: SessionKey,
    connection: ConnectionId,
    delivery: Delivery,
    kind: Kind,
    body: Bytes,
) {
    let said = WaitingDelivery { to: key, connection, deliveries: vec![delivery] };
    let ticket = send(realm, Waiting::Delivery(said), Draft::change(kind, body, None));
    if let Some(session) = realm.sessions.at_mut(key) {
        session.saying.note_sent(ticket);
    }
}

fn flags_of(realm: &Realm, from: Option<SessionKey>, waiting: &Published) -> Flags {
    let (publication, options) = (&waiting.publication, waiting.options.as_deref());
    Flags::of([
        (publication.retain, Flags::RETAIN),
        (matches!(waiting.role, Role::Granted(_)), Flags::CONDITIONAL),
        (publication.publisher.is_some(), Flags::DISCLOSED),
        (publication.readers.is_some(), Flags::RESTRICTED),
        (is_kept_from_publisher(realm, from, options), Flags::NOT_TO_ITSELF),
    ])
}

/// Sends an item that a call puts into a queue on its way into the history. The item holds up nothing else of the session.
pub fn append_put(realm: &mut Realm, key: SessionKey, publication: Arc<Publication>, caller: Caller) {
    let author = disclosed(realm, key);
    let from = Some(key);
    note_change(realm, from);
    let draft = Draft::publication(Kind::QUEUE, publication.clone(), author);
    send(realm, Waiting::Item(WaitingItem { from, publication, caller }), draft);
}

/// Sends a condition on its way into the history, as the record `body`: [`super::locks::take_request`] when it has its place.
pub fn append_request(realm: &mut Realm, key: SessionKey, body: Bytes, request: Box<Request>) {
    let draft = Draft { flags: Flags::CONDITIONAL, ..Draft::change(Kind::LOCK, body, disclosed(realm, key)) };
    send(realm, Waiting::Condition(request), draft);
    if let Some(session) = realm.sessions.at_mut(key) {
        session.inbound.note_condition();
    }
}

/// Sends a change of a session's will on its way into the history; `None`: there is no will any more.
pub fn append_will(realm: &mut Realm, session: SessionId, item: Option<Item>, draft: Draft) {
    send(realm, Waiting::Will(session, item.map(Box::new)), draft);
}

/// Sends a change of state on its way into the history, to be applied when it has its place. The change does not hold up other
/// commands of the session. Changes keep their order among each other and with publications.
pub fn append_change(realm: &mut Realm, from: Option<SessionKey>, kind: Kind, body: Bytes, caller: Option<Caller>) {
    let author = from.and_then(|key| disclosed(realm, key));
    note_change(realm, from);
    let draft = Draft::change(kind, body.clone(), author);
    send(realm, Waiting::Change(WaitingChange { from, kind, body, caller }), draft);
}

/// True for what only takes the place of the value before: nobody will get it any more.
pub fn is_nothing(realm: &Realm, publication: &Publication) -> bool {
    publication.payload.is_empty() || publication.is_expired(realm.cx.now_ms)
}

/// The author of the messages that this session retains.
pub fn author_of(realm: &Realm, key: SessionKey) -> Option<Author> {
    realm.sessions.at(key)?.client_id.as_deref().map(Author::of)
}

/// Refuses a publication that would be retained above the bounds. Those on their way into the history are not counted: the bounds
/// of that way bound the excess.
pub fn make_room_for(realm: &mut Realm, publication: &Publication) -> Result<(), Reason> {
    if retained_is_full(realm, publication) {
        realm.retained.purge_expired(realm.cx.now_ms, PURGE_STEPS);
    }
    if retained_is_full(realm, publication) { Err(Reason::QuotaExceeded) } else { Ok(()) }
}

pub fn retained_is_full(realm: &Realm, publication: &Publication) -> bool {
    if !publication.retain || is_nothing(realm, publication) {
        return false;
    }
    let earlier = realm.retained.find(&publication.topic, realm.cx.now_ms);
    let bytes = realm.retained.bytes() - earlier.map_or(0, |earlier| earlier.weight()) + publication.weight();
    bytes > realm.cx.limits.max_retained_bytes || (earlier.is_none() && realm.retained.len() >= realm.cx.limits.max_retained)
}

/// The identity that others may see of a session.
pub fn disclosed(realm: &Realm, key: SessionKey) -> Option<Publisher> {
    realm.sessions.at(key).map(|session| Publisher { session: session.id, principal: session.principal.clone() })
}

/// WAMP: Advanced, Publisher Exclusion; MQTT has No Local for it.
pub fn is_kept_from_publisher(realm: &Realm, from: Option<SessionKey>, options: Option<&PublishOptions>) -> bool {
    let is_wamp = || from.and_then(|key| realm.sessions.at(key)).is_some_and(|session| !session.protocol.is_mqtt());
    options.map_or_else(is_wamp, |options| options.exclude_me)
}

/// The key by which a publication that comes again is recognized: the one that its client chose, else its QoS 2 handshake.
///
/// Where a QoS 2 publication has a key, a restart forgets its packet id. Sent again, it has the same key: it is answered and
/// goes to nobody. Its PUBREL is answered 0x92, which "is not an error during recovery" (3.7.2.1).
pub fn dedup_key(realm: &mut Realm, from: Option<SessionKey>, waiting: &Published) -> Option<DedupKey> {
    let key = from?;
    if let Some(chosen) = waiting.options.as_deref().and_then(|options| options.dedup.as_deref()) {
        let owner = realm.sessions.at(key)?.key_owner().into();
        return Some(DedupKey { owner, key: chosen.to_owned().into() });
    }
    match waiting.acknowledge {
        Acknowledge::ExactlyOnce(id) | Acknowledge::ExactlyOnceAgain(id) => handshake_key(realm, key, id),
        _ => None,
    }
}

/// The key that recognizes a QoS 2 publication after a restart: client, packet id, number of the use in its session, and session.
/// Keys outlive sessions, and each session counts its uses anew.
pub fn handshake_key(realm: &mut Realm, key: SessionKey, packet_id: PacketId) -> Option<DedupKey> {
    let session = realm.sessions.at_mut(key).filter(|session| session.is_durable())?;
    let uses = session.inbound.count_use();
    let mut key = packet_id.value().to_le_bytes().to_vec();
    key.extend_from_slice(&uses.to_le_bytes());
    key.extend_from_slice(&session.id.0.to_le_bytes());
    Some(DedupKey { owner: format!("{HANDSHAKES}{}", session.client_id.as_deref()?).into(), key: key.into() })
}

/// Asks for a page on behalf of a session; nothing behind the last event of the realm will be on it.
pub fn read(realm: &mut Realm, key: SessionKey, purpose: Purpose, mut query: Query, form: ReadForm) -> Option<ReadTicket> {
    realm.sessions.at(key)?;
    match realm.reads.last_id() {
        Some(last) => query.before = [query.before, last.next()].into_iter().flatten().min(),
        None => query.from_ms = Some(u64::MAX),
    }
    let ticket = realm.reads.push(Reader { session: key, purpose });
    realm.cx.effects.push_back(Effect::Read(ticket, Box::new(query), form));
    Some(ticket)
}
