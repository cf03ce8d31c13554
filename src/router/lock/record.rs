//! Bodies of the records about conditions and locks: JSON objects.
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::{EventId, SessionId, Topic};

/// The content of a record of kind LOCK. Topics are in MQTT spelling.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum LockChange {
    /// A publication under a condition stands in line from here on, or is refused here.
    Ask {
        /// Its topic.
        topic: String,
        /// The pattern that the value must fit.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        when: Option<Value>,
        /// The request waits until it does.
        watch: bool,
        /// The value that the topic gets at the publisher's end.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        will: Option<Value>,
        /// The time that the grant lasts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
    },
    /// The next publication on the topic with the flag CONDITIONAL holds the topic for this session.
    Grant {
        /// Its topic.
        topic: String,
        /// The session whose end gives the topic its will.
        session: u64,
        /// The value that it gets then; null = none.
        will: Value,
    },
    /// Somebody who knows the token gives the topic up.
    Release {
        /// Its topic.
        topic: String,
        /// The id of the grant.
        token: u64,
    },
    /// The grant lasts this long from here on.
    Renew {
        /// Its topic.
        topic: String,
        /// The id of the grant.
        token: u64,
        /// In milliseconds.
        ttl_ms: u64,
    },
    /// A grant, or the topic's value, may have reached the end of its time.
    Due {
        /// Its topic.
        topic: String,
    },
}

/// `null` that is there is not the same as nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl LockChange {
    /// A grant to `session` with this will.
    pub fn grant(topic: &Topic, session: SessionId, will: Value) -> Self {
        LockChange::Grant { topic: topic.as_mqtt().into(), session: session.0, will }
    }

    /// Takes back a grant on record whose publication never came: no session has the number 0.
    pub fn no_grant(topic: &Topic) -> Self {
        LockChange::grant(topic, SessionId(0), Value::Null)
    }

    /// A release with this token.
    pub fn release(topic: &Topic, token: EventId) -> Self {
        LockChange::Release { topic: topic.as_mqtt().into(), token: token.value() }
    }

    /// Its bytes; they can always be made.
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// The change in `body`; `None` where a later version wrote one that this version does not know.
    pub fn decode(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// The topic that it concerns.
    pub fn topic(&self) -> Option<Topic> {
        let (LockChange::Ask { topic, .. }
        | LockChange::Grant { topic, .. }
        | LockChange::Release { topic, .. }
        | LockChange::Renew { topic, .. }
        | LockChange::Due { topic }) = self;
        Topic::from_mqtt(topic).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_back_as_they_were() {
        let topic = Topic::from_mqtt("a/\"b\"").unwrap();
        let token = EventId::FIRST;
        let ask = |when, will| LockChange::Ask { topic: "a".into(), when, watch: true, will, ttl_ms: None };
        for change in [
            ask(None, Some(Value::Null)),
            ask(Some(Value::Null), None),
            ask(Some(serde_json::json!({"op": 1})), Some(1.into())),
            LockChange::grant(&topic, SessionId(7), Value::Null),
            LockChange::release(&topic, token),
            LockChange::Renew { topic: "a".into(), token: 1, ttl_ms: u64::MAX },
            LockChange::Due { topic: "a".into() },
        ] {
            assert_eq!(LockChange::decode(&change.encode()), Some(change.clone()));
            assert!(change.topic().is_some());
        }
        assert_eq!(LockChange::decode(b"{\"op\":\"later\"}"), None);
    }
}
