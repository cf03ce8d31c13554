//! An immutable message as it was published; shared by every receiver.
use std::sync::{Arc, OnceLock};

use super::payload::Body;
use super::properties::Properties;
use super::readers::Readers;
use super::{Encoding, Payload, Principal, PublicationId, Qos, SessionId, Topic, names};

/// One published message. The gate fills it; the router completes `id` and `publisher` before anybody else sees it.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Unique in the realm; zero until the router has assigned it.
    pub id: PublicationId,
    /// Where it was published.
    pub topic: Topic,
    /// The body.
    pub payload: Payload,
    /// The publisher's QoS.
    pub qos: Qos,
    /// Published with RETAIN / `retain: true`.
    pub retain: bool,
    /// When it stops being worth delivering, in milliseconds since the Unix epoch (MQTT 5 message expiry, WAMP `expiry_s`).
    pub expires_at_ms: Option<u64>,
    /// The publisher, where it is disclosed to subscribers.
    pub publisher: Option<Publisher>,
    /// Everything that most messages do not have.
    pub properties: Option<Box<Properties>>,
    /// The sessions that may receive it; `None` is everybody.
    pub readers: Option<Box<Readers>>,
    /// Conversions made for receivers of another encoding, each made once.
    pub conversions: Conversions,
}

/// A disclosed publisher or caller (WAMP: Publisher Identification, Caller Identification).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publisher {
    /// Its session.
    pub session: SessionId,
    /// The identity of the publisher.
    pub principal: Arc<Principal>,
}

/// A payload in other forms, each made at most once, however many receivers share the publication.
#[derive(Debug, Default)]
pub struct Conversions(OnceLock<Box<Forms>>);

/// A copy of a message makes its conversions anew.
impl Clone for Conversions {
    fn clone(&self) -> Self {
        Conversions::default()
    }
}

#[derive(Debug, Default)]
struct Forms {
    json: OnceLock<Payload>,
    msgpack: OnceLock<Payload>,
    cbor: OnceLock<Payload>,
    body: OnceLock<Body>,
}

impl Conversions {
    /// The payload as WAMP arguments, made by `convert` on first use.
    pub fn args(&self, encoding: Encoding, convert: impl FnOnce() -> Payload) -> &Payload {
        let forms = self.0.get_or_init(Box::default);
        let form = match encoding {
            Encoding::Json => &forms.json,
            Encoding::MsgPack => &forms.msgpack,
            Encoding::Cbor => &forms.cbor,
        };
        form.get_or_init(convert)
    }

    /// The payload as an MQTT application message, made by `convert` on first use.
    pub fn body(&self, convert: impl FnOnce() -> Body) -> &Body {
        self.0.get_or_init(Box::default).body.get_or_init(convert)
    }
}

impl Publication {
    /// A publication with nothing but a topic and a payload.
    pub fn new(topic: Topic, payload: Payload, qos: Qos) -> Self {
        Publication {
            id: PublicationId(0),
            topic,
            payload,
            qos,
            retain: false,
            expires_at_ms: None,
            publisher: None,
            properties: None,
            readers: None,
            conversions: Conversions::default(),
        }
    }

    /// True for what somebody waits for: an invocation, or the answer to a call.
    pub fn is_of_call(&self) -> bool {
        let is_answer = self.properties.as_ref().is_some_and(|properties| properties.outcome.is_some());
        is_answer || self.topic.as_mqtt().starts_with(names::CALLEE)
    }

    /// True once its lifetime is over at `now_ms` [MQTT-3.3.2-5].
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// The rest of its lifetime at `now_ms`, in whole seconds rounded up [MQTT-3.3.2-6].
    pub fn remaining_s(&self, now_ms: u64) -> Option<u32> {
        self.expires_at_ms.map(|at_ms| u32::try_from(at_ms.saturating_sub(now_ms).div_ceil(1000)).unwrap_or(u32::MAX))
    }

    /// Bytes this message pins in a queue: payload, topic and a fixed share for the rest.
    pub fn weight(&self) -> usize {
        let properties = self.properties.as_ref().map_or(0, |p| p.weight());
        self.payload.len() + self.topic.as_mqtt().len() + properties + 64
    }
}
