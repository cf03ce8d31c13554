//! Topic names of one connection: aliases both ways (5.0, 3.3.2.3.4), and the names that it knows.
use std::collections::HashMap;
use std::num::NonZeroU16;

use foldhash::fast::RandomState;

use crate::gate::known::KnownNames;
use crate::model::{Reason, Topic};

/// Topic names as the client sends them on this connection [MQTT-3.3.2-7].
#[derive(Debug)]
pub struct InboundTopics {
    aliases: Vec<Option<Topic>>,
    maximum: u16,
    known: KnownNames,
}

impl InboundTopics {
    /// No names; the client may use aliases up to `maximum`.
    pub fn new(maximum: u16) -> Self {
        InboundTopics { aliases: Vec::new(), maximum, known: KnownNames::default() }
    }

    /// The topic of a name that the client has used, by the bytes of a PUBLISH that nobody has checked.
    pub fn find(&mut self, name: &[u8]) -> Option<Topic> {
        self.known.find(name)
    }

    /// The topic of a PUBLISH: its name, which `find` may know, and from then on its alias [MQTT-3.3.2-8], [MQTT-3.3.2-9].
    pub fn resolve(&mut self, name: &str, known: Option<&Topic>, alias: Option<NonZeroU16>) -> Result<Topic, Reason> {
        let Some(alias) = alias else { return self.named(name, known) };
        // [MQTT-3.2.2-17], [MQTT-3.2.2-18]; all others are accepted [MQTT-3.3.2-12].
        if alias.get() > self.maximum {
            return Err(Reason::TopicAliasInvalid);
        }
        let index = usize::from(alias.get() - 1);
        if name.is_empty() {
            return self.aliases.get(index).cloned().flatten().ok_or(Reason::ProtocolViolation);
        }
        let topic = self.named(name, known)?;
        if self.aliases.len() <= index {
            self.aliases.resize(index + 1, None);
        }
        if let Some(slot) = self.aliases.get_mut(index) {
            *slot = Some(topic.clone());
        }
        Ok(topic)
    }

    fn named(&mut self, name: &str, known: Option<&Topic>) -> Result<Topic, Reason> {
        if let Some(topic) = known {
            return Ok(topic.clone());
        }
        let topic = Topic::from_mqtt(name)?;
        self.known.remember(name.as_bytes(), &topic);
        Ok(topic)
    }
}

/// Aliases that we use towards the client: the first topics get them, and keep them while the connection lasts [MQTT-3.3.2-7].
#[derive(Debug, Default)]
pub struct OutboundAliases {
    maximum: u16,
    given: HashMap<Topic, NonZeroU16, RandomState>,
}

impl OutboundAliases {
    /// As many as the client allows, and as we are willing to remember.
    pub fn new(maximum: u16) -> Self {
        OutboundAliases { maximum, given: HashMap::default() }
    }

    /// True where the client allows none [MQTT-3.1.2-27].
    pub fn are_off(&self) -> bool {
        self.maximum == 0
    }

    /// The alias for a topic and whether the client knows it already; `None` if there is none to give.
    pub fn assign(&mut self, topic: &Topic) -> Option<(NonZeroU16, bool)> {
        if self.are_off() {
            return None;
        }
        if let Some(alias) = self.given.get(topic) {
            return Some((*alias, true));
        }
        // [MQTT-3.1.2-26], [MQTT-3.3.2-11]
        let next = u16::try_from(self.given.len()).ok()?.checked_add(1).filter(|next| *next <= self.maximum)?;
        let alias = NonZeroU16::new(next)?;
        self.given.insert(topic.clone(), alias);
        Some((alias, false))
    }

    /// The PUBLISH that would have introduced this alias was not sent.
    pub fn forget(&mut self, topic: &Topic) {
        // Only the newest can be forgotten without leaving a hole in the numbering.
        if self.given.get(topic).is_some_and(|alias| usize::from(alias.get()) == self.given.len()) {
            self.given.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_bounded_and_must_be_known() {
        let mut topics = InboundTopics::new(2);
        let alias = NonZeroU16::new;
        assert_eq!(topics.resolve("", None, alias(1)), Err(Reason::ProtocolViolation));
        assert_eq!(topics.resolve("a/b", None, alias(3)), Err(Reason::TopicAliasInvalid));
        let topic = topics.resolve("a/b", None, alias(2)).unwrap();
        assert_eq!(topics.resolve("", None, alias(2)), Ok(topic));
        assert_eq!(topics.resolve("c", None, alias(2)).unwrap(), topics.resolve("", None, alias(2)).unwrap());
        let known = topics.find(b"a/b");
        assert_eq!(topics.resolve("a/b", known.as_ref(), alias(1)).ok(), known);
        assert_eq!(topics.resolve("", None, alias(1)).ok(), known);
        assert_eq!(topics.resolve("a+", None, None), Err(Reason::InvalidTopic));
        assert_eq!(topics.find(b"a+"), None);
        // [MQTT-3.2.2-18]
        assert_eq!(InboundTopics::new(0).resolve("a", None, alias(1)), Err(Reason::TopicAliasInvalid));
    }

    #[test]
    fn outbound_aliases_are_given_once_and_then_used() {
        let mut aliases = OutboundAliases::new(1);
        let (a, b) = (Topic::from_mqtt("a").unwrap(), Topic::from_mqtt("b").unwrap());
        assert_eq!(aliases.assign(&a).map(|(_, known)| known), Some(false));
        assert_eq!(aliases.assign(&a).map(|(_, known)| known), Some(true));
        assert_eq!(aliases.assign(&b), None);
        aliases.forget(&a);
        assert_eq!(aliases.assign(&b).map(|(_, known)| known), Some(false));
        assert_eq!(OutboundAliases::default().assign(&a), None);
    }
}
