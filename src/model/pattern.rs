//! Patterns of values: which fields a body must have (MAPPING.md, `when` and `filter`).
use serde_json::{Number, Value};

/// True if `value` has everything that `pattern` says. An object needs the fields that the pattern names, each fitting likewise,
/// any others besides; anything else must be the same value. Numbers are compared by their value, so `1` fits `1.0`.
pub fn fits(pattern: &Value, value: &Value) -> bool {
    match (pattern, value) {
        (Value::Object(pattern), Value::Object(value)) => {
            pattern.iter().all(|(name, pattern)| value.get(name).is_some_and(|value| fits(pattern, value)))
        }
        (Value::Array(pattern), Value::Array(value)) => {
            pattern.len() == value.len() && pattern.iter().zip(value).all(|(a, b)| equals(a, b))
        }
        _ => equals(pattern, value),
    }
}

/// The same of something that may have no value: `null` fits that, and nothing else.
pub fn fits_state(pattern: &Value, value: Option<&Value>) -> bool {
    match value {
        None => pattern.is_null(),
        Some(value) => !pattern.is_null() && fits(pattern, value),
    }
}

fn equals(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || is_same(a, b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equals(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equals(a, b)))
        }
        _ => a == b,
    }
}

/// An integer and a number written with a point or an exponent. Two integers are the same only if they are equal, however large.
fn is_same(a: &Number, b: &Number) -> bool {
    (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_fit_by_the_fields_that_are_named() {
        let value = json!({"a": 1, "b": {"c": "x", "d": [1, 2]}, "e": null});
        for pattern in
            [json!({}), json!({"a": 1.0}), json!({"b": {}}), json!({"b": {"c": "x"}, "e": null}), json!({"b": {"d": [1, 2.0]}})]
        {
            assert!(fits(&pattern, &value), "{pattern}");
        }
        for pattern in [
            json!(null),
            json!({"f": null}),
            json!({"a": "1"}),
            json!({"a": true}),
            json!({"b": {"c": "y"}}),
            json!({"b": {"d": [1]}}),
            json!({"b": {"d": [2, 1]}}),
            json!([]),
        ] {
            assert!(!fits(&pattern, &value), "{pattern}");
        }
    }

    #[test]
    fn other_values_fit_themselves() {
        for value in [json!(null), json!(1), json!("x"), json!([{"a": 1}]), json!(true), json!({})] {
            assert!(fits(&value, &value), "{value}");
        }
        assert!(!fits(&json!([{"a": 1}]), &json!([{"a": 1, "b": 2}])));
        assert!(!fits(&json!(9_007_199_254_740_993_u64), &json!(9_007_199_254_740_992_u64)));
        assert!(!fits(&json!(0), &json!(null)) && !fits(&json!({}), &json!(1)));
    }
}
