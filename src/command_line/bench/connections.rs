//! Connections by themselves: how many a second can be opened and closed, and what idle ones cost.
use std::time::{Duration, Instant};

use corsac::wire::mqtt::Qos;

use super::harness::{Context, Group, Load, Task, task};
use super::link::source;
use super::open::{Wanted, subscribe};
use super::run::{Run, locked};
use super::target::Target;

/// Opens connections and closes them again, `parallel` at a time.
pub(super) fn connect(target: &Target, parallel: usize, threads: usize, warm_up: Duration) -> Load {
    let opening = |index: usize| {
        let target = target.clone();
        task(move |context| open_and_close(context, target, index, parallel, warm_up))
    };
    let tasks: Vec<Task> = (0..parallel).map(opening).collect();
    let groups = vec![Group { role: "connecting", threads, tasks }];
    let run = Run::new(parallel, parallel);
    Load { run, groups, expected: Box::new(|run| run.sent.sum()), unit: "connections" }
}

async fn open_and_close(
    context: Context,
    target: Target,
    index: usize,
    parallel: usize,
    warm_up: Duration,
) -> Result<(), String> {
    context.start().await;
    let run = context.run.clone();
    let latencies = run.histogram();
    let counts_from = run.epoch() + warm_up;
    let mut round = 0;
    while !run.is_stopping() {
        let number = index + round * parallel;
        round += 1;
        run.sent.add(index, 1);
        let start = Instant::now();
        let link = context.open_now(&target, &number.to_string(), source(&target, number)).await?;
        if start >= counts_from {
            locked(&latencies).record(start.elapsed());
        }
        run.received.add(index, 1);
        link.close().await;
    }
    run.finish_sending();
    Ok(())
}

/// Opens `count` connections, subscribes on each to `subscriptions` topics below `topic`, and holds them.
pub(super) fn idle(target: &Target, count: usize, subscriptions: u64, topic: &str, threads: usize) -> Load {
    let holding = |index: usize| {
        let (target, topic) = (target.clone(), format!("{topic}/{index}"));
        task(move |context| hold(context, target, index, subscriptions, topic))
    };
    let tasks: Vec<Task> = (0..count).map(holding).collect();
    let groups = vec![Group { role: "holding", threads, tasks }];
    let run = Run::new(0, count);
    Load { run, groups, expected: Box::new(move |_| count as u64), unit: "connections" }
}

async fn hold(context: Context, target: Target, index: usize, subscriptions: u64, topic: String) -> Result<(), String> {
    let mut link = context.open(&target, &index.to_string(), source(&target, index)).await?;
    for number in 0..subscriptions {
        subscribe(&mut link, &format!("{topic}/{number}"), Qos::AtMostOnce, Wanted::Topic).await?;
        context.run.note_step();
    }
    context.run.received.add(index, 1);
    context.start().await;
    let framing = link.framing();
    loop {
        let mut replies = Vec::new();
        link.read(&context.scratch, |item| {
            if let super::inlet::Item::Ping(ping) = item {
                framing.append_pong(ping, &mut replies);
            }
            Ok(())
        })
        .await?;
        link.send(&replies).await?;
    }
}
