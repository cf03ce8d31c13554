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
use super::journal;
use super::transport::Stream;
use crate::gate::report::stranger;
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
                match entrance.doorway.enter(peer.ip(), &entrance.settings.limits, now_ms()) {
                    Ok(guest) => drop(tokio::spawn(welcome(socket, peer, guest, entrance.clone()))),
                    Err(bound) => journal::crowd(peer, bound),
                }
            }
            Err(error) => {
                journal::deaf(&error);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Finds out what a new connection speaks, and hands it on.
async fn welcome(socket: TcpStream, peer: SocketAddr, guest: Guest, entrance: Arc<Entrance>) {
    prepare(&socket);
    // Enough of the first bytes to tell what a stranger speaks.
    let mut first = [0_u8; 16];
    let timeout = Duration::from_millis(entrance.settings.limits.open_timeout_ms);
    let first = match tokio::time::timeout(timeout, socket.peek(&mut first)).await {
        Ok(Ok(count)) if count > 0 => first.get(..count).unwrap_or_default(),
        Ok(_) => return tracing::debug!(target: "corsac::net", address = %peer, "a connection ended without a byte"),
        Err(_) => return journal::stranger(peer, "nothing came in limits.open_timeout_ms"),
    };
    let speaks = entrance.speaks;
    match first.first() {
        Some(0x7F) if speaks.rawsocket => serve_stream(socket, peer, guest, &entrance, "rawsocket", Gate::rawsocket).await,
        // On a port that speaks MQTT alone the gate answers whatever comes.
        Some(0x10) if speaks.mqtt => serve_stream(socket, peer, guest, &entrance, "tcp", Gate::mqtt).await,
        // Boxed: a connection that speaks something else need not be as large as one that speaks HTTP.
        _ if speaks.http => {
            let served = Box::pin(super::http::serve(socket, peer, guest, entrance)).await;
            tell_of_stranger(peer, first, served);
        }
        _ if speaks.mqtt => serve_stream(socket, peer, guest, &entrance, "tcp", Gate::mqtt).await,
        _ => journal::stranger(peer, format_args!("it begins {}", stranger(first).unwrap_or("no protocol of this port"))),
    }
}

/// Logs the protocol of a connection that is no HTTP. Any other fault is the client's, which has been answered or is gone.
fn tell_of_stranger(peer: SocketAddr, first: &[u8], served: Result<(), hyper::Error>) {
    match (served, stranger(first)) {
        (Ok(()), _) => {}
        (Err(_), Some(other)) if !other.starts_with("an HTTP") => journal::stranger(peer, format_args!("it begins {other}")),
        (Err(error), _) if error.is_parse() || error.is_parse_too_large() => {
            journal::stranger(peer, format_args!("no HTTP, WAMP or MQTT: {error}; limits.max_http_head_bytes bounds a request"));
        }
        (Err(error), _) if error.is_timeout() => journal::stranger(peer, "a request did not end in limits.open_timeout_ms"),
        (Err(error), _) => tracing::debug!(target: "corsac::net", address = %peer, "an HTTP connection ended: {error}"),
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
