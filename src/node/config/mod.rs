//! The configuration: flags over environment over file over defaults, resolved into one plain [`Config`].
mod defaults;
mod environment;
mod error;
mod file;
mod flags;
mod history;
mod limits;
mod listener;
mod nearest;
mod resolve;
mod settings;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;

use super::data_dir;
use crate::model::Limits;
use crate::store::Retention;
use crate::store::log::Durability;

pub use defaults::defaults;
pub use error::{ConfigError, Place};
pub use flags::Flags;
pub use history::HistoryRule;
pub use listener::{Listener, ListenerKind};

/// The settings that one router process runs from, every value decided and checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where to listen, at least one. Port 0 lets the system choose.
    pub listeners: Vec<Listener>,
    /// Realms that exist from the start, at least one, without duplicates.
    pub realms: Vec<String>,
    /// The realm of MQTT clients that name none and whose listener names none.
    pub default_realm: String,
    /// Whether a realm that is not in `realms` comes into being when a client names it.
    pub auto_create_realms: bool,
    /// Whether clients may connect without credentials.
    pub anonymous: bool,
    /// Whether anonymous clients may connect from other machines.
    pub allow_anonymous_remote: bool,
    /// Names that listeners answer to over HTTP, besides `localhost` and addresses (see `net::host`): those on loopback always
    /// keep to them, the others once there are any.
    pub allow_hosts: Vec<String>,
    /// Origins whose pages may open a WebSocket besides those of the same host and of loopback (see `net::origin`).
    pub allow_origins: Vec<String>,
    /// Whether what follows `@` in the user name of an MQTT client is its realm, also where no realm of that name is configured.
    pub realm_from_user: bool,
    /// MQTT filters whose SUBSCRIBE is refused, compared as text.
    pub refused_filters: Vec<String>,
    /// Where clients are sent when the router stops, as a Server Reference says it (MQTT 5, 4.11).
    pub server_reference: Option<String>,
    /// Seconds between two publications of the figures below `$SYS`; 0 = never.
    pub sys_interval_s: u64,
    /// Whether the request ids of a WAMP client must count by one (WAMP: Basic, Identifiers), as few client libraries let them.
    pub strict_request_ids: bool,
    /// Keep everything in memory and write nothing.
    pub memory: bool,
    /// Where to write when `memory` is off.
    pub data_dir: PathBuf,
    /// Whether an acknowledgement waits for the disk.
    pub durability: Durability,
    /// Which publications are stored, and how long they are kept: of several rules the first that covers a topic counts, and
    /// [`HistoryRule::default`] where none does.
    pub history: Vec<HistoryRule>,
    /// Threads that serve connections. With one, what became readable first is handled first, over all connections.
    pub threads: usize,
    /// A level (`info`) or a comma-separated list of `level` and `target=level`, as tracing-subscriber reads it.
    pub log: String,
    /// Every bound.
    pub limits: Limits,
    /// One sentence about each variable that looks like one of ours and is none.
    pub unknown_variables: Vec<String>,
}

impl Config {
    /// Resolves the configuration of one process. Reads the file that `--config` or `CORSAC_CONFIG` names, if any, and lays
    /// `environment` and `flags` over it. `environment` is pairs of name and value; names that do not start with `CORSAC_` are
    /// passed over.
    pub fn load(flags: &Flags, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Config, ConfigError> {
        let variables = environment::variables(environment)?;
        let mut settings = settings::Settings::default();
        if let Some(path) = flags.config.clone().or_else(|| environment::config_path(&variables)) {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| ConfigError::Unreadable { path: path.clone(), error: error.to_string() })?;
            file::apply(&mut settings, &path.to_string_lossy(), &text)?;
        }
        environment::apply(&mut settings, &variables)?;
        flags::apply(&mut settings, flags)?;
        resolve::resolve(settings)
    }

    /// Every realm that the configuration names, for whatever reason, each once.
    pub fn named_realms(&self) -> Vec<&str> {
        let listeners = self.listeners.iter().filter_map(|listener| listener.realm.as_deref());
        let rules = self.history.iter().filter_map(|rule| rule.realm.as_deref());
        let named = self.realms.iter().map(String::as_str).chain([self.default_realm.as_str()]).chain(listeners).chain(rules);
        let mut named: Vec<&str> = named.collect();
        named.sort_unstable();
        named.dedup();
        named
    }

    /// The values in effect, one a line: what `corsac check` prints.
    pub fn summary(&self) -> String {
        let mut lines: Vec<String> = self.listeners.iter().map(listener_line).collect();
        lines.push(format!("realms = {}", self.realms.join(", ")));
        lines.push(format!("auto_create_realms = {}", self.auto_create_realms));
        lines.push(format!("default_realm = {}", self.default_realm));
        lines.push(format!("anonymous = {}", self.anonymous));
        let lists = [
            ("allow_hosts", &self.allow_hosts),
            ("allow_origins", &self.allow_origins),
            ("mqtt.refused_filters", &self.refused_filters),
        ];
        lines.extend(lists.iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| format!("{key} = {}", list.join(", "))));
        if self.realm_from_user {
            lines.push("mqtt.realm_from_user = true".to_owned());
        }
        lines.extend(self.server_reference.iter().map(|servers| format!("mqtt.server_reference = {servers}")));
        if self.sys_interval_s != settings::Settings::default().sys_interval_s {
            lines.push(format!("mqtt.sys_interval_s = {}", self.sys_interval_s));
        }
        lines.extend(self.strict_request_ids.then(|| "wamp.strict_request_ids = true".to_owned()));
        lines.push(if self.memory {
            "memory = true".to_owned()
        } else {
            format!("data_dir = {}", data_dir::absolute(&self.data_dir).display())
        });
        if !self.memory {
            lines.extend(history::lines(&self.history));
        }
        lines.push(format!("threads = {}", self.threads));
        lines.push(format!("log = {}", self.log));
        lines.extend(limits::changed(&self.limits).into_iter().map(|line| format!("limits.{line}")));
        lines.extend(self.warnings().into_iter().map(|warning| format!("warning: {warning}")));
        lines.join("\n") + "\n"
    }

    /// The rules for how long history is kept, for [`crate::store::Store::retain`]: every topic is under one of these.
    pub fn retention(&self) -> Vec<Retention> {
        history::retention(&self.history)
    }

    /// Warnings of settings that are allowed but hardly meant, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.unknown_variables.clone();
        if !self.anonymous {
            warnings.push("no client can connect: `anonymous = false`, and no users are configured".to_owned());
        } else if self.listeners.iter().any(Listener::is_remote) {
            warnings.push("anonymous clients of other machines may connect and use every realm".to_owned());
        }
        if self.durability == Durability::Os && !self.memory {
            warnings.push("a power cut may lose what was acknowledged (`durability = \"os\"`)".to_owned());
        }
        if !self.memory && self.data_dir.to_string_lossy().contains('\\') {
            let name = self.data_dir.display();
            warnings.push(format!("data_dir is one directory called {name}: on this system / divides directories"));
        }
        if !self.memory {
            warnings.extend(history::warnings(&self.history));
        } else if !self.history.is_empty() {
            warnings.push("[[history]] has no effect: `memory = true` keeps no history".to_owned());
        }
        if self.allow_hosts.iter().any(|name| name == "*") {
            let text = "pages of any web site may reach the router by a name of their own (`allow_hosts` holds `*`)";
            warnings.push(text.to_owned());
        }
        if self.allow_origins.iter().any(|origin| origin == "*") {
            warnings.push("pages of every web site may connect (`allow_origins` holds `*`)".to_owned());
        }
        warnings
    }
}

fn listener_line(listener: &Listener) -> String {
    let paths = if listener.kind.speaks_http() {
        format!(", WebSocket at {} (WAMP) and {} (MQTT)", listener.wamp_path, listener.mqtt_path)
    } else {
        String::new()
    };
    let realm = listener.realm.as_ref().map_or(String::new(), |realm| format!(", MQTT clients join {realm}"));
    format!("listener {} {}{paths}{realm}", listener.address, listener.kind.name())
}

#[cfg(test)]
mod tests;
