//! Where a small client connects: URL, realm and serializer as typed.
use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use corsac::model::Encoding;

use crate::command_line::failure::Usage;

/// Where to connect if nobody says it.
const DEFAULT_URL: &str = "ws://127.0.0.1:8080/ws";
/// The environment variable that says it.
const VARIABLE: &str = "CORSAC_URL";

/// The flags that every small client has.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// The router: ws://…, rs://… (WAMP) or mqtt://…; CORSAC_URL names it too [default: ws://127.0.0.1:8080/ws]
    // Not clap's `env`: it would take the variable for a flag that was typed, in usage lines and in errors.
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    pub url: Option<Url>,
    /// Realm [default: realm1]; over MQTT it is sent as the user property corsac-realm
    #[arg(long, help_heading = "Connection")]
    pub realm: Option<String>,
    /// Encoding of WAMP messages
    #[arg(long, value_enum, value_name = "NAME", default_value = "json", help_heading = "Connection")]
    pub serializer: Serializer,
}

impl Target {
    /// Where to connect: as the flag says, else the environment.
    pub fn url(&self) -> Result<Url, Usage> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let named = std::env::var(VARIABLE).ok().filter(|url| !url.is_empty());
        let url = named.as_deref().unwrap_or(DEFAULT_URL);
        url.parse().map_err(|why| Usage(format!("{VARIABLE} is {url:?}: {why}")))
    }
}

/// `--serializer`
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum Serializer {
    Json,
    Msgpack,
    Cbor,
}

impl Serializer {
    /// The encoding of this name.
    pub fn encoding(self) -> Encoding {
        match self {
            Serializer::Json => Encoding::Json,
            Serializer::Msgpack => Encoding::MsgPack,
            Serializer::Cbor => Encoding::Cbor,
        }
    }
}

/// The protocol of a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// WAMP over WebSocket, `ws://`.
    WebSocket,
    /// WAMP over RawSocket, `rs://`.
    RawSocket,
    /// MQTT 5 over TCP, `mqtt://`.
    Mqtt,
}

/// A URL, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Url {
    /// The protocol that is spoken there.
    pub scheme: Scheme,
    /// Name or address; an IPv6 address in its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path of the WebSocket, `/ws` if none was typed.
    pub path: String,
    /// User name and password (MQTT).
    pub user: Option<(String, String)>,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme: write ws://, rs:// or mqtt:// before it")?;
        let scheme = match scheme {
            "ws" => Scheme::WebSocket,
            "rs" => Scheme::RawSocket,
            "mqtt" => Scheme::Mqtt,
            "wss" | "rss" | "mqtts" => return Err(format!("{scheme}:// is not built in: take the URL without TLS")),
            _ => return Err(format!("{scheme}:// is unknown: take ws://, rs:// or mqtt://")),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user.split_once(':').unwrap_or((user, ""))), place),
            None => (None, authority),
        };
        if user.is_some() && scheme != Scheme::Mqtt {
            return Err("the WAMP clients join without a user: leave USER@ out".to_owned());
        }
        if !matches!(path, "" | "/") && scheme != Scheme::WebSocket {
            return Err(format!("only ws:// URLs have a path: leave {path:?} out"));
        }
        let (host, port) = split_port(place, scheme)?;
        let path = if path.is_empty() { "/ws" } else { path }.to_owned();
        let user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        Ok(Url { scheme, host: host.to_owned(), port, path, user })
    }
}

fn split_port(place: &str, scheme: Scheme) -> Result<(&str, u16), String> {
    let standard = match scheme {
        Scheme::WebSocket => 80,
        Scheme::RawSocket => 8080,
        Scheme::Mqtt => 1883,
    };
    let (host, port) = match place.rsplit_once(':') {
        // The colons of a bare IPv6 address are not the port's.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| format!("{port:?} is not a port"))?),
        _ => (place, standard),
    };
    let is_ipv6 = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || (host.contains(':') && !is_ipv6) {
        return Err(format!("{place:?} is not HOST:PORT; an IPv6 address stands in brackets"));
    }
    Ok((host, port))
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Url { host, port, path, .. } = self;
        match self.scheme {
            Scheme::WebSocket => write!(f, "ws://{host}:{port}{path}"),
            Scheme::RawSocket => write!(f, "rs://{host}:{port}"),
            Scheme::Mqtt => write!(f, "mqtt://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, expected) in [
            ("ws://127.0.0.1:8080/ws", "ws://127.0.0.1:8080/ws"),
            ("ws://localhost:9000", "ws://localhost:9000/ws"),
            ("ws://example.com/a/b?c", "ws://example.com:80/a/b?c"),
            ("ws://[::1]:8080/", "ws://[::1]:8080/"),
            ("rs://[::1]", "rs://[::1]:8080"),
            ("mqtt://joe:secret@host", "mqtt://host:1883"),
            ("mqtt://host:1884/", "mqtt://host:1884"),
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), expected);
        }
        let url: Url = "mqtt://joe@factory:pass@host".parse().unwrap();
        assert_eq!(url.user, Some(("joe@factory".to_owned(), "pass".to_owned())));
    }

    #[test]
    fn refusals_say_what_to_write() {
        for (text, expected) in [
            ("127.0.0.1:8080", "no scheme"),
            ("http://a", "take ws://"),
            ("wss://a", "without TLS"),
            ("ws://joe@a", "leave USER@ out"),
            ("mqtt://a/b", "only ws://"),
            ("ws://a:http/", "not a port"),
            ("ws://::1:8080", "brackets"),
            ("ws://:80", "HOST:PORT"),
        ] {
            let message = text.parse::<Url>().unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
