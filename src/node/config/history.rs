//! The rules `[[history]]`: which publications are stored, and how long they are kept.
use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::value::{Problem, Value, parse_realm};
use crate::model::record::{StoreRule, Stored};
use crate::model::{Filter, names};
use crate::store::Retention;

/// The keys of one rule.
pub(super) const KEYS: &[&str] = &["realm", "filter", "max_age", "max_age_s", "max_bytes", "max_count", "store"];

/// The time for which publications that no rule covers are kept: seven days.
const DEFAULT_AGE_MS: u64 = 7 * DAY_MS;
/// The bytes of publications that no rule covers that are kept in each realm: 1 GiB.
const DEFAULT_BYTES: u64 = 1 << 30;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// The treatment of the publications on some topics. Of several rules the first that covers a topic counts. A publication that
/// none covers is under [`HistoryRule::default`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryRule {
    /// The realm; `None` = each, counted by itself.
    pub realm: Option<Arc<str>>,
    /// Which topics; `None` = all, reserved ones too.
    pub filter: Option<Filter>,
    /// At most this old, in milliseconds.
    pub max_age_ms: Option<u64>,
    /// At most this many bytes of the topics together.
    pub max_bytes: Option<u64>,
    /// At most this many publications of the topics together.
    pub max_count: Option<u64>,
    /// Which publications are stored.
    pub store: Stored,
}

impl Default for HistoryRule {
    fn default() -> Self {
        HistoryRule {
            realm: None,
            filter: None,
            max_age_ms: Some(DEFAULT_AGE_MS),
            max_bytes: Some(DEFAULT_BYTES),
            max_count: None,
            store: Stored::Acknowledged,
        }
    }
}

impl HistoryRule {
    /// A rule that nothing has been said of yet: stores what is acknowledged, for ever.
    pub(super) fn empty() -> Self {
        HistoryRule { max_age_ms: None, max_bytes: None, ..HistoryRule::default() }
    }

    /// Which publications it stores.
    pub fn storing(&self) -> StoreRule {
        StoreRule { filter: self.filter.clone(), stored: self.store }
    }

    /// The time for which this rule asks to keep stored publications. Those that are no longer stored need not be kept either.
    pub fn retention(&self) -> Retention {
        Retention {
            realm: self.realm.clone(),
            filter: self.filter.clone(),
            max_age_ms: self.max_age_ms,
            max_bytes: self.max_bytes,
            max_count: if self.store == Stored::Retained { Some(0) } else { self.max_count },
        }
    }

    /// Sets one key; false if there is none of that name.
    pub(super) fn set(&mut self, key: &str, value: Value) -> Result<bool, Problem> {
        match key {
            "realm" => self.realm = Some(parse_realm(value.text()?)?.into()),
            "filter" => self.filter = Some(parse_filter(&value.text()?)?),
            "max_age" => self.max_age_ms = Some(parse_age(value)?),
            "max_age_s" => {
                let seconds: u64 = value.number(1)?;
                self.max_age_ms = Some(seconds.saturating_mul(1_000));
            }
            "max_bytes" => self.max_bytes = Some(value.size(1)?),
            "max_count" => self.max_count = Some(value.number(1)?),
            "store" => self.store = parse_stored(&value.text()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The contradiction in a rule that has these keys.
    pub(super) fn contradiction(&self, keys: &[&str]) -> Option<Problem> {
        if keys.contains(&"max_age") && keys.contains(&"max_age_s") {
            return Some("says max_age and max_age_s: remove one".to_owned());
        }
        let limit = keys.iter().find(|key| key.starts_with("max_"))?;
        (self.store == Stored::Retained)
            .then(|| format!("says {limit} although store = \"retained\" keeps no history: remove {limit}, or store something"))
    }
}

/// The rules as the store takes them, the default behind the last.
pub(super) fn retention(rules: &[HistoryRule]) -> Vec<Retention> {
    rules.iter().chain([&HistoryRule::default()]).map(HistoryRule::retention).collect()
}

/// The rules in effect, one a line.
pub(super) fn lines(rules: &[HistoryRule]) -> Vec<String> {
    let default = HistoryRule::default();
    let mut lines: Vec<String> = rules.iter().map(|rule| format!("history {rule}")).collect();
    if !rules.iter().any(|rule| rule.hides(&default)) {
        lines.push(format!("history {}{default}", if rules.is_empty() { "" } else { "otherwise " }));
    }
    lines
}

/// Warnings of settings that are allowed but hardly meant.
pub(super) fn warnings(rules: &[HistoryRule]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        if let Some(first) = rules.get(..at).and_then(|before| before.iter().position(|before| before.hides(rule))) {
            let (first, second) = (first + 1, at + 1);
            warnings.push(format!(
                "rule {second} of [[history]] never counts: rule {first} covers all its topics and stands before it"
            ));
        } else if rule.store == Stored::Retained {
            warnings.push(format!("{} are acknowledged without being on disk (`store = \"retained\"`)", rule.topics()));
        } else if rule.is_for_ever() {
            warnings.push(format!(
                "{} are kept for ever, and with them everything that was stored after the oldest of them",
                rule.topics()
            ));
        }
    }
    warnings
}

impl HistoryRule {
    /// Whether no topic of `later` is left over for it. True only where that is plain to see.
    fn hides(&self, later: &HistoryRule) -> bool {
        (self.realm.is_none() || self.realm == later.realm) && (self.filter.is_none() || self.filter == later.filter)
    }

    fn is_for_ever(&self) -> bool {
        self.max_age_ms.is_none() && self.max_bytes.is_none() && self.max_count.is_none()
    }

    fn topics(&self) -> String {
        let mut text = match &self.filter {
            Some(filter) => format!("publications on {}", filter.as_mqtt().unwrap_or_default()),
            None => "all publications".to_owned(),
        };
        if let Some(realm) = &self.realm {
            let _ = write!(text, " of realm {realm}"); // writing to a String cannot fail
        }
        text
    }
}

/// In the units that people use: `a/# of realm1: what is acknowledged, 7 days, 1 GiB`.
impl fmt::Display for HistoryRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.filter {
            Some(filter) => f.write_str(filter.as_mqtt().unwrap_or_default())?,
            None => f.write_str("all topics")?,
        }
        if let Some(realm) = &self.realm {
            write!(f, " of {realm}")?;
        }
        f.write_str(match self.store {
            Stored::Acknowledged => ": what is acknowledged",
            Stored::All => ": everything",
            Stored::Retained => ": what is retained, and nothing else, acknowledged or not",
        })?;
        if self.store == Stored::Retained {
            return Ok(());
        }
        if self.is_for_ever() {
            return f.write_str(", for ever");
        }
        if let Some(age_ms) = self.max_age_ms {
            write!(f, ", {}", in_units(age_ms / 1_000, AGE_UNITS))?;
        }
        if let Some(bytes) = self.max_bytes {
            write!(f, ", {}", in_units(bytes, BYTE_UNITS))?;
        }
        match self.max_count {
            Some(1) => f.write_str(", 1 publication"),
            Some(count) => write!(f, ", {count} publications"),
            None => Ok(()),
        }
    }
}

const AGE_UNITS: &[(u64, &str, &str)] =
    &[(86_400, "day", "days"), (3_600, "hour", "hours"), (60, "minute", "minutes"), (1, "second", "seconds")];
const BYTE_UNITS: &[(u64, &str, &str)] =
    &[(1 << 40, "TiB", "TiB"), (1 << 30, "GiB", "GiB"), (1 << 20, "MiB", "MiB"), (1 << 10, "KiB", "KiB"), (1, "byte", "bytes")];

/// `amount` in the largest of `units` that it is a whole number of: exact, never rounded.
fn in_units(amount: u64, units: &[(u64, &str, &str)]) -> String {
    let fitting = units.iter().find(|(unit, _, _)| amount >= *unit && amount.is_multiple_of(*unit)).or(units.last());
    let (unit, one, many) = fitting.copied().unwrap_or((1, "", ""));
    let count = amount / unit;
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A filter as MQTT spells it; a shared subscription is none.
fn parse_filter(text: &str) -> Result<Filter, Problem> {
    let filter = if text.starts_with(names::SHARE) { None } else { Filter::from_mqtt(text).ok() };
    filter.ok_or_else(|| {
        format!("cannot be {text:?}: write it as an MQTT client would subscribe, as \"plant/+/state\" or \"audit/#\"")
    })
}

/// A number and its unit; seconds as a number alone are `max_age_s`.
fn parse_age(value: Value) -> Result<u64, Problem> {
    if let Value::Integer(seconds) = value {
        return Err(format!("needs a unit: write max_age = \"{seconds}s\", or max_age_s = {seconds}"));
    }
    let text = value.text()?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).unwrap_or_default();
    let unit_ms = match unit {
        "s" => 1_000,
        "m" => 60 * 1_000,
        "h" => DAY_MS / 24,
        "d" => DAY_MS,
        _ => 0,
    };
    let age_ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    age_ms
        .filter(|age_ms| *age_ms > 0)
        .ok_or_else(|| format!("must be a number and its unit, s, m, h or d, as \"90s\", \"12h\" or \"7d\", not {text:?}"))
}

fn parse_stored(text: &str) -> Result<Stored, Problem> {
    match text {
        "acknowledged" => Ok(Stored::Acknowledged),
        "all" => Ok(Stored::All),
        "retained" => Ok(Stored::Retained),
        _ => Err(format!(
            "must be \"acknowledged\" (what is acknowledged is on disk), \"all\" (QoS 0 and unacknowledged too) or \"retained\" \
             (nothing but retained values: what else was acknowledged can be lost), not {text:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Topic;

    fn rule(set: &[(&str, Value)]) -> HistoryRule {
        let mut rule = HistoryRule::empty();
        for (key, value) in set {
            assert_eq!(rule.set(key, value.clone()), Ok(true), "{key}");
        }
        rule
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn every_key_is_known() {
        for key in KEYS {
            assert!(HistoryRule::empty().set(key, Value::Other("float")).is_err(), "{key}");
        }
        assert_eq!(HistoryRule::empty().set("max_ages", Value::Integer(1)), Ok(false));
    }

    #[test]
    fn ages_have_units() {
        for (written, seconds) in [("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800), ("007d", 604_800)] {
            assert_eq!(parse_age(text(written)), Ok(seconds * 1_000), "{written}");
        }
        for wrong in ["", "7", "d", "7 d", "7D", "-7d", "1.5h", "0d", "7w", "7dd", "99999999999999999d", "7\u{e9}", "\u{663}d"] {
            assert!(parse_age(text(wrong)).is_err_and(|problem| problem.contains("\"12h\"")), "{wrong:?}");
        }
        let alone = parse_age(Value::Integer(60)).unwrap_err();
        assert!(alone.contains("\"60s\"") && alone.contains("max_age_s = 60"), "{alone}");
        assert_eq!(rule(&[("max_age_s", Value::Integer(60))]).max_age_ms, Some(60_000));
    }

    #[test]
    fn rules_read_as_people_say_them() {
        for (rule, expected) in [
            (HistoryRule::default(), "all topics: what is acknowledged, 7 days, 1 GiB"),
            (
                rule(&[
                    ("filter", text("a/#")),
                    ("realm", text("r")),
                    ("max_age", text("36h")),
                    ("max_count", Value::Integer(1)),
                ]),
                "a/# of r: what is acknowledged, 36 hours, 1 publication",
            ),
            (rule(&[("store", text("all")), ("max_bytes", Value::Integer(1_500))]), "all topics: everything, 1500 bytes"),
            (rule(&[("store", text("all")), ("max_bytes", Value::Integer(3 << 20))]), "all topics: everything, 3 MiB"),
            (rule(&[("max_age", text("60s"))]), "all topics: what is acknowledged, 1 minute"),
            (rule(&[("filter", text("audit/#"))]), "audit/#: what is acknowledged, for ever"),
            (
                rule(&[("filter", text("t/+")), ("store", text("retained"))]),
                "t/+: what is retained, and nothing else, acknowledged or not",
            ),
        ] {
            assert_eq!(rule.to_string(), expected);
        }
    }

    #[test]
    fn the_store_is_told_of_every_topic() {
        let rules = [rule(&[("filter", text("a/#")), ("store", text("retained"))]), rule(&[("realm", text("r"))])];
        let told = retention(&rules);
        assert_eq!(told.iter().map(|rule| rule.max_count).collect::<Vec<_>>(), [Some(0), None, None]);
        assert_eq!(told.last(), Some(&HistoryRule::default().retention()));
        let topic = |text| Topic::from_mqtt(text).unwrap();
        assert!(told[0].covers("x", &topic("a/b")) && !told[0].covers("x", &topic("b")));
        assert!(told[1].covers("r", &topic("b")) && !told[1].covers("x", &topic("b")));
        assert!(told[2].covers("x", &topic("$SYS/b")), "reserved topics too");
    }

    #[test]
    fn filters_are_those_of_subscriptions() {
        for filter in ["a", "a/+/b", "#", "$SYS/#"] {
            assert_eq!(parse_filter(filter).unwrap().as_mqtt(), Some(filter));
        }
        for wrong in ["", "a#", "#/a", "a+", "$share/g/a"] {
            assert!(parse_filter(wrong).is_err_and(|problem| problem.contains("plant/+/state")), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_hardly_meant_is_said() {
        let audit = rule(&[("filter", text("audit/#")), ("max_age", text("1d"))]);
        let all = rule(&[("max_age", text("1d"))]);
        assert!(warnings(&[audit.clone(), all.clone()]).is_empty());
        let hidden = warnings(&[all.clone(), audit.clone()]);
        assert!(hidden.len() == 1 && hidden[0].starts_with("rule 2 of [[history]] never counts: rule 1"), "{hidden:?}");
        assert_eq!(lines(&[all]).len(), 1, "the default is hidden too");
        assert_eq!(lines(&[audit])[1], "history otherwise all topics: what is acknowledged, 7 days, 1 GiB");
        let lossy = warnings(&[rule(&[("filter", text("t")), ("store", text("retained"))])]);
        assert_eq!(lossy, ["publications on t are acknowledged without being on disk (`store = \"retained\"`)"]);
        let endless = warnings(&[rule(&[("realm", text("r"))])]);
        assert!(endless[0].starts_with("all publications of realm r are kept for ever"), "{endless:?}");
    }
}
