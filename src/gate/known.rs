//! The names that a connection uses, as it spells them: one that is known is neither checked nor parsed again.
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::model::Topic;

/// Names remembered before the memory starts anew.
const REMEMBERED: usize = 64;

/// Longest name that is remembered for longer than until the next one, in bytes.
const REMEMBERED_BYTES: usize = 256;

/// Topics by their names on the wire.
#[derive(Debug, Default)]
pub struct KnownNames {
    last: Option<(Arc<[u8]>, Topic)>,
    topics: HashMap<Arc<[u8]>, Topic, RandomState>,
}

impl KnownNames {
    /// The topic that was remembered with these very bytes.
    pub fn find(&mut self, name: &[u8]) -> Option<Topic> {
        if let Some((_, topic)) = self.last.as_ref().filter(|(last, _)| **last == *name) {
            return Some(topic.clone());
        }
        let (name, topic) = self.topics.get_key_value(name)?;
        self.last = Some((name.clone(), topic.clone()));
        Some(topic.clone())
    }

    /// Remembers the valid name of `topic`.
    pub fn remember(&mut self, name: &[u8], topic: &Topic) {
        let name: Arc<[u8]> = name.into();
        if self.topics.len() >= REMEMBERED {
            self.topics.clear();
        }
        if name.len() <= REMEMBERED_BYTES {
            self.topics.insert(name.clone(), topic.clone());
        }
        self.last = Some((name, topic.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_remembered_by_their_bytes_and_not_without_bound() {
        let mut names = KnownNames::default();
        let topic = |name: &str| Topic::from_mqtt(name).unwrap();
        assert_eq!(names.find(b"a"), None);
        for (name, topic) in [("a.b", topic("a/b")), ("a/b", topic("a%2Fb"))] {
            names.remember(name.as_bytes(), &topic);
        }
        for _ in 0..2 {
            assert_eq!(names.find(b"a.b"), Some(topic("a/b")));
            assert_eq!(names.find(b"a/b"), Some(topic("a%2Fb")));
        }
        let long = "x".repeat(REMEMBERED_BYTES + 1);
        names.remember(long.as_bytes(), &topic(&long));
        assert_eq!(names.find(long.as_bytes()), Some(topic(&long)));
        assert_eq!(names.find(b"a.b"), Some(topic("a/b")));
        assert_eq!(names.find(long.as_bytes()), None);
        for number in 0..2 * REMEMBERED {
            names.remember(number.to_string().as_bytes(), &topic("t"));
        }
        assert!(names.topics.len() <= REMEMBERED && names.find(b"a/b").is_none());
    }
}
