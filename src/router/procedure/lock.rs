//! The procedures `corsac.lock.*`: their arguments, and their answers.
use serde_json::{Value, json};

use crate::model::arguments::Arguments;
use crate::model::record::Kind;
use crate::model::{EventId, Publication, Qos, Reason, Topic};
use crate::router::base::key::SessionKey;
use crate::router::base::reply::{Caller, Reply};
use crate::router::flow::holders::json_args;
use crate::router::flow::{append, locks};
use crate::router::lock::record::LockChange;
use crate::router::realm::Realm;

/// The topic that a lock's name is: in MQTT's spelling if it has a `/`, else in WAMP's.
fn lock_topic(arguments: &Arguments) -> Result<Topic, Reason> {
    let name = arguments.text(0, "name")?;
    let topic = Topic::from_either(name)?;
    if topic.is_reserved() { Err(Reason::NotAuthorized) } else { Ok(topic) }
}

/// `corsac.lock.acquire(name, {wait_ms, ttl_ms})`: the token, when it is granted.
pub fn acquire_lock(realm: &mut Realm, caller: &Caller, arguments: &Arguments) -> Result<Reply, Reason> {
    let topic = lock_topic(arguments)?;
    let (wait_ms, ttl_ms) = (arguments.number_option(1, "wait_ms")?, arguments.number_option(1, "ttl_ms")?);
    if ttl_ms == Some(0) {
        return Err(Reason::InvalidArgument);
    }
    let session = caller.session.and_then(|key| realm.sessions.at(key)).ok_or(Reason::ConnectionLost)?;
    let payload = json_args(&json!({ "session": session.id.0 }));
    let publication = Publication { retain: true, ..Publication::new(topic, payload, Qos::AtLeastOnce) };
    let mut request = locks::request_of_call(realm, caller, publication)?;
    (request.when, request.will, request.watch) = (Some(Value::Null), Some(Value::Null), wait_ms != Some(0));
    (request.wait_ms, request.ttl_ms) = (wait_ms, ttl_ms);
    locks::submit(realm, request)?;
    Ok(Reply::Later)
}

/// `corsac.lock.release(name, token)` and `corsac.lock.renew(name, token, {ttl_ms})`.
pub fn change_lock(
    realm: &mut Realm,
    key: SessionKey,
    caller: &Caller,
    arguments: &Arguments,
    is_renewal: bool,
) -> Result<Reply, Reason> {
    let topic = lock_topic(arguments)?;
    let token = EventId::new(arguments.number(1, "token")?).ok_or(Reason::InvalidArgument)?;
    let change = match is_renewal {
        false => LockChange::release(&topic, token),
        true => {
            let ttl_ms = arguments.number_option(2, "ttl_ms")?.filter(|ttl_ms| *ttl_ms > 0).ok_or(Reason::InvalidArgument)?;
            LockChange::Renew { topic: topic.as_mqtt().into(), token: token.value(), ttl_ms }
        }
    };
    append::append_change(realm, Some(key), Kind::LOCK, change.encode(), Some(caller.clone()));
    Ok(Reply::Later)
}

/// `corsac.lock.inspect(name)`: who holds it, if anybody, and how many wait.
pub fn inspect_lock(realm: &Realm, arguments: &Arguments) -> Result<Reply, Reason> {
    let topic = lock_topic(arguments)?;
    let cell = realm.locks.topics.get(&topic);
    let holder = cell.and_then(|cell| cell.holder.as_ref());
    Ok(Reply::Now(vec![json!({
        "held": realm.retained.find(&topic, realm.locks.time_ms).is_some(),
        "token": holder.map(|holder| holder.token.value()),
        "session": holder.map(|holder| holder.session.0),
        "expires_at_ms": holder.and_then(|holder| holder.deadline_ms),
        "waiting": cell.map_or(0, |cell| cell.line.len()),
    })]))
}
