//! The words of the router about its listeners: the lines at start, and why one could not be opened.
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::config::{Config, Listener, ListenerKind};

/// The part of the banner that is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// All of it: somebody is at a terminal.
    Whole,
    /// The listeners: a program reads them, or a file keeps them.
    Short,
    /// Nothing: a service manager keeps the log, whose first line says the same.
    Nothing,
}

/// The lines to print once every listener is open: what listens where, what is kept where, and one line to try for each protocol,
/// as `program` starts this program. Put the addresses that were really bound into `config.listeners` first, so that no port reads 0.
pub fn start_banner(config: &Config, version: &str, history: &str, program: &str, shown: Shown) -> String {
    if shown == Shown::Nothing {
        return String::new();
    }
    let mut text = format!("Corsac {version}\n\n");
    for listener in &config.listeners {
        for (url, what) in faces(listener) {
            let _ = writeln!(text, "  {url:<32} {what}"); // writing to a String cannot fail
        }
    }
    let _ = writeln!(text, "\n  {}", history_line(history));
    let _ = writeln!(text, "  {}", realm_line(config));
    for warning in config.warnings() {
        let _ = writeln!(text, "  Warning: {warning}.");
    }
    let tries = tries(config, program);
    if shown == Shown::Short {
        // A program that waits for the last line waits for this one.
        tries.iter().filter(|line| line.starts_with("curl")).for_each(|line| text.push_str(&format!("  {line}\n")));
    } else if !tries.is_empty() {
        let _ = writeln!(text, "\nTry, each in its own terminal:");
        tries.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text
}

/// Begins a sentence with what is a part of one elsewhere.
fn history_line(history: &str) -> String {
    let mut chars = history.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// The words by which the person at the terminal has started this program, and can start it again.
pub fn program() -> String {
    let typed = std::env::args_os().next().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match typed.as_str() {
        "" => "corsac".to_owned(),
        plain if plain.chars().all(|c| c.is_alphanumeric() || "/._-+".contains(c)) => typed,
        _ => format!("'{}'", typed.replace('\'', "'\\''")),
    }
}

/// The line of the log that says that everybody is welcome: where, and what the history holds.
pub fn start_line(config: &Config, version: &str, history: &str, took: Duration) -> String {
    let listeners: Vec<String> =
        config.listeners.iter().map(|listener| format!("{} ({})", listener.address, listener.kind.name())).collect();
    format!(
        "Corsac {version} listening on {}; {history}; started in {} ms, process {}",
        listeners.join(" and "),
        took.as_millis(),
        std::process::id()
    )
}

fn faces(listener: &Listener) -> Vec<(String, String)> {
    let Listener { address, kind, wamp_path, mqtt_path, .. } = listener;
    let mut faces = Vec::new();
    if kind.speaks_http() {
        faces.push((format!("http://{address}/"), "status page".to_owned()));
        faces.push((format!("ws://{address}{wamp_path}"), "WAMP over WebSocket: JSON, MsgPack, CBOR".to_owned()));
        faces.push((format!("ws://{address}{mqtt_path}"), "MQTT over WebSocket".to_owned()));
    }
    if kind.speaks_rawsocket() {
        faces.push((format!("rs://{address}"), "WAMP over RawSocket".to_owned()));
    }
    if kind.speaks_mqtt() {
        faces.push((format!("mqtt://{address}"), "MQTT 3.1, 3.1.1 and 5".to_owned()));
    }
    if let Some(realm) = &listener.realm {
        for (_, what) in &mut faces {
            if what.starts_with("MQTT") {
                let _ = write!(what, ", realm {realm}");
            }
        }
    }
    faces
}

fn realm_line(config: &Config) -> String {
    let noun = if config.realms.len() == 1 { "Realm" } else { "Realms" };
    let others = if config.auto_create_realms { "; others come into being when a client names them" } else { "" };
    format!("{noun} {}{others}.", config.realms.join(", "))
}

fn tries(config: &Config, program: &str) -> Vec<String> {
    let first = |speaks: fn(ListenerKind) -> bool| config.listeners.iter().find(|listener| speaks(listener.kind));
    // A listener for MQTT alone has the port that MQTT clients expect.
    let mqtt = first(|kind| kind == ListenerKind::Mqtt).or_else(|| first(ListenerKind::speaks_mqtt));
    let mut lines = Vec::new();
    if let Some(listener) = first(ListenerKind::speaks_http) {
        let address = listener.local_address();
        lines.push(format!("{program} sub --url ws://{address}{} 'demo/#'", listener.wamp_path));
        if let Some(mqtt) = mqtt {
            lines.push(format!("mosquitto_pub{} -t demo/hello -m 'hello'", mosquitto_target(mqtt.local_address())));
        }
        lines.push(format!("curl http://{address}/healthz"));
    }
    if let Some(mqtt) = mqtt {
        lines.insert(0, format!("mosquitto_sub{} -t 'demo/#' -v", mosquitto_target(mqtt.local_address())));
    }
    lines
}

/// The options that lead mosquitto's clients to `address`; none for where they go by themselves.
fn mosquitto_target(address: SocketAddr) -> String {
    let host = if address.ip().to_string() == "127.0.0.1" { String::new() } else { format!(" -h {}", address.ip()) };
    let port = if address.port() == 1883 { String::new() } else { format!(" -p {}", address.port()) };
    format!("{host}{port}")
}

/// Why `listener`, one of `config.listeners`, could not be opened, and what to do about it.
pub fn bind_refusal(config: &Config, listener: &Listener, error: &io::Error) -> String {
    let (ip, port) = (listener.address.ip(), listener.address.port());
    let way = |port: &str| {
        let to = if ip.is_ipv6() { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
        match flag_for(config, listener) {
            Some(flag) => format!("move Corsac with {flag} {to}"),
            None => format!("give this listener address = \"{to}\" in the configuration file"),
        }
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("port {port} on {ip} is taken: stop what uses it or {}", way("PORT")),
        io::ErrorKind::PermissionDenied => {
            format!("port {port} on {ip} needs more rights than this process has: {}, above 1023", way("PORT"))
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{ip} is no address of this machine: take one that it has, or 127.0.0.1, for the listener on port {port}")
        }
        _ => format!("cannot listen on {}: {error}; {}", listener.address, way("PORT")),
    }
}

/// The flag that moves this listener: it must be the only one that the flag could mean.
fn flag_for(config: &Config, listener: &Listener) -> Option<&'static str> {
    let flag = listener.kind.flag()?;
    let meant = config.listeners.iter().filter(|other| other.kind.flag() == Some(flag)).count();
    (meant == 1).then_some(flag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config::Flags;

    fn config(http: &str, mqtt: &str) -> Config {
        let flags = Flags { http: Some(http.into()), mqtt: Some(mqtt.into()), allow_anonymous_remote: true, ..Flags::default() };
        Config::load(&flags, []).unwrap()
    }

    #[test]
    fn a_newcomer_sees_what_to_type() {
        let expected = "\
Corsac 1.2.3

  http://127.0.0.1:8080/           status page
  ws://127.0.0.1:8080/ws           WAMP over WebSocket: JSON, MsgPack, CBOR
  ws://127.0.0.1:8080/mqtt         MQTT over WebSocket
  rs://127.0.0.1:8080              WAMP over RawSocket
  mqtt://127.0.0.1:8080            MQTT 3.1, 3.1.1 and 5
  mqtt://127.0.0.1:1883            MQTT 3.1, 3.1.1 and 5

  History in /var/lib/corsac (format 2, empty).
  Realm realm1; others come into being when a client names them.

Try, each in its own terminal:
  mosquitto_sub -t 'demo/#' -v
  target/release/corsac sub --url ws://127.0.0.1:8080/ws 'demo/#'
  mosquitto_pub -t demo/hello -m 'hello'
  curl http://127.0.0.1:8080/healthz
";
        let (config, history) = (Config::load(&Flags::default(), []).unwrap(), "history in /var/lib/corsac (format 2, empty)");
        let banner = |shown| start_banner(&config, "1.2.3", history, "target/release/corsac", shown);
        assert_eq!(banner(Shown::Whole), expected);
        let (head, _) = expected.split_once("\nTry").unwrap();
        assert_eq!(banner(Shown::Short), format!("{head}  curl http://127.0.0.1:8080/healthz\n"));
        assert_eq!(banner(Shown::Nothing), "");
        let line = start_line(&config, "1.2.3", history, Duration::from_millis(7));
        let expected = format!(
            "Corsac 1.2.3 listening on 127.0.0.1:8080 (auto) and 127.0.0.1:1883 (mqtt); {history}; started in 7 ms, process {}",
            std::process::id()
        );
        assert_eq!(line, expected);
    }

    fn whole(config: &Config) -> String {
        start_banner(config, "1", "no history", "corsac", Shown::Whole)
    }

    #[test]
    fn lines_to_try_follow_the_listeners() {
        let text = whole(&config("0.0.0.0:9000", "[::1]:2883"));
        assert!(text.contains("mosquitto_sub -h ::1 -p 2883 -t"), "{text}");
        assert!(text.contains("curl http://127.0.0.1:9000/healthz"), "{text}");
        assert!(text.contains("Warning: anonymous clients of other machines"), "{text}");
        let text = whole(&config("off", "1883"));
        assert!(text.contains("mosquitto_sub -t") && !text.contains("http") && !text.contains("corsac sub"), "{text}");
        let text = whole(&config("9000", "off"));
        assert!(text.contains("mosquitto_sub -p 9000 -t"), "{text}");
    }

    #[test]
    fn a_taken_port_names_the_flag_that_moves_it() {
        let config = config("8080", "1883");
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(
            bind_refusal(&config, &config.listeners[1], &taken),
            "port 1883 on 127.0.0.1 is taken: stop what uses it or move Corsac with --mqtt 127.0.0.1:PORT"
        );
        assert_eq!(
            bind_refusal(&config, &config.listeners[0], &taken),
            "port 8080 on 127.0.0.1 is taken: stop what uses it or move Corsac with --http 127.0.0.1:PORT"
        );
        let v6 = self::config("[::1]:8080", "off");
        assert!(bind_refusal(&v6, &v6.listeners[0], &taken).ends_with("--http [::1]:PORT"));
    }

    #[test]
    fn a_flag_is_named_only_where_it_helps() {
        let mut config = config("8080", "1883");
        config.listeners.push(Listener { address: "127.0.0.1:1884".parse().unwrap(), ..config.listeners[1].clone() });
        let text = bind_refusal(&config, &config.listeners[2], &io::Error::from(io::ErrorKind::AddrInUse));
        assert!(text.contains("port 1884") && text.contains("configuration file") && !text.contains("--mqtt"), "{text}");
    }

    #[test]
    fn other_errors_say_what_to_do_too() {
        let config = config("80", "10.255.255.1:1883");
        let text = bind_refusal(&config, &config.listeners[0], &io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(text.contains("rights") && text.contains("--http 127.0.0.1:PORT, above 1023"), "{text}");
        let text = bind_refusal(&config, &config.listeners[1], &io::Error::from(io::ErrorKind::AddrNotAvailable));
        assert!(text.starts_with("10.255.255.1 is no address of this machine"), "{text}");
        let text = bind_refusal(&config, &config.listeners[0], &io::Error::other("odd"));
        assert!(text.starts_with("cannot listen on 127.0.0.1:80: odd; move Corsac with --http"), "{text}");
    }
}
