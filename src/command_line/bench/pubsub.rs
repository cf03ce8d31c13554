//! Publish and subscribe: any number of publishers, subscribers and topics, every QoS, at full speed or paced.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use corsac::wire::mqtt::Qos;

use super::credit::Credit;
use super::flight::{Flight, append_ack};
use super::harness::{Context, Group, Load, Task, task};
use super::inlet::Item;
use super::link::{Link, source};
use super::open::{Wanted, subscribe};
use super::report::PACING;
use super::run::{Run, locked};
use super::stamp::{Finder, Order, Stamp};
use super::target::Target;
use super::template::Template;

/// A write holds no more than this many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// All writes of all publishers together.
const BATCHES_BYTES: usize = 16 * 1024 * 1024;
/// Bytes that may be under way to one subscriber by default.
const AHEAD_BYTES: usize = 1024 * 1024;
/// So many messages may be in any case, as far as they have no more bytes than this.
const AHEAD_MESSAGES: usize = 64;
const AHEAD_MOST_BYTES: usize = 8 * 1024 * 1024;
/// Shorter waits are spent looking at the clock: the system wakes a sleeping thread about this much late.
const WAKE_UP: Duration = Duration::from_micros(60);

/// The publishers, the subscribers and their messages.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Connections that publish.
    pub publishers: usize,
    /// Connections that subscribe.
    pub subscribers: usize,
    /// Publisher and subscriber i use topic i modulo this.
    pub topics: usize,
    /// QoS of publications and subscriptions; in WAMP above 0 = acknowledged.
    pub qos: Qos,
    /// Publications that may be unacknowledged, for each publisher.
    pub window: usize,
    /// Payload in bytes.
    pub size: usize,
    /// Messages that publishers may be ahead; `None` = some, `Some(0)` = any number.
    pub ahead: Option<u64>,
    /// Messages a second of all publishers together; `None` = as fast as they go.
    pub rate: Option<f64>,
    /// Threads for the publishers, and as many for the subscribers.
    pub threads: usize,
    /// Latencies count from here.
    pub warm_up: Duration,
    /// The time at the end in which messages that were due may be sent late.
    pub drain: Duration,
    /// A name that no other run has used.
    pub topic: String,
}

impl Shape {
    fn topic(&self, index: usize) -> String {
        format!("{}/{}", self.topic, index % self.topics)
    }

    /// The part of `count` that uses topic `topic`.
    fn users(&self, count: usize, topic: usize) -> usize {
        (count + self.topics - 1 - topic) / self.topics
    }

    /// Messages that one topic's publishers may be ahead. Where many subscribe, each has less on its way to it.
    fn ahead(&self) -> Option<u64> {
        match self.ahead {
            Some(0) => None,
            Some(ahead) => Some(ahead),
            None => {
                let readers = self.subscribers.div_ceil(16).max(1);
                let (each, least) = (self.size + 32, AHEAD_MOST_BYTES / (self.size + 32));
                Some((AHEAD_BYTES / each / readers).max(least.clamp(2, AHEAD_MESSAGES)) as u64)
            }
        }
    }

    fn pace(&self) -> Option<Pace> {
        let rate = self.rate?;
        Some(Pace { interval_s: self.publishers as f64 / rate, offset_s: 1.0 / rate })
    }

    /// The messages that are due within `elapsed` from the start; `None` if they are sent as fast as they go.
    pub(super) fn due_by(&self, elapsed: Duration) -> Option<u64> {
        let pace = self.pace()?;
        Some((0..self.publishers).map(|publisher| pace.due_by(publisher as u16, elapsed)).sum())
    }
}

/// When paced messages are due.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Between two messages of one publisher, in seconds.
    interval_s: f64,
    /// Between the first messages of two publishers, in seconds.
    offset_s: f64,
}

impl Pace {
    /// When a message should be sent, counted from the start of the run.
    fn due(&self, stamp: Stamp) -> Duration {
        Duration::from_secs_f64(self.interval_s * stamp.sequence as f64 + self.offset_s * f64::from(stamp.publisher))
    }

    /// The messages of this publisher that are due within `elapsed` from the start of the run.
    fn due_by(&self, publisher: u16, elapsed: Duration) -> u64 {
        // Less than none before the first.
        ((elapsed.as_secs_f64() - self.offset_s * f64::from(publisher)) / self.interval_s + 1.0) as u64
    }
}

/// The workload of this shape; publishers and subscribers may go to different places.
pub(super) fn load(shape: &Shape, publish_to: &Target, subscribe_at: &Target) -> Load {
    let receivers = if shape.subscribers == 0 { shape.publishers } else { shape.subscribers };
    let run = Run::new(shape.publishers, receivers);
    let credit = |topic| Arc::new(Credit::new(shape.users(shape.subscribers, topic), shape.ahead()));
    let credits: Vec<Arc<Credit>> = (0..shape.topics).map(credit).collect();
    let shape = Arc::new(shape.clone());
    let of_topic = |index: usize| credits.get(index % shape.topics).cloned().unwrap_or_else(|| Arc::new(Credit::new(0, None)));
    let publishers: Vec<Task> = (0..shape.publishers)
        .map(|index| {
            let (shape, target, credit) = (shape.clone(), publish_to.clone(), of_topic(index));
            task(move |context| async move { Publisher::open(context, &shape, &target, index, credit).await?.run().await })
        })
        .collect();
    let subscribers: Vec<Task> = (0..shape.subscribers)
        .map(|index| {
            let (shape, target, credit) = (shape.clone(), subscribe_at.clone(), of_topic(index));
            task(move |context| async move { Subscriber::open(context, &shape, &target, index, credit).await?.run().await })
        })
        .collect();
    // A paced publisher sleeps its whole thread.
    let threads = if shape.rate.is_some() { shape.publishers } else { shape.threads };
    let groups = vec![
        Group { role: if shape.rate.is_some() { PACING } else { "publishing" }, threads, tasks: publishers },
        Group { role: "subscribing", threads: shape.threads, tasks: subscribers },
    ];
    let expected = {
        let shape = shape.clone();
        move |run: &Run| {
            if shape.subscribers == 0 {
                return run.sent.sum();
            }
            let of = |publisher| run.sent.at(publisher) * shape.users(shape.subscribers, publisher % shape.topics) as u64;
            (0..shape.publishers).map(of).sum()
        }
    };
    Load { run, groups, expected: Box::new(expected), unit: "received" }
}

/// A connection that publishes.
struct Publisher {
    context: Context,
    link: Link,
    template: Template,
    credit: Arc<Credit>,
    index: usize,
    flight: Flight,
    pace: Option<Pace>,
    /// The time at the end in which messages that were due may be sent late.
    drain: Duration,
    /// Nobody subscribes: acknowledgements count instead.
    is_unheard: bool,
    /// Messages of a write.
    batch: u64,
    sequence: u64,
    out: Vec<u8>,
}

impl Publisher {
    async fn open(context: Context, shape: &Shape, target: &Target, index: usize, credit: Arc<Credit>) -> Result<Self, String> {
        let from = if shape.publishers > 1_000 { source(target, index) } else { None };
        let mut link = context.open(target, &format!("p{index}"), from).await?;
        let template = link.publication(&shape.topic(index), shape.qos, false, shape.size)?;
        let bytes = BATCH_BYTES.min(BATCHES_BYTES / shape.publishers);
        let flight = Flight::new(&mut link, shape.qos, shape.window);
        let batch = (bytes / template.len()).max(1) as u64;
        let pace = shape.pace();
        let is_unheard = shape.subscribers == 0;
        let (drain, sequence, out) = (shape.drain, 0, Vec::new());
        Ok(Publisher { is_unheard, context, link, template, credit, index, flight, pace, drain, batch, sequence, out })
    }

    async fn run(mut self) -> Result<(), String> {
        self.context.start().await;
        let run = self.context.run.clone();
        match self.pace {
            Some(pace) => self.publish_paced(pace).await?,
            None => {
                while !run.is_stopping() {
                    self.publish_some().await?;
                }
            }
        }
        while self.flight.is_waiting() {
            self.listen().await?;
        }
        run.finish_sending();
        self.context.over().await;
        self.link.close().await;
        Ok(())
    }

    /// Sends what window and credit allow, or waits for either.
    async fn publish_some(&mut self) -> Result<(), String> {
        let room = self.flight.room(self.batch);
        let count = if room > 0 { self.credit.take(room) } else { 0 };
        if count > 0 {
            self.send(count).await?;
            return self.listen_now().await;
        }
        if room == 0 {
            return self.listen().await;
        }
        let (link, flight) = (&mut self.link, &mut self.flight);
        let listening = link.read(&self.context.scratch, |item| {
            flight.take(&item);
            Ok(())
        });
        tokio::select! {
            heard = listening => heard?,
            () = self.credit.wait(room) => {}
        }
        self.heard().await
    }

    async fn send(&mut self, count: u64) -> Result<(), String> {
        self.out.clear();
        let publisher = self.index as u16;
        for _ in 0..count {
            let stamp = Stamp { publisher, sequence: self.sequence };
            self.template.append(self.flight.next(), stamp, &mut self.out);
            self.sequence += 1;
        }
        self.context.run.sent.add(self.index, count);
        self.link.send(&self.out).await
    }

    /// Waits for something from the router.
    async fn listen(&mut self) -> Result<(), String> {
        let flight = &mut self.flight;
        self.link
            .read(&self.context.scratch, |item| {
                flight.take(&item);
                Ok(())
            })
            .await?;
        self.heard().await
    }

    /// Hears what the router has said already.
    async fn listen_now(&mut self) -> Result<(), String> {
        let flight = &mut self.flight;
        let heard = self.link.read_now(&self.context.scratch, |item| {
            flight.take(&item);
            Ok(())
        })?;
        if heard { self.heard().await } else { Ok(()) }
    }

    async fn heard(&mut self) -> Result<(), String> {
        let acknowledged = self.flight.newly_acknowledged();
        self.context.run.acknowledged.add(self.index, acknowledged);
        if self.is_unheard {
            self.context.run.received.add(self.index, acknowledged);
        }
        self.flight.reply(&mut self.link).await
    }

    /// Sends each message when it is due, and late ones at once. A late message counts from when it was due, so those that were
    /// held up until the end have to be sent too.
    async fn publish_paced(&mut self, pace: Pace) -> Result<(), String> {
        let run = self.context.run.clone();
        let publisher = self.index as u16;
        loop {
            let (elapsed, stopped) = (run.epoch().elapsed(), run.stopped_after());
            let count = pace.due_by(publisher, stopped.unwrap_or(elapsed)).saturating_sub(self.sequence).min(self.batch);
            let room = self.flight.room(count);
            if stopped.is_some_and(|stopped| count == 0 || elapsed > stopped + self.drain) {
                return Ok(());
            }
            if room > 0 {
                self.send(room).await?;
            } else if count > 0 {
                self.listen().await?;
            } else {
                let left = pace.due(Stamp { publisher, sequence: self.sequence }).saturating_sub(elapsed);
                if left > WAKE_UP {
                    // This thread has nothing else to do.
                    std::thread::sleep((left - WAKE_UP).min(Duration::from_millis(20)));
                }
                // Lets the runtime look at the socket.
                tokio::task::yield_now().await;
                self.listen_now().await?;
            }
        }
    }
}

/// A connection that subscribes.
struct Subscriber {
    context: Context,
    link: Link,
    credit: Arc<Credit>,
    index: usize,
    /// Its place among the subscribers of its topic.
    place: usize,
    pace: Option<Pace>,
    warm_up: Duration,
}

impl Subscriber {
    async fn open(context: Context, shape: &Shape, target: &Target, index: usize, credit: Arc<Credit>) -> Result<Self, String> {
        let from = if shape.subscribers > 1_000 { source(target, index) } else { None };
        let mut link = context.open(target, &format!("s{index}"), from).await?;
        subscribe(&mut link, &shape.topic(index), shape.qos, Wanted::Topic).await?;
        let place = index / shape.topics;
        Ok(Subscriber { context, link, credit, index, place, pace: shape.pace(), warm_up: shape.warm_up })
    }

    async fn run(mut self) -> Result<(), String> {
        self.context.start().await;
        let run = self.context.run.clone();
        let latencies = run.histogram();
        let framing = self.link.framing();
        let (mut finder, mut order, mut replies) = (Finder::default(), Order::default(), Vec::new());
        let timed = self.pace.map(|pace| (pace, run.epoch(), self.warm_up));
        loop {
            let mut count = 0;
            let mut arrival: Option<Duration> = None;
            let mut latencies = timed.map(|_| latencies.clone());
            self.link
                .read(&self.context.scratch, |item| {
                    match item {
                        Item::Event { qos, packet_id, body, .. } => {
                            count += 1;
                            match qos {
                                0 => {}
                                1 => append_ack(0x40, packet_id, &mut replies),
                                _ => append_ack(0x50, packet_id, &mut replies),
                            }
                            let Some(stamp) = finder.find(body) else { return Ok(()) };
                            order.see(stamp);
                            if let (Some((pace, epoch, warm_up)), Some(latencies)) = (timed, &mut latencies) {
                                let arrival = *arrival.get_or_insert_with(|| Instant::now() - epoch);
                                let due = pace.due(stamp);
                                if due >= warm_up {
                                    locked(latencies).record(arrival.saturating_sub(due));
                                }
                            }
                        }
                        Item::Release(packet_id) => append_ack(0x70, packet_id, &mut replies),
                        Item::Ping(ping) => framing.append_pong(ping, &mut replies),
                        _ => {}
                    }
                    Ok(())
                })
                .await?;
            if count > 0 {
                run.received.add(self.index, count);
                self.credit.receive(self.place, count);
                run.repeated.fetch_add(order.newly_repeated(), Ordering::Relaxed);
            }
            if !replies.is_empty() {
                self.link.send(&replies).await?;
                replies.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(publishers: usize, subscribers: usize, topics: usize) -> Shape {
        Shape {
            publishers,
            subscribers,
            topics,
            qos: Qos::AtMostOnce,
            window: 1,
            size: 64,
            ahead: None,
            rate: Some(1_000.0),
            threads: 1,
            warm_up: Duration::ZERO,
            drain: Duration::ZERO,
            topic: "t".into(),
        }
    }

    #[test]
    fn topics_share_their_users_out() {
        let shape = shape(5, 7, 3);
        assert_eq!((0..3).map(|topic| shape.users(7, topic)).collect::<Vec<_>>(), [3, 2, 2]);
        assert_eq!((0..3).map(|topic| shape.users(2, topic)).collect::<Vec<_>>(), [1, 1, 0]);
        assert_eq!(shape.topic(4), "t/1");
    }

    #[test]
    fn many_subscribers_get_less_ahead() {
        let bytes = |subscribers| shape(1, subscribers, 1).ahead().unwrap();
        assert!(bytes(1) == bytes(16) && bytes(16) > bytes(100) && bytes(1_000_000) == 64);
        assert_eq!(Shape { ahead: Some(0), ..shape(1, 1, 1) }.ahead(), None);
        let of_size = |size| Shape { size, ..shape(1, 1, 1) }.ahead().unwrap();
        assert_eq!((of_size(65_536), of_size(1_000_000), of_size(100_000_000)), (64, 8, 2));
    }

    #[test]
    fn paced_publishers_take_turns() {
        let pace = shape(4, 1, 1).pace().unwrap();
        let due = |publisher, sequence| pace.due(Stamp { publisher, sequence });
        assert_eq!((due(0, 0), due(1, 0), due(3, 0), due(0, 1)), (ms(0), ms(1), ms(3), ms(4)));
        assert_eq!(due(2, 1_000_000), ms(4_000_002));
        let due_by = |publisher, after| pace.due_by(publisher, ms(after));
        assert_eq!((due_by(0, 0), due_by(1, 0), due_by(0, 3), due_by(0, 4), due_by(3, 4_000)), (1, 0, 1, 2, 1_000));
        assert_eq!(shape(4, 1, 1).due_by(Duration::from_micros(999_500)), Some(1_000));
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
