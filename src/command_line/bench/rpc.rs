//! Remote procedure calls with a window: WAMP's, Corsac's over MQTT 5, and plain requests and responses of MQTT 5.
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use corsac::model::{Encoding, Payload, RequestId, names as reserved};
use corsac::wire::mqtt::{Packet, Peer, Publish, PublishProperties, Qos, Version, decode};
use corsac::wire::wamp::Message;
use corsac::wire::wamp::options::CallOptions;

use super::harness::{Context, Group, Load, Task, task};
use super::histogram::Histogram;
use super::inlet::{HEAD_BYTES, Item, mqtt_head, readable};
use super::link::{Link, append_packet, wamp_spelling};
use super::open::{Wanted, register, subscribe};
use super::run::{Run, locked};
use super::stamp::{self, Stamp};
use super::target::{Protocol, Target};
use super::template::{Framing, SENTINEL, Template};

/// Calls are answered with this status by Corsac; anything else is a failure.
const STATUS: (&str, &str) = (reserved::STATUS, "result");
/// A write holds calls until it has so many bytes.
const MAX_WRITE_BYTES: usize = 256 * 1024;
const NO_STAMP: Stamp = Stamp { publisher: 0, sequence: 0 };

/// The callers and the callees.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    /// Connections that call.
    pub callers: usize,
    /// Connections that serve one procedure each; caller i calls procedure i modulo this.
    pub callees: usize,
    /// Calls of a caller that may be unanswered.
    pub window: usize,
    /// Payload of calls and of results in bytes.
    pub size: usize,
    /// MQTT: plain topics instead of `$call/`.
    pub plain: bool,
    /// Threads for the callers, and as many for the callees.
    pub threads: usize,
    /// Latencies count from here.
    pub warm_up: Duration,
    /// A name that no other run has used.
    pub procedure: String,
}

impl Calls {
    /// Spelled as in MQTT.
    fn procedure(&self, index: usize) -> String {
        format!("{}/{}", self.procedure, index % self.callees)
    }
}

/// The workload; callees may be at another place than callers.
pub(super) fn load(calls: &Calls, call_at: &Target, serve_at: &Target) -> Result<Load, String> {
    for target in [call_at, serve_at] {
        if matches!(target.protocol, Protocol::Mqtt(version) if version != Version::V5) {
            return Err("calls over MQTT are measured in version 5 only".into());
        }
    }
    let run = Run::new(calls.callers, calls.callers);
    let calls = Arc::new(calls.clone());
    let callers: Vec<Task> = (0..calls.callers)
        .map(|index| {
            let (calls, target) = (calls.clone(), call_at.clone());
            task(move |context| async move { Caller::open(context, &calls, &target, index).await?.run().await })
        })
        .collect();
    let callees: Vec<Task> = (0..calls.callees)
        .map(|index| {
            let (calls, target) = (calls.clone(), serve_at.clone());
            task(move |context| serve(context, calls, target, index))
        })
        .collect();
    let groups = vec![
        Group { role: "calling", threads: calls.threads, tasks: callers },
        Group { role: "serving", threads: calls.threads, tasks: callees },
    ];
    Ok(Load { run, groups, expected: Box::new(|run| run.sent.sum()), unit: "results" })
}

/// A connection that calls.
struct Caller {
    context: Context,
    link: Link,
    template: Template,
    pending: Pending,
    index: usize,
    warm_up: Duration,
}

/// Calls without a result.
struct Pending {
    /// When the call was made whose id is this modulo the length.
    since: Vec<Option<Instant>>,
    next_id: u64,
    count: usize,
    window: usize,
}

impl Pending {
    fn new(window: usize, next_id: u64) -> Self {
        // Room for results that come in another order.
        Pending { since: vec![None; window.saturating_mul(4).next_power_of_two()], next_id, count: 0, window }
    }

    fn slot(&mut self, id: u64) -> Option<&mut Option<Instant>> {
        let at = id % self.since.len() as u64;
        self.since.get_mut(at as usize)
    }

    /// The id of a call that is made `now`; `None` while too many are unanswered.
    fn call(&mut self, now: Instant) -> Option<u64> {
        let id = self.next_id;
        if self.count >= self.window {
            return None;
        }
        let slot = self.slot(id).filter(|slot| slot.is_none())?;
        *slot = Some(now);
        self.next_id += 1;
        self.count += 1;
        Some(id)
    }

    /// When the call was made that is answered; `None` if there is none.
    fn answer(&mut self, id: u64) -> Option<Instant> {
        let since = self.slot(id)?.take()?;
        self.count -= 1;
        Some(since)
    }
}

impl Caller {
    async fn open(context: Context, calls: &Calls, target: &Target, index: usize) -> Result<Self, String> {
        let mut link = context.open(target, &format!("c{index}"), None).await?;
        let procedure = calls.procedure(index);
        let template = match link.encoding() {
            Some(encoding) => wamp_call(&link, &procedure, calls.size, encoding)?,
            None if calls.plain => {
                let reply = format!("{procedure}/reply/{index}");
                subscribe(&mut link, &reply, Qos::AtMostOnce, Wanted::Topic).await?;
                mqtt_call(&procedure, &reply, calls.size)?
            }
            None => {
                subscribe(&mut link, reserved::REPLY.trim_end_matches('/'), Qos::AtMostOnce, Wanted::Below).await?;
                mqtt_call(&format!("{}{procedure}", reserved::CALL), &format!("{}b", reserved::REPLY), calls.size)?
            }
        };
        let pending = Pending::new(calls.window, link.next_request());
        Ok(Caller { context, link, template, pending, index, warm_up: calls.warm_up })
    }

    async fn run(mut self) -> Result<(), String> {
        // Procedures are there once everybody is ready.
        self.context.start().await;
        let run = self.context.run.clone();
        let latencies = run.histogram();
        let counts_from = run.epoch() + self.warm_up;
        let framing = self.link.framing();
        let mut results = Results { pending: self.pending, count: 0, latencies, counts_from, framing, replies: Vec::new() };
        let mut out = Vec::new();
        loop {
            out.clear();
            out.append(&mut results.replies);
            let now = Instant::now();
            let mut calls = 0;
            while !run.is_stopping()
                && out.len() < MAX_WRITE_BYTES
                && let Some(id) = results.pending.call(now)
            {
                self.template.append(id, NO_STAMP, &mut out);
                calls += 1;
            }
            if results.pending.count == 0 {
                break;
            }
            run.sent.add(self.index, calls);
            self.link.send_and_read(&out, &self.context.scratch, |item| results.take(&item)).await?;
            if calls == 0 && results.count == 0 {
                self.link.read(&self.context.scratch, |item| results.take(&item)).await?;
            }
            run.received.add(self.index, std::mem::take(&mut results.count));
        }
        run.finish_sending();
        self.context.over().await;
        self.link.close().await;
        Ok(())
    }
}

/// The results that a caller receives.
struct Results {
    pending: Pending,
    /// Results that have come and are not counted yet.
    count: u64,
    latencies: Arc<Mutex<Histogram>>,
    /// Calls made from here on are timed.
    counts_from: Instant,
    framing: Framing,
    /// Answers to pings.
    replies: Vec<u8>,
}

impl Results {
    fn take(&mut self, item: &Item<'_>) -> Result<(), String> {
        let id = match item {
            Item::Result(id) => *id,
            Item::Event { whole, .. } => correlation(whole)?,
            Item::Ping(ping) => {
                self.framing.append_pong(ping, &mut self.replies);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let since = self.pending.answer(id).ok_or_else(|| format!("the router answers call {id}, which was not made"))?;
        self.count += 1;
        if since >= self.counts_from {
            locked(&self.latencies).record(since.elapsed());
        }
        Ok(())
    }
}

fn wamp_call(link: &Link, procedure: &str, size: usize, encoding: Encoding) -> Result<Template, String> {
    let payload = Payload::Bytes(stamp::payload(size).into());
    let procedure = wamp_spelling(procedure).into();
    let call = Message::Call { request: RequestId(SENTINEL), options: CallOptions::default(), procedure, payload };
    link.template(&call, encoding)
}

/// A request whose correlation data are the id in eight bytes.
fn mqtt_call(topic: &str, response_topic: &str, size: usize) -> Result<Template, String> {
    let (id, payload) = (SENTINEL.to_be_bytes(), stamp::payload(size));
    let properties =
        PublishProperties { response_topic: Some(response_topic), correlation_data: Some(&id), ..PublishProperties::default() };
    let publish = Publish { topic, properties, payload: &payload, ..Publish::default() };
    let mut encoded = BytesMut::new();
    append_packet(&Packet::Publish(publish), Version::V5, &mut encoded)?;
    Ok(Template::new(Framing::None, &encoded))
}

/// The PUBLISH that `whole` is. Of one that is passed over but for its head the payload ends early; `head` is room for that.
fn publish_of<'a>(whole: &'a [u8], head: &'a mut Vec<u8>) -> Result<Publish<'a>, String> {
    let packet = match mqtt_head(whole)? {
        Some((start, length)) if start + length > whole.len() => {
            let body = whole.get(start..HEAD_BYTES).unwrap_or_default();
            // The remaining length in two bytes (MQTT 1.5.5).
            head.extend_from_slice(&[0x30, 0x80 | (body.len() & 0x7F) as u8, (body.len() >> 7) as u8]);
            head.extend_from_slice(body);
            head
        }
        _ => whole,
    };
    match decode(packet, Version::V5, Peer::Server) {
        Ok(Packet::Publish(publish)) => Ok(publish),
        _ => Err(format!("the router sends what is no PUBLISH of MQTT 5: {}", readable(whole))),
    }
}

/// The id of the call that this packet answers.
fn correlation(whole: &[u8]) -> Result<u64, String> {
    let mut head = Vec::new();
    let publish = publish_of(whole, &mut head)?;
    if let Some((_, status)) = publish.properties.user.iter().find(|(name, status)| *name == STATUS.0 && *status != STATUS.1) {
        return Err(format!("a call came back with {} {status}: {}", STATUS.0, readable(publish.payload)));
    }
    let id = publish.properties.correlation_data.and_then(|data| data.first_chunk());
    id.map(|id| u64::from_be_bytes(*id)).ok_or_else(|| "a response came without its correlation data".into())
}

/// A connection that serves.
async fn serve(context: Context, calls: Arc<Calls>, target: Target, index: usize) -> Result<(), String> {
    let mut link = context.open(&target, &format!("e{index}"), None).await?;
    let procedure = calls.procedure(index);
    let answer = match link.encoding() {
        Some(encoding) => {
            register(&mut link, &procedure, encoding).await?;
            Some(link.answer(encoding, calls.size)?)
        }
        None => {
            let filter = if calls.plain { procedure } else { format!("{}{procedure}", reserved::CALLEE) };
            subscribe(&mut link, &filter, Qos::AtMostOnce, Wanted::Topic).await?;
            None
        }
    };
    context.start().await;
    let (payload, framing) = (stamp::payload(calls.size), link.framing());
    let mut server = Server { answer, payload, framing, packet: BytesMut::new(), out: Vec::new() };
    loop {
        let out = std::mem::take(&mut server.out);
        link.send_and_read(&out, &context.scratch, |item| server.take(&item)).await?;
        if server.out.is_empty() {
            link.read(&context.scratch, |item| server.take(&item)).await?;
        }
    }
}

/// The calls that a callee receives, and its answers.
struct Server {
    /// WAMP's.
    answer: Option<Template>,
    payload: Vec<u8>,
    framing: Framing,
    /// Room for one response of MQTT.
    packet: BytesMut,
    out: Vec<u8>,
}

impl Server {
    fn take(&mut self, item: &Item<'_>) -> Result<(), String> {
        match (item, &self.answer) {
            (Item::Invocation(id), Some(answer)) => answer.append(*id, NO_STAMP, &mut self.out),
            (Item::Event { whole, .. }, None) => {
                self.packet.clear();
                respond(whole, &self.payload, &mut self.packet)?;
                self.out.extend_from_slice(&self.packet);
            }
            (Item::Ping(ping), _) => self.framing.append_pong(ping, &mut self.out),
            _ => {}
        }
        Ok(())
    }
}

/// The response to a request, where it wants it.
fn respond(whole: &[u8], payload: &[u8], out: &mut BytesMut) -> Result<(), String> {
    let mut head = Vec::new();
    let request = publish_of(whole, &mut head)?;
    let topic = request.properties.response_topic.ok_or("a call came without a response topic")?;
    let properties = PublishProperties { correlation_data: request.properties.correlation_data, ..PublishProperties::default() };
    append_packet(&Packet::Publish(Publish { topic, properties, payload, ..Publish::default() }), Version::V5, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_wait_for_room_in_the_window() {
        let (mut pending, now) = (Pending::new(2, 1), Instant::now());
        assert_eq!((pending.call(now), pending.call(now), pending.call(now)), (Some(1), Some(2), None));
        assert_eq!((pending.answer(2), pending.answer(2), pending.answer(77)), (Some(now), None, None));
        assert_eq!((pending.call(now), pending.call(now)), (Some(3), None));
    }

    #[test]
    fn a_late_answer_keeps_its_time() {
        let (mut pending, first, later) = (Pending::new(2, 1), Instant::now(), Instant::now() + Duration::from_secs(1));
        assert_eq!(pending.call(first), Some(1));
        // The others go round until they come to the slot of the first one.
        let mut last = 1;
        while let Some(id) = pending.call(later) {
            last = id;
            assert_eq!(pending.answer(id), Some(later));
        }
        assert_eq!(last, 8);
        assert_eq!(pending.answer(1), Some(first));
        assert_eq!(pending.call(later), Some(9));
    }

    #[test]
    fn requests_are_answered_by_their_correlation() {
        let template = mqtt_call("$call/a", "$reply/b", 10).unwrap();
        let mut request = Vec::new();
        template.append(77, NO_STAMP, &mut request);
        let mut answer = BytesMut::new();
        respond(&request, b"result", &mut answer).unwrap();
        assert_eq!(publish_of(&answer, &mut Vec::new()).unwrap().topic, "$reply/b");
        assert_eq!(correlation(&answer), Ok(77));
        // Of a large one only the head is there.
        let mut large = BytesMut::new();
        respond(&request, &[b'x'; 100_000], &mut large).unwrap();
        assert_eq!(correlation(&large[..HEAD_BYTES]), Ok(77));
        let mut bare = BytesMut::new();
        append_packet(&Packet::Publish(Publish { topic: "a", ..Publish::default() }), Version::V5, &mut bare).unwrap();
        assert!(correlation(&bare).is_err() && respond(&bare, b"", &mut answer).is_err());
    }
}
