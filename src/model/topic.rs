//! The name of a topic or procedure: a list of levels, spelled `a/b` by MQTT and `a.b` by WAMP, as a bijection (MAPPING.md, Topics).
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::Split;
use std::sync::{Arc, OnceLock};

use super::names::Root;
use super::reason::Reason;
use super::text::unfit_in;

/// The longest MQTT spelling of a topic or filter, in bytes [MQTT-4.7.3-3].
pub const MAX_SPELLING_BYTES: usize = 65_535;

/// A valid name. A clone is cheap, names are equal in whatever spelling they arrived, and their order is that of the MQTT
/// spelling.
#[derive(Clone)]
pub struct Topic(Arc<Spellings>);

struct Spellings {
    /// The spelling that matching works on, unaltered [MQTT-4.7.3-4]; escapes make it unique for a list of levels.
    mqtt: Box<str>,
    uri: OnceLock<Box<str>>,
    /// Levels, at least 1.
    levels: u32,
    /// Bytes of the root that hides it from wildcards, 0 if nothing does.
    hidden_root: u8,
    /// The root of the router's own that it is under.
    root: Option<Root>,
    /// The name holds a character that no MQTT client can be sent.
    is_unfit: bool,
}

impl serde::Serialize for Topic {
    /// As MQTT spells it.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_mqtt())
    }
}

impl<'de> serde::Deserialize<'de> for Topic {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Topic::from_mqtt(&text).map_err(|reason| serde::de::Error::custom(reason.to_string()))
    }
}

impl Topic {
    /// The topic that MQTT spells `text`: not empty, no wildcard, no NUL, at most 65,535 bytes [MQTT-4.7.3-1], [MQTT-4.7.3-2].
    pub fn from_mqtt(text: &str) -> Result<Self, Reason> {
        let refused = text.bytes().fold(false, |refused, byte| refused | matches!(byte, b'+' | b'#' | 0));
        if text.is_empty() || text.len() > MAX_SPELLING_BYTES || refused {
            return Err(Reason::InvalidTopic);
        }
        Ok(Self::trusted(text.into()))
    }

    /// The topic that WAMP spells `uri`, for publishing, registering and calling. WAMP's loose URI rule holds (Basic Profile,
    /// URIs: no empty component, no whitespace, no `#`), NUL is refused, and the MQTT spelling has at most 65,535 bytes.
    ///
    /// A component that is just `*` is refused: unescaped it means "any level" in SUBSCRIBE, and the topic level `*` is spelled `%2A`.
    /// So is a character that no MQTT client can be sent, escaped or not.
    pub fn from_uri(uri: &str) -> Result<Self, Reason> {
        check_characters(uri)?;
        if !are_components_valid(uri) || uri.split('.').any(|level| level.is_empty() || level == "*") {
            return Err(Reason::InvalidTopic);
        }
        let mqtt = mqtt_of_uri(uri);
        if mqtt.len() > MAX_SPELLING_BYTES {
            return Err(Reason::InvalidTopic);
        }
        let topic = Self::trusted(mqtt.into());
        if topic.is_unfit() {
            check_characters(topic.as_mqtt())?;
        }
        Ok(topic)
    }

    /// The topic that people spell `text`: as MQTT does where it has a `/`, else as WAMP does. Unfit characters are refused.
    pub fn from_either(text: &str) -> Result<Self, Reason> {
        if !text.contains('/') {
            return Self::from_uri(text);
        }
        check_characters(text)?;
        Self::from_mqtt(text)
    }

    fn trusted(mqtt: Box<str>) -> Self {
        // Every publication is asked for these; a spelling is at most 65,535 bytes.
        let (levels, hidden_root, root) = (level_count(&mqtt, b'/') as u32, hidden_root_len(&mqtt), Root::of_mqtt(&mqtt));
        let is_unfit = unfit_in(&mqtt).is_some();
        Topic(Arc::new(Spellings { mqtt, uri: OnceLock::new(), levels, hidden_root, root, is_unfit }))
    }

    /// The MQTT spelling.
    pub fn as_mqtt(&self) -> &str {
        &self.0.mqtt
    }

    /// The WAMP spelling, made on first use. Empty levels show as empty components, which only an event's topic may have.
    pub fn as_uri(&self) -> &str {
        self.0.uri.get_or_init(|| uri_of_mqtt(&self.0.mqtt).into())
    }

    /// The levels, each in MQTT spelling.
    pub fn levels(&self) -> Split<'_, char> {
        self.0.mqtt.split('/')
    }

    /// The number of levels, at least 1; the bound on it (`Limits::max_topic_levels`) is the caller's to check.
    pub fn level_count(&self) -> usize {
        self.0.levels as usize
    }

    /// True for a name, taken before such were refused, that holds a character which no MQTT client can be sent.
    pub fn is_unfit(&self) -> bool {
        self.0.is_unfit
    }

    /// The root of the router's own that it is under: clients may not publish to it.
    pub fn root(&self) -> Option<Root> {
        self.0.root
    }

    /// True if it belongs to the router.
    pub fn is_reserved(&self) -> bool {
        self.0.root.is_some()
    }

    /// True under `$`, `wamp` and `corsac`: no filter that starts with a wildcard covers these [MQTT-4.7.2-1].
    pub fn is_hidden(&self) -> bool {
        self.hidden_root_len() > 0
    }

    /// Bytes of the root that hides this name from wildcards (`$` 1, `wamp` 4, `corsac` 6), the same in both spellings; 0 if nothing
    /// does.
    pub fn hidden_root_len(&self) -> usize {
        usize::from(self.0.hidden_root)
    }
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.mqtt == other.0.mqtt
    }
}

impl Eq for Topic {}

impl PartialOrd for Topic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Topic {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.mqtt.cmp(&other.0.mqtt)
    }
}

impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.mqtt.hash(state);
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.mqtt)
    }
}

/// Levels of a spelling that `separator` divides.
pub(super) fn level_count(spelling: &str, separator: u8) -> usize {
    spelling.bytes().filter(|byte| *byte == separator).count() + 1
}

/// Bytes of the root of an MQTT spelling, if it is one that wildcards do not cover.
fn hidden_root_len(mqtt: &str) -> u8 {
    match mqtt.split('/').next() {
        Some(root) if root.starts_with('$') => 1,
        Some("wamp") => 4,
        Some("corsac") => 6,
        _ => 0,
    }
}

/// Refuses what no MQTT client can be sent. NUL has always been no character of a name.
pub(super) fn check_characters(text: &str) -> Result<(), Reason> {
    match unfit_in(text) {
        None => Ok(()),
        Some(character) => Err(Reason::UnfitCharacter(character)),
    }
}

/// True if every component keeps the rules of WAMP, the one on empty ones aside: no whitespace, no `#`, no NUL. The work on long
/// URIs is bounded too. An escape takes at most three bytes for each byte of the level, so a longer URI has no MQTT spelling.
pub(super) fn are_components_valid(uri: &str) -> bool {
    uri.len() <= 3 * MAX_SPELLING_BYTES && !uri.chars().any(|c| matches!(c, '\0' | '#') || c.is_whitespace())
}

/// The MQTT spelling of a WAMP spelling without wildcards; any length.
pub(super) fn mqtt_of_uri(uri: &str) -> String {
    if uri.bytes().all(|b| !matches!(b, b'%' | b'/' | b'+')) {
        return uri.replace('.', "/");
    }
    respell(uri, Side::Wamp, Side::Mqtt)
}

/// The WAMP spelling of an MQTT spelling without wildcards.
pub(super) fn uri_of_mqtt(mqtt: &str) -> String {
    if mqtt.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'%' | b'.' | b'#' | b'*')) {
        return mqtt.replace('/', ".");
    }
    respell(mqtt, Side::Mqtt, Side::Wamp)
}

fn respell(text: &str, from: Side, to: Side) -> String {
    let mut level = String::new();
    let mut spelling = String::with_capacity(text.len() + 8);
    for (index, spelled) in text.split(from.separator()).enumerate() {
        if index > 0 {
            spelling.push(to.separator());
        }
        level.clear();
        from.decode_level(spelled, &mut level);
        to.encode_level(&level, &mut spelling);
    }
    spelling
}

/// One protocol's way to write a level's text.
///
/// A *code* is `%XX` of a character that the side must escape (of all its bytes). Texts `%`, n times `25`, code are the levels'
/// texts `%`, n - 1 times `25`, code; n = 0 is the character. A code holds no `%` before another could begin, so codes never
/// overlap, and every level has exactly one spelling and every spelling one level.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Mqtt,
    Wamp,
}

/// The code behind a `%`.
struct Code {
    /// At least one `25` stands before it.
    nested: bool,
    /// The character that it stands for.
    character: char,
    /// Bytes of the code, the `25`s and the first `%` not counted.
    len: usize,
}

impl Side {
    fn separator(self) -> char {
        match self {
            Side::Mqtt => '/',
            Side::Wamp => '.',
        }
    }

    fn must_escape(self, c: char) -> bool {
        match self {
            Side::Mqtt => matches!(c, '/' | '+' | '#'),
            Side::Wamp => matches!(c, '.' | '#') || c.is_whitespace(),
        }
    }

    /// The code that `text` begins with, the text behind a `%`.
    fn code(self, text: &str) -> Option<Code> {
        let digits = text.trim_start_matches("25");
        let (character, len) = escaped_character(digits)?;
        self.must_escape(character).then_some(Code { nested: digits.len() < text.len(), character, len })
    }

    /// True for a whole level that is `%`, any number of `25`, `2A`: on the WAMP side the code of a level that is just `*`.
    fn is_star_code(self, spelled: &str) -> bool {
        self == Side::Wamp && spelled.strip_prefix('%').is_some_and(|text| text.trim_start_matches("25") == "2A")
    }

    fn decode_level(self, spelled: &str, level: &mut String) {
        if self.is_star_code(spelled) {
            match spelled.strip_prefix("%25") {
                Some(rest) => level.extend(["%", rest]),
                None => level.push('*'),
            }
            return;
        }
        let mut rest = spelled;
        while let Some((plain, text)) = rest.split_once('%') {
            level.push_str(plain);
            rest = match self.code(text) {
                Some(code) if !code.nested => {
                    level.push(code.character);
                    text.get(code.len..).unwrap_or_default()
                }
                nested => {
                    level.push('%');
                    if nested.is_some() { text.strip_prefix("25").unwrap_or(text) } else { text }
                }
            };
        }
        level.push_str(rest);
    }

    fn encode_level(self, level: &str, spelled: &mut String) {
        if self == Side::Wamp && level == "*" {
            return spelled.push_str("%2A");
        }
        if self.is_star_code(level) {
            return spelled.extend(["%25", level.get(1..).unwrap_or_default()]);
        }
        let mut rest = level.chars();
        while let Some(c) = rest.next() {
            match c {
                '%' if self.code(rest.as_str()).is_some() => spelled.push_str("%25"),
                c if self.must_escape(c) => escape(c, spelled),
                c => spelled.push(c),
            }
        }
    }
}

/// The character whose bytes `text` spells as `XX` or `XX%XX...` in upper case, and how many bytes of `text` that takes.
fn escaped_character(text: &str) -> Option<(char, usize)> {
    let mut bytes = [0; 4];
    let mut rest = text;
    for len in 1..=bytes.len() {
        let (pair, tail) = rest.split_at_checked(2)?;
        *bytes.get_mut(len - 1)? = upper_hex(pair)?;
        if let Some(c) = std::str::from_utf8(bytes.get(..len)?).ok().and_then(|s| s.chars().next()) {
            return Some((c, text.len() - tail.len()));
        }
        rest = tail.strip_prefix('%')?;
    }
    None
}

fn upper_hex(pair: &str) -> Option<u8> {
    let is_upper_hex = pair.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    if is_upper_hex { u8::from_str_radix(pair, 16).ok() } else { None }
}

fn escape(c: char, spelled: &mut String) {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default().to_ascii_uppercase();
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        spelled.extend(['%', digit(byte >> 4), digit(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Filter, MatchPolicy};

    /// Texts that mean something to the escapes, and some that do not.
    const PIECES: [&str; 27] = [
        "%",
        "25",
        "2F",
        "2B",
        "23",
        "2E",
        "2A",
        "20",
        "09",
        "%2A",
        "%25",
        "C2%A0",
        "%C2%A0",
        "%E3%80%80",
        "2f",
        "A0",
        ".",
        "/",
        "#",
        "+",
        "*",
        " ",
        "\u{a0}",
        "\u{3000}",
        "\t",
        "a",
        "é",
    ];

    /// Texts of up to ten pieces that `is_allowed`.
    fn texts(is_allowed: fn(&str) -> bool) -> impl Strategy<Value = String> {
        let pieces: Vec<&str> = PIECES.into_iter().filter(|piece| is_allowed(piece)).collect();
        prop::collection::vec(prop::sample::select(pieces), 1..10).prop_map(|pieces| pieces.concat())
    }

    fn mqtt_texts() -> impl Strategy<Value = String> {
        texts(|piece| !piece.contains(['#', '+']))
    }

    fn uris() -> impl Strategy<Value = String> {
        texts(|piece| !piece.contains(|c: char| c == '#' || c.is_whitespace()))
            .prop_filter("valid URI", |uri| uri.split('.').all(|level| !level.is_empty() && level != "*"))
            .prop_filter("fit for MQTT", |uri| unfit_in(&mqtt_of_uri(uri)).is_none())
    }

    /// The texts of the levels themselves, free of either side's escapes.
    fn level_texts(text: &str, side: Side) -> Vec<String> {
        let decode = |level| {
            let mut text = String::new();
            side.decode_level(level, &mut text);
            text
        };
        text.split(side.separator()).map(decode).collect()
    }

    #[test]
    fn spellings_are_those_of_the_mapping() {
        let table: [(&str, &[&str], &str); 20] = [
            ("a/b/c", &["a", "b", "c"], "a.b.c"),
            ("dev/1.5/t", &["dev", "1.5", "t"], "dev.1%2E5.t"),
            ("50%/x", &["50%", "x"], "50%.x"),
            ("v%2E1/x", &["v%2E1", "x"], "v%252E1.x"),
            ("a%2Fb/c", &["a/b", "c"], "a/b.c"),
            ("/a//b", &["", "a", "", "b"], ".a..b"),
            ("a%252Fb", &["a%2Fb"], "a%2Fb"),
            ("%2B/%23", &["+", "#"], "+.%23"),
            ("a b", &["a b"], "a%20b"),
            ("a\u{a0}b", &["a\u{a0}b"], "a%C2%A0b"),
            ("a%C2%A0b", &["a%C2%A0b"], "a%25C2%A0b"),
            ("a%25C2%A0b", &["a%25C2%A0b"], "a%2525C2%A0b"),
            ("%C2%A1\u{3000}", &["%C2%A1\u{3000}"], "%C2%A1%E3%80%80"),
            ("*/x", &["*", "x"], "%2A.x"),
            ("%2A/x", &["%2A", "x"], "%252A.x"),
            ("%252A", &["%252A"], "%25252A"),
            ("a*/%2Ab", &["a*", "%2Ab"], "a*.%2Ab"),
            ("%%2e/%2525", &["%%2e", "%2525"], "%%2e.%2525"),
            ("50%./x", &["50%.", "x"], "50%%2E.x"),
            ("/", &["", ""], "."),
        ];
        for (mqtt, levels, uri) in table {
            let topic = Topic::from_mqtt(mqtt).unwrap();
            assert_eq!(topic.as_uri(), uri, "{mqtt}");
            assert_eq!(level_texts(mqtt, Side::Mqtt), levels, "{mqtt}");
            assert_eq!(level_texts(uri, Side::Wamp), levels, "{uri}");
            assert_eq!(mqtt_of_uri(uri), mqtt, "{uri}");
            if !uri.split('.').any(str::is_empty) {
                assert_eq!(Topic::from_uri(uri).unwrap(), topic, "{uri}");
            }
        }
    }

    #[test]
    fn names_that_no_protocol_allows_are_refused() {
        for text in ["", "a/+", "#", "a+b", "a\0b"] {
            assert_eq!(Topic::from_mqtt(text).err(), Some(Reason::InvalidTopic), "{text:?}");
        }
        for uri in ["", ".", "a.", ".a", "a..b", "a b", "a.\u{a0}", "a#", "*", "a.*", "a.*.b"] {
            assert_eq!(Topic::from_uri(uri).err(), Some(Reason::InvalidTopic), "{uri:?}");
        }
    }

    #[test]
    fn names_that_no_mqtt_client_can_be_sent_are_refused() {
        for character in ['\0', '\u{1}', '\t', '\u{1F}', '\u{7F}', '\u{85}', '\u{9F}', '\u{FDD0}', '\u{FFFF}', '\u{10FFFE}'] {
            let refused = Some(Reason::UnfitCharacter(character));
            assert_eq!(Topic::from_uri(&format!("a.b{character}c")).err(), refused);
            assert_eq!(Topic::from_either(&format!("a/b{character}c")).err(), refused);
            for policy in [MatchPolicy::Exact, MatchPolicy::Prefix, MatchPolicy::Wildcard] {
                assert_eq!(Filter::from_uri(&format!("a.b{character}c"), policy).err(), refused, "{policy:?}");
            }
            assert_eq!(Filter::from_subscribed_uri(&format!("a{character}.#"), MatchPolicy::Exact).err(), refused);
            // A record under such a name can still be read.
            assert!(character == '\0' || Topic::from_mqtt(&format!("a/{character}")).is_ok_and(|topic| topic.is_unfit()));
        }
        // White space is spelled by its code in WAMP, and some of it is unfit.
        for (uri, character) in [("a%09b", '\t'), ("a.%C2%85", '\u{85}')] {
            assert_eq!(Topic::from_uri(uri).err(), Some(Reason::UnfitCharacter(character)), "{uri}");
            assert_eq!(
                Filter::from_uri(&format!("{uri}..x"), MatchPolicy::Wildcard).err(),
                Some(Reason::UnfitCharacter(character))
            );
        }
        assert!(Topic::from_uri("a%20b").is_ok_and(|topic| !topic.is_unfit()));
    }

    #[test]
    fn a_name_is_as_long_as_its_mqtt_spelling_may_be() {
        assert!(Topic::from_mqtt(&"a".repeat(65_535)).is_ok());
        assert!(Topic::from_mqtt(&"a".repeat(65_536)).is_err());
        // `/` is one byte in WAMP and three in MQTT, `.` the other way round.
        assert!(Topic::from_uri(&"/".repeat(21_845)).is_ok());
        assert!(Topic::from_uri(&"/".repeat(21_846)).is_err());
        assert!(Topic::from_uri(&"%2E".repeat(65_535)).is_ok());
        assert!(Topic::from_uri(&"%2E".repeat(65_536)).is_err());
    }

    #[test]
    fn hidden_roots_are_known_by_either_spelling() {
        let length = |mqtt| Topic::from_mqtt(mqtt).unwrap().hidden_root_len();
        assert_eq!(["$SYS/a", "$", "wamp", "wamp/a", "corsac/a"].map(length), [1, 1, 4, 4, 6]);
        assert_eq!(["wampus/a", "a/wamp", "/wamp", "corsac.a", "a/$SYS"].map(length), [0; 5]);
        assert!(Topic::from_uri("wamp.session.count").unwrap().is_hidden());
        assert!(!Topic::from_uri("a.wamp").unwrap().is_hidden());
    }

    #[test]
    fn a_topic_is_small_and_counts_its_levels() {
        assert!(size_of::<Topic>() <= 16);
        assert_eq!(["a", "a/b", "/", "//a"].map(|text| Topic::from_mqtt(text).unwrap().level_count()), [1, 2, 2, 3]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn mqtt_survives_the_way_through_wamp(text in mqtt_texts()) {
            let uri = Topic::from_mqtt(&text).unwrap().as_uri().to_owned();
            prop_assert!(!uri.contains(|c: char| c == '#' || c.is_whitespace()) && uri.split('.').all(|level| level != "*"), "{}", uri);
            prop_assert_eq!(level_texts(&uri, Side::Wamp), level_texts(&text, Side::Mqtt));
            prop_assert_eq!(mqtt_of_uri(&uri), text);
        }

        #[test]
        fn wamp_survives_the_way_through_mqtt(uri in uris()) {
            let topic = Topic::from_uri(&uri).unwrap();
            prop_assert!(Topic::from_mqtt(topic.as_mqtt()).is_ok());
            prop_assert_eq!(level_texts(topic.as_mqtt(), Side::Mqtt), level_texts(&uri, Side::Wamp));
            prop_assert_eq!(topic.as_uri(), uri);
        }

        #[test]
        fn any_text_survives(text in "[^+#\0]{1,20}") {
            prop_assert_eq!(mqtt_of_uri(Topic::from_mqtt(&text).unwrap().as_uri()), text);
        }

        #[test]
        fn shortcuts_spell_as_the_long_way_does(text in mqtt_texts(), uri in uris()) {
            prop_assert_eq!(uri_of_mqtt(&text), respell(&text, Side::Mqtt, Side::Wamp));
            prop_assert_eq!(mqtt_of_uri(&uri), respell(&uri, Side::Wamp, Side::Mqtt));
        }
    }

    #[test]
    fn no_two_topics_share_a_spelling() {
        // Every text of up to four short pieces: each spelling of the other side must come from one text only.
        let pieces = ["%", "25", "2E", "2F", "2A", ".", "*", "/", "C2%A0", "\u{a0}", " "];
        let mut texts: std::collections::HashSet<String> = [String::new()].into();
        for _ in 0..4 {
            let longer: Vec<String> = texts.iter().flat_map(|text| pieces.map(|piece| format!("{text}{piece}"))).collect();
            texts.extend(longer);
        }
        let spellings: std::collections::HashSet<String> = texts.iter().map(|text| uri_of_mqtt(text)).collect();
        assert_eq!(spellings.len(), texts.len());
        assert!(texts.len() > 5_000);
    }
}
