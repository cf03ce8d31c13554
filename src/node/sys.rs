//! `$SYS`: the router's figures as retained messages, under the names that mosquitto gave them, in every realm.
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::event_loop::EventLoop;
use super::realms::Realms;
use crate::model::{Payload, Publication, Qos, Topic};
use crate::net::entrance::Doorway;
use crate::net::traffic::Totals;
use crate::router;

/// How often figures are taken, as in mosquitto.
const INTERVAL: Duration = Duration::from_secs(10);

/// Load averages over 1, 5 and 15 minutes: what a reading moves them.
const LOADS: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

/// Publishes the figures until the task is dropped.
pub async fn publish_figures(realms: Arc<Realms>, doorway: Arc<Doorway>) {
    let started = Instant::now();
    let mut figures = Figures::default();
    // What each realm was told last: only changes are told again, and a new realm is told everything.
    let mut published: HashMap<Box<str>, HashMap<String, String>> = HashMap::new();
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        let figures_of_all = figures.take(&realms, &doorway, started.elapsed());
        let realms = realms.all();
        published.retain(|name, _| realms.iter().any(|(realm, _)| realm == name));
        for (name, realm) in realms {
            let last = published.entry(name.clone()).or_default();
            let own = state_of(&format!("$SYS/realm/{}", level_of(&name)), &realm.sizes());
            for (topic, value) in figures_of_all.iter().chain(&own) {
                if last.get(topic) == Some(value) {
                    continue;
                }
                last.insert(topic.clone(), value.clone());
                publish(&realm, topic, value);
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

/// What the next figures depend on.
#[derive(Default)]
struct Figures {
    last: Option<(Totals, router::Counters, u64)>,
    loads: HashMap<String, f64>,
    most_clients: usize,
}

impl Figures {
    /// The figures of the process.
    fn take(&mut self, realms: &Realms, doorway: &Doorway, uptime: Duration) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = vec![
            ("$SYS/broker/version".into(), concat!("corsac version ", env!("CARGO_PKG_VERSION")).into()),
            ("$SYS/broker/uptime".into(), format!("{} seconds", uptime.as_secs())),
        ];
        let (mut sizes, mut counters) = (router::RealmSizes::default(), router::Counters::default());
        for (_, realm) in realms.all() {
            let (realm_sizes, realm_counters) = realm.sizes();
            sizes.add(&realm_sizes);
            counters.add(&realm_counters);
        }
        self.most_clients = self.most_clients.max(sizes.connected);
        all.push(("$SYS/broker/clients/maximum".into(), self.most_clients.to_string()));
        all.extend(state_of("$SYS/broker", &(sizes, counters)));
        let totals = doorway.traffic.totals();
        all.extend([
            ("$SYS/broker/messages/received".into(), totals.messages_received.to_string()),
            ("$SYS/broker/messages/sent".into(), totals.messages_sent.to_string()),
            ("$SYS/broker/messages/withheld".into(), totals.messages_withheld.to_string()),
            ("$SYS/broker/properties/left out".into(), totals.properties_left_out.to_string()),
            ("$SYS/broker/bytes/received".into(), totals.bytes_received.to_string()),
            ("$SYS/broker/bytes/sent".into(), totals.bytes_sent.to_string()),
        ]);
        all.extend(self.take_loads(totals, counters, doorway.accepted()));
        all
    }

    /// Exponentially decaying averages per minute, as mosquitto computes them.
    fn take_loads(&mut self, totals: Totals, counters: router::Counters, accepted: u64) -> Vec<(String, String)> {
        let (before, counted, connected) = self.last.replace((totals, counters, accepted)).unwrap_or_default();
        let moved = [
            ("messages/received", totals.messages_received - before.messages_received),
            ("messages/sent", totals.messages_sent - before.messages_sent),
            ("bytes/received", totals.bytes_received - before.bytes_received),
            ("bytes/sent", totals.bytes_sent - before.bytes_sent),
            ("publish/received", counters.published.saturating_sub(counted.published)),
            ("publish/sent", counters.delivered.saturating_sub(counted.delivered)),
            ("publish/dropped", counters.dropped.saturating_sub(counted.dropped)),
            ("connections", accepted - connected),
        ];
        let mut all = Vec::new();
        for (what, count) in moved {
            let a_minute = count as f64 * (60.0 / INTERVAL.as_secs_f64());
            for (period, minutes) in LOADS {
                let name = format!("$SYS/broker/load/{what}/{period}");
                let keep = (-INTERVAL.as_secs_f64() / (60.0 * minutes)).exp();
                let load = self.loads.entry(name.clone()).or_default();
                *load = a_minute + keep * (*load - a_minute);
                all.push((name, format!("{load:.2}")));
            }
        }
        all
    }
}

/// The figures that the process and each of its realms have alike.
fn state_of(prefix: &str, (sizes, counters): &(router::RealmSizes, router::Counters)) -> Vec<(String, String)> {
    let figures = [
        ("clients/total", sizes.sessions as u64),
        ("clients/connected", sizes.connected as u64),
        ("clients/disconnected", (sizes.sessions - sizes.connected) as u64),
        ("subscriptions/count", sizes.subscriptions as u64),
        ("retained messages/count", sizes.retained as u64),
        ("publish/messages/received", counters.published),
        ("publish/messages/sent", counters.delivered),
        ("publish/messages/dropped", counters.dropped),
        ("calls/errors/unheard", counters.unheard),
    ];
    figures.iter().map(|(name, value)| (format!("{prefix}/{name}"), value.to_string())).collect()
}
