//! The records of the history: everything that has a place in the order of a realm, publications and changes of state alike.
use std::sync::Arc;

use bytes::Bytes;

use super::properties::Properties;
use super::publication::Publisher;
use super::readers::Readers;
use super::{EventId, Filter, Payload, Principal, Publication, Qos, SessionId, Topic};

/// Which of the requests to append to a history this is: counted by one from 0 by whoever asks, answered in that order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ticket(pub u64);

/// The kind of a record. Numbers are never given a second meaning; unknown ones are carried, not refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Kind(pub u8);

impl Kind {
    /// A message on a topic: the only kind that readers of history see.
    pub const PUBLICATION: Kind = Kind(1);
    /// A session begins, ends, is attached or detached.
    pub const SESSION: Kind = Kind(2);
    /// A persistent session subscribes or unsubscribes.
    pub const SUBSCRIPTION: Kind = Kind(3);
    /// A step of a QoS 2 handshake.
    pub const HANDSHAKE: Kind = Kind(4);
    /// A checkpoint of cursors.
    pub const CURSOR: Kind = Kind(5);
    /// A lock is asked for, granted, renewed or released.
    pub const LOCK: Kind = Kind(6);
    /// A queue is declared, or an item of it put, taken or settled.
    pub const QUEUE: Kind = Kind(7);
    /// A timer fired: what follows from it is evaluated in the order of ids.
    pub const TIMER: Kind = Kind(8);
    /// The process that wrote the records before this one has ended, and all its connections with it.
    pub const GONE: Kind = Kind(9);
    /// The message that a session's connection leaves behind if it ends without goodbye; a record without a topic takes it back.
    pub const WILL: Kind = Kind(10);

    /// The noun for people; of a number that this version does not know too.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::PUBLICATION => "a publication",
            Kind::SESSION => "a change of a session",
            Kind::SUBSCRIPTION => "a change of a subscription",
            Kind::HANDSHAKE => "a step of QoS 2",
            Kind::CURSOR => "what a session has received",
            Kind::LOCK => "a change of a lock",
            Kind::QUEUE => "a change of a queue",
            Kind::TIMER => "a timer",
            Kind::GONE => "the end of a process",
            Kind::WILL => "a will",
            _ => "of a later version",
        }
    }
}

/// Which publications get a place in the history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stored {
    /// Those that are acknowledged or retained.
    #[default]
    Acknowledged,
    /// All, those that nobody waits for too (QoS 0, WAMP without `acknowledge`).
    All,
    /// Those that are retained, which gives durability up: what is acknowledged has then been routed and is not on disk.
    Retained,
}

/// Which publications on some topics get a place in the history. Of several rules the first that covers a topic counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreRule {
    /// Which topics; `None` = all.
    pub filter: Option<Filter>,
    /// Which publications.
    pub stored: Stored,
}

/// Properties of a record that are either there or not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Flags(pub u16);

impl Flags {
    /// The topic's retained message from now on; without a payload it clears it.
    pub const RETAIN: Flags = Flags(1);
    /// The publisher is disclosed to subscribers.
    pub const DISCLOSED: Flags = Flags(2);
    /// Published under a condition that was met. If the publisher promised a value for its end, a record of kind LOCK before this
    /// one says so. Conditions that are not met yet, or never, leave records of kind LOCK alone.
    pub const CONDITIONAL: Flags = Flags(4);
    /// Published to some sessions only (WAMP: Subscriber Black- and Whitelisting), which [`Item::readers`] names. An earlier
    /// version did not record that, so that nobody may read such a record.
    pub const RESTRICTED: Flags = Flags(8);
    /// Its publisher does not want to have it back (WAMP: Publisher Exclusion).
    pub const NOT_TO_ITSELF: Flags = Flags(256);

    /// Both together.
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Those that are set.
    pub fn of<const N: usize>(flags: [(bool, Flags); N]) -> Flags {
        flags.into_iter().filter(|(is_set, _)| *is_set).fold(Flags::default(), |flags, (_, flag)| flags.with(flag))
    }

    /// True if all of `other` are set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The session and identity that caused a record, as far as history keeps them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Its session.
    pub session: SessionId,
    /// The name it was authenticated as.
    pub authid: Arc<str>,
    /// The role it had.
    pub authrole: Arc<str>,
}

impl Origin {
    /// This session, acting for `principal`.
    pub fn of(session: SessionId, principal: &Principal) -> Self {
        Origin { session, authid: principal.authid.clone(), authrole: principal.authrole.clone() }
    }

    fn to_publisher(&self) -> Publisher {
        let principal = Principal::of_record(self.authid.clone(), self.authrole.clone());
        Publisher { session: self.session, principal: Arc::new(principal) }
    }
}

/// The key by which a repeated publication is recognized: equal keys of one owner are one publication.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DedupKey {
    /// The owner of the key, a session or client identity.
    pub owner: Arc<str>,
    /// The key: chosen by the client, or a QoS 2 packet id with its use number and session.
    pub key: Bytes,
}

/// A record before it has its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// The realm, by name.
    pub realm: Arc<str>,
    /// The kind of the record.
    pub kind: Kind,
    /// Milliseconds since the Unix epoch; never less than the item before it in its realm.
    pub time_ms: u64,
    /// Where it was published; other kinds may have none.
    pub topic: Option<Topic>,
    /// The session and identity that caused it.
    pub origin: Option<Origin>,
    /// The publisher's QoS.
    pub qos: Qos,
    /// Retained, disclosed, ...
    pub flags: Flags,
    /// When it stops being worth delivering, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// The key by which a repetition is recognized.
    pub dedup: Option<DedupKey>,
    /// The body, as it arrived.
    pub payload: Payload,
    /// The sessions that may receive it; `None` is everybody.
    pub readers: Option<Box<Readers>>,
    /// Properties that travel with it unaltered. Their `outcome` cannot be stored: answers of calls are not history.
    pub properties: Option<Box<Properties>>,
}

impl Item {
    /// A publication with nothing but a topic and a payload.
    pub fn publication(realm: Arc<str>, time_ms: u64, topic: Topic, payload: Payload) -> Self {
        Item { topic: Some(topic), ..Self::of_kind(Kind::PUBLICATION, realm, time_ms, payload) }
    }

    /// An item of any kind without a topic.
    pub fn of_kind(kind: Kind, realm: Arc<str>, time_ms: u64, payload: Payload) -> Self {
        Item {
            realm,
            kind,
            time_ms,
            topic: None,
            origin: None,
            qos: Qos::AtMostOnce,
            flags: Flags::default(),
            expires_at_ms: None,
            dedup: None,
            payload,
            readers: None,
            properties: None,
        }
    }

    /// Bytes that it takes in a log, or a little more; in memory about as many.
    pub fn weight_bytes(&self) -> u64 {
        const OVERHEAD: usize = 128;
        let origin = self.origin.as_ref().map_or(0, |origin| origin.authid.len() + origin.authrole.len());
        let dedup = self.dedup.as_ref().map_or(0, |dedup| dedup.owner.len() + dedup.key.len());
        let properties = self.properties.as_ref().map_or(0, |properties| OVERHEAD + properties.text_bytes());
        let topic = self.topic.as_ref().map_or(0, |topic| topic.as_mqtt().len());
        let readers = self.readers.as_ref().map_or(0, |readers| OVERHEAD + readers.weight());
        (OVERHEAD + self.realm.len() + topic + origin + dedup + self.payload.len() + properties + readers) as u64
    }

    /// The topic under which readers of history find it: that of a publication.
    pub fn indexed_topic(&self) -> Option<&Topic> {
        if self.kind == Kind::PUBLICATION { self.topic.as_ref() } else { None }
    }
}

/// An item in its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its place in the order of its realm.
    pub id: EventId,
    /// The item.
    pub item: Item,
}

impl Record {
    /// As what its readers receive, if it is a publication: with its id, and its publisher where that was disclosed.
    pub fn to_publication(&self) -> Option<Publication> {
        let Item { topic, origin, qos, flags, expires_at_ms, payload, readers, properties, .. } = &self.item;
        let topic = topic.as_ref().filter(|_| self.item.kind == Kind::PUBLICATION)?;
        let mut publication = Publication::new(topic.clone(), payload.clone(), *qos);
        publication.id = self.id.into();
        publication.retain = flags.has(Flags::RETAIN);
        publication.expires_at_ms = *expires_at_ms;
        publication.publisher = origin.as_ref().filter(|_| flags.has(Flags::DISCLOSED)).map(Origin::to_publisher);
        publication.properties = properties.clone();
        publication.readers = readers.clone();
        Some(publication)
    }
}
