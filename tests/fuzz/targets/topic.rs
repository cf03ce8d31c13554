//! Any two texts as topics of both protocols: the mapping is a bijection (MAPPING.md, Topics).
#![no_main]

use corsac::model::Topic;

corsac_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, text));
    let topics = [first, second].map(check_mqtt);
    let uris = [first, second].map(check_uri);
    for [one, other] in [topics, uris] {
        if let (Some(one), Some(other)) = (one, other) {
            let is_same = first == second;
            assert_eq!(one == other, is_same);
            assert_eq!(one.as_mqtt() == other.as_mqtt(), is_same, "two names, one spelling for MQTT");
            assert_eq!(one.as_uri() == other.as_uri(), is_same, "two names, one spelling for WAMP");
        }
    }
}

/// MQTT's spelling, to WAMP and back.
fn check_mqtt(text: &str) -> Option<Topic> {
    let topic = Topic::from_mqtt(text).ok();
    let is_legal = !text.is_empty() && text.len() <= 65_535 && !text.contains(['+', '#', '\0']);
    assert_eq!(topic.is_some(), is_legal);
    let topic = topic?;
    assert_eq!(topic.as_mqtt(), text);
    assert_eq!(topic.level_count(), topic.levels().count());
    let uri = topic.as_uri();
    assert_eq!(uri.split('.').count(), topic.level_count(), "{uri}");
    assert!(!uri.contains(|c: char| c == '#' || c.is_whitespace()), "{uri}");
    assert!(uri.split('.').all(|level| level != "*"), "{uri}");
    // Names taken before unfit characters were refused are still read from the disk, and nobody can name them any more.
    if topic.is_unfit() || uri.split('.').any(str::is_empty) {
        assert!(Topic::from_uri(uri).is_err(), "{uri}");
    } else {
        assert_eq!(Topic::from_uri(uri).as_ref(), Ok(&topic), "{uri}");
    }
    Some(topic)
}

/// WAMP's spelling, to MQTT and back.
fn check_uri(text: &str) -> Option<Topic> {
    let topic = Topic::from_uri(text).ok()?;
    assert_eq!(topic.as_uri(), text);
    let again = Topic::from_mqtt(topic.as_mqtt()).expect("a topic of MQTT");
    assert_eq!(again.as_uri(), text);
    assert_eq!((again.root(), again.hidden_root_len()), (topic.root(), topic.hidden_root_len()));
    Some(topic)
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "a/b/c",
        "a.b.c",
        "dev/1.5/t",
        "50%/x",
        "v%2E1/x\nv%252E1/x",
        "a%2Fb/c",
        "/a//b",
        "a b",
        "a\u{a0}b\na%C2%A0b",
        "%E3%80%80\n%25E3%80%80",
        "*/x\n%2A/x",
        "%252A\n%25252A",
        "%%2e.%2525",
        "50%.2E",
        "$SYS/a",
        "wamp.a",
        "%25%2E\n%.",
    ];
    texts.into_iter().map(|text| text.as_bytes().to_vec()).collect()
}
