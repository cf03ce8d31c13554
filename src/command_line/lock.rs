//! `corsac lock`: runs a command while it holds a lock.
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use corsac::model::{Filter, names as reserved};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::child::{self, Running};
use super::client::body::Body;
use super::client::target::Target;
use super::client::{Calling, Client, Event, Outcome, Subscribing, names, refusal};
use super::failure::{Failure, Usage};
use super::output;

/// The arguments of `corsac lock`.
#[derive(Args)]
pub struct Lock {
    /// The lock: any name in the spelling of topics, demo/lock or demo.lock
    name: String,
    /// Give up after waiting this long; 0 does not wait [default: wait until it is granted]
    #[arg(long, value_name = "MS")]
    wait_ms: Option<u64>,
    /// Give the lock up if this process does not renew it for so long (it does every third of that). 0: only when its connection ends
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    ttl_ms: u64,
    #[command(flatten)]
    target: Target,
    /// The command to run, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The time that the command has to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// The time that the router has to take the release.
const GOODBYE: Duration = Duration::from_secs(5);

/// Acquires, runs, releases; the exit code of the command.
pub async fn lock(command: &Lock) -> Result<ExitCode, Failure> {
    if let Some(program) = command.command.first() {
        child::check(program)?;
    }
    names::topic(&command.name).map_err(|_| {
        Usage(format!("{:?} is not the name of a lock; write it like demo/printer or demo.printer", command.name))
    })?;
    let mut stop = output::stop()?;
    let mut client = Client::open(&command.target).await?;
    client.subscribe(&Filter::Exact(names::topic(reserved::ON_LOCK_LOST)?), Subscribing::default()).await?;
    let (token, sure_until) = tokio::select! {
        granted = acquire(&mut client, command) => granted?,
        () = stop.requested() => return Err("stopped before the lock was granted".into()),
    };
    let (mut ended, running) = match start(command, token) {
        Ok(started) => started,
        Err(failure) => {
            release(client, command, token).await;
            return Err(failure);
        }
    };
    let outcome = tokio::select! {
        status = &mut ended => Ok(status),
        why = hold(&mut client, command, token, sure_until) => Err(why),
        () = stop.requested() => {
            let status = end(&running, &mut ended).await;
            release(client, command, token).await;
            return Ok(code_of(status));
        }
    };
    match outcome {
        Ok(status) => {
            release(client, command, token).await;
            Ok(code_of(status.unwrap_or_default()))
        }
        Err(why) => {
            running.kill();
            ended.await.ok();
            Err(format!("the lock {} is lost, its command was killed: {why}", command.name).into())
        }
    }
}

/// The token, once it is granted, and until when it is granted for sure.
async fn acquire(client: &mut Client, command: &Lock) -> Result<(u64, Instant), String> {
    let ttl = if command.ttl_ms > 0 { format!("\"ttl_ms\":{},", command.ttl_ms) } else { String::new() };
    let wait = command.wait_ms.map_or("null".to_owned(), |ms| ms.to_string());
    let body = arguments(&command.name, None, &format!("{{{ttl}\"wait_ms\":{wait}}}"))?;
    let result = match call(client, "acquire", &body).await? {
        Outcome::Result(body) => body.json(),
        Outcome::Error(uri, _) if uri == reserved::CONDITION_FAILED => {
            return Err(format!("somebody else holds the lock {}; wait for it with --wait-ms", command.name));
        }
        Outcome::Error(uri, _) if uri == reserved::TIMEOUT => {
            return Err(format!("the lock {} was not free in time; wait longer with --wait-ms", command.name));
        }
        Outcome::Error(uri, body) => return Err(format!("cannot acquire the lock {}: {}", command.name, refusal(&uri, &body))),
    };
    let value: serde_json::Value = serde_json::from_str(&result).unwrap_or_default();
    let token = value
        .get("token")
        .and_then(serde_json::Value::as_u64)
        .ok_or_else(|| format!("the router granted no token but {result}; is it Corsac?"))?;
    // The time of the grant is not known; a renewal lasts from when it was asked for, at the least.
    let sure_until = if command.ttl_ms > 0 { renew(client, command, token).await? } else { Instant::now() };
    Ok((token, sure_until))
}

/// Until when it is granted for sure.
async fn renew(client: &mut Client, command: &Lock, token: u64) -> Result<Instant, String> {
    let body = arguments(&command.name, Some(token), &format!("{{\"ttl_ms\":{}}}", command.ttl_ms))?;
    let asked = Instant::now();
    match call(client, "renew", &body).await? {
        Outcome::Result(_) => Ok(asked + Duration::from_millis(command.ttl_ms)),
        Outcome::Error(uri, body) => Err(refusal(&uri, &body)),
    }
}

/// Renews the lock for as long as it can; why it is lost.
async fn hold(client: &mut Client, command: &Lock, token: u64, mut sure_until: Instant) -> String {
    if command.ttl_ms == 0 {
        return lost(client, token).await;
    }
    let ttl = Duration::from_millis(command.ttl_ms);
    loop {
        tokio::select! {
            why = lost(client, token) => return why,
            () = tokio::time::sleep_until(sure_until - ttl * 2 / 3) => {}
        }
        sure_until = match tokio::time::timeout_at(sure_until, renew(client, command, token)).await {
            Ok(Ok(until)) => until,
            // The router's word about the loss, if it came before the refusal, says more.
            Ok(Err(why)) => return tokio::time::timeout(Duration::ZERO, lost(client, token)).await.unwrap_or(why),
            Err(_) => return format!("it was not renewed for {} ms", command.ttl_ms),
        };
    }
}

/// Waits until the lock of this token, or the connection, is lost; says why. May be given up at any time.
async fn lost(client: &mut Client, token: u64) -> String {
    loop {
        match client.next_event().await {
            Ok(event) => {
                if let Some(why) = loss_of(&event, token) {
                    return why;
                }
            }
            Err(why) => return why,
        }
    }
}

/// Why the lock of this token is lost, if the event says so.
fn loss_of(event: &Event, token: u64) -> Option<String> {
    if event.topic.as_mqtt() != reserved::ON_LOCK_LOST {
        return None;
    }
    let loss: serde_json::Value = serde_json::from_str(&event.body.json()).ok()?;
    let is_ours = loss.get("token").and_then(serde_json::Value::as_u64) == Some(token);
    is_ours.then(|| loss.get("reason").and_then(serde_json::Value::as_str).unwrap_or("the router does not say why").to_owned())
}

/// Gives the lock back; the end of the connection does so too.
async fn release(mut client: Client, command: &Lock, token: u64) {
    let release = async {
        if let Ok(body) = arguments(&command.name, Some(token), "{}") {
            call(&mut client, "release", &body).await.ok();
        }
        client.close().await;
    };
    tokio::time::timeout(GOODBYE, release).await.ok();
}

fn arguments(name: &str, token: Option<u64>, options: &str) -> Result<Body, String> {
    let name = serde_json::Value::from(name).to_string();
    let list: Vec<String> =
        [Some(name), token.map(|token| token.to_string()), Some(options.to_owned())].into_iter().flatten().collect();
    Ok(Body::typed(&list, None, true)?)
}

/// Calls `corsac.lock.<verb>`.
async fn call(client: &mut Client, verb: &str, body: &Body) -> Result<Outcome, String> {
    let procedure = names::topic(&format!("{}{verb}", reserved::LOCK_PROCEDURES))?;
    let calling = Calling { timeout_ms: None, with_progress: false };
    client.call(&procedure, body, calling, &mut |_: &Body| Ok(())).await
}

/// Starts the command; its status comes when it has ended.
fn start(command: &Lock, token: u64) -> Result<(oneshot::Receiver<ExitStatus>, Running), Failure> {
    let (program, arguments) = command.command.split_first().ok_or("no command to run")?;
    let mut spawned = Command::new(program);
    spawned.args(arguments).env("CORSAC_LOCK_TOKEN", token.to_string()).env("CORSAC_LOCK_NAME", &command.name);
    let child =
        spawned.spawn().map_err(|error| Failure::with_code(format!("cannot run {program}: {error}"), child::NOT_EXECUTABLE))?;
    let child = Arc::new(Mutex::new(child));
    let running = Running::of(child.clone());
    let (ended, status) = oneshot::channel();
    std::thread::spawn(move || {
        // Nobody waits for it any more, if not we.
        ended.send(child::wait(&child).unwrap_or_default()).ok();
    });
    Ok((status, running))
}

/// Asks the command to end, and makes it.
async fn end(running: &Running, ended: &mut oneshot::Receiver<ExitStatus>) -> ExitStatus {
    let id = running.id().to_string();
    Command::new("kill").args(["-TERM", &id]).status().ok();
    match tokio::time::timeout(GRACE, &mut *ended).await {
        Ok(status) => status.unwrap_or_default(),
        Err(_) => {
            running.kill();
            ended.await.unwrap_or_default()
        }
    }
}

/// As shells say it: 128 and the signal, where one ended the command.
fn code_of(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
