//! Turns settings into a configuration: defaults that depend on other keys, and what must hold between keys.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Config;
use super::error::ConfigError;
use super::limits;
use super::listener::{self, Listener, ListenerKind, Placement};
use super::settings::Settings;

/// The realm of a router that is told of none.
const FIRST_REALM: &str = "realm1";

/// Decides everything that `settings` leave open and refuses what contradicts itself.
pub(super) fn resolve(settings: Settings) -> Result<Config, ConfigError> {
    if let Some(text) = limits::contradiction(&settings.limits) {
        return Err(ConfigError::Contradiction(text));
    }
    let data_dir = at_home(&settings.data_dir, settings.home.as_deref())?;
    let listeners = listeners(&settings)?;
    // Where somebody has to log in, what may be made is for whoever runs the router to say.
    let auto_create_realms = settings.auto_create_realms.unwrap_or(settings.anonymous);
    let (realms, default_realm) = realms(&settings, auto_create_realms)?;
    for listener in &listeners {
        let user = format!("the realm of the listener {}", listener.address);
        check_listed(listener.realm.as_deref(), &realms, auto_create_realms, &user)?;
    }
    for rule in &settings.history {
        check_listed(rule.realm.as_deref(), &realms, auto_create_realms, "the realm of a rule of [[history]]")?;
    }
    if let Some(listener) = listeners.iter().find(|listener| listener.is_remote())
        && settings.anonymous
        && !settings.allow_anonymous_remote
    {
        return Err(ConfigError::RemoteWithoutUsers(listener.address));
    }
    Ok(Config {
        listeners,
        realms,
        default_realm,
        auto_create_realms,
        anonymous: settings.anonymous,
        allow_anonymous_remote: settings.allow_anonymous_remote,
        allow_hosts: settings.allow_hosts,
        allow_origins: settings.allow_origins,
        realm_from_user: settings.realm_from_user,
        refused_filters: settings.refused_filters,
        server_reference: settings.server_reference,
        sys_interval_s: settings.sys_interval_s,
        strict_request_ids: settings.strict_request_ids,
        memory: settings.memory,
        data_dir,
        durability: settings.durability,
        history: settings.history,
        threads: settings.threads,
        log: settings.log,
        limits: settings.limits,
        unknown_variables: settings.unknown_variables,
    })
}

/// The path with the home directory in the place of `~`, which is the shell's to understand and reaches us where none has read it.
fn at_home(path: &Path, home: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let mut parts = path.components();
    let first = parts.next().map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    let wrong = |problem: &str| ConfigError::Contradiction(format!("data_dir (--data) begins with {first}: {problem}"));
    match (first.strip_prefix('~'), home) {
        (None, _) => Ok(path.to_owned()),
        (Some(""), Some(home)) => Ok(home.components().chain(parts).collect()),
        (Some(""), None) => Err(wrong("HOME is not set, so write the whole path")),
        (Some(_), _) => Err(wrong("write the whole path of that home directory, or ./~… for a directory of this name")),
    }
}

fn listeners(settings: &Settings) -> Result<Vec<Listener>, ConfigError> {
    let mut listeners = settings.listeners.clone().unwrap_or_else(listener::defaults);
    put(&mut listeners, "http", ListenerKind::Auto, settings.http)?;
    put(&mut listeners, "mqtt", ListenerKind::Mqtt, settings.mqtt)?;
    if listeners.is_empty() {
        let text =
            "nothing to listen on: add [[listeners]] with address = \"127.0.0.1:8080\", or give --http or --mqtt an address";
        return Err(ConfigError::Contradiction(text.to_owned()));
    }
    for (at, first) in listeners.iter().enumerate() {
        if let Some(second) = listeners.iter().skip(at + 1).find(|second| overlap(first.address, second.address)) {
            let text = format!("two listeners want {} and {}: give one of them another port", first.address, second.address);
            return Err(ConfigError::Contradiction(text));
        }
    }
    Ok(listeners)
}

/// Moves the one listener that the flag of `kind` is about, removes all of them, or adds one.
fn put(listeners: &mut Vec<Listener>, name: &str, kind: ListenerKind, placement: Option<Placement>) -> Result<(), ConfigError> {
    let is_meant = |listener: &Listener| listener.kind.flag() == kind.flag();
    let address = match placement {
        None => return Ok(()),
        Some(Placement::Off) => {
            listeners.retain(|listener| !is_meant(listener));
            return Ok(());
        }
        Some(Placement::At(address)) => address,
    };
    let mut meant = listeners.iter_mut().filter(|listener| is_meant(listener));
    match (meant.next(), meant.next()) {
        (Some(listener), None) => listener.address = address,
        (None, _) => listeners.push(Listener::new(kind, address)),
        (Some(_), Some(_)) => {
            return Err(ConfigError::Contradiction(format!(
                "--{name} (CORSAC_{}) could mean more than one of the [[listeners]]: change the address in the file",
                name.to_uppercase()
            )));
        }
    }
    Ok(())
}

/// Whether the system would refuse to bind both.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = |address: SocketAddr| address.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && a.is_ipv4() == b.is_ipv4() && (a.ip() == b.ip() || any(a) || any(b))
}

/// The realms that exist from the start, and which of them is the default.
fn realms(settings: &Settings, auto_create: bool) -> Result<(Vec<String>, String), ConfigError> {
    let mut realms: Vec<String> = Vec::new();
    for realm in &settings.realms {
        if realms.contains(realm) {
            return Err(ConfigError::Contradiction(format!("the realm `{realm}` is listed twice: remove one")));
        }
        realms.push(realm.clone());
    }
    let default = match (&settings.default_realm, realms.as_slice()) {
        (Some(realm), _) => realm.clone(),
        // The only realm there is needs no choice.
        (None, [only]) => only.clone(),
        (None, _) => FIRST_REALM.to_owned(),
    };
    if realms.is_empty() {
        realms.push(default.clone());
    }
    check_listed(Some(&default), &realms, auto_create, "default_realm (for MQTT clients that name none)")?;
    Ok((realms, default))
}

fn check_listed(realm: Option<&str>, realms: &[String], auto_create: bool, user: &str) -> Result<(), ConfigError> {
    match realm {
        Some(realm) if !auto_create && !realms.iter().any(|listed| listed == realm) => Err(ConfigError::Contradiction(format!(
            "{user} is `{realm}`, which is not among the realms ({}): add [[realms]] with name = \"{realm}\", or name another",
            realms.join(", ")
        ))),
        _ => Ok(()),
    }
}
