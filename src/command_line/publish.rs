//! `corsac pub`: publishes messages.
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use corsac::model::{Qos, Topic};
use tokio::sync::mpsc;

use super::client::body::Body;
use super::client::target::Target;
use super::client::{Client, Publishing, names};
use super::failure::{Failure, Usage};
use super::output::say;

/// The arguments of `corsac pub`.
#[derive(Args)]
pub struct Publish {
    /// The topic: demo/hello or demo.hello
    topic: String,
    /// The arguments of one message, each JSON if it parses, else text; '' is the empty value; without any (or with -) each
    /// line of standard input is a message
    #[arg(value_name = "MESSAGE", allow_negative_numbers = true)]
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
    /// The content of this file as one message
    #[arg(long, value_name = "FILE", conflicts_with_all = ["messages", "stdin"])]
    file: Option<PathBuf>,
    /// The whole of standard input as one message
    #[arg(long, conflicts_with = "messages")]
    stdin: bool,
    /// Publish the bytes as binary, whatever they look like
    #[arg(long, conflicts_with = "kwargs")]
    binary: bool,
    /// Take JSON only
    #[arg(long, conflicts_with = "binary")]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Publishes what was typed, a file, or standard input: each line of it, or all of it.
pub async fn publish(command: &Publish) -> Result<(), Failure> {
    let topic = names::topic(&command.topic)?;
    let qos = Qos::from_bits(command.qos).unwrap_or_default();
    let publishing = Publishing { qos, retain: command.retain };
    let body = match (&command.file, command.messages.as_slice()) {
        (Some(path), _) => Some(command.body_of(read_file(path)?)?),
        (None, _) if command.stdin => Some(command.body_of(read_all()?)?),
        (None, []) if command.kwargs.is_none() => None,
        (None, [text]) if text == "-" => None,
        (None, [text]) if command.binary => Some(command.body_of(text.clone().into())?),
        (None, [_, _, ..]) if command.binary => return Err(Usage("--binary takes one message; write one".to_owned()).into()),
        (None, texts) => Some(Body::typed(texts, command.kwargs.as_deref(), command.json)?),
    };
    let mut client = Client::open(&command.target).await?;
    let count = match body {
        Some(body) => client.publish(&topic, &body, publishing).await.map(|()| 1)?,
        None => publish_lines(&mut client, command, &topic, publishing).await?,
    };
    client.settle().await?;
    client.close().await;
    if count == 0 && command.messages.is_empty() {
        let topic = &command.topic;
        return Err(format!(
            "standard input held no line, so nothing was published; write the message: corsac pub {topic} hello"
        )
        .into());
    }
    Ok(())
}

impl Publish {
    /// One message of these bytes.
    fn body_of(&self, bytes: Bytes) -> Result<Body, Usage> {
        match std::str::from_utf8(&bytes) {
            _ if self.binary => Ok(Body::binary(bytes)),
            Ok(text) if self.json => Body::typed(&[text.to_owned()], self.kwargs.as_deref(), true),
            Err(_) if self.json => Err(Usage("this is not JSON but binary; leave out --json".to_owned())),
            _ => Body::of_bytes(bytes, self.kwargs.as_deref()),
        }
    }
}

fn read_file(path: &Path) -> Result<Bytes, String> {
    std::fs::read(path).map(Bytes::from).map_err(|error| format!("cannot read {}: {error}; check --file", path.display()))
}

fn read_all() -> Result<Bytes, String> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map_err(|error| format!("cannot read standard input: {error}"))?;
    Ok(bytes.into())
}

/// Publishes each line of standard input; how many there were.
async fn publish_lines(client: &mut Client, command: &Publish, topic: &Topic, publishing: Publishing) -> Result<u64, Failure> {
    let mut lines = lines("message");
    let mut count = 0;
    loop {
        let line = match lines.try_recv() {
            Ok(line) => Some(line),
            Err(_) => {
                // Nothing to send just now: what was sent must be taken before the wait.
                client.settle().await?;
                tokio::select! {
                    line = lines.recv() => line,
                    message = client.idle() => return Err(message.into()),
                }
            }
        };
        let Some(line) = line else { return Ok(count) };
        let line = line.map_err(|error| format!("cannot read standard input: {error}"))?;
        client.publish(topic, &command.body_of(line.into())?, publishing).await?;
        count += 1;
    }
}

/// The lines of standard input without their ends, read on a thread of their own, a bounded number ahead. A person who types them
/// is told so, and that each becomes a `noun`.
pub(super) fn lines(noun: &str) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    if io::stdin().is_terminal() {
        say(&format!("each line that you type is a {noun}; Ctrl-D ends"));
    }
    let (tx, rx) = mpsc::channel(64);
    std::thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n') {
            let line = line.map(|mut line| {
                line.truncate(line.strip_suffix(b"\r").map_or(line.len(), <[u8]>::len));
                line
            });
            let is_last = line.is_err();
            if tx.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    rx
}
