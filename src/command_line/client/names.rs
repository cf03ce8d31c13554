//! Topics, filters and procedures as typed, in either spelling: with a `/` (or a lone `+`, `#`) it is MQTT's, else WAMP's.
use clap::ValueEnum;
use corsac::model::{Filter, MatchPolicy, Topic};

/// How a name is spelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spelling {
    /// `a/b`
    Mqtt,
    /// `a.b`
    Wamp,
}

/// `--match`
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Match {
    /// The name itself; `+`, `*` and `#` are nothing special
    Exact,
    /// All names that begin with this text
    Prefix,
    /// An empty level stands for any one level: demo..state
    Wildcard,
}

/// The spelling that `text` shows; `None` if it would be the same in both.
pub fn spelling(text: &str) -> Option<Spelling> {
    match text {
        "+" | "#" => None,
        _ if text.contains('/') => Some(Spelling::Mqtt),
        _ if text.contains('.') => Some(Spelling::Wamp),
        _ => None,
    }
}

/// `topic` in this spelling.
pub fn spelled(topic: &Topic, spelling: Spelling) -> &str {
    match spelling {
        Spelling::Mqtt => topic.as_mqtt(),
        Spelling::Wamp => topic.as_uri(),
    }
}

/// A topic or procedure.
pub fn topic(text: &str) -> Result<Topic, String> {
    let topic = match spelling(text) {
        Some(Spelling::Mqtt) => Topic::from_mqtt(text),
        _ => Topic::from_uri(text),
    };
    topic.map_err(|_| format!("{text:?} is not the name of one topic or procedure; write it like demo/hello or demo.hello"))
}

/// What to subscribe to.
pub fn filter(text: &str, policy: Option<Match>) -> Result<Filter, String> {
    let is_mqtt = spelling(text) == Some(Spelling::Mqtt) || text == "+";
    let policy = match policy {
        None if is_mqtt => return Filter::from_mqtt(text).map_err(|_| refusal(text)),
        None => return Filter::from_subscribed_uri(text, MatchPolicy::Exact).map_err(|_| refusal(text)),
        Some(Match::Exact) => return topic(text).map(Filter::Exact),
        Some(Match::Prefix) => MatchPolicy::Prefix,
        Some(Match::Wildcard) => MatchPolicy::Wildcard,
    };
    let uri = if is_mqtt {
        Topic::from_mqtt(text)
            .map_err(|_| format!("{text:?} mixes --match with MQTT's + and #; leave one of them out"))?
            .as_uri()
            .to_owned()
    } else {
        text.to_owned()
    };
    Filter::from_uri(&uri, policy).map_err(|_| refusal(text))
}

fn refusal(text: &str) -> String {
    format!("{text:?} is not a filter; write it like demo/hello, demo/+/state or 'demo/#'")
}

/// The topic that an event names; its levels may be empty, which `Topic::from_uri` does not allow.
pub fn event_topic(uri: &str) -> Option<Topic> {
    match Filter::from_uri(uri, MatchPolicy::Exact) {
        Ok(Filter::Exact(topic)) => Some(topic),
        _ => Topic::from_mqtt(&uri.replace('.', "/")).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_name_the_same() {
        assert_eq!(topic("demo/hello").unwrap(), topic("demo.hello").unwrap());
        assert_eq!(topic("dev/1.5").unwrap().as_uri(), "dev.1%2E5");
        assert_eq!(topic("hello").unwrap().as_mqtt(), "hello");
        for text in ["", "a/+", "a..b", "a b", "demo.#"] {
            assert!(topic(text).unwrap_err().contains("demo/hello"), "{text}");
        }
    }

    #[test]
    fn filters_are_read_as_they_are_spelled() {
        let levels = |text| filter(text, None).unwrap().as_mqtt().map(str::to_owned);
        for text in ["demo/#", "demo.#"] {
            assert_eq!(levels(text).as_deref(), Some("demo/#"));
        }
        assert_eq!(levels("demo.*.x").as_deref(), Some("demo/+/x"));
        assert_eq!(levels("+").as_deref(), Some("+"));
        assert_eq!(levels("#").as_deref(), Some("#"));
        assert_eq!(filter("demo..x", Some(Match::Wildcard)).unwrap().as_mqtt(), Some("demo/+/x"));
        assert_eq!(filter("demo//x", Some(Match::Wildcard)).unwrap().as_mqtt(), Some("demo/+/x"));
        assert_eq!(filter("demo/he", Some(Match::Prefix)).unwrap(), Filter::Prefix("demo.he".into()));
        assert!(filter("demo/+", Some(Match::Prefix)).unwrap_err().contains("--match"));
        assert!(filter("a#b", None).unwrap_err().contains("demo/#"));
    }

    #[test]
    fn events_may_name_topics_with_empty_levels() {
        assert_eq!(event_topic("demo.1%2E5").unwrap().as_mqtt(), "demo/1.5");
        assert_eq!(event_topic("a..b").unwrap().as_mqtt(), "a//b");
    }
}
