//! One listening address: what it speaks, and how addresses are written.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::value::Problem;

/// The protocols that a listener speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ListenerKind {
    /// Everything on one port: HTTP, WebSocket, RawSocket and MQTT, told apart by the first byte.
    #[default]
    Auto,
    /// HTTP and WebSocket.
    Http,
    /// MQTT over TCP.
    Mqtt,
    /// WAMP RawSocket.
    RawSocket,
}

impl ListenerKind {
    /// Every kind.
    pub const ALL: [ListenerKind; 4] = [ListenerKind::Auto, ListenerKind::Http, ListenerKind::Mqtt, ListenerKind::RawSocket];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            ListenerKind::Auto => "auto",
            ListenerKind::Http => "http",
            ListenerKind::Mqtt => "mqtt",
            ListenerKind::RawSocket => "rawsocket",
        }
    }

    /// Whether HTTP requests and WebSockets are answered.
    pub fn speaks_http(self) -> bool {
        matches!(self, ListenerKind::Auto | ListenerKind::Http)
    }

    /// Whether a connection may start with an MQTT packet.
    pub fn speaks_mqtt(self) -> bool {
        matches!(self, ListenerKind::Auto | ListenerKind::Mqtt)
    }

    /// Whether a connection may start with a RawSocket handshake.
    pub fn speaks_rawsocket(self) -> bool {
        matches!(self, ListenerKind::Auto | ListenerKind::RawSocket)
    }

    /// The flag that moves a listener of this kind.
    pub fn flag(self) -> Option<&'static str> {
        match self {
            ListenerKind::Auto | ListenerKind::Http => Some("--http"),
            ListenerKind::Mqtt => Some("--mqtt"),
            ListenerKind::RawSocket => None,
        }
    }
}

/// One address that the router listens on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Address and port; port 0 lets the system choose.
    pub address: SocketAddr,
    /// The protocols that it speaks.
    pub kind: ListenerKind,
    /// The realm of MQTT clients that come in here; theirs to name if absent (MAPPING.md, Realms).
    pub realm: Option<String>,
    /// Where WAMP WebSockets are opened.
    pub wamp_path: String,
    /// Where MQTT WebSockets are opened.
    pub mqtt_path: String,
}

impl Listener {
    /// A listener with the default paths that binds clients to no realm.
    pub fn new(kind: ListenerKind, address: SocketAddr) -> Self {
        Listener { address, kind, realm: None, wamp_path: "/ws".to_owned(), mqtt_path: "/mqtt".to_owned() }
    }

    /// Whether other machines can reach it.
    pub fn is_remote(&self) -> bool {
        !self.address.ip().to_canonical().is_loopback()
    }

    /// Where a client on this machine connects: the address, with loopback in the place of "every address".
    pub fn local_address(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }
}

/// The listeners of a router that is told nothing: everything at 127.0.0.1:8080, MQTT at 127.0.0.1:1883.
pub(super) fn defaults() -> Vec<Listener> {
    let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    vec![Listener::new(ListenerKind::Auto, at(8080)), Listener::new(ListenerKind::Mqtt, at(1883))]
}

/// Where a flag puts its listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Placement {
    /// At this address.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

/// `ADDRESS:PORT` or `off`.
pub(super) fn parse_placement(text: String) -> Result<Placement, Problem> {
    if text == "off" { Ok(Placement::Off) } else { parse_address(text).map(Placement::At) }
}

/// `ADDRESS:PORT`, `localhost:PORT`, or a port alone, which means 127.0.0.1. Other names are not resolved: which of
/// several addresses was meant would be a guess.
pub(super) fn parse_address(text: String) -> Result<SocketAddr, Problem> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let port = text.strip_prefix("localhost:").unwrap_or(&text);
    if let Some(port) = parse_port(port) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let advice = match text.rsplit_once(':') {
        _ if text.parse::<IpAddr>().is_ok() => "add a port",
        Some(("*" | "", port)) if parse_port(port).is_some() => "write 0.0.0.0 or [::] to listen on every address",
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => "put an IPv6 address in brackets: [::1]:8080",
        Some((_, port)) if parse_port(port).is_none() => "a port is a number from 0 to 65535",
        _ => "write an IP address of this machine, not a name",
    };
    Err(format!("must be ADDRESS:PORT, as 127.0.0.1:8080, not {text:?}: {advice}"))
}

fn parse_port(text: &str) -> Option<u16> {
    if text.starts_with('+') { None } else { text.parse().ok() }
}

/// The kind of that name.
pub(super) fn parse_kind(text: String) -> Result<ListenerKind, Problem> {
    ListenerKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        let names: Vec<_> = ListenerKind::ALL.iter().map(|kind| format!("{:?}", kind.name())).collect();
        format!("must be one of {}, not {text:?}", names.join(", "))
    })
}

/// A path that WebSockets are opened at.
pub(super) fn parse_path(text: String) -> Result<String, Problem> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.' | b'~');
    if !text.starts_with('/') || !text.bytes().all(plain) {
        return Err(format!("must be a path of letters, digits and /-_.~ that starts with /, as \"/ws\", not {text:?}"));
    }
    if crate::node::paths::PATHS.contains(&text.as_str()) {
        return Err(format!("cannot be {text:?}, a page of the router itself: choose another path"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:80", "127.0.0.1:80"),
            ("9000", "127.0.0.1:9000"),
        ] {
            assert_eq!(parse_address(text.into()).map(|address| address.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for (text, advice) in [
            ("*:8080", "0.0.0.0"),
            (":8080", "0.0.0.0"),
            ("::1:8080", "add a port"),
            ("fe80::1:2:3:4:5:6:7:8", "brackets"),
            ("127.0.0.1", "add a port"),
            ("::1", "add a port"),
            ("127.0.0.1:99999", "0 to 65535"),
            ("127.0.0.1:", "0 to 65535"),
            ("127.0.0.1:+80", "0 to 65535"),
            ("example.com:80", "not a name"),
            ("", "not a name"),
            ("99999", "not a name"),
        ] {
            assert!(
                parse_address(text.into()).is_err_and(|problem| problem.contains(advice)),
                "{text}: {:?}",
                parse_address(text.into())
            );
        }
        assert_eq!(parse_placement("off".into()), Ok(Placement::Off));
    }

    #[test]
    fn loopback_in_all_its_spellings() {
        for (address, remote) in [
            ("127.0.0.1:1", false),
            ("127.255.0.9:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("192.168.0.1:1", true),
            ("[::ffff:10.0.0.1]:1", true),
        ] {
            let listener = Listener::new(ListenerKind::Auto, address.parse().unwrap());
            assert_eq!(listener.is_remote(), remote, "{address}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(parse_path("/ws".into()), Ok("/ws".into()));
        for path in ["", "ws", "/a?b", "/{x}", "/a b", "/é", "/", "/healthz", "/status.json"] {
            assert!(parse_path(path.into()).is_err(), "{path}");
        }
    }

    #[test]
    fn kinds_by_name() {
        for kind in ListenerKind::ALL {
            assert_eq!(parse_kind(kind.name().into()), Ok(kind));
        }
        assert!(parse_kind("Auto".into()).is_err());
    }
}
