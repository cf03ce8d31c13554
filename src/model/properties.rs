//! Properties that travel with a message unaltered.
use bytes::Bytes;

use super::ErrorUri;
use super::outcome::Outcome;

/// Properties that travel with a message unaltered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Properties {
    /// MQTT 5 content type.
    pub content_type: Option<Box<str>>,
    /// MQTT 5 payload format indicator: `Some(true)` = the payload is UTF-8 text.
    pub payload_format: Option<bool>,
    /// MQTT 5 response topic, in MQTT spelling.
    pub response_topic: Option<Box<str>>,
    /// MQTT 5 correlation data.
    pub correlation_data: Option<Bytes>,
    /// MQTT 5 user properties in their order.
    pub user: Vec<(Box<str>, Box<str>)>,
    /// WAMP payload passthru attributes.
    pub passthru: Option<Box<Passthru>>,
    /// Set by the router where the message is the answer of a call, or (as an error) tells a callee to stop. The gate says it as
    /// the user properties `corsac-status` and `corsac-error` (MQTT 5). Without such properties (3.1.1) an error becomes the JSON
    /// object `{"error": uri, "args": [...], "kwargs": {...}}` of this URI and the payload (MAPPING.md, Calls).
    pub outcome: Option<Outcome>,
}

impl Properties {
    /// Bytes of all its texts and data, and 16 for each user property.
    pub fn text_bytes(&self) -> usize {
        let user = self.user.iter().fold(0, |sum, (name, value)| sum + name.len() + value.len() + 16);
        let passthru = self.passthru.iter().flat_map(|passthru| passthru.attributes()).map(|(_, text)| text.len()).sum::<usize>();
        let texts = [&self.content_type, &self.response_topic].into_iter().flatten();
        let data = self.correlation_data.as_ref().map_or(0, Bytes::len);
        texts.fold(user + passthru + data, |sum, text| sum + text.len())
    }
}

impl Properties {
    pub(super) fn weight(&self) -> usize {
        let text = |t: &Option<Box<str>>| t.as_ref().map_or(0, |t| t.len());
        let user: usize = self.user.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        let outcome = match &self.outcome {
            Some(Outcome::Error(ErrorUri::Custom(uri))) => uri.len(),
            _ => 0,
        };
        text(&self.content_type)
            + text(&self.response_topic)
            + self.correlation_data.as_ref().map_or(0, Bytes::len)
            + user
            + outcome
    }
}

/// WAMP payload passthru mode (`ppt_*`): carried, never interpreted, so that what is missing or empty stays so.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Passthru {
    /// `ppt_scheme`
    pub scheme: Option<Box<str>>,
    /// `ppt_serializer`
    pub serializer: Option<Box<str>>,
    /// `ppt_cipher`
    pub cipher: Option<Box<str>>,
    /// `ppt_keyid`
    pub keyid: Option<Box<str>>,
}

impl Passthru {
    /// The attributes that are present, as WAMP names them.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("ppt_scheme", &self.scheme),
            ("ppt_serializer", &self.serializer),
            ("ppt_cipher", &self.cipher),
            ("ppt_keyid", &self.keyid),
        ];
        all.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)))
    }
}
