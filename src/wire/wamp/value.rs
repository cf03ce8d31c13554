//! Values of options that may be anything, as JSON has them.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rmpv::Value;
use serde_json::{Number, Value as Json};

/// `value` as JSON. Binary is written as WAMP writes it there (WAMP: Basic, Binary conversion of JSON Strings), numbers that JSON
/// lacks are `null`, and keys that are no strings are left out.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Nil | Value::Ext(..) => Json::Null,
        Value::Boolean(value) => Json::Bool(*value),
        Value::Integer(number) => {
            number.as_u64().map(Number::from).or(number.as_i64().map(Number::from)).map_or(Json::Null, Json::Number)
        }
        Value::F32(number) => Number::from_f64(f64::from(*number)).map_or(Json::Null, Json::Number),
        Value::F64(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::String(text) => Json::String(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        Value::Binary(bytes) => Json::String(format!("\0{}", STANDARD.encode(bytes))),
        Value::Array(values) => Json::Array(values.iter().map(to_json).collect()),
        Value::Map(pairs) => {
            Json::Object(pairs.iter().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), to_json(value)))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_has_its_place_in_json() {
        let map = |pairs: Vec<(Value, Value)>| Value::Map(pairs);
        let value = map(vec![
            ("a".into(), Value::Array(vec![1.into(), (-1).into(), 1.5.into(), f64::NAN.into()])),
            ("b".into(), map(vec![(1.into(), 2.into())])),
            ("c".into(), Value::Binary(vec![255])),
            ("d".into(), Value::Nil),
            ("e".into(), true.into()),
            ("f".into(), u64::MAX.into()),
        ]);
        let expected = json!({
            "a": [1, -1, 1.5, null], "b": {}, "c": "\u{0}/w==", "d": null, "e": true, "f": u64::MAX,
        });
        assert_eq!(to_json(&value), expected);
    }
}
