//! Arguments of a call of one of the router's own procedures, decoded; where what is found, in both protocols.
use serde_json::{Map, Value};

use super::Reason;
use super::id::whole;
use super::reason::MustBe;

/// The arguments of such a call. A value may be given by its name or in its place. Options may also stand together in one object
/// in the place of options. `null` counts as not given.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Arguments {
    /// In order.
    pub list: Vec<Value>,
    /// By name.
    pub named: Map<String, Value>,
}

impl Arguments {
    /// The argument called `name`, or in this place.
    pub fn find(&self, place: usize, name: &str) -> Option<&Value> {
        self.named.get(name).or_else(|| self.list.get(place)).filter(|value| !value.is_null())
    }

    /// The option called `name`: an argument of that name, or a member of the object in this place.
    pub fn option(&self, place: usize, name: &str) -> Option<&Value> {
        let member = || self.list.get(place).and_then(|options| options.get(name));
        self.named.get(name).or_else(member).filter(|value| !value.is_null())
    }

    /// An argument that must be there, as text.
    pub fn text(&self, place: usize, name: &'static str) -> Result<&str, Reason> {
        self.find(place, name).and_then(Value::as_str).ok_or(Reason::WrongValue(name, MustBe::Text))
    }

    /// An argument that must be there, as an integer from 0.
    pub fn number(&self, place: usize, name: &'static str) -> Result<u64, Reason> {
        self.find(place, name).and_then(integer).ok_or(Reason::WrongValue(name, MustBe::WholeNumber))
    }

    /// An option as an integer from 0.
    pub fn number_option(&self, place: usize, name: &'static str) -> Result<Option<u64>, Reason> {
        let wrong = Reason::WrongValue(name, MustBe::WholeNumber);
        self.option(place, name).map(|value| integer(value).ok_or(wrong)).transpose()
    }

    /// An option as text.
    pub fn text_option(&self, place: usize, name: &'static str) -> Result<Option<&str>, Reason> {
        let wrong = Reason::WrongValue(name, MustBe::Text);
        self.option(place, name).map(|value| value.as_str().ok_or(wrong)).transpose()
    }

    /// An option as true or false; false if it is not given.
    pub fn flag(&self, place: usize, name: &'static str) -> Result<bool, Reason> {
        let wrong = Reason::WrongValue(name, MustBe::Flag);
        self.option(place, name).map_or(Ok(false), |value| value.as_bool().ok_or(wrong))
    }
}

/// The integer from 0 that `value` is. Clients whose numbers are doubles may write one as such (`1099511627776.0`).
pub fn integer(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

/// The integer from 0 that `text` spells, in digits or as JSON: the value of a user property.
pub fn integer_of_text(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| integer(&serde_json::from_str(text).ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(list: Value, named: Value) -> Arguments {
        match (list, named) {
            (Value::Array(list), Value::Object(named)) => Arguments { list, named },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_whole_double_is_an_integer() {
        let numbers = [json!(7), json!(u64::MAX), json!(7.0), json!(-0.0), json!((1_u64 << 40) as f64)];
        assert_eq!(numbers.each_ref().map(integer), [Some(7), Some(u64::MAX), Some(7), Some(0), Some(1 << 40)]);
        for other in [json!(-1), json!(-1.0), json!(0.5), json!(1e300), json!("7"), json!([7])] {
            assert_eq!(integer(&other), None, "{other}");
        }
    }

    #[test]
    fn a_text_spells_an_integer_in_digits_or_as_json() {
        assert_eq!(["7", "007", "7.0", " 7 ", "1e3"].map(integer_of_text), [Some(7), Some(7), Some(7), Some(7), Some(1_000)]);
        assert_eq!(["", "-1", "0.5", "7x", "\"7\"", "1e300"].map(integer_of_text), [None; 6]);
    }

    #[test]
    fn values_are_found_by_place_by_name_and_among_options() {
        let called = arguments(json!(["a", {"ttl_ms": 5, "wait": null}]), json!({"limit": 3}));
        assert_eq!(called.text(0, "name"), Ok("a"));
        assert_eq!(called.text(2, "name"), Err(Reason::WrongValue("name", MustBe::Text)));
        assert_eq!(called.number_option(1, "ttl_ms"), Ok(Some(5)));
        assert_eq!(called.number_option(1, "wait"), Ok(None));
        assert_eq!(called.number_option(1, "limit"), Ok(Some(3)));
        assert_eq!(called.text_option(1, "ttl_ms"), Err(Reason::WrongValue("ttl_ms", MustBe::Text)));
        assert_eq!(called.number(7, "limit"), Ok(3));
        assert_eq!(called.flag(1, "reverse"), Ok(false));
        assert_eq!(called.flag(1, "limit").map_err(|why| why.to_string()), Err("`limit` must be true or false".to_owned()));
        assert_eq!(arguments(json!([]), json!({"name": "b"})).text(0, "name"), Ok("b"));
    }
}
