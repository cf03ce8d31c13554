//! Retained messages: stores some, then subscribes to all of them again and again.
use std::sync::Arc;
use std::time::{Duration, Instant};

use corsac::wire::mqtt::Qos;

use super::flight::Flight;
use super::harness::{Context, Group, Load, Task, task};
use super::inlet::Item;
use super::link::Link;
use super::open::{Wanted, ask};
use super::run::{Run, locked};
use super::stamp::Stamp;
use super::target::Target;

/// Publications that are under way while values are stored and removed.
const WINDOW: usize = 200;
const NO_STAMP: Stamp = Stamp { publisher: 0, sequence: 0 };

/// The values that are stored and read.
#[derive(Clone, Debug)]
pub(super) struct Values {
    /// Topics with a retained message.
    pub count: usize,
    /// Payload in bytes.
    pub size: usize,
    /// Connections that subscribe, each again and again.
    pub readers: usize,
    /// Threads for the readers.
    pub threads: usize,
    /// Times count from here.
    pub warm_up: Duration,
    /// A name that no other run has used.
    pub topic: String,
}

/// The workload.
pub(super) fn load(values: &Values, target: &Target) -> Load {
    let values = Arc::new(values.clone());
    let readers = values.readers;
    let run = Run::new(readers + 1, readers);
    let keeper = {
        let (values, target) = (values.clone(), target.clone());
        task(move |context| keep(context, values, target))
    };
    let reader = |index: usize| {
        let (values, target) = (values.clone(), target.clone());
        task(move |context| read_repeatedly(context, values, target, index))
    };
    let tasks: Vec<Task> = (0..readers).map(reader).collect();
    let groups = vec![
        Group { role: "storing", threads: 1, tasks: vec![keeper] },
        Group { role: "reading", threads: values.threads, tasks },
    ];
    Load { run, groups, expected: Box::new(|run| run.sent.sum()), unit: "retained messages" }
}

/// Stores the values before anything else, and removes them when all readers have finished.
async fn keep(context: Context, values: Arc<Values>, target: Target) -> Result<(), String> {
    let mut link = context.open(&target, "k", None).await?;
    let mut flight = Flight::new(&mut link, Qos::AtLeastOnce, WINDOW);
    store(&context, &mut link, &mut flight, &values, values.size).await?;
    context.start().await;
    while context.run.senders_left() > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store(&context, &mut link, &mut flight, &values, 0).await?;
    context.run.finish_sending();
    context.over().await;
    link.close().await;
    Ok(())
}

/// Publishes a retained message to each topic and waits until all are acknowledged; those without payload remove.
async fn store(context: &Context, link: &mut Link, flight: &mut Flight, values: &Values, size: usize) -> Result<(), String> {
    let mut stored = 0;
    while stored < values.count || flight.is_waiting() {
        let room = flight.room((values.count - stored) as u64);
        let mut out = Vec::new();
        for index in (stored..values.count).take(room as usize) {
            let template = link.publication(&format!("{}/{index}", values.topic), Qos::AtLeastOnce, true, size)?;
            template.append(flight.next(), NO_STAMP, &mut out);
            stored += 1;
        }
        link.send(&out).await?;
        link.read(&context.scratch, |item| {
            flight.take(&item);
            Ok(())
        })
        .await?;
        context.run.acknowledged.add(values.readers, flight.newly_acknowledged());
        flight.reply(link).await?;
    }
    Ok(())
}

/// Connects, subscribes, receives every value, and starts over.
async fn read_repeatedly(context: Context, values: Arc<Values>, target: Target, index: usize) -> Result<(), String> {
    context.start().await;
    let run = context.run.clone();
    let latencies = run.histogram();
    let counts_from = run.epoch() + values.warm_up;
    while !run.is_stopping() {
        let mut link = context.open(&target, &format!("r{index}"), None).await?;
        let start = Instant::now();
        run.sent.add(index, values.count as u64);
        ask(&mut link, &values.topic, Qos::AtMostOnce, Wanted::Retained).await?;
        let mut missing = values.count as u64;
        while missing > 0 {
            let mut count = 0;
            link.read(&context.scratch, |item| {
                count += u64::from(matches!(item, Item::Event { .. }));
                Ok(())
            })
            .await?;
            run.received.add(index, count);
            missing = missing.saturating_sub(count);
        }
        if start >= counts_from {
            locked(&latencies).record(start.elapsed());
        }
        link.close().await;
    }
    run.finish_sending();
    Ok(())
}
