//! Subscriptions to some events only, or to past ones too: what of a live publication they get.
use std::sync::Arc;

use serde_json::Value;

use crate::model::command::SubscribeOptions;
use crate::model::pattern::fits;
use crate::model::{Encoding, EventId, Filter, Payload, Publication, SubscriptionId};
use crate::router::base::catching::Catching;
use crate::router::base::key::SessionKey;

/// Bodies that are looked into; larger ones fit no pattern.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// A subscription that does not simply get what comes.
#[derive(Debug)]
pub struct SelectiveSubscription {
    /// The session that subscribed.
    pub session: SessionKey,
    /// Under which id.
    pub subscription: SubscriptionId,
    /// To what.
    pub filter: Filter,
    /// The terms of delivery.
    pub options: SubscribeOptions,
    /// The pattern that events must fit.
    pub pattern: Option<Value>,
    /// The subscription ends after the events or values that exist.
    pub is_snapshot: bool,
    /// An earlier process had it, and the session reads what is behind this event otherwise.
    pub until: Option<EventId>,
    /// Its progress in the history, while it gets past events.
    pub catching: Option<Catching<Arc<Publication>>>,
}

/// The body of one publication, looked into once for all that ask.
#[derive(Debug, Default)]
pub struct ParsedBody(Option<Option<Value>>);

impl SelectiveSubscription {
    /// The pattern that events must fit.
    pub fn pattern(&self) -> Option<&Value> {
        self.pattern.as_ref()
    }

    /// True if it ends with what there is.
    pub fn is_snapshot(&self) -> bool {
        self.is_snapshot
    }

    pub fn wants(&self, publication: &Publication, body: &mut ParsedBody, to_args: crate::model::payload::ToArgs) -> bool {
        let Some(pattern) = &self.pattern else { return true };
        body.0.get_or_insert_with(|| body_of(publication, to_args)).as_ref().is_some_and(|body| fits(pattern, body))
    }
}

/// The body of an event as one value, in the form that MQTT receivers get (MAPPING.md, Payloads). `None` where there is none,
/// where it is too large or too deep, or no JSON.
pub fn body_of(publication: &Publication, to_args: crate::model::payload::ToArgs) -> Option<Value> {
    if publication.payload.len() > MAX_BODY_BYTES {
        return None;
    }
    let convert = || to_args(&publication.payload, publication.properties.as_deref(), Encoding::Json);
    let (args, kwargs) = match publication.conversions.args(Encoding::Json, convert) {
        Payload::Args { encoding: Encoding::Json, args, kwargs } => (args, kwargs),
        _ => return None,
    };
    let parse = |json: &[u8], none| if json.is_empty() { Some(none) } else { serde_json::from_slice(json).ok() };
    let (mut args, kwargs) = (parse(args, Value::Array(Vec::new()))?, parse(kwargs, Value::Object(Default::default()))?);
    let count = args.as_array().map_or(0, Vec::len);
    match (count, kwargs.as_object().is_none_or(|kwargs| kwargs.is_empty())) {
        (0, true) => None,
        (1, true) => args.get_mut(0).map(Value::take),
        (_, true) => Some(args),
        (0, false) => Some(kwargs),
        (_, false) => Some(serde_json::json!({ "args": args, "kwargs": kwargs })),
    }
}
