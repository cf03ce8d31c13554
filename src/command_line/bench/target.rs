//! The router under test: its URL, its address, and what is spoken there.
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use corsac::model::Encoding;
use corsac::wire::mqtt::Version;

/// The protocol and its layers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Protocol {
    /// MQTT on TCP.
    Mqtt(Version),
    /// WAMP on a WebSocket at this path.
    WebSocket(Encoding, String),
    /// WAMP on RawSocket.
    RawSocket(Encoding),
}

/// A router and how to log in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// The URL as it was typed, without credentials.
    pub url: String,
    /// `host:port` as it was typed.
    pub authority: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// MQTT user name, WAMP authid.
    pub user: Option<String>,
    /// MQTT password.
    pub password: Option<String>,
    /// WAMP realm.
    pub realm: String,
}

/// The part of a target that the options add to its URL.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    /// For `mqtt://`.
    pub version: Version,
    /// For `ws://` and `rs://`.
    pub encoding: Encoding,
    /// For WAMP.
    pub realm: String,
    /// Addresses other than loopback are allowed.
    pub remote: bool,
}

impl Target {
    /// The target that a URL names.
    pub(super) fn parse(url: &str, dialect: &Dialect) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| expected(url))?;
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, "/".to_string()),
        };
        // A user name may hold an @ (`joe@factory`): the last one separates.
        let (credentials, authority) = authority.rsplit_once('@').map_or((None, authority), |(user, rest)| (Some(user), rest));
        let (protocol, port) = match scheme {
            "mqtt" | "tcp" => (Protocol::Mqtt(dialect.version), 1883),
            "ws" => (Protocol::WebSocket(dialect.encoding, path.clone()), 8080),
            "rs" => (Protocol::RawSocket(dialect.encoding), 8080),
            _ => return Err(expected(url)),
        };
        let behind_host = authority.rfind(']').map_or(authority, |end| authority.get(end..).unwrap_or_default());
        let authority = match behind_host.rsplit_once(':') {
            None => format!("{authority}:{port}"),
            Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_string(),
            // The text behind the colon may be half a password.
            Some(_) => return Err(format!("no port behind the last colon of {scheme}://HOST:PORT; a password cannot hold a /")),
        };
        let (user, password) = match credentials.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            Some((user, "")) => (Some(user.to_string()), None),
            Some((user, password)) => (Some(user.to_string()), Some(password.to_string())),
            None => (None, None),
        };
        let path = if scheme == "ws" { path } else { String::new() };
        Ok(Target {
            url: format!("{scheme}://{authority}{path}"),
            address: resolve(&authority, dialect.remote)?,
            authority,
            protocol,
            user,
            password,
            realm: dialect.realm.clone(),
        })
    }

    /// The protocol, for people.
    pub(super) fn describe(&self) -> String {
        let serializer = |encoding: &Encoding| match encoding {
            Encoding::Json => "JSON",
            Encoding::MsgPack => "MsgPack",
            Encoding::Cbor => "CBOR",
        };
        match &self.protocol {
            Protocol::Mqtt(Version::V31) => "MQTT 3.1".into(),
            Protocol::Mqtt(Version::V311) => "MQTT 3.1.1".into(),
            Protocol::Mqtt(Version::V5) => "MQTT 5".into(),
            Protocol::WebSocket(encoding, _) => format!("WAMP {} on WebSocket", serializer(encoding)),
            Protocol::RawSocket(encoding) => format!("WAMP {} on RawSocket", serializer(encoding)),
        }
    }
}

fn expected(url: &str) -> String {
    format!("{url} is no mqtt://HOST:PORT, ws://HOST:PORT/PATH or rs://HOST:PORT")
}

/// The address of `host:port`: loopback only, unless `remote`.
fn resolve(authority: &str, remote: bool) -> Result<SocketAddr, String> {
    let addresses = authority.to_socket_addrs().map_err(|error| format!("cannot find {authority}: {error}"))?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    if !remote && let Some(other) = addresses.iter().find(|address| !address.ip().is_loopback()) {
        return Err(format!(
            "{authority} is {}, another machine: a load test is an attack there unless its owner agrees; --remote says so",
            other.ip()
        ));
    }
    // `localhost` may be ::1 first, where few routers listen.
    let v4 = addresses.iter().find(|address| matches!(address.ip(), IpAddr::V4(_)));
    v4.or(addresses.first()).copied().ok_or_else(|| format!("{authority} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, String> {
        let dialect = Dialect { version: Version::V5, encoding: Encoding::Json, realm: "realm1".into(), remote: false };
        Target::parse(url, &dialect)
    }

    #[test]
    fn urls_name_address_and_protocol() {
        let target = parse("mqtt://127.0.0.1:1884").unwrap();
        assert_eq!((target.address, target.protocol), ("127.0.0.1:1884".parse().unwrap(), Protocol::Mqtt(Version::V5)));
        let target = parse("ws://127.0.0.1:1/a/b").unwrap();
        assert_eq!(target.protocol, Protocol::WebSocket(Encoding::Json, "/a/b".into()));
        assert_eq!(target.url, "ws://127.0.0.1:1/a/b");
        let target = parse("rs://[::1]").unwrap();
        assert_eq!((target.address.port(), target.protocol), (8080, Protocol::RawSocket(Encoding::Json)));
        assert_eq!(parse("mqtt://127.0.0.1").unwrap().address.port(), 1883);
    }

    #[test]
    fn credentials_stay_out_of_the_url() {
        let target = parse("mqtt://joe@factory:secret@127.0.0.1:1884").unwrap();
        assert_eq!((target.user.as_deref(), target.password.as_deref()), (Some("joe@factory"), Some("secret")));
        assert_eq!(target.url, "mqtt://127.0.0.1:1884");
        assert_eq!(parse("mqtt://joe@127.0.0.1").unwrap().password, None);
    }

    #[test]
    fn other_machines_only_when_asked_for() {
        let error = parse("mqtt://192.0.2.1:1883").unwrap_err();
        assert!(error.contains("--remote"), "{error}");
        for url in ["mqtt://127.0.0.1:99999", "mqtt://joe:sec/ret@127.0.0.1", "ws://[::1]:x/ws"] {
            let error = parse(url).unwrap_err();
            assert!(error.contains("no port") && !error.contains("sec"), "{error}");
        }
        for url in ["127.0.0.1:1883", "http://127.0.0.1", "mqtt:127.0.0.1"] {
            assert!(parse(url).unwrap_err().contains("mqtt://HOST:PORT"), "{url}");
        }
    }
}
