//! The entrance of a listener: the protocols, names and origins that it lets in, and the count of connections.
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Realms;
use super::clock::now_ms;
use super::host::Hosts;
use super::refused::Refused;
use super::traffic::Traffic;
use crate::gate::{Origin, Settings};
use crate::model::{ConnectionId, Limits};

/// The pages that are no WebSocket.
pub type Pages = axum::Router;

/// The protocols that a listener lets in.
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
    pub doorway: Arc<Doorway>,
}

/// Connections of the process: how many, and how many from where.
#[derive(Default)]
pub struct Doorway {
    /// The traffic of their sockets.
    pub traffic: Arc<Traffic>,
    /// Hosts and origins that were turned away.
    pub refused: Refused,
    open: AtomicUsize,
    pages: AtomicUsize,
    accepted: AtomicU64,
    addresses: Mutex<HashMap<IpAddr, Address>>,
}

#[derive(Default)]
struct Address {
    open: usize,
    second_ms: u64,
    in_second: u32,
}

impl Doorway {
    /// Open sockets.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Open connections of clients: sockets but for those over which pages are asked for.
    pub fn clients(&self) -> usize {
        self.open().saturating_sub(self.pages.load(Ordering::Relaxed))
    }

    /// Connections accepted since start.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Counts a connection in, or names the bound that is reached.
    pub fn enter(self: &Arc<Self>, peer: IpAddr, limits: &Limits, now_ms: u64) -> Result<Guest, &'static str> {
        if self.open.load(Ordering::Relaxed) >= limits.max_connections {
            return Err("limits.max_connections");
        }
        let is_counted = limits.limit_loopback || !peer.is_loopback();
        if is_counted {
            self.admit(peer, limits, now_ms)?;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let number = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        let peer = is_counted.then_some(peer);
        Ok(Guest { doorway: self.clone(), peer, is_at_pages: AtomicBool::new(false), id: ConnectionId(number) })
    }

    fn admit(&self, peer: IpAddr, limits: &Limits, now_ms: u64) -> Result<(), &'static str> {
        let mut addresses = self.addresses.lock();
        let address = addresses.entry(peer).or_default();
        if now_ms >= address.second_ms + 1_000 {
            address.second_ms = now_ms;
            address.in_second = 0;
        }
        if address.open >= limits.max_connections_per_address {
            return Err("limits.max_connections_per_address");
        }
        if address.in_second >= limits.max_connection_rate_per_address {
            return Err("limits.max_connection_rate_per_address");
        }
        address.open += 1;
        address.in_second += 1;
        Ok(())
    }
}

/// A counted connection; leaves the count when dropped.
pub struct Guest {
    doorway: Arc<Doorway>,
    peer: Option<IpAddr>,
    is_at_pages: AtomicBool,
    /// Its number in this process.
    pub id: ConnectionId,
}

impl Guest {
    /// The connection asks for pages, or goes on with a WebSocket and does so no more.
    pub fn set_at_pages(&self, is_at_pages: bool) {
        if self.is_at_pages.swap(is_at_pages, Ordering::Relaxed) == is_at_pages {
            return;
        }
        let pages = &self.doorway.pages;
        let _ = if is_at_pages { pages.fetch_add(1, Ordering::Relaxed) } else { pages.fetch_sub(1, Ordering::Relaxed) };
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.set_at_pages(false);
        self.doorway.open.fetch_sub(1, Ordering::Relaxed);
        let Some(peer) = self.peer else { return };
        let mut addresses = self.doorway.addresses.lock();
        if let Some(address) = addresses.get_mut(&peer) {
            address.open -= 1;
            // The rate of the last second is all that is worth remembering of an address without connections.
            if address.open == 0 && now_ms() >= address.second_ms + 1_000 {
                addresses.remove(&peer);
            }
        }
    }
}

/// Where a connection comes from, with random bits of its own; `None` if the system has none to give.
pub fn origin(peer: SocketAddr, transport: &'static str) -> Option<Origin> {
    let random = [getrandom::u64().ok()?, getrandom::u64().ok()?];
    Some(Origin { peer: peer.to_string().into(), transport, random })
}
