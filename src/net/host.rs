//! Hosts as requests and origins name them, and the names that a listener answers to (RFC 9110, 7.2).
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::header::{self, HeaderMap};
use hyper::{Request, Version};

/// Longest name of a host, and longest part of one between dots, in bytes (RFC 1035, 2.3.4).
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// A host without its port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    /// In lower case, without the final dot.
    Name(String),
    /// An address, however it was written; IPv4 in IPv6 is IPv4.
    Address(IpAddr),
}

impl Host {
    /// True for the addresses and names that mean this machine wherever they are looked up. A name server is not asked for
    /// `localhost` and the names below it (RFC 6761, 6.3).
    pub fn is_loopback(&self) -> bool {
        match self {
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Address(address) => address.is_loopback(),
        }
    }
}

/// `host` or `host:port`. User names, paths, escapes and anything else that two parsers could read differently are no
/// authority here: a browser sends none of them in `Host` or `Origin`.
pub fn parse_authority(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (Host::Address(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?).to_canonical()), port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (parse_name(name)?, port)
        }
    };
    if port.is_empty() {
        return Some((host, None));
    }
    let digits = port.strip_prefix(':').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    Some((host, Some(digits.parse().ok()?)))
}

/// A name or an IPv4 address; one final dot says nothing.
fn parse_name(text: &str) -> Option<Host> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(Host::Address(IpAddr::V4(address)));
    }
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_label = |label: &str| (1..=MAX_LABEL_BYTES).contains(&label.len()) && label.bytes().all(is_plain);
    (text.len() <= MAX_NAME_BYTES && text.split('.').all(is_label)).then(|| Host::Name(text.to_ascii_lowercase()))
}

/// The value of a `Host` header: an authority whose port may be empty (RFC 3986, 3.2.3). Its IPv6 address may name a zone (RFC
/// 6874), which means nothing beyond the client's machine.
fn parse_host(text: &str) -> Option<Host> {
    let text = text.strip_suffix(':').unwrap_or(text);
    let without_zone = text.split_once('%').filter(|_| text.starts_with('[')).and_then(|(address, rest)| {
        let (zone, port) = rest.split_once(']')?;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
        (!zone.is_empty() && zone.bytes().all(is_plain)).then(|| format!("{address}]{port}"))
    });
    parse_authority(without_zone.as_deref().unwrap_or(text)).map(|(host, _)| host)
}

/// The meaning of a name in `allow_hosts`: `*`, a name or an address, without a port. `None` if it may not stand there.
pub fn listed(text: &str) -> Option<String> {
    match parse_authority(text) {
        _ if text == "*" => Some(text.to_owned()),
        Some((Host::Name(name), None)) => Some(name),
        Some((Host::Address(address), None)) => Some(address.to_string()),
        // An IPv6 address, without the brackets that only a port makes necessary.
        _ => text.parse::<Ipv6Addr>().ok().map(|address| address.to_string()),
    }
}

/// The hosts that a request asks for: by its `Host` header, and by its target where that names one (RFC 9112, 3.2.2). None at
/// all is for HTTP/1.0 to say; the error is a sentence for its sender.
pub fn asked<B>(request: &Request<B>) -> Result<Vec<Host>, &'static str> {
    let mut asked = Vec::new();
    let mut headers = values(request.headers());
    match (headers.next(), headers.next()) {
        (Some(host), None) => {
            asked.push(host.ok_or("the Host of this request is no HOST or HOST:PORT: send it as Host: localhost")?)
        }
        (Some(_), Some(_)) => return Err("a request names one Host: send that header once"),
        (None, _) if request.version() < Version::HTTP_11 => {}
        (None, _) => return Err("a request of HTTP/1.1 names its Host: send it as Host: localhost"),
    }
    if let Some(authority) = request.uri().authority() {
        asked.push(
            parse_host(authority.as_str())
                .ok_or("the target of this request is no http://HOST:PORT/PATH: send the path alone")?,
        );
    }
    Ok(asked)
}

fn values(headers: &HeaderMap) -> impl Iterator<Item = Option<Host>> {
    headers.get_all(header::HOST).iter().map(|value| value.to_str().ok().and_then(parse_host))
}

/// The names that a listener answers to (LIMITS.md). Addresses are always answered to, as a page that was loaded from one came
/// from there. The owner of a name, though, may let it mean this machine once the page is loaded (DNS rebinding).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hosts {
    /// Every name.
    All,
    /// `localhost`, what is below it, and these, as [`listed`] spells them.
    Listed(Vec<String>),
}

impl Hosts {
    /// Of a listener on loopback, or of one that other machines reach; `allowed` as [`listed`] spells them.
    pub fn new(allowed: &[String], is_loopback: bool) -> Self {
        let is_open = allowed.is_empty() && !is_loopback;
        if is_open || allowed.iter().any(|name| name == "*") { Hosts::All } else { Hosts::Listed(allowed.to_vec()) }
    }

    /// The first of the hosts that the listener does not answer to.
    pub fn first_stranger<'a>(&self, asked: &'a [Host]) -> Option<&'a str> {
        let Hosts::Listed(names) = self else { return None };
        asked.iter().find_map(|host| match host {
            Host::Name(name) => (!host.is_loopback() && !names.contains(name)).then_some(name.as_str()),
            Host::Address(_) => None,
        })
    }
}

/// The kind of name that a request used for the router; every request that comes to the pages has this among its extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// By a name that its listener answers to.
    Known,
    /// By another: those of the pages that are for all answer it too, and tell it nothing that is not for all.
    Strange,
}

/// The refusal of a request for the host `name`, for its sender and the log.
pub fn host_refusal(name: &str) -> String {
    format!("this router does not answer to the name {name}; to let it, start with --allow-host {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, target: &str, hosts: &[&str]) -> Request<()> {
        let hosts = hosts.iter().fold(Request::builder(), |request, host| request.header(header::HOST, *host));
        hosts.version(version).uri(target).body(()).unwrap()
    }

    /// The name that is refused, if one is.
    fn stranger(hosts: &Hosts, host: &str) -> Option<String> {
        let asked = asked(&request(Version::HTTP_11, "/", &[host])).unwrap();
        hosts.first_stranger(&asked).map(str::to_owned)
    }

    #[test]
    fn loopback_answers_to_addresses_and_localhost() {
        let hosts = Hosts::new(&[], true);
        for host in [
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "localhost.:80",
            "localhost:",
            "app.localhost:3000",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.0.0.1.:8080",
            "192.168.1.10:8080",
            "[::1]",
            "[::1]:8080",
            "[::]:8080",
            "[fe80::1%eth0]:8080",
            "[fe80::1%25eth0]",
            "[::ffff:10.0.0.1]",
        ] {
            assert_eq!(stranger(&hosts, host), None, "{host}");
        }
        for (host, name) in [
            ("rebind.example.test:8080", "rebind.example.test"),
            ("Evil.Example.", "evil.example"),
            ("localhost.evil.example", "localhost.evil.example"),
            ("evil-localhost", "evil-localhost"),
            ("notlocalhost", "notlocalhost"),
            ("127.0.0.1.evil.example", "127.0.0.1.evil.example"),
            ("127.1", "127.1"),
            ("2130706433:80", "2130706433"),
            ("0x7f000001", "0x7f000001"),
            ("my_router", "my_router"),
        ] {
            assert_eq!(stranger(&hosts, host).as_deref(), Some(name), "{host}");
        }
    }

    #[test]
    fn listed_names_are_answered_to_as_they_are() {
        let allowed: Vec<String> = ["Router.LAN.", "[::1]", "fe80::1", "*"].iter().filter_map(|text| listed(text)).collect();
        assert_eq!(allowed, ["router.lan", "::1", "fe80::1", "*"]);
        for is_loopback in [true, false] {
            let hosts = Hosts::new(&["router.lan".to_owned()], is_loopback);
            for host in ["router.lan", "ROUTER.lan.:80", "localhost", "10.0.0.1"] {
                assert_eq!(stranger(&hosts, host), None, "{host}");
            }
            for host in ["x.router.lan", "router", "router.lan.evil.example"] {
                assert!(stranger(&hosts, host).is_some(), "{host}");
            }
        }
        assert_eq!(stranger(&Hosts::new(&[], false), "evil.example"), None);
        assert_eq!(stranger(&Hosts::new(&["a".into(), "*".into()], true), "evil.example"), None);
        for text in ["", "a:80", "[::1]:80", "http://a", "a/b", "a b", "z\u{fc}rich.example", "a..b", ".a", "*.a", "a@b", "[::1"]
        {
            assert_eq!(listed(text), None, "{text}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        for host in [
            "",
            ".",
            "a..b",
            ".localhost",
            "localhost..",
            "localhost:80:80",
            "localhost:x",
            "localhost:65536",
            "localhost:-1",
            "user@localhost",
            "localhost/evil",
            "localhost#a",
            "localhost, localhost",
            "localhost evil",
            "http://localhost",
            "[::1",
            "::1",
            "[::1]x",
            "[localhost]",
            "[::1%]",
            "[::1%a b]",
            "%6cocalhost",
            "l\u{f6}calhost",
            &"a".repeat(64),
            &"a.".repeat(128),
        ] {
            assert!(asked(&request(Version::HTTP_11, "/", &[host])).is_err(), "{host}");
        }
        assert!(asked(&request(Version::HTTP_11, "/", &[])).is_err());
        assert!(asked(&request(Version::HTTP_11, "http://localhost/", &[])).is_err());
        assert!(asked(&request(Version::HTTP_11, "/", &["localhost", "localhost"])).is_err());
        assert!(asked(&request(Version::HTTP_10, "/", &["localhost", "evil.example"])).is_err());
        assert!(asked(&request(Version::HTTP_10, "/", &["a..b"])).is_err());
        assert_eq!(asked(&request(Version::HTTP_10, "/", &[])), Ok(Vec::new()));
    }

    #[test]
    fn the_target_counts_too() {
        let hosts = Hosts::new(&[], true);
        for (target, host, expected) in [
            ("http://localhost:8080/ws", "localhost:8080", None),
            ("http://evil.example/ws", "localhost", Some("evil.example")),
            ("http://localhost/ws", "evil.example", Some("evil.example")),
            ("evil.example:80", "localhost", Some("evil.example")),
            ("/http://evil.example/", "localhost", None),
            ("*", "127.0.0.1", None),
        ] {
            let asked = asked(&request(Version::HTTP_11, target, &[host])).unwrap();
            assert_eq!(hosts.first_stranger(&asked), expected, "{target} {host}");
        }
        assert!(asked(&request(Version::HTTP_11, "http://user@localhost/", &["localhost"])).is_err());
    }

    #[test]
    fn the_refusal_names_the_flag() {
        assert!(host_refusal("a.example").ends_with("start with --allow-host a.example"));
    }
}
