//! Subscriptions to some events only, or to past ones too: what of a live publication they get, and how they end.
use std::sync::Arc;

use serde_json::Value;

use super::Router;
use super::broker::SelectionKey;
use super::deliver::Passage;
use super::inflight::Source;
use super::past::{Catching, Turn};
use super::session::SessionKey;
use crate::model::command::{Past, Selection, SubscribeOptions};
use crate::model::pattern::fits;
use crate::model::{Delivery, Encoding, EventId, Filter, Payload, Publication, Reason, SubscriptionId};

/// Bodies that are looked into; larger ones fit no pattern.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// A subscription that does not simply get what comes.
#[derive(Debug)]
pub struct Selected {
    /// Whose.
    pub(super) session: SessionKey,
    /// Under which id.
    pub(super) subscription: SubscriptionId,
    /// To what.
    pub(super) filter: Filter,
    /// How it is delivered.
    pub(super) options: SubscribeOptions,
    /// What events must look like.
    pattern: Option<Value>,
    /// It ends with what there is.
    is_snapshot: bool,
    /// How far it has come in the history, while it gets past events.
    pub(super) catching: Option<Catching<Arc<Publication>>>,
}

/// The body of one publication, looked into once for all that ask.
#[derive(Debug, Default)]
pub(super) struct Body(Option<Option<Value>>);

impl Router {
    /// Hands the conversion of payloads to the router, which looks into the bodies of events with it (MAPPING.md, `filter`). Without
    /// it what is not JSON arguments already fits no pattern.
    pub fn convert_with(&mut self, to_args: crate::model::payload::ToArgs) {
        self.to_args = to_args;
    }

    /// Makes a subscription a selective one.
    pub(super) fn select(
        &mut self,
        key: SessionKey,
        subscription: SubscriptionId,
        filter: &Filter,
        options: SubscribeOptions,
        selection: Selection,
    ) -> SelectionKey {
        let Selection { past, is_snapshot, pattern } = selection;
        let catching = past.map(|past| match past {
            Past::After(after) => Catching::after(after),
            Past::Last(count) => Catching::last(count, self.reads.last_id()),
        });
        let filter = filter.clone();
        let selected = Selected { session: key, subscription, filter: filter.clone(), options, pattern, is_snapshot, catching };
        let selection = self.selections.insert(selected) as SelectionKey;
        self.broker.select(key, &filter, Some(selection));
        if let Some(session) = self.sessions.at_mut(key) {
            session.selections.insert(filter, selection);
        }
        selection
    }

    /// The subscription is over, or from now on gets simply what comes.
    pub(super) fn forget_selection(&mut self, key: SessionKey, filter: &Filter) {
        let Some(selection) = self.sessions.at_mut(key).and_then(|session| session.selections.remove(filter)) else { return };
        self.selections.try_remove(selection as usize);
        self.broker.select(key, filter, None);
    }

    /// What was before has been sent: a snapshot ends, any other subscription goes on with what comes.
    pub(super) fn complete(&mut self, selection: SelectionKey) {
        let last = self.reads.last_id().map_or(0, EventId::value);
        let Some(selected) = self.selections.get_mut(selection as usize) else { return };
        // Whatever the session reads besides, this subscription has had everything.
        let subscriptions = self.sessions.at_mut(selected.session).map(|session| &mut session.subscriptions);
        let subscribed = subscriptions.and_then(|all| all.get_mut(&(selected.filter.clone(), None)));
        if let (Some(subscribed), Some(_)) = (subscribed, selected.catching.take()) {
            subscribed.since = last;
        }
        if selected.is_snapshot {
            self.revoke(selection, Ok(()));
        } else if selected.pattern.is_none() {
            let (key, filter) = (selected.session, selected.filter.clone());
            self.forget_selection(key, &filter);
        }
    }

    /// Ends a subscription from this side. WAMP clients are told (WAMP: Advanced, Subscription Revocation). MQTT has no word for it: a
    /// client knows that it asked for a snapshot; if something went wrong its connection ends.
    pub(super) fn revoke(&mut self, selection: SelectionKey, outcome: Result<(), Reason>) {
        let Some(selected) = self.selections.get(selection as usize) else { return };
        let (key, subscription, filter) = (selected.session, selected.subscription, selected.filter.clone());
        self.drop_subscription(key, &filter);
        let Some(session) = self.sessions.at(key) else { return };
        match (outcome, session.connection) {
            (Err(reason), Some(_)) if session.protocol.is_mqtt() => self.end_connection(key, reason),
            (outcome, Some(connection)) => self.deliver(connection, Delivery::Revoked(subscription, outcome)),
            _ => {}
        }
    }

    /// A live publication for a selective subscription; true if it gets it, now or in its turn. `is_restricted`: the history does not
    /// show it.
    pub(super) fn deliver_selected(
        &mut self,
        selection: SelectionKey,
        publication: &Arc<Publication>,
        is_restricted: bool,
        body: &mut Body,
    ) -> bool {
        let to_args = self.to_args;
        let Some(selected) = self.selections.get_mut(selection as usize) else { return false };
        if selected.is_snapshot || !selected.wants(publication, body, to_args) {
            return false;
        }
        let id = EventId::new(publication.id.0).filter(|_| !is_restricted);
        let catching = selected.catching.as_mut();
        match catching.map_or(Turn::Now, |catching| catching.turn_of(id, publication.weight(), || publication.clone())) {
            Turn::Now => self.pass(selection, publication, if id.is_some() { Source::Live } else { Source::Other }),
            Turn::Later => {}
        }
        true
    }

    /// True if the pattern of this subscription, if it has one, fits.
    pub(super) fn is_wanted(&self, selection: SelectionKey, publication: &Publication) -> bool {
        let selected = self.selections.get(selection as usize);
        selected.is_some_and(|selected| selected.wants(publication, &mut Body::default(), self.to_args))
    }

    /// Sends an event through a selective subscription.
    pub(super) fn pass(&mut self, selection: SelectionKey, publication: &Arc<Publication>, source: Source) {
        let Some(selected) = self.selections.get(selection as usize) else { return };
        let Some(session) = self.sessions.at(selected.session) else { return };
        let mut passage = Passage::of(selected.options, &selected.filter, session.protocol, selected.subscription);
        passage.retain = selected.options.retain_as_published && publication.retain;
        passage.source = source;
        self.deliver_to(selected.session, publication, passage);
    }
}

impl Selected {
    /// What events must look like.
    pub(super) fn pattern(&self) -> Option<&Value> {
        self.pattern.as_ref()
    }

    /// True if it ends with what there is.
    pub fn is_snapshot(&self) -> bool {
        self.is_snapshot
    }

    fn wants(&self, publication: &Publication, body: &mut Body, to_args: crate::model::payload::ToArgs) -> bool {
        let Some(pattern) = &self.pattern else { return true };
        body.0.get_or_insert_with(|| body_of(publication, to_args)).as_ref().is_some_and(|body| fits(pattern, body))
    }
}

/// What an event says, as one value in the form that MQTT receivers get (MAPPING.md, Payloads); `None` where there is none, where it is
/// too large or too deep, or no JSON.
fn body_of(publication: &Publication, to_args: crate::model::payload::ToArgs) -> Option<Value> {
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
