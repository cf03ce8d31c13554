//! Lays `CORSAC_…` variables over the settings: each key in capitals, after its table and `_` if it stands in one.
use std::ffi::OsString;
use std::path::PathBuf;

use super::error::{ConfigError, Place};
use super::limits;
use super::nearest;
use super::settings::{self, Settings};
use super::value::Value;

const PREFIX: &str = "CORSAC_";

/// The variables of the environment that concern the router.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Variables {
    /// Those that are ours with their values, in the order of their names; `CORSAC_` taken off.
    pub known: Vec<(String, String)>,
    /// The directory that `~` stands for.
    pub home: Option<PathBuf>,
    /// One sentence about each that looks like one of ours and is none.
    pub unknown: Vec<String>,
}

/// Takes the variables that are ours out of an environment. One that only looks so is passed over: containers and build systems
/// name versions and images in this way.
pub(super) fn variables(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Variables, ConfigError> {
    let mut variables = Variables::default();
    let names = names();
    for (name, value) in environment {
        let name = name.to_string_lossy();
        if name == "HOME" && !value.is_empty() {
            variables.home = Some(PathBuf::from(&value));
        }
        let Some(name) = name.strip_prefix(PREFIX).filter(|name| !is_foreign(name)) else { continue };
        if !names.iter().any(|(known, ..)| known == name) {
            variables.unknown.push(unknown(name, &names));
            continue;
        }
        let value = value.into_string().map_err(|_| ConfigError::WrongValue {
            place: Place::Variable(format!("{PREFIX}{name}")),
            key: name.to_owned(),
            problem: "must be UTF-8: set it again".to_owned(),
        })?;
        variables.known.push((name.to_owned(), value));
    }
    variables.known.sort();
    variables.unknown.sort();
    Ok(variables)
}

/// The words about a variable that is none of ours. Only a slip of the fingers is worth a guess.
fn unknown(name: &str, names: &[(String, &str, &str)]) -> String {
    let known: Vec<&str> = names.iter().map(|(name, ..)| name.as_str()).collect();
    let advice = match nearest::within(name, &known, 2) {
        Some(nearest) => format!("did you mean `{PREFIX}{nearest}`?"),
        None => "`corsac config --defaults` prints every key that there is".to_owned(),
    };
    format!("the environment variable `{PREFIX}{}` has no effect, as there is no such key: {advice}", name.escape_debug())
}

/// Variables that Kubernetes sets by itself for a service called `corsac`, that of the small clients, and those that
/// `corsac lock` sets for its command.
fn is_foreign(name: &str) -> bool {
    matches!(name, "URL" | "LOCK_NAME" | "LOCK_TOKEN" | "PORT") || name.starts_with("PORT_") || name.starts_with("SERVICE_")
}

/// The file that `CORSAC_CONFIG` names.
pub(super) fn config_path(variables: &Variables) -> Option<PathBuf> {
    variables.known.iter().find(|(name, _)| name == "CONFIG").map(|(_, value)| PathBuf::from(value))
}

/// Lays `variables` over `settings`.
pub(super) fn apply(settings: &mut Settings, variables: &Variables) -> Result<(), ConfigError> {
    settings.unknown_variables = variables.unknown.clone();
    settings.home = variables.home.clone();
    for (name, value) in &variables.known {
        set(settings, name, value)?;
    }
    let is_set = |wanted: &str| variables.known.iter().any(|(name, _)| name == wanted);
    if is_set("DATA_DIR") && !is_set("MEMORY") {
        settings.memory = false; // a directory named here overrides `memory = true` of the file
    }
    Ok(())
}

fn set(settings: &mut Settings, name: &str, value: &str) -> Result<(), ConfigError> {
    if name == "CONFIG" {
        return Ok(());
    }
    let known = names();
    let place = Place::Variable(format!("{PREFIX}{name}"));
    let Some((_, table, key)) = known.iter().find(|(known, ..)| known == name) else { return Ok(()) };
    let value = Value::Untyped(value.to_owned());
    let done = if *table == PLACEMENT { settings.place(key, value) } else { settings.set(table, key, value) };
    done.map(|_| ()).map_err(|problem| ConfigError::WrongValue { place, key: (*key).to_owned(), problem })
}

/// Stands for a table where the key places a listener.
const PLACEMENT: &str = "listeners";

/// Every variable without `CORSAC_`, with the table and the key that it sets.
fn names() -> Vec<(String, &'static str, &'static str)> {
    let row = |table: &'static str, key: &'static str| {
        let name = if matches!(table, "" | PLACEMENT) { key.to_owned() } else { format!("{table}_{key}") };
        (name.to_uppercase(), table, key)
    };
    let mut names = vec![row("", "config"), row(PLACEMENT, "http"), row(PLACEMENT, "mqtt")];
    let tables = [("", settings::KEYS), ("mqtt", settings::MQTT_KEYS), ("wamp", settings::WAMP_KEYS), ("limits", limits::NAMES)];
    for (table, keys) in tables {
        names.extend(keys.iter().map(|key| row(table, key)));
    }
    names
}
