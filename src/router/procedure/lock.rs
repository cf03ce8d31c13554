//! The procedures `corsac.lock.*`: locks by name, each the topic `$lock/<name>`; an error names the fault and the lock.
use serde_json::{Value, json};

use crate::model::arguments::Arguments;
use crate::model::record::Kind;
use crate::model::{Encoding, EventId, Payload, Publication, Qos, Reason, Topic, names};
use crate::router::base::key::SessionKey;
use crate::router::base::reply::{Caller, Reply, json_args};
use crate::router::flow::{append, deliver, locks};
use crate::router::lock::record::LockChange;
use crate::router::realm::Realm;

/// Characters of a value that an error repeats.
const MAX_SHOWN: usize = 100;

/// A lock as its caller names it.
struct Named<'a> {
    /// As the caller spells it.
    name: &'a str,
    /// Where the lock stands.
    lock: Topic,
    /// The topic of the same name, where a publication under a condition may have made another lock.
    plain: Topic,
}

/// A call of `corsac.lock.<verb>`.
pub fn call_lock(realm: &mut Realm, key: SessionKey, caller: &Caller, verb: &str, arguments: &Arguments) -> Reply {
    if !matches!(verb, "acquire" | "release" | "renew" | "inspect") {
        return Reason::NoSuchProcedure.into();
    }
    let named = match lock_named(realm, arguments) {
        Ok(named) => named,
        Err(reply) => return reply,
    };
    let caller = Caller { lock: Some(named.name.into()), ..caller.clone() };
    let reply = match verb {
        "acquire" => acquire_lock(realm, &caller, &named, arguments),
        "inspect" => inspect_lock(realm, key, &named),
        verb => change_lock(realm, key, &caller, &named, arguments, verb == "renew"),
    };
    reply.unwrap_or_else(|reply| reply)
}

/// The lock that a call is about: a name in MQTT's spelling if it has a `/`, else in WAMP's.
fn lock_named<'a>(realm: &Realm, arguments: &'a Arguments) -> Result<Named<'a>, Reply> {
    let no_name = |reason| Reply::Failed(reason, "say which lock: its name is the first argument, a text".to_owned());
    let name = arguments.text(0, "name").map_err(no_name)?;
    let in_its_space = |plain: Topic| {
        let lock = Topic::from_mqtt(&format!("{}{}", names::LOCK, plain.as_mqtt()))?;
        let is_short = lock.level_count() <= realm.cx.limits.max_topic_levels;
        if is_short { Ok(Named { name, lock, plain }) } else { Err(Reason::InvalidTopic) }
    };
    let named = Topic::from_either(name).and_then(in_its_space).map_err(|reason| {
        let why = match reason {
            Reason::UnfitCharacter(_) => reason.to_string(),
            _ => "write it like demo/printer or demo.printer".to_owned(),
        };
        Reply::Failed(reason, format!("{:?} is not the name of a lock; {why}", shortened(name)))
    })?;
    match named.plain.root() {
        Some(root) => Err(Reply::Failed(Reason::ReservedName(root), format!("there is no lock {}: {root}", shortened(name)))),
        None => Ok(named),
    }
}

/// `corsac.lock.acquire(name, {wait_ms, ttl_ms})`: the token, when it is granted.
fn acquire_lock(realm: &mut Realm, caller: &Caller, named: &Named<'_>, arguments: &Arguments) -> Result<Reply, Reply> {
    let (wait_ms, ttl_ms) = (milliseconds(named, arguments, 1, "wait_ms")?, milliseconds(named, arguments, 1, "ttl_ms")?);
    if ttl_ms == Some(0) {
        return Err(no_ttl(named));
    }
    let session = caller.session.and_then(|key| realm.sessions.at(key)).ok_or(Reason::ConnectionLost)?;
    let payload = json_args(&json!({ "session": session.id.0 }));
    let publication = Publication { retain: true, ..Publication::new(named.lock.clone(), payload, Qos::AtLeastOnce) };
    let mut request = locks::request_of_call(realm, caller, publication)?;
    (request.when, request.will, request.watch) = (Some(Value::Null), Some(Value::Null), wait_ms != Some(0));
    (request.wait_ms, request.ttl_ms) = (wait_ms, ttl_ms);
    let submitted = locks::submit(realm, request);
    submitted.map_err(|reason| Reply::Failed(reason, format!("the lock {}: {reason}", named.name)))?;
    Ok(Reply::Later)
}

/// `corsac.lock.release(name, token)` and `corsac.lock.renew(name, token, {ttl_ms})`.
fn change_lock(
    realm: &mut Realm,
    key: SessionKey,
    caller: &Caller,
    named: &Named<'_>,
    arguments: &Arguments,
    is_renewal: bool,
) -> Result<Reply, Reply> {
    let token = arguments.number(1, "token").ok().and_then(EventId::new).ok_or_else(|| {
        let sentence = format!("say which token holds the lock {}: the number that acquire answered", named.name);
        Reply::Failed(Reason::InvalidArgument, sentence)
    })?;
    let topic = standing_lock(realm, key, named, Some(token))?;
    let change = match is_renewal {
        false => LockChange::release(topic, token),
        true => {
            let ttl_ms = milliseconds(named, arguments, 2, "ttl_ms")?.filter(|ttl_ms| *ttl_ms > 0);
            let ttl_ms = ttl_ms.ok_or_else(|| no_ttl(named))?;
            LockChange::Renew { topic: topic.as_mqtt().into(), token: token.value(), ttl_ms }
        }
    };
    append::append_change(realm, Some(key), Kind::LOCK, change.encode(), Some(caller.clone()));
    Ok(Reply::Later)
}

/// `corsac.lock.inspect(name)`: who holds it, if anybody, and how many wait.
fn inspect_lock(realm: &Realm, key: SessionKey, named: &Named<'_>) -> Result<Reply, Reply> {
    let topic = standing_lock(realm, key, named, None)?;
    let cell = realm.locks.topics.get(topic);
    let holder = cell.and_then(|cell| cell.holder.as_ref());
    Ok(Reply::Now(vec![json!({
        "held": realm.retained.find(topic, realm.locks.time_ms).is_some(),
        "token": holder.map(|holder| holder.token.value()),
        "session": holder.map(|holder| holder.session.0),
        "expires_at_ms": holder.and_then(|holder| holder.deadline_ms),
        "waiting": cell.map_or(0, |cell| cell.line.len()),
    })]))
}

/// The place of the lock of this name: in the space of locks, or on the topic of that name. The latter counts if a publication
/// under a condition holds it (by `token`, where one is given). A topic with a value that nobody holds is no lock, and its value
/// is said to those who may read it.
fn standing_lock<'a>(realm: &Realm, key: SessionKey, named: &'a Named<'_>, token: Option<EventId>) -> Result<&'a Topic, Reply> {
    let Named { name, lock, plain } = named;
    let holder = |topic| realm.locks.topics.get(topic).and_then(|cell| cell.holder.as_ref());
    let is_meant = |topic| holder(topic).is_some_and(|holder| token.is_none_or(|token| token == holder.token));
    let is_known = realm.locks.has(lock) || realm.retained.find(lock, realm.locks.time_ms).is_some();
    if is_meant(lock) || (is_known && !is_meant(plain)) {
        return Ok(lock);
    }
    if holder(plain).is_some() {
        return Ok(plain);
    }
    let Some(value) = realm.retained.find(plain, realm.locks.time_ms) else { return Ok(lock) };
    let is_readable = realm.sessions.at(key).is_some_and(|session| deliver::admits(session, value));
    let value = if is_readable { format!("the retained value {}", shown(realm, value)) } else { "a retained value".to_owned() };
    Err(Reply::Failed(Reason::NotALock, format!("{name} is a topic with {value}, not a lock")))
}

/// A value for people.
fn shown(realm: &Realm, value: &Publication) -> String {
    let text = match (realm.to_args)(&value.payload, value.properties.as_deref(), Encoding::Json) {
        Payload::Args { args, kwargs, .. } => {
            let list: Vec<Value> = serde_json::from_slice(&args).unwrap_or_default();
            match list.as_slice() {
                [one] if kwargs.is_empty() => one.to_string(),
                _ => String::from_utf8_lossy(if list.is_empty() { &kwargs } else { &args }).into_owned(),
            }
        }
        Payload::Bytes(bytes) => Value::from(String::from_utf8_lossy(&bytes)).to_string(),
        Payload::List(_) => return "of several parts".to_owned(),
    };
    shortened(&text)
}

fn milliseconds(named: &Named<'_>, arguments: &Arguments, place: usize, option: &'static str) -> Result<Option<u64>, Reply> {
    arguments.number_option(place, option).map_err(|reason| {
        Reply::Failed(reason, format!("{option} of the lock {} must be a whole number of milliseconds", named.name))
    })
}

fn no_ttl(named: &Named<'_>) -> Reply {
    let sentence =
        format!("ttl_ms of the lock {} must be 1 or more; leave it out to hold it as long as the connection", named.name);
    Reply::Failed(Reason::InvalidArgument, sentence)
}

/// The beginning of a long text.
fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
