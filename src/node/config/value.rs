//! One configured value before its key gives it a type, and the conversions that a key may ask for.
use crate::model::text::is_unfit;

/// A value as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    /// Text of a file or a flag.
    Text(String),
    /// Untyped text of the environment: the key decides what it is.
    Untyped(String),
    /// An integer.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
    /// A list of texts.
    Texts(Vec<String>),
    /// Something that no key takes, by the name of its type.
    Other(&'static str),
}

/// The fault of a key's value, and the text to write instead; follows the name of the key in a sentence.
pub(super) type Problem = String;

impl Value {
    /// As text.
    pub(super) fn text(self) -> Result<String, Problem> {
        match self {
            Value::Text(text) | Value::Untyped(text) => Ok(text),
            other => Err(format!("must be a text in quotes, not {}", other.description())),
        }
    }

    /// As `true` or `false`.
    pub(super) fn boolean(self) -> Result<bool, Problem> {
        match &self {
            Value::Boolean(value) => return Ok(*value),
            Value::Untyped(text) if text == "true" => return Ok(true),
            Value::Untyped(text) if text == "false" => return Ok(false),
            _ => {}
        }
        Err(format!("must be true or false, not {}", self.description()))
    }

    /// As an integer of type `T` that is at least `least`.
    pub(super) fn number<T: TryFrom<u64>>(self, least: u64) -> Result<T, Problem> {
        let number = match &self {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Untyped(text) => text.parse().ok(),
            _ => None,
        };
        number.filter(|number| *number >= least).and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            let most = u64::MAX >> (64 - 8 * size_of::<T>().min(8)); // T is one of the unsigned types
            // A file holds integers up to 2^63 - 1 only.
            let most = most.min(i64::MAX.unsigned_abs());
            format!("must be an integer from {least} to {most}, not {}", self.description())
        })
    }

    /// As a number of bytes that is at least `least`: an integer, or a text with a unit as `10GiB` or `500MB`.
    pub(super) fn size<T: TryFrom<u64>>(self, least: u64) -> Result<T, Problem> {
        let text = match &self {
            Value::Text(text) | Value::Untyped(text) if text.parse::<u64>().is_err() => text,
            Value::Text(text) => return Value::Untyped(text.clone()).number(least),
            _ => return self.number(least),
        };
        let bytes = parse_size(text).filter(|bytes| *bytes >= least).and_then(|bytes| T::try_from(bytes).ok());
        bytes.ok_or_else(|| {
            let advice = "a number of bytes, or one with a unit, as \"500MB\" or \"10GiB\"";
            format!("must be {advice}, of at least {least} bytes, not {text:?}")
        })
    }

    /// As a list of texts; the environment separates them by commas.
    pub(super) fn texts(self) -> Result<Vec<String>, Problem> {
        match self {
            Value::Texts(texts) => Ok(texts),
            Value::Untyped(text) => {
                Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
            }
            other => Err(format!("must be a list of texts, as [\"…\", \"…\"], not {}", other.description())),
        }
    }

    /// The value as it was written, for people.
    pub(super) fn description(&self) -> String {
        match self {
            Value::Text(text) | Value::Untyped(text) => format!("{text:?}"),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(value) => value.to_string(),
            Value::Texts(_) => "a list".to_owned(),
            Value::Other(kind) => format!("a value of type {kind}"),
        }
    }
}

/// Units of sizes: those with an `i` count by 1024, the others by 1000.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// `10GiB`, `500 MB`; the unit in capitals or not.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*bytes)
}

/// A realm is a loose URI (WAMP: Basic, URIs): no whitespace, no `#`, no empty component, and no control character.
pub(super) fn parse_realm(text: String) -> Result<String, Problem> {
    let bad = |c: char| c.is_whitespace() || is_unfit(c) || c == '#';
    if text.len() > 255 || text.contains(bad) || text.split('.').any(str::is_empty) {
        return Err(format!("cannot be {text:?}: a realm has no spaces, no #, nothing empty between dots, and 1 to 255 bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_to_the_range_of_their_type() {
        assert_eq!(Value::Integer(65_535).number::<u16>(0), Ok(65_535));
        assert_eq!(Value::Integer(65_536).number::<u16>(1), Err("must be an integer from 1 to 65535, not 65536".to_owned()));
        assert!(Value::Integer(-1).number::<u64>(0).is_err());
        assert!(Value::Integer(0).number::<u32>(1).is_err());
        assert_eq!(Value::Untyped("4294967295".into()).number::<u32>(0), Ok(u32::MAX));
        assert!(Value::Untyped("1e3".into()).number::<u64>(0).is_err());
        assert!(Value::Text("5".into()).number::<u64>(0).is_err());
    }

    #[test]
    fn sizes_have_units_or_none() {
        for (written, bytes) in [
            ("10GiB", 10 << 30),
            ("500MB", 500_000_000),
            ("10 GB", 10_000_000_000_u64),
            ("1kb", 1_000),
            ("64KIB", 65_536),
            ("2TiB", 2 << 40),
            ("7B", 7),
            ("7", 7),
        ] {
            assert_eq!(Value::Text(written.into()).size(0), Ok(bytes), "{written}");
            assert_eq!(Value::Untyped(written.into()).size(0), Ok(bytes), "{written}");
        }
        assert_eq!(Value::Integer(7).size(0), Ok(7));
        for wrong in ["", "GB", "1.5GB", "-1MB", "1G", "1 M B", "10GBs", "99999999999TiB", "1\u{e9}"] {
            assert!(Value::Text(wrong.into()).size::<u64>(0).is_err_and(|problem| problem.contains("10GiB")), "{wrong:?}");
        }
        assert!(Value::Text("5GiB".into()).size::<u32>(0).is_err());
        assert!(Value::Text("1kB".into()).size::<u64>(1_001).is_err_and(|problem| problem.contains("at least 1001 bytes")));
    }

    #[test]
    fn realms_are_loose_uris() {
        for name in ["realm1", "com.example.factory", "a-b_c", "Zürich"] {
            assert_eq!(parse_realm(name.into()), Ok(name.into()));
        }
        for name in ["", "a b", "a\"; DROP", "a..b", ".a", "a.", "a#", "a\0", "a\n", "a\u{FFFF}"] {
            assert!(parse_realm(name.into()).is_err(), "{name:?}");
        }
        assert!(parse_realm("x".repeat(256)).is_err());
    }

    #[test]
    fn only_the_environment_is_untyped() {
        assert_eq!(Value::Untyped("true".into()).boolean(), Ok(true));
        assert!(Value::Text("true".into()).boolean().is_err());
        assert!(Value::Untyped(String::new()).boolean().is_err());
        assert_eq!(Value::Untyped("a, b,".into()).texts(), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert!(Value::Text("a,b".into()).texts().is_err());
        assert!(Value::Integer(1).text().is_err());
    }
}
