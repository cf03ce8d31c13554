//! Lays a TOML file over the settings; every complaint names line and column.
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::error::{ConfigError, Place};
use super::history::{self, HistoryRule};
use super::limits;
use super::listener::{self, Listener, ListenerKind};
use super::nearest;
use super::settings::{self, Settings};
use super::value::{Problem, Value, parse_realm};

const LISTENER_KEYS: &[&str] = &["address", "kind", "realm", "wamp_path", "mqtt_path"];
const REALM_KEYS: &[&str] = &["name"];
const TABLES: &[&str] = &["listeners", "realms", "history", "limits", "mqtt", "wamp"];

/// Reads `text`, the contents of the file `path`, into `settings`.
pub(super) fn apply(settings: &mut Settings, path: &str, text: &str) -> Result<(), ConfigError> {
    // A byte order mark is what some editors of Windows put in front of UTF-8; TOML 1.0 ignores it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file = File { path, text };
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        place: file.place(error.span().unwrap_or(0..0)),
        message: error.message().replace('\n', ", "),
    })?;
    for (key, value) in in_order(table.get_ref()) {
        match key.get_ref().as_ref() {
            "listeners" => settings.listeners = Some(file.listeners(value)?),
            "realms" => settings.realms = file.realms(value)?,
            "history" => settings.history = file.history(value)?,
            "limits" => file.table(settings, "limits", limits::NAMES, value)?,
            "mqtt" => file.table(settings, "mqtt", settings::MQTT_KEYS, value)?,
            "wamp" => file.table(settings, "wamp", settings::WAMP_KEYS, value)?,
            _ => file.key(settings, "", key, value, &top_keys())?,
        }
    }
    Ok(())
}

fn top_keys() -> Vec<&'static str> {
    let plain = settings::KEYS.iter().filter(|key| !TABLES.contains(key));
    plain.chain(TABLES).copied().collect()
}

type Key<'i> = Spanned<std::borrow::Cow<'i, str>>;

/// The entries of a table as they stand in the file, so that the first mistake is the one complained about.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Key<'i>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

struct File<'a> {
    path: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        Place::File { path: self.path.to_owned(), line: before.matches('\n').count() + 1, column }
    }

    fn wrong(&self, span: Range<usize>, key: impl Into<String>, problem: impl Into<Problem>) -> ConfigError {
        ConfigError::WrongValue { place: self.place(span), key: key.into(), problem: problem.into() }
    }

    fn unknown(&self, table: &str, key: &Key<'_>, known: &[&str]) -> ConfigError {
        ConfigError::UnknownKey {
            place: self.place(key.span()),
            noun: "key",
            key: key.get_ref().to_string(),
            advice: nearest::suggestion(key.get_ref(), known)
                .or_else(|| elsewhere(table, key.get_ref()))
                .unwrap_or_else(|| nearest::advice(key.get_ref(), known)),
        }
    }

    /// Sets one key of `table`.
    fn key(
        &self,
        settings: &mut Settings,
        table: &str,
        key: &Key<'_>,
        value: &Spanned<DeValue<'_>>,
        known: &[&str],
    ) -> Result<(), ConfigError> {
        match settings.set(table, key.get_ref(), plain(value.get_ref())) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.unknown(table, key, known)),
            Err(problem) => Err(self.wrong(value.span(), full_name(table, key.get_ref()), problem)),
        }
    }

    /// Sets every key of the table `name`.
    fn table(
        &self,
        settings: &mut Settings,
        name: &str,
        known: &[&str],
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let Some(table) = value.get_ref().as_table() else {
            return Err(self.wrong(value.span(), name, format!("must be a table: write [{name}] and its keys below")));
        };
        in_order(table).into_iter().try_for_each(|(key, value)| self.key(settings, name, key, value, known))
    }

    /// The tables of a list of tables.
    fn tables<'t, 'i>(
        &self,
        name: &str,
        value: &'t Spanned<DeValue<'i>>,
    ) -> Result<Vec<(Range<usize>, &'t DeTable<'i>)>, ConfigError> {
        let wrong = |span| self.wrong(span, name, format!("must be a list of tables: write [[{name}]] and its keys below"));
        let list = value.get_ref().as_array().ok_or_else(|| wrong(value.span()))?;
        let tables = list.iter().map(|item| {
            let table = item.get_ref().as_table().ok_or_else(|| wrong(item.span()))?;
            Ok((item.span(), table))
        });
        tables.collect()
    }

    fn realms(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, ConfigError> {
        let mut realms = Vec::new();
        for (span, table) in self.tables("realms", value)? {
            let mut name = None;
            for (key, value) in in_order(table) {
                match key.get_ref().as_ref() {
                    "name" => name = Some(self.text(value, "realms.name", parse_realm)?),
                    _ => return Err(self.unknown("realms", key, REALM_KEYS)),
                }
            }
            realms.push(name.ok_or_else(|| self.wrong(span, "realms", "needs a name: add name = \"…\""))?);
        }
        Ok(realms)
    }

    fn listeners(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<Listener>, ConfigError> {
        self.tables("listeners", value)?.into_iter().map(|(span, table)| self.listener(span, table)).collect()
    }

    fn listener(&self, span: Range<usize>, table: &DeTable<'_>) -> Result<Listener, ConfigError> {
        let (mut address, mut kind, mut realm) = (None, ListenerKind::default(), None);
        let (mut wamp_path, mut mqtt_path, mut path_span) = (None, None, None);
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "address" => address = Some(self.text(value, "listeners.address", listener::parse_address)?),
                "kind" => kind = self.text(value, "listeners.kind", listener::parse_kind)?,
                "realm" => realm = Some(self.text(value, "listeners.realm", parse_realm)?),
                "wamp_path" => wamp_path = Some(self.text(value, "listeners.wamp_path", listener::parse_path)?),
                "mqtt_path" => mqtt_path = Some(self.text(value, "listeners.mqtt_path", listener::parse_path)?),
                _ => return Err(self.unknown("listeners", key, LISTENER_KEYS)),
            }
            if key.get_ref().ends_with("_path") {
                path_span = Some(key.span());
            }
        }
        let address =
            address.ok_or_else(|| self.wrong(span, "listeners", "needs an address: add address = \"127.0.0.1:8080\""))?;
        let mut listener = Listener { realm, ..Listener::new(kind, address) };
        listener.wamp_path = wamp_path.unwrap_or(listener.wamp_path);
        listener.mqtt_path = mqtt_path.unwrap_or(listener.mqtt_path);
        match path_span {
            Some(span) if !kind.speaks_http() => {
                Err(self.wrong(span, "listeners", format!("of kind {:?} open no WebSockets: remove the path", kind.name())))
            }
            Some(span) if listener.wamp_path == listener.mqtt_path => {
                Err(self.wrong(span, "listeners", "need two different paths in wamp_path and mqtt_path"))
            }
            _ => Ok(listener),
        }
    }

    fn history(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<HistoryRule>, ConfigError> {
        self.tables("history", value)?.into_iter().map(|(span, table)| self.history_rule(span, table)).collect()
    }

    fn history_rule(&self, span: Range<usize>, table: &DeTable<'_>) -> Result<HistoryRule, ConfigError> {
        let mut rule = HistoryRule::empty();
        let mut keys = Vec::new();
        for (key, value) in in_order(table) {
            let name = key.get_ref().as_ref();
            match rule.set(name, plain(value.get_ref())) {
                Ok(true) => keys.push(name),
                Ok(false) => return Err(self.unknown("history", key, history::KEYS)),
                Err(problem) => return Err(self.wrong(value.span(), full_name("history", name), problem)),
            }
        }
        match rule.contradiction(&keys) {
            Some(problem) => Err(self.wrong(span, "history", problem)),
            None => Ok(rule),
        }
    }

    fn text<T>(
        &self,
        value: &Spanned<DeValue<'_>>,
        key: &str,
        parse: fn(String) -> Result<T, Problem>,
    ) -> Result<T, ConfigError> {
        plain(value.get_ref()).text().and_then(parse).map_err(|problem| self.wrong(value.span(), key, problem))
    }
}

/// A key that stands in the wrong table.
fn elsewhere(table: &str, key: &str) -> Option<String> {
    let homes = [
        ("", settings::KEYS),
        ("mqtt", settings::MQTT_KEYS),
        ("wamp", settings::WAMP_KEYS),
        ("limits", limits::NAMES),
        ("listeners", LISTENER_KEYS),
        ("history", history::KEYS),
    ];
    let (home, _) = homes.into_iter().find(|(home, keys)| *home != table && keys.contains(&key))?;
    Some(match home {
        "" => "which stands outside the tables: move it above the first [table]".to_owned(),
        "listeners" | "history" => format!("did you mean `{key}` in [[{home}]]?"),
        _ => format!("did you mean `{key}` in [{home}]?"),
    })
}

fn full_name(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => integer(number),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Array(list) => texts(list),
        other => Value::Other(other.type_str()),
    }
}

fn integer(number: &DeInteger<'_>) -> Value {
    i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Other("integer beyond 64 bits"), Value::Integer)
}

fn texts(list: &DeArray<'_>) -> Value {
    let texts: Option<Vec<String>> = list.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
    texts.map_or(Value::Other("list"), Value::Texts)
}
