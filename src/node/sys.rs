//! `$SYS`: the router's figures as retained messages, under the names that mosquitto gave them, in every realm.
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::MissedTickBehavior;

use super::event_loop::EventLoop;
use super::realms::Realms;
use crate::model::{Payload, Publication, Qos, Topic};
use crate::net::entrance::Doorway;
use crate::net::traffic::Totals;
use crate::router::{Counters, Owed, RealmSizes};

/// Load averages over 1, 5 and 15 minutes: what a reading moves them.
const LOADS: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

/// Sessions whose figures are taken at a time, so that others are served in between.
const PLACES: usize = 128;

/// Publishes the figures this often until the task is dropped; never if the interval is zero.
pub async fn publish_figures(realms: Arc<Realms>, doorway: Arc<Doorway>, every: Duration) {
    if every.is_zero() {
        return;
    }
    let started = Instant::now();
    let mut figures = Figures::new(every);
    // The figures that each realm was told last: only changes are told again, and a new realm is told everything.
    let mut published: HashMap<Box<str>, HashMap<String, String>> = HashMap::new();
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let realms = realms.all();
        published.retain(|name, _| realms.iter().any(|(realm, _)| realm == name));
        let (mut all, mut own) = (Reading::default(), Vec::new());
        for (name, realm) in &realms {
            let reading = Reading::of(realm).await;
            all.add(&reading);
            own.push(reading.figures(&format!("$SYS/realm/{}", level_of(name))));
        }
        let of_all = figures.take(&all, &doorway, started.elapsed());
        for ((name, realm), own) in realms.iter().zip(&own) {
            let last = published.entry(name.clone()).or_default();
            for (topic, value) in of_all.iter().chain(own) {
                if last.get(topic) != Some(value) {
                    last.insert(topic.clone(), value.clone());
                    publish(realm, topic, value);
                }
            }
        }
    }
}

fn publish(realm: &EventLoop, topic: &str, value: &str) {
    let Ok(topic) = Topic::from_mqtt(topic) else { return };
    let payload = Payload::Bytes(Bytes::copy_from_slice(value.as_bytes()));
    let mut publication = Publication::new(topic, payload, Qos::AtMostOnce);
    publication.retain = true;
    realm.publish_own(publication);
}

/// A realm's name as one level of a topic.
fn level_of(name: &str) -> String {
    Topic::from_uri(name).map_or_else(|_| name.to_owned(), |topic| topic.as_mqtt().replace('/', "."))
}

/// The sizes and counters of a realm, or of all of them together.
#[derive(Clone, Copy, Default)]
struct Reading {
    sizes: RealmSizes,
    counters: Counters,
    owed: Owed,
    unreadable: u64,
}

impl Reading {
    async fn of(realm: &EventLoop) -> Self {
        let ((sizes, counters), unreadable) = (realm.sizes(), realm.unreadable());
        let mut owed = Owed::default();
        for first in (0..).step_by(PLACES) {
            let Some(some) = realm.owed(first..first + PLACES) else { break };
            owed.add(&some);
            tokio::task::yield_now().await;
        }
        Reading { sizes, counters, owed, unreadable }
    }

    fn add(&mut self, more: &Reading) {
        self.sizes.add(&more.sizes);
        self.counters.add(&more.counters);
        self.owed.add(&more.owed);
        self.unreadable += more.unreadable;
    }

    /// Publications that are held for somebody, as mosquitto counts them: what is retained and what sessions are owed.
    fn stored(&self) -> u64 {
        self.sizes.retained as u64 + self.owed.messages
    }

    /// The figures that the process and each of its realms have alike. Names with the same value are old ones, which dashboards read.
    fn figures(&self, prefix: &str) -> Vec<(String, String)> {
        let Reading { sizes, counters, owed, unreadable } = self;
        let away = (sizes.sessions - sizes.connected) as u64;
        let figures = [
            ("clients/total", sizes.sessions as u64),
            ("clients/connected", sizes.connected as u64),
            ("clients/active", sizes.connected as u64),
            ("clients/disconnected", away),
            ("clients/inactive", away),
            ("clients/expired", counters.expired),
            // As in mosquitto, whose two counts have no subscription in common.
            ("subscriptions/count", (sizes.subscriptions - sizes.shared_subscriptions) as u64),
            ("shared_subscriptions/count", sizes.shared_subscriptions as u64),
            ("retained messages/count", sizes.retained as u64),
            ("messages/stored", self.stored()),
            ("messages/inflight", owed.in_flight),
            ("store/messages/count", self.stored()),
            ("store/messages/bytes", sizes.retained_bytes as u64 + owed.bytes),
            ("store/records/unreadable", *unreadable),
            ("publish/messages/received", counters.published),
            ("publish/messages/sent", counters.delivered),
            ("publish/messages/dropped", counters.dropped),
            ("publish/bytes/received", counters.published_bytes),
            ("publish/bytes/sent", counters.delivered_bytes),
            ("calls/errors/unheard", counters.unheard),
        ];
        figures.iter().map(|(name, value)| (format!("{prefix}/{name}"), value.to_string())).collect()
    }
}

/// The state that the next figures depend on.
struct Figures {
    every: Duration,
    last: (Totals, Counters, u64),
    loads: HashMap<String, f64>,
    most_clients: usize,
}

impl Figures {
    fn new(every: Duration) -> Self {
        Figures { every, last: Default::default(), loads: HashMap::new(), most_clients: 0 }
    }

    /// The figures of the process, whose realms have `all` together.
    fn take(&mut self, all: &Reading, doorway: &Doorway, uptime: Duration) -> Vec<(String, String)> {
        self.most_clients = self.most_clients.max(all.sizes.connected);
        let totals = doorway.traffic.totals();
        let mut figures: Vec<(String, String)> = vec![
            ("$SYS/broker/version".into(), concat!("corsac version ", env!("CARGO_PKG_VERSION")).into()),
            ("$SYS/broker/uptime".into(), format!("{} seconds", uptime.as_secs())),
            ("$SYS/broker/clients/maximum".into(), self.most_clients.to_string()),
            ("$SYS/broker/messages/received".into(), totals.messages_received.to_string()),
            ("$SYS/broker/messages/sent".into(), totals.messages_sent.to_string()),
            ("$SYS/broker/messages/too large".into(), totals.messages_too_large.to_string()),
            ("$SYS/broker/messages/withheld".into(), totals.messages_withheld.to_string()),
            ("$SYS/broker/properties/left out".into(), totals.properties_left_out.to_string()),
            ("$SYS/broker/bytes/received".into(), totals.bytes_received.to_string()),
            ("$SYS/broker/bytes/sent".into(), totals.bytes_sent.to_string()),
        ];
        figures.extend(all.figures("$SYS/broker"));
        figures.extend(self.take_loads(totals, all.counters, doorway.accepted()));
        figures
    }

    /// Exponentially decaying averages per minute, as mosquitto computes them.
    fn take_loads(&mut self, totals: Totals, counters: Counters, accepted: u64) -> Vec<(String, String)> {
        let (before, counted, sockets) = std::mem::replace(&mut self.last, (totals, counters, accepted));
        let moved = [
            ("messages/received", totals.messages_received - before.messages_received),
            ("messages/sent", totals.messages_sent - before.messages_sent),
            ("bytes/received", totals.bytes_received - before.bytes_received),
            ("bytes/sent", totals.bytes_sent - before.bytes_sent),
            ("publish/received", counters.published.saturating_sub(counted.published)),
            ("publish/sent", counters.delivered.saturating_sub(counted.delivered)),
            ("publish/dropped", counters.dropped.saturating_sub(counted.dropped)),
            ("connections", totals.connects - before.connects),
            ("sockets", accepted - sockets),
        ];
        let seconds = self.every.as_secs_f64();
        let mut figures = Vec::new();
        for (what, count) in moved {
            let a_minute = count as f64 * (60.0 / seconds);
            for (period, minutes) in LOADS {
                let name = format!("$SYS/broker/load/{what}/{period}");
                let keep = (-seconds / (60.0 * minutes)).exp();
                let load = self.loads.entry(name.clone()).or_default();
                *load = a_minute + keep * (*load - a_minute);
                figures.push((name, format!("{load:.2}")));
            }
        }
        figures
    }
}
