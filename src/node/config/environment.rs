//! Lays `CORSAC_…` variables over the settings: each key in capitals, after its table and `_` if it stands in one.
use std::ffi::OsString;
use std::path::PathBuf;

use super::error::{ConfigError, Place};
use super::limits;
use super::nearest;
use super::settings::{self, Settings};
use super::value::Value;

const PREFIX: &str = "CORSAC_";

/// The variables that are ours, in the order of their names; `CORSAC_` taken off.
pub(super) fn variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables = Vec::new();
    for (name, value) in environment {
        let name = name.to_string_lossy();
        let Some(name) = name.strip_prefix(PREFIX).filter(|name| !is_foreign(name)) else { continue };
        let value = value.into_string().map_err(|_| ConfigError::WrongValue {
            place: Place::Variable(format!("{PREFIX}{name}")),
            key: name.to_owned(),
            problem: "must be UTF-8: set it again".to_owned(),
        })?;
        variables.push((name.to_owned(), value));
    }
    variables.sort();
    Ok(variables)
}

/// Variables that Kubernetes sets by itself for a service called `corsac`, and the one of `corsac pub | sub | call | register`.
fn is_foreign(name: &str) -> bool {
    name == "URL" || name == "PORT" || name.starts_with("PORT_") || name.starts_with("SERVICE_")
}

/// The file that `CORSAC_CONFIG` names.
pub(super) fn config_path(variables: &[(String, String)]) -> Option<PathBuf> {
    variables.iter().find(|(name, _)| name == "CONFIG").map(|(_, value)| PathBuf::from(value))
}

/// Lays `variables` over `settings`.
pub(super) fn apply(settings: &mut Settings, variables: &[(String, String)]) -> Result<(), ConfigError> {
    for (name, value) in variables {
        set(settings, name, value)?;
    }
    let is_set = |wanted: &str| variables.iter().any(|(name, _)| name == wanted);
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
    let Some((_, table, key)) = known.iter().find(|(known, ..)| known == name) else {
        let names = known.iter().map(|(known, ..)| format!("{PREFIX}{known}")).collect::<Vec<_>>();
        let key = format!("{PREFIX}{name}");
        let advice = nearest::advice(&key, &names.iter().map(String::as_str).collect::<Vec<_>>());
        return Err(ConfigError::UnknownKey { place, noun: "environment variable", key, advice });
    };
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
