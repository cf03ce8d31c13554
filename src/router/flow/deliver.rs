//! One event to one session: at once, into its window, behind what is not on record yet, or nowhere.
use std::sync::Arc;

use crate::model::command::SubscribeOptions;
use crate::model::delivery::Event;
use crate::model::record::Kind;
use crate::model::{ConnectionId, Delivery, PacketId, Publication, Qos, Reason, SubscriptionId};
use crate::router::base::catching::LiveTurn;
use crate::router::base::codec::encode_record;
use crate::router::base::key::{SelectionKey, SessionKey};
use crate::router::base::passage::{Passage, Source};
use crate::router::broker::selection::ParsedBody;
use crate::router::flow::append;
use crate::router::realm::Realm;
use crate::router::session::record::Handshake;
use crate::router::session::window::{Inflight, Offered, Outgoing};
use crate::router::session::{Session, Subscribed};
use crate::router::waiting::Waiting;

/// Says something to a session behind what it is told next, if that is not on record yet: events keep their order
/// [MQTT-4.6.0-6].
pub fn say_behind(realm: &mut Realm, key: SessionKey, connection: ConnectionId, delivery: Delivery) {
    let last = realm.sessions.at(key).and_then(|session| session.saying.last());
    match last.and_then(|last| realm.tickets.at_mut(last)) {
        Some(Waiting::Delivery(said)) if said.connection == connection => said.deliveries.push(delivery),
        _ => realm.cx.tell(connection, delivery),
    }
}

/// A publisher that subscribes with No Local: only its other subscriptions count [MQTT-3.8.3-3].
pub fn deliver_own(realm: &mut Realm, key: SessionKey, publication: &Arc<Publication>, source: Source) -> usize {
    let Some(session) = realm.sessions.at(key).filter(|session| admits(session, publication)) else { return 0 };
    let mut merged: Option<Passage> = None;
    for ((filter, share), Subscribed { options, .. }) in &session.subscriptions {
        let is_selected = session.selections.contains_key(filter);
        if share.is_some() || is_selected || options.no_local || !filter.covers(&publication.topic) {
            continue;
        }
        let retain = options.retain_as_published && publication.retain;
        let passage = Passage::of(*options, filter, session.protocol, SubscriptionId(0));
        Passage::merge(&mut merged, Passage { retain, source, ..passage });
    }
    let Some(passage) = merged else { return 0 };
    deliver_to(realm, key, publication, passage);
    1
}

/// One event on its way to one session [MQTT-4.5.0-1]: at once, into its window (where it waits if the client is away,
/// 3.1.1: [MQTT-3.1.2-5]), or nowhere if it is away and took QoS 0.
pub fn deliver_to(realm: &mut Realm, key: SessionKey, publication: &Arc<Publication>, passage: Passage) -> Offered {
    if matches!(passage.source, Source::Shared(_)) {
        note_session_changed(realm, key);
    }
    let Some(session) = realm.sessions.at_mut(key) else { return Offered::Dropped };
    let qos = publication.qos.min(passage.qos); // [MQTT-3.8.4-8], [MQTT-4.8.2-3]
    let Passage { retain, by_pattern, subscriptions, source, .. } = passage;
    let connection = session.connection;
    let offered = if qos == Qos::AtMostOnce {
        // QoS 0 goes out whatever the window holds [MQTT-3.3.4-10].
        let publication = publication.clone();
        Offered::Now(Event { publication, qos, retain, duplicate: false, by_pattern, packet_id: None, subscriptions })
    } else {
        // At the start of the process, sessions whose client had not left may have been sent it. That is so for shared
        // subscriptions; the rest is read again. A QoS 2 delivery that was sent is on record with its packet id.
        let again = session.is_replayed && session.left_ms.is_none() && qos == Qos::AtLeastOnce;
        let owed = Outgoing { publication: publication.clone(), qos, retain, subscriptions, source, claim: None, again };
        session.put_in_line(owed, &realm.cx.limits)
    };
    match (offered, connection) {
        (Offered::Now(event), Some(connection)) => {
            send_event(realm, key, connection, event);
            Offered::Waits
        }
        (Offered::Now(event), None) => Offered::Now(event),
        (offered, _) => offered,
    }
}

/// One member of a share group gets it: in turn among those that are connected and have room, else whoever has room first.
pub fn deliver_shared(realm: &mut Realm, group_key: u32, publication: &Arc<Publication>) -> bool {
    let Some((session, options)) = pick_member(realm, group_key, publication, publication.qos) else { return false };
    let retain = options.retain_as_published && publication.retain;
    deal(realm, group_key, session, options, (publication, retain));
    true
}

/// An event that a member of a share group has no room for goes to the first member that has.
fn note_behind(realm: &mut Realm, group: u32, member: SessionKey) {
    if realm.sessions.at(member).is_some_and(|session| session.inflight.waiting() > 0) {
        realm.broker.note_behind(group, true);
    }
}

/// True if this session can be sent the next thing at once.
fn has_room(realm: &Realm, key: SessionKey) -> bool {
    realm.sessions.at(key).is_some_and(|session| session.connection.is_some() && session.inflight.is_next(&realm.cx.limits))
}

/// A member that has room gets what waits in the lines of others of its share groups, the oldest first: a client that hangs holds up
/// nothing that it was not sent.
pub fn take_from_fellows(realm: &mut Realm, key: SessionKey) {
    if !realm.broker.is_any_behind() || !has_room(realm, key) {
        return;
    }
    let Some(session) = realm.sessions.at(key) else { return };
    let shared = session.subscriptions.iter().filter_map(|((filter, share), subscribed)| {
        Some((realm.broker.group_of(filter, share.as_deref()?)?, subscribed.options))
    });
    for (group, options) in shared.collect::<Vec<_>>() {
        while has_room(realm, key)
            && let Some(owed) = take_waiting(realm, group, key)
        {
            deal(realm, group, key, options, (&owed.publication, owed.retain));
        }
    }
}

/// Takes the oldest event out of the lines of a share group that this member may receive.
fn take_waiting(realm: &mut Realm, group: u32, key: SessionKey) -> Option<Outgoing> {
    let mut oldest: Option<(u64, SessionKey)> = None;
    let mut is_behind = false;
    for member in realm.broker.members_behind(group) {
        let Some(owed) = realm.sessions.at(member).and_then(|session| session.inflight.first_waiting(group)) else { continue };
        is_behind = true;
        let may_receive = realm.sessions.at(key).is_some_and(|session| admits(session, &owed.publication));
        let waiting = (owed.publication.id.0, member);
        if may_receive && oldest.is_none_or(|oldest| waiting < oldest) {
            oldest = Some(waiting);
        }
    }
    realm.broker.note_behind(group, is_behind);
    let (_, member) = oldest?;
    note_session_changed(realm, member);
    realm.sessions.at_mut(member)?.inflight.take_first_waiting(group)
}

/// The connection of a member has ended: what it has not acknowledged goes to those that are connected, but for QoS 2 that was sent
/// [MQTT-4.8.2-5].
pub fn give_to_fellows(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at(key) else { return };
    let groups = session.inflight.shared().filter_map(|(_, owed)| match owed.source {
        Source::Shared(group) => Some(group),
        _ => None,
    });
    let mut groups: Vec<u32> = groups.collect();
    groups.sort_unstable();
    groups.dedup();
    let is_connected = |member: &SessionKey| realm.sessions.at(*member).is_some_and(|session| session.connection.is_some());
    groups.retain(|group| {
        realm.broker.group_mut(*group).is_some_and(|group| group.members.iter().any(|(member, _)| is_connected(member)))
    });
    if groups.is_empty() {
        return;
    }
    note_session_changed(realm, key);
    let session = realm.sessions.at_mut(key);
    let taken = session.map_or(Vec::new(), |session| session.inflight.take_shared(|group| groups.contains(&group)));
    for (group, owed) in taken {
        deal_in_turn(realm, group, &owed);
    }
}

/// Gives a member of a share group a publication, with RETAIN as it is said, in its turn or in place of another member.
fn deal(
    realm: &mut Realm,
    group: u32,
    member: SessionKey,
    options: SubscribeOptions,
    (publication, retain): (&Arc<Publication>, bool),
) {
    let subscriptions = options.identifier.map(u64::from).into_iter().collect(); // [MQTT-3.3.4-5]
    let passage = Passage { qos: options.qos, retain, by_pattern: true, subscriptions, source: Source::Shared(group) };
    deliver_to(realm, member, publication, passage);
    note_behind(realm, group, member);
}

/// The same, to the member whose turn it is.
fn deal_in_turn(realm: &mut Realm, group: u32, owed: &Outgoing) {
    if let Some((member, options)) = pick_member(realm, group, &owed.publication, owed.qos) {
        deal(realm, group, member, options, (&owed.publication, owed.retain));
    }
}

/// The member that is next in turn for this publication, delivered with `qos` at the most.
pub fn pick_member(
    realm: &mut Realm,
    group_key: u32,
    publication: &Publication,
    qos: Qos,
) -> Option<(SessionKey, SubscribeOptions)> {
    let group = realm.broker.group_mut(group_key)?;
    let count = group.members.len();
    let turn = group.turn;
    let at = |step: usize| (turn + step) % count.max(1);
    let member = |index: &usize| group.members.get(*index).and_then(|(key, _)| realm.sessions.at(*key));
    let is_admitted = |index: &usize| member(index).is_some_and(|session| admits(session, publication));
    let is_connected = |index: &usize| member(index).is_some_and(|session| session.connection.is_some());
    let limits = &realm.cx.limits;
    // Waiting events stand in one line, as far as it has room, so that they go out in their order.
    let has_line =
        |index: &usize| member(index).is_some_and(|session| session.inflight.has_line(group_key, publication.weight(), limits));
    let has_room = |index: &usize| is_connected(index) && member(index).is_some_and(|session| session.inflight.is_next(limits));
    // Nobody keeps what a member takes with QoS 0 while it is away.
    let keeps = |index: &usize| {
        let granted = group.members.get(*index).map(|(_, options)| options.qos);
        granted.is_some_and(|granted| granted.min(qos) > Qos::AtMostOnce)
    };
    let admitted = || (0..count).map(at).filter(is_admitted);
    let goes_at_once = |index: &usize| if keeps(index) { has_room(index) } else { is_connected(index) };
    let waits = || admitted().find(has_line).or_else(|| admitted().find(is_connected)).or_else(|| admitted().find(keeps));
    let index = admitted().find(goes_at_once).or_else(waits)?;
    group.turn = index + 1;
    group.members.get(index).copied()
}

/// True if this session may receive the publication: asked wherever one is sent, live or read again.
pub fn admits(session: &Session, publication: &Publication) -> bool {
    publication.readers.as_ref().is_none_or(|readers| readers.admit(session.id, &session.principal))
}

/// Deliveries that its share groups still owe, but for QoS 2 that has begun [MQTT-4.8.2-5], go to their other members.
pub fn redistribute(realm: &mut Realm, inflight: Inflight) {
    for (group, owed) in inflight.into_shared() {
        deal_in_turn(realm, group, &owed);
    }
}

/// A live publication for a selective subscription; true if it gets it, now or in its turn. `is_history`: it can be read there.
pub fn deliver_selected(
    realm: &mut Realm,
    selection: SelectionKey,
    publication: &Arc<Publication>,
    is_history: bool,
    body: &mut ParsedBody,
) -> bool {
    let to_args = realm.to_args;
    let Some(selected) = realm.selections.get_mut(selection as usize) else { return false };
    if selected.is_snapshot || !selected.wants(publication, body, to_args) {
        return false;
    }
    let id = publication.id.event().filter(|_| is_history);
    let catching = selected.catching.as_mut();
    match catching.map_or(LiveTurn::Now, |catching| catching.turn_of(id, publication.weight(), || publication.clone())) {
        LiveTurn::Now => {
            let source = if publication.id.event().is_some() { Source::Live } else { Source::Other };
            pass(realm, selection, publication, source);
        }
        LiveTurn::Later => {}
    }
    true
}

/// True if the pattern of this subscription, if it has one, fits.
pub fn is_wanted(realm: &Realm, selection: SelectionKey, publication: &Publication) -> bool {
    let selected = realm.selections.get(selection as usize);
    selected.is_some_and(|selected| selected.wants(publication, &mut ParsedBody::default(), realm.to_args))
}

/// Sends an event through a selective subscription.
pub fn pass(realm: &mut Realm, selection: SelectionKey, publication: &Arc<Publication>, source: Source) {
    if let Some((key, passage)) = passage_through(realm, selection, publication, source) {
        deliver_to(realm, key, publication, passage);
    }
}

/// The passage of an event through a selective subscription, and its session.
pub fn passage_through(
    realm: &Realm,
    selection: SelectionKey,
    publication: &Publication,
    source: Source,
) -> Option<(SessionKey, Passage)> {
    let selected = realm.selections.get(selection as usize)?;
    let session = realm.sessions.at(selected.session)?;
    let passage = Passage::of(selected.options, &selected.filter, session.protocol, selected.subscription);
    let retain = selected.options.retain_as_published && publication.retain;
    Some((selected.session, Passage { retain, source, ..passage }))
}

/// Sends an event; the packet id of QoS 2 is on record before, so that no other process gives it to another event.
pub fn send_event(realm: &mut Realm, key: SessionKey, connection: ConnectionId, event: Event) {
    let session = realm.sessions.at(key).filter(|session| session.is_recorded);
    // A repetition has its record, unless that is on its way still, or was at the end of the process before.
    let is_on_record = event.duplicate && session.is_some_and(has_records);
    let Some(client) = session.and_then(|session| session.client_id.clone()) else {
        return realm.cx.tell(connection, Delivery::Event(event));
    };
    match event.packet_id.filter(|_| event.qos == Qos::ExactlyOnce && !is_on_record) {
        Some(PacketId(packet_id)) => {
            let source = session.and_then(|session| session.inflight.source_of(PacketId(packet_id)));
            let (is_shared, is_replayed) = (matches!(source, Some(Source::Shared(_))), source == Some(Source::Replayed));
            let step = Handshake::Sent { client, packet_id, event: event.publication.id.0, is_shared, is_replayed };
            append::append_delivery(realm, key, connection, Delivery::Event(event), Kind::HANDSHAKE, encode_record(&step));
        }
        None => say_behind(realm, key, connection, Delivery::Event(event)),
    }
}

/// Sends PUBREL; that PUBREC has come is on record before.
pub fn send_release(realm: &mut Realm, key: SessionKey, connection: ConnectionId, id: PacketId, known: Result<(), Reason>) {
    let session = realm.sessions.at(key).filter(|session| session.is_recorded && known.is_ok());
    let delivery = Delivery::Release(id, known);
    match session.and_then(|session| session.client_id.clone()) {
        Some(client) => {
            let step = Handshake::Received { client, packet_id: id.0 };
            append::append_delivery(realm, key, connection, delivery, Kind::HANDSHAKE, encode_record(&step));
        }
        None => realm.cx.tell(connection, delivery),
    }
}

/// Sends PUBREL once more, to a client that came back; where the PUBREC may not be on record, behind its record.
pub fn repeat_release(realm: &mut Realm, key: SessionKey, connection: ConnectionId, id: PacketId) {
    if realm.sessions.at(key).is_some_and(has_records) {
        realm.cx.tell(connection, Delivery::Release(id, Ok(())));
    } else {
        send_release(realm, key, connection, id, Ok(()));
    }
}

/// True if the steps of QoS 2 that a session has taken are on record.
fn has_records(session: &Session) -> bool {
    session.saying.last().is_none() && !session.is_from_piece
}

/// A record of this session has its place, or what it leaves has.
pub fn note_session_changed(realm: &mut Realm, key: SessionKey) {
    let Some(session) = realm.sessions.at_mut(key).filter(|session| session.is_recorded) else { return };
    if !session.is_piece_changed() {
        realm.changes.note_session();
    }
    session.is_changed = true;
}
