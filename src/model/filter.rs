//! Which topics a subscription (or which procedures a registration) covers.
use std::borrow::Cow;

use super::names::Root;
use super::reason::Reason;
use super::topic::{MAX_SPELLING_BYTES, Topic, are_components_valid, check_characters, level_count, mqtt_of_uri, uri_of_mqtt};

/// The kind of a filter in WAMP (`match` option; WAMP: Advanced, Pattern-based Subscriptions).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum MatchPolicy {
    /// The whole name.
    #[default]
    Exact,
    /// A string prefix of the WAMP spelling.
    Prefix,
    /// Single levels left open.
    Wildcard,
}

/// A valid filter over topics (or procedures). Two filters that are equal cover the same names by the same rule.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Filter {
    /// One topic. Kept apart so that the commonest case is one hash look-up.
    Exact(Topic),
    /// MQTT spelling with `+` for one level and a last `#` for the parent and all below it (4.7.1). Without either only where
    /// WAMP asked for `match: "wildcard"` on a whole name, which is another subscription than the exact one.
    Levels(Box<str>),
    /// A string prefix of the WAMP spelling; `emergency` covers `emergency-low`.
    Prefix(Box<str>),
}

impl Filter {
    /// The filter that MQTT spells `text`, `$share/...` already taken off. The text is not empty, has no NUL and at most 65,535
    /// bytes [MQTT-4.7.3-1]. `+` is a level by itself [MQTT-4.7.1-2], and `#` the last level by itself [MQTT-4.7.1-1].
    pub fn from_mqtt(text: &str) -> Result<Self, Reason> {
        if !text.contains(['+', '#']) {
            return Topic::from_mqtt(text).map(Filter::Exact).map_err(|_| Reason::InvalidFilter);
        }
        let mut levels = text.rsplit('/');
        let last = levels.next().unwrap_or_default();
        let is_valid = (last == "#" || is_level_valid(last)) && levels.all(is_level_valid);
        if !is_valid || text.len() > MAX_SPELLING_BYTES || text.contains('\0') {
            return Err(Reason::InvalidFilter);
        }
        Ok(Filter::Levels(text.into()))
    }

    /// The filter that WAMP spells `uri` under `policy`, as REGISTER means it (for SUBSCRIBE see [`Filter::from_subscribed_uri`]).
    /// All follow the loose URI rule (WAMP: Basic, URIs) and refuse a whole component `*`; besides:
    /// - exact: no empty component;
    /// - prefix: only the last component may be empty (`a.`), the whole too (covers every name that is not reserved);
    /// - wildcard: an empty component stands for any one level, wherever it is.
    pub fn from_uri(uri: &str, policy: MatchPolicy) -> Result<Self, Reason> {
        if policy == MatchPolicy::Exact {
            return Topic::from_uri(uri).map(Filter::Exact).map_err(|why| match why {
                Reason::UnfitCharacter(_) => why,
                _ => Reason::InvalidFilter,
            });
        }
        check_characters(uri)?;
        if !are_components_valid(uri) {
            return Err(Reason::InvalidFilter);
        }
        if policy == MatchPolicy::Prefix { Self::prefix(uri) } else { Self::wildcard(uri) }
    }

    /// As [`Filter::from_uri`], but in an exact URI a component `*` is any one level and a last component `#` the parent and all
    /// below it, as fox-wamp reads SUBSCRIBE. Registrations must not be read this way.
    pub fn from_subscribed_uri(uri: &str, policy: MatchPolicy) -> Result<Self, Reason> {
        if policy != MatchPolicy::Exact {
            return Self::from_uri(uri, policy);
        }
        let (head, has_tail) = match uri.strip_suffix('#') {
            Some("") => return Ok(Filter::Levels("#".into())),
            Some(head) => (head.strip_suffix('.').ok_or(Reason::InvalidFilter)?, true),
            None => (uri, false),
        };
        if !has_tail && !head.split('.').any(|level| level == "*") {
            return Self::from_uri(uri, policy);
        }
        check_characters(head)?;
        if !are_components_valid(head) || head.split('.').any(str::is_empty) {
            return Err(Reason::InvalidFilter);
        }
        let mut levels = levels_of_uri(head, "*");
        if has_tail {
            levels.push_str("/#");
        }
        bounded_levels(levels)
    }

    /// The filter that people spell `text`: as MQTT does where it has a `/` or is a lone `+`, else as WAMP does (SUBSCRIBE). Unfit
    /// characters are refused.
    pub fn from_either(text: &str, policy: Option<MatchPolicy>) -> Result<Self, Reason> {
        if !text.contains('/') && text != "+" {
            return Self::from_subscribed_uri(text, policy.unwrap_or_default());
        }
        check_characters(text)?;
        match policy {
            Some(MatchPolicy::Prefix) => Self::from_uri(&uri_of_mqtt(text), MatchPolicy::Prefix),
            Some(MatchPolicy::Wildcard) if !text.contains(['+', '#']) => {
                Self::from_uri(&uri_of_mqtt(text), MatchPolicy::Wildcard)
            }
            _ => Self::from_mqtt(text),
        }
    }

    fn prefix(uri: &str) -> Result<Self, Reason> {
        let is_complete = |level: &str| !level.is_empty() && level != "*";
        if uri.rsplit('.').skip(1).all(is_complete) && uri.len() <= MAX_SPELLING_BYTES {
            Ok(Filter::Prefix(uri.into()))
        } else {
            Err(Reason::InvalidFilter)
        }
    }

    fn wildcard(uri: &str) -> Result<Self, Reason> {
        if uri.split('.').any(|level| level == "*") {
            return Err(Reason::InvalidFilter);
        }
        bounded_levels(levels_of_uri(uri, ""))
    }

    /// The kind of this filter in WAMP; `#` has no WAMP name and counts as wildcard.
    pub fn policy(&self) -> MatchPolicy {
        match self {
            Filter::Exact(_) => MatchPolicy::Exact,
            Filter::Levels(_) => MatchPolicy::Wildcard,
            Filter::Prefix(_) => MatchPolicy::Prefix,
        }
    }

    /// The MQTT spelling; `None` for a string prefix, which MQTT cannot spell.
    pub fn as_mqtt(&self) -> Option<&str> {
        match self {
            Filter::Exact(topic) => Some(topic.as_mqtt()),
            Filter::Levels(levels) => Some(levels),
            Filter::Prefix(_) => None,
        }
    }

    /// The WAMP spelling that goes with [`Filter::policy`]: `+` as an empty component. Where that cannot say it (a `#`, an empty
    /// level) the spelling of [`Filter::from_subscribed_uri`]: `*` and a last `#`.
    pub fn to_uri(&self) -> Cow<'_, str> {
        let levels = match self {
            Filter::Exact(topic) => return Cow::Borrowed(topic.as_uri()),
            Filter::Prefix(prefix) => return Cow::Borrowed(prefix),
            Filter::Levels(levels) => levels,
        };
        let has_name = levels.split('/').all(|level| !level.is_empty() && level != "#");
        let mut uri = String::with_capacity(levels.len());
        for (index, level) in levels.split('/').enumerate() {
            if index > 0 {
                uri.push('.');
            }
            match level {
                "+" if has_name => {}
                "+" => uri.push('*'),
                "#" => uri.push('#'),
                level => uri.push_str(&uri_of_mqtt(level)),
            }
        }
        Cow::Owned(uri)
    }

    /// True if it can cover more than one name.
    pub fn has_wildcard(&self) -> bool {
        match self {
            Filter::Exact(_) => false,
            Filter::Levels(levels) => levels.contains(['+', '#']),
            Filter::Prefix(_) => true,
        }
    }

    /// The number of levels, wildcards included, at least 1; the bound on it is the caller's to check.
    pub fn level_count(&self) -> usize {
        match self {
            Filter::Exact(topic) => topic.level_count(),
            Filter::Levels(levels) => level_count(levels, b'/'),
            Filter::Prefix(prefix) => level_count(prefix, b'.'),
        }
    }

    /// The root of the router's own that its first level is.
    pub fn root(&self) -> Option<Root> {
        match self {
            Filter::Exact(topic) => topic.root(),
            Filter::Levels(levels) => Root::of(levels.split('/').next()?),
            Filter::Prefix(prefix) => Root::of(prefix.split('.').next()?),
        }
    }

    /// True if some of what it covers is hidden from filters that start with a wildcard.
    pub fn is_hidden(&self) -> bool {
        let (text, separator) = match self {
            Filter::Exact(topic) => return topic.is_hidden(),
            Filter::Levels(levels) => (levels, '/'),
            Filter::Prefix(prefix) => (prefix, '.'),
        };
        text.starts_with('$') || matches!(text.split(separator).next(), Some("wamp" | "corsac"))
    }

    /// True for a filter that names under `$`, `wamp` and `corsac` are hidden from: its first level is a wildcard [MQTT-4.7.2-1].
    /// String prefixes hide them by their length, see [`Filter::covers`].
    pub fn starts_with_wildcard(&self) -> bool {
        matches!(self, Filter::Levels(levels) if levels.starts_with(['+', '#']))
    }

    /// Whether `topic` is one of the names, by looking at both; the matcher answers the same for many filters at once.
    ///
    /// A hidden name is covered only by a filter that names its root. A first level `+` or `#` does not, and a string prefix does
    /// only if it is at least as long as `$`, `wamp` or `corsac`.
    pub fn covers(&self, topic: &Topic) -> bool {
        match self {
            Filter::Exact(exact) => exact == topic,
            Filter::Prefix(prefix) => prefix.len() >= topic.hidden_root_len() && topic.as_uri().starts_with(&**prefix),
            Filter::Levels(levels) => {
                !(self.starts_with_wildcard() && topic.is_hidden()) && are_levels_covered(levels, topic.as_mqtt())
            }
        }
    }
}

/// For a [`Filter::Prefix`]: a text that the MQTT spelling of every covered topic begins with, and whether beginning with it is
/// also enough to be covered (reserved names aside). So a set ordered by MQTT spelling need not be searched as a whole.
pub fn mqtt_prefix(prefix: &str) -> (String, bool) {
    let (whole, last) = prefix.split_at(prefix.rfind('.').map_or(0, |dot| dot + 1));
    let mut spelling = mqtt_of_uri(whole);
    // Up to here both sides spell every level that begins so alike; `%` may be half a code, and `*` be the whole level.
    let (plain, rest) = last.split_at(last.find(['%', '/', '+', '*']).unwrap_or(last.len()));
    spelling.push_str(plain);
    (spelling, rest.is_empty())
}

fn is_level_valid(level: &str) -> bool {
    level == "+" || !level.contains(['+', '#'])
}

/// The MQTT spelling of a URI pattern in which the component `any` stands for any one level.
fn levels_of_uri(uri: &str, any: &str) -> String {
    let mut levels = String::with_capacity(uri.len() + 8);
    for (index, level) in uri.split('.').enumerate() {
        if index > 0 {
            levels.push('/');
        }
        levels.push_str(&if level == any { Cow::Borrowed("+") } else { Cow::Owned(mqtt_of_uri(level)) });
    }
    levels
}

fn bounded_levels(levels: String) -> Result<Filter, Reason> {
    check_characters(&levels)?;
    if levels.len() <= MAX_SPELLING_BYTES { Ok(Filter::Levels(levels.into())) } else { Err(Reason::InvalidFilter) }
}

/// Level by level; `#` also covers its parent (MQTT 5, 4.7.1.2).
fn are_levels_covered(filter: &str, topic: &str) -> bool {
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            (_, None) => return false,
            ("+", Some(_)) => {}
            (level, Some(named)) if level == named => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(mqtt: &str) -> Topic {
        Topic::from_mqtt(mqtt).unwrap()
    }

    fn levels(mqtt: &str) -> Filter {
        Filter::Levels(mqtt.into())
    }

    #[test]
    fn either_spelling_is_read_by_its_slash() {
        use MatchPolicy::{Exact, Prefix, Wildcard};
        let (mqtt, uri) = (|text| Filter::from_mqtt(text), |text, policy| Filter::from_uri(text, policy));
        for (text, policy, expected) in [
            ("a/b", None, mqtt("a/b")),
            ("a/b", Some(Exact), mqtt("a/b")),
            ("a.b", None, mqtt("a/b")),
            ("a/+/c", None, mqtt("a/+/c")),
            ("a/#", None, mqtt("a/#")),
            ("a.#", None, mqtt("a/#")),
            ("#", None, mqtt("#")),
            ("+", None, mqtt("+")),
            ("1.5/x", None, mqtt("1.5/x")),
            ("a/b", Some(Prefix), uri("a.b", Prefix)),
            ("a/", Some(Prefix), uri("a.", Prefix)),
            ("a//c", Some(Wildcard), uri("a..c", Wildcard)),
            ("a/+/c", Some(Wildcard), mqtt("a/+/c")),
        ] {
            assert!(expected.is_ok(), "{text}");
            assert_eq!(Filter::from_either(text, policy), expected, "{text} {policy:?}");
        }
        assert_eq!(Filter::from_either("a/\u{1}", None), Err(Reason::UnfitCharacter('\u{1}')));
    }

    #[test]
    fn mqtt_filters_follow_the_grammar() {
        for text in ["+", "#", "a/+", "+/a", "a/#", "+/+/#", "/+", "/#", "+//#", "$SYS/#", "a b/+"] {
            assert_eq!(Filter::from_mqtt(text), Ok(levels(text)), "{text}");
        }
        for text in ["a", "/", "a//b", "%2B", "*"] {
            assert_eq!(Filter::from_mqtt(text), Ok(Filter::Exact(topic(text))), "{text}");
        }
        for text in ["", "a+", "+a", "a/b+/c", "a#", "#/a", "a/#/b", "##", "a/#b", "a/+#", "++", "a\0", "+/\0"] {
            assert_eq!(Filter::from_mqtt(text), Err(Reason::InvalidFilter), "{text:?}");
        }
        assert!(Filter::from_mqtt(&format!("+{}", "/".repeat(65_534))).is_ok());
        assert!(Filter::from_mqtt(&format!("+{}", "/".repeat(65_535))).is_err());
    }

    #[test]
    fn wamp_filters_follow_the_loose_rule_of_their_policy() {
        use MatchPolicy::{Exact, Prefix, Wildcard};
        let table: [(&str, MatchPolicy, Option<Filter>); 31] = [
            ("a.b", Exact, Some(Filter::Exact(topic("a/b")))),
            ("a%2Eb./", Exact, Some(Filter::Exact(topic("a.b/%2F")))),
            ("a..b", Exact, None),
            ("", Exact, None),
            ("a.*", Exact, None),
            ("a.#", Exact, None),
            ("a b", Exact, None),
            ("a.b", Prefix, Some(Filter::Prefix("a.b".into()))),
            ("a.b.", Prefix, Some(Filter::Prefix("a.b.".into()))),
            ("", Prefix, Some(Filter::Prefix("".into()))),
            ("a.*", Prefix, Some(Filter::Prefix("a.*".into()))),
            (".", Prefix, None),
            (".a", Prefix, None),
            ("a..", Prefix, None),
            ("a.*.b", Prefix, None),
            ("a.#", Prefix, None),
            ("a. ", Prefix, None),
            ("a..c", Wildcard, Some(levels("a/+/c"))),
            ("..", Wildcard, Some(levels("+/+/+"))),
            (".a.", Wildcard, Some(levels("+/a/+"))),
            ("", Wildcard, Some(levels("+"))),
            ("a.b", Wildcard, Some(levels("a/b"))),
            ("a%2Eb..+", Wildcard, Some(levels("a.b/+/%2B"))),
            ("%2A.", Wildcard, Some(levels("*/+"))),
            ("*.", Wildcard, None),
            ("a..#", Wildcard, None),
            ("a.\t.", Wildcard, None),
            ("a.\0.", Wildcard, None),
            ("a.\u{3000}.", Wildcard, None),
            ("a.#.", Wildcard, None),
            ("a/b.", Wildcard, Some(levels("a%2Fb/+"))),
        ];
        for (uri, policy, expected) in table {
            assert_eq!(Filter::from_uri(uri, policy).ok(), expected, "{uri:?} {policy:?}");
        }
        let long = "/".repeat(21_845);
        assert!(Filter::from_uri(&long, Wildcard).is_ok());
        assert!(Filter::from_uri(&format!("{long}."), Wildcard).is_err());
        assert!(Filter::from_uri(&"a".repeat(65_536), Prefix).is_err());
    }

    #[test]
    fn subscribed_uris_may_hold_stars_and_a_last_hash() {
        let read = |uri| Filter::from_subscribed_uri(uri, MatchPolicy::Exact).ok();
        for (uri, mqtt) in
            [("a.*.c", "a/+/c"), ("*", "+"), ("#", "#"), ("a.#", "a/#"), ("*.*.#", "+/+/#"), ("a/.%2A.*", "a%2F/*/+")]
        {
            assert_eq!(read(uri), Some(levels(mqtt)), "{uri}");
        }
        assert_eq!(read("a.b*"), Some(Filter::Exact(topic("a/b*"))));
        assert_eq!(read("a.%2A"), Some(Filter::Exact(topic("a/*"))));
        for uri in ["", "a.#.b", "a#", "##", "a..*", "a..#", ".#", "*.", "* ", "a.*.\0", "a.# "] {
            assert_eq!(read(uri), None, "{uri:?}");
        }
        assert!(Filter::from_subscribed_uri("a.*.", MatchPolicy::Wildcard).is_err());
        assert_eq!(Filter::from_subscribed_uri("a.", MatchPolicy::Prefix), Ok(Filter::Prefix("a.".into())));
    }

    #[test]
    fn a_filter_can_be_spelled_for_wamp_and_read_again() {
        for (mqtt, uri) in [("a/+/c", "a..c"), ("+", ""), ("a/1.5/+", "a.1%2E5."), ("*/+", "%2A.")] {
            assert_eq!(levels(mqtt).to_uri(), uri);
            assert_eq!(Filter::from_uri(uri, levels(mqtt).policy()), Ok(levels(mqtt)));
        }
        for (mqtt, uri) in [("#", "#"), ("a/+/#", "a.*.#"), ("a/b.c/#", "a.b%2Ec.#")] {
            assert_eq!(levels(mqtt).to_uri(), uri);
            assert_eq!(Filter::from_subscribed_uri(uri, MatchPolicy::Exact), Ok(levels(mqtt)));
        }
        assert_eq!(levels("a//+").to_uri(), "a..*");
        assert_eq!(Filter::Prefix("a.b%".into()).to_uri(), "a.b%");
        assert_eq!(Filter::Exact(topic("a/b c")).to_uri(), "a.b%20c");
        assert_eq!(Filter::Exact(topic("a/b c")).as_mqtt(), Some("a/b c"));
        assert_eq!(Filter::Prefix("a".into()).as_mqtt(), None);
    }

    #[test]
    fn levels_and_wildcards_are_counted() {
        let filters = [Filter::Exact(topic("a/b")), levels("+/a/#"), levels("a/b"), Filter::Prefix("a.b.".into())];
        assert_eq!(filters.each_ref().map(Filter::level_count), [2, 3, 2, 3]);
        assert_eq!(filters.each_ref().map(Filter::has_wildcard), [false, true, false, true]);
    }

    /// `filter` in MQTT spelling, or after `p:` a prefix in WAMP spelling.
    fn filter(text: &str) -> Filter {
        match text.strip_prefix("p:") {
            Some(prefix) => Filter::from_uri(prefix, MatchPolicy::Prefix).unwrap(),
            None => Filter::from_mqtt(text).unwrap(),
        }
    }

    #[test]
    fn filters_cover_what_the_specifications_say() {
        let covered: [(&str, &[&str]); 17] = [
            ("sport/#", &["sport", "sport/", "sport/a", "sport/a/b"]),
            ("sport/+", &["sport/a", "sport/"]),
            ("#", &["a", "/", "a/b", "/a"]),
            ("+", &["a", "*"]),
            ("+/+", &["/finance", "a/b", "/"]),
            ("/+", &["/finance", "/"]),
            ("+/a/#", &["x/a", "x/a/b", "/a"]),
            ("a/+/c", &["a/b/c", "a//c"]),
            ("$SYS/#", &["$SYS", "$SYS/a"]),
            ("wamp/+", &["wamp/a"]),
            ("wamp/session", &["wamp/session"]),
            ("p:emergency", &["emergency", "emergency-low", "emergency/a"]),
            ("p:a.", &["a/b", "a/b/c", "a/"]),
            ("p:", &["a", "a/b", "/", "wampus", "a/$SYS"]),
            ("p:wamp", &["wamp", "wamp/a", "wampus"]),
            ("p:$", &["$SYS", "$SYS/a", "$"]),
            ("p:a.1%2E5", &["a/1.5", "a/1.52/b"]),
        ];
        for (text, topics) in covered {
            for name in topics {
                assert!(filter(text).covers(&topic(name)), "{text} {name}");
            }
        }
        let not_covered: [(&str, &[&str]); 14] = [
            ("sport/#", &["sports", "/sport", "a/sport"]),
            ("sport/+", &["sport", "sport/a/b"]),
            ("#", &["$SYS", "$SYS/a", "wamp/a", "corsac", "wamp"]),
            ("+", &["a/b", "/", "$SYS", "wamp"]),
            ("+/a/#", &["$SYS/a", "corsac/a", "wamp/a/b", "x"]),
            ("+/+", &["wamp/a", "a", "a/b/c"]),
            ("a/+/c", &["a/c", "a/b/d", "a/b/c/d"]),
            ("a", &["a/", "A", "b"]),
            ("p:emergency", &["emerg", "a/emergency"]),
            ("p:a.", &["a", "ab"]),
            ("p:", &["$SYS", "wamp", "wamp/a", "corsac/a"]),
            ("p:wam", &["wamp", "wamp/a"]),
            ("p:corsa", &["corsac/a"]),
            ("p:*", &["*", "*/a"]),
        ];
        for (text, topics) in not_covered {
            for name in topics {
                assert!(!filter(text).covers(&topic(name)), "{text} {name}");
            }
        }
    }
}
