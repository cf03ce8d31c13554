//! `corsac pub`: publishes messages.
use std::io;

use clap::Args;
use corsac::model::{Qos, Topic};
use tokio::sync::mpsc;

use super::client::body::Body;
use super::client::target::Target;
use super::client::{Client, Publishing, names};

/// What `corsac pub` is told.
#[derive(Args)]
pub struct Publish {
    /// The topic: demo/hello or demo.hello
    topic: String,
    /// The arguments of one message, each JSON if it parses, else text; '' is the empty value; without any (or with -) each
    /// line of standard input is a message
    #[arg(value_name = "MESSAGE")]
    messages: Vec<String>,
    /// Keyword arguments, a JSON object
    #[arg(long, value_name = "JSON")]
    kwargs: Option<String>,
    /// Keep as the topic's value; an empty message removes it
    #[arg(long)]
    retain: bool,
    /// 0 sends without acknowledgement
    #[arg(long, value_name = "0|1|2", default_value = "1", value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Take JSON only
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Publishes what was typed, or each line of standard input.
pub async fn publish(command: &Publish) -> Result<(), String> {
    let topic = names::topic(&command.topic)?;
    let qos = Qos::from_bits(command.qos).unwrap_or_default();
    let publishing = Publishing { qos, retain: command.retain };
    let reads_lines = match command.messages.as_slice() {
        [] => command.kwargs.is_none(),
        [text] => text == "-",
        _ => false,
    };
    if reads_lines {
        let mut client = Client::open(&command.target).await?;
        publish_lines(&mut client, command, &topic, publishing).await?;
        client.close().await;
        return Ok(());
    }
    let body = Body::typed(&command.messages, command.kwargs.as_deref(), command.json)?;
    let mut client = Client::open(&command.target).await?;
    client.publish(&topic, &body, publishing).await?;
    client.settle().await?;
    client.close().await;
    Ok(())
}

async fn publish_lines(client: &mut Client, command: &Publish, topic: &Topic, publishing: Publishing) -> Result<(), String> {
    let mut lines = lines();
    loop {
        let line = match lines.try_recv() {
            Ok(line) => Some(line),
            Err(_) => {
                // Nothing to send just now: what was sent must be taken before the wait.
                client.settle().await?;
                tokio::select! {
                    line = lines.recv() => line,
                    message = client.idle() => return Err(message),
                }
            }
        };
        let Some(line) = line else { return Ok(()) };
        let line = line.map_err(|error| format!("cannot read standard input: {error}; it must be UTF-8"))?;
        let body = Body::typed(&[line], command.kwargs.as_deref(), command.json)?;
        client.publish(topic, &body, publishing).await?;
    }
}

/// The lines of standard input, read on a thread of their own, a bounded number ahead.
pub(super) fn lines() -> mpsc::Receiver<io::Result<String>> {
    let (tx, rx) = mpsc::channel(64);
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let is_last = line.is_err();
            if tx.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    rx
}
