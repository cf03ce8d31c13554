//! Calls as an MQTT session sees them: invocations, cancellations and answers as publications (MAPPING.md, Calls).
use std::sync::Arc;

use smallvec::SmallVec;

use super::Router;
use super::dealer::Choice;
use super::deliver::Passage;
use super::invocation::{Caller, Message, qos_of, without_addresses};
use super::session::SessionKey;
use crate::model::command::{Call, CalleeForm, Outcome, ReplyTo};
use crate::model::publication::Properties;
use crate::model::{ErrorUri, InvocationId, Payload, Publication, PublicationId, Qos, Reason, Topic};

/// User properties of an answer that the router says itself.
const STATUS: [&str; 2] = ["corsac-status", "corsac-error"];
/// The user property by which a call asks for progressive results.
const RECEIVE_PROGRESS: &str = "corsac-receive-progress";

impl Router {
    /// Answers go to `$reply/…`, which reaches only the calling session, or to a topic that the caller might publish to itself.
    pub(super) fn is_reply_allowed(&self, reply: &ReplyTo) -> bool {
        match reply {
            ReplyTo::Topic { topic, .. } => !topic.is_reserved() || is_private(topic),
            ReplyTo::Request(_) | ReplyTo::CallId(_) | ReplyTo::Nobody => true,
        }
    }

    /// Puts a call to an MQTT callee: `$callee/<procedure>` with response topic `$yield/<invocation>`, or
    /// `$callee/<procedure>/$id/<invocation>`.
    pub(super) fn publish_invocation(
        &mut self,
        caller: SessionKey,
        invocation: InvocationId,
        call: Call,
        choice: Choice,
    ) -> Result<(), Reason> {
        let options = choice.callee.options;
        let procedure = call.procedure.as_mqtt();
        let is_by_id = options.form == CalleeForm::PublicationById;
        let topic = match is_by_id {
            true => Topic::from_mqtt(&format!("$callee/{procedure}/$id/{invocation}"))?,
            false => Topic::from_mqtt(&format!("$callee/{procedure}"))?,
        };
        // A WAMP call is answered in any case: it counts as acknowledged.
        let is_wamp = self.sessions.at(caller).is_some_and(|session| !session.protocol.is_mqtt());
        let qos = if is_wamp { Qos::AtLeastOnce } else { qos_of(call.acknowledge) };
        let mut properties = without_addresses(call.properties).unwrap_or_default();
        if !is_by_id {
            properties.response_topic = Some(format!("$yield/{invocation}").into());
        }
        let is_said = properties.user.iter().any(|(name, _)| **name == *RECEIVE_PROGRESS);
        if call.receive_progress && !is_said {
            properties.user.push((RECEIVE_PROGRESS.into(), "true".into()));
        }
        let mut publication = Publication::new(topic, call.payload, qos);
        publication.properties = Some(properties);
        // Not worth delivering once the caller has been told that it took too long.
        publication.expires_at_ms = (call.timeout_ms > 0).then(|| self.now_ms.saturating_add(call.timeout_ms));
        if call.disclose_me || options.disclose_caller {
            publication.publisher = self.disclosed(caller);
        }
        let passage = passage(options.qos, options.identifier);
        self.send_to(choice.callee.session, publication, passage)
    }

    /// Tells an MQTT callee to stop, if it is subscribed to `$cancel/<invocation>`.
    pub(super) fn publish_cancel(&mut self, callee: SessionKey, invocation: InvocationId, reason: Reason) -> bool {
        let Ok(topic) = Topic::from_mqtt(&format!("$cancel/{invocation}")) else { return false };
        let mut publication = Publication::new(topic, Payload::empty(), Qos::AtLeastOnce);
        let outcome = Some(Outcome::Error(ErrorUri::Reason(reason)));
        publication.properties = Some(Box::new(Properties { outcome, ..Properties::default() }));
        self.publish_private(callee, publication)
    }

    /// Answers a call made by PUBLISH; true if the answer was sent to somebody.
    pub(super) fn publish_answer(&mut self, key: SessionKey, caller: &Caller, message: Message) -> bool {
        let Message { outcome, payload, properties } = message;
        let (topic, correlation_data) = match &caller.reply {
            ReplyTo::Topic { topic, correlation_data } => (topic.clone(), correlation_data.clone()),
            ReplyTo::CallId(id) => match Topic::from_mqtt(&format!("$reply/{id}/{}", kind(&outcome))) {
                Ok(topic) => (topic, None),
                Err(_) => return false,
            },
            ReplyTo::Request(_) | ReplyTo::Nobody => return false,
        };
        let mut properties = properties.unwrap_or_default();
        properties.user.retain(|(name, _)| !STATUS.contains(&&**name));
        properties.correlation_data = correlation_data;
        properties.outcome = Some(outcome);
        let is_private = is_private(&topic);
        let mut publication = Publication::new(topic, payload, caller.qos);
        publication.properties = Some(properties);
        if is_private {
            return self.publish_private(key, publication);
        }
        self.publish(Some(key), Arc::new(publication), None).is_ok_and(|(_, receivers)| receivers > 0)
    }

    /// Sends to one session what it alone may see, if it is there and has subscribed to it.
    fn publish_private(&mut self, key: SessionKey, publication: Publication) -> bool {
        let Some(session) = self.sessions.at(key).filter(|session| session.connection.is_some()) else { return false };
        let mut merged: Option<Passage> = None;
        for (filter, options) in &session.private {
            if filter.covers(&publication.topic) {
                let passage = merged.get_or_insert_with(|| passage(Qos::AtMostOnce, None));
                passage.qos = passage.qos.max(options.qos);
                passage.subscriptions.extend(options.identifier.map(u64::from));
            }
        }
        merged.is_some_and(|passage| self.send_to(key, publication, passage).is_ok())
    }

    /// One publication of the router's own to one session; refused where its line is full.
    fn send_to(&mut self, key: SessionKey, mut publication: Publication, passage: Passage) -> Result<(), Reason> {
        publication.id = PublicationId(self.random.publication_id());
        let dropped = |router: &Self| router.sessions.at(key).map(|session| session.inflight.dropped);
        let before = dropped(self);
        self.deliver_to(key, &Arc::new(publication), passage);
        if dropped(self) == before { Ok(()) } else { Err(Reason::QuotaExceeded) }
    }
}

/// True for what `publish_invocation` and `publish_cancel` send.
pub(super) fn is_invocation(publication: &Publication) -> bool {
    let topic = publication.topic.as_mqtt();
    topic.starts_with("$callee/") || topic.starts_with("$cancel/")
}

/// The last level of `$reply/<call id>/…`.
fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Progress => "progress",
        Outcome::Result => "result",
        Outcome::Error(_) => "error",
    }
}

fn is_private(topic: &Topic) -> bool {
    topic.as_mqtt().starts_with("$reply/")
}

fn passage(qos: Qos, identifier: Option<u32>) -> Passage {
    let subscriptions: SmallVec<[u64; 2]> = identifier.map(u64::from).into_iter().collect();
    Passage { qos, retain: false, by_pattern: false, subscriptions, share: None }
}
