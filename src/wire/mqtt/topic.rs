//! Topic names and topic filters (4.7), and the split of a shared subscription (4.8.2).

use super::{Error, utf8};
use crate::model::names;

/// Checks a topic name: not empty [MQTT-4.7.3-1] and without wildcards [MQTT-3.3.2-2].
pub fn check_topic_name(topic: &str) -> Result<(), Error> {
    if topic.is_empty() {
        return Err(Error::TopicEmpty);
    }
    if utf8::has_wildcard(topic) {
        return Err(Error::TopicWildcard);
    }
    Ok(())
}

/// Checks the syntax of a topic filter: not empty, `#` alone in the last level, `+` alone in its level (4.7.1).
pub fn check_topic_filter(filter: &str) -> Result<(), Error> {
    if filter.is_empty() {
        return Err(Error::FilterEmpty); // [MQTT-4.7.3-1]
    }
    if !utf8::has_wildcard(filter) {
        return Ok(());
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let legal = match level {
            "#" => levels.peek().is_none(), // [MQTT-4.7.1-1]
            "+" => true,                    // [MQTT-4.7.1-2]
            _ => !utf8::has_wildcard(level),
        };
        if !legal {
            return Err(Error::FilterSyntax);
        }
    }
    Ok(())
}

/// A shared subscription `$share/{name}/{filter}` taken apart (4.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFilter<'a> {
    /// The share name: not empty, without `/`, `+` and `#`.
    pub name: &'a str,
    /// The topic filter behind it: not empty.
    pub filter: &'a str,
}

impl<'a> SharedFilter<'a> {
    /// Splits a filter: `None` where it is not a shared subscription, an error where it starts like one and is not
    /// ([MQTT-4.8.2-1], [MQTT-4.8.2-2]).
    ///
    /// Versions 3.1 and 3.1.1 know no shared subscriptions. Their decoding takes a malformed one as the plain filter it is, and
    /// the caller says whether a well-formed one is shared.
    pub fn split(filter: &'a str) -> Result<Option<Self>, Error> {
        let Some(rest) = filter.strip_prefix(names::SHARE) else {
            return if filter == "$share" { Err(Error::SharedFilter) } else { Ok(None) };
        };
        let (name, filter) = rest.split_once('/').ok_or(Error::SharedFilter)?;
        if name.is_empty() || filter.is_empty() || utf8::has_wildcard(name) {
            return Err(Error::SharedFilter);
        }
        Ok(Some(Self { name, filter }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_follow_the_examples_of_the_standard() {
        for good in ["#", "+", "/", "a/#", "+/+/#", "/+", "+/", "sport/+/player1", "a//b", " ", "$SYS/#", "a b/+"] {
            assert_eq!(check_topic_filter(good), Ok(()), "{good}");
        }
        for bad in ["a#", "a/#/b", "#/a", "a+", "+a", "a/+b", "##", "++", "a/#b", "sport/tennis#"] {
            assert_eq!(check_topic_filter(bad), Err(Error::FilterSyntax), "{bad}");
        }
        assert_eq!(check_topic_filter(""), Err(Error::FilterEmpty));
        assert_eq!(check_topic_filter(&"/".repeat(65_535)), Ok(()));
        assert_eq!(check_topic_filter(&"+/".repeat(32_767)), Ok(()));
    }

    #[test]
    fn names_have_no_wildcards() {
        assert_eq!(check_topic_name("a/b"), Ok(()));
        assert_eq!(check_topic_name(""), Err(Error::TopicEmpty));
        assert_eq!(check_topic_name("a/#"), Err(Error::TopicWildcard));
        assert_eq!(check_topic_name("long/topic/name/with+in/it"), Err(Error::TopicWildcard));
    }

    #[test]
    fn shared_filters_split() {
        assert_eq!(SharedFilter::split("a/b"), Ok(None));
        assert_eq!(SharedFilter::split("$shared/a"), Ok(None));
        assert_eq!(SharedFilter::split("$share/g//a/#"), Ok(Some(SharedFilter { name: "g", filter: "/a/#" })));
        for bad in ["$share", "$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a", "$share/#/a", "$share/+/a"] {
            assert_eq!(SharedFilter::split(bad), Err(Error::SharedFilter), "{bad}");
        }
    }
}
