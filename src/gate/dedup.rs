//! Keys by which a client's retries are recognized, as a WAMP option and as an MQTT 5 user property (MAPPING.md, Payloads).
use crate::model::command::MAX_DEDUP_BYTES;
use crate::model::properties::Properties;
use crate::model::reason::MustBe;
use crate::model::{Qos, Reason, names};
use crate::wire::wamp::options::PublishOptions;

/// The key in the user property `corsac-dedup`. The property is passed over at QoS 0, which has no answer and so no retry.
pub fn of_properties(properties: &Properties, qos: Qos) -> Result<Option<Box<str>>, Reason> {
    let key = properties.user.iter().find(|(name, _)| **name == *names::DEDUP).map(|(_, key)| key);
    key.filter(|_| qos > Qos::AtMostOnce).map(checked).transpose()
}

/// The key in the option `dedup`; refused for a publication that is not stored, as no retry could know of it.
pub fn of_options(options: &PublishOptions) -> Result<Option<Box<str>>, Reason> {
    let is_stored =
        options.acknowledge == Some(true) || options.retain == Some(true) || options.qos.is_some_and(|qos| qos > Qos::AtMostOnce);
    match &options.dedup {
        Some(_) if !is_stored => Err(Reason::WrongValue("dedup", MustBe::KeyOfStored)),
        key => key.as_ref().map(checked).transpose(),
    }
}

#[allow(clippy::borrowed_box, reason = "what is cloned is the box")]
fn checked(key: &Box<str>) -> Result<Box<str>, Reason> {
    let is_fit = (1..=MAX_DEDUP_BYTES).contains(&key.len());
    if is_fit { Ok(key.clone()) } else { Err(Reason::WrongValue("dedup", MustBe::Key)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_short_text() {
        let of = |key: &str, qos| {
            let user = vec![("corsac-dedup".into(), key.into())];
            of_properties(&Properties { user, ..Properties::default() }, qos)
        };
        assert_eq!(of("order 7", Qos::AtLeastOnce), Ok(Some("order 7".into())));
        assert_eq!(of(&"x".repeat(128), Qos::ExactlyOnce), Ok(Some("x".repeat(128).into())));
        for bad in ["", &"x".repeat(129)] {
            assert_eq!(of(bad, Qos::AtLeastOnce), Err(Reason::WrongValue("dedup", MustBe::Key)));
            assert_eq!(of(bad, Qos::AtMostOnce), Ok(None));
        }
        assert_eq!(of_properties(&Properties::default(), Qos::AtLeastOnce), Ok(None));
    }

    #[test]
    fn only_what_is_stored_has_a_key() {
        let with_key = || PublishOptions { dedup: Some("a".into()), ..PublishOptions::default() };
        assert_eq!(of_options(&PublishOptions::default()), Ok(None));
        let refused = Err(Reason::WrongValue("dedup", MustBe::KeyOfStored));
        assert_eq!(of_options(&with_key()), refused);
        assert_eq!(of_options(&PublishOptions { qos: Some(Qos::AtMostOnce), ..with_key() }), refused);
        for options in [
            PublishOptions { acknowledge: Some(true), ..with_key() },
            PublishOptions { retain: Some(true), ..with_key() },
            PublishOptions { qos: Some(Qos::AtLeastOnce), ..with_key() },
        ] {
            assert_eq!(of_options(&options), Ok(Some("a".into())));
            let long = PublishOptions { dedup: Some("x".repeat(129).into()), ..options };
            assert_eq!(of_options(&long), Err(Reason::WrongValue("dedup", MustBe::Key)));
        }
    }
}
