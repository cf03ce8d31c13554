//! Composition: configuration, realms in motion, listeners, the pages of the router itself, start and stop.
pub mod admin;
pub mod amount;
pub mod banner;
pub mod config;
pub mod data_dir;
pub mod event_loop;
pub mod fold;
pub mod history;
pub mod keeper;
pub mod kept;
pub mod line;
pub mod paths;
pub mod places;
pub mod post;
pub mod reading;
pub mod realms;
pub mod service;
pub mod state;
pub mod sys;
pub mod unwritten;
pub mod value;
pub mod writer;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::gate::{RequestIds, Settings};
use crate::net::clock::now_ms;
use crate::net::entrance::{Doorway, Entrance, Speaks};
use crate::net::host::Hosts;
use crate::net::journal;
use crate::net::listener;
use crate::net::refused::Refusal;
use admin::{RealmStatus, RefusedStatus, Status, StatusSnapshot};
pub use config::Config;
use config::Listener;
use history::{History, Opened};
use realms::Realms;

/// The time that the goodbyes may take (the promise is 5 s in all).
const GOODBYE: Duration = Duration::from_secs(4);

/// The time that the end of the process before this one may take to be written.
const SETTLE: Duration = Duration::from_secs(5);

/// Serves until the process is told to stop; an error is one sentence that says what to do.
pub async fn run(config: Config) -> Result<(), String> {
    // Before anybody can know that there is something to stop.
    let started = Instant::now();
    let stop_signal = stop_signal()?;
    tokio::spawn(pass_over_hang_ups()?);
    let mut config = config;
    let sockets = bind_all(&mut config)?;
    let (history, failure) = match config.memory {
        true => (None, None),
        false => History::open(&config).map(|Opened { history, failure }| (Some(history), Some(failure)))?,
    };
    let realms = Realms::start(&config.realms, config.auto_create_realms, config.limits.clone(), history.clone())?;
    wait_until_settled(&realms).await;
    let doorway = Arc::new(Doorway::default());
    let status = status(&config, &realms, &doorway, history.clone());
    let mut doors = JoinSet::new();
    for (socket, listener) in sockets.into_iter().zip(&config.listeners) {
        let entrance = Entrance {
            settings: Arc::new(settings(&config, listener)),
            realms: realms.clone(),
            pages: admin::router(status.clone(), listener),
            speaks: speaks(listener),
            hosts: Hosts::new(&config.allow_hosts, !listener.is_remote()),
            paths_for_all: paths::PATHS_FOR_ALL,
            allow_origins: config.allow_origins.clone(),
            doorway: doorway.clone(),
        };
        doors.spawn(listener::accept(socket, Arc::new(entrance)));
    }
    let every = Duration::from_secs(config.sys_interval_s);
    tokio::spawn(sys::publish_figures(realms.clone(), doorway.clone(), every));
    tokio::spawn(journal::sum_up());
    announce(&config, history.as_deref(), started);
    tokio::select! {
        signal = stop_signal => tracing::info!(target: "corsac::node", "stopping: {signal}"),
        why = failed(failure) => {
            tracing::error!(target: "corsac::node", "stopping: the history cannot be written: {why}");
            service::notify("STOPPING=1");
            doors.shutdown().await;
            stop(&realms).await;
            let path = data_dir::absolute(&config.data_dir);
            return Err(format!("the history in {} cannot be written: {why}; see to the disk and start again", path.display()));
        }
    }
    service::notify("STOPPING=1");
    // A client that comes back before the next start is told so by the system.
    doors.shutdown().await;
    stop(&realms).await;
    tracing::info!(target: "corsac::node", "stopped after {} s", started.elapsed().as_secs());
    Ok(())
}

/// Says that everybody is welcome: to the log, to the service manager, and to whoever looks at standard output.
fn announce(config: &Config, history: Option<&History>, started: Instant) {
    let version = env!("CARGO_PKG_VERSION");
    let history = history.map_or_else(|| "no history: everything is in memory and ends with it".to_owned(), History::describe);
    tracing::info!(target: "corsac::node", "{}", banner::start_line(config, version, &history, started.elapsed()));
    for warning in config.warnings() {
        tracing::warn!(target: "corsac::node", "{warning}");
    }
    service::notify("READY=1");
    let text = banner::start_banner(config, version, &history, &banner::program(), service::shown());
    // A closed standard output is no reason not to serve.
    std::io::stdout().write_all(text.as_bytes()).ok();
    std::io::stdout().flush().ok();
}

/// Waits for the history to fail, which it hardly ever does.
async fn failed(failure: Option<oneshot::Receiver<String>>) -> String {
    match failure {
        Some(failure) => failure.await.unwrap_or_else(|_| "its thread has ended".to_owned()),
        None => std::future::pending().await,
    }
}

/// Binds every listener, and notes the ports that the system chose.
fn bind_all(config: &mut Config) -> Result<Vec<TcpListener>, String> {
    let mut sockets = Vec::new();
    for index in 0..config.listeners.len() {
        let Some(listener) = config.listeners.get(index) else { break };
        let bound = listener::bind(listener.address).and_then(|socket| socket.local_addr().map(|address| (socket, address)));
        let (socket, address) = bound.map_err(|error| banner::bind_refusal(config, listener, &error))?;
        if let Some(listener) = config.listeners.get_mut(index) {
            listener.address = address;
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

fn settings(config: &Config, listener: &Listener) -> Settings {
    Settings {
        limits: config.limits.clone(),
        default_realm: config.default_realm.as_str().into(),
        listener_realm: listener.realm.as_deref().map(Into::into),
        named_realms: config.named_realms().into_iter().map(Into::into).collect(),
        realm_from_user: config.realm_from_user,
        allow_anonymous: config.anonymous,
        refused_filters: config.refused_filters.iter().map(|filter| filter.as_str().into()).collect(),
        server_reference: config.server_reference.as_deref().map(Into::into),
        has_history: !config.memory,
        request_ids: if config.strict_request_ids { RequestIds::CountingByOne } else { RequestIds::Any },
    }
}

fn speaks(listener: &Listener) -> Speaks {
    Speaks { http: listener.kind.speaks_http(), mqtt: listener.kind.speaks_mqtt(), rawsocket: listener.kind.speaks_rawsocket() }
}

fn status(config: &Config, realms: &Arc<Realms>, doorway: &Arc<Doorway>, history: Option<Arc<History>>) -> Status {
    let (realms, doorway, started) = (realms.clone(), doorway.clone(), Instant::now());
    let listeners: Vec<_> = config.listeners.iter().map(Into::into).collect();
    Status::new(move || {
        let mut snapshot = StatusSnapshot {
            uptime_s: started.elapsed().as_secs(),
            connections: doorway.clients() as u64,
            sockets: doorway.open() as u64,
            listeners: listeners.clone(),
            refused: refused(&doorway),
            trouble: history.as_ref().and_then(|history| history.trouble()),
            ..StatusSnapshot::default()
        };
        for (name, realm) in realms.all() {
            let (sizes, counters) = realm.sizes();
            snapshot.messages_in += counters.published;
            snapshot.messages_out += counters.delivered;
            snapshot.realms.push(RealmStatus {
                name: name.into(),
                sessions: sizes.sessions as u64,
                subscriptions: sizes.subscriptions as u64,
                registrations: sizes.registrations as u64,
                retained: sizes.retained as u64,
                unreadable: realm.unreadable(),
            });
        }
        snapshot
    })
}

/// Whom browsers do not tell why they may not connect.
fn refused(doorway: &Doorway) -> Vec<RefusedStatus> {
    let now_ms = now_ms();
    let refusals = doorway.refused.all(now_ms).into_iter();
    refusals
        .map(|Refusal { why, count, last_ms }| RefusedStatus { why, count, last_s: now_ms.saturating_sub(last_ms) / 1000 })
        .collect()
}

fn listen(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("cannot listen for signals: {error}; start it where signals can be handled"))
}

/// Listens for SIGTERM and SIGINT from now on; its name.
fn stop_signal() -> Result<impl Future<Output = &'static str>, String> {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Takes SIGHUP from now on: it tells many a server to read its configuration again, and comes when a terminal goes away.
fn pass_over_hang_ups() -> Result<impl Future<Output = ()>, String> {
    let mut hang_up = listen(SignalKind::hangup())?;
    Ok(async move {
        while hang_up.recv().await.is_some() {
            let advice = "a changed configuration takes a restart";
            tracing::info!(target: "corsac::node", "SIGHUP: nothing is read again while the router runs; {advice}");
            service::notify_reloaded();
        }
    })
}

/// Waits until what the process before this one left behind has its end in the history, its locks among it: nobody who connects
/// finds them held. A full disk is no reason to wait for long: then they are held until there is room.
async fn wait_until_settled(realms: &Realms) {
    let deadline = Instant::now() + SETTLE;
    while realms.all().iter().any(|(_, realm)| !realm.is_settled()) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Says goodbye to everybody and waits, not for long, until they have gone.
async fn stop(realms: &Realms) {
    let all = realms.all();
    for (_, realm) in &all {
        realm.shut_down();
    }
    let deadline = Instant::now() + GOODBYE;
    // Connections that have joined no realm have nothing to be told.
    while all.iter().any(|(_, realm)| realm.connections() > 0 || !realm.is_settled()) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The next start has less to read.
    while all.iter().any(|(_, realm)| !realm.is_kept()) && Instant::now() < deadline {
        all.iter().for_each(|(_, realm)| realm.keep(true));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
