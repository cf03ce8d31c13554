//! The records of queues, and the names that stand in them: queues, items, claims.
use crate::router::base::claim::Token;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::{Reason, Topic, names};
use crate::router::base::codec::{decode_record, encode_record};

/// True for the topic of a queue.
pub fn is_queue(topic: &Topic) -> bool {
    topic.as_mqtt().strip_prefix(names::QUEUE).is_some_and(|name| !name.is_empty())
}

/// The queue of this name, which is spelled as MQTT spells topics if it has a `/`, else as WAMP does.
pub fn queue_of(name: &str) -> Result<Topic, Reason> {
    let topic = match name.contains('/') {
        true => Topic::from_either(&format!("{}{name}", names::QUEUE)),
        false => Topic::from_uri(&format!("{}{name}", names::QUEUE_URI)),
    }?;
    if is_queue(&topic) { Ok(topic) } else { Err(Reason::InvalidTopic) }
}

/// A change of the queues of a realm, as it stands in the history. A put is a record of its own form: its topic is the queue, its
/// payload and properties are the item.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Change {
    /// Settings of a queue, as far as they are given; 0 and an empty name take a bound away.
    Declare {
        /// Which, as MQTT spells its topic.
        queue: Box<str>,
        /// The time that a claim lasts.
        visibility_ms: Option<u64>,
        /// Deliveries of an item before it is a dead letter; 0 = any number.
        max_deliveries: Option<u32>,
        /// The queue for dead letters, as MQTT spells its topic; empty = none.
        dead_letter: Option<Box<str>>,
        /// Items that it holds; 0 = any number.
        max_len: Option<u64>,
    },
    /// A call asks for items.
    Take {
        /// From which queue, as MQTT spells its topic.
        queue: Box<str>,
        /// The most items.
        max: u32,
        /// The time that it waits for the first.
        wait_ms: u64,
        /// The connection that asks.
        by: u64,
    },
    /// A call that waits for items waits no longer.
    Cancel {
        /// The id of the record by which it asked.
        take: u64,
    },
    /// Items are done with.
    Ack {
        /// Their claims.
        tokens: Vec<Token>,
    },
    /// Items were not done with.
    Nack {
        /// Their claims.
        tokens: Vec<Token>,
        /// The time that they rest; `None` = as long as a claim would last.
        delay_ms: Option<u64>,
    },
    /// Items never reached whom they were meant for: as if they had not been claimed.
    Return {
        /// Their claims.
        tokens: Vec<Token>,
    },
    /// A claim lasts for this long from now.
    Extend {
        /// Which.
        token: Token,
        /// `None` = as long as a new claim would.
        visibility_ms: Option<u64>,
    },
    /// A connection takes what comes, one item after the other.
    Attach {
        /// From which queue, as MQTT spells its topic.
        queue: Box<str>,
        /// The connection.
        by: u64,
        /// Items of all queues that it may hold at a time.
        window: u32,
    },
    /// The connection takes no more; its items stay claimed.
    Detach {
        /// From which queue.
        queue: Box<str>,
        /// The connection.
        by: u64,
    },
    /// A connection has ended: its calls wait no longer, and the items that were delivered to it return.
    Gone {
        /// Which.
        by: u64,
    },
    /// Something is due.
    Tick,
}

impl Change {
    /// As the body of a record.
    pub fn encode(&self) -> Bytes {
        encode_record(self)
    }

    /// The change in the body of a record; `None` if it is not known here.
    pub fn decode(body: &[u8]) -> Option<Self> {
        decode_record(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reason::MustBe;

    #[test]
    fn names_are_read_in_either_spelling() {
        let name = |text| queue_of(text).map(|topic| topic.as_mqtt().to_owned());
        assert_eq!(name("jobs"), Ok("$queue/jobs".into()));
        assert_eq!(name("jobs.resize"), Ok("$queue/jobs/resize".into()));
        assert_eq!(name("jobs/v1.5"), Ok("$queue/jobs/v1.5".into()));
        for bad in ["", "a b", "a/+", "#", "a\0b", "a..b"] {
            assert!(matches!(name(bad), Err(Reason::InvalidTopic | Reason::UnfitCharacter(_))), "{bad:?}");
        }
        let is_queue = |text| is_queue(&Topic::from_mqtt(text).unwrap());
        assert_eq!(["$queue/a", "$queue/a/b", "$queue/", "$queue", "queue/a"].map(is_queue), [true, true, false, false, false]);
    }

    #[test]
    fn tokens_and_changes_come_back_as_they_were() {
        for (token, text) in [(Token(4_711, 0), "4711"), (Token(4_711, 12), "4711.12")] {
            assert_eq!((token.to_string().as_str(), text.parse()), (text, Ok(token)));
        }
        for bad in ["", "x", "1.", ".1", "1.x", "-1", "1.1.1"] {
            assert_eq!(bad.parse::<Token>(), Err(Reason::WrongValue("token", MustBe::Token)), "{bad:?}");
        }
        for change in [
            Change::Take { queue: "$queue/a".into(), max: 3, wait_ms: u64::MAX, by: 1 },
            Change::Nack { tokens: vec![Token(1, 0), Token(2, 1)], delay_ms: None },
            Change::Tick,
        ] {
            assert_eq!(Change::decode(&change.encode()), Some(change));
        }
        assert_eq!(Change::decode(b"{\"Later\":1}"), None);
    }
}
