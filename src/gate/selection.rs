//! The selection of a SUBSCRIBE, as both protocols say it (MAPPING.md, SUBSCRIBE options).
use serde_json::Value;

use crate::model::arguments::integer;
use crate::model::command::{Past, Selection};
use crate::model::reason::MustBe;
use crate::model::{EventId, Reason, names};

/// The past that is wanted: the events `after` an id (0 stands for all that are kept), or the `last` events.
pub fn past(after: Option<u64>, last: Option<u64>) -> Result<Option<Past>, Reason> {
    match (after, last) {
        (None, None) => Ok(None),
        (Some(0), None) => Ok(Some(Past::After(None))),
        (Some(id), None) => {
            EventId::new(id).map(|id| Some(Past::After(Some(id)))).ok_or(Reason::WrongValue("after", MustBe::EventId))
        }
        (None, Some(count)) => Ok(Some(Past::Last(count))),
        (Some(_), Some(_)) => Err(Reason::WrongValue("last", MustBe::AloneOfAfterAndLast)),
    }
}

/// The selection in the user properties of an MQTT SUBSCRIBE, for all its filters.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Asked {
    /// The events that they select.
    pub selection: Option<Selection>,
    /// `corsac-retained`: retained values and their changes only.
    pub retained_only: bool,
}

/// Reads `corsac-after`, `corsac-last`, `corsac-filter`, `corsac-snapshot` and `corsac-retained`, each a JSON value; others are the
/// client's own.
pub fn of_properties<'a>(properties: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Asked, Reason> {
    let (mut after, mut last, mut selection, mut retained_only) = (None, None, Selection::default(), false);
    for (name, text) in properties {
        let value = |name, must_be| serde_json::from_str::<Value>(text).map_err(|_| Reason::WrongValue(name, must_be));
        let number = |name| {
            let must_be = MustBe::WholeNumber;
            integer(&value(name, must_be)?).map(Some).ok_or(Reason::WrongValue(name, must_be))
        };
        let flag = |name| value(name, MustBe::Flag)?.as_bool().ok_or(Reason::WrongValue(name, MustBe::Flag));
        match name {
            names::AFTER => after = number(names::AFTER)?,
            names::LAST => last = number(names::LAST)?,
            names::FILTER => selection.pattern = Some(value(names::FILTER, MustBe::Json)?),
            names::SNAPSHOT => selection.is_snapshot = flag(names::SNAPSHOT)?,
            names::RETAINED => retained_only = flag(names::RETAINED)?,
            _ => {}
        }
    }
    selection.past = past(after, last)?;
    if selection.past.is_some() && retained_only {
        return Err(Reason::WrongValue(names::AFTER, MustBe::PastOrRetained));
    }
    Ok(Asked { selection: (selection != Selection::default()).then_some(selection), retained_only })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn properties_say_what_is_selected() {
        let asked = |pairs: &[(&'static str, &'static str)]| of_properties(pairs.iter().copied());
        let selected = |pairs: &[(&'static str, &'static str)]| asked(pairs).unwrap().selection.unwrap();
        assert_eq!(asked(&[]), Ok(Asked::default()));
        assert_eq!(asked(&[("after", "x"), ("corsac-else", "")]), Ok(Asked::default()));
        assert_eq!(selected(&[("corsac-after", "7")]).past, Some(Past::After(EventId::new(7))));
        assert_eq!(selected(&[("corsac-after", "0")]).past, Some(Past::After(None)));
        assert_eq!(selected(&[("corsac-last", "3")]).past, Some(Past::Last(3)));
        let both = selected(&[("corsac-snapshot", "true"), ("corsac-filter", "{\"a\":1}")]);
        assert_eq!((both.is_snapshot, both.pattern, both.past), (true, Some(json!({"a": 1})), None));
        assert_eq!(asked(&[("corsac-retained", "true")]), Ok(Asked { selection: None, retained_only: true }));
        for pairs in [
            &[("corsac-after", "-1")][..],
            &[("corsac-after", "1; DROP TABLE")],
            &[("corsac-after", "4503599627370496")],
            &[("corsac-after", "99999999999999999999")],
            &[("corsac-last", "1.5")],
            &[("corsac-last", "1"), ("corsac-after", "1")],
            &[("corsac-filter", "{")],
            &[("corsac-snapshot", "yes")],
            &[("corsac-after", "1"), ("corsac-retained", "true")],
        ] {
            assert!(matches!(asked(pairs), Err(Reason::WrongValue(..))), "{pairs:?}");
        }
    }
}
