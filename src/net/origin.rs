//! Which web pages may open a WebSocket to the router: decided by the Origin that their browser names (RFC 6454).
use super::host::{Host, parse_authority};

/// The origin of pages that were opened from a file, as some web views name it; no page that came over a network has it.
const FILE: &str = "file://";

/// Whether a request may open a WebSocket. Allowed are requests without `Origin` (no browser), from a page of loopback or of the
/// hosts that the request itself `asked` for (ports do not matter), from a file, or from an origin in `allow` (`*`, `null` or
/// `scheme://host[:port]`). An origin that cannot be parsed strictly is refused. `asked` is to be judged before, as a page whose
/// name means this machine is of the same host.
pub fn origin_allowed(origin: Option<&str>, asked: &[Host], allow: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    if origin == FILE || allow.iter().any(|listed| listed == "*" || (listed == NONE && origin == NONE)) {
        return true;
    }
    let Some(origin) = Origin::parse(origin) else { return false };
    let is_usual = matches!(origin.scheme.as_str(), "http" | "https" | "ws" | "wss");
    (is_usual && (origin.host.is_loopback() || origin.is_of(asked)))
        || allow.iter().any(|listed| Origin::parse(listed).is_some_and(|listed| listed == origin))
}

/// Whether the origin is the URL of the WebSocket itself, without its path. Some libraries say so; no page has such an origin, so
/// the request comes from no browser.
pub fn is_own_url(origin: &str, asked: &[Host]) -> bool {
    Origin::parse(origin).is_some_and(|origin| matches!(origin.scheme.as_str(), "ws" | "wss") && origin.is_of(asked))
}

/// The origin of a page that has none to name: it was opened from a file, or is shut into a frame.
const NONE: &str = "null";

/// The refusal of a page that may not connect, for the page and the log.
pub fn origin_refusal(origin: &str) -> String {
    if origin == NONE {
        "pages without an origin (null), as those opened from a file, may not connect to this router; serve the page from http://localhost"
            .to_owned()
    } else if is_origin(origin) && origin != "*" {
        format!("pages of {origin} may not connect to this router; to let them, start it with --allow-origin {origin}")
    } else {
        "this request names no valid Origin; origins are allowed with --allow-origin SCHEME://HOST:PORT".to_owned()
    }
}

/// Whether `text` may stand in `allow_origins`.
pub fn is_origin(text: &str) -> bool {
    matches!(text, "*" | NONE) || Origin::parse(text).is_some()
}

/// Two origins are the same if scheme, host and port are [RFC 6454, 5].
#[derive(PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: Host,
    port: Option<u16>,
}

impl Origin {
    fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let is_scheme = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme) {
            return None;
        }
        let (host, port) = parse_authority(authority)?;
        let port = port.or(match scheme.as_str() {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        });
        Some(Origin { scheme, host, port })
    }

    fn is_of(&self, asked: &[Host]) -> bool {
        !asked.is_empty() && asked.iter().all(|host| *host == self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: &str, host: &str, allow: &[&str]) -> bool {
        let allow: Vec<String> = allow.iter().map(|&text| text.to_owned()).collect();
        let asked: Vec<Host> = parse_authority(host).into_iter().map(|(host, _)| host).collect();
        origin_allowed(Some(origin), &asked, &allow)
    }

    #[test]
    fn no_browser_no_question() {
        assert!(origin_allowed(None, &[], &[]));
        assert!(origin_allowed(None, &[Host::Address("192.168.0.1".parse().unwrap())], &[]));
    }

    #[test]
    fn pages_of_loopback() {
        for origin in [
            "http://localhost",
            "http://localhost:3000",
            "HTTPS://LocalHost:8443",
            "http://127.0.0.1:8080",
            "http://127.8.9.10",
            "http://[::1]:5173",
            "https://[::1]",
            "http://[::ffff:127.0.0.1]",
            "http://localhost.:8080",
            "http://app.localhost:3000",
            "ws://localhost:8080",
            "wss://127.0.0.1",
        ] {
            assert!(allowed(origin, "10.0.0.1:8080", &[]), "{origin}");
        }
    }

    #[test]
    fn pages_that_only_look_like_loopback() {
        for origin in [
            "http://localhost.evil.com",
            "http://127.0.0.1.evil.com",
            "http://evil.com",
            "http://evil.com:8080",
            "http://notlocalhost",
            "http://localhost@evil.com",
            "http://localhost:80@evil.com",
            "http://evil.com@localhost",
            "http://user:localhost@evil.com:80",
            "http://evil.com/localhost",
            "http://evil.com#localhost",
            "http://evil.com?localhost",
            "http://evil.com\\localhost",
            "http://localhost/",
            "http://localhost%2eevil.com",
            "http://[::1].evil.com",
            "http://[::1",
            "http://::1",
            "http://[localhost]",
            "http://[::1%25lo]",
            "http://localhost:",
            "http://localhost:80:80",
            "http://localhost:+80",
            "http://localhost:65536",
            "http://localhost http://localhost",
            " http://localhost",
            "http://localhost ",
            "http://localhost\0",
            "http://127.1",
            "http://2130706433",
            "http://0x7f.0.0.1",
            "http://0.0.0.0",
            "http://loc\u{212a}lhost",
            "http://",
            "http:localhost",
            "//localhost",
            "localhost",
            "file:///",
            "file://localhost",
            "FILE://",
            "ws://evil.com",
            "wss://localhost.evil.com",
            "chrome-extension://localhost",
            "null",
            "NULL",
            "",
        ] {
            assert!(!allowed(origin, "10.0.0.1:8080", &[]), "{origin:?}");
        }
    }

    #[test]
    fn pages_of_the_same_host() {
        for (origin, host) in [
            ("http://router.lan:8080", "router.lan:8080"),
            ("http://Router.LAN:3000", "router.lan:8080"),
            ("https://router.lan", "ROUTER.lan"),
            ("http://10.0.0.1:8080", "10.0.0.1:8080"),
            ("http://[fe80::1]:8080", "[FE80:0::1]:8080"),
            ("ws://router.lan:8080", "router.lan:8080"),
            ("wss://router.lan", "router.lan."),
        ] {
            assert!(allowed(origin, host, &[]), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://router.lan.evil.com", "router.lan"),
            ("http://evil-router.lan", "router.lan"),
            ("http://router.lan@evil.com", "router.lan"),
            ("http://10.0.0.1", "10.0.0.11"),
            ("http://[fe80::1]", "[fe80::2]"),
            ("ftp://router.lan", "router.lan"),
            ("null", "null"),
            ("http://", ""),
            ("", ""),
            ("http://evil.com", "evil.com@router.lan"),
        ] {
            assert!(!allowed(origin, host, &[]), "{origin} {host}");
        }
        assert!(!origin_allowed(Some("http://router.lan"), &[], &[]));
    }

    #[test]
    fn origins_that_no_page_has() {
        assert!(allowed("file://", "10.0.0.1:8080", &[]));
        let asked = |host: &str| parse_authority(host).map(|(host, _)| host);
        let router = asked("router.lan:8080").unwrap();
        for origin in ["ws://router.lan:8080", "wss://Router.lan"] {
            assert!(is_own_url(origin, std::slice::from_ref(&router)), "{origin}");
        }
        for origin in ["http://router.lan:8080", "https://router.lan", "ws://evil.com", "ws://router.lan/", "file://", "null", ""]
        {
            assert!(!is_own_url(origin, std::slice::from_ref(&router)), "{origin}");
        }
        // A request that asks for two hosts is of neither.
        assert!(!is_own_url("ws://router.lan", &[router, asked("evil.com").unwrap()]));
        assert!(!is_own_url("ws://router.lan", &[]));
    }

    #[test]
    fn listed_pages() {
        let allow = ["https://app.example.com", "http://app.example.com:8080", "capacitor://localhost"];
        for origin in
            ["https://app.example.com", "https://APP.example.com:443", "http://app.example.com:8080", "capacitor://localhost"]
        {
            assert!(allowed(origin, "10.0.0.1", &allow), "{origin}");
        }
        for origin in [
            "http://app.example.com",
            "https://app.example.com:444",
            "https://example.com",
            "https://x.app.example.com",
            "https://app.example.com.evil.com",
            "ionic://localhost",
            "null",
        ] {
            assert!(!allowed(origin, "10.0.0.1", &allow), "{origin}");
        }
        assert!(allowed("null", "10.0.0.1", &["null"]));
        assert!(!allowed("http://evil.com", "10.0.0.1", &["null"]));
        assert!(allowed("http://evil.com", "10.0.0.1", &["*"]));
        assert!(allowed("null", "10.0.0.1", &["*"]));
    }

    #[test]
    fn refusals_name_the_flag_and_repeat_only_origins() {
        assert!(origin_refusal("http://evil.com").contains("--allow-origin http://evil.com"));
        // To allow `null` would be to allow every page that cares to hide its origin.
        let text = origin_refusal("null");
        assert!(text.contains("serve the page from http://localhost") && !text.contains("--allow-origin"), "{text}");
        for origin in ["<script>", "*", "http://a b", ""] {
            let text = origin_refusal(origin);
            assert!(text.contains("--allow-origin") && (origin.is_empty() || !text.contains(origin)), "{text}");
        }
    }
}
