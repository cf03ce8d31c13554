//! The messages to those who do not have a lock: to a holder that has lost it, at once, and to a caller that is refused, in words.
use std::sync::Arc;

use serde_json::json;

use crate::model::command::ReplyTo;
use crate::model::outcome::Outcome;
use crate::model::properties::Properties;
use crate::model::readers::{Audience, Readers};
use crate::model::{ErrorUri, EventId, Publication, Qos, Reason, SessionId, Topic, names};
use crate::router::base::key::SessionKey;
use crate::router::base::reply::{Caller, Message, Reply, json_args};
use crate::router::flow::{answer, route};
use crate::router::lock::holder::Holder;
use crate::router::realm::Realm;

/// The cause that ended a grant, where that was not its holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// The topic has another value, from this session.
    Changed(Option<SessionId>),
    /// This session has released it with its token.
    Released(Option<SessionId>),
    /// Its time is over.
    Expired,
}

impl Lost {
    /// The value of the user property that tells it.
    fn name(self) -> &'static str {
        match self {
            Lost::Changed(_) => "changed",
            Lost::Released(_) => "released",
            Lost::Expired => "expired",
        }
    }

    /// The session that did it; `None` for time and for the router itself.
    fn by(self) -> Option<SessionId> {
        match self {
            Lost::Changed(by) | Lost::Released(by) => by,
            Lost::Expired => None,
        }
    }

    /// The cause in words; `topic` as its holder spells it.
    fn sentence(self, topic: &str) -> String {
        let who = self.by().map_or("a session that has ended".to_owned(), |session| format!("session {session}"));
        match self {
            Lost::Changed(_) => format!("{who} has changed the value of {topic}"),
            Lost::Released(_) => format!("{who} has released it with its token"),
            Lost::Expired => "it was not renewed in time".to_owned(),
        }
    }
}

/// A holder that is to be told of its loss.
#[derive(Clone, Debug)]
pub struct Loser {
    key: Option<SessionKey>,
    /// Its session.
    pub session: SessionId,
    token: EventId,
    told: Option<Caller>,
}

impl Loser {
    /// The part of a holder that is needed to tell it of its loss.
    pub fn of(holder: &Holder) -> Self {
        Loser { key: holder.key, session: holder.session, token: holder.token, told: holder.told.clone() }
    }
}

/// Tells the session that held `topic`, if it is there, that it holds it no more, and why: as an event of its own, and on the response
/// topic of its grant.
pub fn tell_lost(realm: &mut Realm, topic: &Topic, loser: Loser, lost: Lost) {
    let Loser { key, session, token, told } = loser;
    let Some(is_mqtt) = key.and_then(|key| realm.sessions.at(key)).map(|session| session.protocol.is_mqtt()) else { return };
    let spelled = if is_mqtt { topic.as_mqtt() } else { topic.as_uri() };
    let name = told.as_ref().and_then(|told| told.lock.as_deref()).unwrap_or(spelled);
    let payload = json_args(&json!({
        "name": name,
        "token": token.value(),
        "cause": lost.name(),
        "by": lost.by().map(|session| session.0),
        "reason": lost.sentence(name),
    }));
    if let Some(told) = told.filter(|told| matches!(told.reply, ReplyTo::Topic { .. } | ReplyTo::CallId(_))) {
        let outcome = Outcome::Error(ErrorUri::Custom(names::LOCK_LOST.into()));
        let user = vec![(names::LOST.into(), lost.name().into()), (names::TOKEN.into(), token.to_string().into())];
        let properties = Some(Box::new(Properties { user, ..Properties::default() }));
        answer::answer(realm, &told, Message { outcome, payload: payload.clone(), properties });
    }
    let Ok(topic) = Topic::from_mqtt(names::ON_LOCK_LOST) else { return };
    let eligible = Some(Audience { sessions: Some(vec![session]), ..Audience::default() });
    let readers = Some(Box::new(Readers { eligible, exclude: None }));
    let publication = Publication { readers, ..Publication::new(topic, payload, Qos::AtLeastOnce) };
    route::publish(realm, None, Arc::new(publication), None);
}

/// Answers whoever asked for what is not granted; a call about a lock in words.
pub fn refuse_request(realm: &mut Realm, topic: &Topic, asker: &Caller, reason: Reason) {
    let holder = holder_of(realm, topic);
    let sentence = asker.lock.as_deref().and_then(|name| match (reason, holder) {
        (Reason::ConditionFailed, Some(session)) => {
            Some(format!("session {session} holds the lock {name}; wait for it with wait_ms"))
        }
        (Reason::ConditionFailed, None) => Some(format!("somebody else takes the lock {name}; wait for it with wait_ms")),
        (Reason::Timeout, Some(session)) => {
            Some(format!("session {session} still holds the lock {name}; wait longer with wait_ms"))
        }
        _ => None,
    });
    answer::reply(realm, asker, sentence.map_or_else(|| reason.into(), |sentence| Reply::Failed(reason, sentence)));
}

/// Answers a caller whose token holds nothing.
pub fn refuse_token(realm: &mut Realm, topic: &Topic, asker: &Caller) {
    let name = asker.lock.as_deref().unwrap_or(topic.as_mqtt());
    let sentence = match holder_of(realm, topic) {
        Some(session) => format!("session {session} holds the lock {name}, by another token"),
        None => format!("nobody holds the lock {name}"),
    };
    answer::reply(realm, asker, Reply::Failed(Reason::ConditionFailed, sentence));
}

fn holder_of(realm: &Realm, topic: &Topic) -> Option<SessionId> {
    realm.locks.topics.get(topic)?.holder.as_ref().map(Holder::session)
}
