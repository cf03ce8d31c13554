//! Conditions of publications, as WAMP options and as MQTT 5 user properties (MAPPING.md, Retained state).
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

use crate::model::command::{Condition, ReplyTo};
use crate::model::properties::Properties;
use crate::model::reason::MustBe;
use crate::model::{Reason, names};
use crate::wire::wamp::options::PublishOptions;

/// Longest of the values, in bytes of JSON text that arrives: more is not even parsed.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// The condition in the user properties `corsac-when`, `corsac-watch` and `corsac-will`; `None` where there are none. `reply`
/// names the place where the grant goes, and is asked only where that is needed.
pub fn of_properties(
    properties: &Properties,
    is_resent: bool,
    reply: impl FnOnce() -> Result<ReplyTo, Reason>,
) -> Result<Option<Box<Condition>>, Reason> {
    let find = |name: &str| properties.user.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value);
    let (when, watch, will) = (find(names::WHEN), find(names::WATCH), find(names::WILL));
    if when.is_none() && watch.is_none() && will.is_none() {
        return Ok(None);
    }
    let not_a_flag = Reason::WrongValue(names::WATCH, MustBe::Flag);
    let watch = match watch.map(|text| parse(names::WATCH, text)).transpose()? {
        None => false,
        Some(value) => value.as_bool().ok_or(not_a_flag)?,
    };
    let reply = match (watch, will) {
        (true, _) => Some(reply()?),
        // Only the loss of what it holds is said there: a topic that the client may not publish to takes nothing from it.
        (false, Some(_)) => reply().ok(),
        (false, None) => None,
    };
    let reply = reply.filter(|reply| *reply != ReplyTo::Nobody);
    let when = when.map(|text| parse(names::WHEN, text)).transpose()?;
    let will = will.map(|text| parse(names::WILL, text)).transpose()?;
    Ok(Some(Box::new(Condition { when, watch, will, is_resent, reply })))
}

/// The condition in the options `when`, `watch` and `will`; `None` where there are none.
pub fn of_options(options: &PublishOptions) -> Option<Box<Condition>> {
    let PublishOptions { when, watch, will, .. } = options;
    if when.is_none() && watch.is_none() && will.is_none() {
        return None;
    }
    let (when, will) = (when.as_deref().map(json_of), will.as_deref().map(json_of));
    Some(Box::new(Condition { when, watch: *watch == Some(true), will, ..Condition::default() }))
}

fn parse(name: &'static str, text: &str) -> Result<Value, Reason> {
    let wrong = Reason::WrongValue(name, MustBe::Json);
    if text.len() > MAX_TEXT_BYTES {
        return Err(wrong);
    }
    serde_json::from_str(text).map_err(|_| wrong)
}

/// The same in JSON: binary as WAMP spells it there, keys as text. Nesting is bounded where options are decoded.
fn json_of(value: &rmpv::Value) -> Value {
    use rmpv::Value as Other;
    match value {
        Other::Nil => Value::Null,
        Other::Boolean(is_true) => Value::Bool(*is_true),
        Other::Integer(number) => {
            let signed = || number.as_i64().map(Number::from);
            number.as_u64().map(Number::from).or_else(signed).map_or(Value::Null, Value::Number)
        }
        Other::F32(number) => Number::from_f64(f64::from(*number)).map_or(Value::Null, Value::Number),
        Other::F64(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        Other::String(text) => Value::String(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        Other::Binary(bytes) | Other::Ext(_, bytes) => Value::String(format!("\0{}", STANDARD.encode(bytes))),
        Other::Array(items) => items.iter().map(json_of).collect(),
        Other::Map(members) => {
            let member = |(key, value): &(Other, Other)| match json_of(key) {
                Value::String(key) => (key, json_of(value)),
                key => (key.to_string(), json_of(value)),
            };
            Value::Object(members.iter().map(member).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(user: &[(&str, &str)]) -> Result<Option<Box<Condition>>, Reason> {
        let user = user.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        of_properties(&Properties { user, ..Properties::default() }, false, || Ok(ReplyTo::Nobody))
    }

    #[test]
    fn user_properties_are_json() {
        assert_eq!(asked(&[("when", "null"), ("corsac-other", "x")]), Ok(None));
        let lock = asked(&[("corsac-when", "null"), ("corsac-watch", "true"), ("corsac-will", "{\"a\":1}")]).unwrap().unwrap();
        assert_eq!((lock.when, lock.watch, lock.will), (Some(Value::Null), true, Some(json!({"a": 1}))));
        assert_eq!(asked(&[("corsac-will", "null")]).unwrap().unwrap().when, None);
        for user in [("corsac-when", "{"), ("corsac-watch", "1"), ("corsac-will", "")] {
            assert!(matches!(asked(&[user]), Err(Reason::WrongValue(name, _)) if name == user.0));
        }
        let refused = Err(Reason::WrongValue("corsac-when", MustBe::Json));
        assert_eq!(asked(&[("corsac-when", &"[".repeat(10_000))]), refused);
        assert_eq!(asked(&[("corsac-when", &format!("\"{}\"", "x".repeat(20_000)))]), refused);
    }

    #[test]
    fn options_become_json() {
        assert_eq!(of_options(&PublishOptions::default()), None);
        let map =
            vec![("a".into(), rmpv::Value::Binary(vec![1])), (1.into(), rmpv::Value::from(-2)), (2.into(), f64::NAN.into())];
        let options = PublishOptions { when: Some(Box::new(rmpv::Value::Map(map))), watch: Some(true), ..Default::default() };
        let condition = of_options(&options).unwrap();
        assert_eq!(condition.when, Some(json!({"a": "\0AQ==", "1": -2, "2": null})));
        assert!(condition.watch && condition.will.is_none());
        let options = PublishOptions { will: Some(Box::new(rmpv::Value::Nil)), ..Default::default() };
        assert_eq!(of_options(&options).unwrap().will, Some(Value::Null));
    }
}
