//! The configuration while its layers are laid over one another: each key sets one field, later layers win.
use std::path::PathBuf;

use super::history::HistoryRule;
use super::limits;
use super::listener::{self, Listener, Placement};
use super::value::{Problem, Value, parse_realm};
use crate::model::Limits;
use crate::net::{host, origin};
use crate::store::log::Durability;

/// The keys outside the tables, as the file and (in capitals, after `CORSAC_`) the environment name them.
pub(super) const KEYS: &[&str] = &[
    "realms",
    "default_realm",
    "auto_create_realms",
    "anonymous",
    "allow_anonymous_remote",
    "allow_hosts",
    "allow_origins",
    "memory",
    "data_dir",
    "durability",
    "threads",
    "log",
];

/// The keys of the table `[mqtt]`.
pub(super) const MQTT_KEYS: &[&str] = &["realm_from_user", "refused_filters", "server_reference", "sys_interval_s"];

/// The keys of the table `[wamp]`.
pub(super) const WAMP_KEYS: &[&str] = &["strict_request_ids"];

/// The values set so far; `None` where the default depends on other keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    /// One sentence about each variable that looks like one of ours and is none.
    pub unknown_variables: Vec<String>,
    /// The directory that `~` stands for.
    pub home: Option<PathBuf>,
    /// `[[listeners]]` of the file.
    pub listeners: Option<Vec<Listener>>,
    /// Where `--http` or `CORSAC_HTTP` puts the listener that speaks HTTP.
    pub http: Option<Placement>,
    /// Where `--mqtt` or `CORSAC_MQTT` puts the MQTT listener.
    pub mqtt: Option<Placement>,
    pub realms: Vec<String>,
    pub default_realm: Option<String>,
    pub auto_create_realms: Option<bool>,
    pub anonymous: bool,
    pub allow_anonymous_remote: bool,
    pub allow_hosts: Vec<String>,
    pub allow_origins: Vec<String>,
    pub realm_from_user: bool,
    pub refused_filters: Vec<String>,
    pub server_reference: Option<String>,
    pub sys_interval_s: u64,
    pub strict_request_ids: bool,
    pub memory: bool,
    pub data_dir: PathBuf,
    pub durability: Durability,
    /// `[[history]]` of the file.
    pub history: Vec<HistoryRule>,
    pub threads: usize,
    pub log: String,
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            unknown_variables: Vec::new(),
            home: None,
            listeners: None,
            http: None,
            mqtt: None,
            realms: Vec::new(),
            default_realm: None,
            auto_create_realms: None,
            anonymous: true,
            allow_anonymous_remote: false,
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            realm_from_user: false,
            refused_filters: Vec::new(),
            server_reference: None,
            sys_interval_s: 10,
            strict_request_ids: false,
            memory: false,
            data_dir: PathBuf::from("corsac-data"),
            durability: Durability::default(),
            history: Vec::new(),
            threads: 1,
            log: "info".to_owned(),
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// Sets the key `key` of the table `table` (`""` for the keys outside the tables); false if there is none.
    pub(super) fn set(&mut self, table: &str, key: &str, value: Value) -> Result<bool, Problem> {
        match (table, key) {
            ("limits", name) => return limits::set(&mut self.limits, name, value),
            ("mqtt", "realm_from_user") => self.realm_from_user = value.boolean()?,
            ("mqtt", "refused_filters") => self.refused_filters = each(value, parse_filter)?,
            ("mqtt", "server_reference") => self.server_reference = Some(parse_server_reference(value.text()?)?),
            ("mqtt", "sys_interval_s") => self.sys_interval_s = parse_interval(value)?,
            ("wamp", "strict_request_ids") => self.strict_request_ids = value.boolean()?,
            ("", "realms") => self.realms = each(value, parse_realm)?,
            ("", "default_realm") => self.default_realm = Some(parse_realm(value.text()?)?),
            ("", "auto_create_realms") => self.auto_create_realms = Some(value.boolean()?),
            ("", "anonymous") => self.anonymous = value.boolean()?,
            ("", "allow_anonymous_remote") => self.allow_anonymous_remote = value.boolean()?,
            ("", "allow_hosts") => self.allow_hosts = each(value, parse_host)?,
            ("", "allow_origins") => self.allow_origins = each(value, parse_origin)?,
            ("", "memory") => self.memory = value.boolean()?,
            ("", "data_dir") => self.data_dir = parse_directory(value.text()?)?,
            ("", "durability") => self.durability = parse_durability(&value.text()?)?,
            ("", "threads") => self.threads = parse_threads(&value, processors())?,
            ("", "log") => self.log = parse_log(value.text()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Sets where the listener that `--http` or `--mqtt` moves is put; false if `key` is neither `http` nor `mqtt`.
    pub(super) fn place(&mut self, key: &str, value: Value) -> Result<bool, Problem> {
        let slot = match key {
            "http" => &mut self.http,
            "mqtt" => &mut self.mqtt,
            _ => return Ok(false),
        };
        *slot = Some(listener::parse_placement(value.text()?)?);
        Ok(true)
    }
}

fn each(value: Value, parse: fn(String) -> Result<String, Problem>) -> Result<Vec<String>, Problem> {
    value.texts()?.into_iter().map(parse).collect()
}

/// A filter as MQTT spells it [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1].
fn parse_filter(text: String) -> Result<String, Problem> {
    let levels: Vec<&str> = text.split('/').collect();
    let last = levels.len() - 1; // split yields at least one
    let wrong = |(at, level): (usize, &&str)| match *level {
        "#" => at != last,
        "+" => false,
        level => level.contains(['+', '#', '\0']),
    };
    if text.is_empty() || text.len() > 65_535 || levels.iter().enumerate().any(wrong) {
        return Err(format!("cannot hold {text:?}, which is no MQTT filter: + and # stand alone in a level, # in the last"));
    }
    Ok(text)
}

/// Where clients find another server: host names or addresses, with or without port, separated by spaces (MQTT 5, 4.11).
fn parse_server_reference(text: String) -> Result<String, Problem> {
    let is_server = |server: &str| !server.is_empty() && !server.contains(|c: char| c.is_control() || c.is_whitespace());
    if text.len() > 65_535 || !text.split(' ').all(is_server) {
        return Err(format!(
            "must be HOST or HOST:PORT, or several with one space between, as \"b.example.com:1883\", not {text:?}"
        ));
    }
    Ok(text)
}

/// A day at the most: what is rarer is nobody's to wait for.
fn parse_interval(value: Value) -> Result<u64, Problem> {
    let seconds = value.number(0)?;
    if seconds > 86_400 {
        return Err(format!("must be at most 86400 seconds, or 0 for never, not {seconds}"));
    }
    Ok(seconds)
}

fn parse_host(text: String) -> Result<String, Problem> {
    host::listed(&text).ok_or_else(|| {
        format!(
            "cannot hold {text:?}: a host is a name as browsers send it, without port and path, as router.example.com \
             (xn--… for letters beyond ASCII); or * for every name"
        )
    })
}

fn parse_origin(text: String) -> Result<String, Problem> {
    if origin::is_origin(&text) {
        return Ok(text);
    }
    Err(format!(
        "cannot hold {text:?}: an origin is SCHEME://HOST or SCHEME://HOST:PORT and nothing behind it, \
         as https://app.example.com; or null; or * for every origin"
    ))
}

fn parse_directory(text: String) -> Result<PathBuf, Problem> {
    if text.is_empty() { Err("must be a directory, not an empty text".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// More threads than a machine can run only wait for one another, and far more are refused by the system.
fn parse_threads(value: &Value, processors: usize) -> Result<usize, Problem> {
    let most = THREADS_PER_PROCESSOR.saturating_mul(processors);
    let threads = value.clone().number(1).ok().filter(|threads| *threads <= most);
    threads.ok_or_else(|| {
        let found = value.description();
        format!("must be an integer from 1 to {most}, four for each processor of this machine, not {found}")
    })
}

fn parse_durability(text: &str) -> Result<Durability, Problem> {
    match text {
        "fsync" => Ok(Durability::Sync),
        "os" => Ok(Durability::Os),
        _ => Err(format!("must be \"fsync\" (acknowledged is on disk) or \"os\" (a power cut may lose it), not {text:?}")),
    }
}

/// Threads that serve connections, at most.
const THREADS_PER_PROCESSOR: usize = 4;

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// A level, or a list of `level` and `target=level`. Checked here because the log filter itself takes a misspelled level
/// for a target and then logs everything of it.
fn parse_log(text: String) -> Result<String, Problem> {
    let is_level = |text: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    let is_target = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'));
    let is_directive = |part: &str| match part.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(part),
    };
    if text.split(',').all(is_directive) {
        return Ok(text);
    }
    Err(format!("must be one of {}, or a list as info,corsac::net=debug, not {text:?}", LEVELS.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_known() {
        for key in KEYS {
            // A float fits none of them, so a known key answers with a problem and an unknown one with `false`.
            assert!(Settings::default().set("", key, Value::Other("float")).is_err(), "{key}");
        }
        for key in MQTT_KEYS {
            assert!(Settings::default().set("mqtt", key, Value::Other("float")).is_err(), "{key}");
        }
        for key in WAMP_KEYS {
            assert!(Settings::default().set("wamp", key, Value::Other("float")).is_err(), "{key}");
        }
        assert_eq!(Settings::default().set("", "refused_filters", Value::Other("float")), Ok(false));
        assert_eq!(Settings::default().place("log", Value::Text("off".into())), Ok(false));
    }

    #[test]
    fn filters() {
        for filter in ["a", "test/nosubscribe", "+/+", "#", "a/#", "/", "$SYS/#"] {
            assert_eq!(parse_filter(filter.into()), Ok(filter.into()));
        }
        for filter in ["", "a#", "#/a", "a+/b", "a\0"] {
            assert!(parse_filter(filter.into()).is_err(), "{filter:?}");
        }
    }

    #[test]
    fn server_references() {
        for text in ["myserver.xyz.org", "10.10.151.22:8883", "[fe80::9610:3eff:fe1c]:1883", "a:1 b:2"] {
            assert_eq!(parse_server_reference(text.into()), Ok(text.into()));
        }
        for text in ["", " ", "a  b", "a ", "a\n", "a\0"] {
            assert!(parse_server_reference(text.into()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn threads_are_bounded_by_the_machine() {
        let parse = |text: &str| parse_threads(&Value::Untyped(text.into()), 2);
        assert_eq!((parse("1"), parse("8"), parse_threads(&Value::Integer(3), 1)), (Ok(1), Ok(8), Ok(3)));
        for text in ["0", "9", "100000", "-1", "two", ""] {
            let problem = parse(text).unwrap_err();
            let expected = format!("must be an integer from 1 to 8, four for each processor of this machine, not {text:?}");
            assert_eq!(problem, expected);
        }
        assert!(parse_threads(&Value::Integer(5), 1).is_err_and(|problem| problem.contains("from 1 to 4")));
    }

    #[test]
    fn log_levels() {
        for log in ["info", "off", "INFO", "Warn", "warn,corsac=trace", "corsac::net=DEBUG,error"] {
            assert_eq!(parse_log(log.into()), Ok(log.into()));
        }
        for log in ["", "inof", "info,", "corsac", "corsac=", "=info", "corsac=inof", "corsac[span]=info"] {
            assert!(parse_log(log.into()).is_err(), "{log:?}");
        }
    }
}
