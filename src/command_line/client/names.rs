//! Topics, filters and procedures as typed, in either spelling: with a `/` (or a lone `+`, `#`) it is MQTT's, else WAMP's.
use clap::ValueEnum;
use corsac::model::{Filter, MatchPolicy, Topic};

use crate::command_line::failure::Usage;

/// The spelling of a name; `--spell`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Spelling {
    // No documentation for these words: clap would lay out the help of the whole command in another way.
    #[allow(missing_docs)]
    Mqtt,
    #[allow(missing_docs)]
    Wamp,
}

/// `--match`: the name itself, in which `+`, `*` and `#` are nothing special, or all names that begin with this text, or a filter
/// in which an empty level stands for any one level.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[allow(missing_docs)] // for the same reason
pub enum Match {
    Exact,
    Prefix,
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

/// The spelling in which all topics of these filters are printed: as `asked`, else MQTT's unless a filter is in WAMP's.
pub fn printed_as<'a>(asked: Option<Spelling>, mut filters: impl Iterator<Item = &'a str>) -> Spelling {
    let is_wamp = filters.any(|text| spelling(text) == Some(Spelling::Wamp));
    asked.unwrap_or(if is_wamp { Spelling::Wamp } else { Spelling::Mqtt })
}

/// `topic` in this spelling.
pub fn spelled(topic: &Topic, spelling: Spelling) -> &str {
    match spelling {
        Spelling::Mqtt => topic.as_mqtt(),
        Spelling::Wamp => topic.as_uri(),
    }
}

/// A topic or procedure.
pub fn topic(text: &str) -> Result<Topic, Usage> {
    let is_mqtt = spelling(text) == Some(Spelling::Mqtt);
    let topic = if is_mqtt { Topic::from_mqtt(text) } else { Topic::from_uri(text) };
    match topic {
        Ok(topic) if text != "+" && !text.contains(char::is_control) => Ok(topic),
        _ => Err(Usage(format!("{}; write it like demo/hello or demo.hello", why_no_topic(text, is_mqtt)))),
    }
}

/// Why `text` is not the name of one topic.
fn why_no_topic(text: &str, is_mqtt: bool) -> String {
    let wildcards: &[char] = if is_mqtt { &['+', '#'] } else { &['#'] };
    let slashed = text.replace('.', "/");
    if text.is_empty() {
        "\"\" is no name".to_owned()
    } else if let Some(character) = text.chars().find(|character| character.is_control()) {
        format!("{text:?} holds the control character {:?}, which names cannot", character)
    } else if text.contains(wildcards) || matches!(text, "+" | "*") || (!is_mqtt && text.split('.').any(|level| level == "*")) {
        format!("{text:?} is a filter for many topics, not the name of one")
    } else if !is_mqtt && text.contains(char::is_whitespace) {
        format!("{text:?} holds a space, which WAMP's spelling cannot; in MQTT's it is {slashed:?}")
    } else if !is_mqtt && text.split('.').any(str::is_empty) {
        format!("{text:?} has an empty level, which WAMP's spelling cannot; in MQTT's it is {slashed:?}")
    } else {
        format!("{text:?} is not the name of a topic or procedure")
    }
}

/// The filter to subscribe to. A filter that would match nothing that anybody means is refused, unless a policy gives it a
/// meaning.
pub fn filter(text: &str, policy: Option<Match>) -> Result<Filter, Usage> {
    let is_mqtt = spelling(text) == Some(Spelling::Mqtt) || text == "+";
    let refuse = |why: Option<String>| Usage(why.unwrap_or_else(|| refusal(text)));
    let policy = match policy {
        None => {
            let why = if is_mqtt { why_no_mqtt_filter(text) } else { why_no_wamp_filter(text) };
            if let Some(why) = why {
                return Err(Usage(why));
            }
            let filter = if is_mqtt { Filter::from_mqtt(text) } else { Filter::from_subscribed_uri(text, MatchPolicy::Exact) };
            return filter.map_err(|_| refuse(None));
        }
        Some(Match::Exact) => return topic(text).map(Filter::Exact),
        Some(Match::Prefix) => MatchPolicy::Prefix,
        Some(Match::Wildcard) => MatchPolicy::Wildcard,
    };
    let uri = if is_mqtt {
        let mixed = || format!("{text:?} mixes --match with MQTT's + and #; leave one of them out");
        Topic::from_mqtt(text).map_err(|_| refuse(Some(mixed())))?.as_uri().to_owned()
    } else {
        text.to_owned()
    };
    Filter::from_uri(&uri, policy).map_err(|_| refuse(None))
}

fn refusal(text: &str) -> String {
    format!("{text:?} is not a filter; write it like demo/hello, demo/+/state or 'demo/#'")
}

/// A sign that stands for itself, though it stands for many names elsewhere.
fn itself(text: &str, sign: &str, instead: &str) -> Option<String> {
    Some(format!("{text:?} holds a {sign}, which stands for itself here; {instead}, or say --match exact if it is meant so"))
}

/// The fault of a filter in MQTT's spelling.
fn why_no_mqtt_filter(text: &str) -> Option<String> {
    let levels: Vec<&str> = text.split('/').collect();
    let (last, before) = levels.split_last()?;
    if before.contains(&"#") {
        return Some(format!("{text:?} goes on behind the #, which stands for all levels below; leave out what is behind it"));
    }
    for level in &levels {
        match *level {
            "+" | "#" => {}
            "*" => return itself(text, "*", "for any one level write +"),
            ">" | "**" => {
                let above =
                    levels.iter().take_while(|above| *above != level).fold(String::new(), |above, level| above + level + "/");
                return itself(text, level, &format!("for all names below write '{above}#'"));
            }
            level if level.contains('+') => {
                return Some(format!(
                    "{text:?} holds a + beside other text, but it stands for one whole level; {}",
                    prefix(text, '+')
                ));
            }
            level if level.contains('#') => {
                return Some(format!(
                    "{text:?} holds a # beside other text, but it stands for whole levels; {}",
                    prefix(text, '#')
                ));
            }
            _ => {}
        }
    }
    last.chars().any(char::is_control).then(|| format!("{text:?} holds a control character, which names cannot"))
}

/// The fault of a filter in WAMP's spelling.
fn why_no_wamp_filter(text: &str) -> Option<String> {
    let levels: Vec<&str> = text.split('.').collect();
    let (_, before) = levels.split_last().filter(|_| !text.is_empty())?;
    if before.contains(&"#") {
        return Some(format!("{text:?} goes on behind the #, which stands for all levels below; leave out what is behind it"));
    }
    for level in &levels {
        match *level {
            "*" | "#" => {}
            ">" | "**" => {
                let above: Vec<&str> = levels.iter().copied().take_while(|above| above != level).collect();
                return Some(match above.join(".").as_str() {
                    "" => format!("{text:?} stands for itself here; for all names write '#'"),
                    above => format!(
                        "{text:?} holds a {level}, which stands for itself here; for all names below {above} write '{above}.#'"
                    ),
                });
            }
            "+" => return itself(text, "+", "for any one level write *, or spell it as MQTT does: demo/+/state"),
            level if level.contains('+') => return itself(text, "+", &prefix(text, '+')),
            level if level.contains('*') => return itself(text, "*", &prefix(text, '*')),
            level if level.contains('#') => {
                return Some(format!(
                    "{text:?} holds a # beside other text, but it stands for whole levels; {}",
                    prefix(text, '#')
                ));
            }
            level if level.contains(char::is_whitespace) => {
                let slashed = text.replace('.', "/");
                return Some(format!("{text:?} holds a space, which WAMP's spelling cannot; in MQTT's it is {slashed:?}"));
            }
            "" => {
                return Some(format!(
                    "{text:?} has an empty level; with --match wildcard that stands for any one level, else write it as MQTT does"
                ));
            }
            _ => {}
        }
    }
    None
}

/// The way to ask for all names that begin as `text` does before `sign`.
fn prefix(text: &str, sign: char) -> String {
    let before = text.split(sign).next().unwrap_or_default();
    let before = if before.is_empty() { "demo.temp" } else { before };
    format!("for all names that begin with {before} write --match prefix {before}")
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
            assert!(topic(text).unwrap_err().0.contains("write it like demo/hello"), "{text}");
        }
    }

    #[test]
    fn a_refused_name_says_why() {
        for (text, expected) in [
            ("", "no name"),
            ("a\u{1}b", "control character '\\u{1}'"),
            ("a/b\0", "control character '\\0'"),
            ("demo/+", "filter for many topics"),
            ("+", "filter for many topics"),
            ("demo.#", "filter for many topics"),
            ("demo.*", "filter for many topics"),
            ("q.with space.x", "holds a space, which WAMP's spelling cannot; in MQTT's it is \"q/with space/x\""),
            ("a..b", "empty level, which WAMP's spelling cannot; in MQTT's it is \"a//b\""),
        ] {
            let why = topic(text).unwrap_err().0;
            assert!(why.contains(expected), "{text}: {why}");
        }
        for text in ["q/with space/x", "a//b", "c++", "lang.c++", "a>b"] {
            assert!(topic(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn filters_that_nobody_means_are_refused() {
        for (text, expected) in [
            ("demo.>", "\"demo.>\" holds a >, which stands for itself here; for all names below demo write 'demo.#'"),
            (">", "for all names write '#'"),
            ("demo/>", "for all names below write 'demo/#'"),
            ("demo/**", "for all names below write 'demo/#'"),
            ("a+", "holds a +, which stands for itself here; for all names that begin with a write --match prefix a"),
            ("a*", "holds a *, which stands for itself here; for all names that begin with a write --match prefix a"),
            ("demo.+.x", "for any one level write *"),
            ("demo/*/x", "for any one level write +"),
            ("demo.x#", "for all names that begin with demo.x write --match prefix demo.x"),
            ("demo/x#", "write --match prefix demo/x"),
            ("demo/x+", "stands for one whole level"),
            ("demo/#/x", "goes on behind the #"),
            ("demo.#.x", "goes on behind the #"),
            ("demo.a b", "in MQTT's it is \"demo/a b\""),
            ("demo..x", "--match wildcard"),
            ("", "\"\" is not a filter"),
        ] {
            let why = filter(text, None).unwrap_err().0;
            assert!(why.contains(expected), "{text}: {why}");
        }
        for text in ["a+", "a*", "demo.>", "demo.+.x", "demo/>"] {
            assert!(matches!(filter(text, Some(Match::Exact)), Ok(Filter::Exact(_))), "{text}");
        }
        for text in ["demo/a b/+", "demo//#", "$share/group/demo/#", "a>b", "*", "demo.*.#"] {
            assert!(filter(text, None).is_ok(), "{text}");
        }
    }

    #[test]
    fn topics_are_printed_in_one_way() {
        for (filters, expected) in [
            (&["#"][..], Spelling::Mqtt),
            (&["demo"], Spelling::Mqtt),
            (&["demo.#"], Spelling::Wamp),
            (&["demo/1.5/#"], Spelling::Mqtt),
            (&["#", "demo.x"], Spelling::Wamp),
        ] {
            assert_eq!(printed_as(None, filters.iter().copied()), expected, "{filters:?}");
            assert_eq!(printed_as(Some(Spelling::Mqtt), filters.iter().copied()), Spelling::Mqtt);
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
        assert!(filter("demo/+", Some(Match::Prefix)).unwrap_err().0.contains("--match"));
    }

    #[test]
    fn events_may_name_topics_with_empty_levels() {
        assert_eq!(event_topic("demo.1%2E5").unwrap().as_mqtt(), "demo/1.5");
        assert_eq!(event_topic("a..b").unwrap().as_mqtt(), "a//b");
    }
}
