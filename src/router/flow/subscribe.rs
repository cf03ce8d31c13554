//! SUBSCRIBE and UNSUBSCRIBE, entry by entry; one that asks for past events waits until it is known whether they are kept.
use crate::model::command::{
    CalleeForm, Past, RegisterOptions, RetainHandling, Selection, SubscribeEntry, SubscribeOptions, UnsubscribeEntry,
};
use crate::model::delivery::Granted;
use crate::model::query::Query;
use crate::model::reason::MustBe;
use crate::model::record::Kind;
use crate::model::{ConnectionId, Delivery, EventId, Filter, Qos, Reason, RegistrationId, RequestId, SubscriptionId};
use crate::router::base::codec::encode_record;
use crate::router::base::context::Consequence;
use crate::router::base::effect::ReadForm;
use crate::router::base::key::{SelectionKey, SessionKey};
use crate::router::base::reads::Purpose;
use crate::router::flow::queues::queue_named;
use crate::router::flow::replay::is_private_filter;
use crate::router::flow::{append, queues, replay, window};
use crate::router::realm::Realm;
use crate::router::session::Subscribed;
use crate::router::session::entry::Entry;
use crate::router::session::inbound::Probing;
use crate::router::session::record::SubscriptionChange;

/// A replay owed after the answer: SUBACK comes first.
#[derive(Debug)]
pub enum OwedReplay {
    Retained(Filter, SubscriptionId, SubscribeOptions),
    Past(Filter, SelectionKey, Option<Entry>),
}

impl OwedReplay {
    /// True if it is owed to a session that stays, whatever becomes of the connection.
    pub fn is_lasting(&self) -> bool {
        match self {
            OwedReplay::Retained(_, _, options) => options.qos > Qos::AtMostOnce,
            OwedReplay::Past(_, _, entry) => entry.as_ref().is_some_and(|entry| entry.qos > 0),
        }
    }
}

fn past_of(entry: &SubscribeEntry) -> Option<Past> {
    match entry {
        SubscribeEntry::Selected { selection, .. } => selection.past,
        _ => None,
    }
}

/// The event that is asked for first, where that is said.
fn first_of(past: Past) -> Option<EventId> {
    match past {
        Past::After(after) => after,
        Past::Last(_) => None,
    }
}

pub fn subscribe(realm: &mut Realm, key: SessionKey, connection: ConnectionId, request: RequestId, entries: Vec<SubscribeEntry>) {
    let mut pasts = entries.iter().filter_map(past_of).peekable();
    if pasts.peek().is_none() {
        return subscribe_all(realm, key, connection, request, entries, Ok(()));
    }
    // The oldest event that anybody asks for.
    let after = pasts.filter_map(first_of).min();
    let since = realm.reads.last_id().map_or(0, EventId::value);
    if let Some(session) = realm.sessions.at_mut(key) {
        session.inbound.begin_probe(Probing { connection, request, entries, since });
    }
    append::read(realm, key, Purpose::Probe, Query { after, limit: 1, ..Query::new("") }, ReadForm::Stored);
}

/// The history has answered: what a SUBSCRIBE asks for is there, or why not.
pub fn handle_probe(realm: &mut Realm, key: SessionKey, outcome: Result<(), Reason>) {
    let Some(Probing { connection, request, entries, .. }) =
        realm.sessions.at_mut(key).and_then(|session| session.inbound.end_probe())
    else {
        return;
    };
    if realm.sessions.at(key).is_some_and(|session| session.connection == Some(connection)) {
        subscribe_all(realm, key, connection, request, entries, outcome);
    }
    if let Some(session) = realm.sessions.at_mut(key) {
        session.inbound.note_answered();
    }
    realm.cx.then(Consequence::Continue(key));
}

fn subscribe_all(
    realm: &mut Realm,
    key: SessionKey,
    connection: ConnectionId,
    request: RequestId,
    entries: Vec<SubscribeEntry>,
    history: Result<(), Reason>,
) {
    let mut replays = Vec::new();
    let refusable = if history.is_err() { entries.iter().map(Entry::of_subscribe).collect() } else { Vec::new() };
    let results: Vec<Result<Granted, Reason>> = entries
        .into_iter()
        .map(|entry| match entry {
            SubscribeEntry::Topic { filter, share, options } => subscribe_topic(realm, key, filter, share, options, &mut replays),
            SubscribeEntry::Selected { filter, options, selection } => {
                subscribe_selected(realm, key, filter, options, *selection, history, &mut replays)
            }
            SubscribeEntry::Procedure { filter, options } => register(realm, key, filter, options),
            SubscribeEntry::Refused(reason) => Err(reason),
        })
        .collect();
    record_refused(realm, key, refusable, &results);
    realm.cx.tell(connection, Delivery::Subscribed(request, results));
    start_replays(realm, key, replays);
    // A new member of a share group has room.
    window::go_on(realm, key);
}

/// The history has refused some of what is on record as subscribed.
fn record_refused(realm: &mut Realm, key: SessionKey, entries: Vec<Option<Entry>>, results: &[Result<Granted, Reason>]) {
    let Some(session) = realm.sessions.at(key).filter(|session| session.is_durable()) else { return };
    let is_there = |entry: &Entry| session.subscriptions.keys().any(|(filter, _)| filter.as_mqtt() == Some(&entry.filter));
    let refused = entries.into_iter().zip(results).filter(|(_, result)| result.is_err()).filter_map(|(entry, _)| entry);
    let entries: Vec<Entry> = refused.filter(|entry| !is_there(entry)).collect();
    if let Some(client) = session.client_id.clone().filter(|_| !entries.is_empty()) {
        let body = encode_record(&SubscriptionChange::Unsubscribed { client, entries });
        append::append_change(realm, Some(key), Kind::SUBSCRIPTION, body, None);
    }
}

pub fn start_replays(realm: &mut Realm, key: SessionKey, replays: Vec<OwedReplay>) {
    for replay in replays {
        match replay {
            OwedReplay::Retained(filter, subscription, options) => {
                replay::start_replay(realm, key, &filter, subscription, options)
            }
            OwedReplay::Past(filter, selection, entry) => replay::start_past(realm, key, &filter, selection, entry),
        }
    }
}

pub fn subscribe_selected(
    realm: &mut Realm,
    key: SessionKey,
    filter: Filter,
    mut options: SubscribeOptions,
    selection: Selection,
    history: Result<(), Reason>,
    replays: &mut Vec<OwedReplay>,
) -> Result<Granted, Reason> {
    if is_private_filter(&filter) {
        return Err(Reason::WrongValue("after", MustBe::OfTopics));
    }
    if let Some(past) = selection.past {
        check_past(realm, past, history)?;
        options.retain_handling = RetainHandling::Never;
    } else if selection.is_snapshot {
        options.retain_handling = RetainHandling::Always;
    }
    let has_past = selection.past.is_some();
    let entry = Entry::of_selected(&filter, &options, &selection);
    let mut retained = Vec::new();
    let granted = subscribe_topic(realm, key, filter.clone(), None, options, &mut retained)?;
    if has_past {
        // The replay that comes first is all that there is: an earlier subscription's place in the history is over.
        let last = realm.reads.last_id().map_or(0, EventId::value);
        let session = realm.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
        let since = session.inbound.asked_behind().unwrap_or(last);
        session.subscriptions.insert((filter.clone(), None), Subscribed { options, since, had: 0 });
    }
    if let Granted::Subscription(id, _) = granted {
        let selection = replay::select(realm, key, id, &filter, options, selection);
        replays.extend(has_past.then_some(OwedReplay::Past(filter, selection, entry)));
    }
    replays.append(&mut retained);
    Ok(granted)
}

/// The event asked for must be in the history, and not ahead of it. An id ahead of it is that of another realm, or of another
/// time.
fn check_past(realm: &Realm, past: Past, history: Result<(), Reason>) -> Result<(), Reason> {
    let after = first_of(past);
    match history {
        // Others of the same SUBSCRIBE may ask for less.
        Err(Reason::HistoryTooOld(oldest)) if after.is_none_or(|after| after.next() >= Some(oldest)) => {}
        history => history?,
    }
    if after > realm.reads.last_id() { Err(Reason::WrongValue("after", MustBe::KnownEvent)) } else { Ok(()) }
}

pub fn subscribe_topic(
    realm: &mut Realm,
    key: SessionKey,
    filter: Filter,
    share: Option<Box<str>>,
    options: SubscribeOptions,
    replays: &mut Vec<OwedReplay>,
) -> Result<Granted, Reason> {
    let is_wildcard = !matches!(filter, Filter::Exact(_));
    let last = realm.reads.last_id().map_or(0, EventId::value);
    let name = (filter, share);
    let session = realm.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
    let last = session.inbound.asked_behind().unwrap_or(last);
    if let Some(root) = name.0.root().filter(|root| !root.is_heard(&name.0, session.protocol.is_mqtt())) {
        return Err(Reason::ReservedName(root));
    }
    if is_private_filter(&name.0) && session.protocol.is_mqtt() {
        session.private.retain(|(filter, _)| *filter != name.0);
        if session.private.len() >= realm.cx.limits.max_subscriptions_per_session {
            return Err(Reason::QuotaExceeded);
        }
        session.private.push((name.0, options));
        return Ok(Granted::Subscription(SubscriptionId(0), options.qos));
    }
    if session.protocol.is_mqtt()
        && let Some(queue) = queue_named(&name.0)
    {
        return queues::subscribe_queue(realm, key, queue?, name.1.is_some(), options);
    }
    let is_new = !session.subscriptions.contains_key(&name);
    let is_full = session.subscriptions.len() >= realm.cx.limits.max_subscriptions_per_session
        || (is_wildcard && session.wildcards >= realm.cx.limits.max_wildcards_per_session)
        || (is_wildcard && realm.broker.wildcards() >= realm.cx.limits.max_wildcards_per_realm);
    if is_new && is_full {
        return Err(Reason::QuotaExceeded);
    }
    session.wildcards += usize::from(is_new && is_wildcard);
    if name.1.is_none() && session.selections.contains_key(&name.0) {
        replay::stop_replays(realm, key, &name.0);
        replay::forget_replays(realm, key, &name.0);
        replay::forget_selection(realm, key, &name.0);
    }
    let session = realm.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
    // In place of an earlier one [MQTT-3.8.4-3]; deliveries that wait are none of it [MQTT-3.8.4-4], 3.1.1: [MQTT-3.8.4-3].
    // Events that came with QoS 0 before are not owed.
    let earlier = session.subscriptions.get(&name).filter(|earlier| earlier.options.qos > Qos::AtMostOnce);
    let since = earlier.map_or(last, |earlier| earlier.since);
    let had = earlier.map_or(0, |earlier| earlier.had);
    session.subscriptions.insert(name.clone(), Subscribed { options, since, had });
    let (filter, share) = name;
    let (id, _) = realm.broker.subscribe(key, &filter, share.as_deref(), options, session.protocol.is_mqtt());
    let wants_retained = match options.retain_handling {
        RetainHandling::Always => true,  // [MQTT-3.3.1-9]; 3.1.1: [MQTT-3.3.1-6]
        RetainHandling::IfNew => is_new, // [MQTT-3.3.1-10]
        RetainHandling::Never => false,  // [MQTT-3.3.1-11]
    };
    // 4.8.2 (non-normative): nothing retained on a shared subscription.
    if wants_retained && share.is_none() {
        replays.push(OwedReplay::Retained(filter, id, options));
    }
    Ok(Granted::Subscription(id, options.qos)) // [MQTT-3.8.4-7]
}

pub fn unsubscribe(
    realm: &mut Realm,
    key: SessionKey,
    connection: ConnectionId,
    request: RequestId,
    entries: &[UnsubscribeEntry],
) {
    let results = entries.iter().map(|entry| unsubscribe_entry(realm, key, entry)).collect();
    realm.cx.tell(connection, Delivery::Unsubscribed(request, results));
}

pub fn unsubscribe_entry(realm: &mut Realm, key: SessionKey, entry: &UnsubscribeEntry) -> Result<(), Reason> {
    match entry {
        UnsubscribeEntry::Topic { filter, share } => {
            if share.is_none() {
                replay::forget_replays(realm, key, filter);
            }
            replay::unsubscribe_topic(realm, key, filter, share.as_deref())
        }
        UnsubscribeEntry::Subscription(id) => {
            let filter = realm.broker.filter_of(*id).cloned().ok_or(Reason::NoSuchSubscription)?;
            replay::unsubscribe_topic(realm, key, &filter, None)
        }
        UnsubscribeEntry::Procedure { filter, form } => unregister(realm, key, filter, *form),
        UnsubscribeEntry::Registration(id) => unregister_by_id(realm, key, *id),
        UnsubscribeEntry::Refused(reason) => Err(*reason),
    }
}

/// A session begins to serve procedures.
pub fn register(realm: &mut Realm, key: SessionKey, filter: Filter, options: RegisterOptions) -> Result<Granted, Reason> {
    if let Some(root) = filter.root() {
        return Err(Reason::ReservedName(root));
    }
    let session = realm.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
    let name = (filter, options.form);
    let is_new = !session.procedures.contains_key(&name);
    if is_new && session.procedures.len() >= realm.cx.limits.max_registrations_per_session {
        return Err(Reason::QuotaExceeded);
    }
    let id = realm.dealer.register(key, &name.0, options)?;
    session.procedures.insert(name, options);
    Ok(Granted::Registration(id, options.qos))
}

/// A session no longer serves this filter in this form; calls that it has taken go on.
pub fn unregister(realm: &mut Realm, key: SessionKey, filter: &Filter, form: CalleeForm) -> Result<(), Reason> {
    let session = realm.sessions.at_mut(key).ok_or(Reason::ConnectionLost)?;
    if session.procedures.remove(&(filter.clone(), form)).is_none() {
        return Err(Reason::NoSuchRegistration);
    }
    realm.dealer.unregister(key, filter);
    Ok(())
}

/// As `unregister`, by the id of REGISTERED.
pub fn unregister_by_id(realm: &mut Realm, key: SessionKey, id: RegistrationId) -> Result<(), Reason> {
    let filter = realm.dealer.filter_of(id).cloned().ok_or(Reason::NoSuchRegistration)?;
    unregister(realm, key, &filter, CalleeForm::Invocation)
}
