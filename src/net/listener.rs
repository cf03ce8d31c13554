//! Listening sockets: who is let in, and which protocol speaks first.
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use super::Realms;
use super::clock::now_ms;
use super::connection::Connection;
use super::host::Hosts;
use super::http::Pages;
use super::traffic::Traffic;
use super::transport::Stream;
use crate::gate::{Gate, Origin, Settings};
use crate::model::{ConnectionId, Limits};

/// What a listener lets in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Speaks {
    /// HTTP, and WebSocket on it.
    pub http: bool,
    /// MQTT over the bare stream [MQTT-4.2.0-1].
    pub mqtt: bool,
    /// WAMP RawSocket.
    pub rawsocket: bool,
}

/// Everything that the connections of one listener share.
pub struct Entrance {
    /// For their gates.
    pub settings: Arc<Settings>,
    /// For their commands.
    pub realms: Arc<dyn Realms>,
    /// For their HTTP requests.
    pub pages: Pages,
    /// Which protocols are welcome.
    pub speaks: Speaks,
    /// The names that it answers to over HTTP.
    pub hosts: Hosts,
    /// Paths of pages that answer whatever name they are asked by ([`super::host::Named`] tells them).
    pub paths_for_all: &'static [&'static str],
    /// Origins whose pages may open a WebSocket, besides the same host and loopback.
    pub allow_origins: Vec<String>,
    /// The count of all connections of the process.
    pub census: Arc<Census>,
}

/// Connections of the process: how many, and how many from where.
#[derive(Default)]
pub struct Census {
    /// What went through their sockets.
    pub traffic: Arc<Traffic>,
    open: AtomicUsize,
    accepted: AtomicU64,
    addresses: Mutex<HashMap<IpAddr, Address>>,
}

#[derive(Default)]
struct Address {
    open: usize,
    second_ms: u64,
    in_second: u32,
}

impl Census {
    /// Open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections accepted since start.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Counts a connection in, unless a bound is reached.
    fn enter(self: &Arc<Self>, peer: IpAddr, limits: &Limits, now_ms: u64) -> Option<Guest> {
        if self.open.load(Ordering::Relaxed) >= limits.max_connections {
            return None;
        }
        let is_counted = limits.limit_loopback || !peer.is_loopback();
        if is_counted && !self.admits(peer, limits, now_ms) {
            return None;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let number = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        Some(Guest { census: self.clone(), peer: is_counted.then_some(peer), id: ConnectionId(number) })
    }

    fn admits(&self, peer: IpAddr, limits: &Limits, now_ms: u64) -> bool {
        let mut addresses = self.addresses.lock();
        let address = addresses.entry(peer).or_default();
        if now_ms >= address.second_ms + 1_000 {
            address.second_ms = now_ms;
            address.in_second = 0;
        }
        if address.open >= limits.max_connections_per_address || address.in_second >= limits.max_connection_rate_per_address {
            return false;
        }
        address.open += 1;
        address.in_second += 1;
        true
    }
}

/// A counted connection; leaves the count when dropped.
pub struct Guest {
    census: Arc<Census>,
    peer: Option<IpAddr>,
    /// Its number in this process.
    pub id: ConnectionId,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.census.open.fetch_sub(1, Ordering::Relaxed);
        let Some(peer) = self.peer else { return };
        let mut addresses = self.census.addresses.lock();
        if let Some(address) = addresses.get_mut(&peer) {
            address.open -= 1;
            // The rate of the last second is all that is worth remembering of an address without connections.
            if address.open == 0 && now_ms() >= address.second_ms + 1_000 {
                addresses.remove(&peer);
            }
        }
    }
}

/// Binds a listening socket.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Restarting does not have to wait for old connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections until the task is dropped.
pub async fn accept(listener: TcpListener, entrance: Arc<Entrance>) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                let Some(guest) = entrance.census.enter(peer.ip(), &entrance.settings.limits, now_ms()) else {
                    tracing::warn!(%peer, "refused a connection: too many, or too fast");
                    continue;
                };
                tokio::spawn(welcome(socket, peer, guest, entrance.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; raise the limit of open files (ulimit -n)");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Finds out what a new connection speaks, and hands it on.
async fn welcome(socket: TcpStream, peer: SocketAddr, guest: Guest, entrance: Arc<Entrance>) {
    prepare(&socket);
    let mut first = [0_u8; 1];
    let timeout = Duration::from_millis(entrance.settings.limits.open_timeout_ms);
    let Ok(Ok(1)) = tokio::time::timeout(timeout, socket.peek(&mut first)).await else { return };
    let speaks = entrance.speaks;
    match first[0] {
        0x7F if speaks.rawsocket => serve_stream(socket, peer, guest, &entrance, "rawsocket", Gate::rawsocket).await,
        // On a port that speaks MQTT alone the gate answers whatever comes.
        0x10 if speaks.mqtt => serve_stream(socket, peer, guest, &entrance, "tcp", Gate::mqtt).await,
        // Boxed: a connection that speaks something else need not be as large as one that speaks HTTP.
        _ if speaks.http => Box::pin(super::http::serve(socket, peer, guest, entrance)).await,
        _ if speaks.mqtt => serve_stream(socket, peer, guest, &entrance, "tcp", Gate::mqtt).await,
        _ => {}
    }
}

/// No waiting for full segments; the other end is looked for when it has been silent.
fn prepare(socket: &TcpStream) {
    let keep_alive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);
    let socket = SockRef::from(socket);
    // Comforts, each: a socket without them still works.
    socket.set_tcp_nodelay(true).ok();
    socket.set_tcp_keepalive(&keep_alive).ok();
    socket.set_tcp_user_timeout(Some(Duration::from_secs(120))).ok();
}

/// Makes the gate of a byte stream.
type MakeGate = fn(Arc<Settings>, Origin, u64) -> Gate;

async fn serve_stream(
    socket: TcpStream,
    peer: SocketAddr,
    guest: Guest,
    entrance: &Entrance,
    kind: &'static str,
    make_gate: MakeGate,
) {
    let Some(origin) = origin(peer, kind) else { return };
    let gate = make_gate(entrance.settings.clone(), origin, now_ms());
    let transport = Stream::new(socket, BytesMut::new());
    let traffic = entrance.census.traffic.clone();
    Box::pin(Connection::new(guest.id, transport, gate, entrance.realms.clone(), traffic, entrance.settings.clone()).run()).await;
    drop(guest);
}

/// Where a connection comes from, with random bits of its own; `None` if the system has none to give.
pub fn origin(peer: SocketAddr, transport: &'static str) -> Option<Origin> {
    let random = [getrandom::u64().ok()?, getrandom::u64().ok()?];
    Some(Origin { peer: peer.to_string().into(), transport, random })
}
