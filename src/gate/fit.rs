//! The properties of a message that MQTT clients can be sent, measured by the rules that hold for their own (MQTT 5, 1.5.4).
use crate::model::Topic;
use crate::model::properties::Properties;
use crate::model::text::unfit_in;

/// Longest text or data of a property, in bytes (MQTT 5, 1.5.4, 1.5.6).
const MAX_BYTES: usize = u16::MAX as usize;

/// Leaves out every property that no MQTT client can be sent; how many.
pub fn leave_out(properties: &mut Properties) -> u64 {
    let before = count(properties);
    properties.user.retain(|(name, value)| is_text(name) && is_text(value));
    properties.content_type.take_if(|text| !is_text(text));
    properties.response_topic.take_if(|topic| !is_topic(topic));
    properties.correlation_data.take_if(|data| data.len() > MAX_BYTES);
    before - count(properties)
}

/// True where nothing has to be left out.
pub fn is_fit(properties: &Properties) -> bool {
    properties.user.iter().all(|(name, value)| is_text(name) && is_text(value))
        && properties.content_type.as_deref().is_none_or(is_text)
        && properties.response_topic.as_deref().is_none_or(is_topic)
        && properties.correlation_data.as_ref().is_none_or(|data| data.len() <= MAX_BYTES)
}

fn count(properties: &Properties) -> u64 {
    let others = [properties.content_type.is_some(), properties.response_topic.is_some(), properties.correlation_data.is_some()];
    (properties.user.len() + others.into_iter().filter(|is_there| *is_there).count()) as u64
}

/// True for a string of MQTT without characters that it had better not hold.
fn is_text(text: &str) -> bool {
    text.len() <= MAX_BYTES && unfit_in(text).is_none()
}

fn is_topic(text: &str) -> bool {
    Topic::from_mqtt(text).is_ok_and(|topic| !topic.is_unfit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_left_out_and_counted() {
        let pair = |name: &str, value: &str| (name.into(), value.into());
        let fit = Properties {
            content_type: Some("text/plain".into()),
            response_topic: Some("a/b".into()),
            correlation_data: Some(b"\0\x01".as_slice().into()),
            user: vec![pair("", ""), pair("k", "v")],
            ..Properties::default()
        };
        let mut kept = fit.clone();
        assert!(is_fit(&kept) && leave_out(&mut kept) == 0 && kept == fit);
        for bad in ["\0", "a\nb", "\u{7F}", "\u{85}", "\u{FFFF}", &"x".repeat(65_536)] {
            let mut properties = Properties {
                content_type: Some(bad.into()),
                response_topic: Some(bad.into()),
                correlation_data: Some(vec![0; 65_536].into()),
                user: vec![pair("k", bad), pair(bad, "v"), pair("k", "v")],
                ..Properties::default()
            };
            assert!(!is_fit(&properties));
            assert_eq!(leave_out(&mut properties), 5, "{bad:?}");
            assert_eq!(properties, Properties { user: vec![pair("k", "v")], ..Properties::default() });
        }
    }
}
