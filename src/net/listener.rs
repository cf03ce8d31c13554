//! Listening sockets, and which protocol speaks first.
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use super::clock::now_ms;
use super::connection::Connection;
use super::entrance::{Entrance, Guest, origin};
use super::transport::Stream;
use crate::gate::{Gate, Origin, Settings};

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
                let Some(guest) = entrance.doorway.enter(peer.ip(), &entrance.settings.limits, now_ms()) else {
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
    let traffic = entrance.doorway.traffic.clone();
    Box::pin(Connection::new(guest.id, transport, gate, entrance.realms.clone(), traffic, entrance.settings.clone()).run()).await;
    drop(guest);
}
