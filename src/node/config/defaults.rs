//! The configuration file that says what holds without one: every key with its default and what it is for.
use std::fmt::Write as _;

use super::limits;
use super::settings::Settings;

/// A key, its default as TOML writes it, and what it is for. One without a default of its own begins with `#`, as an example.
type Row = (&'static str, String, &'static str);

/// The text of that file, which parses and says exactly what holds without it.
pub fn defaults() -> String {
    let settings = Settings::default();
    let mut text = HEAD.to_owned();
    put(&mut text, "", &top(&settings));
    text.push_str(TABLES);
    put(&mut text, "mqtt", &mqtt(&settings));
    put(&mut text, "wamp", &[("strict_request_ids", settings.strict_request_ids.to_string(), STRICT)]);
    text.push_str("\n# Bounds. Sizes may have a unit: \"10GiB\", \"500MB\".");
    put(&mut text, "limits", &limits::rows(&settings.limits));
    text
}

fn put(text: &mut String, table: &str, rows: &[Row]) {
    if !table.is_empty() {
        let _ = write!(text, "\n[{table}]\n"); // writing to a String cannot fail
    }
    for (key, value, comment) in rows {
        for line in comment.lines() {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "{key} = {value}");
    }
}

const HEAD: &str = "\
# The configuration of Corsac: every key with its default. Without this file all of it is just so.
# A flag overrides an environment variable, which overrides this file. Check it with: corsac check --config FILE

";

const TABLES: &str = "
# Where to listen. kind: \"auto\" (HTTP, WebSocket, RawSocket and MQTT on one port), \"http\", \"mqtt\" or \"rawsocket\".
# MQTT clients that come in at a listener with a realm join that: realm = \"realm1\".
[[listeners]]
address = \"127.0.0.1:8080\"
kind = \"auto\"
wamp_path = \"/ws\"
mqtt_path = \"/mqtt\"

[[listeners]]
address = \"127.0.0.1:1883\"
kind = \"mqtt\"

# Realms that are there from the start.
[[realms]]
name = \"realm1\"

# What is stored, and for how long: the first rule whose filter matches a topic decides. What none covers is kept for 7 days, and up to
# 1 GiB in each realm. store: \"acknowledged\", \"all\" (QoS 0 too) or \"retained\" (the latest retained value alone).
# [[history]]
# realm = \"realm1\"
# filter = \"plant/#\"
# max_age = \"30d\"
# max_bytes = \"10GiB\"
# max_count = 1000000
# store = \"acknowledged\"
";

fn top(settings: &Settings) -> Vec<Row> {
    let text = |text: &str| format!("{text:?}");
    vec![
        ("default_realm", text("realm1"), "The realm of MQTT clients that name none and whose listener names none."),
        ("auto_create_realms", true.to_string(), "Whether a realm comes into being when a client names it."),
        (
            "anonymous",
            settings.anonymous.to_string(),
            "Whether clients may connect without a password. There are no passwords yet.",
        ),
        (
            "allow_anonymous_remote",
            settings.allow_anonymous_remote.to_string(),
            "Whether they may come from other machines. Then anybody who reaches a port may do everything.",
        ),
        (
            "allow_hosts",
            "[]".to_owned(),
            "Names that listeners answer to over HTTP, besides localhost and addresses: [\"mq.example.com\"], or [\"*\"].",
        ),
        (
            "allow_origins",
            "[]".to_owned(),
            "Web sites whose pages may connect, besides the router's own: [\"https://app.example.com\"], or [\"*\"].",
        ),
        ("memory", settings.memory.to_string(), "Whether everything is kept in memory alone: a restart loses it."),
        ("data_dir", text(&settings.data_dir.to_string_lossy()), "The directory of the history, seen from where Corsac starts."),
        (
            "durability",
            text("fsync"),
            "When a message is acknowledged: \"fsync\" once it is on disk, \"os\" before (a power cut may lose it, a crash does not).",
        ),
        (
            "threads",
            settings.threads.to_string(),
            "1: messages of different clients are handled in the order in which they arrive. More, up to four for each processor:\n\
             faster on many cores, that order is no longer kept.",
        ),
        ("log", text(&settings.log), "error, warn, info, debug, trace, off; or by part: \"info,corsac::net=debug\"."),
    ]
}

fn mqtt(settings: &Settings) -> Vec<Row> {
    vec![
        (
            "realm_from_user",
            settings.realm_from_user.to_string(),
            "Whether joe@factory joins the realm factory also where no realm of that name is configured.",
        ),
        ("refused_filters", "[]".to_owned(), "Filters that nobody may subscribe to, compared as text."),
        (
            "# server_reference",
            "\"b.example.com:1883\"".to_owned(),
            "Where MQTT 5 clients are sent when the router stops: HOST or HOST:PORT, or several with a space between.",
        ),
        (
            "sys_interval_s",
            settings.sys_interval_s.to_string(),
            "How often the figures below $SYS are published, in seconds; 0: never.",
        ),
    ]
}

const STRICT: &str = "Whether the request ids of WAMP clients must count by one, as the specification asks and few libraries do.";

#[cfg(test)]
mod tests {
    use super::super::{Config, Flags, settings};
    use super::*;

    fn load(text: &str) -> Config {
        let path = std::env::temp_dir().join(format!("corsac-defaults-{}-{}.toml", std::process::id(), text.len()));
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&Flags { config: Some(path.clone()), ..Flags::default() }, []);
        std::fs::remove_file(path).ok();
        config.unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn the_file_says_what_holds_without_it() {
        assert_eq!(load(&defaults()), Config::load(&Flags::default(), []).unwrap());
    }

    #[test]
    fn every_key_is_in_it_with_a_comment() {
        let text = defaults();
        let lines: Vec<&str> = text.lines().collect();
        let tables =
            [("", settings::KEYS), ("mqtt", settings::MQTT_KEYS), ("wamp", settings::WAMP_KEYS), ("limits", limits::NAMES)];
        for (table, keys) in tables {
            for key in keys.iter().filter(|key| **key != "realms") {
                let is_it = |line: &&str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
                let at = lines.iter().position(is_it).unwrap_or_else(|| panic!("{table}.{key} is missing"));
                assert!(lines[at - 1].starts_with("# ") && lines[at - 1].len() > 10, "{table}.{key} has no comment");
            }
        }
        assert!(lines.iter().all(|line| line.len() <= 140), "lines are read in terminals");
    }

    #[test]
    fn what_is_an_example_is_legal_too() {
        let is_key = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let is_example = |text: &&str| text.starts_with("[[") || text.split_once(" = ").is_some_and(|(key, _)| is_key(key));
        let uncommented = |line: &str| line.strip_prefix("# ").filter(is_example).map(str::to_owned);
        let text: String = defaults().lines().map(|line| uncommented(line).unwrap_or_else(|| line.to_owned()) + "\n").collect();
        let config = load(&text);
        assert_eq!(config.server_reference.as_deref(), Some("b.example.com:1883"));
        assert_eq!(
            (config.history.len(), config.history[0].max_bytes, config.history[0].max_count),
            (1, Some(10 << 30), Some(1_000_000))
        );
    }
}
