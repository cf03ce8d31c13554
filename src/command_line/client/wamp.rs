//! A WAMP session of a small client: one request after the other, events and invocations as they come.
use std::collections::{HashMap, VecDeque};

use bytes::BytesMut;
use corsac::model::{Encoding, Filter, InvocationId, MatchPolicy, Qos, RequestId, Topic, names as reserved};
use corsac::wire::wamp::options::{
    CallOptions, CloseDetails, ErrorDetails, Features, HelloDetails, PublishOptions, RegisterOptions, Role, Roles,
    SubscribeOptions, YieldOptions, text,
};
use corsac::wire::wamp::{Message, RequestKind, decode, encode, reason};

use super::body::Body;
use super::incoming::{self, Answer, Incoming};
use super::names;
use super::target::{Target, Url};
use super::transport::{CONNECT, Transport};
use super::{Calling, Event, Outcome, Publishing, Subscribing, Trouble, Work, refusal};
use crate::command_line::failure::Usage;

/// Publications that may wait for their acknowledgement.
const WINDOW: u64 = 256;
/// The reason by which a router says that it stops.
const SHUTDOWN: &str = reserved::SYSTEM_SHUTDOWN;

/// An open session.
pub struct WampClient {
    transport: Transport,
    encoding: Encoding,
    /// The id of the last request (session scope: 1, 2, 3, …).
    requests: u64,
    /// Publications whose acknowledgement has not come.
    unacknowledged: u64,
    /// The topics of exact subscriptions: their events do not say it.
    topics: HashMap<u64, Topic>,
    /// The messages that came while an answer was awaited.
    arrived: VecDeque<Incoming>,
}

impl WampClient {
    /// Connects and joins the realm.
    pub async fn open(target: &Target, url: Url) -> Result<Self, Trouble> {
        let encoding = target.serializer.encoding();
        let transport = Transport::open(&url, encoding).await?;
        let mut client =
            WampClient { transport, encoding, requests: 0, unacknowledged: 0, topics: HashMap::new(), arrived: VecDeque::new() };
        let realm = target.realm.as_deref().unwrap_or("realm1");
        let hello = Message::Hello { realm: realm.into(), details: Box::new(hello()) };
        client.send(&hello).await.map_err(Trouble::Lost)?;
        let welcome = tokio::time::timeout(CONNECT, client.incoming()).await;
        let welcome = welcome.unwrap_or_else(|_| Err(format!("{url} does not answer HELLO; is it a WAMP router?")));
        match welcome.map_err(Trouble::Lost)? {
            Incoming::Welcome => Ok(client),
            Incoming::Ended(uri, message) => {
                let why = ended(&uri, message);
                Err(if uri == SHUTDOWN { Trouble::Lost(why) } else { Trouble::Refused(uri, why) })
            }
            Incoming::Challenge(method) => {
                let why = format!(
                    "realm {realm:?} wants to know who joins ({method}), and this client joins anonymously; allow that in the router"
                );
                Err(Trouble::Refused(String::new(), why))
            }
            _ => Err(Trouble::Refused(String::new(), format!("{url} did not answer HELLO; is it a WAMP router?"))),
        }
    }

    /// Publishes; waits only when too many acknowledgements are owed.
    pub async fn publish(&mut self, topic: &Topic, body: &Body, publishing: Publishing) -> Result<(), String> {
        let acknowledge = publishing.qos > Qos::AtMostOnce;
        let options = PublishOptions {
            acknowledge: acknowledge.then_some(true),
            retain: publishing.retain.then_some(true),
            qos: (publishing.qos == Qos::ExactlyOnce).then_some(Qos::ExactlyOnce),
            ..PublishOptions::default()
        };
        let (request, topic) = (self.next_request(), uri(topic)?.into());
        self.send(&Message::Publish { request, options, topic, payload: body.to_payload() }).await?;
        self.unacknowledged += u64::from(acknowledge);
        while self.unacknowledged > WINDOW {
            self.acknowledged().await?;
        }
        Ok(())
    }

    /// Waits for every acknowledgement owed.
    pub async fn settle(&mut self) -> Result<(), String> {
        while self.unacknowledged > 0 {
            self.acknowledged().await?;
        }
        self.transport.flush().await
    }

    async fn acknowledged(&mut self) -> Result<(), String> {
        match self.receive().await? {
            Incoming::Answer(_, Answer::Done(_)) => self.unacknowledged -= 1,
            Incoming::Answer(number, Answer::Error(uri, body)) => {
                return Err(format!("message {number} was refused: {}", refusal(&uri, &body)));
            }
            _ => {}
        }
        Ok(())
    }

    /// Subscribes; events come from `next_event`.
    pub async fn subscribe(&mut self, filter: &Filter, how: Subscribing) -> Result<u64, Trouble> {
        let (topic, policy) = wamp_filter(filter)?;
        let request = self.next_request();
        let options = SubscribeOptions {
            policy: (policy != MatchPolicy::Exact).then_some(policy),
            get_retained: how.with_retained.then_some(true),
            after: how.after,
            ..SubscribeOptions::default()
        };
        let subscribe = Message::Subscribe { request, options, topic: topic.as_str().into() };
        self.send(&subscribe).await.map_err(Trouble::Lost)?;
        match self.answer_to(request).await.map_err(Trouble::Lost)? {
            Answer::Done(subscription) => {
                if let Filter::Exact(topic) = filter {
                    self.topics.insert(subscription, topic.clone());
                }
                Ok(subscription)
            }
            Answer::Error(uri, body) => {
                let advice = if topic.ends_with('#') { "; if the router is not Corsac, try --match prefix" } else { "" };
                let why = format!("cannot subscribe to {topic}: {}{advice}", refusal(&uri, &body));
                Err(Trouble::Refused(uri, why))
            }
            Answer::Result(..) => {
                let why = "the router answered SUBSCRIBE with RESULT; is it a WAMP router?";
                Err(Trouble::Refused(String::new(), why.to_owned()))
            }
        }
    }

    /// The id of an event in the history behind which `filter` has none so far, 0 for none at all; `None` if the router keeps no history.
    pub async fn newest(&mut self, filter: &Filter) -> Result<Option<u64>, String> {
        // The last of all events is found at once, and topics under $ are not among them.
        let is_of_router = filter.to_uri().starts_with('$');
        let (text, policy) = if is_of_router { wamp_filter(filter)? } else { ("#".to_owned(), MatchPolicy::Exact) };
        let how = match policy {
            MatchPolicy::Exact => "exact",
            MatchPolicy::Prefix => "prefix",
            MatchPolicy::Wildcard => "wildcard",
        };
        let procedure = Topic::from_uri(reserved::READ_HISTORY).map_err(|reason| reason.to_string())?;
        let options = serde_json::json!({ "reverse": true, "limit": 1, "match": how });
        let arguments = [serde_json::Value::from(text).to_string(), options.to_string()];
        let calling = Calling { timeout_ms: None, with_progress: false };
        let outcome = self.call(&procedure, &Body::typed(&arguments, None, true)?, calling, &mut |_| Ok(())).await?;
        let Outcome::Result(body) = outcome else { return Ok(None) };
        let page: serde_json::Value = serde_json::from_str(&body.json()).unwrap_or_default();
        let events = page.get("events").and_then(serde_json::Value::as_array);
        Ok(events.map(|events| events.first().and_then(|event| event.get("id")?.as_u64()).unwrap_or(0)))
    }

    /// The next event. May be given up at any time.
    pub async fn next_event(&mut self) -> Result<Event, String> {
        loop {
            if let Incoming::Event(subscription, event) = self.next().await? {
                let incoming::Event { topic, body, is_retained, id, qos } = *event;
                let topic = match topic {
                    Some(uri) => names::event_topic(&uri),
                    None => self.topics.get(&subscription).cloned(),
                };
                let Some(topic) = topic else { continue };
                return Ok(Event { subscription, topic, body, message: None, is_retained, id, qos });
            }
        }
    }

    /// Calls; `on_progress` gets progressive results.
    pub async fn call(
        &mut self,
        procedure: &Topic,
        body: &Body,
        calling: Calling,
        on_progress: &mut impl FnMut(&Body) -> Result<(), String>,
    ) -> Result<Outcome, String> {
        let (request, procedure) = (self.next_request(), uri(procedure)?.into());
        let options = CallOptions {
            timeout: calling.timeout_ms,
            receive_progress: calling.with_progress.then_some(true),
            ..CallOptions::default()
        };
        self.send(&Message::Call { request, options, procedure, payload: body.to_payload() }).await?;
        loop {
            match self.answer_to(request).await? {
                Answer::Result(true, body) => on_progress(&body)?,
                Answer::Result(false, body) => return Ok(Outcome::Result(body)),
                Answer::Error(uri, body) => return Ok(Outcome::Error(uri, body)),
                Answer::Done(_) => {}
            }
        }
    }

    /// Serves a procedure; calls come from `next_work`.
    pub async fn register(&mut self, procedure: &Topic, concurrency: Option<u32>) -> Result<(), Trouble> {
        let (request, procedure) = (self.next_request(), uri(procedure)?);
        let options = RegisterOptions { concurrency, ..RegisterOptions::default() };
        let register = Message::Register { request, options, procedure: procedure.into() };
        self.send(&register).await.map_err(Trouble::Lost)?;
        match self.answer_to(request).await.map_err(Trouble::Lost)? {
            Answer::Error(uri, body) => {
                let why = format!("cannot serve {procedure}: {}", refusal(&uri, &body));
                Err(Trouble::Refused(uri, why))
            }
            _ => Ok(()),
        }
    }

    /// The next call to serve or to leave. May be given up at any time.
    pub async fn next_work(&mut self) -> Result<Work, String> {
        loop {
            match self.next().await? {
                Incoming::Invocation(id, body) => return Ok(Work::Invocation(id, body)),
                Incoming::Interrupt(id) => return Ok(Work::Cancel(id)),
                _ => {}
            }
        }
    }

    /// Answers an invocation.
    pub async fn answer(&mut self, invocation: u64, outcome: Outcome) -> Result<(), String> {
        match outcome {
            Outcome::Result(body) => {
                let (invocation, options) = (InvocationId(invocation), YieldOptions::default());
                self.send(&Message::Yield { invocation, options, payload: body.to_payload() }).await?;
            }
            Outcome::Error(uri, body) => {
                let error = Message::Error {
                    kind: RequestKind::Invocation,
                    request: RequestId(invocation),
                    details: ErrorDetails::default(),
                    error: uri.into(),
                    payload: body.to_payload(),
                };
                self.send(&error).await?;
            }
        }
        self.transport.flush().await
    }

    /// Keeps the connection alive until it ends; says how.
    pub async fn idle(&mut self) -> String {
        loop {
            if let Err(message) = self.receive().await {
                return message;
            }
        }
    }

    /// Leaves the realm, everything sent.
    pub async fn close(mut self) {
        let goodbye = Message::Goodbye { details: CloseDetails::default(), reason: reason::CLOSE_REALM.into() };
        if self.send(&goodbye).await.is_ok() {
            // GOODBYE's answer shows that what was sent before has been read.
            tokio::time::timeout(CONNECT, self.idle()).await.ok();
        }
    }

    fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    async fn send(&mut self, message: &Message<'_>) -> Result<(), String> {
        let mut bytes = BytesMut::new();
        encode(message, self.encoding, &mut bytes);
        self.transport.feed(bytes.freeze()).await
    }

    async fn next(&mut self) -> Result<Incoming, String> {
        match self.arrived.pop_front() {
            Some(incoming) => Ok(incoming),
            None => self.receive().await,
        }
    }

    /// The next message; the end of the session is an error.
    async fn receive(&mut self) -> Result<Incoming, String> {
        match self.incoming().await? {
            Incoming::Ended(uri, message) => Err(ended(&uri, message)),
            incoming => Ok(incoming),
        }
    }

    async fn incoming(&mut self) -> Result<Incoming, String> {
        self.transport.flush().await?;
        let Some(bytes) = self.transport.receive().await? else {
            return Err("the router closed the connection; is it still running?".to_owned());
        };
        let message = decode(&bytes, self.encoding)
            .map_err(|error| format!("the router sent what is no WAMP message: {}; is it a WAMP router?", error.detail))?;
        Ok(Incoming::from(message))
    }

    async fn answer_to(&mut self, request: RequestId) -> Result<Answer, String> {
        loop {
            match self.receive().await? {
                Incoming::Answer(id, answer) if id == request.0 => return Ok(answer),
                incoming => self.arrived.push_back(incoming),
            }
        }
    }
}

/// The words for the end of the session by the router.
fn ended(uri: &str, message: Option<String>) -> String {
    let message = message.map_or(String::new(), |message| format!(" ({message})"));
    format!("the router ended the session: {uri}{message}{}", super::advice(uri))
}

fn hello() -> HelloDetails {
    let role = |features: Features| Some(Role { features: Some(Box::new(features)) });
    let yes = Some(true);
    let roles = Roles {
        publisher: Some(Role::default()),
        subscriber: role(Features { pattern_based_subscription: yes, event_retention: yes, ..Features::default() }),
        caller: role(Features { call_timeout: yes, progressive_call_results: yes, ..Features::default() }),
        callee: role(Features { call_canceling: yes, ..Features::default() }),
        ..Roles::default()
    };
    HelloDetails {
        roles: Some(Box::new(roles)),
        agent: text(concat!("corsac ", env!("CARGO_PKG_VERSION"))),
        authmethods: Some(vec!["anonymous".into()]),
        ..HelloDetails::default()
    }
}

/// The name for publishing, calling and registering, where WAMP has one.
fn uri(topic: &Topic) -> Result<&str, Usage> {
    let uri = topic.as_uri();
    if uri.split('.').any(str::is_empty) {
        return Err(Usage(format!("WAMP cannot name {:?}, which has an empty level; use an mqtt:// URL", topic.as_mqtt())));
    }
    Ok(uri)
}

/// The way in which WAMP asks for a filter: a pattern that has no `match` of its own is an exact URI with `*` and `#` (MAPPING:
/// Topics).
pub fn wamp_filter(filter: &Filter) -> Result<(String, MatchPolicy), Usage> {
    let uri = filter.to_uri().into_owned();
    for policy in [filter.policy(), MatchPolicy::Exact] {
        if Filter::from_subscribed_uri(&uri, policy).as_ref() == Ok(filter) {
            return Ok((uri, policy));
        }
    }
    let text = filter.as_mqtt().unwrap_or(&uri);
    Err(Usage(format!("WAMP cannot ask for {text:?}, which has an empty level; use an mqtt:// URL")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_asked_for_as_wamp_can() {
        for (mqtt, expected) in [
            ("demo/hello", Some(("demo.hello", MatchPolicy::Exact))),
            ("demo/#", Some(("demo.#", MatchPolicy::Exact))),
            ("demo/+/x", Some(("demo..x", MatchPolicy::Wildcard))),
            ("+", Some(("", MatchPolicy::Wildcard))),
            ("#", Some(("#", MatchPolicy::Exact))),
            ("demo/+/#", Some(("demo.*.#", MatchPolicy::Exact))),
            ("a//b", None),
            ("a//+", None),
        ] {
            let asked = wamp_filter(&Filter::from_mqtt(mqtt).unwrap()).ok();
            assert_eq!(asked, expected.map(|(uri, policy)| (uri.to_owned(), policy)), "{mqtt}");
        }
        let prefix = Filter::from_uri("demo.he", MatchPolicy::Prefix).unwrap();
        assert_eq!(wamp_filter(&prefix), Ok(("demo.he".to_owned(), MatchPolicy::Prefix)));
    }
}
