//! Any filters and topics: the matcher says what `covers` says, whatever was put in and taken out.
#![no_main]

use std::collections::BTreeMap;

use corsac::model::filter::mqtt_prefix;
use corsac::model::text::is_unfit;
use corsac::model::{Filter, MatchPolicy, Topic};
use corsac::router::matcher::Matcher;

corsac_fuzz::target!(run, seeds);

/// Lines, the first byte of each saying what it is: a topic to match, a filter to put in, or one to take out.
fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut matcher = Matcher::new();
    let mut filters: BTreeMap<usize, Filter> = BTreeMap::new();
    for (key, line) in text.split('\n').enumerate().take(200) {
        let is_removal = line.starts_with('-');
        let Some(word) = parse(line.strip_prefix('-').unwrap_or(line)) else { continue };
        match word {
            Word::Topic(topic) => check_topic(&matcher, &filters, &topic),
            Word::Filter(filter) if is_removal => {
                let known = filters.iter().find(|(_, known)| **known == filter).map(|(key, _)| *key);
                assert_eq!(matcher.find(&filter), known);
                assert_eq!(matcher.remove(&filter), known);
                known.map(|key| filters.remove(&key));
            }
            Word::Filter(filter) => {
                check_filter(&filter);
                let known = filters.iter().find(|(_, known)| **known == filter).map(|(key, _)| *key);
                assert_eq!(matcher.insert(&filter, key), known);
                known.map(|key| filters.remove(&key));
                filters.insert(key, filter);
            }
        }
        assert_eq!(matcher.len(), filters.len());
    }
}

enum Word {
    Topic(Topic),
    Filter(Filter),
}

fn parse(line: &str) -> Option<Word> {
    let mut rest = line.chars();
    let kind = rest.next()?;
    let text = rest.as_str();
    Some(match kind {
        't' => Word::Topic(Topic::from_mqtt(text).ok()?),
        'u' => Word::Topic(Topic::from_uri(text).ok()?),
        'm' => Word::Filter(Filter::from_mqtt(text).ok()?),
        'p' => Word::Filter(Filter::from_uri(text, MatchPolicy::Prefix).ok()?),
        'w' => Word::Filter(Filter::from_uri(text, MatchPolicy::Wildcard).ok()?),
        's' => Word::Filter(Filter::from_subscribed_uri(text, MatchPolicy::Exact).ok()?),
        _ => return None,
    })
}

fn check_topic(matcher: &Matcher<usize>, filters: &BTreeMap<usize, Filter>, topic: &Topic) {
    let mut found = Vec::new();
    matcher.match_topic(topic, |key| found.push(key));
    found.sort_unstable();
    let expected: Vec<usize> = filters.iter().filter(|(_, filter)| filter.covers(topic)).map(|(key, _)| *key).collect();
    assert_eq!(found, expected, "{topic:?} in {filters:?}");
    match matcher.best_match(topic) {
        Some(best) => assert!(found.contains(&best)),
        None => assert!(found.is_empty()),
    }
    for filter in filters.values() {
        let Filter::Prefix(prefix) = filter else { continue };
        let (spelling, is_enough) = mqtt_prefix(prefix);
        let begins = topic.as_mqtt().starts_with(&spelling);
        assert!(begins || !filter.covers(topic), "{prefix:?} covers {topic:?}");
        assert!(!begins || !is_enough || topic.is_hidden() || filter.covers(topic), "{prefix:?} does not cover {topic:?}");
    }
}

fn check_filter(filter: &Filter) {
    assert!(filter.level_count() > 0);
    let uri = filter.to_uri();
    match filter {
        Filter::Exact(topic) => assert!(filter.covers(topic) && !filter.has_wildcard()),
        Filter::Prefix(_) => assert_eq!(Filter::from_uri(&uri, MatchPolicy::Prefix).as_ref(), Ok(filter)),
        Filter::Levels(levels) => {
            // Spellings of wildcard subscriptions; `#` and empty levels have one only where SUBSCRIBE reads stars.
            let is_wildcard = Filter::from_uri(&uri, MatchPolicy::Wildcard).as_ref() == Ok(filter);
            let is_starred = Filter::from_subscribed_uri(&uri, MatchPolicy::Exact).as_ref() == Ok(filter);
            let has_empty = levels.split('/').any(str::is_empty);
            // WAMP refuses names that no MQTT client can be sent.
            let is_unfit = levels.chars().any(is_unfit);
            assert!(is_wildcard || is_starred || has_empty || is_unfit, "{filter:?} is not {uri:?}");
            assert!(filter.has_wildcard() || Filter::from_mqtt(levels) != Ok(filter.clone()));
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let text = [
        "ma/b\nma/+\nma/#\nm#\nm+\nwa.b\npa.b\npa.\np\nta/b\nta\nt$SYS/a\n-ma/#\nta/b\n-pa.\n-m#\nua.b",
        "m$SYS/#\nmwamp/+\nm+/a/#\npwam\npcorsac\np$\ntwamp/a\ntwampus/a\ntcorsac/a\nt$SYS/a\nt/a",
        "wa..c\ns*.b.#\nsa.*\npa.1%2E5\np*\ns#\nw\ntdev/1.5\nta/1.52/b\nt*/a\nta//c\nua.%2A.c",
        "m/+\nm//#\nmx/+/+\nta\nt/\nt//\nt///\nm$share/g/a\nm%2B/%23\nt%2B/%23",
    ];
    text.into_iter().map(|text| text.as_bytes().to_vec()).collect()
}
